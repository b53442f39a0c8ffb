"""Amounts and other numbers for people: "290 000 so‘m". In code and database they are integer tiyin."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import DEFAULT_LANGUAGE
from services.plans import TIYIN

# Babel knows the so'm with two decimals, not at all in Russian, and spells it with a letter that nobody types.
_WORD: Mapping[str, str] = {"uz": "so‘m", "uz-Cyrl": "сўм", "ru": "сум", "en": "UZS"}
_SPACE = "\N{NO-BREAK SPACE}"


def text(tiyin: int, language: str) -> str:
    """Return an amount of tiyin as ``language`` writes it; tiyin that are no whole so'm stand behind a comma."""
    return f"{digits(tiyin)}{_SPACE}{_WORD.get(language, _WORD[DEFAULT_LANGUAGE])}"


def digits(tiyin: int) -> str:
    """Return an amount of tiyin in so'm without their name: ``290 000``."""
    whole, rest = divmod(abs(tiyin), TIYIN)
    sign = "−" if tiyin < 0 else ""
    return sign + f"{whole:,}".replace(",", _SPACE) + (f",{rest:02}" if rest else "")


def count(value: int, language: str) -> str:
    """Return a whole number as ``language`` writes it: ``15 000``, in English ``15,000``."""
    return f"{value:,}" if language == "en" else f"{value:,}".replace(",", _SPACE)


def percent(value: int, language: str) -> str:
    """Return whole percent as ``language`` writes them: ``15 %``, in English ``15%``."""
    return f"{value}%" if language == "en" else f"{value}{_SPACE}%"


def plain(tiyin: int) -> str:
    """Return an amount in so'm as tables for other programs hold it: ``290000`` or ``290000.50``."""
    whole, rest = divmod(abs(tiyin), TIYIN)
    return ("-" if tiyin < 0 else "") + str(whole) + (f".{rest:02}" if rest else "")
