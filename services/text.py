"""Cleaning and cutting of text that people and models write."""

from __future__ import annotations

import re

# NUL breaks PostgreSQL, lone surrogates break UTF-8, tag characters (U+E0000–E007F) hide orders to a model.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\U000e0000-\U000e007f\ufffe\uffff]")
_NATURAL_BREAKS = ("\n\n", "\n", ". ", "! ", "? ", "; ", ", ", " ")


def clean(text: str, limit: int | None = None) -> str:
    """Return ``text`` without characters that no reader sees, cut to ``limit`` characters."""
    if limit is not None and len(text) > limit:
        text = text[:limit]
    return _UNWANTED.sub("", text)


def one_line(text: str, limit: int) -> str:
    """Return ``text`` as one line of at most ``limit`` characters: for names, titles and file names."""
    return " ".join(clean(text, limit * 4).split())[:limit].strip()


def phone(value: str | None) -> str:
    """Return ``+998 90 123 45 67`` for what is stored as ``+998901234567``."""
    if value and value.startswith("+998") and len(value) == 13:
        return f"+998 {value[4:6]} {value[6:9]} {value[9:11]} {value[11:]}"
    return value or ""


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 units, which Telegram counts in."""
    return len(text) + sum(ch > "\uffff" for ch in text)


def utf8_length(text: str) -> int:
    """Return the length in bytes of UTF-8, which Instagram counts in."""
    return len(text.encode(errors="replace"))


_LENGTHS = {"utf16": utf16_length, "utf8": utf8_length}


def split_text(text: str, limit: int, unit: str = "utf16") -> list[str]:
    """Cut ``text`` into parts of at most ``limit`` units (``utf8``: bytes) at paragraphs, lines, sentences or words.

    No part is empty; the parts joined give the text but for white space at the cuts; no character is cut in two.
    """
    length = _LENGTHS[unit]
    parts: list[str] = []
    rest = text.strip()
    while rest:
        if length(rest) <= limit:
            parts.append(rest)
            break
        end = units = 0
        for character in rest:
            units += length(character)
            if units > limit:
                break
            end += 1
        cut = end
        for mark in _NATURAL_BREAKS:
            place = rest.rfind(mark, end // 3, end + 1)
            if place > 0:
                cut = min(place + len(mark), end)
                break
        part = rest[:cut].rstrip()
        if part:
            parts.append(part)
        rest = rest[cut:].lstrip()
    return parts
