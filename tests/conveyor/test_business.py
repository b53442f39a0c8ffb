"""The bot in the private chats of its owner's own account: Telegram Business."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import conversations, notices
from services.errors import Conflict
from tests.conveyor.harness import Floor, Tenant, echo, floor, surroundings, texts
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser
from tests.fakes.telegram_format import Json
from tests.servers import Run

_people = count(930_000_001)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, servers_run: Run
) -> AsyncIterator[Floor]:
    """One product for all tests of this file, on each database."""
    folder = tmp_path_factory.mktemp("business")
    with servers_run.database(request.param, folder) as url:
        async with surroundings() as (fake, fake_models), floor(folder, url, fake, fake_models) as opened:
            yield opened


@pytest.fixture(autouse=True)
def _healthy(place: Floor) -> None:
    place.models.reset()
    place.models.reply = echo
    place.fake.clear_faults()


@pytest.fixture
async def shop(place: Floor) -> Tenant:
    """A bot of its own for each test."""
    return await place.tenant()


async def _account(place: Floor, shop: Tenant) -> FakeUser:
    """Return the owner at the phone: their account is linked with the panel's."""
    person = place.fake.user(next(_people), "uz", first_name="Egasi")
    async with place.core.db.write() as session:
        owner = await session.get(models.User, shop.shop.owner.id)
        assert owner is not None
        owner.telegram_id = person.id
    return person


async def _handled(place: Floor, shop: Tenant) -> None:
    await place.fake.wait_delivered(shop.bot)
    own = models.InboxItem.channel_id == shop.shop.channel.id
    waiting = select(func.count()).select_from(models.InboxItem).where(own, models.InboxItem.status == "new")

    async def done() -> bool:
        return bool(await place.one(waiting) == 0)

    await place.until(done)


async def _said(place: Floor, shop: Tenant) -> list[tuple[str, str]]:
    rows = await place.rows(
        select(models.Message.author, models.Message.text)
        .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
        .where(models.Conversation.channel_id == shop.shop.channel.id)
        .order_by(models.Message.id)
    )
    return [(row.author, row.text) for row in rows]


async def _status(place: Floor, shop: Tenant) -> str:
    talk = select(models.Conversation.status).where(models.Conversation.channel_id == shop.shop.channel.id)
    return str(await place.one(talk))


async def connected(place: Floor, shop: Tenant, **how: bool) -> tuple[FakeUser, Json]:
    owner = await _account(place, shop)
    connection = owner.connect(shop.bot, **how)
    await _handled(place, shop)
    return owner, connection


async def test_a_customer_is_answered_in_the_owners_own_chat(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    assert (await place.noticed(shop, "business_connected")).params["name"] == "Egasi"
    customer = shop.person("uz")
    customer.write_to(owner, shop.bot, connection, "Muzlatgichga kafolat bormi №1")
    sent = await place.fake.wait_message(customer.id, "№1", bot=shop.bot)
    assert sent.params["business_connection_id"] == connection["id"]
    assert not sent.buttons and "reply_parameters" not in sent.params
    contact = select(models.Contact.name).where(models.Contact.external_id == f"{connection['id']}/{customer.id}")
    assert await place.one(contact) == "Aziza"
    # What is said there is a talk of its own: with the bot itself the same person begins anew.
    customer.send(shop.bot, "/start")
    assert (await place.fake.wait_message(customer.id, bot=shop.bot)).buttons


async def test_when_the_owner_writes_the_bot_falls_silent(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №2")
    await place.fake.wait_message(customer.id, "№2", bot=shop.bot)
    owner.write_to(customer, shop.bot, connection, "O‘zim javob beraman")
    customer.write_to(owner, shop.bot, connection, "Rahmat, narxi-chi №3")
    await place.noticed(shop, "customer_wrote")
    await _handled(place, shop)
    assert await _status(place, shop) == "human"
    assert await _said(place, shop) == [
        ("customer", "Kafolat bormi №2"),
        ("bot", "Ha, bor №2"),
        ("operator", "O‘zim javob beraman"),
        ("customer", "Rahmat, narxi-chi №3"),
    ]
    assert len(place.fake.messages(customer.id, shop.bot)) == 1


async def test_a_chat_that_the_owner_began_is_the_owners(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    friend = shop.person()
    owner.write_to(friend, shop.bot, connection, "Kechqurun kelasanmi?")
    friend.write_to(owner, shop.bot, connection, "Kelaman №4")
    await _handled(place, shop)
    assert await _status(place, shop) == "human"
    name = select(models.Contact.name).where(models.Contact.channel_id == shop.shop.channel.id)
    assert await place.one(name) == "Aziza"
    assert not place.fake.messages(friend.id, shop.bot)


async def test_greetings_own_bots_and_notes_to_oneself_are_nobodys_words(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №5")
    await place.fake.wait_message(customer.id, "№5", bot=shop.bot)
    owner.write_to(customer, shop.bot, connection, "Tez orada javob beramiz", is_from_offline=True)
    owner.write_to(customer, shop.bot, connection, "Ha, bor №5", sender_business_bot=shop.bot.user())
    owner.write_to(owner, shop.bot, connection, "Eslatma: sut olish №6")
    await _handled(place, shop)
    assert await _status(place, shop) == "bot"
    assert len(await _said(place, shop)) == 2
    assert not place.fake.messages(owner.id, shop.bot)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"can_reply": False}, "business_no_reply"),
        ({"enabled": False}, "business_off"),
    ],
)
async def test_without_the_right_to_answer_nothing_is_read(
    place: Floor, shop: Tenant, how: dict[str, bool], kind: str
) -> None:
    owner, connection = await connected(place, shop, **how)
    await place.noticed(shop, kind)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №7")
    owner.write_to(customer, shop.bot, connection, "Salom")
    await _handled(place, shop)
    assert not await _said(place, shop)
    assert not place.fake.messages(customer.id, shop.bot)
    # Given the right, it answers at once.
    owner.connect(shop.bot)
    await _handled(place, shop)
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №8")
    await place.fake.wait_message(customer.id, "№8", bot=shop.bot)


async def test_a_strangers_account_gets_nothing_out_of_the_bot(place: Floor, shop: Tenant) -> None:
    await _account(place, shop)
    stranger, customer = shop.person(), shop.person()
    connection = stranger.connect(shop.bot)
    await place.noticed(shop, "business_foreign")
    customer.write_to(stranger, shop.bot, connection, "Kafolat bormi №9")
    stranger.write_to(customer, shop.bot, connection, "Maxfiy gap")
    await _handled(place, shop)
    assert not await _said(place, shop) and not place.fake.messages(customer.id, shop.bot)
    assert not place.models.requests


async def test_a_managers_account_counts_and_an_operators_does_not(place: Floor, shop: Tenant) -> None:
    people = {role: place.fake.user(next(_people), "uz") for role in ("manager", "operator")}
    async with place.core.db.write() as session:
        for role, person in people.items():
            user = models.User(telegram_id=person.id, full_name=role, language="uz")
            session.add(user)
            await session.flush()
            session.add(models.Member(owner_id=shop.shop.owner.id, user_id=user.id, role=role))
    customer = shop.person()
    for number, role in enumerate(("operator", "manager"), 10):
        connection = people[role].connect(shop.bot)
        await _handled(place, shop)
        customer.write_to(people[role], shop.bot, connection, f"Kafolat bormi №{number}")
    await place.fake.wait_message(customer.id, "№11", bot=shop.bot)
    await _handled(place, shop)
    assert len(place.fake.messages(customer.id, shop.bot)) == 1


async def test_another_bots_connection_opens_nothing(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    other = await place.tenant("Boshqa")
    customer = other.person()
    customer.write_to(owner, other.bot, connection, "Kafolat bormi №12")
    await _handled(place, other)
    assert not await _said(place, other) and not place.fake.messages(customer.id, other.bot)


async def test_a_connection_made_before_is_asked_for(place: Floor, shop: Tenant) -> None:
    owner = await _account(place, shop)
    connection = owner.connect(shop.bot, told=False)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №13")
    await place.fake.wait_message(customer.id, "№13", bot=shop.bot)
    customer.write_to(owner, shop.bot, {**connection, "id": "nobody-knows"}, "Kafolat bormi №14")
    await _handled(place, shop)
    assert len(place.fake.messages(customer.id, shop.bot)) == 1
    assert len(place.fake.called("getBusinessConnection", shop.bot)) == 2


async def test_while_telegram_is_away_the_message_waits(place: Floor, shop: Tenant) -> None:
    owner = await _account(place, shop)
    connection = owner.connect(shop.bot, told=False)
    place.fake.fail(429, bot=shop.bot, method="getBusinessConnection", retry_after=0)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №15")
    await place.fake.wait_message(customer.id, "№15", bot=shop.bot, timeout=20)


async def test_changes_and_deletions_are_followed(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    customer = shop.person()
    asked = customer.write_to(owner, shop.bot, connection, "Muzlatgichga kafolat bormi №16")
    sent = await place.fake.wait_message(customer.id, "№16", bot=shop.bot)
    customer.edit(shop.bot, asked, "Televizorga kafolat bormi №17")
    await place.fake.wait_message(customer.id, "№17", bot=shop.bot)
    await _handled(place, shop)
    assert ("customer", "Televizorga kafolat bormi №17") in await _said(place, shop)
    own = owner.write_to(customer, shop.bot, connection, "Narxi 5 mln")
    owner.edit(shop.bot, own, "Narxi 6 mln")
    await _handled(place, shop)
    assert ("operator", "Narxi 6 mln") in await _said(place, shop)
    customer.take_back(shop.bot, asked, own, {**sent.wire})
    await _handled(place, shop)
    said = await _said(place, shop)
    assert [author for author, text in said if not text] == ["customer", "bot", "operator"]
    gone = select(func.count()).select_from(models.Message).where(models.Message.deleted_at.is_not(None))
    talk = select(models.Conversation.id).where(models.Conversation.channel_id == shop.shop.channel.id)
    assert await place.one(gone.where(models.Message.conversation_id.in_(talk))) == 3
    kept = await place.one(
        select(models.Conversation.recent).where(models.Conversation.channel_id == shop.shop.channel.id)
    )
    assert not any("kafolat bormi" in turn[1] or "mln" in turn[1] for turn in kept)


async def test_what_is_taken_back_before_its_answer_never_was(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    customer = shop.person()
    answering = place.models.hold()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №18")
    await answering.reached.wait()
    asked = customer.write_to(owner, shop.bot, connection, "Sir №19")
    customer.take_back(shop.bot, asked)
    await place.fake.wait_delivered(shop.bot)
    place.models.release()
    await place.fake.wait_message(customer.id, "№18", bot=shop.bot)
    await _handled(place, shop)
    assert not any("№19" in text for _, text in await _said(place, shop))
    assert len(place.fake.messages(customer.id, shop.bot)) == 1


async def test_two_bots_that_answer_each_other_stop(
    fakes: tuple[FakeTelegram, FakeModels], sqlite_url: str, tmp_path: Path
) -> None:
    async with floor(tmp_path, sqlite_url, *fakes, limits={"contact_messages_per_hour": 6}) as place:
        shop = await place.tenant()
        owner, connection = await connected(place, shop)
        other = shop.person("en")
        # The other side is a program too: it writes again whatever it is told.
        other.write_to(owner, shop.bot, connection, "Kafolat bormi")
        for heard in range(6):
            await place.fake.wait_message(other.id, bot=shop.bot)
            other.write_to(owner, shop.bot, connection, f"Javob: {heard} kafolat bormi")
        for number in range(20):
            other.write_to(owner, shop.bot, connection, f"Yana {number} kafolat bormi")
        await _handled(place, shop)
        said = texts(place.fake.messages(other.id, shop.bot))
        # Six answers, then one line for the hour, then silence.
        assert len(said) == 7


async def test_a_day_after_the_customers_last_words_nothing_is_tried(place: Floor, shop: Tenant) -> None:
    owner, connection = await connected(place, shop)
    customer = shop.person()
    customer.write_to(owner, shop.bot, connection, "Kafolat bormi №21")
    await place.fake.wait_message(customer.id, "№21", bot=shop.bot)
    mine = models.Conversation.channel_id == shop.shop.channel.id

    async def age(hours: float) -> None:
        async with place.core.db.write() as session:
            moment = utcnow() - dt.timedelta(hours=hours)
            await session.execute(update(models.Conversation).where(mine).values(last_inbound_at=moment))

    async def reply(text: str) -> None:
        talk = await place.one(select(models.Conversation).where(mine))
        async with place.core.db.write() as session:
            row = await conversations.get(session, shop.shop.owner, talk.id)
            await conversations.operator_reply(session, row, text)
        place.core.bell.ring("outbox")

    await age(23)
    await reply("Hali vaqt bor")
    sent = await place.fake.wait_message(customer.id, "Hali vaqt bor", bot=shop.bot)
    assert sent.params["business_connection_id"] == connection["id"]
    await age(25)
    with pytest.raises(Conflict) as refused:
        await reply("Kech qoldim")
    assert refused.value.code == "window_closed" and "Telegram" in refused.value.text.render("en")
    # The bot does not say into a closed door that it is back.
    async with place.core.db.write() as session:
        talk = await session.scalar(select(models.Conversation).where(mine))
        assert talk is not None
        await conversations.set_status(session, await conversations.get(session, shop.shop.owner, talk.id), "bot")
    place.core.bell.ring("inbox")
    await _handled(place, shop)
    # What Telegram itself finds too old is told in the same words.
    await age(1)
    place.fake.fail(400, "Bad Request: BUSINESS_PEER_USAGE_MISSING", bot=shop.bot, method="sendMessage")
    await reply("Telegram boshqacha sanaydi")
    assert "24 hours" in notices.text(await place.noticed(shop, "window_closed"), "en")
    assert len(place.fake.messages(customer.id, shop.bot)) == 2
