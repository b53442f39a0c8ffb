"""Meta's Graph API, which WhatsApp and Instagram share: calls, errors, signatures of webhooks.

Facts: developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes and
developers.facebook.com/docs/graph-api/webhooks/getting-started, checked 2026-11-21.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import aiohttp
from yarl import URL

from services.channels.base import (
    Blocked,
    FileGone,
    FileTooLarge,
    NotAllowed,
    PairLimited,
    Refused,
    Throttled,
    TokenRefused,
    Unreachable,
    Usage,
    WindowClosed,
)
from services.channels.wire import exchange
from services.errors import Temporary
from services.http import Inner, Missing, TooMuch, fetch_outside, origin

_TOKEN = frozenset({0, 102, 190, 131005})
_PERMISSION = frozenset({3, 10, *range(200, 300)})
_THROTTLED = frozenset({4, 17, 32, 613, 80006, 80007, 130429, 131048, 131057, 133016})
_GONE = frozenset({551, 131026})
# Money, locked accounts, registration of the number: nothing can be sent until the owner has seen to it.
_BLOCKED = frozenset({131042, 131031, 368, 130497, 131037, 131045, *range(133000, 133016)})
_PASSING = frozenset({1, 2, 131000, 131016})
_PAIR, _WINDOW = 131056, 131047
MEDIA_HOSTS = ("fbsbx.com", "facebook.com", "fbcdn.net", "cdninstagram.com")
"""Where Meta keeps what customers sent."""
# Instagram says by a subcode what the code leaves open.
_WINDOWS = frozenset({2534022, 2018278})
_NOBODY = frozenset({2018001, 2534014, 1545041})
_REPLIED = 2534025
_UPLOAD_S = 120
_USED_S = 600.0
"""So long an answer's word holds of how much is used."""
_REST_S, _REST_AT_MOST_S = 60.0, 3600.0
"""Who has used all rests so long where Meta does not say for how long, and so long at most."""
_MOST_TOKENS = 10_000

COMMANDS = frozenset({"start", "language", "operator", "help"})
"""What customers may write with a slash on networks that know no commands."""
COMMAND = re.compile(r"/([a-z]{2,16})(?:\s+(.*))?", re.DOTALL)
_NO_ID = re.compile(r"[^!-~]")


class RepliedAlready(Refused):
    """The one private reply that a comment may get has been written."""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` where it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any) -> list[Mapping[str, Any]]:
    """Return the JSON objects of a list; none where there is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def digits(value: Any) -> str:
    """Return an account's id, empty for what is none: it is looked up before anything is proved."""
    return value if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 32 else ""


def first_id(*candidates: Any) -> str:
    """Return the first id that is there, as rows and lanes can hold it; "-" where there is none."""
    return next((found for each in candidates if each and (found := _NO_ID.sub("", str(each))[:120])), "-")


def fingerprint(update: Mapping[str, Any]) -> str:
    """Return what tells an update from others where the network gives it no id."""
    return hashlib.sha256(json.dumps(update, sort_keys=True).encode()).hexdigest()[:40]


def proof_of(token: str, app_secret: str) -> str:
    """Return the ``appsecret_proof`` of a token: Meta refuses it where the secret is not that of the token's app."""
    return hmac.new(app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()


def signature_fits(app_secret: str, raw: bytes, header: str) -> bool:
    """Whether ``header`` (X-Hub-Signature-256) is that of the bytes that arrived; an empty secret fits nothing."""
    wanted = "sha256=" + hmac.new(app_secret.encode(), raw, hashlib.sha256).hexdigest()
    return bool(app_secret) and hmac.compare_digest(wanted.encode(), header.encode())


def problem(code: int, reason: str, status: int = 400, subcode: int = 0) -> Exception:
    """Return the exception that an error of the Graph API stands for, whether a call or a later status tells it."""
    if subcode in _WINDOWS or (code == 10 and "outside of allowed window" in reason):
        return WindowClosed(reason)
    if subcode in _NOBODY:
        return Unreachable(reason)
    if subcode == _REPLIED or code == _REPLIED:
        return RepliedAlready(reason)
    if code in _TOKEN:
        return TokenRefused(reason)
    if code in _PERMISSION:
        return NotAllowed(reason)
    if code in _THROTTLED:
        return Throttled(reason)
    if code == _PAIR:
        return PairLimited(reason)
    if code == _WINDOW:
        return WindowClosed(reason)
    if code in _GONE:
        return Unreachable(reason)
    if code in _BLOCKED:
        return Blocked(reason)
    if code in _PASSING or status >= 500:
        return Temporary(reason)
    return Refused(reason)


def described(error: Mapping[str, Any]) -> str:
    """Return an error's code and words in one line; of Meta's two texts the one that says more."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, Mapping) else None
    words = str(details or error.get("message") or error.get("title") or "")[:200]
    trace = str(error.get("fbtrace_id") or "")[:40]
    return f"{error.get('code')}: {words}" + (f" ({trace})" if trace else "")


def error_code(error: Mapping[str, Any]) -> int:
    """Return an error's code, -1 where it has none."""
    return _number(error.get("code"), -1)


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def used(headers: Mapping[str, str]) -> tuple[int, float] | None:
    """Return how much of its limits an account has used as the headers of an answer tell it: percent, and seconds until it may go
    on where that is all; None where they tell nothing. Of several counts the highest."""
    rows: list[Mapping[str, Any]] = []
    for name in ("X-App-Usage", "X-Business-Use-Case-Usage"):
        try:
            told = mapping(json.loads(headers.get(name) or "{}"))
        except ValueError:
            continue
        rows += [told, *(row for each in told.values() for row in listing(each))]
    counts = [row.get(name) for row in rows for name in ("call_count", "total_time", "total_cputime")]
    percents = [each for each in counts if isinstance(each, int | float) and not isinstance(each, bool)]
    waits = [_number(row.get("estimated_time_to_regain_access"), 0) for row in rows]
    return (int(max(percents)), max(waits) * 60.0) if percents else None


def token_end(about: Mapping[str, Any]) -> int:
    """Return when a token ends or may see nothing any more, whichever is first; 0 for never. Seconds since 1970."""
    ends = [
        each for name in ("expires_at", "data_access_expires_at") if isinstance(each := about.get(name), int) and each
    ]
    return min(ends, default=0)


def _named(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class GraphApi:
    """Calls the Graph API with any token. ``base``: its address; ``version``: such as ``v26.0``."""

    def __init__(self, session: aiohttp.ClientSession, base: str, version: str, *, timeout_s: float = 30) -> None:
        self._session = session
        self._bare = base.rstrip("/")
        self._root = f"{self._bare}/{version}"
        self._origin = origin(base)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=10)
        self._used: dict[str, tuple[float, int]] = {}

    def usage(self, token: str) -> Usage | None:
        """Return how much of the limits behind a token Meta said to be used; None where it said nothing lately."""
        until, percent = self._used.get(_named(token), (0.0, 0))
        left_s = until - time.monotonic()
        return Usage(percent, left_s) if left_s > 0 else None

    def _heed(self, token: str, headers: Mapping[str, str]) -> None:
        told = used(headers)
        if told is None:
            return
        percent, regain_s = told
        lasts_s = _USED_S if percent < 100 else min(max(regain_s, _REST_S), _REST_AT_MOST_S)
        if len(self._used) > _MOST_TOKENS:
            self._used.clear()
        self._used[_named(token)] = (time.monotonic() + lasts_s, percent)

    async def call(
        self,
        method: str,
        path: str,
        token: str,
        *,
        body: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str] | None = None,
        bare: bool = False,
    ) -> dict[str, Any]:
        """Call ``path`` and return its answer. ``bare``: one of the few paths without a version, whose token is a parameter.

        Raises ``Temporary`` (with ``sent`` when the request left and no answer came), its kind ``Away`` when it did not leave,
        or what :func:`problem` makes of an error. The token is never part of an exception's text.
        """
        headers = {} if bare else {"Authorization": f"Bearer {token}"}
        parameters = {**(parameters or {}), "access_token": token} if bare else parameters
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        url = f"{self._bare if bare else self._root}/{path}"
        about = {"data": data, "params": parameters, "headers": headers}
        return await self._exchange(method, url, token, self._timeout, **about)

    async def upload(
        self, path: str, token: str, fields: Mapping[str, str], content: bytes, name: str, mime: str
    ) -> dict[str, Any]:
        """Post a form with a file and return the answer; see :meth:`call`."""
        form = aiohttp.FormData(dict(fields), quote_fields=False)
        form.add_field("file", content, filename=name, content_type=mime)
        timeout = aiohttp.ClientTimeout(total=_UPLOAD_S, connect=10)
        headers = {"Authorization": f"Bearer {token}"}
        return await self._exchange("POST", f"{self._root}/{path}", token, timeout, data=form, headers=headers)

    async def _exchange(
        self,
        method: str,
        url: str,
        token: str,
        timeout: aiohttp.ClientTimeout,
        **request: Any,
    ) -> dict[str, Any]:
        status, answer = await exchange(
            self._session,
            "Meta",
            method,
            url,
            timeout=timeout,
            heed=partial(self._heed, token),
            **request,
        )
        error = answer.get("error")
        if isinstance(error, Mapping):
            reason = described(error).replace(token, "…")
            raise problem(error_code(error), reason, status, _number(error.get("error_subcode"), 0))
        if answer and error is None and status < 300:
            return answer
        if status == 429:
            raise Throttled("too many requests")
        # What is not in Meta's own words was said by something on the way; with a success, or where that gave up waiting for
        # Meta, it may have been carried out.
        raise Temporary(f"the answer {status} is not Meta's", sent=status < 300 or status == 504)

    async def download(
        self, address: str, limit: int, *, token: str = "", hosts: Collection[str] = MEDIA_HOSTS, timeout_s: float = 60
    ) -> bytes:
        """Return a file from an address that Meta gave; it and each redirect must lead to a public address.

        ``hosts``: the address must be of one of these or below it, unless it is that of the configured API; so the ``token`` goes
        to nobody else. Raises :class:`FileTooLarge`, :class:`FileGone`, ``Refused`` for a foreign address, or ``Temporary``.
        """
        try:
            host = URL(address).host or ""
            ours = origin(address) == self._origin
        except ValueError:
            raise Refused("not an address") from None
        if not ours and not (address.startswith("https://") and any(f".{host}".endswith(f".{h}") for h in hosts)):
            raise Refused("the file's address is not Meta's")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return await fetch_outside(
                self._session, address, limit, headers=headers, trusted={self._origin}, timeout_s=timeout_s
            )
        except TooMuch as error:
            raise FileTooLarge(str(error)) from None
        except Missing as error:
            raise FileGone(str(error)) from None
        except Inner as error:
            raise Refused(str(error)) from None
