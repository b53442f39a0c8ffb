"""What a day allows an owner's bots is counted in the database's rows."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text, update

from db import models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services.core import Core
from services.i18n import translate
from services.spending import HEARD_REFRESH_S, SPENDING_REFRESH_S, Spending
from tests.composition import asked_of, make_settings, make_shop, running
from tests.conveyor.harness import Tenant, floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

WARRANTY = "Muzlatgichlarga kafolat bormi?"
BUSY = "Very many people are writing to us right now. Please write again a little later 🙏"


async def _said(fake: FakeTelegram, shop: Tenant, person: FakeUser, text: str) -> str:
    person.send(shop.bot, text)
    return (await fake.wait_message(person.id, bot=shop.bot)).text


async def test_a_restart_does_not_forget_how_many_messages_came_today(
    tmp_path: Path, database_url: str, fakes: tuple[FakeTelegram, FakeModels]
) -> None:
    fake, fake_models = fakes
    limits = {"owner_messages_per_day": 3}
    async with floor(tmp_path, database_url, fake, fake_models, limits=limits) as first:
        shop = await first.tenant()
        person = shop.person()
        for number in (1, 2):
            assert f"№{number}" in await _said(fake, shop, person, f"{WARRANTY} №{number}")
    async with floor(tmp_path, database_url, fake, fake_models, limits=limits) as second:
        assert "№3" in await _said(fake, shop, person, f"{WARRANTY} №3")
        assert await _said(fake, shop, person, f"{WARRANTY} №4") == translate("uz", BUSY)
        await second.noticed(shop, "over_limit")
    # Yesterday's messages, and those that were skipped, do not count.
    async with floor(tmp_path, database_url, fake, fake_models, limits=limits) as third:
        async with third.core.db.write() as session:
            await session.execute(update(models.Message).values(status="skipped"))
        assert "№5" in await _said(fake, shop, person, f"{WARRANTY} №5")


TALKS = 64


async def _came(core: Core, bot_id: str, owner_id: str, messages: int, cost: Decimal) -> None:
    async with core.db.write() as session:
        channel = models.Channel(bot_id=bot_id, kind="web", external_id=f"w{bot_id}")
        session.add(channel)
        await session.flush()
        contact = models.Contact(bot_id=bot_id, channel_id=channel.id, external_id="900")
        session.add(contact)
        await session.flush()
        talk = models.Conversation(
            bot_id=bot_id, channel_id=channel.id, contact_id=contact.id, last_message_at=utcnow(), recent=[]
        )
        session.add(talk)
        await session.flush()
        session.add_all(
            models.Message(conversation_id=talk.id, author="customer", text=WARRANTY, status="answered")
            for _ in range(messages)
        )
        session.add(
            models.AIUsage(owner_id=owner_id, provider="gemini", model_asked="m", cost_usd=cost, created_at=utcnow())
        )


async def test_talks_that_wait_for_the_days_rows_share_one_reading(tmp_path: Path, database_url: str) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        owner = shop.owner.id
        await _came(core, shop.bot.id, owner, 7, Decimal(3))
        now = 1000.0
        here = Spending(clock=lambda: now)
        with asked_of(core) as seen:

            def readings() -> int:
                # The program asks other things by itself meanwhile.
                return sum(owner in str(each.values) or "other " in str(each.values) for each in seen)

            counts = await asyncio.gather(*(here.heard(core, owner, 2) for _ in range(TALKS)))
            costs = await asyncio.gather(*(here.today(core, owner) for _ in range(TALKS)))
            assert readings() == 2
            # None is lost: the last one in hand knows of all the others.
            assert sorted(counts) == [7 + 2 * number for number in range(1, TALKS + 1)]
            assert costs == [Decimal(3)] * TALKS
            assert await here.heard(core, owner, 1) == 7 + 2 * TALKS + 1
            assert readings() == 2
            # The rows are read again later, and again once.
            now += max(HEARD_REFRESH_S, SPENDING_REFRESH_S)
            counts = await asyncio.gather(*(here.heard(core, owner, 1) for _ in range(TALKS)))
            await asyncio.gather(*(here.today(core, owner) for _ in range(TALKS)))
            assert sorted(counts) == [7 + number for number in range(1, TALKS + 1)]
            assert readings() == 4
            # Other owners' rows are their own.
            assert await asyncio.gather(*(here.heard(core, f"other {n}", 1) for n in range(3))) == [1, 1, 1]
            assert readings() == 7


@pytest.mark.parametrize("cancelled", [0, 1, TALKS - 1], ids=["who reads", "who waits", "who waits last"])
async def test_a_cancelled_talk_does_not_break_the_others(tmp_path: Path, sqlite_url: str, cancelled: int) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "idle") as core:
        shop = await make_shop(core, document=None)
        await _came(core, shop.bot.id, shop.owner.id, 7, Decimal(3))
        here = Spending()
        talks = [core.tasks.start(here.heard(core, shop.owner.id, 1), name=f"talk {number}") for number in range(TALKS)]
        # All have come as far as to the rows.
        await asyncio.sleep(0)
        talks[cancelled].cancel()
        counts = await asyncio.gather(*talks, return_exceptions=True)
        assert isinstance(counts.pop(cancelled), asyncio.CancelledError)
        assert sorted(count for count in counts if isinstance(count, int)) == list(range(8, 8 + TALKS - 1))


async def test_a_reading_that_fails_fails_once_for_all_and_is_tried_again(tmp_path: Path, sqlite_url: str) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "idle") as core:
        shop = await make_shop(core, document=None)
        here = Spending()
        async with core.db.write() as session:
            await session.execute(text("ALTER TABLE messages RENAME TO away"))
        with asked_of(core) as seen:
            failed = await asyncio.gather(
                *(here.heard(core, shop.owner.id, 1) for _ in range(TALKS)), return_exceptions=True
            )
            assert {type(error) for error in failed} == {DatabaseUnavailable}
            assert len(seen) == 1
        async with core.db.write() as session:
            await session.execute(text("ALTER TABLE away RENAME TO messages"))
        assert await here.heard(core, shop.owner.id, 1) == 1
