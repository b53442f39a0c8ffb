"""Deleting an account: asked for, taken back, carried out to the last row; and everything of it as a file before."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import delete, func, select, text

from db import models
from db.base import utcnow
from services import accounts, jobs, leaving, notices, requests, team
from services.conversations import finding
from services.conversations.records import LostLane
from services.errors import Conflict
from services.lanes import Claimed, Line
from services.letters import rendering
from services.limits import Limits
from tests.composition import make_settings, running
from tests.furnished import NAMES, QUESTIONS, furnish
from tests.services.owned import everything, fill, holding, naming
from tests.web.panel import PASSWORD, Browser, Site, hashed, open_site


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    """The product with its panel."""
    async with open_site(tmp_path, sqlite_url) as made:
        yield made


async def _owner(site: Site, name: str) -> tuple[models.User, Browser]:
    user = await site.person(name, password_hash=await hashed())
    return user, await site.signed_in(user)


async def _row(site: Site, user: models.User) -> models.User:
    async with site.core.db.read() as session:
        return await session.get_one(models.User, user.id)


async def test_the_letter_names_the_day_of_tashkent(site: Site) -> None:
    user, _ = await _owner(site, "Tunda")
    late = dt.datetime(2026, 11, 22, 20, 30, tzinfo=dt.UTC)
    async with site.core.db.write() as session:
        await leaving.ask(session, await session.get_one(models.User, user.id), now=late)
    async with site.core.db.read() as session:
        letter = (await session.scalars(select(models.Letter).where(models.Letter.user_id == user.id))).one()
    assert rendering.shown(letter.params["day"], "en") == "7 December 2026"


async def test_asked_for_and_taken_back(site: Site) -> None:
    """Bots rest and sessions, tokens end; who signs in is asked first, and keeping starts what had been stopped by it alone."""
    user, browser = await _owner(site, "Ketuvchi")
    stranger, other = await _owner(site, "Qoluvchi")
    works, rests = await site.bot_of(user, "Ishlaydi"), await site.bot_of(user, "Dam oladi")
    theirs = await site.bot_of(stranger, "Begona")
    await browser.post(f"/bots/{rests.id}/stop")
    async with site.core.db.write() as session:
        _, token = await accounts.new_api_token(session, user, "x")
    headers = {"Authorization": f"Bearer {token}"}
    second = await site.signed_in(user)
    for fields in ({}, {"current_password": "wrong"}, {"code": "123456"}):
        assert (await browser.post("/settings/delete", **fields)).status == 400
    page = await browser.post("/settings/delete", current_password=PASSWORD)
    assert (page.status, page.location) == (303, "/login?done=deletion_asked")
    row = await _row(site, user)
    assert row.delete_at is not None and abs(row.delete_at - utcnow() - dt.timedelta(days=14)) < dt.timedelta(minutes=1)
    for gone in (browser, second):
        assert (await gone.get("/dashboard")).status == 303
    assert (await site.browser().request("GET", "/api/v1/bots", headers=headers)).status == 401

    async def states() -> list[str]:
        async with site.core.db.read() as session:
            return [(await session.get_one(models.Bot, bot.id)).status for bot in (works, rests, theirs)]

    assert await states() == ["stopped", "stopped", "active"]
    again = site.browser()
    page = await again.post("/login", login="ketuvchi@example.uz", password=PASSWORD, next="/bots")
    assert page.location == "/settings/delete"
    assert 'action="/settings/delete/keep"' in (await again.get("/settings/delete")).text
    assert "/settings/delete" in (await again.get("/dashboard")).text
    assert (await again.post("/settings/delete/keep")).location == "/settings?done=account_kept"
    assert await states() == ["active", "stopped", "active"]
    assert (await _row(site, user)).delete_at is None
    assert (await site.browser().request("GET", "/api/v1/bots", headers=headers)).status == 200
    # Nobody else is gone, and time runs for nobody.
    site.core.now = lambda: utcnow() + dt.timedelta(days=15)
    await leaving.delete_due(site.core, {})
    assert (await _row(site, user)).email and (await _row(site, stranger)).email
    assert (await other.get("/dashboard")).status == 200


async def test_without_a_password_a_sign_in_of_a_moment_ago_is_asked_for(site: Site) -> None:
    user = await site.person("Parolsiz")
    browser = await site.signed_in(user)
    async with site.core.db.write() as session:
        row = await session.scalar(select(models.PanelSession).where(models.PanelSession.user_id == user.id))
        assert row is not None
        row.created_at = utcnow() - dt.timedelta(minutes=11)
    assert (await browser.post("/settings/delete")).status == 400
    fresh = await site.signed_in(user)
    assert (await fresh.post("/settings/delete")).status == 303


async def test_the_last_administrator_stays(site: Site) -> None:
    """Of two the one may go, then the other may not; two at once neither leave nobody."""
    async with site.core.db.read() as session:
        known = await accounts.administrators(session)
    people = [await site.person(f"Boshliq{n}") for n in range(2)]
    async with site.core.db.write() as session:
        for user_id in known:
            (await session.get_one(models.User, user_id)).role = "owner"
        for user in people:
            (await session.get_one(models.User, user.id)).role = "admin"
    first, last = [await site.signed_in(user) for user in people]
    assert (await first.post("/settings/delete")).status == 303
    assert (await last.post("/settings/delete")).status == 409
    site.core.now = lambda: utcnow() + dt.timedelta(days=15)
    await leaving.delete_due(site.core, {})
    async with site.core.db.read() as session:
        assert await accounts.administrators(session) == [people[1].id]


async def test_who_has_lost_the_lane_deletes_nothing_more(site: Site) -> None:
    """A worker that slept through its lease stops there: the one that took the job over goes on."""
    user, browser = await _owner(site, "Uyquchi")
    assert (await browser.post("/settings/delete", current_password=PASSWORD)).status == 303
    site.core.now = lambda: utcnow() + dt.timedelta(days=15)
    lost = Claimed("job:upkeep:delete_accounts", Line("jobs", "", ""), 1, [])
    with jobs.holding("somebody", lost), pytest.raises(LostLane):
        await leaving.delete_due(site.core, {})
    async with site.core.db.read() as session:
        assert await session.get(models.User, user.id) is not None
    await leaving.delete_due(site.core, {})
    async with site.core.db.read() as session:
        assert await session.get(models.User, user.id) is None


async def test_everything_goes_but_the_payments_and_they_name_nobody(tmp_path: Path, database_url: str) -> None:
    """No column of any table holds the account's id; what is another owner's is what it was. A second run changes nothing."""
    settings = make_settings(tmp_path, database_url)
    async with running(settings) as core:
        async with core.db.write() as session:
            helper = models.User(full_name="Yordamchi")
            session.add(helper)
            await session.flush()
            leaver = await fill(session, "Ketdi", helper=helper, email="ketdi@example.uz", telegram_id=4477)
            stays = await fill(session, "Qoldi", helper=helper, email="qoldi@example.uz")
            session.add(models.Member(owner_id=stays.id, user_id=leaver.id, role="operator"))
            session.add(models.DialogState(key="99:4477:4477"))
            session.add(models.AuditLog(actor_id=leaver.id, action="member_invited", details={"name": "Aziza"}))
            talk = await session.scalar(
                select(models.Conversation)
                .join(models.Bot, models.Bot.id == models.Conversation.bot_id)
                .where(models.Bot.owner_id == stays.id)
            )
            assert talk is not None
            talk.assignee_id = leaver.id
        async with core.db.read() as session:
            before = await everything(session)
        async with core.db.write() as session:
            await leaving.ask(session, leaver, now=core.now())
        await leaving.delete_due(core, {})
        async with core.db.read() as session:
            assert await session.get(models.User, leaver.id) is not None
        core.now = lambda: utcnow() + dt.timedelta(days=14, minutes=1)
        for _ in range(2):
            await leaving.delete_due(core, {})
        async with core.db.read() as session:
            after = await everything(session)
    # The audit log says that somebody did something, and no more; jobs that are done go with their month.
    left = naming({name: rows for name, rows in after.items() if name not in ("jobs", "lanes")}, leaver.id)
    assert set(left) == {"audit_log.actor_id", "audit_log.object_id"}
    assert all(row["details"] == {} for row in after["audit_log"] if leaver.id in (row["actor_id"], row["object_id"]))
    told = json.dumps({name: rows for name, rows in after.items() if name != "users"}, default=str)
    assert "Ketdi" not in told and "Aziza" not in told
    assert "ketdi@example.uz" not in json.dumps(after, default=str)
    assert [row["user_id"] for row in after["payments"]].count(None) == 1
    assert len(after["payments"]) == len(before["payments"])
    assert not [row for row in after["dialog_states"] if "4477" in row["key"]]
    assert [row["name"] for row in after["bots"]] == ["Qoldi bot"]
    theirs, kept = naming(before, stays.id), naming(after, stays.id)
    # The leaver worked for them.
    theirs["members.owner_id"] -= 1
    assert theirs == kept
    assert [row["assignee_id"] for row in after["conversations"]] == [None]
    assert len(after["messages"]) == 1 and len(after["documents"]) == 1


async def test_nothing_of_a_full_account_is_left_anywhere(tmp_path: Path, sqlite_url: str) -> None:
    """A year of everything: no column of any table names the owner, the bots, their customers, or holds a word of theirs."""
    async with running(make_settings(tmp_path, sqlite_url)) as core:
        async with core.db.write() as session:
            helper = models.User(full_name="Yordamchi")
            session.add(helper)
            await session.flush()
            leaver = await fill(session, "Ketdi", helper=helper, email="ketdi@example.uz", phone="+998901112233")
            bot = (await session.scalars(select(models.Bot).where(models.Bot.owner_id == leaver.id))).one()
            # Of what there is only one, who is furnished has another.
            await session.execute(delete(models.SupportTalk).where(models.SupportTalk.owner_id == leaver.id))
            await session.execute(delete(models.AccessRequest).where(models.AccessRequest.user_id == leaver.id))
            ids = await furnish(session, leaver, bot, core.crypto)
        async with core.db.read() as session:
            before = await everything(session)
        kept = {"coupon", "announcement", "letter", "section", "number", "waits"}
        own = [leaver.id, *(value for name, value in ids.items() if name not in kept)]
        own += [row["id"] for name in ("contacts", "messages", "channels") for row in before[name]]
        words = ["Ketdi", "ketdi@", "+998901112233", "+998901234567", *NAMES, *QUESTIONS, "Chinor", "chinor.example.uz"]
        words += ["Chilonzor", "Chegirma", "Kanal ulanmayapti", "Yordam bering", "Kamola", "Yiliga"]
        told = holding(before, [*own, *words])
        assert len({column.partition(".")[0] for column in told}) > 35, told
        core.now = lambda: utcnow() + dt.timedelta(days=14, minutes=1)
        async with core.db.write() as session:
            await leaving.ask(session, leaver, now=utcnow())
        await leaving.delete_due(core, {})
        while await finding.catch_up(core.db):
            pass
        async with core.db.read() as session:
            after = await everything(session)
    # "Ketdi brought" is somebody else.
    assert holding(after, words) == {"users.full_name"}
    # The audit log says that somebody did something; jobs that are done go with their month, empty lanes earlier.
    after = {name: rows for name, rows in after.items() if name not in ("jobs", "lanes")}
    assert holding(after, own) == {"audit_log.actor_id", "audit_log.object_id"}
    assert len(after["payments"]) == len(before["payments"])


async def test_one_account_that_cannot_go_does_not_hold_up_the_others(tmp_path: Path, sqlite_url: str) -> None:
    """What stands in its way is logged, and it goes when that is away."""
    async with running(make_settings(tmp_path, sqlite_url)) as core:
        async with core.db.write() as session:
            people = [models.User(full_name=f"Navbat{n}", delete_at=utcnow() - dt.timedelta(days=n)) for n in (3, 2, 1)]
            session.add_all(people)
            await session.flush()
            held = people[0].id
            # The database refuses to delete this one row.
            await session.execute(
                text(
                    f"CREATE TRIGGER held BEFORE DELETE ON users WHEN old.id = '{held}' "
                    "BEGIN SELECT RAISE(ABORT, 'held'); END"
                )
            )
        await leaving.delete_due(core, {})
        async with core.db.read() as session:
            assert [await session.get(models.User, person.id) is not None for person in people] == [True, False, False]
        async with core.db.write() as session:
            await session.execute(text("DROP TRIGGER held"))
        await leaving.delete_due(core, {})
        async with core.db.read() as session:
            assert await session.get(models.User, held) is None


async def test_what_others_were_told_of_the_person_goes_too(tmp_path: Path, sqlite_url: str) -> None:
    """Administrators of a request, an owner of whom had joined the team: neither keeps the name; what is of others stays."""
    settings = make_settings(tmp_path, sqlite_url)
    async with running(settings) as core:
        async with core.db.write() as session:
            boss = models.User(role="admin", full_name="Boshliq", email="boss@example.uz")
            owner = models.User(full_name="Ega")
            people = [models.User(full_name=name) for name in ("Ketuvchi Qodirov", "Qoluvchi")]
            session.add_all([boss, owner, *people])
            await session.flush()
            for person in people:
                await requests.ask(
                    session, settings, person, "basic", "monthly", note=f"{person.full_name} so‘raydi", now=core.now()
                )
            token = await team.invite(session, owner, "operator", "Kimdir", most=5)
            await team.accept(session, token, people[0])
            people[0].delete_at = utcnow() - dt.timedelta(days=1)
        await leaving.delete_due(core, {})
        async with core.db.read() as session:
            after = await everything(session)
    told = json.dumps(after, default=str, ensure_ascii=False)
    assert "Qodirov" not in told
    assert "Qoluvchi so‘raydi" in told
    # The administrator of the start, if there is one, and the one of this test.
    kinds = [row["kind"] for row in after["letters"] if row["user_id"] == boss.id]
    assert kinds == ["request_received"]


def _opened(data: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    return archive


async def test_everything_as_a_file_and_nothing_of_others(site: Site) -> None:
    """JSON, tables and documents as they came; no secret, no formula, no path that leads out, no other owner's anything."""
    async with site.core.db.write() as session:
        user = await fill(session, "Men", email="men@example.uz", password_hash="$argon2id$CANARYhash")
        other = await fill(session, "Begona", email="begona@example.uz")
        bot = await session.scalar(select(models.Bot).where(models.Bot.owner_id == user.id))
        talk = (
            await session.scalar(select(models.Conversation).where(models.Conversation.bot_id == bot.id))
            if bot
            else None
        )
        assert bot is not None and talk is not None
        bot.name, bot.openai_key = "../../etc: Men", "CANARYkey"
        contact = await session.get_one(models.Contact, talk.contact_id)
        contact.name = "=HYPERLINK(1)"
        for n in range(450):
            session.add(models.Message(conversation_id=talk.id, author="customer", text=f"Savol {n} “қ”"))
        for _ in range(2):
            document = models.Document(bot_id=bot.id, name="../narx.csv", kind="csv")
            session.add(document)
            await session.flush()
            session.add(models.DocumentContent(document_id=document.id, content=b"\x00narx"))
    browser = await site.signed_in(user)
    site.core.limits = Limits()
    async with browser.http.post(site.base + "/settings/export", data={"csrf": browser.csrf}) as answer:
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="botfactory-')
        data = await answer.read()
    archive = _opened(data)
    names = archive.namelist()
    assert all(".." not in name.split("/") and not name.startswith("/") for name in names)
    folder = next(name for name in names if name.endswith("/bot.json")).removesuffix("/bot.json")
    about = json.loads(archive.read(f"{folder}/bot.json"))
    assert about["system_prompt"] == "Men prompt"
    (line,) = archive.read(f"{folder}/conversations.jsonl").decode().splitlines()
    told = json.loads(line)
    assert len(told["messages"]) == 451 and told["contact"]["name"] == "=HYPERLINK(1)"
    assert [note["text"] for note in told["notes"]] == ["Men noted"] and told["labels"] == ["VIP"]
    rows = list(csv.reader(io.StringIO(archive.read(f"{folder}/messages.csv").decode("utf-8-sig"))))
    assert len(rows) == 452 and {row[3] for row in rows} >= {"text", "Savol 0 “қ”", "Savol 449 “қ”", "Men wrote"}
    contacts = list(csv.reader(io.StringIO(archive.read(f"{folder}/contacts.csv").decode("utf-8-sig"))))
    assert contacts[1][2] == "'=HYPERLINK(1)"
    kept = sorted(name for name in names if name.startswith(f"{folder}/documents/"))
    assert len(kept) == 3
    assert [archive.read(name) for name in kept if "narx" in name] == [b"\x00narx"] * 2
    assert json.loads(archive.read("account.json"))["email"] == "men@example.uz"
    (payment,) = json.loads(archive.read("payments.json"))
    assert payment["user_id"] == user.id
    whole = b"".join(archive.read(name) for name in names).decode("utf-8", "replace")
    for secret in ("CANARY", "password_hash", "totp_secret", "credentials", "Begona", other.id, "begona@"):
        assert secret not in whole, secret
    for _ in range(2):
        assert (await browser.post("/settings/export")).status == 200
    assert (await browser.post("/settings/export")).status == 429
    assert (await site.browser().post("/settings/export")).status == 401


async def test_asking_twice_is_asking_once(site: Site) -> None:
    """The day stays, one letter is written; who is not there any more is nobody's trouble."""
    user = await site.person("Ikkimarta")
    async with site.core.db.write() as session:
        await leaving.ask(session, user, now=utcnow())
    first = (await _row(site, user)).delete_at
    async with site.core.db.write() as session:
        assert await leaving.ask(session, user, now=utcnow() + dt.timedelta(days=3)) == []
    assert (await _row(site, user)).delete_at == first
    async with site.core.db.read() as session:
        letters = await session.scalar(select(func.count()).where(models.Letter.user_id == user.id))
    assert letters == 1
    await leaving.delete_account(site.core, "0" * 26)
    with pytest.raises(Conflict):
        async with site.core.db.write() as session:
            boss = models.User(role="admin", full_name="Yolg‘iz")
            for user_id in await accounts.administrators(session):
                (await session.get_one(models.User, user_id)).role = "owner"
            session.add(boss)
            await session.flush()
            await leaving.ask(session, boss, now=utcnow())


async def test_an_export_that_breaks_off_is_seen_to_be_cut(site: Site) -> None:
    """Part of it is sent when a row cannot be read: whoever waits for the rest is told at once that there is none."""
    user, browser = await _owner(site, "Yarim")
    bot = await site.bot_of(user)
    async with site.core.db.write() as session:
        await notices.open_notice(session, user.id, "document_failed", key="k", bot_id=bot.id, params={"document": "x"})
        await session.execute(text("UPDATE notices SET told_at = 'spoiled', resolved_at = 1"))
    await browser.get("/settings")
    with pytest.raises(aiohttp.ClientError):
        async with (
            asyncio.timeout(20),
            browser.http.post(site.base + "/settings/export", data={"csrf": browser.csrf}) as answer,
        ):
            await answer.read()
    assert (await browser.get("/settings")).status == 200
