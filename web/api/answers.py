"""Answers that an owner teaches a bot."""

from __future__ import annotations

from services import bots, questions
from services.knowledge import documents
from web.api.base import Call, Routes
from web.api.wire import Answer, Body, Listing, NumberedPart, Word

routes = Routes("Knowledge")


class NewAnswer(Body):
    """A question as customers ask it, and what to tell them."""

    question: Word
    answer: Word


class AnswerAnswer(Answer):
    """What the bot was taught."""

    id: str
    question: str
    answer: str


def show(taught: documents.TaughtAnswer) -> AnswerAnswer:
    """Return a taught answer as the API shows it."""
    return AnswerAnswer(id=taught.id, question=taught.question, answer=taught.text)


@routes.post(
    "/bots/{bot_id}/answers",
    201,
    errors=(409,),
    example={"question": "Do you work on Sundays?", "answer": "Yes, from 10:00 to 16:00."},
)
async def create(call: Call, bot_id: str, body: NewAnswer) -> AnswerAnswer:
    """Teach the bot one answer: it knows it from the next message on. The same question again gets the new answer, by its id.

    The open questions that ask the same leave the list.
    """
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
    also = await questions.same_as(call.core, bot, body.question)
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        taught = await questions.teach(session, bot, body.question, body.answer, also, plan=call.core.allowances)
    return show(taught)


@routes.get("/bots/{bot_id}/answers")
async def index(call: Call, bot_id: str, query: NumberedPart) -> Listing[AnswerAnswer]:
    """List what the bot was taught, the latest first."""
    async with call.core.db.read() as session:
        bot = await bots.get(session, call.user, bot_id)
        taught, following = await documents.answers_page(session, bot, cursor=query.cursor or "", limit=query.limit)
    return Listing(items=[show(one) for one in taught], next=following or None)


@routes.delete("/bots/{bot_id}/answers/{answer_id}")
async def delete(call: Call, bot_id: str, answer_id: str) -> None:
    """Let the bot forget an answer."""
    async with call.core.db.write() as session:
        bot = await bots.get(session, call.user, bot_id)
        await documents.delete_answer(session, bot, answer_id)
