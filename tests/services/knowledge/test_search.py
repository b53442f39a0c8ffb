"""What a bot finds: both databases, small and large bases, with and without vectors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import aiohttp
import pytest

from services import bots
from services.knowledge import documents
from services.knowledge.search import KnowledgeSearch
from tests.composition import (
    FAQ,
    add_document,
    address,
    ask,
    embedding_settings,
    make_settings,
    make_shop,
    running,
)
from tests.fakes.models import FakeModels, vector

CATALOG = "Nomi,Narxi,Kafolat\n" + "\n".join(
    f"Model {brand} {number},{number * 1000} so'm,{number % 5 + 1} yil"
    for brand in ("Artel", "Avalon", "Shivaki", "Samsung")
    for number in range(100, 160)
)


async def test_both_databases_rank_alike_in_memory_and_through_candidates(database_url: str, tmp_path: Path) -> None:
    questions = [
        "Artel 137 narxi qancha",
        "Авалон 118 нархи",
        "Shivaki 150 kafolati necha yil",
        "Yetkazib berish bormi",
    ]
    ranked = []
    for most in (3000, 10):
        settings = make_settings(
            tmp_path / str(most), database_url, overrides={"knowledge": {"max_passages_in_memory": most}}
        )
        async with running(settings, "worker") as core:
            shop = await make_shop(core, f"Shop {most}", email=f"{most}@example.uz")
            await add_document(core, shop.bot, "katalog.csv", CATALOG.encode())
            async with core.db.read() as session:
                bot = await bots.get(session, shop.owner, shop.bot.id)
            found = [await core.search.search(bot.id, bot.knowledge_version, question) for question in questions]
            assert all(result.found for result in found)
            ranked.append([result.passages[0].text for result in found])
    assert ranked[0] == ranked[1]
    assert "137" in ranked[0][0]
    assert "118" in ranked[0][1]


async def test_nothing_of_another_bot_is_found(database_url: str, tmp_path: Path) -> None:
    for most in (3000, 10):
        settings = make_settings(
            tmp_path / str(most), database_url, overrides={"knowledge": {"max_passages_in_memory": most}}
        )
        async with running(settings, "worker") as core:
            first = await make_shop(core, "A", email=f"a{most}@example.uz", document=CATALOG)
            other = await make_shop(core, "B", email=f"b{most}@example.uz", document=FAQ * 5)
            result = await core.search.search(other.bot.id, 100, "Artel 137 narxi qancha")
            assert not any("Artel" in passage.text for passage in result.passages)
            assert first.bot.id != other.bot.id


async def test_a_new_version_replaces_the_old_one_and_a_failed_one_does_not(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        before = await core.search.search(shop.bot.id, shop.bot.knowledge_version, "Yetkazib berish qancha turadi?")
        assert "45 000" in before.passages[0].text

        broken = await add_document(core, shop.bot, "savollar.txt", b"\x00\x01\x02\x03" * 200)
        assert broken.status == "failed"
        async with core.db.read() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
        same = await core.search.search(bot.id, bot.knowledge_version, "Yetkazib berish qancha turadi?")
        assert "45 000" in same.passages[0].text

        await add_document(core, shop.bot, "savollar.txt", FAQ.replace("45 000", "55 000").encode("utf-16"))
        async with core.db.read() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
            names = [document.name for document in await documents.list_for(session, bot)]
        after = await core.search.search(bot.id, bot.knowledge_version, "Yetkazib berish qancha turadi?")
        assert "55 000" in after.passages[0].text
        assert not any("45 000" in passage.text for passage in after.passages)
        assert names == ["savollar.txt"]


async def test_a_deleted_document_answers_nothing_more(database_url: str, tmp_path: Path) -> None:
    """From the next question on, also where the base is in memory."""
    async with running(make_settings(tmp_path, database_url)) as core:
        shop = await make_shop(core)
        gone = await add_document(core, shop.bot, "eski.txt", b"Muzlatgichlarga 10 yil kafolat beriladi.")

        async def named() -> set[str]:
            return {source["document_name"] for source in (await ask(core, shop))["sources"]}

        assert await named() == {"eski.txt", "savollar.txt"}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {shop.token}"}) as http,
            http.delete(f"{address(core)}/api/v1/bots/{shop.bot.id}/documents/{gone.id}") as answer,
        ):
            assert answer.status == 204
        assert await named() == {"savollar.txt"}


async def test_an_answer_of_the_owner_is_known_at_once(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        question = "Konditsioner o'rnatib berasizlarmi?"
        before = await core.search.search(shop.bot.id, shop.bot.knowledge_version, question)
        assert not before.found
        async with core.db.write() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
            await documents.add_answer(session, bot, question, "Ha, o'rnatish 150 000 so'm.")
        async with core.db.read() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
        after = await core.search.search(bot.id, bot.knowledge_version, question)
        assert after.found
        assert "150 000" in after.passages[0].text


@pytest.mark.parametrize("kind", ["openai", "gemini"])
async def test_vectors_are_made_and_used_where_a_model_is_configured(
    kind: str, database_url: str, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        models = FakeModels()
        await models.start()
        stack.push_async_callback(models.stop)
        environment = {
            f"{kind.upper()}_API_KEY": "test-key-0123456789",
            f"{kind.upper()}_BASE_URL": models.base_urls[kind],
        }
        settings = make_settings(
            tmp_path, database_url, environment=environment, overrides={"knowledge": {"embedding": kind}}
        )
        async with running(settings, "worker") as core:
            shop = await make_shop(core)
            made = [request for request in models.requests if request.kind == "embed"]
            assert made
            found = await core.search.search(shop.bot.id, shop.bot.knowledge_version, "Yetkazib berish bormi?")
            assert found.found
            assert len([request for request in models.requests if request.kind == "embed"]) > len(made)

            models.fail("500", kind="embed")
            without = await core.search.search(shop.bot.id, shop.bot.knowledge_version, "Kafolat bormi?")
            assert without.found


class Synonyms(FakeModels):
    """A model to which a kvazar and model 107 are the same; no word says so."""

    def _vector(self, text: str) -> list[float]:
        return vector("kvazar" if "Model 107" in text else text)


async def test_a_question_without_a_word_of_the_passage_finds_it_by_its_meaning(
    database_url: str, tmp_path: Path
) -> None:
    """In a base that is ranked in memory, and in one that the database picks candidates from."""
    rows = "\n".join(f"Model {number},{number * 1000} so'm" for number in range(100, 112))
    async with contextlib.AsyncExitStack() as stack:
        models = Synonyms()
        await models.start()
        stack.push_async_callback(models.stop)
        settings = embedding_settings(tmp_path, database_url, models.base_urls["openai"])
        core = await stack.enter_async_context(running(settings, "worker"))
        shop = await make_shop(core, document=None)
        document = await add_document(core, shop.bot, "katalog.csv", f"Nomi,Narxi\n{rows}".encode())
        async with core.db.read() as session:
            bot = await bots.get(session, shop.owner, shop.bot.id)
        small, large = settings.knowledge, settings.knowledge.model_copy(update={"max_passages_in_memory": 10})
        assert large.max_passages_in_memory < document.chunk_count < small.max_passages_in_memory
        for knowledge in (small, large):
            search = KnowledgeSearch(core.db, knowledge, core.embedder)
            found = await search.search(bot.id, bot.knowledge_version, "Kvazar")
            assert ["Model 107" in passage.text for passage in found.passages[:1]] == [True]
