"""The outbox: send under the network's limits, retry what may be retried, mark what became of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import Connection, bindparam, or_, select, update

from db import direct, models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services import lanes, metrics, notices, outfiles, pressure
from services.channels import window_of
from services.channels.base import (
    AnotherConsumer,
    Away,
    Blocked,
    Moved,
    Outgoing,
    PairLimited,
    Throttled,
    TokenRefused,
    Unreachable,
    WindowClosed,
)
from services.channels.telegram import is_group, place_of
from services.conversations.records import BOT, CHANNEL, CONTACT, MESSAGE, LostLane, move_contact
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary
from services.lanes import Claimed, Release
from services.pauses import backoff_s, database_pause_s
from services.text import clean
from services.writer import Operation, Scope

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_AWAY_PAUSE_S = 30.0
_TROUBLE_PAUSE_S = 300.0
_REPLIES_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one item.

    ``status``: ``sent``, ``failed``, ``unknown``, or ``queued`` to try again after ``delay_s``. ``counts`` tells whether the
    attempt counts (being asked to wait does not). ``unsure``: a process died while sending it. ``moved_to``: the
    chat's new id. ``lost_as``: the kind of ``notice`` that the owner hears of a lost answer. ``withdrawn``: the owner took back
    what was to be sent; the rest of the message is none the worse.
    """

    claim: Claimed
    status: str
    external_id: str = ""
    error: str | None = None
    delay_s: float = 0.0
    counts: bool = True
    unsure: bool = False
    gone: bool = False
    moved_to: str | None = None
    lost_as: str = "send_failed"
    withdrawn: bool = False
    notice: notices.Occurrence | None = None


_MARKING = (
    update(lanes.OUTBOX)
    .where(lanes.OUTBOX.c.id == bindparam("p_id"))
    .values(
        status=bindparam("p_status"),
        external_id=bindparam("p_external"),
        error=bindparam("p_error"),
        attempts=bindparam("p_attempts"),
        unsure=bindparam("p_unsure"),
        begun=False,
        recipient=bindparam("p_recipient"),
    )
)
# A later part of a long answer must not turn a failure of an earlier one into "sent". Not IN: many rows at once cannot have it.
_DELIVERED = (
    update(MESSAGE)
    .where(MESSAGE.c.id == bindparam("p_id"), or_(MESSAGE.c.status == "queued", MESSAGE.c.status == "sent"))
    .values(status=bindparam("p_status"), external_id=bindparam("p_external"), error=bindparam("p_error"))
)


def _mark(connection: Connection, scope: Scope, items: Sequence[Sent]) -> list[bool | Exception]:
    releases = [Release(item.claim, 0 if item.status == "queued" else 1, item.delay_s) for item in items]
    held = lanes.release(connection, scope.holder, releases, scope.now)
    results: list[bool | Exception] = []
    rows: list[dict[str, Any]] = []
    delivered: list[dict[str, Any]] = []
    occurrences: list[notices.Occurrence] = []
    for item in items:
        if item.claim.key not in held:
            results.append(LostLane(item.claim.key))
            continue
        row = item.claim.items[0]
        error = clean(item.error, 300) if item.error else None
        again = item.status == "queued"
        # Whether there is more to send at once.
        results.append(not item.delay_s if again else held[item.claim.key] > 0)
        rows.append(
            {
                "p_id": row["id"],
                "p_status": item.status,
                "p_external": item.external_id or row["external_id"],
                "p_error": error,
                "p_attempts": row["attempts"] + (1 if item.counts else 0),
                "p_unsure": item.unsure or row["unsure"],
                "p_recipient": item.moved_to or row["recipient"],
            }
        )
        if not again and row["message_id"] and not item.withdrawn:
            delivered.append(
                {
                    "p_id": row["message_id"],
                    "p_status": item.status,
                    "p_external": item.external_id or None,
                    "p_error": error,
                }
            )
        if item.gone:
            connection.execute(
                update(CONTACT)
                .where(CONTACT.c.channel_id == row["channel_id"], CONTACT.c.external_id == row["recipient"])
                .values(unreachable_since=utcnow())
            )
        if item.moved_to:
            move_contact(connection, row["channel_id"], row["recipient"], item.moved_to)
        if item.notice is not None:
            occurrences.append(item.notice)
    if rows:
        direct.change(connection, _MARKING, rows)
    if delivered:
        direct.change(connection, _DELIVERED, delivered)
    notices.open_in(connection, occurrences)
    return results


# No customer waits for it, but for the next part of the same answer: it may share the commit of what somebody waits for.
MARK: Operation[Sent, bool] = Operation("sent", 20, _mark, lambda item: lanes.touched(item.claim), patience_s=0.01)


def _begin(connection: Connection, scope: Scope, items: Sequence[Claimed]) -> list[Exception | None]:
    held = lanes.ours(connection, scope.holder, items)
    ids = [item.items[0]["id"] for item in items if item.key in held]
    if ids:
        connection.execute(update(lanes.OUTBOX).where(lanes.OUTBOX.c.id.in_(ids)).values(begun=True))
    return [None if item.key in held else LostLane(item.key) for item in items]


# Durable before it leaves us: whoever finds it so after a crash knows that it may have arrived.
BEGIN: Operation[Claimed, None] = Operation("begin", 19, _begin, lanes.touched)


class NotBegun(asyncio.CancelledError):
    """Cancelled while waiting for its turn: nothing has left us."""


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """What sending needs of a channel."""

    id: str
    kind: str
    bot_id: str | None
    credentials: str | None
    status: str
    owner_id: str
    bot_name: str


_CHANNELS = (
    select(
        CHANNEL.c.id,
        CHANNEL.c.kind,
        CHANNEL.c.bot_id,
        CHANNEL.c.credentials,
        CHANNEL.c.status,
        BOT.c.owner_id,
        BOT.c.name,
    )
    .outerjoin(BOT, BOT.c.id == CHANNEL.c.bot_id)
    .where(CHANNEL.c.id.in_(bindparam("p_ids", expanding=True)))
)


def channel_keys(connection: Connection, ids: Sequence[str]) -> dict[str, ChannelKeys]:
    """Read the channels that claimed items go through."""
    rows = direct.rows(connection, _CHANNELS, {"p_ids": sorted(set(ids))})
    return {
        row.id: ChannelKeys(
            row.id, row.kind, row.bot_id, row.credentials, row.status, row.owner_id or "", row.name or ""
        )
        for row in rows
    }


class Sender:
    """Sends claimed items. Knows which bots were told to wait."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._bot_rests_until: dict[str, float] = {}
        self._chat_limited: dict[str, tuple[str, float]] = {}

    async def send(self, claim: Claimed, channel: ChannelKeys | None) -> Sent:
        """Send the lane's first item; returns what to record.

        Raises :class:`NotBegun` when it is cancelled before anything left; otherwise only a programming error raises.
        """
        item = claim.items[0]
        if channel is None or channel.credentials is None:
            return Sent(claim, "failed", error="the channel is gone")
        if channel.status in ("refused", "unreadable", "blocked"):
            return Sent(claim, "failed", error=f"the channel is {channel.status}")
        unsure = False
        if item["status"] == "sending":
            if item["begun"]:
                # Nobody asked for it: better never than twice.
                return Sent(claim, "unknown", error="interrupted while being sent", unsure=True)
            # A process died with this in hand: nobody knows whether it was sent. Once more, never twice.
            if item["unsure"] and not is_bulk(claim):
                return Sent(claim, "unknown", error="interrupted twice while being sent")
            unsure = not is_bulk(claim)
        try:
            credentials = self._core.credentials(channel.credentials)
        except Undecryptable:
            await self._core.channel_failed(channel.id, "unreadable", "the token cannot be decrypted")
            return Sent(claim, "failed", error="the token cannot be decrypted", unsure=unsure)
        pause = self._bot_rests_until.get(channel.id, 0.0) - time.monotonic()
        if pause > 0:
            return Sent(claim, "queued", delay_s=pause, counts=False, unsure=unsure)
        message = Outgoing.from_payload(orjson.loads(item["payload"]), item["message_id"] or "")
        try:
            if message.comment and not await self._may_reply(channel):
                return Sent(claim, "queued", delay_s=_REPLIES_PAUSE_S, counts=False, unsure=unsure)
            free = message.comment or message.template is not None
            window = window_of(channel.kind, item["recipient"]) if not free else None
            written = await self._written(item) if window is not None else None
            if window is not None and written is not None and written >= window:
                message = replace(message, late=True)
                if written >= (window_of(channel.kind, item["recipient"], person=message.person) or window):
                    reason = "the customer has not written for too long"
                    return Sent(claim, "failed", error=reason, unsure=unsure, lost_as="window_closed")
            rest_s = await pressure.heed(self._core, channel.id, channel.kind, credentials)
            if rest_s > 0:
                self._bot_rests_until[channel.id] = time.monotonic() + rest_s
                return Sent(claim, "queued", delay_s=rest_s, counts=False, unsure=unsure)
            await self._pace(claim, channel)
            if message.file is not None:
                # Only now, so that nothing large is held while it waits for its turn.
                file = await outfiles.loaded(self._core, message.file, item["message_id"], channel.kind, channel.bot_id)
                if file is None:
                    taken_back = await outfiles.withdraw(self._core, message.file)
                    return Sent(claim, "failed", error="the file is gone", unsure=unsure, withdrawn=taken_back)
                message = outfiles.with_file(channel.kind, message, file)
            if is_bulk(claim):
                await self._core.writer.submit(BEGIN, claim)
        except DatabaseUnavailable:
            return Sent(claim, "queued", delay_s=database_pause_s(), counts=False, unsure=unsure)
        except asyncio.CancelledError:
            raise NotBegun from None
        try:
            return await self._transmit(claim, channel, credentials, message, unsure)
        except Moved as error:
            moved_to = error.recipient
        # Once at the new place; sent on from there too, it waits like everything that fails.
        try:
            result = await self._transmit(claim, channel, credentials, message, unsure, moved_to)
        except Moved as error:
            moved_to = error.recipient
            result = self._later(claim, channel, Temporary("the chat moved again"), unsure)
        return replace(result, moved_to=moved_to)

    async def _may_reply(self, channel: ChannelKeys) -> bool:
        """Whether one more comment may be answered now."""
        return await self._core.limits.hit(
            f"replies:{channel.id}", self._core.settings.meta.private_replies_per_hour, 3600
        )

    async def _written(self, item: Mapping[str, Any]) -> dt.timedelta | None:
        """Return how long ago the customer wrote; None where it belongs to no talk."""
        if not item["conversation_id"]:
            return None
        async with self._core.db.read() as session:
            written = await session.scalar(
                select(models.Conversation.last_inbound_at).where(models.Conversation.id == item["conversation_id"])
            )
        return dt.timedelta.max if written is None else utcnow() - written

    async def _pace(self, claim: Claimed, channel: ChannelKeys) -> None:
        """Wait until the network's limits allow one more message: to this chat, in bulk, from this bot."""
        limits, recipient = self._core.limits, claim.items[0]["recipient"]
        if channel.kind == "whatsapp":
            meta = self._core.settings.meta
            await limits.pace(f"chat:{channel.id}:{recipient}", meta.chat_messages_per_minute / 60, meta.chat_burst)
            await self._pace_bulk(claim, channel, meta.messages_per_second * meta.bulk_share)
            await limits.pace(f"bot:{channel.id}", meta.messages_per_second, meta.messages_per_second)
        if channel.kind == "instagram":
            rate = self._core.settings.meta.messages_per_second
            await self._pace_bulk(claim, channel, rate * self._core.settings.meta.bulk_share)
            await limits.pace(f"bot:{channel.id}", rate, rate)
        settings = self._core.settings.telegram
        if channel.kind == "telegram":
            rate = settings.messages_per_second
            if is_group(recipient):
                # Whatever a burst lets through at once comes off the pace: together they stay within a minute's share.
                share = settings.group_messages_per_minute
                burst = min(settings.chat_burst, share / 2)
                # All topics of a group share it.
                recipient = place_of(recipient).chat
                await limits.pace(f"group:{channel.id}:{recipient}", (share - burst) / 60, burst)
            await limits.pace(f"chat:{channel.id}:{recipient}", settings.chat_messages_per_second, settings.chat_burst)
            await self._pace_bulk(claim, channel, rate * settings.bulk_share)
            await limits.pace(f"bot:{channel.id}", rate, max(1.0, rate))

    async def _pace_bulk(self, claim: Claimed, channel: ChannelKeys, rate: float) -> None:
        """Leave ordinary messages their share of what may be sent in a second."""
        if is_bulk(claim):
            await self._core.limits.pace(f"bulk:{channel.id}", rate, max(1.0, rate))

    async def _transmit(
        self,
        claim: Claimed,
        channel: ChannelKeys,
        credentials: Mapping[str, str],
        message: Outgoing,
        unsure: bool,
        moved_to: str | None = None,
    ) -> Sent:
        recipient = moved_to or claim.items[0]["recipient"]
        try:
            external_id = await self._core.channels[channel.kind].send(credentials, recipient, message)
        except Moved:
            # Not a failure yet: the caller knows whether it was sent on before.
            raise
        except Unreachable as error:
            metrics.SENT.labels(channel.kind, "unreachable").inc()
            return Sent(claim, "failed", error=str(error), gone=True, unsure=unsure)
        except TokenRefused as error:
            await self._core.channel_failed(channel.id, "refused", str(error))
            metrics.SENT.labels(channel.kind, "refused").inc()
            return Sent(claim, "failed", error=str(error), unsure=unsure)
        except Blocked as error:
            await self._core.channel_failed(channel.id, "blocked", str(error))
            metrics.SENT.labels(channel.kind, "refused").inc()
            return Sent(claim, "failed", error=str(error), unsure=unsure)
        except WindowClosed as error:
            metrics.SENT.labels(channel.kind, "failed").inc()
            return Sent(claim, "failed", error=str(error), unsure=unsure, lost_as="window_closed")
        except AnotherConsumer as error:
            return Sent(claim, "failed", error=str(error), unsure=unsure)
        except Temporary as error:
            return self._later(claim, channel, error, unsure)
        except Permanent as error:
            log.error("send_refused", channel=channel.id, reason=str(error))
            metrics.SENT.labels(channel.kind, "failed").inc()
            return Sent(claim, "failed", error=str(error), unsure=unsure)
        metrics.SENT.labels(channel.kind, "sent").inc()
        return Sent(claim, "sent", external_id, unsure=unsure)

    def _later(self, claim: Claimed, channel: ChannelKeys, error: Temporary, unsure: bool) -> Sent:
        item = claim.items[0]
        if error.sent:
            # It left us and no answer came: it may be there. Repeating could show it twice.
            log.warning("send_unknown", channel=channel.id, reason=str(error))
            metrics.SENT.labels(channel.kind, "unknown").inc()
            return Sent(claim, "unknown", error=str(error), unsure=True)
        if error.retry_after_s is not None:
            self._told_to_wait(channel.id, item["recipient"], error.retry_after_s)
            metrics.SENT.labels(channel.kind, "waited").inc()
            return Sent(
                claim, "queued", error=str(error), delay_s=error.retry_after_s + 0.1, counts=False, unsure=unsure
            )
        if utcnow() - item["created_at"] > dt.timedelta(hours=self._core.settings.queue.max_age_h):
            metrics.SENT.labels(channel.kind, "failed").inc()
            return Sent(claim, "failed", error=str(error), unsure=unsure)
        metrics.SENT.labels(channel.kind, "retried").inc()
        if isinstance(error, PairLimited):
            pause = min(4.0 ** min(item["attempts"] + 1, 10), _TROUBLE_PAUSE_S)
            return Sent(claim, "queued", error=str(error), delay_s=pause, unsure=unsure)
        # Nothing left us: looking whether the network is back costs nobody anything, so answers need not wait long for it.
        most = _AWAY_PAUSE_S if isinstance(error, Away) else _TROUBLE_PAUSE_S
        pause = backoff_s(item["attempts"] + 1, first=2.0, most=most)
        if isinstance(error, Throttled):
            self._bot_rests_until[channel.id] = time.monotonic() + pause
        return Sent(claim, "queued", error=str(error), delay_s=pause, unsure=unsure)

    def _told_to_wait(self, channel_id: str, chat: str, seconds: float) -> None:
        """One limited chat rests alone; a second one at the same time means that the whole bot has to."""
        now = time.monotonic()
        self._core.limits.rest(f"chat:{channel_id}:{chat}", seconds)
        other = self._chat_limited.get(channel_id)
        if other is not None and other[0] != chat and other[1] > now:
            self._bot_rests_until[channel_id] = now + seconds
            self._core.limits.rest(f"bot:{channel_id}", seconds)
            log.warning("bot_told_to_wait", channel=channel_id, seconds=seconds)
        self._chat_limited[channel_id] = (chat, now + seconds)


def is_bulk(claim: Claimed) -> bool:
    """Whether what is sent is part of a broadcast."""
    return claim.key.startswith("bulk:")


def with_notice(result: Sent, channel: ChannelKeys | None) -> Sent:
    """Add what the owner hears where an answer was lost; of a customer who cannot be written to there is nothing to mend.

    A broadcast has a report of its own.
    """
    lost = result.status in ("failed", "unknown") and not result.gone and not result.withdrawn
    lost = lost and not is_bulk(result.claim)
    if not lost or channel is None or not channel.bot_id:
        return result
    params = {"bot": channel.bot_name, "conversation": result.claim.items[0]["conversation_id"] or ""}
    key = notices.lost_key(result.lost_as, channel.id)
    notice = notices.Occurrence(channel.owner_id, result.lost_as, key, channel.bot_id, params)
    return replace(result, notice=notice)


def report(core: Core, result: Sent) -> None:
    """Wake what tells an owner that an item was lost, and show it where the talk is open."""
    if result.notice is not None:
        core.bell.ring("notices")
        core.ring_talk(result.notice.bot_id or "", result.claim.items[0]["conversation_id"])


def _give_back(connection: Connection, scope: Scope, items: Sequence[Claimed]) -> list[Exception | None]:
    """Give items back that were not begun (the process stops)."""
    held = lanes.release(connection, scope.holder, [Release(item, 0) for item in items], scope.now)
    ids = [item.items[0]["id"] for item in items if item.key in held]
    if ids:
        connection.execute(
            update(lanes.OUTBOX)
            .where(lanes.OUTBOX.c.id.in_(ids))
            .values(status="queued", attempts=lanes.OUTBOX.c.attempts - 1, begun=False)
        )
    return [None] * len(items)


GIVE_BACK: Operation[Claimed, None] = Operation("give_back", 21, _give_back, lanes.touched)
