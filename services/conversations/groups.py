"""Groups: many people write, and the bot knows only what is said to it: by its name, in answer to it, or as its command.

Of everything else nothing is kept. A group is one contact and one conversation, each topic of it one of its own; an answer is
shown as the reply to its question.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from services.channels.base import Inbound, Sender
from services.channels.telegram import is_group
from services.commands import COMMANDS
from services.i18n import translate
from services.text import one_line

if TYPE_CHECKING:
    from services.conversations.records import Talk

_SAID = frozenset({"message", "command", "contact", "edit"})
_NAME_CHARS = 60


def in_group(talk: Talk) -> bool:
    """Whether a talk is a group's."""
    return talk.channel_kind == "telegram" and is_group(talk.recipient)


def is_shared(talk: Talk) -> bool:
    """Whether others than the bot and a customer of its own see a talk: a group, or a chat of a business account."""
    return talk.channel_kind == "telegram" and not talk.recipient.isdigit()


def heard(event: Inbound, number: str, username: str) -> Inbound:
    """Return an event of a group as the bot of this number and username may know it.

    What is not for the bot has no text and no sender any more. A change of a message is let through, marked ``meant`` where it
    is for the bot: whether the message was is known later.
    """
    if event.kind not in _SAID:
        return event
    extra, own_name = event.extra, username.lower()
    addressee = str(extra.get("addressee") or "").lower()
    called = own_name and own_name in extra.get("mentions", ())
    meant = bool(called) or number in (*extra.get("named", ()), extra.get("replied"))
    if event.kind == "command" and addressee:
        meant = not own_name or addressee == own_name
    elif event.kind == "command":
        # Without a name it may be another bot's, unless it is one of ours.
        meant = meant or event.command in COMMANDS
    text = _without(event.text, own_name) if own_name else event.text
    if event.kind == "edit":
        return replace(event, text=text, extra={**extra, "meant": meant})
    if not meant:
        return Inbound("unsupported", event.recipient, Sender(""), type="overheard", reply=False)
    if event.kind == "contact":
        return replace(event, kind="message")
    if event.kind == "message" and event.type == "text" and not text:
        # Only called by its name.
        return replace(event, kind="command", command="help")
    return replace(event, text=text) if event.kind == "message" else event


def _without(text: str, username: str) -> str:
    return re.sub(rf"\s*@{re.escape(username)}\b[,:]?", "", text, flags=re.IGNORECASE).strip()


def face(event: Inbound) -> Sender:
    """Return whose contact an event belongs to: a group's own, or the sender's."""
    if "title" not in event.extra:
        return event.sender
    return Sender(event.recipient, str(event.extra["title"]), str(event.extra.get("username") or ""))


def signed(talk: Talk, event: Inbound, text: str) -> str:
    """Return what was said as the model is to see it: with a name where several people talk."""
    name = one_line(event.sender.name, _NAME_CHARS) if in_group(talk) else ""
    return f"{name}: {text}" if name else text


def reply_to(talk: Talk, event: Inbound) -> str:
    """Return the message that an answer has to be shown as the reply to, empty outside of groups."""
    return event.message_id if in_group(talk) else ""


def how_to_ask(talk: Talk, language: str, name: str) -> str:
    """Return the bot's first words in a group."""
    return translate(
        language,
        "Hello! 👋 I am {name}. Here I answer when you mention me – @{username} – or reply to my message.",
        name=name,
        username=talk.username,
    )
