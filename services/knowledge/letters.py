"""Bytes to text and text to lines, for every reader: encodings, rubbish, cleaning, paragraphs and headings.

Nothing here fails on odd input but with a :class:`ReadError`; everything is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.knowledge.base import Block, Kind, ReadError

# --- Encodings ------------------------------------------------------------------------------------------------------

EIGHT_BIT = {"cp1251": 0.0, "koi8-r": 0.0, "cp866": -1.0, "iso8859-5": -1.0, "mac-cyrillic": -3.0, "cp1252": 0.0}
"""Encodings to choose from and what is added to their score: the rare ones need a little more proof."""
_SAMPLE = 40_000
_ALPHABET = " абвгдежзийклмнопрстуфхцчшщъыьэюяў"
# How much likelier than by chance a letter follows another in Russian and in Uzbek Cyrillic: 4 + log2, one digit a
# pair, the space stands for everything that is no letter. Counted in 800 Russian questions (github.com/Koziev/
# NLP_Datasets, CC0) and in our own sample documents.
_PAIRS = (
    "045545435406355564554230420000312170443453403564503545022143100002204511006006014327052060100011610044"
    "671013603604313614533000300061001067200640060250370500500020000000004703007006033156132250000001340021"
    "703344324033565025562121252000001046001581060310630001300000000000006825362205012465001120000000410120"
    "723334404225645114460132350000003080002530050043420045002023000000046701024006023007032560000000000003"
    "670033520701222600304000100035034077200260050222462120500020004000316720436016021036022540003000530040"
    "714545353343545035550210430000002015000050050050181700500020002100205703326227033436004550100000320130"
    "540202500505533542375000000036026366030160050312270441400010005600126233464540125550455500305310000400"
    "371111411711131813153311111111111176020320050052480423000000000000006513118117131111111131111111511111"
    "360001700704014200075000020001000065003360060550240313300000000700002722228227222222222252222222222222"
    "333333733333533333333333333333336380351251205153204335004004000000109010202020050240006200010200000300"
    "311511111135533114381111131111111171713511111314313647111153111111118023134121025320003600142000000200"
    "1111111131668651441511314411111111"
)
_INDEX = {letter: place for place, letter in enumerate(_ALPHABET)} | {
    "ё": _ALPHABET.index("е"),
    "қ": _ALPHABET.index("к"),
    "ғ": _ALPHABET.index("г"),
    "ҳ": _ALPHABET.index("х"),
}
# No word goes on after these; in mac-cyrillic they stand where cp1251 has the capitals И Й Р С У Х and the letter я.
_NO_BEGINNING = frozenset("–—”’»…€§©®°±·™•")
_NO_ENDING = frozenset("€§©®°±·™•")
_GOOD_SIGNS = frozenset("«»„“”‘’–—…№\u00a0•·°§©®™±€\u00ad‹›")
# First bytes of files that people rename; text never begins with them.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office"),
    (b"{\\rtf", "rtf"),
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"RIFF", "riff"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x7fELF", "program"),
    (b"MZ\x90", "program"),
    (b"SQLite format 3", "sqlite"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"%!PS", "postscript"),
)


def magic(data: bytes) -> str | None:
    """Return the kind of a file that is certainly not plain text by its first bytes, else None."""
    for start, kind in _MAGIC:
        if data.startswith(start):
            return kind
    # A PDF may have rubbish before its first line; so long as that is short, readers take it for one.
    if b"%PDF-" in data[:1024] and b"%%EOF" in data[-2048:]:
        return "pdf"
    if data[4:8] == b"ftyp":
        return "video"
    return None


def decode(data: bytes) -> str:
    """Return the text of a TXT or CSV file in any encoding that is usual here, with ``\\n`` line ends.

    Order: byte order mark, strict UTF-8, UTF-16 by its NULs, the best 8-bit encoding by its letters.
    Errors: ``empty``, ``not_this_type`` (binary), ``unreadable_letters`` (no encoding gives words).
    """
    if not data.strip(b"\0 \t\r\n"):
        raise ReadError("empty")
    if other := magic(data):
        raise ReadError("not_this_type", other)
    return _decode(data).replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")


def _decode(data: bytes) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
    ):
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            if text.count("\ufffd") * 20 > len(text):
                raise ReadError("unreadable_letters", encoding)
            return text
    if b"\0" in data:
        if wide := _utf16(data):
            return data.decode(wide, "replace")
        if data.count(b"\0") * 20 > len(data):
            raise ReadError("not_this_type", "binary")
        data = data.replace(b"\0", b"")
    controls = len(data) - len(
        data.translate(None, b"\1\2\3\4\5\6\7\x08\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1c\x1d\x1e\x1f\x7f")
    )
    if controls * 20 > len(data):
        raise ReadError("not_this_type", "binary")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    # One bad byte in a file that is UTF-8 otherwise (cut in the middle of a letter) must not turn all of it into
    # another alphabet: no 8-bit text forms that many right sequences by chance.
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if bad * 20 < sum(character > "\x7f" for character in text) - bad:
        return text.replace("\ufffd", "")
    return data.decode(_eight_bit(data), "replace").replace("\ufffd", "")


def _utf16(data: bytes) -> str | None:
    even, odd = data[0::2], data[1::2]
    zeros = (even.count(0), odd.count(0))
    encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if max(zeros) * 33 < len(even) or min(zeros) * 10 > max(zeros):
        return None
    sample = data[: _SAMPLE * 2].decode(encoding, "replace")
    known = sum(
        character in "\t\n\r" or " " <= character <= "\u04ff" or "\u2010" <= character <= "\u2122"
        for character in sample
    )
    return encoding if known * 10 > len(sample) * 9 else None


def _eight_bit(data: bytes) -> str:
    # The lines with something to decide, from the whole file: a price list may have Latin names for pages.
    lines = [line for line in data.splitlines() if not line.isascii()]
    size, sample = 0, []
    for line in lines[:: max(1, len(lines) // 2000)]:
        sample.append(line[:2000])
        size += len(sample[-1])
        if size > _SAMPLE:
            break
    joined = b"\n".join(sample)
    scores = {encoding: prior + _score(joined.decode(encoding, "replace")) for encoding, prior in EIGHT_BIT.items()}
    best = max(scores, key=lambda encoding: scores[encoding])
    if scores[best] < -0.6 * sum(byte > 0x7F for byte in joined):
        raise ReadError("unreadable_letters", "8-bit")
    return best


def _score(text: str) -> float:
    """How much a decoding looks like words: pairs of Cyrillic letters, sane capitals, no mixing, few odd signs."""
    total = 0.0
    for before, letter in pairwise(" " + text + " "):
        lower, lower_before = letter.lower(), before.lower()
        place, place_before = _INDEX.get(lower), _INDEX.get(lower_before)
        cyrillic, cyrillic_before = bool(place), bool(place_before)
        if cyrillic or (cyrillic_before and not letter.isalpha()):
            if cyrillic and before.isascii() and before.isalpha():
                total -= 4
                continue
            if (before in _NO_BEGINNING) if cyrillic else (letter in _NO_ENDING):
                total -= 3
                continue
            total += int(_PAIRS[(place_before or 0) * len(_ALPHABET) + (place or 0)]) - 4
            if cyrillic_before and letter != lower and before == lower_before:
                total -= 5
            if cyrillic:
                continue
        if letter <= "\x7f":
            if cyrillic_before and letter.isalpha():
                total -= 4
            elif letter.isalpha() and before > "\x7f" and before.isalpha():
                total += 1 if letter.islower() or before.isupper() else -2
        elif letter == "\ufffd" or "\x80" <= letter <= "\x9f":
            total -= 6
        elif letter in _GOOD_SIGNS:
            total += 0.2
        elif letter.isalpha():
            if cyrillic_before:
                total -= 3
            elif before.isascii() and before.isalpha():
                total += 1 if letter.islower() or before.isupper() else -3
            else:
                total -= 1.5 if not before.isalpha() else 3
        else:
            total -= 3
    return total


# --- Rubbish --------------------------------------------------------------------------------------------------------

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\uffff"
    "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
_RUBBISH = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]")
_SPACES = re.compile("[^\\S\n]+")
_LATIN1_LETTER = re.compile("[À-ÖØ-öø-ÿ]")
_LATIN1_PAIR = re.compile("[À-ÖØ-öø-ÿ]{2,}")
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}


def is_rubbish(text: str) -> bool:
    """Tell whether over 5 % are control or private-use characters: a PDF that does not say what its signs mean."""
    visible = len(text) - text.count(" ") - text.count("\n")
    return len(_RUBBISH.findall(text)) * 20 > visible


def is_mojibake(text: str) -> bool:
    """Tell whether over 80 % of the non-ASCII letters lie in À–ÿ and stand together: Cyrillic read as Western.

    French and German have the same letters, but one by one among ASCII letters.
    """
    western = len(_LATIN1_LETTER.findall(text))
    if western < 4:
        return False
    together = sum(len(run) for run in _LATIN1_PAIR.findall(text))
    others = sum(character > "ÿ" and character.isalpha() for character in text)
    return western > 4 * others and together * 10 > western * 7


def from_mojibake(text: str) -> str:
    """Read text that was taken for Western as cp1251 again; what has no such byte stays."""
    return "".join(_as_cp1251(character) if character > "\x7f" else character for character in text)


def _as_cp1251(character: str) -> str:
    try:
        return character.encode("latin-1" if "\x80" <= character <= "\xff" else "cp1252").decode("cp1251")
    except UnicodeError:
        return character


def clean(text: str) -> str:
    """Return ``text`` with plain spaces, without invisible characters and without empty lines at its ends."""
    text = text.replace("\x0c", "\n").replace("\x85", "\n").translate(_LIGATURES)
    text = _INVISIBLE.sub("", text)
    return "\n".join(line for raw in text.split("\n") if (line := _SPACES.sub(" ", raw).strip()))


# --- Lines to paragraphs --------------------------------------------------------------------------------------------

_BULLET = re.compile(r"(?:[•●○▪■◦‣–—*+\-✓✔→]|\(?\d{1,3}[.)]|[a-zа-яA-ZА-Я]\))\s+\S")
_END = (".", "!", "?", "…", ";", ":", ".”", ".»", ".)", "!»", "?»", '."')
_MARKDOWN = re.compile(r"(#{1,6})\s+(\S.*)")
# A name, perhaps numbered, then nothing but figures with their units.
_PRICE_ROW = re.compile(
    r"(?:\d{1,3} )?[^\W\d_][^.,;:!?…—]{0,60}?(?: ?(?:[.…]{2,}|—))?"
    r"(?: \d+(?:[.,/–-]\d+)*(?: ?(?:[%$€]|[^\W\d_][^\s.,;:!?]{0,11}))?)+"
)
_RULE = re.compile(r"[\W_]+")
_HEADING_MAX = 90


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text and where it stands."""

    text: str
    locus: str
    share: float


def is_heading(line: str, following: str | None, page_width: int | None = None) -> bool:
    """Tell whether a line alone, or before ``following``, reads like a heading: short, no full stop, few figures.

    ``page_width``: of lines that are broken at a margin; a heading ends well before it.
    """
    if page_width and len(line) > 0.85 * page_width:
        return False
    if not line or len(line) > _HEADING_MAX or line.endswith((".", ",", ";", "!", "?", "…")) or _BULLET.match(line):
        return False
    if not line[0].isalnum() and line[0] not in "«\"“'‘(":
        return False
    if not any(character.isalpha() for character in line) or sum(character.isdigit() for character in line) > 4:
        return False
    if line[0].islower() or ":" in line[:-1] or "|" in line or ". . ." in line or "...." in line:
        return False
    return (
        following is None
        or len(following) > (_HEADING_MAX if page_width is None else 0.75 * page_width)
        or (following.endswith(_END) and len(following) > 20)
        or bool(_BULLET.match(following))
        or sum(character.isdigit() for character in following) > 2
    )


def structure(lines: Iterable[Line], *, wrapped: bool) -> Iterator[Block]:
    """Find paragraphs and headings in lines; an empty line ends a paragraph.

    ``wrapped``: the lines come from a page, where a paragraph is broken at the margin and no empty line need stand
    between two. Otherwise the lines of a group are kept, unless they are broken at a margin too.
    """
    path: list[tuple[int, str]] = []
    first, last = True, 0
    for group in _groups(lines):
        for block in _paragraphs(group, wrapped=wrapped):
            text, level = block.text, 0
            if block.kind == "heading":
                # Right below another heading: part of its section.
                level = 1 if first else min(last + 1, 3) if last else 2
            elif match := _MARKDOWN.fullmatch(text):
                level, text = len(match[1]), match[2].rstrip("# ")
            first, last = False, level
            if level:
                path = [(above, title) for above, title in path if above < level]
            heading = tuple(title for _, title in path)
            if level:
                path.append((level, text.rstrip(":")))
            yield Block(text, "heading" if level else "paragraph", heading, block.locus, block.share)


def _groups(lines: Iterable[Line]) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in lines:
        text = _SPACES.sub(" ", line.text).strip()
        if text and not (_RULE.fullmatch(text) and len(text) > 2):
            if _MARKDOWN.fullmatch(text):
                if group:
                    yield group
                yield [Line(text, line.locus, line.share)]
                group = []
                continue
            group.append(Line(text, line.locus, line.share))
        elif group:
            yield group
            group = []
        if len(group) >= 5000:
            yield group
            group = []
    if group:
        yield group


def _paragraphs(group: Sequence[Line], *, wrapped: bool) -> Iterator[Block]:
    width = max(len(line.text) for line in group)
    broken = wrapped or (width <= 110 and len(group) >= 3 and _looks_broken(group, width))
    whole_lines = not wrapped and width > 160
    page_width = width if wrapped else None
    start, parts = group[0], [group[0].text]
    if len(group) == 1:
        kind: Kind = "heading" if is_heading(start.text, None) else "paragraph"
        yield Block(start.text, kind, (), start.locus, start.share)
        return
    for place in range(1, len(group) + 1):
        line, last = group[place - 1].text, parts[-1]
        if place < len(group):
            following = group[place].text
            after = group[place + 1].text if place + 1 < len(group) else ""
            heads = is_heading(following, after, page_width)
            # On a page a title may stand right above the first heading.
            if parts == [line] and (
                is_heading(line, following, page_width) or (wrapped and heads and is_heading(line, None, page_width))
            ):
                yield Block(line, "heading", (), start.locus, start.share)
                start, parts = group[place], [following]
                continue
            if broken and _continues(line, following, width):
                parts[-1] = _join(last, following)
                continue
            ended = wrapped and (line.endswith(_END) or heads)
            if not (whole_lines or ended) or _is_question(line):
                parts.append(following)
                continue
        yield Block("\n".join(parts), "paragraph", (), start.locus, start.share)
        if place < len(group):
            start, parts = group[place], [group[place].text]


def _is_question(line: str) -> bool:
    return line.endswith(("?", "?»", "?”")) and len(line) <= 300


def _looks_broken(group: Sequence[Line], width: int) -> bool:
    """Tell whether the lines are full up to a margin and go on in the next line with a small letter."""
    full = sum(len(line.text) > 0.75 * width for line in group[:-1])
    going_on = sum(line.text[0].islower() and not before.text.endswith(_END) for before, line in pairwise(group))
    return full * 10 >= (len(group) - 1) * 7 and going_on > 0


def _continues(line: str, following: str, width: int) -> bool:
    if _BULLET.match(following) or (_PRICE_ROW.fullmatch(line) and _PRICE_ROW.fullmatch(following)):
        return False
    if following[0].islower() and not line.endswith(_END):
        return True
    if len(line) + len(following.split(" ", 1)[0]) < 0.8 * width:
        return False
    if (
        line[0].isupper()
        and following[0].isupper()
        and any(map(str.isdigit, line))
        and any(map(str.isdigit, following))
    ):
        # Rows of a price list rather than one sentence.
        return False
    return not (line.endswith(_END) and len(line) < 0.92 * width and not following[0].islower())


def _join(line: str, following: str) -> str:
    if line.endswith("-") and len(line) > 2 and line[-2].isalpha() and following[0].islower():
        return line[:-1] + following
    return f"{line} {following}"
