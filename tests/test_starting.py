"""What a start says, what it refuses, and what a process of one role serves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from services import checks
from services.start import StartFailed
from tests import servers
from tests.composition import address, make_settings, running

ROOT = Path(__file__).resolve().parent.parent


def _program(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "bot.py", "run", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(folder), "PORT": "0", "HOST": "127.0.0.1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_start_and_a_stop_say_so(tmp_path: Path) -> None:
    """The first line is there before anything slow, the last one when all is over."""
    with _program(tmp_path, ADMIN_PASSWORD="chinor-2026-parol", PAYME_KEY="later") as program:
        assert program.stdout is not None
        said = [program.stdout.readline().strip()]
        while not said[-1].startswith("http://localhost:0/login/link"):
            line = program.stdout.readline()
            assert line, said
            said.append(line.strip())
        program.send_signal(signal.SIGINT)
        rest, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    assert said[0] == "BotFactory is starting …"
    assert "– ADMIN_PASSWORD is set, but does nothing without ADMIN_EMAIL" in said
    assert "– PAYME_KEY is set, but nothing uses it yet" in said
    assert rest.splitlines()[-1] == "BotFactory has stopped."


@pytest.mark.parametrize("role", ["web", "worker"])
def test_sqlite_has_no_roles(tmp_path: Path, role: str) -> None:
    """Half a process would take messages that nobody answers: the other half could never be started beside it."""
    with _program(tmp_path, "--role", role) as program:
        _, faults = program.communicate(timeout=60)
    assert program.returncode == 1
    assert faults.splitlines() == [
        f"✗ --role {role}: SQLite allows one process. Start without --role, or use PostgreSQL (DATABASE_URL)."
    ]
    assert not list(tmp_path.iterdir())


async def test_the_first_password_is_no_worse_than_a_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "ADMIN_PASSWORD: The password is too short: at least 8 characters."
    settings = make_settings(tmp_path, environment={"ADMIN_EMAIL": "egasi@example.uz", "ADMIN_PASSWORD": "abc"})
    with pytest.raises(StartFailed, match=reason):
        async with running(settings):
            pass
    assert await checks.run(settings) == 1
    assert f"✗ {reason}" in capsys.readouterr().out.splitlines()


async def test_check_names_what_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"ADMIN_PASSWORD": "chinor-2026-parol", "WHATSAPP_APP_SECRET": "x"}
    assert await checks.run(make_settings(tmp_path, environment=environment)) == 0
    said = capsys.readouterr().out.splitlines()
    assert "– ADMIN_PASSWORD is set, but does nothing without ADMIN_EMAIL" in said
    assert "– WHATSAPP_APP_SECRET is set, but nothing uses it yet" in said


async def test_a_worker_can_be_watched(tmp_path: Path, sqlite_url: str) -> None:
    """Its numbers are its own; no page is served beside them, and a taken port is one line."""
    port = servers.free_port()
    settings = make_settings(tmp_path, sqlite_url, environment={"WORKER_PORT": str(port)})
    async with running(settings, "worker") as core, aiohttp.ClientSession(address(core)) as http:
        assert core.address[1] == port

        async def status(path: str, **headers: str) -> int:
            async with http.get(path, headers=headers) as answer:
                return answer.status

        assert await status("/healthz") == 200
        assert await status("/readyz") == 200
        assert await status("/login") == 404
        assert await status("/metrics", **{"X-Forwarded-For": "203.0.113.9"}) == 404
        async with http.get("/metrics") as answer:
            assert "botfactory_pending" in await answer.text()
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", port)
    async with taken:
        with pytest.raises(StartFailed, match=f"^WORKER_PORT: cannot listen on 127.0.0.1:{port}: "):
            async with running(settings, "worker"):
                pass
