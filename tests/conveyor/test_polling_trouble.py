"""Trouble that does not stay: another reader that comes and goes, and a bot that falls silent while others come and go."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from services import bots, polling
from tests.conveyor.clock import due, waits
from tests.conveyor.harness import Floor, Tenant, floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, Fault
from tests.servers import free_port

Fakes = tuple[FakeTelegram, FakeModels]


async def _status(place: Floor, shop: Tenant) -> str:
    return str(await place.one(select(models.Channel.status).where(models.Channel.id == shop.shop.channel.id)))


def _hit(fault: Fault, times: int) -> bool:
    return fault.hits >= times


@pytest.fixture(autouse=True)
def _long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause after another reader was met is longer than what happens in it takes on a slow machine."""
    monkeypatch.setattr(polling, "_CONFLICT_PAUSE_S", 15.0)


async def _meets_another_reader(shop: Tenant) -> None:
    """The poll that waits is ended by somebody else's; the next one is answered."""
    polls = len(shop.fake.called("getUpdates", shop.bot))
    await shop.fake.wait_until(lambda: shop.bot.polled)
    shop.bot.interfere()
    await due(f"receive:{shop.shop.channel.id}")
    await shop.fake.wait_call("getUpdates", bot=shop.bot, times=polls + 1)
    await shop.answered([shop.ask(shop.person())])


async def test_a_reader_that_is_met_now_and_then_is_told_and_not_called_gone_at_once(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        for _ in range(2):
            await _meets_another_reader(shop)
            assert await _status(place, shop) == "active" and not await place.notices(shop)
        await _meets_another_reader(shop)
        await place.noticed(shop, "conflict")
        await shop.answered([shop.ask(shop.person())])
        await _meets_another_reader(shop)
        assert [(notice.kind, notice.count) for notice in await place.notices(shop)] == [("conflict", 1)]
    # A start does not know how long ago it was met.
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        await shop.answered([shop.ask(shop.person())])
        assert await _status(place, shop) == "conflict"
        monkeypatch.setattr(polling, "_CONFLICT_MEMORY_S", 0.0)
        await shop.answered([shop.ask(shop.person())])

        async def active() -> bool:
            return await _status(place, shop) == "active"

        await place.until(active)
        assert all(notice.resolved_at for notice in await place.notices(shop))


async def test_a_bot_that_is_started_again_while_another_program_reads_it_is_told_anew(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        rival = fake.fail(409, bot=shop.bot, method="getUpdates", times=None)
        shop.bot.interfere()
        for hits in (1, 2):
            await due(f"receive:{shop.shop.channel.id}")
            await fake.wait_until(partial(_hit, rival, hits))
        first = await place.noticed(shop, "conflict")
        async with place.core.db.write() as session:
            await bots.start(session, await bots.get(session, shop.shop.owner, shop.shop.bot.id))
        place.core.bell.ring("channels")

        async def told_anew() -> bool:
            return [notice.id for notice in await place.notices(shop) if not notice.resolved_at] not in ([], [first.id])

        await due(f"receive:{shop.shop.channel.id}")
        await place.until(told_anew)


async def _others_change(place: Floor) -> None:
    while True:
        place.core.bell.ring("channels")
        await asyncio.sleep(0.05)


async def test_a_silent_bot_is_noticed_while_channels_keep_changing(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_LOOK_S", 1.0)
    async with floor(tmp_path, sqlite_url, *fakes, telegram={"silent_after_s": 1}) as place:
        changes = place.core.tasks.start(_others_change(place), name="changes")
        # Nobody writes, so the poll is not answered.
        shop = await place.tenant()
        await place.noticed(shop, "silent")
        changes.cancel()
        assert set((await shop.answered([shop.ask(shop.person())])).values()) == {1}


async def test_a_webhook_that_another_program_sets_is_taken_away_again(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    elsewhere = "https://elsewhere.example.uz"
    fake.route(elsewhere, f"http://127.0.0.1:{free_port()}")
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        await shop.answered([shop.ask(shop.person())])
        polls = len(fake.called("getUpdates", shop.bot))
        shop.bot.set_webhook({"url": elsewhere})
        # Telegram refuses the polls now, and what comes waits for the other program.
        number = shop.ask(shop.person())
        await fake.wait_until(lambda: shop.bot.webhook_error)
        await due(f"receive:{shop.shop.channel.id}")
        await fake.wait_call("deleteWebhook", bot=shop.bot, times=2)
        assert not shop.bot.webhook_url
        assert (await shop.answered([number]))[number] == 1
        assert fake.called("getUpdates", shop.bot)[polls:]
        assert not await place.notices(shop)
        await other.answered([other.ask(other.person())])
        assert len(fake.called("deleteWebhook", other.bot)) == 1


async def test_what_another_program_asked_for_does_not_make_the_bot_deaf(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        polls = len(fake.called("getUpdates", shop.bot))
        # Telegram goes on giving what was asked for last, until it is asked for something else.
        await fake.call(shop.bot, "getUpdates", {"allowed_updates": ["poll_answer"], "timeout": 0}, {})
        await due(f"receive:{shop.shop.channel.id}")
        await fake.wait_call("getUpdates", bot=shop.bot, times=polls + 1)
        await fake.wait_until(lambda: shop.bot.polled)
        person = shop.person()
        await shop.answered([shop.ask(person)])
        person.block(shop.bot)

        async def marked() -> bool:
            gone = models.Contact.channel_id == shop.shop.channel.id, models.Contact.unreachable_since.is_not(None)
            return str(await place.one(select(models.Contact.external_id).where(*gone))) == str(person.id)

        await place.until(marked)


async def test_a_bot_that_is_told_to_poll_later_waits_for_so_long(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    clock = asyncio.get_running_loop().time
    wait_s = 3600
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        limit = fake.fail(429, bot=shop.bot, method="getUpdates", times=1, retry_after=wait_s)
        told = clock()
        await shop.answered([shop.ask(shop.person())])
        await limit.reached.wait()
        assert (await waits(f"receive:{shop.shop.channel.id}")).when() >= told + wait_s
        late = shop.ask(shop.person())
        await other.answered([other.ask(other.person())])
        assert shop.times()[late] == 0
        await due(f"receive:{shop.shop.channel.id}")
        assert (await shop.answered())[late] == 1
