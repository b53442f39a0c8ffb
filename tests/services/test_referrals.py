"""Referrals: whose visit counts, what is earned and when, and that no so'm of it is used twice."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from db import models
from db.engine import Database
from services import referrals
from services.errors import Conflict, Invalid
from services.referrals import Account
from services.settings import Settings
from tests.composition import make_settings
from tests.services.money import DAY, NOW, opened, payment, person

HOLD = 14 * DAY


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


async def _code(db: Database, user: models.User) -> str:
    async with db.write() as session:
        return await referrals.code_of(session, user)


async def _opens(db: Database, partner: models.User, visitor: str, *, now: dt.datetime = NOW) -> bool:
    code = await _code(db, partner)
    async with db.write() as session:
        return await referrals.touched(session, code, visitor, now=now)


async def _registers(
    db: Database, settings: Settings, user: models.User, visitor: str | None, *, now: dt.datetime = NOW
) -> str | None:
    """Register somebody and return who brought them."""
    async with db.write() as session:
        await referrals.registered(session, settings, user, visitor, now=now)
    async with db.read() as session:
        return await session.scalar(select(models.Referral.partner_id).where(models.Referral.user_id == user.id))


async def _balance(db: Database, user: models.User, now: dt.datetime) -> int:
    async with db.read() as session:
        return await referrals.balance_tiyin(session, user.id, now=now)


async def _account(db: Database, user: models.User, now: dt.datetime) -> Account:
    async with db.read() as session:
        return await referrals.account(session, user.id, now=now)


async def _brought(db: Database, settings: Settings) -> tuple[models.User, models.User]:
    """Return a partner and an owner whom the partner brought."""
    partner, owner = await person(db, "Hamkor"), await person(db, "Mijoz")
    await _opens(db, partner, "web:1")
    assert await _registers(db, settings, owner, "web:1") == partner.id
    return partner, owner


async def _earns(
    db: Database, settings: Settings, bill: models.Payment, *, now: dt.datetime = NOW, back: bool = False
) -> None:
    async with db.write() as session:
        if back:
            await referrals.taken_back(session, bill, now=now)
        else:
            await referrals.earned(session, settings, bill, now=now)


async def test_the_last_link_opened_within_the_window_counts(database_url: str, settings: Settings) -> None:
    """Opened now, registered weeks later; the day after the window nothing is left of it."""
    async with opened(database_url) as db:
        first, second = await person(db, "First"), await person(db, "Second")
        assert await _opens(db, first, "web:1")
        assert await _opens(db, second, "web:1", now=NOW + DAY)
        assert await _opens(db, first, "tg:7")
        assert not await _opens(db, first, f"tg:{(await person(db, 'Known', telegram_id=8)).telegram_id}")
        late = NOW + 30 * DAY
        assert await _registers(db, settings, await person(db, "Aziza"), "web:1", now=late) == second.id
        assert await _registers(db, settings, await person(db, "Bobur"), "web:1", now=late) is None
        assert await _registers(db, settings, await person(db, "Dono"), "tg:7", now=late) is None
        assert await _registers(db, settings, await person(db, "Eldor"), None) is None
        account = await _account(db, first, NOW)
        assert (account.clicks, account.registered, account.paying) == (2, 0, 0)
        assert (await _account(db, second, NOW)).registered == 1


async def test_the_same_visitor_is_one_click_a_day(database_url: str) -> None:
    async with opened(database_url) as db:
        partner = await person(db, "Hamkor")
        for hours in (0, 1, 9, 10, 24):
            # Ten in the evening in Tashkent is 17:00 in UTC: a new day begins there at 19:00.
            assert await _opens(db, partner, "web:1", now=NOW + hours * dt.timedelta(hours=1))
        assert await _opens(db, partner, "web:2")
        assert (await _account(db, partner, NOW)).clicks == 3
        async with db.write() as session:
            for code in ("", "nobody22", "'; --", "Ä" * 9, "x" * 300):
                assert not await referrals.touched(session, code, "web:3", now=NOW)
            await session.execute(update(models.User).values(banned_at=NOW))
        assert not await _opens(db, partner, "web:3")


@pytest.mark.parametrize("same", ["telegram", "phone", "mailbox", "gmail"])
async def test_nobody_brings_themselves(sqlite_url: str, settings: Settings, same: str) -> None:
    """Neither when the account is made nor when the first payment comes."""
    async with opened(sqlite_url) as db:
        partner, again = await person(db, "Hamkor"), await person(db, "Yana")
        known = {
            "telegram": ("telegram_id", 5, 5),
            "phone": ("phone", "+998901234567", "+998901234567"),
            "mailbox": ("email", "ali@example.uz", "ali+2@example.uz"),
            "gmail": ("email", "ali.vali@gmail.com", "alivali+x@googlemail.com"),
        }
        field, one, other = known[same]
        await _opens(db, partner, "web:1")
        seen = models.User(id=again.id, email=again.email)
        setattr(seen, field, other)
        setattr(partner, field, one)
        assert referrals.is_same_person(partner, seen)
        assert not referrals.is_same_person(partner, again)
        if same in ("mailbox", "gmail"):
            async with db.write() as session:
                (await session.get_one(models.User, partner.id)).email = str(one)
            assert await _registers(db, settings, again, "web:1") == partner.id
            async with db.write() as session:
                (await session.get_one(models.User, again.id)).email = str(other)
            await _earns(db, settings, await payment(db, again, "1"))
            assert await _balance(db, partner, NOW + HOLD) == 0
        assert await _registers(db, settings, partner, "web:1") is None


async def test_a_commission_counts_after_the_hold_and_once(database_url: str, settings: Settings) -> None:
    """A fifth of what was paid; however often the gateway says that it was, and at the same time."""
    async with opened(database_url) as db:
        partner, owner = await _brought(db, settings)
        bill = await payment(db, owner, "1", amount_tiyin=290_001_50)
        await asyncio.gather(*(_earns(db, settings, bill) for _ in range(5)))
        assert await _balance(db, partner, NOW + HOLD - dt.timedelta(seconds=1)) == 0
        assert await _balance(db, partner, NOW + HOLD) == 58_000_00
        account = await _account(db, partner, NOW)
        assert (account.due, account.held, account.earned, account.paying) == (0, 58_000_00, 58_000_00, 1)
        stranger = await person(db, "Begona")
        await _earns(db, settings, await payment(db, stranger, "2"))
        test = await payment(db, owner, "3")
        test.sandbox = True
        await _earns(db, settings, test)
        assert (await _account(db, partner, NOW)).earned == 58_000_00


@pytest.mark.parametrize("after", [0, 20], ids=["in the hold", "after it"])
async def test_a_refund_takes_the_commission_back(database_url: str, settings: Settings, after: int) -> None:
    """Once; within the hold the balance is never less than nothing by it, after it it may be."""
    async with opened(database_url) as db:
        partner, owner = await _brought(db, settings)
        bill, now = await payment(db, owner, "1"), NOW + after * DAY
        await _earns(db, settings, bill)
        if after:
            async with db.write() as session:
                own = models.Payment(**_own(partner))
                session.add(own)
                await session.flush()
                await referrals.spend(session, partner.id, 50_000_00, own.id, now=now)
        await asyncio.gather(*(_earns(db, settings, bill, now=now, back=True) for _ in range(3)))
        assert await _balance(db, partner, now) == (-50_000_00 if after else 0)
        assert await _balance(db, partner, now + HOLD) == (-50_000_00 if after else 0)
        account = await _account(db, partner, now)
        assert (account.earned, account.held, account.paying) == (0, 0, 0)
        other = await payment(db, owner, "9")
        await _earns(db, settings, other, now=now, back=True)
        assert (await _account(db, partner, now)).earned == 0


def _own(partner: models.User, number: str = "own") -> dict[str, object]:
    return {
        "number": number,
        "user_id": partner.id,
        "plan": "basic",
        "period": "monthly",
        "gateway": "payme",
        "price_tiyin": 290_000_00,
        "amount_tiyin": 290_000_00,
        "created_at": NOW,
        "expires_at": NOW + DAY,
    }


async def test_a_balance_is_spent_once(database_url: str, settings: Settings) -> None:
    """Ten orders and a payout at the same time use no more than there is; what is given back comes back once."""
    async with opened(database_url) as db:
        partner, owner = await _brought(db, settings)
        admin, now = await person(db, "Boshliq"), NOW + HOLD
        for number in range(2):
            await _earns(db, settings, await payment(db, owner, f"in{number}", amount_tiyin=500_000_00))
        bills = [await payment(db, partner, f"own{number}") for number in range(10)]
        assert await _balance(db, partner, now) == 200_000_00

        async def use(bill: models.Payment) -> str | None:
            try:
                async with db.write() as session:
                    await referrals.spend(session, partner.id, 60_000_00, bill.id, now=now)
            except Invalid as error:
                assert error.field == "balance"
                return None
            return bill.id

        used = [bill for bill in await asyncio.gather(*map(use, bills)) if bill]
        assert len(used) == 3
        assert await _balance(db, partner, now) == 20_000_00

        async def back() -> None:
            async with db.write() as session:
                await referrals.give_back(session, used[0], now=now)

        async with db.write() as session:
            await referrals.spend(session, partner.id, 60_000_00, used[1], now=now)
        await asyncio.gather(*(back() for _ in range(5)))
        assert await _balance(db, partner, now) == 80_000_00
        async with db.write() as session:
            await referrals.give_back(session, "none", now=now)

        async def pays(due: int = 140_000_00) -> bool:
            try:
                async with db.write() as session:
                    await referrals.pay_out(
                        session, settings, admin, partner.id, 100_000_00, "card", due_tiyin=due, now=now
                    )
            except Conflict:
                return False
            return True

        assert not await pays()
        async with db.write() as session:
            await referrals.give_back(session, used[1], now=now)
        assert sum(await asyncio.gather(*(pays() for _ in range(3)))) == 1
        account = await _account(db, partner, now)
        assert (account.due, account.paid, account.spent) == (40_000_00, 100_000_00, 60_000_00)
        async with db.read() as session:
            log = models.AuditLog
            assert await session.scalar(select(func.count()).where(log.action == "referral_payout")) == 1


@pytest.mark.parametrize("amount", [0, -1, 99_999_00, 200_001_00, 150_000_50, 10**17])
async def test_payouts_that_cannot_be(sqlite_url: str, settings: Settings, amount: int) -> None:
    """Less than the least, more than is due, parts of a so'm."""
    async with opened(sqlite_url) as db:
        partner, owner = await _brought(db, settings)
        await _earns(db, settings, await payment(db, owner, "1", amount_tiyin=1_000_000_00))
        async with db.write() as session:
            with pytest.raises(Invalid) as refused:
                await referrals.pay_out(
                    session, settings, owner, partner.id, amount, "", due_tiyin=200_000_00, now=NOW + HOLD
                )
        assert refused.value.field == "amount"


async def test_a_code_is_made_once(database_url: str) -> None:
    async with opened(database_url) as db:
        owner = await person(db, "Hamkor")

        async def ask() -> str:
            async with db.write() as session:
                return await referrals.code_of(session, await session.get_one(models.User, owner.id))

        assert len(set(await asyncio.gather(*(ask() for _ in range(5))))) == 1


@pytest.mark.parametrize(
    ("agent", "machine"),
    [
        ("TelegramBot (like TwitterBot)", True),
        ("WhatsApp/2.23.20.0", True),
        ("facebookexternalhit/1.1", True),
        ("Googlebot/2.1", True),
        ("curl/8.5", True),
        ("", True),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36", False),
    ],
)
def test_what_only_makes_previews(agent: str, machine: bool) -> None:
    assert referrals.is_machine(agent) is machine
