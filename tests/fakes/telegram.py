"""A Bot API server on loopback that speaks Telegram's wire format and refuses what Telegram refuses.

Bots are made with :meth:`FakeTelegram.add_bot`, people with :meth:`FakeTelegram.user`; what people do becomes updates, given
out by ``getUpdates`` or posted to the bot's webhook, in order and again until they are taken. What bots send is recorded.

::

    async with FakeTelegram() as fake:
        bot = fake.add_bot("7700000001:AA…", "dokon_bot")
        aziza = fake.user(900000101, "uz")
        aziza.send(bot, "/start")
        greeting = await fake.wait_message(aziza.id)
        aziza.press(greeting, "lang:uz")

Faults are rules in :attr:`FakeTelegram.faults`, see :meth:`FakeTelegram.fail`, :meth:`~FakeTelegram.slow`,
:meth:`~FakeTelegram.cut` and :meth:`~FakeTelegram.hold`. Facts: Bot API 10.3 and the source of Telegram's own
``telegram-bot-api`` server. For measurements run ``python -m tests.fakes.telegram --help``.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from tests.fakes.telegram_bots import Call, FakeBot, Fault, Sent, StoredFile
from tests.fakes.telegram_format import ApiError, Json, bad, checked_markup, integer
from tests.fakes.telegram_methods import MAX_UPLOAD_BYTES, METHODS, Upload, read_request
from tests.fakes.telegram_people import FakeGroup, FakeUser

__all__ = ["Call", "FakeBot", "FakeGroup", "FakeTelegram", "FakeUser", "Fault", "Sent"]

R = TypeVar("R")
_TOKEN = re.compile(r"\d+:[A-Za-z0-9_-]+")


class _Cut(Exception):
    """The connection is to be closed without an answer."""


class FakeTelegram:
    """The Bot API server. Use it as an asynchronous context manager.

    ``strict_chats``: a bot can write only to people who wrote to it first, as in life. ``record``: keep every message and
    call (off for measurements). ``per_chat`` and ``per_bot``: sends a second before 429, ``None`` for no limit.
    """

    def __init__(
        self,
        *,
        strict_chats: bool = True,
        record: bool = True,
        per_chat: int | None = None,
        per_bot: int | None = None,
    ) -> None:
        self.strict_chats = strict_chats
        self.record = record
        self.per_chat = per_chat
        self.per_bot = per_bot
        self.webhook_retry_s = 0.05
        self.webhook_retry_max_s = 1.0
        self.bots: dict[str, FakeBot] = {}
        self.users: dict[int, FakeUser] = {}
        self.groups: dict[int, FakeGroup] = {}
        self.sent: list[Sent] = []
        self.calls: list[Call] = []
        self.actions: list[tuple[FakeBot, int, str, float]] = []
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self.violations = 0
        self.on_send: Callable[[FakeBot, int, float], None] | None = None
        self.on_ack: Callable[[int, float], None] | None = None
        self.numbers = count(1)
        self.port = 0
        self._routes: list[tuple[str, str]] = []
        self._by_chat: defaultdict[int, list[Sent]] = defaultdict(list)
        self._seen: set[Sent] = set()
        self._changed = asyncio.Event()
        self._waiting = 0
        self._tasks: dict[asyncio.Task[None], FakeBot] = {}
        self._sends: defaultdict[tuple[int, int], deque[float]] = defaultdict(deque)
        self._client: ClientSession | None = None
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Begin to serve; :attr:`base_url` is then the address for ``TELEGRAM_API_BASE``."""
        self._client = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=60),
            timeout=ClientTimeout(total=60),
            auto_decompress=False,
        )
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=2048)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving and delivering."""
        for fault in self.faults:
            fault.release()
        for bot in self.bots.values():
            bot.end_poll(None)
        self.cancel_tasks(None)
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """The address of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> ClientSession:
        """The session that posts to webhooks."""
        if self._client is None:
            raise RuntimeError("the server is not started")
        return self._client

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(client_max_size=MAX_UPLOAD_BYTES + 2**20)
        app.router.add_route("*", "/bot{token:[^/]+}/{method}", self._serve)
        app.router.add_route("*", "/bot{token:[^/]+}/test/{method}", self._serve)
        app.router.add_get("/file/bot{token:[^/]+}/{path:.+}", self._serve_file)
        return app

    def start_task(self, bot: FakeBot, work: Any) -> None:
        """Run a delivery in the background."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = bot
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def cancel_tasks(self, bot: FakeBot | None) -> None:
        """Cancel the deliveries of ``bot``, or all."""
        for task, owner in list(self._tasks.items()):
            if bot is None or owner is bot:
                task.cancel()

    # What exists

    def add_bot(
        self,
        token: str,
        username: str = "",
        *,
        name: str = "",
        can_manage_bots: bool = False,
        can_connect_to_business: bool = False,
    ) -> FakeBot:
        """Make a bot."""
        username = username or f"test{token.split(':')[0]}_bot"
        bot = FakeBot(
            self,
            token,
            username,
            name or username,
            can_manage_bots=can_manage_bots,
            can_connect_to_business=can_connect_to_business,
        )
        self.bots[token] = bot
        return bot

    def user(
        self, user_id: int, language_code: str | None = "uz", *, first_name: str = "Aziza", username: str | None = None
    ) -> FakeUser:
        """Return the person with this id, made at the first call."""
        if user_id not in self.users:
            self.users[user_id] = FakeUser(self, user_id, language_code, first_name, username)
        return self.users[user_id]

    def group(self, chat_id: int, title: str = "Group") -> FakeGroup:
        """Return the group with this id (negative), made at the first call."""
        if chat_id not in self.groups:
            self.groups[chat_id] = FakeGroup(self, chat_id, title)
        return self.groups[chat_id]

    def store(
        self, bot: FakeBot, folder: str, name: str, mime_type: str, content: bytes, size: int | None = None
    ) -> StoredFile:
        """Keep a file that ``bot`` can get."""
        number = next(self.numbers)
        suffix = name.rsplit(".", 1)[-1] if "." in name else "bin"
        stored = StoredFile(
            file_id=f"BQACAgIAAxkBAAI{bot.id}_{number}",
            unique_id=f"AgAD{number}",
            path=f"{folder}/file_{number}.{suffix}",
            name=name,
            mime_type=mime_type,
            content=content,
            size=len(content) if size is None else size,
            bot_id=bot.id,
        )
        bot.files[stored.file_id] = stored
        return stored

    def route(self, public: str, actual: str) -> None:
        """Deliver webhooks whose address begins with ``public`` to ``actual`` from now on, as DNS and a proxy would."""
        self._routes.insert(0, (public.rstrip("/"), actual.rstrip("/")))

    def route_of(self, url: str) -> str:
        """Return where a webhook's address really leads."""
        for public, actual in self._routes:
            if url.startswith(public):
                return actual + url[len(public) :]
        return url

    # Waiting

    def touch(self) -> None:
        """Wake up those who wait for something to change."""
        if self._waiting:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def wait_until(self, check: Callable[[], R | None], timeout: float = 10.0) -> R:
        """Return the first true result of ``check``, asked again whenever something happened here.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed = self._changed
                    result = check()
                    if result:
                        return result
                    await changed.wait()
        finally:
            self._waiting -= 1

    async def wait_message(
        self,
        chat_id: int,
        predicate: Callable[[Sent], object] | str | None = None,
        timeout: float = 10.0,
        *,
        bot: FakeBot | None = None,
    ) -> Sent:
        """Return the next message to ``chat_id`` that fits and was not returned before.

        ``predicate``: a function, or a part of the text. Raises ``AssertionError`` that shows what came instead.
        """

        def look() -> Sent | None:
            for message in self.messages(chat_id, bot):
                if message not in self._seen and _fits(message, predicate):
                    self._seen.add(message)
                    return message
            return None

        try:
            return await self.wait_until(look, timeout)
        except TimeoutError:
            came = [message.text for message in self.messages(chat_id)][-5:]
            raise AssertionError(f"no such message to {chat_id} in {timeout} s; the last ones: {came}") from None

    async def wait_edit(
        self, message: Sent, predicate: Callable[[Sent], object] | str | None = None, timeout: float = 10.0
    ) -> Sent:
        """Wait until ``message`` has been edited and, as it is then, fits."""

        return await self.wait_until(lambda: message if message.edits and _fits(message, predicate) else None, timeout)

    async def wait_call(
        self, method: str, *, bot: FakeBot | None = None, times: int = 1, timeout: float = 10.0
    ) -> Call:
        """Wait until ``method`` has been called this many times in all; return that call."""

        def look() -> Call | None:
            calls = self.called(method, bot)
            return calls[times - 1] if len(calls) >= times else None

        return await self.wait_until(look, timeout)

    async def wait_delivered(self, bot: FakeBot, timeout: float = 10.0) -> None:
        """Wait until the bot has taken (confirmed or answered with 2xx) every update."""
        await self.wait_until(lambda: not bot.pending, timeout)

    def messages(self, chat_id: int, bot: FakeBot | None = None) -> list[Sent]:
        """Return the messages sent to a chat, oldest first."""
        return [sent for sent in self._by_chat[chat_id] if bot is None or sent.bot is bot]

    def called(self, method: str, bot: FakeBot | None = None) -> list[Call]:
        """Return the calls of a method, oldest first."""
        return [call for call in self.calls if call.method == method and (bot is None or call.bot is bot)]

    # Faults

    def fail(
        self,
        code: int,
        description: str = "",
        *,
        bot: FakeBot | None = None,
        method: str | None = None,
        chat_id: int | None = None,
        times: int | None = 1,
        retry_after: int | None = None,
        migrate_to_chat_id: int | None = None,
    ) -> Fault:
        """Answer the next ``times`` matching requests with this error; nothing takes effect."""
        parameters: Json = {}
        if retry_after is not None:
            parameters["retry_after"] = retry_after
            description = description or f"Too Many Requests: retry after {retry_after}"
        if migrate_to_chat_id is not None:
            parameters["migrate_to_chat_id"] = migrate_to_chat_id
            description = description or "Bad Request: group chat was upgraded to a supergroup chat"
        text = description or _USUAL.get(code, "Bad Request")
        return self._rule(
            Fault(bot, method, chat_id, times, error=lambda: ApiError(code, text, **parameters)),
        )

    def answer_with(
        self,
        status: int,
        body: bytes | Json,
        *,
        bot: FakeBot | None = None,
        method: str | None = None,
        times: int | None = 1,
        content_type: str = "application/json",
    ) -> Fault:
        """Answer the next matching requests with these very bytes; nothing takes effect."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._rule(Fault(bot, method, None, times, body=(status, raw, content_type)))

    def flood(self, seconds: int, *, bot: FakeBot | None = None, chat_id: int | None = None) -> Fault:
        """Refuse sends to a chat or of a bot with 429 until the time is over; :attr:`Fault.hits` counts those who came."""
        until = time.monotonic() + seconds

        def error() -> ApiError | None:
            left = until - time.monotonic()
            if left <= 0:
                return None
            wait = int(left) + 1
            return ApiError(429, f"Too Many Requests: retry after {wait}", retry_after=wait)

        return self._rule(Fault(bot, None, chat_id, None, error=error))

    def slow(
        self,
        seconds: float,
        *,
        bot: FakeBot | None = None,
        method: str | None = None,
        after: bool = False,
        times: int | None = None,
    ) -> Fault:
        """Delay matching requests before their effect, or with ``after`` between the effect and the answer."""
        delay = {"delay_after_s": seconds} if after else {"delay_s": seconds}
        return self._rule(Fault(bot, method, None, times, **delay))  # type: ignore[arg-type]  # one of two delays

    def cut(
        self,
        when: str,
        *,
        bot: FakeBot | None = None,
        method: str | None = "sendMessage",
        chat_id: int | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Close the connection ``"before"`` or ``"after"`` the effect of the next matching requests."""
        return self._rule(Fault(bot, method, chat_id, times, cut=when))

    def hold(
        self, *, bot: FakeBot | None = None, method: str | None = "sendMessage", chat_id: int | None = None
    ) -> Fault:
        """Keep matching requests waiting before their effect: await ``reached``, then call ``release()``."""
        return self._rule(Fault(bot, method, chat_id, None, gate=asyncio.Event()))

    def _rule(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all rules and let what is held go on."""
        for fault in self.faults:
            fault.release()
        self.faults.clear()

    # Serving

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        token, method = request.match_info["token"], request.match_info["method"]
        bot = self.bots.get(token)
        call = Call(bot, method, {}, time.monotonic())
        if self.record:
            self.calls.append(call)
        self.counts[method] += 1
        try:
            call.params, files = await read_request(request)
            result, remark = await self._answer(token, bot, method, call, files)
            call.status = 200
            answer: Json = {"ok": True, "result": result}
            if remark:
                answer["description"] = remark
            return self._reply(200, answer)
        except _Raw as raw:
            call.status = raw.status
            return web.Response(status=raw.status, body=raw.body, content_type=raw.content_type)
        except ApiError as error:
            call.status = error.code
            answer = {"ok": False, "error_code": error.code, "description": error.description}
            if error.parameters:
                answer["parameters"] = error.parameters
            return self._reply(error.code, answer)
        except _Cut:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("cut off on purpose") from None
        finally:
            self.touch()

    @staticmethod
    def _reply(status: int, answer: Json) -> web.Response:
        return web.Response(status=status, body=json.dumps(answer).encode(), content_type="application/json")

    async def _answer(
        self, token: str, bot: FakeBot | None, method: str, call: Call, files: dict[str, Upload]
    ) -> tuple[Any, str]:
        after: list[Fault] = []
        for fault in [fault for fault in self.faults if fault.matches(bot, method, call.params)]:
            await self._spoil(fault, after)
        if not _TOKEN.fullmatch(token):
            raise ApiError(404, "Not Found")
        if bot is None or bot.revoked:
            raise ApiError(401, "Unauthorized")
        if bot.logged_out:
            raise ApiError(400, "Logged out")
        result = await self.call(bot, method, call.params, files)
        for fault in after:
            self.touch()
            await asyncio.sleep(fault.delay_after_s)
            if fault.cut:
                raise _Cut
        return result

    async def _spoil(self, fault: Fault, after: list[Fault]) -> None:
        if fault.error is not None:
            error = fault.error()
            if error is None:
                return
            fault.hits += 1
            fault.reached.set()
            raise error
        fault.hits += 1
        fault.reached.set()
        if fault.gate is not None:
            self.touch()
            await fault.gate.wait()
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.body is not None:
            raise _Raw(*fault.body)
        if fault.cut == "before":
            raise _Cut
        if fault.cut == "after" or fault.delay_after_s:
            after.append(fault)

    async def _serve_file(self, request: web.Request) -> web.StreamResponse:
        bot = self.bots.get(request.match_info["token"])
        call = Call(bot, "file", {"path": request.match_info["path"]}, time.monotonic())
        if self.record:
            self.calls.append(call)
        after: list[Fault] = []
        try:
            for fault in [fault for fault in self.faults if fault.matches(bot, "file", {})]:
                await self._spoil(fault, after)
        except ApiError as error:
            return web.Response(status=error.code, text=error.description)
        except _Raw as raw:
            return web.Response(status=raw.status, body=raw.body, content_type=raw.content_type)
        except _Cut:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("cut off on purpose") from None
        for stored in bot.files.values() if bot is not None and not bot.revoked else ():
            if stored.path == request.match_info["path"]:
                return web.Response(body=stored.content, content_type="application/octet-stream")
        return web.Response(status=404, text="File not found")

    async def call(self, bot: FakeBot, method: str, params: Json, files: dict[str, Upload]) -> tuple[Any, str]:
        """Carry out a method; return its result and a remark. Raises :class:`ApiError`."""
        action = METHODS.get(method.lower())
        if action is None:
            raise ApiError(404, "Not Found: method not found")
        result = action(self, bot, params, files)
        if isinstance(result, Awaitable):
            result = await result
        return result if isinstance(result, tuple) else (result, "")

    # Sending

    def target(self, bot: FakeBot, params: Json) -> tuple[int, Json]:
        """Return the chat a message is for. Raises the error that Telegram gives where it cannot be written to."""
        if "chat_id" not in params or params["chat_id"] == "":
            raise bad("chat_id is empty")
        try:
            chat_id = int(params["chat_id"])
        except (TypeError, ValueError):
            raise bad("chat not found") from None
        if group := self.groups.get(chat_id):
            if group.migrated_to is not None:
                raise bad("group chat was upgraded to a supergroup chat", migrate_to_chat_id=group.migrated_to)
            if chat_id not in bot.chats:
                raise ApiError(403, "Forbidden: bot is not a member of the group chat")
            return chat_id, group.chat()
        person = self.users.get(chat_id)
        if person is None:
            if self.strict_chats:
                raise bad("chat not found")
            return chat_id, {"id": chat_id, "type": "private", "first_name": "User"}
        if person.deactivated:
            raise ApiError(403, "Forbidden: user is deactivated")
        if bot.id in person.blocked:
            raise ApiError(403, "Forbidden: bot was blocked by the user")
        if self.strict_chats and chat_id not in bot.chats:
            raise ApiError(403, "Forbidden: bot can't initiate conversation with a user")
        return chat_id, person.chat()

    def check_business(self, bot: FakeBot, params: Json) -> None:
        """Raise what Telegram answers where a bot may not write for a business account."""
        if "business_connection_id" not in params:
            return
        connection = bot.connections.get(str(params["business_connection_id"]))
        if connection is None:
            raise bad("business connection not found")
        if not connection["is_enabled"] or not connection["rights"].get("can_reply"):
            raise bad("BUSINESS_PEER_INVALID")

    def pace(self, bot: FakeBot, chat_id: int, now: float) -> None:
        for key, limit in (((bot.id, chat_id), self.per_chat), ((bot.id, 0), self.per_bot)):
            if limit is None:
                continue
            times = self._sends[key]
            while times and times[0] <= now - 1.0:
                times.popleft()
            if len(times) >= limit:
                self.violations += 1
                raise ApiError(429, "Too Many Requests: retry after 1", retry_after=1)
        for key, limit in (((bot.id, chat_id), self.per_chat), ((bot.id, 0), self.per_bot)):
            if limit is not None:
                self._sends[key].append(now)

    def deliver(
        self, bot: FakeBot, method: str, params: Json, content: Json, text: str, stored: StoredFile | None = None
    ) -> Json:
        """Put a message into a chat and record it; return the ``Message``."""
        now = time.monotonic()
        chat_id, chat = self.target(bot, params)
        self.check_business(bot, params)
        markup = checked_markup(params.get("reply_markup"), chat["type"] == "private")
        self.pace(bot, chat_id, now)
        message: Json = {"message_id": bot.new_message_id(), "from": bot.user(), "chat": chat, "date": int(time.time())}
        message |= content
        thread = integer(params, "message_thread_id", 0)
        if thread:
            if thread not in self.groups[chat_id].topics:
                raise bad("message thread not found")
            message |= {"message_thread_id": thread, "is_topic_message": True}
        if params.get("business_connection_id"):
            message["business_connection_id"] = params["business_connection_id"]
        if markup and "inline_keyboard" in markup:
            message["reply_markup"] = markup
        if self.on_send is not None:
            self.on_send(bot, chat_id, now)
        if self.record:
            sent = Sent(bot, chat_id, message["message_id"], method, text, markup, now, params, message, stored)
            self.sent.append(sent)
            self._by_chat[chat_id].append(sent)
            bot.messages[chat_id, sent.message_id] = sent
        return message


def _fits(message: Sent, predicate: Callable[[Sent], object] | str | None) -> bool:
    if predicate is None:
        return True
    return predicate in message.text if isinstance(predicate, str) else bool(predicate(message))


class _Raw(Exception):
    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        super().__init__(status)
        self.status, self.body, self.content_type = status, body, content_type


_USUAL = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    404: "Not Found",
    409: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


if __name__ == "__main__":
    from tests.fakes.telegram_load import main

    main()
