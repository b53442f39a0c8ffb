"""The person's talk with those who run the installation."""

from __future__ import annotations

import re
import secrets
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable
from services import support
from services.errors import AppError, Invalid, NotFound, TooMany
from services.i18n import T
from web import auth, forms, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()
log = structlog.get_logger(__name__)

_MARK = re.compile(r"[0-9a-f]{16}")


def new_mark() -> str:
    """Return what a form is known by: sent twice, it adds one line."""
    return secrets.token_hex(8)


def source(form: forms.Form, user_id: str) -> str | None:
    """Return what the line of a form came as; None where the form was made by hand."""
    mark = form.text("mark", 40)
    return f"panel:{user_id}:{mark}" if _MARK.fullmatch(mark) else None


async def shown(session: AsyncSession, owner_id: str, cursor: str = "") -> dict[str, Any]:
    """Return what the lines of a talk are drawn from, the oldest first."""
    page = await support.lines(session, owner_id, cursor=cursor[:26] or None)
    said = list(page.items)[::-1]
    return {"lines": said, "names": await support.names(session, said), "older": page.next or "", "cursor": cursor[:26]}


@routes.get("/support")
async def support_page(request: web.Request) -> web.StreamResponse:
    """Show the talk; whoever runs the installation has those of all owners instead."""
    person = auth.user(request)
    if person.is_admin:
        return view.redirect("/admin/support")
    await _seen(request, person)
    return await _page(request)


async def _page(request: web.Request, *, error: AppError | None = None, text: str = "") -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        drawn = await shown(session, person.id, request.query.get("cursor", ""))
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/support.html",
        status=error.status if error else 200,
        here="support",
        mark=new_mark(),
        text=text,
        factory=core.factory_username,
        has_telegram=person.telegram_id is not None,
        fault=fault_of(error, request) if error else None,
        **drawn,
        **shared,
    )


@routes.get("/support/lines")
async def support_lines(request: web.Request) -> web.StreamResponse:
    """Return the lines of the talk as they are now, for the page's script."""
    person = auth.user(request)
    if not view.wants_part(request):
        return view.redirect("/support")
    await _seen(request, person)
    async with core_of(request).db.read() as session:
        drawn = await shown(session, person.id, request.query.get("cursor", ""))
    return view.render(request, "pages/_support.html", by_admin=False, at="/support", **drawn)


async def _seen(request: web.Request, person: models.User) -> None:
    """Note that the person reads the talk; a database that takes nothing now may still be read."""
    core, signed_in = core_of(request), auth.visitor(request).signed_in
    if signed_in is None or signed_in.session.view_id is not None:
        return
    try:
        async with core.db.read() as session:
            talk = await support.talk_of(session, person.id)
            new = talk is not None and (talk.owner_seen_at is None or talk.owner_seen_at < talk.last_message_at)
        if new:
            async with core.db.write() as session:
                await support.seen(session, person.id, core.now())
            core.bell.ring("notices")
    except DatabaseUnavailable:
        log.info("support_reading_not_noted")


@routes.post("/support")
async def ask(request: web.Request) -> web.StreamResponse:
    """Write to support. Fields: ``text``, ``mark``."""
    core, person = core_of(request), auth.user(request)
    if person.is_admin:
        raise NotFound(T("There is no such page."))
    form = await forms.read(request)
    text = form.fields.get("text", "")
    try:
        async with core.db.write() as session:
            await support.ask(session, person, text, source=source(form, person.id), now=core.now())
    except (Invalid, TooMany) as error:
        return await _page(request, error=error, text=text[: 2 * support.LINE_CHARS])
    support.ring(core, person.id)
    return view.redirect("/support#end")
