"""A bot's words as they were: who published what and when, and the way back."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from services import manner, versions
from services.conversations import desk
from services.i18n import LANGUAGE_NAMES, translate
from web import auth, view
from web.pages.bots import undo_of
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
        described=lambda change: versions.described(change, partial(_in_words, auth.visitor(request).language)),
        **shared,
    )


def _in_words(language: str, field: str, value: Any) -> str:
    if field == "languages":
        return ", ".join(LANGUAGE_NAMES.get(code, code) for code in value)
    if field == "hours":
        days = manner.shown(manner.manner_of({"hours": value}))
        names = dict(zip(manner.DAYS, view.day_names(language), strict=True))
        return "\n".join(f"{names[day]}: {opens}–{closes}" for day, (opens, closes) in days.items())
    if field == "return_after_min" and value:
        return translate(language, "{time} after your last message", time=view.minutes(int(value), language))
    return str(value)


@routes.post("/bots/{bot}/versions/{version}/restore")
async def restore(request: web.Request) -> web.StreamResponse:
    """Publish an earlier version once more."""
    core = core_of(request)
    async with core.db.write() as session:
        bot = await own_bot(session, request)
        before = await versions.bring_back(session, bot, request.match_info["version"], auth.user(request))
    core.bell.ring("channels")
    return view.redirect(f"/bots/{bot.id}", toast="brought_back", undo=undo_of(bot, before))
