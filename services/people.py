"""Owners as administrators see them: found, listed, told, shut out and let in again.

Every list is walked along an index, or begins with the rows that an index names: it takes no longer with 100,000 owners.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, and_, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import models
from db.base import ID_LENGTH, new_id
from db.engine import Database
from services import access, accounts, letters, naming, payment_texts, requests, sheets, subscriptions, usage
from services.bell import session_topic
from services.days import midnight, today
from services.errors import Conflict, Invalid
from services.i18n import T, Text
from services.paging import PAGE, Page, malformed
from services.plans import Standing
from services.settings import Settings
from services.sheets import Cell
from services.statistics import costs
from services.text import clean

REASON_CHARS = 300
MESSAGE_CHARS = 2000
STATES: Mapping[str, Text] = {
    "paid": T("Paid"),
    "trial": T("Trial"),
    "free": T("Free"),
    "expired": T("Expired"),
    "banned": T("Blocked"),
}
"""What owners are parted into; ``free``: the days after the trial in which little may be done."""
PAYING = "paying"
CONVERTED = "converted"
CHOICES: Mapping[str, Text] = {**STATES, PAYING: T("Paying owners"), CONVERTED: T("Have ever paid")}
"""What a list may be of: one of :data:`STATES`, who has paid for what they have now, or who has ever paid, blocked or not."""
_COST_DAYS = 30
_SHOWN = 10
_FILES_SHOWN = 20
_PEOPLE_SHOWN = 50
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
_user, _bot, _channel, _span = models.User, models.Bot, models.Channel, models.Subscription


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the owners is shown; empty values filter nothing.

    ``q``: what names somebody, see :func:`services.naming.called`. ``state``: of :data:`CHOICES`.
    ``plan``: the plan that is paid for now. ``since`` and ``until``: days of Tashkent on which they registered, both included.
    ``bots``: ``yes`` or ``no``.
    """

    q: str = ""
    state: str = ""
    plan: str = ""
    bots: str = ""
    since: dt.date | None = None
    until: dt.date | None = None

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for what cannot be chosen."""
        if self.state and self.state not in CHOICES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(CHOICES)), field="state")
        if self.bots not in ("", "yes", "no"):
            raise Invalid(T("Choose yes or no."), field="bots")
        if self.since and self.until and self.until < self.since:
            raise Invalid(T("The last day is before the first."), field="until")


@dataclass(frozen=True, slots=True)
class Listed:
    """An owner in the list: what they have now, how many bots."""

    owner: models.User
    standing: Standing
    bots: int

    @property
    def state(self) -> str:
        """Which of :data:`STATES` the owner is in."""
        if self.owner.banned_at is not None:
            return "banned"
        return {"active": "paid", "grace": "paid", "trial": "trial", "test": "free"}.get(
            self.standing.status, "expired"
        )


# Finding --------------------------------------------------------------------------------------------------------------


def _running(settings: Settings, now: dt.datetime, plan: str) -> Select[str]:
    """Those who have paid for now, the days of grace included; for one ``plan``: in these alone."""
    grace = dt.timedelta(days=0 if plan else settings.subscriptions.grace_days)
    running = select(_span.user_id).where(
        _span.ends_at > now - grace, _span.starts_at <= now, _span.revoked_at.is_(None)
    )
    return running.where(_span.plan == plan) if plan else running


def _bought(now: dt.datetime) -> Select[str]:
    """Those who have paid for what they have now; as statistics count them."""
    bought = _span.source.in_(subscriptions.BOUGHT), _span.revoked_at.is_(None)
    return select(_span.user_id).where(_span.ends_at > now, _span.starts_at <= now, *bought)


def _has_paid(settings: Settings, now: dt.datetime, plan: str = "") -> ColumnElement[bool]:
    """The condition that an owner is among :func:`_running`, looked up for each owner by itself."""
    return _running(settings, now, plan).where(_span.user_id == _user.id).exists()


async def _paid(session: AsyncSession, settings: Settings, now: dt.datetime, plan: str = "") -> ColumnElement[bool]:
    """The same for who lists these owners: where they are few they are looked up, else owners are walked along."""
    return await _among(session, _running(settings, now, plan))


async def _among(session: AsyncSession, owners: Select[str]) -> ColumnElement[bool]:
    few = (await session.scalars(owners.limit(naming.FEW + 1))).all()
    return _user.id.in_(few) if len(few) <= naming.FEW else owners.where(_span.user_id == _user.id).exists()


_BEGAN = func.coalesce(_user.trial_at, _user.created_at)


async def _conditions(
    session: AsyncSession, settings: Settings, filters: Filters, now: dt.datetime
) -> list[ColumnElement[bool]]:
    # What may be rare is looked up by itself: walking all owners for it would take long.
    found: list[ColumnElement[bool]] = [_user.role != "admin"]
    rules = settings.subscriptions
    trial, free = now - dt.timedelta(days=rules.trial_days), now - dt.timedelta(days=rules.test_until_day)

    def later(moment: dt.datetime) -> ColumnElement[bool]:
        return or_(_user.trial_at > moment, and_(_user.trial_at.is_(None), _user.created_at > moment))

    def earlier(moment: dt.datetime) -> ColumnElement[bool]:
        return or_(_user.trial_at <= moment, and_(_user.trial_at.is_(None), _user.created_at <= moment))

    async def begun(after: dt.datetime, until: dt.datetime | None = None) -> ColumnElement[bool]:
        within = select(_user.id).where(after < _BEGAN, *([until >= _BEGAN] if until else []))
        few = (await session.scalars(within.limit(naming.FEW + 1))).all()
        if len(few) <= naming.FEW:
            return _user.id.in_(few)
        return and_(later(after), earlier(until)) if until else later(after)

    if filters.state == "banned":
        other = aliased(_user)
        found.append(_user.id.in_(select(other.id).where(other.banned_at.is_not(None))))
    elif filters.state == PAYING:
        found.append(await _among(session, _bought(now)))
    elif filters.state == CONVERTED:
        few = (await session.scalars(subscriptions.PAYERS.limit(naming.FEW + 1))).all()
        found.append(_user.id.in_(few) if len(few) <= naming.FEW else subscriptions.has_paid(session))
    elif filters.state:
        found.append(_user.banned_at.is_(None))
        if filters.state == "paid":
            found.append(await _paid(session, settings, now))
        else:
            found.append(~_has_paid(settings, now))
    if filters.state == "trial":
        found.append(await begun(trial))
    elif filters.state == "free":
        found.append(await begun(free, trial))
    elif filters.state == "expired":
        found.append(earlier(free))
    if filters.plan:
        found.append(await _paid(session, settings, now, filters.plan))
    if filters.bots:
        has = select(_bot.id).where(_bot.owner_id == _user.id, _bot.deleted_at.is_(None)).exists()
        found.append(has if filters.bots == "yes" else ~has)
    if filters.since:
        found.append(_user.created_at >= midnight(filters.since))
    if filters.until:
        found.append(_user.created_at < midnight(filters.until + dt.timedelta(days=1)))
    if asked := clean(filters.q, 200).strip():
        found.append(await naming.called(session, asked))
    return found


def _after(cursor: str) -> ColumnElement[bool]:
    moment, _, last = cursor.partition("-")
    if not (moment.isascii() and moment.isdigit()) or not _ID.fullmatch(last) or len(moment) > 16:
        raise malformed()
    at = dt.datetime.fromtimestamp(int(moment) / 1_000_000, dt.UTC)
    return and_(_user.created_at <= at, or_(_user.created_at < at, _user.id < last))


async def find(
    session: AsyncSession,
    settings: Settings,
    filters: Filters,
    *,
    now: dt.datetime,
    cursor: str = "",
    limit: int = PAGE,
) -> Page[Listed]:
    """Return owners, the last registered first; raises ``Invalid`` for a malformed cursor."""
    query = select(_user).where(*await _conditions(session, settings, filters, now))
    if cursor:
        query = query.where(_after(cursor))
    query = query.order_by(_user.created_at.desc(), _user.id.desc()).limit(limit + 1)
    found = list(await session.scalars(query))
    owners = found[:limit]
    lines = await subscriptions.timelines(session, settings, owners)
    count = select(_bot.owner_id, func.count()).where(_bot.deleted_at.is_(None)).group_by(_bot.owner_id)
    rows = await session.execute(count.where(_bot.owner_id.in_([owner.id for owner in owners])))
    bots = {row[0]: int(row[1]) for row in rows}
    items = [Listed(owner, lines[owner.id].at(now), bots.get(owner.id, 0)) for owner in owners]
    if len(found) <= limit:
        return Page(items, None)
    return Page(items, f"{round(owners[-1].created_at.timestamp() * 1_000_000)}-{owners[-1].id}")


_HEADINGS = (
    T("Name"),
    T("Phone"),
    T("E-mail"),
    T("Telegram number"),
    T("Language"),
    T("Registered on"),
    T("State"),
    T("Plan"),
    T("Until"),
    T("Bots"),
    T("Id"),
)


async def table(
    db: Database, settings: Settings, filters: Filters, language: str, *, now: dt.datetime
) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of the filtered owners in parts, its headings first; each part is read by itself."""
    yield [[heading.render(language) for heading in _HEADINGS]]
    cursor: str | None = ""
    while cursor is not None:
        async with db.read() as session:
            page = await find(session, settings, filters, now=now, cursor=cursor, limit=sheets.ROWS_AT_ONCE)
        yield [
            [
                each.owner.full_name,
                each.owner.phone or "",
                each.owner.email or "",
                str(each.owner.telegram_id or ""),
                each.owner.language,
                sheets.moment(each.owner.created_at),
                STATES[each.state].render(language),
                payment_texts.plan(settings, each.standing.plan, language) if each.standing.plan else "",
                sheets.moment(each.standing.ends_at),
                each.bots,
                each.owner.id,
            ]
            for each in page.items
        ]
        cursor = page.next


# One owner ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BotCard:
    """A bot of an owner with its channels; ``documents`` and ``bytes``: how many, how large; ``talks``: conversations."""

    bot: models.Bot
    channels: Sequence[models.Channel]
    documents: int
    bytes: int
    talks: int


@dataclass(frozen=True, slots=True)
class Card:
    """All that an administrator sees of an owner. ``cost_usd``: of the last thirty days on the installation's keys."""

    bots: Sequence[BotCard]
    documents: Sequence[models.Document]
    payments: Sequence[models.Payment]
    requests: Sequence[models.AccessRequest]
    team: Sequence[tuple[models.Member, models.User]]
    employers: Sequence[tuple[models.Member, models.User]]
    seen_at: dt.datetime | None
    calls: int
    cost_usd: Decimal
    stored_bytes: int
    views: Sequence[models.RemoteView]


async def card(session: AsyncSession, owner: models.User, *, now: dt.datetime) -> Card:
    """Return all that is known of an owner besides the plan, the letters and the log."""
    own = {"p_owner": owner.id}
    bots = [(row[0], int(row[1])) for row in await session.execute(_BOTS_OF, own)]
    ids = {"p_ids": [bot.id for bot, _ in bots]}
    channels = (await session.scalars(_CHANNELS_OF, ids)).all()
    held = await session.execute(_HELD_BY, ids)
    documents = {row[0]: (int(row[1]), int(row[2] or 0)) for row in held}
    # Calls with a key of the owner's own come by themselves: they cost the installation nothing.
    since = midnight(today(now) - dt.timedelta(days=_COST_DAYS - 1))
    used = await costs.sums(session, since, now + dt.timedelta(days=1), by=("own_key",), owner_id=owner.id)
    return Card(
        [
            BotCard(
                bot,
                [channel for channel in channels if channel.bot_id == bot.id],
                *documents.get(bot.id, (0, 0)),
                talks,
            )
            for bot, talks in bots
        ],
        (await session.scalars(_DOCUMENTS_OF, ids)).all(),
        (await session.scalars(_PAYMENTS_OF, own)).all(),
        (await requests.of_owner(session, owner.id))[:_SHOWN],
        [(row[0], row[1]) for row in await session.execute(_TEAM_OF, own)],
        [(row[0], row[1]) for row in await session.execute(_EMPLOYERS_OF, own)],
        await session.scalar(_SEEN, own),
        sum(int(row[1]) for row in used),
        sum((row[-1] or Decimal(0) for row in used if not row[0]), Decimal(0)),
        await usage.stored_bytes(session, owner.id),
        (await session.scalars(_VIEWS_OF, own)).all(),
    )


_OWNER: BindParameter[Any] = bindparam("p_owner")
_IDS: BindParameter[Any] = bindparam("p_ids", expanding=True)
_document, _member, _payment, _view = models.Document, models.Member, models.Payment, models.RemoteView
_KNOWLEDGE = _document.bot_id.in_(_IDS), _document.deleted_at.is_(None), _document.kind != "answers"
# Counted for each bot by itself: together they would be gone through as rows of an index, not only counted.
_TALKS = select(func.count()).where(models.Conversation.bot_id == _bot.id).scalar_subquery()
_BOTS_OF = select(_bot, _TALKS).where(_bot.owner_id == _OWNER, _bot.deleted_at.is_(None)).order_by(_bot.id)
_CHANNELS_OF = select(_channel).where(_channel.bot_id.in_(_IDS)).order_by(_channel.id)
_HELD_BY = (
    select(_document.bot_id, func.count(), func.sum(_document.size)).where(*_KNOWLEDGE).group_by(_document.bot_id)
)
_DOCUMENTS_OF = select(_document).where(*_KNOWLEDGE).order_by(_document.id.desc()).limit(_FILES_SHOWN)
_PEOPLE = select(_member, _user).order_by(_member.id).limit(_PEOPLE_SHOWN)
_TEAM_OF = _PEOPLE.join(_user, _user.id == _member.user_id).where(_member.owner_id == _OWNER)
_EMPLOYERS_OF = _PEOPLE.join(_user, _user.id == _member.owner_id).where(_member.user_id == _OWNER)
_SEEN = select(func.max(models.PanelSession.last_seen_at)).where(models.PanelSession.user_id == _OWNER)
_PAYMENTS_OF = select(_payment).where(_payment.user_id == _OWNER).order_by(_payment.id.desc()).limit(_SHOWN)
_VIEWS_OF = select(_view).where(_view.owner_id == _OWNER).order_by(_view.id.desc()).limit(_SHOWN)


def reason(text: str, *, field: str = "reason") -> str:
    """Return a reason that was typed as one text; raises ``Invalid`` for none and one that is too long."""
    words = " ".join(clean(text, REASON_CHARS * 4).split())
    if not words:
        raise Invalid(T("Write the reason."), field=field)
    if len(words) > REASON_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=REASON_CHARS), field=field)
    return words


async def ban(session: AsyncSession, admin: models.User, user_id: str, why: str, *, now: dt.datetime) -> list[str]:
    """Shut an owner out: no session, link or token works, and no bot answers, from the commit on; the owner is told why.

    Returns the topics of the bell to ring after the commit. Raises ``Invalid`` without a reason, ``Conflict`` where it is done.
    """
    why = reason(why)
    owner = await subscriptions.lock(session, user_id)
    if owner.banned_at is not None:
        raise Conflict(T("This owner is blocked already."), code="banned")
    browsers = [session_topic(row.id) for row in await accounts.sessions(session, owner)]
    await accounts.ban(session, owner)
    owner.ban_reason = why
    await session.execute(update(_user).where(_user.id == owner.id).values(ban_reason=why))
    await session.execute(
        update(models.RemoteView)
        .where(models.RemoteView.owner_id == owner.id, models.RemoteView.ended_at.is_(None))
        .values(ended_at=now)
    )
    await access.record(session, admin, "owner_banned", "user", owner.id, reason=why)
    await letters.write(session, owner.id, "banned", key=f"banned:{new_id()}", now=now, params={"reason": why})
    return ["letters", "channels", *browsers]


async def unban(session: AsyncSession, admin: models.User, user_id: str, *, now: dt.datetime) -> None:
    """Let an owner in again: what worked before works again. Raises ``Conflict`` where nobody was shut out."""
    owner = await subscriptions.lock(session, user_id)
    if owner.banned_at is None:
        raise Conflict(T("This owner is not blocked."), code="not_banned")
    owner.banned_at, owner.ban_reason = None, ""
    await session.flush()
    await access.record(session, admin, "owner_unbanned", "user", owner.id)
    params = {"path": "/dashboard"}
    await letters.write(session, owner.id, "unbanned", key=f"unbanned:{new_id()}", now=now, params=params)


async def write(
    session: AsyncSession, admin: models.User, user_id: str, message: str, key: str, *, now: dt.datetime
) -> None:
    """Write to an owner, by mail and in Telegram; the same form sent twice (``key``) writes once.

    Raises ``Invalid`` for an empty message or one that is too long.
    """
    words = clean(message.replace("\r\n", "\n")).strip()
    if not words:
        raise Invalid(T("Write a message first."), field="message")
    if len(words) > MESSAGE_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=MESSAGE_CHARS), field="message")
    params = {"message": words, "path": "/dashboard"}
    name = key if _ID.fullmatch(key) else new_id()
    if await letters.write(session, user_id, "from_administrator", key=f"admin:{name}", now=now, params=params):
        await access.record(session, admin, "owner_written", "user", user_id, message=words[:300])
