"""Keys that change, bots that stop and go, and secrets that nobody sees."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import Base
from services import bots, crypto, upkeep
from services.i18n import translate
from tests.conveyor.harness import GEMINI_KEY, floor, settings_for, texts
from tests.conveyor.nursery import Nursery
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]


async def test_keys_rotate_and_a_lost_key_stops_only_what_it_locks(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    old, new = crypto.new_fernet_key(), crypto.new_fernet_key()
    fake, _ = fakes
    async with floor(tmp_path, database_url, *fakes, environment={"ENCRYPTION_KEYS": old}) as place:
        shop, other = await place.tenant(), await place.tenant()
        await shop.answered([shop.ask(shop.person())])
    # The new key first, the old one still there: everything goes on, and the work by the clock encrypts anew.
    async with floor(tmp_path, database_url, *fakes, environment={"ENCRYPTION_KEYS": f"{new},{old}"}) as place:
        await shop.answered([shop.ask(shop.person())])
        await upkeep.rotate_secrets(place.core)
        kept = await place.rows(select(models.Channel.credentials).where(models.Channel.credentials.is_not(None)))
        assert len(kept) == 2 and all(crypto.Crypto([new]).is_current(row.credentials) for row in kept)
        # One of them goes back to the old key, as if the work had been cut off.
        async with place.core.db.write() as session:
            channel = await session.get_one(models.Channel, other.shop.channel.id)
            channel.credentials = crypto.Crypto([old]).encrypt({"token": other.bot.token})
    async with floor(tmp_path, database_url, *fakes, environment={"ENCRYPTION_KEYS": new}) as place:
        await shop.answered([shop.ask(shop.person())])
        await place.noticed(other, "unreadable")
        assert not await place.notices(shop)
        status = select(models.Channel.status).where(models.Channel.id == other.shop.channel.id)
        assert await place.one(status) == "unreadable"
        # Connected again, it works again.
        polls = len(fake.called("getUpdates", other.bot))
        async with place.core.db.write() as session:
            bot = await bots.get(session, other.shop.owner, other.shop.bot.id)
            identity = await place.core.telegram.get_me(other.bot.token)
            await bots.connect_telegram(
                session, bot, identity=identity, token=other.bot.token, crypto=place.core.crypto
            )
        place.core.bell.ring("channels")
        await fake.wait_call("getUpdates", bot=other.bot, times=polls + 1)
        await other.answered([other.ask(other.person())])


@pytest.mark.parametrize("keys", ["short", "one,two", " , "])
async def test_a_wrong_key_is_a_clear_error(tmp_path: Path, sqlite_url: str, fakes: Fakes, keys: str) -> None:
    with pytest.raises(crypto.KeyProblem) as caught:
        async with floor(tmp_path, sqlite_url, *fakes, environment={"ENCRYPTION_KEYS": keys}):
            pass
    assert "ENCRYPTION_KEYS" in str(caught.value) and "short" not in str(caught.value)


async def test_a_bot_that_is_stopped_while_it_answers(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop = await place.tenant()
        person = shop.person("uz")
        hold = fake_models.hold()
        number = shop.ask(person)
        await hold.reached.wait()
        async with place.core.db.write() as session:
            await bots.stop(session, await bots.get(session, shop.shop.owner, shop.shop.bot.id))
        fake_models.release()
        # What was begun is finished, then one polite line.
        await shop.answered([number])
        person.send(shop.bot, "Yana bir savol?")
        await fake.wait_message(person.id, translate("uz", "This bot is resting now 😴 Please write again later."))
        for _ in range(2):
            async with place.core.db.write() as session:
                await bots.start(session, await bots.get(session, shop.shop.owner, shop.shop.bot.id))
            place.core.bell.ring("channels")
        times = await shop.answered([shop.ask(person)])
        assert set(times.values()) == {1}


async def test_a_bot_deleted_with_a_queue_leaves_no_rows(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    fake, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes) as place:
        shop, other = await place.tenant(), await place.tenant()
        await other.answered([other.ask(other.person())])
        await shop.answered([shop.ask(shop.person())])
        sending = fake.hold(bot=shop.bot)
        waiting = [shop.person() for _ in range(3)]
        for person in waiting:
            shop.ask(person)
            shop.ask(person)
        await sending.reached.wait()
        answering = fake_models.hold()
        for person in waiting:
            shop.ask(person)
        await fake.wait_delivered(shop.bot)
        await answering.reached.wait()
        async with place.core.db.write() as session:
            await bots.delete(session, await bots.get(session, shop.shop.owner, shop.shop.bot.id))
        for topic in ("channels", "jobs"):
            place.core.bell.ring(topic)

        async def purged() -> bool:
            return await place.one(select(models.Bot.id).where(models.Bot.id == shop.shop.bot.id)) is None

        await place.until(purged)
        fake_models.release()
        fake.clear_faults()
        await other.answered([other.ask(other.person())])
        mine = {shop.shop.bot.id, shop.shop.channel.id}
        for table in Base.metadata.sorted_tables:
            columns = [table.c[name] for name in ("bot_id", "channel_id") if name in table.c]
            if table.name == "ai_usage":
                continue
            for column in columns:
                found = await place.one(select(func.count()).select_from(table).where(column.in_(mine)))
                assert not found, table.name
        # Whoever came too late has at most left an empty lane, which the work by the clock removes. That of the job which
        # takes the webhook away stays for some days, like every empty one.
        lane = models.Lane.key
        of_it = select(func.count()).where(lane.contains(shop.shop.channel.id), ~lane.startswith("job:release:"))

        async def tidy() -> bool:
            await upkeep.clean_up(place.core, {})
            return not await place.one(of_it)

        await place.until(tidy)
        assert not place.core.tasks.failed.done()


async def test_no_secret_is_ever_written(
    tmp_path: Path, sqlite_url: str, fakes: Fakes, children: Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    fake, fake_models = fakes
    keys = crypto.new_fernet_key()
    settings = settings_for(
        tmp_path,
        sqlite_url,
        fake,
        fake_models,
        environment={"ENCRYPTION_KEYS": keys, "ADMIN_PASSWORD": "CANARY-password-1234", "ADMIN_EMAIL": "a@b.uz"},
        logging={"level": "debug"},
    )
    async with floor(tmp_path, sqlite_url, fake, fake_models, environment={"ENCRYPTION_KEYS": keys}) as place:
        shop = await place.tenant()
        secret = place.core.secret
    began = children.log.stat().st_size
    child = await children.start(settings, role="all")
    person = shop.person("uz")
    fake_models.fail("500", times=1)
    await shop.answered([shop.ask(person)])
    fake.fail(400, "Bad Request: strange", bot=shop.bot, method="sendMessage", times=1)
    private = "MAXFIY-XABAR 998901112233 kafolat"
    person.send(shop.bot, private)
    await fake.wait_until(lambda: len(fake.called("sendMessage", shop.bot)) >= 2)
    fake.cut("after", bot=shop.bot)
    shop.ask(person)
    await fake.wait_until(lambda: len(fake.called("sendMessage", shop.bot)) >= 3)
    shop.bot.revoke()
    host, port = child.events[-1]["address"]
    headers = {
        "Authorization": f"Bearer {shop.shop.token}",
        "X-Telegram-Bot-Api-Secret-Token": shop.shop.channel.secret,
    }
    async with aiohttp.ClientSession(f"http://{host}:{port}", headers=headers) as session:
        assert (await session.get("/api/v1/bots")).status == 200
        assert (await session.post(f"/telegram/webhook/{shop.shop.channel.id}", data=private)).status == 400
    await child.stop()
    with children.log.open("rb") as log:
        log.seek(began)
        written = log.read().decode()
    captured = capfd.readouterr()
    written += captured.out + captured.err
    assert "channel" in written and '"level": "debug"' in written
    tokens = (shop.bot.token, shop.bot.token.split(":")[1], shop.shop.token, shop.shop.channel.secret)
    for hidden in (*tokens, GEMINI_KEY, keys, secret, "CANARY-password-1234", "MAXFIY-XABAR"):
        assert hidden not in written, hidden[:12]
    assert not any("CANARY" in text for text in texts(fake.sent))
