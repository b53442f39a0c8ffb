"""Click SHOP API: Prepare and Complete, forms in and JSON out.

Facts: https://docs.click.uz/shop-api/requests and https://docs.click.uz/shop-api/errors
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode

from services.payments.base import (
    MAX_BODY,
    Asked,
    Attempt,
    Call,
    Ledger,
    Order,
    Reply,
    number_in,
    same,
    shortened,
    som,
)

_ACTIONS = {"prepare": "0", "complete": "1"}
_NEEDED = (
    "click_trans_id",
    "service_id",
    "merchant_trans_id",
    "amount",
    "action",
    "error",
    "sign_time",
    "sign_string",
)
# What of a call is kept.
_KEPT = (
    "click_trans_id",
    "service_id",
    "click_paydoc_id",
    "merchant_trans_id",
    "merchant_prepare_id",
    "amount",
    "action",
    "error",
    "error_note",
    "sign_time",
)
_NOTES: Mapping[int, str] = {
    0: "Success",
    -1: "SIGN CHECK FAILED!",
    -2: "Incorrect parameter amount",
    -3: "Action not found",
    -4: "Already paid",
    -5: "User does not exist",
    -6: "Transaction does not exist",
    -7: "Failed to update user",
    -8: "Error in request from click",
    -9: "Transaction cancelled",
}
_NUMBER = re.compile(r"[0-9]{1,19}")
_SIGNED_NUMBER = re.compile(r"-?[0-9]{1,9}")
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_MAX_FIELDS = 40


def sign(fields: Mapping[str, str], secret: str) -> str:
    """Return the signature of a call over its texts as they were received; Complete has the prepare id in it."""
    prepared = fields.get("merchant_prepare_id", "") if fields["action"] == "1" else ""
    parts = [fields["click_trans_id"], fields["service_id"], secret, fields["merchant_trans_id"], prepared]
    parts += [fields["amount"], fields["action"], fields["sign_time"]]
    # The protocol's own digest; the secret inside is what proves the call.
    return hashlib.md5("".join(parts).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def tiyin_of(amount: str) -> int | None:
    """Return an amount of so'm, written as a decimal number, in tiyin; None for anything else."""
    if not _AMOUNT.fullmatch(amount):
        return None
    tiyin = Decimal(amount) * 100
    return int(tiyin) if tiyin == tiyin.to_integral_value() else None


class Click:
    """A service of Click's; ``secret`` as its cabinet shows it, empty where not given."""

    kind = "click"
    title = "Click"
    # Not in the documentation. What is completed later is refused as cancelled, and Click gives the money back.
    life = dt.timedelta(hours=12)
    actions: Sequence[str] = tuple(_ACTIONS)

    def __init__(self, service_id: int, merchant_id: int, secret: str, *, checkout: str) -> None:
        self._service_id, self._merchant_id, self._secret = service_id, merchant_id, secret
        self._checkout = checkout

    def read(self, call: Call) -> Asked | Reply:
        """See the base: fields, action, service, signature."""
        fields = _fields(call.body) if call.method == "POST" and call.body is not None else {}
        complete = call.action == "complete"
        needed = (*_NEEDED, "merchant_prepare_id") if complete else _NEEDED
        if any(not fields.get(name) for name in needed):
            return _reply(-8, fields)
        if fields["action"] != _ACTIONS[call.action]:
            return _reply(-3, fields)
        numbers = ("click_trans_id", *(("merchant_prepare_id",) if complete else ()))
        if not all(_NUMBER.fullmatch(fields[name]) for name in numbers) or not _SIGNED_NUMBER.fullmatch(
            fields["error"]
        ):
            return _reply(-8, fields)
        if not self._secret or fields["service_id"] != str(self._service_id):
            return _reply(-8, fields)
        if not same(sign(fields, self._secret), fields["sign_string"]):
            return _reply(-1, fields)
        kept = shortened({name: fields[name] for name in _KEPT if name in fields})
        return Asked(call.action, fields, kept)

    async def answer(self, asked: Asked, ledger: Ledger) -> Reply:
        """See the base."""
        fields = asked.values
        number = number_in(fields["merchant_trans_id"])
        order = await ledger.order(number) if number else None
        if order is None:
            return _reply(-5, fields)
        if asked.action == "prepare":
            return await self._prepare(fields, order, ledger)
        return await self._complete(fields, order, ledger)

    async def _prepare(self, fields: Mapping[str, str], order: Order, ledger: Ledger) -> Reply:
        attempt = await ledger.attempt(fields["click_trans_id"])
        if attempt is not None and attempt.number != order.number:
            return _reply(-6, fields)
        if int(fields["error"]) < 0:
            return _reply(-9, fields)
        if attempt is not None and attempt.state != "waiting":
            return _reply(-4 if attempt.state == "performed" else -9, fields)
        if attempt is None and order.standing != "payable":
            return _reply(-4 if order.standing == "paid" else -9, fields)
        if tiyin_of(fields["amount"]) != order.amount_tiyin:
            return _reply(-2, fields)
        if attempt is None:
            details = {"paydoc_id": fields.get("click_paydoc_id", "")[:32]}
            attempt = await ledger.create(order, fields["click_trans_id"], provider_time=ledger.now, details=details)
        return _reply(0, fields, merchant_prepare_id=attempt.id)

    async def _complete(self, fields: Mapping[str, str], order: Order, ledger: Ledger) -> Reply:
        attempt = await ledger.numbered(order, int(fields["merchant_prepare_id"]))
        if attempt is None or attempt.external_id != fields["click_trans_id"]:
            return _reply(-6, fields)
        if int(fields["error"]) < 0:
            await self._failed_there(attempt, ledger)
            return _reply(-9, fields)
        if attempt.state != "waiting":
            return _reply(-4 if attempt.state == "performed" else -9, fields)
        if order.standing == "paid":
            return _reply(-4, fields)
        if tiyin_of(fields["amount"]) != order.amount_tiyin:
            return _reply(-2, fields)
        # The card has been debited already: -4 and -9 make Click give the money back.
        done = await ledger.perform(attempt, {"paydoc_id": fields.get("click_paydoc_id", "")[:32]})
        if isinstance(done, str):
            return _reply(-4 if done == "paid" else -9, fields)
        return _reply(0, fields, merchant_confirm_id=done.id)

    async def _failed_there(self, attempt: Attempt, ledger: Ledger) -> None:
        """Click says that a payment failed. After it was confirmed only a person can know whether the money came."""
        if attempt.state == "waiting":
            await ledger.cancel(attempt, None)
        elif attempt.state == "performed":
            await ledger.alarm(attempt)

    def failed(self, asked: Asked) -> Reply:
        """See the base. A Complete is not refused for a failure of ours: Click is to ask again."""
        reply = _reply(-7, asked.values)
        return reply if asked.action == "prepare" else Reply(reply.body, reply.code, 503)

    def link(self, order: Order, *, language: str, return_url: str, sandbox: bool) -> str:
        """See the base."""
        query = {
            "service_id": self._service_id,
            "merchant_id": self._merchant_id,
            "amount": som(order.amount_tiyin),
            "transaction_param": order.number,
            "return_url": return_url,
        }
        return f"{self._checkout}/?{urlencode(query)}"


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form; empty for what is none or names something twice."""
    if len(body) > MAX_BODY:
        return {}
    try:
        pairs = parse_qsl(
            # What the signature covers is plain; a note in another encoding must not make a whole call unread.
            body.decode("ascii", "replace"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="replace",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        return {}
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else {}


def _reply(code: int, fields: Mapping[str, str], **ids: int) -> Reply:
    trans_id = fields.get("click_trans_id", "")
    body: dict[str, Any] = {
        "click_trans_id": int(trans_id) if _NUMBER.fullmatch(trans_id) else None,
        "merchant_trans_id": fields.get("merchant_trans_id", "")[:100],
        **ids,
        "error": code,
        "error_note": _NOTES[code],
    }
    return Reply(body, str(code))
