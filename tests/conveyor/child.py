"""The product as a process that can be killed: a server that forks one whenever it is asked to.

Importing the program takes seconds and forking none, so the imports are done once. Each line on standard input is a JSON
object: the settings' ``environment`` and ``overrides``, ``role``, ``point`` (the named point of the conveyor where every task
is to stop for ever), ``passing`` (how many may pass it first), ``deadly`` (request ids whose handling kills the process),
``raising`` (request ids whose handling raises), ``telling`` (points that are told when they are passed), ``fast_s`` (by how
many seconds this machine's clock is fast, or slow), and ``port``, where the child tells what happens, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import structlog

import bot
from services import languages, logs
from services.knowledge import analysis
from tests.composition import make_settings

LATER = (
    "services.start",
    "web.app",
    "web.serve",
    "alembic.command",
    "services.ai.gemini",
    "google.genai.types",
    "PIL.Image",
)
"""What the program imports when it is first wanted: every child would do it again, for a second or more."""


class Spoiled(Exception):
    """Handling this message fails."""


async def run(order: dict[str, Any], wire: socket.socket) -> None:
    """Run the product until it is told to end or killed."""
    passed = 0
    if fast_s := order.get("fast_s"):
        right = time.time
        time.time = lambda: right() + fast_s

    def tell(**event: Any) -> None:
        wire.sendall(json.dumps(event).encode() + b"\n")

    async def pause(point: str) -> None:
        nonlocal passed
        request = str(structlog.contextvars.get_contextvars().get("request_id") or "")
        if point == "received" and request in order.get("deadly", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if point == "received" and request in order.get("raising", ()):
            raise Spoiled(request)
        if point in order.get("telling", ()):
            tell(event="passed", point=point, request=request)
        if point == order.get("point"):
            passed += 1
            if passed > order.get("passing", 0):
                tell(event="paused", point=point, request=request)
                await asyncio.Event().wait()

    settings = make_settings(
        Path(order["folder"]), order["database_url"], environment=order["environment"], overrides=order["overrides"]
    )
    logs.set_up(settings.logging.level, "json")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with bot.composed(settings, order.get("role", "worker"), pause=pause, announce=False) as core:
        core.tasks.failed.add_done_callback(lambda _: os._exit(1))
        tell(event="ready", address=list(core.address), holder=core.writer.holder)
        await stop.wait()
    tell(event="stopped")


def main() -> None:
    """Fork a child for each line."""
    for module in LATER:
        importlib.import_module(module)
    analysis.lexicon()
    languages.detect("salom")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        wire = socket.create_connection(("127.0.0.1", order["port"]))
        wire.sendall(json.dumps({"event": "born", "pid": os.getpid()}).encode() + b"\n")
        asyncio.run(run(order, wire))
        os._exit(0)


if __name__ == "__main__":
    main()
