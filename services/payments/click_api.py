"""Click's Merchant API: giving money back. Facts: https://docs.click.uz/merchant-api"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import aiohttp
import orjson

from services.errors import Permanent, Temporary

_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)


def auth(merchant_user_id: int, secret: str, timestamp: int) -> str:
    """Return the ``Auth`` header at a moment (seconds since 1970)."""
    proof = hashlib.sha1(f"{timestamp}{secret}".encode(), usedforsecurity=False).hexdigest()
    return f"{merchant_user_id}:{proof}:{timestamp}"


class ClickApi:
    """The API of one service at ``base``. ``clock``: seconds since 1970."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base: str,
        service_id: int,
        merchant_user_id: int,
        secret: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http, self._base, self._service_id = http, base, service_id
        self._merchant_user_id, self._secret, self._clock = merchant_user_id, secret, clock

    async def reverse(self, paydoc_id: str) -> None:
        """Give the money of a payment back; ``paydoc_id``: Click's number of it.

        Raises ``Temporary``, or ``Permanent`` with what Click says against it (a second reversal is refused, too).
        """
        address = f"{self._base}/payment/reversal/{self._service_id}/{paydoc_id}"
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Auth": auth(self._merchant_user_id, self._secret, int(self._clock())),
        }
        try:
            async with self._http.delete(address, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as answer:
                status, raw = answer.status, await answer.content.read(64 * 1024)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Temporary(type(error).__name__, sent=True) from None
        if status == 429 or status >= 500:
            raise Temporary(f"HTTP {status}")
        try:
            told = orjson.loads(raw)
            code, note = int(told["error_code"]), str(told.get("error_note") or "")
        except (ValueError, TypeError, KeyError):
            raise Permanent(f"HTTP {status}") from None
        if code != 0:
            raise Permanent(f"{code} {note}"[:200])
