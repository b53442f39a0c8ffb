"""Keyboards, and the rules that all of them keep: Back is the last on the left and always the same word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar
from urllib.parse import quote, urlsplit

from aiogram.filters.callback_data import CallbackData
from aiogram.types import (
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    KeyboardButton,
    KeyboardButtonRequestManagedBot,
    ReplyKeyboardMarkup,
    ReplyKeyboardRemove,
)

from db import models
from handlers.callbacks import BotMenu, Lang, Menu, Turn
from services.i18n import LANGUAGE_NAMES, LANGUAGES, Translator, translate

Row = Sequence[InlineKeyboardButton | None]
NO_KEYS = ReplyKeyboardRemove()
MANAGED_REQUEST = 1
_LABEL_LIMIT = 60
_A_PART = 10
Item = TypeVar("Item")


def button(text: str, data: CallbackData, *, style: str | None = None) -> InlineKeyboardButton:
    """Return a button that comes back to us; ``style``: ``danger``, ``success``."""
    return InlineKeyboardButton(text=text[:_LABEL_LIMIT], callback_data=data.pack(), style=style)


def link(text: str, url: str) -> InlineKeyboardButton | None:
    """Return a button that opens an address, None for one that Telegram refuses (a host without a dot)."""
    return InlineKeyboardButton(text=text[:_LABEL_LIMIT], url=url) if linkable(url) else None


def linkable(url: str) -> bool:
    """Whether Telegram takes ``url`` for a button."""
    return "." in (urlsplit(url).hostname or "")


def inline(*rows: Row) -> InlineKeyboardMarkup:
    """Return a keyboard of rows; missing buttons and empty rows are left out."""
    full = [[key for key in row if key is not None] for row in rows]
    return InlineKeyboardMarkup(inline_keyboard=[row for row in full if row])


def pairs(buttons: Iterable[InlineKeyboardButton | None]) -> list[list[InlineKeyboardButton]]:
    """Return buttons in rows of two."""
    there = [key for key in buttons if key is not None]
    return [there[place : place + 2] for place in range(0, len(there), 2)]


def part(items: Sequence[Item], to: Turn) -> tuple[Sequence[Item], list[InlineKeyboardButton | None]]:
    """Return the part of a long list that ``to`` names, and the row that turns to the others (empty: there are none).

    A number past the end, from a menu older than the list, is the last part.
    """
    last = max(0, len(items) - 1) // _A_PART
    number = min(to.number, last)

    def turn(text: str, there: int) -> InlineKeyboardButton | None:
        return button(text, to.model_copy(update={"number": there})) if 0 <= there <= last else None

    row = [turn("◀️", number - 1), turn(f"{number + 1} / {last + 1}", number), turn("▶️", number + 1)] if last else []
    return items[number * _A_PART : (number + 1) * _A_PART], row


def back(_: Translator, to: CallbackData) -> list[InlineKeyboardButton]:
    """Return the last row of every menu."""
    return [button("‹ " + _("Back"), to), button("✖️ " + _("Close"), Menu(to="close"))]


def languages(current: str | None = None, *, first: bool = False) -> InlineKeyboardMarkup:
    """Return the choice of the interface's language, each in its own words."""
    return inline(
        *pairs(
            button(("✅ " if code == current else "") + LANGUAGE_NAMES[code], Lang(code=code, first=first))
            for code in LANGUAGES
        )
    )


def home(_: Translator) -> InlineKeyboardMarkup:
    """Return the ways on for a person who is not in a dialog."""
    return inline(
        [button("🤖 " + _("My bots"), Menu(to="bots")), button("➕ " + _("New bot"), Menu(to="new"))],
        [button("📊 " + _("Statistics"), Menu(to="stats")), button("💳 " + _("Plan"), Menu(to="plan"))],
        [button("🖥 " + _("Panel"), Menu(to="panel")), button("💬 " + _("Support"), Menu(to="support"))],
    )


def skip_label(_: Translator) -> str:
    """Return the label of the key that goes on without a phone number."""
    return _("Skip")


def is_skip(text: str) -> bool:
    """Whether ``text`` is that label in any language: the key may be older than the last change of language."""
    return text.strip() in {translate(code, "Skip") for code in LANGUAGES}


def phone(_: Translator) -> ReplyKeyboardMarkup:
    """Return the keys that share one's own phone number or skip it."""
    return ReplyKeyboardMarkup(
        keyboard=[
            [KeyboardButton(text="📱 " + _("Send my phone number"), request_contact=True)],
            [KeyboardButton(text=skip_label(_))],
        ],
        resize_keyboard=True,
        one_time_keyboard=True,
    )


def managed(_: Translator) -> ReplyKeyboardMarkup:
    """Return the key that opens Telegram's own dialog for a new bot."""
    return ReplyKeyboardMarkup(
        keyboard=[
            [
                KeyboardButton(
                    text="🤖 " + _("Create a bot"),
                    request_managed_bot=KeyboardButtonRequestManagedBot(request_id=MANAGED_REQUEST),
                )
            ]
        ],
        resize_keyboard=True,
        one_time_keyboard=True,
    )


def telegram_link(username: str, question: str = "") -> str:
    """Return the address of a bot, with a text that is put into the field for writing."""
    return f"https://t.me/{username}" + (f"?text={quote(question, safe='')}" if question else "")


def next_steps(_: Translator, bot: models.Bot, username: str) -> InlineKeyboardMarkup:
    """Return what to do with a bot that has just begun to work."""
    address = telegram_link(username)
    share = f"https://t.me/share/url?url={quote(address, safe='')}&text={quote(bot.name, safe='')}"
    return inline(
        [button("📄 " + _("Send a document"), BotMenu(do="send", bot=bot.id))],
        [link("💬 " + _("Try it"), address), link("📣 " + _("Share"), share)],
        [button("⚙️ " + _("Settings"), BotMenu(do="open", bot=bot.id))],
    )
