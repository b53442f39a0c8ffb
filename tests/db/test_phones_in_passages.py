"""Passages stored before telephone numbers counted as the word "telephone" are found by it after the upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, insert, select, table
from sqlalchemy.ext.asyncio import AsyncSession

from db import fulltext, migrate, models
from db.base import UtcTime, new_id, utcnow
from db.engine import Database
from services.knowledge.analysis import analyze_passage
from tests.servers import Run

BEFORE = "0004"
TEXTS = (
    "Tel.: +998 90 123 45 67, (71) 200-11-22\nKvartira narxi 450 000 000 so'm",
    "Телефон +998\u00a093\u00a0388-77-66",
    "Uy 123 456 789 so'm",
    "Kafolat 3 yil",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, servers_run: Run, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    with servers_run.database(request.param, tmp_path, migrated=False) as url:
        yield url


def _stems_before(text: str) -> str:
    """The stems as they were stored: a number without the word behind it."""
    stems = analyze_passage(text).stems
    numbers = [False, *(len(stem) == 9 and stem.isdigit() for stem in stems)]
    pairs = zip(stems, numbers, strict=False)
    return " ".join(stem for stem, after_number in pairs if not (after_number and stem == "telefon"))


async def _put(session: AsyncSession, name: str, /, **row: Any) -> None:
    """Store a row as the tables were then."""
    columns: list[Any] = [column(key) for key in row] + [column("created_at", UtcTime)]
    await session.execute(insert(table(name, *columns)).values(**row, created_at=utcnow()))


async def test_stored_passages_get_what_new_ones_have(empty_url: str) -> None:
    await migrate.upgrade(empty_url, BEFORE)
    db = Database(empty_url, pool_size=2)
    try:
        async with db.write() as session:
            owner = models.User(id=new_id(), email="ega@example.uz", full_name="Ega")
            own = {"role": "owner", "language": "uz", "theme": "system"}
            await _put(session, "users", id=owner.id, email=owner.email, full_name=owner.full_name, **own)
            bot = models.Bot(id=new_id(), owner_id=owner.id, name="Do‘kon")
            await _put(
                session,
                "bots",
                id=bot.id,
                owner_id=owner.id,
                name=bot.name,
                public_id="x" * 22,
                languages='["uz"]',
                system_prompt="",
                status="active",
                knowledge_version=0,
            )
            document = models.Document(id=new_id(), bot_id=bot.id, name="a.txt", kind="txt")
            await _put(
                session,
                "documents",
                id=document.id,
                bot_id=bot.id,
                name=document.name,
                kind=document.kind,
                size=0,
                sha256="",
                status="ready",
                progress=100,
                serving=True,
                chunk_count=0,
            )
            ids = {"bot_id": bot.id, "document_id": document.id}
            for number, text in enumerate(TEXTS):
                stems = _stems_before(text)
                session.add(models.Chunk(**ids, position=number, text=text, stems=stems, grams="kaf"))
        async with db.read() as session:
            assert len(await fulltext.candidates(session, bot.id, ["telefon"], [], 9)) == 1
        await migrate.upgrade(empty_url)
        async with db.read() as session:
            chunks = (await session.scalars(select(models.Chunk).order_by(models.Chunk.position))).all()
            found = await fulltext.candidates(session, bot.id, ["telefon"], [], 9)
        assert [chunk.stems for chunk in chunks] == [analyze_passage(text).stems_text for text in TEXTS]
        assert sorted(found) == [chunk.id for chunk in chunks[:2]]
    finally:
        await db.close()
