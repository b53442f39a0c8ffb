"""What went wrong, in the words of :mod:`services.ai.base`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp
import orjson

from services.ai.base import (
    BadOutput,
    BadRequest,
    Busy,
    Failure,
    KeyRefused,
    Refused,
    Retired,
    TooLarge,
    TooLong,
    Transient,
)
from services.ai.transport.http import HttpFailure, TooBig

_SECRETS = re.compile(r"\b(?:sk|pk|rk|key|AIza|AQ)[-_.*A-Za-z0-9]{8,}", re.ASCII)


def shorten(message: object, api_key: str) -> str:
    """The first words of a provider's message without anything that looks like a key."""
    text = str(message).replace(api_key, "***") if api_key else str(message)
    return _SECRETS.sub("***", text)[:200]


def raise_failure(error: BaseException, api_key: str) -> NoReturn:
    """Turn what :class:`SdkHttp` raised into the failure the router knows. Anything else is raised as it is."""
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, HttpFailure | TimeoutError | aiohttp.ClientError):
        cause = cause.__cause__  # the anthropic SDK wraps whatever its client raises
    if isinstance(cause, HttpFailure):
        raise from_status(cause.status, cause.headers, cause.body, api_key) from None
    if isinstance(cause, TooBig):
        raise TooLarge("the answer is too large").with_facts(http_status=200) from None
    if isinstance(cause, orjson.JSONDecodeError):
        # Not "from": the error holds the whole document.
        raise BadOutput("the answer is not JSON").with_facts(http_status=200) from None
    if isinstance(cause, TimeoutError):
        raise Transient("no answer in time", sent=True) from None
    if isinstance(cause, aiohttp.ClientConnectorError | ssl.SSLError):
        raise Transient(f"no connection: {type(cause).__name__}") from None
    if isinstance(cause, aiohttp.ClientError | OSError):
        raise Transient(f"connection lost: {type(cause).__name__}", sent=True) from None
    if isinstance(cause, AttributeError | KeyError | IndexError | TypeError | ValueError):
        raise BadOutput(f"an answer of unexpected shape: {type(cause).__name__}").with_facts(http_status=200) from cause
    raise error


def from_status(status: int, headers: Mapping[str, str], body: bytes, api_key: str) -> Failure:
    """Class an HTTP failure of any of the providers (their formats are alike enough to be read in one place)."""
    error = _error_object(body)
    message = str(error.get("message") or "")
    lowered = message.lower()
    words = {str(error.get(k)) for k in ("code", "type", "status")} | _reasons(error)
    failure: Failure
    if status in (401, 402, 403) or "API_KEY_INVALID" in words or "api key not valid" in lowered:
        failure = KeyRefused("no_money" if status == 402 else "forbidden" if status == 403 else "invalid")
    elif _out_of_money(words, lowered):
        failure = KeyRefused("no_money")
    elif status in (429, 529):
        failure = Busy(f"busy: HTTP {status}", retry_after_s=_delay(headers, error))
    elif status == 404 or "no longer available" in lowered or "model_not_found" in words:
        failure = Retired(f"not available: {shorten(message, api_key)}")
    elif status == 413 or _is_too_long(words, lowered):
        failure = TooLong(f"too long: HTTP {status}")
    elif words & {"content_policy_violation", "content_filter", "invalid_prompt"}:
        failure = Refused("refused by the provider")
    elif status == 408 or status >= 500:
        failure = Transient(f"HTTP {status}", retry_after_s=_delay(headers, error), sent=True)
    else:
        failure = BadRequest(f"HTTP {status}: {shorten(message, api_key)}")
    return failure.with_facts(http_status=status)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(payload, list) and payload:
        payload = payload[0]  # Gemini wraps errors of streams in a list
    error = payload.get("error", payload) if isinstance(payload, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []


def _reasons(error: Mapping[str, Any]) -> set[str]:
    return {str(d["reason"]) for d in _details(error) if "reason" in d}


def _out_of_money(words: set[str], message: str) -> bool:
    return bool(words & {"insufficient_quota", "billing_error", "billing_hard_limit_reached"}) or any(
        part in message for part in ("credit balance is too low", "credits are depleted", "spending cap")
    )


def _is_too_long(words: set[str], message: str) -> bool:
    return "context_length_exceeded" in words or any(
        part in message
        for part in (
            "prompt is too long",
            "maximum context length",
            "exceeds the maximum number of tokens",
            "context window",
            "exceed context limit",
        )
    )


def _delay(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds to wait, from ``Retry-After`` (a number) or Google's ``RetryInfo``."""
    for value in (headers.get("retry-after"), *(d.get("retryDelay") for d in _details(error))):
        try:
            seconds = float(str(value).removesuffix("s"))
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None
