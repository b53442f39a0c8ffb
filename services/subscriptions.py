"""What owners have paid for: spans are added, cut and taken back here alone, each inside the caller's transaction.

Each change locks the owner's row and raises ``users.subscription_version``. Nothing here looks at a clock: ``now`` is given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import models
from services import notices, plans
from services.errors import Conflict, NotFound
from services.i18n import T
from services.payments import is_test_mode
from services.plans import Kind, Span, Timeline
from services.settings import Settings

TEST = "test"
"""The source of a span that was paid by a gateway's test key."""
BOUGHT = ("payment", "credit")
"""The sources of spans that were paid for, not given or tried."""
_SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Quote:
    """What a plan costs an owner now, in tiyin: ``price`` less the ``credit`` for what an upgrade uses up, never below 0.

    ``version``: of what the owner has, for which the credit was reckoned.
    """

    plan: str
    period: str
    kind: Kind
    price: int
    credit: int
    version: int


async def quote(
    session: AsyncSession, settings: Settings, user: models.User, plan: str, period: str, *, now: dt.datetime
) -> Quote:
    """Return what a plan for a period costs an owner; raises ``Invalid`` for an unknown plan or period."""
    price = plans.price_tiyin(settings, plan, period)
    line = await timeline(session, settings, user)
    kind = plans.kind_of(settings, line, plan, now)
    credit = plans.unused_tiyin(line.ahead(now), now) if kind == "upgrade" else 0
    return Quote(plan, period, kind, price, credit, user.subscription_version)


async def timeline(session: AsyncSession, settings: Settings, user: models.User) -> Timeline:
    """Return all that decides what an owner has."""
    return (await timelines(session, settings, [user]))[user.id]


async def timelines(session: AsyncSession, settings: Settings, users: Iterable[models.User]) -> Mapping[str, Timeline]:
    """Return :func:`timeline` of several owners, by their ids, in one query."""
    people = {user.id: user for user in users}
    spans: dict[str, list[Span]] = {user_id: [] for user_id in people}
    for row in await session.scalars(_SPANS, {"p_ids": list(people)}):
        spans[row.user_id].append(_span(row, _worth(settings, row)))
    return {
        user.id: Timeline(settings, user.trial_at or user.created_at, spans[user.id], unlimited=user.is_admin)
        for user in people.values()
    }


_SPANS = (
    select(models.Subscription)
    .where(
        models.Subscription.user_id.in_(bindparam("p_ids", expanding=True)), models.Subscription.revoked_at.is_(None)
    )
    .order_by(models.Subscription.starts_at)
)


def _span(row: models.Subscription, worth: int) -> Span:
    return Span(row.id, row.plan, row.period, row.starts_at, row.ends_at, worth)


def _worth(settings: Settings, row: models.Subscription) -> int:
    """Return what a span is worth to an upgrade, in tiyin: one for a test key's money only as long as all money is such."""
    return row.value_tiyin if row.source != TEST or is_test_mode(settings) else 0


async def lock(session: AsyncSession, user_id: str) -> models.User:
    """Return an owner, locked until the transaction ends; raises ``NotFound``."""
    user = await session.get(models.User, user_id, with_for_update=True, populate_existing=True)
    if user is None:
        raise NotFound
    return user


def check_basis(owner: models.User, basis: int | None) -> None:
    """Raise ``Conflict`` where a locked owner has something else than at the ``subscription_version`` that was seen.

    So the same form sent twice does its work once. None: nobody has looked.
    """
    if basis is not None and owner.subscription_version != basis:
        text = T(
            "This owner’s plan has changed since you opened the page. Look at it, then do it again if it is still right."
        )
        raise Conflict(text, code="changed")


async def spans(session: AsyncSession, user_id: str) -> Sequence[models.Subscription]:
    """Return all spans that an owner ever had, the last first, revoked ones too."""
    own = models.Subscription.user_id == user_id
    return (
        await session.scalars(
            select(models.Subscription)
            .where(own)
            .order_by(models.Subscription.starts_at.desc(), models.Subscription.id.desc())
        )
    ).all()


async def grant(
    session: AsyncSession,
    settings: Settings,
    user_id: str,
    plan: str,
    period: str,
    *,
    now: dt.datetime,
    source: str,
    value_tiyin: int,
    credit_tiyin: int = 0,
    payment_id: str | None = None,
    granted_by: str | None = None,
) -> models.Subscription:
    """Give an owner a plan for a period and return its span.

    A plan larger than the current one begins at once, any other when what is paid for already is over. ``value_tiyin``: what it
    is worth altogether. With ``credit_tiyin`` an upgrade uses up what was left of the spans before that were worth something,
    and what the value is over the plan's price makes the span longer; all others wait and go on after it. Raises ``Invalid`` for
    an unknown plan or period, ``NotFound`` for an unknown owner.
    """
    plans.plan_of(settings, plan)
    terms = plans.period_of(settings, period)
    owner = await lock(session, user_id)
    line = await timeline(session, settings, owner)
    ahead = await _ahead(session, user_id, now)
    # A credit was reckoned for an upgrade: that is what it is, also where the smaller plan has run out since.
    kind: Kind = "upgrade" if credit_tiyin and ahead else plans.kind_of(settings, line, plan, now)
    length = dt.timedelta(days=terms.days)
    price = plans.price_tiyin(settings, plan, period)
    if credit_tiyin and value_tiyin > price:
        length += dt.timedelta(seconds=int(length.total_seconds()) * (value_tiyin - price) // price)
    at_once = kind in ("new", "upgrade")
    starts_at = now if at_once or not ahead else max(span.ends_at for span in ahead)
    row = models.Subscription(
        user_id=user_id,
        plan=plan,
        period=period,
        source=source,
        payment_id=payment_id,
        granted_by=granted_by,
        value_tiyin=value_tiyin,
        starts_at=starts_at,
        ends_at=starts_at + length,
        created_at=now,
    )
    session.add(row)
    await session.flush()
    if kind == "upgrade":
        used_up = [span for span in ahead if credit_tiyin and _worth(settings, span)]
        for span in used_up:
            left = span.ends_at - max(now, span.starts_at)
            span.starts_at = min(now, span.starts_at)
            span.cut_from, span.cut_by, span.ends_at = now + left, row.id, now
        await _wait_until(session, [span for span in ahead if span not in used_up], now, row.ends_at)
    await _changed(session, owner)
    return row


async def _wait_until(
    session: AsyncSession, ahead: Sequence[models.Subscription], now: dt.datetime, until: dt.datetime
) -> None:
    """Let spans go on from ``until``: of the one that runs, what is left becomes a span of its own."""
    for span in ahead:
        if span.starts_at < now:
            whole, left = span.ends_at - span.starts_at, span.ends_at - now
            rest = span.value_tiyin * (left // _SECOND) // max(1, whole // _SECOND)
            session.add(_rest_of(span, rest, until, until + left, now))
            span.value_tiyin, span.ends_at = span.value_tiyin - rest, now
        else:
            left = span.ends_at - span.starts_at
            span.starts_at, span.ends_at = until, until + left
        until += left
    await session.flush()


async def extend(session: AsyncSession, user_id: str, days: int, *, now: dt.datetime) -> models.Subscription:
    """Make what an owner has last ``days`` longer, less if negative but never before ``now``; later spans move along.

    What has ended goes on from ``now`` so long. Raises ``NotFound`` where there is nothing to go on with, or to make shorter.
    """
    owner = await lock(session, user_id)
    ahead = await _ahead(session, user_id, now)
    if not ahead:
        span = models.Subscription
        ended = select(span).where(span.user_id == user_id, span.revoked_at.is_(None)).order_by(span.ends_at.desc())
        last = await session.scalar(ended.limit(1))
        if last is None or days < 0:
            raise NotFound
        last.ends_at = now + dt.timedelta(days=days)
        await _changed(session, owner)
        return last
    first = ahead[0]
    whole, ends_at = first.ends_at - first.starts_at, first.ends_at + dt.timedelta(days=days)
    first.ends_at = max(now, first.starts_at, ends_at)
    if days < 0:
        # What was taken away is worth nothing to a later upgrade.
        first.value_tiyin = (
            first.value_tiyin * ((first.ends_at - first.starts_at) // _SECOND) // max(1, whole // _SECOND)
        )
    _close_up(ahead[1:], first.ends_at)
    await _changed(session, owner)
    return first


async def change_plan(
    session: AsyncSession, settings: Settings, user_id: str, plan: str, *, now: dt.datetime
) -> models.Subscription:
    """Make all that is paid for from ``now`` on time of another plan, with the same ends; return the span that runs then.

    Raises ``Invalid`` for an unknown plan and ``NotFound`` where nothing is paid for at ``now``.
    """
    plans.plan_of(settings, plan)
    owner = await lock(session, user_id)
    ahead = await _ahead(session, user_id, now)
    if not ahead:
        raise NotFound
    first = ahead[0]
    for span in ahead:
        if span.starts_at < now and span.plan != plan:
            whole, left = span.ends_at - span.starts_at, span.ends_at - now
            rest = span.value_tiyin * (left // _SECOND) // max(1, whole // _SECOND)
            first = _rest_of(span, rest, now, span.ends_at, now)
            first.plan = plan
            session.add(first)
            span.value_tiyin, span.ends_at = span.value_tiyin - rest, now
        else:
            span.plan = plan
    await _changed(session, owner)
    return first


async def take_back(
    session: AsyncSession, user_id: str, *, now: dt.datetime, reason: str, payment_id: str | None = None
) -> list[models.Subscription]:
    """Take back what a payment gave, or everything that is not over; return the spans that ended by it.

    What runs by something else goes on unchanged. Then follows, with the time that was left of it, what an upgrade among the
    revoked had cut short, and after that what was waiting.
    """
    owner = await lock(session, user_id)
    own = [models.Subscription.user_id == user_id, models.Subscription.revoked_at.is_(None)]
    if payment_id is not None:
        own.append(models.Subscription.payment_id == payment_id)
    found = (await session.scalars(select(models.Subscription).where(*own))).all()
    gone = [span for span in found if payment_id is not None or span.ends_at > now]
    for span in gone:
        span.revoked_at, span.revoked_reason = now, reason[:300]
    await session.flush()
    cut: Sequence[models.Subscription] = ()
    if payment_id is not None and gone:
        cut = (
            await session.scalars(
                select(models.Subscription)
                .where(
                    models.Subscription.user_id == user_id,
                    models.Subscription.cut_by.in_([span.id for span in gone]),
                    models.Subscription.revoked_at.is_(None),
                )
                .order_by(models.Subscription.starts_at, models.Subscription.id)
            )
        ).all()
    ahead = await _ahead(session, user_id, now)
    at = max((span.ends_at for span in ahead if span.starts_at <= now), default=now)
    for span in cut:
        at = await _go_on(session, span, at, now)
    _close_up([span for span in ahead if span.starts_at > now], at)
    await _changed(session, owner)
    return gone


async def _go_on(session: AsyncSession, span: models.Subscription, at: dt.datetime, now: dt.datetime) -> dt.datetime:
    """Let a span that was cut go on from ``at`` with what was left of it; return when that is over."""
    left = (span.cut_from or span.ends_at) - span.ends_at
    whole = (span.cut_from or span.ends_at) - span.starts_at
    span.cut_from = span.cut_by = None
    if span.ends_at == span.starts_at:
        span.starts_at, span.ends_at = at, at + left
    elif left:
        rest = span.value_tiyin * (left // _SECOND) // max(1, whole // _SECOND)
        session.add(_rest_of(span, rest, at, at + left, now))
        span.value_tiyin -= rest
    await session.flush()
    return at + left


def _rest_of(
    span: models.Subscription, value_tiyin: int, starts_at: dt.datetime, ends_at: dt.datetime, now: dt.datetime
) -> models.Subscription:
    return models.Subscription(
        user_id=span.user_id,
        plan=span.plan,
        period=span.period,
        source=span.source,
        payment_id=span.payment_id,
        granted_by=span.granted_by,
        value_tiyin=value_tiyin,
        starts_at=starts_at,
        ends_at=ends_at,
        created_at=now,
    )


async def take_over(
    session: AsyncSession, settings: Settings, former_id: str, user_id: str, *, now: dt.datetime
) -> None:
    """Give an owner the spans of an account that is joined to theirs: what both have goes on one after the other.

    The larger plan comes first; nothing of either is lost.
    """
    former, owner = await lock(session, former_id), await lock(session, user_id)
    coming, own = await _ahead(session, former.id, now), await _ahead(session, user_id, now)
    for span in (
        await session.scalars(select(models.Subscription).where(models.Subscription.user_id == former_id))
    ).all():
        span.user_id = user_id
    await session.flush()
    if coming and own:
        sold = list(plans.for_sale(settings))
        rank = {name: number for number, name in enumerate(sold)}
        larger = rank.get(coming[0].plan, -1) > rank.get(own[0].plan, -1)
        first, second = (coming, own) if larger else (own, coming)
        await _wait_until(session, second, now, max(span.ends_at for span in first))
    # The orders of both go on: none of either may fit what the other's version tells.
    owner.subscription_version = max(owner.subscription_version, former.subscription_version)
    await _changed(session, owner)


async def given_by(session: AsyncSession, payment_id: str) -> models.Subscription:
    """Return the span that a payment has just given."""
    own = models.Subscription.payment_id == payment_id
    found = select(models.Subscription).where(own).order_by(models.Subscription.id.desc()).limit(1)
    return (await session.scalars(found)).one()


async def has_given(session: AsyncSession, payment_id: str) -> bool:
    """Tell whether a payment gave something, taken back or not."""
    own = select(models.Subscription.id).where(models.Subscription.payment_id == payment_id).limit(1)
    return await session.scalar(own) is not None


async def is_refundable(session: AsyncSession, payment_id: str) -> bool:
    """Tell whether what a payment gave can be taken back: not where an upgrade has used up its rest."""
    upgrade = aliased(models.Subscription)
    used = await session.scalar(
        select(models.Subscription.id)
        .join(upgrade, upgrade.id == models.Subscription.cut_by)
        .where(
            models.Subscription.payment_id == payment_id,
            models.Subscription.revoked_at.is_(None),
            upgrade.revoked_at.is_(None),
        )
        .limit(1)
    )
    return used is None


def _close_up(later: Sequence[models.Subscription], at: dt.datetime) -> None:
    """Let spans that have not begun follow each other from ``at``."""
    for span in later:
        length = span.ends_at - span.starts_at
        span.starts_at, span.ends_at = at, at + length
        at += length


async def _ahead(session: AsyncSession, user_id: str, now: dt.datetime) -> Sequence[models.Subscription]:
    return (
        await session.scalars(
            select(models.Subscription)
            .where(
                models.Subscription.user_id == user_id,
                models.Subscription.revoked_at.is_(None),
                models.Subscription.ends_at > now,
            )
            .order_by(models.Subscription.starts_at, models.Subscription.id)
        )
    ).all()


async def _changed(session: AsyncSession, owner: models.User) -> None:
    owner.subscription_version += 1
    await session.flush()
    # What was said of the messages that are left was said of the plan before: the next one says it anew.
    quota = models.MessageQuota
    await session.execute(update(quota).where(quota.user_id == owner.id).values(told=0))
    connection = await session.connection()
    await connection.run_sync(notices.close_in, owner.id, notices.PLAN)


_payment = models.Payment
PAYERS = (
    select(_payment.user_id)
    .where(_payment.paid_at.is_not(None), _payment.sandbox.is_(False), _payment.status == "paid")
    .where(_payment.user_id.is_not(None))
    .distinct()
)
"""Who ever paid; money of sandboxes and what went back do not count."""


def has_paid(session: AsyncSession) -> ColumnElement[bool]:
    """Return the condition on an owner that they are among :data:`PAYERS`."""
    # On SQLite not the index over the status: those of an owner are few. PostgreSQL must know how many have that status.
    status = _payment.status.concat("") if session.get_bind().dialect.name == "sqlite" else _payment.status
    paid = _payment.paid_at.is_not(None), _payment.sandbox.is_(False), status == "paid"
    return select(_payment.id).where(_payment.user_id == models.User.id, *paid).exists()
