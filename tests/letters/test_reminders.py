"""Reminders of an end: once each, whatever the clock and the process do."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from db import models
from services import bots, subscriptions, upkeep
from services.letters import offering
from tests.fakes.smtp import FakeMail
from tests.letters.office import START, Office, office, tashkent

LONG_AGO = START - dt.timedelta(days=200)


async def _news(desk: Office, user: models.User, *moments: dt.datetime) -> list[list[str]]:
    """Do what is due at each of these moments, twice; return what was written at each."""
    news = []
    for moment in moments:
        desk.clock.moment = moment
        before = len(await desk.kinds(user))
        await desk.remind()
        await desk.remind()
        news.append((await desk.kinds(user))[before:])
    return news


@pytest.mark.parametrize(
    ("end", "last_day"),
    [
        (tashkent(2027, 3, 10, 14, 30), (2027, 3, 10)),
        (tashkent(2027, 3, 11, 0, 0), (2027, 3, 10)),
        (tashkent(2028, 2, 29, 9, 0), (2028, 2, 29)),
        (tashkent(2028, 3, 1, 0, 0), (2028, 2, 29)),
        (tashkent(2027, 1, 1, 0, 0), (2026, 12, 31)),
        (tashkent(2027, 1, 1, 5, 0), (2027, 1, 1)),
    ],
)
async def test_three_days_before_and_on_the_day_of_tashkent(
    desk: Office, end: dt.datetime, last_day: tuple[int, int, int]
) -> None:
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.paid_until(user, end)
    midnight, before = tashkent(*last_day), dt.timedelta(seconds=1)
    three, over = end - dt.timedelta(days=3), end + dt.timedelta(days=3)
    moments = (three - before, three, midnight - before, midnight, end - before, end, over - before, over)
    assert await _news(desk, user, *moments) == [
        [],
        ["plan_ends"],
        [],
        ["plan_ends_today"],
        [],
        [],
        [],
        ["plan_stopped"],
    ]


async def test_what_the_reminders_say(desk: Office, mail: FakeMail) -> None:
    end = tashkent(2027, 3, 11, 0, 0)
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START, language="uz")
    await desk.paid_until(user, end)
    desk.clock.moment = end - dt.timedelta(days=3)
    await desk.remind()
    await desk.post.send_mail()
    (letter,) = mail.letters
    assert "2027-yil 10-mart" in str(letter.message["Subject"])
    assert "Basic" in str(letter.message["Subject"])
    assert "https://bots.example.uz/billing" in letter.part("plain")
    assert letter.message["List-Unsubscribe"] is None


@pytest.mark.parametrize("jump", [{"hours": 1}, {"hours": -1}, {"days": 1}, {"days": -1}])
@pytest.mark.parametrize("at_hour", [0, 30, 60])
async def test_a_clock_that_jumps_neither_loses_nor_doubles(desk: Office, jump: dict[str, float], at_hour: int) -> None:
    end = tashkent(2027, 3, 10, 14, 30)
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.paid_until(user, end)
    desk.clock.moment = end - dt.timedelta(days=3, hours=2)
    for hour in range(0, 24 * 4, 6):
        if hour == at_hour:
            desk.clock.forward(**jump)
        if hour == at_hour + 12:
            desk.clock.forward(**{unit: -n for unit, n in jump.items()})
        await desk.remind()
        desk.clock.forward(hours=6)
    written = await desk.kinds(user)
    # By a clock that is a day ahead on the last day the plan is over: that is told instead, and once.
    assert written in (["plan_ends", "plan_ends_today"], ["plan_ends_today", "plan_ends"], ["plan_ends", "plan_over"])


async def test_a_renewal_in_between_ends_what_was_said_of_the_old_end(desk: Office, mail: FakeMail) -> None:
    end = tashkent(2027, 3, 10, 14, 30)
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.paid_until(user, end)
    desk.clock.moment = end - dt.timedelta(days=2)
    await desk.remind()
    mail.replies["aziza@example.uz"] = "451 4.7.1 Greylisted"
    await desk.post.send_mail()
    await desk.pay(user)
    mail.replies.clear()
    desk.clock.forward(hours=1)
    await desk.post.send_mail()
    assert not mail.letters
    assert [letter.mail for letter in await desk.letters(user)] == ["none"]
    renewed = end + dt.timedelta(days=30)
    moments = (end - dt.timedelta(hours=3), end, renewed - dt.timedelta(days=3), renewed - dt.timedelta(hours=3))
    assert await _news(desk, user, *moments) == [[], [], ["plan_ends"], ["plan_ends_today"]]


async def test_a_plan_that_another_follows_does_not_end(desk: Office) -> None:
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.pay(user, "premium")
    await desk.pay(user, "basic")
    desk.clock.forward(days=29)
    await desk.remind()
    assert await desk.kinds(user) == []
    desk.clock.forward(days=29)
    await desk.remind()
    assert await desk.kinds(user) == ["plan_ends"]


async def test_a_process_that_was_down_tells_once_and_late(desk: Office, mail: FakeMail) -> None:
    end = tashkent(2027, 3, 10, 14, 30)
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.paid_until(user, end)
    desk.clock.moment = end + dt.timedelta(hours=20)
    for _ in range(3):
        await desk.remind()
        desk.clock.forward(hours=1)
    assert await desk.kinds(user) == ["plan_over"]
    await desk.post.send_mail()
    assert "goes on answering" not in mail.letters[0].part("plain")
    assert "until 13 March 2027, 14:30" in mail.letters[0].part("plain").replace("\n", " ")


async def test_nobody_is_told_of_what_ended_long_ago(desk: Office) -> None:
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.paid_until(user, START - dt.timedelta(days=60))
    other = await desk.person("Other", created_at=LONG_AGO, unsubscribed_at=START)
    await desk.remind()
    assert await desk.kinds(user) == await desk.kinds(other) == []


async def test_the_ends_of_trial_and_test_are_told(desk: Office) -> None:
    user = await desk.person(unsubscribed_at=START)
    trial, test, second = dt.timedelta(days=3), dt.timedelta(days=14), dt.timedelta(seconds=1)
    moments = (START + trial - second, START + trial, START + test - second, START + test, START + 2 * test)
    assert await _news(desk, user, *moments) == [[], ["trial_over"], [], ["test_over"], []]


async def test_who_has_paid_meanwhile_hears_nothing_of_the_trial(desk: Office, mail: FakeMail) -> None:
    user = await desk.person()
    desk.clock.forward(days=3)
    await desk.remind()
    await desk.pay(user)
    await desk.post.send_mail()
    assert not mail.letters
    assert [letter.mail for letter in await desk.letters(user)] == ["none"]


@pytest.mark.parametrize(
    "values",
    [
        {"role": "admin"},
        {"banned_at": START},
        {"delete_at": START + dt.timedelta(days=14)},
        {"email": None},
        {"mail_refused_at": START},
    ],
)
async def test_who_is_not_written_to(desk: Office, values: dict[str, Any]) -> None:
    user = await desk.person(**values)
    for _ in range(6):
        desk.clock.forward(days=3)
        await desk.remind()
    assert await desk.kinds(user) == []


async def test_who_only_answers_for_an_owner_buys_nothing(desk: Office) -> None:
    owner, helper = await desk.person("Owner"), await desk.person("Helper")
    async with desk.core.db.write() as session:
        session.add(models.Member(owner_id=owner.id, user_id=helper.id, role="operator"))
    desk.clock.forward(days=6)
    await desk.remind()
    assert await desk.kinds(helper) == []
    assert "trial_over" in await desk.kinds(owner)
    async with desk.core.db.write() as session:
        await bots.create(session, helper, "Own", limits=desk.core.settings.limits)
    await desk.remind()
    assert "trial_over" in await desk.kinds(helper)


async def test_a_banned_person_gets_nothing_that_waits(desk: Office, mail: FakeMail) -> None:
    user = await desk.person()
    desk.clock.forward(days=3)
    await desk.remind()
    await desk.change(user, banned_at=desk.clock())
    await desk.post.send_mail()
    assert not mail.letters


async def test_a_longer_plan_moves_its_reminders(desk: Office) -> None:
    user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
    await desk.pay(user)
    desk.clock.forward(days=28)
    await desk.remind()
    async with desk.core.db.write() as session:
        await subscriptions.extend(session, user.id, 10, now=desk.clock())
    desk.clock.forward(days=2)
    await desk.remind()
    assert await desk.kinds(user) == ["plan_ends"]
    desk.clock.forward(days=7)
    await desk.remind()
    assert await desk.kinds(user) == ["plan_ends", "plan_ends"]


async def test_without_days_of_grace_the_stop_is_told_at_the_end(tmp_path: Path, sqlite_url: str) -> None:
    async with office(tmp_path, sqlite_url, overrides={"subscriptions": {"grace_days": 0}}) as desk:
        user = await desk.person(created_at=LONG_AGO, unsubscribed_at=START)
        await desk.paid_until(user, START + dt.timedelta(days=1))
        desk.clock.forward(days=1)
        await desk.remind()
        assert await desk.kinds(user) == ["plan_stopped"]


async def test_the_job_of_the_hour(desk: Office) -> None:
    """Each due time once: the hour is that of the product's clock."""
    added = [await upkeep.enqueue_due(desk.core, offering.REMIND_JOB) for _ in range(2)]
    desk.clock.forward(hours=1)
    added.append(await upkeep.enqueue_due(desk.core, offering.REMIND_JOB))
    assert added == [True, False, True]
