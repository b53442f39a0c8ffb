"""What the parts of one process share. Made by ``bot.py`` and handed over; nothing reaches it by import."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import aiohttp
import structlog
from redis.asyncio import Redis
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from db.engine import Database, DatabaseUnavailable
from services import accounts, lanes, metrics, notices, uploads
from services.ai import NAMES, PROVIDERS
from services.ai.prices import Rates
from services.ai.router import CallRecord, KeyEvent, ModelRow, Router, RouterSettings
from services.allowances import Allowances
from services.bell import Bell
from services.budgets import Budgets
from services.channels import make_channels
from services.channels.base import Blocked, Channel, Inbound, TokenRefused
from services.channels.meta import GraphApi, problem
from services.channels.telegram import TelegramApi
from services.conversations.records import BotCard, Talk
from services.crypto import Crypto, Undecryptable
from services.errorbook import Book
from services.inbox import Cards
from services.knowledge.embedding import Embedder
from services.knowledge.search import KnowledgeSearch
from services.limits import Limits
from services.overrides import BELL as OVERRIDES
from services.settings import Settings
from services.spending import Spending
from services.tasks import TaskGroup
from services.text import clean
from services.writer import Writer

log = structlog.get_logger(__name__)

BACKLOG_REFRESH_S = 2.0
MODEL_GONE = ("model_retired", "own_model_missing")
"""Notices about a model that its provider does not offer: to the administrators, or to the owner of the key."""


class FactoryBot(Protocol):
    """The factory bot as the conveyor and the notices see it."""

    async def handle(self, update: dict[str, Any]) -> None:
        """See one stored update through."""

    async def notify(self, telegram_id: int, text: str, button: tuple[str, str] | None = None) -> bool:
        """Write to a person; return False where it certainly did not arrive but may another time."""

    async def write(
        self,
        telegram_id: int,
        text: str,
        buttons: Sequence[tuple[str, str]],
        paper: tuple[str, bytes] | None = None,
    ) -> Literal["sent", "later", "refused"]:
        """Write to a person with buttons that open addresses, one below the other; return what became of it.

        ``paper``: name and content of a document that goes with the text.
        """

    async def tell(
        self, telegram_id: int, text: str, *, button: tuple[str, str] | None = None, support: bool = False
    ) -> tuple[Literal["sent", "later", "refused"], int | None]:
        """The same for a message that may be answered; also return its number in that chat, None where that is not known.

        ``support``: a button goes with it by which the person goes on writing to support.
        """


class Backlog:
    """How many messages of each owner wait: read from the rows every two seconds, counted on in between."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def of(self, owner_id: str) -> int:
        """Return about how many of an owner's messages wait."""
        return self._waiting[owner_id] if owner_id else 0

    def add(self, owner_id: str, n: int = 1) -> None:
        """Count what has just come or gone here."""
        self._waiting[owner_id] += n

    async def run(self, core: Core) -> None:
        """Keep the numbers right until cancelled."""
        while True:
            try:
                async with core.db.read() as session:
                    # Summed there: a backlog may be a hundred thousand talks.
                    rows = await session.execute(
                        select(models.Lane.owner_id, models.Lane.kind, func.sum(models.Lane.pending))
                        .where(models.Lane.pending > 0)
                        .group_by(models.Lane.owner_id, models.Lane.kind)
                    )
                    waiting: Counter[str] = Counter()
                    queues: Counter[str] = Counter()
                    for owner_id, kind, pending in rows:
                        queues[kind] += pending
                        if kind == "inbox":
                            waiting[owner_id] += pending
                self._waiting = waiting
                for kind in ("inbox", "outbox", "bulk", "jobs"):
                    metrics.PENDING.labels(kind).set(queues[kind])
            except DatabaseUnavailable:
                log.warning("backlog_not_read")
            await asyncio.sleep(BACKLOG_REFRESH_S)


async def _no_pause(_point: str) -> None:
    """Tests stop the process at these points; the product runs through."""


@dataclass(eq=False)
class Core:
    """The shared parts. ``factory`` is None until the factory bot has started, or for good without its token.

    ``now``: the clock of all that concerns plans, money and letters; tests turn it. ``told_once``: what this process has warned
    of in its log and need not say again. ``settings`` are those of the file, ``configured``, with what administrators have
    ``chosen`` in the panel; ``keys_off``: providers whose keys they let rest.
    ``banners``: the announcements that pages show.
    """

    settings: Settings
    db: Database
    crypto: Crypto
    secret: str
    bell: Bell
    writer: Writer
    http: aiohttp.ClientSession
    telegram: TelegramApi
    graph: GraphApi
    instagram_graph: GraphApi
    channels: Mapping[str, Channel]
    router: Router
    embedder: Embedder | None
    search: KnowledgeSearch
    limits: Limits
    tasks: TaskGroup
    redis: Redis | None = None
    cards: Cards = field(default_factory=Cards)
    backlog: Backlog = field(default_factory=Backlog)
    spending: Spending = field(default_factory=Spending)
    budgets: Budgets = field(default_factory=Budgets)
    factory: FactoryBot | None = None
    factory_username: str = ""
    job_handlers: dict[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = field(default_factory=dict)
    job_abandoners: dict[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = field(default_factory=dict)
    wake_inbox: Callable[[], None] = lambda: None
    pause: Callable[[str], Awaitable[None]] = _no_pause
    now: Callable[[], dt.datetime] = utcnow
    address: tuple[str, int] = ("127.0.0.1", 0)
    ready: bool = False
    started_at: dt.datetime = field(default_factory=utcnow)
    errors: Book = field(default_factory=Book)
    stop_by: float | None = None
    allowances: Allowances = field(init=False)
    configured: Settings = field(init=False)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notice_texts: notices.Own = field(default_factory=dict)
    keys_off: frozenset[str] = frozenset()
    banners: Sequence[models.Announcement] = ()
    told_once: set[str] = field(default_factory=set)
    _proved: set[str] = field(default_factory=set)
    _opened: OrderedDict[str, Mapping[str, str]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.allowances = Allowances(self.settings, lambda: self.now())
        self.configured = self.settings

    def credentials(self, encrypted: str | None) -> Mapping[str, str]:
        """Return a channel's decrypted credentials, kept in memory; raises ``Undecryptable``."""
        if encrypted is None:
            return {}
        known = self._opened.get(encrypted)
        if known is None:
            known = self._opened[encrypted] = self.crypto.decrypt(encrypted)
            while len(self._opened) > 5000:
                self._opened.popitem(last=False)
        return known

    def has_models(self, owner_keys: Mapping[str, str]) -> bool:
        """Whether there is any model to ask."""
        return bool(owner_keys) or any(self.settings.model_key(kind) for kind in PROVIDERS if kind not in self.unasked)

    @property
    def unasked(self) -> frozenset[str]:
        """Providers whose keys rest or whose budget is used up."""
        return self.keys_off | self.budgets.out

    async def settle_event(self, talk: Talk, event: Inbound) -> None:
        """Do at once what the network wants to see for an event."""
        try:
            await self.channels[talk.channel_kind].settle(self.credentials(talk.credentials), event)
        except Undecryptable:
            log.warning("credentials_unreadable", channel=talk.channel_id)

    def ring_talk(self, bot_id: str, conversation_id: str) -> None:
        """Tell whoever watches a bot that one of its talks has changed."""
        self.bell.ring(f"bot:{bot_id}", {"conversation": conversation_id})

    def time_left(self, at_most: float) -> float:
        """Return how many seconds a step of stopping may take: ``at_most``, or what is left until all must be over."""
        if self.stop_by is None:
            return at_most
        return max(0.1, min(at_most, self.stop_by - time.monotonic()))

    # What breaks, and who is told

    async def prove_keys(self, usage: Iterable[Mapping[str, Any]]) -> None:
        """A model answered: what was noted against it or its key before this process knew it is solved."""
        for row in usage:
            bot_id = row["bot_id"] if row["own_key"] else None
            keys = {trouble_key(row["provider"], bot_id), trouble_key(row["provider"], bot_id, row["model_asked"])}
            if row["outcome"] == "ok" and not keys <= self._proved and len(self._proved) < 100_000:
                async with self.db.write() as session:
                    for key in sorted(keys):
                        await notices.solve(session, key)
                self._proved |= keys

    async def channel_failed(self, channel_id: str, status: str, reason: str, *, tried: str | None = None) -> None:
        """Stop a channel whose credential or place is lost and tell its owner once.

        ``tried``: the encrypted credentials that failed; a channel that was given others meanwhile goes on.
        """
        kind = {"refused": "token_refused"}.get(status, status)
        it = [models.Channel.id == channel_id, *([models.Channel.credentials == tried] if tried is not None else [])]
        async with self.db.write() as session:
            stopped = await session.scalar(
                update(models.Channel)
                .where(*it)
                .values(status=status, last_error=clean(reason, 300))
                .returning(models.Channel.id)
            )
            if stopped is None:
                return
            log.warning("channel_failed", channel=channel_id, status=status, reason=reason)
            await self._tell_of_channel(session, channel_id, kind, trouble=status)
        self.bell.ring("notices")
        self.cards.clear()
        self.bell.ring("channels")

    async def network_trouble(self, channel_id: str, code: int, reason: str) -> bool:
        """Meta tells of an account's trouble other than in an answer; return whether the channel was stopped for it."""
        trouble = problem(code, reason)
        if not isinstance(trouble, TokenRefused | Blocked):
            await self.channel_note(channel_id, reason)
            return False
        await self.channel_failed(channel_id, "blocked" if isinstance(trouble, Blocked) else "refused", reason)
        return True

    async def channel_trouble(self, channel_id: str, kind: str) -> None:
        """Tell a channel's owner of a trouble, once until it is solved; the factory bot's goes to the administrators."""
        async with self.db.write() as session:
            await self._tell_of_channel(session, channel_id, kind, trouble=kind)
        self.bell.ring("notices")

    async def _tell_of_channel(self, session: AsyncSession, channel_id: str, kind: str, *, trouble: str) -> None:
        channel = await session.get(models.Channel, channel_id)
        if channel is None:
            return
        bot = await session.get(models.Bot, channel.bot_id) if channel.bot_id else None
        if bot is not None:
            people = [bot.owner_id]
        else:
            people = await accounts.administrators(session)
        name = bot.name if bot is not None else f"@{channel.username}"
        if channel.kind in ("whatsapp", "instagram"):
            kind = f"{channel.kind}_{kind}"
        key = notices.channel_key(channel_id, trouble)
        for user_id in people:
            await notices.open_notice(session, user_id, kind, key=key, bot_id=channel.bot_id, params={"bot": name})

    async def channel_recovered(self, channel_id: str) -> None:
        """A channel works again: its owner is told once."""
        async with self.db.write() as session:
            await session.execute(
                update(models.Channel).where(models.Channel.id == channel_id).values(status="active", last_error="")
            )
            await notices.solve_channel(session, channel_id)
        self.cards.clear()
        self.bell.ring("notices")

    async def channel_note(self, channel_id: str, error: str) -> None:
        """Keep a channel's last error for its page."""
        async with self.db.write() as session:
            await session.execute(
                update(models.Channel).where(models.Channel.id == channel_id).values(last_error=clean(error, 300))
            )

    async def key_event(self, event: KeyEvent, bot: BotCard | None) -> None:
        """A model or its key stopped working or works again: the key's owner, or the administrators, hear of it once.

        ``bot`` is None where nobody's bot asked.
        """
        theirs = bot if event.owner_key else None
        bot_id = theirs.id if theirs else None
        key = trouble_key(event.provider, bot_id, event.model)
        self._proved.discard(key)
        params: dict[str, Any] = {"provider": NAMES[event.provider], "reason": event.reason}
        if theirs:
            params["bot"] = theirs.name
        kind = "key_no_money" if event.reason == "no_money" else "key_refused"
        if event.model is not None:
            # What a key of the owner's own may not use can be in use elsewhere: only the owner can look.
            kind = "own_model_missing" if event.owner_key else "model_retired"
            params["model"] = event.model
        async with self.db.write() as session:
            if event.reason is None:
                await notices.solve(session, key)
            else:
                people = [theirs.owner_id] if theirs else await accounts.administrators(session)
                for user_id in people:
                    await notices.open_notice(session, user_id, kind, key=key, bot_id=bot_id, params=params)
        self.bell.ring("notices")


def trouble_key(provider: str, bot_id: str | None, model: str | None = None) -> str:
    """Return the key of notices about a model key (``bot_id``: that bot's own), or about one model behind it."""
    named = f"key:{provider}" if model is None else f"model:{provider}:{model}"
    return named if bot_id is None else f"{named}:{bot_id}"


def router_settings(settings: Settings, keys_off: Collection[str] = ()) -> RouterSettings:
    """Return the model chains as the router takes them; ``keys_off``: providers whose keys are not used."""
    ai = settings.ai

    def row(entry: str) -> ModelRow:
        provider, _, name = entry.partition(":")
        facts = ai.models.get(name)
        if facts is None:
            return ModelRow(provider, name)
        price = None
        if facts.price_in is not None and facts.price_out is not None:
            cached = facts.price_cached if facts.price_cached is not None else facts.price_in
            price = Rates(input=facts.price_in, output=facts.price_out, cached=cached)
        return ModelRow(
            provider,
            name,
            api=facts.api or "responses",
            effort=facts.effort,
            context_tokens=facts.context_tokens,
            price=price,
        )

    roles = {role: [row(entry) for entry in chain] for role, chain in ai.roles.items()}
    for role in ("own", "transcribe", "vision"):
        roles.setdefault(role, [])
    keys = {kind: key for kind in PROVIDERS if kind not in keys_off and (key := settings.model_key(kind))}
    addresses = {kind: address for kind in PROVIDERS if (address := getattr(settings.secrets, f"{kind}_base_url"))}
    embedding = embedding_model(settings)
    return RouterSettings(
        roles=roles,
        keys=keys,
        base_urls=addresses,
        own_rows={"openai": row(f"openai:{ai.own_key.model}")},
        embedding=ModelRow(*embedding) if embedding else None,
        embedding_dimensions=settings.knowledge.embedding_dimensions if embedding else None,
        deadline_s=ai.deadline_s,
        first_byte_s=ai.first_byte_s,
        max_output_tokens=ai.max_output_tokens,
        breaker_failures=ai.breaker_failures,
        breaker_rest_s=ai.breaker_rest_s,
        ceiling=Rates(input=ai.unknown_price_in, output=ai.unknown_price_out),
    )


def embedding_model(settings: Settings) -> tuple[str, str] | None:
    """Return provider and model of the embeddings, None where none is configured or its key is missing."""
    kind = settings.knowledge.embedding
    if kind == "none" or not settings.model_key(kind):
        return None
    return kind, getattr(settings.knowledge, f"embedding_model_{kind}")


def on_call(record: CallRecord) -> None:
    """Count a model call."""
    metrics.MODEL_CALLS.labels(record.provider, record.outcome).inc()
    metrics.MODEL_SECONDS.labels(record.provider).observe(record.latency_ms / 1000)
    payer = "owner" if record.owner_key else "installation"
    metrics.MODEL_COST.labels(record.provider, payer).inc(float(record.cost_usd))


def make_core(
    settings: Settings, db: Database, crypto: Crypto, secret: str, http: aiohttp.ClientSession, holder: str
) -> Core:
    """Put the shared parts together; starts nothing."""
    redis: Redis | None = None
    if settings.secrets.redis_url is not None:
        redis = Redis.from_url(
            settings.secrets.redis_url.get_secret_value(), socket_timeout=5, socket_connect_timeout=3
        )
    telegram = TelegramApi(http, settings.telegram.api_base, timeout_s=settings.telegram.send_timeout_s)
    meta = settings.meta
    graph = GraphApi(http, meta.graph_base, meta.version, timeout_s=meta.send_timeout_s)
    instagram_graph = GraphApi(http, meta.instagram_graph_base, meta.version, timeout_s=meta.send_timeout_s)
    bell, budgets = Bell(redis), Budgets()

    def count(record: CallRecord) -> None:
        on_call(record)
        if budgets.add(record):
            bell.ring(OVERRIDES)

    router = Router(router_settings(settings), http, on_call=count)
    model = embedding_model(settings)
    embedder = Embedder(router, model[1]) if model else None
    return Core(
        settings=settings,
        db=db,
        crypto=crypto,
        secret=secret,
        bell=bell,
        budgets=budgets,
        writer=Writer(db, holder),
        http=http,
        telegram=telegram,
        graph=graph,
        instagram_graph=instagram_graph,
        channels=make_channels(telegram, graph, instagram_graph, uploads.loader(db)),
        router=router,
        embedder=embedder,
        search=KnowledgeSearch(db, settings.knowledge, embedder),
        limits=Limits(redis),
        tasks=TaskGroup(),
        redis=redis,
    )


async def free_lanes(core: Core) -> int:
    """Free what an earlier life of this process held; return how many lanes."""
    return await core.db.transact(lanes.free_all, None if core.db.is_sqlite else core.writer.holder)
