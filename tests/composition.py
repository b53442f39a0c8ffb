"""The whole product, started in this process with the composition of ``bot.py`` and upstream addresses of fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import structlog
from sqlalchemy import event, select

import bot
from db import models
from db.base import utcnow
from services import accounts, bots
from services.core import Core
from services.knowledge import documents
from services.settings import ROOT, Settings, read_settings

FAQ = """Do'kon haqida

Savol: Yetkazib berish bormi?
Javob: Toshkent bo'ylab yetkazib berish bepul, viloyatlarga 2-4 kun ichida 45 000 so'm.

Savol: Qaysi vaqtda ishlaysiz?
Javob: Har kuni soat 9:00 dan 20:00 gacha ishlaymiz, dam olish kunisiz.

Savol: Kafolat bormi?
Javob: Barcha muzlatgichlarga 3 yil rasmiy kafolat beriladi.
"""


PLENTY: Mapping[str, Any] = {
    "title": "Trial",
    "channels": ("telegram", "web", "whatsapp", "instagram"),
    "languages": ("uz", "ru", "en"),
    "bots": 10_000,
    "messages": 1_000_000_000,
    "knowledge_mib": 1_000_000,
    "operators": 10_000,
}
"""What owners of tests may do for a year: nearly all tests are about something else than plans."""


def make_settings(
    folder: Path,
    database_url: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    as_sold: bool = False,
) -> Settings:
    """Return settings for a test: a free port, data in ``folder``, ``overrides`` by section, nothing of this machine's own.

    ``as_sold``: with the plans of ``config.toml``, else owners have :data:`PLENTY`.
    """
    values = {"DATA_DIR": str(folder), "PORT": "0", "HOST": "127.0.0.1"}
    if database_url:
        values["DATABASE_URL"] = database_url
    settings = read_settings(ROOT / "config.toml", environment={**values, **(environment or {})}, env_file=None)
    if as_sold and not overrides:
        return settings
    tree = settings.model_dump()
    secrets = settings.secrets
    if not as_sold:
        tree["plans"]["trial"] |= PLENTY
        tree["subscriptions"] |= {"trial_days": 365, "test_until_day": 365}
    for section, changes in (overrides or {}).items():
        tree[section] |= changes
    return Settings.model_validate({**tree, "secrets": secrets})


def embedding_settings(folder: Path, database_url: str, address: str) -> Settings:
    """Return settings with OpenAI's embedding model at this address."""
    return make_settings(
        folder,
        database_url,
        environment={"OPENAI_API_KEY": "test-key-0123456789", "OPENAI_BASE_URL": address},
        overrides={"knowledge": {"embedding": "openai"}},
    )


@contextlib.asynccontextmanager
async def running(
    settings: Settings, role: str = "all", *, pause: Callable[[str], Awaitable[None]] | None = None
) -> AsyncIterator[Core]:
    """Start the product; stops it in order on leaving."""
    async with bot.composed(settings, role, pause=pause, announce=False) as core:
        yield core


def address(core: Core) -> str:
    """Return where the started product listens."""
    host, port = core.address
    return f"http://{host}:{port}"


_DOCUMENT: Any = models.Document.__table__
_CHUNK: Any = models.Chunk.__table__
_taken_in: dict[str, tuple[list[dict[str, Any]], ...]] = {}
"""What documents of the tests became when they were first taken in: the document's row and those of its passages."""


@dataclass(frozen=True)
class Shop:
    """An owner with a bot that knows a small document."""

    owner: models.User
    bot: models.Bot
    channel: models.Channel
    token: str


async def make_shop(
    core: Core,
    name: str = "Texno Savdo",
    *,
    email: str = "owner@example.uz",
    document: str | None = FAQ,
    telegram: str | None = None,
) -> Shop:
    """Make an owner, a bot, its document (read and ready) and an API token; ``telegram``: a token of the fake to connect."""
    async with core.db.write() as session:
        owner = await accounts.by_email(session, email)
        if owner is None:
            owner = await accounts.register_owner(session, email=email, full_name="Owner", phone=None)
        tenant = await bots.create(session, owner, name, limits=core.settings.limits)
        _, plain = await accounts.new_api_token(session, owner, "test")
    if document is not None:
        await _know(core, tenant, document)
    channel_id = ""
    if telegram is not None:
        identity = await core.telegram.get_me(telegram)
        async with core.db.write() as session:
            channel = await bots.connect_telegram(
                session, tenant, identity=identity, token=telegram, crypto=core.crypto
            )
            channel_id = channel.id
        core.bell.ring("channels")
    async with core.db.read() as session:
        tenant = await bots.get(session, owner, tenant.id)
        web = await bots.connect_web(session, tenant)
        chosen = await session.get_one(models.Channel, channel_id) if channel_id else web
    return Shop(owner, tenant, chosen, plain)


async def add_document(core: Core, tenant: models.Bot, name: str, data: bytes) -> models.Document:
    """Upload a document and wait until it was read or failed."""
    async with core.bell.listen(f"bot:{tenant.id}", limit=1000) as events:
        async with core.db.write() as session:
            document = await documents.upload(
                session, tenant, name, data, limits=core.settings.limits, max_bytes=10 * 1_048_576
            )
        core.bell.ring("jobs")
        async with asyncio.timeout(60):
            while True:
                event = await events.get()
                if event.get("document") == document.id and event["status"] in ("ready", "failed"):
                    break
    async with core.db.read() as session:
        return await session.get_one(models.Document, document.id)


async def _know(core: Core, tenant: models.Bot, text: str) -> None:
    """Let a new bot know a document: the first time it is taken in, later its rows are written as that left them.

    Reading takes a process each time. With an embedding model it is always done: vectors are asked for and counted.
    """
    name, content = "savollar.txt", text.encode()
    key = f"{core.settings.knowledge!r} {text}"
    own = ("id", "bot_id", "document_id", "created_at", "finished_at")
    if core.embedder is not None or key not in _taken_in:
        read = await add_document(core, tenant, name, content)
        if core.embedder is not None or read.status != "ready":
            return
        async with core.db.read() as session:
            found = (
                await session.execute(select(_DOCUMENT).where(_DOCUMENT.c.id == read.id)),
                await session.execute(select(_CHUNK).where(_CHUNK.c.document_id == read.id).order_by(_CHUNK.c.id)),
            )
            _taken_in[key] = tuple(
                [{column: value for column, value in row.items() if column not in own} for row in rows.mappings()]
                for rows in found
            )
        return
    [document], chunks = _taken_in[key]
    async with core.db.write() as session:
        row = models.Document(bot_id=tenant.id, finished_at=utcnow(), **document)
        session.add(row)
        await session.flush()
        session.add(models.DocumentContent(document_id=row.id, content=content))
        session.add_all(models.Chunk(bot_id=tenant.id, document_id=row.id, **chunk) for chunk in chunks)
        (await session.get_one(models.Bot, tenant.id)).knowledge_version += 1


def body(value: Any) -> bytes:
    """Return JSON as the networks send it."""
    return json.dumps(value, ensure_ascii=False).encode()


async def ask(core: Core, shop: Shop) -> dict[str, Any]:
    """Ask as a customer of the web channel."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {shop.token}"}) as http,
        http.post(
            f"{address(core)}/api/v1/bots/{shop.bot.id}/chat",
            json={"contact": "c1", "text": "Muzlatgichlarga kafolat bormi?"},
        ) as answer,
    ):
        found: dict[str, Any] = await answer.json()
        assert answer.status == 200, found
        return found


class Asked(NamedTuple):
    """What the database was asked. ``by_request``: a request did, not the program by itself."""

    statement: str
    values: Any
    by_request: bool

    @property
    def reads(self) -> bool:
        """Whether it is a question."""
        return self.statement.lstrip().upper().startswith(("SELECT", "WITH"))


@contextlib.contextmanager
def _heard(core: Core, take: Callable[[Asked], None]) -> Iterator[None]:
    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        take(Asked(statement, values, "request_id" in structlog.contextvars.get_contextvars()))

    engine = core.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextlib.contextmanager
def asked_of(core: Core) -> Iterator[list[Asked]]:
    """Gather what the database is asked."""
    seen: list[Asked] = []
    with _heard(core, seen.append):
        yield seen


@contextlib.contextmanager
def questions_put(core: Core) -> Iterator[list[str]]:
    """Gather the questions that requests put to the database."""
    found: list[str] = []

    def take(each: Asked) -> None:
        if each.reads and each.by_request:
            found.append(each.statement)

    with _heard(core, take):
        yield found
