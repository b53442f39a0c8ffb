"""Documents, unanswered questions and answers over the API."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from tests import servers
from tests.composition import address, make_settings, make_shop, running
from tests.web.site import Program, Site, started

MISSING = "0" * 26
PRICES = b"nomi,narxi\nNok,12 000 so'm\nOlma,9 000 so'm\n"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("api")
    with servers_run.database(request.param, folder) as url:
        async with started(folder, url) as running:
            yield running


async def read_through(site: Site, program: Program, path: str) -> Any:
    """Wait until a document was read or failed; return it."""
    bot_id = path.split("/")[2]
    async with site.core.bell.listen(f"bot:{bot_id}", limit=1000) as events, asyncio.timeout(60):
        while True:
            document = (await program.get(path)).body
            if document["status"] in ("ready", "failed"):
                return document
            await events.get()


async def test_a_document_from_upload_to_deletion(site: Site) -> None:
    documents = f"{site.owner.bot}/documents"
    taken = await site.owner.upload(documents, "narxlar.csv", PRICES)
    assert taken.status == 202
    assert (taken.body["name"], taken.body["status"], taken.body["progress"]) == ("narxlar.csv", "queued", 0)
    path = f"{documents}/{taken.body['id']}"
    ready = await read_through(site, site.owner, path)
    assert (ready["status"], ready["progress"], ready["error"]) == ("ready", 100, None)
    listed = (await site.owner.get(documents)).body["items"]
    assert [item["name"] for item in listed] == ["narxlar.csv", "savollar.txt"]
    answer = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "buyer", "text": "Nok narxi qancha?"})
    assert answer.body["sources"][0]["document_name"] == "narxlar.csv"

    for other in (site.stranger, site.nobody):
        refused = (await other.get(path), await other.call("DELETE", path))
        assert {answer.status for answer in refused} == {404 if other is site.stranger else 401}
    own_path = f"{site.stranger.bot}/documents/{taken.body['id']}"
    assert (await site.stranger.get(own_path)).status == 404

    assert (await site.owner.call("DELETE", path)).status == 204
    assert (await site.owner.get(path)).status == 404
    assert (await site.owner.call("DELETE", path)).status == 404


async def test_why_a_document_could_not_be_read_is_said(site: Site) -> None:
    documents = f"{site.owner.bot}/documents"
    taken = await site.owner.upload(documents, "buzuq.pdf", b"%PDF-1.7\n" + b"rubbish " * 200)
    assert taken.status == 202
    failed = await read_through(site, site.owner, f"{documents}/{taken.body['id']}")
    assert failed["status"] == "failed" and len(failed["error"]) > 10
    await site.owner.call("DELETE", f"{documents}/{taken.body['id']}")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.txt",
        "x" * 300 + ".txt",
        "Narxlar ro'yxati " * 200 + ".txt",
        "C:\\narx\\CON.txt",
        "\u202etxt.exe.txt",
        "{{7*7}}.txt",
    ],
)
async def test_a_file_name_is_a_title_only(site: Site, name: str) -> None:
    documents = f"{site.owner.bot}/documents"
    taken = await site.owner.upload(documents, name, b"Salom, bu hujjat matni.")
    assert taken.status == 202
    title = taken.body["name"]
    assert not set(title) & {"/", "\\", "\x00", "\n"} and len(title) <= 255
    assert title.endswith(".txt")
    assert (await site.owner.call("DELETE", f"{documents}/{taken.body['id']}")).status == 204


@pytest.mark.parametrize("name", [b"a\x00b.txt", b"a\rb.txt", b"\xff\xfe.txt", b"a%00%0d%0ab.txt"])
async def test_a_file_name_of_raw_bytes_is_a_title_or_refused(site: Site, name: bytes) -> None:
    documents = f"{site.owner.bot}/documents"
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\nSalom\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    taken = await site.owner.call("POST", documents, data=part, headers=headers)
    assert taken.status in (202, 400)
    if taken.status == 202:
        assert taken.body["name"].isprintable()
        assert (await site.owner.call("DELETE", f"{documents}/{taken.body['id']}")).status == 204


@pytest.mark.parametrize(
    ("sent", "title"),
    [
        ("%D0%9F%D1%80%D0%B0%D0%B9%D1%81%20%E2%84%961.txt", "Прайс №1.txt"),
        ("%D0%9F%D1%80%D0%B0%D0%B8%CC%86%D1%81%20%E2%84%961.txt", "Прайс №1.txt"),
        ("narx%2F%D0%A1%D0%9A%D0%98%D0%94%D0%9A%D0%90.txt", "СКИДКА.txt"),
        (unicodedata.normalize("NFD", "Йил якуни.txt"), "Йил якуни.txt"),
        ("100%.txt", "100%.txt"),
        ("Chegirma 50%20.txt", "Chegirma 50%20.txt"),
        ("%D0%9F%FF.txt", "%D0%9F%FF.txt"),
        ("Скидка%20.txt", "Скидка%20.txt"),
    ],
)
async def test_a_file_name_is_shown_as_people_write_it(site: Site, sent: str, title: str) -> None:
    documents = f"{site.owner.bot}/documents"
    part = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\nSalom\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    taken = await site.owner.call("POST", documents, data=part.encode(), headers=headers)
    assert (taken.status, taken.body["name"]) == (202, title)
    assert (await site.owner.call("DELETE", f"{documents}/{taken.body['id']}")).status == 204


async def test_what_is_no_document_is_refused(site: Site) -> None:
    documents = f"{site.owner.bot}/documents"
    before = (await site.owner.get(documents)).body
    assert (await site.owner.upload(documents, "a.txt", b"")).status == 400
    assert (await site.owner.upload(documents, "virus.exe", b"MZ" + b"\x00" * 100)).status == 400
    assert (await site.owner.upload(documents, None, b"text")).body["error"]["field"] == "file"
    assert (await site.owner.upload(documents, "a.txt", b"text", field="other")).body["error"]["field"] == "file"
    assert (await site.owner.raw(documents, b"{}")).status == 415
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await site.owner.call("POST", documents, data=b"no parts", headers=broken)).status == 400
    without = {"Content-Type": "multipart/form-data"}
    assert (await site.owner.call("POST", documents, data=b"no parts", headers=without)).status == 400
    assert (await site.owner.get(documents)).body == before


async def test_ten_megabytes_are_enough(site: Site) -> None:
    documents = f"{site.owner.bot}/documents"
    before = (await site.owner.get(documents)).body
    boundary = b"--x\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n"

    async def large() -> AsyncIterator[bytes]:
        yield boundary
        for _ in range(400):
            yield b"so'm " * 13_107
        yield b"\r\n--x--\r\n"

    # Without a length it is only known while it arrives.
    try:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        streamed = await site.owner.call("POST", documents, data=large(), headers=headers)
        assert (streamed.status, streamed.code) == (413, "too_large")
    except (aiohttp.ClientError, OSError):
        pass  # the server closed the connection while we were still sending
    whole = await site.owner.upload(documents, "b.txt", b"x" * (10 * 1_048_576 + 1))
    assert (whole.status, whole.code) == (413, "too_large")
    told = await site.owner.upload(documents, "c.txt", b"x" * (11 * 1_048_576))
    assert (told.status, told.code) == (413, "too_large")
    for refused in (whole, told):
        assert refused.body["error"]["field"] == "file" and "10 MB" in refused.body["error"]["message"]
    assert (await site.owner.get(documents)).body == before


async def test_an_answer_is_known_from_the_next_message_on(site: Site) -> None:
    bot = site.owner.bot
    question = "Sovg'a qadoqlash xizmati bormi?"
    asked = await site.owner.post(f"{bot}/chat", {"contact": "guest", "text": question})
    assert (asked.status, asked.body["answered"], asked.body["provider"]) == (200, False, "extractive")
    items = (await site.owner.get(f"{bot}/unanswered")).body["items"]
    mine = next(item for item in items if item["question"] == question)
    assert mine["count"] == 1 and mine["created_at"].endswith("Z")
    assert question not in str((await site.stranger.get(f"{site.stranger.bot}/unanswered")).body)

    taught = {"question": question, "answer": "Ha, sovg'a qadoqlash 20 000 so'm."}
    made = await site.owner.post(f"{bot}/answers", taught)
    listed = (await site.owner.get(f"{bot}/answers")).body["items"]
    assert (made.status, made.body) == (201, {"id": listed[0]["id"], **taught})
    assert question not in str((await site.owner.get(f"{bot}/unanswered")).body)
    again = await site.owner.post(f"{bot}/chat", {"contact": "guest", "text": question})
    assert again.body["answered"] is True
    assert "20 000" in again.body["sources"][0]["snippet"]


async def test_an_answer_taught_again_is_the_one_that_is_given(site: Site) -> None:
    """By several programs at once: each gets the same id, and one answer is left."""
    bot, question = site.owner.bot, "Nasiyaga olsa bo'ladimi?"
    texts = [f"Ha, {months} oygacha." for months in range(1, 5)]
    made = await asyncio.gather(
        *(site.owner.post(f"{bot}/answers", {"question": question, "answer": text}) for text in texts)
    )
    assert {answer.status for answer in made} == {201} and len({answer.body["id"] for answer in made}) == 1
    last = {"question": "НАСИЯГА ОЛСА БЎЛАДИМИ", "answer": "Yo'q, tugadi."}
    again = await site.owner.post(f"{bot}/answers", last)
    assert (again.status, again.body) == (201, {"id": made[0].body["id"], **last})
    listed = (await site.owner.get(f"{bot}/answers")).body["items"]
    assert [item for item in listed if item["id"] == again.body["id"] or "oygacha" in item["answer"]] == [again.body]
    theirs = await site.stranger.post(
        f"{site.stranger.bot}/answers", {"question": question, "answer": "Gullar nasiyaga emas."}
    )
    assert theirs.body["id"] != again.body["id"]
    told = await site.owner.post(f"{bot}/chat", {"contact": "on-credit", "text": question})
    assert told.body["sources"][0]["snippet"].endswith("Yo'q, tugadi.")
    assert not any("oygacha" in source["snippet"] for source in told.body["sources"])


async def test_what_was_taught_is_listed_and_forgotten(site: Site) -> None:
    bot, question = site.owner.bot, "Karta bilan to'lasa bo'ladimi?"
    taught = {"question": question, "answer": "Ha, Uzcard va Humo bilan."}
    assert (await site.owner.post(f"{bot}/answers", taught)).status == 201
    items = (await site.owner.get(f"{bot}/answers")).body["items"]
    mine = next(item for item in items if item["question"] == question)
    assert mine == {"id": mine["id"], **taught}
    assert (await site.stranger.get(f"{bot}/answers")).status == 404
    path = f"/answers/{mine['id']}"
    assert (await site.stranger.call("DELETE", f"{bot}{path}")).status == 404
    assert (await site.stranger.call("DELETE", f"{site.stranger.bot}{path}")).status == 404
    assert (await site.owner.post(f"{bot}/chat", {"contact": "payer", "text": question})).body["answered"] is True
    assert (await site.owner.call("DELETE", f"{bot}{path}")).status == 204
    assert (await site.owner.call("DELETE", f"{bot}{path}")).status == 404
    assert question not in str((await site.owner.get(f"{bot}/answers")).body)
    forgotten = await site.owner.post(f"{bot}/chat", {"contact": "payer-2", "text": question})
    assert "Humo" not in str(forgotten.body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"question": "a"}, "answer"),
        ({"answer": "a"}, "question"),
        ({"question": " ", "answer": "a"}, "question"),
        ({"question": "a", "answer": "\u0007"}, "answer"),
        ({"question": "a", "answer": "b", "bot_id": "x"}, "bot_id"),
    ],
)
async def test_half_an_answer_is_refused(site: Site, body: Any, field: str) -> None:
    refused = await site.owner.post(f"{site.owner.bot}/answers", body)
    assert (refused.status, refused.body["error"]["field"]) == (400, field)


async def _in_parts(program: Program, path: str, size: int) -> list[Any]:
    """Read a list so many items at a time."""
    found: list[Any] = []
    query = {"limit": str(size)}
    while True:
        part = (await program.get(path, **query)).body
        assert 1 <= len(part["items"]) <= size
        found += part["items"]
        if part["next"] is None:
            return found
        query["cursor"] = part["next"]


@pytest.mark.parametrize(
    "what", ["unanswered", "bots", "documents", "channels", "answers", "conversations", "messages"]
)
async def test_lists_come_in_parts(site: Site, what: str) -> None:
    bot = site.owner.bot
    path = f"{bot}/{what}"
    words = ["avtobus", "kitob", "televizor", "soat", "gilam"]
    if what == "bots":
        path = "/bots"
        for word in words:
            await site.owner.post("/bots", {"name": word})
    elif what == "documents":
        for word in words:
            await site.owner.upload(path, f"{word}.txt", b"Narxi 5000 so'm")
    elif what == "channels":
        token = "7700000200:AAtestTokenOfTheFakeBotApi_0123456789"
        site.telegram.add_bot(token, "parts_bot", name="Texno")
        assert (await site.owner.post(path, {"type": "telegram", "token": token})).status == 201
    elif what == "answers":
        for word in words:
            await site.owner.post(path, {"question": f"Sizda {word} bormi?", "answer": "Ha."})
    else:
        for word in words:
            contact = "one" if what == "messages" else f"{what}-{word}"
            await site.owner.post(f"{bot}/chat", {"contact": contact, "text": f"Sizda {word} sotiladimi?"})
        if what == "messages":
            talk = (await site.owner.get(f"{bot}/conversations", contact="one")).body["items"][0]
            path = f"/conversations/{talk['id']}/messages"
    everything = (await site.owner.get(path)).body["items"]
    # A bot has two channels at most.
    parts = await _in_parts(site.owner, path, 1 if what == "channels" else 2)
    assert [item["id"] for item in parts] == [item["id"] for item in everything]
    assert len(everything) >= (2 if what == "channels" else 4)
    for name, bad in (
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "x"),
        ("cursor", "zzz"),
        ("cursor", "'"),
        ("cursor", "9" * 18 + "-" + "0" * 26),
    ):
        refused = await site.owner.get(path, **{name: bad})
        assert (refused.status, refused.code, refused.body["error"]["field"]) == (400, "invalid", name)
    assert (await site.stranger.get(path)).status == (200 if what == "bots" else 404)


async def test_reading_a_document_knows_the_request_of_its_upload(tmp_path: Path) -> None:
    """Else a line of the log about a document could not be told to belong to an upload."""
    async with running(make_settings(tmp_path), "web") as core, aiohttp.ClientSession() as http:
        shop = await make_shop(core, document=None)
        program = Program(address(core), http, shop.token, shop)
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("file", b"Narxi 5000 so'm", filename="traced.txt")
        sent = await program.call(
            "POST", f"{program.bot}/documents", data=form, headers={"X-Request-ID": "upload-of-traced"}
        )
        async with core.db.read() as session:
            payload = await session.scalar(select(models.Job.payload).where(models.Job.kind == "index_document"))
    assert payload == {"document": sent.body["id"], "watched": False, "request_id": "upload-of-traced"}
