"""The example: one press makes a sample shop that answers, and nothing about it is different from other bots."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from db import models
from services import bots, samples
from services.i18n import translate
from services.knowledge import documents
from tests import servers
from tests.composition import FAQ, add_document
from tests.web.panel import Browser, Page, Site, open_site

ANSWERS = {
    "uz": ("4 150 000", "90 000", "18:00"),
    "uz-Cyrl": ("4 150 000", "90 000", "18:00"),
    "ru": ("4 150 000", "90 000", "18:00"),
    "en": ("4,150,000", "90,000", "18:00"),
}
_TRIES = re.compile(r"<div class=\"tries\".*?</div>", re.DOTALL)
_BUTTON = re.compile(r"<button[^>]*>([^<]*)</button>")


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product without any key; every test makes its own people, who may have two bots each."""
    folder = tmp_path_factory.mktemp("example")
    few = {"limits": {"bots_per_owner": 2}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=few) as made:
        yield made


async def _own(site: Site, user: models.User) -> list[models.Bot]:
    async with site.core.db.read() as session:
        return await bots.list_for(session, user)


async def _read(site: Site, bot: models.Bot) -> Sequence[models.Document]:
    """Return the bot's documents once none of them waits to be read."""
    async with site.core.bell.listen(f"bot:{bot.id}", limit=1000) as events, asyncio.timeout(60):
        while True:
            async with site.core.db.read() as session:
                files = await documents.list_for(session, bot)
            if all(file.status in ("ready", "failed") for file in files):
                return files
            await events.get()


async def _ask(browser: Browser, bot: models.Bot, question: str) -> Any:
    page = await browser.post(f"/bots/{bot.id}/try", text=question)
    return json.loads(re.findall(r"event: done\ndata: (.*)\n", page.text)[0])


def _tries(page: Page) -> list[str]:
    row = _TRIES.search(page.text)
    return _BUTTON.findall(row[0]) if row else []


@pytest.mark.parametrize("language", list(ANSWERS))
async def test_one_press_makes_a_shop_that_answers(site: Site, language: str) -> None:
    """Both documents are read like an upload, and what the page proposes to ask is answered from them."""
    user = await site.person(f"One{language}", language=language)
    browser = await site.signed_in(user)
    for place in ("/bots/new", "/dashboard"):
        offered = await browser.get(place)
        assert 'action="/bots/example"' in offered.text, place
        assert translate(language, "Start with an example") in offered.visible(), place
    made = await browser.post("/bots/example")
    (bot,) = await _own(site, user)
    assert (made.status, made.location) == (303, f"/bots/{bot.id}/setup")
    assert bot.name == translate(language, "Sample shop")
    files = await _read(site, bot)
    assert {(file.name, file.status) for file in files} == {
        (translate(language, "Price list") + ".csv", "ready"),
        (translate(language, "Questions and answers") + ".txt", "ready"),
    }
    page = await browser.get(made.location)
    questions = _tries(page)
    assert len(questions) == 3
    for question, known in zip(questions, ANSWERS[language], strict=True):
        done = await _ask(browser, bot, question)
        assert (done["answered"], done["language"], done["provider"]) == (True, language, "extractive"), question
        assert known in done["messages"][-1]["text"], question
    talks = (await browser.get("/inbox")).text
    assert len(set(re.findall(r"/inbox/\w{26}", talks))) == 1


async def test_pressing_twice_at_once_makes_one(tmp_path: Path, database_url: str) -> None:
    """Whichever request comes first makes it, on both databases; all lead to the same page."""
    async with open_site(tmp_path, database_url) as site:
        user = await site.person("Quick", language="uz")
        browser = await site.signed_in(user)
        pressed = await asyncio.gather(*(browser.post("/bots/example") for _ in range(4)))
        (bot,) = await _own(site, user)
        assert {page.location for page in pressed} == {f"/bots/{bot.id}/setup"}
        assert len(await _read(site, bot)) == 2


async def test_pressing_again_opens_the_one_there_is(site: Site) -> None:
    """Under another name too; another language has an example of its own."""
    user = await site.person("Twice", language="en")
    browser = await site.signed_in(user)
    await browser.post("/bots/example")
    (bot,) = await _own(site, user)
    await browser.post(f"/bots/{bot.id}", name="My own name", languages="en")
    again = await browser.get("/bots/new")
    assert 'action="/bots/example"' not in again.text
    assert f'href="/bots/{bot.id}/setup"' in again.text
    assert (await browser.post("/bots/example")).location == f"/bots/{bot.id}/setup"
    await browser.post("/preferences", language="ru", next="/bots/new")
    await browser.post("/bots/example")
    assert [own.name for own in await _own(site, user)] == ["My own name", translate("ru", "Sample shop")]


async def test_without_room_a_line_says_so(site: Site) -> None:
    """The limit on bots holds; who has the example already is led to it."""
    user = await site.person("Full", language="en")
    browser = await site.signed_in(user)
    for name in ("First", "Second"):
        await site.bot_of(user, name)
    assert 'action="/bots/example"' not in (await browser.get("/bots/new")).text
    refused = await browser.post("/bots/example")
    assert refused.status == 409
    assert 'role="alert"' in refused.text
    assert "You already have 2 bots, which is the limit." in refused.visible()
    first, _second = await _own(site, user)
    await browser.post(f"/bots/{first.id}/delete", confirm="First")
    example = await browser.post("/bots/example")
    assert (await browser.post("/bots/example")).location == example.location
    assert example.location in (await browser.get("/bots/new")).text


async def test_it_belongs_to_one_person(site: Site) -> None:
    """Another owner neither sees nor opens it, and gets one of their own; without a form's token nothing happens."""
    owner, other = await site.person("Mine", language="ru"), await site.person("Other", language="ru")
    browser, stranger = await site.signed_in(owner), await site.signed_in(other)
    assert (await browser.request("POST", "/bots/example", data={})).status == 403
    assert (await site.browser().post("/bots/example")).status == 401
    mine = (await browser.post("/bots/example")).location
    assert (await stranger.get(mine)).status == 404
    assert mine not in (await stranger.get("/bots/new")).text
    theirs = (await stranger.post("/bots/example")).location
    assert theirs != mine
    assert (await stranger.get(theirs)).status == 200


async def test_it_is_deleted_like_any_other_and_made_again(site: Site) -> None:
    """Deleted it is gone, and the first-run page offers a new one."""
    user = await site.person("Gone", language="uz")
    browser = await site.signed_in(user)
    await browser.post("/bots/example")
    (bot,) = await _own(site, user)
    assert (await browser.post(f"/bots/{bot.id}/delete", confirm=bot.name)).location == "/bots?done=deleted"
    assert await _own(site, user) == []
    assert 'action="/bots/example"' in (await browser.get("/bots/new")).text
    await browser.post("/bots/example")
    (again,) = await _own(site, user)
    assert again.id != bot.id


async def test_the_first_steps_wait_for_the_own_bot(site: Site) -> None:
    """With the example alone the own bot is still to be named; questions are proposed for the example only."""
    user = await site.person("Steps", language="en")
    browser = await site.signed_in(user)
    example = (await browser.post("/bots/example")).location
    page = await browser.get("/dashboard")
    assert re.search(r'<li class="step current">\s*.*\s*<div><a href="/bots/new">Name your bot</a>', page.text)
    own = await site.bot_of(user, "Chinor")
    await add_document(site.core, own, "savollar.txt", FAQ.encode())
    page = await browser.get("/dashboard")
    assert re.search(rf'<li class="step current">\s*.*\s*<div><a href="/bots/{own.id}">Try it</a>', page.text)
    assert _tries(await browser.get(example)) != []
    assert _tries(await browser.get(f"/bots/{own.id}/setup")) == []


@pytest.mark.parametrize("how", ["document", "telegram"])
async def test_made_ones_own_it_is_no_example_any_more(site: Site, how: str) -> None:
    """With an own document, or in Telegram, it counts in the first steps, its page leads on, and a new example is offered."""
    user = await site.person(f"Own{how}", language="en")
    browser = await site.signed_in(user)
    setup = (await browser.post("/bots/example")).location
    (bot,) = await _own(site, user)
    assert "Connect Telegram and share" not in (await browser.get(setup)).visible()
    if how == "document":
        await add_document(site.core, bot, "own.txt", FAQ.encode())
    else:
        async with site.core.db.write() as session:
            session.add(models.Channel(bot_id=bot.id, kind="telegram", external_id="77", status="refused"))
    page = await browser.get(setup)
    assert "Connect Telegram and share" in page.visible()
    assert "sample shop" not in page.visible()
    steps = (await browser.get("/dashboard")).text
    assert f'href="/bots/{bot.id}"' in steps
    assert not re.search(r'<li class="step current">\s*.*\s*<div><a href="/bots/new">', steps)
    assert 'action="/bots/example"' in (await browser.get("/bots/new")).text


async def test_questions_stay_with_the_language_of_the_documents(site: Site) -> None:
    """A reader who changes the language is proposed what the documents answer, in the own script."""
    user = await site.person("Switch", language="uz")
    browser = await site.signed_in(user)
    setup = (await browser.post("/bots/example")).location
    latin = _tries(await browser.get(setup))
    await browser.post("/preferences", language="en", next=setup)
    assert _tries(await browser.get(setup)) == latin
    await browser.post("/preferences", language="uz-Cyrl", next=setup)
    assert _tries(await browser.get(setup))[0] == translate("uz-Cyrl", "How much is a 7 kg washing machine?")
    (bot,) = await _own(site, user)
    async with site.core.db.write() as session:
        for file in await documents.list_for(session, bot):
            await documents.delete(session, bot, file)
    assert _tries(await browser.get(setup)) == []
    async with site.core.db.read() as session:
        assert await samples.examples(session, user) == frozenset()
