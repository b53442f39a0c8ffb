"""Files that customers may receive: said on the page without script and by the API, and seen in the chat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from db import models
from services.i18n import translate
from services.knowledge import documents
from tests import servers
from tests.services.test_pictures import bomb, encoded
from tests.web import panel
from tests.web.site import Program, Reply, Site, started
from tests.web.test_chat import Visitor, visitor

PRICES = b"nomi,narxi\nNok,12 000 so'm\nOlma,9 000 so'm\n"
WISH = "Narxlar faylini yuboring"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("files")
    with servers_run.database(request.param, folder) as url:
        async with started(folder, url) as running:
            yield running


@pytest.fixture(scope="module")
async def pages(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[panel.Site]:
    folder = tmp_path_factory.mktemp("pages")
    async with panel.open_site(folder, servers_run.new_sqlite(folder)) as opened:
        yield opened


async def upload(program: Program, name: str, data: bytes, **texts: str) -> Reply:
    """Send a document with its texts."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("file", data, filename=name, content_type="application/octet-stream")
    for key, value in texts.items():
        form.add_field(key, value)
    return await program.call("POST", f"{program.bot}/documents", data=form)


async def ready(site: Site, program: Program, taken: Reply) -> dict[str, Any]:
    """Wait until a document was read or failed; return it as the API shows it."""
    assert taken.status == 202, taken.body
    path = f"{program.bot}/documents/{taken.body['id']}"
    async with site.core.bell.listen(f"bot:{program.shop.bot.id}", limit=1000) as events, asyncio.timeout(60):
        while (found := (await program.get(path)).body)["status"] not in ("ready", "failed"):
            await events.get()
    return dict(found)


async def test_the_api_takes_and_changes_what_customers_may_receive(site: Site) -> None:
    owner = site.owner
    taken = await upload(owner, "narxlar.csv", PRICES)
    assert (taken.body["shared"], taken.body["caption"]) == (False, "")
    path = f"{owner.bot}/documents/{(await ready(site, owner, taken))['id']}"
    changed = await owner.call("PATCH", path, json={"shared": True, "caption": "  Narxlar\nro‘yxati "})
    assert (changed.status, changed.body["shared"], changed.body["caption"]) == (200, True, "Narxlar ro‘yxati")
    assert (await owner.call("PATCH", path, json={})).body["shared"] is True
    for body, code in (
        ({"shared": "yes"}, "invalid"),
        ({"shared": None}, "invalid"),
        ({"caption": "x" * 301}, "invalid"),
        ({"owner_id": "x"}, "unknown_field"),
    ):
        refused = await owner.call("PATCH", path, json=body)
        assert (refused.status, refused.code) == (400, code)
    for other, status in ((site.stranger, 404), (site.nobody, 401)):
        assert (await other.call("PATCH", path, json={"shared": False})).status == status
    assert (await owner.get(path)).body["shared"] is True
    # A new version keeps both, unless it says something else.
    again = await ready(site, owner, await upload(owner, "narxlar.csv", PRICES + b"Uzum,1\n"))
    assert (again["shared"], again["caption"]) == (True, "Narxlar ro‘yxati")
    third = await upload(owner, "narxlar.csv", PRICES, shared="false", caption="Eski")
    assert ((await ready(site, owner, third))["shared"], third.body["caption"]) == (False, "Eski")
    assert (await upload(owner, "x.csv", PRICES, shared="maybe")).status == 400
    gone = f"{owner.bot}/documents/{third.body['id']}"
    assert (await owner.call("DELETE", gone)).status == 204
    assert (await owner.call("PATCH", gone, json={"shared": True})).status == 404


async def test_the_api_takes_pictures(site: Site) -> None:
    owner = site.owner
    picture = await ready(site, owner, await upload(owner, "menyu.png", encoded("PNG"), caption="Menyu", shared="true"))
    assert (picture["status"], picture["shared"], picture["caption"]) == ("ready", True, "Menyu")
    refused = await upload(owner, "xona.jpg", encoded("JPEG"))
    assert (refused.status, refused.body["error"]["field"]) == (400, "caption")
    for name, data in (("x.heic", b"\0\0\0\x18ftypheic"), ("x.svg", b"<svg/>"), ("x.jpg", b"<svg/>")):
        assert (await upload(owner, name, data, caption="Menyu")).status == 400
    failed = await ready(site, owner, await upload(owner, "bomba.png", bomb(90_000, 90_000), caption="Menyu"))
    many = "The picture has too many pixels. Make it smaller and upload it once more."
    assert (failed["status"], failed["error"]) == ("failed", translate("uz", many))
    assert (await owner.call("DELETE", f"{owner.bot}/documents/{picture['id']}")).status == 204


async def test_the_chat_page_shows_the_file_and_never_the_sign(site: Site) -> None:
    owner = site.owner
    taken = await upload(owner, "narxlar.csv", PRICES, caption="Narxlar ro‘yxati", shared="true")
    document = await ready(site, owner, taken)
    site.models.reset()
    site.models.reply = "Mana narxlar 👇\n[[file 1]]"
    me: Visitor = visitor(site)
    events = await me.stream(text=WISH)
    assert "".join(data["text"] for kind, data in events if kind == "delta") == "Mana narxlar 👇"
    assert "[[" not in json.dumps([data for kind, data in events if kind != "done"])
    message = next(data for kind, data in events if kind == "message")
    (file,) = message["files"]
    assert (message["text"], file["name"]) == ("Mana narxlar 👇", "narxlar.csv")
    async with site.http.get(site.base + file["url"]) as answer:
        assert (answer.status, await answer.read()) == (200, PRICES)
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert events[-1][1]["items"][-1]["files"][0]["name"] == "narxlar.csv"
    page = await me.look()
    assert "📎 narxlar.csv" in page and "[[" not in page
    # By the API the same, and in the list of messages.
    answered = await owner.post(f"{owner.bot}/chat", {"contact": "buyer-1", "text": WISH})
    (shown,) = answered.body["attachments"]
    assert (answered.body["text"], shown["name"], shown["status"]) == ("Mana narxlar 👇", "narxlar.csv", "stored")
    talks = (await owner.get(f"{owner.bot}/conversations", contact="buyer-1")).body["items"]
    said = (await owner.get(f"/conversations/{talks[0]['id']}/messages")).body["items"]
    assert [each["name"] for each in said[-1]["attachments"]] == ["narxlar.csv"] and not said[0]["attachments"]
    # Deleted, it is promised no more; who has it can still open it.
    assert (await owner.call("DELETE", f"{owner.bot}/documents/{document['id']}")).status == 204
    assert "attachments" not in (await owner.post(f"{owner.bot}/chat", {"contact": "buyer-2", "text": WISH})).body
    async with site.http.get(site.base + file["url"]) as answer:
        assert (answer.status, await answer.read()) == (200, PRICES)


async def test_sharing_is_said_on_the_page_without_script(pages: panel.Site) -> None:
    user = await pages.person("Ulashadi")
    browser, bot = await pages.signed_in(user), await pages.bot_of(user)
    path = f"/bots/{bot.id}/documents"
    await browser.upload(path, "narx.csv", PRICES)
    async with pages.core.db.read() as session:
        (document,) = await documents.list_for(session, bot)
    share = f"{path}/{document.id}/share"
    done = await browser.post(share, shared="on", caption="Narxlar")
    assert (done.status, done.location) == (303, f"{path}?done=file_shared")
    page = await browser.get(path)
    assert "Narxlar" in page.text and 'name="shared" value="on" checked' in page.text
    assert (await browser.post(share, caption="Narxlar")).location == f"{path}?done=file_not_shared"
    long = await browser.post(share, caption="x" * 301)
    assert long.status == 400 and 'role="alert"' in long.text
    stranger = await pages.person("Begona")
    foreign = await pages.signed_in(stranger)
    assert (await foreign.post(share, shared="on")).status == 404
    async with pages.core.db.read() as session:
        row = await session.get_one(models.Document, document.id)
        assert (row.shared, row.caption) == (False, "Narxlar")


async def test_a_picture_is_added_on_the_page_without_script(pages: panel.Site) -> None:
    user = await pages.person("Rasmchi")
    browser, bot = await pages.signed_in(user), await pages.bot_of(user)
    path = f"/bots/{bot.id}/documents"

    async def send(name: str, data: bytes, **fields: str) -> panel.Page:
        form = aiohttp.FormData()
        form.add_field("csrf", browser.csrf)
        for key, value in fields.items():
            form.add_field(key, value)
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        return await browser.request("POST", path, data=form)

    async with pages.core.bell.listen(f"bot:{bot.id}") as events, asyncio.timeout(60):
        sent = await send("xona.jpg", encoded("JPEG"), caption="Oilaviy xona", shared="on")
        assert (sent.status, sent.location) == (303, f"{path}?done=uploaded")
        while (await events.get())["status"] != "ready":
            pass
    page = await browser.get(path)
    assert "Oilaviy xona" in page.text
    for name, data, caption in (
        ("xona2.jpg", encoded("JPEG"), ""),
        ("xona2.heic", b"\0\0\0\x18ftypheic", "Xona"),
        ("xona2.svg", b"<svg/>", "Xona"),
    ):
        refused = await send(name, data, caption=caption)
        assert refused.status == 400 and 'role="alert"' in refused.text
    async with pages.core.db.read() as session:
        assert [(one.name, one.shared) for one in await documents.list_for(session, bot)] == [("xona.jpg", True)]
