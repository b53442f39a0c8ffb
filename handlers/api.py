"""The factory bot's own calls: at Telegram's pace, and failing in the program's words, with short waits obeyed here."""

from __future__ import annotations

import asyncio

import structlog
from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.session.middlewares.base import BaseRequestMiddleware, NextRequestMiddlewareType
from aiogram.client.telegram import TelegramAPIServer
from aiogram.enums import ParseMode
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramEntityTooLarge,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.methods import Response, SendMessage, TelegramMethod
from aiogram.methods.base import TelegramType
from aiogram.types import BufferedInputFile, InlineKeyboardMarkup, ReplyKeyboardMarkup, ReplyKeyboardRemove

from services.channels.base import TokenRefused
from services.errors import Temporary
from services.limits import Limits
from services.settings import Telegram

log = structlog.get_logger(__name__)

Keyboard = InlineKeyboardMarkup | ReplyKeyboardMarkup | ReplyKeyboardRemove
_PATIENCE_S = 20
_ATTEMPTS = 3


class Failures(BaseRequestMiddleware):
    """Waits as long as Telegram asks if that is short; turns what may pass into ``Temporary``, without the address.

    The address holds the token, so the original exception is not chained.
    """

    async def __call__(
        self,
        make_request: NextRequestMiddlewareType[TelegramType],
        bot: Bot,
        method: TelegramMethod[TelegramType],
    ) -> Response[TelegramType]:
        """See :class:`aiogram.client.session.middlewares.base.BaseRequestMiddleware`."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await make_request(bot, method)
            except TelegramRetryAfter as error:
                if attempt >= _ATTEMPTS or error.retry_after > _PATIENCE_S:
                    raise Temporary("too many requests", retry_after_s=float(error.retry_after)) from None
                await asyncio.sleep(error.retry_after)
            except TelegramEntityTooLarge:
                raise
            except TelegramNetworkError as error:
                reason = error.message.partition(":")[0][:60]
                raise Temporary(f"no answer from Telegram: {reason}", sent="ClientConnector" not in reason) from None
            except TelegramServerError:
                raise Temporary("Telegram has an error of its own") from None
            except ClientDecodeError:
                raise Temporary("the answer is not Telegram's", sent=True) from None
            except (TelegramUnauthorizedError, TelegramNotFound):
                raise TokenRefused("the factory bot's token is not accepted") from None


class Pace(BaseRequestMiddleware):
    """Lets messages wait for their turn: so many a second to one chat, so many from this bot."""

    def __init__(self, settings: Telegram, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits

    async def __call__(
        self,
        make_request: NextRequestMiddlewareType[TelegramType],
        bot: Bot,
        method: TelegramMethod[TelegramType],
    ) -> Response[TelegramType]:
        """See :class:`aiogram.client.session.middlewares.base.BaseRequestMiddleware`."""
        if isinstance(method, SendMessage):
            settings, rate = self._settings, self._settings.messages_per_second
            chat = f"chat:{bot.id}:{method.chat_id}"
            await self._limits.pace(chat, settings.chat_messages_per_second, settings.chat_burst)
            await self._limits.pace(f"bot:{bot.id}", rate, max(1.0, rate))
        return await make_request(bot, method)


async def send(bot: Bot, chat_id: int, text: str, keyboard: Keyboard | None = None) -> int | None:
    """Send a message and return its number; return None where nobody knows whether it arrived.

    That must not undo the handling of an update: what was said before, and perhaps this, would be said again.
    """
    try:
        return (await bot.send_message(chat_id, text, reply_markup=keyboard)).message_id
    except Temporary as error:
        if not error.sent:
            raise
        log.warning("send_unknown", reason=str(error))
        return None


async def send_paper(
    bot: Bot, chat_id: int, paper: tuple[str, bytes], caption: str = "", keyboard: InlineKeyboardMarkup | None = None
) -> int | None:
    """Send a document (name and content) as :func:`send` does a message."""
    name, content = paper
    try:
        document = BufferedInputFile(content, name)
        sent = await bot.send_document(chat_id, document, caption=caption or None, reply_markup=keyboard)
        return sent.message_id
    except Temporary as error:
        if not error.sent:
            raise
        log.warning("send_unknown", reason=str(error))
        return None


def make_bot(token: str, settings: Telegram, limits: Limits) -> Bot:
    """Return aiogram's bot for the Bot API of the settings."""
    api = TelegramAPIServer.from_base(settings.api_base.rstrip("/"))
    session = AiohttpSession(api=api, timeout=settings.send_timeout_s)
    session.middleware(Pace(settings, limits))
    session.middleware(Failures())
    return Bot(
        token,
        session=session,
        default=DefaultBotProperties(parse_mode=ParseMode.HTML, link_preview_is_disabled=True),
    )
