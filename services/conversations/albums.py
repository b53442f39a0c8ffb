"""Pictures that are sent as one and arrive one by one: an album of Telegram, several pictures chosen at once elsewhere.

They are one question with one answer. Whoever handles the first gives its lane back for a moment, until no further one comes;
what arrives meanwhile stands behind it in the lane. Nothing waits in memory: after a crash the rows are still there.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from services.channels.base import Inbound

if TYPE_CHECKING:
    from services.conversations.records import Talk

QUIET_S = 1.0
"""So long after the last picture another one of its album may come."""
MOST_S = 5.0
"""So long after the first one is answered in any case."""
MOST = 10
"""So many pictures an album of Telegram has: core.telegram.org/bots/api#sendmediagroup."""
_PICTURES = frozenset({"photo", "image"})
_SEVERAL = frozenset({"whatsapp", "instagram"})
"""Networks whose albums are messages that nothing joins."""


class Gathering(Exception):
    """More of an album may be on its way: the lane is to be taken again in ``delay_s``."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"an album is arriving, {delay_s:.1f} s")
        self.delay_s = delay_s


def album_of(channel_kind: str, event: Inbound) -> str:
    """Return what joins a picture with the others of its album; empty for what is part of none."""
    if event.kind != "message" or not event.reply or not event.files:
        return ""
    if album := event.extra.get("album"):
        return str(album)
    if channel_kind in _SEVERAL and event.type in _PICTURES and not event.text:
        return "pictures"
    return ""


def wait_s(talk: Talk, now: dt.datetime, most_items: int) -> float:
    """Return how long to wait for the rest of an album that ends what is in hand; 0 where nothing is to be waited for."""
    if talk.status == "human" or len(talk.messages) >= most_items:
        return 0.0
    _, last_row, last = talk.messages[-1]
    album = album_of(talk.channel_kind, last)
    if not album:
        return 0.0
    rows = [row for _, row, event in talk.messages if album_of(talk.channel_kind, event) == album]
    quiet: float = (now - last_row["received_at"]).total_seconds()
    since_first: float = (now - min(row["received_at"] for row in rows)).total_seconds()
    # A clock that was set back tells nothing.
    if len(rows) >= MOST or quiet < 0 or since_first < 0:
        return 0.0
    return max(0.0, min(QUIET_S - quiet, MOST_S - since_first))
