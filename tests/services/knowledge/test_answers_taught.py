"""What an owner teaches a bot: seen, corrected, forgotten, and off the list of open questions however it is spelt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import bots, conversations
from services.core import Core
from services.errors import Invalid, NotFound
from services.knowledge import documents
from services.knowledge.analysis import question_key
from services.knowledge.base import ANSWERS
from services.knowledge.search import Found
from tests.composition import Shop, add_document, make_settings, make_shop, running
from tests.web.panel import open_site, web_talk

QUESTION = "Konditsioner o'rnatib berasizlarmi?"
CATALOG = "Nomi,Narxi\n" + "\n".join(f"Artel {number},{number * 1000} so'm" for number in range(100, 200))
ANSWER = "Ha, o'rnatish 150 000 so'm."


async def _taught(core: Core, shop: Shop) -> list[documents.TaughtAnswer]:
    async with core.db.read() as session:
        return (await documents.answers_page(session, shop.bot))[0]


async def _found(core: Core, shop: Shop, question: str = QUESTION) -> Found:
    async with core.db.read() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
    return await core.search.search(bot.id, bot.knowledge_version, question)


async def _teach(core: Core, shop: Shop, question: str = QUESTION, text: str = ANSWER) -> str:
    async with core.db.write() as session:
        return (await documents.add_answer(session, shop.bot, question, text)).id


@pytest.mark.parametrize("most", [3000, 10])
async def test_an_answer_is_seen_corrected_and_forgotten(database_url: str, tmp_path: Path, most: int) -> None:
    """In memory, and through the full-text index, which follows every change."""
    settings = make_settings(tmp_path, database_url, overrides={"knowledge": {"max_passages_in_memory": most}})
    async with running(settings, "worker") as core:
        shop = await make_shop(core)
        await add_document(core, shop.bot, "katalog.csv", CATALOG.encode())
        id_ = await _teach(core, shop, f"{QUESTION}\nQachon?")
        (taught,) = await _taught(core, shop)
        assert (taught.id, taught.question, taught.text) == (id_, f"{QUESTION}\nQachon?", ANSWER)
        assert (utcnow() - taught.created).total_seconds() < 60
        assert (await _found(core, shop)).found

        async with core.db.write() as session:
            changed = await documents.update_answer(
                session, shop.bot, id_, "Velosiped ijarasi bormi?", "Ha, kuniga 50 000."
            )
        assert (changed.id, changed.created) == (id_, taught.created)
        assert await _taught(core, shop) == [changed]
        after = await _found(core, shop, "velosipedlar ijarasi")
        assert after.found and "50 000" in after.passages[0].text
        assert not any("150 000" in passage.text for passage in (await _found(core, shop)).passages)

        async with core.db.write() as session:
            await documents.delete_answer(session, shop.bot, id_)
        assert await _taught(core, shop) == []
        assert not (await _found(core, shop, "velosipedlar ijarasi")).found
        # Teaching goes on afterwards.
        await _teach(core, shop)
        assert (await _found(core, shop)).found


async def _counted(core: Core, shop: Shop) -> list[int]:
    """How many passages the documents of a bot's taught answers say that they have."""
    async with core.db.read() as session:
        document = models.Document
        known = select(document.chunk_count).where(document.bot_id == shop.bot.id, document.kind == ANSWERS)
        return list(await session.scalars(known))


@pytest.mark.parametrize("most", [3000, 10])
async def test_what_is_taught_again_takes_the_place_of_the_old_answer(
    database_url: str, tmp_path: Path, most: int
) -> None:
    """In memory, and through the full-text index; however the question is spelt."""
    settings = make_settings(tmp_path, database_url, overrides={"knowledge": {"max_passages_in_memory": most}})
    async with running(settings, "worker") as core:
        shop, other = await make_shop(core), await make_shop(core, email="other@example.uz")
        await add_document(core, shop.bot, "katalog.csv", CATALOG.encode())
        await _teach(core, other)
        id_ = await _teach(core, shop)
        (first,) = await _taught(core, shop)
        spelt = "Кондиционер ўрнатиб берасизларми"
        assert await _teach(core, shop, spelt, "Yo'q, usta ishdan ketdi.") == id_
        (taught,) = await _taught(core, shop)
        assert (taught.question, taught.text, taught.created) == (spelt, "Yo'q, usta ishdan ketdi.", first.created)
        texts = [passage.text for passage in (await _found(core, shop)).passages]
        assert "usta ishdan ketdi" in texts[0] and not any("150 000" in text for text in texts)
        assert await _counted(core, shop) == [1]
        assert [known.text for known in await _taught(core, other)] == [ANSWER]
        assert await _teach(core, shop, "Konditsioner tozalaysizlarmi?", "Ha") != id_


async def test_of_answers_taught_at_once_one_is_kept(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "web") as core:
        shops = [await make_shop(core, document=None), await make_shop(core, email="b@example.uz", document=None)]
        spelt = (QUESTION, QUESTION.upper(), "konditsioner oʻrnatib berasizlarmi", "Кондиционер ўрнатиб берасизларми?")
        ids = await asyncio.gather(
            *(_teach(core, shop, question, f"{n}") for shop in shops for n, question in enumerate(spelt * 2))
        )
        for shop, made in zip(shops, (ids[:8], ids[8:]), strict=True):
            (taught,) = await _taught(core, shop)
            assert set(made) == {taught.id}
            assert await _counted(core, shop) == [1]
            assert await _teach(core, shop, text="the last") == taught.id
            assert [known.text for known in await _taught(core, shop)] == ["the last"]


async def test_answers_from_before_give_way_to_the_new_one(database_url: str, tmp_path: Path) -> None:
    """As they were kept when a question could be taught twice, the oldest ones without their two halves."""
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core)
        ids = [
            await _teach(core, shop, question, "Ha, 150 000.") for question in (QUESTION, "Boshqa savol?", "Uchinchi")
        ]
        async with core.db.write() as session:
            for id_, meta in ((ids[0], None), (ids[2], {"question": QUESTION, "answer": "x", "created": "2026-11-01"})):
                await session.execute(
                    update(models.Chunk)
                    .where(models.Chunk.id == int(id_))
                    .values(text=f"{QUESTION}\nx", locus="", meta=meta)
                )
        assert await _teach(core, shop, text="Yo'q") == ids[0]
        assert [(known.id, known.text) for known in await _taught(core, shop)] == [
            (ids[1], "Ha, 150 000."),
            (ids[0], "Yo'q"),
        ]
        assert await _counted(core, shop) == [2]


async def test_an_answer_that_gets_the_question_of_another_takes_its_place(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        await _teach(core, shop)
        second = await _teach(core, shop, "Velosiped bormi?", "Ha")
        async with core.db.write() as session:
            await documents.update_answer(session, shop.bot, second, QUESTION, "Yo'q")
        assert [(known.id, known.text) for known in await _taught(core, shop)] == [(second, "Yo'q")]
        assert await _counted(core, shop) == [1]
        assert await _teach(core, shop, "Velosiped bormi?", "Ha") != second


LONG = "Sizdan oldin ham so'raganman, javob ololmadim. " * 8


@pytest.mark.parametrize(
    "questions",
    [(f"{LONG}Velosiped bormi?", f"{LONG}Samokat bormi?"), ("C++ kursi bormi?", "C# kursi bormi?")],
    ids=["long", "signs"],
)
async def test_questions_that_only_seem_alike_are_two(
    sqlite_url: str, tmp_path: Path, questions: tuple[str, str]
) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        ids = {await _teach(core, shop, question, "Ha") for question in questions}
        assert {known.id for known in await _taught(core, shop)} == ids and len(ids) == 2


async def test_only_the_own_answers_can_be_changed(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        other = await make_shop(core, "Nur", email="other@example.uz")
        theirs = await _teach(core, other)
        async with core.db.read() as session:
            passage = await session.scalar(select(models.Chunk.id).where(models.Chunk.bot_id == shop.bot.id))
        for id_ in (theirs, str(passage), "", "0", "-1", "x", "²", "9" * 30, "1 OR 1=1"):
            async with core.db.write() as session:
                with pytest.raises(NotFound):
                    await documents.update_answer(session, shop.bot, id_, "a", "b")
                with pytest.raises(NotFound):
                    await documents.delete_answer(session, shop.bot, id_)
        mine = await _teach(core, shop)
        async with core.db.write() as session:
            with pytest.raises(Invalid):
                await documents.update_answer(session, shop.bot, mine, QUESTION, "  ")
        assert [taught.text for taught in await _taught(core, shop)] == [ANSWER]
        assert [taught.text for taught in await _taught(core, other)] == [ANSWER]


async def test_what_keeps_the_answers_is_no_document_of_the_owner(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        await _teach(core, shop)
        async with core.db.write() as session:
            hidden = (await session.scalars(select(models.Document).where(models.Document.kind == ANSWERS))).one()
            with pytest.raises(NotFound):
                await documents.get(session, shop.bot, hidden.id)
            with pytest.raises(NotFound):
                await documents.delete(session, shop.bot, hidden)
        # One that was deleted all the same is not taken up again.
        async with core.db.write() as session:
            await session.execute(
                update(models.Document)
                .where(models.Document.id == hidden.id)
                .values(deleted_at=utcnow(), serving=False)
            )
        assert await _taught(core, shop) == []
        await _teach(core, shop)
        assert len(await _taught(core, shop)) == 1
        assert (await _found(core, shop)).found


async def test_pages_call_what_was_taught_by_its_own_words(sqlite_url: str, tmp_path: Path) -> None:
    async with open_site(tmp_path, sqlite_url) as site:
        owner = await site.person("Aziz", language="en")
        bot = await site.bot_of(owner)
        async with site.core.db.write() as session:
            await documents.add_answer(session, bot, QUESTION, ANSWER)
            talk = await web_talk(session, bot)
            source = {"document_id": "x", "document_name": ANSWERS, "snippet": ANSWER, "score": 0.9}
            quoted = models.Message(
                conversation_id=talk.id,
                author="bot",
                status="sent",
                text=ANSWER,
                answered=True,
                provider="extractive",
                sources=[source],
            )
            session.add(quoted)
        browser = await site.signed_in(owner)
        for path in (f"/bots/{bot.id}/documents?q={QUESTION}", f"/inbox/{talk.id}"):
            page = await browser.get(path)
            assert page.status == 200
            assert "<b>What you taught the bot</b>" in page.text
            assert "<b>answers</b>" not in page.text


@pytest.mark.parametrize(
    "spelt", ["kosmik,kemalar – narxi   QANCHA", "Космик кемалар нархи қанча?", "«Kosmik kemalar narxi qancha»…"]
)
async def test_an_answered_question_leaves_the_list_however_it_is_spelt(
    spelt: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=None)
        async with core.db.write() as session:
            for asked in ("Kosmik kemalar narxi qancha?", "Kosmik kema bormi?"):
                session.add(models.UnansweredQuestion(bot_id=shop.bot.id, question=asked, folded=question_key(asked)))
        await _teach(core, shop, spelt, "1 mln")
        async with core.db.read() as session:
            left = await conversations.unanswered(session, shop.bot)
        assert [question.question for question in left.items] == ["Kosmik kema bormi?"]


def test_a_question_has_one_key() -> None:
    assert question_key("O‘g`il bolalar-ga  bormi?") == question_key("ogil bolalar ga bormi")
    assert question_key("Ўғил болаларга борми") == question_key("o'g'il bolalarga bormi!!!")
    assert question_key("مرحبا") != question_key("كم السعر؟")
    assert question_key("?!") == question_key("?!")
    assert question_key("") and len(question_key("so'z " * 500)) <= 300
