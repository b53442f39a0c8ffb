"""Uzbek Latin and Cyrillic turn into each other as the official rules say."""

from __future__ import annotations

import pytest

from services.scripts import to_cyrillic, to_latin


@pytest.mark.parametrize(
    ("latin", "cyrillic"),
    [
        ("Yo‘q, o‘zbek tili go‘zal", "Йўқ, ўзбек тили гўзал"),
        ("Yetkazib berish bormi?", "Етказиб бериш борми?"),
        ("Ertaga eng arzoni", "Эртага энг арзони"),
        ("aeroport va poema", "аэропорт ва поэма"),
        ("shahar choyxonasi", "шаҳар чойхонаси"),
        ("SHAHAR, CHOY, O‘ZBEKISTON", "ШАҲАР, ЧОЙ, ЎЗБЕКИСТОН"),
        ("Shahar Choy Yangi", "Шаҳар Чой Янги"),
        ("Is’hoq ma’no san’at a’lo", "Исҳоқ маъно санъат аъло"),
        ("konstitutsiya aksiya pensiya politsiya", "конституция акция пенсия полиция"),
        ("sentabrda, 5 may", "сентябрда, 5 май"),
        ("yog‘ yo‘l diyor rayon", "ёғ йўл диёр район"),
        ("obyekt karyera kompyuter", "объект карьера компьютер"),
        ("yoz keldi, yuboring, yaxshi", "ёз келди, юборинг, яхши"),
    ],
)
def test_words_turn_both_ways(latin: str, cyrillic: str) -> None:
    assert to_cyrillic(latin) == cyrillic
    assert to_latin(to_cyrillic(latin)).lower() == latin.lower()


@pytest.mark.parametrize("mark", list("'`´‘’‛ʻʼʹ′"))
def test_every_apostrophe_is_understood(mark: str) -> None:
    assert to_cyrillic(f"o{mark}g{mark}il bog{mark} a{mark}lo") == "ўғил боғ аъло"


def test_letters_of_2026_are_understood() -> None:
    assert to_cyrillic("yaxşi öğil çiroyli İşonç") == "яхши ўғил чиройли Ишонч"


@pytest.mark.parametrize(
    "text",
    [
        "Telegram WhatsApp PDF",
        "{bot_name} %(count)s %s",
        '<a href="https://x.uz/salom">',
        "https://botfactory.uz/kirish?a=b",
        "/start @BotFather info@dokon.uz narxlar.csv",
        "iPhone 13 128GB, BotFactory, Microsoft, ZIP",
        "developers.facebook.com, www.dokon.uz, bots.dokon.example.uz/kirish",
        "+998 90 123 45 67, 25 000 — 👍",
        "уже Кириллица: сўм",
    ],
)
def test_what_is_not_an_uzbek_word_stays(text: str) -> None:
    assert to_cyrillic(text) == text


def test_names_take_cyrillic_endings() -> None:
    assert to_cyrillic("Telegramda PDFni Payme’ga, DTMga, AQShdan") == "Telegramда PDFни Paymeга, ДТМга, АҚШдан"
    assert (
        to_cyrillic("ID’si Word’da, webhook’larida; OpenAI’dagi, Uzumni")
        == "IDси Wordда, webhookларида; OpenAIдаги, Узумни"
    )


@pytest.mark.parametrize("word", ["Word’", "payme"])
def test_a_word_of_very_many_endings_is_read_at_once(word: str) -> None:
    """Whoever tries every way of joining them is never done, and the whole program waits."""
    endings = "gacha" * 60
    assert to_cyrillic(f"{word}{endings}x?").endswith("?")


def test_a_quoted_word_keeps_its_quotes() -> None:
    assert to_cyrillic("'kilo' ‘gulo’ «do‘kon» bog‘") == "'кило' ‘гуло’ «дўкон» боғ"


def test_cyrillic_turns_to_latin_by_position() -> None:
    assert to_latin("Ер ва елкан, поезд, объект, Шоҳ, ШОҲ, цирк, акция, лицей, щука") == (
        "Yer va yelkan, poyezd, obyekt, Shoh, SHOH, sirk, aksiya, litsey, shuka"
    )
    assert to_latin("Ғўза ўғли маъно АҚШ") == "G‘o‘za o‘g‘li ma’no AQSH"


def test_converting_twice_changes_nothing() -> None:
    text = "O‘zbekistonda to‘lov Click orqali, {name}! Tsex va sirk."
    assert to_cyrillic(to_cyrillic(text)) == to_cyrillic(text)
    assert to_latin(to_latin(to_cyrillic(text))) == to_latin(to_cyrillic(text))


def test_long_and_odd_input_is_harmless() -> None:
    assert to_cyrillic("") == ""
    assert len(to_cyrillic("a'" * 50_000)) == 100_000
    assert to_cyrillic("\U000e0061\x00\ud83d") == "\U000e0061\x00\ud83d"
