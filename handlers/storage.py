"""Where dialogs stand, kept in our own database: a restart changes nothing for the person who talks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiogram.fsm.state import State
from aiogram.fsm.storage.base import BaseStorage, StateType, StorageKey
from sqlalchemy import select

from db import models
from db.base import utcnow
from db.engine import Database

_WATCH = "watch:"


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
            row.data, row.updated_at = json.dumps(dict(data), ensure_ascii=False), utcnow()

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
    """Store a promise."""
    async with db.write() as session:
        await session.merge(
            models.DialogState(
                key=_WATCH + watch.document_id, state="watch", data=json.dumps(asdict(watch)), updated_at=utcnow()
            )
        )


async def get_watch(db: Database, document_id: str) -> Watch | None:
    """Return the promise for a document, None if there is none or it was kept."""
    async with db.read() as session:
        row = await session.get(models.DialogState, _WATCH + document_id)
    return Watch(**json.loads(row.data)) if row else None


async def drop_watch(db: Database, document_id: str) -> None:
    """The promise has been kept."""
    async with db.write() as session:
        row = await session.get(models.DialogState, _WATCH + document_id)
        if row is not None:
            await session.delete(row)


async def all_watches(db: Database) -> list[Watch]:
    """Return every promise that is still open, oldest first."""
    async with db.read() as session:
        rows = await session.scalars(
            select(models.DialogState.data)
            .where(models.DialogState.state == "watch", models.DialogState.key.startswith(_WATCH))
            .order_by(models.DialogState.updated_at)
        )
        return [Watch(**json.loads(data)) for data in rows]
