"""Coupons: what they take off, who may use them how often, and that the last use is used once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from db import models
from db.engine import Database
from services import coupons
from services.coupons import Terms
from services.errors import AppError, Conflict, Invalid, TooMany
from services.limits import Limits
from services.settings import Settings
from tests.composition import make_settings
from tests.services.money import DAY, HUNDRED, NOW, coupon, opened, payment, person, uses

PRICE = 290_000_00


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


async def _make(db: Database, settings: Settings, terms: Terms, code: str = "SAVE10_UZ_2026") -> models.Coupon:
    async with db.write() as session:
        return (await coupons.create(session, settings, terms, now=NOW, code=code))[0]


async def _off(db: Database, user: models.User, code: str, *, plan: str = "basic", price: int = PRICE) -> int:
    async with db.read() as session:
        return (await coupons.price_off(session, user, code, plan, price, now=NOW)).discount_tiyin


async def _take(db: Database, user: models.User, row: models.Coupon, number: str) -> models.Payment:
    bill = await payment(db, user, number)
    async with db.write() as session:
        await coupons.reserve(session, user.id, row.id, now=NOW, payment_id=bill.id)
    return bill


@pytest.mark.parametrize(
    ("terms", "price", "off"),
    [
        (Terms(percent=10), PRICE, 29_000_00),
        (Terms(percent=100), PRICE, PRICE),
        (Terms(percent=7), 149_999_00, 10_499_00),
        (Terms(percent=33), 100, 0),
        (Terms(amount_tiyin=50_000_00), PRICE, 50_000_00),
        (Terms(amount_tiyin=500_000_00), PRICE, PRICE),
        (Terms(amount_tiyin=50_000_00), 0, 0),
    ],
    ids=["percent", "all", "rounded down", "less than a so'm", "so'm", "more than the price", "nothing to pay"],
)
def test_what_a_coupon_takes_off(terms: Terms, price: int, off: int) -> None:
    """Whole so'm, never above the price."""
    row = models.Coupon(percent=terms.percent, amount_tiyin=terms.amount_tiyin)
    assert coupons.discount_tiyin(row, price) == off


async def test_whatever_is_wrong_the_words_are_the_same(sqlite_url: str, settings: Settings) -> None:
    async with opened(sqlite_url) as db:
        owner, other = await person(db, "Aziza"), await person(db, "Bobur")
        await _make(db, settings, Terms(percent=10))
        assert await _off(db, owner, " save10_uz_2026 ") == 29_000_00
        over = await _make(db, settings, Terms(percent=10, valid_until=NOW + DAY), "OVER")
        await _make(db, settings, Terms(percent=10, valid_from=NOW + DAY), "EARLY")
        await _make(db, settings, Terms(percent=10, user_id=other.id), "OTHERS")
        await _make(db, settings, Terms(percent=10, plans=["premium"]), "PREMIUM")
        gone = await _make(db, settings, Terms(percent=10), "GONE")
        used = await _make(db, settings, Terms(percent=10), "USED")
        mine = await _make(db, settings, Terms(percent=10, max_uses=None), "MINE")
        await _take(db, other, used, "1")
        await _take(db, owner, mine, "2")
        async with db.write() as session:
            await coupons.disable(session, gone.id, now=NOW)
            (await coupons.get(session, over.id)).valid_until = NOW
        said = set()
        for code in ("OVER", "EARLY", "OTHERS", "PREMIUM", "GONE", "USED", "MINE", "NONE", "", "'; --", "x" * 500, "Ä"):
            with pytest.raises(Invalid) as refused:
                await _off(db, owner, code)
            said.add((refused.value.text.msgid, refused.value.code, refused.value.field))
        assert len(said) == 1
        assert await _off(db, other, "OTHERS") == await _off(db, owner, "PREMIUM", plan="premium") == 29_000_00


async def test_the_last_use_is_used_once(database_url: str, settings: Settings) -> None:
    """A hundred owners want one of three uses at the same time."""
    async with opened(database_url) as db:
        row = await _make(db, settings, Terms(percent=10, max_uses=3))
        people = [await person(db, f"Owner{number}") for number in range(HUNDRED)]
        bills = [await payment(db, user, str(number)) for number, user in enumerate(people)]

        async def take(user: models.User, bill: models.Payment) -> bool:
            try:
                async with db.write() as session:
                    await coupons.reserve(session, user.id, row.id, now=NOW, payment_id=bill.id)
            except Invalid:
                return False
            return True

        taken = await asyncio.gather(*(take(user, bill) for user, bill in zip(people, bills, strict=True)))
        assert sum(taken) == 3
        assert (await coupon(db, row.id)).uses == 3
        assert await uses(db, row.id) == ["reserved"] * 3


async def test_one_owner_s_uses_are_counted_under_a_lock(database_url: str, settings: Settings) -> None:
    """Twenty orders of one owner at the same time get the two uses that the owner has."""
    async with opened(database_url) as db:
        row = await _make(db, settings, Terms(percent=10, max_uses=None, per_owner=2))
        owner = await person(db, "Aziza")
        bills = [await payment(db, owner, str(number)) for number in range(20)]

        async def take(bill: models.Payment) -> bool:
            try:
                async with db.write() as session:
                    await coupons.reserve(session, owner.id, row.id, now=NOW, payment_id=bill.id)
            except Invalid:
                return False
            return True

        assert sum(await asyncio.gather(*map(take, bills))) == 2
        assert (await coupon(db, row.id)).uses == 2


async def test_what_is_released_can_be_used_again(database_url: str, settings: Settings) -> None:
    """Spending and releasing are for once, however often they come and at the same time."""
    async with opened(database_url) as db:
        row = await _make(db, settings, Terms(percent=10))
        first, second = await person(db, "Aziza"), await person(db, "Bobur")
        bill = await _take(db, first, row, "1")
        with pytest.raises(Invalid):
            await _take(db, second, row, "2")

        async def each(step: object) -> None:
            async with db.write() as session:
                await (coupons.release if step else coupons.spend)(session, bill.id)

        await asyncio.gather(*(each(False) for _ in range(3)))
        assert await uses(db, row.id) == ["spent"]
        await asyncio.gather(*(each(True) for _ in range(5)))
        assert (await coupon(db, row.id)).uses == 0
        await _take(db, second, row, "3")
        await each(False)
        assert await uses(db, row.id) == ["released", "reserved"]
        async with db.write() as session:
            await coupons.spend(session, "none")
            await coupons.release(session, "none")
        assert (await coupon(db, row.id)).uses == 1


async def test_codes_made_at_once(database_url: str, settings: Settings) -> None:
    async with opened(database_url) as db:
        async with db.write() as session:
            many = await coupons.create(session, settings, Terms(percent=10), now=NOW, count=150)
            named = await coupons.create(session, settings, Terms(amount_tiyin=100), now=NOW, code="BAZAR", count=2)
            alone = await coupons.create(session, settings, Terms(percent=15), now=NOW)
        assert len({row.code for row in many}) == 150
        assert all(re.fullmatch(r"SAVE10_UZ_2026_[2-9A-Z]{8}", row.code) for row in many)
        assert all(row.code.startswith("BAZAR_") for row in named)
        assert alone[0].code.startswith("SAVE15_UZ_2026_")
        await _make(db, settings, Terms(percent=10), "yangi-yil")
        with pytest.raises(Conflict):
            await _make(db, settings, Terms(percent=20), "YANGI-YIL")
        async with db.read() as session:
            page = await coupons.listed(session, now=NOW, search="save10", limit=100)
            rest = await coupons.listed(session, now=NOW, search="save10", limit=100, before=page.following)
        assert len(page.coupons) + len(rest.coupons) == 150
        assert rest.following is None


@pytest.mark.parametrize(
    ("terms", "code", "count", "field"),
    [
        (Terms(), "", 1, "percent"),
        (Terms(percent=10, amount_tiyin=100), "", 1, "percent"),
        (Terms(percent=0), "", 1, "percent"),
        (Terms(percent=101), "", 1, "percent"),
        (Terms(amount_tiyin=-100), "", 1, "amount"),
        (Terms(amount_tiyin=10**15), "", 1, "amount"),
        (Terms(percent=10, plans=["trial"]), "", 1, "plan"),
        (Terms(percent=10, valid_until=NOW), "", 1, "valid_until"),
        (Terms(percent=10, valid_from=NOW + 2 * DAY, valid_until=NOW + DAY), "", 1, "valid_until"),
        (Terms(percent=10, max_uses=0), "", 1, "max_uses"),
        (Terms(percent=10, per_owner=0), "", 1, "per_owner"),
        (Terms(percent=10), "<b>", 1, "code"),
        (Terms(percent=10), "A" * 41, 1, "code"),
        (Terms(percent=10), "A" * 32, 2, "code"),
        (Terms(percent=10), "", 0, "count"),
        (Terms(percent=10), "", 1001, "count"),
    ],
)
async def test_terms_that_make_no_sense(
    sqlite_url: str, settings: Settings, terms: Terms, code: str, count: int, field: str
) -> None:
    async with opened(sqlite_url) as db, db.write() as session:
        with pytest.raises(AppError) as refused:
            await coupons.create(session, settings, terms, now=NOW, code=code, count=count)
        assert refused.value.field == field


async def test_guessing_is_limited() -> None:
    """Five tries of an account, twenty of an address; a code that was right lets the account try on."""
    limits = Limits()

    async def tries(account: str) -> int:
        for number in range(1000):
            try:
                await coupons.allow_guess(limits, account, "192.0.2.1", 5)
            except TooMany:
                return number
        return 1000

    assert await tries("a") == 5
    await coupons.guessed_right(limits, "a")
    assert await tries("a") == 5
    assert [await tries(f"b{number}") for number in range(4)] == [5, 2, 0, 0]


async def test_how_long_to_wait_is_said_as_it_is() -> None:
    """Also where longer windows are full; what is refused uses nothing up."""
    limits, said = Limits(), []
    for over in ((), (900,), (900, 7_200), (900,)):
        for window_s in over:
            await limits.forget(f"coupon:account:a:{window_s}")
        for number in range(100):
            try:
                await coupons.allow_guess(limits, "a", f"192.0.2.{number}", 5)
            except TooMany as error:
                refused = error
        said.append((refused.text.msgid.rpartition("Wait ")[2], refused.retry_after_s))
    short, long = ("15 minutes.", 900), ("two hours.", 7_200)
    assert said == [short, long, short, ("a day.", 86_400)]
