"""A bot's page in a browser: unsaved words are tried at once, saving and deleting are undone on the spot, many files go up."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import Browser, FilePayload, Route, expect

from db import models
from services import accounts
from tests.browser.conftest import SIZES, person, watched
from tests.composition import FAQ, add_document
from tests.web.panel import Site, web_talk


@pytest.mark.parametrize("size", SIZES)
async def test_words_are_tried_saved_and_undone(chromium: Browser, browser_site: Site, size: str) -> None:
    email = await person(browser_site, f"Words-{size}", "en")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Texno Savdo")
    document = await add_document(browser_site.core, bot, "savollar.txt", FAQ.encode())
    async with browser_site.core.db.write() as session:
        talk = await web_talk(session, bot, "Sevara")
        session.add(models.Message(conversation_id=talk.id, author="customer", text="Salom"))
    async with watched(chromium, browser_site, size, "dark" if size == "phone" else "light", "en") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}")
        await page.get_by_role("link", name="Greeting and other lines").click()
        await page.fill("#greeting-en", "Good day, this is {name}!")
        await page.fill("#name", "Texno Plus")
        # A question that did not arrive is still there to be sent again.
        await page.route("**/try", lambda route: route.abort())
        await page.fill("#chat-text", "/start")
        await page.press("#chat-text", "Enter")
        await expect(page.locator(".bubble-bad")).to_be_visible()
        await expect(page.locator("#chat-text")).to_have_value("/start")
        await page.unroute("**/try")
        seen.troubles.clear()
        await page.press("#chat-text", "Enter")
        await expect(page.get_by_text("Good day, this is Texno Plus!")).to_be_visible()
        await expect(page.locator(".made-of").get_by_text("Not published yet")).to_be_visible()
        await page.fill("#chat-text", "Yetkazib berish bormi?")
        await page.press("#chat-text", "Enter")
        await expect(page.locator(".sources")).to_be_visible()
        await expect(page.locator(".made-of").last.get_by_text("Time")).to_be_visible()
        # With a model that costs something: language, model, time, cost, and each source with its score.
        facts = {
            "messages": [{"author": "bot", "text": "45 000", "files": []}],
            "language": "ru", "answered": True, "provider": "gemini", "model": "gemini-3.5-flash", "published": True,
            "sources": [{"document_name": "narxlar.csv", "snippet": "Yetkazish 45 000", "score": "0.87"}],
            "usage": {"cost_usd": "0.00042"}, "took_ms": 1234,
        }  # fmt: skip
        told = f"event: done\ndata: {json.dumps(facts)}\n\n"
        await page.route("**/try", lambda route: route.fulfill(content_type="text/event-stream", body=told))
        await page.fill("#chat-text", "Yetkazish necha pul?")
        await page.press("#chat-text", "Enter")
        made_of = page.locator(".made-of").last
        for words in ("Language: Русский", "Model: gemini-3.5-flash", "Time: 1.23 s", "Cost: $0.00042"):
            await expect(made_of).to_contain_text(words)
        await expect(page.locator(".sources").last).to_contain_text("narxlar.csv 0.87")
        await page.unroute("**/try")
        await seen.check()
        await page.get_by_role("button", name="Save", exact=True).first.click()
        await expect(page.locator("h1")).to_have_text("Texno Plus")
        await page.locator("[data-toast]").get_by_role("button", name="Undo").click()
        await expect(page.locator("h1")).to_have_text("Texno Savdo")
        await page.get_by_role("link", name="Versions").click()
        await page.get_by_text("What changed").first.click()
        await expect(page.locator("ins").first).to_have_text("Texno Savdo")
        await seen.check()
        await seen.open(f"/bots/{bot.id}/documents/{document.id}")
        await seen.check()
        await seen.open(f"/bots/{bot.id}/documents")
        await page.locator(f"form[action$='{document.id}/delete'] button").click()
        await expect(page.get_by_text("No documents yet")).to_be_visible()
        await page.locator("[data-toast]").get_by_role("button", name="Undo").click()
        await expect(page.locator("#documents").get_by_text("savollar.txt")).to_be_visible()
        many = [
            FilePayload(name=f"fayl-{number}.txt", mimeType="text/plain", buffer=f"Tovar {number} 5000 so'm".encode())
            for number in range(3)
        ]
        # While the first is on its way, each that waits its turn is seen, and whoever leaves is asked.
        on_its_way, arrives = asyncio.Event(), asyncio.Event()

        async def slowly(route: Route) -> None:
            on_its_way.set()
            await arrives.wait()
            await route.continue_()

        await page.route("**/documents", slowly)
        await page.set_input_files("#file", [FilePayload(name="ugly.exe", mimeType="x/y", buffer=b"MZ"), *many])
        await on_its_way.wait()
        await expect(page.locator(".uploads progress")).to_have_count(3)
        async with page.expect_event("dialog") as asked:
            leaving = asyncio.create_task(page.close(run_before_unload=True))
        dialog = await asked.value
        assert dialog.type == "beforeunload"
        await dialog.dismiss()
        await leaving
        arrives.set()
        await expect(page.locator("#used")).to_contain_text("4 of")
        await expect(page.locator(".uploads progress")).to_have_count(0)
        await expect(page.get_by_text("ugly.exe is not a PDF")).to_be_visible()
        await page.set_input_files("#file", many[:1])
        await expect(page.get_by_text("ugly.exe is not a PDF")).to_have_count(0)
        await seen.open(f"/contacts/{talk.contact_id}")
        await seen.check()
        await page.locator(".danger summary").click()
        await page.fill("#confirm", "Sevara")
        await page.get_by_role("button", name="Delete for good").click()
        await expect(page.get_by_text("No conversations yet")).to_be_visible()
        assert seen.troubles == []
