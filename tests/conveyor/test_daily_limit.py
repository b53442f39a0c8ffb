"""What a day allows an owner's bots is counted in the database's rows."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import update

from db import models
from services.i18n import translate
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
