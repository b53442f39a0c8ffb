"""How long to wait before something is tried again; never all the same, so that not everybody comes back at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from db.engine import DatabaseUnavailable

R = TypeVar("R")

_DATABASE_S = 0.5
_chance = random.SystemRandom()


def jitter(seconds: float, least: float = 0.5, most: float = 1.0) -> float:
    """Return a random time between ``least`` and ``most`` times ``seconds``."""
    return seconds * _chance.uniform(least, most)


def backoff_s(attempt: int, *, first: float = 1.0, most: float = 60.0) -> float:
    """Return a growing pause with jitter: half to all of ``first`` × 2^(attempt−1), at most ``most``."""
    return jitter(min(most, first * 2.0 ** min(max(0, attempt - 1), 30)))


def database_pause_s() -> float:
    """Return how long to wait for the database; never the same, or what spoils a group would always meet the same others."""
    return jitter(_DATABASE_S, 0.5, 1.5)


async def until_available(act: Callable[[], Awaitable[R]], unavailable: Callable[[], None]) -> R:
    """Do ``act`` again and again while it ends with ``DatabaseUnavailable``; return what it returns.

    ``unavailable`` is called before each pause and raises where waiting makes no sense any more.
    """
    while True:
        try:
            return await act()
        except DatabaseUnavailable:
            unavailable()
            await asyncio.sleep(database_pause_s())
