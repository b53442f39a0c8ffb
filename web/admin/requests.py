"""Requests for access: the list of those that wait, granting and declining."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from services import payment_texts, plans, requests
from services.errors import AppError, Invalid
from services.i18n import T
from services.plans import TIYIN
from web import auth, forms, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

GRANT_FIELDS = ("plan", "period", "price", "price_note", "answer")


def price_tiyin(form: forms.Form) -> int:
    """Return the field ``price``, so'm with or without spaces, in tiyin; raises ``Invalid`` with the field."""
    typed = "".join(form.text("price", 40).split())
    if not typed.isascii() or not typed.isdigit() or len(typed) > 10:
        raise Invalid(T("Enter what was paid in whole so‘m, 0 for nothing."), field="price")
    return int(typed) * TIYIN


@routes.get("/admin/requests")
async def page(request: web.Request) -> web.StreamResponse:
    """List the requests that wait, and the last ones that were decided."""
    administrator(request)
    return await _page(request)


async def _page(
    request: web.Request,
    *,
    error: AppError | None = None,
    values: dict[str, str] | None = None,
    at: str = "",
    declining: bool = False,
) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    cursor, before = (request.query.get(name, "")[:26] for name in ("cursor", "before"))
    async with core.db.read() as session:
        shared = await frame(session, request)
        waiting = await requests.pending(session, cursor=cursor)
        decided = await requests.decided(session, cursor=before)
    # What was wrong is said at the request; where that waits no more, above all of them.
    at = at if any(each.request.id == at for each in waiting.items) else ""
    return view.render(
        request,
        "admin/requests.html",
        status=error.status if error else 200,
        here="admin-requests",
        asked=[(each, each.price_tiyin(core.settings)) for each in waiting.items],
        following=waiting.next,
        first=not cursor,
        decided=decided.items,
        earlier=decided.next,
        part=urlencode({name: value for name, value in (("cursor", cursor), ("before", before)) if value}),
        states=requests.STATES,
        on_sale=plans.for_sale(core.settings),
        periods=plans.PERIODS,
        plan_title=lambda key: payment_texts.plan(core.settings, key, language),
        period_name=lambda key: payment_texts.period(key, language),
        values=values or {},
        at=at,
        declining=declining,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/admin/requests/{request}/grant")
async def grant(request: web.Request) -> web.StreamResponse:
    """Grant a request. Fields: ``plan``, ``period``, ``price`` (so'm), ``price_note``, ``answer``, ``coupon`` to use it
    up, ``basis``.
    """
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    at = request.match_info["request"]
    try:
        async with core.db.write() as session:
            await requests.grant(
                session,
                core.settings,
                person,
                at,
                form.text("plan", 40),
                form.text("period", 40),
                price_tiyin=price_tiyin(form),
                price_note=form.text("price_note", 300),
                answer=form.text("answer", requests.ANSWER_CHARS),
                use_coupon=bool(form.text("coupon")),
                basis=form.basis(),
                now=core.now(),
            )
    except AppError as error:
        if error.status == 404:
            raise
        values = {name: form.fields.get(name, "")[:500] for name in (*GRANT_FIELDS, "coupon")}
        return await _page(request, error=error, values=values, at=at)
    tell(request)
    return view.redirect("/admin/requests", toast="granted")


@routes.post("/admin/requests/{request}/decline")
async def decline(request: web.Request) -> web.StreamResponse:
    """Decline a request. Field: ``answer``, which the owner receives."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    at = request.match_info["request"]
    try:
        async with core.db.write() as session:
            answer = form.text("answer", requests.ANSWER_CHARS)
            await requests.decline(session, core.settings, person, at, answer, now=core.now())
    except AppError as error:
        if error.status == 404:
            raise
        values = {"answer": form.fields.get("answer", "")[:500]}
        return await _page(request, error=error, values=values, at=at, declining=True)
    tell(request)
    return view.redirect("/admin/requests", toast="declined")


def tell(request: web.Request) -> None:
    """Let what was written to people go out."""
    for topic in ("letters", "notices"):
        core_of(request).bell.ring(topic)
