"""However an answer is cut into pieces, what is shown makes the text that is stored; words come as they are written."""

from __future__ import annotations

import random

import pytest

from services.ai.output import Cleaner, clean
from services.answers import MARKERS

FRAGMENTS = (
    *(
        "Yetkazib berish",
        "narxi 45 000 so'm",
        "so`m",
        "o`g`il",
        "Доставка",
        "бесплатно",
        "😊",
        "“ha”",
        "(10:00)",
        "a_b_c",
    ),
    *("**", "*", "__", "_", "`", "```", "~~", "~", "[x](https://a.uz)", "[", "](", ")", "![r](u)", "\\*", "\\", "&lt;"),
    *(
        "&",
        "&amp;lt;",
        "<b>",
        "</b>",
        "<br>",
        "<li>",
        "<",
        ">",
        "< 5",
        "<script>",
        "</script>",
        "<pass",
        "<passages",
        "ages>",
    ),
    *(
        "<passages>",
        "</passages>",
        "<pass<b>ages>",
        "<owner_instructions>",
        "QOIDA",
        "QOI",
        "DA",
        "**QOIDA**",
        "**Toshkent**",
    ),
    *(
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        " ",
        " ",
        " ",
        "  ",
        "\t",
        "\u00a0",
        "\u200b",
        "\u202e",
        "\x00",
        "- ",
        "* ",
        "+ ",
    ),
    *(
        "1. ",
        "# ",
        "> ",
        "| a | b |",
        "|---|",
        "---",
        "===",
        ": ",
        ":--",
        "-5",
        " - ",
        " — ",
        "•",
        "5*3",
        "2 * 3",
        "**a** b",
    ),
    *(
        "***a** b***",
        "**ochiq",
        "**5",
        "yopiq**",
        "****",
        "x**2",
        "[a][1]",
        "\n[1]: https://a.uz",
        "<details>",
        "</summary>",
        "*a*",
        "_a_",
        "@my_shop_bot",
        "https://a.uz/x_y_z",
        "",
        "x" * 40,
        "- [ ] ",
        "*a **b* c**",
        ".",
    ),
)
SIGNS = (*MARKERS, "QOIDA")


def _text(dice: random.Random) -> str:
    return "".join(dice.choice(FRAGMENTS) + dice.choice(("", " ", " ")) for _ in range(dice.randint(1, 40)))


def _streamed(dice: random.Random, text: str, limit: int, longest: int) -> list[str]:
    cleaner, pieces, at = Cleaner(limit=limit, markers=SIGNS), [], 0
    while at < len(text):
        step = dice.randint(1, longest)
        pieces.append(cleaner.feed(text[at : at + step]))
        at += step
    return [*pieces, cleaner.finish()]


@pytest.mark.parametrize("seed", range(40))
def test_pieces_of_any_size_make_the_stored_text(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(25):
        text = _text(dice)
        limit = dice.choice((3500, 3500, 200, 60, 12, 3))
        whole = clean(text, limit=limit, markers=SIGNS)
        assert len(whole) <= limit
        assert not any(sign in whole for sign in SIGNS)
        for longest in (1, 7, 40):
            assert "".join(_streamed(dice, text, limit, longest)) == whole, (text, limit, longest)


PARAGRAPH = (
    "😊 **Toshkent** shahri bo'ylab yetkazib berish bepul - viloyatlarga 45 000 so'm < 50 000. Savol bo'lsa @my_shop_bot "
    "yoki so`m bilan to'lang."
)


@pytest.mark.parametrize(
    "text", [PARAGRAPH, f"- {PARAGRAPH[2:]}", f"1. {PARAGRAPH}", f"Narxlar\n\n  * bir {PARAGRAPH}"]
)
def test_a_paragraph_comes_word_by_word(text: str) -> None:
    cleaner, longest_wait, waited = Cleaner(markers=SIGNS), 0, 0
    for char in text:
        waited = 0 if cleaner.feed(char) else waited + 1
        longest_wait = max(longest_wait, waited)
    assert longest_wait <= len("**Toshkent** shahri")


def test_what_stands_before_a_marker_stays() -> None:
    assert clean("Kafolat 3 yil <passages>[1] sir\nHa", markers=MARKERS) == "Kafolat 3 yil\nHa"
    assert clean("- <passages>[1] sir\nHa", markers=MARKERS) == "Ha"


@pytest.mark.parametrize("marker", ["<passages>", "</owner_instructions>", "QOIDA"])
def test_a_marker_never_shows_even_in_part(marker: str) -> None:
    cleaner, shown = Cleaner(markers=SIGNS), ""
    for char in f"Kafolat 3 yil. {marker} sir saqlanadi\nYana savol bormi?":
        shown += cleaner.feed(char)
        assert "<" not in shown and "Q" not in shown and "sir" not in shown
    assert shown + cleaner.finish() == "Kafolat 3 yil.\nYana savol bormi?"
