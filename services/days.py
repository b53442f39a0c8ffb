"""Days by the calendar of Tashkent, which knows no daylight saving. Moments are UTC."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, ColumnElement, cast, func, type_coerce
from sqlalchemy.orm import InstrumentedAttribute

from services.errors import Invalid
from services.i18n import T

TASHKENT = ZoneInfo("Asia/Tashkent")
_OFFSET_S = 5 * 3600
_DAY_S = 86_400


def today(now: dt.datetime) -> dt.date:
    """Return the day that a moment is in."""
    return now.astimezone(TASHKENT).date()


def midnight(day: dt.date) -> dt.datetime:
    """Return when a day begins."""
    return at_time(day, dt.time())


def at_time(day: dt.date, time: dt.time) -> dt.datetime:
    """Return when the clock of Tashkent shows a time on a day."""
    return dt.datetime.combine(day, time, TASHKENT).astimezone(dt.UTC)


def day_of(text: str, field: str) -> dt.date | None:
    """Return the day that a form gives like 2026-11-22, None for an empty one; raises ``Invalid``."""
    if not text.strip():
        return None
    try:
        day = dt.date.fromisoformat(text.strip())
    except ValueError:
        day = dt.date.min
    if not 2000 <= day.year <= 2200:
        raise Invalid(T("Enter the day like 2026-11-22."), field=field)
    return day


def moment_of(text: str, field: str) -> dt.datetime:
    """Return the moment that a browser's field gives like ``2026-11-22T10:30``; raises ``Invalid``."""
    try:
        return dt.datetime.fromisoformat(text.strip()).replace(tzinfo=TASHKENT).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise Invalid(T("Choose a day and a time."), field=field) from None


def day_number(dialect: str, column: InstrumentedAttribute[Any]) -> ColumnElement[int]:
    """The number of a row's day since 1970; moments are microseconds on SQLite."""
    if dialect == "sqlite":
        return (type_coerce(column, BigInteger) + _OFFSET_S * 1_000_000) // (_DAY_S * 1_000_000)
    return cast(func.floor((func.extract("epoch", column) + _OFFSET_S) / _DAY_S), BigInteger)
