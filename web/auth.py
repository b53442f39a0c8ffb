"""Who is at the other end: address, language, theme, signed-in person; and what a session proves.

The cookie is encrypted and holds nothing but a random value. Signed in, its SHA-256 is a row of ``panel_sessions``, so a
session ends on the server; for a stranger it only carries the token that protects forms.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp_session import Session, new_session

from db import models
from services import access, accounts
from services.bell import session_topic
from services.crypto import derive, new_token
from services.errors import NotSignedIn
from services.i18n import DEFAULT_LANGUAGE, LANGUAGES, normalize_language
from services.limits import Limits
from web import keys

LANGUAGE_COOKIE = "language"
THEME_COOKIE = "theme"
PREFERENCE_AGE_S = 365 * 24 * 3600
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Visitor:
    """The person behind a request. ``session`` is None where the path carries no cookie of ours."""

    language: str = DEFAULT_LANGUAGE
    theme: str = "system"
    signed_in: accounts.SignedIn | None = None
    session: Session | None = None
    secret: str = field(default="", repr=False)
    _token: str = field(default="", repr=False)

    @property
    def user(self) -> models.User | None:
        """Who is signed in."""
        return self.signed_in.user if self.signed_in else None

    def csrf_token(self) -> str:
        """Return the token that forms of this page carry; makes the cookie at first use.

        It is masked anew on each page: pages are compressed, and a constant secret in them could be guessed by size (BREACH).
        """
        if self.session is None:
            return ""
        if not self._token:
            if not isinstance(self.session.get("id"), str):
                self.session["id"] = new_token()
            mask = secrets.token_bytes(32)
            self._token = (mask + _xor(mask, _csrf(self.secret, self.session["id"]))).hex()
        return self._token

    def csrf_fits(self, token: str) -> bool:
        """Tell whether ``token`` was made for this browser's present session."""
        known = self.session.get("id") if self.session is not None else None
        try:
            given = bytes.fromhex(token)
        except ValueError:
            return False
        if not isinstance(known, str) or len(given) != 64:
            return False
        return hmac.compare_digest(_xor(given[:32], given[32:]), _csrf(self.secret, known))


def _csrf(secret: str, session_value: str) -> bytes:
    return hmac.new(derive(secret, "csrf"), session_value.encode(), "sha256").digest()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


VISITOR: web.RequestKey[Visitor] = web.RequestKey("visitor", Visitor)


def public(handler: Any) -> Any:
    """Mark a page's handler as open to strangers; every other page asks to sign in first."""
    handler.is_public = True
    return handler


def deletion(handler: Any) -> Any:
    """Mark a page's handler as one that deletes: on a full disk it may use the room that is kept for deletions."""
    handler.is_deletion = True
    return handler


def visitor(request: web.Request) -> Visitor:
    """Return who is at the other end; a stranger where nothing was found out yet."""
    known = request.get(VISITOR)
    return known if known is not None else Visitor(language=preferred_language(request))


def user(request: web.Request) -> models.User:
    """Return the signed-in person; raises ``NotSignedIn``."""
    person = visitor(request).user
    if person is None:
        raise NotSignedIn
    return person


def preferred_language(request: web.Request) -> str:
    """Return the language a stranger wants: the cookie of the switch, else the browser's list, else Uzbek."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    return accepted_language(request.headers.get("Accept-Language", ""))


def accepted_language(header: str) -> str:
    """Return the first language of an ``Accept-Language`` header that we speak, by its weights; else Uzbek."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(header[:500].split(",")[:20]):
        code, _, weight = part.strip().partition(";q=")
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            continue
        if code.split("-")[0].lower() in ("uz", "ru", "en") and value > 0:
            wanted.append((-value, position, normalize_language(code)))
    return min(wanted)[2] if wanted else DEFAULT_LANGUAGE


def client_address(request: web.Request) -> str:
    """Return the address of the person: the peer, or as many steps back in ``X-Forwarded-For`` as proxies are trusted."""
    trusted = request.app[keys.CORE].settings.server.trusted_proxies
    peer = request.remote or ""
    if trusted == 0:
        return peer
    steps = [
        part.strip() for part in ",".join(request.headers.getall("X-Forwarded-For", [])).split(",") if part.strip()
    ]
    return steps[-trusted][:64] if len(steps) >= trusted else peer


def safe_next(target: str | None, default: str = "/dashboard") -> str:
    """Return ``target`` if it is a path of ours, else ``default``: never a way to another site."""
    if not target or len(target) > 500 or not target.startswith("/") or "\\" in target:
        return default
    if target.startswith(("//", "/%2f", "/%2F", "/%5c", "/%5C")) or any(ord(c) < 33 or ord(c) == 127 for c in target):
        return default
    parts = urlsplit(target)
    return target if not parts.scheme and not parts.netloc else default


async def sign_in(request: web.Request, person: models.User) -> None:
    """Sign this browser in under a new session id; the one it had before ends."""
    core = request.app[keys.CORE]
    who = visitor(request)
    before = who.signed_in
    async with core.db.write() as session:
        if before is not None:
            await accounts.close_all(session, before.user, only=before.session.id)
        value = await accounts.open_session(session, person, request.headers.get("User-Agent", ""))
        await access.record(session, person, "signed_in", "user", person.id)
    if before is not None:
        core.bell.ring(session_topic(before.session.id))
    who.session = await new_session(request)
    who.session["id"] = value
    who.session["in"] = True


async def sign_out(request: web.Request) -> None:
    """End this browser's session on the server and in the cookie, and close its event streams."""
    core = request.app[keys.CORE]
    who = visitor(request)
    if who.signed_in is not None:
        async with core.db.write() as session:
            await accounts.close_all(session, who.signed_in.user, only=who.signed_in.session.id)
        core.bell.ring(session_topic(who.signed_in.session.id))
    who.session = await new_session(request)
    who.session.invalidate()
    who.signed_in = None


async def limit_address(request: web.Request, what: str, limit: int, window_s: float) -> bool:
    """Count one use of ``what`` from this address; return whether it is allowed."""
    limits: Limits = request.app[keys.CORE].limits
    return await limits.hit(f"{what}:{client_address(request)}", limit, window_s)
