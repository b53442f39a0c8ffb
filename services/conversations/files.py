"""Files as rows: what is noted of a customer's when its message arrives, before anybody has fetched it, and what we send."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import direct, models
from db.base import new_id, table_of
from services import sniffing
from services.channels import as_link, carries_caption, split_for
from services.channels.base import Inbound, Outgoing, OutgoingFile
from services.knowledge.shelf import Handout
from services.text import one_line

if TYPE_CHECKING:
    from services.conversations.records import Outcome, Reply

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


@dataclass(frozen=True, slots=True)
class Given:
    """A document that the bot sends with an answer: ``id`` of its attachment. No byte of it is copied."""

    id: str
    handout: Handout


def give(reply: Reply, channel_kind: str, handouts: Sequence[Handout], *, link_text: str) -> None:
    """Let documents go with a reply, each as a message of its own behind the text.

    ``link_text``: what is written above a file's address where the network takes no such file.
    """
    reply.files = [Given(new_id(), each) for each in handouts]
    if channel_kind != "web":
        reply.outgoing += tuple(_outgoing(channel_kind, given, link_text) for given in reply.files)


def _outgoing(channel_kind: str, given: Given, link_text: str) -> Outgoing:
    file = given.handout
    text = f"📄 {file.title[:100]}\n{link_text}" if as_link(channel_kind, file.mime) else ""
    return Outgoing(text, file=OutgoingFile(given.id, file.sent_as, file.mime, file.title))


_SHARED = select(models.Document.id, models.Document.bot_id).where(
    models.Document.id.in_(bindparam("p_ids", expanding=True)),
    models.Document.shared.is_(True),
    models.Document.deleted_at.is_(None),
)


def hand_out(connection: Connection, outcomes: Sequence[Outcome], moment: dt.datetime) -> list[dict[str, Any]]:
    """Return the rows of the documents that go with replies; what customers may not receive any more is taken out of them."""
    wanted = sorted({given.handout.document_id for each in outcomes for reply in each.replies for given in reply.files})
    if not wanted:
        return []
    shared = {(row.id, row.bot_id) for row in direct.rows(connection, _SHARED, {"p_ids": wanted})}
    made: list[dict[str, Any]] = []
    for outcome in outcomes:
        bot_id = outcome.talk.bot.id if outcome.talk.bot else ""
        for reply in outcome.replies:
            gone = {each.id for each in reply.files if (each.handout.document_id, bot_id) not in shared}
            reply.outgoing = tuple(part for part in reply.outgoing if part.file is None or part.file.id not in gone)
            made += [_row(given, bot_id, reply.id, moment) for given in reply.files if given.id not in gone]
    return made


def _row(given: Given, bot_id: str, message_id: str, moment: dt.datetime) -> dict[str, Any]:
    file = given.handout
    return {
        "id": given.id,
        "bot_id": bot_id,
        "message_id": message_id,
        "kind": file.sent_as,
        "name": file.title,
        "mime": file.mime,
        "size": file.size,
        "status": "stored",
        "remote": None,
        "document_id": file.document_id,
        "created_at": moment,
    }


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
