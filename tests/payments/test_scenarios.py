"""Every scenario of the shared vectors over HTTP, with the clock of its steps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from db import models
from services.payments import ledger
from tests.payments.till import Answer, Till, click_sign, vectors

FILES = {name: vectors(f"{name}_scenarios") for name in ("payme", "click", "uzum")}
SCENARIOS = [(gateway, each) for gateway, file in FILES.items() for each in file["scenarios"]]
PLANS = {29_000_000: "basic", 59_000_000: "premium"}


@dataclass
class Run:
    """One scenario: its orders by their ids there, what was remembered, and the steps."""

    till: Till
    gateway: str
    orders: dict[str, models.Payment] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    unrefundable: set[str] = field(default_factory=set)

    async def prepare(self, orders: list[dict[str, Any]]) -> None:
        """Make the orders."""
        for each in orders:
            payment = await self.till.order(PLANS[each["amount_tiyin"]], self.gateway)
            assert payment.amount_tiyin == each["amount_tiyin"]
            if each["status"] == "paid":
                await self.till.pay(payment)
            elif each["status"] == "cancelled":
                async with self.till.core.db.write() as session:
                    await ledger.cancel(session, payment, now=self.till.moment)
            if not each.get("refundable", True):
                self.unrefundable.add(each["id"])
            self.orders[each["id"]] = payment

    def ours(self, value: Any) -> Any:
        """Return what is sent, or expected, in the program's own numbers."""
        if isinstance(value, Mapping):
            return {name: self.ours(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.ours(each) for each in value]
        if isinstance(value, str) and value.startswith("$ref="):
            return self.known[value.removeprefix("$ref=")]
        return self.orders[value].number if isinstance(value, str) and value in self.orders else value

    async def step(self, step: dict[str, Any]) -> None:
        """Make one call, look at the answer and at the rows."""
        self.till.moment = dt.datetime.fromtimestamp(step["at"] / 1000, dt.UTC)
        answer = await getattr(self, f"_{self.gateway}")(step)
        expect = self.ours(step["expect"])
        getattr(self, f"_{self.gateway}_fits")(answer, expect)
        for id_, wanted in step.get("after", {}).items():
            payment = await self.till.now_of(self.orders[id_])
            found = {"paid": payment.status == "paid", "deliveries": await self.till.deliveries(payment)}
            assert found == wanted
            if wanted["paid"] and id_ in self.unrefundable:
                await self.till.upgrade(payment)
                self.unrefundable.remove(id_)

    async def _json(self, step: dict[str, Any], path: str) -> Answer:
        auth = FILES[self.gateway]["auth"][step.get("auth", "ok")]
        headers = {"Content-Type": "text/json", **({"Authorization": auth} if auth else {}), **step.get("headers", {})}
        sent = {"data": step["raw"]} if "raw" in step else {"json": self.ours(step["body"])}
        return await self.till.send(path, step.get("http", "POST"), headers=headers, **sent)

    async def _payme(self, step: dict[str, Any]) -> Answer:
        return await self._json(step, "payme")

    def _payme_fits(self, answer: Answer, expect: dict[str, Any]) -> None:
        assert answer.status == 200
        if "rpc_id" in expect:
            assert self.fits(answer.body["id"], expect["rpc_id"])
        if "result" in expect:
            assert self.fits(answer.body.get("result"), expect["result"]), answer.body
            return
        error, wanted = answer.body["error"], expect["error"]
        assert code_fits(error["code"], wanted), error
        if "data" in wanted:
            assert error["data"] == wanted["data"]
        if wanted.get("localized"):
            assert {"ru", "uz", "en"} <= error["message"].keys()

    async def _uzum(self, step: dict[str, Any]) -> Answer:
        return await self._json(step, f"uzum/{step['op']}")

    def _uzum_fits(self, answer: Answer, expect: dict[str, Any]) -> None:
        assert answer.status == expect["http"], answer
        assert self.fits(answer.body, expect.get("body", {})), answer
        if "errorCode" in expect:
            assert code_fits(answer.body["errorCode"], {**expect, "code": expect["errorCode"]}), answer
            assert answer.body["status"] == "FAILED"

    async def _click(self, step: dict[str, Any]) -> Answer:
        form = {name: str(value) for name, value in self.ours(step["form"]).items()}
        how = step.get("sign")
        if how != "omit":
            signs = {
                None: click_sign(form),
                "other_secret": click_sign(form, "another-secret"),
                "prepare_formula": click_sign(form, prepare=True),
            }
            form["sign_string"] = signs.get(how, how or "")
        path = "complete" if form["action"] == "1" else "prepare"
        return await self.till.send(f"click/{path}", data=form)

    def _click_fits(self, answer: Answer, expect: dict[str, Any]) -> None:
        assert answer.status == 200
        assert code_fits(answer.body["error"], {**expect, "code": expect["error"]}), answer
        assert self.fits(answer.body, expect.get("body", {})), answer

    def fits(self, found: Any, wanted: Any) -> bool:
        """Compare as the vectors' README says."""
        if isinstance(wanted, dict):
            return isinstance(found, dict) and all(
                name in found and self.fits(found[name], each) for name, each in wanted.items()
            )
        if isinstance(wanted, list):
            return (
                isinstance(found, list)
                and len(found) == len(wanted)
                and all(self.fits(a, b) for a, b in zip(found, wanted, strict=True))
            )
        if isinstance(wanted, str) and wanted.startswith("$"):
            kind, _, name = wanted[1:].partition("=")
            if kind == "ms" and (type(found) is not int or found < 1_500_000_000_000):
                return False
            if kind == "id" and not (type(found) is int or (isinstance(found, str) and found)):
                return False
            return not name or self.known.setdefault(name, found) == found
        return type(found) is type(wanted) and bool(found == wanted)


def code_fits(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a code is the wanted one, or one of those that are fine too."""
    if found == wanted["code"]:
        return True
    others = wanted.get("also_ok", ())
    return any(also[0] <= found <= also[1] if isinstance(also, list) else found == also for also in others)


def _names() -> Iterator[str]:
    return (scenario["id"] for _, scenario in SCENARIOS)


@pytest.mark.parametrize(("gateway", "scenario"), SCENARIOS, ids=_names())
async def test_scenario(shop: Till, gateway: str, scenario: dict[str, Any]) -> None:
    await shop.clear()
    run = Run(shop, gateway)
    shop.moment = dt.datetime.fromtimestamp(scenario["steps"][0]["at"] / 1000 - 2, dt.UTC)
    await run.prepare(scenario["orders"])
    for step in scenario["steps"]:
        await run.step(step)
