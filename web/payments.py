"""The receivers of the gateways' calls: read, see through, answer, always in the gateway's own words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import orjson
from aiohttp import web

from services import metrics
from services.payments import ledger, make_gateways
from services.payments.base import MAX_BODY, Call, Gateway, Reply
from web import keys
from web.middlewares import TooSlow, watch_body


async def _body(request: web.Request) -> bytes | None:
    """Return the bytes of a call; None where they are too many, too slow or never whole."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    watch = watch_body(request)
    try:
        whole = bytearray()
        async for piece in request.content.iter_any():
            whole += piece
            if len(whole) > MAX_BODY:
                return None
        return bytes(whole)
    except (TooSlow, web.RequestPayloadError):
        return None
    finally:
        if watch is not None:
            watch.cancel()


async def _receive(gateway: Gateway, route: str, action: str, request: web.Request) -> web.Response:
    body = await _body(request)
    core = request.app[keys.CORE]
    read = gateway.read(Call(request.method, action, request.headers.get("Authorization", ""), body, core.now()))
    reply = read if isinstance(read, Reply) else await ledger.serve(core, gateway, read)
    metrics.REQUESTS.labels("POST" if request.method == "POST" else "other", route, str(reply.status)).inc()
    metrics.PAYMENT_CALLS.labels(gateway.kind, action, reply.code).inc()
    response = web.Response(status=reply.status, body=orjson.dumps(reply.body), content_type="application/json")
    if body is None:
        response.force_close()
    return response


def setup(app: web.Application) -> None:
    """Add the gateways' addresses, each for every method: a wrong one is refused in the gateway's words too."""
    for gateway in make_gateways(app[keys.CORE].settings).values():
        for action in gateway.actions or ("",):
            route = f"/payments/{gateway.kind}" + (f"/{action}" if action else "")
            handler: Callable[[web.Request], Awaitable[web.Response]] = partial(_receive, gateway, route, action)
            app.router.add_route("*", route, handler)
