"""The desk of the people who answer: conversations of all bots that a person may answer for, in one list.

Whose a conversation is, and until when it is put aside.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal_column, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db import models
from db.base import utcnow
from services import access, team
from services.conversations import STATUSES, ConversationRow, Page, after_cursor, finding, page_of
from services.days import at_time, today
from services.errors import Invalid
from services.i18n import T
from services.testers import of_customer
from services.text import clean

ME, NOBODY = "me", "nobody"
HAPPENED = ("said", "new", "handed")
"""What happened in a conversation with a customer: something was said, it began, or it came to a person, who took part or is
waited for."""
PRESETS = ("hour", "tomorrow", "monday")
_MORNING = dt.time(9, 0)
_SNOOZE_AT_MOST = dt.timedelta(days=366)
# Each bot's newest are read by its own index; beyond this many bots one sort is cheaper than so many parts.
_PARTS_AT_MOST = 50
_OTHERS = 10

_talk = models.Conversation


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the desk is shown; empty values filter nothing.

    ``channel``: a kind or an id. ``assignee``: a person's id, ``me`` or ``nobody``. ``label``: an id. ``unanswered``: a customer
    waits for a word. ``attended``: a person is asked for, or the one who looks leads. ``snoozed``: those put aside, which are
    hidden else but found by ``q``. ``since`` and ``until`` bound the last message, or what ``happened`` (:data:`HAPPENED`),
    which statistics count: of customers alone, and put aside or not.
    """

    channel: str = ""
    status: str = ""
    assignee: str = ""
    language: str = ""
    label: str = ""
    q: str = ""
    unanswered: bool = False
    attended: bool = False
    snoozed: bool = False
    happened: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many conversations wait for something. ``attention``: a person was asked for, or a customer waits for a word."""

    waiting: int = 0
    unanswered: int = 0
    mine: int = 0
    snoozed: int = 0
    attention: int = 0


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a customer besides the conversation. ``others``: further conversations of the same person."""

    messages: int
    others: list[ConversationRow]


def _asleep(now: dt.datetime | ColumnElement[dt.datetime]) -> ColumnElement[bool]:
    return and_(
        _talk.snoozed_until > now, or_(_talk.last_inbound_at.is_(None), _talk.last_inbound_at <= _talk.snoozed_at)
    )


def _awake(now: dt.datetime | ColumnElement[dt.datetime]) -> ColumnElement[bool]:
    return or_(_talk.snoozed_until.is_(None), _talk.snoozed_until <= now, _talk.last_inbound_at > _talk.snoozed_at)


def is_snoozed(talk: models.Conversation, now: dt.datetime) -> bool:
    """Whether a conversation is put aside now."""
    if talk.snoozed_until is None or talk.snoozed_at is None or talk.snoozed_until <= now:
        return False
    return talk.last_inbound_at is None or talk.last_inbound_at <= talk.snoozed_at


def _conditions(filters: Filters, user: models.User, now: dt.datetime) -> list[ColumnElement[bool]]:
    # What may be rare is looked up by itself: walking all conversations for it takes seconds where there are many.
    found: list[ColumnElement[bool]] = []
    if filters.status:
        if filters.status not in STATUSES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(STATUSES)), field="status")
        # Word for word what the indexes of rare states say, or SQLite does not take them.
        found.append(_talk.status == literal_column(f"'{filters.status}'"))
    if filters.assignee == NOBODY:
        found.append(_talk.assignee_id.is_(None))
    elif filters.assignee:
        found.append(_talk.assignee_id == (user.id if filters.assignee == ME else filters.assignee))
    if filters.label:
        put = models.ConversationLabel
        found.append(_talk.id.in_(select(put.conversation_id).where(put.label_id == filters.label)))
    if filters.unanswered:
        found.append(and_(_talk.unanswered_since.is_not(None), _talk.status != "closed"))
    if filters.attended:
        found.append(or_(_talk.status == "waiting", and_(_talk.status == "human", _talk.assignee_id == user.id)))
    if filters.since:
        found.append(_talk.last_message_at >= filters.since)
    if filters.happened:
        found.append(_happened(filters))
    elif filters.until:
        found.append(_talk.last_message_at < filters.until)
    if filters.snoozed:
        found.append(_asleep(now))
    elif not filters.happened and not clean(filters.q, 200).strip():
        found.append(_awake(now))
    return found


def _happened(filters: Filters) -> ColumnElement[bool]:
    """Return the condition that it happened between the two days; no message is read for it, which is quick with many."""

    def within(moment: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        since, until = filters.since, filters.until
        bounds = [*([moment >= since] if since else []), *([moment < until] if until else [])]
        return and_(moment.is_not(None), *bounds)

    if filters.happened == "said":
        return and_(within(_talk.last_message_at), of_customer())
    if filters.happened == "new":
        return and_(within(_talk.created_at), of_customer())
    # Who still waits for a person was handed over as well.
    waits = and_(_talk.status == "waiting", within(_talk.last_message_at))
    return and_(or_(within(_talk.person_at), waits), of_customer())


@dataclass(frozen=True, slots=True)
class _Found:
    """What was looked up by itself: the ids of those that fit where they are few, else how to tell while walking along."""

    few: frozenset[str] | None = None
    walked: tuple[ColumnElement[bool], ...] = ()

    def __and__(self, other: _Found) -> _Found:
        sets = [each.few for each in (self, other) if each.few is not None]
        return _Found(frozenset.intersection(*sets) if sets else None, (*self.walked, *other.walked))


async def _some(session: AsyncSession, ids: Select[str], walked: ColumnElement[bool]) -> _Found:
    found = (await session.scalars(ids.limit(finding.FEW + 1))).all()
    return _Found(frozenset(found)) if len(found) <= finding.FEW else _Found(walked=(walked,))


async def _looked_up(session: AsyncSession, filters: Filters, bot_ids: Sequence[str]) -> _Found:
    """Look up what may be rare: walking all conversations for it takes long where there are many."""
    found = _Found()
    if filters.channel:
        channel = models.Channel
        one = or_(channel.id == filters.channel, channel.kind == filters.channel)
        places = (await session.scalars(select(channel.id).where(channel.bot_id.in_(bot_ids), one))).all()
        walked = _talk.channel_id.concat("").in_(places)
        found &= await _some(session, select(_talk.id).where(_talk.channel_id.in_(places)), walked)
    if filters.language:
        contact = models.Contact
        speaks = contact.bot_id.in_(bot_ids), contact.language == filters.language
        people = (await session.scalars(select(contact.id).where(*speaks).limit(finding.FEW + 1))).all()
        if len(people) <= finding.FEW:
            talks = await session.scalars(select(_talk.id).where(_talk.contact_id.in_(people)))
            found &= _Found(frozenset(talks))
        else:
            here = select(contact.id).where(contact.id == _talk.contact_id, contact.language == filters.language)
            found &= _Found(walked=(here.exists(),))
    return found


async def list_for(
    session: AsyncSession,
    user: models.User,
    bots: Sequence[models.Bot],
    filters: Filters,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[ConversationRow]:
    """Return conversations of these bots, the latest first; ``user`` is who ``me`` is.

    ``bots`` must be ones that the person may answer for. What was said in the last seconds is found after
    :func:`services.conversations.finding.prepare`. Raises ``Invalid`` for an unknown status or a malformed cursor.
    """
    known = {bot.id: bot for bot in bots}
    asked = clean(filters.q, 200).strip()
    words = finding.wanted(asked)
    if not bots or (asked and not words):
        return Page([], None)
    now = utcnow()
    conditions = _conditions(filters, user, now)
    found = await _looked_up(session, filters, list(known))
    if words:
        said = await finding.find(session, list(known), words)
        found &= _Found(frozenset(said.few)) if said.few is not None else _Found()
    few = found.few
    if few is not None and not few:
        return Page([], None)
    further = [after_cursor(cursor)] if cursor else []
    order = (_talk.last_message_at.desc(), _talk.id.desc())

    def newest(bot_ids: Sequence[str]) -> Select[str]:
        here = _talk.bot_id == bot_ids[0] if len(bot_ids) == 1 else _talk.bot_id.in_(bot_ids)
        if few is not None:
            # Written so that no index of the bot's conversations is walked along for them.
            here = and_(_talk.bot_id.concat("").in_(bot_ids), _talk.id.in_(few))
        many = (said.among(_talk.id, bot_ids),) if words and said.few is None else ()
        wanted = (here, *conditions, *found.walked, *many, *further)
        return select(_talk.id).where(*wanted).order_by(*order).limit(limit + 1)

    if len(known) > _PARTS_AT_MOST or few is not None:
        wanted = select(newest(list(known)).subquery().c.id)
    else:
        parts = [select(newest([bot_id]).subquery().c.id) for bot_id in known]
        wanted = select(union_all(*parts).subquery().c.id)
    rows = await session.execute(
        select(_talk, models.Contact, models.Channel)
        .join(models.Contact, models.Contact.id == _talk.contact_id)
        .join(models.Channel, models.Channel.id == _talk.channel_id)
        .where(_talk.id.in_(wanted))
        .order_by(*order)
        .limit(limit + 1)
    )
    return page_of([ConversationRow(talk, person, place, known[talk.bot_id]) for talk, person, place in rows], limit)


async def counts(session: AsyncSession, user: models.User, bots: Sequence[models.Bot]) -> Counts:
    """Return how many conversations of these bots wait for what, in one query."""
    if not bots:
        return Counts()
    given = {"p_bots": [bot.id for bot in bots], "p_user": user.id, "p_now": utcnow()}
    row = (await session.execute(_counting(), given)).one()
    waiting, unanswered, mine, snoozed, silent = (int(number) for number in row)
    return Counts(waiting, unanswered, mine, snoozed, attention=unanswered + silent)


@cache
def _counting() -> Select[int, int, int, int, int]:
    # Every look at the inbox asks this: putting the query together costs more than the answer.
    now = bindparam("p_now", type_=_talk.snoozed_until.type)
    here = _talk.bot_id.in_(bindparam("p_bots", expanding=True))
    open_word = and_(_talk.unanswered_since.is_not(None), _talk.status != "closed")

    def count(*conditions: ColumnElement[bool]) -> ColumnElement[int]:
        return select(func.count()).select_from(_talk).where(here, *conditions).scalar_subquery()

    return select(
        count(_talk.status == "waiting", _awake(now)),
        count(open_word, _awake(now)),
        count(_talk.assignee_id == bindparam("p_user"), _awake(now)),
        count(_talk.snoozed_until.is_not(None), _asleep(now)),
        count(_talk.status == "waiting", _talk.unanswered_since.is_(None), _awake(now)),
    )


async def people(session: AsyncSession, owner_ids: Collection[str]) -> list[models.User]:
    """Return who may answer for these owners' bots, by name: the owners themselves and those who work for them."""
    person, member = models.User, models.Member
    served = select(member.user_id).where(member.owner_id.in_(owner_ids), member.role.in_(team.ROLES), team.WORKS)
    # In one set: with "or" PostgreSQL looks at every person.
    meant = union_all(select(person.id).where(person.id.in_(owner_ids)), served)
    query = select(person).where(person.id.in_(meant), person.banned_at.is_(None))
    return list(await session.scalars(query.order_by(person.full_name, person.id)))


async def owners(session: AsyncSession, user: models.User, right: team.Right) -> list[models.User]:
    """Return for whom a person may do something: first themselves, if they have bots or work for nobody, then the others."""
    person, bot, member = models.User, models.Bot, models.Member
    roles = team.ROLES if right == "talk" else ("manager",)
    served = select(member.owner_id).where(member.user_id == user.id, member.role.in_(roles), team.WORKS)
    themselves = select(person.id).where(
        person.id == user.id,
        or_(
            select(bot.id).where(bot.owner_id == user.id, bot.deleted_at.is_(None)).exists(),
            ~select(member.id).where(member.user_id == user.id).exists(),
        ),
    )
    meant = select(person).where(person.id.in_(union_all(themselves, served)))
    found = await session.scalars(meant.order_by(person.full_name, person.id))
    return sorted(found, key=lambda owner: owner.id != user.id)


async def names(session: AsyncSession, user_ids: Collection[str | None]) -> dict[str, str]:
    """Return people's names by id, those who have left included."""
    wanted = {user_id for user_id in user_ids if user_id}
    if not wanted:
        return {}
    rows = await session.execute(select(models.User.id, models.User.full_name).where(models.User.id.in_(wanted)))
    return {row[0]: row[1] for row in rows}


async def assign(session: AsyncSession, row: ConversationRow, user_id: str | None, actor: models.User) -> None:
    """Make a conversation somebody's, or nobody's (None). Raises ``Invalid`` for a person who may not answer in it."""
    if user_id is not None and user_id not in {person.id for person in await people(session, [row.bot.owner_id])}:
        raise Invalid(T("This person does not answer for this bot."), field="assignee")
    if row.conversation.assignee_id == user_id:
        return
    row.conversation.assignee_id = user_id
    session.add(row.conversation)
    await access.record(
        session, actor, "conversation_assigned", "conversation", row.conversation.id, to=user_id or NOBODY
    )


def preset(name: str, now: dt.datetime) -> dt.datetime:
    """Return when a conversation put aside for ``hour``, ``tomorrow`` or ``monday`` (9:00 in Tashkent) comes back."""
    if name == "hour":
        return now + dt.timedelta(hours=1)
    day = today(now)
    ahead = 1 if name == "tomorrow" else 7 - day.weekday()
    return at_time(day + dt.timedelta(days=ahead), _MORNING)


async def snooze(session: AsyncSession, row: ConversationRow, until: dt.datetime | None) -> None:
    """Put a conversation aside until a moment, or until the customer writes; None brings it back.

    Raises ``Invalid`` for a moment that is over or more than a year away.
    """
    now = utcnow()
    if until is not None and not now < until <= now + _SNOOZE_AT_MOST:
        raise Invalid(T("Choose a time from now on, within a year."), field="at")
    row.conversation.snoozed_until = until
    row.conversation.snoozed_at = now if until is not None else None
    session.add(row.conversation)
    await session.flush()


async def card(session: AsyncSession, row: ConversationRow, bots: Sequence[models.Bot]) -> Card:
    """Return what is known of the customer; ``bots``: those that the person who looks may answer for."""
    messages = await session.scalar(
        select(func.count()).select_from(models.Message).where(models.Message.conversation_id == row.conversation.id)
    )
    known = {bot.id: bot for bot in bots if bot.owner_id == row.bot.owner_id}
    contact, channel = models.Contact, models.Channel
    places = select(channel.id).where(channel.bot_id.in_(list(known)))
    alike = places.where(channel.kind == row.channel.kind)
    # Each by its own index: as one condition all contacts would be looked at.
    same = [select(contact.id).where(contact.channel_id.in_(alike), contact.external_id == row.contact.external_id)]
    if row.contact.phone:
        same.append(select(contact.id).where(contact.phone == row.contact.phone, contact.channel_id.in_(places)))
    rows = await session.execute(
        select(_talk, contact, channel)
        .join(contact, contact.id == _talk.contact_id)
        .join(channel, channel.id == _talk.channel_id)
        .where(contact.id.in_(union_all(*same)), contact.id != row.contact.id)
        .order_by(_talk.last_message_at.desc(), _talk.id.desc())
        .limit(_OTHERS)
    )
    others = [ConversationRow(talk, person, place, known[talk.bot_id]) for talk, person, place in rows]
    return Card(int(messages or 0), others)
