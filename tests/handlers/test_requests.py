"""Asking for access in the factory bot, with and without a coupon; one's own link; and who came by it."""

from __future__ import annotations

from sqlalchemy import func, select, update

from db import models
from handlers.callbacks import Ask
from services import coupons, referrals
from services.coupons import Terms
from tests.fakes.telegram import Sent
from tests.handlers.conftest import Person, Product
from tests.handlers.test_menus import OLD_MENU

_WAITS = "Your request is waiting"
_SEND_CODE = "Send me the code"
_UNUSABLE = "This coupon cannot be used"


async def _requests(product: Product, person: Person) -> list[models.AccessRequest]:
    account = await product.account(person)
    async with product.core.db.read() as session:
        row = models.AccessRequest
        return list(await session.scalars(select(row).where(row.user_id == account.id).order_by(row.id)))


async def _coupon(product: Product) -> models.Coupon:
    core = product.core
    async with core.db.write() as session:
        terms = Terms(percent=10, plans=["basic"])
        return (await coupons.create(session, core.settings, terms, now=core.now(), code="SAVE10_UZ_2026"))[0]


async def _sum(person: Person) -> Sent:
    """Choose Basic for three months and return what would be sent."""
    menu = await person.says("/request", "Request access")
    await person.presses(menu, "Basic", "For how long?")
    return await person.presses(menu, "Quarterly", "Price:")


async def test_asking_and_withdrawing(product: Product) -> None:
    """One waits at a time, also when the button is pressed in two menus; administrators hear of it."""
    person, admin = await product.owner(900000901, "en"), await product.owner(900000902, "en", "Boshliq")
    account = await product.account(admin)
    async with product.core.db.write() as session:
        await session.execute(update(models.User).where(models.User.id == account.id).values(role="admin"))
    first = await _sum(person)
    second = await _sum(person)
    assert "826" in first.text
    await person.presses(second, "Send the request", _WAITS)
    await admin.hears("Aziza asks for access: Basic, Quarterly.")
    await person.presses(first, "Send the request", _WAITS)
    assert [(row.plan, row.period, row.status) for row in await _requests(product, person)] == [
        ("basic", "quarterly", "pending")
    ]
    waiting = await person.says("/request", _WAITS)
    await person.presses(waiting, "Withdraw", "The request was withdrawn.")
    assert [row.status for row in await _requests(product, person)] == ["withdrawn"]
    stranger = await product.owner(900000903, "en", "Begona")
    asked = await _sum(person)
    await person.presses(asked, "Send the request", _WAITS)
    pending = (await _requests(product, person))[-1]
    menu = await stranger.says("/request", "Request access")
    press = stranger.user.press(menu, Ask(do="withdraw", arg=pending.id).pack(), stale=True)
    await stranger.fake.wait_until(lambda: press.answered)
    assert press.text == stranger.text(OLD_MENU)
    press = stranger.user.press(menu, Ask(do="send", arg="trial", period="monthly").pack(), stale=True)
    await stranger.fake.wait_until(lambda: press.answered)
    assert await _requests(product, stranger) == []
    assert [row.status for row in await _requests(product, person)] == ["withdrawn", "pending"]


async def test_a_coupon_by_command_and_in_the_dialog(product: Product) -> None:
    person = await product.owner(900000911, "en")
    gift = await _coupon(product)
    await person.says("/coupon", _SEND_CODE)
    await person.says("YOLGHON", _UNUSABLE)
    menu = await person.says("save10_uz_2026", "Coupon: SAVE10_UZ_2026")
    await person.presses(menu, "Basic", "For how long?")
    await person.presses(menu, "Monthly", "Coupon SAVE10_UZ_2026")
    await person.presses(menu, "Send the request", _WAITS)
    assert [row.coupon_id for row in await _requests(product, person)] == [gift.id]
    other = await product.owner(900000912, "en", "Bobur")
    asked = await _sum(other)
    press = other.user.press(asked, "I have a coupon")
    await other.hears(_SEND_CODE)
    await other.fake.wait_until(lambda: press.answered)
    await other.says("/cancel", "No coupon was entered.")
    await other.says("/coupon SAVE10_UZ_2026", "Coupon: SAVE10_UZ_2026")


async def test_guessing_coupons_is_limited(product: Product) -> None:
    person = await product.owner(900000921, "en")
    await _coupon(product)
    for number in range(5):
        await person.says(f"/coupon TRY{number}", _UNUSABLE)
    await person.says("/coupon SAVE10_UZ_2026", "Too many coupon codes were tried.")


async def test_who_came_by_a_link(product: Product) -> None:
    """The first start with a partner's link brings somebody; whoever was here before, the partner, and a bad code do not."""
    partner = await product.owner(900000931, "en", "Hamkor")
    said = await partner.says("/invite", "https://t.me/")
    account = await product.account(partner)
    word = f"{referrals.START_WORD}{account.referral_code}"
    assert f"?start={word}" in said.text
    partner.user.start(partner.factory, word)
    known = await product.owner(900000932, "en", "Bobur")
    known.user.start(known.factory, word)
    new = product.person(900000933, "en", "Yangi")
    new.user.start(new.factory, word)
    lost = product.person(900000934, "en", "Adashgan")
    lost.user.start(lost.factory, f"{referrals.START_WORD}nobody22")
    for each in (partner, known, new, lost):
        await each.hears("Hello")
    async with product.core.db.read() as session:
        referral = models.Referral
        rows = (await session.execute(select(referral.partner_id, referral.user_id, referral.source))).all()
        assert await session.scalar(select(func.count()).select_from(models.ReferralTouch)) == 0
    assert rows == [(account.id, (await product.account(new)).id, "telegram")]
    await partner.says("/invite", "Registered: 1")
