"""What customers sent, on the page of their conversation."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import models
from tests.services.test_pictures import encoded
from tests.web.panel import Site, open_site

CANARY = "<script>alert(1)</script>{{7*7}}"


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
    assert page.status == 200 and CANARY not in page.text and "49" not in page.visible()
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
