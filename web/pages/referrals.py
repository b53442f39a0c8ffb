"""The partner's page: one's own link, who came by it and what it earned; and the cookie that remembers whose link was opened."""

from __future__ import annotations

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


async def remember(request: web.Request, response: web.StreamResponse) -> None:
    """Note whose link (``?ref=``) a stranger has opened, and set the cookie by which their registration is known.

    What makes previews of links is no visitor, and whoever is signed in nobody to bring.
    """
    code, core = request.query.get("ref", "")[:64], core_of(request)
    if not code or auth.visitor(request).user is not None:
        return
    if referrals.is_machine(request.headers.get("User-Agent", "")):
        return
    if not await auth.limit_address(request, "referral", _CLICKS_IN_15_MIN, 900):
        return
    value = request.cookies.get(COOKIE, "")[:100] or new_token()
    async with core.db.write() as session:
        known = await referrals.touched(session, code, referrals.web_visitor(value), now=core.now())
    if known:
        response.set_cookie(
            COOKIE,
            value,
            max_age=core.settings.referrals.window_days * 86_400,
            samesite="Lax",
            httponly=True,
            secure=core.settings.public_url.startswith("https://"),
        )


async def registered(session: AsyncSession, request: web.Request, person: models.User) -> None:
    """Note by whose link the holder of an account that was just made has come to this browser."""
    core, value = core_of(request), request.cookies.get(COOKIE, "")[:100]
    visitor = referrals.web_visitor(value) if value else None
    await referrals.registered(session, core.settings, person, visitor, now=core.now())


@routes.get("/billing/referrals")
async def page(request: web.Request) -> web.StreamResponse:
    """Show one's link, its numbers, and the lines of the account."""
    core, person = core_of(request), auth.user(request)
    before = request.query.get("before", "")[:26] or None
    code = person.referral_code
    if code is None:
        async with core.db.write() as session:
            code = await referrals.code_of(session, person)
    async with core.db.read() as session:
        shared = await frame(session, request)
        account = await referrals.account(session, person.id, now=core.now())
        entries = await referrals.entries(session, person.id, before=before)
    links = referrals.links(core.settings, core.factory_username, code)
    shown = links.telegram or links.web
    return view.render(
        request,
        "pages/referrals.html",
        here="referrals",
        links=links,
        share=f"https://t.me/share/url?url={quote(shown, safe='')}",
        qr=qr.inline(shown),
        account=account,
        entries=entries,
        following=entries[-1].id if len(entries) == referrals.PAGE else "",
        kinds=referrals.KINDS,
        rules=core.settings.referrals,
        payout_min=core.settings.referrals.payout_min_uzs * TIYIN,
        now=core.now(),
        **shared,
    )
