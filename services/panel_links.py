"""Pages of the panel that a deep link into Telegram can name: who signs in by way of the factory bot arrives there.

Behind ``?start=`` Telegram carries at most 64 letters, digits, ``_`` and ``-``, so a page is written as ids.
"""

from __future__ import annotations

import re

from db.base import ID_LENGTH

_ID = rf"[0-9a-z]{{{ID_LENGTH}}}"
_WAITING = "waiting"
_PLACES = "channels|documents"
_PAGE = re.compile(rf"/bots/({_ID})/(?:conversations(?:/({_ID})|\?status=({_WAITING}))?|({_PLACES}))")
_INBOX = re.compile(rf"/inbox(?:/({_ID}))?")
_INBOX_WORD = re.compile(rf"panel_inbox(?:_({_ID}))?")
START_WORD = re.compile(rf"panel(?:_inbox(?:_{_ID})?|_({_ID})(?:_({_ID}|{_WAITING}|{_PLACES}))?)?")
"""What :func:`start_word` returns."""


def start_word(path: str) -> str:
    """Return the payload for a page: the inbox or a conversation in it, a bot's conversations, those that wait, or one, its
    channels or its documents; only ``panel`` for every other page."""
    if (inbox := _INBOX.fullmatch(path)) is not None:
        return "_".join(["panel_inbox", *filter(None, inbox.groups())])
    found = _PAGE.fullmatch(path)
    return "_".join(["panel", *(part for part in found.groups() if part)]) if found else "panel"


def page_of(word: str) -> str:
    """Return the page that a payload names; empty where it names none."""
    if (inbox := _INBOX_WORD.fullmatch(word)) is not None:
        return "/inbox" + (f"/{inbox[1]}" if inbox[1] else "")
    found = START_WORD.fullmatch(word)
    if found is None or found[1] is None:
        return ""
    if found[2] is not None and found[2] in _PLACES.split("|"):
        return f"/bots/{found[1]}/{found[2]}"
    one = "" if found[2] is None else "?status=waiting" if found[2] == _WAITING else f"/{found[2]}"
    return f"/bots/{found[1]}/conversations{one}"
