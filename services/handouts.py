"""Files of the knowledge base in answers: what a model is offered, how it says which to send, and what goes without one.

A model writes ``[[file 2]]``. The sign is for us alone: it is taken out of what is stored and of what somebody sees while it is
written, whole, half or misspelt, and only a file that was offered with this very question can be meant by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from services.knowledge.base import CAPTION
from services.knowledge.search import Passage
from services.knowledge.shelf import Handout, Shelf, wants_file

MOST = 2
"""So many files go with one answer."""
LISTED = 6
"""So many files a model may choose from."""
RULE = f"""- With a question may come a list of files of the business that you can send. Where one of them helps the customer, or
  the customer asks for it, end your message with a line that holds nothing but [[file N]], N being its number in the list; at
  most {MOST} such lines. Sending a file that is asked for is an answer. Write this sign nowhere else, promise no file that is
  not in the list, and never say that you cannot send one that is."""
MARKER = "[[file"
"""What stands on a line from this sign on is never shown, whatever it is."""
MARKERS = ("[[", "【", "［［")
"""The same, where the bot has files to send: nothing else begins like that."""

_OPENS, _CLOSES = r"\\?[\[【［]", r"\\?[\]】］]"
_CALLED = r"(?:file|fayl|файл)"
_NUMBERS = r"\d{1,3}(?:\s?[,;]?\s?\d{1,3}){0,5}"
_BODY = r"[^\[\]【】［］\\\n]{0,60}"
# What a model puts around a sign goes with it, or a lone mark would be left.
_BEFORE, _AFTER = r"(?:[-–•*][ \t]{0,2})?[(*`_]{0,3}(?:📎\s?)?[(*`_]{0,3}", r"[)*`_]{0,3}"
_SIGN = re.compile(
    rf"{_BEFORE}(?:{_OPENS}{_OPENS}(?P<body>{_BODY}){_CLOSES}(?:{_CLOSES})?"
    rf"|{_OPENS}\s?{_CALLED}\s?[:#№-]?\s?(?P<numbers>{_NUMBERS})\s?{_CLOSES}){_AFTER}",
    re.IGNORECASE,
)
_MEANT = re.compile(rf"\s*(?:{_CALLED})?\s*[:#№-]?\s*(?P<numbers>{_NUMBERS})\s*", re.IGNORECASE)
# The end of a piece that is a sign or may become one, and what is left of one where nothing follows.
_BEGUN = re.compile(
    rf"{_BEFORE}(?:{_OPENS}(?:{_OPENS})?{_BODY}(?:{_CLOSES}(?:{_CLOSES})?{_AFTER})?)?\\?\Z", re.IGNORECASE
)
_HALF = re.compile(
    rf"{_BEFORE}{_OPENS}(?:{_OPENS}{_BODY}|\s?(?:{_CALLED}{_BODY}|fi?l?|fay?|фай?)?)\\?\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is for a question: ``files`` to choose from, of them those ``named`` by somebody who ``wants`` one."""

    files: tuple[Handout, ...] = ()
    named: tuple[Handout, ...] = ()
    wants: bool = False


NOTHING = Offer()


def offer(
    shelf: Shelf,
    passages: Sequence[Passage],
    asked: Sequence[str],
    earlier: str | None,
    fits: Callable[[Handout], bool],
) -> Offer:
    """Return what may go with the answer to what was ``asked``: what somebody asks for, then what the passages come out of.

    ``earlier``: the question before, which a wish without a name belongs to. ``fits``: whether a file can go on this channel.
    """
    if not shelf.files:
        return NOTHING
    wishes = [text for text in asked if wants_file(text)]
    found = {one.document_id: one for text in wishes for one in shelf.asked_for(text)}
    if wishes and not found and earlier:
        found = {one.document_id: one for one in shelf.asked_for(earlier)}
    named = [one for one in found.values() if fits(one)]
    near = [shelf.files[id_] for id_ in (passage.document_id for passage in passages) if id_ in shelf.files]
    # A wish in another language than the captions names nothing that words can tell: a model can.
    rest = list(shelf.files.values()) if wishes else []
    files = list({one.document_id: one for one in (*named, *near, *rest) if fits(one)}.values())[:LISTED]
    return Offer(tuple(files), tuple(named[:MOST]), bool(wishes and files))


def listing(files: Sequence[Handout]) -> str:
    """Return files as a model gets them: a line each, numbered from 1."""
    return "\n".join(
        orjson.dumps({"file": number, "name": one.title, **({"shows": one.caption} if one.caption else {})}).decode()
        for number, one in enumerate(files, 1)
    )


def chosen(text: str, files: Sequence[Handout]) -> list[Handout]:
    """Return the files that a model's text sends, in its order; what was not offered is nobody's file."""
    numbers: list[int] = []
    for sign in _SIGN.finditer(text):
        told = sign["numbers"]
        if told is None:
            meant = _MEANT.fullmatch(sign["body"])
            told = meant["numbers"] if meant else ""
            name = sign["body"].strip().casefold()
            numbers += [n for n, one in enumerate(files, 1) if name in (one.title.casefold(), one.name.casefold())]
        numbers += [int(number) for number in re.findall(r"\d+", told)]
    return [files[number - 1] for number in dict.fromkeys(numbers) if 0 < number <= len(files)][:MOST]


def without_model(wanted: Offer, best: Sequence[Passage]) -> list[Handout]:
    """Return what goes with a quoted answer: what was asked for, else the file whose caption is the best passage found."""
    if wanted.named:
        return list(wanted.named)
    captions = {passage.document_id for passage in best if passage.locus == CAPTION}
    return [one for one in wanted.files if one.document_id in captions][:MOST]


def without_signs(text: str) -> str:
    """Return a whole text of a model without signs; a half one at its end goes too."""
    return _HALF.sub("", _SIGN.sub("", text))


class Signs:
    """:func:`without_signs` for a text that arrives in pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what is certain by now."""
        text = self._held + piece
        begun = _BEGUN.search(text)
        certain = begun.start() if begun else len(text)
        # What ends a sign may look like what begins the next.
        certain = next((sign.end() for sign in _SIGN.finditer(text) if sign.start() < certain < sign.end()), certain)
        self._held = text[certain:]
        return _SIGN.sub("", text[:certain])

    def finish(self) -> str:
        """Return the rest."""
        rest, self._held = self._held, ""
        return without_signs(rest)
