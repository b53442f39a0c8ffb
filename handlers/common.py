"""``/help``, ``/cancel``, and a kind word for everything that nobody else understood."""

from __future__ import annotations

from aiogram import F, Router
from aiogram.filters import Command
from aiogram.types import CallbackQuery, Message

from handlers import errors, keyboards, team
from handlers.commands import ANSWERING, help_lines
from handlers.states import DROPPED, leave
from handlers.talk import Talk, bold, lines
from services.i18n import Translator

router = Router(name="common")
"""Commands that work in every state."""
last = Router(name="last")
"""What is left when every other router has passed."""


@router.message(Command("help"))
async def help_command(message: Message, talk: Talk, _: Translator) -> None:
    """``/help``."""
    await _help(talk)


async def _help(talk: Talk) -> None:
    _ = talk.gettext
    answering = await team.answering_page(talk.core, talk.user, _)
    if answering is not None:
        await talk.say(lines(*help_lines(_, ANSWERING)))
        await talk.show(answering)
        return
    await talk.say(
        bold(_("I create bots that answer your customers from your documents.")),
        lines(*help_lines(_), f"/admin — {_('Administration')}" if talk.user.is_admin else ""),
        _("Send a document at any time and I will read it for your bot."),
        keyboard=keyboards.home(_),
    )


@router.message(Command("cancel"))
async def cancel(message: Message, talk: Talk, _: Translator) -> None:
    """``/cancel``: says what was dropped."""
    dropped = DROPPED.get(talk.dialog.state or "")
    leave(talk.dialog)
    text = dropped.render(talk.user.language) if dropped else _("There is nothing to cancel.")
    await talk.say(text, keyboard=keyboards.NO_KEYS)


@last.message(F.text.startswith("/"))
async def unknown_command(message: Message, talk: Talk) -> None:
    """A command that there is not (yet)."""
    await _help(talk)


@last.message(F.text)
async def text(message: Message, talk: Talk, _: Translator) -> None:
    """A text that nothing waits for."""
    answering = await team.answering_page(talk.core, talk.user, _)
    if answering is not None:
        await talk.show(answering)
        return
    await talk.say(
        _("I create and look after bots; your customers’ questions go to your own bot."),
        _("Send a document, or choose what to do."),
        keyboard=keyboards.home(_),
    )


@last.message(F.pinned_message | F.new_chat_title | F.delete_chat_photo | F.message_auto_delete_timer_changed)
async def service_message(message: Message) -> None:
    """What Telegram itself notes in the chat needs no answer."""


@last.message()
async def anything(message: Message, talk: Talk, _: Translator) -> None:
    """Videos, voice, stickers, places …"""
    what = _("I cannot read this yet.")
    if message.video:
        what = _("I cannot look at videos yet.")
    elif message.voice or message.audio or message.video_note:
        what = _("I cannot listen to voice messages yet.")
    await talk.say("🙂 " + what, _("Please write to me, or send a document: PDF, Word (.docx), CSV or text."))


@last.edited_message()
async def edited(message: Message, talk: Talk, _: Translator) -> None:
    """A changed message is not handled again."""
    await talk.say(_("I cannot see edits to a message you have already sent. Please send it again."))


@last.callback_query()
async def stale(callback: CallbackQuery, talk: Talk) -> None:
    """A button of a version that is gone."""
    await errors.old_menu(talk)
