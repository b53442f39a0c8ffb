"""``/plan``: from what there is to a paid plan without leaving the message, and nothing of anybody else's."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import AsyncIterator

import pypdf
import pytest
from sqlalchemy import select

from db import models
from handlers.callbacks import Buy, Pay
from services import coupons
from services.payments import ledger, orders
from tests.fakes.telegram import Sent
from tests.handlers.conftest import Person, Product, Start
from tests.payments.till import AS_SOLD, ENVIRONMENT, NOW

KEYS = {name: value for name, value in ENVIRONMENT.items() if name != "WEBHOOK_BASE_URL"}


@pytest.fixture
async def shop(start: Start) -> AsyncIterator[Product]:
    """The product with all gateways, its clock at a known moment."""
    async with start(overrides=AS_SOLD, **KEYS) as product:
        product.core.now = lambda: NOW
        yield product


async def buyer(shop: Product, number: int) -> Person:
    """An owner who has just registered, speaking English."""
    person = await shop.owner(number, "en")
    async with shop.core.db.write() as session:
        user = await session.get_one(models.User, (await shop.account(person)).id)
        user.created_at = NOW
    return person


async def payments(shop: Product, person: Person) -> list[models.Payment]:
    user = await shop.account(person)
    async with shop.core.db.read() as session:
        own = select(models.Payment).where(models.Payment.user_id == user.id).order_by(models.Payment.id)
        return list(await session.scalars(own))


def plain(text: str) -> str:
    return text.replace("\xa0", " ")


async def chosen(person: Person, plan: str = "Basic", way: str = "Payme") -> Sent:
    """Go from ``/plan`` to the screen of a payment, in one message."""
    menu = await person.says("/plan", "You are on the plan")
    await person.presses(menu, "Choose a plan", "Premium")
    await person.presses(menu, f"{plan} ·", "For how long?")
    await person.presses(menu, "Monthly", "Choose how to pay.")
    return await person.presses(menu, way, "Waiting for payment")


async def test_a_plan_is_chosen_and_paid_in_one_message(shop: Product) -> None:
    """The screen says by itself that it was paid, and the receipt comes as a file."""
    person = await buyer(shop, 900000801)
    menu = await person.says("/plan", "You are on the plan Trial until 04.12.2026 10:00.")
    assert "Messages this month: 0 / 300" in menu.text
    screen = await chosen(person)
    assert "290 000 UZS" in plain(screen.text) and "02.12.2026 10:00" in screen.text
    assert screen.button("Pay with Payme")["url"].startswith("https://checkout.paycom.uz/")
    assert "transaction_param" in screen.button("Pay with Click")["url"]
    (payment,) = await payments(shop, person)
    assert (payment.amount_tiyin, payment.gateway, payment.status) == (29_000_000, "payme", "waiting")
    assert payment.number in screen.text
    async with shop.core.db.write() as session:
        await ledger.complete(session, shop.core.settings, payment, by="manual", now=NOW)
    ledger.announce(shop.core, payment)
    await person.fake.wait_edit(screen, "You have the plan Basic until 31.12.2026 10:00.")
    press = person.user.press(screen, "Receipt")
    paper = await person.fake.wait_message(person.user.id, lambda sent: sent.file is not None, bot=person.factory)
    await shop.answered(press)
    assert paper.file is not None and paper.method == "sendDocument"
    text = pypdf.PdfReader(io.BytesIO(paper.file.content)).pages[0].extract_text()
    assert payment.number in text and "290 000 UZS" in plain(text)
    assert "You are on the plan Basic until 31.12.2026 10:00." in (await person.says("/plan", "Basic until")).text


async def test_the_receipt_comes_with_the_letter(shop: Product) -> None:
    """Whoever paid elsewhere gets it without asking, in one message with the words and the way to the payment."""
    person = await buyer(shop, 900000810)
    async with shop.core.db.write() as session:
        owner = await shop.account(person)
        payment = await orders.order(session, shop.core.settings, owner, "starter", "annual", "click", now=NOW)
        await ledger.complete(session, shop.core.settings, payment, by="manual", now=NOW)
    ledger.announce(shop.core, payment)
    letter = await person.fake.wait_message(person.user.id, lambda sent: sent.file is not None, bot=person.factory)
    assert letter.file is not None and letter.file.name == f"receipt-{payment.number}.pdf"
    assert payment.number in letter.text and "Starter" in letter.text
    text = pypdf.PdfReader(io.BytesIO(letter.file.content)).pages[0].extract_text()
    assert payment.number in text and "1 519 800 UZS" in plain(text)


async def test_the_code_for_another_phone(shop: Product) -> None:
    person = await buyer(shop, 900000802)
    screen = await chosen(person, way="Click")
    person.user.press(screen, "QR code")
    picture = await person.fake.wait_message(
        person.user.id, lambda sent: sent.method == "sendPhoto", bot=person.factory
    )
    (payment,) = await payments(shop, person)
    assert picture.file is not None and picture.file.content.startswith(b"\x89PNG")
    assert payment.number in picture.text and "290 000 UZS" in plain(picture.text)


async def test_the_same_wish_twice_is_one_payment_and_it_can_be_cancelled(shop: Product) -> None:
    person = await buyer(shop, 900000803)
    await chosen(person)
    screen = await chosen(person)
    (payment,) = await payments(shop, person)
    await person.presses(screen, "Cancel this payment", "You are on the plan Trial")
    assert (await payments(shop, person))[0].status == "cancelled"
    await chosen(person)
    assert [each.status for each in await payments(shop, person)] == ["cancelled", "waiting"]
    menu = await person.says("/plan", "You are on the plan")
    assert "Basic" in menu.button("⏳")["text"]
    again = await person.presses(menu, "⏳", "Waiting for payment")
    assert payment.number not in again.text


async def test_a_coupon_takes_off_what_is_paid_here(shop: Product) -> None:
    """By command before a plan is chosen, and by the button when it is; the price says so, and the payment uses it."""
    person, other = await buyer(shop, 900000831), await buyer(shop, 900000832)
    async with shop.core.db.write() as session:
        terms = coupons.Terms(percent=10, plans=("basic",))
        await coupons.create(session, shop.core.settings, terms, now=NOW, code="SAVE10_UZ_2026")
    menu = await person.says("/coupon save10_uz_2026", "Coupon: SAVE10_UZ_2026")
    await person.presses(menu, "Premium ·", "For how long?")
    # Not for this plan: it is said, and nothing is taken off.
    screen = await person.presses(menu, "Monthly", "Choose how to pay.")
    assert "This coupon cannot be used" in screen.text and "590 000 UZS" in plain(screen.text)
    await person.presses(menu, "Back", "For how long?")
    await person.presses(menu, "Back", "Basic:")
    await person.presses(menu, "Basic ·", "For how long?")
    await person.presses(menu, "Monthly", "Choose how to pay.")
    press = person.user.press(menu, "I have a coupon")
    await shop.answered(press)
    screen = await person.says("SAVE10_UZ_2026", "Coupon SAVE10_UZ_2026")
    assert "261 000 UZS" in plain(screen.text)
    await person.presses(screen, "Click", "Waiting for payment")
    (payment,) = await payments(shop, person)
    assert (payment.amount_tiyin, payment.discount_tiyin, payment.gateway) == (26_100_000, 2_900_000, "click")
    # Of another wish afterwards it takes nothing off, and a code that is none is asked for again.
    menu = await other.says("/coupon", "Send me the code of the coupon")
    await other.says("NOSUCH_2026", "This coupon cannot be used")
    await other.says("/cancel", "No coupon was entered.")
    await chosen(other)
    (payment,) = await payments(shop, other)
    assert payment.discount_tiyin == 0


async def test_the_balance_pays_here_too(shop: Product) -> None:
    person = await buyer(shop, 900000833)
    user = await shop.account(person)
    async with shop.core.db.write() as session:
        earned = {"kind": "commission", "amount_tiyin": 5_800_000, "available_at": NOW - dt.timedelta(days=1)}
        session.add(models.ReferralEntry(partner_id=user.id, **earned))
    menu = await person.says("/plan", "You are on the plan")
    await person.presses(menu, "Choose a plan", "Premium")
    await person.presses(menu, "Basic ·", "For how long?")
    await person.presses(menu, "Monthly", "Choose how to pay.")
    screen = await person.presses(menu, "From my balance", "From my balance: −58")
    assert "232 000 UZS" in plain(screen.text)
    await person.presses(menu, "Payme", "Waiting for payment")
    (payment,) = await payments(shop, person)
    assert (payment.amount_tiyin, payment.balance_tiyin) == (23_200_000, 5_800_000)


async def test_a_button_of_an_old_screen_buys_nothing_twice(shop: Product) -> None:
    """What the rest of the present plan pays altogether is there once, whichever of two screens is pressed again."""
    person = await buyer(shop, 900000811)
    user = await shop.account(person)
    async with shop.core.db.write() as session:
        payment = await orders.order(session, shop.core.settings, user, "basic", "annual", "click", now=NOW)
        await ledger.complete(session, shop.core.settings, payment, by="manual", now=NOW)
    wish = Buy(do="order", plan="premium", period="monthly", way="payme", basis=1).pack()
    old = Buy(do="order", plan="starter", period="monthly", way="payme", basis=1).pack()
    menu = await person.says("/plan", "You are on the plan Basic")
    keys = [{"text": "wish", "callback_data": wish}, {"text": "other", "callback_data": old}]
    got = "You have the plan Premium"
    for key, wanted in (("wish", got), ("other", "Choose how to pay."), ("wish", got)):
        menu.markup = {"inline_keyboard": [keys]}
        await person.presses(menu, key, wanted)
    assert [(each.plan, each.status) for each in await payments(shop, person)] == [
        ("basic", "paid"),
        ("premium", "paid"),
    ]


async def test_a_payment_that_was_paid_meanwhile_is_not_cancelled(shop: Product) -> None:
    person = await buyer(shop, 900000804)
    screen = await chosen(person)
    (payment,) = await payments(shop, person)
    async with shop.core.db.write() as session:
        await ledger.complete(session, shop.core.settings, payment, by="manual", now=NOW)
    await person.presses(screen, "Cancel this payment", "Paid")
    assert (await payments(shop, person))[0].status == "paid"


async def test_time_that_is_over_is_said(shop: Product) -> None:
    person = await buyer(shop, 900000805)
    await chosen(person)
    shop.core.now = lambda: NOW + dt.timedelta(hours=25)
    (payment,) = await payments(shop, person)
    menu = await person.says("/plan", "You are on the plan")
    assert all("⏳" not in key["text"] for key in menu.buttons)
    menu.markup = {
        "inline_keyboard": [[{"text": "old", "callback_data": Pay(do="open", number=payment.number).pack()}]]
    }
    await person.presses(menu, "old", "Expired")
    assert "Order it again" in str(menu.buttons)


async def test_anothers_payment_is_an_old_menu(shop: Product) -> None:
    """Whatever a changed client sends: nothing of it is shown, cancelled or sent."""
    owner, stranger = await buyer(shop, 900000806), await buyer(shop, 900000807)
    await chosen(owner)
    (payment,) = await payments(shop, owner)
    for do in ("open", "stop", "code", "paper"):
        menu = await stranger.says("/plan", "You are on the plan")
        menu.markup = {
            "inline_keyboard": [[{"text": "forged", "callback_data": Pay(do=do, number=payment.number).pack()}]]
        }
        press = stranger.user.press(menu, "forged")
        await shop.answered(press)
        assert press.alert and "is not yours" in str(press.text)
    assert (await payments(shop, owner))[0].status == "waiting"
    assert await payments(shop, stranger) == []


@pytest.mark.parametrize(
    "wish", [("golden", "monthly", "payme"), ("basic", "weekly", "payme"), ("basic", "monthly", "manual")]
)
async def test_a_wish_that_is_not_for_sale_is_refused(shop: Product, wish: tuple[str, str, str]) -> None:
    person = await buyer(shop, 900000808)
    menu = await person.says("/plan", "You are on the plan")
    data = Buy(do="order", plan=wish[0], period=wish[1], way=wish[2]).pack()
    assert len(data.encode()) <= 64
    menu.markup = {"inline_keyboard": [[{"text": "forged", "callback_data": data}]]}
    press = person.user.press(menu, "forged")
    await shop.answered(press)
    assert press.alert and await payments(shop, person) == []


def test_the_longest_callback_data_fits() -> None:
    assert len(Buy(do="order", plan="p" * 32, period="quarterly", way="payme", basis=999_999).pack().encode()) <= 64
    assert len(Pay(do="paper", number="9" * 20).pack().encode()) <= 64


async def test_without_gateways_there_is_nothing_to_press(start: Start) -> None:
    async with start() as product:
        person = await product.owner(900000809, "en")
        menu = await person.says("/plan", "Paying here is not set up yet.")
        assert [key["text"] for key in menu.buttons] == ["✖️ Close"]
