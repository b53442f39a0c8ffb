"""Rows of tables as facts: ``Header: value; Header: value``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from services.knowledge.base import Block

_NUMBER = re.compile(r"[\W\d_]*\d[\W\d_]*(?:so.?m|сум|сўм|uzs|usd|руб|\$|€)?\.?", re.IGNORECASE)
_HEADER_CELL_MAX = 80


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """Return one row as a fact; empty cells are left out, a cell without a header stands alone."""
    parts = []
    for place, cell in enumerate(cells):
        if not cell:
            continue
        name = header[place] if place < len(header) else ""
        parts.append(f"{name.rstrip(':')}: {cell}" if name else cell)
    return "; ".join(parts)


def looks_like_header(cells: Sequence[str]) -> bool:
    """Tell whether a first row names its columns: short words, at most one of them missing, no figures, none twice."""
    filled = [cell for cell in cells if cell]
    if len(filled) < 2 or len(filled) < len(cells) - max(1, len(cells) // 3):
        return False
    if len({cell.lower() for cell in filled}) < len(filled):
        return False
    return not any(
        len(cell) > _HEADER_CELL_MAX or cell.endswith(("?", ".")) or _NUMBER.fullmatch(cell) for cell in filled
    )


class Table:
    """Turns rows into blocks one by one: finds the header, takes rows with a single cell for headings of a section.

    ``locus`` holds ``{row}``. ``first_row_is_header``: True or False where the file says so, None to judge by looks.
    """

    def __init__(self, locus: str, *, first_row_is_header: bool | None, heading: tuple[str, ...] = ()) -> None:
        self._locus = locus
        self._judged = first_row_is_header
        self._above = heading
        self._sections: tuple[str, ...] = ()
        self._header: list[str] | None = None
        self._rows = 0
        self._header_row: tuple[list[str], int, float] = ([], 0, 0.0)
        self._single: tuple[str, int, float] | None = None

    def add(self, cells: Sequence[str], row: int, share: float) -> Iterator[Block]:
        """Take one row; ``row`` is its number for people, ``share`` how much of the document was read with it."""
        cells = [" ".join(cell.split()) for cell in cells]
        filled = [cell for cell in cells if cell]
        if not filled:
            return
        if len(filled) == 1 and cells[0] and (len(cells) > 1 or self._header is None):
            # Alone in its row: a title or a section, unless the table has just one column.
            if len(cells) == 1 or not _may_be_section(filled[0], len(cells)):
                yield from self._fact(cells, row, share)
                return
            yield from self._flush(as_heading=False)
            self._single = (filled[0], row, share)
            return
        yield from self._flush(as_heading=True)
        if self._header is None:
            is_header = self._judged if self._judged is not None else looks_like_header(cells)
            self._header = list(cells) if is_header else []
            if is_header:
                self._header_row = (cells, row, share)
                return
        yield from self._fact(cells, row, share)

    def close(self) -> Iterator[Block]:
        """End the table: what was held back comes now."""
        yield from self._flush(as_heading=False)
        if self._header and not self._rows:
            cells, row, share = self._header_row
            yield self._block("; ".join(cell for cell in cells if cell), row, share)

    def _fact(self, cells: Sequence[str], row: int, share: float) -> Iterator[Block]:
        self._rows += 1
        header = self._header or []
        filled = [cell for cell in cells if cell]
        if not header and len(cells) == 2 and len(filled) == 2:
            # Two columns without names: usually a term and what it means.
            joint = " " if filled[0].endswith(("?", ":")) else ": "
            yield self._block(f"{filled[0]}{joint}{filled[1]}", row, share)
            return
        yield self._block(row_text(header, cells), row, share)

    def _flush(self, *, as_heading: bool) -> Iterator[Block]:
        if self._single is None:
            return
        text, row, share = self._single
        self._single = None
        if as_heading:
            yield Block(text, "heading", self._above, self._locus.format(row=row), share)
            if self._header is None:
                self._above += (text,)
            else:
                self._sections = (text,)
        else:
            yield self._block(text, row, share)

    def _block(self, text: str, row: int, share: float) -> Block:
        return Block(text, "row", self._above + self._sections, self._locus.format(row=row), share)


def _may_be_section(text: str, columns: int) -> bool:
    # Of two columns a single name is rather a product whose price is missing.
    if columns == 2 and not (text.isupper() or text.endswith(":")):
        return False
    return len(text) <= _HEADER_CELL_MAX and not text.endswith((".", "?", ";")) and not _NUMBER.fullmatch(text)
