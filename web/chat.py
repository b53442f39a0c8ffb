"""The chat page of a bot: the web channel for customers.

A visitor is known by a random secret in a cookie of this page alone. With script an answer arrives piece by piece as
server-sent events in the response to the message; without script the same address takes a plain form and shows the page again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import earlier_id
from db.engine import DatabaseUnavailable
from services import attachments, bots, chat, conversations, lines, pauses, ratings, uploads, visitors
from services.conversations import Page
from services.core import Core
from services.crypto import new_token
from services.errors import AppError, Forbidden, Invalid, NotFound, TooMany, Unavailable
from services.i18n import LANGUAGE_NAMES, LANGUAGES, T, translate
from web import auth, forms, keys, live, middlewares, streams, view

log = structlog.get_logger(__name__)

FORM_TIMEOUT_S = 40
SHOWN = 50
COOKIE = "chat"
LANGUAGE_COOKIE = "chat_language"
COOKIE_AGE_S = 365 * 24 * 3600
HUES = 6
# Behind one address of a mobile operator there are many people.
PEOPLE_PER_ADDRESS = 6
READS_PER_MINUTE = 900
_RATINGS_PER_MINUTE = 120
_PICTURES_PER_MINUTE = 6
_FORM_OVERHEAD = 64 * 1024
PUBLIC_ID = re.compile(r"[A-Za-z0-9_-]{16,32}")
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MESSAGE_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
_FIRST_EVENT_S = 1.0
_SHOWN_PX = 280
_WATCH_S = 300.0
_STILL_HERE_S = 20.0
# A message is named before it is committed: one with an older name than the last may come later.
_LATE_S = 15.0


@dataclass(frozen=True, slots=True)
class Room:
    """One visitor at one bot's page. ``secret`` is what the cookie holds; ``fresh``: it has to be given out."""

    core: Core
    bot: models.Bot
    channel: models.Channel
    languages: tuple[str, ...]
    language: str
    secret: str
    fresh: bool

    @property
    def contact(self) -> str:
        """The visitor's contact id."""
        return visitors.contact_of(self.bot.public_id, self.secret)

    @property
    def path(self) -> str:
        """The page's address."""
        return f"/chat/{self.bot.public_id}"


@dataclass(frozen=True, slots=True)
class Said:
    """What a visitor sent: words, a command, or a picture (``file``, see ``chat.ask``)."""

    text: str
    command: str = ""
    args: str = ""
    file: Mapping[str, Any] | None = None


async def _enter(request: web.Request) -> Room:
    """Return the bot and the visitor; raises ``NotFound``."""
    core = request.app[keys.CORE]
    public_id = request.match_info["public_id"]
    if not PUBLIC_ID.fullmatch(public_id):
        raise NotFound
    async with core.db.read() as session:
        bot, channel = await bots.by_public_id(session, public_id)
        spoken = await core.allowances.languages(session, bot)
    languages = tuple(code for code in LANGUAGES if code.split("-")[0] in spoken)
    wanted = (
        request.query.get("lang"),
        request.cookies.get(LANGUAGE_COOKIE),
        auth.accepted_language(request.headers.get("Accept-Language", "")),
        spoken[0],
    )
    language = next(code for code in wanted if code in languages)
    auth.visitor(request).language = str(language)
    secret = request.cookies.get(COOKIE, "")
    fresh = not SECRET.fullmatch(secret)
    return Room(core, bot, channel, languages, str(language), new_token() if fresh else secret, fresh)


def _remember(request: web.Request, response: web.StreamResponse, room: Room) -> None:
    """Give the visitor what makes the talk theirs, and keep the language of the switch."""

    def keep(name: str, value: str) -> None:
        response.set_cookie(
            name,
            value,
            max_age=COOKIE_AGE_S,
            path=room.path,
            httponly=True,
            samesite="Lax",
            secure=middlewares.behind_tls(request),
        )

    if room.fresh:
        keep(COOKIE, room.secret)
    if request.query.get("lang") == room.language:
        keep(LANGUAGE_COOKIE, room.language)


def _label(text: str, language: str) -> str:
    """Return what a command of the page's buttons is called on the button."""
    if text == "/operator":
        return translate(language, "Ask for a person")
    if text.startswith("/language "):
        return LANGUAGE_NAMES.get(text.removeprefix("/language "), text)
    return text


def _file(core: Core, file: models.Attachment, language: str) -> dict[str, Any]:
    """Return a file as the page needs it.

    ``url`` ends after some time; ``shown``: how the page itself can show it; ``width`` and ``height``: how large a picture is
    shown, in the browser's pixels, 0 where that is not known.
    """
    family = file.mime.partition("/")[0]
    name = file.name or (translate(language, "Photo") if file.kind == "photo" else translate(language, "File"))
    width, height = attachments.pixels(file)
    share = min(1.0, _SHOWN_PX / max(width, height, 1))
    return {
        "url": attachments.link(core, file.id),
        "name": name,
        "size": view.size(file.size, language),
        "shown": family if file.mime in attachments.INLINE else "",
        "width": round(width * share),
        "height": round(height * share),
    }


def _show(message: models.Message, language: str, files: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return a message as the page needs it: never more than the visitor may know."""
    said = message.text or (translate(language, "Photo") if message.kind == "photo" else "")
    said = said or (files[0]["name"] if files else "")
    # What only stands for a file gives way to it.
    instead = bool(files) and not message.text
    item: dict[str, Any] = {
        "id": message.id,
        "author": message.author,
        "text": _label(said, language) if message.author == "customer" else said,
        "at": message.created_at.isoformat(),
        "time": view.clock(message.created_at, language),
        "exact": view.exact(message.created_at, language),
        "buttons": [],
        "files": list(files),
        "instead": instead,
        "rating": (message.rating or 0) if ratings.may_be_rated(message) else None,
    }
    if isinstance(message.usage, dict) and message.usage.get("buttons"):
        item["buttons"] = [
            {"text": text, "data": data}
            for row in message.usage["buttons"]
            for text, data in row
            if str(data).startswith("lang:")
        ]
    return item


async def history_of(
    room: Room, *, before: str | None = None, after: str | None = None
) -> tuple[Page[dict[str, Any]], str]:
    """Return part of the visitor's talk, oldest first, and who answers in it."""
    async with room.core.db.read() as session:
        talk = await visitors.talk(session, room.channel, room.contact)
        if talk is None:
            return Page([], None), "bot"
        page = await conversations.messages(
            session, talk, cursor=after or before, limit=SHOWN, newest_first=after is None
        )
        items = await _items(session, room, page.items if after is not None else list(reversed(page.items)))
    return Page(items, page.next), talk.status


async def _items(session: AsyncSession, room: Room, messages: Sequence[models.Message]) -> list[dict[str, Any]]:
    """Return messages with their files as the page needs them."""
    kept = await attachments.of_messages(session, [message.id for message in messages])
    files = {
        id_: [_file(room.core, file, room.language) for file in found if file.status == "stored"]
        for id_, found in kept.items()
    }
    return [_show(message, room.language, files.get(message.id, ())) for message in messages]


def message_id(request: web.Request, name: str) -> str | None:
    """Return a message's id out of the address; None for what is none."""
    value = request.query.get(name, "")
    return value if _MESSAGE_ID.fullmatch(value) else None


async def page(request: web.Request) -> web.StreamResponse:
    """The page itself."""
    try:
        room = await _enter(request)
    except NotFound:
        return view.render(request, "chat/gone.html", status=404)
    return await _page(request, room)


async def _page(
    request: web.Request, room: Room, *, error: AppError | None = None, draft: str = ""
) -> web.StreamResponse:
    history, status = await history_of(room, before=message_id(request, "before"))
    response = view.render(
        request,
        "chat/page.html",
        status=error.status if error else 200,
        bot=room.bot,
        greeting=lines.said(room.bot.settings, "greeting", room.language, name=room.bot.name),
        resting=lines.said(room.bot.settings, "stopped", room.language),
        messages=history.items,
        earlier=history.next,
        talk_status=status,
        # Somebody still has to answer: without script the page looks again by itself.
        pending=bool(history.items) and history.items[-1]["author"] == "customer" and status not in ("human", "closed"),
        languages=room.languages,
        hue=sum(room.bot.public_id.encode()) % HUES,
        limit=room.core.settings.limits.message_chars,
        picture_types=",".join(uploads.TYPES),
        picture_bytes=room.core.settings.limits.picture_mib * 2**20,
        picture_kind=uploads.NOT_A_PICTURE.render(room.language),
        picture_large=uploads.too_large(room.core.settings.limits).text.render(room.language),
        fault=error.text.render(room.language) if error else None,
        draft=draft,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    _remember(request, response, room)
    return response


async def messages(request: web.Request) -> web.StreamResponse:
    """What was said after a message, as JSON."""
    if not await auth.limit_address(request, "chat-read", READS_PER_MINUTE, 60):
        raise TooMany
    room = await _enter(request)
    history, status = await history_of(room, after=message_id(request, "after") or "0")
    typing = status in ("waiting", "human") and await person_types(request, room)
    return web.json_response({"items": history.items, "status": status, "typing": typing})


async def person_types(request: web.Request, room: Room) -> bool:
    """Tell whether somebody in the panel is writing to this visitor."""
    async with room.core.db.read() as session:
        talk = await visitors.talk(session, room.channel, room.contact)
    return talk is not None and request.app[keys.PRESENCE].typing_s(talk.id) > 0


async def events(request: web.Request) -> web.StreamResponse:
    """What happens in the talk while the page is open, see :func:`watch`."""
    if not await auth.limit_address(request, "chat-read", READS_PER_MINUTE, 60):
        raise TooMany
    return await watch(request, await _enter(request))


async def watch(request: web.Request, room: Room) -> web.StreamResponse:
    """Tell a visitor of the own talk as it happens: events ``talk`` with ``items``, ``status`` and ``typing`` (a person is).

    The first one comes at once, with what was said after the message ``after`` of the address; what was said shortly before it
    may come again. The stream ends after some minutes, when the program stops, and where the database does not answer: whoever
    asks again with the last message misses nothing. 204 before the first message; raises ``TooMany``.
    """
    async with room.core.db.read() as session:
        talk = await visitors.talk(session, room.channel, room.contact)
    if talk is None:
        return web.Response(status=204)
    async with request.app[live.WATCHES].open(request, room.bot.id, talk.id, room.contact) as watched:
        response = streams.response()
        with contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            await _tell(request, room, watched, response, message_id(request, "after") or "0")
            await response.write_eof()
        return response


async def _tell(
    request: web.Request, room: Room, watched: live.Watch, response: web.StreamResponse, after: str
) -> None:
    loop = asyncio.get_running_loop()
    # Those who came together shall not come back together.
    ends = loop.time() + pauses.jitter(_WATCH_S, 0.8)
    # With how many files: a visitor's picture is fetched after its message was stored.
    known: dict[str, int] = {}
    cursor: str | None = None
    status, typing = "", False
    while watched.lives and not watched.ended and loop.time() < ends:
        watched.woken.clear()
        items: list[dict[str, Any]] = []
        before, typed = (status, typing), typing
        if watched.news:
            since = cursor or (earlier_id(after, _LATE_S) if after != "0" else after)
            known = {id_: files for id_, files in known.items() if id_ > since}
            watched.news = False
            try:
                history, status = await history_of(room, after=since)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", reason=str(error))
                return
            items = [item for item in history.items if known.get(item["id"]) != len(item["files"])]
            known |= {item["id"]: len(item["files"]) for item in items}
            after = max([after, *known])
            # There is more than one part of it: what the visitor has got, they have got.
            cursor, watched.news = history.next, watched.news or history.next is not None
        typing_s = request.app[keys.PRESENCE].typing_s(watched.talk_id)
        typing = typing_s > 0
        if items or typing or (status, typing) != before:
            event = streams.encode("talk", {"items": items, "status": status, "typing": typing})
            await response.write(f"id: {after}\n".encode() + event)
        elif not typed:
            await response.write(streams.HEARTBEAT)
        if watched.news:
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(typing_s or _STILL_HERE_S):
                await watched.woken.wait()


def read_said(form: forms.Form, limit: int) -> Said:
    """Return what was sent; raises ``Invalid`` for nothing, too much, or a button that is not ours."""
    data = form.fields.get("data", "")
    if data:
        if not data.startswith("lang:") or data.removeprefix("lang:") not in LANGUAGES:
            raise Invalid
        return Said("", "language", data.removeprefix("lang:"))
    if form.fields.get("operator"):
        return Said("", "operator")
    # Browsers send a new line as two characters; the person saw one.
    text = form.fields.get("text", "").replace("\r\n", "\n").strip()
    if len(text) > limit:
        raise Invalid(T("A message may have at most {n} characters.", n=limit), field="text")
    return Said(text)


async def send(request: web.Request) -> web.StreamResponse:
    """Take a visitor's message: as a stream of events for the script, else as a form that leads back to the page."""
    if not middlewares.from_here(request):
        # The cookie would not come along, but the bot would work.
        raise Forbidden(T("This form was sent from another site."), code="csrf")
    streamed = request.headers.get("Accept", "").startswith("text/event-stream")
    room = await _enter(request)
    form = await forms.read(request)
    try:
        await _admit(request, room)
        said = read_said(form, room.core.settings.limits.message_chars)
        if streamed:
            return await stream(request, room, said, form.fields.get("after", ""))
        await _ask(room, said, timeout_s=FORM_TIMEOUT_S)
    except Unavailable:
        # Stored, but not answered yet: the page says so by itself.
        if streamed:
            raise
    except AppError as error:
        if streamed:
            raise
        return await _page(request, room, error=error, draft=form.fields.get("text", "")[:20_000])
    response = web.Response(status=303, headers={"Location": f"{room.path}#last"})
    _remember(request, response, room)
    return response


async def picture(request: web.Request) -> web.StreamResponse:
    """Take a visitor's picture; answered by the same events as words are."""
    if not middlewares.from_here(request):
        raise Forbidden(T("This form was sent from another site."), code="csrf")
    room = await _enter(request)
    return await send_picture(request, room, _admit)


async def _admit(request: web.Request, room: Room) -> None:
    per_address = room.core.settings.limits.contact_messages_per_minute * PEOPLE_PER_ADDRESS
    if not await auth.limit_address(request, f"chat:{room.bot.id}", per_address, 60):
        raise TooMany(T("Too many messages. Please wait a minute and write again."), retry_after_s=60)


async def send_picture(
    request: web.Request, room: Room, admit: Callable[[web.Request, Room], Awaitable[None]]
) -> web.StreamResponse:
    """Store a visitor's picture, then take it as a message like any other; ``admit`` raises where there are too many.

    Raises ``TooLarge`` before it is read, ``Invalid`` for what is no picture, and ``TooMany``.
    """
    core, limits = room.core, room.core.settings.limits
    if (request.content_length or 0) > limits.picture_mib * 2**20 + _FORM_OVERHEAD:
        raise uploads.too_large(limits)
    await admit(request, room)
    if not await core.limits.hit(f"widget-picture:{room.contact}", _PICTURES_PER_MINUTE, 60):
        raise TooMany(T("Too many messages. Please wait a minute and write again."), retry_after_s=60)
    form = await forms.read(request)
    data = form.upload("file").data
    async with core.db.write() as session:
        kept = await uploads.keep(session, room.channel, data, limits)
    said = Said("", file={"upload": kept.id, "mime": kept.mime, "size": kept.size})
    return await stream(request, room, said, form.fields.get("after", ""))


async def rate(request: web.Request) -> web.StreamResponse:
    """Take a visitor's thumb for an answer of the own talk: JSON for the script, back to the page for a plain form."""
    if not middlewares.from_here(request):
        raise Forbidden(T("This form was sent from another site."), code="csrf")
    room = await _enter(request)
    rating = await rated(request, room)
    if middlewares.wants_json(request):
        return web.json_response({"rating": rating.value})
    return web.Response(status=303, headers={"Location": f"{room.path}#said-{rating.message_id}"})


async def rated(request: web.Request, room: Room) -> ratings.Rating:
    """Store the thumb of a form and return it; on what is no answer of the visitor's own talk it does nothing.

    Raises ``Invalid`` and ``TooMany``.
    """
    if not await auth.limit_address(request, f"rate:{room.bot.id}", _RATINGS_PER_MINUTE, 60):
        raise TooMany
    form = await forms.read(request)
    rating = ratings.pressed(form.fields.get("rating", ""))
    if rating is None:
        raise Invalid
    async with room.core.db.write() as session:
        talk = await visitors.talk(session, room.channel, room.contact)
        if talk is not None:
            await ratings.rate(session, talk.id, rating)
    if talk is not None:
        room.core.ring_talk(room.bot.id, talk.id)
    return rating


async def _ask(
    room: Room, said: Said, *, timeout_s: float = 60, on_event: Callable[[str, Any], None] | None = None
) -> chat.ChatReply | None:
    return await chat.ask(
        room.core,
        room.channel,
        room.bot,
        contact=room.contact,
        text=said.text,
        command=said.command,
        args=said.args,
        file=said.file,
        language_code=room.language,
        on_event=on_event,
        timeout_s=timeout_s,
    )


async def stream(request: web.Request, room: Room, said: Said, after: str) -> web.StreamResponse:
    """Answer with events: ``delta`` (a piece), ``restart`` (the pieces are void), ``message`` (a whole one), ``error``, ``done``.

    The asking goes on when the visitor leaves: the message is stored, the answer waits in the talk.
    """
    events: asyncio.Queue[streams.Event] = asyncio.Queue()
    known = after if _MESSAGE_ID.fullmatch(after) else "0"
    room.core.tasks.start(_converse(room, said, known, events), name="chat")
    first: streams.Event | None = None
    # What is refused is refused at once: with a status of its own, before a stream begins.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_EVENT_S):
            first = await events.get()
    if first is not None and isinstance(first[1], AppError):
        raise first[1]
    response = streams.response()
    _remember(request, response, room)
    await response.prepare(request)
    await streams.send(response, events, room.language, first=first)
    return response


async def _converse(room: Room, said: Said, after: str, events: asyncio.Queue[streams.Event]) -> None:
    """Ask, and put all that happens into ``events``; the last one is ``done`` or ``error``."""
    with streams.failures(events):
        reply = await _ask(room, said, on_event=streams.pieces(events))
        if reply is not None:
            async with room.core.db.read() as session:
                items = await _items(session, room, reply.messages)
            for item in items:
                events.put_nowait(("message", item))
        history, status = await history_of(room, after=after)
        # Everything that the page does not know yet, the visitor's own message with its id included.
        events.put_nowait(("done", {"items": history.items, "status": status}))


def setup(app: web.Application) -> None:
    """Add the page and what its script calls."""
    app.router.add_get("/chat/{public_id}", page)
    app.router.add_get("/chat/{public_id}/messages", messages)
    app.router.add_get("/chat/{public_id}/events", events, allow_head=False)
    app.router.add_post("/chat/{public_id}/messages", send)
    app.router.add_post("/chat/{public_id}/pictures", picture)
    app.router.add_post("/chat/{public_id}/ratings", rate)
