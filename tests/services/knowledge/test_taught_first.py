"""What the owner answered himself counts before the documents: at once, in both scripts, in Russian, in any size of base."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import answers, bots
from services.core import Core
from services.knowledge import documents
from tests.composition import Shop, add_document, make_settings, make_shop, running
from tests.web.site import started

QUESTION = "Yetkazib berish qancha turadi?"
TRUE = "Yetkazib berish hozir 60 000 so'm."
CATALOG = "Nomi,Narxi\n" + "\n".join(f"Artel {number},{number * 1000} so'm" for number in range(100, 200))


async def _answer(core: Core, shop: Shop, question: str, language: str = "uz") -> answers.Answer:
    async with core.db.read() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
    return await answers.answer(core, answers.card_of(bot), question, language, [])


@pytest.mark.parametrize("most", [3000, 10])
@pytest.mark.parametrize(
    ("question", "language"),
    [
        (QUESTION, "uz"),
        ("Етказиб бериш қанча туради?", "uz-Cyrl"),
        ("Сколько стоит доставка?", "ru"),
        ("dostavka narxi qancha", "uz"),
        ("Salom! Yetkazib berish qancha turadi, rahmat", "uz"),
    ],
)
async def test_the_owners_answer_is_the_first_source_and_is_quoted(
    sqlite_url: str, tmp_path: Path, most: int, question: str, language: str
) -> None:
    settings = make_settings(tmp_path, sqlite_url, overrides={"knowledge": {"max_passages_in_memory": most}})
    async with running(settings, "worker") as core:
        shop = await make_shop(core)
        await add_document(core, shop.bot, "katalog.csv", CATALOG.encode())
        before = await _answer(core, shop, question, language)
        assert "60 000" not in before.text
        async with core.db.write() as session:
            await documents.add_answer(session, shop.bot, QUESTION, TRUE)
        after = await _answer(core, shop, question, language)
        assert after.answered and after.sources[0].document_name == "answers" and after.sources[0].meant
        assert "60 000" in after.text and "45 000" not in after.text
        # Another question is answered out of the documents as before.
        other = await _answer(core, shop, "Kafolat bormi?")
        assert "3 yil" in other.text and not other.sources[0].meant


async def test_an_answer_is_in_force_from_the_next_message_on_and_forgotten_so(
    database_url: str, tmp_path: Path
) -> None:
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop, other = await make_shop(core), await make_shop(core, "Nur", email="other@example.uz")
        async with core.db.write() as session:
            taught = await documents.add_answer(session, shop.bot, QUESTION, TRUE)
        assert "60 000" in (await _answer(core, shop, QUESTION)).text
        assert "60 000" not in (await _answer(core, other, QUESTION)).text
        async with core.db.write() as session:
            await documents.update_answer(session, shop.bot, taught.id, QUESTION, "Endi 70 000 so'm.")
        assert "70 000" in (await _answer(core, shop, QUESTION)).text
        async with core.db.write() as session:
            await documents.delete_answer(session, shop.bot, taught.id)
        assert "45 000" in (await _answer(core, shop, QUESTION)).text


async def test_of_a_question_in_several_lines_only_the_answer_is_quoted(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        async with core.db.write() as session:
            await documents.add_answer(session, shop.bot, "Parkovka bormi?\nQayerda?", "Ha, hovlida.")
        assert (await _answer(core, shop, "Parkovka bormi? Qayerda?")).text == "Ha, hovlida."


async def test_the_model_is_told_that_the_owners_answers_count_first(sqlite_url: str, tmp_path: Path) -> None:
    async with started(tmp_path, sqlite_url) as site:
        site.models.reply = "60 000 so'm 😊"
        taught = await site.owner.post(f"{site.owner.bot}/answers", {"question": QUESTION, "answer": TRUE})
        assert taught.status == 201
        answer = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "c", "text": QUESTION})
        assert answer.body["sources"][0]["document_name"] == "answers"
        asked = site.models.requests[-1].body
        assert "“answers” was written by the business itself" in str(asked["systemInstruction"])
        material = str(asked["contents"][-1])
        assert material.index("60 000") < material.index("45 000")
