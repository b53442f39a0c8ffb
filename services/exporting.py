"""Everything of an account as one ZIP: JSON for programs, CSV for people, documents and files as they came.

It is made page by page while it is sent, so that a large account takes no more memory than a small one; packing runs in a
thread. Every query names the owner, or a bot of the owner's: nobody else's things can be in it. Each table is in it or stands
in :data:`LEFT_OUT` with the reason.
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
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import and_, or_, select

from db import models
from db.base import Base
from db.engine import Database
from services.sheets import harmless

PAGE = 200
_PART = 2**20
_SECRETS = frozenset(
    {
        "password_hash",
        "totp_secret",
        "totp_step",
        "credentials",
        "secret",
        "openai_key",
        "token_hash",
        "raw",
        "fiscal",
        "remote",
    }
)
"""Columns that are nobody's to read, not even the owner's: secrets, and what is of use to the program alone."""
_OTHERS = frozenset(
    {"actor_id", "author_id", "created_by", "decided_by", "granted_by", "partner_id", "changed_by", "admin_id"}
)
"""Columns that may name somebody else: they stay only where it is the person who reads this."""

LEFT_OUT: Mapping[str, str] = {
    "account_codes": "codes that prove an address for an hour: secrets, and gone within a day",
    "announcements": "the installation's words; the letters of those that came are in it",
    "announcements_seen": "which banners were put away: of use to the program alone",
    "chunk_vectors": "made of the documents, which are in it",
    "chunks": "made of the documents, which are in it",
    "conversation_dues": "what search has still to look at",
    "conversation_texts": "made of the messages, which are in it",
    "counted_days": "work of the program",
    "day_costs": "sums of the model calls, which are in it",
    "day_numbers": "sums of the messages, which are in it",
    "dialog_states": "where a talk with the factory bot stands at this moment",
    "error_records": "the installation's own, without people's words",
    "forum_messages": "which message of a Telegram group is which message of a conversation, in numbers of Telegram",
    "forum_topics": "which topic of a Telegram group is which conversation, in numbers of Telegram",
    "inbox": "on its way: what arrived is among the messages a moment later",
    "jobs": "work of the program",
    "joined_conversations": "where old links to conversations lead",
    "lanes": "work of the program",
    "letter_texts": "the installation's words, nobody's data",
    "login_links": "secrets, and gone within ten minutes",
    "outbox": "on its way: what is sent is among the messages",
    "overrides": "the installation's settings",
    "recovery_codes": "secrets, of which only digests are kept",
    "referral_touches": "strangers who opened the person's link, known by a digest alone",
    "support_posts": "which message to an administrator in Telegram was about which lines of a support talk, which are in it",
    "uploads": "on its way: a visitor's picture is among the files as soon as it is sent",
}
"""Tables of which nothing is in the ZIP, and why."""


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


def _of(row: Base, user_id: str) -> dict[str, Any]:
    """Return a row as :func:`_row` does, without the ids of other people."""
    return {name: value for name, value in _row(row).items() if name not in _OTHERS or value in (None, user_id)}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, default=_plain).encode("utf-8", "replace")


def _cell(value: Any) -> str:
    text = "" if value is None else _plain(value) if not isinstance(value, str) else value
    return harmless(text)


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
    async with db.read() as session:
        devices = (
            await session.scalars(select(models.PanelSession).where(models.PanelSession.user_id == own.id))
        ).all()
    account = _row(own)
    # The id of a device is the digest that its cookie is known by.
    account["devices"] = [{name: value for name, value in _row(row).items() if name != "id"} for row in devices]
    yield _file("account.json", _json(account))
    for table in _tables(own):
        async for step in _list(db, table, own.id):
            yield step
    async for step in _table(db, _Table("payments", models.Payment, models.Payment.user_id == own.id), own.id):
        yield step
    async for step in _table(db, _Table("usage", models.AIUsage, models.AIUsage.owner_id == own.id), own.id):
        yield step
    for bot in bots:
        folder = f"bots/{_name(bot.name)} {bot.id[-6:]}"
        async for step in _bot(db, bot, folder):
            yield step


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of one table for one file. ``key``: a column that tells those of one account apart; ``id`` if not given.

    ``only``: the columns that may be read, all if not given.
    """

    name: str
    model: Any
    condition: Any
    key: Any = None
    only: frozenset[str] | None = None

    def read(self, row: Base, user_id: str) -> dict[str, Any]:
        """Return what of a row is for the person."""
        return {name: value for name, value in _of(row, user_id).items() if self.only is None or name in self.only}


def _tables(user: models.User) -> list[_Table]:
    """Return what is written as a list each, beside payments, usage and bots."""
    audit, entry, brought = models.AuditLog, models.ReferralEntry, models.Referral
    mine = select(models.Payment.id).where(models.Payment.user_id == user.id)
    used = select(models.CouponUse.coupon_id).where(models.CouponUse.user_id == user.id)
    view, opened = models.RemoteView, models.RemoteViewPage
    times = frozenset({"source", "touched_at", "created_at"})
    endpoint, told = models.Endpoint, models.EndpointEvent
    return [
        _Table("api_tokens", models.ApiToken, models.ApiToken.user_id == user.id),
        _Table("webhooks", endpoint, endpoint.owner_id == user.id),
        _Table("webhook_events", told, told.endpoint_id.in_(select(endpoint.id).where(endpoint.owner_id == user.id))),
        _Table("team", models.Member, models.Member.owner_id == user.id),
        _Table("memberships", models.Member, models.Member.user_id == user.id),
        _Table("invitations", models.Invitation, models.Invitation.owner_id == user.id, models.Invitation.token_hash),
        _Table("labels", models.Label, models.Label.owner_id == user.id),
        _Table("ready_answers", models.CannedReply, models.CannedReply.owner_id == user.id),
        _Table("telegram_groups", models.ForumGroup, models.ForumGroup.owner_id == user.id),
        _Table("notices", models.Notice, models.Notice.user_id == user.id),
        _Table(
            "announcements_put_away",
            models.AnnouncementSeen,
            models.AnnouncementSeen.user_id == user.id,
            models.AnnouncementSeen.announcement_id,
        ),
        _Table("support_talk", models.SupportTalk, models.SupportTalk.owner_id == user.id, models.SupportTalk.owner_id),
        _Table("support_messages", models.SupportMessage, models.SupportMessage.owner_id == user.id, only=_SUPPORT),
        _Table("letters", models.Letter, models.Letter.user_id == user.id),
        _Table("subscriptions", models.Subscription, models.Subscription.user_id == user.id),
        _Table(
            "messages_of_months", models.MessageQuota, models.MessageQuota.user_id == user.id, models.MessageQuota.month
        ),
        _Table("access_requests", models.AccessRequest, models.AccessRequest.user_id == user.id),
        _Table(
            "payment_attempts", models.PaymentTransaction, models.PaymentTransaction.payment_id.in_(mine), only=_ATTEMPT
        ),
        _Table("payment_events", models.PaymentEvent, models.PaymentEvent.payment_id.in_(mine), only=_EVENT),
        _Table(
            "coupons", models.Coupon, or_(models.Coupon.user_id == user.id, models.Coupon.id.in_(used)), only=_COUPON
        ),
        _Table("coupon_uses", models.CouponUse, models.CouponUse.user_id == user.id),
        # Whom the person brought, and who brought them, are others.
        _Table("referrals", brought, brought.partner_id == user.id, only=times),
        _Table("brought_by_somebody", brought, brought.user_id == user.id, only=times),
        _Table("referral_account", entry, entry.partner_id == user.id, only=_ENTRY),
        _Table(
            "referral_clicks",
            models.ReferralClicks,
            models.ReferralClicks.partner_id == user.id,
            models.ReferralClicks.day,
        ),
        _Table("views_of_the_panel", view, view.owner_id == user.id),
        _Table("pages_of_views", opened, opened.view_id.in_(select(view.id).where(view.owner_id == user.id))),
        _Table("audit", audit, audit.actor_id == user.id),
        # Administrators write notes for each other into what they do.
        _Table(
            "audit_by_others",
            audit,
            and_(audit.object_kind == "user", audit.object_id == user.id, audit.actor_id.is_distinct_from(user.id)),
            only=frozenset({"id", "at", "action"}),
        ),
    ]


_SUPPORT = frozenset({"id", "by_admin", "text", "created_at"})
_ATTEMPT = frozenset(
    {
        "id",
        "payment_id",
        "gateway",
        "external_id",
        "state",
        "amount_tiyin",
        "created_at",
        "performed_at",
        "cancelled_at",
    }
)
_EVENT = frozenset({"id", "payment_id", "gateway", "action", "code", "at"})
_COUPON = frozenset({"id", "code", "percent", "amount_tiyin", "plans", "valid_from", "valid_until", "created_at"})
_ENTRY = frozenset({"id", "kind", "amount_tiyin", "available_at", "note", "created_at"})


async def _list(db: Database, table: _Table, user_id: str) -> AsyncIterator[_Step]:
    """Write a JSON list, a row a line."""
    lines = _Growing(f"{table.name}.json")
    yield lines.more(b"[")
    first = True
    async for rows in _pages(db, table.model, table.condition, table.key):
        told = ",\n".join(json.dumps(table.read(row, user_id), ensure_ascii=False, default=_plain) for row in rows)
        yield lines.more((("\n" if first else ",\n") + told).encode("utf-8", "replace"))
        first = False
    yield lines.more(b"\n]\n")
    yield lines.end()


async def _table(db: Database, table: _Table, user_id: str) -> AsyncIterator[_Step]:
    """Write a JSON list, and the same for a table program."""
    async for step in _list(db, table, user_id):
        yield step
    heads = [column.name for column in table.model.__table__.c if column.name not in _SECRETS]
    lines = _Growing(f"{table.name}.csv")
    yield lines.more(b"\xef\xbb\xbf" + _csv([heads]))
    async for rows in _pages(db, table.model, table.condition, table.key):
        told = [table.read(row, user_id) for row in rows]
        yield lines.more(_csv([row.get(head) for head in heads] for row in told))
    yield lines.end()


async def _bot(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    async with db.read() as session:
        channels = (await session.scalars(select(models.Channel).where(models.Channel.bot_id == bot.id))).all()
        own = [row.id for row in channels]
        link = models.BusinessConnection
        connections = (await session.scalars(select(link).where(link.channel_id.in_(own)))).all()
    about = _row(bot)
    about["channels"] = [_row(row) for row in channels]
    about["business_connections"] = [_row(row) for row in connections]
    yield _file(f"{folder}/bot.json", _json(about))
    document = models.Document
    for table in (
        _Table("documents", document, and_(document.bot_id == bot.id, document.deleted_at.is_(None))),
        _Table("versions", models.BotVersion, models.BotVersion.bot_id == bot.id),
        _Table("test_questions", models.TestQuestion, models.TestQuestion.bot_id == bot.id),
        _Table("test_runs", models.TestRun, models.TestRun.bot_id == bot.id),
        _Table("unanswered_questions", models.UnansweredQuestion, models.UnansweredQuestion.bot_id == bot.id),
        _Table("files", models.Attachment, models.Attachment.bot_id == bot.id),
        _Table("broadcasts", models.Broadcast, models.Broadcast.bot_id == bot.id),
    ):
        async for step in _list(db, replace(table, name=f"{folder}/{table.name}"), bot.owner_id):
            yield step
    async for step in _contacts(db, bot, folder):
        yield step
    async for step in _deliveries(db, bot, folder):
        yield step
    async for step in _talks(db, bot, folder):
        yield step
    taken: set[str] = set()
    async for rows in _pages(db, document, and_(document.bot_id == bot.id, document.deleted_at.is_(None))):
        for row in rows:
            async with db.read() as session:
                content = await session.get(models.DocumentContent, row.id)
            if content is not None:
                yield _file(f"{folder}/documents/{_free_name(row.name, taken)}", content.content)
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


async def _pages(db: Database, model: Any, condition: Any, key: Any = None) -> AsyncIterator[Sequence[Any]]:
    """Yield the rows of a condition in the order of ``key``, their ids if not given, a page at a time."""
    key = model.id if key is None else key
    after: Any = None
    while True:
        wanted = select(model).where(condition).order_by(key).limit(PAGE)
        async with db.read() as session:
            rows = (await session.scalars(wanted if after is None else wanted.where(key > after))).all()
        if not rows:
            return
        yield rows
        after = getattr(rows[-1], key.key)


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


async def _deliveries(db: Database, bot: models.Bot, folder: str) -> AsyncIterator[_Step]:
    """Write what became of broadcasts, customer by customer."""
    delivery = models.BroadcastDelivery
    heads = ["broadcast_id", "contact_id", "status", "reason", "message_id", "changed_at"]
    table = _Growing(f"{folder}/broadcasts.csv")
    yield table.more(b"\xef\xbb\xbf" + _csv([heads]))
    async for sent in _pages(db, models.Broadcast, models.Broadcast.bot_id == bot.id):
        for broadcast in sent:
            mine = delivery.broadcast_id == broadcast.id
            async for rows in _pages(db, delivery, mine, delivery.contact_id):
                yield table.more(_csv([getattr(row, head) for head in heads] for row in rows))
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
