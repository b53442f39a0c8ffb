"""Channel kinds. Adding one is a module here and an entry in :func:`make_channels`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping

from services.channels.base import Channel
from services.channels.meta import GraphApi
from services.channels.telegram import TelegramApi, TelegramChannel
from services.channels.web import WebChannel
from services.channels.whatsapp import WhatsAppChannel

WINDOWS: Mapping[str, dt.timedelta] = {"whatsapp": dt.timedelta(hours=24)}
"""For so long after a customer's last message a network lets us write freely."""


def make_channels(
    telegram: TelegramApi, graph: GraphApi, load_upload: Callable[[str], Awaitable[bytes | None]]
) -> Mapping[str, Channel]:
    """Return the adapter of each kind. The factory bot's updates look like any Telegram bot's.

    ``load_upload``: returns a picture that a visitor of the web channel sent, by its id; None when it is gone.
    """
    adapter = TelegramChannel(telegram)
    return {"telegram": adapter, "factory": adapter, "web": WebChannel(load_upload), "whatsapp": WhatsAppChannel(graph)}
