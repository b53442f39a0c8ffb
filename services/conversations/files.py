"""Files as rows: what is noted of a customer's when its message arrives, before anybody has fetched it, and a person's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, table_of
from services import sniffing
from services.channels import carries_caption, split_for
from services.channels.base import Inbound, Outgoing, OutgoingFile
from services.text import one_line

ATTACHMENT = table_of(models.Attachment)
NEW_ATTACHMENT = ATTACHMENT.insert()
MOST = 10
"""So many files of one message are kept; the networks send one."""
_KINDS = frozenset({"photo", "voice", "audio", "video", "document"})


def rows(bot_id: str, message_id: str, event: Inbound, moment: dt.datetime) -> list[dict[str, Any]]:
    """Return the rows of a message's files, waiting to be fetched. A sticker says all by being one and is not kept."""
    return [
        {
            "id": new_id(),
            "bot_id": bot_id,
            "message_id": message_id,
            "kind": file.kind,
            "name": one_line(file.name, 255),
            "mime": "",
            "size": min(file.size, 2**31 - 1),
            "status": "waiting",
            "remote": {"ref": dict(file.ref), "seconds": file.seconds},
            "created_at": moment,
        }
        for file in event.files[:MOST]
        if file.kind in _KINDS
    ]


def more(event: Inbound) -> dict[str, Any] | None:
    """Return what a message keeps of an event beside its text."""
    return {"location": event.extra["location"]} if event.extra.get("location") else None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that a person sends: checked, made harmless, and one that the channel takes. See ``services/outfiles.py``."""

    kind: str
    name: str
    mime: str
    content: bytes = field(repr=False)


def sent_as(file: NewFile, file_id: str) -> OutgoingFile:
    """Return what the outbox keeps of a person's file; its content is loaded when it is sent."""
    return OutgoingFile(file_id, file.kind, file.mime, file.name)


def parts(channel_kind: str, text: str, *, file: NewFile | None, file_id: str, person: bool) -> tuple[Outgoing, ...]:
    """Return what is sent of a person's message: the file with the text under it, or the text after it where it is too long."""
    written = split_for(channel_kind, text) if text else []
    if file is None:
        return tuple(Outgoing(part, person=person) for part in written)
    sent = sent_as(file, file_id)
    if carries_caption(channel_kind, file.mime, text):
        return (Outgoing(text, person=person, file=sent),)
    return (Outgoing("", person=person, file=sent), *(Outgoing(part, person=person) for part in written))


async def keep(
    session: AsyncSession, bot_id: str, message_id: str, file_id: str, file: NewFile, moment: dt.datetime
) -> None:
    """Store a person's file with its content."""
    session.add(
        models.Attachment(
            id=file_id,
            bot_id=bot_id,
            message_id=message_id,
            kind=file.kind,
            name=file.name,
            mime=file.mime,
            size=len(file.content),
            status="stored",
            remote=sniffing.measured(file.mime, file.content) or None,
            created_at=moment,
        )
    )
    await session.flush()
    session.add(models.AttachmentContent(attachment_id=file_id, content=file.content))


async def sent_before(
    session: AsyncSession, written: Sequence[models.Message], text: str, file: NewFile | None
) -> models.Message | None:
    """Return the message among those of people that says the same with the same file."""
    content = models.AttachmentContent
    for message in written:
        if message.author != "operator" or message.text != text:
            continue
        query = select(content.content).join(models.Attachment, models.Attachment.id == content.attachment_id)
        kept = await session.scalar(query.where(models.Attachment.message_id == message.id).limit(1))
        if kept == (file.content if file is not None else None):
            return message
    return None
