"""Text to search terms: one key for every way of writing a word.

Customers write Uzbek in two scripts with any apostrophe or none, with the letters of 2026, on a Russian keyboard, and
Russian in Latin letters. :func:`fold` brings all of them to one Latin key of ``[a-z0-9]``. A passage is stored as two
lists of such terms, the stems of its words and the letter trigrams of the stems; a question carries the same and the
other words of the concepts it names, from ``lexicon.toml``. All terms are safe inside SQLite FTS5 and tsvector queries.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import Stemmer

from services import languages
from services.scripts import APOSTROPHES

#: A passage longer than this is analysed only up to here; a question is cut at :data:`QUESTION_CHARACTERS`.
PASSAGE_CHARACTERS = 20_000
QUESTION_CHARACTERS = 1_000
QUESTION_WORDS = 40
_WORD_CHARACTERS = 40

#: How much a word found through the lexicon counts beside the word itself.
LEXICON_WEIGHT = 0.7
#: How much words of the kind "price", "where", "when" count.
ASKING_WEIGHT = 0.6
#: The stem that a telephone number adds to its passage, whatever stands before it: "Tel", "☎", nothing.
PHONE_STEM = "telefon"
# Before a word of the lexicon that leads to the others of its line, and none of them to it.
_LEADS_ONLY = ">"

_LEXICON = Path(__file__).with_name("lexicon.toml")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a passage is stored as: stems of its words and letter trigrams, with repetitions, ``[a-z0-9]+`` each."""

    stems: tuple[str, ...]
    grams: tuple[str, ...]

    @property
    def stems_text(self) -> str:
        """The stems as one database column."""
        return " ".join(self.stems)

    @property
    def grams_text(self) -> str:
        """The trigrams as one database column."""
        return " ".join(self.grams)


@dataclass(frozen=True, slots=True)
class QueryWord:
    """One word of a question.

    ``stems``: its own stems. ``others``: stems of the other words of its concepts, each a word or a phrase (all of whose
    stems must be there). ``content``: it names the subject, so an answer should hold it. ``weight``: 0 to 1.
    """

    stems: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    grams: tuple[str, ...]
    content: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """A question ready to be searched."""

    words: tuple[QueryWord, ...]

    @property
    def stems(self) -> tuple[str, ...]:
        """Every stem that may help, for choosing candidates by a database's full-text search."""
        return tuple(dict.fromkeys(s for w in self.words for s in (*w.stems, *(o for p in w.others for o in p))))

    @property
    def grams(self) -> tuple[str, ...]:
        """Every trigram of the question's own words, for choosing candidates."""
        return tuple(dict.fromkeys(g for w in self.words for g in w.grams))


# --- one key ---------------------------------------------------------------------------------------------------------

_APOSTROPHE_TABLE = {ord(c): None for c in APOSTROPHES}
# Everything to Latin letters, before stems are cut: x and q are joined with h and k, ў қ ғ ҳ with о к г х.
_LETTERS = {
    **dict(zip("абвгдзиклмнопрстуфхыэўқғҳ", "abvgdziklmnoprstufhieokgh", strict=True)),
    **{
        "е": "e",
        "ё": "yo",
        "ж": "j",
        "й": "y",
        "ц": "ts",
        "ч": "ch",
        "ш": "sh",
        "щ": "sh",
        "ъ": "",
        "ь": "",
        "ю": "yu",
    },
    **{"я": "ya", "ö": "o", "õ": "o", "ó": "o", "ğ": "g", "ǵ": "g", "ş": "sh", "ç": "ch", "ı": "i", "x": "h", "q": "k"},
    **{"w": "v", "і": "i", "ї": "i", "є": "e", "ä": "a", "ü": "u", "é": "e", "è": "e", "á": "a", "ñ": "n", "ß": "ss"},
}
_LETTER_TABLE = str.maketrans(_LETTERS)
_NOT_KEY = re.compile(r"[^a-z0-9]+")
_NOT_WORD = re.compile(r"[\W_]+")

# The last step, after the stem is cut, where spellings differ between languages and habits.
_CLASHES = (
    (re.compile("sch|shch"), "sh"),
    (re.compile("zh|dj|dzh"), "j"),
    (re.compile("kh"), "h"),
    (re.compile("ph"), "f"),
    (re.compile("ts"), "s"),
    (re.compile("ck"), "k"),
    (re.compile("c(?=[eiy])"), "s"),
    (re.compile("c(?!h)"), "k"),
    (re.compile("(?<=[b-df-hj-np-tv-z])yo"), "e"),
    (re.compile("ye"), "e"),
    (re.compile("y"), "i"),
    (re.compile(r"([a-z])\1+"), r"\1"),
)


def clean(text: str) -> str:
    """Lower case, composed, without apostrophes, marks piled upon letters and invisible characters."""
    composed = unicodedata.normalize("NFKC", text.translate(_APOSTROPHE_TABLE)).lower()
    if composed.isascii():
        return composed
    return "".join(c for c in composed if unicodedata.category(c) not in ("Mn", "Me", "Mc", "Cf", "Cs", "Co", "Cn"))


def _latin(word: str) -> str:
    """A cleaned word in Latin letters, still with its doubled letters and ``y``."""
    return _NOT_KEY.sub("", word.translate(_LETTER_TABLE))


@lru_cache(maxsize=8192)
def _key(latin: str) -> str:
    for pattern, replacement in _CLASHES:
        latin = pattern.sub(replacement, latin)
    return latin


def fold(word: str) -> str:
    """The key of one word: the same for every script, apostrophe and habit of typing."""
    return _key(_latin(clean(word)))


def keys(text: str) -> list[str]:
    """The keys of a text's words, as :func:`fold` makes them; what it knows no letter of stands for itself."""
    return [_key(_latin(word)) or word for word in _NOT_WORD.split(clean(text)) if word]


def question_key(text: str) -> str:
    """The key under which a question is kept once: spelling, letter case and punctuation make no difference.

    At most 300 characters, never empty; what has no letter or digit that :func:`fold` knows stands for itself.
    """
    plain = clean(text)
    words = (_key(_latin(word)) for word in _NOT_WORD.split(plain))
    return (" ".join(filter(None, words)) or plain.strip() or "?")[:300]


# --- stems -----------------------------------------------------------------------------------------------------------

# Uzbek endings in folded Latin (no apostrophes, q→k, x→h), most of those that follow nouns and verbs.
_ENDINGS = (
    # plural, possession, case
    "lar lari larim laring larimiz laringiz im ing i si imiz ingiz miz ngiz ni ning ga ka da dan dagi "
    "gacha kacha cha dek day niki lik lig ligi li siz sizlik chi roq rok gi ki nchi inchi ta tadan "
    "tagacha "
    # particles
    "mi ku yu misiz mikan mikin "
    # verbs and what is made of them
    "man san sizlar di dim ding dik dingiz dingizlar dilar gan kan gani ganda gandan gancha ganman gansiz "
    "ganmiz yap yapti yapman yapsiz yapmiz yapsan ayap ayapti ayapman ayapsiz ayotgan yotgan otgan vot "
    "votti opti votgan adi ydi aman yman asiz ysiz amiz ymiz asan ysan adilar ydilar asizlar ysizlar "
    "asizmi ysizmi adimi ydimi sa sam sang sak sangiz salar sin inglar ngizlar ib b may mas masa masin ma "
    "maydi mayman maysiz maymiz magan madi mang mangiz sh ish ishi ishga ishda ishni ishdan mok mokchi "
    "mokchiman mokchimiz mokda uvchi vchi guncha gach kani il in tir dir tirish dirish lash lan la lanish "
    "lashtir ar ur r arkan ay aylik aymi olaman olasiz oladi olmayman olamanmi olasizmi "
).split()
_ENDINGS_BY_LAST: dict[str, tuple[str, ...]] = {
    last: tuple(sorted({e for e in _ENDINGS if e[-1] == last}, key=len, reverse=True))
    for last in {e[-1] for e in _ENDINGS}
}
_VOWELS = frozenset("aeiou")
_RISKY = frozenset(
    ("i", "b", "r", "la", "ma", "il", "in", "ar", "ur", "ta", "ki", "gi", "ka", "sh", "ay", "li", "ku", "yu")
)
_ROUNDS = 4


def _uzbek_stem(word: str) -> str:
    """Cut Uzbek endings, the longest first, while at least three letters with a vowel stay."""
    for _ in range(_ROUNDS if word else 0):
        for ending in _ENDINGS_BY_LAST.get(word[-1], ()):
            if word.endswith(ending):
                rest = word[: -len(ending)]
                if len(rest) >= (4 if ending in _RISKY else 3) and not _VOWELS.isdisjoint(rest):
                    word = rest
                    break
        else:
            break
    return word


@cache
def _snowball(language: str) -> Stemmer.Stemmer:
    # Without its own memory of words: that is the part of it which two threads must not use at once.
    return Stemmer.Stemmer(language, 0)


# Russian typed in Latin letters back to Cyrillic, roughly: the stemmer needs only the endings to be right.
_BACK = (
    ("shch", "щ"), ("sch", "щ"), ("zh", "ж"), ("kh", "х"), ("ts", "ц"), ("ch", "ч"), ("sh", "ш"), ("yu", "ю"), ("ya", "я"),
    ("yo", "ё"), ("ye", "е"), ("iy", "ий"), ("yy", "ый"), ("ay", "ай"), ("ey", "ей"), ("oy", "ой"), ("uy", "уй"), ("ia", "ия"),
)  # fmt: skip
_BACK_LETTERS = str.maketrans(dict(zip("abvgdezijklmnoprstufhcyxqw", "абвгдезижклмнопрстуфхцыхкв", strict=True)))


def _to_russian(word: str) -> str:
    for latin, cyrillic in _BACK:
        word = word.replace(latin, cyrillic)
    return word.translate(_BACK_LETTERS)


def _trim(key: str) -> str:
    """Without the last vowel, which languages add and drop: dostavka, доставки, dostavk."""
    return key[:-1] if len(key) > 4 and key[-1] in _VOWELS else key


@lru_cache(maxsize=8192)
def _stem(word: str, language: str | None) -> str:
    cyrillic = word[0] > "z"
    if language == languages.RUSSIAN:
        russian = word if cyrillic else _to_russian(word)
        return _trim(_key(_latin(_snowball("russian").stemWord(russian))))
    if language == languages.ENGLISH and not cyrillic:
        return _trim(_key(_latin(_snowball("english").stemWord(word))))
    return _trim(_key(_uzbek_stem(_latin(word))))


# --- tokens ----------------------------------------------------------------------------------------------------------

_MULTIPLIERS = {
    **dict.fromkeys(("ming", "минг", "тыс", "тысяч", "тысячи", "тысяча", "k", "к", "thousand", "т"), 1_000),
    **dict.fromkeys(
        ("mln", "млн", "million", "миллион", "миллиона", "миллионов", "millions", "m", "м", "mio"), 1_000_000
    ),
    **dict.fromkeys(("mlrd", "млрд", "milliard", "миллиард", "миллиарда", "billion"), 1_000_000_000),
}
_NUMBER_WORD = "|".join(sorted((m for m in _MULTIPLIERS if len(m) > 1), key=len, reverse=True))
_TOKEN = re.compile(
    r"(?P<mail>[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+)"
    r"|(?P<phone>(?<!\w)\+?998[ ()-]{0,2}\d\d[ ()-]{0,2}\d{3}[ -]?\d\d[ -]?\d\d(?!\d)"
    r"|(?<!\w)\(?\d\d\)?[ -]\d{3}[ -]\d\d[ -]\d\d(?!\d))"
    r"|(?P<time>(?<![\w:])[012]?\d:[0-5]\d(?![\w:]))"
    r"|(?P<number>(?<!\w)(?:\d{1,3}(?:[ \u00a0\u202f.,]\d{3}){1,4}(?![\d])|\d{1,12}(?:[.,]\d{1,2}(?!\d))?)"
    rf"(?:\s?(?P<times>(?:{_NUMBER_WORD})(?![^\W\d_]{{3}})|[kкm](?!\w)))?(?![^\W_]))"
    r"|(?P<percent>%)|(?P<money>[$€])"
    r"|(?P<article>(?<!\w)[^\W\d_]{1,8}-\d[\w-]{0,12}|[^\W_]*\d[^\W_]*)"
    r"|(?P<word>[^\W\d_]+)"
)
_UNSURE_THOUSANDS = re.compile(r"\d{1,3}[ \u00a0\u202f]\d{3}(?<!00)")
_SEPARATORS = re.compile(r"[ \u00a0\u202f.,]")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    exact: bool  # already a term: a number, a telephone, an article
    phone: bool = False


def _tokens(text: str, most: int) -> Iterable[_Token]:
    for count, match in enumerate(_TOKEN.finditer(text), 1):
        kind = match.lastgroup
        value = match[0]
        if kind == "word":
            if len(value) <= _WORD_CHARACTERS:
                yield _Token(value, False)
        elif kind in ("number", "times"):
            yield _Token(_number(match["number"], match["times"]), True)
            if _UNSURE_THOUSANDS.fullmatch(match["number"]) and not match["times"]:
                # 1 350, or the two numbers of "iPhone 15 256".
                yield from (_Token(str(int(part)), True) for part in match["number"].split())
        elif kind == "percent":
            yield _Token("foiz", False)
        elif kind == "money":
            yield _Token("dollar" if value == "$" else "evro", False)
        elif kind == "phone":
            yield _Token(re.sub(r"\D", "", value)[-9:], True, phone=True)
        elif kind == "time":
            hours, minutes = value.split(":")
            yield _Token(f"{int(hours)}x{minutes}", True)
            if minutes == "00":
                yield _Token(str(int(hours)), True)
        else:
            yield from _article(value)
        if count >= most:
            return


def _number(value: str, times: str | None) -> str:
    """290 000 = 290.000 = 290 ming = 290000; 1,5 mln = 1500000; 6,5 stays ``6x5``."""
    if times:
        value = value.removesuffix(times).strip()
    thousands = re.fullmatch(r"\d{1,3}(?:[ \u00a0\u202f.,]\d{3})+", value)
    whole, _, part = (_SEPARATORS.sub("", value), "", "") if thousands else value.replace(",", ".").partition(".")
    if times:
        scale = _MULTIPLIERS.get(times, 1)
        return str(int(whole) * scale + (int(part) * scale // 10 ** len(part) if part else 0))
    part = part.rstrip("0")
    return f"{int(whole)}x{part}" if part else str(int(whole))


def _article(value: str) -> Iterable[_Token]:
    """The article whole; the number of ``256GB`` too, and the parts of an e-mail address."""
    whole = _key(_latin(value))[:_WORD_CHARACTERS]
    if whole:
        yield _Token(whole, True)
    if "@" in value:
        for part in re.findall(r"[^\W\d_]{3,}", value):
            yield _Token(part, False)
    elif (unit := re.fullmatch(r"(\d{2,6})([^\W\d_]+)", value)) is not None:
        if (times := _MULTIPLIERS.get(unit[2])) is not None:
            yield _Token(str(int(unit[1]) * times), True)
        else:
            yield _Token(str(int(unit[1])), True)


@lru_cache(maxsize=8192)
def grams_of(stem: str) -> tuple[str, ...]:
    """Letter trigrams of a folded word, its beginning marked with ``0``; the word itself if it is shorter."""
    if len(stem) < 3:
        return (f"0{stem}",)
    marked = f"0{stem}"
    return tuple(marked[i : i + 3] for i in range(len(marked) - 2))


def _stems_of(token: _Token, language: str | None) -> tuple[str, ...]:
    if token.exact:
        return (token.text,)
    stem = _stem(token.text, language)
    return (stem,) if stem else ()


def analyze_passage(text: str, heading: str = "") -> Terms:
    """The terms of a passage. ``heading``: of its section; its words are added to the passage's.

    For a table row give ``header: value`` pairs. Takes about a millisecond for 300 characters of words not met before.
    """
    whole = clean(f"{heading}\n{text}"[:PASSAGE_CHARACTERS])
    language = languages.detect(text).language
    stems: list[str] = []
    grams: list[str] = []
    for token in _tokens(whole, PASSAGE_CHARACTERS):
        for stem in _stems_of(token, language):
            stems.append(stem)
            if not token.exact:
                grams.extend(grams_of(stem))
        if token.phone:
            stems.append(PHONE_STEM)
    return Terms(tuple(stems), tuple(grams))


# --- the lexicon -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A word or phrase of a concept, as a question may name it. ``silent``: it is a single word that carries no subject."""

    stems: tuple[str, ...]
    concept: int
    silent: bool

    def is_named(self, stems: list[str], at: int, *, silent: bool) -> bool:
        """Whether a question's ``stems`` hold it from place ``at``. ``silent``: the word there carries no subject.

        Such a word alone names only what is such a word itself: Uzbek "bo‘ldi" (it is done) is neither "bo‘lim" (a
        branch) nor "боль" (pain), though all their stems are the same.
        """
        if len(self.stems) == 1:
            return self.silent or not silent
        return tuple(stems[at : at + len(self.stems)]) == self.stems


@dataclass(frozen=True, slots=True)
class _Lexicon:
    silent: dict[str, frozenset[str]]  # language → keys of whole words
    phrases: dict[str, tuple[_Phrase, ...]]  # first stem → what begins with it
    members: tuple[tuple[tuple[str, ...], ...], ...]  # concept → the stems of what it is searched with
    asking: frozenset[int]


@cache
def lexicon() -> _Lexicon:
    """``lexicon.toml`` with every word stemmed by the rules of its language."""
    data = tomllib.loads(_LEXICON.read_text(encoding="utf-8"))
    silent = {language: frozenset(map(fold, listed.split())) for language, listed in data["silent"].items()}
    phrases: dict[str, dict[_Phrase, None]] = {}
    members: list[tuple[tuple[str, ...], ...]] = []
    asking: set[int] = set()
    for section in ("words", "asking"):
        for concept in data[section].values():
            number = len(members)
            searched: dict[tuple[str, ...], None] = {}
            for language, listed in concept.items():
                for phrase in map(str.strip, listed.split(",")):
                    stems = _phrase_stems(phrase, language)
                    named = _Phrase(stems, number, fold(phrase) in silent[language])
                    phrases.setdefault(stems[0], {})[named] = None
                    if not phrase.startswith(_LEADS_ONLY):
                        searched[stems] = None
            members.append(tuple(searched))
            if section == "asking":
                asking.add(number)
    return _Lexicon(silent, {f: tuple(found) for f, found in phrases.items()}, tuple(members), frozenset(asking))


def _phrase_stems(phrase: str, language: str) -> tuple[str, ...]:
    return tuple(s for t in _tokens(clean(phrase), 8) for s in _stems_of(t, language))


def analyze_question(text: str, language: str | None = None) -> Query:
    """The words of a question with their weights and the other words of their concepts.

    ``language``: of this text, if ``languages.detect`` was asked already; it chooses the stemmer.
    """
    whole = clean(text[:QUESTION_CHARACTERS])
    language = language or languages.detect(text[:QUESTION_CHARACTERS]).language
    known = lexicon()
    tokens = list(_tokens(whole, QUESTION_WORDS))
    stems = [_stems_of(t, language) for t in tokens]
    firsts = [s[0] if s else "" for s in stems]
    keys = ["" if t.exact else _key(_latin(t.text)) for t in tokens]
    here = known.silent.get((language or "").partition("-")[0], frozenset())
    concepts: list[set[int]] = [set() for _ in tokens]
    for i, first in enumerate(firsts):
        for phrase in known.phrases.get(first, ()):
            if phrase.is_named(firsts, i, silent=keys[i] in here):
                for j in range(i, i + len(phrase.stems)):
                    concepts[j].add(phrase.concept)
    words: dict[tuple[str, ...], QueryWord] = {}
    for token, own, key, found in zip(tokens, stems, keys, concepts, strict=True):
        if not own or own in words:
            continue
        asking = bool(found) and found <= known.asking
        silent = any(key in words_of_one for words_of_one in known.silent.values())
        if silent and not found:
            continue
        others = dict.fromkeys(p for c in found for p in known.members[c] if p != own)
        words[own] = QueryWord(
            stems=own,
            others=tuple(others),
            grams=() if token.exact or silent else grams_of(own[0]),
            content=not silent and not asking,
            weight=ASKING_WEIGHT if asking or silent else 1.0,
        )
    return Query(tuple(words.values()))
