"""An administrator's own words for notices: checked, kept beside those of letters, and known to every process."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for
from services import access, notices
from services.errors import Conflict, NotFound
from services.i18n import fill, translate
from services.letters import texts as letter_texts
from services.notices import Own
from services.text import clean

KIND = "notice:"
"""So the kinds of notices begin among the texts that are kept."""
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
    found = await session.execute(select(row.kind, row.language, row.text).where(row.kind.startswith(KIND)))
    return {(kind.removeprefix(KIND), language): words for kind, language, words in found}


def words(kind: str, language: str, own: Own) -> str:
    """Return the text of a notice with its placeholders; raises ``NotFound`` as :func:`places`, or for a language without."""
    if kind not in notices.TEXTS or language not in letter_texts.LANGUAGES:
        raise NotFound
    return own.get((kind, language)) or translate(language, notices.TEXTS[kind].msgid)


def example(text: str) -> str:
    """Return how a text reads with examples in its places."""
    return fill(text, EXAMPLES)


def mark(text: str) -> str:
    """Return what tells whether a text is still the one that a form showed: it carries this back as ``seen``."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checked(kind: str, given: str) -> str:
    """Return a text as it is kept; raises ``Invalid`` as those of letters do, and ``NotFound``."""
    text = " ".join(clean(given).split())
    letter_texts.check(text, field="text", limit=CHARS, known=places(kind), needed=needed(kind))
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
    if seen and seen != mark(before):
        raise Conflict(letter_texts.OVERTAKEN, code="changed")
    row = models.LetterText
    if text == translate(language, notices.TEXTS[kind].msgid):
        await _forget(session, kind, language)
    else:
        values = {"text": text, "changed_by": person.id, "changed_at": now}
        await session.execute(
            insert_for(session.get_bind().dialect.name, row)
            .values(kind=f"{KIND}{kind}", language=language, part=PART, **values)
            .on_conflict_do_update(index_elements=["kind", "language", "part"], set_=values)
        )
    await access.record(session, person, "letter_text_changed", "letter_text", f"{KIND}{kind}:{language}")


async def reset(session: AsyncSession, person: models.User, kind: str, language: str) -> None:
    """Put the built-in words of a notice back; raises ``NotFound``."""
    words(kind, language, {})
    await _forget(session, kind, language)
    await access.record(session, person, "letter_text_reset", "letter_text", f"{KIND}{kind}:{language}")


async def _forget(session: AsyncSession, kind: str, language: str) -> None:
    row = models.LetterText
    await session.execute(delete(row).where(row.kind == f"{KIND}{kind}", row.language == language))
