"""The watch over secrets that are written down sees what it is there for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import leaks

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "7700000001:TENANT_token_not_real_AAAAAAAAAAAAAA"

# Seven ways to write a secret down, each in a test that is green of itself, and one that is allowed to.
TRIED = f"""
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

TOKEN = {TOKEN!r}


def test_printed():
    print(TOKEN)


def test_to_stderr():
    print(TOKEN, file=sys.stderr)


def test_by_structlog():
    structlog.get_logger().debug("sent", address=f"https://api.telegram.org/bot{{TOKEN}}/getMe")


def test_by_a_library():
    logging.getLogger("aiohttp").warning("no answer from /bot%s/getMe", TOKEN)


def test_read_by_the_test(capsys):
    print(TOKEN)
    assert capsys.readouterr().out


def test_by_a_process(tmp_path):
    (tmp_path / "bot.log").write_text(TOKEN)


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    return SimpleNamespace(log=tmp_path_factory.mktemp("children") / "children.log")


def test_by_a_shared_process(children):
    children.log.write_text(TOKEN)


def test_after_the_one_that_is_to_blame(children):
    print("7700000001: nothing secret")


@pytest.mark.shows_a_secret("that is what it is for")
def test_on_purpose(capsys):
    print(TOKEN)
    assert capsys.readouterr().out
"""


def test_whoever_writes_a_secret_down_fails(tmp_path: Path) -> None:
    (tmp_path / "test_tried.py").write_text(TRIED)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *"-q -rA -p tests.leaks -p no:cacheprovider --strict-markers".split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"^(\w+) test_tried\.py::test_(\w+)(?: - (.*))?$", ended.stdout, re.MULTILINE)
    green = {name for outcome, name, _ in outcomes if outcome == "PASSED"}
    red = {name: why for outcome, name, why in outcomes if outcome == "FAILED"}
    assert len(outcomes) == 9, ended.stdout[-3000:] + ended.stderr
    assert green == {"after_the_one_that_is_to_blame", "on_purpose"}
    assert len(red) == 7 and all("a bot's token" in why for why in red.values()), red


@pytest.mark.parametrize(
    ("secret", "on_a_page"),
    [
        (TOKEN, True),
        ("sk-CANARY-own-key-0123456789", True),
        ("AIzaCANARY_gemini_key_not_real_0123456789", True),
        ("test-key-0123456789", True),
        (leaks.PASSWORD, True),
        ("$argon2id$v=19$m=65536,t=3,p=1$c2FsdA$aGFzaA", True),
        ("gAAAAABn" + "aB3-_" * 20 + "==", True),
        (f"{'aB3' * 14}x=", False),
        ("aB3-_" * 8 + "xyz", False),
        ("aB3-_aB3" * 4, False),
        ("bf_" + "aB3-_" * 8 + "xyz", False),
        ("whsec_" + "aB3" * 15, False),
    ],
)
def test_every_shape_is_known(secret: str, on_a_page: bool) -> None:
    for text in (secret, f'{{"event": "x", "value": "{secret}"}}', f"http://127.0.0.1/x?y={secret}&z"):
        assert leaks.in_writing(text) is not None
        assert (leaks.on_page(text) is not None) == on_a_page


@pytest.mark.parametrize(
    "text",
    [
        "request_id=dacf1fc7e39fd5c1 seconds=0.005819149999297224",
        "sha256=" + "0123456789abcdef" * 4,
        "test_a_name_as_long_as_a_random_token_is_xy",
        "channel=01kahm3v9x8q7w6e5r4t3y2u1i",
        "Sign in as administrator (once, within 10 minutes; every start prints a new link until you have signed in):\n"
        f"http://localhost:8080/login/link?token={'aB3-_' * 8}xyz\n",
    ],
)
def test_what_is_no_secret_is_let_by(text: str) -> None:
    assert leaks.in_writing(text) is None
