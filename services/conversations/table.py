"""Conversations as a table for other programs: a message a row, read some at a time, so that many hold nothing up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import table_of
from db.engine import Database
from services import sheets
from services.channel_names import channel_name
from services.conversations import ConversationRow, desk
from services.i18n import LANGUAGE_NAMES, T, Text
from services.sheets import Cell

_TALKS_AT_ONCE = 100
_MESSAGES_AT_ONCE = 1000
_HEADINGS: Sequence[Text] = (
    T("Time (Tashkent)"),
    T("Bot"),
    T("Channel"),
    T("Customer"),
    T("Phone"),
    T("Language"),
    T("State"),
    T("Who wrote"),
    T("Name"),
    T("Message"),
    T("Answered"),
    T("Model"),
    T("Delivery"),
    T("Conversation"),
)
STATES: Mapping[str, Text] = {
    "bot": T("Bot answers"),
    "waiting": T("Waiting for a person"),
    "human": T("With a person"),
    "closed": T("Closed"),
}
_AUTHORS: Mapping[str, Text] = {
    "customer": T("Customer"),
    "bot": T("Bot"),
    "operator": T("Operator"),
    "system": T("System"),
}
_FATES: Mapping[str, Text] = {
    "queued": T("being sent"),
    "sent": T("sent"),
    "delivered": T("delivered"),
    "read": T("read by the customer"),
    "failed": T("not delivered"),
    "unknown": T("delivery not confirmed"),
}
_MESSAGE = table_of(models.Message).c


async def parts(
    db: Database, user: models.User, bots: Sequence[models.Bot], filters: desk.Filters, language: str
) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    """Yield the headings, then the messages of the conversations that the filters leave, the latest conversation first.

    A conversation in which something is said meanwhile may come twice or not at all. No session may be open.
    """
    yield [[heading.render(language) for heading in _HEADINGS]]
    cursor: str | None = None
    while True:
        async with db.read() as session:
            page = await desk.list_for(session, user, bots, filters, cursor=cursor, limit=_TALKS_AT_ONCE)
        async for rows in _messages(db, page.items, language):
            yield rows
        cursor = page.next
        if cursor is None:
            return


async def of_one(db: Database, row: ConversationRow, language: str) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    """Yield the headings and the messages of one conversation."""
    yield [[heading.render(language) for heading in _HEADINGS]]
    async for rows in _messages(db, [row], language):
        yield rows


async def _messages(
    db: Database, talks: Sequence[ConversationRow], language: str
) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    known = {row.conversation.id: row for row in talks}
    after: tuple[str, str] | None = None
    query = select(
        _MESSAGE.conversation_id, _MESSAGE.id, _MESSAGE.author, _MESSAGE.author_id, _MESSAGE.text, _MESSAGE.kind,
        _MESSAGE.status, _MESSAGE.answered, _MESSAGE.model, _MESSAGE.created_at,
    ).where(_MESSAGE.conversation_id.in_(list(known)))  # fmt: skip
    while known:
        part = query
        if after is not None:
            later = and_(_MESSAGE.conversation_id == after[0], _MESSAGE.id > after[1])
            part = query.where(or_(_MESSAGE.conversation_id > after[0], later))
        part = part.order_by(_MESSAGE.conversation_id, _MESSAGE.id).limit(_MESSAGES_AT_ONCE)
        async with db.read() as session:
            found = (await session.execute(part)).all()
            names = await _names(session, [row.author_id for row in found])
        yield [
            [
                sheets.moment(row.created_at),
                (talk := known[row.conversation_id]).bot.name,
                channel_name(talk.channel.kind, language),
                talk.contact.name or T("Customer").render(language),
                talk.contact.phone or "",
                LANGUAGE_NAMES.get(talk.contact.language or "", ""),
                _said(STATES, talk.conversation.status, language),
                _said(_AUTHORS, row.author, language),
                names.get(row.author_id or "", ""),
                row.text or (f"[{row.kind}]" if row.kind != "text" else ""),
                "" if row.answered is None else (T("yes") if row.answered else T("no")).render(language),
                row.model or "",
                "" if row.author == "customer" else _said(_FATES, row.status, language),
                row.conversation_id,
            ]
            for row in found
        ]
        if len(found) < _MESSAGES_AT_ONCE:
            return
        after = found[-1].conversation_id, found[-1].id


def _said(words: Mapping[str, Text], key: str, language: str) -> str:
    return words[key].render(language) if key in words else key


async def _names(session: AsyncSession, ids: Sequence[str | None]) -> dict[str, str]:
    wanted = {one for one in ids if one}
    return await desk.names(session, wanted) if wanted else {}
