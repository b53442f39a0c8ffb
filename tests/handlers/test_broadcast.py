"""``/broadcast`` in the factory bot: written, tried, counted, sent and followed, and nobody else's."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from db import models
from db.base import utcnow
from handlers.callbacks import News
from services.conversations import optouts
from services.i18n import translate
from tests.conveyor.harness import until
from tests.handlers.conftest import TENANT, Person, Product
from tests.handlers.test_menus import OLD_MENU
from tests.web.panel import web_talk

pytestmark = pytest.mark.usefixtures("hurry")
TEXT = "Bugun barcha somsalarga 20 foiz chegirma!"


def _said(person: Person, msgid: str, **params: object) -> str:
    return translate(person.language, msgid, **params)


async def _one(product: Product, bot: models.Bot) -> models.Broadcast | None:
    async with product.core.db.read() as session:
        found: models.Broadcast | None = await session.scalar(
            select(models.Broadcast).where(models.Broadcast.bot_id == bot.id)
        )
    return found


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
async def test_written_tried_sent_and_followed(product: Product, language: str) -> None:
    owner = await product.owner(900001001, language)
    tenant = product.fake.add_bot(TENANT, "chinor_bot")
    bot = await product.make_bot(owner, token=TENANT)
    # The owner has talked to the own bot, and a customer on the site.
    owner.user.send(tenant, "/start")
    await product.fake.wait_message(owner.user.id, bot=tenant)
    async with product.core.db.write() as session:
        await web_talk(session, bot, "Gulbahor", last_inbound_at=utcnow())
    menu = await owner.says("/broadcast", "Chinor")
    assert all(len(each["callback_data"].encode()) <= 64 for each in menu.buttons)
    press = owner.user.press(menu, _said(owner, "New broadcast"))
    await product.answered(press)
    # Whoever thinks better of it, or goes elsewhere, writes to nobody.
    await owner.says("/cancel", _said(owner, "No broadcast was written."))
    assert await _one(product, bot) is None
    press = owner.user.press(menu, _said(owner, "New broadcast"))
    await product.answered(press)
    draft = await owner.says(TEXT, TEXT)
    assert "2" in draft.text and all(len(each["callback_data"].encode()) <= 64 for each in draft.buttons)
    test = owner.user.press(draft, _said(owner, "Send a test to me"))
    await product.answered(test)
    assert test.text == _said(owner, "Sent to you alone: your bot writes to you now.")
    tried = await product.fake.wait_message(owner.user.id, TEXT, bot=tenant)
    assert tried.text.endswith(translate("uz", optouts.LINE.msgid))
    await owner.presses(draft, _said(owner, "Send …"))
    sure = next(each["text"] for each in draft.buttons)
    assert "2" in sure
    await owner.presses(draft, sure)

    async def done() -> bool:
        found = await _one(product, bot)
        return found is not None and found.status == "done"

    await until(done)
    async with product.core.db.read() as session:
        messages = await session.scalars(select(models.Message).where(models.Message.author == "system"))
        assert [each.text.count(TEXT) for each in messages if each.extra] == [1, 1, 1]


async def test_what_reaches_nobody_is_not_offered(product: Product) -> None:
    owner = await product.owner(900001021, "en")
    await product.make_bot(owner)
    menu = await owner.says("/broadcast", "Chinor")
    await product.answered(owner.user.press(menu, _said(owner, "New broadcast")))
    draft = await owner.says(TEXT, TEXT)
    assert "Nobody has written to this bot yet" in draft.text
    assert not any("Send …" in each["text"] for each in draft.buttons)


async def test_another_owners_broadcast_is_not_there(product: Product) -> None:
    owner, stranger = await product.owner(900001011, "en"), await product.owner(900001012, "en")
    bot = await product.make_bot(owner)
    async with product.core.db.write() as session:
        row = models.Broadcast(bot_id=bot.id, title="Mine", texts={"uz": TEXT})
        session.add(row)
    menu = await stranger.says("/broadcast")
    assert "Mine" not in menu.text
    for do in ("bot", "open", "test", "send", "sure", "stop", "drop", "gone"):
        press = stranger.user.press(menu, News(do=do, bot=bot.id, news=row.id).pack(), stale=True)
        await product.answered(press)
        assert press.text == translate("en", OLD_MENU), do
    found = await _one(product, bot)
    assert found is not None and found.status == "draft"


async def test_a_draft_is_deleted_after_a_question(product: Product) -> None:
    owner = await product.owner(900001021, "en")
    bot = await product.make_bot(owner)
    menu = await owner.says("/broadcast", "Chinor")
    await product.answered(owner.user.press(menu, _said(owner, "New broadcast")))
    draft = await owner.says(TEXT, TEXT)
    await owner.presses(draft, _said(owner, "Delete"))
    assert await _one(product, bot) is not None and TEXT in draft.text
    await owner.presses(draft, _said(owner, "Yes, delete"))
    assert await _one(product, bot) is None
