"""The installation as the administrator sees it: what waits, what was set aside, errors, backups."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import sqlite3
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from db import models
from db.base import utcnow
from db.engine import DatabaseUnavailable
from services import errorbook, job_names, jobs, system, upkeep
from tests import servers
from tests.composition import FAQ, add_document, questions_put
from tests.conveyor.harness import until
from tests.servers import ROOT
from tests.web.panel import PASSWORD, Browser, Page, Site, hashed, open_site, web_talk

WORDS = "Mening sirim: 4242"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("system")
    async with open_site(
        folder, servers_run.new_sqlite(folder), overrides={"queue": {"max_attempts": 1, "idle_poll_s": 0.05}}
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator("Boss", password_hash=await hashed())


def said(page: Page) -> str:
    return " ".join(page.visible().split())


async def rows(site: Site, query: Any) -> list[Any]:
    async with site.core.db.read() as session:
        return list((await session.execute(query)).all())


async def audited(site: Site, action: str) -> list[models.AuditLog]:
    return [row[0] for row in await rows(site, select(models.AuditLog).where(models.AuditLog.action == action))]


async def test_it_shows_what_is_slow_and_what_does_not_work(site: Site, boss: Browser) -> None:
    owner = await site.person("Sekin")
    bot = await site.bot_of(owner, "Sekin bot")
    now = utcnow()
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot)
        for number in range(20):
            asked = now - dt.timedelta(seconds=300 - number * 10)
            took = 42 if number == 18 else 1
            for author, at in (("customer", asked), ("bot", asked + dt.timedelta(seconds=took))):
                session.add(models.Message(conversation_id=talk.id, author=author, text="?", created_at=at))
                await session.flush()
        session.add(
            models.Channel(bot_id=bot.id, kind="telegram", external_id="777", username="sekin_bot", status="refused")
        )
        # Held by another process for long, so that nobody here works it off meanwhile.
        held = {"kind": "bulk", "holder": "elsewhere", "lease_until": 4e12, "waiting_since": now.timestamp() - 120}
        session.add_all(models.Lane(key=f"bulk:{n}", pending=4 + n, **held) for n in range(2))
    with questions_put(site.core) as asked_of_one:
        page = await boss.get("/admin/system")
    shown = said(page)
    assert page.status == 200
    assert re.search(r"Broadcasts 9 in 2 lines · waiting since: \S", shown)
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None and f"Version {version[1]}, running since" in shown
    assert "Sekin bot 20 answers 1" in shown
    assert "Sekin bot Telegram Sekin · Telegram no longer accepts the token." in shown
    assert f'<a href="/admin/owners/{owner.id}">Sekin</a>' in page.text
    for number in range(3):
        other = await site.bot_of(await site.person(f"Buzuq{number}"), f"Buzuq bot {number}")
        async with site.core.db.write() as session:
            session.add(models.Channel(bot_id=other.id, kind="telegram", external_id=f"77{number}", status="conflict"))
    with questions_put(site.core) as asked_of_four:
        assert "Buzuq bot 2 Telegram Buzuq2 · " in said(await boss.get("/admin/system"))
    assert len(asked_of_four) == len(asked_of_one), "whose they are is not asked one by one"
    assert "Database Works" in shown and "Gemini Not set up" in shown and "nothing waits" in shown
    assert "Deleting what is no longer needed" in shown and "next:" in shown
    async with site.core.db.write() as session:
        await session.execute(delete(models.Lane).where(models.Lane.holder == "elsewhere"))
    # Every kind of job has a name for people.
    assert set(site.core.job_handlers) - {"print"} <= set(job_names.NAMES)


async def test_a_job_that_was_given_up_is_tried_again_or_ended(site: Site, boss: Browser) -> None:
    """It keeps what it needs; the page says why it failed; both ends are in the audit log."""
    core, seen, broken = site.core, [], [True]
    bot = await site.bot_of(await site.person("Chop"), "Chop etuvchi")

    async def work(payload: Any) -> None:
        seen.append(dict(payload))
        if broken:
            raise RuntimeError("the printer is on fire")

    core.job_handlers["print"] = work
    async with core.db.write() as session:
        for n in (1, 2):
            await jobs.add(session, "print", {"n": n}, lane="printing", owner_id=bot.owner_id, bot_id=bot.id)
    core.bell.ring("jobs")
    dead = select(models.Job.id).where(models.Job.kind == "print", models.Job.status == "dead").order_by(models.Job.id)

    async def both() -> Any:
        found = await rows(site, dead)
        return found if len(found) == 2 else None

    (first,), (second,) = await until(both)
    assert "Chop etuvchi · RuntimeError: the printer is on fire" in said(await boss.get("/admin/system"))
    broken.clear()
    assert (await boss.post(f"/admin/system/jobs/{first}/retry")).location.startswith("/admin/system")
    done = select(models.Job.id).where(models.Job.id == first, models.Job.status == "done")
    await until(lambda: rows(site, done))
    assert [each["n"] for each in seen] == [1, 2, 1]
    assert (await boss.post(f"/admin/system/jobs/{first}/retry")).status == 404
    assert (await boss.post(f"/admin/system/jobs/{second}/discard")).status == 303
    assert not await rows(site, dead)
    assert "None. Work in the background" in said(await boss.get("/admin/system"))
    assert [row.object_id for row in await audited(site, "job_retried")] == [str(first)]
    assert [row.object_id for row in await audited(site, "job_discarded")] == [str(second)]
    assert (await rows(site, select(models.Lane.pending).where(models.Lane.key == "job:printing")))[0][0] == 0


async def test_all_that_was_given_up_is_tried_again_by_one_press(site: Site, boss: Browser) -> None:
    """After an outage nobody presses a hundred times: in the order in which it came, each noted; what cannot go stays."""
    core, seen, broken = site.core, [], [True]
    bot = await site.bot_of(await site.person("Uzilish"), "Uzilish bot")

    async def work(payload: Any) -> None:
        if broken:
            raise RuntimeError("away")
        seen.append(payload["n"])

    core.job_handlers["print"] = work
    async with core.db.write() as session:
        for n in range(4):
            await jobs.add(session, "print", {"n": n}, lane="printing", owner_id=bot.owner_id, bot_id=bot.id)
    core.bell.ring("jobs")
    dead = select(models.Job.id).where(models.Job.kind == "print", models.Job.status == "dead")

    async def all_dead() -> Any:
        return len(await rows(site, dead)) == 4

    await until(all_dead)
    assert 'action="/admin/system/jobs/retry"' in (await boss.get("/admin/system")).text
    broken.clear()
    before = len(await audited(site, "job_retried"))
    assert (await boss.post("/admin/system/jobs/retry")).status == 303

    async def all_done() -> Any:
        return len(seen) == 4

    await until(all_done)
    assert seen == list(range(4)) and not await rows(site, dead)
    assert len(await audited(site, "job_retried")) == before + 4
    assert (await boss.post("/admin/system/jobs/retry")).status == 404
    assert 'action="/admin/system/jobs/retry"' not in (await boss.get("/admin/system")).text


async def test_a_message_to_the_products_own_bot_cannot_be_tried_again(site: Site, boss: Browser) -> None:
    facts = {"channel_id": "x" * 26, "external_id": "5", "status": "dead", "error": "ValueError: 4242", "attempts": 3}
    async with site.core.db.write() as session:
        item = models.InboxItem(lane="in:factory:1", payload="", **facts)
        session.add(item)
    page = await boss.get("/admin/system")
    assert f"messages/{item.id}/discard" in page.text and f"messages/{item.id}/retry" not in page.text
    assert (await boss.post(f"/admin/system/messages/{item.id}/retry")).status == 409
    assert (await boss.post("/admin/system/messages/retry")).status == 404
    assert (await boss.post(f"/admin/system/messages/{item.id}/discard")).status == 303
    assert not (await rows(site, select(models.InboxItem.id).where(models.InboxItem.status == "dead")))


async def test_errors_alike_are_one_row_without_peoples_words(site: Site, boss: Browser) -> None:
    book = site.core.errors

    def fail(words: str) -> None:
        try:
            int(words)
        except ValueError as error:
            book.take({"level": "error", "event": "job_failed", "kind": "print", "text": words, "exc_info": error})

    for n in range(3):
        fail(f"{WORDS}{n}")
    book.take({"level": "info", "event": "quiet", "exc_info": ValueError(WORDS)})
    book.take({"level": "warning", "event": "warned", "reason": f"said {WORDS}"})
    book.take({"level": "warning", "event": "warned_badly", "reason": WORDS, "exc_info": ValueError(WORDS)})
    await book.flush(site.core)
    fail(WORDS)
    await book.flush(site.core)
    found = {row[0].event: row[0] for row in await rows(site, select(models.ErrorRecord))}
    assert found.keys() >= {"job_failed", "warned_badly"} and not found.keys() & {"quiet", "warned"}
    error = found["job_failed"]
    assert error.count == 4 and "kind=print" in error.detail and "ValueError" in error.detail
    assert "tests/web/test_admin_system.py" in error.detail
    assert "sirim" not in "".join(row.detail + row.event for row in found.values())
    page = await boss.get("/admin/system/errors")
    assert "job_failed" in page.text and "4 times" in said(page)
    assert (await boss.post(f"/admin/system/errors/{error.fingerprint}/hide")).status == 303
    assert error.fingerprint not in (await boss.get("/admin/system/errors")).text
    assert error.fingerprint in (await boss.get("/admin/system/errors?hidden=1")).text
    assert [row.details["event"] for row in await audited(site, "error_hidden")] == ["job_failed"]
    # One that comes again is news: it is on the list again.
    fail(WORDS)
    await book.flush(site.core)
    assert error.fingerprint in (await boss.get("/admin/system/errors")).text
    assert error.fingerprint not in (await boss.get("/admin/system/errors?hidden=1")).text
    async with site.core.db.write() as session:
        (await session.get_one(models.ErrorRecord, error.fingerprint)).last_at = utcnow() - dt.timedelta(days=31)
    await upkeep.clean_up(site.core, {})
    assert not await rows(site, select(models.ErrorRecord).where(models.ErrorRecord.event == "job_failed"))


@pytest.mark.parametrize(
    "address",
    [
        "/errors?cursor=x",
        "/errors?cursor=2026-11-23",
        f"/errors?cursor=2026-11-23T00:00:00~{'a' * 64}",
        f"/errors?cursor=0001-01-01T00:00:00%2B14:00~{'a' * 64}",
        "/errors?cursor=2026-11-23T00:00:00%2B00:00~A",
        "?messages=x",
        "?jobs=-1",
    ],
)
async def test_a_place_in_a_list_that_there_is_not_is_said_to_be_none(boss: Browser, address: str) -> None:
    page = await boss.get(f"/admin/system{address}")
    assert page.status == 400 and "start again from the first page" in said(page)


def test_every_library_and_thread_is_heard_and_a_broken_listener_harms_nobody() -> None:
    program = textwrap.dedent(
        """
        import logging, json, structlog, threading
        from services import logs
        from services.errorbook import Book
        logs.set_up("info", "json")
        book = Book()
        logs.listen(book.take)
        logs.listen(lambda event: 1 / 0)
        structlog.get_logger("ours").error("broke", reason="no_money")
        logging.getLogger("lib").error("failed for %s", "Aziza opa")
        try:
            raise ValueError("Aziza opa")
        except ValueError as error:
            thread = threading.Thread(target=lambda: structlog.get_logger("ours").warning("odd", exc_info=error))
            thread.start(); thread.join()
        print(json.dumps([[note.event, note.detail] for note in book._notes.values()]))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    notes = json.loads(done.stdout)
    assert [event for event, _ in notes] == ["broke", "lib: failed for %s", "odd"]
    assert notes[0][1] == "reason=no_money" and "ValueError" in notes[2][1] and "Aziza" not in done.stdout
    # And the lines were written all the same.
    assert done.stderr.count('"event"') == 3


async def test_an_error_that_comes_while_the_database_is_away_is_counted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = {"level": "error", "event": "came_while_away"}
    book = errorbook.Book()
    book.take(line)

    async def away(*_: Any) -> None:
        book.take(line)
        raise DatabaseUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(errorbook, "_fold", away)
        with pytest.raises(DatabaseUnavailable):
            await book.flush(site.core)
    await book.flush(site.core)
    [error] = await rows(site, select(models.ErrorRecord).where(models.ErrorRecord.event == line["event"]))
    assert error[0].count == 2


async def test_a_backup_is_whole_and_leaves_only_with_a_password(site: Site, boss: Browser) -> None:
    owner = await site.person("Zaxira")
    bot = await site.bot_of(owner, "Zaxira bot")
    await add_document(site.core, bot, "savollar.txt", FAQ.encode())
    assert (await boss.post("/admin/system/backups")).status == 303
    place = site.core.settings.data_dir / "backups"

    async def made() -> Any:
        return list(place.glob("botfactory-*.zip"))

    [path] = await until(made)
    assert path.name in (await boss.get("/admin/system")).text
    assert (await boss.get("/admin/system/backups")).location == "/admin/system#backups"
    assert path.name in (await boss.get("/admin/system/backups", **{"HX-Request": "true"})).text
    here = f"/admin/system/backups/{path.name}"
    wrong = await boss.post(f"{here}/download", current_password="not it")
    assert wrong.status == 400 and "The current password is wrong." in said(wrong)
    async with boss.http.post(
        boss.base + f"{here}/download", data={"csrf": boss.csrf, "current_password": PASSWORD}
    ) as answer:
        assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
        archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert set(archive.namelist()) == {"about.json", "botfactory.db", "encryption.keys", "secret.key"}
    (place / "copy.db").write_bytes(archive.read("botfactory.db"))
    with sqlite3.connect(place / "copy.db") as copy:
        assert copy.execute("SELECT name FROM bots WHERE id = ?", (bot.id,)).fetchall() == [("Zaxira bot",)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for name in ("..%2F..%2Fsecret.key", "secret.key", "copy.db"):
        assert (await boss.post(f"/admin/system/backups/{name}/download", current_password=PASSWORD)).status == 404
        assert (await boss.post(f"/admin/system/backups/{name}/delete")).status == 404
    assert (await boss.post(f"{here}/delete")).status == 303
    assert not path.exists() and not list(place.glob(".making*"))
    for action in ("backup_begun", "backup_downloaded", "backup_deleted"):
        assert len(await audited(site, action)) == 1


def _command(url: str, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bot.py", "backup", str(target)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DATA_DIR": str(target.parent / "data"), "DATABASE_URL": url, **environment},
        capture_output=True,
        text=True,
    )


def test_the_command_makes_the_same_backup(sqlite_url: str, tmp_path: Path) -> None:
    target = tmp_path / "out" / "all.zip"
    done = _command(sqlite_url, target)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(target) as archive:
        assert archive.read("botfactory.db").startswith(b"SQLite format 3")
        assert json.loads(archive.read("about.json"))["database"] == "sqlite"
    assert target.stat().st_mode & 0o077 == 0 and [path.name for path in target.parent.iterdir()] == ["all.zip"]


async def test_only_the_last_backups_are_kept(site: Site, boss: Browser) -> None:
    keep, place = site.core.settings.database.keep_backups, site.core.settings.data_dir / "backups"
    place.mkdir(exist_ok=True)
    old = [place / f"botfactory-20260101-0000{n:02}.zip" for n in range(keep + 3)]
    for path in (*old, place / "mine.zip"):
        path.write_bytes(b"x")
    await boss.post("/admin/system/backups")

    async def made() -> Any:
        return [path for path in place.glob("botfactory-*.zip") if path not in old]

    [new] = await until(made)

    async def few() -> bool:
        return len(list(place.glob("botfactory-*.zip"))) == keep

    await until(few)
    assert {path for path in old if path.exists()} == set(old[4:]) and new.exists() and (place / "mine.zip").exists()
    assert f"The last {keep} are kept." in said(await boss.get("/admin/system"))
    for path in place.iterdir():
        path.unlink()


async def test_the_page_asks_little_and_reads_no_whole_queue(site: Site, boss: Browser) -> None:
    with questions_put(site.core) as few:
        await boss.get("/admin/system")
    async with site.core.db.write() as session:
        session.add_all(
            models.InboxItem(
                lane=f"in:y:{n}",
                channel_id="y" * 26,
                external_id=str(n),
                payload="{}",
                status="dead" if n % 3 else "done",
                error="ValueError: x",
            )
            for n in range(120)
        )
    with questions_put(site.core) as many:
        page = await boss.get("/admin/system")
    assert len(many) <= len(few) + 2 < 60 and "?messages=" in page.text
    async with site.core.db.read() as session:
        for query in (
            "SELECT id FROM inbox WHERE inbox.status = 'dead' ORDER BY id DESC LIMIT 20",
            "SELECT id FROM jobs WHERE jobs.status = 'dead' ORDER BY id DESC LIMIT 20",
        ):
            plan = " ".join(str(row) for row in await session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert "_dead" in plan, plan
        first, following = await system.messages(session)
        second, _ = await system.messages(session, following)
    assert len(first) == len(second) == system.PAGE and not {each.id for each in first} & {each.id for each in second}
