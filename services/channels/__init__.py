"""Channel kinds. Adding one is a module here and an entry in :func:`make_channels`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from services.channels.base import Channel
from services.channels.meta import GraphApi
from services.channels.telegram import TelegramApi, TelegramChannel
from services.channels.web import WebChannel
from services.channels.whatsapp import WhatsAppChannel

WINDOWS: Mapping[str, dt.timedelta] = {"whatsapp": dt.timedelta(hours=24)}
"""For so long after a customer's last message a network lets us write freely."""


def make_channels(telegram: TelegramApi, graph: GraphApi) -> Mapping[str, Channel]:
    """Return the adapter of each kind. The factory bot's updates look like any Telegram bot's."""
    adapter = TelegramChannel(telegram)
    return {"telegram": adapter, "factory": adapter, "web": WebChannel(), "whatsapp": WhatsAppChannel(graph)}
