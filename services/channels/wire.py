"""One request to a network's API and what may come of it, the same for all networks that speak JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from services.channels.base import Away
from services.errors import Temporary


async def exchange(
    session: aiohttp.ClientSession,
    network: str,
    method: str,
    url: str,
    *,
    heed: Callable[[Mapping[str, str]], None] | None = None,
    **request: Any,
) -> tuple[int, dict[str, Any]]:
    """Make a request (``request``: as aiohttp takes it); return the status and the JSON object, an empty one for what is none.

    Raises :class:`Away` when the request did not leave, ``Temporary`` with ``sent`` when it left and no answer came. Neither
    tells the address, which may hold a token; ``network`` is its name for people. ``heed`` sees the answer's headers.
    """
    try:
        async with session.request(method, url, allow_redirects=False, **request) as response:
            raw, status = await response.read(), response.status
            if heed is not None:
                heed(response.headers)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Away(f"{network} cannot be reached: {type(error).__name__}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Temporary(f"no answer from {network}: {type(error).__name__}", sent=True) from None
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    return status, answer if isinstance(answer, dict) else {}
