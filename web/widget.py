"""The chat of a bot on any site: the script that a site includes, and what that script calls.

No cookies: they would be a third party's on every site. A visitor is known by a random secret that we make, that the script
keeps in the site's own storage and sends in a header. Which sites may show a bot's chat the owner says; other sites' browsers
are refused before anything happens, and no answer ever allows credentials.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from services import attachments, bots, lines, metrics, uploads, widgets
from services.crypto import new_token
from services.errors import Forbidden, Invalid, NotFound, TooMany
from services.i18n import LANGUAGE_NAMES, LANGUAGES, T, translator
from web import auth, chat, forms, keys, view

VISITOR_HEADER = "X-Chat-Secret"
_SHARED = b"  // talk.js stands here.\n"
_SCRIPT_KEPT_S = 600
_PREFLIGHT_KEPT_S = 600
_ALLOWED: web.RequestKey[str] = web.RequestKey("allowed_origin", str)


class ForeignSite(Forbidden):
    """A site that the owner did not allow, or what says of no site."""

    code = "origin"
    default = T("This chat may not be used on this site. Its owner can allow the site in the panel.")


@dataclass(frozen=True, slots=True)
class _Script:
    """The script in one piece, ``plain`` and packed. ``etag`` is weak: it names what the script says, packed or not."""

    plain: bytes
    gzipped: bytes
    etag: str


_SCRIPT: web.AppKey[_Script] = web.AppKey("widget_script", _Script)


@functools.cache
def _script_of(static: view.StaticFiles) -> _Script:
    """Put together what sites include: one request, one version, and a site's policy has to allow one script.

    What the script shares with the chat page is a module there; in here its exports are plain names.
    """
    own, shared = static.open("widget.js")[0], static.open("talk.js")[0]
    before, place, after = own.partition(_SHARED)
    if not place:
        raise RuntimeError("widget.js has no place for talk.js")
    plain = before + shared.replace(b"\nexport ", b"\n") + after
    return _Script(plain, gzip.compress(plain, 9, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:24]}"')


async def script(request: web.Request) -> web.StreamResponse:
    """The script; sites keep it for ten minutes and then ask whether it has changed."""
    made = request.app[_SCRIPT]
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    headers = {
        "Cache-Control": f"public, max-age={_SCRIPT_KEPT_S}",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "ETag": made.etag,
        "Vary": "Accept-Encoding",
    }
    if made.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = "text/javascript; charset=utf-8"
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=made.gzipped if packed else made.plain, headers=headers)


async def _enter(request: web.Request, *, asks: bool = False) -> tuple[chat.Room, widgets.Look]:
    """Return the bot and the visitor; ``asks``: only a question of the browser, without a visitor.

    Raises ``NotFound``, and :class:`ForeignSite` before anything has happened.
    """
    core = request.app[keys.CORE]
    public_id = request.match_info["public_id"]
    if not chat.PUBLIC_ID.fullmatch(public_id):
        raise NotFound
    async with core.db.read() as session:
        bot, channel = await bots.by_public_id(session, public_id)
        spoken = await core.allowances.languages(session, bot)
    look = widgets.look(channel)
    languages = tuple(code for code in LANGUAGES if code.split("-")[0] in spoken)
    wanted = (
        request.query.get("language"),
        auth.accepted_language(request.headers.get("Accept-Language", "")),
        spoken[0],
    )
    language = next(str(code) for code in wanted if code in languages)
    auth.visitor(request).language = language
    origin = request.headers.get("Origin")
    if origin is not None:
        if not (look.allows(origin) or _own(request, origin)):
            raise ForeignSite
        request[_ALLOWED] = origin
    elif request.method != "GET":
        # Browsers always say where a message comes from.
        raise ForeignSite
    secret = request.headers.get(VISITOR_HEADER, "")
    if not asks and not chat.SECRET.fullmatch(secret):
        raise Invalid(code="secret")
    return chat.Room(core, bot, channel, languages, language, secret, fresh=False), look


def _own(request: web.Request, origin: str) -> bool:
    """Tell whether the page is our own: the panel shows the chat as well."""
    public = urlsplit(request.app[keys.CORE].settings.public_url)
    return origin in (f"{public.scheme}://{public.netloc}", f"{request.scheme}://{request.host}")


async def preflight(request: web.Request) -> web.StreamResponse:
    """Answer the browser's question whether a site may send what it wants to send."""
    await _enter(request, asks=True)
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": VISITOR_HEADER,
        "Access-Control-Max-Age": str(_PREFLIGHT_KEPT_S),
    }
    return web.Response(status=204, headers=headers)


async def _read_often(request: web.Request) -> None:
    if not await auth.limit_address(request, "widget-read", chat.READS_PER_MINUTE, 60):
        raise TooMany


async def config(request: web.Request) -> web.StreamResponse:
    """How the chat looks and what it says, in the visitor's language; with a secret for somebody who has none yet."""
    room, look = await _enter(request, asks=True)
    await _read_often(request)
    limits = room.core.settings.limits
    return web.json_response(
        {
            "name": room.bot.name,
            "language": room.language,
            "languages": [{"code": code, "name": LANGUAGE_NAMES[code]} for code in room.languages],
            "color": look.color,
            "ink": look.ink,
            "position": look.position,
            "greeting": look.greeting(room.bot, room.language),
            "resting": room.bot.status != "active",
            "limit": limits.message_chars,
            "picture": {"types": uploads.TYPES, "bytes": limits.picture_mib * 2**20},
            "words": _words(room),
            "secret": new_token(),
        }
    )


def _words(room: chat.Room) -> dict[str, str]:
    """Return what the chat says of itself, in the visitor's language."""
    limits = room.core.settings.limits
    _ = translator(room.language)
    return {
        "open": _("Write to us"),
        # {n} is filled by the script.
        "unread": _("New messages: {n}"),
        "close": _("Close the chat"),
        "language": _("Language"),
        "talk": _("Conversation"),
        "earlier": _("Earlier messages"),
        "you": _("You"),
        "operator": _("Operator"),
        "person": _("Ask for a person"),
        "picture": _("Send a picture"),
        "photo": _("Photo"),
        "message": _("Your message"),
        "write": _("Write a message…"),
        "send": _("Send"),
        "again": _("Send again"),
        "unsent": _("Not sent"),
        "writing": _("{name} is writing…", name=room.bot.name),
        "typing": _("An operator is writing…"),
        "up": _("Helpful"),
        "down": _("Not helpful"),
        "unrated": _("This was not saved. Please press again."),
        "bot": _("answers at once"),
        "waiting": _("a person has been called; meanwhile the bot answers"),
        "human": _("a person answers"),
        "rests": _("resting now"),
        "resting": lines.said(room.bot.settings, "stopped", room.language),
        "offline": _("You are offline. Your messages will be sent when the connection is back."),
        "lost": _("No connection. Your message is saved here and will be sent when the connection is back."),
        "slow": _("The answer is taking longer than usual. It will appear here."),
        "empty": _("Write a message first."),
        "long": _("A message may have at most {n} characters.", n=limits.message_chars),
        "large": uploads.too_large(limits).text.render(room.language),
        "kind": uploads.NOT_A_PICTURE.render(room.language),
    }


async def messages(request: web.Request) -> web.StreamResponse:
    """Part of the visitor's talk, oldest first: what was said after a message, before one, or last."""
    room, _ = await _enter(request)
    await _read_often(request)
    after = chat.message_id(request, "after")
    history, status = await chat.history_of(room, before=chat.message_id(request, "before"), after=after)
    typing = status in ("waiting", "human") and await chat.person_types(request, room)
    return web.json_response({"items": history.items, "next": history.next, "status": status, "typing": typing})


async def events(request: web.Request) -> web.StreamResponse:
    """What happens in the visitor's talk while the chat is open, see :func:`web.chat.watch`."""
    room, _ = await _enter(request)
    await _read_often(request)
    return await chat.watch(request, room)


async def rate(request: web.Request) -> web.StreamResponse:
    """Take a visitor's thumb for an answer of the own talk."""
    room, _ = await _enter(request)
    rating = await chat.rated(request, room)
    return web.json_response({"rating": rating.value})


async def file(request: web.Request) -> web.StreamResponse:
    """Give a picture of this bot's to be drawn: signed as a link to it, without the visitor's secret.

    A site's policy for pictures does not matter for what its script has asked for; links to files need none of this.
    """
    room, _ = await _enter(request, asks=True)
    await _read_often(request)
    found, content = await attachments.opened(room.core, request.match_info["token"])
    if found.bot_id != room.bot.id or found.mime not in uploads.TYPES or found.mime not in attachments.INLINE:
        raise NotFound
    return web.Response(body=content, content_type=found.mime, headers={"Cache-Control": "private, max-age=600"})


async def _admit(request: web.Request, room: chat.Room) -> None:
    """Count a message of this address, this visitor and this bot; raises ``TooMany`` before anything of it is stored."""
    limits, allowed = room.core.limits, room.core.settings.limits
    per_address = allowed.contact_messages_per_minute * chat.PEOPLE_PER_ADDRESS
    counts = (
        ("address", f"widget:{room.bot.id}:{auth.client_address(request)}", per_address),
        ("contact", f"widget-contact:{room.contact}", allowed.contact_messages_per_minute),
        ("bot", f"widget-bot:{room.bot.id}", allowed.bot_messages_per_minute),
    )
    for name, key, most in counts:
        if not await limits.hit(key, most, 60):
            metrics.OVER_LIMIT.labels(f"widget_{name}").inc()
            raise TooMany(T("Too many messages. Please wait a minute and write again."), retry_after_s=60)


async def send(request: web.Request) -> web.StreamResponse:
    """Take a visitor's message and answer it with a stream of events, as the chat page does."""
    room, _ = await _enter(request)
    await _admit(request, room)
    form = await forms.read(request)
    said = chat.read_said(form, room.core.settings.limits.message_chars)
    return await chat.stream(request, room, said, form.fields.get("after", ""))


async def picture(request: web.Request) -> web.StreamResponse:
    """Take a visitor's picture: stored first, then a message like any other."""
    room, _ = await _enter(request)
    return await chat.send_picture(request, room, _admit)


async def set_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let the site that asked read the answer, where the owner allows it; errors too, for their words are for the visitor."""
    if not request.path.startswith("/widget/"):
        return
    response.headers["Vary"] = "Origin"
    origin = request.get(_ALLOWED)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"


def setup(app: web.Application) -> None:
    """Add the script and what it calls."""
    app.on_response_prepare.append(set_cors)
    app[_SCRIPT] = _script_of(app[view.STATIC])
    app.router.add_get("/widget.js", script)
    for path, method, handler in (
        ("config", "GET", config),
        ("messages", "GET", messages),
        ("events", "GET", events),
        ("messages", "POST", send),
        ("pictures", "POST", picture),
        ("ratings", "POST", rate),
        ("files/{token}", "GET", file),
    ):
        app.router.add_route(method, f"/widget/{{public_id}}/{path}", handler)
    for path in ("config", "messages", "events", "pictures", "ratings"):
        app.router.add_route("OPTIONS", f"/widget/{{public_id}}/{path}", preflight)
