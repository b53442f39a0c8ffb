"""Payments as the administrator sees them: lists, sums, the life of one, and what came in by gateway and day.

Days are those of Tashkent. What only a gateway's test key paid is no money: it is listed, but never part of a sum.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from db import models
from db.base import ID_LENGTH
from db.engine import Database
from services import naming, payment_texts, sheets
from services.days import day_number, midnight
from services.errors import Invalid, NotFound
from services.i18n import T, translate
from services.paging import malformed
from services.payment_texts import STATES
from services.plans import TIYIN
from services.settings import Settings
from services.sheets import Cell
from services.text import clean

PAGE = 50
_BATCH = 1000
_OWNERS_AT_MOST = 500
_EPOCH = dt.date(1970, 1, 1)
DAYS_AT_MOST = 370
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")

_payment, _user, _attempt = models.Payment, models.User, models.PaymentTransaction
Row = tuple[models.Payment, models.User | None]
_SHOWN = (
    _payment.number,
    _payment.plan,
    _payment.period,
    _payment.gateway,
    _payment.paid_by,
    _payment.status,
    _payment.amount_tiyin,
    _payment.sandbox,
    _payment.created_at,
)
_NAMED_BY = _user.role, _user.full_name, _user.email, _user.phone


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the payments is shown; empty values filter nothing.

    ``gateway``: that which paid, of what is not paid the chosen one. ``owner``: what names one, see
    :func:`services.naming.called`; a whole e-mail or phone is nobody else's. ``since`` and ``until``: first and last day on which
    it was ordered.
    """

    state: str = ""
    gateway: str = ""
    owner: str = ""
    number: str = ""
    since: dt.date | None = None
    until: dt.date | None = None

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for an unknown state."""
        if self.state and self.state not in STATES:
            raise Invalid(T("Unknown status: use one of {names}.", names=", ".join(STATES)), field="state")


@dataclass(frozen=True, slots=True)
class Page:
    """Part of the list, the newest first; ``next`` is the cursor of the following part or None."""

    rows: Sequence[Row]
    next: str | None


@dataclass(frozen=True, slots=True)
class Sum:
    """How many payments are in a state and what they come to, in tiyin."""

    count: int = 0
    tiyin: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, self.tiyin + other.tiyin)


@dataclass(frozen=True, slots=True)
class Life:
    """Everything known of a payment, in the order in which it happened. ``people``: names of those who did something, by id."""

    payment: models.Payment
    owner: models.User | None
    coupon: models.Coupon | None
    transactions: Sequence[models.PaymentTransaction]
    events: Sequence[models.PaymentEvent]
    spans: Sequence[models.Subscription]
    people: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Day:
    """What a gateway performed and took back on a day, in tiyin."""

    day: dt.date
    gateway: str
    performed: Sum = Sum()
    reversed: Sum = Sum()

    @property
    def net(self) -> int:
        """What is left of it."""
        return self.performed.tiyin - self.reversed.tiyin


async def _conditions(session: AsyncSession, filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.state:
        found.append(_payment.status == filters.state)
    if filters.gateway:
        found.append(func.coalesce(_payment.paid_by, _payment.gateway) == filters.gateway)
    if filters.number:
        found.append(_payment.number == filters.number)
    if filters.owner:
        whole = select(_user.id).where(_is_whole(filters.owner)).limit(_OWNERS_AT_MOST)
        ids = (await session.scalars(whole)).all()
        ids = ids or await naming.ids_called(session, filters.owner, _OWNERS_AT_MOST)
        found.append(_payment.user_id.in_(ids))
    return found


def _ordered(moment: ColumnElement[dt.datetime], filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions on when it was ordered."""
    found: list[ColumnElement[bool]] = []
    if filters.since:
        found.append(moment >= midnight(filters.since))
    if filters.until:
        found.append(moment < midnight(filters.until + dt.timedelta(days=1)))
    return found


async def _walked(session: AsyncSession, filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions for who walks along payments from the newest: what is far back or rare is looked up before."""
    found = await _conditions(session, filters)
    if not (filters.since or filters.until):
        return found
    within = _ordered(_payment.created_at.expression, filters)
    few = (await session.scalars(select(_payment.id).where(*within).limit(naming.FEW + 1))).all()
    if len(few) <= naming.FEW:
        return [*found, _payment.id.in_(few)]
    last = await session.scalar(select(func.max(_payment.id)).where(*within))
    # Written so that no index by the moment is taken: all that is in it would be sorted.
    moment = func.coalesce(_payment.created_at, _payment.created_at)
    return [*found, _payment.id <= last, *_ordered(moment, filters)]


def _is_whole(text: str) -> ColumnElement[bool]:
    """The condition on a person whose whole e-mail or phone number a text is."""
    asked = clean(text, 200).strip()
    digits = "".join(letter for letter in asked if letter.isdigit())
    whole = [_user.email == asked.lower()]
    if len(digits) >= 9 and not any(letter.isalpha() for letter in asked):
        whole.append(_user.phone == f"+998{digits[-9:]}")
    return or_(*whole)


async def find_owner(session: AsyncSession, text: str) -> models.User:
    """Return the one owner whom a text names (:func:`services.naming.called`); raises ``Invalid`` where it is none or several.

    A whole e-mail or phone number is one owner's, whatever else it is a part of.
    """
    found: Sequence[models.User] = ()
    for condition in (_is_whole(text), await naming.called(session, text)):
        query = select(_user).where(condition, _user.role == "owner").order_by(_user.id).limit(2)
        found = found or (await session.scalars(query)).all()
    if not found:
        raise Invalid(T("Nobody is called that. Enter an e-mail, a phone number or a name."), field="owner")
    if len(found) > 1:
        raise Invalid(T("Several people are called that. Enter the e-mail or the phone number."), field="owner")
    return found[0]


async def list_all(session: AsyncSession, filters: Filters, *, cursor: str = "", limit: int = PAGE) -> Page:
    """Return payments, the newest first, with what the list shows of them; raises ``Invalid`` for a malformed cursor."""
    shown = load_only(*_SHOWN, raiseload=True), load_only(*_NAMED_BY, raiseload=True)
    query = select(_payment, _user).outerjoin(_user, _user.id == _payment.user_id).options(*shown)
    query = query.where(*await _walked(session, filters))
    if cursor:
        if not _ID.fullmatch(cursor):
            raise malformed()
        query = query.where(_payment.id < cursor)
    rows = [(row[0], row[1]) for row in await session.execute(query.order_by(_payment.id.desc()).limit(limit + 1))]
    return Page(rows[:limit], rows[limit - 1][0].id if len(rows) > limit else None)


async def sums(session: AsyncSession, filters: Filters) -> dict[str, Sum]:
    """Return how many payments of each state there are among the filtered ones, and what they come to."""
    count, amount = func.count(), func.coalesce(func.sum(_payment.amount_tiyin), 0)
    conditions = [*await _conditions(session, filters), *_ordered(_payment.created_at.expression, filters)]
    if filters == Filters(since=filters.since, until=filters.until):
        # With the states the index that holds all of this is used, whichever they are.
        conditions.append(_payment.status.in_(list(STATES)))
    query = select(_payment.status, count, amount).where(*conditions, _payment.sandbox.is_(False))
    return {
        state: Sum(int(n), int(tiyin)) for state, n, tiyin in await session.execute(query.group_by(_payment.status))
    }


async def life(session: AsyncSession, number: str) -> Life:
    """Return all that is known of a payment; raises ``NotFound``."""
    payment = await session.scalar(select(_payment).where(_payment.number == number))
    if payment is None:
        raise NotFound
    event, span = models.PaymentEvent, models.Subscription
    attempts = (
        await session.scalars(select(_attempt).where(_attempt.payment_id == payment.id).order_by(_attempt.id))
    ).all()
    events = (await session.scalars(select(event).where(event.payment_id == payment.id).order_by(event.id))).all()
    spans = (await session.scalars(select(span).where(span.payment_id == payment.id).order_by(span.starts_at))).all()
    acting = {each.actor_id for each in events if each.actor_id} | {payment.user_id, payment.created_by} - {None}
    people = (await session.scalars(select(_user).where(_user.id.in_(acting)))).all()
    by_id = {person.id: person for person in people}
    return Life(
        payment,
        by_id.get(payment.user_id or ""),
        await session.get(models.Coupon, payment.coupon_id) if payment.coupon_id else None,
        attempts,
        events,
        spans,
        {person.id: person.full_name or person.email or person.phone or person.id for person in people},
    )


async def reconciliation(session: AsyncSession, since: dt.date, until: dt.date) -> list[Day]:
    """Return what each gateway performed and reversed on each day from ``since`` to ``until``, the newest first.

    Gateways by their transactions, which is what their statements hold; what was paid by hand by its payments. Raises
    ``Invalid`` for more than :data:`DAYS_AT_MOST` days.
    """
    if until < since:
        raise Invalid(T("The last day is before the first."), field="until")
    if (until - since).days >= DAYS_AT_MOST:
        raise Invalid(T("Choose at most {n} days.", n=DAYS_AT_MOST), field="since")
    dialect = session.get_bind().dialect.name
    span = midnight(since), midnight(until + dt.timedelta(days=1))
    by_hand, real = _payment.paid_by == "manual", (_attempt.sandbox.is_(False), _payment.sandbox.is_(False))
    performed: dict[tuple[int, str], Sum] = {}
    taken_back: dict[tuple[int, str], Sum] = {}
    for found, gateway, amount, moment, conditions in (
        (performed, _attempt.gateway, _attempt.amount_tiyin, _attempt.performed_at, (real[0],)),
        (
            taken_back,
            _attempt.gateway,
            _attempt.amount_tiyin,
            _attempt.cancelled_at,
            (real[0], _attempt.state == "reversed"),
        ),
        (performed, _payment.paid_by, _payment.amount_tiyin, _payment.paid_at, (real[1], by_hand)),
        (taken_back, _payment.paid_by, _payment.amount_tiyin, _payment.refunded_at, (real[1], by_hand)),
    ):
        number = day_number(dialect, moment)
        query = (
            select(number, gateway, func.count(), func.sum(amount))
            .where(moment >= span[0], moment < span[1], *conditions)
            .group_by(number, gateway)
        )
        for day, kind, count, tiyin in await session.execute(query):
            found[int(day), str(kind)] = Sum(int(count), int(tiyin or 0))
    keys = sorted(performed.keys() | taken_back.keys(), key=lambda key: (-key[0], key[1]))
    return [
        Day(
            _EPOCH + dt.timedelta(days=day), kind, performed.get((day, kind), Sum()), taken_back.get((day, kind), Sum())
        )
        for day, kind in keys
    ]


# Tables for other programs

_HEADINGS = (
    T("Number"),
    T("Ordered at"),
    T("Paid at"),
    T("Refunded at"),
    T("Owner"),
    T("E-mail"),
    T("Phone"),
    T("Plan"),
    T("Period"),
    T("State"),
    T("Gateway"),
    T("Price, UZS"),
    T("Discount, UZS"),
    T("Credit, UZS"),
    T("Balance, UZS"),
    T("Amount, UZS"),
    T("Test payment"),
    T("Note"),
)
_OWN = (0, 1, 2, 3, *range(7, 17))
"""The columns of an owner's own table: all but name, e-mail, phone and note."""
_DAY_HEADINGS = (
    T("Day"),
    T("Gateway"),
    T("Performed"),
    T("Performed, UZS"),
    T("Taken back"),
    T("Taken back, UZS"),
    T("Net, UZS"),
)


# What the table needs of each payment: plain columns, since objects of a hundred thousand cost many times that.
_COLUMNS = (
    _payment.number,
    _payment.created_at,
    _payment.paid_at,
    _payment.refunded_at,
    _user.full_name,
    _user.email,
    _user.phone,
    _payment.plan,
    _payment.period,
    _payment.status,
    _payment.paid_by,
    _payment.gateway,
    _payment.price_tiyin,
    _payment.discount_tiyin,
    _payment.credit_tiyin,
    _payment.balance_tiyin,
    _payment.amount_tiyin,
    _payment.sandbox,
    _payment.note,
)


async def table(db: Database, settings: Settings, filters: Filters, language: str) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of the filtered payments in parts, its headings first; each part is read by itself."""
    async with db.read() as session:
        conditions = await _walked(session, filters)
    async for part in _parts(db, settings, conditions, language):
        yield part


async def own_table(db: Database, settings: Settings, owner_id: str, language: str) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of an owner's payments as :func:`table`, without who paid and what administrators note."""
    async for part in _parts(db, settings, [_payment.user_id == owner_id], language):
        yield [[row[place] for place in _OWN] for row in part]


async def _parts(
    db: Database, settings: Settings, conditions: Sequence[ColumnElement[bool]], language: str
) -> AsyncIterator[list[list[Cell]]]:
    yield [[heading.render(language) for heading in _HEADINGS]]
    query = select(_payment.id, *_COLUMNS).outerjoin(_user, _user.id == _payment.user_id).where(*conditions)
    query = query.order_by(_payment.id.desc()).limit(_BATCH)
    names, last = _Names(settings, language), ""
    while True:
        async with db.read() as session:
            rows = (await session.execute(query.where(_payment.id < last) if last else query)).all()
        if rows:
            yield await asyncio.to_thread(_lines, names, rows)
        if len(rows) < _BATCH:
            return
        last = rows[-1][0]


class _Names:
    """The words of a table in a language, each looked up once."""

    def __init__(self, settings: Settings, language: str) -> None:
        self.plan = cache(partial(payment_texts.plan, settings, language=language))
        self.period = cache(partial(payment_texts.period, language=language))
        self.state = cache(partial(payment_texts.state, language=language))
        self.gateway = cache(partial(payment_texts.gateway, language=language))
        self.yes = translate(language, "yes")
        self.note = partial(payment_texts.note, language=language)


def _lines(names: _Names, rows: Sequence[Sequence[Any]]) -> list[list[Cell]]:
    return [
        [
            row[1],
            *map(sheets.moment, row[2:5]),
            *(text or "" for text in row[5:8]),
            names.plan(row[8]),
            names.period(row[9]),
            names.state(row[10]),
            names.gateway(row[11] or row[12]),
            *(_so_m(tiyin) for tiyin in row[13:18]),
            names.yes if row[18] else "",
            names.note(row[19]),
        ]
        for row in rows
    ]


def day_table(days: Sequence[Day], language: str) -> list[list[Cell]]:
    """Return the table of a reconciliation, its headings first."""
    return [
        [heading.render(language) for heading in _DAY_HEADINGS],
        *(
            [
                each.day.isoformat(),
                payment_texts.gateway(each.gateway, language),
                each.performed.count,
                _so_m(each.performed.tiyin),
                each.reversed.count,
                _so_m(each.reversed.tiyin),
                _so_m(each.net),
            ]
            for each in days
        ),
    ]


def _so_m(tiyin: int) -> int | Decimal:
    return tiyin // TIYIN if tiyin % TIYIN == 0 else Decimal(tiyin) / TIYIN
