"""Limits in time: windows that count, and buckets that pace. In Redis where there is one, else in memory.

If Redis goes away the memory takes over at half the limit, so that several processes together do not exceed it by much.
Memory is bounded. What was counted longest ago is forgotten first, except what stands against guessing: passwords, links,
coupons, tokens and addresses each have a memory of their own in which nothing is forgotten before its window ends. Where that
is full, a key that is not in it is over its limit. Browsers in which people have signed in before have one that strangers
cannot fill.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_MAX_KEYS = 50_000
_RETRY_REDIS_S = 5.0
_GUARDS = ("login", "device", "link", "email", "api-token", "coupon")
_SWEEP_S = 1.0

# One bucket shared by all processes: returns how many seconds to wait before the token just taken is due.
_TAKE = """
local now = redis.call('TIME'); now = now[1] + now[2] / 1e6
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = tonumber(redis.call('GET', KEYS[1]) or 0)
local start = math.max(due, now - burst / rate) + 1 / rate
redis.call('SET', KEYS[1], tostring(start), 'EX', math.ceil(burst / rate) + 60)
return tostring(math.max(0, start - now))
"""

# Takes one count back, and makes no key that would stay for ever.
_GIVE_BACK = """
if (tonumber(redis.call('GET', KEYS[1]) or 0)) > 0 then return redis.call('DECR', KEYS[1]) end
return 0
"""


def network_of(address: str) -> str:
    """Return what an address is counted as: of IPv6 the /64, which is what a subscriber gets at the least; else itself."""
    try:
        found = ipaddress.ip_address(address.strip().strip("[]").partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


Window = tuple[float, int]
"""When it ends, and how often its key was counted in it."""


class _Guard:
    """Windows that are kept until they end."""

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self._swept = float("-inf")

    def has_room(self, key: str, now: float) -> bool:
        """Tell whether ``key`` can be counted; what has ended makes room."""
        if key not in self.windows and len(self.windows) >= _MAX_KEYS and now >= self._swept + _SWEEP_S:
            self._swept = now
            self.windows = {known: window for known, window in self.windows.items() if window[0] > now}
            if len(self.windows) >= _MAX_KEYS:
                log.warning("limits_full", guard=key.partition(":")[0])
        return key in self.windows or len(self.windows) < _MAX_KEYS


class Limits:
    """Counters and buckets by key; the part of a key before its first colon says what is counted."""

    def __init__(self, redis: Redis | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._guards = {name: _Guard() for name in _GUARDS}
        self._buckets: OrderedDict[str, float] = OrderedDict()
        self._rests: OrderedDict[str, float] = OrderedDict()
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
        guard = self._guards.get(key.partition(":")[0])
        if guard is not None:
            return guard.has_room(key, now) and _count(guard.windows, key, window_s, now) <= limit
        count = _count(self._windows, key, window_s, now)
        self._windows.move_to_end(key)
        while len(self._windows) > _MAX_KEYS:
            self._windows.popitem(last=False)
        return count <= limit

    async def forget(self, key: str) -> None:
        """Start counting ``key`` anew (after a successful sign-in, say)."""
        guard = self._guards.get(key.partition(":")[0])
        (self._windows if guard is None else guard.windows).pop(key, None)
        redis = self._redis_now()
        if redis is not None:
            try:
                await redis.delete(f"botfactory:hit:{key}")
            except (RedisError, OSError) as error:
                self._redis_failed(error)

    async def give_back(self, key: str) -> None:
        """Take one count of ``key`` back: it was none of those that the limit is for."""
        guard = self._guards.get(key.partition(":")[0])
        windows: MutableMapping[str, Window] = self._windows if guard is None else guard.windows
        if key in windows:
            end, count = windows[key]
            windows[key] = (end, max(0, count - 1))
        redis = self._redis_now()
        if redis is not None:
            try:
                await redis.eval(_GIVE_BACK, 1, f"botfactory:hit:{key}")  # type: ignore[misc]  # redis types one method for both its clients
            except (RedisError, OSError) as error:
                self._redis_failed(error)

    async def take(self, key: str, rate: float, burst: float) -> float:
        """Take one token of a bucket that refills at ``rate`` a second up to ``burst``; return the seconds to wait first."""
        redis = self._redis_now()
        if redis is not None:
            try:
                return float(await redis.eval(_TAKE, 1, f"botfactory:take:{key}", str(rate), str(burst)))  # type: ignore[misc]  # redis types one method for both its clients
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

    def rest(self, key: str, seconds: float) -> None:
        """Note that a network told us to let ``key`` be for so long; for what nobody would miss, in this process only."""
        self._rests[key] = self._clock() + seconds
        self._rests.move_to_end(key)
        while len(self._rests) > _MAX_KEYS:
            self._rests.popitem(last=False)

    def rests(self, key: str) -> bool:
        """Tell whether ``key`` is to be let be now."""
        return self._rests.get(key, 0.0) > self._clock()

    async def pace(self, key: str, rate: float, burst: float) -> None:
        """Wait until one more is allowed."""
        wait = await self.take(key, rate, burst)
        if wait > 0:
            await asyncio.sleep(wait)


def _count(windows: MutableMapping[str, Window], key: str, window_s: float, now: float) -> int:
    """Count one use of ``key``; return how many there were in its window."""
    end, count = windows.get(key, (0.0, 0))
    if now >= end:
        end, count = now + window_s, 0
    windows[key] = (end, count + 1)
    return count + 1
