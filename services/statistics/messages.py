"""Reckoning the numbers of days from the messages themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    SQLColumnExpression,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from db import models
from db.base import earlier_id, new_id, utcnow
from services.commands import COMMANDS, UNLISTED
from services.conversations.records import CALLED
from services.days import day_number, midnight
from services.testers import is_customer

_EPOCH = dt.date(1970, 1, 1)
_SLACK_S = 86_400
"""So long before a message was stored its identifier may say that it was made."""
_LOOK_BACK = dt.timedelta(days=7)
"""Who waited longer for a person had given up."""
_SPOKEN = ("voice", "audio")


@dataclass(slots=True)
class Counted:
    """What messages of a day, bot, kind of channel and language come to; waits as seconds and how often."""

    bot_id: str
    day: dt.date
    channel: str
    language: str
    counts: dict[str, int] = field(default_factory=dict)
    waits: list[tuple[float, int]] = field(default_factory=list)
    person_waits: list[tuple[float, int]] = field(default_factory=list)


def _is_command(text: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    written = func.lower(text)
    forms = [
        form
        for name in (*COMMANDS, *UNLISTED)
        for form in (written == f"/{name}", written.like(f"/{name} %"), written.like(f"/{name}@%"))
    ]
    return and_(text.startswith("/"), or_(*forms))


def _tenths(dialect: str, later: SQLColumnExpression[Any], earlier: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """Return how many tenths of a second lie between two moments."""
    if dialect == "sqlite":
        return (type_coerce(later, BigInteger) - type_coerce(earlier, BigInteger)) // 100_000
    return cast(func.floor(func.extract("epoch", later - earlier) * 10), BigInteger)


async def count(session: AsyncSession, bots: Sequence[str] | None, first: dt.date, last: dt.date) -> list[Counted]:
    """Return what was said from the first to the last day; ``bots``: ids, None for all."""
    start, end = midnight(first), midnight(last + dt.timedelta(days=1))
    # Messages have no index by time, but their identifiers grow with it.
    floor = earlier_id(new_id(), max(0.0, (utcnow() - start).total_seconds()) + _SLACK_S)
    given: dict[str, Any] = {"p_start": start, "p_end": end, "p_floor": floor}
    if bots is not None:
        given["p_bots"] = list(bots)
    sums, replies, waited_for = _statements(session.get_bind().dialect.name, bots is not None)
    found: dict[tuple[Any, ...], Counted] = {}

    def of(row: Sequence[Any]) -> Counted:
        bot_id, number, kind, code = row
        at = _EPOCH + dt.timedelta(days=int(number))
        return found.setdefault((bot_id, number, kind, code), Counted(bot_id, at, kind, code))

    for row in await session.execute(sums, given):
        *place, asked, friendly, answered, unanswered, by_people, talks, begun, handed_over = row
        of(place).counts |= {
            "questions": max(asked - friendly, 0),
            "answered": answered - friendly,
            "unanswered": unanswered,
            "handed_over": handed_over,
            "by_people": by_people,
            "talks": talks,
            "begun": begun,
        }
    for *place, waited, times in await session.execute(replies, given):
        of(place).waits.append((max(waited, 0) / 10, times))
    for *place, waited in await session.execute(waited_for, given):
        if waited is not None and waited <= _LOOK_BACK.total_seconds() * 10:
            of(place).person_waits.append((max(waited, 0) / 10, 1))
    return list(found.values())


@cache
def _statements(dialect: str, of_bots: bool) -> tuple[Select[Any], Select[Any], Select[Any]]:
    """Return the sums, the waits for the bot and those for people: putting them together costs more than running them."""
    message, talk, contact, channel = models.Message, models.Conversation, models.Contact, models.Channel
    start, end = (bindparam(name, type_=message.created_at.type) for name in ("p_start", "p_end"))
    day = day_number(dialect, message.created_at)
    key = talk.bot_id, day, channel.kind, func.coalesce(contact.language, "")

    def said(*columns: Any) -> Select[Any]:
        query = (
            select(*key, *columns)
            .select_from(talk)
            .join(contact, contact.id == talk.contact_id)
            .join(channel, channel.id == talk.channel_id)
            .join(message, message.conversation_id == talk.id)
            .where(
                talk.last_message_at >= start,
                talk.created_at < end,
                message.created_at >= start,
                message.created_at < end,
                message.id >= bindparam("p_floor"),
                is_customer(),
            )
        )
        return query.where(talk.bot_id.in_(bindparam("p_bots", expanding=True))) if of_bots else query

    question = aliased(models.Message)
    tenths = _tenths(dialect, message.created_at, question.created_at)
    replies = said(tenths, func.count()).join(question, question.id == message.reply_to)
    replies = replies.where(message.author == "bot", message.answered.is_not(None)).group_by(*key, tenths)
    waited_for = said(_tenths(dialect, message.created_at, _asked_at())).where(message.author == "operator")
    return said(*_sums(dialect, day)).group_by(*key), replies, waited_for


def _sums(dialect: str, day: ColumnElement[int]) -> list[ColumnElement[Any]]:
    message, talk = models.Message, models.Conversation

    def times(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    def talks(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.count(func.distinct(case((condition, talk.id))))

    worded = or_(and_(message.text != "", ~_is_command(message.text)), message.kind.in_(_SPOKEN))
    # A greeting or thanks got a friendly word: nothing was looked for, so nothing was found either.
    friendly = and_(
        message.answered.is_(True),
        message.provider == "extractive",
        or_(message.sources.is_(None), message.sources == []),
    )
    spoke = message.author.in_(("customer", "operator"))
    called = and_(message.author != "customer", message.extra == CALLED)
    return [
        times(and_(message.author == "customer", worded)),
        times(friendly),
        times(message.answered.is_(True)),
        times(message.answered.is_(False)),
        times(message.author == "operator"),
        # What was only sent to somebody, a broadcast say, is no conversation.
        talks(spoke),
        talks(and_(spoke, day_number(dialect, talk.created_at) == day)),
        talks(or_(message.author == "operator", called)),
    ]


def _asked_at() -> ColumnElement[Any]:
    """Return since when a person's message was waited for: the customer's first one that nobody had answered before it."""
    message, before, asked = models.Message, aliased(models.Message), aliased(models.Message)
    dealt = or_(before.author == "operator", and_(before.author == "bot", before.answered.is_(True)))
    last = (
        select(before.id)
        .where(before.conversation_id == message.conversation_id, before.id < message.id, dealt)
        .order_by(before.id.desc())
        .limit(1)
        .correlate(message)
        .scalar_subquery()
    )
    return (
        select(asked.created_at)
        .where(
            asked.conversation_id == message.conversation_id,
            asked.id < message.id,
            asked.id > func.coalesce(last, ""),
            asked.author == "customer",
        )
        .order_by(asked.id)
        .limit(1)
        .correlate(message)
        .scalar_subquery()
    )
