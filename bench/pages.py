"""How long the panel's pages take with much in the database: ``python -m bench.pages [--messages 100000]``.

One owner's bot with that many messages in conversations of fifty (and one that holds a tenth of all), SQLite on disk, the
real program. Pages are asked for one at a time; printed are the median and the longest of the answers in ms, and what went
over the wire, compressed as a browser asks for it. To be reached: HTML within 150 ms and 120 KB.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from sqlalchemy import insert

from bench.product import QUESTIONS, NotMeasurable, Product
from db import models
from db.base import earlier_id, new_id, utcnow
from db.engine import Database
from services import accounts
from services.settings import ROOT

TIMES = 7
EACH = 50
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')


def _id_of(moment: dt.datetime) -> str:
    """Return an identifier as it would have been made then: what is found by time is found by it."""
    made = new_id()
    return earlier_id(made, (utcnow() - moment).total_seconds())[:10] + made[10:]


async def fill(url: str, bot_id: str, messages: int) -> tuple[str, str]:
    """Write the conversations; return the one-time link's token and the id of the long conversation."""
    db = Database(url)
    begun = utcnow() - dt.timedelta(days=60)
    try:
        async with db.write() as session:
            bot = await session.get_one(models.Bot, bot_id)
            channel = models.Channel(bot_id=bot_id, kind="web", external_id=bot_id)
            session.add(channel)
            await session.flush()
            left, number, long = messages, 0, ""
            while left > 0:
                count = messages // 10 if not long else min(EACH, left)
                left -= count
                number += 1
                contact, talk = new_id(), new_id()
                long = long or talk
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
            return await accounts.login_link(session, owner), long
    finally:
        await db.close()


async def ready(base: str) -> None:
    """Wait until the program serves pages. Raises :class:`NotMeasurable`."""
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"{base}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.2)
    raise NotMeasurable("the program did not start within a minute")


async def sign_in(session: aiohttp.ClientSession, base: str, token: str) -> None:
    """Use a one-time link up as a browser does."""
    async with session.get(f"{base}/login/link", params={"token": token}) as response:
        fields = dict(_HIDDEN.findall(await response.text()))
    async with session.post(f"{base}/login/link", data={**fields, "token": token, "next": "/dashboard"}) as response:
        response.raise_for_status()


async def measure(session: aiohttp.ClientSession, url: str) -> tuple[list[float], float]:
    """Return the times in ms, and the compressed size in KB, of one page."""
    times = []
    size = 0
    for _ in range(TIMES):
        begun = time.perf_counter()
        async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
            size = len(await response.read())
            response.raise_for_status()
        times.append((time.perf_counter() - begun) * 1000)
    return times, size / 1000


async def run(messages: int) -> bool:
    """Fill, measure, print; return whether everything was reached."""
    (ROOT / "data").mkdir(exist_ok=True)
    reached = True
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
        product = Product(
            Path(folder), telegram_url="http://127.0.0.1:9", openai_url="http://127.0.0.1:9", webhooks=False
        )
        (bot_id,) = await product.prepare(["7700000001:AA-not-a-token"])
        token, long = await fill(product.database_url, bot_id, messages)
        program = product.start()
        try:
            base = f"http://127.0.0.1:{product.port}"
            await ready(base)
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=True) as session:
                await sign_in(session, base, token)
            async with aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False) as session:
                bot = f"/bots/{bot_id}"
                for path in (
                    "/dashboard",
                    "/bots",
                    bot,
                    f"{bot}/setup",
                    f"{bot}/documents",
                    f"{bot}/channels",
                    "/inbox",
                    "/inbox?q=rentgen",
                    "/inbox?status=waiting",
                    f"/inbox/{long}",
                    "/settings",
                ):
                    times, size = await measure(session, base + path)
                    median = statistics.median(times)
                    fine = median <= 150 and size <= 120
                    reached &= fine
                    shown = path.replace(bot_id, "…").replace(long, "…")
                    print(f"{'✓' if fine else '✗'} {shown:36} {median:7.1f} ms {max(times):7.1f} ms {size:7.1f} KB")
        finally:
            program.stop()
    return reached


def main() -> int:
    """Read the arguments, measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description="Measure the panel's pages.")
    parser.add_argument("--messages", type=int, default=100_000)
    return 0 if asyncio.run(run(parser.parse_args().messages)) else 1


if __name__ == "__main__":
    sys.exit(main())
