"""A bot's test questions: judged, compared, resumed, within the owner's limits; nothing of them reaches conversations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import bots, trials
from services.core import Core
from services.errors import Conflict, Invalid, NotFound
from services.knowledge import documents
from tests.composition import Shop, make_settings, make_shop, running
from tests.conveyor.harness import overrides, until
from tests.fakes.models import FakeModels

DELIVERY = "Yetkazib berish bormi?"
WARRANTY = "Muzlatgichlarga kafolat bormi?"
UNKNOWN = "Kosmik kema sotasizlarmi?"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeModels]:
    """Fake model providers of the test's own."""
    made = FakeModels()
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("expected", "text", "lacking"),
    [
        ("", "Ha", []),
        ("bepul", "Yetkazib berish BEPUL!", []),
        ("bepul", "Етказиб бериш бепул", []),
        ("бесплатно", "Доставка бесплатная по городу.", []),
        ("45 000 so'm", "Narxi 45 000 so‘m.", []),
        ("45 000", "Narxi 45 ming", []),
        ("45 000", "Narxi 46 000", ["45 000"]),
        ("ha, kafolat 3 yil", "Ha, kafolati uch yil", ["3"]),
        ("kafolat", "Har kuni 9:00 dan", ["kafolat"]),
        ("yo'q", "Йўқ, афсуски", []),
        ("+998 90 123 45 67", "Qo'ng'iroq qiling: 90 123-45-67", []),
        ("9:00", "Soat 9:00 da ochamiz", []),
        ("…", "Ha", []),
    ],
)
def test_the_words_of_a_right_answer(expected: str, text: str, lacking: list[str]) -> None:
    assert trials.missing(expected, text) == lacking


async def _add(core: Core, shop: Shop, *asked: tuple[str, str]) -> None:
    async with core.db.write() as session:
        for question, expected in asked:
            await trials.add(session, shop.bot, question, expected)


async def _run(core: Core, shop: Shop) -> trials.Report:
    """Ask all questions and wait until that is over."""
    async with core.db.write() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
        run = await trials.start(session, bot)
    core.bell.ring("jobs")

    async def over() -> trials.Report | None:
        async with core.db.read() as session:
            report, _ = await trials.compared(session, shop.bot, run.id)
        return report if report is not None and report.run.status in ("done", "failed") else None

    report: trials.Report = await until(over, 60)
    return report


async def test_what_became_better_or_worse(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core)
        await _add(core, shop, (DELIVERY, "bepul"), (WARRANTY, "5 yil"), (UNKNOWN, ""))
        first = await _run(core, shop)
        assert (first.total, first.asked, first.good) == (3, 3, 1)
        assert {row.change for row in first.rows} == {"new"}
        results = {row.now["question"]: row.now for row in first.rows}
        assert results[WARRANTY]["missing"] == ["5"] and results[WARRANTY]["answered"]
        assert not results[UNKNOWN]["answered"] and results[DELIVERY]["sources"][0]["name"] == "savollar.txt"

        async with core.db.write() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
            assert not trials.outdated(first.run, bot)
            await documents.add_answer(session, bot, WARRANTY, "Endi 5 yil kafolat.")
            await documents.add_answer(session, bot, DELIVERY, "Endi pullik, 20 000 so'm.")
        async with core.db.read() as session:
            assert trials.outdated(first.run, await bots.get(session, shop.owner, shop.bot.id))
        second = await _run(core, shop)
        assert {row.now["question"]: row.change for row in second.rows} == {
            WARRANTY: "better",
            DELIVERY: "worse",
            UNKNOWN: "same",
        }
        assert second.rows[0].change == "worse" and second.rows[0].before == results[DELIVERY]
        # A question that is asked otherwise is not compared with what it was.
        async with core.db.write() as session:
            asked = await trials.list_for(session, shop.bot)
            await trials.change(session, asked[1], WARRANTY, "yil")
        third = await _run(core, shop)
        assert {row.now["question"]: row.change for row in third.rows}[WARRANTY] == "new"

        for table in (models.Conversation, models.Message, models.UnansweredQuestion, models.Contact):
            async with core.db.read() as session:
                assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_the_models_are_asked_and_paid_for_as_a_test(
    sqlite_url: str, tmp_path: Path, upstream: FakeModels
) -> None:
    environment = {"GEMINI_API_KEY": "test-key-of-gemini-0123456789", "GEMINI_BASE_URL": upstream.url}
    settings = make_settings(tmp_path, sqlite_url, environment=environment, overrides=overrides())
    async with running(settings, "worker") as core:
        shop = await make_shop(core)
        await _add(core, shop, (DELIVERY, "bepul"))
        upstream.reply = "Ha, shahar ichida bepul 🚚"
        report = await _run(core, shop)
        (row,) = report.rows
        assert (row.now["text"], row.now["provider"], row.now["state"]) == (upstream.reply, "gemini", "good")
        async with core.db.read() as session:
            made = list(await session.scalars(select(models.AIUsage)))
        assert {call.feature for call in made} == {"test"} and sum(call.cost_usd for call in made) > 0
        assert await core.spending.today(core, shop.owner.id) == sum((call.cost_usd for call in made), Decimal(0))
        # The model is away: what customers get meanwhile is shown, and that it is no judgement.
        upstream.fail("500")
        report = await _run(core, shop)
        assert report.run.status == "done"
        assert (report.rows[0].now["provider"], report.rows[0].now["note"]) == ("extractive", "model_away")


async def test_the_days_limit_holds_for_tests(sqlite_url: str, tmp_path: Path, upstream: FakeModels) -> None:
    environment = {"GEMINI_API_KEY": "test-key-of-gemini-0123456789", "GEMINI_BASE_URL": upstream.url}
    changed = overrides(limits={"owner_cost_usd_per_day": 0.0})
    async with running(
        make_settings(tmp_path, sqlite_url, environment=environment, overrides=changed), "worker"
    ) as core:
        shop = await make_shop(core)
        await _add(core, shop, (DELIVERY, "bepul"))
        report = await _run(core, shop)
        assert report.rows[0].now["note"] == "over_limit" and upstream.requests == []


async def test_limits_and_bad_input(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core, document=None)
        other = await make_shop(core, "Nur", email="other@example.uz", document=None)
        async with core.db.write() as session:
            with pytest.raises(Invalid):
                await trials.start(session, shop.bot)
            with pytest.raises(Invalid):
                await trials.add(session, shop.bot, " \x00 ", "x")
            row = await trials.add(session, shop.bot, DELIVERY, "")
            # The same question, however it is spelt, gets the new expectation.
            assert (await trials.add(session, shop.bot, "Етказиб бериш борми", "bepul")).id == row.id
            with pytest.raises(NotFound):
                await trials.get(session, other.bot, row.id)
            added = await trials.bring_in(session, shop.bot, [f"Mahsulot {n} bormi?" for n in range(150)] + [DELIVERY])
            assert added == trials.IMPORTED_AT_ONCE
            for n in range(trials.MOST - 1 - added):
                await trials.add(session, shop.bot, f"Savol raqami {n}", "")
            with pytest.raises(Conflict):
                await trials.add(session, shop.bot, "Yana bitta", "")
            assert await trials.bring_in(session, shop.bot, ["Yana ikkita"]) == 0
            assert await trials.count_for(session, shop.bot) == trials.MOST
        async with core.db.write() as session:
            await trials.start(session, shop.bot)
            with pytest.raises(Conflict):
                await trials.start(session, shop.bot)
            with pytest.raises(NotFound):
                await trials.compared(session, other.bot, (await trials.runs(session, shop.bot))[0].id)


async def test_twenty_runs_are_kept(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=None)
        await _add(core, shop, (DELIVERY, ""))
        reports = [await _run(core, shop) for _ in range(trials.RUNS_KEPT + 2)]
        async with core.db.read() as session:
            kept = await trials.runs(session, shop.bot)
            assert await session.scalar(select(func.count()).select_from(models.TestRun)) == trials.RUNS_KEPT
        assert [run.id for run in kept] == [report.run.id for report in reversed(reports)][: trials.RUNS_KEPT]


async def test_a_run_that_is_cut_off_goes_on_with_what_is_left(database_url: str, tmp_path: Path) -> None:
    """The process stops in order in the middle: the next one asks no question again."""
    stopped = asyncio.Event()

    async def pause(point: str) -> None:
        if point == "test_asked" and not stopped.is_set():
            stopped.set()
            await asyncio.Event().wait()

    settings = make_settings(tmp_path, database_url, overrides={"server": {"shutdown_timeout_s": 1}})
    async with running(settings, "worker", pause=pause) as core:
        shop = await make_shop(core)
        await _add(core, shop, (DELIVERY, "bepul"), (WARRANTY, "yil"))
        async with core.db.write() as session:
            run = await trials.start(session, shop.bot)
        core.bell.ring("jobs")
        await stopped.wait()
    async with running(settings, "worker") as core:

        async def over() -> Any:
            async with core.db.read() as session:
                found = await session.get_one(models.TestRun, run.id)
                return found if found.status == "done" else None

        done = await until(over, 30)
        assert [result["state"] for result in done.results.values()] == ["good", "good"]


async def test_a_bot_that_is_deleted_meanwhile_ends_its_run(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "web") as core:
        shop = await make_shop(core, document=None)
        await _add(core, shop, (DELIVERY, ""))
        async with core.db.write() as session:
            run = await trials.start(session, shop.bot)
        async with core.db.write() as session:
            await bots.delete(session, await bots.get(session, shop.owner, shop.bot.id))
        await trials.run_questions(core, {"run": run.id})
        await trials.run_questions(core, {"run": "gone"})
