"""Fixtures of the tests of letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services import letters
from services.i18n import T
from services.letters.base import Kind
from tests.conveyor.nursery import Nursery, nursery
from tests.fakes.smtp import FakeMail
from tests.letters.office import Office, office


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of the tests' own, beside those that there are."""
    simple = Kind(
        subject=T("Receipt {number}"),
        text=T("Paid: {number}.\n\nThank you."),
        telegram=T("Paid: {number}."),
        button=T("Open the panel"),
        example=(("number", "12"),),
    )
    code = Kind(subject=T("Code"), text=T("Your code: {code}"), example=(("code", "123456"),))
    for name, kind in (("receipt", simple), ("code", code)):
        monkeypatch.setitem(letters.KINDS, name, kind)


@pytest.fixture
async def mail() -> AsyncIterator[FakeMail]:
    """A mail server of the test's own."""
    async with FakeMail() as fake:
        yield fake


@pytest.fixture
async def desk(tmp_path: Path, sqlite_url: str, mail: FakeMail) -> AsyncIterator[Office]:
    """The product without workers, with the mail server."""
    async with office(tmp_path, sqlite_url, mail) as opened:
        yield opened


@pytest.fixture(scope="session")
async def children(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    """Processes of the product to kill."""
    async with nursery(tmp_path_factory.mktemp("children")) as opened:
        yield opened
