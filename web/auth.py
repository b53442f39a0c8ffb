"""Who is at the other end: address, language, theme, signed-in person; and what a session proves.

The cookie is encrypted and holds nothing but a random value. Signed in, its SHA-256 is a row of ``panel_sessions``, so a
session ends on the server; for a stranger it only carries the token that protects forms.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp_session import Session, new_session

from db import models
from db.base import utcnow
from services import access, accounts, second_factor, views
from services.bell import session_topic
from services.crypto import derive, digest, new_token, same
from services.errors import NotSignedIn
from services.i18n import DEFAULT_LANGUAGE, LANGUAGES, normalize_language
from services.limits import Limits, network_of
from web import keys

LANGUAGE_COOKIE = "language"
THEME_COOKIE = "theme"
PREFERENCE_AGE_S = 365 * 24 * 3600
HALF_IN_S = 600
_PEOPLE = 8
"""So many accounts a browser remembers."""

log = structlog.get_logger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Visitor:
    """The person behind a request. ``session`` is None where the path carries no cookie of ours.

    ``new_device``: whose browser this is from now on: it gets a cookie that says so. ``view``: the remote view that is open
    here; ``signed_in`` names the owner then, and ``admin`` who really sits there.
    """

    language: str = DEFAULT_LANGUAGE
    theme: str = "system"
    signed_in: accounts.SignedIn | None = None
    session: Session | None = None
    secret: str = field(default="", repr=False)
    new_device: str = ""
    view: models.RemoteView | None = None
    admin: models.User | None = None
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
            self._token = (mask + _xor(mask, _csrf(self.secret, self._place(self.session["id"])))).hex()
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
        return hmac.compare_digest(_xor(given[:32], given[32:]), _csrf(self.secret, self._place(known)))

    def _place(self, value: str) -> str:
        """Return where a form stands: one of the administrator's own does nothing in an owner's panel, and the reverse."""
        return f"{value}:{self.view.id}" if self.view is not None else value


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
    """Return what a person is counted by: the peer, or as many steps back in ``X-Forwarded-For`` as proxies are trusted.

    Of an IPv6 address it is the network, see :func:`services.limits.network_of`.
    """
    return network_of(_address(request))


def _address(request: web.Request) -> str:
    core = request.app[keys.CORE]
    trusted = core.settings.server.trusted_proxies
    peer = request.remote or ""
    if trusted == 0:
        if "X-Forwarded-For" in request.headers and "proxy" not in core.told_once:
            core.told_once.add("proxy")
            log.warning(
                "proxy_not_trusted",
                hint="X-Forwarded-For arrives, but [server] trusted_proxies is 0: if a proxy of yours stands in front, all "
                "people count as one address at the limits against guessing. Set it to the number of your proxies.",
            )
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


async def enter(request: web.Request, person: models.User) -> bool:
    """Sign in who has shown the first proof; return False where the second one is still to come at ``/login/code``."""
    if not second_factor.is_on(person):
        await sign_in(request, person)
        return True
    await sign_out(request)
    who = visitor(request)
    who.session = await new_session(request)
    who.session["id"] = new_token()
    who.session["half"] = {"user": person.id, "until": int(time.time()) + HALF_IN_S, "proof": _first_proof(person)}
    return False


def _first_proof(person: models.User) -> str:
    """Return what changes when the first proof has become worthless."""
    return digest(f"{person.password_hash}:{person.totp_secret}")


async def half_in(request: web.Request) -> models.User | None:
    """Return who has shown the first proof in this browser within the last minutes and owes the second one."""
    who = visitor(request)
    half = who.session.get("half") if who.session is not None else None
    if not isinstance(half, dict) or not isinstance(half.get("until"), int) or half["until"] < time.time():
        return None
    async with request.app[keys.CORE].db.read() as session:
        person = await accounts.by_id(session, str(half.get("user")))
    if person is None or person.banned_at is not None or half.get("proof") != _first_proof(person):
        return None
    return person


def _device_cookie(request: web.Request) -> str:
    tls = request.app[keys.CORE].settings.public_url.startswith("https://")
    return "__Host-device" if tls else "device"


def _device_proof(secret: str, user_id: str, name: str) -> str:
    return hmac.new(derive(secret, "device"), f"{user_id}:{name}".encode(), "sha256").hexdigest()


def device(request: web.Request) -> accounts.Device | None:
    """Return what the browser's cookie shows of who has signed in here before; None where it shows nothing of ours."""
    user_id, _, rest = request.cookies.get(_device_cookie(request), "")[:200].partition(".")
    name, _, proof = rest.partition(".")
    if not proof or not same(proof, _device_proof(request.app[keys.CORE].secret, user_id, name)):
        return None
    return accounts.Device(user_id, name)


def _people_cookie(request: web.Request) -> str:
    return _device_cookie(request).replace("device", "people")


def _people_proof(request: web.Request, ids: str) -> str:
    return hmac.new(derive(request.app[keys.CORE].secret, "people"), ids.encode(), "sha256").hexdigest()


def people(request: web.Request) -> list[str]:
    """Return the ids of the accounts that were signed in to in this browser, the last first, as far as it remembers."""
    known = device(request)
    last = [known.user_id] if known is not None else []
    ids, _, proof = request.cookies.get(_people_cookie(request), "")[:400].partition(".")
    before = ids.split("-") if proof and same(proof, _people_proof(request, ids)) else []
    return list(dict.fromkeys((*last, *before)))


def keep_device(request: web.Request, response: web.StreamResponse) -> None:
    """Give a browser in which somebody has just signed in the cookies that :func:`device` and :func:`people` read."""
    who = visitor(request)
    if not who.new_device or response.prepared:
        return
    name = new_token(16)
    value = f"{who.new_device}.{name}.{_device_proof(request.app[keys.CORE].secret, who.new_device, name)}"
    secure = request.app[keys.CORE].settings.public_url.startswith("https://")
    ids = "-".join(list(dict.fromkeys((who.new_device, *people(request))))[:_PEOPLE])
    for cookie, content in (
        (_device_cookie(request), value),
        (_people_cookie(request), f"{ids}.{_people_proof(request, ids)}"),
    ):
        response.set_cookie(
            cookie,
            content,
            max_age=PREFERENCE_AGE_S,
            samesite="Lax",
            httponly=True,
            secure=secure,
            path="/",
        )


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
    who.new_device = person.id


async def sign_out(request: web.Request) -> None:
    """End this browser's session on the server and in the cookie, and close its event streams."""
    core = request.app[keys.CORE]
    who = visitor(request)
    if who.signed_in is not None:
        async with core.db.write() as session:
            if who.view is not None and who.admin is not None:
                await views.end(session, who.admin, who.view, now=utcnow())
            await accounts.close_all(session, who.admin or who.signed_in.user, only=who.signed_in.session.id)
        core.bell.ring(session_topic(who.signed_in.session.id))
    who.session = await new_session(request)
    who.session.invalidate()
    who.signed_in = who.view = who.admin = None


async def limit_address(request: web.Request, what: str, limit: int, window_s: float) -> bool:
    """Count one use of ``what`` from this address; return whether it is allowed."""
    limits: Limits = request.app[keys.CORE].limits
    return await limits.hit(f"{what}:{client_address(request)}", limit, window_s)
