"""Learning from questions in the panel: groups, saving an operator's answer, thumbs, and the page of test questions."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from services import bots, trials
from services.knowledge.analysis import question_key
from tests.composition import FAQ, add_document
from tests.conveyor.harness import until
from tests.servers import Run
from tests.web.panel import Browser, Site, open_site, web_talk

WARRANTY = "Muzlatgichlarga kafolat bormi?"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: Run) -> AsyncIterator[Site]:
    """The whole product without models: answers are quoted."""
    folder: Path = tmp_path_factory.mktemp("learning")
    async with open_site(folder, servers_run.new_sqlite(folder)) as opened:
        yield opened


async def _owner(site: Site, name: str, document: bool = True) -> tuple[models.User, models.Bot, Browser]:
    owner = await site.person(name, language="en")
    bot = await site.bot_of(owner)
    if document:
        await add_document(site.core, bot, "savollar.txt", FAQ.encode())
    return owner, bot, await site.signed_in(owner)


async def _ask(site: Site, bot: models.Bot, *questions: str) -> list[str]:
    rows = [models.UnansweredQuestion(bot_id=bot.id, question=text, folded=question_key(text)) for text in questions]
    async with site.core.db.write() as session:
        session.add_all(rows)
    return [row.id for row in rows]


async def _open(site: Site, bot: models.Bot) -> list[str]:
    row = models.UnansweredQuestion
    async with site.core.db.read() as session:
        found = select(row.question).where(row.bot_id == bot.id, row.answered_at.is_(None)).order_by(row.id)
        return list(await session.scalars(found))


async def test_one_field_for_a_group_and_one_answer_for_all_of_it(site: Site) -> None:
    _, bot, browser = await _owner(site, "Groups")
    await _ask(site, bot, "Parkovka bormi?", "Парковка есть?", "Velosiped <b>ijarasi</b> qancha?")
    page = await browser.get(f"/bots/{bot.id}/documents")
    assert page.text.count('name="answer" rows="2"') == 2 and "1 other wording" in page.text
    assert "Парковка есть?" in page.text and "<b>ijarasi</b>" not in page.text
    answer = await browser.post(f"/bots/{bot.id}/answers", question="Parkovka bormi?", answer="Ha, hovlida.")
    assert answer.status == 303
    assert await _open(site, bot) == ["Velosiped <b>ijarasi</b> qancha?"]
    refused = await browser.post(f"/bots/{bot.id}/answers", question="Velosiped <b>ijarasi</b> qancha?", answer=" ")
    assert refused.status == 400 and "Write the answer." in refused.visible()


async def test_a_group_is_dismissed_as_a_whole_and_again_without_harm(site: Site) -> None:
    _, bot, browser = await _owner(site, "Dismiss", document=False)
    first, second = await _ask(site, bot, "Parkovka bormi?", "Парковка есть?")
    for question in (second, second, first):
        assert (await browser.post(f"/bots/{bot.id}/unanswered/{question}/dismiss")).status == 303
    assert await _open(site, bot) == []


async def test_many_groups_come_in_parts(site: Site) -> None:
    _, bot, browser = await _owner(site, "Many", document=False)
    await _ask(site, bot, *(f"Mahsulot {number} bormi?" for number in range(45)))
    seen: set[str] = set()
    path = f"/bots/{bot.id}/documents"
    for wanted in (20, 20, 5):
        page = await browser.get(path)
        shown = re.findall(r"<b>(Mahsulot \d+ bormi\?)</b>", page.text)
        assert len(shown) == wanted
        seen |= set(shown)
        more = re.search(r'href="(\?from=\d+)#unanswered"', page.text)
        path = f"/bots/{bot.id}/documents{more[1]}" if more else ""
    assert len(seen) == 45 and path == ""
    for odd in ("99999", "-1", "x", "²", "9" * 40):
        assert (await browser.get(f"/bots/{bot.id}/documents?from={odd}")).status == 200


async def test_an_operators_reply_is_saved_as_an_answer(site: Site) -> None:
    owner, bot, browser = await _owner(site, "Operator", document=False)
    stranger, other, theirs = await _owner(site, "Stranger", document=False)
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot)
        for author, text in (("customer", "Parkovka bormi?"), ("customer", "/operator"), ("operator", "Ha, hovlida.")):
            session.add(models.Message(conversation_id=talk.id, author=author, text=text, status="sent"))
            await session.flush()
    page = await browser.get(f"/inbox/{talk.id}")
    link = re.search(r'href="(/bots/\w+/documents\?teach=(\w+))#teach"', page.text)
    assert link is not None
    form = await browser.get(link[1])
    assert 'value="Parkovka bormi?"' in form.text and ">Ha, hovlida.</textarea>" in form.text
    assert re.search(r'<details class="mt-3" id="teach" open>', form.text)
    # Another owner's message fills no form, and neither does a customer's.
    for path in (f"/bots/{other.id}/documents?teach={link[2]}", f"/bots/{other.id}/documents?teach=x"):
        assert "hovlida" not in (await theirs.get(path)).text
    assert (await theirs.get(link[1])).status == 404
    assert stranger.id != owner.id


async def test_the_owner_switches_thumbs_in_telegram(site: Site) -> None:
    _, bot, browser = await _owner(site, "Thumbs", document=False)
    assert "/thumbs" not in (await browser.get(f"/bots/{bot.id}/documents")).text
    async with site.core.db.write() as session:
        session.add(models.Channel(bot_id=bot.id, kind="telegram", external_id="77001", username="x_bot"))
    assert 'action="/bots/' in (await browser.get(f"/bots/{bot.id}/documents")).text
    for wanted in ("on", "off"):
        assert (await browser.post(f"/bots/{bot.id}/thumbs", thumbs=wanted)).status == 303
        async with site.core.db.read() as session:
            assert (await session.get_one(models.Bot, bot.id)).settings["thumbs"] is (wanted == "on")


class Visitor:
    """A browser at a bot's chat page, without script."""

    def __init__(self, site: Site, bot: models.Bot) -> None:
        self.page = f"{site.base}/chat/{bot.public_id}"
        self.cookies: dict[str, str] = {}

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        data: dict[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        """Return status, place and text."""
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.request(
                method, self.page + path, data=data, headers={**cookies, **(headers or {})}, allow_redirects=False
            ) as answer,
        ):
            for header in answer.headers.getall("Set-Cookie", []):
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
            return answer.status, answer.headers.get("Location", ""), await answer.text()


async def test_a_visitor_rates_an_answer_without_script_and_with(site: Site) -> None:
    _, bot, browser = await _owner(site, "Visited")
    me, other = Visitor(site, bot), Visitor(site, bot)
    for who in (me, other):
        await who.request("GET")
        assert (await who.request("POST", "/messages", data={"text": WARRANTY}))[0] == 303
    page = (await me.request("GET"))[2]
    up, down = re.findall(r'name="rating" value="(rate:-?1:\w+)" aria-pressed="false"', page)
    status, place, _ = await me.request("POST", "/ratings", data={"rating": up})
    assert status == 303 and place.endswith(f"#said-{up.rpartition(':')[2]}")
    assert f'value="{up}" aria-pressed="true"' in (await me.request("GET"))[2]
    # Another visitor cannot rate it, and what is not a thumb is refused.
    assert (await other.request("POST", "/ratings", data={"rating": down}))[0] == 303
    assert await _open(site, bot) == []
    for wrong in ("", "rate:5:x", "1", down + "x"):
        assert (await me.request("POST", "/ratings", data={"rating": wrong}))[0] == 400
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await me.request("POST", "/ratings", data={"rating": down}, headers=foreign))[0] == 403
    told = await me.request("POST", "/ratings", data={"rating": down}, headers={"Accept": "application/json"})
    assert (told[0], json.loads(told[2])) == (200, {"rating": -1})
    assert await _open(site, bot) == [WARRANTY]
    items = json.loads((await me.request("GET", "/messages?after=0"))[2])["items"]
    assert [item["rating"] for item in items] == [None, -1]
    shown = (await browser.get(f"/bots/{bot.id}/documents")).visible()
    assert "👍 0" in shown and "👎 1" in shown


async def _over(site: Site, bot: models.Bot) -> None:
    async def over() -> bool:
        async with site.core.db.read() as session:
            return (await trials.runs(session, bot))[0].status == "done"

    await until(over, 60)


async def test_the_page_of_test_questions(site: Site) -> None:
    owner, bot, browser = await _owner(site, "Tests")
    base = f"/bots/{bot.id}/tests"
    assert "No test questions yet" in (await browser.get(base)).text
    refused = await browser.post(base, question="  ", expected="kept")
    assert refused.status == 400 and 'value="kept"' in refused.text
    refused = await browser.post(f"{base}/run")
    assert refused.status == 400 and "Add a test question first." in refused.visible()
    assert (await browser.post(base, question="Yetkazib berish <bormi>?", expected="bepul")).status == 303
    assert (await browser.post(base, question=WARRANTY, expected="5 yil")).status == 303
    assert (await browser.post(f"{base}/run")).status == 303
    await _over(site, bot)
    page = await browser.get(base)
    assert "1 of 2 as expected" in page.visible() and "does not say: 5" in page.visible()
    assert "&lt;bormi&gt;" in page.text

    async with site.core.db.write() as session:
        asked = await trials.list_for(session, bot)
        await bots.update(
            session, await bots.get(session, owner, bot.id), name="Nomi", limits=site.core.settings.limits
        )
    assert "have changed since the last run" in (await browser.get(base)).text
    assert (await browser.post(f"/bots/{bot.id}/answers", question=WARRANTY, answer="Endi 5 yil.")).status == 303
    assert (await browser.post(f"{base}/run")).status == 303
    await _over(site, bot)
    page = await browser.get(base)
    assert "1 better" in page.visible() and "Before" in page.visible() and "Endi 5 yil." in page.text
    part = await browser.get(f"{base}/results", **{"HX-Request": "true"})
    assert "1 better" in part.visible() and "<html" not in part.text
    runs = re.findall(r"tests\?run=(\w+)", page.text)
    assert len(runs) == 2
    assert "1 of 2 as expected" in (await browser.get(f"{base}?run={runs[1]}")).visible()
    assert (await browser.get(f"{base}?run=nothing")).status == 404

    assert (await browser.post(f"{base}/{asked[0].id}", question="Boshqa savol?", expected="")).status == 303
    assert (await browser.post(f"{base}/{asked[0].id}", question="", expected="")).status == 400
    assert (await browser.post(f"{base}/{asked[1].id}/delete")).status == 303
    assert (await browser.post(f"{base}/{asked[1].id}/delete")).status == 404
    async with site.core.db.read() as session:
        assert [row.question for row in await trials.list_for(session, bot)] == ["Boshqa savol?"]


async def test_questions_are_brought_in_by_one_button(site: Site) -> None:
    _, bot, browser = await _owner(site, "Import")
    base = f"/bots/{bot.id}/tests"
    assert "done=tests_none" in (await browser.post(f"{base}/import", source="unanswered")).location
    await _ask(site, bot, "Parkovka bormi?", "Парковка есть?", "Velosiped ijarasi qancha?")
    visitor = Visitor(site, bot)
    await visitor.request("GET")
    for text in (WARRANTY, "Salom", "Kosmik kema sotasizlarmi?"):
        await visitor.request("POST", "/messages", data={"text": text})
    await browser.post(f"/bots/{bot.id}/try", text="Qaysi vaqtda ishlaysiz?")
    for source in ("answered", "unanswered", "answered"):
        await browser.post(f"{base}/import", source=source)
    async with site.core.db.read() as session:
        known = [row.question for row in await trials.list_for(session, bot)]
    assert known[0] == WARRANTY
    assert sorted(known[1:]) == ["Kosmik kema sotasizlarmi?", "Parkovka bormi?", "Velosiped ijarasi qancha?"]


@pytest.mark.parametrize(("status", "wanted"), [("running", "Being asked: 1 of 2"), ("failed", "This run broke off")])
async def test_a_run_that_is_not_over_shows_how_far_it_is(site: Site, status: str, wanted: str) -> None:
    _, bot, browser = await _owner(site, f"Half-{status}", document=False)
    waiting = {"question": "Ikkinchi savol?", "expected": "", "state": "waiting"}
    answered = {**waiting, "question": "Birinchi savol?", "state": "bad", "answered": False, "text": "Bilmayman"}
    answered |= {"missing": [], "sources": [], "provider": "extractive", "model": None, "note": "model_away"}
    async with site.core.db.write() as session:
        await trials.add(session, bot, "Birinchi savol?", "")
        session.add(models.TestRun(bot_id=bot.id, status=status, results={"a": answered, "b": waiting}))
    page = await browser.get(f"/bots/{bot.id}/tests")
    assert page.status == 200 and wanted in page.visible()
    assert "Ikkinchi savol?" in page.text and "No model could be reached" in page.visible()
    # While one runs, no other begins.
    again = await browser.post(f"/bots/{bot.id}/tests/run")
    assert again.status == (409 if status == "running" else 303)
