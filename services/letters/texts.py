"""An administrator's own words for letters: checked, kept per language and part, and put back to the built-in ones."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for
from services import access, letters
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T, translate
from services.letters import rendering
from services.letters.base import Kind
from services.shown import mark_of
from services.text import clean

LANGUAGES = ("uz", "ru", "en")
"""Those in which texts are written; Uzbek in Cyrillic is made from the Latin one."""
LIMITS: Mapping[str, int] = {"subject": 150, "text": 5000, "telegram": 3000}
ANSWERS = ("answer", "message", "note", "reason", "text")
"""Placeholders of what an administrator or an owner writes: forms promise that it arrives."""
OVERTAKEN = T(
    "Another administrator has changed these texts meanwhile; the preview shows them. Save again to put yours in their place."
)
PLACE = re.compile(r"\{([a-z_0-9]+)\}")


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a letter as the form shows it. ``own``: an administrator has changed it."""

    name: str
    words: str
    own: bool


def kind_of(name: str, language: str) -> Kind:
    """Return a kind of letter; raises ``NotFound`` for an unknown one, or a language in which no texts are written."""
    kind = letters.KINDS.get(name)
    if kind is None or language not in LANGUAGES:
        raise NotFound
    return kind


async def changed(session: AsyncSession) -> set[tuple[str, str]]:
    """Return kind and language of all letters that have words of an administrator."""
    rows = await session.execute(select(models.LetterText.kind, models.LetterText.language).distinct())
    return {(row.kind, row.language) for row in rows}


async def parts(session: AsyncSession, name: str, language: str) -> list[Part]:
    """Return the texts of a letter; raises ``NotFound`` as :func:`kind_of`."""
    kind = kind_of(name, language)
    own = await rendering.own_words(session, name)
    found = []
    for part in rendering.PARTS:
        words = rendering.pattern(kind, part, language, own)
        if words is not None:
            found.append(Part(part, words, (language, part) in own))
    return found


def needed(kind: Kind, part: str) -> list[str]:
    """Return the placeholders without which a text says nothing: what somebody wrote, and a code that no button stands for."""
    built_in = getattr(kind, part)
    held = PLACE.findall(built_in.msgid) if built_in is not None else []
    codes = ("code",) if kind.button is None else ()
    return [each for each in held if each in (*ANSWERS, *codes)]


def checked(name: str, language: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a form by part, cleaned.

    Raises ``Invalid`` with the part as its field: empty, too long, a placeholder that the letter does not know, one that must
    not be left out (:func:`needed`), a lone brace.
    """
    kind = kind_of(name, language)
    known = rendering.placeholders(kind)
    words: dict[str, str] = {}
    for part in rendering.PARTS:
        if getattr(kind, part) is None:
            continue
        text = clean(given.get(part, "").replace("\r\n", "\n").replace("\r", "\n")).strip()
        if part == "subject":
            text = " ".join(text.split())
        check(text, of="letter", field=part, limit=LIMITS[part], known=known, needed=needed(kind, part))
        words[part] = text
    return words


def check(
    text: str,
    *,
    of: Literal["letter", "notice"],
    field: str,
    limit: int,
    known: Sequence[str],
    needed: Sequence[str],
) -> None:
    """Raise ``Invalid`` with the field for a text that could not be sent; ``known`` and ``needed``: placeholders."""
    if not text:
        raise Invalid(T("This cannot be empty. “Built-in text” brings back the original."), field=field)
    if len(text) > limit:
        raise Invalid(T("This is too long: at most {n} characters.", n=limit), field=field)
    held, listed = PLACE.findall(text), ", ".join(f"{{{each}}}" for each in known)
    unknown = [f"{{{each}}}" for each in held if each not in known]
    if not known and re.search("[{}]", text):
        raise Invalid(T("Nothing is put in here by itself: write it without braces."), field=field)
    if unknown and of == "notice":
        raise Invalid(
            T("This notice does not know {place}. It knows: {list}.", place=unknown[0], list=listed), field=field
        )
    if unknown:
        raise Invalid(
            T("This letter does not know {place}. It knows: {list}.", place=unknown[0], list=listed), field=field
        )
    if re.search("[{}]", PLACE.sub("", text)):
        raise Invalid(T("A brace stands alone. Placeholders are written like this: {list}.", list=listed), field=field)
    missing = [each for each in needed if each not in held]
    if missing:
        raise Invalid(
            T("{place} cannot be left out: it is what this text is for.", place=f"{{{missing[0]}}}"),
            field=field,
        )


def mark(shown: Sequence[Part]) -> str:
    """Return what tells whether the texts of a letter are still those that a form showed: it carries this back as ``seen``."""
    return mark_of([(part.name, part.words) for part in shown])


async def save(
    session: AsyncSession,
    person: models.User,
    name: str,
    language: str,
    given: Mapping[str, str],
    *,
    now: dt.datetime,
    seen: str = "",
) -> None:
    """Keep an administrator's words for a letter; those that are the built-in ones are not kept. Raises as :func:`checked`.

    Raises ``Conflict`` where they are not those that were ``seen`` any more (:func:`mark`, empty for any).
    """
    words = checked(name, language, given)
    if seen and seen != mark(await parts(session, name, language)):
        raise Conflict(OVERTAKEN, code="changed")
    kind = kind_of(name, language)
    built_in = {part: translate(language, getattr(kind, part).msgid) for part in words}
    await keep(session, person, name, language, words, built_in, now=now)


async def keep(
    session: AsyncSession,
    person: models.User,
    name: str,
    language: str,
    words: Mapping[str, str],
    built_in: Mapping[str, str],
    *,
    now: dt.datetime,
) -> None:
    """Keep checked texts by part under a name; those that are the built-in ones are not kept."""
    row = models.LetterText
    for part, text in words.items():
        if text == built_in[part]:
            await session.execute(delete(row).where(row.kind == name, row.language == language, row.part == part))
            continue
        values = {"text": text, "changed_by": person.id, "changed_at": now}
        await session.execute(
            insert_for(session.get_bind().dialect.name, row)
            .values(kind=name, language=language, part=part, **values)
            .on_conflict_do_update(index_elements=["kind", "language", "part"], set_=values)
        )
    await access.record(session, person, "letter_text_changed", "letter_text", f"{name}:{language}")


async def reset(session: AsyncSession, person: models.User, name: str, language: str) -> None:
    """Put the built-in texts of a letter back; raises ``NotFound`` as :func:`kind_of`."""
    kind_of(name, language)
    await forget(session, person, name, language)


async def forget(session: AsyncSession, person: models.User, name: str, language: str) -> None:
    """Delete what is kept under a name in one language."""
    row = models.LetterText
    await session.execute(delete(row).where(row.kind == name, row.language == language))
    await access.record(session, person, "letter_text_reset", "letter_text", f"{name}:{language}")


def preview(
    name: str, language: str, words: Mapping[str, str], *, person: str, public_url: str, brand: str
) -> rendering.Written:
    """Return how a letter with these texts looks, filled with examples."""
    kind = kind_of(name, language)
    example = dict(kind.example)
    own = {(language, part): text for part, text in words.items()}
    # The address leads nowhere: who tries it in a preview must not unsubscribe anybody.
    return rendering.write_out(
        kind,
        language,
        {"path": "/dashboard", **example},
        own=own,
        name=person,
        public_url=public_url,
        brand=brand,
        unsubscribe=f"{public_url}/unsubscribe/preview",
        telegram_beside=True,
    )


def subject(name: str, language: str, params: Mapping[str, Any] | None = None) -> str:
    """Return the built-in subject of a letter, by which administrators know it; examples stand for missing ``params``."""
    kind = letters.KINDS[name]
    sample = {key: rendering.shown(value, language) for key, value in {**dict(kind.example), **(params or {})}.items()}
    return translate(language, kind.subject.msgid, **sample)
