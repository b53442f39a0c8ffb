"""How the installation is: queues, slow bots, broken channels, what was set aside, jobs by the clock, room on the disk."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import shutil
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    String,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from db import models
from db.base import first_id
from db.engine import Database, clock
from services import bots, lanes, upkeep
from services.days import midnight, today
from services.errors import Conflict, NotFound
from services.i18n import T
from services.lanes import Line
from services.settings import ROOT

if TYPE_CHECKING:
    from services.core import Core

QUEUES = ("inbox", "outbox", "bulk", "jobs")
PAGE = 20
AT_ONCE = 100
"""So many of what was set aside are tried again by one press."""
MESSAGES_LOOKED_AT = 4000
"""Of so many messages of a day, the latest, it is reckoned which bots are slow."""
_SLOW_SHOWN = 10
_CHANNELS_SHOWN = 50
_DEAD: ColumnElement[str] = literal_column("'dead'")
"""Word for word as the partial indexes say it, or SQLite does not take them."""
_NAME_ALONE = load_only(models.Bot.name, raiseload=True)


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue: open items, in how many lanes, and since when the longest-waiting lane waits (None: none does)."""

    kind: str
    items: int
    lanes: int
    oldest: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Slow:
    """A bot's answers of today: 95 of 100 came within ``p95_s`` seconds."""

    bot: models.Bot
    answers: int
    p95_s: float


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message or job that was given up. ``can_retry``: what it needs is still there."""

    id: int
    kind: str
    bot: models.Bot | None
    error: str
    at: dt.datetime
    can_retry: bool


@dataclass(frozen=True, slots=True)
class Due:
    """A kind of job by the clock; ``state`` of its last run: ``new`` (waiting or running), ``done``, ``dead``, empty: never."""

    kind: str
    last_at: dt.datetime | None
    state: str
    next_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: of the database, and left on the data folder's disk."""

    database: int
    free: int
    total: int


@cache
def version() -> str:
    """Return the program's version."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return str(facts["project"]["version"])


async def depths(session: AsyncSession) -> list[Depth]:
    """Return how full each queue is."""
    row = models.Lane
    found = await session.execute(
        select(row.kind, func.sum(row.pending), func.count(), func.min(row.waiting_since))
        .where(row.pending > 0)
        .group_by(row.kind)
    )
    known = {kind: (int(items), int(count), since) for kind, items, count, since in found}
    return [
        Depth(kind, items, count, dt.datetime.fromtimestamp(since, dt.UTC) if since else None)
        for kind in QUEUES
        for items, count, since in [known.get(kind, (0, 0, 0.0))]
    ]


async def slow(session: AsyncSession, now: dt.datetime) -> list[Slow]:
    """Return the bots that answered most slowly since Tashkent's midnight, by the latest messages of all bots."""
    message, talk = models.Message, models.Conversation
    # Plain numbers of so many rows: moments would take longer to make than all the rest.
    at: ColumnElement[Any] = cast(func.extract("epoch", message.created_at), Double)
    if session.get_bind().dialect.name == "sqlite":
        at = type_coerce(message.created_at, BigInteger) / 1_000_000.0
    latest = (
        select(message.conversation_id, message.author, at)
        .where(message.id >= first_id(midnight(today(now))), message.author.in_(("customer", "bot")))
        .order_by(message.id.desc())
        .limit(MESSAGES_LOOKED_AT)
    )
    asked: dict[str, float] = {}
    took: dict[str, list[float]] = defaultdict(list)
    for talk_id, author, moment in reversed((await session.execute(latest)).all()):
        if author == "customer":
            asked.setdefault(talk_id, moment)
        elif (since := asked.pop(talk_id, None)) is not None:
            took[talk_id].append(max(0.0, moment - since))
    waits: dict[str, list[float]] = defaultdict(list)
    for talk_id, bot_id in await session.execute(select(talk.id, talk.bot_id).where(talk.id.in_(took))):
        waits[bot_id] += took[talk_id]
    measured = {bot_id: (_p95(each), len(each)) for bot_id, each in waits.items()}
    slowest = sorted(measured, key=lambda bot_id: measured[bot_id], reverse=True)[:_SLOW_SHOWN]
    named = {bot.id: bot for bot in await session.scalars(select(models.Bot).where(models.Bot.id.in_(slowest)))}
    return [Slow(named[key], measured[key][1], measured[key][0]) for key in slowest if key in named]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


async def failing(session: AsyncSession) -> list[tuple[models.Channel, models.Bot, models.User]]:
    """Return the channels that stand still until somebody does something, with their bots and whose they are."""
    channel, bot, owner = models.Channel, models.Bot, models.User
    rows = await session.execute(
        select(channel, bot, owner)
        .join(bot, bot.id == channel.bot_id)
        .join(owner, owner.id == bot.owner_id)
        .where(channel.status.in_(bots.BROKEN), bot.deleted_at.is_(None))
        .order_by(channel.id.desc())
        .limit(_CHANNELS_SHOWN)
    )
    return [(broken, of, whose) for broken, of, whose in rows]


async def messages(session: AsyncSession, before: int | None = None) -> tuple[list[SetAside], int | None]:
    """Return messages that were set aside, the latest first, and where the following part begins."""
    item, channel, bot = models.InboxItem, models.Channel, models.Bot
    query = (
        select(item.id, channel.kind, bot, item.error, item.received_at, item.payload != "")
        .outerjoin(channel, channel.id == item.channel_id)
        .outerjoin(bot, bot.id == channel.bot_id)
        .options(_NAME_ALONE)
        .where(item.status == _DEAD)
        .order_by(item.id.desc())
        .limit(PAGE + 1)
    )
    rows = (await session.execute(query if before is None else query.where(item.id < before))).all()
    found = [
        SetAside(id_, kind or "", owner, error or "", at, whole and owner is not None)
        for id_, kind, owner, error, at, whole in rows
    ]
    return found[:PAGE], found[PAGE - 1].id if len(found) > PAGE else None


async def set_aside(session: AsyncSession) -> tuple[int, int]:
    """Return how many messages and how many jobs were given up and wait for an administrator."""
    counts = (select(func.count()).where(row.status == _DEAD) for row in (models.InboxItem, models.Job))
    messages_, jobs_ = [await session.scalar(count) for count in counts]
    return int(messages_ or 0), int(jobs_ or 0)


async def dead_jobs(session: AsyncSession, before: int | None = None) -> tuple[list[SetAside], int | None]:
    """Return jobs that were given up, the latest first, and where the following part begins."""
    job, bot, lane = models.Job, models.Bot, models.Lane
    query = (
        select(job.id, job.kind, job.error, job.finished_at, job.created_at, bot)
        .outerjoin(lane, lane.key == job.lane)
        .outerjoin(bot, bot.id == lane.share_id)
        .options(_NAME_ALONE)
        .where(job.status == _DEAD)
        .order_by(job.id.desc())
        .limit(PAGE + 1)
    )
    rows = (await session.execute(query if before is None else query.where(job.id < before))).all()
    found = [
        SetAside(id_, kind, about, error or "", ended or made, True) for id_, kind, error, ended, made, about in rows
    ]
    return found[:PAGE], found[PAGE - 1].id if len(found) > PAGE else None


async def due(session: AsyncSession, now: dt.datetime) -> list[Due]:
    """Return the jobs by the clock, with their last and next runs."""
    job, triggers = models.Job, upkeep.triggers()
    # The keys end with the hour that was due: the last of them in their order is the newest.
    newest = [
        select(literal(kind, String).label("due"), job.created_at, job.finished_at, job.status)
        .where(job.unique_key >= f"{kind}:", job.unique_key < f"{kind};")
        .order_by(job.unique_key.desc())
        .limit(1)
        .subquery()
        for kind in triggers
    ]
    rows = {row.due: row for row in await session.execute(union_all(*(select(each) for each in newest)))}
    found = []
    for kind, trigger in triggers.items():
        last = rows.get(kind)
        at = (last.finished_at or last.created_at) if last else None
        found.append(Due(kind, at, last.status if last else "", trigger.get_next_fire_time(None, now)))
    return found


async def room(core: Core) -> Room:
    """Return how large the database is, and how much the disk has left."""
    folder = core.settings.data_dir
    disk = await asyncio.to_thread(shutil.disk_usage, folder)
    if core.db.is_sqlite:
        size = await asyncio.to_thread(_file_size, core.db)
    else:
        async with core.db.read() as session:
            size = int(await session.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    return Room(size, disk.free, disk.total)


def _file_size(db: Database) -> int:
    files = [Path(f"{db.url.database}{end}") for end in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


# What was set aside, once more or never


async def retry_message(session: AsyncSession, item_id: int) -> None:
    """Put a message back into its lane, before all that came after it; raises ``NotFound`` or ``Conflict``."""
    item = await _dead(session, models.InboxItem, item_id)
    if not item.payload:
        raise Conflict(T("What was written to the product’s own bot is not kept, so it cannot be tried again."))
    known = await session.get(models.Lane, item.lane)
    if known is not None:
        line = Line("inbox", known.owner_id, known.share_id)
    else:
        channel = await session.get(models.Channel, item.channel_id)
        bot = await session.get(models.Bot, channel.bot_id) if channel is not None and channel.bot_id else None
        if bot is None or bot.deleted_at is not None:
            raise Conflict(T("The bot that this was for is deleted."))
        line = Line("inbox", bot.owner_id, bot.id)
    await _put_back(session, models.InboxItem, item_id, item.lane, line)
    message, talk = models.Message, models.Conversation
    await session.execute(
        update(message)
        .where(
            message.external_id == item.external_id,
            message.author == "customer",
            message.status == "failed",
            message.conversation_id.in_(select(talk.id).where(talk.channel_id == item.channel_id)),
        )
        .values(status="received", error=None)
    )


async def oldest(session: AsyncSession, kind: str) -> Sequence[int]:
    """Return the first :data:`AT_ONCE` that were set aside and can be tried again; ``kind``: ``message`` or ``job``."""
    if kind == "job":
        query = select(models.Job.id).where(models.Job.status == _DEAD)
        return (await session.scalars(query.order_by(models.Job.id).limit(AT_ONCE))).all()
    item, channel, bot = models.InboxItem, models.Channel, models.Bot
    query = (
        select(item.id)
        .join(channel, channel.id == item.channel_id)
        .join(bot, bot.id == channel.bot_id)
        .where(item.status == _DEAD, item.payload != "", bot.deleted_at.is_(None))
    )
    return (await session.scalars(query.order_by(item.id).limit(AT_ONCE))).all()


async def retry_job(session: AsyncSession, job_id: int) -> str:
    """Put a job back into its lane and return its kind; raises ``NotFound``."""
    job = await _dead(session, models.Job, job_id)
    known = await session.get(models.Lane, job.lane)
    line = Line("jobs", known.owner_id, known.share_id) if known is not None else Line("jobs", "", "")
    await _put_back(session, models.Job, job_id, job.lane, line)
    return str(job.kind)


async def discard_message(session: AsyncSession, item_id: int) -> None:
    """Mark a message as one that nobody will look at again; raises ``NotFound``."""
    await _close(session, models.InboxItem, item_id, {"payload": ""})


async def discard_job(session: AsyncSession, job_id: int) -> str:
    """Mark a job as given up for good and return its kind; raises ``NotFound``."""
    job = await _dead(session, models.Job, job_id)
    await _close(session, models.Job, job_id, {"payload": {}})
    return str(job.kind)


async def _dead(session: AsyncSession, model: Any, id_: int) -> Any:
    found = await session.get(model, id_)
    if found is None or found.status != "dead":
        raise NotFound(T("This is not set aside any more. Load the page again."))
    return found


async def _close(session: AsyncSession, model: Any, id_: int, values: dict[str, Any]) -> None:
    closed = update(model).where(model.id == id_, model.status == "dead").values(status="done", **values)
    if await session.scalar(closed.returning(model.id)) is None:
        raise NotFound(T("This is not set aside any more. Load the page again."))


async def _put_back(session: AsyncSession, model: Any, id_: int, lane: str, line: Line) -> None:
    connection = await session.connection()
    await connection.run_sync(_reopen, model, id_, lane, line)


def _reopen(connection: Connection, model: Any, id_: int, lane: str, line: Line) -> None:
    lanes.lock(connection, {lane: line})
    values: dict[str, Any] = {"status": "new", "attempts": 0, "failures": 0, "error": None}
    if model is models.Job:
        values["finished_at"] = None
    reopened = connection.execute(
        update(model).where(model.id == id_, model.status == "dead").values(values).returning(model.id)
    ).scalar_one_or_none()
    if reopened is None:
        raise NotFound(T("This is not set aside any more. Load the page again."))
    lanes.add(connection, {lane: 1}, {lane: line}, clock(connection.dialect.name))
