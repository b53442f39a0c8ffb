"""What is quoted where no model answers: in the customer's script, with its section, and for every question of a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from db import models
from services import answers, spelling
from services.core import Core
from services.i18n import translate
from services.knowledge import documents
from tests.composition import Shop, add_document, make_settings, make_shop, running

CSV = """Mahsulot;Rangi;Narxi
Palto;kulrang;900 000
Nike Air Jordan;oq;1 890 000
Opening Set;qora;50 000
Sement;kulrang;52 000
"""
CLINIC = """Услуга,Цена,Время
Взрослым,,
Удаление зуба,200 000,30 мин
Детям,,
Удаление зуба,80 000,15 мин
"""
TXT = """Bilim Nuri maktabi

Direktor: Saidova Nilufar Baxtiyorovna.

Teeth whitening 500 000

Shaxmat to‘garagi: dushanba, juma 15:30

Futbol: seshanba, shanba 16:00
"""
FEES = """# Maktab

## 2026-yil uchun to‘lovlar

## Yillik to‘lov

1-sinf 21 600 000 so‘m
7-sinf 25 200 000 so‘m
"""
UNKNOWN = "I have no information about “{question}” 🙏 I have passed the question on."
LEAD = "Here is what I found for you 📄"
WELCOME = "You are welcome 😊 If you have another question, just write."
ALL_RIGHT = "All right 😊 If you have a question, just write."
IN_WORDS = "Please write your question in words 🙂 Write /operator to talk to a person."
HELLO = "Hello! 👋 I am {name}. What would you like to know?"
TALK = (("user", "Kosmik kemalar bormi?"), ("assistant", "Uzr, bilmayman."))


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Core, Shop]]:
    """A business without a model."""
    async with running(make_settings(tmp_path_factory.mktemp("quotes")), "worker") as core:
        shop = await make_shop(core, document=TXT)
        await add_document(core, shop.bot, "narxlar.csv", CSV.encode())
        await add_document(core, shop.bot, "klinika.csv", CLINIC.encode())
        await add_document(core, shop.bot, "tolov.txt", FEES.encode())
        yield core, shop


async def _ask(
    place: tuple[Core, Shop], question: str, language: str, recent: Sequence[Sequence[str]] = ()
) -> answers.Answer:
    core, shop = place
    async with core.db.read() as session:
        bot = await session.get_one(models.Bot, shop.bot.id)
    return await answers.answer(core, answers.card_of(bot), question, language, recent)


@pytest.mark.parametrize(
    ("question", "language", "shown"),
    [
        ("Директор ким?", "uz-Cyrl", "Директор: Саидова Нилуфар Бахтиёровна.\n"),
        ("Шахмат қачон?", "uz-Cyrl", "Шахмат тўгараги: душанба, жума 15:30\nФутбол: сешанба, шанба 16:00"),
        ("Палто ранги қанақа?", "uz-Cyrl", "• Маҳсулот: Палто\n• Ранги: кулранг\n• Нархи: 900 000"),
        ("Nike Air Jordan нархи қанча?", "uz-Cyrl", "• Маҳсулот: Nike Air Jordan\n• Ранги: оқ\n• Нархи: 1 890 000"),
        ("Opening set нархи?", "uz-Cyrl", "• Маҳсулот: Opening Set\n"),
        ("Whitening қанча?", "uz-Cyrl", "Teeth whitening 500 000\n"),
        ("Palto rangi", "uz", "• Mahsulot: Palto\n"),
        (
            "удаление зуба цена",
            "uz-Cyrl",
            "Детям:\n• Услуга: Удаление зуба\n• Цена: 80 000\n• Время: 15 мин\n\n"
            "Взрослым:\n• Услуга: Удаление зуба\n• Цена: 200 000\n• Время: 30 мин",
        ),
        ("удаление зуба детям", "ru", "Детям:\n• Услуга: Удаление зуба\n• Цена: 80 000\n• Время: 15 мин"),
    ],
)
async def test_a_quote_is_in_the_customers_script_and_says_its_section(
    place: tuple[Core, Shop], question: str, language: str, shown: str
) -> None:
    result = await _ask(place, question, language)
    assert result.answered and result.provider == "extractive"
    blocks = result.text.removeprefix(f"{translate(language, LEAD)}\n\n")
    if shown.startswith("Детям:") and shown.count("Услуга") > 1:
        assert sorted(blocks.split("\n\n")) == sorted(shown.split("\n\n"))
    else:
        assert shown in f"{blocks}\n"


async def test_a_heading_with_nothing_under_it_answers_nothing(place: tuple[Core, Shop]) -> None:
    result = await _ask(place, "2026-yil uchun to'lov 7-sinfga", "uz")
    assert any("2026" in passage.text for passage in result.sources)
    assert result.text.endswith("Yillik to‘lov:\n7-sinf 25 200 000 so‘m")


LINES = {
    "uz-Cyrl": """
Direktor: Saidova Nilufar Baxtiyorovna. | Manzil: Toshkent, Yunusobod tumani, 4-mavze, 12-uy. | Toshkent, Chilonzor 5
Dushanba, chorshanba, juma | Matematika 450 000 | Robototexnika — dushanba, chorshanba 15:30 | Bepul | Karta orqali
Shanba-yakshanba dam olamiz | Yetkazish bepul | Faqat naqd pul qabul qilinadi | Yakshanba: dam olish
Eski shahar, Chorsu bozori yonida
""",
    "uz": """
Манзил: Тошкент, Чилонзор 5 | Душанба, чоршанба, жума | Фақат нақд | Шанба куни дам олиш | Бепул | Карта орқали
Эски шаҳар, Чорсу бозори ёнида | Тошкент бўйлаб бепул | Дам олиш: якшанба | Ташриф учун олдиндан ёзилинг
""",
}
FOREIGN = """
Доставка: 25 000 сум | Массаж лица 150 000 сум | Цена: договорная | Режим: круглосуточно | Гарантия 1 год | Бесплатно
Маникюр, педикюр | Молоко: нет | Free delivery | Samsung Galaxy A15 | Opening hours: 9-20 | Price: 12 000
Apple iPhone 15 128GB | Ibuprofen 200 mg tablets
"""


def _pieces(text: str) -> list[str]:
    return [piece.strip() for line in text.strip().splitlines() for piece in line.split("|")]


@pytest.mark.parametrize("language", ["uz", "uz-Cyrl"])
def test_lines_of_documents_are_shown_in_the_script_of_the_customer(language: str) -> None:
    assert [line for line in _pieces(LINES[language]) if spelling.quoted_in_script(line, language) == line] == []
    assert [line for line in _pieces(FOREIGN) if spelling.quoted_in_script(line, language) != line] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("• Nomi: Nok\n• Rangi: qora\n• Razmer: 42", "• Номи: Нок\n• Ранги: қора\n• Размер: 42"),
        ("• Nomi: Coca-Cola Zero 1L\n• Narxi: 12 000", "• Номи: Coca-Cola Zero 1L\n• Нархи: 12 000"),
        ("• Модель: Nike Air Jordan\n• Цена: 890 000", "• Модель: Nike Air Jordan\n• Цена: 890 000"),
        ("Bizda Samsung televizorlari arzon", "Бизда Samsung телевизорлари арзон"),
        ("• Nomi: Uzum\n• Narxi: 20 000", "• Номи: Узум\n• Нархи: 20 000"),
        ("Test 5-sinfdan boshlab topshiriladi", "Тест 5-синфдан бошлаб топширилади"),
        ("Yetkazib berish bepul\nFree delivery", "Етказиб бериш бепул\nFree delivery"),
    ],
)
def test_names_and_other_languages_beside_uzbek_stay(text: str, shown: str) -> None:
    assert spelling.quoted_in_script(text, "uz-Cyrl") == shown
    assert spelling.quoted_in_script(text, "ru") == text


@pytest.mark.parametrize(
    "message", ["Sement narxi?\nYetkazib berish bormi?", "Sement narxi qancha? Yetkazib berish bormi?"]
)
async def test_a_message_with_two_questions_loses_none(place: tuple[Core, Shop], message: str) -> None:
    result = await _ask(place, message, "uz")
    assert result.answered and result.unanswered == ["Yetkazib berish bormi?"]
    assert "52 000" in result.text
    assert result.text.endswith(translate("uz", UNKNOWN, question="Yetkazib berish bormi?"))


@pytest.mark.parametrize(
    "message", ["Sement bormi? Narxi qancha?", "Men Chilonzordanman.\nSement qancha?", "Sement bormi? Kulrang kerak"]
)
async def test_what_belongs_to_a_question_is_no_question_of_its_own(place: tuple[Core, Shop], message: str) -> None:
    result = await _ask(place, message, "uz")
    assert result.answered and result.unanswered == []
    assert result.text.count("•") == 3 and "52 000" in result.text


async def test_a_message_full_of_question_marks_makes_few_questions(place: tuple[Core, Shop]) -> None:
    result = await _ask(place, "".join(f"Kosmik kema {number}? " for number in range(40)), "uz")
    assert not result.answered and len(result.unanswered) <= answers.MOST_SEARCHES


@pytest.mark.parametrize(
    ("said", "text"),
    [
        *dict.fromkeys(("?", "...", "?!"), IN_WORDS).items(),
        *dict.fromkeys(
            ("Ha", "да", "yo'q", "Йўқ", "Rahmat, kerak emas", "нет, спасибо", "+", "xo‘p", "ок", "👍"), ALL_RIGHT
        ).items(),
        *dict.fromkeys(("rahmat", "Катта раҳмат!", "спасибо 👍", "thanks"), WELCOME).items(),
    ],
)
async def test_what_asks_nothing_is_no_question_for_the_owner(place: tuple[Core, Shop], said: str, text: str) -> None:
    result = await _ask(place, said, "uz", TALK)
    assert (result.text, result.answered, result.unanswered) == (translate("uz", text), True, [])
    first = await _ask(place, said, "uz")
    assert first.text == translate("uz", HELLO, name=place[1].bot.name)


async def test_yes_to_a_question_of_ours_goes_on_with_what_was_asked(place: tuple[Core, Shop]) -> None:
    talk = [["user", "Sement bormi?"], ["assistant", "Ha, bor. Narxini aytaymi? 😊"]]
    assert "52 000" in (await _ask(place, "Ha", "uz", talk)).text
    talk[1][1] = "Ha, bor."
    assert (await _ask(place, "Ha", "uz", talk)).text == translate("uz", ALL_RIGHT)


async def test_one_word_that_fits_better_to_the_question_before_belongs_to_it(place: tuple[Core, Shop]) -> None:
    talk = [["user", "Sement bormi?"], ["assistant", "Ha, bor."]]
    assert "52 000" in (await _ask(place, "kulrangmi?", "uz", talk)).text
    assert "15:30" in (await _ask(place, "Shaxmat?", "uz", talk)).text


async def test_what_was_taught_is_said_without_a_lead_in(tmp_path: Path) -> None:
    async with running(make_settings(tmp_path), "worker") as core:
        shop = await make_shop(core)
        async with core.db.write() as session:
            await documents.add_answer(session, shop.bot, "Kosmik kemalar bormi?", "Yo‘q, hozircha uchmaymiz.")
        said = await _ask((core, shop), "Kosmik kemalar bormi?", "uz")
        assert said.text == "Yo‘q, hozircha uchmaymiz."


async def test_a_telephone_is_quoted_though_a_column_is_called_number(tmp_path: Path) -> None:
    async with running(make_settings(tmp_path), "worker") as core:
        shop = await make_shop(core, document="Тел.: +998 90 123 45 67\n")
        await add_document(core, shop.bot, "a.csv", "Наименование;Цена;Номер\nГруша;15 000;2\n".encode())
        assert "+998 90 123 45 67" in (await _ask((core, shop), "Номер телефона?", "ru")).text
