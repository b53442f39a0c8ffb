"""From /start to a bot that answers from a file."""

from __future__ import annotations

import pytest
from aiogram.fsm.state import State

from db import models
from handlers.states import Editing, NewBot, Onboarding, go_to
from handlers.storage import Dialog
from services import accounts, bots
from services.errors import Invalid
from services.i18n import LANGUAGES
from tests.composition import FAQ
from tests.handlers.conftest import BOTFATHER, FACTORY, SECOND, TENANT, Person, Product, Start, language_name


async def choose_language(person: Person) -> None:
    person.sent += 1
    person.user.start(person.factory, "some_payload")
    greeting = await person.hears()
    assert [button["text"] for button in greeting.buttons] == [language_name(code) for code in LANGUAGES]
    await person.presses(greeting, language_name(person.language), language_name(person.language))
    assert not greeting.buttons


async def upload(person: Person, name: str = "savollar.txt", content: bytes = FAQ.encode()) -> None:
    person.sent += 1
    person.user.send_document(person.factory, name, content)
    message = await person.hears(name)
    await person.fake.wait_edit(message, "✅")
    assert message.text.startswith(name)


async def the_bot_answers(person: Person, token: str) -> None:
    tenant = person.fake.bots[token]
    customer = person.fake.user(900000900, "uz", first_name="Bekzod")
    customer.send(tenant, "Yetkazib berish bormi?")
    await person.fake.wait_message(customer.id, "45 000", bot=tenant)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_managed_bot_answers_after_four_messages_of_its_owner(start: Start, language: str) -> None:
    async with start(manages=True) as product:
        owner = product.person(900000101, language)
        await choose_language(owner)
        ask = await owner.hears(owner.text("You can skip this."))
        owner.sent += 1
        owner.user.press_key(ask, owner.text("Send my phone number"))
        key = await owner.hears(owner.text("Let’s create your bot."))
        assert key.buttons[0]["request_managed_bot"]["request_id"] == 1
        owner.sent += 1
        made = owner.user.create_managed_bot(product.factory, "Chinor Stom", "chinor_bot", request_id=1)
        await owner.hears("@chinor_bot")
        after = await owner.hears(owner.text("I read PDF, Word (.docx), CSV and text files."))
        assert after.button(owner.text("Try it"))["url"] == "https://t.me/chinor_bot"
        await upload(owner)
        assert owner.sent <= 5
        await the_bot_answers(owner, made.token)
        account = await product.account(owner)
        assert account.phone == "+998901234567"
        assert account.language == language
        # The update and the message about the bot came both: one bot, told once.
        await owner.settled()
        assert [bot.name for bot in await product.bots_of(owner)] == ["Chinor Stom"]
        assert sum("@chinor_bot" in message.text for message in product.fake.messages(owner.user.id)) == 1


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_pasted_token_makes_a_bot_after_five_messages(product: Product, language: str) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = product.person(900000102, language)
    await choose_language(owner)
    ask = await owner.hears(owner.text("You can skip this."))
    owner.sent += 1
    owner.user.press_key(ask, owner.text("Skip"))
    await owner.hears(owner.text("Let’s create your bot."))
    await owner.says("Chinor Stom", owner.text("1. Open @BotFather and send it /newbot."))
    await owner.says(BOTFATHER.format(token=TENANT), "@chinor_bot")
    await owner.hears(owner.text("I read PDF, Word (.docx), CSV and text files."))
    await upload(owner)
    assert owner.sent <= 5
    await the_bot_answers(owner, TENANT)
    assert [bot.name for bot in await product.bots_of(owner)] == ["Chinor Stom"]


async def test_the_message_with_the_token_is_deleted(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000103)
    message = owner.user.send(product.factory, TENANT)
    await owner.hears("@chinor_bot")
    deleted = [call.params["message_id"] for call in product.fake.called("deleteMessage", product.factory)]
    assert str(message["message_id"]) in map(str, deleted)
    assert all(TENANT not in said.text for said in product.fake.messages(owner.user.id))


async def in_state(product: Product, number: int, state: State) -> Person:
    """Return a person whose dialog waits in ``state``."""
    person = await product.owner(number, "en")
    dialog = await Dialog.open(product.core.db, product.factory.id, number, update_id=1)
    data = {"bot": (await product.make_bot(person, "Nur")).id} if state == Editing.prompt else {}
    go_to(dialog, state, **data)
    await dialog.close()
    return person


@pytest.mark.parametrize(
    "state",
    [state for group in (Onboarding, NewBot, Editing) for state in group.__states__],
    ids=lambda state: state.state,
)
async def test_a_token_is_taken_and_deleted_in_every_state(product: Product, state: State) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = await in_state(product, 900000127, state)
    message = owner.user.send(product.factory, BOTFATHER.format(token=TENANT))
    await owner.hears(owner.text("I read PDF, Word (.docx), CSV and text files."))
    deleted = [call.params["message_id"] for call in product.fake.called("deleteMessage", product.factory)]
    assert str(message["message_id"]) in map(str, deleted)
    assert "Chinor" in [bot.name for bot in await product.bots_of(owner)]
    assert (await product.account(owner)).phone is None
    await owner.settled()


async def test_a_token_behind_a_command_is_a_token(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000128)
    await owner.says(f"/newbot {TENANT}", "@chinor_bot")
    assert product.fake.called("deleteMessage", product.factory)


async def test_a_token_of_another_bot_is_refused_by_its_name(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    product.fake.add_bot(SECOND, "nur_bot")
    owner = await product.owner(900000129, "en")
    tenant = await product.make_bot(owner, token=TENANT)
    menu = await owner.says("/bots")
    await owner.presses(menu, tenant.name)
    await owner.presses(menu, owner.text("Channels"))
    owner.user.press(menu, owner.text("New token"))
    await owner.hears(owner.text("A new token for @{username}", username="chinor_bot"))
    answer = await owner.says(SECOND)
    assert "token is of @nur_bot" in answer.text
    assert "Send the token of @chinor_bot" in answer.text


async def test_a_name_that_is_too_long_is_asked_for_again(product: Product) -> None:
    owner = await product.owner(900000130, "en")
    most = product.core.settings.limits.name_chars
    await owner.says("/newbot", owner.text("Let’s create your bot."))
    answer = await owner.says("a" * (most + 1), f"⚠️ The name may have at most {most} characters.")
    assert "Send a shorter one." in answer.text
    await owner.says("\x7f", "⚠️ Give the bot a name.")
    await owner.says("a" * most, owner.text("1. Open @BotFather and send it /newbot."))


async def test_a_token_that_telegram_refuses_is_said_so_and_makes_nothing(product: Product) -> None:
    owner = await product.owner(900000104)
    await owner.says(TENANT, owner.text("Telegram does not accept this token."))
    assert not await product.bots_of(owner)
    product.fake.add_bot(TENANT, "chinor_bot")
    await owner.says(TENANT, "@chinor_bot")
    assert len(await product.bots_of(owner)) == 1


async def test_text_without_a_token_is_asked_again(product: Product) -> None:
    owner = await product.owner(900000105)
    await owner.says("/newbot", owner.text("Let’s create your bot."))
    await owner.says("Chinor Stom", owner.text("1. Open @BotFather and send it /newbot."))
    await owner.says("12345:short", owner.text("There is no token in this message."))
    await owner.says("/cancel", owner.text("Connecting a bot was cancelled."))
    await owner.says("/cancel", owner.text("There is nothing to cancel."))


async def test_a_bot_of_another_owner_cannot_be_taken(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    first, second = await product.owner(900000106), await product.owner(900000107, "ru")
    await product.make_bot(first, token=TENANT)
    await second.says(
        TENANT,
        second.text(
            "This Telegram bot is already connected to another bot. Disconnect it there first, or use another token."
        ),
    )
    assert not await product.bots_of(second)
    assert len(await product.bots_of(first)) == 1


async def test_the_factory_bots_own_token_is_refused(product: Product) -> None:
    owner = await product.owner(900000108)
    await owner.says(
        FACTORY, owner.text("This is my own token, not your bot’s. Create a bot in BotFather and send its token.")
    )
    assert not await product.bots_of(owner)


async def test_sending_the_token_again_renews_it(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = await product.owner(900000109)
    await owner.says(
        TENANT,
        owner.text("@{username} is connected and working: it is now “{name}”.", username="chinor_bot", name="Chinor"),
    )
    await owner.says(
        TENANT,
        owner.text(
            "@{username} was already connected to “{name}”; its token has been updated.",
            username="chinor_bot",
            name="Chinor",
        ),
    )
    assert len(await product.bots_of(owner)) == 1


async def test_a_token_of_a_bot_connected_in_the_panel_is_only_renewed(product: Product) -> None:
    """The account's name and state stay, and the answer shows them."""
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000120)
    tenant = await product.make_bot(owner, token=TENANT)
    async with product.core.db.write() as session:
        await bots.stop(session, await session.get_one(models.Bot, tenant.id))
    about = {"username": "chinor_bot", "name": tenant.name}
    await owner.says(
        TENANT, owner.text("@{username} was already connected to “{name}”; its token has been updated.", **about)
    )
    menu = await owner.hears(owner.text("Stopped"))
    assert menu.button(owner.text("Start"))
    await owner.settled()
    said = " ".join(message.text for message in product.fake.messages(owner.user.id))
    assert owner.text("I read PDF, Word (.docx), CSV and text files.") not in said
    assert owner.text("@{username} is connected and working: it is now “{name}”.", **about) not in said


async def test_a_new_name_that_an_account_does_not_get_is_said(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000121)
    tenant = await product.make_bot(owner, token=TENANT)
    await owner.says("/newbot", owner.text("Let’s create your bot."))
    await owner.says("Nur Stom", owner.text("1. Open @BotFather and send it /newbot."))
    answer = await owner.says(TENANT, "@chinor_bot")
    assert "Nur Stom" in answer.text and tenant.name in answer.text and "/panel" in answer.text
    assert [bot.name for bot in await product.bots_of(owner)] == [tenant.name]


async def test_a_stopped_bot_is_not_called_working_when_it_is_connected(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000122)
    tenant = await product.make_bot(owner)
    async with product.core.db.write() as session:
        await bots.stop(session, await session.get_one(models.Bot, tenant.id))
    menu = await owner.says("/bots")
    await owner.presses(menu, tenant.name)
    await owner.presses(menu, owner.text("Channels"))
    owner.user.press(menu, owner.text("Connect to Telegram"))
    await owner.hears(owner.text("1. Open @BotFather and send it /newbot."))
    await owner.says(
        TENANT,
        owner.text(
            "@{username} is connected to “{name}”, but the bot is stopped: press Start.",
            username="chinor_bot",
            name=tenant.name,
        ),
    )
    assert (await owner.hears(owner.text("Stopped"))).button(owner.text("Start"))


async def test_an_existing_bot_is_connected_from_its_menu(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000110)
    tenant = await product.make_bot(owner)
    menu = await owner.says("/bots")
    await owner.presses(menu, tenant.name)
    await owner.presses(menu, owner.text("Channels"), owner.text("Not connected to Telegram"))
    owner.user.press(menu, owner.text("Connect to Telegram"))
    await owner.hears(owner.text("1. Open @BotFather and send it /newbot."))
    await owner.says(TENANT, "@chinor_bot")
    assert [bot.id for bot in await product.bots_of(owner)] == [tenant.id]


async def test_the_limit_of_bots_is_said_before_anything_is_asked(product: Product) -> None:
    owner = await product.owner(900000111)
    most = product.core.settings.limits.bots_per_owner
    user = await product.account(owner)
    async with product.core.db.write() as session:
        for number in range(most):
            await bots.create(session, user, f"Bot {number}", limits=product.core.settings.limits)
    await owner.says("/newbot", owner.text("You already have {n} bots, which is the limit.", n=most))


async def test_the_managed_bots_new_token_is_taken_over_in_silence(start: Start) -> None:
    async with start(manages=True) as product:
        owner = await product.owner(900000112)
        made = owner.user.create_managed_bot(product.factory, "Chinor", "chinor_bot")
        await owner.hears("@chinor_bot")
        await owner.settled()
        said = len(product.fake.messages(owner.user.id))
        old = made.token
        del product.fake.bots[old]
        made.token = f"{made.id}:renewed_token_AAAAAAAAAAAAAAAAAAAAAAAA"
        product.fake.bots[made.token] = made
        product.factory.push("managed_bot", {"user": owner.user.user(), "bot": made.user()})
        await owner.settled()
        assert len(product.fake.messages(owner.user.id)) == said + 1
        (tenant,) = await product.bots_of(owner)
        async with product.core.db.read() as session:
            channels = await bots.channels(session, tenant)
        telegram = next(channel for channel in channels if channel.kind == "telegram")
        assert product.core.crypto.decrypt(str(telegram.credentials))["token"] == made.token


async def test_somebody_elses_contact_is_refused(product: Product) -> None:
    owner = product.person(900000113, "ru")
    await choose_language(owner)
    await owner.hears(owner.text("You can skip this."))
    owner.user.share_contact(product.factory, own=False)
    await owner.hears(
        owner.text("This is someone else’s number. Please send your own with the button, type it, or skip this step.")
    )
    assert (await product.account(owner)).phone is None


async def test_a_typed_phone_is_taken_and_a_wrong_one_asked_again(product: Product) -> None:
    owner = product.person(900000114, "en")
    await choose_language(owner)
    await owner.hears(owner.text("You can skip this."))
    await owner.says("my phone", owner.text("This is not a phone number. Example: +998 90 123 45 67"))
    await owner.says("90 123-45-67", owner.text("Let’s create your bot."))
    assert (await product.account(owner)).phone == "+998901234567"


async def test_two_accounts_are_not_given_one_phone(product: Product) -> None:
    first, second = await product.owner(900000115), await product.owner(900000116)
    first.user.share_contact(product.factory)
    await first.hears(first.text("Your phone number is saved."))
    second.user.start(product.factory)
    await second.presses(await second.hears(), language_name(second.language))
    await second.hears(second.text("You can skip this."))
    await second.says("+998 90 123 45 67", "/panel")
    assert (await product.account(second)).phone is None
    assert (await product.account(first)).phone == "+998901234567"


async def test_a_number_goes_to_the_person_who_proves_it(product: Product) -> None:
    typed, owner = product.person(900000123, "en"), await product.owner(900000124)
    await choose_language(typed)
    await typed.hears(typed.text("You can skip this."))
    await typed.says("+998 90 123 45 67", typed.text("Let’s create your bot."))
    owner.user.share_contact(product.factory)
    await owner.hears(owner.text("Your phone number is saved."))
    await typed.hears("+998 90 123 45 67")
    assert [(await product.account(person)).phone for person in (typed, owner)] == [None, "+998901234567"]


@pytest.mark.parametrize("email", ["shop@example.uz", ""])
async def test_a_number_is_not_taken_from_who_could_not_sign_in_without_it(product: Product, email: str) -> None:
    owner = await product.owner(900000125)
    hashed = await accounts.hash_password("uzun va murakkab parol")
    async with product.core.db.write() as session:
        registered = await accounts.register_owner(
            session, email="shop@example.uz", phone="+998901234567", password_hash=hashed
        )
        await accounts.update_profile(session, registered, full_name="Nodira", email=email, phone="+998901234567")
    owner.user.share_contact(product.factory)
    await owner.hears(owner.text("Your phone number is saved.") if email else "/panel")
    assert (await product.account(owner)).phone == ("+998901234567" if email else None)
    async with product.core.db.read() as session:
        assert (await session.get_one(models.User, registered.id)).phone == (None if email else "+998901234567")


async def test_a_foreign_number_is_taken_from_the_contact_button_only(product: Product) -> None:
    owner = product.person(900000126, "en")
    await choose_language(owner)
    await owner.hears(owner.text("You can skip this."))
    await owner.says("+1 202 555 0101", owner.text("This is not a phone number. Example: +998 90 123 45 67"))
    owner.user.share_contact(product.factory, phone="12025550101")
    await owner.hears(owner.text("Let’s create your bot."))
    user = await product.account(owner)
    assert user.phone == "+12025550101"
    async with product.core.db.write() as session:
        await accounts.update_profile(session, user, full_name="Aziza", email="", phone="+1 202 555 0101")
        with pytest.raises(Invalid):
            await accounts.update_profile(session, user, full_name="Aziza", email="", phone="+1 202 555 0102")
    assert (await product.account(owner)).phone == "+12025550101"


async def test_start_shows_the_way_on_to_who_has_a_bot(product: Product) -> None:
    owner = await product.owner(900000117)
    await product.make_bot(owner)
    message = await owner.says("/start", owner.text("Send a document, or choose what to do."))
    assert message.button(owner.text("My bots"))


async def test_two_owners_two_bots(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    product.fake.add_bot(SECOND, "nur_bot")
    first, second = await product.owner(900000118), await product.owner(900000119)
    await first.says(TENANT, "@chinor_bot")
    await second.says(SECOND, "@nur_bot")
    owners: set[str] = set()
    for person in (first, second):
        (tenant,) = await product.bots_of(person)
        assert isinstance(tenant, models.Bot)
        owners.add(tenant.owner_id)
    assert len(owners) == 2
