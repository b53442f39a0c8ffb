"""The ground that the other tests stand on: databases of their own, servers that end with their run, and the set-up."""

from __future__ import annotations

import gzip
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis.asyncio
from sqlalchemy import text

from db.engine import Database
from db.migrate import current, head
from tests import servers

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
