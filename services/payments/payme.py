"""Payme Merchant API: JSON-RPC calls to one address, always answered with status 200.

Facts: https://developer.help.paycom.uz/protokol-merchant-api/ and https://developer.help.paycom.uz/metody-merchant-api/
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from services.i18n import CATALOGS, T, Text
from services.payments.base import (
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
    to_ms,
    word,
)

LOGIN = "Paycom"
ACCOUNT = "order_id"
_STATES = {"waiting": 1, "performed": 2, "cancelled": -1, "reversed": -2}
_LANGUAGES = {"uz-Cyrl": "uz"}
# What of a call's params is kept.
_KEPT = ("id", "time", "amount", "account", "reason", "from", "to", "type", "fiscal_data")
_RETURN_AFTER_MS = 15_000

_TEXTS: Mapping[int, Text] = {
    -31001: T("The amount is not that of the order."),
    -31003: T("There is no such transaction."),
    -31007: T("What was paid for has been used already and cannot be taken back."),
    -31008: T("This cannot be done with the order in its present state."),
    -31050: T("There is no order with this number."),
    -31051: T("This order has been paid or closed."),
    -31052: T("Another payment of this order is under way."),
}
_PROTOCOL: Mapping[int, str] = {
    -32001: "unknown receipt",
    -32300: "not POST",
    -32400: "internal error, repeat the call",
    -32504: "wrong or missing Authorization",
    -32600: "method or params are missing or of a wrong type",
    -32601: "unknown method",
    -32602: "wrong params",
    -32700: "not JSON",
}


def _error(code: int, rpc_id: Any, data: str | None = None) -> Reply:
    text = _TEXTS.get(code)
    message = {name: text.render(name) for name in CATALOGS} if text is not None else _PROTOCOL[code]
    error = {"code": code, "message": message} | ({"data": data} if data is not None else {})
    return Reply({"error": error, "id": rpc_id}, str(code))


class _Refused(Exception):
    def __init__(self, code: int, data: str | None = None) -> None:
        super().__init__(str(code))
        self.code, self.data = code, data


class Payme:
    """A cash box of Payme's; ``key`` and ``test_key`` as its cabinet shows them, empty where not given."""

    kind = "payme"
    title = "Payme"
    # The documentation's 43 200 000 ms, counted from our creation as in Payme's own template.
    life = dt.timedelta(hours=12)
    actions: Sequence[str] = ()

    def __init__(self, merchant_id: str, key: str, test_key: str, *, checkout: str, test_checkout: str) -> None:
        self._merchant_id, self._key, self._test_key = merchant_id, key, test_key
        self._checkout, self._test_checkout = checkout, test_checkout
        self._methods = {
            "CheckPerformTransaction": self._check,
            "CreateTransaction": self._create,
            "PerformTransaction": self._perform,
            "CancelTransaction": self._cancel,
            "CheckTransaction": self._find,
            "GetStatement": self._statement,
            "SetFiscalData": self._fiscal,
        }

    def read(self, call: Call) -> Asked | Reply:
        """See the base: method, then Authorization, then the body."""
        body = json_of(call.body)
        rpc_id = body.get("id") if isinstance(body, dict) else None
        try:
            orjson.dumps({"result": {"id": [rpc_id]}})
        except TypeError:
            # It comes back whatever its type, but not nested so deep that it cannot be written again.
            rpc_id = None
        if call.method != "POST":
            return _error(-32300, rpc_id)
        live = self._live(call.authorization)
        if live is None:
            return _error(-32504, rpc_id)
        if body is None:
            return _error(-32700, None)
        method = body.get("method") if isinstance(body, dict) else None
        params = body.get("params") if isinstance(body, dict) else None
        if not isinstance(method, str) or not isinstance(params, dict):
            return _error(-32600, rpc_id)
        if method not in self._methods:
            return _error(-32601, rpc_id, method[:100])
        kept = {"method": method, "params": shortened({name: params[name] for name in _KEPT if name in params})}
        return Asked(method, {"params": params, "id": rpc_id}, kept, live)

    def _live(self, header: str) -> bool | None:
        """Tell by which key a call is proved: the production key's, the test key's, or neither's (None)."""
        given = basic_credentials(header) or ""
        fits = [bool(key) and same(f"{LOGIN}:{key}", given) for key in (self._key, self._test_key)]
        return None if not any(fits) else fits[0]

    async def answer(self, asked: Asked, ledger: Ledger) -> Reply:
        """See the base."""
        rpc_id = asked.values["id"]
        try:
            result = await self._methods[asked.action](asked.values["params"], ledger)
        except _Refused as refusal:
            return _error(refusal.code, rpc_id, refusal.data)
        return Reply({"result": result, "id": rpc_id}, "0")

    def failed(self, asked: Asked) -> Reply:
        """See the base."""
        return _error(-32400, asked.values["id"])

    def link(self, order: Order, *, language: str, return_url: str, sandbox: bool) -> str:
        """See the base. The page of the documentation: initsializatsiya-platezhey, by GET."""
        base = self._test_checkout if sandbox else self._checkout
        needed = [f"m={self._merchant_id}", f"ac.{ACCOUNT}={order.number}", f"a={order.amount_tiyin}"]
        if language:
            needed.append(f"l={_LANGUAGES.get(language, language)}")
        coded = _coded([*needed, *([f"c={return_url}", f"ct={_RETURN_AFTER_MS}"] if return_url else [])])
        if {"/", "+", ";"} & {*coded, *return_url.replace("/", "")}:
            # Whether the page takes these letters of base64 in an address is not documented.
            coded = _coded(needed)
        return f"{base}/{coded}"

    async def _order(self, params: Mapping[str, Any], ledger: Ledger) -> Order:
        account = params.get("account")
        number = number_in(account.get(ACCOUNT)) if isinstance(account, dict) else ""
        order = await ledger.order(number) if number else None
        if order is None:
            raise _Refused(-31050, ACCOUNT)
        if integer(params.get("amount")) != order.amount_tiyin:
            raise _Refused(-31001)
        return order

    async def _attempt(self, params: Mapping[str, Any], ledger: Ledger) -> Attempt:
        external_id = word(params.get("id"))
        if external_id is None:
            raise _Refused(-32600)
        attempt = await ledger.attempt(external_id)
        if attempt is None:
            raise _Refused(-31003)
        return attempt

    async def _check(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        order = await self._order(params, ledger)
        if order.standing != "payable":
            raise _Refused(-31051, ACCOUNT)
        if await ledger.is_busy(order):
            raise _Refused(-31052, ACCOUNT)
        return {"allow": True} | ({"detail": _detail(order)} if order.fiscal.get("ikpu") else {})

    async def _create(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        external_id, time = word(params.get("id")), from_ms(params.get("time"))
        if external_id is None or time is None:
            raise _Refused(-32600)
        order = await self._order(params, ledger)
        attempt = await ledger.attempt(external_id)
        if attempt is not None and (attempt.state != "waiting" or attempt.number != order.number):
            raise _Refused(-31008)
        if attempt is None:
            if order.standing != "payable":
                raise _Refused(-31008)
            if await ledger.is_busy(order):
                raise _Refused(-31008)
            attempt = await ledger.create(order, external_id, provider_time=time)
        return {"create_time": to_ms(attempt.created_at), "transaction": str(attempt.id), "state": 1}

    async def _perform(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        attempt = await self._attempt(params, ledger)
        if attempt.state == "waiting":
            done = await ledger.perform(attempt)
            if isinstance(done, str):
                raise _Refused(-31008)
            attempt = done
        if attempt.state != "performed":
            raise _Refused(-31008)
        return {"transaction": str(attempt.id), "perform_time": to_ms(attempt.performed_at), "state": 2}

    async def _cancel(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        reason = integer(params.get("reason"))
        if reason is None or not 0 < reason < 1000:
            raise _Refused(-32600)
        attempt = await self._attempt(params, ledger)
        if attempt.state in ("waiting", "performed"):
            done = await ledger.cancel(attempt, reason)
            if done is None:
                raise _Refused(-31007)
            attempt = done
        return {
            "transaction": str(attempt.id),
            "cancel_time": to_ms(attempt.cancelled_at),
            "state": _STATES[attempt.state],
        }

    async def _find(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        return _standing(await self._attempt(params, ledger))

    async def _statement(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        since, until = from_ms(params.get("from")), from_ms(params.get("to"))
        if since is None or until is None:
            raise _Refused(-32600)
        return {
            "transactions": [
                {
                    "id": attempt.external_id,
                    "time": to_ms(attempt.provider_time),
                    "amount": attempt.amount_tiyin,
                    "account": {ACCOUNT: attempt.number},
                    **_standing(attempt),
                }
                for attempt in await ledger.statement(since, until)
            ]
        }

    async def _fiscal(self, params: Mapping[str, Any], ledger: Ledger) -> Mapping[str, Any]:
        kind, data, external_id = params.get("type"), params.get("fiscal_data"), word(params.get("id"))
        if kind not in ("PERFORM", "CANCEL") or not isinstance(data, dict) or external_id is None:
            raise _Refused(-32602)
        attempt = await ledger.attempt(external_id)
        if attempt is None:
            raise _Refused(-32001)
        await ledger.keep(attempt, f"fiscal_{kind.lower()}", shortened(data))
        return {"success": True}


def _standing(attempt: Attempt) -> dict[str, Any]:
    """Return what CheckTransaction says of an attempt: times that are not are 0."""
    return {
        "create_time": to_ms(attempt.created_at),
        "perform_time": to_ms(attempt.performed_at) or 0,
        "cancel_time": to_ms(attempt.cancelled_at) or 0,
        "transaction": str(attempt.id),
        "state": _STATES[attempt.state],
        "reason": attempt.reason,
    }


def _detail(order: Order) -> dict[str, Any]:
    """Return the fiscal receipt of an order: one item, so its price is the amount."""
    item = {
        "title": order.title,
        "price": order.amount_tiyin,
        "count": 1,
        "code": order.fiscal["ikpu"],
        "vat_percent": order.fiscal["vat_percent"],
        "package_code": order.fiscal["package_code"],
    }
    return {"receipt_type": 0, "items": [item]}


def _coded(params: Sequence[str]) -> str:
    return base64.b64encode(";".join(params).encode()).decode("ascii")
