"""Channel kinds. Adding one is a module here and an entry in :data:`_KINDS` and :func:`make_channels`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping

from services.channels.base import Channel
from services.channels.instagram import InstagramChannel
from services.channels.meta import GraphApi
from services.channels.telegram import TelegramApi, TelegramChannel, place_of
from services.channels.web import WebChannel
from services.channels.whatsapp import WhatsAppChannel
from services.text import split_text

WINDOWS: Mapping[str, dt.timedelta] = {"whatsapp": dt.timedelta(hours=24), "instagram": dt.timedelta(hours=24)}
"""For so long after a customer's last message a network lets us write freely."""
PERSON_WINDOWS: Mapping[str, dt.timedelta] = {"instagram": dt.timedelta(days=7)}
"""For so long a person may still write where the bot may not."""
_BUSINESS_WINDOW = dt.timedelta(hours=24)
"""In chats of a business account: core.telegram.org/bots/api#businessbotrights, ``can_reply``."""
CAPTIONS: Mapping[str, int] = {"telegram": 1024, "whatsapp": 1024}
"""So long may a text be that stands under a file: core.telegram.org/bots/api#sendphoto, Cloud API reference of messages."""
_OFFICE = "application/vnd.openxmlformats-officedocument."
_WHATSAPP_DOCUMENTS = (
    "text/plain", "application/pdf", f"{_OFFICE}wordprocessingml.document", f"{_OFFICE}spreadsheetml.sheet",
    f"{_OFFICE}presentationml.presentation",
)  # fmt: skip
# What each network takes, and how large in MiB: shared with nobody else, so that an operator hears of it before sending.
# developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media,
# developers.facebook.com/docs/messenger-platform/instagram/features/send-message, core.telegram.org/bots/api#sending-files
TAKEN: Mapping[str, Mapping[str, int]] = {
    "whatsapp": {
        "image/jpeg": 5,
        **dict.fromkeys(("audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg", "video/mp4"), 16),
        **dict.fromkeys(_WHATSAPP_DOCUMENTS, 100),
    },
    "instagram": {
        "image/jpeg": 8,
        **dict.fromkeys(("audio/aac", "audio/mp4", "audio/wav", "video/mp4", "application/pdf"), 25),
    },
}
TELEGRAM_MIB = 50
_KINDS: Mapping[str, type[Channel]] = {
    "telegram": TelegramChannel,
    "web": WebChannel,
    "whatsapp": WhatsAppChannel,
    "instagram": InstagramChannel,
}


def make_channels(
    telegram: TelegramApi,
    graph: GraphApi,
    instagram: GraphApi,
    load_upload: Callable[[str], Awaitable[bytes | None]],
) -> Mapping[str, Channel]:
    """Return the adapter of each kind. The factory bot's updates look like any Telegram bot's.

    ``load_upload``: returns a picture that a visitor of the web channel sent, by its id; None when it is gone.
    """
    adapter = TelegramChannel(telegram)
    return {
        "telegram": adapter,
        "factory": adapter,
        "web": WebChannel(load_upload),
        "whatsapp": WhatsAppChannel(graph),
        "instagram": InstagramChannel(instagram, graph),
    }


def window_of(kind: str, recipient: str, *, person: bool = False) -> dt.timedelta | None:
    """Return for how long after a customer's last message one may write to them freely, a ``person`` or the bot; None: always."""
    if kind == "telegram":
        return _BUSINESS_WINDOW if "/" in recipient and place_of(recipient).connection else None
    return (PERSON_WINDOWS.get(kind) if person else None) or WINDOWS.get(kind)


def split_for(kind: str, text: str) -> list[str]:
    """Cut a text into parts that a channel of this kind carries, see :func:`services.text.split_text`."""
    return split_text(text, _KINDS[kind].text_limit, _KINDS[kind].text_unit)


def carries_caption(kind: str, mime: str, text: str) -> bool:
    """Tell whether a channel of this kind shows this text under a file; elsewhere it is a message of its own."""
    if kind == "whatsapp" and mime.startswith("audio/"):
        return False
    return len(text.encode("utf-16-le", "surrogatepass")) // 2 <= CAPTIONS.get(kind, 0)


def as_link(kind: str, mime: str) -> bool:
    """Tell whether a channel of this kind takes no file of this type, so that its address is written instead."""
    return kind in TAKEN and mime not in TAKEN[kind]
