"""Files of all owners: what bots know and what conversations hold; a document that could not be read is read again from here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from aiohttp import web

from db import models
from services import access, all_files
from services.all_files import KNOWLEDGE, SENT, Shelf
from services.errors import AppError
from services.i18n import T, Text
from web import auth, view
from web.admin import lists
from web.admin.shell import administrator
from web.pages.documents import document_rows
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_FILTERS = ("owner", "bot", "state", "kind", "name", "since", "until", "order")


def _filters(shelf: Shelf, typed: Mapping[str, str]) -> all_files.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    since, until = lists.days(typed)
    named = {name: typed[name] for name in _FILTERS if name not in ("since", "until")}
    return all_files.Filters(**named, since=since, until=until).checked(shelf)


@routes.get("/admin/files")
async def knowledge(request: web.Request) -> web.StreamResponse:
    """List the documents that the filters of the address leave."""
    administrator(request)
    return await _page(request, KNOWLEDGE)


@routes.get("/admin/files/sent")
async def sent(request: web.Request) -> web.StreamResponse:
    """List the files of conversations that the filters of the address leave."""
    administrator(request)
    return await _page(request, SENT)


async def _page(request: web.Request, shelf: Shelf, error: AppError | None = None) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    asked = lists.asked(request, _FILTERS, partial(_filters, shelf))
    async with core.db.read() as session:
        shared = await frame(session, request)
        page = await all_files.find(session, shelf, asked.filters, cursor=asked.cursor)
        total = await all_files.total(session, shelf, asked.filters)
        failed = await all_files.failures(session, shelf)
        owners = await all_files.owners(session, page.items)
        places = await all_files.places(session, page.items) if shelf is SENT else {}
    documents = [each for each in page.items if isinstance(each, models.Document)]
    return view.render(
        request,
        "admin/files.html",
        here="admin-files",
        address="/admin/files" if shelf is KNOWLEDGE else "/admin/files/sent",
        is_knowledge=shelf is KNOWLEDGE,
        page=page,
        rows={row.document.id: row for row in document_rows(documents, language)},
        total=total,
        failed=failed,
        owners=owners,
        places=places,
        author_name=lambda author: (
            all_files.AUTHORS[author].render(language) if author in all_files.AUTHORS else author
        ),
        deleted_on=lambda file: all_files.deleted_on(file, core.settings.media.keep_days),
        went_wrong=shelf.failed,
        state_name=lambda state: all_files.state_name(shelf, state, language),
        kind_name=lambda kind: all_files.kind_name(shelf, kind, language),
        states=[(key, text.render(language)) for key, text in shelf.states.items()],
        kinds=[(key, all_files.kind_name(shelf, key, language)) for key in shelf.kinds],
        orders=[(key, text.render(language)) for key, text in all_files.ORDERS.items()],
        **asked.shown(request, error),
        **shared,
    )


@routes.get("/admin/files/export.{table:csv|xlsx}")
async def export_knowledge(request: web.Request) -> web.StreamResponse:
    """Send the filtered documents as a table for other programs."""
    return await _export(request, KNOWLEDGE, "documents", T("Documents"))


@routes.get("/admin/files/sent/export.{table:csv|xlsx}")
async def export_sent(request: web.Request) -> web.StreamResponse:
    """Send the filtered files of conversations as a table for other programs."""
    return await _export(request, SENT, "files", T("Files of conversations"))


async def _export(request: web.Request, shelf: Shelf, name: str, title: Text) -> web.StreamResponse:
    person, core = administrator(request), core_of(request)
    asked = lists.asked(request, _FILTERS, partial(_filters, shelf), strict=True)
    async with core.db.write() as session:
        await access.record(session, person, "files_exported", "document", "", list=name, **asked.given)
    language, keep_days = auth.visitor(request).language, core.settings.media.keep_days
    parts = all_files.table(core.db, shelf, asked.filters, language, keep_days=keep_days)
    return await lists.send(request, parts, name, title)


@routes.post("/admin/files/{document}/retry")
async def retry(request: web.Request) -> web.StreamResponse:
    """Let a failed document be read once more; the address keeps the list's filters."""
    person, core = administrator(request), core_of(request)
    try:
        async with core.db.write() as session:
            await all_files.read_again(session, person, request.match_info["document"])
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, KNOWLEDGE, error)
    core.bell.ring("jobs")
    return view.redirect(f"/admin/files{request.query_string and '?'}{request.query_string}", toast="retry")
