"""Texts in Uzbek Cyrillic are made from Latin; what people have to copy stays as it is."""

from __future__ import annotations

import re

import pytest
from babel.messages.pofile import read_po

from services.i18n import LOCALES_DIR, in_cyrillic, translate


@pytest.mark.parametrize(
    ("msgid", "kept"),
    [
        ("Give the bot a name, then a username that ends in “bot”, for example chinor_stom_bot.", " chinor_stom_bot."),
        (
            "Choose at least one language: Uzbek (uz), Russian (ru) or English (en).",
            "(uz), русча (ru) ёки инглизча (en)",
        ),
        ("2. Give the bot a name and a username that ends in “bot”.", "“bot” билан"),
        ("Account id", "IDси"),
        ("GIF", "GIF"),
        ("“{bot}”: {name} has written again; you answer this conversation yourself.", "“{bot}”: {name} яна ёзди"),
    ],
    ids=["username", "codes", "ending", "id", "name", "places"],
)
def test_what_is_copied_stays_latin(msgid: str, kept: str) -> None:
    assert kept in translate("uz-Cyrl", msgid)


def test_what_programs_and_foreign_pages_read_stays_latin_in_every_text() -> None:
    """Names of variables, keys, addresses, abbreviations and menus are the same in every language; Cyrillic keeps them."""
    name = re.compile(
        r"\b\w+(?:_\w+)+|\b(?:\w+\.)+\w+|\b[A-Z]{2,}\w*|(?:[A-Z]\w+ )+[a-z]*(?= →)|\b\w*(?:sett|secr|[Ll]og[io]n)\w*"
    )
    own = {"MB", "KB", "GB", "UZS", "IKPU"}
    with (LOCALES_DIR / "uz" / "LC_MESSAGES" / "messages.po").open("rb") as source:
        catalog = read_po(source, locale="uz")
    lost = [
        (word, text)
        for message in catalog
        for text in filter(None, [message.string] if isinstance(message.string, str) else message.string or ())
        for word in set(name.findall(str(message.id))) - own
        if word in text and word not in in_cyrillic(text)
    ]
    assert lost == []


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
def test_an_example_of_a_username_is_one_that_can_be_typed(language: str) -> None:
    text = translate(language, "Give the bot a name, then a username that ends in “bot”, for example chinor_stom_bot.")
    assert "chinor_stom_bot" in text and "@" not in text
