"""The owner's plan and payments: what there is, what can be bought, one payment until it is paid, and its receipt.

Every account sees its own and nobody else's: members of a team have nothing to do with what their owner pays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import allowances, bookkeeping, coupons, notices, plans, qr, receipts, referrals, subscriptions
from services import payment_texts as texts
from services.core import Core
from services.days import today
from services.errors import AppError, Conflict, Invalid
from services.i18n import T, translate
from services.payments import ledger, orders
from services.settings import PlanFacts
from services.subscriptions import Quote
from web import auth, forms, tables, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FIELDS = ("plan", "period", "gateway", "coupon", "use_balance")
_HISTORY = 50


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan on sale, for one period. ``is_present``: the owner has it now."""

    key: str
    facts: PlanFacts
    quote: Quote
    is_present: bool

    @property
    def due(self) -> int:
        """What is to be paid, in tiyin, before coupons and balance."""
        return max(0, self.quote.price - self.quote.credit)


def words(request: web.Request) -> dict[str, Any]:
    """Return what names things in the templates of payments."""
    settings, language = core_of(request).settings, auth.visitor(request).language
    return {
        "texts": texts,
        "plan_title": lambda key: texts.plan(settings, key, language),
        "period_name": lambda key: texts.period(key, language),
        "gateway_name": lambda kind: texts.gateway(kind, language),
    }


async def _choices(session: AsyncSession, core: Core, person: models.User, period: str) -> list[Choice]:
    now = core.now()
    line = await subscriptions.timeline(session, core.settings, person)
    present = line.at(now)
    return [
        Choice(
            key,
            facts,
            await subscriptions.quote(session, core.settings, person, key, period, now=now),
            present.is_paid and present.plan == key,
        )
        for key, facts in plans.for_sale(core.settings).items()
    ]


@routes.get("/billing")
async def billing(request: web.Request) -> web.StreamResponse:
    """Show what the person has, what can be bought for the period of the address, and what was paid."""
    core, person = core_of(request), auth.user(request)
    language = auth.visitor(request).language
    period = request.query.get("period", plans.PERIODS[0])
    if period not in plans.PERIODS:
        period = plans.PERIODS[0]
    cursor = request.query.get("cursor", "")[:26] or None
    async with core.db.read() as session:
        shared = await frame(session, request)
        line = await subscriptions.timeline(session, core.settings, person)
        used = await allowances.usage(session, core.settings, person, core.now())
        choices = await _choices(session, core, person, period)
        history = await orders.history(session, person, cursor=cursor, limit=_HISTORY + 1)
    return view.render(
        request,
        "pages/billing.html",
        here="billing",
        standing=texts.standing(core.settings, line, core.now(), language, lambda moment: view.exact(moment, language)),
        used=used,
        choices=choices,
        ways=orders.ways(core.settings, person),
        period=period,
        periods=[(key, texts.period(key, language), plans.period_of(core.settings, key)) for key in plans.PERIODS],
        history=history[:_HISTORY],
        following=history[_HISTORY - 1].id if len(history) > _HISTORY else "",
        **words(request),
        **shared,
    )


@routes.get("/billing/payments.{table:csv|xlsx}")
async def table(request: web.Request) -> web.StreamResponse:
    """Send the person's own payments as a table for other programs."""
    core, language = core_of(request), auth.visitor(request).language
    name = f"payments-{today(core.now()).isoformat()}"
    parts = bookkeeping.own_table(core.db, core.settings, auth.user(request).id, language)
    return await tables.sent(request, parts, name, translate(language, "Payments"))


@routes.get("/billing/order")
async def order_page(request: web.Request) -> web.StreamResponse:
    """Show what the plan and period of the address cost and how they can be paid."""
    values = {name: request.query.get(name, "")[:80] for name in _FIELDS}
    return await _order(request, values)


async def _order(request: web.Request, values: dict[str, str], error: AppError | None = None) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    language, now = auth.visitor(request).language, core.now()
    ways = orders.ways(core.settings, person)
    async with core.db.read() as session:
        quote = await subscriptions.quote(session, core.settings, person, values["plan"], values["period"], now=now)
        balance = await referrals.balance_tiyin(session, person.id, now=now)
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/billing_order.html",
        status=error.status if error else 200,
        here="billing",
        choice=Choice(quote.plan, plans.plan_of(core.settings, quote.plan), quote, False),
        terms=plans.period_of(core.settings, quote.period),
        beginning=texts.beginning(quote.kind, language),
        balance=max(0, balance),
        ways=ways,
        values={**values, "gateway": values["gateway"] or (ways[0] if ways else "")},
        fault=fault_of(error, request) if error else None,
        **words(request),
        **shared,
    )


@routes.post("/billing/order")
async def order(request: web.Request) -> web.StreamResponse:
    """Order a plan. Fields: ``plan``, ``period``, ``gateway``, ``coupon``, ``use_balance``, and ``basis``, by which the
    same order a second time is the first; what it costs the server says.
    """
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    values = {name: form.fields.get(name, "")[:80] for name in _FIELDS}
    plans.plan_of(core.settings, values["plan"])
    plans.period_of(core.settings, values["period"])
    coupon = form.text("coupon", 80)
    try:
        if values["gateway"] not in orders.ways(core.settings, person):
            raise Invalid(T("Choose how to pay."), field="gateway")
        if coupon:
            await coupons.allow_guess(
                core.limits,
                person.id,
                auth.client_address(request),
                core.settings.limits.login_attempts_per_15_min,
            )
        async with core.db.write() as session:
            payment = await orders.order(
                session,
                core.settings,
                person,
                values["plan"],
                values["period"],
                values["gateway"],
                now=core.now(),
                coupon=coupon,
                use_balance=bool(values["use_balance"]),
                basis=form.basis(),
            )
    except AppError as error:
        return await _order(request, values, error)
    if coupon:
        await coupons.guessed_right(core.limits, person.id)
    ledger.announce(core, payment)
    return view.redirect(f"/billing/payments/{payment.number}")


@routes.get(r"/billing/payments/{number:\d{1,20}}")
async def payment_page(request: web.Request) -> web.StreamResponse:
    """Show a payment of the person's own: how to pay it, and what became of it."""
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        payment = await orders.get(session, person, request.match_info["number"])
        shared = await frame(session, request)
        shown = await _shown(session, request, payment)
    return view.render(request, "pages/payment.html", here="billing", **shown, **words(request), **shared)


@routes.get(r"/billing/payments/{number:\d{1,20}}/state")
async def payment_state(request: web.Request) -> web.StreamResponse:
    """Return the part of that page that changes, for its script."""
    number = request.match_info["number"]
    async with core_of(request).db.read() as session:
        payment = await orders.get(session, auth.user(request), number)
        shown = await _shown(session, request, payment)
    return view.part(request, "pages/_payment.html", f"/billing/payments/{number}", **shown, **words(request))


async def _shown(session: AsyncSession, request: web.Request, payment: models.Payment) -> dict[str, Any]:
    core, language = core_of(request), auth.visitor(request).language
    coupon = await session.get(models.Coupon, payment.coupon_id) if payment.coupon_id else None
    state = orders.state(payment, core.now())
    links = orders.links(core.settings, payment, language) if state == "waiting" else []
    spans = [span for span in await subscriptions.spans(session, person_of(payment)) if span.payment_id == payment.id]
    return {
        "payment": payment,
        "state": state,
        "coupon": coupon.code if coupon else "",
        "links": links,
        "qr": qr.inline(links[0][1]) if links else "",
        "beginning": texts.beginning(payment.kind, language),
        "has_receipt": receipts.has_one(payment),
        "until": max((span.ends_at for span in spans if span.revoked_at is None), default=None),
        "seller": core.settings.payments.seller,
        "only_here": notices.opens_only_here(core.settings.public_url),
    }


def person_of(payment: models.Payment) -> str:
    """Return whose payment it is; one whose account is gone has nobody."""
    return payment.user_id or ""


@routes.post(r"/billing/payments/{number:\d{1,20}}/cancel")
async def cancel(request: web.Request) -> web.StreamResponse:
    """Close a payment that the person does not want to make any more."""
    core, number = core_of(request), request.match_info["number"]
    try:
        async with core.db.write() as session:
            payment = await orders.cancel(session, auth.user(request), number, core.now())
    except Conflict:
        # It was paid or has ended meanwhile: the page says which.
        return view.redirect(f"/billing/payments/{number}")
    ledger.announce(core, payment)
    return view.redirect("/billing", toast="payment_cancelled")


@routes.get(r"/billing/payments/{number:\d{1,20}}/receipt.pdf")
async def receipt(request: web.Request) -> web.StreamResponse:
    """Send the receipt of what was paid."""
    core = core_of(request)
    async with core.db.read() as session:
        payment = await orders.get(session, auth.user(request), request.match_info["number"])
    return await receipt_of(request, payment)


async def receipt_of(request: web.Request, payment: models.Payment) -> web.StreamResponse:
    """Return the receipt of a payment in the language of the person who asks; raises ``NotFound`` where there is none."""
    data = await receipts.render(core_of(request), payment, auth.visitor(request).language)
    headers = {"Content-Disposition": f'attachment; filename="{receipts.file_name(payment)}"'}
    return web.Response(body=data, content_type="application/pdf", headers=headers)
