"""Why a conversation waits for a person: written with the state, kept as long as it holds, told to who can see to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from services import conversations
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, floor, texts
from tests.conveyor.test_poison_and_backlog import Spoiler
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
UNKNOWN = "Kosmik raketalar sotasizlarmi?"
BACK = "I am answering again 🙂 Write your question, or /operator to call a person."
SORRY = "Sorry, I could not handle your message 🙏 A person will look at it. You can write again."


@pytest.fixture
def spoiler() -> Spoiler:
    return Spoiler()


@pytest.fixture
async def place(tmp_path: Path, database_url: str, fakes: Fakes, spoiler: Spoiler) -> AsyncIterator[Floor]:
    known = {"not_found_below": 0.28}
    queue = {"max_attempts": 1, "idle_poll_s": 0.05}
    async with floor(tmp_path, database_url, *fakes, pause=spoiler, knowledge=known, queue=queue) as started:
        yield started


async def _state(place: Floor, shop: Tenant) -> tuple[str, str | None]:
    talk = models.Conversation
    (row,) = await place.rows(select(talk.status, talk.waiting_reason).where(talk.bot_id == shop.shop.bot.id))
    return row.status, row.waiting_reason


async def _says(place: Floor, shop: Tenant, person: FakeUser, text: str) -> None:
    """Let somebody write and wait for what they are told."""
    before = len(place.fake.messages(person.id, shop.bot))
    person.send(shop.bot, text)
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, shop.bot)) > before)


async def _fails(place: Floor, shop: Tenant, person: FakeUser, spoiler: Spoiler) -> None:
    """Let somebody write what cannot be handled."""
    spoiler.left[f"{shop.shop.channel.id[-6:]}-{shop.bot.next_update_id}"] = 1
    said = translate("uz", SORRY)
    before = texts(place.fake.messages(person.id, shop.bot)).count(said)
    person.send(shop.bot, "Kafolat bormi?")
    await place.fake.wait_until(lambda: texts(place.fake.messages(person.id, shop.bot)).count(said) > before)


async def _set(place: Floor, shop: Tenant, status: str) -> None:
    async with place.core.db.write() as session:
        talk = await session.scalar(
            select(models.Conversation.id).where(models.Conversation.bot_id == shop.shop.bot.id)
        )
        row = await conversations.get(session, shop.shop.owner, str(talk))
        await conversations.set_status(session, row, status)


async def _notice(place: Floor, shop: Tenant) -> models.Notice:
    (notice,) = [each for each in await place.notices(shop) if each.key.startswith("operator:")]
    return notice


async def test_who_asks_counts_more_than_what_the_bot_did_not_know(place: Floor) -> None:
    shop = await place.tenant("Sabab")
    person = shop.person()
    await _says(place, shop, person, UNKNOWN)
    assert await _state(place, shop) == ("waiting", "gave_up")
    assert (await _notice(place, shop)).kind == "gave_up"
    # What the bot can answer changes nothing of it.
    await shop.answered([shop.ask(person)])
    assert await _state(place, shop) == ("waiting", "gave_up")
    async with place.core.db.write() as session:
        (await session.get_one(models.Notice, (await _notice(place, shop)).id)).told_at = shop.shop.bot.created_at
    await _says(place, shop, person, "/operator")
    assert await _state(place, shop) == ("waiting", "asked")
    notice = await _notice(place, shop)
    # Whoever was told of the one is told of the other.
    assert (notice.kind, notice.told_at) == ("operator_wanted", None)
    await _says(place, shop, person, UNKNOWN)
    assert await _state(place, shop) == ("waiting", "asked")
    assert (await _notice(place, shop)).kind == "operator_wanted"


async def test_both_in_one_turn(place: Floor, fakes: Fakes) -> None:
    shop = await place.tenant("Birdan")
    person = shop.person()
    holding = place.models.hold()
    number = shop.ask(person)
    await holding.reached.wait()
    person.send(shop.bot, "/operator")
    person.send(shop.bot, UNKNOWN)
    await place.fake.wait_delivered(shop.bot)
    place.models.release()
    await shop.answered([number])
    await place.fake.wait_message(person.id, "🙋", bot=shop.bot)
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, shop.bot)) == 3)
    assert await _state(place, shop) == ("waiting", "asked")


@pytest.mark.parametrize("status", ["bot", "human", "closed"])
async def test_nothing_of_it_stays_when_it_is_over(place: Floor, status: str) -> None:
    shop = await place.tenant("Tugadi")
    person = shop.person()
    await _says(place, shop, person, "/operator")
    await _set(place, shop, status)
    assert await _state(place, shop) == (status, None)
    if status == "human":
        await _set(place, shop, "bot")
        place.core.bell.ring("inbox")
        await place.fake.wait_message(person.id, translate("uz", BACK), bot=shop.bot)
    if status == "closed":
        await shop.answered([shop.ask(person)])
        assert await _state(place, shop) == ("bot", None)
    # And what comes later has a reason of its own.
    await _says(place, shop, person, UNKNOWN)
    assert await _state(place, shop) == ("waiting", "gave_up")


async def test_who_takes_over_meanwhile_leaves_no_reason(place: Floor) -> None:
    shop = await place.tenant("Ulgurdi")
    person = shop.person()
    await _says(place, shop, person, UNKNOWN)
    holding = place.models.hold()
    number = shop.ask(person)
    person.send(shop.bot, "/operator")
    await holding.reached.wait()
    async with place.core.db.write() as session:
        talk = await session.scalar(select(models.Conversation.id))
        row = await conversations.get(session, shop.shop.owner, str(talk))
        await conversations.operator_reply(session, row, "Salom, men Dilnozaman")
    place.core.bell.ring("outbox")
    place.models.release()
    await place.fake.wait_message(person.id, "Dilnozaman", bot=shop.bot)

    async def settled() -> Any:
        open_ = select(models.InboxItem.id).where(models.InboxItem.status == "new")
        return not await place.rows(open_)

    await place.until(settled)
    assert await _state(place, shop) == ("human", None) and number not in shop.times()


async def test_what_was_set_aside(place: Floor, spoiler: Spoiler) -> None:
    shop = await place.tenant("Xato")
    person = shop.person()
    await _says(place, shop, person, UNKNOWN)
    await _fails(place, shop, person, spoiler)
    assert await _state(place, shop) == ("waiting", "error")
    await _says(place, shop, person, "/operator")
    await _fails(place, shop, person, spoiler)
    assert await _state(place, shop) == ("waiting", "asked")
    await _set(place, shop, "human")
    spoiler.left[f"{shop.shop.channel.id[-6:]}-{shop.bot.next_update_id}"] = 1
    person.send(shop.bot, "Kafolat bormi?")

    async def twice() -> bool:
        dead = select(models.InboxItem.id).where(models.InboxItem.status == "dead")
        return len(await place.rows(dead)) == 3

    await place.until(twice)
    assert await _state(place, shop) == ("human", None)
