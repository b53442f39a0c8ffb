"""How many conversations there were since a day, each counted once however many days it went on: what the lists show."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, case, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services.days import midnight
from services.keeping import Kept
from services.testers import is_customer

_MANY = 1000


@dataclass(frozen=True, slots=True)
class Talks:
    """Conversations of a bot, kind of channel and language in which something was said, and of those how many were handed over.

    Of all bots together ``bot_id`` and ``language`` are empty.
    """

    bot_id: str
    channel: str
    language: str
    talks: int
    handed_over: int


_kept: Kept[list[Talks]] = Kept(60, 200)


async def since(session: AsyncSession, bots: Sequence[str] | None, first: dt.date) -> list[Talks]:
    """Return the conversations of customers since a day, that is those of :data:`services.conversations.desk.HAPPENED`.

    ``bots``: ids, None for all that are not deleted. Where there are many, it may be a minute old.
    """
    key = str(session.get_bind().engine.url), None if bots is None else tuple(bots), first
    found = _kept.get(key)
    if found is None:
        given = {"p_since": midnight(first)} | ({} if bots is None else {"p_bots": list(bots)})
        rows = await session.execute(_statement(bots is not None), given)
        found = [Talks(bot, kind, code, int(talks), int(handed)) for bot, kind, code, talks, handed in rows]
        if sum(each.talks for each in found) >= _MANY:
            _kept.put(key, found)
    return found


@cache
def _statement(of_bots: bool) -> Select[Any]:
    """Return the query; it reads no message, which is quick with many."""
    talk, contact, channel, bot = models.Conversation, models.Contact, models.Channel, models.Bot
    start = bindparam("p_since", type_=talk.last_message_at.type)
    # As the list of conversations has it: a person took part, or is waited for.
    handed = func.sum(case((or_(talk.person_at >= start, talk.status == "waiting"), 1), else_=0))
    key = (talk.bot_id, channel.kind, func.coalesce(contact.language, "")) if of_bots else (channel.kind,)
    shown = key if of_bots else (literal(""), channel.kind, literal(""))
    query = (
        select(*shown, func.count(), handed)
        .select_from(talk)
        .join(contact, contact.id == talk.contact_id)
        .join(channel, channel.id == talk.channel_id)
        .where(talk.last_message_at >= start, is_customer())
        .group_by(*key)
    )
    if of_bots:
        return query.where(talk.bot_id.in_(bindparam("p_bots", expanding=True)))
    return query.where(talk.bot_id.in_(select(bot.id).where(bot.deleted_at.is_(None))))
