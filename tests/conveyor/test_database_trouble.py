"""A database that is locked, gone or full: no false acknowledgement, the process lives, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services import accounts, upkeep
from tests.conveyor.harness import floor, settings_for, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import Postgres, Run, migrate, new_folder
from tests.web.panel import open_site

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
        upkeep.keep_reserve(place.core)
        reserve = upkeep.reserve_file(place.core)
        document = await place.one(select(models.Document.id).where(models.Document.bot_id == shop.shop.bot.id))
    assert reserve.stat().st_blocks * 512 >= settings.database.reserve_mib * 2**20
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
        # Whoever goes by this answer goes on sending people: what is there can be read.
        async with session.get(f"http://{host}:{port}/readyz") as got:
            assert (got.status, (await got.json())["parts"]["database"]) == (200, "ok")
        assert len(shop.bot.pending) == 1
        documents = f"http://{host}:{port}/api/v1/bots/{shop.shop.bot.id}/documents"
        own = {"Authorization": f"Bearer {shop.shop.token}"}
        form = aiohttp.FormData()
        form.add_field("file", b"Narxi 5000 so'm", filename="b.txt")
        async with session.post(documents, headers=own, data=form) as got:
            assert got.status == 503
        assert reserve.exists()
        async with session.delete(f"{documents}/{document}", headers=own) as got:
            # Given up, though here it could not help: this limit counts each file for itself.
            assert got.status == 503
        assert not reserve.exists()
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, unlimited)
        # Telegram delivers again what was refused.
        assert [await post(number) for number in (2, 3)] == [200, 200]
        times = await shop.answered()
        assert times[polled] == 1 and set(times.values()) == {1}
    await child.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_deleting_works_on_a_disk_that_documents_have_filled(
    small_disk: Path, servers_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RESERVE_FIRST_S", 0)
    url, sections = servers_run.new_sqlite(small_disk), {"database": {"reserve_mib": 16}}
    reserve = small_disk / "botfactory.db-reserve"

    async def kept() -> bool:
        return reserve.exists()

    def content(number: int) -> tuple[str, bytes]:
        return f"{number}.pdf", b"%PDF-1.4" + bytes(3_000_000)

    async with open_site(small_disk, url, overrides=sections) as site:
        await until(kept)
        owner = await site.person("Full")
        bot = await site.bot_of(owner)
        browser = await site.signed_in(owner)
        page = f"/bots/{bot.id}/documents"
        taken = 0
        while (status := (await browser.upload(page, *content(taken))).status) == 303:
            taken += 1
        assert status == 503 and taken > 3
    # Started anew, so that SQLite's log is short: what it has grown to it can fill again.
    async with open_site(small_disk, url, overrides=sections) as site:
        browser = await site.signed_in(owner)
        async with site.core.db.write() as session:
            for device in await accounts.sessions(session, owner):
                device.last_seen_at = utcnow() - 2 * accounts.SEEN_EVERY
            rows = await session.scalars(select(models.Document.id).where(models.Document.bot_id == bot.id))
            first, second, *_ = rows
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as rest:
            while rest.write(bytes(512)):
                pass
        assert (await browser.get(page)).status == 200
        assert (await browser.post(f"/bots/{bot.id}/try", text="Salom")).text.startswith("event: error")
        assert (await browser.upload(page, *content(taken))).status == 503
        assert reserve.exists()
        assert (await browser.post(f"{page}/{first}/delete")).status == 303
        assert not reserve.exists()
        # What was freed is used again: the product takes messages, and another document of that size.
        assert "event: done" in (await browser.post(f"/bots/{bot.id}/try", text="Salom")).text
        assert (await browser.upload(page, *content(taken))).status == 303
        assert (await browser.post(f"{page}/{second}/delete")).status == 303
        # The reserve never takes the last room.
        upkeep.keep_reserve(site.core)
        assert not reserve.exists()


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
