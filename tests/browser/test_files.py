"""What customers sent, in a conversation that is read: seen, heard and saved, on a wide screen and on a phone."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, FilePayload, expect

from db import models
from tests.browser.conftest import watched
from tests.browser.test_live import _talk
from tests.services.test_pictures import encoded
from tests.web.panel import Site

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_files_of_a_conversation(chromium: Browser, browser_site: Site, size: str) -> None:
    email, bot, talk, _ = await _talk(browser_site, f"Fayl{size}", 1)
    sent = [
        ("photo", "image/jpeg", encoded("JPEG", (1200, 800), "teal"), "stored", "Yashil devor."),
        ("voice", "audio/ogg", b"OggS", "stored", "Muzlatgichlarga kafolat bormi?"),
        ("document", "application/pdf", b"%PDF-1.4", "stored", None),
        ("document", "", b"", "too_large", None),
    ]
    async with browser_site.core.db.write() as session:
        for kind, mime, content, status, transcript in sent:
            message = models.Message(conversation_id=talk.id, author="customer", kind=kind)
            session.add(message)
            await session.flush()
            file = models.Attachment(
                bot_id=bot.id, message_id=message.id, kind=kind, name="shartnoma.pdf" if kind == "document" else "", mime=mime,
                size=len(content), status=status, transcript=transcript,
            )  # fmt: skip
            session.add(file)
            await session.flush()
            if content:
                session.add(models.AttachmentContent(attachment_id=file.id, content=content))
    async with watched(chromium, browser_site, size, "light", "uz") as seen:
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/conversations/{talk.id}")
        picture = seen.page.locator(".sent-file img")
        await picture.scroll_into_view_if_needed()
        await expect(picture).to_have_js_property("naturalWidth", 1200)
        await expect(seen.page.locator(".sent-file audio")).to_be_visible()
        await expect(seen.page.locator(".file-link")).to_have_attribute("download", "")


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_a_file_is_sent_from_the_composer(chromium: Browser, browser_site: Site, size: str) -> None:
    email, _, talk, _ = await _talk(browser_site, f"Yubor{size}", 1)
    async with watched(chromium, browser_site, size, "light", "uz") as seen:
        await seen.sign_in(email)
        await seen.open(f"/inbox/{talk.id}")
        page = seen.page
        content = encoded("PNG", (1200, 800), "teal")
        picture = FilePayload(name="model.png", mimeType="image/png", buffer=content)
        # Nothing is no message; a picture without a word is one.
        await expect(page.locator("#reply-text")).to_have_attribute("required", "")
        await page.set_input_files("#reply-file", files=picture)
        await expect(page.get_by_text("model.png")).to_be_visible()
        await page.click("[data-file-none]")
        await expect(page.locator("#reply-text")).to_have_attribute("required", "")
        await expect(page.get_by_text("model.png")).to_have_count(0)
        # The button is a label: a person with a keyboard comes to the field behind it.
        async with page.expect_file_chooser() as chooser:
            await page.locator("label[for=reply-file]").click()
        await (await chooser.value).set_files(picture)
        await expect(page.get_by_text("model.png")).to_be_visible()
        await seen.check()
        await page.click(".btn-send")
        shown = page.locator(".sent-file img")
        await shown.scroll_into_view_if_needed()
        await expect(shown).to_have_js_property("naturalWidth", 1200)
        await expect(page.locator("#reply-file")).to_have_value("")
        await seen.check()
