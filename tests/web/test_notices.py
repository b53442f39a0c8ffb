"""The bar of notices, the way from a notice to its conversation, earlier messages, and what an old link says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import unescape

import pytest

from db import models
from services import bots, notices
from tests import servers
from tests.web.panel import Browser, Site, open_site

PART = {"HX-Request": "true"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; every test makes its own people."""
    folder = tmp_path_factory.mktemp("notices")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _told(site: Site, name: str, *kinds: str, key: str = "", **params: str) -> tuple[Browser, models.Bot]:
    user = await site.person(name, language="en")
    bot = await site.bot_of(user)
    async with site.core.db.write() as session:
        for number, kind in enumerate(kinds):
            params = {"bot": bot.name, "name": f"Customer {number}", "reason": "empty", **params}
            await notices.open_notice(
                session, user.id, kind, key=key or f"{name}:{number}", bot_id=bot.id, params=params
            )
    return await site.signed_in(user), bot


async def test_notices_can_be_fetched_alone(site: Site) -> None:
    """What a page shows above its content comes again without the page, as it is now."""
    browser, bot = await _told(site, "Alone", "over_limit")
    page = await browser.get(f"/bots/{bot.id}/documents")
    assert f'hx-get="/notices?at=/bots/{bot.id}/documents&amp;brief=1"' in page.text
    part = await browser.get(f"/notices?at=/bots/{bot.id}/documents&brief=1", **PART)
    assert part.status == 200
    assert "<html" not in part.text
    assert "more messages than the limit allows" in part.visible()
    assert f"/dismiss?next=/bots/{bot.id}/documents" in part.text
    assert "example.com" not in (await browser.get("/notices?at=https://example.com/", **PART)).text
    assert (await browser.get("/notices")).location == "/dashboard"
    stranger = await browser.get("/notices", Accept="text/html")
    assert stranger.status == 303
    assert (await site.browser().get("/notices", **PART)).status == 401


async def test_a_page_says_how_many_more_there_are(site: Site) -> None:
    browser, bot = await _told(site, "Many", *["document_failed"] * 5, document="narxlar.csv")
    home = (await browser.get("/dashboard")).visible()
    inner = (await browser.get(f"/bots/{bot.id}/documents")).visible()
    assert "More: 2" in home
    assert "More: 4" in inner
    assert home.count("narxlar.csv") == inner.count("narxlar.csv") == 5
    few, bot = await _told(site, "Few", "over_limit")
    assert "More: " not in (await few.get(f"/bots/{bot.id}/documents")).visible()


@pytest.mark.parametrize("kind", ["operator_wanted", "customer_wrote"])
async def test_a_notice_leads_to_the_conversation_it_is_about(site: Site, kind: str) -> None:
    browser, bot = await _told(site, f"Leads{kind.replace('_', '')}", kind, key=notices.talk_key("01talk"))
    assert f'href="/bots/{bot.id}/conversations/01talk"' in (await browser.get("/dashboard")).text


@pytest.mark.parametrize("kind", ["send_failed", "message_failed"])
async def test_a_failure_leads_to_the_conversation_where_it_is_known(site: Site, kind: str) -> None:
    name = f"Failed{kind.replace('_', '')}"
    browser, bot = await _told(site, name, kind)
    assert f'href="/bots/{bot.id}/conversations"' in (await browser.get("/dashboard")).text.partition("notices")[2]
    browser, bot = await _told(site, f"{name}known", kind, conversation="02talk")
    assert f'href="/bots/{bot.id}/conversations/02talk"' in (await browser.get("/dashboard")).text


async def test_what_is_about_no_bot_leads_to_the_dashboard(site: Site) -> None:
    """The pages of a bot show one line of it; on the dashboard itself there is nowhere else to go."""
    browser, bot = await _told(site, "Nobot")
    async with site.core.db.write() as session:
        params = {"provider": "OpenAI"}
        await notices.open_notice(session, bot.owner_id, "key_refused", key="key:openai:nobot", params=params)

    async def shown(path: str) -> str:
        return (await browser.get(path)).text.partition("OpenAI does not accept")[2].partition("/dismiss")[0]

    assert 'href="/dashboard"' in await shown(f"/bots/{bot.id}/documents")
    home = await shown("/dashboard")
    assert home and "href=" not in home


async def test_earlier_messages_lead_back_to_the_newest(site: Site) -> None:
    """The list's filters stay on the way, and what is fetched live on an earlier page is that page."""
    user = await site.person("Earlier", language="en")
    bot = await site.bot_of(user)
    async with site.core.db.write() as session:
        channel = await bots.connect_web(session, bot)
        contact = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id="e", name="Aziza")
        session.add(contact)
        await session.flush()
        talk = models.Conversation(bot_id=bot.id, channel_id=channel.id, contact_id=contact.id, last_text="Aziza")
        session.add(talk)
        await session.flush()
        for number in range(60):
            session.add(models.Message(conversation_id=talk.id, author="customer", text=f"question-{number:02}"))
            await session.flush()
    browser = await site.signed_in(user)
    path = f"/inbox/{talk.id}"
    newest = await browser.get(f"{path}?status=bot")
    assert "question-59" in newest.text
    assert "Newest messages" not in newest.text
    earlier = unescape(newest.text).partition(f'href="{path}?status=bot&before=')[2].partition('"')[0]
    assert earlier
    page = await browser.get(f"{path}?status=bot&before={earlier}")
    assert "question-00" in page.text
    assert f'href="{path}?status=bot#end">Newest messages' in page.text
    live = unescape(page.text).partition('id="talk"')[2].partition('hx-get="')[2].partition('"')[0]
    part = await browser.get(live, **PART, **{"HX-Target": "talk"})
    assert "question-00" in part.text
    assert "question-59" not in part.text
    assert "Newest messages" in part.text


async def test_an_old_link_says_what_helps(site: Site) -> None:
    """No word of going back: a used link stays used. Here no main bot gives links, so the program's start does."""
    browser = site.browser()
    for page in (
        await browser.get("/login/link?token=gone", **{"Accept-Language": "en"}),
        await browser.post("/login/link", token="gone"),
    ):
        assert page.status == 400
        assert "Go back" not in page.visible()
        assert 'href="/login"' in page.text
    english = await browser.get("/login/link?token=gone", **{"Accept-Language": "en"})
    assert "The link works once and is valid for ten minutes." in english.visible()
    assert "start the program again" in english.visible()
    owner = await site.signed_in(await site.person("Inside", language="en"))
    inside = await owner.get("/login/link?token=gone")
    assert 'href="/dashboard"' in inside.text
    assert 'href="/login"' not in inside.text


@pytest.mark.parametrize("kind", ["key_refused", "key_no_money"])
async def test_an_own_key_needs_attention_until_it_works_whoever_puts_the_notice_away(site: Site, kind: str) -> None:
    browser, bot = await _told(site, f"Key{kind.replace('_', '')}", kind, key=f"key:{kind}", provider="OpenAI")
    async with site.core.db.write() as session:
        row = await session.get_one(models.Bot, bot.id)
        row.openai_key = site.core.crypto.encrypt("sk-test-canary-0123456789abcdef")
    page = await browser.get(f"/bots/{bot.id}")
    assert f"“{bot.name}”: OpenAI does not" in page.visible()
    assert "Needs attention" in page.visible()
    dismissing = page.text.partition('action="/notices/')[2].partition("/dismiss")[0]
    assert (await browser.post(f"/notices/{dismissing}/dismiss")).status == 303
    page = await browser.get(f"/bots/{bot.id}")
    assert "OpenAI does not" not in page.visible()
    assert "Needs attention" in page.visible()
    async with site.core.db.write() as session:
        await notices.solve(session, f"key:{kind}")
    assert "In use" in (await browser.get(f"/bots/{bot.id}")).visible()


async def test_what_was_put_away_can_still_be_read(site: Site) -> None:
    """The moment is stored as all others are, whatever the database calls a moment."""
    browser, _ = await _told(site, "Away", "document_failed", document="narxlar.csv")
    page = await browser.get("/dashboard")
    notice_id = page.text.partition('action="/notices/')[2].partition("/dismiss")[0]
    assert (await browser.post(f"/notices/{notice_id}/dismiss")).status == 303
    async with site.core.db.read() as session:
        row = await session.get_one(models.Notice, notice_id)
    assert row.resolved_at == row.seen_at is not None
