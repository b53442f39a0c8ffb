"""One stream a browser that says what changed; the page then fetches the part that did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientConnectionResetError, web

from db.engine import DatabaseUnavailable
from services import accounts, bots, notices
from services.errors import NotSignedIn, TooMany
from services.i18n import T
from web import auth, keys, streams, view
from web.pages.shell import core_of

routes = web.RouteTableDef()

_STREAMS_A_USER = 6
_PING_S = 20.0
_LOOK_S = 2.0
_CLOSING = "streams:end"
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

    Event names: ``document-BOT``, ``conversations``, ``talk-CONVERSATION``, ``presence-CONVERSATION``, ``notice``; the data is a
    small JSON object. The stream ends when the bots that the person may answer for are others: the browser asks for a new one.
    """
    core = core_of(request)
    signed_in = auth.visitor(request).signed_in
    if signed_in is None:
        raise NotSignedIn
    async with core.db.read() as session:
        own = {bot.id for bot in await bots.list_for(session, signed_in.user)}
        served = {bot.id for bot in await bots.list_for(session, signed_in.user, "talk")}
    inbox: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(100)
    async with _counted(request, signed_in.user.id), contextlib.AsyncExitStack() as stack:
        listeners = [
            core.tasks.start(
                _forward(await stack.enter_async_context(core.bell.listen(topic)), name, inbox), name="events"
            )
            for topic, name in (
                *((f"bot:{bot_id}", f"{'bot' if bot_id in own else 'talks'}-{bot_id}") for bot_id in served),
                ("notices", "notice"),
                (auth.session_topic(signed_in.session.id), "end"),
                (_CLOSING, "end"),
            )
        ]
        stack.callback(lambda: [task.cancel() for task in listeners])
        stream = streams.response()
        with contextlib.suppress(ClientConnectionResetError, ConnectionResetError):
            await stream.prepare(request)
            await _send(request, signed_in, served, stream, inbox)
            await stream.write_eof()
        return stream


@routes.get("/notices")
async def open_notices(request: web.Request) -> web.StreamResponse:
    """Return the bar of notices as it is now, for the page named by ``at``; ``brief``: one at a time."""
    if "HX-Request" not in request.headers:
        return view.redirect("/dashboard")
    language = auth.visitor(request).language
    async with core_of(request).db.read() as session:
        told = await notices.open_for(session, auth.user(request))
    return view.render(
        request,
        "_notices.html",
        notices=[(notice, notices.text(notice, language), notices.page(notice)) for notice in told],
        brief="brief" in request.query,
        at=auth.safe_next(request.query.get("at")),
    )


async def _forward(topic: asyncio.Queue[Any], name: str, inbox: asyncio.Queue[tuple[str, dict[str, Any]]]) -> None:
    while True:
        message = await topic.get()
        if inbox.full():
            inbox.get_nowait()
        inbox.put_nowait((name, message if isinstance(message, dict) else {}))


async def _send(
    request: web.Request,
    signed_in: accounts.SignedIn,
    served: set[str],
    stream: web.StreamResponse,
    inbox: asyncio.Queue[tuple[str, dict[str, Any]]],
) -> None:
    number = 0
    next_ping = time.monotonic() + _PING_S
    while request.transport is not None and not request.transport.is_closing():
        try:
            name, message = await asyncio.wait_for(inbox.get(), _LOOK_S)
        except TimeoutError:
            if time.monotonic() < next_ping:
                continue
            next_ping = time.monotonic() + _PING_S
            if not core_of(request).ready or not await _still_in(request, signed_in, served):
                return
            await stream.write(streams.HEARTBEAT)
            continue
        if name == "end":
            return
        number += 1
        for event in _names(name, message):
            await stream.write(f"id: {number}\n".encode() + streams.encode(event, message))


def _names(name: str, message: dict[str, Any]) -> list[str]:
    """Return the events for one ring of the bell."""
    if name == "notice":
        return ["notice"]
    if "document" in message and name.startswith("bot-"):
        return [f"document-{name.removeprefix('bot-')}"]
    if "conversation" in message:
        return ["conversations", f"talk-{message['conversation']}"]
    if "presence" in message:
        return [f"presence-{message['presence']}"]
    return []


async def _still_in(request: web.Request, signed_in: accounts.SignedIn, served: set[str]) -> bool:
    cookie = auth.visitor(request).session
    value = cookie.get("id") if cookie is not None else None
    try:
        async with core_of(request).db.read() as session:
            if not isinstance(value, str) or await accounts.session_user(session, value) is None:
                return False
            return {bot.id for bot in await bots.list_for(session, signed_in.user, "talk")} == served
    except DatabaseUnavailable:
        return False


def setup(app: web.Application) -> None:
    """Count the open streams of this application, and end them when it stops."""
    app[_open] = {}

    async def close(stopping: web.Application) -> None:
        stopping[keys.CORE].bell.ring(_CLOSING)

    app.on_shutdown.append(close)
