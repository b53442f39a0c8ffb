"""Units of work: one at a time on SQLite, all or nothing, and honest about a database that is not there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import Database, DatabaseUnavailable, parse_url


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("sqlite:///data/x.db", "sqlite+aiosqlite"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+asyncpg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg"),
    ],
)
def test_addresses_as_people_and_platforms_write_them(written: str, driver: str) -> None:
    url = parse_url(written)
    assert url.drivername == driver
    assert "sslmode" not in url.query


@pytest.mark.parametrize("written", ["", "x", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_addresses_that_cannot_be_used(written: str) -> None:
    with pytest.raises(ValueError, match=r"database|file"):
        parse_url(written)


async def test_sqlite_is_durable_and_strict(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    try:
        async with db.read() as session:
            pragmas = {
                name: await session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    finally:
        await db.close()


async def test_a_unit_that_fails_leaves_nothing(database_url: str) -> None:
    db = Database(database_url)

    def half(connection: Connection) -> None:
        connection.execute(insert(models.Lane).values(key="a", kind="inbox"))
        raise LookupError("half-way")

    try:
        with pytest.raises(LookupError):
            await db.transact(half)
        with pytest.raises(LookupError):
            async with db.write() as session:
                session.add(models.Lane(key="b", kind="inbox"))
                await session.flush()
                raise LookupError("half-way")
        async with db.read() as session:
            assert await session.scalar(select(func.count()).select_from(models.Lane)) == 0
    finally:
        await db.close()


async def test_many_writers_at_once_lose_no_update(database_url: str) -> None:
    """What a unit has read is still so when it writes: on SQLite units come one after another, on PostgreSQL it locks."""
    db = Database(database_url)

    def add_one(connection: Connection) -> None:
        pending = connection.scalars(select(models.Lane.pending).with_for_update()).one()
        connection.execute(update(models.Lane).values(pending=pending + 1))

    async def add_in_session() -> None:
        async with db.write() as session:
            await session.run_sync(lambda sync: add_one(sync.connection()))

    try:
        async with db.write() as session:
            session.add(models.Lane(key="a", kind="inbox"))
        await asyncio.gather(*(db.transact(add_one) for _ in range(30)), *(add_in_session() for _ in range(30)))
        async with db.read() as session:
            assert await session.scalar(select(models.Lane.pending)) == 60
    finally:
        await db.close()


async def test_a_unit_that_has_only_read_holds_the_place_of_the_one_writer(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    try:
        async with db.write() as session:
            await session.scalar(select(func.count()).select_from(models.Lane))
            other = sqlite3.connect(str(db.url.database), timeout=0)
            with contextlib.closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
    finally:
        await db.close()


async def test_a_cancelled_writer_does_not_leave_its_transaction_open(database_url: str) -> None:
    db = Database(database_url)

    def add(connection: Connection, key: str) -> None:
        connection.execute(insert(models.Lane).values(key=key, kind="inbox"))

    try:
        tasks = [asyncio.create_task(db.transact(add, f"k{number}")) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await db.transact(add, "after")
        async with db.read() as session:
            keys = set(await session.scalars(select(models.Lane.key)))
        assert {f"k{number}" for number in range(1, 20, 2)} | {"after"} <= keys
    finally:
        await db.close()


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    db = Database(f"postgresql://postgres@/x?host={tmp_path}")
    try:
        with pytest.raises(DatabaseUnavailable):
            await db.transact(lambda connection: None)
        with pytest.raises(DatabaseUnavailable):
            async with db.write() as session:
                await session.scalar(select(1))
        with pytest.raises(DatabaseUnavailable):
            async with db.read() as session:
                await session.scalar(select(1))
    finally:
        await db.close()


async def test_a_connection_that_is_cut_before_its_first_unit_is_the_database_away(postgres_url: str) -> None:
    """For everything that asks: an error of the driver's own would end the process."""
    cut = 0

    async def between(program: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        nonlocal cut
        folder = parse_url(postgres_url).query["host"]
        answers, server = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")

        async def answering() -> None:
            while part := await answers.read(65_536):
                back.write(part)
            back.close()

        with contextlib.closing(back), contextlib.closing(server):
            listening = asyncio.ensure_future(answering())
            while part := await program.read(65_536):
                if b"synchronous_commit" in part and cut < 3:
                    cut += 1
                    break
                server.write(part)
            listening.cancel()

    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(between, f"{folder}/.s.PGSQL.5432"):
            db = Database(parse_url(postgres_url).update_query_dict({"host": folder}).render_as_string(False))
            try:
                for way in (db.transact(_nothing), _first(db.read()), _first(db.write())):
                    with pytest.raises(DatabaseUnavailable):
                        await way
                assert cut == 3
                await db.transact(_nothing)
            finally:
                await db.close()


def _nothing(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


async def _first(unit: contextlib.AbstractAsyncContextManager[AsyncSession]) -> None:
    async with unit as session:
        await session.execute(text("SELECT 1"))


async def test_closing_waits_for_no_other_programs_lock(sqlite_url: str) -> None:
    db = Database(sqlite_url, busy_timeout_s=600)
    await db.transact(lambda connection: None)
    outside = sqlite3.connect(str(db.url.database), isolation_level=None)
    outside.execute("BEGIN IMMEDIATE")
    try:
        waiting = asyncio.create_task(db.transact(lambda connection: None))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await db.close()
            with pytest.raises(DatabaseUnavailable):
                await waiting
    finally:
        outside.close()


@pytest.mark.parametrize("way", ["session", "transact"])
async def test_a_cancelled_unit_leaves_the_database_free(database_url: str, way: str) -> None:
    """Wherever it is cut off: the next unit can write at once, without the garbage collector's help."""
    db = Database(database_url, pool_size=3)
    chance = random.Random(7)

    def add(connection: Connection, key: str) -> None:
        connection.execute(insert(models.Lane).values(key=key, kind="x"))
        connection.scalar(select(models.Lane.key).limit(1))

    async def unit(key: str) -> None:
        if way == "transact":
            await db.transact(add, key)
            return
        async with db.write() as session:
            await (await session.connection()).run_sync(add, key)

    gc.disable()
    try:
        for number in range(150):
            cut = asyncio.ensure_future(unit(f"cut{number}"))
            await asyncio.wait([cut], timeout=chance.uniform(0, 0.004))
            cut.cancel()
            # A stop may cancel twice.
            await asyncio.wait([cut], timeout=chance.uniform(0, 0.001))
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            async with asyncio.timeout(5):
                await unit(f"whole{number}")
        async with db.read() as session:
            whole = select(func.count()).select_from(models.Lane).where(models.Lane.key.startswith("whole"))
            assert await session.scalar(whole) == 150
    finally:
        gc.enable()
        await db.close()


async def test_a_cancelled_unit_is_left_only_when_it_has_ended(sqlite_url: str) -> None:
    db, begun, ended = Database(sqlite_url), threading.Event(), threading.Event()

    def slow(_: Connection) -> None:
        begun.set()
        time.sleep(0.2)
        ended.set()

    def wrong(_: Connection) -> None:
        next(iter(()))

    try:
        unit = asyncio.create_task(db.transact(slow))
        await asyncio.to_thread(begun.wait)
        unit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unit
        assert ended.is_set()
        # No future takes this exception.
        with pytest.raises(RuntimeError, match="StopIteration"):
            await db.transact(wrong)
        assert (
            await db.transact(lambda connection: connection.scalar(select(func.count()).select_from(models.Lane))) == 0
        )
    finally:
        await db.close()


async def test_a_cancelled_reader_keeps_no_old_state(sqlite_url: str) -> None:
    """Wherever it is cut off: the write-ahead log can be folded back at once, without the garbage collector's help."""
    db = Database(sqlite_url, pool_size=3)
    outside = sqlite3.connect(str(db.url.database), isolation_level=None, timeout=0)
    chance = random.Random(7)

    async def look() -> None:
        async with db.read() as session:
            await session.scalars(select(models.Lane.key))
            await session.scalars(select(models.Lane.kind))

    gc.disable()
    try:
        for number in range(150):
            cut = asyncio.ensure_future(look())
            await asyncio.wait([cut], timeout=chance.uniform(0, 0.004))
            cut.cancel()
            await asyncio.gather(cut, return_exceptions=True)
            async with db.write() as session:
                session.add_all(models.Lane(key=f"{number}:{row}", kind="x") for row in range(10))
            busy, _, _ = outside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy
    finally:
        gc.enable()
        outside.close()
        await db.close()


async def test_closing_waits_for_no_reader_and_folds_the_log_without_one(sqlite_url: str) -> None:
    file = str(parse_url(sqlite_url).database)
    outside = sqlite3.connect(file, isolation_level=None)
    outside.execute("BEGIN")
    outside.execute("SELECT count(*) FROM lanes").fetchone()
    for key in ("first", "second"):
        db = Database(sqlite_url, busy_timeout_s=600)
        async with db.write() as session:
            session.add(models.Lane(key=key, kind="x"))
        async with asyncio.timeout(60):
            await db.close()
            with pytest.raises(DatabaseUnavailable):
                await db.transact(lambda _: None)
        assert Path(f"{file}-wal").exists() == (key == "first")
        outside.close()


async def test_a_database_that_another_program_holds_is_soon_unavailable(sqlite_url: str) -> None:
    db = Database(sqlite_url, busy_timeout_s=0.2)
    outside = sqlite3.connect(str(db.url.database), isolation_level=None)

    async def unit() -> None:
        async with db.write() as session:
            session.add(models.Lane(key="kept", kind="x"))

    outside.execute("BEGIN IMMEDIATE")
    try:
        # However many wait: nobody stands in line for as long as all before them together.
        results = await asyncio.gather(
            *(unit() for _ in range(10)), db.transact(lambda connection: None), return_exceptions=True
        )
        assert {type(result) for result in results} == {DatabaseUnavailable}
        outside.execute("ROLLBACK")
        await unit()
    finally:
        outside.close()
        await db.close()
