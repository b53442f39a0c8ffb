"""Receipts: read back as a person would, in every language, whatever a name is made of."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io

import pypdf
import pypdfium2
import pytest

from services import receipts
from services.i18n import LANGUAGES, translate
from services.money import digits, plain, text

AT = dt.datetime(2026, 12, 31, 20, 30, tzinfo=dt.UTC)
RECEIPT = receipts.Receipt(
    number="0012345",
    seller="“Bot zavodi” MChJ",
    seller_tin="301234567",
    buyer="Gʻulom O‘ktamov, Ўткир Ҳошимов",
    plan="Premium",
    period="quarterly",
    price=168_150_000,
    discount=16_815_000,
    coupon="SAVE10_UZ_2026",
    credit=2_900_000,
    balance=100_000,
    amount=148_335_000,
    vat_percent=12,
    ikpu="10304002001000000",
    paid_by="payme",
    transaction="65f0c0ffee0000000000a001",
    paid_at=AT,
    refunded_at=None,
    sandbox=False,
    url="https://bot.example.uz/billing/payments/0012345",
    package_code="1512894",
    starts_at=AT,
    ends_at=AT + dt.timedelta(days=90),
)


def said(pdf: bytes) -> str:
    """Return the text of a PDF with plain spaces."""
    pages = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_is_there_in_the_language_of_the_owner(language: str) -> None:
    shown = said(receipts.draw(RECEIPT, language))
    word = {"uz": "so‘m", "uz-Cyrl": "сўм", "ru": "сум", "en": "UZS"}[language]
    for wanted in (
        translate(language, "Receipt {number}", number="№ 0012345"),
        "“Bot zavodi” MChJ",
        "301234567",
        "Gʻulom O‘ktamov, Ўткир Ҳошимов",
        "Premium",
        "Payme",
        "65f0c0ffee0000000000a001",
        "10304002001000000",
        "1512894",
        "01.01.2027 01:30",  # midnight is over in Tashkent
        "01.01.2027 – 01.04.2027",
        f"1 681 500 {word}",
        f"−168 150 {word}",
        "SAVE10_UZ_2026",
        f"−29 000 {word}",
        f"−1 000 {word}",
        f"1 483 350 {word}",
        f"158 930,36 {word}",
        RECEIPT.url,
    ):
        assert wanted in shown
    assert translate(language, "Test payment: no money was paid") not in shown
    assert translate(language, "This paper confirms the payment. It does not stand in for a fiscal receipt.") in shown


def test_what_was_given_back_or_only_tried_says_so() -> None:
    changed = dataclasses.replace(RECEIPT, sandbox=True, refunded_at=AT, vat_percent=0, starts_at=None, ends_at=None)
    shown = said(receipts.draw(changed, "en"))
    assert "Test payment: no money was paid" in shown
    assert "Refunded on 01.01.2027 01:30" in shown
    assert "Without VAT" in shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Aziza 😀🇺🇿", "Aziza"),
        ("عزيزة", "—"),
        ("<b>{0.__class__}</b> %s **x**", "<b>{0.__class__}</b> %s **x**"),
        ("Ю\u0308 \u202e\x00evil", "Ю evil"),
    ],
)
def test_a_name_of_anything_makes_a_receipt(name: str, shown: str) -> None:
    assert f"Buyer {shown} Service" in said(receipts.draw(dataclasses.replace(RECEIPT, buyer=name), "en"))


def test_the_longest_of_everything_stays_on_the_paper() -> None:
    changed = dataclasses.replace(
        RECEIPT,
        seller="S" * 100,
        buyer="O‘" * 100,
        plan="P" * 40,
        coupon="C" * 40,
        transaction="T" * 64,
        url="https://" + "u" * 400,
        price=10**15,
    )
    pdf = receipts.draw(changed, "ru")
    document = pypdfium2.PdfDocument(pdf)
    try:
        for page in document:
            words = page.get_textpage()
            for number in range(words.count_rects()):
                left, bottom, right, top = words.get_rect(number)
                assert 0 <= left < right <= page.get_width()
                assert 0 <= bottom < top <= page.get_height()
    finally:
        document.close()


def test_the_same_receipt_is_the_same_file() -> None:
    assert receipts.draw(RECEIPT, "uz") == receipts.draw(RECEIPT, "uz")


@pytest.mark.parametrize(
    ("tiyin", "shown", "for_programs"),
    [
        (0, "0", "0"),
        (29_000_000, "290 000", "290000"),
        (1, "0,01", "0.01"),
        (-150, "−1,50", "-1.50"),
        (123_456_789_00, "123 456 789", "123456789"),
    ],
)
def test_amounts_are_never_floats(tiyin: int, shown: str, for_programs: str) -> None:
    assert digits(tiyin).replace("\xa0", " ") == shown
    assert plain(tiyin) == for_programs
    assert text(tiyin, "en").endswith("UZS")
