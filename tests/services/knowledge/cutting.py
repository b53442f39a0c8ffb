"""A tiny cutter for the retrieval data: a passage is a paragraph under its heading, or a table row with its headers."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.knowledge.analysis import analyze_passage
from services.knowledge.ranking import LexicalIndex

RETRIEVAL = Path(__file__).parents[2] / "data" / "retrieval"


@dataclass(frozen=True)
class Passage:
    """One piece of a document."""

    document: str
    heading: str
    text: str


@dataclass(frozen=True)
class Base:
    """The passages of one business and their index; the chunk id is the place in the list."""

    passages: list[Passage]
    index: LexicalIndex


def cut(path: Path) -> list[Passage]:
    """Cut one document."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        rows = list(csv.reader(text.splitlines()))
        return [
            Passage(path.name, "", "; ".join(f"{h}: {v}" for h, v in zip(rows[0], row, strict=False)))
            for row in rows[1:]
        ]
    passages = []
    for block in re.split(r"\n\s*\n", text):
        first, _, rest = block.strip().partition("\n")
        if rest:
            passages.append(Passage(path.name, first, rest))
        elif first:
            passages.append(Passage(path.name, "", first))
    return passages


def load(folder: Path) -> Base:
    """Cut and index the documents of one business."""
    passages = [p for path in sorted(folder.iterdir()) for p in cut(path)]
    rows = []
    for number, passage in enumerate(passages):
        terms = analyze_passage(passage.text, passage.heading)
        rows.append((number, terms.stems_text, terms.grams_text))
    return Base(passages, LexicalIndex(rows))


def questions(path: Path) -> list[dict[str, Any]]:
    """The questions of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub("[`´‘’ʻʼ′]", "'", text)
    return re.sub(r"\s+", " ", re.sub("[‐‑‒–—−]", "-", text))


def is_right(passage: Passage, question: dict[str, Any]) -> bool:
    """Whether the passage answers, by the rule of the data's README."""
    if passage.document not in question["docs"]:
        return False
    text = _plain(f"{passage.heading}\n{passage.text}"[:1200])
    return any(all(_plain(piece) in text for piece in pieces) for pieces in question["evidence"])
