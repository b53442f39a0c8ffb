"""The numbers of a bot."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from db import models
from db.base import ID_LENGTH
from services.commands import COMMANDS, UNLISTED

_TEST = "panel:"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Counts since a moment; ``waiting`` is the number of talks that wait for a person now.

    ``questions``: what customers wrote in words; commands, greetings and thanks are left out. Questions that were answered
    together count one answer. What is tried in the panel counts nowhere.
    """

    questions: int
    answered: int
    unanswered: int
    conversations: int
    contacts: int
    waiting: int


def test_contact(owner_id: str) -> str:
    """Return the contact under which a person tries a bot in the panel: no customer, and not counted as one."""
    return f"{_TEST}{owner_id}"


def is_test(contact: str) -> bool:
    """Tell whether a contact is the owner, or somebody who works for them, at the panel's own chat."""
    return contact.startswith(_TEST) and len(contact) == len(_TEST) + ID_LENGTH


def _is_command(text: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    written = func.lower(text)
    forms = [
        form
        for name in (*COMMANDS, *UNLISTED)
        for form in (written == f"/{name}", written.like(f"/{name} %"), written.like(f"/{name}@%"))
    ]
    return and_(text.startswith("/"), or_(*forms))


async def numbers(session: AsyncSession, bot: models.Bot, since: dt.datetime) -> Numbers:
    """Return a bot's numbers since a moment, those of tests in the panel left out."""
    message, talk, contact = models.Message, models.Conversation, models.Contact
    tests = (
        select(contact.id)
        .join(models.Channel, models.Channel.id == contact.channel_id)
        .where(models.Channel.bot_id == bot.id, contact.external_id.like(_TEST + "_" * ID_LENGTH))
    )
    asked = and_(message.author == "customer", message.text != "", ~_is_command(message.text))
    # A greeting or thanks got a friendly word: nothing was looked for, so nothing was found either.
    friendly = and_(
        message.answered.is_(True),
        message.provider == "extractive",
        or_(message.sources.is_(None), message.sources == []),
    )
    row = (
        await session.execute(
            select(
                func.sum(case((asked, 1), else_=0)),
                func.sum(case((friendly, 1), else_=0)),
                func.sum(case((message.answered.is_(True), 1), else_=0)),
                func.sum(case((message.answered.is_(False), 1), else_=0)),
                func.count(func.distinct(message.conversation_id)),
            )
            .join(talk, talk.id == message.conversation_id)
            .where(
                talk.bot_id == bot.id,
                talk.last_message_at >= since,
                talk.contact_id.not_in(tests),
                message.created_at >= since,
            )
        )
    ).one()
    contacts = await session.scalar(
        select(func.count()).where(contact.bot_id == bot.id, contact.created_at >= since, contact.id.not_in(tests))
    )
    waiting = await session.scalar(
        select(func.count()).where(talk.bot_id == bot.id, talk.status == "waiting", talk.contact_id.not_in(tests))
    )
    texts, kind_words, answered, unanswered, talks = (int(value or 0) for value in row)
    return Numbers(
        max(texts - kind_words, 0), answered - kind_words, unanswered, talks, int(contacts or 0), int(waiting or 0)
    )
