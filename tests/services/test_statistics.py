"""The numbers of bots: what is counted, and that a day that was counted says what its messages say."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select

from db import models
from db.base import utcnow
from services import chat, conversations, statistics
from services.conversations import finding
from services.core import Core
from services.days import midnight, today
from services.statistics import Numbers, costs, counting
from tests.composition import Shop, make_settings, make_shop, running
from tests.web.panel import open_site, web_talk

DAY = dt.timedelta(days=1)
NOW = midnight(today(utcnow())) + dt.timedelta(hours=13)
"""Of today, and not so soon after midnight that yesterday is not counted yet."""
ASKED = ("customer", "Narxi qancha?", None)
YES, NO = ("bot", "5000", True), ("bot", "?", False)


async def _talk(
    core: Core,
    shop: Shop,
    name: str,
    at: dt.datetime,
    *messages: tuple[Any, ...],
    language: str | None = None,
    **more: Any,
) -> None:
    """Add a conversation; of a message: author, text, answered, and more columns, ``after`` the one before in seconds."""
    async with core.db.write() as session:
        place = {"bot_id": shop.bot.id, "channel_id": shop.channel.id, "created_at": at}
        contact = models.Contact(external_id=name, name=name, language=language, **place)
        session.add(contact)
        await session.flush()
        talk = models.Conversation(contact_id=contact.id, last_message_at=at, **{**place, **more})
        session.add(talk)
        await session.flush()
        moment, last = at, None
        for author, text, answered, *rest in messages:
            columns: dict[str, Any] = dict(*rest)
            moment += dt.timedelta(seconds=columns.pop("after", 0))
            message = models.Message(
                conversation_id=talk.id, author=author, text=text, answered=answered, created_at=moment, **columns
            )
            if author == "bot":
                message.reply_to = last
            session.add(message)
            await session.flush()
            last = message.id if author == "customer" else last
            if author != "system":
                talk.last_message_at = max(talk.last_message_at, moment)


async def _numbers(core: Core, shop: Shop, days: int = 1, now: dt.datetime | None = None) -> Numbers:
    last = today(now or NOW)
    period = statistics.Period("", last - (days - 1) * DAY, last)
    async with core.db.read() as session:
        return (await statistics.report(session, [shop.bot.id], period)).now


def _counts(numbers: Numbers, *names: str) -> tuple[int, ...]:
    return tuple(getattr(numbers, name) for name in names)


async def test_numbers_count_what_happened(database_url: str, tmp_path: Path) -> None:
    """Own tests count nowhere, commands and kind words are no questions, an unknown command and a spoken word are."""
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        other = await make_shop(core, "Nur", email="other@example.uz", document=None)
        now, found = (
            midnight(today(NOW)) + dt.timedelta(hours=12),
            {"provider": "extractive", "sources": [{"id": "x"}]},
        )
        kind = ("bot", "Salom!", True, {"provider": "extractive", "sources": []})
        start = ("customer", "/start", None), ("system", "Salom", None)
        await _talk(core, shop, "a", now, *start, ASKED, (*YES, found), ASKED, NO, language="uz")
        spoken = ("customer", "", None, {"kind": "voice"})
        await _talk(core, shop, "b", now, ("customer", "", None), spoken, ("operator", "Ha", None), status="waiting")
        words = (("customer", text, None) for text in ("/Start ref_7", "/operator@chinor_bot", "Salom"))
        await _talk(core, shop, "c", now, *words, kind, ("customer", "/startap narxi", None), NO, language="ru")
        await _talk(core, shop, "told", now - 40 * DAY, ("system", "Aksiya!", None, {"after": 40 * 86_400}))
        await _talk(core, shop, "old", now - 9 * DAY, ASKED, YES, status="waiting")
        await _talk(core, shop, f"panel:{shop.owner.id}", now, ASKED, YES, ("operator", "?", None), status="waiting")
        await _talk(core, other, "d", now, ASKED, YES)
        names = ("questions", "answered", "unanswered", "handed_over", "by_people", "talks", "begun")
        assert _counts(await _numbers(core, shop), *names) == (4, 1, 2, 1, 1, 3, 3)
        assert _counts(await _numbers(core, shop, 30), *names) == (5, 2, 2, 2, 1, 4, 4)
        assert _counts(await _numbers(core, shop, 1, NOW + 2 * DAY), *names) == (0,) * 7
        async with core.db.read() as session:
            period = statistics.period("today", NOW)
            report = await statistics.report(session, [shop.bot.id, other.bot.id], period)
            assert await statistics.waiting(session, [shop.bot, other.bot]) == {shop.bot.id: 2, other.bot.id: 0}
            assert {code: each.talks for code, each in report.languages.items()} == {"": 2, "uz": 1, "ru": 1}
            assert {bot: each.questions for bot, each in report.bots.items()} == {shop.bot.id: 4, other.bot.id: 1}
            assert (await statistics.report(session, [], period)).now == Numbers()
            assert (await statistics.report(session, None, period)).now.talks == 4


async def test_medians_are_right_to_ten_percent(tmp_path: Path, sqlite_url: str) -> None:
    chance = random.Random(5)
    for waits in ([0.05], [3.0], [1.2, 700.0, 7.7], [chance.lognormvariate(2, 2) for _ in range(1001)]):
        exact = sorted(waits)[(len(waits) - 1) // 2]
        median = statistics.median_s(statistics.histogram((wait, 1) for wait in waits))
        assert median is not None and abs(median - max(exact, 0.1)) <= 0.1 * max(exact, 0.1)
    assert statistics.median_s(()) is None and len(statistics.histogram([(1e9, 1)])) == statistics.LAST_STEP + 1
    async with running(make_settings(tmp_path, sqlite_url), "idle") as core:
        shop = await make_shop(core, document=None)
        noon = midnight(today(NOW)) + dt.timedelta(hours=12)
        late = (*NO[:3], {"after": 4}), (*ASKED[:3], {"after": 60}), ("operator", "Ha", None, {"after": 540})
        # A person who writes more, or where the bot had answered, let nobody wait.
        await _talk(core, shop, "a", noon, ASKED, *late, ("operator", "Yana", None, {"after": 9}))
        await _talk(core, shop, "b", noon, ASKED, (*YES[:3], {"after": 4}), ("operator", "Ha", None, {"after": 3}))
        numbers = await _numbers(core, shop)
        assert (sum(numbers.waits), sum(numbers.person_waits)) == (2, 1)
        assert abs((numbers.median_s or 0) - 4) < 0.4 and abs((numbers.person_median_s or 0) - 604) < 60


async def _history(core: Core, shop: Shop, chance: random.Random, noon: dt.datetime, days: int) -> None:
    for back in range(days):
        for number in range(chance.randint(0, 3)):
            said: list[tuple[Any, ...]] = []
            for _ in range(chance.randint(1, 4)):
                said += [ASKED, (*chance.choice((YES, NO)), {"after": chance.randint(1, 40)})]
            if chance.random() < 0.4:
                said += [ASKED, ("operator", "Ha", None, {"after": chance.randint(60, 9000)})]
            language = chance.choice(("uz", "ru", None))
            await _talk(core, shop, f"{back}-{number}", noon - back * DAY, *said, language=language)


async def _used(core: Core, shop: Shop, chance: random.Random, noon: dt.datetime, days: int) -> None:
    async with core.db.write() as session:
        for back in range(days):
            session.add(
                models.AIUsage(
                    owner_id=shop.owner.id,
                    bot_id=chance.choice((shop.bot.id, None)),
                    provider="openai",
                    model_asked="x",
                    outcome=chance.choice(("ok", "busy")),
                    input_tokens=chance.randint(1, 900),
                    cost_usd=Decimal(chance.randint(1, 999)) / 1000,
                    own_key=chance.random() < 0.5,
                    created_at=noon - back * DAY,
                )
            )


async def test_a_counted_day_says_what_its_messages_say(database_url: str, tmp_path: Path) -> None:
    """History is counted a few days at a time, each once; a count that was broken off begins those days anew."""
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        chance, now = random.Random(7), NOW
        shop = await make_shop(core, document=None)
        other = await make_shop(core, "Nur", email="other@example.uz", document=None)
        noon = midnight(today(now)) + dt.timedelta(hours=1)
        for each in (shop, other):
            await _history(core, each, chance, noon, 20)
            await _used(core, each, chance, noon, 20)

        async def told() -> tuple[Any, ...]:
            first, last = today(now) - 25 * DAY, today(now)
            async with core.db.read() as session:
                lines = await statistics.lines(session, [shop.bot.id, other.bot.id], first, last)
                report = await statistics.report(session, None, statistics.Period("", today(now) - 12 * DAY, last))
                since = midnight(first) + dt.timedelta(days=8, hours=3)
                used = [await costs.summary(session, shop.owner, at, now) for at in (midnight(first), since)]
                used.append(await costs.of_own_key(session, shop.owner.id, first, last))
                parts = {key: each for key, each in report.days.items() if each.talks}
                return lines, parts, report.bots, report.languages, report.before, used

        live = await told()
        assert len(live[0]) > 20
        days = select(func.count()).select_from(models.CountedDay)
        steps: list[int] = []
        while await counting.count_some(core.db, now):
            async with core.db.read() as session:
                steps.append(int(await session.scalar(days) or 0))
            assert await told() == live
        assert len(steps) >= 3 and max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= counting.DAYS_AT_ONCE
        assert await told() == live
        async with core.db.write() as session:
            assert await session.scalar(select(func.max(models.CountedDay.day))) == (today(now) - DAY).isoformat()
            # As if the process had died in the last count: rows without the mark.
            recent = models.CountedDay.day >= (today(now) - 3 * DAY).isoformat()
            await session.execute(delete(models.CountedDay).where(recent))
        assert await told() == live
        assert await counting.count_some(core.db, now) and not await counting.count_some(core.db, now)
        assert await told() == live
        # Nothing is read from messages any more but today's.
        async with core.db.write() as session:
            await session.execute(delete(models.Message).where(models.Message.created_at < midnight(today(now))))
        counted = await told()
        assert [line for line in counted[0] if line.day < today(now)] == [
            line for line in live[0] if line.day < today(now)
        ]


async def test_days_of_a_stop_are_caught_up_and_a_day_is_counted_when_it_is_over(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with running(make_settings(tmp_path, sqlite_url)) as core:

        async def counted() -> list[str]:
            async with core.db.read() as session:
                return list(await session.scalars(select(models.CountedDay.day).order_by(models.CountedDay.day)))

        begun = today(core.now())
        await counting.count_due(core, {})
        assert await counted() == [statistics.BEGINNING]
        midnight_after = midnight(begun + DAY)
        core.now = lambda: midnight_after + dt.timedelta(minutes=9)
        await counting.count_due(core, {})
        assert await counted() == [statistics.BEGINNING]
        core.now = lambda: midnight_after + 3 * DAY + dt.timedelta(minutes=10)
        await asyncio.gather(*(counting.count_due(core, {}) for _ in range(2)))
        assert await counted() == [statistics.BEGINNING, *((begun + n * DAY).isoformat() for n in range(4))]
        async with core.db.read() as session:
            last = begun + 6 * DAY
            assert await statistics.open_ranges(session, begun - 90 * DAY, last) == [(begun + 4 * DAY, last)]


async def test_a_start_counts_what_is_over(tmp_path: Path, sqlite_url: str) -> None:
    """Nobody waits an hour for the numbers of an installation that was there before."""
    job = models.Job
    wanted = select(job.status).where(job.kind == counting.COUNT_JOB)
    async with open_site(tmp_path, sqlite_url) as site:
        async with site.core.db.read() as session:
            assert await session.scalar(wanted) is None, "there was nothing to count"
        bot = await site.bot_of(await site.person("Egasi"))
        long_ago = site.core.now() - 3 * DAY
        async with site.core.db.write() as session:
            await web_talk(session, bot, created_at=long_ago, last_message_at=long_ago)
    async with open_site(tmp_path, sqlite_url) as site:
        async with asyncio.timeout(30):
            while True:
                async with site.core.db.read() as session:
                    if await session.scalar(wanted) == "done":
                        break
                await asyncio.sleep(0.01)
        async with site.core.db.read() as session:
            days = set(await session.scalars(select(models.CountedDay.day)))
        assert today(long_ago).isoformat() in days


async def test_the_panels_test_chat_is_no_customer(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        user = await site.person("Egasi")
        bot = await site.bot_of(user)
        browser = await site.signed_in(user)
        tried = await browser.post(f"/bots/{bot.id}/try", text="Narxi qancha?")
        assert "event: done" in tried.text
        async with site.core.db.read() as session:
            period = statistics.period("today", NOW)
            assert await statistics.by_bot(session, [bot], period) == {bot.id: Numbers()}


async def test_what_customers_are_told_says_who_was_handed_over(tmp_path: Path) -> None:
    """Kind words are no questions that were answered; a talk that comes to wait for a person counts once that day."""
    async with running(make_settings(tmp_path)) as core:
        shop = await make_shop(core)
        for text in ("Salom", "Rahmat!", "Kafolat bormi?", "Parvoz chiptasi qancha turadi?", "/operator"):
            await chat.ask(core, shop.channel, shop.bot, contact="customer", text=text)
        for text in ("Kafolat bormi?", "/operator"):
            await chat.ask(core, shop.channel, shop.bot, contact="another", text=text)
        await chat.ask(core, shop.channel, shop.bot, contact="content", text="Kafolat bormi?")
        numbers = await _numbers(core, shop, 2, utcnow())
        names = ("questions", "answered", "unanswered", "handed_over", "by_people", "talks", "begun")
        assert _counts(numbers, *names) == (4, 3, 1, 2, 0, 3, 3)
        assert sum(numbers.waits) >= 4
        marked = select(func.count()).where(models.Message.extra == {"called": True})
        async with core.db.read() as session:
            assert await session.scalar(marked) == 2


async def test_talks_are_searched_without_regard_to_case_in_every_script(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        now = utcnow()
        await _talk(core, shop, "Ўткир", now, ("customer", "МУЗЛАТГИЧ борми? 50%_", None))
        await _talk(core, shop, "Anna", now, ("customer", "Pechka kerak", None))
        await finding.prepare(core)
        async with core.db.read() as session:
            for wanted, names in (
                ("музлатгич", ["Ўткир"]),
                ("ЎТКИР", ["Ўткир"]),
                ("pechKA", ["Anna"]),
                ("50%_", ["Ўткир"]),
                ("%", []),
                ("холодильник", []),
            ):
                page = await conversations.list_for(session, shop.bot, q=wanted)
                assert [row.contact.name for row in page.items] == names, wanted
