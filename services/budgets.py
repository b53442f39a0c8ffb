"""What calls on the installation's keys may cost a day and a month: all providers together, and each.

An administrator sets budgets in the panel. A provider whose budget is used up is asked no more until the next day or month of
Tashkent, as if its key rested: the next model of the role answers, and without one passages are quoted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from services import accounts, notices
from services.ai import NAMES, PROVIDERS
from services.ai.router import CallRecord
from services.days import today
from services.i18n import LANGUAGES, T, Text

if TYPE_CHECKING:
    from services.core import Core

BUDGET = "ai.budget."
SPANS: Mapping[str, Text] = {"day": T("a day"), "month": T("a month")}
ALL = "all"
"""Stands among the providers for all of them together."""
NAMED: Mapping[str, Text | str] = {ALL: T("All providers"), **NAMES}
NEAR = Decimal("0.8")
"""Of so much of a budget administrators are warned."""
_EARLIER_REFRESH = dt.timedelta(minutes=10)
"""For so long the days of a month before today are trusted: they change only where they are summed up."""
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a budget is used, in US dollars; ``limit``: None where there is no budget."""

    span: str
    provider: str
    spent: Decimal
    limit: Decimal | None

    @property
    def is_out(self) -> bool:
        """Whether nothing is left."""
        return self.limit is not None and self.spent >= self.limit

    @property
    def is_near(self) -> bool:
        """Whether so much is used that administrators are told."""
        return self.limit is not None and self.spent >= self.limit * NEAR


def key(span: str, provider: str) -> str:
    """Return under which key a budget is kept among what administrators chose."""
    return f"{BUDGET}{span}.{provider}"


def name(span: str, provider: str, language: str) -> str:
    """Return what a budget is called: "Gemini, a day"."""
    called = NAMED[provider]
    return f"{called if isinstance(called, str) else called.render(language)}, {SPANS[span].render(language)}"


def limits(chosen: Mapping[str, Any]) -> dict[_Key, Decimal]:
    """Return the budgets among what was chosen, by span and provider."""
    return {
        (span, provider): Decimal(chosen[key(span, provider)])
        for span in SPANS
        for provider in NAMED
        if key(span, provider) in chosen
    }


def days_of(span: str, today: dt.date) -> list[dt.date]:
    """Return the days of a span until today, the latest first."""
    return [today - dt.timedelta(days=n) for n in range(today.day)] if span == "month" else [today]


def standings(limits_: Mapping[_Key, Decimal], costs: Mapping[str, Mapping[str, Decimal]]) -> list[Standing]:
    """Return every budget that there may be; ``costs``: by span what each provider cost."""
    return [
        Standing(span, provider, _sum(costs.get(span, {}), provider), limits_.get((span, provider)))
        for provider in NAMED
        for span in SPANS
    ]


def _sum(costs: Mapping[str, Decimal], provider: str) -> Decimal:
    return sum(costs.values(), start=Decimal(0)) if provider == ALL else costs.get(provider, Decimal(0))


def used_up(found: Collection[Standing]) -> frozenset[str]:
    """Return the providers that are not to be asked."""
    out = {each.provider for each in found if each.is_out}
    return frozenset(PROVIDERS if ALL in out else out)


class Budgets:
    """What this process knows of the budgets: what the rows said, and the calls since, whose rows follow with the answers."""

    def __init__(self) -> None:
        self.limits: Mapping[_Key, Decimal] = {}
        self.out: frozenset[str] = frozenset()
        self._day: dt.date | None = None
        self._costs: dict[str, dict[str, Decimal]] = {}
        self._earlier: Mapping[str, Decimal] = {}
        self._earlier_at: dt.datetime | None = None
        self._told: set[str] = set()

    def add(self, record: CallRecord) -> bool:
        """Count a call; tell whether by it a budget came to its warning or its end."""
        if record.owner_key or not record.cost_usd or not self.limits:
            return False
        before = self._reached()
        for costs in self._costs.values():
            costs[record.provider] = costs.get(record.provider, Decimal(0)) + record.cost_usd
        return self._reached() != before

    def _reached(self) -> list[tuple[bool, bool]]:
        return [(each.is_near, each.is_out) for each in standings(self.limits, self._costs)]

    async def look(self, core: Core, chosen: Mapping[str, Any], now: dt.datetime) -> None:
        """Compare what was spent with the budgets that were chosen, and tell administrators of those that come to an end."""
        from services import overrides

        day = today(now)
        if day != self._day:
            self._day, self._costs, self._earlier_at = day, {}, None
        self.limits = limits(chosen)
        spans = {span for span, _ in self.limits}
        self._costs = {span: costs for span, costs in self._costs.items() if span in spans}
        async with core.db.read() as session:
            # Other processes spend too: their calls of today are looked up each time.
            spent = await overrides.costs(session, [day]) if spans else {}
            if "month" in spans and (self._earlier_at is None or now - self._earlier_at >= _EARLIER_REFRESH):
                self._earlier = await overrides.costs(session, days_of("month", day)[1:])
                self._earlier_at = now
            for span in spans:
                earlier = self._earlier if span == "month" else {}
                known = self._costs.setdefault(span, {})
                for provider in {*spent, *earlier}:
                    cost = spent.get(provider, Decimal(0)) + earlier.get(provider, Decimal(0))
                    # Rows that are on their way are counted here already, those of other processes only there.
                    known[provider] = max(cost, known.get(provider, Decimal(0)))
        found = standings(self.limits, self._costs)
        self.out = used_up(found)
        for each in found:
            if each.is_near:
                await self._tell(core, each, day)

    async def _tell(self, core: Core, standing: Standing, day: dt.date) -> None:
        kind = "budget_out" if standing.is_out else "budget_near"
        since = days_of(standing.span, day)[-1]
        about = f"{kind}:{standing.span}:{standing.provider}:{since}:{standing.limit}"
        if about in self._told:
            return
        words = {language: name(standing.span, standing.provider, language) for language in LANGUAGES}
        params = {
            "budget": {"words": words},
            "limit": f"${standing.limit.normalize() if standing.limit is not None else 0:f}",
        }
        async with core.db.write() as session:
            for user_id in await accounts.administrators(session):
                await notices.open_notice(session, user_id, kind, key=about, params=params)
        self._told.add(about)
        core.bell.ring("notices")
