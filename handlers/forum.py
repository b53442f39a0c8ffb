"""A group with topics that serves as an inbox: how it is connected, and what is written in it."""

from __future__ import annotations

from typing import Any

import structlog
from aiogram import Bot
from aiogram.enums import ChatMemberStatus
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError
from aiogram.types import CallbackQuery, Chat, ChatMemberUpdated, Message, ReactionTypeEmoji, Update
from aiogram.types import User as Account
from pydantic import ValidationError

from handlers import keyboards
from handlers.callbacks import ForumMenu
from handlers.talk import Line, bold, html
from services import accounts, bots, forum
from services.channels.base import RemoteFile
from services.core import Core
from services.errors import AppError, Conflict, NotFound, Temporary
from services.i18n import Translator, translator

log = structlog.get_logger(__name__)

_PRESENT = (ChatMemberStatus.MEMBER, ChatMemberStatus.ADMINISTRATOR)


async def handle(core: Core, bot: Bot, update: Update, chat: Chat, account: Account | None) -> bool:
    """Handle what happens in a group; return False for what has nothing to do with an inbox."""
    if update.my_chat_member is not None:
        return await _membership(core, bot, update.my_chat_member, chat)
    if update.callback_query is not None:
        return await _pressed(core, bot, update.callback_query, chat)
    message = update.message or update.edited_message
    if message is None:
        return False
    if message.migrate_to_chat_id is not None:
        async with core.db.write() as session:
            await forum.moved(session, chat.id, message.migrate_to_chat_id)
        return True
    async with core.db.read() as session:
        if await forum.of_chat(session, chat.id) is None:
            return False
    await _written(core, bot, message, chat, account, edited=update.edited_message is not None)
    return True


async def _written(
    core: Core, bot: Bot, message: Message, chat: Chat, account: Account | None, *, edited: bool
) -> None:
    thread = message.message_thread_id
    if thread is None or not message.is_topic_message:
        return
    if message.sender_chat is not None:
        _ = translator(await _language(core, chat.id))
        await _answer(
            bot,
            message,
            _(
                "I cannot see who wrote this, so it was not sent. Turn off “Remain anonymous” in your administrator rights."
            ),
        )
        return
    if account is None or account.is_bot or _is_service(message):
        return
    written, file = message.text or message.caption or "", _file(message)
    if edited:
        outcome = await forum.edited(core, chat.id, account.id, message.message_id, written)
    else:
        outcome = await forum.heard(
            core,
            chat.id,
            thread,
            account.id,
            message.message_id,
            written,
            at=message.date,
            other=not message.text and file is None,
            file=file,
        )
    if outcome is None:
        return
    if outcome.text is not None:
        await _answer(bot, message, outcome.text)
        return
    try:
        await bot.set_message_reaction(chat.id, message.message_id, reaction=[ReactionTypeEmoji(emoji="👍")])
    except (TelegramBadRequest, TelegramForbiddenError, Temporary):
        # What was written is done: for the sign alone it is not taken a second time.
        log.info("forum_not_marked")


def _file(message: Message) -> RemoteFile | None:
    """Return the file of a message that can be passed on; a sticker is none."""
    photo = max(message.photo or (), key=lambda size: size.width, default=None)
    if photo is not None:
        return RemoteFile("photo", {"file_id": photo.file_id}, size=photo.file_size or 0)
    if message.voice is not None:
        return RemoteFile("voice", {"file_id": message.voice.file_id}, size=message.voice.file_size or 0)
    # An animation is a document as well: as the first of both it is a video.
    for kind, found in (
        ("video", message.video or message.animation),
        ("audio", message.audio),
        ("document", message.document),
    ):
        if found is not None:
            return RemoteFile(kind, {"file_id": found.file_id}, found.file_name or "", size=found.file_size or 0)
    if message.video_note is not None:
        return RemoteFile("video", {"file_id": message.video_note.file_id}, size=message.video_note.file_size or 0)
    return None


def _is_service(message: Message) -> bool:
    return any(
        found is not None
        for found in (
            message.forum_topic_created,
            message.forum_topic_edited,
            message.forum_topic_closed,
            message.forum_topic_reopened,
            message.pinned_message,
            message.new_chat_members,
            message.left_chat_member,
        )
    )


async def _language(core: Core, chat_id: int) -> str:
    async with core.db.read() as session:
        return await forum.language_of(session, chat_id)


async def _answer(bot: Bot, message: Message, text: str) -> None:
    try:
        await bot.send_message(
            message.chat.id,
            html(text),
            message_thread_id=message.message_thread_id,
            reply_to_message_id=message.message_id,
        )
    except (TelegramBadRequest, TelegramForbiddenError):
        log.info("group_unreachable")


async def _membership(core: Core, bot: Bot, change: ChatMemberUpdated, chat: Chat) -> bool:
    status = change.new_chat_member.status
    if status not in _PRESENT:
        async with core.db.write() as session:
            await forum.disconnect(session, chat.id, change.from_user.id)
        core.bell.ring("notices")
        return True
    if not chat.is_forum:
        return False
    async with core.db.read() as session:
        if await forum.of_chat(session, chat.id) is not None:
            return True
        user = await accounts.by_telegram(session, change.from_user.id)
        known = await bots.list_for(session, user, "own") if user is not None else []
    _ = translator(user.language if user is not None else change.from_user.language_code or "")
    line = Line(bot, chat.id)
    if user is None or not known:
        await line.say(_("Make your first bot with me in a private chat; then this group can become its inbox."))
    elif not getattr(change.new_chat_member, "can_manage_topics", False):
        await line.say(
            bold(_("This group can become the inbox of your bots.")),
            _("Make me an administrator who may manage topics: then I ask whose conversations should appear here."),
        )
    else:
        await line.say(
            bold(_("Whose conversations should appear here as topics?")),
            _("Your operators answer in the topics, and what they write goes to the customer."),
            keyboard=_choice(_, known, user.id),
        )
    return True


def _choice(_: Translator, known: list[Any], user_id: str) -> Any:
    own = [each for each in known if each.owner_id == user_id]
    rows = [[keyboards.button("🤖 " + each.name, ForumMenu(bot=each.id))] for each in known[:20]]
    if len(own) > 1:
        rows.insert(0, [keyboards.button("📥 " + _("All my bots"), ForumMenu())])
    return keyboards.inline(*rows)


async def _pressed(core: Core, bot: Bot, callback: CallbackQuery, chat: Chat) -> bool:
    try:
        chosen = ForumMenu.unpack(callback.data or "")
    except (ValueError, TypeError, ValidationError):
        return False
    line = Line(bot, chat.id, callback)
    async with core.db.read() as session:
        user = await accounts.by_telegram(session, callback.from_user.id)
    _ = translator(user.language if user is not None else callback.from_user.language_code or "")
    if user is None or user.banned_at is not None:
        await line.toast(_("Only the owner of the bots can choose this."), alert=True)
        return True
    if not chat.is_forum:
        await line.toast(
            _("Make me an administrator who may manage topics: then I ask whose conversations should appear here."),
            alert=True,
        )
        return True
    try:
        async with core.db.write() as session:
            await forum.connect(session, user, chat.id, chat.title or "", chosen.bot or None)
    except NotFound:
        await line.toast(_("Only the owner of the bots can choose this."), alert=True)
        return True
    except (Conflict, AppError) as error:
        await line.toast(error.text.render(user.language), alert=True)
        return True
    core.bell.ring("forum")
    await line.toast()
    await line.drop_buttons()
    await line.say(
        bold("✅ " + _("This group is now an inbox.")),
        _("Every conversation gets a topic of its own. Write in it and the customer gets your message."),
        _(
            "Lines that begin with / are notes for your colleagues. /bot gives the conversation back to the bot, /close closes "
            "it, /assign makes it yours."
        ),
    )
    return True
