"""A bot's words in versions: each change that is published makes one, and any of them can be brought back.

A version keeps the name, the instructions, the languages and what of ``Bot.settings`` says how the bot and its people behave. A
draft (``Bot.draft``) holds the same without the settings but the lines; customers get nothing of it until it is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services.errors import NotFound
from services.i18n import T, Text
from services.paging import number_of
from services.shown import mark_of

SETTINGS = ("lines", "hours", "return_after_min", "silent_text")
"""What of ``Bot.settings`` a version keeps; the rest is no word of the bot's."""
FIELDS: Mapping[str, Text] = {
    "name": T("The bot’s name"),
    "system_prompt": T("Instructions"),
    "languages": T("Languages of the answers"),
    "lines": T("The bot’s own lines"),
    "hours": T("Office hours, Tashkent time"),
    "return_after_min": T("The bot answers again"),
    "silent_text": T("When the plan has ended or its messages are used up"),
}
Form = Literal["words", "manner"]
"""The two forms that people write a bot's words with: what it is told and says, and how its people answer."""
OVERTAKEN = T(
    "Somebody has changed this since you opened the page. What you wrote is still here: compare the two, then save again."
)
"""What is said to somebody whose words would take the place of others than were seen."""
PAGE = 20
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Change:
    """What one field was and became; None: nothing was kept of it."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Row:
    """A version with what it changed; ``first``: there is none before it. ``current``: it is what customers get now."""

    version: models.BotVersion
    changes: tuple[Change, ...]
    first: bool
    current: bool


def content_of(bot: models.Bot) -> dict[str, Any]:
    """Return a bot's words as a version keeps them."""
    settings = bot.settings or {}
    kept = {key: settings[key] for key in SETTINGS if settings.get(key) not in (None, "", [], {})}
    return {
        "name": bot.name,
        "system_prompt": bot.system_prompt,
        "languages": list(bot.languages),
        "settings": kept,
    }


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: content[key] for key in ("name", "system_prompt", "languages")},
        **{key: content["settings"].get(key) for key in SETTINGS},
    }


def mark(bot: models.Bot, form: Form) -> str:
    """Return what tells whether the words of a form still are as somebody saw them: it carries that back as ``seen``."""
    settings = bot.settings or {}
    words = [bot.name, bot.system_prompt, bot.languages, settings.get("lines") or {}, bot.draft]
    said = words if form == "words" else [settings.get(key) for key in ("hours", "return_after_min", "silent_text")]
    return mark_of(said)


async def hold(session: AsyncSession, bot: models.Bot) -> None:
    """Read a bot anew and let nobody else change it until this transaction ends."""
    await session.refresh(bot, with_for_update={"key_share": True})


def differences(mine: Mapping[str, Any], saved: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the fields in which words differ from those that are saved, both as a draft keeps them."""
    return tuple(Change(key, mine[key], saved[key]) for key in FIELDS if key in mine and mine[key] != saved[key])


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the fields in which two versions differ."""
    old, new = _flat(before), _flat(after)
    return tuple(Change(key, old[key], new[key]) for key in FIELDS if old[key] != new[key])


async def _last(session: AsyncSession, bot: models.Bot) -> models.BotVersion | None:
    row = models.BotVersion
    # One after the other: two who save at once make two versions.
    await session.execute(select(models.Bot.id).where(models.Bot.id == bot.id).with_for_update(key_share=True))
    return await session.scalar(select(row).where(row.bot_id == bot.id).order_by(row.number.desc()).limit(1))


async def publish(
    session: AsyncSession,
    bot: models.Bot,
    before: Mapping[str, Any],
    author: models.User | None = None,
    *,
    undoes: int | None = None,
) -> models.BotVersion | None:
    """Keep a bot's words as they are now; ``before``: as they were, which is the first version where none was kept yet.

    Returns the version that held until now, to undo; None where nothing changed.
    """
    after = content_of(bot)
    if not changes(before, after):
        return None
    last = await _last(session, bot)
    if last is None or changes(last.content, before):
        # Words from before versions were kept, or changed by other means.
        number = 1 if last is None else last.number + 1
        made = bot.created_at if last is None else utcnow()
        last = models.BotVersion(bot_id=bot.id, number=number, content=dict(before), created_at=made)
        session.add(last)
        await session.flush()
    session.add(
        models.BotVersion(
            bot_id=bot.id,
            number=last.number + 1,
            content=after,
            undoes=undoes,
            author_id=author.id if author else None,
            created_at=utcnow(),
        )
    )
    await session.flush()
    return last


async def list_for(
    session: AsyncSession, bot: models.Bot, *, cursor: str = "", limit: int = PAGE
) -> tuple[list[Row], str]:
    """Return a bot's versions, the latest first, and the cursor of the following part, empty where there is none.

    Raises ``Invalid`` for a malformed cursor.
    """
    row = models.BotVersion
    query = select(row).where(row.bot_id == bot.id).order_by(row.number.desc()).limit(limit + 1)
    if cursor:
        query = query.where(row.number < number_of(cursor, digits=_MOST_DIGITS))
    found = list(await session.scalars(query))
    now = content_of(bot)
    shown = [
        Row(
            version,
            changes(found[place + 1].content, version.content) if place + 1 < len(found) else (),
            place + 1 == len(found),
            not cursor and place == 0 and not changes(version.content, now),
        )
        for place, version in enumerate(found[:limit])
    ]
    return shown, str(found[limit - 1].number) if len(found) > limit else ""


async def count(session: AsyncSession, bot: models.Bot) -> int:
    """Return how many versions of a bot are kept."""
    row = models.BotVersion
    return int(await session.scalar(select(func.count()).where(row.bot_id == bot.id)) or 0)


async def bring_back(
    session: AsyncSession, bot: models.Bot, number: str, author: models.User | None = None
) -> models.BotVersion | None:
    """Publish a version once more; returns the one that held until now, None where nothing differs. Raises ``NotFound``."""
    if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
        raise NotFound()
    row = models.BotVersion
    wanted = await session.scalar(select(row).where(row.bot_id == bot.id, row.number == int(number)))
    if wanted is None:
        raise NotFound()
    before, content = content_of(bot), wanted.content
    bot.name, bot.system_prompt, bot.languages = content["name"], content["system_prompt"], list(content["languages"])
    settings = {key: value for key, value in (bot.settings or {}).items() if key not in SETTINGS}
    bot.settings = {**settings, **content["settings"]}
    session.add(bot)
    await session.flush()
    return await publish(session, bot, before, author, undoes=wanted.number)


async def keep_draft(session: AsyncSession, bot: models.Bot, draft: Mapping[str, Any] | None) -> None:
    """Keep words that are not published yet; None forgets them."""
    bot.draft = dict(draft) if draft is not None else None
    session.add(bot)
    await session.flush()


def described(change: Change, tell: Callable[[str, Any], str]) -> Sequence[tuple[str, str]]:
    """Return what a field was and became: a pair of texts for each part of it that differs.

    ``tell``: says a field's value in words; it is not asked for one that is empty.
    """

    def one(value: Any) -> str:
        return "" if value in (None, "", [], {}) else tell(change.field, value)

    if change.field != "lines":
        return [(one(change.before), one(change.after))]
    old, new = change.before or {}, change.after or {}
    pairs = [
        (old.get(key, {}).get(code, ""), new.get(key, {}).get(code, ""))
        for key in dict.fromkeys((*old, *new))
        for code in dict.fromkeys((*old.get(key, {}), *new.get(key, {})))
    ]
    return [(was, now) for was, now in pairs if was != now]
