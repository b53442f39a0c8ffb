"""Full-text search over passages, conversations and people: SQLite FTS5 and PostgreSQL behind the same functions.

The databases only pick candidates out of a base that is too large to rank in memory; the ranking itself is ours and therefore
the same on both (``services.knowledge.ranking``). The index is kept in step by the database: triggers on SQLite, a
generated column on PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Text, cast, column, func, literal, select, table, text
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

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


_TEXTS = table("conversation_texts", column("id"), column("conversation_id"), column("terms"))
_INDEX = table("conversation_index", column("rowid"), column("conversation_index"))


def _quoted(token: str, sign: str) -> str:
    return sign + token.replace(sign, sign * 2) + sign


def _wanted(sqlite: bool, bot_ids: Sequence[str] | None, words: Sequence[str]) -> str:
    """Return the query for conversations of any of these bots (None: of all) in which words begin like ``words``.

    A single letter is a word.
    """
    if sqlite:
        begun = " AND ".join(_quoted(word, '"') + " *" * (len(word) > 1) for word in words[:_MAX_TERMS])
        said = f"{{who words}} : ({begun})"
        if bot_ids is None:
            return said
        bots = " OR ".join(_quoted(bot_id, '"') for bot_id in bot_ids)
        return f"bot_id : ({bots}) AND {said}"
    here = [] if bot_ids is None else ["(" + " | ".join(_quoted(bot_id, "'") for bot_id in bot_ids) + ")"]
    return " & ".join([*here, *(_quoted(word, "'") + ":*" * (len(word) > 1) for word in words[:_MAX_TERMS])])


def _matching(sqlite: bool, wanted: str) -> ColumnElement[bool]:
    if sqlite:
        index = _INDEX.c.conversation_index.op("MATCH")(wanted)
        return _TEXTS.c.id.in_(select(_INDEX.c.rowid).where(index))
    return _TEXTS.c.terms.bool_op("@@")(cast(cast(literal(wanted), Text), TSQUERY))


async def conversations(
    session: AsyncSession, bot_ids: Sequence[str] | None, words: Sequence[str], limit: int
) -> list[str] | None:
    """Return the conversations of these bots (None: of all) in which each of ``words`` begins a word; None: over ``limit``.

    ``words`` have letters and digits only (``services.conversations.finding``), and are quoted all the same.
    """
    sqlite = session.get_bind().dialect.name == "sqlite"
    wanted = _wanted(sqlite, bot_ids, words)
    query = select(_TEXTS.c.conversation_id).where(_matching(sqlite, wanted)).limit(limit + 1)
    if sqlite:
        # The index stops where it has found so many, and not before the rest is looked up.
        some = select(_INDEX.c.rowid).where(_INDEX.c.conversation_index.op("MATCH")(wanted)).limit(limit + 1).subquery()
        query = select(_TEXTS.c.conversation_id).join_from(some, _TEXTS, _TEXTS.c.id == some.c.rowid)
    found = list(await session.scalars(query))
    return found if len(found) <= limit else None


def says(
    conversation_id: InstrumentedAttribute[str], bot_ids: Sequence[str] | None, words: Sequence[str], *, sqlite: bool
) -> ColumnElement[bool]:
    """Return the condition that a conversation is one of those, for who walks along conversations and soon finds some."""
    matching = _matching(sqlite, _wanted(sqlite, bot_ids, words))
    # A value to be looked up for each row: as a condition on two tables a planner may fetch all that match first.
    return select(matching).where(_TEXTS.c.conversation_id == conversation_id).scalar_subquery()


_PEOPLE = table("users", column("id"), column("full_name"), column("email"), column("phone"))
_PERSON_INDEX = table("person_index", column("rowid"), column("person_index"))
_PERSON_KEYS = table("person_index_keys", column("id"), column("user_id"))
_PIECE = 3


async def people(session: AsyncSession, asked: str, limit: int, *, phone: bool = False) -> list[str]:
    """Return the ids of people in whose name or e-mail ``asked`` stands somewhere; of more than ``limit``, some.

    Of one letter or two: in whose name or e-mail a word begins so. ``phone``: in whose phone number it stands, of three or more.
    """
    # As it is indexed: two spaces stand before every word.
    wide = asked.replace(" ", "  ")
    wide = " " * (_PIECE - len(wide)) + wide
    if session.get_bind().dialect.name == "sqlite":
        wanted = f"{'phone' if phone else 'who'} : {_quoted(wide, chr(34))}"
        some = select(_PERSON_INDEX.c.rowid).where(_PERSON_INDEX.c.person_index.op("MATCH")(wanted)).limit(limit)
        there = some.subquery()
        query = select(_PERSON_KEYS.c.user_id).join_from(there, _PERSON_KEYS, _PERSON_KEYS.c.id == there.c.rowid)
    else:
        wide, user = wide.lower(), _PEOPLE.c
        pieces = sorted({wide[place : place + _PIECE] for place in range(len(wide) - _PIECE + 1)})
        two = literal("  ", Text)
        who = two + func.replace(user.full_name, " ", two) + two + func.coalesce(user.email, "")
        where = func.coalesce(user.phone, "") if phone else func.lower(who)
        held = func.person_pieces(user.full_name, user.email, user.phone).op("@>")(cast(pieces, ARRAY(Text)))
        query = select(user.id).where(held, func.strpos(where, wide) > 0).limit(limit)
    return list(await session.scalars(query))
