"""The owner's own chat with the bot, beside its settings: the same way through the conveyor as a customer's message."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from db import models
from services import attachments, bots, chat, stats
from services.core import Core
from services.errors import Conflict, TooMany
from services.i18n import T
from web import auth, forms, streams
from web.pages.shell import core_of, own_bot

routes = web.RouteTableDef()

_TESTS_A_MINUTE = 20


@routes.post("/bots/{bot}/try")
async def try_bot(request: web.Request) -> web.StreamResponse:
    """Ask the bot and stream its answer: events ``delta``, ``restart``, ``done`` (with what it was made of), ``error``."""
    core = core_of(request)
    who = auth.visitor(request)
    person = auth.user(request)
    text = (await forms.read(request)).text("text", core.settings.limits.message_chars)
    if not await core.limits.hit(f"try:{person.id}", _TESTS_A_MINUTE, 60):
        raise TooMany
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    if channel is None:
        raise Conflict(T("This bot’s web page is disconnected. Connect it first."), code="channel_missing")
    response = streams.response()
    await response.prepare(request)
    events: asyncio.Queue[streams.Event] = asyncio.Queue()
    # A closed tab changes nothing for the question: it is stored and will be answered.
    core.tasks.start(_ask(core, bot, channel, person, who.language, text, events), name="try")
    await streams.send(response, events, who.language)
    return response


async def _ask(
    core: Core,
    bot: models.Bot,
    channel: models.Channel,
    person: models.User,
    language: str,
    text: str,
    events: asyncio.Queue[streams.Event],
) -> None:
    with streams.failures(events):
        reply = await chat.ask(
            core,
            channel,
            bot,
            contact=stats.test_contact(person.id),
            text=text,
            language_code=language,
            on_event=streams.pieces(events),
        )
        events.put_nowait(("done", _shown(core, reply)))


def _shown(core: Core, reply: chat.ChatReply | None) -> dict[str, Any]:
    if reply is None:
        return {"messages": []}
    return {
        "messages": [
            {
                "author": message.author,
                "text": message.text,
                "files": [
                    {"name": file.name, "url": attachments.link(core, file.id)}
                    for file in reply.files.get(message.id, ())
                ],
            }
            for message in reply.messages
        ],
        "language": reply.language,
        "answered": reply.answered,
        "provider": reply.provider,
        "model": reply.model,
        "sources": reply.sources,
        "usage": reply.usage,
    }
