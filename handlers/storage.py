"""Where dialogs stand, kept in our own database: a restart changes nothing for the person who talks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiogram.fsm.state import State
from aiogram.fsm.storage.base import BaseStorage, StateType, StorageKey
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from db.engine import Database

_WATCHES = "watches"
_MOST_WATCHES = 1000


def row_key(key: StorageKey) -> str:
    """Return the primary key of a dialog's row."""
    parts = [str(key.bot_id), str(key.chat_id), str(key.user_id)]
    if key.destiny != "default":
        parts.append(key.destiny)
    return ":".join(parts)[:128]


class DialogStorage(BaseStorage):
    """aiogram's storage over :class:`db.models.DialogState`; one row a person and chat."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def set_state(self, key: StorageKey, state: StateType = None) -> None:
        """See :class:`aiogram.fsm.storage.base.BaseStorage`."""
        name = state.state if isinstance(state, State) else state
        async with self._db.write() as session:
            row = await session.get(models.DialogState, row_key(key))
            if row is None:
                if name is None:
                    return
                row = models.DialogState(key=row_key(key), data="{}")
                session.add(row)
            row.state, row.updated_at = name, utcnow()

    async def get_state(self, key: StorageKey) -> str | None:
        """See :class:`aiogram.fsm.storage.base.BaseStorage`."""
        async with self._db.read() as session:
            row = await session.get(models.DialogState, row_key(key))
        return row.state if row else None

    async def set_data(self, key: StorageKey, data: Mapping[str, Any]) -> None:
        """See :class:`aiogram.fsm.storage.base.BaseStorage`."""
        async with self._db.write() as session:
            row = await session.get(models.DialogState, row_key(key))
            if row is None:
                if not data:
                    return
                row = models.DialogState(key=row_key(key), state=None)
                session.add(row)
            row.data, row.updated_at = json.dumps(dict(data)), utcnow()

    async def get_data(self, key: StorageKey) -> dict[str, Any]:
        """See :class:`aiogram.fsm.storage.base.BaseStorage`."""
        async with self._db.read() as session:
            row = await session.get(models.DialogState, row_key(key))
        data: dict[str, Any] = json.loads(row.data) if row else {}
        return data

    async def close(self) -> None:
        """Nothing to close: the database is the process's."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A promise to tell in one message how the reading of a document goes; kept until its end has been told."""

    document_id: str
    bot_id: str
    chat_id: int
    message_id: int
    language: str


async def keep_watch(db: Database, watch: Watch) -> None:
    """Store a promise; of more than a thousand open ones the oldest is forgotten."""
    async with db.write() as session:
        row = await _watches_row(session)
        watches = {**json.loads(row.data), watch.document_id: asdict(watch)}
        row.data, row.updated_at = json.dumps(dict(list(watches.items())[-_MOST_WATCHES:])), utcnow()


async def get_watch(db: Database, document_id: str) -> Watch | None:
    """Return the promise for a document, None if there is none or it was kept."""
    return next((watch for watch in await all_watches(db) if watch.document_id == document_id), None)


async def drop_watch(db: Database, document_id: str) -> None:
    """The promise has been kept."""
    async with db.write() as session:
        row = await _watches_row(session)
        watches = json.loads(row.data)
        watches.pop(document_id, None)
        row.data, row.updated_at = json.dumps(watches), utcnow()


async def all_watches(db: Database) -> list[Watch]:
    """Return every promise that is still open, oldest first."""
    async with db.read() as session:
        row = await session.get(models.DialogState, _WATCHES)
    return [Watch(**fields) for fields in json.loads(row.data).values()] if row else []


async def _watches_row(session: AsyncSession) -> models.DialogState:
    row = await session.get(models.DialogState, _WATCHES, with_for_update=True)
    if row is None:
        row = models.DialogState(key=_WATCHES, data="{}")
        session.add(row)
    return row
