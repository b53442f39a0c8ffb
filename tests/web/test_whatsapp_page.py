"""Connecting a WhatsApp number on the channels page."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from tests.fakes.graph import FakeGraph
from tests.web.panel import Site, open_site

TOKEN = "EAACANARY_token_on_the_page_0123456789"
SECRET = "CANARY_app_secret_on_the_page_01"
FORM = {"phone_number_id": "100000000000101", "access_token": TOKEN, "app_secret": SECRET}


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    """Meta."""
    async with FakeGraph() as started:
        yield started


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, graph: FakeGraph) -> AsyncIterator[Site]:
    """The product with Meta's address."""
    async with open_site(tmp_path, sqlite_url, environment={"META_GRAPH_BASE": graph.base_url}) as made:
        yield made


async def test_connected_checked_and_disconnected(site: Site, graph: FakeGraph) -> None:
    number = graph.add_number(
        FORM["phone_number_id"],
        token=TOKEN,
        app_secret=SECRET,
        waba_id="200000000000201",
        display_phone_number="+998 90 123 45 67",
        verified_name="Chinor Stom",
        token_expires_at=int((utcnow() + dt.timedelta(hours=20)).timestamp()),
    )
    user = await site.person("Whats", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    wrong = [
        ({"phone_number_id": "+998901234567"}, "not the phone number itself"),
        ({"access_token": "with a blank"}, "without spaces"),
        ({"access_token": "EAAnobody_knows_this"}, "does not accept this access token"),
        ({"app_secret": "of-another-app"}, "does not belong to the app"),
        ({"phone_number_id": "100000000000999"}, "does not lead to this phone number id"),
    ]
    for change, said in wrong:
        refused = await browser.post(f"{place}/whatsapp", **(FORM | change))
        assert (refused.status, said in refused.visible()) == (400, True), change
        # What was entered stays, except for what is secret.
        assert (FORM | change)["phone_number_id"] in refused.text
        assert TOKEN not in refused.text and SECRET not in refused.text
    graph.answer_raw(502, b"<html>", on="number")
    assert (await browser.post(f"{place}/whatsapp", **FORM)).status == 503
    assert (await browser.post(f"{place}/whatsapp", **FORM)).location == f"{place}?done=connected_here"
    assert number.subscribed
    page = await browser.get(place)
    async with site.core.db.read() as session:
        channel = await session.scalar(select(models.Channel).where(models.Channel.kind == "whatsapp"))
    assert channel is not None
    for shown in ("Chinor Stom", "+998 90 123 45 67", "/whatsapp/webhook", channel.secret, "has an end"):
        assert shown in page.text
    assert TOKEN not in page.text and SECRET not in page.text
    # The word that stands in the Meta app stays when the token is renewed.
    number.token, number.token_expires_at = "EAAof_a_system_user_0123456789", 0
    assert (await browser.post(f"{place}/whatsapp", **(FORM | {"access_token": number.token}))).status == 303
    renewed = await browser.get(place)
    assert (
        channel.secret in renewed.text and "has an end" not in renewed.text and '<details class="mt-3">' in renewed.text
    )
    gone = await browser.post(f"{place}/{channel.id}/disconnect")
    assert gone.location == f"{place}?done=disconnected"
    assert 'id="whatsapp-access_token"' in (await browser.get(place)).text
    # Another number is another channel; the first one comes back as the one that its customers' conversations are in.
    other = FORM | {"phone_number_id": "100000000000777", "access_token": "EAAof_another_number_012345"}
    graph.add_number(
        other["phone_number_id"],
        token=other["access_token"],
        app_secret=SECRET,
        waba_id="3",
        display_phone_number="+998 90 765 43 21",
    )
    back = FORM | {"access_token": number.token}
    for form, same in ((other, False), (back, True), (other, False), (back, True)):
        assert (await browser.post(f"{place}/whatsapp", **form)).status == 303
        async with site.core.db.read() as session:
            connected = models.Channel.kind == "whatsapp", models.Channel.external_id.is_not(None)
            [now] = await session.scalars(select(models.Channel).where(*connected))
        assert (now.id == channel.id, now.status, now.external_id) == (same, "active", form["phone_number_id"])
        assert (await browser.post(f"{place}/{now.id}/disconnect")).status == 303
    async with site.core.db.read() as session:
        rows = list(await session.scalars(select(models.Channel).where(models.Channel.kind == "whatsapp")))
    assert len(rows) == 2 and not any(row.credentials for row in rows)


async def test_what_is_wrong_with_the_number_is_said_and_mended(site: Site, graph: FakeGraph) -> None:
    graph.add_number(
        FORM["phone_number_id"], token=TOKEN, app_secret=SECRET, waba_id="2", display_phone_number="+998 90 123 45 67"
    )
    user = await site.person("Blocked", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    place = f"/bots/{bot.id}/channels"
    await browser.post(f"{place}/whatsapp", **FORM)
    for status, said in (
        ("refused", "no longer accepts the access token"),
        ("unreadable", "can no longer be read"),
        ("blocked", "Open WhatsApp Manager"),
    ):
        async with site.core.db.write() as session:
            await session.execute(
                update(models.Channel)
                .where(models.Channel.kind == "whatsapp")
                .values(status=status, last_error="131042: pay")
            )
        assert said in (await browser.get(place)).visible(), status
        assert "Fix it" in (await browser.get("/bots")).visible()
    assert "131042: pay" in (await browser.get(place)).visible()
    await browser.post(f"/bots/{bot.id}/start", next=place)
    assert "Open WhatsApp Manager" not in (await browser.get(place)).visible()
