"""kill -9 inside Perform, Complete and confirm: the gateway asks again, and there is exactly one span."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from db.engine import Database
from services.settings import Settings
from tests import servers
from tests.conveyor.nursery import Nursery, nursery
from tests.payments.till import PAYME_KEY, UZUM_PASSWORD, UZUM_SERVICE, basic, click_sign, settings_for, till

GATEWAYS = ("payme", "click", "uzum")


@pytest.fixture(scope="module")
async def children(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    """Processes of the product to kill."""
    async with nursery(tmp_path_factory.mktemp("children")) as opened:
        yield opened


@dataclass
class Due:
    """A payment whose attempt waits, and the call that performs it."""

    payment: models.Payment
    path: str
    options: dict[str, Any]

    async def call(self, http: aiohttp.ClientSession, base: str) -> Any:
        """Make the call; return what it comes to, or None where the process ended meanwhile."""
        try:
            async with http.post(f"{base}/payments/{self.path}", **self.options) as answer:
                return await answer.json()
        except aiohttp.ClientError:
            return None


async def _begun(settings: Settings) -> dict[str, list[Due]]:
    """Make two payments for each gateway, with their attempts begun."""
    due: dict[str, list[Due]] = {}
    async with till(settings) as shop:
        shop.moment = utcnow()
        for _ in range(2):
            payment = await shop.order()
            body = {"method": "PerformTransaction", "params": {"id": await shop.payme_created(payment)}, "id": 1}
            headers = {"Authorization": basic("Paycom", PAYME_KEY)}
            due.setdefault("payme", []).append(Due(payment, "payme", {"data": json.dumps(body), "headers": headers}))
            payment = await shop.order(gateway="click")
            fields = {"service_id": "31999", "merchant_trans_id": payment.number, "amount": "290000.00", "action": "1"}
            fields |= {"error": "0", "sign_time": "2026-12-01 10:00:00", **await shop.click_prepared(payment)}
            form = {**fields, "sign_string": click_sign(fields)}
            due.setdefault("click", []).append(Due(payment, "click/complete", {"data": form}))
            payment = await shop.order(gateway="uzum")
            confirm = {
                "serviceId": UZUM_SERVICE,
                "timestamp": 1796101200000,
                "transId": await shop.uzum_created(payment),
            }
            headers = {"Authorization": basic("uzum-test", UZUM_PASSWORD)}
            due.setdefault("uzum", []).append(Due(payment, "uzum/confirm", {"json": confirm, "headers": headers}))
    return due


def _base(ready: dict[str, Any]) -> str:
    host, port = ready["address"]
    return f"http://{host}:{port}"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_process_that_dies_while_it_is_paid(
    kind: str, tmp_path: Path, servers_run: servers.Run, children: Nursery
) -> None:
    with servers_run.database(kind, tmp_path) as url:
        settings = settings_for(tmp_path, url)
        due = await _begun(settings)
        async with aiohttp.ClientSession() as http:
            # Before the commit nothing is kept; after it all is, though nobody was answered.
            for point, number, kept in (("payment_changed", 0, False), ("payment_kept", 1, True)):
                # SQLite's one writer lets only one come as far as to its commit.
                groups = [GATEWAYS] if kept else [(each,) for each in GATEWAYS]
                for group in groups:
                    child = await children.start(settings, role="web", point=point)
                    base = _base(next(each for each in child.events if each["event"] == "ready"))
                    calls = [asyncio.create_task(due[each][number].call(http, base)) for each in group]
                    for _ in group:
                        await child.hears("paused")
                    await child.kill()
                    assert await asyncio.gather(*calls) == [None] * len(group)
                for each in GATEWAYS:
                    assert await _state(url, due[each][number]) == (("paid", 1) if kept else ("waiting", 0)), each
            child = await children.start(settings, role="web")
            base = _base(next(each for each in child.events if each["event"] == "ready"))
            first = [await due[each][0].call(http, base) for each in GATEWAYS]
            again = [await due[each][1].call(http, base) for each in GATEWAYS]
            await child.stop()
        assert (first[0]["result"]["state"], first[1]["error"], first[2]["status"]) == (2, 0, "CONFIRMED")
        assert (again[0]["result"]["state"], again[1]["error"], again[2]["errorCode"]) == (2, -4, "10016")
        for pair in due.values():
            assert [await _state(url, each) for each in pair] == [("paid", 1)] * 2


async def _state(url: str, due: Due) -> tuple[str, int]:
    db = Database(url, pool_size=2)
    try:
        async with db.read() as session:
            span = models.Subscription
            spans = select(func.count()).select_from(span).where(span.payment_id == due.payment.id)
            payment = await session.get_one(models.Payment, due.payment.id)
            return payment.status, int(await session.scalar(spans) or 0)
    finally:
        await db.close()
