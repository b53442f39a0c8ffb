"""The pictures of the pages are all there, small, and those of the table: what ``make screenshots`` last made."""

from __future__ import annotations

import re

import pytest

from bench import screenshots
from bench.screenshots import FOLDER, LOOKS, PAGES
from services.settings import ROOT

MENU = re.compile(r'nav_link\("(/[^"]*)"')


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_every_page_has_its_picture_and_no_file_is_left_over(look: screenshots.Look) -> None:
    files = list((FOLDER / look.name).iterdir())
    assert sorted(path.name for path in files) == sorted(f"{page.name}.webp" for page in PAGES)
    for path in files:
        octets = path.read_bytes()
        assert (octets[:4], octets[8:12]) == (b"RIFF", b"WEBP"), path.name
        assert len(octets) <= screenshots.MOST_BYTES, path.name


def test_together_they_stay_small() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", *(look.name for look in LOOKS)}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.webp")) <= screenshots.TOGETHER_BYTES


def test_the_index_is_that_of_the_table() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    assert text == screenshots.index()
    shown = re.findall(r"\(([\w-]+/[\w-]+\.webp)\)", text)
    assert set(shown) == {f"{look.name}/{page.name}.webp" for look in LOOKS for page in PAGES}


def test_every_page_of_the_menu_is_in_the_table() -> None:
    menu = (ROOT / "templates" / "app.html").read_text("utf-8")
    paths = {page.path.partition("?")[0] for page in PAGES}
    assert {path for path in MENU.findall(menu) if not path.endswith("/")} <= paths


def test_a_text_that_was_forgotten_is_seen() -> None:
    assert {"Sign out", "Conversations"} <= screenshots.untranslated("uz") & screenshots.untranslated("ru")
    assert not {"Telegram", "Starter"} & screenshots.untranslated("ru")
    assert not screenshots.untranslated("en")
