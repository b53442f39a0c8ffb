"""Listening: the HTTP server of the process."""

from __future__ import annotations

import contextlib

from aiohttp.web import Application, AppRunner, TCPSite

from services.core import Core
from services.start import StartFailed


async def serve(core: Core, app: Application, stack: contextlib.AsyncExitStack) -> None:
    """Serve HTTP; on stopping, no new connections are taken and open requests get a moment.

    Raises ``StartFailed`` when the address cannot be had.
    """
    settings = core.settings.server
    runner = AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=min(2.0, settings.shutdown_timeout_s / 10)
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = TCPSite(runner, settings.host, settings.port, backlog=1024, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise StartFailed(f"PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    core.address = runner.addresses[0][:2]
