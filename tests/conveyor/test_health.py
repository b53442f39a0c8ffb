"""How channels are: asked of the networks, told to owners before customers notice; and Meta's troubles, each with its channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, update

from db import models
from services import bots, health, upkeep
from services.channels.base import Place, TokenRefused
from services.channels.telegram import TelegramApi, TelegramChannel
from services.errors import Unavailable
from tests.composition import Shop, address, make_shop
from tests.conveyor.harness import Floor, new_token
from tests.conveyor.lines import connect_whatsapp as connect
from tests.conveyor.lines import running_whatsapp as running
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]

DAY_S = 86_400
ASKER, OTHER = "998900000001", "998900000002"


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    """Meta."""
    async with FakeGraph() as started:
        yield started


@dataclass
class Line:
    """A shop on a number."""

    place: Floor
    graph: FakeGraph
    number: FakeNumber
    shop: Shop
    session: aiohttp.ClientSession

    async def ask(self, wa_id: str = ASKER, text: str = "Muzlatgichlarga kafolat bormi?") -> None:
        """Let somebody write."""
        raw = self.graph.body(self.number.message(wa_id, text))
        webhook = f"{address(self.place.core)}/whatsapp/webhook"
        assert await self.graph.deliver(self.session, webhook, raw, self.number.app_secret) == 200

    async def channel(self) -> models.Channel:
        """Return the channel as it stands."""
        found: models.Channel = await self.place.one(
            select(models.Channel).where(models.Channel.external_id == self.number.phone_number_id)
        )
        return found

    async def check(self, *, asked: bool = False) -> models.Channel:
        """Look at the channel now; return it as it is then."""
        await health.check(self.place.core, (await self.channel()).id, asked=asked)
        return await self.channel()

    async def open_notices(self) -> list[str]:
        """Return the kinds of what the owner should know now."""
        return sorted(
            row[0]
            for row in await self.place.rows(
                select(models.Notice.kind).where(
                    models.Notice.user_id == self.shop.owner.id, models.Notice.resolved_at.is_(None)
                )
            )
        )

    async def told(self, kind: str) -> int:
        """Return how many notices of a kind there ever were."""
        return len(
            await self.place.rows(
                select(models.Notice.id).where(models.Notice.user_id == self.shop.owner.id, models.Notice.kind == kind)
            )
        )

    async def until_status(self, status: str) -> None:
        """Wait until the channel has this status."""

        async def there() -> bool:
            return (await self.channel()).status == status

        await self.place.until(there)


@dataclass
class Street:
    """Two shops of different owners, each on a number of its own app and account."""

    a: Line
    b: Line


@pytest.fixture
async def street(database_url: str, tmp_path: Path, graph: FakeGraph, fakes: Fakes) -> AsyncIterator[Street]:
    """Two connected numbers in one product."""
    async with running(tmp_path, database_url, graph, fakes) as (place, session):
        lines = []
        for n in (1, 2):
            number = graph.add_number(
                f"10000000000010{n}",
                token=f"EAACANARY_token_of_shop_{n}_0123456789",
                app_secret=f"meta-app-secret-of-shop-{n}",
                waba_id=f"20000000000020{n}",
                display_phone_number=f"+998 00 000 01 0{n}",
                app_id=f"40000000000040{n}",
            )
            shop = await make_shop(place.core, f"Shop {n}", email=f"shop{n}@example.uz")
            status, _ = await connect(
                place.core,
                session,
                shop,
                access_token=number.token,
                phone_number_id=number.phone_number_id,
                app_secret=number.app_secret,
                verify_token=f"verify-me-0{n}",
            )
            assert status == 201
            lines.append(Line(place, graph, number, shop, session))
        yield Street(*lines)


# F8: one channel stops or waits, the others go on


@pytest.mark.parametrize(
    ("code", "subcode", "http", "status", "notice"),
    [
        (190, 463, 401, "refused", "whatsapp_token_refused"),
        (131005, None, 403, "refused", "whatsapp_token_refused"),
        (131042, None, 400, "blocked", "whatsapp_blocked"),
        (131031, None, 400, "blocked", "whatsapp_blocked"),
        (131047, None, 400, "active", "window_closed"),
        (130429, None, 429, "active", None),
        (80007, None, 400, "active", None),
        (131048, None, 400, "active", None),
    ],
)
async def test_a_trouble_of_one_number_stays_its_own(
    street: Street, graph: FakeGraph, code: int, subcode: int | None, http: int, status: str, notice: str | None
) -> None:
    a, b = street.a, street.b
    fault = graph.fail(code, subcode=subcode, http=http, times=None, phone_number_id=a.number.phone_number_id)
    await a.ask()
    await fault.reached.wait()
    await a.until_status(status)
    if notice:

        async def heard() -> bool:
            return notice in await a.open_notices()

        await a.place.until(heard)
    # The others go on, while customers of the first one keep writing.
    for n in range(5):
        await a.ask(f"99890000001{n}")
    for n in range(5):
        await b.ask(f"99890000002{n}")
    await b.number.wait_sent(5)
    assert (await b.channel()).status == "active" and not await b.open_notices()
    # No storm: what is refused is not asked again, what has to wait waits. Of those who wrote at once some were on their way.
    assert len(graph.called("send", a.number.phone_number_id)) <= 7
    assert not a.number.sent


async def test_a_limited_pair_waits_alone(street: Street, graph: FakeGraph) -> None:
    a, b = street.a, street.b
    fault = graph.fail(131056, times=None, to=ASKER, phone_number_id=a.number.phone_number_id)
    await a.ask(ASKER)
    await fault.reached.wait()
    await a.ask(OTHER)
    await b.ask(ASKER)
    (to_other,) = await a.number.wait_sent(1)
    (from_b,) = await b.number.wait_sent(1)
    assert (to_other["to"], from_b["to"]) == (OTHER, ASKER)
    assert fault.hits == 1 and (await a.channel()).status == "active"
    fault.times = 1
    await a.number.wait_sent(2, timeout=30)


async def test_a_lost_subscription_is_noticed_and_mended(street: Street) -> None:
    a, b = street.a, street.b
    a.number.subscribed = False
    channel = await a.check()
    assert (channel.status, channel.health["webhook"], channel.settings["subscribed"]) == ("active", "missing", False)
    assert await a.open_notices() == ["webhook_lost"] and not await b.open_notices()
    # Whoever presses the button has it mended; the round alone changes nothing at the network.
    assert not a.number.subscribed
    channel = await a.check(asked=True)
    assert a.number.subscribed and channel.health["webhook"] == "ok" and channel.settings["subscribed"]
    assert await a.open_notices() == []
    a.number.override_callback_uri, a.number.verify_token = "https://elsewhere.example.uz/hook", "x"
    assert (await a.check()).health["webhook"] == "foreign"
    assert await a.open_notices() == ["webhook_lost"]


# Before customers notice


async def test_the_end_of_a_token_is_told_once_a_week_and_once_a_day_before(street: Street) -> None:
    a, b = street.a, street.b
    now = int(time.time())
    a.number.token_expires_at = now + 30 * DAY_S
    channel = await a.check()
    assert channel.health["token_expires_at"] == a.number.token_expires_at and not await a.open_notices()
    a.number.token_expires_at = now + 6 * DAY_S
    for _ in range(3):
        await a.check()
    assert await a.open_notices() == ["token_expires"] and await a.told("token_expires") == 1
    a.number.token_expires_at = now + DAY_S // 2
    for _ in range(3):
        await a.check()
    assert await a.open_notices() == ["token_expires_soon"]
    assert (await a.told("token_expires"), await a.told("token_expires_soon")) == (1, 1)
    # A token without an end: nothing is left to tell, and nothing "works again" that had not stopped.
    async with a.place.core.db.write() as session:
        await session.execute(update(models.Notice).values(told_at=models.Notice.created_at))
    a.number.token_expires_at = 0
    await a.check()
    assert await a.open_notices() == [] and await a.told("channel_recovered") == 0
    # The right to see anything may end before the token does.
    a.number.data_access_expires_at = now + 3 * DAY_S
    await a.check()
    assert await a.open_notices() == ["token_expires"]
    assert not await b.open_notices()


async def test_low_quality_is_told_and_ends(street: Street) -> None:
    a = street.a
    a.number.quality_rating = "RED"
    assert (await a.check()).health["quality"] == "red"
    await a.check()
    assert await a.open_notices() == ["quality_red"] and await a.told("quality_red") == 1
    a.number.quality_rating = "YELLOW"
    assert (await a.check()).health["quality"] == "yellow"
    assert await a.open_notices() == []


async def test_a_revoked_token_is_found_before_a_customer_writes(street: Street) -> None:
    a, b = street.a, street.b
    token, a.number.token = a.number.token, "EAAanother_one_0123456789"
    channel = await a.check()
    assert channel.status == "refused" and await a.open_notices() == ["whatsapp_token_refused"]
    await a.check()
    assert await a.told("whatsapp_token_refused") == 1
    assert (await b.check()).status == "active"
    a.number.token = token
    assert (await a.check()).status == "active" and "whatsapp_token_refused" not in await a.open_notices()


async def test_a_banned_number_is_found_and_comes_back(street: Street) -> None:
    a = street.a
    a.number.state = "BANNED"
    channel = await a.check()
    assert (channel.status, await a.open_notices()) == ("blocked", ["whatsapp_blocked"])
    a.number.state = "CONNECTED"
    assert (await a.check()).status == "active" and not await a.open_notices()


async def test_what_cannot_be_seen_is_not_over_until_somebody_says_so(street: Street) -> None:
    a = street.a
    await a.place.core.network_trouble((await a.channel()).id, 131042, "131042: no payment method")
    assert (await a.check()).status == "blocked"
    assert str(health.known(await a.channel()).trouble) and "131042" in health.known(await a.channel()).detail
    assert (await a.check(asked=True)).status == "active"


async def test_a_token_that_only_sends_is_no_trouble(street: Street) -> None:
    a = street.a
    a.number.scopes = ("whatsapp_business_messaging",)
    channel = await a.check()
    assert channel.status == "active" and channel.health["webhook"] == "" and not await a.open_notices()


# A round


async def _aged(place: Floor) -> None:
    async with place.core.db.write() as session:
        await session.execute(update(models.Channel).values(health={"checked_at": 1}))


async def test_a_round_takes_those_whose_turn_it_is(street: Street, graph: FakeGraph) -> None:
    core = street.a.place.core
    graph.calls.clear()
    await health.check_due(core, {})
    assert not graph.calls
    await _aged(street.a.place)
    async with core.db.write() as session:
        channel = await session.get_one(models.Channel, (await street.a.channel()).id)
        channel.credentials = "not encrypted by us"
    await health.check_due(core, {})
    assert (await street.a.channel()).status == "unreadable"
    assert (await street.b.channel()).health["checked_at"] > 1
    assert await street.a.open_notices() == ["whatsapp_unreadable"]
    graph.calls.clear()
    await health.check_due(core, {})
    assert not graph.calls


async def test_a_round_is_a_job_of_its_hour(street: Street) -> None:
    core = street.a.place.core
    await _aged(street.a.place)
    assert await upkeep.enqueue_due(core, health.CHECK_JOB)
    assert not await upkeep.enqueue_due(core, health.CHECK_JOB)

    async def both() -> bool:
        at: list[int] = [(await line.channel()).health["checked_at"] for line in (street.a, street.b)]
        return min(at) > 1

    await street.a.place.until(both)


@pytest.mark.parametrize("fault", ["cut", "html", "throttled"])
async def test_a_dead_network_says_nothing_about_channels(street: Street, graph: FakeGraph, fault: str) -> None:
    a, core = street.a, street.a.place.core
    known = await a.channel()
    async with core.db.write() as session:
        for n in range(30):
            session.add(
                models.Channel(
                    bot_id=a.shop.bot.id,
                    kind="whatsapp",
                    external_id=f"30000000000{n:04}",
                    credentials=known.credentials,
                    status="active",
                )
            )
    await _aged(a.place)
    graph.calls.clear()
    if fault == "cut":
        graph.cut(times=None, on="any", after_effect=False)
    elif fault == "html":
        graph.answer_raw(502, "<html>", times=None, on="any")
    else:
        graph.fail(4, times=None, on="any", phone_number_id=a.number.phone_number_id)
        graph.answer_raw(429, "slow down", times=None, on="any")
    await health.check_due(core, {})
    # Three in a row, and those that were on their way with the third, each asked at most twice: not thirty.
    assert 3 <= len(graph.calls) <= 12 and len({call.phone_number_id for call in graph.calls}) <= 6
    rows = await a.place.rows(select(models.Channel).where(models.Channel.kind == "whatsapp"))
    assert {row[0].status for row in rows} == {"active"} and not await a.open_notices()
    assert any(row[0].health.get("silent") for row in rows) and {row[0].health["checked_at"] for row in rows} == {1}
    with pytest.raises(Unavailable):
        await health.ask(core, known)
    graph.clear_faults()
    assert not (await a.check()).health.get("silent")


async def test_what_was_asked_with_an_old_token_is_not_kept(street: Street, graph: FakeGraph) -> None:
    a, core = street.a, street.a.place.core
    channel = await a.channel()
    fault = graph.hang(60, on="number", phone_number_id=a.number.phone_number_id)
    looking = asyncio.ensure_future(health.check(core, channel.id))
    await fault.reached.wait()
    a.number.token, a.number.quality_rating = "EAAnew_token_0123456789", "RED"
    status, _ = await connect(
        core,
        a.session,
        a.shop,
        access_token=a.number.token,
        phone_number_id=a.number.phone_number_id,
        app_secret=a.number.app_secret,
    )
    assert status == 201
    fault.release()
    await looking
    after = await a.channel()
    assert (after.status, after.health["quality"]) == ("active", "red")
    assert await a.open_notices() == []


async def test_nothing_is_told_of_a_channel_that_is_gone(street: Street) -> None:
    a, core = street.a, street.a.place.core
    a.number.quality_rating = "RED"
    channel = await a.check()
    assert await a.open_notices() == ["quality_red"]
    async with core.db.write() as session:
        await bots.disconnect(session, a.shop.bot, channel.id)
    assert await a.open_notices() == []
    await health.check(core, channel.id)
    assert await a.open_notices() == []


# Telegram


async def test_telegram_tells_of_its_webhook(fakes: Fakes) -> None:
    fake = fakes[0]
    bot = fake.add_bot(new_token())
    async with aiohttp.ClientSession() as session:
        api = TelegramApi(session, fake.base_url)
        adapter = TelegramChannel(api)
        given = {"token": bot.token}
        polled = await adapter.inspect(given, Place(str(bot.id)))
        assert (polled.webhook, polled.pending, polled.error) == ("ok", 0, "")
        address = f"{fake.base_url}/nobody"
        await api.call(bot.token, "setWebhook", url=address, secret_token="x")
        assert (await adapter.inspect(given, Place(str(bot.id)))).webhook == "foreign"
        assert (await adapter.inspect(given, Place(str(bot.id), webhook=address))).webhook == "ok"
        await api.call(bot.token, "deleteWebhook")
        assert (await adapter.inspect(given, Place(str(bot.id), webhook=address))).webhook == ""
        with pytest.raises(TokenRefused):
            await adapter.inspect({"token": new_token()}, Place(str(bot.id)))


async def test_a_telegram_token_is_found_refused_and_well_again(street: Street, fakes: Fakes) -> None:
    place = street.a.place
    tenant = await place.tenant("Choyxona")
    channel: Any = tenant.shop.channel
    await health.check(place.core, channel.id)
    found = await place.one(select(models.Channel).where(models.Channel.id == channel.id))
    assert found.health["pending"] == 0 and found.health["checked_at"] > 1
    await place.core.channel_failed(channel.id, "refused", "Unauthorized")
    # The network is asked by the very call that had failed: it works again.
    await health.check(place.core, channel.id)
    found = await place.one(select(models.Channel).where(models.Channel.id == channel.id))
    assert (found.status, found.last_error) == ("active", "")


async def test_the_api_shows_how_a_channel_is(street: Street) -> None:
    a = street.a
    a.number.token_expires_at = int(time.time()) + 30 * DAY_S
    await a.check()
    async with a.session.get(
        f"{address(a.place.core)}/api/v1/bots/{a.shop.bot.id}/channels",
        headers={"Authorization": f"Bearer {a.shop.token}"},
    ) as response:
        items = {item["type"]: item for item in (await response.json())["items"]}
    told = items["whatsapp"]["health"]
    assert told["checked_at"] and told["token_expires_at"] and (told["quality"], told["webhook"]) == ("green", "ok")
    assert items["web"]["health"]["checked_at"] is None
