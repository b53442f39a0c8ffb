"""What the bot understood of a document, deleting with a way back, and questions with answers as a table."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from sqlalchemy import func, insert, select, update

from db import models
from db.base import utcnow
from services.knowledge import documents, pairs
from tests import servers
from tests.composition import FAQ, add_document
from tests.web.panel import Browser, Site, open_site

PART = {"HX-Request": "true"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("knowledge")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _start(site: Site, name: str) -> tuple[Browser, models.Bot]:
    user = await site.person(name)
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    return browser, bot


async def test_the_text_as_it_was_understood(site: Site) -> None:
    """Every passage once, in order, page by page; hostile text is text; a failed file says why."""
    browser, bot = await _start(site, "Previewer")
    table = "nomi,narxi\n" + "".join(f"Tovar<{number}>,{number}000\n" for number in range(70))
    document = await add_document(site.core, bot, "narx.csv", table.encode())
    path, seen, pages = f"/bots/{bot.id}/documents/{document.id}", [], 0
    async with site.core.db.write() as session:
        facts = {"bot_id": bot.id, "name": "katta.pdf", "kind": "pdf", "size": 3 * 1024 * 1024, "status": "processing"}
        session.add(models.Document(**facts, progress=40))
    listed = await browser.get(f"/bots/{bot.id}/documents?q=Tovar+narxi")
    shown = " ".join(listed.visible().split())
    assert path in listed.text and "1 KB · " in shown.replace("\xa0", " ")
    assert "Reading: 40%" in shown and "3 MB · " in shown.replace("\xa0", " ") and 'max="100" value="40"' in listed.text
    # What the bot would answer from, with how well it fits.
    assert re.search(r"narx\.csv[^<]*</b>.*?class=\"score\">0\.\d+<", listed.text, re.DOTALL), shown
    address = path
    while address:
        page = await browser.get(address)
        assert page.status == 200 and "<0>" not in page.text
        seen += re.findall(r"Tovar&lt;(\d+)&gt;", page.text)
        found = re.findall(rf'rel="next" href="({re.escape(path)}\?cursor=\d+)"', page.text)
        address, pages = (found[0] if found else ""), pages + 1
    assert list(map(int, dict.fromkeys(seen))) == list(range(70))
    assert pages > 1
    assert (await browser.get(f"{path}?cursor=x")).status == 400
    bad = await add_document(site.core, bot, "ugly.docx", b"PK\x03\x04 nothing of a document")
    failed = await browser.get(f"/bots/{bot.id}/documents/{bad.id}")
    assert bad.status == "failed" and "trouble" in failed.text
    stranger, _ = await _start(site, "Previewthief")
    assert (await stranger.get(path)).status == 404


async def test_a_deleted_document_comes_back_for_a_while(site: Site) -> None:
    browser, bot = await _start(site, "Undoer")
    document = await add_document(site.core, bot, "faq.txt", FAQ.encode())
    path, place = f"/bots/{bot.id}/documents", f"/bots/{bot.id}/documents?q=Yetkazib+berish+bormi"
    await browser.post(f"{path}/{document.id}/share", shared="on")
    gone = await browser.post(f"{path}/{document.id}/delete")
    assert gone.location == f"{path}?done=shared_deleted&undo={bot.id}.{document.id}"
    assert "45 000" not in (await browser.get(place)).text
    undo = re.findall(r'action="([^"]*/restore[^"]*)"', (await browser.get(gone.location)).text)[0]
    assert (await browser.post(undo)).location == f"{path}?done=restored"
    assert "45 000" in (await browser.get(place)).text
    async with site.core.db.read() as session:
        now = await session.get_one(models.Document, document.id)
    assert (now.serving, now.shared, now.deleted_at) == (True, True, None)
    # One of its name took its place meanwhile: it says so, and nothing is doubled.
    await browser.post(f"{path}/{document.id}/delete")
    await add_document(site.core, bot, "FAQ.txt", b"Boshqa matn.")
    refused = await browser.post(undo)
    assert refused.status == 409 and 'role="alert"' in refused.text
    # After its time it is gone for good, with its bytes and passages.
    async with site.core.db.write() as session:
        late = utcnow() - dt.timedelta(seconds=documents.UNDO_S + 1)
        await session.execute(update(models.Document).where(models.Document.id == document.id).values(deleted_at=late))
    assert (await browser.post(undo)).status == 404
    await documents.purge_documents(site.core, {"bot": bot.id, "document": document.id})
    async with site.core.db.read() as session:
        assert await session.get(models.Document, document.id) is None
        assert await session.get(models.DocumentContent, document.id) is None
        left = select(func.count()).select_from(models.Chunk).where(models.Chunk.document_id == document.id)
        assert await session.scalar(left) == 0
    stranger, _ = await _start(site, "Undothief")
    assert (await stranger.post(undo)).status == 404


async def test_thirty_files_and_an_ugly_one(site: Site) -> None:
    """Thirty-one at once, each with its own fate; the page says how much room is used before the form."""
    browser, bot = await _start(site, "Thirty")
    path = f"/bots/{bot.id}/documents"
    for number in range(30):
        name = f"fayl {number} «narx» %20'\".txt"
        sent = await browser.upload(
            path, name, f"Tovar {number} narxi {number}000 so'm.".encode(), Accept="application/json"
        )
        assert sent.status == 202
    ugly = await browser.upload(path, "ugly.pdf", b"%PDF-1.7 broken" + bytes(range(256)), Accept="application/json")
    assert ugly.status == 202
    async with asyncio.timeout(90):
        while True:
            page = await browser.get(f"{path}/list?used=1", **PART)
            if 'data-reading="0"' in page.text:
                break
            await asyncio.sleep(0.2)
    assert page.text.count("state-good") == 30 and page.text.count("state-bad") == 1
    assert 'id="used" hx-swap-oob="true"' in page.text and "31 of" in page.visible()
    whole = (await browser.get(path)).text
    assert whole.index('id="used"') < whole.index("data-drop") and f'hx-get="{path}/list?used=1"' in whole
    # The steps of a new bot have no place for it.
    assert 'id="used"' not in (await browser.get(f"{path}/list", **PART)).text


async def test_a_bad_file_among_many_keeps_the_others_not_out(site: Site) -> None:
    """Without script all files come in one form: each is taken or named with why not; a picture's form keeps what it held."""
    browser, bot = await _start(site, "Plainform")
    path = f"/bots/{bot.id}/documents"
    form = aiohttp.FormData({"csrf": browser.csrf})
    for name, data in (("bir.txt", b"Bir"), ("rasm.exe", b"MZ"), ("bo'sh.txt", b""), ("ikki.txt", b"Ikki")):
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
    answer = await browser.request("POST", path, data=form)
    assert answer.status == 400
    alert = answer.text.partition('role="alert"')[2].partition("</ul>")[0]
    assert alert.count("<li>") == 2 and "rasm.exe" in alert and "bo&#39;sh.txt" in alert and "bir.txt" not in alert
    listed = answer.text.partition('id="documents"')[2]
    assert "bir.txt" in listed and "ikki.txt" in listed and "rasm.exe" not in listed
    wrong = await browser.upload_with(path, {"caption": "Yozgi terrasa menyusi"}, "rasm.jpg", b"not a picture")
    held = wrong.text.partition('id="picture"')[2].partition("</details>")[0]
    assert wrong.status == 400 and 'value="Yozgi terrasa menyusi"' in held and 'role="alert"' in held
    assert 'name="shared" value="on">' in held


async def test_questions_and_answers_as_a_table(site: Site) -> None:
    """What is taken out can be taken in; tables of every spreadsheet are read; a bad row changes nothing and is named."""
    browser, bot = await _start(site, "Pairs")
    path = f"/bots/{bot.id}"
    for number, data in enumerate(
        (
            'Savol;Javob\r\nIsh vaqti?;9 dan 18 gacha\r\n"Narxi; qancha?";=5 000\r\n'.encode("utf-8-sig"),
            "Вопрос\tОтвет\nДоставка есть?\tДа, бесплатно\n".encode("cp1251"),
            b'Chegirma bormi?,"Ha,\n- 10 foiz;\n=yana; -5 (beshta)"\nIsh vaqti?,10 dan 19 gacha\n',
        )
    ):
        taken = await browser.upload_with(f"{path}/answers.csv", {}, f"jadval{number}.csv", data)
        assert taken.status in (303, 400), taken.visible()
    async with site.core.db.read() as session:
        known = {one.question: one.text for one in (await documents.answers_page(session, bot))[0]}
    assert known == {
        "Ish vaqti?": "10 dan 19 gacha",
        "Narxi; qancha?": "=5 000",
        "Доставка есть?": "Да, бесплатно",
        "Chegirma bormi?": "Ha,\n- 10 foiz;\n=yana; -5 (beshta)",
    }
    out = await browser.get(f"{path}/answers.csv")
    rows = list(csv.reader(io.StringIO(out.text.lstrip("\ufeff"))))
    assert rows[0] == list(pairs.HEADINGS) and ["Narxi; qancha?", "'=5 000"] in rows and len(rows) == 5
    assert ["Chegirma bormi?", "Ha,\n- 10 foiz;\n'=yana; '-5 (beshta)"] in rows
    assert pairs.read(out.text.encode()) == [(row[0], known[row[0]]) for row in rows[1:]]
    for bad, said in (
        (b"Savol,Javob\nNima?,\n", "Row 2"),
        (b"Faqat savol\n", "Row 1"),
        (b"", "not a table"),
        (b"%PDF-1.4 \x00\x01\x02", "not a table"),
        (b"question,answer\n", "no question"),
        (b"a," + b"x" * 5000, "Row 1"),
        (b"".join(b"q%d,a\n" % number for number in range(1001)), "more than"),
        (b"x" * (2 * 1_048_576 + 1), "larger than"),
        # Whatever walks along the empty lines from each of them holds up everybody for minutes.
        (b'a,"x' + b"\n" * 130_000 + b'x"', "Row 1 is too long"),
    ):
        refused = await browser.upload_with(f"{path}/answers.csv", {}, "x.csv", bad)
        assert refused.status in (400, 413) and said in refused.visible(), said
    async with site.core.db.write() as session:
        [first, *_], _following = await documents.answers_page(session, bot, oldest_first=True)
        document = (await session.get_one(models.Chunk, int(first.id))).document_id
        more = [
            {"bot_id": bot.id, "document_id": document, "position": n, "stems": "", "grams": "", "text": f"{n}?\n{n}"}
            for n in range(4, 1104)
        ]
        await session.execute(insert(models.Chunk), more)
    out = await browser.get(f"{path}/answers.csv")
    rows = list(csv.reader(io.StringIO(out.text.lstrip("\ufeff"))))
    assert len(rows) == 1105 and rows[1][0] == first.question
    assert rows[5:] == [[f"{n}?", str(n)] for n in range(4, 1104)], "more than is read at once, in its order"
