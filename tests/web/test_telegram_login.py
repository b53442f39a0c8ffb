"""Sign-in by Telegram's own log-in: against a provider that checks what it is asked, and with everything that may be forged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services import accounts
from services.limits import Limits
from tests import servers
from tests.fakes.telegram import FakeTelegram
from tests.fakes.telegram_login import FakeLogin, open_login
from tests.web.panel import Browser, Page, Site, open_site

TOKEN = "7700000001:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SECRET = "login-secret-of-the-bot"
CALLBACK = "/login/telegram/callback"


@pytest.fixture
async def provider() -> AsyncIterator[FakeLogin]:
    """Telegram's log-in."""
    async with open_login("7700000001", SECRET) as made:
        yield made


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str, telegram: FakeTelegram, provider: FakeLogin) -> AsyncIterator[Site]:
    """The product whose factory bot is set up for it."""
    telegram.add_bot(TOKEN, "zavod_bot", name="Zavod")
    environment = {
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_API_BASE": telegram.base_url,
        "TELEGRAM_LOGIN_SECRET": SECRET,
        "TELEGRAM_OAUTH_BASE": provider.base_url,
    }
    async with open_site(tmp_path, sqlite_url, environment=environment) as made:
        made.core.limits = Limits()
        yield made


async def _returns(site: Site, provider: FakeLogin, browser: Browser, **changes: str) -> Page:
    """Go to Telegram, agree there, and come back; ``changes``: of what the browser brings."""
    page = await browser.get("/login/telegram?next=/bots/new")
    assert page.status == 303
    code, asked = provider.agree(page.location)
    assert asked["redirect_uri"] == site.core.settings.public_url + CALLBACK
    query = {"code": code, "state": asked["state"], **changes}
    return await browser.request("GET", CALLBACK, params=query)


async def _people(site: Site) -> int:
    async with site.core.db.read() as session:
        return await session.scalar(select(func.count()).select_from(models.User)) or 0


async def test_new_people_get_an_account_and_known_ones_their_own(site: Site, provider: FakeLogin) -> None:
    """With the name and the phone that Telegram vouches for; the second time it is the same account."""
    assert "/login/telegram" in (await site.browser().get("/login")).text
    assert "/login/telegram" in (await site.browser().get("/register")).text
    provider.claims = {"sub": "abc", "id": 900000102, "name": "Нодира", "phone_number": "998901234567"}
    browser = site.browser()
    await browser.get("/login")
    before = browser.cookie()
    page = await _returns(site, provider, browser)
    assert (page.status, page.location) == (303, "/bots/new?done=welcome")
    assert browser.cookie() != before
    assert (await browser.get("/bots/new")).status == 200
    async with site.core.db.read() as session:
        user = await accounts.by_telegram(session, 900000102)
    assert user is not None
    assert (user.full_name, user.phone, user.role) == ("Нодира", "+998901234567", "owner")
    assert user.phone_confirmed_at is not None
    known = await _people(site)
    assert (await _returns(site, provider, site.browser())).status == 303
    assert await _people(site) == known
    assert provider.keys_read == 1


async def test_a_phone_of_somebody_else_stays_theirs(site: Site, provider: FakeLogin) -> None:
    other = await site.person("Egasi", phone="+998901234567")
    provider.claims = {"sub": "1234123412341234123", "id": 900000103, "name": "X", "phone_number": "998901234567"}
    assert (await _returns(site, provider, site.browser())).status == 303
    async with site.core.db.read() as session:
        made = await accounts.by_telegram(session, 900000103)
        assert made is not None and made.phone is None
        assert (await session.get_one(models.User, other.id)).phone == "+998901234567"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://oauth.telegram.org.evil.example"},
        {"iss": None},
        {"aud": "7700000002"},
        {"aud": None},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"nonce": "another"},
        {"nonce": None},
        {"id": "1 OR 1=1"},
        {"id": -5},
        {"id": 0},
    ],
)
async def test_what_is_not_signed_for_us_now_is_refused(
    site: Site, provider: FakeLogin, claims: dict[str, Any]
) -> None:
    """Issuer, audience, end, nonce and number: each alone is enough."""
    known = await _people(site)
    provider.claims = {"sub": "900000104", "id": 900000104, **claims}
    browser = site.browser()
    assert (await _returns(site, provider, browser)).status == 400
    assert (await browser.get("/dashboard")).status == 303
    assert await _people(site) == known


async def test_other_keys_and_algorithms_are_refused(site: Site, provider: FakeLogin) -> None:
    """A key that is not the provider's, one of an unknown name, none at all, and the public one as a password."""
    provider.claims = {"sub": "1234123412341234123", "id": 900000105}
    foreign: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged: tuple[tuple[Any, str, str], ...] = (
        (foreign, "k1", "RS256"),
        (foreign, "k9", "RS256"),
        (None, "k1", "none"),
        (b"x" * 40, "k1", "HS256"),
    )
    for key, kid, algorithm in forged:
        provider.key, provider.kid, provider.algorithm = key, kid, algorithm
        assert (await _returns(site, provider, site.browser())).status == 400, (kid, algorithm)
    assert provider.keys_read == 1


async def test_what_the_browser_brings_is_its_own_and_works_once(site: Site, provider: FakeLogin) -> None:
    """A state of somebody else's, an invented code, the same return a second time, a return without a beginning."""
    provider.claims = {"sub": "1234123412341234123", "id": 900000106}
    browser, victim = site.browser(), site.browser()
    for changes in ({"state": "x"}, {"state": ""}, {"code": ""}, {"code": "invented"}):
        assert (await _returns(site, provider, browser, **changes)).status == 400
    page = await browser.get("/login/telegram")
    code, asked = provider.agree(page.location)
    query = {"code": code, "state": asked["state"]}
    assert (await victim.request("GET", CALLBACK, params=query)).status == 400
    assert (await browser.request("GET", CALLBACK, params=query)).status == 303
    assert (await browser.request("GET", CALLBACK, params=query)).status == 400
    page = await victim.get("/login/telegram")
    assert (await victim.request("GET", CALLBACK, params={"error": "access_denied"})).location == "/login"
    assert (await victim.get("/login/telegram?next=//evil.example")).status == 303
    provider.status = 500
    assert (await _returns(site, provider, victim)).status == 503


async def test_the_second_factor_and_a_ban_come_after_it(site: Site, provider: FakeLogin) -> None:
    provider.claims = {"sub": "1234123412341234123", "id": 900000107}
    assert (await _returns(site, provider, site.browser())).status == 303
    async with site.core.db.write() as session:
        user = await accounts.by_telegram(session, 900000107)
        assert user is not None
        user.totp_secret, user.totp_at = site.core.crypto.encrypt("A" * 32), utcnow()
    browser = site.browser()
    assert (await _returns(site, provider, browser)).location == "/login/code?next=/bots/new"
    assert (await browser.get("/dashboard")).status == 303
    async with site.core.db.write() as session:
        await accounts.ban(session, user)
    assert (await _returns(site, provider, site.browser())).status == 403


async def test_without_its_secret_there_is_no_button(tmp_path: Path, servers_run: servers.Run) -> None:
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path)) as plain:
        assert "/login/telegram" not in (await plain.browser().get("/login")).text
        assert "/login/telegram" not in (await plain.browser().get("/register")).text
        assert (await plain.browser().get("/login/telegram")).status == 404
        assert (await plain.browser().get(CALLBACK)).status == 404
