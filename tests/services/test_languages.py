"""The language of short customer messages: figures on real and composed messages, and hostile input."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from services.languages import detect, script_of

DATA = Path(__file__).parent.parent / "data" / "langid"
NEUTRAL = "neutral"
IN_LATIN = "ru_translit"
PLAIN_CYRILLIC = "cyr_plain"


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _right(row: dict[str, str]) -> bool:
    if row["lang"] == "und":
        expected = None
    elif row["lang"] == "uz" and row["script"] == "cyrl":
        expected = "uz-Cyrl"
    else:
        expected = row["lang"]
    return detect(row["text"]).language == expected


def _share(rows: list[dict[str, str]]) -> float:
    assert rows
    return sum(map(_right, rows)) / len(rows)


def test_real_reviews() -> None:
    assert _share(_rows("reviews_dev")) >= 0.99


def test_bank_questions() -> None:
    assert _share(_rows("bank_en_dev")) >= 0.99


def test_chat_messages() -> None:
    rows = _rows("chat_dev")
    usual = [r for r in rows if r["category"] not in (NEUTRAL, IN_LATIN)]
    assert _share(usual) >= 0.97
    assert _share([r for r in rows if r["category"] == PLAIN_CYRILLIC]) >= 0.95
    assert _share([r for r in rows if r["category"] == IN_LATIN]) >= 0.8
    assert _share([r for r in rows if r["category"] == NEUTRAL]) >= 0.8


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("yetkazib berasizmi", "uz"),
        ("Şahar içida boʻladimi", "uz"),
        ("качон очиласиз", "uz-Cyrl"),
        ("доставка борми", "uz-Cyrl"),
        ("да", "ru"),
        ("а цена какая", "ru"),
        ("kogda privezete zakaz", "ru"),
        ("what time do you close", "en"),
        ("zakaz bermoqchiman", "uz"),
        ("iPhone 15 bormi", "uz"),
        ("S̵a̶l̷o̴m̵ qanday", "uz"),
    ],
)
def test_short_messages(text: str, language: str) -> None:
    assert detect(text).language == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "12 500",
        "+998901234567",
        "🙏🏽🔥",
        "Redmi Note 12 Pro",
        "@shop",
        "https://uzum.uz/a",
        "OK!",
        "你好",
        "\ud83d",
    ],
)
def test_no_language(text: str) -> None:
    assert detect(text).language is None


def test_invisible_tag_characters_say_nothing() -> None:
    hidden = "".join(chr(0xE0000 + ord(c)) for c in "hello my friend")
    assert detect(hidden).language is None
    assert detect("rahmat katta" + hidden).language == "uz"


@pytest.mark.parametrize("piece", ["а", "a'", "_", "1,", "hello ", "ха", "а̵", "w@"])
def test_huge_input_is_cut(piece: str) -> None:
    assert 0 <= detect(piece * 100_000).confidence <= 1


def test_confidence_tells_clear_from_doubtful() -> None:
    assert detect("Assalomu alaykum, narxlarni yuboring iltimos").confidence > 0.95
    assert detect("operator").confidence < 0.8


def test_script_is_of_the_most_letters() -> None:
    assert script_of("Сколько стоит iPhone") == "cyrillic"
    assert script_of("narxi qancha, да") == "latin"
    assert script_of("12 500 👍") == "none"
