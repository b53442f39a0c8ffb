"""One owner: everything an administrator may need of them, writing to them, shutting them out and letting them in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from aiohttp import web

from db import models
from db.base import new_id, utcnow
from services import (
    allowances,
    audit_words,
    auditing,
    health,
    people,
    referrals,
    requests,
    team,
    views,
)
from services.audit_words import Known
from services.bell import session_topic
from services.days import midnight
from services.errors import AppError
from services.letters import bounced
from services.settings import Settings
from web import auth, forms, view
from web.admin.owners import subject_of, ways_of
from web.admin.shell import administrator
from web.pages import billing
from web.pages.documents import document_rows
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()


@routes.get("/admin/owners/{owner}")
async def page(request: web.Request) -> web.StreamResponse:
    """Show all that is known of an owner."""
    administrator(request)
    return await show(request)


async def show(
    request: web.Request, *, error: AppError | None = None, form: str = "", values: dict[str, str] | None = None
) -> web.StreamResponse:
    """Show an owner; ``error`` is what was wrong with a form called ``form``."""
    core, language = core_of(request), auth.visitor(request).language
    now = core.now()
    async with core.db.read() as session:
        shared = await frame(session, request)
        owner = await requests.owner(session, request.match_info["owner"])
        card = await people.card(session, owner, now=now)
        used = await allowances.usage(session, core.settings, owner, now)
        partner = await referrals.account(session, owner.id, now=now)
        written = await bounced.last_letters(session, owner.id)
        log, known = await auditing.of_owner(session, owner.id)
    standing = used.standing
    return view.render(
        request,
        "admin/owner.html",
        status=error.status if error else 200,
        here="admin-owners",
        owner=owner,
        card=card,
        standing=standing,
        state=people.Listed(owner, standing, len(card.bots)).state,
        state_name=lambda state: people.STATES[state].render(language),
        used=used,
        partner=partner,
        letters=[(letter, subject_of(letter, language), ways_of(letter, language)) for letter in written],
        log=log_lines(log, known, core.settings, language),
        documents=document_rows(card.documents, language),
        request_state=lambda state: requests.STATES[state].render(language),
        health_of=health.known,
        role_names=team.ROLE_NAMES,
        minutes=views.MINUTES,
        key=new_id(),
        values=values or {},
        sent=form,
        fault=fault_of(error, request) if error else None,
        **billing.words(request),
        **shared,
    )


def log_lines(
    rows: Sequence[models.AuditLog], known: Known, settings: Settings, language: str
) -> list[tuple[models.AuditLog, str, list[str], models.User | None, models.User | None]]:
    """Return rows of the audit log with what their action is called, their details, who acted and for whom."""

    def when(moment: dt.datetime | dt.date) -> str:
        if isinstance(moment, dt.datetime):
            return view.exact(moment, language)
        return view.day(midnight(moment), language)

    def details(row: models.AuditLog) -> list[str]:
        return audit_words.details(row, known, settings, language, when)

    return [(row, auditing.name(row.action, language), details(row), *auditing.who(row, known)) for row in rows]


async def _again(request: web.Request, error: AppError, name: str, form: forms.Form) -> web.StreamResponse:
    if error.status == 404:
        raise error
    fields = ("reason", "message", "minutes")
    values = {field: form.fields.get(field, "")[: people.MESSAGE_CHARS + 500] for field in fields}
    return await show(request, error=error, form=name, values=values)


@routes.post("/admin/owners/{owner}/ban")
async def ban(request: web.Request) -> web.StreamResponse:
    """Shut an owner out. Field: ``reason``, which the owner receives."""
    person = administrator(request)
    core, form, owner_id = core_of(request), await forms.read(request), request.match_info["owner"]
    try:
        async with core.db.write() as session:
            await requests.owner(session, owner_id)
            topics = await people.ban(session, person, owner_id, form.fields.get("reason", ""), now=core.now())
    except AppError as error:
        return await _again(request, error, "ban", form)
    for topic in topics:
        core.bell.ring(topic)
    return view.redirect(f"/admin/owners/{owner_id}", toast="owner_banned")


@routes.post("/admin/owners/{owner}/unban")
async def unban(request: web.Request) -> web.StreamResponse:
    """Let an owner in again."""
    person = administrator(request)
    core, form, owner_id = core_of(request), await forms.read(request), request.match_info["owner"]
    try:
        async with core.db.write() as session:
            await requests.owner(session, owner_id)
            await people.unban(session, person, owner_id, now=core.now())
    except AppError as error:
        return await _again(request, error, "unban", form)
    for topic in ("letters", "channels"):
        core.bell.ring(topic)
    return view.redirect(f"/admin/owners/{owner_id}", toast="owner_unbanned")


@routes.post("/admin/owners/{owner}/message")
async def message(request: web.Request) -> web.StreamResponse:
    """Write to an owner. Fields: ``message``, ``key``: of the form, so that one sent twice writes once."""
    person = administrator(request)
    core, form, owner_id = core_of(request), await forms.read(request), request.match_info["owner"]
    try:
        async with core.db.write() as session:
            await requests.owner(session, owner_id)
            text, key = form.fields.get("message", ""), form.text("key", 32)
            await people.write(session, person, owner_id, text, key, now=core.now())
    except AppError as error:
        return await _again(request, error, "message", form)
    core.bell.ring("letters")
    return view.redirect(f"/admin/owners/{owner_id}", toast="owner_written")


@routes.post("/admin/owners/{owner}/view")
async def look(request: web.Request) -> web.StreamResponse:
    """See the panel as an owner does, in this browser, for some minutes. Fields: ``reason``, ``minutes``."""
    person = administrator(request)
    core, form, owner_id = core_of(request), await forms.read(request), request.match_info["owner"]
    me = auth.visitor(request).signed_in
    try:
        minutes = form.text("minutes", 10)
        async with core.db.write() as session:
            owner = await requests.owner(session, owner_id)
            browser = me.session.id if me is not None else ""
            span = int(minutes) if minutes in map(str, views.MINUTES) else 0
            await views.begin(session, person, browser, owner, form.fields.get("reason", ""), span, now=utcnow())
    except AppError as error:
        return await _again(request, error, "view", form)
    if me is not None:
        # Its streams tell of the administrator's own things.
        core.bell.ring(session_topic(me.session.id))
    return view.redirect("/dashboard", toast="view_begun")
