"""The bell between processes, on a real Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from redis.asyncio import Redis

from services.bell import Bell

FOREIGN: dict[str, bytes | str] = {
    "number": "1",
    "null": "null",
    "text": "hello",
    "bytes": b"\xff\xfe",
    "pair": json.dumps(["a", "b"]),
    "topic": json.dumps(["another", ["no topic"], None]),
    "object": json.dumps({"a": 1, "b": 2, "c": 3}),
}


@pytest.mark.parametrize("foreign", sorted(FOREIGN))
async def test_what_others_say_on_the_same_channel_is_not_understood_and_harmless(redis_url: str, foreign: str) -> None:
    async with Redis.from_url(redis_url) as mine, Redis.from_url(redis_url) as theirs:
        here, there = Bell(mine), Bell(theirs)
        tasks = [asyncio.ensure_future(bell.run()) for bell in (here, there)]
        try:
            async with here.listen("inbox") as heard, asyncio.timeout(20):

                async def hear(word: str) -> None:
                    # Rung until it is heard: the subscription may still be on its way, and a bell may be lost.
                    while True:
                        there.ring_elsewhere("inbox", word)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.1):
                                while await heard.get() != word:
                                    pass
                                return

                await hear("before")
                await theirs.publish("botfactory:bell", FOREIGN[foreign])
                await hear("after")
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
