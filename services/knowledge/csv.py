"""Comma, semicolon, tab or bar separated tables: every row with its header names is one fact."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

from services.knowledge.base import MAX_CHARACTERS, Block, ReadError
from services.knowledge.letters import decode
from services.knowledge.tables import Table

FIELD_LIMIT = 1 << 20
MAX_ROWS = 200_000
MAX_COLUMNS = 2_000
DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 200


class CsvReader:
    """Reads with the standard library's parser after finding encoding and delimiter."""

    suffixes = (".csv",)

    def read(self, data: bytes) -> Iterator[Block]:
        """Yield a row block for each row, with the number of the row in the file."""
        text = decode(data).replace("\0", "")
        if len(text) > MAX_CHARACTERS:
            raise ReadError("too_large", "characters")
        delimiter = None
        # Excel's own hint, on a line before the header.
        if text[:4].lower() == "sep=" and text[4:5] in DELIMITERS and text[5:6] in ("\n", ""):
            delimiter, text = text[4], "\n" + text[6:]
        delimiter = delimiter or find_delimiter(text)
        quoting = csv.QUOTE_NONE if _quote_runs_away(text, delimiter) else csv.QUOTE_MINIMAL
        total = text.count("\n") + 1
        table = Table("row:{row}", first_row_is_header=None)
        try:
            for number, cells in enumerate(_rows(text, delimiter, quoting), 1):
                if number > MAX_ROWS:
                    raise ReadError("too_large", "rows")
                if len(cells) > MAX_COLUMNS:
                    raise ReadError("too_large", "columns")
                yield from table.add(cells, number, min(1.0, number / total))
        except csv.Error as error:
            raise ReadError("too_large" if "field limit" in str(error) else "damaged", "csv") from error
        yield from table.close()


def find_delimiter(text: str) -> str:
    """Return the sign that cuts the first rows most evenly into more than one cell; the comma where none does."""
    sample = text[:200_000]
    best, best_score = ",", 0.0
    for delimiter in DELIMITERS:
        if delimiter not in sample:
            continue
        widths: Counter[int] = Counter()
        try:
            for number, cells in enumerate(_rows(sample, delimiter, csv.QUOTE_MINIMAL)):
                if number >= _SAMPLE_ROWS:
                    break
                if any(cell.strip() for cell in cells):
                    widths[len(cells)] += 1
        except csv.Error:
            continue
        many = sum(count for width, count in widths.items() if width > 1)
        if not many:
            continue
        width, count = max(((w, c) for w, c in widths.items() if w > 1), key=lambda pair: (pair[1], pair[0]))
        # Even rows first; among equally even ones the sign that cuts more.
        score = count / widths.total() + min(width, 50) / 1000
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _rows(text: str, delimiter: str, quoting: int) -> Iterator[list[str]]:
    csv.field_size_limit(FIELD_LIMIT)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]  # typeshed wants its literals, csv takes the number


def _quote_runs_away(text: str, delimiter: str) -> bool:
    """Tell whether a quote that nobody closed would swallow the rest of the file into one cell."""
    if '"' not in text:
        return False
    try:
        return any(cell.count("\n") > 100 for cells in _rows(text, delimiter, csv.QUOTE_MINIMAL) for cell in cells)
    except csv.Error:
        # A cell over the limit; where it is so without quotes too, the reading itself reports it.
        return True


READER = CsvReader()
