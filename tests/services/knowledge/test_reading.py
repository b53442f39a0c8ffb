"""Documents are read whole or refused with a reason, and never harm the process that asked."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import chardet
import docx
import psutil
import pytest

from services.errors import Invalid, Unavailable
from services.knowledge import READERS
from services.knowledge.base import CODES, ReadError
from services.knowledge.reading import IndexedPassage, ReadLimits, read_document, sniff
from tests.services.knowledge import documents as make

DATA = Path(__file__).parents[2] / "data"
KB = DATA / "retrieval" / "kb"
RUSSIAN = (
    "Доставка по городу бесплатная при заказе от трёхсот тысяч сум.\n\n"
    "Возврат товара возможен в течение десяти дней, если сохранён чек."
)
UZBEK_PLAIN = "Буюртмани телефон оркали кабул киламиз. Етказиб бериш икки соат ичида бепул."


async def texts(name: str, data: bytes, **more: object) -> list[str]:
    return [passage.text for passage in await read_document(name, data, **more)]  # type: ignore[arg-type]  # passed on by name as they came


async def code_of(name: str, data: bytes, **more: object) -> str:
    with pytest.raises(ReadError) as caught:
        await read_document(name, data, **more)  # type: ignore[arg-type]  # passed on by name as they came
    return caught.value.code


def children() -> list[psutil.Process]:
    """The reading children of this process that are alive."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "child.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """After each test no child lives and no scratch folder is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert children() == []
    assert list(tmp_path.glob("botfactory-read-*")) == []


# --- what is read ----------------------------------------------------------------------------------------------------


async def test_every_sample_document_becomes_passages_with_all_of_its_evidence() -> None:
    for path in sorted(KB.glob("*/*")):
        passages = await read_document(path.name, path.read_bytes())
        words = " ".join(f"{passage.heading} {passage.text}" for passage in passages).replace(";", " ").split()
        for line in path.read_text("utf-8").splitlines():
            for word in line.replace(",", " ").replace(";", " ").split():
                assert any(word in known for known in words), (path.name, word)
        assert all(len(passage.text) <= 900 for passage in passages)
        assert all(passage.stems and passage.grams and passage.locus for passage in passages)


async def test_a_heading_stays_with_its_paragraph() -> None:
    passages = await read_document("savollar.txt", (KB / "chinor_stom" / "savollar.txt").read_bytes())
    hours = next(passage for passage in passages if "shanbagacha" in passage.text)
    assert hours.heading.endswith("› Ish vaqti")
    assert hours.locus == "line:7"


async def test_a_question_and_its_answer_are_one_passage() -> None:
    faq = (
        "Savollar\n\nSavol: Yetkazib berish qancha?\nJavob: 30 000 so'm.\nSavol: Qaytarish mumkinmi?\nJavob: Ha, 10 kun.\n\n"
        "Q: Do you ship abroad?\n\nA: No.\n\nВо сколько вы открываетесь?\nВ 9:00 каждый день.\n\nКак оплатить?\n\nКартой."
    )
    assert await texts("faq.txt", faq.encode()) == [
        "Savol: Yetkazib berish qancha?\nJavob: 30 000 so'm.",
        "Savol: Qaytarish mumkinmi?\nJavob: Ha, 10 kun.",
        "Q: Do you ship abroad?\nA: No.",
        "Во сколько вы открываетесь?\nВ 9:00 каждый день.",
        "Как оплатить?\nКартой.",
    ]


async def test_a_long_paragraph_is_cut_at_ends_of_sentences_and_loses_nothing() -> None:
    sentences = [
        f"{number} raqamli xonada g. Toshkent ko'chasi bo'yicha {number * 7} kishi ishlaydi." for number in range(80)
    ]
    found = await texts("long.txt", " ".join(sentences).encode())
    assert len(found) > 4
    assert all(len(text) <= 900 and text.endswith("ishlaydi.") for text in found)
    assert " ".join(found) == " ".join(sentences)


async def test_text_without_any_space_is_cut_too() -> None:
    found = await texts("long.txt", b"a" * 5000)
    assert "".join(found) == "a" * 5000
    assert max(map(len, found)) <= 900


async def test_progress_rises() -> None:
    seen: list[int] = []

    async def progress(percent: int) -> None:
        seen.append(percent)

    await read_document("a.csv", csv_of(300), on_progress=progress)
    assert len(seen) > 5
    assert seen == sorted(set(seen))
    assert seen[0] > 0 and seen[-1] < 100


# --- TXT -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_text_in_every_unicode_form(encoding: str) -> None:
    text = f"{RUSSIAN}\n\nҚўнғироқ қилинг, ғишт ҳам бор. O‘zbekcha so‘z."
    data = text.encode(encoding)
    if encoding == "utf-16":
        assert data.startswith(b"\xff\xfe")
    assert " ".join(await texts("a.txt", data)).split() == text.split()


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic"])
@pytest.mark.parametrize("text", [RUSSIAN, UZBEK_PLAIN, "Прайс-лист: замена масла, 80 000 сум", RUSSIAN.upper()])
async def test_text_in_every_cyrillic_encoding(encoding: str, text: str) -> None:
    assert " ".join(await texts("a.txt", text.encode(encoding))).split() == text.split()


async def test_koi8_of_a_few_words_and_agreement_with_chardet() -> None:
    for line in ("Добрый день", "Цена с доставкой", "Часы работы", "ул. Навои, 25", "Гарантия один год"):
        assert await texts("a.txt", line.encode("koi8-r")) == [line]
    assert str(chardet.detect((RUSSIAN * 3).encode("koi8-r"))["encoding"]).lower() == "koi8-r"


@pytest.mark.parametrize(
    "text", ["Café crème à la française, très bon", "Schöne Grüße aus München", "El niño comió piñata"]
)
async def test_western_text(text: str) -> None:
    assert await texts("a.txt", text.encode("cp1252")) == [text]


async def test_utf8_cut_in_the_middle_of_a_letter_stays_utf8() -> None:
    assert (await texts("a.txt", RUSSIAN.encode()[:-4]))[-1].startswith("Возврат товара")


async def test_text_that_was_decoded_wrongly_before_is_mended() -> None:
    broken = RUSSIAN.encode("cp1251").decode("latin-1").encode("utf-8")
    assert " ".join(await texts("a.txt", broken)).split() == RUSSIAN.split()


async def test_invisible_characters_do_not_get_through() -> None:
    data = "Price\u202e list\u200b \U000e0041\U000e0042costs\ufeff 5\x07 000 sum and more words to keep it readable.".encode()
    assert await texts("a.txt", data) == ["Price list costs 5 000 sum and more words to keep it readable."]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b" \r\n\t \n", "empty"),
        (b"\0\0\0\0", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"--- ... ***\n!!!", "empty"),
        (random.Random(1).randbytes(5000), "not_this_type"),
        (bytes(range(128, 256)) * 20, "unreadable_letters"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 100, "not_this_type"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "not_this_type"),
        (b"{\\rtf1\\ansi Hello}", "not_this_type"),
        (b"\x7fELF" + bytes(100), "not_this_type"),
        (b"10 MB of text. " * 700_000, "too_large"),
    ],
)
async def test_text_that_is_refused(data: bytes, code: str) -> None:
    assert await code_of("a.txt", data) == code


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_of(rows: int) -> bytes:
    lines = ["Mahsulot,Narxi,Izoh", *(f"Tovar raqami {row},{row} 000 so'm,omborda bor" for row in range(rows))]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_a_row_with_its_header_names_is_one_fact(encoding: str, delimiter: str) -> None:
    rows = [
        ("Услуга", "Цена", "Примечание"),
        ("Замена масла", "80 000", "фильтр отдельно"),
        ("Диагностика", "", "бесплатно"),
    ]
    data = "\r\n".join(delimiter.join(row) for row in rows).encode(encoding)
    passages = await read_document("prays.CSV", data)
    assert [(passage.text, passage.locus) for passage in passages] == [
        ("Услуга: Замена масла; Цена: 80 000; Примечание: фильтр отдельно", "row:2"),
        ("Услуга: Диагностика; Примечание: бесплатно", "row:3"),
    ]


async def test_quotes_line_breaks_and_the_hint_of_excel() -> None:
    data = b'sep=;\r\nName;Text\r\n"a;b";"two\r\nlines and ""quotes"""\r\n'
    assert await texts("a.csv", data) == ['Name: a;b; Text: two lines and "quotes"']


async def test_a_quote_that_nobody_closes_does_not_swallow_the_rest() -> None:
    rows = "\n".join(f"Televizor {row},{row} 000" for row in range(300))
    found = await texts("a.csv", f'Nomi,Narxi\n"14 dyuym,100\n{rows}'.encode())
    assert len(found) == 301
    assert found[-1] == "Nomi: Televizor 299; Narxi: 299 000"


async def test_titles_and_sections_of_a_price_list_become_headings() -> None:
    data = "Прайс-лист 2026;;\nУслуга;Цена;Срок\nТормоза;;\nКолодки;120 000;1 час\nМотор;;\nМасло;80 000;30 минут\n".encode(
        "cp1251"
    )
    assert [(passage.heading, passage.text) for passage in await read_document("a.csv", data)] == [
        ("Прайс-лист 2026 › Тормоза", "Услуга: Колодки; Цена: 120 000; Срок: 1 час"),
        ("Прайс-лист 2026 › Мотор", "Услуга: Масло; Цена: 80 000; Срок: 30 минут"),
    ]


async def test_rows_without_a_header_are_kept() -> None:
    assert await texts("a.csv", b"Osh,25000\nManti,20000\n") == ["Osh: 25000", "Manti: 20000"]
    assert await texts("a.csv", b"Qayerdasiz?,Chilonzorda.\nNarxi?,5 ming.\n") == [
        "Qayerdasiz? Chilonzorda.",
        "Narxi? 5 ming.",
    ]
    assert await texts("a.csv", b"Name,Price,Note\n") == ["Name; Price; Note"]


async def test_formulas_and_nul_are_text() -> None:
    data = b"Name,Price\n=cmd|' /C calc'!A0,+5\n@SUM(1),\0-7\n"
    assert await texts("a.csv", data) == ["Name: =cmd|' /C calc'!A0; Price: +5", "Name: @SUM(1); Price: -7"]


async def test_a_row_that_is_too_long_repeats_its_name() -> None:
    head = ",".join(["Nomi", *(f"Ustun {number}" for number in range(60))])
    row = ",".join(["Samsung Galaxy", *(f"uzun qiymat raqami {number}" for number in range(60))])
    found = await texts("a.csv", f"{head}\n{row}".encode())
    assert len(found) > 1
    assert all(text.startswith("Nomi: Samsung Galaxy; ") and len(text) <= 900 for text in found)


@pytest.mark.parametrize(
    "data",
    [
        b'a,b\n"' + b"x" * 1_100_000 + b'",2\n',
        b",".join(b"%d" % number for number in range(2_001)) + b"\n",
        b"1,2\n" * 200_001,
    ],
)
async def test_a_table_that_is_too_large_is_refused(data: bytes) -> None:
    assert await code_of("a.csv", data) == "too_large"


async def test_names_of_columns_do_not_count_against_the_limit() -> None:
    head = "Наименование товара по каталогу;Единица измерения;Цена за единицу, сум;Примечание"
    data = "\n".join([head, *(f"Ламинат дуб {row};м2;{row} 000;класс {row % 40}" for row in range(300))]).encode()
    limits = ReadLimits(max_characters=len(data.decode()))
    passages = await read_document("prays.csv", data, limits=limits)
    assert len(passages) == 300
    assert sum(len(passage.text) for passage in passages) > 2 * limits.max_characters


async def test_names_of_columns_cannot_make_a_text_without_end() -> None:
    head = ";".join(f"{'Характеристика изделия по каталогу ' * 2}{number}" for number in range(100))
    data = "\n".join([head, *(";".join("1" * 100) for _ in range(200))]).encode()
    assert await code_of("keng.csv", data, limits=ReadLimits(max_characters=len(data.decode()))) == "too_large"


# --- DOCX ------------------------------------------------------------------------------------------------------------


def full_word(document: docx.document.Document) -> None:
    document.add_heading("Shartlar", 0)
    document.add_heading("Yetkazib berish", 1)
    paragraph = document.add_paragraph("Toshkent bo'ylab yetkazish ")
    paragraph._p.append(
        make.body_xml("<w:ins w:id='1' w:author='a'><w:r><w:t xml:space='preserve'>30 000 so'm</w:t></w:r></w:ins>")
    )
    paragraph._p.append(
        make.body_xml("<w:del w:id='2' w:author='a'><w:r><w:delText>20 000 so'm</w:delText></w:r></w:del>")
    )
    document.element.body.insert(-1, make.text_box("Aksiya: ikkinchisi bepul, faqat juma kuni"))
    document.element.body.insert(
        -1,
        make.body_xml(
            "<w:sdt><w:sdtContent><w:p><w:r><w:t>Boshqaruv elementidagi matn</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        ),
    )
    run = document.add_paragraph().add_run("To'lov turlari")
    run.bold = True
    document.add_paragraph("Naqd pul, Payme va Click orqali to'lash mumkin.")
    document.add_paragraph().add_run("yashirin matn").font.hidden = True
    document.add_heading("Narxlar", 1)
    table = document.add_table(rows=3, cols=3)
    for row, cells in zip(
        table.rows,
        (("Xizmat", "Narxi", "Izoh"), ("Massaj", "150 000", "bir soat"), ("Sauna", "90 000", "ikki kishi")),
        strict=True,
    ):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.sections[0].header.paragraphs[0].text = "Nur salon, Chilonzor 9"
    document.sections[0].footer.paragraphs[0].text = "Tel. +998 90 123 45 67"


async def test_word_is_read_whole() -> None:
    data = make.with_footnotes(make.word(full_word), "Izoh: bayram kunlari ishlamaymiz")
    passages = await read_document("Shartlar.docx", data)
    assert [(passage.heading, passage.text) for passage in passages] == [
        (
            "Shartlar › Yetkazib berish",
            "Toshkent bo'ylab yetkazish 30 000 so'm\nAksiya: ikkinchisi bepul, faqat juma kuni\nBoshqaruv elementidagi matn",
        ),
        ("Shartlar › Yetkazib berish › To'lov turlari", "Naqd pul, Payme va Click orqali to'lash mumkin."),
        ("Shartlar › Narxlar", "Xizmat: Massaj; Narxi: 150 000; Izoh: bir soat"),
        ("Shartlar › Narxlar", "Xizmat: Sauna; Narxi: 90 000; Izoh: ikki kishi"),
        ("", "Nur salon, Chilonzor 9\nTel. +998 90 123 45 67\nIzoh: bayram kunlari ishlamaymiz"),
    ]
    assert passages[2].locus == "table:1:2"
    assert passages[4].locus == "header"


async def test_cells_merged_downwards_belong_to_every_row() -> None:
    def build(document: docx.document.Document) -> None:
        table = document.add_table(rows=3, cols=3)
        for row, cells in enumerate(
            (("Filial", "Kun", "Soat"), ("Chilonzor", "Dushanba", "9-18"), ("", "Shanba", "10-15"))
        ):
            for column, text in enumerate(cells):
                table.cell(row, column).text = text
        table.cell(1, 0).merge(table.cell(2, 0))

    assert await texts("a.docx", make.word(build)) == [
        "Filial: Chilonzor; Kun: Dushanba; Soat: 9-18",
        "Filial: Chilonzor; Kun: Shanba; Soat: 10-15",
    ]


def _bomb(unpacked_mib: int) -> bytes:
    text = b"<w:p><w:r><w:t>" + b"spam " * 200 + b"</w:t></w:r></w:p>"
    return make.word_xml(make.paragraphs_xml("{}").replace(b"{}", text * (unpacked_mib * 1024 * 1024 // len(text))))


def _lying_bomb() -> bytes:
    """A part that unpacks to far more than the directory says."""
    data = bytearray(_bomb(80))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        real = archive.getinfo("word/document.xml").file_size
    return bytes(data).replace(real.to_bytes(4, "little"), (1000).to_bytes(4, "little"))


def _zip(*names: str, content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


def _word(inner: str) -> bytes:
    return make.word_xml(make.paragraphs_xml(inner))


_DTD = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
_ENCRYPTED_WORD = (
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000) + "EncryptedPackage".encode("utf-16-le") + bytes(1000)
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"Just some text", "not_this_type"),
        (b"<html><body>saved as Word</body></html>", "not_this_type"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "not_this_type"),
        (_ENCRYPTED_WORD, "encrypted"),
        (_zip("xl/workbook.xml", "[Content_Types].xml"), "not_this_type"),
        (_zip("photo.jpg"), "not_this_type"),
        (_zip("word/document.xml", content=b"<html/>"), "not_this_type"),
        (_zip("word/document.xml", content=b"<w:document"), "damaged"),
        (_zip("../../etc/passwd", "word/document.xml", content=b"no xml"), "damaged"),
        (_zip("word/document.xml", *(f"junk/{number}" for number in range(4_001))), "too_large"),
        (make.word(full_word)[:-300], "damaged"),
        (make.word(lambda document: None), "empty"),
        (partial(_bomb, 70), "too_large"),
        (_lying_bomb, "damaged"),
        (make.word_xml(_DTD + make.paragraphs_xml("<w:p><w:r><w:t>&b;</w:t></w:r></w:p>")), "damaged"),
        (_word("<w:sdt><w:sdtContent>" * 300 + "</w:sdtContent></w:sdt>" * 300), "damaged"),
        (_word("<w:p>" * 200_000 + "</w:p>" * 200_000), "damaged"),
    ],
)
async def test_word_that_is_refused(data: bytes | Callable[[], bytes], code: str) -> None:
    # The bombs are made by the test: every process of a run collects all tests.
    assert await code_of("a.docx", data if isinstance(data, bytes) else data()) == code


async def test_word_with_a_password_on_its_parts_is_called_encrypted() -> None:
    data = bytearray(make.word(full_word))
    for place in range(len(data) - 4):
        if data[place : place + 4] == b"PK\x01\x02":
            data[place + 8] |= 1
    assert await code_of("a.docx", bytes(data)) == "encrypted"


async def test_two_million_characters_are_the_limit() -> None:
    text = "<w:p><w:r><w:t>" + "so'z " * 200 + "</w:t></w:r></w:p>"
    assert await code_of("a.docx", _word(text * 2_100)) == "too_large"


# --- PDF -------------------------------------------------------------------------------------------------------------


async def test_pdf_in_three_alphabets_with_headings_and_rows() -> None:
    passages = await read_document("garage.pdf", (DATA / "documents" / "garage.pdf").read_bytes())
    assert [passage.locus for passage in passages] == ["page:1", "page:1", "page:2"]
    delivery, guarantee, prices = passages
    assert delivery.heading == "Автосервис «Гараж» — условия › Доставка автомобиля"
    assert delivery.text.startswith("Эвакуатор по городу стоит 250 000 сум, за городом 8 000 сум")
    assert "Машину забираем в течение часа" in delivery.text
    assert "Қўнғироқ қилинг" in guarantee.text
    assert prices.text == "Замена масла 80 000 масло отдельно\nДиагностика 150 000 бесплатно при ремонте"


@pytest.mark.parametrize(
    "rows",
    [
        ["plomba 250 000 40 daqiqa", "tish tozalash 350 000 1 soat", "breket 9 000 000 2 yil"],
        ["mahsulot 1 15 000 so'm", "mahsulot 2 25 000 so'm", "mahsulot 3 35 000 so'm"],
        ["1 Implant qo'yish 4 500 000", "2 Implant olish 4 500 000", "3 Plomba 250 000"],
        ["osh ..... 25 000", "manti - 20 000", "choy 0,5 l 8 000 so'm", "ko'k choy 5 000 - 8 000"],
    ],
)
async def test_rows_of_prices_stay_apart_in_small_letters_too(rows: list[str]) -> None:
    assert await texts("a.pdf", make.pdf("\n".join(rows))) == ["\n".join(rows)]


@pytest.mark.parametrize(
    "lines",
    [
        [
            "Evakuator shahar bo'ylab 250 000 so'm turadi, shahardan",
            "tashqarida 8 000 so'm har kilometr uchun, 40 daqiqa ichida",
        ],
        ["Yetkazib berish Toshkent bo'ylab 30 000 so'm, 300 000", "so'mdan ortiq xaridda 2 kun ichida bepul."],
        [
            "Delivery in Tashkent takes 2 days and costs 30 000 sum, from 500 000",
            "sum it is free within 3 days after payment.",
        ],
    ],
)
async def test_a_sentence_with_figures_is_joined_over_its_lines(lines: list[str]) -> None:
    assert await texts("a.pdf", make.pdf("\n".join(lines))) == [" ".join(lines)]


@pytest.mark.parametrize(
    "data", [make.pdf("Kofe 15000, choy 5000"), make.pdf_with_picture("Kofe 15000, choy 5000", 60)]
)
async def test_a_pdf_of_a_few_words_is_read(data: bytes) -> None:
    assert await texts("a.pdf", data) == ["Kofe 15000, choy 5000"]


async def test_running_heads_are_left_out() -> None:
    pages = [
        f"Nur salon - page {number}\nThe room number {number} is free on Mondays and costs {number}00 000 sum.\n- {number} -"
        for number in range(1, 6)
    ]
    found = await texts("a.pdf", make.pdf(*pages))
    assert len(found) == 5
    assert not any("Nur salon" in text or text.endswith("-") for text in found)


async def test_pdf_with_only_a_password_against_changes_is_read() -> None:
    data = make.encrypted_pdf(make.pdf("Delivery in Tashkent costs 30 000 sum."), "")
    assert await texts("a.pdf", data) == ["Delivery in Tashkent costs 30 000 sum."]


async def test_a_page_that_only_pdfium_reads() -> None:
    # Without its font pypdf gives a replacement sign for every letter.
    data = make.one_page_pdf(b"BT /F1 12 Tf 50 700 Td (Delivery costs 30 000 sum) Tj ET", _FONT)
    assert await texts("a.pdf", data.replace(b"/Resources << /Font", b"/Resources << /Fony")) == [
        "Delivery costs 30 000 sum"
    ]


_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_PRIVATE = (
    b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange\n"
    b"1 beginbfrange <20> <7E> <E020> endbfrange endcmap end"
)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"Not a PDF at all", "not_this_type"),
        (make.word(full_word), "not_this_type"),
        (b"%PDF-1.7\n", "damaged"),
        (make.pdf("A page of text")[:200], "damaged"),
        (make.encrypted_pdf(make.pdf("Secret prices"), "password"), "encrypted"),
        (make.scanned_pdf(), "scanned"),
        (make.pdf_with_picture("CamScanner", 210), "scanned"),
        (make.pdf(""), "empty"),
        (
            make.one_page_pdf(
                b"BT /F1 12 Tf 50 700 Td (Private letters without a meaning, many of them) Tj ET",
                _FONT[:-2] + b"/ToUnicode 6 0 R >>",
                make.stream(_PRIVATE),
            ),
            "unreadable_letters",
        ),
    ],
)
async def test_pdf_that_is_refused(data: bytes, code: str) -> None:
    assert await code_of("a.pdf", data) == code


async def test_a_page_tree_that_bites_its_tail_ends() -> None:
    assert await code_of("a.pdf", make.page_tree_loop()) in {"damaged", "empty", "too_large"}


async def test_more_than_two_thousand_pages_are_refused() -> None:
    assert await code_of("a.pdf", make.pdf(*["x"] * 2_001)) == "too_large"


async def test_a_page_that_unpacks_to_gigabytes_ends_in_a_reason() -> None:
    bomb = zlib.compress(zlib.compress(b" " * 400_000_000, 9), 9)
    data = make.one_page_pdf(bomb, _FONT, extra=b"/Filter [/FlateDecode /FlateDecode]")
    assert await code_of("a.pdf", data) in {"memory", "crashed", "timeout", "empty", "damaged", "scanned"}


async def test_a_page_of_endless_operators_ends_in_a_reason() -> None:
    content = zlib.compress(b"q 1 0 0 1 0 0 cm BT /F1 1 Tf () Tj ET Q " * 1_000_000, 9)
    data = make.one_page_pdf(content, _FONT, extra=b"/Filter /FlateDecode")
    assert await code_of("a.pdf", data, limits=ReadLimits(wall_s=3)) in {"timeout", "empty", "memory", "crashed"}


# --- names and upload ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.txt", "../../etc/passwd.txt", "a\0b.TXT", "C:\\con.txt", "{0.__class__}.txt ", "x" * 300 + ".txt"]
)
async def test_names_are_only_asked_for_their_suffix(name: str) -> None:
    sniff(name, b"x")
    assert await texts(name, b"Just words here") == ["Just words here"]


@pytest.mark.parametrize(
    "name", ["a.exe", "a", ".txt", "a.txt.zip", "a.doc", "a.XLS", "a.csv.ods", "fdp\u202e.exe", "", "txt", "a.pdf/../x"]
)
async def test_other_kinds_are_refused_at_upload(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        sniff(name, b"x")
    assert (caught.value.code, caught.value.field) == ("unsupported_type", "file")
    assert await code_of(name, b"x") == "not_this_type"


@pytest.mark.parametrize("suffix", sorted(READERS))
async def test_an_empty_file_is_refused_at_upload_and_when_read(suffix: str) -> None:
    with pytest.raises(Invalid) as caught:
        sniff(f"a{suffix}", b"")
    assert caught.value.code == "empty"
    assert await code_of(f"a{suffix}", b"") == "empty"


def test_every_reason_has_a_text_for_people() -> None:
    texts_ = {ReadError(code).text.msgid for code in CODES}
    assert len(texts_) == len(CODES)


# --- the parent survives ---------------------------------------------------------------------------------------------


def _program(folder: Path, source: str) -> Path:
    path = folder / "hostile_child.py"
    path.write_text(source)
    return path


_SAY_READ = "import sys, os, json, time\nprint(json.dumps({'read': 1}), flush=True)\n"
_PASSAGE = '{"text":"a","heading":"","locus":"","stems":"a","grams":"a"}'


@pytest.mark.parametrize(
    "source",
    [
        "print('x' * 10_000_000)",
        "while True: print('{\"progress\": 1}')",
        "while True: print(' ')",
        "while True: print('x' * 200_000, end='')",
        "print('no json')",
        "print('[1, 2]')",
        "print('[' * 100_000)",
        "print('{\"progress\": 100}')",
        "print('{\"progress\": true}')",
        "print('{\"done\": 0}')",
        "print('{\"read\": -1}')",
        f"print('{_PASSAGE}')",
        _SAY_READ + f"print('{_PASSAGE}')\nprint('{_PASSAGE}')",
        _SAY_READ + f"print('{_PASSAGE}'.replace('\"a\"', '5', 1))\nprint('{{\"done\":1}}')",
        _SAY_READ + f"print('{_PASSAGE}'.replace('\"a\"', '\"\\\\u0000\"', 1))\nprint('{{\"done\":1}}')",
        _SAY_READ + f"print('{_PASSAGE}'.replace('\"a\"', '\"\\\\ud800\"', 1))\nprint('{{\"done\":1}}')",
        _SAY_READ + f"print('{_PASSAGE}')\nprint('{{\"done\":2}}')",
        _SAY_READ + f"print('{_PASSAGE}')\nprint('{{\"done\":1}}')\nprint('more')",
        _SAY_READ + f"print('{_PASSAGE}')",
        'print(\'{"error": "<script>"}\')',
        "import os; os.abort()",
        "import os, signal; os.kill(0, signal.SIGKILL)",
        "import sys; sys.exit(3)",
        "import os; os.close(1); os.close(0)",
    ],
)
async def test_a_child_that_lies_or_dies_is_a_failed_document(tmp_path: Path, source: str) -> None:
    program = _program(tmp_path, source)
    limits = ReadLimits(max_output=20_000_000)
    assert await code_of("a.txt", b"text" * 100_000, program=program, limits=limits) == "crashed"


async def test_a_child_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    program = _program(
        tmp_path,
        "import os, time, subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(told)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        "time.sleep(600)\n",
    )
    assert await code_of("a.txt", b"text", program=program, limits=ReadLimits(wall_s=5)) == "timeout"
    async with asyncio.timeout(20):
        for pid in map(int, told.read_text().split()):
            # Killed, but perhaps not gone yet.
            while _runs(pid):
                await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


async def test_a_real_document_over_its_time_is_a_timeout() -> None:
    assert await code_of("a.txt", RUSSIAN.encode(), limits=ReadLimits(wall_s=0.001)) == "timeout"


async def test_processor_time_is_limited(tmp_path: Path) -> None:
    program = _program(
        tmp_path,
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass\n",
    )
    assert await code_of("a.txt", b"text", program=program) == "timeout"


async def test_little_memory_is_a_reason_and_not_a_crash_of_ours() -> None:
    data = ("<w:p><w:r><w:t>" + "so'z " * 100 + "</w:t></w:r></w:p>") * 3_000
    assert await code_of("a.docx", _word(data), limits=ReadLimits(memory_mib=24)) in {"memory", "crashed"}


async def test_more_output_than_allowed_ends_the_reading() -> None:
    assert await code_of("a.csv", csv_of(2_000), limits=ReadLimits(max_output=50_000)) == "crashed"


async def test_a_child_killed_from_outside_is_one_failed_document() -> None:
    async def kill(percent: int) -> None:
        for child in children():
            child.send_signal(signal.SIGKILL)

    assert await code_of("a.csv", csv_of(5_000), on_progress=kill) == "crashed"
    assert len(await texts("a.csv", csv_of(3))) == 3


async def test_cancelling_kills_the_child_and_gives_its_place_back() -> None:
    begun = asyncio.Event()

    async def progress(percent: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    for _ in range((os.cpu_count() or 1) + 1):
        begun.clear()
        task = asyncio.create_task(read_document("a.csv", csv_of(300), on_progress=progress))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(await texts("a.csv", csv_of(3))) == 3


async def test_no_more_children_than_cores_and_the_loop_stays_free() -> None:
    most = 0

    async def count(percent: int) -> None:
        nonlocal most
        most = max(most, len(children()))

    results = await asyncio.gather(*(read_document("a.csv", csv_of(50), on_progress=count) for _ in range(6)))
    assert [len(result) for result in results] == [50] * 6
    assert 0 < most <= (os.cpu_count() or 1)


async def test_a_failing_progress_is_the_callers_error() -> None:
    async def progress(percent: int) -> None:
        raise TimeoutError("database")

    with pytest.raises(TimeoutError, match="database"):
        await read_document("a.csv", csv_of(300), on_progress=progress)


async def test_a_machine_without_room_says_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(Unavailable):
        await read_document("a.txt", b"text")


async def test_the_child_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "canary")
    program = _program(
        tmp_path,
        "import os, json, sys\n"
        "files = sorted(int(name) for name in os.listdir('/proc/self/fd'))\n"
        "said = json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'leader': os.getsid(0) == os.getpid()})\n"
        "print(json.dumps({'read': 1}))\n"
        "print(json.dumps({'text': said, 'heading': '', 'locus': '', 'stems': str(len(files)), 'grams': ''}))\n"
        "print(json.dumps({'done': 1}))\n",
    )
    (passage,) = await read_document("a.txt", b"text", program=program)
    assert "canary" not in passage.text
    assert '"leader": true' in passage.text
    assert "botfactory-read-" in passage.text
    assert int(passage.stems) <= 4  # stdin, stdout, stderr, and the listing itself


def test_the_parent_imports_no_reader() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import services.knowledge.reading\n"
        "print([name for name in ('pypdf', 'pypdfium2', 'docx', 'lxml', 'services.knowledge.pdf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_works_under_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> tuple[list[IndexedPassage], str]:
        good = await read_document("a.csv", csv_of(20))
        return good, await code_of("a.csv", csv_of(20), limits=ReadLimits(wall_s=0.001))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        good, code = runner.run(main())
    assert (len(good), code) == (20, "timeout")
