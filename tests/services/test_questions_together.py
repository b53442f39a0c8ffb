"""Several questions of one person that are answered together: each is looked for, and each that is missing is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from db import models
from services import answers
from services.answers import Answer
from services.core import Core
from services.i18n import translate
from tests.composition import Shop, make_settings, make_shop, running
from tests.conveyor.harness import question_of
from tests.fakes.models import FakeModels

DELIVERY, HOURS, WARRANTY = (
    "Yetkazib berish qancha turadi?",
    "Soat nechagacha ishlaysizlar?",
    "Muzlatgichga kafolat bormi?",
)
ROCKETS, HORSES = "Kosmik kemalar uchish jadvali?", "Arg'umoq otlarga minish mumkinmi?"
UNKNOWN = "I have no information about “{question}” 🙏 I have passed the question on."
WELCOME = "You are welcome 😊 If you have another question, just write."
HELLO = "Hello! 👋 I am {name}. What would you like to know?"


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Core, Shop, FakeModels]]:
    """A shop with a document; its model is there while a key is."""
    fake = FakeModels()
    await fake.start()
    try:
        environment = {"GEMINI_API_KEY": "test-key-0123456789", "GEMINI_BASE_URL": fake.base_urls["gemini"]}
        settings = make_settings(tmp_path_factory.mktemp("together"), None, environment=environment)
        async with running(settings, "worker") as core:
            yield core, await make_shop(core), fake
    finally:
        await fake.stop()


async def _ask(
    place: tuple[Core, Shop, FakeModels],
    asked: Sequence[str],
    recent: Sequence[Sequence[str]] = (),
    reply: str = "Ha, albatta 😊",
) -> Answer:
    core, shop, fake = place
    fake.reset()
    fake.reply = reply
    async with core.db.read() as session:
        bot = await session.get_one(models.Bot, shop.bot.id)
    return await answers.answer(core, answers.card_of(bot), asked, "uz", recent)


async def test_each_question_brings_its_best_passage(place: tuple[Core, Shop, FakeModels]) -> None:
    result = await _ask(place, [DELIVERY, HOURS, WARRANTY])
    assert result.answered and result.unanswered == []
    first = [passage.text for passage in result.sources[:3]]
    assert ["45 000" in first[0], "20:00" in first[1], "3 yil" in first[2]] == [True, True, True]
    assert len({passage.chunk_id for passage in result.sources}) == len(result.sources)
    assert question_of(place[2].requests[-1]) == f"{DELIVERY}\n{HOURS}\n{WARRANTY}"


async def test_what_is_missing_is_kept_beside_what_is_found(place: tuple[Core, Shop, FakeModels]) -> None:
    result = await _ask(place, ["Salom!", ROCKETS, DELIVERY, HORSES, "rahmat"])
    assert result.answered
    assert result.unanswered == [ROCKETS, HORSES]
    assert "45 000" in result.sources[0].text


async def test_what_the_model_does_not_know_is_kept_with_what_is_missing(place: tuple[Core, Shop, FakeModels]) -> None:
    sorry = "Kechirasiz, bu haqda ma'lumotim yo'q 🙏"
    result = await _ask(place, [ROCKETS, DELIVERY, WARRANTY], reply=f"<no_answer>{sorry}")
    assert (result.text, result.answered) == (sorry, False)
    assert result.unanswered == [DELIVERY, WARRANTY, ROCKETS]


async def test_questions_beyond_the_fourth_are_kept_each_of_its_own(place: tuple[Core, Shop, FakeModels]) -> None:
    unknown = [
        f"{word} parvozi qachon?" for word in ("Oyga", "Marsga", "Veneraga", "Saturnga", "Yupiterga", "Neptunga")
    ]
    result = await _ask(place, unknown)
    assert not result.answered
    assert result.unanswered == unknown
    assert not place[2].requests


async def test_one_question_in_several_messages(place: tuple[Core, Shop, FakeModels]) -> None:
    result = await _ask(place, ["Muzlatgichlarga", "kafolat", "bormi?"])
    assert result.answered and result.unanswered == []
    assert "3 yil" in result.sources[0].text


async def test_a_question_in_several_messages_about_what_was_asked_before(
    place: tuple[Core, Shop, FakeModels],
) -> None:
    talk = [["user", DELIVERY], ["assistant", "Bepul"]]
    result = await _ask(place, ["Aka,", "shu necha?"], talk)
    assert result.answered and result.unanswered == []
    assert "45 000" in result.sources[0].text


async def test_an_owner_who_tries_a_question_finds_what_a_customer_would(place: tuple[Core, Shop, FakeModels]) -> None:
    core, shop, _ = place
    plain = await answers.look_up(core, shop.bot, WARRANTY)
    polite = await answers.look_up(core, shop.bot, f"Good morning! {WARRANTY} Katta rahmat")
    assert plain.found and polite.found
    assert polite.confidence == plain.confidence


async def test_without_a_model_each_found_question_is_quoted_once(tmp_path: Path) -> None:
    async with running(make_settings(tmp_path), "worker") as core:
        shop = await make_shop(core)
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
        asked = [DELIVERY, WARRANTY, "Kafolat bormi muzlatgichlarga?", ROCKETS]
        result = await answers.answer(core, answers.card_of(bot), asked, "uz", [])
    assert result.provider == "extractive" and result.answered
    assert (result.text.count("45 000"), result.text.count("3 yil")) == (1, 1)
    assert result.text.index("45 000") < result.text.index("3 yil")
    assert result.text.endswith(translate("uz", UNKNOWN, question=ROCKETS))


@pytest.mark.parametrize("suffix", [" №1", " №48213", "!!! 🔥🔥", " rahmat"])
async def test_a_suffix_does_not_hide_a_question(place: tuple[Core, Shop, FakeModels], suffix: str) -> None:
    assert (await _ask(place, [WARRANTY + suffix])).answered
    assert (await _ask(place, [WARRANTY + suffix, DELIVERY + suffix])).unanswered == []


async def test_thanks_are_answered_as_thanks(place: tuple[Core, Shop, FakeModels]) -> None:
    talk = [["user", DELIVERY], ["assistant", "45 000 so'm"]]
    assert (await _ask(place, ["rahmat"], talk)).text == translate("uz", WELCOME)
    assert (await _ask(place, ["ok", "raxmat 👍"], talk)).text == translate("uz", WELCOME)
    hello = translate("uz", HELLO, name=place[1].bot.name)
    assert (await _ask(place, ["Yana salom"], talk)).text != translate("uz", WELCOME)
    assert (await _ask(place, ["Assalomu alaykum"], talk)).text == hello
    assert (await _ask(place, ["👍"])).text == hello
    assert not place[2].requests
