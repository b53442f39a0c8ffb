"""``/language``: the language of the talk and of the panel."""

from __future__ import annotations

from aiogram import Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from handlers import keyboards, start
from handlers.callbacks import Lang
from handlers.talk import Talk, page
from services import accounts
from services.i18n import LANGUAGE_NAMES, Translator

router = Router(name="language")


@router.message(Command("language", "settings"))
async def command(message: Message, talk: Talk, _: Translator) -> None:
    """``/language``, and ``/settings`` for those who look there."""
    await talk.say("🌐 " + _("Choose the language") + ":", keyboard=keyboards.languages(talk.user.language))


@router.callback_query(Lang.filter())
async def choose(callback: CallbackQuery, callback_data: Lang, talk: Talk) -> None:
    """Keep the choice; in the first steps go on to the next."""
    async with talk.core.db.write() as session:
        await accounts.set_language(session, talk.user, callback_data.code)
    _ = talk.gettext
    name = LANGUAGE_NAMES[talk.user.language]
    await talk.toast("✅ " + name)
    await talk.show(page("✅ " + _("Language: {name}", name=name)))
    if callback_data.first:
        await start.go_on(talk)
