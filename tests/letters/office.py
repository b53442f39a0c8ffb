"""What the tests of letters share: a product with a clock to turn, a mail server, and people to write to."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from db import models
from services import accounts, letters, subscriptions
from services.core import Core
from services.days import TASHKENT
from services.letters import offering
from services.letters.delivery import Post
from services.settings import Settings
from tests.composition import make_settings, running
from tests.fakes.smtp import FakeMail

PUBLIC = "https://bots.example.uz"
START = dt.datetime(2026, 11, 2, 9, 0, tzinfo=dt.UTC)
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "mail": {"per_minute": 1_000_000, "sender": "info@bots.example.uz"},
    "server": {"public_url": PUBLIC},
}


class Clock:
    """A clock to turn."""

    def __init__(self, moment: dt.datetime = START) -> None:
        self.moment = moment

    def __call__(self) -> dt.datetime:
        """Return what it shows."""
        return self.moment

    def forward(self, **span: float) -> None:
        """Turn it on, or back."""
        self.moment += dt.timedelta(**span)


def tashkent(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> dt.datetime:
    """Return a moment of Tashkent's calendar and clock."""
    return dt.datetime(year, month, day, hour, minute, second, tzinfo=TASHKENT).astimezone(dt.UTC)


@dataclass
class Office:
    """The running product; nothing is sent by itself where it runs without workers: :attr:`post` sends when it is told to."""

    core: Core
    clock: Clock
    post: Post

    async def person(self, name: str = "Aziza", **values: Any) -> models.User:
        """Make an owner, registered now, called ``name@example.uz``; ``values`` go into the row."""
        async with self.core.db.write() as session:
            user = await accounts.register_owner(
                session, full_name=name, email=f"{name.lower()}@example.uz", language=values.pop("language", "en")
            )
            row = await session.get_one(models.User, user.id)
            for key, value in {"created_at": self.clock(), **values}.items():
                setattr(row, key, value)
        return row

    async def change(self, user: models.User, **values: Any) -> None:
        """Change the row of an account."""
        async with self.core.db.write() as session:
            row = await session.get_one(models.User, user.id)
            for key, value in values.items():
                setattr(row, key, value)

    async def account(self, user: models.User) -> models.User:
        """Return an account as the database has it."""
        async with self.core.db.read() as session:
            return await session.get_one(models.User, user.id)

    async def write(self, user: models.User, kind: str, key: str = "1", **more: Any) -> None:
        """Write a letter."""
        async with self.core.db.write() as session:
            await letters.write(session, user.id, kind, key=key, now=self.clock(), crypto=self.core.crypto, **more)

    async def coupon(self, user: models.User, code: str) -> None:
        """Make a coupon of a person's own, as offers bring it."""
        until = self.clock() + dt.timedelta(days=7)
        async with self.core.db.write() as session:
            session.add(models.Coupon(code=code, percent=10, user_id=user.id, valid_until=until, max_uses=1))

    async def letters(self, user: models.User) -> list[models.Letter]:
        """Return what a person was written, the first first."""
        async with self.core.db.read() as session:
            mine = models.Letter.user_id == user.id
            return list(await session.scalars(select(models.Letter).where(mine).order_by(models.Letter.id)))

    async def kinds(self, user: models.User) -> list[str]:
        """Return the kinds of what a person was written."""
        return [letter.kind for letter in await self.letters(user)]

    async def pay(self, user: models.User, plan: str = "basic", period: str = "monthly") -> models.Subscription:
        """Give a person a paid plan."""
        async with self.core.db.write() as session:
            return await subscriptions.grant(
                session,
                self.core.settings,
                user.id,
                plan,
                period,
                now=self.clock(),
                source="payment",
                value_tiyin=29_000_000,
            )

    async def paid_until(self, user: models.User, end: dt.datetime, days: int = 30) -> None:
        """Give a person a span that ends at a moment."""
        async with self.core.db.write() as session:
            span = models.Subscription(
                user_id=user.id,
                plan="basic",
                period="monthly",
                source="payment",
                value_tiyin=29_000_000,
                starts_at=end - dt.timedelta(days=days),
                ends_at=end,
            )
            session.add(span)

    async def remind(self) -> None:
        """Do what is due by the clock."""
        await offering.remind(self.core, {})


def settings_of(
    folder: Path,
    database_url: str,
    mail: FakeMail | None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Return settings with the mail server."""
    merged = {
        name: {**OVERRIDES.get(name, {}), **(overrides or {}).get(name, {})}
        for name in {*OVERRIDES, *(overrides or {})}
    }
    return make_settings(
        folder,
        database_url,
        environment={**(mail.environment() if mail else {}), **(environment or {})},
        overrides=merged,
        as_sold=True,
    )


@contextlib.asynccontextmanager
async def office(
    folder: Path,
    database_url: str,
    mail: FakeMail | None = None,
    *,
    role: str = "web",
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Office]:
    """Start the product."""
    settings = settings_of(folder, database_url, mail, environment=environment, overrides=overrides)
    async with running(settings, role) as core:
        turned = clock or Clock()
        core.now = turned
        yield Office(core, turned, Post(core))
