"""Model trouble ends in an answer. Each case has an owner with an OpenAI key of its own, so that no breaker is shared."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from db import models
from services import bots
from tests.conveyor.clock import due
from tests.conveyor.harness import Floor, Tenant, echo, floor, surroundings
from tests.fakes.models import Seen
from tests.servers import Run


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """A product without keys of its own and with little patience."""
    async with surroundings() as (fake, fake_models):
        environment = {"GEMINI_API_KEY": "", "OPENAI_BASE_URL": f"{fake_models.url}/v1"}
        patience = {"deadline_s": 2, "first_byte_s": 0.5}
        folder = tmp_path_factory.mktemp("models")
        async with floor(
            folder, servers_run.new_sqlite(folder), fake, fake_models, environment=environment, ai=patience
        ) as opened:
            yield opened


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Floor]:
    """A product that waits for its model, and shows that it does when the clock is turned."""
    folder = tmp_path_factory.mktemp("patient")
    async with (
        surroundings() as (fake, fake_models),
        floor(
            folder, servers_run.new_sqlite(folder), fake, fake_models, telegram={"typing_after_ms": 3_600_000}
        ) as opened,
    ):
        yield opened


async def _tenant(place: Floor) -> tuple[Tenant, str]:
    tenant = await place.tenant()
    key = f"sk-CANARY-own-key-{tenant.bot.id}-0123456789"
    async with place.core.db.write() as session:
        bot = await bots.get(session, tenant.shop.owner, tenant.shop.bot.id)
        await bots.set_openai_key(session, bot, key, place.core.crypto)
    return tenant, key


async def _usage(place: Floor, tenant: Tenant) -> list[models.AIUsage]:
    rows = await place.rows(
        select(models.AIUsage).where(models.AIUsage.bot_id == tenant.shop.bot.id).order_by(models.AIUsage.id)
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    "fault",
    ["429", "insufficient_quota", "500", "503", "cut", "silence", "drip", "endless", "html", "broken_json", "empty",
     "key_revoked", "retired"],
)  # fmt: skip
async def test_trouble_ends_in_a_quoted_passage(place: Floor, fault: str) -> None:
    tenant, key = await _tenant(place)
    place.models.fail(fault, key=key)
    person = tenant.person("uz")
    person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
    sent = await place.fake.wait_message(person.id, bot=tenant.bot)
    assert "3 yil" in sent.text
    assert len(place.fake.messages(person.id, tenant.bot)) == 1
    usage = await _usage(place, tenant)
    assert usage and all(row.outcome != "ok" and row.own_key for row in usage)
    if fault == "key_revoked":
        assert (await place.noticed(tenant, "key_refused")).params["provider"] == "OpenAI"


async def test_a_passing_trouble_is_tried_again_and_every_call_is_noted(place: Floor) -> None:
    tenant, key = await _tenant(place)
    place.models.fail("500", key=key, times=1)
    place.models.reply = "Ha, 3 yil"
    person = tenant.person("uz")
    person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
    assert (await place.fake.wait_message(person.id, bot=tenant.bot)).text == "Ha, 3 yil"
    assert [row.outcome for row in await _usage(place, tenant)] == ["transient", "ok"]
    assert (await _usage(place, tenant))[-1].input_tokens == 100


async def test_an_answer_in_another_language_is_asked_for_once_more(patient: Floor) -> None:
    tenant = await patient.tenant()
    english = "Yes, of course, all of our refrigerators have an official warranty of three years from us."
    uzbek = "Ha, albatta, barcha muzlatgichlarimizga uch yillik rasmiy kafolat beramiz, marhamat."
    asked: list[Seen] = []

    def reply(seen: Seen) -> str:
        asked.append(seen)
        return uzbek if "IMPORTANT" in seen.text else english

    patient.models.reply = reply
    person = tenant.person("uz")
    person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
    assert (await patient.fake.wait_message(person.id, bot=tenant.bot)).text == uzbek
    assert len(asked) == 2


async def test_what_a_model_does_not_know_is_kept_for_the_owner(patient: Floor) -> None:
    tenant = await patient.tenant()
    sorry = "Kechirasiz, bu haqda ma'lumotim yo'q 🙏 /operator deb yozing."
    patient.models.reply = f"<no_answer>\n{sorry}"
    person = tenant.person("uz")
    person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
    assert (await patient.fake.wait_message(person.id, bot=tenant.bot)).text == sorry
    kept = select(models.UnansweredQuestion.question).where(models.UnansweredQuestion.bot_id == tenant.shop.bot.id)
    assert await patient.rows(kept) == [("Muzlatgichlarga kafolat bormi?",)]
    said = select(models.Message.answered).where(models.Message.text == sorry)
    assert await patient.rows(said) == [(False,)]


async def test_a_huge_answer_is_bounded(place: Floor) -> None:
    tenant, key = await _tenant(place)
    place.models.fail("huge", key=key)
    person = tenant.person("uz")
    person.send(tenant.bot, "Muzlatgichlarga kafolat bormi?")
    sent = await place.fake.wait_message(person.id, bot=tenant.bot)
    assert 0 < len(sent.text) <= place.settings.ai.max_answer_chars


async def test_the_typing_sign_appears_only_when_it_takes_long_and_stays(patient: Floor) -> None:
    patient.models.reply = echo
    shop = await patient.tenant()
    quick, slow = shop.person(), shop.person()
    await shop.answered([shop.ask(quick)])
    patient.models.hold()
    number = shop.ask(slow)
    # It fades after five seconds, so it comes again and again.
    for times in (1, 2, 3):
        await due("typing")
        await patient.fake.wait_call("sendChatAction", bot=shop.bot, times=times)
    patient.models.release()
    await shop.answered([number])
    shown = {(chat, action) for bot, chat, action, _ in patient.fake.actions if bot is shop.bot}
    assert shown == {(slow.id, "typing")}
