"""Limits in time: windows that count, and buckets that pace. In Redis where there is one, else in memory.

If Redis goes away the memory takes over at half the limit, so that several processes together do not exceed it by much.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_MAX_KEYS = 50_000
_RETRY_REDIS_S = 5.0

# One bucket shared by all processes: returns how many seconds to wait before the token just taken is due.
_TAKE = """
local now = redis.call('TIME'); now = now[1] + now[2] / 1e6
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1]) or 0)
local start = math.max(due, now - burst / rate) + 1 / rate
redis.call('SET', KEYS[1], tostring(start), 'EX', math.ceil(burst / rate) + 60)
return tostring(math.max(0, start - now))
"""


class Limits:
    """Counters and buckets by key."""

    def __init__(self, redis: Redis | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._buckets: OrderedDict[str, float] = OrderedDict()
        self._redis_rests_until = 0.0

    def _redis_now(self) -> Redis | None:
        return self._redis if self._redis is not None and self._clock() >= self._redis_rests_until else None

    def _redis_failed(self, error: Exception) -> None:
        self._redis_rests_until = self._clock() + _RETRY_REDIS_S
        log.warning("limits_without_redis", reason=type(error).__name__)

    async def hit(self, key: str, limit: int, window_s: float) -> bool:
        """Count one use of ``key``; return whether it is within ``limit`` uses in a window of ``window_s`` seconds."""
        redis = self._redis_now()
        if redis is not None:
            try:
                async with redis.pipeline(transaction=True) as pipe:
                    pipe.incr(f"botfactory:hit:{key}")
                    pipe.expire(f"botfactory:hit:{key}", int(window_s) + 1, nx=True)
                    count, _ = await pipe.execute()
                return int(count) <= limit
            except (RedisError, OSError) as error:
                self._redis_failed(error)
        if self._redis is not None:
            limit = max(1, limit // 2)
        return self.hit_here(key, limit, window_s)

    def hit_here(self, key: str, limit: int, window_s: float) -> bool:
        """Count one use in this process only."""
        now = self._clock()
        end, count = self._windows.get(key, (0.0, 0))
        if now >= end:
            end, count = now + window_s, 0
        self._windows[key] = (end, count + 1)
        self._windows.move_to_end(key)
        while len(self._windows) > _MAX_KEYS:
            self._windows.popitem(last=False)
        return count < limit

    async def forget(self, key: str) -> None:
        """Start counting ``key`` anew (after a successful sign-in, say)."""
        self._windows.pop(key, None)
        redis = self._redis_now()
        if redis is not None:
            try:
                await redis.delete(f"botfactory:hit:{key}")
            except (RedisError, OSError) as error:
                self._redis_failed(error)

    async def take(self, key: str, rate: float, burst: float) -> float:
        """Take one token of a bucket that refills at ``rate`` a second up to ``burst``; return the seconds to wait first."""
        redis = self._redis_now()
        if redis is not None:
            try:
                return float(await redis.eval(_TAKE, 1, f"botfactory:take:{key}", str(rate), str(burst)))  # type: ignore[misc]
            except (RedisError, OSError) as error:
                self._redis_failed(error)
        if self._redis is not None:
            rate = rate / 2
        now = self._clock()
        due = self._buckets.get(key, 0.0)
        start = max(due, now - burst / rate) + 1 / rate
        self._buckets[key] = start
        self._buckets.move_to_end(key)
        while len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)
        return max(0.0, start - now)

    async def pace(self, key: str, rate: float, burst: float) -> None:
        """Wait until one more is allowed."""
        wait = await self.take(key, rate, burst)
        if wait > 0:
            await asyncio.sleep(wait)
