"""How long to wait before something is tried again; never all the same, so that not everybody comes back at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from db.engine import DatabaseUnavailable

R = TypeVar("R")

_DATABASE_S = 0.5


def backoff_s(attempt: int, *, first: float = 1.0, most: float = 60.0) -> float:
    """Return a growing pause with jitter: half to all of ``first`` × 2^(attempt−1), at most ``most``."""
    return min(most, first * 2.0 ** max(0, attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def database_pause_s() -> float:
    """Return how long to wait for the database; never the same, or what spoils a group would always meet the same others."""
    return _DATABASE_S * random.uniform(0.5, 1.5)  # noqa: S311 - jitter


async def until_available(act: Callable[[], Awaitable[R]], given_up: Callable[[], None]) -> R:
    """Do ``act`` again and again while it ends with ``DatabaseUnavailable``; return what it returns.

    ``given_up`` is called before each pause and raises where waiting makes no sense any more.
    """
    while True:
        try:
            return await act()
        except DatabaseUnavailable:
            given_up()
            await asyncio.sleep(database_pause_s())
