"""Buttons, contacts and chats that are not one's own: checked at every press, in every handler."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from aiogram.filters.callback_data import CallbackData
from sqlalchemy import func, select

from db import models
from handlers import callbacks
from handlers.callbacks import (
    Ask,
    AskedMenu,
    BotMenu,
    Connect,
    Cut,
    DocMenu,
    ForumMenu,
    Lang,
    Menu,
    News,
    Pay,
    Period,
    PutFile,
    TalkMenu,
    Turn,
)
from tests.composition import FAQ, add_document
from tests.fakes.telegram import FakeGroup
from tests.handlers.conftest import TENANT, Person, Product

PRIVATE = "I work in a private chat: open {address} and press Start."
_NAME = "KANAREYKA Stom"
_NUMBER = "900000901"
_NEWS = "01jd8q3w1m5b7c9d2e4f6g8h0j"
_BOT_DEEDS = (
    *("open", "start", "stop", "docs", "prompt", "clear", "langs", "channels", "link", "token", "cut", "page"),
    *("delete", "gone", "send"),
)


_NEWS_DEEDS = ("open", "test", "send", "sure", "pause", "resume", "stop", "recall", "drop", "gone")
_DOCUMENT_DEEDS = ("open", "delete", "gone", "retry", "share", "keep", "words")


def foreign_buttons(bot: models.Bot, document: str, channel: str) -> list[str]:
    """Return every button that names a bot or something of it."""
    packed = [BotMenu(do=deed, bot=bot.id).pack() for deed in _BOT_DEEDS]
    packed += [BotMenu(do="lang", bot=bot.id, arg=arg).pack() for arg in ("+ru", "-uz")]
    packed += [BotMenu(do="off", bot=bot.id, arg=channel).pack(), PutFile(bot=bot.id, file=1).pack()]
    packed += [DocMenu(do=deed, bot=bot.id, doc=document).pack() for deed in _DOCUMENT_DEEDS]
    packed += [Period(bot=bot.id, days=7).pack(), Turn(of="files", number=0, bot=bot.id).pack()]
    packed += [AskedMenu(do=deed, bot=bot.id, asked=document).pack() for deed in ("open", "drop")]
    packed += [
        TalkMenu(do=deed, talk=document).pack() for deed in ("open", "answer", "human", "bot", "closed", "panel")
    ]
    kinds = ("telegram", "whatsapp", "instagram", "web")
    deeds = ("one", "begin", "skip", "check", "cut", "share")
    packed += [Connect(do=deed, bot=bot.id, kind=kind).pack() for deed in deeds for kind in kinds]
    packed += [Cut(bot=bot.id, channel=channel).pack(), ForumMenu(bot=bot.id).pack()]
    packed += [Pay(do=deed, number=_NUMBER).pack() for deed in ("open", "code", "stop", "paper")]
    packed += [Ask(do="withdraw", arg=document).pack()]
    packed += [News(do=deed, bot=bot.id, news=_NEWS).pack() for deed in _NEWS_DEEDS]
    packed += [News(do=deed, bot=bot.id).pack() for deed in ("bot", "new")]
    return packed


async def _state(product: Product, bot_id: str) -> list[Any]:
    """Return everything about a bot that a press could have changed."""
    async with product.core.db.read() as session:
        tables: tuple[type[Any], ...] = (models.Bot, models.Channel, models.Document, models.Broadcast)
        paid = await session.execute(select(models.Payment.__table__))
        rows: list[Any] = [dict(row) for row in paid.mappings()]
        for table in tables:
            mine = table.id == bot_id if table is models.Bot else table.bot_id == bot_id
            found = await session.execute(select(table.__table__).where(mine).order_by(table.id))
            rows += [{k: v for k, v in row.items() if k != "last_update_at"} for row in found.mappings()]
        return rows


async def _victim(product: Product) -> tuple[Person, models.Bot, str, str]:
    product.fake.add_bot(TENANT, "kanareyka_bot")
    owner = await product.owner(900000901, name="KANAREYKA")
    tenant = await product.make_bot(owner, _NAME, TENANT)
    await add_document(product.core, tenant, "kanareyka.txt", FAQ.encode())
    async with product.core.db.write() as session:
        now = product.core.now()
        bill = {"gateway": "payme", "price_tiyin": 100, "amount_tiyin": 100, "expires_at": now + dt.timedelta(days=1)}
        choice = {"plan": "basic", "period": "monthly", "user_id": tenant.owner_id}
        session.add(models.Payment(number=_NUMBER, **choice, **bill))
        session.add(models.Broadcast(id=_NEWS, bot_id=tenant.id, title="kanareyka", texts={"uz": "KANAREYKA"}))
    async with product.core.db.read() as session:
        document = await session.scalar(select(models.Document.id).where(models.Document.bot_id == tenant.id))
        channel = await session.scalar(
            select(models.Channel.id).where(models.Channel.bot_id == tenant.id, models.Channel.kind == "telegram")
        )
    return owner, tenant, str(document), str(channel)


def test_every_kind_of_button_is_tried() -> None:
    """A new kind of button has to be added to what strangers press."""
    kinds = {
        name
        for name, kind in vars(callbacks).items()
        if isinstance(kind, type) and issubclass(kind, CallbackData) and kind is not CallbackData
    }
    tried = {"BotMenu", "DocMenu", "PutFile", "Turn", "Period", "AskedMenu", "Connect", "Cut", "ForumMenu", "TalkMenu"}
    tried |= {"Pay", "Ask", "News"}
    # These name nothing of anybody's; what one-time links do is tried beside them.
    assert kinds == tried | {"Lang", "Menu", "Join", "Enter", "Buy"}


async def test_a_stranger_who_presses_anothers_buttons_learns_and_changes_nothing(product: Product) -> None:
    owner, tenant, document, channel = await _victim(product)
    menu = await owner.says("/bots", owner.text("Your bots"))
    before = await _state(product, tenant.id)
    stranger = await product.owner(900000902, "en", "Stranger")
    for data in foreign_buttons(tenant, document, channel):
        # As if the message with its buttons had been passed on.
        press = stranger.user.press(menu, data, stale=True)
        await product.answered(press)
        assert "KANAREYKA" not in press.text
    await stranger.settled()
    said = product.fake.messages(stranger.user.id)
    assert not any(word in message.text for message in said for word in ("KANAREYKA", "kanareyka", TENANT))
    assert not any("KANAREYKA" in str(message.markup) for message in said)
    assert await _state(product, tenant.id) == before
    async with product.core.db.read() as session:
        gone = select(func.count()).select_from(models.Bot).where(models.Bot.deleted_at.is_not(None))
        assert await session.scalar(gone) == 0


async def test_changed_buttons_are_old_menus(product: Product) -> None:
    owner, tenant, _, _ = await _victim(product)
    menu = await owner.says("/bots", owner.text("Your bots"))
    before = await _state(product, tenant.id)
    odd = (
        *(
            "b1:open",
            f"b1:open:{tenant.id}:'; DROP TABLE bots",
            f"b9:gone:{tenant.id}:",
            "b1:gone:../..:",
            "x",
            ":" * 64,
        ),
        *(f"b1:nothing:{tenant.id}:", f"b1:lang:{tenant.id}:+xx", "t1:open:-1:::", "t1:open:99999999999:::"),
        *("s1::0", "s1::-5", "s1::999999999999", "l1:xx:0", "m1:nowhere", "j1:" + "A" * 43),
    )
    for data in odd:
        press = owner.user.press(menu, data, stale=True)
        await product.answered(press)
    await owner.settled()
    assert await _state(product, tenant.id) == before


@pytest.mark.parametrize("kind", ["group", "supergroup"])
async def test_in_a_group_nothing_of_a_menu_works(product: Product, kind: str) -> None:
    owner, tenant, document, channel = await _victim(product)
    group = product.fake.group(-5_000_901 if kind == "group" else -1_005_000_901)
    product.factory.chats.add(group.id)
    owner.user.send(product.factory, "/bots@factory_bot", group=group)
    line = await product.fake.wait_message(group.id, bot=product.factory)
    assert line.text == owner.text(PRIVATE, address="https://t.me/factory_bot")
    before = await _state(product, tenant.id)
    for data in foreign_buttons(tenant, document, channel):
        press = owner.user.press(line, data, stale=True)
        await product.answered(press)
        assert press.alert and "KANAREYKA" not in press.text
    assert await _state(product, tenant.id) == before
    assert len(product.fake.messages(group.id, product.factory)) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda group, factory: group.anonymous(factory, **_command("/bots@factory_bot")),
        lambda group, factory: group.say(
            factory, {"id": 7_700_000_998, "is_bot": True, "first_name": "B"}, **_command("/bots@factory_bot")
        ),
        lambda group, factory: group.say(
            factory,
            {"id": 777_000, "is_bot": False, "first_name": "Telegram"},
            sender_chat={"id": -100_9, "type": "channel", "title": "K"},
            is_automatic_forward=True,
            **_command("/bots@factory_bot"),
        ),
        lambda group, factory: factory.push(
            "channel_post", {"message_id": 1, "chat": {"id": -1009, "type": "channel"}, "date": 1, "text": "/bots"}
        ),
    ],
    ids=["anonymous administrator", "another bot", "linked channel", "channel"],
)
async def test_who_is_nobody_is_not_answered(product: Product, write: Callable[[FakeGroup, Any], Any]) -> None:
    owner = await product.owner(900000903)
    group = product.fake.group(-1_005_000_903)
    product.factory.chats.add(group.id)
    write(group, product.factory)
    await product.fake.wait_delivered(product.factory)
    await owner.settled()
    assert not product.fake.messages(group.id, product.factory)
    async with product.core.db.read() as session:
        strangers = (
            select(func.count()).select_from(models.User).where(models.User.telegram_id.in_((1087968824, 777000)))
        )
        assert await session.scalar(strangers) == 0


def _command(text: str) -> dict[str, Any]:
    return {"text": text, "entities": [{"type": "bot_command", "offset": 0, "length": len(text)}]}


@pytest.mark.parametrize(
    "contact",
    [
        {"phone_number": "998901112233", "first_name": "Bek", "user_id": 900000999},
        {"phone_number": "998901112233", "first_name": "Bek"},
        {"phone_number": "998901112233", "first_name": "Bek", "user_id": 0},
    ],
    ids=["of another", "of nobody", "zero"],
)
async def test_only_ones_own_phone_is_taken(product: Product, contact: dict[str, Any]) -> None:
    person = await product.owner(900000904)
    person.user.message(product.factory, contact=contact)
    await person.hears(
        person.text("This is someone else’s number. Please send your own with the button, type it, or skip this step.")
    )
    assert (await product.account(person)).phone is None


async def test_a_forwarded_contact_of_ones_own_is_ones_own_and_no_other_account_gets_it(product: Product) -> None:
    first, second = await product.owner(900000905), await product.owner(900000906)
    first.user.share_contact(product.factory, phone="998901112244")
    await first.hears(first.text("Your phone number is saved."))
    number = {"phone_number": "998901112244", "first_name": "A", "user_id": first.user.id}
    second.user.message(product.factory, contact=number)
    await second.hears(
        second.text("This is someone else’s number. Please send your own with the button, type it, or skip this step.")
    )
    assert (await product.account(first)).phone == "+998901112244"
    assert (await product.account(second)).phone is None


async def test_a_forwarded_command_or_menu_text_opens_the_forwarders_own_things(product: Product) -> None:
    owner, _, _, _ = await _victim(product)
    await owner.says("/bots", owner.text("Your bots"))
    stranger = await product.owner(900000907, "en", "Stranger")
    origin = {"type": "user", "sender_user": owner.user.user(), "date": 1}
    stranger.user.message(product.factory, forward_origin=origin, **_command("/bots"))
    await stranger.settled()
    said = product.fake.messages(stranger.user.id)
    assert said and not any("KANAREYKA" in message.text + str(message.markup) for message in said)


async def test_business_updates_are_nothing_to_the_factory_bot(product: Product) -> None:
    owner = await product.owner(900000908)
    connection = owner.user.connect(product.factory)
    customer = product.fake.user(900000909)
    customer.write_to(owner.user, product.factory, connection, "/bots")
    owner.user.take_back(product.factory, customer.write_to(owner.user, product.factory, connection, "salom"))
    await product.fake.wait_delivered(product.factory)
    await owner.settled()
    assert not product.fake.messages(customer.id, product.factory)
    assert len(product.fake.messages(owner.user.id, product.factory)) == 1


async def test_buttons_without_an_owner_open_the_pressers_own_things(product: Product) -> None:
    owner, _, _, _ = await _victim(product)
    menu = await owner.says("/bots", owner.text("Your bots"))
    stranger = await product.owner(900000910, "en", "Stranger")
    general = [Menu(to=to).pack() for to in ("bots", "new", "stats", "panel")]
    general += [Lang(code="ru").pack(), Period(bot="", days=7).pack(), Turn(of="open", number=0).pack()]
    general += [Turn(of="docs", number=0).pack(), Turn(of="stats", number=0, days=7).pack()]
    for data in general:
        press = stranger.user.press(menu, data, stale=True)
        await product.answered(press)
    stranger.user.send(product.factory, "/cancel")
    await product.fake.wait_delivered(product.factory)
    await owner.settled()
    for message in product.fake.messages(stranger.user.id):
        assert "KANAREYKA" not in message.text + str(message.markup)
    assert (await product.account(owner)).language == "uz"
