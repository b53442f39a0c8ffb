"""Files of the knowledge base that customers may receive: which a bot has, and which of them somebody asks for.

A shelf is loaded with the passages and lives as long as they do; what is on it may be taken off meanwhile, so that is looked up
once more where a file is given out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from services.knowledge.analysis import analyze_passage, analyze_question, fold
from services.knowledge.base import PICTURES
from services.knowledge.ranking import LexicalIndex
from services.languages import APOSTROPHE

_OFFICE = "application/vnd.openxmlformats-officedocument."
# As ``services.sniffing`` tells them by their content: a table of values separated by commas is text.
_MIMES: Mapping[str, str] = {
    "pdf": "application/pdf",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "csv": "text/plain",
    "txt": "text/plain",
    **dict.fromkeys(PICTURES, "image/jpeg"),
}
_CLOSE = 0.5
"""What fits less than half as well as the best is not what was asked for."""
_WORD = re.compile(r"[^\W_]+")
# Words of who wants a file or a picture, as ``fold`` leaves them: what else is said tells which one.
_WISH = re.compile(
    r"(?:iubor|jonat|tashla|korsat|otprav|prisl|prishl|visl|vishl|sbros|skid(?:a[iyvt]|iv|yv)|pokaj|skacha|dovnload|fail|file"
    r"|rasm|surat|foto|kartin|pikture|image|dokument|hujat|pdf)[a-z]*"
    r"|s?kin(?:te|u|)|dai(?:te)?|daite|ber(?:ing|sangiz|ib)?|bervor(?:ing)?|send|shov|give"
)
_PICTURE = re.compile(r"(?:rasm|surat|foto|kartin|pikture|image)[a-z]*")
_AROUND = frozenset(
    fold(word)
    for word in (
        "menga manga iltimos shu bor bormi bo'lsa kerak mumkinmi bilan o'zini to'liq "
        "мне пожалуйста можно есть ли можете нам весь полный "
        "me please can could you the a an your us have i want need full whole to"
    ).split()
)


@dataclass(frozen=True, slots=True)
class Handout:
    """A document that customers may receive. ``kind``: its suffix; ``caption``: what it shows; ``size`` in bytes."""

    document_id: str
    name: str
    kind: str
    caption: str
    size: int

    @property
    def mime(self) -> str:
        """What it is sent as."""
        return _MIMES.get(self.kind, "application/octet-stream")

    @property
    def sent_as(self) -> str:
        """The kind of its attachment."""
        return "photo" if self.kind in PICTURES else "document"

    @property
    def title(self) -> str:
        """Its name as customers get it: a picture is a JPEG, whatever it was called."""
        if self.kind not in PICTURES or self.kind in ("jpg", "jpeg"):
            return self.name
        return f"{PurePath(self.name).stem}.jpg"


def wants_file(question: str) -> bool:
    """Whether somebody asks to be sent or shown something."""
    return any(map(_WISH.fullmatch, _folded(question)))


def _folded(text: str) -> list[str]:
    return [fold(word) for word in _WORD.findall(APOSTROPHE.sub("", text))]


def wished(question: str) -> str:
    """Return a question without the words that only say that something is to be sent; perhaps nothing is left."""
    words = _WORD.findall(APOSTROPHE.sub("'", question).replace("'", ""))
    return " ".join(word for word in words if not _WISH.fullmatch(key := fold(word)) and key not in _AROUND)


def describe(name: str, caption: str) -> str:
    """Return what is searched of a file: its caption, and its name as words."""
    title = re.sub(r"[\W_]+", " ", PurePath(name).stem).strip()
    return f"{caption}\n{title}" if caption else title


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a bot may give out, by document."""

    files: Mapping[str, Handout] = field(default_factory=dict)
    index: LexicalIndex | None = None

    def asked_for(self, question: str) -> list[Handout]:
        """Return the files that a wish names, the best first; a wish that names nothing means the only one there is."""
        if not (subject := wished(question)):
            pictures = [one for one in self.files.values() if one.kind in PICTURES]
            meant = pictures if any(map(_PICTURE.fullmatch, _folded(question))) else list(self.files.values())
            return meant if len(meant) == 1 else []
        query = analyze_question(subject)
        if self.index is None or not query.words:
            return []
        ranking = self.index.search(query, len(self.files))
        if not ranking.found:
            return []
        numbered = list(self.files.values())
        best = ranking.hits[0].score
        return [numbered[hit.chunk_id] for hit in ranking.hits if hit.score >= _CLOSE * best]


EMPTY = Shelf()


def make(files: Iterable[Handout]) -> Shelf:
    """Return a shelf with these files."""
    known = list(files)
    if not known:
        return EMPTY
    terms = [analyze_passage(describe(one.name, one.caption)) for one in known]
    index = LexicalIndex((number, each.stems_text, each.grams_text) for number, each in enumerate(terms))
    return Shelf({one.document_id: one for one in known}, index)
