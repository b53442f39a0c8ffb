"""Lists in parts: a page and the cursor of the following one, so that the last of 100,000 rows costs as much as the first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db.base import ID_LENGTH
from services.errors import Invalid
from services.i18n import T

PAGE = 50
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Part of a list; ``next`` is the cursor of the following part or None."""

    items: Sequence[Row]
    next: str | None


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
            raise Invalid(T("This page address is not valid; start again from the first page."), field="cursor")
        query = query.where(key < cursor)
    rows = (await session.execute(query.order_by(key.desc()).limit(limit + 1))).all()
    items = [row[0] if len(row) == 1 else row for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(items, None)
    last = rows[limit - 1][0]
    return Page(items, str(getattr(last, key.key)))
