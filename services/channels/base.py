"""The contract of a channel: what arrives, what leaves, in plain data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.errors import Permanent, Temporary


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote: the account on the network. ``phone`` with "+" where the network tells it; ``alias``: a second id there."""

    id: str
    name: str = ""
    username: str = ""
    language_code: str | None = None
    phone: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that lies on the network.

    ``kind``: ``photo``, ``voice``, ``audio``, ``video``, ``document`` or ``sticker``. ``ref``: what fetching it needs.
    ``name``, ``mime`` and ``size`` (bytes, 0 unknown) are what the sender says; ``seconds``: how long it lasts.
    """

    kind: str
    ref: Mapping[str, str]
    name: str = ""
    mime: str = ""
    size: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Inbound:
    """One update in the product's words.

    ``kind``: ``message``, ``command``, ``callback``, ``contact``, ``edit`` and ``delete`` (of the message ``extra["of"]``),
    ``blocked``, ``unblocked``, ``managed_bot``, ``payment``, ``pre_checkout``, ``reaction``, ``system``, ``status`` (of a message
    of ours, in ``extra["delivery"]``), ``echo`` (a person of the business wrote by other means), ``account_error`` or
    ``unsupported``. ``type`` of a message: ``text``, ``document``, ``photo``, ``voice`` … ``recipient`` is where an answer goes.
    ``reply`` tells whether an answer is due. ``extra``: ``chat_type``, ``album``, of a command ``addressee`` (the bot it names,
    if any), of a contact ``phone`` (with "+") and ``own``.
    """

    kind: str
    recipient: str
    sender: Sender
    message_id: str = ""
    type: str = "text"
    text: str = ""
    command: str = ""
    args: str = ""
    data: str = ""
    callback_id: str = ""
    at: dt.datetime | None = None
    reply: bool = True
    language: str | None = None
    files: tuple[RemoteFile, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Button:
    """A button under a message: ``data`` comes back when pressed."""

    text: str
    data: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send: plain text and rows of buttons.

    ``choose``: what is written above the choices where a network hides them in a list. ``ref``: the message's id here.
    """

    text: str
    buttons: tuple[tuple[Button, ...], ...] = ()
    choose: str = ""
    ref: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON form that the outbox keeps."""
        payload: dict[str, Any] = {"text": self.text}
        if self.buttons:
            payload["buttons"] = [[[button.text, button.data] for button in row] for row in self.buttons]
            payload["choose"] = self.choose
        return payload

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any], ref: str = "") -> Outgoing:
        """Read what :meth:`to_payload` wrote."""
        rows = tuple(tuple(Button(text, data) for text, data in row) for row in payload.get("buttons", ()))
        return cls(payload["text"], rows, payload.get("choose", ""), ref)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a network tells of a message of ours: its id here and there, its status, and why it failed."""

    ref: str
    external_id: str
    status: str
    error: str | None = None
    code: int | None = None


class Throttled(Temporary):
    """The whole account has to slow down."""


class PairLimited(Temporary):
    """This recipient got too many messages in a short time; others may be written to."""


class Away(Temporary):
    """The network cannot be reached: nothing has left us."""


class FilesOnDisk(Permanent):
    """The network's server keeps files where only itself can read them."""


class Refused(Permanent):
    """Our request is wrong: repeating it unchanged is useless."""


class FileTooLarge(Refused):
    """The file is larger than what was asked for."""


class FileGone(Refused):
    """The network does not have the file, or not any more."""


class TokenRefused(Permanent):
    """The credential is revoked or malformed: stop this channel and tell the owner."""


class Unreachable(Permanent):
    """This recipient cannot be written to (blocked, gone) until they write again."""


class WindowClosed(Permanent):
    """The network lets nobody write freely to this person until they write again."""


class Blocked(Permanent):
    """The account may send nothing until its owner has mended something with the network: money, rules, registration."""


class Moved(Permanent):
    """The chat has a new id: repeat there once. ``recipient`` is the new one."""

    def __init__(self, recipient: str) -> None:
        super().__init__("chat moved")
        self.recipient = recipient


class AnotherConsumer(Permanent):
    """Somebody else receives with this credential."""


class Channel(Protocol):
    """A channel kind. ``text_limit`` is counted in UTF-16 units; the sign of typing lasts ``typing_s`` (0: there is none)."""

    kind: str
    text_limit: int
    typing_s: float

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """Return (chat, external id) of a raw update: the talk it belongs to, and what makes it unique."""

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """Turn a raw update into the product's words; never raises for odd but valid JSON."""

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """Send one message; return its id on the network. Raises ``Temporary`` or a ``Permanent``."""

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """Return the content of a customer's file, at most ``limit`` bytes; ``file``: the ``ref`` of a :class:`RemoteFile`.

        Raises :class:`FileTooLarge`, :class:`FileGone`, another ``Permanent``, or ``Temporary``.
        """

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """Show that an answer to a message is being written; failures do not matter."""

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """Do what the network wants to see at once for an event (stop a button's spinner); failures do not matter."""
