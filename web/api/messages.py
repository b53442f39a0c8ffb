"""The messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from db import models
from services import attachments, conversations
from web.api.base import Call, Routes
from web.api.chat import Source, Tokens
from web.api.files import FileAnswer, show_file
from web.api.wire import Answer, Body, Listing, Part, UtcMoment, Word

routes = Routes("Conversations")


class Pages(Part):
    """Which part of the conversation."""

    order: Annotated[Literal["asc", "desc"], Field(description="asc: oldest first")] = "asc"


class NewMessage(Body):
    """What a person writes to the customer."""

    text: Word


class MessageAnswer(Answer):
    """A message."""

    id: str
    author: Annotated[str, Field(description="customer, bot, operator or system")]
    kind: Annotated[str, Field(description="text, or what was sent instead: photo, voice, …")]
    text: str
    language: str | None
    status: Annotated[
        str,
        Field(
            description="of ours: queued, sent, delivered, read, failed, unknown; of a customer's: received, answered, "
            "failed, skipped"
        ),
    ]
    answered: bool | None
    provider: str | None
    model: str | None
    sources: list[Source]
    usage: Tokens | None
    rating: Annotated[int | None, Field(description="the customer's thumb on an answer: 1 or -1")]
    attachments: list[FileAnswer]
    created_at: UtcMoment


def show(message: models.Message, files: Sequence[FileAnswer] = ()) -> MessageAnswer:
    """Return a message as the API shows it."""
    usage: Any = message.usage
    return MessageAnswer(
        id=message.id,
        author=message.author,
        kind=message.kind,
        text=message.text,
        language=message.language,
        status=message.status,
        answered=message.answered,
        provider=message.provider,
        model=message.model,
        sources=[Source.model_validate(source) for source in message.sources or []],
        usage=Tokens.model_validate(usage) if isinstance(usage, dict) and "cost_usd" in usage else None,
        rating=message.rating,
        attachments=list(files),
        created_at=message.created_at,
    )


@routes.get("/conversations/{conversation_id}/messages")
async def index(call: Call, conversation_id: str, query: Pages) -> Listing[MessageAnswer]:
    """List the messages of a conversation."""
    async with call.core.db.read() as session:
        row = await conversations.get(session, call.user, conversation_id)
        page = await conversations.messages(
            session, row.conversation, cursor=query.cursor, limit=query.limit, newest_first=query.order == "desc"
        )
        files = await attachments.of_messages(session, [message.id for message in page.items])
    shown = [
        show(message, [show_file(call.core, file) for file in files.get(message.id, ())]) for message in page.items
    ]
    return Listing(items=shown, next=page.next)


@routes.post(
    "/conversations/{conversation_id}/messages",
    201,
    errors=(409,),
    example={"text": "Good day! I am Dilnoza, how can I help?"},
)
async def create(call: Call, conversation_id: str, body: NewMessage) -> MessageAnswer:
    """Write to the customer as a person; the bot is silent in this conversation from then on."""
    core = call.core
    async with core.db.write() as session:
        row = await conversations.get(session, call.user, conversation_id)
        message = await conversations.operator_reply(session, row, body.text, author=call.user)
    core.bell.ring("outbox")
    core.bell.ring("notices")
    core.ring_talk(row.bot.id, conversation_id)
    return show(message)
