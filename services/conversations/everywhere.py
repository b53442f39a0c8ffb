"""Conversations of all owners, for administrators: found, opened with a trace, and written in with a stated reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import first_id
from services import access, conversations, naming, paging, people
from services.channel_names import CHANNEL_NAMES
from services.conversations import STATUSES, ConversationRow, Page, after_cursor, finding, page_of
from services.days import midnight, today
from services.errors import Invalid, NotFound
from services.i18n import T
from services.testers import of_customer
from services.text import clean

BY_ADMINISTRATOR = "administrator"
"""What ``extra["by"]`` of a message says that an administrator wrote for the business."""
_OWNERS_AT_MOST = 200
_PARTS_AT_MOST = 50
"""Of so many bots the newest are read by each bot's own index."""
_talk, _contact, _channel, _bot = models.Conversation, models.Contact, models.Channel, models.Bot
_ORDER = (_talk.last_message_at.desc(), _talk.id.desc())
# Written so that no index is walked along in this order: for few that were looked up.
_LATEST = func.coalesce(_talk.last_message_at, _talk.last_message_at)
_ORDER_OF_FEW = (_LATEST.desc(), _talk.id.desc())


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the conversations is shown; empty values filter nothing.

    ``owner``: an id or what names one. ``bot``: an id. ``since`` and ``until``: days of Tashkent of the last message, both
    included. ``q``: what was said, or who the customer is. ``who``: ``customers`` leaves out what people try in the panel.
    """

    platform: str = ""
    owner: str = ""
    bot: str = ""
    state: str = ""
    q: str = ""
    since: dt.date | None = None
    until: dt.date | None = None
    who: str = ""

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for what cannot be chosen."""
        if self.platform and self.platform not in CHANNEL_NAMES:
            raise Invalid(T("Unknown platform: use one of {names}.", names=", ".join(CHANNEL_NAMES)), field="platform")
        if self.state and self.state not in STATUSES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(STATUSES)), field="state")
        if self.who not in ("", "customers"):
            raise Invalid(T("Unknown choice: use one of {names}.", names="customers"), field="who")
        if self.since and self.until and self.until < self.since:
            raise Invalid(T("The last day is before the first."), field="until")


async def find(
    session: AsyncSession, filters: Filters, *, cursor: str = "", limit: int = 50
) -> Page[tuple[ConversationRow, models.User]]:
    """Return conversations with their owners, the latest first; raises ``Invalid`` for a malformed cursor.

    What was said in the last seconds is found after :func:`services.conversations.finding.prepare`.
    """
    wanted: list[ColumnElement[bool]] = []
    order = _ORDER

    async def looked_up(condition: ColumnElement[bool], walked: ColumnElement[bool]) -> None:
        nonlocal order
        wanted.append(await paging.few(session, _talk.id, condition, walked))
        if wanted[-1] is not walked:
            order = _ORDER_OF_FEW

    bots: list[str] | None = None
    if filters.owner or filters.bot:
        query = select(_bot.id)
        if filters.owner:
            owners = await naming.ids_called(session, filters.owner, _OWNERS_AT_MOST)
            query = query.where(_bot.owner_id.in_(owners))
        if filters.bot:
            query = query.where(_bot.id == clean(filters.bot, 64))
        bots = list(await session.scalars(query))
        if len(bots) > _PARTS_AT_MOST:
            await looked_up(_talk.bot_id.in_(bots), _talk.bot_id.concat("").in_(bots))
    if filters.platform:
        places = select(_channel.id).where(_channel.kind == filters.platform)
        await looked_up(_talk.channel_id.in_(places), _channel.kind.concat("") == filters.platform)
    if filters.state:
        await looked_up(_talk.status == filters.state, _talk.status.concat("") == filters.state)
    if filters.since:
        wanted.append(_talk.last_message_at >= midnight(filters.since))
    if filters.until:
        wanted.append(_talk.last_message_at < midnight(filters.until + dt.timedelta(days=1)))
    if filters.who:
        wanted.append(of_customer())
    if asked := clean(filters.q, 200).strip():
        said = await _says(session, asked, bots)
        wanted.append(said.among(_talk.id, bots) if said else _talk.id.in_([]))
        if said and said.few is not None:
            order = _ORDER_OF_FEW
    if cursor:
        wanted.append(after_cursor(cursor))
    if bots is not None and len(bots) <= _PARTS_AT_MOST:
        wanted, order = [_talk.id.in_(_newest(bots, wanted, limit + 1, order))], _ORDER_OF_FEW
    rows = await session.execute(
        select(_talk, _contact, _channel, _bot, models.User)
        .join(_contact, _contact.id == _talk.contact_id)
        .join(_channel, _channel.id == _talk.channel_id)
        .join(_bot, _bot.id == _talk.bot_id)
        .join(models.User, models.User.id == _bot.owner_id)
        .where(_bot.deleted_at.is_(None), *wanted)
        .order_by(*order)
        .limit(limit + 1)
    )
    found = [(ConversationRow(talk, person, place, bot), owner) for talk, person, place, bot, owner in rows]
    page = page_of([row for row, _ in found], limit)
    return Page(found[:limit], page.next)


def _newest(
    bots: Sequence[str], wanted: Sequence[ColumnElement[bool]], limit: int, order: Sequence[ColumnElement[Any]]
) -> Select[str]:
    """Return the ids of the newest conversations of each of some bots: each bot's index holds them in this order."""
    parts = [
        select(_talk.id)
        .join(_channel, _channel.id == _talk.channel_id)
        .where(_talk.bot_id == bot_id, *wanted)
        .order_by(*order)
        .limit(limit)
        .subquery()
        for bot_id in bots
    ]
    if not parts:
        return select(_talk.id).where(false())
    return select(union_all(*(select(part.c.id) for part in parts)).subquery().c.id)


async def _says(session: AsyncSession, asked: str, bots: Sequence[str] | None) -> finding.Finding | None:
    """Look for conversations of these bots (None: of all) by their words or what the customer is called; None: for nothing."""
    words = finding.wanted(asked)
    return None if not words or bots == [] else await finding.find(session, bots, words)


async def get(session: AsyncSession, conversation_id: str) -> tuple[ConversationRow, models.User]:
    """Return any owner's conversation and the owner; raises ``NotFound``."""
    row = (
        await session.execute(
            select(_talk, _contact, _channel, _bot, models.User)
            .join(_contact, _contact.id == _talk.contact_id)
            .join(_channel, _channel.id == _talk.channel_id)
            .join(_bot, _bot.id == _talk.bot_id)
            .join(models.User, models.User.id == _bot.owner_id)
            .where(_talk.id == conversation_id, _bot.deleted_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    return ConversationRow(row[0], row[1], row[2], row[3]), row[4]


async def is_known(session: AsyncSession, admin: models.User, row: ConversationRow, *, now: dt.datetime) -> bool:
    """Tell whether it is written down that an administrator read a conversation on this day of Tashkent."""
    log = models.AuditLog
    begun = midnight(today(now))
    query = select(log.id).where(
        log.object_kind == "conversation",
        log.object_id == row.conversation.id,
        # By the identifier, which is a moment too: so the index over the object is taken, not all that this person ever did.
        log.id >= first_id(begun),
        log.actor_id == admin.id,
        log.action == "conversation_opened",
    )
    return await session.scalar(query.limit(1)) is not None


async def opened(session: AsyncSession, admin: models.User, row: ConversationRow, owner: models.User) -> None:
    """Write down that an administrator reads a conversation."""
    facts = {"owner": owner.id, "bot": row.bot.name}
    await access.record(session, admin, "conversation_opened", "conversation", row.conversation.id, **facts)


async def write(
    session: AsyncSession,
    admin: models.User,
    row: ConversationRow,
    owner: models.User,
    text: str,
    reason: str,
    *,
    seen: str = "",
) -> models.Message:
    """Write to a customer as the business's operator, for a stated reason; the owner sees who wrote.

    Raises ``Invalid`` without a reason, and as :func:`services.conversations.operator_reply` does.
    """
    why = people.reason(reason)
    before = row.conversation.assignee_id
    message = await conversations.operator_reply(session, row, text, seen=seen, author=admin)
    if message.extra is None:
        message.extra = {"by": BY_ADMINISTRATOR}
        # Whose the conversation is stays the owner's matter.
        row.conversation.assignee_id = before
        await session.flush()
        await access.record(
            session, admin, "customer_written", "conversation", row.conversation.id, reason=why, owner=owner.id
        )
    return message
