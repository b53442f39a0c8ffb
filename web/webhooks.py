"""The receivers of webhooks: verify, store, answer 200. The hot path: no cookies, no pages, no middlewares of theirs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import structlog
from aiohttp import web

from db.engine import DatabaseUnavailable
from services import bots, inbox, metrics
from services.channels.meta import signature_fits
from services.channels.whatsapp import unpack
from services.core import Core
from services.crypto import Undecryptable, same
from services.errors import TooMany
from web import keys
from web.middlewares import TooSlow, watch_body

log = structlog.get_logger(__name__)

_SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - the name of a header
_KINDS = frozenset({"telegram", "factory"})
_NOBODY = "-" * 32
_WORD = re.compile(r"[!-~]{1,64}")
_MOST_NUMBERS = 100
"""More in one delivery is none of Meta's: each is looked up before anything is proved."""


_TELEGRAM, _WHATSAPP = "/telegram/webhook/{channel_id}", "/whatsapp/webhook"


def _refuse(status: int, route: str = _TELEGRAM, **headers: str) -> web.Response:
    # The body of a refused delivery is not waited for: the connection closes.
    metrics.REQUESTS.labels("POST", route, str(status)).inc()
    response = web.Response(status=status, headers=headers)
    if status in (401, 408, 413):
        response.force_close()
    return response


async def _body(request: web.Request) -> bytes | int:
    """Return the bytes of a delivery, or the status that refuses it."""
    if (request.content_length or 0) > request.app[keys.CORE].settings.server.body_limit_kib * 1024:
        return 413
    watch = watch_body(request)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return 413
    except TooSlow:
        return 408
    except web.RequestPayloadError:
        return 400
    finally:
        if watch is not None:
            watch.cancel()


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
    raw = await _body(request)
    if isinstance(raw, int):
        return _refuse(raw)
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


async def whatsapp_verification(request: web.Request) -> web.Response:
    """Answer Meta's question whether this address is ours: with the challenge where a channel has that verify token, else 403."""
    core, asked = request.app[keys.CORE], request.query
    token = asked.get("hub.verify_token", "")
    if asked.get("hub.mode") != "subscribe" or not _WORD.fullmatch(token):
        return web.Response(status=403)
    if same(core.settings.verify_token("whatsapp"), token):
        return web.Response(text=asked.get("hub.challenge", "")[:200])
    try:
        async with core.db.read() as session:
            known = await bots.verifies(session, "whatsapp", token)
    except DatabaseUnavailable:
        return web.Response(status=503, headers={"Retry-After": "5"})
    if not known:
        return web.Response(status=403)
    return web.Response(text=asked.get("hub.challenge", "")[:200])


async def whatsapp(request: web.Request) -> web.Response:
    """Take a delivery of WhatsApp, with any number of messages, statuses and echoes for any number of channels.

    One address serves all channels: the numbers named in the body are looked up, and what is for a number counts only where
    the signature is that of its own app's secret. 200 only after all of it is stored durably; 401 where no signature fits; 400,
    408, 413, 429 and 503 as for Telegram.
    """
    core = request.app[keys.CORE]
    header = request.headers.get("X-Hub-Signature-256", "")
    if not header.startswith("sha256="):
        return _refuse(401, _WHATSAPP)
    raw = await _body(request)
    if isinstance(raw, int):
        return _refuse(raw, _WHATSAPP)
    try:
        body = orjson.loads(raw)
    except ValueError:
        return _refuse(400, _WHATSAPP)
    if not isinstance(body, dict):
        return _refuse(400, _WHATSAPP)
    pieces = list(unpack(body))
    numbers = {number for _, number, _ in pieces if number}
    above = {account for account, _, _ in pieces if account}
    if len(numbers) > _MOST_NUMBERS or len(above) > _MOST_NUMBERS:
        return _refuse(400, _WHATSAPP)
    try:
        cards = {number: await _signed(core, number, raw, header) for number in numbers}
        # A number that was disconnected, or a change that names none, is signed by the app of others of the same business.
        proved = any(cards.values()) or any(
            [await _signed(core, account, raw, header, above=True) for account in above]
        )
        if not proved:
            return _refuse(401, _WHATSAPP)
        storing = [
            inbox.accept_update(core, card, update, orjson.dumps(update).decode())
            for _, number, update in pieces
            if update is not None
            for card in cards.get(number, ())
        ]
        for outcome in await asyncio.gather(*storing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
    except (TypeError, ValueError):
        # Nested deeper than anything of Meta's.
        return _refuse(400, _WHATSAPP)
    except TooMany as error:
        return _refuse(429, _WHATSAPP, **{"Retry-After": str(error.retry_after_s)})
    except DatabaseUnavailable as error:
        log.warning("update_not_stored", channel="whatsapp", reason=str(error))
        return _refuse(503, _WHATSAPP, **{"Retry-After": "5"})
    return web.Response()


async def _signed(core: Core, account: str, raw: bytes, header: str, *, above: bool = False) -> list[inbox.ChannelCard]:
    """Return the channels of an account by whose app's secret a delivery is signed."""
    return [
        card
        for card in await core.cards.of_account(core, "whatsapp", account, above=above)
        if signature_fits(_app_secret(core, card), raw, header)
    ]


def _app_secret(core: Core, card: inbox.ChannelCard) -> str:
    try:
        own = core.credentials(card.credentials).get("app_secret", "")
    except Undecryptable:
        return ""
    # Whoever gave no app of their own was connected through the installation's.
    return own or core.settings.app_secret(card.kind)


def setup(app: web.Application) -> None:
    """Add the receivers' addresses."""
    app.router.add_post(_TELEGRAM, telegram)
    app.router.add_post(_WHATSAPP, whatsapp)
    app.router.add_get(_WHATSAPP, whatsapp_verification)
