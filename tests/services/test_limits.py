"""Limits in time, in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.limits import Limits, network_of
from tests.servers import Valkey


class Clock:
    """A clock to turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def test_a_window_counts_by_key_and_opens_again() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [await limits.hit("a", 2, 60) for _ in range(3)] == [True, True, False]
    assert await limits.hit("b", 2, 60)
    clock.now += 60
    assert await limits.hit("a", 2, 60)
    await limits.hit("a", 1, 60)
    await limits.forget("a")
    assert await limits.hit("a", 1, 60)


async def test_a_bucket_lets_a_burst_pass_then_paces() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [await limits.take("chat", 1.0, 3) for _ in range(5)] == pytest.approx([0, 0, 0, 1, 2])
    clock.now += 2
    assert await limits.take("chat", 1.0, 3) == pytest.approx(1)
    clock.now += 60
    assert [await limits.take("chat", 1.0, 3) for _ in range(4)] == pytest.approx([0, 0, 0, 1])


async def test_memory_is_bounded() -> None:
    limits = Limits(clock=Clock())
    for number in range(50_010):
        limits.hit_here(f"k{number}", 1, 60)
    assert limits.hit_here("k0", 1, 60)
    assert not limits.hit_here("k50009", 1, 60)


@pytest.mark.parametrize("guard", ["login", "device", "link", "email", "api-token"])
async def test_what_stands_against_guessing_is_not_forgotten(guard: str) -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [await limits.hit(f"{guard}:target", 1, 900) for _ in range(2)] == [True, False]
    for number in range(50_010):
        limits.hit_here(f"api:{number}", 1, 60)
    assert not await limits.hit(f"{guard}:target", 1, 900)
    # Of its own kind there can be too many as well: then nobody new may try, and all others go on.
    allowed = [limits.hit_here(f"{guard}:{number}", 1, 60) for number in range(50_010)]
    assert allowed.count(True) == 49_999 and not any(allowed[49_999:])
    assert not await limits.hit(f"{guard}:target", 1, 900)
    assert await limits.hit("api:somebody", 1, 60)
    clock.now += 60
    assert await limits.hit(f"{guard}:new", 1, 900)
    assert not await limits.hit(f"{guard}:target", 1, 900)


async def test_a_count_is_given_back_and_never_below_none(redis: Redis) -> None:
    for limits in (Limits(clock=Clock()), Limits(redis)):
        for key in ("login:address:x", "api:x"):
            await limits.give_back(key)
            assert [await limits.hit(key, 2, 60) for _ in range(3)] == [True, True, False]
            await limits.give_back(key)
            await limits.give_back(key)
            assert [await limits.hit(key, 2, 60) for _ in range(2)] == [True, False]
    assert await redis.ttl("botfactory:hit:api:x") > 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:7:1:a:b:c:d", "2001:db8:7:1::/64"),
        ("2001:DB8:7:1::", "2001:db8:7:1::/64"),
        ("[2001:db8:7:1::5]", "2001:db8:7:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_what_an_address_is_counted_as(address: str, counted: str) -> None:
    assert network_of(address) == counted


async def test_redis_counts_for_all_processes(redis: Redis) -> None:
    one, two = Limits(redis), Limits(redis)
    assert [await limits.hit("shared", 3, 60) for limits in (one, two, one, two)] == [True, True, True, False]
    await two.forget("shared")
    assert await one.hit("shared", 1, 60)
    waits = await asyncio.gather(*(limits.take("bucket", 1.0, 2) for limits in (one, two, one, two)))
    assert sorted(wait > 0.5 for wait in waits) == [False, False, True, True]


async def test_without_redis_memory_takes_over_and_is_stricter(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    server.start()
    client = Redis.from_url(server.url(), socket_connect_timeout=1)
    clock = Clock()
    limits = Limits(client, clock=clock)
    try:
        assert [await limits.hit("k", 4, 60) for _ in range(5)] == [True] * 4 + [False]
        server.stop()
        assert [await limits.hit("k", 4, 60) for _ in range(3)] == [True, True, False]
        assert [await limits.take("b", 2.0, 1) > 0 for _ in range(2)] == [False, True]
        server.start()
        clock.now += 6
        # Redis is back, and empty.
        assert [await limits.hit("k", 4, 60) for _ in range(5)] == [True] * 4 + [False]
        await client.flushall()
        assert await limits.hit("k", 4, 60)
    finally:
        await client.aclose()
        server.stop()
