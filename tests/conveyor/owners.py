"""Owners at the phone: what the factory bot tells them of their bots."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import count

from sqlalchemy import update

from db import models
from services import accounts, notices
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, texts
from tests.fakes.telegram import FakeBot, FakeTelegram

_owners = count(920_000_000)


@dataclass(frozen=True)
class Owner:
    """Somebody with an account who talks with the factory bot, in English."""

    fake: FakeTelegram
    factory: FakeBot
    number: int
    email: str

    def heard(self) -> list[str]:
        """Return all that the factory bot has told."""
        return texts(self.fake.messages(self.number, self.factory))

    async def hears(self, sign: str, kind: str, tenant: Tenant) -> None:
        """Wait for the message that says this of a bot."""
        said = translate("en", notices.TEXTS[kind].msgid, bot=tenant.shop.bot.name)
        await self.fake.wait_message(self.number, f"{sign} {said}", bot=self.factory, timeout=20)

    async def later(self, place: Floor) -> None:
        """Let the time pass in which further messages about a bot are kept together."""
        before = models.Notice.told_at.is_not(None)
        async with place.core.db.write() as session:
            long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=notices.GROUP_S + 60)
            await session.execute(update(models.Notice).where(before).values(told_at=long_ago))
        place.core.bell.ring("notices")


async def owner(place: Floor, factory: FakeBot) -> Owner:
    """Make an owner; returns when the factory bot can write."""
    number = next(_owners)
    place.fake.user(number, "en")
    factory.chats.add(number)
    email = f"phone{number}@example.uz"
    async with place.core.db.write() as session:
        await accounts.register_owner(session, telegram_id=number, email=email, full_name="Owner", language="en")

    async def speaks() -> bool:
        return place.core.factory is not None

    await place.until(speaks)
    return Owner(place.fake, factory, number, email)
