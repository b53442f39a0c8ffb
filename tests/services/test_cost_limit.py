"""What an owner's answers may cost a day: over it passages are quoted, and the owner is told so, once."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from db import models
from services import notices
from services.core import Core
from tests.composition import ask, make_settings, make_shop, running
from tests.fakes.models import FakeModels

USED_UP = "“Texno Savdo”: today’s limit for the cost of answers is used up; passages are quoted until tomorrow."


async def _told(core: Core) -> list[tuple[str, str]]:
    """Who was told what."""
    async with core.db.read() as session:
        return [(notice.user_id, notices.text(notice, "en")) for notice in await session.scalars(select(models.Notice))]


async def test_the_owner_hears_once_that_the_days_limit_is_used_up(database_url: str, tmp_path: Path) -> None:
    fake = FakeModels()
    await fake.start()
    try:
        environment = {"GEMINI_API_KEY": "test-key-0123456789", "GEMINI_BASE_URL": fake.base_urls["gemini"]}
        # One call costs more.
        limits = {"limits": {"owner_cost_usd_per_day": "0.000000001"}}
        settings = make_settings(tmp_path, database_url, environment=environment, overrides=limits)
        async with running(settings) as core:
            shop = await make_shop(core)
            answer = await ask(core, shop)
            assert answer["provider"] == "gemini" and float(answer["usage"]["cost_usd"]) > 0
            assert await _told(core) == []
            for _ in range(2):
                assert (await ask(core, shop))["provider"] == "extractive"
                assert await _told(core) == [(shop.owner.id, USED_UP)]
            # Another bot of the same owner, a bot of somebody else.
            second = await make_shop(core, "Ikkinchi")
            assert (await ask(core, second))["provider"] == "extractive"
            other = await make_shop(core, email="other@example.uz")
            assert (await ask(core, other))["provider"] == "gemini"
            assert await _told(core) == [(shop.owner.id, USED_UP)]
        # A restart changes nothing: what was spent and what was told are rows.
        async with running(settings) as core:
            assert (await ask(core, shop))["provider"] == "extractive"
            assert await _told(core) == [(shop.owner.id, USED_UP)]
        assert len(fake.requests) == 2
    finally:
        await fake.stop()
