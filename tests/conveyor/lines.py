"""Bots that answer on WhatsApp and Instagram, and Meta around them: what the tests of both share."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import conversations
from services.core import Core
from tests.composition import FAQ, Shop, address, make_shop
from tests.conveyor.harness import Floor, floor, numbers_in
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.fakes.instagram import FakeAccount, FakeInstagram
from tests.fakes.meta import (
    ACCOUNT,
    INSTAGRAM_ASKER,
    INSTAGRAM_TOKEN,
    NUMBER,
    SECRET,
    VERIFY,
    WHATSAPP_ASKER,
    WHATSAPP_TOKEN,
    Meta,
    add_number,
)
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]


@dataclass
class MetaLine:
    """A shop whose bot answers on one of Meta's networks."""

    place: Floor
    shop: Shop
    session: aiohttp.ClientSession
    kind: ClassVar[str]
    asker: ClassVar[str]

    @property
    def webhook(self) -> str:
        """Where Meta delivers."""
        return f"{address(self.place.core)}/{self.kind}/webhook"

    async def post(self, raw: bytes, secret: str = SECRET) -> int:
        """Deliver a body signed with a secret; return the status."""
        return await FakeGraph.deliver(self.session, self.webhook, raw, secret)

    async def talk(self, who: str = "") -> models.Conversation:
        """Return the talk with somebody."""
        found: models.Conversation = await self.place.one(
            select(models.Conversation)
            .join(models.Contact)
            .where(models.Contact.external_id == (who or self.asker), models.Contact.bot_id == self.shop.bot.id)
        )
        return found

    async def messages(self, who: str = "") -> list[models.Message]:
        """Return what was said with somebody, oldest first."""
        talk = await self.talk(who)
        rows = await self.place.rows(
            select(models.Message).where(models.Message.conversation_id == talk.id).order_by(models.Message.id)
        )
        return [row[0] for row in rows]

    async def channel(self) -> models.Channel:
        """Return the channel as it stands."""
        found: models.Channel = await self.place.one(select(models.Channel).where(models.Channel.kind == self.kind))
        return found

    async def until(self, look: Callable[[], Any]) -> Any:
        """Wait until ``look``, awaited, returns something true."""
        return await self.place.until(look)

    async def received(self) -> None:
        """Wait until everything that was received is dealt with."""

        async def empty() -> bool:
            waiting = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "new")
            return not await self.place.one(waiting)

        await self.until(empty)

    async def drained(self) -> None:
        """Wait until everything that was received is dealt with, and what is to be sent has left."""

        async def empty() -> bool:
            sending = models.OutboxItem.status.in_(("queued", "sending"))
            return not await self.place.one(select(func.count()).select_from(models.OutboxItem).where(sending))

        await self.received()
        await self.until(empty)

    async def age(self, **since: float) -> None:
        """Let the customers' last messages lie so long ago."""
        async with self.place.core.db.write() as session:
            moment = utcnow() - dt.timedelta(**since)
            await session.execute(update(models.Conversation).values(last_inbound_at=moment))

    async def settings(self, **values: Any) -> None:
        """Change the owner's choices."""
        async with self.place.core.db.write() as session:
            channel = await session.get_one(models.Channel, (await self.channel()).id)
            channel.settings = {**channel.settings, **values}

    async def reply(self, text: str, who: str = "") -> models.Message:
        """Write as the owner."""
        talk = await self.talk(who)
        async with self.place.core.db.write() as session:
            row = await conversations.get(session, self.shop.owner, talk.id)
            message = await conversations.operator_reply(session, row, text)
        self.place.core.bell.ring("outbox")
        return message


async def _connect(core: Core, session: aiohttp.ClientSession, shop: Shop, body: dict[str, str]) -> tuple[int, Any]:
    async with session.post(
        f"{address(core)}/api/v1/bots/{shop.bot.id}/channels",
        json=body,
        headers={"Authorization": f"Bearer {shop.token}"},
    ) as response:
        return response.status, await response.json()


@contextlib.asynccontextmanager
async def started(
    folder: Path, url: str, fakes: Fakes, environment: dict[str, str], role: str = "all", **sections: Any
) -> AsyncIterator[tuple[Floor, aiohttp.ClientSession]]:
    """Start the product with Meta's addresses."""
    async with (
        floor(folder, url, *fakes, role=role, environment=environment, **sections) as place,
        aiohttp.ClientSession() as session,
    ):
        yield place, session


# WhatsApp


@dataclass
class WhatsAppLine(MetaLine):
    """A shop whose bot answers on a WhatsApp number, and Meta around it."""

    graph: FakeGraph
    number: FakeNumber
    kind = "whatsapp"
    asker = WHATSAPP_ASKER

    async def deliver(self, *changes: Any, secret: str = SECRET) -> int:
        """Deliver a body signed with the app's secret; return the status."""
        return await self.post(self.graph.body(*changes), secret)

    async def ask(self, number: int, wa_id: str | None = WHATSAPP_ASKER, **more: Any) -> None:
        """Let somebody ask; the number comes back in the answer."""
        assert await self.deliver(self.number.message(wa_id, f"Muzlatgichlarga kafolat bormi №{number}", **more)) == 200

    def answers(self) -> list[int]:
        """Return the numbers of the questions in the order of their answers."""
        return numbers_in(sent["text"]["body"] for sent in self.number.sent if sent["type"] == "text")


async def connect_whatsapp(core: Core, session: aiohttp.ClientSession, shop: Shop, **changes: Any) -> tuple[int, Any]:
    """Connect the number by the API; return the status and the answer."""
    body = {
        "type": "whatsapp",
        "access_token": WHATSAPP_TOKEN,
        "phone_number_id": NUMBER,
        "app_secret": SECRET,
        "verify_token": VERIFY,
    }
    return await _connect(core, session, shop, body | changes)


@contextlib.asynccontextmanager
async def running_whatsapp(
    folder: Path, url: str, graph: FakeGraph, fakes: Fakes, **more: Any
) -> AsyncIterator[tuple[Floor, aiohttp.ClientSession]]:
    """Start the product with the address of WhatsApp's API."""
    async with started(folder, url, fakes, {"META_GRAPH_BASE": graph.base_url}, **more) as both:
        yield both


@contextlib.asynccontextmanager
async def whatsapp_line(
    folder: Path, url: str, graph: FakeGraph, fakes: Fakes, **more: Any
) -> AsyncIterator[WhatsAppLine]:
    """A connected number."""
    number = add_number(graph)
    async with running_whatsapp(folder, url, graph, fakes, **more) as (place, session):
        shop = await make_shop(place.core)
        status, made = await connect_whatsapp(place.core, session, shop)
        assert (status, made["status"]) == (201, "active"), made
        yield WhatsAppLine(place, shop, session, graph, number)


# Instagram


@dataclass
class InstagramLine(MetaLine):
    """A shop whose bot answers on an Instagram account, and Meta around it."""

    graph: FakeInstagram
    account: FakeAccount
    kind = "instagram"
    asker = INSTAGRAM_ASKER

    async def deliver(self, *parts: Any) -> None:
        """Deliver events and changes."""
        assert await self.post(self.account.body(*parts)) == 200

    async def ask(self, number: int, who: str = INSTAGRAM_ASKER, **more: Any) -> None:
        """Let somebody ask; the number comes back in the answer."""
        await self.deliver(self.account.message(who, f"Muzlatgichlarga kafolat bormi №{number}", **more))

    def answers(self) -> list[int]:
        """Return the numbers of the questions in the order of their answers."""
        return numbers_in(self.account.texts())


async def connect_instagram(core: Core, session: aiohttp.ClientSession, shop: Shop, **changes: Any) -> tuple[int, Any]:
    """Connect the account by the API; return the status and the answer."""
    body = {
        "type": "instagram",
        "access_token": INSTAGRAM_TOKEN,
        "account_id": ACCOUNT,
        "app_secret": SECRET,
        "verify_token": VERIFY,
    }
    return await _connect(core, session, shop, body | changes)


@contextlib.asynccontextmanager
async def instagram_line(
    folder: Path, url: str, meta: Meta, fakes: Fakes, page: str = "", **more: Any
) -> AsyncIterator[InstagramLine]:
    """A connected account."""
    account = meta.add(page)
    async with started(folder, url, fakes, meta.environment, **more) as (place, session):
        shop = await make_shop(place.core, document=FAQ if more.get("role") != "web" else None)
        status, made = await connect_instagram(place.core, session, shop, **({"page_id": page} if page else {}))
        assert (status, made["status"]) == (201, "active"), made
        yield InstagramLine(place, shop, session, meta.pages if page else meta.own, account)
