"""What a bot says word for word: its owner's own lines by language, in the place of ours.

They lie in ``Bot.settings["lines"]``. Uzbek is written once, in Latin letters; the other script is made of it. A line that is
not written is ours. ``{name}`` and ``{when}`` are places; whatever else stands in braces is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.errors import Invalid
from services.i18n import CATALOGS, T, Text, in_cyrillic
from services.text import clean

LINE_CHARS = 500
KEYS = ("greeting", "unknown", "handed_over", "closed_hours", "stopped")
LANGUAGES = tuple(CATALOGS)
TITLES: Mapping[str, Text] = {
    "greeting": T("Greeting"),
    "unknown": T("When it does not know the answer"),
    "handed_over": T("When a person is called"),
    "closed_hours": T("Outside office hours"),
    "stopped": T("While the bot is stopped"),
}
OURS: Mapping[str, Text] = {
    "greeting": T("Hello! 👋 I am {name}. Ask me anything, I answer at any hour."),
    "unknown": T(
        "Sorry, I have no information about that 🙏 I passed your question on. Write /operator to talk to a person."
    ),
    "handed_over": T("I have called a person 🙋 They will write to you here. Meanwhile you can go on asking me."),
    "closed_hours": T("Our people will answer {when}."),
    "stopped": T("This bot is resting now 😴 Please write again later."),
}
"""What the bot says where its owner wrote nothing."""
PLACES: Mapping[str, tuple[str, ...]] = {"greeting": ("{name}",), "closed_hours": ("{when}",)}
"""What may stand in a line for something that is known only when it is said."""

Lines = Mapping[str, Mapping[str, str]]


def kept(settings: Mapping[str, Any] | None) -> Lines:
    """Return the owner's own lines by key and language; what is not written is not in it."""
    return (settings or {}).get("lines") or {}


def own(settings: Mapping[str, Any] | None, key: str, language: str, **values: str) -> str:
    """Return the owner's line in a language with its places filled, empty where there is none."""
    line = kept(settings).get(key, {}).get(language.split("-")[0], "")
    if not line:
        return ""
    if language == "uz-Cyrl":
        line = in_cyrillic(line)
    for name, value in values.items():
        line = line.replace(f"{{{name}}}", value)
    return line


def said(settings: Mapping[str, Any] | None, key: str, language: str, **values: str) -> str:
    """Return what the bot says: the owner's line, or ours."""
    return own(settings, key, language, **values) or T(OURS[key].msgid, **values).render(language)


def changed(settings: Mapping[str, Any] | None, given: Lines) -> dict[str, Any]:
    """Return a bot's settings with these lines in the place of all that were there; empty ones are ours again.

    Raises ``Invalid`` naming the field, such as ``greeting-uz``.
    """
    lines: dict[str, dict[str, str]] = {}
    for key in KEYS:
        for language in LANGUAGES:
            text = clean(str(given.get(key, {}).get(language, ""))).replace("\r\n", "\n").strip()
            if len(text) > LINE_CHARS:
                raise Invalid(T("This is too long: at most {n} characters.", n=LINE_CHARS), field=f"{key}-{language}")
            if text:
                lines.setdefault(key, {})[language] = text
    result = {name: value for name, value in (settings or {}).items() if name != "lines"}
    return {**result, "lines": lines} if lines else result
