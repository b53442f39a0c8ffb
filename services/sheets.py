"""Tables for other programs: CSV and XLSX, written part by part so that a long one needs little memory.

Text is data there, never a formula: in CSV what a program might take for one begins with an apostrophe, also where a program
divides by semicolons; in XLSX cells of text are marked as such. Numbers stay numbers; what only looks like one (order numbers,
phones) must be given as text.
"""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from decimal import Decimal
from typing import Any

from services.days import TASHKENT

Cell = str | int | Decimal
CSV_TYPE = "text/csv; charset=utf-8"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
_SPLIT = r"[;\t\r\n][;\s\"]*+"
"""Where a spreadsheet whose tables are divided by semicolons, as here and in Russia, begins a cell in the middle of ours."""
# Both take every such place, to its end and whatever follows: else one of a hundred thousand empty lines is walked along again
# from each of them. There a dash begins a line of a list far more often than a formula that does something: that one has a
# bracket or a stroke.
_INNER = re.compile(rf"({_SPLIT})((?=[=@]|[+-][^;\t\r\n]*[(|]))?")
_SHIELD = re.compile(rf"(^|{_SPLIT})(?:'(?=[=+\-@\t\r\n]))?")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""Without it Excel reads UTF-8 as something else."""
_CELL_CHARS = 32_767
"""So much text a cell of XLSX may hold."""
_COLUMN_CHARS = (8, 40)
ROWS_AT_ONCE = 250
"""So many rows, read as objects, hold up the pages of others by some milliseconds; a thousand by a tenth of a second."""


def moment(at: dt.datetime | None) -> str:
    """Return a moment as cells have it: by the clock of Tashkent, so written that text sorts by it; empty for none."""
    return at.astimezone(TASHKENT).isoformat(" ", "seconds")[:19] if at else ""


def harmless(cell: Cell) -> str:
    """Return a cell of CSV that no program takes for a formula."""
    if not isinstance(cell, str):
        return str(cell)
    text = _INNER.sub(_shield, cell.replace("\0", ""))
    return f"'{text}" if cell.startswith(_FORMULA) else text


def _shield(begun: re.Match[str]) -> str:
    return begun[1] if begun[2] is None else f"{begun[1]}'"


def unshielded(text: str) -> str:
    """Return a cell of a table of ours as it was before what might be taken for a formula was made harmless."""
    return _SHIELD.sub(r"\1", text)


def _csv_lines(rows: Iterable[Sequence[Cell]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([harmless(cell) for cell in row] for row in rows)
    return out.getvalue()


async def as_csv(parts: AsyncIterator[Sequence[Sequence[Cell]]]) -> AsyncIterator[bytes]:
    """Yield a table as CSV with a byte order mark, for programs of an office."""
    yield _BOM.encode()
    async for rows in parts:
        yield (await asyncio.to_thread(_csv_lines, rows)).encode()


async def as_xlsx(parts: AsyncIterator[Sequence[Sequence[Cell]]], title: str) -> bytes:
    """Return a table as a workbook with one sheet; the first row are its headings."""
    book = _Book(title)
    async for rows in parts:
        await asyncio.to_thread(book.add, rows)
    return await asyncio.to_thread(book.close)


class _Book:
    def __init__(self, title: str) -> None:
        from xlsxwriter import Workbook

        self._out = io.BytesIO()
        # Rows go to a temporary file as they come.
        self._book: Any = Workbook(self._out, {"constant_memory": True})
        self._sheet = self._book.add_worksheet("".join(letter for letter in title if letter not in "[]:*?/\\'")[:31])
        self._head = self._book.add_format({"bold": True})
        self._sheet.freeze_panes(1, 0)
        self._row = 0

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        for row in rows:
            style = self._head if self._row == 0 else None
            if self._row == 0:
                for column, heading in enumerate(row):
                    low, high = _COLUMN_CHARS
                    self._sheet.set_column(column, column, min(high, max(low, len(str(heading)) + 6)))
            for column, cell in enumerate(row):
                if isinstance(cell, str):
                    self._sheet.write_string(self._row, column, cell.replace("\0", "")[:_CELL_CHARS], style)
                else:
                    self._sheet.write_number(self._row, column, cell, style)
            self._row += 1

    def close(self) -> bytes:
        self._book.close()
        return self._out.getvalue()


async def whole(rows: Sequence[Sequence[Cell]]) -> AsyncIterator[Sequence[Sequence[Cell]]]:
    """Yield a table that is known already as one part."""
    yield rows
