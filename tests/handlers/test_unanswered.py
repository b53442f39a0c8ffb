"""Unanswered questions in the factory bot: picked, answered, known from the next message on; another owner's stay shut."""

from __future__ import annotations

from sqlalchemy import select

from db import models
from handlers.callbacks import AskedMenu, BotMenu, Turn
from services import answers, bots
from services.knowledge.analysis import question_key
from tests.fakes.telegram import Sent
from tests.fakes.telegram_bots import Press
from tests.handlers.conftest import Person, Product


async def _asked(product: Product, bot: models.Bot, *questions: str) -> list[str]:
    rows = [
        models.UnansweredQuestion(bot_id=bot.id, question=text, folded=question_key(text), count=2)
        for text in questions
    ]
    async with product.core.db.write() as session:
        session.add_all(rows)
    return [row.id for row in rows]


async def _open(product: Product, bot: models.Bot) -> list[str]:
    row = models.UnansweredQuestion
    async with product.core.db.read() as session:
        found = select(row.question).where(row.bot_id == bot.id, row.answered_at.is_(None)).order_by(row.id)
        return list(await session.scalars(found))


async def _answered(product: Product, press: Press) -> None:
    await product.fake.wait_until(lambda: press.answered)


async def _list(owner: Person) -> Sent:
    menu = await owner.says("/knowledge", "Documents of")
    return await owner.presses(menu, "Unanswered questions", "Unanswered questions of")


async def test_an_answer_is_written_in_telegram_and_known_at_once(product: Product) -> None:
    owner = await product.owner(900000801, "en")
    bot = await product.make_bot(owner)
    await _asked(product, bot, "Parkovka bormi?", "Парковка есть?", "Velosiped ijarasi qancha?")
    menu = await _list(owner)
    assert [button["text"] for button in menu.buttons][:2] == ["4× Parkovka bormi?", "2× Velosiped ijarasi qancha?"]
    assert all(len(button["callback_data"].encode()) <= 64 for button in menu.buttons)
    await owner.presses(menu, "Parkovka", "Send the answer")
    assert "Парковка есть?" in menu.text and "asked 4 times" in menu.text
    said = await owner.says("Ha, hovlida <bepul>.", "Saved.")
    assert "Parkovka bormi?" in said.text
    assert await _open(product, bot) == ["Velosiped ijarasi qancha?"]
    async with product.core.db.read() as session:
        current = await session.get_one(models.Bot, bot.id)
    answer = await answers.answer(product.core, answers.card_of(current), "Parkovka bormi?", "uz", [])
    assert answer.text == "Ha, hovlida <bepul>."
    # What is written next is no answer any more.
    await owner.hears("Unanswered questions of")
    await owner.settled()


async def test_back_cancel_and_a_question_that_is_gone(product: Product) -> None:
    owner = await product.owner(900000802, "en")
    bot = await product.make_bot(owner)
    await _asked(product, bot, "Parkovka bormi?", "Velosiped bormi?")
    menu = await _list(owner)
    await owner.presses(menu, "Parkovka", "Send the answer")
    await owner.says("/cancel", "The question is still unanswered.")
    assert len(await _open(product, bot)) == 2
    await owner.presses(menu, "Not a question", "Unanswered questions of")
    assert await _open(product, bot) == ["Velosiped bormi?"]
    old = AskedMenu(do="open", bot=bot.id, asked=bot.id).pack()
    owner.user.press(menu, old, stale=True)
    await owner.presses(menu, "Velosiped", "Send the answer")
    await owner.presses(menu, "Back", "Unanswered questions of")
    await owner.settled()


async def test_another_owner_sees_and_answers_nothing(product: Product) -> None:
    owner, stranger = await product.owner(900000803, "en"), await product.owner(900000804, "en", "Bobur")
    bot, own = await product.make_bot(owner), await product.make_bot(stranger, "Nur")
    (asked,) = await _asked(product, bot, "Maxfiy savol bormi?")
    menu = await stranger.says("/bots", "Your bots")
    for data in (
        BotMenu(do="asked", bot=bot.id),
        Turn(of="asked", number=0, bot=bot.id),
        AskedMenu(do="open", bot=bot.id, asked=asked),
        AskedMenu(do="drop", bot=bot.id, asked=asked),
        AskedMenu(do="drop", bot=own.id, asked=asked),
    ):
        press = stranger.user.press(menu, data.pack(), stale=True)
        await _answered(product, press)
    press = stranger.user.press(menu, AskedMenu(do="open", bot=own.id, asked=asked).pack(), stale=True)
    await product.fake.wait_until(lambda: press.answered)
    await stranger.settled()
    assert not any("Maxfiy" in message.text for message in product.fake.messages(stranger.user.id))
    assert await _open(product, bot) == ["Maxfiy savol bormi?"]
    async with product.core.db.read() as session:
        assert (await bots.list_for(session, await product.account(stranger)))[0].id == own.id
