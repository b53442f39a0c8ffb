"""A person and the bot in one talk, and a customer who asks for more than there is."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from db import models
from services import conversations, metrics
from services.i18n import translate
from tests.conveyor.harness import Floor, Tenant, floor, surroundings
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]


async def test_how_long_customers_waited_is_measured(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    def count() -> float:
        return metrics.REGISTRY.get_sample_value("botfactory_answer_seconds_count") or 0.0

    async with floor(tmp_path, database_url, *fakes) as place:
        tenant = await place.tenant()
        before = count()
        await tenant.answered([tenant.ask(tenant.person())])
        assert count() == before + 1


async def _takes_over(place: Floor, tenant: Tenant) -> str:
    """Let the owner answer in the tenant's only talk; return its id."""
    talk_id = str(await place.one(select(models.Conversation.id)))
    async with place.core.db.write() as session:
        row = await conversations.get(session, tenant.shop.owner, talk_id)
        await conversations.operator_reply(session, row, "Salom, men Dilnozaman")
    place.core.bell.ring("outbox")
    return talk_id


async def _stored(place: Floor, number: int) -> None:
    """Wait until so many messages of customers are stored and nothing is open."""

    async def done() -> bool:
        stored = select(func.count()).where(models.Message.author == "customer")
        return await place.one(stored) == number and not await place.one(select(func.sum(models.Lane.pending)))

    await place.until(done)


async def test_the_owner_hears_of_a_customer_who_writes_to_the_person(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        tenant = await place.tenant()
        person = tenant.person()
        await tenant.answered([tenant.ask(person)])
        talk_id = await _takes_over(place, tenant)
        await fake.wait_message(person.id, "Dilnoza")
        assert not await place.notices(tenant)
        tenant.ask(person)
        notice = await place.noticed(tenant, "customer_wrote")
        assert notice.key == f"operator:{talk_id}"
        tenant.ask(person)
        await _stored(place, 3)
        # One trouble, however much is written; the answer ends it.
        assert [row.count for row in await place.notices(tenant)] == [2]
        await _takes_over(place, tenant)
        assert all(row.resolved_at for row in await place.notices(tenant))
        assert len([sent for sent in fake.messages(person.id) if "№" in sent.text]) == 1


async def test_a_message_that_never_ends_is_set_aside_and_the_talk_goes_on(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    fake_models.latency_s = 3600
    stuck = {"handling_timeout_s": 0.5, "max_attempts": 1, "idle_poll_s": 0.05}
    async with floor(tmp_path, database_url, fake, fake_models, queue=stuck, ai={"deadline_s": 600}) as place:
        tenant = await place.tenant()
        person = tenant.person()
        tenant.ask(person)
        await place.noticed(tenant, "message_failed")
        sorry = "Sorry, I could not handle your message 🙏 A person will look at it. You can write again."
        await fake.wait_message(person.id, translate("uz", sorry))
        fake_models.latency_s = 0.0
        number = tenant.ask(person)
        assert (await tenant.answered([number]))[number] == 1


def _floods(person: FakeUser, tenant: Tenant) -> None:
    for _ in range(6):
        person.send_photo(tenant.bot)
        person.send(tenant.bot, "/start")
        person.send(tenant.bot, "operator")


async def test_limits_hold_for_whatever_is_sent(tmp_path: Path, sqlite_url: str) -> None:
    few = {"contact_messages_per_minute": 3}
    async with surroundings() as fakes, floor(tmp_path, sqlite_url, *fakes, limits=few) as place:
        tenant = await place.tenant()
        person = tenant.person()
        _floods(person, tenant)
        await place.fake.wait_delivered(tenant.bot)
        await _stored(place, 18)
        wait = translate("uz", "You write faster than I can answer 🙂 Please wait a minute.")
        await place.fake.wait_message(person.id, wait)
        texts = [sent.text for sent in place.fake.messages(person.id)]
        assert len(texts) <= 4
        assert texts.count(wait) == 1
