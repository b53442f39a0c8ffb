"""Sending broadcasts: a step at a time, each one short transaction, so that nothing waits for 100,000 receivers.

A step chooses some hundreds of receivers, or puts as many messages into the outbox as may be on their way at once. What a step
did and that it was done is one commit: a process that dies leaves nobody out and writes to nobody twice. The outbox sends them
in lanes of their own, behind ordinary answers and within each network's limits.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, bindparam, func, select, update

from db import models
from db.base import insert_for, new_id, table_of, utcnow
from db.engine import DatabaseUnavailable, clock
from services import allowances, lanes, notices
from services.allowances import BOTS_BEFORE
from services.broadcasts import (
    BROADCAST,
    CHANNEL,
    CONTACT,
    DELIVERY,
    KINDS,
    MESSAGE,
    TALK,
    Audience,
    everybody,
    in_audience,
    language_of,
    left_out,
    outgoing,
    paused_key,
    shown,
)
from services.channels import WINDOWS
from services.channels.base import Outgoing
from services.conversations.records import RECENT_CHARS, RECENT_TURNS, Reply, outbox_rows
from services.days import at_time, today
from services.lanes import Line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

CHOSEN_AT_ONCE = 500
ON_THE_WAY = 100
"""So many messages of a broadcast are in the outbox at once: what still goes when it is paused."""
_STEP_S = 0.25
_IDLE_S = 10.0
_TROUBLE_S = 5.0
_AT_ONCE = 200
_SHOWN_EVERY_S = 1.0
"""So often open pages fetch how far it is; what changes more often would reach them only at the end."""
_BOT, _USER = table_of(models.Bot), table_of(models.User)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did.

    ``more`` can be done at once; ``moved``: there is something new to show, ``turned``: a new state; ``talks``: conversations in
    which something was said where the customer reads it here; ``told``: somebody is to hear of it; ``sends``: there is something
    to send.
    """

    more: bool = False
    moved: bool = False
    turned: bool = False
    talks: Sequence[str] = ()
    told: bool = False
    sends: bool = False


@dataclass(frozen=True, slots=True)
class _Standing:
    """The broadcast with its bot, and through which kinds of channel that may speak now; ``why`` not, if it may not at all."""

    row: Mapping[str, Any]
    bot: Mapping[str, Any]
    kinds: tuple[str, ...]
    why: str
    template: Mapping[str, Any] | None = field(default=None)


def _standing(connection: Connection, core: Core, row: Mapping[str, Any]) -> _Standing:
    bot = dict(
        connection.execute(
            select(
                _BOT.c.id,
                _BOT.c.owner_id,
                _BOT.c.name,
                _BOT.c.status,
                _BOT.c.languages,
                _BOT.c.deleted_at,
                _USER.c.banned_at,
                _USER.c.delete_at,
                _USER.c.role,
                _USER.c.created_at.label("owner_since"),
                _USER.c.trial_at,
                _USER.c.subscription_version,
                BOTS_BEFORE.label("bots_before"),
            )
            .join(_USER, _USER.c.id == _BOT.c.owner_id)
            .where(_BOT.c.id == row["bot_id"])
        )
        .mappings()
        .one()
    )
    terms = core.allowances.terms(connection, [bot])[bot["owner_id"]]
    silenced = {kind: terms.silences(kind, bot["bots_before"]) for kind in KINDS}
    kinds = tuple(kind for kind in KINDS if not silenced[kind])
    why = ""
    if bot["banned_at"] is not None or bot["deleted_at"] is not None:
        why = "banned"
    elif bot["status"] != "active":
        why = "bot"
    elif not kinds or {allowances.OVER, allowances.BOTS} & set(silenced.values()):
        why = "plan"
    return _Standing(row, bot, kinds, why, row["template"])


def step(connection: Connection, core: Core, broadcast_id: str) -> Step:
    """Do the next thing about a broadcast. Runs as one transaction, which may be repeated as a whole."""
    query = select(BROADCAST).where(BROADCAST.c.id == broadcast_id)
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    found = connection.execute(query).mappings().one_or_none()
    if found is None or found["status"] not in ("scheduled", "sending"):
        return Step()
    row = dict(found)
    it = _standing(connection, core, row)
    now = utcnow()
    if it.why:
        return _interrupted(connection, it, it.why, now)
    if row["status"] == "scheduled":
        _set(connection, row, status="sending", started_at=now, cursor="")
        return Step(more=True, moved=True, turned=True)
    if row["cursor"] is not None:
        return _choose(connection, it, now)
    settled = _settle(connection, it, now)
    on_the_way = connection.scalar(
        select(func.count()).where(DELIVERY.c.broadcast_id == row["id"], DELIVERY.c.status == "queued")
    )
    room = ON_THE_WAY - int(on_the_way or 0)
    if room <= 0:
        return Step(moved=settled)
    left = core.settings.broadcasts.receivers_per_day - _written_today(connection, it, now)
    waiting = _waiting(connection, it, min(room, left), now) if left > 0 else []
    if left <= 0 and _any_waiting(connection, row["id"]):
        _set(connection, row, run_at=_tomorrow(core, now))
        return Step(moved=True, turned=True)
    if any(_broken(each) for each in waiting):
        return _interrupted(connection, it, "channel", now)
    if waiting:
        return _write(connection, it, waiting, now)
    if not on_the_way:
        _set(connection, row, status="done", finished_at=now)
        return Step(moved=True, turned=True, told=_tell(connection, it, "broadcast_done"))
    return Step(moved=settled)


def _set(connection: Connection, row: Mapping[str, Any], **values: Any) -> None:
    if "status" in values:
        values["version"] = row["version"] + 1
    connection.execute(update(BROADCAST).where(BROADCAST.c.id == row["id"]).values(**values))


def _tell(connection: Connection, it: _Standing, kind: str) -> bool:
    params = {"bot": it.bot["name"], "title": it.row["title"], "broadcast": it.row["id"]}
    key = f"broadcast:{it.row['id']}" if kind == "broadcast_done" else paused_key(it.row["id"])
    notices.open_in(connection, [notices.Occurrence(it.bot["owner_id"], kind, key, it.bot["id"], params)])
    return True


def _interrupted(connection: Connection, it: _Standing, why: str, now: dt.datetime) -> Step:
    """The bot may not speak: it waits for somebody to mend that, or ends with the owner's account."""
    if why == "banned":
        _set(connection, it.row, status="stopped", reason=why, finished_at=now)
        return Step(moved=True, turned=True)
    _set(connection, it.row, status="paused", reason=why)
    return Step(moved=True, turned=True, told=_tell(connection, it, f"broadcast_{why}"))


def _choose(connection: Connection, it: _Standing, now: dt.datetime) -> Step:
    """Make rows for the next customers of the bot who are meant; those who are left out get one that says why."""
    row = it.row
    ids = connection.scalars(
        select(CONTACT.c.id)
        .where(CONTACT.c.bot_id == row["bot_id"], CONTACT.c.id > row["cursor"])
        .order_by(CONTACT.c.id)
        .limit(CHOSEN_AT_ONCE)
    ).all()
    if not ids:
        _set(connection, row, cursor=None)
        return Step(more=True, moved=True, turned=True)
    audience = Audience.of(row["audience"])
    began = row["started_at"] or now
    why = left_out(it.kinds, has_template=it.template is not None, now=now).label("why")
    meant = connection.execute(
        select(CONTACT.c.id, why)
        .select_from(everybody())
        .where(
            *in_audience(row["bot_id"], audience, it.bot["languages"][0], began),
            CONTACT.c.id > row["cursor"],
            CONTACT.c.id <= ids[-1],
        )
    ).all()
    if meant:
        connection.execute(
            insert_for(connection.dialect.name, DELIVERY).on_conflict_do_nothing(),
            [
                {
                    "broadcast_id": row["id"],
                    "contact_id": contact_id,
                    "status": "skipped" if reason else "waiting",
                    "reason": reason,
                    "changed_at": now,
                }
                for contact_id, reason in meant
            ],
        )
    _set(connection, row, cursor=ids[-1], chosen=row["chosen"] + len(meant))
    return Step(more=True, moved=True)


def _settle(connection: Connection, it: _Standing, now: dt.datetime) -> bool:
    """Note what became of those on their way; return whether anything did."""
    rows = connection.execute(
        select(
            DELIVERY.c.contact_id,
            MESSAGE.c.status,
            MESSAGE.c.error,
            CONTACT.c.unreachable_since,
            CHANNEL.c.external_id.label("account"),
        )
        .select_from(
            DELIVERY.join(CONTACT, CONTACT.c.id == DELIVERY.c.contact_id)
            .join(CHANNEL, CHANNEL.c.id == CONTACT.c.channel_id)
            .outerjoin(MESSAGE, MESSAGE.c.id == DELIVERY.c.message_id)
        )
        .where(DELIVERY.c.broadcast_id == it.row["id"], DELIVERY.c.status == "queued")
    ).all()
    changes = []
    for contact_id, status, error, unreachable, account in rows:
        became, reason = status, ""
        if status is None:
            became, reason = "unknown", "deleted"
        elif status == "queued" and account is None:
            # Disconnected meanwhile: what waited for it was thrown away.
            became, reason = "failed", "channel"
        elif status == "queued":
            continue
        elif status == "failed":
            reason = _reason(error or "", gone=unreachable is not None)
        elif status == "unknown":
            reason = "interrupted"
        else:
            became = "sent"
        changes.append({"p_contact": contact_id, "p_status": became, "p_reason": reason})
    _mark(connection, it.row["id"], changes, now)
    return bool(changes)


def _reason(error: str, *, gone: bool) -> str:
    if gone:
        return "unreachable"
    if error.startswith("the channel is") or error.startswith("the token"):
        return "channel"
    return "window" if error == "the customer has not written for too long" else "refused"


def _mark(connection: Connection, broadcast_id: str, changes: Sequence[dict[str, Any]], now: dt.datetime) -> None:
    if changes:
        connection.execute(
            update(DELIVERY)
            .where(DELIVERY.c.broadcast_id == broadcast_id, DELIVERY.c.contact_id == bindparam("p_contact"))
            .values(status=bindparam("p_status"), reason=bindparam("p_reason"), changed_at=now),
            list(changes),
        )


def _day(now: dt.datetime) -> str:
    return today(now).isoformat()


def _written_today(connection: Connection, it: _Standing, now: dt.datetime) -> int:
    """Return how many customers the owner's broadcasts were written to today."""
    own = select(_BOT.c.id).where(_BOT.c.owner_id == it.bot["owner_id"])
    written = select(func.sum(BROADCAST.c.day_count)).where(BROADCAST.c.bot_id.in_(own), BROADCAST.c.day == _day(now))
    return int(connection.scalar(written) or 0)


def _tomorrow(core: Core, now: dt.datetime) -> dt.datetime:
    """Return when the following day's share may go out: not while people sleep."""
    return at_time(today(now) + dt.timedelta(days=1), dt.time(core.settings.broadcasts.quiet_until))


def _any_waiting(connection: Connection, broadcast_id: str) -> bool:
    waiting = select(DELIVERY.c.contact_id).where(
        DELIVERY.c.broadcast_id == broadcast_id, DELIVERY.c.status == "waiting"
    )
    return connection.scalar(waiting.limit(1)) is not None


def _waiting(connection: Connection, it: _Standing, most: int, now: dt.datetime) -> list[Mapping[str, Any]]:
    """Return those who are next, each with ``why`` not, if something has changed since they were chosen."""
    why = left_out(it.kinds, has_template=it.template is not None, now=now).label("why")
    rows = connection.execute(
        select(
            DELIVERY.c.contact_id,
            CONTACT.c.external_id,
            CONTACT.c.language,
            TALK.c.id.label("talk_id"),
            TALK.c.last_inbound_at,
            CHANNEL.c.id.label("channel_id"),
            CHANNEL.c.kind,
            CHANNEL.c.status.label("channel_status"),
            CHANNEL.c.external_id.label("account"),
            why,
        )
        .select_from(everybody().join(DELIVERY, DELIVERY.c.contact_id == CONTACT.c.id))
        .where(DELIVERY.c.broadcast_id == it.row["id"], DELIVERY.c.status == "waiting")
        .order_by(DELIVERY.c.contact_id)
        .limit(most)
    )
    return [dict(row) for row in rows.mappings()]


def _broken(row: Mapping[str, Any]) -> bool:
    """Whether a receiver's channel has stopped working and can be mended."""
    return bool(row["why"] == "channel" and row["account"] is not None)


def _message(it: _Standing, row: Mapping[str, Any], now: dt.datetime) -> tuple[str, str, tuple[Outgoing, ...]]:
    """Return what a customer gets: the text as the conversation keeps it, its language, and what is sent."""
    languages = it.bot["languages"]
    written, window = row["last_inbound_at"], WINDOWS.get(row["kind"])
    if it.template is not None and row["kind"] == "whatsapp" and window is not None and written < now - window:
        text = str(it.template["text"])
        return text, language_of(row["language"], languages), (Outgoing(text, template=it.template["payload"]),)
    text, language = shown(it.row["texts"], language_of(row["language"], languages), languages)
    return text, language, outgoing(row["kind"], text, language)


def _write(connection: Connection, it: _Standing, waiting: Sequence[Mapping[str, Any]], now: dt.datetime) -> Step:
    """Write to those who are next: a message in each conversation and, but for the web, in the outbox."""
    broadcast_id, line = it.row["id"], Line("bulk", it.bot["owner_id"], it.bot["id"])
    changes: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    said: dict[str, str] = {}
    on_the_web: list[str] = []
    for row in waiting:
        if row["why"]:
            changes.append({"p_contact": row["contact_id"], "p_status": "skipped", "p_reason": row["why"]})
            continue
        text, language, parts = _message(it, row, now)
        reply = Reply(text, "system", parts, id=new_id())
        messages.append(
            {
                "id": reply.id,
                "conversation_id": row["talk_id"],
                "author": reply.author,
                "kind": "text",
                "text": text,
                "language": language,
                "status": "queued" if parts else "sent",
                "extra": {"broadcast": broadcast_id},
                "created_at": now,
            }
        )
        said[row["talk_id"]] = text
        became = "queued" if parts else "sent"
        if not parts:
            on_the_web.append(row["talk_id"])
        changes.append({"p_contact": row["contact_id"], "p_status": became, "p_reason": "", "p_message": reply.id})
        sent = outbox_rows(row["channel_id"], row["external_id"], reply, row["talk_id"], "", now)
        rows += [{**each, "lane": f"bulk{each['lane'].removeprefix('out')}"} for each in sent]
    lines = {row["lane"]: line for row in rows}
    # The lanes before the conversations, as the conveyor locks them.
    lanes.lock(connection, lines)
    _remember(connection, said)
    if messages:
        connection.execute(MESSAGE.insert(), messages)
    if rows:
        connection.execute(
            lanes.OUTBOX.insert(), [{"status": "queued", "attempts": 0, "unsure": False, **row} for row in rows]
        )
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["lane"]] = counts.get(row["lane"], 0) + 1
        lanes.add(connection, counts, lines, clock(connection.dialect.name))
    _mark(connection, broadcast_id, [each for each in changes if "p_message" not in each], now)
    written = [each for each in changes if "p_message" in each]
    if written:
        connection.execute(
            update(DELIVERY)
            .where(DELIVERY.c.broadcast_id == broadcast_id, DELIVERY.c.contact_id == bindparam("p_contact"))
            .values(
                status=bindparam("p_status"),
                reason=bindparam("p_reason"),
                message_id=bindparam("p_message"),
                changed_at=now,
            ),
            written,
        )
    today = _day(now)
    before = it.row["day_count"] if it.row["day"] == today else 0
    _set(connection, it.row, day=today, day_count=before + len(written))
    return Step(more=len(waiting) < ON_THE_WAY and not written, moved=True, talks=on_the_web, sends=bool(rows))


def _turn(text: str) -> str:
    """Return a broadcast as the bot remembers it; its end shows that it was one, see :mod:`services.conversations.optouts`."""
    return text if len(text) <= RECENT_CHARS else f"{text[: RECENT_CHARS - 7]}… /stop"


def _remember(connection: Connection, said: Mapping[str, str]) -> None:
    """Let the bot know in each conversation what it has said there."""
    if not said:
        return
    query = select(TALK.c.id, TALK.c.recent).where(TALK.c.id.in_(list(said))).order_by(TALK.c.id)
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    values = [
        {"p_id": id_, "p_recent": [*(recent or []), ["assistant", _turn(said[id_])]][-RECENT_TURNS:]}
        for id_, recent in connection.execute(query)
    ]
    connection.execute(update(TALK).where(TALK.c.id == bindparam("p_id")).values(recent=bindparam("p_recent")), values)


async def _due(core: Core) -> list[tuple[str, str]]:
    """Return the broadcasts that something is to be done about now, with their bots: one a bot, the one that is under way."""
    one, now = BROADCAST.c, utcnow()
    async with core.db.read() as session:
        rows = (
            await session.execute(
                select(one.id, one.bot_id, one.status, one.run_at)
                .where(one.status.in_(("scheduled", "sending")), one.run_at.is_not(None))
                .order_by(one.run_at, one.id)
                .limit(_AT_ONCE)
            )
        ).all()
    under_way = {bot_id for _, bot_id, status, _ in rows if status == "sending"}
    due: dict[str, str] = {}
    for id_, bot_id, status, run_at in rows:
        # What goes on tomorrow keeps its turn.
        if run_at <= now and (status == "sending" or bot_id not in under_way):
            due.setdefault(bot_id, id_)
    return [(id_, bot_id) for bot_id, id_ in due.items()]


async def work(core: Core, shown: dict[str, float]) -> bool:
    """Do one step of everything that is due; return whether more can be done at once.

    ``shown``: when open pages were last told of each bot's broadcast. Raises :class:`DatabaseUnavailable`.
    """
    more = False
    for broadcast_id, bot_id in await _due(core):
        try:
            done: Step = await core.db.transact(step, core, broadcast_id)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            # One that cannot be sent holds up no other; it is tried again with the next round.
            log.error("broadcast_step_failed", broadcast=broadcast_id, exc_info=error)
            continue
        await core.pause("broadcast_step")
        more = more or done.more
        if done.sends:
            core.bell.ring("bulk")
        if done.told:
            core.bell.ring("notices")
        for talk_id in done.talks:
            core.ring_talk(bot_id, talk_id)
        if done.turned or (done.moved and time.monotonic() - shown.get(bot_id, 0.0) >= _SHOWN_EVERY_S):
            shown[bot_id] = time.monotonic()
            core.bell.ring(f"bot:{bot_id}", {"broadcast": broadcast_id})
    return more


async def run(core: Core) -> None:
    """See to broadcasts until cancelled."""
    shown: dict[str, float] = {}
    async with core.bell.listen("broadcasts", limit=1) as bell:
        while True:
            try:
                under_way = bool(await _due(core))
                more = await work(core, shown) if under_way else False
                if not under_way:
                    shown.clear()
                pause_s = 0.0 if more else _STEP_S if under_way else _IDLE_S
            except DatabaseUnavailable:
                log.warning("broadcasts_not_seen_to")
                pause_s = _TROUBLE_S
            try:
                async with asyncio.timeout(pause_s or 0.001):
                    await bell.get()
            except TimeoutError:
                pass
