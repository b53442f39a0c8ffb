"""Processes that die: whatever was acknowledged is answered, once but for a send that was cut off in flight."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import func, select

from db import models
from services.settings import ROOT
from tests.conveyor.harness import Floor, environment_for, floor, numbers_in, overrides, settings_for, toml, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

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
    for point in POINTS:
        child = await children.start(settings, point=point, passing=2)
        for person in people:
            shop.ask(person)
            shop.ask(person)
        await child.hears("paused")
        if point != "accepted":
            # All of it is acknowledged before the process dies.
            await fake.wait_delivered(shop.bot)
        await child.kill()
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
        answers = await place.one(
            select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
        )
        assert answers == len(shop.asked)


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
    async with _uploading(child.events[-1]["address"], shop.shop.token, shop.shop.bot.id) as accepted:
        assert accepted == 202
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


class _uploading:
    """Uploads a document over the API and gives the status."""

    def __init__(self, address: list[object], token: str, bot_id: str) -> None:
        self._url = f"http://{address[0]}:{address[1]}/api/v1/bots/{bot_id}/documents"
        self._token = token

    async def __aenter__(self) -> int:
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("file", b"Savol: Kafolat bormi?\nJavob: 5 yil kafolat.\n", filename="savollar.txt")
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url, data=form, headers={"Authorization": f"Bearer {self._token}"}) as response,
        ):
            await response.read()
            return response.status

    async def __aexit__(self, *_: object) -> None:
        return None


def _program(tmp_path: Path, database_url: str, fakes: Fakes, **sections: object) -> subprocess.Popen[bytes]:
    """Start ``bot.py`` itself, as a service manager does."""
    config = tmp_path / "config.toml"
    config.write_text(toml(overrides(**sections), (ROOT / "config.toml").read_text()))  # type: ignore[arg-type]
    environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), "DATABASE_URL": database_url, "PORT": "0"}
    with (tmp_path / "bot.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "bot.py", "--config", str(config), "run", "--role", "worker"],
            cwd=ROOT,
            env=environment | environment_for(*fakes),
            stderr=log,
        )


async def test_sigterm_under_load_loses_and_repeats_nothing(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    polls = len(fake.called("getUpdates", shop.bot))
    fake_models.latency_s = 0.3
    program = _program(tmp_path, database_url, fakes, server={"shutdown_timeout_s": 20})
    await fake.wait_call("getUpdates", bot=shop.bot, times=polls + 1, timeout=60)
    for _ in range(200):
        shop.ask(shop.person())
    await fake.wait_until(lambda: len(shop.times()) >= 5, 60)
    program.terminate()
    assert await asyncio.to_thread(program.wait, 60) == 0
    fake_models.latency_s = 0.0
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert set((await shop.answered(timeout=60)).values()) == {1}
        await _settled(place)


async def test_what_is_given_back_at_a_stop_is_stored_once(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    fake_models.latency_s = 3600
    async with floor(tmp_path, database_url, fake, fake_models, server={"shutdown_timeout_s": 1}) as place:
        shop = await place.tenant()
        person = shop.person()
        number = shop.ask(person)
        await until(lambda: _asked(fake_models))
    fake_models.latency_s = 0.0
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert (await shop.answered([number]))[number] == 1
        await _settled(place)
        said = select(models.Message.status).where(models.Message.author == "customer")
        assert await place.rows(said) == [("answered",)]
        assert await place.rows(select(models.InboxItem.attempts)) == [(1,)]


async def _asked(fake_models: FakeModels) -> bool:
    return bool(fake_models.requests)


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        shop = await place.tenant()
    # The model is silent, and hours are allowed for the first signal.
    fake_models.latency_s = 3600
    number = shop.ask(shop.person())
    program = _program(tmp_path, sqlite_url, fakes, server={"shutdown_timeout_s": 600}, ai={"deadline_s": 3600})
    await fake.wait_delivered(shop.bot, 60)
    while program.poll() is None:
        program.terminate()
        await asyncio.sleep(0.05)
    assert program.returncode == 0
    fake_models.latency_s = 0.0
    async with floor(tmp_path, sqlite_url, fake, fake_models):
        assert (await shop.answered([number]))[number] == 1
