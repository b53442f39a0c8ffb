"""Broadcasts on Telegram: whoever is meant gets one, once, whatever happens; who does not want it gets none."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from db import models
from db.base import new_id, utcnow
from db.engine import Database
from services import accounts, bots, broadcasting, broadcasts
from services.broadcasts import Audience, Draft
from services.conversations import optouts
from services.days import TASHKENT
from services.errors import Conflict
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, floor, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
UZ, RU = "Yangi chegirma: 20 % 🎉", "Новая скидка: 20 % 🎉"
TEXTS = {"uz": UZ, "ru": RU}
EVERYBODY = Audience()


async def customers(
    place: Floor, shop: Tenant, n: int, *, talk: dict[str, Any] | None = None, **more: Any
) -> list[FakeUser]:
    """Let people have written to a bot an hour ago; return them."""
    people = [shop.person() for _ in range(n)]
    before = utcnow() - dt.timedelta(hours=1)
    contacts: list[dict[str, Any]] = []
    talks: list[dict[str, Any]] = []
    where = {"bot_id": shop.shop.bot.id, "channel_id": shop.shop.channel.id}
    for person in people:
        shop.bot.chats.add(person.id)
        id_ = new_id()
        contacts.append({"id": id_, "external_id": str(person.id), "language": "uz", **where, **more})
        told = {
            "status": "bot",
            "last_inbound_at": before,
            "last_message_at": before,
            "recent": [],
            "last_text": "salom",
        }
        talks.append({"id": new_id(), "contact_id": id_, **where, **told, **(talk or {})})

    def put(connection: Connection) -> None:
        connection.execute(insert(models.Contact), contacts)
        connection.execute(insert(models.Conversation), talks)

    await place.core.db.transact(put)
    return people


async def draft(place: Floor, shop: Tenant, audience: Audience = EVERYBODY, **more: Any) -> models.Broadcast:
    """Write a broadcast down."""
    async with place.core.db.write() as session:
        return await broadcasts.create(session, shop.shop.bot, Draft(TEXTS, audience, **more), shop.shop.owner)


async def launch(place: Floor, shop: Tenant, made: models.Broadcast, at: dt.datetime | None = None) -> None:
    """Send a broadcast."""
    async with place.core.db.write() as session:
        bot = await session.get_one(models.Bot, shop.shop.bot.id)
        await broadcasts.launch(session, place.core, bot, made.id, made.version, shop.shop.owner, at=at)
    place.core.bell.ring("broadcasts")


async def now_is(place: Floor, made: models.Broadcast) -> models.Broadcast:
    """Return a broadcast as it is."""
    async with place.core.db.read() as session:
        return await session.get_one(models.Broadcast, made.id)


async def reaches(place: Floor, made: models.Broadcast, status: str) -> models.Broadcast:
    """Wait until a broadcast has a status."""

    async def there() -> bool:
        return (await now_is(place, made)).status == status

    await place.until(there, 30)
    return await now_is(place, made)


async def report(place: Floor, made: models.Broadcast) -> broadcasts.Report:
    """Return what became of a broadcast."""
    async with place.core.db.read() as session:
        return await broadcasts.report(session, await session.get_one(models.Broadcast, made.id))


def got(fake: FakeTelegram, people: list[FakeUser], shop: Tenant) -> Counter[int]:
    """Return how often each of these people got the broadcast."""
    return Counter(person.id for person in people for sent in fake.messages(person.id, shop.bot) if "20 %" in sent.text)


async def test_everybody_who_is_meant_gets_it_once_in_their_language(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        now = utcnow()
        uz = await customers(place, shop, 130)
        cyrillic = await customers(place, shop, 5, language="uz-Cyrl")
        ru = await customers(place, shop, 5, language="ru")
        english = await customers(place, shop, 5, language="en")
        nobody = [
            *await customers(place, shop, 3, opted_out_at=now),
            *await customers(place, shop, 2, unreachable_since=now),
            *await customers(place, shop, 4, talk={"status": "human"}),
            *await customers(place, shop, 1, talk={"last_inbound_at": None}),
            *await customers(place, other, 6),
        ]
        async with place.core.db.read() as session:
            counted = await broadcasts.count(session, place.core, shop.shop.bot, Audience())
        assert (counted.by_channel, counted.left_out) == (
            {"telegram": 145},
            {"silent": 1, "opted_out": 3, "unreachable": 2, "person": 4},
        )
        made = await draft(place, shop)
        await launch(place, shop, made)
        done = await reaches(place, made, "done")
        assert (done.chosen, done.cursor, done.day_count) == (155, None, 145)
        everybody = [*uz, *cyrillic, *ru, *english]
        assert got(fake, everybody, shop) == {person.id: 1 for person in everybody}
        assert not got(fake, nobody, shop) and not got(fake, nobody, other)
        # In the language and script of each, with the way out under it; who speaks another language gets the bot's first.
        for person, text, language in (
            (uz[0], UZ, "uz"),
            (cyrillic[0], "Янги чегирма: 20 % 🎉", "uz-Cyrl"),
            (ru[0], RU, "ru"),
            (english[0], UZ, "uz"),
        ):
            sent = fake.messages(person.id, shop.bot)[0]
            assert sent.text == f"{text}\n\n{translate(language, optouts.LINE.msgid)}"
        told = await report(place, made)
        assert (told.total, told.arrived, told.over) == (145, 145, 145)
        assert told.fates == {"sent": 145, "skipped": 10}
        # It stands in the conversation, is remembered, and moves no conversation to the top.
        row = (
            await place.rows(
                select(models.Message, models.Conversation)
                .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
                .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
                .where(models.Contact.external_id == str(uz[0].id))
            )
        )[0]
        assert (row[0].author, row[0].status, row[0].extra) == ("system", "sent", {"broadcast": made.id})
        assert row[1].recent == [["assistant", row[0].text]] and row[1].last_text == "salom"
        assert row[1].last_message_at < now
        assert not await place.one(select(func.count()).select_from(models.MessageQuota))
        await place.noticed(shop, "broadcast_done")
        # A second hand that has the page of before changes nothing.
        with pytest.raises(Conflict):
            await launch(place, shop, made)


async def test_who_wants_no_more_gets_none_until_they_come_back(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes) as place:
        shop = await place.tenant()
        presses, writes, says, commands, stays = people = await customers(place, shop, 5)
        # Before any broadcast these words are about something else.
        stays.send(shop.bot, "Kerak emas")
        await fake.wait_message(stays.id, bot=shop.bot)
        first = await draft(place, shop)
        await launch(place, shop, first)
        await reaches(place, first, "done")
        presses.press(fake.messages(presses.id, shop.bot)[0], translate("uz", optouts.BUTTON.msgid))
        writes.send(shop.bot, "Reklama yubormang!")
        says.send(shop.bot, "Керак эмас")
        commands.send(shop.bot, "/stop")
        # Words that say something else are a question, and a person who leads the talk is no reason to go on.
        stays.send(shop.bot, "Do‘konda stop-kran bormi")
        for person in (presses, writes, says, commands):
            await fake.wait_message(person.id, translate("uz", optouts.LEFT.msgid), bot=shop.bot)
        await fake.wait_message(stays.id, lambda sent: "20 %" not in sent.text, bot=shop.bot)
        out = select(models.Contact.external_id).where(models.Contact.opted_out_at.is_not(None))
        assert {row[0] for row in await place.rows(out)} == {
            str(person.id) for person in (presses, writes, says, commands)
        }
        commands.send(shop.bot, "/start")
        await fake.wait_message(commands.id, translate("uz", optouts.BACK.msgid), bot=shop.bot)
        second = await draft(place, shop)
        await launch(place, shop, second)
        await reaches(place, second, "done")
        assert got(fake, people, shop) == {presses.id: 1, writes.id: 1, says.id: 1, commands.id: 2, stays.id: 2}
        assert (await report(place, second)).reasons == {("skipped", "opted_out"): 3}


async def test_paused_resumed_blocked_and_stopped(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    pace = {"messages_per_second": 100, "bulk_share": 0.5, "chat_messages_per_second": 1000, "chat_burst": 1000}
    async with floor(tmp_path, database_url, *fakes, telegram=pace) as place:
        shop = await place.tenant()
        people = await customers(place, shop, 300)
        # Some have blocked the bot, which we do not know yet; one chat has to wait.
        for person in people[:7]:
            fake.fail(403, "Forbidden: bot was blocked by the user", method="sendMessage", chat_id=person.id)
        fake.flood(1, bot=shop.bot, chat_id=people[10].id)
        made = await draft(place, shop)
        await launch(place, shop, made)
        await fake.wait_until(lambda: len(got(fake, people, shop)) > 20, 30)
        async with place.core.db.write() as session:
            now = await session.get_one(models.Broadcast, made.id)
            await broadcasts.pause(session, shop.shop.bot, made.id, now.version, shop.shop.owner)

        async def settled() -> bool:
            return not await place.one(select(func.sum(models.Lane.pending)).where(models.Lane.kind == "bulk"))

        await place.until(settled, 30)
        early = len(got(fake, people, shop))
        assert early < 300 - broadcasting.ON_THE_WAY
        # Whoever asks for its report meanwhile sees what has arrived.
        assert (await report(place, made)).arrived == early
        async with place.core.db.write() as session:
            now = await session.get_one(models.Broadcast, made.id)
            await broadcasts.resume(session, place.core, shop.shop.bot, made.id, now.version, shop.shop.owner)
        place.core.bell.ring("broadcasts")
        await fake.wait_until(lambda: len(got(fake, people, shop)) > early, 30)
        # The bot is stopped: it waits and the owner hears why; started, it goes on where it was.
        async with place.core.db.write() as session:
            await bots.stop(session, await session.get_one(models.Bot, shop.shop.bot.id))
        assert (await reaches(place, made, "paused")).reason == "bot"
        await place.noticed(shop, "broadcast_bot")
        async with place.core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.shop.bot.id)
            now = await session.get_one(models.Broadcast, made.id)
            with pytest.raises(Conflict):
                await broadcasts.resume(session, place.core, bot, made.id, now.version, shop.shop.owner)
        async with place.core.db.write() as session:
            bot = await session.get_one(models.Bot, shop.shop.bot.id)
            await bots.start(session, bot)
            now = await session.get_one(models.Broadcast, made.id)
            await broadcasts.resume(session, place.core, bot, made.id, now.version, shop.shop.owner)
        place.core.bell.ring("broadcasts")
        await reaches(place, made, "done")
        assert got(fake, people, shop) == {person.id: 1 for person in people[7:]}
        told = await report(place, made)
        assert (told.fates, told.reasons) == ({"sent": 293, "failed": 7}, {("failed", "unreachable"): 7})
        # The owner is banned in the middle: what is under way ends, and the report stands still.
        second, before = await draft(place, shop), len(fake.sent)
        await launch(place, shop, second)
        await fake.wait_until(lambda: len(fake.sent) > before + 20, 30)
        async with place.core.db.write() as session:
            await accounts.ban(session, await session.get_one(models.User, shop.shop.owner.id))
        place.core.bell.ring("broadcasts")
        assert (await reaches(place, second, "stopped")).reason == "banned"
        await place.until(settled, 30)
        told, went = await report(place, second), len(fake.sent) - before
        assert 20 < went < 293 - broadcasting.ON_THE_WAY
        assert told.arrived == went, told


async def test_no_more_than_a_days_share(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    async with floor(tmp_path, sqlite_url, *fakes, broadcasts={"receivers_per_day": 10}) as place:
        shop = await place.tenant()
        people = await customers(place, shop, 25)
        made, later = await draft(place, shop), await draft(place, shop)
        await launch(place, shop, made)
        await launch(place, shop, later)

        async def rests() -> bool:
            return ((await now_is(place, made)).run_at or utcnow()) > utcnow()

        await place.until(rests)
        row = await now_is(place, made)
        assert row.status == "sending" and row.run_at is not None
        there = row.run_at.astimezone(TASHKENT)
        assert (there.hour, there.date()) == (9, utcnow().astimezone(TASHKENT).date() + dt.timedelta(days=1))
        await fake.wait_until(lambda: len(got(fake, people, shop)) == 10)
        # One a bot at a time.
        assert (await now_is(place, later)).status == "scheduled"


POINTS = ("broadcast_step", "claimed_send", "sent")


async def test_killed_at_every_point_nobody_gets_it_twice_and_nobody_is_forgotten(
    tmp_path: Path, database_url: str, fakes: Fakes, children: Nursery
) -> None:
    fake, fake_models = fakes
    n = 60
    settings = settings_for(tmp_path, database_url, fake, fake_models)
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        shop = await place.tenant()
        people = await customers(place, shop, n)
        made = await draft(place, shop)
        async with place.core.db.write() as session:
            await broadcasts.launch(
                session, place.core, shop.shop.bot, made.id, 0, shop.shop.owner, at=utcnow() + dt.timedelta(days=1)
            )
    db = Database(database_url, pool_size=1)
    async with db.write() as session:
        await session.execute(update(models.Broadcast).values(run_at=utcnow()))
    await db.close()
    for point in POINTS:
        for passing in (0, 2):
            child = await children.start(settings, point=point, passing=passing)
            await child.hears("paused")
            await child.kill()
    async with floor(tmp_path, database_url, fake, fake_models) as place:
        await reaches(place, made, "done")
        told = await report(place, made)
        times = got(fake, people, shop)
        assert set(times.values()) == {1}
        # Only what a process had in hand when it died is not known of; all others are known to have it. Most of that has arrived:
        # what was in hand at death after death is given up in the end, and the report says so.
        unknown = told.fates.get("unknown", 0)
        assert told.fates == {"sent": n - unknown, "unknown": unknown} and unknown
        lost = {str(person.id) for person in people if not times[person.id]}
        given_up = await place.rows(
            select(models.OutboxItem.recipient).where(
                models.OutboxItem.status == "unknown", models.OutboxItem.attempts > 1
            )
        )
        assert lost <= {row.recipient for row in given_up}
        items = await place.rows(select(models.OutboxItem.status, models.OutboxItem.payload))
        assert len(items) == n and all("20 %" in json.loads(row.payload)["text"] for row in items)


MANY = 10_000
FAST = {"messages_per_second": 5000, "bulk_share": 1.0, "chat_messages_per_second": 1000, "chat_burst": 1000}


@pytest.mark.timeout(300)
async def test_ten_thousand_killed_in_the_middle_and_blocked_meanwhile(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, children: Nursery
) -> None:
    """Killed while receivers are chosen and while they are written to; some block the bot before, some during it."""
    fake, fake_models = fakes
    settings = settings_for(tmp_path, sqlite_url, fake, fake_models, telegram=FAST)
    async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
        shop = await place.tenant()
        people = await customers(place, shop, MANY)
        out = await customers(place, shop, 30, opted_out_at=utcnow())
        made = await draft(place, shop)
        await launch(place, shop, made, at=utcnow() + dt.timedelta(days=1))
    db = Database(sqlite_url, pool_size=1)
    async with db.write() as session:
        await session.execute(update(models.Broadcast).values(run_at=utcnow()))
    await db.close()
    early, late = people[100:125], people[-25:]

    def block(those: list[FakeUser]) -> None:
        for person in those:
            fake.fail(
                403, "Forbidden: bot was blocked by the user", method="sendMessage", chat_id=person.id, times=None
            )

    block(early)
    for point, passing in (("broadcast_step", 9), ("sent", MANY // 2)):
        child = await children.start(settings, point=point, passing=passing)
        await child.hears("paused", 120)
        await child.kill()
    block(late)
    async with floor(tmp_path, sqlite_url, fake, fake_models, telegram=FAST) as place:

        async def over() -> bool:
            return (await now_is(place, made)).status == "done"

        await place.until(over, 150)
        told, done = await report(place, made), await now_is(place, made)
        to, what = models.Contact.external_id, models.BroadcastDelivery
        rows = await place.rows(select(to, what.status, what.reason).join(what, what.contact_id == models.Contact.id))
    fates = {int(row.external_id): (row.status, row.reason) for row in rows}
    has = Counter(sent.chat_id for sent in fake.sent if sent.bot is shop.bot and "20 %" in sent.text)
    assert set(has.values()) == {1}
    assert (done.chosen, len(fates), told.total) == (MANY + len(out), MANY + len(out), MANY)
    # Who was in hand when a process died may have it or not; of everybody else it is known, and known right.
    unsure = {id_ for id_, (status, _) in fates.items() if status == "unknown"}
    assert len(unsure) <= broadcasting.ON_THE_WAY
    blocked = {person.id for person in (*early, *late)}
    expected = {person.id: ("sent", "") for person in people} | dict.fromkeys(blocked, ("failed", "unreachable"))
    expected |= {person.id: ("skipped", "opted_out") for person in out}
    assert {id_: fate for id_, fate in fates.items() if id_ not in unsure} == {
        id_: fate for id_, fate in expected.items() if id_ not in unsure
    }
    assert set(has) - unsure == {id_ for id_, fate in expected.items() if fate[0] == "sent"} - unsure
    assert told.arrived == told.fates["sent"] == MANY - len(blocked - unsure) - len(unsure)
