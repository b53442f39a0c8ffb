"""Taking the webhook of a disconnected bot away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services import bots, jobs
from tests.conveyor.harness import floor, surroundings


async def test_a_bot_that_cannot_be_released_keeps_no_other_waiting(tmp_path: Path, database_url: str) -> None:
    async with surroundings() as (fake, models), floor(tmp_path, database_url, fake, models) as place:
        stuck, other = await place.tenant(), await place.tenant()
        failing = fake.fail(502, bot=stuck.bot, method="deleteWebhook", times=None)
        before = len(fake.called("deleteWebhook", other.bot))
        async with place.core.db.write() as session:
            await bots.delete(session, await bots.get(session, stuck.shop.owner, stuck.shop.bot.id))
        place.core.bell.ring("jobs")
        await fake.wait_until(lambda: failing.hits >= 1)
        async with place.core.db.write() as session:
            await bots.delete(session, await bots.get(session, other.shop.owner, other.shop.bot.id))
        place.core.bell.ring("jobs")
        await fake.wait_until(lambda: len(fake.called("deleteWebhook", other.bot)) > before)


async def test_a_bot_that_cannot_be_released_is_let_go_after_a_day(tmp_path: Path, sqlite_url: str) -> None:
    """So long, and no longer, its token is kept with the job."""
    async with surroundings() as (fake, models), floor(tmp_path, sqlite_url, fake, models) as place:
        shop = await place.tenant()
        credentials = place.core.crypto.encrypt({"token": shop.bot.token})
        failing = fake.fail(502, bot=shop.bot, method="deleteWebhook", times=None)
        release = place.core.job_handlers[bots.RELEASE_JOB]
        job = {"credentials": credentials, "account": "of nobody now"}
        with pytest.raises(jobs.TryLater):
            await release({**job, "since": time.time() - 3600})
        await release({**job, "since": time.time() - 90_000})
        assert failing.hits == 2
