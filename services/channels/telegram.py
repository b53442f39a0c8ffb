"""Telegram Bot API (checked against 10.3, 2026-11-21): receiving, sending, errors.

Tenant bots use this thin client instead of aiogram: a thousand bots share one HTTP session, an update costs a dictionary
instead of a tree of models, and starting does not wait seconds for an import. Errors: core.telegram.org/bots/api#making-requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from services.channels.base import (
    AnotherConsumer,
    Button,
    FileGone,
    FilesOnDisk,
    FileTooLarge,
    Inbound,
    Inspection,
    Moved,
    Outgoing,
    OutgoingFile,
    Place,
    Refused,
    RemoteFile,
    Sender,
    TextUnit,
    TokenRefused,
    Unreachable,
    WindowClosed,
)
from services.channels.wire import exchange
from services.errors import Temporary

ALLOWED_UPDATES = [
    "message",
    "edited_message",
    "callback_query",
    "my_chat_member",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "managed_bot",
    "pre_checkout_query",
]
TEXT_LIMIT = 4096
_MESSAGE_KINDS = (
    "message",
    "edited_message",
    "business_message",
    "edited_business_message",
    "channel_post",
    "edited_channel_post",
)
_TYPES = (
    "text",
    # Before the document, which an animation is as well: core.telegram.org/bots/api#message.
    "animation",
    "document",
    "photo",
    "voice",
    "audio",
    "video",
    "video_note",
    "sticker",
    "location",
    "venue",
    "contact",
    "poll",
    "dice",
    "story",
    "paid_media",
    "checklist",
    "game",
    "invoice",
    "giveaway",
    "gift",
    "unique_gift",
    "successful_payment",
)
# What happened in a chat, said by Telegram: nobody waits for an answer.
_SERVICE = frozenset(
    {
        "boost_added",
        "channel_chat_created",
        "chat_background_set",
        "chat_owner_changed",
        "chat_owner_left",
        "checklist_tasks_added",
        "checklist_tasks_done",
        "community_chat_added",
        "community_chat_joined",
        "community_chat_removed",
        "connected_website",
        "delete_chat_photo",
        "direct_message_price_changed",
        "forum_topic_closed",
        "forum_topic_created",
        "forum_topic_edited",
        "forum_topic_reopened",
        "general_forum_topic_hidden",
        "general_forum_topic_unhidden",
        "gift_upgrade_sent",
        "giveaway_completed",
        "giveaway_created",
        "giveaway_winners",
        "group_chat_created",
        "left_chat_member",
        "managed_bot_created",
        "message_auto_delete_timer_changed",
        "migrate_from_chat_id",
        "migrate_to_chat_id",
        "new_chat_members",
        "new_chat_photo",
        "new_chat_title",
        "paid_message_price_changed",
        "pinned_message",
        "poll_option_added",
        "poll_option_deleted",
        "proximity_alert_triggered",
        "refunded_payment",
        "suggested_post_approval_failed",
        "suggested_post_approved",
        "suggested_post_declined",
        "suggested_post_paid",
        "suggested_post_refunded",
        "supergroup_chat_created",
        "video_chat_ended",
        "video_chat_participants_invited",
        "video_chat_scheduled",
        "video_chat_started",
        "write_access_allowed",
    }
)
_GROUPS = ("group", "supergroup")
# Accounts of Telegram's own in whose name people write: anonymous administrators, and people who write as their channel.
_MASKS = frozenset({"1087968824", "136817688"})
_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GONE = (
    "blocked by the user",
    "user is deactivated",
    "kicked",
    "can't initiate",
    "bots can't send",
    "chat not found",
    "peer_id_invalid",
)
_CLOSED = "business_peer_usage_missing"
"""The customer of a business account has not written for 24 hours."""
_HARMLESS = ("message is not modified", "message to delete not found", "query is too old", "message can't be deleted")


def failure(status: int, body: Mapping[str, Any]) -> Exception | None:
    """Return the exception that an error answer of the Bot API stands for; None for one that means "already done".

    What is not in Telegram's own words was said by something on the way, a proxy or a gateway: it says nothing about the
    token or the chat and passes.
    """
    code = body.get("error_code")
    if body.get("ok") is not False or not isinstance(code, int):
        if status == 429:
            return Temporary("too many requests", retry_after_s=1.0)
        # Only with a success it may have been carried out.
        return Temporary(f"the answer {status} is not Telegram's", sent=status < 300)
    description = str(body.get("description") or "")[:200]
    lowered = description.lower()
    parameters = body.get("parameters")
    if not isinstance(parameters, Mapping):
        parameters = {}
    if code == 429:
        return Temporary("too many requests", retry_after_s=float(parameters.get("retry_after", 1)))
    if "migrate_to_chat_id" in parameters:
        return Moved(str(parameters["migrate_to_chat_id"]))
    if code in (401, 404):
        return TokenRefused(description)
    if code == 409:
        return AnotherConsumer(description)
    if code == 403 or (code == 400 and any(part in lowered for part in _GONE)):
        return Unreachable(description)
    if code == 400 and any(part in lowered for part in _HARMLESS):
        return None
    if code == 400 and _CLOSED in lowered:
        return WindowClosed(description)
    if code >= 500:
        return Temporary(f"Telegram answered {code}", retry_after_s=None)
    return Refused(description or f"error {code}")


class TelegramApi:
    """Calls methods of the Bot API for any token. ``base``: the server's address."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str = "https://api.telegram.org",
        *,
        timeout_s: float = 30,
        download_timeout_s: float = 120,
    ) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=10)
        self._download_timeout_s = download_timeout_s

    async def call(self, token: str, method: str, *, timeout_s: float | None = None, **parameters: Any) -> Any:
        """Call ``method`` and return its ``result``; ``True`` where Telegram says it was done already.

        Raises ``Temporary`` (with ``sent`` when the request left and no answer came, ``Away`` when it did not leave), or a
        ``Permanent``. The token is never part of an exception's text.
        """
        timeout = self._timeout if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s, connect=10)
        data = json.dumps(parameters, separators=(",", ":")).encode()
        return await self._post(token, method, timeout, data=data, headers={"Content-Type": "application/json"})

    async def upload(self, token: str, method: str, field: str, content: bytes, name: str, **parameters: Any) -> Any:
        """Call a ``method`` that sends a file, with the ``content`` in ``field``; see :meth:`call`."""
        # Names go as they are: a quoted one would be shown with its percent signs.
        form = aiohttp.FormData({key: str(value) for key, value in parameters.items()}, quote_fields=False)
        form.add_field(field, content, filename=name)
        return await self._post(token, method, aiohttp.ClientTimeout(total=self._download_timeout_s), data=form)

    async def _post(self, token: str, method: str, timeout: aiohttp.ClientTimeout, **request: Any) -> Any:
        url = f"{self._base}/bot{token}/{method}"
        status, body = await exchange(self._session, "Telegram", "POST", url, timeout=timeout, **request)
        if body.get("ok"):
            return body.get("result")
        problem = failure(status, body)
        if problem is None:
            return True
        raise problem

    async def get_me(self, token: str) -> dict[str, Any]:
        """Return the bot's own account: ``id``, ``username``, ``first_name``, ``can_manage_bots`` …"""
        result: dict[str, Any] = await self.call(token, "getMe", timeout_s=15)
        return result

    async def download(self, token: str, file_id: str, limit: int) -> bytes:
        """Return a file's bytes, at most ``limit``.

        Raises :class:`FileTooLarge`, :class:`FileGone`, :class:`FilesOnDisk` where this server gives no files, ``Temporary``
        when the server does not answer, and ``TimeoutError`` when all of it takes longer than ``download_timeout_s``: a file
        that always does must not pass for a server that is away.
        """
        async with asyncio.timeout(self._download_timeout_s):
            try:
                info = await self.call(token, "getFile", file_id=file_id)
            except Refused as error:
                # Telegram gives bots 20 MB at most and says so in these words.
                raise (FileTooLarge if "too big" in str(error).lower() else FileGone)(str(error)) from None
            path = str(info.get("file_path") or "")
            if int(info.get("file_size") or 0) > limit or not path:
                raise FileTooLarge("file is too big")
            if path.startswith("/"):
                raise FilesOnDisk("the Bot API server runs with --local and gives no files: start it without --local")
            return await self._fetch(f"{self._base}/file/bot{token}/{path}", limit)

    async def _fetch(self, address: str, limit: int) -> bytes:
        try:
            async with self._session.get(address, timeout=aiohttp.ClientTimeout(connect=10)) as response:
                if 400 <= response.status < 500 and response.status != 429:
                    raise FileGone(f"the file server answered {response.status}")
                if response.status != 200:
                    raise Temporary(f"the file server answered {response.status}")
                received = bytearray()
                async for part in response.content.iter_chunked(65536):
                    received += part
                    if len(received) > limit:
                        raise FileTooLarge("file is too big")
                return bytes(received)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Temporary(f"download failed: {type(error).__name__}") from None


def _plain(number: str) -> str:
    """Return an identifier that any database takes, whatever it was made of."""
    return "".join(filter(str.isprintable, number))[:120]


def _sender(user: Mapping[str, Any]) -> Sender:
    name = f"{user.get('first_name', '')} {user.get('last_name', '')}".strip()
    return Sender(str(user.get("id", "")), name[:200], str(user.get("username", ""))[:64], user.get("language_code"))


@dataclass(frozen=True, slots=True)
class ChatPlace:
    """Where a message goes: a chat, one topic of it (``thread``), or a chat of whoever made a business connection."""

    chat: str
    thread: str = ""
    connection: str = ""

    def __str__(self) -> str:
        """Return the recipient that stands for it: ``chat``, ``chat#thread`` or ``connection/chat``."""
        within = f"{self.chat}#{self.thread}" if self.thread else self.chat
        return f"{self.connection}/{within}" if self.connection else within

    def parameters(self) -> dict[str, Any]:
        """Return what a method of the Bot API wants to know of it."""
        result: dict[str, Any] = {"chat_id": self.chat}
        if self.thread.isdigit():
            result["message_thread_id"] = int(self.thread)
        if self.connection:
            result["business_connection_id"] = self.connection
        return result


def place_of(recipient: str) -> ChatPlace:
    """Return the place that a recipient stands for."""
    connection, _, within = recipient.rpartition("/")
    chat, _, thread = within.partition("#")
    return ChatPlace(chat, thread, connection)


def _leading(text: str, units: int) -> str:
    """Return the first word of ``text``, no longer than ``units`` of UTF-16."""
    cut = text.encode("utf-16-le", "surrogatepass")[: 2 * units].decode("utf-16-le", "ignore")
    return "".join(cut.split(maxsplit=1)[:1])


def is_group(recipient: str) -> bool:
    """Tell whether many people read there, so that Telegram lets pass less: a group or a channel, whose ids are negative."""
    return place_of(recipient).chat.startswith("-")


def _marked(text: str, entity: Mapping[str, Any]) -> str:
    """Return the part of ``text`` that an entity is about; Telegram counts in UTF-16."""
    begin, length = int(entity.get("offset") or 0), int(entity.get("length") or 0)
    return text.encode("utf-16-le", "surrogatepass")[2 * begin : 2 * (begin + length)].decode("utf-16-le", "ignore")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _about_group(chat: Mapping[str, Any], content: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return what tells in a group whether a message is for the bot, and what the group is called.

    ``mentions``: usernames in small letters; ``named``: accounts by number; ``replied``: whose message it answers.
    """
    entities = [each for each in content.get("entities") or content.get("caption_entities") or () if _mapping(each)]
    answered = _mapping(content.get("reply_to_message"))
    # What stands first in a topic is "answered" by everything in it.
    topic = _mapping(answered.get("forum_topic_created"))
    title = " · ".join(filter(None, (str(chat.get("title") or ""), str(topic.get("name") or ""))))
    return {
        "title": title[:200],
        "username": str(chat.get("username") or "")[:64],
        "mentions": [_marked(text, each)[1:].lower() for each in entities if each.get("type") == "mention"],
        "named": [str(_mapping(each.get("user")).get("id")) for each in entities if each.get("type") == "text_mention"],
        "replied": "" if topic else str(_mapping(answered.get("from")).get("id", "")),
    }


def _belongs(member: Any) -> bool:
    """Whether a ``ChatMember`` is in the chat."""
    status = _mapping(member).get("status")
    return status in ("creator", "administrator", "member") or (
        status == "restricted" and bool(_mapping(member).get("is_member"))
    )


_KINDS = {"video_note": "video", "animation": "video"}
_DOCUMENT = ("sendDocument", "document")
_SENT_AS = {
    "image/jpeg": ("sendPhoto", "photo"),
    "audio/mpeg": ("sendAudio", "audio"),
    "audio/mp4": ("sendAudio", "audio"),
    "audio/ogg": ("sendAudio", "audio"),
    "video/mp4": ("sendVideo", "video"),
}
"""The method and the field for what Telegram plays or shows by itself; everything else is a document."""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**40 else 0


def _files(type_: str, found: Any) -> tuple[RemoteFile, ...]:
    """Return the file of a message; of the sizes of a photo the largest."""
    if type_ == "photo" and isinstance(found, list):
        sizes = [size for size in found if isinstance(size, Mapping) and size.get("file_id")]
        found = max(sizes, key=lambda size: _number(size.get("width")), default=None)
    if type_ not in ("photo", "voice", "audio", "video", "video_note", "animation", "document", "sticker"):
        return ()
    if not isinstance(found, Mapping) or not found.get("file_id"):
        return ()
    return (
        RemoteFile(
            _KINDS.get(type_, type_),
            {"file_id": str(found["file_id"])[:300]},
            str(found.get("file_name") or ""),
            str(found.get("mime_type") or ""),
            _number(found.get("file_size")),
            _number(found.get("duration")),
        ),
    )


def _place(found: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a place in words and as numbers; a venue has a name and an address."""
    spot = found.get("location") if isinstance(found.get("location"), Mapping) else found
    assert isinstance(spot, Mapping)
    latitude, longitude = float(spot["latitude"]), float(spot["longitude"])
    named = ", ".join(str(found[key]) for key in ("title", "address") if found.get(key))
    return f"📍 {named or f'{latitude:.6f}, {longitude:.6f}'}", {"latitude": latitude, "longitude": longitude}


def _content(update: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    for kind, value in update.items():
        if kind != "update_id" and isinstance(value, Mapping):
            return kind, value
    return "", {}


class TelegramChannel:
    """The channel of a tenant bot. Recipient: see :class:`ChatPlace`."""

    kind = "telegram"
    text_limit = TEXT_LIMIT
    text_unit: TextUnit = "utf16"
    typing_s = 5.0

    def __init__(self, api: TelegramApi) -> None:
        self._api = api

    def identify(self, update: Mapping[str, Any]) -> tuple[str, str]:
        """See :class:`services.channels.base.Channel`."""
        kind, content = _content(update)
        message = content.get("message") if kind == "callback_query" else content
        if not isinstance(message, Mapping):
            message = content
        chat = message.get("chat") or content.get("user_chat_id") or content.get("from") or content.get("user") or {}
        chat_id = chat.get("id") if isinstance(chat, Mapping) else chat
        connection = str(message.get("business_connection_id") or "")
        # Elsewhere a thread is only a chain of replies.
        in_topic = message.get("is_topic_message") and isinstance(chat, Mapping) and chat.get("type") in _GROUPS
        thread = str(message.get("message_thread_id") or "") if in_topic else ""
        place = ChatPlace(str(chat_id or "none"), thread, connection)
        return _plain(str(place)), _plain(str(update["update_id"]))

    def parse(self, update: Mapping[str, Any]) -> Inbound:
        """See :class:`services.channels.base.Channel`."""
        kind, content = _content(update)
        recipient, _ = self.identify(update)
        sender = _sender(content.get("from") or content.get("user") or {})
        if kind in _MESSAGE_KINDS:
            return self._message(kind, content, recipient, sender)
        if kind == "callback_query":
            message = content.get("message") or {}
            return Inbound(
                "callback",
                recipient,
                sender,
                message_id=str(message.get("message_id", "")),
                data=str(content.get("data") or ""),
                callback_id=str(content.get("id", "")),
                extra={"chat_type": (message.get("chat") or {}).get("type")},
            )
        if kind == "my_chat_member":
            return self._membership(content, recipient, sender)
        if kind == "business_connection":
            rights = _mapping(content.get("rights"))
            extra = {
                "connection": str(content.get("id") or "")[:128],
                "can_reply": bool(rights.get("can_reply")),
                "enabled": bool(content.get("is_enabled")),
            }
            return Inbound("connection", recipient, sender, reply=False, extra=extra)
        if kind == "deleted_business_messages":
            chat = content.get("chat") or {}
            gone = tuple(str(number) for number in content.get("message_ids") or ())
            return Inbound("delete", recipient, _sender(chat), reply=False, extra={"of": gone})
        if kind == "pre_checkout_query":
            return Inbound("pre_checkout", recipient, sender, callback_id=str(content.get("id", "")), reply=False)
        if kind == "managed_bot":
            return Inbound("managed_bot", recipient, sender, reply=False)
        return Inbound("unsupported", recipient, sender, type=kind or "unknown", reply=False)

    @staticmethod
    def _membership(content: Mapping[str, Any], recipient: str, sender: Sender) -> Inbound:
        """The bot was blocked or let in again, added to a group or removed from it."""
        chat, new = content.get("chat") or {}, content.get("new_chat_member")
        extra: dict[str, Any] = {"chat_type": chat.get("type")}
        kind = "unsupported"
        if chat.get("type") == "private":
            kind = {"kicked": "blocked", "member": "unblocked"}.get(str(_mapping(new).get("status")), kind)
        elif chat.get("type") in _GROUPS:
            extra |= _about_group(chat, {}, "")
            was, belongs = _belongs(content.get("old_chat_member")), _belongs(new)
            kind = {(False, True): "added", (True, False): "blocked"}.get((was, belongs), kind)
        return Inbound(kind, recipient, sender, reply=False, extra=extra)

    def _message(self, kind: str, content: Mapping[str, Any], recipient: str, sender: Sender) -> Inbound:
        chat = content.get("chat") or {}
        mask = _mapping(content.get("sender_chat"))
        masked = sender.id in _MASKS and bool(mask)
        if masked:
            name = str(mask.get("title") or content.get("author_signature") or "")
            sender = Sender(str(mask.get("id", "")), name[:200], str(mask.get("username") or "")[:64])
        text = str(content.get("text") or content.get("caption") or "")
        private = chat.get("type") == "private"
        # What Telegram will have one day is answered where a person certainly sent it: in a group it may be a note of Telegram's.
        unknown = "other" if private and _SERVICE.isdisjoint(content) else "service"
        type_ = next((name for name in _TYPES if content.get(name)), unknown)
        date = content.get("date")
        common: dict[str, Any] = {
            "message_id": str(content.get("message_id", "")),
            "type": type_,
            "text": text,
            "at": dt.datetime.fromtimestamp(date, dt.UTC) if isinstance(date, int) else None,
            "extra": {"chat_type": chat.get("type"), "album": content.get("media_group_id")},
            "files": _files(type_, content.get(type_)),
        }
        if type_ in ("location", "venue"):
            common["text"], common["extra"]["location"] = _place(content[type_])
        if chat.get("type") in _GROUPS:
            common["extra"] |= _about_group(chat, content, text)
        if moved_to := content.get("migrate_to_chat_id"):
            return Inbound("system", recipient, sender, reply=False, **{**common, "extra": {"moved_to": str(moved_to)}})
        # A bot is never answered: two that answer each other would not stop. The owner's greetings and messages of an
        # absence are the account's, not a person's.
        automatic = (_mapping(content.get("from")).get("is_bot") and not masked) or any(
            content.get(sign) for sign in ("sender_business_bot", "is_automatic_forward", "is_from_offline")
        )
        if automatic or type_ == "service" or "channel_post" in kind or not sender.id:
            return Inbound("unsupported", recipient, sender, reply=False, **common)
        # In a business connection the owner's own messages arrive as well; a customer writes in the chat of their own number.
        own = "business" in kind and str(chat.get("id")) != sender.id
        if kind.startswith("edited"):
            changed = content.get("edit_date")
            common["extra"] |= {"of": common["message_id"], "own": own, "written": common["at"]}
            common["at"] = dt.datetime.fromtimestamp(changed, dt.UTC) if isinstance(changed, int) else common["at"]
            return Inbound("edit", recipient, _sender(chat) if own else sender, reply=False, **common)
        if own:
            return Inbound("echo", recipient, _sender(chat), reply=False, **common)
        if type_ == "successful_payment":
            return Inbound("payment", recipient, sender, reply=False, **common)
        if type_ == "contact":
            contact = content["contact"]
            phone = str(contact.get("phone_number") or "")
            common["extra"] |= {
                "phone": f"+{phone.removeprefix('+')}" if phone else "",
                "own": str(contact.get("user_id", "")) == sender.id,
            }
            return Inbound("contact", recipient, sender, **common)
        entities = content.get("entities") or ()
        first = next((e for e in entities if e.get("type") == "bot_command" and e.get("offset") == 0), None)
        if text.startswith("/") and first is not None:
            word = _leading(text, int(first.get("length") or 0))
            command, _, addressee = word[1:].partition("@")
            common["extra"]["addressee"] = addressee
            args = text[len(word) :].strip()
            if command.lower() == "start" and _SOURCE.fullmatch(args):
                common["extra"]["source"] = args
            return Inbound(
                "command",
                recipient,
                sender,
                command=command.lower()[:32],
                args=args[:64],
                **common,
            )
        return Inbound("message", recipient, sender, **common)

    async def send(self, credentials: Mapping[str, str], recipient: str, message: Outgoing) -> str:
        """See :class:`services.channels.base.Channel`."""
        place = place_of(recipient)
        parameters: dict[str, Any] = {"text": message.text, **place.parameters()}
        if message.reply_to.isdigit():
            parameters["reply_parameters"] = {
                "message_id": int(message.reply_to),
                "allow_sending_without_reply": True,
            }
        if message.buttons:
            parameters["reply_markup"] = {
                "inline_keyboard": [[{"text": b.text, "callback_data": b.data} for b in row] for row in message.buttons]
            }
        try:
            if message.file is not None:
                result = await self._send_file(credentials["token"], message.file, parameters)
            else:
                result = await self._api.call(credentials["token"], "sendMessage", **parameters)
        except Moved as error:
            raise Moved(str(ChatPlace(error.recipient, place.thread, place.connection))) from None
        return str(result["message_id"]) if isinstance(result, Mapping) and "message_id" in result else ""

    async def _send_file(self, token: str, file: OutgoingFile, parameters: Mapping[str, Any]) -> Any:
        """Send a file as what it is; where Telegram does not take it as that, as a document."""
        fields = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in parameters.items()}
        if caption := fields.pop("text"):
            fields["caption"] = caption
        method, field = _SENT_AS.get(file.mime, _DOCUMENT)
        if file.kind == "voice" and file.mime == "audio/ogg":
            method, field = "sendVoice", "voice"
        try:
            return await self._api.upload(token, method, field, file.content, file.name, **fields)
        except Refused:
            if method == _DOCUMENT[0]:
                raise
        return await self._api.upload(token, *_DOCUMENT, file.content, file.name, **fields)

    async def fetch(self, credentials: Mapping[str, str], file: Mapping[str, str], limit: int) -> bytes:
        """See :class:`services.channels.base.Channel`."""
        return await self._api.download(credentials["token"], file["file_id"], limit)

    async def typing(self, credentials: Mapping[str, str], recipient: str, message_id: str = "") -> None:
        """See :class:`services.channels.base.Channel`."""
        parameters = place_of(recipient).parameters()
        with contextlib.suppress(Temporary, TokenRefused, Unreachable, Moved, Refused, AnotherConsumer):
            await self._api.call(credentials["token"], "sendChatAction", timeout_s=5, action="typing", **parameters)

    async def settle(self, credentials: Mapping[str, str], event: Inbound) -> None:
        """See :class:`services.channels.base.Channel`."""
        if event.kind == "callback":
            said = {"text": str(event.extra["say"])[:200]} if event.extra.get("say") else {}
            with contextlib.suppress(Temporary, TokenRefused, Unreachable, Moved, Refused, AnotherConsumer):
                await self._api.call(
                    credentials["token"],
                    "answerCallbackQuery",
                    timeout_s=5,
                    callback_query_id=event.callback_id,
                    **said,
                )
            if rows := event.extra.get("buttons"):
                await self._show_buttons(credentials, event, rows)

    async def _show_buttons(
        self, credentials: Mapping[str, str], event: Inbound, rows: tuple[tuple[Button, ...], ...]
    ) -> None:
        """Put other buttons under the message whose button was pressed."""
        place = place_of(event.recipient)
        where: dict[str, Any] = {"chat_id": place.chat}
        if place.connection:
            where["business_connection_id"] = place.connection
        with contextlib.suppress(Temporary, TokenRefused, Unreachable, Moved, Refused, AnotherConsumer):
            await self._api.call(
                credentials["token"],
                "editMessageReplyMarkup",
                timeout_s=5,
                message_id=int(event.message_id) if event.message_id.isdigit() else 0,
                reply_markup={
                    "inline_keyboard": [[{"text": b.text, "callback_data": b.data} for b in row] for row in rows]
                },
                **where,
            )

    async def inspect(self, credentials: Mapping[str, str], place: Place) -> Inspection:
        """See :class:`services.channels.base.Inspectable`. Nothing is mended: receiving looks after the webhook all the time."""
        token = credentials["token"]
        await self._api.get_me(token)
        info = await self._api.call(token, "getWebhookInfo", timeout_s=15)
        if not isinstance(info, Mapping):
            raise Temporary("what came from Telegram says nothing of the webhook")
        address = str(info.get("url") or "")
        pending, error_at = info.get("pending_update_count"), info.get("last_error_date")
        return Inspection(
            webhook="foreign" if address not in ("", place.webhook) else "ok" if address == place.webhook else "",
            pending=pending if isinstance(pending, int) else None,
            error=str(info.get("last_error_message") or "")[:200],
            error_at=error_at if isinstance(error_at, int) else 0,
            # The same call tells that a token is refused.
            disproves=frozenset({"refused"}),
        )


async def get_updates(api: TelegramApi, token: str, offset: int | None, timeout_s: int) -> list[dict[str, Any]]:
    """Wait up to ``timeout_s`` for updates from ``offset`` on; asking for an offset confirms everything before it.

    Raises ``Temporary`` also where no list came: taken for none, such an answer would be asked for again without a pause.
    """
    parameters: dict[str, Any] = {"timeout": timeout_s, "limit": 100, "allowed_updates": ALLOWED_UPDATES}
    if offset is not None:
        parameters["offset"] = offset
    result = await api.call(token, "getUpdates", timeout_s=timeout_s + 15, **parameters)
    if not isinstance(result, list):
        raise Temporary("what came from Telegram is no list of updates")
    return result
