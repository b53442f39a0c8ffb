"""Listening: the HTTP server of the process."""

from __future__ import annotations

import contextlib
from typing import Literal

from aiohttp.web import Application, AppRunner, TCPSite

from services.core import Core
from services.start import StartFailed


async def serve(
    core: Core, app: Application, stack: contextlib.AsyncExitStack, *, setting: Literal["PORT", "WORKER_PORT"] = "PORT"
) -> None:
    """Serve HTTP at the port of ``setting``; on stopping, no new connections are taken and open requests get a moment.

    Raises ``StartFailed`` when the address cannot be had.
    """
    settings = core.settings.server
    port = settings.port if setting == "PORT" else settings.worker_port
    runner = AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=min(2.0, settings.shutdown_timeout_s / 10),
        # Nobody who calls us compresses, and what a megabyte unfolds to would cost us before we know who sent it.
        auto_decompress=False,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = TCPSite(runner, settings.host, port, backlog=1024, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise StartFailed(f"{setting}: cannot listen on {settings.host}:{port}: {error.strerror}") from None
    core.address = runner.addresses[0][:2]
