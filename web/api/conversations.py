"""Conversations with customers, and a person's part in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from db.base import ID_LENGTH
from services import bots, conversations
from services.conversations import finding
from services.errors import Invalid
from services.i18n import T
from services.inbox import FACTORY
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, Limit, Listing, Moment, MomentCursor, Query, UtcMoment, Word

routes = Routes("Conversations")

Status = Literal["bot", "waiting", "human", "closed"]


class Filter(Query):
    """Which conversations."""

    channel: Annotated[Word | None, Field(description="a channel's id or type")] = None
    contact: Annotated[Word | None, Field(description="a customer's id")] = None
    since: Annotated[Moment | None, Field(alias="from", description="last message at or after")] = None
    until: Annotated[Moment | None, Field(alias="to", description="last message before")] = None
    q: Annotated[
        Word | None, Field(max_length=200, description="words in names or messages, or a part of a phone number")
    ] = None
    status: Status | None = None
    cursor: MomentCursor | None = None
    limit: Limit = 50


class Change(Body):
    """Who answers the customer from now on."""

    status: Annotated[
        Literal["bot", "human", "closed"],
        Field(
            description="bot: the bot answers again; human: a person answers; closed: put away until the customer writes"
        ),
    ]


class ConversationAnswer(Answer):
    """A conversation with one customer on one channel."""

    id: str
    bot_id: str
    channel_id: str
    channel: Annotated[str, Field(description="the channel's type")]
    contact_id: str
    contact: Annotated[str, Field(description="the customer's id on the channel; for chat calls the one you gave")]
    contact_name: str
    source: Annotated[
        str,
        Field(
            description="where the customer first came from: the parameter of the link t.me/<bot>?start=…; else empty"
        ),
    ]
    language: str | None
    status: Annotated[
        str, Field(description="bot: the bot answers; waiting: a person is wanted; human: a person answers; closed")
    ]
    waiting_reason: Annotated[
        str | None,
        Field(
            description="why it is waiting: asked (the customer wants a person), gave_up (the bot knew no answer), error (a "
            "message could not be handled), plan (the owner's plan allows no answer); null in another state and where it is "
            "not known"
        ),
    ]
    last_text: str
    last_message_at: UtcMoment
    created_at: UtcMoment


def show(row: conversations.ConversationRow) -> ConversationAnswer:
    """Return a conversation as the API shows it."""
    return ConversationAnswer(
        id=row.conversation.id,
        bot_id=row.bot.id,
        channel_id=row.channel.id,
        channel=row.channel.kind,
        contact_id=row.contact.id,
        contact=row.contact.external_id,
        contact_name=row.contact.name,
        source=row.contact.source,
        language=row.contact.language,
        status=row.conversation.status,
        waiting_reason=row.conversation.waiting_reason,
        last_text=row.conversation.last_text,
        last_message_at=row.conversation.last_message_at,
        created_at=row.conversation.created_at,
    )


@routes.get("/bots/{bot_id}/conversations")
async def index(call: Call, bot_id: str, query: Filter) -> Listing[ConversationAnswer]:
    """List a bot's conversations, the latest first."""
    wanted = query.channel
    kinds = [kind for kind in call.core.channels if kind != FACTORY]
    if wanted is not None and wanted not in kinds and not (len(wanted) == ID_LENGTH and wanted.isalnum()):
        raise Invalid(T("Unknown value. Use one of: {names}.", names=", ".join(kinds)), field="channel")
    if query.q:
        await finding.prepare(call.core)
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id, "talk")
        page = await conversations.list_for(
            session,
            bot,
            channel=wanted,
            contact=query.contact,
            since=query.since,
            until=query.until,
            q=query.q,
            status=query.status,
            cursor=query.cursor,
            limit=query.limit,
        )
    return Listing(items=[show(row) for row in page.items], next=page.next)


@routes.patch("/conversations/{conversation_id}", example={"status": "bot"})
async def update(call: Call, conversation_id: str, body: Change) -> ConversationAnswer:
    """Take a conversation over from the bot, give it back, or close it."""
    core = call.core
    async with core.db.write() as session:
        row = await conversations.get(session, call.user, conversation_id)
        await conversations.set_status(session, row, body.status, actor=call.user)
    core.bell.ring("notices")
    core.bell.ring("inbox")
    core.ring_talk(row.bot.id, conversation_id)
    return show(row)
