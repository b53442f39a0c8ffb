"""One bot on four channels at once: the same question in four languages, and a person in a forum group for all of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from tests.composition import Shop, address, make_shop
from tests.conveyor.harness import Floor, floor, new_token, question_of
from tests.conveyor.lines import connect_instagram, connect_whatsapp
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.fakes.instagram import FakeAccount, FakeInstagram
from tests.fakes.meta import ACCOUNT, INSTAGRAM_ASKER, INSTAGRAM_TOKEN, SECRET, WHATSAPP_ASKER, add_number
from tests.fakes.models import FakeModels, Seen
from tests.fakes.telegram import FakeBot, FakeTelegram, FakeUser
from tests.fakes.telegram_people import FakeGroup
from tests.web.panel import Site

Fakes = tuple[FakeTelegram, FakeModels]

FACTORY = "7700000001:FACTORY_token_not_real_AAAAAAAAAAAAA"
GROUP = -1_001_234_567_899
SITE = "https://dokon.example"
CUSTOMER = 910_700_001
WARRANTY = "3 yil rasmiy kafolat"
# What a model says that was told in which language to answer, and what the customer gets of it.
ANSWERS = {
    "o‘zbek lotin": "Ha, barcha muzlatgichlarga 3 yil kafolat bor",
    "ўзбек кирилл": "Ha, barcha muzlatgichlarga 3 yil kafolat bor",
    "русский": "Да, на все холодильники гарантия 3 года",
    "in English": "Yes, all refrigerators have a warranty of 3 years",
}


def _model(seen: Seen) -> str:
    """Answer out of the passage, in the language that the prompt asks for; a question with a number gets it back."""
    assert WARRANTY in seen.text
    system = str(seen.body["systemInstruction"])
    said = next(answer for language, answer in ANSWERS.items() if language in system)
    return " ".join([said, *re.findall(r"№\d+", question_of(seen))])


@dataclass
class Customer:
    """Somebody on one of the channels. ``heard``: all that was written to them, oldest first."""

    language: str
    title: str
    question: str
    answer: str
    say: Callable[[str], Awaitable[None]]
    heard: Callable[[], Awaitable[list[str]]]
    sees_typing: Callable[[], bool] = lambda: True


@dataclass
class Street:
    """A bot on all channels, and everybody around it."""

    place: Floor
    shop: Shop
    customers: list[Customer]
    owner: FakeUser
    group: FakeGroup
    factory: FakeBot
    forget_signs: Callable[[], None]

    async def hears(self, customer: Customer, words: str) -> str:
        """Wait until a customer has heard these words; return the whole message."""

        async def look() -> str | None:
            return next((text for text in reversed(await customer.heard()) if words in text), None)

        return str(await self.place.until(look))

    async def sees_typing(self, customer: Customer) -> None:
        """Wait until a customer is shown that somebody writes."""

        async def look() -> bool:
            return customer.sees_typing()

        await self.place.until(look)

    def topic(self, customer: Customer, mark: str) -> int | None:
        """Return the topic of a customer's conversation where its name tells this state."""
        named = ((number, one["forum_topic_created"]["name"]) for number, one in self.group.topics.items())
        return next((number for number, name in named if mark in name and name.endswith(customer.title)), None)

    async def topics(self, mark: str) -> list[int]:
        """Wait until every conversation is a topic in this state; return them in the customers' order."""

        def look() -> list[int] | None:
            found = [number for each in self.customers if (number := self.topic(each, mark)) is not None]
            return found if len(found) == len(self.customers) else None

        return await self.place.fake.wait_until(look, 30)

    async def statuses(self) -> set[str]:
        rows = await self.place.rows(select(models.Conversation.status).distinct())
        return {row[0] for row in rows}


async def _web(place: Floor, session: aiohttp.ClientSession, shop: Shop) -> Customer:
    """Return a visitor of a site with the widget."""
    base = f"{address(place.core)}/widget/{shop.bot.public_id}"
    async with session.get(f"{base}/config", headers={"Origin": SITE}) as answer:
        assert answer.status == 200, await answer.text()
        headers = {"Origin": SITE, "X-Chat-Secret": (await answer.json())["secret"], "Accept-Language": "en"}

    async def say(text: str) -> None:
        async with session.post(f"{base}/messages", headers=headers, data={"text": text}) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def heard() -> list[str]:
        async with session.get(f"{base}/messages", headers=headers) as answer:
            items = (await answer.json())["items"]
        return [item["text"] for item in items if item["author"] != "customer"]

    return Customer("en", "Web", "Do refrigerators have a warranty?", ANSWERS["in English"], say, heard)


def _telegram(fake: FakeTelegram, bot: FakeBot) -> Customer:
    person = fake.user(CUSTOMER, "uz", first_name="Sardor")

    async def say(text: str) -> None:
        person.send(bot, text)

    async def heard() -> list[str]:
        return [sent.text for sent in fake.messages(person.id, bot)]

    def typing() -> bool:
        return bool(fake.called("sendChatAction", bot))

    return Customer("uz", "Telegram", "Muzlatgichlarga kafolat bormi?", ANSWERS["o‘zbek lotin"], say, heard, typing)


def _whatsapp(place: Floor, graph: FakeGraph, number: FakeNumber, session: aiohttp.ClientSession) -> Customer:
    async def say(text: str) -> None:
        body = graph.body(number.message(WHATSAPP_ASKER, text))
        webhook = f"{address(place.core)}/whatsapp/webhook"
        assert await graph.deliver(session, webhook, body, SECRET) == 200

    async def heard() -> list[str]:
        return [sent["text"]["body"] for sent in number.sent if sent["type"] == "text"]

    answer = "Ҳа, барча музлатгичларга 3 йил кафолат бор"
    question = "Музлатгичларга кафолат борми?"
    return Customer("uz-Cyrl", "WhatsApp", question, answer, say, heard, lambda: bool(number.typing))


def _instagram(place: Floor, account: FakeAccount, session: aiohttp.ClientSession) -> Customer:
    async def say(text: str) -> None:
        body = account.body(account.message(INSTAGRAM_ASKER, text))
        webhook = f"{address(place.core)}/instagram/webhook"
        assert await FakeGraph.deliver(session, webhook, body, SECRET) == 200

    async def heard() -> list[str]:
        return account.texts()

    def typing() -> bool:
        return (INSTAGRAM_ASKER, "typing_on") in account.actions

    question = "Есть ли гарантия на холодильники?"
    return Customer("ru", "Instagram", question, ANSWERS["русский"], say, heard, typing)


@pytest.fixture
async def street(database_url: str, tmp_path: Path, fakes: Fakes) -> AsyncIterator[Street]:
    """A bot on Telegram, WhatsApp, Instagram and a site, whose owner has a group with topics."""
    fake, fake_models = fakes
    fake_models.reply = _model
    factory, tenant = fake.add_bot(FACTORY, "factory_bot", name="Factory"), fake.add_bot(new_token())
    owner = fake.user(900_700_001, "en", first_name="Aziza")
    factory.chats.add(owner.id)
    async with FakeGraph() as graph, FakeInstagram() as meta:
        number = add_number(graph)
        account = meta.add_account(ACCOUNT, token=INSTAGRAM_TOKEN, app_secret=SECRET)
        environment = {
            "TELEGRAM_BOT_TOKEN": FACTORY,
            "META_GRAPH_BASE": graph.base_url,
            "INSTAGRAM_GRAPH_BASE": meta.base_url,
        }
        quick = {"group_messages_per_minute": 60_000}
        async with (
            floor(tmp_path, database_url, *fakes, role="all", environment=environment, telegram=quick) as place,
            aiohttp.ClientSession() as session,
        ):
            shop = await make_shop(place.core, telegram=tenant.token)
            async with place.core.db.write() as database:
                user = await database.get_one(models.User, shop.owner.id)
                user.telegram_id, user.language = owner.id, "en"
            assert (await connect_whatsapp(place.core, session, shop))[0] == 201
            assert (await connect_instagram(place.core, session, shop))[0] == 201
            await fake.wait_call("getUpdates", bot=tenant)
            group = fake.group(GROUP, "Operatorlar")
            group.forum = True
            group.add(factory, owner, status="administrator", manages=True)
            asked = await fake.wait_message(GROUP, "Whose conversations", bot=factory, timeout=60)
            owner.press(asked, shop.bot.name)
            await fake.wait_message(GROUP, "This group is now an inbox", bot=factory)
            customers = [
                _telegram(fake, tenant),
                _whatsapp(place, graph, number, session),
                _instagram(place, account, session),
                await _web(place, session, shop),
            ]

            def forget_signs() -> None:
                number.typing.clear()
                account.actions.clear()
                fake.calls.clear()

            yield Street(place, shop, customers, owner, group, factory, forget_signs)


async def test_one_bot_answers_on_four_channels_and_a_group_takes_over_and_gives_back(street: Street) -> None:
    place, fake = street.place, street.place.fake
    # The same question, in the language and the script in which each of them writes.
    for customer in street.customers:
        await customer.say(customer.question)
    for customer in street.customers:
        assert await street.hears(customer, "3") == customer.answer
    rows = await place.rows(
        select(models.Channel.kind, models.Message.language, models.Message.answered)
        .join(models.Conversation, models.Conversation.id == models.Message.conversation_id)
        .join(models.Channel, models.Channel.id == models.Conversation.channel_id)
        .where(models.Message.author == "bot")
    )
    assert {tuple(row) for row in rows} == {
        ("telegram", "uz", True),
        ("whatsapp", "uz-Cyrl", True),
        ("instagram", "ru", True),
        ("web", "en", True),
    }
    threads = await street.topics("🤖")
    assert len(set(threads)) == 4

    # A person takes each of them over, in the group; the bot is silent then, and what is said goes there.
    for customer, thread in zip(street.customers, threads, strict=True):
        street.owner.send(street.factory, f"Salom, {customer.title}", group=street.group, thread=thread)
    for customer in street.customers:
        await street.hears(customer, f"Salom, {customer.title}")
    assert await street.topics("👤") == threads
    assert await street.statuses() == {"human"}
    asked = len(place.models.requests)
    for number, customer in enumerate(street.customers):
        await customer.say(f"{customer.question} №{number}")
        await fake.wait_message(GROUP, f"{customer.question} №{number}", bot=street.factory, timeout=30)
    assert len(place.models.requests) == asked
    for customer in street.customers:
        said = await customer.heard()
        assert said[-1] == f"Salom, {customer.title}" and len(said) == 2

    # Given back, the bot answers what the person left, in the same language as before.
    for thread in threads:
        street.owner.send(street.factory, "/bot", group=street.group, thread=thread)
    for number, customer in enumerate(street.customers):
        assert (await street.hears(customer, f"№{number}")).startswith(customer.answer)
    assert await street.topics("🤖") == threads
    # Nobody has heard what was for another.
    for customer in street.customers:
        others = [each.title for each in street.customers if each is not customer]
        assert not [text for text in await customer.heard() if any(f"Salom, {title}" in text for title in others)]

    # Wished for by the customer: the topic says so.
    for customer in street.customers:
        await customer.say("/operator")
    assert await street.topics("🔔") == threads


async def test_from_the_panel_a_person_is_seen_to_write_writes_and_gives_back_on_every_channel(street: Street) -> None:
    place = street.place
    for number, customer in enumerate(street.customers):
        await customer.say(f"{customer.question} №{number}")
        await street.hears(customer, f"№{number}")
    rows = await place.rows(
        select(models.Channel.kind, models.Conversation.id).join(
            models.Channel, models.Channel.id == models.Conversation.channel_id
        )
    )
    talks = {row[0]: row[1] for row in rows}
    site = Site(place.core, address(place.core))
    try:
        browser = await site.signed_in(street.shop.owner)
        street.forget_signs()
        for customer in street.customers:
            path = f"/inbox/{talks[customer.title.lower()]}"
            assert customer.question in (await browser.get(path)).visible()
            assert (await browser.post(f"{path}/presence/typing")).status == 204
            await street.sees_typing(customer)
            assert (await browser.post(path, text=f"Salom, {customer.title}")).status == 303
            await street.hears(customer, f"Salom, {customer.title}")
        assert await street.statuses() == {"human"}
        for number, customer in enumerate(street.customers):
            await customer.say(f"{customer.question} №1{number}")
        for number, customer in enumerate(street.customers):
            path = f"/inbox/{talks[customer.title.lower()]}"
            assert (await browser.post(f"{path}/status", status="bot")).status == 303
            assert (await street.hears(customer, f"№1{number}")).startswith(customer.answer)
        assert await street.statuses() == {"bot"}
        for customer in street.customers:
            assert [text for text in await customer.heard() if "Salom, " in text] == [f"Salom, {customer.title}"]
    finally:
        await site.close()
