"""Channel kinds. Adding one is a module here and an entry in :func:`make_channels`."""

from __future__ import annotations

from collections.abc import Mapping

from services.channels.base import Channel
from services.channels.telegram import TelegramApi, TelegramChannel
from services.channels.web import WebChannel


def make_channels(telegram: TelegramApi) -> Mapping[str, Channel]:
    """Return the adapter of each kind. The factory bot's updates look like any Telegram bot's."""
    adapter = TelegramChannel(telegram)
    return {"telegram": adapter, "factory": adapter, "web": WebChannel()}
