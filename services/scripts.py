"""Uzbek in its two scripts: Latin to Cyrillic and back.

The rules are those of the official alphabets (Latin of 1995, its letters ö ğ ş ç of 2026, Cyrillic of 1940). Latin
spelling loses ``ц``, ``ь`` and a few vowels of loanwords; the commonest of these are restored from a table of stems.
Both functions leave everything that is not a word of the other script as it is, and keep upper and lower case.
"""

from __future__ import annotations

import re

#: Every sign that people type for the apostrophe of ``oʻ``, ``gʻ`` and the tutuq belgisi.
APOSTROPHES = "'`´‘’‛ʻʼʹʽˈ′＇"

_CYRILLIC_SINGLE = {
    "a": "а",
    "b": "б",
    "d": "д",
    "f": "ф",
    "g": "г",
    "h": "ҳ",
    "i": "и",
    "j": "ж",
    "k": "к",
    "l": "л",
    "m": "м",
    "n": "н",
    "o": "о",
    "p": "п",
    "q": "қ",
    "r": "р",
    "s": "с",
    "t": "т",
    "u": "у",
    "v": "в",
    "x": "х",
    "y": "й",
    "z": "з",
    "ö": "ў",
    "õ": "ў",
    "ó": "ў",
    "ğ": "ғ",
    "ǵ": "ғ",
    "ş": "ш",
    "ç": "ч",
    "ı": "и",
}
_CYRILLIC_DOUBLE = {"sh": "ш", "ch": "ч", "ya": "я", "yo": "ё", "yu": "ю", "ye": "е"}
_LATIN_VOWELS = frozenset("aeiouöõóıў")

# Loanwords whose Cyrillic letters the Latin spelling does not show. Keys are the beginnings of words, in the folded
# Latin form (apostrophe of oʻ and gʻ already joined); what follows them is converted by rule.
_LOAN_STEMS = {
    "aksent": "акцент",
    "albom": "альбом",
    "aprel": "апрель",
    "atele": "ателье",
    "batalyon": "батальон",
    "bilyard": "бильярд",
    "budilnik": "будильник",
    "dekabr": "декабрь",
    "detal": "деталь",
    "dizel": "дизель",
    "fevral": "февраль",
    "festival": "фестиваль",
    "film": "фильм",
    "filtr": "фильтр",
    "gospital": "госпиталь",
    "gorizontal": "горизонталь",
    "intervyu": "интервью",
    "iyul": "июль",
    "iyun": "июнь",
    "kalendar": "календарь",
    "kompyuter": "компьютер",
    "konsept": "концепт",
    "konsert": "концерт",
    "konsentr": "концентр",
    "konsern": "концерн",
    "kultur": "культур",
    "litsey": "лицей",
    "litsenziya": "лицензия",
    "mayonez": "майонез",
    "mayor": "майор",
    "mebel": "мебель",
    "medal": "медаль",
    "model": "модель",
    "multfilm": "мультфильм",
    "noutbuk": "ноутбук",
    "nyu": "нью",
    "noyabr": "ноябрь",
    "obyekt": "объект",
    "offitsiant": "официант",
    "ofitsiant": "официант",
    "ofitser": "офицер",
    "oktabr": "октябрь",
    "panel": "панель",
    "parol": "пароль",
    "prinsip": "принцип",
    "profil": "профиль",
    "protsess": "процесс",
    "pult": "пульт",
    "rayon": "район",
    "rejissor": "режиссёр",
    "retsept": "рецепт",
    "result": "результ",
    "rol": "роль",
    "rubl": "рубль",
    "sekund": "секунд",
    "sellofan": "целлофан",
    "sement": "цемент",
    "sentner": "центнер",
    "sentr": "центр",
    "sentabr": "сентябрь",
    "sertifikat": "сертификат",
    "sex": "цех",
    "sikl": "цикл",
    "silindr": "цилиндр",
    "sirk": "цирк",
    "sirkul": "циркуль",
    "sistern": "цистерн",
    "sitata": "цитата",
    "sitrus": "цитрус",
    "spektakl": "спектакль",
    "subyekt": "субъект",
    "shampun": "шампунь",
    "tonnel": "тоннель",
    "shveytsar": "швейцар",
    "vaksina": "вакцина",
    "vals": "вальс",
    "vertikal": "вертикаль",
    "vitse": "вице",
    "yanvar": "январь",
    "york": "йорк",
    "yogurt": "йогурт",
    "yod": "йод",
}
# These stems only before an ending of a noun or at the end of the word: they begin other words too.
_LOAN_WHOLE = frozenset(
    {"film", "model", "nyu", "panel", "parol", "profil", "rol", "rubl", "sex", "sirk", "vals", "yod"}
)
_NOT_LOAN = ("yodga", "yodda", "yoddan", "yodi", "yodla", "yodgor", "rolik", "sexr")
_LOAN = re.compile("(" + "|".join(sorted(_LOAN_STEMS, key=len, reverse=True)) + ")(.*)", re.S)
_NOUN_ENDING = re.compile(
    r"(?:lar)?(?:i|im|ing|imiz|ingiz|si)?(?:ni|ning|ga|da|dan|dagi|day|dek|gacha|cha|li|chi|siz)*(?:mi|ham)?"
)
_TSIYA = re.compile(r"^ts|(?<=[aeiou])ts(?=iya|ion|ent|iyo)|(?<=[kp])s(?=iya|ion|iyo)|(?<=n)s(?=iya|ion|iyo)")
_PENSIYA = re.compile(r"^(?:pensi|pansi|dimensi|ekspansi|refleksi)")
_RSIYA = {"porsiya": "порция", "kommersiya": "коммерция", "proporsi": "пропорци", "inersi": "инерци"}

# Names that stay Latin in Cyrillic text.
_NAMES = (
    *("telegram", "whatsapp", "instagram", "facebook", "messenger", "youtube", "linkedin", "tiktok", "google"),
    *("gemini", "openai", "anthropic", "claude", "chatgpt", "gpt", "android", "windows", "iphone", "ios"),
    *("payme", "click", "uzcard", "humo", "visa", "mastercard", "botfactory", "botfather"),
    *("pdf", "docx", "doc", "csv", "gif", "txt", "xlsx", "xls", "json", "xml", "html", "api", "url", "http", "https"),
    *("ubuntu", "debian", "linux", "python", "nginx", "redis", "prometheus", "tls", "smtp", "gmail", "english"),
    *("meta", "sqlite", "fernet", "svg", "png", "jpeg", "webp", "zip"),
    *("qr", "sms", "id", "ip", "ai", "crm", "smm", "seo", "usd", "uzs", "eur", "rub", "email", "wifi", "usb"),
)
_KEEP = frozenset(_NAMES)
# Endings are joined in more than one way (ga+cha, gacha): of any number of them there would be too many ways to be tried.
_KEEP_WITH_ENDING = re.compile(
    r"("
    + "|".join(sorted((n for n in _NAMES if len(n) > 2), key=len, reverse=True))
    + r")['’‘]?((?:lar)?(?:i|ing|imiz|ingiz|si)?(?:ni|ning|ga|da|dan|dagi|gacha|cha|li|mi|ham){1,5}|lar|lari|i|ingiz|imiz)",
    re.IGNORECASE,
)

_A = re.escape(APOSTROPHES)
_ENDED = re.compile(
    rf"([A-Za-z]+)[{_A}]((?:lar|imiz|ingiz|im|ing|si|i|ning|ni|gacha|ga|dagi|dan|da|cha|li|siz|dek|mi|ham){{1,5}})"
)
_LATIN_LETTER = "A-Za-zÖöÕõÓóĞğǴǵŞşÇçıİ"
_LATIN_TOKEN = re.compile(
    r"(?P<keep>"
    r"`[^`\n]+`|<[/!a-zA-Z][^<>]*>|&[a-zA-Z]+;|&#\d+;"  # code, tags, entities
    r"|\{[^{}\s]*\}|%\([A-Za-z_]+\)[a-z]|%[sd]"  # places of messages
    r"|\b(?:https?|tg|mailto)://\S+|\bwww\.\S+"  # addresses
    r"|[\w.+-]+@[\w-]+\.[\w.-]+|(?<!\w)@\w+"
    r"|(?<![\w/])/[a-z_]{2,}\b"  # commands
    r"|\b(?:[\w-]+\.){1,4}(?:com|uz|ru|org|net|me|io|pdf|docx?|xlsx?|csv|txt|png|jpe?g|html?|json|toml|md)\b(?:/\S*)?"
    r"|\b[A-Za-z]+\d[A-Za-z0-9]*|\b\d+(?:GB|TB|MB|Hz|mAh|USD|UZS|MP|KB)\b"  # articles and units
    r"|\b[Ww]i-[Ff]i\b|\b[Ee]-mail\b"
    r")"
    rf"|(?P<word>[{_LATIN_LETTER}]+(?:[{_A}]+[{_LATIN_LETTER}]+)*(?P<tail>(?<=[OoGg])[{_A}])?)"
)
_CAPITAL_DIGRAPH = re.compile(r"(?<=[A-Z]{2})([SC])h")
_JOIN = re.compile(rf"([og])[{_A}]+")
_APOSTROPHE_RUN = re.compile(rf"[{_A}]+")


def to_cyrillic(text: str) -> str:
    """Turn Uzbek Latin words into Uzbek Cyrillic.

    Cyrillic text, numbers, message places (``{name}``), tags, addresses, commands, file names and foreign names
    (with ``w``, a single ``c`` or a capital inside) stay as they are. Converting twice changes nothing.
    """

    def replace(match: re.Match[str]) -> str:
        word = match["word"]
        if word is None:
            return match[0]
        tail = ""
        if match["tail"]:
            before = text[match.start() - 1] if match.start() else ""
            if before == word[-1] or (before + word[-1]) in ("‘’", "`´"):
                word, tail = word[:-1], word[-1]  # a quoted word, not bog‘
        return _word_to_cyrillic(word) + tail

    return _LATIN_TOKEN.sub(replace, text)


def _word_to_cyrillic(word: str) -> str:
    if word.lower() in _KEEP:
        return word
    if named := _KEEP_WITH_ENDING.fullmatch(word):
        return named[1] + _lower_to_cyrillic(named[2].lower())
    if len(word) > 2:
        word = _CAPITAL_DIGRAPH.sub(r"\1H", word)  # AQSh
    ended = _ENDED.fullmatch(word)
    if ended and (ended[1].lower() in _KEEP or _stays(ended[1])):
        # The apostrophe is where Latin letters of another language end: Word’da, ID’si.
        return ended[1] + _lower_to_cyrillic(ended[2])
    upper_part = re.fullmatch(rf"([A-ZÖĞŞÇ]{{2,}})([a-zöğşç{_A}]{{2,}})", word)
    if upper_part:
        # An abbreviation with its ending: DTMga.
        return _lower_to_cyrillic(upper_part[1].lower()).upper() + _lower_to_cyrillic(upper_part[2])
    if _stays(word):
        return word
    cyrillic = _lower_to_cyrillic(word.replace("İ", "i").lower())
    letters = [c for c in word if c not in APOSTROPHES]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return cyrillic.upper()
    return cyrillic[:1].upper() + cyrillic[1:] if letters[0].isupper() else cyrillic


def _stays(word: str) -> bool:
    """Tell whether a word is no Uzbek one: it has a capital inside, or a letter that Uzbek lacks."""
    lower = word.lower()
    return re.search(r"[a-zöğşç][A-ZÖĞŞÇ]", word) is not None or "w" in lower or re.search(r"c(?!h)", lower) is not None


def _lower_to_cyrillic(word: str) -> str:
    word = _JOIN.sub(lambda m: "ö" if m[1] == "o" else "ğ", word)
    word = _APOSTROPHE_RUN.sub("'", word)
    head = ""
    loan = _LOAN.fullmatch(word)
    if loan and _is_loan(loan[1], loan[2], word):
        head, word = _LOAN_STEMS[loan[1]], loan[2]
        if word:
            head = head.removesuffix("ь")  # январь, but январдан
    else:
        for latin, cyrillic in _RSIYA.items():
            if word.startswith(latin):
                head, word = cyrillic, word[len(latin) :]
    if not _PENSIYA.match(word):
        word = _TSIYA.sub("ц", word)
    out: list[str] = [head]
    i, last = 0, len(word)
    previous = head[-1:]
    while i < last:
        char = word[i]
        pair = word[i : i + 2]
        if pair in _CYRILLIC_DOUBLE:
            if pair == "ye" and previous and previous not in _LATIN_VOWELS and previous.isalpha():
                out.append("ь")  # карьера
            out.append(_CYRILLIC_DOUBLE[pair])
            i += 2
            previous = pair[1]
            continue
        if char == "e":
            out.append("э" if previous == "" or previous in _LATIN_VOWELS else "е")
        elif char == "'":
            # s'h only keeps the two letters apart; elsewhere it is the tutuq belgisi.
            if not (previous == "s" and word[i + 1 : i + 2] == "h"):
                out.append("ъ")
        else:
            out.append(_CYRILLIC_SINGLE.get(char, char))
        previous = char
        i += 1
    return "".join(out)


def _is_loan(stem: str, rest: str, word: str) -> bool:
    if word.startswith(_NOT_LOAN):
        return False
    return stem not in _LOAN_WHOLE or _NOUN_ENDING.fullmatch(rest) is not None


_LATIN = {
    "а": "a",
    "б": "b",
    "в": "v",
    "г": "g",
    "д": "d",
    "ж": "j",
    "з": "z",
    "и": "i",
    "й": "y",
    "к": "k",
    "л": "l",
    "м": "m",
    "н": "n",
    "о": "o",
    "п": "p",
    "р": "r",
    "с": "s",
    "т": "t",
    "у": "u",
    "ф": "f",
    "х": "x",
    "ч": "ch",
    "ш": "sh",
    "щ": "sh",
    "ъ": "’",
    "ы": "i",
    "ь": "",
    "э": "e",
    "ё": "yo",
    "ю": "yu",
    "я": "ya",
    "ў": "o‘",
    "қ": "q",
    "ғ": "g‘",
    "ҳ": "h",
}
_CYRILLIC_VOWELS = frozenset("аеёиоуўэюяы")
_CYRILLIC_WORD = re.compile("[А-Яа-яЁёЎўҚқҒғҲҳ]+")
_LATIN_STEMS = (("сентябр", "sentabr"), ("октябр", "oktabr"))


def to_latin(text: str) -> str:
    """Turn Uzbek Cyrillic words into Uzbek Latin with ``o‘ g‘`` (U+2018) and ``’`` (U+2019) for ``ъ``.

    Letters that are not Cyrillic stay as they are. Converting twice changes nothing.
    """
    return _CYRILLIC_WORD.sub(lambda m: _word_to_latin(m[0]), text)


def _word_to_latin(word: str) -> str:
    lower = word.lower()
    for cyrillic, latin in _LATIN_STEMS:
        if lower.startswith(cyrillic):
            rest = _word_to_latin(word[len(cyrillic) :]) if len(word) > len(cyrillic) else ""
            if word.isupper():
                return latin.upper() + rest.upper()
            return (latin.capitalize() if word[0].isupper() else latin) + rest
    shout = len(word) > 1 and word.isupper()
    out: list[str] = []
    for i, char in enumerate(lower):
        previous = lower[i - 1] if i else ""
        following = lower[i + 1] if i + 1 < len(lower) else ""
        if char == "е":
            latin = "ye" if previous == "" or previous in _CYRILLIC_VOWELS or previous in "ъь" else "e"
        elif char == "ц":
            latin = "ts" if previous in _CYRILLIC_VOWELS or previous == "й" else "s"
        elif char == "ъ" and following in ("е", "ё", "ю", "я"):
            latin = ""
        elif char == "ь" and following == "о":
            latin = "y"
        elif char == "с" and following == "ҳ":
            latin = "s’"
        else:
            latin = _LATIN.get(char, char)
        if word[i] != char:
            latin = latin.upper() if shout or (word[max(i - 1, 0)].isupper() and i) else latin[:1].upper() + latin[1:]
        out.append(latin)
    return "".join(out)
