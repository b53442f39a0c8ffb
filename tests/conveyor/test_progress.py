"""Two workers: the one that shows how a document is read ends before it has told the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import select

from db import models
from handlers.storage import all_watches
from services import accounts, bots
from services.polling import factory_channel
from tests.composition import FAQ
from tests.conveyor.harness import floor, new_token, settings_for
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram


async def test_the_owner_hears_of_the_end_from_the_other_worker(
    tmp_path: Path, postgres_url: str, fakes: tuple[FakeTelegram, FakeModels], children: Nursery
) -> None:
    fake, _ = fakes
    factory, user = fake.add_bot(new_token()), fake.user(920_900_001, "en")
    factory.chats.add(user.id)
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    queue = {"lease_s": 3, "idle_poll_s": 0.05}
    settings = settings_for(tmp_path, postgres_url, *fakes, environment=environment, queue=queue)
    async with floor(tmp_path, postgres_url, *fakes, role="web") as place:
        core = place.core
        async with core.db.write() as session:
            owner = await accounts.register_owner(session, telegram_id=user.id, full_name="Owner", language="en")
            await bots.create(session, owner, "Chinor", limits=core.settings.limits)
        await factory_channel(core, await core.telegram.get_me(factory.token))
        pair = await asyncio.gather(*(children.start(settings, role="worker") for _ in range(2)))
        # Both have started their factory bot.
        await fake.wait_call("getMyCommands", bot=factory, times=6, timeout=60)
        fake.fail(502, method="editMessageText", chat_id=user.id, times=None)
        user.send_document(factory, "savollar.txt", FAQ.encode())
        message = await fake.wait_message(user.id, "savollar.txt", bot=factory)
        (watch,) = await place.until(lambda: all_watches(core.db))

        async def read() -> bool:
            return bool(await place.one(select(models.Document.status)) == "ready")

        await place.until(read)
        holders = {next(event["holder"] for event in child.events if "holder" in event): child for child in pair}
        await holders.pop(watch.holder).stop()
        fake.clear_faults()
        await fake.wait_edit(message, "✅", timeout=30)

        async def kept() -> bool:
            return not await all_watches(core.db)

        await place.until(kept)
        for other in holders.values():
            await other.stop()
