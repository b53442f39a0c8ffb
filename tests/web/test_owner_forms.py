"""What forms of an owner keep, ask and give back: typed text after an error, the question before something is lost, undo."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from services import accounts, team
from services.conversations import marks
from services.knowledge import documents
from tests import servers
from tests.web.panel import PASSWORD, Browser, Site, hashed, open_site, web_talk


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("forms")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _owner(site: Site, name: str) -> tuple[models.User, models.Bot, Browser]:
    owner = await site.person(name, language="en")
    return owner, await site.bot_of(owner, f"Bot of {name}"), await site.signed_in(owner)


def _hidden(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found, name
    return found[1]


async def test_without_script_what_deletes_asks_on_a_page_of_its_own(site: Site) -> None:
    """The form holds the question; the page that asks it names the thing and sends the rest again."""
    owner, _bot, browser = await _owner(site, "Asker")
    async with site.core.db.write() as session:
        label = await marks.save_label(session, [owner.id], owner.id, "<b>Yetkazish</b>", 1)

    async def there() -> bool:
        async with site.core.db.read() as session:
            return await session.get(models.Label, label.id) is not None

    page = await browser.get("/inbox/labels")
    question = _hidden(page.text, "ask")
    path = f"/inbox/labels/{label.id}/delete"
    asked = await browser.request(
        "POST",
        path,
        data={"csrf": browser.csrf, "ask": "Delete the label “<b>Yetkazish</b>”?", "more": "kept"},
        headers={"Referer": f"{site.base}/inbox/labels?x=1"},
    )
    assert "Yetkazish" in question and asked.status == 200 and await there()
    assert "<b>Yetkazish</b>" in asked.visible() and "<b>Yetkazish</b>" not in asked.text
    assert f'action="{path}"' in asked.text and _hidden(asked.text, "more") == "kept" and 'name="ask"' not in asked.text
    assert 'href="/inbox/labels?x=1"' in asked.text
    # An address of ours that is another site's as a link leads home.
    for path_before in ("//evil.example/x", "/\\evil.example"):
        sent = {"csrf": browser.csrf, "ask": "?"}
        asked = await browser.request("POST", path, data=sent, headers={"Referer": site.base + path_before})
        assert asked.status == 200 and "evil.example" not in asked.text and await there()
    # A form from elsewhere is refused before anything is asked.
    assert (await browser.request("POST", path, data={"csrf": "x", "ask": "?"})).status == 403
    assert (await browser.post(path, more="kept")).status == 303
    assert not await there()


async def test_what_was_taught_is_listed_in_parts_and_corrected_on_every_one(site: Site) -> None:
    _, bot, browser = await _owner(site, "Teacher")
    path = f"/bots/{bot.id}/documents"
    async with site.core.db.write() as session:
        for number in range(53):
            await documents.add_answer(session, bot, f"Savol {number} nima?", f"Javob {number}.")
    first = await browser.get(path)
    assert first.text.count('id="taught-question-') == 50 and "Javob 52." in first.text and "Javob 2." not in first.text
    following = re.search(r'rel="next" href="([^"#]+)#taught"', first.text)
    assert following
    rest = await browser.get(following[1].replace("&amp;", "&"))
    assert rest.text.count('id="taught-question-') == 3 and 'rel="next"' not in rest.text
    assert (await browser.get(f"{path}?cursor=nonsense")).status == 400
    # What was typed for one of the second part stands on the page that refuses it.
    oldest = re.findall(r'id="taught-question-(\d+)"', rest.text)[-1]
    refused = await browser.post(f"/bots/{bot.id}/answers/{oldest}", question="Yangi savol", answer=" ")
    assert refused.status == 400 and 'value="Yangi savol"' in refused.text
    # Two correct the same one: the second sees what the first wrote above what they wrote, and decides.
    seen = re.findall(rf'answers/{oldest}".*?name="seen" value="(\w+)"', rest.text)[0]
    change = f"/bots/{bot.id}/answers/{oldest}"
    assert (await browser.post(change, question="Savol 0 nima?", answer="Birinchisi.", seen=seen)).status == 303
    assert (await browser.post(change, question="Savol 0 nima?", answer="Birinchisi.", seen=seen)).status == 303
    late = await browser.post(change, question="Savol 0 nima?", answer="Ikkinchisi.", seen=seen)
    assert late.status == 409 and "Somebody has changed this" in late.visible()
    assert '<p class="taught-text">Birinchisi.</p>' in late.text and "Ikkinchisi.</textarea>" in late.text
    seen = re.findall(rf'answers/{oldest}".*?name="seen" value="(\w+)"', late.text)[0]
    assert (await browser.post(change, question="Savol 0 nima?", answer="Ikkinchisi.", seen=seen)).status == 303
    # The file has all of them.
    assert (await browser.get(f"/bots/{bot.id}/answers.csv")).text.count("Savol") == 53


async def test_a_stop_and_a_start_are_taken_back_on_the_spot(site: Site) -> None:
    _, bot, browser = await _owner(site, "Stopper")
    for step, back, status in (("stop", "start", "active"), ("start", "stop", "stopped")):
        done = await browser.post(f"/bots/{bot.id}/{step}")
        toast = (await browser.get(done.location)).text.partition('class="toast-line"')[2].partition("</div>")[0]
        undo = re.search(r'action="([^"]+)"', toast)
        assert undo and undo[1] == f"/bots/{bot.id}/{back}", toast
        await browser.post(undo[1])
        async with site.core.db.read() as session:
            assert (await session.get_one(models.Bot, bot.id)).status == status


async def test_a_question_taken_off_the_list_comes_back(site: Site) -> None:
    _, bot, browser = await _owner(site, "Undoer")
    row = models.UnansweredQuestion
    async with site.core.db.write() as session:
        session.add_all(
            row(bot_id=bot.id, question=each, folded=each.casefold()) for each in ("Parkovka bormi?", "Парковка есть?")
        )

    async def opened() -> int:
        async with site.core.db.read() as session:
            return int(
                await session.scalar(select(func.count()).where(row.bot_id == bot.id, row.answered_at.is_(None))) or 0
            )

    async with site.core.db.read() as session:
        question = await session.scalar(select(row.id).where(row.bot_id == bot.id).order_by(row.id).limit(1))
    done = await browser.post(f"/bots/{bot.id}/unanswered/{question}/dismiss")
    assert await opened() == 0
    undo = re.search(r'action="([^"]+/reopen)"', (await browser.get(done.location)).text)
    assert undo
    assert (await browser.post(undo[1])).status == 303
    assert await opened() == 2
    stranger = await site.signed_in(await site.person("Begona"))
    assert (await stranger.post(undo[1])).status == 404


async def test_what_was_typed_is_never_out_of_sight_after_an_error(site: Site) -> None:
    _, bot, browser = await _owner(site, "Typer")
    async with site.core.db.write() as session:
        session.add(models.UnansweredQuestion(bot_id=bot.id, question="Parkovka bormi?", folded="parkovka bormi?"))
    # The form for an own question is folded while others wait.
    page = await browser.post(f"/bots/{bot.id}/answers", question="Mening savolim?", answer=" ")
    assert page.status == 400 and '<details class="mt-3" id="teach" open>' in page.text
    page = await browser.post(f"/bots/{bot.id}/answers", question="Parkovka bormi?", answer=" ")
    assert page.status == 400 and '<details class="mt-3" id="teach">' in page.text
    hours = {"mon_from": "09:00", "return_after_min": "0", "silent_text": "Dam olamiz"}
    page = await browser.post(f"/bots/{bot.id}/people", **hours)
    assert page.status == 400 and '<option value="0" selected>' in page.text and "Dam olamiz</textarea>" in page.text
    page = await browser.post(f"/bots/{bot.id}", name="Nomi", system_prompt="Xushmuomala bo‘l.")
    assert page.status == 400 and 'id="languages-fault"' in page.text and "Xushmuomala bo‘l.</textarea>" in page.text


def _wrong(text: str) -> list[tuple[str, str]]:
    """Return the forms of a page that say that something is wrong in them, by their address, with what."""
    forms = re.findall(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', text, re.DOTALL)
    fields = [
        (where, tag) for where, form in forms for tag in re.findall(r"<(?:input|textarea)[^>]*aria-invalid[^>]*>", form)
    ]
    return [(where, re.findall(r'\bname="([^"]*)"', tag)[0]) for where, tag in fields]


async def test_only_the_form_that_was_sent_is_wrong(site: Site) -> None:
    """Where several forms of a page have fields of one name."""
    owner, bot, _ = await _owner(site, "Several")
    async with site.core.db.write() as session:
        await accounts.set_password(session, await session.get_one(models.User, owner.id), await hashed())
        questions = ("Parkovka bormi?", "Wi-Fi bormi?")
        session.add_all(models.UnansweredQuestion(bot_id=bot.id, question=q, folded=q.lower()) for q in questions)
        taught = [await documents.add_answer(session, bot, f"Savol {n}?", "Ha") for n in range(2)]
        asked = [models.TestQuestion(bot_id=bot.id, question=f"Sinov {n}?", expected="ha") for n in range(2)]
        session.add_all(asked)
    browser = await site.signed_in(owner)
    page = await browser.post("/settings/tokens", name="Kassa", current_password="not this one")
    assert page.status == 400 and _wrong(page.text) == [("/settings/tokens", "current_password")]
    assert 'value="Kassa"' in page.text
    page = await browser.post("/settings/password", current_password="nor this", password=PASSWORD)
    assert page.status == 400 and _wrong(page.text) == [("/settings/password", "current_password")]
    at = f"/bots/{bot.id}/answers"
    page = await browser.post(at, question=questions[1], answer=" ")
    assert page.status == 400 and _wrong(page.text) == [(at, "answer")] and page.text.count('role="alert"') == 1
    form = page.text.partition(f'value="{questions[1]}"')[2].partition("</form>")[0]
    assert "aria-invalid" in form
    typed = "Yangi savol?"
    page = await browser.post(at, question=typed, answer=" ")
    assert _wrong(page.text) == [(at, "answer")] and page.text.count(f'value="{typed}"') == 1
    page = await browser.post(f"{at}/{taught[1].id}", question=" ", answer="Yangi javob")
    assert _wrong(page.text) == [(f"{at}/{taught[1].id}", "question")] and page.text.count("Yangi javob") == 1
    where = f"/bots/{bot.id}/tests/{asked[1].id}"
    page = await browser.post(where, question=" ", expected="yangi so‘z")
    assert _wrong(page.text) == [(where, "question")] and page.text.count("yangi so‘z") == 1
    # The fault stands in the form itself.
    assert 'role="alert"' in page.text.partition(f'action="{where}"')[2].partition("</form>")[0]


async def test_a_tick_to_send_at_night_outlives_another_error(site: Site) -> None:
    _, bot, browser = await _owner(site, "Night")
    async with site.core.db.write() as session:
        await web_talk(session, bot, last_inbound_at=utcnow())
    made = await browser.post(f"/bots/{bot.id}/broadcasts", text_uz="Salom!", title="")
    where = made.location.partition("?")[0]
    at = f"{(utcnow() + dt.timedelta(days=2)).date()}T02:00"
    page = await browser.post(f"{where}/send", when="later", at=at, name="Boshqa", awake="yes", version="0")
    assert page.status == 400 and re.search(r'name="awake" value="yes" checked', page.text)
    page = await browser.post(f"{where}/send", when="later", at=at, name=bot.name, version="0")
    assert page.status == 400 and re.search(r'name="awake" value="yes" aria-invalid', page.text)


async def test_more_files_than_are_taken_at_once_are_refused_not_forgotten(site: Site) -> None:
    _, bot, browser = await _owner(site, "Hauler")
    form = aiohttp.FormData({"csrf": browser.csrf})
    for number in range(21):
        form.add_field("file", f"Narx {number}".encode(), filename=f"f{number}.txt", content_type="text/plain")
    page = await browser.request("POST", f"/bots/{bot.id}/documents", data=form)
    assert page.status == 400 and "At most 20 files at once" in page.visible()
    async with site.core.db.read() as session:
        assert await documents.list_for(session, bot) == []


async def test_the_search_knows_the_pages_of_the_menu_and_only_those_that_open(site: Site) -> None:
    owner, bot, browser = await _owner(site, "Finder")

    async def found(of: Browser, text: str) -> list[str]:
        page = await of.get(f"/search?q={text}")
        return re.findall(r'<li><a href="([^"]+)">', page.text.partition("What are you looking for")[2])

    assert await found(browser, "broadc") == [f"/bots/{bot.id}/broadcasts"]
    assert await found(browser, "integr") == ["/settings/webhooks"]
    assert await found(browser, "plan") == ["/billing"]
    helper = await site.person("Helper", language="en")
    async with site.core.db.write() as session:
        invitation = await team.invite(session, owner, "operator", "Helper", most=20)
        await team.accept(session, invitation, helper)
    operator = await site.signed_in(helper)
    assert await found(operator, "plan") == [] and await found(operator, "conversations") == ["/inbox"]
