"""Word documents, by a streaming walk over the XML of their parts.

A document of 2 MB can unpack to a tree of a gigabyte, so no tree is built: expat calls, blocks come out. The walk sees
what python-docx's paragraphs and tables leave out: text boxes, content controls, headers, footers, notes, insertions.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from xml.parsers import expat

from services.knowledge.base import Block, ReadError
from services.knowledge.letters import is_heading, magic
from services.knowledge.tables import Table

MAX_PARTS = 4_000
MAX_UNPACKED = 64 * 1024 * 1024
MAX_DEPTH = 400
_CHUNK = 64 * 1024
_BOLD_LEVEL = 20
_NAMESPACES = (
    ("wordprocessingml/", "w"),
    ("/drawingml/", "a"),
    ("/math", "m"),
    ("/markup-compatibility/", "mc"),
)
_OFF = frozenset({"0", "false", "off", "none"})
_SKIPPED = frozenset({"w:del", "w:moveFrom"})
_PART_KINDS = {
    "header": "header",
    "footer": "footer",
    "footnotes": "note",
    "endnotes": "note",
    "diagramData": "diagram",
}
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    expat.ExpatError,
    EOFError,
    OSError,
    NotImplementedError,
    ValueError,
)


class DocxReader:
    """Reads the main part, then diagrams, headers, footers and notes."""

    suffixes = (".docx",)

    def read(self, data: bytes) -> Iterator[Block]:
        """Yield paragraphs, headings (by style, outline level or bold) and table rows as facts."""
        if not data.startswith(b"PK"):
            if _ENCRYPTED_STREAM in data and data.startswith(b"\xd0\xcf\x11\xe0"):
                raise ReadError("encrypted")
            raise ReadError("not_this_type", magic(data) or "no zip")
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                yield from _Package(archive).read()
        except RuntimeError as error:
            # What zipfile raises for a part with a password; recursion and the like are damage.
            raise ReadError("encrypted" if "password" in str(error) else "damaged", type(error).__name__) from error
        except _BROKEN as error:
            raise ReadError("damaged", type(error).__name__) from error


class _Package:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        infos = archive.infolist()
        if len(infos) > MAX_PARTS:
            raise ReadError("too_large", "parts")
        if any(info.flag_bits & 1 for info in infos):
            raise ReadError("encrypted", "zip")
        self._archive = archive
        self._names = {info.filename.lstrip("/").lower(): info for info in infos}
        self._unpacked = 0

    def read(self) -> Iterator[Block]:
        main = self._main_part()
        related = self._relations(main)
        styles = next((target for kind, target in related if kind == "styles"), "word/styles.xml")
        levels = self._heading_levels(styles)
        walk = _Walk(levels, "")
        yield from self._walk(main, walk)
        if not walk.is_word:
            raise ReadError("not_this_type", "no word document")
        seen: set[str] = set()
        for kind, target in sorted(
            related, key=lambda pair: list(_PART_KINDS).index(pair[0]) if pair[0] in _PART_KINDS else 99
        ):
            locus = _PART_KINDS.get(kind)
            if locus is None or target.lower() not in self._names:
                continue
            part = _Walk({}, locus)
            for block in self._walk(target, part):
                # First page, even pages and every section have headers of their own, mostly with the same words.
                if block.text not in seen and any(character.isalnum() for character in block.text):
                    seen.add(block.text)
                    kind = "paragraph" if block.kind == "heading" else block.kind
                    yield replace(block, kind=kind, heading=(), locus=locus, share=1.0)

    def _main_part(self) -> str:
        for kind, target in self._relations(""):
            if kind == "officeDocument" and target.lower() in self._names:
                if target.startswith(("xl/", "ppt/")):
                    raise ReadError("not_this_type", target.split("/", 1)[0])
                return target
        if "word/document.xml" in self._names:
            return "word/document.xml"
        raise ReadError("not_this_type", "zip without a word document")

    def _relations(self, part: str) -> list[tuple[str, str]]:
        """Return (kind, name of the part) for what ``part`` refers to inside the package."""
        folder, name = posixpath.split(part)
        found: list[tuple[str, str]] = []

        def start(tag: str, attributes: dict[str, str]) -> None:
            if tag.endswith(" Relationship") and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", "")))
                found.append((attributes.get("Type", "").rsplit("/", 1)[-1], target.lstrip("/")))

        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels.lower() in self._names:
            for _ in self._parse(rels, start):
                pass
        return found

    def _heading_levels(self, part: str) -> dict[str, int]:
        """Return the heading level of each paragraph style that has one; names of styles are English in every Word."""
        if part.lower() not in self._names:
            return {}
        levels: dict[str, int] = {}
        based_on: dict[str, str] = {}
        current = ""

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal current
            local = tag.rpartition(" ")[2]
            value = _attribute(attributes, "val")
            if local == "style":
                current = _attribute(attributes, "styleId")
            elif local == "name" and current:
                if match := re.fullmatch(r"heading (\d)", value, re.IGNORECASE):
                    levels[current] = int(match[1])
                elif value.lower() == "title":
                    levels[current] = 0
            elif local == "basedOn" and current:
                based_on[current] = value
            elif local == "outlineLvl" and current and value in "012345678" and value:
                levels.setdefault(current, int(value) + 1)

        for _ in self._parse(part, start):
            pass
        for style in based_on:
            above, steps = style, 0
            while above not in levels and above in based_on and steps < 12:
                above, steps = based_on[above], steps + 1
            if above in levels:
                levels[style] = levels[above]
        return levels

    def _walk(self, part: str, walk: _Walk) -> Iterator[Block]:
        for share in self._parse(part, walk.start, walk.end, walk.characters):
            for block in walk.take():
                yield replace(block, share=share)

    def _parse(
        self,
        part: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        characters: Callable[[str], None] | None = None,
    ) -> Iterator[float]:
        """Parse one part in pieces and yield the share read; refuse document types, depth and too many bytes."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        depth = 0

        def guarded_start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > MAX_DEPTH:
                raise ReadError("damaged", "depth")
            start(tag, attributes)

        def guarded_end(tag: str) -> None:
            nonlocal depth
            depth -= 1
            if end:
                end(tag)

        def refuse(*_: object) -> None:
            raise ReadError("damaged", "document type")

        parser.StartElementHandler = guarded_start
        parser.EndElementHandler = guarded_end
        parser.CharacterDataHandler = characters
        parser.StartDoctypeDeclHandler = refuse
        info = self._names[part.lower()]
        read = 0
        with self._archive.open(info) as source:
            while chunk := source.read(_CHUNK):
                # Counted here, not taken from the directory: a bomb lies about its size.
                read += len(chunk)
                self._unpacked += len(chunk)
                if self._unpacked > MAX_UNPACKED:
                    raise ReadError("too_large", "unpacked")
                parser.Parse(chunk, False)
                yield min(1.0, read / max(info.file_size, 1))
        parser.Parse(b"", True)
        yield 1.0


def _attribute(attributes: dict[str, str], name: str) -> str:
    for key, value in attributes.items():
        if key == name or key.endswith(f" {name}"):
            return value
    return ""


def _is_on(attributes: dict[str, str]) -> bool:
    return _attribute(attributes, "val") not in _OFF


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    level: int | None = None
    letters: int = 0
    bold: int = 0


@dataclass(slots=True)
class _Run:
    bold: bool = False
    hidden: bool = False


@dataclass(slots=True)
class _Grid:
    """A table being read: the cells of the row so far, and the last row for cells merged downwards."""

    table: Table | None
    rows: int = 0
    cells: list[str] = field(default_factory=list)
    across: bool = False
    above: list[str] = field(default_factory=list)
    cell: list[str] | None = None
    span: int = 1
    merged: bool = False
    lines: list[str] = field(default_factory=list)


class _Walk:
    """Follows the elements of one part and collects blocks."""

    def __init__(self, levels: dict[str, int], locus: str) -> None:
        self.is_word = False
        self._levels = levels
        self._locus = locus
        self._out: list[Block] = []
        self._skip = 0
        self._path: list[tuple[int, str]] = []
        self._paragraphs: list[_Paragraph] = []
        self._runs: list[_Run] = []
        self._grids: list[_Grid] = []
        self._controls: list[bool] = []
        self._choices: list[bool] = []
        self._number = self._tables = self._written = 0
        self._in_text = False

    def take(self) -> list[Block]:
        """Return the blocks found since the last call."""
        out, self._out = self._out, []
        return out

    @staticmethod
    def _short(tag: str) -> str:
        namespace, _, local = tag.rpartition(" ")
        for part, prefix in _NAMESPACES:
            if part in namespace:
                return f"{prefix}:{local}"
        return local

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Enter an element."""
        if self._skip:
            self._skip += 1
            return
        name = self._short(tag)
        if name in _SKIPPED or (name == "mc:Fallback" and self._choices and self._choices[-1]):
            self._skip = 1
            return
        match name:
            case "w:p" | "a:p":
                self._paragraphs.append(_Paragraph())
            case "w:t" | "a:t" | "m:t":
                self._in_text = True
            case "w:r" | "a:r":
                self._runs.append(_Run())
            case "w:tab" | "w:ptab":
                self._write("\t")
            case "w:br" | "w:cr" | "a:br":
                self._write("\n")
            case "w:noBreakHyphen":
                self._write("-")
            case "w:b" | "w:vanish" if self._runs:
                setattr(self._runs[-1], "bold" if name == "w:b" else "hidden", _is_on(attributes))
            case "w:pStyle" if self._paragraphs:
                self._paragraphs[-1].level = self._levels.get(_attribute(attributes, "val"))
            case "w:outlineLvl" if self._paragraphs:
                value = _attribute(attributes, "val")
                if value.isdecimal() and int(value) < 9:
                    self._paragraphs[-1].level = int(value) + 1
            case "w:sdt":
                self._controls.append(False)
            case "w:showingPlcHdr" if self._controls and _is_on(attributes):
                self._controls[-1] = True
            case "w:sdtContent" if self._controls and self._controls[-1]:
                # "Click here to enter text": nobody wrote it.
                self._skip = 1
            case "mc:AlternateContent":
                self._choices.append(False)
            case "w:document":
                self.is_word = True
            case _ if name.startswith("w:"):
                self._start_table(name, attributes)

    def _start_table(self, name: str, attributes: dict[str, str]) -> None:
        if name == "w:tbl":
            self._tables += not self._grids
            self._grids.append(_Grid(None))
            return
        if not self._grids:
            return
        grid = self._grids[-1]
        match name:
            case "w:tr":
                grid.rows += 1
                grid.cells = []
            case "w:tc":
                grid.cell, grid.span, grid.merged = [], 1, False
            case "w:gridSpan":
                value = _attribute(attributes, "val")
                grid.span = min(int(value), 100) if value.isdecimal() else 1
            case "w:vMerge":
                grid.merged = _attribute(attributes, "val") != "restart"
            case "w:tblHeader" if grid.rows == 1 and grid.table is None and _is_on(attributes):
                grid.table = self._new_table(header=True)

    def characters(self, text: str) -> None:
        """Take text."""
        if self._in_text and not self._skip:
            self._write(text)

    def _write(self, text: str) -> None:
        run = self._runs[-1] if self._runs else None
        if not self._paragraphs or (run and run.hidden):
            return
        paragraph = self._paragraphs[-1]
        paragraph.parts.append(text)
        size = len(text.strip())
        self._written += size
        paragraph.letters += size
        if run and run.bold:
            paragraph.bold += size
        if size and self._choices:
            self._choices[-1] = True

    def end(self, tag: str) -> None:
        """Leave an element."""
        if self._skip:
            self._skip -= 1
            return
        name = self._short(tag)
        match name:
            case "w:t" | "a:t" | "m:t":
                self._in_text = False
            case "w:r" | "a:r" if self._runs:
                self._runs.pop()
            case "w:p" | "a:p" if self._paragraphs:
                self._end_paragraph(self._paragraphs.pop())
            case "w:sdt" if self._controls:
                self._controls.pop()
            case "mc:AlternateContent" if self._choices:
                self._choices.pop()
            case "w:tc" if self._grids:
                self._end_cell(self._grids[-1])
            case "w:tr" if self._grids:
                self._end_row(self._grids[-1])
            case "w:tbl" if self._grids:
                self._end_table(self._grids.pop())

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if not text:
            return
        if self._grids and (cell := self._grids[-1].cell) is not None:
            cell.append(text)
            return
        self._number += 1
        locus = self._locus or f"paragraph:{self._number}"
        level = paragraph.level
        if level is None and paragraph.bold == paragraph.letters and is_heading(text, None):
            level = _BOLD_LEVEL
        if level is None or len(text) > 300:
            self._out.append(Block(text, "paragraph", self._heading(), locus))
            return
        text = " ".join(text.split())
        self._path = [(above, title) for above, title in self._path if above < level]
        self._out.append(Block(text, "heading", self._heading(), locus))
        self._path.append((level, text.rstrip(":")))

    def _heading(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._path)

    def _new_table(self, *, header: bool | None) -> Table:
        locus = self._locus or f"table:{self._tables}:{{row}}"
        return Table(locus, first_row_is_header=header, heading=self._heading())

    @staticmethod
    def _end_cell(grid: _Grid) -> None:
        text = " ".join(grid.cell or ())
        place = len(grid.cells)
        if grid.merged and not text and place < len(grid.above):
            text = grid.above[place]
        grid.across = not grid.cells
        grid.cells += [text] + [""] * (grid.span - 1)
        grid.cell = None

    def _end_row(self, grid: _Grid) -> None:
        grid.above = grid.cells
        if len(self._grids) > 1:
            # A table inside a cell is part of the outer row.
            grid.lines.append(", ".join(cell for cell in grid.cells if cell))
            return
        grid.table = grid.table or self._new_table(header=None)
        self._out += grid.table.add(grid.cells, grid.rows, 0.0, across=grid.across)

    def _end_table(self, grid: _Grid) -> None:
        if grid.table:
            self._out += grid.table.close()
        if self._grids and (cell := self._grids[-1].cell) is not None:
            cell += [line for line in grid.lines if line]


READER = DocxReader()
