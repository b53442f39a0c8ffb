"""Full-text search over passages: SQLite FTS5 and PostgreSQL behind one function.

The databases only pick candidates out of a base that is too large to rank in memory; the ranking itself is ours and therefore
the same on both (``services.knowledge.ranking``). The index is kept in step by the database: triggers on SQLite, a
generated column on PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_TOKEN = re.compile(r"[a-z0-9]+")
_MAX_TERMS = 200

_SQLITE = text(
    "SELECT rowid FROM chunk_index WHERE chunk_index MATCH :query ORDER BY bm25(chunk_index, 0.0, 1.0, 0.25) LIMIT :limit"
)
_POSTGRESQL = text(
    "SELECT id FROM chunks, to_tsquery('simple', :query) AS wanted "
    "WHERE bot_id = :bot_id AND terms @@ wanted ORDER BY ts_rank(terms, wanted) DESC LIMIT :limit"
)


async def candidates(
    session: AsyncSession, bot_id: str, stems: Sequence[str], grams: Sequence[str], limit: int
) -> list[int]:
    """Return ids of up to ``limit`` passages of one bot that share terms with a question, likely ones first.

    Only tokens of ``[a-z0-9]`` take part, so no text of a customer is ever read as an operator of a query language.
    """
    words = [token for token in dict.fromkeys(stems) if _TOKEN.fullmatch(token)][:_MAX_TERMS]
    pieces = [token for token in dict.fromkeys(grams) if _TOKEN.fullmatch(token)][:_MAX_TERMS]
    if not words and not pieces:
        return []
    if session.get_bind().dialect.name == "sqlite":
        either = []
        if words:
            either.append("stems : (" + " OR ".join(f'"{token}"' for token in words) + ")")
        if pieces:
            either.append("grams : (" + " OR ".join(f'"{token}"' for token in pieces) + ")")
        query = f'bot_id : "{bot_id}" AND ({" OR ".join(either)})'
        return list(await session.scalars(_SQLITE, {"query": query, "limit": limit}))
    query = " | ".join([*words, *pieces])
    return list(await session.scalars(_POSTGRESQL, {"query": query, "bot_id": bot_id, "limit": limit}))
