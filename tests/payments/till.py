"""The running product with all three gateways and a clock to turn, and the gateways as they call it."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import delete, func, select, update

from db import models
from services import accounts, subscriptions
from services.core import Core
from services.payments import ledger, orders
from services.settings import ROOT, Settings, read_settings
from tests.composition import address, make_settings, running

NOW = dt.datetime(2026, 12, 1, 5, 0, tzinfo=dt.UTC)
PAYME_KEY = "TESTKEY0-not-a-real-payme-key-000001"
PAYME_TEST_KEY = "SANDBOX0-not-a-real-payme-key-000002"
CLICK_SECRET = "click-test-secret-0001"
UZUM_PASSWORD = "uzum-test-password-01"
SERVICE, UZUM_SERVICE = "31999", 101999
ENVIRONMENT: Mapping[str, str] = {
    "PAYME_MERCHANT_ID": "65f0c0ffee0000000000a001",
    "PAYME_KEY": PAYME_KEY,
    "PAYME_TEST_KEY": PAYME_TEST_KEY,
    "CLICK_SERVICE_ID": SERVICE,
    "CLICK_MERCHANT_ID": "20999",
    "CLICK_SECRET_KEY": CLICK_SECRET,
    "UZUM_SERVICE_ID": str(UZUM_SERVICE),
    "UZUM_USERNAME": "uzum-test",
    "UZUM_PASSWORD": UZUM_PASSWORD,
    "WEBHOOK_BASE_URL": "https://panel.example.test",
}
AS_SOLD: Mapping[str, Mapping[str, Any]] = read_settings(
    ROOT / "config.toml", environment={}, env_file=None
).model_dump(include={"plans", "subscriptions"})
"""Overrides with which owners of tests have what ``config.toml`` sells."""
_people = itertools.count(1)
_ids = itertools.count(880_000_000)


def vectors(name: str) -> dict[str, Any]:
    """Return a file of the shared vectors."""
    found: dict[str, Any] = json.loads((ROOT / "tests" / "payloads" / f"{name}.json").read_text())
    return found


def basic(user: str, password: str) -> str:
    """Return a header of Basic authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def settings_for(folder: Path, database_url: str, without: tuple[str, ...] = (), **more: Mapping[str, Any]) -> Settings:
    """Return settings with all gateways, but for the variables ``without``."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in without}
    return make_settings(folder, database_url, environment=environment, overrides=more)


@dataclass
class Answer:
    """What a gateway was answered."""

    status: int
    body: Any


@dataclass
class Till:
    """The product, its clock, and the gateways that call it at ``base``."""

    core: Core
    http: aiohttp.ClientSession
    base: str
    moment: dt.datetime = NOW
    payme_key: str = PAYME_KEY
    made: list[str] = field(default_factory=list)

    # What there is

    async def owner(self, **facts: Any) -> models.User:
        """Make an owner."""
        number = next(_people)
        async with self.core.db.write() as session:
            user = await accounts.register_owner(session, email=f"payer{number}@example.uz", full_name="Payer")
            for name, value in facts.items():
                setattr(user, name, value)
        return user

    async def order(
        self, plan: str = "basic", gateway: str = "payme", user: models.User | None = None, **more: Any
    ) -> models.Payment:
        """Make a payment of an owner's, a new one's by default."""
        user = user or await self.owner()
        async with self.core.db.write() as session:
            payment = await orders.order(
                session, self.core.settings, user, plan, "monthly", gateway, now=self.moment, **more
            )
        return payment

    async def pay(self, payment: models.Payment) -> None:
        """Complete a payment by hand."""
        async with self.core.db.write() as session:
            await ledger.complete(session, self.core.settings, payment, by="manual", now=self.moment)

    async def upgrade(self, payment: models.Payment) -> None:
        """Let an upgrade use up the rest of what a payment gave."""
        assert payment.user_id is not None
        facts: dict[str, Any] = {"source": "grant", "value_tiyin": 40_000_000, "credit_tiyin": 1_000_000}
        async with self.core.db.write() as session:
            await subscriptions.grant(
                session, self.core.settings, payment.user_id, "premium", "monthly", now=self.moment, **facts
            )

    async def now_of(self, payment: models.Payment) -> models.Payment:
        """Return a payment as it is now."""
        async with self.core.db.read() as session:
            return await session.get_one(models.Payment, payment.id)

    async def deliveries(self, payment: models.Payment) -> int:
        """Return how many spans a payment gave, taken back or not."""
        return await self.count(models.Subscription, models.Subscription.payment_id == payment.id)

    async def count(self, model: Any, *conditions: Any) -> int:
        """Return how many rows there are."""
        async with self.core.db.read() as session:
            return int(await session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0)

    async def clear(self) -> None:
        """Forget all payments."""
        async with self.core.db.write() as session:
            await session.execute(update(models.Subscription).values(payment_id=None))
            await session.execute(delete(models.Payment))

    # The gateways

    async def send(self, path: str, method: str = "POST", **options: Any) -> Answer:
        """Make one call."""
        async with self.http.request(method, f"{self.base}/payments/{path}", **options) as answer:
            raw = await answer.read()
            return Answer(answer.status, json.loads(raw) if raw else None)

    async def payme(self, method: str, *, key: str | None = None, **params: Any) -> dict[str, Any]:
        """Call as Payme does; return its result or error."""
        body = json.dumps({"method": method, "params": params, "id": 1})
        headers = {"Authorization": basic("Paycom", key or self.payme_key), "Content-Type": "text/json"}
        answer = await self.send("payme", data=body, headers=headers)
        assert answer.status == 200
        found: dict[str, Any] = answer.body.get("result") or answer.body
        return found

    async def payme_created(self, payment: models.Payment, **more: Any) -> str:
        """Let Payme begin to pay; return its id."""
        id_ = f"65f0aa{next(_ids):018}"
        result = await self.payme(
            "CreateTransaction",
            id=id_,
            time=int(self.moment.timestamp() * 1000),
            amount=payment.amount_tiyin,
            account={"order_id": payment.number},
            **more,
        )
        assert result.get("state") == 1, result
        return id_

    async def click(self, payment: models.Payment, action: int, **changes: str) -> dict[str, Any]:
        """Call as Click does, with ``changes`` of fields."""
        fields = {
            "click_trans_id": "880000101",
            "service_id": SERVICE,
            "click_paydoc_id": "990000101",
            "merchant_trans_id": payment.number,
            "amount": f"{payment.amount_tiyin // 100}.{payment.amount_tiyin % 100:02}",
            "action": str(action),
            "error": "0",
            "error_note": "Success",
            "sign_time": "2026-12-01 10:00:00",
            **changes,
        }
        answer = await self.send(
            f"click/{('prepare', 'complete')[action]}", data={**fields, "sign_string": click_sign(fields)}
        )
        found: dict[str, Any] = {**answer.body, "status": answer.status}
        return found

    async def click_prepared(self, payment: models.Payment) -> dict[str, str]:
        """Let Click begin to pay; return the fields that its Complete has."""
        trans_id = str(next(_ids))
        answer = await self.click(payment, 0, click_trans_id=trans_id)
        assert answer["error"] == 0, answer
        return {"click_trans_id": trans_id, "merchant_prepare_id": str(answer["merchant_prepare_id"])}

    async def uzum(self, action: str, trans_id: str, **fields: Any) -> Answer:
        """Call as Uzum Bank does."""
        body = {"serviceId": UZUM_SERVICE, "timestamp": int(self.moment.timestamp() * 1000), "transId": trans_id}
        headers = {"Authorization": basic("uzum-test", UZUM_PASSWORD)}
        return await self.send(f"uzum/{action}", json={**body, **fields}, headers=headers)

    async def uzum_created(self, payment: models.Payment) -> str:
        """Let Uzum Bank begin to pay; return its id."""
        trans_id = f"5c398d7e-76b6-11ee-96da-{next(_ids):012}"
        answer = await self.uzum("create", trans_id, params={"account": payment.number}, amount=payment.amount_tiyin)
        assert answer.status == 200, answer
        return trans_id


def click_sign(fields: Mapping[str, str], secret: str = CLICK_SECRET, *, prepare: bool = False) -> str:
    """Return Click's signature, reckoned here once more."""
    names = ["merchant_trans_id", "merchant_prepare_id", "amount", "action", "sign_time"]
    if prepare or fields["action"] == "0":
        names.remove("merchant_prepare_id")
    text = fields.get("click_trans_id", "") + fields.get("service_id", "") + secret
    text += "".join(fields.get(name, "") for name in names)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@contextlib.asynccontextmanager
async def till(settings: Settings, role: str = "web") -> AsyncIterator[Till]:
    """Start the product with its clock at :data:`NOW`."""
    async with running(settings, role) as core, aiohttp.ClientSession() as http:
        opened = Till(core, http, address(core))
        core.now = lambda: opened.moment
        yield opened
