"""PDF files: pypdf, and for what it cannot read, leaves empty or reads as rubbish, PDFium.

Runs only in the child process: a timer of that process ends pypdf when it takes too long, so that PDFium gets its turn.
"""

from __future__ import annotations

import io
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from services.knowledge.base import MAX_CHARACTERS, Block, ReadError
from services.knowledge.letters import Line, is_rubbish, magic, structure

MAX_PAGES = 2_000
_PYPDF_CPU_S = 10.0
_FEW_LETTERS = 20
_FIRST_PAGES = 20
_DEPTH = 3
_PAGE_NUMBER = re.compile(r"[-–— ]*(?:\d{1,4}|[ivxl]{1,6})[-–— ]*")


class _Slow(BaseException):
    """pypdf has used up its time; not an Exception, for pypdf catches those."""


class PdfReader:
    """Pages to paragraphs; lines that stand on top or at the end of most pages are left out."""

    suffixes = (".pdf",)

    def read(self, data: bytes) -> Iterator[Block]:
        """Yield blocks with the number of their page; while pages are read, empty blocks tell the share."""
        if b"%PDF-" not in data[:1024]:
            raise ReadError("not_this_type", magic(data) or "no pdf")
        pages: list[list[str]] = []
        rubbish = size = 0
        document = _Document(data)
        count = document.open()
        if count > MAX_PAGES:
            raise ReadError("too_large", "pages")
        for number in range(count):
            text = document.text(number)
            if is_rubbish(text):
                rubbish += 1
                text = ""
            size += len(text)
            if size > MAX_CHARACTERS:
                raise ReadError("too_large", "characters")
            pages.append(text.split("\n"))
            yield Block("", share=(number + 1) / count)
        if rubbish * 5 > sum(any(page) for page in pages) + rubbish:
            raise ReadError("unreadable_letters", "pdf")
        letters = sum(character.isalnum() for page in pages for line in page for character in line)
        if not letters:
            raise ReadError("scanned" if document.shows_anything() else "empty")
        if letters < _FEW_LETTERS and document.is_pictures():
            raise ReadError("scanned")
        repeated = _repeated(pages)
        yield from structure(_lines(pages, repeated), wrapped=True)


def _lines(pages: Sequence[Sequence[str]], repeated: set[str]) -> Iterator[Line]:
    for number, page in enumerate(pages, 1):
        locus = f"page:{number}"
        filled = [line for line in page if line.strip()]
        for line in page:
            at_edge = bool(filled) and (line is filled[0] or line is filled[-1])
            if _key(line, number) not in repeated and not (at_edge and _PAGE_NUMBER.fullmatch(line.strip())):
                yield Line(line, locus, 1.0)
        yield Line("", locus, 1.0)


def _key(line: str, page: int) -> str:
    return re.sub(rf"\b{page}\b", "#", line.strip())


def _repeated(pages: Sequence[Sequence[str]]) -> set[str]:
    """Return the running heads and feet: the same first or last line, but for the page's number, on most pages."""
    counts: Counter[str] = Counter()
    for number, page in enumerate(pages, 1):
        lines = [key for line in page if (key := _key(line, number))]
        counts.update(set(lines[:1] + lines[-1:]))
    return {key for key, count in counts.items() if count >= 3 and count * 2 > len(pages)}


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Slow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Document:
    """One file under both libraries; each is opened when it is needed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pypdf: Any = None
        self._pdfium: Any = None
        self._budget_s = _PYPDF_CPU_S

    def open(self) -> int:
        """Return the number of pages; raise ``encrypted`` or ``damaged``."""
        from pypdf import PdfReader as Pypdf

        count = 0
        try:
            with self._limited():
                reader = Pypdf(io.BytesIO(self._data), strict=False)
                if reader.is_encrypted and not reader.decrypt(""):
                    raise ReadError("encrypted")
                count = len(reader.pages)
                self._pypdf = reader
        except ReadError:
            raise
        except (Exception, _Slow):  # noqa: BLE001 - a hostile file makes pypdf raise anything; PDFium has the last word
            self._pypdf = None
        return count or len(self._open_pdfium())

    @contextmanager
    def _limited(self) -> Iterator[None]:
        before = _cpu_s()
        try:
            with _timer(max(0.01, self._budget_s)):
                yield
        finally:
            self._budget_s -= _cpu_s() - before

    def text(self, number: int) -> str:
        """Return the text of a page, counted from 0, with ``\\n`` line ends; empty if it has none."""
        text = self._by_pypdf(number) if self._pypdf is not None else ""
        if text.strip() and not is_rubbish(text):
            return text
        other = self._by_pdfium(number)
        return other if other.strip() else text

    def _by_pypdf(self, number: int) -> str:
        try:
            with self._limited():
                text: str = self._pypdf.pages[number].extract_text()
                return text
        except _Slow:
            self._pypdf = None
        except Exception:  # noqa: BLE001 - as in open(); the page is read by PDFium then
            return ""
        return ""

    def _by_pdfium(self, number: int) -> str:
        import pypdfium2

        try:
            document = self._open_pdfium()
            if number >= len(document):
                return ""
            page = document[number]
            text_page = page.get_textpage()
            text: str = text_page.get_text_bounded()
            text_page.close()
            page.close()
        except (pypdfium2.PdfiumError, ReadError):
            return ""
        # U+FFFE and U+0002 stand for a hyphen at the end of a line.
        return text.replace("\r\n", "\n").replace("\ufffe\n", "-\n").replace("\x02\n", "-\n").replace("\x02", "-")

    def _open_pdfium(self) -> Any:
        import pypdfium2

        if self._pdfium is None:
            try:
                self._pdfium = pypdfium2.PdfDocument(self._data)
            except pypdfium2.PdfiumError as error:
                raise ReadError("encrypted" if "assword" in str(error) else "damaged", "pdfium") from error
        return self._pdfium

    def shows_anything(self) -> bool:
        """Tell whether there is something to see on one of the first pages."""
        return any(self._on_first_pages(lambda page: next(page.get_objects(max_depth=_DEPTH), None) is not None))

    def is_pictures(self) -> bool:
        """Tell whether pictures cover at least half of the first pages."""
        return sum(self._on_first_pages(_pictured)) > 0

    def _on_first_pages(self, look: Callable[[Any], float]) -> list[float]:
        """Return what ``look`` finds on each of the first pages, up to one that PDFium cannot open."""
        import pypdfium2

        found: list[float] = []
        with suppress(pypdfium2.PdfiumError, ReadError):
            document = self._open_pdfium()
            found.extend(look(document[number]) for number in range(min(len(document), _FIRST_PAGES)))
        return found


def _pictured(page: Any) -> float:
    """Return the area that pictures cover over half of the page, below 0 where it is less; in square points."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    width, height = map(float, page.get_size())
    covered = 0.0
    for picture in page.get_objects([FPDF_PAGEOBJ_IMAGE], max_depth=_DEPTH):
        left, bottom, right, top = picture.get_bounds()
        covered += (right - left) * (top - bottom)
    return covered - width * height / 2


def _cpu_s() -> float:
    import time

    return time.process_time()


READER = PdfReader()
