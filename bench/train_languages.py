"""Count the table of ``services/languages.py`` anew and print what it reaches.

``python -m bench.train_languages`` reads ``tests/data/langid/train.tsv`` and ``bench/languages_chat.tsv`` (short
customer phrases of our own), writes ``services/languages_model.json.gz`` (the same bytes from the same input), and
scores the held-out files, which are never trained on. ``--dry`` only scores what is there.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from services import languages
from services.scripts import APOSTROPHES, to_cyrillic

DATA = Path("tests/data/langid")
CHAT = Path(__file__).with_name("languages_chat.tsv")
MODEL = Path("services/languages_model.json.gz")
SOURCES = [
    "NTREX-128, github.com/MicrosoftTranslator/NTREX, CC BY-SA 4.0",
    "Koziev NLP_Datasets, github.com/Koziev/NLP_Datasets, CC0",
    "BANKING77, github.com/PolyAI-LDN/task-specific-datasets, CC BY 4.0",
]
CHAT_WEIGHT = 12
SMOOTHING = 0.3
FEWEST = 3  # an n-gram seen less often is left out
LEAST = 0.35  # so is one that hardly tells the languages apart (natural logarithm)
LIMIT = 127 / languages.SCALE

Counts = dict[str, "Counter[str]"]


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


_ROMAN = dict(zip("абвгдезиклмнопрстуф", "abvgdeziklmnoprstuf", strict=True)) | {"э": "e", "ъ": ""}
_ROMAN_VARIANTS = {
    "ё": ("e", "yo", "e", "o"),
    "ж": ("zh", "j", "zh"),
    "й": ("y", "y", "i", "j"),
    "х": ("h", "kh", "x"),
    "ц": ("c", "ts", "ts"),
    "ч": ("ch", "ch", "4"),
    "ш": ("sh",),
    "щ": ("sh", "sch", "shch"),
    "ы": ("y", "i", "i"),
    "ь": ("", "'", ""),
    "ю": ("yu", "u", "yu"),
    "я": ("ya", "ia", "ya"),
}


def romanised(text: str, chance: random.Random) -> str:
    """Russian as people type it without a Russian keyboard, one habit a line."""
    habit = _ROMAN | {c: chance.choice(v) for c, v in _ROMAN_VARIANTS.items()}
    out = text.lower()
    if chance.random() < 0.3:
        out = re.sub(r"(?<=\w)(?:его|ого)\b", lambda m: m[0][0] + "во", out)  # as it is heard
    return "".join(habit.get(c, c) for c in out)


def uzbek_latin(text: str, chance: random.Random) -> Iterator[tuple[str, float]]:
    """The line as written, and as it is typed in a hurry; with the weight of each."""
    plain = "".join("'" if c in APOSTROPHES else c for c in text)
    yield plain, 1
    yield plain.replace("'", ""), 1
    loose = re.sub("([oO])'", lambda m: {"o": "u", "O": "U"}[m[1]], plain).replace("'", "")
    if chance.random() < 0.5:
        loose = loose.replace("x", "h")
    if chance.random() < 0.3:
        loose = loose.replace("sh", "w")
    if chance.random() < 0.2:
        loose = loose.replace("q", "k")
    yield loose, 0.5


_PLAIN = str.maketrans("ўқғҳЎҚҒҲ", "укгхУКГХ")
_PLAIN_O = str.maketrans("ўқғҳЎҚҒҲ", "окгхОКГХ")


def uzbek_cyrillic(text: str) -> Iterator[tuple[str, float]]:
    """The line in Cyrillic, with the four Uzbek letters and on a Russian keyboard."""
    cyrillic = to_cyrillic(text)
    yield cyrillic, 1
    yield cyrillic.translate(_PLAIN), 1
    yield cyrillic.translate(_PLAIN_O), 0.5


def training() -> Counts:
    """Weighted n-gram counts by class: ``uz``, ``en``, ``ru-latn`` and ``uz-Cyrl``, ``ru``."""
    chance = random.Random(1996)
    counts: Counts = {c: Counter() for c in ("uz", "en", "ru-latn", "uz-Cyrl", "ru")}

    def add(kind: str, text: str, weight: float) -> None:
        cyrillic = kind in ("uz-Cyrl", "ru")
        for word in languages.words_of(text):
            if (word[0] > "z") == cyrillic:
                for gram in languages.grams_of(word):
                    counts[kind][gram] += weight  # type: ignore[assignment]  # a weight may be a fraction: counts of floats

    material = [(r["lang"], r["text"], 1.0) for r in rows(DATA / "train.tsv")]
    material += [(r["lang"], r["text"], float(CHAT_WEIGHT)) for r in rows(CHAT)]
    for language, text, weight in material:
        pieces = [text[i : i + 400] for i in range(0, len(text), 400)]
        for piece in pieces:
            if language == "uz":
                for variant, share in uzbek_latin(piece, chance):
                    add("uz", variant, weight * share)
                for variant, share in uzbek_cyrillic(piece):
                    add("uz-Cyrl", variant, weight * share)
            elif language == "ru":
                add("ru", piece, weight)
                for _ in range(2):
                    add("ru-latn", romanised(piece, chance), weight / 2)
            else:
                add("en", piece, weight)
    return counts


def table(counts: Counts, classes: list[str]) -> tuple[list[str], dict[str, bytes]]:
    """The n-grams worth keeping, and for each class after the first its log odds against the first."""
    kept = sorted(g for g in set().union(*(counts[c] for c in classes)) if sum(counts[c][g] for c in classes) >= FEWEST)
    order = {n: [g for g in kept if len(g) == n] for n in (1, 2, 3, 4)}
    odds: dict[str, dict[str, float]] = {}
    for grams in order.values():
        total = {c: sum(counts[c][g] for g in grams) + SMOOTHING * len(grams) for c in classes}
        for gram in grams:
            log = {c: math.log((counts[c][gram] + SMOOTHING) / total[c]) for c in classes}
            odds[gram] = {c: log[c] - log[classes[0]] for c in classes[1:]}
    grams = [g for g in kept if max(abs(v) for v in odds[g].values()) >= LEAST]
    quantised = {
        c: bytes(languages.ZERO + round(max(-LIMIT, min(LIMIT, odds[g][c])) * languages.SCALE) for g in grams)
        for c in classes[1:]
    }
    return grams, quantised


def write() -> None:
    """Train and write the table."""
    counts = training()
    latin, latin_odds = table(counts, ["uz", "en", "ru-latn"])
    cyrillic, cyrillic_odds = table(counts, ["uz-Cyrl", "ru"])
    data = {
        "sources": SOURCES,
        "latin": {"grams": " ".join(latin), "en": latin_odds["en"].hex(), "ru": latin_odds["ru-latn"].hex()},
        "cyrillic": {"grams": " ".join(cyrillic), "ru": cyrillic_odds["ru"].hex()},
    }
    packed = gzip.compress(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(), 9, mtime=0)
    MODEL.write_bytes(packed)
    print(f"{len(latin)} Latin and {len(cyrillic)} Cyrillic n-grams, {len(packed) / 1024:.0f} KB")


def expected(row: dict[str, str]) -> str | None:
    """The right answer in the product's codes."""
    if row["lang"] == "und":
        return None
    return "uz-Cyrl" if row["lang"] == "uz" and row["script"] == "cyrl" else row["lang"]


def score() -> None:
    """Print the figures of the held-out files and what went wrong."""
    for name in ("reviews_dev", "chat_dev", "bank_en_dev"):
        groups: dict[str, list[bool]] = {}
        wrong = []
        for row in rows(DATA / f"{name}.tsv"):
            found = languages.detect(row["text"])
            apart = row["category"] if row["category"] == "ru_translit" or row["lang"] == "und" else "all"
            right = found.language == expected(row)
            groups.setdefault(apart, []).append(right)
            if row["category"] == "cyr_plain":
                groups.setdefault("cyr_plain", []).append(right)
            if not right:
                wrong.append(f"    {row['text']!r}: {found.language} ({found.confidence:.2f}), not {expected(row)}")
        for group, hits in groups.items():
            print(f"{name} {group}: {sum(hits)}/{len(hits)} = {sum(hits) / len(hits):.1%}")
        print("\n".join(wrong))
    texts = [r["text"] for name in ("reviews_dev", "chat_dev") for r in rows(DATA / f"{name}.tsv")]
    start = time.process_time()
    for text in texts:
        languages.detect(text)
    print(f"{(time.process_time() - start) / len(texts) * 1e6:.0f} µs a message")


if __name__ == "__main__":
    if "--dry" not in sys.argv:
        write()
    score()
