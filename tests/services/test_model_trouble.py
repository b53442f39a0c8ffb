"""Trouble with models and their keys reaches whoever can mend it, once, and the numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from services import accounts, bots
from services.core import Core
from services.crypto import new_fernet_key
from services.settings import Settings
from tests.composition import Shop, address, ask, make_settings, make_shop, running
from tests.conveyor.harness import until
from tests.fakes.models import FakeModels

OWN_KEY = "sk-CANARY-own-key-0123456789"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeModels]:
    """Fake model providers of the test's own."""
    made = FakeModels()
    await made.start()
    yield made
    await made.stop()


def _settings(
    folder: Path, url: str, upstream: FakeModels, *, environment: Mapping[str, str] | None = None, **ai: Any
) -> Settings:
    given = {"OPENAI_API_KEY": "test-key-0123456789", "OPENAI_BASE_URL": upstream.base_urls["openai"]}
    roles = {"fast": ["openai:first", "openai:second"], "balanced": ["openai:second"]}
    overrides = {"ai": {"roles": roles, **ai}}
    return make_settings(folder, url, environment={**given, **(environment or {})}, overrides=overrides)


async def _page(core: Core, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{address(core)}{path}") as answer:
        return answer.status, await (answer.json() if path == "/readyz" else answer.text())


async def _told(core: Core, kind: str) -> list[models.Notice]:
    """All notices of a kind, oldest first."""
    async with core.db.read() as session:
        return list(
            await session.scalars(select(models.Notice).where(models.Notice.kind == kind).order_by(models.Notice.id))
        )


async def test_administrators_hear_of_a_retired_model(tmp_path: Path, sqlite_url: str, upstream: FakeModels) -> None:
    upstream.fail("retired", model="first")
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        shop = await make_shop(core)
        for _ in range(2):
            assert (await ask(core, shop))["provider"] == "openai"
        (notice,) = await _told(core, "model_retired")
        async with core.db.read() as session:
            assert [notice.user_id] == await accounts.administrators(session)
        assert (notice.params["provider"], notice.params["model"]) == ("OpenAI", "first")
        assert (notice.bot_id, notice.resolved_at) == (None, None)
    # The next life knows nothing of it until the model answers again.
    upstream.heal()
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        assert (await _told(core, "model_retired"))[0].resolved_at is None
        await ask(core, shop)

        async def solved() -> bool:
            return (await _told(core, "model_retired"))[0].resolved_at is not None

        # Noted after the answer, which nobody has to wait for.
        await until(solved)


async def test_a_model_that_is_not_asked_any_more_is_no_trouble(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels
) -> None:
    upstream.fail("retired", model="first")
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        await ask(core, await make_shop(core))
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        assert (await _told(core, "model_retired"))[0].resolved_at is None
    async with running(_settings(tmp_path, sqlite_url, upstream, role="balanced")) as core:
        assert (await _told(core, "model_retired"))[0].resolved_at is not None


async def _own_key(core: Core, shop: Shop, key: str | None = OWN_KEY) -> None:
    async with core.db.write() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
        await bots.set_openai_key(session, bot, key, core.crypto)


async def test_an_owner_hears_of_a_model_that_the_own_key_may_not_use(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels
) -> None:
    upstream.fail("retired", key=OWN_KEY)
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        shop = await make_shop(core)
        await _own_key(core, shop)
        assert (await ask(core, shop))["model"]
        (notice,) = await _told(core, "own_model_missing")
        assert (notice.user_id, notice.bot_id, notice.resolved_at) == (shop.owner.id, shop.bot.id, None)
        assert not await _told(core, "model_retired")
        await _own_key(core, shop, None)
        assert (await _told(core, "own_model_missing"))[0].resolved_at is not None


async def test_an_owner_hears_of_an_own_key_that_nothing_decrypts(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels
) -> None:
    """Once, however often it starts, until the old key is back or the owner has saved the key again."""
    old, new = new_fernet_key(), new_fernet_key()

    def start(keys: str) -> Any:
        return running(_settings(tmp_path, sqlite_url, upstream, environment={"ENCRYPTION_KEYS": keys}))

    async with start(old) as core:
        shop = await make_shop(core)
        await _own_key(core, shop)
        assert not await _told(core, "key_unreadable")
    for _ in range(2):
        async with start(new) as core:
            (notice,) = await _told(core, "key_unreadable")
            assert (notice.user_id, notice.bot_id, notice.resolved_at) == (shop.owner.id, shop.bot.id, None)
    async with start(f"{new},{old}") as core:
        assert (await _told(core, "key_unreadable"))[0].resolved_at is not None
    async with start(new) as core:
        assert [notice.resolved_at is None for notice in await _told(core, "key_unreadable")] == [False, True]
        await _own_key(core, shop)
        assert all(notice.resolved_at for notice in await _told(core, "key_unreadable"))
    async with start(new) as core:
        assert len(await _told(core, "key_unreadable")) == 2


async def test_readiness_names_a_provider_that_refuses_its_key(
    tmp_path: Path, sqlite_url: str, upstream: FakeModels
) -> None:
    """Known from the last call and not asked for; the customer is answered all the same."""
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        shop = await make_shop(core)
        await ask(core, shop)
        status, found = await _page(core, "/readyz")
        assert (status, found["parts"]["openai"], found["parts"]["gemini"]) == (200, "configured", "not configured")
        upstream.fail("key_revoked")
        assert (await ask(core, shop))["provider"] == "extractive"
        asked = len(upstream.requests)
        status, found = await _page(core, "/readyz")
        assert (status, found["parts"]["openai"]) == (503, "key refused")
        assert len(upstream.requests) == asked


async def test_what_calls_cost_is_a_number(tmp_path: Path, sqlite_url: str, upstream: FakeModels) -> None:
    async with running(_settings(tmp_path, sqlite_url, upstream)) as core:
        shop = await make_shop(core)

        async def cost() -> float:
            _, text = await _page(core, "/metrics")
            name = 'botfactory_model_cost_usd_total{payer="installation",provider="openai"} '
            return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

        before = await cost()
        answer = await ask(core, shop)
        assert await cost() - before == pytest.approx(float(answer["usage"]["cost_usd"]))
        assert float(answer["usage"]["cost_usd"]) > 0
