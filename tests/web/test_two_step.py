"""Two-step sign-in: set up by a code, asked for after every first proof, each code once, and the true owner is never shut out."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import re
from collections.abc import AsyncIterator

import pyotp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from db.engine import Database
from services import accounts, second_factor
from services.crypto import Crypto, digest, new_fernet_key
from services.limits import Limits
from tests import servers
from tests.web.panel import PASSWORD, Browser, Page, Site, hashed, open_site

_numbers = itertools.count(1)


class Clock:
    """The product's clock, turned by hand; it stands still in the middle of a code's half minute."""

    def __init__(self) -> None:
        self.now = utcnow().replace(second=15, microsecond=0)

    def __call__(self) -> dt.datetime:
        return self.now

    def turn(self, steps: int = 1) -> None:
        """Go on by so many codes."""
        self.now += dt.timedelta(seconds=30 * steps)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product behind one proxy, so that people come from any address."""
    folder = tmp_path_factory.mktemp("two_step")
    async with open_site(folder, servers_run.new_sqlite(folder), overrides={"server": {"trusted_proxies": 1}}) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """A clock of this test's own."""
    return Clock()


@pytest.fixture
def site(shared: Site, clock: Clock) -> Site:
    """The same with nothing counted yet."""
    shared.core.now, shared.core.limits = clock, Limits()
    return shared


def _codes(page: Page) -> list[str]:
    """Return the recovery codes that a page shows to be kept."""
    shown = re.search(r'<textarea[^>]* id="recovery-codes"[^>]*>([^<]*)</textarea>', page.text)
    assert shown is not None, page.visible()
    codes = shown[1].split()
    assert len(set(codes)) == len(codes) == 10
    assert all(re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", code) for code in codes), codes
    return codes


class Owner:
    """Somebody with an app on the phone."""

    def __init__(self, site: Site, user: models.User, clock: Clock) -> None:
        self.site, self.user, self.clock = site, user, clock
        self.secret = ""
        self.codes: list[str] = []

    @property
    def email(self) -> str:
        """The name to sign in with."""
        return self.user.email or ""

    def code(self, steps: int = 0) -> str:
        """Return what the app shows, or showed so many codes ago."""
        return pyotp.TOTP(self.secret).at(self.clock.now + dt.timedelta(seconds=30 * steps))

    async def set_up(self, browser: Browser) -> None:
        """Turn it on."""
        assert (await browser.post("/settings/two-step/begin", current_password=PASSWORD)).status == 303
        page = await browser.get("/settings/two-step")
        self.secret = re.findall(r"<code>([A-Z2-7 ]+)</code>", page.text)[0].replace(" ", "")
        page = await browser.post("/settings/two-step/confirm", code=self.code())
        assert page.status == 200, page.visible()
        self.codes = _codes(page)

    async def halfway(self, browser: Browser | None = None, *, address: str = "203.0.113.5") -> Browser:
        """Show the password and stand before the question for the code."""
        browser = browser or self.site.browser()
        await browser.get("/login")
        page = await _post(browser, "/login", address, login=self.email, password=PASSWORD)
        assert (page.status, page.location.partition("?")[0]) == (303, "/login/code"), page.visible()
        assert (await browser.get("/dashboard")).status == 303
        assert (await browser.get(page.location)).status == 200
        return browser


async def _post(browser: Browser, path: str, address: str, **fields: str) -> Page:
    if not browser.csrf:
        await browser.get("/login")
    headers = {"X-Forwarded-For": address}
    return await browser.request("POST", path, data={"csrf": browser.csrf, **fields}, headers=headers)


async def _owner(site: Site, clock: Clock, *, on: bool = True) -> tuple[Owner, Browser]:
    name = f"Ikki{next(_numbers)}"
    user = await site.person(name, password_hash=await hashed())
    browser = site.browser()
    assert (await _post(browser, "/login", "198.51.100.1", login=user.email or "", password=PASSWORD)).status == 303
    await browser.get("/settings")
    owner = Owner(site, user, clock)
    if on:
        await owner.set_up(browser)
        clock.turn()
    return owner, browser


async def test_it_counts_when_a_code_has_shown_that_the_phone_has_it(site: Site, clock: Clock) -> None:
    """Begun is not on; the secret lies encrypted and the codes as digests, and neither is shown again."""
    owner, browser = await _owner(site, clock, on=False)
    other = await site.signed_in(owner.user)
    assert (await browser.post("/settings/two-step/begin", current_password="wrong")).status == 400
    assert (await browser.post("/settings/two-step/begin", current_password=PASSWORD)).status == 303
    assert (await site.signed_in(owner.user)).cookie()
    assert (await browser.post("/settings/two-step/confirm", code="000000")).status == 400
    before = browser.cookie()
    await owner.set_up(browser)
    assert browser.cookie() != before
    assert (await other.get("/dashboard")).status == 303
    assert (await browser.get("/dashboard")).status == 200
    page = await browser.get("/settings/two-step")
    assert owner.secret not in page.text.replace(" ", "") and owner.codes[0] not in page.text
    async with site.core.db.read() as session:
        row = await session.get_one(models.User, owner.user.id)
        hashes = set(await session.scalars(select(models.RecoveryCode.code_hash)))
        audit = list(await session.scalars(select(models.AuditLog.action).where(models.AuditLog.actor_id == row.id)))
    assert row.totp_secret and owner.secret not in row.totp_secret
    assert site.core.crypto.decrypt(row.totp_secret) == owner.secret
    assert {digest("recovery:" + code.replace("-", "")) for code in owner.codes} <= hashes
    assert "second_factor_on" in audit
    assert (await browser.post("/settings/two-step/begin", current_password=PASSWORD)).status == 409


async def test_every_first_proof_is_followed_by_the_question(site: Site, clock: Clock) -> None:
    """After the password and after the bot's link; the page after it is the one that was wanted."""
    owner, _ = await _owner(site, clock)
    browser = await owner.halfway()
    page = await browser.post("/login/code", code=owner.code(), next="/bots/new")
    assert (page.status, page.location) == (303, "/bots/new?done=welcome")
    assert (await browser.get("/bots/new")).status == 200
    clock.turn()
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, owner.user)
    guest = site.browser()
    await guest.get(f"/login/link?token={token}")
    page = await guest.post("/login/link", token=token, next="/settings")
    assert page.location == "/login/code?next=/settings"
    assert (await guest.get("/settings")).status == 303
    await guest.get(page.location)
    assert (
        await guest.post("/login/code", code=owner.code(), next="//evil.example")
    ).location == "/dashboard?done=welcome"


async def test_a_code_opens_once(site: Site, clock: Clock) -> None:
    """Also two times at once, and the one of setting up not at all; older than the used one neither."""
    owner, _ = await _owner(site, clock)
    clock.turn(-1)
    assert (await (await owner.halfway()).post("/login/code", code=owner.code())).status == 400
    clock.turn(2)
    browsers = [await owner.halfway() for _ in range(3)]
    code = owner.code()
    pages = await asyncio.gather(*(browser.post("/login/code", code=code) for browser in browsers))
    assert sorted(page.status for page in pages) == [303, 400, 400]
    browser = await owner.halfway()
    assert (await browser.post("/login/code", code=owner.code(-1))).status == 400
    clock.turn(3)
    assert (await browser.post("/login/code", code=code)).status == 400
    spaced = f"{owner.code()[:3]} {owner.code()[3:]}"
    assert (await browser.post("/login/code", code=spaced)).status == 303


async def test_a_recovery_code_opens_once_however_it_is_written(site: Site, clock: Clock) -> None:
    """And is nobody else's; new ones make the old ones worthless."""
    owner, browser = await _owner(site, clock)
    second, _ = await _owner(site, clock)
    guest = await owner.halfway()
    assert (await guest.post("/login/code", code=second.codes[0])).status == 400
    assert (await guest.post("/login/code", code=owner.codes[0].upper().replace("-", " "))).status == 303
    again = await owner.halfway()
    assert (await again.post("/login/code", code=owner.codes[0])).status == 400
    page = await browser.get("/settings/two-step")
    assert " 9 " in page.visible()
    assert (await browser.post("/settings/two-step/codes", code="")).status == 400
    page = await browser.post("/settings/two-step/codes", code=owner.code())
    assert page.status == 200
    assert (await again.post("/login/code", code=owner.codes[1])).status == 400
    fresh = _codes(page)
    assert not set(fresh) & set(owner.codes)
    assert (await again.post("/login/code", code=fresh[9])).status == 303


async def test_guessing_stops_and_the_true_owner_goes_on(site: Site, clock: Clock) -> None:
    """Whoever has the password tries five codes; the owner's own browser and the recovery codes are counted apart."""
    owner, own = await _owner(site, clock)
    await own.post("/logout")
    thief = await owner.halfway(address="192.0.2.1")
    seen = [(await _post(thief, "/login/code", f"192.0.2.{n}", code=f"{n:06}")).status for n in range(7)]
    assert seen == [400] * 5 + [429] * 2
    assert (await _post(thief, "/login/code", "192.0.2.99", code=owner.code())).status == 429
    # The browser of old passes, and then the counting begins anew.
    await owner.halfway(own)
    assert (await own.post("/login/code", code=owner.code())).status == 303
    await own.post("/logout")
    for n in range(6):
        await _post(thief, "/login/code", "192.0.2.1", code=f"{n:06}")
    guest = await owner.halfway(address="203.0.113.77")
    assert (await _post(guest, "/login/code", "203.0.113.77", code=owner.codes[0])).status == 303


async def test_guessing_a_password_does_not_shut_the_owner_out(site: Site, clock: Clock) -> None:
    """From the browser in which they signed in before; a cookie of another one, or a forged one, is nothing."""
    owner, own = await _owner(site, clock, on=False)
    other, foreign = await _owner(site, clock, on=False)
    device = own.cookie("device")
    assert device and owner.user.id in device
    for browser in (own, foreign):
        await browser.post("/logout")
        await browser.get("/login")
    guesser = site.browser()
    seen = [
        (await _post(guesser, "/login", f"192.0.2.{n}", login=owner.email, password=f"guess-{n}")).status
        for n in range(6)
    ]
    assert seen == [400] * 5 + [429]
    for browser in (guesser, foreign):
        assert (await _post(browser, "/login", "192.0.2.50", login=owner.email, password=PASSWORD)).status == 429
    forged = device[:-4] + ("aaaa" if device[-4:] != "aaaa" else "bbbb")
    stranger = site.browser()
    await stranger.get("/login")
    headers = {"X-Forwarded-For": "192.0.2.60", "Cookie": f"botfactory={stranger.cookie()}; device={forged}"}
    fields = {"csrf": stranger.csrf, "login": owner.email, "password": PASSWORD}
    assert (await stranger.request("POST", "/login", data=fields, headers=headers)).status == 429
    # It has tries of its own, five like everybody's.
    wrong = [
        (await _post(own, "/login", "192.0.2.70", login=owner.email, password=f"oops-{n}")).status for n in range(3)
    ]
    assert wrong == [400] * 3
    assert (await _post(own, "/login", "192.0.2.70", login=owner.email, password=PASSWORD)).status == 303
    assert other.user.id in foreign.cookie("device")


async def test_half_a_sign_in_is_none(site: Site, clock: Clock) -> None:
    """It opens nothing, ends with the password it rests on, and nobody comes in without one."""
    owner, own = await _owner(site, clock)
    browser = await owner.halfway()
    half = browser.cookie()
    for path in ("/dashboard", "/settings/two-step", "/events", "/bots"):
        assert (await browser.get(path)).status == 303
    changed = await own.post("/settings/password", current_password=PASSWORD, password="yangi-parol-88")
    assert changed.status == 303
    assert (await browser.post("/login/code", code=owner.code())).location == "/login"
    page = await site.browser().request("GET", "/login/code", headers={"Cookie": f"botfactory={half}"})
    assert page.location == "/login"
    assert (await site.browser().post("/login/code", code=owner.code())).location == "/login"


async def test_turning_it_off_takes_the_password_or_a_code(site: Site, clock: Clock) -> None:
    owner, browser = await _owner(site, clock)
    for fields in ({}, {"current_password": "wrong"}, {"code": "000000"}, {"code": owner.code(-9)}):
        assert (await browser.post("/settings/two-step/off", **fields)).status == 400
    assert (await browser.post("/settings/two-step/off", current_password=PASSWORD)).status == 303
    page = await _post(site.browser(), "/login", "203.0.113.9", login=owner.email, password=PASSWORD)
    assert page.location == "/dashboard"
    async with site.core.db.read() as session:
        row = await session.get_one(models.User, owner.user.id)
        left = await session.scalar(select(func.count()).where(models.RecoveryCode.user_id == row.id))
    assert (row.totp_secret, row.totp_at, row.totp_step, left) == (None, None, None, 0)


async def test_without_a_password_only_a_code_turns_it_off(site: Site, clock: Clock) -> None:
    """A link of the bot alone is half a proof; an administrator is nobody else."""
    user = await site.person(f"Havola{next(_numbers)}")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, user.id)).role = "admin"
    browser, owner = await site.signed_in(user), Owner(site, user, clock)
    await owner.set_up(browser)
    clock.turn()
    for fields in ({}, {"current_password": ""}, {"current_password": PASSWORD}):
        assert (await browser.post("/settings/two-step/off", **fields)).status == 400
    assert (await browser.post("/settings/two-step/off", code=owner.code())).status == 303


async def test_one_code_once_on_both_databases(database_url: str) -> None:
    """Twenty at once: the row decides."""
    crypto, now = Crypto([new_fernet_key()]), utcnow()
    secret = pyotp.random_base32()
    db = Database(database_url, pool_size=5)
    try:
        async with db.write() as session:
            user = models.User(full_name="X", totp_secret=crypto.encrypt(secret), totp_at=now)
            session.add(user)
            await session.flush()
            (recovery, *_) = await second_factor.new_recovery_codes(session, user)

        async def tried(code: str) -> bool:
            async with db.write() as session:
                return await second_factor.check(session, crypto, user.id, code, now=now)

        for code in (pyotp.TOTP(secret).at(now), recovery):
            assert sum(await asyncio.gather(*(tried(code) for _ in range(20)))) == 1
    finally:
        await db.close()
