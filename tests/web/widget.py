"""The chat on other sites, for tests: the product with it, the owner's choices, and the script in somebody's browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from services import bots, widgets
from tests import servers
from tests.web.site import Site, started

SITE = "https://dokon.example"
QUESTION = "Yetkazib berish bormi?"
ANSWER = "Ha, Toshkent bo‘ylab yetkazib berish bepul 🚚"
CANARY = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


def png(extra: bytes = b"") -> bytes:
    """Return a picture of one dot."""

    def part(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (1).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    dot = part(b"IDAT", zlib.compress(b"\x00\xff\x80\x00"))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + dot + part(b"IEND", b"") + extra


@contextlib.asynccontextmanager
async def serving(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Start the product for a module's tests; visitors may write often."""
    folder = tmp_path_factory.mktemp("widget")
    limits = {"contact_messages_per_minute": 100}
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as site:
        yield site


async def afresh(site: Site) -> None:
    """Put the models and the owner's choices back to what every test begins with."""
    site.models.reset()
    site.models.reply = ANSWER
    await choose(site)


async def choose(site: Site, **changes: Any) -> None:
    """Keep these choices of the owner's, and no others."""
    async with site.core.db.write() as session:
        bot = await bots.get(session, site.owner.shop.owner, site.owner.shop.bot.id)
        channel = await bots.connect_web(session, bot)
        values = {"color": "#2459d3", "position": "right", "greetings": {}, "origins": ""} | changes
        await widgets.save(session, channel, **values)


@dataclass
class Answer:
    """What the script got."""

    status: int
    headers: Any
    text: str

    @property
    def body(self) -> Any:
        """The JSON."""
        return json.loads(self.text)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events of a stream."""
        found = re.findall(r"^event: (\w+)\ndata: (.*)$", self.text, re.MULTILINE)
        return [(kind, json.loads(data)) for kind, data in found]


@dataclass
class Widget:
    """The script in somebody's browser on a site; ``origin`` None: something that says no site."""

    site: Site
    public_id: str
    origin: str | None = SITE
    secret: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        """Make a request as a browser would from the site."""
        given = {"Origin": self.origin} if self.origin is not None else {}
        if self.secret:
            given["X-Chat-Secret"] = self.secret
        given |= self.headers | (headers or {})
        address = f"{self.site.base}/widget/{self.public_id}/{path}"
        async with self.site.http.request(method, address, headers=given, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def begin(self) -> Widget:
        """Ask for the configuration and keep the secret."""
        answer = await self.call("GET", "config")
        assert answer.status == 200, answer.text
        self.secret = answer.body["secret"]
        return self

    async def send(self, **fields: str) -> Answer:
        """Write."""
        return await self.call("POST", "messages", {"Accept": "text/event-stream"}, data=fields)

    async def picture(self, data: bytes, name: str = "x.png") -> Answer:
        """Send a file."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        return await self.call("POST", "pictures", {"Accept": "text/event-stream"}, data=form)

    @contextlib.asynccontextmanager
    async def line(self, after: str = "") -> AsyncIterator[Line]:
        """Open the stream, which must be given."""
        headers = {"X-Chat-Secret": self.secret, "Accept": "text/event-stream", **self.headers}
        if self.origin is not None:
            headers["Origin"] = self.origin
        address = f"{self.site.base}/widget/{self.public_id}/events?after={after}"
        async with self.site.http.get(address, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream"), await answer.text()
            yield Line(answer)

    async def history(self, query: str = "") -> Any:
        """Return the talk."""
        answer = await self.call("GET", f"messages?{query}")
        assert answer.status == 200, answer.text
        return answer.body

    async def last(self) -> str:
        """Return the id of the last message."""
        return str((await self.history())["items"][-1]["id"])


class Line:
    """A stream of what happens in a talk."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> Any:
        """Return the data of the next event; None where the stream ends."""
        async with asyncio.timeout(30):
            async for line in self.answer.content:
                if line.startswith(b"data: "):
                    return json.loads(line[6:])
        return None

    async def until(self, fits: Callable[[Any], bool]) -> list[Any]:
        """Return the events up to the first one that fits."""
        seen = []
        while (event := await self.next()) is not None:
            seen.append(event)
            if fits(event):
                return seen
        raise AssertionError(f"the stream ended after {seen}")

    async def texts(self, number: int) -> list[str]:
        """Return the texts of so many messages, in the order in which they came."""
        found: list[str] = []
        while len(found) < number:
            event = await self.next()
            assert event is not None, f"the stream ended after {found}"
            found += [item["text"] for item in event["items"]]
        return found


def widget(site: Site, **given: Any) -> Widget:
    """Return the script on a site that shows the owner's bot."""
    return Widget(site, site.owner.shop.bot.public_id, **given)


async def rows(site: Site, model: Any) -> int:
    """Return how many rows a table has."""
    async with site.core.db.read() as session:
        return int(await session.scalar(select(func.count()).select_from(model)) or 0)
