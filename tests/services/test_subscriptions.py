"""What owners have paid for: spans that are added, cut, moved and taken back, and that no paid second is ever lost."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from db.base import new_id
from db.engine import Database
from services import accounts, plans, subscriptions
from services.errors import Invalid, NotFound
from services.plans import Standing
from services.settings import Settings

_SETTINGS = Settings()
_NOW = dt.datetime(2026, 11, 1, 9, 30, tzinfo=dt.UTC)
_DAY = dt.timedelta(days=1)
_PRICE = {plan: facts.price_uzs * 100 for plan, facts in _SETTINGS.plans.items()}


class _Owner:
    """An owner who buys; the clock is turned by hand."""

    def __init__(self, db: Database, user_id: str) -> None:
        self.db, self.id, self.now = db, user_id, _NOW

    async def pays(self, plan: str, period: str = "monthly", *, discount: int = 0) -> str:
        """Buy a plan as the quote says, less ``discount`` tiyin; return the payment's id."""
        payment_id = new_id()
        async with self.db.write() as session:
            user = await subscriptions.lock(session, self.id)
            quote = await subscriptions.quote(session, _SETTINGS, user, plan, period, now=self.now)
            paid = max(0, quote.price - quote.credit - discount)
            await subscriptions.grant(
                session,
                _SETTINGS,
                self.id,
                plan,
                period,
                now=self.now,
                source="payment",
                value_tiyin=paid + quote.credit,
                credit_tiyin=quote.credit,
                payment_id=payment_id,
            )
        return payment_id

    async def is_given(self, plan: str, period: str = "monthly") -> models.Subscription:
        """Get a plan of an administrator's."""
        async with self.db.write() as session:
            return await subscriptions.grant(
                session, _SETTINGS, self.id, plan, period, now=self.now, source="grant", value_tiyin=0
            )

    async def loses(self, payment_id: str | None = None) -> list[models.Subscription]:
        """Have a payment's plan, or everything, taken back."""
        async with self.db.write() as session:
            return await subscriptions.take_back(
                session, self.id, now=self.now, reason="asked for", payment_id=payment_id
            )

    async def extended(self, days: int) -> None:
        """Have the current plan made longer."""
        async with self.db.write() as session:
            await subscriptions.extend(session, self.id, days, now=self.now)

    async def refundable(self, payment_id: str) -> bool:
        """Whether a payment may be taken back."""
        async with self.db.read() as session:
            return await subscriptions.is_refundable(session, payment_id)

    async def user(self) -> models.User:
        """The row."""
        async with self.db.read() as session:
            return await session.get_one(models.User, self.id)

    async def rows(self) -> list[models.Subscription]:
        """Every span, revoked ones too, by their start."""
        async with self.db.read() as session:
            own = models.Subscription.user_id == self.id
            order = models.Subscription.starts_at, models.Subscription.ends_at, models.Subscription.id
            return list(await session.scalars(select(models.Subscription).where(own).order_by(*order)))

    async def has(self) -> list[tuple[str, float, float]]:
        """Plan, first and last day (from the first moment on) of each span that counts and lasts."""
        return [
            (row.plan, (row.starts_at - _NOW) / _DAY, (row.ends_at - _NOW) / _DAY)
            for row in await self.rows()
            if row.revoked_at is None and row.ends_at > row.starts_at
        ]

    async def standing(self, days: float) -> Standing:
        """What the owner has so many days after the first moment."""
        async with self.db.read() as session:
            user = await session.get_one(models.User, self.id)
            line = await subscriptions.timeline(session, _SETTINGS, user)
        return line.at(_NOW + days * _DAY)


async def _make(url: str) -> tuple[Database, _Owner]:
    db = Database(url)
    async with db.write() as session:
        user = await accounts.register_owner(session, full_name="Aziz", email="aziz@example.uz")
        user.trial_at = _NOW - 30 * _DAY
        session.add(user)
    return db, _Owner(db, user.id)


@pytest.fixture
async def owner(sqlite_url: str) -> AsyncIterator[_Owner]:
    """An owner whose free days are over."""
    db, made = await _make(sqlite_url)
    yield made
    await db.close()


async def test_a_first_plan_begins_at_once_and_renewals_add_to_the_end(owner: _Owner) -> None:
    """However early one renews, no day is lost; each change is a new version."""
    await owner.pays("starter")
    owner.now += 10 * _DAY
    await owner.pays("starter", "quarterly")
    await owner.pays("starter", "annual")
    assert await owner.has() == [("starter", 0, 30), ("starter", 30, 120), ("starter", 120, 485)]
    assert (await owner.standing(11)).ends_at == _NOW + 485 * _DAY
    assert (await owner.user()).subscription_version == 3


async def test_a_renewal_in_the_days_of_grace_begins_when_it_is_paid(owner: _Owner) -> None:
    """The days of grace were given, not lent."""
    await owner.pays("basic")
    owner.now += 32 * _DAY
    assert (await owner.standing(32)).status == "grace"
    await owner.pays("basic")
    assert await owner.has() == [("basic", 0, 30), ("basic", 32, 62)]


async def test_an_upgrade_costs_less_by_what_is_left(owner: _Owner) -> None:
    """Half of a month of the smaller plan is half of its price."""
    await owner.pays("starter")
    owner.now += 15 * _DAY
    async with owner.db.read() as session:
        quote = await subscriptions.quote(session, _SETTINGS, await owner.user(), "premium", "monthly", now=owner.now)
    assert (quote.kind, quote.price, quote.credit, quote.version) == ("upgrade", 59_000_000, 7_450_000, 1)
    await owner.pays("premium")
    assert await owner.has() == [("starter", 0, 15), ("premium", 15, 45)]


async def test_what_an_upgrade_is_worth_over_its_price_makes_it_longer(owner: _Owner) -> None:
    """A year of the smaller plan is more than a month of the larger: nothing is paid, and the month is longer."""
    await owner.pays("basic", "annual")
    await owner.pays("premium")
    (span,) = await owner.has()
    worth = plans.price_tiyin(_SETTINGS, "basic", "annual") / _PRICE["premium"]
    assert span[0] == "premium" and span[2] == pytest.approx(30 * worth, abs=1e-4)


async def test_a_discount_is_not_time_and_an_upgrade_gives_credit_for_what_was_paid(owner: _Owner) -> None:
    """A coupon makes a plan cheaper; later only what was paid for it is given back as credit."""
    await owner.pays("starter", discount=4_900_000)
    async with owner.db.read() as session:
        quote = await subscriptions.quote(session, _SETTINGS, await owner.user(), "basic", "monthly", now=_NOW)
    assert quote.credit == 10_000_000
    await owner.pays("basic", discount=5_000_000)
    assert await owner.has() == [("basic", 0, 30)]


async def test_a_smaller_plan_begins_when_the_larger_ends(owner: _Owner) -> None:
    """Nobody loses what is paid for already."""
    await owner.pays("premium")
    owner.now += 5 * _DAY
    await owner.pays("starter")
    assert await owner.has() == [("premium", 0, 30), ("starter", 30, 60)]
    assert (await owner.standing(29.9)).plan == "premium"
    assert (await owner.standing(30)).plan == "starter"


async def test_an_upgrade_uses_up_what_waits_too(owner: _Owner) -> None:
    """All that is paid for and not used is credit."""
    await owner.pays("starter")
    await owner.pays("starter")
    await owner.pays("premium")
    assert await owner.has() == [("premium", 0, 30)]
    spans = {row.plan: row for row in await owner.rows()}
    assert spans["premium"].value_tiyin == _PRICE["premium"]


async def test_what_an_administrator_gives_lets_the_rest_wait(owner: _Owner) -> None:
    """Paid time goes on after the gift, with its worth."""
    await owner.pays("starter")
    await owner.pays("starter", "quarterly")
    owner.now += 10 * _DAY
    await owner.is_given("premium")
    assert await owner.has() == [("starter", 0, 10), ("premium", 10, 40), ("starter", 40, 60), ("starter", 60, 150)]
    async with owner.db.read() as session:
        line = await subscriptions.timeline(session, _SETTINGS, await owner.user())
    left = plans.unused_tiyin(line.ahead(owner.now), owner.now)
    assert left == _PRICE["starter"] * 2 // 3 // 100 * 100 + plans.price_tiyin(_SETTINGS, "starter", "quarterly")


async def test_an_upgrade_uses_up_what_was_paid_and_lets_a_gift_wait(owner: _Owner) -> None:
    """A gift is worth nothing as credit, so it must not vanish into it."""
    await owner.pays("starter")
    await owner.is_given("starter")
    owner.now += 15 * _DAY
    await owner.pays("premium")
    assert await owner.has() == [("starter", 0, 15), ("premium", 15, 45), ("starter", 45, 75)]


async def test_taking_an_upgrade_back_restores_what_it_cut(owner: _Owner) -> None:
    """With the time that was left when it was cut; the upgrade's own time is gone."""
    first = await owner.pays("starter")
    waiting = await owner.pays("starter", "quarterly")
    owner.now += 10 * _DAY
    upgrade = await owner.pays("premium")
    assert not await owner.refundable(first) and not await owner.refundable(waiting)
    assert await owner.refundable(upgrade)
    owner.now += 5 * _DAY
    gone = await owner.loses(upgrade)
    assert [(span.plan, span.revoked_at, span.revoked_reason) for span in gone] == [("premium", owner.now, "asked for")]
    assert await owner.has() == [("starter", 0, 10), ("starter", 15, 35), ("starter", 35, 125)]
    assert await owner.refundable(first) and await owner.refundable(waiting)
    async with owner.db.read() as session:
        line = await subscriptions.timeline(session, _SETTINGS, await owner.user())
    left = plans.unused_tiyin(line.ahead(owner.now), owner.now)
    assert left == _PRICE["starter"] * 2 // 3 // 100 * 100 + plans.price_tiyin(_SETTINGS, "starter", "quarterly")


async def test_taking_an_upgrade_back_does_not_touch_what_runs_by_a_gift(owner: _Owner) -> None:
    """The gift goes on as long as it was given for; then the restored plan follows."""
    await owner.pays("starter")
    owner.now += 10 * _DAY
    upgrade = await owner.pays("basic")
    owner.now += 5 * _DAY
    await owner.is_given("premium")
    owner.now += 5 * _DAY
    await owner.loses(upgrade)
    assert await owner.has() == [("starter", 0, 10), ("premium", 15, 45), ("starter", 45, 65)]


async def test_taking_back_what_waits_leaves_what_runs_as_it_is(owner: _Owner) -> None:
    """What waited behind it moves up; what was used is not given a second time."""
    await owner.pays("basic")
    second = await owner.pays("basic")
    await owner.pays("starter")
    owner.now += 12 * _DAY
    await owner.loses(second)
    assert await owner.has() == [("basic", 0, 30), ("starter", 30, 60)]


async def test_taking_back_an_old_payment_changes_nothing_that_runs(owner: _Owner) -> None:
    """Long over, it only is not counted any more."""
    first = await owner.pays("basic")
    owner.now += 40 * _DAY
    await owner.pays("basic")
    owner.now += 3 * _DAY
    await owner.loses(first)
    assert await owner.has() == [("basic", 40, 70)]


async def test_taking_back_what_runs_lets_the_next_begin_at_once(owner: _Owner) -> None:
    """No gap, and no days of grace for what was given back."""
    first = await owner.pays("basic")
    await owner.pays("starter")
    owner.now += 12 * _DAY
    await owner.loses(first)
    assert await owner.has() == [("starter", 12, 42)]
    await owner.loses()
    assert await owner.has() == []
    assert (await owner.standing(13)).status == "expired"


async def test_taking_everything_back_keeps_the_past(owner: _Owner) -> None:
    """What was used up was had; a second time there is nothing to take."""
    await owner.pays("basic")
    owner.now += 32 * _DAY
    await owner.pays("basic")
    await owner.pays("starter")
    assert [span.plan for span in await owner.loses()] == ["basic", "starter"]
    assert await owner.has() == [("basic", 0, 30)]
    assert await owner.loses() == []


async def test_a_credit_is_used_up_also_where_the_smaller_plan_has_run_out_before_it_was_paid(owner: _Owner) -> None:
    """What it was reckoned from is gone with it: nothing is given for the same time twice."""
    await owner.pays("premium")
    await owner.pays("starter")
    await owner.pays("premium")
    assert await owner.has() == [("premium", 0, 30), ("starter", 30, 60), ("premium", 60, 90)]
    owner.now += 59 * _DAY
    async with owner.db.read() as session:
        quote = await subscriptions.quote(session, _SETTINGS, await owner.user(), "premium", "annual", now=owner.now)
    assert quote.kind == "upgrade" and quote.credit > 0
    owner.now += 2 * _DAY
    async with owner.db.write() as session:
        await subscriptions.grant(
            session,
            _SETTINGS,
            owner.id,
            "premium",
            "annual",
            now=owner.now,
            source="payment",
            value_tiyin=quote.price,
            credit_tiyin=quote.credit,
            payment_id="late",
        )
    assert (await owner.has())[-1] == ("premium", 61, 426) and (
        await owner.standing(61)
    ).paid_until == _NOW + 426 * _DAY


async def test_a_payment_can_be_refunded_when_the_upgrade_that_used_it_up_was_ended(owner: _Owner) -> None:
    """By an administrator, before the upgrade's own money went back."""
    first = await owner.pays("starter")
    second = await owner.pays("premium")
    assert not await owner.refundable(first)
    await owner.loses()
    assert await owner.loses(second) == [] and await owner.refundable(first)


async def test_a_payment_that_gave_nothing_takes_nothing_back(owner: _Owner) -> None:
    """Another's neither."""
    await owner.pays("basic")
    assert await owner.loses(new_id()) == []
    assert await owner.has() == [("basic", 0, 30)]


async def test_extending_moves_what_follows_and_shortening_stops_at_now(owner: _Owner) -> None:
    """A gift of days changes no worth; days that are taken away are worth nothing any more."""
    with pytest.raises(NotFound):
        await owner.extended(5)
    await owner.pays("premium")
    await owner.pays("starter")
    await owner.extended(7)
    assert await owner.has() == [("premium", 0, 37), ("starter", 37, 67)]
    owner.now += 10 * _DAY
    await owner.extended(-12)
    assert await owner.has() == [("premium", 0, 25), ("starter", 25, 55)]
    value = {row.plan: row.value_tiyin for row in await owner.rows()}
    assert value == {"premium": _PRICE["premium"] * 25 // 37, "starter": _PRICE["starter"]}
    await owner.extended(-100)
    assert await owner.has() == [("premium", 0, 10), ("starter", 10, 40)]


async def test_what_has_ended_goes_on(owner: _Owner) -> None:
    """In the days of grace and after them, from now; shorter it cannot become, and nothing comes of nothing."""
    with pytest.raises(NotFound):
        await owner.extended(3)
    await owner.is_given("basic")
    owner.now += 31 * _DAY
    assert (await owner.standing(31)).status == "grace"
    await owner.extended(3)
    assert (await owner.standing(31)).status == "active"
    assert await owner.has() == [("basic", 0, 34)]
    owner.now += 100 * _DAY
    with pytest.raises(NotFound):
        await owner.extended(-3)
    await owner.extended(5)
    assert await owner.has() == [("basic", 0, 136)]
    await owner.pays("basic")
    assert await owner.has() == [("basic", 0, 136), ("basic", 136, 166)]


@pytest.mark.parametrize(("plan", "period"), [("gold", "monthly"), ("trial", "monthly"), ("basic", "weekly")])
async def test_what_is_not_sold_is_not_given(owner: _Owner, plan: str, period: str) -> None:
    """And nothing is changed by the attempt."""
    with pytest.raises(Invalid):
        await owner.is_given(plan, period)
    assert await owner.rows() == [] and (await owner.user()).subscription_version == 0


async def test_nobody_is_given_what_nobody_owns(owner: _Owner) -> None:
    """An unknown owner."""
    with pytest.raises(NotFound):
        await _Owner(owner.db, new_id()).is_given("basic")


async def test_two_owners_have_nothing_in_common(owner: _Owner) -> None:
    """Spans of several are read in one query, each owner's for themselves."""
    async with owner.db.write() as session:
        other = await accounts.register_owner(session, full_name="Umida", email="umida@example.uz")
    await owner.pays("basic")
    async with owner.db.read() as session:
        people = [await session.get_one(models.User, id_) for id_ in (owner.id, other.id)]
        lines = await subscriptions.timelines(session, _SETTINGS, people)
    assert [len(lines[person.id].spans) for person in people] == [1, 0]


async def test_plans_bought_at_once_follow_each_other(database_url: str) -> None:
    """Ten payments that are completed in the same moment are ten months."""
    db, owner = await _make(database_url)
    await asyncio.gather(*(owner.pays("basic") for _ in range(10)))
    assert await owner.has() == [("basic", day, day + 30) for day in range(0, 300, 30)]
    assert (await owner.user()).subscription_version == 10
    await db.close()


async def _check(owner: _Owner, bought: dict[str, dt.timedelta]) -> None:
    """Check what always holds; ``bought``: how long each payment's plan was granted for."""
    rows = [row for row in await owner.rows() if row.revoked_at is None]
    lasting = [row for row in rows if row.ends_at > row.starts_at]
    for row in rows:
        assert row.starts_at <= row.ends_at and row.value_tiyin >= 0
    for one, other in itertools.pairwise(lasting):
        assert one.ends_at <= other.starts_at, "two spans overlap"
    ahead = [row for row in lasting if row.ends_at > owner.now]
    if ahead:
        assert ahead[0].starts_at <= owner.now, "paid for and yet nothing runs"
    for one, other in itertools.pairwise(ahead):
        assert one.ends_at == other.starts_at, "a gap in what is paid for"
    lengths: dict[str, dt.timedelta] = defaultdict(dt.timedelta)
    for row in rows:
        if row.payment_id is not None:
            lengths[row.payment_id] += row.ends_at - row.starts_at
            # Cut by an upgrade that paid for it: its credit, not its time, went on.
            lengths[row.payment_id] += (row.cut_from - row.ends_at) if row.cut_from is not None else dt.timedelta()
    assert lengths == bought, "paid time was lost or made"


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_spans_never_overlap_and_no_paid_second_is_lost(owner: _Owner, seed: int) -> None:
    """Payments, gifts and refunds in any order: each payment has its whole time, or an upgrade its credit."""
    dice = random.Random(seed)
    bought: dict[str, dt.timedelta] = {}
    for _ in range(30):
        owner.now += dt.timedelta(seconds=dice.choice((0, 1, 61, dice.randrange(40 * 86_400), dice.randrange(86_400))))
        refundable = [payment for payment in bought if await owner.refundable(payment)]
        spent_before = _used(await owner.rows(), owner.now)
        step = dice.random()
        gone: set[str | None] = set()
        if step < 0.5:
            payment = await owner.pays(dice.choice(("starter", "basic", "premium")), dice.choice(plans.PERIODS))
            bought[payment] = next(
                row.ends_at - row.starts_at for row in await owner.rows() if row.payment_id == payment
            )
        elif step < 0.7:
            await owner.is_given(dice.choice(("starter", "basic", "premium")))
        elif step < 0.95 and refundable:
            payment = dice.choice(refundable)
            await owner.loses(payment)
            del bought[payment]
            gone = {payment}
        elif step >= 0.97:
            await owner.loses()
            kept = [row for row in await owner.rows() if row.revoked_at is None]
            # All that is not over was revoked: of each payment counts what is left of its rows.
            bought = {}
            for row in kept:
                if row.payment_id is not None:
                    lost = (row.cut_from - row.ends_at) if row.cut_from is not None else dt.timedelta()
                    bought[row.payment_id] = (
                        bought.get(row.payment_id, dt.timedelta()) + row.ends_at - row.starts_at + lost
                    )
            gone = {None, *(row.payment_id for row in await owner.rows() if row.revoked_at is not None)}
        await _check(owner, bought)
        spent = _used(await owner.rows(), owner.now)
        for key, seconds in spent_before.items():
            assert key in gone or spent.get(key, dt.timedelta()) == seconds, "what was used before has changed"


def _used(rows: list[models.Subscription], now: dt.datetime) -> dict[str | None, dt.timedelta]:
    """How much of each payment (None: gifts) has been used."""
    used: dict[str | None, dt.timedelta] = defaultdict(dt.timedelta)
    for row in rows:
        if row.revoked_at is None and row.starts_at < now:
            used[row.payment_id] += min(row.ends_at, now) - row.starts_at
    return dict(used)
