"""The first page, and the language and theme switch that every page has."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services import accounts, demo, payment_texts, plans
from services.errors import AppError, Invalid, NotFound, TooMany
from services.i18n import LANGUAGES, T
from services.limits import network_of
from web import auth, forms, view
from web.pages import referrals
from web.pages.shell import core_of

routes = web.RouteTableDef()


@routes.get("/")
@auth.public
async def landing(request: web.Request) -> web.StreamResponse:
    """Tell a stranger what this is; whoever is signed in goes on to the dashboard. ``lang``: the language of this page alone."""
    if auth.visitor(request).user is not None:
        return view.redirect("/dashboard")
    return await _landing(request)


async def _landing(request: web.Request, *, error: AppError | None = None, **said: Any) -> web.StreamResponse:
    core, who = core_of(request), auth.visitor(request)
    chosen = request.query.get("lang", "")
    if chosen in LANGUAGES:
        who.language = chosen
    period = request.query.get("period", "")
    period = period if period in plans.PERIODS else plans.PERIODS[0]
    brought = await referrals.remember(request)
    response = view.render(
        request,
        "pages/landing.html",
        status=error.status if error else 200,
        factory=core.factory_username,
        start=brought.start,
        noindex=False,
        public_url=core.settings.public_url,
        chosen=chosen if chosen in LANGUAGES else "",
        on_sale=[
            (key, facts, plans.price_tiyin(core.settings, key, period))
            for key, facts in plans.for_sale(core.settings).items()
        ],
        period=period,
        terms=plans.period_of(core.settings, period),
        periods=[
            (key, payment_texts.period(key, who.language), plans.period_of(core.settings, key)) for key in plans.PERIODS
        ],
        trial_days=core.settings.subscriptions.trial_days,
        has_demo=demo.is_on(core.settings),
        questions=[text.render(who.language) for text in demo.QUESTIONS],
        most=demo.TEXT_CHARS,
        failure=error.text.render(who.language) if error else "",
        **{"asked": "", "reply": None, **said},
    )
    brought.keep(request, response)
    return response


@routes.post("/demo")
@auth.public
async def ask_demo(request: web.Request) -> web.StreamResponse:
    """Ask the demo chat. Field: ``text``. A script gets JSON, a plain form the page with the answer in it."""
    core, who = core_of(request), auth.visitor(request)
    if not demo.is_on(core.settings):
        raise NotFound(T("There is no such page."))
    chosen = request.query.get("lang", "")
    language = chosen if chosen in LANGUAGES else who.language
    asked = (await forms.read(request)).fields.get("text", "")[: 2 * demo.TEXT_CHARS]
    by_script = request.headers.get("Accept", "").startswith("application/json")
    try:
        reply = await demo.ask(core, network_of(auth.client_address(request)), asked, language)
    except (Invalid, TooMany) as error:
        if by_script:
            raise
        return await _landing(request, error=error, asked=asked)
    if by_script:
        return web.json_response({"text": reply.text, "answered": reply.answered})
    return await _landing(request, asked=asked, reply=reply)


@routes.get("/favicon.ico")
@auth.public
async def favicon(request: web.Request) -> web.StreamResponse:
    """Send browsers that ask by old habit to the drawn one."""
    return web.Response(status=303, headers={"Location": request.app[view.STATIC].url("img/logo.svg")})


@routes.get("/robots.txt")
@auth.public
async def robots(_request: web.Request) -> web.StreamResponse:
    """Search engines may read the first page and the guide only."""
    return web.Response(text="User-agent: *\nAllow: /$\nAllow: /?lang=\nAllow: /static/\nAllow: /guide\nDisallow: /\n")


@routes.post("/preferences")
@auth.public
async def preferences(request: web.Request) -> web.StreamResponse:
    """Keep language or theme, with the account and in a cookie for the pages before sign-in; ``keys``: shortcuts on or off."""
    form = await forms.read(request)
    language, theme, shortcuts = form.text("language"), form.text("theme"), form.text("keys")
    response = view.redirect(auth.safe_next(form.text("next"), "/"))
    person = auth.visitor(request).user
    secure = core_of(request).settings.public_url.startswith("https://")
    for name, value, known in (
        (auth.LANGUAGE_COOKIE, language, LANGUAGES),
        (auth.THEME_COOKIE, theme, accounts.THEMES),
    ):
        if value in known:
            response.set_cookie(
                name, value, max_age=auth.PREFERENCE_AGE_S, samesite="Lax", httponly=True, secure=secure
            )
    if person is not None:
        async with core_of(request).db.write() as session:
            if language in LANGUAGES:
                await accounts.set_language(session, person, language)
            if theme in accounts.THEMES:
                await accounts.set_theme(session, person, theme)
            if shortcuts in ("on", "off"):
                await accounts.set_preference(session, person, "keys", shortcuts == "on")
    return response
