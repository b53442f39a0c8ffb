"""What owners and administrators hear from the main bot: once, in time, and whatever happens on the way."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update

from db import models
from db.base import utcnow
from services import notice_texts, notices, overrides
from services.i18n import translate
from tests.handlers.conftest import Person, Product, Start


async def _opened(product: Product, person: Person, kind: str, keys: list[str]) -> None:
    tenant = await product.make_bot(person)
    async with product.core.db.write() as session:
        for key in keys:
            params = {"bot": tenant.name, "name": f"Mijoz {key}"}
            await notices.open_notice(session, tenant.owner_id, kind, key=key, bot_id=tenant.id, params=params)


async def test_one_owner_holds_nobody_elses_notices_back(product: Product) -> None:
    busy, other = await product.owner(900000701), await product.owner(900000702)
    await _opened(product, busy, "operator_wanted", [f"operator:{n}" for n in range(30)])
    first = await notices.deliver(product.core)
    # Told a moment ago: what comes now waits, however much it is.
    account = await product.account(busy)
    async with product.core.db.write() as session:
        bot_id = await session.scalar(select(models.Bot.id).where(models.Bot.owner_id == account.id))
        for n in range(600):
            await notices.open_notice(session, account.id, "operator_wanted", key=f"operator:x{n}", bot_id=bot_id)
    await _opened(product, other, "token_refused", ["channel:1"])
    await notices.deliver(product.core)
    await other.hears("Chinor Stom")
    assert first == 1
    message = await busy.hears("Mijoz operator:0")
    assert len(message.text) < 4000
    assert translate("uz", "More notices: {n}. You find them in the panel.", n=20) in message.text
    assert len(product.fake.messages(busy.user.id)) == 1


async def test_a_notice_that_did_not_arrive_is_told_again(product: Product) -> None:
    owner = await product.owner(900000703)
    product.fake.fail(502, "Bad Gateway", method="sendMessage", chat_id=owner.user.id, times=None)
    await _opened(product, owner, "token_refused", ["channel:2"])
    await notices.deliver(product.core)
    assert product.fake.called("sendMessage")
    product.fake.clear_faults()
    await notices.deliver(product.core)
    await owner.hears("Chinor Stom")
    await notices.deliver(product.core)
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_a_notice_comes_in_an_administrators_own_words(product: Product) -> None:
    owner = await product.owner(900000790)
    async with product.core.db.write() as session:
        person = await session.get_one(models.User, (await product.account(owner)).id)
        words, now = "“{bot}” jim: tokenni yangilang. <b>", utcnow()
        await notice_texts.save(session, person, "token_refused", "uz", words, now=now)
    await overrides.take_effect(product.core)
    await _opened(product, owner, "token_refused", ["channel:9"])
    await notices.deliver(product.core)
    await owner.hears("“Chinor Stom” jim: tokenni yangilang. <b>")
    async with product.core.db.write() as session:
        await notice_texts.reset(session, person, "token_refused", "uz")
    await overrides.take_effect(product.core)


async def test_todays_limit_is_told_once_a_day(product: Product) -> None:
    owner = await product.owner(900000704)
    for _ in range(2):
        await _opened(product, owner, "over_limit", ["limit:1"])
        await notices.deliver(product.core)
        async with product.core.db.write() as session:
            long_ago = utcnow() - 2 * notices.REMIND_AFTER
            await session.execute(update(models.Notice).values(told_at=long_ago))
    assert len(product.fake.messages(owner.user.id)) == 1


async def test_an_own_key_is_named_by_its_bot_and_putting_a_trouble_away_does_not_end_it(product: Product) -> None:
    owner = await product.owner(900000708, "en")
    tenant, account = await product.make_bot(owner), await product.account(owner)

    async def happens(key: str) -> None:
        params = {"bot": tenant.name, "provider": "OpenAI"}
        async with product.core.db.write() as session:
            await notices.open_notice(session, account.id, "key_no_money", key=key, bot_id=tenant.id, params=params)

    async def puts_away() -> None:
        async with product.core.db.write() as session:
            for notice in await notices.open_for(session, account):
                await notices.dismiss(session, account, notice.id)

    await happens("key:openai:before")
    await puts_away()
    # Seen in the panel before it was told here: not said once more.
    assert await notices.deliver(product.core) == 0
    await happens("key:openai:now")
    await notices.deliver(product.core)
    told = await owner.hears("⚠️ “Chinor Stom”: OpenAI does not answer, the money or the spending limit")
    assert told.text.count("⚠️") == 1
    await puts_away()
    async with product.core.db.write() as session:
        long_ago = utcnow() - 2 * notices.REMIND_AFTER
        await session.execute(update(models.Notice).where(models.Notice.told_at.is_not(None)).values(told_at=long_ago))
        await notices.solve(session, "key:openai:now")
    await notices.deliver(product.core)
    await owner.hears("✅ “Chinor Stom”: the trouble with its own OpenAI key is over.")
    assert len(product.fake.messages(owner.user.id)) == 2


@pytest.mark.parametrize(
    ("kinds", "label", "place"),
    [
        (["token_refused"], "Open the channels", "/channels"),
        (["document_failed"], "Open the documents", "/documents"),
        (["send_failed"], "Open the conversation", "/conversations/talk0"),
        (["message_failed", "send_failed"], "Open the conversations", "/conversations"),
        (["key_no_money"], "Open the bot’s settings", ""),
        (["over_limit", "document_failed"], "Open the documents", "/documents"),
        (["document_failed", "customer_wrote"], "Open the conversation", "/conversations/talk1"),
        (["over_limit"], None, None),
        (["channel_recovered"], None, None),
    ],
)
async def test_a_notice_has_a_button_to_where_it_sends_its_reader(
    product: Product, kinds: list[str], label: str | None, place: str | None
) -> None:
    owner, core = await product.owner(900000709, "en"), product.core
    tenant = await product.make_bot(owner)
    _public(product, "https://bot.example.uz")
    async with core.db.write() as session:
        for number, kind in enumerate(kinds):
            talk = f"talk{number}"
            key = notices.talk_key(talk) if kind == "customer_wrote" else f"{kind}:1"
            params = {"bot": tenant.name, "name": "Botir", "document": "narxlar.csv", "provider": "OpenAI"}
            if kind in ("send_failed", "message_failed"):
                params["conversation"] = talk
            await notices.open_notice(session, tenant.owner_id, kind, key=key, bot_id=tenant.id, params=params)
    await notices.deliver(core)
    message = await owner.hears()
    wanted = [(label, f"https://bot.example.uz/bots/{tenant.id}{place}")] if label else []
    assert [(key["text"], key["url"]) for key in message.buttons] == wanted


async def test_what_is_about_no_bot_has_a_button_to_the_panel(product: Product) -> None:
    admin = await product.owner(900000710, "en")
    account = await product.account(admin)
    _public(product, "https://bot.example.uz")
    async with product.core.db.write() as session:
        params = {"provider": "OpenAI"}
        await notices.open_notice(session, account.id, "key_refused", key="key:openai", params=params)
    await notices.deliver(product.core)
    button = (await admin.hears("OpenAI")).button("Open the panel")
    assert button["url"] == "https://bot.example.uz/dashboard"


def _public(product: Product, address: str) -> None:
    """Let the panel be at an address that people can open; updates still come by polling."""
    section = product.core.settings.server.model_copy(update={"public_url": address})
    product.core.settings = product.core.settings.model_copy(update={"server": section})


async def test_an_answer_that_was_cut_off_is_not_said_again(product: Product) -> None:
    owner = await product.owner(900000705)
    product.fake.cut("after", chat_id=owner.user.id)
    await owner.says("/help")
    await owner.settled()
    assert len([sent for sent in product.fake.messages(owner.user.id) if "/newbot" in sent.text]) == 1


async def test_a_message_that_always_fails_is_told_to_both_and_spoils_no_other(start: Start) -> None:
    async with start(overrides={"queue": {"max_attempts": 2}}, ADMIN_TELEGRAM_IDS="900000706") as product:
        admin, owner = await product.owner(900000706), await product.owner(900000707)
        await admin.says("/help")
        tenant = await product.make_bot(owner)
        async with product.core.db.write() as session:
            # No handler can show this bot.
            await session.execute(text("UPDATE bots SET languages = '{' WHERE id = :id"), {"id": tenant.id})
        answering = product.fake.hold(chat_id=owner.user.id)
        owner.user.send(product.factory, "/help")
        await answering.reached.wait()
        # Both are taken together, once the first is done.
        owner.user.send(product.factory, "/bots")
        owner.user.send(product.factory, "/language")
        await product.fake.wait_delivered(product.factory)
        product.fake.clear_faults()
        await owner.hears("🌐 " + owner.text("Choose the language"))
        sorry = "Sorry, something went wrong with your last message 🙏 Please try again; /cancel begins anew."
        assert [sent.text for sent in product.fake.messages(owner.user.id)].count(owner.text(sorry)) == 1
        await notices.deliver(product.core)
        await admin.hears(
            admin.text(
                "A message to the main bot could not be handled: {reason}. The log tells more.",
                reason="JSONDecodeError",
            )
        )
        # In the same lane: when this is answered, those before it are settled.
        await owner.settled()
        last = select(models.InboxItem.status, models.InboxItem.attempts).order_by(models.InboxItem.id.desc())
        async with product.core.db.read() as session:
            assert (await session.execute(last.offset(1).limit(2))).all() == [("done", 1), ("dead", 2)]
