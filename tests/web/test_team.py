"""The team's pages: inviting, joining, what a member's pages show, and the end of a membership while pages are open."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import re
from collections.abc import AsyncIterator
from html import unescape

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services import accounts, notices, team
from services.i18n import translate
from tests import servers
from tests.web.panel import PASSWORD, Page, Site, hashed, open_site, web_talk

_numbers = itertools.count(1)
# Less than a stream takes to look after its rights by itself.
_AT_ONCE_S = 15


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("team")
    limits = {"members_per_owner": 3, "login_attempts_per_15_min": 500, "api_requests_per_minute": 9999}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as made:
        yield made


class Firm:
    """An owner with a bot and a customer's talk."""

    def __init__(self, site: Site, owner: models.User, bot: models.Bot, talk: models.Conversation) -> None:
        self.site, self.owner, self.bot, self.talk = site, owner, bot, talk
        self.base = f"/bots/{bot.id}"

    async def joined(self, role: str) -> tuple[models.User, str]:
        """Make somebody a member; return them and the membership's id."""
        user = await self.site.person(f"Xodim{next(_numbers)}")
        async with self.site.core.db.write() as session:
            token = await team.invite(session, self.owner, role, "Xodim", most=20)
            await team.accept(session, token, user)
            members = await team.members(session, self.owner)
        return user, next(each.member.id for each in members if each.user.id == user.id)


async def _firm(site: Site, name: str = "Chinor") -> Firm:
    owner = await site.person(f"Ega{next(_numbers)}")
    bot = await site.bot_of(owner, name)
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Gulbahor", status="waiting")
        session.add(models.Message(conversation_id=talk.id, author="customer", text="Odam bormi?"))
    return Firm(site, owner, bot, talk)


def _token(page: Page) -> str:
    found = re.search(r'id="invitation-link" value="[^"]*/team/join\?token=([\w-]{43})"', page.text)
    assert found, page.visible()
    return found[1]


def _links(page: Page) -> set[str]:
    """Return where a page leads within the site."""
    found = {unescape(address) for address in re.findall(r'href="(/[^"]*)"', page.text)}
    return {address.partition("#")[0] for address in found if not address.startswith("/static/")}


def _forms(page: Page) -> set[str]:
    """Return where the forms of a page post to."""
    tags = [tag for tag in re.findall(r"<form[^>]*>", page.text) if 'method="post"' in tag]
    return {unescape(found[1]) for tag in tags if (found := re.search(r' action="([^"]*)"', tag))}


async def test_invited_by_link_and_joined_with_a_new_account(site: Site) -> None:
    """The link is shown once; looking at it uses nothing up; the new account sees the conversations and no more."""
    firm = await _firm(site, "Chinor Stom")
    owner = await site.signed_in(firm.owner)
    page = await owner.post("/team/invitations", name="Nodira", role="operator")
    assert page.status == 200
    token = _token(page)
    assert 'src="data:image/svg+xml' in page.text and "https://t.me/share/url?url=http" in page.text
    again = await owner.get("/team")
    assert token not in again.text and "Nodira" in again.text
    newcomer = site.browser()
    for _ in range(2):
        offer = await newcomer.get(f"/team/join?token={token}")
        assert offer.status == 200 and firm.owner.full_name in offer.visible() and "Chinor Stom" in offer.visible()
    assert offer.headers["Referrer-Policy"] == "same-origin" and offer.headers["Cache-Control"] == "no-store"
    fields = {"full_name": "Nodira Aliyeva", "phone": "+998 90 555 44 33", "email": "nodira@example.uz"}
    bad = await newcomer.post("/team/join", token=token, password="short", **fields)
    assert bad.status == 400 and "Nodira Aliyeva" in bad.text and f'value="{token}"' in bad.text
    extra = {"role": "manager", "owner_id": "x", "is_admin": "1"}
    page = await newcomer.post("/team/join", token=token, password=PASSWORD, **fields, **extra)
    assert (page.status, page.location) == (303, "/dashboard?done=joined")
    home = await newcomer.get("/dashboard")
    assert "Chinor Stom" in home.visible()
    assert (await newcomer.get(f"/inbox/{firm.talk.id}")).status == 200
    assert (await newcomer.get(firm.base)).status == 404
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, "nodira@example.uz")
        assert user is not None and user.role == "owner"
        assert await team.role_of(session, firm.owner.id, user.id) == "operator"
        assert "member_joined" in {row.kind for row in await notices.open_for(session, firm.owner)}
    assert "Nodira Aliyeva" in (await owner.get("/team")).visible()
    second = site.browser()
    gone = await second.get(f"/team/join?token={token}")
    words = translate("uz", "This invitation has been used or withdrawn, or has expired. Ask for a new one.")
    assert gone.status == 400 and words in gone.visible() and token not in gone.text


async def test_joined_with_an_account_that_signs_in_on_the_way(site: Site) -> None:
    """The sign-in page leads back to the invitation; the owner's own link is only shown to them."""
    firm = await _firm(site)
    owner = await site.signed_in(firm.owner)
    token = _token(await owner.post("/team/invitations", name="Sardor", role="manager"))
    own = await owner.get(f"/team/join?token={token}")
    assert own.status == 200 and 'action="/team/join"' not in own.text
    assert (await owner.post("/team/join", token=token)).status == 409
    await site.person("Sardor", password_hash=await hashed())
    guest = site.browser()
    offer = await guest.get(f"/team/join?token={token}")
    login = next(link for link in _links(offer) if link.startswith("/login"))
    assert (await guest.get(login)).status == 200
    page = await guest.post("/login", login="sardor@example.uz", password=PASSWORD, next=f"/team/join?token={token}")
    assert page.location == f"/team/join?token={token}"
    assert 'name="password"' not in (await guest.get(page.location)).text
    assert (await guest.post("/team/join", token=token)).status == 303
    assert (await guest.get(firm.base)).status == 200
    settings = await guest.get("/settings")
    assert firm.owner.full_name in settings.visible()
    leave = next(link for link in _forms(settings) if link.endswith("/leave"))
    assert (await guest.post(leave)).status == 303
    assert (await guest.get(firm.base)).status == 404
    assert (await guest.post(leave)).status == 404


@pytest.mark.parametrize("ending", ["used", "withdrawn", "expired", "forged"])
async def test_a_link_that_works_no_more_makes_no_account(site: Site, ending: str) -> None:
    """The page and the form answer alike, and nobody is registered by it."""
    firm = await _firm(site)
    owner = await site.signed_in(firm.owner)
    token = _token(await owner.post("/team/invitations", name="Kimdir", role="operator"))
    another = await site.person(f"Avvalgi{ending}")
    async with site.core.db.write() as session:
        if ending == "used":
            await team.accept(session, token, another)
        elif ending == "withdrawn":
            await team.withdraw(session, firm.owner, (await team.invitations(session, firm.owner))[0].token_hash)
        elif ending == "expired":
            mine = models.Invitation.owner_id == firm.owner.id
            await session.execute(update(models.Invitation).where(mine).values(expires_at=utcnow() - dt.timedelta(1)))
        else:
            token = token[:-1] + ("a" if token[-1] != "a" else "b")
    guest = site.browser()
    email = f"{ending}@example.uz"
    fields = {"full_name": "X", "phone": f"+99890111{next(_numbers):04}", "email": email, "password": PASSWORD}
    seen = [await guest.get(f"/team/join?token={token}"), await guest.post("/team/join", token=token, **fields)]
    member = await site.signed_in(await site.person(f"Kelgan{ending}"))
    seen.append(await member.post("/team/join", token=token))
    assert [page.status for page in seen] == [400] * 3
    headings = [re.findall(r"<h1>(.*?)</h1>", page.text) for page in seen]
    assert len(headings[0]) == 1 and headings == headings[:1] * 3
    async with site.core.db.read() as session:
        assert await accounts.by_email(session, email) is None


async def test_guessing_links_waits(site: Site) -> None:
    """After thirty bad ones; looked at and sent alike."""
    core = site.core
    browser = site.browser()
    await browser.get("/login")
    statuses = []
    for number in range(32):
        page = await (
            browser.get(f"/team/join?token=guess{number}")
            if number % 2
            else browser.post("/team/join", token=f"guess{number}")
        )
        statuses.append(page.status)
    assert statuses[-1] == 429
    await core.limits.forget("link:127.0.0.1")


@pytest.mark.parametrize("role", ["operator", "manager"])
async def test_every_way_on_a_members_page_is_open_to_them(site: Site, role: str) -> None:
    """Nothing that a page shows to a member would be refused; what is the owner's alone is not shown."""
    firm = await _firm(site)
    user, _ = await firm.joined(role)
    async with site.core.db.write() as session:
        (await session.get_one(models.Bot, firm.bot.id)).openai_key = site.core.crypto.encrypt("sk-" + "x" * 40)
    browser = await site.signed_in(user)
    todo, seen = {"/dashboard", f"{firm.base}/conversations/{firm.talk.id}"}, set[str]()
    posts: set[str] = set()
    while todo:
        path = todo.pop()
        seen.add(path)
        page = await browser.get(path)
        assert page.status in (200, 303), path
        posts |= _forms(page)
        if page.headers.get("Content-Type", "").startswith("text/html"):
            todo |= {link for link in _links(page) if not link.startswith("/chat/")} - seen
        if page.location:
            todo |= {page.location} - seen
    about_bot = {path.removeprefix(firm.base) for path in seen | posts if path.startswith(firm.base)}
    talk = f"/conversations/{firm.talk.id}"
    shown = {"/key", "/delete", "/documents", "/channels", "/stop", "/conversations", talk, ""}
    of_talks = {"/conversations", talk}
    expected = of_talks if role == "operator" else shown - {"/key", "/delete"}
    assert {path for path in about_bot if path.partition("?")[0] in shown} - {"?"} >= expected
    assert {path.partition("?")[0] for path in about_bot} & shown == expected
    assert f"/inbox/{firm.talk.id}/status" in {path.partition("?")[0] for path in posts}
    assert ("/team" in seen) == (role == "manager")
    assert ("/bots/new" in seen) == (role == "manager")
    # The address of a form that was shown is answered, though not with what an empty form asks for.
    for path in sorted(posts - {"/logout"}):
        assert (await browser.post(path)).status != 404, path


async def test_what_is_open_ends_with_the_membership(site: Site) -> None:
    """The stream of events ends at once, pages and the API answer as for a stranger; other work goes on."""
    firm, other = await _firm(site), await _firm(site, "Nur")
    user, member = await firm.joined("manager")
    async with site.core.db.write() as session:
        await team.accept(session, await team.invite(session, other.owner, "operator", "X", most=9), user)
        _, token = await accounts.new_api_token(session, user, "kassa")
    browser, owner = await site.signed_in(user), await site.signed_in(firm.owner)
    program = {"Authorization": f"Bearer {token}"}
    api = f"/api/v1{firm.base}"
    assert (await browser.get(firm.base)).status == 200
    assert (await browser.request("GET", api, headers=program)).status == 200
    async with browser.http.get(browser.base + "/events") as stream, asyncio.timeout(_AT_ONCE_S):
        site.core.ring_talk(firm.bot.id, firm.talk.id)
        assert f"event: talk-{firm.talk.id}".encode() in await stream.content.readuntil(b"\n\n")
        assert (await owner.post(f"/team/members/{member}/role", role="operator")).status == 303
        assert not [line async for line in stream.content if line.startswith(b"event: document")]
    for path in (firm.base, f"{firm.base}/documents", f"{firm.base}/channels"):
        assert (await browser.get(path)).status == 404
    assert (await browser.request("GET", api, headers=program)).status == 404
    assert (await browser.request("GET", f"{api}/conversations", headers=program)).status == 200
    async with browser.http.get(browser.base + "/events") as stream, asyncio.timeout(_AT_ONCE_S):
        # Of the documents an operator hears nothing, of the conversations they do.
        site.core.bell.ring(f"bot:{firm.bot.id}", {"document": "x"})
        site.core.ring_talk(firm.bot.id, firm.talk.id)
        assert f"event: talk-{firm.talk.id}".encode() in await stream.content.readuntil(b"\n\n")
        assert (await owner.post(f"/team/members/{member}/remove")).status == 303
        await stream.content.read()
    talk = f"/conversations/{firm.talk.id}"
    for path in (f"{firm.base}/conversations", firm.base + talk, f"/inbox/{firm.talk.id}"):
        assert (await browser.get(path)).status == 404
    assert (await browser.post(f"/inbox/{firm.talk.id}", text="Salom")).status == 404
    for method, path, body in (
        ("GET", f"{api}/conversations", None),
        ("GET", f"/api/v1{talk}/messages", None),
        ("POST", f"/api/v1{talk}/messages", {"text": "Salom"}),
        ("PATCH", f"/api/v1{talk}", {"status": "bot"}),
    ):
        assert (await browser.request(method, path, headers=program, json=body)).status == 404, path
    assert firm.bot.name not in (await browser.get("/dashboard")).visible()
    assert other.bot.name in (await browser.get("/inbox")).visible()
    async with site.core.db.read() as session:
        written = select(models.Message.id).where(models.Message.conversation_id == firm.talk.id)
        assert len(list(await session.scalars(written))) == 1


async def test_an_operator_who_was_writing_when_the_right_ended(site: Site) -> None:
    """The page was open, the words were typed: nothing is sent to the customer."""
    firm = await _firm(site)
    user, member = await firm.joined("operator")
    browser, owner = await site.signed_in(user), await site.signed_in(firm.owner)
    path = f"/inbox/{firm.talk.id}"
    assert (await browser.get(path)).status == 200
    assert (await browser.post(path, text="Salom, men Nodira")).status == 303
    await browser.get(path)
    assert (await owner.post(f"/team/members/{member}/remove")).status == 303
    assert (await browser.post(path, text="Yana bir gap")).status == 404
    assert "Yana bir gap" not in (await owner.get(path)).visible()


async def test_a_full_team_and_wrong_fields(site: Site) -> None:
    """What is wrong is said at the form and keeps what was typed; a full team invites nobody more."""
    firm = await _firm(site)
    owner = await site.signed_in(firm.owner)
    for fields in (
        {"name": "", "role": "operator"},
        {"name": "A" * 101, "role": "operator"},
        {"name": "A", "role": "owner"},
    ):
        page = await owner.post("/team/invitations", **fields)
        assert page.status == 400 and 'role="alert"' in page.text
    for _ in range(3):
        assert (await owner.post("/team/invitations", name="A", role="operator")).status == 200
    page = await owner.post("/team/invitations", name="Ortiqcha", role="operator")
    assert page.status == 409 and 'value="Ortiqcha"' in page.text
    withdraw = next(link for link in _forms(page) if link.endswith("/withdraw"))
    assert (await owner.post(withdraw)).status == 303
    assert (await owner.post(withdraw)).status == 404
    assert (await owner.post("/team/invitations", name="<b>Ortiqcha</b>", role="operator")).status == 200
    assert "<b>Ortiqcha</b>" not in (await owner.get("/team")).text


async def test_what_a_manager_tries_counts_nowhere(site: Site) -> None:
    """A manager's own questions in the panel are no customer's, for the owner and in the numbers."""
    firm = await _firm(site)
    user, _ = await firm.joined("manager")
    browser, owner = await site.signed_in(user), await site.signed_in(firm.owner)
    assert (await browser.post(f"{firm.base}/try", text="/operator")).status == 200
    home = await owner.get("/dashboard?period=today")
    waiting = re.search(r'data-label="[^"]*"><a href="[^"]*status=waiting">(\d+)<', home.text)
    assert waiting is not None and waiting[1] == "1"
    assert translate("uz", "You (test)") in (await browser.get(f"/inbox?bot={firm.bot.id}")).visible()
