"""Receipts: what was paid, by whom and for what, as a PDF in the owner's language.

The fonts beside this hold Latin and Cyrillic letters; what a name has besides (smileys, other scripts) is left out.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segno
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import money, payment_texts
from services.days import TASHKENT
from services.errors import NotFound
from services.i18n import Words, translate
from services.settings import Settings

if TYPE_CHECKING:
    from services.core import Core

_FONTS = Path(__file__).resolve().parent / "fonts"
_FONT = "DejaVu"
_WIDTH_MM, _HEIGHT_MM, _MARGIN_MM = 148, 210, 13
_LABEL_MM = 42
_QR_MM = 30
_INK, _MUTED, _LINE, _BAD = (17, 17, 17), (90, 90, 86), (214, 214, 209), (161, 36, 26)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says, amounts in tiyin. ``starts_at`` and ``ends_at``: of what was bought; None where it gave nothing."""

    number: str
    seller: str
    seller_tin: str
    buyer: str
    plan: str
    period: str
    price: int
    discount: int
    coupon: str
    credit: int
    balance: int
    amount: int
    vat_percent: int
    ikpu: str
    paid_by: str
    transaction: str
    paid_at: dt.datetime
    refunded_at: dt.datetime | None
    sandbox: bool
    url: str
    starts_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None
    package_code: str = ""

    @property
    def vat(self) -> int:
        """The tax that the amount contains, rounded to a tiyin."""
        whole = 100 + self.vat_percent
        return (self.amount * self.vat_percent + whole // 2) // whole


def file_name(payment: models.Payment) -> str:
    """Return what the file is called."""
    return f"receipt-{payment.number}.pdf"


def has_one(payment: models.Payment) -> bool:
    """Tell whether there is a receipt: for what was paid, also if it was given back later."""
    return payment.paid_at is not None and payment.status in ("paid", "refunded")


async def read(session: AsyncSession, settings: Settings, payment: models.Payment) -> Receipt:
    """Return what the receipt of a payment says; raises ``NotFound`` where nothing was paid."""
    if not has_one(payment) or payment.paid_at is None:
        raise NotFound
    owner = await session.get(models.User, payment.user_id) if payment.user_id else None
    coupon = await session.get(models.Coupon, payment.coupon_id) if payment.coupon_id else None
    attempt, span = models.PaymentTransaction, models.Subscription
    transaction = await session.scalar(
        select(attempt.external_id)
        .where(
            attempt.payment_id == payment.id,
            attempt.gateway == payment.paid_by,
            attempt.state.in_(("performed", "reversed")),
        )
        .order_by(attempt.id.desc())
        .limit(1)
    )
    given = (await session.scalars(select(span).where(span.payment_id == payment.id))).all()
    fiscal, facts = payment.fiscal or {}, settings.plans.get(payment.plan)
    return Receipt(
        number=payment.number,
        seller=settings.payments.seller,
        seller_tin=settings.payments.seller_tin,
        buyer=(owner.full_name or owner.email or owner.phone or "") if owner else "",
        plan=facts.title if facts is not None else payment.plan,
        period=payment.period,
        price=payment.price_tiyin,
        discount=payment.discount_tiyin,
        coupon=coupon.code if coupon else "",
        credit=payment.credit_tiyin,
        balance=payment.balance_tiyin,
        amount=payment.amount_tiyin,
        vat_percent=int(fiscal.get("vat_percent") or 0),
        ikpu=str(fiscal.get("ikpu") or ""),
        paid_by=payment.paid_by or payment.gateway,
        transaction=transaction or "",
        paid_at=payment.paid_at,
        refunded_at=payment.refunded_at,
        sandbox=payment.sandbox,
        url=f"{settings.public_url}/billing/payments/{payment.number}",
        starts_at=min((each.starts_at for each in given), default=None),
        ends_at=max((each.cut_from or each.ends_at for each in given), default=None),
        package_code=str(fiscal.get("package_code") or ""),
    )


async def render(core: Core, payment: models.Payment, language: str) -> bytes:
    """Return the receipt of a payment as PDF in ``language``; raises ``NotFound`` where nothing was paid."""
    async with core.db.read() as session:
        receipt = await read(session, core.settings, payment)
    return await asyncio.to_thread(draw, receipt, language)


def draw(receipt: Receipt, language: str) -> bytes:
    """Return a receipt as PDF. Takes about 100 ms: for a thread."""
    from fpdf import FPDF

    pdf: Any = FPDF(format=(_WIDTH_MM, _HEIGHT_MM))
    pdf.set_margins(_MARGIN_MM, _MARGIN_MM)
    pdf.set_auto_page_break(True, _MARGIN_MM)
    pdf.add_font(_FONT, "", _FONTS / "DejaVuSans.ttf")
    pdf.add_font(_FONT, "B", _FONTS / "DejaVuSans-Bold.ttf")
    title = translate(language, "Receipt {number}", number=f"№ {receipt.number}")
    pdf.set_title(title)
    pdf.set_author(_known(receipt.seller))
    pdf.set_lang(language)
    # The same receipt is the same file, whenever it is made.
    pdf.set_creation_date(receipt.paid_at)
    pdf.add_page()
    _head(pdf, receipt, title, language)
    for label, value in _facts(receipt, language):
        _row(pdf, label, value)
    pdf.ln(1.5)
    for label, value in _reckoning(receipt, language):
        _row(pdf, label, value, right=True)
    _sum(pdf, receipt, language)
    _proof(pdf, receipt, language)
    return bytes(pdf.output())


def _head(pdf: Any, receipt: Receipt, title: str, language: str) -> None:
    pdf.set_text_color(*_INK)
    pdf.set_font(_FONT, "B", 11)
    pdf.multi_cell(0, 6, _known(receipt.seller), new_x="LMARGIN", new_y="NEXT")
    pdf.set_text_color(*_MUTED)
    pdf.set_font(_FONT, "", 8)
    if receipt.seller_tin:
        pdf.cell(0, 4.5, translate(language, "TIN {number}", number=receipt.seller_tin), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    pdf.set_text_color(*_INK)
    pdf.set_font(_FONT, "B", 16)
    pdf.multi_cell(0, 8, title, new_x="LMARGIN", new_y="NEXT")
    warnings = []
    if receipt.sandbox:
        warnings.append(translate(language, "Test payment: no money was paid"))
    if receipt.refunded_at is not None:
        warnings.append(translate(language, "Refunded on {moment}", moment=_moment(receipt.refunded_at)))
    pdf.set_text_color(*_BAD)
    pdf.set_font(_FONT, "B", 9)
    for warning in warnings:
        pdf.multi_cell(0, 5, warning, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)


def _facts(receipt: Receipt, language: str) -> Sequence[tuple[str, str]]:
    rows = [
        (translate(language, "Paid at"), _moment(receipt.paid_at)),
        (translate(language, "Paid with"), payment_texts.gateway(receipt.paid_by, language)),
    ]
    if receipt.transaction:
        rows.append((translate(language, "Transaction"), receipt.transaction))
    rows.append((translate(language, "Buyer"), _known(receipt.buyer) or "—"))
    service = translate(language, "Subscription, plan “{plan}”", plan=_known(Words.of(receipt.plan).called(language)))
    rows.append((translate(language, "Service"), service))
    span = payment_texts.period(receipt.period, language)
    if receipt.starts_at is not None and receipt.ends_at is not None:
        span += f", {_day(receipt.starts_at)} – {_day(receipt.ends_at)}"
    rows.append((translate(language, "Period"), span))
    if receipt.ikpu:
        rows.append((translate(language, "Product code (IKPU)"), receipt.ikpu))
    if receipt.package_code:
        rows.append((translate(language, "Package code"), receipt.package_code))
    return rows


def _reckoning(receipt: Receipt, language: str) -> Sequence[tuple[str, str]]:
    rows = [(translate(language, "Price"), receipt.price)]
    if receipt.discount:
        label = translate(language, "Discount")
        rows.append((f"{label} ({receipt.coupon})" if receipt.coupon else label, -receipt.discount))
    if receipt.credit:
        rows.append((translate(language, "Rest of the plan before"), -receipt.credit))
    if receipt.balance:
        rows.append((translate(language, "From the referral balance"), -receipt.balance))
    return [(label, money.text(tiyin, language)) for label, tiyin in rows]


def _row(pdf: Any, label: str, value: str, *, right: bool = False) -> None:
    top, page = pdf.get_y(), pdf.page
    pdf.set_font(_FONT, "", 8.5)
    pdf.set_text_color(*_MUTED)
    label_mm = _LABEL_MM if not right else 70
    pdf.multi_cell(label_mm, 5.2, label, align="L", new_x="LMARGIN", new_y="NEXT")
    low = pdf.get_y()
    if pdf.page != page:
        top = pdf.t_margin
    pdf.set_xy(_MARGIN_MM + label_mm, top)
    pdf.set_font(_FONT, "", 9)
    pdf.set_text_color(*_INK)
    pdf.multi_cell(0, 5.2, value, align="R" if right else "L", new_x="LMARGIN", new_y="NEXT")
    pdf.set_y(max(low, pdf.get_y()) + 0.9)


def _sum(pdf: Any, receipt: Receipt, language: str) -> None:
    pdf.set_draw_color(*_LINE)
    pdf.line(_MARGIN_MM, pdf.get_y() + 1, _WIDTH_MM - _MARGIN_MM, pdf.get_y() + 1)
    pdf.ln(3)
    pdf.set_text_color(*_INK)
    pdf.set_font(_FONT, "B", 12)
    pdf.cell(50, 7, translate(language, "Paid"))
    pdf.cell(0, 7, money.text(receipt.amount, language), align="R", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font(_FONT, "", 8)
    pdf.set_text_color(*_MUTED)
    tax = translate(language, "Without VAT")
    if receipt.vat_percent:
        amount = money.text(receipt.vat, language)
        tax = translate(language, "VAT {n}% included: {amount}", n=receipt.vat_percent, amount=amount)
    pdf.cell(0, 5, tax, align="R", new_x="LMARGIN", new_y="NEXT")


def _proof(pdf: Any, receipt: Receipt, language: str) -> None:
    """Draw the code of the page that tells what the payment's state is now."""
    pdf.ln(6)
    if pdf.will_page_break(_QR_MM):
        pdf.add_page()
    left, top = _MARGIN_MM, pdf.get_y()
    rows = [list(row) for row in segno.make(receipt.url, error="m", micro=False).matrix]
    step = _QR_MM / len(rows)
    pdf.set_fill_color(*_INK)
    for y, row in enumerate(rows):
        for x, dark in enumerate(row):
            if dark:
                pdf.rect(left + x * step, top + y * step, step, step, style="F")
    pdf.set_xy(left + _QR_MM + 5, top + 4)
    pdf.set_font(_FONT, "", 8)
    pdf.set_text_color(*_MUTED)
    pdf.multi_cell(0, 4.6, translate(language, "Its state now, in the panel:"), new_x="LEFT", new_y="NEXT")
    pdf.set_text_color(*_INK)
    pdf.multi_cell(0, 4.6, receipt.url, align="L", link=receipt.url, wrapmode="CHAR", new_x="LEFT", new_y="NEXT")
    pdf.ln(2)
    pdf.set_x(left + _QR_MM + 5)
    pdf.set_text_color(*_MUTED)
    # Tax offices know fiscal receipts, which gateways and tills give; nobody should book this paper for one.
    words = translate(language, "This paper confirms the payment. It does not stand in for a fiscal receipt.")
    pdf.multi_cell(0, 4.6, words, align="L", new_x="LMARGIN", new_y="NEXT")


@cache
def _letters() -> frozenset[int]:
    from fontTools.ttLib import TTFont

    with TTFont(_FONTS / "DejaVuSans.ttf") as font:
        return frozenset(font.getBestCmap())


def _known(text: str) -> str:
    """Return ``text`` without what the font has no letter for."""
    there = "".join(letter for letter in unicodedata.normalize("NFC", text) if ord(letter) in _letters())
    return " ".join(there.split())


def _moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(TASHKENT):%d.%m.%Y %H:%M}"


def _day(moment: dt.datetime) -> str:
    return f"{moment.astimezone(TASHKENT):%d.%m.%Y}"
