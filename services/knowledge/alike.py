"""Whether two questions ask the same thing: for grouping open questions, and for finding the one that an owner answered.

Compared are the words that :func:`services.knowledge.analysis.analyze_question` leaves of a question: one spelling for every
script, the words of one concept in every language, words typed wrong. Answering the wrong question is worse than asking the owner
twice, so questions that each name something the other does not are two ("Do you deliver to Samarkand?", "… to Bukhara?"), as are
those about different numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from sys import intern
from typing import Generic, TypeVar

from services.knowledge.analysis import Query, QueryWord, analyze_question, grams_of, question_key

SAME = 0.68
"""From this likeness on, two questions count as one: measured on ``tests/data/questions_alike.tsv``."""
_ALIKE_WORDS = 0.55
# Words of one concept are nearly one word.
_ONE_CONCEPT = 0.95
_MOST_WORDS = 24
_CANDIDATES = 24
_LONG_POSTING = 400

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Word:
    stem: str
    concept: frozenset[str]
    grams: frozenset[str]
    weight: float
    content: bool
    features: frozenset[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is compared.

    ``key``: the same for its spellings; ``exact``: its numbers and articles; ``features``: what a question that asks the same
    shares with this one, at least in part.
    """

    key: str
    words: tuple[_Word, ...]
    exact: frozenset[str]
    features: frozenset[str]


@lru_cache(maxsize=4096)
def _word(word: QueryWord) -> _Word:
    stem = word.stems[0]
    concept = frozenset(other[0] for other in word.others if len(other) == 1)
    grams = frozenset() if any(map(str.isdigit, stem)) else frozenset(grams_of(stem))
    features = {stem, *concept, *(intern(f"~{gram}") for gram in grams if word.content)}
    return _Word(stem, concept, grams, word.weight, word.content, frozenset(features))


def of_query(query: Query, text: str) -> Asked:
    """Return an analysed question as it is compared; ``text``: as it was written."""
    words = tuple(map(_word, query.words[:_MOST_WORDS]))
    exact = frozenset(word.stem for word in words if any(map(str.isdigit, word.stem)))
    features = frozenset().union(*(word.features for word in words))
    return Asked(question_key(text), words, exact, features)


@lru_cache(maxsize=6_000)
def asked(text: str) -> Asked:
    """Return a question as it is compared; kept for the same text, since lists of questions are read again and again."""
    return of_query(analyze_question(text), text)


def likeness(one: Asked, other: Asked) -> float:
    """Return how far two questions ask the same thing, 0 to 1."""
    if one.key == other.key:
        return 1.0
    if not one.words or not other.words or one.exact != other.exact:
        return 0.0
    # Most pairs end here: one look at the words that certainly have no counterpart.
    if _names_more(one, other) and _names_more(other, one):
        return 0.0
    left = list(other.words)
    shared = 0.0
    lonely = False
    for word in one.words:
        best, value = max(
            ((i, _common(word, their)) for i, their in enumerate(left)), key=lambda c: c[1], default=(0, 0.0)
        )
        if value:
            their = left.pop(best)
            shared += value * (word.weight + their.weight)
        else:
            lonely = lonely or word.content
    # Each names what the other does not: they ask about two things.
    if lonely and any(word.content for word in left):
        return 0.0
    # With nothing in common but words that ask ("how much?"), there is no subject to be the same.
    subjects = (any(word.content for word in side.words) for side in (one, other))
    if any(subjects) and not _share_a_subject(one, other):
        return 0.0
    return shared / (sum(word.weight for word in one.words) + sum(word.weight for word in other.words))


def _names_more(one: Asked, other: Asked) -> bool:
    """Whether a question certainly names something that the other one does not."""
    return any(word.content and word.features.isdisjoint(other.features) for word in one.words)


def _share_a_subject(one: Asked, other: Asked) -> bool:
    """Whether two questions have a word in common that names what they are about."""
    return any(
        word.content and their.content and _common(word, their) > 0 for word in one.words for their in other.words
    )


def _common(word: _Word, other: _Word) -> float:
    if word.stem == other.stem:
        return 1.0
    if word.stem in other.concept or other.stem in word.concept:
        return _ONE_CONCEPT
    if not word.grams or not other.grams or not (word.content and other.content):
        return 0.0
    dice = 2 * len(word.grams & other.grams) / (len(word.grams) + len(other.grams))
    return dice if dice >= _ALIKE_WORDS else 0.0


class Index(Generic[Key]):
    """Questions among which the one that asks the same is found without comparing all."""

    def __init__(self, questions: Iterable[tuple[Key, Asked]] = ()) -> None:
        self._questions: list[tuple[Key, Asked]] = []
        self._holding: dict[str, list[int]] = {}
        self._spelt: dict[str, int] = {}
        for key, question in questions:
            self.add(key, question)

    def __len__(self) -> int:
        return len(self._questions)

    def add(self, key: Key, question: Asked) -> None:
        """Put a question in."""
        number = len(self._questions)
        self._questions.append((key, question))
        self._spelt.setdefault(question.key, number)
        for feature in question.features:
            self._holding.setdefault(feature, []).append(number)

    def nearest(self, question: Asked) -> tuple[Key, float] | None:
        """Return the question that is most like this one, the earliest of several, and how like it is."""
        if (same := self._spelt.get(question.key)) is not None:
            return self._questions[same][0], 1.0
        postings = sorted(
            (posting for feature in question.features if (posting := self._holding.get(feature))), key=len
        )
        shared: Counter[int] = Counter()
        for posting in postings:
            # What nearly every question holds tells none from another.
            if len(posting) > _LONG_POSTING and len(shared) >= _CANDIDATES:
                break
            shared.update(posting)
        most = nsmallest(_CANDIDATES, shared, key=lambda number: (-shared[number], number))
        best = max(((likeness(question, self._questions[number][1]), -number) for number in most), default=(0.0, 0))
        return (self._questions[-best[1]][0], best[0]) if best[0] > 0 else None
