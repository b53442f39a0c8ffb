"""What the administrator tells owners at once: drafts, sending, stopping, and what became of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from aiohttp import web

from db import models
from services import access, announcements, codes, unreached
from services.announcements import LANGUAGES, Wish
from services.days import moment_of, today
from services.errors import AppError, Conflict, Invalid
from services.i18n import translate
from web import auth, forms, tables, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_WAYS = ("by_telegram", "by_mail", "as_banner")
_TYPED = 6000


@routes.get("/admin/announcements")
async def page(request: web.Request) -> web.StreamResponse:
    """List the announcements."""
    administrator(request)
    core, cursor, language = core_of(request), request.query.get("cursor", "")[:26], auth.visitor(request).language
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await announcements.listed(session, cursor)
    return view.render(
        request,
        "admin/announcements.html",
        here="admin-announcements",
        page=found,
        title_of=lambda row: announcements.said(row, language)[0],
        first=not cursor,
        **shared,
    )


def _empty() -> dict[str, Any]:
    texts = {f"{part}-{language}": "" for part in ("title", "text") for language in LANGUAGES}
    return {**texts, "plan": "all", "languages": [], "service": "", "ways": ["by_telegram"], "banner_until": ""}


def _values(row: models.Announcement) -> dict[str, Any]:
    """Return a draft as its form shows it."""
    texts = {f"{part}-{each}": row.texts[each][part] for part in ("title", "text") for each in LANGUAGES}
    # The day that is the last one, not the midnight after it.
    until = today(row.banner_until) if row.banner_until else None
    return {
        **texts,
        "plan": row.audience["plan"],
        "languages": row.audience["languages"],
        "service": "1" if row.audience.get("service") else "",
        "ways": [way for way in _WAYS if getattr(row, way)],
        "banner_until": until.fromordinal(until.toordinal() - 1).isoformat() if until else "",
    }


@routes.get("/admin/announcements/new")
async def new(request: web.Request) -> web.StreamResponse:
    """Show the form for a new announcement."""
    administrator(request)
    return await _one(request, None, _empty())


@routes.get("/admin/announcements/{announcement}")
async def one(request: web.Request) -> web.StreamResponse:
    """Show a draft to go on with, or what became of an announcement."""
    administrator(request)
    async with core_of(request).db.read() as session:
        row = await announcements.get(session, request.match_info["announcement"])
    return await _one(request, row, _values(row))


@routes.get("/admin/announcements/{announcement}/missed")
async def missed(request: web.Request) -> web.StreamResponse:
    """List the owners whom an announcement did not reach, with the reason."""
    administrator(request)
    cursor = request.query.get("cursor", "")[:60]
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
        row = await announcements.get(session, request.match_info["announcement"])
        found = await unreached.listed(session, row, cursor=cursor)
    return view.render(
        request,
        "admin/announcement_missed.html",
        here="admin-announcements",
        row=row,
        headline=announcements.said(row, auth.visitor(request).language)[0],
        page=found,
        first=not cursor,
        **shared,
    )


@routes.get("/admin/announcements/{announcement}/missed/export.{table:csv|xlsx}")
async def export_missed(request: web.Request) -> web.StreamResponse:
    """Send them as a table for other programs."""
    person, core, language = administrator(request), core_of(request), auth.visitor(request).language
    async with core.db.write() as session:
        row = await announcements.get(session, request.match_info["announcement"])
        await access.record(session, person, "missed_exported", "announcement", row.id)
    title = translate(language, "Who was not reached")
    return await tables.sent(request, unreached.table(core.db, row, language), f"missed-{row.id}", title)


async def _one(
    request: web.Request,
    row: models.Announcement | None,
    values: dict[str, Any],
    error: AppError | None = None,
    run_at: str = "",
) -> web.StreamResponse:
    core = core_of(request)
    count, all_counted, told = 0, True, None
    async with core.db.read() as session:
        shared = await frame(session, request)
        if row is not None and row.status == "draft":
            count, all_counted = await announcements.receivers(session, core.settings, row, core.now())
        elif row is not None:
            told = await announcements.report(session, row.id)
    return view.render(
        request,
        "admin/announcement.html",
        status=error.status if error else 200,
        here="admin-announcements",
        row=row,
        headline=announcements.said(row, auth.visitor(request).language)[0] if row else "",
        read_in=announcements.languages_of(row) if row else (),
        seen=announcements.mark(row) if row else "",
        values=values,
        count=count,
        all_counted=all_counted,
        report=told,
        # The day that was chosen is the last one on which it is shown, so not "until the next, 00:00".
        banner_last=row.banner_until - dt.timedelta(minutes=1) if row and row.banner_until else None,
        now=core.now(),
        run_at=run_at,
        title_chars=announcements.TITLE_CHARS,
        text_chars=announcements.TEXT_CHARS,
        has_mail=codes.by_mail(core.settings),
        fault=fault_of(error, request) if error else None,
        **shared,
    )


def _typed(form: forms.Form) -> dict[str, Any]:
    values = _empty()
    for name in values:
        if isinstance(values[name], str):
            values[name] = form.fields.get(name, "")[:_TYPED]
    return {**values, "languages": form.all("languages"), "ways": form.all("ways")}


def _wish(values: dict[str, Any]) -> Wish:
    as_banner = "as_banner" in values["ways"]
    return Wish(
        texts={each: {part: values[f"{part}-{each}"] for part in ("title", "text")} for each in LANGUAGES},
        plan=values["plan"],
        languages=values["languages"],
        service=values["service"] == "1",
        by_telegram="by_telegram" in values["ways"],
        by_mail="by_mail" in values["ways"],
        as_banner=as_banner,
        banner_until=announcements.end_of(values["banner_until"], "banner_until") if as_banner else None,
    )


@routes.post("/admin/announcements")
async def make(request: web.Request) -> web.StreamResponse:
    """Keep a new draft. Fields: ``title-uz``, ``text-uz`` and so on, ``plan``, ``languages``, ``service``, ``ways``,
    ``banner_until``.
    """
    person, core = administrator(request), core_of(request)
    values = _typed(await forms.read(request))
    try:
        async with core.db.write() as session:
            row = await announcements.save(session, person, _wish(values), now=core.now())
    except AppError as error:
        return await _one(request, None, values, error)
    return view.redirect(f"/admin/announcements/{row.id}", toast="announcement_saved")


@routes.post("/admin/announcements/{announcement}")
async def change(request: web.Request) -> web.StreamResponse:
    """Change a draft. Fields as of a new one, and ``seen``: the mark of the draft that the page showed."""
    person, core, id_ = administrator(request), core_of(request), request.match_info["announcement"]
    form = await forms.read(request)
    values, seen = _typed(form), form.fields.get("seen", "")
    try:
        async with core.db.write() as session:
            await announcements.save(session, person, _wish(values), now=core.now(), announcement_id=id_, seen=seen)
    except (Invalid, Conflict) as error:
        async with core.db.read() as session:
            row = await announcements.get(session, id_)
        return await _one(request, row, values, error)
    return view.redirect(f"/admin/announcements/{id_}", toast="announcement_saved")


@routes.post("/admin/announcements/{announcement}/test")
async def test(request: web.Request) -> web.StreamResponse:
    """Write the announcement to who asks."""
    person, core, id_ = administrator(request), core_of(request), request.match_info["announcement"]
    async with core.db.write() as session:
        await announcements.test(session, person, id_, now=core.now())
    core.bell.ring("letters")
    return view.redirect(f"/admin/announcements/{id_}", toast="announcement_tested")


@routes.post("/admin/announcements/{announcement}/send")
async def send(request: web.Request) -> web.StreamResponse:
    """Send a draft. Fields: ``later`` (1: at ``run_at``, by Tashkent's clock), ``seen`` as of a change."""
    person, core, id_ = administrator(request), core_of(request), request.match_info["announcement"]
    form = await forms.read(request)
    run_at, seen = form.fields.get("run_at", "")[:40], form.fields.get("seen", "")
    try:
        at = moment_of(run_at, "run_at") if form.text("later") == "1" else None
        async with core.db.write() as session:
            await announcements.send(session, person, id_, at=at, now=core.now(), seen=seen)
    except (Invalid, Conflict) as error:
        async with core.db.read() as session:
            row = await announcements.get(session, id_)
        return await _one(request, row, _values(row), error, run_at)
    core.bell.ring("jobs")
    toast = "announcement_scheduled" if at is not None else "announcement_sent"
    return view.redirect(f"/admin/announcements/{id_}", toast=toast)


@routes.post("/admin/announcements/{announcement}/stop")
async def stop(request: web.Request) -> web.StreamResponse:
    """End an announcement."""
    person, core, id_ = administrator(request), core_of(request), request.match_info["announcement"]
    async with core.db.write() as session:
        await announcements.stop(session, person, id_, now=core.now())
    await announcements.refresh(core)
    core.bell.ring_elsewhere(announcements.BELL)
    return view.redirect(f"/admin/announcements/{id_}", toast="announcement_stopped")


@routes.post("/admin/announcements/{announcement}/delete")
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete a draft."""
    person, core = administrator(request), core_of(request)
    async with core.db.write() as session:
        await announcements.remove(session, person, request.match_info["announcement"])
    return view.redirect("/admin/announcements", toast="announcement_deleted")
