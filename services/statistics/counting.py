"""Counting the days that are over into ``day_numbers`` and ``day_costs``, once each.

A job does it every hour: first what ended last, then, a few days at a time and with pauses between, the history of an
installation that was there before. Rows of a day that is not marked as counted are no numbers yet: they are made anew.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import SQLColumnExpression, case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, table_of
from db.engine import Database
from services import jobs
from services.days import day_number, midnight, today
from services.statistics import BEGINNING, COUNTS, Line, live

if TYPE_CHECKING:
    from services.core import Core

COUNT_JOB = "count_days"
SETTLED = dt.timedelta(minutes=10)
"""So long after midnight whatever happened on the day is stored."""
DAYS_AT_ONCE = 7
_RANGES_AT_ONCE = 4
_PAUSE_S = 10.0
_SLICE = 500
_EPOCH = dt.date(1970, 1, 1)
_USAGE, _COSTS = models.AIUsage, models.DayCosts
ANSWERED = ("ok", "length", "refused")
"""Outcomes of calls that were answered."""
COST_KEY = ("owner_id", "day", "bot_id", "feature", "provider", "model", "own_key")
COST_SUMS = ("calls", "failed", "input_tokens", "output_tokens", "cached_tokens", "cost_usd", "latency_ms")


async def count_due(core: Core, _payload: Mapping[str, Any]) -> None:
    """Count what is over. Runs as a job, safe to repeat at any point; where there is more, it is taken up again soon."""
    for _ in range(_RANGES_AT_ONCE):
        if not await count_some(core.db, core.now()):
            return
    raise jobs.TryLater(_PAUSE_S)


async def is_behind(db: Database, now: dt.datetime) -> bool:
    """Whether a day that is over waits to be counted."""
    async with db.read() as session:
        days, _ = await _next(session, now)
    return bool(days)


async def count_some(db: Database, now: dt.datetime) -> bool:
    """Count the last :data:`DAYS_AT_ONCE` days that are over and not counted; return False where there are none left."""
    async with db.read() as session:
        days, known = await _next(session, now)
    names = [day.isoformat() for day in days]
    if not names:
        if not known:
            await _mark(db, [BEGINNING], now)
        return False
    for model in (models.DayNumbers, _COSTS):
        # What a count left that was broken off.
        async with db.write() as session:
            await jobs.still_ours(session)
            await session.execute(delete(model).where(model.day.in_(names)))
    async with db.read() as session:
        bots = (await session.scalars(select(models.Bot.id).order_by(models.Bot.id))).all()
    for bot_id in bots:
        async with db.read() as session:
            lines = await live(session, [bot_id], [(days[0], days[-1])])
        if lines:
            await _store(db, bot_id, lines)
    await _count_costs(db, days)
    await _mark(db, names, now)
    return True


async def _next(session: AsyncSession, now: dt.datetime) -> tuple[list[dt.date], bool]:
    """Return the next days to count, without a gap between them, and whether all before the counted ones is known."""
    rows = await session.execute(select(models.CountedDay.day, models.CountedDay.counted_at))
    counted = {row.day: row.counted_at for row in rows}
    last = today(now - SETTLED) - dt.timedelta(days=1)
    whole = counted.pop(BEGINNING, None)
    if whole is not None:
        first = min([today(whole), *map(dt.date.fromisoformat, counted)])
    else:
        first = await _earliest(session, last)
    found: list[dt.date] = []
    day = last
    while day >= first and len(found) < DAYS_AT_ONCE:
        if day.isoformat() not in counted:
            found.append(day)
        elif found:
            break
        day -= dt.timedelta(days=1)
    return found[::-1], whole is not None


async def _earliest(session: AsyncSession, last: dt.date) -> dt.date:
    """Return the first day of which there is something, the one after ``last`` where there is nothing."""
    moments = [
        await session.scalar(select(func.min(models.Conversation.created_at))),
        await session.scalar(select(func.min(_USAGE.created_at))),
    ]
    return min([today(moment) for moment in moments if moment is not None], default=last + dt.timedelta(days=1))


async def _mark(db: Database, names: Sequence[str], now: dt.datetime) -> None:
    async with db.write() as session:
        await jobs.still_ours(session)
        insert = insert_for(session.get_bind().dialect.name, models.CountedDay)
        rows = [{"day": name, "counted_at": now} for name in names]
        await session.execute(insert.values(rows).on_conflict_do_nothing(index_elements=["day"]))


async def _store(db: Database, bot_id: str, lines: Sequence[Line]) -> None:
    async with db.write() as session:
        await jobs.still_ours(session)
        # A bot may have gone meanwhile, and must not go now.
        kept = await session.scalar(
            select(models.Bot.id).where(models.Bot.id == bot_id).with_for_update(key_share=True)
        )
        if kept is None:
            return
        for line in lines:
            numbers = line.numbers
            counts = {name: getattr(numbers, name) for name in COUNTS}
            waits = {"waits": list(numbers.waits), "person_waits": list(numbers.person_waits)}
            place = {"bot_id": bot_id, "day": line.day.isoformat(), "channel": line.channel, "language": line.language}
            session.add(models.DayNumbers(**place, **counts, **waits))


# What model calls cost


def of_calls(dialect: str) -> tuple[list[SQLColumnExpression[Any]], list[SQLColumnExpression[Any]]]:
    """Return the columns of ``day_costs`` as they come of model calls: those of the key, the day as a number, and the sums."""
    row = _USAGE
    model = func.coalesce(func.nullif(row.model_served, ""), row.model_asked)
    day = day_number(dialect, row.created_at)
    key = [row.owner_id, day, func.coalesce(row.bot_id, ""), row.feature, row.provider, model, row.own_key]
    failed = func.sum(case((row.outcome.in_(ANSWERED), 0), else_=1))
    sums = [getattr(_USAGE, name) for name in COST_SUMS[2:]]
    return key, [func.count(), failed, *(func.sum(column) for column in sums)]


async def _count_costs(db: Database, days: Sequence[dt.date]) -> None:
    start, end = midnight(days[0]), midnight(days[-1] + dt.timedelta(days=1))
    async with db.read() as session:
        key, sums = of_calls(session.get_bind().dialect.name)
        found = await session.execute(
            select(*key, *sums).where(_USAGE.created_at >= start, _USAGE.created_at < end).group_by(*key)
        )
        rows = [dict(zip((*COST_KEY, *COST_SUMS), row, strict=True)) for row in found]
    for row in rows:
        row["day"] = (_EPOCH + dt.timedelta(days=int(row["day"]))).isoformat()
    for at in range(0, len(rows), _SLICE):
        async with db.write() as session:
            await jobs.still_ours(session)
            await session.execute(table_of(models.DayCosts).insert(), rows[at : at + _SLICE])


async def hand_over_costs(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Write the costs of an owner to another one's account; ``keep_id`` empty: nobody is left, and no bot is named."""
    rows = (await session.scalars(select(_COSTS).where(_COSTS.owner_id == former_id))).all()
    together: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        bot_id = row.bot_id if keep_id else ""
        place = (keep_id, row.day, bot_id, row.feature, row.provider, row.model, row.own_key)
        known = together.setdefault(place, dict.fromkeys(COST_SUMS, 0))
        for name in COST_SUMS:
            known[name] += getattr(row, name)
        session.expunge(row)
    await session.execute(
        delete(_COSTS).where(_COSTS.owner_id == former_id), execution_options={"synchronize_session": False}
    )
    insert = insert_for(session.get_bind().dialect.name, _COSTS)
    added = {name: getattr(_COSTS, name) + insert.excluded[name] for name in COST_SUMS}
    insert = insert.on_conflict_do_update(index_elements=list(COST_KEY), set_=added)
    for place, sums in together.items():
        await session.execute(insert, [dict(zip(COST_KEY, place, strict=True)) | sums])
