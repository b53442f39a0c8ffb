"""What is recognised in a message."""

from __future__ import annotations

import re

from aiogram import F
from aiogram.types import Message

WRITTEN = F.text & ~F.text.startswith("/")
"""A text that is not a command: commands work in every state."""

# digits of the bot's id, a colon, 35 characters (more are tolerated)
_TOKEN = re.compile(r"(?<![\w:])(\d{6,15}:[A-Za-z0-9_-]{30,64})(?![\w-])")


def find_token(text: str) -> str | None:
    """Return the bot token in a text, bare or within BotFather's message."""
    found = _TOKEN.search(text)
    return found[1] if found else None


async def has_token(message: Message) -> bool | dict[str, str]:
    """Filter for messages that hold a bot token; gives the handler ``token``."""
    token = find_token(message.text or "")
    return {"token": token} if token else False
