"""Questions that the documents did not answer: grouped by what they ask, answered once for the whole group."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services.errors import NotFound
from services.knowledge import alike, documents
from services.knowledge.analysis import QUESTION_CHARACTERS
from services.knowledge.search import subject

if TYPE_CHECKING:
    from services.allowances import Allowances
    from services.core import Core

MOST = 5000
"""So many open questions are grouped, the latest; older ones wait until some of these are answered."""
EXAMPLES = 5
UNDO_S = 60.0
_SLICE = 500


@dataclass(frozen=True, slots=True)
class Open:
    """An open question as it is grouped."""

    id: str
    question: str
    count: int
    language: str | None
    conversation_id: str | None
    created_at: dt.datetime
    last_asked_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that ask the same thing.

    ``id``: of the first of them, which stays while the group is open. ``question``: its most frequent wording; ``examples``: up
    to five others; ``ids``: all of them. ``count``: how often it was asked in all; ``conversation_id``: where it was asked last.
    """

    id: str
    question: str
    examples: tuple[str, ...]
    count: int
    languages: tuple[str, ...]
    last_asked_at: dt.datetime
    conversation_id: str | None
    ids: tuple[str, ...]


_BOTS_KEPT = 20
_kept: OrderedDict[str, tuple[tuple[object, ...], list[Group]]] = OrderedDict()
"""The groups of the bots whose lists were looked at last, with what tells whether the questions are still those."""


def grouped(rows: Sequence[Open]) -> list[Group]:
    """Group questions by meaning, the most asked first; the same rows give the same groups.

    Each is compared with the first question of every group, so that a chain of small differences joins nothing.
    """
    members: dict[str, list[Open]] = {}
    known: alike.Index[str] = alike.Index()
    for row in sorted(rows, key=lambda row: row.id):
        question = _asked(row.question)
        nearest = known.nearest(question)
        if nearest is not None and nearest[1] >= alike.SAME:
            members[nearest[0]].append(row)
        else:
            known.add(row.id, question)
            members[row.id] = [row]
    groups = [_group(rows) for rows in members.values()]
    return sorted(groups, key=lambda group: (-group.count, -group.last_asked_at.timestamp(), group.id))


def _asked(question: str) -> alike.Asked:
    return alike.asked(subject(question) or question[:QUESTION_CHARACTERS])


def _group(rows: Sequence[Open]) -> Group:
    frequent = sorted(rows, key=lambda row: (-row.count, row.id))
    last = max(rows, key=lambda row: (row.last_asked_at, row.id))
    return Group(
        rows[0].id,
        frequent[0].question,
        tuple(row.question for row in frequent[1 : EXAMPLES + 1]),
        sum(row.count for row in rows),
        tuple(dict.fromkeys(row.language for row in frequent if row.language)),
        last.last_asked_at,
        last.conversation_id,
        tuple(row.id for row in rows),
    )


async def open_groups(core: Core, bot: models.Bot) -> list[Group]:
    """Return a bot's open questions in groups, the most asked first. No session may be open: grouping thousands takes seconds."""
    row = models.UnansweredQuestion
    here = row.bot_id == bot.id, row.answered_at.is_(None)
    known = _kept.get(bot.id)
    async with core.db.read() as session:
        # Whoever asks once more, asks something new or answers changes one of these.
        mark = select(
            func.count(), func.min(row.id), func.max(row.id), func.sum(row.count), func.max(row.last_asked_at)
        )
        now = tuple((await session.execute(mark.where(*here))).one())
        if known is None or known[0] != now:
            columns = row.id, row.question, row.count, row.language, row.conversation_id, row.created_at
            found = select(*columns, row.last_asked_at).where(*here).order_by(row.id.desc()).limit(MOST)
            rows = [Open(*values) for values in await session.execute(found)]
    if known is None or known[0] != now:
        known = _kept[bot.id] = now, await asyncio.to_thread(grouped, rows)
    _kept.move_to_end(bot.id)
    while len(_kept) > _BOTS_KEPT:
        _kept.popitem(last=False)
    return known[1]


async def open_count(session: AsyncSession, bot: models.Bot) -> int:
    """Return how many open questions a bot has, each wording counted."""
    row = models.UnansweredQuestion
    found = select(func.count()).where(row.bot_id == bot.id, row.answered_at.is_(None))
    return int(await session.scalar(found) or 0)


async def find_group(core: Core, bot: models.Bot, question_id: str) -> Group | None:
    """Return the group that an open question of a bot is in; None where it is not open, or not there."""
    return next((group for group in await open_groups(core, bot) if question_id in group.ids), None)


async def same_as(core: Core, bot: models.Bot, question: str) -> tuple[str, ...]:
    """Return the ids of the open questions that an answer to this one answers too: those of its group."""
    groups = await open_groups(core, bot)
    known = alike.Index((group, _asked(group.question)) for group in groups)
    nearest = known.nearest(_asked(question))
    return nearest[0].ids if nearest is not None and nearest[1] >= alike.SAME else ()


async def dismiss(session: AsyncSession, bot: models.Bot, question_id: str, also: Sequence[str] = ()) -> None:
    """Take a question and those that ask the same off the list, at one moment: see :func:`reopen`. Raises ``NotFound``."""
    row = await session.get(models.UnansweredQuestion, question_id)
    if row is None or row.bot_id != bot.id:
        raise NotFound()
    await close(session, bot, list({question_id, *also}))


async def reopen(session: AsyncSession, bot: models.Bot, question_id: str) -> None:
    """Put a question back on the list, with those that left it at the same moment, as long as :data:`UNDO_S` allows.

    Raises ``NotFound`` afterwards.
    """
    row = models.UnansweredQuestion
    question = await session.get(row, question_id)
    if question is None or question.bot_id != bot.id:
        raise NotFound()
    if question.answered_at is None:
        return
    if utcnow() - question.answered_at >= dt.timedelta(seconds=UNDO_S):
        raise NotFound()
    together = (row.bot_id == bot.id, row.answered_at == question.answered_at)
    await session.execute(update(row).where(*together).values(answered_at=None))


async def close(session: AsyncSession, bot: models.Bot, ids: Sequence[str]) -> None:
    """Take questions of a bot off its list."""
    row, now = models.UnansweredQuestion, utcnow()
    for start in range(0, len(ids), _SLICE):
        await session.execute(
            update(row)
            .where(row.bot_id == bot.id, row.id.in_(ids[start : start + _SLICE]), row.answered_at.is_(None))
            .values(answered_at=now)
        )


async def teach(
    session: AsyncSession,
    bot: models.Bot,
    question: str,
    answer: str,
    also: Sequence[str] = (),
    *,
    plan: Allowances | None = None,
) -> documents.TaughtAnswer:
    """Teach the bot an answer, in force from the next message on, and close the questions ``also`` answered by it.

    ``plan``, and what is raised: as for :func:`documents.add_answer`.
    """
    taught = await documents.add_answer(session, bot, question, answer, plan=plan)
    await close(session, bot, also)
    return taught


async def lesson(session: AsyncSession, bot: models.Bot, message_id: str) -> tuple[str, str] | None:
    """Return what an operator's message teaches, the customer's question before it and the message; None for any other."""
    message, talk = models.Message, models.Conversation
    reply = await session.scalar(
        select(message)
        .join(talk, talk.id == message.conversation_id)
        .where(message.id == message_id, talk.bot_id == bot.id, message.author == "operator", message.text != "")
    )
    if reply is None:
        return None
    heard = (
        select(func.max(models.Attachment.transcript))
        .where(models.Attachment.message_id == message.id, models.Attachment.transcript != "")
        .correlate(message)
        .scalar_subquery()
    )
    # What was spoken stands beside the message.
    said = func.coalesce(func.nullif(message.text, ""), heard)
    question = await session.scalar(
        select(said)
        .where(
            message.conversation_id == reply.conversation_id,
            message.id < reply.id,
            message.author == "customer",
            said.is_not(None),
            message.text.not_like("/%"),
        )
        .order_by(message.id.desc())
        .limit(1)
    )
    return (question or "")[:1000], reply.text[:4000]
