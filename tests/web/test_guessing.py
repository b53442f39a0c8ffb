"""Guessing and flooding at the door: windows that grow, by account and by address; whose address it is behind proxies."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest
from multidict import CIMultiDict

from services import accounts
from services.i18n import translate
from services.limits import Limits
from tests import servers
from tests.web.panel import PASSWORD, Browser, Page, Site, open_site

HOUR_S = 3600
_numbers = itertools.count(1)


class Clock:
    """A clock to turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """Behind one proxy of ours, one attempt in a quarter of an hour: people from any address, at any time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = Clock()
        site.core.limits = Limits(clock=self.clock)

    async def signs_in(self, login: str, address: str) -> tuple[int, str]:
        """Try a password; return the status and how long to wait."""
        page = await _post(self.site.browser(), "/login", address, login=login, password="guess-1-2-3")
        return page.status, page.headers.get("Retry-After", "")


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product behind one proxy, shared by this module."""
    folder = tmp_path_factory.mktemp("guessing")
    async with open_site(
        folder,
        servers_run.new_sqlite(folder),
        overrides={"server": {"trusted_proxies": 1}, "limits": {"login_attempts_per_15_min": 1}},
    ) as made:
        yield made


@pytest.fixture
def door(site: Site) -> Door:
    """The same with nothing counted yet."""
    return Door(site)


async def _post(browser: Browser, path: str, address: str, **fields: str) -> Page:
    if not browser.csrf:
        await browser.get("/login")
    return await browser.request(
        "POST", path, data={"csrf": browser.csrf, **fields}, headers={"X-Forwarded-For": address}
    )


def _address() -> str:
    """Return an address that nobody had yet."""
    return f"203.0.{next(_numbers)}.7"


async def test_an_account_is_guessed_at_ever_more_slowly(door: Door) -> None:
    """From whatever addresses: once in a quarter of an hour, twice in two hours, four times in a day."""
    login = "slowly@example.uz"
    seen = []
    for at in (0, 899, 900, 1800, 2 * HOUR_S, 2 * HOUR_S + 900, 2 * HOUR_S + 1800, 5 * HOUR_S, 24 * HOUR_S):
        door.clock.now = 1000 + at
        seen.append((at, *await door.signs_in(login, _address())))
    assert seen == [
        (0, 400, ""),
        (899, 429, "900"),
        (900, 400, ""),
        (1800, 429, "7200"),
        (2 * HOUR_S, 400, ""),
        (2 * HOUR_S + 900, 400, ""),
        (2 * HOUR_S + 1800, 429, "86400"),
        (5 * HOUR_S, 429, "86400"),
        (24 * HOUR_S, 400, ""),
    ]


async def test_an_address_tries_four_accounts_as_often_as_one_may_be_tried(door: Door) -> None:
    """Names are invented easily: a fresh account with every try helps nobody, and the neighbour's address is open."""
    office = _address()

    async def tried(number: int) -> list[int]:
        names = [f"name{next(_numbers)}@example.uz" for _ in range(number)]
        return sorted([status for status, _ in await asyncio.gather(*(door.signs_in(name, office) for name in names))])

    assert await tried(5) == [400] * 4 + [429]
    assert (await door.signs_in("other@example.uz", _address()))[0] == 400
    for at, allowed in ((900, 4), (1800, 0), (2 * HOUR_S, 4), (2 * HOUR_S + 900, 4), (5 * HOUR_S, 0)):
        door.clock.now = 1000 + at
        assert await tried(allowed + 1) == [400] * allowed + [429], at


async def test_the_eleventh_account_of_an_hour_waits(door: Door) -> None:
    """One address makes ten; another one goes on, and so does the first when its hour is over."""
    office = _address()

    async def register(address: str) -> Page:
        number = next(_numbers)
        fields = {
            "full_name": "X",
            "phone": f"+99890{number:07}",
            "email": f"new{number}@example.uz",
            "password": PASSWORD,
        }
        return await _post(door.site.browser(), "/register", address, **fields)

    made = await asyncio.gather(*(register(office) for _ in range(10)))
    assert [page.status for page in made] == [303] * 10
    refused = await register(office)
    assert refused.status == 429 and int(refused.headers["Retry-After"]) == HOUR_S
    assert (
        translate("uz", "Too many accounts have been made from your network. Try again in an hour.")
        in refused.visible()
    )
    assert (await register(_address())).status == 303
    door.clock.now += HOUR_S
    assert (await register(office)).status == 303


async def test_the_thirty_first_bad_link_waits(door: Door) -> None:
    """Looked at or used; a good link works all the same, for there may be an office behind the address."""
    user = await door.site.person("Linkgood")
    async with door.site.core.db.write() as session:
        good = await accounts.login_link(session, user)
    office, browser = _address(), door.site.browser()

    async def guess(address: str, *, use: bool) -> int:
        token = f"guess-{next(_numbers)}"
        if use:
            return (await _post(browser, "/login/link", address, token=token)).status
        return (await browser.get(f"/login/link?token={token}", **{"X-Forwarded-For": address})).status

    assert [await guess(office, use=number % 2 == 1) for number in range(30)] == [400] * 30
    assert [await guess(office, use=use) for use in (False, True)] == [429] * 2
    assert await guess(_address(), use=False) == 400
    assert (await _post(browser, "/login/link", office, token=good)).status == 303
    door.clock.now += 900
    assert await guess(office, use=False) == 400


async def test_an_unknown_account_costs_the_work_of_a_known_one(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of the answer would tell who has an account, and who has one without a password."""
    await door.site.person("Worker", password_hash=await accounts.hash_password(PASSWORD))
    await door.site.person("Worklinked")
    verify = argon2.PasswordHasher.verify
    done: list[argon2.Parameters] = []

    def watched(self: argon2.PasswordHasher, encoded: str, password: str | bytes) -> bool:
        done.append(argon2.extract_parameters(encoded))
        return bool(verify(self, encoded, password))

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    work = []
    for login in ("worker@example.uz", "worklinked@example.uz", "nobody@example.uz", "no name at all"):
        done.clear()
        assert (await door.signs_in(login, _address()))[0] == 400
        work.append(list(done))
    assert len(work[0]) == 1
    assert work == [work[0]] * 4


async def test_a_right_sign_in_does_not_use_an_office_up(door: Door) -> None:
    """Behind one address everybody may sign in in the morning; guesses between count all the same."""
    office = _address()
    hashed = await accounts.hash_password(PASSWORD)
    people = [await door.site.person(f"Xodim{n}", password_hash=hashed) for n in range(6)]
    for person in people:
        page = await _post(door.site.browser(), "/login", office, login=person.email or "", password=PASSWORD)
        assert page.status == 303
    guesses = [(await door.signs_in(f"name{next(_numbers)}@example.uz", office))[0] for _ in range(5)]
    assert guesses == [400] * 4 + [429]


async def test_a_network_of_ipv6_is_one_address(door: Door) -> None:
    """A subscriber has 2⁶⁴ addresses: they are not so many tries. The neighbour's network is another one."""
    seen = [(await door.signs_in(f"name{next(_numbers)}@example.uz", f"2001:db8:7:1::{n:x}"))[0] for n in range(5)]
    assert seen == [400] * 4 + [429]
    assert (await door.signs_in(f"name{next(_numbers)}@example.uz", "2001:db8:7:1:ffff:ffff:ffff:ffff"))[0] == 429
    assert (await door.signs_in(f"name{next(_numbers)}@example.uz", "2001:db8:7:2::1"))[0] == 400


async def test_a_crowd_that_fills_the_memory_does_not_shut_out_whoever_signed_in_before(door: Door) -> None:
    """Where nothing more can be counted no stranger may try; a browser of old is counted where strangers cannot."""
    owner = await door.site.person("Eskidan", password_hash=await accounts.hash_password(PASSWORD))
    own, address = door.site.browser(), _address()
    fields = {"login": owner.email or "", "password": PASSWORD}
    assert (await _post(own, "/login", address, **fields)).status == 303
    await own.post("/logout")
    for number in range(50_010):
        door.site.core.limits.hit_here(f"login:account:{number}", 1, 86_400)
    assert (await _post(door.site.browser(), "/login", _address(), **fields)).status == 429
    await own.get("/login")
    assert (await _post(own, "/login", address, **fields)).status == 303


async def test_how_long_to_wait_is_said_as_it_is(door: Door) -> None:
    """Beside ``Retry-After``, with the way by the bot where there is one."""
    login = "qancha@example.uz"
    texts = {}
    for at in (0, 899, 900, 1800, 2 * HOUR_S, 2 * HOUR_S + 900, 5 * HOUR_S):
        door.clock.now = 1000 + at
        page = await _post(door.site.browser(), "/login", _address(), login=login, password="guess-1-2-3")
        if page.status == 429:
            texts[page.headers["Retry-After"]] = page.visible()
    said = {
        "900": "Too many attempts. Wait 15 minutes and try again.",
        "7200": "Too many attempts. Wait two hours and try again.",
        "86400": "Too many attempts. Wait a day and try again.",
    }
    assert set(texts) == set(said)
    for seconds, text in said.items():
        assert translate("uz", text) in texts[seconds]
    door.site.core.factory_username = "zavod_bot"
    try:
        page = await _post(door.site.browser(), "/login", _address(), login=login, password="guess-1-2-3")
    finally:
        door.site.core.factory_username = ""
    assert translate("uz", "Too many attempts. Wait a day, or ask the bot for a link with /panel.") in page.visible()


def _claimed(*lines: str) -> CIMultiDict[str]:
    return CIMultiDict([("X-Forwarded-For", line) for line in lines])


@pytest.mark.parametrize("trusted", [0, 1, 2])
async def test_only_our_own_proxies_are_believed(
    tmp_path: Path, servers_run: servers.Run, trusted: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a person puts into the header stands left of what our proxies add, and counts for nothing.

    Where none is trusted and one seems to be there, the log says so, once.
    """
    # What our proxies write about one person, forged parts apart; the first of two is known to the second only.
    added = ["", ", 203.0.113.5", ", 203.0.113.5, 10.0.0.{n}"][trusted]
    overrides = {"server": {"trusted_proxies": trusted}}
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path), overrides=overrides) as site:
        browser = site.browser()

        async def guess(*lines: str) -> int:
            page = await browser.request("GET", "/login/link?token=guess", headers=_claimed(*lines))
            return page.status

        assert [await guess(f"198.51.100.{n}{added.format(n=n)}") for n in range(30)] == [400] * 30
        assert await guess(f"198.51.100.30{added.format(n=30)}") == 429
        # Nor does it help to write it on a line of one's own, or to say much.
        assert await guess("198.51.100.31", f"198.51.100.31{added.format(n=31)}") == 429
        assert await guess("198.51.100.32, " * 5 + f"198.51.100.32{added.format(n=32)}") == 429
        if trusted:
            assert await guess(f"198.51.100.33{added.replace('113.5', '113.6').format(n=33)}") == 400
            # Fewer steps than proxies: somebody came by another way, and is whoever is at the other end.
            short = ["", "", "198.51.100.{n}"][trusted]
            assert [await guess(short.format(n=n)) for n in range(30)] == [400] * 30
            assert await guess(short.format(n=30)) == 429
    assert "".join(capfd.readouterr()).count("proxy_not_trusted") == (0 if trusted else 1)
