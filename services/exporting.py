"""Everything of an account as one ZIP: JSON for programs, CSV for people, documents and files as they came.

It is made page by page while it is sent, so that a large account takes no more memory than a small one; packing runs in a
thread. Every query names the owner, or a bot of the owner's: nobody else's things can be in it.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import re
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import select

from db import models
from db.base import Base
from db.engine import Database

PAGE = 200
_PART = 2**20
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SECRETS = frozenset(
    {"password_hash", "totp_secret", "totp_step", "credentials", "secret", "openai_key", "token_hash", "raw", "fiscal"}
)
"""Columns that are nobody's to read, not even the owner's: secrets, and what is of use to the program alone."""


class _Sink(io.RawIOBase):
    """What a ZIP is written to: it only grows, and is taken away in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """Return what has come since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _row(row: Base) -> dict[str, Any]:
    return {one.name: getattr(row, one.name) for one in row.__table__.c if one.name not in _SECRETS}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, default=_plain).encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Return a cell that no table program takes for a formula."""
    text = "" if value is None else _plain(value) if not isinstance(value, str) else value
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def _name(text: str) -> str:
    """Return a name for a file or folder in the ZIP that every system takes and that leads nowhere else."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", text).strip(" .")[:80] or "_"


_Step = Callable[[zipfile.ZipFile], None]


def _file(name: str, data: bytes) -> _Step:
    return lambda archive: archive.writestr(name, data)


async def stream(db: Database, user: models.User) -> AsyncIterator[bytes]:
    """Yield the ZIP of an account in parts."""
    sink = _Sink()
    archive = zipfile.ZipFile(cast(Any, sink), "w", zipfile.ZIP_DEFLATED, compresslevel=6)
    async for step in _contents(db, user):
        await asyncio.to_thread(step, archive)
        if part := sink.take():
            yield part
    archive.close()
    yield sink.take()


async def _contents(db: Database, user: models.User) -> AsyncIterator[_Step]:
    async with db.read() as session:
        own = await session.get_one(models.User, user.id)
        bots = (
            await session.scalars(
                select(models.Bot)
                .where(models.Bot.owner_id == user.id, models.Bot.deleted_at.is_(None))
                .order_by(models.Bot.id)
            )
        ).all()
    account = _row(own)
    for title, model, column in (
        ("devices", models.PanelSession, models.PanelSession.user_id),
        ("api_tokens", models.ApiToken, models.ApiToken.user_id),
        ("team", models.Member, models.Member.owner_id),
        ("labels", models.Label, models.Label.owner_id),
        ("ready_answers", models.CannedReply, models.CannedReply.owner_id),
        ("subscriptions", models.Subscription, models.Subscription.user_id),
        ("access_requests", models.AccessRequest, models.AccessRequest.user_id),
        ("referral_account", models.ReferralEntry, models.ReferralEntry.partner_id),
        ("letters", models.Letter, models.Letter.user_id),
    ):
        async with db.read() as session:
            rows = (await session.scalars(select(model).where(column == user.id))).all()
        # The id of a device is the digest that its cookie is known by.
        account[title] = [
            {name: value for name, value in _row(row).items() if title != "devices" or name != "id"} for row in rows
        ]
    yield _file("account.json", _json(account))
    async with db.read() as session:
        payments = (
            await session.scalars(
                select(models.Payment).where(models.Payment.user_id == user.id).order_by(models.Payment.id)
            )
        ).all()
    yield _file("payments.json", _json([_row(row) for row in payments]))
    heads = [column.name for column in models.Payment.__table__.c if column.name not in _SECRETS]
    yield _file(
        "payments.csv", b"\xef\xbb\xbf" + _csv([heads, *([_row(row)[head] for head in heads] for row in payments)])
    )
    for bot in bots:
        folder = f"bots/{_name(bot.name)} {bot.id[-6:]}"
        async for step in _bot(db, bot, folder):
            yield step


async def _bot(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    async with db.read() as session:
        channels = (await session.scalars(select(models.Channel).where(models.Channel.bot_id == bot.id))).all()
        tests = (await session.scalars(select(models.TestQuestion).where(models.TestQuestion.bot_id == bot.id))).all()
        asked = (
            await session.scalars(select(models.UnansweredQuestion).where(models.UnansweredQuestion.bot_id == bot.id))
        ).all()
        sent = (await session.scalars(select(models.Broadcast).where(models.Broadcast.bot_id == bot.id))).all()
        documents = (
            await session.execute(
                select(models.Document.id, models.Document.name)
                .where(models.Document.bot_id == bot.id, models.Document.deleted_at.is_(None))
                .order_by(models.Document.id)
            )
        ).all()
    about = _row(bot)
    about["channels"] = [_row(row) for row in channels]
    about["test_questions"] = [_row(row) for row in tests]
    about["unanswered_questions"] = [_row(row) for row in asked]
    about["broadcasts"] = [_row(row) for row in sent]
    yield _file(f"{folder}/bot.json", _json(about))
    async for step in _contacts(db, bot, folder):
        yield step
    if sent:
        async for step in _deliveries(db, [row.id for row in sent], folder):
            yield step
    async for step in _talks(db, bot, folder):
        yield step
    taken: set[str] = set()
    for document_id, name in documents:
        async with db.read() as session:
            content = await session.get(models.DocumentContent, document_id)
        if content is not None:
            yield _file(f"{folder}/documents/{_free_name(name, taken)}", content.content)
    async for step in _files(db, bot, folder):
        yield step


def _free_name(name: str, taken: set[str]) -> str:
    base = shown = _name(name)
    number = 2
    while shown.lower() in taken:
        stem, dot, suffix = base.rpartition(".")
        shown = f"{stem} ({number}){dot}{suffix}" if dot else f"{base} ({number})"
        number += 1
    taken.add(shown.lower())
    return shown


async def _pages(db: Database, model: Any, condition: Any) -> AsyncIterator[Sequence[Any]]:
    """Yield the rows of a condition by their ids, a page at a time."""
    after = ""
    while True:
        async with db.read() as session:
            rows = (
                await session.scalars(select(model).where(condition, model.id > after).order_by(model.id).limit(PAGE))
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1].id


class _Growing:
    """A file of a ZIP that is written in parts; nothing else is written before it ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: Any = None

    def more(self, data: bytes) -> _Step:
        def write(archive: zipfile.ZipFile) -> None:
            if self._open is None:
                self._open = archive.open(self._name, "w", force_zip64=True)
            self._open.write(data)

        return write

    def end(self) -> _Step:
        return lambda _archive: self._open.close()


async def _contacts(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    heads = ["id", "channel_id", "name", "username", "phone", "language", "source", "opted_out_at", "created_at"]
    table = _Growing(f"{folder}/contacts.csv")
    yield table.more(b"\xef\xbb\xbf" + _csv([heads]))
    async for rows in _pages(db, models.Contact, models.Contact.bot_id == bot.id):
        yield table.more(_csv([getattr(row, head) for head in heads] for row in rows))
    yield table.end()


async def _deliveries(db: Database, broadcast_ids: Sequence[str], folder: str) -> AsyncIterator[_Step]:
    """Write what became of broadcasts, customer by customer."""
    delivery = models.BroadcastDelivery
    heads = ["broadcast_id", "contact_id", "status", "reason", "message_id", "changed_at"]
    table = _Growing(f"{folder}/broadcasts.csv")
    yield table.more(b"\xef\xbb\xbf" + _csv([heads]))
    for broadcast_id in broadcast_ids:
        after = ""
        while True:
            query = select(delivery).where(delivery.broadcast_id == broadcast_id, delivery.contact_id > after)
            async with db.read() as session:
                rows = (await session.scalars(query.order_by(delivery.contact_id).limit(PAGE))).all()
            if not rows:
                break
            yield table.more(_csv([getattr(row, head) for head in heads] for row in rows))
            after = rows[-1].contact_id
    yield table.end()


async def _talks(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    """Write the conversations: a line of JSON each with all of it, and a table of the messages.

    Both come of one pass; of two files in a ZIP one is written at a time, so the table waits in a file of its own.
    """
    heads = ["conversation_id", "created_at", "author", "text", "language", "status"]
    lines, table = _Growing(f"{folder}/conversations.jsonl"), _Growing(f"{folder}/messages.csv")
    with tempfile.TemporaryFile() as kept:

        def keep(data: bytes) -> _Step:
            return lambda _archive: cast(None, kept.write(data))

        yield keep(b"\xef\xbb\xbf" + _csv([heads]))
        yield lines.more(b"")
        async for talks in _pages(db, models.Conversation, models.Conversation.bot_id == bot.id):
            for talk in talks:
                head = await _head(db, talk)
                yield lines.more(json.dumps(head, ensure_ascii=False, default=_plain).encode("utf-8", "replace")[:-1])
                yield lines.more(b', "messages": [')
                first = True
                async for rows in _pages(db, models.Message, models.Message.conversation_id == talk.id):
                    told = ", ".join(json.dumps(_row(row), ensure_ascii=False, default=_plain) for row in rows)
                    yield lines.more((("" if first else ", ") + told).encode("utf-8", "replace"))
                    yield keep(_csv([getattr(row, each) for each in heads] for row in rows))
                    first = False
                yield lines.more(b"]}\n")
        yield lines.end()
        await asyncio.to_thread(kept.seek, 0)
        while part := await asyncio.to_thread(kept.read, _PART):
            yield table.more(part)
        yield table.end()


async def _head(db: Database, talk: models.Conversation) -> Mapping[str, Any]:
    """Return what a conversation has beside its messages."""
    note, on, label = models.Note, models.ConversationLabel, models.Label
    async with db.read() as session:
        contact = await session.get_one(models.Contact, talk.contact_id)
        notes = (await session.scalars(select(note).where(note.conversation_id == talk.id).order_by(note.id))).all()
        labels = await session.scalars(
            select(label.name).join(on, on.label_id == label.id).where(on.conversation_id == talk.id)
        )
        return {
            **_row(talk),
            "contact": _row(contact),
            "notes": [_row(row) for row in notes],
            "labels": sorted(labels),
        }


async def _files(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    """Write the files of conversations that are kept, each under its id."""
    async for rows in _pages(db, models.Attachment, models.Attachment.bot_id == bot.id):
        for row in rows:
            async with db.read() as session:
                content = await session.get(models.AttachmentContent, row.id)
            if content is not None:
                yield _file(f"{folder}/files/{row.id} {_name(row.name or row.kind)}", content.content)
