"""Several processes on one PostgreSQL, with and without Redis; and leadership that comes and goes."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import Double, extract, func, select, text, true, update

from db import models
from db.engine import Database
from services import polling, upkeep
from services.knowledge import documents
from tests.composition import make_shop
from tests.conveyor.harness import echo, floor, settings_for, texts, until
from tests.conveyor.nursery import Child, Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.servers import Valkey, valkey_command

Fakes = tuple[FakeTelegram, FakeModels]


async def test_two_processes_share_the_work_and_one_survives_the_other(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    queue = {"lease_s": 6, "idle_poll_s": 0.05, "conversations_per_owner": 4, "max_attempts": 20}
    settings = settings_for(tmp_path, postgres_url, fake, fake_models, queue=queue)
    async with floor(tmp_path, postgres_url, fake, fake_models) as place:
        shop = await place.tenant()
    pair = await asyncio.gather(*(children.start(settings, role="all", telling=["answered"]) for _ in range(2)))
    fake_models.latency_s = 0.05
    people = [shop.person() for _ in range(20)]
    for _ in range(3):
        for person in people:
            shop.ask(person)
    times = await shop.answered()
    assert set(times.values()) == {1}
    assert shop.in_order()

    # The same update by two receivers at once, a hundred times.
    person = shop.person()
    number = 960_001
    shop.asked[number] = person
    message = {"message_id": 1, "from": person.user(), "chat": person.chat(), "date": int(time.time())}
    body = {"update_id": 7, "message": {**message, "text": f"Muzlatgichlarga kafolat bormi №{number}"}}
    shop.bot.chats.add(person.id)
    headers = {"X-Telegram-Bot-Api-Secret-Token": shop.shop.channel.secret}

    async def post(session: aiohttp.ClientSession, child: Child) -> int:
        host, port = _ready(child)["address"]
        url = f"http://{host}:{port}/telegram/webhook/{shop.shop.channel.id}"
        async with session.post(url, headers=headers, json=body) as got:
            return got.status

    async with aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*(post(session, child) for _ in range(50) for child in pair))
    assert set(statuses) == {200}
    assert (await shop.answered([number]))[number] == 1

    # The one that receives from Telegram dies under load; the other takes its place and its work.
    for person in people:
        shop.ask(person)
    await fake.wait_until(lambda: len(shop.times()) > 65)
    async with floor(tmp_path, postgres_url, fake, fake_models, role="web") as place:
        leader = await place.one(select(models.Lane.holder).where(models.Lane.key == "leader:telegram"))
        first, second = sorted(pair, key=lambda child: _ready(child)["holder"] != leader)
        assert _ready(first)["holder"] == leader
        await first.kill()
        await _run_out(place.core.db, leader)
        last = [shop.ask(person) for person in people]
        times = await shop.answered()
        assert shop.in_order()
        assert {times[n] for n in last} == {1}
        unsure = await place.one(select(func.count()).select_from(models.OutboxItem).where(models.OutboxItem.unsure))
        assert sum(n - 1 for n in times.values()) <= int(unsure)
        jobs = await place.rows(
            select(models.Job.unique_key, models.Job.status, models.Job.attempts).where(
                models.Job.kind == upkeep.CLEAN_UP_JOB
            )
        )
        assert all((job.status, job.attempts) == ("done", 1) for job in jobs)
        assert max(Counter(job.unique_key for job in jobs).values()) == 1
    await second.stop()
    handled = [sum(event["event"] == "passed" for event in child.events) for child in pair]
    assert min(handled) > 0


def _ready(child: Child) -> dict[str, Any]:
    """Return what a child told of itself."""
    return next(event for event in child.events if event["event"] == "ready")


async def _run_out(db: Database, *holders: str) -> None:
    """Let the leases of these processes, or all of them, run out now; how long they last must not matter to those that live."""
    of_them = models.Lane.holder.in_(holders) if holders else true()
    async with db.write() as session:
        await session.execute(update(models.Lane).where(of_them).values(lease_until=0.0))


async def _stop_between_writes(child: Child, db: Database) -> None:
    """Stop a process where it holds no lock: what it has locked nobody could take over while it stands."""
    mine = select(models.Lane.key).where(models.Lane.holder == _ready(child)["holder"])
    while True:
        child.signal(signal.SIGSTOP)
        async with db.write() as session:
            held = (await session.scalars(mine)).all()
            if len((await session.scalars(mine.with_for_update(skip_locked=True))).all()) == len(held):
                return
        child.signal(signal.SIGCONT)
        await asyncio.sleep(0.01)


async def test_a_reader_that_sleeps_through_its_lease_writes_nothing_into_the_document(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    """It is stopped when it has stored some passages, and wakes while another one reads the same document."""
    rows = 6_000
    lines = (f"Mahsulot {number},{number}000,izoh raqami {number}" for number in range(rows))
    content = "\n".join(["nomi,narxi,izoh", *lines]).encode()
    settings = settings_for(tmp_path, postgres_url, *fakes, queue={"lease_s": 6, "idle_poll_s": 0.05})
    async with floor(tmp_path, postgres_url, *fakes, role="web") as place:
        shop = await make_shop(place.core, document=None)
        sleeper = await children.start(settings)
        async with place.core.db.write() as session:
            limits = place.core.settings.limits
            document = await documents.upload(session, shop.bot, "a.csv", content, limits=limits, max_bytes=10**7)
        positions = select(models.Chunk.position).where(models.Chunk.document_id == document.id)
        status = select(models.Document.status).where(models.Document.id == document.id)
        tries = select(models.Job.attempts).where(models.Job.kind == documents.INDEX_JOB)
        await place.until(lambda: place.one(positions.where(models.Chunk.position == 1)), 60)
        await _stop_between_writes(sleeper, place.core.db)
        assert 0 < len(await place.rows(positions)) < rows
        await _run_out(place.core.db, _ready(sleeper)["holder"])
        other = await children.start(settings)

        async def taken() -> bool:
            return bool(await place.one(tries) == 2)

        async def ready() -> bool:
            return bool(await place.one(status) == "ready")

        await place.until(taken)
        sleeper.signal(signal.SIGCONT)
        await place.until(ready, 60)
        await sleeper.stop()
        await other.stop()
        assert sorted(position for (position,) in await place.rows(positions)) == list(range(rows))
        assert await place.one(status) == "ready"


async def test_a_worker_that_sleeps_through_its_lease_changes_nothing(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    settings = settings_for(tmp_path, postgres_url, fake, fake_models, queue={"lease_s": 6, "idle_poll_s": 0.05})
    async with floor(tmp_path, postgres_url, fake, fake_models) as place:
        shop = await place.tenant()
    sleeper = await children.start(settings, telling=["answered"])
    fake_models.hold()
    numbers = [shop.ask(shop.person()) for _ in range(5)]
    await fake.wait_delivered(shop.bot)
    await until(lambda: _true(len(fake_models.requests) == len(numbers)))
    async with floor(tmp_path, postgres_url, fake, fake_models, role="web") as place:
        await _stop_between_writes(sleeper, place.core.db)
        fake_models.release()
        await _run_out(place.core.db, _ready(sleeper)["holder"])
        other = await children.start(settings)
        await shop.answered(numbers)

        async def settled() -> bool:
            return not await place.one(select(func.sum(models.Lane.pending)))

        await place.until(settled)
    sleeper.signal(signal.SIGCONT)
    for _ in numbers:
        await sleeper.hears("passed")
    # Its answers came too late; what it does from now on counts again.
    await shop.answered([shop.ask(shop.person())])
    await sleeper.stop()
    await other.stop()
    async with floor(tmp_path, postgres_url, fake, fake_models) as place:
        assert set((await shop.answered()).values()) == {1}
        said = select(func.count()).select_from(models.Message).where(models.Message.author == "bot")
        assert await place.one(said) == len(shop.asked)


async def test_the_factory_bots_channel_is_made_once_where_several_start_for_the_first_time(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    async with floor(tmp_path, database_url, *fakes, role="web") as place:
        identity = {"id": 7_000_000_001, "username": "zavod_bot"}
        found = await asyncio.gather(*(polling.factory_channel(place.core, identity) for _ in range(8)))
        known = await place.rows(select(models.Channel.id).where(models.Channel.kind == "factory"))
        assert {(channel,) for channel in found} == set(map(tuple, known)) and len(known) == 1


async def test_a_result_under_an_older_claim_does_not_count(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """The lane was taken again meanwhile, under the same name: only the claim's number tells the two apart."""
    _, fake_models = fakes
    said = count(1)
    fake_models.reply = lambda seen: f"{echo(seen)}, {next(said)}-javob"
    points: Counter[str] = Counter()

    async def pause(point: str) -> None:
        points[point] += 1
        if point == "answered" and points[point] == 1:
            lane = models.Lane
            async with place.core.db.write() as session:
                again = {"lease_until": 0.0, "claim_no": lane.claim_no + 1}
                await session.execute(update(lane).where(lane.kind == "inbox").values(again))

    async with floor(tmp_path, database_url, *fakes, pause=pause, queue={"idle_poll_s": 0.05}) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        number = shop.ask(person)
        assert (await shop.answered([number]))[number] == 1
        assert "2-javob" in texts(place.fake.messages(person.id, shop.bot))[-1]
        kept = select(models.Message.text).where(models.Message.author == "bot")
        assert [row.text for row in await place.rows(kept)] == texts(place.fake.messages(person.id, shop.bot))


async def test_a_clock_set_forward_repeats_nothing(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    """All leases seem to have run out while an answer is being sent and another one made."""
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes, queue={"idle_poll_s": 0.05}) as place:
        shop = await place.tenant()
        sending = fake.hold(bot=shop.bot, method="sendMessage")
        first = shop.ask(shop.person())
        await sending.reached.wait()
        answering = fake_models.hold()
        asked = len(fake_models.requests)
        second = shop.ask(shop.person())
        await answering.reached.wait()
        await _run_out(place.core.db)
        place.core.bell.ring("inbox")
        place.core.bell.ring("outbox")
        # Whoever writes now is answered by claims that saw the leases run out.
        third = shop.ask(shop.person())
        await place.until(lambda: _true(len(fake_models.requests) == asked + 2))
        fake_models.release()
        fake.clear_faults()
        sending.release()
        assert set((await shop.answered([first, second, third])).values()) == {1}
        assert len(fake_models.requests) == asked + 2
        assert not await place.one(select(func.count()).select_from(models.OutboxItem).where(models.OutboxItem.unsure))


async def test_leases_go_by_the_clock_of_the_database(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    """A process whose own clock is an hour slow takes a talk: the others must not see its lease as over."""
    _, fake_models = fakes
    lease_s = 60
    settings = settings_for(tmp_path, postgres_url, *fakes, queue={"lease_s": lease_s, "idle_poll_s": 0.05})
    async with floor(tmp_path, postgres_url, *fakes) as place:
        shop = await place.tenant()
    async with floor(tmp_path, postgres_url, *fakes, role="web") as place:
        clock = select(extract("epoch", func.clock_timestamp()).cast(Double))
        before = await place.one(clock)
        child = await children.start(settings, fast_s=-3600)
        answering = fake_models.hold()
        number = shop.ask(shop.person())
        await answering.reached.wait()
        lane = models.Lane
        held = await place.rows(select(lane.kind, lane.lease_until).where(lane.holder == _ready(child)["holder"]))
        after = await place.one(clock)
        assert {row.kind for row in held} == {"leader", "inbox"}
        for row in held:
            assert before + lease_s <= row.lease_until <= after + lease_s
        fake_models.release()
        assert (await shop.answered([number]))[number] == 1
        await child.stop()


async def _true(value: bool) -> bool:
    return value


async def test_redis_emptied_hanging_and_gone_costs_no_message(
    tmp_path: Path, postgres_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    valkey = Valkey(tmp_path / "valkey")
    valkey.start()
    try:
        environment = {"REDIS_URL": valkey.url()}
        settings = settings_for(tmp_path, postgres_url, fake, fake_models, environment=environment)
        async with floor(tmp_path, postgres_url, fake, fake_models) as place:
            shop = await place.tenant()
        pair = await asyncio.gather(*(children.start(settings) for _ in range(2)))
        people = [shop.person() for _ in range(10)]
        for trouble in ("none", "flush", "hang", "stop", "start"):
            for person in people:
                shop.ask(person)
            if trouble == "flush":
                valkey_command(valkey.port, "FLUSHALL")
            elif trouble == "hang":
                valkey_command(valkey.port, "CLIENT", "PAUSE", "3000", "ALL")
            elif trouble == "stop":
                valkey.stop()
            elif trouble == "start":
                valkey.start()
            for person in people:
                shop.ask(person)
            times = await shop.answered()
        assert set(times.values()) == {1}
        assert shop.in_order()
        for child in pair:
            await child.stop()
    finally:
        valkey.stop()


async def test_a_claim_whose_commit_was_not_heard_of_is_taken_up_again(
    tmp_path: Path, postgres_url: str, fakes: Fakes
) -> None:
    """The answer to COMMIT is lost: nobody here knows of the claim, so its lease must run out."""
    async with floor(tmp_path, postgres_url, *fakes, queue={"lease_s": 1.0, "idle_poll_s": 0.05}) as place:
        shop = await place.tenant()
        person = shop.person()
        await shop.answered([shop.ask(person)])
        lane = models.Lane
        async with place.core.db.write() as session:
            lost = {"holder": place.core.writer.holder, "lease_until": place.core.db.now() + 1.0, "claim_no": 77}
            await session.execute(update(lane).where(lane.kind == "inbox").values(lost))
        number = shop.ask(person)
        assert (await shop.answered([number]))[number] == 1


async def test_leadership_that_was_lost_is_taken_up_again(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes, queue={"lease_s": 0.6, "idle_poll_s": 0.05}) as place:
        shop = await place.tenant()
        await shop.answered([shop.ask(shop.person())])
        await fake.wait_until(lambda: shop.bot.polled)
        polls = len(fake.called("getUpdates", shop.bot))
        lane = models.Lane
        taken = update(lane).where(lane.key == "leader:telegram").values(holder="another")
        async with place.core.db.write() as session:
            await session.execute(taken.values(lease_until=place.core.db.now() + 3600))

        async def given_up() -> bool:
            return f"receive:{shop.shop.channel.id}" not in {task.get_name() for task in asyncio.all_tasks()}

        await place.until(given_up)
        await _run_out(place.core.db, "another")
        # The poll of before was given up; a new one begins once the leadership is ours again.
        await fake.wait_call("getUpdates", bot=shop.bot, times=polls + 1)
        number = shop.ask(shop.person())
        assert (await shop.answered([number]))[number] == 1
        holder = select(lane.holder).where(lane.key == "leader:telegram")
        assert await place.one(holder) == place.core.writer.holder
    # Given up at the stop: whoever comes next need not wait for the lease.
    async with floor(tmp_path, database_url, *fakes, role="web") as place:
        assert await place.rows(holder) == [(None,)]


async def test_each_due_time_once_and_a_missed_one_once_late(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with floor(tmp_path, database_url, *fakes) as place:
        missed = dt.datetime(2026, 1, 1, 3, 17, tzinfo=dt.UTC)
        added = await asyncio.gather(*(upkeep.enqueue_due(place.core, upkeep.CLEAN_UP_JOB, missed) for _ in range(5)))
        assert sorted(added) == [False] * 4 + [True]

        async def done() -> bool:
            rows = await place.rows(select(models.Job.status, models.Job.attempts))
            return all((row.status, row.attempts) == ("done", 1) for row in rows)

        await place.until(done)
    async with floor(tmp_path, database_url, *fakes) as place:
        assert not await upkeep.enqueue_due(place.core, upkeep.CLEAN_UP_JOB, missed)


async def test_a_second_process_on_sqlite_is_refused_and_a_third_on_postgresql_is_not(
    tmp_path: Path, sqlite_url: str, postgres_url: str, fakes: Fakes
) -> None:
    from services.upkeep import InstanceTaken

    first, second = tmp_path / "one", tmp_path / "two"
    async with floor(first, sqlite_url, *fakes, role="web"):
        try:
            async with floor(first, sqlite_url, *fakes, role="web"):
                raise AssertionError("two processes on one SQLite file")
        except InstanceTaken as error:
            assert "PostgreSQL" in str(error)
    async with (
        floor(second, postgres_url, *fakes, role="web") as one,
        floor(second, postgres_url, *fakes, role="web") as two,
    ):
        assert one.core.writer.holder != two.core.writer.holder
        async with one.core.db.read() as session:
            assert await session.scalar(text("SELECT 1")) == 1
