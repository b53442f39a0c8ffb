"""In which script what a document says in Uzbek is shown to a customer."""

from __future__ import annotations

import re

from services import languages
from services.scripts import to_cyrillic, to_latin

_CYRILLIC_LETTER, _LATIN_LETTER = re.compile("[Ѐ-ӿ]"), re.compile("[A-Za-z]")


def in_script(text: str, language: str, detected: str | None) -> str:
    """Return Uzbek text in the script of ``language``; other languages, by what was ``detected``, as they are."""
    if language == "uz-Cyrl" and detected == "uz":
        return to_cyrillic(text) if _LATIN_LETTER.search(text) else text
    if language == "uz" and detected == "uz-Cyrl":
        return to_latin(text) if _CYRILLIC_LETTER.search(text) else text
    return text


_SURE = 0.85
_TELLING = 2
"""So many words of a line outweigh what stands around it."""
_CELL = re.compile(r"(• ([^:\n]{1,60}): )(.+)")
_CAPITALISED = re.compile(r"(?<![\w'‘’])[A-Z][A-Za-z]{3,}(?![\w'‘’])")
_GOES_ON = re.compile(r"(?:[ -](?:[A-Z]\w*|\d\w*)(?![\w'‘’]))*")
_NAMES_THAT_ARE_WORDS = frozenset(("mini", "plus", "test", "uzum"))


def quoted_in_script(text: str, language: str) -> str:
    """Return lines of a document in the script of ``language`` as far as they are Uzbek.

    A word alone is judged by the lines around it, a row by the names of its columns. English cells and names of makers
    stay Latin.
    """
    if language not in (languages.UZBEK, languages.UZBEK_CYRILLIC):
        return text
    columns = " ".join(cell[2] for line in text.split("\n") if (cell := _CELL.fullmatch(line)))
    around = _written(columns) or _written(text)
    return "\n".join(_line_in_script(line, language, around) for line in text.split("\n"))


def _line_in_script(line: str, language: str, around: str | None) -> str:
    cell = _CELL.fullmatch(line)
    if cell is None:
        own = _written(line, least=_TELLING) or around
        return _but_for_names(line, language, own)
    own = around or _written(line)
    english = _written(cell[3]) == languages.ENGLISH
    return in_script(cell[1], language, own) + (cell[3] if english else _but_for_names(cell[3], language, own))


def _but_for_names(text: str, language: str, own: str | None) -> str:
    """Return text that is written in the language ``own`` in the script of ``language``; "Nike Air Jordan" stays."""
    parts: list[str] = []
    end = 0
    for match in _CAPITALISED.finditer(text):
        if match.start() >= end and _is_name(match[0]):
            going_on = _GOES_ON.match(text, match.end())
            parts += [in_script(text[end : match.start()], language, own), match[0], going_on[0] if going_on else ""]
            end = match.end() + len(parts[-1])
    return "".join([*parts, in_script(text[end:], language, own)])


def _written(text: str, least: int = 1) -> str | None:
    """Return the language of a piece of a document, None where it is not sure.

    ``least``: of so many words, but for English, whose words are its own. No document is Russian in Latin letters.
    """
    found = languages.detect(text)
    if found.language == languages.RUSSIAN and languages.script_of(text) == "latin":
        return languages.UZBEK if least == 1 else None
    enough = found.language == languages.ENGLISH or len(languages.words_of(text)) >= least
    return found.language if enough and found.confidence >= _SURE else None


def _is_name(word: str) -> bool:
    """Whether a word is the name of a maker or of goods: those say nothing about a language."""
    return word.lower() not in _NAMES_THAT_ARE_WORDS and not languages.words_of(word)
