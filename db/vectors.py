"""Vectors of passages behind one function: the nearest of one bot, by cosine.

PostgreSQL compares with pgvector where the extension is installed, SQLite with sqlite-vec where extensions can be loaded; where
neither can be had the rows are compared here. Vectors have length 1, so the scalar product is the cosine.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models

_PAGE = 500
_PGVECTOR = text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
_NEAREST_SQLITE = text(
    "SELECT chunk_id, 1 - vec_distance_cosine(vector, :wanted) AS cosine FROM chunk_vectors "
    "WHERE bot_id = :bot_id AND model = :model ORDER BY cosine DESC LIMIT :limit"
)


def pack(vector: Sequence[float]) -> bytes:
    """Return a vector as little-endian 32-bit floats, scaled to length 1."""
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    packed = array("f", [value / length for value in vector])
    return packed.tobytes()


def load_extension(connection: Any) -> bool:
    """Load sqlite-vec into a raw SQLite connection if this Python allows extensions; return whether it is there."""
    if not hasattr(connection, "enable_load_extension"):
        return False
    import sqlite_vec

    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    connection.enable_load_extension(False)
    return True


async def nearest(
    session: AsyncSession, bot_id: str, model: str, vector: Sequence[float], limit: int
) -> dict[int, float]:
    """Return chunk id → cosine of the ``limit`` nearest passages of one bot, made by the same ``model``."""
    wanted = pack(vector)
    if session.get_bind().dialect.name == "sqlite" and await _has_sqlite_vec(session):
        rows = await session.execute(
            _NEAREST_SQLITE, {"wanted": wanted, "bot_id": bot_id, "model": model, "limit": limit}
        )
        return {chunk_id: float(cosine) for chunk_id, cosine in rows}
    return await _scan(session, bot_id, model, wanted, limit)


async def _has_sqlite_vec(session: AsyncSession) -> bool:
    found = await session.scalar(
        text("SELECT count(*) FROM pragma_function_list WHERE name = :name"), {"name": "vec_distance_cosine"}
    )
    return bool(found)


async def _scan(session: AsyncSession, bot_id: str, model: str, wanted: bytes, limit: int) -> dict[int, float]:
    question = array("f", wanted)
    best: list[tuple[float, int]] = []
    row = models.ChunkVector
    query = (
        select(row.chunk_id, row.vector)
        .where(row.bot_id == bot_id, row.model == model, row.chunk_id > bindparam("after"))
        .order_by(row.chunk_id)
        .limit(_PAGE)
    )
    after = 0
    while page := (await session.execute(query, {"after": after})).all():
        for chunk_id, packed in page:
            other = array("f", packed)
            if len(other) == len(question):
                cosine = sum(map(float.__mul__, other, question))
                heapq.heappush(best, (cosine, chunk_id))
                if len(best) > limit:
                    heapq.heappop(best)
        after = page[-1][0]
    return {chunk_id: cosine for cosine, chunk_id in best}
