"""Grouped commits: everything the queues write goes through one transaction at a time.

While one transaction is being made durable the next operations gather; then all of them are written together, set by
set, with a constant number of statements. An idle system therefore commits at once what somebody waits for, a busy one
shares each fsync between dozens of messages. Nobody is told "stored" before the transaction that holds it is durable.

If a group fails, each operation is tried in a transaction of its own, so one bad operation spoils nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection

from db.engine import Database, DatabaseUnavailable, Moment
from services import lanes, metrics
from services.lanes import Line

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Scope:
    """What every operation needs beside its items."""

    holder: str
    now: Moment
    places: lanes.Places = field(default_factory=lanes.Places)


@dataclass(frozen=True, slots=True, eq=False)
class Operation(Generic[Item, Result]):
    """A kind of write.

    ``apply(connection, scope, items)`` returns one result per item, in order; a result that is an exception is raised to
    that item's caller alone. Operations of one transaction run by ``order``: what is accepted first may be claimed in the
    same transaction. ``touches(item)``: the lanes that it will change, by key; the group locks all of them in key
    order before anything else, so two processes never wait for each other in a circle. ``prepare(scope, item)`` is called
    before any operation of the transaction is applied. ``patience_s``: for so long it waits for others to share a commit
    with, where nobody waits for it.
    """

    name: str
    order: int
    apply: Callable[[Connection, Scope, Sequence[Item]], Sequence[Result | Exception]]
    touches: Callable[[Item], Mapping[str, Line]] | None = None
    prepare: Callable[[Scope, Item], None] | None = None
    patience_s: float = 0.0


class Writer:
    """The process's one writer for the queues. ``holder`` names this process on the lanes it holds."""

    def __init__(self, db: Database, holder: str, *, max_group: int = 500) -> None:
        self._db = db
        self.holder = holder
        self._max_group = max_group
        self._waiting: list[tuple[Operation[Any, Any], Any, asyncio.Future[Any]]] = []
        self._left: frozenset[str] = frozenset()
        self._bell = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._closing = False
        self.closed = False
        metrics.WRITES_WAITING.set_function(lambda: len(self._waiting))

    def submit(self, operation: Operation[Item, Result], item: Item) -> asyncio.Future[Result]:
        """Hand over one write; the future is done when it is durable, or failed.

        Raises :class:`DatabaseUnavailable` through the future when the database cannot take it: nothing was kept then.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        if self.closed:
            future.set_exception(DatabaseUnavailable("the process ends"))
            return future
        self._waiting.append((operation, item, future))
        if not operation.patience_s:
            self._bell.set()
            return future
        ends = loop.time() + operation.patience_s
        if self._patience is None or ends < self._patience.when():
            if self._patience is not None:
                self._patience.cancel()
            self._patience = loop.call_at(ends, self._bell.set)
        return future

    async def run(self) -> None:
        """Write until :meth:`close`; what was submitted before is still written."""
        while True:
            if not self._bell.is_set():
                await self._bell.wait()
            if not self._waiting:
                if self._closing:
                    self.closed = True
                    return
                self._rest()
                continue
            # One turn of the loop, so that what follows at once (an update's claim) is made durable by the same commit.
            await asyncio.sleep(0)
            group, self._waiting = self._waiting[: self._max_group], self._waiting[self._max_group :]
            if not self._waiting and not self._closing:
                self._rest()
            await self._write(group)

    def _rest(self) -> None:
        self._bell.clear()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def close(self) -> None:
        """Let :meth:`run` end once everything is written."""
        self._closing = True
        self._bell.set()

    async def _write(self, group: list[tuple[Operation[Any, Any], Any, asyncio.Future[Any]]]) -> None:
        try:
            results, places = await self._db.transact(self._apply, [(operation, item) for operation, item, _ in group])
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", operations=len(group), reason=str(error))
            for _, _, future in group:
                if not future.done():
                    future.set_exception(DatabaseUnavailable(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever one operation raised must reach its own caller only
            if len(group) > 1:
                metrics.GROUPS_SPLIT.inc()
                log.warning("group_split", operations=len(group), error=type(error).__name__)
                for one in group:
                    await self._write([one])
            elif not group[0][2].done():
                group[0][2].set_exception(error)
        else:
            self._left = places.still_left()
            metrics.COMMITS.inc()
            for name, n in Counter(operation.name for operation, _, _ in group).items():
                metrics.COMMITTED.labels(name).inc(n)
            for (_, _, future), result in zip(group, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _apply(
        self, connection: Connection, group: list[tuple[Operation[Any, Any], Any]]
    ) -> tuple[list[Any], lanes.Places]:
        scope = Scope(self.holder, self._db.now(), lanes.Places(self._left))
        kinds: dict[Operation[Any, Any], list[int]] = defaultdict(list)
        for position, (operation, item) in enumerate(group):
            kinds[operation].append(position)
            if operation.prepare is not None:
                operation.prepare(scope, item)
        results: list[Any] = [None] * len(group)
        if connection.dialect.name != "sqlite":
            touched: dict[str, Line] = {}
            for operation, item in group:
                if operation.touches is not None:
                    touched |= operation.touches(item)
            lanes.lock(connection, touched)
        for operation in sorted(kinds, key=lambda kind: kind.order):
            positions = kinds[operation]
            produced = operation.apply(connection, scope, [group[position][1] for position in positions])
            for position, result in zip(positions, produced, strict=True):
                results[position] = result
        return results, scope.places
