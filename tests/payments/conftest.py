"""Fixtures: one product a database for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import servers
from tests.payments.till import Till, settings_for, till


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run
) -> AsyncIterator[Till]:
    """The product on each kind of database."""
    folder = tmp_path_factory.mktemp("till")
    with servers_run.database(request.param, folder) as url:
        async with till(settings_for(folder, url)) as opened:
            yield opened
