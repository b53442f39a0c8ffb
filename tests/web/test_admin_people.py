"""Owners, conversations and the log as the administrator sees them: found quickly, told, shut out, and all written down."""

from __future__ import annotations

import ast
import csv
import datetime as dt
import io
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from db import models
from db.base import ID_LENGTH, new_id, utcnow
from services import access, audit_words, auditing, bots
from services.days import TASHKENT
from tests import servers
from tests.composition import questions_put
from tests.web.panel import Browser, Site, open_site, web_talk

ROOT = Path(__file__).resolve().parents[2]
MANY = 3000


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("people")
    days = {"subscriptions": {"trial_days": 3, "test_until_day": 14, "grace_days": 3}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=days) as running:
        yield running


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator("Boshliq")


async def _change(site: Site, user: models.User, **values: object) -> None:
    async with site.core.db.write() as session:
        await session.execute(update(models.User).where(models.User.id == user.id).values(**values))


async def _give(site: Site, user: models.User, ends: dt.timedelta) -> None:
    now = site.core.now()
    async with site.core.db.write() as session:
        begins = now + ends - dt.timedelta(days=30)
        facts = {"plan": "basic", "period": "monthly", "source": "grant"}
        session.add(models.Subscription(user_id=user.id, starts_at=begins, ends_at=now + ends, **facts))


async def _logged(site: Site, action: str, thing: str) -> list[models.AuditLog]:
    async with site.core.db.read() as session:
        row = models.AuditLog
        return list(await session.scalars(select(row).where(row.action == action, row.object_id == thing)))


async def test_owners_are_found(site: Site, boss: Browser) -> None:
    """Each filter leaves whom it should, and odd words nobody."""
    now, day = site.core.now(), dt.timedelta(days=1)
    trial = await site.person("Sinovchi")
    free, over, paid, grace, banned = [await site.person(f"Ega{n}") for n in range(5)]
    await _change(site, free, created_at=now - 5 * day, phone="+998911112233")
    await _change(site, over, created_at=now - 40 * day, full_name="Дилноза")
    await _change(site, paid, created_at=now - 41 * day, telegram_id=777_888_999)
    await _change(site, grace, created_at=now - 90 * day)
    await _change(site, banned, banned_at=utcnow(), ban_reason="spam")
    await _give(site, paid, 10 * day)
    await _give(site, grace, -day)
    bot = await site.bot_of(paid, "Gulzor")
    async with site.core.db.write() as session:
        session.add(models.Channel(bot_id=bot.id, kind="telegram", external_id="5551", username="Gulzor_Bot"))
    everybody = {each.id: each for each in (trial, free, over, paid, grace, banned)}

    async def found(query: str) -> set[str]:
        page = await boss.get(f"/admin/owners?{query}")
        assert page.status == 200
        return {id_ for id_ in everybody if f"/admin/owners/{id_}" in page.text}

    assert await found("") == set(everybody)
    assert await found("state=trial") == {trial.id}
    assert await found("state=free") == {free.id}
    assert await found("state=expired") == {over.id}
    assert await found("state=paid") == {paid.id, grace.id}
    assert await found("state=banned") == {banned.id}
    assert await found("plan=basic") == {paid.id}
    assert await found("bots=yes") == {paid.id}
    assert await found("bots=no&state=paid") == {grace.id}
    assert await found("q=ДИЛН") == {over.id}
    assert await found("q=%2B998+91+111+22+33") == {free.id} == await found("q=1111223")
    assert await found("q=777888999") == {paid.id} == await found("q=@gulzor_bot") == await found("q=GULZOR_BOT")
    assert await found(f"q={paid.id}") == {paid.id}
    assert await found("q=ega2@example") == {paid.id}
    for odd in ("%25", "_", "%27;--", "9" * 190, "@", "@nobody_bot"):
        assert await found(f"q={odd}") == set(), odd
    since = (now - 45 * day).date().isoformat()
    until = (now - 30 * day).date().isoformat()
    assert await found(f"since={since}&until={until}") == {over.id, paid.id}
    for wrong in ("since=yesterday", "state=rich", "bots=many", f"since={until}&until={since}"):
        assert (await boss.get(f"/admin/owners?{wrong}")).status == 400
    assert (await boss.get("/admin/owners?cursor=1-x")).status == 400
    sheet = await boss.get("/admin/owners/export.csv?state=paid")
    rows = list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))
    assert [row[-1] for row in rows[1:]] == [paid.id, grace.id] and rows[1][6:10:3] == ["Paid", "1"]
    assert (await boss.get("/admin/owners/export.xlsx")).headers["Content-Type"].endswith("sheet")


async def test_banned_and_back(site: Site, boss: Browser) -> None:
    """Who is blocked is out at once and is told why; the bots are silent; all comes back, and all is written down."""
    owner = await site.person("Karim", language="ru", telegram_id=4_567)
    theirs = await site.signed_in(owner)
    await site.bot_of(owner, "Karim bot")
    path = f"/admin/owners/{owner.id}"
    refused = await boss.post(f"{path}/ban", reason="  ")
    assert refused.status == 400 and "Write the reason." in refused.visible()
    too_long = await boss.post(f"{path}/ban", reason="so‘kdi " * 60)
    assert too_long.status == 400 and "so‘kdi so‘kdi" in too_long.text
    assert (await boss.post(f"{path}/unban")).status == 409
    done = await boss.post(f"{path}/ban", reason="Spam <b>yuborgan</b>")
    assert done.status == 303 and (await theirs.get("/dashboard")).status == 303
    page = await boss.get(path)
    assert "Spam &lt;b&gt;yuborgan&lt;/b&gt;" in page.text and "Blocked since" in page.visible()
    assert (await boss.post(f"{path}/ban", reason="yana")).status == 409
    async with site.core.db.read() as session:
        row = await session.get_one(models.User, owner.id)
        assert row.banned_at is not None and row.ban_reason == "Spam <b>yuborgan</b>"
        letters = await session.scalars(select(models.Letter).where(models.Letter.user_id == owner.id))
        assert [(one.kind, one.params["reason"]) for one in letters] == [("banned", "Spam <b>yuborgan</b>")]
    assert (await boss.post(f"{path}/unban")).status == 303
    assert (await (await site.signed_in(owner)).get("/dashboard")).status == 200
    async with site.core.db.read() as session:
        row = await session.get_one(models.User, owner.id)
        assert row.banned_at is None and row.ban_reason == ""
    [banned], [back] = await _logged(site, "owner_banned", owner.id), await _logged(site, "owner_unbanned", owner.id)
    assert banned.details == {"reason": "Spam <b>yuborgan</b>"} and banned.actor_id == back.actor_id


async def test_the_page_of_an_owner_tells_all(site: Site, boss: Browser) -> None:
    """Whatever belongs to the owner stands on it, nothing of a secret, and a message goes once however often it is sent."""
    owner = await site.person("Feruza", phone="+998935556677")
    bot = await site.bot_of(owner, "Somsa uyi")
    helper = await site.person("Yordamchi")
    async with site.core.db.write() as session:
        channel = models.Channel(bot_id=bot.id, kind="whatsapp", external_id="42", status="refused", title="Somsa")
        session.add(channel)
        session.add(models.Document(bot_id=bot.id, name="menyu.pdf", kind="pdf", size=2048, status="failed"))
        session.add(models.Member(owner_id=owner.id, user_id=helper.id, role="operator"))
        session.add(models.AccessRequest(user_id=owner.id, plan="basic", period="monthly", note="Naqd to‘laymiz"))
        await web_talk(session, bot, "Mijoz")
        facts = {"gateway": "payme", "price_tiyin": 29_000_000, "amount_tiyin": 29_000_000, "expires_at": utcnow()}
        session.add(models.Payment(number="123456789", user_id=owner.id, plan="basic", period="monthly", **facts))
        # Who came by the owner's link and paid, and what was done here.
        session.add(models.Referral(partner_id=owner.id, user_id=helper.id, source="web", touched_at=utcnow()))
        due = {"kind": "commission", "amount_tiyin": 1_234_500, "available_at": utcnow()}
        session.add(models.ReferralEntry(partner_id=owner.id, **due))
        await access.record(session, owner, "member_role", "user", owner.id, role="operator", member=helper.id)
        spent = {"feature": "answer", "provider": "gemini", "model_asked": "flash", "cost_usd": Decimal("1.25")}
        session.add(models.AIUsage(owner_id=owner.id, bot_id=bot.id, **spent))
        secret = (await session.get_one(models.Channel, channel.id)).secret
    with questions_put(site.core) as asked:
        page = await boss.get(f"/admin/owners/{owner.id}")
    shown = page.visible().replace("\xa0", " ")
    for words in (
        "+998 93 555 66 77", "feruza@example.uz", "Somsa uyi", "Token refused", "menyu.pdf", "Yordamchi", "Naqd to‘laymiz",
        "123456789", "290 000", "$1.25", "1 conversation", "1 document", "Role: Operator", "registered: 1", "Due: 12 345",
    ):  # fmt: skip
        assert words in shown, words
    assert secret not in page.text
    assert len(asked) < 60, len(asked)
    assert (await boss.get("/admin/owners/01aaaaaaaaaaaaaaaaaaaaaaaa")).status == 404
    path = f"/admin/owners/{owner.id}/message"
    assert (await boss.post(path, message=" ")).status == 400
    long = await boss.post(path, message="salom " * 400)
    assert long.status == 400 and "salom salom" in long.text
    key = new_id()
    for _ in range(2):
        assert (await boss.post(path, message="Salom {reason} <i>", key=key)).status == 303
    async with site.core.db.read() as session:
        letters = (await session.scalars(select(models.Letter).where(models.Letter.user_id == owner.id))).all()
        assert [(one.kind, one.params["message"]) for one in letters] == [("from_administrator", "Salom {reason} <i>")]
    assert len(await _logged(site, "owner_written", owner.id)) == 1


async def test_conversations_of_all(site: Site, boss: Browser) -> None:
    """Found by what they are; opening is written down once a day; writing takes a reason and shows the owner who wrote."""
    owner, other = await site.person("Anvar"), await site.person("Botir")
    mine, theirs = await site.bot_of(owner, "Anvar bot"), await site.bot_of(other, "Botir bot")
    async with site.core.db.write() as session:
        talk = await web_talk(session, mine, "Shahnoza", status="waiting", last_text="Palov bormi?")
        foreign = await web_talk(session, theirs, "Otabek")
        contact = await session.get_one(models.Contact, foreign.contact_id)
        contact.phone = "+998971234567"
        session.add(models.Message(conversation_id=talk.id, author="customer", text="Palov bormi?"))
        telegram = models.Channel(bot_id=theirs.id, kind="telegram", external_id="99")
        session.add(telegram)
        await session.flush()
        writer = models.Contact(bot_id=theirs.id, channel_id=telegram.id, external_id="7", name="Tele")
        session.add(writer)
        await session.flush()
        old = utcnow() - dt.timedelta(days=100)
        told = models.Conversation(
            bot_id=theirs.id, channel_id=telegram.id, contact_id=writer.id, last_message_at=old, status="closed"
        )
        session.add(told)
    everything = {talk.id, foreign.id, told.id}

    async def found(query: str) -> set[str]:
        page = await boss.get(f"/admin/conversations?{query}")
        assert page.status == 200, page.visible()
        return {id_ for id_ in everything if f"/admin/conversations/{id_}" in page.text}

    assert await found("") == everything
    assert await found("platform=telegram") == {told.id}
    assert await found("state=waiting") == {talk.id}
    assert await found(f"owner={other.id}") == {foreign.id, told.id} == await found("owner=botir@example.uz")
    assert await found(f"bot={mine.id}") == {talk.id}
    assert await found("q=shahnoza") == {talk.id} and await found("q=971234567") == {foreign.id}
    assert await found(f"owner={owner.id}&q=palov") == {talk.id} and await found("q=%25") == set()
    day = old.astimezone(TASHKENT).date().isoformat()
    assert await found(f"until={day}") == {told.id} and await found(f"since={day}") >= {talk.id, foreign.id}
    assert (await boss.get("/admin/conversations?platform=fax")).status == 400
    assert (await boss.get("/admin/conversations?cursor=x")).status == 400

    path = f"/admin/conversations/{talk.id}"
    for _ in range(2):
        assert "Palov bormi?" in (await boss.get(path)).visible()
    [row] = await _logged(site, "conversation_opened", talk.id)
    assert row.details["owner"] == owner.id
    without = await boss.post(path, text="Bor, keling", reason=" ")
    assert without.status == 400 and "Bor, keling" in without.text and "Write the reason." in without.visible()
    assert (await boss.post(path, text="", reason="Egasi so‘radi")).status == 400
    assert (await boss.post(path, text="Bor, keling", reason="Egasi so‘radi")).status == 303
    [written] = await _logged(site, "customer_written", talk.id)
    assert written.details["reason"] == "Egasi so‘radi"
    browser = await site.signed_in(owner)
    await browser.post("/preferences", language="en", next="/settings")
    inbox = (await browser.get(f"/inbox/{talk.id}")).visible()
    assert "Bor, keling" in inbox and "written by the administrator" in inbox
    async with site.core.db.read() as session:
        after = await session.get_one(models.Conversation, talk.id)
        assert after.status == "human" and after.assignee_id is None


async def test_the_log_is_found_and_only_read(site: Site, boss: Browser) -> None:
    """By who, what, to whom and when; as a table whose cells do nothing; and no address changes it."""
    owner = await site.person("Zarina")
    await _change(site, owner, full_name="=SUM(A1)")
    assert (await boss.post(f"/admin/owners/{owner.id}/ban", reason="=HYPERLINK(1)")).status == 303
    about = f"object={owner.id}"
    for query, n in (
        (about, 1), (f"{about}&action=owner_banned", 1), (f"{about}&action=owner_unbanned", 0),
        (f"{about}&actor=boshliq@example.uz", 1), (f"{about}&actor=zarina@example.uz", 0), (f"{about}&admins=yes", 1),
        (f"{about}&since=2020-01-01&until=2020-12-31", 0), (f"{about}&since=2020-01-01", 1), ("action=%25", 0),
    ):  # fmt: skip
        page = await boss.get(f"/admin/audit?{query}")
        assert page.status == 200 and page.visible().count("=HYPERLINK(1)") == n, query
    for wrong in ("since=x", "cursor=x", "since=2026-01-02&until=2026-01-01"):
        assert (await boss.get(f"/admin/audit?{wrong}")).status == 400
    sheet = await boss.get(f"/admin/audit/export.csv?{about}")
    rows = list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))
    assert [row[3:6] for row in rows[1:]] == [["Blocked an owner", "Account", owner.id]]
    assert await _logged(site, "audit_exported", "")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await boss.request(method, "/admin/audit", headers={"X-CSRF-Token": boss.csrf})
        assert answer.status == 405


def test_every_action_has_a_name() -> None:
    """Whatever the program writes into the log is called something by the page that shows it, and so is what it was done to."""
    unnamed = set()
    for path in (each for folder in ("services", "web", "handlers") for each in (ROOT / folder).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "access.record" and len(call.args) > 2:
                word, kind = call.args[2:4]
                either = (word.body, word.orelse) if isinstance(word, ast.IfExp) else (word,)
                unnamed |= {each.value for each in either if isinstance(each, ast.Constant)} - set(auditing.ACTIONS)
                if isinstance(kind, ast.Constant) and kind.value not in auditing.OBJECTS:
                    unnamed.add(kind.value)
                details = {each.arg for each in call.keywords if each.arg}
                unnamed |= details - set(audit_words.LABELS) - set(audit_words.UNSAID)
    assert unnamed == set()


async def test_the_log_speaks_of_people_and_things_by_their_names(site: Site, boss: Browser) -> None:
    """Words of the program, ids and bare numbers are nowhere to be seen: not on the page and not among the table's details."""
    owner, helper = await site.person("Lola"), await site.person("Nigora")
    bot = await site.bot_of(owner, "Lola gullari")
    gone = new_id()
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Dildora")
        made: tuple[tuple[str, str, str, dict[str, str]], ...] = (
            ("plan_granted", "user", owner.id, {"plan": "basic", "period": "annual", "price_uzs": "1490000"}),
            ("payment_marked_paid", "payment", gone, {"method": "cash", "reason": "Kassaga berdi"}),
            ("conversation_assigned", "conversation", talk.id, {"to": helper.id}),
            ("conversation_assigned", "conversation", talk.id, {"to": "nobody"}),
            ("contact_deleted", "contact", gone, {"bot": bot.id, "channel": "web"}),
            ("channel_connected", "bot", bot.id, {"kind": "whatsapp", "channel": talk.channel_id}),
            ("conversation_opened", "conversation", talk.id, {"owner": owner.id, "bot": bot.name}),
            ("owners_exported", "user", "", {"state": "trial", "bots": "yes", "since": "2026-01-02"}),
            ("announcement_sent", "announcement", gone, {"at": "2026-01-02T03:04:05+00:00"}),
            ("job_retried", "job", "17", {"kind": "index_document"}),
            ("letter_text_changed", "letter_text", "banned:ru", {}),
            ("override_changed", "override", "limits.owner_cost", {"value": "2.5"}),
            ("override_changed", "override", "ai.keys_off", {"value": "gemini, openai"}),
            ("view_changed", "user", owner.id, {"by": gone, "view": gone, "path": f"/bots/{bot.id}/documents"}),
            ("member_role", "user", owner.id, {"role": "manager", "member": helper.id}),
            ("accounts_joined", "user", owner.id, {"former": gone}),
        )
        for action, kind, thing, facts in made:
            await access.record(session, owner, action, kind, thing, **facts)
    page = await boss.get(f"/admin/audit?actor={owner.id}")
    rows = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in page.text.split("<tr>")[2:]]
    shown = [unescape(row.split("</table>")[0]) for row in reversed(rows)]
    for row, words in zip(shown, (
        ("Lola", "Period: Annual", "Price: 1 490 000 UZS"),
        ("Payment deleted", "How it was paid: Cash · Reason: Kassaga berdi"),
        ("Conversation Dildora", "Assigned to: Nigora"),
        ("Assigned to: nobody",),
        ("Bot: Lola gullari · Channel: Web chat",),
        ("Channel: Web · Kind: WhatsApp", "Bot Lola gullari"),
        ("Bot: Lola gullari · Owner: Lola",),
        ("Bots: yes · From date: 2 Jan 2026 · State: Trial",),
        ("Time: 2 Jan 2026, 08:04",),
        ("Kind: Reading a document",),
        ("(Русский)",),
        ("One owner, US dollars a day", "Value: $2.5"),
        ("Keys that rest", "Value: Gemini, OpenAI"),
        ("Page: Documents",),
        ("Role: Manager", "Colleague: Nigora"),
        ("Former account: deleted",),
    ), strict=True):  # fmt: skip
        assert [each for each in words if each not in row.replace("\u00a0", " ")] == [], row
    assert not re.search(rf"\b[0-9a-z]{{{ID_LENGTH}}}\b", " ".join(shown))
    sheet = await boss.get(f"/admin/audit/export.csv?actor={owner.id}&action=job_retried&object=17")
    assert sheet.status == 200 and "Kind: Reading a document" in sheet.text
    page = await boss.get("/admin/audit?action=audit_exported")
    assert "Action: Let a job be tried again · Who: Lola · Object: 17<" in page.text
    sheet = await boss.get(f"/admin/audit/export.csv?actor={owner.id}")
    for line in list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))[1:]:
        assert not re.search(rf"\b[0-9a-z]{{{ID_LENGTH}}}\b", " ".join((*line[:5], *line[6:]))), line


async def test_many_cost_no_more(site: Site, boss: Browser) -> None:
    """With thousands of owners, conversations and rows of the log a page asks as many questions, and walks along no table."""
    owner = await site.person("Kop")
    bot = await site.bot_of(owner, "Ko‘p bot")
    async with site.core.db.write() as session:
        web = await bots.connect_web(session, bot)
    pages = ("/admin/owners", f"/admin/conversations?owner={owner.id}", f"/admin/audit?object={owner.id}")

    async def asked(path: str) -> int:
        # What the program asks by itself meanwhile only adds.
        found = []
        for _ in range(3):
            with questions_put(site.core) as questions:
                assert (await boss.get(path)).status == 200
            found.append(len(questions))
        return min(found)

    few = [await asked(path) for path in pages]
    now = utcnow()
    moments = [now - dt.timedelta(seconds=n) for n in range(MANY)]
    async with site.core.db.write() as session:
        people_ = [{"id": new_id(), "full_name": f"Odam {n}", "created_at": at} for n, at in enumerate(moments)]
        await session.execute(insert(models.User), people_)
        customers = [
            {"id": new_id(), "bot_id": bot.id, "channel_id": web.id, "external_id": str(n)} for n in range(MANY)
        ]
        await session.execute(insert(models.Contact), customers)
        talks = [
            {"bot_id": bot.id, "channel_id": web.id, "contact_id": each["id"], "last_message_at": at}
            for each, at in zip(customers, moments, strict=True)
        ]
        await session.execute(insert(models.Conversation), talks)
        rows = [
            {"action": "signed_in", "object_kind": "user", "object_id": owner.id, "details": {"n": n}}
            for n in range(MANY)
        ]
        await session.execute(insert(models.AuditLog), rows)
    for path, before in zip(pages, few, strict=True):
        assert await asked(path) <= before + 2, path
        page = await boss.get(path)
        seen: set[str] = set()
        for _ in range(3):
            further = page.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
            assert further, path
            page = await boss.get(further)
            part = set(page.text.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:])
            assert len(part) == 50 and not part & seen
            seen |= part
