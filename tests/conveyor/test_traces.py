"""What a way through the product leaves behind: the number of what waits, and one id from the update to the sent answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select

from db import models
from services import metrics
from tests.composition import add_document
from tests.conveyor.clock import due, named
from tests.conveyor.harness import floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]


def _request() -> str:
    """Return the id that every line of the log written here would have."""
    return str(structlog.contextvars.get_contextvars().get("request_id") or "")


async def test_what_waits_is_counted_for_the_metrics(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    others = named("backlog")
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        sending = fake.hold(bot=shop.bot)
        shop.ask(shop.person())
        await sending.reached.wait()
        answering = fake_models.hold()
        shop.ask(shop.person())
        await answering.reached.wait()

        async def shown(**expected: int) -> Any:
            # Another product of this process counts its own into the same metric now and then.
            await due("backlog", beside=others)
            value = metrics.REGISTRY.get_sample_value
            return {queue: value("botfactory_pending", {"queue": queue}) for queue in expected} == expected

        await place.until(lambda: shown(inbox=1, outbox=1))
        fake_models.release()
        fake.clear_faults()
        await shop.answered()
        await place.until(lambda: shown(inbox=0, outbox=0))


async def test_an_update_has_one_id_all_the_way(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    seen: dict[str, str] = {}

    async def note(point: str) -> None:
        seen[point] = _request()

    async with floor(tmp_path, database_url, *fakes, pause=note) as place:
        shop = await place.tenant()
        seen.clear()
        update = shop.bot.next_update_id
        number = shop.ask(shop.person())
        await shop.answered([number])

        async def sent() -> Any:
            return await place.rows(select(models.OutboxItem.request_id).where(models.OutboxItem.status == "sent"))

        request = f"{shop.shop.channel.id[-6:]}-{update}"
        assert await place.until(sent) == [(request,)]
        for kept in (models.InboxItem.request_id, models.AIUsage.request_id):
            assert await place.rows(select(kept)) == [(request,)]
        for point in ("received", "answered", "claimed_send", "sent"):
            assert seen[point] == request, point


async def test_a_document_is_read_under_the_id_of_its_upload(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    seen: dict[str, str] = {}

    async def note(point: str) -> None:
        seen[point] = _request()

    async with floor(tmp_path, sqlite_url, *fakes, pause=note) as place:
        shop = await place.tenant(document=None)
        with structlog.contextvars.bound_contextvars(request_id="upload-of-traced"):
            await add_document(place.core, shop.shop.bot, "narxlar.txt", b"Muzlatgich narxi 5 000 000 so'm")
        assert seen["ingest"] == "upload-of-traced"
