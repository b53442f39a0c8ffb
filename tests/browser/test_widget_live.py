"""The chat on somebody else's site while people answer: at once, once, by a stream or without, and across a restart."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Browser, Locator, Page, Request, Route, expect
from sqlalchemy import select

from db import models
from services import accounts, conversations, outfiles
from tests import servers
from tests.browser.conftest import person, watched
from tests.browser.shop import Shop, answers, axe, foreign
from tests.services.test_pictures import encoded
from tests.web import panel
from tests.web.site import Site, started
from tests.web.widget import ANSWER, QUESTION, afresh, serving

pytestmark = pytest.mark.browser

HIDE = """value => {
  Object.defineProperty(document, "hidden", { configurable: true, value });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
async def running(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with serving(servers_run, tmp_path_factory) as site:
        yield site


@pytest.fixture
async def shop(running: Site) -> AsyncIterator[Shop[Site]]:
    await afresh(running)
    async with foreign(running, running.owner.shop.bot.public_id) as made:
        yield made


async def last_talk(site: Site) -> str:
    """Return the id of the conversation in which something was said last."""
    return str((await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]["id"])


async def say(site: Site, talk_id: str, text: str) -> None:
    """Answer as a person."""
    assert (await site.owner.post(f"/conversations/{talk_id}/messages", {"text": text})).status < 300


async def give(site: Site, talk_id: str, name: str, data: bytes, text: str = "") -> None:
    """Send a file as a person."""
    file = await outfiles.prepare(site.core, "web", talk_id, name, data)
    async with site.core.db.write() as session:
        row = await conversations.get(session, site.owner.shop.owner, talk_id)
        await conversations.operator_reply(session, row, text, author=site.owner.shop.owner, file=file)
    site.core.ring_talk(site.owner.shop.bot.id, talk_id)


async def middle(canvas: Locator) -> int:
    """Return how green the middle of a picture is on the screen, 0 to 255; teal is 128."""
    picture = Image.open(io.BytesIO(await canvas.screenshot())).convert("RGB")
    at = (picture.width // 2, picture.height // 2)
    red, green, _ = picture.crop((*at, at[0] + 1, at[1] + 1)).tobytes()
    return green if red < 40 else 0


def is_stream(request: Request) -> bool:
    return "/events?" in request.url and request.method == "GET"


async def asked(shop: Shop[Any], chromium: Browser, **options: Any) -> Page:
    """Open the chat, ask, and wait until the stream is held."""
    page = await shop.open(chromium, locale="en", **options)
    await page.locator(".launcher").click()
    async with page.expect_response(lambda answer: is_stream(answer.request) and answer.ok):
        await page.locator("textarea").fill(QUESTION)
        await page.locator(".send").click()
    await expect(answers(page)).to_have_count(1)
    return page


async def test_a_person_is_heard_at_once_in_every_tab(chromium: Browser, shop: Shop[Site]) -> None:
    """By the stream alone: no tab asks for it."""
    page = await asked(shop, chromium)
    talk_id = await last_talk(shop.site)
    second = await page.context.new_page()
    await second.goto(shop.base)
    async with second.expect_response(lambda answer: is_stream(answer.request) and answer.ok):
        await second.locator(".launcher").click()

    async def refuse(route: Route) -> None:
        await (route.abort() if route.request.method == "GET" else route.continue_())

    for tab in (page, second):
        await tab.route("**/messages?*", refuse)
        await expect(answers(tab)).to_have_text([ANSWER])
    for number in range(3):
        await say(shop.site, talk_id, f"Men Dilnozaman {number}")
    told = [ANSWER, *(f"Men Dilnozaman {number}" for number in range(3))]
    for tab in (page, second):
        await expect(answers(tab)).to_have_text(told)
        await expect(tab.locator(".state")).to_have_text("a person answers")
    # What is written in one tab is seen in the other, and in its own only once.
    await page.locator("textarea").fill("Rahmat!")
    await page.locator(".send").click()
    for tab in (page, second):
        await expect(tab.locator(".own[data-id] .bubble")).to_have_text([QUESTION, "Rahmat!"])
    assert shop.troubles == []


async def test_who_does_not_look_holds_no_stream(chromium: Browser, shop: Shop[Site]) -> None:
    """Closed or hidden it ends at once; back again, what was missed is there."""
    page = await asked(shop, chromium)
    talk_id = await last_talk(shop.site)
    async with page.expect_event("requestfailed", is_stream):
        await page.keyboard.press("Escape")
    await say(shop.site, talk_id, "Yopiq paytda")
    async with page.expect_response(lambda answer: is_stream(answer.request) and answer.ok):
        await page.locator(".launcher").click()
    await expect(answers(page)).to_have_text([ANSWER, "Yopiq paytda"])
    async with page.expect_event("requestfailed", is_stream):
        await page.evaluate(HIDE, True)
    await say(shop.site, talk_id, "Yashirin paytda")
    async with page.expect_response(lambda answer: is_stream(answer.request) and answer.ok):
        await page.evaluate(HIDE, False)
    await expect(answers(page)).to_have_text([ANSWER, "Yopiq paytda", "Yashirin paytda"])
    assert shop.troubles == []


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_without_a_stream_it_asks_by_and_by(chromium: Browser, shop: Shop[Site], how: str) -> None:
    """Too many are open, or something on the way gathers what it should pass on."""
    page = await shop.open(chromium, locale="en")
    held: list[Route] = []

    async def keep(route: Route) -> None:
        if not is_stream(route.request):
            await route.continue_()
        elif how == "refused":
            await route.fulfill(status=429, headers={"Retry-After": "1", "Access-Control-Allow-Origin": "*"})
        else:
            held.append(route)

    await page.route("**/events?*", keep)
    await page.locator(".launcher").click()
    await page.locator("textarea").fill(QUESTION)
    await page.locator(".send").click()
    await expect(answers(page)).to_have_count(1)
    await say(shop.site, await last_talk(shop.site), "Men Dilnozaman")
    await expect(answers(page)).to_have_text([ANSWER, "Men Dilnozaman"], timeout=60_000)
    await expect(page.locator(".offline")).to_be_hidden()


async def test_a_restart_loses_nothing(chromium: Browser, servers_run: servers.Run, tmp_path: Path) -> None:
    """The chat comes back by itself and shows what was said meanwhile, once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, server = servers_run.new_sqlite(tmp_path), {"server": {"port": port}}
    async with contextlib.AsyncExitStack() as life:
        first = await life.enter_async_context(started(tmp_path, url, overrides=server))
        await afresh(first)
        async with foreign(first, first.owner.shop.bot.public_id) as shop:
            page = await asked(shop, chromium)
            talk_id = await last_talk(first)
            await life.aclose()
            async with started(tmp_path, url, overrides=server) as second:
                async with second.core.db.write() as session:
                    row = await conversations.get(session, first.owner.shop.owner, talk_id)
                    await conversations.operator_reply(session, row, "Biz qaytdik", author=first.owner.shop.owner)
                await expect(answers(page)).to_have_text([ANSWER, "Biz qaytdik"], timeout=90_000)
                await expect(page.locator(".offline, .fault:not([hidden])").first).to_be_hidden()
                # And hears on.
                async with second.core.db.write() as session:
                    row = await conversations.get(session, first.owner.shop.owner, talk_id)
                    await conversations.operator_reply(session, row, "Eshityapsizmi?", author=first.owner.shop.owner)
                second.core.ring_talk(row.bot.id, talk_id)
                await expect(answers(page)).to_have_text([ANSWER, "Biz qaytdik", "Eshityapsizmi?"], timeout=60_000)


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_a_person_who_writes_is_seen_writing(
    chromium: Browser, browser_site: panel.Site, size: str, scheme: Any
) -> None:
    """From a key in the panel to the chat on another site, until the message is there."""
    email = await person(browser_site, f"Types{size}", "uz")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user)
    async with (
        foreign(browser_site, bot.public_id) as shop,
        watched(chromium, browser_site, "desktop", "light", "uz") as desk,
    ):
        page = await asked(shop, chromium, size=size, color_scheme=scheme)
        async with browser_site.core.db.read() as session:
            found = select(models.Conversation.id).where(models.Conversation.bot_id == bot.id)
            talk_id = (await session.scalars(found)).one()
        await desk.sign_in(email)
        said: list[str] = []
        desk.page.on("requestfinished", lambda request: said.extend(re.findall(r"/presence/(\w+)$", request.url)))

        async def late(route: Route) -> None:
            await asyncio.sleep(0.5)
            await route.continue_()

        # A word that takes long is not heard after a later one: it would take the sign away again.
        await desk.page.route("**/presence/looking", late, times=1)
        await desk.open(f"/inbox/{talk_id}")
        await desk.page.type("#reply-text", "Salom")
        sign = page.get_by_role("img", name="An operator is writing…")
        await expect(sign).to_be_visible(timeout=60_000)
        await expect(page.locator(".dots")).to_have_count(1)
        assert said[:2] == ["looking", "typing"]
        assert await axe(page) == []
        await shop.shot(page, f"typing-{size}-{scheme}")
        await desk.page.click("#reply button.btn-send")
        await expect(answers(page).last).to_have_text("Salom", timeout=60_000)
        await expect(sign).to_have_count(0)
        # Who stops without a word is not seen writing for ever: nothing is said again.
        await desk.page.type("#reply-text", "Yana")
        await expect(sign).to_be_visible(timeout=60_000)
        await expect(sign).to_have_count(0, timeout=60_000)
        assert shop.troubles == []


async def test_thumbs_by_keyboard(chromium: Browser, shop: Shop[Site]) -> None:
    """Changed as often as wanted, kept across a reload, and taken back where it could not be stored."""
    page = await asked(shop, chromium)
    up, down = page.get_by_role("button", name="Helpful", exact=True), page.get_by_role("button", name="Not helpful")
    await expect(up).to_have_attribute("aria-pressed", "false")
    await up.focus()
    async with page.expect_response("**/ratings?*"):
        await page.keyboard.press("Enter")
    await expect(up).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("Tab")
    await expect(down).to_be_focused()
    async with page.expect_response("**/ratings?*"):
        await page.keyboard.press("Space")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await expect(up).to_have_attribute("aria-pressed", "false")
    assert await axe(page) == []
    await shop.shot(page, "thumbs-desktop-light")
    await page.reload()
    await page.locator(".launcher").click()
    await expect(down).to_have_attribute("aria-pressed", "true")
    assert shop.troubles == []
    await page.route("**/ratings?*", lambda route: route.abort())
    await up.click()
    await expect(page.get_by_role("alert")).to_have_text("This was not saved. Please press again.")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await expect(up).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_pictures_are_seen_where_the_site_allows_none(
    chromium: Browser, shop: Shop[Site], size: str, scheme: Any
) -> None:
    """Drawn in their place, which is kept for them; each opens the whole picture. What cannot be drawn is a link."""
    page = await asked(shop, chromium, size=size, color_scheme=scheme)
    talk_id = await last_talk(shop.site)
    held: asyncio.Queue[Route] = asyncio.Queue()

    async def keep(route: Route) -> None:
        held.put_nowait(route)

    await page.route("**/files/*", keep)
    await give(shop.site, talk_id, "model.png", encoded("PNG", (1200, 800), "teal"))
    link = page.get_by_role("link", name="model.jpg")
    await expect(link.get_by_role("img", name="model.jpg")).to_be_visible()
    asked_for = await held.get()
    height = await page.locator(".scroll").evaluate("node => node.scrollHeight")
    async with page.expect_response("**/files/*"):
        await asked_for.continue_()
    canvas = link.locator("canvas")
    async with asyncio.timeout(30):
        while abs(await middle(canvas) - 128) > 20:
            pass
    await page.unroute("**/files/*")
    assert await page.locator(".scroll").evaluate("node => node.scrollHeight") == height
    box = await canvas.bounding_box()
    assert box is not None and abs(box["width"] / box["height"] - 1.5) < 0.02
    address = await link.get_attribute("href")
    assert address is not None and address.startswith(f"{shop.site.base}/files/")
    await give(shop.site, talk_id, "narx.pdf", b"%PDF-1.4 narx", "Narxlar shu yerda")
    await expect(page.get_by_role("link", name="📎 narx.pdf (13 B)")).to_be_visible()
    assert await axe(page) == []
    await shop.shot(page, f"pictures-{size}-{scheme}")
    assert shop.troubles == []
    await page.route("**/files/*", lambda route: route.abort())
    await give(shop.site, talk_id, "ikkinchi.png", encoded("PNG", (300, 300), "red"))
    await expect(page.get_by_role("link", name="📎 ikkinchi.jpg (")).to_be_visible()
