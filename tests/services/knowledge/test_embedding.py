"""Vectors: made up for what was indexed without them, paid for, and told about. No workers run here: jobs are run by hand."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import answers, jobs
from services.ai.router import CallRecord
from services.core import Core
from services.knowledge import documents, embedding
from tests.composition import FAQ, Shop, make_settings, make_shop, running
from tests.fakes.models import FakeModels

IDLE = "idle"
QUESTION = "Yetkazib berish bormi?"


@pytest.fixture
async def fake() -> AsyncIterator[FakeModels]:
    upstream = FakeModels()
    await upstream.start()
    yield upstream
    await upstream.stop()


@contextlib.asynccontextmanager
async def started(folder: Path, url: str, fake: FakeModels, kind: str = "openai", **limits: Any) -> AsyncIterator[Core]:
    environment = {"OPENAI_API_KEY": "test-key-0123456789", "OPENAI_BASE_URL": fake.base_urls["openai"]}
    overrides: Mapping[str, Mapping[str, Any]] = {
        "knowledge": {"embedding": kind},
        "ai": {"breaker_failures": 1000},
        "limits": limits,
    }
    settings = make_settings(folder, url, environment=environment, overrides=overrides)
    async with running(settings, IDLE) as core:
        yield core


async def _read(core: Core, shop: Shop, text: str = FAQ) -> str:
    async with core.db.write() as session:
        document = await documents.upload(
            session, shop.bot, "savollar.txt", text.encode(), limits=core.settings.limits, max_bytes=1_000_000
        )
    await documents.index_document(core, {"document": document.id})
    return document.id


async def _without_vector(core: Core) -> int:
    lacking = select(models.ChunkVector).where(models.ChunkVector.chunk_id == models.Chunk.id).exists()
    async with core.db.read() as session:
        return int(await session.scalar(select(func.count()).select_from(models.Chunk).where(~lacking)) or 0)


async def _jobs(core: Core) -> list[dict[str, Any]]:
    async with core.db.read() as session:
        rows = await session.scalars(select(models.Job).where(models.Job.kind == embedding.EMBED_JOB))
        return [dict(row.payload) for row in rows]


async def _usage(core: Core, feature: str = "embedding") -> list[models.AIUsage]:
    async with core.db.read() as session:
        return list(await session.scalars(select(models.AIUsage).where(models.AIUsage.feature == feature)))


async def test_an_outage_is_made_up_for(database_url: str, tmp_path: Path, fake: FakeModels) -> None:
    async with started(tmp_path, database_url, fake) as core:
        shop = await make_shop(core, document=None)
        fake.fail("503", kind="embed")
        await _read(core, shop)
        lacking = await _without_vector(core)
        assert lacking
        (payload,) = await _jobs(core)
        assert payload["bot"] == shop.bot.id
        for waited, delay in ((0, 30), (200, 200), (100_000, embedding.MAX_DELAY_S)):
            with pytest.raises(jobs.TryLater) as later:
                await embedding.embed_missing(core, {**payload, "since": time.time() - waited})
            assert later.value.delay_s == pytest.approx(delay, abs=10)
        fake.heal()
        await embedding.embed_missing(core, payload)
        assert await _without_vector(core) == 0
        asked = len(fake.requests)
        await embedding.embed_missing(core, payload)
        assert len(fake.requests) == asked


@pytest.mark.parametrize("fault", ["bad_parameter", "endless"])
async def test_a_passage_that_the_model_refuses_keeps_no_job_alive(
    fault: str, sqlite_url: str, tmp_path: Path, fake: FakeModels
) -> None:
    async with started(tmp_path, sqlite_url, fake) as core:
        shop = await make_shop(core, document=None)
        fake.fail(fault, kind="embed")
        await _read(core, shop)
        await embedding.embed_missing(core, (await _jobs(core))[0])
        assert await _without_vector(core)


async def test_taught_answers_get_vectors_and_corrected_ones_new_ones(
    sqlite_url: str, tmp_path: Path, fake: FakeModels
) -> None:
    async with started(tmp_path, sqlite_url, fake) as core:
        shop = await make_shop(core, document=None)
        async with core.db.write() as session:
            taught = await documents.add_answer(session, shop.bot, "Velosiped bormi?", "Ha")
        (payload,) = await _jobs(core)
        await embedding.embed_missing(core, payload)
        vector = select(models.ChunkVector.vector)
        async with core.db.read() as session:
            first = await session.scalar(vector)
        async with core.db.write() as session:
            await documents.update_answer(session, shop.bot, taught.id, "Samokat bormi?", "Yo'q")
        assert await _without_vector(core) == 1
        await embedding.embed_missing(core, (await _jobs(core))[-1])
        async with core.db.read() as session:
            second = await session.scalar(vector)
        assert first and second and list(first) != list(second)


async def test_what_was_indexed_before_the_model_was_configured_is_found_at_the_start(
    database_url: str, tmp_path: Path, fake: FakeModels
) -> None:
    async with started(tmp_path, database_url, fake, "none") as core:
        shop = await make_shop(core, document=None)
        await _read(core, shop)
        assert await embedding.enqueue_missing(core) == 0
    async with started(tmp_path, database_url, fake) as core:
        await make_shop(core, "Bo'sh", email="empty@example.uz", document=None)
        assert await embedding.enqueue_missing(core) == 1
        assert await embedding.enqueue_missing(core) == 0
        (payload,) = await _jobs(core)
        await embedding.embed_missing(core, payload)
        assert await _without_vector(core) == 0


async def test_every_embedding_is_kept_and_counted(sqlite_url: str, tmp_path: Path, fake: FakeModels) -> None:
    async with started(tmp_path, sqlite_url, fake) as core:
        shop = await make_shop(core, document=None)
        assert await core.spending.today(core, shop.owner.id) == 0
        await _read(core, shop)
        (row,) = await _usage(core)
        assert row.cost_usd > 0
        assert await core.spending.today(core, shop.owner.id) == row.cost_usd
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)

        result = await answers.answer(core, answers.card_of(bot), QUESTION, "uz", [])
        cost = sum((call.cost_usd for call in result.calls), Decimal(0))
        values = [answers.usage_values(call, bot.owner_id, bot.id, "r") for call in result.calls]
        assert [value["feature"] for value in values] == ["embedding", "answer"]
        assert await core.spending.today(core, shop.owner.id) == row.cost_usd + cost
        # The same words again cost nothing; what an owner tries in the panel is kept as well.
        assert (await answers.look_up(core, bot, QUESTION)).found
        assert len(await _usage(core)) == 1
        assert (await answers.look_up(core, bot, "Kafolat bormi?")).found
        assert len(await _usage(core)) == 2
        # Of a question without an answer too.
        unknown = await answers.answer(core, answers.card_of(bot), "Kosmik kemalar bormi?", "uz", [])
        assert [call.kind for call in unknown.calls][:1] == ["embed"]


@pytest.mark.parametrize("what", ["document", "question", "trial"])
async def test_an_embedding_that_is_cut_off_is_kept_and_counted(
    what: str, sqlite_url: str, tmp_path: Path, fake: FakeModels
) -> None:
    async with started(tmp_path, sqlite_url, fake) as core:
        shop = await make_shop(core, document=None)
        if what != "document":
            await _read(core, shop)
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
        before, spent = len(await _usage(core)), await core.spending.today(core, shop.owner.id)
        calls: list[CallRecord] = []
        held = fake.hold()
        work: Mapping[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "document": lambda: _read(core, shop),
            "question": lambda: answers.answer(core, answers.card_of(bot), QUESTION, "uz", [], calls=calls),
            "trial": lambda: answers.look_up(core, bot, QUESTION),
        }
        task = asyncio.create_task(work[what]())
        await held.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fake.release()
        # A talk's calls are stored with what becomes of the talk.
        assert [call.outcome for call in calls] == (["cut"] if what == "question" else [])
        assert len(await _usage(core)) - before == (what != "question")
        assert await core.spending.today(core, shop.owner.id) > spent


async def test_over_the_limit_words_alone_decide(sqlite_url: str, tmp_path: Path, fake: FakeModels) -> None:
    async with started(tmp_path, sqlite_url, fake, owner_cost_usd_per_day=0) as core:
        shop = await make_shop(core, document=None)
        await _read(core, shop)
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
        result = await answers.answer(core, answers.card_of(bot), QUESTION, "uz", [])
        assert result.answered and not result.calls
        with pytest.raises(jobs.TryLater):
            await embedding.embed_missing(core, (await _jobs(core))[0])
        assert not fake.requests


async def test_a_refused_key_is_told_of(sqlite_url: str, tmp_path: Path, fake: FakeModels) -> None:
    async with started(tmp_path, sqlite_url, fake) as core:
        shop = await make_shop(core, document=None)
        await _read(core, shop)
        fake.fail("key_revoked", kind="embed")
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
        await answers.answer(core, answers.card_of(bot), QUESTION, "uz", [])
        async with core.db.read() as session:
            kinds = list(await session.scalars(select(models.Notice.kind)))
        assert kinds == ["key_refused"]


async def test_a_machine_without_room_is_no_fault_of_the_document(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(make_settings(tmp_path, sqlite_url), IDLE) as core:
        shop = await make_shop(core, document=None)
        with monkeypatch.context() as full:
            full.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
            with pytest.raises(jobs.TryLater) as later:
                await _read(core, shop)
        assert later.value.delay_s == 30
        async with core.db.read() as session:
            document = (await session.scalars(select(models.Document))).one()
        assert document.status == "processing"
        await documents.index_document(core, {"document": document.id})
        async with core.db.read() as session:
            assert (await session.get_one(models.Document, document.id)).status == "ready"
