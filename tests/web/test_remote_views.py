"""Remote views: an administrator sees an owner's panel, changes nothing without consent, and sees no secret at all."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import accounts, bots, second_factor, views
from tests import servers
from tests.web.access_table import TABLE
from tests.web.panel import Browser, Site, open_site, web_talk
from web.app import make_app

WHY = "Bot javob bermayapti"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("views")
    async with open_site(folder, servers_run.new_sqlite(folder)) as running:
        yield running


@pytest.fixture(scope="module")
async def admin(site: Site) -> models.User:
    made = await site.person("Boshliq", language="en")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, made.id)).role = "admin"
    return made


async def _owner(site: Site, name: str) -> models.User:
    return await site.person(name, language="en", phone=f"+9989{abs(hash(name)) % 10**8:08d}")


async def _look(browser: Browser, owner: models.User, minutes: str = "15") -> None:
    """Begin a view in this browser."""
    path = f"/admin/owners/{owner.id}"
    await browser.get(path)
    begun = await browser.post(f"{path}/view", reason=WHY, minutes=minutes)
    assert begun.status == 303 and begun.location.startswith("/dashboard"), begun.visible()
    await browser.get("/dashboard")


async def _last(site: Site, owner: models.User) -> models.RemoteView:
    async with site.core.db.read() as session:
        row = models.RemoteView
        return (await session.scalars(select(row).where(row.owner_id == owner.id).order_by(row.id.desc()))).all()[0]


async def _actions(site: Site, owner: models.User) -> list[str]:
    async with site.core.db.read() as session:
        row = models.AuditLog
        return list(await session.scalars(select(row.action).where(row.object_id == owner.id).order_by(row.id)))


async def test_looking_changes_nothing(site: Site, admin: models.User) -> None:
    """The owner's pages with a bar; forms are refused; the owner sees who, why and which pages, and ends it."""
    owner = await _owner(site, "Malika")
    bot = await site.bot_of(owner, "Gullar")
    browser, theirs = await site.signed_in(admin), await site.signed_in(owner)
    path = f"/admin/owners/{owner.id}/view"
    assert (await browser.post(path, reason="", minutes="15")).status == 400
    assert (await browser.post(path, reason=WHY, minutes="600")).status == 400
    own_form = browser.csrf
    await _look(browser, owner)
    page = await browser.get(f"/bots/{bot.id}")
    assert page.status == 200 and "Gullar" in page.visible()
    assert (
        "Malika" in page.visible() and "15 minutes left" in page.visible() and "You are only looking." in page.visible()
    )
    refused = await browser.post(f"/bots/{bot.id}", name="Boshqa", languages="uz")
    assert (
        refused.status == 403 and "You are only looking." in refused.visible() and 'action="/view/end"' in refused.text
    )
    # A form of the administrator's own page, opened before, does nothing here.
    browser.csrf = own_form
    stale = await browser.post("/view/end")
    assert stale.status == 403
    assert (await browser.get("/admin/owners")).status == 403
    mine = await theirs.get("/settings/views")
    assert WHY in mine.visible() and "Boshliq" in mine.visible() and "Going on" in mine.visible()
    view = await _last(site, owner)
    opened = (await theirs.get(f"/settings/views/{view.id}")).visible()
    assert f"/bots/{bot.id}" in opened and "refused" in opened
    # Nobody has asked: there is nothing to agree to.
    assert (await theirs.post(f"/settings/views/{view.id}/agree")).status == 409
    assert (await theirs.post(f"/settings/views/{view.id}/end")).status == 303
    gone = await browser.get("/dashboard")
    back = await browser.get("/admin/owners")
    assert gone.status in (200, 303) and back.status == 200 and "viewing" not in back.text
    async with site.core.db.read() as session:
        assert (await session.get_one(models.Bot, bot.id)).name == "Gullar"
    assert [one for one in await _actions(site, owner) if one.startswith("view")] == ["view_begun", "view_ended"]


async def test_with_consent(site: Site, admin: models.User) -> None:
    """Asked, agreed: what may be changed is, under both names; never what only the owner may; refused later, nothing more."""
    owner = await _owner(site, "Rustam")
    bot = await site.bot_of(owner, "Ustaxona")
    browser, theirs = await site.signed_in(admin), await site.signed_in(owner)
    await _look(browser, owner, "60")
    view = await _last(site, owner)
    assert (await browser.post("/view/ask")).status == 303
    assert (await browser.post("/view/ask")).status == 409
    # The one who asks cannot answer.
    assert (await browser.post(f"/settings/views/{view.id}/agree")).status == 403
    home = await theirs.get("/dashboard")
    assert "asks whether they may change something" in home.visible() and "/settings/views" in home.text
    assert (await theirs.post(f"/settings/views/{view.id}/agree")).status == 303
    await browser.get(f"/bots/{bot.id}")
    assert (await browser.post(f"/bots/{bot.id}/stop")).status == 303
    async with site.core.db.write() as session:
        assert (await session.get_one(models.Bot, bot.id)).status == "stopped"
        talk = await web_talk(session, await session.get_one(models.Bot, bot.id), "Mijoz")
        logged = models.AuditLog
        changed = (await session.scalars(select(logged).where(logged.action == "view_changed"))).one()
        assert (changed.actor_id, changed.object_id, changed.details["path"]) == (
            admin.id,
            owner.id,
            f"/bots/{bot.id}/stop",
        )
    assert (await browser.post(f"/inbox/{talk.id}/status", status="human")).status == 303
    async with site.core.db.read() as session:
        taken = (await session.scalars(select(logged).where(logged.object_id == talk.id))).one()
        assert (taken.actor_id, taken.details) == (owner.id, {"by": admin.id})
    for path, fields in (
        ("/settings/password", {"password": "a-new-password-1"}),
        ("/settings/profile", {"full_name": "Mallory", "phone": "+998901112233"}),
        ("/settings/email", {"email": "mallory@example.uz"}),
        ("/settings/tokens", {"name": "x"}),
        ("/settings/two-step/begin", {}),
        ("/settings/delete", {"code": "000000"}),
        ("/settings/export", {}),
        ("/team/invitations", {"role": "manager", "name": "x"}),
        ("/billing/request", {"plan": "basic", "period": "monthly"}),
        (f"/bots/{bot.id}/delete", {"name": "Ustaxona"}),
        (f"/bots/{bot.id}/key", {"openai_key": "sk-x"}),
        (f"/bots/{bot.id}/channels/telegram", {"token": "1:x"}),
        ("/preferences", {"language": "ru", "next": "/"}),
    ):
        answer = await browser.post(path, **fields)
        assert answer.status == 403 and "Only the owner can do this" in answer.visible(), path
    assert (await theirs.post(f"/settings/views/{view.id}/refuse")).status == 303
    assert (await browser.post(f"/bots/{bot.id}/start")).status == 403
    page = await browser.get(f"/admin/owners/{owner.id}")
    assert page.status == 403
    ended = await browser.post("/view/end")
    assert ended.status == 303 and ended.location.startswith(f"/admin/owners/{owner.id}")
    assert "with consent" not in (await browser.get(f"/admin/owners/{owner.id}")).visible()
    log = (await browser.get(f"/admin/audit?object={talk.id}")).visible()
    assert "Took over a conversation" in log and "Boshliq" in log and "Rustam" in log


@pytest.mark.parametrize("how", ["time", "sign-out", "ban", "role"])
async def test_it_ends(site: Site, admin: models.User, how: str) -> None:
    """By time, by signing out, with the owner’s ban and the administrator’s right; a form sent then changes nothing."""
    owner = await _owner(site, f"Tugadi{how}")
    browser = await site.signed_in(admin)
    await _look(browser, owner)
    view = await _last(site, owner)
    if how == "time":
        async with site.core.db.write() as session:
            gone = utcnow() - dt.timedelta(seconds=1)
            span = models.RemoteView
            await session.execute(update(span).where(span.id == view.id).values(expires_at=gone))
    elif how == "sign-out":
        assert (await browser.post("/logout")).status == 303
        assert (await browser.get("/dashboard")).location.startswith("/login")
        assert (await _last(site, owner)).ended_at is not None
        async with site.core.db.read() as session:
            mine = models.PanelSession
            assert (await session.scalars(select(mine).where(mine.view_id == view.id))).all() == []
        return
    elif how == "ban":
        async with site.core.db.write() as session:
            await accounts.ban(session, await session.get_one(models.User, owner.id))
    else:
        async with site.core.db.write() as session:
            (await session.get_one(models.User, admin.id)).role = "owner"
    form = browser.csrf
    late = await browser.post("/settings/profile", full_name="Mallory", email="m@example.uz", phone="")
    assert late.status == 403
    browser.csrf = form
    again = await browser.post("/settings/profile", full_name="Mallory", email="m@example.uz", phone="")
    assert again.status == 403  # of a page that stood in the owner's panel
    async with site.core.db.write() as session:
        for person in (admin, owner):
            row = await session.get_one(models.User, person.id)
            assert row.full_name == person.full_name and row.email == person.email
        (await session.get_one(models.User, admin.id)).role = "admin"
    assert (await browser.get("/admin/owners")).status == 200


async def test_every_address(site: Site, admin: models.User) -> None:
    """Over all routes of the panel: nothing is changed by looking, and no secret of the owner stands on any page."""
    owner = await _owner(site, "Hammasi")
    bot = await site.bot_of(owner, "Devor")
    secrets = []
    async with site.core.db.write() as session:
        web = await bots.connect_web(session, bot)
        secret = "verify-" + "s" * 20
        cloud = models.Channel(bot_id=bot.id, kind="whatsapp", external_id="71", secret=secret, title="Wa")
        gram = models.Channel(bot_id=bot.id, kind="instagram", external_id="72", secret=secret + "2", title="Ig")
        session.add_all([cloud, gram])
        talk = await web_talk(session, bot, "Devorchi")
        token, plain = await accounts.new_api_token(session, owner, "walk")
        document = models.Document(bot_id=bot.id, name="devor.txt", kind="txt", status="ready", serving=True)
        session.add(document)
        owned = await session.get_one(models.User, owner.id)
        owned.totp_secret = "never-shown-totp"
        # Made when the owner first looks at it.
        owned.referral_code = "devorkod"
        secrets += [secret, secret + "2", plain, "never-shown-totp", web.secret]
    browser = await site.signed_in(admin)
    await _look(browser, owner)
    view = await _last(site, owner)
    places = {
        "bot": bot.id, "conversation": talk.id, "channel": cloud.id, "document": document.id, "token": token.id,
        "view": view.id, "owner": owner.id, "kind": "svg", "table": "csv", "language": "uz", "letter": "banned",
        "saying": "silent", "number": "123456789", "numbers": "owners", "what": "key", "step": "stop", "change": "hide",
    }  # fmt: skip

    async def state() -> object:
        async with site.core.db.read() as session:
            found = []
            for model in (
                models.User, models.Bot, models.Channel, models.Document, models.Contact, models.Conversation,
                models.Message, models.ApiToken, models.Member, models.Invitation, models.AccessRequest, models.Payment,
                models.Label, models.CannedReply, models.Note, models.TestQuestion, models.Subscription, models.Letter,
            ):  # fmt: skip
                rows = (await session.execute(select(model.__table__))).all()
                found.append((model.__name__, sorted(map(repr, rows))))
            return found

    before = await state()
    app = make_app(site.core)
    routes = {(r.method, r.resource.canonical) for r in app.router.routes() if r.method != "HEAD" and r.resource}
    assert routes <= set(TABLE)
    shown = 0
    own = ("/view/", "/logout")
    without = ("/api/", "/chat/", "/widget", "/files/", "/static/", "/unsubscribe/", "/healthz", "/readyz", "/metrics")
    outside = (*without, "/telegram/", "/whatsapp/", "/instagram/", "/payments/", "/favicon")
    for method, route in sorted(routes):
        if route.startswith((*own, *outside)):
            continue
        path = re.sub(r"\{(\w+)\}", lambda place: places.get(place[1], "none"), route)
        if method == "GET":
            page = await browser.get(path)
            shown += page.status == 200
            assert page.status < 500, path
            assert [one for one in secrets if one in page.text] == [], path
            if not views.may_see(path):
                assert page.status == 403, path
        else:
            page = await browser.request(method, path, headers={"X-CSRF-Token": browser.csrf})
            assert page.status == 403, (method, path, page.status)
    # Where secrets are shown once or taken.
    for path in (
        "/settings/webhooks",
        "/settings/two-step",
        "/settings/email",
        "/settings/delete",
        "/inbox/export.csv",
    ):
        assert (await browser.get(path)).status == 403, path
    assert shown > 20
    assert await state() == before
    assert f"/bots/{bot.id}" in (await (await site.signed_in(owner)).get(f"/settings/views/{view.id}")).text
    assert second_factor.is_on(owned) is False
