"""``bot.py backup`` and ``bot.py restore``: whole or not at all, between both kinds of database, whatever the file is."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from db import fulltext, migrate, models
from db.base import Base
from db.engine import Database
from services.crypto import Crypto, new_fernet_key
from tests.commands import Commands
from tests.composition import make_settings, running
from tests.db.test_migrations import _columns, _content, _empty, _fill
from tests.servers import ROOT, Run

Content = Mapping[str, list[tuple[Any, ...]]]
ENDED = frozenset({"panel_sessions", "login_links", "account_codes", "dialog_states"})
"""Tables that are empty after a restore."""
CHANGED = frozenset(
    {
        "audit_log",
        "conversation_dues",
        "endpoint_events",
        "forum_topics",
        "inbox",
        "lanes",
        "letters",
        "notices",
        "outbox",
        "remote_views",
    }
)
"""Tables of which rows change, so that nothing is sent again."""

OPEN: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (models.OutboxItem.status, ("queued", "sending")),
    (models.Message.status, ("queued",)),
    (models.Letter.mail, ("new",)),
    (models.Letter.telegram, ("new",)),
    (models.EndpointEvent.status, ("waiting",)),
    (models.SupportMessage.telegram, ("waiting",)),
    (models.Broadcast.status, ("sending",)),
)
"""What would be sent by itself."""


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """What runs the program's commands."""
    with Commands() as opened:
        yield opened


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Give a database, and let nobody stay connected to it."""
    database = Database(url, pool_size=1)
    try:
        yield database
    finally:
        await database.close()


async def content(url: str) -> Content:
    """Return all rows of a database by table."""
    async with opened(url) as database:
        return alike(await _content(database, await _columns(database)))


def alike(found: Content) -> Content:
    """Return rows as they are compared between the two kinds: vectors are arrays on the one and lists on the other."""
    rows = found["chunk_vectors"]
    return {**found, "chunk_vectors": [(*row[:-1], list(row[-1])) for row in rows]}


class Place:
    """An installation: its database and its data folder, and the commands that are given there."""

    def __init__(self, commands: Commands, folder: Path, url: str) -> None:
        self.data, self.url = folder / "data", url
        self._commands, self._folder, self._said = commands, folder, 0
        self.data.mkdir(parents=True, exist_ok=True)
        self.environment: dict[str, str] = {}

    def said(self, *arguments: str) -> tuple[int, list[str]]:
        """Give a command; return its status and its lines."""
        self._said += 1
        told = {"DATA_DIR": str(self.data), "DATABASE_URL": self.url, **self.environment}
        status, said = self._commands.said(self._folder / f"said-{self._said}", *arguments, **told)
        assert "Traceback" not in said, said
        return status, said.splitlines()

    def killed(self, at: int, *arguments: str) -> tuple[int, int]:
        """Give a command that is killed at its ``at``-th touch of a file; return its status and how many there were."""
        self._said += 1
        folder = self._folder / f"said-{self._said}"
        told = {"DATA_DIR": str(self.data), "DATABASE_URL": self.url}
        status, _ = self._commands.killed(folder, at, *arguments, **told)
        return status, int((folder / "touched").read_text())

    def done(self, *arguments: str) -> list[str]:
        """Give a command that must succeed."""
        status, said = self.said(*arguments)
        assert status == 0, said
        return said

    def refused(self, *arguments: str) -> str:
        """Give a command that must be refused with one line; return it."""
        status, said = self.said(*arguments)
        faults = [line for line in said if line.startswith("✗ ")]
        assert status == 1 and len(faults) == 1 and said[-1] == faults[0], said
        return faults[0]

    def files(self) -> dict[str, bytes]:
        """Return what lies in the data folder, but for locks and what names this machine."""
        found = {path.relative_to(self.data).as_posix(): path for path in self.data.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if not name.endswith(("lock", "instance"))}


@pytest.fixture
def place(commands: Commands, servers_run: Run, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Make installations on either kind of database, by default with an empty one."""
    urls = []

    def make(name: str, kind: str = "sqlite", *, migrated: bool = False) -> Place:
        folder = tmp_path / name
        folder.mkdir()
        if kind == "sqlite":
            if not migrated:
                return Place(commands, folder, f"sqlite:///{folder / 'data' / 'botfactory.db'}")
            (folder / "data").mkdir()
            return Place(commands, folder, servers_run.new_sqlite(folder / "data"))
        urls.append(servers_run.new_postgres(migrated=migrated))
        return Place(commands, folder, urls[-1])

    yield make
    for url in urls:
        servers_run.drop_postgres(url)


async def filled(where: Place) -> None:
    """Fill every table of an installation, and let its tokens be readable by the key in its data folder."""
    key = new_fernet_key()
    (where.data / "encryption.keys").write_text(key)
    (where.data / "secret.key").write_text("s" * 48)
    async with opened(where.url) as database:
        await _fill(database)
        if not (missing := await _empty(database)) == []:
            raise AssertionError(missing)
        async with database.write() as session:
            token = Crypto([key]).encrypt({"token": "77:CANARY"})
            for column in (models.Channel.credentials, models.Endpoint.secret):
                await session.execute(update(column.class_).values({column: token}))


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
async def test_a_full_database_comes_back_row_by_row(
    place: Callable[..., Place], tmp_path: Path, source: str, target: str
) -> None:
    old, new, file = place("old", source, migrated=True), place("new", target), tmp_path / "out" / "all.zip"
    await filled(old)
    before = await content(old.url)
    old.done("backup", str(file))
    assert await content(old.url) == before and [path.name for path in file.parent.iterdir()] == ["all.zip"]
    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {"about.json", "botfactory.db", "encryption.keys", "secret.key"}
        assert json.loads(archive.read("about.json"))["database"] == source
    said = new.done("restore", str(file))
    after = await content(new.url)
    assert before.keys() == after.keys() == Base.metadata.tables.keys()
    assert {name for name in after if after[name] != before[name]} <= ENDED | CHANGED
    assert not any(after[name] for name in ENDED)
    kept = CHANGED - {"audit_log", "lanes", "letters"}
    assert {name: len(after[name]) for name in kept} == {name: len(before[name]) for name in kept}
    assert f"restored: {sum(map(len, after.values()))} rows in {len(after.keys() - ENDED)} tables" in said
    assert "  users: 1" in said and "  people signed out: 1" in said
    for name in ("encryption.keys", "secret.key"):
        path = new.data / name
        assert path.read_text().strip() == (old.data / name).read_text() and path.stat().st_mode & 0o077 == 0
    assert not list(new.data.glob(".restoring-*"))
    # It goes on from there: numbers, search, what triggers note, and the schema.
    async with opened(new.url) as database:
        assert await migrate.current(database) == migrate.head()
        async with database.write() as session:
            chunk = (await session.scalars(select(models.Chunk))).one()
            assert await fulltext.candidates(session, chunk.bot_id, ["kafolat"], [], 5) == [chunk.id]
            for model in (models.AIUsage, models.PaymentEvent, models.Chunk):
                last = (await session.execute(select(model.__table__))).mappings().one()
                again = {name: value for name, value in last.items() if name not in ("id", "terms")}
                made = await session.execute(insert(model).values(again).returning(model.id))
                assert made.scalar_one() > last["id"]
            dues = select(func.count()).select_from(models.ConversationDue)
            before_it = await session.scalar(dues) or 0
            await session.execute(update(models.Message).values(text="boshqa"))
            assert await session.scalar(dues) == before_it + 1
            for state, open_ones in OPEN:
                assert not await session.scalar(select(func.count()).where(state.in_(open_ones)))
    # A second time it is in use.
    assert "the database holds data already" in new.refused("restore", str(file))


async def test_a_backup_of_an_old_version_is_brought_up_to_date(place: Callable[..., Place], tmp_path: Path) -> None:
    """Of PostgreSQL as well, before the new program has migrated it."""
    for source, target in (("postgresql", "sqlite"), ("sqlite", "postgresql")):
        old, new = place(f"old-{source}", source), place(f"new-{target}", target)
        await migrate.upgrade(old.url, "0009")
        async with opened(old.url) as database:
            await _fill(database)
            columns = await _columns(database)
            before = alike(await _content(database, columns))
        file = tmp_path / f"{source}.zip"
        old.done("backup", str(file))
        with zipfile.ZipFile(file) as archive:
            assert json.loads(archive.read("about.json"))["schema"] == "0009"
        new.done("restore", str(file), "--without-keys")
        async with opened(new.url) as database:
            assert await migrate.current(database) == migrate.head()
            after = alike(await _content(database, columns))
        assert {name for name in after if after[name] != before[name]} <= ENDED | CHANGED


# Files that are none


def _packed(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _changed_database(data: bytes, folder: Path, *statements: str) -> bytes:
    path = folder / "changed.db"
    path.write_bytes(data)
    with sqlite3.connect(path) as kept:
        for statement in statements:
            kept.execute(statement)
    kept.close()
    return path.read_bytes()


def _bad_files(good: bytes, folder: Path) -> Iterator[tuple[str, bytes, str]]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    about, database = members["about.json"], members["botfactory.db"]
    yield "nothing", b"", "is no backup of BotFactory, or is damaged"
    yield "a picture", b"\x89PNG\r\n\x1a\n" * 500, "is no backup of BotFactory, or is damaged"
    yield "cut off", good[: len(good) // 2], "is no backup of BotFactory, or is damaged"
    middle = len(good) // 2
    yield "one byte changed", good[:middle] + bytes([good[middle] ^ 0xFF]) + good[middle + 1 :], "damaged"
    yield "another archive", _packed({"word/document.xml": b"<w/>"}), "is missing in it"
    yield "without the database", _packed({"about.json": about}), "is missing in it"
    for name in ("../../evil.txt", "/etc/evil", "data/botfactory.db", "encryption.keys.bak"):
        yield name, _packed({**members, name: b"x"}), "files that no backup of BotFactory has"
    yield "no database", _packed({**members, "botfactory.db": b"hello" * 100}), "is no database"
    torn = database[: len(database) // 2]
    yield "half a database", _packed({**members, "botfactory.db": torn}), "damaged"
    yield "zeros in it", _packed({**members, "botfactory.db": database[:4096] + bytes(len(database) - 4096)}), "damaged"
    other = _changed_database(b"", folder, "CREATE TABLE mine (n INTEGER)")
    yield "of another program", _packed({**members, "botfactory.db": other}), "none of BotFactory"
    newer = _changed_database(database, folder, "UPDATE alembic_version SET version_num = '9999'")
    yield "newer", _packed({**members, "botfactory.db": newer}), "a newer BotFactory made this backup (schema 9999)"
    yield "no words", _packed({**members, "about.json": b"[1, 2]"}), "about.json in the backup cannot be understood"
    yield "endless words", _packed({**members, "about.json": b" " * 2**20}), "is too large"
    yield "no keys", _packed({**members, "encryption.keys": b"hello"}), "encryption.keys in the backup holds no keys"
    locked = bytearray(good)
    for at in (place for place in range(len(locked) - 4) if locked[place : place + 4] == b"PK\x01\x02"):
        locked[at + 8] |= 1
    yield "a password", bytes(locked), "with a password"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_what_is_no_whole_backup_changes_nothing(place: Callable[..., Place], tmp_path: Path, kind: str) -> None:
    old, new, file = place("old", migrated=True), place("new", kind, migrated=True), tmp_path / "all.zip"
    await filled(old)
    old.done("backup", str(file))
    good = file.read_bytes()
    files, rows = new.files(), await content(new.url)
    assert "cannot be read" in new.refused("restore", str(tmp_path / "not there.zip"))
    assert "cannot be read" in new.refused("restore", str(tmp_path))
    for number, (name, data, reason) in enumerate(_bad_files(good, tmp_path)):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(data)
        line = new.refused("restore", str(file))
        assert reason in line, (name, line)
        assert new.files().keys() == files.keys(), name
    assert await content(new.url) == rows
    assert not list(tmp_path.rglob("evil*"))


# What is there already


async def test_a_used_database_is_replaced_only_when_asked_and_kept(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    for kind in ("sqlite", "postgresql"):
        old, new = place(f"old-{kind}", migrated=True), place(f"new-{kind}", kind, migrated=True)
        file = tmp_path / f"{kind}.zip"
        await filled(old)
        old.done("backup", str(file))
        await filled(new)
        before, mine = await content(new.url), (new.data / "encryption.keys").read_text()
        assert "add --replace, which first makes a backup" in new.refused("restore", str(file))
        assert await content(new.url) == before
        said = new.done("restore", str(file), "--replace")
        assert (await content(new.url))["users"] == (await content(old.url))["users"]
        [kept] = (new.data / "backups").iterdir()
        assert f"– what was there before: {kept}" in said and kept.stat().st_mode & 0o077 == 0
        # Both keys are there: the first one is that of what was restored.
        assert (
            new.data / "encryption.keys"
        ).read_text().strip() == f"{(old.data / 'encryption.keys').read_text()},{mine}"
        # And back.
        back = tmp_path / f"back-{kind}.zip"
        shutil.copyfile(kept, back)
        new.done("restore", str(back), "--replace")
        assert (await content(new.url))["users"] == before["users"]


async def test_what_the_first_start_made_is_no_use_yet(place: Callable[..., Place], tmp_path: Path) -> None:
    """Who has looked whether it runs need not know of a switch; a main bot and an administrator are there by then."""
    old, file = place("old", migrated=True), tmp_path / "all.zip"
    await filled(old)
    old.done("backup", str(file))
    for kind in ("sqlite", "postgresql"):
        new = place(f"new-{kind}", kind)
        settings = make_settings(new.data, new.url, environment={"ADMIN_EMAIL": "bosh@example.uz"})
        async with running(settings):
            assert "another BotFactory runs" in new.refused("restore", str(file)) or kind == "postgresql"
            if kind == "postgresql":
                assert "BotFactory runs with this database" in new.refused("restore", str(file))
                assert "BotFactory runs with this database" in new.refused("restore", str(file), "--replace")
        new.done("restore", str(file))
        assert [row[3] for row in (await content(new.url))["users"]] == ["egasi@example.uz"]


async def test_a_damaged_database_stays_beside_what_takes_its_place(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    old, new, file = place("old", migrated=True), place("new", migrated=True), tmp_path / "all.zip"
    await filled(old)
    old.done("backup", str(file))
    damaged = b"SQLite format 3\0" + b"\xff" * 9000
    (new.data / "botfactory.db").write_bytes(damaged)
    assert "is damaged or no SQLite file" in new.refused("restore", str(file))
    assert (new.data / "botfactory.db").read_bytes() == damaged
    new.done("restore", str(file), "--replace")
    [aside] = new.data.glob("botfactory.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert (await content(new.url))["bots"] == (await content(old.url))["bots"]


async def test_going_back_to_the_version_of_before(place: Callable[..., Place], tmp_path: Path) -> None:
    """The backup from before an update is restored by the old program, over what the new one has made."""
    for kind in ("sqlite", "postgresql"):
        here, file = place(kind, kind, migrated=True), tmp_path / f"{kind}.zip"
        await filled(here)
        here.done("backup", str(file))
        before = await content(here.url)
        async with opened(here.url) as database, database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        if kind == "postgresql":
            assert "a newer program made the schema 9999" in here.refused("restore", str(file), "--replace")
            continue
        here.done("restore", str(file), "--replace")
        assert (await content(here.url))["bots"] == before["bots"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_restores_the_program_can_use(place: Callable[..., Place], tmp_path: Path) -> None:
    old, new, file = place("old", migrated=True), place("new", migrated=True), tmp_path / "all.zip"
    await filled(old)
    old.done("backup", str(file))
    await filled(new)
    os.chown(new.data, 65534, 65534)
    new.done("restore", str(file), "--replace")
    names = {path.name for path in new.data.rglob("*") if path.stat().st_uid == 65534}
    assert names >= {"botfactory.db", "botfactory.db-lock", "encryption.keys", "secret.key", "instance", "backups"}
    assert not [path for path in new.data.rglob("*") if path.stat().st_uid == 0]


# Keys


async def test_keys_that_are_not_there_are_told_of_before_anything_changes(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    old, with_keys, file = place("old", migrated=True), tmp_path / "keys.zip", tmp_path / "none.zip"
    await filled(old)
    old.done("backup", str(with_keys))
    key = (old.data / "encryption.keys").read_text()
    (old.data / "encryption.keys").unlink()
    old.environment = {"ENCRYPTION_KEYS": key, "SECRET_KEY": "o" * 48}
    old.done("backup", str(file))
    new = place("new")
    assert "set ENCRYPTION_KEYS to what it was" in new.refused("restore", str(file))
    new.environment = {"ENCRYPTION_KEYS": new_fernet_key()}
    assert "set ENCRYPTION_KEYS to what it was" in new.refused("restore", str(file))
    line = new.refused("restore", str(with_keys))
    assert "take ENCRYPTION_KEYS away" in line and "2 of 2 secrets" in line and key not in line
    assert not (new.data / "botfactory.db").exists() and not (new.data / "encryption.keys").exists()
    new.environment = {"ENCRYPTION_KEYS": f"{new_fernet_key()},{key}", "SECRET_KEY": "n" * 48}
    said = new.done("restore", str(with_keys))
    assert any("SECRET_KEY is another than where the backup was made" in line for line in said)
    assert not (new.data / "encryption.keys").exists() and not (new.data / "secret.key").exists()
    lost = place("lost")
    said = lost.done("restore", str(file), "--without-keys")
    assert any("2 of 2 secrets cannot be read" in line for line in said)


# In the middle


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_killed_in_the_middle_it_is_as_before_or_done(
    place: Callable[..., Place], tmp_path: Path, kind: str
) -> None:
    old, file = place("old", migrated=True), tmp_path / "all.zip"
    await filled(old)
    old.done("backup", str(file))
    mine, counted = place("mine", kind, migrated=True), place("counted", kind, migrated=True)
    for where in (mine, counted):
        await filled(where)
    theirs, before = (await content(old.url))["users"], await content(mine.url)
    own_key = (mine.data / "encryption.keys").read_text().strip()
    status, steps = counted.killed(1_000_000, "restore", str(file), "--replace")
    assert status == 0 and steps > 12
    # Some before, and from where things take their places each one, up to the end; a try that was killed leaves more to do.
    for at in (steps // 2, *range(steps - 7, steps + 20)):
        status, _ = mine.killed(at, "restore", str(file), "--replace")
        after = await content(mine.url)
        assert own_key in (mine.data / "encryption.keys").read_text(), at
        if after["users"] == theirs:
            break
        assert status == -signal.SIGKILL and after == before, at
    else:
        raise AssertionError("it was never done")
    # Given again it succeeds, and nothing of the tries is left.
    mine.done("restore", str(file), "--replace")
    assert (await content(mine.url))["users"] == theirs
    assert not [path for path in mine.data.iterdir() if path.name.startswith(".")]


# A full disk


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_full_disk_leaves_no_half_files(place: Callable[..., Place], tmp_path: Path, kind: str) -> None:
    full, file = place("full", kind, migrated=True), tmp_path / "out" / "all.zip"
    await filled(full)
    good = tmp_path / "good.zip"
    full.done("backup", str(good))
    empty = place("empty", kind, migrated=kind == "postgresql")
    for where, arguments in ((full, ("backup", str(file))), (empty, ("restore", str(good)))):
        done = subprocess.run(
            [sys.executable, "bot.py", *arguments],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "DATA_DIR": str(where.data), "DATABASE_URL": where.url},
            capture_output=True,
            text=True,
            preexec_fn=_small_files,
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("✗ "), done.stderr
    assert not list(file.parent.iterdir())
    assert not empty.files()
