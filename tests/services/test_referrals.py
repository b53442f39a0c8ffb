"""Referrals: whose visit counts, what is earned and when, and that no so'm of it is used twice."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from db import models
from db.engine import Database
from services import referrals
from services.errors import Conflict, Invalid, NotFound
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


@pytest.mark.parametrize("same", ["telegram", "phone", "mailbox", "gmail", "yandex"])
async def test_nobody_brings_themselves(sqlite_url: str, settings: Settings, same: str) -> None:
    """Neither when the account is made nor when the first payment comes."""
    async with opened(sqlite_url) as db:
        partner, again = await person(db, "Hamkor"), await person(db, "Yana")
        known = {
            "telegram": ("telegram_id", 5, 5),
            "phone": ("phone", "+998901234567", "+998901234567"),
            "mailbox": ("email", "ali@example.uz", "ali+2@example.uz"),
            "gmail": ("email", "ali.vali@gmail.com", "alivali+x@googlemail.com"),
            "yandex": ("email", "ali.vali@yandex.ru", "Ali-Vali@ya.ru"),
        }
        field, one, other = known[same]
        await _opens(db, partner, "web:1")
        seen = models.User(id=again.id, email=again.email)
        setattr(seen, field, other)
        setattr(partner, field, one)
        assert referrals.is_same_person(partner, seen)
        assert not referrals.is_same_person(partner, again)
        if field == "email":
            async with db.write() as session:
                (await session.get_one(models.User, partner.id)).email = str(one)
            assert await _registers(db, settings, again, "web:1") == partner.id
            async with db.write() as session:
                (await session.get_one(models.User, again.id)).email = str(other)
            await _earns(db, settings, await payment(db, again, "1"))
            assert await _balance(db, partner, NOW + HOLD) == 0
        assert await _registers(db, settings, partner, "web:1") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sotuv@firma.uz", "info@firma.uz"),
        ("a.li@firma.uz", "ali@firma.uz"),
        ("ali@gmail.com", "ali@mail.ru"),
        ("+a@firma.uz", "+b@firma.uz"),
        (None, None),
    ],
)
def test_people_of_one_office_are_not_one_person(one: str | None, other: str | None) -> None:
    first, second = (models.User(id=f"{n}", email=email) for n, email in enumerate((one, other)))
    assert not referrals.is_same_person(first, second)


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


async def _paid_out(db: Database, settings: Settings, now: dt.datetime) -> tuple[models.User, models.ReferralEntry]:
    """Return a partner with 100 000 so'm left, and the payout of as much."""
    partner, owner = await _brought(db, settings)
    await _earns(db, settings, await payment(db, owner, "1", amount_tiyin=1_000_000_00))
    async with db.write() as session:
        paid = await referrals.pay_out(
            session, settings, owner, partner.id, 100_000_00, "8600", due_tiyin=200_000_00, now=now
        )
    return partner, paid


async def _letters(db: Database, user: models.User) -> list[models.Letter]:
    async with db.read() as session:
        letter = models.Letter
        return list(await session.scalars(select(letter).where(letter.user_id == user.id).order_by(letter.id)))


async def test_a_payout_noted_by_mistake_is_taken_back_once(database_url: str, settings: Settings) -> None:
    """By several at once, too: the balance is exactly what it was, both lines stay, and the partner is told of both."""
    async with opened(database_url) as db:
        now = NOW + HOLD
        partner, paid = await _paid_out(db, settings, now)
        admin = await person(db, "Boshliq")
        assert await _balance(db, partner, now) == 100_000_00

        async def undoes(at: dt.datetime = now) -> bool:
            try:
                async with db.write() as session:
                    await referrals.undo_payout(session, admin, paid.id, " Boshqa\n hamkorniki ", now=at)
            except Conflict:
                return False
            return True

        assert sum(await asyncio.gather(*(undoes() for _ in range(4)))) == 1
        assert not await undoes(now + DAY)
        assert await _balance(db, partner, now) == 200_000_00
        account = await _account(db, partner, now)
        assert (account.due, account.paid, account.earned) == (200_000_00, 0, 200_000_00)
        async with db.read() as session:
            (payout,) = (await referrals.payouts(session)).items
            assert payout.undone is not None
            assert (payout.undone.note, payout.undone.amount_tiyin) == ("Boshqa hamkorniki", 100_000_00)
            log = (
                await session.scalars(select(models.AuditLog).where(models.AuditLog.action == "referral_payout_undone"))
            ).one()
            assert (log.actor_id, log.object_id) == (admin.id, partner.id)
            assert log.details == {"amount_uzs": "100000", "reason": "Boshqa hamkorniki"}
            books = await referrals.books(session, now=now)
        assert (books.earned, books.paid, books.owed, books.spent) == (200_000_00, 0, 200_000_00, 0)
        told = await _letters(db, partner)
        assert [letter.kind for letter in told] == ["payout_made", "payout_undone"]
        assert [letter.params["balance"] for letter in told] == [{"tiyin": 100_000_00}, {"tiyin": 200_000_00}]
        # And it can be paid again, rightly this time.
        async with db.write() as session:
            await referrals.pay_out(session, settings, admin, partner.id, 200_000_00, "", due_tiyin=200_000_00, now=now)
        assert await _balance(db, partner, now) == 0


@pytest.mark.parametrize("bad", ["reason", "late", "commission", "unknown"])
async def test_payouts_that_stay(sqlite_url: str, settings: Settings, bad: str) -> None:
    """Without a reason, after thirty days, and what is no payout."""
    async with opened(sqlite_url) as db:
        now = NOW + HOLD
        partner, paid = await _paid_out(db, settings, now)
        entry_id, error = paid.id, {"reason": Invalid, "late": Conflict}.get(bad, NotFound)
        if bad == "commission":
            async with db.read() as session:
                entry_id = next(row.id for row in await referrals.entries(session, partner.id) if row.amount_tiyin > 0)
        elif bad == "unknown":
            entry_id = "0" * 26
        later = now + 30 * DAY if bad == "late" else now + 30 * DAY - dt.timedelta(seconds=1)
        async with db.write() as session:
            with pytest.raises(error):
                reason = "  " if bad == "reason" else "Xato"
                await referrals.undo_payout(session, partner, entry_id, reason, now=later)
        assert await _balance(db, partner, now) == 100_000_00


async def test_what_was_earned_and_paid_stays_in_the_books(database_url: str, settings: Settings) -> None:
    """The account goes, its lines stay without it: a refund afterwards finds the commission, and the sums still add up."""
    async with opened(database_url) as db:
        now = NOW + HOLD
        partner, paid = await _paid_out(db, settings, now)
        async with db.read() as session:
            bill = (await session.scalars(select(models.Payment).where(models.Payment.number == "1"))).one()
            before = await referrals.books(session, now=now)
        async with db.write() as session:
            await session.execute(delete(models.User).where(models.User.id == partner.id))
        async with db.read() as session:
            after = await referrals.books(session, now=now)
            (payout,) = (await referrals.payouts(session)).items
        assert (after.earned, after.paid) == (before.earned, before.paid) == (200_000_00, 100_000_00)
        assert (after.owed, after.lapsed) == (0, 100_000_00)
        assert (payout.entry.id, payout.entry.amount_tiyin, payout.partner) == (paid.id, -100_000_00, None)
        assert not referrals.can_undo(payout.entry, now)
        async with db.write() as session:
            with pytest.raises(NotFound):
                await referrals.undo_payout(session, partner, paid.id, "Xato", now=now)
        await _earns(db, settings, bill, now=now, back=True)
        async with db.read() as session:
            refunded = await referrals.books(session, now=now)
        assert (refunded.earned, refunded.paid, refunded.lapsed) == (0, 100_000_00, -100_000_00)


async def test_a_refund_is_told_once(sqlite_url: str, settings: Settings) -> None:
    async with opened(sqlite_url) as db:
        partner, owner = await _brought(db, settings)
        bill = await payment(db, owner, "1")
        await _earns(db, settings, bill)
        for _ in range(2):
            await _earns(db, settings, bill, now=NOW + HOLD, back=True)
        (letter,) = await _letters(db, partner)
        assert (letter.kind, letter.params["amount"]) == ("commission_back", {"tiyin": 58_000_00})


async def test_who_signed_in_to_the_same_browser_is_the_partner(sqlite_url: str, settings: Settings) -> None:
    """Neither a click nor a registration; other accounts that were used in it are no reason."""
    async with opened(sqlite_url) as db:
        partner, other = await person(db, "Hamkor"), await person(db, "Boshqa")
        code = await _code(db, partner)
        async with db.write() as session:
            assert not await referrals.touched(session, code, "web:1", now=NOW, known=[other.id, partner.id])
            assert await referrals.touched(session, code, "web:1", now=NOW, known=[other.id])
        again = await person(db, "Yana")
        async with db.write() as session:
            await referrals.registered(session, settings, again, "web:1", now=NOW, known=[partner.id])
        async with db.read() as session:
            assert await session.scalar(select(func.count()).select_from(models.Referral)) == 0
        assert (await _account(db, partner, NOW)).clicks == 1


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


async def test_partners_are_listed_by_what_is_due(database_url: str) -> None:
    """In parts, each once, those of equal amounts too; what is held counts for nobody yet, and the sums are of all."""
    async with opened(database_url) as db:
        expected: dict[str, tuple[int, int, int, int]] = {}
        async with db.write() as session:
            for n in range(7):
                user = models.User(full_name=f"Hamkor {n}")
                session.add(user)
                await session.flush()
                earned, used, later = 100 * (n // 2), 10 * (n % 4 // 2), 1000 * (7 - n)
                for kind, amount, at in (
                    ("commission", earned, NOW),
                    ("spent", -used, NOW),
                    ("commission", later, NOW + DAY),
                ):
                    session.add(
                        models.ReferralEntry(partner_id=user.id, kind=kind, amount_tiyin=amount, available_at=at)
                    )
                expected[user.id] = earned - used, later, earned + later, used
            session.add(models.ReferralEntry(kind="commission", amount_tiyin=5, available_at=NOW + DAY))
        seen: list[tuple[str, tuple[int, int, int, int]]] = []
        cursor: str | None = ""
        while cursor is not None:
            async with db.read() as session:
                part, books = await referrals.programme(session, now=NOW, cursor=cursor, limit=2)
            seen += [(user.id, (one.due, one.held, one.earned, one.spent)) for user, one in part.items]
            cursor = part.next
        assert seen == sorted(expected.items(), key=lambda each: (-each[1][0], each[0]))
        due, held, _, used = (sum(each) for each in zip(*expected.values(), strict=True))
        assert (books.owed, books.held, books.spent, books.paid, books.lapsed) == (due, held, used, 0, 5)
        assert books.earned == books.owed + books.held + books.spent + books.paid + books.lapsed
