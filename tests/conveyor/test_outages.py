"""The database is away for a moment while Telegram says something: it is written down as soon as it is back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import literal, select

from db import models
from db.engine import DatabaseUnavailable
from tests.composition import make_shop
from tests.conveyor.harness import Floor, Tenant, floor, new_token
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import Postgres, migrate, new_folder, run_sql

Fakes = tuple[FakeTelegram, FakeModels]
_databases = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL that the tests may stop and start."""
    folder = new_folder()
    started = Postgres(folder)
    started.start()
    yield started
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def url(server: Postgres) -> str:
    """The address of a migrated database of the test's own on that server."""
    name = f"away_{next(_databases)}"
    run_sql(server.folder / "data", f"CREATE DATABASE {name}")
    await asyncio.to_thread(migrate, server.url(name))
    return server.url(name)


async def _while_away(place: Floor, server: Postgres, happens: Callable[[], Awaitable[object]]) -> None:
    """Let something happen while the database is away."""
    await asyncio.to_thread(server.stop, at_once=True)
    await happens()
    # Whoever wanted the database at that moment was refused by now.
    for _ in range(10):
        with pytest.raises(DatabaseUnavailable):
            await place.one(select(literal(1)))
    # Not in a thread: the server ends with the thread that started it.
    server.start()


async def _status(place: Floor, shop: Tenant, status: str) -> bool:
    found = await place.one(select(models.Channel.status).where(models.Channel.id == shop.shop.channel.id))
    return bool(found == status)


async def test_a_token_that_is_refused_meanwhile_is_not_called_silence(
    tmp_path: Path, server: Postgres, url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, url, *fakes) as place:
        shop = await place.tenant()
        person = shop.person()
        await shop.answered([shop.ask(person)])
        refusal = fake.fail(401, bot=shop.bot, method="getUpdates", times=None)

        async def refused() -> None:
            # Ends the poll that waits; the next one is refused.
            shop.ask(person)
            await refusal.reached.wait()

        await _while_away(place, server, refused)
        await place.until(lambda: _status(place, shop, "refused"))
        assert [notice.kind for notice in await place.notices(shop)] == ["token_refused"]


async def test_a_webhook_that_works_again_meanwhile_is_looked_after(
    tmp_path: Path, server: Postgres, url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, url, *fakes, environment={"WEBHOOK_BASE_URL": "https://bots.example.uz"}) as place:
        bot = fake.add_bot(new_token())
        shop = Tenant(fake, bot, await make_shop(place.core, email="away@example.uz", telegram=bot.token))
        await fake.wait_call("setWebhook", bot=bot)
        held = fake.hold(bot=bot, method="setWebhook")
        async with place.core.db.write() as session:
            channel = await session.get_one(models.Channel, shop.shop.channel.id)
            # A trouble to be solved, and a reason to begin anew.
            channel.status, channel.secret = "conflict", f"{channel.secret}-new"
        place.core.bell.ring("channels")
        await held.reached.wait()

        async def accepted() -> None:
            held.release()
            await fake.wait_until(lambda: all(call.status for call in fake.called("setWebhook", bot)))

        await _while_away(place, server, accepted)
        await place.until(lambda: _status(place, shop, "active"))
        assert fake.called("getWebhookInfo", bot)
        assert not await place.notices(shop)


async def test_the_factory_bot_begins_when_the_database_is_back(
    tmp_path: Path, server: Postgres, url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    held = fake.hold(bot=factory, method="getMe")
    async with floor(tmp_path, url, *fakes, environment={"TELEGRAM_BOT_TOKEN": factory.token}) as place:
        await held.reached.wait()

        async def tried() -> None:
            held.release()
            # It comes back to the beginning, where Telegram is asked once more.
            await fake.wait_call("getMe", bot=factory, times=2)

        await _while_away(place, server, tried)
        await fake.wait_call("getUpdates", bot=factory, timeout=20)


async def test_what_a_network_says_is_noted_whatever_characters_it_has(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        bot = fake.add_bot(new_token())
        fake.fail(401, "Unauthorized\x00 \ud83d!", bot=bot, method="getUpdates", times=None)
        shop = Tenant(fake, bot, await make_shop(place.core, email="odd@example.uz", telegram=bot.token))
        await place.until(lambda: _status(place, shop, "refused"))
        channel = select(models.Channel.last_error).where(models.Channel.id == shop.shop.channel.id)
        assert await place.one(channel) == "Unauthorized !"
