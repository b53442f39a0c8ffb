"""The long soak: a load while everything around the program breaks at random, then the books must balance.

``python -m bench.soak [--minutes 60] [--database sqlite|postgresql] [--seed N]`` kills and restarts the program, lets the
models fail in every way the fake knows, lets Telegram refuse, limit and cut, stops PostgreSQL and Redis. Some write in
groups, some send pictures, and some talks are led by a person now and then. At the end every acknowledged update was stored
once and answered once in the order of its chat, every message that the books call sent arrived once, only sends that were
cut off in flight may be missing or doubled, no answer of the bot fell into a time that a person led, and memory and
handles stayed flat.
The tests run a short form through :func:`soak`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import io
import json
import logging
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import aiohttp
from PIL import Image
from sqlalchemy import func, select

from bench.product import QUESTIONS, NotMeasurable, Product, Program
from db import models
from db.base import utcnow
from db.engine import Database, DatabaseUnavailable
from services.conversations.records import RETURNED
from services.settings import ROOT
from tests.fakes.models import FakeModels, Seen
from tests.fakes.telegram import FakeBot, FakeTelegram
from tests.fakes.telegram_format import Json
from tests.fakes.telegram_load import FIRST_CHAT_ID, token_of
from tests.servers import Postgres, Valkey, new_folder

# Not a revoked key or a retired model: they rest for minutes, and quoted passages cannot be told from one another.
MODEL_FAULTS = (
    "429",
    "500",
    "503",
    "cut",
    "cut_midway",
    "headers_only",
    "html",
    "broken_json",
    "empty",
)
GROUPS, PICTURES, LED = 3, 5, 7
"""Of ten chats this one is a group, this one's customer also sends pictures, and this one is led by a person now and then."""

_TAG = re.compile(r"№(\d+)")
_FLAT_FROM_S = 240.0
_FIRST_GROUP_ID = -1_002_000_000_000


@dataclass
class Report:
    """What a soak did and found. ``problems`` is empty when everything holds.

    ``unsure``: sends that were cut off in flight, which may have arrived or not (or twice, after a kill). ``lives``: highest
    memory in MB and file handles of each life of the program, with its seconds. ``led``: how often a person took a talk over;
    ``files``: pictures that were kept; ``grouped``: messages in groups.
    """

    seed: int
    seconds: float = 0.0
    written: int = 0
    stored: int = 0
    replies: int = 0
    by_model: int = 0
    delivered: int = 0
    unsure: int = 0
    led: int = 0
    files: int = 0
    grouped: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lives: list[tuple[float, float, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Telegram(FakeTelegram):
    """Keeps of each delivered message only what the books are compared with."""

    def __init__(self) -> None:
        super().__init__(strict_chats=False, record=False)
        self.delivered: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)

    def deliver(
        self, bot: FakeBot, method: str, params: Json, content: Json, text: str, stored: Any | None = None
    ) -> Json:
        message = super().deliver(bot, method, params, content, text, stored)
        self.delivered[bot.id, int(message["chat"]["id"])].append((int(message["message_id"]), text))
        return message


def _echo(seen: Seen) -> str:
    """Answer with the numbers of the questions, which are how an answer is known again; say what a picture shows."""
    if "data:image" in seen.text:
        return "Oq tish cho‘tkasi"
    last = json.dumps(seen.body["input"][-1], ensure_ascii=False).rsplit("<question>", 1)[-1]
    return "Ha, albatta! " + " ".join(f"№{number}" for number in _TAG.findall(last))


def _picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), "white").save(out, "JPEG")
    return out.getvalue()


class _Desk:
    """The people of the businesses: they take talks over and give them back, through the JSON API as other programs do."""

    def __init__(self, address: str, tokens: Mapping[int, str], bots: Mapping[int, str]) -> None:
        self._address, self._tokens, self._bots = f"{address}/api/v1", tokens, bots
        self._since: dict[tuple[int, int], dt.datetime] = {}
        self._talks: dict[tuple[int, int], str] = {}
        self.led: defaultdict[tuple[int, int], list[tuple[dt.datetime, dt.datetime]]] = defaultdict(list)
        self.written: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        self.tried: defaultdict[tuple[int, int], list[str]] = defaultdict(list)

    async def _ask(self, place: tuple[int, int], method: str, path: str, **body: str) -> Any:
        """Make one call; None where the program was not there or refused, so that nobody knows whether it was done."""
        head = {"Authorization": f"Bearer {self._tokens[place[0]]}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
                session.request(method, self._address + path, headers=head, json=body or None) as answer,
            ):
                return await answer.json() if answer.status in (200, 201) else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _talk(self, place: tuple[int, int]) -> str | None:
        if place not in self._talks:
            path = f"/bots/{self._bots[place[0]]}/conversations?contact={place[1]}"
            found = await self._ask(place, "GET", path)
            if not found or not found["items"]:
                return None
            self._talks[place] = str(found["items"][0]["id"])
        return self._talks[place]

    async def write(self, place: tuple[int, int], number: int) -> bool:
        """Answer a customer, which takes the talk over; tell whether that was acknowledged."""
        talk = await self._talk(place)
        if talk is None:
            return False
        text = f"Operator yozmoqda: {number}."
        self.tried[place].append(text)
        if await self._ask(place, "POST", f"/conversations/{talk}/messages", text=text) is None:
            return False
        self.written[place].append(text)
        self._since.setdefault(place, utcnow())
        return True

    async def give_back(self, place: tuple[int, int]) -> bool:
        """Let the bot answer again; tell whether that was acknowledged, or there was nothing to give back."""
        talk = self._talks.get(place)
        if talk is None:
            return True
        if since := self._since.pop(place, None):
            self.led[place].append((since, utcnow()))
        return await self._ask(place, "PATCH", f"/conversations/{talk}", status="bot") is not None


class _Soak:
    def __init__(
        self,
        report: Report,
        product: Product,
        fake: _Telegram,
        ai: FakeModels,
        desk: _Desk,
        *,
        rate: float,
        chats: int,
    ) -> None:
        self.report, self.product, self.fake, self.ai, self.desk = report, product, fake, ai, desk
        self.picture = _picture()
        self.rate, self.chats = rate, chats
        self.random = random.Random(report.seed)
        self.bots = list(fake.bots.values())
        self.over = False
        self.asked: Counter[tuple[int, int]] = Counter()
        self.program: Program | None = None
        self.highest = (0.0, 0)
        self.samples: list[tuple[float, float, int]] = []

    # The program

    def start(self) -> None:
        self.program, self.highest, self.samples = self.product.start(), (0.0, 0), []

    def ended(self) -> None:
        """Note the life that is over."""
        assert self.program is not None
        self.report.lives.append((round(time.monotonic() - self.program.started, 1), *self.highest))

    async def watch(self) -> None:
        """Sample memory and handles."""
        while True:
            if self.program is not None and self.program.running:
                rss, handles = self.program.rss_mb(), self.program.handles()
                self.highest = (max(self.highest[0], round(rss, 1)), max(self.highest[1], handles))
                self.samples.append((time.monotonic() - self.program.started, rss, handles))
            await asyncio.sleep(0.5)

    # People

    async def write(self) -> None:
        """Write at random into all chats at the given rate, some messages quickly after one another, until the end."""
        while not self.over:
            number = self.random.randrange(self.chats)
            for _ in range(self.random.choice((1, 1, 1, 3))):
                self.say(number)
            await asyncio.sleep(self.random.expovariate(self.rate / 1.5))

    def say(self, number: int) -> None:
        bot, chat = self.bots[number % len(self.bots)], FIRST_CHAT_ID + number
        person, kind = self.fake.user(chat), number % 10
        place = chat if kind != GROUPS else _FIRST_GROUP_ID - number
        self.asked[bot.id, place] += 1
        self.report.written += 1
        text = f"{self.random.choice(QUESTIONS)} №{self.asked[bot.id, place]}"
        if kind == GROUPS:
            self.report.grouped += 1
            person.send(bot, f"@{bot.username} {text}", group=self.fake.group(place))
        elif kind == PICTURES and self.random.random() < 0.3:
            person.send_photo(bot, self.picture, caption=text)
        else:
            person.send(bot, text)

    async def lead(self) -> None:
        """Take talks over and give them back at random."""
        places = [
            (self.bots[number % len(self.bots)].id, FIRST_CHAT_ID + number)
            for number in range(self.chats)
            if number % 10 == LED
        ]
        held: set[tuple[int, int]] = set()
        number = 0
        while not self.over:
            await asyncio.sleep(self.random.uniform(0.2, 1.5))
            place = self.random.choice(places)
            if place in held and self.random.random() < 0.6:
                if await self.desk.give_back(place):
                    held.discard(place)
            else:
                number += 1
                # Also when nothing came back: it may have been done.
                held.add(place)
                self.report.led += await self.desk.write(place, number)
        while held:
            for place in sorted(held):
                if await self.desk.give_back(place):
                    held.discard(place)
            await asyncio.sleep(0.2)

    # Trouble

    async def trouble(self, ends: float, pauses: tuple[float, float], more: dict[str, Callable[[], Any]]) -> None:
        """Let one thing after the other go wrong until it is time to recover."""
        kinds: dict[str, Callable[[], Any]] = {
            "kill": self.kill,
            "stop": self.stop,
            "models": self.models_fail,
            "telegram": self.telegram_fails,
            **more,
        }
        # Everything once, then at random.
        coming = self.random.sample(sorted(kinds), len(kinds))
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self.random.uniform(*pauses)))
            kind = coming.pop() if coming else self.random.choice(sorted(kinds))
            self.report.faults[kind] += 1
            await kinds[kind]()

    async def kill(self) -> None:
        """SIGKILL, and a start a moment later."""
        assert self.program is not None
        self.ended()
        self.program.kill()
        await asyncio.sleep(self.random.uniform(0, 1))
        self.start()
        await self.serving()

    async def stop(self) -> None:
        """SIGTERM under load, and a start at once."""
        assert self.program is not None
        self.ended()
        status = await asyncio.to_thread(self.program.stop)
        if status:
            self.report.problems.append(f"SIGTERM ended with status {status}: {self.program.last_lines(3)}")
        self.start()
        await self.serving()

    async def serving(self) -> None:
        """Wait until the program takes updates, so that kills do not fall into one start after the other for ever."""
        posts = sum(bot.webhook_posts[200] for bot in self.bots)
        async with asyncio.timeout(60):
            while sum(bot.webhook_posts[200] for bot in self.bots) == posts:
                if self.program is None or not self.program.running:
                    raise NotMeasurable(f"the program ended:\n{self.program.last_lines() if self.program else ''}")
                await asyncio.sleep(0.1)

    async def models_fail(self) -> None:
        """One kind of failure for a few calls."""
        fault = self.random.choice(MODEL_FAULTS)
        self.report.faults[f"models {fault}"] += 1
        self.ai.heal()
        self.ai.requests.clear()
        self.ai.fail(fault, times=self.random.randint(3, 10), retry_after=1 if fault == "429" else None)

    async def telegram_fails(self) -> None:
        """Limits, errors, slowness or cut connections for a few sends."""
        fault = self.random.choice(("429", "502", "slow", "cut before", "cut after"))
        self.report.faults[f"telegram {fault}"] += 1
        self.fake.clear_faults()
        if fault == "429":
            self.fake.fail(429, method="sendMessage", times=5, retry_after=1)
        elif fault == "502":
            self.fake.fail(502, method="sendMessage", times=5)
        elif fault == "slow":
            self.fake.slow(0.5, method="sendMessage", times=20)
        else:
            self.fake.cut(fault.removeprefix("cut "), times=3)

    # The end

    async def recovered(self, timeout_s: float) -> None:
        """Heal everything and wait until nothing is open any more."""
        self.fake.clear_faults()
        self.ai.heal()
        if self.program is None or not self.program.running:
            self.start()
        ends = time.monotonic() + timeout_s
        db = Database(self.product.database_url, pool_size=2)
        try:
            while True:
                pending = sum(len(bot.pending) for bot in self.bots)
                open_items = -1
                if not pending:
                    try:
                        async with db.read() as session:
                            lane = models.Lane
                            query = select(func.sum(lane.pending)).where(lane.kind.in_(("inbox", "outbox")))
                            open_items = int(await session.scalar(query) or 0)
                    except DatabaseUnavailable:
                        open_items = -1
                    if open_items == 0:
                        return
                if time.monotonic() > ends:
                    self.report.problems.append(
                        f"not done {timeout_s:.0f} s after the last fault: {pending} updates not taken, {open_items} items open"
                    )
                    return
                await asyncio.sleep(0.2)
        finally:
            await db.close()

    async def balance(self) -> None:
        """Compare what people wrote and got with what the program's tables say."""
        report, problems = self.report, self.report.problems
        db = Database(self.product.database_url, pool_size=2)
        try:
            async with db.read() as session:
                talks = await session.execute(
                    select(models.Conversation.id, models.Channel.external_id, models.Contact.external_id)
                    .join(models.Channel, models.Channel.id == models.Conversation.channel_id)
                    .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
                    .where(models.Channel.kind == "telegram")
                )
                places = {talk: (int(bot or 0), int(chat)) for talk, bot, chat in talks}
                message = models.Message
                said: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
                for row in await session.execute(
                    select(
                        message.conversation_id,
                        message.author,
                        message.text,
                        message.status,
                        message.provider,
                        message.created_at,
                    )
                    .where(message.conversation_id.in_(select(models.Conversation.id)))
                    .order_by(message.id)
                ):
                    if row.conversation_id in places:
                        said[places[row.conversation_id]].append(row)
                item = models.OutboxItem
                sent: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
                for out in await session.execute(
                    select(item.conversation_id, item.status, item.unsure, item.external_id, item.error).order_by(
                        item.id
                    )
                ):
                    sent[places[str(out.conversation_id)]].append(out)
                ours = models.InboxItem.external_id.startswith(f"{RETURNED}:")
                repeats = await session.scalar(select(func.count()).select_from(models.InboxItem).where(~ours))
                kept = func.count().filter(models.Attachment.status == "stored")
                report.files, files = (await session.execute(select(kept, func.count(models.Attachment.id)))).one()
        finally:
            await db.close()
        for place, count in self.asked.items():
            self._check_chat(place, count, said[place], sent[place])
        if report.files != files:
            problems.append(f"{files} pictures were sent, {report.files} are kept")
        if repeats != report.written:
            problems.append(f"{report.written} updates were delivered, {repeats} are in the inbox")

    def _check_chat(self, place: tuple[int, int], count: int, said: list[Any], sent: list[Any]) -> None:
        report, problems = self.report, self.report.problems
        where = f"chat {place[1]}"
        questions = [row for row in said if row.author == "customer"]
        replies = [row for row in said if row.author != "customer"]
        self._check_people(place, said)
        report.stored += len(questions)
        report.replies += len(replies)
        report.by_model += sum(row.provider == "openai" for row in replies)
        numbers = [int(_TAG.findall(row.text)[-1]) for row in questions]
        if numbers != list(range(1, count + 1)):
            problems.append(f"{where}: {count} messages were written, stored are {numbers}")
        by_people = {id(row) for at, row in enumerate(said) if row.status == "received" and _left(said[at:])}
        odd = Counter(row.status for row in questions if row.status != "answered" and id(row) not in by_people)
        if odd:
            problems.append(f"{where}: questions that were not answered: {dict(odd)}")
        # In the order of the chat, and no question twice: in what was stored and in what arrived.
        arrived = [text for _, text in self.fake.delivered[place]]
        for name, texts in (("stored", [row.text for row in replies]), ("arrived", _once(arrived, sent))):
            answered = [int(number) for text in texts for number in _TAG.findall(text)]
            if any(later <= earlier for earlier, later in pairwise(answered)):
                problems.append(f"{where}: answers {name} out of order or twice: {answered}")
        # Every row that says "sent" names a message that arrived; what is left over belongs to sends that were cut off.
        by_id = Counter(str(number) for number, _ in self.fake.delivered[place])
        certain = [row.external_id for row in sent if row.status == "sent"]
        unsure = [row for row in sent if row.status == "unknown" or row.unsure]
        report.unsure += len(unsure)
        report.delivered += len(arrived)
        if missing := [number for number in certain if not by_id[number]]:
            problems.append(f"{where}: said to be sent, but did not arrive: {missing}")
        extra = len(arrived) - len(certain)
        if extra < 0 or extra > 2 * len(unsure):
            problems.append(
                f"{where}: {len(arrived)} arrived, {len(certain)} are marked sent, {len(unsure)} are unsure"
            )
        ids = [int(number) for number in certain]
        if ids != sorted(ids):
            problems.append(f"{where}: sent out of order: {ids}")
        if bad := Counter(row.error for row in sent if row.status in ("failed", "queued", "sending")):
            problems.append(f"{where}: not sent: {dict(bad)}")

    def _check_people(self, place: tuple[int, int], said: Sequence[Any]) -> None:
        """What people wrote is there once, and the bot was silent while they led."""
        where, desk = f"chat {place[1]}", self.desk
        theirs = Counter(row.text for row in said if row.author == "operator")
        if lost := [text for text in desk.written[place] if not theirs[text]]:
            self.report.problems.append(f"{where}: acknowledged and not stored: {lost}")
        if twice := [text for text, times in theirs.items() if times > 1 or text not in desk.tried[place]]:
            self.report.problems.append(f"{where}: stored twice or never written: {twice}")
        for since, until in desk.led[place]:
            if spoke := [row.text for row in said if row.author == "bot" and since < row.created_at < until]:
                self.report.problems.append(f"{where}: the bot spoke while a person led: {spoke}")

    def flat(self) -> None:
        """In the last, undisturbed life neither memory nor handles may grow."""
        early = [sample for sample in self.samples if sample[0] > 60][:60]
        late = self.samples[-60:]
        if len(early) < 60 or self.samples[-1][0] < _FLAT_FROM_S:
            return
        memory = [sorted(sample[1] for sample in part)[len(part) // 2] for part in (early, late)]
        handles = [max(sample[2] for sample in part) for part in (early, late)]
        if memory[1] > memory[0] * 1.15 + 20:
            self.report.problems.append(f"memory grew from {memory[0]:.0f} to {memory[1]:.0f} MB")
        if handles[1] > handles[0] * 1.5 + 30:
            self.report.problems.append(f"file handles grew from {handles[0]} to {handles[1]}")


def _left(rows: Sequence[Any]) -> bool:
    """Whether the first of these messages was a person's to answer: one wrote before the bot went on to a later question."""
    asked = int(_TAG.findall(rows[0].text)[-1])
    for row in rows[1:]:
        if row.author == "operator":
            return True
        if row.author == "bot" and any(int(number) > asked for number in _TAG.findall(row.text)):
            return False
    return False


def _once(arrived: list[str], sent: list[Any]) -> list[str]:
    """Leave out the second arrival of a text where a kill during a send allows one."""
    spare = sum(bool(row.unsure) for row in sent)
    kept: list[str] = []
    for text in arrived:
        # Quoted passages bear no number: the same one may well answer two questions.
        if spare and text in kept and _TAG.search(text):
            spare -= 1
        else:
            kept.append(text)
    return kept


async def soak(
    seconds: float = 20,
    *,
    folder: Path,
    database: Literal["sqlite", "postgresql"] = "sqlite",
    redis: bool | None = None,
    rate: float = 15,
    bots: int = 4,
    chats: int = 40,
    seed: int | None = None,
    between_faults_s: tuple[float, float] | None = None,
) -> Report:
    """Soak for ``seconds`` (recovery comes on top) with everything in ``folder``; return the report.

    ``redis``: also with Redis that stops and starts; by default with PostgreSQL only. ``rate``: messages a second over
    ``chats`` chats of ``bots`` bots. ``between_faults_s``: shortest and longest pause between two faults. The last quarter
    of a long soak is without faults, so that growth can be seen.
    """
    report = Report(seed if seed is not None else random.SystemRandom().randrange(10**9))
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(ExitStack())
        more: dict[str, Callable[[], Any]] = {}
        database_url = redis_url = None
        chance = random.Random(report.seed + 1)
        if database == "postgresql":
            postgres = Postgres(new_folder())
            await asyncio.to_thread(postgres.start)
            servers.callback(postgres.stop, at_once=True)
            database_url = postgres.url()

            async def postgres_away() -> None:
                await asyncio.to_thread(postgres.stop, at_once=chance.random() < 0.5)
                await asyncio.sleep(chance.uniform(0.5, 3))
                await asyncio.to_thread(postgres.start)

            more["postgresql"] = postgres_away
        if redis if redis is not None else database == "postgresql":
            valkey = Valkey(folder / "valkey")
            await asyncio.to_thread(valkey.start)
            servers.callback(valkey.stop)
            redis_url = valkey.url()

            async def redis_away() -> None:
                await asyncio.to_thread(valkey.stop)
                await asyncio.sleep(chance.uniform(0.5, 3))
                await asyncio.to_thread(valkey.start)

            more["redis"] = redis_away
        fake = await stack.enter_async_context(_Telegram())
        ai = FakeModels(reply=_echo, latency_s=0.05)
        await ai.start()
        stack.push_async_callback(ai.stop)
        tokens = [token_of(number) for number in range(bots)]
        for token in tokens:
            fake.add_bot(token)
        product = Product(
            folder,
            telegram_url=fake.base_url,
            openai_url=ai.url,
            database_url=database_url,
            redis_url=redis_url,
            changes={
                "ai.first_byte_s": 2,
                "ai.breaker_rest_s": 3,
                "ai.deadline_s": 8,
                "telegram.send_timeout_s": 10,
                "telegram.group_messages_per_minute": 100_000,
                "media.files_per_hour": 1_000_000,
                "limits.api_requests_per_minute": 1_000_000,
            },
        )
        made = await product.prepare(tokens)
        numbers = [bot.id for bot in fake.bots.values()]
        tokens_of = dict(zip(numbers, await product.api_tokens(made), strict=True))
        desk = _Desk(product.address, tokens_of, dict(zip(numbers, made, strict=True)))
        run = _Soak(report, product, fake, ai, desk, rate=rate, chats=chats)
        run.start()

        def kill() -> None:
            if run.program is not None and run.program.running:
                run.program.kill()

        stack.callback(kill)
        ends = time.monotonic() + seconds
        calm_from = ends - (seconds / 4 if seconds >= 900 else 0)
        pauses = between_faults_s or ((2.0, 30.0) if seconds >= 300 else (0.5, 2.5))
        watching = asyncio.create_task(run.watch())
        writing = asyncio.create_task(run.write())
        leading = asyncio.create_task(run.lead())
        try:
            await run.serving()
            await run.trouble(calm_from, pauses, more)
            await asyncio.sleep(max(0.0, ends - time.monotonic()))
            run.over = True
            await writing
            if not (run.program and run.program.running):
                run.start()
            fake.clear_faults()
            async with asyncio.timeout(120):
                await leading
            await run.recovered(180)
        finally:
            watching.cancel()
            writing.cancel()
            leading.cancel()
        if run.program is not None and run.program.running:
            run.flat()
            run.ended()
            if status := await asyncio.to_thread(run.program.stop):
                report.problems.append(f"the last stop ended with status {status}")
        await run.balance()
    report.seconds = round(time.monotonic() - begun, 1)
    return report


def main() -> int:
    """Read the arguments, soak, print; the status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description="A load while everything breaks at random."
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--rate", type=float, default=20, help="messages a second")
    parser.add_argument("--seed", type=int, help="repeat the faults of an earlier run")
    parser.add_argument("--keep", action="store_true", help="leave the folder with database and log")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # connections that the fake cuts on purpose
    (ROOT / "data").mkdir(exist_ok=True)
    place = tempfile.mkdtemp(prefix="soak-", dir=ROOT / "data")
    with ExitStack() as stack:
        if not given.keep:
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        run = soak(
            given.minutes * 60,
            folder=Path(place),
            database=given.database,
            rate=given.rate,
            bots=10,
            chats=200,
            seed=given.seed,
        )
        try:
            report = asyncio.run(run)
        except NotMeasurable as error:
            print(f"✗ {error}", file=sys.stderr)
            return 1
    print(json.dumps(vars(report), indent=2, ensure_ascii=False))
    print("✓ everything holds" if not report.problems else f"✗ {len(report.problems)} problems")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
