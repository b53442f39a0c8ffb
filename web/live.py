"""Visitors who look at their talk right now: one open stream each, woken when that very talk changes.

The bell tells of a bot; here it becomes the visitor's. One listener a bot passes on what it hears to whom it concerns, however
many are open, and looks into the rows from time to time: the bell may be lost, or ring in another process.

An idle stream costs about 50 KiB of memory (measured: 800 of them, Python 3.11, no proxy), one socket, and a line of comment
every 20 seconds; the database is asked once in ten seconds for all streams of a bot. So their number is bounded: for one visitor,
for one bot and for the process, the last also by half of the files that it may have open. Whoever is over a bound asks by and by
instead, as a browser does that cannot hold a stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from db.engine import DatabaseUnavailable
from services import metrics, visitors
from services.core import Core
from services.errors import TooMany

log = structlog.get_logger(__name__)

_LOOK_S = 10.0
_RETRY_S = 30
_RINGS = 1000


@dataclass(slots=True, eq=False)
class Watch:
    """An open stream. ``woken``: there is something to do; ``news``: the talk is to be read; ``ended``: the stream shall end."""

    request: web.Request
    talk_id: str
    visitor: str
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    news: bool = True
    ended: bool = False

    @property
    def lives(self) -> bool:
        """Whether somebody is still there, as far as this side has noticed."""
        return self.request.transport is not None and not self.request.transport.is_closing()


@dataclass(slots=True, eq=False)
class _Bot:
    """The open streams of one bot by talk, and how each talk stood at the last look. ``listening`` ends with the last one."""

    listening: contextlib.AsyncExitStack
    talks: dict[str, list[Watch]] = field(default_factory=dict)
    stood: dict[str, visitors.Standing] = field(default_factory=dict)

    @property
    def watches(self) -> Iterable[Watch]:
        """All of them."""
        return (watch for watches in self.talks.values() for watch in watches)


class Watches:
    """The open streams of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._bots: dict[str, _Bot] = {}
        # Workers, databases and answers need files too.
        self._most = min(core.settings.limits.streams, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    @contextlib.asynccontextmanager
    async def open(self, request: web.Request, bot_id: str, talk_id: str, visitor: str) -> AsyncIterator[Watch]:
        """Yield a watch over a talk; raises ``TooMany`` where one more would be over a bound."""
        self._admit(bot_id, visitor)
        watch = Watch(request, talk_id, visitor)
        bot = self._bots.get(bot_id)
        if bot is None:
            bot = self._bots[bot_id] = _Bot(contextlib.AsyncExitStack())
            # Listening begins here and not in the task: what rings before that runs is heard.
            rung = await bot.listening.enter_async_context(self._core.bell.listen(f"bot:{bot_id}", limit=_RINGS))
            bot.listening.callback(self._core.tasks.start(self._hear(bot_id, rung), name="visitors").cancel)
        bot.talks.setdefault(talk_id, []).append(watch)
        metrics.STREAMS.inc()
        try:
            yield watch
        finally:
            metrics.STREAMS.dec()
            bot.talks[talk_id].remove(watch)
            if not bot.talks[talk_id]:
                del bot.talks[talk_id]
                bot.stood.pop(talk_id, None)
            if not bot.talks and self._bots.get(bot_id) is bot:
                del self._bots[bot_id]
                await bot.listening.aclose()

    def close(self) -> None:
        """End all streams: their visitors come back by themselves."""
        for bot in self._bots.values():
            for watch in bot.watches:
                watch.ended = True
                watch.woken.set()

    def _admit(self, bot_id: str, visitor: str) -> None:
        limits = self._core.settings.limits
        bot = self._bots.get(bot_id)
        # A browser that went on is noticed here before its stream is.
        here = [watch for watch in bot.watches if watch.lives] if bot is not None else []
        for name, number, most in (
            ("contact", sum(watch.visitor == visitor for watch in here), limits.visitor_streams),
            ("bot", len(here), limits.bot_streams),
            ("all", sum(len(watches) for bot in self._bots.values() for watches in bot.talks.values()), self._most),
        ):
            if number >= most:
                metrics.OVER_LIMIT.labels(f"stream_{name}").inc()
                raise TooMany(retry_after_s=_RETRY_S)

    async def _hear(self, bot_id: str, rung: asyncio.Queue[Any]) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time() + _LOOK_S
        while True:
            try:
                async with asyncio.timeout_at(next_look):
                    self._wake(bot_id, await rung.get())
            except TimeoutError:
                await self._look(bot_id)
                next_look = loop.time() + _LOOK_S

    def _wake(self, bot_id: str, said: Any) -> None:
        bot = self._bots.get(bot_id)
        if bot is None or not isinstance(said, dict):
            return
        changed = "conversation" in said
        for watch in bot.talks.get(said.get("conversation") or said.get("presence") or "", ()):
            watch.news = watch.news or changed
            watch.woken.set()

    async def _look(self, bot_id: str) -> None:
        bot = self._bots.get(bot_id)
        if bot is None:
            return
        try:
            async with self._core.db.read() as session:
                stands = await visitors.standings(session, list(bot.talks))
        except DatabaseUnavailable as error:
            log.warning("visitors_not_seen_to", reason=str(error))
            return
        for talk_id, standing in stands.items():
            # What has not been looked at yet may have changed before: its streams read once more.
            if talk_id in bot.talks and bot.stood.get(talk_id) != standing:
                bot.stood[talk_id] = standing
                self._wake(bot_id, {"conversation": talk_id})


WATCHES: web.AppKey[Watches] = web.AppKey("watches", Watches)


def setup(app: web.Application, core: Core) -> None:
    """Keep the streams of this application, and end them when it stops."""
    app[WATCHES] = Watches(core)

    async def close(stopping: web.Application) -> None:
        stopping[WATCHES].close()

    app.on_shutdown.append(close)
