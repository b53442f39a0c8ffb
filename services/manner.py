"""How a bot and the people behind it share the talks: when people are there, and when the bot takes a talk back.

The owner's choices lie in ``Bot.settings``. Hours are those of Tashkent, which knows no daylight saving.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.days import TASHKENT, today
from services.errors import Invalid
from services.i18n import T, Text
from services.text import clean

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RETURNS = (15, 30, 60, 120, 240, 720, 0)
"""Minutes after which the bot takes a talk back; 0: only when it is given back."""
DEFAULT_RETURN_MIN = 60
SILENT_CHARS = 300
"""So long may be what customers read where the plan lets the bot answer nothing."""
_TIME = re.compile(r"([01]?\d|2[0-4])[:.]([0-5]\d)")
_DAY_MIN = 24 * 60
Hours = tuple[int, int]
"""Minutes since midnight: from, until. Until at or before from means after midnight."""

_FROM: Sequence[Text] = (
    T("on Monday from {time}"),
    T("on Tuesday from {time}"),
    T("on Wednesday from {time}"),
    T("on Thursday from {time}"),
    T("on Friday from {time}"),
    T("on Saturday from {time}"),
    T("on Sunday from {time}"),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """``hours``: for each day from Monday when people are there, None: not at all; empty: the owner did not say.

    ``return_after_min``: so long after a person's last message the bot answers again, 0: never by itself. ``silent_text``: what
    customers read where the plan lets the bot answer nothing; empty: words of ours in their language.
    """

    hours: tuple[Hours | None, ...] = ()
    return_after_min: int = DEFAULT_RETURN_MIN
    silent_text: str = ""

    def next_opening(self, moment: dt.datetime) -> dt.datetime | None:
        """Return when somebody will be there, None where somebody is there now or nobody knows."""
        if not any(self.hours):
            return None
        local = moment.astimezone(TASHKENT)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        openings = []
        for ahead in range(-1, 8):
            day = midnight + dt.timedelta(days=ahead)
            hours = self.hours[day.weekday()]
            if hours is None:
                continue
            opens, closes = day + dt.timedelta(minutes=hours[0]), day + dt.timedelta(minutes=hours[1])
            if closes <= opens:
                closes += dt.timedelta(days=1)
            if opens <= local < closes:
                return None
            if opens > local:
                openings.append(opens)
        return min(openings)


def manner_of(settings: Mapping[str, Any] | None) -> Manner:
    """Read a bot's settings; what is not there has its default."""
    given = settings or {}
    hours = given.get("hours") or []
    return Manner(
        tuple((int(day[0]), int(day[1])) if day else None for day in hours) if len(hours) == len(DAYS) else (),
        int(given.get("return_after_min", DEFAULT_RETURN_MIN)),
        str(given.get("silent_text", "")),
    )


def when(opening: dt.datetime, moment: dt.datetime) -> Text:
    """Return in words when somebody will be there."""
    local, day = opening.astimezone(TASHKENT), today(moment)
    time = f"{local:%H:%M}"
    if local.date() == day:
        return T("today from {time}", time=time)
    if local.date() == day + dt.timedelta(days=1):
        return T("tomorrow from {time}", time=time)
    return T(_FROM[local.weekday()].msgid, time=time)


def clock(minutes: int) -> str:
    """Return minutes since midnight as people write them."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def shown(manner: Manner) -> dict[str, list[str]]:
    """Return by day from when until when people are there."""
    days = zip(DAYS, manner.hours, strict=False)
    return {day: [clock(hours[0]), clock(hours[1])] for day, hours in days if hours is not None}


def changed(
    settings: Mapping[str, Any] | None,
    *,
    hours: Mapping[str, tuple[str, str]] | None = None,
    return_after_min: int | None = None,
    silent_text: str | None = None,
) -> dict[str, Any]:
    """Return a bot's settings with what is given changed; raises ``Invalid`` naming the field.

    ``hours``: by day of :data:`DAYS` the times from and until, such as ``("09:00", "18:00")``; both empty or no day: closed. No
    day at all: not known.
    """
    result = dict(settings or {})
    if hours is not None:
        days = [_hours(day, *hours.get(day, ("", ""))) for day in DAYS]
        result["hours"] = days if any(days) else []
    if return_after_min is not None:
        if not 0 <= return_after_min <= 7 * _DAY_MIN:
            raise Invalid(T("Choose a time between 0 and {n} minutes.", n=7 * _DAY_MIN), field="return_after_min")
        result["return_after_min"] = return_after_min
    if silent_text is not None:
        text = clean(silent_text).strip()
        if len(text) > SILENT_CHARS:
            raise Invalid(T("This is too long: at most {n} characters.", n=SILENT_CHARS), field="silent_text")
        result["silent_text"] = text
    return result


def _hours(day: str, opens: str, closes: str) -> list[int] | None:
    texts = [opens.strip(), closes.strip()]
    if not any(texts):
        return None
    found = [_TIME.fullmatch(text) for text in texts]
    minutes = [int(match[1]) * 60 + int(match[2]) for match in found if match]
    if len(minutes) != 2 or max(minutes) > _DAY_MIN or minutes[0] == minutes[1] or minutes[0] == _DAY_MIN:
        raise Invalid(T("Write both times like 09:00 and 18:00, or leave both empty."), field=f"{day}_from")
    return minutes
