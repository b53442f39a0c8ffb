"""E-mail of an account: confirmed by code or link, changed only when confirmed, and what it helps: a lost password."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services import accounts, codes, letters, merging, resets, second_factor, team
from services.i18n import translate
from services.limits import Limits
from tests import servers
from tests.web.panel import PASSWORD, Browser, Page, Site, open_site

_numbers = itertools.count(1)
NEW = "boshqa-parol-77"


class Clock:
    """The product's clock, turned by hand."""

    def __init__(self) -> None:
        self.ahead = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return utcnow() + self.ahead


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product with mail settings whose server does not answer: letters stay rows."""
    folder = tmp_path_factory.mktemp("email")
    async with open_site(
        folder,
        servers_run.new_sqlite(folder),
        environment={"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "9"},
        overrides={"limits": {"login_attempts_per_15_min": 500}, "mail": {"sender": "panel@example.uz"}},
    ) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """A clock of this test's own."""
    return Clock()


@pytest.fixture
def site(shared: Site, clock: Clock) -> Site:
    """The same, with the clock of this test."""
    shared.core.now = clock
    shared.core.limits = Limits()
    return shared


async def _registered(site: Site) -> tuple[Browser, str]:
    """Register somebody in a browser."""
    number = next(_numbers)
    email = f"egasi{number}@example.uz"
    browser = site.browser()
    fields = {"full_name": "Egasi", "phone": f"+99890{number:07}", "email": email, "password": PASSWORD}
    assert (await browser.post("/register", **fields)).status == 303
    await browser.get("/settings/email")
    return browser, email


async def _user(site: Site, email: str) -> models.User:
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    return user


async def _letters(site: Site, user_id: str, kind: str) -> list[tuple[models.Letter, dict[str, str]]]:
    async with site.core.db.read() as session:
        rows = await session.scalars(
            select(models.Letter)
            .where(models.Letter.user_id == user_id, models.Letter.kind == kind)
            .order_by(models.Letter.id)
        )
        return [(row, site.core.crypto.decrypt(row.secret) if row.secret else {}) for row in rows]


def _says(page: Page, text: str, **params: object) -> bool:
    return translate("uz", text, **params) in page.visible()


async def test_a_new_account_works_at_once_and_says_what_is_left(site: Site) -> None:
    """One letter with code and link; every page says that the address waits; the code ends that."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    ((letter, secret),) = await _letters(site, user.id, "confirm_email")
    assert (letter.address, letter.mail, letter.telegram) == (email, "new", "none")
    assert len(secret["code"]) == 6 and secret["path"].startswith("/email/confirm?token=")
    assert secret["code"] not in str(letter.params) + letter.key
    page = await browser.get("/bots/new")
    assert page.status == 200 and "/settings/email" in page.text
    spaced = f" {secret['code'][:3]} {secret['code'][3:]} "
    page = await browser.post("/settings/email/code", code=spaced)
    assert (page.status, page.location) == (303, "/settings/email?done=email_confirmed")
    assert (await _user(site, email)).email_confirmed_at is not None
    assert "/settings/email" not in (await browser.get("/dashboard")).text
    # The link of the same letter has gone with the code.
    assert (await site.browser().get(secret["path"])).status == 400


async def test_the_link_confirms_by_a_button_in_any_browser(site: Site) -> None:
    """Looking uses nothing up, the second press does nothing."""
    _, email = await _registered(site)
    ((_, secret),) = await _letters(site, (await _user(site, email)).id, "confirm_email")
    phone = site.browser()
    await phone.post("/preferences", language="en", next="/login")
    for _ in range(2):
        page = await phone.get(secret["path"])
        assert page.status == 200 and email in page.text
    assert (await _user(site, email)).email_confirmed_at is None
    token = secret["path"].partition("token=")[2]
    page = await phone.post("/email/confirm", token=token)
    assert (page.status, page.location) == (303, "/login?done=email_confirmed")
    assert (await _user(site, email)).email_confirmed_at is not None
    assert (await phone.post("/email/confirm", token=token)).status == 400
    # What it says then is about letters, not about the links of the bot and of the program's start.
    for path, way_on in ((secret["path"], "/settings/email"), ("/password/reset?token=gone", "/password/forgot")):
        gone = await phone.get(path)
        assert gone.status == 400 and "a letter works once, for an hour" in gone.visible()
        assert f'href="{way_on}"' in gone.text
    # It has signed nobody in.
    assert (await phone.get("/dashboard")).status == 303


async def test_codes_are_not_to_be_guessed(site: Site, clock: Clock) -> None:
    """Five tries, also at once; then the right one is wrong too. Another letter comes after a minute, not before."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    ((_, secret),) = await _letters(site, user.id, "confirm_email")
    wrong = f"{(int(secret['code']) + 1) % 1_000_000:06}"
    for typed in (wrong, "", "abc", wrong, "９" * 6):
        page = await browser.post("/settings/email/code", code=typed)
        assert page.status == 400, typed
    assert (await browser.post("/settings/email/code", code=secret["code"])).status == 400
    assert (await _user(site, email)).email_confirmed_at is None
    assert (await browser.post("/settings/email/send")).status == 429
    clock.ahead += dt.timedelta(seconds=61)
    assert (await browser.post("/settings/email/send")).status == 303
    (_, (_, again)) = await _letters(site, user.id, "confirm_email")
    assert (await browser.post("/settings/email/code", code=again["code"])).status == 303


async def test_a_code_ends_after_an_hour_and_with_the_next_one(site: Site, clock: Clock) -> None:
    browser, email = await _registered(site)
    user = await _user(site, email)
    clock.ahead += dt.timedelta(minutes=2)
    assert (await browser.post("/settings/email/send")).status == 303
    (_, first), (_, second) = await _letters(site, user.id, "confirm_email")
    assert (await site.browser().get(first["path"])).status == 400
    clock.ahead += dt.timedelta(minutes=61)
    assert (await site.browser().get(second["path"])).status == 400
    assert (await browser.post("/settings/email/code", code=second["code"])).status == 400
    # Five in an hour, ten in a day, whatever is pressed.
    sent = 0
    for _ in range(60):
        clock.ahead += dt.timedelta(minutes=10)
        sent += (await browser.post("/settings/email/send")).status == 303
    assert sent == 8


async def test_a_new_address_counts_when_it_is_confirmed(site: Site) -> None:
    """Until then the old one signs in and the new one does not; then the old one is told."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    new = f"yangi-{email}"
    assert (await browser.post("/settings/email", email=new, current_password="wrong")).status == 400
    page = await browser.post("/settings/email", email=new.upper(), current_password=PASSWORD)
    assert page.status == 303
    ((letter, secret),) = await _letters(site, user.id, "change_email")
    assert letter.address == new
    assert (await site.browser().post("/login", login=new, password=PASSWORD)).status == 400
    assert (await site.browser().post("/login", login=email, password=PASSWORD)).status == 303
    assert (await browser.post("/settings/email/code", code=secret["code"])).status == 303
    changed = await _user(site, new)
    assert changed.id == user.id and changed.email_confirmed_at is not None
    assert (await site.browser().post("/login", login=new, password=PASSWORD)).status == 303
    ((told, nothing),) = await _letters(site, user.id, "email_changed")
    assert (told.address, told.params, nothing) == (email, {"email": new}, {})


async def test_an_address_is_one_account_s(site: Site) -> None:
    """Taken when it is asked for, or taken between the asking and the code: nobody's changes."""
    (first, first_email), (second, second_email) = await _registered(site), await _registered(site)
    page = await first.post("/settings/email", email=second_email, current_password=PASSWORD)
    assert page.status == 409
    new = f"bir-{first_email}"
    for browser in (first, second):
        assert (await browser.post("/settings/email", email=new, current_password=PASSWORD)).status == 303
    codes = [
        (await _letters(site, (await _user(site, email)).id, "change_email"))[0][1]["code"]
        for email in (first_email, second_email)
    ]
    assert (await first.post("/settings/email/code", code=codes[0])).status == 303
    assert (await second.post("/settings/email/code", code=codes[1])).status == 409
    assert (await _user(site, second_email)).email == second_email
    # One's code is nothing to the other.
    _, third_email = await _registered(site)
    ((_, secret),) = await _letters(site, (await _user(site, third_email)).id, "confirm_email")
    assert (await second.post("/settings/email/code", code=secret["code"])).status == 400


@pytest.mark.parametrize(
    "email",
    [
        "a@b.uz\r\nBcc: victim@example.uz",
        "a@b.uz\nSubject: x",
        "a\r@b.uz",
        "a@b.uz%0d%0aBcc: x",
        "a@b",
        "",
        "@",
        "a@b.uz, c@d.uz",
        "<a@b.uz>",
        "x" * 300 + "@b.uz",
        "a@b.uz\x00",
    ],
)
async def test_addresses_that_are_none_are_refused_everywhere(site: Site, email: str) -> None:
    """Line feeds least of all: they would make headers of a letter."""
    browser, _ = await _registered(site)
    fields = {"full_name": "X", "phone": f"+99891{next(_numbers):07}", "email": email, "password": PASSWORD}
    cleaned = email.replace("\x00", "").strip()
    if cleaned == "a@b.uz":
        # What no reader sees is left out, and the rest is an address.
        assert (await browser.post("/settings/email", email=email, current_password=PASSWORD)).status == 303
        return
    assert (await browser.post("/settings/email", email=email, current_password=PASSWORD)).status == 400
    assert (await site.browser().post("/register", **fields)).status == 400
    assert (await site.browser().post("/password/forgot", email=email)).status == 400
    async with site.core.db.read() as session:
        assert not await session.scalar(
            select(func.count()).where(models.Letter.address.contains("\n") | models.Letter.address.contains("\r"))
        )


async def _resets(site: Site, user_id: str, number: int) -> list[dict[str, str]]:
    """Wait until the jobs of this account's requests are done; return what their letters hold."""
    asked = select(func.count()).where(models.Job.kind == resets.RESET_JOB, models.Job.status == "new")
    async with asyncio.timeout(30):
        while True:
            async with site.core.db.read() as session:
                if not await session.scalar(asked):
                    break
            await asyncio.sleep(0.01)
    found = [secret for _, secret in await _letters(site, user_id, "reset")]
    assert len(found) == number
    return found


async def test_a_lost_password(site: Site, clock: Clock) -> None:
    """The same answer for a stranger; the link works once, by its form; all sessions and sign-in links end."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    async with site.core.db.write() as session:
        other_way = await accounts.login_link(session, user)
    guest = site.browser()
    answers = []
    # Where a letter leads is nothing that the request says: it is written into the row as a path.
    await guest.get("/password/forgot")
    spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    for asked in (email, f"nobody{next(_numbers)}@example.uz"):
        form = {"csrf": guest.csrf, "email": asked}
        page = await guest.request("POST", "/password/forgot", data=form, headers=spoofed)
        assert page.status == 200 and "evil.example" not in page.text
        answers.append(page.visible().replace(asked, ""))
    assert answers[0] == answers[1]
    (secret,) = await _resets(site, user.id, 1)
    assert secret["path"].startswith("/password/reset?token=")
    token = secret["path"].partition("token=")[2]
    for _ in range(2):
        assert (await guest.get(secret["path"])).status == 200
    short = await guest.post("/password/reset", token=token, password="short")
    assert short.status == 400 and token in short.text
    # Nor does it confirm an address, or a code reset a password.
    assert (await guest.post("/email/confirm", token=token)).status == 400
    page = await guest.post("/password/reset", token=token, password=NEW)
    assert (page.status, page.location) == (303, "/login?done=password_reset")
    assert (await guest.post("/password/reset", token=token, password=NEW + "x")).status == 400
    assert (await browser.get("/dashboard")).status == 303
    assert (await site.browser().get(f"/login/link?token={other_way}")).status == 400
    assert (await site.browser().post("/login", login=email, password=PASSWORD)).status == 400
    assert (await site.browser().post("/login", login=email, password=NEW)).status == 303
    assert (await _user(site, email)).email_confirmed_at is not None
    assert len(await _letters(site, user.id, "password_reset_alone")) == 1


async def test_reset_letters_are_paced_in_silence(site: Site, clock: Clock) -> None:
    """Two at once are one letter, and the answer is the same; an hour later the link is nothing."""
    _, email = await _registered(site)
    user = await _user(site, email)
    guest = site.browser()
    for _ in range(2):
        assert (await guest.post("/password/forgot", email=email)).status == 200
    (secret,) = await _resets(site, user.id, 1)
    clock.ahead += dt.timedelta(minutes=61)
    assert (await guest.get(secret["path"])).status == 400
    token = secret["path"].partition("token=")[2]
    assert (await guest.post("/password/reset", token=token, password=NEW)).status == 400
    async with site.core.db.write() as session:
        await accounts.ban(session, user)
    assert (await guest.post("/password/forgot", email=email)).status == 200
    await _resets(site, user.id, 1)


async def test_an_account_of_telegram_names_the_address_of_another_and_the_two_are_joined(site: Site) -> None:
    """A code goes to that address; whoever has it is signed in to the one account with the bots of both."""
    _, email = await _registered(site)
    web = await _user(site, email)
    async with site.core.db.write() as session:
        await accounts.confirm_email(session, web, email, now=site.core.now())
        telegram = await accounts.register_owner(session, telegram_id=9_000_000 + next(_numbers), full_name="Tg")
    mine, theirs = await site.bot_of(web, "Birinchi"), await site.bot_of(telegram, "Ikkinchi")
    browser = await site.signed_in(telegram)
    assert (await browser.post("/settings/email", email=email)).status == 303
    page = await browser.get("/settings/email")
    assert _says(page, "Join the accounts")
    ((letter, secret),) = await _letters(site, telegram.id, "join")
    assert (letter.address, letter.telegram, set(secret)) == (email, "none", {"code"})
    wrong = f"{(int(secret['code']) + 1) % 1_000_000:06}"
    assert (await browser.post("/settings/email/code", code=wrong)).status == 400
    before = browser.cookie()
    page = await browser.post("/settings/email/code", code=secret["code"])
    assert (page.status, page.location) == (303, "/settings?done=accounts_joined")
    joined = await _user(site, email)
    assert (joined.id, joined.telegram_id) == (web.id, telegram.telegram_id)
    assert joined.email_confirmed_at is not None
    for bot in (mine, theirs):
        assert (await browser.get(f"/bots/{bot.id}")).status == 200
    page = await site.browser().request("GET", "/dashboard", headers={"Cookie": f"botfactory={before}"})
    assert page.status == 303


@pytest.mark.parametrize("guarded", ["never_confirmed", "two_steps", "administrator"])
async def test_a_code_to_its_address_is_not_enough_to_join_such_an_account(site: Site, guarded: str) -> None:
    """Who registered with somebody's address waits in vain for what is joined to it; two steps are not passed by."""
    _, email = await _registered(site)
    web = await _user(site, email)
    async with site.core.db.write() as session:
        row = await session.get_one(models.User, web.id)
        row.email_confirmed_at = None if guarded == "never_confirmed" else site.core.now()
        row.role = "admin" if guarded == "administrator" else "owner"
        if guarded == "two_steps":
            row.totp_secret, row.totp_at = site.core.crypto.encrypt("A" * 32), site.core.now()
        telegram = await accounts.register_owner(session, telegram_id=9_000_000 + next(_numbers), full_name="Tg")
    theirs = await site.bot_of(telegram, "Ikkinchi")
    browser = await site.signed_in(telegram)
    assert (await browser.post("/settings/email", email=email)).status == 303
    ((_, secret),) = await _letters(site, telegram.id, "join")
    assert (await browser.post("/settings/email/code", code=secret["code"])).status == 409
    async with site.core.db.read() as session:
        assert (await session.get_one(models.Bot, theirs.id)).owner_id == telegram.id
        assert (await session.get_one(models.User, telegram.id)).telegram_id == telegram.telegram_id


async def test_a_reset_closes_what_others_opened_and_lets_the_owner_in(site: Site) -> None:
    """API tokens end with the lost password, and what was tried in vain before does not count against the owner."""
    _, email = await _registered(site)
    user = await _user(site, email)
    async with site.core.db.write() as session:
        _, token = await accounts.new_api_token(session, user, "thief")
    guest = site.browser()
    most = site.core.settings.limits.login_attempts_per_15_min
    for _ in range(most):
        await accounts.allow_attempt(site.core.limits, email, "203.0.113.9", most)
    assert (await guest.post("/login", login=email, password="noto‘g‘ri-parol")).status == 429
    assert (await guest.post("/password/forgot", email=email)).status == 200
    (secret,) = await _resets(site, user.id, 1)
    link = secret["path"].partition("token=")[2]
    assert (await guest.post("/password/reset", token=link, password=NEW)).status == 303
    assert (await guest.post("/login", login=email, password=NEW)).status == 303
    async with site.core.db.read() as session:
        assert await accounts.token_user(session, token) is None


async def _reset(site: Site, user_id: str, email: str) -> Page:
    """Whoever reads the mail of an address asks for a new password and follows the link."""
    guest = site.browser()
    assert (await guest.post("/password/forgot", email=email)).status == 200
    (secret,) = await _resets(site, user_id, 1)
    return await guest.post("/password/reset", token=secret["path"].partition("token=")[2], password=NEW)


async def _busy(site: Site, *, confirmed: bool, telegram_id: int | None) -> tuple[Browser, str, models.User, str]:
    """Register somebody with everything that lets people in: two steps, a token, a team, work for another owner."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    async with site.core.db.write() as session:
        row = await session.get_one(models.User, user.id)
        row.telegram_id, row.email_confirmed_at = telegram_id, site.core.now() if confirmed else None
        row.totp_secret, row.totp_at = site.core.crypto.encrypt("A" * 32), site.core.now()
        await second_factor.new_recovery_codes(session, row)
        _, token = await accounts.new_api_token(session, row, "own")
        others = [models.User(full_name="Yordamchi"), models.User(full_name="Boshqa egasi")]
        session.add_all(others)
        await session.flush()
        session.add(models.Member(owner_id=user.id, user_id=others[0].id, role="manager"))
        session.add(models.Member(owner_id=others[1].id, user_id=user.id, role="operator"))
        session.add(models.ForumGroup(owner_id=user.id, chat_id=-(10**6) - next(_numbers)))
        await team.invite(session, row, "operator", "Kimdir", most=10)
    await site.bot_of(user, "Meniki")
    return browser, email, user, token


async def _ways_in(site: Site, user_id: str) -> dict[str, int]:
    """Return how many rows let somebody into an account, or others in through it."""
    member = models.Member
    counted = {
        "sessions": models.PanelSession.user_id,
        "recovery": models.RecoveryCode.user_id,
        "team": member.owner_id,
        "works": member.user_id,
        "invitations": models.Invitation.owner_id,
        "groups": models.ForumGroup.owner_id,
    }
    async with site.core.db.read() as session:
        return {
            name: int(await session.scalar(select(func.count()).where(column == user_id)) or 0)
            for name, column in counted.items()
        }


async def test_an_address_that_was_never_confirmed_is_its_reader_s_alone(site: Site) -> None:
    """Without Telegram: the true owner comes back to the bots, and a stranger who had registered with it is out for good."""
    browser, email, user, token = await _busy(site, confirmed=False, telegram_id=None)
    phone = user.phone or ""
    page = await _reset(site, user.id, email)
    assert (page.status, page.location) == (303, "/login?done=password_reset")
    row = await _user(site, email)
    assert row.id == user.id and row.email_confirmed_at is not None
    assert (row.totp_secret, row.totp_at, row.phone) == (None, None, None)
    assert set((await _ways_in(site, user.id)).values()) == {0}
    assert (await browser.get("/dashboard")).status == 303
    async with site.core.db.read() as session:
        assert await accounts.token_user(session, token) is None
    for login in (email, phone):
        assert (await site.browser().post("/login", login=login, password=PASSWORD)).status == 400
    reader = site.browser()
    page = await reader.post("/login", login=email, password=NEW)
    assert (page.status, page.location) == (303, "/dashboard")
    assert "Meniki" in (await reader.get("/bots")).text
    assert len(await _letters(site, user.id, "password_reset_alone")) == 1


async def test_whoever_comes_by_telegram_keeps_the_account_and_not_the_address(site: Site) -> None:
    """Mistyped or a stranger's: neither sees anything of the other; one person makes the two one by connecting Telegram."""
    number = 9_500_000 + next(_numbers)
    browser, email, user, token = await _busy(site, confirmed=False, telegram_id=number)
    before = await _ways_in(site, user.id)
    page = await _reset(site, user.id, email)
    assert (page.status, page.location) == (303, "/login?done=address_parted")
    made = await _user(site, email)
    assert made.id != user.id and made.telegram_id is None and made.email_confirmed_at is not None
    async with site.core.db.read() as session:
        row = await session.get_one(models.User, user.id)
        assert (row.email, row.telegram_id, row.phone) == (None, number, user.phone)
        assert row.totp_secret and row.password_hash == user.password_hash
        assert await accounts.token_user(session, token) is not None
    assert await _ways_in(site, user.id) == before
    assert (await browser.get("/dashboard")).status == 200
    reader = site.browser()
    assert (await reader.post("/login", login=email, password=NEW)).location == "/dashboard"
    assert "Meniki" not in (await reader.get("/bots")).text
    ((gone, _),) = await _letters(site, user.id, "address_gone")
    ((told, _),) = await _letters(site, made.id, "address_parted")
    # The one goes to Telegram alone, the other to the address.
    assert (gone.mail, gone.params, told.mail, told.params) == ("none", {"email": email}, "new", {"email": email})
    assert letters.KINDS["address_gone"].telegram is not None
    assert not await _letters(site, user.id, "password_changed")
    async with site.core.db.write() as session:
        link = await accounts.login_link(session, made)
        await merging.link_telegram(session, site.core.settings, link, number, now=site.core.now())
    assert "Meniki" in (await reader.get("/bots")).text
    assert (await _user(site, email)).totp_secret


async def test_a_reset_leaves_a_confirmed_account_as_its_owner_has_it(site: Site) -> None:
    """Telegram, team and the second step stay: a mailbox is no way around it. So is it with an administrator's."""
    number = 9_600_000 + next(_numbers)
    _, email, user, token = await _busy(site, confirmed=True, telegram_id=number)
    before = await _ways_in(site, user.id)
    assert (await _reset(site, user.id, email)).location == "/login?done=password_reset"
    row = await _user(site, email)
    assert (row.id, row.telegram_id, row.phone) == (user.id, number, user.phone)
    assert await _ways_in(site, user.id) == {**before, "sessions": 0}
    async with site.core.db.read() as session:
        assert await accounts.token_user(session, token) is None
    page = await site.browser().post("/login", login=email, password=NEW)
    assert page.location.startswith("/login/code")


async def test_a_link_to_an_address_that_has_changed_since_is_nothing(site: Site) -> None:
    _, email = await _registered(site)
    user = await _user(site, email)
    guest = site.browser()
    assert (await guest.post("/password/forgot", email=email)).status == 200
    (secret,) = await _resets(site, user.id, 1)
    async with site.core.db.write() as session:
        await accounts.confirm_email(session, user, f"new-{email}", now=site.core.now())
    page = await guest.post("/password/reset", token=secret["path"].partition("token=")[2], password=NEW)
    assert page.status == 400
    assert (await site.browser().post("/login", login=f"new-{email}", password=PASSWORD)).status == 303


async def test_asking_whether_addresses_have_an_account_is_slow(site: Site) -> None:
    """Counted by person before anything is looked up; and no crowd of accounts fills one mailbox."""
    browser, email = await _registered(site)
    _, taken = await _registered(site)
    seen = [(await browser.post("/settings/email", email=taken, current_password=PASSWORD)).status for _ in range(11)]
    assert seen == [409] * 10 + [429]
    page = await browser.post("/settings/email", email=f"free-{email}", current_password=PASSWORD)
    assert page.status == 429 and page.headers["Retry-After"] == "3600"
    victim = f"pochta{next(_numbers)}@example.uz"
    asked = []
    for _ in range(11):
        async with site.core.db.write() as session:
            user = await accounts.register_owner(session, telegram_id=9_700_000 + next(_numbers), full_name="Tg")
        asked.append((await (await site.signed_in(user)).post("/settings/email", email=victim)).status)
    assert asked == [303] * 10 + [429]


async def test_two_accounts_with_an_address_are_not_joined(site: Site) -> None:
    """Nor does an administrator's give way."""
    _, email = await _registered(site)
    other, _ = await _registered(site)
    assert (await other.post("/settings/email", email=email, current_password=PASSWORD)).status == 409
    async with site.core.db.write() as session:
        boss = await accounts.register_owner(session, telegram_id=9_000_000 + next(_numbers), full_name="Boss")
        boss.role = "admin"
    browser = await site.signed_in(boss)
    assert (await browser.post("/settings/email", email=email)).status == 409


async def test_nothing_else_of_a_form_counts(site: Site) -> None:
    """Role, plan, dates and ids in every form of the account leave the row as it is."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    extra = {
        "role": "admin",
        "is_admin": "1",
        "plan": "business",
        "ends_at": "2099-01-01",
        "banned_at": "",
        "id": "0" * 26,
        "user_id": "0" * 26,
        "email_confirmed_at": "2020-01-01",
        "phone_confirmed_at": "2020-01-01",
        "telegram_id": "1",
        "trial_at": "2099-01-01",
        "totp_secret": "x",
        "delete_at": "2020-01-01",
        "subscription_version": "9",
        "target": email,
        "purpose": "confirm_email",
    }
    number = next(_numbers)
    registration = {
        "full_name": "X",
        "phone": f"+99893{number:07}",
        "email": f"m{number}@example.uz",
        "password": PASSWORD,
    }
    assert (await site.browser().post("/register", **registration, **extra)).status == 303
    made = await _user(site, f"m{number}@example.uz")
    for path, fields in (
        ("/settings/profile", {"full_name": "Egasi", "phone": user.phone or ""}),
        ("/settings/email", {"email": f"z{number}@example.uz", "current_password": PASSWORD}),
        ("/settings/email/code", {"code": "1"}),
        ("/settings/tokens", {"name": "x", "current_password": PASSWORD}),
    ):
        await browser.post(path, **fields, **extra)
    for row in (made, await _user(site, email)):
        assert row.role == "owner" and row.banned_at is None and row.telegram_id is None and row.trial_at is None
        assert row.email_confirmed_at is None and row.phone_confirmed_at is None and row.totp_secret is None
        assert row.delete_at is None and row.subscription_version == 0 and row.id != extra["id"]


async def test_without_mail_the_pages_say_what_other_way_there_is(tmp_path: Path, servers_run: servers.Run) -> None:
    """No letter is promised, none is written, and the address can still be changed in the profile."""
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path)) as plain:
        browser, email = await _registered(plain)
        user = await _user(plain, email)
        assert not await _letters(plain, user.id, "confirm_email")
        page = await plain.browser().get("/password/forgot")
        assert _says(page, "Write to whoever runs this service: they can let you in again.")
        assert 'action="/password/forgot"' not in page.text
        plain.core.factory_username = "zavod_bot"
        page = await plain.browser().get("/password/forgot")
        assert "https://t.me/zavod_bot?start=panel" in page.text
        assert (await plain.browser().post("/password/forgot", email=email)).status == 409
        assert (await browser.post("/settings/email", email="x@example.uz", current_password=PASSWORD)).status == 409
        saved = await browser.post("/settings/profile", full_name="Egasi", email=f"n{email}", phone=user.phone or "")
        assert saved.status == 303
        assert (await _user(plain, f"n{email}")).email_confirmed_at is None
        assert "/settings/email" not in (await browser.get("/dashboard")).text


async def test_an_address_from_which_letters_come_back(site: Site) -> None:
    """Every page says so and what to do; the code that the person has sent for is the way back, or an administrator."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    async with site.core.db.write() as session:
        await accounts.confirm_email(session, await session.get_one(models.User, user.id), email, now=utcnow())
        await codes.forget(session, user.id, now=utcnow())
    said = "Letters to {email} come back, so we send none there: receipts and reminders do not reach you."
    assert not _says(await browser.get("/settings"), said, email=email)
    assert (await browser.post("/settings/email/send")).status == 404

    async def come_back() -> None:
        async with site.core.db.write() as session:
            row = await session.get_one(models.User, user.id)
            row.mail_refused_at = utcnow()

    await come_back()
    assert _says(await browser.get("/settings"), said, email=email)
    assert _says(await browser.get("/settings/email"), "Letters come back")
    site.core.now = lambda: utcnow() + dt.timedelta(minutes=2)
    assert (await browser.post("/settings/email/send")).location == "/settings/email?done=code_sent"
    _, secret = (await _letters(site, user.id, "confirm_email"))[-1]
    assert (await browser.post("/settings/email/code", code=secret["code"])).status == 303
    assert (await _user(site, email)).mail_refused_at is None
    assert not _says(await browser.get("/settings"), said, email=email)
    await come_back()
    boss = await site.person("Pochtachi")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, boss.id)).role = "admin"
    admin = await site.signed_in(boss)
    page = await admin.get(f"/admin/owners/{user.id}/plan")
    assert _says(page, "Last letters") and _says(page, "Write to this address again")
    assert _says(await admin.get(f"/admin/owners?q={email}"), "Letters come back")
    assert (await admin.post(f"/admin/owners/{user.id}/mail")).location.endswith("done=mail_retried")
    assert (await admin.post(f"/admin/owners/{user.id}/mail")).status == 409
    assert (await _user(site, email)).mail_refused_at is None


async def test_an_address_that_bounced_is_not_told_that_it_was_changed(site: Site) -> None:
    """The letter to the address before the change does not go where nobody is."""
    browser, email = await _registered(site)
    user = await _user(site, email)
    async with site.core.db.write() as session:
        (await session.get_one(models.User, user.id)).mail_refused_at = utcnow()
    new = f"yangi-{email}"
    assert (await browser.post("/settings/email", email=new, current_password=PASSWORD)).status == 303
    ((_, secret),) = await _letters(site, user.id, "change_email")
    assert (await browser.post("/settings/email/code", code=secret["code"])).status == 303
    ((letter, _),) = await _letters(site, user.id, "email_changed")
    assert (letter.address, letter.mail) == (email, "none")
    assert (await _user(site, new)).mail_refused_at is None
