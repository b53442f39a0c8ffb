"""Finding the passages that answer a question.

A base of ordinary size is ranked in memory: its terms are loaded once per version and kept within a budget. A larger base is
asked through the database's full-text search for candidates, which the same scorer then ranks with the statistics of the
whole base, so both ways and both databases rank alike. Where an embedding model is configured its similarity is added.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import Row, Select, func, select

from db import fulltext, models, vectors
from db.engine import Database
from services import metrics
from services.knowledge import alike
from services.knowledge.analysis import QUESTION_CHARACTERS, Query, analyze_question
from services.knowledge.base import ANSWERS
from services.knowledge.ranking import LexicalIndex, Statistics, is_reference
from services.knowledge.shelf import EMPTY, Handout, Shelf, make
from services.languages import APOSTROPHE
from services.settings import Knowledge

if TYPE_CHECKING:
    from services.ai.router import CallRecord, KeyEvent
    from services.knowledge.embedding import Embedder

CANDIDATES = 200
# Bytes that a taught question takes in memory beside its passage, about.
_TAUGHT_SIZE = 3000


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found. ``score``: 0 to 1. ``meant``: the owner's own answer to the very question."""

    chunk_id: int
    document_id: str
    document_name: str
    heading: str
    locus: str
    text: str
    score: float = 0.0
    meant: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    ``found``: the passages are about what was asked. ``small_talk``: there is nothing to look for in the question.
    ``content_words``: how many words of the question name its subject. ``calls`` and ``key_events``: of the embedding
    model, for the caller to account for (``services.answers``).
    """

    passages: list[Passage]
    found: bool
    confidence: float = 0.0
    small_talk: bool = False
    content_words: int = 0
    calls: Sequence[CallRecord] = ()
    key_events: Sequence[KeyEvent] = ()


@dataclass(slots=True)
class _Base:
    version: int
    size: int
    index: LexicalIndex | None = None
    statistics: Statistics | None = None
    passages: Mapping[int, Passage] = field(default_factory=dict)
    taught: alike.Index[Passage] = field(default_factory=alike.Index)
    shelf: Shelf = EMPTY


class KnowledgeSearch:
    """Searches the bases of all bots of this process."""

    def __init__(self, db: Database, settings: Knowledge, embedder: Embedder | None = None) -> None:
        self._db = db
        self._settings = settings
        self._embedder = embedder
        self._bases: OrderedDict[str, _Base] = OrderedDict()
        self._size = 0
        self._loading: dict[str, asyncio.Lock] = {}
        self._held: dict[str, _Base] = {}

    async def search(
        self,
        bot_id: str,
        version: int,
        question: str,
        limit: int | None = None,
        *,
        may_spend: bool = True,
        language: str | None = None,
        calls: list[CallRecord] | None = None,
    ) -> Found:
        """Return the best passages of one bot's serving documents for a question.

        ``version`` is the bot's ``knowledge_version``: a newer one than what is in memory is loaded first. Without
        ``may_spend`` no embedding model is asked: words alone decide. ``language``: of the question, where it is known.
        ``calls``: becomes the result's list of calls; where this is cancelled or fails, it holds those that were made until then.
        """
        calls = [] if calls is None else calls
        limit = limit or self._settings.passages
        whole, question = question, subject(question)
        if not question:
            return Found([], False, small_talk=True)
        query = analyze_question(question, language)
        content = sum(word.content and not is_reference(word) for word in query.words)
        if not query.words:
            # "Rahmat, aka": nothing but a courtesy and words without a subject.
            return Found([], False, small_talk=_words(question) < _words(whole))
        base = await self._base(bot_id, version)
        cosines: Mapping[int, float] | None = None
        key_events: Sequence[KeyEvent] = ()
        if self._embedder is not None and content and may_spend and bot_id not in self._held:
            asked = await self._embedder.question(question, calls)
            key_events = asked.key_events
            if asked.vectors:
                async with self._db.read() as session:
                    cosines = await vectors.nearest(session, bot_id, self._embedder.model, asked.vectors[0], limit * 4)
        index, passages = base.index, base.passages
        if index is None:
            index, passages = await self._candidates(bot_id, query, base, cosines or {})
        ranking = index.search(query, limit, vector_scores=cosines, threshold=self._settings.not_found_below)
        hits = [
            Passage(p.chunk_id, p.document_id, p.document_name, p.heading, p.locus, p.text, hit.score)
            for hit in ranking.hits
            if (p := passages.get(hit.chunk_id)) is not None
        ]
        found, confidence = ranking.found and bool(hits), ranking.confidence
        # What the owner said to this very question counts before every document, however well one fits.
        nearest = base.taught.nearest(alike.of_query(query, question)) if len(base.taught) else None
        if nearest is not None and nearest[1] >= alike.SAME:
            meant = replace(nearest[0], score=1.0, meant=True)
            hits = [meant, *(hit for hit in hits if hit.chunk_id != meant.chunk_id)][:limit]
            found, confidence = True, 1.0
        return Found(hits, found, confidence, False, content, calls, key_events)

    def hold(self, bot_id: str, rows: Sequence[tuple[Passage, str, str]]) -> None:
        """Keep what a bot answers from that stands in no database: passages, each with its stems and grams."""
        index = LexicalIndex([(passage.chunk_id, stems, grams) for passage, stems, grams in rows])
        self._held[bot_id] = _Base(0, 0, index=index, passages={passage.chunk_id: passage for passage, _, _ in rows})

    def is_held(self, bot_id: str) -> bool:
        """Tell whether :meth:`hold` was called for a bot."""
        return bot_id in self._held

    async def shelf(self, bot_id: str, version: int) -> Shelf:
        """Return the files that a bot's customers may receive. ``version``: see :meth:`search`."""
        return (await self._base(bot_id, version)).shelf

    async def _base(self, bot_id: str, version: int) -> _Base:
        if bot_id in self._held:
            return self._held[bot_id]
        base = self._bases.get(bot_id)
        if base is not None and base.version >= version:
            self._bases.move_to_end(bot_id)
            return base
        lock = self._loading.setdefault(bot_id, asyncio.Lock())
        async with lock:
            base = self._bases.get(bot_id)
            if base is None or base.version < version:
                base = await self._load(bot_id, version)
                self._keep(bot_id, base)
        self._loading.pop(bot_id, None)
        return base

    def _keep(self, bot_id: str, base: _Base) -> None:
        old = self._bases.pop(bot_id, None)
        self._size += base.size - (old.size if old else 0)
        self._bases[bot_id] = base
        while self._size > self._settings.cache_mib * 1_048_576 and len(self._bases) > 1:
            _, dropped = self._bases.popitem(last=False)
            self._size -= dropped.size
        metrics.CACHE.set(self._size)

    async def _load(self, bot_id: str, version: int) -> _Base:
        chunk, document = models.Chunk, models.Document
        serving = (chunk.bot_id == bot_id, document.serving.is_(True), document.deleted_at.is_(None))
        terms: Sequence[Row[str, str]] = ()
        rows: Sequence[Row[int, str, str, str, str, str, str, str]] = ()
        async with self._db.read() as session:
            count = await session.scalar(
                select(func.count()).select_from(chunk).join(document, document.id == chunk.document_id).where(*serving)
            )
            if int(count or 0) > self._settings.max_passages_in_memory:
                wanted = select(chunk.stems, chunk.grams).join(document, document.id == chunk.document_id)
                terms = (await session.execute(wanted.where(*serving))).all()
            else:
                rows = (await session.execute(_passages().where(*serving).order_by(chunk.id))).all()
            if terms:
                own = _passages().where(*serving, document.kind == ANSWERS).order_by(chunk.id)
                rows = (await session.execute(own)).all()
            files = (await session.execute(_files().where(document.bot_id == bot_id))).all()
        taught = await asyncio.to_thread(_taught, rows)
        given = await asyncio.to_thread(make, [Handout(*row) for row in files]) if files else EMPTY
        if terms:
            statistics = await asyncio.to_thread(_statistics, terms)
            size = 120 * (len(statistics.stems) + len(statistics.grams)) + _TAUGHT_SIZE * len(taught)
            return _Base(version, size, statistics=statistics, taught=taught, shelf=given)
        index = await asyncio.to_thread(LexicalIndex, [(row[0], row[6], row[7]) for row in rows])
        passages = {row[0]: Passage(*row[:6]) for row in rows}
        size = sum(3 * len(row[6]) + 3 * len(row[7]) + 2 * sys.getsizeof(row[5]) + 400 for row in rows) + 2000
        size += _TAUGHT_SIZE * len(taught)
        return _Base(version, size, index=index, passages=passages, taught=taught, shelf=given)

    async def _candidates(
        self, bot_id: str, query: Query, base: _Base, cosines: Mapping[int, float]
    ) -> tuple[LexicalIndex, Mapping[int, Passage]]:
        chunk, document = models.Chunk, models.Document
        statistics = base.statistics
        async with self._db.read() as session:
            # Common terms would make every passage a candidate; the rarer half finds the right ones.
            stems = _rarest(query.stems, statistics.stems if statistics else {}, 24)
            grams = _rarest(query.grams, statistics.grams if statistics else {}, 24)
            ids = await fulltext.candidates(session, bot_id, stems, grams, CANDIDATES)
            rows = (
                await session.execute(
                    _passages().where(
                        chunk.id.in_([*ids, *cosines]),
                        chunk.bot_id == bot_id,
                        document.serving.is_(True),
                        document.deleted_at.is_(None),
                    )
                )
            ).all()
        index = LexicalIndex(((row[0], row[6], row[7]) for row in rows), statistics)
        return index, {row[0]: Passage(*row[:6]) for row in rows}


def _passages() -> Select[int, str, str, str, str, str, str, str]:
    chunk, document = models.Chunk, models.Document
    return select(
        chunk.id,
        chunk.document_id,
        document.name,
        chunk.heading,
        chunk.locus,
        chunk.text,
        chunk.stems,
        chunk.grams,
    ).join(document, document.id == chunk.document_id)


def _files() -> Select[str, str, str, str, int]:
    """The documents that customers may receive."""
    document = models.Document
    return (
        select(document.id, document.name, document.kind, document.caption, document.size)
        .where(document.shared.is_(True), document.serving.is_(True), document.deleted_at.is_(None))
        .order_by(document.id)
    )


def _taught(rows: Sequence[Row[int, str, str, str, str, str, str, str]]) -> alike.Index[Passage]:
    """The questions that the owner answered: the heading of a taught answer is its question."""
    own = (Passage(*row[:6]) for row in rows if row[2] == ANSWERS)
    return alike.Index((passage, alike.asked(subject(passage.heading) or passage.heading)) for passage in own)


def _rarest(terms: Sequence[str], frequencies: Mapping[str, int], most: int) -> list[str]:
    known = [term for term in terms if not frequencies or term in frequencies]
    return sorted(known, key=lambda term: frequencies.get(term, 0))[:most]


def _statistics(rows: Sequence[Row[str, str]]) -> Statistics:
    stems: Counter[str] = Counter()
    grams: Counter[str] = Counter()
    stem_total = gram_total = 0
    for stem_text, gram_text in rows:
        words, pieces = stem_text.split(), gram_text.split()
        stem_total += len(words)
        gram_total += len(pieces)
        stems.update(set(words))
        grams.update(set(pieces))
    return Statistics(len(rows), stem_total / max(1, len(rows)), gram_total / max(1, len(rows)), stems, grams)


# What people say around a question. Such words are no subject, and a passage that lacks them answers as well.
_HELLO = (
    r"(?:va\s+)?(?:v?[ao]s+alom[ou]?\s*[- ]?\s*v?al+[ae][yi]k[uo]m|v?al+[ae][yi]k[uo]m\s+as+alom)|salom(?:lar)?"
    r"|(?:ва\s+)?(?:ас+ал[ао]м[оу]?\s*[- ]?\s*в?ал+[ае]й?к[уо]м|в?ал+[ае]й?к[уо]м\s+ас+ал[ао]м)|салом(?:лар)?|салам"
    r"|[hx]ayrli\s+(?:kun|tong|kech|oqshom)|[хҳ]айрли\s+(?:кун|тонг|кеч|оқшом)"
    r"|(?:yaxshimi|qalay|qanday)siz(?:lar)?|(?:яхшими|қалай|қандай|калай|кандай)сиз(?:лар)?|как\s+дела|how\s+are\s+you"
    r"|привет(?:ствую|ик)?|здрав?ствуй(?:те)?|добр(?:ый|ое|ого|ой)\s+(?:день|вечер|утро|дня|вечера|утра|ночи)"
    r"|hello(?:\s+there)?|hi|hey|good\s+(?:morning|afternoon|evening|day)"
)
_THANKS = (
    r"(?:katta\s+|kotta\s+)?ra[hx]mat(?:\s+(?:katta|sizga))?|(?:катта\s+)?ра[хҳ]мат(?:\s+(?:катта|сизга))?"
    r"|(?:большое\s+)?спасибо(?:\s+(?:большое|вам))?|благодарю|thanks(?:\s+a\s+lot)?|thank\s+you(?:\s+(?:so|very)\s+much)?"
    r"|ok(?:ay|ey)?|ок(?:ей|ай)?|[xh]o'?p|х[оў]п|mayli|майли|tushun(?:arli|dim)|тушун(?:арли|дим)|понятно|ясно|понял[аи]?"
    r"|understood|got\s+it|i\s+see"
)
_ASKS_TO_ASK = (
    r"(?:menda\s+)?(?:bir\s+|bitta\s+)?savol(?:im)?\s+bor(?:\s*edi)?|(?:менда\s+)?(?:бир\s+|битта\s+)?савол(?:им)?\s+бор(?:\s*эди)?"
    r"|(?:у\s+меня\s+)?(?:есть\s+)?(?:один\s+)?вопрос(?=\s*[:.,!\n])|i\s+have\s+a\s+question"
)
# These also praise a thing, so they are courtesies only where a clause ends after them.
_PRAISE = r"(?:yaxshi|zo'r|ajoyib|super|яхши|зўр|ажойиб|супер|хорошо|отлично|good|great|fine|nice)(?=\s*(?:[.,!)\n]|$))"
# Atomic: nobody's "rahmat katta rahmat katta …" may be tried in every way of reading it.
_COURTESY = rf"(?>(?:{_HELLO}|{_THANKS}|{_ASKS_TO_ASK}|{_PRAISE})(?!['\w-]))"
_FIRST = re.compile(rf"\A(?:[\W_]*+{_COURTESY})++[^\w№+$€]*")
_LAST = re.compile(rf"(?:(?<![\w'-]){_COURTESY}[\W_]*+)++\Z")
_LAST_CHARACTERS = 100
_GREETING = re.compile(rf"(?<!\w)(?:{_HELLO})(?!\w)")
# "1) …", "2. …" and the digits on keys count questions; "#5" and "№ 5" name one.
_COUNTED = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)][ \t]+(?=\D)|(?:\d\ufe0f?\u20e3[ \t]*)+)", re.MULTILINE)
_REFERENCE = re.compile(r"(?:№[ \t]*|(?<![\w#])#)(?=\d)")


def subject(text: str) -> str:
    """Return a message without greetings, thanks and numbering around it; empty where nothing else is said."""
    lines = []
    for line in _REFERENCE.sub("№", _COUNTED.sub("", text[:QUESTION_CHARACTERS])).split("\n"):
        line = line.strip()
        lower = _lower(line)
        if len(lower) != len(line):
            line = lower
        start = found.end() if (found := _FIRST.match(lower)) else 0
        last = _LAST.search(lower, max(start, len(lower) - _LAST_CHARACTERS))
        line = line[start : last.start() if last else len(line)].strip()
        if any(map(str.isalnum, line)):
            lines.append(line)
    return "\n".join(lines)


def greets(text: str) -> bool:
    """Whether a message says hello."""
    return _GREETING.search(_lower(text[:QUESTION_CHARACTERS])) is not None


def _lower(text: str) -> str:
    return APOSTROPHE.sub("'", text).lower()


def _words(text: str) -> int:
    return len(text.split())
