"""The log's errors as rows, one for all that look alike, so that an administrator sees them without the machine.

Kept are names of our own code: the event, the kinds of exceptions, where in the program, and short identifiers. What an exception
says is not: it may quote people's words or a secret. Noting never waits and never fails who logs.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, utcnow
from db.engine import DatabaseUnavailable
from services import logs
from services.errors import NotFound
from services.paging import malformed

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

KEPT = dt.timedelta(days=30)
PAGE = 50
_FLUSH_EVERY_S = 5.0
_MOST = 200
"""So many different errors wait for being written at most; of more, the later ones are only in the log."""
_FRAMES = 12
_ROOT = Path(__file__).resolve().parent.parent
_SHOWN = (
    "kind",
    "provider",
    "model",
    "status",
    "reason",
    "way",
    "what",
    "bot",
    "channel",
    "document",
    "letter",
    "error",
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_MARK = re.compile(r"[0-9a-f]{64}")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\d{3,}|<[^>]*>|https?://\S+")


@dataclass(slots=True)
class Note:
    """An error that waits for being written: how often it came since, and when."""

    fingerprint: str
    level: str
    event: str
    detail: str
    request_id: str
    count: int
    first_at: dt.datetime
    last_at: dt.datetime


class Book:
    """What gathers a process's errors and writes them down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: dict[str, Note] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Note one line of the log, if it is an error or a warning with an exception; called by whoever logs, in any thread."""
        level = str(event.get("level") or "")
        error = _exception(event.get("exc_info"))
        if level not in ("error", "critical") and (level != "warning" or error is None):
            return
        name = _name(event)
        kinds, frames = _trace(error)
        shown = [f"{key}={event[key]}" for key in _SHOWN if _is_plain(event.get(key))]
        mark = "\n".join((level, name, *kinds, *frames[-1:]))
        fingerprint = hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest()
        now = utcnow()
        with self._lock:
            known = self._notes.get(fingerprint)
            if known is not None:
                known.count, known.last_at = known.count + 1, now
                return
            if len(self._notes) >= _MOST:
                return
            detail = logs.redact("\n".join((" ".join(shown), " ← ".join(kinds), *frames)).strip())
            request_id = event.get("request_id")
            self._notes[fingerprint] = Note(
                fingerprint,
                level,
                logs.redact(name)[:200],
                detail[:4000],
                request_id[:32] if isinstance(request_id, str) else "",
                1,
                now,
                now,
            )

    async def run(self, core: Core) -> None:
        """Write down what was noted, every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            try:
                await self.flush(core)
            except DatabaseUnavailable:
                log.warning("errors_not_written_down")

    async def flush(self, core: Core) -> None:
        """Write down what was noted since the last time; where the database is away it waits for the next."""
        with self._lock:
            notes, self._notes = self._notes, {}
        if not notes:
            return
        try:
            async with core.db.write() as session:
                # In one order, so that two processes do not wait for each other.
                for fingerprint in sorted(notes):
                    await _fold(session, notes[fingerprint])
        except BaseException:
            with self._lock:
                for mark, note in self._notes.items():
                    if (before := notes.get(mark)) is not None:
                        note.count, note.first_at = note.count + before.count, before.first_at
                self._notes = {**notes, **self._notes}
            raise


async def _fold(session: AsyncSession, note: Note) -> None:
    row = models.ErrorRecord
    insert = insert_for(session.get_bind().dialect.name, row).values(
        fingerprint=note.fingerprint,
        level=note.level,
        event=note.event,
        detail=note.detail,
        request_id=note.request_id,
        count=note.count,
        first_at=note.first_at,
        last_at=note.last_at,
        hidden=False,
    )
    await session.execute(
        insert.on_conflict_do_update(
            index_elements=["fingerprint"],
            set_={
                "count": row.count + note.count,
                "last_at": note.last_at,
                "request_id": note.request_id,
                "detail": note.detail,
                # Who took it off the list had dealt with it: it is news that it comes again.
                "hidden": False,
            },
        )
    )


def _exception(given: Any) -> BaseException | None:
    if given is True:
        given = sys.exc_info()
    if isinstance(given, tuple):
        given = given[1] if len(given) > 1 else None
    return given if isinstance(given, BaseException) else None


def _name(event: Mapping[str, Any]) -> str:
    """Return what happened: our own events are constants; of a library's line its pattern, not what was filled in."""
    record = event.get("_record")
    if event.get("_from_structlog") or record is None:
        return str(event.get("event"))
    first = str(record.msg).partition("\n")[0]
    return f"{record.name}: {_QUOTED.sub('…', first)[:120]}"


def _trace(error: BaseException | None) -> tuple[list[str], list[str]]:
    """Return the kinds of an exception and its causes, and where it was raised, the innermost place last."""
    kinds: list[str] = []
    places: list[str] = []
    seen = error
    while seen is not None and len(kinds) < 5:
        kinds.append(f"{type(seen).__module__}.{type(seen).__qualname__}".removeprefix("builtins."))
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    if error is not None:
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]:
            path = Path(frame.filename)
            where = path.relative_to(_ROOT).as_posix() if path.is_relative_to(_ROOT) else path.name
            places.append(f"{where.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}")
    return kinds, places


def _is_plain(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _PLAIN.fullmatch(value) is not None)


# What administrators see


async def listed(
    session: AsyncSession, *, hidden: bool = False, cursor: str = "", limit: int = PAGE
) -> tuple[list[models.ErrorRecord], str]:
    """Return errors, the latest first, and the cursor of the following part (empty: none follows).

    Raises ``Invalid`` for a malformed cursor.
    """
    row = models.ErrorRecord
    query = select(row).where(row.hidden.is_(hidden)).order_by(row.last_at.desc(), row.fingerprint.desc())
    if cursor:
        before, mark = _begins(cursor)
        query = query.where(row.last_at <= before, or_(row.last_at < before, row.fingerprint < mark))
    found = list(await session.scalars(query.limit(limit + 1)))
    if len(found) <= limit:
        return found, ""
    last = found[limit - 1]
    return found[:limit], f"{last.last_at.isoformat()}~{last.fingerprint}"


def _begins(cursor: str) -> tuple[dt.datetime, str]:
    moment, _, mark = cursor.partition("~")
    try:
        before = dt.datetime.fromisoformat(moment)
        if before.tzinfo is not None and _MARK.fullmatch(mark):
            return before.astimezone(dt.UTC), mark
    except (ValueError, OverflowError):
        pass
    raise malformed()


async def hide(session: AsyncSession, fingerprint: str, *, hidden: bool) -> models.ErrorRecord:
    """Take an error off the list until it comes again, or put it back; raises ``NotFound``."""
    row = models.ErrorRecord
    found: models.ErrorRecord | None = await session.scalar(
        update(row).where(row.fingerprint == fingerprint).values(hidden=hidden).returning(row)
    )
    if found is None:
        raise NotFound
    return found
