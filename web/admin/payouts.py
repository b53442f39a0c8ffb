"""Partners: what each earned, and noting what was paid to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from services import referrals
from services.errors import AppError
from services.plans import TIYIN
from web import forms, view
from web.admin.requests import price_tiyin, tell
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FIELDS = ("price", "note", "reason")


@routes.get("/admin/payouts")
async def page(request: web.Request) -> web.StreamResponse:
    """List the partners, to whom most is due first."""
    administrator(request)
    return await _page(request)


async def _page(
    request: web.Request, *, error: AppError | None = None, values: dict[str, str] | None = None, at: str = ""
) -> web.StreamResponse:
    core = core_of(request)
    now, before, cursor = core.now(), request.query.get("before", "")[:26] or None, request.query.get("cursor", "")[:60]
    async with core.db.read() as session:
        shared = await frame(session, request)
        found, books = await referrals.programme(session, now=now, cursor=cursor)
        paid = await referrals.payouts(session, before=before)
    return view.render(
        request,
        "admin/payouts.html",
        status=error.status if error else 200,
        here="admin-payouts",
        partners=found.items,
        next=found.next,
        first=not cursor,
        part=urlencode({name: value for name, value in (("cursor", cursor), ("before", before)) if value}),
        paid=[(each, each.undone is None and referrals.can_undo(each.entry, now)) for each in paid.items],
        following=paid.next,
        books=books,
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

    async def step(session: AsyncSession) -> None:
        due = form.text("due", 20)
        await referrals.pay_out(
            session,
            core.settings,
            person,
            request.match_info["owner"],
            price_tiyin(form),
            form.text("note", 300),
            due_tiyin=int(due) if due.isascii() and due.isdigit() else -1,
            now=core.now(),
        )

    return await _done(request, form, request.match_info["owner"], "paid_out", step)


@routes.post("/admin/payouts/{payout}/undo")
async def undo(request: web.Request) -> web.StreamResponse:
    """Take a payout back that was noted by mistake. Field: ``reason``, which the partner receives."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)

    async def step(session: AsyncSession) -> None:
        payout, reason = request.match_info["payout"], form.text("reason", 300)
        await referrals.undo_payout(session, person, payout, reason, now=core.now())

    return await _done(request, form, request.match_info["payout"], "payout_undone", step)


async def _done(
    request: web.Request,
    form: forms.Form,
    at: str,
    toast: str,
    step: Callable[[AsyncSession], Awaitable[object]],
) -> web.StreamResponse:
    """Do a step and show the page again; ``at``: the partner or payout whose form was sent."""
    try:
        async with core_of(request).db.write() as session:
            await step(session)
    except AppError as error:
        if error.status == 404:
            raise
        values = {name: form.fields.get(name, "")[:300] for name in _FIELDS}
        return await _page(request, error=error, values=values, at=at)
    tell(request)
    return view.redirect("/admin/payouts", toast=toast)
