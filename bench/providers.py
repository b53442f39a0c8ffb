"""Processor time of one model call: each SDK as it comes, and through our adapter.

``python -m bench.providers`` starts a model server with fixed answers in another process and prints milliseconds of this
process's CPU per call. The bare aiohttp call is the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from services.ai import provider_class
from services.ai.base import GenerateRequest, Turn

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = "Siz do‘konning yordamchisisiz. Faqat quyidagi ma’lumotlarga tayanib javob bering. " * 60
TURNS = (Turn("user", "Salom"), Turn("assistant", "Salom! 😊"), Turn("user", "Nok necha pul?"))
REQUEST = GenerateRequest("model", SYSTEM, TURNS, 700)
Timed = Callable[[], Awaitable[Any]]


async def cpu_ms(call: Timed, calls: int, at_once: int) -> float:
    """CPU milliseconds per call of this process, after a warm-up."""
    for _ in range(20):
        await call()

    async def worker() -> None:
        for _ in range(calls // at_once):
            await call()

    started = time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (time.process_time() - started) / (calls // at_once * at_once) * 1000


def plain_calls(url: str) -> dict[str, Timed]:
    """The SDKs as their documentation shows them."""
    from anthropic import AsyncAnthropic
    from google.genai import Client, types
    from openai import AsyncOpenAI

    openai = AsyncOpenAI(api_key="k", base_url=f"{url}/v1")
    anthropic = AsyncAnthropic(api_key="k", base_url=url)
    gemini = Client(api_key="k", http_options=types.HttpOptions(base_url=url)).aio
    messages: Any = [{"role": t.role, "content": t.text} for t in TURNS]
    contents: Any = [
        types.Content(role="model" if t.role == "assistant" else "user", parts=[types.Part(text=t.text)]) for t in TURNS
    ]
    config = types.GenerateContentConfig(system_instruction=SYSTEM, max_output_tokens=700)
    return {
        "gemini": lambda: gemini.models.generate_content(model="model", contents=contents, config=config),
        "openai": lambda: openai.responses.create(
            model="model", instructions=SYSTEM, input=messages, max_output_tokens=700, store=False
        ),
        "anthropic": lambda: anthropic.messages.create(
            model="model", max_tokens=700, system=[{"type": "text", "text": SYSTEM}], messages=messages
        ),
    }


async def measure(calls: int, at_once: int) -> None:
    """Run all measurements and print the table."""
    server = subprocess.Popen([sys.executable, "-m", "tests.fakes.models"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            body = orjson.dumps({"model": "model", "instructions": SYSTEM, "input": [{"role": "user"}]})

            async def bare() -> Any:
                async with session.post(f"{url}/v1/responses", data=body) as response:
                    return orjson.loads(await response.read())

            print(f"CPU ms per call, {calls} calls, {at_once} at once")
            print(f"{'bare aiohttp':12} {await cpu_ms(bare, calls, at_once):6.2f}")
            print(f"{'':12} {'SDK':>6} {'ours':>6} {'ours, streamed':>15} {'embedding':>10}")
            plain = plain_calls(url)
            for kind, as_it_comes in plain.items():
                provider = provider_class(kind)(session, f"{url}/v1" if kind == "openai" else url)

                async def ours(provider: Any = provider) -> Any:
                    return await provider.generate(REQUEST, api_key="k")

                async def streamed(provider: Any = provider) -> Any:
                    return await provider.generate(REQUEST, api_key="k", on_delta=len)

                async def embedded(provider: Any = provider) -> Any:
                    return await provider.embed(["x"], model="m", api_key="k", task="query")

                numbers = [await cpu_ms(call, calls, at_once) for call in (as_it_comes, ours, streamed)]
                vectors = "-" if kind == "anthropic" else f"{await cpu_ms(embedded, calls, at_once):.2f}"
                print(f"{kind:12} {numbers[0]:6.2f} {numbers[1]:6.2f} {numbers[2]:15.2f} {vectors:>10}")
    finally:
        server.kill()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=10)
    given = parser.parse_args()
    uvloop.run(measure(given.calls, given.at_once))


if __name__ == "__main__":
    main()
