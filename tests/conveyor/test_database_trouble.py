"""A database that is locked, gone or full: no false acknowledgement, the process lives, and nothing is lost."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, select

from db import models
from tests.conveyor.harness import floor, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import Postgres, migrate, new_folder

Fakes = tuple[FakeTelegram, FakeModels]


async def test_a_locked_database_delays_and_loses_nothing(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        people = [shop.person() for _ in range(10)]
        await shop.answered([shop.ask(person) for person in people])
        lock = sqlite3.connect(tmp_path / "botfactory.db", isolation_level=None, check_same_thread=False)
        # In a thread: a unit of the product may be open in this loop and must be able to end first.
        await asyncio.to_thread(lock.execute, "BEGIN IMMEDIATE")
        polls = len(fake.called("getUpdates", shop.bot))
        numbers = [shop.ask(person) for person in people]
        # The poll has its answer, yet the next one, which would confirm it, is not asked while nothing can be stored.
        await asyncio.sleep(1)
        assert len(shop.bot.pending) == len(numbers)
        assert len(fake.called("getUpdates", shop.bot)) == polls
        assert not place.core.tasks.failed.done()
        lock.execute("ROLLBACK")
        lock.close()
        times = await shop.answered(numbers)
        assert set(times.values()) == {1}
        assert shop.in_order()


async def test_a_full_disk_is_refused_honestly_and_survived(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, sqlite_url, fake, fake_models)
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        shop = await place.tenant()
    child = await children.start(settings, role="all")
    host, port = child.events[-1]["address"]
    person = shop.person()
    await shop.answered([shop.ask(person)])
    hook = f"http://{host}:{port}/telegram/webhook/{shop.shop.channel.id}"
    headers = {"X-Telegram-Bot-Api-Secret-Token": shop.shop.channel.secret}
    async with aiohttp.ClientSession() as session:

        async def post(update_id: int) -> int:
            number = 950_000 + update_id
            shop.asked[number] = person
            message: dict[str, Any] = {"message_id": 1, "from": person.user(), "chat": person.chat(), "date": 2**31}
            message["text"] = f"Muzlatgichlarga kafolat bormi №{number}"
            async with session.post(hook, headers=headers, json={"update_id": update_id, "message": message}) as got:
                return got.status

        assert await post(1) == 200
        await shop.answered()
        unlimited = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        assert [await post(number) for number in (2, 3)] == [503, 503]
        polled = shop.ask(person)
        async with session.get(f"http://{host}:{port}/healthz") as got:
            assert got.status == 200
        async with session.get(f"http://{host}:{port}/readyz") as got:
            assert got.status in (200, 503)
        assert len(shop.bot.pending) == 1
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, unlimited)
        # Telegram delivers again what was refused.
        assert [await post(number) for number in (2, 3)] == [200, 200]
        times = await shop.answered()
        assert times[polled] == 1 and set(times.values()) == {1}
    await child.stop()


async def test_postgresql_stops_under_load_and_returns(tmp_path: Path, fakes: Fakes) -> None:
    fake, fake_models = fakes
    folder = new_folder()
    server = Postgres(folder)
    # Not in a thread: the server ends with the thread that started it.
    server.start()
    try:
        await asyncio.to_thread(migrate, server.url())
        lease = {"lease_s": 1, "idle_poll_s": 0.05}
        async with floor(tmp_path, server.url(), fake, fake_models, queue=lease) as place:
            shop = await place.tenant()
            people = [shop.person() for _ in range(20)]
            await shop.answered([shop.ask(person) for person in people])
            hold = fake.hold(bot=shop.bot)
            sending = [shop.ask(person) for person in people]

            async def all_held() -> bool:
                return hold.hits == len(people)

            await place.until(all_held)
            answering = fake_models.hold()
            asking = [shop.ask(shop.person()) for _ in range(10)]
            await fake.wait_delivered(shop.bot)
            await answering.reached.wait()
            await asyncio.to_thread(server.stop, at_once=True)
            fake_models.release()
            refused = [shop.ask(person) for person in people]
            # Longer than the leases hold: what is in hand must not be taken a second time afterwards.
            await asyncio.sleep(1.2)
            assert len(shop.bot.pending) == len(refused)
            assert not place.core.tasks.failed.done()
            server.start()
            await fake.wait_delivered(shop.bot, 30)

            async def all_answered() -> bool:
                return not await place.one(select(models.InboxItem.id).where(models.InboxItem.status == "new").limit(1))

            await place.until(all_answered)
            fake.clear_faults()
            times = await shop.answered()
            assert set(times.values()) == {1}, {n: times[n] for n in (*sending, *asking, *refused) if times[n] != 1}
            assert shop.in_order()
            unsure = select(func.count()).select_from(models.OutboxItem).where(models.OutboxItem.unsure)
            assert await place.one(unsure) == 0
    finally:
        await asyncio.to_thread(server.stop)
        shutil.rmtree(folder, ignore_errors=True)
