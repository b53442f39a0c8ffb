"""The one client session for outgoing HTTP, and fetching what lies at addresses that others gave us."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import aiohttp
from yarl import URL

from services.errors import Permanent, Temporary

_REDIRECTS = 3
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def make_session() -> aiohttp.ClientSession:
    """Return the process's client session.

    No cookies are kept, redirects are the caller's business, and the pool is not limited in number: a thousand polled bots
    are a thousand open requests. Idle connections close after 30 s.
    """
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30, enable_cleanup_closed=True)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=60, connect=10),
        headers={"User-Agent": "BotFactory"},
        auto_decompress=True,
    )


class Inner(Permanent):
    """An address from outside that leads to where nobody outside may look."""


class TooMuch(Permanent):
    """More bytes than allowed; reading stopped there."""


class Missing(Permanent):
    """There is nothing at this address (any more). ``status``: what the server said."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status


Resolve = Callable[[str, int], Awaitable[list[str]]]


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the open internet, in whatever clothes IPv6 puts an older one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inside is None and (ip in _NAT64 or int(ip) < 2**32):
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    return ip.is_global and not ip.is_multicast


def origin(address: str | URL) -> str:
    """Return scheme, host and port of an address: what the configuration vouches for."""
    return str(URL(address).origin())


async def fetch_outside(
    session: aiohttp.ClientSession,
    address: str,
    limit: int,
    *,
    headers: Mapping[str, str] | None = None,
    trusted: Collection[str] = (),
    timeout_s: float = 30,
    resolve: Resolve = _resolve,
) -> bytes:
    """Return at most ``limit`` bytes from an address that somebody else gave us.

    A name is resolved once and the connection goes to that very address, which must be public; ports 80 and 443; at most three
    redirects, each looked at again and without ``headers`` where it leads to another place. ``trusted``: origins (:func:`origin`)
    of our own configuration, which may be anywhere. Raises :class:`Inner`, :class:`TooMuch`, :class:`Missing`, or ``Temporary``.
    """
    url = _url(address)
    start = url.origin()
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(_REDIRECTS + 1):
                more = dict(headers or {}) if url.origin() == start else {}
                target: URL = url
                options: dict[str, Any] = {}
                if str(url.origin()) not in trusted:
                    target, options = await _pinned(url, resolve)
                    more |= {"Host": url.authority, "Connection": "close"}
                async with session.get(
                    target, headers={**more, "Accept-Encoding": "identity"}, allow_redirects=False, **options
                ) as response:
                    if response.status in (301, 302, 303, 307, 308):
                        url = _url(str(url.join(URL(response.headers.get("Location", "")))))
                        continue
                    if 400 <= response.status < 500 and response.status not in (408, 429):
                        raise Missing(response.status)
                    if response.status != 200:
                        raise Temporary(f"the file server answered {response.status}")
                    received = bytearray()
                    async for part in response.content.iter_chunked(65536):
                        received += part
                        if len(received) > limit:
                            raise TooMuch("file is too big")
                    return bytes(received)
            raise Inner("too many redirects")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Temporary(f"download failed: {type(error).__name__}") from None


async def post_outside(
    session: aiohttp.ClientSession,
    address: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    read: int = 2000,
    ports: Collection[int] = (443,),
    anywhere: bool = False,
    resolve: Resolve = _resolve,
) -> tuple[int, str]:
    """Send ``body`` to an address that somebody else gave us; return the status and at most ``read`` bytes of the answer.

    https alone, by one of ``ports``, to the very address that the name was just resolved to, which must be public. Redirects are
    not followed. ``anywhere``: none of this is asked, for development. Raises :class:`Inner` or ``Temporary``, whose texts hold
    nothing of the address.
    """
    url = _url(address)
    more, target, options = dict(headers), url, dict[str, Any]()
    try:
        async with asyncio.timeout(timeout_s):
            if not anywhere:
                if url.scheme != "https":
                    raise Inner("this address may not be asked")
                target, options = await _pinned(url, resolve, ports)
                more |= {"Host": url.authority, "Connection": "close"}
            more["Accept-Encoding"] = "identity"
            async with session.post(target, data=body, headers=more, allow_redirects=False, **options) as response:
                received = bytearray()
                while len(received) < read and (part := await response.content.read(read - len(received))):
                    received += part
                return response.status, received.decode("utf-8", "replace")
    except TimeoutError:
        raise Temporary(f"no answer within {timeout_s:g} seconds") from None
    except aiohttp.ClientConnectorCertificateError:
        raise Temporary("its certificate is not valid for this name") from None
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        raise Temporary(f"it could not be reached: {type(error).__name__}") from None


def _url(address: str) -> URL:
    try:
        url = URL(address)
        if url.scheme in ("http", "https") and url.host:
            return url
    except ValueError:
        pass
    raise Inner("not an address of the web")


async def _pinned(url: URL, resolve: Resolve, ports: Collection[int] = (80, 443)) -> tuple[URL, dict[str, Any]]:
    """Return the address with the host's number in place of its name, and what a connection there needs to know."""
    assert url.host is not None
    port = url.port or 0
    if port not in ports or url.user is not None:
        raise Inner("this address may not be asked")
    numbers = await resolve(url.host, port)
    if not numbers or not all(map(is_public, numbers)):
        raise Inner("this address may not be asked")
    return url.with_host(numbers[0]), {"server_hostname": url.host} if url.scheme == "https" else {}
