"""Words around the subject: what asks for a telephone or a price, what only asks for leave, and what merely looks alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import bots
from services.core import Core
from services.knowledge.search import Found
from tests.composition import Shop, add_document, make_settings, make_shop, running

PRICES = "Nomi;Narxi;Soni\nOlma;12 000;kg\nNok;15 000;kg\nUzum;20 000;kg\n" + "".join(
    f"Meva {n};{n} 500;kg\n" for n in range(10, 20)
)
NUMBERED = "Наименование;Цена;Номер\nЯблоко;12 000;1\nГруша;15 000;2\n" + "".join(
    f"Плод сорта {n};{n} 500;{n}\n" for n in range(10, 20)
)
SHOP_UZ = (
    "Bizning do'kon\n\nManzil: Toshkent, Chilonzor 5.\n\nTel: +998 90 123 45 67\n\nHar kuni 9:00 dan 20:00 gacha.\n"
)
SHOP_RU = (
    "О магазине\n\nАдрес: Ташкент, Чиланзар 5.\n\n+998 90 123 45 67, +998 71 200 11 22\n\nРаботаем с 9:00 до 20:00.\n"
)
CLINIC = (
    "Savol: Bo'lib to'lash mumkinmi?\nJavob: Ha, implant uchun 6 oygacha bo'lib to'lash mumkin.\n\n"
    "Savol: Og'riqsiz davolaysizmi?\nJavob: Ha, hamma muolajalar anesteziya bilan bajariladi.\n\n"
    "Kiyimni 14 kun ichida cheki bilan almashtirib berish mumkin.\n"
)
CLOTHES = (
    "Наименование;Размеры;Цвет;Цена\nКроссовки белые;36-45;белый;890 000\nДжинсы;30-38;синий;390 000\n"
    "Школьная форма (мальчик);122-158;синий;280 000\nПлатье летнее;42-52;белый;220 000\n"
)
PHONE_QUESTIONS = (
    "Telefon raqamingiz?",
    "telefon nomeringizni bering",
    "do'kon telefoni",
    "Tel raqam",
    "Номер телефона?",
    "Какой у вас телефон?",
    "phone number?",
    "телефон рақамингиз",
    "Как с вами связаться?",
    "Куда позвонить?",
    "aloqa uchun raqam",
)


async def _search(core: Core, shop: Shop, question: str) -> Found:
    async with core.db.read() as session:
        bot = await bots.get(session, shop.owner, shop.bot.id)
    return await core.search.search(bot.id, bot.knowledge_version, question)


@pytest.mark.parametrize("most_in_memory", [3000, 10])
async def test_a_telephone_is_found_however_it_is_written_and_asked_for(
    most_in_memory: int, database_url: str, tmp_path: Path
) -> None:
    settings = make_settings(
        tmp_path, database_url, overrides={"knowledge": {"max_passages_in_memory": most_in_memory}}
    )
    async with running(settings, "worker") as core:
        for name, table, text in (("uz", PRICES, SHOP_UZ), ("ru", NUMBERED, SHOP_RU)):
            shop = await make_shop(core, name, email=f"{name}@example.uz", document=text)
            await add_document(core, shop.bot, "narx.csv", table.encode())
            first = {q: found for q in PHONE_QUESTIONS if (found := await _search(core, shop, q)).found}
            assert {q for q, found in first.items() if "123 45 67" in found.passages[0].text} == set(PHONE_QUESTIONS)


async def test_a_column_of_numbers_is_no_telephone(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document="Доставка по городу бесплатно.")
        await add_document(core, shop.bot, "narx.csv", NUMBERED.encode())
        assert not [q for q in PHONE_QUESTIONS if (await _search(core, shop, q)).found]
        assert (await _search(core, shop, "какой номер у груши")).found


async def test_words_that_only_ask_name_no_subject(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=CLINIC)
        for question in (
            *("сколько стоят?", "сколько стоят они?", "почём?", "почем", "по чём", "pochom?", "qancha bo'ladi"),
            *("Bo'ladimi?", "бўлдими", "bo'larmikan", "Bo'lmaydimi?"),
        ):
            assert (await _search(core, shop, question)).content_words == 0, question


async def test_asking_for_leave_is_not_paying_by_instalments(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=CLINIC)
        for question in ("Ertaga bo'ladimi?", "Kelsam bo'ladimi", "Флюс бўлди нима қилай"):
            assert not (await _search(core, shop, question)).found, question
        for question, right in (
            ("Bo'lib to'lasam bo'ladimi?", "6 oygacha"),
            ("almashtirsa bo'ladimi", "14 kun"),
            ("Больно ли будет?", "anesteziya"),
            ("og'riydimi", "anesteziya"),
        ):
            found = await _search(core, shop, question)
            assert found.found, question
            assert right in found.passages[0].text, question


async def test_what_only_looks_a_little_alike_is_not_found(sqlite_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, sqlite_url), "worker") as core:
        shop = await make_shop(core, document=SHOP_UZ)
        await add_document(core, shop.bot, "narx.csv", CLOTHES.encode())
        for question in ("Оформите заказ", "можно фото?", "shim bormi"):
            assert not (await _search(core, shop, question)).found, question
        for question, right in (("кросовки есть?", "Кроссовки"), ("krossovka bormi", "Кроссовки"), ("jinsi", "Джинсы")):
            found = await _search(core, shop, question)
            assert found.found, question
            assert right in found.passages[0].text, question
