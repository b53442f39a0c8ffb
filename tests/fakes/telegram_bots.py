"""The bots of the fake Bot API server: their updates, by polling and by webhook, and what is recorded of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import ClientError

from tests.fakes.telegram_format import ApiError, Json, bad, flag, integer

if TYPE_CHECKING:
    from tests.fakes.telegram import FakeTelegram
    from tests.fakes.telegram_people import FakeUser

WEBHOOK_PORTS = (443, 80, 88, 8443)
NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
"""Kinds of updates that an empty ``allowed_updates`` leaves out."""


@dataclass(slots=True, eq=False)
class StoredFile:
    """A file that a person or a bot sent. ``size`` may be larger than ``content``, for files that are only claimed."""

    file_id: str
    unique_id: str
    path: str
    name: str
    mime_type: str
    content: bytes
    size: int
    bot_id: int

    def wire(self) -> Json:
        """Return the fields that every kind of file has."""
        return {"file_id": self.file_id, "file_unique_id": self.unique_id, "file_size": self.size}


@dataclass(slots=True, eq=False)
class Edit:
    """One change of a sent message. ``at`` is monotonic."""

    text: str
    markup: Json | None
    at: float


@dataclass(slots=True, eq=False)
class Sent:
    """A message of a bot. ``text`` is the present text or caption after its entities were parsed, ``at`` monotonic."""

    bot: FakeBot
    chat_id: int
    message_id: int
    method: str
    text: str
    markup: Json | None
    at: float
    params: Json
    wire: Json
    file: StoredFile | None = None
    edits: list[Edit] = field(default_factory=list)
    deleted: bool = False

    @property
    def buttons(self) -> list[Json]:
        """All buttons, of the inline or the reply keyboard, in reading order."""
        markup = self.markup or {}
        rows = markup.get("inline_keyboard") or markup.get("keyboard") or []
        return [button if isinstance(button, dict) else {"text": button} for row in rows for button in row]

    def button(self, wanted: str) -> Json:
        """Return the button whose label contains ``wanted`` or whose callback data equals it."""
        for button in self.buttons:
            if button.get("callback_data") == wanted or wanted in button["text"]:
                return button
        raise LookupError(f"no button {wanted!r} among {[button['text'] for button in self.buttons]}")


@dataclass(slots=True, eq=False)
class Call:
    """One request of a bot. ``status`` is 0 while it is under way and when it was cut off."""

    bot: FakeBot | None
    method: str
    params: Json
    at: float
    status: int = 0


@dataclass(slots=True, eq=False)
class Press:
    """A pressed inline button and what the bot answered to it."""

    id: str
    user: FakeUser
    data: str
    answered: bool = False
    text: str = ""
    alert: bool = False


@dataclass(slots=True, eq=False)
class Fault:
    """A rule that spoils matching requests; ``None`` matches any, ``times`` ``None`` lasts until it is removed."""

    bot: FakeBot | None = None
    method: str | None = None
    chat_id: int | None = None
    times: int | None = None
    error: Callable[[], ApiError | None] | None = None
    body: tuple[int, bytes, str] | None = None
    delay_s: float = 0.0
    delay_after_s: float = 0.0
    cut: str | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    hits: int = 0

    def matches(self, bot: FakeBot | None, method: str, params: Mapping[str, Any]) -> bool:
        """Tell whether the rule applies to this request."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.bot is not None and self.bot is not bot:
            return False
        if self.method is not None and self.method.lower() != method.lower():
            return False
        return self.chat_id is None or str(params.get("chat_id")) == str(self.chat_id)

    def release(self) -> None:
        """Let the requests that are held go on, and those to come."""
        if self.gate is not None:
            self.gate.set()


# --- Bots -------------------------------------------------------------------------------------------------------------


class FakeBot:
    """A bot as Telegram knows it: its identity, its waiting updates, its webhook, its files and messages."""

    def __init__(self, fake: FakeTelegram, token: str, username: str, name: str, **abilities: bool) -> None:
        self.fake = fake
        self.token = token
        self.id = int(token.split(":", 1)[0])
        self.username = username
        self.name = name
        self.abilities = abilities
        self.revoked = False
        self.logged_out = False
        self.pending: dict[int, Json] = {}
        self.allowed: frozenset[str] | None = None
        self.webhook_url = ""
        self.webhook_secret = ""
        self.webhook_connections = 40
        self.webhook_error: tuple[int, str] | None = None
        self.webhook_posts: Counter[int] = Counter()
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.texts: dict[tuple[str, str], str] = {}
        self.menu_buttons: dict[str, Json] = {}
        self.managed_by: FakeBot | None = None
        self.owner_id: int | None = None
        self.messages: dict[tuple[int, int], Sent] = {}
        self.presses: dict[str, Press] = {}
        self.drafts: list[Json] = []
        self.reactions: list[tuple[int, int, str]] = []
        self.connections: dict[str, Json] = {}
        self.files: dict[str, StoredFile] = {}
        self.chats: set[int] = set()
        self.next_update_id = 100_000_000 + self.id % 1_000_000
        self._message_ids = count(1)
        self._poll: asyncio.Future[ApiError | None] | None = None
        self._lanes: dict[int, deque[int]] = {}
        self._slots = asyncio.Semaphore(self.webhook_connections)

    def __repr__(self) -> str:
        return f"<FakeBot @{self.username}>"

    def user(self) -> Json:
        """Return the bot as a ``User``, as others see it."""
        return {"id": self.id, "is_bot": True, "first_name": self.name, "username": self.username}

    def new_message_id(self) -> int:
        """Return the next number; a bot's private chats share one sequence."""
        return next(self._message_ids)

    @property
    def polled(self) -> bool:
        """Whether a ``getUpdates`` is waiting just now."""
        return self._poll is not None and not self._poll.done()

    def revoke(self) -> None:
        """Make the token invalid, as its owner can in BotFather: 401 from now on."""
        self.revoked = True
        self.end_poll(ApiError(401, "Unauthorized"))

    def interfere(self) -> None:
        """Let another program ask for this bot's updates once: the waiting ``getUpdates`` ends with 409."""
        self.end_poll(
            ApiError(
                409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
            )
        )

    def forget_pending(self) -> None:
        """Throw the waiting updates away, as Telegram does after 24 hours."""
        self.pending.clear()
        self._lanes.clear()

    def end_poll(self, outcome: ApiError | None) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(outcome)

    def push(self, kind: str, content: Json) -> int | None:
        """Queue an update and return its id; ``None`` when the bot has not asked for this kind."""
        if (kind in NOT_BY_DEFAULT) if self.allowed is None else (kind not in self.allowed):
            return None
        update_id = self.next_update_id
        self.put({"update_id": update_id, kind: content})
        return update_id

    def put(self, update: Json) -> None:
        """Queue a whole update as it is, also one that was delivered before."""
        update_id = int(update["update_id"])
        self.next_update_id = max(self.next_update_id, update_id + 1)
        self.pending[update_id] = update
        if self.webhook_url:
            self._to_lane(update)
        else:
            self.end_poll(None)

    # Polling

    async def get_updates(self, params: Json) -> list[Json]:
        """Answer ``getUpdates`` with its real effects: confirm by offset, wait, and only one consumer."""
        if self.webhook_url:
            raise ApiError(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            )
        self.interfere()
        if "allowed_updates" in params:
            self._allow(params["allowed_updates"])
        offset = integer(params, "offset", 0)
        limit = integer(params, "limit", 100)
        limit = limit if 1 <= limit <= 100 else 100
        if offset < 0:
            keep = list(self.pending)[offset:]
            self.pending = {number: self.pending[number] for number in keep}
        else:
            for number in [number for number in self.pending if number < offset]:
                del self.pending[number]
        self.fake.touch()
        timeout_s = min(integer(params, "timeout", 0), 50)
        if not self.pending and timeout_s > 0:
            self._poll = asyncio.get_running_loop().create_future()
            self.fake.touch()
            try:
                async with asyncio.timeout(timeout_s):
                    error = await self._poll
                if error is not None:
                    raise error
            except TimeoutError:
                return []
        return [self.pending[number] for number in list(self.pending)[:limit]]

    def _allow(self, kinds: object) -> None:
        if not isinstance(kinds, list):
            raise bad("can't parse allowed updates list JSON object")
        self.allowed = frozenset(map(str, kinds)) or None

    # Webhook

    def set_webhook(self, params: Json) -> str:
        """Switch to a webhook, or back to polling when the address is empty; return Telegram's remark."""
        url = str(params.get("url", ""))
        if not url:
            return self.delete_webhook(params)
        address = self._checked_webhook(url)
        secret = str(params.get("secret_token", ""))
        if secret and not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret):
            raise bad("secret token contains unallowed characters")
        if "allowed_updates" in params:
            self._allow(params["allowed_updates"])
        if flag(params, "drop_pending_updates"):
            self.forget_pending()
        same = (self.webhook_url, self.webhook_secret) == (url, secret)
        self.end_poll(ApiError(409, "Conflict: terminated by setWebhook request"))
        self._stop_deliveries()
        connections = integer(params, "max_connections", 40)
        self.webhook_connections = min(max(connections, 1), 100_000 if address.hostname == "127.0.0.1" else 100)
        self._slots = asyncio.Semaphore(self.webhook_connections)
        self.webhook_url, self.webhook_secret, self.webhook_error = url, secret, None
        for update in list(self.pending.values()):
            self._to_lane(update)
        return "Webhook is already set" if same else "Webhook was set"

    def _checked_webhook(self, url: str) -> Any:
        address = urlsplit(url)
        if address.hostname in ("127.0.0.1", "localhost"):
            return address  # what a Bot API server of one's own accepts
        if address.scheme != "https":
            raise bad("bad webhook: An HTTPS URL must be provided for webhook")
        if (address.port or 443) not in WEBHOOK_PORTS:
            raise bad("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        return address

    def delete_webhook(self, params: Json) -> str:
        """Switch back to polling; return Telegram's remark."""
        was = self.webhook_url
        self._stop_deliveries()
        self.webhook_url = self.webhook_secret = ""
        if flag(params, "drop_pending_updates"):
            self.forget_pending()
        return "Webhook was deleted" if was else "Webhook is already deleted"

    def webhook_info(self) -> Json:
        """Answer ``getWebhookInfo``."""
        info: Json = {
            "url": self.webhook_url,
            "has_custom_certificate": False,
            "pending_update_count": len(self.pending),
        }
        if self.webhook_url:
            info |= {"max_connections": self.webhook_connections, "ip_address": "127.0.0.1"}
        if self.webhook_error:
            info |= {"last_error_date": self.webhook_error[0], "last_error_message": self.webhook_error[1]}
        if self.allowed is not None:
            info["allowed_updates"] = sorted(self.allowed)
        return info

    def _stop_deliveries(self) -> None:
        self._lanes.clear()
        self.fake.cancel_tasks(self)

    def _to_lane(self, update: Json) -> None:
        # As in Telegram's server: the updates of one chat go one after the other, those of several side by side.
        lane = _chat_of(update)
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = waiting = deque()
            waiting.append(int(update["update_id"]))
            self.fake.start_task(self, self._deliver_lane(lane, waiting))
        else:
            waiting.append(int(update["update_id"]))

    async def _deliver_lane(self, lane: int, waiting: deque[int]) -> None:
        pause_s = self.fake.webhook_retry_s
        while waiting:
            update = self.pending.get(waiting[0])
            if update is None:
                waiting.popleft()
                continue
            async with self._slots:
                delivered = await self._post(update)
            if delivered:
                self.pending.pop(waiting.popleft(), None)
                pause_s = self.fake.webhook_retry_s
                self.fake.touch()
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self.fake.webhook_retry_max_s)
        if self._lanes.get(lane) is waiting:
            del self._lanes[lane]

    async def _post(self, update: Json) -> bool:
        headers = {"Content-Type": "application/json"}
        if self.webhook_secret:
            headers["X-Telegram-Bot-Api-Secret-Token"] = self.webhook_secret
        url = self.fake.route_of(self.webhook_url)
        status = 0
        begun = time.monotonic()
        try:
            async with self.fake.client.post(url, data=json.dumps(update), headers=headers) as response:
                body = await response.read()
                status = response.status
                problem = f"Wrong response from the webhook: {status} {response.reason}"
        except TimeoutError:
            problem = "Read timeout expired"
        except (ClientError, OSError):
            problem = "Connection refused"
        self.webhook_posts[status] += 1
        if self.fake.on_ack is not None:
            self.fake.on_ack(status, time.monotonic() - begun)
        if 200 <= status < 300:
            await self._method_in_answer(body)
            return True
        self.webhook_error = (int(time.time()), problem)
        self.fake.touch()
        return False

    async def _method_in_answer(self, body: bytes) -> None:
        if not body.startswith(b"{"):
            return
        with contextlib.suppress(ValueError):
            call = json.loads(body)
            method = call.pop("method", None)
            if isinstance(method, str):
                with contextlib.suppress(ApiError):  # nobody hears the result of such a call
                    await self.fake.call(self, method, call, {})


def _chat_of(update: Json) -> int:
    """Return the chat or person an update belongs to."""
    for key, content in update.items():
        if key == "update_id" or not isinstance(content, dict):
            continue
        for path in (("chat",), ("message", "chat"), ("from",), ("user",)):
            place: Any = content
            for step in path:
                place = place.get(step) if isinstance(place, dict) else None
            if isinstance(place, dict) and "id" in place:
                return int(place["id"])
    return 0
