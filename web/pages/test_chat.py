"""The owner's own chat with the bot.

While a bot is set up, a question goes the same way through the conveyor as a customer's message. Beside the settings it is
answered with the words of the form, saved or not, and nothing of it is stored: see :mod:`services.trying`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from db import models
from db.engine import DatabaseUnavailable
from services import attachments, bots, chat, first_steps, testers, trying
from services.core import Core
from services.errors import Conflict, TooMany
from services.i18n import T
from web import auth, forms, streams
from web.pages.bots import given_words, published_words
from web.pages.shell import core_of, own_bot

routes = web.RouteTableDef()
log = structlog.get_logger(__name__)

_TESTS_A_MINUTE = 20
_SAID_CHARS = 60_000


@routes.post("/bots/{bot}/try")
async def try_bot(request: web.Request) -> web.StreamResponse:
    """Ask the bot and stream its answer: events ``delta``, ``restart``, ``done`` (with what it was made of), ``error``."""
    core = core_of(request)
    who = auth.visitor(request)
    person = auth.user(request)
    form = await forms.read(request)
    text = form.text("text", core.settings.limits.message_chars)
    if not await core.limits.hit(f"try:{person.id}", _TESTS_A_MINUTE, 60):
        raise TooMany
    async with core.db.read() as session:
        bot = await own_bot(session, request)
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    if form.text("words", 1):
        words = bots.draft_of(bot, **given_words(form, bot), limits=core.settings.limits)
        return await _try_words(request, bot, words, form, text)
    if channel is None:
        raise Conflict(T("This bot’s web page is disconnected. Connect it first."), code="channel_missing")
    response = streams.response()
    await response.prepare(request)
    events: asyncio.Queue[streams.Event] = asyncio.Queue()
    # A closed tab changes nothing for the question: it is stored and will be answered.
    core.tasks.start(_ask(core, bot, channel, person, who.language, text, events), name="try")
    await streams.send(response, events, who.language)
    return response


async def _try_words(
    request: web.Request, bot: models.Bot, words: Mapping[str, Any], form: forms.Form, text: str
) -> web.StreamResponse:
    """Answer with words that need not be saved; who leaves gets no answer, and nobody else does."""
    core, who, person = core_of(request), auth.visitor(request), auth.user(request)
    language = who.language
    try:
        said = json.loads(form.fields.get("said", "[]")[:_SAID_CHARS])
    except ValueError:
        said = []
    response = streams.response()
    await response.prepare(request)
    events: asyncio.Queue[streams.Event] = asyncio.Queue()

    async def ask() -> None:
        with streams.failures(events):
            tried = await trying.answer(
                core,
                bot,
                words,
                text,
                trying.turns_of(said),
                before=form.text("language", 10),
                speaks=language,
                on_event=streams.pieces(events),
            )
            if who.view is None and not first_steps.is_tried(person):
                await _note_tried(core, person, bot)
            events.put_nowait(("done", _tried(tried, published=words == published_words(bot))))

    asking = core.tasks.start(ask(), name="try")
    try:
        await streams.send(response, events, language)
    finally:
        asking.cancel()
    return response


async def _note_tried(core: Core, person: models.User, bot: models.Bot) -> None:
    """Tick the first step off; the answer does not wait for a database that takes nothing now."""
    try:
        async with core.db.write() as session:
            await first_steps.note_tried(session, person, bot)
    except DatabaseUnavailable:
        log.info("trying_not_noted")


def _tried(tried: trying.Tried, *, published: bool) -> dict[str, Any]:
    return {
        "messages": [{"author": "bot", "text": tried.text, "files": []}],
        "attached": list(tried.files),
        "language": tried.language,
        "answered": tried.answered,
        "provider": tried.provider,
        "model": tried.model,
        "sources": tried.sources,
        "usage": dict(tried.usage),
        "took_ms": tried.took_ms,
        "published": published,
    }


async def _ask(
    core: Core,
    bot: models.Bot,
    channel: models.Channel,
    person: models.User,
    language: str,
    text: str,
    events: asyncio.Queue[streams.Event],
) -> None:
    begun = time.monotonic()
    with streams.failures(events):
        reply = await chat.ask(
            core,
            channel,
            bot,
            contact=testers.contact_of(person.id),
            text=text,
            language_code=language,
            on_event=streams.pieces(events),
        )
        took_ms = round((time.monotonic() - begun) * 1000)
        events.put_nowait(("done", {**_shown(core, reply), "took_ms": took_ms}))


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
