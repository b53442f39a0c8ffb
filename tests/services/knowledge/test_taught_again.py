"""An answer that is taught again while the first one gets its vector."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from services.core import Core
from services.knowledge import documents, embedding
from tests.composition import Shop, embedding_settings, make_shop, running
from tests.fakes.models import FakeModels, vector

QUESTION = "Kredit bormi?"


async def _teach(core: Core, shop: Shop, text: str) -> documents.TaughtAnswer:
    async with core.db.write() as session:
        return await documents.add_answer(session, shop.bot, QUESTION, text)


@pytest.mark.parametrize("again", ["Yo'q, kredit tugadi.", "Ha, 12 oygacha."])
async def test_a_vector_belongs_to_the_answer_that_was_taught_last(
    again: str, database_url: str, tmp_path: Path
) -> None:
    upstream = FakeModels()
    await upstream.start()
    settings = embedding_settings(tmp_path, database_url, upstream.base_urls["openai"])
    try:
        async with running(settings, "idle") as core:
            shop, other = (
                await make_shop(core, document=None),
                await make_shop(core, email="b@example.uz", document=None),
            )
            job = {"bot": shop.bot.id, "since": 0.0}
            first = await _teach(core, shop, "Ha, 12 oygacha.")
            await _teach(core, other, "Ha, 24 oygacha.")
            held = upstream.hold()
            storing = asyncio.create_task(embedding.embed_missing(core, job))
            async with asyncio.timeout(20):
                await held.reached.wait()
            assert (await _teach(core, shop, again)).id == first.id
            upstream.release()
            await storing
            await embedding.embed_missing(core, job)
            async with core.db.read() as session:
                (row,) = await session.execute(
                    select(
                        models.ChunkVector.chunk_id, models.ChunkVector.vector, models.Chunk.heading, models.Chunk.text
                    )
                    .join(models.Chunk, models.Chunk.id == models.ChunkVector.chunk_id)
                    .where(models.Chunk.bot_id == shop.bot.id)
                )
                known = (await documents.answers_page(session, shop.bot))[0]
            assert [answer.text for answer in known] == [again]
            assert (str(row.chunk_id), row.text) == (first.id, f"{QUESTION}\n{again}")
            expected = vector(f"{row.heading}\n{row.text}")
            assert sum(a * b for a, b in zip(row.vector, expected, strict=True)) == pytest.approx(1, abs=0.01)
    finally:
        await upstream.stop()
