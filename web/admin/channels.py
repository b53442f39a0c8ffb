"""Integrations of all owners: channels and how they are, a look at one now, and the webhooks that tell owners' servers."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from services import access, all_channels, bookkeeping, endpoints, logs
from services.allowances import channel_name
from services.errors import AppError, Invalid
from services.i18n import translate
from web import auth, tables, view
from web.admin.shell import administrator
from web.pages.shell import core_of, fault_of, frame

routes = web.RouteTableDef()

_FILTERS = ("platform", "owner", "bot", "state", "q")
_HOOK_FILTERS = ("owner", "state")


def _filters(request: web.Request) -> tuple[all_channels.Filters, dict[str, str]]:
    """Return the filters of the address, and as they were typed; raises ``Invalid``."""
    typed = {name: request.query.get(name, "")[:200].strip() for name in _FILTERS}
    return all_channels.Filters(**typed), typed


@routes.get("/admin/channels")
async def page(request: web.Request) -> web.StreamResponse:
    """List the channels that the filters of the address leave."""
    administrator(request)
    return await _page(request)


async def _page(request: web.Request, error: AppError | None = None) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    fault = error
    try:
        filters, typed = _filters(request)
    except Invalid as wrong:
        fault, filters = fault or wrong, all_channels.Filters()
        typed = {name: request.query.get(name, "")[:200] for name in _FILTERS}
    cursor = request.query.get("cursor", "")[:60]
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await all_channels.find(session, filters, cursor=cursor)
        counts = await all_channels.counts(session)
        ill = await all_channels.ill(session)
    return view.render(
        request,
        "admin/channels.html",
        status=fault.status if fault else 200,
        here="admin-channels",
        page=found,
        counts=[(kind, channel_name(kind, language), counts[kind]) for kind in all_channels.KINDS],
        ill=ill,
        platforms=[(kind, channel_name(kind, language)) for kind in all_channels.KINDS],
        states=[(key, text.render(language)) for key, text in all_channels.STATES.items()],
        trouble_name=lambda trouble: all_channels.TROUBLES[trouble].render(language),
        can_check=lambda channel: all_channels.can_check(core, channel),
        redact=logs.redact,
        first=not cursor,
        values=typed,
        query=urlencode({name: value for name, value in typed.items() if value}),
        fault=fault_of(fault, request) if fault else None,
        **shared,
    )


@routes.get("/admin/channels/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered channels as a table for other programs."""
    person = administrator(request)
    filters, typed = _filters(request)
    core, language = core_of(request), auth.visitor(request).language
    async with core.db.write() as session:
        asked = {key: value for key, value in typed.items() if value}
        await access.record(session, person, "channels_exported", "channel", "", **asked)
    name = f"channels-{bookkeeping.today(core.now()).isoformat()}"
    return await tables.sent(
        request, all_channels.table(core.db, filters, language), name, translate(language, "Channels")
    )


@routes.post("/admin/channels/{channel}/check")
async def check(request: web.Request) -> web.StreamResponse:
    """Look at a channel now; the address keeps the list's filters."""
    person, core = administrator(request), core_of(request)
    try:
        await all_channels.check(core, person, request.match_info["channel"])
    except AppError as error:
        if error.status == 404:
            raise
        return await _page(request, error)
    return view.redirect(f"/admin/channels{request.query_string and '?'}{request.query_string}", toast="checked")


@routes.get("/admin/channels/webhooks")
async def hooks(request: web.Request) -> web.StreamResponse:
    """List the webhooks that the filters of the address leave."""
    administrator(request)
    core, language = core_of(request), auth.visitor(request).language
    typed = {name: request.query.get(name, "")[:200].strip() for name in _HOOK_FILTERS}
    fault: AppError | None = None
    try:
        filters = all_channels.HookFilters(**typed)
    except Invalid as wrong:
        fault, filters = wrong, all_channels.HookFilters()
    cursor = request.query.get("cursor", "")[:60]
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await all_channels.hooks(session, filters, cursor=cursor)
        bad = await all_channels.bad_hooks(session)
    return view.render(
        request,
        "admin/channel_webhooks.html",
        status=fault.status if fault else 200,
        here="admin-channels",
        page=found,
        bad=bad,
        host_of=endpoints.host,
        state_of=endpoints.state,
        states=[(key, text.render(language)) for key, text in all_channels.HOOK_STATES.items()],
        first=not cursor,
        values=typed,
        query=urlencode({name: value for name, value in typed.items() if value}),
        fault=fault_of(fault, request) if fault else None,
        **shared,
    )
