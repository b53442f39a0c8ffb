"""What somebody sees of an answer being made, and what a day may cost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from db import models
from db.base import utcnow
from services import answers
from services.answers import Answer, Spending
from services.core import Core
from services.knowledge import documents
from tests.composition import FAQ, Shop, make_settings, make_shop, running
from tests.fakes.models import FAULTS, FakeModels, Seen

QUESTION = "Yetkazib berish bormi?"
RAW = (
    "## Yetkazib berish\n\n**Toshkent** bo'ylab yetkazib berish bepul 🚚\n<passages>\n"
    "* viloyatlarga 2-4 kun, *45 000* so'm\n* [savollar](https://example.uz/faq) sahifasiga qarang"
)
PLAIN = (
    "Yetkazib berish\n\nToshkent bo'ylab yetkazib berish bepul 🚚\n"
    "• viloyatlarga 2-4 kun, 45 000 so'm\n• savollar: https://example.uz/faq sahifasiga qarang"
)
RUSSIAN = "Доставка по Ташкенту **бесплатная**, а в области за два или четыре дня, сорок пять тысяч сумов."


class Watcher:
    """Somebody who watches: what is shown now, and how often it began anew."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.restarts = 0

    def restart(self) -> None:
        """Forget."""
        self.pieces.clear()
        self.restarts += 1

    async def ask(self, core: Core, shop: Shop) -> Answer:
        """Ask."""
        async with core.db.read() as session:
            bot = await session.get_one(models.Bot, shop.bot.id)
        return await answers.answer(
            core, answers.card_of(bot), QUESTION, "uz", [], on_delta=self.pieces.append, on_restart=self.restart
        )


@contextlib.asynccontextmanager
async def shop_with_model(folder: Path, url: str) -> AsyncIterator[tuple[Core, Shop, FakeModels]]:
    fake = FakeModels()
    await fake.start()
    try:
        environment = {"GEMINI_API_KEY": "test-key-0123456789", "GEMINI_BASE_URL": fake.base_urls["gemini"]}
        async with running(make_settings(folder, url, environment=environment), "idle") as core:
            shop = await make_shop(core, document=None)
            async with core.db.write() as session:
                document = await documents.upload(
                    session, shop.bot, "savollar.txt", FAQ.encode(), limits=core.settings.limits, max_bytes=1_000_000
                )
            await documents.index_document(core, {"document": document.id})
            yield core, shop, fake
    finally:
        await fake.stop()


async def test_pieces_are_cleaned_like_the_stored_answer(sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = RAW
        watcher = Watcher()
        result = await watcher.ask(core, shop)
        assert result.text == PLAIN
        assert "".join(watcher.pieces) == PLAIN
        assert len(watcher.pieces) > 1 and watcher.restarts == 0


@pytest.mark.parametrize("trouble", ["cut_midway", "stream_error", "another language"])
async def test_an_attempt_that_was_given_up_leaves_nothing_behind(
    trouble: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):

        def reply(_seen: Seen) -> str:
            return RUSSIAN if trouble == "another language" and len(fake.requests) == 1 else RAW

        fake.reply = reply
        if trouble in FAULTS:
            fake.fail(trouble, times=1)
        watcher = Watcher()
        assert (await watcher.ask(core, shop)).text == PLAIN
        assert "".join(watcher.pieces) == PLAIN
        assert watcher.restarts == 1


async def test_an_endless_answer_is_bounded_while_it_streams(sqlite_url: str, tmp_path: Path) -> None:
    async with shop_with_model(tmp_path, sqlite_url) as (core, shop, fake):
        fake.reply = "Yetkazib berish bepul va tez.\n" * 1000
        watcher = Watcher()
        result = await watcher.ask(core, shop)
        assert "".join(watcher.pieces) == result.text
        assert len(result.text) <= core.settings.ai.max_answer_chars


async def test_what_other_processes_spend_is_seen_within_a_minute(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        owner = shop.owner.id
        now = 1000.0
        here = Spending(clock=lambda: now)

        async def elsewhere(cost: str) -> None:
            async with core.db.write() as session:
                row = models.AIUsage(
                    owner_id=owner, provider="gemini", model_asked="m", cost_usd=Decimal(cost), created_at=utcnow()
                )
                session.add(row)

        await elsewhere("1")
        assert await here.today(core, owner) == 1
        await elsewhere("2")
        here.add(owner, Decimal(4))
        now += 59
        assert await here.today(core, owner) == 5
        # The rows of what was added here have come in the meantime.
        await elsewhere("4")
        now += 1
        assert await here.today(core, owner) == 7
        here.add(owner, Decimal(8))
        assert await here.today(core, owner) == 15
        assert await here.today(core, "somebody else") == 0
