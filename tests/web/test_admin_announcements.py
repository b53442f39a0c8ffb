"""Announcements: each owner who is meant hears once, whatever dies; banners stand until put away; news can be declined."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import models
from db.base import utcnow
from services import announcements, letters
from services.days import TASHKENT
from services.letters import rendering
from tests import servers
from tests.composition import questions_put
from tests.conveyor.harness import until
from tests.web.panel import Browser, Page, Site, open_site

TEXTS = {
    "title-uz": "Ertaga ish",
    "text-uz": "Kechasi ta’mirlash.\n\n<b>Soat ikkida</b>",
    "title-ru": "Завтра работы",
    "text-ru": "Ночью ремонт.",
    "title-en": "Work tomorrow",
    "text-en": "At night. {name}",
}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("announced")
    quick: dict[str, dict[str, Any]] = {
        "queue": {"idle_poll_s": 0.05},
        "subscriptions": {"trial_days": 3, "test_until_day": 14},
    }
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=quick) as opened:
        yield opened


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator()


def said(page: Page) -> str:
    return " ".join(page.visible().split())


async def drafted(boss: Browser, **fields: str) -> str:
    answer = await boss.post("/admin/announcements", **{**TEXTS, "plan": "all", "ways": "by_mail", **fields})
    assert answer.status == 303, said(answer)
    return answer.location.partition("?")[0].rpartition("/")[2]


async def sent(site: Site, boss: Browser, id_: str) -> models.Announcement:
    answer = await boss.post(f"/admin/announcements/{id_}/send", later="0")
    assert answer.status == 303, said(answer)
    return await over(site, id_)


async def over(site: Site, id_: str) -> models.Announcement:
    async def done() -> Any:
        async with site.core.db.read() as session:
            row = await session.get_one(models.Announcement, id_)
        return row if row.status == "done" else None

    found: models.Announcement = await until(done)
    return found


async def letters_of(site: Site, id_: str) -> list[models.Letter]:
    async with site.core.db.read() as session:
        row = models.Letter
        found = await session.scalars(select(row).where(row.key == f"announcement:{id_}").order_by(row.user_id))
        return [letter for letter in found if letter.params]


async def owner(site: Site, name: str, **changes: Any) -> models.User:
    person = await site.person(name, language=changes.pop("language", "uz"))
    async with site.core.db.write() as session:
        row = await session.get_one(models.User, person.id)
        for key, value in changes.items():
            setattr(row, key, value)
    return row


async def test_whoever_is_meant_is_written_to_in_the_own_language(site: Site, boss: Browser) -> None:
    long_ago = utcnow() - dt.timedelta(days=90)
    fresh = await owner(site, "Yangi", language="en")
    expired = await owner(site, "Eski", created_at=long_ago)
    paid = await owner(site, "Tolagan", created_at=long_ago)
    cyrillic = await owner(site, "Kiril", language="uz-Cyrl")
    declined = await owner(site, "Rad", unsubscribed_at=utcnow())
    banned = await owner(site, "Bloklangan", banned_at=utcnow())
    silent = await owner(site, "Pochtasiz", email=None)
    async with site.core.db.write() as session:
        span = {"starts_at": long_ago, "ends_at": utcnow() + dt.timedelta(days=9), "source": "grant"}
        session.add(models.Subscription(user_id=paid.id, plan="basic", period="monthly", **span))

    async def written(**fields: str) -> set[str]:
        id_ = await drafted(boss, **fields)
        await sent(site, boss, id_)
        return {letter.user_id for letter in await letters_of(site, id_)}

    assert await written() == {fresh.id, expired.id, paid.id, cyrillic.id}
    assert await written(service="1") == {fresh.id, expired.id, paid.id, cyrillic.id, declined.id}
    assert await written(plan="paid") == {paid.id}
    assert await written(plan="expired") == {expired.id}
    assert await written(plan="free") == {fresh.id, cyrillic.id}
    assert await written(languages="en") == {fresh.id}
    id_ = await drafted(boss)
    assert "meant for 6 owners" in said(await boss.get(f"/admin/announcements/{id_}"))
    row = await sent(site, boss, id_)
    assert row.chosen == 6 and not {banned.id, silent.id} & {each.user_id for each in await letters_of(site, id_)}
    params = {letter.user_id: letter.params for letter in await letters_of(site, id_)}
    assert params[fresh.id]["title"] == "Work tomorrow" and params[cyrillic.id]["title"] == "Эртага иш"
    # What an administrator writes is neither markup nor a pattern; news can be declined, what concerns the service cannot.
    for kind, ends in (("announcement_news", True), ("announcement", False)):
        words = rendering.write_out(
            letters.KINDS[kind],
            "en",
            {"title": "T", "text": "<b>x</b> {name}"},
            own={},
            name="Aziza",
            public_url="https://x.uz",
            brand="B",
            unsubscribe="https://x.uz/unsubscribe/1",
        )
        assert (words.unsubscribe is not None) == ends and "&lt;b&gt;x&lt;/b&gt; {name}" in words.html
    # Nobody is left out of the report: without a mail server in the end none of the four letters arrives, nor what two never got.
    assert len(params) == 4

    async def settled() -> bool:
        report = said(await boss.get(f"/admin/announcements/{id_}"))
        counted = re.search(r"Mail 0 sent(?: · waiting: (\d+))? · not reached this way: (\d+)", report)
        assert counted is not None and int(counted[1] or 0) + int(counted[2]) == 6 and int(counted[2]) >= 2, report
        return counted[2] == "6"

    await until(settled)


async def test_a_death_in_the_middle_writes_to_nobody_twice(site: Site, boss: Browser) -> None:
    async with site.core.db.write() as session:
        session.add_all(models.User(full_name=f"N{n}", email=f"many{n}@example.uz", language="ru") for n in range(450))
    id_ = await drafted(boss, service="1")
    calls = [0]

    async def die(point: str) -> None:
        if point == "announced_slice":
            calls[0] += 1
            if calls[0] == 2:
                raise RuntimeError("the machine went dark")

    before, site.core.pause = site.core.pause, die
    try:
        row = await sent(site, boss, id_)
    finally:
        site.core.pause = before
    found = await letters_of(site, id_)
    async with site.core.db.read() as session:
        people = models.User
        reachable = await session.scalar(
            select(func.count()).where(people.role == "owner", people.banned_at.is_(None), people.email.is_not(None))
        )
    assert len(found) == reachable == len({letter.user_id for letter in found}) and row.chosen >= 450
    # A job that is put back by hand changes nothing either.
    await announcements.run_job(site.core, {"announcement": id_})
    assert len(await letters_of(site, id_)) == len(found)


async def test_a_stopped_one_writes_to_nobody_else(site: Site, boss: Browser) -> None:
    id_ = await drafted(boss, service="1")
    await sent(site, boss, id_)
    (letter, *_) = await letters_of(site, id_)
    async with site.core.db.read() as session:
        user = await session.get_one(models.User, letter.user_id)
        assert await announcements.is_wanted(session, letter, user)
    async with site.core.db.write() as session:
        row = await session.get_one(models.Announcement, id_)
        row.as_banner, row.banner_until, row.status = True, utcnow() + dt.timedelta(days=1), "sending"
    # While it is on its way the report is drawn anew by itself.
    assert 'hx-select="#report"' in (await boss.get(f"/admin/announcements/{id_}")).text
    assert (await boss.post(f"/admin/announcements/{id_}/stop")).status == 303
    assert "hx-select" not in (await boss.get(f"/admin/announcements/{id_}")).text
    async with site.core.db.read() as session:
        assert not await announcements.is_wanted(session, letter, user)
    assert (await boss.post(f"/admin/announcements/{id_}/send", later="0")).status == 409
    assert (await boss.post(f"/admin/announcements/{id_}", **TEXTS, plan="all", ways="by_mail")).status == 409


async def test_a_banner_stands_on_every_page_until_it_is_put_away(site: Site, boss: Browser) -> None:
    person = await owner(site, "Banner", language="uz")
    other = await owner(site, "Boshqa", language="ru")
    browser, second = await site.signed_in(person), await site.signed_in(other)
    today = utcnow().astimezone(TASHKENT).date().isoformat()
    id_ = await drafted(boss, ways="as_banner", banner_until=today)
    assert "Ertaga ish" not in (await browser.get("/dashboard")).text
    await sent(site, boss, id_)
    assert not await letters_of(site, id_)
    for path in ("/dashboard", "/settings", "/billing"):
        page = await browser.get(path)
        assert "Ertaga ish" in page.text and "&lt;b&gt;Soat ikkida&lt;/b&gt;" in page.text
    assert "Завтра работы" in (await second.get("/dashboard")).text
    away = await browser.post(f"/announcements/{id_}/seen", next="/settings")
    assert (away.status, away.location) == (303, "/settings")
    assert (await browser.post(f"/announcements/{id_}/seen", next="//evil.example")).location == "/dashboard"
    assert "Ertaga ish" not in (await browser.get("/settings")).text
    assert "Завтра работы" in (await second.get("/dashboard")).text
    assert "1 read and put away" in said(await boss.get(f"/admin/announcements/{id_}"))
    site.core.now = lambda: utcnow() + dt.timedelta(days=1)
    try:
        assert "Завтра работы" not in (await second.get("/dashboard")).text
        with questions_put(site.core) as after:
            await browser.get("/settings")
    finally:
        site.core.now = utcnow
    # Where there is no banner, pages ask nothing more than before.
    assert not [question for question in after if "announcements_seen" in question]


async def test_one_that_is_scheduled_goes_out_at_its_time_and_not_before(site: Site, boss: Browser) -> None:
    await owner(site, "Belgilangan")
    id_ = await drafted(boss, ways="as_banner", banner_until="2099-01-01")
    at = (utcnow().astimezone(TASHKENT) + dt.timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    assert (await boss.post(f"/admin/announcements/{id_}/send", later="1", run_at=at)).status == 303
    async with site.core.db.read() as session:
        row = await session.get_one(models.Announcement, id_)
        job = (await session.scalars(select(models.Job).where(models.Job.unique_key == f"announce:{id_}"))).one()
        lane = await session.get_one(models.Lane, job.lane)
    assert row.status == "scheduled" and lane.run_at > utcnow().timestamp() + 6000
    assert "goes out:" in said(await boss.get(f"/admin/announcements/{id_}"))
    site.core.now = lambda: utcnow() + dt.timedelta(hours=3)
    try:
        await announcements.run_job(site.core, {"announcement": id_})
    finally:
        site.core.now = utcnow
    # The day that was chosen is the last on which it is shown.
    assert re.search(r"until [^·]*2099, 23:59", said(await boss.get(f"/admin/announcements/{id_}")))
    assert (await over(site, id_)).chosen > 0


async def test_a_test_goes_to_who_asks_alone(site: Site, boss: Browser) -> None:
    id_ = await drafted(boss)
    for _ in range(2):
        assert (await boss.post(f"/admin/announcements/{id_}/test")).status == 303
    async with site.core.db.read() as session:
        row = models.Letter
        found = list(await session.scalars(select(row).where(row.key.startswith(f"announcement-test:{id_}"))))
        boss_id = await session.scalar(select(models.User.id).where(models.User.email == "boss@example.uz"))
    assert [letter.user_id for letter in found] == [boss_id, boss_id] and not await letters_of(site, id_)
    assert (await boss.post(f"/admin/announcements/{id_}/delete")).status == 303
    assert (await boss.get(f"/admin/announcements/{id_}")).status == 404


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"title-ru": " "}, "Write the title: owners who read in this language"),
        ({"text-en": ""}, "Write the text: owners who read in this language"),
        ({"languages": "ru", "text-ru": ""}, "Write the text: owners who read in this language"),
        ({"title-uz": "x" * 121}, "at most 120 characters"),
        ({"plan": "rich"}, "Choose who is meant"),
        ({"ways": "by_pigeon"}, "Choose at least one way"),
        ({"ways": "as_banner"}, "Enter a day"),
        ({"ways": "as_banner", "banner_until": "2020-01-01"}, "Until which day"),
    ],
)
async def test_what_is_missing_is_said_and_nothing_typed_is_lost(
    boss: Browser, changes: dict[str, str], words: str
) -> None:
    page = await boss.post("/admin/announcements", **{**TEXTS, "plan": "all", "ways": "by_mail", **changes})
    assert page.status == 400 and words in said(page) and "Kechasi ta’mirlash." in page.text


async def test_of_languages_that_are_not_meant_nothing_need_be_written(site: Site, boss: Browser) -> None:
    """The form asks for no more by itself either; preview, test, list and report are in the language that is meant."""
    reader = await owner(site, "Chitatel", language="ru")
    form = (await boss.get("/admin/announcements/new")).text.partition(
        '<form method="post" action="/admin/announcements"'
    )[2]
    assert " required" not in form.partition('id="plan"')[0]
    texts = {"title-ru": "Только вам", "text-ru": "По-русски.", "title-uz": "Chala", "title-en": "", "text-en": ""}
    fields = {**texts, "ways": "by_mail", "banner_until": "2099-01-01", "plan": "all"}

    async def saved(*languages: str) -> Page:
        several = [("ways", "as_banner"), *(("languages", each) for each in languages)]
        data = [("csrf", boss.csrf), *fields.items(), *several]
        return await boss.request("POST", "/admin/announcements", data=data)

    made = await saved("ru")
    assert made.status == 303, said(made)
    path = made.location.partition("?")[0]
    draft = await boss.get(path)
    preview = draft.text.partition('id="preview-title"')[2].partition("</section>")[0]
    assert "По-русски." in preview and 'lang="uz"' not in preview and 'lang="en"' not in preview
    assert 'value="Chala"' in draft.text, "what was begun in another language is not lost"
    assert "“Только вам”" in draft.text and "Только вам" in said(await boss.get("/admin/announcements"))
    assert (await boss.post(f"{path}/test")).status == 303
    id_ = path.rpartition("/")[2]
    async with site.core.db.read() as session:
        row = models.Letter
        tried = (await session.scalars(select(row).where(row.key.startswith(f"announcement-test:{id_}")))).one()
    await sent(site, boss, id_)
    assert {letter.params["title"] for letter in (tried, *await letters_of(site, id_))} == {"Только вам"}
    browser = await site.signed_in(reader)
    assert "По-русски." in (await browser.get("/dashboard")).text
    for page in (path, f"{path}/missed", f"/admin/audit?object={id_}"):
        assert "Только вам" in said(await boss.get(page)), page
    # More languages afterwards need their words.
    wider = await saved("ru", "en")
    assert wider.status == 400 and "Write the title: owners" in said(wider) and 'value="Chala"' in wider.text
    field = wider.text.partition('id="title-en"')[2].partition(">")[0]
    assert 'aria-invalid="true"' in field
    await boss.post(f"{path}/stop")


async def test_a_moment_that_is_over_is_refused(boss: Browser) -> None:
    id_ = await drafted(boss)
    for run_at, words in (("2020-01-01T10:00", "This moment is over"), ("soon", "Choose a day and a time")):
        page = await boss.post(f"/admin/announcements/{id_}/send", later="1", run_at=run_at)
        assert page.status == 400 and words in said(page)


async def test_two_administrators_do_not_overwrite_or_send_what_they_have_not_seen(boss: Browser) -> None:
    """Whoever was slower is told, keeps what was typed, and presses again once they have looked."""
    id_ = await drafted(boss)
    path = f"/admin/announcements/{id_}"

    def seen(page: Page) -> str:
        (mark,) = set(re.findall(r'name="seen" value="([0-9a-f]+)"', page.text))
        return str(mark)

    first = seen(await boss.get(path))
    draft = {**TEXTS, "plan": "all", "ways": "by_mail"}
    assert (await boss.post(path, **{**draft, "text-uz": "Boshqa odamning matni", "seen": first})).status == 303
    late = await boss.post(path, **{**draft, "text-uz": "Kech qolgan matn", "seen": first})
    assert late.status == 409 and "Another administrator has changed this draft" in said(late)
    assert "Kech qolgan matn" in late.text and "Boshqa odamning matni" in late.text
    refused = await boss.post(f"{path}/send", later="0", seen=first)
    assert refused.status == 409 and "Boshqa odamning matni" in refused.text
    assert (await boss.post(path, **{**draft, "text-uz": "Kech qolgan matn", "seen": seen(late)})).status == 303
    now = seen(await boss.get(path))
    assert now not in (first, seen(late)) and (await boss.post(f"{path}/send", later="0", seen=now)).status == 303


async def test_whom_it_did_not_reach_is_listed_with_the_reason(site: Site, boss: Browser) -> None:
    """Page by page and as a table; whoever got it on one way is not on the list."""
    reached = await owner(site, "Yetgan", language="en")
    nowhere = await owner(site, "Manzilsiz", email=None)
    returned = await owner(site, "Qaytgan", mail_refused_at=utcnow())
    declined = await owner(site, "Xohlamas", unsubscribed_at=utcnow())
    blocked = await owner(site, "Toskan", email=None, telegram_id=4_000_111)
    id_, row = await drafted(boss), models.Letter
    mine = row.key == f"announcement:{id_}"
    async with site.core.db.write() as session:
        (await session.get_one(models.Announcement, id_)).by_telegram = True
    await sent(site, boss, id_)

    async def settled() -> bool:
        async with site.core.db.read() as session:
            waits = select(row.id).where(mine, (row.mail == "new") | (row.telegram == "new")).limit(1)
            return await session.scalar(waits) is None

    # Everybody whom the tests before have made is written to as well.
    await until(settled, timeout=90)
    async with site.core.db.write() as session:
        await session.execute(update(row).where(mine, row.user_id == reached.id).values(mail="sent", telegram="none"))
        states = {"mail": "none", "telegram": "failed"}
        await session.execute(update(row).where(mine, row.user_id == blocked.id).values(**states))
    assert f"/admin/announcements/{id_}/missed" in (await boss.get(f"/admin/announcements/{id_}")).text
    page = said(await boss.get(f"/admin/announcements/{id_}/missed"))
    for words in (
        "Manzilsiz Telegram: not linked · mail: no address",
        "Qaytgan Telegram: not linked · mail: came back",
        "Xohlamas wants no news",
        "Toskan Telegram: has blocked the bot · mail: no address",
    ):
        assert words in page, page
    assert "Yetgan" not in page
    table = (await boss.get(f"/admin/announcements/{id_}/missed/export.csv")).text
    assert "Qaytgan,qaytgan@example.uz,,Telegram: not linked; mail: came back" in table and "Yetgan" not in table
    assert {nowhere.full_name, returned.full_name, declined.full_name} <= set(re.split(r"[,\r\n]+", table))
