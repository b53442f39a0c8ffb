"""Where a customer comes from, and who comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from services.i18n import LANGUAGE_NAMES, translate
from tests.conveyor.harness import Floor, Tenant, echo, floor, surroundings
from tests.fakes.telegram import FakeUser, Sent
from tests.servers import Run

HELLO = "Hello! 👋 I am {name}. Ask me anything, I answer at any hour."
BACK = "Welcome back! 👋 {state}"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: Run
) -> AsyncIterator[Floor]:
    """One product for all tests of this file, on each database."""
    folder = tmp_path_factory.mktemp("links")
    with servers_run.database(request.param, folder) as url:
        async with surroundings() as (fake, fake_models), floor(folder, url, fake, fake_models) as opened:
            opened.models.reply = echo
            yield opened


@pytest.fixture(scope="module")
async def shop(place: Floor) -> Tenant:
    """A bot that knows a small document."""
    return await place.tenant()


async def _source(place: Floor, person: FakeUser) -> str:
    return str(await place.one(select(models.Contact.source).where(models.Contact.external_id == str(person.id))))


async def _started(place: Floor, shop: Tenant, person: FakeUser, payload: str = "") -> Sent:
    person.start(shop.bot, payload)
    return await place.fake.wait_message(person.id, bot=shop.bot)


async def test_the_first_link_is_kept_and_later_ones_are_only_noted(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    assert HELLO.format(name=shop.shop.bot.name) in (await _started(place, shop, person, "insta_Bio-7")).text
    await _started(place, shop, person, "flyer2")
    await _started(place, shop, person)
    assert await _source(place, person) == "insta_Bio-7"
    extras = await place.rows(
        select(models.Message.extra)
        .join(models.Conversation)
        .join(models.Contact)
        .where(models.Contact.external_id == str(person.id), models.Message.author == "customer")
        .order_by(models.Message.id)
    )
    assert [row.extra.get("source") for row in extras] == ["insta_Bio-7", "flyer2", None]


@pytest.mark.parametrize(
    "payload", ["", "x" * 65, "a b", "<script>", "ой", "a.b", "=1+1", "../..", "x" * 10_000, "a\nb", "\u202ea"]
)
async def test_what_is_no_parameter_is_a_plain_start(place: Floor, shop: Tenant, payload: str) -> None:
    person = shop.person("en")
    assert HELLO.format(name=shop.shop.bot.name) in (await _started(place, shop, person, payload)).text
    assert await _source(place, person) == ""


async def test_the_longest_parameter_fits(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    await _started(place, shop, person, "A" * 64)
    assert await _source(place, person) == "A" * 64


async def test_a_link_later_does_not_tell_where_somebody_came_from_first(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    person.send(shop.bot, "Is there a warranty?")
    await place.fake.wait_message(person.id, bot=shop.bot)
    await _started(place, shop, person, "late")
    assert await _source(place, person) == ""


async def test_who_comes_back_is_not_asked_for_the_language_again(place: Floor, shop: Tenant) -> None:
    person = shop.person("uz")
    greeting = await _started(place, shop, person)
    assert [button["text"] for button in greeting.buttons] == list(LANGUAGE_NAMES.values())
    person.press(greeting, "lang:ru")
    await place.fake.wait_message(person.id, bot=shop.bot)
    again = await _started(place, shop, person)
    assert again.text == translate("ru", BACK, state=translate("ru", "What would you like to know?"))
    assert not again.buttons


async def test_who_asked_before_and_chose_no_language_may_still_choose(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    person.send(shop.bot, "Is there a warranty?")
    await place.fake.wait_message(person.id, bot=shop.bot)
    again = await _started(place, shop, person)
    assert again.text.startswith("Welcome back! 👋 What would you like to know?")
    assert len(again.buttons) == len(LANGUAGE_NAMES)


async def test_who_comes_back_hears_who_answers(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    person.send(shop.bot, "/operator")
    await place.fake.wait_message(person.id, bot=shop.bot)
    assert "A person has been called" in (await _started(place, shop, person)).text
    async with place.core.db.write() as session:
        talk = await session.scalar(
            select(models.Conversation).join(models.Contact).where(models.Contact.external_id == str(person.id))
        )
        assert talk is not None
        talk.status = "human"
    assert "A person is answering you" in (await _started(place, shop, person)).text
