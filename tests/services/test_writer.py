"""The writer of the queues tells how much it has not written yet."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from db.engine import Database
from services import metrics
from services.writer import Operation, Scope, Writer


def _apply(_connection: Connection, _scope: Scope, items: Sequence[int]) -> list[int | Exception]:
    return [item * 2 for item in items]


DOUBLE: Operation[int, int] = Operation("double", 1, _apply)


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
