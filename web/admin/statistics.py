"""Statistics of the installation: owners, revenue, bots, conversations, what models cost, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from aiohttp import web

from db import models
from services import access, sheets, statistics, system, team
from services import payment_texts as texts
from services.channel_names import channel_name
from services.days import midnight
from services.i18n import T, translate
from services.plans import TIYIN
from services.sheets import Cell
from services.statistics import Numbers, business
from services.statistics.business import Margin
from web import auth, tables, view
from web.admin.shell import administrator
from web.pages.dashboard import period_of, words
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_GATEWAYS = ("payme", "click", "uzum", "manual", "balance")
_OWNER_HEADINGS = (T("Owner"), T("E-mail"), T("Phone"), T("Revenue, UZS"), T("Model calls"), T("Model cost, USD"))
_TITLES = {"owners": T("Owners"), "days": T("Days"), "revenue": T("Revenue")}
_MONTH_HEADINGS = (T("Month"), T("Gateway"), T("Revenue, UZS"))
_DAY_HEADINGS = (
    T("Day"),
    T("Channel"),
    T("Conversations"),
    T("New customers"),
    T("Questions"),
    T("Answered"),
    T("Unanswered"),
    T("Handed over"),
    T("Messages of people"),
)


@routes.get("/admin")
async def home(request: web.Request) -> web.StreamResponse:
    """Lead to the first of the administrator's pages."""
    administrator(request)
    return view.redirect("/admin/statistics")


@routes.get("/admin/statistics")
async def page(request: web.Request) -> web.StreamResponse:
    """Show the numbers of a period beside those of the one before."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    period = period_of(request, business.PERIODS)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found, margins = await business.page(session, core, period)
        part = await business.margins_page(session, margins, request.query.get("cursor", "")[:60])
        set_aside = await system.set_aside(session)
    gateways = [kind for kind in _GATEWAYS if any(each == kind for _, each in found.revenue)]
    months, by_day = business.month_starts(period.last), found.report.by_day
    return view.render(
        request,
        "admin/statistics.html",
        here="admin-statistics",
        found=found,
        period=period,
        periods=business.PERIODS,
        set_aside=set_aside,
        channels=_channels(found.report),
        day_points=[
            (day, int(midnight(day).timestamp()), [numbers.talks, numbers.questions, numbers.unanswered])
            for day in found.report.period.days
            for numbers in (by_day.get(day, Numbers()),)
        ],
        gateways=[(kind, texts.gateway(kind, language)) for kind in gateways],
        months=[(month, [found.revenue.get((month, kind), 0) for kind in gateways]) for month in reversed(months)],
        month_points=[
            (
                f"{month:%m.%Y}",
                int(midnight(month).timestamp()),
                [found.revenue.get((month, kind), 0) // TIYIN for kind in gateways],
            )
            for month in months
        ],
        margins=part,
        first_part=not request.query.get("cursor"),
        rate=core.settings.payments.usd_rate_uzs,
        revenue_tiyin=sum(each.revenue_tiyin for each in margins),
        shown_name=team.shown_name,
        **words(language),
        **shared,
    )


def _channels(report: statistics.Report) -> list[tuple[str, Numbers, Numbers, Numbers]]:
    """Return the kinds of channels with their numbers of the period, those of its days added up, and those before."""
    first = report.period.before[0]
    daily: dict[str, list[Numbers]] = {}
    before: dict[str, list[Numbers]] = {}
    for (day, kind), numbers in report.days.items():
        if day >= first:
            (daily if day >= report.period.first else before).setdefault(kind, []).append(numbers)
    now = report.channels

    def of(days: dict[str, list[Numbers]], kind: str) -> Numbers:
        return statistics.total(days.get(kind, ()))

    return [(kind, now.get(kind, Numbers()), of(daily, kind), of(before, kind)) for kind in {**now, **before}]


@routes.get("/admin/statistics/{numbers:owners|days|revenue}.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the owners with what they paid and cost, the days by channel, or the revenue, as a table for other programs."""
    person = administrator(request)
    what, language = request.match_info["numbers"], auth.visitor(request).language
    period = period_of(request, business.PERIODS)
    core = core_of(request)
    async with core.db.write() as session:
        await access.record(session, person, "statistics_exported", "statistics", what, period=period.key)
    async with core.db.read() as session:
        if what == "owners":
            found = await business.margins(session, period.first, period.last)
            named = await business.margins_page(session, found, limit=max(1, len(found)))
            rows, title = _owner_table(named.items, core.settings.payments.usd_rate_uzs, language), _TITLES[what]
        elif what == "days":
            report = await statistics.report(session, None, period)
            rows, title = _day_table(report, language), _TITLES[what]
        else:
            seen = await business.overview(session, period, core.now())
            rows, title = _revenue_table(seen, language), _TITLES[what]
    name = f"{what}-{period.first}-{period.last}"
    return await tables.sent(request, sheets.whole(rows), name, title.render(language))


def _owner_table(found: Sequence[Margin], rate: Decimal, language: str) -> list[list[Cell]]:
    heads = [heading.render(language) for heading in _OWNER_HEADINGS]
    rows: list[list[Cell]] = [[*heads, *([translate(language, "Margin, UZS")] if rate else [])]]
    for each in found:
        line: list[Cell] = [
            *_person(each.owner, language),
            _so_m(each.revenue_tiyin),
            each.calls,
            each.cost_usd.quantize(Decimal("0.000001")),
        ]
        rows.append([*line, *([_so_m(each.margin_tiyin(rate))] if rate else [])])
    return rows


def _person(owner: models.User | None, language: str) -> list[Cell]:
    if owner is None:
        return [translate(language, "Deleted accounts"), "", ""]
    return [owner.full_name, owner.email or "", owner.phone or ""]


def _so_m(tiyin: int) -> Cell:
    return tiyin // TIYIN if tiyin % TIYIN == 0 else Decimal(tiyin) / TIYIN


def _day_table(report: statistics.Report, language: str) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[heading.render(language) for heading in _DAY_HEADINGS]]
    for (day, kind), counted in sorted(report.days.items()):
        if day < report.period.first:
            continue
        counts = counted.talks, counted.begun, counted.questions, counted.answered, counted.unanswered
        rows.append([day.isoformat(), channel_name(kind, language), *counts, counted.handed_over, counted.by_people])
    return rows


def _revenue_table(found: business.Overview, language: str) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[heading.render(language) for heading in _MONTH_HEADINGS]]
    for (month, gateway), tiyin in sorted(found.revenue.items()):
        rows.append([f"{month:%Y-%m}", texts.gateway(gateway, language), _so_m(tiyin)])
    return rows
