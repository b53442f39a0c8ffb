"""Coupons: making one or many, who used them, ending them, and their codes as a table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from urllib.parse import urlencode

from aiohttp import web

from db import models
from services import access, coupons, money, payment_texts, plans, sheets
from services.core import Core
from services.coupons import State, Terms
from services.days import midnight, today
from services.errors import AppError, Invalid
from services.i18n import T
from services.plans import TIYIN
from services.sheets import Cell
from web import auth, forms, tables, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FIELDS = ("code", "count", "percent", "amount", "valid_from", "valid_until", "max_uses", "per_owner", "note")
_NEW = {**dict.fromkeys(_FIELDS, ""), "count": "1", "per_owner": "1", "max_uses": "1"}


def _state(request: web.Request) -> State:
    state = request.query.get("state", "")
    return "open" if state == "open" else "closed" if state == "closed" else ""


def _offered(request: web.Request) -> bool:
    """Whether those are meant too that offers made for one owner each; a code that is looked for is found, whoever made it."""
    return request.query.get("made") == "all" or bool(request.query.get("q", "").strip())


@routes.get("/admin/coupons")
async def page(request: web.Request) -> web.StreamResponse:
    """List the coupons, with a form for new ones."""
    administrator(request)
    return await _page(request, _NEW, ())


async def _page(
    request: web.Request, values: dict[str, str], for_plans: Sequence[str], *, error: AppError | None = None
) -> web.StreamResponse:
    core, search, state = core_of(request), request.query.get("q", "")[:100], _state(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await coupons.listed(
            session,
            now=core.now(),
            search=search,
            state=state,
            offered=_offered(request),
            before=request.query.get("before", "")[:26] or None,
        )
    made = "all" if _offered(request) else ""
    filters = {name: value for name, value in (("q", search), ("state", state), ("made", made)) if value}
    return view.render(
        request,
        "admin/coupons.html",
        status=error.status if error else 200,
        here="admin-coupons",
        found=found.coupons,
        following=urlencode({**filters, "before": found.following}) if found.following else "",
        query=urlencode(filters),
        search=search,
        state=state,
        made=made,
        now=core.now(),
        on_sale=plans.for_sale(core.settings),
        plan_title=lambda key: payment_texts.plan(core.settings, key, auth.visitor(request).language),
        is_open=lambda coupon: coupons.is_open(coupon, core.now()),
        values=values,
        for_plans=for_plans,
        many=coupons.MANY,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post("/admin/coupons")
async def make(request: web.Request) -> web.StreamResponse:
    """Make coupons. Fields: ``code``, ``count``, ``percent`` or ``amount`` (so'm), ``plans``, ``valid_from`` and ``valid_until``
    (days of Tashkent's time, both included), ``max_uses``, ``per_owner``, ``note``."""
    person = administrator(request)
    core, form = core_of(request), await forms.read(request)
    values = {name: form.fields.get(name, "")[:200] for name in _FIELDS}
    try:
        amount = _number(form, "amount")
        terms = Terms(
            percent=_number(form, "percent"),
            amount_tiyin=amount * TIYIN if amount is not None else None,
            plans=form.all("plans"),
            valid_from=_day(form, "valid_from"),
            valid_until=_after(_day(form, "valid_until")),
            max_uses=_number(form, "max_uses"),
            per_owner=_number(form, "per_owner") or 0,
            note=form.text("note", 200),
        )
        async with core.db.write() as session:
            made = await coupons.create(
                session,
                core.settings,
                terms,
                now=core.now(),
                code=form.text("code", 100),
                count=_number(form, "count") or 0,
                created_by=person.id,
            )
            await access.record(
                session, person, "coupons_made", "coupon", made[0].id, code=made[0].code, count=str(len(made))
            )
    except AppError as error:
        return await _page(request, values, form.all("plans"), error=error)
    if len(made) == 1:
        return view.redirect(f"/admin/coupons/{made[0].id}", toast="coupons_made")
    return view.redirect("/admin/coupons", toast="coupons_made")


def _number(form: forms.Form, name: str) -> int | None:
    """Return a field with a whole number, None where it is empty; raises ``Invalid`` with the field."""
    typed = "".join(form.text(name, 40).split())
    if not typed:
        return None
    if not typed.isascii() or not typed.isdigit() or len(typed) > 10:
        raise Invalid(T("Enter a whole number."), field=name)
    return int(typed)


def _day(form: forms.Form, name: str) -> dt.datetime | None:
    """Return when the day in a field begins in Tashkent, None where it is empty; raises ``Invalid`` with the field."""
    typed = form.text(name, 40).strip()
    if not typed:
        return None
    try:
        return midnight(dt.date.fromisoformat(typed))
    except (ValueError, OverflowError):
        raise Invalid(T("Enter a day, for example 2026-12-31."), field=name) from None


def _after(day: dt.datetime | None) -> dt.datetime | None:
    """Return when a day is over."""
    if day is None or day.year > 9000:
        return None
    return day + dt.timedelta(days=1)


@routes.get("/admin/coupons/codes.csv")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the codes that the filters of the address leave as a table for other programs."""
    person = administrator(request)
    core, search, state = core_of(request), request.query.get("q", "")[:100], _state(request)
    admins = "" if _offered(request) else "yes"
    asked = {name: value for name, value in (("q", search), ("state", state), ("admins", admins)) if value}
    async with core.db.write() as session:
        await access.record(session, person, "coupons_exported", "coupon", "", **asked)
    day = today(core.now()).isoformat()
    return await tables.as_csv(request, _codes(core, search, state, _offered(request)), f"coupons-{day}")


async def _codes(core: Core, search: str, state: State, offered: bool) -> tables.Parts:
    """Yield the coupons that fit in parts, their headings first; each part is read by itself."""
    yield [("code", "percent", "amount_uzs", "plans", "valid_until", "max_uses", "uses")]
    now = core.now()
    before: str | None = ""
    while before is not None:
        async with core.db.read() as session:
            found = await coupons.listed(
                session,
                now=now,
                search=search,
                state=state,
                offered=offered,
                before=before,
                limit=sheets.ROWS_AT_ONCE,
            )
        yield [_line(row) for row in found.coupons]
        before = found.following


def _line(row: models.Coupon) -> Sequence[Cell]:
    until = row.valid_until.isoformat() if row.valid_until else ""
    amount = money.plain(row.amount_tiyin) if row.amount_tiyin is not None else ""
    return row.code, row.percent or "", amount, " ".join(row.plans), until, row.max_uses or "", row.uses


@routes.get("/admin/coupons/{coupon}")
async def coupon_page(request: web.Request) -> web.StreamResponse:
    """Show one coupon and who used it."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    async with core.db.read() as session:
        shared = await frame(session, request)
        coupon = await coupons.get(session, request.match_info["coupon"])
        uses = await coupons.uses_of(session, coupon.id)
    return view.render(
        request,
        "admin/coupon.html",
        here="admin-coupons",
        coupon=coupon,
        open=coupons.is_open(coupon, core.now()),
        uses=uses,
        use_name=lambda status: coupons.USES[status].render(language),
        plan_title=lambda key: payment_texts.plan(core.settings, key, language),
        **shared,
    )


@routes.post("/admin/coupons/{coupon}/disable")
async def disable(request: web.Request) -> web.StreamResponse:
    """End a coupon."""
    person = administrator(request)
    core = core_of(request)
    async with core.db.write() as session:
        coupon = await coupons.disable(session, request.match_info["coupon"], now=core.now())
        await access.record(session, person, "coupon_disabled", "coupon", coupon.id, code=coupon.code)
    return view.redirect(f"/admin/coupons/{coupon.id}", toast="coupon_disabled")
