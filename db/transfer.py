"""All rows from one kind of database into the other, and what a database holds at all.

The common form is an SQLite file: a backup of PostgreSQL is one, and both kinds are brought back from it. Values go by
their types: moments are integer microseconds in SQLite, vectors little-endian floats (see ``db.base``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from db import migrate, models
from db.engine import Database, DatabaseUnavailable

Told = Callable[[int], None]
"""Hears how far something is, in percent."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_TIMEOUT_MS = 6 * 3600 * 1000
_LOCK_WAIT = "10s"
_AT_ONCE = 500
_AT_ONCE_OF_FILES = 4
_DUES = "conversation_dues"
"""Written by triggers as well, so it is copied last, over what these wrote."""
_VERSION = "alembic_version"
_BY_THE_START = frozenset(
    {
        _VERSION,
        "audit_log",
        "counted_days",
        "error_records",
        "jobs",
        "lanes",
        "login_links",
        "notices",
        "panel_sessions",
    }
)
"""What a program that nobody has used yet fills by itself."""


class NotTransferred(Exception):
    """Rows could not be taken over; nothing was changed. The text says what stood in the way, without values."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds. ``tables``: all; ``used``: those with rows that somebody made; ``busy``: who uses it now."""

    revision: str | None = None
    tables: frozenset[str] = frozenset()
    used: Sequence[str] = ()
    busy: bool = False


async def look(url: URL) -> Found:
    """Return what the database at ``url`` holds; a missing SQLite file is empty and stays missing.

    Raises ``DatabaseUnavailable`` with a line for whoever runs the machine; also where another program holds SQLite's lock.
    """
    if _is_missing(url):
        return Found()
    with migrate.explaining(url):
        database = Database(url, pool_size=1)
        try:
            async with database.engine.execution_options(botfactory_write=True).begin() as connection:
                found = await connection.run_sync(_look)
        except BaseException:
            await database.engine.dispose()
            raise
        await database.close()
    return found


def _is_missing(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _look(connection: Connection) -> Found:
    tables = frozenset(inspect(connection).get_table_names())
    if _VERSION not in tables:
        return Found(tables=tables)
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    used = []
    for name in sorted(tables & models.Base.metadata.tables.keys() - _BY_THE_START):
        # Administrators and the main bot's own channel come of the settings.
        only = {"users": "WHERE role <> 'admin'", "channels": "WHERE kind <> 'factory'"}.get(name, "")
        if connection.scalar(text(f"SELECT 1 FROM {name} {only} LIMIT 1")):  # noqa: S608 - names of our own
            used.append(name)
    busy = connection.dialect.name == "postgresql" and _is_busy(connection, tables)
    return Found(revision, tables, used, busy)


def _is_busy(connection: Connection, tables: frozenset[str]) -> bool:
    others = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'botfactory' AND pid <> pg_backend_pid()"
        )
    )
    if others or "lanes" not in tables:
        return bool(others)
    leased = "SELECT count(*) FROM lanes WHERE lease_until > extract(epoch FROM clock_timestamp())"
    return bool(connection.scalar(text(leased)))


# Out of PostgreSQL


async def to_sqlite(url: URL, target: Path, told: Told = lambda _percent: None) -> None:
    """Copy PostgreSQL at ``url``, as it is at one moment, into a new SQLite file of the same schema.

    Raises ``DatabaseUnavailable`` and ``NotTransferred``.
    """
    with migrate.explaining(url):
        source = Database(url, pool_size=1, statement_timeout_ms=_TIMEOUT_MS)
        try:
            moment = source.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with moment.connect() as connection:
                await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                revision = await connection.run_sync(migrate.known_revision)
                if revision is None:
                    raise NotTransferred("the database holds no BotFactory yet: there is nothing to copy")
                await migrate.upgrade(f"sqlite:///{target}", revision)
                driver: Any = (await connection.get_raw_connection()).driver_connection
                try:
                    with closing(sqlite3.connect(target)) as kept:
                        await _read_all(driver, kept, told)
                except sqlite3.Error as error:
                    raise NotTransferred(f"the copy could not be written: {error}") from error
        finally:
            await source.engine.dispose()


async def _read_all(driver: Any, kept: sqlite3.Connection, told: Told) -> None:
    kept.isolation_level = None
    for pragma in ("journal_mode=DELETE", "synchronous=OFF", "foreign_keys=OFF"):
        kept.execute(f"PRAGMA {pragma}")
    kept.execute("BEGIN")
    sizes = dict(await driver.fetch("SELECT relname::text, pg_table_size(oid) FROM pg_class WHERE relkind = 'r'"))
    names = _tables(kept)
    total, done = max(1, sum(sizes.get(name, 0) for name in names)), 0
    for name in names:
        if name == _DUES:
            kept.execute(f"DELETE FROM {name}")  # noqa: S608 - names of our own
        columns = [row[1] for row in kept.execute(f"PRAGMA table_info({name})")]
        listed = ", ".join(f'"{column}"' for column in columns)
        places = ", ".join("?" * len(columns))
        into = f'INSERT INTO "{name}" ({listed}) VALUES ({places})'  # noqa: S608 - names of our own
        rows: list[Sequence[Any]] = []
        most = _AT_ONCE_OF_FILES if name.endswith(("_contents", "uploads")) else _AT_ONCE
        async for record in driver.cursor(f'SELECT {listed} FROM "{name}"', prefetch=most):  # noqa: S608
            rows.append([_for_sqlite(value) for value in record.values()])
            if len(rows) == most:
                kept.executemany(into, rows)
                rows.clear()
        kept.executemany(into, rows)
        done += sizes.get(name, 0)
        told(done * 100 // total)
    kept.execute("COMMIT")


def _tables(kept: sqlite3.Connection) -> list[str]:
    """Return the tables of the file that hold rows of ours, parents first; the indexes' own are not among them."""
    found = {row[0] for row in kept.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    names = [table.name for table in models.Base.metadata.sorted_tables if table.name in found and table.name != _DUES]
    return [*names, _DUES] if _DUES in found else names


def _for_sqlite(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, bool):
        return int(value)
    return array("f", value).tobytes() if isinstance(value, list) else value


# Into PostgreSQL


async def to_postgresql(
    source: Path, url: URL, told: Told = lambda _percent: None, *, before_commit: Callable[[], None] = lambda: None
) -> None:
    """Put the rows of an SQLite file in place of all that PostgreSQL at ``url`` holds, in one transaction.

    Both have the schema of this program. ``before_commit`` runs when all rows are there and may still stop it. Raises
    ``DatabaseUnavailable`` and ``NotTransferred``; then nothing has changed.
    """
    with migrate.explaining(url):
        target = Database(url, pool_size=1, statement_timeout_ms=_TIMEOUT_MS)
        try:
            async with target.engine.begin() as connection:
                for setting in ("idle_in_transaction_session_timeout = 0", f"lock_timeout = '{_LOCK_WAIT}'"):
                    await connection.execute(text(f"SET LOCAL {setting}"))
                driver: Any = (await connection.get_raw_connection()).driver_connection
                with closing(_opened(source)) as kept:
                    await _write_all(driver, kept, told)
                before_commit()
            async with target.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                await connection.execute(text("ANALYZE"))
        except DBAPIError as error:
            if "LockNotAvailable" in type(getattr(error.orig, "__cause__", None)).__name__:
                raise DatabaseUnavailable("another program works with it now: end that one, then try again") from error
            raise
        finally:
            await target.engine.dispose()


def _opened(source: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{source.resolve().as_posix()}?mode=ro", uri=True)


async def _write_all(driver: Any, kept: sqlite3.Connection, told: Told) -> None:
    names = _tables(kept)
    size = kept.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").fetchone()[0]
    try:
        await driver.execute(f"TRUNCATE {', '.join(names)}")
    except Exception as error:
        if type(error).__name__ == "LockNotAvailableError":
            raise DatabaseUnavailable("another program works with it now: end that one, then try again") from error
        raise
    read = 0
    for name in names:
        # What triggers would note of each row is among the rows.
        await driver.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
        kinds = {
            row["column_name"]: row["data_type"]
            for row in await driver.fetch(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER'",
                name,
            )
        }
        columns = [row[1] for row in kept.execute(f"PRAGMA table_info({name})")]
        if set(columns) != kinds.keys():
            raise NotTransferred(f"the table {name} has other columns there")
        rows = _Reader(kept, name, [(column, kinds[column]) for column in columns])

        def note(octets: int) -> None:
            nonlocal read
            read += octets
            told(min(99, read * 100 // size))

        try:
            await driver.copy_records_to_table(name, columns=columns, records=rows.read(note))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            if isinstance(error, sqlite3.Error):
                raise NotTransferred(f"the table {name} cannot be read: the file is damaged") from error
            if type(error).__name__ in ("ConnectionDoesNotExistError", "InterfaceError", "DiskFullError"):
                raise
            said = str(error).split("\n")[0].split(":")[0][:120]
            raise NotTransferred(f"PostgreSQL does not take row {rows.number} of the table {name}: {said}") from error
        await driver.execute(f"ALTER TABLE {name} ENABLE TRIGGER USER")
        await _count_on(driver, name)


class _Reader:
    """Reads a table for PostgreSQL; ``number``: which row was the last."""

    def __init__(self, kept: sqlite3.Connection, table: str, columns: Sequence[tuple[str, str]]) -> None:
        self._kept, self._table, self._columns = kept, table, columns
        self.number = 0

    def read(self, note: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
        listed = ", ".join(f'"{column}"' for column, _ in self._columns)
        converts = [_INTO.get(kind) for _, kind in self._columns]
        octets = 0
        for row in self._kept.execute(f'SELECT {listed} FROM "{self._table}"'):  # noqa: S608 - names of our own
            self.number += 1
            octets += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if octets > 2**20:
                note(octets)
                octets = 0
            yield tuple(
                value if convert is None or value is None else convert(value)
                for value, convert in zip(row, converts, strict=True)
            )
        note(octets)


def _moment(value: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=value)


def _floats(value: bytes) -> list[float]:
    return array("f", value).tolist()


_INTO: Mapping[str, Callable[[Any], Any]] = {
    "timestamp with time zone": _moment,
    "boolean": bool,
    "ARRAY": _floats,
    "double precision": float,
}


async def _count_on(driver: Any, table: str) -> None:
    """Let the table's own numbers go on after the greatest that is there."""
    for key in models.Base.metadata.tables[table].primary_key:
        sequence = await driver.fetchval("SELECT pg_get_serial_sequence($1, $2)", table, key.name)
        if sequence is not None:
            await driver.execute(
                f'SELECT setval(\'{sequence}\', (SELECT coalesce(max("{key.name}"), 0) + 1 FROM "{table}"), false)'  # noqa: S608
            )
