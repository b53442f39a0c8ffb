"""Backups: one file with everything that a new machine needs, made while the program runs.

A ZIP of the database as it was at one moment, always as an SQLite file (``botfactory.db``), so that either kind of database can
be brought back from it; the keys of the data folder, without which stored tokens are lost; and ``about.json``. It takes its name
only when it is whole. :mod:`services.restoring` reads it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import URL, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import migrate, models, transfer
from db.base import utcnow
from db.engine import DatabaseUnavailable, parse_url
from services import jobs
from services.errors import NotFound
from services.settings import Settings

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

BACKUP_JOB = "backup"
_LANE = "upkeep:backup"
ABOUT, DATABASE = "about.json", "botfactory.db"
KEYS = ("encryption.keys", "secret.key")
_NAME = re.compile(r"botfactory-\d{8}-\d{6}\.zip")
_MAKING = ".making"
_ROOM = 1.6
"""A backup takes its copy and the packed file for a while: so many times the database."""
_PART = 1024 * 1024


class BackupFailed(Exception):
    """No backup could be made; the text says why, for whoever runs the machine."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup in the data folder; ``size`` in bytes."""

    name: str
    size: int
    made_at: dt.datetime


def folder(settings: Settings) -> Path:
    """Return where backups that were made in the panel lie."""
    return settings.data_dir / "backups"


def write(settings: Settings, target: Path, told: Callable[[int], None] = lambda _percent: None) -> None:
    """Make a backup at ``target``, which takes its place whole or not at all; ``told`` hears how far it is, in percent.

    Slow and synchronous: for a thread or a command. Raises ``BackupFailed``.
    """
    url = parse_url(settings.database_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite and not Path(url.database or "").exists():
        raise BackupFailed(f"DATABASE_URL: there is no {url.database}")
    made_at = utcnow()
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=f"{_MAKING}-", dir=target.parent) as place:
            copy = Path(place) / DATABASE
            if sqlite:
                _have_room(url, Path(place))
                _copy(url, copy)
            else:
                asyncio.run(transfer.to_sqlite(url, copy, lambda percent: told(percent // 2)))
            told(50)
            packed = Path(place) / "backup.zip"
            about = {"made_at": made_at.isoformat(), "database": url.get_backend_name(), "schema": _schema(copy)}
            _pack(settings, about, copy, packed, told)
            packed.chmod(0o600)
            packed.replace(target)
    except OSError as error:
        raise BackupFailed(f"{target.parent}: {error.strerror or type(error).__name__}") from error
    except DatabaseUnavailable as error:
        raise BackupFailed(f"DATABASE_URL: {error}") from error
    except transfer.NotTransferred as error:
        raise BackupFailed(str(error)) from error
    told(100)


def _have_room(url: URL, place: Path) -> None:
    size, free = Path(url.database or "").stat().st_size, shutil.disk_usage(place).free
    if free < size * _ROOM:
        raise BackupFailed(
            f"the disk has {free // 2**20} MiB left; a backup needs {int(size * _ROOM) // 2**20 + 1} MiB"
        )


def _copy(url: URL, copy: Path) -> None:
    with migrate.explaining(url):
        # In one step: it sees one state of the database, and writers beside it do not make it begin anew.
        source = sqlite3.connect(f"file:{Path(url.database or '').resolve().as_posix()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(copy)) as kept:
            try:
                source.backup(kept)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    raise BackupFailed(f"{copy.parent.parent}: the disk is full") from error
                raise
            kept.execute("PRAGMA journal_mode=DELETE")


def _schema(copy: Path) -> str:
    with closing(sqlite3.connect(copy)) as kept:
        try:
            return str(kept.execute("SELECT version_num FROM alembic_version").fetchone()[0])
        except (sqlite3.OperationalError, TypeError):
            raise BackupFailed("DATABASE_URL: the database holds no data of BotFactory") from None


def _pack(settings: Settings, about: Mapping[str, str], copy: Path, packed: Path, told: Callable[[int], None]) -> None:
    keys = [name for name in KEYS if (settings.data_dir / name).is_file()]
    total, done = max(1, copy.stat().st_size), 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(ABOUT, json.dumps({**about, "keys": keys}, indent=1))
        for name in keys:
            archive.write(settings.data_dir / name, name)
        with copy.open("rb") as source, archive.open(copy.name, "w", force_zip64=True) as kept:
            while part := source.read(_PART):
                kept.write(part)
                done += len(part)
                told(50 + done * 49 // total)


# In the panel


async def begin(session: AsyncSession) -> bool:
    """Ask for a backup; return False where one is being made already. Whoever calls rings the bell ``jobs``."""
    if await _under_way(session):
        return False
    return await jobs.add(session, BACKUP_JOB, {}, lane=_LANE)


async def _under_way(session: AsyncSession) -> bool:
    row = models.Job
    lane = select(row.id).where(row.lane == f"job:{_LANE}", row.status == "new").limit(1)
    return await session.scalar(lane) is not None


async def progress(session: AsyncSession, settings: Settings) -> int | None:
    """Return how far the backup is that is being made, in percent; None where none is."""
    if not await _under_way(session):
        return None
    return await asyncio.to_thread(_written, folder(settings) / f"{_MAKING}.percent")


def _written(place: Path) -> int:
    try:
        return min(100, int(place.read_text("ascii") or 0))
    except (OSError, ValueError):
        return 0


async def run_job(core: Core, _payload: Mapping[str, Any]) -> None:
    """Make the backup that was asked for. What an earlier try left half is removed first."""
    await asyncio.to_thread(_make, core.settings)


def _make(settings: Settings) -> None:
    place = folder(settings)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    percent = place / f"{_MAKING}.percent"
    for left in place.glob(f"{_MAKING}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()
    try:
        write(settings, new_name(settings), lambda n: _note(percent, n))
        for old in _listed(place)[settings.database.keep_backups :]:
            (place / old.name).unlink(missing_ok=True)
    finally:
        percent.unlink(missing_ok=True)


def new_name(settings: Settings) -> Path:
    """Return where a backup that is made now lies in the data folder."""
    return folder(settings) / f"botfactory-{utcnow():%Y%m%d-%H%M%S}.zip"


def _note(place: Path, percent: int) -> None:
    place.write_text(str(percent), "ascii")


async def listed(settings: Settings) -> list[Kept]:
    """Return the backups in the data folder, the newest first."""
    return await asyncio.to_thread(_listed, folder(settings))


def _listed(place: Path) -> list[Kept]:
    if not place.is_dir():
        return []
    found = []
    for path in place.iterdir():
        if _NAME.fullmatch(path.name) and path.is_file():
            facts = path.stat()
            found.append(Kept(path.name, facts.st_size, dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC)))
    return sorted(found, key=lambda kept: kept.name, reverse=True)


def path_of(settings: Settings, name: str) -> Path:
    """Return a backup's file; raises ``NotFound`` for every name that no backup has."""
    path = folder(settings) / name
    if not _NAME.fullmatch(name) or not path.is_file():
        raise NotFound
    return path
