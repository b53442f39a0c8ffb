"""The fakes as processes of their own, and loads driven through them while a program is watched."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from bench.product import QUESTIONS, NotMeasurable, Program
from services.settings import ROOT
from tests.servers import free_port


@dataclass(frozen=True, slots=True)
class Result:
    """One load. ``cpu_ms``: processor time per answered message. Latencies in ms, from the delivery to the answer's arrival."""

    sent: int
    answered: int
    per_s: float
    cpu_ms: float
    cores: float
    p50: float
    p99: float
    rss_mb: float

    def json(self) -> dict[str, Any]:
        """Return the numbers, rounded."""
        return {key: round(value, 2) for key, value in asdict(self).items()}


@contextmanager
def _process(command: list[str]) -> Iterator[str]:
    """Run a fake; yields the first line that it prints."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise NotMeasurable(f"{' '.join(command)} did not start")
        yield line
    finally:
        child.kill()
        child.wait()


ANSWER = "Chinor Stom: +998 71 200 00 07, 8:00–20:00 🦷"
"""What the fake model says to everybody. It is of no language: an answer in the wrong one is asked for again."""


class Models:
    """The fake model on a port that stays, so that its latency can be changed while a program runs."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, latency_ms: int) -> Iterator[None]:
        """Serve fixed answers, each after ``latency_ms``."""
        command = [
            sys.executable,
            "-m",
            "tests.fakes.models",
            "--port",
            str(self.port),
            "--latency-ms",
            str(latency_ms),
            "--text",
            ANSWER,
        ]
        with _process(command):
            yield


class Telegram:
    """The fake Bot API server and the loads that it drives."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session

    async def ready(self, program: Program, timeout_s: float = 60) -> None:
        """Wait until every bot receives. Raises :class:`NotMeasurable` with the program's last words."""
        waiting = asyncio.ensure_future(self._get(f"ready?timeout={timeout_s}"))
        while not waiting.done():
            if not program.running:
                waiting.cancel()
                raise NotMeasurable(f"the program ended:\n{program.last_lines()}")
            await asyncio.wait([waiting], timeout=0.2)
        status, answer = await waiting
        if status != 200:
            raise NotMeasurable(f"not every bot receives: {answer}\n{program.last_lines()}")

    async def drive(self, program: Program | None = None, **plan: Any) -> Result:
        """Drive a load (the fields of ``tests.fakes.telegram_load.Plan``) and watch ``program`` meanwhile."""
        before = program.cpu_s() if program else 0.0
        async with self._session.post(f"{self.url}/_/load", json={"texts": QUESTIONS, **plan}) as response:
            found = await response.json()
        spent = program.cpu_s() - before if program else 0.0
        answered, latency = found["answered"], found["latency_ms"]
        return Result(
            sent=found["sent"],
            answered=answered,
            per_s=found["answered_per_s"],
            cpu_ms=spent * 1000 / max(answered, 1),
            cores=spent / found["seconds"],
            p50=latency.get("p50", 0.0),
            p99=latency.get("p99", 0.0),
            rss_mb=program.rss_mb() if program else 0.0,
        )

    async def stats(self) -> dict[str, Any]:
        """Return the server's counts."""
        _, answer = await self._get("stats")
        return answer

    async def _get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self._session.get(f"{self.url}/_/{path}") as response:
            answer: dict[str, Any] = await response.json()
            return response.status, answer


@contextmanager
def telegram(bots: int, session: aiohttp.ClientSession) -> Iterator[Telegram]:
    """Serve the Bot API for so many bots with numbered tokens, and the factory bot."""
    with _process([sys.executable, "-m", "bench.telegram", "--bots", str(bots)]) as line:
        yield Telegram(json.loads(line)["base_url"], session)
