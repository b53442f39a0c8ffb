"""Work by the clock that takes longer than its period: one run after the other, each due time once, never two at a time."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from db import models
from services import upkeep
from tests.conveyor.harness import floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
FIRST = dt.datetime(2026, 3, 1, 7, 17, tzinfo=dt.UTC)


class Slow:
    """A job that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = self.ended = self.running = self.most = 0
        self.go_on = asyncio.Semaphore(0)
        self.changed = asyncio.Event()

    async def __call__(self, _payload: Mapping[str, Any]) -> None:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self._tell()
        await self.go_on.acquire()
        self.running -= 1
        self.ended += 1
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def until(self, *, begun: int) -> None:
        """Wait until it has begun so often."""
        async with asyncio.timeout(20):
            while self.begun < begun:
                await self.changed.wait()


async def test_a_job_longer_than_its_period_runs_once_at_a_time(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    slow = Slow()
    between = asyncio.Event()

    async def other(_payload: Mapping[str, Any]) -> None:
        between.set()

    async with floor(tmp_path, database_url, *fakes, queue={"jobs": 8, "idle_poll_s": 0.05}) as place:
        place.core.job_handlers |= {"slow": slow, "other": other}
        moments = [FIRST + dt.timedelta(hours=hours) for hours in range(3)]
        assert await upkeep.enqueue_due(place.core, "slow", moments[0])
        await slow.until(begun=1)
        # Its next times come while it runs, and its lease ends: it is still in hand.
        for moment in moments[1:]:
            assert await upkeep.enqueue_due(place.core, "slow", moment)
            assert not await upkeep.enqueue_due(place.core, "slow", moment)
        async with place.core.db.write() as session:
            await session.execute(update(models.Lane).where(models.Lane.key == "job:upkeep:slow").values(lease_until=0))
        # Whatever is due later than they are has run: they would have run as well, if they could.
        assert await upkeep.enqueue_due(place.core, "other", moments[2])
        async with asyncio.timeout(20):
            await between.wait()
        assert (slow.begun, slow.ended) == (1, 0)
        for ended in (1, 2):
            slow.go_on.release()
            await slow.until(begun=ended + 1)
            assert slow.ended == ended
        slow.go_on.release()

        async def done() -> bool:
            jobs = await place.rows(
                select(models.Job.status, models.Job.attempts).where(models.Job.kind == "slow").order_by(models.Job.id)
            )
            return [(job.status, job.attempts) for job in jobs] == [("done", 1)] * 3

        await place.until(done)
        assert (slow.begun, slow.ended, slow.most) == (3, 3, 1)
