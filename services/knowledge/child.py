"""The program that reads one document in a process of its own: ``python -I child.py --root ROOT --suffix .pdf …``.

The document comes on stdin. On stdout go JSON lines: ``{"progress": percent}``, once ``{"read": passages}`` when the file
is read and indexing begins, ``{"text", "heading", "locus", "stems", "grams"}`` for each passage, and at the end
``{"done": passages}`` or ``{"error": code, "detail": …}``. The limits are set before a reader is imported: from then on
nothing that the file does can cost more than this process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.knowledge.base import Block
    from services.knowledge.cutting import Passage

_MIB = 1024 * 1024
_FILE_MIB = 64
_READING_SHARE = 50
_PROGRESS_STEP = 5


def main(arguments: Sequence[str]) -> int:
    """Read, cut, index, report; return 0 also for a document that cannot be read, for that is a result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--suffix", required=True)
    parser.add_argument("--memory-mib", type=int, required=True)
    parser.add_argument("--cpu-s", type=int, required=True)
    parser.add_argument("--indexing-cpu-s", type=int, required=True)
    parser.add_argument("--wall-s", type=int, required=True)
    parser.add_argument("--max-characters", type=int, required=True)
    options = parser.parse_args(arguments)
    _limit(options)
    sys.path.insert(0, options.root)
    logging.disable()
    from services.knowledge.base import ReadError

    try:
        blocks = _read(options.suffix, sys.stdin.buffer.read(), options.max_characters)
        passages = _passages(blocks)
        if not passages:
            raise ReadError("empty")
        # What follows is our own work on a bounded text and gets processor time of its own.
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        _write({"read": len(passages)}, flush=True)
        _index(passages)
        _write({"done": len(passages)}, flush=True)
    except ReadError as error:
        _write({"error": error.code, "detail": error.detail[:80]}, flush=True)
    except MemoryError:
        _write({"error": "memory", "detail": ""}, flush=True)
    except RecursionError:
        _write({"error": "damaged", "detail": "recursion"}, flush=True)
    except Exception as error:  # noqa: BLE001 - the last boundary: whatever a file provokes is a result, the parent logs it
        _write({"error": "crashed", "detail": type(error).__name__[:80]}, flush=True)
    return 0


def _limit(options: argparse.Namespace) -> None:
    memory = options.memory_mib * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (options.cpu_s, options.cpu_s + options.indexing_cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_MIB * _MIB, _FILE_MIB * _MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The parent kills after this time; if the parent is dead, the alarm does.
    signal.alarm(options.wall_s)
    os.nice(5)


def _read(suffix: str, data: bytes, max_characters: int) -> list[Block]:
    """Return the cleaned blocks of the document; raise ReadError."""
    from services.knowledge import READERS, letters
    from services.knowledge.base import REPEATED, Block, ReadError

    if not data.strip(b"\0 \t\r\n"):
        raise ReadError("empty")
    reader = importlib.import_module(READERS[suffix]).READER
    blocks: list[Block] = []
    size = whole_size = 0
    shown = 0
    for block in reader.read(data):
        percent = int(block.share * _READING_SHARE)
        if percent >= shown + _PROGRESS_STEP:
            shown = percent
            _write({"progress": percent}, flush=True)
        if block.text:
            size += len(block.text) if block.own is None else block.own
            whole_size += len(block.text) + sum(map(len, block.heading))
            if size > max_characters or whole_size > REPEATED * max_characters:
                raise ReadError("too_large", "characters")
            blocks.append(block)
    whole = "\n".join(block.text for block in blocks)
    if letters.is_rubbish(whole):
        raise ReadError("unreadable_letters", "rubbish")
    repair = letters.is_mojibake(whole)
    del whole

    def better(text: str) -> str:
        return letters.clean(letters.from_mojibake(text) if repair else text)

    # The same headings come again with every block below them.
    known: dict[str, str] = {}

    def title(text: str) -> str:
        if text not in known:
            known[text] = " ".join(better(text).split())
        return known[text]

    cleaned = (
        Block(text, block.kind, tuple(map(title, block.heading)), block.locus)
        for block in blocks
        if any(map(str.isalnum, text := title(block.text) if block.kind == "heading" else better(block.text)))
    )
    return list(cleaned)


def _passages(blocks: list[Block]) -> list[Passage]:
    from services.knowledge.cutting import cut

    return list(cut(blocks))


def _index(passages: list[Passage]) -> None:
    from services.knowledge.analysis import analyze_passage

    shown = _READING_SHARE
    for number, passage in enumerate(passages, 1):
        terms = analyze_passage(passage.text, passage.heading)
        _write(
            {
                "text": passage.text,
                "heading": passage.heading,
                "locus": passage.locus,
                "stems": " ".join(terms.stems),
                "grams": " ".join(terms.grams),
            }
        )
        percent = _READING_SHARE + number * (99 - _READING_SHARE) // len(passages)
        if percent >= shown + _PROGRESS_STEP:
            shown = percent
            _write({"progress": percent}, flush=True)


def _write(line: dict[str, str | int], *, flush: bool = False) -> None:
    sys.stdout.buffer.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    if flush:
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
