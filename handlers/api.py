"""How the factory bot's own calls fail: in the program's words, with short waits obeyed here."""

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
from aiogram.methods import Response, TelegramMethod
from aiogram.methods.base import TelegramType
from aiogram.types import InlineKeyboardMarkup, Message, ReplyKeyboardMarkup, ReplyKeyboardRemove

from services.channels.base import TokenRefused
from services.errors import Temporary

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


async def send(bot: Bot, chat_id: int, text: str, keyboard: Keyboard | None = None) -> Message | None:
    """Send a message; return None where nobody knows whether it arrived.

    That must not undo the handling of an update: what was said before, and perhaps this, would be said again.
    """
    try:
        return await bot.send_message(chat_id, text, reply_markup=keyboard)
    except Temporary as error:
        if not error.sent:
            raise
        log.warning("send_unknown", reason=str(error))
        return None


def make_bot(token: str, api_base: str, timeout_s: float) -> Bot:
    """Return aiogram's bot for the Bot API at ``api_base``."""
    session = AiohttpSession(api=TelegramAPIServer.from_base(api_base.rstrip("/")), timeout=timeout_s)
    session.middleware(Failures())
    return Bot(
        token,
        session=session,
        default=DefaultBotProperties(parse_mode=ParseMode.HTML, link_preview_is_disabled=True),
    )
