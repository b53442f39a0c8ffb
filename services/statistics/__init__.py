"""What happened with bots, day by day of Tashkent: questions, answers, conversations, how long people waited.

Days that are over are counted once (:mod:`services.statistics.counting`) and read from ``day_numbers``; today, and what is not
counted yet, is reckoned from the messages as it is asked for and added. What people try in the panel counts nowhere.

How long answers took is kept as a histogram: step ``n`` holds what took more than ``FIRST_STEP_S * GROWTH ** (n - 1)`` and at
most ``FIRST_STEP_S * GROWTH ** n`` seconds, so that a median read from it is wrong by 10 % at most.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import zip_longest
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    String,
    Text,
    bindparam,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services.days import today
from services.keeping import Kept
from services.statistics import messages, talks
from services.statistics.talks import Talks
from services.testers import is_customer

FIRST_STEP_S = 0.1
GROWTH = 1.2
LAST_STEP = 94
"""The step of about a month; what took longer is in it as well."""
PERIODS: Mapping[str, int] = {"today": 1, "7": 7, "30": 30, "90": 90}
"""Periods of pages and how many days they have, today included."""
BEGINNING = "0001-01-01"
"""Counted where all days before the first counted one had nothing to count."""
_NUMBERS = models.DayNumbers


def step_of(seconds: float) -> int:
    """Return the step of a histogram in which a wait belongs."""
    if seconds <= FIRST_STEP_S:
        return 0
    # What is exactly on a border must not fall above it by the last binary digit.
    return min(LAST_STEP, math.ceil(math.log(seconds / FIRST_STEP_S, GROWTH) - 1e-9))


def histogram(waits: Iterable[tuple[float, int]]) -> tuple[int, ...]:
    """Return how many waits of each step there are, of pairs of seconds and how often; trailing zeros are left out."""
    steps: list[int] = []
    for seconds, count in waits:
        step = step_of(seconds)
        steps += [0] * (step + 1 - len(steps))
        steps[step] += count
    return tuple(steps)


def median_s(steps: Sequence[int]) -> float | None:
    """Return the median in seconds, None of nothing: the middle of its step, so at most 10 % beside the exact one."""
    total, seen = sum(steps), 0
    for step, count in enumerate(steps):
        seen += count
        if total and 2 * seen >= total:
            return FIRST_STEP_S * (1.0 if step == 0 else GROWTH ** (step - 0.5))
    return None


def _added(*lists: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(sum, zip_longest(*lists, fillvalue=0)))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Counts of some days.

    ``questions``: what customers wrote or said in words; commands, greetings and thanks are left out. Questions that were
    answered together count one answer. ``handed_over``: conversations in which a person was called or wrote; ``by_people``:
    what people wrote. ``talks``: conversations in which something was said; ``begun``: those that were new. Where days were
    added up a conversation counts once for each; the numbers that a report has of its period count it once.
    ``waits``, ``person_waits``: histograms of how long answers of the bot and of people took.
    """

    questions: int = 0
    answered: int = 0
    unanswered: int = 0
    handed_over: int = 0
    by_people: int = 0
    talks: int = 0
    begun: int = 0
    waits: Sequence[int] = ()
    person_waits: Sequence[int] = ()

    def __add__(self, other: Numbers) -> Numbers:
        return total((self, other))

    @property
    def answered_share(self) -> float | None:
        """The part of what the bot decided that it could answer, None where it decided nothing."""
        decided = self.answered + self.unanswered
        return self.answered / decided if decided else None

    @property
    def median_s(self) -> float | None:
        """How long an answer of the bot took, in seconds."""
        return median_s(self.waits)

    @property
    def person_median_s(self) -> float | None:
        """How long customers waited for a person, in seconds."""
        return median_s(self.person_waits)


_NOTHING = Numbers()
COUNTS = tuple(each.name for each in fields(Numbers) if not each.name.endswith("waits"))


def _numbers(counts: Sequence[Any], waits: Sequence[int] = (), person_waits: Sequence[int] = ()) -> Numbers:
    """Return numbers of counts in the order of :data:`COUNTS`."""
    given = {name: int(count) for name, count in zip(COUNTS, counts, strict=True)}
    return Numbers(**given, waits=tuple(waits), person_waits=tuple(person_waits))


def total(several: Iterable[Numbers]) -> Numbers:
    """Return the numbers of several together."""
    found = list(several)
    if len(found) == 1:
        return found[0]
    counts = {name: sum(getattr(each, name) for each in found) for name in COUNTS}
    return Numbers(
        **counts, waits=_added(*(n.waits for n in found)), person_waits=_added(*(n.person_waits for n in found))
    )


@dataclass(frozen=True, slots=True)
class Line:
    """The numbers of a bot on a day by kind of channel and language (empty: not known)."""

    bot_id: str
    day: dt.date
    channel: str
    language: str
    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Period:
    """Days, first and last included, and as many days before them to compare with."""

    key: str
    first: dt.date
    last: dt.date

    @property
    def before(self) -> tuple[dt.date, dt.date]:
        """The first and the last day of the period before."""
        return self.first - (self.last - self.first) - dt.timedelta(days=1), self.first - dt.timedelta(days=1)

    @property
    def days(self) -> list[dt.date]:
        """All days of it."""
        return days_of(self.first, self.last)


_MANY = 2000
_kept: Kept[list[Line]] = Kept(30, 200)
"""What pages show of days on which so much was said is reckoned from the messages every half minute."""


def period(key: str, now: dt.datetime, days: Mapping[str, int] = PERIODS) -> Period:
    """Return a period that ends today; raises ``KeyError`` for one that there is not."""
    last = today(now)
    return Period(key, last - dt.timedelta(days=days[key] - 1), last)


def days_of(first: dt.date, last: dt.date) -> list[dt.date]:
    """Return the days from the first to the last."""
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]


Ranges = Sequence[tuple[dt.date, dt.date]]


@cache
def _counted_days() -> Select[str, dt.datetime, str | None]:
    # Asked by most pages with numbers: putting the query together costs more than the answer.
    row = models.CountedDay
    earliest = select(func.min(row.day)).where(row.day > BEGINNING).scalar_subquery().label("earliest")
    between = row.day.between(bindparam("p_first"), bindparam("p_last"))
    return select(row.day, row.counted_at, earliest).where(between | (row.day == BEGINNING))


async def open_ranges(session: AsyncSession, first: dt.date, last: dt.date) -> list[tuple[dt.date, dt.date]]:
    """Return the days between that are not counted, as ranges without a gap."""
    known = (await session.execute(_counted_days(), {"p_first": first.isoformat(), "p_last": last.isoformat()})).all()
    counted = {row.day: row.counted_at for row in known}
    begun = first
    if (whole := counted.pop(BEGINNING, None)) is not None:
        earliest = known[0].earliest
        begun = max(first, min(today(whole), dt.date.fromisoformat(earliest) if earliest else dt.date.max))
    ranges: list[tuple[dt.date, dt.date]] = []
    for each in days_of(begun, last):
        if each.isoformat() in counted:
            continue
        if ranges and ranges[-1][1] == each - dt.timedelta(days=1):
            ranges[-1] = ranges[-1][0], each
        else:
            ranges.append((each, each))
    return ranges


def counted_between(first: dt.date, last: dt.date) -> ColumnElement[bool]:
    """Return the condition on ``day_numbers`` of counted days between."""
    return _NUMBERS.day.between(first.isoformat(), last.isoformat()) & _NUMBERS.day.in_(select(models.CountedDay.day))


async def live(session: AsyncSession, bots: Sequence[str] | None, ranges: Ranges) -> list[Line]:
    """Reckon the lines of some days from the messages; ``bots``: ids, None for all."""
    found: list[Line] = []
    for first, last in ranges:
        for each in await messages.count(session, bots, first, last):
            waits, person_waits = histogram(each.waits), histogram(each.person_waits)
            numbers = Numbers(**each.counts, waits=waits, person_waits=person_waits)
            if numbers != _NOTHING:
                found.append(Line(each.bot_id, each.day, each.channel, each.language, numbers))
    return found


async def _shown_live(session: AsyncSession, bots: Sequence[str] | None, ranges: Ranges) -> list[Line]:
    """Return the same for a page; where much was said, it may be half a minute old."""
    if bots is None:
        return await live(session, bots, ranges)
    key = tuple(bots), tuple(ranges)
    found = _kept.get(key)
    if found is None:
        found = await live(session, bots, ranges)
        if sum(line.numbers.questions + line.numbers.answered + line.numbers.by_people for line in found) >= _MANY:
            _kept.put(key, found)
    return found


@cache
def _sums(dialect: str, of_bots: bool) -> tuple[Select[Any], Select[Any]]:
    """Return the sums by day and channel, and by bot and language: putting them together costs more than running them."""
    sums = [func.sum(getattr(_NUMBERS, name)) for name in COUNTS]
    joined = [_joined(dialect, column) for column in (_NUMBERS.waits, _NUMBERS.person_waits)]

    def of(*columns: Any) -> Select[Any]:
        counted = _NUMBERS.day.in_(select(models.CountedDay.day))
        query = select(*columns).where(_NUMBERS.day.between(bindparam("p_first"), bindparam("p_last")), counted)
        return query.where(_NUMBERS.bot_id.in_(bindparam("p_bots", expanding=True))) if of_bots else query

    by_day = of(_NUMBERS.day, _NUMBERS.channel, *sums, *joined).group_by(_NUMBERS.day, _NUMBERS.channel)
    by_bot = of(_NUMBERS.bot_id, _NUMBERS.language, *sums).group_by(_NUMBERS.bot_id, _NUMBERS.language)
    return by_day, by_bot


async def lines(session: AsyncSession, bots: Sequence[str] | None, first: dt.date, last: dt.date) -> list[Line]:
    """Return every line of some days, in the order of days, bots, channels and languages."""
    if bots is not None and not bots:
        return []
    query = select(_NUMBERS).where(counted_between(first, last))
    if bots is not None:
        query = query.where(_NUMBERS.bot_id.in_(bots))
    found = [
        Line(
            row.bot_id,
            dt.date.fromisoformat(row.day),
            row.channel,
            row.language,
            _numbers([getattr(row, name) for name in COUNTS], row.waits, row.person_waits),
        )
        for row in await session.scalars(query)
    ]
    found += await live(session, bots, await open_ranges(session, first, last))
    return sorted(found, key=lambda line: (line.day, line.bot_id, line.channel, line.language))


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of a period by what pages show; ``days`` holds the days of the period before as well.

    ``bots`` and ``languages``: of the period alone, and without how long answers took; of these two, ``channels`` and ``now`` a
    conversation counts once, however many days it went on. ``talks``: these conversations.
    """

    period: Period
    days: Mapping[tuple[dt.date, str], Numbers] = field(default_factory=dict)
    bots: Mapping[str, Numbers] = field(default_factory=dict)
    languages: Mapping[str, Numbers] = field(default_factory=dict)
    talks: Sequence[Talks] = ()

    @property
    def by_day(self) -> Mapping[dt.date, Numbers]:
        """The numbers of all channels by day; a day without any is not in it."""
        found: dict[dt.date, list[Numbers]] = {}
        for (day, _), numbers in self.days.items():
            found.setdefault(day, []).append(numbers)
        return {day: each[0] if len(each) == 1 else total(each) for day, each in found.items()}

    @property
    def channels(self) -> Mapping[str, Numbers]:
        """By kind of channel, that with the most questions first."""
        found: dict[str, list[Numbers]] = {}
        for (day, channel), numbers in self.days.items():
            if day >= self.period.first:
                found.setdefault(channel, []).append(numbers)
        return _largest_first(_once({channel: total(each) for channel, each in found.items()}, self.talks, "channel"))

    @property
    def now(self) -> Numbers:
        """Of the period."""
        return _counted_once(self.daily, self.talks)

    @property
    def daily(self) -> Numbers:
        """Of the period, conversations once for each day, as in :attr:`before`: what can be compared."""
        return total(numbers for (day, _), numbers in self.days.items() if day >= self.period.first)

    @property
    def before(self) -> Numbers:
        """Of the period before, conversations once for each day."""
        first, last = self.period.before
        return total(numbers for (day, _), numbers in self.days.items() if first <= day <= last)


def _counted_once(numbers: Numbers, found: Iterable[Talks]) -> Numbers:
    each = list(found)
    return replace(numbers, talks=sum(one.talks for one in each), handed_over=sum(one.handed_over for one in each))


def _once(found: Mapping[str, Numbers], known: Iterable[Talks], by: str) -> dict[str, Numbers]:
    """Return numbers of bots, channels or languages with each conversation once."""
    of: dict[str, list[Talks]] = {}
    for one in known:
        of.setdefault(getattr(one, by), []).append(one)
    return {key: _counted_once(found.get(key, _NOTHING), of.get(key, ())) for key in found.keys() | of.keys()}


def _largest_first(found: Mapping[str, Numbers]) -> dict[str, Numbers]:
    return dict(sorted(found.items(), key=lambda each: (-each[1].questions, -each[1].talks, each[0])))


async def report(
    session: AsyncSession,
    bots: Sequence[str] | None,
    period: Period,
    *,
    since: dt.date | None = None,
    opened: Sequence[Line] | None = None,
) -> Report:
    """Return the numbers of bots (ids, None: all) for a period and the one before.

    ``since``: from which day on days are wanted at least. ``opened``: the lines of what is not counted of all this time, where
    they are known.
    """
    if bots is not None and not bots:
        return Report(period)
    first = min(period.before[0], since or period.first)
    if opened is None:
        opened = await _shown_live(session, bots, await open_ranges(session, first, period.last))
    by_day, by_bot = _sums(session.get_bind().dialect.name, bots is not None)
    given: dict[str, Any] = {"p_last": period.last.isoformat()} | ({} if bots is None else {"p_bots": list(bots)})
    days: dict[tuple[dt.date, str], list[Numbers]] = {}
    for day, channel, *counts, waits, person_waits in await session.execute(
        by_day, {**given, "p_first": first.isoformat()}
    ):
        numbers = _numbers(counts, _added(*orjson.loads(f"[{waits}]")), _added(*orjson.loads(f"[{person_waits}]")))
        days[dt.date.fromisoformat(day), channel] = [numbers]
    of_bots: dict[str, list[Numbers]] = {}
    of_languages: dict[str, list[Numbers]] = {}
    for bot_id, language, *counts in await session.execute(by_bot, {**given, "p_first": period.first.isoformat()}):
        numbers = _numbers(counts)
        of_bots.setdefault(bot_id, []).append(numbers)
        of_languages.setdefault(language, []).append(numbers)
    for line in opened:
        days.setdefault((line.day, line.channel), []).append(line.numbers)
        if line.day >= period.first:
            plain = replace(line.numbers, waits=(), person_waits=())
            of_bots.setdefault(line.bot_id, []).append(plain)
            of_languages.setdefault(line.language, []).append(plain)
    known = await talks.since(session, bots, period.first)
    summed = (
        {key: total(each) for key, each in of_bots.items()},
        {key: total(each) for key, each in of_languages.items()},
    )
    if bots is not None:
        summed = _once(summed[0], known, "bot_id"), _once(summed[1], known, "language")
    return Report(period, {key: total(each) for key, each in days.items()}, summed[0], _largest_first(summed[1]), known)


def _joined(dialect: str, column: SQLColumnExpression[Any]) -> ColumnElement[str]:
    written, comma = type_coerce(column, Text), literal(",", String)
    if dialect == "sqlite":
        return func.group_concat(written, comma)
    return func.string_agg(written, comma)


async def by_bot(session: AsyncSession, bots: Sequence[models.Bot], period: Period) -> dict[str, Numbers]:
    """Return the numbers of each of these bots by its id."""
    ids = [bot.id for bot in bots]
    found = (await report(session, ids, period)).bots
    return {id_: found.get(id_, Numbers()) for id_ in ids}


async def waiting(session: AsyncSession, bots: Sequence[models.Bot]) -> dict[str, int]:
    """Return how many customers of each of these bots wait for a person now, by the bot's id."""
    talk, contact = models.Conversation, models.Contact
    rows = await session.execute(
        select(talk.bot_id, func.count())
        .join(contact, contact.id == talk.contact_id)
        .where(talk.bot_id.in_([bot.id for bot in bots]), talk.status == "waiting", is_customer())
        .group_by(talk.bot_id)
    )
    found = {bot_id: int(count) for bot_id, count in rows}
    return {bot.id: found.get(bot.id, 0) for bot in bots}
