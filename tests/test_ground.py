"""The ground that the other tests stand on: databases of their own, servers that end with their run, and the set-up."""

from __future__ import annotations

import gzip
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio
from sqlalchemy import text

import bot
from db import models
from db.engine import Database
from db.migrate import current, head
from services import checks
from services.crypto import Crypto, new_fernet_key
from tests import servers
from tests.commands import Commands
from tests.composition import make_settings, make_shop

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("_again", range(2))
async def test_every_test_gets_a_migrated_database_of_its_own(database_url: str, _again: int) -> None:
    database = Database(database_url)
    try:
        assert await current(database) == head()
        async with database.write() as session:
            await session.execute(text("CREATE TABLE mine (n INTEGER)"))
    finally:
        await database.close()


@pytest.mark.parametrize("_again", range(2))
async def test_every_test_gets_an_empty_valkey(redis_url: str, _again: int) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("mine", "1")


async def test_a_server_of_ones_own_can_be_stopped_and_started(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = servers.new_folder()
    server = servers.Postgres(folder / "own")
    try:
        server.start()
        servers.migrate(server.url())
        server.stop(at_once=True)
        server.start()
        database = Database(server.url())
        assert await current(database) == head()
        await database.close()
    finally:
        server.stop(at_once=True)
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("victim", ["owner", "keeper"])
def test_servers_end_with_what_started_them(victim: str) -> None:
    """Killed, not asked: the server is gone, and with the owner also the files."""
    program = (
        "import os, sys; from tests import servers;"
        "run = servers.Run(servers.new_folder(), os.getpid(), 'gw0');"
        "print(run.folder, run.new_postgres(migrated=False), run.new_valkey(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().split()[0])
        keepers = [int(note.read_text()) for note in sorted(folder.glob("*.pid"))]
        running = [
            int(child)
            for keeper in keepers
            for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        ]
        assert len(running) == len(keepers) == 2
        watched = [os.pidfd_open(process) for process in (*running, *keepers)]
        for process in [owner.pid] if victim == "owner" else keepers:
            os.kill(process, signal.SIGKILL)
        for descriptor in watched:
            assert select.select([descriptor], [], [], 30)[0], "a server outlived its run"
            os.close(descriptor)
        owner.kill()
    assert victim == "keeper" or not folder.exists()
    shutil.rmtree(folder, ignore_errors=True)


def test_static_files_are_compressed_when_newer_and_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    shutil.copy(ROOT / "services" / "bootstrap.py", tmp_path / "services")
    static = tmp_path / "web" / "static"
    static.mkdir(parents=True)
    (static / "x.css").write_text("a{}")
    (static / "gone.js.gz").write_bytes(b"")

    def compress() -> int:
        program = "import sys; sys.path[:0] = ['services']; import bootstrap; print(bootstrap.compress_static())"
        return int(subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path))

    assert compress() == 2
    assert gzip.decompress((static / "x.css.gz").read_bytes()) == b"a{}"
    assert not (static / "gone.js.gz").exists()
    assert compress() == 0
    (static / "x.css").write_text("b{}")
    os.utime(static / "x.css", ns=(0, (static / "x.css.gz").stat().st_mtime_ns + 1))
    assert compress() == 1


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """What runs the program's commands."""
    with Commands() as opened:
        yield opened


COMMANDS = {
    "run": ["run"],
    "check": ["check"],
    "migrate": ["migrate"],
    "token": ["token", "--email", "egasi@example.uz"],
    "backup": ["backup", "{folder}/all.zip"],
    "restore": ["restore", "{folder}/all.zip"],
    "create-admin": ["create-admin", "--email", "egasi@example.uz", "--password", "Uzun-parol-2024"],
}


@pytest.fixture(params=["damaged", "locked", "not a file", "not there", "no such database"])
def bad_database(request: pytest.FixtureRequest, servers_run: servers.Run, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a database that cannot be used, and what must be said of it."""
    path = tmp_path / "x.db"
    if request.param == "damaged":
        path.write_bytes(b"\x00\xff anything \x07" * 2000)
        yield f"sqlite:///{path}", f"{path} is damaged or no SQLite file"
    elif request.param == "locked":
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("CREATE TABLE mine (n INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        yield f"sqlite:///{path}", f"{path} is locked by another program"
        other.close()
    elif request.param == "not a file":
        path.mkdir()
        yield f"sqlite:///{path}", f"{path} cannot be used"
    elif request.param == "not there":
        port = servers.free_port()
        yield f"postgresql://shop:hidden-word@127.0.0.1:{port}/x", f"PostgreSQL at 127.0.0.1:{port} does not answer"
    else:
        url = servers_run.new_postgres(migrated=False)
        servers_run.drop_postgres(url)
        yield url, "has no database"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_cannot_be_used_is_one_line(
    command: str, bad_database: tuple[str, str], tmp_path: Path, commands: Commands
) -> None:
    """What is wrong and what to do, and status 1: no traceback of a driver."""
    url, reason = bad_database
    data = tmp_path / "data"
    data.mkdir()
    given = [argument.format(folder=tmp_path) for argument in COMMANDS[command]]
    status, said = commands.said(tmp_path / "said", *given, DATA_DIR=str(data), DATABASE_URL=url)
    if command == "backup" and "is locked" in reason:
        # A backup reads beside whoever writes.
        reason = "the database holds no data of BotFactory"
    assert status == 1, said
    assert "Traceback" not in said and "hidden-word" not in said
    lines = [line for line in said.splitlines() if "DATABASE_URL" in line]
    assert len(lines) == 1, said
    assert lines[0].startswith("✗ DATABASE_URL: ") and reason in lines[0]
    if command != "check":
        assert said.splitlines() == ["BotFactory is starting …"] * (command == "run") + lines


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("fault", ["DATA_DIR", "ENCRYPTION_KEYS", "PORT", "ADMIN_TELEGRAM_IDS"])
def test_what_keeps_it_from_starting_is_one_line(command: str, fault: str, tmp_path: Path, commands: Commands) -> None:
    """Also ``check`` says what ``run`` would, and blames nothing else."""
    environment = {"DATA_DIR": str(tmp_path / "data"), "HOST": "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if fault == "DATA_DIR":
            (tmp_path / "data").write_text("")
            reason = f"✗ DATA_DIR: {tmp_path / 'data'} cannot be written: it is a file, not a folder"
        elif fault == "ENCRYPTION_KEYS":
            environment[fault] = "bad"
            reason = "✗ ENCRYPTION_KEYS: key 1 of 1 is not a Fernet key"
        elif fault == "PORT":
            environment[fault] = str(port)
            reason = f"✗ PORT: cannot listen on 127.0.0.1:{port}: "
        else:
            environment[fault] = "a,b"
            reason = "✗ ADMIN_TELEGRAM_IDS: must be the numbers of Telegram accounts"
        status, said = commands.said(tmp_path / "said", command, **environment)
    assert status == 1 and "Traceback" not in said, said
    faults = [line for line in said.splitlines() if line.startswith("✗") and line != "✗ cannot start like this"]
    assert len(faults) == 1 and faults[0].startswith(reason), said


def test_both_faults_of_a_new_administrator_are_said(tmp_path: Path, commands: Commands) -> None:
    command = ("create-admin", "--email", "bad", "--password", "x")
    status, said = commands.said(tmp_path / "said", *command, DATA_DIR=str(tmp_path))
    assert status == 1
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "✗ This is not an e-mail address. Example",
        "✗ The password is too short",
    ]


async def test_check_beside_the_running_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its port is no fault; secrets of owners that no key opens are told, whichever they are."""
    port = servers.free_port()
    environment = {"PORT": str(port), "HOST": "127.0.0.1", "SECRET_KEY": "guess-me"}
    settings = make_settings(tmp_path, environment=environment)
    async with bot.composed(settings) as core:
        assert "SECRET_KEY is shorter than 32 characters" in capsys.readouterr().out
        shop = await make_shop(core, document=None)
        async with core.db.write() as session:
            row = await session.get_one(models.Bot, shop.bot.id)
            row.openai_key = Crypto([new_fernet_key()]).encrypt("sk-lost")
        capsys.readouterr()
        assert await checks.run(settings) == 0
        said = capsys.readouterr().out
    assert f"– PORT: BotFactory listens on 127.0.0.1:{port} already" in said
    assert "✗ 1 of 1 OpenAI keys of owners cannot be decrypted" in said
    assert "✗ SECRET_KEY is shorter than 32 characters" in said


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_is_pinned_with_hashes(name: str) -> None:
    lines = (ROOT / name).read_text("utf-8").replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    assert len(packages) > 30
    for package in packages:
        assert re.match(r"[\w.\[\]-]+==[\w.]+( ;[^#]+)? +--hash=sha256:[0-9a-f]{64}\b", package), package
