"""A bare aiohttp webhook bot: verify the secret, ask the model with its SDK, send the answer. Nothing is stored.

What any bot costs on this machine that speaks HTTP by aiohttp and uses the SDK as it comes.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import aiohttp
from aiohttp import web
from openai import AsyncOpenAI

from bench.references.common import INSTRUCTIONS, SECRET, given


async def run() -> None:
    """Serve until killed."""
    options = given()
    openai = AsyncOpenAI(api_key="sk-measurement-0000000000000000", base_url=options.openai)
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(f"{options.api}/bot{options.token}/", connector=connector)
    tasks: set[asyncio.Task[None]] = set()

    async def answer(message: dict[str, Any]) -> None:
        reply = await openai.responses.create(
            model="gpt-6-luna", instructions=INSTRUCTIONS, input=message["text"], max_output_tokens=700, store=False
        )
        data = {"chat_id": message["chat"]["id"], "text": reply.output_text}
        async with session.post("sendMessage", json=data) as response:
            await response.read()

    async def receive(request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get("X-Telegram-Bot-Api-Secret-Token", ""), SECRET):
            return web.Response(status=401)
        task = asyncio.create_task(answer((await request.json())["message"]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return web.Response()

    app = web.Application()
    app.router.add_post("/webhook", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
    webhook = {"url": f"http://127.0.0.1:{options.port}/webhook", "secret_token": SECRET, "max_connections": 1000}
    async with session.post("setWebhook", json=webhook) as response:
        response.raise_for_status()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run())
