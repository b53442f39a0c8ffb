"""The owner's dashboard and the administrator's statistics: whose numbers, of which days, beside what, and as files."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zipfile
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from db.base import utcnow
from services import accounts, bots, durations, team
from services.days import midnight, today
from services.statistics import Period, counting, histogram, lines, median_s, report
from tests import servers
from tests.composition import asked_of, questions_put
from tests.web.panel import Browser, Page, Site, open_site, web_talk

DAY = dt.timedelta(days=1)
NOW = utcnow()


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("statistics")
    money = {"payments": {"usd_rate_uzs": Decimal(12_500)}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=money) as made:
        made.core.now = lambda: NOW
        yield made


def _noon(back: int) -> dt.datetime:
    """Return a moment of a day that is so many days back, of today one that was."""
    return midnight(today(NOW) - back * DAY) + dt.timedelta(minutes=1)


async def _asked(site: Site, bot: models.Bot, back: int, *answers: bool, name: str = "") -> None:
    """Let a customer ask so often on a day so many days back; ``answers``: whether the bot knew."""
    at = _noon(back)
    async with site.core.db.write() as session:
        customer = name or f"{bot.id[-6:]} {back}"
        talk = await web_talk(session, bot, customer, created_at=at, last_message_at=at)
        for number, knew in enumerate(answers):
            asked = models.Message(conversation_id=talk.id, author="customer", text="Narxi?", created_at=at)
            session.add(asked)
            await session.flush()
            said = models.Message(conversation_id=talk.id, author="bot", text="5000", answered=knew, reply_to=asked.id)
            said.created_at = at + dt.timedelta(seconds=2 + number)
            session.add(said)


def _cards(page: Page) -> dict[str, str]:
    """Return what stands in each card of a page, by its name."""
    cards = re.findall(r'class="number-name">([^<]+)</span>(.*?)</(?:a|div)>', page.text, re.DOTALL)
    return {name: " ".join(re.sub(r"<[^>]*>", " ", rest).split()) for name, rest in cards}


def _table(page: Page) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(page.text.lstrip("\N{ZERO WIDTH NO-BREAK SPACE}"))))


async def test_a_period_stands_beside_the_one_before(site: Site) -> None:
    """Counted days and today's together; what others' bots did is in no number and no file."""
    user, other = await site.person("Numbers", language="en"), await site.person("Others", language="en")
    browser, bot, foreign = (
        await site.signed_in(user),
        await site.bot_of(user, "=1+1"),
        await site.bot_of(other, "Boshqa"),
    )
    for back, answers in ((0, (True, False)), (3, (True, True, True)), (6, (True,)), (9, (False, True)), (40, (True,))):
        await _asked(site, bot, back, *answers)
    await _asked(site, foreign, 3, True, True)
    while await counting.count_some(site.core.db, NOW):
        pass
    week = _cards(await browser.get("/dashboard?period=7"))
    assert week["Questions"] == "6 today: 2 +200% before: 2"
    assert week["Conversations"] == "3 today: 1 a day: 0.43 +200% before: 0.14"
    assert week["Answered from documents"].startswith("83% today: 50% 5 answers · before: 50%")
    assert week["Unanswered questions"] == "1 today: 1 ±0% before: 1"
    assert "Cost on your own key" not in week
    assert _cards(await browser.get("/dashboard?period=today"))["Questions"] == "2 before: 0"
    assert _cards(await browser.get("/dashboard?period=90"))["Questions"] == "9 today: 2 before: 0"
    month = await browser.get("/dashboard?period=nonsense")
    assert 'href="/dashboard?period=30" aria-current="true"' in month.text
    assert "data-chart" in month.text and "Boshqa" not in month.text
    rows = _table(await browser.get("/dashboard/days.csv?period=7"))
    assert [(row["Day"], row["Questions"], row["Answered"]) for row in rows] == [
        (str(today(_noon(back))), *counts) for back, *counts in ((6, "1", "1"), (3, "3", "3"), (0, "2", "1"))
    ]
    assert {row["Bot"] for row in rows} == {"'=1+1"} and rows[0]["Answer of the bot, median in s"] == "2.0"
    packed = await browser.http.get(f"{site.base}/dashboard/days.xlsx?period=90")
    assert "xl/worksheets/sheet1.xml" in zipfile.ZipFile(io.BytesIO(await packed.read())).namelist()
    assert (await browser.get("/dashboard/days.pdf")).status == 404
    async with site.core.db.write() as session:
        key = {"owner_id": user.id, "bot_id": bot.id, "provider": "openai", "model_asked": "gpt-own", "own_key": True}
        session.add(models.AIUsage(**key, cost_usd=Decimal("0.5"), input_tokens=1234))
        session.add(models.AIUsage(**{**key, "model_asked": "gpt-ours", "own_key": False}, cost_usd=Decimal(3)))
    page = await browser.get("/dashboard")
    assert _cards(page)["Cost on your own key"] == "$0.50"
    assert "gpt-own" in page.text and "gpt-ours" not in page.text


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _split(page: Page, section: str) -> dict[str, list[str]]:
    """Return the rows of a section's table of numbers, by their names."""
    rows = page.text.partition(f'id="{section}"')[2].partition("</section>")[0].rpartition("<tbody>")[2].split("<tr>")
    cells = [[" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in re.split(r"<td", row)] for row in rows[1:]]
    return {name: [cell.rpartition(">")[2].strip() for cell in rest] for name, *rest in cells}


async def test_each_number_stands_on_its_card(site: Site) -> None:
    """Conversations, answered, unanswered, handed over and how long it took; the same by channel and by language."""
    user, at = await site.person("Cards", language="en"), _noon(0)
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with site.core.db.write() as session:
        web = await bots.connect_web(session, bot)
        gram = models.Channel(bot_id=bot.id, kind="telegram", external_id=bot.id, username="cards_bot")
        session.add(gram)
        await session.flush()
        # ``True``: the bot knew, ``False``: it did not; None: a person answered.
        for number, (channel, language, answers) in enumerate(
            ((web, "uz", (True, False, False)), (gram, "ru", (True, None)), (gram, "en", (True,)))
        ):
            who = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id=f"card {number}", language=language)
            session.add(who)
            await session.flush()
            facts = {"bot_id": bot.id, "channel_id": channel.id, "contact_id": who.id}
            person_at = at + dt.timedelta(minutes=10) if None in answers else None
            talk = models.Conversation(**facts, created_at=at, last_message_at=at, person_at=person_at)
            session.add(talk)
            await session.flush()
            for knew in answers:
                asked = models.Message(conversation_id=talk.id, author="customer", text="Narxi?", created_at=at)
                session.add(asked)
                await session.flush()
                said = (
                    {"author": "operator"}
                    if knew is None
                    else {"author": "bot", "answered": knew, "reply_to": asked.id}
                )
                late = dt.timedelta(seconds=600 if knew is None else 20)
                session.add(models.Message(conversation_id=talk.id, text="5000", created_at=at + late, **said))
                await session.flush()
    page = await browser.get("/dashboard?period=7")
    shown = {name: words.partition(" today: ")[0].partition(" before: ")[0] for name, words in _cards(page).items()}
    took = [durations.text(median_s(histogram([(seconds, 1)])), "en") for seconds in (20, 600)]
    assert took == ["22 s", "10 min"]
    assert shown == {
        "Conversations": "3",
        "Questions": "6",
        "Answered from documents": "60%",
        "Unanswered questions": "2",
        "Handed over to people": "1",
        "Customers waiting": "0 now",
        "New customers": "3",
        "Answer takes (median)": f"{took[0]} people: {took[1]}",
    }
    # Conversations, questions, answered, unanswered, handed over.
    assert _split(page, "channels-title") == {
        "Telegram": ["2", "3", "2", "0", "1"],
        "Web chat": ["1", "3", "1", "2", "0"],
    }
    assert _split(page, "languages-title") == {
        "O‘zbekcha": ["1", "3", "1", "2", "0"],
        "Русский": ["1", "2", "1", "0", "1"],
        "English": ["1", "1", "1", "0", "0"],
    }
    assert _split(page, "by-bot") == {bot.name: ["6", "3", "2", "0"]}
    # The table under a picture is what the picture is drawn from.
    drawn = page.text.partition(f">{today(NOW):%d.%m}</th>")[2].partition("</tr>")[0]
    assert re.findall(r'data-value="(\d+)">(\d+)<', drawn) == [("3", "3"), ("6", "6"), ("2", "2")]


async def test_a_conversation_counts_once_and_its_number_leads_to_the_list_of_it(
    tmp_path: Path, servers_run: servers.Run
) -> None:
    """However many days it went on; put aside it is among them, what is tried in the panel is not."""
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path)) as site:
        site.core.now = lambda: NOW
        owner, boss = await site.person("Counted", language="en"), await site.person("Counting", language="en")
        bot = await site.bot_of(owner)
        async with site.core.db.write() as session:
            (await session.get_one(models.User, boss.id)).role = "admin"
            for name, backs, more in (
                ("Zulayho", (6, 5, 3, 1), {"person_at": _noon(3)}),
                ("Qalqon", (8, 2), {"snoozed_until": NOW + DAY, "snoozed_at": NOW}),
                ("Behzod", (9, 8), {"person_at": _noon(8)}),
                (f"panel:{owner.id}"[:20], (4,), {}),
            ):
                talk = await web_talk(session, bot, name, created_at=_noon(backs[0]), **more)
                talk.last_message_at = _noon(backs[-1])
                contact = await session.get_one(models.Contact, talk.contact_id)
                contact.language = "uz"
                if name.startswith("panel:"):
                    contact.external_id = f"panel:{owner.id}"
                for back in backs:
                    for author in ("customer", "operator"):
                        said = {
                            "conversation_id": talk.id,
                            "author": author,
                            "text": "Narxi?",
                            "created_at": _noon(back),
                        }
                        session.add(models.Message(**said))
        browser, admin = await site.signed_in(owner), await site.signed_in(boss)
        for counted in (False, True):
            while counted and await counting.count_some(site.core.db, NOW):
                pass
            page = await browser.get("/dashboard?period=7")
            cards = _cards(page)
            assert cards["Conversations"] == "2 today: 0 a day: 0.71 +67% before: 0.43"
            assert cards["Handed over to people"].startswith("1 today: 0 a day: 0.71 ")
            for href, names in (
                ("happened=said", ["Qalqon", "Zulayho"]),
                ("channel=web&happened=said", ["Qalqon", "Zulayho"]),
                ("language=uz&happened=said", ["Qalqon", "Zulayho"]),
                ("happened=handed", ["Zulayho"]),
                ("happened=new", ["Zulayho"]),
            ):
                address = f"/inbox?bot={bot.id}&{href}&since={today(_noon(6))}"
                assert address.replace("&", "&amp;") in page.text or address in page.text, address
                shown = (await browser.get(address)).text
                assert [name for name in ("Qalqon", "Behzod", "Zulayho", "You (test)") if name in shown] == names, href
            tables = re.findall(
                r'<th scope="row"><a href="[^"]+">.*?data-label="Conversations">(?:<a[^>]+>)?(\d+)<', page.text, re.S
            )
            assert tables == ["2", "2", "2"]
            assert _cards(await browser.get("/dashboard?period=today"))["Conversations"] == "0 −100% before: 1"
            numbers = await admin.get("/admin/statistics?period=7")
            [address] = re.findall(r'href="(/admin/conversations[^"]+)"', numbers.text)
            listed = (await admin.get(address.replace("&amp;", "&"))).rows()
            assert _cards(numbers)["Conversations"].split()[0] == str(len(listed))


async def test_a_page_asks_the_same_however_much_there_is(site: Site) -> None:
    """And no question reads a whole table of conversations or messages."""
    user = await site.person("Many", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await _asked(site, bot, 0, True)

    async def questions(path: str) -> int:
        tries = []
        for _ in range(3):
            with questions_put(site.core) as put:
                assert (await browser.get(path)).status == 200
            tries.append(len(put))
        return min(tries)

    few = {path: await questions(path) for path in ("/dashboard", "/bots")}
    for number in range(30):
        await _asked(site, bot, number % 3, True, False, name=f"customer {number}")
    assert {path: await questions(path) for path in few} == few
    assert few["/dashboard"] <= 40
    with asked_of(site.core) as seen:
        await browser.get("/dashboard")
    asked = [each for each in seen if each.reads and "JOIN messages" in each.statement]
    assert len(asked) >= 3
    async with site.core.db.read() as session:
        connection = await session.connection()
        for each in asked:
            steps = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each.statement}", each.values)
            told = [str(step[-1]) for step in steps]
            assert not [step for step in told if re.match(r"SCAN (messages|conversations|contacts)", step)], told


async def test_first_steps_are_skipped_put_away_and_gone_when_done(site: Site) -> None:
    """What is chosen is kept with the account, beside its other small choices."""
    user = await site.person("Beginner", language="en")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, user.id)).preferences = {"other": 1}
    browser = await site.signed_in(user)

    async def states(of: Browser) -> list[tuple[str, str]]:
        page = await of.get("/dashboard")
        found = re.findall(r'<li class="step([a-z ]*)">.*?name="step" value="(\w+)"', page.text, re.DOTALL)
        return [(key, state.strip()) for state, key in found]

    steps = ["bot", "knowledge", "try", "channel", "operator", "plan"]
    assert [key for key, _ in await states(browser)] == steps
    assert (await browser.post("/dashboard/steps", do="skip", step="operator")).status == 303
    await browser.post("/dashboard/steps", do="skip", step="operator")
    assert dict(await states(browser))["operator"] == "skipped"
    await browser.post("/dashboard/steps", do="take", step="operator")
    assert dict(await states(browser))["operator"] == ""
    for fields in ({"do": "skip", "step": "rights"}, {"do": "become", "step": "plan"}):
        assert (await browser.post("/dashboard/steps", **fields)).status == 400
    await browser.post("/dashboard/steps", do="hide")
    again = await site.signed_in(user)
    assert await states(again) == [] and 'value="show"' in (await again.get("/dashboard")).text
    await again.post("/dashboard/steps", do="show")
    assert len(await states(browser)) == 6
    bot = await site.bot_of(user)
    await _asked(site, bot, 0, True)
    assert [key for key, _ in await states(browser)] == ["knowledge", "try", "operator", "plan"]
    # "Try it" leads to the chat beside the settings, which keeps nothing of what is said: that it was tried counts.
    words = {"name": bot.name, "system_prompt": "", "languages": "uz"}
    tried = await browser.post(f"/bots/{bot.id}/try", text="Salom", words="1", said="[]", language="", **words)
    assert "event: done" in tried.text
    assert [key for key, _ in await states(browser)] == ["knowledge", "operator", "plan"]
    # Each is done when it was done: a document that was read, somebody who was invited, a plan that was paid for.
    file = {"bot_id": bot.id, "name": "narx.txt", "kind": "txt", "size": 1}
    async with site.core.db.write() as session:
        session.add(models.Document(**file, status="failed"))
    assert [key for key, _ in await states(browser)] == ["knowledge", "operator", "plan"]
    async with site.core.db.write() as session:
        session.add(models.Document(**file, status="ready"))
    assert [key for key, _ in await states(browser)] == ["operator", "plan"]
    async with site.core.db.write() as session:
        await team.invite(session, user, "operator", "Yordamchi", most=5)
    assert [key for key, _ in await states(browser)] == ["plan"]
    await browser.post("/dashboard/steps", do="skip", step="plan")
    assert await states(browser) == []
    await browser.post("/dashboard/steps", do="take", step="plan")
    assert [key for key, _ in await states(browser)] == ["plan"]
    async with site.core.db.write() as session:
        span = {"plan": "basic", "period": "monthly", "source": "payment", "starts_at": NOW - DAY}
        session.add(models.Subscription(user_id=user.id, ends_at=NOW + 30 * DAY, **span))
    page = await browser.get("/dashboard")
    assert "First steps" not in page.visible() and 'value="show"' not in page.text
    async with site.core.db.read() as session:
        kept = (await session.get_one(models.User, user.id)).preferences
    assert kept == {
        "other": 1,
        "first_steps": {"tried": True, "skipped": [], "hidden": False},
    }


async def _paid(site: Site, number: str, user: models.User | None, so_m: int, back: int, **more: Any) -> None:
    async with site.core.db.write() as session:
        session.add(
            models.Payment(
                **{
                    "number": number,
                    "user_id": user.id if user else None,
                    "plan": "basic",
                    "period": "monthly",
                    "gateway": "payme",
                    "status": "paid",
                    "paid_by": "payme",
                    "paid_at": _noon(back),
                    "price_tiyin": so_m * 100,
                    "amount_tiyin": so_m * 100,
                    "expires_at": NOW,
                    **more,
                }
            )
        )


async def test_the_business_in_numbers(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> None:
    """Refunds are taken off on their day, test payments are none; an owner's margin is revenue less cost by the rate."""
    folder = tmp_path_factory.mktemp("business")
    money = {"payments": {"usd_rate_uzs": Decimal(12_500)}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=money) as site:
        site.core.now = lambda: NOW
        boss = await site.person("Boss", language="en")
        buyer, trier, former = [await site.person(name, language="en") for name in ("Buyer", "Trier", "Former")]
        async with site.core.db.write() as session:
            (await session.get_one(models.User, boss.id)).role = "admin"
            (await session.get_one(models.User, former.id)).created_at = _noon(45)
            span = {"plan": "basic", "period": "monthly", "starts_at": _noon(3), "ends_at": NOW + 27 * DAY}
            session.add(models.Subscription(user_id=buyer.id, source="payment", **span))
            session.add(models.Subscription(user_id=trier.id, source="grant", **span))
            # One that a gateway's test key paid for, and one that was over at noon.
            session.add(models.Subscription(user_id=former.id, source="test", **span))
            over = {**span, "ends_at": NOW - DAY / 1440}
            session.add(models.Subscription(user_id=trier.id, source="payment", **over))
        await _paid(site, "1001", buyer, 290_000, 3)
        await _paid(site, "1002", buyer, 590_000, 40)
        refunded = {"status": "refunded", "refunded_at": _noon(2), "gateway": "click", "paid_by": "click"}
        await _paid(site, "1003", former, 149_000, 35, **refunded)
        await _paid(site, "1004", trier, 290_000, 3, sandbox=True)
        await _paid(site, "1005", None, 100_000, 4, paid_by="manual")
        bot = await site.bot_of(buyer)
        await _asked(site, bot, 1, True, False)
        async with site.core.db.write() as session:
            for name, more in (("kept", {}), ("gone", {"deleted_at": NOW}), ("taught", {"kind": "answers"})):
                file = {"bot_id": bot.id, "name": f"{name}.txt", "kind": "txt", "size": 1, "status": "ready", **more}
                session.add(models.Document(**{**file, "created_at": _noon(0)}))
            for back, outcome in ((0, "ok"), (1, "busy"), (31, "ok")):
                call = {"provider": "openai", "model_asked": "x", "outcome": outcome, "created_at": _noon(back)}
                session.add(models.AIUsage(owner_id=buyer.id, cost_usd=Decimal("1.6"), **call))
                session.add(models.AIUsage(owner_id=buyer.id, cost_usd=Decimal(50), own_key=True, **call))
            lost = {"lane": "in:none:1", "payload": "", "error": "ValueError", "attempts": 3}
            for n, status in enumerate(("dead", "done", "dead")):
                session.add(
                    models.InboxItem(channel_id="x" * 26, external_id=str(n), status=status, **lost),
                )
            session.add(models.Job(kind="print", lane="printing", payload={}, status="dead"))
        browser = await site.signed_in(boss)
        assert (await browser.get("/admin")).location == "/admin/statistics"
        for counted in (False, True):
            while counted and await counting.count_some(site.core.db, NOW):
                pass
            page = await browser.get("/admin/statistics")
            cards = {name: value.replace("\N{NO-BREAK SPACE}", " ") for name, value in _cards(page).items()}
            assert cards["New owners"] == "2 +100% before: 1 all: 3"
            assert cards["Active owners"] == "1 before: 0"
            assert cards["Paying owners"] == "1 before: 0"
            assert cards["New documents"] == "1 before: 0 all: 1"
            assert cards["From trial to paid"] == "50% 1 of 2 new owners have paid before: 0%"
            # 290 000 and 100 000 less the 149 000 that went back; before: 590 000 and 149 000.
            assert cards["Revenue"] == "241 000 UZS −67% before: 739 000 UZS"
            assert cards["Cost of models"] == "$3.20 +100% before: $1.60"
            assert cards["Margin"] == "201 000 UZS −72% before: 719 000 UZS"
            assert cards["Model calls without an answer"] == "1 50% of 2 calls before: 0"
            assert (cards["Messages set aside"], cards["Jobs given up"]) == ("2 now", "1 now")
            assert (cards["Conversations"], cards["Questions"]) == ("1 a day: 0.03 before: 0", "2 before: 0")
            assert cards["New bots"] == "1 before: 0 all: 1"
            assert _split(page, "platforms") == {"Web chat": ["1 a day: 0.03 before: 0", "2 before: 0", "1", "1", "0"]}
            by_month = {month: [_plain(cell) for cell in row] for month, row in _split(page, "revenue-title").items()}
            [sums] = [row for month, row in by_month.items() if month == f"{today(_noon(3)):%m.%Y}"]
            assert "290 000 UZS" in sums, by_month
            margins = {name: [_plain(cell) for cell in row] for name, row in _split(page, "margins").items()}
            assert margins == {
                "Buyer": ["290 000 UZS", "2", "$3.20", "250 000 UZS"],
                "Deleted accounts": ["100 000 UZS", "0", "$0.00", "100 000 UZS"],
                "Former": ["−149 000 UZS", "0", "$0.00", "−149 000 UZS"],
            }
            # Each number leads to what it counts.
            since = f"since={today(NOW) - 29 * DAY}"
            for place in (
                f"owners?{since}",
                'owners?state=paying"',
                f"owners?state=converted&amp;{since}",
                f"conversations?who=customers&amp;{since}",
                f"files?state=ready&amp;{since}",
                "system#messages-title",
                "system#jobs-title",
            ):
                assert f'href="/admin/{place}' in page.text, place
        for place, names in (
            ("owners?state=paying", ["Buyer"]),
            (f"owners?state=converted&{since}", ["Buyer"]),
            ("files?state=ready", ["kept.txt"]),
        ):
            listed = (await browser.get(f"/admin/{place}")).rows()
            assert len(listed) == len(names) and all(name in row for name, row in zip(names, listed, strict=True))
        owners = _table(await browser.get("/admin/statistics/owners.csv"))
        assert [(row["Owner"], row["Revenue, UZS"], row["Model cost, USD"], row["Margin, UZS"]) for row in owners] == [
            ("Buyer", "290000", "3.200000", "250000"),
            ("Deleted accounts", "100000", "0.000000", "100000"),
            ("Former", "-149000", "0.000000", "-149000"),
        ]
        months = _table(await browser.get("/admin/statistics/revenue.csv"))
        assert sum(int(row["Revenue, UZS"]) for row in months) == 290_000 + 590_000 + 100_000
        days = _table(await browser.get("/admin/statistics/days.csv?period=7"))
        assert [(row["Channel"], row["Questions"]) for row in days] == [("Web chat", "2")]
        async with site.core.db.read() as session:
            log = models.AuditLog
            told = await session.scalars(
                select(log.object_id).where(log.action == "statistics_exported").order_by(log.id)
            )
            assert list(told) == ["owners", "revenue", "days"]
        stranger = await site.signed_in(buyer)
        assert (await stranger.get("/admin/statistics")).status == 404
        assert (await stranger.get("/admin/statistics/owners.csv")).status == 404


async def test_margins_come_in_parts(site: Site) -> None:
    boss = await site.person("Counter", language="en")
    async with site.core.db.write() as session:
        (await session.get_one(models.User, boss.id)).role = "admin"
        for number in range(120):
            owner = await accounts.register_owner(
                session, full_name=f"Margin {number:03}", email=f"m{number}@example.uz"
            )
            cost = Decimal(number // 2) / 100 + 1000
            call = {"provider": "openai", "model_asked": "x", "created_at": _noon(0)}
            session.add(models.AIUsage(owner_id=owner.id, cost_usd=cost, **call))
    browser, seen, path = await site.signed_in(boss), [], "/admin/statistics"
    while path:
        page = await browser.get(path)
        seen += re.findall(r"Margin (\d{3})</a>", page.text)
        following = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == 120 == len(set(seen)) and seen[0] in ("118", "119")
    assert (await browser.get("/admin/statistics?cursor=1:x'--")).status == 400
    async with site.core.db.read() as session:
        span = Period("", today(NOW) - 6 * DAY, today(NOW))
        assert (await report(session, [], span)).now.talks == 0 and await lines(
            session, [], span.first, span.last
        ) == []
