"""Fetching from addresses that others gave us: nothing but the open internet is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.errors import Temporary
from services.http import Inner, Missing, TooMuch, fetch_outside, is_public, make_session, origin, post_outside

INNER = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "::1", "::",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255", "198.18.0.1", "localhost", "",
]  # fmt: skip
REFUSED = [
    "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0/", "http://2130706433/",
    "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
    "http://192.168.0.1:80/", "https://8.8.8.8:8443/", "http://8.8.8.8:22/", "http://user@8.8.8.8/", "file:///etc/passwd",
    "gopher://8.8.8.8/", "ftp://8.8.8.8/", "data:text/plain,x", "//8.8.8.8/", "", "http://", "http://[", "http://1.2.3.4:99999/",
]  # fmt: skip


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with make_session() as opened:
        yield opened


Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[TestServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers on loopback."""
    servers: list[TestServer] = []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> TestServer:
        app = web.Application()
        app.router.add_get("/{path:.*}", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "149.154.167.220", "2a00:1450:4010::64", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", REFUSED)
async def test_addresses_that_are_not_asked(session: aiohttp.ClientSession, address: str) -> None:
    with pytest.raises(Inner):
        await fetch_outside(session, address, 1000)


async def test_a_name_is_asked_for_once_and_all_its_numbers_must_be_public(session: aiohttp.ClientSession) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(f"{host}:{port}")
        return ["8.8.8.8", "127.0.0.1"]

    with pytest.raises(Inner):
        await fetch_outside(session, "https://cdn.example/file", 1000, resolve=rebinding)
    assert asked == ["cdn.example:443"]


async def test_a_redirect_is_looked_at_like_an_address(session: aiohttp.ClientSession, serve: Serve) -> None:
    seen: list[str] = []

    async def secret(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response(text="inner")

    inner = await serve(secret)

    async def leading(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        raise web.HTTPFound(str(inner.make_url("/secret")) if request.path == "/in" else "/loop")

    outer = await serve(leading)
    for path in ("/in", "/loop"):
        address = str(outer.make_url(path))
        with pytest.raises(Inner):
            await fetch_outside(session, address, 1000, headers={"Authorization": "t"}, trusted={origin(address)})
    assert "/secret" not in seen


async def test_sizes_times_and_failures(session: aiohttp.ClientSession, serve: Serve) -> None:
    held = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            await held.wait()
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b"x" * 4096)
        if request.path == "/bomb":
            return web.Response(body=b"\x1f\x8b" + b"0" * 20, headers={"Content-Encoding": "gzip"})
        return web.Response(status=int(request.path[1:]), body=b"fine")

    server = await serve(answer)
    trusted = {origin(str(server.make_url("/")))}

    async def fetch(path: str, limit: int = 1000, timeout_s: float = 5) -> bytes:
        address = str(server.make_url(path))
        return await fetch_outside(session, address, limit, trusted=trusted, timeout_s=timeout_s)

    assert await fetch("/200", 4) == b"fine"
    for path, limit in (("/200", 3), ("/endless", 100_000)):
        with pytest.raises(TooMuch):
            await fetch(path, limit)
    for status in (401, 404, 410):
        with pytest.raises(Missing):
            await fetch(f"/{status}")
    for path in ("/500", "/429", "/bomb"):
        with pytest.raises(Temporary):
            await fetch(path)
    with pytest.raises(Temporary):
        await fetch("/slow", timeout_s=0.1)
    held.set()


@pytest.mark.parametrize("address", [*REFUSED, "http://8.8.8.8/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/"])
async def test_nothing_is_sent_to_inner_addresses(session: aiohttp.ClientSession, address: str) -> None:
    with pytest.raises(Inner):
        await post_outside(session, address, b"{}", {}, timeout_s=5)


async def test_what_is_sent_goes_to_the_address_that_was_looked_at(session: aiohttp.ClientSession) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(f"{host}:{port}")
        return ["8.8.8.8"] if len(asked) > 1 else ["10.0.0.1"]

    with pytest.raises(Inner):
        await post_outside(session, "https://crm.example.uz/", b"{}", {}, timeout_s=5, resolve=rebinding)
    assert asked == ["crm.example.uz:443"]


async def test_an_answer_is_read_to_a_limit_and_a_redirect_not_followed(session: aiohttp.ClientSession) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        if request.path == "/moved":
            return web.Response(status=307, headers={"Location": "/endless"})
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            return response

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server:
        send = partial(post_outside, session, body=b"{}", headers={}, timeout_s=5, anywhere=True)
        assert (await send(str(server.make_url("/moved"))))[0] == 307
        status, text = await send(str(server.make_url("/endless")))
        assert (status, len(text), seen) == (200, 2000, ["/moved", "/endless"])
