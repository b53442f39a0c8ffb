"""Two contacts turn out to be one person: their conversations become one, and what waits goes along.

Lanes are kept by id, so each of the two may be at work. The join is a write of its own that holds all lanes of the person and
is put off while another of them is in hand: an answer or a sending under way never loses its conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from db import models
from db.base import table_of, utcnow
from services import jobs, lanes
from services.conversations.persons import Same
from services.conversations.records import (
    CONTACT,
    CONVERSATION,
    MESSAGE,
    RECENT_TURNS,
    UNANSWERED,
    LostLane,
    out_lane,
)
from services.inbox import lane_of
from services.lanes import INBOX, LANES, OUTBOX, Claimed, Line, Release
from services.notices import talk_key
from services.writer import Operation, Scope

CLOSE_TOPIC_JOB = "close_topic"
_JOINED = table_of(models.JoinedConversation)
_DUE = table_of(models.ConversationDue)
_NOTE, _LABEL = table_of(models.Note), table_of(models.ConversationLabel)
_DELIVERY = table_of(models.BroadcastDelivery)
_TOPIC, _NOTICE = table_of(models.ForumTopic), table_of(models.Notice)
# A person's part in a talk goes before the bot's, an open one before one that was put away.
_RANK = {"closed": 0, "bot": 1, "waiting": 2, "human": 3}


@dataclass(frozen=True, slots=True)
class Join:
    """A claimed lane that brought who the person is."""

    claim: Claimed
    channel_id: str
    same: Same


@dataclass(frozen=True, slots=True)
class Joined:
    """What became one: the conversation that stays and those that went into it. ``closed``: items of the lane that are done."""

    kept: str
    former: tuple[str, ...]
    closed: int


def _lanes(item: Join, id_: str) -> tuple[tuple[str, str], ...]:
    """Return the lanes of an id, each with its kind."""
    out = out_lane(item.channel_id, id_)
    return (
        (lane_of(item.channel_id, id_), "inbox"),
        (out, "outbox"),
        (f"bulk{out.removeprefix('out')}", "bulk"),
    )


def _touched(item: Join) -> dict[str, Line]:
    line = item.claim.line
    return {key: line._replace(kind=kind) for id_ in item.same.ids for key, kind in _lanes(item, id_)}


def _join(connection: Connection, scope: Scope, items: Sequence[Join]) -> list[Joined | Exception | None]:
    return [_one(connection, scope, item) for item in items]


def _one(connection: Connection, scope: Scope, item: Join) -> Joined | Exception | None:
    """Join what belongs to one person and give the lane back; None: not now, and nothing was done."""
    claim, same = item.claim, item.same
    if claim.key not in lanes.ours(connection, scope.holder, [claim]):
        return LostLane(claim.key)
    people = _people(connection, item)
    known = {id_ for one in people for id_ in (one["external_id"], one["alias"]) if id_}
    touched = _touched(item)
    if not known <= same.ids or _in_hand(connection, touched.keys() - {claim.key}):
        return None
    closed = 1 if same.moved else 0
    lanes.release(connection, scope.holder, [Release(claim, closed)], scope.now)
    _give_back(connection, claim, closed)
    if not people:
        return Joined("", (), closed)
    kept, *others = people
    phone = same.phone or next((one["external_id"] for one in people if one["external_id"].isdigit()), "")
    scoped = same.scoped or next((id_ for id_ in sorted(known) if not id_.isdigit()), "")
    external = phone or scoped
    former = tuple(one["conversation_id"] for one in others)
    for one in others:
        _take_over(connection, claim.line, one, kept)
    if others:
        # It goes with its conversation; the id that it had is free then.
        for one in others:
            _take_deliveries(connection, one["contact_id"], kept["contact_id"])
        connection.execute(delete(CONTACT).where(CONTACT.c.id.in_([one["contact_id"] for one in others])))
        connection.execute(
            update(CONVERSATION).where(CONVERSATION.c.id == kept["conversation_id"]).values(_one_talk(people))
        )
        connection.execute(update(CONTACT).where(CONTACT.c.id == kept["contact_id"]).values(_one_contact(people)))
    names = {"external_id": external, "alias": scoped if scoped and scoped != external else None}
    if phone:
        names["phone"] = f"+{phone}"
    connection.execute(update(CONTACT).where(CONTACT.c.id == kept["contact_id"]).values(names))
    _carry_lanes(connection, scope, item, external, kept["conversation_id"])
    return Joined(kept["conversation_id"], former, closed)


def _people(connection: Connection, item: Join) -> list[dict[str, Any]]:
    """Return the contacts that are this person with their conversations, the oldest first."""
    ids = sorted(item.same.ids)
    talk = [CONVERSATION.c[name].label(f"talk_{name}") for name in _TALK_COLUMNS]
    query = (
        select(CONTACT, CONTACT.c.id.label("contact_id"), CONVERSATION.c.id.label("conversation_id"), *talk)
        .join(CONVERSATION, CONVERSATION.c.contact_id == CONTACT.c.id)
        .where(CONTACT.c.channel_id == item.channel_id, CONTACT.c.external_id.in_(ids) | CONTACT.c.alias.in_(ids))
        .order_by(CONTACT.c.created_at, CONTACT.c.id)
    )
    if connection.dialect.name != "sqlite":
        query = query.with_for_update()
    return [dict(row) for row in connection.execute(query).mappings()]


def _in_hand(connection: Connection, keys: Any) -> bool:
    held = select(LANES.c.key).where(LANES.c.key.in_(sorted(keys)), LANES.c.holder.is_not(None)).limit(1)
    return connection.scalar(held) is not None


def _give_back(connection: Connection, claim: Claimed, closed: int) -> None:
    """Note what becomes of the items in hand: those after the closed ones were not touched."""
    done, rest = claim.items[:closed], claim.items[closed:]
    if done:
        connection.execute(
            update(INBOX)
            .where(INBOX.c.id.in_([row["id"] for row in done]))
            .values(status="done", payload="", error=None)
        )
    if rest:
        connection.execute(
            update(INBOX).where(INBOX.c.id.in_([row["id"] for row in rest])).values(attempts=INBOX.c.attempts - 1)
        )


_TALK_COLUMNS = (
    "status",
    "waiting_reason",
    "recent",
    "last_message_at",
    "last_inbound_at",
    "last_text",
    "unanswered_since",
    "person_at",
    "assignee_id",
    "snoozed_until",
    "snoozed_at",
    "created_at",
)


def _told(people: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return what is known of a column, of the oldest first."""
    return [one[name] for one in people if one[name] is not None and one[name] != ""]


def _one_talk(people: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state of a conversation that was several: nobody who waits or was promised a person is forgotten."""
    lead = max(people, key=lambda one: _RANK.get(one["talk_status"], 1))
    in_time = sorted(people, key=lambda one: one["talk_last_message_at"])
    aside = min(people, key=lambda one: (one["talk_snoozed_until"] is not None, one["talk_snoozed_until"] or 0))
    assigned = _told([lead, *people], "talk_assignee_id")
    return {
        "status": lead["talk_status"],
        "waiting_reason": lead["talk_waiting_reason"],
        "recent": [turn for one in in_time for turn in one["talk_recent"] or []][-RECENT_TURNS:],
        "last_message_at": in_time[-1]["talk_last_message_at"],
        "last_text": in_time[-1]["talk_last_text"],
        "last_inbound_at": max(_told(people, "talk_last_inbound_at"), default=None),
        "unanswered_since": min(_told(people, "talk_unanswered_since"), default=None),
        "person_at": max(_told(people, "talk_person_at"), default=None),
        "assignee_id": assigned[0] if assigned else None,
        # Put aside only as long as all of it was.
        "snoozed_until": aside["talk_snoozed_until"],
        "snoozed_at": aside["talk_snoozed_at"],
        "created_at": min(one["talk_created_at"] for one in people),
    }


def _one_contact(people: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is known of somebody who was several; a chosen language goes before a guessed one, the later first."""
    in_time = sorted(people, key=lambda one: one["talk_last_message_at"], reverse=True)
    speaks = min(in_time, key=lambda one: (not one["language_chosen"], one["language"] is None))
    first = {name: (_told(people, name) or [None])[0] for name in ("name", "username", "phone", "source")}
    return {
        "name": first["name"] or "",
        "username": first["username"] or "",
        "phone": first["phone"],
        "source": first["source"] or "",
        "language": speaks["language"],
        "language_chosen": speaks["language_chosen"],
        "unreachable_since": None
        if any(one["unreachable_since"] is None for one in people)
        else max(_told(people, "unreachable_since")),
        "opted_out_at": min(_told(people, "opted_out_at"), default=None),
        "created_at": min(one["created_at"] for one in people),
    }


def _take_over(connection: Connection, line: Line, one: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Give a conversation what belonged to another. Messages keep their ids, which are their order."""
    old, new = one["conversation_id"], kept["conversation_id"]
    for table in (MESSAGE, _NOTE, _JOINED):
        connection.execute(update(table).where(table.c.conversation_id == old).values(conversation_id=new))
    connection.execute(
        update(UNANSWERED)
        .where(UNANSWERED.c.bot_id == kept["bot_id"], UNANSWERED.c.conversation_id == old)
        .values(conversation_id=new)
    )
    has = select(_LABEL.c.label_id).where(_LABEL.c.conversation_id == new)
    connection.execute(
        update(_LABEL).where(_LABEL.c.conversation_id == old, _LABEL.c.label_id.not_in(has)).values(conversation_id=new)
    )
    # What is searched of it goes with its row; of the other it is read anew.
    connection.execute(insert(_DUE).values(conversation_id=new, whole=True))
    _take_topics(connection, line, old, new)
    _take_notices(connection, old, new)
    connection.execute(insert(_JOINED).values(id=old, conversation_id=new, created_at=utcnow()))


def _take_topics(connection: Connection, line: Line, old: str, new: str) -> None:
    """Go on in the topics; where a group has one for each of the two, the other is closed and says so."""
    has = set(connection.scalars(select(_TOPIC.c.group_id).where(_TOPIC.c.conversation_id == new)))
    for topic in connection.execute(select(_TOPIC).where(_TOPIC.c.conversation_id == old)).all():
        if topic.group_id not in has:
            connection.execute(update(_TOPIC).where(_TOPIC.c.id == topic.id).values(conversation_id=new))
            continue
        connection.execute(delete(_TOPIC).where(_TOPIC.c.id == topic.id))
        payload = {"group": topic.group_id, "thread": topic.thread_id, "conversation": new}
        jobs.add_in(connection, CLOSE_TOPIC_JOB, payload, lane=f"topic:{topic.id}", line=line)


def _take_deliveries(connection: Connection, old: str, new: str) -> None:
    """Keep what is known of broadcasts; one that was sent under either id is not sent under the other."""
    both = select(_DELIVERY.c.broadcast_id).where(_DELIVERY.c.contact_id == old, _DELIVERY.c.status != "waiting")
    connection.execute(
        delete(_DELIVERY).where(
            _DELIVERY.c.contact_id == new, _DELIVERY.c.status == "waiting", _DELIVERY.c.broadcast_id.in_(both)
        )
    )
    has = select(_DELIVERY.c.broadcast_id).where(_DELIVERY.c.contact_id == new)
    connection.execute(
        update(_DELIVERY)
        .where(_DELIVERY.c.contact_id == old, _DELIVERY.c.broadcast_id.not_in(has))
        .values(contact_id=new)
    )


def _take_notices(connection: Connection, old: str, new: str) -> None:
    """Let the open notices about a conversation lead to the other; whoever has one about it already needs no second."""
    opened = _NOTICE.c.resolved_at.is_(None)
    told = select(_NOTICE.c.user_id).where(_NOTICE.c.key == talk_key(new), opened)
    users = list(connection.scalars(told))
    about = (_NOTICE.c.key == talk_key(old)) & opened
    connection.execute(update(_NOTICE).where(about, _NOTICE.c.user_id.in_(users)).values(resolved_at=utcnow()))
    connection.execute(update(_NOTICE).where(about).values(key=talk_key(new)))


def _carry_lanes(connection: Connection, scope: Scope, item: Join, external: str, conversation_id: str) -> None:
    """Put what waits in the lanes of the other ids into those of the id that the person goes by: one line, in its order."""
    line = item.claim.line
    targets = {kind: key for key, kind in _lanes(item, external)}
    for kind, target in targets.items():
        sources = sorted(
            key for id_ in item.same.ids for key, its in _lanes(item, id_) if its == kind and key != target
        )
        table = INBOX if kind == "inbox" else OUTBOX
        values: dict[str, Any] = {} if kind == "inbox" else {"recipient": external, "conversation_id": conversation_id}
        waiting = table.c.status == "new" if kind == "inbox" else table.c.status.in_(("queued", "sending"))
        moved = connection.execute(
            update(table).where(table.c.lane.in_(sources), waiting).values(lane=target, **values)
        ).rowcount
        if values:
            connection.execute(update(table).where(table.c.lane == target, waiting).values(values))
        if moved:
            connection.execute(update(LANES).where(LANES.c.key.in_(sources)).values(pending=0))
            lanes.add(connection, {target: moved}, {target: line._replace(kind=kind)}, scope.now)
        if moved or target == item.claim.key:
            scope.places.filled.add(kind)


JOIN: Operation[Join, Joined | None] = Operation("join", 44, _join, _touched)
