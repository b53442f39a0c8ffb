"""Messages that their writers change or take back after sending them.

The stored message follows, and so does what the model sees of the talk. What was not answered yet is answered as it is now;
what was answered is answered again only where it means something else by then and the original is minutes old, so that a
corrected comma does not bring a second answer. A change may arrive before its original: then it stands for it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, select, update

from db import models
from db.base import table_of, utcnow
from services.channels.base import Inbound
from services.knowledge.analysis import fold
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.conversations.records import Talk

CONVERSATION = table_of(models.Conversation)
MESSAGE = table_of(models.Message)
ATTACHMENT = table_of(models.Attachment)

KINDS = frozenset({"edit", "delete"})
AGAIN_WITHIN = dt.timedelta(minutes=5)
"""So old may a message be that is answered a second time because it was changed."""
_STANDS_FOR = dt.timedelta(minutes=15)
"""So long ago may a message have been written whose change is known and itself not."""
_LATE_S = 2.0
"""A message that took longer may have been overtaken by its own change."""
_ONCE = frozenset({"whatsapp"})
"""Networks where every answer is paid for: what was answered is not answered again."""
_LOOKED_AT = 2000
_REMEMBERED = 1000
# Changes that stand for their messages, (conversation, network's id), the latest of this process: what was overtaken is soon
# there, and is looked for without waiting until it is late.
_standing: OrderedDict[tuple[str, str], None] = OrderedDict()
_WORD = re.compile(r"[^\W_]+")
_SAME_WORD = 0.8
_SHORT = 4

Row = Mapping[str, Any]
Events = tuple[tuple[Row, Inbound], ...]


def targets(event: Inbound) -> tuple[str, ...]:
    """Return the network's ids of the messages that a change is about."""
    of = event.extra.get("of") or ()
    return (of,) if isinstance(of, str) else tuple(map(str, of))


def fold_in(events: Events) -> Events:
    """Let changes take effect on messages that came with them, in whatever order."""
    if not any(event.kind in KINDS for _, event in events):
        return events
    here = {event.message_id: place for place, (_, event) in enumerate(events) if _may_change(event)}
    result = list(events)
    for place, (row, event) in enumerate(events):
        if event.kind not in KINDS:
            continue
        for wanted in targets(event):
            if wanted not in here:
                continue
            original_row, original = result[here[wanted]]
            if event.kind == "delete":
                changed = Inbound("unsupported", original.recipient, original.sender, type="deleted", reply=False)
            else:
                changed = replace(original, text=event.text, extra={**original.extra, "edited": True})
            result[here[wanted]] = original_row, changed
            result[place] = row, replace(event, extra={**event.extra, "folded": True})
    return tuple(result)


def _may_change(event: Inbound) -> bool:
    return event.kind in ("message", "command", "echo") and bool(event.message_id)


def extra_of(event: Inbound, row: Row) -> dict[str, Any] | None:
    """Return what is kept beside the text of what arrived: the network's id of it, where that is not the update's."""
    kept: dict[str, Any] = {}
    if event.message_id and event.message_id != row["external_id"]:
        kept["message_id"] = event.message_id[:128]
    if source := event.extra.get("source"):
        kept["source"] = str(source)[:128]
    return kept or None


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    author: str
    text: str
    status: str
    created_at: dt.datetime


def apply(
    connection: Connection, talk: Talk, events: Events, moment: dt.datetime, *, chars: int, turn_chars: int
) -> tuple[Events, dict[int, str]]:
    """Change what is stored of a talk as ``events`` say.

    Returns the events as they are to be handled, and by the inbox row's number the messages of those among them that are stored
    already. ``chars``, ``turn_chars``: so much of a text is kept, in a message and for the model.
    """
    wanted = {id_ for _, event in events if event.kind in KINDS for id_ in targets(event)}
    known = _stored(connection, talk, wanted)
    turns: list[tuple[str, str, bool]] = []
    result: list[tuple[Row, Inbound]] = []
    stored: dict[int, str] = {}
    for row, event in events:
        handled = event
        for id_ in targets(event) if event.kind in KINDS else ():
            found = known.get(id_)
            if event.kind == "delete":
                if found is not None:
                    _empty(connection, found, moment)
                    turns.append((found.text, "", False))
                    known[id_] = replace(found, text="")
            elif found is None:
                handled = _original(event, id_, moment)
                if handled is not event:
                    _standing[talk.conversation_id, id_] = None
                    while len(_standing) > _REMEMBERED:
                        _standing.popitem(last=False)
            elif (found.author == "customer") is not bool(event.extra.get("own")):
                text = clean(event.text, chars)
                if not text:
                    continue
                again = _again(connection, talk, event, found, text, moment, tried=bool(row["error"]))
                values = {"text": text, "edited_at": moment} | ({"status": "received"} if again else {})
                connection.execute(update(MESSAGE).where(MESSAGE.c.id == found.id).values(**values))
                turns.append((found.text, text, again))
                known[id_] = replace(found, text=text)
                if again:
                    handled = replace(event, kind="message", message_id=id_, type="text", reply=True)
                    stored[row["id"]] = found.id
        result.append((row, handled))
    if turns:
        _change_turns(connection, talk, turns, turn_chars)
    return tuple(result), stored


def _stored(connection: Connection, talk: Talk, wanted: set[str]) -> dict[str, _Known]:
    """Return the messages of a talk by the network's ids."""
    rows = connection.execute(
        select(
            MESSAGE.c.id,
            MESSAGE.c.author,
            MESSAGE.c.text,
            MESSAGE.c.status,
            MESSAGE.c.created_at,
            MESSAGE.c.external_id,
            MESSAGE.c.extra,
        )
        .where(MESSAGE.c.conversation_id == talk.conversation_id)
        .order_by(MESSAGE.c.id.desc())
        .limit(_LOOKED_AT)
    )
    found: dict[str, _Known] = {}
    for row in rows:
        id_ = (row.extra or {}).get("message_id")
        # What arrives by Telegram is stored under the number of its update.
        if id_ is None and not (row.author == "customer" and talk.channel_kind == "telegram"):
            id_ = row.external_id
        if id_ in wanted:
            found.setdefault(id_, _Known(row.id, row.author, row.text, row.status, row.created_at))
    return found


def _empty(connection: Connection, message: _Known, moment: dt.datetime) -> None:
    connection.execute(update(MESSAGE).where(MESSAGE.c.id == message.id).values(text="", deleted_at=moment))
    connection.execute(delete(ATTACHMENT).where(ATTACHMENT.c.message_id == message.id))


def stands(event: Inbound, moment: dt.datetime) -> bool:
    """Whether a change of a message that nothing is known of is taken for the message."""
    return any(_original(event, id_, moment) is not event for id_ in targets(event))


def _original(event: Inbound, id_: str, moment: dt.datetime) -> Inbound:
    """Return what a change of an unknown message is taken for: the message itself, if that may still be on its way."""
    written = event.extra.get("written") or event.at
    fresh = written is not None and moment - written < _STANDS_FOR
    meant = event.extra.get("meant", True) and not event.extra.get("own") and not event.extra.get("folded")
    if not fresh or not meant or not clean(event.text).strip():
        return event
    type_ = "text" if event.type == "edit" else event.type
    return replace(event, kind="message", type=type_, message_id=id_, reply=True, extra={**event.extra, "edited": True})


def _again(
    connection: Connection,
    talk: Talk,
    event: Inbound,
    found: _Known,
    text: str,
    moment: dt.datetime,
    *,
    tried: bool,
) -> bool:
    """Whether a changed message is to be answered once more. ``tried``: that was begun before and did not end."""
    # A place that moves is told again and again.
    if event.extra.get("folded") or event.type in ("location", "venue"):
        return False
    if found.author != "customer" or talk.status == "human":
        return False
    if tried and found.status == "received" and found.text == text:
        return True
    if (
        talk.channel_kind in _ONCE
        or found.status != "answered"
        or moment - found.created_at > AGAIN_WITHIN
        or not text.strip()
    ):
        return False
    if says_other(found.text, text):
        return True
    unknown = select(MESSAGE.c.id).where(
        MESSAGE.c.conversation_id == talk.conversation_id,
        MESSAGE.c.reply_to == found.id,
        MESSAGE.c.answered.is_(False),
    )
    # What was not understood may be by its better spelling.
    return found.text != text and connection.execute(unknown).first() is not None


def says_other(before: str, after: str) -> bool:
    """Whether a text says something else than before: a new word, a new number, and not only another spelling."""
    old = [fold(word) for word in _WORD.findall(before)]
    return any(not _among(fold(word), old) for word in _WORD.findall(after))


def _among(word: str, old: Iterable[str]) -> bool:
    if any(map(str.isdigit, word)) or len(word) < _SHORT:
        return word in old
    return any(difflib.SequenceMatcher(None, word, other).ratio() >= _SAME_WORD for other in old)


def _change_turns(connection: Connection, talk: Talk, changes: Sequence[tuple[str, str, bool]], chars: int) -> None:
    """Let what the model sees of a talk, and what lists show of it, follow; what is said again will be added again."""
    reading = select(CONVERSATION.c.recent, CONVERSATION.c.last_text).where(CONVERSATION.c.id == talk.conversation_id)
    if connection.dialect.name == "postgresql":
        reading = reading.with_for_update()
    recent, last_text = connection.execute(reading).one()
    recent = [list(turn) for turn in recent or ()]
    for before, after, again in changes:
        old, new = before[:chars], "" if again else after[:chars]
        if last_text and last_text == one_line(before, 200):
            last_text = one_line(after, 200)
        place = next((n for n in reversed(range(len(recent))) if old and old in recent[n][1]), None)
        if place is None:
            continue
        role, said = recent[place]
        rest = said.replace(old, new, 1).strip()
        if new or (rest and not rest.endswith(":")):
            recent[place] = [role, rest[:chars]]
        else:
            del recent[place]
    talk.recent = recent
    connection.execute(
        update(CONVERSATION)
        .where(CONVERSATION.c.id == talk.conversation_id)
        # Whoever watches the talk sees by this that something has changed.
        .values(recent=recent, last_text=last_text or "", last_message_at=utcnow())
    )


def overtaken(connection: Connection, talks: Sequence[tuple[str, Events]], moment: dt.datetime) -> set[tuple[str, str]]:
    """Return the messages (conversation, network's id) among late ones whose change came first and stands for them."""
    late = {
        (conversation, event.message_id)
        for conversation, events in talks
        for _, event in events
        if _may_change(event)
        and (
            (conversation, event.message_id) in _standing
            or (event.at is not None and (moment - event.at).total_seconds() > _LATE_S)
        )
    }
    if not late:
        return set()
    rows = connection.execute(
        select(MESSAGE.c.conversation_id, MESSAGE.c.extra).where(
            MESSAGE.c.conversation_id.in_(sorted({conversation for conversation, _ in late})),
            MESSAGE.c.edited_at.is_not(None),
            MESSAGE.c.created_at > moment - _STANDS_FOR,
        )
    )
    return late & {(conversation, str((extra or {}).get("message_id"))) for conversation, extra in rows}
