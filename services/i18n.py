"""Texts in the language of the person who reads them.

One gettext catalogue per language (``locales/<lang>/LC_MESSAGES/messages.po``) serves the bots, the pages and
the mail. Message ids are English sentences with ``{named}`` places. Uzbek in Cyrillic is made from the Latin
catalogue by :mod:`services.scripts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from services.scripts import to_cyrillic

LOCALES_DIR = Path(__file__).resolve().parent.parent / "locales"
CATALOGS = ("uz", "ru", "en")
LANGUAGES = ("uz", "uz-Cyrl", "ru", "en")
"""Every language the interface speaks, in the order the switch shows them."""
LANGUAGE_NAMES: Mapping[str, str] = {
    "uz": "O‘zbekcha",
    "uz-Cyrl": "Ўзбекча",
    "ru": "Русский",
    "en": "English",
}
DEFAULT_LANGUAGE = "uz"
# What stays as it is in Cyrillic: places, tags, commands, addresses, user names, times, keys and the words of protocols.
# Names are looked for where a word begins: from each of its letters, one of thousands would take seconds.
_PLACE = re.compile(
    r"\{[a-z_0-9]+\}|<[^>]*>|&[a-z]+;|https?://\S+|/[a-z_]+|(?<![A-Za-z0-9])\S*@[A-Za-z0-9_.]+"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+|[0-9]{6,}:\S+|Authorization: Bearer TOKEN|sk-|UTF-8|\.(?:env|jpg)\b"
    r"|\((?:uz|ru|en)\)|(?<![A-Za-z0-9])(?:[a-z]+\.)?[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+|“(?:bot|code|message|field|next)”"
    # What stands on the pages of Meta, the gateways and Telegram, on keys, and in what programs send each other.
    r"|\b(?:Access token|Verify token|Verify and save|Generate token|Callback URL|App secret|Phone number ID|API setup"
    r"|App settings|Webhook fields|Instagram app secret|Instagram Login|Telegram Business|Start|Aegis|2FAS"
    r"|Business settings|System users|Connected tools|Messages|Message templates|Human Agent|Edit"
    r"|Ctrl \+ Enter|Retry-After|Standard Webhooks|POST|null|messages|comments|embedding"
    r"|WhatsApp Manager|Facebook Login|SHOP API|Merchant API|CHANGELOG)\b"
)


def normalize_language(code: str | None) -> str:
    """Return the interface language for a code as browsers and Telegram write it (``uz-UZ``, ``ru``, ``kk``).

    Unknown or missing codes give :data:`DEFAULT_LANGUAGE`; languages of the former Union whose readers rather know
    Russian than Uzbek are not guessed here.
    """
    if not code:
        return DEFAULT_LANGUAGE
    lowered = code.replace("_", "-").lower()
    if lowered.startswith("uz-cyrl"):
        return "uz-Cyrl"
    primary = lowered.split("-", 1)[0]
    return primary if primary in CATALOGS else DEFAULT_LANGUAGE


@cache
def _catalog(language: str) -> NullTranslations:
    """Read one catalogue at first use; the compiled form is kept in memory only, so nothing can be stale on disk."""
    import io

    path = LOCALES_DIR / language / "LC_MESSAGES" / "messages.po"
    with path.open("rb") as source:
        catalog = read_po(source, locale=language)
    buffer = io.BytesIO()
    write_mo(buffer, catalog)
    buffer.seek(0)
    return Translations(buffer)


@lru_cache(maxsize=4096)
def _cyrillic(text: str) -> str:
    """Uzbek Latin to Cyrillic, leaving places, tags, commands, user names and addresses as they are."""
    parts: list[str] = []
    last = 0
    for match in _PLACE.finditer(text):
        parts += [to_cyrillic(text[last : match.start()]), match.group()]
        last = match.end()
    parts.append(to_cyrillic(text[last:]))
    return "".join(parts)


def in_cyrillic(text: str) -> str:
    """Return an Uzbek text in Latin letters, with its ``{places}``, in Cyrillic ones."""
    return _cyrillic(text)


def fill(text: str, params: Mapping[str, object]) -> str:
    """Return ``text``, which is in its language already, with its ``{places}`` filled; values are put in as they are."""
    return _fill(text, params, "")


def translate(language: str, msgid: str, /, **params: object) -> str:
    """Return ``msgid`` in ``language`` with its ``{places}`` filled; values are put in as they are, never formatted twice."""
    text = _said(language, msgid)
    return _fill(text, params, language) if params else text


@lru_cache(maxsize=16_384)
def _said(language: str, msgid: str) -> str:
    # A page says hundreds of things: looking each up anew is a good part of what it takes.
    if language == "uz-Cyrl":
        return _cyrillic(_catalog("uz").gettext(msgid))
    return _catalog(language if language in CATALOGS else DEFAULT_LANGUAGE).gettext(msgid)


def translate_plural(language: str, singular: str, plural: str, n: int, /, **params: object) -> str:
    """Return the form of the text that fits the number ``n``, which also fills the place ``{n}``."""
    return _fill(_counted(language, singular, plural, n), {"n": n, **params}, language)


@lru_cache(maxsize=16_384)
def _counted(language: str, singular: str, plural: str, n: int) -> str:
    if language == "uz-Cyrl":
        return _cyrillic(_catalog("uz").ngettext(singular, plural, n))
    return _catalog(language if language in CATALOGS else DEFAULT_LANGUAGE).ngettext(singular, plural, n)


class Words(str):
    """Words that somebody gave in several languages, such as the title of a plan; as a string, in one of them.

    Where they fill a place of a text they are in its language.
    """

    languages: Mapping[str, str] = {}

    @classmethod
    def of(cls, given: str | Mapping[str, str]) -> Words:
        """Return words as they are written in the configuration, or as :meth:`kept` gave them."""
        if isinstance(given, Words):
            return given
        languages = {} if isinstance(given, str) else dict(given)
        words = cls(given if isinstance(given, str) else given.get("en") or next(iter(given.values())))
        words.languages = languages
        return words

    def called(self, language: str) -> str:
        """Return the words in ``language``; where that is missing, in the one that stands for all."""
        if language == "uz-Cyrl" and "uz" in self.languages:
            return _cyrillic(self.languages["uz"])
        return self.languages.get(language, str(self))

    def kept(self) -> str | dict[str, dict[str, str]]:
        """Return the words for a row that is shown later, in a language that is not known yet: as they are, or
        ``{"words": …}`` with one for each language."""
        return {"words": dict(self.languages)} if self.languages else str(self)


def _fill(text: str, params: Mapping[str, object], language: str) -> str:
    params = {name: value.called(language) if isinstance(value, Words) else value for name, value in params.items()}
    # Not str.format: a value or a catalogue line must never reach attributes of an object.
    if not params:
        return text
    return re.sub(r"\{([a-z_0-9]+)\}", lambda m: str(params[m[1]]) if m[1] in params else m[0], text)


@dataclass(frozen=True, slots=True)
class Text:
    """A message that is translated where it is shown: an English id and the values of its places.

    A value may be a :class:`Text` itself.
    """

    msgid: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def render(self, language: str) -> str:
        """Return the text in ``language``."""
        values = {k: v.render(language) if isinstance(v, Text) else v for k, v in self.params.items()}
        return translate(language, self.msgid, **values)


def T(msgid: str, /, **params: Any) -> Text:
    """Mark and carry a text for later translation."""
    return Text(msgid, params)


Translator = Callable[..., str]


def translator(language: str) -> Translator:
    """Return the function usually bound to ``_``: ``_("Hello {name}", name=…)`` in ``language``."""

    def gettext(msgid: str, /, **params: object) -> str:
        return translate(language, msgid, **params)

    return gettext
