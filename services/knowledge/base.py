"""The contract of the document readers.

A reader is a module of this package with a ``READER`` that keeps to :class:`Reader`, entered in
``services.knowledge.READERS``. It runs in a child process with limits of its own (``child.py``), so it may trust its
libraries as little as the file. This module is imported by both sides and stays light.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from services.i18n import Text

MAX_CHARACTERS = 2_000_000
"""Text of one document, in characters."""
REPEATED = 5
"""How many times its own size the text may become by what every row and paragraph repeats: names of columns, headings."""

Kind = Literal["paragraph", "heading", "row"]
Code = Literal[
    "encrypted",
    "scanned",
    "damaged",
    "too_large",
    "not_this_type",
    "unreadable_letters",
    "empty",
    "timeout",
    "memory",
    "crashed",
    "bad_picture",
    "large_picture",
]
CODES: tuple[Code, ...] = get_args(Code)
FOR_GOOD: frozenset[str] = frozenset(CODES) - {"timeout", "memory", "crashed"}
"""What is wrong with the file itself: reading it again finds the same."""

ANSWERS = "answers"
"""Name and kind of the document that the owner's taught answers make up; no list shows it."""
PICTURES = frozenset({"jpg", "jpeg", "png", "webp"})
"""The kinds of documents that are pictures; each is kept as a JPEG that was made anew."""
CAPTION = "caption"
"""The ``locus`` of the passage that says what a file shows, in the owner's words."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a document in reading order.

    ``text``: a paragraph (may hold line breaks that mean something), a heading, or a row as ``Header: value; …``.
    ``heading``: the headings above it, outermost first; for a heading itself, those above that.
    ``locus``: where it stands, for programs: ``page:3``, ``row:12``, ``table:2:12``, ``line:40``, ``header``,
    ``footer``, ``note`` or empty. ``share``: how much of the document was read with it, 0 to 1.
    ``own``: how many of the characters the document has itself, where the text repeats others; None: all of them.
    """

    text: str
    kind: Kind = "paragraph"
    heading: tuple[str, ...] = ()
    locus: str = ""
    share: float = 0.0
    own: int | None = None


class Reader(Protocol):
    """Reads one kind of file."""

    suffixes: tuple[str, ...]

    def read(self, data: bytes) -> Iterator[Block]:
        """Yield the blocks of a document; raise :class:`ReadError` when it cannot be read, also in the middle."""
        ...


class ReadError(Exception):
    """A document that cannot be read, and why: ``code`` for programs, ``text`` for people.

    ``detail`` is for the log only: the name of an exception or the kind of file that was found.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail

    @property
    def text(self) -> Text:
        """What happened and what the owner can do about it."""
        # Imported here because the child, which shows nothing to anybody, would start slower by a third.
        from services.i18n import T

        texts: dict[Code, Text] = {
            "encrypted": T("The file is protected with a password. Remove the password and upload it again."),
            "scanned": T(
                "The file contains pictures of pages, not text. Upload it as text: export it from the program it was "
                "written in, or run text recognition on it first."
            ),
            "damaged": T("The file is damaged. Open it on your computer, save it again and upload it once more."),
            "too_large": T(
                "The file is too long: up to 2,000,000 characters, 2,000 pages or 200,000 rows can be read. Split it into "
                "parts and upload them one by one."
            ),
            "not_this_type": T(
                "The content of the file does not fit its name. Upload a real PDF, Word (.docx), CSV or text file; "
                "save other formats as one of these first."
            ),
            "unreadable_letters": T(
                "The characters in the file cannot be read. Save it in another program as UTF-8 text or as Word, and "
                "upload it again."
            ),
            "empty": T("There is no text in the file. Check that it is the right one."),
            "timeout": T("Reading the file took too long. Split it into smaller parts or save it as plain text."),
            "memory": T(
                "Reading the file needs too much memory. Split it into smaller parts or save it as plain text."
            ),
            "crashed": T("The file could not be read. Save it again in another program and upload it once more."),
            "bad_picture": T("The picture cannot be opened. Save it again as JPEG or PNG and upload it once more."),
            "large_picture": T("The picture has too many pixels. Make it smaller and upload it once more."),
        }
        return texts[self.code]
