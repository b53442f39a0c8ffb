"""The one state machine of payments: attempts of gateways, completions, refunds and ends, each inside one transaction.

Every change locks the payment's row first, then the owner's. What a completion gives (the plan, a letter with the receipt)
belongs to its transaction: exactly once.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import structlog
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable, lost_a_race
from services import accounts, coupons, endpoints, jobs, letters, notices, plans, referrals, subscriptions
from services.errors import Conflict, NotFound
from services.i18n import T
from services.payments import LIVES, TITLES, is_test_mode
from services.payments.base import TIMED_OUT, Asked, Attempt, AttemptState, Gateway, Order, Reply, Standing
from services.settings import Settings
from services.text import clean

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

EXPIRE_JOB = "expire_payments"
REVERSE_JOB = "reverse_click"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_TRIES = 4
_AT_ONCE = 200
_MAX_EVENTS = 300


# What a gateway does


class Desk:
    """The ledger as a gateway sees it during one call: see the base. ``live``: proved by a key that moves real money."""

    def __init__(
        self, session: AsyncSession, settings: Settings, gateway: str, *, live: bool, now: dt.datetime
    ) -> None:
        self.now = now
        self._session, self._settings, self._gateway, self._live = session, settings, gateway, live
        self.payment: models.Payment | None = None
        self.row: models.PaymentTransaction | None = None
        self.changed = False

    async def order(self, number: str) -> Order | None:
        """See the base."""
        id_ = await self._session.scalar(select(models.Payment.id).where(models.Payment.number == number))
        if id_ is None:
            return None
        payment = await _lock(self._session, id_)
        if not self._may_touch(payment):
            return None
        self.payment = payment
        before = payment.status
        await _settle(self._session, self._settings, payment, self.now)
        self.changed |= payment.status != before
        title = payment.fiscal.get("title") or payment.plan
        standing = await self._standing(payment)
        return Order(payment.number, payment.amount_tiyin, standing, title, payment.fiscal)

    def _may_touch(self, payment: models.Payment) -> bool:
        """Tell whether a key may: a test key only what was made for it, and no other key that."""
        return payment.sandbox is not self._live

    async def _standing(self, payment: models.Payment) -> Standing:
        if payment.status == "paid":
            return "paid"
        open_ = payment.status == "waiting" and payment.expires_at > self.now
        fits = open_ and _fits(self._settings, payment, await _owner(self._session, payment))
        return "payable" if fits else "closed"

    async def attempt(self, external_id: str) -> Attempt | None:
        """See the base."""
        return await self._found(models.PaymentTransaction.external_id == external_id)

    async def numbered(self, order: Order, id_: int) -> Attempt | None:
        """See the base."""
        found = await self._found(models.PaymentTransaction.id == id_)
        return found if found is not None and found.number == order.number else None

    async def _found(self, condition: ColumnElement[bool]) -> Attempt | None:
        """Return an attempt of this gateway, its payment locked and both as they are after that."""
        attempts = models.PaymentTransaction
        mine = and_(condition, attempts.gateway == self._gateway, attempts.sandbox.is_(not self._live))
        payment_id = await self._session.scalar(select(attempts.payment_id).where(mine))
        if payment_id is None:
            return None
        if self.payment is not None and self.payment.id != payment_id:
            # Another order's: nothing is done with it, so it is not locked.
            number = select(models.Payment.number).where(models.Payment.id == payment_id)
            row = await self._session.scalar(select(attempts).where(mine))
            return _told(row, str(await self._session.scalar(number))) if row is not None else None
        if self.payment is None:
            self.payment = await _lock(self._session, payment_id)
            before = self.payment.status
            await _settle(self._session, self._settings, self.payment, self.now)
            self.changed |= self.payment.status != before
        self.row = await self._session.scalar(select(attempts).where(mine).execution_options(populate_existing=True))
        return _told(self.row, self.payment.number) if self.row is not None else None

    def _at_hand(self, attempt: Attempt) -> tuple[models.Payment, models.PaymentTransaction]:
        if self.payment is None or self.row is None or self.row.id != attempt.id:
            raise RuntimeError("an attempt is changed that was not looked up before")
        return self.payment, self.row

    async def is_busy(self, order: Order) -> bool:
        """See the base."""
        attempts = models.PaymentTransaction
        waiting = select(attempts.id).where(
            attempts.payment_id == self._payment(order).id,
            attempts.gateway == self._gateway,
            attempts.state == "waiting",
        )
        return await self._session.scalar(waiting.limit(1)) is not None

    def _payment(self, order: Order) -> models.Payment:
        if self.payment is None or self.payment.number != order.number:
            raise RuntimeError("an order is used that was not looked up before")
        return self.payment

    async def create(
        self, order: Order, external_id: str, *, provider_time: dt.datetime, details: Mapping[str, Any] | None = None
    ) -> Attempt:
        """See the base."""
        payment = self._payment(order)
        self.row = models.PaymentTransaction(
            payment_id=payment.id,
            gateway=self._gateway,
            external_id=external_id,
            amount_tiyin=payment.amount_tiyin,
            sandbox=not self._live,
            details=dict(details or {}),
            provider_time=provider_time,
            created_at=self.now,
        )
        self._session.add(self.row)
        await self._session.flush()
        self.changed = True
        return _told(self.row, payment.number)

    async def perform(self, attempt: Attempt, details: Mapping[str, Any] | None = None) -> Attempt | Standing:
        """See the base. The owner's row is locked before it is asked whether the order still fits."""
        payment, row = self._at_hand(attempt)
        if payment.status == "paid":
            return "paid"
        owner = await _owner(self._session, payment, lock=True)
        if payment.status != "waiting" or not _fits(self._settings, payment, owner):
            return "closed"
        row.state, row.performed_at = "performed", self.now
        row.details = {**row.details, **(details or {})}
        await _pay(self._session, self._settings, payment, by=self._gateway, now=self.now)
        self.changed = True
        return _told(row, payment.number)

    async def cancel(self, attempt: Attempt, reason: int | None) -> Attempt | None:
        """See the base."""
        payment, row = self._at_hand(attempt)
        if row.state == "waiting":
            row.state = "cancelled"
        else:
            # A payment that was marked as refunded before the gateway said so is not taken back twice.
            if payment.status == "paid":
                if not await _can_take_back(self._session, self._settings, payment):
                    return None
                said = f"{TITLES[self._gateway]}: {reason}" if reason is not None else TITLES[self._gateway]
                await _take_back(self._session, self._settings, payment, now=self.now, reason=said)
            row.state = "reversed"
        row.reason, row.cancelled_at = reason, self.now
        await self._session.flush()
        self.changed = True
        return _told(row, payment.number)

    async def keep(self, attempt: Attempt, name: str, value: Mapping[str, Any]) -> None:
        """See the base."""
        _, row = self._at_hand(attempt)
        row.details = {**row.details, name: dict(value)}

    async def statement(self, since: dt.datetime, until: dt.datetime) -> Sequence[Attempt]:
        """See the base."""
        attempts = models.PaymentTransaction
        listed = and_(
            attempts.gateway == self._gateway,
            attempts.sandbox.is_(not self._live),
            attempts.provider_time.between(since, until),
        )
        late = select(attempts.payment_id).where(listed, _over(self.now)).distinct().order_by(attempts.payment_id)
        for payment_id in (await self._session.scalars(late)).all():
            await _settle(self._session, self._settings, await _lock(self._session, payment_id), self.now)
        found = await self._session.execute(
            select(attempts, models.Payment.number)
            .join(models.Payment, models.Payment.id == attempts.payment_id)
            .where(listed)
            .order_by(attempts.provider_time, attempts.id)
            .execution_options(populate_existing=True)
        )
        return [_told(row, number) for row, number in found]

    async def alarm(self, attempt: Attempt) -> None:
        """See the base."""
        payment, _ = self._at_hand(attempt)
        said = {"number": payment.number, "gateway": TITLES[self._gateway]}
        for user_id in await accounts.administrators(self._session):
            await notices.open_notice(
                self._session, user_id, "payment_contradicted", key=f"payment:{payment.id}", params=said
            )

    async def note(self, asked: Asked, reply: Reply) -> None:
        """Add the call to the life of its payment; of calls that change nothing and are repeated only the first is kept."""
        if self.payment is None:
            return
        event, payment_id = models.PaymentEvent, self.payment.id
        row_id = self.row.id if self.row is not None else None
        if self.changed and self.row is not None:
            self.row.raw = dict(asked.kept)
        if not self.changed:
            told = (
                event.action == asked.action,
                event.code == reply.code,
                event.transaction_id.is_not_distinct_from(row_id),
            )
            counted = select(func.count(event.id), func.max(event.id)).where(event.payment_id == payment_id)
            number, last = (await self._session.execute(counted)).one()
            again = await self._session.scalar(select(event.id).where(event.id == last, *told)) if last else None
            if again is not None or number >= _MAX_EVENTS:
                return
        self._session.add(
            event(
                payment_id=payment_id,
                transaction_id=row_id,
                gateway=self._gateway,
                action=asked.action[:32],
                code=reply.code[:16],
                request=dict(asked.kept),
                answer=dict(reply.body),
                at=self.now,
            )
        )


def _told(row: models.PaymentTransaction, number: str) -> Attempt:
    """Return an attempt as gateways see it."""
    return Attempt(
        row.id,
        row.external_id,
        number,
        row.amount_tiyin,
        cast(AttemptState, row.state),
        row.reason,
        row.provider_time,
        row.created_at,
        row.performed_at,
        row.cancelled_at,
    )


async def serve(core: Core, gateway: Gateway, asked: Asked) -> Reply:
    """Answer a call that is proved to be the gateway's: one transaction, run again where another stood in its way."""
    started = time.perf_counter()
    for turn in range(1, _TRIES + 1):
        try:
            async with core.db.write() as session:
                desk = Desk(session, core.settings, gateway.kind, live=asked.live, now=core.now())
                reply = await gateway.answer(asked, desk)
                await desk.note(asked, reply)
                await core.pause("payment_changed")
            break
        except (DatabaseUnavailable, IntegrityError) as error:
            # A second call with the same id has just begun the attempt, or two units waited for each other.
            if turn < _TRIES and (isinstance(error, IntegrityError) or lost_a_race(error)):
                continue
            log.warning("payment_call_failed", gateway=gateway.kind, action=asked.action, reason=type(error).__name__)
            return gateway.failed(asked)
        except Exception:
            # Whatever it is: the gateway is told in its own words, and repeats the call.
            log.exception("payment_call_failed", gateway=gateway.kind, action=asked.action)
            return gateway.failed(asked)
    await core.pause("payment_kept")
    external_id = desk.row.external_id if desk.row is not None else None
    took = round((time.perf_counter() - started) * 1000)
    log.info(
        "payment_call", gateway=gateway.kind, action=asked.action, external_id=external_id, code=reply.code, ms=took
    )
    if desk.changed and desk.payment is not None:
        announce(core, desk.payment)
    return reply


def announce(core: Core, payment: models.Payment) -> None:
    """Tell this process's other parts, after the transaction, that a payment has changed."""
    for topic in ("letters", "notices", "jobs"):
        core.bell.ring(topic)
    if payment.user_id is not None:
        core.bell.ring(f"payments:{payment.user_id}", {"payment": payment.number, "status": payment.status})


# What becomes of a payment


def note_made(session: AsyncSession, payment: models.Payment, now: dt.datetime, actor_id: str | None) -> None:
    """Begin the life of a payment that was just made."""
    _add_event(session, payment, "order", now, actor_id=actor_id or payment.user_id)


async def complete(
    session: AsyncSession,
    settings: Settings,
    payment: models.Payment,
    *,
    by: str,
    now: dt.datetime,
    actor_id: str | None = None,
    note: str = "",
    basis: int | None = None,
) -> models.Payment:
    """Complete a waiting payment that no gateway completes: ``by`` is ``manual`` or ``balance``; give what it was for.

    ``basis``: the ``subscription_version`` that the administrator saw. Raises ``Conflict`` where it is paid or closed or made for
    a test key, where the owner has something else by now, or where an upgrade's credit does not fit that any more.
    """
    payment = await _lock(session, payment.id)
    owner = await _owner(session, payment, lock=True)
    if payment.status != "waiting":
        raise Conflict(T("This payment has been paid or closed."), code="payment_closed")
    if payment.sandbox:
        raise Conflict(T("A test payment: no money is taken."), code="sandbox")
    if owner is not None:
        subscriptions.check_basis(owner, basis)
    if not _fits(settings, payment, owner):
        raise Conflict(T("The owner’s plan has changed since this payment was made. Make a new one."), code="stale")
    await _pay(session, settings, payment, by=by, now=now, actor_id=actor_id, note=note)
    _add_event(session, payment, "complete", now, actor_id=actor_id, request={"by": by, "note": payment.note})
    return payment


async def refund(
    session: AsyncSession,
    settings: Settings,
    payment: models.Payment,
    *,
    now: dt.datetime,
    reason: str,
    actor_id: str | None = None,
) -> models.Payment:
    """Take back what a payment gave, because its money goes back: of Click's by a job where its Merchant API is set up, of others
    in the gateway's cabinet or by hand. Calling :func:`announce` after
    the transaction wakes that job.

    Raises ``Conflict`` where it is not paid, or where an upgrade has used up what it gave.
    """
    payment = await _lock(session, payment.id)
    await _owner(session, payment, lock=True)
    if payment.status != "paid":
        raise Conflict(T("Only a paid payment can be refunded."), code="not_paid")
    if not await _can_take_back(session, settings, payment):
        raise Conflict(
            T("An upgrade has used up what this payment gave, so it cannot be taken back."), code="not_refundable"
        )
    await _take_back(session, settings, payment, now=now, reason=reason)
    _add_event(session, payment, "refund", now, actor_id=actor_id, request={"reason": payment.refund_reason})
    if payment.paid_by == "click" and settings.secrets.click_merchant_user_id is not None:
        attempts = models.PaymentTransaction
        mine = attempts.payment_id == payment.id, attempts.gateway == "click", attempts.state == "performed"
        row_id = await session.scalar(select(attempts.id).where(*mine))
        if row_id is not None:
            lane, key = f"payment:{payment.id}", f"{REVERSE_JOB}:{row_id}"
            await jobs.add(session, REVERSE_JOB, {"transaction": row_id}, lane=lane, unique_key=key)
    return payment


async def reversed_by_us(
    session: AsyncSession, row_id: int, *, now: dt.datetime, refusal: str
) -> models.Payment | None:
    """Keep what a gateway has answered to our wish to give money back; ``refusal``: why not, empty where it did."""
    row = await session.get(models.PaymentTransaction, row_id)
    if row is None:
        return None
    payment = await _lock(session, row.payment_id)
    if not refusal:
        row.state, row.cancelled_at = "reversed", now
    said = {"refusal": clean(refusal, 200)} if refusal else {}
    code = "refused" if refusal else "0"
    _add_event(session, payment, "reversal", now, gateway=row.gateway, transaction_id=row.id, request=said, code=code)
    return payment


async def cancel(
    session: AsyncSession, payment: models.Payment, *, now: dt.datetime, actor_id: str | None = None
) -> models.Payment:
    """Close a waiting payment; raises ``Conflict`` where it does not wait any more."""
    payment = await _lock(session, payment.id)
    if payment.status != "waiting":
        raise Conflict(T("This payment has been paid or closed."), code="payment_closed")
    await _close(session, payment, "cancelled", now, actor_id=actor_id)
    return payment


async def expire_due(core: Core, _payload: Mapping[str, Any] = _NOTHING) -> None:
    """End the payments and attempts whose time is over, each in a transaction of its own."""
    last = ""
    while True:
        now = core.now()
        payments, attempts = models.Payment, models.PaymentTransaction
        due = or_(
            and_(payments.status == "waiting", payments.expires_at <= now),
            payments.id.in_(select(attempts.payment_id).where(_over(now))),
        )
        async with core.db.read() as session:
            page = select(payments.id).where(payments.id > last, due).order_by(payments.id).limit(_AT_ONCE)
            ids = (await session.scalars(page)).all()
        for payment_id in ids:
            async with core.db.write() as session:
                payment = await _lock(session, payment_id)
                before = payment.status
                await _settle(session, core.settings, payment, now)
            if payment.status != before:
                announce(core, payment)
        if len(ids) < _AT_ONCE:
            return
        last = ids[-1]


async def life(session: AsyncSession, payment_id: str) -> Sequence[models.PaymentEvent]:
    """Return everything that happened with a payment, the oldest first."""
    event = models.PaymentEvent
    return (await session.scalars(select(event).where(event.payment_id == payment_id).order_by(event.id))).all()


def gives(settings: Settings, payment: models.Payment) -> bool:
    """Tell whether a payment gives its plan when it is paid: one of a test key's does where the whole installation is under
    test.
    """
    return not payment.sandbox or is_test_mode(settings)


async def _lock(session: AsyncSession, payment_id: str) -> models.Payment:
    """Return a payment, locked until the transaction ends and as it is then."""
    payment = await session.get(models.Payment, payment_id, with_for_update=True, populate_existing=True)
    if payment is None:
        raise NotFound
    return payment


async def _owner(session: AsyncSession, payment: models.Payment, *, lock: bool = False) -> models.User | None:
    if payment.user_id is None:
        return None
    if lock:
        return await subscriptions.lock(session, payment.user_id)
    return await session.get(models.User, payment.user_id, populate_existing=True)


def _fits(settings: Settings, payment: models.Payment, owner: models.User | None) -> bool:
    """Tell whether what a payment is for can still be given for its price."""
    if owner is None or owner.banned_at is not None or payment.plan not in plans.for_sale(settings):
        return False
    if payment.sandbox and not owner.is_admin and not is_test_mode(settings):
        # Ordered while all was under test; since then money is real here.
        return False
    # The credit of an upgrade was reckoned for what the owner had then.
    return payment.kind != "upgrade" or owner.subscription_version == payment.basis


def _over(now: dt.datetime) -> ColumnElement[bool]:
    """Tell of attempts that wait and whose time is over."""
    attempts = models.PaymentTransaction
    late = [and_(attempts.gateway == kind, attempts.created_at < now - life) for kind, life in LIVES.items()]
    return and_(attempts.state == "waiting", or_(*late))


async def _settle(session: AsyncSession, settings: Settings, payment: models.Payment, now: dt.datetime) -> None:
    """Let end what the clock has ended: attempts, and the payment itself unless an attempt that was begun in time still lives."""
    attempts = models.PaymentTransaction
    mine = and_(attempts.payment_id == payment.id, attempts.state == "waiting")
    for row in (await session.scalars(select(attempts).where(mine, _over(now)))).all():
        row.state, row.reason, row.cancelled_at = "cancelled", TIMED_OUT, now
        _add_event(session, payment, "expire", now, gateway=row.gateway, transaction_id=row.id)
    await session.flush()
    if payment.status != "waiting":
        return
    owner = await _owner(session, payment)
    stale = owner is None or (payment.kind == "upgrade" and owner.subscription_version != payment.basis)
    if not stale and payment.expires_at > now:
        return
    if stale or await session.scalar(select(attempts.id).where(mine).limit(1)) is None:
        await _close(session, payment, "expired", now)


async def _close(
    session: AsyncSession, payment: models.Payment, status: str, now: dt.datetime, *, actor_id: str | None = None
) -> None:
    """End a payment that was not paid; its coupon and what was used of the referral balance are free again."""
    await _owner(session, payment, lock=True)
    payment.status = status
    _add_event(session, payment, {"expired": "expire", "cancelled": "cancel"}[status], now, actor_id=actor_id)
    await session.flush()
    await coupons.release(session, payment.id)
    await referrals.give_back(session, payment.id, now=now)


async def _pay(
    session: AsyncSession,
    settings: Settings,
    payment: models.Payment,
    *,
    by: str,
    now: dt.datetime,
    actor_id: str | None = None,
    note: str = "",
) -> None:
    """Mark a locked payment, whose owner is locked too, as paid and give what it was for."""
    payment.status, payment.paid_by, payment.paid_at = "paid", by, now
    if note:
        payment.note = clean(note, 300)
    await session.flush()
    if payment.user_id is None or not gives(settings, payment):
        await coupons.release(session, payment.id)
        await referrals.give_back(session, payment.id, now=now)
        return
    await coupons.spend(session, payment.id)
    await referrals.earned(session, settings, payment, now=now)
    span = await subscriptions.grant(
        session,
        settings,
        payment.user_id,
        payment.plan,
        payment.period,
        now=now,
        source=subscriptions.TEST if payment.sandbox else "payment",
        value_tiyin=payment.amount_tiyin + payment.balance_tiyin + payment.credit_tiyin,
        credit_tiyin=payment.credit_tiyin,
        payment_id=payment.id,
        granted_by=actor_id,
    )
    await _write(session, settings, payment, "paid", now, until={"day": span.ends_at.isoformat()})
    if not payment.sandbox:
        bought = {"number": payment.number, "plan": payment.plan, "period": payment.period}
        told = {**bought, "amount_tiyin": payment.amount_tiyin, "paid_by": by}
        await endpoints.tell(session, [endpoints.Happening(payment.user_id, endpoints.PAID, told)])


async def _can_take_back(session: AsyncSession, settings: Settings, payment: models.Payment) -> bool:
    if payment.user_id is None:
        return True
    await subscriptions.lock(session, payment.user_id)
    return await subscriptions.is_refundable(session, payment.id)


async def _take_back(
    session: AsyncSession, settings: Settings, payment: models.Payment, *, now: dt.datetime, reason: str
) -> None:
    """Mark a locked, paid payment as refunded and take back what it gave."""
    payment.status, payment.refunded_at, payment.refund_reason = "refunded", now, clean(reason, 300)
    await session.flush()
    if payment.user_id is None:
        # The account is deleted; whoever brought it keeps no part of money that goes back.
        await referrals.taken_back(session, payment, now=now)
        return
    if payment.sandbox and not await subscriptions.has_given(session, payment.id):
        return
    await subscriptions.take_back(
        session, payment.user_id, now=now, reason=payment.refund_reason, payment_id=payment.id
    )
    await coupons.release(session, payment.id)
    await referrals.taken_back(session, payment, now=now)
    await referrals.give_back(session, payment.id, now=now)
    await _write(session, settings, payment, "refunded", now)


async def _write(
    session: AsyncSession, settings: Settings, payment: models.Payment, kind: str, now: dt.datetime, **more: Any
) -> None:
    """Write the owner a letter about a payment."""
    if payment.user_id is None:
        return
    facts = settings.plans.get(payment.plan)
    params = {
        "payment": payment.id,
        "path": f"/billing/payments/{payment.number}",
        "number": payment.number,
        "plan": facts.title.kept() if facts is not None else payment.plan,
        "amount": {"tiyin": payment.amount_tiyin},
        **more,
    }
    await letters.write(session, payment.user_id, kind, key=f"{kind}:{payment.id}", now=now, params=params)


def _add_event(
    session: AsyncSession,
    payment: models.Payment,
    action: str,
    now: dt.datetime,
    *,
    gateway: str = "",
    transaction_id: int | None = None,
    actor_id: str | None = None,
    request: Mapping[str, Any] = _NOTHING,
    code: str = "",
) -> None:
    """Add what was not a gateway's call to the life of a payment."""
    session.add(
        models.PaymentEvent(
            payment_id=payment.id,
            transaction_id=transaction_id,
            gateway=gateway,
            action=action,
            code=code,
            actor_id=actor_id,
            request=dict(request),
            at=now,
        )
    )
