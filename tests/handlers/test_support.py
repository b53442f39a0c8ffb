"""Support in the factory bot: an owner’s lines arrive once, administrators answer by a reply, nothing gets lost on the way."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import notices, support
from tests.conveyor.harness import until
from tests.handlers.conftest import Person, Product
from tests.handlers.test_menus import labels

pytestmark = pytest.mark.usefixtures("hurry")


async def _boss(product: Product, number: int) -> Person:
    boss = await product.owner(number, "en", "Boss")
    account = await product.account(boss)
    async with product.core.db.write() as session:
        await session.execute(update(models.User).where(models.User.id == account.id).values(role="admin"))
    return boss


async def _lines(product: Product, owner: Person) -> list[models.SupportMessage]:
    account, line = await product.account(owner), models.SupportMessage
    async with product.core.db.read() as session:
        return list(await session.scalars(select(line).where(line.owner_id == account.id).order_by(line.id)))


async def _writes(product: Product, owner: Person, *said: str) -> None:
    """Write to support and leave it."""
    await owner.says("/support", "Write to support")
    for text in said:
        await owner.says(text, "Sent to support")


async def test_an_owner_writes_and_gets_the_administrators_reply(product: Product) -> None:
    boss, owner = await _boss(product, 900000951), await product.owner(900000952, "en", "Aziza <i>")
    await _writes(product, owner, "To‘lov <b>o‘tmadi</b>")
    told = await boss.hears("writes to support")
    assert "Aziza <i>" in told.text and "To‘lov <b>o‘tmadi</b>" in told.text
    # Further lines come together, later; what the owner does elsewhere is no line.
    await owner.says("Yana savol", "Sent to support")
    await owner.says("/cancel", "no longer writing to support")
    await owner.says("Bu support uchun emas")
    assert [each.text for each in await _lines(product, owner)] == ["To‘lov <b>o‘tmadi</b>", "Yana savol"]
    await support.deliver(product.core)
    assert len([each for each in product.fake.messages(boss.user.id) if "writes to support" in each.text]) == 1
    async with product.core.db.write() as session:
        past = utcnow() - 2 * dt.timedelta(seconds=notices.GROUP_S)
        await session.execute(update(models.SupportPost).values(created_at=past))
    await support.deliver(product.core)
    again = await boss.hears("Yana savol")
    assert "o‘tmadi" not in again.text
    # By a reply to either message.
    boss.user.send(product.factory, "Kartani <tekshiring>", reply_to=told)
    await boss.hears("Your answer goes to the owner")
    answer = await owner.hears("Support answers")
    assert "Kartani <tekshiring>" in answer.text and "Write more" in str(labels(answer))
    await until(lambda: _sent(product, owner), 20)
    # The button under the answer goes on.
    press = owner.user.press(answer, "Write more")
    await product.answered(press)
    await owner.hears("Write to support")
    await owner.says("Rahmat", "Sent to support")
    assert [(each.by_admin, each.text) for each in await _lines(product, owner)][-2:] == [
        (True, "Kartani <tekshiring>"),
        (False, "Rahmat"),
    ]


async def _sent(product: Product, owner: Person) -> bool:
    return [each.telegram for each in await _lines(product, owner) if each.by_admin] == ["sent"]


async def test_a_second_delivery_and_a_failing_telegram(product: Product) -> None:
    boss, owner = await _boss(product, 900000953), await product.owner(900000954, "en")
    await _writes(product, owner)
    await owner.says("Birinchi", "Sent to support")
    account, admin = await product.account(owner), await product.account(boss)
    now = product.core.now()
    async with product.core.db.write() as session:
        source = (await session.scalars(select(models.SupportMessage.source))).one()
        assert source is not None and re.fullmatch(r"telegram:\d+:\d+", source)
        assert await support.ask(session, account, "Birinchi", source=source, now=now) is None
    product.fake.fail(502, "Bad Gateway", method="sendMessage", chat_id=owner.user.id, times=None)
    async with product.core.db.write() as session:
        for text in ("bir", "ikki"):
            await support.answer(session, admin, account.id, text, source=None, now=now)
    await support.deliver(product.core)
    waiting = [each for each in await _lines(product, owner) if each.by_admin]
    assert [(each.telegram, each.attempts) for each in waiting] == [("waiting", 1), ("waiting", 0)]
    # What comes later does not overtake; when its time has come both go, in order and once.
    product.fake.clear_faults()
    await support.deliver(product.core)
    assert not [each for each in product.fake.messages(owner.user.id) if "ikki" in each.text]
    async with product.core.db.write() as session:
        await session.execute(update(models.SupportMessage).values(run_at=now))
    for _ in range(2):
        await support.deliver(product.core)
    said = [each.text for each in product.fake.messages(owner.user.id) if "Support answers" in each.text]
    assert [text.split("\n")[-1] for text in said] == ["bir", "ikki"]
    assert all(each.telegram == "sent" for each in await _lines(product, owner) if each.by_admin)


async def test_pictures_strangers_and_a_blocked_bot(product: Product) -> None:
    boss, owner = await _boss(product, 900000955), await product.owner(900000956, "en")
    await _writes(product, owner, "Salom")
    owner.user.send_photo(product.factory) if hasattr(owner.user, "send_photo") else None
    told = await boss.hears("writes to support")
    # Not an administrator: a reply to a message with that number is a text like any other.
    owner.user.send(product.factory, "Men adminman", reply_to=told)
    await owner.hears("Sent to support")
    assert not [each for each in await _lines(product, owner) if each.by_admin]
    product.fake.fail(
        403, "Forbidden: bot was blocked by the user", method="sendMessage", chat_id=owner.user.id, times=None
    )
    boss.user.send(product.factory, "Salom!", reply_to=told)
    await boss.hears("Your answer goes to the owner")

    async def failed() -> bool:
        return [each.telegram for each in await _lines(product, owner) if each.by_admin] == ["failed"]

    await until(failed, 20)
