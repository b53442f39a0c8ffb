"""Conversations as the panel and the API see them, and a person's part in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, utcnow
from db.engine import clock
from services import access, endpoints, lanes, notices, team
from services.channels import PERSON_WINDOWS, window_of
from services.channels.base import Outgoing
from services.conversations import files, finding, returning
from services.conversations.records import RECENT_CHARS, RECENT_TURNS, Reply, out_lane, outbox_rows, put_out
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.lanes import Line
from services.paging import malformed
from services.text import clean, one_line
from services.writer import Scope

Row = TypeVar("Row")

STATUSES = ("bot", "waiting", "human", "closed")
CHOICES = ("bot", "human", "closed")
"""What a person may set; ``waiting`` comes of what customers write, see :mod:`services.conversations.reasons`."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Part of a list; ``next`` is the cursor of the following part or None."""

    items: list[Row]
    next: str | None


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation with what belongs to it."""

    conversation: models.Conversation
    contact: models.Contact
    channel: models.Channel
    bot: models.Bot


def _page(rows: Sequence[Row], limit: int, cursors: list[str]) -> Page[Row]:
    more = len(rows) > limit
    return Page(list(rows[:limit]), cursors[limit - 1] if more else None)


def after_cursor(cursor: str) -> ColumnElement[bool]:
    """Return the condition on conversations that come after a page; raises ``Invalid`` for a malformed cursor."""
    moment, _, last = cursor.partition("-")
    if not (moment.isascii() and moment.isdigit()) or not last or len(moment) > 16:
        raise malformed()
    at = dt.datetime.fromtimestamp(int(moment) / 1_000_000, dt.UTC)
    conversation = models.Conversation
    # The moment first, by itself: an index is entered there and not walked along from the latest.
    later = or_(conversation.last_message_at < at, conversation.id < last)
    return and_(conversation.last_message_at <= at, later)


def page_of(rows: Sequence[ConversationRow], limit: int) -> Page[ConversationRow]:
    """Make a page of conversations, the latest first, of which one more than ``limit`` was asked for."""
    cursors = [
        f"{round(row.conversation.last_message_at.timestamp() * 1_000_000)}-{row.conversation.id}"
        for row in rows[:limit]
    ]
    return _page(rows, limit, cursors)


async def list_for(
    session: AsyncSession,
    bot: models.Bot,
    *,
    channel: str | None = None,
    contact: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    q: str | None = None,
    status: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[ConversationRow]:
    """Return a bot's conversations, the latest first.

    ``channel``: a channel's id or kind. ``contact``: a contact's id or its id on the network. ``since``/``until`` bound the last
    message. ``q`` is looked for in names, phone numbers and messages, see :mod:`services.conversations.finding`. ``cursor`` comes
    from the page before; a malformed one raises ``Invalid``.
    """
    conversation = models.Conversation
    query = (
        select(conversation, models.Contact, models.Channel)
        .join(models.Contact, models.Contact.id == conversation.contact_id)
        .join(models.Channel, models.Channel.id == conversation.channel_id)
        .where(conversation.bot_id == bot.id)
        .order_by(conversation.last_message_at.desc(), conversation.id.desc())
        .limit(limit + 1)
    )
    if channel:
        query = query.where(or_(models.Channel.id == channel, models.Channel.kind == channel))
    if contact:
        query = query.where(or_(models.Contact.id == contact, models.Contact.external_id == contact))
    if since:
        query = query.where(conversation.last_message_at >= since)
    if until:
        query = query.where(conversation.last_message_at < until)
    if status:
        if status not in STATUSES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(STATUSES)), field="status")
        query = query.where(conversation.status == status)
    if q and (asked := clean(q, 200).strip()):
        words = finding.wanted(asked)
        if not words:
            return Page([], None)
        found = await finding.find(session, [bot.id], words)
        if found.few is not None and not found.few:
            return Page([], None)
        query = query.where(found.among(conversation.id, [bot.id]))
    if cursor:
        query = query.where(after_cursor(cursor))
    return page_of(
        [ConversationRow(talk, person, place, bot) for talk, person, place in (await session.execute(query))], limit
    )


async def get(session: AsyncSession, user: models.User, conversation_id: str) -> ConversationRow:
    """Return one conversation that this person may take part in; raises ``NotFound``, or ``Forbidden`` for who is paused.

    Of one that was joined with another it is the other, whose id differs.
    """
    row = (
        await session.execute(
            select(models.Conversation, models.Contact, models.Channel, models.Bot)
            .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
            .join(models.Channel, models.Channel.id == models.Conversation.channel_id)
            .join(models.Bot, models.Bot.id == models.Conversation.bot_id)
            .where(
                models.Conversation.id == conversation_id,
                team.may(user, "talk"),
                models.Bot.deleted_at.is_(None),
            )
        )
    ).one_or_none()
    if row is None:
        # Joined with another conversation of the same customer: who has the old address means that one.
        joined = models.JoinedConversation
        kept = await session.scalar(select(joined.conversation_id).where(joined.id == conversation_id))
        if kept is None:
            bot, talk = models.Bot, models.Conversation
            owner = select(bot.owner_id).join(talk, talk.bot_id == bot.id).where(talk.id == conversation_id)
            await team.explain(session, user, owner)
            raise NotFound()
        return await get(session, user, kept)
    return ConversationRow(*row)


async def messages(
    session: AsyncSession,
    conversation: models.Conversation,
    *,
    cursor: str | None = None,
    limit: int = 50,
    newest_first: bool = True,
) -> Page[models.Message]:
    """Return the messages of a conversation; ``cursor`` is the id of the last one seen."""
    message = models.Message
    query = select(message).where(message.conversation_id == conversation.id).limit(limit + 1)
    query = query.order_by(message.id.desc() if newest_first else message.id)
    if cursor:
        query = query.where(message.id < cursor if newest_first else message.id > cursor)
    rows = list(await session.scalars(query))
    return _page(rows, limit, [row.id for row in rows[:limit]])


async def last_inbound(session: AsyncSession, conversation: models.Conversation) -> str:
    """Return the network's id of what the customer wrote last; empty where there is none."""
    message = models.Message
    found = await session.scalar(
        select(message.external_id)
        .where(message.conversation_id == conversation.id, message.author == "customer")
        .order_by(message.id.desc())
        .limit(1)
    )
    return found or ""


async def customer_messages(session: AsyncSession, owner_id: str, since: dt.datetime) -> int:
    """Return how many messages of customers an owner's bots have dealt with since a moment; skipped ones do not count."""
    message, conversation = models.Message, models.Conversation
    count = await session.scalar(
        select(func.count())
        .select_from(message)
        .join(conversation, conversation.id == message.conversation_id)
        .join(models.Bot, models.Bot.id == conversation.bot_id)
        .where(
            models.Bot.owner_id == owner_id,
            conversation.last_message_at >= since,
            message.author == "customer",
            message.status.in_(("answered", "failed")),
            message.created_at >= since,
        )
    )
    return int(count or 0)


async def waiting(session: AsyncSession, answered: Sequence[models.Bot]) -> list[tuple[models.Bot, int]]:
    """Return for each of these bots how many of its talks wait for a person now."""
    talk = models.Conversation
    rows = await session.execute(
        select(talk.bot_id, func.count())
        .where(talk.bot_id.in_([bot.id for bot in answered]), talk.status == "waiting")
        .group_by(talk.bot_id)
    )
    counts = {row[0]: int(row[1]) for row in rows}
    return [(bot, counts.get(bot.id, 0)) for bot in answered]


def window_closed(row: ConversationRow) -> bool:
    """Whether the network lets no person write freely to this customer until they write again."""
    written = row.conversation.last_inbound_at
    window = window_of(row.channel.kind, row.contact.external_id, person=True)
    return window is not None and (written is None or utcnow() - written >= window)


def check_window(row: ConversationRow) -> None:
    """Raise ``Conflict`` with the code ``window_closed`` where the network lets no person write freely now."""
    if not window_closed(row):
        return
    whatsapp = T(
        "More than 24 hours have passed since the customer’s last message, and WhatsApp delivers no message then. You "
        "can write as soon as the customer writes again."
    )
    instagram = T(
        "Instagram delivers messages up to 7 days after the customer’s last one. You can write as soon as the customer "
        "writes again."
    )
    business = T(
        "More than 24 hours have passed since the customer’s last message, and Telegram lets the bot write nothing in your "
        "own chats then. Write in Telegram yourself, or wait until the customer writes again."
    )
    texts = {"whatsapp": whatsapp, "instagram": instagram, "telegram": business}
    raise Conflict(texts[row.channel.kind], code="window_closed")


async def operator_reply(
    session: AsyncSession,
    row: ConversationRow,
    text: str,
    *,
    seen: str = "",
    author: models.User | None = None,
    template: Mapping[str, Any] | None = None,
    file: files.NewFile | None = None,
) -> models.Message:
    """Write to the customer as a person: stored and put into the outbox together; the bot falls silent in this talk.

    ``file`` goes with the text, which may be empty then.

    ``template``: what is sent for ``text`` in the network's own terms, beginning with ``file`` if there is one; it may be sent at
    any time.

    ``seen``: the last message when the person began to write. The same words written since then are those of a form that was
    sent twice: they are returned and nothing is written. ``author``: who writes; a talk that is nobody's becomes theirs.
    Raises ``Invalid`` for an empty text or one over 4,096 characters, ``Conflict`` where the network lets nobody write any
    more, and with the code ``answered_meanwhile`` where another person than ``author`` has written since ``seen``.
    """
    text = clean(text).strip()
    if not text and file is None:
        raise Invalid(T("Write a message first."), field="text")
    if len(text) > 4096:
        raise Invalid(T("A message may have at most {n} characters.", n=4096), field="text")
    talk, line = row.conversation, Line("outbox", row.bot.owner_id, row.bot.id)
    kind, file_id = row.channel.kind, new_id()
    outgoing: tuple[Outgoing, ...] = ()
    if kind != "web":
        outgoing = files.parts(kind, text, file=file, file_id=file_id, person=kind in PERSON_WINDOWS)
    if template is not None:
        outgoing = (Outgoing(text, template=template, file=files.sent_as(file, file_id) if file else None),)
    if outgoing:
        # The lane before the talk, as the conveyor locks them: two that wait for each other would both lose time.
        connection = await session.connection()
        lane = out_lane(row.channel.id, row.contact.external_id)
        await connection.run_sync(lanes.lock, {lane: line})
    # Read again under the lock: an answer of the bot, or the first of two presses, may have been stored meanwhile.
    try:
        await session.refresh(talk, with_for_update=True)
    except InvalidRequestError:
        raise Conflict(
            T("This conversation has just been joined with another one of the same customer. Please send it again."),
            code="joined",
        ) from None
    if seen:
        since = await messages(session, talk, cursor=seen, newest_first=False)
        if (before := await files.sent_before(session, since.items, text, file)) is not None:
            return before
        await _nobody_else_answered(session, since.items, author)
    if template is None:
        check_window(row)
    reply = Reply(text, "operator", outgoing, id=new_id())
    moment = utcnow()
    message = models.Message(
        id=reply.id,
        conversation_id=talk.id,
        author="operator",
        kind=file.kind if file is not None else "text",
        text=text,
        status="queued" if outgoing else "sent",
        author_id=author.id if author else None,
        created_at=moment,
    )
    session.add(message)
    if file is not None:
        await session.flush()
        await files.keep(session, row.bot.id, message.id, file_id, file, moment)
    said = f"📎 {file.name}\n{text}".strip() if file is not None else text
    talk.status, talk.waiting_reason = "human", None
    talk.person_at = moment
    talk.unanswered_since = None
    talk.snoozed_until = talk.snoozed_at = None
    if author is not None and talk.assignee_id is None:
        talk.assignee_id = author.id
    talk.last_message_at = moment
    talk.last_text = one_line(said, 200)
    talk.recent = [*(talk.recent or []), ["assistant", said[:RECENT_CHARS]]][-RECENT_TURNS:]
    session.add(talk)
    await notices.solve(session, notices.talk_key(talk.id))
    await session.flush()
    said_now = {"language": None, "author": "operator", "text": text, "kind": message.kind}
    told = endpoints.message({"id": message.id, "created_at": moment, **said_now})
    await endpoints.tell(session, [_told(row, endpoints.ANSWERED, message=told)])
    if outgoing:
        request_id = str(structlog.contextvars.get_contextvars().get("request_id") or "")[:32]
        rows = outbox_rows(row.channel.id, row.contact.external_id, reply, talk.id, request_id, moment)
        await put_in_outbox(session, rows, line)
    return message


def _told(row: ConversationRow, event: str, **more: Any) -> endpoints.Happening:
    """Return something that happened in a conversation as its owner's servers are told."""
    ids = row.bot.id, row.channel.id, row.channel.kind, row.conversation.id, row.contact.id, row.contact.external_id
    return endpoints.Happening(row.bot.owner_id, event, {**endpoints.place(*ids), **more})


async def _nobody_else_answered(
    session: AsyncSession, since: Sequence[models.Message], author: models.User | None
) -> None:
    others = [one.author_id for one in since if one.author == "operator" and one.author_id]
    other = next((user_id for user_id in reversed(others) if author is not None and user_id != author.id), None)
    if other is not None:
        person = await session.get(models.User, other)
        raise Conflict(
            T(
                "{name} has answered while you were writing. Read it first; press Send again if your message is still needed.",
                name=person.full_name if person else T("Another operator"),
            ),
            code="answered_meanwhile",
        )


async def put_in_outbox(session: AsyncSession, rows: list[dict[str, Any]], line: Line) -> None:
    """Put messages into the outbox inside a session's own transaction."""
    connection = await session.connection()
    scope = Scope("", clock(connection.dialect.name))
    await connection.run_sync(put_out, scope, rows, {str(row["channel_id"]): line for row in rows})


async def set_status(
    session: AsyncSession, row: ConversationRow, status: str, *, actor: models.User | None = None
) -> None:
    """Hand the talk to a person (``human``), back to the bot (``bot``), or close it; whoever was called for it came.

    ``actor``: who does it, and whose the talk is from then on. Given back or closed it is nobody's. Given back, the bot answers
    what the person left unanswered, or says that it is back: ring "inbox" after the commit. A closed talk is only put away: when
    the customer writes again, the bot answers. Raises ``Invalid`` for other states.
    """
    if status not in CHOICES:
        raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(CHOICES)), field="status")
    talk = row.conversation
    if status == "bot":
        await returning.lock(session, row.bot, row.channel.id, row.contact.external_id)
    await session.refresh(talk, with_for_update=True)
    led = talk.status == "human"
    if status == "closed" and talk.status != "closed":
        await endpoints.tell(session, [_told(row, endpoints.CLOSED)])
    talk.status, talk.waiting_reason = status, None
    talk.snoozed_until = talk.snoozed_at = None
    if status == "human":
        talk.person_at = utcnow()
        talk.assignee_id = actor.id if actor else talk.assignee_id
    else:
        talk.assignee_id = talk.unanswered_since = None
    session.add(talk)
    if led and status == "bot":
        await returning.give_back(session, row.bot, row.channel.id, row.contact.external_id, talk, by_person=True)
    await notices.solve(session, notices.talk_key(talk.id))
    await session.flush()
    if actor is not None:
        words = {"bot": "conversation_given_back", "human": "conversation_taken", "closed": "conversation_closed"}
        await access.record(session, actor, words[status], "conversation", talk.id)


async def unanswered(
    session: AsyncSession, bot: models.Bot, *, cursor: str | None = None, limit: int = 50
) -> Page[models.UnansweredQuestion]:
    """Return the open questions that the documents did not answer, the latest first."""
    question = models.UnansweredQuestion
    query = (
        select(question)
        .where(question.bot_id == bot.id, question.answered_at.is_(None))
        .order_by(question.id.desc())
        .limit(limit + 1)
    )
    if cursor:
        query = query.where(question.id < cursor)
    rows = list(await session.scalars(query))
    return _page(rows, limit, [row.id for row in rows[:limit]])
