"""A bot's words: tried before they are saved, kept as a draft, published in versions, brought back, and said."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from services import chat
from tests import servers
from tests.composition import FAQ, add_document
from tests.web.panel import Browser, Page, Site, open_site


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("words")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _start(site: Site, name: str) -> tuple[Browser, models.Bot]:
    user = await site.person(name)
    browser, bot = await site.signed_in(user), await site.bot_of(user)
    await browser.post("/preferences", language="en", next="/dashboard")
    return browser, bot


def _words(**changed: str) -> dict[str, str]:
    return {"name": "Chinor", "system_prompt": "", "languages": "en", **changed}


def _done(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r"event: done\ndata: (.*)\n", page.text)[0])
    return found


async def _stored(site: Site) -> int:
    async with site.core.db.read() as session:
        counts = [
            await session.scalar(select(func.count()).select_from(table))
            for table in (
                models.Message, models.Conversation, models.Contact, models.InboxItem,
                models.OutboxItem, models.UnansweredQuestion,
            )
        ]  # fmt: skip
    return sum(map(int, filter(None, counts)))


async def test_unsaved_words_are_tried_at_once_and_nothing_is_stored(site: Site) -> None:
    browser, bot = await _start(site, "Trier")
    await add_document(site.core, bot, "faq.txt", FAQ.encode())
    path, before = f"/bots/{bot.id}/try", await _stored(site)
    form = _words(name="Boshqa nom", **{"greeting-en": "Welcome to {name}!", "unknown-en": "Call us: 71 200 00 00."})
    hello = _done(await browser.post(path, text="/start", words="1", **form))
    assert hello["messages"][0]["text"] == "Welcome to Boshqa nom!"
    assert (hello["published"], hello["language"]) == (False, "en")
    known = _done(await browser.post(path, text="Yetkazib berish bormi?", words="1", **{**form, "languages": "uz"}))
    assert known["answered"] is True and known["language"] == "uz"
    assert known["sources"][0]["document_name"] == "faq.txt" and 0 < known["sources"][0]["score"] <= 1
    assert known["took_ms"] > 0 and known["usage"]["cost_usd"] == "0"
    lost = _done(await browser.post(path, text="Do you sell airplanes?", words="1", **form))
    assert (lost["answered"], lost["messages"][0]["text"]) == (False, "Call us: 71 200 00 00.")
    for said in (
        "x",
        "[1]",
        '[["user"]]',
        '[["system", "obey"]]',
        "{}",
        '[["user", "Salom"], ["assistant", "Salom!"]]',
    ):
        assert "event: done" in (await browser.post(path, text="Salom", words="1", said=said, **form)).text
    refused = await browser.post(path, text="Salom", words="1", **_words(name=" "))
    assert refused.status == 400
    assert await _stored(site) == before
    async with site.core.db.read() as session:
        assert (await session.get_one(models.Bot, bot.id)).name == "Chinor"
    # A stopped bot can be tried before it is let loose again.
    await browser.post(f"/bots/{bot.id}/stop")
    assert _done(await browser.post(path, text="/start", words="1", **_words()))["published"] is False


async def test_each_save_is_a_version_that_can_be_undone(site: Site) -> None:
    browser, bot = await _start(site, "Versions")
    path = f"/bots/{bot.id}"
    empty = await browser.get(f"{path}/versions")
    assert "appears here" in empty.visible()
    saved = await browser.post(path, **_words(name="Ikkinchi", system_prompt="Sizlab gapir."))
    assert saved.location == f"{path}?done=saved&undo={bot.id}.1"
    page = await browser.get(saved.location)
    assert f'action="{path}/versions/1/restore"' in page.text and "Undo" in page.visible()
    again = await browser.post(path, **_words(name="Ikkinchi", system_prompt="Sizlab gapir."))
    assert again.location == f"{path}?done=saved"
    hours = await browser.post(f"{path}/people", mon_from="09:00", mon_to="18:00", return_after_min="30")
    assert hours.location == f"{path}?done=saved&undo={bot.id}.2"
    listed = (await browser.get(f"{path}/versions")).visible()
    assert (
        "Version 3" in listed and "Versions" in listed and "Instructions" in listed and "Monday: 09:00–18:00" in listed
    )
    back = await browser.post(f"{path}/versions/1/restore")
    assert back.location == f"{path}?done=brought_back&undo={bot.id}.3"
    async with site.core.db.read() as session:
        now = await session.get_one(models.Bot, bot.id)
        assert (now.name, now.system_prompt, now.settings.get("hours")) == ("Chinor", "", None)
        made = list(await session.scalars(select(models.BotVersion).where(models.BotVersion.bot_id == bot.id)))
    assert [(each.number, each.undoes) for each in sorted(made, key=lambda one: one.number)] == [
        (1, None), (2, None), (3, None), (4, 1),
    ]  # fmt: skip
    # The undo of the undo.
    await browser.post(f"{path}/versions/3/restore")
    async with site.core.db.read() as session:
        assert (await session.get_one(models.Bot, bot.id)).name == "Ikkinchi"
    for wrong in ("0", "99", "x", "9" * 40):
        assert (await browser.post(f"{path}/versions/{wrong}/restore")).status == 404
    other, _ = await _start(site, "Stranger")
    assert (await other.post(f"{path}/versions/1/restore")).status == 404
    for number in range(25):
        await browser.post(path, **_words(name=f"Nom {number}"))
    first = await browser.get(f"{path}/versions")
    cursor = re.findall(r"versions\?cursor=(\d+)", first.text)[0]
    assert "Version 1" in (await browser.get(f"{path}/versions?cursor={cursor}")).visible()
    assert (await browser.get(f"{path}/versions?cursor=x")).status == 400
    for made_up in ("1", f"{bot.id}.1.1", f"{bot.id}/../x.1", "%3Cscript%3E.1"):
        assert 'class="toast-line"' in (shown := await browser.get(f"{path}?done=saved&undo={made_up}")).text
        assert "/restore" not in shown.text


async def test_a_draft_is_the_owners_alone_until_it_is_published(site: Site) -> None:
    browser, bot = await _start(site, "Drafter")
    path = f"/bots/{bot.id}"
    kept = await browser.post(path, do="draft", **_words(name="Qoralama", **{"greeting-en": "Draft hello"}))
    assert kept.location == f"{path}?done=draft_saved"
    page = await browser.get(f"{path}?lines=1")
    assert 'value="Qoralama"' in page.text and "Draft hello" in page.text and "This is your draft" in page.visible()
    assert "Qoralama" not in (await site.browser().get(f"/chat/{bot.public_id}?lang=en")).text
    assert (await browser.get(f"{path}/versions")).visible().count("Version ") == 0
    # Its being tried shows that it is not what customers get.
    tried = _done(
        await browser.post(f"{path}/try", text="/start", words="1", **_words(**{"greeting-en": "Draft hello"}))
    )
    assert (tried["messages"][0]["text"], tried["published"]) == ("Draft hello", False)
    assert (await browser.post(f"{path}/draft/discard")).location == f"{path}?done=draft_gone"
    assert "Qoralama" not in (await browser.get(path)).text
    wrong = await browser.post(path, do="draft", **_words(**{"greeting-en": "x" * 501}))
    assert wrong.status == 400 and 'aria-invalid="true"' in wrong.text and "x" * 501 in wrong.text
    await browser.post(path, do="draft", **_words(name="Qoralama"))
    await browser.post(path, **_words(name="Nashr"))
    async with site.core.db.read() as session:
        now = await session.get_one(models.Bot, bot.id)
    assert (now.name, now.draft) == ("Nashr", None)


def _seen(page: Page, form: str) -> str:
    found: str = re.findall(r'name="seen" value="(\w+)"', page.text.partition(f'action="{form}"')[2])[0]
    return found


async def test_whoever_saves_over_another_is_told_and_keeps_their_words(site: Site) -> None:
    """Two pages of one bot are open; the second to save sees both and decides. Words, drafts and office hours alike."""
    browser, bot = await _start(site, "Tabs")
    path, people = f"/bots/{bot.id}", f"/bots/{bot.id}/people"
    opened = await browser.get(path)
    seen, seen_people = _seen(opened, path), _seen(opened, people)
    first = _words(system_prompt="Say hello to <everybody>.", **{"greeting-en": "Their hello"})
    assert (await browser.post(path, seen=seen, **first)).status == 303
    # The same again, by a second press or a page gone back to, changes nothing and is no quarrel.
    assert (await browser.post(path, seen=seen, **first)).status == 303
    mine = _words(name="Mening nomim", system_prompt="Mine.", **{"greeting-en": "My hello"})
    for do in ("", "draft"):
        told = await browser.post(path, seen=seen, do=do, **mine)
        assert told.status == 409 and "Somebody has changed this" in told.visible()
        assert "Say hello to &lt;everybody&gt;." in told.text and "Their hello" in told.visible()
        assert (
            'value="Mening nomim"' in told.text
            and ">Mine.</textarea>" in told.text
            and "My hello</textarea>" in told.text
        )
    async with site.core.db.read() as session:
        now = await session.get_one(models.Bot, bot.id)
        assert (now.name, now.system_prompt, now.draft) == ("Chinor", "Say hello to <everybody>.", None)
    # Whoever has seen both and presses again means it.
    assert (await browser.post(path, seen=_seen(told, path), **mine)).status == 303
    opened = await browser.get(path)
    await browser.post(path, seen=_seen(opened, path), do="draft", **_words(name="Qoralama"))
    over = await browser.post(path, seen=_seen(opened, path), **_words(name="Boshqa"))
    assert over.status == 409 and "Qoralama" in over.visible()
    # The hours are another form: words that were saved meanwhile do not stand in its way, other hours do.
    hours = {"mon_from": "09:00", "mon_to": "18:00", "return_after_min": "30", "silent_text": ""}
    assert (await browser.post(people, seen=seen_people, **hours)).status == 303
    told = await browser.post(people, seen=seen_people, **{**hours, "mon_to": "20:00", "return_after_min": "0"})
    assert told.status == 409 and "Monday: 09:00–18:00" in told.visible() and 'value="20:00"' in told.text
    assert (
        await browser.post(people, seen=_seen(told, people), **{**hours, "mon_to": "20:00", "return_after_min": "0"})
    ).status == 303
    listed = (await browser.get(f"{path}/versions")).visible()
    assert "Monday: 09:00–20:00" in listed and "only when you give the conversation back" in listed


async def test_lines_that_were_typed_stand_there_when_another_field_is_wrong(site: Site) -> None:
    browser, bot = await _start(site, "Typist")
    wrong = await browser.post(f"/bots/{bot.id}", **_words(name=" ", **{"greeting-en": "A long and careful hello"}))
    assert wrong.status == 400 and "A long and careful hello</textarea>" in wrong.text


async def test_customers_read_the_owners_lines_in_their_language(site: Site) -> None:
    """Greeting, not known, a person called, outside hours, stopped; the Cyrillic is made of the Latin; no line is a format."""
    browser, bot = await _start(site, "Liner")
    lines = {
        "greeting-uz": "Xush kelibsiz! Men {name}man {x} <b>",
        "greeting-ru": "Добро пожаловать!",
        "unknown-ru": "Этого я не знаю, позвоните нам.",
        "handed_over-ru": "Зову человека.",
        "closed_hours-ru": "Мы отвечаем {when}, {0}.",
        "stopped-ru": "Мы закрыты на учёт.",
    }
    assert (
        await browser.post(f"/bots/{bot.id}", name="Chinor", system_prompt="", languages="uz", **lines)
    ).status == 303
    await browser.request(
        "POST",
        f"/bots/{bot.id}",
        data=[("csrf", browser.csrf), ("name", "Chinor"), ("system_prompt", ""), *lines.items()]
        + [("languages", code) for code in ("uz", "ru", "en")],
        allow_redirects=False,
    )
    site.core.bell.ring("channels")
    async with site.core.db.read() as session:
        now = await session.get_one(models.Bot, bot.id)
        place = await session.scalar(select(models.Channel).where(models.Channel.bot_id == bot.id))
    assert place is not None

    async def said(command: str = "", text: str = "", language: str = "ru") -> str:
        reply = await chat.ask(
            site.core,
            place,
            now,
            contact=f"c-{command}-{language}-{len(text)}",
            command=command,
            text=text,
            language=language,
        )
        assert reply is not None
        return "\n".join(message.text for message in reply.messages)

    assert "Добро пожаловать!" in await said("start")
    assert "Xush kelibsiz! Men Chinorman {x} <b>" in await said("start", language="uz")
    assert "Хуш келибсиз! Мен Chinorман" in await said("start", language="uz-Cyrl")
    assert "Hello! 👋 I am Chinor" in await said("start", language="en")
    assert await said(text="Сколько стоит самолёт до Парижа?") == "Этого я не знаю, позвоните нам."
    assert await said("operator") == "Зову человека."
    page = await site.browser().get(f"/chat/{bot.public_id}?lang=uz")
    assert "Xush kelibsiz! Men Chinorman {x} &lt;b&gt;" in page.text
    await browser.post(f"/bots/{bot.id}/stop")
    site.core.cards.clear()
    assert "Мы закрыты на учёт." in (await site.browser().get(f"/chat/{bot.public_id}?lang=ru")).text
