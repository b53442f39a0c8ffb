"""Vectors of passages behind one function: the nearest of one bot, by cosine.

PostgreSQL compares with pgvector where the extension can be had, SQLite with sqlite-vec where this Python loads extensions;
where neither can be had the rows are compared here. Vectors have length 1, so the scalar product is the cosine.
"""

from __future__ import annotations

import heapq
import math
import operator
import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import Vector

_PAGE = 500
_HAS = {
    "sqlite": text("SELECT count(*) FROM pragma_function_list WHERE name = 'vec_distance_cosine'"),
    "postgresql": text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"),
}
_NEAREST = {
    "sqlite": text(
        "SELECT chunk_id, 1 - vec_distance_cosine(vector, :wanted) AS cosine FROM chunk_vectors "
        "WHERE bot_id = :bot_id AND model = :model AND length(vector) = :size ORDER BY cosine DESC LIMIT :limit"
    ).bindparams(bindparam("wanted", type_=Vector())),
    "postgresql": text(
        "SELECT chunk_id, 1 - (vector::vector <=> (:wanted)::vector) AS cosine FROM chunk_vectors "
        "WHERE bot_id = :bot_id AND model = :model AND cardinality(vector) * 4 = :size ORDER BY cosine DESC LIMIT :limit"
    ).bindparams(bindparam("wanted", type_=Vector())),
}


def unit(vector: Sequence[float]) -> list[float]:
    """Return a vector scaled to length 1."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def loads_extensions() -> bool:
    """Tell whether this Python's SQLite can load sqlite-vec."""
    return hasattr(sqlite3.Connection, "enable_load_extension")


async def load_extension(connection: Any) -> None:
    """Load sqlite-vec into a new aiosqlite connection."""
    import sqlite_vec

    await connection.enable_load_extension(True)
    await connection.load_extension(sqlite_vec.loadable_path())
    await connection.enable_load_extension(False)


async def create_extension(session: AsyncSession) -> None:
    """Install pgvector into a PostgreSQL database that has it not yet; raises ``DBAPIError`` where that is not to be had."""
    await session.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))


async def nearest(
    session: AsyncSession, bot_id: str, model: str, vector: Sequence[float], limit: int
) -> dict[int, float]:
    """Return chunk id → cosine of the ``limit`` nearest passages of one bot, made by the same ``model``."""
    wanted = unit(vector)
    dialect = session.get_bind().dialect.name
    if await session.scalar(_HAS[dialect]):
        rows = await session.execute(
            _NEAREST[dialect],
            {"wanted": wanted, "bot_id": bot_id, "model": model, "size": 4 * len(wanted), "limit": limit},
        )
        return {chunk_id: float(cosine) for chunk_id, cosine in rows}
    return await _scan(session, bot_id, model, wanted, limit)


async def _scan(
    session: AsyncSession, bot_id: str, model: str, wanted: Sequence[float], limit: int
) -> dict[int, float]:
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
        for chunk_id, other in page:
            if len(other) == len(wanted):
                heapq.heappush(best, (sum(map(operator.mul, other, wanted)), chunk_id))
                if len(best) > limit:
                    heapq.heappop(best)
        after = page[-1][0]
    return {chunk_id: cosine for cosine, chunk_id in best}
