"""Documents are read in a child process (``child.py``); this is the side of the parent.

The parent never touches the content: it hands the bytes over, reads bounded lines that it does not trust, and kills the
child's whole group when it is late, talks too much or nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from services.errors import Invalid, Unavailable
from services.i18n import T
from services.knowledge import READERS
from services.knowledge.base import CODES, MAX_CHARACTERS, PICTURES, REPEATED, Code, ReadError

log = structlog.get_logger(__name__)

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(__file__).resolve().parents[2]
_CHUNK = 64 * 1024
_FIELD_LIMITS = {"text": 2_000, "heading": 500, "locus": 100, "stems": 20_000, "grams": 60_000}
_ODD = re.compile(r"[^\w .:-]")
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What one document may cost; times in seconds, memory in MiB.

    ``wall_s`` and ``cpu_s`` bound the work on the foreign file, ``indexing_s`` our own work on its text afterwards
    (wall clock and processor alike). ``max_output`` is in bytes.
    """

    wall_s: float = 30
    cpu_s: int = 20
    indexing_s: float = 90
    memory_mib: int = 1024
    max_characters: int = MAX_CHARACTERS
    max_line: int = 256 * 1024
    max_output: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class IndexedPassage:
    """A passage with its search terms: ``stems`` and ``grams`` are joined by spaces, as ``db`` stores them."""

    text: str
    heading: str
    locus: str
    stems: str
    grams: str


Progress = Callable[[int], Awaitable[None]]


SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
SPREADSHEET = T("This is a spreadsheet. Save it in Excel as “CSV UTF-8” and add that file.")
"""What most price lists are, and what one does with them."""


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, ``""`` if it has none. Nothing else of a foreign name is used."""
    stem, dot, suffix = name.strip().rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def sniff(name: str, head: bytes) -> None:
    """Refuse at upload what cannot become knowledge: another suffix than those of ``READERS`` and of pictures, or no content.

    ``head``: the first bytes of the file. Whether the content fits the name is found out by the reader.
    Raises :class:`services.errors.Invalid` with the code ``unsupported_type`` or ``empty``.
    """
    if suffix_of(name) in SPREADSHEETS:
        raise Invalid(SPREADSHEET, code="unsupported_type", field="file")
    if suffix_of(name) not in READERS and not is_picture(name):
        raise Invalid(
            T(
                "This kind of file cannot be read. Upload a PDF, Word (.docx), CSV or text (.txt) file, or a picture "
                "(JPEG, PNG, WebP)."
            ),
            code="unsupported_type",
            field="file",
        )
    if not head:
        raise Invalid(T("The file is empty."), code="empty", field="file")


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture which may be kept as a document."""
    return suffix_of(name)[1:] in PICTURES


async def read_document(
    name: str,
    data: bytes,
    *,
    limits: ReadLimits | None = None,
    on_progress: Progress | None = None,
    program: Path = CHILD,
) -> list[IndexedPassage]:
    """Return all passages of a document, cut and indexed; they come together or not at all.

    ``on_progress`` is awaited with a rising percentage below 100. At most one document per core is read at a time,
    others wait here without their time running. ``program`` is what runs as the child.
    Raises :class:`ReadError` when the document is at fault, :class:`services.errors.Unavailable` when this machine is
    (no process, no disk): the same document may be read later.
    """
    suffix = suffix_of(name)
    if suffix not in READERS:
        raise ReadError("not_this_type", "suffix")
    limits = limits or ReadLimits()
    async with _slot():
        try:
            return await _read(suffix, data, limits, on_progress, program)
        except ReadError as error:
            if error.code in ("crashed", "memory", "timeout"):
                log.warning("reader_failed", suffix=suffix, bytes=len(data), code=error.code, detail=error.detail)
            raise


def _slot() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        _slots[loop] = asyncio.Semaphore(os.cpu_count() or 1)
    return _slots[loop]


async def _read(
    suffix: str, data: bytes, limits: ReadLimits, on_progress: Progress | None, program: Path
) -> list[IndexedPassage]:
    async with _child(suffix, limits, program) as child:
        try:
            async with asyncio.timeout(limits.wall_s) as timer:
                listener = _Listener(limits, on_progress, timer)
                assert child.stdin and child.stdout
                child.stdin.write(data)
                child.stdin.close()
                while chunk := await child.stdout.read(_CHUNK):
                    await listener.feed(chunk)
                    # A full pipe is read without waiting; others must get their turn in between.
                    await asyncio.sleep(0)
                await child.wait()
        except TimeoutError as error:
            # A timeout of on_progress is not the document's.
            if not timer.expired():
                raise
            raise ReadError("timeout", "wall clock") from error
        return listener.result(child.returncode)


@asynccontextmanager
async def _child(suffix: str, limits: ReadLimits, program: Path) -> AsyncIterator[Process]:
    """Start the child in a session and a folder of its own; kill the whole group and remove the folder at the end."""
    wall_s = int(limits.wall_s + limits.indexing_s) + 5
    try:
        scratch = tempfile.mkdtemp(prefix="botfactory-read-")
    except OSError as error:
        log.error("reader_not_started", error=type(error).__name__, errno=error.errno)
        raise Unavailable from error
    try:
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-X", "utf8", str(program),
                "--root", str(ROOT), "--suffix", suffix,
                "--memory-mib", str(limits.memory_mib),
                "--cpu-s", str(limits.cpu_s), "--indexing-cpu-s", str(max(1, int(limits.indexing_s))),
                "--wall-s", str(wall_s), "--max-characters", str(limits.max_characters),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
                cwd=scratch, start_new_session=True,
                env={"HOME": scratch, "TMPDIR": scratch, "LC_ALL": "C.UTF-8", "PATH": os.defpath},
            )  # fmt: skip
        except OSError as error:
            log.error("reader_not_started", error=type(error).__name__, errno=error.errno)
            raise Unavailable from error
        try:
            yield child
        finally:
            await _kill(child)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _kill(child: Process) -> None:
    # The child is the leader of its group, so this reaches what it may have started, also when it is dead itself.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    assert child.stdout
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            # The end of a process is told only when its pipes are drained; nobody writes to them any more.
            while await child.stdout.read(_CHUNK):
                pass
            await child.wait()


class _Listener:
    """Checks and collects what a child says."""

    def __init__(self, limits: ReadLimits, on_progress: Progress | None, timer: asyncio.Timeout) -> None:
        self._limits = limits
        self._on_progress = on_progress
        self._timer = timer
        self._rest = b""
        self._size = 0
        self._characters = 0
        self._percent = 0
        self._expected: int | None = None
        self._done = False
        self._error: ReadError | None = None
        self._passages: list[IndexedPassage] = []

    async def feed(self, chunk: bytes) -> None:
        """Take bytes as they come."""
        self._size += len(chunk)
        if self._size > self._limits.max_output:
            raise ReadError("crashed", "flood")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self._limits.max_line:
            raise ReadError("crashed", "long line")
        for line in lines:
            await self._line(line)

    async def _line(self, line: bytes) -> None:
        if self._done or self._error:
            raise ReadError("crashed", "line after the end")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ReadError("crashed", "no json") from error
        if not isinstance(said, dict):
            raise ReadError("crashed", "no object")
        if "text" in said:
            self._passage(said)
        elif "progress" in said:
            percent = _number(said["progress"], 99)
            if percent <= self._percent:
                raise ReadError("crashed", "progress back")
            self._percent = percent
            if self._on_progress:
                await self._on_progress(percent)
        elif "read" in said and self._expected is None:
            self._expected = _number(said["read"], self._limits.max_characters)
            self._timer.reschedule(asyncio.get_running_loop().time() + self._limits.indexing_s)
        elif "done" in said:
            if not self._passages or not _number(said["done"], len(self._passages)) == self._expected == len(
                self._passages
            ):
                raise ReadError("crashed", "miscounted")
            self._done = True
        elif "error" in said:
            code: Code = next((code for code in CODES if code == said["error"]), "crashed")
            self._error = ReadError(code, _ODD.sub("", str(said.get("detail", "")))[:80])
        else:
            raise ReadError("crashed", "unknown line")

    def _passage(self, said: dict[str, Any]) -> None:
        if self._expected is None or len(self._passages) >= self._expected:
            raise ReadError("crashed", "passage out of turn")
        values: dict[str, str] = {}
        for name, limit in _FIELD_LIMITS.items():
            value = said.get(name)
            if not isinstance(value, str) or len(value) > limit or _NOT_STORABLE.search(value):
                raise ReadError("crashed", f"bad {name}")
            values[name] = value
        passage = IndexedPassage(**values)
        # Rows repeat the names of their columns, and long ones a little of themselves in their later parts.
        self._characters += len(passage.text)
        if not passage.text or self._characters > 2 * REPEATED * self._limits.max_characters:
            raise ReadError("crashed", "too much text")
        self._passages.append(passage)

    def result(self, returncode: int | None) -> list[IndexedPassage]:
        """Return the passages of a child that ended with ``returncode``, or raise what went wrong."""
        if self._error:
            raise self._error
        if self._done:
            return self._passages
        if returncode is not None and returncode < 0:
            died_of = signal.Signals(-returncode).name
            late = -returncode in (signal.SIGXCPU, signal.SIGALRM)
            raise ReadError("timeout" if late else "crashed", died_of)
        raise ReadError("crashed", f"exit {returncode}")


def _number(value: object, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ReadError("crashed", "bad number")
    return value
