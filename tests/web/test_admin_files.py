"""Files of all owners as the administrator sees them: found, added up, taken as a table, and read again."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, insert, select

from db import models
from db.base import first_id, new_id, utcnow
from services import all_files
from services.knowledge import documents
from tests import servers
from tests.composition import questions_put
from tests.web.panel import Browser, Page, Site, open_site, web_talk

FEW, MANY = 60, 600


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("files")
    async with open_site(folder, servers_run.new_sqlite(folder), overrides={"media": {"keep_days": 100}}) as running:
        yield running


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator("Boshliq")


def _number(page: Page, name: str) -> str:
    """Return the number that stands under a name above the list."""
    return page.text.partition(f'number-name">{name}</span><b class="number-value">')[2].partition("<")[0]


async def test_documents_of_all_are_found(site: Site, boss: Browser) -> None:
    """Each filter leaves what it should, in the order that was asked for; nothing of what stands in them is shown."""
    ali, vali = await site.person("Ali"), await site.person("Vali")
    mine, theirs = await site.bot_of(ali, "Ali nonlari"), await site.bot_of(vali, "Vali gullari")
    gone = await site.bot_of(vali, "Yo‘q bot")
    old = utcnow() - dt.timedelta(days=90)
    async with site.core.db.write() as session:
        price = models.Document(
            bot_id=mine.id, name="Нархлар.pdf", kind="pdf", size=3000, status="ready", chunk_count=7
        )
        broken = models.Document(bot_id=mine.id, name="menyu.docx", kind="docx", size=9_000_000, status="failed")
        broken.error_code = "damaged"
        slow = models.Document(
            bot_id=theirs.id, name="gullar <b>.csv", kind="csv", size=20, status="processing", progress=40
        )
        past = models.Document(
            id=first_id(old), bot_id=theirs.id, name="eski.txt", kind="txt", status="ready", created_at=old
        )
        hidden = [
            models.Document(bot_id=mine.id, name="o‘chgan.pdf", kind="pdf", status="ready", deleted_at=utcnow()),
            models.Document(bot_id=gone.id, name="botsiz.pdf", kind="pdf", status="failed"),
        ]
        session.add_all([price, broken, slow, past, *hidden])
        (await session.get_one(models.Bot, gone.id)).deleted_at = utcnow()
        await session.flush()
        session.add(
            models.Chunk(bot_id=mine.id, document_id=price.id, position=0, text="SIRLI MATN", stems="", grams="")
        )
        await documents.add_answer(session, mine, "Sirli savol?", "Sirli javob.")
    names = {"price": "Нархлар.pdf", "broken": "menyu.docx", "slow": "gullar &lt;b&gt;.csv", "past": "eski.txt"}

    async def found(query: str) -> list[str]:
        page = await boss.get(f"/admin/files?{query}")
        assert page.status == 200, page.visible()
        assert not any(word in page.text for word in ("SIRLI", "Sirli", "o‘chgan", "botsiz", "answers"))
        return [key for row in page.rows() for key, name in names.items() if name in row]

    assert await found("") == ["slow", "broken", "price", "past"]
    assert await found("order=failed") == ["broken", "slow", "price", "past"]
    assert await found("order=size") == ["broken", "price", "slow", "past"]
    assert await found("state=failed") == ["broken"] and await found("state=processing") == ["slow"]
    assert await found("kind=pdf") == ["price"] and await found("kind=docx&state=ready") == []
    assert await found("owner=vali@example.uz") == ["slow", "past"] == await found(f"owner={vali.id}")
    assert await found(f"bot={mine.id}") == ["broken", "price"] and await found(f"bot={gone.id}") == []
    assert await found(f"bot={mine.id}&owner={vali.id}") == []
    assert await found("name=нарх") == ["price"] == await found("name=НАРХ")
    assert await found("name=Menyu") == ["broken"]
    for odd in ("%25", "_", "%27;--", "x" * 190):
        assert await found(f"name={odd}") == [], odd
    day = old.astimezone(dt.timezone(dt.timedelta(hours=5))).date().isoformat()
    assert await found(f"since={day}&until={day}") == ["past"]
    for wrong in (
        "since=kecha",
        "state=stored",
        "kind=exe",
        "order=luck",
        "cursor=x",
        "order=size&cursor=1",
        "order=failed&cursor=x-y",
    ):
        assert (await boss.get(f"/admin/files?{wrong}")).status == 400, wrong
    page = await boss.get(f"/admin/files?owner={ali.id}")
    shown = page.visible().replace("\xa0", " ")
    for words in ("The file is damaged", "7 passages", "Ali nonlari", "8.6 MB", "See the panel as this owner"):
        assert words in shown, words
    assert _number(page, "Found") == "2" and _number(page, "Size") == "8.6 MB"
    assert _number(page, "Could not be read") == "1"
    assert f"/admin/owners/{ali.id}" in page.text and f"/bots/{mine.id}/documents/" not in page.text
    sheet = await boss.get(f"/admin/files/export.csv?owner={ali.id}&order=size")
    table = list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))
    assert [row[5:9] for row in table[1:]] == [
        ["menyu.docx", "DOCX", "9000000", "Could not be read"],
        ["Нархлар.pdf", "PDF", "3000", "Ready"],
    ]
    assert (await boss.get("/admin/files/export.xlsx")).headers["Content-Type"].endswith("sheet")
    async with site.core.db.read() as session:
        log = models.AuditLog
        rows = list(await session.scalars(select(log).where(log.action == "files_exported").order_by(log.id)))
    assert [row.details.get("owner") for row in rows] == [ali.id, None]


async def test_a_document_is_read_again(site: Site, boss: Browser) -> None:
    """Where reading again may help there is a button: it queues the document, and the log says who did it; otherwise none."""
    owner = await site.person("Qayta")
    bot = await site.bot_of(owner, "Qayta bot")
    async with site.core.db.write() as session:
        failed = models.Document(bot_id=bot.id, name="katta.txt", kind="txt", status="failed", error_code="timeout")
        damaged = models.Document(bot_id=bot.id, name="buzuq.pdf", kind="pdf", status="failed", error_code="damaged")
        session.add_all([failed, damaged])
        await session.flush()
        session.add(models.DocumentContent(document_id=failed.id, content="Non besh ming so‘m.".encode()))
    query = f"?owner={owner.id}&state=failed"
    page = await boss.get(f"/admin/files{query}")
    assert f"/admin/files/{failed.id}/retry" in page.text and f"/admin/files/{damaged.id}/retry" not in page.text
    done = await boss.post(f"/admin/files/{failed.id}/retry{query}")
    assert done.location == f"/admin/files{query}&done=retry"
    again = await boss.post(f"/admin/files/{failed.id}/retry{query}")
    assert again.status == 409 and "could not be read" in again.visible() and "buzuq.pdf" in again.text
    async with site.core.db.read() as session:
        log = models.AuditLog
        [row] = list(await session.scalars(select(log).where(log.action == "document_retried")))
        after = await session.get_one(models.Document, failed.id)
    assert row.object_id == failed.id and row.details == {"owner": owner.id, "bot": "Qayta bot", "name": "katta.txt"}
    assert after.status in ("queued", "processing", "ready")
    async with site.core.db.write() as session:
        (await session.get_one(models.Document, damaged.id)).deleted_at = utcnow()
    assert (await boss.post(f"/admin/files/{damaged.id}/retry")).status == 404


async def test_files_of_conversations(site: Site, boss: Browser) -> None:
    """What was sent is listed with its end and its conversation, and is opened there only."""
    owner = await site.person("Salima")
    bot = await site.bot_of(owner, "Salima atlas")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Mijoz")
        sent = models.Message(conversation_id=talk.id, author="customer", kind="photo")
        ours = models.Message(conversation_id=talk.id, author="operator", kind="document")
        session.add_all([sent, ours])
        await session.flush()
        facts = {"bot_id": bot.id, "remote": {"ref": "MAXFIY-HAVOLA"}, "transcript": "MAXFIY MATN"}
        photo = models.Attachment(
            message_id=sent.id, kind="photo", mime="image/jpeg", size=5000, status="stored", **facts
        )
        large = models.Attachment(message_id=sent.id, kind="video", size=80_000_000, status="too_large", **facts)
        file = models.Attachment(
            message_id=ours.id,
            kind="document",
            name="shartnoma.pdf",
            size=700,
            status="stored",
            document_id=new_id(),
            **facts,
        )
        session.add_all([photo, large, file])
    about = f"owner={owner.id}"

    async def kinds(query: str) -> list[str]:
        page = await boss.get(f"/admin/files/sent?{about}&{query}")
        assert (
            page.status == 200 and "MAXFIY" not in page.text and "/files/" not in page.text.replace("/admin/files/", "")
        )
        names = {"photo": "Photo", "video": "Video", "document": "shartnoma.pdf"}
        return [key for row in page.rows() for key, name in names.items() if name in row]

    assert await kinds("") == ["document", "video", "photo"]
    assert await kinds("order=failed") == ["video", "document", "photo"]
    assert await kinds("order=size") == ["video", "photo", "document"]
    assert await kinds("state=stored") == ["document", "photo"] and await kinds("kind=video") == ["video"]
    assert await kinds("name=SHART") == ["document"]
    assert (await boss.get("/admin/files/sent?state=ready")).status == 400
    page = await boss.get(f"/admin/files/sent?{about}")
    assert f"/admin/conversations/{talk.id}" in page.text
    shown = page.visible()
    ends = (photo.created_at + dt.timedelta(days=100)).astimezone(dt.timezone(dt.timedelta(hours=5)))
    for words in ("Too large", "Operator", "Customer", "image/jpeg", f"deleted on {ends.day} {ends:%b} {ends.year}"):
        assert words in shown, words
    # Of what is too large nothing is kept, and a document that was sent is counted with the documents.
    assert _number(page, "Found") == "3" and _number(page, "Size") == "5 KB"
    sheet = await boss.get(f"/admin/files/sent/export.csv?{about}")
    table = list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))
    assert [row[5:9] for row in table[1:]] == [
        ["web", "Operator", "shartnoma.pdf", "File"],
        ["web", "Customer", "", "Video"],
        ["web", "Customer", "", "Photo"],
    ]
    assert [bool(row[12]) for row in table[1:]] == [True, False, True] and table[1][13] == talk.id


async def test_many_cost_no_more(site: Site, boss: Browser) -> None:
    """Sixty files and six hundred cost as many questions, in every order; no page repeats or leaves out one."""
    owner = await site.person("Kop")
    bot = await site.bot_of(owner, "Ko‘p bot")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Ko‘p mijoz")

    async def add(n: int) -> None:
        async with site.core.db.write() as session:
            # Every tenth went wrong; many are of one size.
            papers = [
                {
                    "bot_id": bot.id,
                    "name": f"n{k}.txt",
                    "kind": "txt",
                    "size": k % 7,
                    "status": "ready" if k % 10 else "failed",
                }
                for k in range(n)
            ]
            await session.execute(insert(models.Document), papers)
            lines = [{"id": new_id(), "conversation_id": talk.id, "author": "customer"} for _ in range(n)]
            await session.execute(insert(models.Message), lines)
            files = [
                {
                    "bot_id": bot.id,
                    "message_id": line["id"],
                    "kind": "photo",
                    "size": k % 7,
                    "status": "stored" if k % 10 else "failed",
                }
                for k, line in enumerate(lines)
            ]
            await session.execute(insert(models.Attachment), files)

    of_bot = f"bot={bot.id}"
    addresses = [
        f"/admin/files{place}?{query}"
        for place in ("", "/sent")
        for query in (of_bot, f"{of_bot}&order=size", f"{of_bot}&order=failed", f"{of_bot}&name=n", "", "state=failed")
    ]

    async def asked(path: str) -> int:
        # What the program asks by itself meanwhile only adds.
        found = []
        for _ in range(2):
            with questions_put(site.core) as questions:
                assert (await boss.get(path)).status == 200
            found.append(len(questions))
        return min(found)

    await add(FEW)
    few = {path: await asked(path) for path in addresses}
    await add(MANY - FEW)
    for path, before in few.items():
        assert await asked(path) <= before, path
    for place, model in (("", models.Document), ("/sent", models.Attachment)):
        async with site.core.db.read() as session:
            all_ = await session.scalar(select(func.count()).select_from(model).where(model.bot_id == bot.id))
        for order in ("", "size", "failed"):
            page, seen = await boss.get(f"/admin/files{place}?{of_bot}&order={order}"), 0
            moments: list[str] = []
            while True:
                seen += len(page.rows())
                moments += page.rows()
                further = page.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
                if not further:
                    break
                page = await boss.get(further)
            assert seen == all_ == MANY, (place, order)
            if place == "":
                names = [row.partition('overview-name">')[2].partition("<")[0] for row in moments]
                assert len(set(names)) == MANY - FEW and names.count("n0.txt") == 2
            bad = ["Could not be" in row for row in moments]
            assert order != "failed" or bad == sorted(bad, reverse=True)


async def test_more_is_said_than_counted(site: Site, boss: Browser) -> None:
    """Beyond a bound nothing is added up: the page says that there is more."""
    bot = await site.bot_of(await site.person("Juda"), "Juda ko‘p")
    async with site.core.db.write() as session:
        rows = [{"bot_id": bot.id, "name": "n.txt", "kind": "txt", "size": 2, "status": "ready"}] * (
            all_files.COUNTED + 1
        )
        await session.execute(insert(models.Document), rows)
    page = await boss.get(f"/admin/files?bot={bot.id}")
    assert _number(page, "Found") == "more than 5,000" and _number(page, "Size") == "more than 10 KB"
