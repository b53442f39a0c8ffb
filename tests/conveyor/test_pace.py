"""Telegram's limits on sending, with the settings' own numbers: what is sent keeps within them, so nothing is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, insert, select

from db import models
from db.base import utcnow
from services.channels.base import Outgoing
from services.settings import Telegram
from tests.conveyor.harness import Floor, Tenant, floor, texts
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
DEFAULT = Telegram()
PACE = DEFAULT.model_dump(include={"messages_per_second", "chat_messages_per_second", "chat_burst"})
ANSWER = "Ha, bor!"


async def _answer(place: Floor, shop: Tenant, people: Sequence[FakeUser], each: int) -> None:
    """Put ``each`` answers for everybody into the outbox at once, and wait until they are sent."""
    channel, owner = shop.shop.channel.id, shop.shop.owner.id
    item = {"channel_id": channel, "payload": json.dumps(Outgoing(ANSWER).to_payload()), "created_at": utcnow()}
    item |= {"status": "queued", "attempts": 0, "unsure": False}
    lane = {"kind": "outbox", "owner_id": owner, "pending": each, "waiting_since": 1.0}
    shop.bot.chats.update(person.id for person in people)
    keys = {person.id: f"out:{channel}:{person.id}" for person in people}

    def put(connection: Connection) -> None:
        connection.execute(insert(models.Lane), [{**lane, "key": key} for key in keys.values()])
        rows = [{**item, "lane": key, "recipient": str(number)} for number, key in keys.items() for _ in range(each)]
        connection.execute(insert(models.OutboxItem), rows)

    await place.core.db.transact(put)
    place.core.bell.ring("outbox")
    await place.fake.wait_until(lambda: len(place.fake.sent) == each * len(people), 30)
    assert texts(place.fake.sent) == [ANSWER] * each * len(people)


async def _attempts(place: Floor) -> set[int]:
    async def marked() -> bool:
        return not await place.rows(select(models.OutboxItem.id).where(models.OutboxItem.status != "sent"))

    await place.until(marked)
    return {row.attempts for row in await place.rows(select(models.OutboxItem.attempts))}


async def test_a_chat_gets_no_more_than_telegram_lets_pass(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    # A short burst passes, then one a second.
    fake.per_chat = DEFAULT.chat_burst + 1
    async with floor(tmp_path, sqlite_url, *fakes, telegram=PACE) as place:
        shop = await place.tenant(document=None)
        await _answer(place, shop, [shop.person(), shop.person()], DEFAULT.chat_burst + 3)
        assert fake.violations == 0
        assert await _attempts(place) == {1}


async def test_a_bot_sends_no_more_than_telegram_lets_pass(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    # A quiet second's share may go with the next one's; the third part is for clocks that a busy machine keeps late.
    rate = round(DEFAULT.messages_per_second)
    fake.per_bot = 3 * rate
    async with floor(tmp_path, sqlite_url, *fakes, telegram=PACE) as place:
        shop = await place.tenant(document=None)
        await _answer(place, shop, [shop.person() for _ in range(4 * rate)], 1)
        assert fake.violations == 0
        assert await _attempts(place) == {1}
