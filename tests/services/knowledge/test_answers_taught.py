"""What an owner teaches a bot: seen, corrected, forgotten, and off the list of open questions however it is spelt."""

from __future__ import annotations

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
        return await documents.answers(session, shop.bot)


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
        for path in (f"documents?q={QUESTION}", f"conversations/{talk.id}"):
            page = await browser.get(f"/bots/{bot.id}/{path}")
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
