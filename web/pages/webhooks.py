"""Integrations: an owner's own servers that are told what happens, each with a log of what it was told; the way to API tokens.

Every account sees its own: members of a team have nothing to do with where their owner's customers' words go.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from db import models
from services import endpoints
from services.core import Core
from services.days import TASHKENT
from services.errors import AppError, Conflict, Invalid, TooMany
from services.i18n import T, Text, translate
from services.logs import hide
from services.settings import ROOT
from services.sheets import ROWS_AT_ONCE, Cell
from web import auth, forms, tables, view
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_HERE = "/settings/webhooks"
_SAMPLES: Mapping[str, Path] = {
    name: ROOT / "templates" / "verify" / f"{name.lower()}.txt" for name in ("Python", "PHP", "Node")
}
_TESTS_A_MINUTE = 10
_STATE_NAMES: Mapping[str, Text] = {
    "waiting": T("On its way"),
    "delivered": T("Delivered"),
    "failed": T("Given up"),
}
# Why there is no answer, as it begins in the log, and what that means to the owner.
_FAILURES: tuple[tuple[str, Text], ...] = (
    (
        "it could not be reached",
        T("Your server could not be reached. Is the address right, and is the server running?"),
    ),
    ("no answer within", T("Your server did not answer in time.")),
    ("its certificate", T("The certificate of your server is not valid for this address.")),
    (
        "this address may not",
        T("This address leads nowhere outside. Enter one that can be reached from the internet."),
    ),
)


@routes.get(_HERE)
async def list_page(request: web.Request) -> web.StreamResponse:
    """Show the addresses and the form for another one."""
    return await _list(request)


async def _list(
    request: web.Request,
    *,
    error: AppError | None = None,
    values: Mapping[str, Any] | None = None,
) -> web.StreamResponse:
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await endpoints.of_owner(session, auth.user(request))
        waiting = await endpoints.waiting(session, found)
    return view.render(
        request,
        "pages/webhooks.html",
        status=error.status if error else 200,
        here="webhooks",
        found=[(row, endpoints.host(row), endpoints.state(row), waiting.get(row.id, 0)) for row in found],
        most=core.settings.webhooks.per_owner,
        values=values or {"url": "", "events": list(endpoints.EVENTS)},
        events=endpoints.EVENTS,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post(_HERE)
async def add(request: web.Request) -> web.StreamResponse:
    """Add an address and show its secret this once. Fields: ``url``, ``events`` (several)."""
    core, form = core_of(request), await forms.read(request)
    values = {"url": form.fields.get("url", "")[:2000], "events": form.all("events")}
    try:
        async with core.db.write() as session:
            row, secret = await endpoints.create(
                session,
                core.settings,
                core.crypto,
                auth.user(request),
                url=form.text("url", 3000),
                events=values["events"],
            )
    except (Invalid, Conflict) as error:
        return await _list(request, error=error, values=values)
    hide(secret)
    return await _one(request, row.id, secret=secret)


@routes.get(f"{_HERE}/guide")
async def guide(request: web.Request) -> web.StreamResponse:
    """Show what is sent and how a server checks that it comes from here."""
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/webhooks_guide.html",
        here="webhooks",
        samples={name: path.read_text("utf-8") for name, path in _SAMPLES.items()},
        examples={
            name: _pretty({"type": name, "timestamp": "2026-11-22T09:30:02Z", "data": data})
            for name, data in endpoints.EXAMPLES.items()
        },
        events=endpoints.EVENTS,
        days=endpoints.KEPT.days,
        **shared,
    )


@routes.get(_HERE + "/{endpoint}")
async def one_page(request: web.Request) -> web.StreamResponse:
    """Show one address and what it was told; ``state`` and ``cursor`` in the address."""
    return await _one(request, request.match_info["endpoint"])


async def _one(
    request: web.Request,
    endpoint_id: str,
    *,
    error: AppError | None = None,
    form_name: str = "",
    values: Mapping[str, Any] | None = None,
    secret: str = "",
    typed: str = "",
) -> web.StreamResponse:
    core = core_of(request)
    state = request.query.get("state", "")
    state = state if state in endpoints.STATES else ""
    cursor = request.query.get("cursor", "")[:40] or None
    async with core.db.read() as session:
        row = await endpoints.get(session, auth.user(request), endpoint_id)
        shared = await frame(session, request)
        page = await endpoints.log(session, row, status=state, cursor=cursor)
    return view.render(
        request,
        "pages/webhook.html",
        status=error.status if error else 200,
        here="webhooks",
        endpoint=row,
        host=endpoints.host(row),
        endpoint_state=endpoints.state(row),
        values=values or {"url": row.url, "events": row.events or list(endpoints.EVENTS)},
        events=endpoints.EVENTS,
        secret=secret,
        typed=typed,
        page=page,
        state=state,
        state_names=_STATE_NAMES,
        first=cursor is None,
        days=endpoints.KEPT.days,
        form_name=form_name,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.get(_HERE + "/{endpoint}/events.{table:csv|xlsx}")
async def log_table(request: web.Request) -> web.StreamResponse:
    """Send the log, of one ``state`` if it is named, as a table for other programs."""
    core, language = core_of(request), auth.visitor(request).language
    state = request.query.get("state", "")
    async with core.db.read() as session:
        row = await endpoints.get(session, auth.user(request), request.match_info["endpoint"])
    parts = _log_parts(core, row, state if state in endpoints.STATES else "", language)
    return await tables.sent(request, parts, f"webhook-{row.id}", translate(language, "What it was told"))


async def _log_parts(
    core: Core, row: models.Endpoint, state: str, language: str
) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    heads = (T("Time"), T("What happened"), T("State"), T("Attempts"), T("Delivered"), T("Answer took"), T("Answer"))
    yield [["webhook-id", *(head.render(language) for head in heads)]]
    cursor: str | None = None
    while True:
        async with core.db.read() as session:
            page = await endpoints.log(session, row, status=state, cursor=cursor, limit=ROWS_AT_ONCE)
        yield [
            [
                f"msg_{event.id}",
                _written(event.created_at),
                event.event,
                _STATE_NAMES[event.status].render(language),
                event.attempts,
                _written(event.delivered_at),
                "" if event.took_ms is None else f"{event.took_ms} ms",
                " ".join(
                    filter(None, (f"HTTP {event.http_status}" if event.http_status else "", _answer(event, language)))
                ),
            ]
            for event in page.items
        ]
        cursor = page.next
        if cursor is None:
            return


def _answer(event: models.EndpointEvent, language: str) -> str:
    """Return what the server said, where it said nothing why."""
    if event.http_status is None:
        for begins, text in _FAILURES:
            if event.answer.startswith(begins):
                return text.render(language)
    return event.answer


def _written(moment: dt.datetime | None) -> str:
    return moment.astimezone(TASHKENT).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


@routes.post(_HERE + "/{endpoint}")
async def save(request: web.Request) -> web.StreamResponse:
    """Change address and events."""
    core, form, endpoint_id = core_of(request), await forms.read(request), request.match_info["endpoint"]
    values = {"url": form.fields.get("url", "")[:2000], "events": form.all("events")}
    try:
        async with core.db.write() as session:
            await endpoints.change(
                session,
                core.settings,
                auth.user(request),
                endpoint_id,
                url=form.text("url", 3000),
                events=values["events"],
            )
    except Invalid as error:
        return await _one(request, endpoint_id, error=error, form_name="change", values=values)
    return view.redirect(f"{_HERE}/{endpoint_id}", toast="saved")


@routes.post(_HERE + "/{endpoint}/secret")
async def new_secret(request: web.Request) -> web.StreamResponse:
    """Make a new secret and show it this once; the old one signs too for a day."""
    core, endpoint_id = core_of(request), request.match_info["endpoint"]
    async with core.db.write() as session:
        secret = await endpoints.rotate(session, core.crypto, auth.user(request), endpoint_id, now=core.now())
    hide(secret)
    return await _one(request, endpoint_id, secret=secret)


@routes.post(_HERE + "/{endpoint}/test")
async def test(request: web.Request) -> web.StreamResponse:
    """Send a test event and lead to what becomes of it."""
    core, person, endpoint_id = core_of(request), auth.user(request), request.match_info["endpoint"]
    try:
        if not await core.limits.hit(f"webhook-test:{person.id}", _TESTS_A_MINUTE, 60):
            raise TooMany(retry_after_s=60)
        async with core.db.write() as session:
            event = await endpoints.send_test(session, person, endpoint_id)
    except (Conflict, TooMany) as error:
        return await _one(request, endpoint_id, error=error)
    core.bell.ring("endpoints")
    return view.redirect(f"{_HERE}/{endpoint_id}/events/{event.id}", toast="webhook_sent")


@routes.post(_HERE + "/{endpoint}/on")
async def switch_on(request: web.Request) -> web.StreamResponse:
    """Tell an address again."""
    return await _switch(request, True)


@routes.post(_HERE + "/{endpoint}/off")
@auth.deletion
async def switch_off(request: web.Request) -> web.StreamResponse:
    """Tell an address nothing more."""
    return await _switch(request, False)


async def _switch(request: web.Request, on: bool) -> web.StreamResponse:
    core, endpoint_id = core_of(request), request.match_info["endpoint"]
    async with core.db.write() as session:
        await endpoints.switch(session, auth.user(request), endpoint_id, on, now=core.now())
    return view.redirect(f"{_HERE}/{endpoint_id}", toast="webhook_on" if on else "webhook_off")


@routes.post(_HERE + "/{endpoint}/delete")
@auth.deletion
async def delete(request: web.Request) -> web.StreamResponse:
    """Delete an address with its log. Field: ``confirm``, its host."""
    core, form, endpoint_id = core_of(request), await forms.read(request), request.match_info["endpoint"]
    try:
        async with core.db.write() as session:
            row = await endpoints.get(session, auth.user(request), endpoint_id)
            if form.text("confirm").strip().lower() != endpoints.host(row):
                raise Invalid(T("Type the name exactly as it is written."), field="confirm")
            await endpoints.remove(session, auth.user(request), endpoint_id)
    except Invalid as error:
        typed = form.fields.get("confirm", "")[:300]
        return await _one(request, endpoint_id, error=error, form_name="delete", typed=typed)
    return view.redirect(_HERE, toast="removed")


@routes.get(_HERE + "/{endpoint}/events/{event}")
async def event_page(request: web.Request) -> web.StreamResponse:
    """Show what was sent, how often, and what came back."""
    return await _event(request)


async def _event(request: web.Request, *, error: AppError | None = None) -> web.StreamResponse:
    endpoint_id, event_id = request.match_info["endpoint"], request.match_info["event"]
    async with core_of(request).db.read() as session:
        row, event = await endpoints.one_event(session, auth.user(request), endpoint_id, event_id)
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/webhook_event.html",
        status=error.status if error else 200,
        here="webhooks",
        endpoint=row,
        host=endpoints.host(row),
        event=event,
        answer=_answer(event, auth.visitor(request).language),
        body=_pretty(json.loads(event.payload)),
        events=endpoints.EVENTS,
        state_names=_STATE_NAMES,
        fault=fault_of(error, request) if error else None,
        **shared,
    )


@routes.post(_HERE + "/{endpoint}/events/{event}/resend")
async def resend(request: web.Request) -> web.StreamResponse:
    """Send an event once more, with the same id."""
    core = core_of(request)
    endpoint_id, event_id = request.match_info["endpoint"], request.match_info["event"]
    try:
        async with core.db.write() as session:
            await endpoints.resend(session, auth.user(request), endpoint_id, event_id, now=core.now())
    except Conflict as error:
        return await _event(request, error=error)
    core.bell.ring("endpoints")
    return view.redirect(f"{_HERE}/{endpoint_id}/events/{event_id}", toast="webhook_sent")


def _pretty(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2)
