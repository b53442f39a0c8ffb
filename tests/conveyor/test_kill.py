"""Processes that die: whatever was acknowledged is answered, once but for a send that was cut off in flight."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import ColumnElement, func, select, text

from db import models
from db.engine import Database
from services.settings import ROOT
from tests.conveyor.harness import Floor, environment_for, floor, numbers_in, overrides, settings_for, toml, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import free_port

Fakes = tuple[FakeTelegram, FakeModels]
POINTS = ("accepted", "received", "answered", "claimed_send", "sent")


async def test_kill_at_every_point_loses_nothing(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    # What is in hand at several deaths is suspected of causing them; these five are not the messages' fault.
    patient = {"max_attempts": 20, "idle_poll_s": 0.05}
    settings = settings_for(tmp_path, database_url, fake, fake_models, queue=patient)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    people = [shop.person() for _ in range(6)]
    db = Database(database_url, pool_size=1)
    try:
        for point in POINTS:
            before = await _sends(db)
            # Two pass the point and are seen through. The last one nobody passes: what is killed there, all six chats', has
            # arrived. A send that was cut off at the point before and now again, on its way, would not be tried any more.
            passing, stopped = (0, len(people)) if point == "sent" else (2, 1)
            child = await children.start(settings, point=point, passing=passing)
            for person in people:
                shop.ask(person)
                shop.ask(person)
            for _ in range(stopped):
                await child.hears("paused")
            if point != "accepted":
                # All of it is acknowledged before the process dies.
                await fake.wait_delivered(shop.bot)
            if point in ("received", "answered"):
                await _seen_through(db, before + passing)
            await child.kill()
    finally:
        await db.close()
    async with floor(tmp_path, database_url, fake, fake_models, queue=patient) as place:
        times = await shop.answered()
        await _settled(place)
        assert shop.in_order()
        repeated = {number for number, n in times.items() if n > 1}
        unsure = await place.rows(select(models.OutboxItem.payload).where(models.OutboxItem.unsure))
        assert max(times.values()) <= 2
        assert repeated <= set(numbers_in(json.loads(row.payload)["text"] for row in unsure))
        sends = sum(len(fake.messages(person.id)) for person in people)
        stored = await place.one(select(func.count()).select_from(models.OutboxItem))
        assert sends <= stored + len(unsure)
        done = await place.rows(select(models.InboxItem.status).distinct())
        assert [row.status for row in done] == ["done"]
        asked = await place.one(
            select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
        )
        assert asked == len(shop.asked)


async def _sends(db: Database, *conditions: ColumnElement[bool]) -> int:
    """Return how many messages to send there are, of those that fulfil the conditions."""
    async with db.read() as session:
        return int(await session.scalar(select(func.count()).select_from(models.OutboxItem).where(*conditions)) or 0)


async def _seen_through(db: Database, number: int) -> None:
    """Wait until it is known of so many messages what became of them."""

    async def known() -> bool:
        return await _sends(db, models.OutboxItem.status.not_in(("queued", "sending"))) >= number

    await until(known)


async def _settled(place: Floor) -> None:
    """Wait until nothing is open in any queue."""

    async def idle() -> bool:
        return not await place.one(select(func.sum(models.Lane.pending)))

    await place.until(idle)


async def test_a_send_that_is_cut_off_twice_is_not_tried_a_third_time(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    number = shop.ask(shop.person())
    for _ in range(2):
        child = await children.start(settings, point="sent")
        await child.hears("paused")
        await child.kill()
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        await _settled(place)
        assert shop.times()[number] == 2
        row = (await place.rows(select(models.OutboxItem.status, models.OutboxItem.unsure)))[-1]
        assert (row.status, row.unsure) == ("unknown", True)
        await place.noticed(shop, "send_failed")


async def test_killed_while_a_document_is_taken_in(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
        before = await place.rows(select(models.Chunk.text).order_by(models.Chunk.id))
    # The new text of the same document, accepted by a process that dies before it serves.
    child = await children.start(settings, point="ingest", role="all")
    assert await _upload(child.events[-1]["address"], shop.shop.token, shop.shop.bot.id) == 202
    await child.hears("paused")
    await child.kill()
    # Nor is it given up for dying with more processes than may fail it.
    for _ in range(settings.queue.max_attempts):
        child = await children.start(settings, point="ingest")
        await child.hears("paused")
        await child.kill()
    async with floor(tmp_path, database_url, fake, fake_models) as place:

        async def replaced() -> bool:
            return "5 yil" in "".join(row.text for row in await place.rows(serving))

        serving = (
            select(models.Chunk.text)
            .join(models.Document, models.Document.id == models.Chunk.document_id)
            .where(models.Document.serving)
        )
        await place.until(replaced)
        await _settled(place)
        rows = await place.rows(select(models.Chunk.text).order_by(models.Chunk.id))
        assert len(rows) == 1 and "5 yil" in rows[0].text
        assert before and not any(row in rows for row in before)


async def test_a_document_that_always_ends_the_process_has_failed(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models, queue={"max_attempts": 2})
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
        before = await place.rows(select(models.Chunk.text).order_by(models.Chunk.id))
    child = await children.start(settings, point="ingest", role="all")
    assert await _upload(child.events[-1]["address"], shop.shop.token, shop.shop.bot.id) == 202
    for start in range(2 * settings.queue.max_attempts - 1):
        if start:
            child = await children.start(settings, point="ingest")
        await child.hears("paused")
        await child.kill()
    async with floor(tmp_path, database_url, fake, fake_models, queue={"max_attempts": 2}) as place:
        await _settled(place)
        newest = select(models.Document.status, models.Document.serving).order_by(models.Document.id.desc()).limit(1)
        assert await place.rows(newest) == [("failed", False)]
        assert await place.rows(select(models.Chunk.text).order_by(models.Chunk.id)) == before
        await place.noticed(shop, "document_failed")
        question = shop.ask(shop.person())
        assert (await shop.answered([question]))[question] == 1


async def _upload(address: list[object], token: str, bot_id: str) -> int:
    """Upload a document over the API; return the status."""
    url = f"http://{address[0]}:{address[1]}/api/v1/bots/{bot_id}/documents"
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("file", b"Savol: Kafolat bormi?\nJavob: 5 yil kafolat.\n", filename="savollar.txt")
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=form, headers={"Authorization": f"Bearer {token}"}) as response,
    ):
        await response.read()
        return response.status


@contextlib.contextmanager
def _program(
    tmp_path: Path, database_url: str, fakes: Fakes, *, port: int = 0, **sections: Mapping[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``bot.py`` itself, as a service manager does; it does not outlive the test."""
    config = tmp_path / "config.toml"
    config.write_text(toml(overrides(**sections), (ROOT / "config.toml").read_text()))
    environment = {
        "PATH": os.environ["PATH"],
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": database_url,
        "PORT": str(port),
    }
    with (tmp_path / "bot.log").open("ab") as log:
        program = subprocess.Popen(
            [sys.executable, "bot.py", "--config", str(config), "run"],
            cwd=ROOT,
            env=environment | environment_for(*fakes),
            stdout=log,
            stderr=log,
        )
    try:
        yield program
    finally:
        program.kill()
        program.wait(30)


async def test_sigterm_under_load_loses_and_repeats_nothing(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    polls = len(fake.called("getUpdates", shop.bot))
    fake_models.latency_s = 0.3
    # Some of the talks are in hand, and some have to wait for a place.
    few, port = {"conversations_per_owner": 32}, free_port()
    with _program(tmp_path, database_url, fakes, port=port, queue=few, server={"shutdown_timeout_s": 20}) as program:
        await fake.wait_call("getUpdates", bot=shop.bot, times=polls + 1, timeout=60)
        for _ in range(200):
            shop.ask(shop.person())
        await fake.wait_until(lambda: len(shop.times()) >= 5, 60)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

            async def status(path: str) -> int:
                async with http.get(path) as answer:
                    return answer.status

            async def draining() -> bool:
                return await status("/readyz") == 503

            assert not await draining()
            # What is in hand cannot end before it was asked.
            answering = fake_models.hold()
            await answering.reached.wait()
            program.terminate()
            await until(draining)
            assert await status("/healthz") == 200
            fake_models.release()
        assert await asyncio.to_thread(program.wait, 60) == 0
    assert len(shop.times()) < 200
    fake_models.latency_s = 0.0
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert set((await shop.answered(timeout=60)).values()) == {1}
        await _settled(place)


async def test_what_is_given_back_at_a_stop_is_stored_once(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """The model is silent for as long as the process lives: only the stop's own limit ends the waiting for it."""
    fake, fake_models = fakes
    silence = fake_models.hold()
    patient = {"deadline_s": 600, "first_byte_s": 600}
    queue, server = {"handling_timeout_s": 600, "idle_poll_s": 0.05}, {"shutdown_timeout_s": 3}
    async with (
        asyncio.timeout(100),
        floor(tmp_path, database_url, fake, fake_models, server=server, queue=queue, ai=patient) as place,
    ):
        shop = await place.tenant()
        number = shop.ask(shop.person())
        await silence.reached.wait()
    fake_models.release()
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert (await shop.answered([number]))[number] == 1
        await _settled(place)
        said = select(models.Message.status).where(models.Message.author == "customer")
        assert await place.rows(said) == [("answered",)]
        assert await place.rows(select(models.InboxItem.attempts)) == [(1,)]


NO_RENEWAL = """CREATE TRIGGER refuse BEFORE UPDATE OF lease_until ON lanes
    WHEN NEW.kind = 'inbox' AND NEW.holder = OLD.holder AND NEW.claim_no = OLD.claim_no
    BEGIN SELECT RAISE(ABORT, 'no'); END"""


async def test_a_vital_task_that_dies_ends_the_process(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    """It would hold for ever what it can keep no lease for; the next start takes that up."""
    fake, fake_models = fakes
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        shop = await place.tenant()
        async with place.core.db.write() as session:
            await session.execute(text(NO_RENEWAL))
    # In hand for longer than it can be held.
    fake_models.hold()
    number = shop.ask(shop.person())
    with _program(tmp_path, sqlite_url, fakes, queue={"lease_s": 1}) as program:
        assert await asyncio.to_thread(program.wait, 60) == 1
    assert "vital_part_died" in (tmp_path / "bot.log").read_text()
    fake_models.release()
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        async with place.core.db.write() as session:
            await session.execute(text("DROP TRIGGER refuse"))
        assert (await shop.answered([number]))[number] == 1


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        shop = await place.tenant()
    # The model is silent, and hours are allowed for the first signal.
    silence = fake_models.hold()
    number = shop.ask(shop.person())
    patient = {"deadline_s": 600, "first_byte_s": 600}
    with _program(tmp_path, sqlite_url, fakes, server={"shutdown_timeout_s": 600}, ai=patient) as program:
        async with asyncio.timeout(60):
            await silence.reached.wait()
        while program.poll() is None:
            program.terminate()
            await asyncio.sleep(0.05)
        assert program.returncode == 0
    fake_models.release()
    async with floor(tmp_path, sqlite_url, fake, fake_models):
        assert (await shop.answered([number]))[number] == 1
