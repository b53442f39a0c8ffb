"""Between the bot and the people behind it: who is wanted when, what they leave, and when the bot answers again."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from db.engine import Database
from services import bots, chat, conversations, inbox, manner, testers
from services.conversations import returning
from services.days import TASHKENT
from services.errors import Invalid
from services.i18n import translate
from services.lanes import Line
from tests.composition import asked_of
from tests.conveyor.clock import due
from tests.conveyor.harness import Floor, Tenant, floor, numbers_in, settings_for, texts
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]

UNKNOWN = "Kosmik raketalar sotasizlarmi?"
BACK = translate("uz", "I am answering again 🙂 Write your question, or /operator to call a person.")
NIGHT, DAY = ("00:00", "00:01"), ("00:00", "24:00")


@pytest.fixture
async def place(tmp_path: Path, database_url: str, fakes: Fakes) -> AsyncIterator[Floor]:
    """The product with its usual threshold: what the documents do not hold is not answered."""
    async with floor(tmp_path, database_url, *fakes, knowledge={"not_found_below": 0.28}) as started:
        yield started


async def _talk(place: Floor, shop: Tenant) -> models.Conversation:
    found: models.Conversation = await place.one(
        select(models.Conversation).where(models.Conversation.bot_id == shop.shop.bot.id)
    )
    return found


async def _said(place: Floor, shop: Tenant, person: FakeUser, text: str) -> str:
    """Let somebody write; return the next thing that they are told."""
    before = len(place.fake.messages(person.id, shop.bot))
    person.send(shop.bot, text)
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, shop.bot)) > before)
    return str(place.fake.messages(person.id, shop.bot)[before].text)


async def _takes_over(place: Floor, shop: Tenant, text: str = "Salom, men Dilnozaman") -> None:
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.shop.owner, (await _talk(place, shop)).id)
        await conversations.operator_reply(session, row, text)
    place.core.bell.ring("outbox")


async def _set(place: Floor, shop: Tenant, status: str) -> None:
    async with place.core.db.write() as session:
        row = await conversations.get(session, shop.shop.owner, (await _talk(place, shop)).id)
        await conversations.set_status(session, row, status)
    place.core.bell.ring("inbox")


async def _received(place: Floor, shop: Tenant, n: int) -> None:
    """Wait until so many messages wait for a person."""
    waiting = (
        select(models.Message.id)
        .join(models.Conversation)
        .where(models.Conversation.bot_id == shop.shop.bot.id, models.Message.status == "received")
    )

    async def done() -> bool:
        return len(await place.rows(waiting.where(models.Message.author == "customer"))) == n

    await place.until(done)


async def _left(place: Floor, shop: Tenant, minutes: float) -> None:
    """Let it be so long since the person's last message."""
    async with place.core.db.write() as session:
        await session.execute(
            update(models.Conversation)
            .where(models.Conversation.bot_id == shop.shop.bot.id)
            .values(person_at=utcnow() - dt.timedelta(minutes=minutes))
        )


async def _hours(place: Floor, shop: Tenant, span: Sequence[str], **more: Any) -> None:
    async with place.core.db.write() as session:
        bot = await bots.get(session, shop.shop.owner, shop.shop.bot.id)
        await bots.set_manner(session, bot, hours=dict.fromkeys(manner.DAYS, (span[0], span[1])), **more)


async def test_what_the_bot_cannot_answer_waits_for_a_person(place: Floor) -> None:
    shop = await place.tenant("Bilmagan")
    person = shop.person()
    await _said(place, shop, person, UNKNOWN)
    talk = await _talk(place, shop)
    assert talk.status == "waiting" and talk.unanswered_since is not None
    notice = await place.noticed(shop, "gave_up")
    assert notice.key == f"operator:{talk.id}" and notice.params["name"] == person.first_name
    # The bot goes on answering, and a person is wanted all the same.
    await shop.answered([shop.ask(person)])
    later = await _talk(place, shop)
    assert later.status == "waiting" and later.unanswered_since == talk.unanswered_since
    await _takes_over(place, shop)
    led = await _talk(place, shop)
    assert led.status == "human" and led.unanswered_since is None and led.person_at is not None
    assert (await place.notices(shop))[0].resolved_at is not None


async def test_what_the_owner_tries_calls_nobody(place: Floor) -> None:
    shop = await place.tenant("Sinov")
    async with place.core.db.read() as session:
        channels = await bots.channels(session, shop.shop.bot)
    web = bots.of_kind(channels, "web")
    assert web is not None
    reply = await chat.ask(place.core, web, shop.shop.bot, contact=testers.contact_of(shop.shop.owner.id), text=UNKNOWN)
    assert reply is not None and not reply.answered
    assert (await _talk(place, shop)).status == "bot"
    assert not await place.notices(shop)


async def test_given_back_the_bot_says_so(place: Floor) -> None:
    shop = await place.tenant("Qaytdi")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    await _set(place, shop, "bot")
    await place.fake.wait_message(person.id, BACK, bot=shop.bot)
    assert (await _talk(place, shop)).status == "bot"
    # A talk that nobody led goes nowhere.
    await _set(place, shop, "bot")
    await shop.answered([shop.ask(person)])
    assert texts(place.fake.messages(person.id, shop.bot)).count(BACK) == 1


async def test_given_back_the_bot_answers_what_the_person_left(place: Floor) -> None:
    shop = await place.tenant("Javobsiz")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    left = [shop.ask(person) for _ in range(2)]
    await _received(place, shop, 2)
    assert (await _talk(place, shop)).unanswered_since is not None
    await _set(place, shop, "bot")
    times = await shop.answered(left)
    assert [times[number] for number in left] == [1, 1] and shop.in_order()
    assert BACK not in texts(place.fake.messages(person.id, shop.bot))
    assert (await _talk(place, shop)).unanswered_since is None


async def test_what_a_person_leaves_for_too_long_the_bot_answers(place: Floor) -> None:
    shop, other = await place.tenant("Kutgan"), await place.tenant("Boshqa")
    for each in (shop, other):
        person = each.person()
        await each.answered([each.ask(person)])
        await _takes_over(place, each)
        await _left(place, each, 59)
        number = each.ask(person)
        await _received(place, each, 1)
        assert await returning.take_back(place.core) == 0
        assert (await _talk(place, each)).status == "human" and number not in each.times()
    await _left(place, shop, 61)
    await due("returning")
    await shop.answered()
    assert (await _talk(place, shop)).status == "bot"
    assert (await _talk(place, other)).status == "human"
    assert await returning.take_back(place.core) == 0


async def test_an_owner_who_wants_to_give_talks_back_by_hand_keeps_them(place: Floor) -> None:
    shop = await place.tenant("Qo‘lda")
    await _hours(place, shop, DAY, return_after_min=0)
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    await _left(place, shop, 100_000)
    assert await returning.take_back(place.core) == 0
    await _hours(place, shop, DAY, return_after_min=15)
    assert await returning.take_back(place.core) == 1
    # Nothing waited, so nobody is told anything.
    await shop.answered([shop.ask(person)])
    assert BACK not in texts(place.fake.messages(person.id, shop.bot))


async def test_who_answers_meanwhile_keeps_the_talk(place: Floor) -> None:
    shop = await place.tenant("Ulgurdi")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    number = shop.ask(person)
    await _received(place, shop, 1)
    holding = place.models.hold()
    await _set(place, shop, "bot")
    await holding.reached.wait()
    await _takes_over(place, shop, "Kechirasiz, shu yerdaman")
    place.models.release()

    async def settled() -> bool:
        waiting = select(func.sum(models.Lane.pending)).where(models.Lane.kind == "inbox")
        return not await place.one(waiting)

    await place.until(settled)
    await place.fake.wait_message(person.id, "shu yerdaman", bot=shop.bot)
    # The person has answered: the bot does not talk over them.
    assert (await _talk(place, shop)).status == "human" and number not in shop.times()


async def test_who_writes_in_the_moment_of_the_return_keeps_the_talk(place: Floor) -> None:
    shop = await place.tenant("Shu payt")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    await _left(place, shop, 61)
    with asked_of(place.core) as put:
        async with place.core.db.write() as session:
            row = await conversations.get(session, shop.shop.owner, (await _talk(place, shop)).id)
            await conversations.operator_reply(session, row, "Hali shu yerdaman")
            taking = asyncio.ensure_future(returning.take_back(place.core))

            async def looked() -> bool:
                return any("conversations.person_at <" in question.statement for question in put)

            # It has seen how long the person was silent, and waits for what is being written here.
            await place.until(looked)
            await _talk(place, shop)
        assert await taking == 0
    assert (await _talk(place, shop)).status == "human"


async def test_what_comes_together_with_the_return_is_answered_once(place: Floor) -> None:
    shop = await place.tenant("Birga")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    left = shop.ask(person)
    await _received(place, shop, 1)
    holding = place.models.hold()
    await _set(place, shop, "bot")
    await holding.reached.wait()
    # Given over and back again while the bot thinks: both returns, and a question between them, are claimed together.
    await _set(place, shop, "human")
    between = shop.ask(person)
    await place.fake.wait_delivered(shop.bot)
    await _set(place, shop, "bot")
    place.models.release()
    times = await shop.answered([left, between])
    assert (times[left], times[between]) == (1, 1)


@pytest.mark.parametrize("batch", [10, 1])
async def test_what_a_person_left_is_answered_before_what_came_with_the_return(
    tmp_path: Path, database_url: str, fakes: Fakes, batch: int
) -> None:
    """Written before the talk was given back, and not yet looked at: alone in the bot's hands it must not come first."""
    few: dict[str, Any] = {"knowledge": {"not_found_below": 0.28}, "queue": {"max_answer_batch": batch}}
    async with floor(tmp_path, database_url, *fakes, **few) as place:
        shop = await place.tenant("Navbat")
        person = shop.person()
        await shop.answered([shop.ask(person)])
        await _takes_over(place, shop)
        left = [shop.ask(person) for _ in range(2)]
        await _received(place, shop, 2)
        channel = shop.shop.channel
        late = left[-1] + 1
        update = {
            "update_id": 900_000_000,
            "message": {
                "message_id": 900_000,
                "from": person.user(),
                "chat": person.chat(),
                "date": int(utcnow().timestamp()),
                "text": f"Muzlatgichlarga kafolat bormi №{late}",
            },
        }
        async with place.core.db.write() as session:
            row = await conversations.get(session, shop.shop.owner, (await _talk(place, shop)).id)
            await returning.lock(session, row.bot, channel.id, row.contact.external_id)
            lane = inbox.lane_of(channel.id, row.contact.external_id)
            line = Line("inbox", row.bot.owner_id, row.bot.id)
            accepted = inbox.Accept(channel.id, line, lane, "900000000", json.dumps(update), "late")
            await inbox.put_in(session, accepted)
            await conversations.set_status(session, row, "bot")
        place.core.bell.ring("inbox")
        await place.fake.wait_message(person.id, f"№{late}", bot=shop.bot)

        async def settled() -> bool:
            return not await place.one(select(func.sum(models.Lane.pending)))

        await place.until(settled)
        said = [text for text in texts(place.fake.messages(person.id, shop.bot)) if "№" in text]
        assert numbers_in(said)[-3:] == [*left, late]
        assert BACK not in texts(place.fake.messages(person.id, shop.bot))
        waiting = select(models.Message.id).where(
            models.Message.status == "received", models.Message.author == "customer"
        )
        assert not await place.rows(waiting)


async def test_a_picture_moves_a_talk_that_a_person_leads(place: Floor) -> None:
    shop = await place.tenant("Rasmli")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    before = await _talk(place, shop)
    person.send_photo(shop.bot)
    await _received(place, shop, 1)
    after = await _talk(place, shop)
    assert after.last_message_at > before.last_message_at and after.last_text == "📎"
    assert after.unanswered_since is not None


async def test_a_stopped_bot_does_not_speak_where_a_person_leads(place: Floor) -> None:
    shop = await place.tenant("To‘xtagan")
    person = shop.person()
    await shop.answered([shop.ask(person)])
    await _takes_over(place, shop)
    await place.fake.wait_message(person.id, "Dilnoza", bot=shop.bot)
    async with place.core.db.write() as session:
        await bots.stop(session, await bots.get(session, shop.shop.owner, shop.shop.bot.id))
    place.core.bell.ring("channels")
    before = len(place.fake.messages(person.id, shop.bot))
    person.send(shop.bot, "Siz bilan gaplashyapman")
    await place.noticed(shop, "customer_wrote")
    assert len(place.fake.messages(person.id, shop.bot)) == before


@pytest.mark.parametrize(
    ("language", "unknown", "waiting"),
    [
        ("uz", UNKNOWN, "Javobingizni kutyapman"),
        ("ru", "Продаёте ли вы космические ракеты?", "Жду вашего ответа"),
        ("en", "Do you sell space rockets?", "I am waiting for your reply"),
    ],
)
async def test_at_night_customers_hear_when_somebody_will_write(
    place: Floor, language: str, unknown: str, waiting: str
) -> None:
    shop = await place.tenant("Tungi")
    opening = utcnow().astimezone(TASHKENT) + dt.timedelta(hours=26)
    if opening.hour == 23:
        opening += dt.timedelta(hours=2)
    async with place.core.db.write() as session:
        bot = await bots.get(session, shop.shop.owner, shop.shop.bot.id)
        day = manner.DAYS[opening.weekday()]
        await bots.set_manner(session, bot, hours={day: (f"{opening:%H}:00", f"{opening.hour + 1:02}:00")})
    person = shop.person(language)
    reply = await _said(place, shop, person, "/operator")
    expected = manner.when(opening.replace(minute=0), utcnow()).render(language)
    assert f"{opening:%H}:00" in expected and expected in reply
    assert expected in await _said(place, shop, person, unknown)
    # To a person who leads the talk one writes in vain at that hour: told once.
    await _takes_over(place, shop)
    await place.fake.wait_message(person.id, "Dilnoza", bot=shop.bot)
    assert expected in await _said(place, shop, person, waiting)
    before = len(place.fake.messages(person.id, shop.bot))
    person.send(shop.bot, waiting)
    person.send(shop.bot, "/help")
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, shop.bot)) > before)
    assert expected not in place.fake.messages(person.id, shop.bot)[before].text


async def test_by_day_nobody_speaks_of_hours(place: Floor) -> None:
    shop = await place.tenant("Kunduzi")
    await _hours(place, shop, DAY)
    person = shop.person("en")
    reply = await _said(place, shop, person, "/operator")
    assert reply == "I have called a person 🙋 They will write to you here. Meanwhile you can go on asking me."


async def test_who_writes_in_a_language_that_the_bot_does_not_speak_is_told_which_it_does(place: Floor) -> None:
    shop = await place.tenant("Faqat")
    async with place.core.db.write() as session:
        bot = await bots.get(session, shop.shop.owner, shop.shop.bot.id)
        await bots.update(session, bot, languages=["uz"], limits=place.core.settings.limits)
    person = shop.person("ru")
    asked = "Скажите пожалуйста, есть ли гарантия на холодильники?"
    said = await _said(place, shop, person, asked)
    why = translate("ru", "I can answer in this language: {names}.", names="O‘zbekcha")
    assert said.startswith(f"{why}\n\n") and len(said) > len(why) + 2
    # Once a day is enough.
    assert why not in await _said(place, shop, person, "А доставка по городу платная?")
    other = shop.person("uz")
    assert translate("uz", "I can answer in this language: {names}.", names="O‘zbekcha") not in await _said(
        place, shop, other, "Muzlatgichlarga kafolat bormi?"
    )


@pytest.mark.parametrize("point", ["received", "answered", "claimed_send"])
async def test_a_talk_that_was_given_back_is_answered_after_a_kill(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery, point: str
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
        person = shop.person()
        await shop.answered([shop.ask(person)])
        await _takes_over(place, shop)
        await fake.wait_message(person.id, "Dilnoza")
        number = shop.ask(person)
        await _received(place, shop, 1)
        talk = await _talk(place, shop)
    child = await children.start(settings, point=point)
    db = Database(database_url, pool_size=1)
    try:
        async with db.write() as session:
            await conversations.set_status(session, await conversations.get(session, shop.shop.owner, talk.id), "bot")
    finally:
        await db.close()
    await child.hears("paused")
    await child.kill()
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert (await shop.answered([number]))[number] == 1
        assert (await _talk(place, shop)).status == "bot"


_MOMENTS = [
    # Monday to Friday, nine to six.
    ("2026-11-23T08:59", "today from 09:00"),
    ("2026-11-23T09:00", None),
    ("2026-11-23T17:59", None),
    ("2026-11-23T18:00", "tomorrow from 09:00"),
    ("2026-11-27T18:00", "on Monday from 09:00"),
    ("2026-11-29T12:00", "tomorrow from 09:00"),
    ("2026-12-31T23:00", "tomorrow from 09:00"),
]


@pytest.mark.parametrize(("moment", "expected"), _MOMENTS)
def test_when_somebody_is_there(moment: str, expected: str | None) -> None:
    weekdays = dict.fromkeys(manner.DAYS[:5], ("9:00", "18.00"))
    kept = manner.manner_of(manner.changed({}, hours=weekdays))
    at = dt.datetime.fromisoformat(moment).replace(tzinfo=TASHKENT)
    opening = kept.next_opening(at)
    assert (opening and manner.when(opening, at).render("en")) == expected


def test_hours_go_over_midnight() -> None:
    kept = manner.manner_of(manner.changed({}, hours={"sat": ("20:00", "02:00")}))
    sunday = dt.datetime(2026, 11, 29, 1, 59, tzinfo=TASHKENT)
    assert kept.next_opening(sunday) is None
    assert kept.next_opening(sunday + dt.timedelta(minutes=1)) == dt.datetime(2026, 12, 5, 20, tzinfo=TASHKENT)


@pytest.mark.parametrize(
    "span",
    [
        ("9", "18:00"),
        ("09:00", ""),
        ("", "18:00"),
        ("25:00", "26:00"),
        ("09:00", "09:00"),
        ("24:00", "09:00"),
        ("٠٩:٠٠", "18:00"),
    ],
)
def test_hours_that_are_none(span: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as refusal:
        manner.changed({"hours": []}, hours={"tue": span})
    assert refusal.value.field == "tue_from"


def test_nothing_said_is_always_open() -> None:
    assert manner.manner_of(manner.changed({}, hours={})).next_opening(utcnow()) is None
    assert manner.manner_of(None).return_after_min == manner.DEFAULT_RETURN_MIN
