"""Durable jobs: rows that are worked once, in order inside their lane."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db.base import insert_for, utcnow
from db.engine import clock
from services import lanes
from services.conversations.records import LostLane
from services.lanes import Claimed, Line, Release
from services.text import clean
from services.writer import Operation, Scope

Handler = Callable[[Mapping[str, Any]], Awaitable[None]]


_held: ContextVar[tuple[str, Claimed] | None] = ContextVar("held", default=None)


class TryLater(Exception):
    """The job cannot be done now; it is taken up again after ``delay_s`` without counting as a failure."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s:.0f} s")
        self.delay_s = delay_s


@contextlib.contextmanager
def holding(holder: str, claim: Claimed) -> Iterator[None]:
    """Let the handler that runs inside know by which claim it works."""
    before = _held.set((holder, claim))
    try:
        yield
    finally:
        _held.reset(before)


async def still_ours(session: AsyncSession) -> None:
    """Lock the lane of the job that runs, for the session's transaction; outside of jobs nothing is done.

    Raises ``LostLane`` where another worker has taken it over: a handler that writes in several transactions and slept through
    its lease must change nothing more. Rows of bots are locked before lanes.
    """
    if held := _held.get():
        connection = await session.connection()
        holder, claim = held
        if not await connection.run_sync(lanes.ours, holder, [claim]):
            raise LostLane(claim.key)


def _add(connection: Connection, row: Mapping[str, Any], line: Line, delay_s: float) -> bool:
    now = clock(connection.dialect.name)
    lane = row["lane"]
    lanes.lock(connection, {lane: line})
    created = connection.execute(
        insert_for(connection.dialect.name, lanes.JOBS)
        .values(status="new", attempts=0, created_at=utcnow(), **row)
        .on_conflict_do_nothing(index_elements=["unique_key"])
        .returning(lanes.JOBS.c.id)
    ).scalar_one_or_none()
    if created is None:
        return False
    lanes.add(connection, {lane: 1}, {lane: line}, now, delay_s=delay_s)
    return True


def _line(owner_id: str, bot_id: str | None) -> Line:
    return Line("jobs", owner_id, bot_id or owner_id)


def _key(lane: str) -> str:
    return f"job:{lane}"[:200]


async def add(
    session: AsyncSession,
    kind: str,
    payload: Mapping[str, Any],
    *,
    lane: str,
    owner_id: str = "",
    bot_id: str | None = None,
    unique_key: str | None = None,
    delay_s: float = 0.0,
) -> bool:
    """Put a job into its lane inside the session's transaction; return False when ``unique_key`` is known already.

    ``delay_s`` counts only for a lane that was empty. ``bot_id``: where the lane serves one bot of the owner alone.
    """
    row = {"lane": _key(lane), "kind": kind, "payload": dict(payload), "unique_key": unique_key}
    connection = await session.connection()
    return await connection.run_sync(_add, row, _line(owner_id, bot_id), delay_s)


def add_in(connection: Connection, kind: str, payload: Mapping[str, Any], *, lane: str, line: Line) -> None:
    """Put a job into a lane of its own that nobody else uses, inside a transaction of the conveyor; ``line``: whose it is."""
    row = {"lane": _key(lane), "kind": kind, "payload": dict(payload), "unique_key": None}
    _add(connection, row, _line(line.owner_id, line.share_id), 0.0)


def _drop(connection: Connection, key: str, line: Line, kind: str, unwanted: Callable[[Any], bool]) -> None:
    lanes.lock(connection, {key: line})
    job = lanes.JOBS.c
    # A claim raises the attempts before anything else: what was tried may be in hand and is closed by who holds it.
    waiting = select(job.id, job.payload).where(
        job.lane == key, job.status == "new", job.kind == kind, job.attempts == 0
    )
    ids = [row.id for row in connection.execute(waiting) if unwanted(row.payload)]
    connection.execute(lanes.JOBS.delete().where(job.id.in_(ids)))
    lanes.add(connection, {key: -len(ids)}, {key: line}, clock(connection.dialect.name))


async def drop(session: AsyncSession, kind: str, unwanted: Callable[[Any], bool], *, lane: str, owner_id: str) -> None:
    """Take the jobs with an ``unwanted`` payload out of their lane, but for one that was begun."""
    connection = await session.connection()
    await connection.run_sync(_drop, _key(lane), _line(owner_id, None), kind, unwanted)


@dataclass(frozen=True, slots=True)
class JobDone:
    """The end of a job: done, to be tried again after ``delay_s``, or dead. ``error`` says why."""

    claim: Claimed
    status: str = "done"
    error: str | None = None
    delay_s: float = 0.0
    counts: bool = True


def _finish(connection: Connection, scope: Scope, items: Sequence[JobDone]) -> list[Exception | None]:
    releases = [Release(item.claim, 0 if item.status == "new" else 1, item.delay_s) for item in items]
    held = lanes.release(connection, scope.holder, releases, scope.now)
    results: list[Exception | None] = []
    for item in items:
        if item.claim.key not in held:
            results.append(LostLane(item.claim.key))
            continue
        row = item.claim.items[0]
        values: dict[str, Any] = {"status": item.status, "error": clean(item.error or "", 300) or None}
        if item.status != "new":
            # What is set aside may be tried again by an administrator; what is done leaves nothing behind.
            values |= {"finished_at": utcnow(), **({} if item.status == "dead" else {"payload": {}})}
        elif item.counts:
            values["failures"] = row["failures"] + 1
        else:
            values["attempts"] = row["attempts"]
        connection.execute(update(lanes.JOBS).where(lanes.JOBS.c.id == row["id"]).values(**values))
        results.append(None)
    return results


FINISH: Operation[JobDone, None] = Operation("job_done", 50, _finish, lambda item: lanes.touched(item.claim))
