"""How quick the numbers are: ``python -m bench.numbers [--messages 100000]``.

One owner's bot with that many messages in sixty days, in conversations of fifty, with model calls beside them. First the
pages are asked for one at a time while nothing is counted yet, then the history is counted as the job does it, and the pages
are asked for again. Printed are median, the 95th of 100 and the longest in ms, and what went over the wire. To be reached, once
the days are counted: 50 ms for 95 of 100.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import statistics
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import insert, select, update

from bench.product import QUESTIONS, NotMeasurable, Product, ready, sign_in
from db import models
from db.base import earlier_id, new_id, utcnow
from db.engine import Database
from services import accounts
from services.settings import ROOT
from services.statistics import counting

TIMES = 100
PAGES = ("/dashboard?period=today", "/dashboard?period=7", "/dashboard", "/dashboard?period=90", "/bots")
FOR_ADMINISTRATORS = ("/admin/statistics", "/admin/statistics?period=365")
LIMIT_MS = 50.0
EACH = 50


def _id_of(moment: dt.datetime) -> str:
    """Return an identifier as it would have been made then: what is found by time is found by it."""
    made = new_id()
    return earlier_id(made, (utcnow() - moment).total_seconds())[:10] + made[10:]


async def fill(url: str, bot_id: str, messages: int) -> str:
    """Write the conversations, one of them with a tenth of all messages; return the token of a one-time link."""
    db = Database(url)
    begun = utcnow() - dt.timedelta(days=60)
    try:
        async with db.write() as session:
            bot = await session.get_one(models.Bot, bot_id)
            channel = models.Channel(bot_id=bot_id, kind="web", external_id=bot_id)
            session.add(channel)
            await session.flush()
            left, number = messages, 0
            while left > 0:
                count = min(EACH, left) if number else messages // 10
                left -= count
                number += 1
                contact, talk = new_id(), new_id()
                at = begun + dt.timedelta(days=60) * number / (messages / EACH + 1)
                values = {"bot_id": bot_id, "channel_id": channel.id, "created_at": at}
                await session.execute(
                    insert(models.Contact).values(id=contact, external_id=str(number), name=f"Mijoz {number}", **values)
                )
                await session.execute(
                    insert(models.Conversation).values(
                        id=talk, contact_id=contact, last_message_at=at, last_text=QUESTIONS[number % 8], **values
                    )
                )
                rows = [
                    {
                        "id": _id_of(at),
                        "conversation_id": talk,
                        "author": "bot" if position % 2 else "customer",
                        "text": f"{QUESTIONS[position % 8]} {number}-{position}",
                        "status": "sent" if position % 2 else "answered",
                        "answered": True if position % 2 else None,
                        "created_at": at + dt.timedelta(seconds=position),
                    }
                    for position in range(count)
                ]
                await session.execute(insert(models.Message), rows)
            owner = await session.get_one(models.User, bot.owner_id)
            return await accounts.login_link(session, owner)
    finally:
        await db.close()


async def complete(url: str, bot_id: str) -> None:
    """Add languages, model calls and the administrator's right to what :func:`fill` made."""
    db = Database(url)
    now = utcnow()
    try:
        async with db.write() as session:
            owner_id = await session.scalar(select(models.Bot.owner_id).where(models.Bot.id == bot_id))
            await session.execute(update(models.User).where(models.User.id == owner_id).values(role="admin"))
            for code in ("uz", "ru", "en"):
                chosen = models.Contact.id.like(f"%{code[0]}") if code != "uz" else models.Contact.id.is_not(None)
                await session.execute(update(models.Contact).where(chosen).values(language=code))
            call: dict[str, Any] = {
                "owner_id": owner_id,
                "bot_id": bot_id,
                "provider": "openai",
                "model_asked": "gpt-6-luna",
            }
            call |= {"cost_usd": Decimal("0.0004"), "input_tokens": 1500, "output_tokens": 90}
            rows = [{**call, "created_at": now - dt.timedelta(days=60) * number / 50_000} for number in range(50_000)]
            await session.execute(insert(models.AIUsage), rows)
    finally:
        await db.close()


async def count(url: str) -> tuple[float, int]:
    """Count all days that are over; return the seconds and the number of steps."""
    db = Database(url)
    begun, steps = time.perf_counter(), 0
    try:
        while await counting.count_some(db, utcnow()):
            steps += 1
    finally:
        await db.close()
    return time.perf_counter() - begun, steps


async def measure(session: aiohttp.ClientSession, url: str, often: int) -> tuple[list[float], float]:
    """Return the times in ms, sorted, and the compressed size in KB, of one page."""
    times, size = [], 0
    for _ in range(often):
        begun = time.perf_counter()
        async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
            size = len(await response.read())
            response.raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    return sorted(times), size / 1000


async def walk(product: Product, jar: aiohttp.CookieJar, title: str, *, token: str = "", often: int = TIMES) -> bool:
    """Start the program, ask for every page; return whether all were quick enough."""
    reached = True
    program = product.start()
    try:
        base = f"http://127.0.0.1:{product.port}"
        await ready(base)
        if token:
            async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=True) as session:
                await sign_in(session, base, token)
        print(f"{title}: median, 95 of 100, longest")
        async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False) as session:
            for path in PAGES + FOR_ADMINISTRATORS:
                times, size = await measure(session, base + path, often)
                quick = times[int(often * 0.95) - 1]
                reached &= quick <= LIMIT_MS
                mark = "✓" if quick <= LIMIT_MS else "✗"
                print(
                    f"{mark} {path:34} {statistics.median(times):7.1f} {quick:7.1f} {times[-1]:7.1f} ms {size:6.1f} KB"
                )
    finally:
        program.stop()
    return reached


async def run(messages: int) -> bool:
    """Fill, count, measure, print; return whether everything was reached."""
    (ROOT / "data").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
        product = Product(
            Path(folder), telegram_url="http://127.0.0.1:9", openai_url="http://127.0.0.1:9", webhooks=False
        )
        (bot_id,) = await product.prepare(["7700000001:AA-not-a-token"])
        token = await fill(product.database_url, bot_id, messages)
        await complete(product.database_url, bot_id)
        jar = aiohttp.CookieJar(unsafe=True)
        await walk(product, jar, "Nothing counted yet", token=token, often=20)
        seconds, steps = await count(product.database_url)
        print(f"Counted in {seconds:.1f} s, {steps} steps of up to {counting.DAYS_AT_ONCE} days")
        return await walk(product, jar, "All days counted")


def main() -> int:
    """Read the arguments, measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.numbers", description="Measure the pages of numbers.")
    parser.add_argument("--messages", type=int, default=100_000)
    try:
        return 0 if asyncio.run(run(parser.parse_args().messages)) else 1
    except NotMeasurable as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
