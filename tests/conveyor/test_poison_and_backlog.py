"""Messages that cannot be handled, and too many messages: others are not touched, and nobody is left in silence."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id
from db.engine import Database
from services import system
from services.errors import NotFound
from services.i18n import translate
from tests.conveyor.harness import floor, settings_for, texts, until
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
SORRY = "Sorry, I could not handle your message 🙏 A person will look at it. You can write again."


class Spoiled(Exception):
    """Handling this message fails."""


def _spoil(request: str) -> None:
    raise Spoiled(request)


def _eat(_request: str) -> None:
    """Want more memory than any machine has."""
    bytearray(1 << 62)


class Spoiler:
    """A pause hook by which handling fails for chosen requests, ``left`` times each, at ``point``."""

    def __init__(self, point: str = "received", fail: Callable[[str], None] = _spoil) -> None:
        self.point, self.fail = point, fail
        self.left: Counter[str] = Counter()

    async def __call__(self, point: str) -> None:
        request = str(structlog.contextvars.get_contextvars().get("request_id") or "")
        if point == self.point and self.left[request] > 0:
            self.left[request] -= 1
            self.fail(request)


def _request(channel_id: str, update_id: int) -> str:
    return f"{channel_id[-6:]}-{update_id}"


async def test_a_poison_message_is_set_aside_and_the_talk_goes_on(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    spoiler = Spoiler()
    quick = {"max_attempts": 2, "idle_poll_s": 0.05}
    async with floor(tmp_path, database_url, *fakes, pause=spoiler, queue=quick) as place:
        shop, other = await place.tenant(), await place.tenant()
        person = shop.person("uz")
        poisoned = _request(shop.shop.channel.id, shop.bot.next_update_id)
        spoiler.left[poisoned] = 2
        bad = shop.ask(person)
        after = [shop.ask(person), shop.ask(person)]
        aside = [shop.ask(shop.person()), other.ask(other.person())]
        await shop.answered([*after, aside[0]])
        await other.answered([aside[1]])
        assert shop.times()[bad] == 0
        assert translate("uz", SORRY) in texts(place.fake.messages(person.id, shop.bot))
        notice = await place.noticed(shop, "message_failed")
        assert notice.params["bot"] == shop.shop.bot.name
        assert not await place.notices(other)
        rows = await place.rows(select(models.InboxItem).where(models.InboxItem.status == "dead"))
        assert [(row[0].attempts, "Spoiled" in row[0].error) for row in rows] == [(2, True)]
        assert json.loads(rows[0][0].payload)["message"]["text"].endswith(f"№{bad}")
        assert await place.one(select(models.Message.status).where(models.Message.text.contains(f"№{bad}"))) == "failed"
        # An administrator has it tried again: it takes its place in the lane and is answered once.
        async with place.core.db.write() as session:
            await system.retry_message(session, rows[0][0].id)
        place.core.wake_inbox()
        assert (await shop.answered([bad]))[bad] == 1
        assert await place.one(select(models.InboxItem.status).where(models.InboxItem.id == rows[0][0].id)) == "done"
        found = select(models.Message.status).where(
            models.Message.text.contains(f"№{bad}"), models.Message.author == "customer"
        )
        assert await place.one(found) != "failed"
        with pytest.raises(NotFound):
            async with place.core.db.write() as session:
                await system.retry_message(session, rows[0][0].id)
        # A trouble that passes costs nothing but time.
        spoiler.left[_request(shop.shop.channel.id, shop.bot.next_update_id)] = 1
        healed = shop.ask(person)
        assert (await shop.answered([healed]))[healed] == 1


async def test_a_message_that_eats_the_memory_is_set_aside(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    spoiler = Spoiler(fail=_eat)
    quick = {"max_attempts": 2, "idle_poll_s": 0.05}
    async with floor(tmp_path, sqlite_url, *fakes, pause=spoiler, queue=quick) as place:
        shop, other = await place.tenant(), await place.tenant()
        person = shop.person("uz")
        spoiler.left[_request(shop.shop.channel.id, shop.bot.next_update_id)] = 2
        bad = shop.ask(person)
        after, aside = shop.ask(person), other.ask(other.person())
        await shop.answered([after])
        await other.answered([aside])
        assert shop.times()[bad] == 0
        assert translate("uz", SORRY) in texts(place.fake.messages(person.id, shop.bot))
        await place.noticed(shop, "message_failed")
        assert not await place.notices(other)
        dead = select(models.InboxItem.attempts, models.InboxItem.error).where(models.InboxItem.status == "dead")
        ((attempts, error),) = await place.rows(dead)
        assert attempts == 2 and error.startswith("MemoryError")
        assert not place.core.tasks.failed.done()


REFUSES = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.text LIKE '%{text}' BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$"
        " LANGUAGE plpgsql",
        "CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.text LIKE '%{text}')"
        " EXECUTE FUNCTION refuse()",
    ),
}


async def test_a_message_that_the_database_refuses_spoils_nobody_elses(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    quick = {"max_attempts": 2, "idle_poll_s": 0.05}
    async with floor(tmp_path, database_url, *fakes, refused=True, queue=quick) as place:
        shop, other = await place.tenant(), await place.tenant()
        person = shop.person("uz")
        before = shop.ask(person)
        await shop.answered([before])
        bad = before + 1
        async with place.core.db.write() as session:
            for statement in REFUSES[place.core.db.dialect]:
                await session.execute(text(statement.format(text=f"№{bad}")))
        assert shop.ask(person) == bad
        aside = [shop.ask(shop.person()) for _ in range(3)]
        elsewhere = other.ask(other.person())
        after = shop.ask(person)
        await shop.answered([*aside, after])
        await other.answered([elsewhere])
        assert shop.times()[bad] == 0
        await place.noticed(shop, "message_failed")
        assert translate("uz", SORRY) in texts(place.fake.messages(person.id, shop.bot))


async def test_a_message_that_kills_the_process_is_set_aside(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    person = shop.person("uz")
    deadly = _request(shop.shop.channel.id, shop.bot.next_update_id)
    bad = shop.ask(person)
    innocent = [shop.ask(shop.person()) for _ in range(5)]
    # Twice beside others, then as often as what fails without another suspect.
    for _ in range(2 * settings.queue.max_attempts - 1):
        child = await children.start(settings, ready=False, deadly=[deadly])
        await child.gone()
    child = await children.start(settings, deadly=[deadly])
    after = shop.ask(person)
    times = await shop.answered([*innocent, after])
    assert [times[number] for number in (*innocent, after, bad)] == [1] * 6 + [0]
    await fake.wait_message(person.id, translate("uz", SORRY), bot=shop.bot)
    await child.stop()
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        await place.noticed(shop, "message_failed")


async def test_what_is_in_hand_when_others_kill_the_process_is_not_set_aside(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
    people = [shop.person(), shop.person()]
    asked = [shop.ask(person) for person in people]
    failing = [_request(shop.shop.channel.id, shop.bot.next_update_id)]
    asked.append(shop.ask(people[0]))
    # Twice both, then each alone, in turn, once less than would give it up.
    for _ in range(2 + 2 * (settings.queue.max_attempts - 1)):
        child = await children.start(settings, point="received")
        await child.hears("paused")
        await fake.wait_delivered(shop.bot)
        await child.kill()
    # Nor does an error count with deaths: this one has failed once.
    child = await children.start(settings, raising=failing)
    await shop.answered(asked[:2])
    await child.stop()
    child = await children.start(settings)
    assert set((await shop.answered(asked)).values()) == {1}
    await child.stop()


async def test_a_failure_of_ours_after_sending_does_not_hold_the_lane(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    spoiler = Spoiler("sent")
    async with floor(tmp_path, database_url, *fakes, pause=spoiler, queue={"lease_s": 1, "idle_poll_s": 0.05}) as place:
        shop = await place.tenant()
        person = shop.person()
        spoiler.left[_request(shop.shop.channel.id, shop.bot.next_update_id)] = 1
        first = shop.ask(person)
        await shop.answered([first])
        second = shop.ask(person)
        times = await shop.answered([second])
        assert times[first] == 2
        assert [r[0] for r in await place.rows(select(models.OutboxItem.unsure).order_by(models.OutboxItem.id))] == [
            True,
            False,
        ]


SMALL, TURNS = 1_000, 200
MOST_GROWTH_MIB = 64


async def _owners(session: AsyncSession, *names: str) -> None:
    """Make owners whose bots rest, so that each says its polite line without a model."""
    owners = [models.User(id=new_id(), email=f"{name}@example.uz") for name in names]
    bots = [
        models.Bot(id=new_id(), owner_id=owner.id, name=name, status="stopped")
        for owner, name in zip(owners, names, strict=True)
    ]
    for rows in (owners, bots, [models.Channel(bot_id=bot.id, kind="web", external_id=bot.id) for bot in bots]):
        session.add_all(rows)
        await session.flush()


async def _sister(session: AsyncSession, name: str, *, of: str) -> str:
    """Make another resting bot of the owner of the bot ``of``; return its id."""
    owner = await session.scalar(select(models.Bot.owner_id).where(models.Bot.name == of))
    bot = models.Bot(owner_id=owner, name=name, status="stopped")
    session.add(bot)
    await session.flush()
    session.add(models.Channel(bot_id=bot.id, kind="web", external_id=bot.id))
    await session.flush()
    return bot.id


async def _pile_up(session: AsyncSession, name: str, *, chats: int, each: int) -> None:
    """Put a backlog of every owner whose name is like this into the tables at once, as ``accept_update`` would have left it.

    The owner's name stands in each message's request id, which tells whose turn it is.
    """
    now = (
        "now()"
        if session.get_bind().dialect.name == "postgresql"
        else "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    )
    numbers = "WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {})"
    update = """'{"id"\\: "b' || i || '", "contact"\\: "c' || (i % :chats) || '", "text"\\: "Kafolat bormi?"}'"""
    of_whom = "numbers, channels AS c JOIN bots AS b ON b.id = c.bot_id WHERE b.name LIKE :name"
    statements = (
        "INSERT INTO inbox (lane, channel_id, external_id, payload, request_id, status, attempts, received_at)"
        f" {numbers.format(chats * each)} SELECT 'in\\:' || c.id || '\\:c' || (i % :chats), c.id, 'b' || i, {update},"
        f" b.name, 'new', 0, {now} FROM {of_whom}",
        "INSERT INTO lanes (key, kind, owner_id, share_id, pending, waiting_since, run_at, lease_until, claim_no)"
        f" {numbers.format(chats)} SELECT 'in\\:' || c.id || '\\:c' || i, 'inbox', b.owner_id, b.id, :each, 1.0, 0, 0, 0"
        f" FROM {of_whom}",
    )
    values = {"name": name, "chats": chats, "each": each}
    for statement in statements:
        used = {key: value for key, value in values.items() if f":{key}" in statement}
        await session.execute(text(statement), used)


def _peak_mib(pid: int) -> int:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


async def test_one_owners_backlog_does_not_keep_others_waiting(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    """A hundred thousand of one owner and ten each of a thousand others, all waiting since the same moment.

    The first two hundred turns of the others show the order; the rest is more of the same.
    """
    queue = {"conversations": 40, "conversations_per_owner": 10, "idle_poll_s": 0.05}
    settings = settings_for(tmp_path, database_url, *fakes, queue=queue)
    db = Database(database_url, pool_size=1)
    child = await children.start(settings, telling=["received", "answered"])
    try:
        async with db.write() as session:
            await _owners(session, "first", "big", *(f"small{number}" for number in range(SMALL)))
            await _pile_up(session, "first", chats=40, each=10)
        for _ in range(2 * 40):
            await child.hears("passed")
        before = _peak_mib(child.pid)
        async with db.write() as session:
            await _pile_up(session, "big", chats=10_000, each=10)
            await _pile_up(session, "small%", chats=1, each=10)
        served: Counter[str] = Counter()
        running: Counter[str] = Counter()
        while sum(served.values()) - served["big"] < TURNS:
            event = await child.hears("passed")
            name = event["request"]
            if event["point"] == "answered":
                running[name] -= 1
                continue
            served[name] += 1
            running[name] += 1
            # Nobody waits for more than one of the big owner's for each of the others': twice as long as without it.
            assert served["big"] <= sum(served.values()) - served["big"] + queue["conversations_per_owner"]
            assert running["big"] <= queue["conversations_per_owner"]
        # One turn each, in which all ten were answered.
        del served["big"]
        assert max(served.values()) == 1
        assert _peak_mib(child.pid) - before < MOST_GROWTH_MIB
        item = models.InboxItem
        done = select(func.count()).where(item.request_id.startswith("small"), item.status == "done")

        async def all_done() -> bool:
            async with db.read() as session:
                return int(await session.scalar(done) or 0) >= 10 * TURNS

        await until(all_done)
    finally:
        await child.kill()
        await db.close()


async def test_one_bots_backlog_does_not_keep_its_owners_other_bot_waiting(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    """Of three bots, two of them of one owner and one of those with 30,000 messages, every second turn is the other owner's and
    every fourth the small sister's, although its talks wait since much later."""
    queue = {"conversations": 8, "conversations_per_owner": 6, "idle_poll_s": 0.05}
    settings = settings_for(tmp_path, database_url, *fakes, queue=queue)
    db = Database(database_url, pool_size=1)
    try:
        async with db.write() as session:
            await _owners(session, "big", "other")
            sister = await _sister(session, "sister", of="big")
            await _pile_up(session, "big", chats=30_000, each=1)
            await _pile_up(session, "sister", chats=40, each=1)
            await _pile_up(session, "other", chats=200, each=1)
            late = update(models.Lane).where(models.Lane.share_id == sister)
            await session.execute(late.values(waiting_since=2.0))
        child = await children.start(settings, telling=["received"])
        served: Counter[str] = Counter()
        while served["sister"] < 40:
            served[(await child.hears("passed"))["request"]] += 1
            # What was taken together is begun in any order.
            assert served["big"] <= served["sister"] + queue["conversations"]
            assert served["big"] + served["sister"] <= served["other"] + queue["conversations"]
        await child.kill()
    finally:
        await db.close()


class Gate:
    """A pause hook at which every talk that is taken up waits until it may go on. Names come from the request ids."""

    def __init__(self) -> None:
        self._taken: asyncio.Queue[str] = asyncio.Queue()
        self._held: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self._open = False

    async def __call__(self, point: str) -> None:
        if point != "received" or self._open:
            return
        name = str(structlog.contextvars.get_contextvars()["request_id"])
        go_on = asyncio.Event()
        self._held[name].append(go_on)
        self._taken.put_nowait(name)
        await go_on.wait()

    async def next(self) -> str:
        """Return whose talk is taken up next."""
        async with asyncio.timeout(20):
            return await self._taken.get()

    async def next_after(self, name: str) -> str:
        """Let one of this name's talks end; return whose talk gets its place."""
        self._held[name].pop().set()
        return await self.next()

    def open(self) -> None:
        """Let everything go on."""
        self._open = True
        for go_on in chain.from_iterable(self._held.values()):
            go_on.set()


async def test_a_free_place_goes_to_whom_is_served_least(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """One place becomes free at a time: who gets it follows from what the others have in hand, not from who waits longest."""
    gate = Gate()
    queue = {"conversations": 4, "conversations_per_owner": 4, "idle_poll_s": 0.05}
    async with floor(tmp_path, database_url, *fakes, pause=gate, queue=queue) as place:

        async def comes(name: str, *, since: float) -> None:
            async with place.core.db.write() as session:
                await _pile_up(session, name, chats=8, each=1)
                share = select(models.Bot.id).where(models.Bot.name == name).scalar_subquery()
                lanes = update(models.Lane).where(models.Lane.share_id == share)
                await session.execute(lanes.values(waiting_since=since))
            place.core.bell.ring("inbox")

        async with place.core.db.write() as session:
            await _owners(session, "big", "other")
            await _sister(session, "sister", of="big")
        await comes("big", since=1)
        assert [await gate.next() for _ in range(4)] == ["big"] * 4
        await comes("sister", since=2)
        assert [await gate.next_after("big") for _ in range(2)] == ["sister", "sister"]
        await comes("other", since=3)
        # Now two of the other owner's stand against one of each of these bots.
        assert [await gate.next_after(name) for name in ("big", "sister", "other")] == ["other", "other", "other"]
        assert [await gate.next_after(name) for name in ("sister", "big")] == ["sister", "big"]
        gate.open()


async def test_an_overflow_is_told_to_the_customer_and_the_owner(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    limits = {"contact_messages_per_minute": 2, "bot_messages_per_minute": 4}
    async with floor(tmp_path, sqlite_url, *fakes, limits=limits) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        for _ in range(2):
            await shop.answered([shop.ask(person)])
        shop.ask(person)
        await place.fake.wait_message(
            person.id, translate("uz", "You write faster than I can answer 🙂 Please wait a minute.")
        )
        # Told once, then the messages are only stored.
        shop.ask(person)
        for _ in range(2):
            await shop.answered([shop.ask(shop.person("uz"))])
        late = shop.person("uz")
        shop.ask(late)
        await place.fake.wait_message(
            late.id,
            translate("uz", "Very many people are writing to us right now. Please write again a little later 🙏"),
        )
        await place.noticed(shop, "over_limit")
        statuses = await place.rows(
            select(models.Message.status, func.count())
            .where(models.Message.author == "customer")
            .group_by(models.Message.status)
        )
        assert dict(map(tuple, statuses)) == {"answered": 4, "skipped": 3}
