"""Webhooks as the way in: the switch from polling and back, secrets, many updates at once, and deliveries that fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, select

from db import models
from services.i18n import translate
from tests.composition import address, make_shop
from tests.conveyor.clock import due
from tests.conveyor.harness import Floor, Tenant, floor, new_token
from tests.conveyor.owners import owner
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram, FakeUser
from tests.servers import free_port

Fakes = tuple[FakeTelegram, FakeModels]
PUBLIC = "https://bots.example.uz"
SECRET = "X-Telegram-Bot-Api-Secret-Token"
BUSY = "Very many people are writing to us right now. Please write again a little later 🙏"
_updates = count(700_000)


@asynccontextmanager
async def hooked(
    folder: Path,
    database_url: str | None,
    fakes: Fakes,
    *,
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> AsyncIterator[Floor]:
    """Start the product behind the public address to which Telegram delivers."""
    fake, fake_models = fakes
    port = free_port()
    fake.route(PUBLIC, f"http://127.0.0.1:{port}")
    given = {"WEBHOOK_BASE_URL": PUBLIC, "PORT": str(port), **(environment or {})}
    async with floor(
        folder, database_url, fake, fake_models, role="all", environment=given, limits=limits or {}
    ) as place:
        yield place


async def _hooked_tenant(place: Floor, email: str) -> Tenant:
    """Make an owner with a connected bot; returns when Telegram delivers to it."""
    bot = place.fake.add_bot(new_token())
    shop = await make_shop(place.core, email=email, telegram=bot.token)
    await place.fake.wait_until(lambda: bot.webhook_url)
    return Tenant(place.fake, bot, shop)


def _update(person: FakeUser, kind: str = "message", /, *, message_id: int = 1, **content: Any) -> dict[str, Any]:
    message = {"message_id": message_id, "from": person.user(), "chat": person.chat(), "date": int(time.time())}
    return {"update_id": next(_updates), kind: {**message, **content}}


async def _post(place: Floor, tenant: Tenant, *updates: Mapping[str, Any], secret: str | None = None) -> list[int]:
    """Deliver updates all at once; return the statuses."""
    url = f"{address(place.core)}/telegram/webhook/{tenant.shop.channel.id}"
    headers = {SECRET: tenant.shop.channel.secret if secret is None else secret}

    async def post(session: aiohttp.ClientSession, update: Mapping[str, Any]) -> int:
        async with session.post(url, headers=headers, json=update) as answer:
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) > 0
            return answer.status

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(post(session, update) for update in updates))


async def _count(place: Floor, model: type[models.Contact | models.Conversation | models.InboxItem]) -> int:
    return int(await place.one(select(func.count()).select_from(model)))


async def test_from_polling_to_webhooks_and_back_nothing_is_lost_or_doubled(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        people = [shop.person() for _ in range(3)]
        await shop.answered([shop.ask(person) for person in people])
        # These are stored and answered, but never confirmed: the next poll is refused until the end.
        unconfirmed = fake.fail(502, bot=shop.bot, method="getUpdates", times=None)
        await shop.answered([shop.ask(person) for person in people])
        await unconfirmed.reached.wait()
    fake.clear_faults()
    assert shop.bot.pending and not fake.called("setWebhook")
    between = [shop.ask(person) for person in people]

    polls = {bot: len(fake.called("getUpdates", bot)) for bot in (shop.bot, other.bot)}
    async with hooked(tmp_path, database_url, fakes) as place:
        await shop.answered(between)
        await shop.answered([shop.ask(person) for person in people])
        await other.answered([other.ask(other.person())])
        number = shop.ask(people[0])
        last = list(shop.bot.pending.values())[-1]
        await shop.answered([number])
        await fake.wait_delivered(shop.bot)
        for tenant in (shop, other):
            calls = fake.called("setWebhook", tenant.bot)
            assert [(call.params["url"], call.params["secret_token"]) for call in calls] == [
                (f"{PUBLIC}/telegram/webhook/{tenant.shop.channel.id}", tenant.shop.channel.secret)
            ]
            assert "message" in calls[0].params["allowed_updates"]
            assert not calls[0].params.get("drop_pending_updates")
            # Neither the address nor the secret tells whose bot it is, nor one of them the other.
            for told in (tenant.bot.webhook_url, tenant.bot.webhook_secret):
                assert str(tenant.bot.id) not in told and tenant.bot.token.split(":")[1] not in told
                assert tenant.shop.bot.id not in told and tenant.bot.username not in told
            assert len(tenant.bot.webhook_secret) >= 32
            assert tenant.bot.webhook_secret not in tenant.bot.webhook_url
            assert len(fake.called("getUpdates", tenant.bot)) == polls[tenant.bot]
        assert shop.bot.webhook_secret != other.bot.webhook_secret
    assert set(shop.bot.webhook_posts) == {200}
    # The server is away: Telegram keeps what comes.
    between = [shop.ask(person) for person in people]

    async with floor(tmp_path, database_url, *fakes) as place:
        await shop.answered(between)
        # Delivered by webhook before; its confirmation was lost.
        shop.bot.put(last)
        times = await shop.answered([shop.ask(person) for person in people])
        await fake.wait_delivered(shop.bot)
        dropped = fake.called("deleteWebhook", shop.bot)[-1]
        assert not shop.bot.webhook_url and not dropped.params.get("drop_pending_updates")
        assert fake.called("getUpdates", shop.bot)[polls[shop.bot]].at > dropped.at
        assert set(times.values()) == {1} and set(other.times().values()) == {1}
        assert shop.in_order()
        asked = select(func.count()).select_from(models.Message).where(models.Message.author == "customer")
        assert await place.one(asked) == len(shop.asked) + len(other.asked)
        assert not await place.notices(shop)


async def test_only_a_bots_own_secret_opens_its_address(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with hooked(tmp_path, database_url, fakes) as place:
        shop = await _hooked_tenant(place, "one@example.uz")
        other = await _hooked_tenant(place, "two@example.uz")
        person = shop.person()
        await shop.answered([shop.ask(person)])
        stored = await _count(place, models.InboxItem)
        forged = _update(person, text="Muzlatgichlarga kafolat bormi №970200")
        for secret in ("", other.bot.webhook_secret, shop.bot.token, shop.bot.webhook_secret[:-1]):
            assert await _post(place, shop, forged, secret=secret) == [401]
        assert await _count(place, models.InboxItem) == stored
        times = await shop.answered([shop.ask(person)])
        assert 970_200 not in times and set(times.values()) == {1}


async def test_an_album_of_ten_at_once_is_one_customer(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with hooked(tmp_path, database_url, fakes) as place:
        shop = await _hooked_tenant(place, "album@example.uz")
        person = shop.person()
        shop.bot.chats.add(person.id)
        photo = [{"file_id": "A", "file_unique_id": "a", "width": 90, "height": 90, "file_size": 4}]
        album = [_update(person, message_id=number, photo=photo, media_group_id="13579") for number in range(900, 910)]
        assert await _post(place, shop, *album) == [200] * 10
        times = await shop.answered([shop.ask(person)])
        assert set(times.values()) == {1}
        assert await _count(place, models.Contact) == await _count(place, models.Conversation) == 1
        kinds = select(models.Message.kind, func.count()).where(models.Message.author == "customer")
        assert dict(map(tuple, await place.rows(kinds.group_by(models.Message.kind)))) == {"photo": 10, "text": 1}
        # The bot says once that it reads text only.
        assert len(place.fake.messages(person.id, shop.bot)) == 2


async def test_two_first_messages_at_once_are_one_customer(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    async with hooked(tmp_path, database_url, fakes) as place:
        shop = await _hooked_tenant(place, "first@example.uz")
        numbers = [970_301, 970_302]
        person = shop.person()
        shop.bot.chats.add(person.id)
        shop.asked |= dict.fromkeys(numbers, person)
        first = [_update(person, text=f"Muzlatgichlarga kafolat bormi №{number}") for number in numbers]
        assert await _post(place, shop, *first) == [200, 200]
        assert set((await shop.answered()).values()) == {1}
        assert await _count(place, models.Contact) == await _count(place, models.Conversation) == 1


async def test_an_edit_that_comes_before_its_original_stands_for_it(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    async with hooked(tmp_path, database_url, fakes) as place:
        shop = await _hooked_tenant(place, "edit@example.uz")
        person = shop.person()
        shop.bot.chats.add(person.id)
        original = _update(person, message_id=41, text="Muzlatgichlarga kafolat bormi №970401")
        edited = {**original["message"], "text": "Muzlatgichlarga kafolat bormi №970402", "edit_date": int(time.time())}
        edit = {"update_id": next(_updates), "edited_message": edited}
        shop.asked[970_402] = person
        for update in (edit, original):
            assert await _post(place, shop, update) == [200]
        await shop.answered([970_402])
        times = await shop.answered([shop.ask(person)])
        assert 970_401 not in times and set(times.values()) == {1}
        assert await _count(place, models.Contact) == await _count(place, models.Conversation) == 1
        assert len(place.fake.messages(person.id, shop.bot)) == 2


async def test_deliveries_that_fail_are_told_once_and_once_that_they_work_again(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, _ = fakes
    factory = fake.add_bot(new_token())
    environment = {"TELEGRAM_BOT_TOKEN": factory.token}
    async with hooked(tmp_path, database_url, fakes, environment=environment) as place:
        told = await owner(place, factory)
        shop = await _hooked_tenant(place, told.email)
        checking = f"receive:{shop.shop.channel.id}"
        checks = 0

        async def checked() -> None:
            nonlocal checks
            checks += 1
            await due(checking)
            await fake.wait_call("getWebhookInfo", bot=shop.bot, times=checks)

        await shop.answered([shop.ask(shop.person())])
        await checked()
        # The address leads nowhere, and Telegram says so when it is asked.
        fake.route(PUBLIC, f"http://127.0.0.1:{free_port()}")
        number = shop.ask(shop.person())
        await fake.wait_until(lambda: shop.bot.webhook_error)
        await checked()
        await told.hears("⚠️", "webhook_failed", shop)
        channel = select(models.Channel.last_error).where(models.Channel.id == shop.shop.channel.id)
        assert "Connection refused" in await place.one(channel)
        await checked()
        fake.route(PUBLIC, address(place.core))
        assert (await shop.answered([number]))[number] == 1
        await fake.wait_delivered(shop.bot)
        await checked()
        await place.noticed(shop, "channel_recovered")
        await told.later(place)
        await told.hears("✅", "channel_recovered", shop)
        await checked()
        await checked()
        assert [text[0] for text in told.heard()] == ["⚠", "✅"]
        assert await place.one(channel) == ""
        assert len(fake.called("setWebhook", shop.bot)) == 1


async def test_a_webhook_that_was_changed_elsewhere_is_set_again(tmp_path: Path, fakes: Fakes) -> None:
    async with hooked(tmp_path, None, fakes) as place:
        shop = await _hooked_tenant(place, "again@example.uz")
        person = shop.person()
        shop.bot.delete_webhook({})
        number = shop.ask(person)
        await due(f"receive:{shop.shop.channel.id}")
        assert (await shop.answered([number]))[number] == 1
        assert not await place.notices(shop)


async def test_a_token_that_is_revoked_while_nobody_writes_is_told(
    tmp_path: Path, sqlite_url: str, fakes: Fakes
) -> None:
    async with hooked(tmp_path, sqlite_url, fakes) as place:
        shop = await _hooked_tenant(place, "revoked@example.uz")
        other = await _hooked_tenant(place, "untouched@example.uz")
        shop.bot.revoke()
        for tenant in (shop, other):
            await due(f"receive:{tenant.shop.channel.id}")
        assert (await place.noticed(shop, "token_refused")).params["bot"] == shop.shop.bot.name
        await place.fake.wait_call("getWebhookInfo", bot=other.bot)
        await other.answered([other.ask(other.person())])
        statuses = select(models.Channel.id, models.Channel.status).where(models.Channel.kind == "telegram")
        assert dict(map(tuple, await place.rows(statuses))) == {
            shop.shop.channel.id: "refused",
            other.shop.channel.id: "active",
        }
        assert not await place.notices(other)


async def test_waiting_messages_over_the_limit_are_told_to_customer_and_owner(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    _, fake_models = fakes
    async with hooked(tmp_path, database_url, fakes, limits={"owner_pending_messages": 3}) as place:
        shop = await _hooked_tenant(place, "pending@example.uz")
        answering = fake_models.hold()
        waiting = [shop.ask(shop.person()) for _ in range(3)]
        await answering.reached.wait()
        await place.fake.wait_delivered(shop.bot)

        async def asked() -> bool:
            return len(fake_models.requests) == len(waiting)

        await place.until(asked)
        assert not await place.notices(shop)
        late = shop.person("uz")
        over = shop.ask(late)
        await place.fake.wait_message(late.id, translate("uz", BUSY), bot=shop.bot)
        await place.noticed(shop, "over_limit")
        assert len(await place.notices(shop)) == 1
        fake_models.release()
        assert set((await shop.answered(waiting)).values()) == {1}
        assert over not in shop.times()
        again = shop.ask(late)
        assert (await shop.answered([again]))[again] == 1


async def test_far_over_the_limit_nothing_more_is_accepted_and_telegram_comes_again(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    async with floor(tmp_path, database_url, *fakes) as place:
        shop, calm = await place.tenant(), await place.tenant()
    # Accepted by a process that only receives: what it takes in waits until a worker comes.
    small = {"owner_pending_messages": 1}
    async with floor(tmp_path, database_url, *fakes, role="web", limits=small) as place:
        people = [shop.person() for _ in range(12)]
        updates = []
        for number, person in enumerate(people, 970_501):
            shop.asked[number] = person
            shop.bot.chats.add(person.id)
            updates.append(_update(person, text=f"Muzlatgichlarga kafolat bormi №{number}"))
        assert await _post(place, shop, *updates[:11]) == [200] * 11

        async def known() -> bool:
            return place.core.backlog.of(shop.shop.owner.id) == 11

        await place.until(known)
        assert await _post(place, shop, updates[11]) == [429]
        assert await _count(place, models.InboxItem) == 11
        # Nobody else is refused anything.
        assert await _post(place, calm, _update(calm.person(), text="Salom")) == [200]
    async with floor(tmp_path, database_url, *fakes, role="all") as place:
        await shop.answered(range(970_501, 970_512))
        assert await _post(place, shop, updates[11]) == [200]
        assert set((await shop.answered()).values()) == {1}
