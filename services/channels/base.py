"""The contract of a channel: what arrives, what leaves, in plain data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

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

    ``kind``: ``message``, ``command``, ``callback``, ``contact``, ``edit`` (of the message ``extra["of"]``, the new text in
    ``text``; ``extra``: ``own`` where a person of the business changed theirs, ``written`` when the original was) and
    ``delete`` (of the message, or the several, in ``extra["of"]``), ``blocked``, ``unblocked``, ``added`` (to a group),
    ``connection`` (to a business account), ``managed_bot``, ``payment``, ``pre_checkout``, ``reaction``, ``system``,
    ``status`` (of a message of ours, in ``extra["delivery"]``), ``echo`` (a person of the business wrote by other means),
    ``comment`` (under a post of the business), ``account_error`` or ``unsupported``. ``type`` of a message: ``text``,
    ``document``, ``photo``, ``voice`` … ``recipient`` is where an answer goes. ``reply`` tells whether an answer is due.
    ``extra``: ``chat_type``, ``album``, of a command ``addressee`` (the bot it names, if any) and ``source`` (the link or
    advertisement that brought the customer), of a contact ``phone`` (with "+") and ``own``, of a message ``reply_to``,
    ``payload`` (a button's), ``story`` (the id of ours that it answers), of what is said in a group ``title``, ``mentions``,
    ``named`` and ``replied``, of a callback that is being settled ``say`` and ``buttons`` (what it is to show); ``late``: it
    waited in a backup, and nothing is said to it.
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
class OutgoingFile:
    """A file of ours that is sent: ``id`` of its attachment, and what it is.

    ``content``, or for networks that fetch it themselves the public address ``url``, is there only while it is being sent.
    """

    id: str
    kind: str
    mime: str
    name: str
    content: bytes = field(default=b"", repr=False)
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send: plain text and rows of buttons.

    ``choose``: what is written above the choices where a network hides them in a list. ``ref``: the message's id here.
    ``reply_to``: the network's id of the message that it answers, where that has to be shown.
    ``template``: a form of words that the network has approved, in its own terms; it is sent instead of ``text``, which says the
    same.
    ``comment``: the id of the comment that this answers in private. ``person``: an operator wrote it; ``late``: it goes after
    the time in which everybody may write, as the network lets a person do.
    ``file``: what is sent; ``text`` stands under it then and may be empty.
    """

    text: str
    buttons: tuple[tuple[Button, ...], ...] = ()
    choose: str = ""
    ref: str = ""
    reply_to: str = ""
    template: Mapping[str, Any] | None = None
    comment: str = ""
    person: bool = False
    late: bool = False
    file: OutgoingFile | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON form that the outbox keeps."""
        payload: dict[str, Any] = {"text": self.text}
        if self.buttons:
            payload["buttons"] = [[[button.text, button.data] for button in row] for row in self.buttons]
            payload["choose"] = self.choose
        if self.reply_to:
            payload["reply_to"] = self.reply_to
        if self.template is not None:
            payload["template"] = dict(self.template)
        if self.comment:
            payload["comment"] = self.comment
        if self.person:
            payload["person"] = True
        if self.file is not None:
            payload["file"] = [self.file.id, self.file.kind, self.file.mime, self.file.name]
        return payload

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any], ref: str = "") -> Outgoing:
        """Read what :meth:`to_payload` wrote."""
        rows = tuple(tuple(Button(text, data) for text, data in row) for row in payload.get("buttons", ()))
        return cls(
            payload["text"],
            rows,
            payload.get("choose", ""),
            ref,
            reply_to=payload.get("reply_to", ""),
            template=payload.get("template"),
            comment=payload.get("comment", ""),
            person=payload.get("person", False),
            file=OutgoingFile(*payload["file"]) if payload.get("file") else None,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a network tells of a message of ours: its id here and there, its status, and why it failed.

    ``earlier``: so it is with everything before it.
    """

    ref: str
    external_id: str
    status: str
    error: str | None = None
    code: int | None = None
    earlier: bool = False


class Piece(NamedTuple):
    """One part of a delivery that may be about several accounts; ``update`` is None where there is nothing in it for us.

    ``accounts``: whose it is, as ``(id, above)``, any of which is enough; ``above``: the id is of what lies over an account.
    ``proofs``: whose secret may have signed the delivery besides.
    """

    accounts: tuple[tuple[str, bool], ...]
    proofs: tuple[tuple[str, bool], ...]
    update: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Place:
    """A connected account that is looked at.

    ``account``: its id on the network, ``above``: that of the one above it. ``webhook``: the address that its updates should go
    to; empty where none should be set. ``mend``: a subscription that is missing may be made anew.
    """

    account: str
    above: str = ""
    webhook: str = ""
    mend: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a network says of an account when it is asked.

    ``webhook``: ``ok``, ``foreign`` (updates go to another address), ``missing`` (nothing is delivered), empty where it is not
    known. ``pending``: how many updates wait there. ``error`` and ``error_at`` (seconds since 1970): its last trouble with
    delivering. ``token_expires_at``: seconds since 1970, 0 for a token without an end, None where it is not known. ``quality``:
    ``green``, ``yellow``, ``red`` or empty. ``blocked``: why the account can send nothing. ``disproves``: the states of a channel
    that are over because this was answered. ``facts``: more of the network's own words, by name.
    """

    webhook: str = ""
    pending: int | None = None
    error: str = ""
    error_at: int = 0
    token_expires_at: int | None = None
    quality: str = ""
    blocked: str = ""
    disproves: frozenset[str] = frozenset()
    facts: Mapping[str, str] = field(default_factory=dict)
    used: int | None = None


class Usage(NamedTuple):
    """How much of a network's limits an account has used, in percent, and for how many seconds more that holds."""

    percent: int
    left_s: float


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


class NotAllowed(TokenRefused):
    """The credential is good and lacks the permission for this."""


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


TextUnit = Literal["utf16", "utf8"]
"""What a network counts the length of a text in: UTF-16 units, or bytes of UTF-8."""


class Channel(Protocol):
    """A channel kind. ``text_limit`` is counted in ``text_unit``; the sign of typing lasts ``typing_s`` (0: there is none)."""

    kind: str
    text_limit: int
    text_unit: TextUnit
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


@runtime_checkable
class Inspectable(Protocol):
    """A channel kind whose network tells how an account is."""

    async def inspect(self, credentials: Mapping[str, str], place: Place) -> Inspection:
        """Ask the network how an account is; raises ``Temporary`` or a ``Permanent`` as :meth:`Channel.send` does."""


@runtime_checkable
class Renewable(Protocol):
    """A channel kind some of whose tokens end and can be renewed before."""

    async def renew(self, credentials: Mapping[str, str]) -> tuple[Mapping[str, str], int] | None:
        """Return credentials with a fresh token, and for how many seconds it lasts; None for a token that needs none.

        Raises ``Temporary`` or a ``Permanent``; the old token then stays what it was.
        """


@runtime_checkable
class Metered(Protocol):
    """A channel kind whose network tells with its answers how much of its limits is used."""

    def usage(self, credentials: Mapping[str, str]) -> Usage | None:
        """Return what was told last; None where nothing was, or it is too long ago."""


@runtime_checkable
class Introduces(Protocol):
    """A channel kind whose messages do not say who wrote, but which tells when asked."""

    async def profile(self, credentials: Mapping[str, str], person: str) -> Sender:
        """Return name and username of somebody who wrote. Raises ``Temporary`` or a ``Permanent``."""
