"""Payments of all owners: the list, the life of one, money that came by hand, and what came in by gateway and day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from aiohttp import web

from services import access, bookkeeping, plans, receipts, sheets, subscriptions
from services import payment_texts as texts
from services.days import day_of, today
from services.errors import AppError, Invalid
from services.i18n import T, translate
from services.payments import ledger, orders
from services.text import one_line
from web import auth, forms, tables, view
from web.admin import lists
from web.admin.shell import administrator
from web.pages import billing
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FILTERS = ("state", "gateway", "owner", "number", "since", "until")
_REASON_CHARS = 280
_DAYS_SHOWN = 30
_NEW = ("owner", "plan", "period")
_GATEWAYS = ("payme", "click", "uzum", "manual", "balance")


def _filters(typed: Mapping[str, str]) -> bookkeeping.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    return bookkeeping.Filters(typed["state"], typed["gateway"], typed["owner"], typed["number"], *lists.days(typed))


@routes.get("/admin/payments")
async def payments(request: web.Request) -> web.StreamResponse:
    """List the payments that the filters of the address leave, with their sums."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    asked = lists.asked(request, _FILTERS, _filters)
    async with core.db.read() as session:
        shared = await frame(session, request)
        page = await bookkeeping.list_all(session, asked.filters, cursor=asked.cursor)
        sums = await bookkeeping.sums(session, asked.filters)
    return view.render(
        request,
        "admin/payments.html",
        here="admin-payments",
        page=page,
        sums=sums,
        state_names=[
            ("", translate(language, "Any state")),
            *((key, texts.state(key, language)) for key in texts.STATES),
        ],
        gateway_names=[
            ("", translate(language, "All gateways")),
            *((kind, texts.gateway(kind, language)) for kind in _GATEWAYS),
        ],
        following=urlencode({**asked.given, "cursor": page.next}) if page.next else "",
        **asked.shown(request),
        **billing.words(request),
        **shared,
    )


@routes.get("/admin/payments/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered payments as a table for other programs."""
    person, core = administrator(request), core_of(request)
    asked = lists.asked(request, _FILTERS, _filters, strict=True)
    async with core.db.write() as session:
        await access.record(session, person, "payments_exported", "payment", "", **asked.given)
    parts = bookkeeping.table(core.db, core.settings, asked.filters, auth.visitor(request).language)
    return await lists.send(request, parts, "payments", T("Payments"))


@routes.get("/admin/payments/new")
async def new_page(request: web.Request) -> web.StreamResponse:
    """Show the form for what somebody wants to pay without a gateway."""
    administrator(request)
    return await _new(request, {name: request.query.get(name, "")[:200] for name in _NEW})


async def _new(request: web.Request, values: dict[str, str], error: AppError | None = None) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
    return view.render(
        request,
        "admin/payment_new.html",
        status=error.status if error else 200,
        here="admin-payments",
        values=values,
        on_sale=plans.for_sale(core.settings),
        periods=plans.PERIODS,
        fault=fault_of(error, request) if error else None,
        **billing.words(request),
        **shared,
    )


@routes.post("/admin/payments/new")
async def new(request: web.Request) -> web.StreamResponse:
    """Order a plan for an owner who pays without a gateway. Fields: ``owner``, ``plan``, ``period``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[:200] for name in _NEW}
    try:
        async with core.db.write() as session:
            owner = await bookkeeping.find_owner(session, form.text("owner", 200))
            payment = await orders.order(
                session,
                core.settings,
                owner,
                form.text("plan"),
                form.text("period"),
                orders.MANUAL,
                now=core.now(),
                actor_id=person.id,
            )
            await access.record(session, person, "payment_ordered", "payment", payment.id, number=payment.number)
    except AppError as error:
        return await _new(request, values, error)
    ledger.announce(core, payment)
    return view.redirect(f"/admin/payments/{payment.number}", toast="payment_ordered")


@routes.get(r"/admin/payments/{number:\d+}")
async def payment_page(request: web.Request) -> web.StreamResponse:
    """Show all that is known of one payment."""
    administrator(request)
    return await _one(request)


async def _one(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        life = await bookkeeping.life(session, request.match_info["number"])
        refundable = await subscriptions.is_refundable(session, life.payment.id)
        shared = await frame(session, request)
    return view.render(
        request,
        "admin/payment.html",
        status=error.status if error else 200,
        here="admin-payments",
        life=life,
        payment=life.payment,
        refundable=refundable,
        has_receipt=receipts.has_one(life.payment),
        values=values or {"method": "", "reason": ""},
        fault=fault_of(error, request) if error else None,
        **billing.words(request),
        **shared,
    )


def _reason(form: forms.Form) -> str:
    reason = one_line(form.text("reason", _REASON_CHARS), _REASON_CHARS)
    if not reason:
        raise Invalid(T("Write the reason: it stays with the payment."), field="reason")
    return reason


@routes.post(r"/admin/payments/{number:\d+}/paid")
async def mark_paid(request: web.Request) -> web.StreamResponse:
    """Note that a payment was paid in cash or by bank transfer. Fields: ``method``, ``reason``, ``basis``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[:_REASON_CHARS] for name in ("method", "reason")}
    try:
        method, reason = form.text("method"), _reason(form)
        if method not in texts.METHODS:
            raise Invalid(T("Choose how it was paid."), field="method")
        async with core.db.write() as session:
            life = await bookkeeping.life(session, request.match_info["number"])
            payment = await ledger.complete(
                session,
                core.settings,
                life.payment,
                by="manual",
                now=core.now(),
                actor_id=person.id,
                note=texts.by_hand(method, reason),
                basis=form.basis(),
            )
            await access.record(
                session, person, "payment_marked_paid", "payment", life.payment.id, method=method, reason=reason
            )
    except AppError as error:
        return await _again(request, error, values)
    ledger.announce(core, payment)
    return view.redirect(f"/admin/payments/{payment.number}", toast="payment_paid")


@routes.post(r"/admin/payments/{number:\d+}/refund")
async def refund(request: web.Request) -> web.StreamResponse:
    """Note that a payment was given back, and take back what it gave. Field: ``reason``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    values = {"method": "", "reason": form.fields.get("reason", "")[:_REASON_CHARS]}
    try:
        reason = _reason(form)
        async with core.db.write() as session:
            life = await bookkeeping.life(session, request.match_info["number"])
            payment = await ledger.refund(
                session, core.settings, life.payment, now=core.now(), reason=reason, actor_id=person.id
            )
            await access.record(session, person, "payment_refunded", "payment", life.payment.id, reason=reason)
    except AppError as error:
        return await _again(request, error, values)
    ledger.announce(core, payment)
    return view.redirect(f"/admin/payments/{payment.number}", toast="payment_refunded")


async def _again(request: web.Request, error: AppError, values: dict[str, str]) -> web.StreamResponse:
    """Show the payment again with what was wrong; one that there is not stays one."""
    if error.status == 404:
        raise error
    return await _one(request, error=error, values=values)


@routes.get(r"/admin/payments/{number:\d+}/receipt.pdf")
async def receipt(request: web.Request) -> web.StreamResponse:
    """Send the receipt of a payment, in the administrator's language."""
    administrator(request)
    async with core_of(request).db.read() as session:
        life = await bookkeeping.life(session, request.match_info["number"])
    return await billing.receipt_of(request, life.payment)


@routes.get("/admin/payments/days")
async def days(request: web.Request) -> web.StreamResponse:
    """Show what each gateway performed and took back on each day."""
    administrator(request)
    core = core_of(request)
    fault: AppError | None = None
    try:
        since, until = _span(request)
        async with core.db.read() as session:
            found = await bookkeeping.reconciliation(session, since, until)
    except Invalid as error:
        fault, found = error, []
        until = today(core.now())
        since = until - dt.timedelta(days=_DAYS_SHOWN - 1)
    async with core.db.read() as session:
        shared = await frame(session, request)
    values = {name: request.query.get(name, "")[:20] for name in ("since", "until")}
    return view.render(
        request,
        "admin/payment_days.html",
        status=fault.status if fault else 200,
        here="admin-payments",
        days=found,
        totals=_totals(found),
        values=values if fault else {"since": since.isoformat(), "until": until.isoformat()},
        query=urlencode({"since": since.isoformat(), "until": until.isoformat()}),
        fault=fault_of(fault, request) if fault else None,
        **billing.words(request),
        **shared,
    )


def _span(request: web.Request) -> tuple[dt.date, dt.date]:
    """Return the first and the last day of the address; without them the last thirty."""
    until = day_of(request.query.get("until", "")[:20], "until") or today(core_of(request).now())
    since = day_of(request.query.get("since", "")[:20], "since")
    return since or until - dt.timedelta(days=_DAYS_SHOWN - 1), until


def _totals(found: Sequence[bookkeeping.Day]) -> list[bookkeeping.Day]:
    """Return a line a gateway for all days together."""
    together: dict[str, bookkeeping.Day] = {}
    for each in found:
        before = together.get(each.gateway, bookkeeping.Day(each.day, each.gateway))
        together[each.gateway] = bookkeeping.Day(
            each.day, each.gateway, before.performed + each.performed, before.reversed + each.reversed
        )
    return [together[gateway] for gateway in sorted(together)]


@routes.get("/admin/payments/days.{table:csv|xlsx}")
async def export_days(request: web.Request) -> web.StreamResponse:
    """Send the same as a table for other programs."""
    person = administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    since, until = _span(request)
    async with core.db.write() as session:
        found = await bookkeeping.reconciliation(session, since, until)
        span = {"since": since.isoformat(), "until": until.isoformat()}
        await access.record(session, person, "payments_exported", "payment", "", **span)
    parts = sheets.whole(bookkeeping.day_table(found, language))
    return await tables.sent(request, parts, f"payments-{since}-{until}", translate(language, "By gateway and day"))
