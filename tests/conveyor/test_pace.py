"""Telegram's limits on sending, with the settings' own numbers: what is sent keeps within them, so nothing is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from db import models
from db.base import utcnow
from services.channels.base import Outgoing
from services.channels.telegram import place_of
from services.conversations.records import out_lane
from services.settings import Telegram
from tests.conveyor.clock import due, waits
from tests.conveyor.harness import Floor, Tenant, floor, texts
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser

Fakes = tuple[FakeTelegram, FakeModels]
DEFAULT = Telegram()
PACE = DEFAULT.model_dump(include={"messages_per_second", "chat_messages_per_second", "chat_burst"})
ANSWER = "Ha, bor!"
GROUP_A_MINUTE = 20  # Telegram's number: core.telegram.org/bots/faq, "My bot is hitting limits"


async def _put(place: Floor, shop: Tenant, recipients: Sequence[str], each: int) -> None:
    """Put ``each`` answers for every recipient into the outbox at once."""
    channel, owner = shop.shop.channel.id, shop.shop.owner.id
    item = {"channel_id": channel, "payload": json.dumps(Outgoing(ANSWER).to_payload()), "created_at": utcnow()}
    item |= {"status": "queued", "attempts": 0, "unsure": False}
    lane = {"kind": "outbox", "owner_id": owner, "pending": each, "waiting_since": 1.0}
    keys = {recipient: out_lane(channel, recipient) for recipient in recipients}
    shop.bot.chats.update(int(place_of(recipient).chat) for recipient in recipients)

    def put(connection: Connection) -> None:
        connection.execute(insert(models.Lane), [{**lane, "key": key} for key in keys.values()])
        rows = [{**item, "lane": key, "recipient": recipient} for recipient, key in keys.items() for _ in range(each)]
        connection.execute(insert(models.OutboxItem), rows)

    await place.core.db.transact(put)
    place.core.bell.ring("outbox")


async def _answer(place: Floor, shop: Tenant, people: Sequence[FakeUser], each: int) -> None:
    """Put ``each`` answers for everybody into the outbox at once, and wait until they are sent."""
    await _put(place, shop, [str(person.id) for person in people], each)
    await place.fake.wait_until(lambda: len(place.fake.sent) == each * len(people), 30)
    assert texts(place.fake.sent) == [ANSWER] * each * len(people)


async def _attempts(place: Floor) -> set[int]:
    async def marked() -> bool:
        return not await place.rows(select(models.OutboxItem.id).where(models.OutboxItem.status != "sent"))

    await place.until(marked)
    return {row.attempts for row in await place.rows(select(models.OutboxItem.attempts))}


async def test_a_chat_gets_no_more_than_telegram_lets_pass(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    # A short burst passes, then one a second.
    fake.per_chat = DEFAULT.chat_burst + 1
    async with floor(tmp_path, sqlite_url, *fakes, telegram=PACE) as place:
        shop = await place.tenant(document=None)
        await _answer(place, shop, [shop.person(), shop.person()], DEFAULT.chat_burst + 3)
        assert fake.violations == 0
        assert await _attempts(place) == {1}


@pytest.mark.parametrize("in_topic", [False, True])
async def test_a_group_gets_no_more_in_a_minute_than_telegram_lets_pass(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, in_topic: bool
) -> None:
    fake, _ = fakes
    clock = asyncio.get_running_loop().time
    # What is left waits for the minute to pass; the stop does not.
    stop = {"shutdown_timeout_s": 1}
    async with floor(tmp_path, sqlite_url, *fakes, telegram=PACE, server=stop) as place:
        shop = await place.tenant(document=None)
        group = fake.group(-1_001_000_000_001)
        recipient = f"{group.id}#{group.topic(shop.bot, 'Narxlar')}" if in_topic else str(group.id)
        minute_ends = clock() + 60
        await _put(place, shop, [recipient], GROUP_A_MINUTE + 10)
        sending = f"outbox:{out_lane(shop.shop.channel.id, recipient)}"
        # Every wait that ends within the minute is over now; the first one that outlasts it shows what the minute let pass.
        while (await waits(sending)).when() <= minute_ends:
            await due(sending)
        assert GROUP_A_MINUTE - DEFAULT.chat_burst <= len(fake.sent) <= GROUP_A_MINUTE


async def test_a_bot_sends_no_more_than_telegram_lets_pass(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    # A quiet second's share may go with the next one's; the third part is for clocks that a busy machine keeps late.
    rate = round(DEFAULT.messages_per_second)
    fake.per_bot = 3 * rate
    async with floor(tmp_path, sqlite_url, *fakes, telegram=PACE) as place:
        shop = await place.tenant(document=None)
        await _answer(place, shop, [shop.person() for _ in range(4 * rate)], 1)
        assert fake.violations == 0
        assert await _attempts(place) == {1}
