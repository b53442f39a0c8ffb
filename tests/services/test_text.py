"""Cleaning and cutting of text."""

from __future__ import annotations

import json

import pytest

from services.text import clean, one_line, split_text, utf8_length, utf16_length
from tests.servers import ROOT

_VECTORS = json.loads((ROOT / "tests/payloads/text_limits.json").read_text())
UNITS = {"utf16": ("utf16", utf16_length), "utf8_bytes": ("utf8", utf8_length)}
CASES = [case for case in _VECTORS["cases"] if _VECTORS["limits"][case["limit"]]["unit"] in UNITS]
TEXTS = {
    "'a'*4096": "a" * 4096,
    "'a'*4097": "a" * 4097,
    "'😀'*2049": "😀" * 2049,
    "'я'*501": "я" * 501,
    "'o'*1000": "o" * 1000,
}


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_vectors(case: dict[str, object]) -> None:
    text = TEXTS[str(case["text_as_python"])]
    limit = _VECTORS["limits"][case["limit"]]
    unit, length = UNITS[limit["unit"]]
    parts = split_text(text, limit["max"], unit)
    assert length(text) == case["size"]
    assert len(parts) >= int(str(case["min_parts"])) and "".join(parts) == text
    assert all(0 < length(part) <= limit["max"] for part in parts)


@pytest.mark.parametrize(
    "text",
    [
        "Birinchi gap. Ikkinchi gap! Uchinchimi? " * 300,
        "xatboshi\n\n" * 900,
        "сўз " * 3000,
        "👩‍👩‍👧‍👦" * 1500,
        "a" + "\u0301" * 9000,
        "tez,tez,tez," * 900,
        "\n" * 9000 + "oxiri",
        "a" * 100 + " " * 9000 + "b" * 100,
    ],
    ids=range(8),
)
@pytest.mark.parametrize("limit", [2, 17, 4096])
def test_no_part_is_empty_too_long_or_lost(text: str, limit: int) -> None:
    parts = split_text(text[: 300 * limit], limit)
    assert all(part.strip() and utf16_length(part) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text[: 300 * limit].split())


def test_cuts_at_the_best_break_in_reach() -> None:
    assert split_text("bir ikki\n\nuch to'rt", 12) == ["bir ikki", "uch to'rt"]
    assert split_text("Bir gap. Ikki gap.", 12) == ["Bir gap.", "Ikki gap."]
    assert split_text("", 10) == split_text("  \n ", 10) == []


def test_what_no_reader_sees_is_removed() -> None:
    assert clean("a\x00b\x1b\x7f\ud800\U000e0041\uffff") == "ab"
    assert clean("qator\nustun\t 😀 ўқғҳ \u200d\u202e") == "qator\nustun\t 😀 ўқғҳ \u200d\u202e"
    assert clean("abcdef", 3) == "abc"
    assert one_line("  a\r\n\tb\x00 c ", 64) == "a b c"
    assert one_line("so'z " * 50, 7) == "so'z so"
