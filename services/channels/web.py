"""The web channel: the chat page, the chat on other sites, the API's chat call.

Nothing is sent: an answer is delivered by being stored. What a visitor uploads lies with us already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.channels.base import FileGone, FileTooLarge, Inbound, Outgoing, RemoteFile, Sender, TextUnit


class WebChannel:
    """Updates are ours: ``{id, contact, name, text, command, args, language, language_code, file}``.

    ``file`` of a picture: ``{upload, mime, size}``. ``load`` returns the bytes of an upload, None when it is gone.
    """

    kind = "web"
    text_limit = 16_000
    text_unit: TextUnit = "utf16"
    typing_s = 0.0

    def __init__(self, load: Callable[[str], Awaitable[bytes | None]]) -> None:
        self._load = load

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`services.channels.base.Channel`."""
        return str(update["contact"]), str(update["id"])

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """See :class:`services.channels.base.Channel`."""
        contact = str(update["contact"])
        sender = Sender(contact, str(update.get("name") or ""), language_code=update.get("language_code"))
        command = str(update.get("command") or "")
        file = update.get("file")
        files: tuple[RemoteFile, ...] = ()
        if file:
            ref = {"upload": str(file["upload"])}
            files = (RemoteFile("photo", ref, mime=str(file["mime"]), size=int(file["size"])),)
        return Inbound(
            "command" if command else "message",
            contact,
            sender,
            message_id=str(update["id"]),
            type="photo" if files else "text",
            text=str(update.get("text") or ""),
            command=command,
            args=str(update.get("args") or ""),
            language=update.get("language"),
            files=files,
        )

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """Return a picture that a visitor sent; ``file``: the ``ref`` of its :class:`RemoteFile`.

        Raises :class:`FileGone` when it is gone, :class:`FileTooLarge` when it has more than ``limit`` bytes.
        """
        content = await self._load(file["upload"])
        if content is None:
            raise FileGone("the upload is gone")
        if len(content) > limit:
            raise FileTooLarge("the upload is larger than allowed")
        return content

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """Nothing leaves: the page reads the stored message."""
        return ""

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """The page shows its own sign while it waits."""

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """Nothing to tell."""
