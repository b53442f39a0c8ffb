"""Albums: pictures that arrive one by one are one question with one answer, whatever happens between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from services.conversations import albums
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, floor, settings_for
from tests.conveyor.nursery import Nursery
from tests.conveyor.test_media import UNOPENED, answering, is_look
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser
from tests.services.test_pictures import encoded

Fakes = tuple[FakeTelegram, FakeModels]


@pytest.fixture
async def place(
    tmp_path: Path, database_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Floor]:
    # Long enough for the slowest machine to bring the next picture.
    monkeypatch.setattr(albums, "QUIET_S", 8.0)
    monkeypatch.setattr(albums, "MOST_S", 30.0)
    async with floor(tmp_path, database_url, *fakes, role="all") as started:
        started.models.reply = answering
        yield started


async def _gathering(place: Floor, n: int) -> None:
    """Wait until so many updates were taken and given back."""
    item = models.InboxItem
    given_back = select(func.count()).select_from(item).where(item.error == "given back", item.status == "new")

    async def done() -> bool:
        return bool(await place.one(given_back) == n)

    await place.until(done)


async def _settled(place: Floor) -> None:
    async def done() -> bool:
        return not await place.one(select(func.sum(models.Lane.pending)))

    await place.until(done)


async def _said(place: Floor, shop: Tenant, person: FakeUser) -> list[str]:
    await _settled(place)
    await place.fake.wait_until(lambda: bool(place.fake.messages(person.id, shop.bot)))
    return [sent.text for sent in place.fake.messages(person.id, shop.bot)]


async def test_pictures_that_come_apart_get_one_answer(place: Floor) -> None:
    shop = await place.tenant()
    person = shop.person()
    person.send_photo(shop.bot, encoded(), caption="Shunday bormi?", group_id="7")
    await _gathering(place, 1)
    # Nothing was asked before the rest is here, and meanwhile others are served.
    assert not place.models.requests
    other = shop.person()
    other.send_photo(shop.bot, encoded(), caption="Bittasi")
    await place.fake.wait_message(other.id, "№7", bot=shop.bot)
    for _ in range(2):
        person.send_photo(shop.bot, encoded(), group_id="7")
    assert await _said(place, shop, person) == ["Ha, bor №7"]
    asked = [seen for seen in place.models.requests if not is_look(seen)][-1].text
    assert "Shunday bormi?" in asked and asked.count("Oq muzlatgich") == 3
    message = models.Message
    rows = await place.rows(select(message.kind, message.status).where(message.author == "customer"))
    assert rows == [("photo", "answered")] * 4
    recent = await place.rows(
        select(models.Conversation.recent).join(models.Contact).where(models.Contact.external_id == str(person.id))
    )
    assert [turn[0] for turn in recent[0].recent] == ["user", "assistant"]


async def test_one_that_cannot_be_opened_says_nothing_beside_the_others(place: Floor) -> None:
    shop = await place.tenant()
    person = shop.person("en")
    for content in (encoded(), b"not a picture", encoded()):
        person.send_photo(shop.bot, content, group_id="8")
    assert await _said(place, shop, person) == ["Ha, bor №7"]
    # And where none can be opened that is said once.
    for _ in range(3):
        person.send_photo(shop.bot, b"not a picture", group_id="9")
    await place.fake.wait_message(person.id, translate("en", UNOPENED), bot=shop.bot)
    assert (await _said(place, shop, person)).count(translate("en", UNOPENED)) == 1


async def test_what_follows_an_album_ends_it(place: Floor) -> None:
    shop = await place.tenant()
    person = shop.person()
    for number in range(2):
        person.send_photo(shop.bot, encoded(), group_id=f"1{number}")
    number = shop.ask(person)
    said = await _said(place, shop, person)
    assert len(said) == 1 and number in shop.asked
    # A full album waits for nothing.
    for _ in range(10):
        person.send_photo(shop.bot, encoded(), group_id="20")
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, shop.bot)) == 2)
    assert len(await _said(place, shop, person)) == 2


async def test_killed_while_an_album_arrives(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, fake_models = fakes
    fake_models.reply = answering
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    person = shop.person()
    child = await children.start(settings_for(tmp_path, database_url, fake, fake_models), point="received")
    person.send_photo(shop.bot, encoded(), caption="Shunday bormi?", group_id="7")
    await child.hears("paused")
    await fake.wait_delivered(shop.bot)
    await child.kill()
    person.send_photo(shop.bot, encoded(), group_id="7")
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        said = await _said(place, shop, person)
        # What was in hand at a death is tried alone: each picture is answered, none twice.
        stored = await place.rows(select(models.Message.status).where(models.Message.author == "customer"))
        assert stored == [("answered",)] * 2 and len(said) <= 2
        answers = select(models.Message.reply_to).where(models.Message.author == "bot")
        replied = [row.reply_to for row in await place.rows(answers)]
        assert len(replied) == len(set(replied)) == len(said)


async def test_stopped_while_an_album_arrives(
    tmp_path: Path, database_url: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, fake_models = fakes
    fake_models.reply = answering
    monkeypatch.setattr(albums, "QUIET_S", 8.0)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
        person = shop.person()
        person.send_photo(shop.bot, encoded(), caption="Shunday bormi?", group_id="7")
        await _gathering(place, 1)
    person.send_photo(shop.bot, encoded(), group_id="7")
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        assert await _said(place, shop, person) == ["Ha, bor №7"]
        assert (
            await place.one(select(func.count()).select_from(models.Message).where(models.Message.author == "customer"))
            == 2
        )


async def test_where_a_person_leads_nothing_waits(place: Floor) -> None:
    shop = await place.tenant()
    person = shop.person()
    person.send(shop.bot, "Muzlatgichlarga kafolat bormi?")
    await place.fake.wait_message(person.id, "№7", bot=shop.bot)
    async with place.core.db.write() as session:
        (await session.scalars(select(models.Conversation))).one().status = "human"
    person.send_photo(shop.bot, encoded(), group_id="7")
    await place.noticed(shop, "customer_wrote")
    item = models.InboxItem
    assert not await place.one(select(func.count()).select_from(item).where(item.error == "given back"))
