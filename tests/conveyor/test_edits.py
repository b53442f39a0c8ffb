"""Messages that are changed or taken back, and what arrives in the wrong order."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import inbox
from services.conversations.edits import says_other
from tests.conveyor.harness import Floor, Tenant, echo, floor, question_of, surroundings, texts
from tests.fakes.telegram import FakeUser
from tests.servers import Run


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: Run
) -> AsyncIterator[Floor]:
    """One product for all tests of this file, on each database."""
    folder = tmp_path_factory.mktemp("edits")
    with servers_run.database(request.param, folder) as url:
        async with surroundings() as (fake, fake_models), floor(folder, url, fake, fake_models) as opened:
            yield opened


@pytest.fixture(scope="module")
async def shop(place: Floor) -> Tenant:
    """A bot that knows a small document."""
    return await place.tenant()


@pytest.fixture(autouse=True)
def _healthy(place: Floor) -> None:
    place.models.reset()
    place.models.reply = echo
    place.fake.clear_faults()


async def _messages(place: Floor, shop: Tenant, person: FakeUser) -> list[models.Message]:
    rows = await place.rows(
        select(models.Message)
        .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
        .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
        .where(models.Contact.channel_id == shop.shop.channel.id, models.Contact.external_id == str(person.id))
        .order_by(models.Message.id)
    )
    return [row[0] for row in rows]


async def _asked(place: Floor, shop: Tenant, person: FakeUser) -> list[models.Message]:
    return [message for message in await _messages(place, shop, person) if message.author == "customer"]


async def _recent(place: Floor, person: FakeUser) -> Any:
    talk = select(models.Conversation.recent).join(models.Contact)
    return await place.one(talk.where(models.Contact.external_id == str(person.id)))


async def _handled(place: Floor, shop: Tenant) -> None:
    await place.fake.wait_delivered(shop.bot)
    waiting = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "new")

    async def done() -> bool:
        return bool(await place.one(waiting) == 0)

    await place.until(done)


async def test_a_question_changed_before_its_answer_is_answered_as_it_is(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    answering = place.models.hold()
    shop.ask(person)
    await answering.reached.wait()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi №700001")
    person.edit(shop.bot, asked, "Televizorga kafolat bormi №700002")
    await place.fake.wait_delivered(shop.bot)
    place.models.release()
    await place.fake.wait_message(person.id, "№700002", bot=shop.bot)
    await _handled(place, shop)
    assert not any("№700001" in question_of(seen) for seen in place.models.requests)
    assert len(place.fake.messages(person.id, shop.bot)) == 2
    changed = (await _asked(place, shop, person))[-1]
    assert changed.text == "Televizorga kafolat bormi №700002" and changed.edited_at is not None


async def test_an_answered_question_that_means_something_else_now_is_answered_again(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi №700003")
    await place.fake.wait_message(person.id, "№700003", bot=shop.bot)
    person.edit(shop.bot, asked, "Televizorga kafolat bormi №700004")
    await place.fake.wait_message(person.id, "№700004", bot=shop.bot)
    await _handled(place, shop)
    (kept,) = await _asked(place, shop, person)
    assert (kept.text, kept.status) == ("Televizorga kafolat bormi №700004", "answered")
    assert kept.edited_at is not None
    said = " ".join(turn[1] for turn in await _recent(place, person))
    assert "Muzlatgichga" not in said and "Televizorga kafolat bormi" in said
    replies = [m for m in await _messages(place, shop, person) if m.author == "bot"]
    assert [reply.reply_to for reply in replies] == [kept.id, kept.id]


@pytest.mark.parametrize(
    "changed",
    [
        "Muzlatgichga kafolat bormi?",
        "muzlatgichga  KAFOLAT bormi!!!",
        "Muzlatgichga kafolat bormi 🙏",
        "Muzlatgichg kafolat bormi",
        "Музлатгичга кафолат борми",
        "kafolat bormi",
    ],
)
async def test_a_corrected_comma_brings_no_second_answer(place: Floor, shop: Tenant, changed: str) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi")
    await place.fake.wait_message(person.id, bot=shop.bot)
    person.edit(shop.bot, asked, changed)
    await _handled(place, shop)
    await shop.answered([shop.ask(person)])
    assert len(place.fake.messages(person.id, shop.bot)) == 2
    assert (await _asked(place, shop, person))[0].text == changed


@pytest.mark.parametrize(
    ("before", "after", "other"),
    [
        ("iphone 13 narxi", "iphone 15 narxi", True),
        ("Narxi qancha", "narxi qancha?", False),
        ("Сколько стоит доставка", "Сколько стоит гарантия", True),
        ("yetkazib berish bormi", "yetkazib berish bormi Samarqandga", True),
        ("yetkazib berish bormi Samarqandga", "yetkazib berish bormi", False),
        ("", "salom", True),
        ("salom", "", False),
        ("👍", "🙏", False),
    ],
)
def test_what_says_something_else(before: str, after: str, other: bool) -> None:
    assert says_other(before, after) is other


async def test_an_old_question_changed_is_only_kept(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi №700005")
    await place.fake.wait_message(person.id, bot=shop.bot)
    (kept,) = await _asked(place, shop, person)
    async with place.core.db.write() as session:
        earlier = utcnow() - dt.timedelta(minutes=6)
        await session.execute(update(models.Message).where(models.Message.id == kept.id).values(created_at=earlier))
    person.edit(shop.bot, asked, "Televizorga kafolat bormi №700006")
    await _handled(place, shop)
    (kept,) = await _asked(place, shop, person)
    assert kept.text == "Televizorga kafolat bormi №700006" and kept.edited_at is not None
    assert len(place.fake.messages(person.id, shop.bot)) == 1


async def test_better_words_for_what_was_not_understood_are_answered(place: Floor) -> None:
    shop = await place.tenant("Imlo", document=None)
    person = shop.person()
    asked = person.send(shop.bot, "Kosmik kemlar narxi")
    await place.fake.wait_message(person.id, bot=shop.bot)
    person.edit(shop.bot, asked, "Kosmik kemalar narxi")
    await place.fake.wait_message(person.id, bot=shop.bot)


async def test_where_a_person_leads_a_change_is_kept_and_nobody_answers(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi")
    await place.fake.wait_message(person.id, bot=shop.bot)
    async with place.core.db.write() as session:
        talk = await session.scalar(
            select(models.Conversation).join(models.Contact).where(models.Contact.external_id == str(person.id))
        )
        assert talk is not None
        talk.status = "human"
    person.edit(shop.bot, asked, "Televizorga umuman boshqa savol")
    await _handled(place, shop)
    assert [m.text for m in await _asked(place, shop, person)] == ["Televizorga umuman boshqa savol"]
    assert len(place.fake.messages(person.id, shop.bot)) == 1


async def test_a_change_to_nothing_and_of_nothing_known_changes_nothing(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi")
    await place.fake.wait_message(person.id, bot=shop.bot)
    person.edit(shop.bot, asked, "")
    ages_ago = {**asked, "message_id": 424_242, "date": 1_700_000_000}
    person.edit(shop.bot, ages_ago, "Eski xabar")
    await _handled(place, shop)
    assert [m.text for m in await _asked(place, shop, person)] == ["Muzlatgichga kafolat bormi"]
    assert len(place.fake.messages(person.id, shop.bot)) == 1


async def _put(place: Floor, shop: Tenant, *updates: dict[str, Any]) -> None:
    """Deliver updates as webhooks would: all at once, in this order of arrival."""
    card = await place.core.cards.get(place.core, shop.shop.channel.id)
    assert card is not None
    await asyncio.gather(*(inbox.accept_update(place.core, card, one, json.dumps(one)) for one in updates))


def _message(person: FakeUser, number: int, text: str, age_s: int = 0, **more: Any) -> dict[str, Any]:
    at = int(time.time()) - age_s
    return {"message_id": number, "from": person.user(), "chat": person.chat(), "date": at, "text": text, **more}


async def test_a_change_that_comes_first_stands_for_the_message(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    shop.bot.chats.add(person.id)
    old = _message(person, 501, "Muzlatgichga kafolat bormi №700010", 9)
    new = {**old, "text": "Televizorga kafolat bormi №700011", "edit_date": int(time.time()) - 6}
    await _put(place, shop, {"update_id": 6_000_002, "edited_message": new})
    await place.fake.wait_message(person.id, "№700011", bot=shop.bot)
    await _put(place, shop, {"update_id": 6_000_001, "message": old})
    await _handled(place, shop)
    await shop.answered([shop.ask(person)])
    said = texts(place.fake.messages(person.id, shop.bot))
    assert len(said) == 2 and not any("№700010" in text for text in said)
    kept = await _asked(place, shop, person)
    assert kept[0].text == "Televizorga kafolat bormi №700011" and len(kept) == 2


async def test_a_change_and_its_message_at_once_in_any_order_are_one_question(place: Floor, shop: Tenant) -> None:
    for first in (0, 1):
        person = shop.person()
        shop.bot.chats.add(person.id)
        old = _message(person, 601, "Muzlatgichga kafolat bormi №700020", 3)
        new = {**old, "text": "Televizorga kafolat bormi №700021", "edit_date": int(time.time()) - 2}
        both = [
            {"update_id": 6_100_000 + 10 * first, "message": old},
            {"update_id": 6_100_001 + 10 * first, "edited_message": new},
        ]
        blocking = _message(person, 600, "Kafolat bormi №700019", 3)
        answering = place.models.hold()
        await _put(place, shop, {"update_id": 6_099_999 - first, "message": blocking})
        await answering.reached.wait()
        await _put(place, shop, both[first], both[1 - first])
        place.models.release()
        await place.fake.wait_message(person.id, "№700021", bot=shop.bot)
        await _handled(place, shop)
        said = texts(place.fake.messages(person.id, shop.bot))
        assert len(said) == 2 and not any("№700020" in text for text in said)


async def test_an_album_and_two_first_messages_at_once_are_one_talk(place: Floor, shop: Tenant) -> None:
    person = shop.person("en")
    shop.bot.chats.add(person.id)
    photo = [{"file_id": "x", "file_unique_id": "y", "width": 90, "height": 90}]
    album = [
        {
            "update_id": 6_200_000 + n,
            "message": {**_message(person, 700 + n, ""), "photo": photo, "media_group_id": "99"},
        }
        for n in range(10)
    ]
    await _put(place, shop, *album, *album)
    await place.fake.wait_message(person.id, bot=shop.bot)
    await _put(
        place,
        shop,
        {"update_id": 6_200_020, "message": _message(person, 720, "Kafolat bormi №700030")},
        {"update_id": 6_200_021, "message": _message(person, 721, "Kafolat bormi №700031")},
    )
    await place.fake.wait_message(person.id, "№700031", bot=shop.bot)
    await _handled(place, shop)
    assert len(await _asked(place, shop, person)) == 12
    same = models.Contact.channel_id == shop.shop.channel.id, models.Contact.external_id == str(person.id)
    assert await place.one(select(func.count()).select_from(models.Contact).where(*same)) == 1
    # The ten pictures get one line.
    assert len([text for text in texts(place.fake.messages(person.id, shop.bot)) if "№" not in text]) == 1


async def test_a_change_whose_answer_failed_once_is_answered_all_the_same(place: Floor, shop: Tenant) -> None:
    person = shop.person()
    asked = person.send(shop.bot, "Muzlatgichga kafolat bormi №700040")
    await place.fake.wait_message(person.id, "№700040", bot=shop.bot)
    failed: list[int] = []

    async def once(point: str) -> None:
        if point == "received" and not failed:
            failed.append(1)
            raise RuntimeError("something is wrong for a moment")

    original, place.core.pause = place.core.pause, once
    try:
        person.edit(shop.bot, asked, "Televizorga kafolat bormi №700041")
        await place.fake.wait_message(person.id, "№700041", bot=shop.bot, timeout=20)
    finally:
        place.core.pause = original
    assert failed and len(place.fake.messages(person.id, shop.bot)) == 2
