"""Integrations of all owners: channels and how they are, a look at one now, and the webhooks that tell owners' servers."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from services import access, all_channels, endpoints, logs
from services.channel_names import channel_name
from services.errors import AppError
from services.i18n import T
from web import auth, view
from web.admin import lists
from web.admin.shell import administrator
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_FILTERS = ("platform", "owner", "bot", "state", "q")
_HOOK_FILTERS = ("owner", "state")


def _filters(typed: Mapping[str, str]) -> all_channels.Filters:
    """Return the filters that were typed; raises ``Invalid``."""
    return all_channels.Filters(**typed)


@routes.get("/admin/channels")
async def page(request: web.Request) -> web.StreamResponse:
    """List the channels that the filters of the address leave."""
    administrator(request)
    return await _page(request)


async def _page(request: web.Request, error: AppError | None = None) -> web.StreamResponse:
    core, language = core_of(request), auth.visitor(request).language
    asked = lists.asked(request, _FILTERS, _filters)
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await all_channels.find(session, asked.filters, cursor=asked.cursor)
        counts = await all_channels.counts(session)
        ill = await all_channels.ill(session)
    return view.render(
        request,
        "admin/channels.html",
        here="admin-channels",
        page=found,
        counts=[(kind, channel_name(kind, language), counts[kind]) for kind in all_channels.KINDS],
        ill=ill,
        platforms=[(kind, channel_name(kind, language)) for kind in all_channels.KINDS],
        states=[(key, text.render(language)) for key, text in all_channels.STATES.items()],
        trouble_name=lambda trouble: all_channels.TROUBLES[trouble].render(language),
        can_check=lambda channel: all_channels.can_check(core, channel),
        redact=logs.redact,
        **asked.shown(request, error),
        **shared,
    )


@routes.get("/admin/channels/export.{table:csv|xlsx}")
async def export(request: web.Request) -> web.StreamResponse:
    """Send the filtered channels as a table for other programs."""
    person, core = administrator(request), core_of(request)
    asked = lists.asked(request, _FILTERS, _filters, strict=True)
    async with core.db.write() as session:
        await access.record(session, person, "channels_exported", "channel", "", **asked.given)
    parts = all_channels.table(core.db, asked.filters, auth.visitor(request).language)
    return await lists.send(request, parts, "channels", T("Channels"))


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
    asked = lists.asked(request, _HOOK_FILTERS, lambda typed: all_channels.HookFilters(**typed))
    async with core.db.read() as session:
        shared = await frame(session, request)
        found = await all_channels.hooks(session, asked.filters, cursor=asked.cursor)
        bad = await all_channels.bad_hooks(session)
    return view.render(
        request,
        "admin/channel_webhooks.html",
        here="admin-channels",
        page=found,
        bad=bad,
        host_of=endpoints.host,
        state_of=endpoints.state,
        states=[(key, text.render(language)) for key, text in all_channels.HOOK_STATES.items()],
        **asked.shown(request),
        **shared,
    )
