"""Texts in Uzbek Cyrillic are made from Latin; what people have to copy stays as it is."""

from __future__ import annotations

import pytest

from services.i18n import translate


@pytest.mark.parametrize(
    ("msgid", "kept"),
    [
        ("Give the bot a name, then a username that ends in “bot”, for example chinor_stom_bot.", " chinor_stom_bot."),
        (
            "Choose at least one language: Uzbek (uz), Russian (ru) or English (en).",
            "(uz), русча (ru) ёки инглизча (en)",
        ),
        ("GIF", "GIF"),
        ("“{bot}”: {name} has written again; you answer this conversation yourself.", "“{bot}”: {name} яна ёзди"),
    ],
    ids=["username", "codes", "name", "places"],
)
def test_what_is_copied_stays_latin(msgid: str, kept: str) -> None:
    assert kept in translate("uz-Cyrl", msgid)


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
def test_an_example_of_a_username_is_one_that_can_be_typed(language: str) -> None:
    text = translate(language, "Give the bot a name, then a username that ends in “bot”, for example chinor_stom_bot.")
    assert "chinor_stom_bot" in text and "@" not in text
