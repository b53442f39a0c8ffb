"""What a payment gateway is: it reads its own words, asks the ledger, and answers in its own words.

Plain data in and out. A gateway knows neither the database nor who pays for what; the ledger knows no gateway's words.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

AttemptState = Literal["waiting", "performed", "cancelled", "reversed"]
Standing = Literal["payable", "paid", "closed"]

TIMED_OUT = 4
"""Why an attempt was cancelled: it was not performed in time (Payme's number for it, used for all)."""
MAX_BODY = 64 * 1024
"""Bytes of a call; theirs have less than one thousand."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_MAX_MS = 7_258_118_400_000
_WORD = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it arrived at the moment ``at``.

    ``action``: the last part of its address; ``body`` is None where it was too long or never whole.
    """

    method: str
    action: str
    authorization: str
    body: bytes | None
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is understood and proved to be the gateway's.

    ``live``: real money; False for a test key's. ``values``: what the gateway needs to answer. ``kept``: what may be stored of
    it: no secrets, nothing of a card or a person.
    """

    action: str
    values: Mapping[str, Any]
    kept: Mapping[str, Any]
    live: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``code``: what it comes to in the gateway's words, for the log and the payment's life."""

    body: Mapping[str, Any]
    code: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be paid. ``standing``: whether a new attempt may be made. ``fiscal``: of the configured plan, may be empty."""

    number: str
    amount_tiyin: int
    standing: Standing
    title: str
    fiscal: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A gateway's attempt to have an order paid; ``id`` is ours, ``external_id`` the gateway's."""

    id: int
    external_id: str
    number: str
    amount_tiyin: int
    state: AttemptState
    reason: int | None
    provider_time: dt.datetime
    created_at: dt.datetime
    performed_at: dt.datetime | None
    cancelled_at: dt.datetime | None


class Ledger(Protocol):
    """What a gateway may ask and do: all of one call is one transaction, and an order that was named is locked in it.

    An attempt whose time is over is found cancelled, for the reason :data:`TIMED_OUT`.
    """

    now: dt.datetime

    async def order(self, number: str) -> Order | None:
        """Return what is called so; None also for what this key may not touch."""

    async def attempt(self, external_id: str) -> Attempt | None:
        """Return the attempt that the gateway calls so."""

    async def numbered(self, order: Order, id_: int) -> Attempt | None:
        """Return the attempt that we call so, if it is for this order."""

    async def is_busy(self, order: Order) -> bool:
        """Tell whether an attempt of this gateway waits for the order."""

    async def create(
        self, order: Order, external_id: str, *, provider_time: dt.datetime, details: Mapping[str, Any] | None = None
    ) -> Attempt:
        """Begin an attempt for an order that is payable."""

    async def perform(self, attempt: Attempt, details: Mapping[str, Any] | None = None) -> Attempt | Standing:
        """Let a waiting attempt pay its order; return it performed, or why the order cannot be paid by it."""

    async def cancel(self, attempt: Attempt, reason: int | None) -> Attempt | None:
        """Cancel what waits, or take back what was performed; None where that cannot be taken back."""

    async def keep(self, attempt: Attempt, name: str, value: Mapping[str, Any]) -> None:
        """Keep what the gateway tells of an attempt."""

    async def statement(self, since: dt.datetime, until: dt.datetime) -> Sequence[Attempt]:
        """Return all attempts of the gateway by its own time, both ends included, the oldest first."""

    async def alarm(self, attempt: Attempt) -> None:
        """Tell the administrators that the gateway contradicts itself about a performed attempt."""


class Gateway(Protocol):
    """One gateway. ``actions``: the last parts of its addresses; empty: it has one address."""

    kind: str
    title: str
    life: dt.timedelta
    actions: Sequence[str]

    def read(self, call: Call) -> Asked | Reply:
        """Return what is asked, or the refusal of what is malformed or not proved to come from the gateway."""

    async def answer(self, asked: Asked, ledger: Ledger) -> Reply:
        """Do what is asked."""

    def failed(self, asked: Asked) -> Reply:
        """Return the answer for a failure of ours, after which the gateway asks again."""

    def link(self, order: Order, *, language: str, return_url: str, sandbox: bool) -> str:
        """Return the address where a person pays an order and comes back from to ``return_url``; that and ``language`` may be
        empty.
        """


def same(left: str, right: str) -> bool:
    """Compare two texts in constant time, whatever characters they hold."""
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def basic_credentials(header: str) -> str | None:
    """Return ``user:password`` of an ``Authorization: Basic`` header, None where it is none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 2000:
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def json_of(body: bytes | None) -> Any:
    """Return what the JSON of a call's body says; None for a body that is too long, never was whole or is no JSON."""
    try:
        return orjson.loads(body) if body is not None and len(body) <= MAX_BODY else None
    except ValueError:
        return None


def word(value: Any) -> str | None:
    """Return an identifier of a gateway's: up to 64 printable characters of ASCII; None for anything else."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def number_in(value: Any) -> str:
    """Return the order's number as a person may have typed it; empty for what cannot be one."""
    text = str(value).strip() if isinstance(value, str) or type(value) is int else ""
    return text if len(text) <= 20 and text.isascii() and text.isdigit() else ""


def integer(value: Any) -> int | None:
    """Return a whole number that a database takes; None for anything else, a number with a point included."""
    return value if type(value) is int and -(2**63) < value < 2**63 else None


def to_ms(moment: dt.datetime | None) -> int | None:
    """Return milliseconds since 1970."""
    return None if moment is None else (moment - _EPOCH) // _MILLISECOND


def from_ms(value: Any) -> dt.datetime | None:
    """Return the moment of milliseconds since 1970, None for what is none."""
    number = integer(value)
    return _EPOCH + number * _MILLISECOND if number is not None and 0 <= number < _MAX_MS else None


def som(tiyin: int) -> str:
    """Return an amount in so'm with two places after the point, as gateways write it."""
    return f"{tiyin // 100}.{tiyin % 100:02}"


def shortened(value: Any, depth: int = 3) -> Any:
    """Return what a gateway sent, bounded, to be kept."""
    if isinstance(value, Mapping) and depth:
        return {str(name)[:40]: shortened(each, depth - 1) for name, each in list(value.items())[:40]}
    if isinstance(value, bool | int | float | None):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text.replace("\x00", "")[:200]
