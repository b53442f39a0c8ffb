"""A run of test questions survives the death of its process: what was answered is not asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from db import models
from services import trials
from tests.conveyor.harness import floor, question_of, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

ASKED = ("Yetkazib berish bormi?", "Muzlatgichlarga kafolat bormi?", "Qaysi vaqtda ishlaysiz?")


async def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, database_url: str, fakes: tuple[FakeTelegram, FakeModels], children: Nursery
) -> None:
    fake, fake_models = fakes
    fake_models.reply = "Ha, bor"
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        tenant = await place.tenant()
    # Nobody works here while the run is put down.
    async with floor(tmp_path, database_url, fake, fake_models, role="web") as place, place.core.db.write() as session:
        for question in ASKED:
            await trials.add(session, tenant.shop.bot, question, "bor")
        run = await trials.start(session, tenant.shop.bot)
    # Killed with the second answer in hand, which was not stored.
    child = await children.start(settings, point="test_asked", passing=1)
    await child.hears("paused")
    await child.kill()
    before = len(fake_models.requests)
    assert before == 2
    async with floor(tmp_path, database_url, fake, fake_models) as place:

        async def done() -> Any:
            found = await place.rows(select(models.TestRun).where(models.TestRun.id == run.id))
            return found[0][0] if found[0][0].status == "done" else None

        finished = await place.until(done, 60)
        assert [result["text"] for result in finished.results.values()] == ["Ha, bor"] * 3
        usage = await place.rows(select(models.AIUsage.feature))
    # The first one was kept; the second is asked once more because nobody knows its answer.
    assert [question_of(seen) for seen in fake_models.requests] == [ASKED[0], ASKED[1], ASKED[1], ASKED[2]]
    assert [row.feature for row in usage] == ["test"] * 3
