"""What gives an account away takes the password once more, or a sign-in of a moment ago; Telegram is let go of likewise."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import accounts
from services.i18n import translate
from services.limits import Limits
from tests import servers
from tests.web.panel import PASSWORD, Browser, Site, hashed, open_site

_numbers = itertools.count(1)
NEW = "boshqa-parol-77"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product with mail settings, shared by this module."""
    folder = tmp_path_factory.mktemp("proofs")
    environment = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "9"}
    async with open_site(folder, servers_run.new_sqlite(folder), environment=environment) as made:
        made.core.factory_username = "zavod_bot"
        yield made


@pytest.fixture
def site(shared: Site) -> Site:
    """The same with nothing counted yet."""
    shared.core.limits = Limits()
    return shared


async def _owner(
    site: Site, *, password: bool, telegram: bool = False, fresh: bool = True
) -> tuple[models.User, Browser]:
    """Make an account and a browser in which it signed in a moment ago, or not ``fresh``: an hour ago."""
    number = next(_numbers)
    user = await site.person(
        f"Isbot{number}",
        password_hash=await hashed() if password else None,
        telegram_id=9_800_000 + number if telegram else None,
    )
    browser = await site.signed_in(user)
    if not fresh:
        async with site.core.db.write() as session:
            own = models.PanelSession.user_id == user.id
            hour_ago = utcnow() - dt.timedelta(hours=1)
            await session.execute(update(models.PanelSession).where(own).values(created_at=hour_ago))
    return user, browser


async def _row(site: Site, user: models.User) -> models.User:
    async with site.core.db.read() as session:
        return await session.get_one(models.User, user.id)


@pytest.mark.parametrize(
    ("path", "fields", "shown"),
    [
        ("/settings/tokens", {"name": "do‘kon"}, 'id="new-token"'),
        ("/settings/telegram", {}, "https://t.me/zavod_bot?start=in_"),
    ],
)
async def test_a_browser_left_open_gives_nobody_a_lasting_way_in(
    site: Site, path: str, fields: dict[str, str], shown: str
) -> None:
    """The password is asked for; without one a sign-in of the last ten minutes; with two steps a code will do."""
    _, browser = await _owner(site, password=True)
    for wrong in ({}, {"current_password": "noto‘g‘ri"}, {"code": "000000"}):
        page = await browser.post(path, **fields, **wrong)
        assert page.status == 400 and shown not in page.text, wrong
    page = await browser.post(path, **fields, current_password=PASSWORD)
    assert page.status == 200 and shown in page.text
    _, stale = await _owner(site, password=False, fresh=False)
    page = await stale.post(path, **fields)
    assert page.status == 400 and shown not in page.text
    text = "You signed in a while ago. For this, sign out, sign in again and come back within ten minutes."
    assert translate("uz", text) in page.visible()
    _, fresh = await _owner(site, password=False)
    assert shown in (await fresh.post(path, **fields)).text


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/settings/password", {"password": NEW}), ("/settings/email", {"email": "men-emas@example.uz"})],
)
async def test_a_first_password_or_address_is_a_way_in_too(site: Site, path: str, fields: dict[str, str]) -> None:
    """Else whoever finds a browser open sets one and keeps the account."""
    user, stale = await _owner(site, password=False, fresh=False)
    assert (await stale.post(path, **fields)).status == 400
    assert (await _row(site, user)).password_hash is None
    _, fresh = await _owner(site, password=False)
    assert (await fresh.post(path, **fields)).status == 303


async def test_telegram_is_let_go_of(site: Site) -> None:
    """With the password; its links end, its holder begins anew, a letter tells, and it can be connected again."""
    user, browser = await _owner(site, password=True, telegram=True)
    number = user.telegram_id or 0
    async with site.core.db.write() as session:
        link = await accounts.login_link(session, user)
        session.add(models.DialogState(key=f"1:{number}:{number}"))
    assert 'action="/settings/telegram/disconnect"' in (await browser.get("/settings")).text
    for wrong in ({}, {"current_password": "noto‘g‘ri"}):
        page = await browser.post("/settings/telegram/disconnect", **wrong)
        assert page.status == 400 and (await _row(site, user)).telegram_id == number
    page = await browser.post("/settings/telegram/disconnect", current_password=PASSWORD)
    assert (page.status, page.location) == (303, "/settings?done=telegram_cut")
    assert (await _row(site, user)).telegram_id is None
    assert (await site.browser().get(f"/login/link?token={link}")).status == 400
    async with site.core.db.read() as session:
        letters = list(await session.scalars(select(models.Letter.kind).where(models.Letter.user_id == user.id)))
        actions = list(await session.scalars(select(models.AuditLog.action).where(models.AuditLog.actor_id == user.id)))
        assert await session.get(models.DialogState, f"1:{number}:{number}") is None
    assert "telegram_disconnected" in letters and "telegram_disconnected" in actions
    async with site.core.db.write() as session:
        newcomer = await accounts.ensure_telegram_user(session, number, full_name="X", language_code=None, admin_ids=())
    assert newcomer.id != user.id
    assert (await browser.post("/settings/telegram/disconnect", current_password=PASSWORD)).status == 404
    assert (await browser.post("/settings/telegram", current_password=PASSWORD)).status == 200
    assert (await browser.get("/dashboard")).status == 200


async def test_the_last_way_in_stays(site: Site) -> None:
    """Without a password nobody could sign in any more; the page says what is missing."""
    user, browser = await _owner(site, password=False, telegram=True)
    text = translate(
        "uz",
        "Telegram is your only way to sign in. Add an e-mail and set a password first, then you can disconnect it.",
    )
    page = await browser.get("/settings")
    assert "/settings/telegram/disconnect" not in page.text and text in page.visible()
    page = await browser.post("/settings/telegram/disconnect")
    assert page.status == 409
    assert (await _row(site, user)).telegram_id is not None
