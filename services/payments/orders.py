"""What owners order: a plan for a period, to be paid by a gateway's page."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import and_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import coupons, payments, plans, referrals, subscriptions
from services.errors import Conflict, Invalid, NotFound, TooMany
from services.i18n import T
from services.payments import ledger
from services.payments.base import Order
from services.plans import TIYIN
from services.settings import Settings

MANUAL = "manual"
LEAST_TIYIN = 1000 * TIYIN
"""The least that gateways take; what would be less is not asked for."""

_CREDIT_HOURS = 24
"""So long at most the credit of an upgrade holds, which the days of the plan before use up."""
_DIGITS = 9
_MOST_WAITING = 50
_STALE = T("Your plan has changed since this page was opened. Look at the price and order again.")


def gateways(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of the gateways that owners can pay by here: by Payme's test key only where all is under test."""
    return payments.live(settings) or (("payme",) if is_test_mode(settings) else ())


def ways(settings: Settings, person: models.User) -> tuple[str, ...]:
    """Return the gateways that a person may order at; an administrator, who needs no plan, only tries Payme's test key."""
    if person.is_admin:
        return ("payme",) if payments.has_test_key(settings) else ()
    return gateways(settings)


def is_test_mode(settings: Settings) -> bool:
    """Tell whether this installation is under test: payments are made with Payme's test key and give plans all the same."""
    return payments.is_test_mode(settings)


async def order(
    session: AsyncSession,
    settings: Settings,
    user: models.User,
    plan: str,
    period: str,
    gateway: str,
    *,
    now: dt.datetime,
    coupon: str = "",
    use_balance: bool = False,
    basis: int | None = None,
    actor_id: str | None = None,
) -> models.Payment:
    """Make a payment of an owner's for a plan; where nothing is left to pay it is completed at once.

    A coupon takes off what is left after an upgrade's credit. ``basis``: the owner's ``subscription_version`` that the person saw
    the price for; then the same wish again, by a second press or in a second window, returns the payment that was made by the
    first. ``actor_id``: the administrator who makes it; then the ``gateway`` may be :data:`MANUAL`. Of a payment for a test key
    the referral balance pays nothing. Locks the owner. Whoever lets people type a coupon calls ``coupons.allow_guess`` before.
    Raises ``Invalid`` with the field, ``TooMany`` where too many are waiting already, and ``Conflict`` (code ``changed``) where
    what the owner has is not that of the ``basis`` any more.
    """
    owner = await subscriptions.lock(session, user.id)
    allowed = (*ways(settings, owner), *((MANUAL,) if actor_id is not None else ()))
    if gateway not in allowed:
        raise Invalid(T("Choose how to pay: this way is not available here."), field="gateway")
    quote = await subscriptions.quote(session, settings, owner, plan, period, now=now)
    test = gateway == "payme" and _is_for_test_key(settings, owner)
    if basis is not None:
        made = await _made_already(
            session, owner, quote, gateway, coupon=coupon, use_balance=use_balance, test=test, basis=basis, now=now
        )
        if made is not None:
            return made
        if owner.subscription_version != basis:
            raise Conflict(_STALE, code="changed")
    await _check_waiting(session, owner, now)
    due = max(0, quote.price - quote.credit)
    offer = await coupons.price_off(session, owner, coupon, plan, due, now=now) if coupon and due else None
    discount = offer.discount_tiyin if offer is not None else 0
    least = LEAST_TIYIN if gateway != MANUAL else 0
    if 0 < due - discount < least:
        # A rest that no gateway takes is not asked for.
        discount = due
    used = await from_balance(session, owner, due - discount, now, least=least) if use_balance else 0
    # What no key meets is no test: a plan for the balance or a coupon alone.
    sandbox = test and due - discount - used > 0
    if sandbox:
        used = 0
    row = await _new(
        session,
        settings,
        owner,
        quote,
        gateway,
        discount=discount,
        balance=used,
        coupon_id=offer.coupon_id if offer is not None else None,
        sandbox=sandbox,
        actor_id=actor_id,
        now=now,
    )
    if offer is not None:
        await coupons.reserve(session, owner.id, offer.coupon_id, now=now, payment_id=row.id)
    if used:
        await referrals.spend(session, owner.id, used, row.id, now=now)
    ledger.note_made(session, row, now, actor_id)
    if row.amount_tiyin == 0:
        row = await ledger.complete(session, settings, row, by="balance", now=now, actor_id=actor_id)
    return row


async def by_hand(
    session: AsyncSession,
    settings: Settings,
    user_id: str,
    plan: str,
    period: str,
    *,
    paid_tiyin: int,
    note: str,
    now: dt.datetime,
    actor_id: str,
    coupon_id: str | None = None,
    request_id: str | None = None,
) -> models.Payment:
    """Make and complete a payment for which money has come by hand, whatever was agreed; return it paid.

    It uses up no rest of what the owner has: that waits and goes on afterwards. ``actor_id``: the administrator. ``coupon_id``:
    of a coupon to be used up; what was agreed below the price list is the discount. Locks the owner. Raises ``Invalid`` with the
    field, and ``Conflict`` where the owner is blocked.
    """
    owner = await subscriptions.lock(session, user_id)
    if owner.banned_at is not None:
        raise Conflict(T("This account is blocked: nothing can be paid for it."), code="banned")
    quote = await subscriptions.quote(session, settings, owner, plan, period, now=now)
    price = max(quote.price, paid_tiyin)
    row = await _new(
        session,
        settings,
        owner,
        replace(quote, price=price, credit=0),
        MANUAL,
        discount=price - paid_tiyin,
        coupon_id=coupon_id,
        request_id=request_id,
        actor_id=actor_id,
        now=now,
    )
    if coupon_id is not None:
        await coupons.reserve(session, owner.id, coupon_id, now=now, payment_id=row.id)
    ledger.note_made(session, row, now, actor_id)
    return await ledger.complete(session, settings, row, by=MANUAL, now=now, actor_id=actor_id, note=note)


async def _new(
    session: AsyncSession,
    settings: Settings,
    owner: models.User,
    quote: subscriptions.Quote,
    gateway: str,
    *,
    discount: int,
    now: dt.datetime,
    actor_id: str | None,
    balance: int = 0,
    coupon_id: str | None = None,
    request_id: str | None = None,
    sandbox: bool = False,
) -> models.Payment:
    """Add a payment that waits; what is left of the quote's price is its amount."""
    facts, hours = plans.plan_of(settings, quote.plan), settings.payments.order_hours
    row = models.Payment(
        number=await _new_number(session),
        user_id=owner.id,
        plan=quote.plan,
        period=quote.period,
        kind=quote.kind,
        gateway=gateway,
        price_tiyin=quote.price,
        discount_tiyin=discount,
        credit_tiyin=quote.credit,
        balance_tiyin=balance,
        amount_tiyin=max(0, quote.price - quote.credit) - discount - balance,
        coupon_id=coupon_id,
        request_id=request_id,
        basis=quote.version,
        sandbox=sandbox,
        fiscal=_fiscal(str(facts.title), facts.ikpu, facts.package_code, facts.vat_percent),
        created_by=actor_id or owner.id,
        created_at=now,
        expires_at=now + dt.timedelta(hours=min(_CREDIT_HOURS, hours) if quote.credit else hours),
    )
    session.add(row)
    await session.flush()
    return row


async def _made_already(
    session: AsyncSession,
    owner: models.User,
    quote: subscriptions.Quote,
    gateway: str,
    *,
    coupon: str,
    use_balance: bool,
    test: bool,
    basis: int,
    now: dt.datetime,
) -> models.Payment | None:
    """Return the owner's last payment for the same wish: one that waits at the same price, or was paid since the ``basis``."""
    row = models.Payment
    last = (
        await session.execute(
            select(row, models.Coupon.code)
            .outerjoin(models.Coupon, models.Coupon.id == row.coupon_id)
            .where(
                row.user_id == owner.id,
                row.plan == quote.plan,
                row.period == quote.period,
                or_(
                    # One of a test key's that gave nothing is no reason not to try again.
                    and_(row.status == "paid", row.basis >= basis, literal(owner.subscription_version != basis)),
                    and_(row.status == "waiting", row.expires_at > now),
                ),
            )
            .order_by(row.id.desc())
            .limit(_MOST_WAITING)
        )
    ).all()
    code = coupons.clean_code(coupon) if coupon else None
    for payment, its_code in last:
        terms = payment.gateway, payment.sandbox, payment.price_tiyin, payment.kind, its_code
        same = terms == (gateway, test, quote.price, quote.kind, code)
        same = same and (test or bool(payment.balance_tiyin) == use_balance)
        if payment.status == "paid" or (same and (quote.kind != "upgrade" or payment.basis == quote.version)):
            return payment
    return None


async def from_balance(
    session: AsyncSession, owner: models.User, due: int, now: dt.datetime, *, least: int = LEAST_TIYIN
) -> int:
    """Return how much of an owner's referral balance goes into a payment: whole so'm, and no rest that no gateway takes."""
    used = max(0, min(due, await referrals.balance_tiyin(session, owner.id, now=now))) // TIYIN * TIYIN
    if 0 < due - used < least:
        used = max(0, due - least)
    return used


def _is_for_test_key(settings: Settings, owner: models.User) -> bool:
    """Tell whether only Payme's test key may meet what is ordered at Payme: every one under test, elsewhere administrators'."""
    return is_test_mode(settings) or (owner.is_admin and payments.has_test_key(settings))


def _fiscal(title: str, ikpu: str, package_code: str, vat_percent: int) -> dict[str, str | int]:
    return {"title": title, "ikpu": ikpu, "package_code": package_code, "vat_percent": vat_percent}


async def _check_waiting(session: AsyncSession, owner: models.User, now: dt.datetime) -> None:
    payment = models.Payment
    mine = payment.user_id == owner.id, payment.status == "waiting", payment.expires_at > now
    waiting = await session.scalar(select(func.count(payment.id)).where(*mine))
    if (waiting or 0) >= _MOST_WAITING:
        raise TooMany(T("Too many payments are waiting. Pay or cancel one of them first."), retry_after_s=3600)


async def _new_number(session: AsyncSession) -> str:
    """Return a number that is free: people type it in the gateways' apps, so it is short, and no other follows from it."""
    while True:
        number = str(10 ** (_DIGITS - 1) + secrets.randbelow(9 * 10 ** (_DIGITS - 1)))
        if await session.scalar(select(models.Payment.id).where(models.Payment.number == number)) is None:
            return number


def checkout_url(settings: Settings, payment: models.Payment, language: str, gateway: str | None = None) -> str:
    """Return the address of a gateway's page (the chosen one's by default) where a payment is paid; empty where there is none."""
    kind = gateway or payment.gateway
    if payment.sandbox:
        reached: tuple[str, ...] = ("payme",) if payments.has_test_key(settings) else ()
    else:
        reached = payments.live(settings)
    if payment.status != "waiting" or kind not in reached:
        return ""
    back = f"{settings.public_url}/billing/payments/{payment.number}"
    what = Order(payment.number, payment.amount_tiyin, "payable", payment.plan)
    return payments.make_gateways(settings)[kind].link(
        what, language=language, return_url=back, sandbox=payment.sandbox
    )


def links(settings: Settings, payment: models.Payment, language: str) -> list[tuple[str, str]]:
    """Return the gateways by which a waiting payment may be met and their pages, the chosen one first.

    It is met by that alone where it is for a test key.
    """
    alone = payment.sandbox or payment.gateway == MANUAL
    kinds = dict.fromkeys((payment.gateway, *(() if alone else gateways(settings))))
    every = ((kind, checkout_url(settings, payment, language, kind)) for kind in kinds)
    return [(kind, url) for kind, url in every if url]


def state(payment: models.Payment, now: dt.datetime) -> str:
    """Return the status of a payment for people: one that nobody has ended yet is over by the clock."""
    return "expired" if payment.status == "waiting" and payment.expires_at <= now else payment.status


async def get(session: AsyncSession, user: models.User, number: str) -> models.Payment:
    """Return an owner's payment; raises ``NotFound``, for another's too."""
    payment = await session.scalar(
        select(models.Payment).where(models.Payment.number == number, models.Payment.user_id == user.id)
    )
    if payment is None:
        raise NotFound
    return payment


async def cancel(session: AsyncSession, user: models.User, number: str, now: dt.datetime) -> models.Payment:
    """Close an owner's payment that nobody has paid; raises ``NotFound``, and ``Conflict`` where it does not wait any more."""
    return await ledger.cancel(session, await get(session, user, number), now=now, actor_id=user.id)


async def history(
    session: AsyncSession, user: models.User, *, cursor: str | None = None, limit: int = 50
) -> Sequence[models.Payment]:
    """Return an owner's payments, the newest first; ``cursor``: the id of the last one of the part before."""
    own = [models.Payment.user_id == user.id, *([models.Payment.id < cursor] if cursor else [])]
    found = select(models.Payment).where(*own).order_by(models.Payment.id.desc()).limit(limit)
    return (await session.scalars(found)).all()
