"""Questions that came while an answer was made, and talks that were put away: from the outside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from db import models
from services import conversations, notices
from tests.conveyor.harness import Floor, Tenant, echo, floor, question_of, surroundings
from tests.fakes.telegram import FakeTelegram, FakeUser
from tests.servers import Run

WARRANTY, DELIVERY = "Muzlatgichlarga kafolat bormi?", "Yetkazib berish qancha turadi?"
ROCKETS = "Kosmik kemalar uchish jadvali?"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: Run
) -> AsyncIterator[Floor]:
    """A product that refuses what its documents do not hold, on each database."""
    folder = tmp_path_factory.mktemp("together")
    with servers_run.database(request.param, folder) as url:
        async with (
            surroundings() as (fake, fake_models),
            floor(folder, url, fake, fake_models, knowledge={"not_found_below": 0.28}) as opened,
        ):
            yield opened


@pytest.fixture(autouse=True)
def _healthy(place: Floor) -> None:
    place.models.reset()
    place.models.reply = echo
    place.fake.clear_faults()


async def _talk(place: Floor, shop: Tenant) -> models.Conversation:
    rows = await place.rows(select(models.Conversation).where(models.Conversation.bot_id == shop.shop.bot.id))
    (talk,) = (row[0] for row in rows)
    assert isinstance(talk, models.Conversation)
    return talk


async def _said(fake: FakeTelegram, shop: Tenant, person: FakeUser, text: str) -> str:
    person.send(shop.bot, text)
    return (await fake.wait_message(person.id, bot=shop.bot)).text


async def test_of_questions_answered_together_the_missing_one_is_kept(place: Floor) -> None:
    shop = await place.tenant("Birga")
    person = shop.person()
    hold = place.fake.hold(bot=shop.bot, method="sendMessage")
    person.send(shop.bot, f"{WARRANTY} №1")
    await hold.reached.wait()
    first = len(place.models.requests)
    # The answer is on its way; what comes now is answered together or one by one, and nothing of it may be lost.
    for text in ("Salom!", ROCKETS, f"{DELIVERY} №2", "rahmat"):
        person.send(shop.bot, text)
    await place.fake.wait_delivered(shop.bot)
    place.fake.clear_faults()
    await place.fake.wait_until(lambda: 2 in shop.times())

    async def kept() -> list[str]:
        rows = await place.rows(
            select(models.UnansweredQuestion.question).where(models.UnansweredQuestion.bot_id == shop.shop.bot.id)
        )
        return [row[0] for row in rows]

    assert await place.until(kept) == [ROCKETS]
    assert any(f"{DELIVERY} №2" in question_of(seen) for seen in place.models.requests[first:])


@pytest.mark.parametrize("text", [WARRANTY, "/start", "operator"])
async def test_a_talk_that_was_put_away_is_open_again_when_the_customer_writes(place: Floor, text: str) -> None:
    shop = await place.tenant("Yopilgan")
    person = shop.person()
    await _said(place.fake, shop, person, WARRANTY)
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.shop.owner, (await _talk(place, shop)).id)
        await conversations.set_status(session, row, "closed")
    assert await _said(place.fake, shop, person, text)
    assert (await _talk(place, shop)).status == ("waiting" if text == "operator" else "bot")


async def test_who_takes_a_talk_over_while_the_answer_is_made_keeps_it(place: Floor) -> None:
    shop = await place.tenant("Qaytgan")
    person = shop.person()
    await _said(place.fake, shop, person, WARRANTY)
    talk = await _talk(place, shop)
    answering = place.models.hold()
    for status in ("closed", "human"):
        async with place.core.db.write() as session:
            await conversations.set_status(session, await conversations.get(session, shop.shop.owner, talk.id), status)
        if status == "closed":
            person.send(shop.bot, DELIVERY)
            await answering.reached.wait()
    place.models.release()

    async def settled() -> bool:
        waiting = select(func.sum(models.Lane.pending)).where(models.Lane.kind == "inbox")
        return not await place.one(waiting)

    await place.until(settled)
    # Nobody talks over the person: the answer came too late, and the question waits.
    talk = await _talk(place, shop)
    assert talk.status == "human" and talk.unanswered_since is not None
    assert len(place.fake.messages(person.id, shop.bot)) == 1
    asked = select(models.Message.status).where(models.Message.conversation_id == talk.id)
    assert await place.one(asked.order_by(models.Message.id.desc()).limit(1)) == "received"


async def test_the_owner_hears_of_a_customer_without_a_name(place: Floor) -> None:
    shop = await place.tenant("Nomsiz")
    person = place.fake.user(919_000_001 + shop.bot.id % 1000, "uz", first_name="")
    await _said(place.fake, shop, person, "/operator")
    notice = await place.noticed(shop, "operator_wanted")
    assert notices.text(notice, "en") == "“Nomsiz”: a customer asks for a person."
    named = shop.person()
    await _said(place.fake, shop, named, "/operator")
    last = (await place.notices(shop))[-1]
    assert notices.text(last, "en") == f"“Nomsiz”: a customer asks for a person: {named.first_name}."
