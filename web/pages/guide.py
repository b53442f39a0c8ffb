"""The user's guide: for everybody, in the language of the address, inside the panel for who is signed in."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from services.errors import NotFound
from services.i18n import T
from web import auth, guide, view
from web.guide import GUIDE
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()


@routes.get("/guide")
@auth.public
async def in_own_language(request: web.Request) -> web.StreamResponse:
    """Send a reader to the guide in their language. ``page``: to this one of it."""
    name = request.query.get("page", "")
    return view.redirect(guide.address(auth.visitor(request).language, name if name in guide.NAMES else guide.LIST))


@routes.get("/guide/{language}")
@auth.public
async def contents(request: web.Request) -> web.StreamResponse:
    """Show the list of all pages."""
    return await _page(request, guide.LIST)


@routes.get("/guide/{language}/{page}")
@auth.public
async def page(request: web.Request) -> web.StreamResponse:
    """Show a page."""
    name = request.match_info["page"]
    if name not in guide.NAMES:
        raise NotFound(T("There is no such page."))
    return await _page(request, name)


async def _page(request: web.Request, name: str) -> web.StreamResponse:
    core, who, book, language = (
        core_of(request),
        auth.visitor(request),
        request.app[GUIDE],
        request.match_info["language"],
    )
    try:
        found = await book.load(language, name)
    except KeyError:
        raise NotFound(T("There is no such page.")) from None
    # The language of the address is that of this page alone.
    who.language = language
    shared: dict[str, Any] = {}
    if who.user is not None:
        async with core.db.read() as session:
            shared = await frame(session, request)
    before, after = (each and (each, book.read(language, each).title) for each in guide.around(name))
    return view.render(
        request,
        "pages/guide.html" if who.user is not None else "pages/guide_open.html",
        here="guide" if who.user is None or who.user.is_admin else "support",
        page=found,
        groups=book.contents(language),
        before=before,
        after=after,
        in_other_language=f"/guide?page={name}" if name else "/guide",
        noindex=False,
        public_url=core.settings.public_url,
        **shared,
    )


@routes.get("/guide/{language}/pictures/{picture}")
@auth.public
async def picture(request: web.Request) -> web.StreamResponse:
    """Send a picture of the guide. ``v``: the version that the page names."""
    asked = request.match_info
    found = await request.app[GUIDE].find_picture(asked["language"], asked["picture"])
    if found is None:
        raise NotFound(T("There is no such page."))
    return guide.serve(found, request.query.get("v", ""))
