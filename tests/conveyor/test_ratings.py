"""Thumbs in Telegram: only where the owner wants them, only for one's own answers, and never as knowledge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from db import models
from db.base import new_id
from services import bots, ratings
from tests.conveyor.harness import Floor, Tenant, floor, surroundings
from tests.fakes.telegram_bots import Press
from tests.servers import Run

QUESTION = "Muzlatgichlarga kafolat bormi?"


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """A product whose model always answers the same."""
    folder = tmp_path_factory.mktemp("ratings")
    async with (
        surroundings() as (fake, fake_models),
        floor(folder, servers_run.new_sqlite(folder), fake, fake_models) as opened,
    ):
        fake_models.reply = "Ha, 3 yil"
        yield opened


async def _switch(place: Floor, tenant: Tenant, wanted: bool) -> None:
    async with place.core.db.write() as session:
        bot = await bots.get(session, tenant.shop.owner, tenant.shop.bot.id)
        await ratings.show_buttons(session, bot, wanted)


async def _answered(place: Floor, press: Press) -> None:
    await place.fake.wait_until(lambda: press.answered)


async def _rating(place: Floor, message_id: str) -> int | None:
    found: int | None = await place.one(select(models.Message.rating).where(models.Message.id == message_id))
    return found


async def _open(place: Floor, tenant: Tenant) -> list[tuple[str, int]]:
    row = models.UnansweredQuestion
    return [
        (question, count)
        for question, count in await place.rows(
            select(row.question, row.count).where(row.bot_id == tenant.shop.bot.id, row.answered_at.is_(None))
        )
    ]


async def test_no_thumbs_unless_the_owner_wants_them(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    person.send(tenant.bot, QUESTION)
    assert (await place.fake.wait_message(person.id, bot=tenant.bot)).buttons == []
    await _switch(place, tenant, True)
    person.send(tenant.bot, QUESTION)
    rated = await place.fake.wait_message(person.id, bot=tenant.bot)
    assert [button["text"] for button in rated.buttons] == ["👍", "👎"]
    # A greeting is nothing to rate.
    person.send(tenant.bot, "Salom!")
    assert (await place.fake.wait_message(person.id, bot=tenant.bot)).buttons == []


async def test_a_thumb_is_shown_kept_and_may_change(place: Floor) -> None:
    tenant = await place.tenant()
    await _switch(place, tenant, True)
    version = select(models.Bot.knowledge_version).where(models.Bot.id == tenant.shop.bot.id)
    before = await place.one(version)
    person = tenant.person("ru")
    person.send(tenant.bot, QUESTION)
    sent = await place.fake.wait_message(person.id, bot=tenant.bot)
    rating = ratings.pressed(sent.buttons[0]["callback_data"])
    assert rating is not None
    press = person.press(sent, "👍")
    await place.until(lambda: _rating(place, rating.message_id))
    await place.fake.wait_until(lambda: press.answered and len(sent.buttons) == 2 and "✅" in sent.buttons[0]["text"])
    assert press.text and await _open(place, tenant) == []
    for _ in range(2):
        press = person.press(sent, sent.buttons[1]["callback_data"])
        await _answered(place, press)
        await place.fake.wait_until(lambda: "✅" in sent.buttons[1]["text"])

    async def disliked() -> bool:
        return await _rating(place, rating.message_id) == -1

    await place.until(disliked)
    # What was answered badly is for the owner, counted once.
    assert await _open(place, tenant) == [(QUESTION, 1)]
    # No message of ours followed, and nothing was learned of it.
    assert len(place.fake.messages(person.id, tenant.bot)) == 1
    assert await place.one(version) == before
    async with place.core.db.read() as session:
        since = tenant.shop.bot.created_at
        assert await ratings.liked(session, tenant.shop.bot, since) == ratings.Liked(0, 1)


async def test_only_the_answers_of_the_own_talk_are_rated(place: Floor) -> None:
    tenant = await place.tenant()
    await _switch(place, tenant, True)
    person, other = tenant.person(), tenant.person()
    person.send(tenant.bot, QUESTION)
    theirs = await place.fake.wait_message(person.id, bot=tenant.bot)
    other.send(tenant.bot, QUESTION)
    own = await place.fake.wait_message(other.id, bot=tenant.bot)
    rating = ratings.pressed(theirs.buttons[0]["callback_data"])
    assert rating is not None
    asked = await place.one(
        select(models.Message.id).where(models.Message.author == "customer", models.Message.text == QUESTION)
    )
    for data in (
        f"rate:-1:{rating.message_id}",
        f"rate:1:{new_id()}",
        f"rate:1:{asked}",
        "rate:2:x",
        "rate:1:' OR 1=1",
    ):
        press = other.press(own, data, stale=True)
        await _answered(place, press)
    press = other.press(own, own.buttons[0]["callback_data"], stale=True)

    async def rated() -> bool:
        count = select(func.count()).select_from(models.Message).where(models.Message.rating.is_not(None))
        return int(await place.one(count.where(models.Message.text == "Ha, 3 yil")) or 0) > 0

    await place.until(rated)
    assert await _rating(place, rating.message_id) is None
    assert await _open(place, tenant) == []
