"""Plans, their prices, and what an owner has at a moment: plain reckoning, no database.

An owner's time is a row of paid spans that never overlap. Where none stands, the clock since registration decides: ``trial``,
then ``test``, then nothing. Amounts are integer tiyin.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.days import TASHKENT
from services.errors import Invalid
from services.i18n import T
from services.settings import FREE_PLANS, Period, PlanFacts, Settings

TIYIN = 100
"""To a so'm."""
PERIODS = ("monthly", "quarterly", "annual")

Status = Literal["unlimited", "trial", "test", "active", "grace", "expired"]
Kind = Literal["new", "renewal", "upgrade", "downgrade"]


@dataclass(frozen=True, slots=True)
class Span:
    """A paid span: from ``starts_at`` up to, not including, ``ends_at``."""

    id: str
    plan: str
    period: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    value_tiyin: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What an owner has at a moment.

    ``plan``: its key, None where nothing is allowed any more. ``facts``: what it allows; None without a limit (an
    administrator) and where nothing is. ``ends_at``: when ``status`` changes by the clock alone. ``paid_until``: the end of
    everything paid for.
    """

    status: Status
    plan: str | None = None
    facts: PlanFacts | None = None
    ends_at: dt.datetime | None = None
    paid_until: dt.datetime | None = None

    @property
    def allows(self) -> bool:
        """Whether the owner's bots answer."""
        return self.status != "expired"

    @property
    def is_paid(self) -> bool:
        """Whether what the owner has was paid for, the days of grace included."""
        return self.status in ("active", "grace")


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that decides what an owner has: when the free days began, and the paid spans by their start."""

    settings: Settings
    began_at: dt.datetime
    spans: Sequence[Span] = ()
    unlimited: bool = False

    def at(self, moment: dt.datetime) -> Standing:
        """Return what the owner has at ``moment``."""
        if self.unlimited:
            return Standing("unlimited")
        rules = self.settings.subscriptions
        ends = [span.ends_at for span in self.spans]
        paid_until = max(ends) if ends and max(ends) > moment else None
        current = self.current(moment)
        if current is not None:
            return self._with("active", current.plan, self._same_plan_until(current), paid_until)
        past = [span for span in self.spans if span.ends_at <= moment]
        last = max(past, key=lambda span: span.ends_at) if past else None
        if last is not None and (over := last.ends_at + dt.timedelta(days=rules.grace_days)) > moment:
            return self._with("grace", last.plan, over, paid_until)
        for status, days in (("trial", rules.trial_days), ("test", rules.test_until_day)):
            end = self.began_at + dt.timedelta(days=days)
            if moment < end:
                return self._with("trial" if status == "trial" else "test", status, end, paid_until)
        return Standing("expired", paid_until=paid_until)

    def current(self, moment: dt.datetime) -> Span | None:
        """Return the paid span that ``moment`` is in."""
        return next((span for span in self.spans if span.starts_at <= moment < span.ends_at), None)

    def ahead(self, moment: dt.datetime) -> list[Span]:
        """Return the spans that are not over at ``moment``, by their start."""
        return sorted((span for span in self.spans if span.ends_at > moment), key=lambda span: span.starts_at)

    def trial_ends_at(self) -> dt.datetime:
        """Return when the trial is over, whatever was paid."""
        return self.began_at + dt.timedelta(days=self.settings.subscriptions.trial_days)

    def _same_plan_until(self, current: Span) -> dt.datetime:
        end = current.ends_at
        for span in self.ahead(end):
            if span.plan != current.plan or span.starts_at > end:
                break
            end = span.ends_at
        return end

    def _with(self, status: Status, plan: str, ends_at: dt.datetime, paid_until: dt.datetime | None) -> Standing:
        # A plan that was taken out of the configuration while somebody has it: what is least of the paid ones.
        facts = self.settings.plans.get(plan) or min(for_sale(self.settings).values(), key=lambda one: one.price_uzs)
        return Standing(status, plan, facts, ends_at, paid_until)


def for_sale(settings: Settings) -> Mapping[str, PlanFacts]:
    """Return the plans that can be bought, the cheapest first."""
    paid = [(key, facts) for key, facts in settings.plans.items() if key not in FREE_PLANS]
    return dict(sorted(paid, key=lambda each: each[1].price_uzs))


def period_of(settings: Settings, period: str) -> Period:
    """Return what is set for a period; raises ``Invalid`` (field ``period``) for one that is not sold."""
    if period not in PERIODS:
        raise Invalid(T("Choose a period: monthly, quarterly or annual."), field="period")
    found: Period = getattr(settings.subscriptions, period)
    return found


def plan_of(settings: Settings, plan: str) -> PlanFacts:
    """Return a plan that can be bought; raises ``Invalid`` (field ``plan``) for any other."""
    facts = for_sale(settings).get(plan)
    if facts is None:
        raise Invalid(T("There is no such plan. Choose one from the list."), field="plan")
    return facts


def price_tiyin(settings: Settings, plan: str, period: str) -> int:
    """Return what a plan costs for a period, in whole so'm; raises as :func:`plan_of` and :func:`period_of` do."""
    facts, terms = plan_of(settings, plan), period_of(settings, period)
    return facts.price_uzs * terms.months * (100 - terms.discount_percent) // 100 * TIYIN


def is_larger(settings: Settings, plan: str, than: str) -> bool:
    """Tell whether a plan is larger than another: the price says it; one that is not sold any more is the smallest."""
    price = {key: facts.price_uzs for key, facts in settings.plans.items()}
    return price.get(plan, -1) > price.get(than, -1)


def kind_of(settings: Settings, timeline: Timeline, plan: str, now: dt.datetime) -> Kind:
    """Tell what buying ``plan`` would be: ``upgrade`` begins at once, the others follow what is paid for already."""
    ahead = timeline.ahead(now)
    if not ahead:
        return "new"
    if is_larger(settings, plan, ahead[0].plan):
        return "upgrade"
    return "renewal" if plan == ahead[-1].plan else "downgrade"


def unused_tiyin(spans: Sequence[Span], now: dt.datetime) -> int:
    """Return what is left of the value of spans at ``now``, by the second, rounded down to a so'm."""
    total = 0
    for span in spans:
        whole = (span.ends_at - span.starts_at) // dt.timedelta(seconds=1)
        left = (span.ends_at - max(now, span.starts_at)) // dt.timedelta(seconds=1)
        if whole > 0 and left > 0:
            total += span.value_tiyin * min(left, whole) // whole // TIYIN * TIYIN
    return total


def month_of(moment: dt.datetime) -> str:
    """Return the month of Tashkent's time that a moment is in, like ``2026-11``."""
    return moment.astimezone(TASHKENT).strftime("%Y-%m")


def month_ends_at(moment: dt.datetime) -> dt.datetime:
    """Return when the month of Tashkent's time that a moment is in is over, in UTC."""
    here = moment.astimezone(TASHKENT)
    after = (here.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=32)).replace(day=1)
    return after.astimezone(dt.UTC)
