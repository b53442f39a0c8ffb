"""Bulk messages and the answers of a talk: whoever asks does not wait for a broadcast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from db import models
from db.base import utcnow
from services.channels.base import Outgoing
from tests.conveyor.harness import Floor, Tenant, floor, texts
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
MANY = 150
NEWS = "Yangi chegirmalar!"


async def _broadcast(place: Floor, shop: Tenant, people: list[FakeUser]) -> None:
    """Put one bulk message for each into the outbox, a lane a chat as everything that is sent has one."""
    channel = shop.shop.channel.id
    payload = json.dumps(Outgoing(NEWS).to_payload())
    lanes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for person in people:
        shop.bot.chats.add(person.id)
        lane = f"bulk:{channel}:{person.id}"
        owner = shop.shop.owner.id
        lanes.append({"key": lane, "kind": "bulk", "owner_id": owner, "pending": 1, "waiting_since": 1.0})
        row = {"lane": lane, "channel_id": channel, "recipient": str(person.id), "payload": payload}
        rows.append({**row, "status": "queued", "attempts": 0, "unsure": False, "created_at": utcnow()})

    def put(connection: Connection) -> None:
        connection.execute(insert(models.Lane), lanes)
        connection.execute(insert(models.OutboxItem), rows)

    await place.core.db.transact(put)
    place.core.bell.ring("bulk")


async def test_who_asks_does_not_wait_for_a_broadcast(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    pace = {"messages_per_second": 100, "bulk_share": 0.5, "chat_messages_per_second": 1000, "chat_burst": 1000}
    async with floor(tmp_path, database_url, *fakes, telegram=pace) as place:
        shop, other = await place.tenant(), await place.tenant()

        def through() -> int:
            return texts(fake.sent).count(NEWS)

        people = [shop.person() for _ in range(MANY)]
        await _broadcast(place, shop, people)
        await fake.wait_until(lambda: through() >= 5)
        # One of those who are still to get the news, somebody else, and the customer of another bot.
        asked = [shop.ask(people[-1]), shop.ask(shop.person())]
        times = await shop.answered(asked)
        elsewhere = other.ask(other.person())
        times += await other.answered([elsewhere])
        assert set(times.values()) == {1}
        assert through() < MANY - 20
        await fake.wait_until(lambda: through() == MANY, 30)
        assert {len(fake.messages(person.id)) for person in people[:-1]} == {1}

        async def marked() -> bool:
            statuses = select(models.OutboxItem.status).where(models.OutboxItem.lane.startswith("bulk:"))
            return [row.status for row in await place.rows(statuses)] == ["sent"] * MANY

        await place.until(marked)
        assert not await place.notices(shop)
