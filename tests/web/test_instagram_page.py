"""Connecting an Instagram account on the channels page, and the switch for comments there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from tests.fakes.instagram import FakeInstagram
from tests.web.panel import Site, open_site

TOKEN = "IGAACANARY_token_on_the_page_0123456789"
SECRET = "CANARY_app_secret_on_the_page_01"
ACCOUNT, PAGE = "17840000000000001", "300000000000301"
FORM = {"account_id": ACCOUNT, "page_id": "", "access_token": TOKEN, "app_secret": SECRET, "meta_app_secret": ""}


@pytest.fixture
async def graph() -> AsyncIterator[FakeInstagram]:
    """graph.instagram.com."""
    async with FakeInstagram() as started:
        yield started


@pytest.fixture
async def pages() -> AsyncIterator[FakeInstagram]:
    """graph.facebook.com."""
    async with FakeInstagram(pages=True) as started:
        yield started


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, graph: FakeInstagram, pages: FakeInstagram) -> AsyncIterator[Site]:
    """The product with Meta's addresses."""
    environment = {"INSTAGRAM_GRAPH_BASE": graph.base_url, "META_GRAPH_BASE": pages.base_url}
    async with open_site(tmp_path, sqlite_url, environment=environment) as made:
        yield made


async def channel_of(site: Site) -> models.Channel:
    """Return the connected account."""
    async with site.core.db.read() as session:
        found = await session.scalar(select(models.Channel).where(models.Channel.kind == "instagram"))
    assert found is not None
    return found


async def test_connected_checked_and_disconnected(site: Site, graph: FakeInstagram, pages: FakeInstagram) -> None:
    account = graph.add_account(ACCOUNT, token=TOKEN, app_secret=SECRET, username="chinor.stom", name="Chinor Stom")
    user = await site.person("Insta", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    wrong = [
        ({"account_id": "@chinor.stom"}, "not the username"),
        ({"page_id": "my page"}, "The Page id is a number"),
        ({"access_token": "with a blank"}, "without spaces"),
        ({"meta_app_secret": "with a blank"}, "without spaces"),
        ({"access_token": "IGAAnobody_knows_this"}, "does not accept this access token"),
        ({"account_id": "17840000000000999"}, "not of the account with this id"),
    ]
    for change, said in wrong:
        refused = await browser.post(f"{place}/instagram", **(FORM | change))
        assert (refused.status, said in refused.visible()) == (400, True), change
        # What was entered stays, except for what is secret.
        assert (FORM | change)["account_id"] in refused.text
        assert TOKEN not in refused.text and SECRET not in refused.text
    graph.answer_raw(502, b"<html>", on="number")
    assert (await browser.post(f"{place}/instagram", **FORM)).status == 503
    assert (await browser.post(f"{place}/instagram", **FORM)).location == f"{place}?done=instagram_connected"
    assert account.subscribed
    page = await browser.get(place)
    channel = await channel_of(site)
    for shown in ("Chinor Stom", "@chinor.stom", "/instagram/webhook", channel.secret):
        assert shown in page.text
    assert TOKEN not in page.text and SECRET not in page.text
    # The word that stands in the Meta app stays when the token is renewed, here by the other login.
    pages.add_account(ACCOUNT, token="EAAof_the_page_0123456789", app_secret=SECRET, page_id=PAGE)
    renewal = FORM | {"access_token": "EAAof_the_page_0123456789", "page_id": PAGE}
    refused = await browser.post(f"{place}/instagram", **(renewal | {"app_secret": "of-another-app"}))
    assert (refused.status, "does not belong to the app" in refused.visible()) == (400, True)
    assert (await browser.post(f"{place}/instagram", **renewal)).status == 303
    renewed = await channel_of(site)
    assert (renewed.id, renewed.secret, renewed.parent_id) == (channel.id, channel.secret, PAGE)
    gone = await browser.post(f"{place}/{channel.id}/disconnect")
    assert gone.location == f"{place}?done=disconnected"
    assert 'id="ig-token"' in (await browser.get(place)).text


async def test_the_switch_for_comments(site: Site, graph: FakeInstagram) -> None:
    graph.add_account(ACCOUNT, token=TOKEN, app_secret=SECRET)
    user = await site.person("Comments", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    await browser.post(f"{place}/instagram", **FORM)
    channel = await channel_of(site)
    for given, wanted in (({"comment_reply": "on"}, True), ({}, False), ({"comment_reply": "on"}, True)):
        assert (await browser.post(f"{place}/{channel.id}/comments", **given)).location == f"{place}?done=saved"
        assert (await channel_of(site)).settings["comment_reply"] is wanted
        box = (await browser.get(place)).text.partition('id="comment-reply"')[2].partition(">")[0]
        assert ("checked" in box) is wanted
    # It is no switch of other channels, nor anybody else's.
    async with site.core.db.read() as session:
        web = await session.scalar(select(models.Channel.id).where(models.Channel.kind == "web"))
    assert (await browser.post(f"{place}/{web}/comments", comment_reply="on")).status == 404
    stranger = await site.signed_in(await site.person("Stranger", language="en"))
    assert (await stranger.post(f"{place}/{channel.id}/comments")).status == 404
    assert (await channel_of(site)).settings["comment_reply"] is True


async def test_what_is_wrong_with_the_account_is_said_and_mended(site: Site, graph: FakeInstagram) -> None:
    graph.add_account(ACCOUNT, token=TOKEN, app_secret=SECRET).may_subscribe = False
    user = await site.person("Blocked", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    await browser.post(f"{place}/instagram", **FORM)
    assert "could not be subscribed" in (await browser.get(place)).visible()
    for status, said in (
        ("refused", "no longer accepts the access token"),
        ("unreadable", "can no longer be read"),
        ("blocked", "does not let this account send"),
    ):
        async with site.core.db.write() as session:
            await session.execute(
                update(models.Channel)
                .where(models.Channel.kind == "instagram")
                .values(status=status, last_error="368: rules")
            )
        assert said in (await browser.get(place)).visible(), status
        assert "Fix it" in (await browser.get("/bots")).visible()
    assert "368: rules" in (await browser.get(place)).visible()
    await browser.post(f"/bots/{bot.id}/start", next=place)
    assert "does not let this account send" not in (await browser.get(place)).visible()
