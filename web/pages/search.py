"""The search box: a page of its own, and the part of it that the box shows while one types."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services import finder
from services.conversations import finding
from services.errors import TooMany
from web import auth, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_A_MINUTE = 120


@routes.get("/search")
async def search(request: web.Request) -> web.StreamResponse:
    """Show what the person may open and ``q`` names; ``box``: the empty box, for its script."""
    core, person, language = core_of(request), auth.user(request), auth.visitor(request).language
    asked = request.query.get("q", "")[: finder.TEXT_CHARS].strip()
    if not await core.limits.hit(f"search:{person.id}", _A_MINUTE, 60):
        raise TooMany
    part = view.wants_part(request)
    if part and "box" in request.query:
        return view.render(request, "pages/_finder.html")
    if asked:
        await finding.prepare(core)
    async with core.db.read() as session:
        found = await finder.find(session, person, asked, language)
        shared: dict[str, Any] = {"roles": {}} if part else await frame(session, request)
    template = "pages/_found.html" if part else "pages/search.html"
    return view.render(request, template, here="search", asked=asked, found=found, **shared)
