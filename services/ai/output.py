"""From what a model wrote to plain text: no Markdown, no HTML, no invisible characters, bounded.

Works line by line, so that a streamed answer and the stored one come out alike. Links become ``text: address``; bullets
``•``; a table row becomes ``cell — cell``. Uzbek writes ``o`g`il`` with the sign that Markdown uses for code, and names
like ``@my_shop_bot`` have underscores: signs inside words are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

MAX_CHARS = 3500
MAX_LINE = 8000

_TAGS = "a|b|i|u|s|p|br|hr|em|strong|code|pre|ul|ol|li|h[1-6]|span|div|table|thead|tbody|tr|td|th|blockquote|font|img"
# Repetitions are bounded: what a model (or who steers it) writes must not make a pattern run for seconds.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPECIAL = re.compile(r"[#*_`~|<>\[\]\\]|^[ \t]*[-+=]|&[a-z#]", re.MULTILINE)
_INLINE = re.compile(r"[*_`~<\[\\]|&[a-z#]")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")

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
_CODE = re.compile(r"(?<![\w`])(`{1,2})(?=\S)([^`\n]{1,500})\1(?![\w`])")
_STRIKE = re.compile(r"~~(?=\S)([^~\n]{1,500})~~")
_STRONG = re.compile(r"(\*{2,3}|(?<!\w)_{2,3})(?=\S)(.{1,500}?)(?<=\S)\1")
_STAR = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]{0,500}(?<!\s))\*(?![\w*])")
_UNDERSCORE = re.compile(r"(?<![\w/@.:=&?#%\\-])_(?=[^\s_])([^_\n]{0,500}(?<!\s))_(?!\w)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'", "&nbsp;": " "}
_ENTITY = re.compile("|".join(_ENTITIES))
_SAFE_LINK = ("http://", "https://", "mailto:", "tel:", "tg://")


def clean(text: str, *, limit: int = MAX_CHARS, markers: Sequence[str] = ()) -> str:
    """Return ``text`` as plain text of at most ``limit`` characters; empty if nothing is left.

    Lines that hold one of ``markers`` (signs of our own prompt) are dropped.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    plain = not _SPECIAL.search(text) and not _INVISIBLE.search(text) and not any(m in text for m in markers)
    if plain and len(text) <= limit:
        text = text.strip()
        return _BLANK_LINES.sub("\n\n", text) if "\n" in text else text
    cleaner = Cleaner(limit=limit, markers=markers)
    text = text[: limit * 4]
    return (cleaner.feed(text) + cleaner.finish()).strip()


def is_empty(text: str) -> bool:
    """Whether a cleaned text says nothing: no letter, no digit, no emoji."""
    return not any(c.isalnum() or ord(c) > 0x2190 for c in text)


class Cleaner:
    """:func:`clean` for an answer that arrives in pieces: feed each, show what comes back, finish.

    A line is given out at once as long as it holds no markup; from the first sign on it waits for its end.
    """

    def __init__(self, *, limit: int = MAX_CHARS, markers: Sequence[str] = ()) -> None:
        self._left, self._markers = limit, tuple(markers)
        self._line = ""  # what is held back of the present line
        self._begun = False  # whether the beginning of the present line has been given out
        self._blank = 0
        self._any = False
        self._in_script = False
        self._closed = False

    def feed(self, piece: str) -> str:
        """Return the plain text that is certain by now."""
        if self._closed or not piece:
            return ""
        self._line += piece.replace("\r", "") if "\r" in piece else piece
        out: list[str] = []
        if "\n" in piece:
            *whole, self._line = self._line.split("\n")
            out.extend(self._end_line(line) for line in whole)
        if len(self._line) > MAX_LINE:  # nobody writes such a line; searching it again and again would cost
            out.append(self._end_line(self._line))
            self._line, self._begun = "", True
        out.append(self._early())
        return self._bounded("".join(out))

    def finish(self) -> str:
        """Return the rest."""
        if self._closed:
            return ""
        line, self._line = self._line, ""
        return self._bounded(self._end_line(line)).rstrip()

    def _early(self) -> str:
        """The part of an unfinished line that no later sign can change: whole words before the first sign."""
        line = self._line
        if self._in_script or self._markers or (not self._begun and not line[:1].isalnum()):
            return ""
        sign = _SPECIAL.search(line)
        end = line.rfind(" ", 0, sign.start() if sign else len(line))
        if end <= 0:
            return ""
        ready, self._line = line[:end], line[end:]
        begun, self._begun = self._begun, True
        ready = _INVISIBLE.sub("", ready)
        return ready if begun else self._start() + ready

    def _end_line(self, line: str) -> str:
        begun, self._begun = self._begun, False
        if begun:
            return self._inline(line).rstrip()
        text = self._whole(line)
        if text is None:
            return ""
        if not text:
            self._blank += 1
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
        if any(marker in line for marker in self._markers):
            return None
        if not _SPECIAL.search(line):
            return _INVISIBLE.sub("", line).rstrip()
        line = _INVISIBLE.sub("", line)
        if _FENCE.match(line) or _RULE.match(line) or (_TABLE_RULE.match(line) and "-" in line):
            return None
        line = _QUOTE.sub("", line)
        if heading := _HEADING.match(line):
            line = heading[1]
        line = _BULLET.sub(r"\1• ", line)
        stripped = line.strip()
        if stripped.startswith("|") and stripped.endswith("|") and len(stripped) > 2:
            cells = [cell.strip() for cell in stripped.strip("|").split("|")]
            line = " — ".join(cell for cell in cells if cell)
        return self._inline(line).rstrip()

    def _inline(self, text: str) -> str:
        text = _INVISIBLE.sub("", text)
        if not _INLINE.search(text):
            return text
        if "<" in text:
            text = _SCRIPT.sub("", text)
            if opened := _SCRIPT_OPEN.search(text):
                self._in_script, text = True, text[: opened.start()]
            text = _TAG.sub(_tag_text, _AUTOLINK.sub(r"\1", text))
        if "[" in text:
            text = _LINK.sub(_link_text, _IMAGE.sub(r"\1", text))
        if "`" in text:
            text = _CODE.sub(r"\2", text)
        if "**" in text or "__" in text:
            text = _STRONG.sub(r"\2", text)
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
        return text

    def _bounded(self, text: str) -> str:
        if len(text) <= self._left:
            self._left -= len(text)
            return text
        self._closed = True
        room = max(self._left - 1, 0)
        head = text[:room]
        space = max(head.rfind(" "), head.rfind("\n"))
        return (head[:space] if space > room // 2 else head).rstrip() + "…"


def _tag_text(match: re.Match[str]) -> str:
    name = match[0].strip("</> ").split()[0].lower() if match[0].strip("</> ") else ""
    if name == "br":
        return "\n"
    return "• " if name == "li" and not match[0].startswith("</") else ""


def _link_text(match: re.Match[str]) -> str:
    text, address = match[1].strip(), match[2]
    if not address.lower().startswith(_SAFE_LINK):
        return text
    shown = address.removeprefix("mailto:").removeprefix("tel:")
    return shown if text in (shown, address) or text == shown.partition("://")[2] else f"{text}: {shown}"


Receiver = Callable[[str], None]


def cleaned(receiver: Receiver, cleaner: Cleaner) -> Receiver:
    """Wrap a receiver of raw pieces so that it gets plain text; ``cleaner.finish()`` is the caller's."""

    def receive(piece: str) -> None:
        if text := cleaner.feed(piece):
            receiver(text)

    return receive
