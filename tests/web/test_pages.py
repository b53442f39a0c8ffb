"""What pages say and do: first run, documents, hostile names and bodies, headers, live events."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import gzip
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jinja2.runtime import Context, Macro
from sqlalchemy import Text, select, type_coerce, update
from yarl import URL

from db import models
from db.base import utcnow
from services import accounts, bots, conversations, notices, statistics
from services.crypto import Crypto, new_fernet_key
from services.i18n import LANGUAGES, translate
from services.knowledge import documents
from tests import servers
from tests.composition import FAQ, add_document, questions_put
from tests.web.panel import Browser, Page, Site, open_site, web_talk
from web import view

CANARY = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}{0.__class__}%s$x'
PUBLIC = ("/", "/login", "/register", "/nothing-here", "/healthz", "/robots.txt")


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("pages")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


def _paths(bot: models.Bot) -> list[str]:
    base = f"/bots/{bot.id}"
    return [
        "/dashboard",
        "/bots",
        "/bots/new",
        base,
        f"{base}/setup",
        f"{base}/documents",
        f"{base}/documents?q=yetkazib+berish",
        f"{base}/channels",
        "/inbox",
        "/inbox/labels",
        "/inbox/replies",
        "/settings",
    ]


async def test_first_run_to_first_answer_without_script(site: Site) -> None:
    """Plain forms lead from the name to a document and an answer, each step saying what comes next."""
    browser = await site.signed_in(await site.person("Firstrun"))
    assert (await browser.get("/bots")).location == "/bots/new"
    created = await browser.post("/bots", name="Texno Savdo")
    assert created.status == 303
    setup = created.location.split("?")[0]
    base = setup.removesuffix("/setup")
    await browser.get(created.location)
    async with site.core.bell.listen(f"bot:{base.removeprefix('/bots/')}") as events:
        sent = await browser.upload(f"{base}/documents", "savollar.txt", FAQ.encode())
        assert (sent.status, sent.location) == (303, f"{base}/documents?done=uploaded")
        async with asyncio.timeout(60):
            while (await events.get())["status"] != "ready":
                pass
    page = await browser.get(f"{base}/documents?q=Yetkazib+berish+bormi")
    assert "45 000" in page.text
    answer = await browser.post(f"{base}/try", text="Yetkazib berish bormi?")
    done = json.loads(re.findall(r"event: done\ndata: (.*)\n", answer.text)[0])
    assert done["answered"] is True
    assert done["language"] == "uz"
    assert done["sources"][0]["document_name"] == "savollar.txt"
    assert "45 000" in done["messages"][-1]["text"]
    talks = await browser.get("/inbox")
    link = re.findall(r"/inbox/\w{26}", talks.text)[0]
    assert "Yetkazib berish bormi?" in (await browser.get(link)).text


async def test_upload_for_scripts(site: Site) -> None:
    """202 with an id; refusals in words."""
    user = await site.person("Scripted")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    path = f"/bots/{bot.id}/documents"
    page = await browser.upload(path, "narx.csv", b"nomi,narxi\nOlma,12000\n", Accept="application/json")
    assert page.status == 202
    assert json.loads(page.text)["items"][0]["status"] == "queued"
    wrong = await browser.upload(path, "x.exe", b"MZ\x90\x00binary", Accept="application/json")
    assert wrong.status == 400
    assert json.loads(wrong.text)["error"]["message"]
    large = await browser.upload(path, "big.txt", b"a" * (10 * 1024 * 1024 + 1), Accept="application/json")
    assert large.status == 413
    huge = await browser.upload(path, "big.txt", b"a" * (12 * 1024 * 1024), Accept="application/json")
    assert huge.status == 413
    plain = await browser.upload(path, "x.exe", b"MZ\x90\x00binary")
    assert plain.status == 400
    assert 'role="alert"' in plain.text


async def test_unanswered_question_is_taught(site: Site) -> None:
    """The field below a question makes the bot know it at once."""
    user = await site.person("Teacher")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await add_document(site.core, bot, "faq.txt", FAQ.encode())
    await browser.post(f"/bots/{bot.id}/try", text="Avtoturargoh haqida nima deysiz?")
    page = await browser.get(f"/bots/{bot.id}/documents")
    assert "Avtoturargoh haqida nima deysiz?" in page.text
    taught = await browser.post(
        f"/bots/{bot.id}/answers", question="Avtoturargoh haqida nima deysiz?", answer="Avtoturargoh bepul, 30 joy."
    )
    assert taught.status == 303
    answer = await browser.post(f"/bots/{bot.id}/try", text="Avtoturargoh haqida nima deysiz?")
    assert "30 joy" in answer.text
    async with site.core.db.read() as session:
        assert (await conversations.unanswered(session, bot)).items == []


async def test_unanswered_question_taught_from_two_pages_has_the_last_answer(site: Site) -> None:
    """A page that was opened before still shows the question; what is sent from it is heard."""
    user = await site.person("Twice")
    bot = await site.bot_of(user)
    pages = [await site.signed_in(user) for _ in range(2)]
    question, path = "Avtoturargoh haqida nima deysiz?", f"/bots/{bot.id}/answers"
    await pages[0].post(f"/bots/{bot.id}/try", text=question)
    for browser in pages:
        assert question in (await browser.get(f"/bots/{bot.id}/documents")).visible()
    for browser, places in zip(pages, (30, 45), strict=True):
        assert (await browser.post(path, question=question, answer=f"Bepul, {places} joy.")).status == 303
    page = await pages[0].get(f"/bots/{bot.id}/documents")
    assert "45 joy" in page.visible() and "30 joy" not in page.visible()
    answer = await pages[0].post(f"/bots/{bot.id}/try", text=question)
    assert "45 joy" in answer.text and "30 joy" not in answer.text
    # Both at once: one of them is kept.
    await asyncio.gather(*(browser.post(path, question=question, answer="Pullik, 60 joy.") for browser in pages))
    async with site.core.db.read() as session:
        assert [taught.text for taught in (await documents.answers_page(session, bot))[0]] == ["Pullik, 60 joy."]
        assert (await conversations.unanswered(session, bot)).items == []


async def test_taught_answer_is_corrected_and_deleted(site: Site) -> None:
    """What an owner taught is shown with its form, changes the bot's answer, and can be taken back."""
    user = await site.person("Corrector")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    path, question = f"/bots/{bot.id}/documents", "Avtoturargoh bormi?"
    await browser.post(f"/bots/{bot.id}/answers", question=question, answer="Avtoturargohda 30 joy bor.")
    page = await browser.get(path)
    assert "Avtoturargohda 30 joy bor." in page.visible()
    address = re.findall(rf"/bots/{bot.id}/answers/\w+", page.text)[0]
    wrong = await browser.post(address, question=question, answer=" ")
    assert (wrong.status, 'role="alert"' in wrong.text) == (400, True)
    changed = await browser.post(address, question=question, answer="Avtoturargohda 45 joy bor.")
    assert (changed.status, changed.location) == (303, f"{path}?done=answer_saved")
    page = await browser.get(path)
    assert "45 joy" in page.visible() and "30 joy" not in page.visible()
    answer = await browser.post(f"/bots/{bot.id}/try", text=question)
    assert "45 joy" in answer.text and "30 joy" not in answer.text
    address = re.findall(rf"(/bots/{bot.id}/answers/\w+)/delete", page.text)[0]
    assert (await browser.post(f"{address}/delete")).location == f"{path}?done=answer_deleted"
    assert "45 joy" not in (await browser.get(path)).text
    assert (await browser.post(f"{address}/delete")).status == 404


async def test_conversation_is_taken_over_given_back_and_closed(site: Site) -> None:
    """The buttons change who answers, and the page says who that is."""
    user = await site.person("Operator")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    await add_document(site.core, bot, "faq.txt", FAQ.encode())
    question = "Yetkazib berish bormi?"
    await browser.post(f"/bots/{bot.id}/try", text=question)
    path = re.findall(r"/inbox/\w{26}", (await browser.get("/inbox")).text)[0]

    async def done() -> Any:
        answer = await browser.post(f"/bots/{bot.id}/try", text=question)
        return json.loads(re.findall(r"event: done\ndata: (.*)\n", answer.text)[0])

    words = {"human": "Give back to the bot", "bot": "Take over", "closed": "Give back to the bot"}
    for status, silent in (("human", True), ("bot", False), ("closed", False)):
        assert (await browser.post(f"{path}/status", status=status)).location == f"{path}?done=talk_{status}"
        page = (await browser.get(path)).visible()
        assert words[status] in page, status
        assert ((await done())["messages"] == []) is silent, status
    for wrong in ("", "waiting", "x"):
        assert (await browser.post(f"{path}/status", status=wrong)).status == 400


async def test_test_chat_does_not_open_the_page_by_itself(site: Site) -> None:
    """Where the bot's page was disconnected, its owner is told and decides."""
    user = await site.person("Unplugged")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with site.core.db.write() as session:
        web = await bots.connect_web(session, bot)
    assert "event: done" in (await browser.post(f"/bots/{bot.id}/try", text="Salom")).text
    assert (await browser.post(f"/bots/{bot.id}/channels/{web.id}/disconnect")).status == 303
    refused = await browser.request(
        "POST",
        f"/bots/{bot.id}/try",
        data={"csrf": browser.csrf, "text": "Salom"},
        headers={"Accept": "text/event-stream"},
    )
    assert refused.status == 409
    assert (await site.browser().get(f"/chat/{bot.public_id}")).status == 404
    connect = f'action="/bots/{bot.id}/channels/web"'
    for place in ("", "/setup", "/channels"):
        page = await browser.get(f"/bots/{bot.id}{place}")
        assert connect in page.text, place
        assert "data-chat=" not in page.text
    connected = await browser.post(f"/bots/{bot.id}/channels/web", next=f"/bots/{bot.id}")
    assert connected.location == f"/bots/{bot.id}?done=web_connected"
    assert connect not in (await browser.get(f"/bots/{bot.id}")).text
    assert (await site.browser().get(f"/chat/{bot.public_id}")).status == 200
    assert "event: done" in (await browser.post(f"/bots/{bot.id}/try", text="Salom")).text
    # Whoever wrote before goes on in the same conversation.
    assert (await browser.get("/inbox")).text.count('class="talk-name"') == 1


async def test_the_test_chat_says_when_the_database_refuses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await site.person("Locked")
    bot = await site.bot_of(user)
    browser = await site.signed_in(user)
    monkeypatch.setattr(site.core.db, "_busy_timeout_s", 0.2)
    place = site.core.db.url.database or ""
    with contextlib.closing(sqlite3.connect(place, isolation_level=None, check_same_thread=False)) as lock:
        # In a thread: a unit of the product may be open in this loop and must be able to end first.
        await asyncio.to_thread(lock.execute, "BEGIN IMMEDIATE")
        async with asyncio.timeout(20):
            refused = await browser.post(f"/bots/{bot.id}/try", text="Salom")
    assert "event: error" in refused.text and '"code": "unavailable"' in refused.text
    monkeypatch.undo()
    assert "event: done" in (await browser.post(f"/bots/{bot.id}/try", text="Salom")).text


async def test_what_is_done_to_channels_and_bots_is_written_down(site: Site) -> None:
    """Who it was, and which channel."""
    user = await site.person("Noted")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with site.core.db.read() as session:
        (web,) = await bots.channels(session, bot)
    await browser.post(f"/bots/{bot.id}/channels/{web.id}/disconnect")
    await browser.post(f"/bots/{bot.id}/channels/web")
    wrong = await browser.post(f"/bots/{bot.id}/delete", confirm="Boshqa nom")
    assert wrong.status == 400 and 'value="Boshqa nom"' in wrong.text
    await browser.post(f"/bots/{bot.id}/delete", confirm=bot.name)
    async with site.core.db.read() as session:
        log = models.AuditLog
        rows = list(await session.scalars(select(log).where(log.object_id == bot.id).order_by(log.id)))
    assert {row.actor_id for row in rows} == {user.id}
    assert [row.action for row in rows] == ["channel_disconnected", "channel_connected", "bot_deleted"]
    assert rows[0].details == {"kind": "web", "channel": web.id}


async def test_channels_say_when_the_last_message_came(site: Site) -> None:
    """None yet, then the moment."""
    user = await site.person("Heard")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    async with site.core.db.write() as session:
        channel = models.Channel(
            bot_id=bot.id, kind="telegram", external_id="4243", username="heard_bot", status="conflict"
        )
        session.add(channel)
    page = await browser.get(f"/bots/{bot.id}/channels")
    assert re.search(r"Last message received\s+none yet", page.visible())
    assert f'action="/bots/{bot.id}/start"' in page.text
    moment = utcnow() - dt.timedelta(minutes=5)
    async with site.core.db.write() as session:
        (await session.get_one(models.Channel, channel.id)).last_update_at = moment
    page = await browser.get(f"/bots/{bot.id}/channels")
    assert f'datetime="{moment.isoformat()}"' in page.text
    assert not re.search(r"Last message received\s+none yet", page.visible())


async def test_a_bot_that_its_plan_keeps_silent_says_so(site: Site) -> None:
    """In the lists and on its pages, with the way to the plans."""
    user = await site.person("Silent")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    page = await browser.get(f"/bots/{bot.id}")
    assert "Working" in page.visible() and "The plan has ended" not in page.visible()
    started = utcnow()
    site.core.now = lambda: started + dt.timedelta(days=500)
    try:
        for path in ("/dashboard", "/bots", f"/bots/{bot.id}"):
            page = await browser.get(path)
            assert "The plan has ended, so the bot is silent." in page.visible() and "Working" not in page.visible()
            assert 'href="/billing"' in page.text.partition("The plan has ended")[2]
    finally:
        site.core.now = utcnow


def _totals(page: Page) -> list[str]:
    return [unescape(link) for link in re.findall(r'class="number[^"]*" href="([^"]+)"', page.text)]


async def test_a_total_leads_to_where_it_comes_from(site: Site) -> None:
    """To the list of the one bot that makes it up, else to the rows by bot; with a single bot always to its list."""
    user = await site.person("Totals")
    browser, first = await site.signed_in(user), await site.bot_of(user, "Birinchi")
    assert all(first.id in link for link in _totals(await browser.get("/dashboard")))
    second = await site.bot_of(user, "Ikkinchi")
    async with site.core.db.write() as session:
        await web_talk(session, first)
        talk = await web_talk(session, second, status="waiting", last_message_at=utcnow())
        session.add(models.Message(conversation_id=talk.id, author="customer", text="Narxi?"))
        session.add(models.Message(conversation_id=talk.id, author="bot", text="Bilmayman", answered=False))
    links = _totals(await browser.get("/dashboard?period=7"))
    since = statistics.period("7", utcnow()).first.isoformat()
    asked = f"/inbox?happened=said&since={since}"
    assert links == [
        asked,
        asked,
        asked,
        f"/bots/{second.id}/documents#unanswered",
        f"/inbox?happened=handed&since={since}",
        "/inbox?status=waiting",
        f"/inbox?happened=new&since={since}",
        asked,
    ]
    for link in links:
        assert (await browser.get(link)).status == 200


async def _broken(site: Site, bot: models.Bot, status: str) -> None:
    async with site.core.db.write() as session:
        session.add(
            models.Channel(bot_id=bot.id, kind="telegram", external_id=bot.id, username="chinor_bot", status=status)
        )


@pytest.mark.parametrize("status", ["refused", "unreadable"])
async def test_a_lost_token_is_renewed_for_the_same_telegram_bot(site: Site, status: str) -> None:
    """The steps ask BotFather for that bot's token; to make another bot is said only where none is connected."""
    user = await site.person(f"Renewing{status}")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    path = f"/bots/{bot.id}/channels"
    await browser.post("/preferences", language="en", next="/dashboard")
    fresh = await browser.get(path)
    assert "/newbot" in fresh.visible() and "/token" not in fresh.visible()
    await _broken(site, bot, status)
    lost = await browser.get(path)
    assert "/newbot" not in lost.visible()
    assert "send it /token" in lost.visible() and "Choose @chinor_bot." in lost.visible()
    assert f'action="{path}/telegram"' in lost.text


async def _fewest_questions(site: Site, browser: Browser, path: str) -> int:
    """Return how many a page needs; one of those that the program asks by itself may fall into a try."""
    tries = []
    for _ in range(3):
        with questions_put(site.core) as asked:
            await browser.get(path)
        tries.append(len(asked))
    return min(tries)


@pytest.mark.parametrize("status", bots.BROKEN)
async def test_a_dead_channel_is_seen_wherever_the_state_is(site: Site, status: str) -> None:
    """List, home, menu and the bot's own page say the same and lead to the mend; it takes one question for all bots."""
    user = await site.person(f"Dead{status}")
    browser, well, dead = await site.signed_in(user), await site.bot_of(user, "Soq"), await site.bot_of(user, "Jim")
    await browser.post("/preferences", language="en", next="/dashboard")
    await _broken(site, dead, status)
    fix = f'<a href="/bots/{dead.id}/channels">Fix it</a>'
    for path in ("/dashboard", "/bots", f"/bots/{dead.id}"):
        page = await browser.get(path)
        assert "Needs attention" in page.visible(), path
        assert page.text.count(fix) == 1, path
        menu = page.text.partition('<main id="main"')[0]
        assert menu.count("dot-bad") - menu.count("dot-good") == (2 if path == f"/bots/{dead.id}" else -2), path
    page = await browser.get(f"/bots/{well.id}")
    assert "Working" in page.visible() and "Fix it" not in page.visible()
    few = await _fewest_questions(site, browser, "/bots/new")
    for number in range(3):
        await _broken(site, await site.bot_of(user, f"Yana {number}"), status)
    assert await _fewest_questions(site, browser, "/bots/new") == few


async def test_delete_asks_for_the_name(site: Site) -> None:
    """A bot goes only when its name was typed."""
    user = await site.person("Deleter")
    browser, bot = await site.signed_in(user), await site.bot_of(user, "Ikki so‘z")
    assert (await browser.post(f"/bots/{bot.id}/delete", confirm="Ikki")).status == 400
    assert (await browser.get(f"/bots/{bot.id}")).status == 200
    assert (await browser.post(f"/bots/{bot.id}/delete", confirm="Ikki so‘z")).status == 303
    assert (await browser.get(f"/bots/{bot.id}")).status == 404


async def test_own_key_is_encrypted_and_never_shown(site: Site) -> None:
    """The key leaves the form into the database's cipher and nowhere else."""
    user = await site.person("Keyowner")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    key = "sk-test-canary-0123456789abcdef"
    assert (await browser.post(f"/bots/{bot.id}/key", openai_key="hello")).status == 400
    assert (await browser.post(f"/bots/{bot.id}/key", openai_key=key)).status == 303
    async with site.core.db.read() as session:
        stored = (await bots.get(session, user, bot.id)).openai_key
    assert stored is not None
    assert key not in stored
    for path in _paths(bot):
        assert key not in (await browser.get(path)).text
    assert "Ishlatilmoqda" in (await browser.get(f"/bots/{bot.id}")).text
    async with site.core.db.write() as session:
        said = {"provider": "OpenAI", "bot": bot.name}
        await notices.open_notice(session, user.id, "key_refused", key="key:openai", bot_id=bot.id, params=said)
        for number in range(25):
            await notices.open_notice(session, user.id, "over_limit", key=f"k:{number}", bot_id=bot.id, params=said)
    assert "Ishlatilmoqda" not in (await browser.get(f"/bots/{bot.id}")).text
    async with site.core.db.write() as session:
        await notices.solve(session, "key:openai")
    assert "Ishlatilmoqda" in (await browser.get(f"/bots/{bot.id}")).text
    # Encrypted with a key that has left ENCRYPTION_KEYS, it is not in use, whatever the row says.
    async with site.core.db.write() as session:
        row = await bots.get(session, user, bot.id)
        row.openai_key = Crypto.from_text(new_fernet_key()).encrypt(key)
    page = (await browser.get(f"/bots/{bot.id}")).text
    assert "E’tibor talab qiladi" in page
    assert "Ishlatilmoqda" not in page


async def test_a_refused_form_leads_back_to_its_page(site: Site) -> None:
    """Switching the language there, or what follows by itself, opens the page and not the address that took the form."""
    user = await site.person("RefusedForm")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    form = {"csrf": browser.csrf, "openai_key": "hello"}
    for referer, back in (
        (f"{site.base}/bots/{bot.id}?done=saved", f"/bots/{bot.id}?done=saved"),
        ("https://elsewhere.example/bots", "/"),
        ("", "/"),
    ):
        headers = {"Referer": referer, "Sec-Fetch-Site": "same-origin"}
        page = await browser.request("POST", f"/bots/{bot.id}/key", data=form, headers=headers)
        assert page.status == 400
        assert set(re.findall(r'action="/preferences"[^>]*>.*?name="next" value="([^"]*)"', page.text, re.DOTALL)) == {
            back
        }


async def test_hostile_texts_are_only_text(site: Site) -> None:
    """Names, prompts, messages, titles and searches appear escaped, unevaluated and unformatted on every page."""
    user = await site.person("Hostile")
    browser, bot = await site.signed_in(user), await site.bot_of(user, CANARY[:64])
    async with site.core.db.write() as session:
        row = await bots.get(session, user, bot.id)
        row.system_prompt = CANARY
        await accounts.update_profile(session, user, full_name=CANARY, email=user.email or "", phone="")
        web = await bots.connect_web(session, row)
        contact = models.Contact(bot_id=bot.id, channel_id=web.id, external_id="x", name=CANARY, username=CANARY[:60])
        session.add_all(
            [
                contact,
                models.Document(bot_id=bot.id, name=CANARY, kind="txt", status="failed", error_code="damaged"),
                models.UnansweredQuestion(bot_id=bot.id, question=CANARY, folded="x"),
                models.Notice(
                    user_id=user.id,
                    bot_id=bot.id,
                    kind="operator_wanted",
                    key="x",
                    params={"bot": CANARY, "name": CANARY},
                ),
            ]
        )
        await session.flush()
        talk = models.Conversation(
            bot_id=bot.id, channel_id=web.id, contact_id=contact.id, last_text=CANARY, status="waiting"
        )
        session.add(talk)
        await session.flush()
        for author in ("customer", "bot", "operator", "system"):
            source = {"document_id": "x", "document_name": CANARY, "snippet": CANARY, "score": 0.5}
            session.add(
                models.Message(
                    conversation_id=talk.id,
                    author=author,
                    text=CANARY,
                    model=CANARY[:90],
                    sources=[source],
                    error=CANARY,
                    status="failed",
                )
            )
    paths = [*_paths(bot), f"/inbox/{talk.id}"]
    for path in (*paths, f"/inbox?q={CANARY}", f"/bots/{bot.id}/documents?q={CANARY}"):
        page = (
            await browser.request("GET", path)
            if "?" not in path
            else await browser.request("GET", path.split("?")[0], params={"q": CANARY})
        )
        assert page.status == 200, path
        assert "<img src=x" not in page.text, path
        assert "<script>alert" not in page.text, path
        assert "49{0" not in page.text, path
        assert "<class" not in page.text, path


@pytest.mark.parametrize(
    "query", ['"', "*", "NEAR(a b)", "%", "_", "'; DROP TABLE bots;--", "a" * 5000, "\u0000", "🙂", "AND OR NOT"]
)
async def test_odd_searches(site: Site, query: str) -> None:
    """Results or none, never a failure."""
    async with site.core.db.read() as session:
        found = await accounts.by_email(session, "searcher@example.uz")
    user = found or await site.person("Searcher")
    browser = await site.signed_in(user)
    async with site.core.db.read() as session:
        own = await bots.list_for(session, user)
    bot = own[0] if own else await site.bot_of(user)
    for path in (f"/bots/{bot.id}/documents", "/inbox"):
        page = await browser.request("GET", path, params={"q": query})
        assert page.status == 200
    filters = ("since", "status", "bot", "channel", "assignee", "language", "label", "unanswered", "snoozed")
    odd = await browser.request("GET", "/inbox", params={**dict.fromkeys(filters, query), "after": "1-x"})
    assert odd.status in (200, 400)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("phone", "+998 90 123 45 67", True),
        ("phone", "998901234567", True),
        ("phone", "90-123-45-67", True),
        ("phone", "（９０）１２３ ４５ ６７", True),
        ("phone", "+7 912 345 67 89", False),
        ("phone", "+998 90 abc 45 67", False),
        ("phone", "+998 90 123 45 67 ext 5", False),
        ("phone", "12345", False),
        ("phone", "+998 90 123 45 6", False),
        ("phone", "9" * 10_000, False),
        ("phone", "=cmd|' /C calc'!A0", False),
        ("email", "a@xn--e1afmkfd.uz", True),
        ("email", "a@пример.uz", True),
        ("email", "a@b", False),
        ("email", "a@203.0.113.7", False),
        ("email", "a b@example.uz", False),
        ("email", "a@example.uz\r\nBcc: x@y.z", False),
        ("email", "a" * 65 + "@example.uz", False),
        ("email", "a@" + "b" * 10_000 + ".uz", False),
        ("email", "<script>@example.uz", False),
        ("full_name", "Ўткир Ғафуров", True),
        ("full_name", "<b>O‘g‘il</b>", True),
        ("full_name", "", False),
        ("full_name", " \u200b\u0000 ", False),
        ("full_name", "x" * 10_000, False),
        ("password", "short", False),
        ("password", "password1", False),
        ("password", "x" * 300, False),
    ],
)
async def test_what_people_type(site: Site, field: str, value: str, accepted: bool) -> None:
    """Registration takes every plausible spelling and names the field that is wrong."""
    good = {"full_name": "A", "phone": "+998 90 000 00 00", "email": "typed@example.uz", "password": "a-long-password"}
    page = await site.browser().post("/register", **{**good, field: value})
    if accepted:
        assert page.status == 303, page.visible()
        async with site.core.db.write() as session:
            made = await session.scalar(select(models.User).order_by(models.User.id.desc()).limit(1))
            await session.delete(made)
    else:
        assert page.status == 400
        assert 'aria-invalid="true"' in page.text
        assert re.search(rf'id="{field}"[^>]*aria-invalid="true"', page.text)


async def _raw(site: Site, head: str, *parts: bytes, pause: bool = False) -> int:
    """Send bytes as they are and return the status of the answer."""
    host, port = site.core.address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"{head}\r\nHost: {host}\r\n".encode())
        for part in parts:
            writer.write(part)
        await writer.drain()
        async with asyncio.timeout(30):
            line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.close()


async def test_bodies(site: Site) -> None:
    """Empty, too large, bombs, wrong types and broken forms are refused within the limits."""
    browser = await site.signed_in(await site.person("Bodies"))
    csrf = {"X-CSRF-Token": browser.csrf}
    limit = 4096 * 1024

    async def post(data: Any, **headers: str) -> Page:
        return await browser.request("POST", "/bots", data=data, headers={**csrf, **headers})

    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await post(b"", **form)).status == 400
    assert (await post(b"name=" + b"a" * limit, **form)).status == 413
    assert (
        await post(gzip.compress(b"name=" + b"a" * (limit * 8)), **{**form, "Content-Encoding": "gzip"})
    ).status == 400
    assert (await post(b"%ff%fe=%00&name=\xff\xfe", **form)).status == 400
    assert (await post(b"--x\r\nbroken", **{"Content-Type": "multipart/form-data; boundary=x"})).status == 400
    assert (await post(b"x", **{"Content-Type": "multipart/form-data"})).status == 400
    assert (await post("&".join(f"f{n}=1" for n in range(3000)).encode(), **form)).status in (400, 413)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a" * 512 * 1024

    # The server may close the connection while we are still sending.
    with contextlib.suppress(aiohttp.ClientError):
        assert (await post(endless(), **form)).status == 413
    assert (await browser.get("/dashboard")).status == 200


async def test_slow_body(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> None:
    """A body that does not come is given up with 408."""
    folder = tmp_path_factory.mktemp("slow")
    async with open_site(
        folder, servers_run.new_sqlite(folder), overrides={"server": {"request_body_timeout_s": 0.3}}
    ) as site:
        head = "POST /login HTTP/1.1"
        body = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nlogin=a"
        assert await _raw(site, head, body) == 408


async def test_headers_on_every_answer(site: Site) -> None:
    """Pages, errors, redirects, files, API and machines alike."""
    user = await site.person("Headers")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    static = re.findall(
        r'/static/[^"]+\.css', (await browser.get("/login")).text or (await browser.get("/dashboard")).text
    )
    paths = [
        *PUBLIC,
        *_paths(bot),
        "/api/v1/bots",
        "/readyz",
        "/metrics",
        "/static/old/css/app.css",
        *static[:1],
        "/api/x",
    ]
    for path in paths:
        page = await browser.get(path)
        policy = page.headers["Content-Security-Policy"]
        assert "unsafe" not in policy, path
        assert "frame-ancestors" in policy, path
        assert page.headers["X-Content-Type-Options"] == "nosniff", path
        assert page.headers["Referrer-Policy"], path
        assert ("Permissions-Policy" in page.headers) is not path.startswith("/static"), path
        assert "3.14" not in page.headers.get("Server", ""), path
        assert page.headers["X-Request-ID"], path
        if not path.startswith("/static"):
            assert page.headers["Cache-Control"] == "no-store", path
        assert "Access-Control-Allow-Origin" not in page.headers, path
    assert (await browser.get("/healthz", **{"X-Request-ID": "given-id-0001"})).headers[
        "X-Request-ID"
    ] == "given-id-0001"
    assert (await browser.get("/healthz", **{"X-Request-ID": "bad id!"})).headers["X-Request-ID"] != "bad id!"


async def test_static_files(site: Site) -> None:
    """Kept for a year under the present hash, not under another; compressed; nothing outside the folder."""
    browser = site.browser()
    page = await browser.get("/login")
    address = re.findall(r"/static/\w+/css/app\.css", page.text)[0]
    css = await browser.get(address)
    assert "immutable" in css.headers["Cache-Control"]
    assert css.headers["Content-Encoding"] == "gzip"
    assert (await browser.get("/static/other/css/app.css")).headers["Cache-Control"] == "no-cache"
    for path in (
        "/static/x/../../config.toml",
        "/static/x/%2e%2e/%2e%2e/config.toml",
        "/static/x//etc/passwd",
        "/static/x/..%2fapp.py",
    ):
        async with browser.http.get(URL(site.base + path, encoded=True)) as answer:
            assert answer.status == 404, path
    for found in re.findall(r'(?:src|href)="(/static/[^"#]+)', page.text):
        assert (await browser.get(found)).status == 200


async def test_no_page_needs_inline_code(site: Site) -> None:
    """What the content security policy would refuse is not there."""
    user = await site.person("Inline")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    for path in ("/", "/login", "/register", *_paths(bot)):
        text = (await browser.get(path)).text
        assert not re.search(r"<script(?![^>]* src=)", text), path
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), path
        assert not re.search(r'(?:src|action)="https?://', text), path


async def test_every_language_shows_words(site: Site) -> None:
    """No key, None or half-translated place reaches a person."""
    user = await site.person("Words")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    for language in ("uz", "uz-Cyrl", "ru", "en"):
        await browser.post("/preferences", language=language, next="/dashboard")
        for path in _paths(bot):
            # The pages of ready answers and of a bot's lines name the variables as they are typed.
            words = re.sub(r"\{(name|bot|operator|phone|when)\}", "", (await browser.get(path)).visible())
            assert "None" not in words, (language, path)
            assert not re.search(r"\{[a-z_]+\}", words), (language, path)


async def test_error_page_names_a_code_of_the_log(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """A person can quote the code, and it is found."""
    browser = site.browser()
    page = await browser.request("POST", "/login", data={"csrf": "wrong"})
    assert page.status == 403
    code = page.headers["X-Request-ID"][:8]
    assert code in page.visible()
    out, err = capfd.readouterr()
    assert code in out + err


async def _announced(browser: Browser, path: str, length: int) -> Page:
    """Announce a form of so many octets, send none of it, and return what comes back."""
    at, kept = URL(browser.base), [f"{each.key}={each.value}" for each in browser.http.cookie_jar]
    reader, writer = await asyncio.open_connection(at.host, at.port)
    lines = (f"POST {path} HTTP/1.1", f"Host: {at.authority}", "Cookie: " + "; ".join(kept))
    kind = "Content-Type: application/x-www-form-urlencoded"
    writer.write("\r\n".join((*lines, kind, f"Content-Length: {length}", "", "")).encode())
    async with asyncio.timeout(30):
        status, *head = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head)
        body = (await reader.readexactly(int(headers["Content-Length"]))).decode()
    writer.close()
    return Page(int(status.split()[1]), body, headers, at / path[1:])


@contextlib.contextmanager
def _without_database(folder: Path) -> Iterator[None]:
    place, hidden = folder / "botfactory.db", folder / "hidden.db"
    place.rename(hidden)
    place.mkdir()
    try:
        yield
    finally:
        place.rmdir()
        hidden.rename(place)


async def test_errors_have_their_own_pages_in_every_language(tmp_path: Path, servers_run: servers.Run) -> None:
    """What is wrong, what became of it, a way on and a code, in the person's language, whatever it was."""
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path)) as site:
        user = await site.person("Errors")
        browser, bot = await site.signed_in(user), await site.bot_of(user)
        async with site.core.db.write() as session:
            session.add(models.BotVersion(bot_id=bot.id, number=1, content={}))
            await session.flush()
            torn = type_coerce(f"{{{CANARY}", Text)
            await session.execute(update(models.BotVersion).values(content=torn))
        said = dict[int, set[str]]()

        async def provoked(status: int) -> Page:
            if status == 403:
                return await browser.request("POST", "/settings/profile", data={"csrf": "0" * 128})
            if status == 404:
                return await browser.get("/nothing-here")
            if status == 405:
                return await browser.request("PUT", "/dashboard", headers={"X-CSRF-Token": browser.csrf})
            if status == 413:
                return await _announced(browser, "/settings/profile", 99_999_999)
            if status == 429:
                tries = [await browser.post(f"/bots/{user.id}/try", text="Salom") for _ in range(21)]
                return tries[-1]
            if status == 500:
                return await browser.get(f"/bots/{bot.id}/versions")
            await site.core.db.engine.dispose()
            with _without_database(tmp_path):
                return await browser.get("/dashboard")

        for language in LANGUAGES:
            await browser.post("/preferences", language=language, next="/dashboard")
            for status, what in (
                (403, "Nothing was changed."),
                (404, "The address may be mistyped, or the page may have been deleted."),
                (405, "Nothing was changed."),
                (413, "Nothing was saved. Try something smaller."),
                (429, "Nothing is lost. Try again a little later."),
                (500, "The error is on our side, and we have a record of it."),
                (503, "We are working on it."),
            ):
                page = await provoked(status)
                shown = " ".join(page.visible().split())
                assert page.status == status and f'<html lang="{language}"' in page.text, (status, page.status)
                for words in (what, "Go to the home page", translate(language, "Code: {code}", code="").strip()):
                    assert translate(language, words) in shown, (language, status, words)
                [title] = re.findall(r"<h1>([^<]+)</h1>", page.text)
                assert CANARY not in page.text and title not in said.setdefault(status, set()), (language, title)
                said[status].add(title)
                assert page.headers["X-Request-ID"][:8] in shown


async def test_language_of_errors_for_programs(site: Site) -> None:
    """The API speaks English unless asked otherwise, and always JSON."""
    browser = site.browser()
    page = await browser.get("/api/v1/bots")
    assert page.status == 401
    assert json.loads(page.text)["error"]["code"] == "unauthorized"


async def test_events_tell_of_own_bots_only(site: Site) -> None:
    """The stream says what changed, and ends with the session."""
    user, other = await site.person("Events"), await site.person("Eventless")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    foreign = await site.bot_of(other)
    async with asyncio.timeout(20), browser.http.get(f"{site.base}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        site.core.bell.ring(f"bot:{foreign.id}", {"document": "foreign", "status": "ready"})
        site.core.bell.ring(f"bot:{bot.id}", {"document": "mine", "status": "ready"})
        lines: list[bytes] = []
        while not any(line.startswith(b"data:") for line in lines):
            lines.append(await stream.content.readline())
        told = b"".join(lines).decode()
        assert f"event: document-{bot.id}" in told
        assert "foreign" not in told
        assert (await browser.post("/logout")).status == 303
        while await stream.content.readline():
            pass


async def test_of_notices_hears_who_has_one(site: Site) -> None:
    """A new notice of one person makes nobody else's page ask for theirs."""
    user, other = await site.person("Noticed"), await site.person("Unnoticed")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with asyncio.timeout(20), browser.http.get(f"{site.base}/events") as stream:

        async def next_event() -> str:
            while not (line := await stream.content.readline()).startswith(b"event:"):
                assert line
            return line.decode().split()[1]

        async def tell(of: models.User, key: str) -> None:
            async with site.core.db.write() as session:
                await notices.open_notice(session, of.id, "over_limit", key=f"{of.id}:{key}", params={"bot": "Chinor"})
            site.core.bell.ring("notices")

        await tell(user, "one")
        assert await next_event() == "notice"
        for key in ("one", "two"):
            await tell(other, key)
        site.core.bell.ring(f"bot:{bot.id}", {"document": "mine", "status": "ready"})
        assert await next_event() == f"document-{bot.id}"
        # The same once more counts, and so does what is over.
        await tell(user, "one")
        assert await next_event() == "notice"
        async with site.core.db.write() as session:
            await notices.solve(session, f"{user.id}:one")
        site.core.bell.ring("notices")
        assert await next_event() == "notice"


async def test_much_that_is_said_at_once_is_told_once_to_the_list(site: Site) -> None:
    """Every open conversation hears of itself; the list of them is asked for at the beginning and once more at the end."""
    user = await site.person("Busy")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with asyncio.timeout(20), browser.http.get(f"{site.base}/events") as stream:
        for number in range(30):
            site.core.bell.ring(f"bot:{bot.id}", {"conversation": f"t{number}"})
        heard: list[str] = []
        while "talk-t29" not in heard or heard[-1] != "conversations":
            line = await stream.content.readline()
            assert line
            if line.startswith(b"event:"):
                heard.append(line.decode().split()[1])
        assert [name for name in heard if name != "conversations"] == [f"talk-t{number}" for number in range(30)]
        assert heard.count("conversations") < 10


async def test_at_most_six_streams(site: Site) -> None:
    """The seventh open page of a person asks instead of listening."""
    browser = await site.signed_in(await site.person("Streams"))
    streams = [await browser.http.get(f"{site.base}/events") for _ in range(7)]
    assert [stream.status for stream in streams] == [200] * 6 + [429]
    for stream in streams:
        stream.close()


async def test_conversation_filters(site: Site) -> None:
    """Status, channel and words narrow the list; each stands in the address."""
    user = await site.person("Filters")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with site.core.db.write() as session:
        for name, status in (("Aziza", "waiting"), ("Botir", "bot")):
            await web_talk(session, bot, name, status=status)
    for query, names in (
        ({}, {"Aziza", "Botir"}),
        ({"status": "waiting"}, {"Aziza"}),
        ({"q": "boti"}, {"Botir"}),
        ({"channel": "web"}, {"Aziza", "Botir"}),
        ({"q": "nobody"}, set()),
    ):
        page = await browser.request("GET", "/inbox", params={"bot": bot.id, **query})
        assert {name for name in ("Aziza", "Botir") if name in page.visible()} == names


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("uz", ("Ovozli xabar", "yetib bormadi: mijoz botni bloklagan", "javob topilmadi", "14-yan, ", ", 14:05")),
        (
            "ru",
            (
                "Голосовое сообщение",
                "не доставлено: клиент заблокировал бота",
                "ответа не нашлось",
                "14 янв. ",
                ", 14:05",
            ),
        ),
        (
            "en",
            (
                "Voice message",
                "not delivered: the customer has blocked the bot",
                "no answer found",
                "14 Jan ",
                ", 14:05",
            ),
        ),
    ],
)
async def test_a_conversation_is_told_in_words(site: Site, language: str, shown: tuple[str, ...]) -> None:
    """Kinds of messages, reasons and times are in the person's language; what the program notes for itself is not shown."""
    user = await site.person(f"Words{language}")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language=language, next="/dashboard")
    at = dt.datetime(utcnow().year - 1, 1, 14, 9, 5, tzinfo=dt.UTC)
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot)
        blocked = "Forbidden: bot was blocked by the user"
        said: tuple[dict[str, Any], ...] = (
            {"author": "customer", "kind": "voice", "status": "failed", "error": "ValueError: inner workings"},
            {"author": "bot", "text": "Uzr", "provider": "extractive", "answered": False},
            {"author": "bot", "text": "Mana", "status": "failed", "error": blocked},
        )
        for number, values in enumerate(said):
            session.add(models.Message(conversation_id=talk.id, external_id=f"m{number}", created_at=at, **values))
    text = (await browser.get(f"/inbox/{talk.id}")).visible()
    for words in shown:
        assert words in text
    for inner in ("inner workings", "Forbidden", "[voice]", "hujjatdan parcha", "цитата", "quoted"):
        assert inner not in text


async def test_document_of_another_bot_is_not_listed(site: Site) -> None:
    """Lists hold the bot's own rows only."""
    user = await site.person("Twobots")
    browser, first, second = await site.signed_in(user), await site.bot_of(user), await site.bot_of(user, "Ikkinchi")
    await add_document(site.core, first, "yashirin.txt", FAQ.encode())
    assert "yashirin.txt" in (await browser.get(f"/bots/{first.id}/documents")).text
    assert "yashirin.txt" not in (await browser.get(f"/bots/{second.id}/documents")).text
    async with site.core.db.read() as session:
        assert await documents.list_for(session, second) == []


async def test_qr_code(site: Site) -> None:
    """The code leads to the bot's own page, as a drawing and as a picture."""
    user = await site.person("Qrcode")
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    drawing = await browser.get(f"/bots/{bot.id}/qr.svg")
    assert drawing.text.startswith("<svg")
    assert "style=" not in drawing.text
    async with browser.http.get(f"{site.base}/bots/{bot.id}/qr.png?download=1") as picture:
        assert (await picture.read()).startswith(b"\x89PNG")
        assert "attachment" in picture.headers["Content-Disposition"]
    assert f"/chat/{bot.public_id}" in (await browser.get(f"/bots/{bot.id}/channels")).text


async def _asked(site: Site, name: str, language: str = "en") -> tuple[Browser, models.Bot, str]:
    """Return an owner's browser, the bot, and the address of a talk in which the bot has said something."""
    user = await site.person(name)
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language=language, next="/dashboard")
    await browser.post(f"/bots/{bot.id}/try", text="Salom")
    listed = await browser.get("/inbox")
    return browser, bot, re.findall(r"/inbox/\w{26}", listed.text)[0]


def _reply_form(page: Page, path: str) -> str:
    form = re.search(rf'<form[^>]* action="{path}".*?</form>', page.text, re.DOTALL)
    return form[0] if form else ""


def _seen(page: Page, path: str) -> str:
    """Return what the form to answer with says was the last message when its page was made."""
    return str(re.findall(r'name="seen" value="(\w*)"', _reply_form(page, path))[0])


async def _said(site: Site, path: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the state of a talk and who said what in it."""
    async with site.core.db.read() as session:
        talk = await session.get_one(models.Conversation, path.rpartition("/")[2])
        page = await conversations.messages(session, talk, newest_first=False)
    return talk.status, [(message.author, message.text) for message in page.items]


async def test_the_owner_answers_on_the_conversation_page(site: Site) -> None:
    """Writing takes the talk over, a form that is sent twice is one message, and the customer's next words are marked."""
    browser, bot, path = await _asked(site, "Answering")
    page = await browser.get(path)
    assert "the bot will stay silent" in page.visible()
    seen = _seen(page, path)
    for _press in range(2):
        sent = await browser.post(path, text="Salom!\r\nMen Dilnozaman.", seen=seen)
        assert (sent.status, sent.location) == (303, f"{path}#end")
    status, said = await _said(site, path)
    assert status == "human"
    assert said[-1] == ("operator", "Salom!\nMen Dilnozaman.")
    assert [author for author, _ in said].count("operator") == 1
    page = await browser.get(path)
    assert 'id="end"' in page.text
    assert "New message" not in page.visible()
    assert (await browser.post(path, text="Salom!\nMen Dilnozaman.", seen=_seen(page, path))).status == 303
    assert len((await _said(site, path))[1]) == len(said) + 1, "the same words said again on purpose"
    assert "event: done" in (await browser.post(f"/bots/{bot.id}/try", text="Rahmat")).text
    assert "New message" in (await browser.get("/inbox")).visible()
    page = await browser.get(path)
    await browser.post(path, text="Arzimaydi", seen=_seen(page, path))
    assert "New message" not in (await browser.get("/inbox")).visible()


async def test_what_was_not_sent_is_said_at_the_field(site: Site) -> None:
    """Nothing and too much are refused; what was typed stays; a closed talk asks to be opened first."""
    browser, _bot, path = await _asked(site, "Refused")
    page = await browser.get(path)
    for text, reason in ((" \r\n ", "Write a message first."), ("x" * 4097, "at most 4096 characters")):
        refused = await browser.post(path, text=text, seen=_seen(page, path))
        assert refused.status == 400
        assert re.search(r'<textarea[^>]* aria-invalid="true"', _reply_form(refused, path))
        assert reason in _reply_form(refused, path)
        assert text.strip() in _reply_form(refused, path)
    assert (await browser.post(path, text="\r\n".join(["x" * 40] * 99), seen=_seen(page, path))).status == 303
    status, said = await _said(site, path)
    assert (status, said[-1][1]) == ("human", "\n".join(["x" * 40] * 99))
    await browser.post(f"{path}/status", status="closed")
    assert _reply_form(await browser.get(path), path) == ""


async def test_a_greeting_is_not_called_a_quotation(site: Site) -> None:
    """Where no passage was used, none is spoken of."""
    browser, bot, path = await _asked(site, "Greeted")
    assert "quoted" not in (await browser.get(path)).visible()
    await add_document(site.core, bot, "faq.txt", FAQ.encode())
    await browser.post(f"/bots/{bot.id}/try", text="Kafolat bormi?")
    assert "quoted from a document" in (await browser.get(path)).visible()


@pytest.mark.parametrize(
    ("code", "offered"),
    [
        ("encrypted", False),
        ("scanned", False),
        ("empty", False),
        ("not_this_type", False),
        ("damaged", False),
        ("timeout", True),
        ("memory", True),
        ("crashed", True),
        (None, True),
    ],
)
async def test_reading_again_is_offered_where_it_can_help(site: Site, code: str | None, offered: bool) -> None:
    """The same bytes fail in the same way; only what happened around them may be different next time."""
    user = await site.person(f"Again{code}".replace("_", ""))
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    async with site.core.db.write() as session:
        session.add(models.Document(bot_id=bot.id, name="a.txt", kind="txt", status="failed", error_code=code))
    assert ("/retry" in (await browser.get(f"/bots/{bot.id}/documents")).text) is offered


async def test_a_password_needs_something_to_sign_in_with(site: Site) -> None:
    """Without e-mail and phone there is a hint in place of a form that can only fail."""
    user = await site.person("Nameless")
    browser = await site.signed_in(user)
    assert 'action="/settings/password"' in (await browser.get("/settings")).text
    async with site.core.db.write() as session:
        await accounts.update_profile(session, user, full_name="Nameless", email="", phone="")
    page = await browser.get("/settings")
    assert 'action="/settings/password"' not in page.text
    await browser.post("/preferences", language="en", next="/settings")
    assert "Add an e-mail or a phone number first" in (await browser.get("/settings")).visible()


async def test_the_first_sign_in_keeps_the_language_of_its_page(site: Site) -> None:
    """The account speaks what its owner read when signing in; a language chosen before or later stays."""

    async def language(user: models.User) -> str:
        async with site.core.db.read() as session:
            return (await session.get_one(models.User, user.id)).language

    async def enter(user: models.User) -> Browser:
        browser = site.browser()
        await browser.get("/login")
        await browser.post("/preferences", language="ru", next="/login")
        async with site.core.db.write() as session:
            token = await accounts.login_link(session, user)
        await browser.get(f"/login/link?token={token}")
        assert (await browser.post("/login/link", token=token)).status == 303
        return browser

    user, chosen = await site.person("Newcomer"), await site.person("Decided", language="en")
    browser = await enter(user)
    assert await language(user) == "ru"
    await browser.get("/dashboard")
    await browser.post("/preferences", language="uz", next="/dashboard")
    await enter(user)
    assert await language(user) == "uz"
    await enter(chosen)
    assert await language(chosen) == "en"


async def test_the_administrator_is_called_so_in_every_language(site: Site) -> None:
    """The name that the program gave is translated until a person gives another."""
    async with site.core.db.write() as session:
        admin = models.User(role="admin", full_name="Administrator", language="ru")
        session.add(admin)
        await session.flush()
        token = await accounts.login_link(session, admin)
    stranger = site.browser()
    page = await stranger.get(f"/login/link?token={token}", **{"Accept-Language": "ru"})
    assert "Войти как Администратор?" in page.visible()
    assert "Администратор" in (await (await site.signed_in(admin)).get("/dashboard")).visible()


async def test_an_address_of_this_computer_is_not_handed_out_in_silence(
    tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run
) -> None:
    """Where the configured address opens only here, the page with the link to share says so."""
    folder = tmp_path_factory.mktemp("address")
    async with open_site(folder, servers_run.new_sqlite(folder)) as own:
        user = await own.person("Shopkeeper", language="en")
        browser, bot = await own.signed_in(user), await own.bot_of(user)
        section = own.core.settings.server
        for address, warned in (
            ("http://localhost:8080", True),
            ("http://127.0.0.1:8080", True),
            ("http://[::1]:8080", True),
            ("https://bot.example.uz", False),
        ):
            changed = section.model_copy(update={"public_url": address})
            own.core.settings = own.core.settings.model_copy(update={"server": changed})
            shown = (await browser.get(f"/bots/{bot.id}/channels")).visible()
            assert ("opens only on this computer" in shown) is warned, address


async def test_the_owners_own_test_has_no_name_in_one_language(site: Site) -> None:
    """Who is trying the bot is said by the page in its reader's language, so no word is stored."""
    browser, bot, path = await _asked(site, "Tester")
    assert "You (test)" in (await browser.get(path)).visible()
    async with site.core.db.read() as session:
        contact = await session.scalar(select(models.Contact).where(models.Contact.bot_id == bot.id))
    assert contact is not None and contact.name == ""


async def test_no_command_of_a_bot_that_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run
) -> None:
    """Without a factory bot nobody is sent to it for a link."""
    folder = tmp_path_factory.mktemp("alone")
    tries = {"limits": {"login_attempts_per_15_min": 2}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=tries) as alone:
        browser = alone.browser()
        await browser.get("/login")
        await browser.post("/preferences", language="en", next="/login")
        gone = await browser.get("/login/link?token=used")
        assert gone.status == 400
        assert "has expired" in gone.visible() and "/panel" not in gone.visible()
        assert "/panel" not in (await browser.post("/login/link", token="used")).visible()
        fields = {"full_name": "A", "phone": "+998 91 111 11 11", "password": "a-long-password"}
        assert (await alone.browser().post("/register", email="one@example.uz", **fields)).status == 303
        taken = await browser.post("/register", email="two@example.uz", **fields)
        assert "already has an account" in taken.visible() and "/panel" not in taken.visible()
        for _attempt in range(alone.core.settings.limits.login_attempts_per_15_min + 1):
            refused = await browser.post("/login", login="tried@example.uz", password="wrong-password")
        assert refused.status == 429
        assert "Too many attempts" in refused.visible() and "/panel" not in refused.visible()


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        ("uz", "2026-yil 6-dek, 00:30"),
        ("uz-Cyrl", "2026-йил 6-дек, 00:30"),
        ("ru", "6 дек. 2026, 00:30"),
        ("en", "6 Dec 2026, 00:30"),
    ],
)
def test_moments_stand_well_in_a_sentence(language: str, wanted: str) -> None:
    """In Tashkent's time; without a comma inside the day and without a full stop after it."""
    assert view.exact(dt.datetime(2026, 12, 5, 19, 30, tzinfo=dt.UTC), language) == wanted


@pytest.mark.parametrize(
    ("language", "share", "room"),
    [
        ("uz", "92_%", "1_000 MB"),
        ("uz-Cyrl", "92_%", "1_000 МБ"),
        ("ru", "92_%", "1_000 МБ"),
        ("en", "92%", "1,000 MB"),
    ],
)
def test_shares_and_sizes_have_their_languages_spaces(language: str, share: str, room: str) -> None:
    said = view.percent(0.92, language), view.size(1000 * 1024 * 1024, language)
    assert [each.replace("\N{NO-BREAK SPACE}", "_") for each in said] == [share, room]


async def test_a_page_leaves_nothing_to_the_collector(site: Site) -> None:
    """What a page was made of goes with it: left to the collector, it would be freed during somebody else's page."""
    owner = await site.person("Leaver")
    browser = await site.signed_in(owner)
    await site.bot_of(owner, "Chinor")

    def left() -> int:
        return sum(isinstance(each, Context | Macro) for each in gc.get_objects())

    await browser.get("/dashboard")
    gc.collect()
    before = left()
    gc.disable()
    try:
        for path in ("/dashboard", "/inbox", "/settings"):
            assert (await browser.get(path)).status == 200
        assert left() <= before
    finally:
        gc.enable()


def test_templates_are_imported_with_the_page() -> None:
    """An import without it would be kept for all pages, and be let go of with the first of them."""
    for path in sorted(view.TEMPLATES_DIR.rglob("*.html")):
        for line in re.findall(r"{%-?\s*(?:import|from)\s[^%]*%}", path.read_text("utf-8")):
            assert line.rstrip("-%} ").endswith("with context"), f"{path.name}: {line}"
