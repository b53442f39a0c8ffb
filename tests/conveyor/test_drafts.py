"""A long answer is shown in a private chat while it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from tests.conveyor.harness import Floor, Tenant, floor, surroundings
from tests.servers import Run

LONG = "Ha, kafolat bor. " + " ".join(f"{n}-band: kafolat uch yil davom etadi." for n in range(12))


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """A product that shows every answer as soon as the model has begun."""
    folder = tmp_path_factory.mktemp("drafts")
    at_once = {"draft_after_s": 0, "drafts_per_second": 20, "group_messages_per_minute": 10_000}
    async with (
        surroundings() as (fake, fake_models),
        floor(folder, servers_run.new_sqlite(folder), fake, fake_models, telegram=at_once) as opened,
    ):
        yield opened


@pytest.fixture
async def shop(place: Floor) -> Tenant:
    """A bot of its own for each test; the model writes slowly."""
    place.models.reset()
    place.fake.clear_faults()
    place.models.reply, place.models.pace_s, place.models.drip_octets = LONG, 0.004, 48
    place.models.fail("drip")
    return await place.tenant()


async def test_a_draft_grows_and_the_answer_is_a_message(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    person.send(shop.bot, "Muzlatgichga kafolat bormi?")
    sent = await place.fake.wait_message(person.id, bot=shop.bot, timeout=60)
    assert sent.text == LONG and sent.method == "sendMessage"
    drafts = shop.bot.drafts
    assert len(drafts) > 1 and {draft["chat_id"] for draft in drafts} == {person.id}
    assert len({draft["draft_id"] for draft in drafts}) == 1 and drafts[0]["draft_id"] > 0
    shown = [draft["text"] for draft in drafts]
    assert all(LONG.startswith(text) for text in shown) and shown == sorted(shown, key=len)
    # Nothing of it is shown any more when the answer is there.
    assert all(draft["at"] <= sent.at for draft in drafts)
    # The next answer has another draft.
    person.send(shop.bot, "Televizorga kafolat bormi?")
    await place.fake.wait_message(person.id, bot=shop.bot, timeout=60)
    assert len({draft["draft_id"] for draft in shop.bot.drafts}) == 2


@pytest.mark.parametrize("code", [400, 403, 429, 500])
async def test_the_first_refusal_ends_the_drafts_of_an_answer_and_nothing_else(
    place: Floor, shop: Tenant, code: int
) -> None:
    place.fake.fail(code, bot=shop.bot, method="sendMessageDraft", times=None, retry_after=7 if code == 429 else None)
    person = shop.person()
    person.send(shop.bot, "Muzlatgichga kafolat bormi?")
    sent = await place.fake.wait_message(person.id, bot=shop.bot, timeout=60)
    assert sent.text == LONG
    assert len(place.fake.called("sendMessageDraft", shop.bot)) == 1


async def test_asked_to_wait_the_bot_shows_no_drafts(place: Floor, shop: Tenant) -> None:
    place.models.reply = LONG[:60]
    place.fake.fail(429, bot=shop.bot, method="sendMessageDraft", retry_after=600)
    person, other = shop.person(), shop.person()
    for each in (person, other):
        each.send(shop.bot, "Muzlatgichga kafolat bormi?")
        await place.fake.wait_message(each.id, bot=shop.bot, timeout=60)
    assert len(place.fake.called("sendMessageDraft", shop.bot)) == 1


async def test_to_a_chat_that_has_to_wait_no_drafts_are_shown(place: Floor, shop: Tenant) -> None:
    place.models.reply = LONG[:60]
    person = shop.person()
    place.fake.fail(429, bot=shop.bot, method="sendMessage", chat_id=person.id, retry_after=600)
    person.send(shop.bot, "Muzlatgichga kafolat bormi?")
    await place.fake.wait_call("sendMessage", bot=shop.bot, timeout=60)
    waiting = select(models.OutboxItem.error).where(models.OutboxItem.recipient == str(person.id))

    async def told() -> object:
        return await place.one(waiting)

    await place.until(told)
    before = len(place.fake.called("sendMessageDraft", shop.bot))
    assert before
    person.send(shop.bot, "Televizorga kafolat bormi?")

    async def answered() -> bool:
        return len(await place.rows(waiting)) == 2

    await place.until(answered, 60)
    assert len(place.fake.called("sendMessageDraft", shop.bot)) == before


async def test_in_groups_there_are_none(place: Floor, shop: Tenant) -> None:
    group, person = place.fake.group(-1_004_000_000_001), shop.person()
    person.send(shop.bot, f"@{shop.bot.username} muzlatgichga kafolat bormi?", group=group)
    assert (await place.fake.wait_message(group.id, bot=shop.bot, timeout=60)).text == LONG
    assert not place.fake.called("sendMessageDraft", shop.bot)


async def test_where_messages_have_to_wait_there_are_no_drafts(tmp_path: Path, servers_run: Run) -> None:
    slow = {"draft_after_s": 0, "drafts_per_second": 20, "chat_messages_per_second": 0.001, "chat_burst": 2}
    async with (
        surroundings() as (fake, fake_models),
        floor(tmp_path, servers_run.new_sqlite(tmp_path), fake, fake_models, telegram=slow) as place,
    ):
        fake_models.reply, fake_models.pace_s, fake_models.drip_octets = LONG, 0.004, 48
        fake_models.fail("drip")
        shop = await place.tenant()
        person = shop.person()
        person.send(shop.bot, "Muzlatgichga kafolat bormi?")
        await place.fake.wait_call("sendMessageDraft", bot=shop.bot, timeout=60)

        async def answered() -> object:
            return await place.one(select(models.OutboxItem.id).where(models.OutboxItem.recipient == str(person.id)))

        await place.until(answered, 60)
        # What the chat may get at once, and not one more.
        assert len(shop.bot.drafts) == 2


async def test_they_can_be_switched_off(tmp_path: Path, servers_run: Run) -> None:
    never = {"draft_after_s": 0, "drafts_per_second": 0}
    async with (
        surroundings() as (fake, fake_models),
        floor(tmp_path, servers_run.new_sqlite(tmp_path), fake, fake_models, telegram=never) as place,
    ):
        fake_models.reply = LONG
        shop = await place.tenant()
        person = shop.person()
        person.send(shop.bot, "Muzlatgichga kafolat bormi?")
        assert (await place.fake.wait_message(person.id, bot=shop.bot)).text == LONG
        assert not place.fake.called("sendMessageDraft", shop.bot)
        # Nobody watches: the model need not stream.
        assert not any(seen.stream for seen in fake_models.requests)
