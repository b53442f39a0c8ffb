"""The people and groups of the fake Bot API server: what they do becomes the updates that Telegram would make of it."""

from __future__ import annotations

import mimetypes
import re
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.telegram_bots import FakeBot, Press, Sent
from tests.fakes.telegram_format import Json, units

if TYPE_CHECKING:
    from tests.fakes.telegram import FakeTelegram

_MENTION = re.compile(r"(?<![\w/@])@[A-Za-z0-9_]{4,32}")
# What Telegram always tells of an administrator.
_ADMINISTRATOR = (
    "can_be_edited is_anonymous can_manage_chat can_delete_messages can_manage_video_chats can_restrict_members "
    "can_promote_members can_change_info can_invite_users can_post_stories can_edit_stories can_delete_stories "
    "can_send_welcome_messages"
).split()
_COMMAND = re.compile(r"/[A-Za-z0-9_]{1,32}(@[A-Za-z0-9_]+)?")


class FakeGroup:
    """A group or supergroup; bots get the messages there that :meth:`FakeUser.send` addresses to them."""

    def __init__(self, fake: FakeTelegram, chat_id: int, title: str) -> None:
        self.fake = fake
        self.id = chat_id
        self.title = title
        self.migrated_to: int | None = None
        self.topics: dict[int, Json] = {}
        self.closed: set[int] = set()
        self.forum = False
        self.managers: set[int] = set()

    def chat(self) -> Json:
        """Return the ``Chat``."""
        kind = "supergroup" if str(self.id).startswith("-100") else "group"
        more: Json = {"is_forum": True} if self.forum else {}
        return {"id": self.id, "type": kind, "title": self.title, **more}

    def topic(self, bot: FakeBot, name: str) -> int:
        """Open a topic; return its number."""
        self.forum = True
        thread = bot.new_message_id()
        self.topics[thread] = {
            "message_id": thread,
            "from": {"id": 5_000_001, "is_bot": False, "first_name": "Admin"},
            "chat": self.chat(),
            "date": int(time.time()),
            "message_thread_id": thread,
            "is_topic_message": True,
            "forum_topic_created": {"name": name, "icon_color": 7322096},
        }
        return thread

    def within(self, thread: int) -> Json:
        """Return what a message in a topic carries; it "answers" what opened the topic."""
        return {"message_thread_id": thread, "is_topic_message": True, "reply_to_message": self.topics[thread]}

    def anonymous(self, bot: FakeBot, **content: Any) -> Json:
        """Let an anonymous administrator write."""
        mask: Json = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
        return self.say(bot, mask, sender_chat=self.chat(), **content)

    def say(self, bot: FakeBot, sender: Json, **content: Any) -> Json:
        """Let any account write, a bot's too."""
        bot.chats.add(self.id)
        message = {
            "message_id": bot.new_message_id(),
            "from": sender,
            "chat": self.chat(),
            "date": int(time.time()),
            **content,
        }
        bot.push("message", message)
        return message

    def add(
        self, bot: FakeBot, by: FakeUser, *, status: str = "member", old: str = "left", manages: bool = False
    ) -> None:
        """Add the bot to the group, or with other states change what it is there."""
        if status in ("left", "kicked"):
            bot.chats.discard(self.id)
        else:
            bot.chats.add(self.id)
        rights: Json = dict.fromkeys(_ADMINISTRATOR, False) if status == "administrator" else {}
        if manages:
            rights["can_manage_topics"] = True
        before: Json = dict.fromkeys(_ADMINISTRATOR, False) if old == "administrator" else {}
        change = {
            "chat": self.chat(),
            "from": by.user(),
            "date": int(time.time()),
            "old_chat_member": {"user": bot.user(), "status": old, **before},
            "new_chat_member": {"user": bot.user(), "status": status, **rights},
        }
        if manages:
            self.managers.add(bot.id)
        else:
            self.managers.discard(bot.id)
        bot.push("my_chat_member", change)

    def named(self, wanted: str) -> int | None:
        """Return the topic whose name contains ``wanted``."""
        found = (number for number, one in self.topics.items() if wanted in one["forum_topic_created"]["name"])
        return next(found, None)

    def migrate(self, bot: FakeBot, new_id: int) -> FakeGroup:
        """Turn the group into a supergroup: service messages to ``bot`` and an error for the old id."""
        grown = self.fake.group(new_id, self.title)
        self.migrated_to = new_id
        bot.chats.add(new_id)
        date = int(time.time())
        for group, key, other in ((self, "migrate_to_chat_id", new_id), (grown, "migrate_from_chat_id", self.id)):
            message: Json = {"message_id": bot.new_message_id(), "chat": group.chat(), "date": date, key: other}
            bot.push("message", message)
        return grown


class FakeUser:
    """A person. Every method that does something to a bot makes the update that Telegram would make."""

    def __init__(
        self, fake: FakeTelegram, user_id: int, language_code: str | None, first_name: str, username: str | None
    ) -> None:
        self.fake = fake
        self.id = user_id
        self.language_code = language_code
        self.first_name = first_name
        self.username = username
        self.blocked: set[int] = set()
        self.deactivated = False

    def user(self) -> Json:
        """Return the person as a ``User``."""
        result: Json = {"id": self.id, "is_bot": False, "first_name": self.first_name}
        if self.username:
            result["username"] = self.username
        if self.language_code:
            result["language_code"] = self.language_code
        return result

    def chat(self) -> Json:
        """Return the private ``Chat``."""
        result: Json = {"id": self.id, "first_name": self.first_name, "type": "private"}
        if self.username:
            result["username"] = self.username
        return result

    def message(self, bot: FakeBot, group: FakeGroup | None = None, **content: Any) -> Json:
        """Send ``bot`` a message with any content and return it as it is in the update."""
        chat = group.chat() if group else self.chat()
        bot.chats.add(chat["id"])
        message: Json = {
            "message_id": bot.new_message_id(),
            "from": self.user(),
            "chat": chat,
            "date": int(time.time()),
            **content,
        }
        bot.push("message", message)
        return message

    def send(
        self,
        bot: FakeBot,
        text: str,
        *,
        group: FakeGroup | None = None,
        reply_to: Sent | None = None,
        thread: int | None = None,
    ) -> Json:
        """Write ``text``; commands and mentions in it get their entities."""
        content: Json = {"text": text}
        entities = [
            {"type": "bot_command", "offset": units(text[: found.start()]), "length": units(found.group())}
            for found in _COMMAND.finditer(text)
            if found.start() == 0 or text[found.start() - 1].isspace()
        ]
        entities += [
            {"type": "mention", "offset": units(text[: found.start()]), "length": units(found.group())}
            for found in _MENTION.finditer(text)
        ]
        if entities:
            content["entities"] = entities
        if thread is not None and group is not None:
            content |= group.within(thread)
        if reply_to is not None:
            content["reply_to_message"] = reply_to.wire
        return self.message(bot, group, **content)

    def start(self, bot: FakeBot, payload: str = "") -> Json:
        """Press Start, as after a link with this payload."""
        return self.send(bot, f"/start {payload}".strip())

    def edit(self, bot: FakeBot, message: Json, text: str) -> Json:
        """Change an earlier message of one's own."""
        edited = {**message, "text": text, "edit_date": int(time.time())}
        business = "business_connection_id" in message
        bot.push("edited_business_message" if business else "edited_message", edited)
        return edited

    def take_back(self, bot: FakeBot, *messages: Json) -> None:
        """Delete messages of a business chat for both sides."""
        chat, connection = messages[0]["chat"], messages[0]["business_connection_id"]
        numbers = [message["message_id"] for message in messages]
        gone = {"business_connection_id": connection, "chat": chat, "message_ids": numbers}
        bot.push("deleted_business_messages", gone)

    def connect(self, bot: FakeBot, *, can_reply: bool = True, enabled: bool = True, told: bool = True) -> Json:
        """Connect the bot to this person's business account, or change that; ``told``: the bot gets the update."""
        known = next((id_ for id_, one in bot.connections.items() if one["user"]["id"] == self.id), None)
        connection: Json = {
            "id": known or f"bc{next(self.fake.numbers)}",
            "user": self.user(),
            "user_chat_id": self.id,
            "date": int(time.time()),
            "is_enabled": enabled,
            "rights": {"can_reply": True} if can_reply else {},
        }
        bot.connections[connection["id"]] = connection
        if told:
            bot.push("business_connection", connection)
        return connection

    def write_to(self, other: FakeUser, bot: FakeBot, connection: Json, text: str, **more: Any) -> Json:
        """Write to somebody in a private chat that lies in a business connection: one of both is its account's owner."""
        customer = other if connection["user"]["id"] == self.id else self
        bot.chats.add(customer.id)
        message: Json = {
            "message_id": bot.new_message_id(),
            "from": self.user(),
            "chat": customer.chat(),
            "date": int(time.time()),
            "business_connection_id": connection["id"],
            "text": text,
            **more,
        }
        bot.push("business_message", message)
        return message

    def press(self, message: Sent, wanted: str, *, stale: bool = False) -> Press:
        """Press the inline button with this label or data; with ``stale`` one that the message may have had once."""
        data = wanted if stale else str(message.button(wanted)["callback_data"])
        bot = message.bot
        press = Press(str(next(self.fake.numbers) + (self.id << 32)), self, data)
        bot.presses[press.id] = press
        shown: Json = dict(message.wire)
        if message.deleted:
            shown = {"message_id": message.message_id, "chat": message.wire["chat"], "date": 0}
        query = {
            "id": press.id,
            "from": self.user(),
            "message": shown,
            "chat_instance": str(self.id * 7919),
            "data": data,
        }
        bot.push("callback_query", query)
        return press

    def press_key(self, message: Sent, wanted: str) -> Json:
        """Press a key of the reply keyboard: its label is sent, or one's own contact where it asks for that."""
        key = message.button(wanted)
        if key.get("request_contact"):
            return self.share_contact(message.bot)
        return self.send(message.bot, key["text"])

    def share_contact(self, bot: FakeBot, *, own: bool = True, phone: str = "998901234567") -> Json:
        """Share a phone number, one's own or that of somebody from the address book."""
        contact: Json = {"phone_number": phone, "first_name": self.first_name, "user_id": self.id}
        if not own:
            contact = {"phone_number": phone, "first_name": "Somebody", "user_id": self.id + 1}
        return self.message(bot, contact=contact)

    def send_document(
        self,
        bot: FakeBot,
        name: str,
        content: bytes,
        *,
        mime_type: str | None = None,
        caption: str = "",
        size: int | None = None,
        group_id: str = "",
    ) -> Json:
        """Send a file; ``size`` claims more bytes than there are, ``group_id`` makes it part of an album."""
        kind = mime_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        stored = self.fake.store(bot, "documents", name, kind, content, size)
        more: Json = {"caption": caption} if caption else {}
        if group_id:
            more["media_group_id"] = group_id
        return self.message(bot, document={**stored.wire(), "file_name": name, "mime_type": kind}, **more)

    def send_photo(
        self, bot: FakeBot, content: bytes = b"\xff\xd8\xff\xd9", *, caption: str = "", group_id: str = ""
    ) -> Json:
        """Send a photo, which arrives in several sizes; ``group_id`` makes it part of an album."""
        sizes = []
        for width in (90, 800):
            stored = self.fake.store(bot, "photos", "photo.jpg", "image/jpeg", content)
            sizes.append({**stored.wire(), "width": width, "height": width * 3 // 4})
        more: Json = {"caption": caption} if caption else {}
        if group_id:
            more["media_group_id"] = group_id
        return self.message(bot, photo=sizes, **more)

    def send_voice(self, bot: FakeBot, content: bytes = b"OggS", *, duration_s: int = 3) -> Json:
        """Send a voice message."""
        stored = self.fake.store(bot, "voice", "voice.oga", "audio/ogg", content)
        return self.message(bot, voice={**stored.wire(), "duration": duration_s, "mime_type": "audio/ogg"})

    def send_sticker(self, bot: FakeBot, emoji: str = "👍") -> Json:
        """Send a sticker."""
        stored = self.fake.store(bot, "stickers", "sticker.webp", "image/webp", b"RIFF")
        kind: Json = {"width": 512, "height": 512, "is_animated": False, "is_video": False, "type": "regular"}
        return self.message(bot, sticker={**stored.wire(), **kind, "emoji": emoji})

    def send_location(self, bot: FakeBot, latitude: float = 41.311081, longitude: float = 69.240562) -> Json:
        """Send a place."""
        return self.message(bot, location={"latitude": latitude, "longitude": longitude})

    def react(self, message: Sent, emoji: str = "👍") -> None:
        """Put a reaction on a message of the bot."""
        reaction = {
            "chat": message.wire["chat"],
            "message_id": message.message_id,
            "user": self.user(),
            "date": int(time.time()),
            "old_reaction": [],
            "new_reaction": [{"type": "emoji", "emoji": emoji}],
        }
        message.bot.push("message_reaction", reaction)

    def block(self, bot: FakeBot) -> None:
        """Block the bot: it is told, and its sends get 403."""
        self.blocked.add(bot.id)
        self._membership(bot, "member", "kicked")

    def unblock(self, bot: FakeBot) -> None:
        """Come back to the bot."""
        self.blocked.discard(bot.id)
        self._membership(bot, "kicked", "member")

    def _membership(self, bot: FakeBot, old: str, new: str) -> None:
        def member(status: str) -> Json:
            until: Json = {"until_date": 0} if status == "kicked" else {}
            return {"user": bot.user(), "status": status, **until}

        change = {
            "chat": self.chat(),
            "from": self.user(),
            "date": int(time.time()),
            "old_chat_member": member(old),
            "new_chat_member": member(new),
        }
        bot.push("my_chat_member", change)

    def stop_draft(self, bot: FakeBot, draft_id: int) -> None:
        """Press the stop button of a streamed draft."""
        bot.push("stopped_message_generation", {"chat": self.chat(), "draft_id": draft_id})

    def create_managed_bot(
        self, manager: FakeBot, name: str, username: str, *, request_id: int | None = None
    ) -> FakeBot:
        """Confirm the dialog that makes a bot for ``manager``: it gets an update and a message."""
        number = 8_000_000_000 + next(self.fake.numbers)
        bot = self.fake.add_bot(f"{number}:managed_{number}_AAAAAAAAAAAAAAAAAAAA", username, name=name)
        bot.managed_by, bot.owner_id = manager, self.id
        manager.push("managed_bot", {"user": self.user(), "bot": bot.user()})
        created: Json = {"bot": bot.user()}
        if request_id is not None:
            created["request_id"] = request_id
        self.message(manager, managed_bot_created=created)
        return bot
