"""Uzum Bank's Merchant API: five calls, JSON, amounts in tiyin, times in milliseconds.

Facts: https://developer.uzumbank.uz/en/merchant
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from services.payments.base import (
    TIMED_OUT,
    Asked,
    Attempt,
    Call,
    Ledger,
    Order,
    Reply,
    basic_credentials,
    from_ms,
    integer,
    json_of,
    number_in,
    same,
    shortened,
    som,
    to_ms,
    word,
)

_ACCOUNT = "account"
# The name that the time of an answer has, by call.
_TIMES = {
    "check": "timestamp",
    "create": "transTime",
    "confirm": "confirmTime",
    "reverse": "reverseTime",
    "status": "transTime",
}
# What of a call is kept: not the phone.
_KEPT = (
    "serviceId",
    "timestamp",
    "transId",
    "amount",
    "paymentSource",
    "tariff",
    "processingReferenceNumber",
    "cardType",
)


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class Uzum:
    """A service of Uzum Bank's; ``username`` and ``password`` as agreed with it, empty where not given.

    ``parameter``: the name that the number of an order has in the address of its payment page.
    """

    kind = "uzum"
    title = "Uzum Bank"
    life = dt.timedelta(minutes=30)
    actions: Sequence[str] = tuple(_TIMES)

    def __init__(self, service_id: int, username: str, password: str, *, checkout: str, parameter: str) -> None:
        self._service_id, self._checkout, self._parameter = service_id, checkout, parameter
        self._credentials = f"{username}:{password}" if username and password else ""

    def read(self, call: Call) -> Asked | Reply:
        """See the base: method, Authorization, JSON, fields, service."""
        if call.method != "POST":
            return self._refusal(call.action, 10003, None, call.at)
        if not self._credentials or not same(self._credentials, basic_credentials(call.authorization) or ""):
            return self._refusal(call.action, 10001, None, call.at)
        body = json_of(call.body)
        if not isinstance(body, dict):
            return self._refusal(call.action, 10002, None, call.at)
        trans_id = word(body.get("transId"))
        if any(integer(body.get(name)) is None for name in ("serviceId", "timestamp")):
            return self._refusal(call.action, 10005, trans_id, call.at)
        params = body.get("params")
        account = params.get(_ACCOUNT) if isinstance(params, dict) else None
        lacks_order = call.action in ("check", "create") and (account is None or account == "")
        lacks_id = call.action != "check" and trans_id is None
        if lacks_order or lacks_id or (call.action == "create" and integer(body.get("amount")) is None):
            return self._refusal(call.action, 10005, trans_id, call.at)
        if body["serviceId"] != self._service_id:
            return self._refusal(call.action, 10006, trans_id, call.at)
        values = {
            "trans_id": trans_id,
            "number": number_in(account),
            "amount": body.get("amount"),
            "time": from_ms(body["timestamp"]),
            "at": call.at,
            "source": body.get("paymentSource"),
        }
        kept: dict[str, Any] = shortened({name: body[name] for name in _KEPT if name in body})
        if isinstance(params, dict):
            kept["params"] = shortened({_ACCOUNT: account})
        return Asked(call.action, values, kept)

    async def answer(self, asked: Asked, ledger: Ledger) -> Reply:
        """See the base."""
        calls = {
            "check": self._check,
            "create": self._create,
            "confirm": self._confirm,
            "reverse": self._reverse,
            "status": self._status,
        }
        try:
            told = await calls[asked.action](asked.values, ledger)
        except _Refused as refusal:
            return self._refusal(asked.action, refusal.code, asked.values["trans_id"], ledger.now)
        named = {"transId": asked.values["trans_id"]} if asked.action != "check" else {}
        return Reply({"serviceId": self._service_id, **named, **told}, "0")

    def failed(self, asked: Asked) -> Reply:
        """See the base."""
        return self._refusal(asked.action, 99999, asked.values["trans_id"], asked.values["at"])

    def link(self, order: Order, *, language: str, return_url: str, sandbox: bool) -> str:
        """See the base."""
        query = {
            "serviceId": self._service_id,
            self._parameter: order.number,
            "amount": order.amount_tiyin,
            "redirectUrl": return_url,
        }
        return f"{self._checkout}?{urlencode(query)}"

    def _refusal(self, action: str, code: int, trans_id: str | None, now: dt.datetime) -> Reply:
        named = {"transId": trans_id} if trans_id is not None else {}
        body = {"serviceId": self._service_id, **named, "status": "FAILED", _TIMES[action]: to_ms(now)}
        return Reply({**body, "errorCode": str(code)}, str(code), 400)

    async def _order(self, values: Mapping[str, Any], ledger: Ledger) -> Order:
        order = await ledger.order(values["number"]) if values["number"] else None
        if order is None:
            raise _Refused(10007)
        if order.standing != "payable":
            raise _Refused(10008 if order.standing == "paid" else 10009)
        return order

    async def _attempt(self, values: Mapping[str, Any], ledger: Ledger) -> Attempt:
        attempt = await ledger.attempt(values["trans_id"])
        if attempt is None:
            raise _Refused(10014)
        return attempt

    async def _check(self, values: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        order = await self._order(values, ledger)
        data = {"plan": {"value": order.title}, "amount": {"value": som(order.amount_tiyin)}}
        return {"timestamp": to_ms(ledger.now), "status": "OK", "data": data}

    async def _create(self, values: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        if await ledger.attempt(values["trans_id"]) is not None:
            raise _Refused(10010)
        order = await self._order(values, ledger)
        if values["amount"] != order.amount_tiyin:
            raise _Refused(10011)
        attempt = await ledger.create(order, values["trans_id"], provider_time=values["time"] or ledger.now)
        return {"status": "CREATED", "transTime": to_ms(attempt.created_at), "amount": attempt.amount_tiyin}

    async def _confirm(self, values: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        attempt = await self._attempt(values, ledger)
        if attempt.state != "waiting":
            raise _Refused(10016 if attempt.state == "performed" else 10015)
        done = await ledger.perform(attempt, {"source": shortened(values["source"])})
        if isinstance(done, str):
            raise _Refused(10008 if done == "paid" else 10009)
        return {"status": "CONFIRMED", "confirmTime": to_ms(done.performed_at), "amount": done.amount_tiyin}

    async def _reverse(self, values: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        attempt = await self._attempt(values, ledger)
        if attempt.state in ("cancelled", "reversed"):
            raise _Refused(10017 if attempt.reason == TIMED_OUT else 10018)
        done = await ledger.cancel(attempt, None)
        if done is None:
            raise _Refused(10017)
        return {"status": "REVERSED", "reverseTime": to_ms(done.cancelled_at), "amount": done.amount_tiyin}

    async def _status(self, values: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        attempt = await self._attempt(values, ledger)
        if attempt.state == "cancelled" and attempt.reason == TIMED_OUT:
            raise _Refused(10015)
        status = {"waiting": "CREATED", "performed": "CONFIRMED"}.get(attempt.state, "REVERSED")
        return {
            "status": status,
            "transTime": to_ms(attempt.created_at),
            "confirmTime": to_ms(attempt.performed_at),
            "reverseTime": to_ms(attempt.cancelled_at),
            "amount": attempt.amount_tiyin,
        }
