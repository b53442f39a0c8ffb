"""Children of the test process: the product in processes of its own, which the tests stop, kill and start again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from services.settings import ROOT, Settings


class Child:
    """One process of the product."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.pid = 0
        self._handle: int | None = None
        self.events: list[dict[str, Any]] = []
        self.early: list[dict[str, Any]] = []

    async def hears(self, event: str, timeout: float = 30) -> dict[str, Any]:
        """Wait for the next event of this kind; the others are kept in :attr:`events`.

        One that the process told before it was ready (it may pause at once) has not been heard yet.
        """
        for early in self.early:
            if early["event"] == event:
                self.early.remove(early)
                return early
        async with asyncio.timeout(timeout):
            while line := await self._reader.readline():
                told: dict[str, Any] = json.loads(line)
                self.events.append(told)
                if told["event"] == event:
                    return told
        raise AssertionError(f"the process ended before {event!r}; it told {self.events}")

    async def gone(self, timeout: float = 30) -> None:
        """Wait until the process has ended."""
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while line := await self._reader.readline():
                    self.events.append(json.loads(line))
        self._writer.close()

    def born(self, pid: int) -> None:
        """Take hold of the process. By a handle: a number may be another process's as soon as this one has ended."""
        self.pid = pid
        with contextlib.suppress(ProcessLookupError):
            self._handle = os.pidfd_open(pid)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def release(self) -> None:
        """Let go of the process."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    async def kill(self) -> None:
        """End it at once, as a power failure would."""
        self.signal(signal.SIGKILL)
        await self.gone()

    async def stop(self) -> None:
        """Let it end in order."""
        self.signal(signal.SIGTERM)
        await self.hears("stopped")
        await self.gone()


class Nursery:
    """Forks children from a process that has done all imports."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._server: asyncio.Server | None = None
        self._born: asyncio.Queue[Child] = asyncio.Queue()
        self._children: list[Child] = []
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.conveyor.child"], cwd=ROOT, stdin=subprocess.PIPE, stderr=log
            )
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self._children:
            child.signal(signal.SIGKILL)
            child.release()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(10)
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._born.put_nowait(Child(reader, writer))

    async def start(self, settings: Settings, *, ready: bool = True, **order: Any) -> Child:
        """Start a process with these settings; returns when it runs, or at once with ``ready`` false."""
        if self._process is None or self._process.stdin is None or self._server is None:
            raise RuntimeError("the nursery is not open")
        secrets = settings.secrets
        environment = {
            name.upper(): value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            for name in type(secrets).model_fields
            if name not in ("data_dir", "database_url") and (value := getattr(secrets, name))
        }
        environment["TELEGRAM_API_BASE"] = settings.telegram.api_base
        order |= {
            "folder": str(settings.data_dir),
            "database_url": settings.database_url,
            "environment": environment,
            "overrides": json.loads(settings.model_dump_json(exclude={"secrets"})),
            "port": self._server.sockets[0].getsockname()[1],
        }
        async with self._asking:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            async with asyncio.timeout(60):
                child = await self._born.get()
        self._children.append(child)
        child.born(int((await child.hears("born"))["pid"]))
        if ready:
            await child.hears("ready")
            child.early = child.events[1:-1]
        return child


@contextlib.asynccontextmanager
async def nursery(folder: Path) -> AsyncIterator[Nursery]:
    """Open a nursery; all its children end with it."""
    async with Nursery(folder / "children.log") as opened:
        yield opened
