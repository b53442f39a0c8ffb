"""From what a model wrote to plain text: no Markdown, no HTML, no invisible characters, bounded.

Works line by line, so that a streamed answer and the stored one come out alike. Links become ``text: address``; bullets
``•``; a table row becomes ``cell — cell``. Uzbek writes ``o`g`il`` with the sign that Markdown uses for code, and names
like ``@my_shop_bot`` have underscores: signs inside words are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_CHARS = 3500
MAX_LINE = 8000

_TAGS = (
    "a|b|i|u|s|p|br|hr|em|strong|code|pre|ul|ol|li|h[1-6]|span|div|table|thead|tbody|tr|td|th|blockquote|font|img|"
    "details|summary|mark|small|big|sub|sup|del|ins|kbd|center|section|article|header|footer|figure|figcaption|dl|dt|dd"
)
# Repetitions are bounded: what a model (or who steers it) writes must not make a pattern run for seconds.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPECIAL = re.compile(r"[#*_`~|<>\[\]\\]|^[ \t]*[-+=]|&[a-z#]", re.MULTILINE)
# Of a line that has begun, only these can begin markup; a sign inside a word or beside a space begins none.
_OPENS = re.compile(r"\*\*|(?<!\w)\*(?!\s)|(?<!\w)_(?!\s)|(?<![\w`])`(?!\s)|~~|<(?=[a-zA-Z/])|[\[\\]|&[a-z#]")
# Strong words with no other sign inside: what follows cannot change what becomes of them.
_PLAIN_STRONG = re.compile(r"(?:(?<!\w)\*\*|\*\*(?!\d))(?![\s*])[^*_`~<\[\]\\&\n]{1,200}(?<!\s)\*\*(?![\w*])")
# What a line of a list, a table, a quotation, a heading or a fence begins with: its end decides.
_BLOCK = frozenset("#>*+_=~`|:-")
_ITEM = re.compile(r"(\s*)[-*+]\s+(?=(?:\*\*)?[^\W_])")
_INLINE = re.compile(r"[*_`~<\[\\]|&[a-z#]")
_BLANK_LINES = re.compile(r"\n{3,}")

_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$")
_RULE = re.compile(r"^\s*(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,}|={3,})$")
_HEADING = re.compile(r"^\s*#{1,6}\s+(.*?)\s*#*$")
_QUOTE = re.compile(r"^\s*(?:>\s?)+")
_BULLET = re.compile(r"^(\s*)[-*+]\s+(?:\[[ xX]\]\s+)?")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")

_SCRIPT = re.compile(r"<(script|style|iframe)\b[^>]{0,300}>.{0,2000}?</\1\s*>", re.IGNORECASE)
_SCRIPT_OPEN = re.compile(r"<(script|style|iframe)\b.*$", re.IGNORECASE)
_SCRIPT_CLOSE = re.compile(r"^.*?</(?:script|style|iframe)\s*>", re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]{{0,300}})?/?>", re.IGNORECASE)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:|tel:)[^<>\s]+)>")
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300})\]\([^()\s]{0,500}(?:\s\"[^\"]{0,200}\")?\)")
_LINK = re.compile(
    r"\[([^\[\]\n]{1,300})\]\(<?([^()\s<>]{1,500}(?:\([^()\s]{0,100}\)[^()\s<>]{0,100})?)>?(?:\s\"[^\"]{0,200}\")?\)"
)
# A reference is known by the number of its address: "[S][M][L]" are sizes.
_REFERENCE = re.compile(r"(?<![\w\]])\[([^\[\]\n]{1,300})\]\[\d{0,3}\]")
_REFERENCED = re.compile(r"^\s*\[\d{1,3}\]:\s+<?((?:https?://|mailto:|tel:)[^<>\s]+)>?(?:\s+[\"'(].*)?\s*$")
_CODE = re.compile(r"(?<![\w`])(`{1,2})(?=\S)([^`\n]{1,500})\1(?![\w`])")
_STRIKE = re.compile(r"~~(?=\S)([^~\n]{1,500})~~")
# Powers ("x**2"), numbers that are partly hidden ("8600 **** 1234") and lines to write on ("____") begin no strong words.
_STRONG = re.compile(r"((?<!\*)(?:(?<!\w)\*{2,4}|\*{2,4}(?!\d))(?![\s*])|(?<!\w)_{2,3}(?![\s_]))(.{1,500}?)(?<=\S)\1")
# What is left of strong words that end on another line, or nowhere: the sign before a word, or behind one.
_HALF_STRONG = re.compile(
    r"(?P<opens>(?<![\w*])\*{2,4}(?=[^\W\d_]|[^\w\s\x00-\x7f]|[\"'(])|(?:^|(?<=• ))\*{2,4}(?=\d))"
    r"|(?<=[^\s*])\*{2,4}(?![\w*])"
)
_STAR = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]{0,500}(?<!\s))\*(?![\w*])")
_UNDERSCORE = re.compile(r"(?<![\w/@.:=&?#%\\-])_(?=[^\s_])([^_\n]{0,500}(?<!\s))_(?!\w)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'", "&nbsp;": " "}
_ENTITY = re.compile("|".join(_ENTITIES))
_SAFE_LINK = ("http://", "https://", "mailto:", "tel:", "tg://")


def clean(text: str, *, limit: int = MAX_CHARS, markers: Sequence[str] = ()) -> str:
    """Return ``text`` as plain text of at most ``limit`` characters; empty if nothing is left.

    What stands on a line from one of ``markers`` (signs of our own prompt, without spaces) on is dropped.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    plain = not _SPECIAL.search(text) and not _INVISIBLE.search(text) and not any(m in text for m in markers)
    if plain and len(text) <= limit:
        if "\n" not in text:
            return text.strip()
        return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip()
    cleaner = Cleaner(limit=limit, markers=markers)
    return cleaner.feed(text) + cleaner.finish()


def is_empty(text: str) -> bool:
    """Whether a cleaned text says nothing: no letter, no digit, no emoji."""
    return not any(c.isalnum() or ord(c) > 0x2190 for c in text)


class Cleaner:
    """:func:`clean` for an answer that arrives in pieces: feed each, show what comes back, finish.

    However the answer is cut into pieces, what comes back makes the same text. Words are given out as they come; from a
    sign that may begin markup, or from what may become one of the markers, the line waits until that is certain.
    """

    def __init__(self, *, limit: int = MAX_CHARS, markers: Sequence[str] = ()) -> None:
        self._limit, self._markers = limit, tuple(markers)
        self._marker_signs = {marker[0] for marker in markers}
        self._unread = 4 * limit  # so much is read of what is written
        self._after_return = False
        self._line = ""  # what is held back of the present line
        self._taken = 0  # how much of it has been given out
        self._begun = False  # whether the beginning of the present line has been given out
        self._blank = 0
        self._any = False
        self._in_script = False
        self._in_strong = False
        self._given = 0
        self._held = ""  # clean, but it may lie behind the place where a long answer is cut
        self._closed = False

    def feed(self, piece: str) -> str:
        """Return the plain text that is certain by now."""
        if self._closed or not piece:
            return ""
        out: list[str] = []
        *whole, last = self._readable(piece).split("\n")
        for line in whole:
            self._more(line, out)
            out.append(self._end_line())
        self._more(last, out)
        out.append(self._early())
        return self._bounded("".join(out))

    def finish(self) -> str:
        """Return the rest."""
        if self._closed:
            return ""
        shown = self._bounded(self._end_line())
        rest, self._held, self._closed = self._held, "", True
        return shown + rest

    def _readable(self, piece: str) -> str:
        """The piece with one kind of line break and without invisible signs, as far as anything is read."""
        if self._after_return and piece.startswith("\n"):
            piece = piece[1:]
        self._after_return = piece.endswith("\r") if piece else False
        if "\r" in piece:
            piece = piece.replace("\r\n", "\n").replace("\r", "\n")
        piece = _INVISIBLE.sub("", piece)[: self._unread]
        self._unread -= len(piece)
        return piece

    def _more(self, piece: str, out: list[str]) -> None:
        self._line += piece
        # Nobody writes such a line; searching it again and again would cost.
        while len(self._line) > (room := MAX_LINE - self._taken):
            rest, self._line = self._line[room:], self._line[:room]
            out.append(self._end_line())
            self._line, self._begun = rest, True

    def _marker(self, text: str, *, begun: bool = False) -> int:
        """Where the first marker stands in ``text``, -1 where there is none; ``begun``: or what may become one at its end."""
        if not any(sign in text for sign in self._marker_signs):
            return -1
        places = [place for marker in self._markers if (place := text.find(marker)) >= 0]
        if begun and not places:
            for marker in self._markers:
                places += [len(text) - n for n in range(1, len(marker)) if text.endswith(marker[:n])]
        return min(places, default=-1)

    def _early(self) -> str:
        """The part of an unfinished line that nothing later can change: whole words, as far as all markup is complete."""
        if self._in_script or not self._line:
            return ""
        if self._begun:
            ready = self._take(self._line, self._certain(self._line))
            return self._inline(ready)
        line, least = self._line, 1
        if item := _ITEM.match(line):
            line, least = f"{item[1]}• {line[item.end() :]}", len(item[1]) + 2
        elif line[0] in _BLOCK or line[0].isspace():
            return ""
        end = self._certain(line)
        if end < least:
            return ""
        self._begun = True
        text = self._inline(self._take(line, end))
        if not self._any:
            text = text.lstrip()
        return self._start() + text

    def _take(self, line: str, end: int) -> str:
        self._taken += len(self._line) - len(line) + end
        self._line = line[end:]
        return line[:end]

    def _certain(self, line: str) -> int:
        """How much of a line is certain; what follows begins with a space."""
        marker = self._marker(line, begun=True)
        if marker >= 0:
            line = line[:marker]
        end = at = 0
        while True:
            sign = _OPENS.search(line, at)
            end = max(end, line.rfind(" ", at, sign.start() if sign else len(line)))
            strong = _PLAIN_STRONG.match(line, sign.start()) if sign else None
            if strong is None:
                return len(line[:end].rstrip())
            at = strong.end()

    def _end_line(self) -> str:
        line, self._line, self._taken = self._line, "", 0
        begun, self._begun = self._begun, False
        marker = self._marker(line)
        if marker >= 0:
            line = line[:marker]
            if not begun and all(c in _BLOCK or c.isspace() for c in line):
                return ""
        if begun:
            return self._inline(line).rstrip()
        text = self._whole(line)
        if text is None:
            return ""
        if not self._any:
            text = text.lstrip()
        if not text:
            self._blank += 1
            self._in_strong = False
            return ""
        return self._start() + text

    def _start(self) -> str:
        """The line breaks in front of a new line: one blank line at most."""
        first, self._any = not self._any, True
        blank, self._blank = self._blank, 0
        return "" if first else "\n\n" if blank else "\n"

    def _whole(self, line: str) -> str | None:
        """A complete line as plain text; None if it is dropped."""
        if self._in_script:
            closed = _SCRIPT_CLOSE.sub("", line)
            if closed == line:
                return None
            self._in_script, line = False, closed
        if not _SPECIAL.search(line):
            return line.rstrip()
        if _FENCE.match(line) or _RULE.match(line) or (_TABLE_RULE.match(line) and "-" in line):
            return None
        line = _QUOTE.sub("", line)
        if address := _REFERENCED.match(line):
            return address[1].removeprefix("mailto:").removeprefix("tel:")
        if heading := _HEADING.match(line):
            line = heading[1]
        line = _BULLET.sub(r"\1• ", line)
        stripped = line.strip()
        if stripped.startswith("|") and stripped.endswith("|") and len(stripped) > 2:
            cells = [cell.strip() for cell in stripped.strip("|").split("|")]
            line = " — ".join(cell for cell in cells if cell)
        return self._inline(line).rstrip()

    def _inline(self, text: str) -> str:
        if not _INLINE.search(text):
            return text
        if "<" in text:
            text = _SCRIPT.sub("", text)
            if opened := _SCRIPT_OPEN.search(text):
                self._in_script, text = True, text[: opened.start()]
            text = _TAG.sub(_tag_text, _AUTOLINK.sub(r"\1", text))
        if "[" in text:
            text = _REFERENCE.sub(r"\1", _LINK.sub(_link_text, _IMAGE.sub(r"\1", text)))
        if "`" in text:
            text = _CODE.sub(r"\2", text)
        if "**" in text or "__" in text:
            text = _STRONG.sub(r"\2", text)
            text = _HALF_STRONG.sub(self._half_strong, text)
        if "*" in text:
            text = _STAR.sub(r"\1", text)
        if "_" in text:
            text = _UNDERSCORE.sub(r"\1", text)
        if "~~" in text:
            text = _STRIKE.sub(r"\1", text)
        if "\\" in text:
            text = _ESCAPE.sub(r"\1", text)
        if "&" in text:
            text = _ENTITY.sub(lambda m: _ENTITIES[m[0]], text)
        marker = self._marker(text)  # made of pieces, with markup between them
        return text if marker < 0 else text[:marker]

    def _half_strong(self, match: re.Match[str]) -> str:
        opens, open_before = match["opens"] is not None, self._in_strong
        self._in_strong = opens
        return "" if opens or open_before else match[0]

    def _bounded(self, text: str) -> str:
        """What may be shown of the clean text so far: where it grows too long, it ends with its last whole word.

        From half of the limit on a word waits for the next one, so that nothing shown has to be taken back.
        """
        text, self._held = self._held + text, ""
        total = self._given + len(text)
        half = self._limit // 2
        if total > self._limit:
            self._closed = True
            head = text[: max(self._limit - 1 - self._given, 0)]
            space = max(head.rfind(" "), head.rfind("\n"))
            return (head[:space] if space >= 0 and self._given + space > half else head).rstrip() + "…"
        if total > half:
            head = text[: max(self._limit - 1 - self._given, 0)]
            end = len(head[: max(head.rfind(" "), head.rfind("\n"), half - self._given, 0)].rstrip())
            text, self._held = text[:end], text[end:]
        self._given += len(text)
        return text


def _tag_text(match: re.Match[str]) -> str:
    name = match[0].strip("</> ").split()[0].lower() if match[0].strip("</> ") else ""
    if name == "br" or match[0].lower().startswith("</summary"):
        return "\n"
    return "• " if name == "li" and not match[0].startswith("</") else ""


def _link_text(match: re.Match[str]) -> str:
    text, address = match[1].strip(), match[2]
    if not address.lower().startswith(_SAFE_LINK):
        return text
    shown = address.removeprefix("mailto:").removeprefix("tel:")
    return shown if text in (shown, address) or text == shown.partition("://")[2] else f"{text}: {shown}"
