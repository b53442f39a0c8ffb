"""Rule 1 of the queues: whoever numbers an item holds its lane, so that the numbers of a lane are committed in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from sqlalchemy import select

from db import models
from db.engine import Database
from services import jobs
from tests.composition import address, make_shop
from tests.conveyor.harness import Floor, floor, new_token, until
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
LOCK = 7


class Gate:
    """Keeps a transaction waiting when it has inserted a row and not yet done anything else."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def waiting(self) -> int:
        """Return how many transactions wait for this one or for each other."""
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    async def open(self) -> None:
        """Let what waits go on."""
        await self._connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


@asynccontextmanager
async def _held(url: str, table: str, condition: str) -> AsyncIterator[Gate]:
    """Hold what inserts a row for which the condition holds."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "CREATE FUNCTION hold() RETURNS trigger AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NULL; END $$ LANGUAGE plpgsql"
        )
        await connection.execute(
            f"CREATE TRIGGER hold AFTER INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION hold()"
        )
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        yield Gate(connection)
    finally:
        await connection.close()


async def test_an_update_is_not_stored_before_an_earlier_one_of_its_talk(
    tmp_path: Path, postgres_url: str, fakes: Fakes
) -> None:
    """Two processes receive; otherwise the second message would be answered before the first."""
    fake, _ = fakes
    async with (
        floor(tmp_path, postgres_url, *fakes, role="web") as one,
        floor(tmp_path, postgres_url, *fakes, role="web") as two,
        aiohttp.ClientSession() as http,
    ):
        token = fake.add_bot(new_token()).token
        shop = await make_shop(one.core, telegram=token, document=None)
        person = fake.user(960_000_001, "uz")

        async def receive(place: Floor, number: int) -> int:
            message = {"message_id": number, "from": person.user(), "chat": person.chat(), "date": int(time.time())}
            update: dict[str, Any] = {"update_id": number, "message": {**message, "text": "Kafolat bormi?"}}
            url = f"{address(place.core)}/telegram/webhook/{shop.channel.id}"
            headers = {"X-Telegram-Bot-Api-Secret-Token": shop.channel.secret or ""}
            async with http.post(url, headers=headers, json=update) as answer:
                return answer.status

        async def stored() -> list[str]:
            return [row.external_id for row in await one.rows(item)]

        item = select(models.InboxItem.external_id).order_by(models.InboxItem.id)
        async with _held(postgres_url, "inbox", "NEW.external_id = '1'") as gate:
            first = asyncio.create_task(receive(one, 1))
            await _until_waiting(gate, 1)
            second = asyncio.create_task(receive(two, 2))
            await _until_waiting(gate, 2, second)
            assert await stored() == []
            await gate.open()
            assert list(await asyncio.gather(first, second)) == [200, 200]
            assert await stored() == ["1", "2"]


async def test_a_job_is_not_stored_before_an_earlier_one_of_its_lane(postgres_url: str) -> None:
    db = Database(postgres_url)

    async def add(key: str) -> None:
        async with db.write() as session:
            assert await jobs.add(session, "any", {}, lane="same", unique_key=key)

    async def stored() -> list[str | None]:
        async with db.read() as session:
            return list(await session.scalars(select(models.Job.unique_key).order_by(models.Job.id)))

    try:
        async with _held(postgres_url, "jobs", "NEW.unique_key = 'first'") as gate:
            first = asyncio.create_task(add("first"))
            await _until_waiting(gate, 1)
            second = asyncio.create_task(add("second"))
            await _until_waiting(gate, 2, second)
            assert await stored() == []
            await gate.open()
            await asyncio.gather(first, second)
            assert await stored() == ["first", "second"]
    finally:
        await db.close()


async def _until_waiting(gate: Gate, number: int, unless: asyncio.Task[Any] | None = None) -> None:
    """Wait until so many transactions wait, or the one that ought to has ended."""

    async def reached() -> bool:
        return await gate.waiting() == number or (unless is not None and unless.done())

    await until(reached)
