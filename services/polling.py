"""Receiving from Telegram: long polls into the inbox, or webhooks kept in order; one guarded task a bot.

A bot's trouble stays its own: a revoked token stops it and its owner is told, another consumer makes it wait, a slow network
delays it alone. Asking for the next offset is the acknowledgement, so it is asked only after the commit. The offset is
not stored: Telegram delivers again what was not confirmed, and the inbox knows repeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import or_, select, update

from db import models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services import inbox, metrics
from services.channels.base import AnotherConsumer, TokenRefused
from services.channels.telegram import ALLOWED_UPDATES, TelegramApi, backoff_s, get_updates
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary, TooMany
from services.i18n import translate
from services.inbox import ChannelCard

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_CONFLICTS_BEFORE_PARKING = 3
_CONFLICT_PAUSE_S = 5.0
_PARKED_S = 60.0
_WEBHOOK_CHECK_S = 300.0
_START_SPREAD_S = 2.0
_STARTS_AT_ONCE = 20
# Telegram's language code (empty: everybody else) to the language of the menu.
_MENU_LANGUAGES = {"": "uz", "uz": "uz", "ru": "ru", "en": "en"}


@dataclass(slots=True)
class _Receiver:
    """One bot that is received from.

    ``version`` tells when its token or secret changed. ``troubled``: its owner was told of a trouble that is not solved yet.
    """

    card: ChannelCard
    token: str
    version: str
    troubled: bool = False
    published: bool = False
    task: asyncio.Task[None] | None = None
    last_answer: float = 0.0


def commands(language: str) -> list[dict[str, str]]:
    """Return the command menu of a tenant bot."""
    return [
        {"command": "start", "description": translate(language, "Start over")},
        {"command": "language", "description": translate(language, "Choose the language")},
        {"command": "operator", "description": translate(language, "Talk to a person")},
        {"command": "help", "description": translate(language, "What this bot can do")},
    ]


class Receivers:
    """Starts and stops receiving as channels come and go; runs in one process of an installation."""

    def __init__(self, core: Core, api: TelegramApi) -> None:
        self._core = core
        self._api = api
        self._running: dict[str, _Receiver] = {}
        self._changed = asyncio.Event()
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._stopping = False
        self.webhooks = core.settings.secrets.webhook_base_url is not None

    def wake(self) -> None:
        """Channels changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the set of receivers in step with the database until cancelled."""
        # It may have been stopped before: leadership comes and goes.
        self._stopping = False
        while not self._stopping:
            try:
                await self._sync()
            except DatabaseUnavailable:
                log.warning("channels_not_read")
            try:
                async with asyncio.timeout(30):
                    await self._changed.wait()
            except TimeoutError:
                with contextlib.suppress(DatabaseUnavailable):
                    await self._watch()
            self._changed.clear()

    async def stop(self) -> None:
        """End all long polls. Nothing is lost: what was not confirmed is delivered again."""
        self._stopping = True
        tasks = [receiver.task for receiver in self._running.values() if receiver.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        self._running.clear()

    async def _wanted(self) -> dict[str, _Receiver]:
        core = self._core
        async with core.db.read() as session:
            rows = await session.execute(
                select(models.Channel, models.Bot)
                .outerjoin(models.Bot, models.Bot.id == models.Channel.bot_id)
                .where(
                    models.Channel.kind.in_(("telegram", inbox.FACTORY)),
                    models.Channel.status.in_(("active", "conflict")),
                    models.Channel.external_id.is_not(None),
                    or_(models.Bot.id.is_(None), models.Bot.deleted_at.is_(None)),
                )
            )
            channels = [(channel, bot) for channel, bot in rows]
            open_keys = await session.scalars(
                select(models.Notice.key).where(
                    models.Notice.key.like("channel:%"), models.Notice.resolved_at.is_(None)
                )
            )
            troubled = {key.split(":")[1] for key in open_keys}
        wanted: dict[str, _Receiver] = {}
        for channel, bot in channels:
            if channel.kind == inbox.FACTORY:
                token = core.settings.secrets.telegram_bot_token
                if token is None or token.get_secret_value().partition(":")[0] != channel.external_id:
                    continue
                secret = token.get_secret_value()
            else:
                try:
                    secret = str(core.credentials(channel.credentials)["token"])
                except (Undecryptable, KeyError):
                    await core.channel_failed(channel.id, "unreadable", "the token cannot be decrypted")
                    continue
            card = ChannelCard(
                channel.id,
                channel.kind,
                channel.bot_id,
                bot.owner_id if channel.bot_id else "",
                channel.secret,
                channel.status,
            )
            wanted[channel.id] = _Receiver(
                card, secret, f"{secret}|{channel.secret}", channel.status == "conflict" or channel.id in troubled
            )
        return wanted

    async def _sync(self) -> None:
        wanted = await self._wanted()
        for channel_id, receiver in list(self._running.items()):
            other = wanted.get(channel_id)
            if (
                other is None
                or other.version != receiver.version
                or (receiver.task is not None and receiver.task.done())
            ):
                if receiver.task is not None:
                    receiver.task.cancel()
                del self._running[channel_id]
        for channel_id, receiver in wanted.items():
            if channel_id not in self._running:
                self._running[channel_id] = receiver
                receiver.last_answer = time.monotonic()
                work = self._by_webhook(receiver) if self.webhooks else self._by_polling(receiver)
                receiver.task = self._core.tasks.start(work, name=f"receive:{channel_id}")
        metrics.CHANNELS.labels("receiving").set(len(self._running))

    async def _watch(self) -> None:
        """Start a bot anew that silently stopped receiving."""
        silent_after = self._core.settings.telegram.silent_after_s
        for channel_id, receiver in list(self._running.items()):
            if (
                receiver.task is not None
                and not receiver.task.done()
                and time.monotonic() - receiver.last_answer < silent_after
            ):
                continue
            log.warning("receiver_silent", channel=channel_id)
            if receiver.task is not None:
                receiver.task.cancel()
            del self._running[channel_id]
            if receiver.card.bot_id is not None:
                await self._core.channel_trouble(channel_id, "silent")
            self._changed.set()

    async def _publish(self, receiver: _Receiver) -> None:
        """Set a tenant bot's command menu in every language, once per wording; the factory bot sets its own."""
        card = receiver.card
        if card.kind == inbox.FACTORY:
            receiver.published = True
            return
        menus = {code: commands(language) for code, language in _MENU_LANGUAGES.items()}
        version = hashlib.sha256(json.dumps(menus, sort_keys=True).encode()).hexdigest()[:16]
        async with self._core.db.read() as session:
            settings = await session.scalar(select(models.Channel.settings).where(models.Channel.id == card.id))
        if (settings or {}).get("commands") == version:
            receiver.published = True
            return
        for code, menu in menus.items():
            await self._api.call(receiver.token, "setMyCommands", commands=menu, language_code=code)
        async with self._core.db.write() as session:
            await session.execute(
                update(models.Channel)
                .where(models.Channel.id == card.id)
                .values(settings={**(settings or {}), "commands": version})
            )
        receiver.published = True

    # Long polling

    async def _by_polling(self, receiver: _Receiver) -> None:
        core, card = self._core, receiver.card
        timeout_s = core.settings.telegram.poll_timeout_s
        offset: int | None = None
        failures = conflicts = 0
        # A thousand bots that start together should not poll in step for ever.
        await asyncio.sleep(random.uniform(0, _START_SPREAD_S) if len(self._running) > _STARTS_AT_ONCE else 0)  # noqa: S311
        needs_delete = True
        while True:
            try:
                if needs_delete:
                    async with self._starting:
                        await self._api.call(receiver.token, "deleteWebhook")
                    needs_delete = False
                if not receiver.published:
                    await self._publish(receiver)
                updates = await get_updates(self._api, receiver.token, offset, timeout_s)
                receiver.last_answer = time.monotonic()
                failures = 0
                conflicts = 0
                if receiver.troubled:
                    card = await self._works_again(receiver)
                if updates:
                    offset = await self._accept(card, updates)
            except TokenRefused as error:
                metrics.POLL_ERRORS.labels("refused").inc()
                await core.channel_failed(card.id, "refused", str(error))
                return
            except AnotherConsumer as error:
                metrics.POLL_ERRORS.labels("conflict").inc()
                conflicts += 1
                needs_delete = "webhook" in str(error).lower()
                receiver.last_answer = time.monotonic()
                if conflicts == _CONFLICTS_BEFORE_PARKING:
                    receiver.troubled = True
                    await core.channel_failed(card.id, "conflict", str(error))
                parked = conflicts >= _CONFLICTS_BEFORE_PARKING
                await asyncio.sleep(_PARKED_S if parked else _CONFLICT_PAUSE_S * random.uniform(0.5, 1))  # noqa: S311
            except Temporary as error:
                metrics.POLL_ERRORS.labels("temporary").inc()
                failures += 1
                await asyncio.sleep(error.retry_after_s or backoff_s(failures, most=30.0))
            except (DatabaseUnavailable, TooMany):
                # Nothing was confirmed: the same updates come again.
                failures += 1
                await asyncio.sleep(backoff_s(failures, most=10.0))
            except Permanent as error:
                metrics.POLL_ERRORS.labels("other").inc()
                failures += 1
                log.error("poll_refused", channel=card.id, reason=str(error))
                await asyncio.sleep(backoff_s(failures))

    async def _accept(self, card: ChannelCard, updates: list[dict[str, Any]]) -> int:
        """Store a batch in order; return the offset that confirms all of it."""
        results = await asyncio.gather(
            *(inbox.accept_update(self._core, card, update, json.dumps(update)) for update in updates),
            return_exceptions=True,
        )
        for received, result in zip(updates, results, strict=True):
            if isinstance(result, (DatabaseUnavailable, TooMany)):
                raise result
            if isinstance(result, BaseException):
                # An update that is no update cannot be stored; holding the others back for it would stop the bot.
                log.error(
                    "update_not_storable", channel=card.id, update=str(received.get("update_id")), exc_info=result
                )
        return max(int(update["update_id"]) for update in updates) + 1

    async def _works_again(self, receiver: _Receiver) -> ChannelCard:
        card = receiver.card
        await self._core.channel_recovered(card.id)
        receiver.troubled = False
        receiver.card = ChannelCard(card.id, card.kind, card.bot_id, card.owner_id, card.secret, "active")
        return receiver.card

    # Webhooks

    async def _by_webhook(self, receiver: _Receiver) -> None:
        """Set the webhook and look after it: Telegram's own report is the only sign of failing deliveries."""
        core, card = self._core, receiver.card
        address = f"{core.settings.secrets.webhook_base_url}/telegram/webhook/{card.id}"
        failures = 0
        is_set = False
        while True:
            try:
                async with self._starting:
                    info = await self._api.call(receiver.token, "getWebhookInfo") if is_set else {}
                    if not is_set or info.get("url") != address:
                        await self._api.call(
                            receiver.token,
                            "setWebhook",
                            url=address,
                            secret_token=card.secret,
                            allowed_updates=ALLOWED_UPDATES,
                            max_connections=core.settings.telegram.webhook_max_connections,
                        )
                        is_set = True
                if not receiver.published:
                    await self._publish(receiver)
                receiver.last_answer = time.monotonic()
                failures = 0
                if await self._report(card, info):
                    receiver.troubled = True
                elif receiver.troubled:
                    card = await self._works_again(receiver)
                await asyncio.sleep(_WEBHOOK_CHECK_S * random.uniform(0.8, 1.2))  # noqa: S311
            except TokenRefused as error:
                await core.channel_failed(card.id, "refused", str(error))
                return
            except (Temporary, AnotherConsumer) as error:
                failures += 1
                wait = error.retry_after_s if isinstance(error, Temporary) else None
                await asyncio.sleep(wait or backoff_s(failures, most=60.0))
            except Permanent as error:
                failures += 1
                log.error("webhook_not_set", channel=card.id, reason=str(error))
                await core.channel_note(card.id, f"setWebhook: {error}")
                await asyncio.sleep(backoff_s(failures, first=10.0, most=300.0))

    async def _report(self, card: ChannelCard, info: Mapping[str, Any]) -> bool:
        """Note what Telegram says of its deliveries; return whether they fail."""
        error_at = int(info.get("last_error_date") or 0)
        if error_at and time.time() - error_at < _WEBHOOK_CHECK_S and int(info.get("pending_update_count") or 0) > 0:
            await self._core.channel_note(card.id, str(info.get("last_error_message") or "")[:200])
            if card.bot_id is not None:
                await self._core.channel_trouble(card.id, "webhook_failed")
            return True
        return False


async def factory_channel(core: Core, identity: Mapping[str, Any]) -> str:
    """Return the id of the factory bot's channel, made at its first start."""
    number = str(identity["id"])
    async with core.db.write() as session:
        channel = await session.scalar(
            select(models.Channel).where(models.Channel.kind == inbox.FACTORY, models.Channel.external_id == number)
        )
        if channel is None:
            channel = models.Channel(kind=inbox.FACTORY, external_id=number, status="active", created_at=utcnow())
            session.add(channel)
            await session.flush()
        await session.execute(
            update(models.Channel)
            .where(models.Channel.id == channel.id)
            .values(status="active", username=str(identity.get("username") or ""), last_error="")
        )
        return channel.id
