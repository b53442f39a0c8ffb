"""What the administrator's forms ask before something is lost, and what they and the lists beside them say afterwards."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from services.knowledge import documents
from tests import servers
from tests.web.panel import Browser, Page, Site, open_site


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("admin-forms")
    async with open_site(folder, servers_run.new_sqlite(folder)) as running:
        yield running


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator("Boshliq")


def _question(page: Page, action: str) -> str:
    """Return what the form that goes to ``action`` asks first."""
    form = re.search(rf'action="{re.escape(action)}"[^>]*>(.*?)</form>', page.text, re.DOTALL)
    assert form, action
    found = re.search(r'name="ask" value="([^"]*)"', form[1])
    assert found, action
    return html.unescape(found[1])


async def test_what_cannot_be_taken_back_asks_by_name_also_without_script(site: Site, boss: Browser) -> None:
    owner = await site.person("Malika")
    at = f"/admin/owners/{owner.id}"
    assert (await boss.post(f"{at}/plan/grant", plan="basic", period="monthly", price="0")).status == 303
    texts = {f"{part}-{code}": f"Yangi narxlar {code}" for part in ("title", "text") for code in ("uz", "ru", "en")}
    answer = await boss.post("/admin/announcements", **texts, plan="all", ways="by_telegram")
    draft = answer.location.partition("?")[0]
    facts = {"channel_id": "x" * 26, "external_id": "5", "status": "dead", "error": "ValueError: 4242", "attempts": 3}
    async with site.core.db.write() as session:
        item = models.InboxItem(lane="in:factory:1", payload="", **facts)
        session.add(item)
    made = await boss.post("/admin/coupons", code="YOZ-2026", percent="10", count="1", per_owner="1")
    coupon = made.location.partition("?")[0]
    for page, action, named in (
        (at, f"{at}/ban", "Malika"),
        (f"{at}/plan", f"{at}/plan/revoke", "Malika"),
        (draft, f"{draft}/send", "Yangi narxlar en"),
        (draft, f"{draft}/delete", "Yangi narxlar en"),
        ("/admin/system", f"/admin/system/messages/{item.id}/discard", "own bot"),
        (coupon, f"{coupon}/disable", "YOZ-2026"),
    ):
        question = _question(await boss.get(page), action)
        assert named in question, action
        asked = await boss.post(action, ask=question, reason="Qoida", later="0")
        assert asked.status == 200 and question in " ".join(asked.visible().split()), action
        assert 'name="reason" value="Qoida"' in asked.text and f'action="{action}"' in asked.text
    async with site.core.db.read() as session:
        assert (await session.get_one(models.User, owner.id)).banned_at is None
        assert (await session.get_one(models.Announcement, draft.rpartition("/")[2])).status == "draft"
        assert (await session.get_one(models.InboxItem, item.id)).status == "dead"
    assert (await boss.post(f"{at}/ban", reason="Qoida buzildi")).status == 303
    # Who was blocked is found in the log by name, nobody else is.
    for asked_for, found in (("malika", True), ("malika@example.uz", True), ("hech kim", False), ("12", False)):
        assert ("Qoida buzildi" in (await boss.get(f"/admin/audit?object={asked_for}")).text) is found, asked_for
    async with site.core.db.read() as session:
        assert (await session.get_one(models.User, owner.id)).banned_at is not None


async def test_what_was_wrong_with_a_request_is_said_wherever_it_stands(site: Site, boss: Browser) -> None:
    """On a later part of the list what was typed stays; of one that somebody else decided it is said above the list."""
    ids = []
    for name in ("Sardor", "Dildora"):
        owner = await site.person(name)
        async with site.core.db.write() as session:
            row = models.AccessRequest(user_id=owner.id, plan="basic", period="monthly")
            session.add(row)
        ids.append(row.id)
    page = await boss.get(f"/admin/requests?cursor={ids[0]}")
    assert f"/admin/requests/{ids[0]}" not in page.text
    found = re.search(rf'action="(/admin/requests/{ids[1]}/grant[^"]*)"', page.text)
    assert found
    wrong = await boss.post(html.unescape(found[1]), plan="basic", period="monthly", price="x", price_note="naqd pulda")
    assert wrong.status == 400 and "naqd pulda" in wrong.text
    assert wrong.visible().count("Enter what was paid in whole so‘m") >= 1
    other = await site.person("Lola")
    async with site.core.db.write() as session:
        session.add(models.AccessRequest(user_id=other.id, plan="basic", period="monthly"))
    wrong = await boss.post(f"/admin/requests/{ids[1]}/grant", plan="basic", period="monthly", price="x", price_note="")
    assert wrong.text.count(f'id="price-{ids[1]}"') == 1 and wrong.text.count('aria-invalid="true"') == 1
    empty = await boss.post(f"/admin/requests/{ids[1]}/decline", answer=" ")
    assert empty.status == 400 and empty.text.count('aria-invalid="true"') == 1
    at = f"/admin/requests/{ids[1]}"
    assert (await boss.post(f"{at}/decline", answer="Avval sinang")).status == 303
    late = await boss.post(f"{at}/grant", plan="basic", period="monthly", price="0")
    assert late.status == 409 and "decided or withdrawn already" in late.visible()


async def test_a_change_of_plan_that_was_refused_keeps_what_was_chosen(site: Site, boss: Browser) -> None:
    owner = await site.person("Nigora")
    at = f"/admin/owners/{owner.id}/plan"
    assert (await boss.post(f"{at}/grant", plan="basic", period="monthly", price="0")).status == 303
    page = await boss.post(f"{at}/change", plan="premium", answer="x" * 600)
    assert page.status == 400
    form = page.text.partition(f'action="{at}/change"')[2].partition("</form>")[0]
    assert 'value="premium" selected' in form and 'value="basic" selected' not in form
    # What was given is made longer by as many days as were typed, and shorter again.
    spans, before = (
        select(models.Subscription.ends_at).where(models.Subscription.user_id == owner.id),
        list[dt.datetime | None](),
    )
    for typed, moved in (("", 0), ("12", 12), ("−5", 7), ("many", 7)):
        if typed:
            extended = await boss.post(f"{at}/extend", days=typed)
            assert extended.status == (303 if typed != "many" else 400), extended.visible()
        async with site.core.db.read() as session:
            before.append(await session.scalar(spans))
        assert before[-1] is not None and before[0] is not None and before[-1] - before[0] == dt.timedelta(days=moved)


async def test_an_owner_s_page_is_reached_from_wherever_they_are_named(site: Site, boss: Browser) -> None:
    """And it says why a document could not be read."""
    owner = await site.person("Ravshan")
    bot = await site.bot_of(owner, "Ravshan savdo")
    at = f"/admin/owners/{owner.id}"
    async with site.core.db.write() as session:
        failed = {"status": "failed", "error_code": "empty", "name": "bo‘sh.pdf", "kind": "pdf", "size": 10}
        document = models.Document(bot_id=bot.id, **failed)
        session.add(document)
        session.add(models.AccessRequest(user_id=owner.id, plan="basic", period="monthly"))
        facts = {"gateway": "payme", "price_tiyin": 100, "amount_tiyin": 100, "expires_at": utcnow()}
        session.add(models.Payment(number="777000111", user_id=owner.id, plan="basic", period="monthly", **facts))
        broken = {"kind": "telegram", "external_id": "912", "status": "refused"}
        session.add(models.Channel(bot_id=bot.id, **broken))
    for page in (f"{at}/plan", "/admin/requests", "/admin/payments/777000111", f"/admin/channels?bot={bot.id}"):
        assert f'href="{at}"' in (await boss.get(page)).text, page
    assert f"/admin/channels?bot={bot.id}" in (await boss.get("/admin/system")).text
    why = documents.error_text(document)
    assert why is not None and why.render("en") in (await boss.get(at)).visible()


async def test_a_coupon_of_an_offer_says_so_in_the_readers_language(site: Site) -> None:
    """What the row keeps is a word of the program, not of a person."""
    boss = await site.administrator("Ruscha")
    async with site.core.db.write() as session:
        await session.execute(update(models.User).where(models.User.full_name == "Ruscha").values(language="ru"))
        coupon = models.Coupon(code="SAVE10_OFER_2026", percent=10, note="offer")
        session.add(coupon)
    for page in ("/admin/coupons", f"/admin/coupons/{coupon.id}"):
        said = (await boss.get(page)).visible()
        assert "предложение" in said and "offer" not in said, page
