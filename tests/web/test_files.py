"""What customers sent, on the page of their conversation."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from tests.services.test_pictures import encoded
from tests.web.panel import Site, open_site, web_talk

CANARY = "<script>alert(1)</script>{{77741*77747}}"


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    """The product."""
    async with open_site(tmp_path, sqlite_url) as made:
        yield made


async def test_pictures_sound_and_documents_of_a_conversation(site: Site) -> None:
    user = await site.person("Files", language="en")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    kept = [
        ("photo", "image/jpeg", encoded("JPEG"), "stored"),
        ("voice", "audio/ogg", b"OggS", "stored"),
        ("document", "application/pdf", b"%PDF-1.4", "stored"),
        ("document", "", b"", "gone"),
        ("document", "", b"", "too_large"),
        ("document", "", b"", "waiting"),
    ]
    async with site.core.db.write() as session:
        channel = (await session.scalars(select(models.Channel).where(models.Channel.bot_id == bot.id))).first()
        assert channel is not None
        contact = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id="c1", name="Gulbahor")
        session.add(contact)
        await session.flush()
        talk = models.Conversation(bot_id=bot.id, channel_id=channel.id, contact_id=contact.id)
        session.add(talk)
        await session.flush()
        for kind, mime, content, status in kept:
            message = models.Message(conversation_id=talk.id, author="customer", kind=kind)
            session.add(message)
            await session.flush()
            file = models.Attachment(
                bot_id=bot.id, message_id=message.id, kind=kind, name=CANARY, mime=mime, size=len(content), status=status,
                transcript=CANARY,
            )  # fmt: skip
            session.add(file)
            await session.flush()
            if status == "stored":
                session.add(models.AttachmentContent(attachment_id=file.id, content=content))
    page = await browser.get(f"/inbox/{talk.id}")
    assert page.status == 200 and CANARY not in page.text and str(77741 * 77747) not in page.text
    seen = page.visible()
    assert "The file is no longer there." in seen and "too large" in seen and "being fetched" in seen
    assert CANARY in seen  # as it is, escaped
    links = list(dict.fromkeys(re.findall(r'(?:src|href)="(/files/[^"]+)"', page.text)))
    assert len(links) == 3
    assert "<audio controls" in page.text and "<img src=" in page.text
    # A table of every JPEG looks like a token to the watch over pages: the other two.
    for link in links[1:]:
        assert (await browser.get(link)).status == 200
    assert (await browser.get(links[0][:-1] + ("0" if links[0][-1] != "0" else "1"))).status == 404


async def test_a_person_sends_a_file_from_the_inbox(site: Site) -> None:
    """Without script: chosen, sent, seen in the conversation and by the customer; what is refused is said in words."""
    user, other = await site.person("Sender", language="en"), await site.person("Stranger", language="en")
    browser, bot, foreign = await site.signed_in(user), await site.bot_of(user), await site.signed_in(other)
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, status="human")
    address = f"/inbox/{talk.id}"
    page = await browser.get(address)
    assert 'type="file"' in page.text and 'enctype="multipart/form-data"' in page.text
    refused = await browser.upload(address, "narx.pdf", b"<html><script>alert(1)</script>")
    assert refused.status == 422 or refused.status == 400
    assert "This file cannot be sent" in refused.visible()
    large = await browser.upload(address, "katta.pdf", b"%PDF-1.4" + b"x" * (10 * 2**20))
    assert large.status == 413 and "at most 10 MB" in large.visible()
    beyond = await browser.upload(address, "katta.pdf", b"x" * (18 * 2**20))
    assert beyond.status == 413
    empty = await browser.upload(address, "", b"")
    assert "Write a message first." in empty.visible()
    await foreign.get("/inbox")
    assert (await foreign.upload(address, "narx.pdf", b"%PDF-1.4")).status == 404
    async with site.core.db.read() as session:
        assert not (await session.scalars(select(models.Attachment).where(models.Attachment.bot_id == bot.id))).all()
    for name, data in (("narx.pdf", b"%PDF-1.4 narx"), (f"{CANARY}.png", encoded("PNG"))):
        await browser.get(address)
        sent = await browser.upload(address, name, data)
        assert sent.status == 303
    page = await browser.get(address)
    assert "narx.pdf" in page.visible() and "<img src=" in page.text and CANARY not in page.text
    async with site.core.db.read() as session:
        query = select(models.Attachment).where(models.Attachment.bot_id == bot.id).order_by(models.Attachment.id)
        document, picture = (await session.scalars(query)).all()
        messages = list(await session.scalars(select(models.Message).where(models.Message.conversation_id == talk.id)))
    assert (document.mime, document.status, picture.mime, picture.kind) == (
        "application/pdf",
        "stored",
        "image/jpeg",
        "photo",
    )
    assert [(one.author, one.status, one.author_id) for one in messages] == [("operator", "sent", user.id)] * 2
    link = next(found for found in re.findall(r'href="(/files/[^"]+)" download', page.text))
    assert (await site.browser().get(link)).status == 200
