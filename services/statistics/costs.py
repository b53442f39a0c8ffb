"""What model calls used and cost: of counted days from ``day_costs``, of the rest from the calls themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services.days import midnight, today
from services.statistics import open_ranges
from services.statistics.counting import ANSWERED

_USAGE, _COSTS = models.AIUsage, models.DayCosts
_FIRST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
"""No call was made before."""
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one provider, model, bot and feature; ``cost_usd`` in US dollars, ``failed``: calls that brought no answer."""

    provider: str
    model: str
    bot_id: str | None
    feature: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Spans:
    """A time in two parts: the counted days, first and last (None: none), and the moments between which calls are summed up."""

    days: tuple[dt.date, dt.date] | None
    moments: Sequence[tuple[dt.datetime, dt.datetime]]


async def spans(session: AsyncSession, since: dt.datetime, until: dt.datetime) -> Spans:
    """Return how a time up to, not including, ``until`` is summed up."""
    since = max(since, _FIRST)
    if since >= until:
        return Spans(None, ())
    first, last = today(since), today(until)
    whole_first = first if since == midnight(first) else first + _DAY
    whole_last = last - _DAY
    moments: list[tuple[dt.datetime, dt.datetime]] = []
    if whole_first > whole_last:
        return Spans(None, [(since, until)])
    if whole_first > first:
        moments.append((since, midnight(whole_first)))
    for begins, ends in await open_ranges(session, whole_first, whole_last):
        moments.append((midnight(begins), midnight(ends + _DAY)))
    if midnight(last) < until:
        moments.append((midnight(last), until))
    return Spans((whole_first, whole_last), _joined(moments))


def _joined(moments: Sequence[tuple[dt.datetime, dt.datetime]]) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return the same times, those without a gap between them as one: each is a question of its own."""
    found: list[tuple[dt.datetime, dt.datetime]] = []
    for begins, ends in moments:
        if found and found[-1][1] == begins:
            found[-1] = found[-1][0], ends
        else:
            found.append((begins, ends))
    return found


async def sums(
    session: AsyncSession, since: dt.datetime, until: dt.datetime, *, by: Sequence[str], **of: Any
) -> list[Any]:
    """Return calls, failed ones, tokens in, out and cached, and the cost, after the columns ``by``, in no order.

    ``by``: of ``owner_id``, ``bot_id``, ``feature``, ``provider``, ``model``, ``own_key``; ``of``: what such columns must be.
    A part of the time has rows of its own, so that the same may come several times.
    """
    found: list[Any] = []
    parts = await spans(session, since, until)
    counted, called = _queries(tuple(by), tuple(of))
    values = {f"p_{name}": value for name, value in of.items()}
    if parts.days is not None:
        first, last = parts.days
        between = {"p_first": first.isoformat(), "p_last": last.isoformat()}
        found += (await session.execute(counted, values | between)).all()
    for begins, ends in parts.moments:
        found += (await session.execute(called, values | {"p_begins": begins, "p_ends": ends})).all()
    return found


@cache
def _queries(by: tuple[str, ...], of: tuple[str, ...]) -> tuple[Select[Any], Select[Any]]:
    """Return the queries of counted days and of calls; putting them together costs more than a small answer."""
    columns = ("calls", "failed", "input_tokens", "output_tokens", "cached_tokens", "cost_usd")
    days = [getattr(_COSTS, name) for name in by]
    counted = (
        select(*days, *(func.sum(getattr(_COSTS, name)) for name in columns))
        .where(_COSTS.day.between(bindparam("p_first"), bindparam("p_last")))
        .where(_COSTS.day.in_(select(models.CountedDay.day)))
        .where(*(getattr(_COSTS, name) == bindparam(f"p_{name}") for name in of))
    )
    named: dict[str, Any] = {"model": func.coalesce(func.nullif(_USAGE.model_served, ""), _USAGE.model_asked)}
    named["bot_id"] = func.coalesce(_USAGE.bot_id, "")
    calls: dict[str, Any] = {name: named.get(name, getattr(_USAGE, name, None)) for name in (*by, *of)}
    key = [calls[name] for name in by]
    failed = func.sum(case((_USAGE.outcome.in_(ANSWERED), 0), else_=1))
    called = (
        select(*key, func.count(), failed, *(func.sum(getattr(_USAGE, name)) for name in columns[2:]))
        .where(_USAGE.created_at >= bindparam("p_begins"), _USAGE.created_at < bindparam("p_ends"))
        .where(*(calls[name] == bindparam(f"p_{name}") for name in of))
    )
    return counted.group_by(*days), called.group_by(*key)


def _rows(found: Sequence[Any]) -> list[UsageRow]:
    together: dict[tuple[str, ...], UsageRow] = {}
    for provider, model, bot_id, feature, calls, failed, given, made, cached, cost in found:
        key = provider, model, bot_id, feature
        known = together.get(key, UsageRow(provider, model, bot_id or None, feature, 0, 0, 0, 0, Decimal(0)))
        together[key] = UsageRow(
            provider,
            model,
            bot_id or None,
            feature,
            known.calls + int(calls),
            known.input_tokens + int(given or 0),
            known.output_tokens + int(made or 0),
            known.cached_tokens + int(cached or 0),
            known.cost_usd + (cost or Decimal(0)),
            known.failed + int(failed or 0),
        )
    return sorted(
        together.values(), key=lambda row: (-row.cost_usd, row.provider, row.model, row.bot_id or "", row.feature)
    )


async def summary(session: AsyncSession, user: models.User, since: dt.datetime, until: dt.datetime) -> list[UsageRow]:
    """Return what a person's bots used in a period, the dearest first. An administrator sees the own bots here as well."""
    by = ("provider", "model", "bot_id", "feature")
    return _rows(await sums(session, since, until, by=by, owner_id=user.id))


async def of_own_key(session: AsyncSession, owner_id: str, first: dt.date, last: dt.date) -> list[UsageRow]:
    """Return what calls on the owner's own key cost on some days, by provider and model."""
    by = ("provider", "model")
    since, until = midnight(first), midnight(last + _DAY)
    found = await sums(session, since, until, by=by, owner_id=owner_id, own_key=True)
    return _rows([(row[0], row[1], "", "", *row[2:]) for row in found])
