"""The partner's page: one's own link, who came by it and what it earned; and the cookie that remembers whose link was opened."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import qr, referrals
from services.crypto import new_token
from services.plans import TIYIN
from web import auth, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

COOKIE = "ref"
_CLICKS_IN_15_MIN = 30


@dataclass(frozen=True, slots=True)
class Brought:
    """By whose link a stranger has come: ``start`` is the word that tells the factory bot, empty for nobody's."""

    start: str = ""
    cookie: str = ""

    def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the cookie by which a registration in this browser is known."""
        if self.cookie:
            core = core_of(request)
            response.set_cookie(
                COOKIE,
                self.cookie,
                max_age=core.settings.referrals.window_days * 86_400,
                samesite="Lax",
                httponly=True,
                secure=core.settings.public_url.startswith("https://"),
            )


async def remember(request: web.Request) -> Brought:
    """Note whose link (``?ref=``) a stranger has opened, now or before; the page that is shown keeps the cookie.

    What makes previews of links is no visitor, and whoever is signed in nobody to bring.
    """
    code, core = request.query.get("ref", "")[:64], core_of(request)
    value, people, now = request.cookies.get(COOKIE, "")[:100], auth.people(request), core.now()
    if auth.visitor(request).user is not None or not (code or value):
        return Brought()
    cookie = ""
    if code and await _is_visit(request):
        value = value or new_token()
        async with core.db.write() as session:
            visitor = referrals.web_visitor(value)
            if await referrals.touched(session, code, visitor, now=now, known=people):
                cookie = value
    if not value:
        return Brought()
    async with core.db.read() as session:
        visitor = referrals.web_visitor(value)
        carried = await referrals.carried_on(session, core.settings, visitor, now=now, known=people)
    return Brought(f"{referrals.START_WORD}{carried}" if carried else "", cookie)


async def _is_visit(request: web.Request) -> bool:
    """Tell whether a link was opened by a person, and not too often from one address."""
    if referrals.is_machine(request.headers.get("User-Agent", "")):
        return False
    return await auth.limit_address(request, "referral", _CLICKS_IN_15_MIN, 900)


async def registered(session: AsyncSession, request: web.Request, person: models.User) -> None:
    """Note by whose link the holder of an account that was just made has come to this browser."""
    core, value = core_of(request), request.cookies.get(COOKIE, "")[:100]
    visitor = referrals.web_visitor(value) if value else None
    await referrals.registered(session, core.settings, person, visitor, now=core.now(), known=auth.people(request))


@routes.get("/billing/referrals")
async def page(request: web.Request) -> web.StreamResponse:
    """Show one's link, or how to get it, its numbers, and the lines of the account."""
    core, person = core_of(request), auth.user(request)
    before = request.query.get("before", "")[:26] or None
    async with core.db.read() as session:
        shared = await frame(session, request)
        account = await referrals.account(session, person.id, now=core.now())
        entries = await referrals.entries(session, person.id, before=before)
    code = person.referral_code
    links = referrals.links(core.settings, core.factory_username, code) if code else None
    shown = links.telegram or links.web if links else ""
    return view.render(
        request,
        "pages/referrals.html",
        here="referrals",
        links=links,
        share=f"https://t.me/share/url?url={quote(shown, safe='')}",
        qr=qr.inline(shown) if shown else "",
        account=account,
        entries=entries,
        following=entries[-1].id if len(entries) == referrals.PAGE else "",
        kinds=referrals.KINDS,
        rules=core.settings.referrals,
        payout_min=core.settings.referrals.payout_min_uzs * TIYIN,
        now=core.now(),
        **shared,
    )


@routes.post("/billing/referrals")
async def make_link(request: web.Request) -> web.StreamResponse:
    """Make one's link, which stays the same from then on."""
    async with core_of(request).db.write() as session:
        await referrals.code_of(session, auth.user(request))
    return view.redirect("/billing/referrals")
