"""Answers without a model."""

from __future__ import annotations

import pytest

from services.ai import extractive
from services.ai.extractive import MAX_CHARS, Source
from services.scripts import APOSTROPHES

SALON = [
    Source("Стрижка — 50 000 сум\nБорода — 30 000 сум", ("Прайс", "Мужской зал")),
    Source("Стрижка — 80 000 сум\nУкладка — 70 000 сум", ("Прайс", "Женский зал")),
]
DENTIST = [
    Source("№: 4; Услуга: Чистка зубов; Цена: 300 000", ("Взрослым",)),
    Source("№: 9; Услуга: Чистка зубов; Цена: 150 000", ("Детям",)),
    Source("№: 5; Услуга: Чистка канала; Цена: 90 000", ("Взрослым",)),
]
ROWS = ["Tovar: Nok; Narxi: 12 000 so‘m; Qoldiq: 5 kg", "Tovar: Olma; Narxi: 9 000 so‘m; Qoldiq: bor"]


def quote(question: str, passages: list[str]) -> str:
    """Quote passages that stand under no heading."""
    return extractive.quote(question, [Source(text) for text in passages])


def test_a_row_is_listed_field_by_field() -> None:
    assert quote("nok narxi qancha?", ROWS) == "• Tovar: Nok\n• Narxi: 12 000 so‘m\n• Qoldiq: 5 kg"


def test_the_right_row_of_a_table() -> None:
    assert quote("olma bormi?", ["\n".join(ROWS)]).startswith("• Tovar: Olma")


@pytest.mark.parametrize("sign", APOSTROPHES, ids=lambda sign: f"U+{ord(sign):04X}")
def test_every_apostrophe_is_the_same(sign: str) -> None:
    text = "Kafolat uch yil. O‘lchov jadvali saytda bor. Manzil: Chilonzor."
    assert quote(f"o{sign}lchov jadvali", [text]).startswith("O‘lchov jadvali")
    assert quote(f"o{sign}lchov", [text]).startswith("O‘lchov jadvali")


def test_long_passages_are_cut_at_a_sentence() -> None:
    long = " ".join(f"Бу {n}-гап нархлар ҳақида." for n in range(200))
    assert len(quote("нархлар", [long])) <= MAX_CHARS
    assert len(quote("x", ["so" * 2000])) <= MAX_CHARS


def test_the_sentence_that_answers() -> None:
    text = "We are a family shop. We opened in 2015. Pears cost 2 dollars a kilo. Parking is free."
    assert quote("How much are the pears?", [text]).startswith("Pears cost 2 dollars")


@pytest.mark.parametrize("passages", [[], [""], [" \n "]])
def test_nothing_to_quote(passages: list[str]) -> None:
    assert extractive.answer("nok?", [Source(text) for text in passages], "uz") == ""


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
def test_a_friendly_lead_in(language: str) -> None:
    shown = extractive.answer("nok narxi", [Source(text) for text in ROWS], language)
    lead, _, quoted = shown.partition("\n\n")
    assert "📄" in lead
    assert quoted == quote("nok narxi", ROWS)


@pytest.mark.parametrize(
    ("passage", "asked", "shown"),
    [
        ("Savol: Kafolat bormi?\nJavob: 3 yil kafolat beriladi.", "kafolat bormi", "3 yil kafolat beriladi."),
        ("Вопрос: Есть доставка? Ответ: Да, бесплатно. Завтра.", "доставка есть?", "Да, бесплатно. Завтра."),
        ("Q: Do you deliver?\nA: Yes, free of charge.", "delivery", "Yes, free of charge."),
        ("Q: Do you deliver it? A: Yes, free of charge.", "delivery", "Yes, free of charge."),
        (
            "1. Вопрос №1: Где вы?\nОтвет: Амир Темур, 5.\n2. Вопрос №2: Телефон?\nОтвет: 90.",
            "Где вы?",
            "Амир Темур, 5.",
        ),
        ("Savol: Manzil?\nJavob: Amir Temur 5.\n\nSavol: Telefon?\nJavob: 90.", "telefon", "90."),
        ("Савол: Манзил? Жавоб: Навоий кўчаси 5.", "манзил", "Навоий кўчаси 5."),
        ("Savol: Manzil?; Javob: Amir Temur 5.", "manzil", "Amir Temur 5."),
        ("Javob: Amir Temur 5.", "manzil", "Amir Temur 5."),
        ("Javob: 3 kun.\nSavol: Manzil?\nJavob: Navoiy 1.", "manzil", "Navoiy 1."),
        ("Savol: nima qilay? Menejerga yozing.", "nima qilay", "Savol: nima qilay? Menejerga yozing."),
    ],
)
def test_a_question_in_a_document_is_not_repeated(passage: str, asked: str, shown: str) -> None:
    assert quote(asked, [passage]) == shown


def test_of_a_taught_answer_the_answer_alone() -> None:
    taught = [Source("Ha, bor.\nHovlida.", asked="Parkovka bormi?"), Source("3 yil.", asked="Kafolat bormi?")]
    assert extractive.quote("kafolat bormi", taught) == "3 yil."
    assert extractive.quote("parkovka bormi", taught) == "Ha, bor.\nHovlida."


@pytest.mark.parametrize(
    ("sources", "asked", "shown"),
    [
        (SALON, "Борода сколько?", "Мужской зал:\nБорода — 30 000 сум"),
        (SALON, "женская стрижка", "Женский зал:\nСтрижка — 80 000 сум\nУкладка — 70 000 сум"),
        (SALON, "Сколько стоит стрижка?", "Мужской зал:\nСтрижка — 50 000 сум\n\nЖенский зал:\nСтрижка — 80 000 сум"),
        (DENTIST, "чистка зубов детям", "Детям:\n• №: 9\n• Услуга: Чистка зубов\n• Цена: 150 000"),
        (
            DENTIST,
            "чистка зубов",
            "Взрослым:\n• №: 4\n• Услуга: Чистка зубов\n• Цена: 300 000\n\n"
            "Детям:\n• №: 9\n• Услуга: Чистка зубов\n• Цена: 150 000",
        ),
    ],
)
def test_a_row_or_a_line_says_its_section(sources: list[Source], asked: str, shown: str) -> None:
    assert extractive.quote(asked, sources) == shown


def test_sections_of_one_name_are_told_apart_by_what_stands_above_them() -> None:
    branches = [
        Source(f"Xizmat: Plomba; Narxi: {price}", (f"{city} filiali", "Bolalar"))
        for city, price in (("Toshkent", "250 000"), ("Samarqand", "150 000"))
    ]
    shown = extractive.quote("plomba qancha", branches)
    assert [block.split("\n")[0] for block in shown.split("\n\n")] == [
        "Toshkent filiali › Bolalar:",
        "Samarqand filiali › Bolalar:",
    ]


def test_a_line_that_ends_with_a_colon_begins_a_section() -> None:
    text = "Soch olish 80 000\nBo'yash 250 000\nErkaklar zali:\nSoch olish 50 000\nSoqol olish 30 000"
    salon = [Source(text, ("Narxlar", "Ayollar zali"))]
    assert extractive.quote("soqol olish", salon) == "Erkaklar zali:\nSoqol olish 30 000"
    assert (
        extractive.quote("soch olish qancha", salon)
        == "Ayollar zali:\nSoch olish 80 000\n\nErkaklar zali:\nSoch olish 50 000"
    )


@pytest.mark.parametrize("heading", ["Soch olish", "Soch olish qancha?", ""])
def test_a_heading_that_adds_nothing_is_not_repeated(heading: str) -> None:
    assert extractive.quote("soch olish", [Source("Soch olish 80 000", (heading,))]) == "Soch olish 80 000"


def test_sentences_say_no_section() -> None:
    assert extractive.quote("доставка", [Source("Доставка бесплатная.", ("Обувь",))]) == "Доставка бесплатная."


def test_lines_stay_lines() -> None:
    assert quote("1-sinf", ["1-sinf 100\n2-sinf 200\nHammasi oyiga. Bepul emas."]) == (
        "1-sinf 100\n2-sinf 200\nHammasi oyiga. Bepul emas."
    )


def test_a_heading_with_nothing_under_it_is_the_last_to_be_quoted() -> None:
    bare = Source("2026-yil uchun to‘lovlar", ("Maktab",), bare=True)
    table = Source("1-sinf 100\n7-sinf 200", ("Maktab", "Yillik to‘lov"))
    assert extractive.quote("yillik to'lov", [bare, table]) == "Yillik to‘lov:\n1-sinf 100\n7-sinf 200"
    assert extractive.quote("yillik to'lov", [bare, Source("Futbol 16:00")]) == f"Maktab:\n{bare.text}"


def test_what_is_quoted_is_spelt_block_by_block_within_the_limit() -> None:
    asked: list[str] = []

    def spell(block: str) -> str:
        asked.append(block)
        return block.upper() * 3

    assert len(extractive.quote("стрижка", SALON, spell, limit=100)) <= 100
    assert asked == ["Мужской зал:\nСтрижка — 50 000 сум", "Женский зал:\nСтрижка — 80 000 сум"]
