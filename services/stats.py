"""The numbers of a bot."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models


@dataclass(frozen=True, slots=True)
class Numbers:
    """Counts since a moment; ``waiting`` is the number of talks that wait for a person now.

    ``questions``: what customers wrote in words, commands left out. Questions that were answered together count one answer.
    """

    questions: int
    answered: int
    unanswered: int
    conversations: int
    contacts: int
    waiting: int


async def numbers(session: AsyncSession, bot: models.Bot, since: dt.datetime) -> Numbers:
    """Return a bot's numbers since a moment."""
    message, talk = models.Message, models.Conversation
    asked = and_(message.author == "customer", message.text != "", ~message.text.startswith("/"))
    row = (
        await session.execute(
            select(
                func.sum(case((asked, 1), else_=0)),
                func.sum(case((message.answered.is_(True), 1), else_=0)),
                func.sum(case((message.answered.is_(False), 1), else_=0)),
                func.count(func.distinct(message.conversation_id)),
            )
            .join(talk, talk.id == message.conversation_id)
            .where(talk.bot_id == bot.id, talk.last_message_at >= since, message.created_at >= since)
        )
    ).one()
    contacts = await session.scalar(
        select(func.count()).where(models.Contact.bot_id == bot.id, models.Contact.created_at >= since)
    )
    waiting = await session.scalar(select(func.count()).where(talk.bot_id == bot.id, talk.status == "waiting"))
    questions, answered, unanswered, talks = (int(value or 0) for value in row)
    return Numbers(questions, answered, unanswered, talks, int(contacts or 0), int(waiting or 0))
