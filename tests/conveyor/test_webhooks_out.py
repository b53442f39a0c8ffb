"""Owners' own servers are told what happens: signed, in order, again until it arrives, and nobody else's."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import select

from db import models
from services import conversations, endpoints, telling
from tests.conveyor.harness import Floor, Tenant, floor, settings_for
from tests.conveyor.nursery import Nursery
from tests.conveyor.receiver import Receiver, Told
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
ANY: Mapping[str, Any] = {"addresses": "any", "timeout_s": 5}


async def listen(place: Floor, tenant: Tenant, url: str, *events: str) -> tuple[str, str]:
    """Let an owner's server be told; return the endpoint's id and secret."""
    core = place.core
    async with core.db.write() as session:
        wanted = events or tuple(endpoints.EVENTS)
        row, secret = await endpoints.create(
            session, core.settings, core.crypto, tenant.shop.owner, url=url, events=wanted
        )
    return row.id, secret


async def events_of(place: Floor, endpoint_id: str, status: str) -> list[models.EndpointEvent]:
    """Return what an endpoint was told with this state."""
    event = models.EndpointEvent
    wanted = select(event).where(event.endpoint_id == endpoint_id, event.status == status).order_by(event.id)
    return [row[0] for row in await place.rows(wanted)]


async def test_an_owner_hears_of_everything_and_of_nothing_else(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    async with (
        Receiver() as mine,
        Receiver() as narrow,
        floor(tmp_path, database_url, fake, fake_models, webhooks=ANY) as place,
    ):
        shop, other = await place.tenant(), await place.tenant("Chinor")
        endpoint_id, secret = await listen(place, shop, mine.url)
        _, narrow_secret = await listen(place, shop, narrow.url, endpoints.CLOSED)
        aziza, bobur = shop.person(), other.person()
        shop.ask(aziza)
        other.ask(bobur)
        await shop.answered()
        await other.answered()
        await mine.hears(3)
        # A person is asked for, answers and closes the conversation.
        aziza.send(shop.bot, "/operator")
        await mine.hears(6)
        core = place.core
        async with core.db.write() as session:
            talk_id = await session.scalar(
                select(models.Conversation.id).where(models.Conversation.bot_id == shop.shop.bot.id)
            )
            row = await conversations.get(session, shop.shop.owner, str(talk_id))
            await conversations.operator_reply(session, row, "Men shu yerdaman", author=shop.shop.owner)
            await conversations.set_status(session, row, "closed", actor=shop.shop.owner)
            await conversations.set_status(session, row, "closed", actor=shop.shop.owner)
        told = await mine.hears(8)
        await narrow.hears(1)
        kinds = mine.types()
        assert kinds[:3] == [endpoints.NEW_CONTACT, endpoints.RECEIVED, endpoints.ANSWERED]
        assert sorted(kinds[3:6]) == sorted([endpoints.RECEIVED, endpoints.ANSWERED, endpoints.WAITING])
        assert kinds[6:] == [endpoints.ANSWERED, endpoints.CLOSED]
        assert narrow.types() == [endpoints.CLOSED]
        assert all(each.signed_by(secret) and not each.signed_by(narrow_secret) for each in told)
        assert len({each.id for each in told}) == len(told)
        # Bodies are as the guide shows them, and only of this owner's bot.
        for each in told:
            assert shape(each.body["data"]) == shape(endpoints.EXAMPLES[each.type]), each.type
            assert set(each.body) == {"type", "timestamp", "data"}
            assert each.body["data"]["bot_id"] == shop.shop.bot.id
        operator = told[6].body["data"]["message"]
        assert (operator["author"], operator["text"]) == ("operator", "Men shu yerdaman")
        await place.until(lambda: all_delivered(place, endpoint_id, 8))


def shape(value: Any) -> Any:
    """Return the names in a body, without the values."""
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


async def all_delivered(place: Floor, endpoint_id: str, number: int) -> bool:
    """Whether so many events are marked as delivered."""
    return len(await events_of(place, endpoint_id, "delivered")) == number


async def test_a_failing_server_holds_nobody_up_and_gets_the_same_again(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    async with (
        Receiver() as good,
        Receiver(503) as bad,
        floor(tmp_path, database_url, fake, fake_models, webhooks=ANY) as place,
    ):
        release = asyncio.Event()

        async def hang(_: Told) -> web.StreamResponse:
            await release.wait()
            return web.Response(status=503, text="x" * 100_000)

        bad.answer = hang
        shop = await place.tenant()
        bad_id, secret = await listen(place, shop, bad.url)
        await listen(place, shop, good.url)
        shop.ask(shop.person())
        # All of it arrives at the one while the other has not answered anything.
        await good.hears(3)
        assert len(bad.told) == 1
        release.set()
        failed = await place.until(lambda: tried(place, bad_id))
        assert (failed.http_status, failed.attempts, len(failed.answer)) == (503, 1, 500)
        # Later the server works again: what waits comes in the order of its making, the failed one with its own id and body.
        bad.answer, bad.status = None, 200
        turn(place, dt.timedelta(minutes=10))
        told = await bad.hears(4)
        assert sorted(each.type for each in told[1:]) == sorted(good.types())
        assert [each.type for each in told[1:] if each.id != told[0].id] == good.types()[1:]
        again = next(each for each in told[1:] if each.id == told[0].id)
        assert again.raw == told[0].raw and again.signed_by(secret)
        await place.until(lambda: all_delivered(place, bad_id, 3))
        assert (await place.rows(select(models.Endpoint.failing_since).where(models.Endpoint.id == bad_id)))[0][
            0
        ] is None


async def tried(place: Floor, endpoint_id: str) -> models.EndpointEvent | None:
    """Return the event that was tried without success."""
    return next((row for row in await events_of(place, endpoint_id, "waiting") if row.http_status), None)


def turn(place: Floor, by: dt.timedelta) -> None:
    """Turn the product's clock on and wake who waits for it."""
    before = place.core.now
    place.core.now = lambda: before() + by
    place.core.bell.ring("endpoints")


async def test_a_server_that_wants_nothing_or_fails_for_days_is_switched_off_and_its_owner_told(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    async with (
        Receiver(410) as gone,
        Receiver(302) as moved,
        floor(tmp_path, database_url, fake, fake_models, webhooks=ANY) as place,
    ):

        async def elsewhere(_: Told) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": gone.url})

        moved.answer = elsewhere
        shop = await place.tenant()
        gone_id, _ = await listen(place, shop, gone.url, endpoints.NEW_CONTACT)
        moved_id, _ = await listen(place, shop, moved.url, endpoints.NEW_CONTACT)
        shop.ask(shop.person())
        assert (await place.noticed(shop, "endpoint_gone")).params == {"host": "127.0.0.1"}
        assert [row.status for row in await events_of(place, gone_id, "failed")] == ["failed"]
        # A redirect is followed nowhere: it is a failure like others, until there were too many for too long.
        asked = 1
        for step in telling.AGAIN_S:
            await moved.hears(asked)
            await place.until(partial(attempted, place, moved_id, asked))
            turn(place, dt.timedelta(seconds=step + 301))
            asked += 1
        await moved.hears(asked)
        await place.noticed(shop, "endpoint_off")
        assert len(gone.told) == 1
        assert (
            len(moved.told) == len(telling.AGAIN_S) + 1 == len(await events_of(place, moved_id, "failed")) + asked - 1
        )
        # While it is off nothing is written for it; what was given up can be sent again once it is on.
        shop.ask(shop.person())
        await shop.answered()
        moved.answer, moved.status = None, 204
        event = (await events_of(place, moved_id, "failed"))[0]
        async with place.core.db.write() as session:
            owner = shop.shop.owner
            await endpoints.switch(session, owner, moved_id, True, now=place.core.now())
            await endpoints.resend(session, owner, moved_id, event.id, now=place.core.now())
        turn(place, dt.timedelta(hours=1))
        await place.until(lambda: all_delivered(place, moved_id, 1))
        assert {told.id for told in moved.told} == {f"msg_{event.id}"}


async def attempted(place: Floor, endpoint_id: str, number: int) -> bool:
    """Whether the only event was tried so often, and that is written down."""
    event = models.EndpointEvent
    rows = await place.rows(select(event.attempts, event.run_at).where(event.endpoint_id == endpoint_id))
    step = telling.AGAIN_S[number - 1]
    row = rows[0]
    return bool(row.attempts == number and row.run_at <= place.core.now() + dt.timedelta(seconds=step))


async def test_killed_between_sending_and_its_mark_it_is_sent_again_under_its_id(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    async with Receiver() as mine:
        async with floor(tmp_path, database_url, fake, fake_models, webhooks=ANY) as place:
            shop = await place.tenant()
            endpoint_id, secret = await listen(place, shop, mine.url, endpoints.NEW_CONTACT)
        child = await children.start(
            settings_for(tmp_path, database_url, fake, fake_models, webhooks=ANY), point="endpoint_told"
        )
        shop.ask(shop.person())
        await child.hears("paused")
        await child.kill()
        first = (await mine.hears(1))[0]
        async with floor(tmp_path, database_url, fake, fake_models, webhooks=ANY) as place:
            turn(place, dt.timedelta(hours=1))
            await place.until(lambda: all_delivered(place, endpoint_id, 1), 60)
        again = mine.told[-1]
        assert len(mine.told) == 2
        assert (again.id, again.raw) == (first.id, first.raw) and again.signed_by(secret)


async def test_a_new_secret_signs_and_for_a_day_the_old_one_too(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with (
        Receiver() as mine,
        floor(tmp_path, sqlite_url, fake, fake_models, webhooks=ANY) as place,
    ):
        shop, core = await place.tenant(), place.core
        endpoint_id, old = await listen(place, shop, mine.url)
        async with core.db.write() as session:
            new = await endpoints.rotate(session, core.crypto, shop.shop.owner, endpoint_id, now=core.now())
            await endpoints.send_test(session, shop.shop.owner, endpoint_id)
        core.bell.ring("endpoints")
        first = (await mine.hears(1))[0]
        assert first.type == endpoints.TEST and first.signed_by(new) and first.signed_by(old)
        turn(place, dt.timedelta(hours=25))
        async with core.db.write() as session:
            await endpoints.send_test(session, shop.shop.owner, endpoint_id)
        core.bell.ring("endpoints")
        second = (await mine.hears(2))[1]
        assert second.signed_by(new) and not second.signed_by(old)
        stored = await place.one(select(models.Endpoint.secret))
        assert new not in stored and old not in stored
