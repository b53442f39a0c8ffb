"""The inbox in Chromium: two people who answer at once, the customer's own page beside them."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page, Route, expect

from db import models
from services import accounts, bots
from services.conversations import marks, ready
from tests.browser.conftest import Watched, person, watched
from tests.web.panel import Site, web_talk

pytestmark = pytest.mark.browser


async def _user(site: Site, name: str, language: str = "en") -> models.User:
    email = await person(site, name, language)
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    return user


async def _desk(site: Site, name: str) -> tuple[models.User, models.User, models.Bot]:
    """Make an owner with a bot, and an operator who works for the owner."""
    owner, operator = await _user(site, f"{name}Owner"), await _user(site, f"{name}Malika")
    bot = await site.bot_of(owner, f"{name} do‘koni")
    async with site.core.db.write() as session:
        session.add(models.Member(owner_id=owner.id, user_id=operator.id, role="operator"))
        await ready.save(session, [owner.id], owner.id, "narx", "Salom, {name}! {bot}da narx {chegirma} 290 000 so‘m.")
        await ready.save(session, [owner.id], owner.id, "manzil", "Manzil: Chilonzor 5.")
        await marks.save_label(session, [owner.id], owner.id, "Yetkazish", 2)
    return owner, operator, bot


async def _say(site: Site, talk: models.Conversation, text: str, author: str = "customer", **values: object) -> None:
    async with site.core.db.write() as session:
        session.add(models.Message(conversation_id=talk.id, author=author, text=text, **values))
        (await session.get_one(models.Conversation, talk.id)).last_text = text
    site.core.ring_talk(talk.bot_id, talk.id)


async def _enter(seen: Watched, user: models.User, path: str) -> Page:
    """Sign in and open a page; its own stream of events is waited for."""
    await seen.sign_in(str(user.email))
    async with seen.page.expect_response("**/events*"):
        await seen.open(path)
    return seen.page


async def test_two_people_answer_at_once(chromium: Browser, browser_site: Site) -> None:
    """Each sees the other look, write and answer; who writes on after another's answer is asked once, and loses no word."""
    site = browser_site
    owner, malika, bot = await _desk(site, "Two")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza", status="waiting", last_text="Narxi qancha?")
    await _say(site, talk, "Narxi qancha?")
    async with (
        watched(chromium, site, "desktop", "light", "en") as one,
        watched(chromium, site, "desktop", "dark", "en") as two,
    ):
        first = await _enter(one, owner, f"/inbox/{talk.id}")
        second = await _enter(two, malika, f"/inbox/{talk.id}")
        await expect(first.locator("#presence")).to_contain_text("TwoMalika", timeout=60_000)
        await expect(second.locator("#presence")).to_contain_text("TwoOwner", timeout=60_000)
        # Both write; the owner sees it and Malika is quicker.
        await first.fill("#reply-text", "Hozir aytaman")
        await expect(second.locator("#presence")).to_contain_text("Writing an answer: TwoOwner", timeout=60_000)
        await second.fill("#reply-text", "290 000 so‘m")
        await expect(first.locator("#presence")).to_contain_text("Writing an answer: TwoMalika", timeout=60_000)
        async with second.expect_response("**/events*"):
            await second.press("#reply-text", "Control+Enter")
        await expect(second.locator(".said-operator .bubble")).to_have_text("290 000 so‘m")
        await expect(second.locator("#reply-text")).to_have_value("")
        await expect(first.locator(".said-operator .bubble")).to_have_text("290 000 so‘m", timeout=60_000)
        await expect(first.locator(".said-operator .said-meta")).to_contain_text("TwoMalika")
        await expect(first.locator("#reply-text")).to_have_value("Hozir aytaman")
        await expect(first.locator("#talk .talk-actions")).to_contain_text("TwoMalika answers here")
        one.troubles.clear()
        await first.click("#reply button")
        await expect(first.locator("#reply-fault")).to_contain_text("TwoMalika has answered while you were writing")
        await expect(first.locator("#reply-text")).to_have_value("Hozir aytaman")
        # The browser itself notes the status of a refused form in its console.
        one.troubles[:] = [trouble for trouble in one.troubles if "status of 409" not in trouble]
        await first.click("#reply button")
        await first.wait_for_url("**#end")
        await expect(first.locator(".said-operator .bubble").last).to_have_text("Hozir aytaman")
        await expect(second.locator(".said-operator")).to_have_count(2, timeout=60_000)
        # The customer who writes on appears on both, and in the list.
        await _say(site, talk, "Rahmat!")
        for page in (first, second):
            await expect(page.locator(".said-customer").last).to_contain_text("Rahmat!", timeout=60_000)
            await expect(page.locator(".talk-line .talk-text").first).to_have_text("Rahmat!", timeout=60_000)
        await one.check()
        await two.check()
        await second.goto(f"{site.base}/inbox")
        await expect(first.locator("#presence")).to_be_hidden(timeout=60_000)
        assert one.troubles + two.troubles == []


async def test_a_button_held_while_a_message_arrives_is_pressed(chromium: Browser, browser_site: Site) -> None:
    """What arrives between pressing and letting go waits for it, and is shown all the same."""
    site = browser_site
    owner, _, bot = await _desk(site, "Held")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza", status="human", last_text="Narxi qancha?")
    await _say(site, talk, "Narxi qancha?")
    async with watched(chromium, site, "desktop", "light", "en") as desk:
        page = await _enter(desk, owner, f"/inbox/{talk.id}")
        await expect(page.locator("#presence")).to_be_hidden()
        await page.hover("#talk-more summary")
        await page.mouse.down()
        async with page.expect_response(f"**/inbox/{talk.id}*") as fetched:
            await _say(site, talk, "Shu yerdamisiz?")
        await (await fetched.value).finished()
        await expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)
        await page.mouse.up()
        await expect(page.locator("#talk-more")).to_have_attribute("open", "")
        await expect(page.locator(".said-customer").last).to_contain_text("Shu yerdamisiz?", timeout=60_000)
        await expect(page.locator("#talk-more")).to_have_attribute("open", "")


async def test_what_was_said_before_the_stream_began_is_shown(chromium: Browser, browser_site: Site) -> None:
    """A message that arrives after the page was made and before its stream opens is not missed, on a page of its own too."""
    site, said = browser_site, asyncio.Event()
    owner, _, bot = await _desk(site, "Early")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Aziza", status="waiting", last_text="Narxi qancha?")
    await _say(site, talk, "Narxi qancha?")

    async def hold(route: Route) -> None:
        await said.wait()
        await route.continue_()

    async with watched(chromium, site, "desktop", "light", "en") as seen:
        await seen.sign_in(str(owner.email))
        await seen.page.route("**/events?talk=*", hold)
        await seen.page.goto(f"{site.base}/inbox/{talk.id}")
        await expect(seen.page.locator(".said-customer")).to_have_count(1)
        await _say(site, talk, "Va yetkazib berish?")
        said.set()
        await expect(seen.page.locator(".said-customer").last).to_contain_text("Va yetkazib berish?", timeout=60_000)


async def test_ready_answers_notes_and_drafts(chromium: Browser, browser_site: Site) -> None:
    """A slash finds a ready answer, what was begun is still there later, and a note stays among those who answer."""
    site = browser_site
    owner, _malika, bot = await _desk(site, "Ready")
    async with (
        watched(chromium, site, "phone", "light", "uz") as customer,
        watched(chromium, site, "desktop", "light", "en") as desk,
    ):
        await customer.open(f"/chat/{bot.public_id}")
        await customer.page.fill("#text", "/operator")
        await customer.page.click(".send")
        await expect(customer.page.locator(".theirs")).to_have_count(2, timeout=60_000)
        page = await _enter(desk, owner, "/inbox?status=waiting")
        await expect(page).to_have_title("(1) Conversations")
        async with page.expect_response("**/events*"):
            await page.keyboard.press("Alt+j")
        await page.wait_for_url("**/inbox/*?status=waiting")
        await page.locator("#reply-text").press_sequentially("/na")
        await expect(page.locator(".ready-list li:visible")).to_have_count(1)
        await desk.check()
        await page.keyboard.press("Enter")
        text = f"Salom! {bot.name}da narx {{chegirma}} 290 000 so‘m."
        await expect(page.locator("#reply-text")).to_have_value(text)
        address = page.url
        await desk.open("/inbox")
        async with page.expect_response("**/events*"):
            await page.goto(address)
        await expect(page.locator("#reply-text")).to_have_value(text)
        await page.locator("#talk .chat-lines").focus()
        await page.keyboard.press("n")
        await expect(page.locator("#note-text")).to_be_focused()
        await page.fill("#note-text", "Bu mijoz janjalkash <b>ehtiyot</b>")
        async with page.expect_response("**/events*"):
            await page.click(".note-form button")
        await expect(page.locator(".said-note .bubble")).to_contain_text("janjalkash <b>ehtiyot</b>")
        await desk.check()
        async with page.expect_response("**/events*"):
            await page.click("#reply button")
        await expect(page.locator("#reply-text")).to_have_value("")
        await expect(customer.page.locator(".theirs .who + .bubble")).to_have_text(text, timeout=60_000)
        await customer.page.reload()
        await expect(customer.page.locator(".theirs .who + .bubble")).to_have_text(text)
        assert "janjalkash" not in await customer.page.content()
        # The customer sees that a person is writing.
        await page.locator("#reply-text").press_sequentially("Yana bir gap")
        await expect(customer.page.locator(".dots")).to_be_visible(timeout=60_000)
        async with page.expect_response("**done=talk_closed*"):
            await page.keyboard.press("Alt+e")
        await expect(page.locator("#talk .state")).to_have_text("Closed")
        await page.locator("#talk .chat-lines").focus()
        await page.keyboard.press("?")
        await expect(page.locator("#keys")).to_be_visible()
        await desk.check()
        assert customer.troubles + desk.troubles == []


@pytest.mark.parametrize(
    ("size", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]
)
async def test_every_page_of_the_inbox_in_every_look(
    chromium: Browser, browser_site: Site, size: str, scheme: str
) -> None:
    """The list, filters, one conversation with all it shows, labels, ready answers: nothing grave, nothing too wide."""
    site = browser_site
    owner, malika, bot = await _desk(site, f"Look{size}{scheme}")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Гульчехра Абдурахманова", status="human", last_text="Yetkazib berasizmi?")
        talk.assignee_id = malika.id
        contact = await session.get_one(models.Contact, talk.contact_id)
        contact.phone, contact.language, contact.source = "+998901234567", "uz", "instagram-bio"
        for number, status in enumerate(("bot", "waiting", "closed", "human")):
            await web_talk(session, bot, f"Mijoz {number}", status=status, last_text="Salom, bugun ishlaysizmi?")
        web = await bots.connect_web(session, bot)
        same = models.Contact(bot_id=bot.id, channel_id=web.id, external_id="same", name="Gulya", phone=contact.phone)
        session.add(same)
        await session.flush()
        session.add(models.Conversation(bot_id=bot.id, channel_id=web.id, contact_id=same.id, last_text="Eski suhbat"))
        label = (await marks.labels(session, [owner.id]))[0]
        session.add(models.ConversationLabel(conversation_id=talk.id, label_id=label.id))
        for color in range(8):
            if color != 2:
                await marks.save_label(session, [owner.id], owner.id, f"Yorliq {color}", color)
        said = (
            {"author": "customer", "text": "Yetkazib berasizmi?", "edited_at": talk.created_at},
            {"author": "bot", "text": "Ha, bepul.", "rating": 1, "status": "delivered"},
            {"author": "operator", "text": "Ertaga olib boramiz.", "author_id": malika.id, "status": "read"},
            {
                "author": "operator",
                "text": "Xo‘pmi?",
                "author_id": owner.id,
                "status": "failed",
                "error": "blocked by the user",
            },
            {"author": "customer", "text": "O‘chirildi", "deleted_at": talk.created_at},
        )
        for values in said:
            session.add(models.Message(conversation_id=talk.id, **values))
            await session.flush()
        session.add(models.Note(conversation_id=talk.id, author_id=owner.id, text="Doimiy mijoz."))
    async with watched(chromium, site, size, scheme, "en") as seen:
        page = await _enter(seen, owner, "/inbox")
        await seen.check()
        await page.click(".desk-filters summary")
        await seen.check()
        async with page.expect_response("**/events*"):
            await page.select_option("#label", label=label.name)
        await expect(page.locator(".talk-line")).to_have_count(1)
        await page.click(".talk-line")
        await expect(page.locator("#reply-text")).to_be_in_viewport(ratio=1)
        await seen.check()
        await page.click("#talk-more summary")
        await seen.check()
        await page.click("#talk-more button[value=tomorrow]")
        await expect(page.locator("#talk .talk-tags")).to_contain_text("Put aside until")
        await seen.check()
        for path in ("/inbox/labels", "/inbox/replies"):
            await seen.open(path)
            await page.locator("details summary.link-summary").first.click()
            await seen.check()
        await expect(page.locator(".trouble").first).to_contain_text("{chegirma}")
        assert seen.troubles == []
