"""Fixtures of the conveyor's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conveyor.harness import surroundings
from tests.conveyor.nursery import Nursery, nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram


@pytest.fixture(scope="session")
async def children(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    """Processes of the product to kill; the imports are done once a run."""
    async with nursery(tmp_path_factory.mktemp("children")) as opened:
        yield opened


@pytest.fixture
async def fakes() -> AsyncIterator[tuple[FakeTelegram, FakeModels]]:
    """A fake Bot API and fake models of the test's own."""
    async with surroundings() as both:
        yield both
