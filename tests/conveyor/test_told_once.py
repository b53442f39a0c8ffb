"""What stops a bot: its owner hears once in the factory bot's chat that it broke, and once that it works again."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from services import accounts, bots, polling
from services.i18n import translate
from tests.conveyor.clock import due, named, waits
from tests.conveyor.harness import Floor, Tenant, floor, new_token, texts
from tests.conveyor.owners import owner
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, Fault

Fakes = tuple[FakeTelegram, FakeModels]
RESTING = "This bot is resting now 😴 Please write again later."


def _signs(heard: list[str]) -> list[str]:
    return [text[0] for text in heard]


async def _hits(fake: FakeTelegram, fault: Fault, times: int) -> None:
    await fake.wait_until(lambda: fault.hits >= times)


async def _status(place: Floor, shop: Tenant) -> str:
    return str(await place.one(select(models.Channel.status).where(models.Channel.id == shop.shop.channel.id)))


async def test_a_revoked_token_and_a_new_one(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    async with floor(tmp_path, database_url, *fakes, environment=environment) as place:
        told = await owner(place, factory)
        shop = await place.tenant(email=told.email)
        other = await place.tenant("Boshqa", email=told.email)
        shop.bot.revoke()
        await told.hears("⚠️", "token_refused", shop)
        assert await _status(place, shop) == "refused"
        # The same again, from a start that meets the same token, is no news.
        await place.core.channel_failed(shop.shop.channel.id, "refused", "Unauthorized")
    async with floor(tmp_path, database_url, *fakes, environment=environment) as place:
        await other.answered([other.ask(other.person())])
        renewed = fake.add_bot(f"{shop.bot.id}:CANARY_token_not_real_{'B' * 20}")
        async with place.core.db.write() as session:
            bot = await bots.get(session, shop.shop.owner, shop.shop.bot.id)
            identity = await place.core.telegram.get_me(renewed.token)
            await bots.connect_telegram(session, bot, identity=identity, token=renewed.token, crypto=place.core.crypto)
        place.core.bell.ring("channels")
        again = Tenant(fake, renewed, shop.shop)
        await again.answered([again.ask(again.person())])
        await told.later(place)
        await told.hears("✅", "channel_recovered", shop)
        await told.later(place)
        await other.answered([other.ask(other.person())])
        assert _signs(told.heard()) == ["⚠", "✅"]
        assert await _status(place, shop) == "active"


async def test_another_program_that_reads_the_bot(
    tmp_path: Path, database_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    # Longer than the steps below take on a slow machine: ``due`` ends the pauses.
    monkeypatch.setattr(polling, "_CONFLICT_PAUSE_S", 15.0)
    async with floor(tmp_path, database_url, *fakes, environment=environment) as place:
        told = await owner(place, factory)
        shop = await place.tenant(email=told.email)
        await shop.answered([shop.ask(shop.person())])
        conflict = fake.fail(409, bot=shop.bot, method="getUpdates", times=None)
        receiving = f"receive:{shop.shop.channel.id}"
        await fake.wait_until(lambda: shop.bot.polled)
        shop.bot.interfere()
        for hits in (1, 2):
            # Once or twice is no trouble.
            await waits(receiving)
            assert await _status(place, shop) == "active" and not await place.notices(shop)
            await due(receiving)
            await _hits(fake, conflict, hits)
        await told.hears("⚠️", "conflict", shop)
        assert await _status(place, shop) == "conflict"
        for hits in (3, 4):
            await due(receiving)
            await _hits(fake, conflict, hits)
        fake.clear_faults()
        number = shop.ask(shop.person())
        await due(receiving)
        assert (await shop.answered([number]))[number] == 1
        # It may come back: for some minutes nothing is called mended.
        assert await _status(place, shop) == "conflict"
        monkeypatch.setattr(polling, "_CONFLICT_MEMORY_S", 0.0)
        await shop.answered([shop.ask(shop.person())])
        await place.noticed(shop, "channel_recovered")
        assert await _status(place, shop) == "active"
        await told.later(place)
        await told.hears("✅", "channel_recovered", shop)
        await told.later(place)
        await shop.answered([shop.ask(shop.person())])
        assert _signs(told.heard()) == ["⚠", "✅"]


async def test_a_bot_that_silently_receives_nothing_more(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    beside = named("receivers")
    async with floor(
        tmp_path, database_url, *fakes, environment=environment, telegram={"silent_after_s": 0.001}
    ) as place:
        told = await owner(place, factory)
        shop = await place.tenant(email=told.email)
        await shop.answered([shop.ask(shop.person())])
        silence = fake.hold(bot=shop.bot, method="getUpdates")
        # Ends the poll that waits; the next one is never answered.
        number = shop.ask(shop.person())
        await silence.reached.wait()
        await shop.answered([number])
        unheard = shop.ask(shop.person())
        for polls in (2, 3):
            # The next look at the receivers finds it silent and begins anew.
            await due("receivers", beside=beside)
            await _hits(fake, silence, polls)
        await told.hears("⚠️", "silent", shop)
        fake.clear_faults()
        assert (await shop.answered([unheard]))[unheard] == 1
        await place.noticed(shop, "channel_recovered")
        await told.later(place)
        await told.hears("✅", "channel_recovered", shop)
        assert set((await shop.answered([shop.ask(shop.person())])).values()) == {1}
        assert _signs(told.heard()) == ["⚠", "✅"]


async def test_a_bot_whose_owner_is_banned_is_polite_and_says_no_more(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        person = shop.person("uz")
        hold = fake_models.hold()
        begun = shop.ask(person)
        await hold.reached.wait()
        async with place.core.db.write() as session:
            await accounts.ban(session, await session.get_one(models.User, shop.shop.owner.id))
        fake_models.release()
        # What was begun is finished, then one polite line each time; nothing is asked of a model any more.
        await shop.answered([begun])
        requests = len(fake_models.requests)
        for said in ("Muzlatgichlarga kafolat bormi?", "/operator", "/start", "odam kerak"):
            person.send(shop.bot, said)
            await fake.wait_message(person.id, lambda sent: sent.text == translate("uz", RESTING), bot=shop.bot)
        assert len(fake_models.requests) == requests
        assert len(texts(fake.messages(person.id, shop.bot))) == 5
        assert not await place.notices(shop)
        await other.answered([other.ask(other.person())])
        open_lanes = select(func.count()).where(models.Lane.pending > 0, models.Lane.kind.in_(("inbox", "outbox")))

        async def settled() -> bool:
            return not await place.one(open_lanes)

        await place.until(settled)
