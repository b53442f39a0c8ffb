"""The fake Bot API server of the measurements: that of the tests, with a factory bot no customer writes to.

``python -m bench.telegram --bots 20`` prints its address as a line of JSON and serves until it is told to end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal

import uvloop
from aiohttp import web

from tests.fakes.telegram_load import Load, LoadServer, Plan

FACTORY_TOKEN = "7099999999:bench_factory_AAAAAAAAAAAAAAAAAAAA"


class Server(LoadServer):
    """Bots with numbered tokens (``token_of``) take the load; one more is the factory bot."""

    def __init__(self, bots: int) -> None:
        super().__init__(bots)
        self.customers = list(self.bots.values())
        self.add_bot(FACTORY_TOKEN, "bench_factory_bot", can_manage_bots=True)

    async def _load(self, request: web.Request) -> web.Response:
        load = Load(self, Plan(**await request.json()))
        load._bots = self.customers
        return web.json_response(await load.run())


async def _serve(bots: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(bots)
    await server.start()
    print(json.dumps({"base_url": server.base_url}), flush=True)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=1)
    uvloop.run(_serve(parser.parse_args().bots))
