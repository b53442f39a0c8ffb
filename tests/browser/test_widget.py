"""The chat on somebody else's site, in Chromium: a site with a strict policy, on an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Route, expect

from services import accounts, conversations, outfiles
from services.i18n import translate
from tests import servers
from tests.browser.conftest import person, watched
from tests.browser.shop import SHOTS, Shop, answers, axe, foreign
from tests.web import panel
from tests.web.site import Site
from tests.web.widget import ANSWER, CANARY, QUESTION, afresh, choose, png, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
async def running(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with serving(servers_run, tmp_path_factory) as site:
        yield site


@pytest.fixture
async def shop(running: Site) -> AsyncIterator[Shop[Site]]:
    await afresh(running)
    async with foreign(running, running.owner.shop.bot.public_id) as made:
        yield made


async def test_by_keyboard_from_opening_to_the_answer_and_after_a_reload(chromium: Browser, shop: Shop[Site]) -> None:
    page = await shop.open(chromium)
    launcher, field_, panel_ = page.locator(".launcher"), page.locator("textarea"), page.get_by_role("dialog")
    await expect(launcher).to_be_visible()
    await expect(panel_).to_be_hidden()
    assert await axe(page) == []
    await page.locator("#before").focus()
    await page.keyboard.press("Tab")
    await expect(launcher).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(panel_).to_be_visible()
    await expect(panel_).to_have_accessible_name("Texno Savdo")
    await expect(field_).to_be_focused()
    await page.keyboard.type(QUESTION)
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("Bepulmi?")
    await page.keyboard.press("Enter")
    await expect(answers(page)).to_have_count(1)
    await expect(page.locator(".own .bubble")).to_have_text(f"{QUESTION}\nBepulmi?", use_inner_text=True)
    await expect(field_).to_have_value("")
    assert await axe(page) == []
    await shop.shot(page, "desktop-light")
    await page.keyboard.press("Escape")
    await expect(panel_).to_be_hidden()
    await expect(launcher).to_be_focused()
    await page.reload()
    await launcher.click()
    await expect(answers(page)).to_have_count(1)
    await expect(page.locator(".own .bubble")).to_have_count(1)
    await expect(page.locator(".badge")).to_be_hidden()
    # Nothing of ours lies in the site's cookies.
    assert await page.context.cookies() == []
    assert shop.troubles == []


async def test_who_writes_before_the_talk_is_there_writes_below_it(chromium: Browser, shop: Shop[Site]) -> None:
    """The same words as long ago are a message of their own."""
    page = await shop.open(chromium)
    await page.locator(".launcher").click()
    await page.locator("textarea").fill(QUESTION)
    await page.locator(".send").click()
    await expect(answers(page)).to_have_count(1)
    held: list[Route] = []

    async def hold(route: Route) -> None:
        if route.request.method == "GET" and not held:
            held.append(route)
        else:
            await route.continue_()

    await page.route("**/messages?*", hold)
    async with page.expect_request("**/messages?*"):
        await page.reload()
    await page.locator(".launcher").click()
    await page.locator("textarea").fill(QUESTION)
    await page.locator(".send").click()
    await expect(answers(page)).to_have_count(2)
    async with page.expect_response("**/messages?*"):
        await held[0].continue_()
    shown = page.locator(".message[data-id] .bubble")
    await expect(shown).to_have_text([QUESTION, ANSWER, QUESTION, ANSWER])
    assert shop.troubles == []


async def test_an_answer_is_shown_as_it_is_written(chromium: Browser, shop: Shop[Site]) -> None:
    shop.site.models.latency_s = 0.2
    page = await shop.open(chromium)
    await page.locator(".launcher").click()
    await page.locator("textarea").fill(QUESTION)
    await page.locator(".send").click()
    await expect(page.locator(".dots")).to_be_visible()
    await expect(answers(page)).to_have_text([ANSWER])
    await expect(page.locator(".dots, [aria-busy]")).to_have_count(0)
    assert shop.troubles == []


@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("phone", "dark"), ("desktop", "dark")])
async def test_on_phones_and_in_the_dark(chromium: Browser, shop: Shop[Site], size: str, scheme: Any) -> None:
    """Readable with the owner's colour, the whole screen on a phone, everything large enough for a finger."""
    await choose(shop.site, color="#ffd400", position="left", greetings={"ru": "Здравствуйте! Подскажем любую цену."})
    page = await shop.open(chromium, size, color_scheme=scheme, locale="ru")
    launcher = page.locator(".launcher")
    await expect(launcher).to_be_visible()
    box = await launcher.bounding_box()
    assert box is not None and box["x"] < 40 and min(box["width"], box["height"]) >= 44
    await shop.shot(page, f"{size}-{scheme}-closed")
    await launcher.click()
    await expect(page.locator(".message .bubble").first).to_have_text("Здравствуйте! Подскажем любую цену.")
    await page.locator("textarea").fill("Есть ли доставка?")
    await page.locator(".send").click()
    await expect(answers(page)).to_have_count(1)
    await page.locator(".pill", has_text=translate("ru", "Ask for a person")).click()
    await expect(answers(page)).to_have_count(2)
    await page.locator("textarea").fill("/language")
    await page.locator(".send").click()
    await expect(page.locator(".choices button")).to_have_count(4)
    assert await axe(page) == []
    panel_ = await page.get_by_role("dialog").bounding_box()
    assert panel_ is not None
    if size == "phone":
        assert (panel_["width"], panel_["height"]) == (390, 844)
    small = await page.evaluate(
        "() => [...document.querySelector('botfactory-chat').shadowRoot.querySelectorAll('button, select, textarea')]"
        ".map((node) => [node.className, node.getBoundingClientRect()])"
        ".filter(([, box]) => box.height && (box.height < 44 || box.width < 44)).map(([name]) => name)"
    )
    assert small == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await shop.shot(page, f"{size}-{scheme}")
    await page.locator(".choices button", has_text="English").click()
    await expect(page.locator(".own .bubble").last).to_have_text("English")
    await page.locator("select").select_option("en")
    await expect(page.locator("textarea")).to_have_attribute("placeholder", "Write a message…")
    await page.reload()
    await launcher.click()
    await expect(page.locator("textarea")).to_have_attribute("placeholder", "Write a message…")
    assert shop.troubles == []


async def test_hostile_words_stay_words(chromium: Browser, shop: Shop[Site]) -> None:
    shop.site.models.reply = f"Mana {CANARY}"
    await choose(shop.site, greetings={"uz": CANARY})
    page = await shop.open(chromium)
    await page.locator(".launcher").click()
    await page.locator("textarea").fill(f"{QUESTION} {CANARY}")
    await page.locator(".send").click()
    await expect(answers(page)).to_have_count(1)
    for _ in range(2):
        await expect(page.locator(".own .bubble")).to_have_text(f"{QUESTION} {CANARY}")
        await expect(page.locator(".message .bubble").first).to_have_text(CANARY)
        assert await page.title() == "Do‘kon"
        assert await page.locator("botfactory-chat img, botfactory-chat script").count() == 0
        await page.reload()
        await page.locator(".launcher").click()
    assert shop.troubles == []


async def test_a_person_appears_and_is_counted_while_closed(chromium: Browser, shop: Shop[Site]) -> None:
    page = await shop.open(chromium, locale="en")
    launcher = page.locator(".launcher")
    await launcher.click()
    await page.get_by_role("button", name="Ask for a person").click()
    await expect(answers(page)).to_have_count(1)
    await expect(page.locator(".state")).to_have_text("a person has been called; meanwhile the bot answers")
    owner = shop.site.owner
    talk = (await owner.get(f"{owner.bot}/conversations", limit="1")).body["items"][0]
    await owner.post(f"/conversations/{talk['id']}/messages", {"text": "Men Dilnozaman"})
    await expect(page.locator(".who + .bubble")).to_have_text("Men Dilnozaman", timeout=60_000)
    await expect(page.locator(".state")).to_have_text("a person answers")
    await page.keyboard.press("Escape")
    await expect(launcher).to_have_accessible_name("Write to us")
    await owner.post(f"/conversations/{talk['id']}/messages", {"text": "Yana bir gap"})
    await expect(page.locator(".badge")).to_have_text("1", timeout=60_000)
    await expect(launcher).to_have_accessible_name("Write to us. New messages: 1")
    await shop.shot(page, "badge")
    await launcher.click()
    await expect(page.get_by_text("Yana bir gap")).to_be_in_viewport()
    await page.keyboard.press("Escape")
    await expect(page.locator(".badge")).to_be_hidden()
    await page.reload()
    await expect(launcher).to_have_accessible_name("Write to us")
    assert shop.troubles == []


async def test_a_picture_is_sent_and_shown(chromium: Browser, shop: Shop[Site]) -> None:
    """Drawn from the visitor's own file: a site that loads no pictures at all shows it too."""
    page = await shop.open(chromium, locale="en")
    await page.locator(".launcher").click()
    choose_ = page.locator("input[type=file]")
    await choose_.set_input_files({"name": "x.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"})
    await expect(page.locator(".fault")).to_have_text("Send a picture: PNG, JPEG, WebP, GIF.")
    await choose_.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": png(b"0" * (5 * 2**20))})
    await expect(page.locator(".fault")).to_have_text("The picture is larger than 5 MB. Send a smaller one.")
    await choose_.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": png()})
    await expect(page.locator(".own[data-id] canvas")).to_have_count(1)
    await expect(answers(page)).to_have_count(1)
    await expect(page.locator(".fault")).to_be_hidden()
    await page.reload()
    await page.locator(".launcher").click()
    await expect(page.get_by_role("link", name="Photo").get_by_role("img")).to_be_visible()
    assert shop.troubles == []


async def test_a_file_from_a_person_can_be_opened(chromium: Browser, shop: Shop[Site]) -> None:
    """A link to where the product is: nothing of it is loaded into the site's page, whose policy would not let it."""
    page = await shop.open(chromium, locale="en")
    await page.locator(".launcher").click()
    await page.get_by_role("button", name="Ask for a person").click()
    await expect(answers(page)).to_have_count(1)
    site = shop.site
    talk_id = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]["id"]
    file = await outfiles.prepare(site.core, "web", talk_id, "narx <i>.pdf", b"%PDF-1.4 narx")
    async with site.core.db.write() as session:
        row = await conversations.get(session, site.owner.shop.owner, talk_id)
        await conversations.operator_reply(session, row, "", author=site.owner.shop.owner, file=file)
    link = page.get_by_role("link", name="narx <i>.pdf")
    await link.wait_for(timeout=60_000)
    address = await link.get_attribute("href")
    assert address is not None and address.startswith(f"{site.base}/files/")
    async with site.http.get(address) as answer:
        assert (answer.status, await answer.read()) == (200, b"%PDF-1.4 narx")
    assert shop.troubles == []


async def test_a_lost_connection_loses_nothing(chromium: Browser, shop: Shop[Site]) -> None:
    page = await shop.open(chromium)
    await page.locator(".launcher").click()
    await page.context.set_offline(True)
    await expect(page.locator(".offline")).to_be_visible()
    await page.locator("textarea").fill(QUESTION)
    await page.locator(".send").click()
    await expect(page.locator(".fate button")).to_be_visible()
    await shop.shot(page, "offline")
    await page.context.set_offline(False)
    await expect(answers(page)).to_have_text([ANSWER])
    await expect(page.locator(".own")).to_have_count(1)
    await expect(page.locator(".fate, .offline:not([hidden])")).to_have_count(0)
    await page.reload()
    await page.locator(".launcher").click()
    await expect(page.locator(".own")).to_have_count(1)


async def test_a_site_that_is_not_listed_shows_nothing(chromium: Browser, shop: Shop[Site]) -> None:
    await choose(shop.site, origins="https://boshqa.example")
    page = await shop.open(chromium)
    async with page.expect_event("requestfailed"):
        await page.reload()
    await expect(page.locator("botfactory-chat")).to_have_count(0)


async def test_code_that_is_there_twice_shows_one_chat(chromium: Browser, shop: Shop[Site]) -> None:
    shop.more = (
        f' async></script><script src="{shop.site.base}/widget.js" data-bot="{shop.site.owner.shop.bot.public_id}"'
    )
    page = await shop.open(chromium)
    await expect(page.locator(".launcher")).to_be_visible()
    await page.locator(".launcher").click()
    await expect(page.locator("botfactory-chat")).to_have_count(1)
    assert shop.troubles == []


async def test_the_sites_own_attributes_win(chromium: Browser, shop: Shop[Site]) -> None:
    shop.more = ' data-language="en" data-position="left"'
    page = await shop.open(chromium, locale="ru")
    box = await page.locator(".launcher").bounding_box()
    assert box is not None and box["x"] < 40
    await expect(page.locator(".launcher")).to_have_accessible_name("Write to us")
    assert shop.troubles == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_the_owners_page_shows_the_real_chat(chromium: Browser, browser_site: panel.Site, size: str) -> None:
    """The corner and the colour follow the form at once; saved, the greeting too."""
    email = await person(browser_site, f"Widget{size}", "uz")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user)
    async with watched(chromium, browser_site, size, "light", "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/channels")
        await page.click(f"a[href='/bots/{bot.id}/widget']")
        launcher = page.locator(".launcher")
        await expect(launcher).to_be_visible()
        await seen.check()
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / f"panel-{size}.png", full_page=size == "phone")
        await page.fill("#color", "#ffd400")
        await page.select_option("#position", "left")
        assert await launcher.evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 212, 0)"
        assert await launcher.evaluate("node => getComputedStyle(node).color") == "rgb(0, 0, 0)"
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / f"panel-{size}-preview.png")
        await page.fill("#greeting_uz", "Xush kelibsiz!")
        await page.locator("[data-widget-form] button.btn-primary").click()
        await expect(page.locator("[data-toast]")).to_have_text(translate("uz", "Saved."))
        await launcher.click()
        await expect(page.locator("botfactory-chat .message .bubble").first).to_have_text("Xush kelibsiz!")
        await seen.check()
        assert seen.troubles == []
