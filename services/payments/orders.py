"""What owners order: a plan for a period, to be paid by a gateway's page."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import coupons, payments, plans, referrals, subscriptions
from services.errors import Invalid, NotFound, TooMany
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


def gateways(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of the gateways that people can pay by here."""
    return payments.configured(settings)


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
    request_id: str | None = None,
    actor_id: str | None = None,
) -> models.Payment:
    """Make a payment of an owner's for a plan; where nothing is left to pay it is completed at once.

    A coupon takes off what is left after an upgrade's credit. ``actor_id``: the administrator who makes it; then the ``gateway``
    may be :data:`MANUAL`. Locks the owner. Whoever lets people type a coupon calls ``coupons.allow_guess`` before. Raises
    ``Invalid`` with the field, and ``TooMany`` where too many are waiting already.
    """
    allowed = (*gateways(settings), *((MANUAL,) if actor_id is not None else ()))
    if gateway not in allowed:
        raise Invalid(T("Choose how to pay: this way is not available here."), field="gateway")
    owner = await subscriptions.lock(session, user.id)
    quote = await subscriptions.quote(session, settings, owner, plan, period, now=now)
    await _check_waiting(session, owner, now)
    due = max(0, quote.price - quote.credit)
    offer = await coupons.price_off(session, owner, coupon, plan, due, now=now) if coupon and due else None
    discount = offer.discount_tiyin if offer is not None else 0
    least = LEAST_TIYIN if gateway != MANUAL else 0
    if 0 < due - discount < least:
        # A rest that no gateway takes is not asked for.
        discount = due
    used = await _from_balance(session, owner, due - discount, least, now) if use_balance else 0
    facts, hours = plans.plan_of(settings, plan), settings.payments.order_hours
    row = models.Payment(
        number=await _new_number(session),
        user_id=owner.id,
        plan=plan,
        period=period,
        kind=quote.kind,
        gateway=gateway,
        price_tiyin=quote.price,
        discount_tiyin=discount,
        credit_tiyin=quote.credit,
        balance_tiyin=used,
        amount_tiyin=due - discount - used,
        coupon_id=offer.coupon_id if offer is not None else None,
        request_id=request_id,
        basis=quote.version,
        sandbox=_is_sandbox(settings, owner, gateway),
        fiscal=_fiscal(str(facts.title), facts.ikpu, facts.package_code, facts.vat_percent),
        created_by=actor_id or owner.id,
        created_at=now,
        expires_at=now + dt.timedelta(hours=min(_CREDIT_HOURS, hours) if quote.credit else hours),
    )
    session.add(row)
    await session.flush()
    if offer is not None:
        await coupons.reserve(session, owner.id, offer.coupon_id, now=now, payment_id=row.id)
    if used:
        await referrals.spend(session, owner.id, used, row.id, now=now)
    ledger.note_made(session, row, now, actor_id)
    if row.amount_tiyin == 0:
        row = await ledger.complete(session, settings, row, by="balance", now=now, actor_id=actor_id)
    return row


async def _from_balance(session: AsyncSession, owner: models.User, due: int, least: int, now: dt.datetime) -> int:
    """Return how much of an owner's referral balance goes into a payment: whole so'm, and no rest that no gateway takes."""
    used = max(0, min(due, await referrals.balance_tiyin(session, owner.id, now=now))) // TIYIN * TIYIN
    if 0 < due - used < least:
        used = max(0, due - least)
    return used


def _is_sandbox(settings: Settings, owner: models.User, gateway: str) -> bool:
    """Tell whether a payment is for a test key: every one under test; beside the real key an administrator's own by Payme, who
    has no plan to pay for."""
    if is_test_mode(settings):
        return True
    return settings.secrets.payme_test_key is not None and gateway == "payme" and owner.is_admin


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
    if payment.status != "waiting" or kind not in gateways(settings):
        return ""
    back = f"{settings.public_url}/billing/payments/{payment.number}"
    what = Order(payment.number, payment.amount_tiyin, "payable", payment.plan)
    return payments.make_gateways(settings)[kind].link(
        what, language=language, return_url=back, sandbox=payment.sandbox
    )


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
