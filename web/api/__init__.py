"""The JSON API, version 1."""

from __future__ import annotations

import functools
import re

import orjson
from aiohttp import web

from services.errors import NotFound
from services.i18n import T
from web import keys, reference
from web.api import (
    answers,
    bots,
    channels,
    chat,
    conversations,
    documents,
    messages,
    openapi,
    payments,
    plans,
    unanswered,
    usage,
)
from web.api.base import PREFIX, Endpoint

RESOURCES = (
    bots,
    documents,
    channels,
    chat,
    conversations,
    messages,
    unanswered,
    answers,
    usage,
    plans,
    payments,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(endpoint for module in RESOURCES for endpoint in module.routes.endpoints)

_PATHS = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", f"{PREFIX}{endpoint.path}")), endpoint.method) for endpoint in ENDPOINTS
]


async def _elsewhere(request: web.Request) -> web.Response:
    """Every other address and method: said in the API's own words."""
    allowed = sorted({method for path, method in _PATHS if path.fullmatch(request.path)})
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    raise NotFound(T("There is no such call. See {path}.", path=f"{PREFIX}/openapi.json"))


def setup(app: web.Application) -> None:
    """Add every call, and the document that describes them."""

    @functools.cache
    def described() -> bytes:
        # At the first request: a start need not wait a tenth of a second for what few read.
        return openapi.document(ENDPOINTS, app[keys.CORE].settings.public_url)

    @functools.cache
    def groups() -> tuple[reference.Group, ...]:
        return reference.read(orjson.loads(described()))

    app[keys.API_GROUPS] = lambda: groups()

    async def describe(_request: web.Request) -> web.Response:
        return web.Response(body=described(), content_type="application/json")

    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, f"{PREFIX}{endpoint.path}", endpoint.__call__)
    app.router.add_route("GET", f"{PREFIX}/openapi.json", describe)
    app.router.add_route("*", "/api/{path:.*}", _elsewhere)
