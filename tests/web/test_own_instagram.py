"""The installation's own Meta app for Instagram: accounts without a secret of their own, and an account of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from tests.composition import address
from tests.fakes.graph import FakeGraph
from tests.fakes.meta import ACCOUNT, INSTAGRAM_TOKEN, PAGE, SECRET, VERIFY, Meta
from tests.web.panel import Site, open_site

OWN = {
    "INSTAGRAM_APP_SECRET": SECRET,
    "INSTAGRAM_VERIFY_TOKEN": VERIFY,
    "INSTAGRAM_ACCESS_TOKEN": INSTAGRAM_TOKEN,
    "WHATSAPP_VERIFY_TOKEN": "the-word-of-whatsapp",
    "WHATSAPP_APP_SECRET": "another-secret-0001",
}


@pytest.fixture
async def served(tmp_path: Path, sqlite_url: str, meta: Meta) -> AsyncIterator[Site]:
    """An installation with an app and an account of its own."""
    async with open_site(tmp_path, sqlite_url, environment={**meta.environment, **OWN}) as made:
        yield made


async def _channel(site: Site) -> models.Channel:
    async with site.core.db.read() as session:
        found = await session.scalar(select(models.Channel).where(models.Channel.kind == "instagram"))
    assert found is not None
    return found


async def test_an_owner_connects_through_the_services_app(served: Site, meta: Meta) -> None:
    account = meta.add()
    user = await served.person("Owner", language="en")
    browser, bot = await served.signed_in(user), await served.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    page = await browser.get(place)
    assert "Leave it empty if the token is of this service’s own Meta app." in page.visible()
    assert "Connect this account" not in page.visible()
    assert (await browser.post(f"{place}/instagram/own")).status == 409
    form = {"account_id": ACCOUNT, "access_token": INSTAGRAM_TOKEN, "app_secret": ""}
    short = await browser.post(f"{place}/instagram", **(form | {"app_secret": "short"}))
    assert short.status == 400
    assert (await browser.post(f"{place}/instagram", **form)).status == 303
    channel = await _channel(served)
    page = await browser.get(place)
    assert "there is nothing left to enter at Meta" in page.visible() and channel.secret not in page.text
    webhook = f"{address(served.core)}/instagram/webhook"
    raw = account.body(account.message("900000000000001", "Salom"))
    assert await FakeGraph.deliver(browser.http, webhook, raw, SECRET) == 200
    assert await FakeGraph.deliver(browser.http, webhook, raw, "another-secret-0001") == 401
    await account.wait_sent(1)
    # Each network's app has a word of its own.
    assert (await FakeGraph.verify(browser.http, webhook, VERIFY))[0] == 200
    assert (await FakeGraph.verify(browser.http, webhook, "the-word-of-whatsapp"))[0] == 403
    # Whoever gives an app of their own is proved by that alone.
    assert (
        await browser.post(f"{place}/instagram", **(form | {"app_secret": "of-an-app-of-the-owners"}))
    ).status == 303
    assert await FakeGraph.deliver(browser.http, webhook, raw, SECRET) == 401
    assert await FakeGraph.deliver(browser.http, webhook, raw, "of-an-app-of-the-owners") == 200


async def test_a_page_is_tried_with_the_services_secret(served: Site, meta: Meta) -> None:
    account = meta.add(PAGE)
    user = await served.person("Owner", language="en")
    browser, bot = await served.signed_in(user), await served.bot_of(user)
    form = {"account_id": ACCOUNT, "page_id": PAGE, "access_token": INSTAGRAM_TOKEN, "app_secret": ""}
    account.app_secret = "of-another-app-0001"
    refused = await browser.post(f"/bots/{bot.id}/channels/instagram", **form)
    assert refused.status == 400 and "does not belong to the app" in refused.visible()
    account.app_secret = SECRET
    assert (await browser.post(f"/bots/{bot.id}/channels/instagram", **form)).status == 303


async def test_an_administrator_connects_the_services_account_by_one_press(served: Site, meta: Meta) -> None:
    account = meta.add()
    admin = await served.person("Root", language="en")
    async with served.core.db.write() as session:
        (await session.get_one(models.User, admin.id)).role = "admin"
    browser, bot = await served.signed_in(admin), await served.bot_of(admin)
    place = f"/bots/{bot.id}/channels"
    page = await browser.get(place)
    assert "Connect this account" in page.visible() and INSTAGRAM_TOKEN not in page.text
    meta.own.fail(190, times=1, on="any")
    refused = await browser.post(f"{place}/instagram/own")
    assert refused.status == 409 and "does not accept the Instagram token" in refused.visible()
    assert (await browser.post(f"{place}/instagram/own")).location == f"{place}?done=connected_here"
    channel = await _channel(served)
    assert account.subscribed and (channel.bot_id, channel.external_id) == (bot.id, ACCOUNT)
    assert "Connect this account" not in (await browser.get(place)).visible()
    assert INSTAGRAM_TOKEN not in json.dumps(channel.settings) + str(channel.credentials)
