"""Load for measurements: many bots, many chats, messages at a rate or as fast as they are answered, latency of each.

``python -m tests.fakes.telegram --port 9000 --bots 10`` serves until it is told to end; beside the Bot API it answers

- ``GET /_/stats``: calls by method, updates that wait, acknowledgements by status;
- ``GET /_/ready``: waits until every bot receives, by webhook or by polling (``?timeout=60``);
- ``POST /_/load``: drives a load (the fields of :class:`Plan`) and answers with its :meth:`Load.result`;
- ``POST /_/reset``: forgets the counts.

With ``--webhook-load RATE`` it waits for the bots, drives one load, prints the result as a line of JSON and ends.
Everything is counted, nothing kept: messages to bots of a measurement cannot be edited later.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from aiohttp import web

from tests.fakes.telegram import FakeBot, FakeTelegram
from tests.fakes.telegram_format import Json

TEXTS = (
    "Yetkazib berish narxi qancha?",
    "Сколько стоит доставка по Ташкенту?",
    "What are your opening hours?",
    "Етказиб бериш неча кун?",
)
FIRST_BOT_ID = 7_100_000_000
FIRST_CHAT_ID = 500_000_000


def token_of(number: int) -> str:
    """Return the token of the bot with this number (from 0), the same in every run."""
    return f"{FIRST_BOT_ID + number}:bench_{number:06d}_AAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True, slots=True)
class Plan:
    """A load. ``rate``: messages a second, 0 for one new message in a chat as soon as the last is answered.

    ``total`` or ``seconds`` ends it, whichever comes first. ``drain_s``: how long to wait for the last answers.
    """

    rate: float = 0.0
    total: int = 1_000_000
    seconds: float = 10.0
    chats: int = 500
    drain_s: float = 30.0
    texts: Sequence[str] = TEXTS


class Load:
    """Sends messages in many chats and waits for the first message that comes back into each."""

    def __init__(self, fake: FakeTelegram, plan: Plan) -> None:
        self.fake = fake
        self.plan = plan
        self._bots = list(fake.bots.values())
        self._free: deque[int] = deque(range(plan.chats))
        self._open: dict[int, float] = {}
        self._freed = asyncio.Event()
        self._latencies: list[float] = []
        self._acks: list[float] = []
        self._ack_statuses: Counter[int] = Counter()
        self._sent = self._unasked = self._stalled = self._message_id = 0
        self._begun = self._last_answer = 0.0

    async def run(self) -> Json:
        """Drive the load and return the result."""
        self.fake.on_send, self.fake.on_ack = self._answered, self._acknowledged
        self._begun = time.monotonic()
        end = self._begun + self.plan.seconds
        while self._sent < self.plan.total and (now := time.monotonic()) < end:
            if self.plan.rate:
                due = self._begun + self._sent / self.plan.rate
                if due > now:
                    await asyncio.sleep(due - now)
            if not self._free:
                self._stalled += bool(self.plan.rate)
                self._freed.clear()
                try:
                    async with asyncio.timeout(max(end - time.monotonic(), 0)):
                        await self._freed.wait()
                except TimeoutError:
                    break
            self._say(self._free.popleft())
            if self._sent % 16 == 0:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self.plan.drain_s):
                while self._open:
                    self._freed.clear()
                    await self._freed.wait()
                await self.fake.wait_until(lambda: not any(bot.pending for bot in self._bots), self.plan.drain_s)
        except TimeoutError:
            pass  # what is still open is in the result
        self.fake.on_send = self.fake.on_ack = None
        return self.result()

    def _say(self, number: int) -> None:
        bot: FakeBot = self._bots[number % len(self._bots)]
        person: Json = {"id": FIRST_CHAT_ID + number, "first_name": "Aziza"}
        self._message_id += 1
        message = {
            "message_id": bot.new_message_id(),
            "from": {**person, "is_bot": False, "language_code": ("uz", "ru", "en")[number % 3]},
            "chat": {**person, "type": "private"},
            "date": int(time.time()),
            "text": self.plan.texts[self._sent % len(self.plan.texts)],
        }
        self._sent += 1
        self._open[FIRST_CHAT_ID + number] = time.monotonic()
        bot.push("message", message)

    def _answered(self, _bot: FakeBot, chat_id: int, now: float) -> None:
        asked = self._open.pop(chat_id, None)
        if asked is None:
            self._unasked += 1
            return
        self._latencies.append(now - asked)
        self._last_answer = now
        self._free.append(chat_id - FIRST_CHAT_ID)
        self._freed.set()

    def _acknowledged(self, status: int, seconds: float) -> None:
        self._ack_statuses[status] += 1
        self._acks.append(seconds)

    def result(self) -> Json:
        """Return the counts and the times in milliseconds.

        ``stalled``: how often a message was due and every chat still waited for its answer; ``unasked``: messages of bots
        that answered nothing (greetings, second parts, repeats).
        """
        duration_s = max(self._last_answer - self._begun, 1e-9)
        return {
            "plan": {**asdict(self.plan), "texts": len(self.plan.texts)},
            "sent": self._sent,
            "answered": len(self._latencies),
            "unanswered": len(self._open),
            "unasked": self._unasked,
            "stalled": self._stalled,
            "seconds": round(duration_s, 3),
            "answered_per_s": round(len(self._latencies) / duration_s, 1),
            "latency_ms": _spread(self._latencies),
            "ack_ms": _spread(self._acks),
            "acks": dict(self._ack_statuses),
        }


def _spread(seconds: list[float]) -> Json:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    points = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(ordered[min(int(len(ordered) * at), len(ordered) - 1)] * 1000, 2) for name, at in points.items()
    }


class LoadServer(FakeTelegram):
    """The fake server with the addresses that drive and count a load."""

    def __init__(self, bots: int) -> None:
        super().__init__(strict_chats=False, record=False)
        for number in range(bots):
            self.add_bot(token_of(number), name=f"Bench {number}")

    def application(self) -> web.Application:
        """Return the application with the addresses of this module."""
        app = super().application()
        app.router.add_get("/_/stats", self._stats)
        app.router.add_get("/_/ready", self._ready)
        app.router.add_post("/_/load", self._load)
        app.router.add_post("/_/reset", self._reset)
        return app

    async def ready(self, timeout_s: float) -> None:
        """Wait until every bot receives. Raises ``TimeoutError``."""
        await self.wait_until(lambda: all(bot.webhook_url or bot.polled for bot in self.bots.values()), timeout_s)

    def stats(self) -> Json:
        """Return what was counted since the start or the last reset."""
        posts: Counter[int] = Counter()
        for bot in self.bots.values():
            posts.update(bot.webhook_posts)
        return {
            "calls": dict(self.counts),
            "pending": sum(len(bot.pending) for bot in self.bots.values()),
            "receiving": sum(bool(bot.webhook_url or bot.polled) for bot in self.bots.values()),
            "webhook_posts": dict(posts),
        }

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _ready(self, request: web.Request) -> web.Response:
        try:
            await self.ready(float(request.query.get("timeout", "60")))
        except TimeoutError:
            return web.json_response(self.stats(), status=504)
        return web.json_response(self.stats())

    async def _load(self, request: web.Request) -> web.Response:
        given = await request.json()
        known = {field.name for field in fields(Plan)}
        return web.json_response(await Load(self, Plan(**{k: v for k, v in given.items() if k in known})).run())

    async def _reset(self, _request: web.Request) -> web.Response:
        self.counts.clear()
        for bot in self.bots.values():
            bot.webhook_posts.clear()
        return web.json_response({})


async def _run(arguments: argparse.Namespace) -> None:
    server = LoadServer(arguments.bots)
    await server.start(arguments.host, arguments.port)
    try:
        if arguments.webhook:
            for number, bot in enumerate(server.bots.values()):
                url = arguments.webhook.replace("{id}", str(bot.id)).replace("{n}", str(number))
                bot.set_webhook({"url": url, "secret_token": arguments.secret})
        print(json.dumps({"base_url": server.base_url, "first_token": token_of(0), "bots": arguments.bots}), flush=True)  # noqa: T201 - a command
        if arguments.webhook_load is None:
            ended = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
            await ended.wait()
            return
        await server.ready(arguments.wait)
        plan = Plan(arguments.webhook_load, arguments.total, arguments.seconds, arguments.chats)
        print(json.dumps(await Load(server, plan).run()), flush=True)  # noqa: T201 - a command
    finally:
        await server.stop()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.telegram", description="A fake Bot API server for measurements."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bots", type=int, default=1, help="how many bots exist; see token_of for their tokens")
    parser.add_argument(
        "--webhook", default="", help="set this webhook for every bot; {id} and {n} are its id and number"
    )
    parser.add_argument("--secret", default="", help="secret token of --webhook")
    parser.add_argument(
        "--webhook-load", type=float, metavar="RATE", help="messages/s; 0: as fast as they are answered"
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--total", type=int, default=1_000_000)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait until all bots receive")
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run(arguments))
    else:
        uvloop.run(_run(arguments))


if __name__ == "__main__":
    main()
