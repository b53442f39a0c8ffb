"""Who writes, in which language, and whether that is somebody we talk with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiogram import BaseMiddleware, Bot
from aiogram.enums import ChatMemberStatus, ChatType
from aiogram.exceptions import TelegramAPIError, TelegramBadRequest, TelegramForbiddenError
from aiogram.types import Chat, Message, TelegramObject, Update
from aiogram.types import User as Account

from db import models
from handlers import errors, forum
from handlers.progress import Progress
from handlers.storage import Dialog
from handlers.talk import Line, Talk
from services import accounts, referrals
from services.core import Core
from services.errors import AppError
from services.i18n import normalize_language, translator
from services.text import one_line

log = structlog.get_logger(__name__)

_BANNED_LINE_S = 600
Handler = Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]]


class People(BaseMiddleware):
    """Gives handlers ``user``, ``_`` and ``talk``; answers in one line where there is nothing to handle.

    An update that was handled to its end is not handled again; one that was not begins anew where it began. Other bots,
    channels and anonymous administrators of groups are nobody to talk with. In a group that is no inbox only commands that name
    this bot get a line.
    """

    def __init__(self, core: Core, progress: Progress) -> None:
        self._core = core
        self._progress = progress

    async def __call__(self, handler: Handler, event: TelegramObject, data: dict[str, Any]) -> Any:
        """See :class:`aiogram.BaseMiddleware`."""
        account: Account | None = data.get("event_from_user")
        chat: Chat | None = data.get("event_chat")
        bot: Bot = data["bot"]
        if not isinstance(event, Update):
            return None
        if (
            chat is not None
            and chat.type != ChatType.PRIVATE
            and await forum.handle(self._core, bot, event, chat, account)
        ):
            return None
        if account is None or account.is_bot:
            return None
        if event.my_chat_member is None and event.message is not None and event.message.sender_chat is not None:
            return None
        if chat is not None and chat.type != ChatType.PRIVATE:
            return await self._in_group(event, chat, account, bot)
        if event.my_chat_member is not None:
            log.info("factory_membership", status=event.my_chat_member.new_chat_member.status)
            return None
        dialog = await Dialog.open(self._core.db, bot.id, account.id, event.update_id)
        if dialog.closed:
            return None
        user = await self._user(account, event)
        talk = Talk(
            bot,
            account.id,
            event.callback_query,
            core=self._core,
            user=user,
            dialog=dialog,
            progress=self._progress,
        )
        _ = talk.gettext
        if user.banned_at is not None:
            return await self._banned(talk, user)
        data |= {"user": user, "_": _, "talk": talk, "core": self._core, "db": self._core.db, "raw_state": dialog.state}
        try:
            result = await handler(event, data)
        except (AppError, TelegramAPIError) as error:
            if not await errors.handled(error, talk):
                raise
            result = None
        await talk.toast()
        await dialog.close()
        await self._core.pause("dialog_closed")
        return result

    async def _user(self, account: Account, event: Update) -> models.User:
        admin_ids = self._core.settings.secrets.admin_telegram_ids
        async with self._core.db.read() as session:
            user = await accounts.by_telegram(session, account.id)
        if user is not None and (user.is_admin or account.id not in admin_ids):
            return user
        code, visitor, now = _partner_code(event), referrals.telegram_visitor(account.id), self._core.now()
        async with self._core.db.write() as session:
            if code:
                await referrals.touched(session, code, visitor, now=now)
            made = await accounts.ensure_telegram_user(
                session,
                account.id,
                full_name=one_line(account.full_name, 200),
                language_code=account.language_code,
                admin_ids=admin_ids,
            )
            if user is None:
                await referrals.registered(session, self._core.settings, made, visitor, now=now)
            return made

    async def _banned(self, talk: Talk, user: models.User) -> None:
        _ = talk.gettext
        text = _("Your account is blocked. Please write to whoever runs this service.")
        if await talk.toast(text, alert=True):
            return
        if await self._core.limits.hit(f"banned:{user.id}", 1, _BANNED_LINE_S):
            try:
                await talk.say(text)
            except (TelegramBadRequest, TelegramForbiddenError):
                log.info("person_unreachable")

    async def _in_group(self, update: Update, chat: Chat, account: Account, bot: Bot) -> None:
        _ = translator(normalize_language(account.language_code))
        me = await bot.me()
        text = _("I work in a private chat: open {address} and press Start.", address=f"https://t.me/{me.username}")
        if update.callback_query is not None:
            await Line(bot, chat.id, update.callback_query).toast(text, alert=True)
            return
        joined = update.my_chat_member is not None and (
            update.my_chat_member.old_chat_member.status in (ChatMemberStatus.LEFT, ChatMemberStatus.KICKED)
            and update.my_chat_member.new_chat_member.status
            in (ChatMemberStatus.MEMBER, ChatMemberStatus.ADMINISTRATOR)
        )
        if joined or (update.message is not None and _names(update.message, f"@{me.username}")):
            try:
                await Line(bot, chat.id).say(text)
            except (TelegramBadRequest, TelegramForbiddenError):
                log.info("group_unreachable")


def _partner_code(update: Update) -> str:
    """Return the code of the partner whose link was opened; empty where the update is no such start."""
    text = (update.message.text or "") if update.message is not None else ""
    command, _, word = text.partition(" ")
    return (
        word.strip()[len(referrals.START_WORD) :]
        if command == "/start" and word.startswith(referrals.START_WORD)
        else ""
    )


def _names(message: Message, mention: str) -> bool:
    """Whether a message is a command that names the bot."""
    text = message.text or ""
    return any(
        entity.type == "bot_command" and entity.extract_from(text).lower().endswith(mention.lower())
        for entity in message.entities or ()
    )
