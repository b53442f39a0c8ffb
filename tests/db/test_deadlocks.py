"""Two units that wait for each other on PostgreSQL: one of them is ended by the server, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, Update, select, update
from sqlalchemy.util import await_only

from db import models
from db.engine import Database, DatabaseUnavailable, parse_url

LANES = ("a", "b")


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    """A database with two lanes and a server that looks for deadlocks soon."""
    opened = Database(parse_url(postgres_url).update_query_dict({"options": "-c deadlock_timeout=50ms"}))
    async with opened.write() as session:
        session.add_all(models.Lane(key=key, kind="inbox") for key in LANES)
    yield opened
    await opened.close()


def _one_more(key: str) -> Update:
    return update(models.Lane).where(models.Lane.key == key).values(pending=models.Lane.pending + 1)


async def _pending(db: Database) -> list[int]:
    async with db.read() as session:
        return list(await session.scalars(select(models.Lane.pending).order_by(models.Lane.key)))


async def test_a_unit_that_lost_a_deadlock_runs_again(db: Database) -> None:
    both_hold_one = asyncio.Barrier(2)
    tries: Counter[str] = Counter()

    def unit(connection: Connection, first: str, second: str) -> str:
        tries[first] += 1
        connection.execute(_one_more(first))
        if tries[first] == 1:
            await_only(both_hold_one.wait())
        connection.execute(_one_more(second))
        return first

    results = await asyncio.gather(db.transact(unit, *LANES), db.transact(unit, *reversed(LANES)))
    assert tuple(results) == LANES
    assert sorted(tries.values()) == [1, 2]
    assert await _pending(db) == [2, 2]


async def test_a_session_that_lost_a_deadlock_is_unavailable_and_keeps_nothing(db: Database) -> None:
    """What was done in the session only its caller can do again."""
    both_hold_one = asyncio.Barrier(2)

    async def unit(first: str, second: str) -> None:
        async with db.write() as session:
            await session.execute(_one_more(first))
            await both_hold_one.wait()
            await session.execute(_one_more(second))

    ends = await asyncio.gather(unit(*LANES), unit(*reversed(LANES)), return_exceptions=True)
    assert sorted(isinstance(end, DatabaseUnavailable) for end in ends) == [False, True]
    assert None in ends
    assert await _pending(db) == [1, 1]
