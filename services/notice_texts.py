"""An administrator's own words for notices: checked, kept beside those of letters, and known to every process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import notices
from services.errors import Conflict, NotFound
from services.i18n import fill, translate
from services.letters import texts as letter_texts
from services.notices import Own
from services.shown import mark_of
from services.text import clean

PREFIX = "notice:"
"""What stands before the kind of a notice where its text is kept among those of letters."""
PART = "telegram"
CHARS = 1000
EXAMPLES: Mapping[str, str] = {
    "bot": "Texno Savdo",
    "budget": "Gemini",
    "channel": "WhatsApp",
    "day": "30.11.2026",
    "document": "narxlar.pdf",
    "gateway": "Payme",
    "group": "Texno Savdo",
    "host": "crm.example.uz",
    "limit": "$10",
    "model": "gpt-6-luna",
    "n": "3",
    "name": "Aziza Karimova",
    "names": "Dilnoza, Sardor",
    "number": "100245",
    "owner": "Aziza Karimova",
    "period": "30",
    "plan": "Basic",
    "provider": "OpenAI",
    "reason": "Instagram",
    "size": "500",
    "text": "Salom!",
    "title": "Yangi narxlar",
    "used": "2 400",
}
"""What stands in a preview."""


def places(kind: str) -> list[str]:
    """Return the placeholders that a notice may hold; raises ``NotFound`` for one that there is not."""
    if kind not in notices.TEXTS:
        raise NotFound
    return list(dict.fromkeys(letter_texts.PLACE.findall(notices.TEXTS[kind].msgid)))


def needed(kind: str) -> list[str]:
    """Return those without which a notice says nothing: what somebody wrote."""
    return [each for each in places(kind) if each in letter_texts.ANSWERS]


async def kept(session: AsyncSession) -> Own:
    """Return an administrator's own words, by kind of notice and language."""
    row = models.LetterText
    found = await session.execute(select(row.kind, row.language, row.text).where(row.kind.startswith(PREFIX)))
    return {(kind.removeprefix(PREFIX), language): words for kind, language, words in found}


def words(kind: str, language: str, own: Own) -> str:
    """Return the text of a notice with its placeholders; raises ``NotFound`` as :func:`places`, or for a language without."""
    if kind not in notices.TEXTS or language not in letter_texts.LANGUAGES:
        raise NotFound
    return own.get((kind, language)) or translate(language, notices.TEXTS[kind].msgid)


def example(text: str) -> str:
    """Return how a text reads with examples in its places."""
    return fill(text, EXAMPLES)


def checked(kind: str, given: str) -> str:
    """Return a text as it is kept; raises ``Invalid`` as those of letters do, and ``NotFound``."""
    text = " ".join(clean(given).split())
    letter_texts.check(text, of="notice", field="text", limit=CHARS, known=places(kind), needed=needed(kind))
    return text


async def save(
    session: AsyncSession,
    person: models.User,
    kind: str,
    language: str,
    given: str,
    *,
    now: dt.datetime,
    seen: str = "",
) -> None:
    """Keep an administrator's words for a notice; the built-in ones are not kept.

    Raises ``Invalid``, ``NotFound``, and ``Conflict`` where the words are not those that were ``seen`` (empty: any).
    """
    before = words(kind, language, await kept(session))
    text = checked(kind, given)
    if seen and seen != mark_of(before):
        raise Conflict(letter_texts.OVERTAKEN, code="changed")
    built_in = translate(language, notices.TEXTS[kind].msgid)
    await letter_texts.keep(session, person, f"{PREFIX}{kind}", language, {PART: text}, {PART: built_in}, now=now)


async def reset(session: AsyncSession, person: models.User, kind: str, language: str) -> None:
    """Put the built-in words of a notice back; raises ``NotFound``."""
    words(kind, language, {})
    await letter_texts.forget(session, person, f"{PREFIX}{kind}", language)
