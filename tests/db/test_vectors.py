"""The nearest vectors of one bot, whatever compares them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.engine import make_url

from db import models, vectors
from db.engine import Database
from tests.composition import embedding_settings, make_settings, make_shop, running
from tests.fakes.models import FakeModels

MODEL = "a-model"


async def test_the_nearest_are_found_best_first_and_only_of_this_bot_and_model(
    database_url: str, tmp_path: Path
) -> None:
    upstream = FakeModels()
    await upstream.start()
    settings = embedding_settings(tmp_path, database_url, upstream.base_urls["openai"])
    async with running(settings, "worker") as core:
        shop = await make_shop(core)
        other = await make_shop(core, "B", email="b@example.uz")
        source = random.Random(7)
        async with core.db.read() as session:
            own = list(await session.scalars(select(models.Chunk.id).where(models.Chunk.bot_id == shop.bot.id)))
            foreign = list(await session.scalars(select(models.Chunk.id).where(models.Chunk.bot_id == other.bot.id)))
        made = {id_: [source.gauss(0, 1) for _ in range(32)] for id_ in own + foreign}
        async with core.db.write() as session:
            await session.execute(
                insert(models.ChunkVector),
                [
                    {
                        "chunk_id": id_,
                        "bot_id": shop.bot.id if id_ in own else other.bot.id,
                        "model": MODEL,
                        "vector": vectors.unit(vector),
                    }
                    for id_, vector in made.items()
                ],
            )
        wanted = [source.gauss(0, 1) for _ in range(32)]
        unit = vectors.unit(wanted)
        expected = sorted(
            ((sum(a * b for a, b in zip(vectors.unit(made[id_]), unit, strict=True)), id_) for id_ in own), reverse=True
        )[:2]
        async with core.db.read() as session:
            found = await vectors.nearest(session, shop.bot.id, MODEL, wanted, 2)
            shorter = await vectors.nearest(session, shop.bot.id, MODEL, wanted[:16], 2)
            if core.db.is_sqlite and vectors.loads_extensions():
                assert await session.scalar(text("SELECT vec_version()"))
            if not core.db.is_sqlite:
                assert await session.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"))
        assert sorted(found, key=lambda id_: -found[id_]) == [id_ for _, id_ in expected]
        assert [found[id_] for _, id_ in expected] == pytest.approx([cosine for cosine, _ in expected], abs=1e-5)
        assert shorter == {}
    await upstream.stop()


async def test_a_database_user_who_may_not_install_pgvector(
    postgres_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and the program compares the vectors itself."""
    name = str(make_url(postgres_url).database)
    owner = Database(postgres_url)
    async with owner.write() as session:
        for statement in (
            f'CREATE ROLE "{name}" LOGIN',
            f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"',
            f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{name}"',
        ):
            await session.execute(text(statement))
    await owner.close()
    settings = make_settings(
        tmp_path,
        postgres_url.replace("//postgres@", f"//{name}@"),
        environment={"OPENAI_API_KEY": "test-key-0123456789"},
        overrides={"knowledge": {"embedding": "openai"}},
    )
    async with running(settings, "worker") as core:
        async with core.db.read() as session:
            assert not await session.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"))
            assert await vectors.nearest(session, "-", MODEL, [1.0, 0.0], 2) == {}
        said = "".join(capfd.readouterr())
    assert said.count("pgvector_not_installed") == 1
    assert "permission denied" in said
