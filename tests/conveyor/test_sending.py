"""What Telegram answers to our sends, and what follows: the errors of ``tests/payloads/outgoing_errors.json`` and worse."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import literal, select, text, update

from db import models
from services import bots
from services.text import utf16_length
from tests.conveyor.harness import Floor, Tenant, echo, floor, surroundings, texts
from tests.fakes.models import Seen
from tests.fakes.telegram_format import MAX_TEXT as TEXT_LIMIT
from tests.servers import ROOT, Run

CASES = [
    case
    for case in json.loads((ROOT / "tests/payloads/outgoing_errors.json").read_text())["cases"]
    if case["channel"] == "telegram"
]


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """One product for all cases; each case has an owner and a bot of its own."""
    folder = tmp_path_factory.mktemp("sending")
    async with (
        surroundings() as (fake, fake_models),
        floor(folder, servers_run.new_sqlite(folder), fake, fake_models) as opened,
    ):
        yield opened


async def _end(place: Floor, tenant: Tenant, number: int) -> models.OutboxItem:
    """Wait until what answers ``number`` is no longer open; return it."""

    async def ended() -> models.OutboxItem | None:
        rows = await place.rows(
            select(models.OutboxItem).where(
                models.OutboxItem.channel_id == tenant.shop.channel.id,
                models.OutboxItem.status.not_in(("queued", "sending")),
            )
        )
        return next((row[0] for row in rows if f"№{number}" in json.loads(row[0].payload)["text"]), None)

    item: models.OutboxItem = await place.until(ended)
    return item


async def _tried(place: Floor, tenant: Tenant, times: int) -> float:
    """Let no time pass between tries until there were so many; return for how long it waits then, in seconds."""
    channel = tenant.shop.channel.id
    lane, item = models.Lane, models.OutboxItem
    mine = lane.key.startswith(f"out:{channel}:"), lane.pending > 0

    async def tried() -> bool:
        if await place.one(select(lane.key).where(*mine, lane.holder.is_not(None))):
            # A claim counts at once; what becomes of the try in hand is not written yet.
            return False
        attempts = await place.one(
            select(item.attempts).where(item.channel_id == channel, item.attempts > 0).order_by(item.id.desc()).limit(1)
        )
        waits = await place.one(select(lane.run_at).where(*mine, lane.holder.is_(None)))
        if (attempts or 0) >= times and (waits is None or waits > 0):
            return True
        async with place.core.db.write() as session:
            await session.execute(update(lane).where(*mine, lane.holder.is_(None)).values(run_at=0))
        place.core.bell.ring("outbox")
        return False

    await place.until(tried)
    run_at = await place.one(select(lane.run_at).where(*mine))
    return float(run_at - await place.one(select(literal(place.core.db.now())))) if run_at else 0.0


async def _a_day_passes(place: Floor, tenant: Tenant) -> None:
    """Make what waits for being sent older than answers may become."""
    older = dt.timedelta(hours=place.settings.queue.max_age_h + 1)
    mine = models.OutboxItem.channel_id == tenant.shop.channel.id
    async with place.core.db.write() as session:
        await session.execute(update(models.OutboxItem).where(mine).values(created_at=dt.datetime.now(dt.UTC) - older))


async def _contact(place: Floor, tenant: Tenant, external_id: object) -> models.Contact:
    contact: models.Contact = await place.one(
        select(models.Contact).where(
            models.Contact.channel_id == tenant.shop.channel.id, models.Contact.external_id == str(external_id)
        )
    )
    return contact


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_known_errors(place: Floor, case: dict[str, Any]) -> None:
    tenant = await place.tenant()
    body = case["body"]
    if "parameters" in body:
        # The same answer with a wait that a test can sit out.
        body = {**body, "parameters": {"retry_after": 1}}
    place.fake.answer_with(case["http"], body, bot=tenant.bot, method="sendMessage", times=1)
    person = tenant.person()
    number = tenant.ask(person)
    item = await _end(place, tenant, number)
    sends = len(place.fake.called("sendMessage", tenant.bot))
    status = await place.one(select(models.Channel.status).where(models.Channel.id == tenant.shop.channel.id))
    contact = await _contact(place, tenant, person.id)
    if case["action"] in ("wait", "backoff"):
        assert (item.status, sends, tenant.times()[number]) == ("sent", 2, 1)
    elif case["action"] == "harmless":
        assert (item.status, sends) == ("sent", 1)
    else:
        assert (item.status, sends) == ("failed", 1)
    assert (contact.unreachable_since is not None) == (case["action"] == "recipient_gone")
    if case["action"] == "token_invalid":
        assert (await place.noticed(tenant, "token_refused")).params["bot"] == tenant.shop.bot.name
        assert (
            await place.one(select(models.Channel.status).where(models.Channel.id == tenant.shop.channel.id))
            == "refused"
        )
    else:
        assert status == "active"


async def test_being_asked_to_wait_does_not_count_as_a_try(place: Floor) -> None:
    tenant = await place.tenant()
    place.fake.fail(429, bot=tenant.bot, method="sendMessage", times=1, retry_after=1)
    item = await _end(place, tenant, tenant.ask(tenant.person()))
    assert (item.status, item.attempts, item.unsure) == ("sent", 1, False)


async def test_a_limited_chat_rests_alone_then_the_bot(place: Floor) -> None:
    tenant, other = await place.tenant(), await place.tenant()
    first, second, third, stranger = tenant.person(), tenant.person(), tenant.person(), other.person()
    # For longer than this test can last.
    wait: dict[str, Any] = {"bot": tenant.bot, "method": "sendMessage", "times": 1, "retry_after": 3600}
    flood = place.fake.fail(429, chat_id=first.id, **wait)
    waiting = tenant.ask(first)
    await flood.reached.wait()
    # One limited chat: others of the same bot are served meanwhile.
    assert (await tenant.answered([tenant.ask(second)]))[waiting] == 0
    second_flood = place.fake.fail(429, chat_id=second.id, **wait)
    tenant.ask(second)
    await second_flood.reached.wait()
    before = len(place.fake.called("sendMessage", tenant.bot))
    # Two at a time: the whole bot was told to wait; another bot is not touched.
    late = tenant.ask(third)

    async def postponed() -> bool:
        lane = models.Lane
        rests = select(lane.key).where(lane.key.contains(f"{tenant.shop.channel.id}:{third.id}"), lane.kind == "outbox")
        return bool(await place.rows(rests.where(lane.run_at > place.core.db.now())))

    await place.until(postponed)
    await other.answered([other.ask(stranger)])
    assert tenant.times()[late] == 0
    assert len(place.fake.called("sendMessage", tenant.bot)) == before


async def test_what_a_limited_bot_waited_with_is_sent_in_the_end(place: Floor) -> None:
    tenant = await place.tenant()
    people = [tenant.person() for _ in range(3)]
    for person in people[:2]:
        place.fake.fail(429, bot=tenant.bot, chat_id=person.id, method="sendMessage", times=1, retry_after=1)
    for person in people:
        tenant.ask(person)
    for person in people:
        tenant.ask(person)
    assert set((await tenant.answered()).values()) == {1}
    assert tenant.in_order()


async def test_blocked_is_marked_until_the_person_returns(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    await tenant.answered([tenant.ask(person)])
    hold = place.fake.hold(bot=tenant.bot)
    tenant.ask(person)
    await hold.reached.wait()
    person.block(tenant.bot)
    place.fake.clear_faults()

    async def marked() -> bool:
        return (await _contact(place, tenant, person.id)).unreachable_since is not None

    async def clear() -> bool:
        return not await marked()

    await place.until(marked)
    person.unblock(tenant.bot)
    await place.until(clear)
    await tenant.answered([tenant.ask(person)])
    assert not await place.notices(tenant)


async def test_who_blocks_the_bot_is_marked_though_nothing_is_sent(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    await tenant.answered([tenant.ask(person)])

    async def marked() -> bool:
        return (await _contact(place, tenant, person.id)).unreachable_since is not None

    async def clear() -> bool:
        return not await marked()

    sends = len(place.fake.called("sendMessage", tenant.bot))
    person.block(tenant.bot)
    await place.until(marked)
    person.unblock(tenant.bot)
    await place.until(clear)
    assert len(place.fake.called("sendMessage", tenant.bot)) == sends


async def test_an_answer_that_never_came_is_not_repeated(place: Floor) -> None:
    tenant = await place.tenant()
    place.fake.cut("after", bot=tenant.bot)
    person = tenant.person()
    number = tenant.ask(person)
    item = await _end(place, tenant, number)
    assert (item.status, item.unsure, tenant.times()[number]) == ("unknown", True, 1)
    assert len(place.fake.called("sendMessage", tenant.bot)) == 1
    status = await place.one(select(models.Message.status).where(models.Message.id == item.message_id))
    assert status == "unknown"
    await place.noticed(tenant, "send_failed")
    # The talk goes on.
    await tenant.answered([tenant.ask(person)])


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"[]", b'{"status": "up"}'], ids=repr)
async def test_a_success_in_words_that_are_not_telegrams_is_not_repeated(place: Floor, body: bytes) -> None:
    tenant = await place.tenant()
    # A proxy that answers for Telegram: whether the message went on from there is not known.
    proxy = place.fake.answer_with(200, body, bot=tenant.bot, method="sendMessage", times=None)
    person = tenant.person()
    number = tenant.ask(person)
    item = await _end(place, tenant, number)
    assert (item.status, item.attempts, item.unsure, proxy.hits) == ("unknown", 1, True, 1)
    assert await place.one(select(models.Message.status).where(models.Message.id == item.message_id)) == "unknown"
    await place.noticed(tenant, "send_failed")
    place.fake.clear_faults()
    await tenant.answered([tenant.ask(person)])
    assert tenant.times()[number] == 0


def _at_length(seen: Seen) -> str:
    """Answer with fewer characters than a message may have, and more of the units in which Telegram counts."""
    return echo(seen) + " 😀😃😄😁" * 600


@pytest.mark.parametrize("lost", [False, True], ids=["arrives", "first part lost"])
async def test_an_answer_in_parts_is_sent_only_if_every_part_is(place: Floor, lost: bool) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    place.models.reply = _at_length
    try:
        if lost:
            refusal = "Bad Request: message text is not accepted"
            place.fake.fail(400, refusal, bot=tenant.bot, method="sendMessage", times=1)
        person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
        await place.fake.wait_call("sendMessage", bot=tenant.bot, times=2)
    finally:
        place.models.reply = echo

    async def ended() -> list[models.OutboxItem]:
        mine = select(models.OutboxItem).where(models.OutboxItem.channel_id == tenant.shop.channel.id)
        items = [row[0] for row in await place.rows(mine.order_by(models.OutboxItem.id))]
        return items if all(item.status not in ("queued", "sending") for item in items) else []

    items = await place.until(ended)
    assert [item.status for item in items] == ["failed" if lost else "sent", "sent"]
    message = (await place.rows(select(models.Message).where(models.Message.id == items[0].message_id)))[0][0]
    assert (message.status, message.error) == (("failed", refusal) if lost else ("sent", None))
    parts = texts(place.fake.messages(person.id, tenant.bot))
    assert len(message.text) <= place.settings.ai.max_answer_chars < TEXT_LIMIT < utf16_length(message.text)
    assert all(utf16_length(json.loads(item.payload)["text"]) <= TEXT_LIMIT for item in items)
    if lost:
        assert len(parts) == 1
        await place.noticed(tenant, "send_failed")
    else:
        assert " ".join(parts) == message.text
        assert not await place.notices(tenant)


async def test_a_revoked_token_stops_its_bot_alone_and_a_new_one_starts_it(place: Floor) -> None:
    tenant, other = await place.tenant(), await place.tenant()
    await tenant.answered([tenant.ask(tenant.person())])
    tenant.bot.revoke()
    await place.noticed(tenant, "token_refused")
    await other.answered([other.ask(other.person())])
    assert not await place.notices(other)
    asked = len(place.fake.called("getUpdates", tenant.bot))
    tenant.bot.revoked = False
    async with place.core.db.write() as session:
        bot = await bots.get(session, tenant.shop.owner, tenant.shop.bot.id)
        identity = await place.core.telegram.get_me(tenant.bot.token)
        await bots.connect_telegram(session, bot, identity=identity, token=tenant.bot.token, crypto=place.core.crypto)
    place.core.bell.ring("channels")
    await place.fake.wait_call("getUpdates", bot=tenant.bot, times=asked + 1)
    await tenant.answered([tenant.ask(tenant.person())])


async def test_another_reader_of_the_same_bot_parks_it_alone(place: Floor) -> None:
    tenant, other = await place.tenant(), await place.tenant()
    rival = place.fake.fail(409, bot=tenant.bot, method="getUpdates", times=3)
    tenant.bot.interfere()
    await other.answered([other.ask(other.person())])
    await place.noticed(tenant, "conflict")
    assert rival.hits >= 2
    status = await place.one(select(models.Channel.status).where(models.Channel.id == tenant.shop.channel.id))
    assert status == "conflict"
    assert not await place.notices(other)


async def test_a_group_that_became_a_supergroup(place: Floor) -> None:
    tenant = await place.tenant()
    group = place.fake.group(-500_000 - tenant.bot.id % 1000, "Mijozlar")
    person = tenant.person()
    hold = place.fake.hold(bot=tenant.bot)
    person.send(tenant.bot, "/help", group=group)
    await hold.reached.wait()
    grown = group.migrate(tenant.bot, -100_500_000_000 - tenant.bot.id % 1000)
    await place.fake.wait_delivered(tenant.bot)

    async def known() -> bool:
        return await _contact(place, tenant, grown.id) is not None

    await place.until(known)
    place.fake.clear_faults()
    await place.fake.wait_message(grown.id, bot=tenant.bot)
    person.send(tenant.bot, "/help", group=grown)
    await place.fake.wait_message(grown.id, bot=tenant.bot)


def _moved(to: int) -> dict[str, Any]:
    return {"ok": False, "error_code": 400, "description": "upgraded", "parameters": {"migrate_to_chat_id": to}}


async def test_a_chat_that_moved_gets_its_answer_at_the_new_place(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    await tenant.answered([tenant.ask(person)])
    before = len(place.fake.called("sendMessage", tenant.bot))
    grown = place.fake.user(person.id + 50_000_000)
    tenant.bot.chats.add(grown.id)
    place.fake.answer_with(400, _moved(grown.id), bot=tenant.bot, method="sendMessage", times=1)
    number = tenant.ask(person)
    item = await _end(place, tenant, number)
    chats = [str(call.params["chat_id"]) for call in place.fake.called("sendMessage", tenant.bot)[before:]]
    assert chats == [str(person.id), str(grown.id)]
    assert (item.status, item.attempts, item.recipient, tenant.times()[number]) == ("sent", 1, str(grown.id), 1)
    assert await _contact(place, tenant, grown.id) is not None


async def test_a_chat_that_moves_for_ever_is_given_up(place: Floor) -> None:
    fake = place.fake
    tenant, other = await place.tenant(), await place.tenant()
    person = tenant.person()
    fake.answer_with(400, _moved(person.id), bot=tenant.bot, method="sendMessage", times=None)
    number = tenant.ask(person)
    await _tried(place, tenant, 1)
    await _a_day_passes(place, tenant)
    await _tried(place, tenant, 2)
    item = await _end(place, tenant, number)
    # Each try is repeated once at the new place.
    assert item.status == "failed" and item.attempts >= 2
    assert len(fake.called("sendMessage", tenant.bot)) == 2 * item.attempts
    await place.noticed(tenant, "send_failed")
    fake.clear_faults()
    await tenant.answered([tenant.ask(person)])
    await other.answered([other.ask(other.person())])


NOTICES_AWAY = {
    "sqlite": ["CREATE TRIGGER away BEFORE INSERT ON notices BEGIN INSERT INTO gone VALUES (1); END"],
    "postgresql": [
        "CREATE FUNCTION away() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$"
        " LANGUAGE plpgsql",
        "CREATE TRIGGER away BEFORE INSERT ON notices FOR EACH ROW EXECUTE FUNCTION away()",
    ],
}
NOTICES_BACK = {"sqlite": "DROP TRIGGER away", "postgresql": "DROP TRIGGER away ON notices"}


async def test_a_lost_answer_and_its_notice_are_stored_together(tmp_path: Path, database_url: str) -> None:
    async with surroundings() as (fake, fake_models), floor(tmp_path, database_url, fake, fake_models) as place:
        tenant = await place.tenant()
        async with place.core.db.write() as session:
            for statement in NOTICES_AWAY[place.core.db.dialect]:
                await session.execute(text(statement))
        fake.cut("after", bot=tenant.bot)
        number = tenant.ask(tenant.person())
        await fake.wait_call("sendMessage", bot=tenant.bot)
        # The other talks do not wait for it.
        await tenant.answered([tenant.ask(tenant.person())])
        assert await place.one(select(models.OutboxItem.id).where(models.OutboxItem.status == "unknown")) is None
        assert not await place.notices(tenant)
        async with place.core.db.write() as session:
            await session.execute(text(NOTICES_BACK[place.core.db.dialect]))
        item = await _end(place, tenant, number)
        assert (item.status, item.attempts) == ("unknown", 1)
        assert [notice.kind for notice in await place.notices(tenant)] == ["send_failed"]


@pytest.mark.parametrize("words", ["x\ud800y", "x\x00y"])
async def test_a_refusal_in_words_that_no_database_takes(place: Floor, words: str) -> None:
    tenant = await place.tenant()
    place.fake.fail(400, f"Bad Request: {words}", bot=tenant.bot, method="sendMessage", times=1)
    person = tenant.person()
    item = await _end(place, tenant, tenant.ask(person))
    assert (item.status, item.attempts, item.unsure) == ("failed", 1, False)
    said = select(models.Message.status).where(models.Message.id == item.message_id)
    assert await place.one(said) == "failed"
    assert not place.fake.messages(person.id, tenant.bot)


async def test_an_outage_loses_no_answer(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    answering = place.models.hold()
    try:
        number = tenant.ask(person)
        await answering.reached.wait()
        # The server goes away before the answer is sent, and returns on the same address.
        port = place.fake.port
        await place.fake.stop()
        place.models.release()
        waits_s = await _tried(place, tenant, 12)
        # Nothing left us: it is looked for again and again, and sent soon after the network is back.
        assert 10 < waits_s <= 30
        await place.fake.start(port=port)
        await _tried(place, tenant, 13)
    finally:
        place.models.release()
    item = await _end(place, tenant, number)
    assert (item.status, item.attempts, item.unsure, tenant.times()[number]) == ("sent", 13, False, 1)
    assert not await place.notices(tenant)


async def test_errors_of_telegrams_own_are_sat_out(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    trouble = place.fake.fail(502, bot=tenant.bot, method="sendMessage", times=12)
    number = tenant.ask(person)
    waits_s = await _tried(place, tenant, 12)
    assert trouble.hits == 12 and 100 < waits_s <= 300
    await _tried(place, tenant, 13)
    item = await _end(place, tenant, number)
    assert (item.status, item.attempts, tenant.times()[number]) == ("sent", 13, 1)
    assert not await place.notices(tenant)


async def test_an_answer_that_could_not_be_sent_for_a_day_is_given_up_and_told(place: Floor) -> None:
    tenant = await place.tenant()
    person = tenant.person()
    place.fake.fail(503, bot=tenant.bot, method="sendMessage", times=None)
    number = tenant.ask(person)
    await _tried(place, tenant, 1)
    assert not await place.notices(tenant)
    async with place.core.bell.listen(f"bot:{tenant.shop.bot.id}") as shown:
        await _a_day_passes(place, tenant)
        await _tried(place, tenant, 2)
        item = await _end(place, tenant, number)
        # The open conversation shows it at once.
        assert await asyncio.wait_for(shown.get(), 20) == {"conversation": item.conversation_id}
    assert item.status == "failed" and item.attempts >= 2
    assert await place.one(select(models.Message.status).where(models.Message.id == item.message_id)) == "failed"
    await place.noticed(tenant, "send_failed")
    # Later ones have their own time.
    place.fake.clear_faults()
    await tenant.answered([tenant.ask(person)])
