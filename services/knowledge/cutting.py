"""Blocks to passages: what is searched, given to the model and quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.knowledge.base import Block

MAX_PASSAGE = 900
"""Characters of a passage; search looks at the first 1,200 of it."""
HEADING_MAX = 300
HEADING_JOINT = " › "
BARE = "title:"
"""So begins the ``locus`` of a passage that is a heading with nothing under it."""
_JOINED_MAX = 600
_TINY = 160
_NUMBERED = r"^(?:\d{1,3}\s*[.)]\s*|[•*–—-]\s*)?"
_QUESTION_LABEL = re.compile(
    _NUMBERED + r"(?:(?:savol|савол|вопрос|question)\s*(?:№?\s*\d+)?\s*[:.)–—-]|[qsвс]\d{0,2}\s?:(?!\d))", re.IGNORECASE
)
_ANSWER_LABEL = re.compile(
    _NUMBERED + r"(?:(?:javob|жавоб|ответ|answer)\s*(?:№?\s*\d+)?\s*[:.)–—-]|[ajож]\d{0,2}\s?:(?!\d))", re.IGNORECASE
)
_QUESTION_END = ("?", "?»", "?”", '?"', "?*")
_QUESTION_MAX = 300
_WORD = re.compile(r"[^\W\d_]{3}")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"»”’)]?\s+(?=[\"«“‘'(–—-]?[^\W_a-zа-я])")
_SENTENCE_END = (".", "!", "?", "…", ":", ";", "»", "”", '"', ")")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that says something by itself.

    ``heading``: the headings above it in one line, outermost first; ``locus``: of its first block, see ``Block``, with
    :data:`BARE` before it where there is nothing but a heading.
    """

    text: str
    heading: str
    locus: str


def cut(blocks: Iterable[Block]) -> Iterator[Passage]:
    """Yield the passages of a document in order.

    A row is a passage; a paragraph is one too, tiny neighbours under one heading are joined, long ones are cut at the
    ends of sentences; a question stays with its answer. A heading with nothing under it is a passage, so no text is lost.
    """
    cutter = _Cutter()
    for block in blocks:
        yield from cutter.add(block)
    yield from cutter.close()


class _Cutter:
    def __init__(self) -> None:
        self._open: Passage | None = None
        self._question: Passage | None = None
        self._asked = ""
        self._title: Block | None = None
        self._path: tuple[str, ...] = ()

    def add(self, block: Block) -> Iterator[Passage]:
        if block.kind == "heading":
            yield from self._flush()
            yield from self._flush_title(block.heading)
            self._title, self._asked = block, ""
            return
        self._title = None
        if block.heading != self._path:
            yield from self._flush()
            self._path, self._asked = block.heading, ""
        heading = heading_line(block.heading)
        if block.kind == "row":
            yield from self._flush()
            self._asked = ""
            yield from _split(Passage(block.text, heading, block.locus), joint="; ")
            return
        for text in _units(block.text):
            yield from self._paragraph(Passage(text, heading, block.locus))

    def _paragraph(self, passage: Passage) -> Iterator[Passage]:
        first, _, rest = passage.text.partition("\n")
        if _is_question(first):
            yield from self._flush()
            self._asked = ""
            if rest:
                yield from _split(passage, question=first)
            else:
                self._question = passage
            return
        if self._question is not None:
            question, self._question = self._question, None
            whole = Passage(f"{question.text}\n{passage.text}", question.heading, question.locus)
            yield from _split(whole, question=question.text)
            self._asked = question.text
            return
        if self._asked:
            # The answer goes on in further paragraphs: they are found by the question as well.
            passage = Passage(passage.text, heading_line((passage.heading, self._asked)), passage.locus)
        previous = self._open
        if previous is not None and previous.heading == passage.heading:
            together = len(previous.text) + len(passage.text) + 1
            if together <= _JOINED_MAX and _belong(previous, passage):
                self._open = Passage(f"{previous.text}\n{passage.text}", previous.heading, previous.locus)
                return
        yield from self._flush()
        self._open = passage

    def _flush(self) -> Iterator[Passage]:
        if self._open is not None:
            yield from _split(self._open)
        if self._question is not None:
            yield from _split(self._question)
        self._open = self._question = None

    def _flush_title(self, heading: tuple[str, ...] = ()) -> Iterator[Passage]:
        title, self._title = self._title, None
        if title is not None and title.text.rstrip(":") not in heading:
            yield Passage(title.text[:MAX_PASSAGE], heading_line(title.heading), BARE + title.locus)

    def close(self) -> Iterator[Passage]:
        yield from self._flush()
        yield from self._flush_title()


def heading_line(parts: Sequence[str]) -> str:
    """Return headings in one line of at most :data:`HEADING_MAX` characters; the innermost matter most."""
    line = HEADING_JOINT.join(part for part in parts if part)
    return line if len(line) <= HEADING_MAX else "…" + line[-(HEADING_MAX - 1) :]


def _belong(previous: Passage, passage: Passage) -> bool:
    """Tell whether two neighbours say more together: a list and its beginning, or a few words each."""
    if previous.text.endswith(":"):
        return True
    same_page = not passage.locus.startswith("page:") or previous.locus == passage.locus
    return same_page and max(len(line) for line in (*previous.text.split("\n"), passage.text)) < _TINY


def _is_question(line: str) -> bool:
    if len(line) > _QUESTION_MAX:
        return bool(_QUESTION_LABEL.match(line))
    if _ANSWER_LABEL.match(line) and not _QUESTION_LABEL.match(line):
        return False
    return line.rstrip().endswith(_QUESTION_END) or bool(_QUESTION_LABEL.match(line))


def _units(text: str) -> Iterator[str]:
    """Cut a paragraph of several lines before each line that asks, so that every question has its own answer."""
    unit: list[str] = []
    asked = False
    for line in text.split("\n"):
        # A question in the middle of running text is no new unit: the line before it must have ended.
        starts = _is_question(line) and (
            not unit or unit[-1].endswith(_SENTENCE_END) or bool(_QUESTION_LABEL.match(line))
        )
        if starts and unit and not (asked and len(unit) == 1 and not _QUESTION_LABEL.match(line)):
            yield "\n".join(unit)
            unit = []
        asked = asked if unit else starts
        unit.append(line)
    if unit:
        yield "\n".join(unit)


def _split(passage: Passage, *, joint: str = "", question: str = "") -> Iterator[Passage]:
    """Cut a passage that is too long; every later part of an answer carries its question in the heading."""
    if len(passage.text) <= MAX_PASSAGE:
        yield passage
        return
    heading = heading_line((passage.heading, question[:_QUESTION_MAX])) if question else passage.heading
    # A long row: its first cell says what the rest is about, but for a number or a code.
    cells = passage.text.split(joint, 2) if joint else []
    lead = joint.join(cells[: 1 if cells and _WORD.search(cells[0].rpartition(": ")[2]) else 2])
    lead = f"{lead}{joint}" if lead and len(lead) < 200 else ""
    for number, text in enumerate(_pack(_pieces(passage.text, joint), MAX_PASSAGE - len(lead))):
        yield Passage(lead + text if number else text, heading if number else passage.heading, passage.locus)


def _pack(pieces: Iterable[tuple[str, str]], limit: int) -> Iterator[str]:
    text = ""
    for piece, separator in pieces:
        if text and len(text) + len(piece) + len(separator) > limit:
            yield text
            text = piece
        else:
            text = f"{text}{separator}{piece}" if text else piece
        if len(text) > limit:
            *whole, text = _by_words(text, limit)
            yield from whole
    if text:
        yield text


def _pieces(text: str, joint: str) -> Iterator[tuple[str, str]]:
    """Yield (piece, what joins it to the one before): cells of a row, else sentences."""
    if joint:
        yield from ((cell, joint) for cell in text.split(joint))
        return
    for line in text.split("\n"):
        separator = "\n"
        for sentence in _sentences(line):
            yield sentence, separator
            separator = " "


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE.finditer(line):
        end = match.end()
        sentence = line[start:end].strip()
        last_word = sentence.rsplit(" ", 1)[-1]
        # "г. Ташкент", "ул. Навои", "12. Narxlar", "A. Navoiy": a short word with a full stop ends no sentence.
        if (
            last_word.endswith(".")
            and (len(last_word) <= 4 or last_word[:-1].isdigit())
            and len(sentence) < MAX_PASSAGE // 2
        ):
            continue
        yield sentence
        start = end
    if rest := line[start:].strip():
        yield rest


def _by_words(text: str, limit: int) -> list[str]:
    parts = []
    while len(text) > limit:
        end = text.rfind(" ", limit // 2, limit + 1)
        end = end if end > 0 else limit
        parts.append(text[:end].rstrip())
        text = text[end:].lstrip()
    parts.append(text)
    return parts
