"""Ranking passages for a question: BM25 over stems and letter trigrams, the lexicon, and vectors where there are any.

One scorer for both databases: they only pick candidates from a large base, and hand over its :class:`Statistics`.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nlargest
from sys import intern

from services.knowledge.analysis import LEXICON_WEIGHT, Query, QueryWord, grams_of
from services.settings import Knowledge

_K1 = 1.2
_B = 0.45
#: Weight of one trigram beside one stem.
GRAM_WEIGHT = 0.25
#: Share of the words beside the vectors, where there are vectors.
LEXICAL_SHARE = 0.5
# Cosines of one question that differ by less than this do not tell the passages apart.
_LEAST_SPREAD = 0.1
#: How much a passage whose vector stands out adds to the confidence.
VECTOR_CONFIDENCE = 0.15
#: Confidence from which a question counts as answered by the base, where no setting says otherwise.
FOUND_THRESHOLD = Knowledge().not_found_below
#: Share of common trigrams from which two words may be one word with a typing error or of two languages.
ALIKE_THRESHOLD = 0.4
#: Score below which a passage that only has words alike says nothing: their common trigrams are those of most passages.
#: Of words of other businesses that resemble one here it refuses a third; of words typed wrong it loses one in thirteen.
LEAST_RESEMBLANCE = 0.15
# "№ 17" after folding.
_REFERENCE = re.compile(r"no\d+")
# How far a word of the same concept covers a word of the question.
_CONCEPT_COVERS = 0.8


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the whole base, where the index holds only candidates: so that both rank alike."""

    passages: int
    average_stems: float
    average_grams: float
    stems: Mapping[str, int] = field(default_factory=dict)  # term → number of passages that hold it
    grams: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and how well it fits, 0 to 1, comparable between questions."""

    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """``found``: the passages are about what was asked; otherwise nobody should answer from them."""

    hits: tuple[Hit, ...]
    coverage: float
    confidence: float
    found: bool


_NOTHING = Ranking((), 0.0, 0.0, False)

# A posting lists passage number and times, in turn: bytes in a small base, an array in a larger one. The shortest ones
# are the same in every base and kept once.
_Posting = Sequence[int]
_single: dict[tuple[int, int], bytes] = {}
_MOST_TIMES = 255


def _postings(texts: list[str]) -> tuple[dict[str, _Posting], list[int]]:
    building: dict[str, list[int]] = {}
    lengths = []
    for number, text in enumerate(texts):
        terms = text.split()
        lengths.append(len(terms))
        for term, times in Counter(terms).items():
            building.setdefault(term, []).extend((number, min(times, _MOST_TIMES)))
    small = len(texts) <= 256
    postings: dict[str, _Posting] = {}
    for term, pairs in building.items():
        if not small:
            postings[intern(term)] = array("I", pairs)
        elif len(pairs) == 2:
            postings[intern(term)] = _single.setdefault((pairs[0], pairs[1]), bytes(pairs))
        else:
            postings[intern(term)] = bytes(pairs)
    return postings, lengths


def _norms(lengths: list[int], average: float | None) -> array[float]:
    mean = average or (sum(lengths) / len(lengths) if lengths else 1.0) or 1.0
    return array("f", (_K1 * (1 - _B + _B * length / mean) for length in lengths))


def _idf(passages: int, holding: int) -> float:
    return math.log(1 + (max(passages - holding, 0) + 0.5) / (holding + 0.5))


def _pairs(posting: _Posting) -> Iterable[tuple[int, int]]:
    numbers = iter(posting)
    return zip(numbers, numbers, strict=True)


@lru_cache(maxsize=8192)
def _gram_set(stem: str) -> frozenset[str]:
    return frozenset(grams_of(stem))


def _likeness(stem: str, other: str) -> float:
    """Dice's share of common trigrams, 0 to 1."""
    own, others = _gram_set(stem), _gram_set(other)
    return 2 * len(own & others) / (len(own) + len(others))


def is_reference(word: QueryWord) -> bool:
    """Whether a word of a question is a number that only names something: of an order, of the question itself."""
    return _REFERENCE.fullmatch(word.stems[0]) is not None


@dataclass(slots=True)
class _Word:
    """What a word of the question came to: its value by passage, and its weight in the coverage."""

    query: QueryWord
    rarity: float
    own: frozenset[int]  # passages that hold the word itself
    values: dict[int, float]  # passage → BM25 of the word or of the best word of its concepts


class LexicalIndex:
    """The terms of a base, or of the candidates from a large one, in memory.

    ``rows``: (chunk id, stems, trigrams) as stored, space-joined. ``statistics``: of the whole base where the rows are
    only a part of it. Immutable, so it may be shared by threads.
    """

    __slots__ = ("_gram_norms", "_grams", "_ids", "_statistics", "_stem_norms", "_stems", "_words")

    def __init__(self, rows: Iterable[tuple[int, str, str]], statistics: Statistics | None = None) -> None:
        columns = list(rows)
        self._ids = array("q", (chunk_id for chunk_id, _, _ in columns))
        self._stems, stem_lengths = _postings([stems for _, stems, _ in columns])
        self._grams, gram_lengths = _postings([grams for _, _, grams in columns])
        self._words = tuple(
            tuple(intern(s) for s in dict.fromkeys(stems.split()) if s.isalpha()) for _, stems, _ in columns
        )
        self._statistics = statistics
        self._stem_norms = _norms(stem_lengths, statistics.average_stems if statistics else None)
        self._gram_norms = _norms(gram_lengths, statistics.average_grams if statistics else None)

    def __len__(self) -> int:
        return len(self._ids)

    def search(
        self,
        query: Query,
        limit: int = 5,
        vector_scores: Mapping[int, float] | None = None,
        threshold: float = FOUND_THRESHOLD,
    ) -> Ranking:
        """Rank the passages.

        ``vector_scores``: cosine by chunk id, for some or all passages. ``threshold``: the confidence from which the
        question counts as answered by these passages.
        """
        if not self._ids or not (query.words or vector_scores):
            return _NOTHING
        words = [self._weigh(word) for word in query.words]
        scores = self._lexical(words)
        standing_out = 0.0
        if vector_scores:
            scores, standing_out = self._fused(scores, vector_scores)
        order = nlargest(limit, range(len(scores)), key=scores.__getitem__)
        hits = tuple(Hit(self._ids[n], min(scores[n], 1.0)) for n in order if scores[n] > 0)
        if not hits:
            return _NOTHING
        coverage = self._coverage(words, order[0], scores[order[0]])
        confidence = min(1.0, coverage + VECTOR_CONFIDENCE * standing_out)
        return Ranking(hits, coverage, confidence, confidence >= threshold)

    def _holding(self, term: str, posting: _Posting | None) -> int:
        if self._statistics is not None:
            return self._statistics.stems.get(term, 0)
        return len(posting) // 2 if posting is not None else 0

    def _weigh(self, word: QueryWord) -> _Word:
        total = self._statistics.passages if self._statistics is not None else len(self._ids)
        norms, stems = self._stem_norms, self._stems
        values: dict[int, float] = {}
        stem = word.stems[0]
        posting = stems.get(stem)
        holding = self._holding(stem, posting)
        if posting is not None:
            idf = _idf(total, holding)
            for number, times in _pairs(posting):
                values[number] = idf * times * (_K1 + 1) / (times + norms[number])
        own = frozenset(values)
        found: list[dict[int, int]] = []
        for phrase in word.others:
            # Most words of a concept are not in the base: this loop is the hot one.
            other = stems.get(phrase[0])
            if other is None:
                if self._statistics is not None and len(phrase) == 1:
                    holding += self._statistics.stems.get(phrase[0], 0)
                continue
            held = dict(_pairs(other))
            for stem in phrase[1:]:
                here = dict(_pairs(stems.get(stem, b"")))
                held = {n: min(t, here[n]) for n, t in held.items() if n in here}
            if held:
                found.append(held)
                holding += self._holding(phrase[0], other) if len(phrase) == 1 else len(held)
        idf = _idf(total, min(holding, total))
        for held in found:
            for number, times in held.items():
                value = LEXICON_WEIGHT * idf * times * (_K1 + 1) / (times + norms[number])
                if value > values.get(number, 0.0):
                    values[number] = value
        return _Word(word, idf, own, values)

    def _lexical(self, words: list[_Word]) -> list[float]:
        """BM25 of every passage, divided by what a passage with all the words would have."""
        scores = [0.0] * len(self._ids)
        norms, grams = self._gram_norms, self._grams
        total, holdings = len(self._ids), None
        if self._statistics is not None:
            total, holdings = self._statistics.passages, self._statistics.grams
        possible = 0.0
        for word in words:
            weight = word.query.weight
            possible += weight * word.rarity * _K1
            for number, value in word.values.items():
                scores[number] += weight * value
            for gram in word.query.grams:
                posting = grams.get(gram, b"")
                holding = len(posting) // 2 if holdings is None else holdings.get(gram, 0)
                if not holding:
                    continue
                share = GRAM_WEIGHT * weight * _idf(total, holding) * (_K1 + 1)
                possible += share / 2
                for number, times in _pairs(posting):
                    scores[number] += share * times / (times + norms[number])
        return [score / possible for score in scores] if possible else scores

    def _fused(self, scores: list[float], vectors: Mapping[int, float]) -> tuple[list[float], float]:
        """The weighted sum with the vectors, and how far the nearest passage stands out from the middle one."""
        cosines = sorted(vectors.values())
        low, high = cosines[0], cosines[-1]
        spread = max(high - low, _LEAST_SPREAD)
        best = max(scores, default=0.0) or 1.0
        fused = [
            LEXICAL_SHARE * score / best + (1 - LEXICAL_SHARE) * (max(vectors.get(chunk_id, low) - low, 0.0) / spread)
            for chunk_id, score in zip(self._ids, scores, strict=True)
        ]
        standing_out = min((high - cosines[len(cosines) // 2]) / (2 * _LEAST_SPREAD), 1.0)
        return fused, standing_out

    def _coverage(self, words: list[_Word], number: int, score: float) -> float:
        """The share of the question's subject that the passage holds: words it has, words of one meaning, words alike.

        A question that only asks ("how much?", "where?") is covered by a passage that tells such a thing. Words alike
        need a ``score`` of the passage that tells it from the others, unless another word of the question is there.
        """
        # "Where is my order № 1234?" is about orders, unless the base knows that very number.
        counted = [w for w in words if w.query.content and (w.own or not is_reference(w.query))] or words
        if score < LEAST_RESEMBLANCE and not any(number in w.values for w in counted):
            return 0.0
        total = covered = 0.0
        for word in counted:
            total += word.rarity
            if number in word.own:
                covered += word.rarity
                continue
            share = _CONCEPT_COVERS if number in word.values else 0.0
            if word.query.grams:
                stem = word.query.stems[0]
                alike = max((_likeness(stem, other) for other in self._words[number]), default=0.0)
                if alike >= ALIKE_THRESHOLD:
                    share = max(share, alike)
            covered += share * word.rarity
        return covered / total if total else 0.0
