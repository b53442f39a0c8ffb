"""The audit log: who did what to what. It can be read and searched, and no address changes it."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from services import access, audit_words, auditing
from services.i18n import T
from web import auth, view
from web.admin import lists
from web.admin.owner import log_lines
from web.admin.shell import administrator
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_FILTERS = ("actor", "admins", "action", "object", "since", "until")


def _filters(typed: Mapping[str, str]) -> auditing.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    admins = typed["admins"] == "yes"
    filters = auditing.Filters(typed["actor"], admins, typed["action"], typed["object"], *lists.days(typed))
    return auditing.check(filters)


@routes.get("/admin/audit")
async def page(request: web.Request) -> web.StreamResponse:
    """List what the filters of the address leave of the log."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    asked = lists.asked(request, _FILTERS, _filters)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found, known = await auditing.find(session, asked.filters, cursor=asked.cursor)
    return view.render(
        request,
        "admin/audit.html",
        here="admin-audit",
        page=found,
        log=log_lines(found.items, known, core.settings, language),
        thing=lambda row: audit_words.thing(row, known, language),
        object_name=lambda kind: auditing.OBJECTS[kind].render(language) if kind in auditing.OBJECTS else kind,
        actions=sorted(((key, auditing.name(key, language)) for key in auditing.ACTIONS), key=lambda each: each[1]),
        **asked.shown(request),
        **shared,
    )


@routes.get("/admin/audit/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered rows as a table for other programs; that it was sent is in the log too."""
    person, core = administrator(request), core_of(request)
    asked = lists.asked(request, _FILTERS, _filters, strict=True)
    async with core.db.write() as session:
        await access.record(session, person, "audit_exported", "audit", "", **asked.given)
    parts = auditing.table(core.db, core.settings, asked.filters, auth.visitor(request).language)
    return await lists.send(request, parts, "audit", T("Audit log"))
