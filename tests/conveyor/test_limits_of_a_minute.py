"""What a minute allows counts messages, however many of them are answered together."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, floor, texts
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
SLOWLY = "You write faster than I can answer 🙂 Please wait a minute."
BUSY = "Very many people are writing to us right now. Please write again a little later 🙏"


async def _together(place: Floor, shop: Tenant, person: FakeUser, more: int) -> tuple[int, list[int]]:
    """Let a person ask once, and ``more`` times while that is being answered, so that these come together."""
    answering = place.models.hold()
    first = shop.ask(person)
    await answering.reached.wait()
    rest = [shop.ask(person) for _ in range(more)]
    await place.fake.wait_delivered(shop.bot)
    place.models.release()
    return first, rest


@pytest.mark.parametrize(
    ("limit", "line", "noticed"),
    [("contact_messages_per_minute", SLOWLY, 0), ("bot_messages_per_minute", BUSY, 1)],
)
async def test_messages_that_are_answered_together_count_each(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, limit: str, line: str, noticed: int
) -> None:
    async with floor(tmp_path, sqlite_url, *fakes, limits={limit: 4}) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        first, together = await _together(place, shop, person, 3)
        assert set((await shop.answered([first, *together])).values()) == {1}
        # As many as the limit were answered; what comes now is too much.
        over = [shop.ask(person) for _ in range(5)]
        await place.fake.wait_message(person.id, translate("uz", line), bot=shop.bot)

        async def handled() -> bool:
            statuses = select(models.Message.status, func.count()).where(models.Message.author == "customer")
            rows = await place.rows(statuses.group_by(models.Message.status))
            return dict(map(tuple, rows)) == {"answered": 4, "skipped": 5}

        await place.until(handled)
        assert not set(over) & set(shop.times())
        assert texts(place.fake.messages(person.id, shop.bot)).count(translate("uz", line)) == 1
        assert len(await place.notices(shop)) == noticed


async def test_more_together_than_is_left_of_a_minute_is_too_much(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    async with floor(tmp_path, sqlite_url, *fakes, limits={"contact_messages_per_minute": 3}) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        first, rest = await _together(place, shop, person, 20)
        await place.fake.wait_message(person.id, translate("uz", SLOWLY), bot=shop.bot)
        times = await shop.answered([first])
        assert times[first] == 1 and not set(rest) & set(times)
