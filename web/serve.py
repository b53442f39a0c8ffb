"""Listening: the HTTP server of the process."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from html import escape
from http import HTTPStatus
from typing import Any, Literal

import structlog
from aiohttp import web
from aiohttp.web import Application, AppRunner, RequestHandler

from services.core import Core
from services.errors import AppError, Invalid
from services.i18n import LANGUAGES, T
from services.start import StartFailed
from web.replies import json_error, secure

log = structlog.get_logger(__name__)

_BEGINNING = re.compile(rb"[A-Z]+ (/api/)?")
_UNREADABLE = T("This request could not be read: its address or its cookies are too long, or it arrived damaged.")
_WHAT_HELPS = T("Open the site’s first page again; if that does not help, delete this site’s cookies in the browser.")
_HOME = T("Go to the home page")
_SHOWN_IN = [language for language in LANGUAGES if "-" not in language]
_PAGE = """<!doctype html>
<html lang="uz">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>BotFactory</title>
</head>
<body>
<h1>BotFactory</h1>
{told}</body>
</html>
"""


class Connection(RequestHandler):
    """One connection.

    What never became a request is answered like one, as far as it is known who asks, and neither the answer nor the log repeats
    a word of it: addresses and cookies hold what signs people in. ``tls``: people reach us by https.
    """

    __slots__ = ("_by_program", "_tls")

    def __init__(self, *arguments: Any, tls: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._by_program = False
        self._tls = tls

    def data_received(self, data: bytes) -> None:
        """Take bytes in; where a request begins, remember whether it is for the API."""
        if beginning := _BEGINNING.match(data):
            self._by_program = beginning[1] is not None
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, or what a handler failed at; closes the connection."""
        if status == HTTPStatus.BAD_REQUEST:
            failure: AppError = Invalid(_UNREADABLE)
            log.info("request_unreadable", reason=type(exc).__name__)
        else:
            failure = AppError()
            log.error("request_failed", status=status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer has been sent")
        failure.status = status
        response = json_error(failure, "en") if self._by_program else _bare_page(failure)
        secure(response.headers, tls=self._tls)
        response.force_close()
        return response


def _bare_page(failure: AppError) -> web.Response:
    """Return an error as a page that needs nothing else: who asks for a style would be answered with this page again."""
    advice = [_WHAT_HELPS] if failure.status == HTTPStatus.BAD_REQUEST else []

    def told(language: str) -> str:
        words = escape(" ".join(text.render(language) for text in (failure.text, *advice)))
        return f'<p lang="{language}">{words}<br><a href="/">{escape(_HOME.render(language))}</a></p>\n'

    page = _PAGE.format(told="".join(map(told, _SHOWN_IN)))
    return web.Response(status=failure.status, text=page, content_type="text/html")


def _expecting(
    handle: Callable[[Any], Awaitable[web.StreamResponse]],
) -> Callable[[Any], Awaitable[web.StreamResponse]]:
    """Answer an ``Expect`` that cannot be met, which only programs send, in the words of the API."""

    async def admit(request: Any) -> web.StreamResponse:
        try:
            return await handle(request)
        except web.HTTPExpectationFailed as refusal:
            failure = Invalid()
            failure.status = refusal.status
            return json_error(failure, "en")

    return admit


async def serve(
    core: Core, app: Application, stack: contextlib.AsyncExitStack, *, setting: Literal["PORT", "WORKER_PORT"] = "PORT"
) -> None:
    """Serve HTTP at the port of ``setting``; on stopping, no new connections are taken and open requests get a moment.

    Raises ``StartFailed`` when the address cannot be had.
    """
    settings = core.settings.server
    port = settings.port if setting == "PORT" else settings.worker_port
    runner = AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=min(2.0, settings.shutdown_timeout_s / 10)
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    server = runner.server
    if server is None:
        raise RuntimeError("the server was not made")
    server.request_handler = _expecting(server.request_handler)
    loop = asyncio.get_running_loop()
    tls = core.settings.public_url.startswith("https://")

    def connected() -> Connection:
        # Nobody who calls us compresses, and what a megabyte unfolds to would cost us before we know who sent it.
        return Connection(server, loop=loop, tls=tls, access_log=None, auto_decompress=False)

    try:
        listener = await loop.create_server(connected, settings.host, port, backlog=1024, reuse_address=True)
    except OSError as error:
        raise StartFailed(f"{setting}: cannot listen on {settings.host}:{port}: {error.strerror}") from None
    stack.callback(listener.close)
    core.address = listener.sockets[0].getsockname()[:2]
