"""What is due by the clock is done: by the scheduler that runs in the process, or late, at the next start."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import delete, select

from db import models
from services import crypto, health, leaving, upkeep
from services.letters import offering, partnering
from services.payments import ledger
from services.statistics import counting
from tests.conveyor.harness import Floor, floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]


@pytest.fixture
def schedulers(monkeypatch: pytest.MonkeyPatch) -> list[AsyncIOScheduler]:
    """The schedulers that the test's products start."""
    started: list[AsyncIOScheduler] = []
    start = AsyncIOScheduler.start

    def noted(self: AsyncIOScheduler, *arguments: Any, **options: Any) -> None:
        started.append(self)
        start(self, *arguments, **options)

    monkeypatch.setattr(AsyncIOScheduler, "start", noted)
    return started


async def _cleaned(place: Floor) -> str:
    """Wait until old rows were cleaned up; return for which hour."""
    job = models.Job
    done = select(job.unique_key).where(job.kind == upkeep.CLEAN_UP_JOB, job.status == "done")
    key: str = await place.until(lambda: place.one(done))
    return key.removeprefix(f"{upkeep.CLEAN_UP_JOB}:")


async def _an_hour_later(place: Floor) -> None:
    """Let what was done in this hour be done again."""
    await _cleaned(place)
    async with place.core.db.write() as session:
        await session.execute(delete(models.Job))


def _hour() -> str:
    return dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0).isoformat()


async def test_the_scheduler_of_the_process_does_what_is_due(
    tmp_path: Path, database_url: str, fakes: Fakes, schedulers: list[AsyncIOScheduler]
) -> None:
    async with floor(tmp_path, database_url, *fakes, database={"reserve_mib": 1}) as place:
        (scheduler,) = schedulers
        due = {job.id: job.next_run_time for job in scheduler.get_jobs()}
        hourly = {upkeep.CLEAN_UP_JOB, health.CHECK_JOB, offering.REMIND_JOB, ledger.EXPIRE_JOB, leaving.DELETE_JOB}
        hourly.add(partnering.TELL_JOB)
        hourly |= {counting.COUNT_JOB}
        assert set(due) == hourly | ({"reserve"} if place.core.db.is_sqlite else set())
        assert max(due.values()) <= dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        await _an_hour_later(place)
        for job in due:
            scheduler.modify_job(job, next_run_time=dt.datetime.now(dt.UTC))
        await _cleaned(place)
        if "reserve" in due:

            async def kept() -> bool:
                return upkeep.reserve_file(place.core).exists()

            await place.until(kept)


async def test_a_start_does_what_was_due_while_the_process_was_down(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    before = _hour()
    async with floor(tmp_path, database_url, *fakes) as place:
        assert before <= await _cleaned(place) <= _hour()


async def test_a_rotated_key_is_soon_not_needed_any_more(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    """The cleaning up encrypts anew; from then on the old key may be taken away."""
    old, new = crypto.new_fernet_key(), crypto.new_fernet_key()
    async with floor(tmp_path, sqlite_url, *fakes, environment={"ENCRYPTION_KEYS": old}) as place:
        shop = await place.tenant()
        await _an_hour_later(place)
    async with floor(tmp_path, sqlite_url, *fakes, environment={"ENCRYPTION_KEYS": f"{new},{old}"}) as place:
        await _cleaned(place)
    async with floor(tmp_path, sqlite_url, *fakes, environment={"ENCRYPTION_KEYS": new}) as place:
        number = shop.ask(shop.person())
        assert (await shop.answered([number]))[number] == 1
        assert not await place.notices(shop)
