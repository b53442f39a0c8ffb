"""Server-sent events, and answers that arrive by them piece by piece.

What makes such an answer puts events, each a kind and its data, into a queue: ``delta`` (a piece), ``restart`` (the pieces are
void), others of its own, and as the last word ``done`` or ``error``. :func:`send` passes them on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from aiohttp import web

from db.engine import DatabaseUnavailable
from services.errors import AppError, Unavailable

log = structlog.get_logger(__name__)

Event = tuple[str, Any]

HEARTBEAT = b": still here\n\n"
_HEARTBEAT_S = 15


def response() -> web.StreamResponse:
    """Return the response that carries events; nothing in between may gather them."""
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
    return web.StreamResponse(headers=headers)


def encode(kind: str, data: Any) -> bytes:
    """Return an event as it goes over the line."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


async def send(
    stream: web.StreamResponse, events: asyncio.Queue[Event], language: str, *, first: Event | None = None
) -> None:
    """Send ``first`` and ``events`` until the last word, or until the reader leaves; an ``AppError`` is told in ``language``."""
    try:
        kind, data = first or await _next(stream, events)
        while True:
            if isinstance(data, AppError):
                data = {"code": data.code, "message": data.text.render(language)}
            await stream.write(encode(kind, data))
            if kind in ("done", "error"):
                break
            kind, data = await _next(stream, events)
        await stream.write_eof()
    except ConnectionResetError:
        log.debug("reader_left")


async def _next(stream: web.StreamResponse, events: asyncio.Queue[Event]) -> Event:
    while True:
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                return await events.get()
        except TimeoutError:
            await stream.write(HEARTBEAT)


def pieces(events: asyncio.Queue[Event]) -> Callable[[str, Any], None]:
    """Return what ``chat.ask`` tells of the answer while it is made."""
    return lambda kind, data: events.put_nowait((kind, {"text": data["text"]} if kind == "delta" else {}))


@contextlib.contextmanager
def failures(events: asyncio.Queue[Event]) -> Iterator[None]:
    """End what goes wrong inside by telling of it: whatever it is, the reader waits for a last word."""
    try:
        yield
    except AppError as error:
        events.put_nowait(("error", error))
    except DatabaseUnavailable as error:
        log.warning("database_unavailable", reason=str(error))
        events.put_nowait(("error", Unavailable()))
    except Exception:
        # Nobody else would hear of it.
        log.exception("request_failed")
        events.put_nowait(("error", AppError()))
