"""What people call the kinds of channels."""

from __future__ import annotations

from collections.abc import Mapping

from services.i18n import translate

CHANNEL_NAMES: Mapping[str, str] = {
    "telegram": "Telegram",
    "whatsapp": "WhatsApp",
    "instagram": "Instagram",
    "web": "Web",
}


def channel_name(kind: str, language: str) -> str:
    """Return what people call a kind of channel."""
    return translate(language, "Web chat") if kind == "web" else CHANNEL_NAMES.get(kind, kind)
