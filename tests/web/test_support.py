"""An owner writes to support and is answered, in the panel; who waits longest stands first in the administrator's list."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, insert, select, text

from db import models
from db.base import new_id, utcnow
from services import support
from tests import servers
from tests.composition import asked_of
from tests.web.panel import Browser, Page, Site, open_site


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product with its panel."""
    folder = tmp_path_factory.mktemp("support")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    """An administrator's browser."""
    return await site.administrator()


def mark(page: Page) -> str:
    """Return what the form of a page is known by."""
    return page.text.split('name="mark" value="')[1].split('"')[0]


async def lines(site: Site, owner: models.User) -> list[tuple[bool, str]]:
    line = models.SupportMessage
    async with site.core.db.read() as session:
        found = await session.scalars(select(line).where(line.owner_id == owner.id).order_by(line.id))
        return [(each.by_admin, each.text) for each in found]


async def test_a_question_is_asked_once_answered_and_seen(site: Site, boss: Browser) -> None:
    owner, other = await site.person("Savol", language="en"), await site.person("Begona", language="en")
    browser, stranger = await site.signed_in(owner), await site.signed_in(other)
    page = await browser.get("/support")
    assert "People read this and answer here" in page.text
    form = {"text": "Nega <b>to‘lov</b>\r\no‘tmadi?", "mark": mark(page)}
    for _ in range(2):
        sent = await browser.post("/support", **form)
        assert (sent.status, sent.location) == (303, "/support#end")
    assert await lines(site, owner) == [(False, "Nega <b>to‘lov</b>\no‘tmadi?")]
    assert "&lt;b&gt;to‘lov" in (await browser.get("/support")).text
    # The administrator has it on every page, first in the list, and with the owner's facts.
    assert "Savol writes to support" in (await boss.get("/settings")).visible()
    listed = await boss.get("/admin/support?state=waiting")
    assert f"/admin/support/{owner.id}" in listed.text and f"/admin/support/{other.id}" not in listed.text
    at = f"/admin/support/{owner.id}"
    page = await boss.get(at)
    assert "savol@example.uz" in page.text and "No answer needed" in page.text
    form = {"text": "Bank rad etdi: boshqa karta bilan urinib ko‘ring.", "mark": mark(page)}
    for _ in range(2):
        assert (await boss.post(at, **form)).location == f"{at}#end"
    assert len(await lines(site, owner)) == 2
    assert "writes to support" not in (await boss.get("/settings")).visible()
    assert f"/admin/support/{owner.id}" not in (await boss.get("/admin/support?state=waiting")).text
    async with site.core.db.read() as session:
        audit = models.AuditLog
        done = await session.scalar(
            select(func.count()).where(audit.action == "support_answered", audit.object_id == owner.id)
        )
    assert done == 1
    # The owner sees that there is an answer, reads it, and the mark goes; nobody else sees any of it.
    assert "Support has answered" in (await browser.get("/settings")).visible()
    assert "Bank rad etdi" in (await browser.get("/support")).visible()
    assert "Support has answered" not in (await browser.get("/settings")).visible()
    page = await stranger.get("/support")
    assert "Bank rad etdi" not in page.text and "to‘lov" not in page.text
    assert (await stranger.get(at)).status == 404
    assert (await stranger.post(at, text="men adminman")).status == 404


@pytest.mark.parametrize(("said", "why"), [("", "Write something first"), ("x" * 3501, "too long"), (" \n ", "first")])
async def test_what_cannot_be_taken_is_said_and_stays_in_the_form(
    site: Site, boss: Browser, said: str, why: str
) -> None:
    owner = await site.person(f"Xato{len(said)}", language="en")
    browser = await site.signed_in(owner)
    for person, at in ((browser, "/support"), (boss, f"/admin/support/{owner.id}")):
        refused = await person.post(at, text=said, mark="0" * 16)
        if said.strip():
            assert said in refused.text
        assert refused.status == 400 and why in refused.text, at
    assert await lines(site, owner) == []


async def test_a_flood_ends_and_loses_nothing(site: Site) -> None:
    owner = await site.person("Toshqin", language="en")
    browser = await site.signed_in(owner)
    answers = [await browser.post("/support", text=f"yana {n}") for n in range(22)]
    assert [each.status for each in answers] == [303] * 20 + [429] * 2
    assert "all of it has arrived" in answers[-1].text and "yana 21" in answers[-1].text
    assert len(await lines(site, owner)) == 20


async def test_the_page_hears_of_an_answer(site: Site, boss: Browser) -> None:
    owner = await site.person("Jonli", language="en")
    browser = await site.signed_in(owner)
    async with browser.http.get(f"{site.base}/events", headers={"Accept": "text/event-stream"}) as stream:
        while not (await stream.content.readline()).strip():
            pass
        await boss.post(f"/admin/support/{owner.id}", text="Salom!")
        async with asyncio.timeout(20):
            seen = b""
            while b"event: support\n" not in seen.replace(b"\r", b""):
                seen += await stream.content.readline()
    part = await browser.get("/support/lines", **{"HX-Request": "true"})
    assert "Salom!" in part.text and "<html" not in part.text


async def test_the_list_is_quick_with_many_talks(site: Site, boss: Browser) -> None:
    """Each owner once, who waits longest first; every part costs the same statements and none walks the whole table."""
    start, rows, talks = utcnow() - dt.timedelta(days=400), [], []
    for n in range(3000):
        made = new_id()
        rows.append({"id": made, "full_name": f"Ega {n}", "email": f"ega{n}@many.uz"})
        at = start + dt.timedelta(minutes=n)
        waits = at if n % 50 == 7 else None
        talks.append({"owner_id": made, "last_text": f"savol {n}", "last_message_at": at, "waiting_since": waits})
    async with site.core.db.write() as session:
        await session.execute(insert(models.User), rows)
        await session.execute(insert(models.SupportTalk), talks)
        total = await session.scalar(select(func.count()).select_from(models.SupportTalk))
    seen: list[str] = []
    cursor, costs = "", []
    while True:
        with asked_of(site.core) as asked:
            async with site.core.db.read() as session:
                page = await support.list_all(session, only_waiting=False, cursor=cursor)
        # The program's own work goes on beside it.
        costs.append(len([each for each in asked if "support_talks" in each.statement or "users" in each.statement]))
        seen += [row.owner.full_name for row in page.items]
        if page.next is None:
            break
        cursor = page.next
    assert len(seen) == total and max(costs) <= 2
    waiting = [f"Ega {n}" for n in range(3000) if n % 50 == 7]
    assert seen[:60] == waiting[:60]
    answered = [name for name in seen if name.startswith("Ega ") and name not in waiting]
    assert answered == [f"Ega {n}" for n in range(2999, -1, -1) if n % 50 != 7]
    async with site.core.db.read() as session:
        for query in (
            "SELECT * FROM support_talks WHERE waiting_since IS NULL ORDER BY last_message_at DESC, owner_id DESC LIMIT 51",
            "SELECT * FROM support_talks WHERE waiting_since IS NOT NULL ORDER BY waiting_since, owner_id LIMIT 51",
        ):
            plan = [row[3] for row in await session.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
            assert all("INDEX ix_support_talks" in step for step in plan if step.startswith("SCAN")), plan
    listed = await boss.get("/admin/support")
    assert listed.status == 200 and "cursor=" in listed.text
    assert (await boss.get("/admin/support?cursor=w:nonsense")).status == 400
