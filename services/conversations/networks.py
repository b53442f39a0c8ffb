"""What an event means that a network tells without saying whose doing it was: only our own rows know that.

Instagram returns everything that an account sends, ours and what a person wrote in the application, as an echo; it tells that
messages were seen by naming the last one; and what is said under a post is for the bot only where the owner wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, case, or_, select, update

from db import direct, models
from db.base import table_of
from services.channels.base import Delivery, Inbound
from services.lanes import OUTBOX

COMMENT_REPLY = "comment_reply"
"""The owner's switch among a channel's settings: comments are answered in private."""
UNSETTLED = "unsettled"
"""Marks an event that cannot be understood before a message of ours that is under way has its id."""
ECHOING_KINDS = frozenset({"instagram"})
_MESSAGE = table_of(models.Message)

_KNOWN = select(_MESSAGE.c.external_id).where(
    _MESSAGE.c.conversation_id == bindparam("p_talk"),
    _MESSAGE.c.external_id.in_(bindparam("p_ids", expanding=True)),
    _MESSAGE.c.author != "customer",
)
_UNDER_WAY = select(OUTBOX.c.status).where(
    OUTBOX.c.lane == bindparam("p_lane"), OUTBOX.c.status.in_(("queued", "sending"))
)
# Parts of long answers, whose ids the message does not hold, and what left us without an answer.
_SENT = (
    select(OUTBOX.c.id, OUTBOX.c.status, OUTBOX.c.external_id, OUTBOX.c.message_id, OUTBOX.c.payload)
    .where(
        OUTBOX.c.channel_id == bindparam("p_channel"),
        OUTBOX.c.recipient == bindparam("p_chat"),
        or_(
            OUTBOX.c.external_id.in_(bindparam("p_ids", expanding=True)),
            OUTBOX.c.status == "unknown",
            OUTBOX.c.unsure.is_(True),
        ),
    )
    .order_by(OUTBOX.c.id)
)
# An echo settles one doubt: the same words that come once more are somebody's own.
_ARRIVED = (
    update(OUTBOX)
    .where(OUTBOX.c.id == bindparam("p_id"), OUTBOX.c.status != "sending")
    .values(
        status=case((OUTBOX.c.status == "unknown", "sent"), else_=OUTBOX.c.status),
        external_id=case(
            (OUTBOX.c.status == "unknown", bindparam("p_external", type_=OUTBOX.c.external_id.type)),
            else_=OUTBOX.c.external_id,
        ),
        unsure=False,
    )
)
_ARRIVED_MESSAGE = (
    update(_MESSAGE)
    .where(_MESSAGE.c.id == bindparam("p_id"), _MESSAGE.c.status == "unknown")
    .values(status="sent", external_id=bindparam("p_external"), error=None)
)

Events = tuple[tuple[Mapping[str, Any], Inbound], ...]


class Place(NamedTuple):
    """Whose events these are: a channel, one chat of it, the conversation (empty where there is none), its sending lane."""

    channel: Mapping[str, Any]
    chat: str
    conversation_id: str
    out_lane: str


def understood(connection: Connection, place: Place, events: Events) -> Events:
    """Return events as they are to be taken: our own echoes are nothing new, comments are questions or nothing."""
    told = [event for _, event in events if event.kind == "echo" or _watermark(event)]
    ids = _ids(connection, place, told) if told else {}
    return tuple((row, _understood(place, event, ids)) for row, event in events)


def _watermark(event: Inbound) -> bool:
    delivery = event.extra.get("delivery")
    return isinstance(delivery, Delivery) and delivery.earlier


def _understood(place: Place, event: Inbound, ids: Mapping[str, str]) -> Inbound:
    if event.kind == "comment":
        ours = event.sender.id in (place.channel["account"], place.channel["above"])
        wanted = bool((place.channel["settings"] or {}).get(COMMENT_REPLY))
        return replace(event, kind="message") if wanted and not ours else replace(event, reply=False)
    if event.message_id not in ids:
        return event
    found = ids[event.message_id]
    if found == UNSETTLED:
        return replace(event, kind="system", extra={UNSETTLED: True})
    if event.kind == "echo":
        return replace(event, kind="system", type="own")
    return replace(event, extra={"delivery": replace(event.extra["delivery"], ref=found)})


def _ids(connection: Connection, place: Place, events: Sequence[Inbound]) -> dict[str, str]:
    """Return which of the ids that events name are of messages of ours, with that message's id here."""
    asked = sorted({event.message_id for event in events if event.message_id})
    found: dict[str, str] = {}
    if place.conversation_id and asked:
        rows = direct.rows(connection, _KNOWN, {"p_talk": place.conversation_id, "p_ids": asked})
        found = {row.external_id: "" for row in rows}
    missing = [id_ for id_ in asked if id_ not in found]
    if not missing:
        return found
    sent = direct.rows(
        connection, _SENT, {"p_channel": place.channel["channel_id"], "p_chat": place.chat, "p_ids": missing}
    )
    found |= {row.external_id: row.message_id or "" for row in sent if row.external_id in missing}
    open_rows = [row for row in sent if row.external_id not in missing]
    for event in events:
        if event.kind != "echo" or event.message_id in found:
            continue
        # The one case in which the words decide: what left us without an answer and now comes back was ours.
        same = next((row for row in open_rows if orjson.loads(row.payload)["text"].strip() == event.text.strip()), None)
        if same is not None:
            open_rows.remove(same)
            found[event.message_id] = same.message_id or ""
            direct.change(connection, _ARRIVED, [{"p_id": same.id, "p_external": event.message_id}])
            direct.change(connection, _ARRIVED_MESSAGE, [{"p_id": same.message_id, "p_external": event.message_id}])
    if any(id_ not in found for id_ in missing):
        # Meta may tell of a message before it has answered the call that sent it.
        under_way = direct.rows(connection, _UNDER_WAY, {"p_lane": place.out_lane})
        if any(row.status == "sending" for row in under_way):
            found |= {id_: UNSETTLED for id_ in missing if id_ not in found}
    return found
