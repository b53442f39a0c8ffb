"""Plain text files in any encoding that is usual here."""

from __future__ import annotations

from collections.abc import Iterator

from services.knowledge.base import MAX_CHARACTERS, Block, ReadError
from services.knowledge.letters import Line, decode, structure


class TxtReader:
    """Paragraphs are parted by empty lines; a short line above a paragraph is its heading."""

    suffixes = (".txt",)

    def read(self, data: bytes) -> Iterator[Block]:
        """Yield paragraphs and headings with the number of their first line."""
        text = decode(data)
        if len(text) > MAX_CHARACTERS:
            raise ReadError("too_large", "characters")
        lines = text.split("\n")
        total = len(lines)
        yield from structure(
            (Line(line, f"line:{number}", number / total) for number, line in enumerate(lines, 1)), wrapped=False
        )


READER = TxtReader()
