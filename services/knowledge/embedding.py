"""Embeddings: passages when a document is indexed, questions when they are asked. Only where a model is configured."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert, select

from db import models, vectors
from services import answers
from services.ai.router import Router

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_BATCH = 100
_QUESTIONS_KEPT = 2000
_QUESTION_DEADLINE_S = 3.0


class Embedder:
    """Turns texts into vectors of one model. A failure costs meaning, never the answer: words still find passages."""

    def __init__(self, router: Router, model: str) -> None:
        self._router = router
        self.model = model
        self._questions: OrderedDict[str, list[float]] = OrderedDict()

    async def question(self, text: str) -> list[float] | None:
        """Return the vector of a question, None when the model does not answer in time."""
        known = self._questions.get(text)
        if known is not None:
            self._questions.move_to_end(text)
            return known
        result = await self._router.embed([text[:2000]], task="query", deadline_s=_QUESTION_DEADLINE_S)
        if not result.vectors:
            return None
        self._questions[text] = result.vectors[0]
        while len(self._questions) > _QUESTIONS_KEPT:
            self._questions.popitem(last=False)
        return result.vectors[0]

    async def embed_document(self, core: Core, bot: models.Bot, document_id: str) -> bool:
        """Make vectors for a document's passages before it serves; return False where the model could not be had."""
        chunk = models.Chunk
        after = 0
        while True:
            async with core.db.read() as session:
                rows = (
                    await session.execute(
                        select(chunk.id, chunk.heading, chunk.text)
                        .where(chunk.document_id == document_id, chunk.id > after)
                        .order_by(chunk.id)
                        .limit(_BATCH)
                    )
                ).all()
            if not rows:
                return True
            after = rows[-1][0]
            texts = [f"{heading}\n{text}"[:4000] if heading else text[:4000] for _, heading, text in rows]
            result = await self._router.embed(texts, task="document", deadline_s=60)
            async with core.db.write() as session:
                for call in result.calls:
                    session.add(models.AIUsage(**answers.usage_values(call, bot.owner_id, bot.id, "", "embedding")))
                if result.vectors:
                    ids = [row[0] for row in rows]
                    await session.execute(sql_delete(models.ChunkVector).where(models.ChunkVector.chunk_id.in_(ids)))
                    await session.execute(
                        insert(models.ChunkVector),
                        [
                            {"chunk_id": id_, "bot_id": bot.id, "model": self.model, "vector": vectors.unit(vector)}
                            for id_, vector in zip(ids, result.vectors, strict=True)
                        ],
                    )
            if not result.vectors:
                log.warning("document_without_vectors", document=document_id)
                return False
