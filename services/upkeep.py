"""The work behind the work: what is due by the clock, old rows, notices, leadership, and the process's place on the machine."""

from __future__ import annotations

import asyncio
import datetime as dt
import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import ColumnElement, Connection, select, update
from sqlalchemy.orm import InstrumentedAttribute

from db import models
from db.base import insert_for, utcnow
from db.engine import DatabaseUnavailable, clock
from services import errorbook, health, jobs, leaving, notices, support, uploads
from services.crypto import Undecryptable
from services.days import TASHKENT
from services.knowledge import documents
from services.lanes import LANES
from services.letters import offering, partnering
from services.letters.offers import OFFERS
from services.payments import ledger
from services.statistics import counting

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

CLEAN_UP_JOB = "clean_up"
NOTICES_EVERY_S = 30.0
RESERVE_EVERY_S = 600
RESERVE_FIRST_S = 60
_SLICE = 500
# A file that cannot grow is an error of input and output to SQLite unless the system says exactly that the disk is full.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class InstanceTaken(Exception):
    """Another process of this installation runs with this data folder and an SQLite database."""


class Instance:
    """This process's place: a number that is free on this machine, and with SQLite the only one.

    ``holder`` is the same after a restart, so a restart can free its own lanes first.
    """

    def __init__(self, data_dir: Path, *, single: bool) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        name = data_dir / "instance"
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, secrets.token_hex(4).encode())
            os.close(descriptor)
        except FileExistsError:
            pass
        machine = name.read_text("ascii", "ignore").strip()[:32] or "one"
        for number in range(1 if single else 64):
            descriptor = os.open(data_dir / f"process-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._descriptor = descriptor
            self.holder = f"{machine}-{number}"
            return
        raise InstanceTaken(
            f"another BotFactory runs with {data_dir}; SQLite allows one process. Stop it, or use PostgreSQL (DATABASE_URL)."
        )

    def release(self) -> None:
        """Make the place free."""
        os.close(self._descriptor)


# By the clock


def triggers() -> dict[str, CronTrigger]:
    """Return when each kind of job is due by the clock."""
    return {
        CLEAN_UP_JOB: CronTrigger(minute=17, timezone=TASHKENT),
        health.CHECK_JOB: CronTrigger(minute=37, timezone=TASHKENT),
        ledger.EXPIRE_JOB: CronTrigger(minute=7, timezone=TASHKENT),
        offering.REMIND_JOB: CronTrigger(minute=3, timezone=TASHKENT),
        partnering.TELL_JOB: CronTrigger(minute=5, timezone=TASHKENT),
        leaving.DELETE_JOB: CronTrigger(minute=47, timezone=TASHKENT),
        counting.COUNT_JOB: CronTrigger(minute=13, timezone=TASHKENT),
    }


def make_scheduler(core: Core) -> AsyncIOScheduler:
    """Return the scheduler.

    It only puts jobs into the queue, each due time once however many processes wake for it; and beside SQLite's file, which has
    one process, it keeps the reserve.
    """
    scheduler = AsyncIOScheduler(timezone=TASHKENT)
    for kind, trigger in triggers().items():
        scheduler.add_job(enqueue_due, trigger, args=[core, kind], id=kind, misfire_grace_time=None, coalesce=True)
    if core.db.is_sqlite:
        often = IntervalTrigger(seconds=RESERVE_EVERY_S, timezone=TASHKENT)
        first = utcnow() + dt.timedelta(seconds=RESERVE_FIRST_S)
        options = {"next_run_time": first, "misfire_grace_time": None, "coalesce": True}
        scheduler.add_job(keep_reserve, often, args=[core], id="reserve", **options)
    return scheduler


async def enqueue_due(core: Core, kind: str, moment: dt.datetime | None = None) -> bool:
    """Put the job for the hour of ``moment`` into the queue; return False when it is there already."""
    due = (moment or core.now()).replace(minute=0, second=0, microsecond=0)
    try:
        async with core.db.write() as session:
            added = await jobs.add(session, kind, {}, lane=f"upkeep:{kind}", unique_key=f"{kind}:{due.isoformat()}")
    except DatabaseUnavailable:
        log.warning("due_work_not_queued", kind=kind)
        return False
    core.bell.ring("jobs")
    return added


async def clean_up(core: Core, _payload: Mapping[str, Any]) -> None:
    """Delete what is no longer needed, in small transactions: old finished queue rows, sessions, links, notices, states of
    dialogs, visitors' uploads, idle lanes."""
    now = utcnow()
    kept = now - dt.timedelta(days=core.settings.queue.keep_done_days)
    month = now - dt.timedelta(days=30)
    touched = dt.timedelta(days=core.settings.referrals.window_days)
    inbox, outbox, notice, lane, job = models.InboxItem, models.OutboxItem, models.Notice, models.Lane, models.Job
    letter = models.Letter
    rules: list[tuple[InstrumentedAttribute[Any], ColumnElement[bool]]] = [
        (inbox.id, (inbox.status == "done") & (inbox.received_at < kept)),
        (outbox.id, outbox.status.in_(("sent", "failed", "unknown")) & (outbox.created_at < kept)),
        (inbox.id, (inbox.status == "dead") & (inbox.received_at < month)),
        (notice.id, notice.told_at < now - dt.timedelta(days=90)),
        (models.Upload.id, models.Upload.created_at < now - uploads.KEPT),
        (job.id, job.status.in_(("done", "dead")) & (job.created_at < month)),
        (models.PanelSession.id, models.PanelSession.expires_at < now),
        (models.LoginLink.token_hash, models.LoginLink.expires_at < now - dt.timedelta(days=1)),
        (models.AccountCode.id, models.AccountCode.expires_at < now - dt.timedelta(days=1)),
        (models.Invitation.token_hash, models.Invitation.expires_at < month),
        (models.DialogState.key, models.DialogState.updated_at < month),
        (models.ReferralTouch.visitor, models.ReferralTouch.at < core.now() - touched),
        (notice.id, notice.resolved_at < month),
        (models.ErrorRecord.fingerprint, models.ErrorRecord.last_at < now - errorbook.KEPT),
        (letter.id, letter.kind.in_(list(OFFERS)) & (letter.created_at < now - dt.timedelta(days=60))),
        (letter.id, letter.created_at < now - dt.timedelta(days=400)),
        (models.EndpointEvent.id, models.EndpointEvent.created_at < month),
        (lane.key, (lane.pending == 0) & lane.holder.is_(None) & (lane.waiting_since < kept.timestamp())),
    ]
    file, old = models.Attachment, now - dt.timedelta(days=core.settings.media.keep_days)
    rules.append(
        (
            models.AttachmentContent.attachment_id,
            models.AttachmentContent.attachment_id.in_(select(file.id).where(file.created_at < old)),
        )
    )
    # A deleted document that was kept for conversations alone, when none of them shows it any more.
    document = models.Document
    rules.append((document.id, (document.deleted_at < month) & ~documents.received(document.id)))
    # Looked for first, all at once: mostly there is nothing, and each slice waits for the place of the one writer.
    async with core.db.read() as session:
        due = [rule for rule in rules if await session.scalar(select(rule[0]).where(rule[1]).limit(1)) is not None]
    for key, condition in due:
        await core.db.delete_in_slices(key, condition, at_once=_SLICE)
    async with core.db.write() as session:
        await session.execute(update(file).where(file.status == "stored", file.created_at < old).values(status="gone"))
    await rotate_secrets(core)


SEALED: Sequence[tuple[Any, InstrumentedAttribute[Any]]] = (
    (models.Channel, models.Channel.credentials),
    (models.Bot, models.Bot.openai_key),
    (models.User, models.User.totp_secret),
    (models.Endpoint, models.Endpoint.secret),
)
"""What is kept for long and encrypted by the keys of ``ENCRYPTION_KEYS``."""


async def rotate_secrets(core: Core) -> None:
    """Encrypt anew with the first key what an older key encrypted, so that the old key can be taken away."""
    async with core.db.read() as session:
        sealed = [
            (model, column, (await session.execute(select(model.id, column).where(column.is_not(None)))).all())
            for model, column in SEALED
        ]
    for model, column, rows in sealed:
        for id_, token in rows:
            try:
                if core.crypto.is_current(str(token)):
                    continue
                fresh = core.crypto.rotate(str(token))
            except Undecryptable:
                continue
            async with core.db.write() as session:
                await session.execute(update(model).where(model.id == id_, column == token).values({column: fresh}))


# Room for deletions on a full disk


def reserve_file(core: Core) -> Path:
    """Return the file that holds the room, on the disk of SQLite's own file."""
    return Path(f"{core.db.url.database}-reserve")


def keep_reserve(core: Core) -> None:
    """Hold ``reserve_mib`` of SQLite's disk; where that would take more than half of what is left, a later call does."""
    place, size = reserve_file(core), core.settings.database.reserve_mib * 2**20
    try:
        if place.exists():
            if place.stat().st_size == size:
                return
            place.unlink()
        if not size:
            return
        free = shutil.disk_usage(place.parent).free
        if free < 2 * size:
            log.warning("disk_nearly_full", free_mib=free // 2**20)
            return
        with place.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        place.unlink(missing_ok=True)
        log.warning("reserve_not_made", reason=error.strerror)


def give_up_reserve(core: Core, error: DatabaseUnavailable) -> bool:
    """Make room for a deletion if ``error`` is SQLite's way to say that the disk is full; return whether to try it again.

    Only deletions may ask for it: what else comes in would use the room up and leave none to make more.
    """
    refusal = getattr(error.__cause__, "orig", None)
    if not isinstance(refusal, sqlite3.Error) or refusal.sqlite_errorcode & 0xFF not in _NO_ROOM:
        return False
    try:
        reserve_file(core).unlink()
        log.warning("reserve_given_up", help="the disk is full; more is kept free again when there is room")
    except FileNotFoundError:
        # Another deletion has just given it up for both, or there is none.
        pass
    return True


async def tell_owners(core: Core) -> None:
    """Deliver notices when the bell rings and every half minute, by mail and in Telegram."""
    async with core.bell.listen("notices", limit=1) as bell:
        while True:
            try:
                async with asyncio.timeout(NOTICES_EVERY_S):
                    await bell.get()
            except TimeoutError:
                pass
            try:
                await notices.mail(core)
                await notices.deliver(core)
                await support.deliver(core)
            except DatabaseUnavailable:
                log.warning("notices_not_delivered")


# One of many


def _lead(connection: Connection, key: str, holder: str, lease_s: float) -> bool:
    now = clock(connection.dialect.name)
    connection.execute(
        insert_for(connection.dialect.name, LANES)
        .values(
            key=key,
            kind="leader",
            owner_id="",
            share_id="",
            pending=0,
            waiting_since=0.0,
            run_at=0.0,
            lease_until=0.0,
            claim_no=0,
        )
        .on_conflict_do_nothing(index_elements=["key"])
    )
    result = connection.execute(
        update(LANES)
        .where(LANES.c.key == key, (LANES.c.lease_until < now) | (LANES.c.holder == holder))
        .values(holder=holder, lease_until=now + lease_s)
    )
    return bool(result.rowcount)


async def lead(core: Core, what: str) -> None:
    """Return when this process has become the one that does ``what``; then :func:`keep_leading` must run."""
    lease_s = core.settings.queue.lease_s
    while True:
        try:
            if await core.db.transact(_lead, f"leader:{what}", core.writer.holder, lease_s):
                return
        except DatabaseUnavailable:
            log.warning("leadership_not_asked", what=what)
        await asyncio.sleep(lease_s / 3)


def _resign(connection: Connection, key: str, holder: str) -> None:
    mine = update(LANES).where(LANES.c.key == key, LANES.c.holder == holder)
    connection.execute(mine.values(holder=None, lease_until=0.0))


async def resign(core: Core, what: str) -> None:
    """Give the leadership up, so that another process need not wait for the lease to run out."""
    try:
        async with asyncio.timeout(core.time_left(2)):
            await core.db.transact(_resign, f"leader:{what}", core.writer.holder)
    except (DatabaseUnavailable, TimeoutError):
        log.warning("leadership_not_given_up", what=what)


async def keep_leading(core: Core, what: str) -> None:
    """Hold the leadership; returns when it is lost."""
    lease_s = core.settings.queue.lease_s
    lost_after = asyncio.get_running_loop().time() + lease_s
    while asyncio.get_running_loop().time() < lost_after:
        await asyncio.sleep(lease_s / 3)
        try:
            if not await core.db.transact(_lead, f"leader:{what}", core.writer.holder, lease_s):
                return
            lost_after = asyncio.get_running_loop().time() + lease_s
        except DatabaseUnavailable:
            log.warning("leadership_not_renewed", what=what)
