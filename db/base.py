"""Declarative base, column types and identifiers shared by all tables."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
import threading
import time
from array import array
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, MetaData, String, Table, Text, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, REAL, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)
ID_LENGTH = 26
_MOMENT_LETTERS = 10


_last_number = 0
_numbering = threading.Lock()
_RANDOM_OCTETS = 10
_entropy: list[int] = []
os.register_at_fork(after_in_child=_entropy.clear)


def new_id() -> str:
    """Return a new opaque identifier: 48 bits of milliseconds and 80 random bits in Crockford's base 32, lower case.

    Identifiers of one process grow strictly, those of several processes to a millisecond, so ``ORDER BY id`` is the order of
    creation and B-tree inserts happen at the end.
    """
    global _last_number
    with _numbering:
        if not _entropy:
            # Many at a time: asking the system costs more than all the rest.
            drawn = os.urandom(_RANDOM_OCTETS * 100)
            _entropy.extend(
                int.from_bytes(drawn[at : at + _RANDOM_OCTETS]) for at in range(0, len(drawn), _RANDOM_OCTETS)
            )
        number = (time.time_ns() // 1_000_000) << 80 | _entropy.pop()
        if number <= _last_number:
            number = _last_number + 1 + secrets.randbits(40)
        _last_number = number
    return _written(number)


def first_id(at: dt.datetime) -> str:
    """Return what stands before every identifier of :func:`new_id` that was made at this moment or later."""
    return _written(max(0, int(at.timestamp() * 1000)) << 80)


def id_of(name: str, at: dt.datetime, place: int) -> str:
    """Return the identifier of what has a ``name`` outside and was made there in the second ``at``: each time the same.

    It stands among those of :func:`new_id` at the end of that second, and among its own in the order of ``place`` (below 2**32).
    """
    octets = hashlib.sha256(name.encode()).digest()[: _RANDOM_OCTETS - 4]
    return _written((int(at.timestamp()) * 1000 + 999) << 80 | (place & 0xFFFFFFFF) << 48 | int.from_bytes(octets))


def _written(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])


def earlier_id(id_: str, seconds: float) -> str:
    """Return what stands in the order of identifiers so long before another one: smaller than all that were made since."""
    moment = 0
    for letter in id_[:_MOMENT_LETTERS]:
        moment = moment << 5 | _ALPHABET.index(letter)
    moment = max(0, moment - round(seconds * 1000))
    pairs = [_PAIRS[moment >> shift & 1023] for shift in range(40, -1, -10)]
    return "".join(pairs).ljust(ID_LENGTH, "0")


def new_secret(octets: int = 16) -> str:
    """Return a random URL-safe text with ``octets`` bytes of entropy."""
    return secrets.token_urlsafe(octets)


def utcnow() -> dt.datetime:
    """Return the present moment, timezone-aware."""
    return dt.datetime.now(dt.UTC)


class UtcTime(TypeDecorator[dt.datetime]):
    """A moment: ``timestamptz`` on PostgreSQL, integer microseconds since 1970 on SQLite (fast, sortable, exact)."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        if dialect.name == "postgresql":
            return value
        return round(value.timestamp() * 1_000_000)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC)
        return dt.datetime.fromtimestamp(value / 1_000_000, dt.UTC)


class JsonText(TypeDecorator[Any]):
    """JSON kept as text: the same bytes on both databases, and NUL or lone surrogates are never in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


class Usd(TypeDecorator[Decimal]):
    """An amount of US dollars, exact to a billionth: an integer of nano-dollars in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int((value * 1_000_000_000).to_integral_value())

    def process_result_value(self, value: int | Decimal | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / 1_000_000_000


class Vector(TypeDecorator[Sequence[float]]):
    """An embedding of length 1: ``real[]`` on PostgreSQL (pgvector casts it), little-endian 32-bit floats on SQLite
    (sqlite-vec reads them)."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(REAL) if dialect.name == "postgresql" else LargeBinary())

    def process_bind_param(self, value: Sequence[float] | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return None if value is None else list(value)
        return array("f", value).tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> Sequence[float] | None:
        return array("f", value) if isinstance(value, bytes) else value


Id = String(ID_LENGTH)
BigId = BigInteger().with_variant(Integer(), "sqlite")
"""A growing number; SQLite knows autoincrement only for INTEGER."""


class Base(DeclarativeBase):
    """Base of all mapped classes."""

    metadata = MetaData(naming_convention=NAMING)


def table_of(model: type[Base]) -> Table:
    """Return the table of a model that is not built from a join or a subquery."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} stands for no single table")
    return table


def insert_for(dialect: str, table: type[Base] | Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what happens on a conflict, in the words of the database."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
