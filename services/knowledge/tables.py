"""Rows of tables as facts: ``Header: value; Header: value``.

Price lists are read as people make them: lines of title above the names of the columns, names in two lines, sections,
notes and sums between the rows, cells that looked merged, empty columns, two lists side by side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from services.knowledge.base import Block

_NUMBER = re.compile(r"[\W\d_]*\d[\W\d_]*(?:so.?m|сум|сўм|uzs|usd|руб|\$|€)?\.?", re.IGNORECASE)
_HEADER_CELL_MAX = 80
# "Ед. изм.", "Кол-во, шт.": a full stop after more, or after a longer word, ends a sentence and no name.
_ABBREVIATED_WORDS = 3
_ABBREVIATION_MAX = 5
_UNIT_CELL_MAX = 12
_OPENING_ROWS = 12
_OPENING_LINES = 40
_TITLES = 3
_LABEL_END = ":"
# How cells that name columns begin; two of them in one row leave no doubt.
_COLUMN_WORD = re.compile(
    r"№|n[o°]?\b|#|t/r|п/п|nomi?\b|nomlanish|mahsulot|maxsulot|tovar|xizmat|taom|turi\b|narx|baho\b|qiymat|miqdor|soni\b"
    r"|birlik|o.?lchov|izoh|muddat|davomiy|rangi?\b|hajm|og.?irlik|kafolat|artikul|savol|javob|manzil|filial|vaqti?\b"
    r"|soati?\b|номи?\b|номланиш|ма[ҳх]сулот|товар|[хҳ]измат|таом|тури\b|нарх|ба[ҳх]о\b|қиймат|миқдор|микдор|сони\b"
    r"|бирли[кг]|ўлчов|изо[ҳх]|муддат|давомий|ранги?\b|[ҳх]ажм|оғирлик|кафолат|савол|жавоб|манзил|филиал|вақт|соати?\b"
    r"|наим|назван|номенкл|продук|услуг|работы?\b|вид\b|тип\b|модел|марк|бренд|категор|раздел|артикул|код\b|характ"
    r"|описан|размер|цвет|ед\b|единиц|изм|кол\b|количеств|остат|налич|вес\b|объ[её]м|цен[аы]\b|стоим|сумм|скидк|срок"
    r"|гарант|прим|коммент|вопрос|ответ|время\b|адрес|name\b|item|product|service|dish|price|cost|amount|qty|quant|unit"
    r"|size|colou?r|descr|notes?\b|comment|code\b|sku|categor|brand|type|model|duration|warranty|question|answer|days?\b",
    re.IGNORECASE,
)
_COLUMN_WORDS_MAX = 5
# Columns whose empty cell means "none" and not "as above".
_CODE = re.compile(
    r"№|#|n[o°]?\b|nn\b|t/r|п/п|код\b|kod\b|code|артикул|artikul|арт\b|sku|id\b|штрих|shtrix|barcode", re.I
)
# How words say that they name several things, in Uzbek, Russian and English.
_PLURAL = re.compile(r".{2,}(?:l[ao]r|лар)(?:i|и|imiz|имиз)?|.{3,}[ыи][ейх]?|.{3,}[^su\W]s", re.IGNORECASE)
_COMMON = 0.3
_NAMES = 10_000
_GAP = "after a gap"
_HAS_NAME = re.compile(r"[^\W\d_]{3}")
_TOTAL = re.compile(
    r"(?:общ(?:ий|ая)\s+|umumiy\s+|умумий\s+|grand\s+|sub\W?|под)?"
    r"(?:итого|итог|всего|сумма|jami|жами|[hx]ammasi|[ҳх]аммаси|summa|total)"
    r"(?:[\s,]+(?:по|за|с|без|к|на|в|for|incl|excl|with|due|amount|sum|price|сумма|summa|so.?m|сум|сўм|uzs|to.?lov|narx"
    r"|bo.?yicha|бўйича|ндс|qqs|ққс)\b.{0,60})?\W*"
    r"|.{1,60}\s(?:bo.?yicha|бўйича)\s+(?:jami|жами)\W*",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"\(?(?:so.?m|сум|сўм|uzs|usd|eur|руб|у\.?\s?е|\$|€|%|м[23²³]?|m[23²³]?|см|sm|cm|мм|mm|кг|kg|гр?|gr?|л|l|мл|ml|шт|dona|дона|ta"
    r"|pcs|уп|упак|кор|нед|дн|кун|kun|час|soat|соат|мин|min|daq)\.?\)?",
    re.IGNORECASE,
)
_DATES = re.compile(r"\b\d{1,2}[./-]\d{1,2}[./-](?:20)?\d\d\b|\b(?:19|20)\d\d\b|\b\d{1,2}(?=[\s-]+[^\W\d_]{3})")


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """Return one row as a fact; empty cells are left out, a cell without a header stands alone."""
    parts = []
    for place, cell in enumerate(cells):
        if not cell:
            continue
        name = header[place] if place < len(header) else ""
        parts.append(f"{name.rstrip(':')}: {cell}" if name else cell)
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row with something in it. ``after_gap``: an empty one stands above; ``across``: what it holds heads the whole width."""

    cells: list[str]
    number: int
    share: float
    after_gap: bool
    across: bool

    @property
    def filled(self) -> list[str]:
        return [cell for cell in self.cells if cell]


class Table:
    """Turns rows into blocks one by one: finds the names of the columns, takes lone cells for titles and sections.

    ``locus`` holds ``{row}``. ``first_row_is_header``: True where the file says so, None to judge by looks.
    """

    def __init__(self, locus: str, *, first_row_is_header: bool | None, heading: tuple[str, ...] = ()) -> None:
        self._locus = locus
        self._judged = first_row_is_header
        self._heading = heading
        # The first rows wait until enough of them are seen to tell a title from the names of the columns.
        self._opening: list[_Row] | None = []
        self._gap = False
        self._lists: list[_List] = []
        self._starts: list[int] = []
        self._later: list[Block] = []

    def add(self, cells: Sequence[str], row: int, share: float, *, across: bool = False) -> Iterator[Block]:
        """Take one row; ``row`` is its number for people, ``share`` how much of the document was read with it.

        ``across``: it is one cell as wide as the table.
        """
        cells = [" ".join(cell.split()) for cell in cells]
        if not any(cells):
            self._gap = True
            return
        taken, self._gap = _Row(cells, row, share, self._gap, across), False
        if self._opening is None:
            yield from self._add(taken)
            return
        self._opening.append(taken)
        several = sum(len(waiting.filled) > 1 for waiting in self._opening)
        if several >= _OPENING_ROWS or len(self._opening) >= _OPENING_LINES:
            yield from self._begin(self._opening, whole=False)

    def close(self) -> Iterator[Block]:
        """End the table: what was held back comes now."""
        if self._opening is not None:
            yield from self._begin(self._opening, whole=True)
        for number, part in enumerate(self._lists):
            blocks = part.close()
            if number:
                self._later += blocks
            else:
                yield from blocks
        yield from self._later

    def _begin(self, opening: list[_Row], *, whole: bool) -> Iterator[Block]:
        self._opening = None
        columns = _columns(opening)
        place = self._header_place(opening, columns)
        header: list[str] = []
        rest = opening
        above = self._heading
        named: _Row | None = None
        if place is not None:
            named = opening[place]
            preface, rest = opening[:place], opening[place + 1 :]
            header = list(named.cells)
            if preface and (over := _spanned(preface[-1], named, columns)):
                preface, header = preface[:-1], over
            elif rest and (joined := _two_lines(named, rest[0], columns)):
                header, rest = joined, rest[1:]
            if rest and _counts_columns(rest[0], columns):
                rest = rest[1:]
            for row in preface:
                block = _titled(row, above, self._locus, room=len(above) - len(self._heading) < _TITLES)
                yield block
                if block.kind == "heading":
                    above += (block.text.rstrip(_LABEL_END),)
        titles = len(above) - len(self._heading)
        self._starts = _side_by_side(header) or [0]
        for start, end in zip(self._starts, [*self._starts[1:], None], strict=True):
            inside = [column - start for column in columns if start <= column and (end is None or column < end)]
            coming = [part for row in rest if any((part := replace(row, cells=row.cells[start:end])).cells)]
            self._lists.append(_List(self._locus, header[start:end], inside, above, titles, named, coming, whole))
        for row in rest:
            yield from self._add(row)

    def _header_place(self, opening: list[_Row], columns: list[int]) -> int | None:
        """Return which of the first rows names the columns: one with words that name columns before one that looks so."""
        several = [place for place, row in enumerate(opening) if len(row.filled) > 1]
        if not several or self._judged is False:
            return None
        if self._judged:
            return several[0]
        for place in several:
            row = opening[place]
            figures = any(map(_is_number, row.filled)) and not _names_sizes(row.filled)
            if figures and len(row.filled) > len(columns) / 2:
                # Already a row of the list.
                break
            if _column_words(row.filled) >= min(2, len(columns)) and _names_columns(opening, place, columns):
                return place
        return several[0] if _names_columns(opening, several[0], columns) else None

    def _add(self, row: _Row) -> Iterator[Block]:
        if len(self._lists) == 1:
            yield from self._lists[0].add(row)
            return
        cells = [row.cells[start:end] for start, end in zip(self._starts, [*self._starts[1:], None], strict=True)]
        # A title for each of the lists.
        titles = all(sum(map(bool, part)) == 1 for part in cells)
        for number, part in enumerate(cells):
            if any(part):
                blocks = self._lists[number].add(replace(row, cells=part, across=titles or row.across))
                if number:
                    # Each of several lists is told from its beginning to its end, so its sections stay with its rows.
                    self._later += blocks
                else:
                    yield from blocks


class _List:
    """The rows under the names of the columns; the first of them are known when it begins, of a short list (``whole``) all.

    ``titles`` of what stands ``above`` it are its own."""

    def __init__(
        self,
        locus: str,
        header: list[str],
        columns: list[int],
        above: tuple[str, ...],
        titles: int,
        named: _Row | None,
        coming: Sequence[_Row],
        whole: bool,
    ) -> None:
        self._locus = locus
        self._header = header
        self._columns = columns or [0]
        self._above, self._titles = above, titles
        self._named = named
        self._sections: tuple[str, ...] = ()
        self._lone: list[_Row] = []
        self._ordinary: Counter[frozenset[str]] = Counter()
        self._headings: set[frozenset[str]] = set()
        self._coming, self._whole = coming, whole
        self._names = _Names()
        self._rows = self._headed = self._sums = 0
        self._summed = False
        self._above_cells: list[str] | None = None
        self._merging: frozenset[int] = frozenset()

    def add(self, row: _Row) -> list[Block]:
        """Take one row; return what is told with it and before it."""
        filled = row.filled
        if self._named and filled == self._named.filled:
            # The names come again, on the next page or for the part that was just named; so was the first part then.
            if self._lone and not self._headed and self._titles:
                self._above = self._above[:-1]
            return self._flush(below=row)
        if len(filled) == 1 and len(self._columns) > 1:
            return self._add_lone(row, filled[0])
        if self._is_new_header(row):
            # Another list begins, whose rows and sections look their own way.
            self._ordinary.clear()
            out = self._flush(below=row)
            self._headings.clear()
            self._names, self._coming = _Names(), ()
            self._header, self._named, self._above_cells = list(row.cells), row, None
            self._columns = sorted({*self._columns, *(n for n, cell in enumerate(row.cells) if cell)})
            return out
        out = self._flush(below=row)
        if self._is_total(row):
            return [*out, self._sum(row)]
        self._ordinary[self._marks(row)] += 1
        self._names.add(self._name(row))
        return [*out, self._fact(row, self._completed(row))]

    def close(self) -> list[Block]:
        """End the list: what was held back comes now."""
        out = self._flush()
        if self._named and not self._rows:
            text = "; ".join(name for name in self._header if name)
            out.append(self._block(self._named, text, len(text)))
        return out

    def _add_lone(self, row: _Row, text: str) -> list[Block]:
        place = row.cells.index(text)
        first = self._columns[0]
        leads = place <= first or (
            len(self._columns) > 2 and place == self._columns[1] and _is_code(self._header, first)
        )
        if leads and _may_be_section(text, 0 if row.across else len(self._columns)):
            self._lone.append(row)
            return []
        out = self._flush()
        if leads and len(self._columns) > 2 and not _is_number(text):
            return [*out, self._alone(row)]
        return [*out, self._fact(row, row.cells)]

    def _is_section(self, row: _Row, below: _Row | None) -> bool:
        """Tell whether a lone row heads those below it: one unlike most rows, or the first of a list or like a section before,
        unless it reads like the name of a product."""
        ordinary = self._ordinary or Counter(map(self._marks, self._told()))
        rows = ordinary.total()
        usual = {
            mark
            for mark in frozenset().union(*ordinary)
            if 2 * sum(count for marks, count in ordinary.items() if mark in marks) > rows
        }
        if not self._marks(row) <= usual:
            return True
        name = self._name(row)
        if self._ordinary and not any(marks <= usual for marks in self._headings):
            # A gap above one section need not stand above each, if something else tells them apart.
            gaps_only = any(marks - {_GAP} <= usual for marks in self._headings)
            return gaps_only and _is_plural(name) and not self._names.mostly_plural
        return not self._is_product(name, self._name(below) if below is not None else "")

    def _is_product(self, name: str, below: str) -> bool:
        """Tell whether a name that stands alone is rather one more of the list's names.

        It begins like one of those above or like the row ``below`` without being what that is a kind of; or it is the only
        one that stands alone, and looks like the others.
        """
        coming = [self._name(row) for row in self._told()]
        if self._names.repeated or len(set(coming)) < len(coming):
            # The same things stand in the list again: it must have parts.
            return False
        words = name.lower().split()
        if words[0] in self._names.first_words or below.lower().split()[:1] == words[:1]:
            return not set(words) <= set(below.lower().split())
        if not self._whole or sum(len(row.filled) == 1 for row in self._coming) > 1:
            return False
        return sum(_shape(other) == _shape(name) for other in coming) >= _COMMON * len(coming) > 0

    def _told(self) -> list[_Row]:
        """Return those of the first rows that tell something of what they name."""
        return [row for row in self._coming if len(row.filled) > 1 and not self._is_total(row)]

    def _name(self, row: _Row) -> str:
        """Return what a row is about."""
        first, filled = self._columns[0], row.filled
        has_code = len(filled) > 1 and any(row.cells[first : first + 1])
        return filled[1] if _is_code(self._header, first) and has_code else filled[0]

    def _marks(self, row: _Row) -> frozenset[str]:
        """Return what may set a section apart from the rows below it."""
        first, filled = self._columns[0], row.filled
        has_code = len(filled) > 1 and any(row.cells[first : first + 1])
        in_codes = _is_code(self._header, first)
        name = self._name(row)
        marks = {
            "across": row.across,
            _GAP: row.after_gap,
            "capitals": name.isupper(),
            "colon": name.endswith(_LABEL_END),
            "no code": in_codes and not has_code,
        }
        return frozenset(mark for mark, held in marks.items() if held)

    def _is_new_header(self, row: _Row) -> bool:
        """Tell whether the columns get other names from here on: after an empty line or a title, in words that name columns."""
        return (
            bool(self._header)
            and (row.after_gap or bool(self._lone))
            and _column_words(row.filled) >= max(2, len(row.filled) / 2)
            and _looks_named(row.filled)
        )

    def _is_total(self, row: _Row) -> bool:
        label, *rest = row.filled
        return bool(_TOTAL.fullmatch(label)) and all(_is_number(cell) or _is_unit(cell) for cell in rest)

    def _completed(self, row: _Row) -> list[str]:
        """Give a row its name from above where cells looked merged: empty at its beginning, but filled in the first row."""
        cells, above = row.cells, self._above_cells
        if above is None:
            if len(row.filled) == 1:
                return cells
            self._above_cells = cells
            self._merging = frozenset(place for place in self._columns if place < len(cells) and cells[place])
            return cells
        completed = list(cells)
        for place in self._columns[:-1]:
            if _is_code(self._header, place):
                continue
            if place >= len(cells) or cells[place]:
                break
            if len(row.filled) > 1 and place in self._merging and _HAS_NAME.search(above[place]):
                completed[place] = above[place]
        self._above_cells = completed
        return completed

    def _sum(self, row: _Row) -> Block:
        """Return a sum as what it is: no product by that name, and of the whole list where sections have none of their own."""
        label, *rest = row.filled
        of_all = self._summed or self._sums < self._headed - 1
        self._sums, self._summed = self._sums + 1, True
        if len(rest) > 1:
            text = (
                f"{label.rstrip(':')}; {row_text(self._header, ['' if cell == label else cell for cell in row.cells])}"
            )
        else:
            text = _pair(label, rest[0])
        return self._block(row, text, sum(map(len, row.cells)), sections=() if of_all else self._sections)

    def _fact(self, row: _Row, cells: Sequence[str]) -> Block:
        self._rows += 1
        filled = [cell for cell in cells if cell]
        own = sum(map(len, row.cells))
        if not self._header and len(self._columns) <= 2 and len(filled) == 2:
            return self._block(row, _pair(*filled), own)
        return self._block(row, row_text(self._header, cells), own)

    def _alone(self, row: _Row) -> Block:
        self._rows += 1
        text = "; ".join(row.filled)
        return self._block(row, text, len(text))

    def _flush(self, *, below: _Row | None = None) -> list[Block]:
        """Tell what was held back, above the row that comes now or at an end."""
        lone, self._lone = self._lone, []
        if not lone:
            return []
        # Others are things of which only the name is known.
        named = below is not None and self._named is not None and below.filled == self._named.filled
        least = len(lone) - 1 if named else len(lone)
        first = next((number for number, row in enumerate(lone[:least]) if self._is_section(row, below)), least)
        out = [self._fact(row, self._completed(row)) for row in lone[:first]]
        lone = lone[first:]
        if not lone or below is None:
            return out + [self._alone(row) for row in lone]
        self._headings.update(map(self._marks, lone))
        self._above_cells = None
        titles = [row.filled[0].rstrip(_LABEL_END) for row in lone]
        # A section and one inside it; of more, or where the second is the greater one, only the last heads what follows.
        nested = len(lone) == 2 and (titles[0].isupper() or not titles[1].isupper())
        before = 0 if nested else len(lone) - 1
        out += [self._alone(row) for row in lone[:before]]
        lone, titles = lone[before:], titles[before:]
        # Below a section in capitals others may follow; of two that look alike nobody knows which one goes on.
        outer = self._sections[:1]
        path = outer if len(titles) == 1 and outer and outer[0].isupper() and not titles[0].isupper() else ()
        for row, title in zip(lone, titles, strict=True):
            out.append(
                Block(row.filled[0], "heading", self._above + path, self._locus.format(row=row.number), row.share)
            )
            path += (title,)
        self._sections = path
        self._headed += 1
        self._summed = False
        return out

    def _block(self, row: _Row, text: str, own: int, *, sections: tuple[str, ...] | None = None) -> Block:
        heading = self._above + (self._sections if sections is None else sections)
        return Block(text, "row", heading, self._locus.format(row=row.number), row.share, own=own)


class _Names:
    """What the rows of a list are called, as far as it tells a section from one of them."""

    def __init__(self) -> None:
        self.first_words: set[str] = set()
        self.repeated = False
        self._known: set[str] = set()
        self._all = self._plural = 0

    def add(self, name: str) -> None:
        """Take the name of a row."""
        self._all += 1
        self._plural += _is_plural(name)
        self.repeated = self.repeated or name in self._known
        if len(self._known) < _NAMES:
            self._known.add(name)
            self.first_words.add(name.lower().split()[0])

    @property
    def mostly_plural(self) -> bool:
        """Whether many of them are in the plural."""
        return self._plural >= _COMMON * self._all


def _is_plural(name: str) -> bool:
    return any(_PLURAL.fullmatch(word.strip(",.:")) for word in name.split())


def _shape(name: str) -> tuple[bool, bool, bool]:
    """Return how a name looks: with figures, of several words, in the plural."""
    return any(map(str.isdigit, name)), len(name.split()) > 1, _is_plural(name)


def _columns(rows: Sequence[_Row]) -> list[int]:
    """Return the columns that hold something in rows of several cells; programs write empty ones around and between."""
    several = [row for row in rows if len(row.filled) > 1] or rows
    return sorted({place for row in several for place, cell in enumerate(row.cells) if cell})


def _names_columns(rows: Sequence[_Row], place: int, columns: Sequence[int]) -> bool:
    """Tell whether a row names the columns, alone or with a line of names above or below it."""
    filled = rows[place].filled
    enough = len(columns) - max(1, len(columns) // 3)
    if len(filled) >= enough:
        told_apart = place > 0 and _spanned(rows[place - 1], rows[place], columns) is not None
        return _looks_named(list(dict.fromkeys(filled)) if told_apart else filled)
    joined = _two_lines(rows[place], rows[place + 1], columns) if place + 1 < len(rows) else None
    return _looks_named(filled) and joined is not None and sum(map(bool, joined)) >= enough


def _looks_named(filled: Sequence[str]) -> bool:
    """Tell whether cells may be names of columns: several, short, no figures, no sentences, none twice but in turn."""
    if _names_sizes(filled):
        return True
    if len(filled) < 2 or any(
        len(cell) > _HEADER_CELL_MAX or _is_number(cell) or _is_sentence(cell) for cell in filled
    ):
        return False
    twice = len({cell.lower() for cell in filled}) < len(filled)
    return not twice or _column_words(filled) >= len(filled) / 2


def _names_sizes(filled: Sequence[str]) -> bool:
    """Tell whether a row names columns by sizes or years: "Model; 36; 37; 38", rising, behind what the rows are."""
    words = list(takewhile(lambda cell: not cell.isdecimal(), filled))
    sizes = [int(cell) for cell in filled[len(words) :] if cell.isdecimal()]
    rising = all(one < next_one for one, next_one in pairwise(sizes))
    return (
        len(sizes) > 1 and len(words) + len(sizes) == len(filled) and rising and _column_words(words) == len(words) > 0
    )


def _is_sentence(cell: str) -> bool:
    if cell.endswith("?"):
        return True
    words = cell.rstrip(".").split() or [""]
    last = words[-1].rpartition(".")[2]
    return cell.endswith(".") and len(words) > 1 and (len(words) > _ABBREVIATED_WORDS or len(last) > _ABBREVIATION_MAX)


def _column_words(filled: Sequence[str]) -> int:
    return sum(bool(_COLUMN_WORD.match(cell)) and len(cell.split()) <= _COLUMN_WORDS_MAX for cell in filled)


def _two_lines(top: _Row, below: _Row, columns: Sequence[int]) -> list[str] | None:
    """Return the names of columns that stand in two lines: parts below a common name, or the units below each."""
    filled = below.filled
    if below.after_gap or not columns or any(_is_number(cell) or _is_sentence(cell) for cell in filled):
        return None
    upper, lower = _padded(top.cells, below.cells)
    first = columns[0]
    if lower[first] not in ("", upper[first]):
        return None
    units = all(_is_unit(cell) for cell in filled)
    if not units and (len(filled) < 2 or not any(low and not up for up, low in zip(upper, lower, strict=True))):
        return None
    names = []
    over = ""
    for up, low in zip(upper, lower, strict=True):
        over = up or (over if low else "")
        # A name with a cell of its own below is one that spans, or says in what it is counted.
        names.append(f"{over}, {low}" if low and over and low != over else low or up)
    return names


def _spanned(top: _Row, below: _Row, columns: Sequence[int]) -> list[str] | None:
    """Return the names of columns of which some stand twice, told apart by a line above: two towns with prices each."""
    upper, lower = _padded(top.cells, below.cells)
    times = Counter(name.lower() for name in lower if name)
    if (
        len(top.filled) < 2
        or upper[columns[0]]
        or any(_is_number(cell) for cell in top.filled)
        or max(times.values()) < 2
    ):
        return None
    names = []
    over = ""
    for up, low in zip(upper, lower, strict=True):
        over = up or over
        names.append(f"{over}, {low}" if over and times[low.lower()] > 1 else low)
    return names


def _padded(one: Sequence[str], other: Sequence[str]) -> tuple[list[str], list[str]]:
    width = max(len(one), len(other))
    return [*one, *[""] * (width - len(one))], [*other, *[""] * (width - len(other))]


def _counts_columns(row: _Row, columns: Sequence[int]) -> bool:
    """Tell whether a row only numbers the columns: 1, 2, 3."""
    return len(columns) > 2 and row.filled == [str(number) for number in range(1, len(columns) + 1)]


def _side_by_side(header: Sequence[str]) -> list[int]:
    """Return where each of several lists with the same names begins; nothing where there is one."""
    places = [place for place, name in enumerate(header) if name]
    names = [header[place].lower() for place in places]
    for period in range(2, len(names) // 2 + 1):
        if len(names) % period == 0 and names == names[:period] * (len(names) // period):
            return places[::period] if len(set(names[:period])) == period else []
    return []


def _titled(row: _Row, above: tuple[str, ...], locus: str, *, room: bool) -> Block:
    """Return a line above the names of the columns: a heading of all rows, or what says something by itself."""
    filled = row.filled
    text = filled[0] if len(filled) == 1 else _pair(*filled) if len(filled) == 2 else "; ".join(filled)
    place = locus.format(row=row.number)
    says_more = ":" in text.rstrip(_LABEL_END) or "@" in text or re.search(r"\d", _DATES.sub("", text))
    if room and not says_more and not _is_sentence(text) and len(text) <= _HEADER_CELL_MAX:
        return Block(text, "heading", above, place, row.share)
    return Block(text, "row", above, place, row.share)


def _pair(name: str, value: str) -> str:
    """Two cells without names of columns: usually a term and what it means."""
    return f"{name}{' ' if name.endswith(('?', ':')) else ': '}{value}"


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _is_unit(cell: str) -> bool:
    return len(cell) <= _UNIT_CELL_MAX and _UNIT.fullmatch(cell) is not None


def _is_code(header: Sequence[str], place: int) -> bool:
    return place < len(header) and _CODE.match(header[place]) is not None


def _may_be_section(text: str, columns: int) -> bool:
    # Of two columns a single name is rather a product whose price is missing.
    if columns == 2 and not (text.isupper() or text.endswith(_LABEL_END)):
        return False
    return len(text) <= _HEADER_CELL_MAX and not text.endswith((".", "?", ";")) and not _is_number(text)
