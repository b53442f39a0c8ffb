"""Fixtures that every test may use: real databases of its own, Valkey, the fake Bot API, and fake hosts of Meta."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.bootstrap import CHROMIUM_NAMES, HEADLESS
from tests import engines, servers
from tests.fakes.graph import FakeGraph
from tests.fakes.instagram import FakeInstagram
from tests.fakes.meta import Meta
from tests.fakes.telegram import FakeTelegram

pytest_plugins = ["tests.leaks"]
_RUN = pytest.StashKey[servers.Run]()
CHROMIUM = next(filter(None, map(shutil.which, (HEADLESS, *CHROMIUM_NAMES))), None)
"""The browser of this machine, None where there is none: then the tests marked ``browser`` are skipped, loudly."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the run in the process that owns it; the others are told where it is."""
    engines.share()
    told: dict[str, Any] | None = getattr(config, "workerinput", None)
    if told is None:
        place = servers.in_memory()
        if place is not None:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))
        config.stash[_RUN] = servers.Run(servers.new_folder(place), os.getpid(), "gw0")
    else:
        config.stash[_RUN] = servers.Run(Path(told["run_folder"]), int(told["run_owner"]), str(told["workerid"]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a pytest-xdist process about the run."""
    run = node.config.stash[_RUN]
    node.workerinput["run_folder"] = str(run.folder)
    node.workerinput["run_owner"] = run.owner


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the run started."""
    if not hasattr(config, "workerinput") and _RUN in config.stash:
        config.stash[_RUN].close()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave memory alone while thousands of tests are gathered, of which nothing goes: two fifths of that time else."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the browser tests where there is no browser."""
    if CHROMIUM is None:
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason="Chromium is not installed"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly that browser tests did not run."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "Chromium is not" in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.section("NOT TESTED IN A BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests need Chromium, which is not installed here: apt install chromium")


@pytest.fixture(scope="session")
def servers_run(pytestconfig: pytest.Config) -> servers.Run:
    """The servers of this run, for tests that need several databases."""
    return pytestconfig.stash[_RUN]


@pytest.fixture
def sqlite_url(servers_run: servers.Run, tmp_path: Path) -> str:
    """The address of a migrated SQLite file of the test's own."""
    return servers_run.new_sqlite(tmp_path)


@pytest.fixture
def postgres_url(servers_run: servers.Run, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated PostgreSQL database of the test's own."""
    with servers_run.database("postgresql", tmp_path) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of the test's own: the test runs once on each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def redis_url(servers_run: servers.Run) -> str:
    """The address of an empty Valkey database. Publish and subscribe are shared by the whole run."""
    return servers_run.new_valkey()


@pytest.fixture
async def telegram() -> AsyncIterator[FakeTelegram]:
    """A fake Bot API server on a port of its own."""
    async with FakeTelegram() as fake:
        yield fake


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter of bytes by its argument: files made by a test differ from one process to the next."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    """A fake Graph API of the test's own."""
    async with FakeGraph() as started:
        yield started


@pytest.fixture
async def meta() -> AsyncIterator[Meta]:
    """Meta's hosts of Instagram, of the test's own."""
    async with FakeInstagram() as own, FakeInstagram(pages=True) as pages:
        yield Meta(own, pages)
