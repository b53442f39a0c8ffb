"""SQLite's file is locked by another program for longer than a unit waits: refused honestly, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from db.engine import Database
from services import start
from tests.composition import address
from tests.conveyor.harness import floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram


async def test_a_lock_that_outlasts_the_patience_is_refused_and_survived(
    tmp_path: Path, sqlite_url: str, fakes: tuple[FakeTelegram, FakeModels], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, fake_models = fakes
    monkeypatch.setattr(start, "Database", partial(Database, busy_timeout_s=1))
    async with floor(tmp_path, sqlite_url, *fakes, role="all") as place:
        shop = await place.tenant()
        person = shop.person()
        await shop.answered([shop.ask(person)])
        # Accepted, and answered by the model only while nothing can be stored.
        answering = fake_models.hold()
        accepted = [shop.ask(shop.person()) for _ in range(3)]
        await fake.wait_delivered(shop.bot)
        await answering.reached.wait()
        headers = {"X-Telegram-Bot-Api-Secret-Token": shop.shop.channel.secret}
        async with aiohttp.ClientSession(address(place.core), headers=headers) as http:

            async def post(update_id: int) -> int:
                number = 955_000 + update_id
                shop.asked[number] = person
                message = {"message_id": 1, "from": person.user(), "chat": person.chat(), "date": int(time.time())}
                update = {"update_id": update_id, "message": {**message, "text": f"Kafolat bormi №{number}"}}
                async with http.post(f"/telegram/webhook/{shop.shop.channel.id}", json=update) as got:
                    return got.status

            async def health() -> int:
                async with http.get("/healthz") as got:
                    return got.status

            lock = sqlite3.connect(tmp_path / "botfactory.db", isolation_level=None, check_same_thread=False)
            # In a thread: a unit of the product may be open in this loop and must be able to end first.
            await asyncio.to_thread(lock.execute, "BEGIN IMMEDIATE")
            fake_models.release()
            polled = shop.ask(person)
            refused = [asyncio.create_task(post(number)) for number in range(1, 11)]
            assert await health() == 200
            # Whoever asks is told after the patience has ended, and not that it was stored.
            assert set(await asyncio.gather(*refused)) == {503}
            assert await health() == 200
            assert len(shop.bot.pending) == 1
            assert not set(shop.times()) & {polled, *accepted}
            assert not place.core.tasks.failed.done()
            lock.execute("ROLLBACK")
            lock.close()
            # Telegram delivers again what was refused.
            assert set(await asyncio.gather(*(post(number) for number in range(1, 11)))) == {200}
        times = await shop.answered()
        assert set(times.values()) == {1}
        await fake.wait_delivered(shop.bot)
        assert not await place.notices(shop)
