"""What owners' own servers are told, on its way: signed, sent again until it arrives, by the rows of :mod:`services.endpoints`.

One process of the installation sends. Events of an endpoint go one after the other in the order of their making; one that fails
is tried again later and holds nothing up. An endpoint that fails rests for a while, and an endpoint never waits for another.
Events are taken (attempt counted, put off) before anything leaves: what was cut off before its mark goes out again with the
same id, by which the receiver knows it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable
from services import access, endpoints, metrics, notices
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary
from services.http import post_outside
from services.pauses import backoff_s
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
AGAIN_S = (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600, 26 * 3600)
"""How long after each failed attempt the next one comes; after the last of them, about three days, an event is given up."""
OFF_AFTER = dt.timedelta(days=3)
"""An endpoint that has taken nothing for so long is switched off."""
MOST_WAITING = 10_000
"""So is one for which more than this waits."""
_REST_FIRST_S, _REST_MOST_S = 5.0, 300.0
_SLICE = 10
_SEEN_EVERY = dt.timedelta(minutes=1)
_SHOWN = 500
_GONE = 410
# Written out: by a parameter a partial index is not found.
_WAITS = models.EndpointEvent.status == literal_column("'waiting'")


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of sending an event."""

    event: models.EndpointEvent
    ok: bool
    status: int | None
    answer: str
    took_ms: int


class Courier:
    """What tells owners' servers in a process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[str, tuple[dt.datetime, int]] = {}
        self._stopping = False
        self._bell: asyncio.Queue[object] | None = None

    async def run(self) -> None:
        """Send when the bell rings, when a turn is over and every two seconds; until cancelled."""
        async with self._core.bell.listen("endpoints", limit=1) as bell:
            self._bell = bell
            while not self._stopping:
                try:
                    await self._begin()
                except DatabaseUnavailable:
                    log.warning("endpoints_not_told")
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await bell.get()
                except TimeoutError:
                    pass

    async def stop(self) -> None:
        """Let what is in hand arrive and be marked; nothing begins any more."""
        self._stopping = True
        if self._busy:
            await asyncio.wait(list(self._busy.values()))

    async def _begin(self) -> None:
        """Begin a turn for each endpoint that something is due for, as many as may be at once."""
        room = self._core.settings.webhooks.at_once - len(self._busy)
        if room <= 0:
            return
        for endpoint_id in await self._due(room):
            if self._stopping:
                return
            task = self._core.tasks.start(self._turn(endpoint_id), name="endpoint")
            self._busy[endpoint_id] = task
            task.add_done_callback(partial(self._over, endpoint_id))

    def _over(self, endpoint_id: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(endpoint_id, None)
        # More may be due there, and there is room for another.
        if self._bell is not None and not self._bell.full():
            self._bell.put_nowait(None)

    async def _due(self, room: int) -> list[str]:
        """Return endpoints that something is due for, the longest due first."""
        now = self._core.now()
        self._rests = {id_: rest for id_, rest in self._rests.items() if rest[0] > now - dt.timedelta(hours=1)}
        resting = [id_ for id_, (until, _) in self._rests.items() if until > now]
        endpoint, event, user = models.Endpoint, models.EndpointEvent, models.User
        first = (
            select(event.run_at)
            .where(event.endpoint_id == endpoint.id, _WAITS, event.run_at <= now)
            .order_by(event.run_at)
            .limit(1)
            .scalar_subquery()
        )
        query = (
            select(endpoint.id)
            .join(user, user.id == endpoint.owner_id)
            .where(
                endpoint.disabled_at.is_(None),
                user.banned_at.is_(None),
                endpoint.id.not_in([*resting, *self._busy]),
                first.is_not(None),
            )
            .order_by(first)
            .limit(room)
        )
        async with self._core.db.read() as session:
            return list(await session.scalars(query))

    async def _turn(self, endpoint_id: str) -> None:
        """Send what is due for one endpoint, a handful; the next handful when the others had their turn."""
        try:
            taken = await self._take(endpoint_id)
            if taken is None:
                return
            row, events = taken
            results: list[_Result] = []
            for event in events:
                if self._stopping:
                    break
                results.append(await self._send(row, event))
                if not results[-1].ok:
                    break
            await self._core.pause("endpoint_told")
            await self._mark(row, results, events[len(results) :])
        except DatabaseUnavailable:
            log.warning("endpoint_turn_lost", endpoint=endpoint_id)

    async def _take(self, endpoint_id: str) -> tuple[models.Endpoint, Sequence[models.EndpointEvent]] | None:
        """Take a handful of events in hand, each attempt counted: whoever else takes them finds them put off."""
        core, now, event = self._core, self._core.now(), models.EndpointEvent
        lease_s = 60 + (_SLICE + 1) * core.settings.webhooks.timeout_s
        async with core.db.write() as session:
            row = await session.get(models.Endpoint, endpoint_id)
            if row is None or row.disabled_at is not None:
                return None
            due = event.endpoint_id == endpoint_id, _WAITS, event.run_at <= now
            ids = list(
                await session.scalars(select(event.id).where(*due).order_by(event.run_at, event.id).limit(_SLICE))
            )
            taken = await session.scalars(
                update(event)
                .where(event.id.in_(ids), event.status == "waiting", event.run_at <= now)
                .values(attempts=event.attempts + 1, run_at=now + dt.timedelta(seconds=lease_s))
                .returning(event)
            )
            found = {one.id: one for one in taken}
        events = [found[id_] for id_ in ids if id_ in found]
        return (row, events) if events else None

    async def _send(self, row: models.Endpoint, event: models.EndpointEvent) -> _Result:
        core, id_, timestamp = self._core, f"msg_{event.id}", int(self._core.now().timestamp())
        started = time.perf_counter()
        status: int | None = None
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "BotFactory-Webhooks/1",
                "webhook-id": id_,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": endpoints.signatures(core.crypto, row.secret, id_, timestamp, event.payload),
            }
            status, answer = await post_outside(
                core.http,
                row.url,
                event.payload.encode(),
                headers,
                timeout_s=core.settings.webhooks.timeout_s,
                ports=endpoints.PORTS,
                anywhere=core.settings.webhooks.addresses == "any",
            )
        except Undecryptable:
            answer = "the secret cannot be read: make a new one"
        except (Temporary, Permanent) as error:
            answer = str(error)
        took_ms = round((time.perf_counter() - started) * 1000)
        ok = status is not None and 200 <= status < 300
        metrics.TOLD.labels("delivered" if ok else "failed").inc()
        return _Result(event, ok, status, one_line(answer, _SHOWN), took_ms)

    async def _mark(
        self, row: models.Endpoint, results: Sequence[_Result], untouched: Sequence[models.EndpointEvent]
    ) -> None:
        """Write down what became of a handful; what was not tried is given back."""
        now, event = self._core.now(), models.EndpointEvent
        failed = next((result for result in results if not result.ok), None)
        async with self._core.db.write() as session:
            for result in results:
                one = result.event
                values: dict[str, Any] = {
                    "http_status": result.status,
                    "answer": result.answer,
                    "took_ms": result.took_ms,
                }
                if result.ok:
                    values |= {"status": "delivered", "delivered_at": now}
                elif one.attempts > len(AGAIN_S):
                    values |= {"status": "failed"}
                else:
                    values |= {"run_at": now + dt.timedelta(seconds=AGAIN_S[one.attempts - 1])}
                mine = event.id == one.id, event.status == "waiting", event.attempts == one.attempts
                await session.execute(update(event).where(*mine).values(values))
            for one in untouched:
                mine = event.id == one.id, event.status == "waiting", event.attempts == one.attempts
                await session.execute(
                    update(event).where(*mine).values(attempts=one.attempts - 1, run_at=one.created_at)
                )
            if any(result.ok for result in results):
                await self._works(session, row, now)
            if failed is not None:
                await self._fails(session, row, failed, now)
        self._rest(row.id, failed, now)
        if failed is not None:
            log.info("endpoint_failed", endpoint=row.id, status=failed.status, attempts=failed.event.attempts)
            self._core.bell.ring("notices")

    def _rest(self, endpoint_id: str, failed: _Result | None, now: dt.datetime) -> None:
        if failed is None:
            self._rests.pop(endpoint_id, None)
            return
        failures = self._rests.get(endpoint_id, (now, 0))[1] + 1
        pause = backoff_s(failures, first=_REST_FIRST_S, most=_REST_MOST_S)
        self._rests[endpoint_id] = now + dt.timedelta(seconds=pause), failures

    async def _works(self, session: AsyncSession, row: models.Endpoint, now: dt.datetime) -> None:
        """An endpoint took something; written down once a minute, and at once when it had failed."""
        it = models.Endpoint
        stale = or_(it.failing_since.is_not(None), it.last_ok_at.is_(None), it.last_ok_at < now - _SEEN_EVERY)
        await session.execute(
            update(it)
            .where(it.id == row.id, it.disabled_at.is_(None), stale)
            .values(last_ok_at=now, failing_since=None)
        )

    async def _fails(self, session: AsyncSession, row: models.Endpoint, failed: _Result, now: dt.datetime) -> None:
        """An endpoint failed: it is switched off where it wants nothing more, or has failed for days; its owner is told."""
        found = await session.get(models.Endpoint, row.id, with_for_update=True, populate_existing=True)
        if found is None or found.disabled_at is not None or found.url != row.url:
            return
        if found.failing_since is None:
            found.failing_since = now
        kind = "endpoint_gone" if failed.status == _GONE else ""
        if now - found.failing_since >= OFF_AFTER or await self._too_many(session, row.id):
            kind = kind or "endpoint_off"
        if kind:
            found.disabled_at = now
            await endpoints.give_up(session, row.id)
            key, params = endpoints.notice_key(row.id), {"host": endpoints.host(found)}
            await notices.open_notice(session, found.owner_id, kind, key=key, params=params)
            await access.record(session, None, kind, "endpoint", row.id)
        session.add(found)

    async def _too_many(self, session: AsyncSession, endpoint_id: str) -> bool:
        event = models.EndpointEvent
        waits = select(event.id).where(event.endpoint_id == endpoint_id, _WAITS)
        return await session.scalar(waits.order_by(event.run_at).offset(MOST_WAITING).limit(1)) is not None
