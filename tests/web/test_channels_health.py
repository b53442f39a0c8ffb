"""How channels are, on the channels page; and the installation's own Meta app."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from tests.composition import address
from tests.fakes.graph import FakeGraph, FakeNumber
from tests.web.panel import Browser, Site, open_site

TOKEN = "EAACANARY_token_on_the_page_0123456789"
SECRET = "CANARY_app_secret_on_the_page_01"
WORD = "word-of-the-installation"
FORM = {"phone_number_id": "100000000000101", "access_token": TOKEN, "app_secret": SECRET}


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    """Meta."""
    async with FakeGraph() as started:
        yield started


def add_number(graph: FakeGraph) -> FakeNumber:
    """Return the number that the tests connect."""
    return graph.add_number(
        FORM["phone_number_id"],
        token=TOKEN,
        app_secret=SECRET,
        waba_id="20",
        display_phone_number="+998 90 123 45 67",
        verified_name="Chinor Stom",
    )


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, graph: FakeGraph) -> AsyncIterator[Site]:
    """The product with Meta's address."""
    async with open_site(tmp_path, sqlite_url, environment={"META_GRAPH_BASE": graph.base_url}) as made:
        yield made


async def channel_of(site: Site) -> models.Channel:
    """Return the WhatsApp channel."""
    async with site.core.db.read() as session:
        found = await session.scalar(select(models.Channel).where(models.Channel.kind == "whatsapp"))
    assert found is not None
    return found


async def connected(site: Site) -> tuple[Browser, str]:
    """Return the browser of an owner with a connected number, and the page of the channels."""
    user = await site.person("Health", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    assert (await browser.post(f"{place}/whatsapp", **FORM)).status == 303
    return browser, place


async def test_what_the_network_says_stands_on_the_page(site: Site, graph: FakeGraph) -> None:
    number = add_number(graph)
    browser, place = await connected(site)
    channel = await channel_of(site)
    page = (await browser.get(place)).visible()
    for shown in ("Last check", "does not expire", "arrive here", "high", "Check now"):
        assert shown in page, shown
    number.quality_rating, number.token_expires_at = "RED", int(time.time()) + 3 * 86_400
    number.subscribed = False
    done = await browser.post(f"{place}/{channel.id}/check")
    assert done.location == f"{place}?done=checked"
    page = (await browser.get(done.location)).visible()
    for shown in ("Checked.", "low: customers block or report it", "ends on", "arrive here"):
        assert shown in page, shown
    # Pressing mends what can be mended.
    assert number.subscribed
    for told in ("access token ends on", "rates the quality"):
        assert told in (await browser.get("/dashboard")).visible(), told
    number.token = "EAAanother_token_0123456789"
    await browser.post(f"{place}/{channel.id}/check")
    page = (await browser.get(place)).visible()
    assert "WhatsApp no longer accepts the token." in page and "Needs attention" in page


async def test_a_network_that_is_away_is_said_and_changes_nothing(site: Site, graph: FakeGraph) -> None:
    add_number(graph)
    browser, place = await connected(site)
    channel = await channel_of(site)
    graph.answer_raw(502, "<html>", times=None, on="any")
    refused = await browser.post(f"{place}/{channel.id}/check")
    assert refused.status == 503 and "WhatsApp is not responding right now" in refused.visible()
    assert "no answer since" in refused.visible() and "Connected" in refused.visible()
    assert (await channel_of(site)).status == "active"
    # And nobody can make the program ask without end.
    graph.clear_faults()
    statuses = [(await browser.post(f"{place}/{channel.id}/check")).status for _ in range(8)]
    assert statuses[0] == 303 and statuses[-1] == 429


async def test_errors_are_said_in_words_and_in_the_networks_own(site: Site, graph: FakeGraph) -> None:
    add_number(graph)
    browser, place = await connected(site)
    for detail, words in (
        ("131042: Business eligibility <b>payment</b> issue", "the account is not paid for"),
        ("Wrong response from the webhook: 502 Bad Gateway", "our address answered with an error"),
        ("nobody has seen this one", "the network reported an error"),
    ):
        async with site.core.db.write() as session:
            await session.execute(
                update(models.Channel).where(models.Channel.kind == "whatsapp").values(last_error=detail)
            )
        page = await browser.get(place)
        assert words in page.visible() and detail in page.visible() and "<b>payment" not in page.text


async def test_anothers_channel_is_not_looked_at(site: Site, graph: FakeGraph) -> None:
    add_number(graph)
    await connected(site)
    channel = await channel_of(site)
    other = await site.person("Other", language="en")
    browser, bot = await site.signed_in(other), await site.bot_of(other)
    graph.calls.clear()
    for whose in (bot.id, channel.bot_id):
        assert (await browser.post(f"/bots/{whose}/channels/{channel.id}/check")).status == 404
    assert not graph.calls


# The installation's own Meta app and number


@pytest.fixture
async def served(tmp_path: Path, sqlite_url: str, graph: FakeGraph) -> AsyncIterator[Site]:
    """The product with an app and a number of its own."""
    environment = {
        "META_GRAPH_BASE": graph.base_url,
        "WHATSAPP_APP_SECRET": SECRET,
        "WHATSAPP_VERIFY_TOKEN": WORD,
        "WHATSAPP_ACCESS_TOKEN": TOKEN,
        "WHATSAPP_PHONE_NUMBER_ID": FORM["phone_number_id"],
    }
    async with open_site(tmp_path, sqlite_url, environment=environment) as made:
        yield made


async def test_an_owner_connects_through_the_services_app(served: Site, graph: FakeGraph) -> None:
    number = add_number(graph)
    user = await served.person("Owner", language="en")
    browser, bot = await served.signed_in(user), await served.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    page = await browser.get(place)
    assert "Leave it empty if the token is of this service’s own Meta app." in page.visible()
    # The number of the installation is for administrators.
    assert "Connect this number" not in page.visible()
    assert (await browser.post(f"{place}/whatsapp/own")).status == 409
    number.app_secret = "of-an-app-of-the-owners"
    refused = await browser.post(f"{place}/whatsapp", **(FORM | {"app_secret": ""}))
    assert refused.status == 400 and "another Meta app than the one of this service" in refused.visible()
    number.app_secret = SECRET
    assert (await browser.post(f"{place}/whatsapp", **(FORM | {"app_secret": ""}))).status == 303
    page = await browser.get(place)
    channel = await channel_of(served)
    assert "there is nothing left to enter at Meta" in page.visible() and channel.secret not in page.text
    # What Meta delivers is signed by the service's app, and its question is answered with the service's word.
    webhook = f"{address(served.core)}/whatsapp/webhook"
    raw = graph.body(number.message("998900000001", "Salom"))
    assert await graph.deliver(browser.http, webhook, raw, SECRET) == 200
    assert await graph.deliver(browser.http, webhook, raw, "of-somebody-else") == 401
    assert await graph.verify(browser.http, webhook, WORD) == (200, "1158201444")
    assert (await graph.verify(browser.http, webhook, WORD + "x"))[0] == 403
    await number.wait_sent(1)
    # Whoever gives an app of their own is proved by that alone.
    number.app_secret = "of-an-app-of-the-owners"
    assert (await browser.post(f"{place}/whatsapp", **(FORM | {"app_secret": number.app_secret}))).status == 303
    assert await graph.deliver(browser.http, webhook, raw, SECRET) == 401
    assert await graph.deliver(browser.http, webhook, raw, number.app_secret) == 200


async def test_an_administrator_connects_the_services_number_by_one_press(served: Site, graph: FakeGraph) -> None:
    number = add_number(graph)
    admin = await served.person("Root", language="en")
    async with served.core.db.write() as session:
        (await session.get_one(models.User, admin.id)).role = "admin"
    browser, bot = await served.signed_in(admin), await served.bot_of(admin)
    place = f"/bots/{bot.id}/channels"
    page = await browser.get(place)
    assert "Connect this number" in page.visible() and TOKEN not in page.text
    assert (await browser.post(f"{place}/whatsapp/own")).location == f"{place}?done=connected_here"
    assert number.subscribed and (await channel_of(served)).bot_id == bot.id
    assert "Connect this number" not in (await browser.get(place)).visible()
    assert TOKEN not in json.dumps((await channel_of(served)).settings)
