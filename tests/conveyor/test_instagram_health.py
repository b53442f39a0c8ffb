"""Instagram accounts looked at: a lost subscription, a token that is refused, and one that is renewed before it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from db import models
from db.engine import Database
from services import health, jobs, notices
from services.channels.base import Place, TokenRefused
from services.channels.instagram import InstagramChannel
from services.channels.meta import GraphApi
from services.errors import Unavailable
from services.notices import open_for
from tests.composition import address
from tests.conveyor.harness import settings_for
from tests.conveyor.lines import Fakes, started
from tests.conveyor.lines import InstagramLine as Line
from tests.conveyor.lines import instagram_line as connected
from tests.conveyor.nursery import Nursery
from tests.fakes.meta import ACCOUNT, PAGE, SECRET, VERIFY, Meta
from tests.fakes.meta import INSTAGRAM_TOKEN as TOKEN

DAY_S = 86_400


@pytest.fixture(params=["", PAGE], ids=["own login", "page"])
async def either(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes
) -> AsyncIterator[Line]:
    """An account connected by either login."""
    async with connected(tmp_path, database_url, meta, fakes, page=request.param) as line:
        yield line


@pytest.fixture
async def line(database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> AsyncIterator[Line]:
    """An account connected by Instagram's own login."""
    async with connected(tmp_path, database_url, meta, fakes) as made:
        yield made


async def check(line: Line, *, asked: bool = False) -> models.Channel:
    """Look at the channel now; return it as it is then."""
    await health.check(line.place.core, (await line.channel()).id, asked=asked)
    return await line.channel()


async def kinds(line: Line) -> list[str]:
    """Return what the owner should know now."""
    async with line.place.core.db.read() as session:
        return sorted(each.kind for each in await open_for(session, line.shop.owner))


async def aged(line: Line, **settings: Any) -> None:
    """Let the token have been entered two days ago, or what else the settings should say."""
    await line.settings(**({"token_entered_at": int(time.time()) - 2 * DAY_S} | settings))


def token_of(line: Line, channel: models.Channel) -> str:
    """Return the token that is kept."""
    return str(line.place.core.crypto.decrypt(channel.credentials or "")["access_token"])


async def test_a_lost_subscription_is_noticed_and_mended_by_the_owner(either: Line) -> None:
    channel = await check(either)
    assert (channel.status, channel.health["webhook"], await kinds(either)) == ("active", "ok", [])
    either.account.subscribed = frozenset()
    channel = await check(either)
    assert (channel.status, channel.health["webhook"], channel.settings["subscribed"]) == ("active", "missing", False)
    assert await kinds(either) == ["webhook_lost"] and not either.account.subscribed
    channel = await check(either, asked=True)
    assert (
        channel.health["webhook"] == "ok" and channel.settings["subscribed"] and "messages" in either.account.subscribed
    )
    assert await kinds(either) == []


async def test_a_token_that_is_refused_stops_the_channel_and_a_good_one_starts_it(either: Line) -> None:
    good, either.account.token = either.account.token, "IGAACANARY_another_token_not_real_012345"
    channel = await check(either)
    assert channel.status == "refused" and await kinds(either) == ["instagram_token_refused"]
    either.account.token = good
    assert (await check(either)).status == "active"


async def test_an_account_that_the_token_does_not_lead_to_any_more(either: Line) -> None:
    either.account.id = either.account.scoped_id = "17840000000000009"
    channel = await check(either)
    assert channel.status == "refused" and "does not lead" in channel.last_error


async def test_meta_being_away_says_nothing_about_the_channel(either: Line) -> None:
    either.graph.fail(2, http=500, on="number", times=1)
    with pytest.raises(Unavailable):
        await health.ask(either.place.core, await either.channel())
    channel = await either.channel()
    assert channel.status == "active" and channel.health["silent"]
    # A token that may not look after the account: nothing is known of the deliveries, and nothing is wrong.
    either.account.may_subscribe = False
    either.graph.fail(200, http=403, on="subscribe", times=None)
    channel = await check(either)
    assert channel.status == "active" and channel.health["webhook"] == "" and not channel.health.get("silent")


async def test_a_token_is_renewed_a_day_after_it_was_entered_and_then_each_week(line: Line) -> None:
    core = line.place.core
    await check(line)
    assert not line.graph.called("refresh"), "it may be younger than a day"
    await aged(line)
    # The regular round does it.
    await health.check_due(core, {})
    assert not line.graph.called("refresh"), "looked at a moment ago"
    async with core.db.write() as session:
        await session.execute(update(models.Channel).values(health={}))
    await health.check_due(core, {})
    channel = await line.channel()
    assert token_of(line, channel) == line.account.token != TOKEN
    assert line.account.token not in str(channel.credentials) + str(channel.settings) + str(channel.health)
    assert 59 * DAY_S < channel.settings["token_expires_at"] - time.time() <= 60 * DAY_S
    assert health.known(channel).expires_at is not None
    # Answers leave with the new one.
    line.account.old_tokens.clear()
    await line.ask(1)
    await line.account.wait_sent(1)
    for days, calls in ((6, 1), (8, 2)):
        line.account.token_age_s = days * DAY_S
        await aged(line, token_entered_at=0, token_renewed_at=int(time.time()) - days * DAY_S)
        await check(line)
        assert len(line.graph.called("refresh")) == calls
    assert await kinds(line) == []


async def test_pages_have_tokens_without_an_end(database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes) -> None:
    async with connected(tmp_path, database_url, meta, fakes, page=PAGE) as line:
        await aged(line)
        channel = await check(line)
        assert not meta.own.called("refresh") and not meta.pages.called("refresh")
        assert token_of(line, channel) == TOKEN and health.known(channel).endless


@pytest.mark.parametrize("trouble", ["refused", "away", "cut", "nonsense"])
async def test_what_cannot_be_renewed_is_told_before_it_ends(
    line: Line, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match trouble:
        case "refused":
            line.graph.fail(10, http=403, on="refresh", times=None)
        case "away":
            line.graph.answer_raw(503, "down", on="refresh", times=None)
        case "cut":
            line.graph.cut(None, after_effect=False, on="refresh")
        case "nonsense":
            line.graph.answer_raw(200, b'{"access_token": 5}', on="refresh", times=None)
    ends = int(time.time()) + 5 * DAY_S
    await aged(line, token_renewed_at=int(time.time()) - 55 * DAY_S, token_expires_at=ends)
    channel = await check(line)
    assert channel.status == "active" and token_of(line, channel) == TOKEN
    assert await kinds(line) == ["instagram_token_expires"]
    async with line.place.core.db.read() as session:
        (notice,) = await open_for(session, line.shop.owner)
    text = notices.text(notice, "en")
    assert "Instagram" in text and "Meta app" in text and "system user" not in text
    await aged(line, token_renewed_at=0, token_expires_at=int(time.time()) + DAY_S // 2)
    await check(line)
    assert "token_expires_soon" in await kinds(line)
    # It works again: nothing is left to warn of, and no token was written down anywhere.
    line.graph.faults.clear()
    channel = await check(line)
    assert token_of(line, channel) == line.account.token != TOKEN and await kinds(line) == []
    logged = "".join(capsys.readouterr())
    assert "token_not_renewed" in logged and "CANARY" not in logged


async def test_what_the_owner_enters_meanwhile_stays(line: Line) -> None:
    """Meta answers slowly; the owner's new token is not written over by the renewed old one."""
    await aged(line)
    fault = line.graph.hang(0.5, on="refresh")
    core, session = line.place.core, line.session
    async with asyncio.TaskGroup() as group:
        group.create_task(health.check(core, (await line.channel()).id))
        await fault.reached.wait()
        line.account.old_tokens.add(entered := "IGAACANARY_entered_by_the_owner_0123456")
        async with session.post(
            f"{address(core)}/api/v1/bots/{line.shop.bot.id}/channels",
            json={
                "type": "instagram",
                "access_token": entered,
                "account_id": ACCOUNT,
                "app_secret": SECRET,
                "verify_token": VERIFY,
            },
            headers={"Authorization": f"Bearer {line.shop.token}"},
        ) as response:
            assert response.status == 201, await response.text()
    channel = await line.channel()
    assert token_of(line, channel) == entered
    assert "token_expires_at" not in channel.settings and channel.status == "active"


async def test_the_hourly_job_asks_instagram_too(line: Line) -> None:
    assert isinstance(line.place.core.channels["instagram"], InstagramChannel)
    await health.check_due(line.place.core, {})
    channel = await line.channel()
    assert channel.health["checked_at"] and line.graph.called("number")


async def test_words_that_say_the_token_never_reach_anybody(meta: Meta) -> None:
    """An error that repeats the token is told without it."""
    meta.add()
    async with aiohttp.ClientSession() as session:
        channel = InstagramChannel(
            GraphApi(session, meta.own.base_url, "v26.0"), GraphApi(session, "http://x", "v26.0")
        )
        meta.own.answer_raw(400, '{"error": {"code": 190, "message": "bad ' + TOKEN + '"}}', on="refresh")
        with pytest.raises(TokenRefused) as refused:
            await channel.renew({"access_token": TOKEN, "account_id": ACCOUNT})
        assert TOKEN not in str(refused.value)
        await channel.inspect({"access_token": TOKEN, "account_id": ACCOUNT}, Place(ACCOUNT))


async def test_a_process_that_dies_with_the_new_token_in_hand(
    database_url: str, tmp_path: Path, meta: Meta, fakes: Fakes, children: Nursery
) -> None:
    """Meta has renewed it and we have not kept it: the old one serves on, and is renewed again."""
    async with connected(tmp_path, database_url, meta, fakes) as line:
        await aged(line)
        account, shop, first = line.account, line.shop, line.account.token
    db = Database(database_url, pool_size=1)
    try:
        async with db.write() as session:
            await jobs.add(session, health.CHECK_JOB, {}, lane="checks")
    finally:
        await db.close()
    settings = settings_for(tmp_path, database_url, *fakes, environment=meta.environment)
    child = await children.start(settings, point="token_renewed", role="all")
    await child.hears("paused")
    await child.kill()
    lost = account.token
    assert lost != first and account.old_tokens == {first}
    # The one that we still hold is as old as before.
    account.token_age_s = 2 * DAY_S
    async with started(tmp_path, database_url, fakes, meta.environment) as (place, browser):
        line = Line(place, shop, browser, meta.own, account)
        await line.ask(1)
        await account.wait_sent(1)

        async def kept() -> bool:
            channel = await line.channel()
            return token_of(line, channel) == account.token != lost

        # The job that was cut off is taken up again.
        await line.until(kept)
        channel = await line.channel()
        assert channel.status == "active" and channel.settings["token_renewed_at"] >= int(time.time()) - 60
        assert len(meta.own.called("refresh")) == 2
        account.old_tokens.clear()
        await line.ask(2)
        await account.wait_sent(2)
        assert line.answers() == [1, 2]
