"""The search box finds what a person may open, and nothing else; the shortcuts can be switched off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from db import models
from services import finder, team
from tests import servers
from tests.composition import asked_of
from tests.web.panel import Site, open_site, web_talk
from web.view import TEMPLATES_DIR


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product with its panel."""
    folder = tmp_path_factory.mktemp("search")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _business(site: Site, name: str) -> tuple[models.User, models.Bot, models.Conversation]:
    user = await site.person(name, language="en")
    bot = await site.bot_of(user, f"{name} Gilam")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, f"Dilnoza {name}", last_text="gilam bormi")
        session.add(models.Message(conversation_id=talk.id, author="customer", text=f"{name} gilamlari bormi?"))
        session.add(models.Document(bot_id=bot.id, name=f"{name} gilam narxlari.csv", kind="csv", status="ready"))
    return user, bot, talk


async def test_what_is_found_is_ones_own(site: Site) -> None:
    user, bot, talk = await _business(site, "Anor")
    other, foreign, foreign_talk = await _business(site, "Bodom")
    browser = await site.signed_in(user)
    page = await browser.get("/search?q=gilam")
    for mine in (f"/bots/{bot.id}", "Anor gilam narxlari.csv", f"/inbox/{talk.id}"):
        assert mine in page.text, mine
    for theirs in (foreign.id, foreign_talk.id, "Bodom", other.id, "/admin/"):
        assert theirs not in page.text, theirs
    part = await browser.get("/search?q=Dilnoza", **{"HX-Request": "true"})
    assert f"/inbox/{talk.id}" in part.text and "<html" not in part.text and foreign_talk.id not in part.text
    assert 'href="/billing"' in (await browser.get("/search?q=payments", **{"HX-Request": "true"})).text
    for nothing in ("zzzz", "%25%25", "__", "<b>"):
        page = await browser.get(f"/search?q={nothing}", **{"HX-Request": "true"})
        assert "Nothing was found" in page.text and "<b>" not in page.text, nothing
    assert "Write two letters" in (await browser.get("/search?q=g", **{"HX-Request": "true"})).text
    # Whoever only answers customers finds conversations, no documents; administrators find owners.
    helper = await site.person("Yordamchi", language="en")
    async with site.core.db.write() as session:
        token = await team.invite(session, user, "operator", "Yordamchi", most=20)
        await team.accept(session, token, helper)
    part = await (await site.signed_in(helper)).get("/search?q=gilam", **{"HX-Request": "true"})
    assert f"/inbox/{talk.id}" in part.text and "narxlari.csv" not in part.text
    boss = await site.person("Boss", language="en")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, boss.id)).role = "admin"
    part = await (await site.signed_in(boss)).get("/search?q=bodom@example", **{"HX-Request": "true"})
    assert f'/admin/owners/{other.id}"' in part.text and foreign_talk.id not in part.text


def test_every_page_of_the_menu_is_found() -> None:
    """Whatever stands in the menu, the owner's and the administrator's, the box knows too."""
    menu = (TEMPLATES_DIR / "app.html").read_text(encoding="utf-8")
    listed = set(re.findall(r'nav_link\("(/[a-z/-]+)", ', menu))
    assert len(listed) > 15
    assert listed <= {*finder.PAGES, *finder.ADMIN_PAGES}
    assert {page for page in listed if page.startswith("/admin/")} <= {*finder.ADMIN_PAGES}


async def test_it_costs_the_same_however_much_there_is(site: Site) -> None:
    user, bot, _ = await _business(site, "Olma")
    browser = await site.signed_in(user)

    async def cost() -> int:
        # What the program asks by itself meanwhile only adds.
        return min([await once() for _ in range(3)])

    async def once() -> int:
        with asked_of(site.core) as counted:
            assert (await browser.get("/search?q=gilam", **{"HX-Request": "true"})).status == 200
        return len(counted)

    await cost()
    few = await cost()
    async with site.core.db.write() as session:
        for number in range(60):
            talk = await web_talk(session, bot, f"Mijoz {number}", last_text="gilam")
            session.add(models.Message(conversation_id=talk.id, author="customer", text="gilam kerak"))
            session.add(models.Document(bot_id=bot.id, name=f"gilam {number}.csv", kind="csv", status="ready"))
    assert await cost() <= few


async def test_shortcuts_are_switched_off_and_on(site: Site) -> None:
    user = await site.person("Tugma", language="en")
    browser = await site.signed_in(user)
    assert 'data-find="keys"' in (await browser.get("/settings")).text
    await browser.post("/preferences", keys="off", next="/settings")
    page = await browser.get("/settings")
    assert 'data-find=""' in page.text and "Shortcuts are off" in page.text
    box = await browser.get("/search?box=1", **{"HX-Request": "true"})
    assert box.text.count("<dialog") == 2 and "<html" not in box.text
    await browser.post("/preferences", keys="on", next="/settings")
    assert 'data-find="keys"' in (await browser.get("/dashboard")).text
