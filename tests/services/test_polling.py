"""Asking Telegram for updates: what is no list is not taken for an empty one, and what Telegram has is not sent again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from services.channels.telegram import TelegramApi, get_updates
from services.errors import Temporary
from services.http import make_session
from tests.composition import make_shop
from tests.conveyor.harness import Floor, Tenant, floor, new_token, surroundings
from tests.fakes.telegram import FakeTelegram

USUAL_POOL = 100  # aiohttp's own limit of connections


@pytest.mark.parametrize("result", [True, None, {}, "", 0], ids=repr)
async def test_an_answer_that_is_no_list_passes_for_a_failure(telegram: FakeTelegram, result: Any) -> None:
    bot = telegram.add_bot(new_token())
    telegram.answer_with(200, {"ok": True, "result": result}, bot=bot, method="getUpdates")
    session = make_session()
    try:
        api = TelegramApi(session, telegram.base_url)
        with pytest.raises(Temporary):
            await get_updates(api, bot.token, None, 1)
        telegram.user(910_000_001).send(bot, "salom")
        assert [update["message"]["text"] for update in await get_updates(api, bot.token, None, 1)] == ["salom"]
    finally:
        await session.close()


async def test_more_bots_than_a_usual_pool_has_places_are_polled_at_once(telegram: FakeTelegram) -> None:
    bots = [telegram.add_bot(new_token()) for _ in range(USUAL_POOL + 20)]
    session = make_session()
    try:
        api = TelegramApi(session, telegram.base_url)
        async with asyncio.TaskGroup() as polls:
            polling = [polls.create_task(get_updates(api, bot.token, None, 50)) for bot in bots]
            await telegram.wait_until(lambda: all(bot.polled for bot in bots), 20)
            for bot in bots:
                telegram.user(910_000_002).send(bot, "salom")
        assert all(len(poll.result()) == 1 for poll in polling)
    finally:
        await session.close()


async def test_menus_that_telegram_has_are_not_set_again(tmp_path: Path, sqlite_url: str) -> None:
    async with surroundings() as (fake, fake_models):
        bot = fake.add_bot(new_token())

        async def menus(place: Floor, shop: Tenant) -> Any:
            settings = await place.one(select(models.Channel.settings).where(models.Channel.id == shop.shop.channel.id))
            return (settings or {}).get("commands")

        async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
            shop = Tenant(fake, bot, await make_shop(place.core, telegram=bot.token))
            wording = await place.until(lambda: menus(place, shop))
        calls = len(fake.called("setMyCommands", bot))
        assert calls == 4
        async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
            await shop.answered([shop.ask(shop.person())])
            assert len(fake.called("setMyCommands", bot)) == calls
            async with place.core.db.write() as session:
                channel = await session.get_one(models.Channel, shop.shop.channel.id)
                channel.settings = {**channel.settings, "commands": "of an older release"}
        async with floor(tmp_path, sqlite_url, fake, fake_models) as place:
            await fake.wait_call("setMyCommands", bot=bot, times=calls + 4)

            async def noted() -> bool:
                return bool(await menus(place, shop) == wording)

            await place.until(noted)
