"""How long the administrator's payments take with many of them: ``python -m bench.books [--payments 100000]``.

The pages by each filter (median and longest of seven, in ms, from the query to the rows; to be reached: 50), the tables CSV
and XLSX (seconds, and for how long the event loop stood still meanwhile at the most; to be reached: 5 s and 50 ms).
``--database URL``: an empty database of PostgreSQL; otherwise a SQLite file on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import insert

from db import migrate, models
from db.base import new_id, utcnow
from db.engine import Database
from services import bookkeeping, days, sheets
from services.bookkeeping import Filters
from services.settings import ROOT, Settings, read_settings

TIMES = 7
OWNERS = 2000
_AT_ONCE = 1000
_PLANS = ("starter", "basic", "premium")
_GATEWAYS = ("payme",) * 60 + ("click",) * 30 + ("uzum",) * 8 + ("manual",) * 2
_STATES = ("paid",) * 60 + ("expired",) * 30 + ("cancelled",) * 7 + ("refunded",) * 2 + ("waiting",)


async def fill(db: Database, payments: int) -> None:
    """Write owners and their payments of a year."""
    chance, now = random.Random(1), utcnow()
    owners = [new_id() for _ in range(OWNERS)]
    people = [{"id": id_, "email": f"ega{n}@example.uz", "full_name": f"Ega {n}"} for n, id_ in enumerate(owners)]
    async with db.write() as session:
        await session.execute(insert(models.User), people)
    for start in range(0, payments, _AT_ONCE):
        rows = []
        for number in range(start, min(payments, start + _AT_ONCE)):
            at = now - dt.timedelta(days=365) * (payments - number) / payments
            state, gateway = chance.choice(_STATES), chance.choice(_GATEWAYS)
            paid = state in ("paid", "refunded")
            rows.append(
                {
                    "id": new_id(),
                    "number": str(100_000_000 + number),
                    "user_id": chance.choice(owners),
                    "plan": chance.choice(_PLANS),
                    "period": "monthly",
                    "gateway": gateway,
                    "status": state,
                    "price_tiyin": 29_000_000,
                    "amount_tiyin": 29_000_000,
                    "paid_by": gateway if paid else None,
                    "paid_at": at if paid else None,
                    "fiscal": {},
                    "created_at": at,
                    "expires_at": at + dt.timedelta(days=1),
                }
            )
        async with db.write() as session:
            await session.execute(insert(models.Payment), rows)


async def page(db: Database, filters: Filters, cursor: str = "") -> list[float]:
    """Return the times in ms of reading one page with its sums."""
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        async with db.read() as session:
            await bookkeeping.list_all(session, filters, cursor=cursor)
            await bookkeeping.sums(session, filters)
        times.append((time.perf_counter() - begun) * 1000)
    return times


async def export(db: Database, settings: Settings, kind: str) -> tuple[float, float, int]:
    """Return the seconds that a table of everything takes, the longest stop of the loop in ms, and its bytes."""
    worst, size = 0.0, 0

    async def watch() -> None:
        nonlocal worst
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, (time.perf_counter() - asked - 0.005) * 1000)

    async def parts() -> AsyncIterator[bytes]:
        table = bookkeeping.table(db, settings, Filters(), "uz")
        if kind == "csv":
            async for part in sheets.as_csv(table):
                yield part
        else:
            yield await sheets.as_xlsx(table, "Payments")

    watching = asyncio.create_task(watch())
    begun = time.perf_counter()
    async for part in parts():
        size += len(part)
    took = time.perf_counter() - begun
    watching.cancel()
    return took, worst, size


async def run(payments: int, url: str) -> bool:
    """Fill, measure, print; return whether everything was reached."""
    settings = read_settings(ROOT / "config.toml", environment={}, env_file=None)
    reached = True
    db = Database(url)
    try:
        await migrate.upgrade(url)
        await fill(db, payments)
        today = days.today(utcnow())
        day = today - dt.timedelta(days=200)
        async with db.read() as session:
            newest = await bookkeeping.list_all(session, Filters())
        for name, filters, cursor in (
            ("all", Filters(), ""),
            ("second page", Filters(), newest.next or ""),
            *((f"gateway {kind}", Filters(gateway=kind), "") for kind in ("payme", "uzum", "manual", "balance")),
            *((f"state {kind}", Filters(state=kind), "") for kind in ("paid", "refunded", "waiting")),
            ("gateway and state", Filters(gateway="uzum", state="refunded"), ""),
            ("one day", Filters(since=day, until=day), ""),
            ("day, gateway, state", Filters(since=day, until=day, gateway="uzum", state="paid"), ""),
            ("part of a name", Filters(owner="Ega 19"), ""),
            ("one owner", Filters(owner="ega7@example.uz"), ""),
        ):
            times = await page(db, filters, cursor)
            median = statistics.median(times)
            reached &= median <= 50
            print(f"{'✓' if median <= 50 else '✗'} {name:24} {median:7.1f} ms {max(times):7.1f} ms")
        for kind in ("csv", "xlsx"):
            took, worst, size = await export(db, settings, kind)
            fine = worst <= 50 and (kind == "xlsx" or took <= 5)
            reached &= fine
            print(f"{'✓' if fine else '✗'} {kind:24} {took:7.1f} s  {worst:7.1f} ms at the most {size / 1e6:6.1f} MB")
    finally:
        await db.close()
    return reached


def main() -> int:
    """Read the arguments, measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.books", description="Measure the administrator's payments.")
    parser.add_argument("--payments", type=int, default=100_000)
    parser.add_argument("--database", default="")
    given = parser.parse_args()
    (ROOT / "data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'books.db'}"
        return 0 if asyncio.run(run(given.payments, url)) else 1


if __name__ == "__main__":
    sys.exit(main())
