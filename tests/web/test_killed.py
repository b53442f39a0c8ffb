"""kill -9 inside the joining of two accounts and inside the deletion of one: all is as before, or wholly done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import delete, select

from db import models
from db.base import Base, utcnow
from db.engine import Database
from services import accounts, codes, jobs, leaving
from services.settings import Settings
from tests import servers
from tests.composition import make_settings, running
from tests.conveyor.nursery import Child, Nursery, nursery
from tests.services.owned import DAY, everything, fill, naming
from tests.web.panel import Browser, Page

Rows = dict[str, list[dict[str, Any]]]
KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="module")
async def children(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    """Processes of the product to kill."""
    async with nursery(tmp_path_factory.mktemp("children")) as opened:
        yield opened


def _settings(folder: Path, url: str) -> Settings:
    environment = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": "9"}
    return make_settings(folder, url, environment=environment, overrides={"queue": {"lease_s": 1, "max_attempts": 9}})


async def _rows(url: str) -> Rows:
    db = Database(url, pool_size=1)
    try:
        async with db.read() as session:
            return await everything(session)
    finally:
        await db.close()


def _orphans(rows: Rows) -> Counter[str]:
    """Return the columns that name a row which is not there, and those that name a person or bot that is not."""
    there = {name: {row.get("id") for row in each} for name, each in rows.items()}
    found: Counter[str] = Counter()
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            column, other = key.parent.name, key.column
            known = {row[other.name] for row in rows[other.table.name]}
            found.update(
                f"{table.name}.{column}"
                for row in rows[table.name]
                if row[column] is not None and row[column] not in known
            )
    for name, pointer, other_name in (
        ("conversations", "assignee_id", "users"),
        ("messages", "author_id", "users"),
        ("notices", "bot_id", "bots"),
    ):
        known = there[other_name]
        found.update(f"{name}.{pointer}" for row in rows[name] if row[pointer] and row[pointer] not in known)
    return found


def _kept(rows: Rows, *without: str) -> Rows:
    """Return rows without what signing in and the conveyor itself write."""
    passing = {"panel_sessions", "login_links", "audit_log", "jobs", "lanes", "letters", *without}
    return {name: each for name, each in rows.items() if name not in passing}


async def _signed_in(url: str, child: Child, user_id: str) -> Browser:
    """Sign a person in at the process."""
    host, port = next(each for each in child.events if each["event"] == "ready")["address"]
    browser = Browser(f"http://{host}:{port}")
    db = Database(url, pool_size=1)
    async with db.write() as session:
        token = await accounts.login_link(session, await session.get_one(models.User, user_id))
    await db.close()
    await browser.get(f"/login/link?token={token}")
    assert (await browser.post("/login/link", token=token)).status == 303
    await browser.get("/settings/email")
    return browser


async def _enter(browser: Browser, code: str) -> Page | None:
    try:
        return await browser.post("/settings/email/code", code=code)
    except aiohttp.ClientError:
        return None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_process_that_dies_while_two_accounts_become_one(
    kind: str, tmp_path: Path, servers_run: servers.Run, children: Nursery
) -> None:
    """Before the commit nothing has moved and the code still works; after it all has, though nobody was told."""
    with servers_run.database(kind, tmp_path) as url:
        settings = _settings(tmp_path, url)
        async with running(settings, "web") as core, core.db.write() as session:
            helper = models.User(full_name="Yordamchi")
            session.add(helper)
            await session.flush()
            web = await fill(session, "Web", helper=helper, email="web@example.uz", email_confirmed_at=utcnow())
            telegram = await fill(session, "Tg", helper=helper, telegram_id=77, phone="+998901112233")
            stranger = await fill(session, "Other", helper=helper, email="other@example.uz", telegram_id=78)
            # Those of a moment ago would hold the letter up.
            await session.execute(delete(models.AccountCode))
            keys = codes.Keys(core.secret, core.crypto)
            await codes.send(session, keys, telegram, "join", "web@example.uz", now=utcnow())
            letter = await session.scalar(
                select(models.Letter).where(models.Letter.kind == "join", models.Letter.user_id == telegram.id)
            )
            assert letter is not None
            code = core.crypto.decrypt(letter.secret or "")["code"]
        before = await _rows(url)
        for point in ("accounts_joined", "accounts_kept"):
            child = await children.start(settings, role="web", point=point)
            browser = await _signed_in(url, child, telegram.id)
            entered = asyncio.create_task(_enter(browser, code))
            await child.hears("paused")
            await child.kill()
            assert await entered is None
            await browser.close()
            after = await _rows(url)
            assert not _orphans(after)
            assert naming(_kept(after), stranger.id) == naming(_kept(before), stranger.id)
            if point == "accounts_joined":
                assert _kept(after) == _kept(before)
        assert set(naming(_kept(after), telegram.id)) == set()
        assert {row["owner_id"] for row in after["bots"]} == {web.id, stranger.id}
        assert len(after["messages"]) == len(before["messages"])
        assert len(after["payments"]) == len(before["payments"])
        child = await children.start(settings, role="web")
        browser = await _signed_in(url, child, web.id)
        text = (await browser.get("/bots")).text
        assert "Web bot" in text and "Tg bot" in text and "Other bot" not in text
        await browser.close()
        await child.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_process_that_dies_while_an_account_is_deleted(
    kind: str, tmp_path: Path, servers_run: servers.Run, children: Nursery
) -> None:
    """Wherever it dies the account is still there to be deleted, and the next process brings it to its end."""
    with servers_run.database(kind, tmp_path) as url:
        settings = _settings(tmp_path, url)
        async with running(settings, "web") as core, core.db.write() as session:
            helper = models.User(full_name="Yordamchi")
            session.add(helper)
            await session.flush()
            leaver = await fill(session, "Ketdi", helper=helper, email="ketdi@example.uz", telegram_id=4477)
            session.add(models.Bot(owner_id=leaver.id, name="Ikkinchi bot"))
            stays = await fill(session, "Qoldi", helper=helper, email="qoldi@example.uz")
            leaver.delete_at = utcnow() - DAY
            await jobs.add(session, leaving.DELETE_JOB, {}, lane="leaving")
        before = await _rows(url)
        for point in ("leaving_begun", "leaving_bot_gone", "leaving_forgotten"):
            child = await children.start(settings, point=point)
            await child.hears("paused")
            await child.kill()
            rows = await _rows(url)
            assert not _orphans(rows), point
            (row,) = [each for each in rows["users"] if each["id"] == leaver.id]
            assert row["delete_at"] is not None and row["email"] == "ketdi@example.uz"
            assert naming(_kept(rows), stays.id) == naming(_kept(before), stays.id)
        child = await children.start(settings)
        async with asyncio.timeout(60):
            while any(row["id"] == leaver.id for row in rows["users"]):
                await asyncio.sleep(0.1)
                rows = await _rows(url)
        await child.stop()
        assert not _orphans(rows)
        assert set(naming(_kept(rows), leaver.id)) == set()
        assert [row["name"] for row in rows["bots"]] == ["Qoldi bot"]
        assert naming(_kept(rows), stays.id) == naming(_kept(before), stays.id)
        assert len(rows["payments"]) == len(before["payments"])
