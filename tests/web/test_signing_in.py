"""Signing in and out: sessions, one-time links, guessing, forms of other sites, addresses to go on to."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import accounts
from services.i18n import translate
from tests import servers
from tests.web.panel import PASSWORD, Site, hashed, open_site
from web.auth import safe_next


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("signing")
    async with open_site(
        folder, servers_run.new_sqlite(folder), environment={"ADMIN_EMAIL": "boss@example.uz"}
    ) as made:
        yield made


async def _with_password(site: Site, name: str) -> models.User:
    return await site.person(name, password_hash=await hashed())


async def test_registration_then_first_bot(site: Site) -> None:
    """The fields of registration, however people type them, lead to the page that asks for a name."""
    browser = site.browser()
    page = await browser.post(
        "/register",
        full_name="  Dilnoza   Karimova ",
        phone="998 90-123-45-67",
        email="Dilnoza@Example.UZ",
        password=PASSWORD,
    )
    assert (page.status, page.location) == (303, "/bots/new")
    assert (await browser.get("/bots/new")).status == 200
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, "dilnoza@example.uz")
    assert user is not None
    assert (user.full_name, user.phone) == ("Dilnoza Karimova", "+998901234567")
    assert user.password_hash is not None
    assert user.password_hash.startswith("$argon2id$")
    again = await site.browser().post(
        "/register", full_name="X", phone="+998901234500", email="dilnoza@example.uz", password=PASSWORD
    )
    assert again.status == 409
    assert 'value="+998901234500"' in again.text
    assert PASSWORD not in again.text


async def test_password_by_email_and_by_phone(site: Site) -> None:
    """Both names of an account work, in any spelling."""
    await _with_password(site, "Bothways")
    async with site.core.db.write() as session:
        user = await accounts.by_email(session, "bothways@example.uz")
        assert user is not None
        await accounts.set_phone(session, user, "+998 93 111 22 33")
    for login in ("BothWays@example.uz", "+998 93 111-22-33", "93 111 22 33", "９３１１１２２３３"):
        page = await site.browser().post("/login", login=login, password=PASSWORD, next="/settings")
        assert (page.status, page.location) == (303, "/settings"), login


async def test_new_session_id_at_sign_in(site: Site) -> None:
    """A cookie known before the sign-in is worth nothing after it."""
    await _with_password(site, "Fixation")
    browser = site.browser()
    await browser.get("/login")
    before = browser.cookie()
    assert (await browser.post("/login", login="fixation@example.uz", password=PASSWORD)).status == 303
    assert browser.cookie() != before
    thief = site.browser()
    page = await thief.request("GET", "/dashboard", headers={"Cookie": f"botfactory={before}"})
    assert page.status == 303
    assert page.location.startswith("/login")


async def test_cookie_is_hidden_from_scripts_and_tells_nothing(site: Site) -> None:
    """Flags of the cookie, and that it is encrypted."""
    page = await site.browser().get("/login")
    cookie = page.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "gAAAA" in cookie


async def test_host_cookie_and_hsts_behind_tls(tmp_path: Path, servers_run: servers.Run) -> None:
    """Where the public address is https, the cookie is bound to the host and browsers are told to stay."""
    folder = tmp_path
    async with open_site(
        folder, servers_run.new_sqlite(folder), overrides={"server": {"public_url": "https://panel.example.uz"}}
    ) as tls:
        page = await tls.browser().get("/login")
    assert page.headers["Set-Cookie"].startswith("__Host-botfactory=")
    assert "Secure" in page.headers["Set-Cookie"]
    assert page.headers["Strict-Transport-Security"].startswith("max-age=31536000")


async def test_logout_ends_the_session_on_the_server(site: Site) -> None:
    """A copied cookie does not outlive the log-out."""
    user = await site.person("Leaver")
    browser = await site.signed_in(user)
    copied = browser.cookie()
    assert (await browser.post("/logout")).status == 303
    page = await site.browser().request("GET", "/dashboard", headers={"Cookie": f"botfactory={copied}"})
    assert page.status == 303


@pytest.mark.parametrize("column", ["expires_at", "last_seen_at"])
async def test_old_sessions_end(site: Site, column: str) -> None:
    """After thirty days, and after two weeks without a visit."""
    user = await site.person(f"Old{column}")
    browser = await site.signed_in(user)
    async with site.core.db.write() as session:
        await session.execute(
            update(models.PanelSession)
            .where(models.PanelSession.user_id == user.id)
            .values({column: utcnow() - dt.timedelta(days=15)})
        )
    assert (await browser.get("/dashboard")).status == 303


async def test_ban_ends_everything(site: Site) -> None:
    """Session, link, password and token stop at once."""
    user = await _with_password(site, "Banned")
    browser = await site.signed_in(user)
    async with site.core.db.write() as session:
        link = await accounts.login_link(session, user)
        _, token = await accounts.new_api_token(session, user, "x")
        await accounts.ban(session, await session.get_one(models.User, user.id))
    assert (await browser.get("/dashboard")).status == 303
    assert (await site.browser().get(f"/login/link?token={link}")).status == 400
    proven = await site.browser().post("/login", login="banned@example.uz", password=PASSWORD)
    assert proven.status == 403
    assert translate("uz", "Your account is blocked. Please write to whoever runs this service.") in proven.visible()
    # Whoever has not proved to be that person learns no more than of an account that does not exist.
    guesses = [
        (await site.browser().post("/login", login=login, password="guess-1-2-3")).visible().replace(login, "")
        for login in ("banned@example.uz", "nobody-at-all@example.uz")
    ]
    assert guesses[0] == guesses[1]
    page = await site.browser().request("GET", "/api/v1/bots", headers={"Authorization": f"Bearer {token}"})
    assert page.status == 401


async def test_new_password_signs_the_others_out(site: Site) -> None:
    """The device that changed it stays, under a new session."""
    user = await _with_password(site, "Changer")
    here, there = await site.signed_in(user), await site.signed_in(user)
    wrong = await here.post("/settings/password", current_password="wrong", password="another-password-1")
    assert wrong.status == 400
    page = await here.post("/settings/password", current_password=PASSWORD, password="another-password-1")
    assert page.status == 303
    assert (await here.get("/dashboard")).status == 200
    assert (await there.get("/dashboard")).status == 303
    signed = await site.browser().post("/login", login="changer@example.uz", password="another-password-1")
    assert signed.status == 303


async def test_signing_in_is_written_down(site: Site) -> None:
    """Whoever has signed in once needs no printed link any more."""
    user = await site.person("Audited")
    async with site.core.db.read() as session:
        assert await accounts.never_signed_in(session, user)
    await site.signed_in(user)
    async with site.core.db.read() as session:
        assert not await accounts.never_signed_in(session, user)
        wanted = select(models.AuditLog).where(models.AuditLog.actor_id == user.id)
        (row,) = await session.scalars(wanted)
    assert (row.action, row.object_kind, row.object_id, row.details) == ("signed_in", "user", user.id, {})


async def test_link_works_once_and_only_by_the_button(site: Site) -> None:
    """Messengers that look at the link do not use it up; whoever comes second is refused."""
    user = await site.person("Linked")
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, user)
        row = await session.scalar(select(models.LoginLink).where(models.LoginLink.user_id == user.id))
        assert row is not None
        assert token not in row.token_hash
    for _ in range(3):
        preview = await site.browser().get(f"/login/link?token={token}")
        assert preview.status == 200
        assert "Linked" in preview.text
    first, second = site.browser(), site.browser()
    assert (await first.post("/login/link", token=token)).status == 303
    assert (await second.post("/login/link", token=token)).status == 400
    assert (await second.get("/dashboard")).status == 303


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/bots/01abc/conversations?status=waiting", "/bots/01abc/conversations?status=waiting&done=welcome"),
        ("//evil.example", "/dashboard?done=welcome"),
        ("", "/dashboard?done=welcome"),
    ],
)
async def test_link_leads_to_where_it_says(site: Site, target: str, leads_to: str) -> None:
    """A page of ours that the link names is the page after it."""
    user = await site.person("Led" + str(len(target)))
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, user)
    browser = site.browser()
    page = await browser.request("GET", "/login/link", params={"token": token, "next": target})
    (following,) = re.findall(rf'value="{token}"><input type="hidden" name="next" value="([^"]*)"', page.text)
    signed = await browser.post("/login/link", token=token, next=unescape(following))
    assert (signed.status, signed.location) == (303, leads_to)
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, user)
    other = site.browser()
    assert (await other.post("/login/link", token=token, next=target)).location == leads_to


async def test_the_way_by_telegram_keeps_the_page(site: Site) -> None:
    """The sign-in page's link into Telegram names the conversation that was wanted."""
    bot, talk = "0" * 26, "1" * 26
    site.core.factory_username = "factory_bot"
    try:
        asked = await site.browser().get(f"/bots/{bot}/conversations/{talk}")
        form = await site.browser().get(asked.location)
        assert f'href="https://t.me/factory_bot?start=panel_{bot}_{talk}"' in form.text
        assert 'href="https://t.me/factory_bot?start=panel"' in (await site.browser().get("/login")).text
    finally:
        site.core.factory_username = ""


async def test_link_ends_after_ten_minutes(site: Site) -> None:
    """An old link signs nobody in."""
    user = await site.person("Late")
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, user)
        await session.execute(
            update(models.LoginLink)
            .where(models.LoginLink.user_id == user.id)
            .values(expires_at=utcnow() - dt.timedelta(seconds=1))
        )
    assert (await site.browser().post("/login/link", token=token)).status == 400


async def test_links_and_passwords_stay_out_of_the_log(
    site: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the token of a link nor a password is ever written, however much is logged."""
    caplog.set_level(logging.DEBUG)
    # The product never lets it say more: it would tell all that is stored.
    caplog.set_level(logging.WARNING, "aiosqlite")
    user = await _with_password(site, "Quiet")
    async with site.core.db.write() as session:
        token = await accounts.login_link(session, user)
    browser = site.browser()
    await browser.get(f"/login/link?token={token}")
    await browser.post("/login/link", token=token)
    await browser.post("/login", login="quiet@example.uz", password=PASSWORD + "x")
    written = "".join((*capfd.readouterr(), caplog.text))
    assert "path=/login/link" in written
    assert token not in written
    assert PASSWORD not in written


async def test_guessing_is_stopped(tmp_path: Path, servers_run: servers.Run) -> None:
    """Five tries in a quarter of an hour for an account, in the same words whether it exists; then even the right one waits."""
    folder = tmp_path
    async with open_site(folder, servers_run.new_sqlite(folder)) as site:
        await _with_password(site, "Target")
        answers = {}
        for login in ("target@example.uz", "nobody@example.uz"):
            browser = site.browser()
            pages = [await browser.post("/login", login=login, password=f"guess-{n}") for n in range(5)]
            answers[login] = {page.visible().replace(login, "") for page in pages}
            assert [page.status for page in pages] == [400] * 5
            blocked = await browser.post("/login", login=login, password=PASSWORD)
            assert blocked.status == 429
            assert int(blocked.headers["Retry-After"]) == 900
        assert answers["target@example.uz"] == answers["nobody@example.uz"]
        # Nor can it be made to forget by giving it other things to count.
        for number in range(50_010):
            await site.core.limits.hit(f"api:{number}", 300, 60)
        assert (await browser.post("/login", login="target@example.uz", password=PASSWORD)).status == 429


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_forms_of_other_sites_are_refused(site: Site, headers: dict[str, str]) -> None:
    """Even with the right token."""
    user = await site.person("Victim" + "".join(headers.values())[:12].replace(":", "").replace("/", ""))
    browser = await site.signed_in(user)
    page = await browser.request("POST", "/bots", data={"csrf": browser.csrf, "name": "Evil"}, headers=headers)
    assert page.status == 403
    async with site.core.db.read() as session:
        assert await session.scalar(select(models.Bot).where(models.Bot.owner_id == user.id)) is None


async def test_forms_without_our_token_are_refused(site: Site) -> None:
    """No token, an invented one, another session's one, JSON that calls itself text."""
    user, other = await site.person("Token"), await site.person("Tokenless")
    browser, foreign = await site.signed_in(user), await site.signed_in(other)
    for csrf in ("", "x", "0" * 128, browser.csrf[:64], foreign.csrf):
        page = await browser.request("POST", "/bots", data={"csrf": csrf, "name": "Evil"})
        assert page.status == 403
    plain = await browser.request(
        "POST", "/bots", data=b'{"csrf": "x", "name": "Evil"}', headers={"Content-Type": "text/plain"}
    )
    assert plain.status == 403
    upload = await browser.request("POST", "/bots", data={"name": "Evil"}, headers={"X-CSRF-Token": foreign.csrf})
    assert upload.status == 403


async def test_reading_changes_nothing(site: Site) -> None:
    """What changes something cannot be had by GET."""
    browser = await site.signed_in(await site.person("Reader"))
    for path in ("/logout", "/preferences", "/settings/profile", "/settings/tokens"):
        assert (await browser.get(path)).status in (404, 405)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://evil.example",
        "/%2f%2fevil.example",
        "/%2Fevil.example",
        "/%5cevil.example",
        "/\tevil",
        "/x\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        " /x",
        "",
        "/" + "x" * 600,
    ],
)
async def test_next_stays_here(site: Site, target: str) -> None:
    """After the sign-in a person is sent to a path of ours only."""
    assert safe_next(target) == "/dashboard"
    browser = await site.signed_in(await site.person("Next" + str(abs(hash(target)))))
    page = await browser.request("GET", "/login", params={"next": target})
    assert (page.status, page.location) == (303, "/dashboard")


def test_next_keeps_our_paths() -> None:
    """A path with a query goes through."""
    assert safe_next("/bots/01abc/documents?q=narx&after=2#x") == "/bots/01abc/documents?q=narx&after=2#x"


async def test_strangers_come_back_to_where_they_wanted(site: Site) -> None:
    """A page asked for before the sign-in is the page after it."""
    await _with_password(site, "Wanted")
    browser = site.browser()
    page = await browser.get("/bots/new?x=1")
    assert page.location == "/login?next=/bots/new%3Fx%3D1"
    form = await browser.get(page.location)
    assert 'name="next" value="/bots/new?x=1"' in form.text


async def test_api_token_is_shown_once(site: Site) -> None:
    """Made, shown, used, revoked."""
    browser = await site.signed_in(await site.person("Tokens"))
    page = await browser.post("/settings/tokens", name="Our shop")
    token = page.text.split('id="new-token" value="')[1].split('"')[0]
    assert token.startswith("bf_")
    again = await browser.get("/settings")
    assert token not in again.text
    assert f"…{token[-4:]}" in again.text
    headers = {"Authorization": f"Bearer {token}"}
    assert (await site.browser().request("GET", "/api/v1/bots", headers=headers)).status == 200
    revoke = again.text.split("/settings/tokens/")[1].split("/revoke")[0]
    assert (await browser.post(f"/settings/tokens/{revoke}/revoke")).status == 303
    assert (await site.browser().request("GET", "/api/v1/bots", headers=headers)).status == 401


async def test_language_and_theme_follow_the_account(site: Site) -> None:
    """Browser's list, then the switch, then the account on any device."""
    browser = site.browser()
    assert (
        '<html lang="ru"'
        in (await browser.get("/login", **{"Accept-Language": "kk;q=0.9, ru-RU;q=0.8, en;q=0.1"})).text
    )
    assert '<html lang="uz"' in (await browser.get("/login", **{"Accept-Language": "de"})).text
    page = await browser.post("/preferences", language="uz-Cyrl", theme="dark", next="/login")
    assert page.status == 303
    assert '<html lang="uz-Cyrl" data-theme="dark" data-bs-theme="dark"' in (await browser.get("/login")).text
    user = await site.person("Polyglot")
    here = await site.signed_in(user)
    await here.post("/preferences", language="en", next="/settings")
    await here.post("/preferences", theme="light", next="/settings")
    there = await site.signed_in(user)
    assert '<html lang="en" data-theme="light"' in (await there.get("/settings")).text
    await here.post("/preferences", language="xx", theme="blue", next="/settings")
    assert '<html lang="en" data-theme="light"' in (await there.get("/settings")).text
