"""What the tests of the conveyor share: a product with fakes around it, people who ask, and counting what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import select

from db.models import InboxItem, Lane, Notice, OutboxItem
from services import metrics
from services.core import Core
from services.settings import Settings, read_settings
from tests.composition import FAQ, PLENTY, Shop, make_settings, make_shop, running
from tests.fakes.models import FakeModels, Seen
from tests.fakes.telegram import FakeBot, FakeTelegram, FakeUser, Sent

GEMINI_KEY = "AIzaCANARY_gemini_key_not_real_0123456789"
_numbers = count(1)
_people = count(910_000_000)
_SPLIT = "botfactory_groups_split_total"
_NUMBER = re.compile(r"№(\d+)")


def _priced() -> dict[str, dict[str, Any]]:
    """Return the configured models with prices of their own: each product would start a process to read the price book."""
    ai = read_settings(environment={}, env_file=None).ai
    names = {name.partition(":")[2] for chain in ai.roles.values() for name in chain} | {ai.own_key.model}
    known = {name: facts.model_dump() for name, facts in ai.models.items()}
    return {name: {**known.get(name, {}), "price_in": "1", "price_out": "5"} for name in sorted(names)}


QUICK: Mapping[str, Mapping[str, Any]] = {
    "queue": {"idle_poll_s": 0.05},
    "server": {"shutdown_timeout_s": 10},
    "knowledge": {"not_found_below": 0.0},
    "telegram": {"chat_messages_per_second": 1000, "chat_burst": 1000, "messages_per_second": 10_000},
    "limits": {
        "contact_messages_per_minute": 100_000,
        "contact_messages_per_hour": 100_000,
        "bot_messages_per_minute": 1_000_000,
    },
    # A model that a test holds back, or that stands with this whole machine, is not a silent one.
    "ai": {"first_byte_s": 60, "deadline_s": 90, "models": _priced()},
}
"""No waiting for the network's limits, and the model is asked whatever was found: what tests that sets its own."""


def overrides(**sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return :data:`QUICK` with changes by section."""
    merged = {name: dict(values) for name, values in QUICK.items()}
    for name, values in sections.items():
        merged[name] = {**merged.get(name, {}), **values}
    return merged


def question_of(seen: Seen) -> str:
    """Return the customer's question in a request that a model received (Gemini's format)."""
    text = str(seen.body["contents"][-1]["parts"][0]["text"])
    return text.rsplit("<question>\n", 1)[1].rsplit("\n</question>", 1)[0]


def echo(seen: Seen) -> str:
    """A model that answers with the numbers of the questions."""
    return "Ha, bor " + " ".join(f"№{number}" for number in _NUMBER.findall(question_of(seen)))


def new_token() -> str:
    """Return a token for a new bot of the fake."""
    return f"{7_700_100_000 + next(_numbers)}:CANARY_token_not_real_{'A' * 20}"


@dataclass
class Tenant:
    """An owner's bot on the fake Bot API and what people asked it."""

    fake: FakeTelegram
    bot: FakeBot
    shop: Shop
    asked: dict[int, FakeUser] = field(default_factory=dict)

    def person(self, language: str | None = "uz") -> FakeUser:
        """Return somebody new."""
        return self.fake.user(next(_people), language)

    def ask(self, person: FakeUser, words: str = "Muzlatgichlarga kafolat bormi") -> int:
        """Let a person ask; the number in the question comes back in the answer."""
        number = next(_numbers)
        self.asked[number] = person
        person.send(self.bot, f"{words} №{number}")
        return number

    async def answered(self, numbers: Iterable[int] | None = None, timeout: float = 30) -> Counter[int]:
        """Wait until every question (all by default) has an answer; return how often each was answered."""
        wanted = set(self.asked if numbers is None else numbers)
        try:
            await self.fake.wait_until(lambda: wanted <= set(self.times()), timeout)
        except TimeoutError:
            missing = {number: self._heard_by(self.asked[number]) for number in sorted(wanted - set(self.times()))}
            raise AssertionError(f"not answered (number: what this person heard last): {missing}") from None
        return self.times()

    def _heard_by(self, person: FakeUser) -> list[str]:
        return texts(self.fake.messages(person.id, self.bot))[-3:]

    def times(self) -> Counter[int]:
        """Return how often each number was answered."""
        return Counter(numbers_in(sent.text for sent in self.fake.sent if sent.bot is self.bot))

    def in_order(self) -> bool:
        """Whether every person got answers in the order of their questions; repeats do not count."""
        for person in set(self.asked.values()):
            got = numbers_in(texts(self.fake.messages(person.id, self.bot)))
            first = list(dict.fromkeys(got))
            if first != sorted(first):
                return False
        return True


@dataclass
class Floor:
    """A running product and its surroundings."""

    core: Core
    fake: FakeTelegram
    models: FakeModels
    settings: Settings

    async def tenant(self, name: str = "Texno Savdo", **more: Any) -> Tenant:
        """Make an owner with a connected bot that knows a small document; returns when the bot is received from."""
        bot = self.fake.add_bot(new_token())
        email = more.pop("email", f"owner{bot.id}@example.uz")
        document = more.pop("document", FAQ)
        shop = await make_shop(self.core, name, email=email, telegram=bot.token, document=document, **more)
        await self.fake.wait_call("getUpdates", bot=bot)
        return Tenant(self.fake, bot, shop)

    async def rows(self, query: Any) -> list[Any]:
        """Return what a query finds."""
        async with self.core.db.read() as session:
            return list((await session.execute(query)).all())

    async def one(self, query: Any) -> Any:
        """Return the only value that a query finds, None where there is none."""
        async with self.core.db.read() as session:
            return await session.scalar(query)

    async def notices(self, tenant: Tenant) -> list[Notice]:
        """Return what a tenant's owner was told or is about to be told, oldest first."""
        async with self.core.db.read() as session:
            return list(
                await session.scalars(select(Notice).where(Notice.user_id == tenant.shop.owner.id).order_by(Notice.id))
            )

    async def noticed(self, tenant: Tenant, kind: str, timeout: float = 20) -> Notice:
        """Wait until a tenant's owner has a notice of this kind."""
        notice: Notice = await self.until(lambda: self._notice(tenant, kind), timeout)
        return notice

    async def _notice(self, tenant: Tenant, kind: str) -> Notice | None:
        return next((notice for notice in await self.notices(tenant) if notice.kind == kind), None)

    async def until(self, look: Callable[[], Awaitable[Any]], timeout: float = 20) -> Any:
        """Return the first true result of ``look``, asked again after each grouped commit and bell."""
        return await until(look, timeout)


async def until(look: Callable[[], Awaitable[Any]], timeout: float = 20) -> Any:
    """Return the first true result of ``look``, asked every few milliseconds: what is waited for is a row in a database."""
    async with asyncio.timeout(timeout):
        while True:
            result = await look()
            if result:
                return result
            await asyncio.sleep(0.02)


async def _left_over(core: Core) -> str:
    """Say which lanes are not empty and what was tried: why something did not come cannot be seen from outside."""
    async with core.db.read() as session:
        open_lanes = (await session.execute(select(Lane.__table__).where(Lane.pending > 0))).all()
        items = (await session.execute(select(InboxItem.__table__).where(InboxItem.status == "new"))).all()
        sends = (await session.execute(select(OutboxItem.__table__).where(OutboxItem.status != "sent"))).all()
    return "\n".join(["left over:", *(f"  {row._asdict()}" for row in (*open_lanes, *items, *sends))])


@contextlib.asynccontextmanager
async def floor(
    folder: Path,
    database_url: str | None,
    fake: FakeTelegram,
    fake_models: FakeModels,
    *,
    role: str = "worker",
    pause: Callable[[str], Awaitable[None]] | None = None,
    environment: Mapping[str, str] | None = None,
    refused: bool = False,
    **sections: Mapping[str, Any],
) -> AsyncIterator[Floor]:
    """Start the product in this process. ``refused``: the database will refuse a row, so that groups are split."""
    settings = settings_for(folder, database_url, fake, fake_models, environment=environment, **sections)
    split = metrics.REGISTRY.get_sample_value(_SPLIT)
    async with running(settings, role, pause=pause) as core:
        try:
            yield Floor(core, fake, fake_models, settings)
        except AssertionError as error:
            error.add_note(await _left_over(core))
            raise
    # One operation that spoils its group is a defect that splitting would hide.
    assert refused or metrics.REGISTRY.get_sample_value(_SPLIT) == split


def environment_for(fake: FakeTelegram, fake_models: FakeModels) -> dict[str, str]:
    """Return the variables that lead the product to the fakes."""
    return {
        "TELEGRAM_API_BASE": fake.base_url,
        "GEMINI_API_KEY": GEMINI_KEY,
        "GEMINI_BASE_URL": fake_models.url,
    }


def settings_for(
    folder: Path,
    database_url: str | None,
    fake: FakeTelegram,
    fake_models: FakeModels,
    *,
    environment: Mapping[str, str] | None = None,
    **sections: Mapping[str, Any],
) -> Settings:
    """Return quick settings with the fakes as upstream."""
    return make_settings(
        folder,
        database_url,
        environment={**environment_for(fake, fake_models), **(environment or {})},
        overrides=overrides(**sections),
    )


@contextlib.asynccontextmanager
async def surroundings() -> AsyncIterator[tuple[FakeTelegram, FakeModels]]:
    """Start the fakes: a Bot API, and models that echo the numbers of questions."""
    fake_models = FakeModels(reply=echo)
    await fake_models.start()
    try:
        async with FakeTelegram() as fake:
            yield fake, fake_models
    finally:
        await fake_models.stop()


def numbers_in(said: Iterable[str]) -> list[int]:
    """Return the numbers of questions in texts, in order."""
    return [int(number) for text in said for number in _NUMBER.findall(text)]


def texts(sent: Iterable[Sent]) -> list[str]:
    """Return the texts of sent messages."""
    return [message.text for message in sent]


def toml(sections: Mapping[str, Mapping[str, Any]], original: str) -> str:
    """Return the text of a configuration file with changed values."""
    result, section = [], ""
    sections = {"plans.trial": PLENTY, **sections}
    for line in original.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.partition("=")[0].strip()
        changes = sections.get(section, {})
        result.append(f"{key} = {json.dumps(changes[key])}" if key in changes else line)
    return "\n".join(result)
