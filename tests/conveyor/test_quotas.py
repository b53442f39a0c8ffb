"""What a plan lets bots answer: a month's messages are counted once each and never passed, and who is over waits for a person."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

from sqlalchemy import event, func, select

from db import models
from db.base import utcnow
from services import plans, subscriptions
from services.i18n import translate
from tests.composition import PLENTY, make_shop
from tests.conveyor.harness import Floor, Tenant, floor, settings_for, texts, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
LINE = "I cannot answer at the moment 🙏 Your message is here, and a person will write to you."
PLACES = ("telegram", "web", "whatsapp", "instagram")


def _plan(**more: Any) -> dict[str, Any]:
    """Return a plan of the free days that differs from what tests have."""
    return {"trial": {**PLENTY, **more}}


async def _quota(place: Floor) -> list[tuple[str, int, int]]:
    quota = models.MessageQuota
    return [tuple(row) for row in await place.rows(select(quota.month, quota.used, quota.told).order_by(quota.month))]


async def _marked(place: Floor) -> int:
    return int(await place.one(select(func.count()).where(models.Message.quota_month.is_not(None))))


async def _quiet(place: Floor) -> None:
    """Wait until nothing is in hand."""
    waiting = select(models.Lane.key).where(models.Lane.pending > 0)

    async def empty() -> bool:
        return not await place.rows(waiting)

    await place.until(empty)


async def _reasons(place: Floor, shop: Tenant) -> list[tuple[str, str | None]]:
    talk = models.Conversation
    rows = await place.rows(
        select(talk.status, talk.waiting_reason).where(talk.bot_id == shop.shop.bot.id).order_by(talk.status)
    )
    return [tuple(row) for row in rows]


async def _buys(place: Floor, shop: Tenant, plan: str) -> None:
    async with place.core.db.write() as session:
        await subscriptions.grant(
            session,
            place.settings,
            shop.shop.owner.id,
            plan,
            "monthly",
            now=place.core.now(),
            source="grant",
            value_tiyin=0,
        )


async def _hears(place: Floor, shop: Tenant, person: FakeUser, text: str = "Muzlatgichlarga kafolat bormi") -> str:
    number = shop.ask(person, text)
    await place.fake.wait_until(lambda: texts(place.fake.messages(person.id, shop.bot)) or None)
    return (await place.fake.wait_message(person.id, bot=shop.bot)).text.replace(f"№{number}", "№")


async def test_a_hundred_at_once_never_pass_the_last_message(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """Forty are answered, the model hears of no more; the others are told, wait for a person, and the owner hears once."""
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes, plans=_plan(messages=40)) as place:
        shop = await place.tenant()
        people = [shop.person() for _ in range(100)]
        for person in people:
            shop.ask(person)
        await fake.wait_until(lambda: len(fake.sent) >= 100 or None, 60)
        await _quiet(place)
        said = [texts(fake.messages(person.id, shop.bot)) for person in people]
        assert [len(each) for each in said] == [1] * 100
        assert sum("№" in each[0] for each in said) == 40
        assert {each[0] for each in said if "№" not in each[0]} == {translate("uz", LINE)}
        assert len(fake_models.requests) == 40
        month = plans.month_of(utcnow())
        assert await _quota(place) == [(month, 40, 100)] and await _marked(place) == 40
        waiting = await _reasons(place, shop)
        assert waiting == [("bot", None)] * 40 + [("waiting", "plan")] * 60
        # Answers that are stored together may pass both marks at once: then the first is not worth telling.
        told = [notice.kind for notice in await place.notices(shop)]
        assert "messages_out" in told and len(told) == len(set(told)) and set(told) <= {"messages_few", "messages_out"}

        # The same once more: nothing is answered, nobody is told a second time, neither customers nor the owner.
        for person in people[:5]:
            shop.ask(person)
        await fake.wait_delivered(shop.bot)
        await _quiet(place)
        again = [len(fake.messages(person.id, shop.bot)) for person in people[:5]]
        answered = sum("№" in each[0] for each in said[:5])
        assert sum(again) == 5 + answered
        assert await _quota(place) == [(month, 40, 100)] and len(fake_models.requests) == 40
        assert len(await place.notices(shop)) == len(told)

        # A plan comes: everything answers at once, and what was told is over.
        await _buys(place, shop, "basic")
        number = shop.ask(people[0])
        assert (await shop.answered([number]))[number] == 1
        assert all(notice.resolved_at for notice in await place.notices(shop))
        assert await _quota(place) == [(month, 41, 0)]


async def test_several_processes_share_one_month(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    """However the messages fall to them, the last one is given once."""
    fake, _ = fakes
    given: dict[str, Any] = {"plans": _plan(messages=30), "queue": {"conversations_per_owner": 8, "idle_poll_s": 0.05}}
    settings = settings_for(tmp_path, postgres_url, *fakes, **given)
    async with floor(tmp_path, postgres_url, *fakes, **given) as place:
        shop = await place.tenant()
    pair = await asyncio.gather(*(children.start(settings, role="all") for _ in range(3)))
    people = [shop.person() for _ in range(60)]
    for person in people:
        shop.ask(person)
    await fake.wait_until(lambda: len(fake.sent) >= 60 or None, 60)
    for child in pair:
        await child.stop()
    async with floor(tmp_path, postgres_url, *fakes, role="web", **given) as place:
        assert sum("№" in sent.text for sent in fake.sent) == 30
        assert [used for _, used, _ in await _quota(place)] == [30] and await _marked(place) == 30


async def test_processes_that_die_charge_each_message_once(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    """Killed after the message is stored, and after the answer is made: what was counted stays counted, and no more."""
    fake, _ = fakes
    given: dict[str, Any] = {"plans": _plan(messages=100), "queue": {"max_attempts": 20, "idle_poll_s": 0.05}}
    settings = settings_for(tmp_path, database_url, *fakes, **given)
    async with floor(tmp_path, database_url, *fakes, **given) as place:
        shop = await place.tenant()
        # The month has begun, so that messages are counted as they come.
        await shop.answered([shop.ask(shop.person())])
    people = [shop.person() for _ in range(4)]
    for point in ("received", "answered"):
        child = await children.start(settings, point=point)
        for person in people:
            shop.ask(person)
        await child.hears("paused")
        await fake.wait_delivered(shop.bot)
        await child.kill()
    async with floor(tmp_path, database_url, *fakes, **given) as place:
        await shop.answered()
        await _quiet(place)
        answers = await place.one(select(func.count()).where(models.Message.author == "bot"))
        assert [used for _, used, _ in await _quota(place)] == [answers]
        assert await place.one(select(models.MessageQuota.settled)) == answers
        assert await _marked(place) == answers


async def test_what_is_counted(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    """An answer counts once, however many quick messages it answers; all that is no answer is free."""
    fake, fake_models = fakes
    async with floor(
        tmp_path, sqlite_url, *fakes, plans=_plan(messages=100), knowledge={"not_found_below": 0.28}
    ) as place:
        shop = await place.tenant()

        async def used() -> int:
            await _quiet(place)
            return sum(used for _, used, _ in await _quota(place))

        first = shop.person()
        await shop.answered([shop.ask(first)])
        assert await used() == 1
        # While the model thinks three more come; they are answered together.
        held = fake_models.hold()
        one = shop.ask(first)
        await held.reached.wait()
        more = [shop.ask(first) for _ in range(3)]
        await fake.wait_delivered(shop.bot)
        fake_models.release()
        await shop.answered([one, *more])
        assert await used() == 3
        # Commands, a wish for a person, and what is not known.
        for text in ("/start", "/help", "operator kerak", "Qayiq ijaraga beriladimi?"):
            person = shop.person()
            person.send(shop.bot, text)
            await fake.wait_message(person.id, bot=shop.bot)
            assert (text, await used()) == (text, 3)
        assert await _marked(place) == 3
        # The owner at the panel's own chat, and an administrator's bot.
        async with place.core.db.write() as session:
            (await session.get_one(models.User, shop.shop.owner.id)).role = "admin"
        await shop.answered([shop.ask(shop.person())])
        assert await used() == 3


async def test_the_owner_is_told_of_answers_and_not_of_what_is_given_back(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    """The last message is a question without an answer: nobody is told that all are used, until they are."""
    given: dict[str, Any] = {"plans": _plan(messages=2), "knowledge": {"not_found_below": 0.28}}
    async with floor(tmp_path, database_url, *fakes, **given) as place:
        shop = await place.tenant()
        await shop.answered([shop.ask(shop.person())])
        person = shop.person()
        person.send(shop.bot, "Qayiq ijaraga beriladimi?")
        await place.fake.wait_message(person.id, bot=shop.bot)
        await _quiet(place)
        month = plans.month_of(utcnow())
        assert await _quota(place) == [(month, 1, 0)]
        assert {notice.kind for notice in await place.notices(shop)} <= {"gave_up"}
        await shop.answered([shop.ask(shop.person())])
        await place.noticed(shop, "messages_out")
        await _quiet(place)
        assert (await _quota(place))[0][2] == 100


async def test_answers_given_at_once_are_told_of_once(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """Ten of ten at the same time: one notice of few, one of none at the most, and each is counted."""
    async with floor(tmp_path, database_url, *fakes, plans=_plan(messages=10)) as place:
        shop = await place.tenant()
        await shop.answered([shop.ask(shop.person()) for _ in range(10)])
        await place.noticed(shop, "messages_out")
        await _quiet(place)
        kinds = [(notice.kind, notice.count) for notice in await place.notices(shop)]
        assert len(kinds) == len(set(kinds)) and {count for _, count in kinds} == {1}
        assert await place.one(select(models.MessageQuota.settled)) == 10


async def test_a_month_ends_at_midnight_in_tashkent(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    """Then there are messages again, and the owner is told anew when they run out."""
    async with floor(tmp_path, sqlite_url, *fakes, plans=_plan(messages=1)) as place:
        midnight = plans.month_ends_at(utcnow())
        place.core.now = lambda: midnight - dt.timedelta(seconds=1)
        shop = await place.tenant()
        person, other, third = shop.person(), shop.person(), shop.person()
        await shop.answered([shop.ask(person)])
        assert await _hears(place, shop, other) == translate("uz", LINE)
        place.core.now = lambda: midnight
        await shop.answered([shop.ask(person)])
        assert await _hears(place, shop, third) == translate("uz", LINE)
        months = [plans.month_of(midnight - dt.timedelta(days=1)), plans.month_of(midnight)]
        assert await _quota(place) == [(month, 1, 100) for month in months]
        out = [notice for notice in await place.notices(shop) if notice.kind == "messages_out"]
        assert [notice.resolved_at is None for notice in out] == [False, True]


async def test_when_a_plan_is_over_bots_fall_silent_until_another_comes(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    """Nothing is deleted; customers read the owner's words and wait; the owner is told once."""
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop = await place.tenant()
        async with place.core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.shop.bot.id)
            bot.settings = {"silent_text": "Tez orada yozamiz!"}
        started = utcnow()
        place.core.now = lambda: started + dt.timedelta(days=366)
        person, other = shop.person(), shop.person()
        assert await _hears(place, shop, person) == "Tez orada yozamiz!"
        other.send(shop.bot, "operator kerak")
        assert (await fake.wait_message(other.id, bot=shop.bot)).text == "Tez orada yozamiz!"
        shop.ask(person)
        await fake.wait_delivered(shop.bot)
        await _quiet(place)
        assert len(fake.messages(person.id, shop.bot)) == 1 and not fake_models.requests
        assert sorted(await _reasons(place, shop)) == [("waiting", "asked"), ("waiting", "plan")]
        told = [notice.kind for notice in await place.notices(shop)]
        assert sorted(told) == ["operator_wanted", "plan_over"]
        assert await _quota(place) == []

        await _buys(place, shop, "starter")
        number = shop.ask(person)
        assert (await shop.answered([number]))[number] == 1
        over = await place.noticed(shop, "plan_over")
        assert over.resolved_at is not None


async def test_a_channel_that_the_plan_lacks_is_silent_and_the_others_answer(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    """It was connected under a larger plan, and it stays."""
    plan = _plan(channels=tuple(kind for kind in PLACES if kind != "telegram"))
    async with floor(tmp_path, sqlite_url, *fakes, plans=plan) as place:
        shop = await place.tenant()
        assert await _hears(place, shop, shop.person()) == translate("uz", LINE)
        notice = await place.noticed(shop, "plan_channel")
        assert notice.params["channel"] == "Telegram"
        channel = await place.one(select(models.Channel.status).where(models.Channel.id == shop.shop.channel.id))
        assert channel == "active"
        await _buys(place, shop, "starter")
        await shop.answered([shop.ask(shop.person())])


async def test_of_more_bots_than_the_plan_allows_the_oldest_answer(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    """The owner chooses others by stopping those."""
    async with floor(tmp_path, sqlite_url, *fakes, plans=_plan(bots=1)) as place:
        first = await place.tenant(email="bir@example.uz")
        second_bot = place.fake.add_bot("7700999001:CANARY_token_not_real_" + "B" * 20)
        async with place.core.db.write() as session:
            owner = await session.get_one(models.User, first.shop.owner.id)
        shop = await make_shop(place.core, "Ikkinchi", email=str(owner.email), telegram=second_bot.token)
        second = Tenant(place.fake, second_bot, shop)
        await place.fake.wait_call("getUpdates", bot=second_bot)
        await first.answered([first.ask(first.person())])
        assert await _hears(place, second, second.person()) == translate("uz", LINE)
        await place.noticed(first, "plan_bots")
        async with place.core.db.write() as session:
            (await session.get_one(models.Bot, first.shop.bot.id)).status = "stopped"
        await second.answered([second.ask(second.person())])


async def test_a_plan_with_one_language_answers_in_it_and_says_why(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    """The others are not offered; with a larger plan they are."""
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes, plans=_plan(languages=("uz",))) as place:
        shop = await place.tenant()
        person = shop.person("ru")
        text = await _hears(place, shop, person, "Здравствуйте, скажите пожалуйста, есть ли гарантия на холодильники")
        assert text.startswith(translate("ru", "I can answer in this language: {names}.", names="O‘zbekcha"))
        other = shop.person("ru")
        other.send(shop.bot, "/start")
        greeting = await fake.wait_message(other.id, bot=shop.bot)
        assert "lang:ru" not in [button["callback_data"] for button in greeting.buttons]
        await _buys(place, shop, "starter")
        third = shop.person("ru")
        third.send(shop.bot, "/start")
        greeting = await fake.wait_message(third.id, bot=shop.bot)
        assert greeting.button("lang:ru")


async def test_the_month_is_counted_with_the_messages_and_not_beside_them(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    """Where nothing is near its end no transaction of its own is needed: all commits are those of the groups."""
    async with floor(tmp_path, sqlite_url, *fakes, plans=_plan(messages=100)) as place:
        shop = await place.tenant()
        await shop.answered([shop.ask(shop.person())])
        await _quiet(place)
        alone: list[str] = []

        def hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            # What is counted alone first makes sure that the month has its row.
            if statement.startswith("INSERT INTO message_quotas"):
                alone.append(statement)

        event.listen(place.core.db.engine.sync_engine, "before_cursor_execute", hear)
        await shop.answered([shop.ask(shop.person()) for _ in range(20)])
        await _quiet(place)
        assert await until(lambda: _used_is(place, 21)) and not alone


async def _used_is(place: Floor, used: int) -> bool:
    return [row[1] for row in await _quota(place)] == [used]
