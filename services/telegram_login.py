"""Sign-in by Telegram's own log-in: OpenID Connect with the factory bot as the client (https://core.telegram.org/bots/telegram-login).

The browser goes to Telegram and comes back with a code, which is worth something only together with the bot's secret and the
verifier that this browser's session holds (PKCE). The token that we get for it is signed by Telegram for this bot alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
import jwt
import structlog

from services.crypto import same
from services.errors import Invalid, Unavailable
from services.i18n import T
from services.text import one_line

if TYPE_CHECKING:
    from services.core import Core
    from services.settings import Settings

log = structlog.get_logger(__name__)

SCOPES = "openid profile phone"
_TIMEOUT_S = 15
_LEEWAY_S = 30
_KEYS_FOR_S = 3600.0
_KEYS_PAUSE_S = 10.0
_MOST = 256 * 1024
REFUSED = T("Telegram did not confirm the sign-in. Please try again.")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom Telegram has signed in; ``phone`` as Telegram writes it, None where the person did not share it."""

    telegram_id: int
    name: str
    phone: str | None


def client_of(settings: Settings) -> tuple[str, str] | None:
    """Return the client's id, which is the factory bot's, and its secret; None where sign-in by Telegram is not set up."""
    token, secret = settings.secrets.telegram_bot_token, settings.secrets.telegram_login_secret
    if token is None or secret is None:
        return None
    return token.get_secret_value().partition(":")[0], secret.get_secret_value()


def redirect_of(settings: Settings) -> str:
    """Return the address that Telegram sends the browser back to; it has to be entered at BotFather."""
    return f"{settings.public_url}/login/telegram/callback"


def address(settings: Settings, *, state: str, nonce: str, verifier: str) -> str:
    """Return where the browser goes to sign in; raises ``Invalid`` where sign-in by Telegram is not set up."""
    client = client_of(settings)
    if client is None:
        raise Invalid(REFUSED, code="telegram_login")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": client[0],
        "redirect_uri": redirect_of(settings),
        "scope": SCOPES,
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{settings.telegram.oauth_base}/auth?{urlencode(query)}"


class TelegramLogin:
    """The provider as this process knows it: it keeps its keys for an hour."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._keys: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def person(self, *, code: str, nonce: str, verifier: str) -> Person:
        """Return who has signed in with this code.

        Raises ``Invalid`` (code ``telegram_login``) where Telegram, or what it has signed, does not say so, and ``Unavailable``
        where Telegram does not answer.
        """
        settings = self._core.settings
        client = client_of(settings)
        if client is None:
            raise Invalid(REFUSED, code="telegram_login")
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_of(settings),
            "client_id": client[0],
            "code_verifier": verifier,
        }
        answer = await self._ask("POST", "/token", data=fields, auth=aiohttp.BasicAuth(*client))
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Invalid(REFUSED, code="telegram_login")
        return _person(await self._claims(token, client[0]), nonce)

    async def _ask(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        url = self._core.settings.telegram.oauth_base + path
        try:
            async with self._core.http.request(
                method, url, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), allow_redirects=False, **options
            ) as answer:
                body = await answer.content.read(_MOST)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            log.warning("telegram_login_unreachable", path=path)
            raise Unavailable from None
        if status >= 500:
            raise Unavailable
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        if status != 200 or not isinstance(value, dict):
            # What is in it is not logged: it may hold the code.
            log.warning("telegram_login_refused", path=path, status=status)
            raise Invalid(REFUSED, code="telegram_login")
        return value

    async def _key(self, name: str) -> Any:
        """Return a key of the provider; an unknown one makes us look again, but not with every forged token."""
        async with self._lock:
            age = time.monotonic() - self._read_at
            if age > _KEYS_FOR_S or (name not in self._keys and age > _KEYS_PAUSE_S):
                found = await self._ask("GET", "/.well-known/jwks.json")
                try:
                    keys = jwt.PyJWKSet.from_dict(dict(found)).keys
                except jwt.PyJWTError:
                    raise Invalid(REFUSED, code="telegram_login") from None
                self._keys = {str(key.key_id): key.key for key in keys}
                self._read_at = time.monotonic()
            return self._keys.get(name)

    async def _claims(self, token: str, client_id: str) -> Mapping[str, Any]:
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise jwt.InvalidKeyError
            return jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=client_id,
                issuer=self._core.settings.telegram.oauth_base,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            log.warning("telegram_login_forged", reason=type(error).__name__)
            raise Invalid(REFUSED, code="telegram_login") from None


def _person(claims: Mapping[str, Any], nonce: str) -> Person:
    if not same(str(claims.get("nonce", "")), nonce):
        raise Invalid(REFUSED, code="telegram_login")
    # Not "sub": that is another number.
    number = str(claims.get("id", ""))
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 2**53:
        raise Invalid(REFUSED, code="telegram_login")
    phone = claims.get("phone_number")
    shown = f"+{phone.lstrip('+')}" if isinstance(phone, str) and phone else None
    return Person(int(number), one_line(str(claims.get("name") or ""), 100), shown)
