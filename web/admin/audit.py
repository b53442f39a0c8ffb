"""The audit log: who did what to what. It can be read and searched, and no address changes it."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from services import access, audit_words, auditing, bookkeeping
from services.errors import AppError, Invalid
from services.i18n import translate
from web import auth, tables, view
from web.admin.owner import log_lines
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FILTERS = ("actor", "admins", "action", "object", "since", "until")


def _filters(request: web.Request) -> tuple[auditing.Filters, dict[str, str]]:
    typed = {name: request.query.get(name, "")[:200].strip() for name in _FILTERS}
    since, until = (bookkeeping.day_of(typed[name], name) for name in ("since", "until"))
    filters = auditing.Filters(typed["actor"], typed["admins"] == "yes", typed["action"], typed["object"], since, until)
    return auditing.check(filters), typed


@routes.get("/admin/audit")
async def page(request: web.Request) -> web.StreamResponse:
    """List what the filters of the address leave of the log."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    fault: AppError | None = None
    try:
        filters, typed = _filters(request)
    except Invalid as error:
        fault, filters = error, auditing.Filters()
        typed = {name: request.query.get(name, "")[:200] for name in _FILTERS}
    cursor = request.query.get("cursor", "")[:60]
    async with core.db.read() as session:
        shared = await frame(session, request)
        found, known = await auditing.find(session, filters, cursor=cursor)
    return view.render(
        request,
        "admin/audit.html",
        status=fault.status if fault else 200,
        here="admin-audit",
        page=found,
        log=log_lines(found.items, known, core.settings, language),
        thing=lambda row: audit_words.thing(row, known, language),
        object_name=lambda kind: auditing.OBJECTS[kind].render(language) if kind in auditing.OBJECTS else kind,
        first=not cursor,
        values=typed,
        query=urlencode({name: value for name, value in typed.items() if value}),
        actions=sorted(((key, auditing.name(key, language)) for key in auditing.ACTIONS), key=lambda each: each[1]),
        fault=fault_of(fault, request) if fault else None,
        **shared,
    )


@routes.get("/admin/audit/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered rows as a table for other programs; that it was sent is in the log too."""
    person = administrator(request)
    filters, typed = _filters(request)
    core, language = core_of(request), auth.visitor(request).language
    async with core.db.write() as session:
        await access.record(session, person, "audit_exported", "audit", "", **{k: v for k, v in typed.items() if v})
    name = f"audit-{bookkeeping.today(core.now()).isoformat()}"
    return await tables.sent(
        request, auditing.table(core.db, core.settings, filters, language), name, translate(language, "Audit log")
    )
