"""What comes back: a process that died while a model answered, an update after a week, connections that were taken away."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from sqlalchemy import func, select, text, update

from db import models
from db.engine import Database, DatabaseUnavailable
from services import upkeep
from tests.composition import address
from tests.conveyor.harness import Floor, Tenant, floor, settings_for, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import Postgres, migrate, new_folder, run_sql

Fakes = tuple[FakeTelegram, FakeModels]
MOST_CONNECTIONS = 12


async def test_killed_while_the_model_answers_it_is_asked_again_and_the_customer_told_once(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    patient = {"first_byte_s": 600, "deadline_s": 600}
    settings = settings_for(tmp_path, database_url, fake, fake_models, ai=patient)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    child = await children.start(settings)
    fake_models.latency_s = 3600
    people = [shop.person() for _ in range(3)]
    for person in people:
        shop.ask(person)

    async def asked() -> bool:
        return len(fake_models.requests) == len(people)

    await until(asked)
    await fake.wait_delivered(shop.bot)
    await child.kill()
    fake_models.latency_s = 0
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        times = await shop.answered()
        # What is asked after it comes after it.
        for person in people:
            shop.ask(person)
        times = await shop.answered()
        assert set(times.values()) == {1}
        assert shop.in_order()
        # The call that was cut off is made again, and only that.
        assert len(fake_models.requests) == 3 * len(people)
        first = models.InboxItem.id <= len(people)
        rows = await place.rows(select(models.InboxItem.status, models.InboxItem.attempts).where(first))
        assert rows == [("done", 2)] * len(people)
        by_author = select(models.Message.author, func.count()).group_by(models.Message.author)
        said = dict(map(tuple, await place.rows(by_author)))
        assert said == {"customer": 2 * len(people), "bot": 2 * len(people)}
        assert await place.one(select(func.count()).select_from(models.AIUsage)) == 2 * len(people)


async def test_an_update_that_is_delivered_again_after_a_week_is_not_answered_again(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    week = dt.timedelta(days=7)
    async with floor(tmp_path, database_url, *fakes) as place:
        shop = await place.tenant()
        person = shop.person()
        number = shop.ask(person)
        again = list(shop.bot.pending.values())[-1]
        await shop.answered([number])
        other = shop.ask(person)
        forgotten = list(shop.bot.pending.values())[-1]
        await shop.answered([other])

        async def done() -> bool:
            statuses = await place.rows(select(models.InboxItem.status))
            return [row.status for row in statuses] == ["done", "done"]

        await place.until(done)
        item = models.InboxItem
        old = update(item).where(item.external_id == str(again["update_id"]))
        older = update(item).where(item.external_id == str(forgotten["update_id"]))
        now = dt.datetime.now(dt.UTC)
        async with place.core.db.write() as session:
            await session.execute(old.values(received_at=now - week))
            await session.execute(older.values(received_at=now - 2 * week))
        await upkeep.clean_up(place.core, {})
        # Kept for so long, and no longer.
        kept = await place.rows(select(item.external_id))
        assert [row.external_id for row in kept] == [str(again["update_id"])]
    async with floor(tmp_path, database_url, *fakes) as place:
        shop.bot.put(again)
        last = shop.ask(person)
        await shop.answered([last])
        await shop.fake.wait_delivered(shop.bot)
        assert set(shop.times().values()) == {1}
        asked = select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
        assert await place.one(asked) == 3


def _answered(shop: Tenant, many: int) -> bool:
    return sum(shop.times().values()) >= many


async def test_few_connections_that_are_cut_again_and_again_lose_and_repeat_nothing(
    tmp_path: Path, postgres_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    fake_models.latency_s = 0.02
    queue = {"lease_s": 1, "idle_poll_s": 0.05, "max_attempts": 20}
    few = {"pool_size": 2}
    killer = Database(postgres_url, pool_size=1)
    others = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        async with floor(tmp_path, postgres_url, *fakes, database=few, queue=queue) as place:
            shop = await place.tenant()
            people = [shop.person() for _ in range(30)]
            cut = 0
            for _ in range(4):
                enough = sum(shop.times().values()) + 4
                for person in people:
                    shop.ask(person)
                # In the middle of it: some have their answers, others are on their way.
                await fake.wait_until(partial(_answered, shop, enough), 30)
                async with killer.read() as session:
                    cut += int(await session.scalar(others) or 0)
            assert cut > 4
            times = await shop.answered(timeout=60)
            assert set(times.values()) == {1}
            assert shop.in_order()
            assert not place.core.tasks.failed.done()
            asked = select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
            assert await place.one(asked) == len(shop.asked)
            assert not await place.notices(shop)
    finally:
        await killer.close()


@pytest.fixture(scope="module")
def small_server() -> Iterator[Postgres]:
    """A PostgreSQL that takes few connections."""
    folder = new_folder()
    server = Postgres(folder)
    server.start()
    run_sql(folder / "data", f"ALTER SYSTEM SET max_connections = {MOST_CONNECTIONS}")
    server.stop()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def _take_all(server: Postgres) -> list[asyncpg.Connection]:
    """Take every connection that the server has, those of others included."""
    mine: list[asyncpg.Connection] = []
    while len(mine) < MOST_CONNECTIONS:
        try:
            mine.append(await asyncpg.connect(server.url()))
        except asyncpg.TooManyConnectionsError:
            pids = [connection.get_server_pid() for connection in mine]
            await mine[0].execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> ALL($1)", pids)
    return mine


async def test_a_server_without_a_free_connection_is_said_so_and_waited_for(
    tmp_path: Path, small_server: Postgres, fakes: Fakes
) -> None:
    await asyncio.to_thread(migrate, small_server.url())
    queue = {"lease_s": 1, "idle_poll_s": 0.05}
    async with floor(tmp_path, small_server.url(), *fakes, role="all", queue=queue) as place:
        shop = await place.tenant()
        people = [shop.person() for _ in range(10)]
        await shop.answered([shop.ask(person) for person in people])
        taken = await _take_all(small_server)
        try:
            waiting = [shop.ask(person) for person in people]
            with pytest.raises(DatabaseUnavailable):
                await place.one(select(models.Bot.id))
            assert await _statuses(place, shop) == {"/healthz": 200, "/readyz": 503, "/api/v1/bots": 503}
            assert len(shop.bot.pending) == len(waiting)
            assert not place.core.tasks.failed.done()
        finally:
            for connection in taken:
                await connection.close()
        times = await shop.answered(timeout=60)
        assert set(times.values()) == {1}
        assert shop.in_order()
        assert set((await _statuses(place, shop)).values()) == {200}


async def _statuses(place: Floor, shop: Tenant) -> dict[str, int]:
    headers = {"Authorization": f"Bearer {shop.shop.token}"}
    async with aiohttp.ClientSession(address(place.core), headers=headers) as session:
        return {path: (await session.get(path)).status for path in ("/healthz", "/readyz", "/api/v1/bots")}
