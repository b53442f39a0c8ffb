"""The first page, and the language and theme switch that every page has."""

from __future__ import annotations

from aiohttp import web

from services import accounts
from services.i18n import LANGUAGES
from web import auth, forms, view
from web.pages import referrals
from web.pages.shell import core_of

routes = web.RouteTableDef()


@routes.get("/")
@auth.public
async def landing(request: web.Request) -> web.StreamResponse:
    """Tell a stranger what this is; whoever is signed in goes on to the dashboard."""
    if auth.visitor(request).user is not None:
        return view.redirect("/dashboard")
    brought, factory = await referrals.remember(request), core_of(request).factory_username
    response = view.render(request, "pages/landing.html", factory=factory, start=brought.start, noindex=False)
    brought.keep(request, response)
    return response


@routes.get("/favicon.ico")
@auth.public
async def favicon(request: web.Request) -> web.StreamResponse:
    """Send browsers that ask by old habit to the drawn one."""
    return web.Response(status=303, headers={"Location": request.app[view.STATIC].url("img/logo.svg")})


@routes.get("/robots.txt")
@auth.public
async def robots(_request: web.Request) -> web.StreamResponse:
    """Search engines may read the first page only."""
    return web.Response(text="User-agent: *\nAllow: /$\nAllow: /static/\nDisallow: /\n")


@routes.post("/preferences")
@auth.public
async def preferences(request: web.Request) -> web.StreamResponse:
    """Keep language or theme, with the account and in a cookie for the pages before sign-in."""
    form = await forms.read(request)
    language, theme = form.text("language"), form.text("theme")
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
    return response
