"""Questions that the documents did not answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services import bots, conversations, questions
from web.api.base import Call, Routes
from web.api.wire import Answer, Listing, Part, UtcMoment

routes = Routes("Knowledge")


class UnansweredAnswer(Answer):
    """A question that customers asked in vain."""

    id: str
    question: str
    language: str | None
    count: Annotated[int, Field(description="how often it was asked")]
    conversation_id: str | None
    created_at: UtcMoment
    last_asked_at: UtcMoment
    group: Annotated[str, Field(description="the same for questions that ask the same: one answer closes them all")]
    group_count: Annotated[int, Field(description="how often the questions of its group were asked")]


@routes.get("/bots/{bot_id}/unanswered")
async def index(call: Call, bot_id: str, query: Part) -> Listing[UnansweredAnswer]:
    """List the open questions that the documents did not answer, the latest first."""
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        page = await conversations.unanswered(session, bot, cursor=query.cursor, limit=query.limit)
    groups = {id_: group for group in await questions.open_groups(call.core, bot) for id_ in group.ids}
    items = [
        UnansweredAnswer(
            id=row.id,
            question=row.question,
            language=row.language,
            count=row.count,
            conversation_id=row.conversation_id,
            created_at=row.created_at,
            last_asked_at=row.last_asked_at,
            group=groups[row.id].id if row.id in groups else row.id,
            group_count=groups[row.id].count if row.id in groups else row.count,
        )
        for row in page.items
    ]
    return Listing(items=items, next=page.next)
