"""What customers wish for in their own words: a person, their language, an answer to what they asked and not to another thing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from services import bots, chat
from services.chat import ChatReply
from services.i18n import translate
from services.knowledge import documents
from tests.composition import Shop, make_shop
from tests.conveyor.harness import Floor, Tenant, floor, surroundings
from tests.fakes.telegram import FakeUser
from tests.servers import Run

CALLED = "I have called a person 🙋 They will write to you here. Meanwhile you can go on asking me."
RESTING = "This bot is resting now 😴 Please write again later."
HELP = "Write your question and I will answer at once. /language – choose the language, /operator – talk to a person."
PRICES = """Savol: Tish tozalash narxi qancha?
Javob: Tish tozalash 350 000 so'm.

Savol: Motor moyini almashtirish qancha turadi?
Javob: Moy almashtirish 80 000 so'm.

Savol: Qaysi vaqtda ishlaysiz?
Javob: Har kuni 9:00 dan 20:00 gacha, yakshanba kuni 10:00 dan 16:00 gacha.
"""
_contacts = itertools.count(1)


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """The product as it is configured, with no model to ask: passages are quoted."""
    folder = tmp_path_factory.mktemp("wishes")
    async with (
        surroundings() as (fake, fake_models),
        floor(folder, servers_run.new_sqlite(folder), fake, fake_models, knowledge={"not_found_below": 0.28}) as opened,
    ):
        fake_models.fail("500")
        yield opened


@pytest.fixture(scope="module")
async def tenant(place: Floor) -> Tenant:
    """A bot on Telegram."""
    return await place.tenant("Salon", document=PRICES)


@pytest.fixture(scope="module")
async def shop(place: Floor) -> Shop:
    """A bot on its page and in the API."""
    return await make_shop(place.core, "Klinika", email="klinika@example.uz", document=PRICES)


async def _said(place: Floor, tenant: Tenant, person: FakeUser, text: str) -> str:
    person.send(tenant.bot, text)
    return (await place.fake.wait_message(person.id, bot=tenant.bot)).text


async def _ask(place: Floor, shop: Shop, *texts: str, code: str | None = None) -> ChatReply:
    """Let somebody new write one message after another; return the last answer."""
    contact = f"wish-{next(_contacts)}"
    async with place.core.db.read() as session:
        bot = await session.get_one(models.Bot, shop.bot.id)
    for text in texts:
        reply = await chat.ask(place.core, shop.channel, bot, contact=contact, text=text, language_code=code)
    assert reply is not None
    return reply


@pytest.mark.parametrize(
    "talk",
    [
        ("How much is an oil change?", "Do you have iPhones?"),
        ("Tish tozalash bormi?", "iphone bormi?"),
        ("narxi qancha?", "xxyyzz bormi?"),
        ("Сколько стоит чистка зубов?", "а айфоны есть?"),
    ],
)
async def test_what_is_absent_is_not_answered_with_what_was_asked_before(
    place: Floor, shop: Shop, talk: tuple[str, str]
) -> None:
    reply = await _ask(place, shop, *talk)
    assert not reply.answered


@pytest.mark.parametrize(
    ("talk", "told"),
    [
        (("Как вы работаете?", "А в воскресенье?"), "16:00"),
        (("Tish tozalash bormi?", "qancha turadi?"), "350 000"),
        (("Tish tozalash bormi?", "narxi qancha?"), "350 000"),
        (("Motor moyini almashtirasizmi?", "necha pul?"), "80 000"),
        (("What are your working hours?", "and on sunday?"), "16:00"),
        (("Tish tozalash bormi?", "Qaysi vaqtda ishlaysiz?"), "20:00"),
    ],
)
async def test_what_belongs_to_the_question_before_is_understood(
    place: Floor, shop: Shop, talk: tuple[str, str], told: str
) -> None:
    reply = await _ask(place, shop, *talk)
    assert reply.answered and told in reply.text
    assert "Savol" not in reply.text and "Javob" not in reply.text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("хочу поговорить с человеком", "ru"),
        ("одам билан гаплашмоқчиман", "uz-Cyrl"),
        ("operator bilan gaplashmoqchiman", "uz"),
        ("I want to talk to a human", "en"),
    ],
)
async def test_who_asks_for_a_person_is_answered_in_the_same_language(
    place: Floor, tenant: Tenant, shop: Shop, text: str, language: str
) -> None:
    phone = "uz" if language != "uz" else "ru"
    person = tenant.person(phone)
    assert await _said(place, tenant, person, text) == translate(language, CALLED)
    assert await _said(place, tenant, person, "/help") == translate(language, HELP)
    reply = await _ask(place, shop, text, code=phone)
    assert (reply.text, reply.language) == (translate(language, CALLED), language)


@pytest.mark.parametrize("said", ["/settings", "Air Flow", "MacBook Air", "Oral B Vitality Pro", "delivery"])
@pytest.mark.parametrize(("phone", "first"), [("uz", "Narxi qancha?"), ("ru", "Сколько стоит чистка?"), ("ru", None)])
async def test_names_and_commands_do_not_change_the_language(
    place: Floor, tenant: Tenant, phone: str, first: str | None, said: str
) -> None:
    person = tenant.person(phone)
    if first is not None:
        await _said(place, tenant, person, first)
    await _said(place, tenant, person, said)
    assert await _said(place, tenant, person, "/help") == translate(phone, HELP)
    language = await place.one(select(models.Contact.language).where(models.Contact.external_id == str(person.id)))
    assert language == phone


@pytest.mark.parametrize(
    ("phone", "said", "language"),
    [
        ("ru", "narxi qancha?", "uz"),
        ("ru", "iphone bormi?", "uz"),
        ("en", "Salom", "uz"),
        ("ru", "нархи қанча?", "uz-Cyrl"),
        ("uz", "цена?", "ru"),
        ("ru", "how much is it?", "en"),
        (None, "hello", "en"),
        ("de", "Air Flow", "uz"),
    ],
)
async def test_a_message_that_is_clear_changes_the_language_at_once(
    place: Floor, tenant: Tenant, phone: str | None, said: str, language: str
) -> None:
    person = tenant.person(phone)
    await _said(place, tenant, person, said)
    assert await _said(place, tenant, person, "/help") == translate(language, HELP)


async def test_commands_are_commands_wherever_they_are_typed(place: Floor, shop: Shop) -> None:
    called = await _ask(place, shop, "/operator", code="ru")
    assert (called.text, called.language, called.answered) == (translate("ru", CALLED), "ru", True)
    assert (await _ask(place, shop, " /HELP ", code="en")).text == translate("en", HELP)
    assert (await _ask(place, shop, "/start", code="uz")).messages[-1].usage is not None
    assert (await _ask(place, shop, "/language en", "/help", code="uz")).text == translate("en", HELP)


async def test_of_what_the_owner_taught_the_answer_alone_is_quoted(place: Floor) -> None:
    taught = await make_shop(place.core, "Ustoz", email="ustoz@example.uz", document=PRICES)
    async with place.core.db.write() as session:
        bot = await session.get_one(models.Bot, taught.bot.id)
        await documents.add_answer(session, bot, "Parkovka bormi?", "Ha, hovlida joy bor.")
    reply = await _ask(place, taught, "parkovka bormi?")
    assert reply.text == "Ha, hovlida joy bor."


async def test_a_bot_that_is_stopped_answers_nothing(place: Floor) -> None:
    rested = await make_shop(place.core, "Dam", email="dam@example.uz", document=PRICES)
    async with place.core.db.write() as session:
        await bots.stop(session, await session.get_one(models.Bot, rested.bot.id))
    for text in ("Сколько стоит чистка?", "позовите оператора", "/operator"):
        reply = await _ask(place, rested, text, code="ru")
        assert (reply.text, reply.language, reply.answered) == (translate("ru", RESTING), "ru", False)
