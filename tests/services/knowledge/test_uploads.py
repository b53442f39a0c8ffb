"""Uploads of one name take each other's place instead of piling up, whenever and wherever they come."""

from __future__ import annotations

import asyncio
import contextlib
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, event, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import bots
from services.core import Core
from services.errors import Conflict, NotFound
from services.knowledge import documents
from services.knowledge.search import KnowledgeSearch
from tests.composition import FAQ, Shop, add_document, make_settings, make_shop, running

Change = Callable[[AsyncSession, models.Bot, models.Document], Awaitable[None]]
ONE = {"limits": {"documents_per_bot": 1}}
PRICES = "Velosiped ijarasi bir kunga {n} 000 so'm."
NAME = "Прайс Йил – Ёз.txt"
ON_A_MAC = unicodedata.normalize("NFD", NAME)


async def _upload(core: Core, shop: Shop, name: str, data: bytes) -> str:
    async with core.db.write() as session:
        limits = core.settings.limits
        document = await documents.upload(session, shop.bot, name, data, limits=limits, max_bytes=1_000_000)
    core.bell.ring("jobs")
    return document.id


async def _kept(core: Core) -> tuple[list[str], int]:
    """The states of all documents with bytes, oldest first, and the jobs that wait; the lane must count them alike."""
    document, content, job = models.Document, models.DocumentContent, models.Job
    async with core.db.read() as session:
        states = list(
            await session.scalars(
                select(document.status).join(content, content.document_id == document.id).order_by(document.id)
            )
        )
        open_jobs = select(func.count()).where(job.status == "new", job.lane.startswith("job:documents:"))
        waiting = int(await session.scalar(open_jobs) or 0)
        lanes = select(func.sum(models.Lane.pending)).where(models.Lane.key.startswith("job:documents:"))
        assert int(await session.scalar(lanes) or 0) == waiting
    return states, waiting


async def _found(core: Core, shop: Shop) -> list[str]:
    """What somebody who asks now is told, in a process that has nothing of the base in memory."""
    async with core.db.read() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
    elsewhere = KnowledgeSearch(core.db, core.settings.knowledge)
    found = await elsewhere.search(bot.id, bot.knowledge_version, "Velosiped ijarasi qancha?")
    return [passage.text for passage in found.passages]


@contextlib.contextmanager
def _serving(core: Core) -> Iterator[list[int]]:
    """Gather how many documents serve, with every unit of work that is kept."""
    seen: list[int] = []

    def look(connection: Connection) -> None:
        serving = select(func.count()).where(models.Document.serving, models.Document.deleted_at.is_(None))
        seen.append(connection.scalar(serving) or 0)

    engine = core.db.engine.sync_engine
    event.listen(engine, "commit", look)
    try:
        yield seen
    finally:
        event.remove(engine, "commit", look)


async def test_of_many_uploads_of_one_name_the_last_one_waits(database_url: str, tmp_path: Path) -> None:
    """Also where they come at once; nobody reads here."""
    async with running(make_settings(tmp_path, database_url, overrides=ONE), "web") as core:
        shop = await make_shop(core, document=None)
        await asyncio.gather(*(_upload(core, shop, "a.txt", b"x" * 1000) for _ in range(12)))
        last = await _upload(core, shop, "a.txt", b"y" * 1000)
        assert await _kept(core) == (["queued"], 1)
        async with core.db.read() as session:
            (kept,) = await documents.list_for(session, shop.bot)
            assert (kept.id, await session.scalar(select(models.Job.payload))) == (
                last,
                {"document": last, "watched": False},
            )


async def test_letter_case_and_composition_make_no_other_name(database_url: str, tmp_path: Path) -> None:
    """Of each owner's uploads that come at once one waits, and none is over the limit."""
    async with running(make_settings(tmp_path, database_url, overrides=ONE), "web") as core:
        shops = [await make_shop(core, document=None), await make_shop(core, email="b@example.uz", document=None)]
        names = (NAME, ON_A_MAC, NAME.lower(), ON_A_MAC.upper(), quote(NAME), f"C:\\narx\\{NAME}")
        assert len(set(names)) == len(names)
        await asyncio.gather(*(_upload(core, shop, name, b"x" * 1000) for name in names for shop in shops))
        assert await _kept(core) == (["queued"] * 2, 2)
        for shop in shops:
            await _upload(core, shop, ON_A_MAC, b"y" * 1000)
            with pytest.raises(Conflict):
                await _upload(core, shop, NAME.replace("Й", "И"), b"another letter")
            async with core.db.read() as session:
                assert [document.name for document in await documents.list_for(session, shop.bot)] == [NAME]


async def test_a_file_from_a_mac_replaces_the_one_that_serves(database_url: str, tmp_path: Path) -> None:
    """Also those that were kept under several spellings before names were compared so."""
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core)
        stored = {"eski.txt": NAME.lower(), "boshqa.txt": ON_A_MAC}
        for name, price in zip(stored, (10, 20), strict=True):
            await add_document(core, shop.bot, name, PRICES.format(n=price).encode())
        async with core.db.write() as session:
            for name, title in stored.items():
                await session.execute(update(models.Document).where(models.Document.name == name).values(name=title))
        await add_document(core, shop.bot, ON_A_MAC.upper(), PRICES.format(n=30).encode())
        async with core.db.read() as session:
            names = [document.name for document in await documents.list_for(session, shop.bot)]
            bot = await bots.get(session, shop.owner, shop.bot.id)
        assert names == [NAME.upper(), "savollar.txt"]
        found = await core.search.search(bot.id, bot.knowledge_version, "Velosiped ijarasi qancha?")
        assert [passage.text for passage in found.passages if "Velosiped" in passage.text] == [PRICES.format(n=30)]


async def test_uploads_of_other_names_at_once_keep_the_limit(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url, overrides=ONE), "web") as core:
        shop = await make_shop(core, document=None)
        uploads = (_upload(core, shop, f"{number}.txt", b"text") for number in range(8))
        results = await asyncio.gather(*uploads, return_exceptions=True)
        assert [type(result) for result in results].count(Conflict) == 7
        assert await _kept(core) == (["queued"], 1)


async def test_one_serves_one_is_read_and_one_waits(database_url: str, tmp_path: Path) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()

    async def pause(point: str) -> None:
        if point == "ingest":
            reading.set()
            await go_on.wait()

    async with running(make_settings(tmp_path, database_url, overrides=ONE), "worker", pause=pause) as core:
        shop = await make_shop(core, document=None)
        serving = await add_document(core, shop.bot, "a.txt", PRICES.format(n=10).encode())
        reading.clear()
        go_on.clear()
        with _serving(core) as serve:
            held = await _upload(core, shop, "a.txt", PRICES.format(n=20).encode())
            async with asyncio.timeout(60):
                await reading.wait()
            for number in (30, 40, 50):
                last = await _upload(core, shop, "a.txt", PRICES.format(n=number).encode())
            states, _ = await _kept(core)
            assert states == ["ready", "processing", "queued"]
            async with core.db.read() as session:
                listed = [document.id for document in await documents.list_for(session, shop.bot)]
            assert listed == [last, held, serving.id]
            # All passages of the new one are written, and the old one answers.
            assert await _found(core, shop) == [PRICES.format(n=10)]

            async with core.bell.listen(f"bot:{shop.bot.id}", limit=1000) as events:
                go_on.set()
                async with asyncio.timeout(60):
                    while (news := await events.get()).get("document") != last or news["status"] != "ready":
                        pass
        # At no moment none, at no moment two.
        assert set(serve) == {1}
        async with core.db.read() as session:
            assert [document.id for document in await documents.list_for(session, shop.bot)] == [last]
        assert await _found(core, shop) == [PRICES.format(n=50)]


async def test_a_new_upload_takes_the_place_of_one_that_could_not_be_read(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core)
        for _ in range(3):
            broken = await add_document(core, shop.bot, "savollar.txt", b"\x00\x01\x02\x03" * 200)
            assert broken.status == "failed"
        async with core.db.read() as session:
            states = [document.status for document in await documents.list_for(session, shop.bot)]
        assert states == ["failed", "ready"]


@pytest.mark.parametrize("change", [documents.retry, documents.delete])
async def test_what_was_replaced_meanwhile_is_not_found(change: Change, postgres_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, postgres_url), "web") as core:
        shop = await make_shop(core, document=None)
        first = await _upload(core, shop, "a.txt", b"text")
        async with core.db.write() as session:
            document = await documents.get(session, shop.bot, first)
            document.status = "failed"
        async with core.db.write() as session:
            document = await documents.get(session, shop.bot, first)
            await _upload(core, shop, "a.txt", b"newer")
            with pytest.raises(NotFound):
                await change(session, shop.bot, document)
        assert await _kept(core) == (["queued"], 1)


async def test_a_document_that_serves_is_not_given_up_with_its_job(database_url: str, tmp_path: Path) -> None:
    """As after a third death between the end of the reading and the end of the job."""
    async with running(make_settings(tmp_path, database_url), "worker") as core:
        shop = await make_shop(core, document=None)
        document = await add_document(core, shop.bot, "savollar.txt", FAQ.encode())
        await documents.abandon(core, {"document": document.id})
        async with core.db.read() as session:
            after = await session.get_one(models.Document, document.id)
            chunks = await session.scalar(select(func.count()).select_from(models.Chunk))
            told = await session.scalar(select(func.count()).select_from(models.Notice))
        assert (after.status, after.serving, after.finished_at) == ("ready", True, document.finished_at)
        assert (chunks, told) == (document.chunk_count, 0)


async def test_a_document_whose_job_is_given_up_has_failed(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "web") as core:
        shop = await make_shop(core, document=None)
        waiting = await _upload(core, shop, "a.txt", b"text")
        await documents.abandon(core, {"document": waiting})
        async with core.db.read() as session:
            after = await session.get_one(models.Document, waiting)
            told = list(await session.scalars(select(models.Notice.kind)))
        assert (after.status, after.error_code, told) == ("failed", "crashed", ["document_failed"])
        assert after.finished_at and after.finished_at <= utcnow()
