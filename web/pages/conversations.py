"""The addresses under which one bot's conversations were before all bots had one inbox: they lead there."""

from __future__ import annotations

from aiohttp import web

from services import bots, conversations
from services.errors import NotFound
from web import auth, view
from web.pages.shell import core_of

routes = web.RouteTableDef()


@routes.get("/bots/{bot}/conversations")
async def of_bot(request: web.Request) -> web.StreamResponse:
    """Lead to the inbox with this bot chosen and the same filters."""
    async with core_of(request).db.read() as session:
        bot = await bots.get(session, auth.user(request), request.match_info["bot"], "talk")
    query = request.rel_url.raw_query_string
    return view.redirect(f"/inbox?bot={bot.id}" + (f"&{query}" if query else ""))


@routes.get("/bots/{bot}/conversations/{conversation}")
async def one_of_bot(request: web.Request) -> web.StreamResponse:
    """Lead to the conversation."""
    async with core_of(request).db.read() as session:
        row = await conversations.get(session, auth.user(request), request.match_info["conversation"])
    if row.bot.id != request.match_info["bot"]:
        raise NotFound
    query = request.rel_url.raw_query_string
    return view.redirect(f"/inbox/{row.conversation.id}" + (f"?{query}" if query else ""))
