"""Partners: what each earned, and noting what was paid to them."""

from __future__ import annotations

from aiohttp import web

from services import referrals
from services.errors import AppError
from services.plans import TIYIN
from web import forms, view
from web.admin.requests import price_tiyin
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FIELDS = ("price", "note")


@routes.get("/admin/payouts")
async def page(request: web.Request) -> web.StreamResponse:
    """List the partners, to whom most is due first."""
    administrator(request)
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, at: str = ""
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await referrals.partners(session, now=core.now())
        paid = await referrals.payouts(session)
    return view.render(
        request,
        "admin/payouts.html",
        status=error.status if error else 200,
        here="admin-payouts",
        partners=found,
        paid=paid,
        payout_min=core.settings.referrals.payout_min_uzs * TIYIN,
        tiyin=TIYIN,
        values=values or {},
        at=at,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/admin/payouts/{owner}")
async def pay_out(request: web.Request) -> web.StreamResponse:
    """Note that a partner was paid. Fields: ``price`` (so'm), ``due`` (tiyin that the page showed), ``note``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    at = request.match_info["owner"]
    try:
        due = form.text("due", 20)
        async with core.db.write() as session:
            await referrals.pay_out(
                session,
                core.settings,
                person,
                at,
                price_tiyin(form),
                form.text("note", 300),
                due_tiyin=int(due) if due.isascii() and due.isdigit() else -1,
                now=core.now(),
            )
    except AppError as error:
        if error.status == 404:
            raise
        values = {name: form.fields.get(name, "")[:300] for name in _FIELDS}
        return await _page(request, error=error, values=values, at=at)
    return view.redirect("/admin/payouts", toast="paid_out")
