"""Menus: edited in place, checked against the owner at every press, alive after a restart."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import select

from db import models
from db.base import utcnow
from handlers.callbacks import BotMenu, DocMenu, Menu, Period, Turn
from services import accounts, bots
from services.channels.whatsapp import WhatsAppNumber
from services.i18n import LANGUAGES, translate
from services.knowledge import documents
from tests.composition import FAQ, add_document
from tests.fakes.telegram import Sent
from tests.handlers.conftest import SECOND, TENANT, Person, Product, Start, language_name

ONLY_HERE = "The link opens only on the computer where the program runs."
PUBLIC_ADDRESS = (
    "This address opens only on the computer where the program runs. For customers, whoever runs the program sets its "
    "public address: public_url in config.toml."
)
OLD_MENU = "This menu is out of date or is not yours. Here is a fresh one."


async def open_menu(owner: Person, name: str) -> Sent:
    """Return the menu of the bot ``name``."""
    menu = await owner.says("/bots", owner.text("Your bots"))
    return await owner.presses(menu, name, name)


def labels(message: Sent) -> list[str]:
    return [button["text"] for button in message.buttons]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_bot_is_stopped_and_started_in_place(product: Product, language: str) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000201, language)
    await product.make_bot(owner, token=TENANT)
    menu = await open_menu(owner, "Chinor Stom")
    assert menu.button(owner.text("Try it"))["url"] == "https://t.me/chinor_bot"
    assert owner.text("Back") in menu.buttons[-2]["text"]
    await owner.presses(menu, owner.text("Stop"), owner.text("Stopped"))
    assert (await product.bots_of(owner))[0].status == "stopped"
    await owner.presses(menu, owner.text("Start"), owner.text("Working"))
    assert (await product.bots_of(owner))[0].status == "active"
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_a_bot_that_its_plan_keeps_silent_says_so(product: Product) -> None:
    """With the way to the plans, also in the list."""
    owner = await product.owner(900000299, "en")
    await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    assert "🟢 Working" in menu.text and "💳 Plans" not in labels(menu)
    started = utcnow()
    product.core.now = lambda: started + dt.timedelta(days=500)
    try:
        menu = await open_menu(owner, "Chinor Stom")
        assert "🟡 Silent" in menu.text and "The plan has ended" in menu.text
        assert labels(menu)[0] == "💳 Plans"
    finally:
        product.core.now = utcnow


async def test_every_button_is_answered_and_fits(product: Product) -> None:
    owner = await product.owner(900000202)
    await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    for wanted in ("Knowledge", "Statistics", "Instructions", "Languages", "Channels", "Delete"):
        await owner.presses(menu, owner.text(wanted))
        assert all(len(button.get("callback_data", "").encode()) <= 64 for button in menu.buttons)
        await owner.presses(menu, owner.text("Back"))
        if owner.text("Your bots") in menu.text:
            await owner.presses(menu, "Chinor Stom")
    owner.user.press(menu, owner.text("Close"))
    await owner.fake.wait_until(lambda: not menu.buttons)
    assert all(press.answered for press in product.factory.presses.values())
    assert "Chinor Stom" in menu.text


async def test_the_longest_callback_data_fits() -> None:
    identifier = "0" * 26
    for data in (
        BotMenu(do="delete", bot=identifier, arg="+ru"),
        BotMenu(do="off", bot=identifier, arg=identifier),
        DocMenu(do="delete", bot=identifier, doc=identifier),
        Period(bot=identifier, days=30),
        Turn(of="files", number=1_000_000, bot=identifier),
        Turn(of="put", number=1_000_000, file=2**31),
    ):
        assert len(data.pack().encode()) <= 64


async def test_instructions_are_shown_changed_and_removed(product: Product) -> None:
    owner = await product.owner(900000203)
    await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Instructions"), owner.text("No instructions yet."))
    await owner.says(
        "Har doim <b>muloyim</b> bo‘l", owner.text("Instructions saved. They apply from the next question on.")
    )
    assert (await product.bots_of(owner))[0].system_prompt == "Har doim <b>muloyim</b> bo‘l"
    menu = await owner.hears("Chinor Stom")
    await owner.presses(menu, owner.text("Instructions"), "<b>muloyim</b>")
    await owner.presses(menu, owner.text("Remove the instructions"), owner.text("Working"))
    assert (await product.bots_of(owner))[0].system_prompt == ""


async def test_instructions_that_are_too_long_are_asked_for_again(start: Start) -> None:
    async with start(overrides={"limits": {"prompt_chars": 100}}) as product:
        owner = await product.owner(900000204)
        tenant = await product.make_bot(owner)
        menu = await open_menu(owner, tenant.name)
        await owner.presses(menu, owner.text("Instructions"))
        await owner.says("a" * 101, owner.text("The instructions may have at most {n} characters.", n=100))
        await owner.says("a" * 100, owner.text("Instructions saved. They apply from the next question on."))
        assert (await product.bots_of(owner))[0].system_prompt == "a" * 100
        menu = await open_menu(owner, tenant.name)
        await owner.presses(menu, owner.text("Instructions"))
        await owner.says("/cancel", owner.text("The instructions were not changed."))


async def test_languages_are_switched_and_one_stays(product: Product) -> None:
    owner = await product.owner(900000205)
    await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Languages"))
    await owner.presses(menu, language_name("ru"))
    await owner.presses(menu, language_name("uz"))
    assert (await product.bots_of(owner))[0].languages == ["en"]
    press = owner.user.press(menu, language_name("en"))
    await owner.fake.wait_until(lambda: press.answered)
    assert press.alert and press.text == owner.text("Keep at least one language.")
    await owner.presses(menu, language_name("uz"))
    assert (await product.bots_of(owner))[0].languages == ["en", "uz"]


async def test_a_bot_is_deleted_after_a_question(product: Product) -> None:
    owner = await product.owner(900000206)
    await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Delete"), "Chinor Stom")
    assert menu.button(owner.text("Yes, delete"))["style"] == "danger"
    await owner.presses(menu, owner.text("Yes, delete"), owner.text("You have no bots yet."))
    assert not await product.bots_of(owner)
    # The same press once more: the menu is old.
    press = owner.user.press(menu, BotMenu(do="gone", bot="x" * 26).pack(), stale=True)
    await owner.fake.wait_until(lambda: press.answered)
    assert press.text == owner.text(OLD_MENU)


@pytest.mark.parametrize(
    "do",
    "open start stop docs prompt clear langs lang channels link token cut off page delete gone send".split(),
)
async def test_another_owners_bot_is_refused_like_one_that_is_gone(product: Product, do: str) -> None:
    first, second = await product.owner(900000207), await product.owner(900000208, "ru")
    tenant = await product.make_bot(first)
    menu = await second.says("/bots")
    said = []
    for bot_id in (tenant.id, "0" * 26):
        press = second.user.press(menu, BotMenu(do=do, bot=bot_id, arg="+ru").pack(), stale=True)
        fresh = await second.hears(second.text("You have no bots yet."))
        said.append((press.answered, press.text, press.alert, fresh.text))
    assert said[0] == said[1] == (True, second.text(OLD_MENU), True, said[0][3])
    (kept,) = await product.bots_of(first)
    assert (kept.status, kept.languages, kept.name) == (tenant.status, tenant.languages, tenant.name)


@pytest.mark.parametrize("do", ["open", "delete", "gone", "retry"])
async def test_another_owners_document_is_refused(product: Product, do: str) -> None:
    first, second = await product.owner(900000209), await product.owner(900000210)
    tenant, own = await product.make_bot(first), await product.make_bot(second, "Nur")
    document = await add_document(product.core, tenant, "savollar.txt", FAQ.encode())
    menu = await second.says("/bots")
    for bot_id in (tenant.id, own.id):
        press = second.user.press(menu, DocMenu(do=do, bot=bot_id, doc=document.id).pack(), stale=True)
        await second.hears(lambda fresh: "Nur" in str(fresh.buttons))
        assert press.text == second.text(OLD_MENU)
    async with product.core.db.read() as session:
        assert [each.id for each in await documents.list_for(session, tenant)] == [document.id]


async def test_another_owners_numbers_are_refused(product: Product) -> None:
    first, second = await product.owner(900000211), await product.owner(900000212)
    tenant = await product.make_bot(first)
    menu = await second.says("/bots")
    press = second.user.press(menu, Period(bot=tenant.id, days=7).pack(), stale=True)
    await second.hears(second.text("You have no bots yet."))
    assert press.alert


@pytest.mark.parametrize(
    "data", ["b0:open:x", "b1:open", "zzz", "s1::x", "m1:nowhere", "f1:x:y", "\u2067:::", "b1:open:\0:"]
)
async def test_a_button_of_another_version_brings_a_fresh_menu(product: Product, data: str) -> None:
    owner = await product.owner(900000213)
    await product.make_bot(owner)
    menu = await owner.says("/bots")
    press = owner.user.press(menu, data, stale=True)
    fresh = await owner.hears()
    assert press.text == owner.text(OLD_MENU)
    assert "Chinor Stom" in str(labels(fresh))
    await owner.fake.wait_until(lambda: not menu.buttons)


async def test_a_button_works_after_a_restart_and_on_a_message_that_is_gone(start: Start) -> None:
    async with start() as product:
        owner = await product.owner(900000214)
        await product.make_bot(owner)
        menu = await open_menu(owner, "Chinor Stom")
    async with start() as product:
        await owner.presses(menu, owner.text("Stop"), owner.text("Stopped"))
        assert (await product.bots_of(owner))[0].status == "stopped"
        data = menu.button(owner.text("Start"))["callback_data"]
        menu.deleted = True
        owner.user.press(menu, data, stale=True)
        await owner.hears(owner.text("Working"))
        assert (await product.bots_of(owner))[0].status == "active"


async def test_a_dialog_goes_on_after_a_restart(start: Start) -> None:
    async with start() as product:
        product.fake.add_bot(TENANT, "chinor_bot")
        owner = await product.owner(900000215)
        await owner.says("/newbot", owner.text("Let’s create your bot."))
        await owner.says("Chinor Stom", owner.text("1. Open @BotFather and send it /newbot."))
    async with start() as product:
        await owner.says(TENANT, "@chinor_bot")
        assert [bot.name for bot in await product.bots_of(owner)] == ["Chinor Stom"]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_language_changes_the_talk(product: Product, language: str) -> None:
    owner = await product.owner(900000216, "en")
    message = await owner.says("/language")
    await owner.presses(message, language_name(language))
    owner.language = language
    await owner.says("/help", owner.text("Send a document at any time and I will read it for your bot."))
    assert (await product.account(owner)).language == language


async def test_the_panels_link_signs_in_once(product: Product) -> None:
    owner = await product.owner(900000217)
    message = await owner.says("/panel", owner.text("Your panel"))
    assert owner.text(ONLY_HERE) in message.text
    # An address without a dot in its host is no button for Telegram: it stands in the text.
    token = message.text.rpartition("/login/link?token=")[2].split()[0]
    async with product.core.db.write() as session:
        assert (await accounts.use_login_link(session, token)).telegram_id == owner.user.id
    with pytest.raises(Exception, match="link"):
        async with product.core.db.write() as session:
            await accounts.use_login_link(session, token)


async def test_the_administrators_command_leads_to_their_pages_and_nobody_elses(product: Product) -> None:
    owner = await product.owner(900000231)
    told = await owner.says("/admin", owner.text("Send a document at any time and I will read it for your bot."))
    assert "/admin" not in told.text
    account = await product.account(owner)
    async with product.core.db.write() as session:
        (await session.get_one(models.User, account.id)).role = "admin"
    told = await owner.says("/help", "/admin — ")
    message = await owner.says("/admin", owner.text("Your panel"))
    assert message.text.rpartition("&next=")[2].split()[0] == "/admin"


@pytest.mark.parametrize("known", [True, False])
async def test_the_sign_in_pages_link_is_the_panels_command(product: Product, known: bool) -> None:
    person = await product.owner(900000221) if known else product.person(900000222)
    message = await person.says("/start panel", person.text("Your panel"))
    token = message.text.rpartition("/login/link?token=")[2].split()[0]
    async with product.core.db.write() as session:
        assert (await accounts.use_login_link(session, token)).telegram_id == person.user.id


async def test_the_sign_in_pages_link_leads_on_to_a_conversation(product: Product) -> None:
    owner = await product.owner(900000229)
    bot, talk = "0" * 26, "1" * 26
    message = await owner.says(f"/start panel_{bot}_{talk}", owner.text("Your panel"))
    assert message.text.rpartition("&next=")[2].split()[0] == f"/bots/{bot}/conversations/{talk}"
    message = await owner.says(f"/start panel_{bot}_waiting", owner.text("Your panel"))
    assert message.text.rpartition("&next=")[2].split()[0] == f"/bots/{bot}/conversations%3Fstatus%3Dwaiting"


async def _telegram_of(product: Product, tenant: models.Bot) -> models.Channel | None:
    async with product.core.db.read() as session:
        connected = await bots.channels(session, tenant)
    return next((channel for channel in connected if channel.kind == "telegram"), None)


async def test_telegram_is_disconnected_after_a_question_and_connected_again(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000223)
    tenant = await product.make_bot(owner, token=TENANT)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Channels"), owner.text("Channels of “{name}”", name="Chinor Stom"))
    assert "@chinor_bot" in menu.text and owner.text("Working") in menu.text
    assert f"/chat/{tenant.public_id}" in menu.text
    await owner.presses(menu, owner.text("Disconnect"), owner.text("Disconnect @{username}?", username="chinor_bot"))
    assert menu.button(owner.text("Yes, disconnect"))["style"] == "danger"
    await owner.presses(menu, owner.text("Back"), "@chinor_bot")
    assert await _telegram_of(product, tenant) is not None
    await owner.presses(menu, owner.text("Disconnect"))
    async with product.core.bell.listen("channels") as bell:
        await owner.presses(menu, owner.text("Yes, disconnect"), owner.text("Not connected to Telegram"))
        await bell.get()
    assert await _telegram_of(product, tenant) is None
    # The same press once more changes nothing.
    await owner.presses(menu, owner.text("Back"))
    owner.user.press(menu, BotMenu(do="off", bot=tenant.id).pack(), stale=True)
    title = owner.text("Channels of “{name}”", name="Chinor Stom")
    await owner.fake.wait_until(lambda: title in menu.text)
    owner.user.press(menu, owner.text("Connect to Telegram"))
    await owner.hears(owner.text("1. Open @BotFather and send it /newbot."))
    await owner.says(TENANT, "@chinor_bot")
    assert await _telegram_of(product, tenant) is not None
    assert len(await product.bots_of(owner)) == 1


async def test_an_old_confirmation_does_not_disconnect_another_account(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    product.fake.add_bot(SECOND, "nur_bot")
    owner = await product.owner(900000226)
    tenant = await product.make_bot(owner, token=TENANT)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Channels"))
    await owner.presses(menu, owner.text("Disconnect"), owner.text("Disconnect @{username}?", username="chinor_bot"))
    # Meanwhile, elsewhere, another account takes the place of this one.
    old, identity = await _telegram_of(product, tenant), await product.core.telegram.get_me(SECOND)
    assert old is not None
    async with product.core.db.write() as session:
        await bots.disconnect(session, tenant, old.id)
        await bots.connect_telegram(session, tenant, identity=identity, token=SECOND, crypto=product.core.crypto)
    await owner.presses(menu, owner.text("Yes, disconnect"), "@nur_bot")
    kept = await _telegram_of(product, tenant)
    assert kept is not None and kept.username == "nur_bot"
    # So a button of an older version, which says the bot only.
    owner.user.press(menu, BotMenu(do="off", bot=tenant.id).pack(), stale=True)
    await owner.settled()
    assert await _telegram_of(product, tenant) is not None


async def test_what_an_owner_does_to_channels_and_bots_is_written_down(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = await product.owner(900000227)
    await owner.says(TENANT, "@chinor_bot")
    await owner.says(TENANT, "@chinor_bot")
    menu = await open_menu(owner, "Chinor")
    await owner.presses(menu, owner.text("Channels"))
    await owner.presses(menu, owner.text("Disconnect"))
    await owner.presses(menu, owner.text("Yes, disconnect"))
    await owner.presses(menu, owner.text("Back"))
    await owner.presses(menu, owner.text("Delete"))
    await owner.presses(menu, owner.text("Yes, delete"), owner.text("You have no bots yet."))
    user = await product.account(owner)
    async with product.core.db.read() as session:
        log = models.AuditLog
        rows = list(await session.scalars(select(log).where(log.actor_id == user.id).order_by(log.id)))
    assert [row.action for row in rows] == [
        "channel_connected",
        "channel_renewed",
        "channel_disconnected",
        "bot_deleted",
    ]


@pytest.mark.parametrize(
    ("address", "only_here"),
    [("http://localhost:8080", True), ("http://127.0.0.1", True), ("https://bot.example.uz", False)],
)
async def test_an_address_that_customers_cannot_open_says_so(product: Product, address: str, only_here: bool) -> None:
    section = product.core.settings.server.model_copy(update={"public_url": address})
    product.core.settings = product.core.settings.model_copy(update={"server": section})
    owner = await product.owner(900000228)
    tenant = await product.make_bot(owner)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Channels"), f"{address}/chat/{tenant.public_id}")
    assert (owner.text(PUBLIC_ADDRESS) in menu.text) is only_here


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("refused", "Telegram no longer accepts its token: send me a new one from BotFather."),
        ("conflict", "Another program is reading its messages: stop that program, then start the bot here."),
        ("unreadable", "I can no longer read its token: send it to me again."),
    ],
)
async def test_what_is_wrong_with_telegram_is_said_in_words(product: Product, status: str, words: str) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000224)
    tenant = await product.make_bot(owner, token=TENANT)
    channel = await _telegram_of(product, tenant)
    assert channel is not None
    await product.core.channel_failed(channel.id, status, "a line for the log")
    menu = await owner.says("/bots", owner.text("Your bots"))
    assert "🔴 Chinor Stom" in labels(menu)
    await owner.presses(menu, "Chinor Stom", "🔴 " + owner.text("Needs attention"))
    assert ("▶️ " + owner.text("Start") in labels(menu)) == (status == "conflict")
    await owner.presses(menu, owner.text("Channels"), owner.text(words))
    assert "a line for the log" not in menu.text
    owner.user.press(menu, owner.text("New token"))
    await owner.hears(owner.text("A new token for @{username}", username="chinor_bot"))
    await owner.says(TENANT, "@chinor_bot")
    renewed = await _telegram_of(product, tenant)
    assert renewed is not None and (renewed.id, renewed.status) == (channel.id, "active")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("active", ""),
        ("refused", "WhatsApp no longer accepts its token: enter a new one under “Channels”."),
        ("blocked", "Meta does not let the number send: see to it in WhatsApp Manager, then start the bot here."),
        ("unreadable", "I can no longer read its token: enter it again under “Channels”."),
    ],
)
async def test_the_state_of_a_whatsapp_number_is_said_in_words(product: Product, status: str, words: str) -> None:
    owner = await product.owner(900000231)
    tenant = await product.make_bot(owner)
    async with product.core.db.write() as session:
        channel = await bots.connect_whatsapp(
            session,
            tenant,
            number=WhatsAppNumber("100000000000101", "+998 90 123 45 67", "Chinor", "200000000000201", 0),
            credentials={"access_token": "t", "phone_number_id": "100000000000101", "app_secret": "s"},
            verify_token="a-word-of-ours",
            crypto=product.core.crypto,
        )
    if words:
        await product.core.channel_failed(channel.id, status, "a line for the log")
    menu = await open_menu(owner, "Chinor Stom")
    assert (owner.text("Needs attention") in menu.text) is bool(words)
    await owner.presses(menu, owner.text("Channels"), "WhatsApp: +998 90 123 45 67")
    assert not words or owner.text(words) in menu.text
    assert "a line for the log" not in menu.text
    await owner.presses(menu, owner.text("Back"))
    assert ("▶️ " + owner.text("Start") in labels(menu)) == (status == "blocked")
    if status == "blocked":
        await owner.presses(menu, "▶️ " + owner.text("Start"), owner.text("Working"))


async def test_a_bot_that_another_program_read_is_started_from_its_menu(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot")
    owner = await product.owner(900000230)
    channel = await _telegram_of(product, await product.make_bot(owner, token=TENANT))
    assert channel is not None
    await product.core.channel_failed(channel.id, "conflict", "a line for the log")
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, "▶️ " + owner.text("Start"), owner.text("Working"))
    assert "▶️ " + owner.text("Start") not in labels(menu)
    await owner.presses(menu, owner.text("Back"))
    assert "🟢 Chinor Stom" in labels(menu)


async def test_the_bots_page_is_connected_again(product: Product) -> None:
    owner = await product.owner(900000225)
    tenant = await product.make_bot(owner)
    async with product.core.db.write() as session:
        await bots.disconnect(session, tenant, (await bots.connect_web(session, tenant)).id)
    menu = await open_menu(owner, "Chinor Stom")
    await owner.presses(menu, owner.text("Channels"), owner.text("Disconnected: its link does not work."))
    await owner.presses(menu, owner.text("Connect the page"), f"/chat/{tenant.public_id}")
    async with product.core.db.read() as session:
        assert [channel.kind for channel in await bots.channels(session, tenant)] == ["web"]


async def test_the_panels_link_is_a_button_where_it_can_be(start: Start) -> None:
    # Updates still come by polling in this test: only the address for people is set.
    async with start() as product:
        owner = await product.owner(900000218)
        section = product.core.settings.server.model_copy(update={"public_url": "https://bot.example.uz"})
        product.core.settings = product.core.settings.model_copy(update={"server": section})
        message = await owner.says("/panel")
        url = message.button(owner.text("Open the panel"))["url"]
        assert url.startswith("https://bot.example.uz/login/link?token=")
        assert url.rpartition("=")[2] not in message.text
        assert owner.text(ONLY_HERE) not in message.text


async def test_numbers_are_shown_for_all_bots_and_for_one(product: Product) -> None:
    owner = await product.owner(900000219)
    await product.make_bot(owner, "Chinor")
    await product.make_bot(owner, "Nur")
    message = await owner.says("/stats", "Chinor")
    assert "Nur" in message.text
    await owner.presses(message, owner.text("30 days"), f"📊 {owner.text('Statistics')}: {owner.text('30 days')}")
    menu = await open_menu(owner, "Nur")
    await owner.presses(menu, owner.text("Statistics"), owner.text("Questions: {n}", n=0))
    assert "Chinor" not in menu.text


async def many_bots(product: Product, owner: Person, count: int) -> None:
    user = await product.account(owner)
    async with product.core.db.write() as session:
        for number in range(count):
            await bots.create(session, user, f"Bot {number:02}", limits=product.core.settings.limits)


async def test_long_lists_of_bots_are_turned_part_by_part(start: Start) -> None:
    async with start(overrides={"limits": {"bots_per_owner": 30}}) as product:
        owner = await product.owner(900000222)
        await many_bots(product, owner, 21)
        menu = await owner.says("/bots", owner.text("Your bots"))
        seen = [label for label in labels(menu) if "Bot " in label]
        assert "1 / 3" in labels(menu)
        assert "◀️" not in labels(menu)
        owner.user.press(menu, "▶️")
        await owner.fake.wait_until(lambda: "2 / 3" in labels(menu))
        seen += [label for label in labels(menu) if "Bot " in label]
        owner.user.press(menu, "▶️")
        await owner.fake.wait_until(lambda: "3 / 3" in labels(menu))
        seen += [label for label in labels(menu) if "Bot " in label]
        assert [label[-2:] for label in seen] == [f"{number:02}" for number in range(21)]
        assert "▶️" not in labels(menu)
        await owner.presses(menu, "Bot 20", "Bot 20")
        # The rest is gone meanwhile: the old button shows what is last now.
        owner.user.press(menu, Turn(of="open", number=7).pack(), stale=True)
        await owner.fake.wait_until(lambda: "3 / 3" in labels(menu))

        numbers = await owner.says("/stats", "Bot 09")
        assert "Bot 10" not in numbers.text
        await owner.presses(numbers, "▶️", "Bot 10")
        await owner.presses(numbers, owner.text("30 days"), "Bot 00")


async def test_every_bot_can_be_chosen_for_a_document(start: Start) -> None:
    async with start(overrides={"limits": {"bots_per_owner": 30}}) as product:
        owner = await product.owner(900000223)
        await many_bots(product, owner, 12)
        owner.user.send_document(product.factory, "savollar.txt", FAQ.encode())
        question = await owner.hears("savollar.txt")
        await owner.presses(question, "▶️")
        await owner.fake.wait_until(lambda: "2 / 2" in labels(question))
        owner.user.press(question, "Bot 11")
        message = await owner.hears(lambda sent: sent.text.startswith("savollar.txt"))
        await product.fake.wait_edit(message, "✅")


async def test_the_command_lists_are_set_by_language_and_only_when_they_differ(start: Start) -> None:
    async with start() as product:
        await product.fake.wait_call("setMyCommands", times=3)
        lists = product.factory.commands
        assert {language for _, language in lists} == {"", "ru", "en"}
        for code, language in (("", "uz"), ("ru", "ru"), ("en", "en")):
            (commands,) = [each for (_, spoken), each in lists.items() if spoken == code]
            described = {each["command"]: each["description"] for each in commands}
            assert described["help"] == translate(language, "What this bot can do")
            assert "admin" not in described
    async with start() as product:
        await product.fake.wait_call("getMyCommands", times=6)
        assert len(product.fake.called("setMyCommands")) == 3


async def test_a_menu_button_leads_on(product: Product) -> None:
    owner = await product.owner(900000220)
    message = await owner.says("salom", owner.text("Send a document, or choose what to do."))
    owner.user.press(message, Menu(to="new").pack())
    await owner.hears(owner.text("Let’s create your bot."))
    assert not await product.bots_of(owner)
    user = await product.account(owner)
    async with product.core.db.read() as session:
        assert not await bots.list_for(session, user)
