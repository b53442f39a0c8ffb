"""Finding people by what they are called: a name, an e-mail, a phone, a number, the name of one of their bots.

An index of pieces of three letters says who is meant, however many there are; where that is more than :data:`FEW`, whoever
lists people walks along them and soon has a page full.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import fulltext, models
from db.base import ID_LENGTH
from services.text import clean

FEW = 1000
_LEAST_DIGITS = 4
_WHOLE = 3
"""From so many letters on a part of a name is looked for, of fewer the beginning of a word."""
_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
_AT_NAME = re.compile(r"@?[A-Za-z0-9_]{5,32}")
_NO_NUMBER = re.compile(r"[^\d\s+()-]")
_user, _bot, _channel = models.User, models.Bot, models.Channel


def _digits(asked: str) -> str:
    """Return the digits of what can only be a number, else nothing."""
    digits = "".join(letter for letter in asked if letter.isdigit())
    return digits if len(digits) >= _LEAST_DIGITS and not _NO_NUMBER.search(asked) else ""


def _keys(asked: str) -> list[ColumnElement[bool]]:
    """The conditions on people whom an index of its own finds: a Telegram number, the @name of a bot."""
    if digits := _digits(asked):
        return [_user.telegram_id == int(digits[:18])]
    if not _AT_NAME.fullmatch(asked):
        return []
    held = select(_bot.owner_id).join(_channel, _channel.bot_id == _bot.id)
    name = asked.removeprefix("@").lower()
    return [_user.id.in_(held.where(func.lower(_channel.username) == name, _bot.deleted_at.is_(None)))]


def _texts(asked: str) -> list[ColumnElement[bool]]:
    """The conditions on people that would have to be asked of every one of them."""
    if digits := _digits(asked):
        return [_user.phone.contains(digits)]
    if asked.startswith("@"):
        return []
    if len(asked) >= _WHOLE:
        return [
            _user.full_name.icontains(asked, autoescape=True),
            _user.email.contains(asked.lower(), autoescape=True),
        ]
    return [
        _user.full_name.istartswith(asked, autoescape=True),
        _user.full_name.icontains(f" {asked}", autoescape=True),
        _user.email.startswith(asked.lower(), autoescape=True),
    ]


async def _found(session: AsyncSession, asked: str, limit: int) -> list[str]:
    """Return the ids of those who are meant: of those that an index of its own finds, and of the others, at most ``limit``."""
    digits, keys = _digits(asked), _keys(asked)
    found: list[str] = []
    if not asked.startswith("@"):
        found = await fulltext.people(session, digits or asked, limit, phone=bool(digits))
    others = await session.scalars(select(_user.id).where(or_(*keys)).limit(limit)) if keys else ()
    return list(dict.fromkeys((*others, *found)))


async def called(session: AsyncSession, asked: str) -> ColumnElement[bool]:
    """Return the condition on people whom a text names.

    It is an id, a part of a name or an e-mail (the beginning of a word where that is one letter or two), a part of a phone, a
    Telegram number, or the @name of a bot of theirs.
    """
    asked = clean(asked, 200).strip()
    if _ID.fullmatch(asked):
        return _user.id == asked
    if not asked:
        return false()
    found = await _found(session, asked, FEW + 1)
    return _user.id.in_(found) if len(found) <= FEW else or_(*_texts(asked), *_keys(asked))


async def ids_called(session: AsyncSession, asked: str, limit: int) -> Sequence[str]:
    """Return the ids of some of the people, administrators among them, whom a text names: see :func:`called`."""
    asked = clean(asked, 200).strip()
    if _ID.fullmatch(asked):
        return [asked]
    if not asked:
        return []
    return (await _found(session, asked, limit))[:limit]
