"""``/stats``: numbers of one bot or of all."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message
from markupsafe import Markup

from db import models
from handlers import bots as bots_menu
from handlers import keyboards
from handlers.callbacks import BotMenu, Menu, Period, Turn
from handlers.keyboards import button
from handlers.talk import Page, Talk, bold, lines, page
from services import bots, ratings, statistics
from services.days import midnight
from services.errors import NotFound
from services.i18n import Translator

router = Router(name="stats")
DAYS = (1, 7, 30)


def _label(_: Translator, days: int) -> str:
    return {1: _("Today"), 7: _("7 days"), 30: _("30 days")}[days]


async def stats_page(talk: Talk, bot_id: str, days: int, number: int = 0) -> Page:
    """Return the numbers of a bot (empty: of part ``number`` of all the person's bots); raises ``NotFound``."""
    if days not in DAYS:
        raise NotFound()
    _ = talk.gettext
    period = statistics.period("today" if days == 1 else str(days), talk.core.now())
    since = midnight(period.first)
    async with talk.core.db.read() as session:
        if bot_id:
            own: list[models.Bot] = [await bots.get(session, talk.user, bot_id)]
        else:
            own = list(await bots.list_for(session, talk.user))
        shown, turns = keyboards.part(own, Turn(of="stats", number=number, days=days))
        counted = await statistics.by_bot(session, shown, period)
        waiting = await statistics.waiting(session, shown)
        rows = [(bot, counted[bot.id], await ratings.liked(session, bot, since)) for bot in shown]
    if not rows:
        return await bots_menu.list_page(talk.core, talk.user, _)
    parts: list[Markup] = [
        lines(
            bold(bot.name),
            _("Questions: {n}", n=numbers.questions),
            _("Answered: {n}", n=numbers.answered),
            _("Unanswered: {n}", n=numbers.unanswered),
            _("Conversations: {n}", n=numbers.talks),
            _("New customers: {n}", n=numbers.begun),
            _("Waiting for a person: {n}", n=waiting[bot.id]),
            f"👍 {liked.up} · 👎 {liked.down}" if liked.up or liked.down else "",
        )
        for bot, numbers, liked in rows
    ]
    choice = [button(("✅ " if each == days else "") + _label(_, each), Period(bot=bot_id, days=each)) for each in DAYS]
    where = BotMenu(do="open", bot=bot_id) if bot_id else Menu(to="bots")
    return page(
        f"📊 {_('Statistics')}: {_label(_, days)}",
        *parts,
        keyboard=keyboards.inline(turns, choice, keyboards.back(_, where)),
    )


@router.message(Command("stats"))
async def command(message: Message, talk: Talk) -> None:
    """``/stats``."""
    await talk.show(await stats_page(talk, "", 7))


@router.callback_query(Menu.filter(F.to == "stats"))
async def pressed(callback: CallbackQuery, talk: Talk) -> None:
    """The button of the first menu."""
    await talk.show(await stats_page(talk, "", 7))


@router.callback_query(Turn.filter(F.of == "stats"))
async def turn(callback: CallbackQuery, callback_data: Turn, talk: Talk) -> None:
    """The numbers of more bots."""
    await talk.show(await stats_page(talk, "", callback_data.days, callback_data.number))


@router.callback_query(Period.filter())
async def period(callback: CallbackQuery, callback_data: Period, talk: Talk) -> None:
    """Another period, or a bot's own numbers."""
    await talk.show(await stats_page(talk, callback_data.bot, callback_data.days))
