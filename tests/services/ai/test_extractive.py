"""Answers without a model."""

from __future__ import annotations

import pytest

from services.ai.extractive import MAX_CHARS, answer, quote
from services.scripts import APOSTROPHES

ROWS = ["Tovar: Nok; Narxi: 12 000 so‘m; Qoldiq: 5 kg", "Tovar: Olma; Narxi: 9 000 so‘m; Qoldiq: bor"]
SHOP = "Бизнинг дўкон 2015 йилда очилган. Иш вақти: ҳар куни 9:00 дан 18:00 гача. Манзил: Тошкент, Амир Темур 5."


def test_a_row_is_listed_field_by_field() -> None:
    assert quote("nok narxi qancha?", ROWS, "uz") == "• Tovar: Nok\n• Narxi: 12 000 so‘m\n• Qoldiq: 5 kg"


def test_the_right_row_of_a_table() -> None:
    assert quote("olma bormi?", ["\n".join(ROWS)], "uz").startswith("• Tovar: Olma")


def test_the_customers_script() -> None:
    assert "Нархи: 12 000 сўм" in quote("Нок қанча?", ROWS, "uz-Cyrl")
    shown = quote("Ish vaqti?", [SHOP], "uz")
    assert shown.startswith("Ish vaqti: har kuni 9:00 dan 18:00 gacha.")


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl"])
def test_other_languages_are_quoted_as_they_are(language: str) -> None:
    russian = "Доставка по Ташкенту стоит 25 000 сум. От 300 000 сум бесплатно."
    assert quote("Доставка?", [russian], language) == russian
    english = "The opening hours are from nine to six. Delivery is free for orders over $20."
    assert quote("opening hours", [english], language) == english


@pytest.mark.parametrize("sign", APOSTROPHES, ids=lambda sign: f"U+{ord(sign):04X}")
def test_every_apostrophe_is_the_same(sign: str) -> None:
    text = "Kafolat uch yil. O‘lchov jadvali saytda bor. Manzil: Chilonzor."
    assert quote(f"o{sign}lchov jadvali", [text], "uz").startswith("O‘lchov jadvali")
    assert quote(f"o{sign}lchov", [text], "uz").startswith("O‘lchov jadvali")


def test_long_passages_are_cut_at_a_sentence() -> None:
    long = " ".join(f"Бу {n}-гап нархлар ҳақида." for n in range(200))
    assert len(quote("нархлар", [long], "uz-Cyrl")) <= MAX_CHARS
    assert len(quote("x", ["so" * 2000], "uz")) <= MAX_CHARS


def test_the_sentence_that_answers() -> None:
    text = "We are a family shop. We opened in 2015. Pears cost 2 dollars a kilo. Parking is free."
    assert quote("How much are the pears?", [text], "en").startswith("Pears cost 2 dollars")


@pytest.mark.parametrize("passages", [[], [""], [" \n "]])
def test_nothing_to_quote(passages: list[str]) -> None:
    assert answer("nok?", passages, "uz") == ""


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl", "ru", "en"])
def test_a_friendly_lead_in(language: str) -> None:
    shown = answer("nok narxi", ROWS, language)
    lead, _, quoted = shown.partition("\n\n")
    assert "📄" in lead
    assert quoted == quote("nok narxi", ROWS, language)


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
        ("Савол: Манзил? Жавоб: Навоий кўчаси 5.", "манзил", "Navoiy ko‘chasi 5."),
        ("Savol: Manzil?; Javob: Amir Temur 5.", "manzil", "Amir Temur 5."),
        ("Javob: Amir Temur 5.", "manzil", "Amir Temur 5."),
        ("Javob: 3 kun.\nSavol: Manzil?\nJavob: Navoiy 1.", "manzil", "Navoiy 1."),
        ("Savol: nima qilay? Menejerga yozing.", "nima qilay", "Savol: nima qilay? Menejerga yozing."),
    ],
)
def test_a_question_in_a_document_is_not_repeated(passage: str, asked: str, shown: str) -> None:
    assert quote(asked, [passage], "uz") == shown


def test_of_a_taught_answer_the_answer_alone() -> None:
    taught = [("Parkovka bormi?", "Ha, bor.\nHovlida."), ("Kafolat bormi?", "3 yil.")]
    assert quote("kafolat bormi", taught, "uz") == "3 yil."
    assert quote("parkovka bormi", taught, "uz") == "Ha, bor.\nHovlida."
