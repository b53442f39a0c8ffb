"""What Telegram accepts as text and keyboards, and the errors it gives for the rest. For the fake Bot API server."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_CALLBACK_DATA_BYTES = 64


class ApiError(Exception):
    """An answer that is not ok."""

    def __init__(self, code: int, description: str, **parameters: object) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


def bad(description: str, **parameters: object) -> ApiError:
    """Return a 400 with Telegram's usual beginning."""
    return ApiError(400, f"Bad Request: {description}", **parameters)


def units(text: str) -> int:
    """Return the length of ``text`` as Telegram counts it: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


_HTML_TAGS = {
    **dict.fromkeys(("b", "strong"), "bold"),
    **dict.fromkeys(("i", "em"), "italic"),
    **dict.fromkeys(("u", "ins"), "underline"),
    **dict.fromkeys(("s", "strike", "del"), "strikethrough"),
    **{"code": "code", "pre": "pre", "a": "text_link", "blockquote": "blockquote", "tg-spoiler": "spoiler"},
    **{"span": "spoiler", "tg-emoji": "custom_emoji"},
}
_MARKDOWN_V2 = {"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler", "`": "code"}


def parse_text(text: str, mode: str, entities: object = None) -> tuple[str, list[Json]]:
    """Return the text without its markup and the entities, as Telegram would. Raises :class:`ApiError`."""
    mode = mode.lower()
    if mode == "html":
        plain, found = _parse_html(text)
    elif mode == "markdownv2":
        plain, found = _parse_markdown(text, _MARKDOWN_V2, "_*[]()~`>#+-=|{}.!")
    elif mode == "markdown":
        plain, found = _parse_markdown(text, {"*": "bold", "_": "italic", "`": "code"}, "")
    elif mode:
        raise bad("unsupported parse_mode")
    else:
        plain, found = text, entities if isinstance(entities, list) else []
    return plain.strip(), found


def _parse_html(text: str) -> tuple[str, list[Json]]:
    plain, found, stack, at = "", [], [], 0
    for tag in re.finditer(r"<(/?)([A-Za-z][A-Za-z0-9-]*)?([^<>]*)>?", text):
        plain += html.unescape(text[at : tag.start()])
        at = tag.end()
        closing, name = tag[1], (tag[2] or "").lower()
        where = len(text[: tag.start()].encode())
        if name not in _HTML_TAGS or not tag.group().endswith(">"):
            raise bad(f'can\'t parse entities: Unsupported start tag "{name}" at byte offset {where}')
        if not closing:
            stack.append((name, units(plain)))
        elif not stack or stack[-1][0] != name:
            raise bad(f"can't parse entities: Unexpected end tag at byte offset {where}")
        else:
            _, begun = stack.pop()
            found.append({"type": _HTML_TAGS[name], "offset": begun, "length": units(plain) - begun})
    if stack:
        raise bad(f"can't parse entities: Can't find end tag corresponding to start tag \"{stack[-1][0]}\"")
    return plain + html.unescape(text[at:]), found


def _parse_markdown(text: str, marks: Mapping[str, str], reserved: str) -> tuple[str, list[Json]]:
    plain, found, at = "", [], 0
    open_marks: list[tuple[str, int, int]] = []
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            plain += text[at + 1]
            at += 2
            continue
        link = re.compile(r"\[([^\]]*)\]\(([^)]*)\)").match(text, at)
        if link:
            found.append({"type": "text_link", "offset": units(plain), "length": units(link[1]), "url": link[2]})
            plain += link[1]
            at = link.end()
            continue
        mark = next((mark for mark in sorted(marks, key=len, reverse=True) if text.startswith(mark, at)), None)
        if mark and open_marks and open_marks[-1][0] == mark:
            _, begun, _ = open_marks.pop()
            found.append({"type": marks[mark], "offset": begun, "length": units(plain) - begun})
        elif mark:
            open_marks.append((mark, units(plain), len(text[:at].encode())))
        elif text[at] in reserved and not (text[at] == ">" and (at == 0 or text[at - 1] == "\n")):
            raise bad(
                f"can't parse entities: Character '{text[at]}' is reserved and must be escaped with the preceding '\\'"
            )
        else:
            plain += text[at]
        at += len(mark) if mark else 1
    if open_marks:
        raise bad(f"can't parse entities: Can't find end of the entity starting at byte offset {open_marks[-1][2]}")
    return plain, found


def checked_text(params: Json, name: str = "text", limit: int = MAX_TEXT) -> tuple[str, list[Json]]:
    """Return the text or caption and its entities. Raises :class:`ApiError` for one that is empty or too long."""
    raw = params.get(name)
    text = raw if isinstance(raw, str) else ""
    key = "entities" if name == "text" else "caption_entities"
    plain, entities = parse_text(text, str(params.get("parse_mode") or ""), params.get(key))
    if name == "text" and not plain:
        raise bad("message text is empty")
    if units(plain) > limit:
        raise bad("message is too long" if name == "text" else "message caption is too long")
    return plain, entities


def checked_markup(markup: object, private: bool) -> Json | None:
    """Return the keyboard. Raises the error that Telegram gives for one that it does not take."""
    if markup is None or markup == "":
        return None
    if not isinstance(markup, dict):
        raise bad("object expected as reply markup")
    for row in _rows(markup, "inline_keyboard"):
        for button in row:
            _check_inline(button)
    for row in _rows(markup, "keyboard"):
        for key in row:
            label = key.get("text") if isinstance(key, dict) else key
            if not isinstance(label, str) or not label:
                raise bad("text buttons are unallowed in the keyboard: text must be non-empty")
            if isinstance(key, dict) and key.get("request_contact") and not private:
                raise bad("phone number can be requested in private chats only")
    return markup


def _rows(markup: Json, name: str) -> list[list[Any]]:
    rows = markup.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad(f'field "{name}" must be of type Array of Arrays')
    return rows


_INLINE_ACTIONS = {"callback_data", "url", "web_app", "login_url", "copy_text", "callback_game", "pay"} | {
    f"switch_inline_query{kind}" for kind in ("", "_current_chat", "_chosen_chat")
}


def _check_inline(button: object) -> None:
    if not isinstance(button, dict) or not isinstance(button.get("text"), str) or not button["text"]:
        raise bad("can't parse inline keyboard button: text must be non-empty")
    actions = _INLINE_ACTIONS & button.keys()
    if len(actions) != 1:
        raise bad("can't parse inline keyboard button: exactly one optional field must be used")
    data = button.get("callback_data")
    if data is not None and not 1 <= len(str(data).encode()) <= MAX_CALLBACK_DATA_BYTES:
        raise bad("BUTTON_DATA_INVALID")
    link = button.get("url")
    if link is not None:
        address = urlsplit(str(link))
        if address.scheme in ("http", "https", "") and "." not in (address.hostname or link.split("/")[0]):
            raise bad(f"inline keyboard button URL '{link}' is invalid: Wrong HTTP URL")
    app = button.get("web_app")
    if app is not None and (not isinstance(app, dict) or urlsplit(str(app.get("url"))).scheme != "https"):
        raise bad("inline keyboard button Web App URL is invalid: Only HTTPS links are allowed")


def integer(params: Mapping[str, Any], name: str, default: int) -> int:
    """Return a parameter as a number; what is not one counts as left out."""
    value = params.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


def flag(params: Mapping[str, Any], name: str) -> bool:
    """Return a parameter as a truth value."""
    return str(params.get(name, "")).lower() in ("true", "1", "yes")
