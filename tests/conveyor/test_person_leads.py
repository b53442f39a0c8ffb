"""A person leads the talk: the bot keeps out of it, whatever the customer sends, and its owner hears of it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select, update

from db import models
from tests.conveyor.harness import Floor, Tenant, floor, numbers_in, question_of
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]


async def _led(place: Floor, shop: Tenant, status: str = "human") -> None:
    async with place.core.db.write() as session:
        await session.execute(
            update(models.Conversation).where(models.Conversation.bot_id == shop.shop.bot.id).values(status=status)
        )


async def _silent(place: Floor, shop: Tenant, person: FakeUser, kind: str, written: int) -> None:
    """The owner hears of so many things and the customer of nothing, before the next command is answered."""
    before = len(place.fake.messages(person.id, shop.bot))

    async def told() -> bool:
        return [(notice.kind, notice.count) for notice in await place.notices(shop)] == [("customer_wrote", written)]

    await place.until(told)
    stored = select(models.Message.kind, models.Message.status).where(models.Message.author == "customer")
    assert tuple((await place.rows(stored.order_by(models.Message.id.desc())))[0]) == (kind, "received")
    person.send(shop.bot, "/help")
    await place.fake.wait_message(person.id, "/language", bot=shop.bot)
    assert len(place.fake.messages(person.id, shop.bot)) == before + 1


async def test_the_bot_says_nothing_where_a_person_leads(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, database_url, *fakes) as place:
        shop = await place.tenant()
        person = shop.person("en")
        await shop.answered([shop.ask(person)])
        await _led(place, shop)
        person.send_photo(shop.bot)
        await _silent(place, shop, person, "photo", 1)
        person.send_voice(shop.bot)
        await _silent(place, shop, person, "voice", 2)
        person.send(shop.bot, "operator")
        await _silent(place, shop, person, "text", 3)
        person.send(shop.bot, "/operator")
        await _silent(place, shop, person, "text", 4)
        person.share_contact(shop.bot)
        await _silent(place, shop, person, "contact", 5)
        assert await place.one(select(models.Contact.phone)) == "+998901234567"
        assert await place.one(select(models.Conversation.status)) == "human"
        # What was said to the person is known when the bot answers again.
        await _led(place, shop, "bot")
        number = shop.ask(person)
        await shop.answered([number])
        asked = place.models.requests[-1]
        assert numbers_in([question_of(asked)]) == [number] and "operator" in asked.text
