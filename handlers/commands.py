"""The commands of the factory bot as its menu and its help list them."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from aiogram import Bot
from aiogram.types import BotCommand

from services.i18n import T, Text, Translator, translate

log = structlog.get_logger(__name__)

COMMANDS: tuple[tuple[str, Text], ...] = (
    ("newbot", T("Create a new bot")),
    ("bots", T("My bots: settings, start, stop")),
    ("knowledge", T("Documents your bot answers from")),
    ("channels", T("Channels: connect, check, share")),
    ("inbox", T("Customers who wait for a person")),
    ("broadcast", T("Write to all customers")),
    ("stats", T("Statistics: questions and answers")),
    ("plan", T("Your plan: what is left, renew, pay")),
    ("request", T("Request access to a plan")),
    ("coupon", T("Use a coupon")),
    ("invite", T("Invite others and earn")),
    ("panel", T("Open the web panel")),
    ("support", T("Write to support")),
    ("language", T("Choose the language")),
    ("cancel", T("Cancel the current step")),
    ("help", T("What this bot can do")),
)
ANSWERING = frozenset({"inbox", "panel", "support", "language", "cancel", "help"})
"""What is of use to whoever only answers customers for somebody else."""
MENU_LANGUAGES = {"": "uz", "ru": "ru", "en": "en"}
"""Telegram's language code of a command list (empty: everybody else) to the language it is written in."""


def help_lines(_: Translator, names: Collection[str] | None = None) -> list[str]:
    """Return the commands, all or those of ``names``, with what they do, a line each."""
    return [f"/{name} — {_(text.msgid)}" for name, text in COMMANDS if names is None or name in names]


async def publish(bot: Bot) -> None:
    """Set the command lists that differ from what Telegram has."""
    for code, language in MENU_LANGUAGES.items():
        wanted = [BotCommand(command=name, description=translate(language, text.msgid)) for name, text in COMMANDS]
        present = await bot.get_my_commands(language_code=code or None)
        if [(c.command, c.description) for c in present] != [(c.command, c.description) for c in wanted]:
            await bot.set_my_commands(wanted, language_code=code or None)
            log.info("commands_set", language=code or "default")
