"""One message for each document that is being read, edited as the reading goes on.

Every promise to tell the end is stored (:class:`handlers.storage.Watch`) until it has been told. One process holds it, by a lease
as for lanes: when that process has ended, whatever way, another one or its next life takes it up. Edits may be repeated without
harm.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError
from aiogram.types import InlineKeyboardButton

from db import models
from db.engine import DatabaseUnavailable
from handlers import examples, keyboards
from handlers.api import send
from handlers.callbacks import DocMenu
from handlers.keyboards import button
from handlers.storage import Watch, drop_watch, get_watch, hold_watches, keep_watch, release_watches
from handlers.talk import Page, Talk, bold, lines, page
from services import bots
from services.core import Core
from services.errors import Permanent, Temporary
from services.i18n import Translator, translate_plural, translator
from services.knowledge import documents
from services.knowledge.base import FOR_GOOD, PICTURES

log = structlog.get_logger(__name__)

EDIT_EVERY_S = 2.0
_LOOK_EVERY_S = 15.0


def state_text(document: models.Document, language: str) -> str:
    """Return where a document stands, in one line."""
    _ = translator(language)
    if document.status == "ready" and document.kind in PICTURES:
        return "✅ " + _("Ready")
    if document.status == "ready":
        return "✅ " + ready_text(document.chunk_count, language)
    if document.status == "failed":
        reason = documents.error_text(document)
        return "⚠️ " + (reason.render(language) if reason else _("It could not be read."))
    if document.status == "processing":
        return "📖 " + _("Reading: {n}%", n=document.progress)
    return "📥 " + _("Uploaded, reading starts soon")


def ready_text(count: int, language: str) -> str:
    """Return "Ready" with the number of passages."""
    return translate_plural(language, "Ready: {n} passage", "Ready: {n} passages", count)


def again_key(document: models.Document, _: Translator) -> InlineKeyboardButton | None:
    """Return the button that has a document read once more; None where that cannot help."""
    if document.status != "failed" or document.error_code in FOR_GOOD:
        return None
    return button("🔁 " + _("Try again"), DocMenu(do="retry", bot=document.bot_id, doc=document.id))


def share_key(document: models.Document, _: Translator) -> InlineKeyboardButton:
    """Return the switch that lets customers receive a document, or no more."""
    ids = {"bot": document.bot_id, "doc": document.id}
    if document.shared:
        return button("🔒 " + _("Do not send to customers"), DocMenu(do="keep", **ids))
    return button("📎 " + _("Send to customers"), DocMenu(do="share", **ids))


class Progress:
    """Follows documents in the background; one watcher a document in all processes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._holder, self._lease_s = core.writer.holder, core.settings.queue.lease_s
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._keeping: asyncio.Task[Any] | None = None

    async def follow(self, talk: Talk, tenant: models.Bot, document: models.Document) -> None:
        """Send the message about a document and keep it up to date; does nothing if one is there already."""
        if await get_watch(self._core.db, document.id) is not None:
            await self._take_up(talk.bot)
            return
        language = talk.user.language
        shown = page(lines(bold(document.name), state_text(document, language))).text
        # Without a message to edit only the end is told, in a message of its own.
        number = await talk.send(shown) or 0
        watch = Watch(document.id, tenant.id, talk.chat_id, number, language, holder=self._holder)
        await keep_watch(self._core.db, watch, self._lease_s)
        self._start(talk.bot, watch, shown)

    def begin(self, bot: Bot) -> None:
        """Keep the promises that an earlier life of this process or one that has ended left open, from now on."""
        if self._keeping is None:
            self._keeping = self._core.tasks.start(self._keep(bot), name="promises")

    async def stop(self) -> None:
        """End the watchers of this process; their promises stay, for others to keep."""
        tasks = [*self._running.values(), *([self._keeping] if self._keeping else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with suppress(DatabaseUnavailable):
            await release_watches(self._core.db, self._holder)

    async def _keep(self, bot: Bot) -> None:
        while True:
            try:
                await self._take_up(bot)
            except DatabaseUnavailable:
                log.warning("promises_not_held")
            await asyncio.sleep(self._lease_s / 3)

    async def _take_up(self, bot: Bot) -> None:
        """Hold on to what is followed here, and follow what nobody does; what another process has taken over is left to it."""
        running = dict(self._running)
        held = {watch.document_id: watch for watch in await hold_watches(self._core.db, self._holder, self._lease_s)}
        for watch in held.values():
            self._start(bot, watch)
        for document_id, task in running.items():
            if document_id not in held:
                task.cancel()

    def _start(self, bot: Bot, watch: Watch, shown: str = "") -> None:
        if watch.document_id in self._running:
            return
        task = self._core.tasks.start(self._watch(bot, watch, shown), name=f"progress:{watch.document_id}")
        self._running[watch.document_id] = task
        task.add_done_callback(lambda _done: self._running.pop(watch.document_id, None))

    async def _watch(self, bot: Bot, watch: Watch, shown: str) -> None:
        core = self._core
        edited_at = float("-inf")
        async with core.bell.listen(f"bot:{watch.bot_id}") as rings:
            while True:
                await asyncio.sleep(max(0.0, edited_at + EDIT_EVERY_S - time.monotonic()))
                while not rings.empty():
                    rings.get_nowait()
                try:
                    screen, final = await self._screen(watch)
                    if screen.text != shown:
                        await self._edit(bot, watch, screen, final=final)
                        shown, edited_at = screen.text, time.monotonic()
                    if final:
                        await drop_watch(core.db, watch.document_id)
                        return
                except (Temporary, Permanent, DatabaseUnavailable) as error:
                    # Even a factory bot that is refused may be accepted again: the promise stays.
                    log.info("progress_not_shown", reason=type(error).__name__)
                    edited_at = time.monotonic()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._ring(rings, watch.document_id)

    @staticmethod
    async def _ring(rings: asyncio.Queue[Any], document_id: str) -> None:
        while True:
            message = await rings.get()
            if isinstance(message, dict) and message.get("document") == document_id:
                return

    async def _screen(self, watch: Watch) -> tuple[Page, bool]:
        core, language = self._core, watch.language
        _ = translator(language)
        async with core.db.read() as session:
            tenant = await session.get(models.Bot, watch.bot_id)
            document = await session.get(models.Document, watch.document_id)
            channels = await bots.channels(session, tenant) if tenant is not None else []
        if tenant is None or tenant.deleted_at is not None or document is None or document.deleted_at is not None:
            return page(_("This document was replaced or deleted.")), True
        title, state = bold(document.name), state_text(document, language)
        if document.status == "failed":
            again = again_key(document, _)
            return page(lines(title, state), keyboard=keyboards.inline([again]) if again else None), True
        if document.status != "ready":
            return page(lines(title, state)), False
        if document.kind in PICTURES:
            return page(
                lines(title, state), document.caption, keyboard=keyboards.inline([share_key(document, _)])
            ), True
        tries = await examples.questions(core, tenant, document, language)
        telegram = bots.of_kind(channels, "telegram")
        if telegram is None or not telegram.username:
            hint = [_("Ask it, for example:"), *(f"• {question}" for question in tries)] if tries else []
            return page(lines(title, state), lines(*hint)), True
        rows = [
            [keyboards.link("❓ " + question, keyboards.telegram_link(telegram.username, question))]
            for question in tries
        ]
        return (
            page(
                lines(title, state),
                _("Try it: the question is already written, just press Send.") if tries else "",
                keyboard=keyboards.inline(
                    *rows, [keyboards.link("💬 " + _("Open the bot"), keyboards.telegram_link(telegram.username))]
                ),
            ),
            True,
        )

    async def _edit(self, bot: Bot, watch: Watch, screen: Page, *, final: bool) -> None:
        try:
            await bot.edit_message_text(
                screen.text, chat_id=watch.chat_id, message_id=watch.message_id, reply_markup=screen.keyboard
            )
        except TelegramForbiddenError:
            log.info("person_unreachable")
        except TelegramBadRequest as error:
            if "not modified" in error.message or not final:
                return
            with suppress(TelegramBadRequest, TelegramForbiddenError):
                await send(bot, watch.chat_id, screen.text, screen.keyboard)
