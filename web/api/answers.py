"""Answers that an owner teaches a bot."""

from __future__ import annotations

from services import bots
from services.knowledge import documents
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, Listing, Word

routes = Routes("Knowledge")


class NewAnswer(Body):
    """A question as customers ask it, and what to tell them."""

    question: Word
    answer: Word


class AnswerAnswer(Answer):
    """What the bot has learnt."""

    question: str
    answer: str


class KnownAnswer(AnswerAnswer):
    """What the bot was taught before."""

    id: str


@routes.post(
    "/bots/{bot_id}/answers",
    201,
    example={"question": "Do you work on Sundays?", "answer": "Yes, from 10:00 to 16:00."},
)
async def create(call: Call, bot_id: str, body: NewAnswer) -> AnswerAnswer:
    """Teach the bot one answer: it knows it from the next message on."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await documents.add_answer(session, bot, body.question, body.answer)
    call.core.bell.ring(f"bot:{bot_id}", {"unanswered": True})
    return AnswerAnswer(question=body.question, answer=body.answer)


@routes.get("/bots/{bot_id}/answers")
async def index(call: Call, bot_id: str) -> Listing[KnownAnswer]:
    """List what the bot was taught."""
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        known = await documents.answers(session, bot)
    return Listing(items=[KnownAnswer(id=row.id, question=row.question, answer=row.text) for row in known])


@routes.delete("/bots/{bot_id}/answers/{answer_id}")
async def delete(call: Call, bot_id: str, answer_id: str) -> None:
    """Let the bot forget an answer."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await documents.delete_answer(session, bot, answer_id)
