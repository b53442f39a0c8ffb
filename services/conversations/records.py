"""What is stored of a talk, many talks at a time.

The conveyor takes a lane of updates through three steps: :data:`RECEIVE` stores who wrote what, ``rules.respond`` decides the
answers with no transaction open, :data:`SETTLE` stores replies, the talk's next state, usage and outgoing messages in one
transaction that counts only while the lane is still ours.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Integer, and_, bindparam, case, func, or_, select, tuple_, update

from db import direct, models
from db.base import insert_for, new_id, table_of, utcnow
from services import endpoints, lanes, quotas, ratings
from services.allowances import BOTS_BEFORE, Allowances, Terms
from services.channels.base import Delivery, Inbound, Outgoing, Sender
from services.channels.telegram import is_group, place_of
from services.conversations import business, edits, files, groups, networks, optouts, reasons
from services.conversations.persons import ALIASED_KINDS, Same, same_people
from services.lanes import Claimed, Line, Release
from services.notices import Occurrence, open_in, talk_key
from services.text import clean, one_line
from services.writer import Operation, Scope

CHANNEL = table_of(models.Channel)
BOT = table_of(models.Bot)
USER = table_of(models.User)
CONTACT = table_of(models.Contact)
CONVERSATION = table_of(models.Conversation)
MESSAGE = table_of(models.Message)
USAGE = table_of(models.AIUsage)
UNANSWERED = table_of(models.UnansweredQuestion)

_TELLING_KINDS = ALIASED_KINDS | networks.ECHOING_KINDS
"""Networks that tell of messages which others than the bot have sent."""
_MORE = ("story", "story_url", "reply_to", "payload", "post")
"""What is kept of a message besides its text."""
RECENT_TURNS = 20
RECENT_CHARS = 1500
"""So much of a turn is kept for the model."""
CALLED: Mapping[str, Any] = {"called": True}
"""In ``Message.extra`` of what the customer was told when the conversation came to wait for a person."""
RETURNED = "returned"
"""The kind of an event of our own: a person gave the talk back to the bot, or left it for too long."""
RESTORED = "restored"
"""The ``request_id`` of updates that waited in a backup: they are kept and get no answer, which may have been given since."""
HEARD_EVERY_S = 60.0
STORED_CHARS = 8000
"""So much of a message's text is kept; Telegram's own limit is 4,096."""


class LostLane(Exception):
    """The lane's lease ran out and another worker took it: this result does not count."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A claimed lane with its updates in the product's words: ``(item, event)``."""

    claim: Claimed
    channel_id: str
    recipient: str
    events: tuple[tuple[Mapping[str, Any], Inbound], ...]
    allowances: Allowances


@dataclass(frozen=True, slots=True)
class BotCard:
    """A bot as answering needs it."""

    id: str
    owner_id: str
    name: str
    system_prompt: str
    languages: tuple[str, ...]
    status: str
    knowledge_version: int
    openai_key: str | None
    deleted: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    silenced: str = ""
    """Why the owner's plan keeps a bot that was not stopped from answering: see :mod:`services.allowances`."""
    listened: bool = False
    """A server of the owner's is told what happens: see :mod:`services.endpoints`."""


@dataclass(slots=True)
class Talk:
    """Everything about one talk that the rules need."""

    claim: Claimed
    channel_id: str
    channel_kind: str
    credentials: str | None
    bot: BotCard | None
    recipient: str
    contact_id: str = ""
    language: str | None = None
    language_chosen: bool = False
    conversation_id: str = ""
    status: str = "bot"
    recent: list[list[str]] = field(default_factory=list)
    messages: list[tuple[str | None, Mapping[str, Any], Inbound]] = field(default_factory=list)
    usage: list[Mapping[str, Any]] = field(default_factory=list)
    """Rows of the calls that were made for it; they are kept whatever becomes of the answer."""
    username: str = ""
    """The bot's own name on the network."""
    unread: bool = False
    """It lies in a chat where the bot may not read; nothing of it is stored."""
    same: Same | None = None
    """Who else this is: that is settled first, and nothing is stored before."""
    opted_out: bool = False
    """Wants no broadcasts."""
    returning: bool = False
    """A person gave it back, and the bot has not yet seen what they left."""
    terms: Terms | None = None
    """What the owner's plan allows now."""
    reserved: dict[str, str] = field(default_factory=dict)
    """Messages that are counted in a month's allowance, each with the month; those that no answer comes of are uncounted."""
    counted: set[str] = field(default_factory=set)
    """Of these, as many as were answered."""
    refused: bool = False
    """The month's messages are used up."""
    told: bool = False
    """The owner is to be told that few or none are left."""


def _kept(event: Inbound) -> bool:
    """Whether an event becomes a message of the conversation."""
    return event.kind in ("message", "command", "contact", "echo")


def _opens(event: Inbound, kind: str) -> bool:
    """Whether an event of a channel of this kind may begin a talk with somebody unknown."""
    if event.kind == "edit":
        return edits.stands(event, utcnow())
    if kind in _TELLING_KINDS:
        return _kept(event) or event.kind == "callback"
    if kind == "telegram" and not event.recipient.isdigit():
        return _kept(event) or event.kind == "added"
    return event.kind != "connection"


def _heard(item: Incoming, channel: Mapping[str, Any], connected: Mapping[tuple[str, str], int]) -> Incoming | None:
    """Return what the bot may know of what came: None where it may not read at all. A change goes into what came with it."""
    events = item.events
    if channel["kind"] == "telegram" and is_group(item.recipient):
        number, username = channel["number"] or "", channel["username"] or ""
        events = tuple((row, groups.heard(event, number, username)) for row, event in events)
    elif channel["kind"] == "telegram" and (connection := place_of(item.recipient).connection):
        user_id = connected.get((item.channel_id, connection))
        if user_id is None:
            return None
        events = tuple((row, business.heard(event, user_id)) for row, event in events)
    return replace(item, events=edits.fold_in(events))


_NOT_THEIRS = frozenset({"blocked", "status", "echo", "account_error", "system", RETURNED})
"""What does not show that somebody can be written to again."""
_WRITTEN = frozenset({"message", "command", "contact", "callback"})
"""What lets us write freely again where a network limits that."""


def _text(event: Inbound, limit: int) -> str:
    if event.kind == "command" and not event.text:
        return f"/{event.command} {event.args}".strip()
    return clean(event.text, limit)


# Kept, as in services.lanes: putting a statement together costs several times what SQLite needs to run it.
_CHANNELS = (
    select(
        CHANNEL.c.id.label("channel_id"),
        CHANNEL.c.kind,
        CHANNEL.c.credentials,
        CHANNEL.c.external_id.label("number"),
        CHANNEL.c.username,
        BOT.c.id,
        BOT.c.owner_id,
        BOT.c.name,
        BOT.c.system_prompt,
        BOT.c.languages,
        BOT.c.status,
        BOT.c.knowledge_version,
        BOT.c.openai_key,
        BOT.c.deleted_at,
        BOT.c.settings.label("bot_settings"),
        CHANNEL.c.last_update_at,
        CHANNEL.c.settings,
        CHANNEL.c.external_id.label("account"),
        CHANNEL.c.parent_id.label("above"),
        USER.c.banned_at,
        USER.c.role,
        USER.c.created_at.label("owner_since"),
        USER.c.trial_at,
        USER.c.subscription_version,
        BOTS_BEFORE.label("bots_before"),
        endpoints.LISTENED.label("listened"),
    )
    .outerjoin(BOT, BOT.c.id == CHANNEL.c.bot_id)
    .outerjoin(USER, USER.c.id == BOT.c.owner_id)
    .where(CHANNEL.c.id.in_(bindparam("p_ids", expanding=True)))
)
_WITH_TALKS = select(
    CONTACT.c.id.label("contact_id"),
    CONTACT.c.channel_id,
    CONTACT.c.external_id,
    CONTACT.c.alias,
    CONTACT.c.language,
    CONTACT.c.language_chosen,
    CONTACT.c.unreachable_since,
    CONTACT.c.opted_out_at,
    CONVERSATION.c.id.label("conversation_id"),
    CONVERSATION.c.status,
    CONVERSATION.c.recent,
    CONVERSATION.c.person_at,
).join(CONVERSATION, CONVERSATION.c.contact_id == CONTACT.c.id)
_CONTACTS = _WITH_TALKS.where(
    tuple_(CONTACT.c.channel_id, CONTACT.c.external_id).in_(bindparam("p_pairs", expanding=True))
)
_CONTACTS_BY_ALIAS = _WITH_TALKS.where(
    tuple_(CONTACT.c.channel_id, CONTACT.c.alias).in_(bindparam("p_pairs", expanding=True))
)
# What a person left comes before what was written later, also where the talk's return is not among the items in hand.
_RETURNING = select(lanes.INBOX.c.lane).where(
    lanes.INBOX.c.lane.in_(bindparam("p_lanes", expanding=True)),
    lanes.INBOX.c.status == "new",
    lanes.INBOX.c.external_id.startswith(f"{RETURNED}:"),
)
_HEARD = update(CHANNEL).where(CHANNEL.c.id == bindparam("p_id")).values(last_update_at=bindparam("p_at"))
_INBOUND = bindparam("p_inbound", type_=CONVERSATION.c.last_inbound_at.type)
_ASKED = bindparam("p_asked", type_=CONVERSATION.c.unanswered_since.type)
_TOUCHING = (
    update(CONVERSATION)
    .where(CONVERSATION.c.id == bindparam("p_id"))
    .values(
        last_message_at=func.coalesce(
            bindparam("p_at", type_=CONVERSATION.c.last_message_at.type), CONVERSATION.c.last_message_at
        ),
        last_text=func.coalesce(bindparam("p_text", type_=CONVERSATION.c.last_text.type), CONVERSATION.c.last_text),
        # Deliveries come in any order: an old message does not close what a later one opened.
        last_inbound_at=case(
            (CONVERSATION.c.last_inbound_at > _INBOUND, CONVERSATION.c.last_inbound_at),
            else_=func.coalesce(_INBOUND, CONVERSATION.c.last_inbound_at),
        ),
        unanswered_since=func.coalesce(CONVERSATION.c.unanswered_since, _ASKED),
    )
)
_NEW_CONTACT, _NEW_CONVERSATION, _NEW_MESSAGE = CONTACT.insert(), CONVERSATION.insert(), MESSAGE.insert()


def _receive(connection: Connection, scope: Scope, items: Sequence[Incoming]) -> list[Talk | Exception]:
    return store(connection, items, lanes.ours(connection, scope.holder, [item.claim for item in items]))


def store(connection: Connection, items: Sequence[Incoming], held: Container[str]) -> list[Talk | Exception]:
    """Store who wrote what in the lanes that are ``held``; the others are lost."""
    channels = {
        row["channel_id"]: row
        for found in direct.rows(connection, _CHANNELS, {"p_ids": sorted({item.channel_id for item in items})})
        for row in (found._asdict(),)
    }
    contacts = _contacts(connection, items, channels)
    same = same_people(connection, items, {id_: row["kind"] for id_, row in channels.items()}, contacts)
    items = [_understood(connection, item, channels.get(item.channel_id), contacts) for item in items]
    results: list[Talk | Exception] = []
    terms = items[0].allowances.terms(connection, channels.values()) if items else {}
    # What a model may be asked about, by the id of its new message.
    asking: dict[str, Talk] = {}
    new_contacts: list[dict[str, Any]] = []
    new_conversations: list[dict[str, Any]] = []
    new_messages: list[dict[str, Any]] = []
    new_files: list[dict[str, Any]] = []
    touched: list[dict[str, Any]] = []
    reached: list[dict[str, Any]] = []
    happened: list[endpoints.Happening] = []
    known_before = _stored_before(connection, items, contacts)
    connected = business.usable(connection, [(item.channel_id, item.recipient) for item in items])
    returning = _returning(connection, items, contacts)
    moment = utcnow()
    overtaken = edits.overtaken(
        connection,
        [
            (contacts[key]["conversation_id"], item.events)
            for item in items
            if (key := (item.channel_id, item.recipient)) in contacts
        ],
        moment,
    )
    for item in items:
        channel = channels.get(item.channel_id)
        if item.claim.key not in held:
            results.append(LostLane(item.claim.key))
            continue
        bot, owned = None, terms.get(channel["owner_id"] or "") if channel is not None else None
        if channel is not None and channel["id"] is not None and owned is not None:
            silenced = owned.silences(channel["kind"], channel["bots_before"])
            status = "silenced" if silenced and channel["status"] == "active" else channel["status"]
            bot = BotCard(
                channel["id"],
                channel["owner_id"],
                channel["name"],
                channel["system_prompt"],
                owned.languages(channel["languages"]),
                "stopped" if channel["banned_at"] is not None else status,
                channel["knowledge_version"],
                channel["openai_key"],
                channel["deleted_at"] is not None,
                channel["bot_settings"] or {},
                silenced,
                bool(channel["listened"]) and channel["banned_at"] is None,
            )
        talk = Talk(
            item.claim,
            item.channel_id,
            channel["kind"] if channel is not None else "",
            channel["credentials"] if channel is not None else None,
            bot,
            item.recipient,
            username=(channel["username"] or "") if channel is not None else "",
            terms=owned,
        )
        results.append(talk)
        if channel is None or bot is None or bot.deleted:
            talk.messages = [(None, row, event) for row, event in item.events]
            continue
        if (twin := same.get(item.claim.key)) is not None:
            talk.same, talk.messages = twin, [(None, row, event) for row, event in item.events]
            continue
        read = _heard(item, channel, connected)
        if read is None:
            talk.unread = True
            talk.messages = [(None, row, event) for row, event in item.events]
            continue
        item = read
        opening = [event for _, event in item.events if _opens(event, talk.channel_kind)]
        sender = groups.face(next((event for event in reversed(opening) if event.kind != "echo"), item.events[-1][1]))
        known = contacts.get((item.channel_id, item.recipient))
        if known is None and not opening:
            talk.messages = [(None, row, event) for row, event in item.events]
            continue
        if known is None:
            talk.contact_id, talk.conversation_id = new_id(), new_id()
            new_contacts.append(
                {
                    "id": talk.contact_id,
                    "bot_id": bot.id,
                    "channel_id": item.channel_id,
                    "external_id": item.recipient,
                    "alias": sender.alias[:128] or None,
                    "name": one_line(sender.name, 200),
                    "username": one_line(sender.username, 64),
                    "phone": sender.phone[:32] or None,
                    "language": None,
                    "language_chosen": False,
                    "source": next((str(e.extra["source"])[:128] for e in opening if e.extra.get("source")), ""),
                    "created_at": moment,
                }
            )
            new_conversations.append(
                {
                    "id": talk.conversation_id,
                    "bot_id": bot.id,
                    "channel_id": item.channel_id,
                    "contact_id": talk.contact_id,
                    "status": "bot",
                    "recent": [],
                    "last_message_at": moment,
                    "last_text": "",
                    "created_at": moment,
                }
            )
            if bot.listened:
                happened.append(_told(talk, endpoints.NEW_CONTACT, **_about(new_contacts[-1])))
        else:
            talk.contact_id, talk.conversation_id = known["contact_id"], known["conversation_id"]
            talk.language, talk.language_chosen = known["language"], known["language_chosen"]
            talk.opted_out = known["opted_out_at"] is not None
            talk.status, talk.recent = known["status"], list(known["recent"] or [])
            talk.returning = item.claim.key in returning
            _know_by_both(connection, known, item.recipient, sender)
            if known["unreachable_since"] is not None and any(
                event.kind not in _NOT_THEIRS for _, event in item.events
            ):
                reached.append({"p_id": talk.contact_id})
        last = ""
        written: dt.datetime | None = None
        asked = arrived = asks = False
        events, changed = item.events, dict[int, str]()
        if any(event.kind in edits.KINDS for _, event in events):
            chars = {"chars": STORED_CHARS, "turn_chars": RECENT_CHARS}
            events, changed = edits.apply(connection, talk, events, moment, **chars)
        for row, event in events:
            message_id: str | None = None
            if (talk.conversation_id, event.message_id) in overtaken and not event.extra.get("edited"):
                event = Inbound("unsupported", event.recipient, event.sender, type="overtaken", reply=False)
            if event.kind in _WRITTEN and event.type != "comment":
                at = min(event.at or moment, moment)
                written = at if written is None else max(written, at)
            if _kept(event):
                before = known_before.get((talk.conversation_id, row["external_id"]))
                if before is not None and before.quota_month is not None:
                    talk.reserved[before.id] = before.quota_month
                message_id = changed.get(row["id"]) or (before.id if before is not None else None)
                if message_id is None:
                    message_id = new_id()
                    if not asks and not talk.reserved and _asks(talk, bot, event):
                        asks, asking[message_id] = True, talk
                    text, arrived = _text(event, STORED_CHARS), True
                    last = text or last
                    ours = event.kind == "echo"
                    asked = asked or (not ours and event.reply and event.type != "comment")
                    new_messages.append(
                        {
                            "id": message_id,
                            "conversation_id": talk.conversation_id,
                            "author": "operator" if ours else "customer",
                            "kind": "text" if event.kind == "command" else event.type[:16],
                            "text": text,
                            "status": "sent" if ours else "received",
                            "external_id": row["external_id"],
                            "extra": {
                                **(edits.extra_of(event, row) or {}),
                                **{key: told for key in _MORE if (told := event.extra.get(key))},
                                **(files.more(event) or {}),
                            }
                            or None,
                            "edited_at": moment if event.extra.get("edited") else None,
                            "created_at": moment,
                            "quota_month": None,
                        }
                    )
                    new_files += files.rows(bot.id, message_id, event, moment)
                    if bot.listened and not event.extra.get("late"):
                        happened.append(_told_of_message(talk, new_messages[-1], sender))
            talk.messages.append((message_id, row, event))
        if arrived or written is not None:
            said = {"p_at": moment if arrived else None, "p_text": (one_line(last, 200) or "📎") if arrived else None}
            waits = {"p_asked": moment if asked else None}
            touched.append({"p_id": talk.conversation_id, "p_inbound": written, **said, **waits})
    heard = [
        {"p_id": id_, "p_at": moment}
        for id_, row in channels.items()
        if row["last_update_at"] is None or (moment - row["last_update_at"]).total_seconds() > HEARD_EVERY_S
    ]
    if heard:
        direct.change(connection, _HEARD, heard)
    if new_contacts:
        direct.change(connection, _NEW_CONTACT, new_contacts)
        direct.change(connection, _NEW_CONVERSATION, new_conversations)
    _reserve(connection, asking, {row["id"]: row for row in new_messages})
    if new_messages:
        direct.change(connection, _NEW_MESSAGE, new_messages)
    if new_files:
        direct.change(connection, files.NEW_ATTACHMENT, new_files)
    if touched:
        direct.change(connection, _TOUCHING, touched)
    if reached:
        connection.execute(
            update(CONTACT).where(CONTACT.c.id == bindparam("p_id")).values(unreachable_since=None), reached
        )
    endpoints.tell_in(connection, happened)
    return results


def _told(talk: Talk, event: str, **more: Any) -> endpoints.Happening:
    """Return something that happened in a talk as its owner's servers are told."""
    owner_id, bot_id = (talk.bot.owner_id, talk.bot.id) if talk.bot is not None else ("", "")
    where = endpoints.place(
        bot_id, talk.channel_id, talk.channel_kind, talk.conversation_id, talk.contact_id, talk.recipient
    )
    return endpoints.Happening(owner_id, event, {**where, **more})


def _about(contact: Mapping[str, Any]) -> dict[str, Any]:
    return {"contact_name": contact["name"], "username": contact["username"], "source": contact["source"]}


def _told_of_message(talk: Talk, row: Mapping[str, Any], sender: Sender) -> endpoints.Happening:
    if row["author"] != "customer":
        return _told(talk, endpoints.ANSWERED, message=endpoints.message(row))
    said = endpoints.message(row)
    return _told(talk, endpoints.RECEIVED, contact_name=one_line(sender.name, 200), message=said)


def _asks(talk: Talk, bot: BotCard, event: Inbound) -> bool:
    """Whether an answer to an event may be one that counts; what no answer comes of after all is uncounted."""
    return (
        event.kind == "message"
        and event.reply
        and bot.status == "active"
        and talk.status != "human"
        and not quotas.is_free(talk)
        and bool(event.text.strip() or event.files)
    )


def _reserve(connection: Connection, asking: Mapping[str, Talk], messages: Mapping[str, dict[str, Any]]) -> None:
    """Count what an answer is due to in its owner's month, one a talk, where all of an owner's fit."""
    wanted: dict[str, tuple[int, Terms]] = {}
    for talk in asking.values():
        if talk.bot is not None and talk.terms is not None:
            known, _ = wanted.get(talk.bot.owner_id, (0, None))
            wanted[talk.bot.owner_id] = known + 1, talk.terms
    taken = quotas.take_many(connection, wanted)
    for message_id, talk in asking.items():
        if talk.bot is not None and talk.terms is not None and talk.bot.owner_id in taken:
            talk.reserved[message_id] = messages[message_id]["quota_month"] = talk.terms.month


def _returning(
    connection: Connection, items: Sequence[Incoming], contacts: Mapping[tuple[str, str], Any]
) -> Container[str]:
    """Return the lanes whose talks were given back. Only of talks that a person took part in is this asked."""
    led = [
        item.claim.key
        for item in items
        if (known := contacts.get((item.channel_id, item.recipient))) is not None
        and known["person_at"] is not None
        and known["status"] != "human"
    ]
    return {row.lane for row in direct.rows(connection, _RETURNING, {"p_lanes": sorted(led)})} if led else ()


def _understood(
    connection: Connection, item: Incoming, channel: Mapping[str, Any] | None, contacts: Mapping[tuple[str, str], Any]
) -> Incoming:
    """Return a lane with its events as they are to be taken, see :mod:`services.conversations.networks`."""
    if channel is None or channel["kind"] not in networks.ECHOING_KINDS:
        return item
    known = contacts.get((item.channel_id, item.recipient))
    talk, lane = known["conversation_id"] if known is not None else "", out_lane(item.channel_id, item.recipient)
    place = networks.Place(channel, item.recipient, talk, lane)
    return replace(item, events=networks.understood(connection, place, item.events))


def _contacts(
    connection: Connection, items: Sequence[Incoming], channels: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], Any]:
    """Return who is known of the senders, by channel and the id that they wrote under."""
    pairs = sorted({(item.channel_id, item.recipient) for item in items})
    rows = direct.rows(connection, _CONTACTS, {"p_pairs": pairs})
    found = {(row.channel_id, row.external_id): row._asdict() for row in rows}
    aliased = [
        item
        for item in items
        if (item.channel_id, item.recipient) not in found
        and channels.get(item.channel_id, {}).get("kind") in ALIASED_KINDS
    ]
    if not aliased:
        return found
    # Wrote with a number before and hides it now.
    by_alias = direct.rows(
        connection, _CONTACTS_BY_ALIAS, {"p_pairs": sorted({(item.channel_id, item.recipient) for item in aliased})}
    )
    found |= {(row.channel_id, row.alias): row._asdict() for row in by_alias}
    # Hid the number before and shows it now.
    shown = {
        (item.channel_id, event.sender.alias): item.recipient
        for item in aliased
        for _, event in item.events
        if event.sender.alias
    }
    if shown:
        rows = direct.rows(connection, _CONTACTS_BY_ALIAS, {"p_pairs": sorted(shown)})
        found |= {(row.channel_id, shown[row.channel_id, row.alias]): row._asdict() for row in rows}
        rows = direct.rows(connection, _CONTACTS, {"p_pairs": sorted(shown)})
        found |= {(row.channel_id, shown[row.channel_id, row.external_id]): row._asdict() for row in rows}
    return found


def _know_by_both(connection: Connection, known: Mapping[str, Any], recipient: str, sender: Sender) -> None:
    """Keep both ids of somebody who wrote under one of them before and under both now."""
    if not sender.alias or (known["external_id"], known["alias"]) == (recipient, sender.alias):
        return
    connection.execute(
        update(CONTACT)
        .where(CONTACT.c.id == known["contact_id"])
        .values(
            external_id=recipient,
            alias=sender.alias[:128],
            phone=func.coalesce(sender.phone[:32] or None, CONTACT.c.phone),
        )
    )


def move_contact(connection: Connection, channel_id: str, recipient: str, moved_to: str, **more: str) -> None:
    """Write down a contact's new id, and ``more`` that changes with it.

    The new one may have written first: then it is a contact of its own and this one stays.
    """
    other = CONTACT.alias("other")
    taken = select(other.c.id).where(other.c.channel_id == channel_id, other.c.external_id == moved_to)
    connection.execute(
        update(CONTACT)
        .where(CONTACT.c.channel_id == channel_id, CONTACT.c.external_id == recipient, ~taken.exists())
        .values(external_id=moved_to, **more)
    )


def _stored_before(
    connection: Connection, items: Sequence[Incoming], contacts: Mapping[tuple[str, str], Any]
) -> dict[tuple[str, str], Any]:
    """Messages that an earlier attempt, failed or given back, has stored already."""
    pairs = sorted(
        {
            (contacts[key]["conversation_id"], row["external_id"])
            for item in items
            if (key := (item.channel_id, item.recipient)) in contacts
            for row, _ in item.events
            if row["attempts"] > 0 or row["error"]
        }
    )
    if not pairs:
        return {}
    rows = connection.execute(
        select(MESSAGE.c.id, MESSAGE.c.conversation_id, MESSAGE.c.external_id, MESSAGE.c.quota_month).where(
            tuple_(MESSAGE.c.conversation_id, MESSAGE.c.external_id).in_(pairs),
            MESSAGE.c.author.in_(("customer", "operator")),
        )
    )
    return {(row.conversation_id, row.external_id): row for row in rows}


RECEIVE: Operation[Incoming, Talk] = Operation("receive", 30, _receive, lambda item: lanes.touched(item.claim))


@dataclass(slots=True)
class Reply:
    """One message of ours. ``outgoing`` is what the channel sends, ``columns`` are more of the message's row.

    ``files``: documents of the knowledge base that go with it; see :func:`files.hand_out`.
    """

    text: str
    author: str = "bot"
    outgoing: tuple[Outgoing, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    files: Sequence[files.Given] = ()


@dataclass(slots=True)
class Outcome:
    """What became of a claimed lane.

    ``closed``: items that are finished; ``returned``: items that were not touched, whose attempt does not count; ``incoming``:
    new status by message id; ``turns``: what was said, added to what the talk holds by then (a person may have written
    meanwhile); ``status``: None leaves what it is by then; ``reason``: why it is ``waiting``; ``notices``: what the owner
    should hear of; ``deliveries``: what the network told of messages of ours; ``moved_to``: the customer's new id there;
    ``by_person``: a person answered by other means, and ``left``: the customer has written since; ``ratings``: thumbs by
    message id; ``called``: it came to wait for a person, which its last reply keeps for the statistics; ``opted_out``: the
    customer wants no broadcasts, or wants them again.
    """

    talk: Talk
    closed: list[int]
    returned: list[int] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    incoming: dict[str, str] = field(default_factory=dict)
    turns: list[list[str]] = field(default_factory=list)
    status: str | None = None
    reason: str | None = None
    language: str | None = None
    language_chosen: bool | None = None
    phone: str | None = None
    unreachable: bool | None = None
    unanswered: list[tuple[str, str, str]] = field(default_factory=list)
    notices: list[Occurrence] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    moved_to: str | None = None
    by_person: bool = False
    left: bool = False
    ratings: list[tuple[str, int]] = field(default_factory=list)
    called: bool = False
    opted_out: bool | None = None


_READ_RECENT = select(CONVERSATION.c.id, CONVERSATION.c.recent, CONVERSATION.c.status).where(
    CONVERSATION.c.id.in_(bindparam("p_ids", expanding=True))
)
_RECENT = {"sqlite": _READ_RECENT, "postgresql": _READ_RECENT.with_for_update()}
_BY_PERSON = bindparam("p_person", type_=CONVERSATION.c.person_at.type)
_SATISFIED = bindparam("p_satisfied", type_=Integer)
_LEFT = bindparam("p_left", type_=CONVERSATION.c.unanswered_since.type)
_STATUS = bindparam("p_status", type_=CONVERSATION.c.status.type)
_REASON = bindparam("p_reason", type_=CONVERSATION.c.waiting_reason.type)
_ANSWERED = (
    update(CONVERSATION)
    .where(CONVERSATION.c.id == bindparam("p_id"))
    .values(
        recent=bindparam("p_recent"),
        # Whoever took the talk over while the answer was made keeps it.
        status=case(
            (CONVERSATION.c.status == "human", CONVERSATION.c.status),
            else_=func.coalesce(_STATUS, CONVERSATION.c.status),
        ),
        waiting_reason=case(
            (or_(CONVERSATION.c.status == "human", _STATUS.is_(None)), CONVERSATION.c.waiting_reason),
            # Who asked for a person still does when the bot does not know something else.
            (and_(_REASON.is_not(None), CONVERSATION.c.waiting_reason == reasons.ASKED), reasons.ASKED),
            else_=_REASON,
        ),
        last_message_at=bindparam("p_at"),
        last_text=func.coalesce(bindparam("p_text", type_=CONVERSATION.c.last_text.type), CONVERSATION.c.last_text),
        # The bot's answer leaves nobody waiting but who waits for a person.
        unanswered_since=case(
            (_BY_PERSON.is_not(None), _LEFT),
            (CONVERSATION.c.status == "human", CONVERSATION.c.unanswered_since),
            (_SATISFIED == 1, None),
            else_=CONVERSATION.c.unanswered_since,
        ),
        person_at=func.coalesce(_BY_PERSON, CONVERSATION.c.person_at),
    )
)
_CONTACT_CHANGED = (
    update(CONTACT)
    .where(CONTACT.c.id == bindparam("p_id"))
    .values(
        language=bindparam("p_language"),
        language_chosen=bindparam("p_chosen"),
        phone=func.coalesce(bindparam("p_phone", type_=CONTACT.c.phone.type), CONTACT.c.phone),
        unreachable_since=bindparam("p_unreachable"),
    )
)
_SEEN_TO = update(MESSAGE).where(MESSAGE.c.id == bindparam("p_id")).values(status=bindparam("p_status"))
# Statuses arrive in any order and only ever forward; a failure is told of what was not delivered.
_RANK = {"queued": 0, "unknown": 1, "sent": 2, "delivered": 3, "failed": 3, "read": 4, "played": 5}
_FOLDING = (
    update(MESSAGE)
    .where(
        MESSAGE.c.conversation_id == bindparam("p_talk"),
        or_(MESSAGE.c.id == bindparam("p_ref"), MESSAGE.c.external_id == bindparam("p_external")),
        MESSAGE.c.author != "customer",
        MESSAGE.c.status != "failed",
        case(_RANK, value=MESSAGE.c.status, else_=9) < bindparam("p_rank"),
    )
    .values(
        status=bindparam("p_status"),
        external_id=func.coalesce(MESSAGE.c.external_id, bindparam("p_external")),
        error=bindparam("p_error"),
    )
)
_LAST_SEEN = MESSAGE.alias("last_seen")
_SEEN_BEFORE = (
    update(MESSAGE)
    .where(
        MESSAGE.c.conversation_id == bindparam("p_talk"),
        MESSAGE.c.author != "customer",
        MESSAGE.c.status.in_(("sent", "delivered")),
        MESSAGE.c.id
        <= select(func.max(_LAST_SEEN.c.id))
        .where(
            _LAST_SEEN.c.conversation_id == bindparam("p_talk"),
            or_(_LAST_SEEN.c.id == bindparam("p_ref"), _LAST_SEEN.c.external_id == bindparam("p_external")),
        )
        .scalar_subquery(),
    )
    .values(status=bindparam("p_status"))
)
_CLOSING = (
    update(lanes.INBOX)
    .where(lanes.INBOX.c.id.in_(bindparam("p_ids", expanding=True)))
    .values(status="done", payload="", error=None)
)
_NEW_USAGE, _NEW_OUTGOING = USAGE.insert(), lanes.OUTBOX.insert().returning(lanes.OUTBOX)


def _dealt(item: Outcome) -> bool:
    """Whether nothing of what came waits for anybody: it got an answer, or none is due, as for the other pictures of an album."""
    return bool(item.replies) or (bool(item.incoming) and set(item.incoming.values()) == {"answered"})


def _changes(item: Outcome) -> bool:
    """Whether an outcome changes its conversation."""
    return _dealt(item) or bool(item.turns) or item.status is not None


def _fall_silent(item: Outcome) -> None:
    """Take the bot's words back where a person took the talk over meanwhile; on the web somebody watches them come."""
    if item.talk.status == "human" or item.by_person or item.talk.channel_kind == "web":
        return
    item.replies, item.unanswered, item.status, item.reason = [], [], None, None
    item.talk.counted.clear()
    item.turns = [turn for turn in item.turns if turn[0] == "user"]
    item.notices = [each for each in item.notices if each.key != talk_key(item.talk.conversation_id)]
    item.incoming = {id_: "received" if was == "answered" else was for id_, was in item.incoming.items()}


def _settle(connection: Connection, scope: Scope, items: Sequence[Outcome]) -> list[bool | Exception]:
    releases = [Release(item.talk.claim, len(item.closed)) for item in items]
    held = lanes.release(connection, scope.holder, releases, scope.now)
    # Whether more waits in the lane.
    results: list[bool | Exception] = [
        held[key] > 0 if (key := item.talk.claim.key) in held else LostLane(key) for item in items
    ]
    valid = [item for item in items if item.talk.claim.key in held]
    moment = utcnow()
    messages: list[dict[str, Any]] = []
    conversations: list[dict[str, Any]] = []
    contacts: list[dict[str, Any]] = []
    incoming: list[dict[str, Any]] = []
    outbox: list[dict[str, Any]] = []
    closed: list[int] = []
    spoke = sorted({item.talk.conversation_id for item in valid if item.talk.conversation_id and _changes(item)})
    recent: dict[str, list[list[str]]] = {}
    led: set[str] = set()
    waited: set[str] = set()
    happened: list[endpoints.Happening] = []
    if spoke:
        for id_, turns, status in direct.rows(connection, _RECENT[connection.dialect.name], {"p_ids": spoke}):
            recent[id_] = turns or []
            if status == "human":
                led.add(id_)
            elif status == "waiting":
                waited.add(id_)
    for item in valid:
        if item.talk.conversation_id in led:
            _fall_silent(item)
    given = files.hand_out(connection, valid, moment)
    for item in valid:
        talk = item.talk
        closed += item.closed
        request_id = talk.claim.items[-1]["request_id"] if talk.claim.items else ""
        for reply in item.replies:
            messages.append(
                {
                    "id": reply.id,
                    "conversation_id": talk.conversation_id,
                    "author": reply.author,
                    "kind": "text",
                    "text": reply.text,
                    "status": "queued" if reply.outgoing else "sent",
                    "language": None,
                    "reply_to": None,
                    "answered": None,
                    "provider": None,
                    "model": None,
                    "sources": None,
                    "usage": None,
                    "extra": CALLED if item.called and reply is item.replies[-1] else None,
                    "created_at": moment,
                    **reply.columns,
                }
            )
            outbox += outbox_rows(talk.channel_id, talk.recipient, reply, talk.conversation_id, request_id, moment)
            if talk.bot is not None and talk.bot.listened and talk.conversation_id:
                happened.append(_told(talk, endpoints.ANSWERED, message=endpoints.message(messages[-1])))
        if talk.bot is not None and talk.bot.listened and talk.conversation_id:
            happened += _told_of_outcome(item, new=talk.conversation_id not in led | waited)
        incoming += [{"p_id": id_, "p_status": status} for id_, status in item.incoming.items()]
        if talk.conversation_id and _changes(item):
            conversations.append(
                {
                    "p_id": talk.conversation_id,
                    "p_recent": [*recent.get(talk.conversation_id, talk.recent), *item.turns][-RECENT_TURNS:],
                    "p_status": item.status,
                    "p_reason": item.reason,
                    "p_at": moment,
                    "p_text": one_line(item.replies[-1].text, 200) if item.replies else None,
                    "p_person": moment if item.by_person else None,
                    "p_left": moment if item.left else None,
                    "p_satisfied": int(_dealt(item) and (item.status or talk.status) in ("bot", "closed")),
                }
            )
        if talk.contact_id and (item.language is not None or item.phone is not None or item.unreachable is not None):
            contacts.append(
                {
                    "p_id": talk.contact_id,
                    "p_language": item.language or talk.language,
                    "p_chosen": talk.language_chosen if item.language_chosen is None else item.language_chosen,
                    "p_phone": item.phone,
                    "p_unreachable": moment if item.unreachable else None,
                }
            )
    if messages:
        direct.change(connection, _NEW_MESSAGE, messages)
    if given:
        direct.change(connection, files.NEW_ATTACHMENT, given)
    if conversations:
        direct.change(connection, _ANSWERED, conversations)
    if contacts:
        direct.change(connection, _CONTACT_CHANGED, contacts)
    if incoming:
        direct.change(connection, _SEEN_TO, incoming)
    folded = [
        {
            "p_talk": item.talk.conversation_id,
            "p_ref": told.ref[:32],
            "p_external": told.external_id[:128],
            "p_status": told.status,
            "p_error": clean(told.error, 300) if told.error else None,
            "p_rank": _RANK[told.status],
        }
        for item in valid
        for told in item.deliveries
        if item.talk.conversation_id
    ]
    if folded:
        direct.change(connection, _FOLDING, folded)
    seen = [
        {
            "p_talk": item.talk.conversation_id,
            "p_ref": told.ref,
            "p_external": told.external_id,
            "p_status": told.status,
        }
        for item in valid
        for told in item.deliveries
        if told.earlier and item.talk.conversation_id
    ]
    if seen:
        direct.change(connection, _SEEN_BEFORE, seen)
    for item in valid:
        if item.moved_to:
            phone = {"phone": f"+{item.moved_to}"} if item.moved_to.isdigit() else {}
            move_contact(connection, item.talk.channel_id, item.talk.recipient, item.moved_to, **phone)
    # Also where the lane is lost: the calls were made.
    _keep_usage(connection, [row for item in items for row in item.talk.usage])
    _keep_unanswered(connection, valid, moment)
    _settle_quotas(connection, valid)
    ratings.keep(connection, [(item.talk.conversation_id, *rated) for item in valid for rated in item.ratings], moment)
    wishes = [(item.talk.contact_id, item.opted_out) for item in valid if item.opted_out is not None]
    optouts.keep(connection, wishes, moment)
    open_in(connection, [occurrence for item in valid for occurrence in item.notices])
    if outbox:
        put_out(connection, scope, outbox, {item.talk.channel_id: item.talk.claim.line for item in valid})
    if closed:
        direct.change(connection, _CLOSING, [{"p_ids": closed}])
    endpoints.tell_in(connection, happened)
    _uncount(connection, [id_ for item in valid for id_ in item.returned])
    return results


def _told_of_outcome(item: Outcome, *, new: bool) -> list[endpoints.Happening]:
    """Return what an owner's servers are told besides messages. ``new``: nobody waited for a person before, nor is led by one."""
    found = [
        _told(item.talk, endpoints.UNANSWERED, question=question, language=language)
        for question, _, language in item.unanswered
    ]
    if new and item.status == "waiting":
        found.append(_told(item.talk, endpoints.WAITING, reason=item.reason))
    return found


def _settle_quotas(connection: Connection, items: Sequence[Outcome]) -> None:
    """What was answered stays counted in its month, what was not is given back."""
    backs: list[tuple[str, str, str]] = []
    given: dict[str, quotas.Given] = {}
    for talk in (item.talk for item in items):
        if talk.bot is None or talk.terms is None:
            continue
        for id_, month in talk.reserved.items():
            if id_ in talk.counted:
                given.setdefault(talk.bot.owner_id, quotas.Given(talk.terms)).months.append(month)
            else:
                backs.append((talk.bot.owner_id, id_, month))
    told = quotas.settle(connection, backs, given)
    for talk in (item.talk for item in items):
        talk.told = talk.bot is not None and talk.bot.owner_id in told


def _keep_usage(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        direct.change(connection, _NEW_USAGE, rows)


def _uncount(connection: Connection, untouched: Sequence[int]) -> None:
    """Take back the attempt that the claim counted for items nobody has touched."""
    if untouched:
        connection.execute(
            update(lanes.INBOX).where(lanes.INBOX.c.id.in_(untouched)).values(attempts=lanes.INBOX.c.attempts - 1)
        )


def out_lane(channel_id: str, recipient: str) -> str:
    """Return the lane of what is sent to one chat."""
    return f"out:{channel_id}:{recipient}"[:200]


def outbox_rows(
    channel_id: str, recipient: str, reply: Reply, conversation_id: str | None, request_id: str, moment: dt.datetime
) -> list[dict[str, Any]]:
    """Return the outbox rows of a reply, one a part."""
    return [
        {
            "lane": out_lane(channel_id, recipient),
            "channel_id": channel_id,
            "conversation_id": conversation_id,
            "message_id": reply.id,
            "recipient": recipient,
            "payload": orjson.dumps(part.to_payload()).decode(),
            "request_id": request_id,
            "created_at": moment,
        }
        for part in reply.outgoing
    ]


def put_out(connection: Connection, scope: Scope, rows: list[dict[str, Any]], lines: Mapping[str, Line]) -> None:
    """Insert outbox rows and count them into their lanes. ``lines``: of whom each channel is."""
    line = {row["lane"]: lines[row["channel_id"]]._replace(kind="outbox") for row in rows}
    lanes.lock(connection, line)
    stored: dict[str, list[Mapping[str, Any]]] = {}
    sets = [{"status": "queued", "attempts": 0, "unsure": False, **row} for row in rows]
    for row in sorted(direct.change_returning(connection, _NEW_OUTGOING, sets), key=lambda row: row.id):
        stored.setdefault(row.lane, []).append(row._asdict())
    lanes.fill(connection, scope.places, "outbox", stored, line, scope.now)


def _keep_unanswered(connection: Connection, items: Sequence[Outcome], moment: dt.datetime) -> None:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for item in items:
        if item.talk.bot is None:
            continue
        for question, folded, language in item.unanswered:
            row = rows.setdefault(
                (item.talk.bot.id, folded[:300]),
                {
                    "id": new_id(),
                    "bot_id": item.talk.bot.id,
                    "conversation_id": item.talk.conversation_id,
                    "question": question,
                    "folded": folded[:300],
                    "language": language,
                    "count": 0,
                    "created_at": moment,
                    "last_asked_at": moment,
                },
            )
            row["count"] += 1
    if not rows:
        return
    insert = insert_for(connection.dialect.name, UNANSWERED)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["bot_id", "folded"],
            set_={
                "count": UNANSWERED.c.count + insert.excluded.count,
                "last_asked_at": insert.excluded.last_asked_at,
                "answered_at": None,
            },
        ),
        [rows[key] for key in sorted(rows)],
    )


def _touched(item: Outcome) -> dict[str, Line]:
    keys = lanes.touched(item.talk.claim)
    if any(reply.outgoing for reply in item.replies):
        lane = out_lane(item.talk.channel_id, item.talk.recipient)
        keys[lane] = item.talk.claim.line._replace(kind="outbox")
    return keys


SETTLE: Operation[Outcome, bool] = Operation("settle", 40, _settle, _touched)


@dataclass(frozen=True, slots=True)
class Apology:
    """What goes with a message that is set aside: who can mend it is told, and the customer, if the talk is known."""

    notices: list[Occurrence]
    channel_id: str
    recipient: str
    conversation_id: str | None
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A lane whose handling raised. The oldest item is tried again later, or set aside for good where it is ``dead``.

    ``returned``: items that were not touched, whose attempt does not count. ``usage``: of the calls made in vain.
    """

    claim: Claimed
    error: str
    dead: bool
    delay_s: float
    apology: Apology | None = None
    returned: Sequence[int] = ()
    usage: Sequence[Mapping[str, Any]] = ()


def _fail(connection: Connection, scope: Scope, items: Sequence[Failed]) -> list[Exception | None]:
    releases = [Release(item.claim, 1 if item.dead else 0, 0.0 if item.dead else item.delay_s) for item in items]
    held = lanes.release(connection, scope.holder, releases, scope.now)
    results: list[Exception | None] = []
    for item in items:
        if item.claim.key not in held:
            results.append(LostLane(item.claim.key))
            continue
        first = item.claim.items[0]
        if item.dead:
            # What owners write to the factory bot may hold a token: it is not kept.
            connection.execute(
                update(lanes.INBOX)
                .where(lanes.INBOX.c.id == first["id"])
                .values(
                    status="dead", error=clean(item.error, 300), **({} if item.claim.line.owner_id else {"payload": ""})
                )
            )
            marked = connection.execute(
                update(MESSAGE)
                .where(
                    MESSAGE.c.external_id == first["external_id"],
                    MESSAGE.c.author == "customer",
                    MESSAGE.c.conversation_id.in_(
                        select(CONVERSATION.c.id).where(CONVERSATION.c.channel_id == first["channel_id"])
                    ),
                )
                .values(status="failed", error=clean(item.error, 300))
                .returning(MESSAGE.c.id, MESSAGE.c.quota_month)
            ).all()
            owner_id = item.claim.line.owner_id
            quotas.settle(connection, [(owner_id, row.id, row.quota_month) for row in marked if row.quota_month], {})
            if item.apology is not None:
                if item.apology.conversation_id is not None:
                    # It is said that a person will look at it.
                    told = endpoints.called(connection, item.apology.conversation_id, reasons.ERROR)
                    connection.execute(_CALLED, {"p_id": item.apology.conversation_id})
                    endpoints.tell_in(connection, told)
                _apologise(connection, scope, item.apology, item.claim)
        else:
            failure = {"error": clean(item.error, 300), "failures": lanes.INBOX.c.failures + 1}
            connection.execute(update(lanes.INBOX).where(lanes.INBOX.c.id == first["id"]).values(**failure))
        _uncount(connection, item.returned)
        results.append(None)
    _keep_usage(connection, [row for item in items if item.claim.key in held for row in item.usage])
    return results


_CALLED = (
    update(CONVERSATION)
    .where(CONVERSATION.c.id == bindparam("p_id"), CONVERSATION.c.status != "human")
    .values(
        status="waiting",
        waiting_reason=case((CONVERSATION.c.waiting_reason == reasons.ASKED, reasons.ASKED), else_=reasons.ERROR),
    )
)


def _apologise(connection: Connection, scope: Scope, apology: Apology, claim: Claimed) -> None:
    open_in(connection, apology.notices)
    reply, moment = apology.reply, utcnow()
    if reply is None:
        return
    row = {
        "id": reply.id,
        "conversation_id": apology.conversation_id,
        "author": reply.author,
        "text": reply.text,
        "status": "queued" if reply.outgoing else "sent",
        "extra": CALLED,
        "created_at": moment,
        **reply.columns,
    }
    direct.change(connection, _NEW_MESSAGE, [row])
    request_id = claim.items[0]["request_id"]
    rows = outbox_rows(apology.channel_id, apology.recipient, reply, apology.conversation_id, request_id, moment)
    if rows:
        put_out(connection, scope, rows, {apology.channel_id: claim.line})


def _fails(item: Failed) -> dict[str, Line]:
    keys = lanes.touched(item.claim)
    apology = item.apology
    if apology is not None and apology.reply is not None and apology.reply.outgoing:
        keys[out_lane(apology.channel_id, apology.recipient)] = item.claim.line._replace(kind="outbox")
    return keys


FAIL: Operation[Failed, None] = Operation("fail", 45, _fail, _fails)


@dataclass(frozen=True, slots=True)
class HandBack:
    """A lane to give back untouched, not to be taken again before ``delay_s`` have passed. ``usage``: see :class:`Failed`."""

    claim: Claimed
    delay_s: float = 0.0
    usage: Sequence[Mapping[str, Any]] = ()


def _hand_back(connection: Connection, scope: Scope, items: Sequence[HandBack]) -> list[Exception | None]:
    """Give inbox lanes back (the process stops): the claim's attempt does not count. The note says that messages are stored."""
    releases = [Release(item.claim, 0, item.delay_s) for item in items]
    held = lanes.release(connection, scope.holder, releases, scope.now)
    ids = [row["id"] for item in items if item.claim.key in held for row in item.claim.items]
    if ids:
        connection.execute(
            update(lanes.INBOX)
            .where(lanes.INBOX.c.id.in_(ids))
            .values(attempts=lanes.INBOX.c.attempts - 1, error="given back")
        )
    # Of a lane that is no longer ours the outcome was stored after all, and with it what the calls cost.
    _keep_usage(connection, [row for item in items if item.claim.key in held for row in item.usage])
    return [None] * len(items)


HAND_BACK: Operation[HandBack, None] = Operation("hand_back", 46, _hand_back, lambda item: lanes.touched(item.claim))
