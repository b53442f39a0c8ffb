"""The installation as a business: owners, what they pay, what their bots do and what models cost; for administrators.

Days are those of Tashkent. Amounts of money are tiyin; what only a gateway's test key paid is none. What models cost is US
dollars, and is set against the revenue where ``payments.usd_rate_uzs`` says how many so'm a dollar is.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, SQLColumnExpression, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import ID_LENGTH
from services import paging
from services.bots import BROKEN
from services.days import day_number, midnight
from services.keeping import Kept
from services.knowledge.base import ANSWERS
from services.plans import TIYIN
from services.statistics import Line, Period, Report, counted_between, live, open_ranges, report
from services.statistics.costs import sums
from services.subscriptions import BOUGHT, has_paid

if TYPE_CHECKING:
    from services.core import Core

PERIODS: Mapping[str, int] = {"7": 7, "30": 30, "90": 90, "365": 365}
MONTHS = 12
PAGE = 50
_EPOCH = dt.date(1970, 1, 1)
_DAY = dt.timedelta(days=1)
_CURSOR = re.compile(rf"(-?\d{{1,15}}):([0-9a-z]{{{ID_LENGTH}}}|)")
_MANY = 5000
_AT_ONCE = 2000
_user, _payment, _span = models.User, models.Payment, models.Subscription


@dataclass(frozen=True, slots=True)
class Owners:
    """``new``: registered in the time; ``active``: customers wrote to their bots; ``paying``: have a plan that they paid for
    at its end.

    ``converted``: of the new ones, how many have paid by now.
    """

    new: int = 0
    active: int = 0
    paying: int = 0
    converted: int = 0

    @property
    def conversion(self) -> float | None:
        """The part of the new ones who have paid, None where nobody was new."""
        return self.converted / self.new if self.new else None


@dataclass(frozen=True, slots=True)
class Models:
    """Model calls on the installation's keys, those that brought no answer, and what all of them cost."""

    calls: int = 0
    failed: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def failed_share(self) -> float | None:
        """The part that brought no answer."""
        return self.failed / self.calls if self.calls else None


@dataclass(frozen=True, slots=True)
class Side:
    """All that is compared: of the period, or of the one before."""

    owners: Owners
    bots: int
    documents: int
    revenue_tiyin: int
    models: Models


@dataclass(frozen=True, slots=True)
class Now:
    """What there is at this moment: owners, bots, documents that are ready, and what is broken of channels and documents."""

    owners: int
    bots: int
    documents: int
    broken_channels: int
    failed_documents: int


@dataclass(frozen=True, slots=True)
class Margin:
    """What an owner paid in a period and what the models cost for their bots. ``owner`` None: accounts that are deleted."""

    owner_id: str
    owner: models.User | None
    revenue_tiyin: int
    cost_usd: Decimal
    calls: int

    def margin_tiyin(self, usd_rate_uzs: Decimal) -> int:
        """Return what is left of the revenue, with so many so'm to a dollar, in whole so'm of cost."""
        return self.revenue_tiyin - int(self.cost_usd * usd_rate_uzs) * TIYIN


@dataclass(frozen=True, slots=True)
class Overview:
    """What the administrator's page shows. ``revenue``: by month (its first day) and gateway."""

    period: Period
    report: Report
    side: Side
    before: Side
    now: Now
    revenue: Mapping[tuple[dt.date, str], int]


_kept: Kept[tuple[Overview, Sequence[Margin]]] = Kept(60, 20)


def _within(column: SQLColumnExpression[Any], first: dt.date, last: dt.date) -> ColumnElement[bool]:
    return (column >= midnight(first)) & (column < midnight(last + _DAY))


async def overview(session: AsyncSession, period: Period, now: dt.datetime) -> Overview:
    """Return everything of a period and the one before, as it is ``now``."""
    opened = await live(session, None, await open_ranges(session, period.before[0], period.last))
    counted = await report(session, None, period, opened=opened)
    months = month_starts(period.last)
    money = await _revenue(session, min(months[0], period.before[0]), period.last)
    sides = []
    for first, last in ((period.first, period.last), period.before):
        earned = sum(tiyin for (day, _), tiyin in money.items() if first <= day <= last)
        sides.append(await _side(session, first, last, earned, opened, now))
    by_month: dict[tuple[dt.date, str], int] = {}
    for (day, gateway), tiyin in money.items():
        if day >= months[0]:
            key = day.replace(day=1), gateway
            by_month[key] = by_month.get(key, 0) + tiyin
    return Overview(period, counted, sides[0], sides[1], await _now(session), by_month)


async def page(session: AsyncSession, core: Core, period: Period) -> tuple[Overview, Sequence[Margin]]:
    """Return what the administrator's page shows of a period, with the margins; of very many owners it may be a minute old."""
    key = str(core.db.url), period
    known = _kept.get(key)
    if known is None:
        known = await overview(session, period, core.now()), await margins(session, period.first, period.last)
        if known[0].now.owners >= _MANY:
            _kept.put(key, known)
    return known


def month_starts(last: dt.date) -> list[dt.date]:
    """Return the first days of the last :data:`MONTHS` months."""
    count = last.year * 12 + last.month - 1
    return [dt.date(number // 12, number % 12 + 1, 1) for number in range(count - MONTHS + 1, count + 1)]


async def _revenue(session: AsyncSession, first: dt.date, last: dt.date) -> dict[tuple[dt.date, str], int]:
    """Return by day and gateway what was paid less what was given back, in tiyin."""
    dialect, found = session.get_bind().dialect.name, dict[tuple[dt.date, str], int]()
    for moment, sign in ((_payment.paid_at, 1), (_payment.refunded_at, -1)):
        day = day_number(dialect, moment)
        query = (
            select(day, _payment.paid_by, func.sum(_payment.amount_tiyin))
            .where(_within(moment, first, last), _payment.sandbox.is_(False), _payment.paid_by.is_not(None))
            .group_by(day, _payment.paid_by)
        )
        for number, gateway, tiyin in await session.execute(query):
            key = _EPOCH + dt.timedelta(days=int(number)), str(gateway)
            found[key] = found.get(key, 0) + sign * int(tiyin)
    return found


async def _count(session: AsyncSession, *conditions: ColumnElement[bool]) -> int:
    return int(await session.scalar(select(func.count()).where(*conditions)) or 0)


async def _side(
    session: AsyncSession, first: dt.date, last: dt.date, earned: int, opened: Sequence[Line], now: dt.datetime
) -> Side:
    bot, document = models.Bot, models.Document
    new = _user.role == "owner", _within(_user.created_at, first, last)
    end = midnight(last + _DAY)
    at = min(end, now)
    standing = _span.revoked_at.is_(None), _span.source.in_(BOUGHT), _span.starts_at <= at, _span.ends_at > at
    owners = Owners(
        await _count(session, *new),
        await _active(session, first, last, opened),
        int(await session.scalar(select(func.count(func.distinct(_span.user_id))).where(*standing)) or 0),
        await _count(session, *new, has_paid(session)),
    )
    rows = await sums(session, midnight(first), end, by=("own_key",), own_key=False)
    used = Models(
        sum(int(row[1]) for row in rows),
        sum(int(row[2] or 0) for row in rows),
        sum((row[6] or Decimal(0) for row in rows), Decimal(0)),
    )
    return Side(
        owners,
        await _count(session, _within(bot.created_at, first, last)),
        await _count(
            session, _within(document.created_at, first, last), document.status == "ready", *_kept_documents()
        ),
        earned,
        used,
    )


def _kept_documents() -> tuple[ColumnElement[bool], ...]:
    """The conditions on documents that the list of all files holds."""
    document, bot = models.Document, models.Bot
    there = select(bot.id).where(bot.deleted_at.is_(None))
    return document.deleted_at.is_(None), document.kind != ANSWERS, document.bot_id.in_(there)


async def _active(session: AsyncSession, first: dt.date, last: dt.date, opened: Sequence[Line]) -> int:
    """Return how many owners have a bot to which somebody wrote."""
    number, bot = models.DayNumbers, models.Bot
    counted = select(number.bot_id).where(counted_between(first, last), number.talks > 0)
    lately = {line.bot_id for line in opened if first <= line.day <= last}
    wrote = or_(bot.id.in_(counted), bot.id.in_(sorted(lately)))
    return int(await session.scalar(select(func.count(func.distinct(bot.owner_id))).where(wrote)) or 0)


async def _now(session: AsyncSession) -> Now:
    bot, document, channel = models.Bot, models.Document, models.Channel
    there = select(bot.id).where(bot.deleted_at.is_(None))
    kept = _kept_documents()
    return Now(
        await _count(session, _user.role == "owner"),
        await _count(session, bot.deleted_at.is_(None)),
        await _count(session, document.status == "ready", *kept),
        await _count(session, channel.status.in_(BROKEN), channel.bot_id.in_(there)),
        await _count(session, document.status == "failed", *kept),
    )


async def margins(session: AsyncSession, first: dt.date, last: dt.date) -> list[Margin]:
    """Return what each owner paid and cost on some days, who cost most first."""
    revenue: dict[str, int] = {}
    for moment, sign in ((_payment.paid_at, 1), (_payment.refunded_at, -1)):
        query = (
            select(_payment.user_id, func.sum(_payment.amount_tiyin))
            .where(_within(moment, first, last), _payment.sandbox.is_(False), _payment.paid_by.is_not(None))
            .group_by(_payment.user_id)
        )
        for part in (await session.execute(query)).partitions(_AT_ONCE):
            for owner_id, tiyin in part:
                revenue[owner_id or ""] = revenue.get(owner_id or "", 0) + sign * int(tiyin)
            await asyncio.sleep(0)
    cost: dict[str, tuple[Decimal, int]] = {}
    rows = await sums(session, midnight(first), midnight(last + _DAY), by=("owner_id",), own_key=False)
    for owner_id, calls, _failed, _given, _made, _cached, dollars in rows:
        known = cost.get(owner_id, (Decimal(0), 0))
        cost[owner_id] = known[0] + (dollars or Decimal(0)), known[1] + int(calls)

    def ordered() -> list[Margin]:
        found = [
            Margin(owner_id, None, revenue.get(owner_id, 0), *cost.get(owner_id, (Decimal(0), 0)))
            for owner_id in revenue.keys() | cost.keys()
        ]
        return sorted(found, key=_place)

    # Of very many owners that takes a while, in which the pages of others go on.
    return await asyncio.to_thread(ordered)


def _place(margin: Margin) -> tuple[int, str]:
    return -int(margin.cost_usd * 1_000_000_000), margin.owner_id


@dataclass(frozen=True, slots=True)
class Part:
    """Part of the margins with their owners; ``next`` is the cursor of the following part or None."""

    items: Sequence[Margin]
    next: str | None


async def margins_page(session: AsyncSession, found: Sequence[Margin], cursor: str = "", limit: int = PAGE) -> Part:
    """Return the part after a cursor of what :func:`margins` found; raises ``Invalid`` for a malformed cursor."""
    if cursor:
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise paging.malformed()
        after = int(match[1]), match[2]
        found = [each for each in found if _place(each) > after]
    shown = found[:limit]
    people = await session.scalars(select(_user).where(_user.id.in_([each.owner_id for each in shown])))
    by_id = {person.id: person for person in people}
    items = [
        Margin(each.owner_id, by_id.get(each.owner_id), each.revenue_tiyin, each.cost_usd, each.calls) for each in shown
    ]
    if len(found) <= limit:
        return Part(items, None)
    cost, owner_id = _place(shown[-1])
    return Part(items, f"{cost}:{owner_id}")
