"""Payments for plans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from db import models
from services import coupons
from services.payments import ledger, orders
from web import auth
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, UtcMoment, Word

routes = Routes("Payments")


class NewPayment(Body):
    """What to pay for, and how."""

    plan: Annotated[Word, Field(max_length=32, description="key of a plan")]
    period: Literal["monthly", "quarterly", "annual"]
    gateway: Literal["payme", "click", "uzum"]
    coupon: Annotated[Word, Field(max_length=40)] = ""


class PaymentAnswer(Answer):
    """A payment."""

    number: Annotated[
        str,
        Field(
            description="what the gateways call it: `account.order_id` of Payme, `merchant_trans_id` of Click, `account` of Uzum"
        ),
    ]
    plan: str
    period: str
    gateway: str
    amount_tiyin: Annotated[int, Field(description="100 tiyin are a so‘m")]
    status: Annotated[
        Literal["waiting", "paid", "cancelled", "expired", "refunded"],
        Field(description="paid at once where nothing was left to pay"),
    ]
    checkout_url: Annotated[str | None, Field(description="where to pay it; null when it does not wait to be paid")]
    created_at: UtcMoment
    expires_at: Annotated[UtcMoment, Field(description="until when it can be paid")]
    paid_at: UtcMoment | None


def _answer(call: Call, payment: models.Payment) -> PaymentAnswer:
    state = orders.state(payment, call.core.now())
    url = orders.checkout_url(call.core.settings, payment, call.language)
    return PaymentAnswer(
        number=payment.number,
        plan=payment.plan,
        period=payment.period,
        gateway=payment.gateway,
        amount_tiyin=payment.amount_tiyin,
        status=state,
        checkout_url=url if state == "waiting" and url else None,
        created_at=payment.created_at,
        expires_at=payment.expires_at,
        paid_at=payment.paid_at,
    )


@routes.post("/payments", 201, example={"plan": "basic", "period": "monthly", "gateway": "payme"})
async def create(call: Call, body: NewPayment) -> PaymentAnswer:
    """Order a plan; send the payer to `checkout_url`."""
    core = call.core
    if body.coupon:
        tries = core.settings.limits.login_attempts_per_15_min
        await coupons.allow_guess(core.limits, call.user.id, auth.client_address(call.request), tries)
    async with core.db.write() as session:
        payment = await orders.order(
            session,
            core.settings,
            call.user,
            body.plan,
            body.period,
            body.gateway,
            now=core.now(),
            coupon=body.coupon,
        )
    if body.coupon:
        await coupons.guessed_right(core.limits, call.user.id)
    ledger.announce(core, payment)
    return _answer(call, payment)


@routes.get("/payments/{number}")
async def show(call: Call, number: str) -> PaymentAnswer:
    """Show what has become of a payment."""
    async with call.core.db.read() as session:
        payment = await orders.get(session, call.user, number)
    return _answer(call, payment)
