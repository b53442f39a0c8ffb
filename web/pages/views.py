"""Who looked at the panel: the owner agrees or refuses, ends a view and reads what was opened; the bar's own forms."""

from __future__ import annotations

from aiohttp import web

from db.base import utcnow
from services import views
from services.bell import session_topic
from services.errors import NotFound
from services.i18n import T
from web import auth, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()


@routes.get("/settings/views")
async def page(request: web.Request) -> web.StreamResponse:
    """List the views of the person's own panel."""
    cursor = request.query.get("cursor", "")[:60]
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
        found, names = await views.of_owner(session, auth.user(request).id, cursor=cursor)
    now = utcnow()
    return view.render(
        request,
        "pages/views.html",
        here="account",
        page=found,
        names=names,
        runs=lambda each: views.runs(each, now),
        first=not cursor,
        **shared,
    )


@routes.get("/settings/views/{view}")
async def one_page(request: web.Request) -> web.StreamResponse:
    """List what was opened in one view."""
    cursor = request.query.get("cursor", "")[:60]
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
        row = await views.own(session, auth.user(request), request.match_info["view"])
        opened, following = await views.pages(session, row, cursor=cursor)
    return view.render(
        request,
        "pages/view_pages.html",
        here="account",
        row=row,
        opened=opened,
        following=following,
        first=not cursor,
        **shared,
    )


async def _answer(request: web.Request, agrees: bool) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.write() as session:
        await views.answer(session, auth.user(request), request.match_info["view"], agrees, now=utcnow())
    core.bell.ring("notices")
    return view.redirect("/settings/views", toast="view_agreed" if agrees else "view_refused")


@routes.post("/settings/views/{view}/agree")
async def agree(request: web.Request) -> web.StreamResponse:
    """Let the administrator change something."""
    return await _answer(request, True)


@routes.post("/settings/views/{view}/refuse")
async def refuse(request: web.Request) -> web.StreamResponse:
    """Let the administrator change nothing."""
    return await _answer(request, False)


@routes.post("/settings/views/{view}/end")
async def end_own(request: web.Request) -> web.StreamResponse:
    """End a view of the own panel."""
    core, person = core_of(request), auth.user(request)
    async with core.db.write() as session:
        row = await views.own(session, person, request.match_info["view"])
        await views.end(session, person, row, now=utcnow())
    core.bell.ring("notices")
    return view.redirect("/settings/views", toast="view_ended")


def _mine(request: web.Request) -> auth.Visitor:
    """Return who looks at another's panel; raises ``NotFound`` for everybody else."""
    who = auth.visitor(request)
    if who.view is None or who.admin is None:
        raise NotFound(T("There is no such page."))
    return who


@routes.post("/view/ask")
async def ask(request: web.Request) -> web.StreamResponse:
    """Ask the owner whether the administrator may change something."""
    who, core = _mine(request), core_of(request)
    assert who.view is not None and who.admin is not None
    async with core.db.write() as session:
        await views.ask(session, who.admin, who.view, now=core.now())
    for topic in ("notices", "letters"):
        core.bell.ring(topic)
    return view.redirect("/dashboard", toast="view_asked")


@routes.post("/view/end")
async def end(request: web.Request) -> web.StreamResponse:
    """End the view, and lead back to the owner's page."""
    who, core = _mine(request), core_of(request)
    assert who.view is not None and who.admin is not None
    async with core.db.write() as session:
        await views.end(session, who.admin, who.view, now=utcnow())
    if who.signed_in is not None:
        core.bell.ring(session_topic(who.signed_in.session.id))
    return view.redirect(f"/admin/owners/{who.view.owner_id}", toast="view_ended")
