"""Letters in Telegram: by the product as it runs, with the factory bot, the bell and the mail server beside it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from tests.conveyor.harness import until
from tests.conveyor.nursery import Nursery
from tests.fakes.smtp import FakeMail
from tests.fakes.telegram import FakeTelegram, FakeUser, Sent
from tests.handlers.conftest import FACTORY
from tests.letters.office import START, Clock, Office, office, settings_of

NUMBER = 900_100_001
MARK = "KILLED"
"""In the letters of the test, beside which the product writes its own."""


@contextlib.asynccontextmanager
async def _running(
    folder: Path, database_url: str, mail: FakeMail, telegram: FakeTelegram, clock: Clock | None = None
) -> AsyncIterator[Office]:
    """Start the product with its workers and the factory bot."""
    if FACTORY not in telegram.bots:
        telegram.add_bot(FACTORY, "factory_bot", name="Factory")
    environment = {"TELEGRAM_BOT_TOKEN": FACTORY, "TELEGRAM_API_BASE": telegram.base_url}
    async with office(folder, database_url, mail, role="worker", clock=clock, environment=environment) as desk:
        async with desk.core.bell.listen("channels") as bell, asyncio.timeout(60):
            while desk.core.factory is None:
                await bell.get()
        yield desk


@pytest.fixture
async def desk(tmp_path: Path, sqlite_url: str, mail: FakeMail, telegram: FakeTelegram) -> AsyncIterator[Office]:
    async with _running(tmp_path, sqlite_url, mail, telegram) as opened:
        yield opened


async def _known(desk: Office, telegram: FakeTelegram, number: int = NUMBER) -> tuple[models.User, FakeUser]:
    factory = telegram.bots[FACTORY]
    factory.chats.add(number)
    user = await desk.person(f"Person{number}", telegram_id=number)
    return user, telegram.user(number, "en")


async def _state(desk: Office, user: models.User, way: str, wanted: str) -> models.Letter:
    """Wait until the only letter of a person is so."""

    async def found() -> models.Letter | None:
        (letter,) = await desk.letters(user)
        return letter if getattr(letter, way) == wanted else None

    letter: models.Letter = await until(found)
    return letter


def _buttons(message: Sent) -> dict[str, str]:
    rows = (message.markup or {}).get("inline_keyboard", [])
    return {key["text"]: key["url"] for row in rows for key in row}


async def test_the_bell_brings_mail_and_message(desk: Office, mail: FakeMail, telegram: FakeTelegram) -> None:
    user, person = await _known(desk, telegram)
    await desk.write(user, "receipt", params={"number": "<7>", "path": "/billing"})
    desk.core.bell.ring("letters")
    message = await telegram.wait_message(person.id, "Paid: <7>.")
    assert _buttons(message) == {"Open the panel": "https://bots.example.uz/billing"}
    await _state(desk, user, "telegram", "sent")
    letter = await _state(desk, user, "mail", "sent")
    assert letter.telegram_attempts == letter.mail_attempts == 1
    assert len(mail.letters) == 1


async def test_an_offer_in_telegram_can_be_ended_there(desk: Office, telegram: FakeTelegram) -> None:
    user, person = await _known(desk, telegram)
    desk.clock.forward(days=3, hours=54)
    await desk.remind()
    message = await telegram.wait_message(person.id, "SAVE10_")
    buttons = _buttons(message)
    assert list(buttons) == ["Choose a plan", "No more offers"]
    assert buttons["No more offers"].startswith(f"https://bots.example.uz/unsubscribe/{user.id}.")


async def test_who_has_blocked_the_bot_still_gets_mail(desk: Office, mail: FakeMail, telegram: FakeTelegram) -> None:
    user, person = await _known(desk, telegram)
    person.block(telegram.bots[FACTORY])
    await desk.write(user, "receipt", params={"number": "1"})
    desk.core.bell.ring("letters")
    await _state(desk, user, "telegram", "failed")
    await _state(desk, user, "mail", "sent")
    assert len(mail.letters) == 1


async def test_what_telegram_did_not_take_is_sent_later(desk: Office, telegram: FakeTelegram) -> None:
    user, person = await _known(desk, telegram)
    telegram.fail(502, "Bad Gateway", method="sendMessage", chat_id=person.id, times=None)
    await desk.write(user, "receipt", params={"number": "1"})
    desk.core.bell.ring("letters")

    async def tried() -> bool:
        (letter,) = await desk.letters(user)
        return letter.telegram_attempts == 1 and letter.telegram == "new" and letter.telegram_at > START

    await until(tried)
    telegram.clear_faults()
    desk.clock.forward(minutes=5)
    desk.core.bell.ring("letters")
    await telegram.wait_message(person.id, "Paid: 1.")
    await _state(desk, user, "telegram", "sent")


async def test_who_has_no_telegram_is_not_waited_for(desk: Office, mail: FakeMail) -> None:
    user = await desk.person()
    await desk.write(user, "receipt", params={"number": "1"})
    desk.core.bell.ring("letters")
    await _state(desk, user, "telegram", "none")
    await _state(desk, user, "mail", "sent")


# Killed


@pytest.mark.parametrize(("point", "way"), [("letter_mailed", "mail"), ("letter_told", "telegram")])
async def test_killed_between_the_acceptance_and_its_mark(
    tmp_path: Path,
    sqlite_url: str,
    mail: FakeMail,
    telegram: FakeTelegram,
    children: Nursery,
    point: str,
    way: str,
) -> None:
    """An offer goes out at most once; a word about the account goes again, by mail under the same Message-ID."""
    telegram.add_bot(FACTORY, "factory_bot", name="Factory")
    environment = {"TELEGRAM_BOT_TOKEN": FACTORY, "TELEGRAM_API_BASE": telegram.base_url}
    numbers = {"offer_night": NUMBER, "trial_over": NUMBER + 1}
    now = dt.datetime.now(dt.UTC)
    users = {}
    async with office(tmp_path, sqlite_url, mail, clock=Clock(now), environment=environment) as desk:
        for kind, number in numbers.items():
            telegram.bots[FACTORY].chats.add(number)
            telegram.user(number, "en")
            user = await desk.person(f"P{number}", telegram_id=number, created_at=now - dt.timedelta(days=9))
            params = {"code": MARK, "percent": 10, "until": MARK, "price": "1"}
            ways = {"mail": way == "mail", "telegram": way == "telegram"}
            if kind == "offer_night":
                await desk.coupon(user, MARK)
            await desk.write(user, kind, f"killed:{kind}", params=params, **ways)
            users[kind] = user
    settings = settings_of(tmp_path, sqlite_url, mail, environment=environment)
    for _ in range(2):
        child = await children.start(settings, point=point)
        await child.hears("paused")
        await child.kill()

    def came() -> dict[str, int]:
        if way == "mail":
            return {
                kind: sum(MARK in letter.part("plain") for letter in mail.to(str(user.email)))
                for kind, user in users.items()
            }
        return {
            kind: sum(MARK in message.text for message in telegram.messages(number)) for kind, number in numbers.items()
        }

    assert sorted(came().values()) == [1, 1]
    later = Clock(now + dt.timedelta(hours=7))
    async with _running(tmp_path, sqlite_url, mail, telegram, later) as desk:
        desk.core.bell.ring("letters")

        async def over() -> bool:
            async with desk.core.db.read() as session:
                left = select(models.Letter.id).where((models.Letter.mail == "new") | (models.Letter.telegram == "new"))
                return await session.scalar(left.where(models.Letter.key.like("killed:%")).limit(1)) is None

        await until(over)
        assert came() == {"offer_night": 1, "trial_over": 2}
        states = {kind: getattr(next(iter(await _killed(desk, user))), way) for kind, user in users.items()}
    assert states == {"offer_night": "unsure", "trial_over": "sent"}
    if way == "mail":
        again = [letter for letter in mail.letters if MARK in letter.part("plain")]
        assert len({letter.message["Message-ID"] for letter in again}) == 2


async def _killed(desk: Office, user: models.User) -> list[models.Letter]:
    return [letter for letter in await desk.letters(user) if letter.key.startswith("killed:")]
