"""Who is talked with, and what is said when there is nothing to do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from db import models
from db.base import new_id
from services import accounts, notices
from services.i18n import LANGUAGES
from tests.fakes.telegram import FakeTelegram
from tests.handlers.conftest import TENANT, Product, Start


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_cannot_be_read_gets_a_kind_line(product: Product, language: str) -> None:
    owner = await product.owner(900000401, language)
    for send in (owner.user.send_voice, owner.user.send_sticker, owner.user.send_location):
        send(product.factory)
        await owner.hears(owner.text("Please write to me, or send a document: PDF, Word (.docx), CSV or text."))
    message = owner.user.send(product.factory, "salom")
    await owner.hears(owner.text("Send a document, or choose what to do."))
    owner.user.edit(product.factory, message, "hayr")
    await owner.hears(owner.text("I cannot see edits to a message you have already sent. Please send it again."))


@pytest.mark.parametrize("command", ["/admin", "/nothing", "/start@other_bot"])
async def test_unknown_commands_get_the_help(product: Product, command: str) -> None:
    owner = await product.owner(900000402)
    message = await owner.says(command, owner.text("Send a document at any time and I will read it for your bot."))
    assert "/newbot" in message.text and "/admin" not in message.text


@pytest.mark.parametrize("payload", ["in_abc", "ref_1", "x" * 64])
async def test_any_payload_is_a_normal_start(product: Product, payload: str) -> None:
    owner = await product.owner(900000403)
    owner.user.start(product.factory, payload)
    greeting = await owner.hears()
    assert len(greeting.buttons) == len(LANGUAGES)
    assert payload not in greeting.text


async def test_names_are_escaped(product: Product) -> None:
    owner = product.person(900000404, name="<b>&amp; {name} </i>")
    greeting = await owner.says("/start")
    assert "<b>&amp; {name} </i>" in greeting.text


async def test_in_a_group_only_a_command_that_names_the_bot_is_answered(product: Product) -> None:
    group = product.fake.group(-1000000001)
    owner = await product.owner(900000405)
    owner.user.send(product.factory, "salom", group=group)
    owner.user.send(product.factory, "/bots", group=group)
    owner.user.send(product.factory, "/bots@other_bot", group=group)
    owner.user.send(product.factory, "/bots@factory_bot", group=group)
    message = await product.fake.wait_message(group.id)
    assert "https://t.me/factory_bot" in message.text
    await owner.settled()
    assert len(product.fake.messages(group.id)) == 1


async def test_bots_and_anonymous_administrators_are_ignored(product: Product) -> None:
    group = product.fake.group(-1000000002)
    chat = group.chat()
    anonymous: dict[str, Any] = {"id": 1087968824, "is_bot": True, "first_name": "Group"}
    product.factory.chats.add(group.id)
    content = {
        "message_id": 77,
        "from": anonymous,
        "sender_chat": chat,
        "chat": chat,
        "date": int(time.time()),
        "text": "/bots@factory_bot",
        "entities": [{"type": "bot_command", "offset": 0, "length": 17}],
    }
    product.factory.push("message", content)
    await product.fake.wait_delivered(product.factory)
    owner = await product.owner(900000406)
    await owner.settled()
    assert not product.fake.messages(group.id)
    async with product.core.db.read() as session:
        assert await accounts.by_telegram(session, anonymous["id"]) is None


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_banned_owner_gets_one_line(product: Product, language: str) -> None:
    owner = await product.owner(900000407, language)
    menu = await owner.says("/bots")
    user = await product.account(owner)
    async with product.core.db.write() as session:
        await accounts.ban(session, user)
    line = owner.text("Your account is blocked. Please write to whoever runs this service.")
    await owner.says("/bots", line)
    owner.user.send(product.factory, "/newbot")
    press = owner.user.press(menu, owner.text("New bot"))
    await product.fake.wait_until(lambda: press.answered)
    assert press.text == line
    assert [message.text for message in product.fake.messages(owner.user.id)].count(line) == 1
    assert not await product.bots_of(owner)


async def test_who_blocked_the_bot_holds_nothing_up(product: Product) -> None:
    owner = await product.owner(900000408)
    owner.user.blocked.add(product.factory.id)
    owner.user.send(product.factory, "/bots")
    await product.fake.wait_delivered(product.factory)
    await product.fake.wait_until(
        lambda: [call for call in product.fake.called("sendMessage", product.factory) if call.status == 403]
    )
    owner.user.unblock(product.factory)
    await owner.says("/bots", owner.text("You have no bots yet."))
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_a_short_wait_that_telegram_asks_for_is_obeyed(product: Product) -> None:
    owner = await product.owner(900000409)
    product.fake.fail(429, method="sendMessage", retry_after=1, times=1)
    await owner.says("/bots", owner.text("You have no bots yet."))
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_messages_to_one_person_keep_telegrams_pace(start: Start, telegram: FakeTelegram) -> None:
    telegram.per_chat = 4
    async with start(overrides={"telegram": {"chat_messages_per_second": 2, "chat_burst": 1}}) as product:
        owner = await product.owner(900000417)
        factory = product.core.factory
        assert factory is not None
        assert all(await asyncio.gather(*(factory.notify(owner.user.id, f"notice {n}") for n in range(6))))
    assert len(telegram.messages(owner.user.id)) == 6
    assert not telegram.violations


async def test_a_server_error_is_tried_again_by_the_inbox(product: Product) -> None:
    owner = await product.owner(900000410)
    product.fake.fail(502, method="sendMessage", times=1)
    await owner.says("/bots", owner.text("You have no bots yet."))


async def test_updates_that_cannot_be_understood_are_put_away(product: Product) -> None:
    factory = product.core.factory
    assert factory is not None
    await factory.handle({"update_id": 1, "brand_new_kind": {"x": 1}})
    await factory.handle({"update_id": 2, "message": {"nonsense": True}})
    await factory.handle({"update_id": 3})
    owner = await product.owner(900000411)
    await owner.settled()


async def test_the_same_update_is_handled_once(product: Product) -> None:
    owner = await product.owner(900000412)
    owner.user.send(product.factory, "/bots")
    update = next(iter(product.factory.pending.values()))
    await owner.hears()
    for _ in range(5):
        product.factory.put(update)
    await owner.settled()
    shown = [m for m in product.fake.messages(owner.user.id) if owner.text("You have no bots yet.") in m.text]
    assert len(shown) == 1


async def test_a_connection_that_was_made_before_a_crash_is_told_after_it(product: Product) -> None:
    product.fake.add_bot(TENANT, "chinor_bot", name="Chinor")
    owner = await product.owner(900000413)
    # The answer was lost after the bot had been stored.
    product.fake.fail(502, method="sendMessage", times=1)
    await owner.says(
        TENANT,
        owner.text("@{username} is connected and working: it is now “{name}”.", username="chinor_bot", name="Chinor"),
    )
    assert len(await product.bots_of(owner)) == 1


async def test_notices_reach_the_owner_as_plain_text(product: Product) -> None:
    owner = await product.owner(900000414)
    factory = product.core.factory
    assert factory is not None
    await factory.notify(owner.user.id, "<b>1 < 2</b>", ("Open", "https://bot.example.uz/x"))
    message = await owner.hears("<b>1 < 2</b>")
    assert message.buttons[0]["url"] == "https://bot.example.uz/x"
    await factory.notify(owner.user.id, "text", ("Open", "http://localhost/x"))
    await owner.hears("http://localhost/x")
    await factory.notify(900009999, "nobody")


@pytest.mark.parametrize(
    ("address", "waiting", "leads_to"),
    [
        ("https://bot.example.uz", 1, "conversations/{talk}"),
        ("https://bot.example.uz", 2, "conversations?status=waiting"),
        ("http://localhost:8080", 1, ""),
        ("http://127.0.0.1:8080", 1, ""),
    ],
)
async def test_a_customer_who_asks_for_a_person_is_one_press_away(
    product: Product, address: str, waiting: int, leads_to: str
) -> None:
    owner, core = await product.owner(900000415), product.core
    tenant = await product.make_bot(owner)
    section = core.settings.server.model_copy(update={"public_url": address})
    core.settings = core.settings.model_copy(update={"server": section})
    talk = ""
    async with core.db.write() as session:
        for _ in range(waiting):
            talk = new_id()
            params = {"bot": tenant.name, "name": "Botir"}
            key = f"operator:{talk}"
            await notices.open_notice(
                session, tenant.owner_id, "operator_wanted", key=key, bot_id=tenant.id, params=params
            )
    core.bell.ring("notices")
    message = await owner.hears("Botir")
    wanted = [f"{address}/bots/{tenant.id}/{leads_to.format(talk=talk)}"] if leads_to else []
    assert [key["url"] for key in message.buttons] == wanted
    assert "localhost" not in message.text and "127.0.0.1" not in message.text


async def test_the_token_is_not_in_the_logs(
    start: Start, telegram: FakeTelegram, capfd: pytest.CaptureFixture[str]
) -> None:
    telegram.add_bot(TENANT, "chinor_bot")
    async with start() as product:
        owner = await product.owner(900000415)
        product.fake.cut("before", method="sendMessage", chat_id=owner.user.id)
        owner.user.send(product.factory, TENANT)
        await owner.settled()
        assert len(await product.bots_of(owner)) == 1
    written = "".join(capfd.readouterr())
    assert TENANT.partition(":")[2] not in written
    assert product.factory.token.partition(":")[2] not in written


async def test_the_administrator_of_the_settings_is_one(start: Start) -> None:
    async with start(ADMIN_TELEGRAM_IDS="900000416") as product:
        owner = await product.owner(900000416)
        await owner.says("/help")
        assert (await product.account(owner)).is_admin


async def test_an_account_of_the_panel_is_joined_once_and_only_after_asking(product: Product) -> None:
    owner = await product.owner(900000431)
    async with product.core.db.write() as session:
        account = await accounts.register_owner(session, email="panel@example.uz", full_name="Nodira")
        token = await accounts.login_link(session, account)
    owner.user.start(product.factory, f"in_{token}")
    question = await owner.hears(owner.text("Do this only if you pressed “Connect Telegram” in the panel yourself."))
    assert "Nodira" in question.text
    async with product.core.db.read() as session:
        assert (await session.get_one(models.User, account.id)).telegram_id is None
    await owner.presses(
        question, owner.text("Connect"), shown=owner.text("This Telegram account is now connected to the panel.")
    )
    async with product.core.db.read() as session:
        assert (await session.get_one(models.User, account.id)).telegram_id == 900000431
    other = await product.owner(900000432)
    other.user.start(product.factory, f"in_{token}")
    await other.hears(other.text("This link has been used or has expired. Ask the bot for a new one with /panel."))


async def test_an_account_is_deleted_and_kept_by_the_factory_bot(product: Product) -> None:
    owner = await product.owner(900000433, "en")
    tenant = await product.make_bot(owner)
    question = await owner.says("/delete_account", "Delete the account?")
    await owner.presses(question, "Delete my account", shown="This account will be deleted on")
    assert (await product.account(owner)).delete_at is not None
    (rests,) = await product.bots_of(owner)
    assert (rests.id, rests.status) == (tenant.id, "stopped")
    again = await owner.says("/delete_account", "This account will be deleted on")
    owner.user.start(product.factory)
    again = await owner.hears("This account will be deleted on")
    await owner.presses(again, "Keep my account", shown="Your account stays.")
    assert (await product.account(owner)).delete_at is None
    (works,) = await product.bots_of(owner)
    assert works.status == "active"


async def test_a_phone_is_confirmed_by_the_link_of_the_panel(product: Product) -> None:
    owner = await product.owner(900000434, "en")
    owner.user.start(product.factory, "phone")
    await owner.hears("this confirms it")
