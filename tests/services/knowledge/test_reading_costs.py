"""What reading a document may cost, as the kernel sees it, and how much of it one owner may have at a time."""

from __future__ import annotations

import asyncio
import resource
import zlib
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from db import models
from services.core import Core
from services.knowledge import documents
from services.knowledge.base import ReadError
from services.knowledge.reading import ReadLimits, read_document
from tests.composition import make_settings, make_shop, running
from tests.services.knowledge import documents as make

MIB = 1024 * 1024
_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


async def test_a_page_of_endless_operators_gets_its_processor_time_and_no_more() -> None:
    content = zlib.compress(b"q 1 0 0 1 0 0 cm BT /F1 1 Tf () Tj ET Q " * 1_000_000, 9)
    data = make.one_page_pdf(content, _FONT, extra=b"/Filter /FlateDecode")
    with pytest.raises(ReadError) as caught:
        await read_document("a.pdf", data, limits=ReadLimits(cpu_s=1, wall_s=300))
    assert (caught.value.code, caught.value.detail) == ("timeout", "SIGXCPU")


async def test_a_child_that_reads_is_bounded_in_everything() -> None:
    """RELIABILITY.md, section 6; asked of the kernel while the child waits for its output to be taken."""
    seen: dict[int, tuple[int, int]] = {}

    async def look(percent: int) -> None:
        if not seen:
            (child,) = (child for child in psutil.Process().children() if "child.py" in " ".join(child.cmdline()))
            kinds = (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_CPU)
            seen.update((kind, child.rlimit(kind)) for kind in kinds)

    rows = "\n".join(f"mahsulot {number},{number} 000 so'm,{'tavsif ' * 20}" for number in range(3_000))
    await read_document("a.csv", f"nomi,narxi,tavsifi\n{rows}".encode(), on_progress=look)
    assert seen[resource.RLIMIT_AS] == (1024 * MIB, 1024 * MIB)
    assert seen[resource.RLIMIT_FSIZE] == (64 * MIB, 64 * MIB)
    assert seen[resource.RLIMIT_CORE] == (0, 0)
    assert seen[resource.RLIMIT_CPU][0] == 20


async def test_one_document_of_an_owner_is_read_at_a_time_whatever_the_bot(database_url: str, tmp_path: Path) -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def pause(point: str) -> None:
        # Only the first one is held.
        if point == "ingest" and not reading.is_set():
            reading.set()
            await go_on.wait()

    settings = make_settings(tmp_path, database_url, overrides={"queue": {"jobs": 8}})
    async with running(settings, "worker", pause=pause) as core:
        first = await make_shop(core, "Bir", document=None)
        second = await make_shop(core, "Ikki", document=None)
        assert first.owner.id == second.owner.id and first.bot.id != second.bot.id
        await _upload(core, first.bot, "a.txt")
        async with asyncio.timeout(60):
            await reading.wait()
        waits = await _upload(core, second.bot, "b.txt")
        # Read from the beginning to the end meanwhile: whoever claimed it would have claimed the one before it too.
        other = await make_shop(core, "Boshqa", email="other@example.uz")
        assert other.owner.id != first.owner.id
        async with core.db.read() as session:
            jobs = [job for job in await session.scalars(select(models.Job)) if job.payload.get("document") == waits]
        assert [(job.status, job.attempts) for job in jobs] == [("new", 0)]
        async with core.bell.listen(f"bot:{second.bot.id}", limit=100) as events:
            go_on.set()
            async with asyncio.timeout(60):
                while (await events.get())["status"] != "ready":
                    pass


async def _upload(core: Core, bot: models.Bot, name: str) -> str:
    async with core.db.write() as session:
        limits = core.settings.limits
        document = await documents.upload(session, bot, name, b"Choy 5 000 so'm", limits=limits, max_bytes=1_000)
    core.bell.ring("jobs")
    return document.id
