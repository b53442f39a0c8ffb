"""Access that is asked for: one request at a time, one decision, and everybody told once."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from db import models
from db.engine import Database
from services import bookkeeping, coupons, receipts, referrals, requests, subscriptions
from services.coupons import Terms
from services.days import today
from services.errors import AppError, Conflict, Invalid, NotFound, TooMany
from services.payments import ledger
from services.settings import Settings
from tests.composition import make_settings
from tests.services.money import DAY, NOW, coupon, opened, person, uses


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


async def _admin(db: Database, name: str = "Boshliq") -> models.User:
    made = await person(db, name)
    async with db.write() as session:
        await session.execute(update(models.User).where(models.User.id == made.id).values(role="admin"))
    made.role = "admin"
    return made


async def _asks(db: Database, settings: Settings, user: models.User, *, code: str = "") -> models.AccessRequest:
    async with db.write() as session:
        return await requests.ask(
            session, settings, user, "basic", "quarterly", code=code, note="  Shartnoma ", now=NOW
        )


async def _grants(
    db: Database, settings: Settings, admin: models.User, request: models.AccessRequest, *, use_coupon: bool = True
) -> models.Subscription:
    async with db.write() as session:
        return await requests.grant(
            session,
            settings,
            admin,
            request.id,
            "basic",
            "quarterly",
            price_tiyin=700_000_00,
            price_note="naqd",
            answer="Xush kelibsiz",
            use_coupon=use_coupon,
            now=NOW,
        )


async def _spans(db: Database, user: models.User) -> list[models.Subscription]:
    async with db.read() as session:
        return list(await subscriptions.spans(session, user.id))


async def _letters(db: Database, user: models.User) -> list[str]:
    async with db.read() as session:
        letter = models.Letter
        return list(await session.scalars(select(letter.kind).where(letter.user_id == user.id).order_by(letter.id)))


async def test_from_asking_to_granting(database_url: str, settings: Settings) -> None:
    """The administrators are told, the coupon is used up, the plan is there with what was paid, the owner is written to."""
    async with opened(database_url) as db:
        admin, other, owner = await _admin(db), await _admin(db, "Ikkinchi"), await person(db, "Aziza")
        async with db.write() as session:
            gift = (await coupons.create(session, settings, Terms(percent=10), now=NOW, code="SAVE10"))[0]
        asked = await _asks(db, settings, owner, code=" save10 ")
        assert (asked.plan, asked.period, asked.note, asked.coupon_id) == ("basic", "quarterly", "Shartnoma", gift.id)
        async with db.read() as session:
            notice = models.Notice
            told = await session.scalars(select(notice).where(notice.resolved_at.is_(None)))
            assert {row.user_id for row in told} == {admin.id, other.id}
            waiting = (await requests.pending(session)).items
        assert [each.price_tiyin(settings) for each in waiting] == [743_850_00]
        assert await _letters(db, admin) == ["request_received"]
        assert await uses(db, gift.id) == []
        span = await _grants(db, settings, admin, asked)
        assert (span.plan, span.source, span.value_tiyin, span.granted_by) == ("basic", "payment", 700_000_00, admin.id)
        assert span.ends_at == NOW + 90 * DAY
        assert await uses(db, gift.id) == ["spent"]
        assert await _letters(db, owner) == ["paid", "access_granted"]
        async with db.read() as session:
            assert await session.scalar(select(func.count()).where(models.Notice.resolved_at.is_(None))) == 0
            after = await session.get_one(models.AccessRequest, asked.id)
            kept = models.Letter.user_id == owner.id, models.Letter.kind == "access_granted"
            letter = (await session.scalars(select(models.Letter).where(*kept))).one()
            log = await requests.history(session, owner.id)
        assert (after.status, after.decided_by, after.subscription_id) == ("granted", admin.id, span.id)
        assert letter.params["until"] == {"day": (NOW + 90 * DAY).isoformat()}
        assert (letter.params["answer"], letter.mail, letter.telegram) == ("Xush kelibsiz", "new", "new")
        assert [(row.action, row.details["price_uzs"], row.details["note"]) for row, _ in log] == [
            ("plan_granted", "700000", "naqd")
        ]


async def test_two_administrators_grant_at_once(database_url: str, settings: Settings) -> None:
    """And a third declines, and the owner withdraws: one of them has decided, and at most one plan is there."""
    async with opened(database_url) as db:
        first, second, owner = await _admin(db), await _admin(db, "Ikkinchi"), await person(db, "Aziza")
        asked = await _asks(db, settings, owner)

        async def does(step: str) -> str:
            try:
                if step == "withdraw":
                    async with db.write() as session:
                        await requests.withdraw(session, owner, asked.id, now=NOW)
                elif step == "decline":
                    async with db.write() as session:
                        await requests.decline(session, settings, first, asked.id, "Yo‘q", now=NOW)
                else:
                    await _grants(db, settings, first if step == "first" else second, asked)
            except (Conflict, NotFound):
                return ""
            return step

        done = [step for step in await asyncio.gather(*map(does, ("first", "second", "decline", "withdraw"))) if step]
        assert len(done) == 1
        assert len(await _spans(db, owner)) == (done[0] in ("first", "second"))
        async with db.read() as session:
            status = (await session.get_one(models.AccessRequest, asked.id)).status
        assert status == {"decline": "declined", "withdraw": "withdrawn"}.get(done[0], "granted")


async def test_granting_twice_gives_once(database_url: str, settings: Settings) -> None:
    async with opened(database_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        asked = await _asks(db, settings, owner)
        done = await asyncio.gather(*(_grants(db, settings, admin, asked) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(each, models.Subscription) for each in done) == 1
        assert sum(isinstance(each, Conflict) for each in done) == 4
        assert len(await _spans(db, owner)) == 1
        assert await _letters(db, owner) == ["paid", "access_granted"]
        assert [each.amount_tiyin for each in await _payments(db, owner)] == [700_000_00]


async def _payments(db: Database, user: models.User) -> list[models.Payment]:
    async with db.read() as session:
        row = models.Payment
        return list(await session.scalars(select(row).where(row.user_id == user.id).order_by(row.id)))


async def test_what_was_paid_for_a_grant_is_money_like_any_other(database_url: str, settings: Settings) -> None:
    """In the ledger once, with the request and its coupon; whoever brought the owner earns; a refund takes all of it back."""
    async with opened(database_url) as db:
        admin, owner, partner = await _admin(db), await person(db, "Aziza"), await person(db, "Hamkor")
        async with db.write() as session:
            gift = (await coupons.create(session, settings, Terms(percent=10), now=NOW, code="SAVE10"))[0]
            facts = {"partner_id": partner.id, "user_id": owner.id, "source": "web", "touched_at": NOW}
            session.add(models.Referral(**facts))
        asked = await _asks(db, settings, owner, code="SAVE10")
        span = await _grants(db, settings, admin, asked)
        (paid,) = await _payments(db, owner)
        assert (paid.gateway, paid.paid_by, paid.status, paid.sandbox) == ("manual", "manual", "paid", False)
        assert (paid.request_id, paid.coupon_id, paid.created_by, paid.note) == (asked.id, gift.id, admin.id, "naqd")
        # The list says 826 500; what was taken less is the discount.
        assert (paid.price_tiyin, paid.discount_tiyin, paid.amount_tiyin) == (826_500_00, 126_500_00, 700_000_00)
        assert span.payment_id == paid.id
        later = NOW + 20 * DAY
        async with db.read() as session:
            receipt = await receipts.read(session, settings, paid)
            day = today(NOW)
            (line,) = await bookkeeping.reconciliation(session, day, day)
            table = [row async for rows in bookkeeping.table(db, settings, bookkeeping.Filters(), "en") for row in rows]
            events = [event.action for event in await ledger.life(session, paid.id)]
            earned = await referrals.balance_tiyin(session, partner.id, now=later)
        assert (receipt.amount, receipt.coupon, receipt.paid_by) == (700_000_00, "SAVE10", "manual")
        assert (line.gateway, line.performed) == ("manual", bookkeeping.Sum(1, 700_000_00))
        assert [row[0] for row in table] == ["Number", paid.number] and 700_000 in table[1]
        assert events == ["order", "complete"]
        assert earned == 700_000_00 * settings.referrals.commission_percent // 100
        async with db.write() as session:
            await ledger.refund(session, settings, paid, now=later, reason="Kelishuv tugadi", actor_id=admin.id)
        assert [each.revoked_at for each in await _spans(db, owner)] == [later]
        assert await uses(db, gift.id) == ["released"]
        async with db.read() as session:
            assert await referrals.balance_tiyin(session, partner.id, now=later) == 0


async def test_a_present_is_no_payment(sqlite_url: str, settings: Settings) -> None:
    async with opened(sqlite_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        async with db.write() as session:
            await requests.give(session, settings, admin, owner.id, "basic", "monthly", price_tiyin=0, now=NOW)
        (span,) = await _spans(db, owner)
        assert (span.source, span.value_tiyin, span.payment_id) == ("grant", 0, None)
        assert await _payments(db, owner) == [] and await _letters(db, owner) == ["access_granted"]


async def test_more_than_the_list_says_and_a_larger_plan(sqlite_url: str, settings: Settings) -> None:
    """Whatever was agreed: what is paid for waits and goes on after the larger plan, nothing of it is used up."""
    async with opened(sqlite_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        for plan, price in (("basic", 290_000_00), ("premium", 600_000_00)):
            async with db.write() as session:
                await requests.give(session, settings, admin, owner.id, plan, "monthly", price_tiyin=price, now=NOW)
        first, second = await _payments(db, owner)
        assert (first.kind, second.kind, second.credit_tiyin) == ("new", "upgrade", 0)
        assert (second.price_tiyin, second.discount_tiyin, second.amount_tiyin) == (600_000_00, 0, 600_000_00)
        found = sorted((span.plan, span.value_tiyin) for span in await _spans(db, owner) if span.ends_at > NOW)
        assert found == [("basic", 290_000_00), ("premium", 600_000_00)]
        async with db.write() as session:
            await session.execute(update(models.User).where(models.User.id == owner.id).values(banned_at=NOW))
        async with db.write() as session:
            with pytest.raises(Conflict) as refused:
                await requests.give(session, settings, admin, owner.id, "basic", "monthly", price_tiyin=100, now=NOW)
        assert refused.value.code == "banned"


@pytest.mark.parametrize("step", ["grant", "present", "extend", "change", "revoke"])
async def test_the_same_form_twice_at_once_does_its_work_once(database_url: str, settings: Settings, step: str) -> None:
    async with opened(database_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        async with db.write() as session:
            await requests.give(session, settings, admin, owner.id, "basic", "monthly", price_tiyin=0, now=NOW)
        seen = 1

        async def press() -> str:
            try:
                async with db.write() as session:
                    if step in ("grant", "present"):
                        price = 290_000_00 if step == "grant" else 0
                        await requests.give(
                            session,
                            settings,
                            admin,
                            owner.id,
                            "basic",
                            "monthly",
                            price_tiyin=price,
                            basis=seen,
                            now=NOW,
                        )
                    elif step == "extend":
                        await requests.extend(session, settings, admin, owner.id, 10, basis=seen, now=NOW)
                    elif step == "change":
                        await requests.change(session, settings, admin, owner.id, "premium", basis=seen, now=NOW)
                    else:
                        await requests.revoke(session, admin, owner.id, "Pul kelmadi", basis=seen, now=NOW)
            except Conflict as error:
                return error.code
            return "done"

        assert sorted(await asyncio.gather(*(press() for _ in range(4)))) == ["changed"] * 3 + ["done"]
        assert len(await _letters(db, owner)) == (3 if step == "grant" else 2)
        assert len(await _payments(db, owner)) == (step == "grant")
        spans = await _spans(db, owner)
        assert len(spans) == (2 if step in ("grant", "present") else 1)
        if step == "extend":
            assert spans[0].ends_at == NOW + 40 * DAY


async def test_one_request_waits_at_a_time(database_url: str, settings: Settings) -> None:
    async with opened(database_url) as db:
        owner, other = await person(db, "Aziza"), await person(db, "Bobur")
        done = await asyncio.gather(*(_asks(db, settings, owner) for _ in range(5)), return_exceptions=True)
        made = [each for each in done if isinstance(each, models.AccessRequest)]
        assert len(made) == 1
        assert all(isinstance(each, Conflict) and each.code == "waiting" for each in done if each is not made[0])
        async with db.write() as session:
            with pytest.raises(NotFound):
                await requests.withdraw(session, other, made[0].id, now=NOW)
            await requests.withdraw(session, owner, made[0].id, now=NOW)
            with pytest.raises(NotFound):
                await requests.withdraw(session, owner, made[0].id, now=NOW)
        assert (await _asks(db, settings, owner)).status == "pending"


async def _asks_at(db: Database, settings: Settings, user: models.User, now: dt.datetime, plan: str = "basic") -> str:
    async with db.write() as session:
        return (await requests.ask(session, settings, user, plan, "monthly", now=now)).id


async def test_asking_again_and_again_is_held_off(database_url: str, settings: Settings) -> None:
    """Three times within a day, of each owner; then it is said from when on. The administrator is sent one mail of it."""
    async with opened(database_url) as db:
        admin, owner, other = await _admin(db), await person(db, "Aziza"), await person(db, "Bobur")
        for hour in range(3):
            now = NOW + hour * dt.timedelta(hours=1)
            request_id = await _asks_at(db, settings, owner, now)
            async with db.write() as session:
                await requests.withdraw(session, owner, request_id, now=now)
        now = NOW + 3 * dt.timedelta(hours=1)
        with pytest.raises(TooMany) as refused:
            await _asks_at(db, settings, owner, now)
        assert refused.value.retry_after_s == 21 * 3600
        # Nine in the morning in UTC is two in the afternoon in Tashkent.
        assert "23.11.2026, 14:00" in refused.value.text.render("en")
        assert await _letters(db, admin) == ["request_received"]
        await _asks_at(db, settings, other, now)
        assert await _letters(db, admin) == ["request_received"] * 2
        with pytest.raises(TooMany):
            await _asks_at(db, settings, owner, NOW + DAY - dt.timedelta(seconds=1))
        await _asks_at(db, settings, owner, NOW + DAY)
        assert await _letters(db, admin) == ["request_received"] * 3


async def test_what_is_asked_after_an_answer_is_mailed_anew(sqlite_url: str, settings: Settings) -> None:
    async with opened(sqlite_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        request_id = await _asks_at(db, settings, owner, NOW)
        async with db.write() as session:
            await requests.decline(session, settings, admin, request_id, "Qaysi kompaniya?", now=NOW)
        await _asks_at(db, settings, owner, NOW, "premium")
        assert await _letters(db, admin) == ["request_received"] * 2


@pytest.mark.parametrize(
    ("plan", "period", "code", "note", "field"),
    [
        ("trial", "monthly", "", "", "plan"),
        ("nothing", "monthly", "", "", "plan"),
        ("basic", "weekly", "", "", "period"),
        ("basic", "monthly", "NONE", "", "coupon"),
        ("basic", "monthly", "", "x" * 501, "note"),
    ],
)
async def test_what_cannot_be_asked_for(
    sqlite_url: str, settings: Settings, plan: str, period: str, code: str, note: str, field: str
) -> None:
    async with opened(sqlite_url) as db:
        owner = await person(db, "Aziza")
        async with db.write() as session:
            with pytest.raises(Invalid) as refused:
                await requests.ask(session, settings, owner, plan, period, code=code, note=note, now=NOW)
        assert refused.value.field == field


async def test_a_coupon_that_ended_before_the_grant(sqlite_url: str, settings: Settings) -> None:
    """The administrator hears of it, nothing is granted; without the coupon it goes. Its days over are no reason."""
    async with opened(sqlite_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        async with db.write() as session:
            terms = Terms(percent=10, valid_until=NOW + DAY)
            gift = (await coupons.create(session, settings, terms, now=NOW, code="SAVE10"))[0]
        asked = await _asks(db, settings, owner, code="SAVE10")
        async with db.write() as session:
            await coupons.disable(session, gift.id, now=NOW)
        with pytest.raises(Invalid) as refused:
            await _grants(db, settings, admin, asked)
        assert refused.value.field == "coupon"
        assert await _spans(db, owner) == []
        await _grants(db, settings, admin, asked, use_coupon=False)
        assert (await coupon(db, gift.id)).uses == 0


async def test_what_an_administrator_does_by_hand(database_url: str, settings: Settings) -> None:
    """Granting, moving the end, changing and ending: each is there at once, written down and told."""
    async with opened(database_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        for step in ("extend", "change", "revoke"):
            async with db.write() as session:
                with pytest.raises(Conflict):
                    if step == "extend":
                        await requests.extend(session, settings, admin, owner.id, 3, now=NOW)
                    elif step == "change":
                        await requests.change(session, settings, admin, owner.id, "basic", now=NOW)
                    else:
                        await requests.revoke(session, admin, owner.id, "Pul kelmadi", now=NOW)
        async with db.write() as session:
            await requests.give(
                session, settings, admin, owner.id, "basic", "monthly", price_tiyin=290_000_00, answer="Salom", now=NOW
            )
            await requests.extend(session, settings, admin, owner.id, 10, now=NOW)
        later = NOW + 10 * DAY
        async with db.write() as session:
            await requests.change(session, settings, admin, owner.id, "premium", now=later)
        assert await _standing(db, settings, owner, NOW + DAY) == ("active", "basic")
        assert await _standing(db, settings, owner, later) == ("active", "premium")
        spans = await _spans(db, owner)
        assert [(span.plan, span.starts_at, span.ends_at) for span in reversed(spans)] == [
            ("basic", NOW, later),
            ("premium", later, NOW + 40 * DAY),
        ]
        assert sum(span.value_tiyin for span in spans) == 290_000_00
        async with db.write() as session:
            await requests.revoke(session, admin, owner.id, "Pul kelmadi", now=later)
        # The free days of tests are many.
        assert (await _standing(db, settings, owner, later + 400 * DAY))[0] == "expired"
        assert await _letters(db, owner) == ["paid", "access_granted", "plan_moved", "plan_changed", "plan_taken"]
        async with db.read() as session:
            actions = [row.action for row, _ in await requests.history(session, owner.id)]
        assert actions == ["plan_revoked", "plan_changed", "plan_extended", "plan_granted"]


async def _standing(db: Database, settings: Settings, owner: models.User, at: dt.datetime) -> tuple[str, str | None]:
    async with db.read() as session:
        standing = (await subscriptions.timeline(session, settings, owner)).at(at)
    return standing.status, standing.plan


@pytest.mark.parametrize("bad", ["price", "negative", "part", "days", "far", "plan", "reason", "answer", "long"])
async def test_what_an_administrator_cannot_do(sqlite_url: str, settings: Settings, bad: str) -> None:
    async with opened(sqlite_url) as db:
        admin, owner = await _admin(db), await person(db, "Aziza")
        asked = await _asks(db, settings, owner)
        price = {"price": 10**15, "negative": -100, "part": 150}.get(bad)
        async with db.write() as session:
            with pytest.raises(AppError) as refused:
                if price is not None:
                    await requests.give(
                        session, settings, admin, owner.id, "basic", "monthly", price_tiyin=price, now=NOW
                    )
                elif bad in ("days", "far"):
                    days = 0 if bad == "days" else 100_000
                    await requests.extend(session, settings, admin, owner.id, days, now=NOW)
                elif bad == "plan":
                    await requests.change(session, settings, admin, owner.id, "trial", now=NOW)
                elif bad == "reason":
                    await requests.revoke(session, admin, owner.id, "  ", now=NOW)
                else:
                    answer = " " if bad == "answer" else "x" * 501
                    await requests.decline(session, settings, admin, asked.id, answer, now=NOW)
        assert refused.value.status == 400
        assert await _spans(db, owner) == []
