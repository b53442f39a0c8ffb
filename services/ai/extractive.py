"""An answer without a model: the best passage, quoted.

Only what stands in the passages is said. Uzbek text is shown in the customer's script; a passage in another language is
quoted as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.i18n import T
from services.scripts import APOSTROPHES, to_cyrillic, to_latin

MAX_CHARS = 600
Quotable = str | tuple[str, str]
"""A passage, or a question with its answer."""
_WORD = re.compile(r"\w+(?:'\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"»”)]*\s+(?=[\"«“(]*[A-ZА-ЯЁЎҚҒҲ0-9])|\n+")
_FIELD = re.compile(r"\s*([^:;\n]{1,60}):\s+(\S.*)", re.DOTALL)
_CYRILLIC = re.compile(r"[а-яёўқғҳ]", re.IGNORECASE)
_LATIN = re.compile(r"[a-z]", re.IGNORECASE)
_RUSSIAN = re.compile(r"[ыщэ]|\b(?:и|в|на|не|для|от|до|по|с|что|как|или|при)\b", re.IGNORECASE)
_ENGLISH = re.compile(r"\b(?:the|and|of|is|are|for|to|in|on|at|we|you|our|your|with|from|or|per|a)\b", re.IGNORECASE)
_UZBEK = re.compile(
    r"[ўқғҳ]|[og][‘’'ʻʼ`]|\b(?:va|uchun|bilan|so‘m|bor|yo‘q|ham|bo‘yicha|narxi|kuni|soat|dan|gacha|emas|mumkin)\b"
    r"|\b(?:ва|учун|билан|сўм|бор|йўқ|ҳам|нархи|куни|соат|эмас|мумкин)\b|(?:lar|ning|dan|gacha|миз|лар|нинг|дан)\b",
    re.IGNORECASE,
)
_ASKED, _TOLD = "savol|савол|вопрос|question", "javob|жавоб|ответ|answer"
_QUESTION_LABEL = re.compile(rf"{_ASKED}|[qsвс]", re.IGNORECASE)
_ANSWER_LABEL = re.compile(rf"{_TOLD}|[ajож]", re.IGNORECASE)
_ANSWER = re.compile(rf"(?:{_TOLD})[ \t]*:\s*", re.IGNORECASE)
# "Savol 3: … Javob: …": the words also in the middle of a line, single letters only where one begins or a question ends.
_NUMBER = r"[ \t]*№?[ \t]*\d{0,3}[ \t]*:"
_QUESTION_BEGINS = rf"(?:^[ \t]*(?:\d{{1,3}}[.)][ \t]*)?(?:{_ASKED}|[qsвс])|(?<!\w)(?:{_ASKED})){_NUMBER}"
_ANSWER_BEGINS = rf"(?:^[ \t]*(?:{_TOLD}|[ajож])|(?<!\w)(?:{_TOLD})|(?<=[?!.] )[ajож]){_NUMBER}"
_PAIR = re.compile(
    rf"{_QUESTION_BEGINS}[ \t]*(?P<question>\S.{{0,500}}?)\s*{_ANSWER_BEGINS}\s*(?P<answer>\S.*?)"
    rf"(?=\n[ \t]*\n|{_QUESTION_BEGINS}|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_LEAD = T("Here is what I found for you 📄")
_ONE_APOSTROPHE = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))


def answer(question: str, passages: Sequence[Quotable], language: str, *, limit: int = MAX_CHARS) -> str:
    """Return a short answer quoted from ``passages`` (best first), at most ``limit`` characters after the lead-in.

    ``language``: of the customer (``uz``, ``uz-Cyrl``, ``ru``, ``en``). Empty if there is no passage with text.
    """
    quoted = quote(question, passages, language, limit=limit)
    return f"{_LEAD.render(language)}\n\n{quoted}" if quoted else ""


def quote(question: str, passages: Sequence[Quotable], language: str, *, limit: int = MAX_CHARS) -> str:
    """The quoted part of :func:`answer` alone."""
    return _in_script(_best(question, passages, limit), language)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is quoted as a whole. ``told``: what it is about; of a question with its answer only the answer is ``shown``."""

    shown: str
    told: str
    row: bool = False
    pair: bool = False


def _best(question: str, passages: Sequence[Quotable], limit: int) -> str:
    wanted = _stems(question)
    best: list[tuple[float, int, list[_Unit], int]] = []
    for place, passage in enumerate(passages):
        units = _units(passage) if isinstance(passage, str) else [_pair(*passage)]
        for number, unit in enumerate(units):
            # A passage found first keeps its lead unless another one holds clearly more of the question.
            score = _overlap(wanted, unit.told) - 1.5 * place
            best.append((score, place, units, number))
    if not best:
        return ""
    _, _, units, number = max(best, key=lambda b: (b[0], -b[1], -b[3]))
    first = units[number]
    chosen = [first.shown]
    room = limit - len(first.shown)
    following = range(number + 1, len(units))
    if first.row:
        following = range(0)
        same = sorted(
            (unit for n, unit in enumerate(units) if n != number and unit.row),
            key=lambda unit: -_overlap(wanted, unit.told),
        )
        least = max(_overlap(wanted, first.told), 1.0)
        for unit in same:
            if _overlap(wanted, unit.told) < least or len(unit.shown) + 2 > room:
                break
            chosen.append(unit.shown)
            room -= len(unit.shown) + 2
    for n in following:
        unit = units[n]
        if len(unit.shown) + 1 > room or unit.row or unit.pair:
            break
        chosen.append(unit.shown)
        room -= len(unit.shown) + 1
    return _cut(("\n\n" if first.row else " ").join(chosen), limit)


def _units(passage: str) -> list[_Unit]:
    """Table rows as they are, questions with their answers, prose in sentences."""
    units: list[_Unit] = []
    end = 0
    for match in _PAIR.finditer(passage):
        units += _prose(passage[end : match.start()])
        units.append(_pair(match["question"], match["answer"]))
        end = match.end()
    return units + _prose(passage[end:])


def _pair(question: str, answer: str) -> _Unit:
    return _Unit(answer.strip(), f"{question}\n{answer}", pair=True)


def _prose(text: str) -> list[_Unit]:
    units: list[_Unit] = []
    for line in text.splitlines():
        line = line.strip()
        if label := _ANSWER.match(line):
            line = line[label.end() :]
        if not line:
            continue
        if fields := _fields(line):
            units.append(_row(line, fields))
        else:
            units += [_Unit(s.strip(), s) for s in _SENTENCE_END.split(line) if s.strip()]
    return units


def _row(line: str, fields: list[tuple[str, str]]) -> _Unit:
    """A row field by field; of a row with a question and its answer only the answer, and what else it tells."""
    answer = next((value for name, value in fields if _ANSWER_LABEL.fullmatch(name)), "")
    if answer and any(_QUESTION_LABEL.fullmatch(name) for name, _ in fields):
        return _Unit(answer, line, pair=True)
    return _Unit("\n".join(f"• {name}: {value}" for name, value in fields), line, row=True)


def _fields(line: str) -> list[tuple[str, str]] | None:
    """The fields of ``Header: value; Header: value``, or None if the line is not such a row."""
    if line.count(": ") < 2 or ";" not in line:
        return None
    fields: list[tuple[str, str]] = []
    for part in line.split(";"):
        match = _FIELD.fullmatch(part.rstrip())
        if match:
            fields.append((match[1].strip(), match[2].strip()))
        elif fields and part.strip():  # a semicolon inside a value
            fields[-1] = (fields[-1][0], f"{fields[-1][1]}; {part.strip()}")
        elif part.strip():
            return None
    return fields if len(fields) > 1 else None


def _stems(text: str) -> set[str]:
    """Words reduced to what survives script and suffixes well enough to compare: Latin letters, first five."""
    words = _WORD.findall(to_latin(text.lower()).translate(_ONE_APOSTROPHE))
    stems = (w if w.isdigit() else w.replace("'", "")[:5] for w in words)
    return {s for s in stems if len(s) > 2 or s.isdigit()}


def _overlap(wanted: set[str], unit: str) -> float:
    """How much of the question a unit holds; long words tell more than short ones."""
    return float(sum(2 if word.isdigit() else len(word) - 2 for word in wanted & _stems(unit)))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    end = max(head.rfind(sign) for sign in ("\n", ". ", "! ", "? "))
    if end > limit // 2:
        return head[: end + 1].rstrip()
    return head[: max(head.rfind(" "), limit // 2)].rstrip(" ,;:") + "…"


def _in_script(text: str, language: str) -> str:
    """Uzbek text in the script of ``language``; anything else unchanged."""
    if language == "uz-Cyrl" and _LATIN.search(text) and len(_UZBEK.findall(text)) > len(_ENGLISH.findall(text)):
        return to_cyrillic(text)
    if language == "uz" and len(_CYRILLIC.findall(text)) > len(_LATIN.findall(text)) and _is_uzbek_cyrillic(text):
        return to_latin(text)
    return text


def _is_uzbek_cyrillic(text: str) -> bool:
    return len(_UZBEK.findall(text)) > len(_RUSSIAN.findall(text))
