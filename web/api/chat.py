"""Asking a bot: the same path as a customer's message on the web channel."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from services import bots, chat, languages, testers
from services.errors import Conflict, Invalid
from services.i18n import T
from web.api.base import Call, Routes
from web.api.files import FileAnswer, show_file
from web.api.wire import Answer, Body, Usd, Word

routes = Routes("Chat")


class Question(Body):
    """A customer's message."""

    contact: Annotated[Word, Field(min_length=1, max_length=120, description="your own id of the customer")]
    text: Word


class Source(Answer):
    """A passage that the answer stands on."""

    document_id: str
    document_name: str
    snippet: str
    score: float


class Tokens(Answer):
    """What the answer took."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Usd


class ChatAnswer(Answer):
    """The bot's answer. While a person has taken the conversation over, nothing is said: `text` is empty, ids are null."""

    message_id: str | None
    text: str
    language: Annotated[str, Field(description="uz, uz-Cyrl, ru or en")]
    answered: Annotated[bool, Field(description="false where the knowledge holds no answer and the bot said so")]
    provider: Annotated[str | None, Field(description="gemini, openai, anthropic, or extractive: a quoted passage")]
    model: str | None
    sources: Annotated[list[Source], Field(max_length=5)]
    usage: Tokens
    attachments: Annotated[
        tuple[FileAnswer, ...],
        Field(
            exclude_if=lambda files: not files, description="files of the knowledge base, where some go with the answer"
        ),
    ] = ()


@routes.post(
    "/bots/{bot_id}/chat", errors=(409, 503), example={"contact": "customer-42", "text": "How much is a check-up?"}
)
async def ask(call: Call, bot_id: str, body: Question) -> ChatAnswer:
    """Ask a bot and wait for its answer. The message is stored first: it is answered even if the connection breaks."""
    core = call.core
    async with core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        channel = bots.of_kind(await bots.channels(session, bot), "web")
    if channel is None:
        raise Conflict(T("This bot’s web page is disconnected. Connect it first."), code="channel_missing")
    if testers.is_tester(body.contact):
        # The panel's own test chat is free of the plan's messages.
        raise Invalid(T("Please check what you entered."), field="contact")
    reply = await chat.ask(core, channel, bot, contact=body.contact, text=body.text)
    if reply is None:
        nothing = Tokens(input_tokens=0, output_tokens=0, cached_tokens=0, cost_usd=Decimal(0))
        detected = languages.detect(body.text).language or bot.languages[0]
        return ChatAnswer(
            message_id=None,
            text="",
            language=detected,
            answered=False,
            provider=None,
            model=None,
            sources=[],
            usage=nothing,
        )
    return ChatAnswer(
        message_id=reply.message_id,
        text=reply.text,
        language=reply.language,
        answered=reply.answered,
        provider=reply.provider,
        model=reply.model,
        sources=[Source.model_validate(source) for source in reply.sources[:5]],
        usage=Tokens.model_validate(reply.usage),
        attachments=tuple(show_file(core, file) for file in reply.files.get(reply.message_id, ())),
    )
