"""Price lists as people make them: each row becomes one fact with the names of its columns."""

from __future__ import annotations

from collections.abc import Iterable

import docx
import pytest

from services.knowledge.base import Block
from services.knowledge.csv import CsvReader
from services.knowledge.cutting import cut
from services.knowledge.docx import DocxReader
from tests.services.knowledge import documents as make


def facts(table: str) -> list[str]:
    """The passages of a CSV file, each with its heading before a bar where it has one."""
    return _shown(CsvReader().read(table.strip("\n").encode()))


def _shown(blocks: Iterable[Block]) -> list[str]:
    return [f"{p.heading} | {p.text}" if p.heading else p.text for p in cut(blocks)]


PRICE_LISTS = {
    "units": (
        "№;Наименование;Ед.;Цена, сум;Примечание\n1;Ламинат дуб 8 мм;м2;89 000;класс 32\n2;Плинтус;шт.;25 000;\n",
        [
            "№: 1; Наименование: Ламинат дуб 8 мм; Ед.: м2; Цена, сум: 89 000; Примечание: класс 32",
            "№: 2; Наименование: Плинтус; Ед.: шт.; Цена, сум: 25 000",
        ],
    ),
    "titles-sections-sums": (
        'ООО "Строй Мир";;;;\nПрайс-лист;;;;\nна 01.11.2026;;;;\nТел: +998 90 123 45 67;;;;\n;;;;\n'
        "№;Наименование;Ед. изм.;Цена, сум;Примечание\n;Плитка;;;\n1;Керама 30х30;м2;85 000;\n;Ламинат;;;\n"
        "2;Дуб 8 мм;м2;89 000;класс 32\nИтого;;;174 000;\n",
        [
            'ООО "Строй Мир" › Прайс-лист › на 01.11.2026 | Тел: +998 90 123 45 67',
            'ООО "Строй Мир" › Прайс-лист › на 01.11.2026 › Плитка '
            "| №: 1; Наименование: Керама 30х30; Ед. изм.: м2; Цена, сум: 85 000",
            'ООО "Строй Мир" › Прайс-лист › на 01.11.2026 › Ламинат '
            "| №: 2; Наименование: Дуб 8 мм; Ед. изм.: м2; Цена, сум: 89 000; Примечание: класс 32",
            'ООО "Строй Мир" › Прайс-лист › на 01.11.2026 | Итого: 174 000',
        ],
    ),
    "empty-columns": (
        ";Mahsulot;;Narxi;;Muddat;;;;;;\n;Laminat;;89 000;;3 kun;;;;;;\n;Plitka;;85 000;;1 kun;;;;;;\n",
        ["Mahsulot: Laminat; Narxi: 89 000; Muddat: 3 kun", "Mahsulot: Plitka; Narxi: 85 000; Muddat: 1 kun"],
    ),
    "two-header-lines": (
        "Наименование;Цена, сум;;Остаток\n;розница;опт;\nЛаминат;89 000;80 000;15\n",
        ["Наименование: Ламинат; Цена, сум, розница: 89 000; Цена, сум, опт: 80 000; Остаток: 15"],
    ),
    "units-below-the-header": (
        "Taom;Narxi;Og'irligi\n;so'm;kg\nOsh;25 000;0,5\n",
        ["Taom: Osh; Narxi, so'm: 25 000; Og'irligi, kg: 0,5"],
    ),
    "towns-above-the-header": (
        ";;Ташкент;;Самарканд;\n№;Товар;опт;розница;опт;розница\n1;Дуб;10 000;12 000;11 000;13 000\n",
        [
            "№: 1; Товар: Дуб; Ташкент, опт: 10 000; Ташкент, розница: 12 000; Самарканд, опт: 11 000; "
            "Самарканд, розница: 13 000"
        ],
    ),
    "columns-numbered": (
        "№ п/п;Наименование работ;Ед. изм.;Стоимость\n1;2;3;4\n1;Штукатурка;м2;45 000\n",
        ["№ п/п: 1; Наименование работ: Штукатурка; Ед. изм.: м2; Стоимость: 45 000"],
    ),
    "merged-looking-cells": (
        "Taom;Hajmi;Narxi\nPitsa;kichik;45 000\n;katta;70 000\nLavash;;30 000\nJami;;145 000\n",
        [
            "Taom: Pitsa; Hajmi: kichik; Narxi: 45 000",
            "Taom: Pitsa; Hajmi: katta; Narxi: 70 000",
            "Taom: Lavash; Narxi: 30 000",
            "Jami: 145 000",
        ],
    ),
    "a-code-is-not-merged": (
        "Код;Наименование;Цена\nABC-100;Дуб;1000\n;Сосна;2000\n",
        ["Код: ABC-100; Наименование: Дуб; Цена: 1000", "Наименование: Сосна; Цена: 2000"],
    ),
    "an-empty-note-is-not-merged": (
        "Повод;Наименование;Цена\n;Дуб;1000\nПодарок;Сосна;2000\n;Бук;3000\n",
        [
            "Наименование: Дуб; Цена: 1000",
            "Повод: Подарок; Наименование: Сосна; Цена: 2000",
            "Наименование: Бук; Цена: 3000",
        ],
    ),
    "side-by-side": (
        "Блюдо;Цена;;Блюдо;Цена\nСупы;;;Салаты;\nБорщ;25 000;;Оливье;20 000\nШурпа;30 000;;;\n",
        [
            "Супы | Блюдо: Борщ; Цена: 25 000",
            "Супы | Блюдо: Шурпа; Цена: 30 000",
            "Салаты | Блюдо: Оливье; Цена: 20 000",
        ],
    ),
    "the-header-again-and-another": (
        "Товар;Цена;Срок\nДиск;100;1 день\nТовар;Цена;Срок\nБолт;200;2 дня\n;;\nУслуги;;\nУслуга;Стоимость;Время\n"
        "Мойка;50 000;30 мин\n",
        [
            "Товар: Диск; Цена: 100; Срок: 1 день",
            "Товар: Болт; Цена: 200; Срок: 2 дня",
            "Услуги | Услуга: Мойка; Стоимость: 50 000; Время: 30 мин",
        ],
    ),
    "labels-above-the-header": (
        "Магазин:;Строй Мир;;\nТелефон:;+998 90 123 45 67;;\nТовар;Ед.;Цена;Остаток\nЛаминат;м2;89 000;есть\n",
        [
            "Магазин: Строй Мир",
            "Телефон: +998 90 123 45 67",
            "Товар: Ламинат; Ед.: м2; Цена: 89 000; Остаток: есть",
        ],
    ),
    "sections-in-sections": (
        "Товар;Цена;Ед.\nНАПОЛЬНЫЕ ПОКРЫТИЯ;;\nЛаминат:;;\nДуб;89 000;м2\nПаркет:;;\nЯсень;189 000;м2\nСАНТЕХНИКА;;\n"
        "Кран;450 000;шт\n",
        [
            "НАПОЛЬНЫЕ ПОКРЫТИЯ › Ламинат | Товар: Дуб; Цена: 89 000; Ед.: м2",
            "НАПОЛЬНЫЕ ПОКРЫТИЯ › Паркет | Товар: Ясень; Цена: 189 000; Ед.: м2",
            "САНТЕХНИКА | Товар: Кран; Цена: 450 000; Ед.: шт",
        ],
    ),
    "sums-of-sections": (
        "Иш;Нархи;Изоҳ\nДевор;;\nСувоқ;45 000;\nЖами:;45 000;\nПол;;\nСтяжка;60 000;\nЖами:;60 000;\nУмумий жами:;105 000;\n",
        [
            "Девор | Иш: Сувоқ; Нархи: 45 000",
            "Девор | Жами: 45 000",
            "Пол | Иш: Стяжка; Нархи: 60 000",
            "Пол | Жами: 60 000",
            "Умумий жами: 105 000",
        ],
    ),
    "several-sums": (
        "Товар;Кол-во;Сумма\nСтол;2;200 000\nСтул;4;120 000\nВсего;6;320 000\n",
        [
            "Товар: Стол; Кол-во: 2; Сумма: 200 000",
            "Товар: Стул; Кол-во: 4; Сумма: 120 000",
            "Всего; Кол-во: 6; Сумма: 320 000",
        ],
    ),
    "a-product-called-total": (
        "Масло;Вязкость;Цена\nTotal Quartz 9000;5W40;300 000\n",
        ["Масло: Total Quartz 9000; Вязкость: 5W40; Цена: 300 000"],
    ),
    "notes": (
        "Услуга;Цена;Срок\nМойка;50 000;1 час\nЦены указаны с учётом НДС и действуют до конца месяца.;;\n",
        ["Услуга: Мойка; Цена: 50 000; Срок: 1 час", "Цены указаны с учётом НДС и действуют до конца месяца."],
    ),
    "without-a-price": (
        "Услуга;Цена\nМойка;50 000\nПолировка;\nХимчистка;300 000\n",
        ["Услуга: Мойка; Цена: 50 000", "Услуга: Полировка", "Услуга: Химчистка; Цена: 300 000"],
    ),
    "only-a-name-between-rows": (
        "Nomi,Narxi,Qoldiq\nOlma,12000,5\nBanan,,\nGilos,45000,3\nAnor,,\nShaftoli,,\nUzum,30000,1\nNok,,\n",
        [
            "Nomi: Olma; Narxi: 12000; Qoldiq: 5",
            "Nomi: Banan",
            "Nomi: Gilos; Narxi: 45000; Qoldiq: 3",
            "Nomi: Anor",
            "Nomi: Shaftoli",
            "Nomi: Uzum; Narxi: 30000; Qoldiq: 1",
            "Nomi: Nok",
        ],
    ),
    "only-a-name-where-all-are-in-capitals": (
        "НОМИ;НАРХИ;ҚОЛДИҚ\nОЛМА;12000;5\nБАНАН;;\nГИЛОС;45000;3\n",
        ["НОМИ: ОЛМА; НАРХИ: 12000; ҚОЛДИҚ: 5", "НОМИ: БАНАН", "НОМИ: ГИЛОС; НАРХИ: 45000; ҚОЛДИҚ: 3"],
    ),
    "only-a-name-under-sections-in-capitals": (
        "Товар;Цена;Ед.\nФРУКТЫ;;\nЯблоко;12 000;кг\nБанан;;\nВишня;45 000;кг\nОВОЩИ;;\nЛук;3 000;кг\n",
        [
            "ФРУКТЫ | Товар: Яблоко; Цена: 12 000; Ед.: кг",
            "ФРУКТЫ | Товар: Банан",
            "ФРУКТЫ | Товар: Вишня; Цена: 45 000; Ед.: кг",
            "ОВОЩИ | Товар: Лук; Цена: 3 000; Ед.: кг",
        ],
    ),
    "sections-after-the-first-rows": (
        "№;Товар;Цена\n1;Доставка;30 000\n;Плитка;\n2;Керама;85 000\nЛаминат;;\n3;Дуб;89 000\n",
        [
            "№: 1; Товар: Доставка; Цена: 30 000",
            "Плитка | №: 2; Товар: Керама; Цена: 85 000",
            "Ламинат | №: 3; Товар: Дуб; Цена: 89 000",
        ],
    ),
    "sections-that-stand-out-after-the-first-rows": (
        "Услуга;Цена;Срок\nМойка;50 000;1 час\nКУЗОВ;;\nПокраска;900 000;3 дня\nСалон:;;\nХимчистка;300 000;1 день\n"
        ";;\nШины;;\nЗамена;60 000;1 час\n",
        [
            "Услуга: Мойка; Цена: 50 000; Срок: 1 час",
            "КУЗОВ | Услуга: Покраска; Цена: 900 000; Срок: 3 дня",
            "КУЗОВ › Салон | Услуга: Химчистка; Цена: 300 000; Срок: 1 день",
            "КУЗОВ › Шины | Услуга: Замена; Цена: 60 000; Срок: 1 час",
        ],
    ),
    "only-a-name-in-the-first-row": (
        "Nomi,Narxi,Kafolat\nSmartfon A,,\nSmartfon B,2 000 000,12 oy\nSmartfon C,3 000 000,12 oy\n",
        [
            "Nomi: Smartfon A",
            "Nomi: Smartfon B; Narxi: 2 000 000; Kafolat: 12 oy",
            "Nomi: Smartfon C; Narxi: 3 000 000; Kafolat: 12 oy",
        ],
    ),
    "only-a-name-in-the-first-row-that-looks-like-the-others": (
        "Nomi,Narxi,Kafolat\nKonditsioner,,\nTelevizor,3 000 000,12 oy\nMuzlatgich,4 000 000,24 oy\n",
        [
            "Nomi: Konditsioner",
            "Nomi: Televizor; Narxi: 3 000 000; Kafolat: 12 oy",
            "Nomi: Muzlatgich; Narxi: 4 000 000; Kafolat: 24 oy",
        ],
    ),
    "only-a-name-under-sections-that-are-not-marked": (
        "Nomi,Narxi,Kafolat\nTelefonlar,,\nSamsung A15,2 000 000,12 oy\nSamsung A25,,\nRedmi 13,1 900 000,12 oy\n"
        "Maishiy texnika,,\nMuzlatgich Artel 345,4 000 000,24 oy\nChangyutgich Bosch 22,900 000,6 oy\n",
        [
            "Telefonlar | Nomi: Samsung A15; Narxi: 2 000 000; Kafolat: 12 oy",
            "Telefonlar | Nomi: Samsung A25",
            "Telefonlar | Nomi: Redmi 13; Narxi: 1 900 000; Kafolat: 12 oy",
            "Maishiy texnika | Nomi: Muzlatgich Artel 345; Narxi: 4 000 000; Kafolat: 24 oy",
            "Maishiy texnika | Nomi: Changyutgich Bosch 22; Narxi: 900 000; Kafolat: 6 oy",
        ],
    ),
    "the-first-section-is-what-the-rows-are-kinds-of": (
        "Товар;Цена;Ед.\nТруба;;\nТруба ПП 20;12 000;м\nТруба ПП 25;15 000;м\nDnipro-M;;\nDnipro-M дрель 600;700 000;шт\n"
        "Dnipro-M пила 12;900 000;шт\n",
        [
            "Труба | Товар: Труба ПП 20; Цена: 12 000; Ед.: м",
            "Труба | Товар: Труба ПП 25; Цена: 15 000; Ед.: м",
            "Dnipro-M | Товар: Dnipro-M дрель 600; Цена: 700 000; Ед.: шт",
            "Dnipro-M | Товар: Dnipro-M пила 12; Цена: 900 000; Ед.: шт",
        ],
    ),
    "one-section-in-the-plural-above-single-words": (
        "Taom;Narxi;Hajmi\nIchimliklar;;\nChoy;8 000;0,5 l\nKofe;15 000;0,2 l\nLimonad;12 000;0,3 l\n",
        [
            "Ichimliklar | Taom: Choy; Narxi: 8 000; Hajmi: 0,5 l",
            "Ichimliklar | Taom: Kofe; Narxi: 15 000; Hajmi: 0,2 l",
            "Ichimliklar | Taom: Limonad; Narxi: 12 000; Hajmi: 0,3 l",
        ],
    ),
    "sections-whose-rows-are-called-alike": (
        "Xizmat;Narxi;Muddat\nTish oldirish;;\nKattalar;150 000;20 daq\nBolalar;100 000;15 daq\nTish tozalash;;\n"
        "Kattalar;250 000;40 daq\nBolalar;180 000;30 daq\n",
        [
            "Tish oldirish | Xizmat: Kattalar; Narxi: 150 000; Muddat: 20 daq",
            "Tish oldirish | Xizmat: Bolalar; Narxi: 100 000; Muddat: 15 daq",
            "Tish tozalash | Xizmat: Kattalar; Narxi: 250 000; Muddat: 40 daq",
            "Tish tozalash | Xizmat: Bolalar; Narxi: 180 000; Muddat: 30 daq",
        ],
    ),
    "the-header-again-for-each-branch": (
        "Toshkent filiali;;\nXizmat;Narxi;Muddati\nTozalash;300 000;1 soat\nPlomba;250 000;1 soat\nSamarqand filiali;;\n"
        "Xizmat;Narxi;Muddati\nTozalash;200 000;1 soat\nPlomba;150 000;1 soat\nBuxoro filiali;;\nXizmat;Narxi;Muddati\n"
        "Tozalash;100 000;1 soat\n",
        [
            "Toshkent filiali | Xizmat: Tozalash; Narxi: 300 000; Muddati: 1 soat",
            "Toshkent filiali | Xizmat: Plomba; Narxi: 250 000; Muddati: 1 soat",
            "Samarqand filiali | Xizmat: Tozalash; Narxi: 200 000; Muddati: 1 soat",
            "Samarqand filiali | Xizmat: Plomba; Narxi: 150 000; Muddati: 1 soat",
            "Buxoro filiali | Xizmat: Tozalash; Narxi: 100 000; Muddati: 1 soat",
        ],
    ),
    "a-gap-above-one-section-only": (
        "Nomi;Narxi;Izoh\nOsh;35 000;\nManti;30 000;\n;;\nIchimliklar;;\nChoy;3 000;\nSalatlar;;\nAchichuk;10 000;issiq\n",
        [
            "Nomi: Osh; Narxi: 35 000",
            "Nomi: Manti; Narxi: 30 000",
            "Ichimliklar | Nomi: Choy; Narxi: 3 000",
            "Salatlar | Nomi: Achichuk; Narxi: 10 000; Izoh: issiq",
        ],
    ),
    "sections-with-figures": (
        "Номер;Цена;Завтрак\nСтандарт;;\n2 человека;500 000;да\n3 человека;700 000;да\nЛюкс 1;;\n2 человека;900 000;да\n",
        [
            "Стандарт | Номер: 2 человека; Цена: 500 000; Завтрак: да",
            "Стандарт | Номер: 3 человека; Цена: 700 000; Завтрак: да",
            "Люкс 1 | Номер: 2 человека; Цена: 900 000; Завтрак: да",
        ],
    ),
    "a-section-named-like-one-of-its-own-rows": (
        "Модель;Цена;Память\nSamsung;;\nGalaxy A15;2 100 000;128\nGalaxy S24;9 900 000;256\nXiaomi;;\n"
        "Redmi Note 13;2 500 000;128\nXiaomi 14T;6 500 000;256\n",
        [
            "Samsung | Модель: Galaxy A15; Цена: 2 100 000; Память: 128",
            "Samsung | Модель: Galaxy S24; Цена: 9 900 000; Память: 256",
            "Xiaomi | Модель: Redmi Note 13; Цена: 2 500 000; Память: 128",
            "Xiaomi | Модель: Xiaomi 14T; Цена: 6 500 000; Память: 256",
        ],
    ),
    "abbreviated-names-of-columns": (
        "№;Ф.И.О.;Ед.изм.;Цена.\n1;Алиев;шт;5 000\n2;Валиев;кг;3 000\n",
        ["№: 1; Ф.И.О.: Алиев; Ед.изм.: шт; Цена.: 5 000", "№: 2; Ф.И.О.: Валиев; Ед.изм.: кг; Цена.: 3 000"],
    ),
    "sizes-as-names-of-columns": (
        "Модель;36;37;38\nТуфли;нет;есть;есть\nБотинки;есть;нет;нет\n",
        ["Модель: Туфли; 36: нет; 37: есть; 38: есть", "Модель: Ботинки; 36: есть; 37: нет; 38: нет"],
    ),
    "no-header": ("Osh,25000\nManti,20000\n", ["Osh: 25000", "Manti: 20000"]),
    "a-header-of-sentences-is-none": (
        "Qayerdasiz?,Chilonzorda.\nYetkazib berasizmi?,Ha.\n",
        ["Qayerdasiz? Chilonzorda.", "Yetkazib berasizmi? Ha."],
    ),
}


@pytest.mark.parametrize("name", PRICE_LISTS)
def test_each_row_is_a_fact_with_its_names(name: str) -> None:
    table, expected = PRICE_LISTS[name]
    assert facts(table) == expected


@pytest.mark.parametrize("name", PRICE_LISTS)
def test_a_word_table_tells_the_same(name: str) -> None:
    table, expected = PRICE_LISTS[name]
    rows = [line.split(";" if ";" in table else ",") for line in table.strip("\n").split("\n")]

    def build(document: docx.document.Document) -> None:
        made = document.add_table(rows=len(rows), cols=len(rows[0]))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                made.cell(number, column).text = text

    assert _shown(DocxReader().read(make.word(build))) == expected


def test_merged_cells_of_word_stand_for_what_they_span() -> None:
    rows = [
        ("Отделочные материалы", "", "", "", ""),
        ("№", "Наименование", "Ед. изм.", "Цена, сум", ""),
        ("", "", "", "розница", "опт"),
        ("Плитка", "", "", "", ""),
        ("1", "Керама", "м2", "85 000", "80 000"),
        ("2", "", "шт.", "5 000", "4 500"),
        ("Итого", "", "", "90 000", ""),
    ]

    def build(document: docx.document.Document) -> None:
        document.add_heading("Прайс-лист", 1)
        table = document.add_table(rows=len(rows), cols=5)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                if text:
                    table.cell(number, column).text = text
        for whole in (0, 3):
            table.cell(whole, 0).merge(table.cell(whole, 4))
        table.cell(1, 3).merge(table.cell(1, 4))
        for column in range(3):
            table.cell(1, column).merge(table.cell(2, column))
        table.cell(4, 1).merge(table.cell(5, 1))

    above = "Прайс-лист › Отделочные материалы › Плитка | "
    assert _shown(DocxReader().read(make.word(build))) == [
        f"{above}№: 1; Наименование: Керама; Ед. изм.: м2; Цена, сум, розница: 85 000; Цена, сум, опт: 80 000",
        f"{above}№: 2; Наименование: Керама; Ед. изм.: шт.; Цена, сум, розница: 5 000; Цена, сум, опт: 4 500",
        f"{above}Итого: 90 000",
    ]


def test_a_cell_as_wide_as_a_word_table_heads_a_section_and_a_name_alone_does_not() -> None:
    rows = [
        ("Taom", "Narxi", "Hajmi"),
        ("Non", "5 000", "1 dona"),
        ("Ichimliklar", "", ""),
        ("Choy", "8 000", "0,5 l"),
        ("Limonad", "", ""),
        ("Kofe", "15 000", "0,2 l"),
    ]

    def build(document: docx.document.Document) -> None:
        table = document.add_table(rows=len(rows), cols=3)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                if text:
                    table.cell(number, column).text = text
        table.cell(2, 0).merge(table.cell(2, 2))

    assert _shown(DocxReader().read(make.word(build))) == [
        "Taom: Non; Narxi: 5 000; Hajmi: 1 dona",
        "Ichimliklar | Taom: Choy; Narxi: 8 000; Hajmi: 0,5 l",
        "Ichimliklar | Taom: Limonad",
        "Ichimliklar | Taom: Kofe; Narxi: 15 000; Hajmi: 0,2 l",
    ]


def test_rows_know_their_place_and_what_is_their_own() -> None:
    blocks = list(CsvReader().read("Прайс;;\nТовар;Цена;Срок\nСтол;100;1 день\n".encode()))
    assert [(block.kind, block.locus, block.own) for block in blocks] == [
        ("heading", "row:1", None),
        ("row", "row:3", len("Стол1001 день")),
    ]
    assert isinstance(blocks[0], Block)


def test_a_long_row_with_a_number_repeats_its_name() -> None:
    head = ";".join(["№", "Nomi", *(f"Ustun {number}" for number in range(60))])
    row = ";".join(["17", "Samsung Galaxy", *(f"uzun qiymat raqami {number}" for number in range(60))])
    found = facts(f"{head}\n{row}\n")
    assert len(found) > 1
    assert all(text.startswith("№: 17; Nomi: Samsung Galaxy; ") for text in found)
