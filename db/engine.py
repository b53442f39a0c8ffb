"""The one database of the process: engine, session factory, and units of work.

Three ways in, all of them short::

    async with db.read() as session: ...      # pages, look-ups
    async with db.write() as session: ...     # commits on leaving, rolls back on an exception
    await db.transact(function, argument)     # a whole synchronous Core unit at once, for the queues

SQLite has one writer: ``write`` and ``transact`` queue up on one fair lock inside the process and begin IMMEDIATE, so
that no unit ever fails half-way with "database is locked". ``transact`` runs in a thread of its own there, because a hop
to aiosqlite's thread for each statement costs more than the statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import aiosqlite.core
import asyncpg
from sqlalchemy import ColumnElement, Connection, Double, Engine, create_engine, delete, event, extract, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import QueuePool

from db import vectors

R = TypeVar("R")

_CONTENTION_TRIES = 4
_chance = random.SystemRandom()
_BUSY_STEP_S = 0.25
# What asyncpg takes of the parameters of PostgreSQL addresses, with the values that make sense here.
_CHOICES = {
    "ssl": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "read-write"),
    "pgbouncer": ("true", "false"),
}
_TAKEN = frozenset({"host", "port", "options", *_CHOICES})
# Parameters of libpq and of platforms that may go: asyncpg has no such choice, or the engine makes it.
_DROPPED = frozenset(
    {
        "application_name",
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "connection_limit",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "pool_timeout",
        "tcp_user_timeout",
    }
)
# Parts of the names of asyncpg's exceptions that mean: not now, rather than: not like this.
_GONE = ("Connection", "CannotConnect", "Shutdown", "DiskFull", "InvalidCatalogName", "OutOfMemory", "ReadOnly")


class DatabaseUnavailable(Exception):
    """The database did not take the unit: locked for too long, gone, or its disk is full. Nothing of it was kept."""


def parse_url(text: str) -> URL:
    """Return the SQLAlchemy address for ``text`` as people and hosting platforms write it.

    Accepted: ``sqlite:///path``, ``postgres://…``, ``postgresql://…``, with or without a driver. Of libpq's parameters,
    ``sslmode`` becomes asyncpg's ``ssl``, what changes nothing here is dropped, and ``options`` and ``pgbouncer=true`` (a
    pooler that gives a connection for one transaction) stay for :class:`Database`. Raises ``ValueError`` for anything else.
    """
    try:
        url = make_url(text)
    except Exception as error:
        raise ValueError("it is not a database address") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("an SQLite address needs a file: sqlite:///data/botfactory.db")
        if url.query:
            raise ValueError("an SQLite address takes no parameters: leave out what follows the ?")
        return url.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        query = {("ssl" if name == "sslmode" else name): value for name, value in url.query.items()}
        query = {name: value for name, value in query.items() if name not in _DROPPED}
        if unknown := sorted(query.keys() - _TAKEN):
            raise ValueError(f"its parameter {unknown[0]} is not understood here: leave it out")
        for name, choices in _CHOICES.items():
            if name in query and query[name] not in choices:
                written = "sslmode" if name == "ssl" else name
                raise ValueError(f"its parameter {written} must be one of {', '.join(choices)}")
        return url.set(drivername="postgresql+asyncpg", query=query)
    raise ValueError(f"unknown kind of database: {backend}")


class _Contention(DatabaseUnavailable):
    """Two units stood in each other's way; the loser may simply run again."""


def lost_a_race(error: BaseException) -> bool:
    """Tell whether a unit failed only because another one stood in its way, so that it may simply run again."""
    return isinstance(error, _Contention)


def _driver_error(error: DBAPIError) -> str:
    """Return the name of the driver's own exception class."""
    return type(error.orig.__cause__ or error.orig).__name__ if error.orig is not None else ""


def is_unavailable(error: BaseException) -> bool:
    """Tell whether an exception means that the database cannot be used now, rather than that the unit is wrong."""
    if isinstance(error, DatabaseUnavailable | PoolTimeout | ConnectionError | OSError):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            return True
        # Exactly this class, not one below it: SQLite's file is damaged or is none.
        return _driver_error(error) == "DatabaseError" or any(part in _driver_error(error) for part in _GONE)
    return False


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _sqlite_connect(busy_timeout_s: float, connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    # SQLite's own folds ASCII only; ``ilike`` must find Cyrillic words as PostgreSQL does.
    connection.create_function("lower", 1, _lower, deterministic=True)
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={round(busy_timeout_s * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-4000",
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _Cursor:
    """A cursor whose statement goes to the thread and comes back with all its rows at once.

    aiosqlite's own goes there to be made, to execute, to fetch and to be closed: each way costs more than a small statement.
    """

    def __init__(self, connection: _Uninterrupted) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> _Cursor:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        """Execute a statement and take in what it returns."""
        await self._connection._execute(self._run, "execute", statement, parameters)

    async def executemany(self, statement: str, parameters: Any) -> None:
        """Execute a statement once for each row of parameters."""
        await self._connection._execute(self._run, "executemany", statement, parameters)

    def _run(self, how: str, statement: str, parameters: Any) -> None:
        with contextlib.closing(self._connection._conn.cursor()) as cursor:
            getattr(cursor, how)(statement, parameters)
            self.description = cursor.description
            self._rows = cursor.fetchall() if cursor.description else []
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid

    async def fetchall(self) -> list[Any]:
        """Return the rows."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """There is nothing to close: that has been done in the thread."""


class _Uninterrupted(aiosqlite.Connection):
    """A connection whose operations end before a cancellation goes on.

    A unit that is cancelled between two threads would leave its transaction open, and SQLite's only lock with it, until the
    garbage collector finds the connection: minutes in which nobody can write.
    """

    def cursor(self) -> _Cursor:  # type: ignore[override]
        return _Cursor(self)

    async def rollback(self) -> None:
        """Roll back where there is something to: the pool asks it of every connection that comes back."""
        if self._connection is None or self._connection.in_transaction:
            await super().rollback()

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._running or self._connection is None:
            raise ValueError("Connection closed")
        future = self._queue(partial(fn, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _end_of(future)
            await _end_of(self._queue(self._give_back))
            raise

    def _give_back(self) -> None:
        """Let go of what a cancelled operation has begun: it would keep an old state of the file alive."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.rollback()

    def _queue(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, function))
        return future

    def stop(self) -> None:
        """Close and end the thread without telling anybody: the loop may be closed by then."""
        self._running = False

        def close() -> object:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return aiosqlite.core._STOP_RUNNING_SENTINEL

        self._tx.put_nowait((None, close))


def _nothing() -> None:
    """Is a unit that shows that those before it have ended."""


async def _end_of(future: asyncio.Future[Any]) -> None:
    """Wait for a future, however often the waiting is cancelled; what came of it does not matter."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    future.exception()


def _connect_uninterrupted(database: str, **options: Any) -> _Uninterrupted:
    connection = _Uninterrupted(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)
    connection._thread.daemon = True
    return connection


class _WriterThread(threading.Thread):
    """Runs one unit after the other; each result comes to the event loop in a single step, an executor's in three."""

    def __init__(self) -> None:
        super().__init__(name="sqlite-writer", daemon=True)
        self._units: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ending = False

    def submit(self, unit: Callable[[], R]) -> asyncio.Future[R]:
        """Run ``unit`` after those before it. It runs also if the future is cancelled.

        Raises :class:`DatabaseUnavailable` after :meth:`end`.
        """
        if self._ending:
            raise DatabaseUnavailable("the database is closed")
        if self.ident is None:
            self.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        def run() -> None:
            try:
                result = unit()
            except StopIteration as error:
                # No future takes it: the caller would wait for ever.
                told = partial(_fail, future, RuntimeError(f"a unit ended with {error!r}"))
            except BaseException as error:  # noqa: BLE001 - raised again where the unit is awaited
                told = partial(_fail, future, error)
            else:
                told = partial(_fulfil, future, result)
            # Nobody waits any more once the loop is closed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(told)

        self._units.put(run)
        return future

    def end(self) -> None:
        """End after what was submitted."""
        self._ending = True
        self._units.put(None)

    def run(self) -> None:
        """Work until :meth:`end`."""
        while (unit := self._units.get()) is not None:
            unit()
            # Not kept until the next one comes: it holds what it was given.
            del unit


def _fulfil(future: asyncio.Future[R], result: R) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _prepared(connection: Any, _record: Any) -> None:
    # Said on the connection, not while it is made: poolers refuse there what they do not know. What a process that stands
    # still has locked is free again after a minute.
    settings = "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '60s'"
    try:
        connection.run_async(lambda driver: driver.execute(settings))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # Cut before it was used. The driver's own errors are not SQLAlchemy's here, which nobody would know for the database's.
        raise ConnectionError(str(error)) from error


def _pooled() -> dict[str, Any]:
    """Return how asyncpg lives with a pooler whose next transaction may be on another connection to the server."""
    return {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid.uuid4()}__",
    }


def _load_vectors(connection: Any, _record: Any) -> None:
    connection.run_async(vectors.load_extension)


def _sqlite_begin(connection: Connection) -> None:
    begin = "BEGIN IMMEDIATE" if connection.get_execution_options().get("botfactory_write", False) else "BEGIN"
    # Past SQLAlchemy's execution, which would cost as much as the small statements that follow.
    try:
        connection.connection.cursor().execute(begin)
    except sqlite3.Error as error:
        raise DBAPIError.instance(begin, None, error, sqlite3.Error, dialect=connection.dialect) from error


Moment = float | ColumnElement[float]
"""Seconds since 1970, as a number or as what the database will say."""


def clock(dialect: str) -> Moment:
    """Return now: the server's clock on PostgreSQL, this machine's on SQLite."""
    if dialect == "sqlite":
        return time.time()
    return extract("epoch", func.clock_timestamp()).cast(Double)


class Database:
    """One engine and one session factory for the whole process.

    ``pool_size`` counts connections (each is a thread on SQLite). ``statement_timeout_ms`` bounds a statement on
    PostgreSQL. ``busy_timeout_s``: so long a unit waits for the one before it and SQLite for another program's lock; then it is
    unavailable. ``with_vectors``: load sqlite-vec into SQLite's connections where this Python can.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 5,
        statement_timeout_ms: int = 30_000,
        busy_timeout_s: float = 10,
        with_vectors: bool = False,
    ) -> None:
        self.url = parse_url(url) if isinstance(url, str) else url
        self.dialect = self.url.get_backend_name()
        self.is_sqlite = self.dialect == "sqlite"
        self._thread: _WriterThread | None = None
        self._sync_engine: Engine | None = None
        self._kept: Connection | None = None
        self._busy_timeout_s = busy_timeout_s
        self._closing = False
        if self.is_sqlite:
            Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_async_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=40,
                hide_parameters=True,
                connect_args={"async_creator_fn": _connect_uninterrupted},
            )
            event.listen(self.engine.sync_engine, "connect", partial(_sqlite_connect, busy_timeout_s))
            event.listen(self.engine.sync_engine, "begin", _sqlite_begin)
            if with_vectors and vectors.loads_extensions():
                event.listen(self.engine.sync_engine, "connect", _load_vectors)
            self._sync_engine = create_engine(
                self.url.set(drivername="sqlite"),
                hide_parameters=True,
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=0,
                connect_args={"check_same_thread": False},
            )
            event.listen(self._sync_engine, "connect", partial(_sqlite_connect, min(busy_timeout_s, _BUSY_STEP_S)))
            event.listen(self._sync_engine, "begin", self._writer_begin)
            self._thread = _WriterThread()
            self._lock: asyncio.Lock | None = asyncio.Lock()
        else:
            parameters = self.url.query
            options = {"options": parameters["options"]} if "options" in parameters else {}
            self.engine = create_async_engine(
                self.url.difference_update_query(("options", "pgbouncer")),
                pool_size=pool_size,
                max_overflow=pool_size,
                hide_parameters=True,
                pool_pre_ping=True,
                pool_timeout=30,
                connect_args={
                    "timeout": 10,
                    "command_timeout": statement_timeout_ms / 1000,
                    "server_settings": {"timezone": "UTC", "application_name": "botfactory", **options},
                    **(_pooled() if parameters.get("pgbouncer") == "true" else {}),
                },
            )
            event.listen(self.engine.sync_engine, "connect", _prepared)
            self._lock = None
        self._reads = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writes = async_sessionmaker(self.engine.execution_options(botfactory_write=True), expire_on_commit=False)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session for reading one consistent state; what it changes is not kept."""
        try:
            async with self._reads() as session:
                yield session
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise self._translated(error) from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for the place of SQLite's one writer."""
        if self._lock is None:
            yield
            return
        try:
            async with asyncio.timeout(self._busy_timeout_s):
                await self._lock.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("another unit holds the database") from None
        try:
            yield
        finally:
            self._lock.release()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work: commits on leaving, rolls back on an exception.

        Raises :class:`DatabaseUnavailable` when the database cannot take it. A unit that loses a deadlock ends so as well:
        only the caller could do again what it did in the session. Pages answer 503, jobs come again; what must not fail for
        that is a function for :meth:`transact`.
        """
        async with self._turn():
            try:
                async with self._writes() as session, session.begin():
                    yield session
            except (DBAPIError, PoolTimeout, OSError) as error:
                raise self._translated(error) from error

    async def delete_in_slices(
        self,
        key: InstrumentedAttribute[Any],
        condition: ColumnElement[bool],
        *,
        at_once: int,
        check: Callable[[AsyncSession], Awaitable[None]] | None = None,
    ) -> None:
        """Delete the rows for which ``condition`` holds, ``at_once`` in a unit, so that others need not wait for all of them.

        ``key``: the primary key of their model. ``check`` comes first in each unit and raises where it must not be.
        """
        while True:
            async with self.write() as session:
                if check is not None:
                    await check(session)
                found = list(await session.scalars(select(key).where(condition).limit(at_once)))
                if not found:
                    return
                await session.execute(delete(key.class_).where(key.in_(found), condition))

    async def transact(self, function: Callable[..., R], *args: Any) -> R:
        """Run ``function(connection, *args)``, plain synchronous Core code, as one write transaction.

        A deadlock or serialisation failure is tried again: the unit ran as a whole or not at all. Raises
        :class:`DatabaseUnavailable` when the database cannot take it; other exceptions of the function pass.
        """
        for attempt in range(_CONTENTION_TRIES):
            try:
                return await self._transact_once(function, *args)
            except _Contention as error:
                if attempt + 1 == _CONTENTION_TRIES:
                    raise DatabaseUnavailable(str(error)) from error
                await asyncio.sleep(_chance.uniform(0, 0.02) * 2**attempt)
        raise AssertionError("unreachable")

    async def _transact_once(self, function: Callable[..., R], *args: Any) -> R:
        async with self._turn():
            try:
                if self._thread is not None:
                    try:
                        return await self._thread.submit(partial(self._run_sync, function, args))
                    except asyncio.CancelledError:
                        # The lock is not left while the transaction still runs; a thread that ends sees it through.
                        with contextlib.suppress(DatabaseUnavailable):
                            await _end_of(self._thread.submit(_nothing))
                        raise
                async with self.engine.begin() as connection:
                    return await connection.run_sync(function, *args)
            except (DBAPIError, PoolTimeout, OSError) as error:
                raise self._translated(error) from error

    def _run_sync(self, function: Callable[..., R], args: tuple[Any, ...]) -> R:
        if self._sync_engine is None:
            raise RuntimeError("no synchronous engine")
        if self._kept is None:
            self._kept = self._sync_engine.connect()
        try:
            with self._kept.begin():
                return function(self._kept, *args)
        except BaseException:
            # A connection that saw an error is not trusted with the next unit.
            kept, self._kept = self._kept, None
            kept.invalidate()
            kept.close()
            raise

    def _writer_begin(self, connection: Connection) -> None:
        # Past SQLAlchemy's execution, which would cost as much as all of a small unit.
        ends = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.connection.cursor().execute("BEGIN IMMEDIATE")
                return
            except sqlite3.Error as error:
                # A sleeping SQLite cannot be woken: it waits in steps, so that a process that stops need not wait with it.
                if (
                    error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    and not self._closing
                    and time.monotonic() < ends
                ):
                    continue
                wrapped = DBAPIError.instance("BEGIN IMMEDIATE", None, error, sqlite3.Error, dialect=connection.dialect)
                raise wrapped from error

    @staticmethod
    def _translated(error: BaseException) -> BaseException:
        if isinstance(error, DBAPIError) and any(
            part in _driver_error(error) for part in ("Deadlock", "Serialization")
        ):
            return _Contention("two units waited for each other")
        if is_unavailable(error) and not isinstance(error, DatabaseUnavailable):
            # The driver's text names hosts and files, never values; it goes to the log, not to people.
            return DatabaseUnavailable(str(getattr(error, "orig", None) or error).split("\n")[0][:300])
        return error

    def now(self) -> Moment:
        """Return the clock for leases: see :func:`clock`."""
        return clock(self.dialect)

    async def read_clock(self, session: AsyncSession) -> float:
        """Return :meth:`now` as a number, for what is kept outside the columns of a table."""
        now = self.now()
        return now if isinstance(now, float) else float((await session.execute(select(now))).scalar_one())

    async def close(self) -> None:
        """Close all connections. The last one folds SQLite's write-ahead log back into the file, unless somebody reads it."""
        self._closing = True
        await self.engine.dispose()
        if self._thread is not None and self._sync_engine is not None:
            closing = self._thread.submit(partial(self._close_writer, self._sync_engine))
            self._thread.end()
            await closing
            self._thread.join()

    def _close_writer(self, engine: Engine) -> None:
        if self._kept is not None:
            self._kept.close()
        engine.dispose()
