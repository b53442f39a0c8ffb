"""How much of its limits an account has used, as Meta tells with its answers: sending slows down, and rests in time."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from services import health
from services.channels.meta import GraphApi, used
from tests.conveyor.lines import Fakes, InstagramLine, MetaLine, WhatsAppLine, instagram_line, whatsapp_line
from tests.fakes.graph import FakeGraph
from tests.fakes.meta import INSTAGRAM_TOKEN, NUMBER, WHATSAPP_TOKEN, Meta

BUSINESS = "X-Business-Use-Case-Usage"


@pytest.fixture
async def line(database_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes) -> AsyncIterator[WhatsAppLine]:
    """A connected number."""
    async with whatsapp_line(tmp_path, database_url, graph, fakes) as made:
        yield made


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"X-App-Usage": '{"call_count": 28, "total_time": 81, "total_cputime": 25}'}, (81, 0.0)),
        (
            {BUSINESS: '{"20": [{"type": "whatsapp", "call_count": 100, "estimated_time_to_regain_access": 19}]}'},
            (100, 1140),
        ),
        (
            {BUSINESS: '{"1": [{"call_count": 5}], "2": [{"total_time": 7.9}]}', "X-App-Usage": '{"call_count": 6}'},
            (7, 0),
        ),
        ({"X-App-Usage": "<html>"}, None),
        ({"X-App-Usage": "[1]", BUSINESS: '{"1": "x", "2": [3]}'}, None),
        ({"X-App-Usage": '{"call_count": "many", "total_time": true}'}, None),
        ({BUSINESS: '{"1": [{"call_count": 3, "estimated_time_to_regain_access": "soon"}]}'}, (3, 0)),
    ],
)
def test_headers_are_read(headers: dict[str, str], wanted: tuple[int, float] | None) -> None:
    assert used(headers) == wanted


async def _waits(line: MetaLine) -> bool:
    """Whether something is to be sent that was put off for long, without an attempt that counts."""
    rows = await line.place.rows(
        select(models.Lane.run_at, models.OutboxItem.attempts, models.OutboxItem.status)
        .join(models.OutboxItem, models.OutboxItem.lane == models.Lane.key)
        .where(models.OutboxItem.status != "sent")
    )
    return [(run_at > time.time() + 30, status) for run_at, _, status in rows] == [(True, "queued")]


async def test_an_account_that_has_used_all_rests(line: WhatsAppLine) -> None:
    await line.ask(1)
    await line.number.wait_sent(1)
    line.number.usage_percent = 100
    await line.place.core.graph.call("GET", NUMBER, WHATSAPP_TOKEN)
    await line.ask(2)
    await line.until(lambda: _waits(line))
    assert line.answers() == [1]
    channel = await line.channel()
    assert (channel.status, health.known(channel).used) == ("active", 100)


async def test_sending_slows_down_before_that(line: WhatsAppLine) -> None:
    line.number.usage_percent = 85
    for number in (1, 2, 3):
        await line.ask(number, f"99890000000{number}")
        await line.number.wait_sent(number)
    sent = line.graph.called("send")
    # One more is let through at once, the next waits a second and a half.
    assert sent[2].at - sent[1].at > 1.3
    assert health.known(await line.channel()).used == 85
    # What was told more than an hour ago is not shown any more, nor is what needs no care.
    channel = await line.channel()
    channel.health = {**channel.health, "used_at": int(time.time()) - 4000}
    assert health.known(channel).used is None
    line.number.usage_percent = 40
    await health.check(line.place.core, channel.id)
    assert health.known(await line.channel()).used is None
    line.number.usage_percent = 93
    await health.check(line.place.core, channel.id)
    assert health.known(await line.channel()).used == 93


async def test_instagram_is_slowed_by_what_its_app_has_used(
    database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes
) -> None:
    async with instagram_line(tmp_path, database_url, meta, fakes) as line:
        assert isinstance(line, InstagramLine)
        await line.ask(1)
        await line.account.wait_sent(1)
        meta.own.app_usage = {"call_count": 20, "total_time": 100, "total_cputime": 3}
        await line.place.core.instagram_graph.call("GET", "me", INSTAGRAM_TOKEN)
        await line.ask(2)
        await line.until(lambda: _waits(line))
        assert line.answers() == [1] and health.known(await line.channel()).used == 100


async def test_what_was_told_of_one_token_says_nothing_of_another(graph: FakeGraph) -> None:
    async with aiohttp.ClientSession() as session:
        api = GraphApi(session, graph.base_url, "v26.0")
        graph.add_number("1001", token=WHATSAPP_TOKEN, app_secret="s" * 20, waba_id="20", display_phone_number="+998 1")
        graph.numbers["1001"].usage_percent = 90
        await api.call("GET", "1001", WHATSAPP_TOKEN)
        told = api.usage(WHATSAPP_TOKEN)
        assert told is not None and told.percent == 90 and 0 < told.left_s <= 600
        assert api.usage("EAAanother") is None
        assert WHATSAPP_TOKEN not in json.dumps(list(vars(api)["_used"]))
