"""A talk goes back from a person to the bot: given back, or left for longer than the owner allows.

An event of our own goes through the talk's lane of the inbox, so what the customer wrote meanwhile is answered in order and once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, utcnow
from db.engine import DatabaseUnavailable
from services import inbox, lanes, manner, notices
from services.channels import window_of
from services.channels.base import Inbound, Sender
from services.conversations.records import RETURNED
from services.lanes import Line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

EVERY_S = 30
_AT_ONCE = 200
_MOST_LEFT = 50
"""So many of the last messages are looked at for what a person left open."""


def read(update: Mapping[str, Any]) -> Inbound | None:
    """Return our own event where an update is one; no network's updates look like it."""
    chat = update.get(RETURNED)
    if not isinstance(chat, str):
        return None
    return Inbound(RETURNED, chat, Sender(chat), reply=False, extra={"by_person": bool(update.get("by_person"))})


async def lock(session: AsyncSession, bot: models.Bot, channel_id: str, recipient: str) -> None:
    """Lock a talk's lane before the talk, as the conveyor does: two that wait for each other would both lose time."""
    connection = await session.connection()
    await connection.run_sync(lanes.lock, {inbox.lane_of(channel_id, recipient): Line("inbox", bot.owner_id, bot.id)})


async def give_back(
    session: AsyncSession,
    bot: models.Bot,
    channel_id: str,
    recipient: str,
    talk: models.Conversation,
    *,
    by_person: bool,
) -> None:
    """Let the bot hear that it leads a talk again; ``by_person``: it says so where nothing waits for an answer.

    Where the network lets nobody write to the customer any more it keeps silent.
    """
    channel = await session.get(models.Channel, channel_id)
    window = window_of(channel.kind, recipient) if channel is not None else None
    talk.unanswered_since = None
    if window is not None and (talk.last_inbound_at is None or utcnow() - talk.last_inbound_at >= window):
        return
    payload = json.dumps({RETURNED: recipient, "by_person": by_person})
    line = Line("inbox", bot.owner_id, bot.id)
    lane = inbox.lane_of(channel_id, recipient)
    await inbox.put_in(session, inbox.Accept(channel_id, line, lane, f"{RETURNED}:{new_id()}", payload, new_id()))


async def left_open(core: Core, channel_id: str, conversation_id: str) -> tuple[list[models.Message], bool]:
    """Return what the customer asked since somebody last answered, oldest first, and whether the bot said the last word.

    What still waits in the inbox is not among it: its turn comes.
    """
    message, item = models.Message, models.InboxItem
    waits = exists().where(item.channel_id == channel_id, item.external_id == message.external_id, item.status == "new")
    left: list[models.Message] = []
    spoke = ""
    async with core.db.read() as session:
        rows = await session.scalars(
            select(message)
            .where(message.conversation_id == conversation_id, ~waits)
            .order_by(message.id.desc())
            .limit(_MOST_LEFT)
        )
        for row in rows:
            if row.author in ("bot", "operator"):
                spoke = row.author
                break
            if row.author == "customer" and row.status == "received" and row.kind != "comment":
                left.append(row)
    return left[::-1], spoke == "bot" and not left


async def take_back(core: Core) -> int:
    """Take back the talks that people have left for longer than their bots' owners allow; return how many."""
    talk, now = models.Conversation, utcnow()
    taken = answered = 0
    after: tuple[dt.datetime, str] | None = None
    while True:
        query = (
            select(talk.id, talk.person_at, models.Bot, talk.channel_id, models.Contact.external_id)
            .join(models.Bot, models.Bot.id == talk.bot_id)
            .join(models.Contact, models.Contact.id == talk.contact_id)
            .where(talk.status == "human", talk.person_at < now, models.Bot.deleted_at.is_(None))
            .order_by(talk.person_at, talk.id)
            .limit(_AT_ONCE)
        )
        if after is not None:
            query = query.where((talk.person_at > after[0]) | ((talk.person_at == after[0]) & (talk.id > after[1])))
        async with core.db.read() as session:
            rows = list(await session.execute(query))
        for talk_id, person_at, bot, channel_id, recipient in rows:
            limit = manner.manner_of(bot.settings).return_after_min
            if person_at is not None and limit and now - person_at >= dt.timedelta(minutes=limit):
                async with core.db.write() as session:
                    await lock(session, bot, channel_id, recipient)
                    found = await session.get(talk, talk_id, with_for_update=True)
                    if found is None or found.status != "human" or found.person_at != person_at:
                        continue
                    found.status, found.assignee_id = "bot", None
                    taken += 1
                    if found.unanswered_since is not None:
                        answered += 1
                        await give_back(session, bot, channel_id, recipient, found, by_person=False)
                    await notices.solve(session, notices.talk_key(talk_id))
                core.ring_talk(bot.id, talk_id)
        if len(rows) < _AT_ONCE:
            break
        after = (rows[-1].person_at, rows[-1].id)
    if answered:
        core.bell.ring("inbox")
    return taken


async def watch(core: Core) -> None:
    """Take talks back every half minute until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            if taken := await take_back(core):
                log.info("talks_taken_back", n=taken)
        except DatabaseUnavailable:
            log.warning("talks_not_taken_back")
