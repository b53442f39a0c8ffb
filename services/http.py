"""The one client session for outgoing HTTP."""

from __future__ import annotations

import aiohttp


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
