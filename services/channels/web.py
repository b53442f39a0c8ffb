"""The web channel: the chat page and the API's chat call. Nothing is sent: an answer is delivered by being stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.channels.base import FileGone, Inbound, Outgoing, Sender


class WebChannel:
    """Updates are ours: ``{id, contact, name, text, command, args, language, language_code}``."""

    kind = "web"
    text_limit = 16_000
    typing_s = 0.0

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`services.channels.base.Channel`."""
        return str(update["contact"]), str(update["id"])

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """See :class:`services.channels.base.Channel`."""
        contact = str(update["contact"])
        sender = Sender(contact, str(update.get("name") or ""), language_code=update.get("language_code"))
        command = str(update.get("command") or "")
        return Inbound(
            "command" if command else "message",
            contact,
            sender,
            message_id=str(update["id"]),
            text=str(update.get("text") or ""),
            command=command,
            args=str(update.get("args") or ""),
            language=update.get("language"),
        )

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """Nothing leaves: the page reads the stored message."""
        return ""

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """No file comes by this channel."""
        raise FileGone("the web channel carries no files")

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """The page shows its own sign while it waits."""

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """Nothing to tell."""
