"""A backup in place of the installation's database, of either kind: ``bot.py restore FILE``.

Everything is read, checked, migrated and quieted in a copy beside the database, which then takes its place in one step: by a
name on SQLite, in one transaction on PostgreSQL. Killed before that step, the installation is as it was but for a key more that
it can read with; the command can be given again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, func, select

from db import migrate, models, transfer
from db.base import table_of, utcnow
from db.engine import Database, DatabaseUnavailable, parse_url
from services import access, backups, quieting, start, upkeep
from services.backups import ABOUT, DATABASE, KEYS
from services.crypto import Crypto, KeyProblem
from services.letters import offering, partnering
from services.settings import Settings

_SCRATCH = ".restoring-"
_SMALL = 64 * 1024
_PART = 1024 * 1024
_BESIDE = ("-wal", "-shm", "-journal")
Say = Callable[[str], None]


class RestoreFailed(Exception):
    """The backup was not restored and nothing has changed; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done. ``rows`` by table; ``ended``: how many of what was ended so that it is not sent again."""

    made_at: dt.datetime
    rows: Mapping[str, int]
    ended: Mapping[str, int]
    saved: Path | None = None
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what a person is to read of it."""
        said = [f"restored: {sum(self.rows.values())} rows in {len(self.rows)} tables"]
        said += [f"  {name}: {number}" for name, number in self.rows.items()]
        if self.ended:
            said.append("not sent again, for it may have been sent since the backup:")
            said += [f"  {what}: {number}" for what, number in self.ended.items()]
        said += [f"– {note}" for note in self.notes]
        if self.saved is not None:
            said.append(f"– what was there before: {self.saved}")
        said.append(
            f"– what came after {self.made_at:%Y-%m-%d %H:%M} UTC is not in it: compare payments with the gateways"
        )
        said.append("Start BotFactory now: Telegram’s webhooks are set again by the start.")
        return said


@dataclass(frozen=True, slots=True)
class _Backup:
    """A backup that was opened: when and of what it was made, and the keys in it by name."""

    made_at: dt.datetime
    kind: str
    keys: Mapping[str, str]


async def restore(
    settings: Settings, file: Path, say: Say, *, replace: bool = False, without_keys: bool = False
) -> Restored:
    """Bring back the backup in ``file``; ``say`` hears in a line each what is being done.

    ``replace``: also where the database holds something, of which a backup is made first. ``without_keys``: also where its
    tokens cannot be read any more. Raises ``RestoreFailed``, ``StartFailed``, ``InstanceTaken`` and ``DatabaseUnavailable``.
    """
    try:
        url = parse_url(settings.database_url)
    except ValueError as error:
        raise RestoreFailed(f"DATABASE_URL: {error}") from None
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise start.StartFailed(start.folder_fault(settings.data_dir, error)) from None
    with _owned_alike(settings, url), start.alone(settings, url):
        damaged, found = await _present(url, replace)
        if found.busy:
            raise RestoreFailed(
                "BotFactory runs with this database: stop all its processes, then try again (of one that was killed it is "
                "known after half a minute)"
            )
        if found.used and not replace:
            raise RestoreFailed(
                f"the database holds data already ({', '.join(found.used[:3])}): name an empty one in DATABASE_URL, or add "
                "--replace, which first makes a backup of what is there"
            )
        with _scratch(settings, url) as place, _opened(file) as archive:
            backup = _about(archive)
            say(f"{file}: made {backup.made_at:%Y-%m-%d %H:%M} UTC, from {backup.kind}")
            copy = place / DATABASE
            _extract(archive, copy, file)
            say("looking at the database in it …")
            await _bring_up_to_date(copy)
            quiet = await _quieted(settings, copy, backup, without_keys)
            saved = await _saved(settings, url, damaged, found, say)
            if url.get_backend_name() == "sqlite":
                _put_keys(settings, backup)
                _put_in_place(copy, Path(url.database or ""), saved if damaged else None)
            else:
                await _into_postgresql(settings, backup, copy, url, say)
    rows, ended, notes = quiet
    return Restored(backup.made_at, rows, ended, saved, notes)


@contextlib.contextmanager
def _owned_alike(settings: Settings, url: URL) -> Iterator[None]:
    """Let files that the machine's administrator makes here belong to whom the data folder belongs, who runs the program."""
    owner = settings.data_dir.stat()
    try:
        yield
    finally:
        if os.geteuid() == 0 and owner.st_uid != 0:
            places = [*settings.data_dir.glob("*"), *backups.folder(settings).glob("*")]
            if url.get_backend_name() == "sqlite":
                database = Path(url.database or "").resolve()
                places += database.parent.glob(f"{database.name}*")
            for place in places:
                if place.lstat().st_uid == 0 and not place.is_symlink():
                    os.chown(place, owner.st_uid, owner.st_gid)


# What is there


async def _present(url: URL, replace: bool) -> tuple[bool, transfer.Found]:
    """Return whether the present database is damaged beyond reading, and what it holds."""
    sqlite = url.get_backend_name() == "sqlite"
    try:
        found = await transfer.look(url)
    except DatabaseUnavailable as error:
        code = _sqlite_code(error)
        if not (replace and sqlite and code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)):
            raise
        return True, transfer.Found()
    if found.tables and found.revision is None:
        raise RestoreFailed("DATABASE_URL: the database holds tables of another program: name another one")
    if not sqlite and found.revision is not None and found.revision not in migrate.revisions():
        raise RestoreFailed(
            f"DATABASE_URL: a newer program made the schema {found.revision} of this database: name an empty one"
        )
    return False, found


def _sqlite_code(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) is not None:
            return int(error.sqlite_errorcode) & 0xFF
        error = getattr(error, "orig", None) or error.__cause__
    return None


async def _saved(settings: Settings, url: URL, damaged: bool, found: transfer.Found, say: Say) -> Path | None:
    """Keep what is there before it is replaced; return where."""
    if damaged:
        aside = Path(f"{url.database}.damaged-{utcnow():%Y%m%d-%H%M%S}")
        say(f"the present database cannot be read; it stays as {aside}")
        return aside
    if not found.used:
        return None
    target = backups.new_name(settings)
    say("making a backup of the present database …")
    try:
        await asyncio.to_thread(backups.write, settings, target)
    except backups.BackupFailed as error:
        raise RestoreFailed(f"no backup of the present database could be made: {error}") from error
    return target


# The file


@contextlib.contextmanager
def _scratch(settings: Settings, url: URL) -> Iterator[Path]:
    """Give a folder on the disk where the database will be; what a killed restore left there is removed first."""
    sqlite = url.get_backend_name() == "sqlite"
    parent = Path(url.database or "").resolve().parent if sqlite else settings.data_dir
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in [*parent.glob(f"{_SCRATCH}*"), *settings.data_dir.glob(f"{_SCRATCH}*")]:
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=parent) as place:
            yield Path(place)
    except OSError as error:
        raise RestoreFailed(f"{parent}: {error.strerror or type(error).__name__}") from error


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a backup whose members are those of one, and no others."""
    try:
        opened: IO[bytes] = file.open("rb")
    except OSError as error:
        raise RestoreFailed(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        try:
            archive = zipfile.ZipFile(opened)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise RestoreFailed(f"{file} is no backup of BotFactory, or is damaged or cut off") from error
        with archive:
            names = [member.filename for member in archive.infolist()]
            if ABOUT not in names or DATABASE not in names:
                raise RestoreFailed(f"{file} is no backup of BotFactory: {ABOUT} or {DATABASE} is missing in it")
            if len(set(names)) != len(names) or set(names) - {ABOUT, DATABASE, *KEYS}:
                raise RestoreFailed(f"{file} holds files that no backup of BotFactory has: it was changed by somebody")
            if any(member.flag_bits & 1 for member in archive.infolist()):
                raise RestoreFailed(f"{file} was packed again with a password: unpack it and give the backup itself")
            try:
                yield archive
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                raise RestoreFailed(f"{file} is damaged or cut off: take another backup") from error


def _small(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as member:
        data = member.read(_SMALL + 1)
    if len(data) > _SMALL:
        raise RestoreFailed(f"{name} in the backup is too large: it is none of ours")
    return data.decode("utf-8", "replace").strip()


def _about(archive: zipfile.ZipFile) -> _Backup:
    try:
        about = json.loads(_small(archive, ABOUT))
        made_at = dt.datetime.fromisoformat(about["made_at"]).astimezone(dt.UTC)
        kind = str(about["database"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RestoreFailed(f"{ABOUT} in the backup cannot be understood: it was changed by somebody") from error
    keys = {name: text for name in KEYS if name in archive.namelist() and (text := _small(archive, name))}
    try:
        if "encryption.keys" in keys:
            Crypto.from_text(keys["encryption.keys"])
    except KeyProblem as error:
        raise RestoreFailed("encryption.keys in the backup holds no keys: it was changed by somebody") from error
    return _Backup(made_at, kind, keys)


def _extract(archive: zipfile.ZipFile, copy: Path, file: Path) -> None:
    size, free = archive.getinfo(DATABASE).file_size, shutil.disk_usage(copy.parent).free
    # The schema may have to be brought up to date, for which SQLite writes changed pages a second time.
    if free < size * 1.5:
        raise RestoreFailed(
            f"the disk has {free // 2**20} MiB left; restoring needs {int(size * 1.5) // 2**20 + 1} MiB"
        )
    with archive.open(DATABASE) as packed, copy.open("xb") as unpacked:
        # Reads no more than the size that was promised.
        while part := packed.read(_PART):
            unpacked.write(part)
    with copy.open("rb") as head:
        if head.read(16) != b"SQLite format 3\0":
            raise RestoreFailed(f"{file} is no backup of BotFactory: {DATABASE} in it is no database")


async def _bring_up_to_date(copy: Path) -> None:
    try:
        with closing(sqlite3.connect(copy)) as kept:
            whole = kept.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
            row = kept.execute("SELECT version_num FROM alembic_version").fetchone() if whole else None
    except sqlite3.Error as error:
        raise RestoreFailed(
            "the database in the backup is damaged, or none of BotFactory: take another backup"
        ) from error
    if not whole:
        raise RestoreFailed("the database in the backup is damaged: take another backup")
    if row is None or row[0] not in migrate.revisions():
        raise RestoreFailed(
            f"a newer BotFactory made this backup (schema {row[0] if row else '?'}): update this one first, then try again"
        )
    try:
        await migrate.upgrade(f"sqlite:///{copy}")
    except DatabaseUnavailable as error:
        raise RestoreFailed(
            f"the database in the backup could not be brought to the present schema: {error}"
        ) from error


# What is in it


async def _quieted(
    settings: Settings, copy: Path, backup: _Backup, without_keys: bool
) -> tuple[Mapping[str, int], Mapping[str, int], list[str]]:
    """Check the keys, end what would go out, and write down that it was restored; return rows, what ended, and notes."""
    database, now = Database(f"sqlite:///{copy}", pool_size=1), utcnow()
    try:
        async with database.write() as session:
            notes = await _check_keys(session, settings, backup, without_keys)
            ended = await quieting.quiet(session, now)
            await offering.pass_over(session, settings, now=now)
            await partnering.pass_over(session, now=now)
            made_at = f"{backup.made_at:%Y-%m-%d %H:%M} UTC"
            await access.record(session, None, "backup_restored", "backup", "", made_at=made_at)
            rows = {}
            for model in models.Base.__subclasses__():
                name = table_of(model).name
                rows[name] = int(await session.scalar(select(func.count()).select_from(model)) or 0)
    except DatabaseUnavailable as error:
        raise RestoreFailed(f"the copy could not be prepared: {error}") from error
    finally:
        await database.close()
    with closing(sqlite3.connect(copy)) as kept:
        kept.execute("PRAGMA journal_mode=DELETE")
    return {name: number for name, number in sorted(rows.items()) if number}, ended, notes


def _merged(*texts: str) -> str:
    keys = [key.strip() for text in texts for key in text.split(",") if key.strip()]
    return ",".join(dict.fromkeys(keys))


def _stored(settings: Settings, name: str) -> str:
    place = settings.data_dir / name
    try:
        return place.read_text("ascii").strip() if place.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RestoreFailed(f"{place} cannot be read") from error


async def _check_keys(session: Any, settings: Settings, backup: _Backup, without_keys: bool) -> list[str]:
    """Tell whether this installation will be able to read the backup's secrets; return what is to be said of keys."""
    given, own = settings.secrets.encryption_keys, backup.keys.get("encryption.keys", "")
    text = given.get_secret_value() if given else _merged(own, _stored(settings, "encryption.keys"))
    crypto = Crypto.from_text(text) if text else None
    there = Crypto.from_text(own) if own else None
    sealed = lost = 0
    for model, column in upkeep.SEALED:
        rows = select(column).where(column.is_not(None))
        if model is models.Channel:
            rows = rows.where(models.Channel.status != "unreadable")
        for token in await session.scalars(rows):
            sealed += 1
            # What its own keys do not open was lost before.
            lost += not (crypto and crypto.opens(token)) and (there is None or there.opens(token))
    notes = []
    if lost and not without_keys:
        what = (
            f"{lost} of {sealed} secrets in the backup (bots’ tokens, keys of owners) were encrypted with other keys: "
        )
        if own:
            raise RestoreFailed(
                f"{what}take ENCRYPTION_KEYS away, the backup brings its own; or add those (encryption.keys in it), after a comma"
            )
        raise RestoreFailed(
            f"{what}set ENCRYPTION_KEYS to what it was where the backup was made. If they are gone, add --without-keys: those "
            "channels must then be connected again"
        )
    if lost:
        notes.append(f"{lost} of {sealed} secrets cannot be read: connect those channels again")
    secret = settings.secrets.secret_key
    if secret and backup.keys.get("secret.key", secret.get_secret_value()) != secret.get_secret_value():
        notes.append("SECRET_KEY is another than where the backup was made: links in letters of before no longer work")
    return notes


# Into its place


def _put_keys(settings: Settings, backup: _Backup) -> None:
    """Write the backup's keys into the data folder, so that they open what comes and what is there still."""
    try:
        if settings.secrets.encryption_keys is None and "encryption.keys" in backup.keys:
            merged = _merged(backup.keys["encryption.keys"], _stored(settings, "encryption.keys"))
            _write(settings.data_dir / "encryption.keys", merged)
        if settings.secrets.secret_key is None and "secret.key" in backup.keys:
            _write(settings.data_dir / "secret.key", backup.keys["secret.key"])
    except OSError as error:
        raise RestoreFailed(f"{settings.data_dir}: the keys cannot be written: {error.strerror}") from error


def _write(place: Path, text: str) -> None:
    """Write a key file; it is the old one or the new one at any moment."""
    descriptor, name = tempfile.mkstemp(prefix=_SCRATCH, dir=place.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _settle(place.parent)


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(copy: Path, target: Path, aside: Path | None) -> None:
    target = target.resolve()
    if aside is not None:
        for end in (*_BESIDE, ""):
            if (part := Path(f"{target}{end}")).exists():
                part.replace(f"{aside}{end}")
    elif target.exists():
        # The log of the old file must not be taken for one of the new file.
        with closing(sqlite3.connect(target, timeout=10)) as old:
            if old.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "delete":
                raise RestoreFailed(f"{target} is in use by another program: end that one, then try again")
    for end in _BESIDE:
        Path(f"{target}{end}").unlink(missing_ok=True)
    copy.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o600)
    with copy.open("rb+") as whole:
        os.fsync(whole.fileno())
    copy.replace(target)
    _settle(target.parent)


async def _into_postgresql(settings: Settings, backup: _Backup, copy: Path, url: URL, say: Say) -> None:
    await migrate.upgrade(url)
    shown = 0

    def told(percent: int) -> None:
        nonlocal shown
        if percent >= shown + 10:
            shown = percent - percent % 10
            say(f"copying into PostgreSQL: {shown} %")

    say("copying into PostgreSQL …")
    try:
        await transfer.to_postgresql(copy, url, told, before_commit=lambda: _put_keys(settings, backup))
    except transfer.NotTransferred as error:
        raise RestoreFailed(str(error)) from error
