"""Saying things: everything is escaped unless it was marked as HTML here, menus are edited in place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError
from aiogram.filters.callback_data import CallbackData
from aiogram.types import (
    CallbackQuery,
    InlineKeyboardMarkup,
)
from markupsafe import Markup, escape

from db import models
from handlers import keyboards
from handlers.api import Keyboard, send
from handlers.storage import Dialog
from services.core import Core
from services.i18n import Translator, translator

if TYPE_CHECKING:
    from handlers.progress import Progress

_TOAST_LIMIT = 200


def bold(text: str) -> Markup:
    """Return ``text`` escaped and bold."""
    return Markup("<b>{}</b>").format(text)


def html(*paragraphs: str) -> str:
    """Join paragraphs to Telegram's HTML; only what :func:`bold` and the like made is taken as markup."""
    return str(Markup("\n\n").join(escape(paragraph) for paragraph in paragraphs if paragraph))


def lines(*parts: str) -> Markup:
    """Join lines to one paragraph."""
    return Markup("\n").join(escape(part) for part in parts if part)


@dataclass(frozen=True, slots=True)
class Page:
    """A screen: text in Telegram's HTML and the buttons under it."""

    text: str
    keyboard: InlineKeyboardMarkup | None = None


def page(*paragraphs: str, keyboard: InlineKeyboardMarkup | None = None) -> Page:
    """Make a screen of paragraphs."""
    return Page(html(*paragraphs), keyboard)


def sure(_: Translator, title: str, text: str, yes: str, do: CallbackData, back_to: CallbackData) -> Page:
    """Make a screen that asks before ``do``; ``yes`` is the label of the button that does it."""
    keys = [keyboards.button(yes, do, style="danger")]
    return page(bold(title), text, keyboard=keyboards.inline(keys, keyboards.back(_, back_to)))


class Line:
    """Where answers go: a chat, and the pressed button if there is one."""

    def __init__(self, bot: Bot, chat_id: int, callback: CallbackQuery | None = None) -> None:
        self.bot = bot
        self.chat_id = chat_id
        self.callback = callback
        self._toasted = callback is None

    async def send(self, text: str, keyboard: Keyboard | None = None) -> int | None:
        """Send a message in Telegram's HTML; see :func:`handlers.api.send`."""
        return await send(self.bot, self.chat_id, text, keyboard)

    async def say(self, *paragraphs: str, keyboard: Keyboard | None = None) -> None:
        """Send a message."""
        await self.send(html(*paragraphs), keyboard)

    async def show(self, screen: Page) -> None:
        """Show a screen in place of the menu whose button was pressed, or as a new message where that is not possible."""
        await self.toast()
        if self.callback is not None and self.callback.message is not None:
            try:
                await self.bot.edit_message_text(
                    screen.text,
                    chat_id=self.chat_id,
                    message_id=self.callback.message.message_id,
                    reply_markup=screen.keyboard,
                )
                return
            except TelegramBadRequest as error:
                if "not modified" in error.message:
                    return
        await self.send(screen.text, screen.keyboard)

    async def drop_buttons(self) -> None:
        """Take the buttons off the message whose button was pressed."""
        if self.callback is not None and self.callback.message is not None:
            with suppress(TelegramBadRequest):
                await self.bot.edit_message_reply_markup(
                    chat_id=self.chat_id, message_id=self.callback.message.message_id, reply_markup=None
                )

    async def toast(self, text: str = "", *, alert: bool = False) -> bool:
        """Answer the press, once; later calls do nothing. Returns whether this call did it."""
        if self._toasted or self.callback is None:
            return False
        self._toasted = True
        # A press that is handled again after a crash, or after a long pause, is too old to be answered.
        with suppress(TelegramBadRequest):
            await self.bot.answer_callback_query(
                self.callback.id, text=text[:_TOAST_LIMIT] or None, show_alert=alert or None
            )
        return True

    async def delete(self, message_id: int) -> None:
        """Delete a message of this chat, if Telegram lets us."""
        with suppress(TelegramBadRequest, TelegramForbiddenError):
            await self.bot.delete_message(self.chat_id, message_id)


class Talk(Line):
    """The talk with one person in one update, and what handling it needs.

    ``dialog`` is where the person stands, ``progress`` follows documents that are being read.
    """

    def __init__(
        self,
        bot: Bot,
        chat_id: int,
        callback: CallbackQuery | None,
        *,
        core: Core,
        user: models.User,
        dialog: Dialog,
        progress: Progress,
    ) -> None:
        super().__init__(bot, chat_id, callback)
        self.core = core
        self.user = user
        self.dialog = dialog
        self.progress = progress

    async def send(self, text: str, keyboard: Keyboard | None = None) -> int | None:
        """Send a message, once in this update however often it comes again."""
        return await self.dialog.once(text, lambda: super(Talk, self).send(text, keyboard))

    @property
    def gettext(self) -> Translator:
        """The translator of the person's language as it is now."""
        return translator(self.user.language)
