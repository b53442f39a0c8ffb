"""Access that owners ask for, and what administrators do with an owner's plan by hand.

Whoever decides first has decided. Each step is written into the audit log, and the owner is written a letter about it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id
from services import access, accounts, coupons, letters, notices, payment_texts, plans, subscriptions
from services.days import TASHKENT, midnight, today
from services.errors import Conflict, Invalid, NotFound, TooMany
from services.i18n import T, Text
from services.paging import Page, is_cursor, malformed, newest_first
from services.payments import orders
from services.plans import TIYIN
from services.settings import Settings
from services.text import clean

NOTE_CHARS = 500
A_DAY = 3
"""So many requests are taken of an owner within 24 hours: each is told to every administrator."""
PENDING = 20
"""So many requests that wait stand on a page, each with its forms."""
_DAY = dt.timedelta(days=1)
ANSWER_CHARS = 500
EXTEND_DAYS = 3650
"""An end is moved by so many days at once, at most."""
STATES: Mapping[str, Text] = {
    "pending": T("Waiting"),
    "granted": T("Granted"),
    "declined": T("Declined"),
    "withdrawn": T("Withdrawn"),
}
STANDINGS: Mapping[str, Text] = {
    "unlimited": T("Without limits"),
    "trial": T("Trial"),
    "test": T("Test mode"),
    "active": T("Paid"),
    "grace": T("Days of grace"),
    "expired": T("Expired"),
}
"""What an owner's standing is called."""
ACTIONS: Mapping[str, Text] = {
    "plan_granted": T("Granted"),
    "plan_extended": T("End moved"),
    "plan_changed": T("Plan changed"),
    "plan_revoked": T("Ended"),
    "request_declined": T("Request declined"),
    "referral_payout": T("Paid out"),
    "referral_payout_undone": T("Payout taken back"),
}
"""What administrators do with an owner's plan and balance, by the audit log's words."""
_PAGE = "/billing/request"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whose it is, and the coupon that came with it."""

    request: models.AccessRequest
    owner: models.User
    coupon: models.Coupon | None

    def price_tiyin(self, settings: Settings) -> int | None:
        """Return what it would cost by the price list, less the coupon; None where the plan is sold no more."""
        try:
            price = plans.price_tiyin(settings, self.request.plan, self.request.period)
        except Invalid:
            return None
        return price - (coupons.discount_tiyin(self.coupon, price) if self.coupon else 0)


# Owners ---------------------------------------------------------------------------------------------------------------


async def ask(
    session: AsyncSession,
    settings: Settings,
    user: models.User,
    plan: str,
    period: str,
    *,
    code: str = "",
    note: str = "",
    now: dt.datetime,
) -> models.AccessRequest:
    """Ask for a plan and tell the administrators.

    Raises ``Invalid`` with the field that is wrong (``plan``, ``period``, ``coupon``, ``note``), ``Conflict`` where a request
    waits already or the person has everything anyway, and ``TooMany`` after :data:`A_DAY`. A coupon is used up when the request
    is granted.
    """
    owner = await subscriptions.lock(session, user.id)
    if owner.is_admin:
        raise Conflict(T("You run this installation: there is nothing to ask for."))
    price = plans.price_tiyin(settings, plan, period)
    if len(note) > NOTE_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=NOTE_CHARS), field="note")
    if await pending_of(session, owner) is not None:
        raise Conflict(T("Your request is waiting already. Withdraw it to ask for something else."), code="waiting")
    await _pace(session, owner, now)
    offer = await coupons.price_off(session, owner, code, plan, price, now=now) if code.strip() else None
    row = models.AccessRequest(
        user_id=owner.id,
        plan=plan,
        period=period,
        coupon_id=offer.coupon_id if offer else None,
        note=clean(note, NOTE_CHARS).strip(),
        created_at=now,
    )
    session.add(row)
    await session.flush()
    await access.record(session, owner, "access_requested", "request", row.id, plan=plan, period=period)
    name = owner.full_name or owner.email or owner.phone or "—"
    first = await _first_of(session, owner, now)
    for admin_id in await accounts.administrators(session):
        admin = await session.get_one(models.User, admin_id)
        told = {
            "owner": name,
            "plan": payment_texts.plan(settings, plan, admin.language),
            "period": payment_texts.period(period, admin.language),
        }
        await notices.open_notice(session, admin_id, "access_requested", key=_key(row.id), params=told)
        params = {**told, "note": row.note, "path": "/admin/requests"}
        await letters.write(
            session, admin_id, "request_received", key=_key(first), now=now, params=params, telegram=False
        )
    return row


async def _pace(session: AsyncSession, owner: models.User, now: dt.datetime) -> None:
    """Raise ``TooMany`` where an owner, who is locked, has asked often enough; it says when they can ask again."""
    row = models.AccessRequest
    made = row.user_id == owner.id, row.created_at > now - _DAY
    last = (
        await session.scalars(select(row.created_at).where(*made).order_by(row.created_at.desc()).limit(A_DAY))
    ).all()
    if len(last) < A_DAY:
        return
    again = last[-1] + _DAY
    text = T(
        "You have asked {n} times within a day. You can ask again from {moment} on.",
        n=A_DAY,
        moment=again.astimezone(TASHKENT).strftime("%d.%m.%Y, %H:%M"),
    )
    raise TooMany(text, retry_after_s=max(1, int((again - now).total_seconds())), code="asked_often")


async def _first_of(session: AsyncSession, owner: models.User, now: dt.datetime) -> str:
    """Return the id of an owner's first request of this day of Tashkent's that no administrator has answered before.

    What was taken back and asked anew is the same matter: one mail tells of it.
    """
    row = models.AccessRequest
    answered = select(func.coalesce(func.max(row.id), "")).where(
        row.user_id == owner.id, row.status.in_(("granted", "declined"))
    )
    mine = row.user_id == owner.id, row.created_at >= midnight(today(now)), row.id > answered.scalar_subquery()
    return str(await session.scalar(select(func.min(row.id)).where(*mine)))


def _key(request_id: str) -> str:
    return f"request:{request_id}"


async def withdraw(session: AsyncSession, user: models.User, request_id: str, *, now: dt.datetime) -> None:
    """Take a request of one's own back; raises ``NotFound`` for another's and one that is decided."""
    row = models.AccessRequest
    gone = await session.scalar(
        update(row)
        .where(row.id == request_id, row.user_id == user.id, row.status == "pending")
        .values(status="withdrawn", decided_by=user.id, decided_at=now)
        .returning(row.id)
    )
    if gone is None:
        raise NotFound
    await access.record(session, user, "request_withdrawn", "request", request_id)
    await notices.solve(session, _key(request_id))


async def pending_of(session: AsyncSession, user: models.User) -> models.AccessRequest | None:
    """Return the request of an owner that waits."""
    row = models.AccessRequest
    return await session.scalar(select(row).where(row.user_id == user.id, row.status == "pending"))


async def of_owner(session: AsyncSession, user_id: str) -> Sequence[models.AccessRequest]:
    """Return the last twenty requests of an owner, the newest first."""
    return (await session.scalars(_OF_OWNER, {"p_user": user_id})).all()


_OF_OWNER = (
    select(models.AccessRequest)
    .where(models.AccessRequest.user_id == bindparam("p_user"))
    .order_by(models.AccessRequest.id.desc())
    .limit(20)
)


# Administrators -------------------------------------------------------------------------------------------------------


async def pending(session: AsyncSession, *, cursor: str = "") -> Page[Asked]:
    """Return requests that wait, the oldest first; raises ``Invalid`` for a malformed cursor."""
    row = models.AccessRequest
    query = _asked().where(row.status == "pending")
    if cursor:
        if not is_cursor(cursor):
            raise malformed()
        query = query.where(row.id > cursor)
    rows = await session.execute(query.order_by(row.id).limit(PENDING + 1))
    found = [Asked(each[0], each[1], each[2]) for each in rows]
    return Page(found[:PENDING], found[PENDING - 1].request.id if len(found) > PENDING else None)


async def decided(session: AsyncSession, *, cursor: str = "") -> Page[Asked]:
    """Return requests that wait no more, the newest first; raises ``Invalid`` for a malformed cursor."""
    row = models.AccessRequest
    query: Any = _asked().where(row.status != "pending")
    page = await newest_first(session, query, row.id, cursor=cursor)
    return Page([Asked(*each) for each in page.items], page.next)


def _asked() -> Select[models.AccessRequest, models.User, models.Coupon]:
    row = models.AccessRequest
    return (
        select(row, models.User, models.Coupon)
        .join(models.User, models.User.id == row.user_id)
        .outerjoin(models.Coupon, models.Coupon.id == row.coupon_id)
    )


async def grant(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    request_id: str,
    plan: str,
    period: str,
    *,
    price_tiyin: int,
    price_note: str = "",
    answer: str = "",
    use_coupon: bool = True,
    basis: int | None = None,
    now: dt.datetime,
) -> models.Subscription:
    """Give what was asked for, or another plan or period.

    ``price_tiyin``: what was paid by hand, 0 for a present; ``price_note`` tells how, for administrators alone. ``answer`` goes
    to the owner. ``basis``: see :func:`subscriptions.check_basis`. What was paid is a payment like any other, tied to the request
    and its coupon. Raises ``NotFound``, ``Conflict`` where it is decided already or the owner has something else by now, and
    ``Invalid`` with the field that is wrong: ``coupon`` where that cannot be used any more.
    """
    row = await _decide(session, admin, request_id, "granted", answer, now=now)
    coupon_id = row.coupon_id if use_coupon else None
    if coupon_id is not None and not price_tiyin:
        with _coupon_told():
            await coupons.reserve(session, row.user_id, coupon_id, now=now, request_id=row.id)
    span = await _give(
        session,
        settings,
        admin,
        row.user_id,
        plan,
        period,
        price_tiyin=price_tiyin,
        price_note=price_note,
        answer=answer,
        coupon_id=coupon_id,
        request_id=row.id,
        basis=basis,
        now=now,
    )
    row.subscription_id = span.id
    await session.flush()
    return span


@contextmanager
def _coupon_told() -> Iterator[None]:
    """Let a coupon that cannot be used any more be told to administrators in their words."""
    try:
        yield
    except Invalid as error:
        if error.field != "coupon":
            raise
        text = T("The coupon has been used up or disabled since. Grant without it, or decline.")
        raise Invalid(text, code="coupon", field="coupon") from None


async def decline(
    session: AsyncSession, settings: Settings, admin: models.User, request_id: str, answer: str, *, now: dt.datetime
) -> None:
    """Decline a request with an answer to the owner; raises as :func:`grant` does, ``Invalid`` without an answer."""
    if not answer.strip():
        raise Invalid(T("Write a short answer: the owner receives it."), field="answer")
    row = await _decide(session, admin, request_id, "declined", answer, now=now)
    await access.record(session, admin, "request_declined", "user", row.user_id, answer=row.answer)
    params = {"plan": payment_texts.plan_kept(settings, row.plan), "answer": row.answer, "path": _PAGE}
    await letters.write(session, row.user_id, "access_declined", key=f"{_key(row.id)}:no", now=now, params=params)


async def _decide(
    session: AsyncSession, admin: models.User, request_id: str, status: str, answer: str, *, now: dt.datetime
) -> models.AccessRequest:
    """Decide about a request that waits, once, and return it; its owner is locked."""
    if len(answer) > ANSWER_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=ANSWER_CHARS), field="answer")
    row = models.AccessRequest
    owner_id = await session.scalar(select(row.user_id).where(row.id == request_id))
    if owner_id is None:
        raise NotFound
    await subscriptions.lock(session, owner_id)
    said = clean(answer, ANSWER_CHARS).strip()
    decided = await session.scalar(
        update(row)
        .where(row.id == request_id, row.status == "pending")
        .values(status=status, decided_by=admin.id, decided_at=now, answer=said)
        .returning(row.id)
    )
    if decided is None:
        raise Conflict(T("This request has been decided or withdrawn already."), code="decided")
    await notices.solve(session, _key(request_id))
    return await session.get_one(row, request_id, populate_existing=True)


async def give(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    user_id: str,
    plan: str,
    period: str,
    *,
    price_tiyin: int,
    price_note: str = "",
    answer: str = "",
    basis: int | None = None,
    now: dt.datetime,
) -> models.Subscription:
    """Give an owner a plan for a period; the parameters are those of :func:`grant`."""
    return await _give(
        session,
        settings,
        admin,
        user_id,
        plan,
        period,
        price_tiyin=price_tiyin,
        price_note=price_note,
        answer=answer,
        coupon_id=None,
        request_id=None,
        basis=basis,
        now=now,
    )


async def _give(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    user_id: str,
    plan: str,
    period: str,
    *,
    price_tiyin: int,
    price_note: str,
    answer: str,
    coupon_id: str | None,
    request_id: str | None,
    basis: int | None,
    now: dt.datetime,
) -> models.Subscription:
    if not 0 <= price_tiyin <= 10**12 or price_tiyin % TIYIN:
        raise Invalid(T("Enter what was paid in whole so‘m, 0 for nothing."), field="price")
    await _look_again(session, user_id, basis)
    note, number = _short(price_note), ""
    if price_tiyin:
        with _coupon_told():
            payment = await orders.by_hand(
                session,
                settings,
                user_id,
                plan,
                period,
                paid_tiyin=price_tiyin,
                note=note,
                now=now,
                actor_id=admin.id,
                coupon_id=coupon_id,
                request_id=request_id,
            )
        number = payment.number
        span = await subscriptions.given_by(session, payment.id)
    else:
        span = await subscriptions.grant(
            session,
            settings,
            user_id,
            plan,
            period,
            now=now,
            source="grant",
            value_tiyin=0,
            granted_by=admin.id,
        )
    facts = {"plan": plan, "period": period, "price_uzs": str(price_tiyin // TIYIN), "note": note}
    await access.record(
        session, admin, "plan_granted", "user", user_id, **facts, **({"number": number} if number else {})
    )
    owner = await session.get_one(models.User, user_id)
    period_name = payment_texts.period(period, owner.language)
    await _tell(session, settings, span, "access_granted", f"grant:{span.id}", answer, now, period=period_name)
    return span


async def extend(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    user_id: str,
    days: int,
    *,
    answer: str = "",
    basis: int | None = None,
    now: dt.datetime,
) -> None:
    """Move the end of what an owner has by ``days``, back if negative; raises ``Conflict`` where nothing runs, or something else
    than at the ``basis`` (:func:`subscriptions.check_basis`).
    """
    if not days or abs(days) > EXTEND_DAYS:
        raise Invalid(T("Enter a number of days, for example 30 or -5."), field="days")
    await _look_again(session, user_id, basis)
    span = await _running(subscriptions.extend(session, user_id, days, now=now))
    await access.record(session, admin, "plan_extended", "user", user_id, days=str(days), note=_short(answer))
    await _tell(session, settings, span, "plan_moved", f"moved:{new_id()}", answer, now)


async def change(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    user_id: str,
    plan: str,
    *,
    answer: str = "",
    basis: int | None = None,
    now: dt.datetime,
) -> None:
    """Make the rest of what an owner has time of another plan; raises ``Conflict`` as :func:`extend` does."""
    await _look_again(session, user_id, basis)
    span = await _running(subscriptions.change_plan(session, settings, user_id, plan, now=now))
    await access.record(session, admin, "plan_changed", "user", user_id, plan=plan, note=_short(answer))
    await _tell(session, settings, span, "plan_changed", f"changed:{new_id()}", answer, now)


async def revoke(
    session: AsyncSession,
    admin: models.User,
    user_id: str,
    answer: str,
    *,
    basis: int | None = None,
    now: dt.datetime,
) -> None:
    """End all that an owner has, with a reason that the owner receives; raises ``Conflict`` as :func:`extend` does."""
    if not answer.strip():
        raise Invalid(T("Write the reason: the owner receives it."), field="answer")
    await _look_again(session, user_id, basis)
    if not await subscriptions.take_back(session, user_id, now=now, reason=_short(answer)):
        raise Conflict(_NOTHING)
    await access.record(session, admin, "plan_revoked", "user", user_id, reason=_short(answer))
    params = {"answer": _short(answer), "path": _PAGE}
    await letters.write(session, user_id, "plan_taken", key=f"taken:{new_id()}", now=now, params=params)


_NOTHING = T("This owner has no paid plan now. Grant one first.")


async def _look_again(session: AsyncSession, user_id: str, basis: int | None) -> None:
    """Lock an owner; raises ``Conflict`` where they have something else than the administrator saw."""
    subscriptions.check_basis(await subscriptions.lock(session, user_id), basis)


async def _running(step: Awaitable[models.Subscription]) -> models.Subscription:
    try:
        return await step
    except NotFound:
        raise Conflict(_NOTHING) from None


def _short(text: str) -> str:
    return clean(text, 300).strip()


async def _tell(
    session: AsyncSession,
    settings: Settings,
    span: models.Subscription,
    kind: str,
    key: str,
    answer: str,
    now: dt.datetime,
    **params: str,
) -> None:
    """Write an owner what they have now."""
    told = {
        "plan": payment_texts.plan_kept(settings, span.plan),
        "until": {"day": span.ends_at.isoformat()},
        "answer": clean(answer, ANSWER_CHARS).strip(),
        "path": "/billing",
        **params,
    }
    await letters.write(session, span.user_id, kind, key=key, now=now, params=told)


async def owner(session: AsyncSession, user_id: str) -> models.User:
    """Return an owner for an administrator; raises ``NotFound``, for administrators' own accounts too."""
    found = await session.get(models.User, user_id)
    if found is None or found.is_admin:
        raise NotFound
    return found


async def history(session: AsyncSession, user_id: str) -> Sequence[tuple[models.AuditLog, models.User | None]]:
    """Return the last thirty things that administrators did with an owner's plan, the newest first, and who did them."""
    log = models.AuditLog
    rows = await session.execute(
        select(log, models.User)
        .outerjoin(models.User, models.User.id == log.actor_id)
        .where(log.object_kind == "user", log.object_id == user_id, log.action.in_(ACTIONS))
        .order_by(log.id.desc())
        .limit(30)
    )
    return [(row[0], row[1]) for row in rows]
