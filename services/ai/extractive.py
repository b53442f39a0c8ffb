"""An answer without a model: the best passage, quoted.

Only what stands in the passages is said, and of a row or a line of a list also the section that it stands in. In which script
it is shown is the caller's affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.i18n import T
from services.scripts import APOSTROPHES, to_latin

MAX_CHARS = 600
_WORD = re.compile(r"\w+(?:'\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"»”)]*\s+(?=[\"«“(]*[A-ZА-ЯЁЎҚҒҲ0-9])|\n+")
_ENDED = re.compile(r"[.!?…][\"»”)]*\Z")
_FIELD = re.compile(r"\s*([^:;\n]{1,60}):\s+(\S.*)", re.DOTALL)
_NAMING = re.compile(r"[^\W\d_]{3}")
_AMOUNT_AT_END = re.compile(r"[\s—–:.-]*+\d[\d\s.,]*+\D{0,15}+\Z")
_SECTION_MAX = 60
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
_IN_FULL = {"tel": "telef"}
_CLOSE = 0.5
"""What was found less than half as well as the best is not quoted for a word that both hold."""
_LEAD = T("Here is what I found for you 📄")
_ONE_APOSTROPHE = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))


@dataclass(frozen=True, slots=True)
class Source:
    """A passage to quote from.

    ``headings``: above it, outermost first. ``asked``: the question that it was written as the answer to.
    ``bare``: it is a heading with nothing under it. ``score``: how well it was found.
    """

    text: str
    headings: tuple[str, ...] = ()
    asked: str = ""
    bare: bool = False
    score: float = 1.0


def answer(
    question: str,
    sources: Sequence[Source],
    language: str,
    spell: Callable[[str], str] = str,
    *,
    limit: int = MAX_CHARS,
) -> str:
    """Return a short answer quoted from ``sources`` (best first), at most ``limit`` characters after the lead-in.

    ``language``: of the customer (``uz``, ``uz-Cyrl``, ``ru``, ``en``); ``spell``: puts a quoted row or paragraph in his
    script. Empty if there is no source with text. What was written as an answer is given without a lead-in.
    """
    quoted, source = _quoted(question, sources, spell, limit)
    return quoted if source is None or source.asked else f"{_LEAD.render(language)}\n\n{quoted}"


def quote(
    question: str, sources: Sequence[Source], spell: Callable[[str], str] = str, *, limit: int = MAX_CHARS
) -> str:
    """The quoted part of :func:`answer` alone."""
    return _quoted(question, sources, spell, limit)[0]


def _quoted(
    question: str, sources: Sequence[Source], spell: Callable[[str], str], limit: int
) -> tuple[str, Source | None]:
    """A quote and the source that it is from."""
    wanted = _stems(question)
    close = _CLOSE * max((source.score for source in sources), default=0.0)
    found = [
        _Found(unit, _overlap(wanted, "\n".join((*unit.section, unit.told))), place, units, number)
        for place, source in enumerate(sources)
        if source.score >= close
        for units in (_units(source),)
        for number, unit in enumerate(units)
    ]
    # What a heading stands for is said elsewhere.
    filled = [one for one in found if not sources[one.place].bare]
    found = filled if any(one.held for one in filled) else found
    if not found:
        return "", None
    # A passage found first keeps its lead unless another one holds clearly more of the question.
    best = max(found, key=lambda one: (one.held - 1.5 * one.place, -one.place, -one.number))
    same = _namesakes(wanted, best, found)
    blocks = _labelled([best.unit, *same]) if same else [_run(best, limit)]
    if best.unit.row and not same:
        blocks += [unit.shown for unit in _other_rows(wanted, best)]
    return _fitting([spell(block) for block in blocks], limit), sources[best.place]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is quoted as a whole. ``told``: what it is about; of a question with its answer only the answer is ``shown``.

    ``section``: the headings above it, outermost first. ``begins``: a line. ``item``: it is a row or a whole line of a
    list, called ``name``.
    """

    shown: str
    told: str
    section: tuple[str, ...] = ()
    begins: bool = True
    row: bool = False
    pair: bool = False
    item: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A unit and how much of the question it and its headings hold; its place among the sources and among its ``units``."""

    unit: _Unit
    held: float
    place: int
    units: list[_Unit]
    number: int


def _namesakes(wanted: set[str], best: _Found, found: Sequence[_Found]) -> list[_Unit]:
    """What is called the same under other headings, where the question does not tell which of them is meant."""
    if not best.unit.item or not best.unit.section:
        return []
    sections: dict[tuple[str, ...], _Unit] = {best.unit.section: best.unit}
    least = _overlap(wanted, best.unit.told)
    for one in found:
        unit = one.unit
        alike = unit.item and unit.name == best.unit.name and one.held >= best.held
        if alike and unit.section and _overlap(wanted, unit.told) >= least:
            sections.setdefault(unit.section, unit)
    return list(sections.values())[1:]


def _labelled(units: Sequence[_Unit]) -> list[str]:
    """Units of several sections, each below what tells them apart."""
    innermost = {unit.section[-1:] for unit in units}
    kept = 1 if len(innermost) == len(units) else max(len(unit.section) for unit in units)
    return [_below(unit.section[-kept:], unit.shown) for unit in units]


def _below(section: Sequence[str], text: str) -> str:
    """A row or lines of a list below the section that they stand in, unless they name it or it is a question."""
    title = " › ".join(section).rstrip(":")
    if not title or title.endswith("?") or _stems(title) <= _stems(text):
        return text
    return f"{title}:\n{text}"


def _run(best: _Found, limit: int) -> str:
    """What was found, and what goes on from there: sentences, or the lines of the same list."""
    first = best.unit
    text = first.shown
    for unit in [] if first.row else best.units[best.number + 1 :]:
        more = text + ("\n" if unit.begins else " ") + unit.shown
        if unit.row or unit.pair or (first.item and unit.section != first.section) or len(more) > limit:
            break
        text = more
    return _below(first.section[-1:], text) if first.item else text


def _other_rows(wanted: set[str], best: _Found) -> list[_Unit]:
    """The rows of the same passage that hold as much of the question."""
    least = max(_overlap(wanted, best.unit.told), 1.0)
    rows = [unit for number, unit in enumerate(best.units) if unit.row and number != best.number]
    return [unit for unit in rows if _overlap(wanted, unit.told) >= least]


def _fitting(blocks: Sequence[str], limit: int) -> str:
    """The first block, cut if it must be, and the others as far as there is room for them."""
    text = _cut(blocks[0], limit)
    for block in blocks[1:]:
        if len(text) + 2 + len(block) > limit:
            break
        text += f"\n\n{block}"
    return text


def _units(source: Source) -> list[_Unit]:
    """Table rows as they are, questions with their answers, prose in sentences."""
    if source.asked:
        return [_pair(source.asked, source.text)]
    units: list[_Unit] = []
    end = 0
    for match in _PAIR.finditer(source.text):
        units += _prose(source.text[end : match.start()], source.headings)
        units.append(_pair(match["question"], match["answer"]))
        end = match.end()
    return units + _prose(source.text[end:], source.headings)


def _pair(question: str, answer: str) -> _Unit:
    return _Unit(answer.strip(), f"{question}\n{answer}", pair=True)


def _prose(text: str, section: tuple[str, ...]) -> list[_Unit]:
    units: list[_Unit] = []
    for line in text.splitlines():
        line = line.strip()
        if label := _ANSWER.match(line):
            line = line[label.end() :]
        if not line:
            continue
        if fields := _fields(line):
            units.append(_row(line, fields, section))
            continue
        if line.endswith(":") and len(line) <= _SECTION_MAX:
            # Beside the heading above where lines of that one came before, else under it.
            section = (*(section[:-1] if units else section), line.rstrip(":"))
        sentences = [s.strip() for s in _SENTENCE_END.split(line) if s.strip()]
        item = len(sentences) == 1 and not _ENDED.search(line)
        name = _called(_AMOUNT_AT_END.sub("", line)) if item else ""
        units += [_Unit(s, s, section, not n, item=item, name=name) for n, s in enumerate(sentences)]
    return units


def _row(line: str, fields: list[tuple[str, str]], section: tuple[str, ...]) -> _Unit:
    """A row field by field; of a row with a question and its answer only the answer, and what else it tells."""
    answer = next((value for name, value in fields if _ANSWER_LABEL.fullmatch(name)), "")
    if answer and any(_QUESTION_LABEL.fullmatch(name) for name, _ in fields):
        return _Unit(answer, line, section, pair=True)
    shown = "\n".join(f"• {name}: {value}" for name, value in fields)
    called = next((value for _, value in fields if _NAMING.search(value)), line)
    return _Unit(shown, line, section, row=True, item=True, name=_called(called))


def _called(text: str) -> str:
    """A name as it is compared with others: without letter case, script and punctuation."""
    return " ".join(_WORD.findall(to_latin(text.lower()).translate(_ONE_APOSTROPHE)))


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
    stems = (w if w.isdigit() else w.replace("'", "")[:5] for w in _called(text).split())
    return {_IN_FULL.get(s, s) for s in stems if len(s) > 2 or s.isdigit()}


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
