"""An answer without a model: the best passage, quoted.

Only what stands in the passages is said. Uzbek text is shown in the customer's script; a passage in another language is
quoted as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.i18n import T
from services.scripts import to_cyrillic, to_latin

MAX_CHARS = 600
_WORD = re.compile(r"\w+(?:[‘’'ʻʼ`]\w+)*")
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
_LEAD = T("Here is what I found for you 📄")
_APOSTROPHES = str.maketrans(dict.fromkeys("`´‘’‛ʻʼʹ′", "'"))


def answer(question: str, passages: Sequence[str], language: str, *, limit: int = MAX_CHARS) -> str:
    """Return a short answer quoted from ``passages`` (best first), at most ``limit`` characters after the lead-in.

    ``language``: of the customer (``uz``, ``uz-Cyrl``, ``ru``, ``en``). Empty if there is no passage with text.
    """
    quoted = quote(question, passages, language, limit=limit)
    return f"{_LEAD.render(language)}\n\n{quoted}" if quoted else ""


def quote(question: str, passages: Sequence[str], language: str, *, limit: int = MAX_CHARS) -> str:
    """The quoted part of :func:`answer` alone."""
    return _in_script(_best(question, passages, limit), language)


def _best(question: str, passages: Sequence[str], limit: int) -> str:
    wanted = _stems(question)
    best: list[tuple[float, int, list[str], int]] = []
    for place, passage in enumerate(passages):
        units = _units(passage)
        for number, unit in enumerate(units):
            # A passage found first keeps its lead unless another one holds clearly more of the question.
            score = _overlap(wanted, unit) - 1.5 * place
            best.append((score, place, units, number))
    if not best:
        return ""
    _, _, units, number = max(best, key=lambda b: (b[0], -b[1], -b[3]))
    rows = _fields(units[number]) is not None
    chosen = [_readable(units[number])]
    room = limit - len(chosen[0])
    following = range(number + 1, len(units))
    if rows:
        following = range(0)
        same = sorted(
            (n for n in range(len(units)) if n != number and _fields(units[n]) is not None),
            key=lambda n: -_overlap(wanted, units[n]),
        )
        least = max(_overlap(wanted, units[number]), 1.0)
        for n in same:
            text = _readable(units[n])
            if _overlap(wanted, units[n]) < least or len(text) + 2 > room:
                break
            chosen.append(text)
            room -= len(text) + 2
    for n in following:
        text = units[n]
        if len(text) + 1 > room or _fields(text) is not None:
            break
        chosen.append(text)
        room -= len(text) + 1
    return _cut(("\n\n" if rows else " ").join(chosen), limit)


def _units(passage: str) -> list[str]:
    """Table rows as they are, prose in sentences."""
    units: list[str] = []
    for line in passage.splitlines():
        line = line.strip()
        if not line:
            continue
        units += [line] if _fields(line) else [s.strip() for s in _SENTENCE_END.split(line) if s.strip()]
    return units


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


def _readable(unit: str) -> str:
    fields = _fields(unit)
    return "\n".join(f"• {name}: {value}" for name, value in fields) if fields else unit


def _stems(text: str) -> set[str]:
    """Words reduced to what survives script and suffixes well enough to compare: Latin letters, first five."""
    words = _WORD.findall(to_latin(text.lower()).translate(_APOSTROPHES))
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
