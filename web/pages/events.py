"""One stream a browser that says what changed; the page then fetches the part that did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientConnectionResetError, web

from db.engine import DatabaseUnavailable
from services import accounts, bots, conversations, notices
from services.bell import session_topic
from services.conversations import marks
from services.errors import NotFound, NotSignedIn, TooMany
from services.i18n import T
from web import auth, keys, streams, view
from web.pages.shell import core_of

routes = web.RouteTableDef()

_STREAMS_A_USER = 6
_PING_S = 20.0
_LOOK_S = 2.0
_LISTS_S = 0.5
"""So often at most a page is told that its list of conversations changed, however much is said; the last change is told too."""
_CLOSING = "streams:end"
Told = list[tuple[str, str, int]]
_open: web.AppKey[dict[str, list[web.Request]]] = web.AppKey("open_streams", dict)


@contextlib.asynccontextmanager
async def _counted(request: web.Request, user_id: str) -> AsyncIterator[None]:
    # A browser that went on to the next page is noticed here before its stream is.
    opened = request.app[_open]
    living = [stream for stream in opened.get(user_id, []) if stream.transport and not stream.transport.is_closing()]
    if len(living) >= _STREAMS_A_USER:
        raise TooMany(T("Too many pages are open. Close some of them."), retry_after_s=30)
    opened[user_id] = [*living, request]
    try:
        yield
    finally:
        rest = [stream for stream in opened.get(user_id, []) if stream is not request]
        if rest:
            opened[user_id] = rest
        else:
            opened.pop(user_id, None)


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Send what happens to this person's bots until the page closes or the session ends.

    Event names: ``document-BOT``, ``conversations``, ``talk-CONVERSATION``, ``presence-CONVERSATION``, ``notice``,
    ``payment-NUMBER``, ``support`` (the person's own talk with support), ``support-talks`` and ``support-OWNER`` (for
    administrators); the data is a small JSON object. The stream ends when the bots that the person may answer for are others:
    the browser asks for a new one. ``talk`` and ``said``: the conversation that the page shows and the last thing in it, so that
    what came between the page and the stream is told.
    """
    core = core_of(request)
    signed_in = auth.visitor(request).signed_in
    if signed_in is None:
        raise NotSignedIn
    inbox: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(100)
    async with _counted(request, signed_in.user.id), contextlib.AsyncExitStack() as stack:

        async def listen(*topics: tuple[str, str]) -> None:
            for topic, name in topics:
                rung = await stack.enter_async_context(core.bell.listen(topic))
                stack.callback(core.tasks.start(_forward(rung, name, inbox), name="events").cancel)

        told = await _told(request, signed_in)
        # Before the bots are read: a right that ends meanwhile ends this stream.
        await listen((session_topic(signed_in.session.id), "end"), (_CLOSING, "end"), ("notices", "notice"))
        await listen((f"payments:{signed_in.user.id}", "payment"), (f"support:{signed_in.user.id}", "support"))
        if signed_in.user.is_admin:
            await listen(("support", "support-talks"))
        rights = await _rights(request, signed_in)
        await listen(*((f"bot:{bot_id}", f"bot-{bot_id}") for bot_id in rights))
        talk = request.query.get("talk", "")
        if talk and await _has_more(request, signed_in, talk, request.query.get("said", "")):
            inbox.put_nowait(("bot-", {"conversation": talk}))
        stream = streams.response()
        with contextlib.suppress(ClientConnectionResetError, ConnectionResetError):
            await stream.prepare(request)
            await _send(request, signed_in, rights, told, stream, inbox)
            await stream.write_eof()
        return stream


@routes.get("/notices")
async def open_notices(request: web.Request) -> web.StreamResponse:
    """Return the bar of notices as it is now, for the page named by ``at``; ``brief``: one at a time."""
    language = auth.visitor(request).language
    async with core_of(request).db.read() as session:
        told = await notices.open_for(session, auth.user(request))
    return view.part(
        request,
        "_notices.html",
        "/dashboard",
        notices=[
            (notice, notices.text(notice, language, core_of(request).notice_texts), notices.page(notice))
            for notice in told
        ],
        brief="brief" in request.query,
        at=auth.safe_next(request.query.get("at")),
    )


async def _forward(topic: asyncio.Queue[Any], name: str, inbox: asyncio.Queue[tuple[str, dict[str, Any]]]) -> None:
    while True:
        message = await topic.get()
        if inbox.full():
            inbox.get_nowait()
        inbox.put_nowait((name, message if isinstance(message, dict) else {}))


async def _rights(request: web.Request, signed_in: accounts.SignedIn) -> dict[str, bool]:
    """Return the bots that a person hears of, and whether of more than their conversations."""
    async with core_of(request).db.read() as session:
        answered = await bots.list_for(session, signed_in.user, "talk")
        managed = {bot.id for bot in await bots.list_for(session, signed_in.user)}
    return {bot.id: bot.id in managed for bot in answered}


async def _has_more(request: web.Request, signed_in: accounts.SignedIn, talk_id: str, said: str) -> bool:
    """Tell whether more was said in a conversation, to the customer or among colleagues, than a page shows."""
    try:
        async with core_of(request).db.read() as session:
            row = await conversations.get(session, signed_in.user, talk_id)
            return await marks.newest_id(session, row.conversation.id) > said
    except (DatabaseUnavailable, NotFound):
        return False


async def _told(request: web.Request, signed_in: accounts.SignedIn) -> Told | None:
    """Return what a person's notices are now, None where that cannot be known."""
    try:
        async with core_of(request).db.read() as session:
            return [(each.id, each.kind, each.count) for each in await notices.open_for(session, signed_in.user)]
    except DatabaseUnavailable:
        return None


async def _send(
    request: web.Request,
    signed_in: accounts.SignedIn,
    rights: dict[str, bool],
    told: Told | None,
    stream: web.StreamResponse,
    inbox: asyncio.Queue[tuple[str, dict[str, Any]]],
) -> None:
    number = 0
    next_ping = time.monotonic() + _PING_S
    lists_from, lists_due = 0.0, False
    while request.transport is not None and not request.transport.is_closing():
        if time.monotonic() >= next_ping:
            next_ping = time.monotonic() + _PING_S
            if not core_of(request).ready or not await _still_in(request, signed_in, rights):
                return
            await stream.write(streams.HEARTBEAT)
        if lists_due and time.monotonic() >= lists_from:
            lists_from, lists_due = time.monotonic() + _LISTS_S, False
            await stream.write(streams.encode("conversations", {}))
        wait_s = max(0.0, lists_from - time.monotonic()) if lists_due else _LOOK_S
        try:
            name, message = await asyncio.wait_for(inbox.get(), wait_s)
        except TimeoutError:
            continue
        if name == "end":
            return
        if name == "notice":
            # It rings for everybody: only who has something new fetches it.
            before, told = told, await _told(request, signed_in)
            if told is not None and told == before:
                continue
        number += 1
        lists_due = lists_due or "conversation" in message
        for event in _names(name, message, rights):
            await stream.write(f"id: {number}\n".encode() + streams.encode(event, message))


def _names(name: str, message: dict[str, Any], rights: dict[str, bool]) -> list[str]:
    """Return the events for one ring of the bell; of a bot's documents hears only who may see them."""
    bot_id = name.removeprefix("bot-")
    if name == "notice":
        return ["notice"]
    if name == "payment":
        return [f"payment-{message.get('payment')}"]
    if name == "support":
        return ["support"]
    if name == "support-talks":
        return ["support-talks", f"support-{message.get('owner')}"]
    if "tests" in message:
        return [f"tests-{bot_id}"] if rights.get(bot_id) else []
    if "broadcast" in message:
        return [f"broadcast-{bot_id}"] if rights.get(bot_id) else []
    if "document" in message:
        return [f"document-{bot_id}"] if rights.get(bot_id) else []
    if "conversation" in message:
        return [f"talk-{message['conversation']}"]
    if "presence" in message:
        return [f"presence-{message['presence']}"]
    return []


async def _still_in(request: web.Request, signed_in: accounts.SignedIn, rights: dict[str, bool]) -> bool:
    """Tell whether the session lives and the rights are as they were: the bell that ends a stream may be lost on the way."""
    cookie = auth.visitor(request).session
    value = cookie.get("id") if cookie is not None else None
    try:
        async with core_of(request).db.read() as session:
            if not isinstance(value, str) or await accounts.session_user(session, value) is None:
                return False
        return rights.items() <= (await _rights(request, signed_in)).items()
    except DatabaseUnavailable:
        return False


def setup(app: web.Application) -> None:
    """Count the open streams of this application, and end them when it stops."""
    app[_open] = {}

    async def close(stopping: web.Application) -> None:
        stopping[keys.CORE].bell.ring(_CLOSING)

    app.on_shutdown.append(close)
