"""Putting an administrator's banner away."""

from __future__ import annotations

from aiohttp import web

from services import announcements
from web import auth, forms, view
from web.pages.shell import core_of

routes = web.RouteTableDef()


@routes.post("/announcements/{announcement}/seen")
async def seen(request: web.Request) -> web.StreamResponse:
    """Show a banner to this person no more. Field: ``next``, the page it stood on."""
    core, form = core_of(request), await forms.read(request)
    async with core.db.write() as session:
        await announcements.put_away(session, auth.user(request), request.match_info["announcement"], now=core.now())
    return view.redirect(auth.safe_next(form.text("next")))
