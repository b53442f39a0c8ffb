"""Deleting one's account, taking that back, and everything of it as a file before."""

from __future__ import annotations

from aiohttp import web

from db import models
from services import access, exporting, leaving
from services.bell import session_topic
from services.errors import AppError, TooMany
from services.i18n import T
from web import auth, forms, view
from web.pages.second_factor import prove_either
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_EXPORTS_AN_HOUR = 3


@routes.get("/settings/delete")
async def page(request: web.Request) -> web.StreamResponse:
    """Say what a deletion takes away, or until when one can be taken back."""
    return await _page(request)


async def _page(request: web.Request, *, error: AppError | None = None) -> web.StreamResponse:
    core, person = core_of(request), auth.user(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
    response = view.render(
        request,
        "pages/delete.html",
        status=error.status if error else 200,
        here="account",
        days=leaving.WITHIN.days,
        factory=core.factory_username if person.telegram_id is not None else "",
        fault=fault_of(error, request) if error else None,
        **shared,
    )
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


@routes.post("/settings/delete")
@auth.deletion
async def ask(request: web.Request) -> web.StreamResponse:
    """Have the account deleted in fourteen days. Fields: ``code`` or ``current_password``."""
    core, person = core_of(request), auth.user(request)
    form = await forms.read(request)
    try:
        await prove_either(request, form)
        async with core.db.write() as session:
            ended = await leaving.ask(session, person, now=core.now())
    except AppError as error:
        return await _page(request, error=error)
    for topic in ("letters", "channels", *map(session_topic, ended)):
        core.bell.ring(topic)
    await auth.sign_out(request)
    return view.redirect("/login", toast="deletion_asked")


@routes.post("/settings/delete/keep")
async def keep(request: web.Request) -> web.StreamResponse:
    """Take the deletion back."""
    core = core_of(request)
    async with core.db.write() as session:
        kept = await leaving.keep(session, auth.user(request))
    core.bell.ring("channels")
    return view.redirect("/settings", toast="account_kept" if kept else "")


@routes.post("/settings/export")
async def export(request: web.Request) -> web.StreamResponse:
    """Send everything of the account as a ZIP, made while it is sent."""
    core = core_of(request)
    person: models.User = auth.user(request)
    if not await core.limits.hit(f"export:{person.id}", _EXPORTS_AN_HOUR, 3600):
        raise TooMany(
            T("You have downloaded your data several times just now. Try again in an hour."), retry_after_s=3600
        )
    async with core.db.write() as session:
        await access.record(session, person, "data_exported", "user", person.id)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="botfactory-{core.now():%Y-%m-%d}.zip"',
        }
    )
    await response.prepare(request)
    async for part in exporting.stream(core.db, person):
        await response.write(part)
    await response.write_eof()
    return response
