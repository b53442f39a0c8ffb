"""How long looking for conversations takes: ``python -m bench.inbox [--conversations 100000] [--each 10] [--database sqlite]``.

One owner's bot with that many conversations of ``each`` messages, on a database of its own, without the rest of the program.
Printed are p50 and p95 of a search in ms, as the inbox does it; beside them how long the same took by comparing every text
(until 0.9), what a message costs more when it is stored, and what reading its words costs afterwards. To be reached: 150 ms.
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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import insert, or_, select, text

from bench.product import QUESTIONS
from db import migrate, models
from db.base import new_id, utcnow
from db.engine import Database
from services.conversations import desk, finding
from services.settings import ROOT
from tests.servers import Postgres, new_folder

TIMES = 15
WRITES = 2000
BAR_MS = 150
_NAMES = "Aziza Botir Gulbahor Dilnoza Sardor Нодира Иван Ольга Жасур Ўткир Malika Rustam Kamola Тимур Laylo".split()
_STEMS = (
    "muzlatgich kafolat narx yetkazib telefon konditsioner gilam divan krovat oyna eshik stul parda choynak".split()
)
_AT_ONCE = 500


async def fill(db: Database, bot: models.Bot, conversations: int, each: int) -> None:
    """Write the conversations, each with some of 5,000 words; one in ten thousand says what no other does."""
    chance = random.Random(7)
    vocabulary = [f"{chance.choice(_STEMS)}{number}" for number in range(5000)]
    begun = utcnow() - dt.timedelta(days=60)
    async with db.write() as session:
        channel = models.Channel(bot_id=bot.id, kind="web", external_id=bot.id)
        session.add(channel)
    for first in range(0, conversations, _AT_ONCE):
        people, talks, messages = [], [], []
        for number in range(first, min(first + _AT_ONCE, conversations)):
            person, talk = new_id(), new_id()
            at = begun + dt.timedelta(seconds=50 * number)
            of = {"bot_id": bot.id, "channel_id": channel.id, "created_at": at}
            name = f"{chance.choice(_NAMES)} {chance.choice(_STEMS).title()}ov"
            phone = f"+9989{chance.randrange(10**8):08}"
            people.append({"id": person, "external_id": str(number), "name": name, "phone": phone, **of})
            talks.append({"id": talk, "contact_id": person, "last_message_at": at, "last_text": "…", **of})
            for place in range(each):
                said = f"{QUESTIONS[(number + place) % 8]} {' '.join(chance.choices(vocabulary, k=5))}"
                if place == 0 and number % 10_000 == 5000:
                    said += " sarvqamish"
                author = "bot" if place % 2 else "customer"
                messages.append(
                    {"id": new_id(), "conversation_id": talk, "author": author, "text": said, "created_at": at}
                )
        async with db.write() as session:
            await session.execute(insert(models.Contact), people)
            await session.execute(insert(models.Conversation), talks)
            await session.execute(insert(models.Message), messages)


def _compared(bot: models.Bot, q: str) -> Any:
    """The search until 0.9."""
    talk, contact, message = models.Conversation, models.Contact, models.Message
    said = select(message.id).where(message.conversation_id == talk.id, message.text.ilike(f"%{q}%")).exists()
    named = select(contact.id).where(
        contact.bot_id == bot.id, or_(contact.name.ilike(f"%{q}%"), contact.phone.like(f"%{q}%"))
    )
    wanted = talk.bot_id == bot.id, or_(talk.contact_id.in_(named), said)
    return select(talk.id).where(*wanted).order_by(talk.last_message_at.desc(), talk.id.desc()).limit(51)


async def timed(do: Callable[[], Awaitable[Any]], times: int) -> list[float]:
    """Return how long each of so many calls took, in ms."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await do()
        taken.append((time.perf_counter() - begun) * 1000)
    return sorted(taken)


async def searches(db: Database, owner: models.User, bot: models.Bot) -> bool:
    """Measure searches; return whether each was quick enough."""
    reached = True
    async with db.read() as session:
        phone = str(await session.scalar(select(models.Contact.phone).order_by(models.Contact.id).limit(1)))
    for what, q in (
        ("a name that many have", "gulbahor"),
        ("a part of a name", "bahor"),
        ("a whole number", phone),
        ("a part of a number", phone[6:10]),
        ("a rare word", "sarvqamish"),
        ("a word of one in a hundred", "kafolat77"),
        ("a word that everybody said", "rentgen"),
        ("two such words", "rentgen имплант"),
        ("the beginning of many words", "mu"),
        ("one letter", "k"),
        ("nothing there", "yoqbundaysoz"),
    ):
        found: list[int] = []

        async def search(q: str = q, found: list[int] = found) -> None:
            async with db.read() as session:
                found.append(len((await desk.list_for(session, owner, [bot], desk.Filters(q=q))).items))

        async def compare(q: str = q) -> None:
            async with db.read() as session:
                await session.execute(_compared(bot, q))

        taken, before = await timed(search, TIMES), await timed(compare, 1)
        p50, p95 = statistics.median(taken), taken[int(len(taken) * 0.95)]
        reached &= p95 <= BAR_MS
        print(
            f"{'✓' if p95 <= BAR_MS else '✗'} {what:30} {p50:8.1f} ms {p95:8.1f} ms  found {found[-1]:3}  "
            f"comparing {statistics.median(before):8.1f} ms, {statistics.median(before) / p50:6.1f} times"
        )
    return reached


async def writing(db: Database) -> float:
    """Return how long storing a message takes, in ms, each with a commit of its own: its row alone."""
    async with db.read() as session:
        talks = list(await session.scalars(select(models.Conversation.id).limit(WRITES)))

    async def store() -> None:
        talk = talks[random.randrange(len(talks))]
        async with db.write() as session:
            row = {
                "id": new_id(),
                "conversation_id": talk,
                "author": "customer",
                "text": "Muzlatgichlarga kafolat bormi?",
            }
            await session.execute(insert(models.Message), row)

    return statistics.median(await timed(store, WRITES))


async def without_notes(db: Database, do: Callable[[], Awaitable[float]]) -> float:
    """Run something while nothing is noted of new messages."""
    name, table = "messages_due_new", "messages"
    async with db.read() as session:
        kept = (
            await session.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": name})
            if db.is_sqlite
            else ""
        )
    async with db.write() as session:
        await session.execute(
            text(f"DROP TRIGGER {name}" if db.is_sqlite else f"ALTER TABLE {table} DISABLE TRIGGER {name}")
        )
    try:
        return await do()
    finally:
        async with db.write() as session:
            await session.execute(text(str(kept) if db.is_sqlite else f"ALTER TABLE {table} ENABLE TRIGGER {name}"))


async def run(url: str, conversations: int, each: int) -> bool:
    """Fill, measure, print; return whether everything was reached."""
    await migrate.upgrade(url)
    db = Database(url)
    try:
        async with db.write() as session:
            owner = models.User(email="egasi@example.uz", full_name="Ega")
            session.add(owner)
            await session.flush()
            bot = models.Bot(owner_id=owner.id, name="Do‘kon")
            session.add(bot)
        begun = time.perf_counter()
        await fill(db, bot, conversations, each)
        print(
            f"  {conversations:,} conversations, {conversations * each:,} messages written in {time.perf_counter() - begun:.0f} s"
        )
        cpu, begun = time.process_time(), time.perf_counter()
        while await finding.catch_up(db):
            pass
        taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
        messages = conversations * each
        spent = f"{taken / messages * 1e6:.0f} µs a message, {cpu / messages * 1e6:.0f} µs of the processor"
        print(f"  their words read in {taken:.0f} s: {spent}")
        if not db.is_sqlite:
            async with db.engine.connect() as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.execute(text("VACUUM ANALYZE"))
        reached = await searches(db, owner, bot)
        noted = [await writing(db), await writing(db)]
        plain = await without_notes(db, lambda: writing(db))
        print(f"  a message stored with its commit: {min(noted):.3f} ms, without the note {plain:.3f} ms")
        cpu, begun = time.process_time(), time.perf_counter()
        notes = 0
        while some := await finding.catch_up(db):
            notes += some
        cpu, taken = time.process_time() - cpu, time.perf_counter() - begun
        print(f"  read afterwards: {cpu / notes * 1e6:.0f} µs of the processor a message, {taken / notes * 1e6:.0f} µs")
        return reached
    finally:
        await db.close()


async def measure(database: str, conversations: int, each: int) -> bool:
    """Make a database of this kind and measure on it."""
    with ExitStack() as stack:
        if database == "sqlite":
            (ROOT / "data").mkdir(exist_ok=True)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data"))
            return await run(f"sqlite+aiosqlite:///{Path(folder) / 'inbox.sqlite3'}", conversations, each)
        postgres = Postgres(new_folder())
        await asyncio.to_thread(postgres.start)
        stack.callback(postgres.stop, at_once=True)
        return await run(postgres.url(), conversations, each)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description="Measure the inbox's search.")
    parser.add_argument("--conversations", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args(arguments)
    return 0 if asyncio.run(measure(given.database, given.conversations, given.each)) else 1


if __name__ == "__main__":
    sys.exit(main())
