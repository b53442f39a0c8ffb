"""The bell: tells workers that there may be something to do, and browsers that something changed.

Rows are the truth and a bell that is not heard costs at most one idle poll, so ringing never waits and may be lost. Inside
one process it is memory; with Redis it reaches every process.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_CHANNEL = "botfactory:bell"
_QUEUE_LIMIT = 1000
_SILENCE_S = 30.0


def session_topic(session_id: str) -> str:
    """Return the topic that tells the streams of a signed-in browser to end."""
    return f"session:{session_id}"


class Bell:
    """Publish and subscribe by topic; messages are small JSON objects.

    A subscriber that does not keep up loses the oldest messages, never slows the ringer.
    """

    def __init__(self, redis: Redis | None = None) -> None:
        self._redis = redis
        self._name = secrets.token_hex(8)
        self._listeners: dict[str, set[asyncio.Queue[Any]]] = defaultdict(set)
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_QUEUE_LIMIT)

    def ring(self, topic: str, message: Any = None) -> None:
        """Tell everybody who listens to ``topic``, here and in other processes."""
        self._deliver(topic, message)
        self.ring_elsewhere(topic, message)

    def ring_elsewhere(self, topic: str, message: Any = None) -> None:
        """Tell the other processes only: whoever listens here knows already."""
        if self._redis is not None:
            if self._outgoing.full():
                self._outgoing.get_nowait()
            self._outgoing.put_nowait(json.dumps([self._name, topic, message]))

    def _deliver(self, topic: str, message: Any) -> None:
        for queue in self._listeners.get(topic, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    @asynccontextmanager
    async def listen(self, topic: str, *, limit: int = 100) -> AsyncIterator[asyncio.Queue[Any]]:
        """Yield a queue of the messages for ``topic`` from now on."""
        queue: asyncio.Queue[Any] = asyncio.Queue(limit)
        self._listeners[topic].add(queue)
        try:
            yield queue
        finally:
            self._listeners[topic].discard(queue)
            if not self._listeners[topic]:
                del self._listeners[topic]

    async def run(self) -> None:
        """Carry messages to and from Redis until cancelled; reconnects by itself."""
        if self._redis is None:
            return
        await asyncio.gather(self._send(self._redis), self._receive(self._redis))

    async def _send(self, redis: Redis) -> None:
        while True:
            line = await self._outgoing.get()
            try:
                await redis.publish(_CHANNEL, line)
            except (RedisError, OSError) as error:
                log.warning("bell_not_rung", reason=type(error).__name__)
                await asyncio.sleep(1)

    async def _receive(self, redis: Redis) -> None:
        while True:
            try:
                async with redis.pubsub() as subscription:
                    await subscription.subscribe(_CHANNEL)
                    while True:
                        # Not listen(): it takes a silence longer than the socket's time limit for an error.
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_SILENCE_S)
                        if message is not None:
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                log.warning("bell_deaf", reason=type(error).__name__)
                await asyncio.sleep(1)

    def _hear(self, data: bytes | str) -> None:
        """Pass on what another process rang; others may use the same Redis and the same name."""
        try:
            sender, topic, content = json.loads(data)
            if sender != self._name:
                self._deliver(topic, content)
        except (ValueError, TypeError) as error:
            log.warning("bell_not_understood", reason=type(error).__name__)
