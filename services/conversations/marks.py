"""What people who answer leave on a conversation for each other: labels and notes. The customer sees none of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id
from services.conversations import ConversationRow
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.text import clean, one_line

COLORS = 8
LABEL_CHARS = 40
NOTE_CHARS = 4000
_LABELS_AT_MOST = 50
_NOTES_SHOWN = 200


async def labels(session: AsyncSession, owner_ids: Collection[str]) -> list[models.Label]:
    """Return these owners' labels by name."""
    label = models.Label
    return list(
        await session.scalars(select(label).where(label.owner_id.in_(owner_ids)).order_by(label.name, label.id))
    )


async def labels_of(session: AsyncSession, conversation_ids: Collection[str]) -> dict[str, list[models.Label]]:
    """Return the labels on conversations, by the id of the conversation."""
    put, label = models.ConversationLabel, models.Label
    rows = await session.execute(
        select(put.conversation_id, label)
        .join(label, label.id == put.label_id)
        .where(put.conversation_id.in_(conversation_ids))
        .order_by(label.name, label.id)
    )
    found: dict[str, list[models.Label]] = {}
    for conversation_id, one in rows:
        found.setdefault(conversation_id, []).append(one)
    return found


async def label_uses(session: AsyncSession, label_ids: Collection[str]) -> dict[str, int]:
    """Return on how many conversations each label is."""
    put = models.ConversationLabel
    rows = await session.execute(
        select(put.label_id, func.count()).where(put.label_id.in_(label_ids)).group_by(put.label_id)
    )
    return {row[0]: row[1] for row in rows}


async def _own_label(session: AsyncSession, owner_ids: Collection[str], label_id: str) -> models.Label:
    found = await session.get(models.Label, label_id)
    if found is None or found.owner_id not in owner_ids:
        raise NotFound()
    return found


async def save_label(
    session: AsyncSession, owner_ids: Collection[str], owner_id: str, name: str, color: int, label_id: str = ""
) -> models.Label:
    """Make a label of an owner, or change one of them. Raises ``Invalid`` naming the field, ``NotFound``, ``Conflict``."""
    name = one_line(name, LABEL_CHARS + 1)
    if not name:
        raise Invalid(T("Give the label a name."), field="name")
    if len(name) > LABEL_CHARS:
        raise Invalid(T("The name may have at most {n} characters.", n=LABEL_CHARS), field="name")
    if not 0 <= color < COLORS:
        raise Invalid(T("Choose one of the colours."), field="color")
    known = await _own_label(session, owner_ids, label_id) if label_id else None
    if known is None and owner_id not in owner_ids:
        raise NotFound()
    owner_id = known.owner_id if known else owner_id
    siblings = await labels(session, [owner_id])
    if any(one.name.casefold() == name.casefold() and one.id != label_id for one in siblings):
        raise Invalid(T("There is a label with this name already."), field="name")
    if known is None and len(siblings) >= _LABELS_AT_MOST:
        raise Conflict(T("There are {n} labels, which is the limit.", n=_LABELS_AT_MOST), code="limit")
    label = known or models.Label(owner_id=owner_id)
    label.name, label.color = name, color
    session.add(label)
    await session.flush()
    return label


async def delete_label(session: AsyncSession, owner_ids: Collection[str], label_id: str) -> None:
    """Delete a label: it disappears from its conversations. Raises ``NotFound``."""
    label = await _own_label(session, owner_ids, label_id)
    await session.execute(delete(models.ConversationLabel).where(models.ConversationLabel.label_id == label.id))
    await session.delete(label)
    await session.flush()


async def put_labels(session: AsyncSession, row: ConversationRow, label_ids: Collection[str]) -> None:
    """Leave exactly these labels on a conversation; raises ``NotFound`` for one that is not its owner's."""
    own = {label.id for label in await labels(session, [row.bot.owner_id])}
    wanted = set(label_ids)
    if not wanted <= own:
        raise NotFound()
    put = models.ConversationLabel
    has = set(await session.scalars(select(put.label_id).where(put.conversation_id == row.conversation.id)))
    if gone := has - wanted:
        await session.execute(delete(put).where(put.conversation_id == row.conversation.id, put.label_id.in_(gone)))
    session.add_all(put(conversation_id=row.conversation.id, label_id=label_id) for label_id in sorted(wanted - has))
    await session.flush()


async def newest_id(session: AsyncSession, conversation_id: str) -> str:
    """Return the id of the last message or note of a conversation, empty where there is none."""
    found = [
        await session.scalar(select(func.max(kind.id)).where(kind.conversation_id == conversation_id))
        for kind in (models.Message, models.Note)
    ]
    return max(one or "" for one in found)


async def notes(
    session: AsyncSession, conversation: models.Conversation, *, after: str = "", before: str = ""
) -> list[models.Note]:
    """Return a conversation's notes, oldest first, written between two messages (their ids; empty: no bound)."""
    note = models.Note
    bounds: list[Any] = [note.id > after] if after else []
    bounds += [note.id < before] if before else []
    rows = await session.scalars(
        select(note)
        .where(note.conversation_id == conversation.id, *bounds)
        .order_by(note.id.desc())
        .limit(_NOTES_SHOWN)
    )
    return list(reversed(list(rows)))


async def add_note(
    session: AsyncSession, row: ConversationRow, author: models.User, text: str, *, note_id: str = ""
) -> models.Note:
    """Leave a note for the others; raises ``Invalid`` for an empty or too long one. One with a ``note_id`` is left once."""
    text = clean(text).strip()
    if not text:
        raise Invalid(T("Write the note first."), field="note")
    if len(text) > NOTE_CHARS:
        raise Invalid(T("A note may have at most {n} characters.", n=NOTE_CHARS), field="note")
    if note_id and (known := await session.get(models.Note, note_id)) is not None:
        return known
    note = models.Note(id=note_id or new_id(), conversation_id=row.conversation.id, author_id=author.id, text=text)
    session.add(note)
    await session.flush()
    return note


async def delete_note(session: AsyncSession, row: ConversationRow, author: models.User, note_id: str) -> None:
    """Delete an own note; raises ``NotFound`` for another's."""
    note = await session.get(models.Note, note_id)
    if note is None or note.conversation_id != row.conversation.id or note.author_id != author.id:
        raise NotFound()
    await session.delete(note)
    await session.flush()
