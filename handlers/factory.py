"""The factory bot as the rest of the program knows it: it is given stored updates, and tells owners things."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import structlog
from aiogram import Dispatcher, Router
from aiogram.exceptions import TelegramAPIError
from aiogram.types import Update
from aiogram.types.update import UpdateTypeLookupError
from pydantic import ValidationError

from handlers import (
    billing,
    bots,
    broadcast,
    common,
    connecting,
    coupons,
    inbox,
    keyboards,
    knowledge,
    language,
    leaving,
    newbot,
    panel,
    questions,
    requests,
    start,
    stats,
    support,
    team,
)
from handlers.api import make_bot, send, send_paper
from handlers.callbacks import Menu
from handlers.commands import publish
from handlers.middlewares import People
from handlers.progress import Progress
from handlers.talk import html
from services import accounts
from services.core import Core
from services.errors import Permanent, Temporary
from services.i18n import DEFAULT_LANGUAGE, translate
from services.pauses import backoff_s

log = structlog.get_logger(__name__)

ROUTERS: tuple[Router, ...] = (
    newbot.tokens,
    common.router,
    inbox.router,
    broadcast.router,
    support.router,
    team.router,
    start.router,
    language.router,
    panel.router,
    leaving.router,
    newbot.router,
    connecting.router,
    bots.router,
    knowledge.router,
    questions.router,
    stats.router,
    billing.router,
    requests.router,
    coupons.router,
    common.last,
)
"""In the order in which they are asked."""

_STOP_S = 10
_CAPTION_CHARS = 1000
"""Telegram takes 1,024 of UTF-16."""


def make_dispatcher(core: Core) -> Dispatcher:
    """Return a dispatcher that keeps nothing but in the database; several may live one after the other in a process."""
    dispatcher = Dispatcher(disable_fsm=True)
    dispatcher["progress"] = progress = Progress(core)
    dispatcher["screens"] = billing.Screens(core)
    dispatcher.update.outer_middleware(People(core, progress))
    # Not include_router: a router has one parent, and a process may make several dispatchers one after the other.
    dispatcher.sub_routers.extend(ROUTERS)
    return dispatcher


class FactoryBot:
    """The factory bot of this process."""

    def __init__(self, core: Core, token: str) -> None:
        settings = core.settings.telegram
        self._core = core
        self.bot = make_bot(token, settings, core.limits)
        self.dispatcher = make_dispatcher(core)
        self._progress: Progress = self.dispatcher["progress"]
        self._screens: billing.Screens = self.dispatcher["screens"]
        self._in_hand = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Set the command lists and take up what was promised before. Telegram being away does not stop the start."""
        if not await self._publish():
            self._core.tasks.start(self._publish_later(), name="factory:commands")
        self._progress.begin(self.bot)

    async def _publish(self) -> bool:
        try:
            await publish(self.bot)
        except (TelegramAPIError, Temporary, Permanent) as error:
            log.warning("commands_not_set", reason=type(error).__name__)
            return isinstance(error, Permanent)
        return True

    async def _publish_later(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(backoff_s(attempt, first=5, most=600))
            if await self._publish():
                return

    async def handle(self, update: Mapping[str, Any]) -> None:
        """Handle one stored update.

        Raises what should make the inbox try it again; what was said and done is not said and done twice.
        """
        try:
            parsed = Update.model_validate(update, context={"bot": self.bot})
            kind = parsed.event_type
        except (ValidationError, UpdateTypeLookupError) as error:
            # The content may be private: only what kind of update it is goes to the log.
            log.warning("update_not_understood", kinds=sorted(map(str, update)), reason=type(error).__name__)
            return
        log.debug("factory_update", kind=kind)
        self._in_hand += 1
        self._idle.clear()
        try:
            await self.dispatcher.feed_update(self.bot, parsed)
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()

    async def notify(self, telegram_id: int, text: str, button: tuple[str, str] | None = None) -> bool:
        """Write plain ``text`` to a person, with a button (label, address) if given.

        Return False where it certainly did not arrive but may another time. Never raises for what happens on the way: whoever
        calls this has something more important to do.
        """
        return await self.write(telegram_id, text, [button] if button else []) != "later"

    async def write(
        self,
        telegram_id: int,
        text: str,
        buttons: Sequence[tuple[str, str]],
        paper: tuple[str, bytes] | None = None,
    ) -> Literal["sent", "later", "refused"]:
        """Write plain ``text`` to a person, with buttons (label, address) one below the other; never raises for what happens on
        the way. ``paper``: name and content of a document under which the text stands, if it is short enough for that.

        Return ``later`` where it certainly did not arrive but may another time, ``refused`` where it never will (blocked).
        """
        keys = [(keyboards.link(*button), button) for button in buttons]
        text = "\n".join([text[:4000], *(address for key, (_, address) in keys if key is None)])
        rows = [[key] for key, _ in keys if key is not None]
        keyboard = keyboards.inline(*rows) if rows else None
        try:
            if paper is not None and len(text) <= _CAPTION_CHARS:
                await send_paper(self.bot, telegram_id, paper, html(text), keyboard)
            else:
                await send(self.bot, telegram_id, html(text), keyboard)
        except (TelegramAPIError, Temporary, Permanent) as error:
            log.info("notice_not_delivered", reason=type(error).__name__)
            return "later" if isinstance(error, Temporary) else "refused"
        return "sent"

    async def tell(
        self, telegram_id: int, text: str, *, button: tuple[str, str] | None = None, support: bool = False
    ) -> tuple[Literal["sent", "later", "refused"], int | None]:
        """Write plain ``text`` to a person; see :class:`services.core.FactoryBot`."""
        keys = [keyboards.link(*button)] if button else []
        if support:
            async with self._core.db.read() as session:
                person = await accounts.by_telegram(session, telegram_id)
            language = person.language if person is not None else DEFAULT_LANGUAGE
            keys.append(keyboards.button("✍️ " + translate(language, "Write more"), Menu(to="support")))
        try:
            number = await send(self.bot, telegram_id, html(text[:4000]), keyboards.inline(keys) if any(keys) else None)
        except (TelegramAPIError, Temporary, Permanent) as error:
            log.info("line_not_delivered", reason=type(error).__name__)
            return "later" if isinstance(error, Temporary) else "refused", None
        return "sent", number

    async def stop(self) -> None:
        """Let what is in hand end, end what runs in the background and close the connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._idle.wait()
        try:
            await self._screens.stop()
            await self._progress.stop()
        finally:
            await self.bot.session.close()
