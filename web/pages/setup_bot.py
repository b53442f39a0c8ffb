"""The first run: name a bot, give it a document, try it, share it. One flow, one page a bot."""

from __future__ import annotations

from aiohttp import web

from services import bots
from services.knowledge import documents
from web import auth, view
from web.pages.documents import document_rows
from web.pages.shell import core_of, frame, own_bot

routes = web.RouteTableDef()


@routes.get("/bots/new")
async def new_bot(request: web.Request) -> web.StreamResponse:
    """Ask for the one thing that is needed: a name."""
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
    limit = None if auth.user(request).is_admin else core.settings.limits.bots_per_owner
    return view.render(request, "pages/new_bot.html", here="bots", name="", limit=limit, **shared)


@routes.get("/bots/{bot}/setup")
async def setup_page(request: web.Request) -> web.StreamResponse:
    """Show the remaining steps of a new bot with its chat beside them."""
    core = core_of(request)
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        shared = await frame(session, request, bot)
        files = await documents.list_for(session, bot)
        channels = await bots.channels(session, bot)
    return view.render(
        request,
        "pages/setup.html",
        here="settings",
        documents=document_rows(files, auth.visitor(request).language),
        ready=any(file.status == "ready" for file in files),
        telegram=any(channel.kind == "telegram" for channel in channels),
        web_chat=any(channel.kind == "web" for channel in channels),
        max_mib=core.settings.knowledge.max_file_mib,
        **shared,
    )
