"""Where dialogs stand, and what the update at hand has done, kept in our own database.

Neither a restart nor an update that comes again changes anything for the person who talks.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from db.engine import Database
from services.crypto import digest

_UPDATE = "update"
_WATCHES = "watches"
_MOST_WATCHES = 1000


def _begun(update_id: int) -> dict[str, Any]:
    return {"id": update_id, "closed": False, "found": {}, "said": []}


class Dialog:
    """A person's dialog as one update finds and leaves it.

    ``state`` (the name of a state, or None) and ``data`` (JSON) are changed by the handler and stored by :meth:`close`, when it
    has returned: until then the update may come again and begins where it began. What was said, and what was found first, is
    stored at once, for the update that comes again to know. ``closed`` tells that this update has been handled to its end.
    """

    def __init__(self, db: Database, key: str, update_id: int, row: models.DialogState | None) -> None:
        self._db = db
        self._key = key
        self.state: str | None = row.state if row else None
        self.data: dict[str, Any] = json.loads(row.data) if row else {}
        known: dict[str, Any] = self.data.pop(_UPDATE, {})
        self._update = known if known.get("id") == update_id else _begun(update_id)
        self._before = self.state, json.dumps(self.data)
        self._said_before: list[list[Any]] = [*self._update["said"]]

    @classmethod
    async def open(cls, db: Database, bot_id: int, person: int, update_id: int) -> Dialog:
        """Read the dialog of ``person`` (an account's number) with a bot for an update."""
        key = f"{bot_id}:{person}:{person}"
        async with db.read() as session:
            return cls(db, key, update_id, await session.get(models.DialogState, key))

    @property
    def closed(self) -> bool:
        """Whether this update was handled to its end."""
        return bool(self._update["closed"])

    async def close(self) -> None:
        """Store what the handler has left: the update is handled."""
        self._update |= {"closed": True, "found": {}, "said": []}
        self._before = self.state, json.dumps(self.data)
        await self._store()

    async def once(self, text: str, send: Callable[[], Awaitable[int | None]]) -> int | None:
        """Send ``text`` by ``send``, unless this update has said it before; return what ``send`` returned."""
        mark = digest(text)[:16]
        said = next((said for said in self._said_before if said[0] == mark), None)
        if said is not None:
            self._said_before.remove(said)
        else:
            said = [mark, await send()]
            self._update["said"].append(said)
            await self._store()
        number: int | None = said[1]
        return number

    async def first(self, name: str, value: bool) -> bool:
        """Return the ``value`` that was given under this name when the update was handled for the first time."""
        found: dict[str, bool] = self._update["found"]
        if name not in found:
            found[name] = value
            await self._store()
        return found[name]

    async def _store(self) -> None:
        state, data = self._before
        text = json.dumps({**json.loads(data), _UPDATE: self._update})
        async with self._db.write() as session:
            await session.merge(models.DialogState(key=self._key, state=state, data=text, updated_at=utcnow()))


@dataclass(frozen=True, slots=True)
class Watch:
    """A promise to tell in one message how the reading of a document goes; kept until its end has been told.

    ``holder`` is the process that edits the message; after ``held_until``, by :meth:`Database.read_clock`, another one may.
    """

    document_id: str
    bot_id: str
    chat_id: int
    message_id: int
    language: str
    holder: str = ""
    held_until: float = 0.0


async def keep_watch(db: Database, watch: Watch, lease_s: float) -> None:
    """Store a promise that its holder has for so long; of more than a thousand open ones the oldest is forgotten."""
    async with db.write() as session:
        row, watches = await _watches(session)
        watches[watch.document_id] = replace(watch, held_until=await db.read_clock(session) + lease_s)
        _store_watches(row, dict(list(watches.items())[-_MOST_WATCHES:]))


async def hold_watches(db: Database, holder: str, lease_s: float) -> list[Watch]:
    """Renew what ``holder`` holds, take over what nobody holds any more, and return all that it holds now, oldest first."""
    if not await all_watches(db):
        return []
    async with db.write() as session:
        row, watches = await _watches(session)
        now = await db.read_clock(session)
        held = {
            key: replace(watch, holder=holder, held_until=now + lease_s)
            for key, watch in watches.items()
            if watch.holder == holder or watch.held_until < now
        }
        _store_watches(row, {**watches, **held})
    return list(held.values())


async def release_watches(db: Database, holder: str) -> None:
    """Let others take over at once what ``holder`` holds."""
    if not await all_watches(db):
        return
    async with db.write() as session:
        row, watches = await _watches(session)
        free = {key: replace(watch, held_until=0.0) for key, watch in watches.items() if watch.holder == holder}
        _store_watches(row, {**watches, **free})


async def get_watch(db: Database, document_id: str) -> Watch | None:
    """Return the promise for a document, None if there is none or it was kept."""
    return next((watch for watch in await all_watches(db) if watch.document_id == document_id), None)


async def drop_watch(db: Database, document_id: str) -> None:
    """The promise has been kept."""
    async with db.write() as session:
        row, watches = await _watches(session)
        watches.pop(document_id, None)
        _store_watches(row, watches)


async def all_watches(db: Database) -> list[Watch]:
    """Return every promise that is still open, oldest first."""
    async with db.read() as session:
        row = await session.get(models.DialogState, _WATCHES)
    return list(_read_watches(row).values()) if row else []


async def _watches(session: AsyncSession) -> tuple[models.DialogState, dict[str, Watch]]:
    """Return the row of all promises, locked, and what stands in it."""
    row = await session.get(models.DialogState, _WATCHES, with_for_update=True)
    if row is None:
        row = models.DialogState(key=_WATCHES, data="{}")
        session.add(row)
    return row, _read_watches(row)


def _read_watches(row: models.DialogState) -> dict[str, Watch]:
    return {key: Watch(**fields) for key, fields in json.loads(row.data).items()}


def _store_watches(row: models.DialogState, watches: dict[str, Watch]) -> None:
    row.data, row.updated_at = json.dumps({key: asdict(watch) for key, watch in watches.items()}), utcnow()
