"""The fake providers and a session for the tests of the AI layer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.ai import prices, router
from tests.fakes.models import FakeModels


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to read the price book; a second try need not wait."""
    monkeypatch.setattr(prices, "WAIT_S", 15.0)
    monkeypatch.setattr(router, "RETRY_WAIT_S", 0.005)


@pytest.fixture
async def models() -> AsyncIterator[FakeModels]:
    fake = FakeModels()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened
