"""The one receiver of webhooks: verify, store, answer 200. The hot path: no cookies, no pages, no middlewares of theirs."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from aiohttp import web

from db.engine import DatabaseUnavailable
from services import inbox, metrics
from services.crypto import same
from services.errors import TooMany
from web import keys
from web.middlewares import TooSlow, watch_body

log = structlog.get_logger(__name__)

_SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the name of a header
_KINDS = frozenset({"telegram", "factory"})
_NOBODY = "-" * 32


def _refuse(status: int, **headers: str) -> web.Response:
    # The body of a refused delivery is not waited for: the connection closes.
    metrics.REQUESTS.labels("POST", "/telegram/webhook/{channel_id}", str(status)).inc()
    response = web.Response(status=status, headers=headers)
    if status in (401, 408, 413):
        response.force_close()
    return response


async def telegram(request: web.Request) -> web.Response:
    """Take one update of a bot.

    200 only after it is stored durably; 401 for a wrong or missing secret and for an unknown channel alike; 400, 408, 413
    for what is no update; 429 and 503 when it was not accepted, so that Telegram delivers it again.
    """
    core = request.app[keys.CORE]
    try:
        card = await core.cards.get(core, request.match_info["channel_id"])
    except DatabaseUnavailable:
        return _refuse(503, **{"Retry-After": "5"})
    known = card is not None and card.kind in _KINDS
    secret = card.secret if card is not None and known else _NOBODY
    if not same(secret, request.headers.get(_SECRET_HEADER, "")) or card is None or not known:
        return _refuse(401)
    if (request.content_length or 0) > core.settings.server.body_limit_kib * 1024:
        return _refuse(413)
    watch = watch_body(request)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _refuse(413)
    except TooSlow:
        return _refuse(408)
    except web.RequestPayloadError:
        return _refuse(400)
    finally:
        if watch is not None:
            watch.cancel()
    try:
        update: Any = orjson.loads(raw)
        if not isinstance(update, dict):
            return _refuse(400)
        await inbox.accept_update(core, card, update, raw.decode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return _refuse(400)
    except TooMany as error:
        return _refuse(429, **{"Retry-After": str(error.retry_after_s)})
    except DatabaseUnavailable as error:
        log.warning("update_not_stored", channel=card.id, reason=str(error))
        return _refuse(503, **{"Retry-After": "5"})
    return web.Response()


def setup(app: web.Application) -> None:
    """Add the receiver's address."""
    app.router.add_post("/telegram/webhook/{channel_id}", telegram)
