"""The product with the factory bot, as its owners meet it: messages in through a fake Bot API, messages out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from db import models
from services import accounts, bots, worker
from services.core import Core
from services.i18n import LANGUAGE_NAMES, translate
from tests.composition import make_settings, running
from tests.fakes.telegram import FakeBot, FakeTelegram, FakeUser, Sent
from tests.fakes.telegram_bots import Press

FACTORY = "7700000001:FACTORY_token_not_real_AAAAAAAAAAAAA"
TENANT = "7700000002:TENANT_token_not_real_AAAAAAAAAAAAAA"
SECOND = "7700000003:SECOND_token_not_real_AAAAAAAAAAAAAA"
BOTFATHER = (
    "Done! Congratulations on your new bot. You will find it at t.me/chinor_bot. Use this token to access the HTTP API:\n"
    "{token}\nKeep your token secure and store it safely."
)


@dataclass
class Person:
    """An owner at the phone. ``sent`` counts the messages that this person had to send."""

    fake: FakeTelegram
    factory: FakeBot
    user: FakeUser
    language: str = "uz"
    sent: int = field(default=0)

    def text(self, msgid: str, /, **params: object) -> str:
        """Return a text of the catalogue in this person's language; it must be there."""
        catalogue = self.language.partition("-")[0]
        assert catalogue == "en" or translate(catalogue, msgid) != msgid, f"not in the catalogue: {msgid}"
        return translate(self.language, msgid, **params)

    async def hears(self, wanted: Callable[[Sent], object] | str | None = None) -> Sent:
        """Return the next message from the factory bot that fits."""
        return await self.fake.wait_message(self.user.id, wanted, bot=self.factory)

    async def says(self, text: str, wanted: str | None = None) -> Sent:
        """Write, and return the answer."""
        self.sent += 1
        self.user.send(self.factory, text)
        return await self.hears(wanted)

    async def presses(self, message: Sent, wanted: str, shown: str | None = None) -> Sent:
        """Press a button that changes its message; return the message as it is then."""
        edits = len(message.edits)
        press = self.user.press(message, wanted)
        await self.fake.wait_until(lambda: len(message.edits) > edits)
        if shown is not None:
            await self.fake.wait_edit(message, shown)
        await self.fake.wait_until(lambda: press.answered)
        return message

    async def settled(self) -> None:
        """Wait until the factory bot has taken all updates and answered a last command."""
        await self.says("/cancel", self.text("There is nothing to cancel."))


@dataclass
class Product:
    """What is running, and the Bot API it talks to."""

    core: Core
    fake: FakeTelegram
    factory: FakeBot

    async def answered(self, press: Press) -> None:
        """Wait until the bot has answered a pressed button."""
        await self.fake.wait_until(lambda: press.answered)

    def person(self, number: int, language: str = "uz", name: str = "Aziza") -> Person:
        """Return an owner whose Telegram speaks ``language``."""
        code = language.split("-")[0]
        return Person(self.fake, self.factory, self.fake.user(number, code, first_name=name), language)

    async def owner(self, number: int, language: str = "uz", name: str = "Aziza") -> Person:
        """Return an owner who has talked with the factory bot before and chosen ``language``."""
        person = self.person(number, language, name)
        self.factory.chats.add(number)
        async with self.core.db.write() as session:
            user = await accounts.register_owner(session, telegram_id=number, full_name=name, language=language)
            await accounts.set_language(session, user, language)
        return person

    async def account(self, person: Person) -> models.User:
        """Return a person's account as the database has it."""
        async with self.core.db.read() as session:
            user = await accounts.by_telegram(session, person.user.id)
        assert user is not None
        return user

    async def bots_of(self, person: Person) -> list[models.Bot]:
        """Return a person's bots as the database has them."""
        user = await self.account(person)
        async with self.core.db.read() as session:
            return await bots.list_for(session, user)

    async def make_bot(self, person: Person, name: str = "Chinor Stom", token: str | None = None) -> models.Bot:
        """Give a person a bot, connected to the Telegram bot of ``token`` if there is one."""
        user = await self.account(person)
        identity = await self.core.telegram.get_me(token) if token else {}
        async with self.core.db.write() as session:
            tenant = await bots.create(session, user, name, limits=self.core.settings.limits)
            if token:
                await bots.connect_telegram(session, tenant, identity=identity, token=token, crypto=self.core.crypto)
        self.core.bell.ring("channels")
        return tenant


Start = Callable[..., contextlib.AbstractAsyncContextManager[Product]]


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the inbox try again soon."""
    monkeypatch.setattr(worker, "_NETWORK_PAUSES_S", (0.1, 0.1))


@pytest.fixture
def start(telegram: FakeTelegram, sqlite_url: str, tmp_path: Path) -> Start:
    """Return what starts the product; it may be called again after the first one has ended.

    Nobody waits for Telegram's pace unless the overrides set it.
    """

    @contextlib.asynccontextmanager
    async def started(
        *, manages: bool = False, overrides: Mapping[str, Mapping[str, Any]] | None = None, **environment: str
    ) -> AsyncIterator[Product]:
        factory = telegram.bots.get(FACTORY) or telegram.add_bot(FACTORY, "factory_bot", name="Factory")
        factory.abilities["can_manage_bots"] = manages
        settings = make_settings(
            tmp_path,
            sqlite_url,
            environment={"TELEGRAM_BOT_TOKEN": FACTORY, "TELEGRAM_API_BASE": telegram.base_url, **environment},
            overrides={"telegram": {"chat_messages_per_second": 1000}, **(overrides or {})},
        )
        async with running(settings, "worker") as core:
            async with core.bell.listen("channels") as bell, asyncio.timeout(60):
                while core.factory is None:
                    await bell.get()
            yield Product(core, telegram, factory)

    return started


@pytest.fixture
async def product(start: Start) -> AsyncIterator[Product]:
    """The product without the right to manage bots."""
    async with start() as running_product:
        yield running_product


def language_name(code: str) -> str:
    """Return how a language calls itself."""
    return LANGUAGE_NAMES[code]
