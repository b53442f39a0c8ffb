"""How the process is, for those who watch it."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from redis.exceptions import RedisError

from db.engine import DatabaseUnavailable
from services import access, metrics
from services.ai import PROVIDERS
from services.core import Core
from services.crypto import same
from services.errors import AppError, NotFound, Temporary
from services.errors import Permanent as Refused
from web import keys

log = structlog.get_logger(__name__)

_CHECK_TIMEOUT_S = 5.0
_TELEGRAM_EVERY_S = 60.0
_TELEGRAM_AGAIN_S = 10.0
GOOD = ("ok", "configured", "not configured")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


class _TelegramState:
    """What Telegram said last, for all who ask: one question at a time, and none as long as the answer is fresh."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._state = ""
        self._until = float("-inf")

    async def get(self, core: Core, token: str) -> str:
        """Return the state, at most a minute old; a bad one at most ten seconds."""
        async with self._asking:
            if time.monotonic() >= self._until:
                self._state = await _ask_telegram(core, token)
                self._until = time.monotonic() + (_TELEGRAM_EVERY_S if self._state == "ok" else _TELEGRAM_AGAIN_S)
            return self._state


_telegram_state: web.AppKey[_TelegramState] = web.AppKey("telegram_state", _TelegramState)


async def healthz(_request: web.Request) -> web.Response:
    """200 as soon as the process serves; touches nothing."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """200 when every part that is configured answers, else 503; names each part and its state, never an address or a key.

    Models are not asked, each question costs money: what their last calls in this process met counts. One that does not
    answer is 503 like every other service, though bots go on with other models or quote; and only as long as its breaker
    rests, so that whoever goes by this answer sends the traffic again with which it is tried.
    """
    parts = await parts_of(request)
    ready = all(state in GOOD for state in parts.values())
    return web.json_response({"status": "ok" if ready else "unavailable", "parts": parts}, status=200 if ready else 503)


async def parts_of(request: web.Request) -> dict[str, str]:
    """Return each part of the installation and its state, in the words of ``/readyz``."""
    core = request.app[keys.CORE]
    database, redis, telegram = await asyncio.gather(
        _database(core), _redis(core), _telegram(core, request.app[_telegram_state])
    )
    parts = {"process": "ok" if core.ready else "starting or stopping", "database": database}
    parts |= {"redis": redis, "telegram": telegram}
    for provider in PROVIDERS:
        parts[provider] = core.router.state(provider, core.settings.ai.role)
    return parts


async def _database(core: Core) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S), core.db.read() as session:
            await access.ask(session)
    except (DatabaseUnavailable, TimeoutError):
        return "unavailable"
    return "ok"


async def _redis(core: Core) -> str:
    redis = core.redis
    if redis is None:
        return "not configured"
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await redis.ping()  # type: ignore[misc]  # the stubs say "or bool"
    except (RedisError, OSError, TimeoutError) as error:
        log.info("redis_not_ready", reason=type(error).__name__)
        return "unavailable"
    return "ok"


async def _telegram(core: Core, remembered: _TelegramState) -> str:
    token = core.settings.secrets.telegram_bot_token
    return "not configured" if token is None else await remembered.get(core, token.get_secret_value())


async def _ask_telegram(core: Core, token: str) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await core.telegram.get_me(token)
    except (Temporary, TimeoutError):
        return "unavailable"
    except Refused:
        return "token refused"
    return "ok"


async def numbers(request: web.Request) -> web.Response:
    """Prometheus text, for the machine itself or with ``METRICS_TOKEN``; for others there is no such page."""
    if not _from_this_machine(request) and not _with_token(request):
        raise NotFound
    body = await asyncio.to_thread(metrics.render)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _from_this_machine(request: web.Request) -> bool:
    # A proxy on this machine also comes from loopback: whoever it speaks for does not.
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _with_token(request: web.Request) -> bool:
    token = request.app[keys.CORE].settings.secrets.metrics_token
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return token is not None and scheme.lower() == "bearer" and same(token.get_secret_value(), given.strip())


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except AppError as error:
        return web.json_response({"error": {"code": error.code}}, status=error.status)


def make_app(core: Core) -> web.Application:
    """Return the application of a process that serves nothing else: health, readiness and numbers."""
    app = web.Application(client_max_size=1024, middlewares=[_plain_errors])
    app[keys.CORE] = core
    setup(app)
    return app


def setup(app: web.Application) -> None:
    """Add the addresses."""
    app[_telegram_state] = _TelegramState()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", numbers)
