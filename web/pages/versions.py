"""A bot's words as they were: who published what and when, and the way back."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from services import versions
from services.conversations import desk
from web import auth, view
from web.pages.bots import in_words, undo_of
from web.pages.shell import core_of, frame, own_bot

routes = web.RouteTableDef()


@routes.get("/bots/{bot}/versions")
async def versions_page(request: web.Request) -> web.StreamResponse:
    """Show a bot's versions, the latest first, each with what it changed."""
    core = core_of(request)
    cursor = request.query.get("cursor", "")
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        rows, following = await versions.list_for(session, bot, cursor=cursor)
        names = await desk.names(session, [row.version.author_id for row in rows])
    return view.render(
        request,
        "pages/versions.html",
        here="settings",
        rows=rows,
        next=following,
        first=not cursor,
        names=names,
        titles=versions.FIELDS,
        described=lambda change: versions.described(change, partial(in_words, auth.visitor(request).language)),
        **shared,
    )


@routes.post("/bots/{bot}/versions/{version}/restore")
async def restore(request: web.Request) -> web.StreamResponse:
    """Publish an earlier version once more."""
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        before = await versions.bring_back(session, bot, request.match_info["version"], auth.user(request))
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}", toast="brought_back", undo=undo_of(bot, before))
