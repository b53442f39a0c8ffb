"""Lists in parts: a page and the cursor of the following one, so that the last of 100,000 rows costs as much as the first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db.base import ID_LENGTH
from services.errors import Invalid
from services.i18n import T

PAGE = 50
FEW = 1000
"""So many rows are looked up by themselves; where more fit, a list is walked along until a page is full."""
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
_SIZE, _TURN = re.compile(r"[0-9]{1,9}"), re.compile(r"[0-9]")
_DIGITS = 18
"""A longer number the databases would refuse."""
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Part of a list; ``next`` is the cursor of the following part or None."""

    items: Sequence[Row]
    next: str | None


def malformed(field: str = "cursor") -> Invalid:
    """Return the fault of an address whose cursor, there called ``field``, is none of ours."""
    return Invalid(T("This page address is not valid; start again from the first page."), field=field)


def number_of(cursor: str, field: str = "cursor", *, digits: int = _DIGITS) -> int:
    """Return the number that a cursor is, where rows are numbered, of so many digits at most; raises ``Invalid``."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= digits):
        raise malformed(field)
    return int(cursor)


def is_cursor(text: str) -> bool:
    """Whether a text may be the cursor of a list by identifiers."""
    return _ID.fullmatch(text) is not None


async def newest_first(
    session: AsyncSession,
    query: Select[Any],
    key: InstrumentedAttribute[str],
    *,
    cursor: str | None = None,
    limit: int = PAGE,
) -> Page[Any]:
    """Return the rows of a query in the falling order of the identifier ``key``, which is that of their making.

    ``query`` may select one thing (its objects are returned) or several, of which the first must be what ``key`` belongs to.
    Raises ``Invalid`` for a malformed cursor.
    """
    if cursor:
        if not is_cursor(cursor):
            raise malformed()
        query = query.where(key < cursor)
    rows = (await session.execute(query.order_by(key.desc()).limit(limit + 1))).all()
    items = [row[0] if len(row) == 1 else row for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(items, None)
    last = rows[limit - 1][0]
    return Page(items, str(getattr(last, key.key)))


async def few(
    session: AsyncSession,
    key: InstrumentedAttribute[str],
    condition: ColumnElement[bool],
    walked: ColumnElement[bool],
) -> ColumnElement[bool]:
    """Return a condition on rows by their identifiers ``key`` where few fulfil it, else ``walked``: the same, from no index."""
    found = (await session.scalars(select(key).where(condition).limit(FEW + 1))).all()
    return key.in_(found) if len(found) <= FEW else walked


def _begins(cursor: str | None, number: re.Pattern[str]) -> tuple[int, str]:
    """Return the number and the identifier of a cursor that has both, zero and nothing for none; raises ``Invalid``."""
    if not cursor:
        return 0, ""
    first, _, last = cursor.partition("-")
    if number.fullmatch(first) is None or not is_cursor(last):
        raise malformed()
    return int(first), last


async def in_turn(
    session: AsyncSession,
    queries: Sequence[Select[Any]],
    key: InstrumentedAttribute[str],
    *,
    cursor: str | None = None,
    limit: int = PAGE,
) -> Page[Any]:
    """Return the objects of several queries, those of the first before those of the next, each in the falling order of ``key``.

    Each query costs at most one question a page. Raises ``Invalid`` for a malformed cursor.
    """
    first, last = _begins(cursor, _TURN)
    found: list[tuple[int, Any]] = []
    for turn in range(first, len(queries)):
        query = queries[turn]
        if last and turn == first:
            query = query.where(key < last)
        rows = await session.scalars(query.order_by(key.desc()).limit(limit + 1 - len(found)))
        found += [(turn, row) for row in rows]
        if len(found) > limit:
            turn, row = found[limit - 1]
            return Page([each for _, each in found[:limit]], f"{turn}-{getattr(row, key.key)}")
    return Page([each for _, each in found], None)


async def largest_first(
    session: AsyncSession,
    query: Select[Any],
    size: InstrumentedAttribute[int],
    key: InstrumentedAttribute[str],
    *,
    cursor: str | None = None,
    limit: int = PAGE,
) -> Page[Any]:
    """Return the objects of a query in the falling order of ``size``, of equal ones that of ``key``; as :func:`newest_first`."""
    least, last = _begins(cursor, _SIZE)
    if last:
        query = query.where(tuple_(size, key) < tuple_(literal(least), literal(last)))
    rows = (await session.scalars(query.order_by(size.desc(), key.desc()).limit(limit + 1))).all()
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], f"{getattr(rows[limit - 1], size.key)}-{getattr(rows[limit - 1], key.key)}")


def holds(session: AsyncSession, column: InstrumentedAttribute[str], text: str) -> ColumnElement[bool]:
    """Return the condition that a column holds a text, in capitals or not; for long lists that no index can search."""
    if session.get_bind().dialect.name != "sqlite":
        return column.icontains(text, autoescape=True)
    # SQLite's own comparison knows no capitals outside of ASCII, and our function for them takes ten times as long.
    spellings = dict.fromkeys((text, text.lower(), text.upper(), text.capitalize(), text.title()))
    return or_(*(column.contains(spelling, autoescape=True) for spelling in spellings))
