"""The panel in Chromium: from nothing to the first answer, and every page in every look."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from sqlalchemy import select

from bench import screenshots
from db import models
from db.base import new_id
from services import accounts
from services.i18n import translate
from tests.browser.conftest import SIZES, person, watched
from tests.composition import FAQ, add_document
from tests.furnished import ADMIN_PAGES, OPEN_PAGES, OWNER_PAGES, furnish, pages
from tests.web.panel import Site, web_talk

pytestmark = pytest.mark.browser

BEGIN = "Add a document first: until then the bot can only say hello."
ASK = "Ask what your customers ask. Below the answer you will see the passages it came from."


@pytest.mark.parametrize(
    ("size", "language", "question", "known"),
    [
        ("desktop", "uz", "Yetkazib berish bormi?", "45 000"),
        ("phone", "ru", "Есть ли доставка?", "45 000"),
        ("phone", "en", "Yetkazib berish bormi?", "45 000"),
    ],
)
async def test_first_run_to_first_answer(
    chromium: Browser, browser_site: Site, size: str, language: str, question: str, known: str
) -> None:
    """Register, name a bot, give it a file, ask: all on the way that the page shows."""
    async with watched(chromium, browser_site, size, "light", language) as seen:
        page = seen.page
        await seen.open("/")
        await page.click("a.btn-lg[href='/register']")
        await page.fill("#full_name", "Dilnoza Karimova")
        number = {"uz": "1", "ru": "2", "en": "3"}[language]
        await page.fill("#phone", f"+998 97 000 00 0{number}")
        await page.fill("#email", f"first-{language}@example.uz")
        await page.fill("#password", "chinor-2026-parol")
        await page.click("form[action='/register'] button")
        await page.wait_for_url("**/bots/new")
        await seen.check()
        await page.fill("#name", "Texno Savdo")
        await page.click("form[action='/bots'] button")
        await page.wait_for_url("**/setup*")
        hint = page.locator(".chat-empty")
        await expect(hint).to_contain_text(translate(language, BEGIN))
        await page.set_input_files("#file", {"name": "savollar.txt", "mimeType": "text/plain", "buffer": FAQ.encode()})
        await expect(page.locator("#documents .state-good")).to_be_visible(timeout=60_000)
        await expect(page.locator("[data-flow=try]")).to_have_attribute("aria-current", "step")
        await expect(hint).to_contain_text(translate(language, ASK))
        await page.fill("#chat-text", question)
        await page.press("#chat-text", "Enter")
        await expect(page.locator(".chat .bubble-out").last).to_contain_text(known, timeout=60_000)
        await expect(page.locator(".chat .made-of")).to_be_visible()
        await expect(page.locator(".chat .sources")).to_contain_text("savollar.txt")
        await seen.check()
        async with page.expect_response("**/events*"):
            await page.reload()
        await page.locator("form[action='/logout'] button").first.dispatch_event("click")
        await page.wait_for_url("**/login*")
        assert seen.troubles == []


def _runs(bot: models.Bot) -> list[object]:
    """A test question and two runs of it, the second one worse."""
    asked = models.TestQuestion(bot_id=bot.id, question="Yetkazib berish bormi?", expected="bepul")
    asked.id = new_id()
    result = {"question": asked.question, "expected": "bepul", "state": "good", "answered": True, "missing": []}
    result |= {"text": "Ha, yetkazib berish bepul 🚚", "sources": [{"name": "savollar.txt", "text": "x"}], "note": ""}
    result |= {"language": "uz", "provider": "extractive", "model": None}
    worse = {**result, "state": "bad", "missing": ["bepul"], "text": "Ha, bor. " * 30, "note": "model_away"}
    return [
        asked,
        models.TestRun(id=new_id(), bot_id=bot.id, status="done", results={asked.id: result}),
        models.TestRun(id=new_id(), bot_id=bot.id, status="done", results={asked.id: worse}),
    ]


EMPTY_PAGES = (
    "/dashboard",
    "/bots/{bot}",
    "/bots/{bot}/setup",
    "/bots/{bot}/documents",
    "/bots/{bot}/tests",
    "/bots/{bot}/channels",
    "/bots/{bot}/broadcasts",
    "/inbox",
    "/inbox/labels",
    "/inbox/replies",
    "/billing",
    "/billing/referrals",
    "/team",
    "/support",
    "/settings/views",
    "/settings/webhooks",
)
"""What whoever has just begun sees, and what says what comes there."""


async def _somebody(site: Site, name: str, *, role: str = "owner") -> models.User:
    email = await person(site, name, "uz")
    async with site.core.db.write() as session:
        user = await accounts.by_email(session, email)
        assert user is not None
        user.role = role
    return user


# In Uzbek axe looks, at one size a test and in both colours; of the other languages only the widths are new.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("who", ["owner", "administrator"])
@pytest.mark.parametrize(("language", "size"), [("uz", "desktop"), ("uz", "phone"), ("ru", "both"), ("en", "both")])
async def test_every_page_in_every_look(
    chromium: Browser, browser_site: Site, who: str, language: str, size: str
) -> None:
    """Nothing overflows or is left in English, axe finds nothing at all in light and dark, no error, no other host."""
    core, place = browser_site.core, f"{who}-{language}-{size}"
    owner = await _somebody(browser_site, f"Everywhere-{place}")
    user = owner if who == "owner" else await _somebody(browser_site, f"Everything-{place}", role="admin")
    newcomer = await _somebody(browser_site, f"Beginning-{place}")
    bot = await browser_site.bot_of(owner, "Chinor Stomatologiya va implantologiya markazi")
    empty = await browser_site.bot_of(newcomer, "Yangi")
    await add_document(core, bot, "savollar.txt", FAQ.encode())
    async with core.db.write() as session:
        whose = await session.get_one(models.User, owner.id), await session.get_one(models.Bot, bot.id)
        ids = await furnish(session, *whose, core.crypto)
    more = [
        "/dashboard?period=today",
        f"/bots/{bot.id}/documents?q=yetkazib",
        f"/inbox?channel=web&bot={bot.id}",
        "/billing?period=annual",
        "/search?q=karta",
    ]
    paths = [*pages(OWNER_PAGES, ids), *more] if who == "owner" else pages(ADMIN_PAGES, ids)
    # What people of other tests called their own things is nobody's to translate.
    bots, people = (models.Bot.name, models.Channel.title), (models.User.full_name, models.Contact.name)
    titles = (*bots, *people, models.Document.name, models.Broadcast.title)
    async with core.db.read() as session:
        called = {name for title in titles for name in await session.scalars(select(title).distinct())}
    async with watched(chromium, browser_site, "desktop" if size == "both" else size, "light", language) as seen:
        page = seen.page

        async def look() -> None:
            await seen.check(axe=language == "uz")
            english = (set(await page.evaluate(screenshots.TEXTS)) & screenshots.untranslated(language)) - called
            seen.troubles.extend(f"{page.url}: not translated: {text}" for text in sorted(english))
            if language == "uz":
                await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
                await seen.axe("color-contrast")
                await page.emulate_media(color_scheme="light", reduced_motion="reduce")
            if size == "both":
                await page.set_viewport_size(SIZES["phone"])
                await seen.check(axe=False)
                await page.set_viewport_size(SIZES["desktop"])

        if who == "owner":
            for path in OPEN_PAGES:
                await seen.open(path)
                await look()
        for somebody, addresses in ((newcomer, pages(EMPTY_PAGES, {"bot": empty.id})), (user, paths)):
            if somebody is newcomer and (who, language, size) != ("owner", "uz", "phone"):
                continue
            await page.context.clear_cookies()
            await seen.sign_in_by_form(str(somebody.email))
            await page.locator(f"button[name=language][value={language}]").first.dispatch_event("click")
            await expect(page.locator("html")).to_have_attribute("lang", language)
            for path in addresses:
                await seen.open(path)
                await look()
        if who == "owner":
            # What lies over a page, and a page that is not there.
            await page.keyboard.press("/")
            await expect(page.locator("#finder")).to_be_visible()
            await look()
            await page.goto(f"{browser_site.base}/nothing-here")
            await look()
        else:
            # The panel as its owner sees it, with the bar that says so.
            await seen.open(f"/admin/owners/{owner.id}")
            form = page.locator(f"form[action='/admin/owners/{owner.id}/view']")
            await form.locator("textarea").evaluate("(field) => { field.value = 'Kanal ulanmayapti'; }")
            await form.evaluate("(form) => form.requestSubmit()")
            await expect(page.locator(".viewing")).to_be_visible()
            await look()
        # The page that is not there, and the stream of events that ends where a view begins.
        assert [one for one in seen.troubles if "404" not in one and "[object Event]" not in one] == []


async def test_menu_and_theme_on_a_phone(chromium: Browser, browser_site: Site) -> None:
    """The menu opens, and a theme chosen there holds after the next page."""
    email = await person(browser_site, "Phone", "uz")
    async with watched(chromium, browser_site, "phone", "light", "uz") as seen:
        await seen.sign_in_by_form(email)
        await seen.page.click("header.top button")
        await expect(seen.page.locator("#drawer")).to_be_visible()
        await seen.check()
        close = seen.page.locator("#drawer .drawer-head button")
        await close.hover()
        # White on what lets the dark frame through: a light ground would swallow it.
        assert await close.evaluate("node => getComputedStyle(node).color") == "rgb(255, 255, 255)"
        assert "0.12" in await close.evaluate("node => getComputedStyle(node).backgroundColor")
        await seen.page.click("#drawer button[value=dark]")
        await expect(seen.page.locator("html")).to_have_attribute("data-bs-theme", "dark")
        await seen.open("/settings")
        await expect(seen.page.locator("html")).to_have_attribute("data-bs-theme", "dark")
        assert seen.troubles == []


async def test_errors_take_the_focus_and_keep_the_text(chromium: Browser, browser_site: Site) -> None:
    """A refused form shows why at the field and in a summary, with what was typed still there."""
    async with watched(chromium, browser_site, "desktop", "light", "en") as seen:
        await seen.open("/register")
        page = seen.page
        await page.fill("#full_name", "Ali")
        await page.fill("#phone", "12345")
        await page.fill("#email", "ali@example.uz")
        await page.fill("#password", "a-long-password")
        await page.click("form[action='/register'] button")
        await expect(page.locator("[role=alert]")).to_be_focused()
        await expect(page.locator("#phone")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#full_name")).to_have_value("Ali")
        await expect(page.locator("#password")).to_have_value("")
        await seen.check()


async def test_canary_does_not_run(chromium: Browser, browser_site: Site) -> None:
    """Script in names, messages and the bot's own words stays text, in the streamed chat too."""
    email = await person(browser_site, "Canary", "uz")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    canary = "<img src=x onerror=\"document.title='caught'\">"
    bot = await browser_site.bot_of(user, canary[:60])
    await add_document(browser_site.core, bot, "x.txt", f"Savol: Kafolat bormi?\nJavob: {canary} uch yil.\n".encode())
    async with watched(chromium, browser_site, "desktop", "light", "uz") as seen:
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}")
        await seen.page.fill("#chat-text", f"Kafolat bormi? {canary}")
        await seen.page.click(".btn-send")
        await expect(seen.page.locator(".chat .made-of")).to_be_visible(timeout=60_000)
        assert await seen.page.locator(".chat img").count() == 0
        for path in ("documents", "conversations"):
            await seen.open(f"/bots/{bot.id}/{path}")
            assert await seen.page.title() != "caught"
        assert seen.troubles == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_the_owner_answers_a_customer_who_waits(chromium: Browser, browser_site: Site, size: str) -> None:
    """Two people write to each other, the panel's page taking in what comes without losing what is being written."""
    email = await person(browser_site, f"Answers{size}", "uz")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Chinor")
    async with (
        watched(chromium, browser_site, "phone", "light", "ru") as customer,
        watched(chromium, browser_site, size, "light", "uz") as owner,
    ):
        await customer.open(f"/chat/{bot.public_id}")
        await customer.page.fill("#text", "/operator")
        await customer.page.click(".send")
        # The command is shown once, by the name of its button.
        await expect(customer.page.locator(".theirs")).to_have_count(2, timeout=60_000)
        await expect(customer.page.locator(".own .bubble")).to_have_text([translate("ru", "Ask for a person")])
        await owner.sign_in(email)
        await owner.open(f"/inbox?bot={bot.id}&status=waiting")
        async with owner.page.expect_response("**/events*"):
            await owner.page.click(".talk-line")
        field = owner.page.locator("#reply-text")
        await expect(field).to_be_in_viewport(ratio=1)
        await owner.check()
        await field.fill("Salom, men Dilnozaman.")
        await customer.page.fill("#text", "Shu yerdamisiz?")
        await customer.page.click(".send")
        await expect(owner.page.locator(".said-customer").last).to_contain_text("Shu yerdamisiz?", timeout=60_000)
        await expect(field).to_have_value("Salom, men Dilnozaman.")
        await owner.page.dblclick("#reply button")
        await owner.page.wait_for_url("**#end")
        await expect(owner.page.locator(".said-operator .bubble")).to_have_text("Salom, men Dilnozaman.")
        await expect(owner.page.locator(".said-operator")).to_be_in_viewport()
        await owner.check()
        await expect(customer.page.locator(".theirs .who + .bubble")).to_have_text(
            "Salom, men Dilnozaman.", timeout=60_000
        )
        # And back: the bot says that it answers again.
        # The address loses this word as soon as the page has said it.
        async with owner.page.expect_response("**done=talk_bot*"):
            await owner.page.click("#talk .talk-actions button[value='bot']")
        back = "I am answering again 🙂 Write your question, or /operator to call a person."
        said = re.compile("|".join(re.escape(translate(language, back)) for language in ("uz", "ru")))
        await expect(customer.page.locator(".theirs .bubble").last).to_have_text(said, timeout=60_000)
        await expect(owner.page.locator("#talk .talk-actions")).to_contain_text(
            translate("uz", "The bot answers here.")
        )
        assert customer.troubles + owner.troubles == []


NARROW: ViewportSize = {"width": 360, "height": 740}
# What a finger has to hit: everything to press but links inside a sentence and what only screen readers meet.
SMALL = """() => [...document.querySelectorAll("a, button, input, select, textarea, summary")]
  .filter((node) => !node.matches("[type=hidden], [type=checkbox], [type=radio]"))
  .filter((node) => !node.closest(".visually-hidden, .skip-link") && getComputedStyle(node).opacity !== "0"
    && !(node.tagName === "A" && getComputedStyle(node).display === "inline"))
  .map((node) => [node.outerHTML.slice(0, 120), Math.round(node.getBoundingClientRect().height)])
  .filter(([, height]) => height > 1 && height < 44)"""


async def _owner_of_a_bot(site: Site, name: str, language: str, *called: str) -> tuple[str, models.Bot]:
    """Make a person with a bot, ``called`` so; return the e-mail to sign in with and the bot."""
    email = await person(site, name, language)
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    return email, await site.bot_of(user, *called)


async def test_a_conversation_fits_a_narrow_phone(chromium: Browser, browser_site: Site) -> None:
    """Under a notice and with a long talk the messages keep most of the screen; whoever reads further up stays there."""
    email, bot = await _owner_of_a_bot(browser_site, "Narrow", "uz", "Chinor Stomatologiya va implantologiya markazi")
    core = browser_site.core
    async with core.db.write() as session:
        talk = await web_talk(session, bot, "Очень Длинное Имя Фамилия-Отчество Покупателя", status="waiting")
        session.add(
            models.Notice(user_id=bot.owner_id, bot_id=bot.id, kind="send_failed", key="n", params={"bot": bot.name})
        )
        await session.flush()
        for number in range(30):
            session.add(models.Message(conversation_id=talk.id, author="customer", text=f"Narxi qancha? {number}"))
            await session.flush()
    async with watched(chromium, browser_site, "phone", "light", "uz") as seen:
        page = seen.page
        await page.set_viewport_size(NARROW)
        await seen.sign_in(email)
        async with page.expect_response("**/events*"):
            await seen.open(f"/inbox/{talk.id}")
        for shown in ("#reply-text", "#reply button", ".talk-back", ".talk-actions button >> nth=2"):
            await expect(page.locator(shown)).to_be_in_viewport(ratio=1)
        await seen.check()
        lines = page.locator("#talk .chat-lines")
        box = await lines.bounding_box()
        assert box is not None
        # Beside them stand who answers, the field, the file, ready answers and notes.
        assert box["height"] > NARROW["height"] * 0.45
        await lines.evaluate("node => { node.scrollTop = 40; }")
        async with core.db.write() as session:
            session.add(models.Message(conversation_id=talk.id, author="customer", text="Yana bir savol"))
        core.bell.ring(f"bot:{bot.id}", {"conversation": talk.id})
        await expect(lines).to_contain_text("Yana bir savol", timeout=60_000)
        assert await lines.evaluate("node => node.scrollTop") == 40
        await lines.evaluate("node => { node.scrollTop = node.scrollHeight; }")
        async with core.db.write() as session:
            session.add(models.Message(conversation_id=talk.id, author="customer", text="Eng oxirgisi"))
        core.bell.ring(f"bot:{bot.id}", {"conversation": talk.id})
        await expect(page.get_by_text("Eng oxirgisi")).to_be_in_viewport(timeout=60_000)
        small = {}
        base = f"/bots/{bot.id}"
        paths = [base, f"{base}/setup", f"{base}/documents", f"{base}/channels", f"{base}/widget"]
        for path in (*paths, "/inbox", f"/inbox/{talk.id}", "/inbox/labels", "/inbox/replies"):
            await seen.open(path)
            small[path] = await page.evaluate(SMALL)
        await seen.open(f"/chat/{bot.public_id}")
        small["chat"] = await page.evaluate(SMALL)
        assert {path: found for path, found in small.items() if found} == {}
        assert seen.troubles == []


LAPTOP: ViewportSize = {"width": 1280, "height": 800}


async def test_buttons_of_one_choice_stand_in_one_row(chromium: Browser, browser_site: Site) -> None:
    """What can be done with a conversation, and with a question without answer: alike in height, none falls out of line."""
    email, bot = await _owner_of_a_bot(browser_site, "Rows", "ru")
    core = browser_site.core
    async with core.db.write() as session:
        talk = await web_talk(session, bot, status="waiting")
        session.add(models.UnansweredQuestion(bot_id=bot.id, question="Avtoturargoh bormi?", folded="a"))
        session.add(models.UnansweredQuestion(bot_id=bot.id, question="Парковка есть?", folded="b", language="ru"))
        session.add_all(_runs(bot))
    async with watched(chromium, browser_site, "desktop", "light", "ru") as seen:
        await seen.sign_in(email)
        rows = {f"/inbox/{talk.id}": ".talk-actions button", f"/bots/{bot.id}/documents": ".question button"}
        for language in ("uz", "ru"):
            await seen.open("/dashboard")
            await seen.page.locator(f"button[name=language][value={language}]").first.dispatch_event("click")
            await expect(seen.page.locator("html")).to_have_attribute("lang", language)
            await seen.page.set_viewport_size(LAPTOP)
            for path, buttons in rows.items():
                await seen.open(path)
                boxes = [await button.bounding_box() for button in await seen.page.locator(buttons).all()]
                assert len(boxes) == (3 if "talk" in buttons else 2)
                assert len({(box["y"], box["height"]) for box in boxes if box}) == 1, (language, path, boxes)
        await seen.page.locator(".question button").last.click()
        await expect(seen.page.locator(".question")).to_have_count(0)
        assert seen.troubles == []


async def test_a_notice_is_whole_on_a_phone(chromium: Browser, browser_site: Site) -> None:
    """Its end says what to do: none of it is cut off."""
    email = await person(browser_site, "Whole", "ru")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Chinor Stomatologiya va implantologiya markazi")
    params = {"bot": bot.name, "provider": "OpenAI"}
    async with browser_site.core.db.write() as session:
        session.add(models.Notice(user_id=user.id, bot_id=bot.id, kind="key_no_money", key="n", params=params))
    async with watched(chromium, browser_site, "phone", "light", "ru") as seen:
        await seen.page.set_viewport_size(NARROW)
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/channels")
        text = seen.page.locator(".notice-text").first
        shown, whole = await text.evaluate("node => [node.getBoundingClientRect().height, node.scrollHeight]")
        assert shown >= whole
        await seen.check(axe=False)
        assert seen.troubles == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_what_is_asked_comes_next_and_no_toast_stands_in_the_way(
    chromium: Browser, browser_site: Site, size: str
) -> None:
    """The test chat follows the documents, before the settings; a toast lets presses through."""
    email = await person(browser_site, f"Toast{size}", "uz")
    async with watched(chromium, browser_site, size, "light", "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open("/bots/new")
        await page.fill("#name", "Chinor")
        await page.click("form[action='/bots'] button")
        toast = page.locator("[data-toast]")
        await expect(toast).to_be_visible()
        pressed = await toast.evaluate(
            "node => { const box = node.getBoundingClientRect();"
            " return !node.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)); }"
        )
        assert pressed
        order = await page.evaluate(
            "() => ['#file', '#chat-text', '#system_prompt'].map((name) => document.querySelector(name))"
            ".every((node, place, all) => !place || all[place - 1].compareDocumentPosition(node) & 4)"
        )
        assert order
        assert seen.troubles == []
