"""Deliveries that fail: whoever can mend the address of all bots hears of it once, beside the owners of the bots."""

from __future__ import annotations

import operator
from functools import partial
from pathlib import Path

from sqlalchemy import select

from db import models
from services import accounts, bots, inbox
from tests.composition import address, make_shop
from tests.conveyor.clock import due, named
from tests.conveyor.harness import Floor, Tenant, new_token
from tests.conveyor.owners import Owner, owner
from tests.conveyor.test_webhook_mode import PUBLIC, hooked
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeBot, FakeTelegram
from tests.servers import free_port

Fakes = tuple[FakeTelegram, FakeModels]


async def _told(place: Floor, person: Owner) -> list[tuple[str, bool]]:
    async with place.core.db.read() as session:
        user = await accounts.by_email(session, person.email)
        assert user is not None
        rows = await session.scalars(
            select(models.Notice).where(models.Notice.user_id == user.id).order_by(models.Notice.id)
        )
        return [(notice.kind, notice.resolved_at is None) for notice in rows]


async def _administrator(place: Floor, factory: FakeBot) -> Owner:
    person = await owner(place, factory)
    async with place.core.db.write() as session:
        user = await accounts.by_email(session, person.email)
        assert user is not None
        user.role = "admin"
    return person


async def _checked(place: Floor, channel_id: str, bot: FakeBot) -> None:
    checks = len(place.fake.called("getWebhookInfo", bot))
    await due(f"receive:{channel_id}")
    await place.fake.wait_call("getWebhookInfo", bot=bot, times=checks + 1)


async def _left(shop: Tenant) -> bool:
    return not named(f"receive:{shop.shop.channel.id}")


async def _shop(place: Floor, person: Owner) -> Tenant:
    bot = place.fake.add_bot(new_token())
    shop = await make_shop(place.core, email=person.email, telegram=bot.token)
    await place.fake.wait_until(lambda: bot.webhook_url)
    return Tenant(place.fake, bot, shop)


async def test_administrators_hear_once_that_deliveries_fail(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    async with hooked(tmp_path, sqlite_url, fakes, environment={"TELEGRAM_BOT_TOKEN": factory.token}) as place:
        admin = await _administrator(place, factory)
        owners = [await owner(place, factory) for _ in range(2)]
        shops = [await _shop(place, person) for person in owners]
        fake.route(PUBLIC, f"http://127.0.0.1:{free_port()}")
        numbers = [shop.ask(shop.person()) for shop in shops]
        for shop in shops:
            await fake.wait_until(partial(operator.attrgetter("webhook_error"), shop.bot))
            await _checked(place, shop.shop.channel.id, shop.bot)
            await place.noticed(shop, "webhook_failed")

        async def heard() -> bool:
            return await _told(place, admin) == [("webhook_failed", True)]

        await place.until(heard)
        await admin.hears("⚠️", "webhook_failed_here", shops[0])
        for shop in shops:
            await _checked(place, shop.shop.channel.id, shop.bot)
        assert await _told(place, admin) == [("webhook_failed", True)]
        assert [await _told(place, person) for person in owners] == [[("webhook_failed", True)]] * 2
        for person, shop in zip(owners, shops, strict=True):
            await person.hears("⚠️", "webhook_failed", shop)
        fake.route(PUBLIC, address(place.core))
        for shop, number in zip(shops, numbers, strict=True):
            assert (await shop.answered([number]))[number] == 1
            await fake.wait_delivered(shop.bot)
            await _checked(place, shop.shop.channel.id, shop.bot)
            await place.noticed(shop, "channel_recovered")
        assert await _told(place, admin) == [("webhook_failed", False), ("channel_recovered", True)]


async def test_a_bot_that_was_disconnected_hides_no_others_trouble(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    async with hooked(tmp_path, sqlite_url, fakes, environment={"TELEGRAM_BOT_TOKEN": factory.token}) as place:
        admin = await _administrator(place, factory)
        shops = [await _shop(place, await owner(place, factory)) for _ in range(2)]
        fake.route(PUBLIC, f"http://127.0.0.1:{free_port()}")
        for earlier, shop in enumerate(shops):
            channel = shop.shop.channel.id
            shop.ask(shop.person())
            await fake.wait_until(partial(operator.attrgetter("webhook_error"), shop.bot))
            await _checked(place, shop.shop.channel.id, shop.bot)

            async def told(before: int = earlier) -> bool:
                return await _told(place, admin) == [("webhook_failed", False)] * before + [("webhook_failed", True)]

            await place.until(told)
            async with place.core.db.write() as session:
                bot = await bots.get(session, shop.shop.owner, shop.shop.bot.id)
                await bots.disconnect(session, bot, channel)
                # Nothing stays of a trouble with what is no more, and nobody hears that it works again.
                open_still = select(models.Notice.kind).where(models.Notice.resolved_at.is_(None))
                assert not (await session.scalars(open_still.where(models.Notice.key.contains(channel)))).all()
            place.core.bell.ring("channels")
            await place.until(partial(_left, shop))


async def test_the_factory_bots_own_deliveries_are_looked_at(tmp_path: Path, sqlite_url: str, fakes: Fakes) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    async with hooked(tmp_path, sqlite_url, fakes, environment={"TELEGRAM_BOT_TOKEN": factory.token}) as place:
        admin = await _administrator(place, factory)
        somebody = await owner(place, factory)
        await fake.wait_until(lambda: factory.webhook_url)
        channel = await place.one(select(models.Channel.id).where(models.Channel.kind == inbox.FACTORY))
        fake.route(PUBLIC, f"http://127.0.0.1:{free_port()}")
        fake.user(somebody.number).send(factory, "/help")
        await fake.wait_until(lambda: factory.webhook_error)
        await _checked(place, channel, factory)
        said = f"⚠️ “@{factory.username}”: Telegram reports"
        await fake.wait_message(admin.number, said, bot=factory, timeout=20)
        assert await _told(place, admin) == [("webhook_failed", True)]
        assert await _told(place, somebody) == []
        fake.route(PUBLIC, address(place.core))
        await fake.wait_message(somebody.number, "/newbot", bot=factory)
        await _checked(place, channel, factory)

        async def solved() -> bool:
            return await _told(place, admin) == [("webhook_failed", False), ("channel_recovered", True)]

        await place.until(solved)
