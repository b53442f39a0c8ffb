"""Refunds of what Click brought: its Merchant API on loopback gives the money back, later or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select

from db import models
from services.jobs import TryLater
from services.payments import ledger, reversals
from services.payments.click_api import auth
from tests import servers
from tests.composition import make_settings
from tests.conveyor.harness import until
from tests.payments.till import CLICK_SECRET, ENVIRONMENT, Till, till, vectors


@dataclass
class Click:
    """Click's Merchant API: what it was asked, and the status and body of its next answers."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def reverse(self, request: web.Request) -> web.Response:
        """Answer ``DELETE payment/reversal``."""
        user, proof, stamp = request.headers["Auth"].split(":")
        expected = hashlib.sha1((stamp + CLICK_SECRET).encode(), usedforsecurity=False).hexdigest()
        assert (user, proof) == ("4999", expected) and abs(int(stamp) - time.time()) < 300
        assert request.headers["Accept"] == "application/json"
        self.asked.append((request.match_info["service"], request.match_info["payment"]))
        status, body = self.answers.pop(0) if self.answers else (200, {"error_code": 0, "error_note": "Success"})
        return (
            web.json_response(body, status=status) if body is not None else web.Response(status=status, text="<html>")
        )


@contextlib.asynccontextmanager
async def _open(folder: Path, servers_run: servers.Run) -> AsyncIterator[tuple[Till, Click]]:
    click, app = Click(), web.Application()
    app.router.add_delete("/v2/merchant/payment/reversal/{service}/{payment}", click.reverse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/v2/merchant"
        settings = make_settings(
            folder,
            servers_run.new_sqlite(folder),
            environment={**ENVIRONMENT, "CLICK_MERCHANT_USER_ID": "4999"},
            overrides={"payments": {"click_api": base}, "queue": {"idle_poll_s": 0.05}},
        )
        async with till(settings, "all") as shop:
            yield shop, click
    finally:
        await runner.cleanup()


async def _refunded(shop: Till) -> tuple[models.Payment, int]:
    payment = await shop.order(gateway="click")
    prepared = await shop.click_prepared(payment)
    assert (await shop.click(payment, 1, click_paydoc_id="990000777", **prepared))["error"] == 0
    async with shop.core.db.write() as session:
        await ledger.refund(session, shop.core.settings, payment, now=shop.moment, reason="wish", actor_id="x" * 26)
    return payment, int(prepared["merchant_prepare_id"])


async def _attempt(shop: Till, number: int) -> models.PaymentTransaction:
    async with shop.core.db.read() as session:
        return await session.get_one(models.PaymentTransaction, number)


def test_the_header_of_the_merchant_api() -> None:
    for vector in vectors("click_signatures")["merchant_api_auth"]:
        made = auth(int(vector["merchant_user_id"]), vector["secret_key"], int(vector["timestamp"]))
        assert made == vector["header_value"]


async def test_a_refund_goes_back_through_click(tmp_path: Path, servers_run: servers.Run) -> None:
    async with _open(tmp_path, servers_run) as (shop, click):
        admin = await shop.owner(role="admin")
        payment, number = await _refunded(shop)
        ledger.announce(shop.core, payment)

        async def over() -> bool:
            return (await _attempt(shop, number)).state == "reversed"

        await until(over)
        assert click.asked == [("31999", "990000777")]
        # A repeat of the job, and Click's own late word, change nothing.
        await reversals.reverse_click(shop.core, {"transaction": number})
        assert len(click.asked) == 1
        assert (
            await shop.click(
                payment, 1, click_trans_id=(await _attempt(shop, number)).external_id, merchant_prepare_id=str(number)
            )
        )["error"] == -9
        assert await shop.count(models.Notice, models.Notice.user_id == admin.id) == 0


@pytest.mark.parametrize("trouble", [(503, None), (429, None), (500, {"error_code": 0})])
async def test_click_that_is_away_is_asked_again(
    trouble: tuple[int, Any], tmp_path: Path, servers_run: servers.Run
) -> None:
    async with _open(tmp_path, servers_run) as (shop, click):
        click.answers = [trouble] * 2
        _, number = await _refunded(shop)

        async def asked() -> bool:
            return len(click.asked) == 1

        await until(asked)
        with pytest.raises(TryLater):
            await reversals.reverse_click(shop.core, {"transaction": number})
        await reversals.reverse_click(shop.core, {"transaction": number})
        assert (await _attempt(shop, number)).state == "reversed"


async def test_where_click_refuses_the_administrators_hear_of_it(tmp_path: Path, servers_run: servers.Run) -> None:
    async with _open(tmp_path, servers_run) as (shop, click):
        admin = await shop.owner(role="admin")
        click.answers = [(200, {"error_code": -5012, "error_note": "Cancelled already"})]
        payment, number = await _refunded(shop)
        mine = models.Notice.user_id == admin.id, models.Notice.key == f"reversal:{payment.id}"

        async def told() -> bool:
            return await shop.count(models.Notice, *mine) == 1

        await until(told)
        assert (await _attempt(shop, number)).state == "performed"
        async with shop.core.db.read() as session:
            event = models.PaymentEvent
            last = (await session.scalars(select(event).where(event.payment_id == payment.id).order_by(event.id))).all()
        assert (last[-1].action, last[-1].code) == ("reversal", "refused")
        assert last[-1].request == {"refusal": "-5012 Cancelled already"}
        # What is no answer of Click's is a refusal too: nobody knows what it means.
        click.answers = [(200, None), (404, {"x": 1}), (200, {"error_code": "x"})]
        for _ in range(3):
            await reversals.reverse_click(shop.core, {"transaction": number})
        assert (await _attempt(shop, number)).state == "performed"


async def test_a_service_without_the_merchant_api_gives_back_in_its_cabinet(
    tmp_path: Path, servers_run: servers.Run
) -> None:
    settings = make_settings(tmp_path, servers_run.new_sqlite(tmp_path), environment=ENVIRONMENT)
    async with till(settings) as shop:
        await _refunded(shop)
        assert await shop.count(models.Job, models.Job.kind == ledger.REVERSE_JOB) == 0
