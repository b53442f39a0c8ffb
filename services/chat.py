"""Asking over the web channel and waiting for the answer: the same way through the conveyor as every message."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from db import models
from db.base import new_id
from services import attachments, inbox, languages
from services.commands import COMMANDS
from services.errors import Invalid, Unavailable
from services.i18n import T
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core

_LOOK_AGAIN_S = 1.0
_TYPED_COMMAND = re.compile(rf"/({'|'.join(COMMANDS)})(?:\s+(\S{{1,40}}))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An answer. ``language`` of the answer; ``usage`` as the API shows it; ``messages``: everything that was said.

    ``files``: what goes with them, by message.
    """

    message_id: str
    text: str
    language: str
    answered: bool
    provider: str
    model: str | None
    sources: list[dict[str, Any]]
    usage: dict[str, Any]
    messages: list[models.Message] = field(default_factory=list)
    files: Mapping[str, Sequence[models.Attachment]] = field(default_factory=dict)


async def ask(
    core: Core,
    channel: models.Channel,
    bot: models.Bot,
    *,
    contact: str,
    text: str = "",
    command: str = "",
    args: str = "",
    name: str = "",
    file: Mapping[str, Any] | None = None,
    language: str | None = None,
    language_code: str | None = None,
    on_event: Callable[[str, Any], None] | None = None,
    timeout_s: float = 60,
) -> ChatReply | None:
    """Send a customer's message through the web channel and wait until it is answered. A command may be typed as a text.

    ``file``: an upload, as :class:`services.channels.web.WebChannel` reads it; with one there need not be a text.
    ``on_event(kind, data)``: ``delta`` with a piece of the text, ``restart`` when the pieces so far are void. Returns None when
    nothing was said (a person has taken the talk over). Raises ``Invalid`` for an unusable text and ``Unavailable`` when no
    answer came in time: the message is stored and will be answered all the same.
    """
    limit = core.settings.limits.message_chars
    contact = one_line(contact, 120)
    if not contact:
        raise Invalid(T("Say who is writing."), field="contact")
    text = clean(text).strip()
    if not command and (typed := _TYPED_COMMAND.fullmatch(text)):
        text, command, args = "", typed[1].lower(), typed[2] or ""
    if not text and not command and file is None:
        raise Invalid(T("Write a message first."), field="text")
    if len(text) > limit:
        raise Invalid(T("A message may have at most {n} characters.", n=limit), field="text")
    external_id = new_id()
    update: dict[str, Any] = {
        "id": external_id,
        "contact": contact,
        "name": one_line(name, 200),
        "text": text,
        "command": command,
        "args": args,
        "language": language,
        "language_code": language_code,
    }
    if file is not None:
        update["file"] = dict(file)
    card = inbox.ChannelCard(channel.id, "web", bot.id, bot.owner_id, "", channel.status)
    async with core.bell.listen(f"ask:{channel.id}:{external_id}", limit=2000) as events:
        await inbox.accept_update(core, card, update, json.dumps(update))
        try:
            async with asyncio.timeout(timeout_s):
                ids = await _wait(core, channel.id, external_id, events, on_event)
        except TimeoutError:
            raise Unavailable(
                T("The answer is taking longer than usual. Your message is saved; the answer will appear here.")
            ) from None
    async with core.db.read() as session:
        messages = list(
            await session.scalars(select(models.Message).where(models.Message.id.in_(ids)).order_by(models.Message.id))
        )
        files = await attachments.of_messages(session, ids)
        # What the bot leaves aside (it is stopped, there is too much) gets a line that is no answer.
        skipped = await session.scalar(
            select(models.Message.status == "skipped")
            .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
            .where(models.Conversation.channel_id == channel.id, models.Message.external_id == external_id)
        )
    if not messages:
        return None
    last = next((message for message in reversed(messages) if message.author == "bot"), messages[-1])
    empty = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": "0"}
    usage = last.usage if isinstance(last.usage, dict) and "cost_usd" in last.usage else empty
    return ChatReply(
        last.id,
        last.text,
        last.language or language or languages.detect(last.text).language or bot.languages[0],
        bool(last.answered) if last.author == "bot" else not skipped,
        last.provider or "extractive",
        last.model,
        last.sources or [],
        usage,
        messages,
        files,
    )


async def _wait(
    core: Core,
    channel_id: str,
    external_id: str,
    events: asyncio.Queue[Any],
    on_event: Callable[[str, Any], None] | None,
) -> list[str]:
    """Return the ids of what was said. Other processes are heard through the bell, and where there is none in the rows."""
    while True:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                event = await events.get()
        except TimeoutError:
            ids = await _answered(core, channel_id, external_id)
            if ids is not None:
                return ids
            continue
        if event["kind"] == "done":
            return list(event["messages"])
        if event["kind"] == "failed":
            ids = await _answered(core, channel_id, external_id)
            return ids or []
        if on_event is not None:
            on_event(event["kind"], event)


async def _answered(core: Core, channel_id: str, external_id: str) -> list[str] | None:
    """Return the messages that followed an incoming one, None while it is not dealt with."""
    async with core.db.read() as session:
        status = await session.scalar(
            select(models.InboxItem.status).where(
                models.InboxItem.channel_id == channel_id, models.InboxItem.external_id == external_id
            )
        )
        if status == "new":
            return None
        incoming = (
            await session.execute(
                select(models.Message.id, models.Message.conversation_id)
                .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
                .where(models.Conversation.channel_id == channel_id, models.Message.external_id == external_id)
            )
        ).one_or_none()
        if incoming is None:
            return []
        return list(
            await session.scalars(
                select(models.Message.id)
                .where(
                    models.Message.conversation_id == incoming[1],
                    models.Message.id > incoming[0],
                    models.Message.author != "customer",
                )
                .order_by(models.Message.id)
            )
        )
