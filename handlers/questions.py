"""Unanswered questions in the factory bot: pick one, write the answer, and the bot knows it."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.types import CallbackQuery, Message

from db import models
from handlers import keyboards
from handlers.callbacks import AskedMenu, BotMenu, Turn
from handlers.filters import WRITTEN
from handlers.keyboards import button
from handlers.states import Editing, go_to, leave
from handlers.talk import Page, Talk, bold, lines, page
from services import bots, questions
from services.i18n import Translator, translate_plural
from services.text import one_line

router = Router(name="questions")
_SHOWN = 600


async def questions_page(talk: Talk, bot: models.Bot, number: int = 0) -> Page:
    """Return part ``number`` of what customers of a bot asked in vain, the most asked first."""
    _ = talk.gettext
    groups = await questions.open_groups(talk.core, bot)
    shown, turns = keyboards.part(groups, Turn(of="asked", number=number, bot=bot.id))
    rows = [
        [button(f"{each.count}× {one_line(each.question, 80)}", AskedMenu(do="open", bot=bot.id, asked=each.id))]
        for each in shown
    ]
    return page(
        bold(_("Unanswered questions of “{name}”", name=bot.name)),
        _("Choose a question and write the answer: the bot knows it from the next message on.")
        if groups
        else _(
            "Nothing here: so far your documents have had every answer. Questions they cannot answer will appear here."
        ),
        keyboard=keyboards.inline(*rows, turns, keyboards.back(_, BotMenu(do="docs", bot=bot.id))),
    )


async def _own(talk: Talk, bot_id: str) -> models.Bot:
    async with talk.core.db.read() as session:
        return await bots.get(session, talk.user, bot_id)


@router.callback_query(BotMenu.filter(F.do == "asked"))
async def show_questions(callback: CallbackQuery, callback_data: BotMenu, talk: Talk) -> None:
    """The unanswered questions of a bot; also the way back from one of them, which is dropped."""
    screen = await questions_page(talk, await _own(talk, callback_data.bot))
    leave(talk.dialog)
    await talk.show(screen)


@router.callback_query(Turn.filter(F.of == "asked"))
async def turn_questions(callback: CallbackQuery, callback_data: Turn, talk: Talk) -> None:
    """Another part of the list."""
    await talk.show(await questions_page(talk, await _own(talk, callback_data.bot), callback_data.number))


@router.callback_query(AskedMenu.filter(F.do == "open"))
async def open_question(callback: CallbackQuery, callback_data: AskedMenu, talk: Talk, _: Translator) -> None:
    """One question in its wordings; what is written next is its answer."""
    bot = await _own(talk, callback_data.bot)
    group = await questions.find_group(talk.core, bot, callback_data.asked)
    if group is None:
        await talk.toast(_("This question is no longer on the list."))
        await talk.show(await questions_page(talk, bot))
        return
    go_to(talk.dialog, Editing.answer, bot=bot.id, asked=group.id, question=group.question[:1000])
    asked = translate_plural(talk.user.language, "asked once", "asked {n} times", group.count)
    await talk.show(
        page(
            bold(one_line(group.question, _SHOWN)),
            lines(asked, *(f"• {one_line(each, 150)}" for each in group.examples)),
            _("Send the answer as a message, as the bot should give it."),
            keyboard=keyboards.inline(
                [button("🙈 " + _("Not a question"), AskedMenu(do="drop", bot=bot.id, asked=group.id))],
                keyboards.back(_, BotMenu(do="asked", bot=bot.id)),
            ),
        )
    )


@router.callback_query(AskedMenu.filter(F.do == "drop"))
async def drop_question(callback: CallbackQuery, callback_data: AskedMenu, talk: Talk, _: Translator) -> None:
    """Take a question, and those that ask the same, off the list."""
    core = talk.core
    bot = await _own(talk, callback_data.bot)
    group = await questions.find_group(core, bot, callback_data.asked)
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, callback_data.bot)
        await questions.dismiss(session, bot, callback_data.asked, group.ids if group else ())
    leave(talk.dialog)
    await talk.toast(_("Taken off the list."))
    await talk.show(await questions_page(talk, bot))


@router.message(Editing.answer, WRITTEN)
async def answer_sent(message: Message, talk: Talk, _: Translator) -> None:
    """Teach the bot the answer; it is in force from the next message on."""
    core = talk.core
    bot = await _own(talk, str(talk.dialog.data.get("bot")))
    question = str(talk.dialog.data.get("question"))
    also = await questions.same_as(core, bot, question)
    async with core.db.write() as session:
        bot = await bots.get(session, talk.user, bot.id)
        await questions.teach(session, bot, question, message.text or "", also, plan=core.allowances)
    leave(talk.dialog)
    await talk.say(
        "✅ " + _("Saved. The bot will answer this way from the next message on."), bold(one_line(question, _SHOWN))
    )
    await talk.show(await questions_page(talk, bot))
