"""Statements of the tests' many engines are compiled once in a process.

SQLAlchemy keeps what it compiled with each engine, and forgets it with the engine: every product that a test starts would
compile its statements anew, a fifth of all processor time of such tests. Loaded by ``conftest.py``, these dialects of the three
drivers are alike for that cache wherever the server's version is the same, and their engines share one.
"""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

_compiled: LRUCache[object, object] = LRUCache(3000)


class _Alike(DefaultDialect):
    """What is common to the three."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.server_version_info == self.server_version_info

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Let an engine use the cache of all."""
        super().engine_created(engine)
        engine.update_execution_options(compiled_cache=_compiled)


class Aiosqlite(_Alike, SQLiteDialect_aiosqlite):
    """SQLite for asyncio."""

    supports_statement_cache = True


class Pysqlite(_Alike, SQLiteDialect_pysqlite):
    """SQLite."""

    supports_statement_cache = True


class Asyncpg(_Alike, PGDialect_asyncpg):
    """PostgreSQL for asyncio."""

    supports_statement_cache = True


def share() -> None:
    """Let every engine that is made from now on in this process share what was compiled."""
    for name, kind in (("sqlite.aiosqlite", Aiosqlite), ("sqlite", Pysqlite), ("postgresql.asyncpg", Asyncpg)):
        registry.register(name, __name__, kind.__name__)
