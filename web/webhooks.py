"""The receivers of webhooks: verify, store, answer 200. The hot path: no cookies, no pages, no middlewares of theirs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import structlog
from aiohttp import web

from db.engine import DatabaseUnavailable
from services import bots, inbox, metrics
from services.channels import instagram, whatsapp
from services.channels.base import Piece
from services.channels.meta import signature_fits
from services.core import Core
from services.crypto import Undecryptable, same
from services.errors import TooMany
from web import keys
from web.middlewares import TooSlow, watch_body

log = structlog.get_logger(__name__)

_PROOF_HEADER = "X-Telegram-Bot-Api-Secret-Token"
_KINDS = frozenset({"telegram", "factory"})
_NOBODY = "-" * 32
_WORD = re.compile(r"[!-~]{1,64}")
_MOST_ACCOUNTS = 100
"""More in one delivery is none of Meta's: each is looked up before anything is proved."""


_TELEGRAM = "/telegram/webhook/{channel_id}"


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
    if not same(secret, request.headers.get(_PROOF_HEADER, "")) or card is None or not known:
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


@dataclass(frozen=True, slots=True)
class _Network:
    """A network of Meta's: one address serves all its channels. ``lists``: a delivery may be a list of bodies."""

    kind: str
    unpack: Callable[[Any], Iterable[Piece]]
    lists: bool = False

    @property
    def route(self) -> str:
        """Where its deliveries come."""
        return f"/{self.kind}/webhook"


_NETWORKS = (_Network("whatsapp", whatsapp.unpack), _Network("instagram", instagram.unpack, lists=True))


async def _verify(network: _Network, request: web.Request) -> web.Response:
    """Answer Meta's question whether this address is ours: with the challenge where a channel has that verify token, else 403."""
    core, asked = request.app[keys.CORE], request.query
    token = asked.get("hub.verify_token", "")
    if asked.get("hub.mode") != "subscribe" or not _WORD.fullmatch(token):
        return web.Response(status=403)
    if same(core.settings.verify_token(network.kind), token):
        return web.Response(text=asked.get("hub.challenge", "")[:200])
    try:
        async with core.db.read() as session:
            known = await bots.verifies(session, network.kind, token)
    except DatabaseUnavailable:
        return web.Response(status=503, headers={"Retry-After": "5"})
    if not known:
        return web.Response(status=403)
    return web.Response(text=asked.get("hub.challenge", "")[:200])


async def _deliver(network: _Network, request: web.Request) -> web.Response:
    """Take a delivery of Meta's, with any number of updates for any number of channels.

    The accounts named in the body are looked up, and what is for an account counts only where the signature is that of its own
    app's secret. 200 only after all of it is stored durably; 401 where no signature fits; 400, 408, 413, 429 and 503 as for
    Telegram.
    """
    core, route = request.app[keys.CORE], network.route
    header = request.headers.get("X-Hub-Signature-256", "")
    if not header.startswith("sha256="):
        return _refuse(401, route)
    raw = await _body(request)
    if isinstance(raw, int):
        return _refuse(raw, route)
    try:
        body = orjson.loads(raw)
    except ValueError:
        return _refuse(400, route)
    if not isinstance(body, dict) and not (network.lists and isinstance(body, list) and body):
        return _refuse(400, route)
    pieces = list(network.unpack(body))
    accounts = {place for piece in pieces for place in piece.accounts}
    proofs = {place for piece in pieces for place in piece.proofs}
    if len({id_ for id_, _ in accounts}) > _MOST_ACCOUNTS or len(proofs) > _MOST_ACCOUNTS:
        return _refuse(400, route)
    try:
        cards = {place: await _signed(core, network.kind, place, raw, header) for place in accounts}
        # A number that was disconnected, or a change that names none, is signed by the app of others of the same business.
        proved = any(cards.values()) or any([await _signed(core, network.kind, place, raw, header) for place in proofs])
        if not proved:
            return _refuse(401, route)
        storing = [
            inbox.accept_update(core, card, piece.update, orjson.dumps(piece.update).decode())
            for piece in pieces
            if piece.update is not None
            for card in {card.id: card for place in piece.accounts for card in cards[place]}.values()
        ]
        for outcome in await asyncio.gather(*storing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
    except (TypeError, ValueError):
        # Nested deeper than anything of Meta's.
        return _refuse(400, route)
    except TooMany as error:
        return _refuse(429, route, **{"Retry-After": str(error.retry_after_s)})
    except DatabaseUnavailable as error:
        log.warning("update_not_stored", channel=network.kind, reason=str(error))
        return _refuse(503, route, **{"Retry-After": "5"})
    return web.Response()


async def _signed(core: Core, kind: str, place: tuple[str, bool], raw: bytes, header: str) -> list[inbox.ChannelCard]:
    """Return the channels of an account by one of whose app's secrets a delivery is signed."""
    account, above = place
    return [
        card
        for card in await core.cards.of_account(core, kind, account, above=above)
        if any(signature_fits(secret, raw, header) for secret in _app_secrets(core, card))
    ]


def _app_secrets(core: Core, card: inbox.ChannelCard) -> list[str]:
    """Return a channel's secrets: of the Meta app, and of its Instagram product, either of which may sign."""
    try:
        known = core.credentials(card.credentials)
    except Undecryptable:
        return []
    # Whoever gave no app of their own was connected through the installation's.
    own = known.get("app_secret", "") or core.settings.app_secret(card.kind)
    return [own, known.get("meta_app_secret", "")]


def setup(app: web.Application) -> None:
    """Add the receivers' addresses."""
    app.router.add_post(_TELEGRAM, telegram)
    for network in _NETWORKS:
        app.router.add_post(network.route, partial(_deliver, network))
        app.router.add_get(network.route, partial(_verify, network))
