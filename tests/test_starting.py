"""What a start says, what it refuses, and what a process of one role serves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

from services import checks
from services.start import StartFailed
from services.upkeep import InstanceTaken
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
    with _program(tmp_path, ADMIN_PASSWORD="chinor-2026-parol", RUNWAY_API_KEY="later") as program:
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
    assert "– RUNWAY_API_KEY is set, but nothing uses it yet" in said
    assert rest.splitlines()[-1] == "BotFactory has stopped."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_stopped_at_once_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    with _program(tmp_path) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "BotFactory is starting …\n"
        program.send_signal(number)
        _, faults = program.communicate(timeout=60)
    assert (program.returncode, faults) == (0, "")


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


async def test_an_administrator_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings(tmp_path, environment={"ADMIN_EMAIL": "a..b@example.uz", "ADMIN_PASSWORD": "abc"})
    with pytest.raises(StartFailed) as caught:
        async with running(settings):
            pass
    reasons = [
        "ADMIN_EMAIL: This is not an e-mail address. Example: name@example.uz",
        "ADMIN_PASSWORD: The password is too short: at least 8 characters.",
    ]
    assert str(caught.value) == "\n✗ ".join(reasons)
    assert await checks.run(settings) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("✗")] == [
        *(f"✗ {line}" for line in reasons),
        "✗ cannot start like this",
    ]


async def test_two_data_folders_cannot_share_one_sqlite_file(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """However its path is written; the second would free what the first holds. ``check`` says what ``run`` would."""
    (tmp_path / "link.db").symlink_to(tmp_path / "botfactory.db")
    one = make_settings(tmp_path / "one", sqlite_url)
    two = make_settings(tmp_path / "two", f"sqlite:///{tmp_path / 'link.db'}")
    reason = f"another BotFactory runs with {tmp_path / 'botfactory.db'}; SQLite allows one process"
    async with running(one, "web"):
        with pytest.raises(InstanceTaken, match=f"^{re.escape(reason)}"):
            async with running(two, "web"):
                pass
        assert await checks.run(two) == 1
        assert any(line.startswith(f"✗ {reason}") for line in capsys.readouterr().out.splitlines())
        assert await checks.run(one) == 1
        assert f"✗ another BotFactory runs with {one.data_dir}; SQLite allows" in capsys.readouterr().out
    assert await checks.run(two) == 0
    async with running(two, "web"):
        pass


async def test_temporary_files_stay_in_the_data_folder(tmp_path: Path, database_url: str) -> None:
    """Those of an earlier life are gone, those of another process beside this one are not."""
    settings = make_settings(tmp_path / "data", database_url)
    usual = tempfile.gettempdir()
    async with running(settings, "web"):
        left = Path(tempfile.mkdtemp())
        (left / "scratch").write_text("half")
        assert left.is_relative_to(tmp_path / "data" / "tmp")
    neighbour = left.parent.with_name("another-7") / "kept"
    neighbour.mkdir(parents=True)
    assert tempfile.gettempdir() == usual
    async with running(settings, "web"):
        assert Path(tempfile.gettempdir()) == left.parent
        assert not left.exists() and neighbour.exists()


@pytest.mark.parametrize("name", ["secret.key", "encryption.keys"])
def test_a_key_file_without_a_key_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with _program(tmp_path) as program:
        _, faults = program.communicate(timeout=60)
    assert program.returncode == 1
    assert faults.startswith(f"✗ {tmp_path / name} holds no key: ") and len(faults.splitlines()) == 1


async def test_check_names_what_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"ADMIN_PASSWORD": "chinor-2026-parol", "RUNWAY_API_KEY": "x"}
    assert await checks.run(make_settings(tmp_path, environment=environment, as_sold=True)) == 0
    said = capsys.readouterr().out.splitlines()
    assert "– ADMIN_PASSWORD is set, but does nothing without ADMIN_EMAIL" in said
    assert "– RUNWAY_API_KEY is set, but nothing uses it yet" in said
    misspelt = make_settings(tmp_path, overrides={"ai": {"models": {"gpt-6-lunna": {}, "gemini-4-argon": {}}}})
    assert await checks.run(misspelt) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "ai.models" in line] == [
        '– [ai.models."gpt-6-lunna"] does nothing: no chain has this model'
    ]


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
