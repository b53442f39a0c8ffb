"""A plain aiogram webhook bot as its documentation shows one: a dispatcher, a handler, the model's SDK. Nothing is stored."""

from __future__ import annotations

from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web
from openai import AsyncOpenAI

from bench.references.common import INSTRUCTIONS, SECRET, given


def main() -> None:
    """Serve until killed."""
    options = given()
    openai = AsyncOpenAI(api_key="sk-measurement-0000000000000000", base_url=options.openai)
    dispatcher = Dispatcher()
    # The limit is raised: at its usual 100 connections it would wait where the others do not.
    session = AiohttpSession(api=TelegramAPIServer.from_base(options.api), limit=1000)
    bot = Bot(options.token, session=session)

    @dispatcher.message(F.text)
    async def question(message: Message) -> None:
        reply = await openai.responses.create(
            model="gpt-6-luna",
            instructions=INSTRUCTIONS,
            input=message.text or "",
            max_output_tokens=700,
            store=False,
        )
        await message.answer(reply.output_text)

    @dispatcher.startup()
    async def set_webhook(bot: Bot) -> None:
        address = f"http://127.0.0.1:{options.port}/webhook"
        await bot.set_webhook(address, secret_token=SECRET, max_connections=1000)

    app = web.Application()
    SimpleRequestHandler(dispatcher, bot, secret_token=SECRET).register(app, path="/webhook")
    setup_application(app, dispatcher, bot=bot)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None, backlog=1024)


if __name__ == "__main__":
    main()
