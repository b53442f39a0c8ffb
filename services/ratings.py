"""Thumbs that customers give to answers.

A customer rates; nothing of it ever becomes knowledge. A thumb down puts the question on the owner's list, where only the owner
can answer it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, new_id, table_of, utcnow
from services.channels.base import Button, Inbound
from services.i18n import translate
from services.keeping import Kept
from services.knowledge.analysis import question_key
from services.text import clean

if TYPE_CHECKING:
    from services.conversations.records import Reply

MESSAGE = table_of(models.Message)
ATTACHMENT = table_of(models.Attachment)
CONVERSATION = table_of(models.Conversation)
UNANSWERED = table_of(models.UnansweredQuestion)

SETTING = "thumbs"
"""The owner's choice in ``Bot.settings``: thumbs under the answers in Telegram."""
PER_MINUTE = 30
UP, DOWN = 1, -1
_BUTTON_KINDS = frozenset({"telegram"})
"""Networks whose buttons can show the choice afterwards; elsewhere they would only be noise."""
_PRESSED = re.compile(r"rate:(-?1):([0-9a-z]{26})")
_SIGNS = {UP: "👍", DOWN: "👎"}


@dataclass(frozen=True, slots=True)
class Rating:
    """A thumb: ``value`` 1 or -1 on one of our messages."""

    message_id: str
    value: int


@dataclass(frozen=True, slots=True)
class Liked:
    """How many answers customers liked and disliked."""

    up: int
    down: int


_MANY = 20_000
_kept: Kept[Liked] = Kept(60, 1000)
"""Of bots with so many messages the thumbs are counted once a minute."""


def pressed(data: str) -> Rating | None:
    """Return the thumb that a button's data means, None for any other button."""
    found = _PRESSED.fullmatch(data)
    return Rating(found[2], int(found[1])) if found else None


def buttons(message_id: str, chosen: int | None = None) -> tuple[tuple[Button, ...], ...]:
    """Return the thumbs of a message; the chosen one is marked."""
    return (
        tuple(
            Button(f"✅ {sign}" if value == chosen else sign, f"rate:{value}:{message_id}")
            for value, sign in _SIGNS.items()
        ),
    )


def may_be_rated(message: Any) -> bool:
    """Whether a message is an answer out of the knowledge: a greeting or "I don't know" is nothing to rate."""
    return message.author == "bot" and message.answered is True and bool(message.sources)


def put_under(reply: Reply, channel_kind: str, settings: Mapping[str, Any]) -> None:
    """Put the thumbs under an answer, where the owner wants them and the network can show them."""
    if channel_kind not in _BUTTON_KINDS or not settings.get(SETTING) or not reply.outgoing:
        return
    if reply.columns.get("answered") and reply.columns.get("sources"):
        *before, last = reply.outgoing
        reply.outgoing = (*before, replace(last, buttons=buttons(reply.id)))


def answered(event: Inbound, rating: Rating, language: str) -> Inbound:
    """Return the press with what it shall show: a word of thanks, and the thumb that was chosen."""
    toast = (
        translate(language, "Thank you!")
        if rating.value == UP
        else translate(language, "Thank you, we will look into it.")
    )
    shown = {"say": toast, "buttons": buttons(rating.message_id, rating.value)}
    return replace(event, extra={**event.extra, **shown})


def keep(connection: Connection, rated: Sequence[tuple[str, str, int]], moment: dt.datetime) -> None:
    """Store thumbs: (conversation, message, value). Only an answer of that very conversation is rated.

    A thumb down puts what the answer was given to on the list of open questions, once however often it is pressed.
    """
    for conversation_id, message_id, value in rated:
        if not conversation_id:
            continue
        changed = connection.execute(
            update(MESSAGE)
            .where(
                MESSAGE.c.id == message_id,
                MESSAGE.c.conversation_id == conversation_id,
                MESSAGE.c.author == "bot",
                MESSAGE.c.answered.is_(True),
                or_(MESSAGE.c.rating.is_(None), MESSAGE.c.rating != value),
            )
            .values(rating=value)
            .returning(MESSAGE.c.reply_to)
        ).one_or_none()
        if changed is not None and value == DOWN and changed.reply_to:
            _ask_the_owner(connection, conversation_id, changed.reply_to, moment)


def _ask_the_owner(connection: Connection, conversation_id: str, question_id: str, moment: dt.datetime) -> None:
    heard = (
        select(func.max(ATTACHMENT.c.transcript))
        .where(ATTACHMENT.c.message_id == MESSAGE.c.id)
        .correlate(MESSAGE)
        .scalar_subquery()
    )
    asked = connection.execute(
        # What was spoken stands beside the message.
        select(
            func.coalesce(func.nullif(MESSAGE.c.text, ""), heard).label("text"),
            MESSAGE.c.language,
            CONVERSATION.c.bot_id,
        )
        .join(CONVERSATION, CONVERSATION.c.id == MESSAGE.c.conversation_id)
        .where(
            MESSAGE.c.id == question_id, MESSAGE.c.conversation_id == conversation_id, MESSAGE.c.author == "customer"
        )
    ).one_or_none()
    if asked is None or not (question := clean(asked.text or "", 1000).strip()):
        return
    insert = insert_for(connection.dialect.name, UNANSWERED).values(
        id=new_id(),
        bot_id=asked.bot_id,
        conversation_id=conversation_id,
        question=question,
        folded=question_key(question),
        language=asked.language,
        count=1,
        created_at=moment,
        last_asked_at=moment,
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["bot_id", "folded"], set_={"last_asked_at": moment, "answered_at": None}
        )
    )


async def rate(session: AsyncSession, conversation_id: str, rating: Rating) -> None:
    """Store a visitor's thumb on an answer of the own conversation; on anything else it does nothing."""
    connection = await session.connection()
    await connection.run_sync(keep, [(conversation_id, rating.message_id, rating.value)], utcnow())


async def liked(session: AsyncSession, bot: models.Bot, since: dt.datetime) -> Liked:
    """Return how many of a bot's answers since a moment have a thumb up, and how many one down.

    Of very many messages it may be a minute old.
    """
    key = bot.id, since.date()
    if (known := _kept.get(key)) is not None:
        return known
    message, talk = models.Message, models.Conversation
    read, up, down = (
        await session.execute(
            select(
                func.count(),
                func.sum(case((message.rating == UP, 1), else_=0)),
                func.sum(case((message.rating == DOWN, 1), else_=0)),
            )
            .join(talk, talk.id == message.conversation_id)
            .where(talk.bot_id == bot.id, talk.last_message_at >= since, message.created_at >= since)
        )
    ).one()
    found = Liked(int(up or 0), int(down or 0))
    if read >= _MANY:
        _kept.put(key, found)
    return found


async def show_buttons(session: AsyncSession, bot: models.Bot, wanted: bool) -> None:
    """Show thumbs under the bot's answers in Telegram from the next answer on, or no more."""
    bot.settings = {**(bot.settings or {}), SETTING: wanted}
    session.add(bot)
    await session.flush()
