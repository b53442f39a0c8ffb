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
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from db import models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services import accounts, inbox, metrics, notices
from services.channels.base import AnotherConsumer, TokenRefused
from services.channels.telegram import ALLOWED_UPDATES, TelegramApi, get_updates
from services.commands import COMMANDS
from services.crypto import Undecryptable
from services.errors import Permanent, Temporary, TooMany
from services.inbox import ChannelCard
from services.pauses import backoff_s, jitter, until_available

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

_LOOK_S = 30.0
_CONFLICTS_BEFORE_PARKING = 3
_CONFLICT_MEMORY_S = 600.0
_CONFLICT_PAUSE_S = 5.0
_PARKED_S = 60.0
_WEBHOOK_CHECK_S = 300.0
_WEBHOOK_RETRY_S = 3600
_START_SPREAD_S = 2.0
_STARTS_AT_ONCE = 20
_MENUS_AT_ONCE = 5
_STORING_TRIES = 3
# Telegram's language code (empty: everybody else) to the language of the menu.
_MENU_LANGUAGES = {"": "uz", "uz": "uz", "ru": "ru", "en": "en"}


@dataclass(slots=True)
class _Receiver:
    """One bot that is received from.

    ``version`` tells when its token or secret changed. ``menus``: the wording of the command menus that Telegram has.
    ``troubled``: its owner was told of a trouble that is not solved yet. ``refused``: how many times in a row the database
    refused an update of its own accord, by the update's number.
    """

    card: ChannelCard
    token: str
    version: str
    menus: str = ""
    troubled: bool = False
    refused: dict[int, int] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    last_answer: float = 0.0


def _forget(conflicts: deque[float]) -> None:
    """Drop the conflicts that were long ago."""
    while conflicts and conflicts[0] <= time.monotonic() - _CONFLICT_MEMORY_S:
        conflicts.popleft()


class _NotStored(Exception):
    """Something of a batch could not be stored: none of it may be confirmed."""


def _refused_alone(error: BaseException) -> bool:
    """Tell whether the database refused this very update: its values or what they must obey."""
    if isinstance(error, IntegrityError | DataError):
        return True
    # Not every driver's data errors have a class of SQLAlchemy's; the standard's codes say the same.
    state = str(getattr(error.orig, "sqlstate", None) or "") if isinstance(error, DBAPIError) else ""
    return state.startswith(("22", "23"))


def commands(language: str) -> list[dict[str, str]]:
    """Return the command menu of a tenant bot."""
    return [{"command": name, "description": text.render(language)} for name, text in COMMANDS.items()]


@cache
def _menus() -> tuple[Mapping[str, list[dict[str, str]]], str]:
    """Return the command menus by Telegram's language code, and what tells this wording from another."""
    menus = {code: commands(language) for code, language in _MENU_LANGUAGES.items()}
    return menus, hashlib.sha256(json.dumps(menus, sort_keys=True).encode()).hexdigest()[:16]


class Receivers:
    """Starts and stops receiving as channels come and go; runs in one process of an installation."""

    def __init__(self, core: Core, api: TelegramApi) -> None:
        self._core = core
        self._api = api
        self._running: dict[str, _Receiver] = {}
        self._changed = asyncio.Event()
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._publishing = asyncio.Semaphore(_MENUS_AT_ONCE)
        self._telling = asyncio.Lock()
        self._stopping = False
        self.webhooks = core.settings.secrets.webhook_base_url is not None

    def wake(self) -> None:
        """Channels changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the set of receivers in step with the database until cancelled."""
        # It may have been stopped before: leadership comes and goes.
        self._stopping = False
        clock = asyncio.get_running_loop().time
        look_at = clock() + _LOOK_S
        while not self._stopping:
            try:
                await self._sync()
            except DatabaseUnavailable:
                log.warning("channels_not_read")
            try:
                async with asyncio.timeout_at(look_at):
                    await self._changed.wait()
            except TimeoutError:
                look_at = clock()
            self._changed.clear()
            # However often channels change.
            if clock() >= look_at:
                look_at = clock() + _LOOK_S
                with contextlib.suppress(DatabaseUnavailable):
                    await self._watch()

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
        one = models.Channel
        async with core.db.read() as session:
            # Columns, not objects: of a thousand bots this is read every half a minute.
            rows = await session.execute(
                select(
                    one.id,
                    one.kind,
                    one.bot_id,
                    one.external_id,
                    one.credentials,
                    one.secret,
                    one.status,
                    one.settings,
                    models.Bot.owner_id,
                )
                .outerjoin(models.Bot, models.Bot.id == one.bot_id)
                .where(
                    one.kind.in_(("telegram", inbox.FACTORY)),
                    one.status.in_(("active", "conflict")),
                    one.external_id.is_not(None),
                    or_(models.Bot.id.is_(None), models.Bot.deleted_at.is_(None)),
                )
            )
            channels = rows.all()
            open_keys = await session.scalars(
                select(models.Notice.key).where(
                    models.Notice.key.like("channel:%"), models.Notice.resolved_at.is_(None)
                )
            )
            troubled = {key.split(":")[1] for key in open_keys}
        wanted: dict[str, _Receiver] = {}
        for channel_id, kind, bot_id, number, credentials, secret, status, settings, owner_id in channels:
            if kind == inbox.FACTORY:
                given = core.settings.secrets.telegram_bot_token
                if given is None or given.get_secret_value().partition(":")[0] != number:
                    continue
                token = given.get_secret_value()
            else:
                try:
                    token = str(core.credentials(credentials)["token"])
                except (Undecryptable, KeyError):
                    await core.channel_failed(channel_id, "unreadable", "the token cannot be decrypted")
                    continue
            wanted[channel_id] = _Receiver(
                ChannelCard(channel_id, kind, bot_id, owner_id or "", secret, status),
                token,
                f"{token}|{secret}",
                menus=(settings or {}).get("commands", ""),
                troubled=status == "conflict" or channel_id in troubled,
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
                receiver.task = self._core.tasks.start(self._receive(receiver), name=f"receive:{channel_id}")
        metrics.CHANNELS.labels("receiving").set(len(self._running))

    async def _watch(self) -> None:
        """Let a bot begin anew that stopped receiving; its owner hears of it only where it was Telegram that fell silent."""
        silent_after = self._core.settings.telegram.silent_after_s
        for channel_id, receiver in list(self._running.items()):
            ended = receiver.task is None or receiver.task.done()
            if not ended and time.monotonic() - receiver.last_answer < silent_after:
                continue
            log.warning("receiver_ended" if ended else "receiver_silent", channel=channel_id)
            if receiver.task is not None:
                receiver.task.cancel()
            del self._running[channel_id]
            if not ended and receiver.card.bot_id is not None:
                await self._core.channel_trouble(channel_id, "silent")

    async def _receive(self, receiver: _Receiver) -> None:
        """Receive until cancelled or refused. The command menu is set beside it: nobody waits for a menu."""
        menus: asyncio.Task[None] | None = None
        # The factory bot sets its own.
        if receiver.card.kind != inbox.FACTORY and receiver.menus != _menus()[1]:
            menus = self._core.tasks.start(self._show_menus(receiver), name=f"menus:{receiver.card.id}")
        try:
            await (self._by_webhook(receiver) if self.webhooks else self._by_polling(receiver))
        finally:
            if menus is not None:
                menus.cancel()

    async def _write_down(self, receiver: _Receiver, write: Callable[[], Awaitable[None]]) -> None:
        """Write what came of a bot as soon as the database takes it: without it nobody would know why the bot is deaf."""

        def unavailable() -> None:
            # It is not Telegram that keeps us waiting.
            receiver.last_answer = time.monotonic()

        await until_available(write, unavailable)

    async def _show_menus(self, receiver: _Receiver) -> None:
        """Set the command menus, however long it takes; given up until the next start where they are refused."""
        failures = 0
        while True:
            try:
                async with self._publishing:
                    await self._publish(receiver)
                return
            except TokenRefused:
                # Receiving meets the same refusal and tells the owner.
                return
            except Permanent as error:
                log.error("menus_refused", channel=receiver.card.id, reason=str(error))
                return
            except (Temporary, DatabaseUnavailable) as error:
                failures += 1
                wait = error.retry_after_s if isinstance(error, Temporary) else None
                log.warning("menus_postponed", channel=receiver.card.id, reason=str(error))
                await asyncio.sleep(wait or backoff_s(failures, most=300.0))

    async def _publish(self, receiver: _Receiver) -> None:
        """Set a tenant bot's command menu in every language, once per wording."""
        menus, version = _menus()
        for code, menu in menus.items():
            await self._api.call(receiver.token, "setMyCommands", commands=menu, language_code=code)
        async with self._core.db.write() as session:
            channel = await session.get(models.Channel, receiver.card.id)
            if channel is not None:
                channel.settings = {**(channel.settings or {}), "commands": version}
        receiver.menus = version

    # Long polling

    async def _by_polling(self, receiver: _Receiver) -> None:
        core, card = self._core, receiver.card
        timeout_s = core.settings.telegram.poll_timeout_s
        offset: int | None = None
        failures = 0
        # When another reader was met lately. One that stays is met now and then only, and some polls succeed in between.
        conflicts = deque([time.monotonic()] if card.status == "conflict" else [])
        # A thousand bots that start together should not poll in step for ever.
        await asyncio.sleep(jitter(_START_SPREAD_S, 0.0) if len(self._running) > _STARTS_AT_ONCE else 0)
        needs_delete = True
        while True:
            try:
                if needs_delete:
                    async with self._starting:
                        await self._api.call(receiver.token, "deleteWebhook")
                    needs_delete = False
                updates = await get_updates(self._api, receiver.token, offset, timeout_s)
                receiver.last_answer = time.monotonic()
                _forget(conflicts)
                if receiver.troubled and not conflicts:
                    card = await self._works_again(receiver)
                if updates:
                    offset = await self._accept(receiver, updates)
                failures = 0
            except TokenRefused as error:
                metrics.POLL_ERRORS.labels("refused").inc()
                await self._write_down(receiver, partial(core.channel_failed, card.id, "refused", str(error)))
                return
            except AnotherConsumer as error:
                metrics.POLL_ERRORS.labels("conflict").inc()
                needs_delete = "webhook" in str(error).lower()
                receiver.last_answer = time.monotonic()
                _forget(conflicts)
                conflicts.append(receiver.last_answer)
                parked = len(conflicts) >= _CONFLICTS_BEFORE_PARKING
                if parked:
                    receiver.troubled = True
                    await self._write_down(receiver, partial(self._read_elsewhere, card.id, str(error)))
                await asyncio.sleep(_PARKED_S if parked else jitter(_CONFLICT_PAUSE_S))
            except Temporary as error:
                metrics.POLL_ERRORS.labels("temporary").inc()
                failures += 1
                await asyncio.sleep(error.retry_after_s or backoff_s(failures, most=30.0))
            except (DatabaseUnavailable, TooMany, _NotStored):
                # Nothing was confirmed: the same updates come again.
                failures += 1
                await asyncio.sleep(backoff_s(failures, most=10.0))
            except Permanent as error:
                metrics.POLL_ERRORS.labels("other").inc()
                failures += 1
                log.error("poll_refused", channel=card.id, reason=str(error))
                await asyncio.sleep(backoff_s(failures))

    async def _accept(self, receiver: _Receiver, updates: list[Any]) -> int:
        """Store a batch in order; return the offset that confirms all of it.

        Raises where something of it could not be stored, except what is no update, and what the database has refused of its
        own accord several times in a row: holding the others back for those would stop the bot for ever.
        """
        card, identify = receiver.card, self._core.channels[receiver.card.kind].identify
        numbers: list[int] = []
        understood: dict[int, Any] = {}
        for received in updates:
            try:
                number = int(received["update_id"])
                numbers.append(number)
                identify(received)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.error("update_not_understood", channel=card.id, error=type(error).__name__)
            else:
                understood[number] = received
        if not numbers:
            raise Temporary("what came from Telegram is no batch of updates")
        results = await asyncio.gather(
            *(
                inbox.accept_update(self._core, card, received, json.dumps(received))
                for received in understood.values()
            ),
            return_exceptions=True,
        )
        failed = {
            number: result
            for number, result in zip(understood, results, strict=True)
            if isinstance(result, BaseException)
        }
        refused = {number: result for number, result in failed.items() if _refused_alone(result)}
        receiver.refused = {number: receiver.refused.get(number, 0) + 1 for number in refused}
        for number, problem in failed.items():
            if isinstance(problem, DatabaseUnavailable | TooMany | asyncio.CancelledError):
                raise problem
            if number not in refused or receiver.refused[number] < _STORING_TRIES:
                log.error("update_not_stored", channel=card.id, update=number, exc_info=problem)
                raise _NotStored from problem
        for number, problem in refused.items():
            await self._pass_over(card, number, problem)
        return max(numbers) + 1

    async def _pass_over(self, card: ChannelCard, number: int, error: BaseException) -> None:
        """An update is given up that the database refuses each time: its owner is told that a message was lost."""
        log.error("update_passed_over", channel=card.id, update=number, exc_info=error)
        if card.bot_id is not None:
            async with self._core.db.write() as session:
                bot = await session.get(models.Bot, card.bot_id)
                await notices.open_notice(
                    session,
                    card.owner_id,
                    "message_failed",
                    key=f"update:{card.id}:{number}",
                    bot_id=card.bot_id,
                    params={"bot": bot.name if bot is not None else ""},
                )
            self._core.bell.ring("notices")
        metrics.SET_ASIDE.labels("accept").inc()

    async def _read_elsewhere(self, channel_id: str, reason: str) -> None:
        """Somebody else reads this bot's updates: its owner hears of it, and anew after starting the bot again."""
        card = await self._core.cards.get(self._core, channel_id)
        if card is not None and card.status != "conflict":
            await self._core.channel_failed(channel_id, "conflict", reason)

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
                receiver.last_answer = time.monotonic()
                failures = 0
                if await self._report(card, info, troubled=receiver.troubled):
                    receiver.troubled = True
                elif receiver.troubled:
                    card = await self._works_again(receiver)
                await asyncio.sleep(jitter(_WEBHOOK_CHECK_S, 0.8, 1.2))
            except TokenRefused as error:
                await self._write_down(receiver, partial(core.channel_failed, card.id, "refused", str(error)))
                return
            except (Temporary, AnotherConsumer, DatabaseUnavailable) as error:
                failures += 1
                wait = error.retry_after_s if isinstance(error, Temporary) else None
                await asyncio.sleep(wait or backoff_s(failures, most=60.0))
            except Permanent as error:
                failures += 1
                log.error("webhook_not_set", channel=card.id, reason=str(error))
                await self._write_down(receiver, partial(core.channel_note, card.id, f"setWebhook: {error}"))
                await asyncio.sleep(backoff_s(failures, first=10.0, most=300.0))

    async def _report(self, card: ChannelCard, info: Mapping[str, Any], *, troubled: bool) -> bool:
        """Note what Telegram says of its deliveries; return whether they fail, or still do where they did (``troubled``)."""
        error_at = int(info.get("last_error_date") or 0)
        # Between two tries Telegram waits up to an hour, if that is what it was asked for.
        lately = _WEBHOOK_RETRY_S if troubled else _WEBHOOK_CHECK_S
        if error_at and time.time() - error_at < lately and int(info.get("pending_update_count") or 0) > 0:
            await self._core.channel_note(card.id, str(info.get("last_error_message") or "")[:200])
            # First, so that an administrator whose own bot it is hears what can be done.
            await self._tell_administrators(card)
            if card.bot_id is not None:
                await self._core.channel_trouble(card.id, "webhook_failed")
            return True
        return False

    async def _tell_administrators(self, card: ChannelCard) -> None:
        """They can mend the address that all bots share: they hear of the first bot, and of others when that one works again."""
        known = models.Notice
        async with self._telling, self._core.db.write() as session:
            troubles = await session.execute(
                select(known.user_id, known.key).where(known.kind == "webhook_failed", known.resolved_at.is_(None))
            )
            # A bot that was disconnected meanwhile will never work again.
            running = {notices.channel_key(channel_id, "webhook_failed") for channel_id in self._running}
            told = {user_id for user_id, key in troubles if key in running}
            people = set(await accounts.administrators(session)) - told
            channel = await session.get(models.Channel, card.id)
            if not people or channel is None:
                return
            bot = await session.get(models.Bot, card.bot_id) if card.bot_id is not None else None
            name = bot.name if bot is not None else f"@{channel.username}"
            for user_id in people:
                await notices.open_notice(
                    session,
                    user_id,
                    "webhook_failed",
                    key=notices.channel_key(card.id, "webhook_failed"),
                    params={"bot": name},
                )
        self._core.bell.ring("notices")


async def factory_channel(core: Core, identity: Mapping[str, Any]) -> str:
    """Return the id of the factory bot's channel, made at its first start."""
    number = str(identity["id"])
    mine = models.Channel.kind == inbox.FACTORY, models.Channel.external_id == number
    async with core.db.write() as session:
        if await session.scalar(select(models.Channel.id).where(*mine)) is None:
            try:
                async with session.begin_nested():
                    session.add(models.Channel(kind=inbox.FACTORY, external_id=number, created_at=utcnow()))
            except IntegrityError:
                # Another process starts for the first time too.
                log.info("factory_channel_made_elsewhere")
        values = {"status": "active", "username": str(identity.get("username") or ""), "last_error": ""}
        channel_id = await session.scalar(
            update(models.Channel).where(*mine).values(**values).returning(models.Channel.id)
        )
        return str(channel_id)
