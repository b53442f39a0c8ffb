"""The inbox: updates are stored, then acknowledged; a second delivery changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, Executable, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import direct, models
from db.base import insert_for, utcnow
from db.engine import clock
from services import lanes, metrics
from services.errors import TooMany
from services.i18n import T
from services.lanes import Line
from services.writer import Operation, Scope

if TYPE_CHECKING:
    from services.core import Core

CARD_LIFE_S = 30.0
FACTORY = "factory"
_MOST_BELOW = 50


@dataclass(frozen=True, slots=True)
class ChannelCard:
    """What receiving needs to know of a channel."""

    id: str
    kind: str
    bot_id: str | None
    owner_id: str
    secret: str
    status: str
    credentials: str | None = None


@dataclass(frozen=True, slots=True)
class Accept:
    """One update to store."""

    channel_id: str
    line: Line
    lane: str
    external_id: str
    payload: str
    request_id: str


class Cards:
    """Channel cards by id, read at first use and again after half a minute or a change."""

    def __init__(self) -> None:
        self._cards: dict[str, tuple[float, ChannelCard | None]] = {}
        self._accounts: dict[tuple[str, str, bool], tuple[float, tuple[str, ...]]] = {}

    def clear(self) -> None:
        """Forget everything: channels changed."""
        self._cards.clear()
        self._accounts.clear()

    def known(self, channel_id: str) -> ChannelCard | None:
        """Return the card of a channel that was asked for lately, else None."""
        found = self._cards.get(channel_id)
        return found[1] if found is not None else None

    async def get(self, core: Core, channel_id: str) -> ChannelCard | None:
        """Return the card of a channel, None if there is no such channel or it was disconnected."""
        known = self._cards.get(channel_id)
        if known is not None and time.monotonic() - known[0] < CARD_LIFE_S:
            return known[1]
        async with core.db.read() as session:
            row = (
                await session.execute(
                    select(models.Channel, models.Bot.owner_id)
                    .outerjoin(models.Bot, models.Bot.id == models.Channel.bot_id)
                    .where(models.Channel.id == channel_id)
                )
            ).one_or_none()
        card = None
        if row is not None and row[0].external_id is not None:
            channel, owner_id = row
            card = ChannelCard(
                channel.id,
                channel.kind,
                channel.bot_id,
                owner_id or "",
                channel.secret,
                channel.status,
                channel.credentials,
            )
        if len(self._cards) > 20_000:
            self._cards.clear()
        self._cards[channel_id] = (time.monotonic(), card)
        return card

    async def of_account(self, core: Core, kind: str, account: str, *, above: bool = False) -> list[ChannelCard]:
        """Return the cards of an account on a network, at most one; ``above``: of all that lie below this account."""
        key = (kind, account, above)
        known = self._accounts.get(key)
        if known is None or time.monotonic() - known[0] >= CARD_LIFE_S:
            place = models.Channel.parent_id if above else models.Channel.external_id
            async with core.db.read() as session:
                found = await session.scalars(
                    select(models.Channel.id)
                    .where(models.Channel.kind == kind, place == account, models.Channel.external_id.is_not(None))
                    .order_by(models.Channel.id)
                    .limit(_MOST_BELOW)
                )
                known = (time.monotonic(), tuple(found))
            if len(self._accounts) > 20_000:
                self._accounts.clear()
            self._accounts[key] = known
        cards = [await self.get(core, channel_id) for channel_id in known[1]]
        return [card for card in cards if card is not None]


async def put_in(session: AsyncSession, item: Accept) -> None:
    """Put an event of our own into the inbox inside a session's own transaction; ring "inbox" after the commit.

    The lane must be locked.
    """
    connection = await session.connection()
    await connection.run_sync(_accept, Scope("", clock(connection.dialect.name)), [item])


def lane_of(channel_id: str, chat: str) -> str:
    """Return the lane of a talk."""
    return f"in:{channel_id}:{chat}"[:200]


@cache
def _storing(dialect: str) -> Executable:
    insert = insert_for(dialect, lanes.INBOX)
    return insert.on_conflict_do_nothing(index_elements=["channel_id", "external_id"]).returning(lanes.INBOX)


def _accept(connection: Connection, scope: Scope, items: Sequence[Accept]) -> list[bool | Exception]:
    moment = utcnow()
    rows = direct.change_returning(
        connection,
        _storing(connection.dialect.name),
        [
            {
                "lane": item.lane,
                "channel_id": item.channel_id,
                "external_id": item.external_id,
                "payload": item.payload,
                "request_id": item.request_id,
                "status": "new",
                "attempts": 0,
                "failures": 0,
                "received_at": moment,
            }
            for item in items
        ],
    )
    stored: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        stored.setdefault(row.lane, []).append(row._asdict())
    if stored:
        lanes.fill(connection, scope.places, "inbox", stored, {item.lane: item.line for item in items}, scope.now)
    new = {(row.channel_id, row.external_id) for row in rows}
    results: list[bool | Exception] = []
    for item in items:
        results.append((item.channel_id, item.external_id) in new)
        new.discard((item.channel_id, item.external_id))
    return results


ACCEPT: Operation[Accept, bool] = Operation("accept", 10, _accept, lambda item: {item.lane: item.line})


async def accept_update(core: Core, card: ChannelCard, update: Mapping[str, Any], raw: str) -> bool:
    """Store one update durably; return whether it was new.

    ``raw`` is the update as JSON text. Raises ``DatabaseUnavailable`` when it could not be stored and
    :class:`services.errors.TooMany` when this owner's backlog is far over its limit: nothing was accepted then and the network
    delivers it again. Raises ``KeyError`` or ``TypeError`` for JSON that is no update.
    """
    chat, external_id = core.channels[card.kind].identify(update)
    if core.backlog.of(card.owner_id) > core.settings.limits.owner_pending_messages * 10:
        metrics.OVER_LIMIT.labels("owner_pending_hard").inc()
        raise TooMany(T("Too many messages are waiting for this bot. Please try again later."))
    request_id = str(structlog.contextvars.get_contextvars().get("request_id") or f"{card.id[-6:]}-{external_id}")[:32]
    line = Line("inbox", card.owner_id, card.bot_id or "")
    item = Accept(card.id, line, lane_of(card.id, chat), external_id[:128], raw, request_id)
    future = core.writer.submit(ACCEPT, item)
    core.wake_inbox()
    is_new = await future
    await core.pause("accepted")
    (metrics.ACCEPTED if is_new else metrics.REPEATED).labels(card.kind).inc()
    if is_new:
        core.backlog.add(card.owner_id)
        core.bell.ring_elsewhere("inbox")
    return is_new
