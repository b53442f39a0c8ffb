"""How the installation is, what was set aside with another try or an end, the log's errors, and backups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from services import access, backups, durations, errorbook, job_names, logs, system
from services.ai import NAMES
from services.errors import AppError, Conflict, NotFound
from services.i18n import T
from services.paging import number_of
from web import auth, forms, view
from web import health as readiness
from web.admin.shell import administrator
from web.pages.proving import is_fresh, prove
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_ERRORS_SHOWN = 5


def _number(request: web.Request, name: str) -> int | None:
    typed = request.query.get(name, "")
    return number_of(typed, name) if typed else None


def _id(request: web.Request, name: str) -> int:
    typed = request.match_info[name]
    if not (typed.isascii() and typed.isdigit() and len(typed) < 19):
        raise NotFound
    return int(typed)


@routes.get("/admin/system")
async def page(request: web.Request) -> web.StreamResponse:
    """Show how the installation is."""
    administrator(request)
    return await _page(request)


async def _page(request: web.Request, error: AppError | None = None) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    parts = await readiness.parts_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        depths = await system.depths(session)
        slow = await system.slow(session, core.now())
        failing = await system.failing(session)
        messages, more_messages = await system.messages(session, _number(request, "messages"))
        dead_jobs, more_jobs = await system.dead_jobs(session, _number(request, "jobs"))
        due = await system.due(session, core.now())
        errors, more_errors = await errorbook.listed(session, limit=_ERRORS_SHOWN)
        progress = await backups.progress(session, core.settings)
    return view.render(
        request,
        "admin/system.html",
        status=error.status if error else 200,
        here="admin-system",
        parts=parts,
        good=readiness.GOOD,
        part_names={"process": "BotFactory", "redis": "Redis", "telegram": "Telegram", **NAMES},
        depths=depths,
        slow=slow,
        looked_at=system.MESSAGES_LOOKED_AT,
        failing=failing,
        messages=messages,
        more_messages=more_messages,
        dead_jobs=dead_jobs,
        more_jobs=more_jobs,
        due=due,
        job_names=job_names.NAMES,
        errors=errors,
        more_errors=more_errors,
        redact=logs.redact,
        took=lambda seconds: durations.text(seconds, language),
        kept=await backups.listed(core.settings),
        keep_backups=core.settings.database.keep_backups,
        progress=progress,
        room=await system.room(core),
        version=system.version(),
        started_at=core.started_at,
        has_password=auth.user(request).password_hash is not None,
        fresh=is_fresh(request),
        fault=fault_of(error, request) if error else None,
        **shared,
    )


# What was set aside


async def _set_aside(
    request: web.Request,
    kind: str,
    id_: int,
    act: Callable[[AsyncSession, int], Awaitable[str | None]],
    toast: str,
) -> web.StreamResponse:
    person, core = administrator(request), core_of(request)
    async with core.db.write() as session:
        what = await act(session, id_)
        await access.record(session, person, f"{kind}_{toast}", kind, str(id_), **({"kind": what} if what else {}))
    return _told(request, kind, toast)


async def _retry_all(
    request: web.Request, kind: str, act: Callable[[AsyncSession, int], Awaitable[str | None]]
) -> web.StreamResponse:
    person, core, done = administrator(request), core_of(request), 0
    async with core.db.read() as session:
        ids = await system.oldest(session, kind)
    for id_ in ids:
        # Each by itself: nobody's lane waits for all the others.
        try:
            async with core.db.write() as session:
                what = await act(session, id_)
                await access.record(
                    session, person, f"{kind}_retried", kind, str(id_), **({"kind": what} if what else {})
                )
        except (Conflict, NotFound):
            # Another administrator was there first, or its bot is gone meanwhile.
            continue
        done += 1
    if not done:
        raise NotFound(T("This is not set aside any more. Load the page again."))
    return _told(request, kind, "retried")


def _told(request: web.Request, kind: str, toast: str) -> web.StreamResponse:
    core = core_of(request)
    if kind == "message":
        core.wake_inbox()
        core.bell.ring_elsewhere("inbox")
    else:
        core.bell.ring("jobs")
    return view.redirect("/admin/system", toast=f"set_aside_{toast}")


@routes.post("/admin/system/messages/retry")
async def retry_messages(request: web.Request) -> web.StreamResponse:
    """Try the oldest messages that were set aside once more, :data:`services.system.AT_ONCE` at most."""
    return await _retry_all(request, "message", system.retry_message)


@routes.post("/admin/system/jobs/retry")
async def retry_jobs(request: web.Request) -> web.StreamResponse:
    """Try the oldest jobs that were given up once more, as many at most."""
    return await _retry_all(request, "job", system.retry_job)


@routes.post("/admin/system/messages/{item}/retry")
async def retry_message(request: web.Request) -> web.StreamResponse:
    """Try a message that was set aside once more."""
    return await _set_aside(request, "message", _id(request, "item"), system.retry_message, "retried")


@routes.post("/admin/system/messages/{item}/discard")
async def discard_message(request: web.Request) -> web.StreamResponse:
    """Give a message up for good."""
    return await _set_aside(request, "message", _id(request, "item"), system.discard_message, "discarded")


@routes.post("/admin/system/jobs/{job}/retry")
async def retry_job(request: web.Request) -> web.StreamResponse:
    """Try a job that was given up once more."""
    return await _set_aside(request, "job", _id(request, "job"), system.retry_job, "retried")


@routes.post("/admin/system/jobs/{job}/discard")
async def discard_job(request: web.Request) -> web.StreamResponse:
    """Give a job up for good."""
    return await _set_aside(request, "job", _id(request, "job"), system.discard_job, "discarded")


# Errors


@routes.get("/admin/system/errors")
async def errors(request: web.Request) -> web.StreamResponse:
    """List the log's errors, those that were hidden with ``hidden=1``."""
    administrator(request)
    core, hidden, cursor = core_of(request), request.query.get("hidden") == "1", request.query.get("cursor", "")[:120]
    async with core.db.read() as session:
        shared = await frame(session, request)
        found, following = await errorbook.listed(session, hidden=hidden, cursor=cursor)
    return view.render(
        request,
        "admin/errors.html",
        here="admin-system",
        errors=found,
        hidden=hidden,
        following=following,
        first=not cursor,
        **shared,
    )


@routes.post("/admin/system/errors/{error}/{change:hide|show}")
async def hide_error(request: web.Request) -> web.StreamResponse:
    """Take an error off the list, or put it back."""
    person, core = administrator(request), core_of(request)
    hidden = request.match_info["change"] == "hide"
    async with core.db.write() as session:
        record = await errorbook.hide(session, request.match_info["error"][:64], hidden=hidden)
        action = "error_hidden" if hidden else "error_shown"
        await access.record(session, person, action, "error", record.fingerprint[:16], event=record.event[:100])
    return view.redirect("/admin/system/errors", toast="error_hidden" if hidden else "error_shown")


# Backups


@routes.get("/admin/system/backups")
async def backup_list(request: web.Request) -> web.StreamResponse:
    """Return the part of the page with the backups, for a page that shows one being made."""
    administrator(request)
    core = core_of(request)
    async with core.db.read() as session:
        progress = await backups.progress(session, core.settings)
    return view.part(
        request,
        "admin/_backups.html",
        "/admin/system#backups",
        kept=await backups.listed(core.settings),
        keep_backups=core.settings.database.keep_backups,
        progress=progress,
        has_password=auth.user(request).password_hash is not None,
        fresh=is_fresh(request),
    )


@routes.post("/admin/system/backups")
async def backup(request: web.Request) -> web.StreamResponse:
    """Make a backup now."""
    person, core = administrator(request), core_of(request)
    async with core.db.write() as session:
        if await backups.begin(session):
            await access.record(session, person, "backup_begun", "backup", "")
    core.bell.ring("jobs")
    return view.redirect("/admin/system", toast="backup_begun")


@routes.post("/admin/system/backups/{backup}/download")
async def download(request: web.Request) -> web.StreamResponse:
    """Send a backup to an administrator who proves who sits there. Field: ``current_password``."""
    person, core = administrator(request), core_of(request)
    path = backups.path_of(core.settings, request.match_info["backup"])
    try:
        await prove(request, await forms.read(request))
    except AppError as error:
        return await _page(request, error)
    async with core.db.write() as session:
        await access.record(session, person, "backup_downloaded", "backup", path.name)
    headers = {"Content-Disposition": f'attachment; filename="{quote(path.name)}"', "Cache-Control": "no-store"}
    return web.FileResponse(path, headers={**headers, "Content-Type": "application/zip"})


@routes.post("/admin/system/backups/{backup}/delete")
@auth.deletion
async def delete_backup(request: web.Request) -> web.StreamResponse:
    """Delete a backup."""
    person, core = administrator(request), core_of(request)
    path = backups.path_of(core.settings, request.match_info["backup"])
    path.unlink(missing_ok=True)
    async with core.db.write() as session:
        await access.record(session, person, "backup_deleted", "backup", path.name)
    return view.redirect("/admin/system", toast="backup_deleted")
