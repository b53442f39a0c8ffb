"""A bot in groups: it answers when it is meant, in the right place, and knows nothing of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import conversations
from services.channels.telegram import ChatPlace, place_of
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, echo, floor, question_of, surroundings
from tests.fakes.telegram import FakeGroup, FakeUser
from tests.servers import Run

_groups = count(-1_002_000_000_000, -1)
HOW = "Hello! 👋 I am {name}. Here I answer when you mention me – @{username} – or reply to my message."
CALLED = "I have called a person 🙋 They will write to you here. Meanwhile you can go on asking me."


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: Run
) -> AsyncIterator[Floor]:
    """One product for all tests of this file, on each database."""
    folder = tmp_path_factory.mktemp("groups")
    with servers_run.database(request.param, folder) as url:
        async with (
            surroundings() as (fake, fake_models),
            floor(folder, url, fake, fake_models, telegram={"group_messages_per_minute": 10_000}) as opened,
        ):
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


@pytest.fixture
def group(place: Floor) -> FakeGroup:
    """A supergroup of its own for each test."""
    return place.fake.group(next(_groups), "Mijozlar")


async def _texts(place: Floor, shop: Tenant, recipient: str) -> list[tuple[str, str]]:
    rows = await place.rows(
        select(models.Message.author, models.Message.text)
        .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
        .join(models.Contact, models.Contact.id == models.Conversation.contact_id)
        .where(models.Contact.channel_id == shop.shop.channel.id, models.Contact.external_id == recipient)
        .order_by(models.Message.id)
    )
    return [(row.author, row.text) for row in rows]


async def _settled(place: Floor, shop: Tenant) -> None:
    """Wait until whatever came so far has been handled."""
    await place.fake.wait_delivered(shop.bot)
    waiting = select(func.count()).select_from(models.InboxItem).where(models.InboxItem.status == "new")

    async def done() -> bool:
        return bool(await place.one(waiting) == 0)

    await place.until(done)


def ask(shop: Tenant, person: FakeUser, group: FakeGroup, words: str, **more: Any) -> dict[str, Any]:
    return person.send(shop.bot, words, group=group, **more)


def test_a_recipient_says_where_it_is() -> None:
    for text, where in (
        ("5", ChatPlace("5")),
        ("-1001", ChatPlace("-1001")),
        ("-1001#17", ChatPlace("-1001", "17")),
        ("bc/5", ChatPlace("5", connection="bc")),
        ("b/c/5", ChatPlace("5", connection="b/c")),
    ):
        assert place_of(text) == where and str(where) == text


async def test_a_mention_is_answered_as_a_reply_and_the_rest_is_not_kept(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    secret, aziza, bek = "Mening parolim 1234", shop.person(), shop.person()
    ask(shop, aziza, group, secret)
    ask(shop, bek, group, "@somebody_else kafolat bormi?")
    asked = ask(shop, bek, group, f"@{shop.bot.username.upper()} muzlatgichga kafolat bormi №1")
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    assert sent.text == "Ha, bor №1"
    assert sent.params["reply_parameters"] == {
        "message_id": asked["message_id"],
        "allow_sending_without_reply": True,
    }
    assert question_of(place.models.requests[-1]) == "muzlatgichga kafolat bormi №1"
    await _settled(place, shop)
    assert await _texts(place, shop, str(group.id)) == [
        ("customer", "muzlatgichga kafolat bormi №1"),
        ("bot", "Ha, bor №1"),
    ]
    assert len(place.fake.messages(group.id, shop.bot)) == 1
    kept = select(models.InboxItem.payload).where(models.InboxItem.channel_id == shop.shop.channel.id)
    assert all(secret not in row.payload for row in await place.rows(kept))
    contact = select(models.Contact.name).where(models.Contact.external_id == str(group.id))
    assert await place.one(contact) == "Mijozlar"
    for person in (aziza, bek):
        known = select(func.count()).where(models.Contact.external_id == str(person.id))
        assert await place.one(known) == 0


async def test_who_answers_the_bot_is_heard_and_who_answers_others_is_not(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    person, other = shop.person(), shop.person()
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №2")
    first = await place.fake.wait_message(group.id, "№2", bot=shop.bot)
    ask(shop, other, group, "Konditsionerga ham bormi №3", reply_to=first)
    await place.fake.wait_message(group.id, "№3", bot=shop.bot)
    other.message(
        shop.bot, group, text="Menimcha yo‘q №4", reply_to_message={"message_id": 1, "from": person.user(), "date": 1}
    )
    named = {"type": "text_mention", "offset": 0, "length": 3, "user": shop.bot.user()}
    other.message(shop.bot, group, text="Bot kafolat bormi №5", entities=[named])
    await place.fake.wait_message(group.id, "№5", bot=shop.bot)
    said = " ".join(text for _, text in await _texts(place, shop, str(group.id)))
    assert "№3" in said and "№4" not in said
    # The model sees who said what.
    assert "Aziza: kafolat bormi №2" in place.models.requests[-1].text


async def test_several_people_at_once_get_an_answer_each(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    first, second = shop.person(), shop.person()
    answering = place.models.hold()
    ask(shop, first, group, f"@{shop.bot.username} kafolat bormi №11")
    await answering.reached.wait()
    asked = [
        ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №{number}")
        for person, number in ((first, 12), (second, 13))
    ]
    await place.fake.wait_delivered(shop.bot)
    place.models.release()
    for message, number in zip(asked, (12, 13), strict=True):
        sent = await place.fake.wait_message(group.id, f"№{number}", bot=shop.bot)
        assert sent.params["reply_parameters"]["message_id"] == message["message_id"]


async def test_each_topic_is_a_talk_of_its_own(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    person = shop.person()
    shop.bot.chats.add(group.id)
    prices, repairs = group.topic(shop.bot, "Narxlar"), group.topic(shop.bot, "Ta’mir")
    ask(shop, person, group, "Bu yerda jim", thread=prices)
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №21", thread=prices)
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №22", thread=repairs)
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №23")
    for number, thread in ((21, prices), (22, repairs), (23, None)):
        sent = await place.fake.wait_message(group.id, f"№{number}", bot=shop.bot)
        assert sent.params.get("message_thread_id") == thread
    for recipient, number in ((f"{group.id}#{prices}", 21), (f"{group.id}#{repairs}", 22), (str(group.id), 23)):
        assert await _texts(place, shop, recipient) == [
            ("customer", f"kafolat bormi №{number}"),
            ("bot", f"Ha, bor №{number}"),
        ]
    name = select(models.Contact.name).where(models.Contact.external_id == f"{group.id}#{prices}")
    assert await place.one(name) == "Mijozlar · Narxlar"
    # A person answers into the topic.
    talk = select(models.Conversation).join(models.Contact).where(models.Contact.external_id == f"{group.id}#{repairs}")
    async with place.core.db.write() as session:
        found = await session.scalar(talk)
        assert found is not None
        row = await conversations.get(session, shop.shop.owner, found.id)
        await conversations.operator_reply(session, row, "Ustamiz ertaga boradi")
    place.core.bell.ring("outbox")
    sent = await place.fake.wait_message(group.id, "Ustamiz", bot=shop.bot)
    assert sent.params["message_thread_id"] == repairs


@pytest.mark.parametrize(
    ("text", "answered"),
    [
        ("/help", True),
        ("/start", True),
        ("/help@{own}", True),
        ("/HELP@{own}", True),
        ("/ban spammer", False),
        ("/help@other_bot", False),
        ("/price@other_bot", False),
        ("/help@{own}x", False),
    ],
)
async def test_commands(place: Floor, shop: Tenant, group: FakeGroup, text: str, answered: bool) -> None:
    person = shop.person()
    ask(shop, person, group, text.format(own=shop.bot.username))
    await _settled(place, shop)
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №31")
    await place.fake.wait_message(group.id, "№31", bot=shop.bot)
    assert len(place.fake.messages(group.id, shop.bot)) == 1 + answered
    assert len(await _texts(place, shop, str(group.id))) == 2 + 2 * answered


async def test_only_called_by_its_name_it_says_what_it_can_do(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    ask(shop, shop.person("uz"), group, f"@{shop.bot.username}")
    assert "/operator" in (await place.fake.wait_message(group.id, bot=shop.bot)).text


async def test_added_it_says_how_to_address_it_and_removed_it_writes_no_more(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    person = shop.person("uz")
    group.add(shop.bot, person)
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    assert sent.text == translate("uz", HOW, name=shop.shop.bot.name, username=shop.bot.username)
    assert not sent.buttons and "reply_parameters" not in sent.params
    assert await _texts(place, shop, str(group.id)) == [("system", sent.text)]
    # What it may do there changes: nothing new.
    group.add(shop.bot, person, status="administrator", old="member")
    group.add(shop.bot, person, status="kicked", old="administrator")
    since = select(models.Contact.unreachable_since).where(models.Contact.external_id == str(group.id))

    async def gone() -> Any:
        return await place.one(since)

    await place.until(gone)
    assert len(place.fake.messages(group.id, shop.bot)) == 1
    group.add(shop.bot, person, old="kicked")
    await place.fake.wait_message(group.id, bot=shop.bot)
    assert await place.one(since) is None


async def test_start_and_language_in_a_group_have_no_buttons(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    person = shop.person("en")
    ask(shop, person, group, f"/start@{shop.bot.username}")
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    assert sent.text == HOW.format(name=shop.shop.bot.name, username=shop.bot.username) and not sent.buttons
    ask(shop, person, group, f"/language@{shop.bot.username}")
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    assert sent.text == "I answer in the language that you write in." and not sent.buttons


async def test_a_button_pressed_in_a_group_is_answered_to_that_person_only(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    person, stranger = shop.person("en"), shop.person("en")
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №41")
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    press = stranger.press(sent, "lang:ru", stale=True)
    await place.fake.wait_until(lambda: press.answered)
    # The group has spoken Uzbek.
    assert press.text == translate("uz", "This button is old. Please write your question.")
    await _settled(place, shop)
    chosen = select(models.Contact.language_chosen).where(models.Contact.external_id == str(group.id))
    assert await place.one(chosen) is False
    assert len(place.fake.messages(group.id, shop.bot)) == 1


async def test_a_person_can_be_called_and_then_leads(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    person = shop.person("uz")
    ask(shop, person, group, f"@{shop.bot.username} operator kerak")
    assert (await place.fake.wait_message(group.id, bot=shop.bot)).text == translate("uz", CALLED)
    await place.noticed(shop, "operator_wanted")


async def test_anonymous_administrators_are_people_and_bots_and_channels_are_not(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    mention = f"@{shop.bot.username}"

    def marked(text: str) -> dict[str, Any]:
        return {"text": text, "entities": [{"type": "mention", "offset": 0, "length": len(mention)}]}

    other_bot = {"id": 7_700_000_999, "is_bot": True, "first_name": "Boshqa", "username": "boshqa_bot"}
    group.say(shop.bot, other_bot, **marked(f"{mention} kafolat bormi №51"))
    channel = {"id": -1_003_000_000_001, "type": "channel", "title": "Kanal"}
    telegram = {"id": 777_000, "is_bot": False, "first_name": "Telegram"}
    group.say(shop.bot, telegram, sender_chat=channel, is_automatic_forward=True, **marked(f"{mention} post №52"))
    shop.bot.push("channel_post", {"message_id": 9, "chat": channel, "date": 1, **marked(f"{mention} №53")})
    group.anonymous(shop.bot, **marked(f"{mention} kafolat bormi №54"))
    as_channel = {"id": 136_817_688, "is_bot": True, "first_name": "Channel", "username": "Channel_Bot"}
    group.say(shop.bot, as_channel, sender_chat=channel, **marked(f"{mention} kafolat bormi №55"))
    await place.fake.wait_message(group.id, "№54", bot=shop.bot)
    await place.fake.wait_message(group.id, "№55", bot=shop.bot)
    await _settled(place, shop)
    said = " ".join(text for _, text in await _texts(place, shop, str(group.id)))
    assert not any(number in said for number in ("№51", "№52", "№53"))
    assert len(place.fake.messages(group.id, shop.bot)) == 2


async def test_a_contact_shared_in_a_group_is_not_kept_as_its_phone(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    person = shop.person("en")
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №61")
    sent = await place.fake.wait_message(group.id, bot=shop.bot)
    contact = {"phone_number": "998901234567", "first_name": "A", "user_id": person.id}
    person.message(shop.bot, group, contact=contact, reply_to_message=sent.wire)
    assert "/operator" in (await place.fake.wait_message(group.id, bot=shop.bot)).text
    assert await place.one(select(models.Contact.phone).where(models.Contact.external_id == str(group.id))) is None


async def test_a_group_that_becomes_a_supergroup_stays_one_talk(place: Floor, shop: Tenant) -> None:
    small, person = place.fake.group(-700_001, "Kichik"), shop.person()
    ask(shop, person, small, f"@{shop.bot.username} kafolat bormi №71")
    await place.fake.wait_message(small.id, bot=shop.bot)
    grown = small.migrate(shop.bot, -1_001_700_001)
    moved = select(func.count()).where(models.Contact.external_id == str(grown.id))

    async def known() -> bool:
        return bool(await place.one(moved))

    await place.until(known)
    ask(shop, person, grown, f"@{shop.bot.username} kafolat bormi №72")
    await place.fake.wait_message(grown.id, "№72", bot=shop.bot)
    said = [text for author, text in await _texts(place, shop, str(grown.id)) if author == "customer"]
    assert said == ["kafolat bormi №71", "kafolat bormi №72"]
    assert await place.one(select(func.count()).where(models.Contact.external_id == str(small.id))) == 0


async def test_an_edit_in_a_group_counts_where_the_bot_was_or_is_meant(
    place: Floor, shop: Tenant, group: FakeGroup
) -> None:
    person = shop.person()
    overheard = ask(shop, person, group, "Sir №81")
    person.edit(shop.bot, overheard, "Sir yana №82")
    unmeant = ask(shop, person, group, "muzlatgichga kafolat bormi №83")
    await _settled(place, shop)
    mention = f"@{shop.bot.username}"
    entity = {"type": "mention", "offset": 0, "length": len(mention)}
    person.edit(shop.bot, {**unmeant, "entities": [entity]}, f"{mention} muzlatgichga kafolat bormi №83")
    await place.fake.wait_message(group.id, "№83", bot=shop.bot)
    await _settled(place, shop)
    said = " ".join(text for _, text in await _texts(place, shop, str(group.id)))
    assert "№81" not in said and "№82" not in said


async def test_a_private_chat_of_the_same_person_is_another_talk(place: Floor, shop: Tenant, group: FakeGroup) -> None:
    person = shop.person()
    ask(shop, person, group, f"@{shop.bot.username} kafolat bormi №91")
    await place.fake.wait_message(group.id, "№91", bot=shop.bot)
    person.send(shop.bot, "kafolat bormi №92")
    sent = await place.fake.wait_message(person.id, "№92", bot=shop.bot)
    assert "reply_parameters" not in sent.params
    assert "№91" not in place.models.requests[-1].text
