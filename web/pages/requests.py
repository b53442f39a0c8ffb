"""Asking for access: a plan that an administrator gives."""

from __future__ import annotations

from aiohttp import web

from services import coupons, payment_texts, plans, requests, subscriptions
from services.errors import AppError, TooMany
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FIELDS = ("plan", "period", "coupon", "note")


@routes.get("/billing/request")
async def request_page(request: web.Request) -> web.StreamResponse:
    """Show the form, or the request that waits, and what became of earlier ones."""
    given = {name: request.query.get(name, "")[:100] for name in _FIELDS}
    return await _page(request, {**given, "period": given["period"] or "monthly"})


async def _page(request: web.Request, values: dict[str, str], *, error: AppError | None = None) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    language = auth.visitor(request).language
    async with core.db.read() as session:
        shared = await frame(session, request)
        asked = await requests.of_owner(session, person.id)
        line = await subscriptions.timeline(session, core.settings, person)
    response = view.render(
        request,
        "pages/request.html",
        status=error.status if error else 200,
        here="billing",
        values=values,
        waiting_request=next((row for row in asked if row.status == "pending"), None),
        earlier=[row for row in asked if row.status != "pending"],
        standing=line.at(core.now()),
        on_sale={key: (facts, _prices(request, key)) for key, facts in plans.for_sale(core.settings).items()},
        periods=plans.PERIODS,
        states=requests.STATES,
        note_chars=requests.NOTE_CHARS,
        plan_title=lambda key: payment_texts.plan(core.settings, key, language),
        period_name=lambda key: payment_texts.period(key, language),
        fault=fault_of(error, request) if error else None,
        **shared,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _prices(request: web.Request, plan: str) -> dict[str, int]:
    settings = core_of(request).settings
    return {period: plans.price_tiyin(settings, plan, period) for period in plans.PERIODS}


@routes.post("/billing/request")
async def ask(request: web.Request) -> web.StreamResponse:
    """Ask for a plan. Fields: ``plan``, ``period``, ``coupon``, ``note``."""
    core, person, form = core_of(request), auth.user(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[: requests.NOTE_CHARS] for name in _FIELDS}
    try:
        code = form.text("coupon", 100)
        if code:
            per_window = core.settings.limits.login_attempts_per_15_min
            await coupons.allow_guess(core.limits, person.id, auth.client_address(request), per_window)
        async with core.db.write() as session:
            await requests.ask(
                session,
                core.settings,
                person,
                form.text("plan", 40),
                form.text("period", 40),
                code=code,
                note=form.text("note", requests.NOTE_CHARS),
                now=core.now(),
            )
        if code:
            await coupons.guessed_right(core.limits, person.id)
    except AppError as error:
        return await _page(request, values, error=error)
    for topic in ("notices", "letters"):
        core.bell.ring(topic)
    return view.redirect("/billing/request", toast="asked")


@routes.post("/billing/request/{request}/withdraw")
async def withdraw(request: web.Request) -> web.StreamResponse:
    """Take one's request back."""
    core = core_of(request)
    async with core.db.write() as session:
        await requests.withdraw(session, auth.user(request), request.match_info["request"], now=core.now())
    return view.redirect("/billing/request", toast="request_withdrawn")
