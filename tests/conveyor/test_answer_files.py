"""Files of the knowledge base that go with the bot's answers, by every network; what is not shared never leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from services.core import Core
from services.knowledge import documents
from tests.composition import Shop, address, make_shop
from tests.conveyor import test_instagram as instagram
from tests.conveyor import test_whatsapp as whatsapp
from tests.conveyor.harness import Floor, Tenant, floor, question_of, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.graph import FakeGraph
from tests.fakes.instagram import FakeInstagram
from tests.fakes.models import FakeModels, Seen
from tests.fakes.telegram import FakeTelegram
from tests.services.test_pictures import encoded

Fakes = tuple[FakeTelegram, FakeModels]
PRICES = "Muzlatgich narxi: 4 500 000 so'm\n\nKonditsioner narxi: 6 200 000 so'm\n"
TEXT = "Mana narxlar 👇"


def sends(*numbers: int, text: str = TEXT) -> Callable[[Seen], str]:
    """Return a model that answers with files, whatever it is asked."""
    return lambda _seen: "\n".join([text, *(f"[[file {number}]]" for number in numbers)])


@pytest.fixture
async def place(tmp_path: Path, database_url: str, fakes: Fakes) -> AsyncIterator[Floor]:
    async with floor(tmp_path, database_url, *fakes) as started:
        yield started


async def put(
    core: Core,
    shop: Shop,
    name: str = "narxlar.txt",
    data: bytes = PRICES.encode(),
    caption: str = "Narxlar ro‘yxati",
    shared: bool = True,
) -> models.Document:
    """Give a bot a document that customers may receive, and wait until it is read."""
    async with core.bell.listen(f"bot:{shop.bot.id}", limit=1000) as events:
        async with core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
            document = await documents.upload(
                session, bot, name, data, limits=core.settings.limits, max_bytes=10**7, shared=shared, caption=caption
            )
        core.bell.ring("jobs")
        while (event := await events.get()).get("document") != document.id or event["status"] not in (
            "ready",
            "failed",
        ):
            pass
    async with core.db.read() as session:
        return await session.get_one(models.Document, document.id)


async def test_telegram_gets_the_text_and_then_the_file(place: Floor) -> None:
    tenant = await place.tenant()
    document = await put(place.core, tenant.shop)
    picture = await put(place.core, tenant.shop, "menyu.png", encoded("PNG"), "Yozgi menyu")
    assert (picture.status, picture.chunk_count) == ("ready", 1)
    place.models.reply = sends(1, 2)
    person = tenant.person()
    person.send(tenant.bot, "Muzlatgich narxi faylini va menyuni yuboring")
    await place.fake.wait_until(lambda: len(place.fake.messages(person.id, tenant.bot)) == 3)
    text, first, second = place.fake.messages(person.id, tenant.bot)
    assert (text.method, text.text) == ("sendMessage", TEXT)
    assert {first.method, second.method} == {"sendDocument", "sendPhoto"}
    by_method = {one.method: one for one in (first, second)}
    assert by_method["sendDocument"].file and by_method["sendDocument"].file.content == PRICES.encode()
    assert by_method["sendDocument"].file.name == "narxlar.txt"
    assert by_method["sendPhoto"].file and by_method["sendPhoto"].file.content.startswith(b"\xff\xd8\xff")
    assert by_method["sendPhoto"].file.name == "menyu.jpg"
    message = await place.one(select(models.Message).where(models.Message.author == "bot"))
    assert message.text == TEXT
    kept = await place.rows(
        select(models.Attachment.document_id, models.Attachment.message_id, models.Attachment.status)
    )
    assert {row[0] for row in kept} == {document.id, picture.id} and {row[1:] for row in kept} == {
        (message.id, "stored")
    }
    # Not a byte is copied.
    assert not await place.one(select(func.count()).select_from(models.AttachmentContent))
