"""The JSON API to read: how a program begins, and every call as the OpenAPI document describes it."""

from __future__ import annotations

from aiohttp import web

from services.errors import NotFound
from web import keys, view
from web.pages.shell import core_of, frame

routes = web.RouteTableDef()

_HERE = "/settings/api"


@routes.get(_HERE)
async def begin(request: web.Request) -> web.StreamResponse:
    """Show how a program begins, what holds for every call, and which calls there are."""
    core = core_of(request)
    async with core.db.read() as session:
        shared = await frame(session, request)
    return view.render(
        request,
        "pages/reference.html",
        here="webhooks",
        groups=request.app[keys.API_GROUPS](),
        address=f"{core.settings.public_url}/api/v1",
        a_minute=core.settings.limits.api_requests_per_minute,
        **shared,
    )


@routes.get(_HERE + "/{section}")
async def section(request: web.Request) -> web.StreamResponse:
    """Show the calls about one kind of thing."""
    groups = request.app[keys.API_GROUPS]()
    found = next((group for group in groups if group.slug == request.match_info["section"]), None)
    if found is None:
        raise NotFound
    async with core_of(request).db.read() as session:
        shared = await frame(session, request)
    return view.render(request, "pages/reference_section.html", here="webhooks", groups=groups, section=found, **shared)
