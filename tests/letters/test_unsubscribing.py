"""Ending offers: by the link in a letter, without signing in, and in the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from db import models
from services.letters import rendering
from tests.letters.office import PUBLIC, START
from tests.web.panel import Browser, Site, open_site


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path, sqlite_url) as opened:
        opened.core.now = lambda: START
        yield opened


async def _link(site: Site, name: str = "Aziza") -> tuple[str, str]:
    """Make a person; return their id and the path of their link."""
    user = await site.person(name, language="en")
    return user.id, rendering.unsubscribe_link(PUBLIC, site.core.secret, user.id).removeprefix(PUBLIC)


async def _ended(site: Site, user_id: str) -> bool:
    async with site.core.db.read() as session:
        return (await session.get_one(models.User, user_id)).unsubscribed_at is not None


async def _program(site: Site, path: str, body: str = "List-Unsubscribe=One-Click", **headers: str) -> int:
    """Do what a mail program does: no cookie, no page before it, a body of its own."""
    given = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    async with site.browser().http.post(site.base + path, data=body, headers=given) as answer:
        return answer.status


async def test_opening_shows_a_button_and_changes_nothing(site: Site) -> None:
    user_id, path = await _link(site)
    page = await site.browser().get(path)
    assert page.status == 200
    assert "No more offers?" in page.visible()
    assert 'method="post"' in page.text
    assert not await _ended(site, user_id)


async def test_the_button_ends_offers_and_another_brings_them_back(site: Site) -> None:
    user_id, path = await _link(site)
    browser = site.browser()
    page = await browser.request("POST", path, data={})
    assert "You get no more offers" in page.visible()
    assert await _ended(site, user_id)
    page = await browser.request("POST", path, data={"again": "1"})
    assert "Offers come again" in page.visible()
    assert not await _ended(site, user_id)


async def test_one_click_in_a_mail_program(site: Site) -> None:
    user_id, path = await _link(site)
    assert await _program(site, path, **{"Sec-Fetch-Site": "cross-site"}) == 200
    assert await _ended(site, user_id)
    assert await _program(site, path) == 200
    assert await _ended(site, user_id)


async def test_a_forged_link_gets_the_same_reply_whatever_is_wrong(site: Site) -> None:
    user_id, path = await _link(site)
    other_id, other = await _link(site, "Other")
    signature = path.rpartition(".")[2]
    forged = [
        f"/unsubscribe/{user_id}",
        f"/unsubscribe/{user_id}.",
        f"/unsubscribe/{user_id}.{'0' * 40}",
        f"/unsubscribe/{other_id}.{signature}",
        f"/unsubscribe/{'0' * 26}.{signature}",
        f"{path}0",
        f"/unsubscribe/.{signature}",
        "/unsubscribe/%00%ff",
    ]
    seen = set()
    for address in forged:
        for method in ("GET", "POST"):
            page = await site.browser().request(method, address, headers={"X-Request-ID": "the-same-one"})
            seen.add((page.status, page.visible()))
    assert len(seen) == 1
    assert {status for status, _ in seen} == {404}
    assert not await _ended(site, user_id)
    assert not await _ended(site, other_id)
    assert other != path


async def test_the_link_of_a_deleted_account_is_no_error(site: Site) -> None:
    path = rendering.unsubscribe_link("", site.core.secret, "0" * 26)
    assert await _program(site, path) == 200


async def test_the_setting(site: Site) -> None:
    user = await site.person("Aziza", language="en")
    browser: Browser = await site.signed_in(user)
    page = await browser.get("/settings")
    assert "No more offers" in page.visible()
    answer = await browser.post("/settings/offers", offers="")
    assert answer.location.startswith("/settings")
    assert await _ended(site, user.id)
    page = await browser.get("/settings")
    assert "Send me offers again" in page.visible()
    await browser.post("/settings/offers", offers="1")
    assert not await _ended(site, user.id)


async def test_the_setting_of_nobody(site: Site) -> None:
    assert (await site.browser().request("POST", "/settings/offers", data={"offers": ""})).status in (401, 403)
