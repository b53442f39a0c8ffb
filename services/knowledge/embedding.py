"""Embeddings: passages when a document is indexed, questions when they are asked. Only where a model is configured.

What could not be embedded at once (the provider was away, the model was configured later, an owner taught an answer) is made
up for by a job of the bot's own lane, so that it keeps no document waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import structlog
from sqlalchemy import ColumnElement, exists, insert, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.ext.asyncio import AsyncSession

from db import models, vectors
from services import answers, jobs
from services.ai.router import CallRecord, EmbedResult, Router

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

EMBED_JOB = "embed_missing"
FIRST_DELAY_S = 30.0
MAX_DELAY_S = 1800.0
_BATCH = 100
_ENQUEUED_AT_ONCE = 200
_SPREAD_S = 0.5
_QUESTIONS_KEPT = 2000
_QUESTION_DEADLINE_S = 3.0
# Failures that the same texts would meet again.
_LASTING = ("bad_request", "too_long")

_Rows = Sequence[tuple[int, str, str]]
_Ended = Literal["stored", "away", "refused", "over_limit"]


class Embedder:
    """Turns texts into vectors of one model. A failure costs meaning, never the answer: words still find passages."""

    def __init__(self, router: Router, model: str) -> None:
        self._router = router
        self.model = model
        self._questions: OrderedDict[str, list[float]] = OrderedDict()

    async def question(self, text: str, calls: list[CallRecord]) -> EmbedResult:
        """Return the vector of a question, or none when the model does not answer in time; ``calls`` gets those it took."""
        known = self._questions.get(text)
        if known is not None:
            self._questions.move_to_end(text)
            return EmbedResult([known], self.model, calls, [])
        result = await self._router.embed([text[:2000]], task="query", deadline_s=_QUESTION_DEADLINE_S, calls=calls)
        if result.vectors:
            self._questions[text] = result.vectors[0]
            while len(self._questions) > _QUESTIONS_KEPT:
                self._questions.popitem(last=False)
        return result

    async def embed_document(self, core: Core, bot: models.Bot, document_id: str) -> bool:
        """Make vectors for a document's passages before it serves; return False where some could not be made."""
        chunk = models.Chunk
        after = 0
        while True:
            async with core.db.read() as session:
                rows = _plain(
                    await session.execute(
                        select(chunk.id, chunk.heading, chunk.text)
                        .where(chunk.document_id == document_id, chunk.id > after)
                        .order_by(chunk.id)
                        .limit(_BATCH)
                    )
                )
            if not rows:
                return True
            after = rows[-1][0]
            if (ended := await self.embed(core, bot, rows)) != "stored":
                log.warning("document_without_vectors", document=document_id, reason=ended)
                return False

    async def embed(self, core: Core, bot: models.Bot, rows: _Rows) -> _Ended:
        """Make and store the vectors of some passages (id, heading, text); count and keep what the calls cost."""
        card = answers.card_of(bot)
        if not await core.spending.allowed(core, card):
            return "over_limit"
        texts = [f"{heading}\n{text}"[:4000] if heading else text[:4000] for _, heading, text in rows]
        calls: list[CallRecord] = []
        try:
            result = await self._router.embed(texts, task="document", deadline_s=60, calls=calls)
        except asyncio.CancelledError:
            await asyncio.shield(answers.keep_usage(core, card, calls))
            raise
        async with core.db.write() as session:
            answers.add_usage(session, card, result.calls)
            if result.vectors:
                made = {row: vectors.unit(vector) for row, vector in zip(map(tuple, rows), result.vectors, strict=True)}
                await self._store(session, bot.id, made)
        await answers.account(core, card, result.calls, result.key_events)
        if result.vectors:
            return "stored"
        return "refused" if result.calls and result.calls[-1].outcome in _LASTING else "away"

    async def _store(self, session: AsyncSession, bot_id: str, made: Mapping[tuple[Any, ...], list[float]]) -> None:
        chunk, ids = models.Chunk, [row[0] for row in made]
        # What was changed or deleted meanwhile is left out: a vector must belong to the text beside it.
        present = _plain(
            await session.execute(
                select(chunk.id, chunk.heading, chunk.text).where(chunk.id.in_(ids)).with_for_update(read=True)
            )
        )
        await session.execute(sql_delete(models.ChunkVector).where(models.ChunkVector.chunk_id.in_(ids)))
        rows = [
            {"chunk_id": row[0], "bot_id": bot_id, "model": self.model, "vector": made[row]}
            for row in present
            if row in made
        ]
        if rows:
            await session.execute(insert(models.ChunkVector), rows)


def _plain(result: Any) -> list[tuple[int, str, str]]:
    return [tuple(row) for row in result]


def _missing(model: str) -> tuple[ColumnElement[bool], ...]:
    """Passages that serve and have no vector of the present model."""
    chunk, document, vector = models.Chunk, models.Document, models.ChunkVector
    return (
        document.id == chunk.document_id,
        document.serving.is_(True),
        document.deleted_at.is_(None),
        ~exists().where(vector.chunk_id == chunk.id, vector.model == model),
    )


async def enqueue(session: AsyncSession, bot_id: str, owner_id: str, *, delay_s: float = 0.0) -> None:
    """Put the job that makes a bot's missing vectors into its lane; without a model it does nothing."""
    await jobs.add(
        session,
        EMBED_JOB,
        {"bot": bot_id, "since": time.time()},
        lane=f"embed:{bot_id}",
        owner_id=owner_id,
        bot_id=bot_id,
        delay_s=delay_s,
    )


async def enqueue_missing(core: Core) -> int:
    """Put a job for every bot whose passages lack vectors of the present model; return how many. For the start."""
    if core.embedder is None:
        return 0
    bot, job = models.Bot, models.Job
    missing = exists().where(models.Chunk.bot_id == bot.id, *_missing(core.embedder.model))
    async with core.db.read() as session:
        waiting = set(await session.scalars(select(job.lane).where(job.status == "new", job.kind == EMBED_JOB)))
        found = (await session.execute(select(bot.id, bot.owner_id).where(bot.deleted_at.is_(None), missing))).all()
    due = [(bot_id, owner_id) for bot_id, owner_id in found if f"job:embed:{bot_id}" not in waiting]
    for start in range(0, len(due), _ENQUEUED_AT_ONCE):
        async with core.db.write() as session:
            for number, (bot_id, owner_id) in enumerate(due[start : start + _ENQUEUED_AT_ONCE], start):
                # Spread, so that an upload is not behind every bot of the installation.
                await enqueue(session, bot_id, owner_id, delay_s=number * _SPREAD_S)
    if due:
        log.info("embedding_made_up_for", bots=len(due))
        core.bell.ring("jobs")
    return len(due)


async def embed_missing(core: Core, payload: Mapping[str, Any]) -> None:
    """Make the vectors that a bot's passages lack. Runs as a job; raises ``TryLater`` while the provider is away."""
    embedder = core.embedder
    if embedder is None:
        return
    chunk = models.Chunk
    after = 0
    while True:
        async with core.db.read() as session:
            bot = await session.get(models.Bot, str(payload["bot"]))
            if bot is None or bot.deleted_at is not None:
                return
            rows = _plain(
                await session.execute(
                    select(chunk.id, chunk.heading, chunk.text)
                    .where(chunk.bot_id == bot.id, chunk.id > after, *_missing(embedder.model))
                    .order_by(chunk.id)
                    .limit(_BATCH)
                )
            )
        if not rows:
            return
        after = rows[-1][0]
        ended = await embedder.embed(core, bot, rows)
        if ended == "over_limit":
            raise jobs.TryLater(MAX_DELAY_S)
        if ended == "away":
            # As long again as it has waited already: 30 s, 60 s, 2 min … half an hour.
            waited = time.time() - float(payload["since"])
            raise jobs.TryLater(max(FIRST_DELAY_S, min(waited, MAX_DELAY_S)))
        if ended == "refused":
            log.warning("passages_not_embedded", bot=bot.id, passages=len(rows))
