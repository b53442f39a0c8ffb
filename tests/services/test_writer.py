"""The writer of the queues: what shares a commit, and how much is not written yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import Connection

from db.engine import Database
from services import metrics
from services.writer import Operation, Scope, Writer


def _apply(_connection: Connection, _scope: Scope, items: Sequence[int]) -> list[int | Exception]:
    return [item * 2 for item in items]


DOUBLE: Operation[int, int] = Operation("double", 1, _apply)


def _when(_connection: Connection, scope: Scope, items: Sequence[None]) -> list[object]:
    return [scope.now] * len(items)


AT_ONCE: Operation[None, object] = Operation("at_once", 1, _when)
SOON: Operation[None, object] = Operation("soon", 2, _when, patience_s=0.01)
LATER: Operation[None, object] = Operation("later", 3, _when, patience_s=60)
"""Each returns the time of its transaction."""


async def test_writes_that_wait_are_counted(sqlite_url: str) -> None:
    def waiting() -> float | None:
        return metrics.REGISTRY.get_sample_value("botfactory_writes_waiting")

    db = Database(sqlite_url)
    try:
        writer = Writer(db, "test")
        assert waiting() == 0
        futures = [writer.submit(DOUBLE, number) for number in range(3)]
        assert waiting() == 3
        writer.close()
        await writer.run()
        assert [await future for future in futures] == [0, 2, 4]
        assert waiting() == 0
    finally:
        await db.close()


async def test_what_nobody_waits_for_shares_a_commit(sqlite_url: str) -> None:
    """It is written with the next thing that somebody waits for, else by itself when its patience ends, and before closing."""
    db = Database(sqlite_url)
    try:
        writer = Writer(db, "test")
        writing = asyncio.create_task(writer.run())
        patient = writer.submit(LATER, None)
        await asyncio.sleep(0.05)
        assert not patient.done()
        assert await writer.submit(AT_ONCE, None) == await patient
        first = await writer.submit(SOON, None)
        second = await writer.submit(SOON, None)
        assert second != first
        patient, other = writer.submit(LATER, None), writer.submit(SOON, None)
        assert await other == await patient
        patient = writer.submit(LATER, None)
        assert not patient.done()
        writer.close()
        await writing
        assert await patient != second
    finally:
        await db.close()
