"""No test may make the product write a secret down: what it prints and logs is looked through after each of them.

A plugin of pytest, loaded by ``conftest.py``. It sees what pytest captured (here nothing is cut out of the lines that the
product logs, so a secret shows also where the program itself would still put stars over it), what the test took with
``capsys`` or ``capfd``, and what child processes appended to their logs. Pages are handed over by the browsers of
``tests/web``. A test whose subject is a secret that is shown on purpose says so with the mark ``shows_a_secret``.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "chinor-2026-parol"
"""The password that people of the tests have."""

# What the fakes and the product itself hand out. A test with a secret of another shape puts CANARY into it.
_GIVEN = {
    "a bot's token": r"(?<!\d)\d{6,12}:[\w-]{30,}",
    "a model's key": r"\b(?:sk-|AIza|(?:test|gemini)-key-)[\w-]{8,}",
    "a password": rf"{PASSWORD}|CANARY",
    "a password's hash": r"\$argon2id\$",
    "something encrypted": r"\bgAAAA[\w-]{40,}",
}
# Random ones have no shape but their length: of sessions, links and the API, a webhook's, a Fernet key.
_RANDOM = {
    "a token of the API": r"\bbf_[\w-]{20,}",
    "the secret of an owner's server": r"\bwhsec_[A-Za-z0-9]{20,}",
    "a random token": r"(?<![\w-])(?:[\w-]{32}|[\w-]{43}=?)(?![\w=-])",
}


def _compiled(shapes: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(f"({shape})" for shape in shapes.values()), re.ASCII)


# The one secret that every start may print, beside its sentence.
_FIRST_LINK = re.compile(r"^Sign in as administrator \(once, .*:\n\S+/login/link\?token=[\w-]+$", re.MULTILINE)
_ON_PAGES = _compiled(_GIVEN)
_WRITTEN = _compiled(_GIVEN | _RANDOM)
_NAMES = tuple(_GIVEN | _RANDOM)

_taken = pytest.StashKey[list[str]]()
_read: dict[Path, int] = {}


def _is_secret(found: re.Match[str]) -> bool:
    """Tell a random token from an identifier or a digest of the same length: it mixes all kinds of characters."""
    if _NAMES[(found.lastindex or 1) - 1] != "a random token":
        return True
    kinds = (str.isupper, str.islower, str.isdigit)
    return all(any(kind(character) for character in found[0]) for kind in kinds)


def _find(pattern: re.Pattern[str], text: str) -> str | None:
    for found in pattern.finditer(text):
        if _is_secret(found):
            line = text[max(0, found.start() - 200) : found.end() + 100]
            return f"{_NAMES[(found.lastindex or 1) - 1]}: {found[0][:100]!r} in …{line}…"
    return None


def on_page(text: str) -> str | None:
    """Return what secret a page shows. Tokens of links and of the API are not looked for: some pages are there to show them."""
    return _find(_ON_PAGES, text)


def in_writing(text: str) -> str | None:
    """Return what secret stands in something printed or logged."""
    return _find(_WRITTEN, _FIRST_LINK.sub("", text))


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "shows_a_secret(why): what the test makes the product print holds a secret")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """Keep what a test reads with ``capsys`` or ``capfd``: pytest reports only what was left."""
    made = yield
    if isinstance(made, pytest.CaptureFixture):
        texts: list[str] = request.node.stash.setdefault(_taken, [])
        read = made.readouterr

        def readouterr() -> Any:
            result = read()
            texts.extend(result)
            return result

        made.readouterr = readouterr  # type: ignore[method-assign]  # of this one fixture, not of the class
    return made


def _grown(log: Path) -> str:
    """Return what was added to a log since it was last looked at."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(_read.get(log, 0))
        data = file.read()
        _read[log] = file.tell()
    return data.decode("utf-8", "replace")


def _written(item: pytest.Item, when: str, report: pytest.TestReport) -> Iterator[str]:
    yield from (text for name, text in report.sections if name.endswith(f" {when}"))
    taken = item.stash.get(_taken, [])
    yield from taken
    taken.clear()
    # ``log`` of a fixture's value, and logs in the test's own folder: of the processes that it started.
    for value in (getattr(item, "funcargs", None) or {}).values():
        for log in (getattr(value, "log", None), *(value.glob("*.log") if isinstance(value, Path) else ())):
            if isinstance(log, Path):
                yield _grown(log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that made the product write a secret down."""
    report = yield
    # Every text is looked at, also of a test that may show one: the next would else be blamed for it.
    found = [leak for text in _written(item, call.when, report) if (leak := in_writing(text)) is not None]
    if found and report.passed and item.get_closest_marker("shows_a_secret") is None:
        report.outcome = "failed"
        report.longrepr = f"a secret was written down ({call.when}), {found[0]}"
    return report
