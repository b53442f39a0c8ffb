"""A page of the panel as a word that Telegram carries, and back."""

from __future__ import annotations

import re

import pytest

from services.panel_links import page_of, start_word

BOT, TALK = "01kaaaaaaaaaaaaaaaaaaaaaab", "01kzzzzzzzzzzzzzzzzzzzzzz9"


@pytest.mark.parametrize("tail", ["", "?status=waiting", f"/{TALK}"], ids=["all", "waiting", "one"])
def test_a_bots_conversations_go_there_and_back(tail: str) -> None:
    page = f"/bots/{BOT}/conversations{tail}"
    word = start_word(page)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", word)
    assert page_of(word) == page


@pytest.mark.parametrize("place", ["channels", "documents"])
def test_where_a_bots_trouble_is_mended_goes_there_and_back(place: str) -> None:
    word = start_word(f"/bots/{BOT}/{place}")
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", word)
    assert page_of(word) == f"/bots/{BOT}/{place}"


@pytest.mark.parametrize(
    "page",
    [
        "",
        "/dashboard",
        "//evil.example",
        f"/bots/{BOT}",
        f"/bots/{BOT}/conversations/{TALK}?x=1",
        "/bots/x/conversations",
    ],
)
def test_every_other_page_is_only_the_panel(page: str) -> None:
    assert start_word(page) == "panel"


@pytest.mark.parametrize("word", ["", "panel", "panel_", "panel_x", f"panel_{BOT}_", f"panel_{BOT}_x", f"{BOT}"])
def test_a_word_that_names_nothing_leads_nowhere(word: str) -> None:
    assert page_of(word) == ""
