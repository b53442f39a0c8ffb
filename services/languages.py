"""Which language a message is written in: Uzbek in either script, Russian (Cyrillic or typed in Latin letters), English.

The alphabet decides between the two groups of languages; inside a group a naive Bayes classifier over letter 1-4-grams
of the words decides. Its table, ``languages_model.json.gz``, is made by ``bench/train_languages.py`` and names the
texts it was counted from. No other package is involved: the ready-made ones do not know Uzbek.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, Literal

from services.scripts import APOSTROPHES, to_latin

UZBEK: Final = "uz"
UZBEK_CYRILLIC: Final = "uz-Cyrl"
RUSSIAN: Final = "ru"
ENGLISH: Final = "en"

Script = Literal["latin", "cyrillic", "none"]

#: Characters looked at; a longer text does not become clearer.
_SEEN_CHARACTERS = 2000
_SEEN_WORDS = 60
_SEEN_LETTERS = 40  # of one word
#: Of so many words it is kept what they say: the words of a chat are few, and they come again.
_WORDS_KEPT = 8192
# Steps of one unit of natural logarithm in the table, and the value that stands for zero.
SCALE: Final = 16
ZERO: Final = 128
_SHIFT = 24
# Russian typed in Latin letters is rare; without this prior Uzbek with Russian loanwords would be taken for it.
_PRIOR_RUSSIAN_IN_LATIN = -8.0
# Overlapping n-grams count the same evidence several times; dividing by this makes the confidence honest.
_EVIDENCE_OVERLAP = 4.0
_UZBEK_LETTERS = frozenset("ўқғҳ")
_UZBEK_LETTER_BONUS = 12.0
# ``q``, ``o'`` and ``g'`` never come from romanised Russian.
_UZBEK_LATIN = re.compile("q|[og]'")
_UZBEK_LATIN_BONUS = 5.0

_MODEL = Path(__file__).with_name("languages_model.json.gz")


@dataclass(frozen=True, slots=True)
class Detection:
    """``language``: ``uz``, ``uz-Cyrl``, ``ru``, ``en``, or None where the text has none (number, emoji, product name).

    ``confidence``: 0 to 1, the classifier's posterior. Below about 0.7 keep the language used so far.
    """

    language: str | None
    confidence: float


@dataclass(frozen=True, slots=True)
class _Model:
    latin: dict[str, int]
    cyrillic: dict[str, int]


@cache
def _model() -> _Model:
    data = json.loads(gzip.decompress(_MODEL.read_bytes()))
    latin, cyrillic = data["latin"], data["cyrillic"]
    packed = ((e << _SHIFT) | r for e, r in zip(bytes.fromhex(latin["en"]), bytes.fromhex(latin["ru"]), strict=True))
    shared: dict[int, int] = {}
    return _Model(
        latin={g: shared.setdefault(p, p) for g, p in zip(latin["grams"].split(" "), packed, strict=True)},
        cyrillic=dict(zip(cyrillic["grams"].split(" "), bytes.fromhex(cyrillic["ru"]), strict=True)),
    )


APOSTROPHE = re.compile(f"[{re.escape(APOSTROPHES)}]")
_REFORM = {"ö": "o'", "õ": "o'", "ó": "o'", "ğ": "g'", "ǵ": "g'", "ş": "sh", "ç": "ch", "ı": "i", "ѐ": "е"}
# Addresses, names of accounts, commands, message places and anything with a digit in it say nothing about a language.
_NOISE = re.compile(
    r"https?://\S+|www\.\S+|(?<!\S)\S+@\S+|[@#/]\w+|(?<!\w)\w*\d[\w.,:'/-]*|\b\w+\.(?:com|uz|ru|org|net|me|io)\b"
)
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)*'?|[\u0400-\u04ff]+(?:['-][\u0400-\u04ff]+)*")
_LAUGHTER = re.compile(r"(?:[хаxh]*(?:ха|ах|xa|ax|хе|hah|aha)[хаxheе]*|h+m+|m+h+m*|х+м+|a+|а+|o+|о+|э+|lo+l|лол)")
_LONG_RUN = re.compile(r"(\w)\1{2,}")

# Words of all languages, and names of makers and goods. They decide nothing and are left out.
_NEUTRAL = frozenset(
    (
        *("ok", "okey", "oke", "okay", "ок", "окей", "оке", "lol", "wow", "bro", "vip", "pls", "test", "тест"),
        *("iphone", "ipad", "macbook", "airpods", "apple", "samsung", "galaxy", "redmi", "xiaomi", "mi", "poco"),
        *("huawei", "honor", "oppo", "vivo", "realme", "nokia", "tecno", "infinix", "pixel", "lenovo", "asus", "acer"),
        *("hp", "dell", "lg", "sony", "playstation", "ps", "xbox", "nintendo", "artel", "tefal", "bosch", "philips"),
        *("dyson", "canon", "nikon", "jbl", "nike", "adidas", "puma", "zara", "gucci", "chanel", "dior", "lacoste"),
        *("note", "pro", "max", "plus", "ultra", "mini", "lite", "air", "se", "fe", "gt", "series", "watch", "buds"),
        *("chevrolet", "cobalt", "gentra", "lacetti", "tracker", "onix", "spark", "malibu", "nexia", "matiz", "damas"),
        *("byd", "kia", "hyundai", "toyota", "bmw", "mercedes", "audi", "lada", "tesla", "captiva", "equinox"),
        *("telegram", "instagram", "whatsapp", "facebook", "youtube", "tiktok", "google", "payme", "click", "uzcard"),
        *("humo", "visa", "mastercard", "uzum", "yandex", "paypal", "zoom", "python", "java", "ielts", "toefl", "sat"),
        *("gb", "tb", "mb", "kg", "gr", "cm", "mm", "sm", "ml", "usd", "uzs", "eur", "rub", "hz", "mah", "ssd", "hdd"),
        *("ram", "rgb", "led", "oled", "amoled", "usb", "wifi", "bluetooth", "nfc", "esim", "sim", "pdf", "csv", "doc"),
        *("айфон", "самсунг", "редми", "кг", "гр", "см", "мм", "мл", "шт", "гб", "тг"),
    )
)

# Single words that mean one language though their letters do not show it.
_ALONE = {
    **dict.fromkeys(("да", "ага", "угу", "ну", "не", "неа", "а", "и", "все", "всё"), RUSSIAN),
    **dict.fromkeys(("ха", "хоп", "бор", "мана"), UZBEK_CYRILLIC),
    **dict.fromkeys(("ha", "xa", "bor", "mana", "a'lo", "aka", "opa", "zo'r", "zor"), UZBEK),
    **dict.fromkeys(("hi", "no", "nope", "yep", "yeah", "how", "you", "me"), ENGLISH),
}
# Russian words that Uzbek chat uses daily, Latin: they do not count as Russian, and with an Uzbek ending speak for Uzbek.
_BORROWED = re.compile(
    "(?:adres|abonement|aksiya|avans|besplatno|chek|dastavka|dostavka|firma|garantiya|internet|karta|kabel|kachestvo|"
    "kassa|klinika|komplekt|kredit|kurs|kuryer|magazin|manikyur|model|moyka|nalichka|naxodka|nomer|optom|operator|"
    "original|paket|parikmaxer|perevod|pochta|posilka|prays|prokat|rasrochka|rassrochka|razmer|remont|sayt|salon|"
    "servis|skidka|sklad|srochno|srok|stil|svet|tovar|trenirovka|usluga|vkus|zakas|zakaz|zapchast|zapis)"
    "(mi|lar|lari|larni|larga|ni|ning|ga|da|dan|si|sini|siga|ingiz|imiz|im|li|siz|lik|chi|cha|dagi|misiz|lami|larmi)?"
)
_BORROWED_CYRILLIC = re.compile(
    "заказ|доставка|скидка|кредит|рассрочка|размер|магазин|номер|адрес|карта|чек|перевод|наличка|срочно|оптом|"
    "бесплатно|гарантия|товар|сервис|ремонт|курс|оператор|модель|оригинал|цвет|качество|почта|прайс|склад|салон|масло"
)
_BORROWED_SHARE = 0.4
# Uzbek chat calls most things by their Russian names. The words around them tell who speaks: questions, wishes, and endings
# that Russian does not have. Left out: what is a Russian word as well (бор, хам, у, он), and greetings, which anybody writes.
# They count only where no such word of another language stands beside them.
_UZBEK_AROUND = (
    "нарх нархи нархини нархлар нархлари қанча қанчага қанчадан неча нечта нечтадан нечи нечига нечида нечидан "
    "қачон қаер қаерда қаерга қаердан қайси қайсиси қандай қанақа нима нимага кимга борми бормиди бормикан "
    "йўқ йўқми керак керакми керагиди мумкин мумкинми бўлади бўладими бўлса бўлсин билан учун эмас эмасми эди экан "
    "бугун эртага ҳозир соат менга менда сизда сизларда бизга бизда туради келади беринг айтинг ташланг юборинг ёзинг"
)
_KEYBOARDS = [str.maketrans("ўқғҳ", plain) for plain in ("ўқғҳ", "укгх", "окгх")]
_UZBEK_WORDS = frozenset(word.translate(keyboard) for word in _UZBEK_AROUND.split() for keyboard in _KEYBOARDS)
_UZBEK_LATIN_WORDS = frozenset(
    spelt
    for word in _UZBEK_WORDS
    for latin in (to_latin(word).replace("‘", "'"),)
    for spelt in (latin, latin.replace("'", ""), latin.replace("x", "h"))
)
_UZBEK_CYRILLIC_ENDING = re.compile(
    "[а-яёўқғҳ]{2,}(?:[бвгджзйклнпрстфхцчшқғҳ]ми|[аий]дими|[аиу]нгиз[а-я]*|[аеиоуй]сиз(?:лар)?(?:ми)?|м[оў][кқ]чи[а-я]*"
    "|япти(?:ми)?|яп(?:ман|сиз[а-я]*)|(?<!л)лар(?:и|ни|га|да|дан|ини|имиз)|[кптсшчхф]га)"
)
_RUSSIAN_WORDS = frozenset(
    (
        "в во на с со к ко о об от до по за из без для при про не нет что чтобы как это эта этот эти то но или если бы ли же "
        "я мы вы вас вам ваш ваша ваши нас нам мне меня он она они его её ее их сколько стоит стоят есть где куда когда "
        "почему зачем какой какая какое какие какую можно нужен нужна нужно нужны надо хочу хотим будет будут был была "
        "было были здравствуйте спасибо пожалуйста"
    ).split()
)
_LATIN_WORDS = frozenset(
    (
        "the of for to in on at and or with is are am do does did you your i my we our it this that what where when how much "
        "many can could would which who why there any have has need want please skolko stoit est gde kak kogda mojno mozhno "
        "nujen nujna nujno vas nas chto kakoy kakaya kakie eto dlya privet"
    ).split()
)
_AROUND_BONUS = 12.0
# They stand before a name that is the same in both languages, "тур в Бухару": Uzbek says such things by endings. Left out: what
# is an Uzbek word as well (от, у, к).
_RUSSIAN_PREPOSITIONS = frozenset("в во на с со ко по до из за для без под над при про через между возле около".split())
# Places people name in either language, in the spelling of Russian and of keyboards without қ and ғ: they tell nothing of who
# speaks, only an Uzbek ending does. Each with the endings of Russian.
_PLACE = re.compile(
    "(?:ташкент|самарканд|бухар|андижан|ферган|наманган|карш|термез|нукус|ургенч|хив|наво|джизак|гулистан|коканд|маргилан|"
    "чирчик|ангрен|алмалык|газалкент|янгиюл|чиланзар|юнусабад|мирабад|алмазар|сергел|яккасара|учтепа|шайхантахур|"
    "бектемир|яшнабад|мирзо|улугбек|чорсу|куйлюк|каракалпакстан|хорезм|кашкадарь|сурхандарь|сырдарь)"
    "(?:|а|у|е|ы|и|ом|ой|ою|я|ю|ей|ью|ий|ия|ию|ии|ск(?:ий|ая|ое|ой|ом|ую))"
)


_DROPPED = frozenset(("Mn", "Me", "Mc", "Cf", "Cs", "Co", "Cn"))


class _Folding(dict[int, str | int | None]):
    """A table for ``str.translate`` that learns a character when it first meets it."""

    def __missing__(self, code: int) -> str | int | None:
        char = chr(code)
        folded = None if unicodedata.category(char) in _DROPPED else _REFORM.get(char, code)
        if len(self) < _CHARACTERS_KEPT:
            self[code] = folded
        return folded


_CHARACTERS_KEPT = 4096
_FOLDING = _Folding()


def _clean(text: str) -> str:
    """Lower case, one form of every letter, without marks piled upon letters and invisible characters."""
    composed = unicodedata.normalize("NFKC", APOSTROPHE.sub("'", text[:_SEEN_CHARACTERS])).lower()
    return composed if composed.isascii() else composed.translate(_FOLDING)


def words_of(text: str) -> list[str]:
    """The words that speak for a language, folded: what the classifier reads and is trained on."""
    found = _WORDS.findall(_NOISE.sub(" ", _clean(text)))
    kept = (_kept(w) if len(w) <= _SEEN_LETTERS else _kept.__wrapped__(w) for w in found[: 2 * _SEEN_WORDS])
    return [w for w in kept if w][:_SEEN_WORDS]


@lru_cache(maxsize=_WORDS_KEPT)
def _kept(word: str) -> str:
    """The word as it counts; empty where it says nothing."""
    if _LONG_RUN.search(word):
        word = _LONG_RUN.sub(r"\1", word)
    word = word[:_SEEN_LETTERS]
    return "" if word in _NEUTRAL or _LAUGHTER.fullmatch(word) else word


def grams_of(word: str) -> tuple[str, ...]:
    """Letter 1-4-grams of a word with its edges marked."""
    padded = f"_{word}_"
    size = len(padded)
    return tuple(padded[i : i + n] for n in (1, 2, 3, 4) for i in range(size - n + 1) if n > 1 or 0 < i < size - 1)


_LATIN_LETTERS = re.compile("[a-zA-ZÀ-ɏ]+")
_CYRILLIC_LETTERS = re.compile("[Ѐ-ӿ]+")


def script_of(text: str) -> Script:
    """The alphabet most letters of ``text`` belong to; ``none`` without Latin and Cyrillic letters."""
    text = text[:_SEEN_CHARACTERS]
    latin = sum(map(len, _LATIN_LETTERS.findall(text)))
    cyrillic = 0 if text.isascii() else sum(map(len, _CYRILLIC_LETTERS.findall(text)))
    if not latin and not cyrillic:
        return "none"
    return "cyrillic" if cyrillic >= latin else "latin"


def detect(text: str) -> Detection:
    """Tell the language of a message. Takes tens of microseconds; only the first 2,000 characters are read."""
    words = words_of(text)
    letters = sum(map(len, words))
    if len(words) == 1 and (alone := _ALONE.get(words[0])):
        return Detection(alone, 0.9)
    if letters < 2:
        return Detection(None, 1.0)
    cyrillic = [w for w in words if w[0] > "z"]
    if sum(map(len, cyrillic)) * 2 >= letters:
        return _cyrillic(cyrillic)
    return _latin([w for w in words if w[0] <= "z"])


@lru_cache(maxsize=_WORDS_KEPT)
def _cyrillic_word(word: str) -> tuple[int, bool, bool, bool]:
    """What a word says for Russian, whether Uzbek chat borrows it, whether its letters are Uzbek, whether the word is."""
    if _PLACE.fullmatch(word):
        return 0, False, False, False
    table = _model().cyrillic
    values = [table[g] for g in grams_of(word) if g in table]
    borrowed = _BORROWED_CYRILLIC.fullmatch(word) is not None
    spoken = word in _UZBEK_WORDS or _UZBEK_CYRILLIC_ENDING.fullmatch(word) is not None
    return sum(values) - ZERO * len(values), borrowed, not _UZBEK_LETTERS.isdisjoint(word), spoken


def _cyrillic(words: list[str]) -> Detection:
    total = 0.0
    uzbek = 0
    around = False
    for word in words:
        value, borrowed, own, spoken = _cyrillic_word(word)
        total += (_BORROWED_SHARE if borrowed and len(words) > 1 else 1) * value
        uzbek += own
        around = around or spoken
    russian = total / SCALE - _UZBEK_LETTER_BONUS * uzbek
    if around and _RUSSIAN_WORDS.isdisjoint(words):
        russian = min(russian, -_AROUND_BONUS)
    elif not around and not uzbek and not _RUSSIAN_PREPOSITIONS.isdisjoint(words):
        russian = max(russian, _AROUND_BONUS)
    confidence = 1 / (1 + math.exp(-min(abs(russian) / _EVIDENCE_OVERLAP, 50)))
    return Detection(RUSSIAN if russian > 0 else UZBEK_CYRILLIC, confidence)


@lru_cache(maxsize=_WORDS_KEPT)
def _latin_word(word: str) -> tuple[int, int, float, float, bool]:
    """A word's sum over the table and its grams there; what it adds to English and to Russian; whether only Uzbek has it."""
    if borrowed := _BORROWED.fullmatch(word):
        return 0, 0, -1.0, -_UZBEK_LATIN_BONUS if borrowed[1] else 0.0, False
    table = _model().latin
    values = [table[g] for g in grams_of(word) if g in table]
    bonus = -_UZBEK_LATIN_BONUS if _UZBEK_LATIN.search(word) else 0.0
    return sum(values), len(values), 0.0, bonus, word in _UZBEK_LATIN_WORDS


def _latin(words: list[str]) -> Detection:
    total = count = 0
    english = 0.0
    russian = _PRIOR_RUSSIAN_IN_LATIN
    around = False
    for word in words:
        values, known, for_english, for_russian, spoken = _latin_word(word)
        around = around or spoken
        total += values
        count += known
        english += for_english
        russian += for_russian
    english += ((total >> _SHIFT) - ZERO * count) / SCALE
    russian += ((total & ((1 << _SHIFT) - 1)) - ZERO * count) / SCALE
    if around and _LATIN_WORDS.isdisjoint(words):
        english, russian = min(english, -_AROUND_BONUS), min(russian, -_AROUND_BONUS)
    scores = {UZBEK: 0.0, ENGLISH: english, RUSSIAN: russian}
    best = max(scores, key=scores.__getitem__)
    odds = sum(math.exp(max((s - scores[best]) / _EVIDENCE_OVERLAP, -50)) for s in scores.values())
    return Detection(best, 1 / odds)


_CLEAR = 0.7
_SENTENCE = 3
# Words that only somebody who speaks the language writes: names of goods and of places are English everywhere.
_SPOKEN = {
    UZBEK: frozenset(
        (
            "salom assalom assalomu alaykum rahmat raxmat bor bormi yo'q kerak kerakmi narx narxi narxlar qancha necha "
            "nechi nechta qachon qayer qayerda qanday qaysi nima kim uchun bilan va ham men siz manga menga mumkin "
            "mumkinmi iltimos soat bugun ertaga manzil bo'ladi bo'ladimi ishlaysizmi ishlaysizlar aka"
        ).split()
    ),
    ENGLISH: frozenset(
        (
            "is are do does you your have has i we my me what where when how much many can could would which who why "
            "there any want need please hello hi hey thanks thank price cost delivery address hours open "
            "good morning afternoon evening phone number contact location discount available warranty refund"
        ).split()
    ),
    RUSSIAN: frozenset(
        (
            "сколько стоит есть где как когда можно вас нас вы ли что какой какая какие почему мне для хочу нужен "
            "нужна нужно цена адрес спасибо здравствуйте привет skolko stoit est gde kak kogda mojno mozhno vas chto "
            "kakoy kakaya"
        ).split()
    ),
}
_UZBEK_ENDING = re.compile(
    r"[a-z']{2,}(?:mi|lari|larni|larga|ning|ingiz|moqchiman|yapti|yapsiz|aman|asiz|amiz|asizlar|adi)"
)


def outweighs(text: str, detected: Detection, known: str | None) -> bool:
    """Whether a message says enough to leave the language ``known`` for the one ``detected`` in it.

    ``known``: what was spoken before or what the application says, None where nothing is known. Cyrillic in a Latin talk
    decides of itself; Latin in a Cyrillic one does not, for names are written so everywhere.
    """
    language = detected.language
    if language is None or detected.confidence < _CLEAR:
        return False
    if language == known:
        return True
    words = [word for word in words_of(text) if not _PLACE.fullmatch(word)]
    cyrillic = script_of(" ".join(words)) == "cyrillic"
    if cyrillic and known in (None, UZBEK, ENGLISH):
        return True
    own = _SPOKEN[UZBEK if language == UZBEK_CYRILLIC else language]
    if language in (UZBEK, UZBEK_CYRILLIC):
        latin = [to_latin(word).replace("‘", "'").replace("’", "'") for word in words] if cyrillic else words
        spoken = any(
            w in own or w in _UZBEK_LATIN_WORDS or _UZBEK_LATIN.search(w) or _UZBEK_ENDING.fullmatch(w) for w in latin
        )
        return spoken or len(words) >= _SENTENCE
    spoken = not own.isdisjoint(words)
    if known is None:
        return spoken
    return len(words) >= _SENTENCE and (spoken or language == RUSSIAN)
