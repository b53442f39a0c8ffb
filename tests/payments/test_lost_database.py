"""PostgreSQL is cut off while a payment is performed, before its commit, in it and after it: the gateway asks again, and
everything is there exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from db import models
from db.engine import DatabaseUnavailable
from tests import servers
from tests.payments.till import NOW, Till, settings_for, till

_SOCKET = ".s.PGSQL.5432"
_TRIES = 10
Call = Callable[[], Awaitable[Any]]


@dataclass
class Wire:
    """What lies between the product and its database. ``cut``: at the word COMMIT the connection ends, ``before`` the server has
    heard it or ``after`` it was done, its answer lost.
    """

    server: Path
    database: str
    cut: str = ""
    cuts: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        up_reader, up_writer = await asyncio.open_unix_connection(self.server / _SOCKET)
        self.writers += [writer, up_writer]
        swallows = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(65536):
                if self.cut and b"COMMIT" in data:
                    self.cuts += 1
                    if self.cut == "before":
                        return
                    swallows.set()
                up_writer.write(data)
                await up_writer.drain()

        async def back() -> None:
            while data := await up_reader.read(65536):
                if swallows.is_set():
                    return
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(there()), asyncio.create_task(back())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, up_writer):
            end.close()

    @contextlib.contextmanager
    def cutting(self, moment: str) -> Iterator[None]:
        """Cut what is committed meanwhile."""
        self.cut, self.cuts = moment, 0
        try:
            yield
        finally:
            self.cut = ""
        assert self.cuts, "nothing was committed"

    async def end_backends(self) -> None:
        """End every connection of the product's, by the server itself."""
        wish = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'"
        await asyncio.to_thread(servers.run_sql, self.server, wish)


@pytest.fixture(scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[tuple[Till, Wire]]:
    """The product on PostgreSQL, and the wire between them."""
    folder, place = tmp_path_factory.mktemp("till"), servers.new_folder()
    with servers_run.database("postgresql", folder) as url:
        parts = urlsplit(url)
        wire = Wire(Path(parse_qs(parts.query)["host"][0]), parts.path.lstrip("/"))
        carrier = await asyncio.start_unix_server(wire.carry, place / _SOCKET)
        try:
            async with till(settings_for(folder, servers.postgres_url(place, wire.database))) as opened:
                yield opened, wire
        finally:
            carrier.close()
            for writer in wire.writers:
                writer.close()
            (place / _SOCKET).unlink(missing_ok=True)
            place.rmdir()


def _code(answer: Any) -> str:
    """Return what a gateway was answered, in its own words."""
    if isinstance(answer, dict):
        told = answer.get("error")
        return str(told["code"] if isinstance(told, dict) else told if told is not None else answer.get("state"))
    return str(answer.body.get("errorCode") or answer.body["status"])


async def _begun(shop: Till) -> dict[str, tuple[models.Payment, Call]]:
    """Begin to pay by each gateway what somebody earns by; return for each what it pays and its last call."""
    partner = await shop.owner()
    payments = {kind: await shop.order(gateway=kind) for kind in ("payme", "click", "uzum")}
    async with shop.core.db.write() as session:
        for payment in payments.values():
            facts = {"partner_id": partner.id, "user_id": payment.user_id, "source": "web", "touched_at": NOW}
            session.add(models.Referral(**facts))
    payme = await shop.payme_created(payments["payme"])
    click = await shop.click_prepared(payments["click"])
    uzum = await shop.uzum_created(payments["uzum"])
    calls: dict[str, Call] = {
        "payme": lambda: shop.payme("PerformTransaction", id=payme),
        "click": lambda: shop.click(payments["click"], 1, **click),
        "uzum": lambda: shop.uzum("confirm", uzum),
    }
    return {kind: (payments[kind], calls[kind]) for kind in payments}


FAILED = {"payme": "-32400", "click": "-7", "uzum": "99999"}
DONE = {"payme": "2", "click": "0", "uzum": "CONFIRMED"}
AGAIN = {"payme": "2", "click": "-4", "uzum": "10016"}


async def _repeated(kind: str, call: Call) -> str:
    """Let a gateway ask again, as it does after a failure of ours, until it is answered."""
    for _ in range(_TRIES):
        code = _code(await call())
        if code != FAILED[kind]:
            return code
    return FAILED[kind]


async def _kept(shop: Till, payment: models.Payment) -> tuple[str, int, int, int]:
    """Return a payment's status, and how many spans, letters and commissions there are of it."""
    letters = models.Letter.user_id == payment.user_id, models.Letter.kind == "paid"
    async with shop.core.db.read() as session:
        status = await session.scalar(select(models.Payment.status).where(models.Payment.id == payment.id))
    return (
        str(status),
        await shop.deliveries(payment),
        await shop.count(models.Letter, *letters),
        await shop.count(models.ReferralEntry, models.ReferralEntry.payment_id == payment.id),
    )


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_commit_is_cut_off(line: tuple[Till, Wire], moment: str) -> None:
    """Whether it was done or not, we cannot know: a failure is answered, and what is asked again finds what there is."""
    shop, wire = line
    for kind, (payment, call) in (await _begun(shop)).items():
        with wire.cutting(moment):
            assert _code(await call()) == FAILED[kind]
        await _reachable(shop)
        kept = moment == "after"
        assert await _kept(shop, payment) == (("paid", 1, 1, 1) if kept else ("waiting", 0, 0, 0)), kind
        assert await _repeated(kind, call) == (AGAIN if kept else DONE)[kind]
        assert _code(await call()) == AGAIN[kind]
        assert await _kept(shop, payment) == ("paid", 1, 1, 1), kind


@pytest.mark.parametrize("point", ["payment_changed", "payment_kept"])
async def test_the_server_ends_all_connections(line: tuple[Till, Wire], point: str) -> None:
    shop, wire = line
    whole = shop.core.pause
    for kind, (payment, call) in (await _begun(shop)).items():

        async def cut(reached: str) -> None:
            if reached == point:
                await wire.end_backends()

        shop.core.pause = cut
        try:
            first = _code(await call())
        finally:
            shop.core.pause = whole
        # After the commit it is answered what was kept; nobody may have heard it.
        kept = point == "payment_kept"
        assert first == (DONE if kept else FAILED)[kind]
        assert await _repeated(kind, call) == (AGAIN if kept else DONE)[kind]
        assert _code(await call()) == AGAIN[kind]
        assert await _kept(shop, payment) == ("paid", 1, 1, 1), kind


async def _reachable(shop: Till) -> None:
    """Use up the connections that the cut has left behind."""
    for _ in range(_TRIES):
        with contextlib.suppress(DatabaseUnavailable):
            await shop.count(models.Payment)
            return
