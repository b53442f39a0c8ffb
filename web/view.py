"""From data to HTML: the template environment, what every page knows, and the static files."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp_jinja2
import jinja2
from aiohttp import web

from db.base import utcnow
from services.i18n import LANGUAGE_NAMES, LANGUAGES, T, Text, translate, translate_plural, translator
from web import auth

ROOT = Path(__file__).resolve().parent.parent
STATIC_DIR = ROOT / "web" / "static"
TEMPLATES_DIR = ROOT / "templates"
TASHKENT = ZoneInfo("Asia/Tashkent")
_YEAR = "public, max-age=31536000, immutable"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    gzipped: bytes | None
    kind: str


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    kind = _TYPES[path.suffix]
    if path.suffix in (".png", ".ico", ".woff2"):
        return _File(plain, None, kind)
    made = path.with_name(f"{path.name}.gz")
    # Set-up makes the neighbour; one that is older than its file is of an earlier version.
    if made.exists() and made.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return _File(plain, made.read_bytes(), kind)
    return _File(plain, gzip.compress(plain, 6, mtime=0), kind)


class StaticFiles:
    """The files under ``web/static``, read at the start (under 1 MB): no path from outside ever reaches the disk.

    One hash of all contents stands in the path, so that modules can import each other by relative names and everything
    may be kept by browsers for a year.
    """

    def __init__(self, folder: Path = STATIC_DIR) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in _TYPES
        }
        total = hashlib.sha256()
        for name, file in self._files.items():
            total.update(name.encode() + hashlib.sha256(file.plain).digest())
        self.version = total.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Return the address of a file; raises ``KeyError`` for one that is not there."""
        if name not in self._files:
            raise KeyError(f"no static file {name}")
        return f"/static/{self.version}/{name}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send a file, compressed where the browser takes it; an old version's page gets the present file, unkept."""
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        current = request.match_info["version"] == self.version
        headers = {
            "Content-Type": file.kind,
            "Cache-Control": _YEAR if current else "no-cache",
            "Vary": "Accept-Encoding",
        }
        if file.gzipped is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=file.gzipped, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=file.plain, headers=headers)


STATIC: web.AppKey[StaticFiles] = web.AppKey("static", StaticFiles)


def ago(language: str, moment: dt.datetime | None) -> str:
    """Return how long ago a moment was, in words: "3 minutes ago"."""
    if moment is None:
        return ""
    seconds = max(0, (utcnow() - moment).total_seconds())
    if seconds < 60:
        return translate(language, "just now")
    if seconds < 3600:
        return translate_plural(language, "{n} minute ago", "{n} minutes ago", int(seconds // 60))
    if seconds < 86_400:
        return translate_plural(language, "{n} hour ago", "{n} hours ago", int(seconds // 3600))
    if seconds < 30 * 86_400:
        return translate_plural(language, "{n} day ago", "{n} days ago", int(seconds // 86_400))
    return moment.astimezone(TASHKENT).strftime("%d.%m.%Y")


def exact(moment: dt.datetime | None) -> str:
    """Return a moment as the clock in Tashkent shows it."""
    return moment.astimezone(TASHKENT).strftime("%d.%m.%Y %H:%M") if moment else ""


def clock(moment: dt.datetime | None) -> str:
    """Return the time of day in Tashkent."""
    return moment.astimezone(TASHKENT).strftime("%H:%M") if moment else ""


def number(value: float) -> str:
    """Return a whole number with a narrow space between thousands."""
    return f"{int(value):,}".replace(",", "\u202f")


def phone(value: str | None) -> str:
    """Return ``+998 90 123 45 67`` for what is stored as ``+998901234567``."""
    if value and value.startswith("+998") and len(value) == 13:
        return f"+998 {value[4:6]} {value[6:9]} {value[9:11]} {value[11:]}"
    return value or ""


def size(value: int) -> str:
    """Return a file size for people."""
    if value < 1024:
        return f"{value} B"
    if value < 1024 * 1024:
        return f"{value / 1024:.0f} KB"
    return f"{value / 1024 / 1024:.1f} MB"


def usd(value: Decimal | str | None) -> str:
    """Return a cost in US dollars with as many places as it needs, at least two."""
    amount = Decimal(value or 0)
    if amount == 0:
        return "$0"
    places = 2 if amount >= 1 else 4 if amount >= Decimal("0.001") else 6
    return f"${amount:.{places}f}"


def make_environment(app: web.Application) -> None:
    """Set up Jinja: autoescape everywhere, missing names are errors."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        context_processors=[],
    )
    static = app[STATIC]
    environment.globals.update(
        static=static.url,
        BRAND="BotFactory",
        LANGUAGES=LANGUAGES,
        LANGUAGE_NAMES=LANGUAGE_NAMES,
        exact=exact,
        clock=clock,
        zip=zip,
    )
    environment.filters.update(number=number, phone=phone, size=size, usd=usd)


def render(request: web.Request, template: str, *, status: int = 200, **context: Any) -> web.Response:
    """Return a page. Every template knows ``_``, ``ngettext``, ``ago``, ``csrf``, ``user``, ``language``, ``theme``."""
    who = auth.visitor(request)
    language = who.language

    def ngettext(singular: str, plural: str, n: int, **params: object) -> str:
        return translate_plural(language, singular, plural, n, **params)

    base: dict[str, Any] = {
        "_": translator(language),
        "ngettext": ngettext,
        "ago": lambda moment: ago(language, moment),
        "csrf": who.csrf_token,
        "user": who.user,
        "language": language,
        "theme": who.theme,
        "path": request.path,
        "path_qs": request.path_qs,
        "error": None,
        "fault": None,
        "bot": None,
        "bots": (),
        "notices": (),
        "here": "",
        "toast": toast_text(request.query.get("done", ""), language),
        "noindex": True,
    }
    response = aiohttp_jinja2.render_template(template, request, {**base, **context}, status=status)
    response.enable_compression()
    return response


DONE: Mapping[str, Text] = {
    "saved": T("Saved."),
    "created": T("Your bot is ready. Now give it something to answer from."),
    "deleted": T("The bot was deleted."),
    "started": T("The bot answers again."),
    "stopped": T("The bot rests. Customers get one polite line."),
    "uploaded": T("Received. The bot is reading it now."),
    "document_deleted": T("The document was deleted. The bot has forgotten it."),
    "retry": T("The document is being read once more."),
    "answered": T("Thank you. The bot knows this from the next message on."),
    "dismissed": T("Taken off the list."),
    "answer_saved": T("Saved. The bot answers so from the next message on."),
    "answer_deleted": T("Deleted. The bot has forgotten this answer."),
    "talk_bot": T("The bot answers in this conversation again."),
    "talk_human": T("The conversation is yours. The bot is silent in it."),
    "talk_closed": T("The conversation is closed. When the customer writes again, the bot answers."),
    "web_connected": T("The bot’s page is open again."),
    "connected": T("Connected. Write to the bot in Telegram to try it."),
    "disconnected": T("Disconnected. The conversations stay readable."),
    "key_saved": T("Your OpenAI key is stored, encrypted."),
    "key_removed": T("Your OpenAI key was removed."),
    "password": T("The new password is set. All other devices were signed out."),
    "session_ended": T("That device was signed out."),
    "sessions_ended": T("All other devices were signed out."),
    "token_revoked": T("The token was revoked. Nothing can use it any more."),
    "welcome": T("Welcome! You are signed in."),
    "signed_out": T("You are signed out."),
}
"""What a page says after a form, by the short word in its address: the address never carries a text to show."""


def toast_text(word: str, language: str) -> str:
    """Return the line for a word of :data:`DONE`, nothing for any other."""
    text = DONE.get(word)
    return text.render(language) if text else ""


def redirect(location: str, *, toast: str = "") -> web.Response:
    """Send the browser on after a form; ``toast`` names the short line that the next page shows."""
    if toast:
        location += ("&" if "?" in location else "?") + f"done={toast}"
    return web.Response(status=303, headers={"Location": location})
