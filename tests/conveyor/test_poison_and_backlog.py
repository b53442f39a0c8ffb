"""Messages that cannot be handled, and too many messages: others are not touched, and nobody is left in silence."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import structlog
from sqlalchemy import func, select, text

from db import models
from services import accounts, bots, inbox
from services.i18n import translate
from tests.conveyor.harness import Floor, floor, settings_for, texts
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
SORRY = "Sorry, I could not handle your message 🙏 A person will look at it. You can write again."


class Spoiled(Exception):
    """Handling this message fails."""


class Spoiler:
    """A pause hook that raises for chosen requests, ``times`` times each, at ``point``."""

    def __init__(self, point: str = "received") -> None:
        self.point = point
        self.left: Counter[str] = Counter()

    async def __call__(self, point: str) -> None:
        request = str(structlog.contextvars.get_contextvars().get("request_id") or "")
        if point == self.point and self.left[request] > 0:
            self.left[request] -= 1
            raise Spoiled(request)


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
        # A trouble that passes costs nothing but time.
        spoiler.left[_request(shop.shop.channel.id, shop.bot.next_update_id)] = 1
        healed = shop.ask(person)
        assert (await shop.answered([healed]))[healed] == 1


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
    for _ in range(settings.queue.max_attempts):
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


async def _store(place: Floor, channel: models.Channel, bot: models.Bot, contact: str, n: int) -> None:
    card = inbox.ChannelCard(channel.id, "web", bot.id, bot.owner_id, "", "active")
    updates = [{"id": f"{contact}-{i}", "contact": contact, "text": "Kafolat bormi?"} for i in range(n)]
    await asyncio.gather(*(inbox.accept_update(place.core, card, update, json.dumps(update)) for update in updates))


async def _pile_up(place: Floor, channel: models.Channel, bot: models.Bot, *, chats: int, each: int) -> None:
    """Put a backlog into the tables at once, as ``accept_update`` would have left it."""
    now = "now()" if place.core.db.dialect == "postgresql" else "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    numbers = "WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {})"
    update = """'{"id"\\: "b' || i || '", "contact"\\: "c' || i % :chats || '", "text"\\: "Kafolat bormi?"}'"""
    values = {"channel": channel.id, "owner": bot.owner_id, "chats": chats, "each": each, "tail": channel.id[-6:]}
    statements = (
        "INSERT INTO inbox (lane, channel_id, external_id, payload, request_id, status, attempts, received_at)"
        f" {numbers.format(chats * each)} SELECT 'in\\:' || :channel || '\\:c' || i % :chats, :channel, 'b' || i, {update},"
        f" :tail || '-b' || i, 'new', 0, {now} FROM numbers",
        "INSERT INTO lanes (key, kind, owner_id, pending, waiting_since, run_at, lease_until, claim_no)"
        f" {numbers.format(chats)} SELECT 'in\\:' || :channel || '\\:c' || i, 'inbox', :owner, :each, 1.0, 0, 0, 0 FROM numbers",
    )
    async with place.core.db.write() as session:
        for statement in statements:
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            await session.execute(text(statement), used)


async def test_one_owners_backlog_does_not_keep_others_waiting(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    queue = {"conversations": 40, "conversations_per_owner": 10, "idle_poll_s": 0.05}
    names = ("big", *(f"small{i}" for i in range(50)))
    places: dict[str, tuple[models.Channel, models.Bot]] = {}
    # Stored by a process that only receives; the worker comes later and finds the backlog.
    async with floor(tmp_path, database_url, *fakes, role="web", queue=queue) as place:
        for name in names:
            async with place.core.db.write() as session:
                owner = await accounts.register_owner(session, email=f"{name}@example.uz")
                bot = await bots.create(session, owner, name, limits=place.settings.limits)
                await bots.stop(session, bot)
                places[name] = (await bots.connect_web(session, bot), bot)
        await _pile_up(place, *places["big"], chats=10_000, each=10)
        await asyncio.gather(*(_store(place, *places[name], "c", 10) for name in names[1:]))
        most: Counter[str] = Counter()
        running: Counter[str] = Counter()

    async def watch(point: str) -> None:
        owner = str(structlog.contextvars.get_contextvars().get("request_id") or "")[:6]
        if point == "received":
            running[owner] += 1
            most[owner] = max(most[owner], running[owner])
            await asyncio.sleep(0)
        elif point == "answered":
            running[owner] -= 1

    async with floor(tmp_path, database_url, *fakes, pause=watch, queue=queue) as place:
        big = places["big"][1].owner_id
        waiting = select(func.sum(models.Lane.pending)).where(models.Lane.kind == "inbox")

        async def others_done() -> bool:
            return not await place.one(waiting.where(models.Lane.owner_id != big))

        await place.until(others_done, 60)
        left = int(await place.one(waiting.where(models.Lane.owner_id == big)) or 0)
        # Fifty owners with ten each were ready while most of the hundred thousand still waited.
        assert left > 95_000
        assert most[places["big"][0].id[-6:]] <= 10
        done = await place.rows(
            select(models.InboxItem.channel_id, func.count())
            .where(models.InboxItem.status == "done")
            .group_by(models.InboxItem.channel_id)
        )
        counts = dict(map(tuple, done))
        assert all(counts[places[name][0].id] == 10 for name in names[1:])
        # What is left is forgotten with its bot, so that the stop need not wait.
        async with place.core.db.write() as session:
            await bots.disconnect(session, places["big"][1], places["big"][0].id)


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
