"""A customer's card, deletion on request, and conversations as tables."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, update

from db import models
from db.base import new_id, utcnow
from services import endpoints, lanes
from services.inbox import lane_of
from tests import servers
from tests.web.panel import Browser, Page, Site, open_site, web_talk


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("contacts")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _owner(site: Site, name: str) -> tuple[Browser, models.User, models.Bot]:
    user = await site.person(name)
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    return browser, user, bot


async def _told(site: Site, talk: models.Conversation, text: str, author: str = "customer", **more: Any) -> str:
    async with site.core.db.write() as session:
        message = models.Message(conversation_id=talk.id, author=author, text=text, **more)
        session.add(message)
        await session.flush()
        return message.id


def _rows(page: Page) -> list[list[str]]:
    return list(csv.reader(io.StringIO(page.text.lstrip("\ufeff"))))


async def test_a_card_shows_everything_and_is_corrected(site: Site) -> None:
    browser, user, bot = await _owner(site, "Carder")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza <b>", last_inbound_at=utcnow(), last_text="Salom")
        label = models.Label(owner_id=user.id, name="Ulgurji", color=1)
        session.add(label)
        await session.flush()
        session.add(models.ConversationLabel(conversation_id=talk.id, label_id=label.id))
        session.add(models.Note(conversation_id=talk.id, author_id=user.id, text="Juma kuni keladi."))
    message = await _told(site, talk, "Salom")
    async with site.core.db.write() as session:
        file = {"kind": "document", "name": "chek.pdf", "status": "stored", "size": 2048}
        session.add(models.Attachment(bot_id=bot.id, message_id=message, **file))
    path = f"/contacts/{talk.contact_id}"
    page = await browser.get(path)
    shown = page.visible()
    for expected in ("Aziza &lt;b&gt;", "Ulgurji", "Juma kuni keladi.", "chek.pdf", "First seen", "receives them"):
        assert expected in page.text or expected in shown, expected
    assert path in (await browser.get(f"/inbox/{talk.id}")).text
    saved = await browser.post(path, name="Aziza Karimova", phone="90 123 45 67", language="ru", opted_out="on")
    assert saved.location == f"{path}?done=saved"
    async with site.core.db.read() as session:
        now = await session.get_one(models.Contact, talk.contact_id)
    assert (now.name, now.phone, now.language, now.language_chosen) == ("Aziza Karimova", "+998901234567", "ru", True)
    assert now.opted_out_at is not None
    for wrong in ({"phone": "abc"}, {"language": "xx"}, {"name": "n" * 300}):
        refused = await browser.post(path, **{"name": "Yangi", "phone": "", "language": "", **wrong})
        assert refused.status == 400 and 'role="alert"' in refused.text, wrong
    # Who answers may correct it, but neither delete nor take it out; a stranger sees nothing.
    helper = await site.person("Cardhelper")
    async with site.core.db.write() as session:
        session.add(models.Member(owner_id=user.id, user_id=helper.id, role="operator"))
    helping = await site.signed_in(helper)
    assert (await helping.get(path)).status == 200 and f"{path}/delete" not in (await helping.get(path)).text
    assert (await helping.post(path, name="Aziza", phone="", language="")).status == 303
    assert (await helping.post(f"{path}/delete", confirm="Aziza")).status == 404
    assert (await helping.get(f"{path}/messages.csv")).status == 404
    assert len(_rows(await helping.get("/inbox/export.csv"))) == 1
    stranger, _, _ = await _owner(site, "Cardstranger")
    for address in (path, f"{path}/messages.csv"):
        assert (await stranger.get(address)).status == 404
    assert (await stranger.post(path, name="x")).status == 404


async def _told_elsewhere(site: Site, owner: models.User, *talks: models.Conversation) -> None:
    """A server of the owner's was told of these customers, and a message of the first one was set aside."""
    async with site.core.db.write() as session:
        session.add(models.Endpoint(owner_id=owner.id, url="https://crm.example/", secret="", events=[]))
        for talk in talks:
            place = endpoints.place("", talk.channel_id, "web", talk.id, talk.contact_id, "")
            await endpoints.tell(session, [endpoints.Happening(owner.id, endpoints.CLOSED, place)])
        item = {"channel_id": talks[0].channel_id, "external_id": "aside", "payload": "{}", "status": "dead"}
        session.add(models.InboxItem(lane=lane_of(talks[0].channel_id, "Aziza"), **item))


async def test_a_customer_is_deleted_on_request(site: Site) -> None:
    """By name, after the words could be taken out; nothing of it stays, others are untouched, and the log says who did it."""
    browser, user, bot = await _owner(site, "Forgetter")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza", last_inbound_at=utcnow())
        other = await web_talk(session, bot, "Aziza Nur")
        session.add(models.Note(conversation_id=talk.id, author_id=user.id, text="Maxfiy."))
        session.add(
            models.UnansweredQuestion(
                bot_id=bot.id, conversation_id=talk.id, question="Telefonim 123?", folded="telefonim 123"
            )
        )
    said, kept = await _told(site, talk, "Telefonim 123"), await _told(site, other, "Salom")
    async with site.core.db.write() as session:
        file = models.Attachment(bot_id=bot.id, message_id=said, kind="photo", status="stored")
        session.add(file)
        await session.flush()
        session.add(models.AttachmentContent(attachment_id=file.id, content=b"photo"))
        session.add(
            models.OutboxItem(
                lane="out:x",
                channel_id=talk.channel_id,
                conversation_id=talk.id,
                recipient="Aziza",
                payload="{}",
                status="sent",
            )
        )
    await _told_elsewhere(site, user, talk, other)
    path = f"/contacts/{talk.contact_id}"
    table = _rows(await browser.get(f"{path}/messages.csv"))
    assert table[1][9] == "Telefonim 123" and len(table) == 2
    wrong = await browser.post(f"{path}/delete", confirm="aziza")
    assert wrong.status == 400 and 'role="alert"' in wrong.text and 'value="aziza"' in wrong.text
    # While an answer is made nothing is torn out from under it.
    held = {
        "key": lane_of(talk.channel_id, "Aziza"),
        "kind": "inbox",
        "owner_id": user.id,
        "share_id": bot.id,
        "holder": "w1",
    }
    async with site.core.db.write() as session:
        await session.execute(insert(lanes.LANES).values(**held, lease_until=4e12))
    busy = await browser.post(f"{path}/delete", confirm="Aziza")
    assert busy.status == 409 and "moment" in busy.visible()
    async with site.core.db.write() as session:
        await session.execute(update(lanes.LANES).where(lanes.LANES.c.key == held["key"]).values(holder=None))
    done = await browser.post(f"{path}/delete", confirm=" Aziza ")
    assert done.location == "/inbox?done=contact_deleted", done.visible()
    async with site.core.db.read() as session:
        for model, column, value in (
            (models.Contact, models.Contact.id, talk.contact_id),
            (models.Conversation, models.Conversation.id, talk.id),
            (models.Message, models.Message.conversation_id, talk.id),
            (models.Note, models.Note.conversation_id, talk.id),
            (models.Attachment, models.Attachment.id, file.id),
            (models.AttachmentContent, models.AttachmentContent.attachment_id, file.id),
            (models.OutboxItem, models.OutboxItem.conversation_id, talk.id),
            (models.UnansweredQuestion, models.UnansweredQuestion.bot_id, bot.id),
            (models.ConversationText, models.ConversationText.conversation_id, talk.id),
            (models.InboxItem, models.InboxItem.lane, lane_of(talk.channel_id, "Aziza")),
        ):
            assert await session.scalar(select(func.count()).select_from(model).where(column == value)) == 0, model
        assert await session.get(models.Message, kept) is not None
        told = list(await session.scalars(select(models.EndpointEvent.payload)))
        assert len(told) == 1 and other.contact_id in told[0], "only what was said of others is left"
        audit = select(models.AuditLog).where(models.AuditLog.object_id == talk.contact_id)
        log = await session.scalar(audit.order_by(models.AuditLog.id.desc()))
    assert log is not None and (log.action, log.actor_id) == ("contact_deleted", user.id)
    assert "Aziza" not in str(log.details)
    for address in (path, f"/inbox/{talk.id}"):
        assert (await browser.get(address)).status == 404
    assert (await browser.post(f"{path}/delete", confirm="Aziza")).status == 404
    assert "Telefonim" not in (await browser.get("/inbox?q=telefonim")).visible()


async def test_what_is_filtered_is_sent_as_a_table(site: Site) -> None:
    browser, _, bot = await _owner(site, "Tabler")
    now = utcnow()
    async with site.core.db.write() as session:
        first = await web_talk(session, bot, "=Aziza", last_message_at=now)
        old = await web_talk(session, bot, "Botir", last_message_at=now - dt.timedelta(days=9), status="closed")
    await _told(site, first, "=1+1", created_at=now)
    await _told(site, first, "Ikki", "bot", answered=True, model="gemini", status="delivered")
    await _told(site, old, "Eski gap", created_at=now - dt.timedelta(days=9))
    everything = _rows(await browser.get("/inbox/export.csv"))
    assert [row[9] for row in everything[1:]] == ["'=1+1", "Ikki", "Eski gap"]
    assert everything[1][3] == "'=Aziza" and everything[2][10:13] == ["yes", "gemini", "delivered"]
    day = f"{now - dt.timedelta(days=5):%Y-%m-%d}"
    for query, texts in (
        (f"since={day}", ["'=1+1", "Ikki"]),
        (f"until={day}", ["Eski gap"]),
        ("status=closed", ["Eski gap"]),
        ("q=botir", ["Eski gap"]),
        ("channel=telegram", []),
        (f"bot={bot.id}&since=nonsense", ["'=1+1", "Ikki", "Eski gap"]),
    ):
        assert [row[9] for row in _rows(await browser.get(f"/inbox/export.csv?{query}"))[1:]] == texts, query
    page = await browser.get(f"/inbox?until={day}&status=closed")
    assert f'value="{day}"' in page.text and "Botir" in page.visible() and "Aziza" not in page.visible()
    assert re.search(rf'href="/inbox/export\.csv\?[^"]*until={day}', page.text)
    answer = await browser.http.get(f"{site.base}/inbox/export.xlsx")
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and '<c r="J2" t="inlineStr"><is><t>=1+1</t>' in sheet and "Eski gap" in sheet


async def test_many_messages_come_in_parts_of_a_bounded_size(site: Site) -> None:
    """Each unit reads at most a thousand rows, however long the table; nobody waits for the whole of it."""
    browser, _, bot = await _owner(site, "Manyrows")
    async with site.core.db.write() as session:
        talks = [await web_talk(session, bot, f"M{number}") for number in range(3)]
        await session.execute(
            insert(models.Message),
            [
                {"id": new_id(), "conversation_id": talks[number % 3].id, "author": "customer", "text": f"n{number}"}
                for number in range(4500)
            ],
        )
    most = 0

    def hear(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        nonlocal most
        most += statement.lstrip().startswith("SELECT messages.conversation_id") and "messages.author_id" in statement

    engine = site.core.db.engine.sync_engine
    event.listen(engine, "after_cursor_execute", hear)
    try:
        rows = _rows(await browser.get("/inbox/export.csv"))
    finally:
        event.remove(engine, "after_cursor_execute", hear)
    assert len(rows) == 4501 and len({row[9] for row in rows}) == 4501
    assert most == 5
