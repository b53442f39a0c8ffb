"""Ready answers: texts that people who answer choose instead of typing, with variables for what differs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T
from services.text import clean

VARIABLES = ("name", "bot", "operator", "phone")
TEXT_CHARS = 4096
SHORTCUT_CHARS = 32
_AT_MOST = 300
_SHORTCUT = re.compile(r"[\w-]{1,32}")
_VARIABLE = re.compile(r"\{([^{}\s]{1,40})\}")
# A variable without a value takes the comma before it along: "Salom, {name}!" becomes "Salom!".
_KNOWN = re.compile(r"(?P<before>,?[ \t]*)\{(?P<name>" + "|".join(VARIABLES) + r")\}(?P<after>,[ \t]*)?")


async def list_for(session: AsyncSession, owner_ids: Collection[str]) -> list[models.CannedReply]:
    """Return these owners' ready answers by shortcut."""
    reply = models.CannedReply
    return list(
        await session.scalars(select(reply).where(reply.owner_id.in_(owner_ids)).order_by(reply.shortcut, reply.id))
    )


def unknown_variables(text: str) -> list[str]:
    """Return the names in braces that stand for nothing; they are sent as they are."""
    return list(dict.fromkeys(name for name in _VARIABLE.findall(text) if name not in VARIABLES))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with the values of :data:`VARIABLES` in place; a value is put in as it is and never read again."""

    def value(found: re.Match[str]) -> str:
        before, after = found["before"], found["after"] or ""
        put = values.get(found["name"], "").strip()
        if put:
            return f"{before}{put}{after}"
        if not before:
            return ""
        return after if "," not in before else ("," if after else "") + after[1:]

    return _KNOWN.sub(value, text)


async def _own(session: AsyncSession, owner_ids: Collection[str], reply_id: str) -> models.CannedReply:
    found = await session.get(models.CannedReply, reply_id)
    if found is None or found.owner_id not in owner_ids:
        raise NotFound()
    return found


async def save(
    session: AsyncSession, owner_ids: Collection[str], owner_id: str, shortcut: str, text: str, reply_id: str = ""
) -> models.CannedReply:
    """Make a ready answer of an owner, or change one of them. Raises ``Invalid`` naming the field, ``NotFound``, ``Conflict``."""
    shortcut = clean(shortcut, SHORTCUT_CHARS * 4).strip().removeprefix("/").casefold()
    if not _SHORTCUT.fullmatch(shortcut):
        raise Invalid(
            T("The shortcut is one word of letters and digits, at most {n} characters.", n=SHORTCUT_CHARS),
            field="shortcut",
        )
    text = clean(text).strip()
    if not text:
        raise Invalid(T("Write the answer."), field="text")
    if len(text) > TEXT_CHARS:
        raise Invalid(T("A message may have at most {n} characters.", n=TEXT_CHARS), field="text")
    known = await _own(session, owner_ids, reply_id) if reply_id else None
    if known is None and owner_id not in owner_ids:
        raise NotFound()
    owner_id = known.owner_id if known else owner_id
    siblings = await list_for(session, [owner_id])
    if any(one.shortcut == shortcut and one.id != reply_id for one in siblings):
        raise Invalid(T("There is a ready answer with this shortcut already."), field="shortcut")
    if known is None and len(siblings) >= _AT_MOST:
        raise Conflict(T("There are {n} ready answers, which is the limit.", n=_AT_MOST), code="limit")
    reply = known or models.CannedReply(owner_id=owner_id)
    reply.shortcut, reply.text = shortcut, text
    session.add(reply)
    await session.flush()
    return reply


async def delete(session: AsyncSession, owner_ids: Collection[str], reply_id: str) -> None:
    """Delete a ready answer; raises ``NotFound``."""
    await session.delete(await _own(session, owner_ids, reply_id))
    await session.flush()
