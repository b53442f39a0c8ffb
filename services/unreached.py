"""Owners whom an announcement was meant for and did not reach on any way, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import Database
from services.i18n import T, Text
from services.paging import PAGE, Page, newest_first
from services.sheets import ROWS_AT_ONCE, Cell

_letter, _user = models.Letter, models.User
_HEADINGS = (T("Owner"), T("E-mail"), T("Phone"), T("Reason"))


@dataclass(frozen=True, slots=True)
class Missed:
    """An owner and why nothing reached them, a reason a way."""

    owner: models.User
    reasons: tuple[Text, ...]


def _of(announcement: models.Announcement) -> tuple[ColumnElement[bool], ...]:
    return (
        # Word for word what the partial index says, or SQLite does not take it.
        text("letters.kind IN ('announcement', 'announcement_news')"),  # type: ignore[return-value]
        _letter.key == f"announcement:{announcement.id}",
        _letter.mail.in_(("none", "failed", "bounced")),
        _letter.telegram.in_(("none", "failed")),
    )


async def listed(
    session: AsyncSession, announcement: models.Announcement, *, cursor: str = "", limit: int = PAGE
) -> Page[Missed]:
    """Return a part of those who were not reached; raises ``Invalid`` for a malformed cursor."""
    query = select(_letter).where(*_of(announcement))
    page = await newest_first(session, query, _letter.id, cursor=cursor, limit=limit)
    users = await session.scalars(select(_user).where(_user.id.in_([letter.user_id for letter in page.items])))
    known = {user.id: user for user in users}
    found = [(known[letter.user_id], letter) for letter in page.items]
    return Page([Missed(user, reasons(announcement, letter, user)) for user, letter in found], page.next)


def reasons(announcement: models.Announcement, letter: models.Letter, user: models.User) -> tuple[Text, ...]:
    """Return why a letter did not arrive, as far as its state and the account tell."""
    if letter.kind == "announcement_news" and user.unsubscribed_at is not None:
        return (T("wants no news"),)
    found = []
    if announcement.by_telegram:
        if letter.telegram == "failed":
            found.append(T("Telegram: has blocked the bot"))
        elif user.telegram_id is None:
            found.append(T("Telegram: not linked"))
        else:
            found.append(T("Telegram: not sent"))
    if announcement.by_mail:
        if letter.mail == "bounced" or (letter.mail == "none" and user.mail_refused_at is not None):
            found.append(T("mail: came back"))
        elif letter.mail == "none" and user.email is None:
            found.append(T("mail: no address"))
        else:
            found.append(T("mail: not sent"))
    return tuple(found)


async def table(db: Database, announcement: models.Announcement, language: str) -> AsyncIterator[list[list[Cell]]]:
    """Yield the table of all who were not reached in parts, its headings first."""
    yield [[heading.render(language) for heading in _HEADINGS]]
    cursor: str | None = ""
    while cursor is not None:
        async with db.read() as session:
            page = await listed(session, announcement, cursor=cursor, limit=ROWS_AT_ONCE)
        yield [
            [
                each.owner.full_name,
                each.owner.email or "",
                each.owner.phone or "",
                "; ".join(reason.render(language) for reason in each.reasons),
            ]
            for each in page.items
        ]
        cursor = page.next
