"""The chat page of a bot: with script, without, and in the hands of people who should not be there."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from db import models
from services import bots, conversations, outfiles
from services.i18n import LANGUAGE_NAMES, translate
from tests import servers
from tests.conftest import CHROMIUM
from tests.services.test_pictures import encoded
from tests.web.site import Site, started

QUESTION = "Yetkazib berish bormi?"
ANSWER = "Ha, Toshkent bo‘ylab yetkazib berish bepul 🚚"
CANARY = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
SHOTS = os.environ.get("WIDGET_SHOTS")
"""A folder to put pictures of the page into, for eyes."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
async def running(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("chat")
    limits = {"contact_messages_per_minute": 100}
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as site:
        yield site


@pytest.fixture
async def site(running: Site) -> AsyncIterator[Site]:
    running.models.reset()
    running.models.reply = ANSWER
    yield running
    await running.owner.post(f"{running.owner.bot}/start")


@dataclass
class Visitor:
    """A browser without script: keeps its cookies, sends forms."""

    site: Site
    page: str
    cookies: dict[str, str] = field(default_factory=dict)

    async def request(self, method: str, path: str = "", headers: dict[str, str] | None = None, **options: Any) -> Any:
        """Make a request; return status, headers and text."""
        given = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        async with self.site.http.request(
            method, f"{self.page}{path}", headers={**given, **(headers or {})}, allow_redirects=False, **options
        ) as answer:
            for header in answer.headers.getall("Set-Cookie", []):
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
            return answer.status, answer.headers, await answer.text()

    async def look(self, path: str = "", **headers: str) -> str:
        """Return the page."""
        status, _, text = await self.request("GET", path, headers)
        assert status == 200
        return str(text)

    async def send(self, headers: dict[str, str] | None = None, **fields: str) -> Any:
        """Send the form."""
        return await self.request("POST", "/messages", headers, data=fields)

    async def stream(self, **fields: str) -> list[tuple[str, Any]]:
        """Send as the script does; return the events."""
        status, headers, text = await self.send({"Accept": "text/event-stream"}, **fields)
        assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        return [
            (event, json.loads(data)) for event, data in re.findall(r"^event: (\w+)\ndata: (.*)$", text, re.MULTILINE)
        ]

    async def history(self, after: str = "") -> Any:
        """Return what the script is told."""
        status, _, text = await self.request("GET", f"/messages?after={after}")
        assert status == 200
        return json.loads(text)


def visitor(site: Site) -> Visitor:
    return Visitor(site, site.page)


async def test_an_answer_arrives_in_pieces_and_then_whole(site: Site) -> None:
    events = await visitor(site).stream(text=QUESTION)
    kinds = [kind for kind, _ in events]
    assert kinds[0] == "delta" and kinds[-2:] == ["message", "done"]
    assert "".join(data["text"] for kind, data in events if kind == "delta") == ANSWER
    assert events[-2][1]["text"] == ANSWER
    assert [item["author"] for item in events[-1][1]["items"]] == ["customer", "bot"]
    shown = {"id", "author", "text", "at", "time", "exact", "buttons", "files", "instead", "rating"}
    assert set(events[-2][1]) == shown


async def test_the_talk_is_there_after_a_reload_and_only_for_its_visitor(site: Site) -> None:
    me, other = visitor(site), visitor(site)
    await me.look()
    await me.stream(text="Mening maxfiy savolim: kafolat necha yil?")
    assert "maxfiy" in await me.look()
    assert "maxfiy" not in await other.look()
    assert (await other.history())["items"] == []
    last = (await me.history())["items"][0]["id"]
    assert [item["author"] for item in (await me.history(last))["items"]] == ["bot"]


async def test_nobody_takes_a_talk_over_by_its_contact_id(site: Site) -> None:
    """Neither the id that the owner sees, nor an id that a program gave its customer."""
    me = visitor(site)
    await me.stream(text="Mening siriminimni hech kim bilmasin")
    await site.owner.post(f"{site.owner.bot}/chat", {"contact": "customer-42", "text": "Mening siriminim shu"})
    talks = (await site.owner.get(f"{site.owner.bot}/conversations", q="siriminim")).body["items"]
    assert len(talks) == 2
    for contact in [talk["contact"] for talk in talks] + [talk["contact_id"] for talk in talks] + ["x" * 43, ""]:
        thief = Visitor(site, site.page, {"chat": contact})
        assert (await thief.history())["items"] == []
        assert "siriminim" not in await thief.look()
    assert me.cookies["chat"] not in json.dumps(talks)
    # The same secret at another bot's page opens nothing there.
    elsewhere = Visitor(site, f"{site.base}/chat/{site.stranger.shop.bot.public_id}", dict(me.cookies))
    assert (await elsewhere.history())["items"] == []


async def test_the_cookie_is_for_this_page_alone(site: Site) -> None:
    _, headers, _ = await visitor(site).request("GET")
    cookie = SimpleCookie(headers["Set-Cookie"])["chat"]
    assert cookie["path"] == site.page.removeprefix(site.base)
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and len(cookie.value) == 43
    known = visitor(site)
    await known.look()
    _, headers, _ = await known.request("GET")
    assert "Set-Cookie" not in headers


async def test_without_script_the_form_leads_back_to_the_answer(site: Site) -> None:
    me = visitor(site)
    await me.look()
    status, headers, _ = await me.send(text=QUESTION)
    assert status == 303 and headers["Location"] == f"{site.page.removeprefix(site.base)}#last"
    page = await me.look()
    assert page.index(QUESTION) < page.index(ANSWER)
    assert page.count('class="message own"') == 1


async def test_a_person_can_be_asked_for(site: Site) -> None:
    me = visitor(site)
    status, _, _ = await me.send(operator="1")
    assert status == 303
    known = await me.history()
    assert known["status"] == "waiting"
    assert known["items"][0]["text"] == translate("uz", "Ask for a person")
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", status="waiting")).body["items"][0]
    await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": "Assalomu alaykum, men Dilnozaman"})
    news = (await me.history(known["items"][-1]["id"]))["items"]
    assert [(item["author"], item["text"]) for item in news] == [("operator", "Assalomu alaykum, men Dilnozaman")]
    assert "Dilnozaman" in await me.look()
    # The person has it: the stream ends without a word of the bot.
    events = await me.stream(text=QUESTION)
    assert [kind for kind, _ in events] == ["done"] and events[0][1]["status"] == "human"


async def test_typed_commands_work_and_language_buttons_too(site: Site) -> None:
    me = visitor(site)
    events = await me.stream(text="/language")
    offered = next(data for kind, data in events if kind == "message")["buttons"]
    assert [button["text"] for button in offered] == list(LANGUAGE_NAMES.values())
    assert 'value="lang:ru"' in await me.look()
    events = await me.stream(data="lang:ru")
    assert events[-1][1]["items"][-2]["text"] == LANGUAGE_NAMES["ru"]
    refused, _, _ = await me.send({"Accept": "text/event-stream"}, data="lang:xx")
    assert refused == 400


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html"])
@pytest.mark.parametrize("text", ["", "  \r\n ", "x" * 4001, "\x00\x07"])
async def test_what_cannot_be_sent_is_said_clearly(site: Site, accept: str, text: str) -> None:
    me = visitor(site)
    status, _, answer = await me.send({"Accept": accept}, text=text)
    assert status == 400
    if accept == "text/html":
        assert 'role="alert">' in answer and "</textarea>" in answer
        assert len(text) < 100 or text in answer
    else:
        assert json.loads(answer)["error"]["message"]
    assert (await me.history())["items"] == []


async def test_a_line_break_counts_once(site: Site) -> None:
    status, _, _ = await visitor(site).send(text="Savol:\r\n" + "a\r\n" * 1990)
    assert status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_other_sites_cannot_write_here(site: Site, headers: dict[str, str]) -> None:
    status, _, _ = await visitor(site).send(headers, text=QUESTION)
    assert status == 403


async def test_the_page_speaks_the_visitors_language(site: Site) -> None:
    for accepted, language in (
        ("ru-RU,ru;q=0.9", "ru"),
        ("en", "en"),
        ("uz", "uz"),
        ("uz-Cyrl", "uz-Cyrl"),
        ("de", "uz"),
    ):
        page = await visitor(site).look(**{"Accept-Language": accepted})
        assert f'<html lang="{language}">' in page
        assert translate(language, "Write a message…") in page
    me = visitor(site)
    assert '<html lang="ru">' in await me.look("?lang=ru")
    assert '<html lang="ru">' in await me.look(**{"Accept-Language": "en"})
    page = await me.look()
    assert all(name in page for name in LANGUAGE_NAMES.values())


async def test_only_the_bots_languages_are_offered(site: Site) -> None:
    made = (await site.owner.post("/bots", {"name": "Faqat ruscha", "languages": ["ru"]})).body
    me = Visitor(site, f"{site.base}/chat/{made['public_id']}")
    for page in (await me.look(**{"Accept-Language": "uz"}), await me.look("?lang=en")):
        assert '<html lang="ru">' in page and "O‘zbekcha" not in page
    await site.owner.call("DELETE", f"/bots/{made['id']}")
    status, _, text = await me.request("GET")
    assert status == 404 and "👋" in text
    status, _, text = await me.send({"Accept": "text/event-stream"}, text=QUESTION)
    assert (status, json.loads(text)["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("public_id", ["x", "a" * 22, "a" * 300, "%00" * 22, "..%2F..%2Fetc%2Fpasswd"])
async def test_an_unknown_address_is_a_polite_page(site: Site, public_id: str) -> None:
    async with site.http.get(f"{site.base}/chat/{public_id}") as answer:
        assert answer.status == 404


async def test_a_stopped_bot_says_that_it_rests(site: Site) -> None:
    await site.owner.post(f"{site.owner.bot}/stop")
    me = visitor(site)
    line = translate("uz", "This bot is resting now 😴 Please write again later.")
    assert line in await me.look()
    events = await me.stream(text=QUESTION)
    assert [data["text"] for kind, data in events if kind == "message"] == [line]


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("bot", "answers at once"),
        ("waiting", "a person has been called; meanwhile the bot answers"),
        ("human", "a person answers"),
        ("closed", "answers at once"),
    ],
)
async def test_the_page_says_who_answers(site: Site, status: str, told: str) -> None:
    me = visitor(site)
    await me.stream(text=QUESTION)
    if status == "waiting":
        await me.stream(operator="1")
    else:
        talk = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]
        await site.owner.call("PATCH", f"/conversations/{talk['id']}", json={"status": status})
    page = await me.look("?lang=en")
    assert re.findall(r'<p class="state"[^>]*>([^<]*)<', page) == [told]
    await site.owner.post(f"{site.owner.bot}/stop")
    assert re.findall(r'<p class="state[^>]*>([^<]*)<', await me.look("?lang=en")) == ["resting now"]


async def test_markup_stays_text(site: Site) -> None:
    site.models.reply = f"Mana {CANARY}"
    me = visitor(site)
    await me.stream(text=f"Yetkazib berish bormi? {CANARY}")
    page = await me.look()
    assert "<img" not in page and page.count("<script") == 1


async def test_headers(site: Site) -> None:
    _, headers, page = await visitor(site).request("GET")
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"\son\w+=|style=|https?://(?!www\.w3\.org)", page)


async def test_many_messages_from_one_address_are_slowed_down(
    servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flood")
    limits = {"contact_messages_per_minute": 1}
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as site:
        answers = [await visitor(site).send({"Accept": "text/event-stream"}, text=QUESTION) for _ in range(8)]
        assert [status for status, _, _ in answers] == [200] * 6 + [429] * 2
        assert int(answers[-1][1]["Retry-After"]) > 0
        plain = await visitor(site).send(text=QUESTION)
        assert plain[0] == 429 and QUESTION in plain[2] and int(plain[1]["Retry-After"]) > 0


async def test_a_visitor_who_leaves_finds_the_answer_later(site: Site) -> None:
    me = visitor(site)
    await me.look()
    site.models.latency_s = 0.3
    headers = {"Accept": "text/event-stream", "Cookie": f"chat={me.cookies['chat']}"}
    async with site.core.bell.listen(f"bot:{site.owner.shop.bot.id}", limit=100) as events:
        async with site.http.post(f"{site.page}/messages", data={"text": QUESTION}, headers=headers) as answer:
            assert answer.status == 200
            answer.close()
        async with asyncio.timeout(20):
            while not any(item["author"] == "bot" for item in (await me.history())["items"]):
                await events.get()


async def test_a_long_talk_comes_in_parts(site: Site) -> None:
    me = visitor(site)
    await me.look()
    await me.stream(text=QUESTION)
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]
    for number in range(55):
        await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": f"Qator-{number:02}."})
    page = await me.look()
    assert "Qator-54." in page and "Qator-04." not in page
    earlier = re.search(r'href="/chat/[^"?]+(\?before=[0-9a-z]{26})"', page)
    assert earlier is not None
    older = await me.look(earlier[1])
    assert "Qator-04." in older and "Qator-54." not in older and QUESTION in older


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        await chromium.close()


@pytest.fixture
async def console() -> list[str]:
    return []


async def opened(browser: Browser, site: Site, console: list[str], **options: Any) -> Page:
    context = await browser.new_context(**{"viewport": {"width": 390, "height": 844}, "locale": "uz", **options})
    page = await context.new_page()
    page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: console.append(request.url) if not request.url.startswith(site.base) else None)
    response = await page.goto(site.page)
    assert response is not None and response.status == 200
    return page


async def write(page: Page, text: str) -> None:
    await page.locator("#text").fill(text)
    await page.locator(".send").click()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1366])
async def test_a_talk_in_the_browser(browser: Browser, site: Site, console: list[str], scheme: Any, width: int) -> None:
    page = await opened(browser, site, console, viewport={"width": width, "height": 720}, color_scheme=scheme)
    assert await page.title() == "Texno Savdo"
    await write(page, QUESTION)
    answer = page.locator(".theirs[data-id]")
    await answer.first.wait_for()
    assert await answer.first.locator(".bubble").inner_text() == ANSWER
    assert await page.locator(".own").count() == 1
    await page.locator("#person").click()
    await answer.nth(1).wait_for()
    await page.locator(".own[data-id]").nth(1).wait_for()
    await page.reload()
    assert [await page.locator(".own").count(), await answer.count()] == [2, 2]
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.locator(".languages summary").click()
    found = await Axe().run(page)
    serious = [v for v in found.response["violations"] if v["impact"] in ("critical", "serious")]
    assert not serious, json.dumps(serious, ensure_ascii=False)[:2000]
    assert console == []
    await page.context.close()


@pytest.mark.browser
async def test_hostile_words_stay_words_in_the_browser(browser: Browser, site: Site, console: list[str]) -> None:
    site.models.reply = f"Mana {CANARY}"
    page = await opened(browser, site, console)
    await write(page, f"Yetkazib berish bormi? {CANARY}")
    await page.locator(".theirs[data-id]").first.wait_for()
    for _ in range(2):
        assert CANARY in await page.locator(".own .bubble").inner_text()
        assert await page.title() == "Texno Savdo"
        assert await page.locator("main img, main script").count() == 0
        await page.reload()
    assert console == []
    await page.context.close()


@pytest.mark.browser
async def test_a_lost_connection_loses_nothing(browser: Browser, site: Site, console: list[str]) -> None:
    page = await opened(browser, site, console)
    await page.context.set_offline(True)
    await page.locator("#offline").wait_for()
    await write(page, QUESTION)
    await page.locator(".fate button").wait_for()
    await page.context.set_offline(False)
    answer = page.locator(".theirs[data-id] .bubble")
    await answer.first.wait_for()
    assert await answer.first.inner_text() == ANSWER
    assert await page.locator(".own").count() == 1
    assert not await page.locator(".fate, #offline").first.is_visible()
    await page.reload()
    assert await page.locator(".own").count() == 1
    await page.context.close()


@pytest.mark.browser
async def test_an_operator_appears_without_reload(browser: Browser, site: Site, console: list[str]) -> None:
    page = await opened(browser, site, console, locale="en")
    answering = page.locator("#answering")
    await expect(answering).to_have_text("answers at once")
    await page.locator("#person").click()
    await page.locator(".theirs[data-id]").first.wait_for()
    await expect(answering).to_have_text("a person has been called; meanwhile the bot answers")
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]
    await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": "Men Dilnozaman"})
    await page.get_by_text("Men Dilnozaman").wait_for()
    assert await page.locator(".who").count() == 1
    await expect(answering).to_have_text("a person answers")
    await site.owner.call("PATCH", f"/conversations/{talk['id']}", json={"status": "bot"})
    await expect(answering).to_have_text("answers at once", timeout=60_000)
    assert console == []
    await page.context.close()


async def _sent_by_operator(site: Site, name: str, data: bytes) -> None:
    talk_id = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]["id"]
    core = site.core
    file = await outfiles.prepare(core, "web", talk_id, name, data)
    async with core.db.write() as session:
        talk = await session.get_one(models.Conversation, talk_id)
        bot = await session.get_one(models.Bot, talk.bot_id)
        owner = await session.get_one(models.User, bot.owner_id)
        row = await conversations.get(session, owner, talk_id)
        await conversations.operator_reply(session, row, "", author=owner, file=file)


async def test_files_of_a_person_are_there_for_their_visitor(site: Site) -> None:
    me = visitor(site)
    await me.stream(text=QUESTION)
    await _sent_by_operator(site, "narx <b>.pdf", b"%PDF-1.4 narx")
    await _sent_by_operator(site, "rasm.png", encoded("PNG"))
    document, picture = [item for item in (await me.history())["items"] if item["author"] == "operator"]
    assert [(one["name"], one["shown"]) for one in document["files"]] == [("narx <b>.pdf", "")]
    assert [(one["name"], one["shown"]) for one in picture["files"]] == [("rasm.jpg", "image")]
    assert (document["text"], picture["text"]) == ("narx <b>.pdf", "Rasm")
    shown = await me.look()
    assert "<img src=" in shown and "📎 narx &lt;b&gt;.pdf" in shown
    origin = site.page.partition("/chat/")[0]
    async with site.http.get(origin + document["files"][0]["url"]) as answer:
        assert (answer.status, await answer.read()) == (200, b"%PDF-1.4 narx")
    assert (await visitor(site).history())["items"] == []


@pytest.mark.browser
async def test_a_picture_from_a_person_is_seen(browser: Browser, site: Site, console: list[str]) -> None:
    page = await opened(browser, site, console, locale="en", viewport={"width": 390, "height": 844})
    await page.locator("#person").click()
    await page.locator(".theirs[data-id]").first.wait_for()
    await _sent_by_operator(site, "rasm.png", encoded("PNG"))
    await _sent_by_operator(site, "narx.pdf", b"%PDF-1.4 narx")
    picture = page.locator(".sent-file img")
    await picture.wait_for(timeout=60_000)
    await expect(page.locator(".sent-file a[download]")).to_contain_text("narx.pdf")
    await expect(picture).to_have_js_property("naturalWidth", 60, timeout=60_000)
    await page.reload()
    await expect(picture).to_have_js_property("naturalWidth", 60, timeout=60_000)
    assert console == []
    await page.context.close()


@pytest.mark.browser
async def test_a_person_is_seen_writing_and_heard_without_asking(
    browser: Browser, site: Site, console: list[str]
) -> None:
    page = await opened(browser, site, console, locale="en")
    async with page.expect_response(lambda answer: "/events?" in answer.url and answer.ok):
        await write(page, QUESTION)
    await page.locator(".theirs[data-id]").first.wait_for()
    await page.route("**/messages?*", lambda route: route.abort())
    talk = (await site.owner.get(f"{site.owner.bot}/conversations", limit="1")).body["items"][0]
    bot_id = site.owner.shop.bot.id
    said = {"presence": talk["id"], "person": "p1", "name": "Dilnoza", "state": "typing"}
    # As another process tells it.
    site.core.bell.ring("presence", said)
    site.core.bell.ring(f"bot:{bot_id}", said)
    await expect(page.get_by_role("img", name="An operator is writing…")).to_be_visible()
    await site.owner.post(f"/conversations/{talk['id']}/messages", {"text": "Men Dilnozaman"})
    await expect(page.locator(".theirs[data-id] .bubble")).to_have_text([ANSWER, "Men Dilnozaman"])
    await expect(page.locator(".dots")).to_have_count(0)
    assert console == []
    await page.context.close()


async def test_a_picture_is_taken_on_the_page(site: Site) -> None:
    """By its content, from this page alone, so many in a minute; it is the visitor's."""
    me, other = visitor(site), visitor(site)
    await me.look()

    async def send(data: bytes, **headers: str) -> Any:
        form = aiohttp.FormData()
        form.add_field("file", data, filename="x.png", content_type="application/octet-stream")
        return await me.request("POST", "/pictures", {"Accept": "text/event-stream", **headers}, data=form)

    assert [(await send(data))[0] for data in (b"", b"<svg/>", encoded("PNG") + b"0" * (5 * 2**20))] == [400, 400, 413]
    assert (await send(encoded("PNG"), **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
    assert (await me.history())["items"] == []
    status, _, events = await send(encoded("PNG", (300, 600)))
    assert status == 200 and "event: done" in events
    item = (await me.history())["items"][0]
    assert (item["author"], item["instead"], item["files"][0]["height"]) == ("customer", True, 280)
    assert 'width="140" height="280"' in await me.look()
    assert (await other.history())["items"] == []
    assert [(await send(encoded("PNG")))[0] for _ in range(5)][-1] == 429


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "locale"), [("light", "uz"), ("dark", "ru")])
async def test_a_picture_is_sent_from_the_page(
    browser: Browser, site: Site, console: list[str], scheme: Any, locale: str
) -> None:
    page = await opened(browser, site, console, locale=locale, color_scheme=scheme)
    chooser = page.locator("#chooser")
    await expect(page.get_by_role("button", name=translate(locale, "Send a picture"))).to_be_visible()
    await chooser.set_input_files({"name": "x.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"})
    await expect(page.get_by_role("alert")).to_contain_text("PNG, JPEG, WebP, GIF")
    await chooser.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": encoded("PNG", (600, 400))})
    await expect(page.locator(".own[data-id] canvas")).to_have_count(1)
    await page.locator(".theirs[data-id]").first.wait_for()
    found = await Axe().run(page)
    assert [one["id"] for one in found.response["violations"]] == []
    if SHOTS:
        await page.screenshot(path=f"{SHOTS}/chat-picture-{scheme}-{locale}.png")
    await page.reload()
    await expect(page.locator(".own .bubble img")).to_have_js_property("naturalWidth", 600)
    assert console == []
    await page.context.close()


@pytest.mark.browser
async def test_thumbs_on_the_page(browser: Browser, site: Site, console: list[str]) -> None:
    """On an answer that just came and, after a reload, on one that the server wrote."""
    page = await opened(browser, site, console, locale="en")
    await write(page, QUESTION)
    up, down = page.get_by_role("button", name="Helpful", exact=True), page.get_by_role("button", name="Not helpful")
    for pressed, other in ((up, down), (down, up)):
        async with page.expect_response("**/ratings"):
            await pressed.click()
        for _ in range(2):
            await expect(pressed).to_have_attribute("aria-pressed", "true")
            await expect(other).to_have_attribute("aria-pressed", "false")
            await page.reload()
    await page.route("**/ratings", lambda route: route.abort())
    await up.click()
    await expect(page.get_by_role("alert")).to_have_text("This was not saved. Please press again.")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await page.context.close()


@pytest.mark.browser
async def test_the_browser_without_script(browser: Browser, site: Site, console: list[str]) -> None:
    page = await opened(browser, site, console, java_script_enabled=False)
    await write(page, QUESTION)
    await page.get_by_text(ANSWER).wait_for()
    await page.locator("#person").click()
    assert await page.locator(".own").count() == 2
    await page.context.close()


async def test_a_web_channel_that_was_disconnected_has_no_page(site: Site) -> None:
    made = (await site.owner.post("/bots", {"name": "Yopiq"})).body
    async with site.core.db.write() as session:
        bot = await bots.get(session, site.owner.shop.owner, made["id"])
        for channel in await bots.channels(session, bot):
            await bots.disconnect(session, bot, channel.id)
    status, _, _ = await Visitor(site, f"{site.base}/chat/{made['public_id']}").request("GET")
    assert status == 404


async def test_a_broken_form_is_refused(site: Site) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Accept": "text/event-stream"}
    status, _, _ = await visitor(site).request("POST", "/messages", headers, data=b"no parts")
    assert status == 400
    large = aiohttp.FormData({"text": "x" * (5 * 1024 * 1024)})
    status, _, _ = await visitor(site).request("POST", "/messages", {"Accept": "text/event-stream"}, data=large)
    assert status == 413
