"""``/inbox`` in the factory bot: who waits is listed, read, taken over, given back, closed and answered; others see nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from db.base import utcnow
from handlers.callbacks import Menu, TalkMenu, Turn
from services import team
from tests.conveyor.harness import until
from tests.fakes.telegram import FakeBot, FakeUser, Sent
from tests.handlers.conftest import TENANT, Person, Product, Start
from tests.handlers.test_menus import OLD_MENU, labels
from tests.handlers.test_repeats import fail_after
from tests.web.panel import web_talk

pytestmark = pytest.mark.usefixtures("hurry")
TITLE = "Conversations that wait for you"
DROPPED = "Nothing was written to the customer."


async def _talk(product: Product, bot: models.Bot, name: str, *said: tuple[str, str], **values: Any) -> str:
    """Add a conversation on the chat page that waits for a person; return its id."""
    async with product.core.db.write() as session:
        values = {"status": "waiting", "last_text": said[-1][1] if said else "", **values}
        talk = await web_talk(session, bot, name, **values)
        session.add_all(models.Message(conversation_id=talk.id, author=author, text=text) for author, text in said)
    return talk.id


async def _row(product: Product, talk_id: str) -> models.Conversation:
    async with product.core.db.read() as session:
        return await session.get_one(models.Conversation, talk_id)


async def _written(product: Product, talk_id: str) -> list[tuple[str, str | None]]:
    """Return what operators wrote in a conversation, and who."""
    message = models.Message
    wanted = (
        select(message).where(message.conversation_id == talk_id, message.author == "operator").order_by(message.id)
    )
    async with product.core.db.read() as session:
        return [(each.text, each.author_id) for each in await session.scalars(wanted)]


async def _operator(product: Product, owner: Person, number: int) -> Person:
    person = await product.owner(number, "en", "Nodira")
    account, theirs = await product.account(owner), await product.account(person)
    async with product.core.db.write() as session:
        token = await team.invite(session, account, "operator", "Nodira", most=20)
        await team.accept(session, token, theirs)
    return person


async def _refused(product: Product, person: Person, menu: Sent, data: str) -> None:
    press = person.user.press(menu, data, stale=True)
    await product.fake.wait_until(lambda: press.answered)
    assert press.text == person.text(OLD_MENU), data


async def _customer(product: Product, owner: Person) -> tuple[FakeBot, FakeUser, models.Bot]:
    """Return a bot on Telegram and a customer who has asked it for a person."""
    tenant = product.fake.add_bot(TENANT, "chinor_bot")
    bot = await product.make_bot(owner, token=TENANT)
    customer = product.fake.user(910_600_001, "uz", first_name="Sardor <b>")
    customer.send(tenant, "/operator")
    await until(lambda: _waits(product, bot), 20)
    return tenant, customer, bot


async def _waits(product: Product, bot: models.Bot) -> models.Conversation | None:
    talk = models.Conversation
    async with product.core.db.read() as session:
        found: models.Conversation | None = await session.scalar(
            select(talk).where(talk.bot_id == bot.id, talk.status == "waiting")
        )
    return found


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
async def test_who_waits_is_read_taken_over_and_given_back(product: Product, language: str) -> None:
    owner = await product.owner(900000901, language)
    bot = await product.make_bot(owner)
    account = await product.account(owner)
    said = [("customer" if number % 2 else "bot", f"xabar-{number}") for number in range(8)]
    waits = await _talk(product, bot, "Gulbahor <i>", *said)
    await _talk(product, bot, "Bot bilan", ("customer", "Salom"), status="bot")
    await _talk(product, bot, "Boshqaniki", ("customer", "Salom"), status="human", assignee_id="0" * 26)
    led = await _talk(product, bot, "Meniki", ("customer", "Salom"), status="human", assignee_id=account.id)
    listed = await owner.says("/inbox")
    # Whoever wrote last is the first; what others lead, and what the bot answers, waits for nobody here.
    assert [each.split(" · ")[0] for each in labels(listed)[:-1]] == ["🧑‍💼 Meniki", "🔔 Gulbahor <i>"]
    assert all(len(each["callback_data"].encode()) <= 64 for each in listed.buttons)
    await owner.presses(listed, "Gulbahor", owner.text("Waiting for a person"))
    assert "Gulbahor <i>" in listed.text and "👤 xabar-7" in listed.text and "🤖 xabar-2" in listed.text
    assert "xabar-1" not in listed.text, "only the last messages"
    assert listed.text.index("xabar-2") < listed.text.index("xabar-7")
    assert all(len(each["callback_data"].encode()) <= 64 for each in listed.buttons)
    await owner.presses(listed, owner.text("Take over"), owner.text("With a person"))
    row = await _row(product, waits)
    assert (row.status, row.assignee_id) == ("human", account.id)
    assert owner.text("Take over") not in str(labels(listed))
    await owner.presses(listed, owner.text("Give back to the bot"), owner.text("Bot answers"))
    assert (await _row(product, waits)).status == "bot"
    await owner.presses(listed, owner.text("Back"), "🧑‍💼")
    await owner.presses(listed, "Meniki", owner.text("With a person"))
    await owner.presses(listed, "✅", owner.text("Closed"))
    row = await _row(product, led)
    assert (row.status, row.assignee_id) == ("closed", None)
    await owner.presses(listed, owner.text("Back"))
    assert "Meniki" not in str(labels(listed))


async def test_the_list_and_the_conversation_say_why_it_waits(product: Product) -> None:
    owner = await product.owner(900000931, "en")
    bot = await product.make_bot(owner)
    for name, reason in (("Birinchi", "asked"), ("Ikkinchi", "gave_up"), ("Uchinchi", "error"), ("Eski", None)):
        await _talk(product, bot, name, ("customer", "Salom"), waiting_reason=reason)
    listed = await owner.says("/inbox", "❓ the bot knew no answer")
    assert [each.split(" · ")[0] for each in labels(listed)[:-1]] == [
        "🔔 Eski",
        "⚠️ Uchinchi",
        "❓ Ikkinchi",
        "🔔 Birinchi",
    ]
    for name, title in (
        ("Birinchi", "Asked for a person"),
        ("Ikkinchi", "The bot knew no answer"),
        ("Uchinchi", "A message failed"),
        ("Eski", "Waiting for a person"),
    ):
        await owner.presses(listed, name, title)
        await owner.presses(listed, owner.text("Back"), "🔔")


async def test_what_is_written_next_goes_to_the_customer_once(product: Product) -> None:
    owner = await product.owner(900000902, "en")
    account = await product.account(owner)
    tenant, customer, bot = await _customer(product, owner)
    listed = await owner.says("/inbox", TITLE)
    await owner.presses(listed, "Sardor", "Asked for a person")
    owner.user.press(listed, "Answer here")
    await owner.hears("Write to Sardor <b>")
    # A picture reaches nobody, and a document no bot: the next text still does.
    owner.user.send_document(product.factory, "narx.txt", b"Kosmik raketa 100")
    await owner.hears("This was not sent to the customer.")
    # Telegram fails when the operator is told; the update comes again and the customer gets nothing twice.
    fault = fail_after(product, owner, 0, times=1)
    owner.user.send(product.factory, "Ha, <b>5 & 6</b> bor")
    told = await owner.hears("Your message goes to Sardor <b>.")
    assert fault.hits == 1
    await product.fake.wait_message(customer.id, "Ha, <b>5 & 6</b> bor", bot=tenant)
    talk = models.Conversation
    async with product.core.db.read() as session:
        row = (await session.scalars(select(talk).where(talk.bot_id == bot.id))).one()
        assert not list(await session.scalars(select(models.Document).where(models.Document.bot_id == bot.id)))
    assert (row.status, row.assignee_id) == ("human", account.id)
    assert await _written(product, row.id) == [("Ha, <b>5 & 6</b> bor", account.id)]
    # One press, one message.
    await owner.says("Bu mijozga emas", "I create and look after bots")
    owner.user.press(told, "Write more")
    await owner.hears("Write to Sardor")
    await owner.says("Ha, <b>5 & 6</b> bor", "Your message goes to")
    assert len(await _written(product, row.id)) == 2
    assert "Bu mijozga emas" not in [text for text, _ in await _written(product, row.id)]


async def test_cancel_says_what_was_dropped_and_other_menus_end_writing(product: Product) -> None:
    owner = await product.owner(900000903, "en")
    bot = await product.make_bot(owner)
    talk_id = await _talk(product, bot, "Gulbahor", ("customer", "Salom"))
    listed = await owner.says("/inbox", TITLE)
    await owner.presses(listed, "Gulbahor", "Waiting for a person")
    owner.user.press(listed, "Answer here")
    await owner.hears("Write to Gulbahor")
    await owner.says("/cancel", DROPPED)
    await owner.settled()
    for elsewhere in ("/bots", "/inbox"):
        owner.user.press(listed, "Answer here")
        await owner.hears("Write to Gulbahor")
        await owner.says(elsewhere)
        await owner.says("Kimga?", "I create and look after bots")
    owner.user.press(listed, "Answer here")
    await owner.hears("Write to Gulbahor")
    await owner.presses(listed, "Back", TITLE)
    await owner.says("Kimga?", "I create and look after bots")
    assert await _written(product, talk_id) == []


async def test_what_cannot_be_written_is_said_in_words(product: Product) -> None:
    """A closed window before anything is typed, one that closes meanwhile, another operator's answer, too long a text."""
    owner = await product.owner(900000904, "en")
    bot = await product.make_bot(owner)
    talk_id = await _talk(product, bot, "Gulbahor", ("customer", "Salom"), last_inbound_at=utcnow())
    listed = await owner.says("/inbox", TITLE)
    await owner.presses(listed, "Gulbahor", "Waiting for a person")
    owner.user.press(listed, "Answer here")
    await owner.hears("Write to Gulbahor")
    await owner.says("a" * 4090 + "‘" * 7, "at most 4096 characters")
    nodira = await product.account(await _operator(product, owner, 900000905))
    async with product.core.db.write() as session:
        session.add(
            models.Message(conversation_id=talk_id, author="operator", text="Men javob berdim", author_id=nodira.id)
        )
    await owner.says("Men ham javob beraman", "Men javob berdim")
    await owner.hears("Nodira has answered while you were writing")
    # Whoever sends it once more has read that.
    await owner.says("Men ham javob beraman", "Your message goes to Gulbahor")
    assert [text for text, _ in await _written(product, talk_id)] == ["Men javob berdim", "Men ham javob beraman"]

    async def becomes_whatsapp(written_before: dt.timedelta) -> None:
        async with product.core.db.write() as session:
            row = await session.get_one(models.Conversation, talk_id)
            row.last_inbound_at = utcnow() - written_before
            (await session.get_one(models.Channel, row.channel_id)).kind = "whatsapp"

    await becomes_whatsapp(dt.timedelta(hours=23))
    owner.user.press(listed, "Answer here")
    await owner.hears("Write to Gulbahor")
    await becomes_whatsapp(dt.timedelta(hours=25))
    await owner.says("Kech qoldim", "More than 24 hours have passed")
    await owner.settled()
    press = owner.user.press(listed, "Answer here")
    await product.fake.wait_until(lambda: press.answered)
    assert "More than 24 hours have passed" in press.text
    await owner.settled()
    assert len(await _written(product, talk_id)) == 2


async def test_an_operator_answers_and_a_removed_one_does_not(product: Product) -> None:
    owner = await product.owner(900000906, "en")
    bot = await product.make_bot(owner)
    talk_id = await _talk(product, bot, "Gulbahor", ("customer", "Salom"))
    person = await _operator(product, owner, 900000907)
    account = await product.account(person)
    page = await person.says("/help", "You answer customers for Aziza")
    assert "/inbox" in str([sent.text for sent in product.fake.messages(person.user.id)])
    await person.presses(page, "Conversations", TITLE)
    await person.presses(page, "Gulbahor", "Waiting for a person")
    person.user.press(page, "Answer here")
    await person.hears("Write to Gulbahor")
    await person.says("Assalomu alaykum", "Your message goes to Gulbahor")
    assert await _written(product, talk_id) == [("Assalomu alaykum", account.id)]
    person.user.press(page, "Answer here")
    await person.hears("Write to Gulbahor")
    async with product.core.db.write() as session:
        owner_account = await product.account(owner)
        (member,) = await team.members(session, owner_account)
        await team.remove(session, owner_account, member.member.id)
    # The right ended between the press and the text.
    await person.says("Yana men", "Nothing was written to the customer.")
    for do in ("open", "answer", "human", "bot", "closed", "panel"):
        await _refused(product, person, page, TalkMenu(do=do, talk=talk_id).pack())
    listed = await person.says("/inbox", TITLE)
    assert "Gulbahor" not in str(labels(listed))
    assert await _written(product, talk_id) == [("Assalomu alaykum", account.id)]


async def test_a_stranger_with_a_forged_press_gets_nothing(product: Product) -> None:
    owner, stranger = await product.owner(900000908, "en"), await product.owner(900000909, "en", "Bobur")
    bot = await product.make_bot(owner)
    await product.make_bot(stranger, "Nur")
    talk_id = await _talk(product, bot, "Gulbahor", ("customer", "Maxfiy gap"))
    listed = await stranger.says("/inbox", "Nobody is waiting")
    for do in ("open", "answer", "human", "bot", "closed", "panel"):
        await _refused(product, stranger, listed, TalkMenu(do=do, talk=talk_id).pack())
    for data in (TalkMenu(do="waiting", talk=talk_id).pack(), "i1:open:'; DROP", "i0:open:" + talk_id):
        await _refused(product, stranger, listed, data)
    await stranger.says("Menga yozing", "I create and look after bots")
    assert not any("Maxfiy" in sent.text for sent in product.fake.messages(stranger.user.id))
    row = await _row(product, talk_id)
    assert (row.status, row.assignee_id) == ("waiting", None) and await _written(product, talk_id) == []


async def test_a_long_list_turns_and_the_panel_opens_at_the_conversation(start: Start) -> None:
    async with start(overrides={"server": {"public_url": "https://bots.example.uz"}}) as product:
        owner = await product.owner(900000910, "en")
        first, second = await product.make_bot(owner, "Birinchi"), await product.make_bot(owner, "Ikkinchi")
        began = utcnow()
        for number in range(12):
            bot = first if number % 2 else second
            at = began - dt.timedelta(minutes=number)
            await _talk(product, bot, f"Mijoz {number:02}", ("customer", "?"), last_message_at=at)
        listed = await owner.says("/inbox", TITLE)
        assert labels(listed)[:2] == ["🔔 Mijoz 00 · Ikkinchi · ?", "🔔 Mijoz 01 · Birinchi · ?"]
        assert "1 / 2" in labels(listed)
        await owner.presses(listed, "▶️")
        assert [each for each in labels(listed) if "Mijoz" in each] == [
            "🔔 Mijoz 10 · Ikkinchi · ?",
            "🔔 Mijoz 11 · Birinchi · ?",
        ]
        edits = len(listed.edits)
        owner.user.press(listed, Turn(of="inbox", number=9).pack(), stale=True)
        owner.user.press(listed, Menu(to="inbox").pack(), stale=True)
        await product.fake.wait_until(lambda: len(listed.edits) > edits)
        await owner.presses(listed, "Mijoz 00", "Waiting for a person")
        talk_id = TalkMenu.unpack(listed.button("Answer here")["callback_data"]).talk
        owner.user.press(listed, "Open in the panel")
        link = await owner.hears("signs you in once")
        assert link.buttons[0]["url"].startswith("https://bots.example.uz/login/link?token=")
        assert link.buttons[0]["url"].endswith(f"&next=/inbox/{talk_id}")


async def test_an_address_that_works_here_only_is_not_offered(product: Product) -> None:
    owner = await product.owner(900000911, "en")
    bot = await product.make_bot(owner)
    await _talk(product, bot, "Gulbahor", ("customer", "Salom"))
    listed = await owner.says("/inbox", TITLE)
    await owner.presses(listed, "Gulbahor", "Waiting for a person")
    assert "Open in the panel" not in str(labels(listed))
