"""The dashboard: first steps, numbers of a period beside the one before, what waits, what of the plan is used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from db import models
from services import allowances, bots, conversations, durations, first_steps, notices, sheets, statistics
from services.channel_names import channel_name
from services.days import midnight, today
from services.i18n import LANGUAGE_NAMES, T, translate
from services.sheets import Cell
from services.statistics import Line, Numbers, Period, Report
from services.statistics.costs import of_own_key
from web import auth, forms, tables, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

DEFAULT_PERIOD = "30"
_LEAST_DAYS = 7
"""Of so many days a picture is drawn at least."""
_HEADINGS = (
    T("Day"),
    T("Bot"),
    T("Channel"),
    T("Language"),
    T("Conversations"),
    T("New customers"),
    T("Questions"),
    T("Answered"),
    T("Unanswered"),
    T("Handed over"),
    T("Messages of people"),
    T("Answer of the bot, median in s"),
    T("Answer of a person, median in s"),
)


def period_of(request: web.Request, periods: Mapping[str, int] = statistics.PERIODS) -> Period:
    """Return the period of the address."""
    key = request.query.get("period", DEFAULT_PERIOD)
    return statistics.period(key if key in periods else DEFAULT_PERIOD, core_of(request).now(), periods)


def change_of(now: float | None, before: float | None, language: str) -> str:
    """Return by how much a number changed, in percent with its sign; empty where that says nothing."""
    if not before or now is None:
        return ""
    percent = round((now - before) * 100 / before)
    return f"{'+' if percent > 0 else '−' if percent < 0 else '±'}{view.percent(abs(percent) / 100, language)}"


def language_name(code: str, language: str) -> str:
    """Return what a language is called, and what stands for one that is not known."""
    return LANGUAGE_NAMES.get(code) or translate(language, "not known yet")


@routes.get("/dashboard")
async def dashboard(request: web.Request) -> web.StreamResponse:
    """Show the numbers of all own bots for a period."""
    core, person, language = core_of(request), auth.user(request), auth.visitor(request).language
    now, period = core.now(), period_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        own = [bot for bot in shared["bots"] if shared["roles"][bot.id] == "owner"]
        ids = [bot.id for bot in shared["bots"]]
        since = min(period.first, period.last - dt.timedelta(days=_LEAST_DAYS - 1))
        report = await statistics.report(session, ids, period, since=since)
        waiting = await statistics.waiting(session, shared["bots"]) if ids else {}
        # Whoever came to work for somebody else did not come to set a bot up, and sees no plan.
        at_home = bool(own) or not shared["talk_bots"]
        steps = await first_steps.of(session, core.settings, person, now) if at_home else None
        used = await allowances.usage(session, core.settings, person, now) if own else None
        costs = await of_own_key(session, person.id, period.first, period.last) if own else ()
        serves = [bot for bot in shared["talk_bots"] if shared["roles"][bot.id] == "operator"]
        served = await conversations.waiting(session, serves) if serves else []
    days = statistics.days_of(since, period.last)
    by_day = report.by_day
    shown = [(day, _at(day), by_day.get(day, Numbers())) for day in days]
    by_channel = _by_channel(report, days)
    return view.render(
        request,
        "pages/dashboard.html",
        here="dashboard",
        rows=[(bot, report.bots.get(bot.id, Numbers()), waiting[bot.id]) for bot in shared["bots"]],
        served=served,
        waiting_now=sum(waiting.values()),
        report=report,
        total=report.now,
        daily=report.daily,
        before=report.before,
        day=by_day.get(today(now), Numbers()) if period.key != "today" else None,
        days=shown,
        drawn=any(counted.talks for _, _, counted in shown),
        by_channel=by_channel,
        channel_titles=[channel_name(kind, language) for kind in by_channel[0]],
        period=period,
        periods=statistics.PERIODS,
        one=shared["bots"][0] if len(shared["bots"]) == 1 else None,
        unanswered_in=_only_one(shared["bots"], report),
        steps=steps,
        used=used,
        costs=costs,
        cost=sum((row.cost_usd for row in costs), Decimal(0)),
        **words(language),
        **shared,
    )


def words(language: str) -> dict[str, Any]:
    """Return what pages of numbers write them with."""
    return {
        "change": change_of,
        "mean": lambda count, period: view.mean(count / len(period.days), language),
        "took": lambda seconds: durations.text(seconds, language),
        "channel_name": lambda kind: channel_name(kind, language),
        "language_name": lambda code: language_name(code, language),
    }


def _at(day: dt.date) -> int:
    return int(midnight(day).timestamp())


def _by_channel(report: Report, days: Sequence[dt.date]) -> tuple[list[str], list[tuple[dt.date, int, list[int]]]]:
    """Return the kinds of channels, and by day how many questions came by each."""
    kinds = sorted({kind for day, kind in report.days if day >= days[0]})
    rows = [(day, _at(day), [report.days.get((day, kind), Numbers()).questions for kind in kinds]) for day in days]
    return kinds, rows


def _only_one(own: Sequence[models.Bot], report: Report) -> models.Bot | None:
    """Return the bot that alone has unanswered questions, or the only one: its list is then the total's."""
    having = [bot for bot in own if report.bots.get(bot.id, Numbers()).unanswered] or own
    return having[0] if len(having) == 1 else None


@routes.get("/dashboard/days.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the days of the period as a table for other programs."""
    language, period = auth.visitor(request).language, period_of(request)
    async with core_of(request).db.read() as session:
        own = {bot.id: bot.name for bot in await bots.list_for(session, auth.user(request))}
        lines = await statistics.lines(session, list(own), period.first, period.last)
    rows: list[list[Cell]] = [[heading.render(language) for heading in _HEADINGS]]
    rows += [_line(line, own[line.bot_id], language) for line in lines]
    name = f"days-{period.first}-{period.last}"
    return await tables.sent(request, sheets.whole(rows), name, translate(language, "Days"))


def _line(line: Line, bot: str, language: str) -> list[Cell]:
    counted = line.numbers
    return [
        line.day.isoformat(),
        bot,
        channel_name(line.channel, language),
        LANGUAGE_NAMES.get(line.language, ""),
        *(counted.talks, counted.begun, counted.questions, counted.answered, counted.unanswered),
        *(counted.handed_over, counted.by_people),
        *(_rounded(each) for each in (counted.median_s, counted.person_median_s)),
    ]


def _rounded(seconds: float | None) -> Cell:
    return "" if seconds is None else Decimal(f"{seconds:.1f}")


@routes.post("/dashboard/steps")
async def change_steps(request: web.Request) -> web.StreamResponse:
    """Skip one of the first steps, take it up again, put all of them away or show them. Fields: ``do``, ``step``."""
    form = await forms.read(request)
    do = form.fields.get("do") or "hide"
    async with core_of(request).db.write() as session:
        await first_steps.change(session, auth.user(request), do, form.fields.get("step", ""))
    return view.redirect("/dashboard", toast="steps_hidden" if do == "hide" else "")


@routes.post("/notices/{notice}/dismiss")
async def dismiss_notice(request: web.Request) -> web.StreamResponse:
    """Put a notice away."""
    async with core_of(request).db.write() as session:
        await notices.dismiss(session, auth.user(request), request.match_info["notice"])
    return view.redirect(auth.safe_next(request.query.get("next")))
