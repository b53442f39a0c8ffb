"""The numbers of a bot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from db import models
from db.base import utcnow
from services import chat, conversations, stats
from services.conversations import finding
from services.core import Core
from tests.composition import Shop, make_settings, make_shop, running
from tests.web.panel import open_site


async def _talk(
    core: Core, shop: Shop, name: str, at: dt.datetime, *messages: tuple[Any, ...], status: str = "bot"
) -> None:
    async with core.db.write() as session:
        contact = models.Contact(
            bot_id=shop.bot.id, channel_id=shop.channel.id, external_id=name, name=name, created_at=at
        )
        session.add(contact)
        await session.flush()
        talk = models.Conversation(
            bot_id=shop.bot.id, channel_id=shop.channel.id, contact_id=contact.id, status=status, last_message_at=at
        )
        session.add(talk)
        await session.flush()
        for author, text, answered, *more in messages:
            columns = {"provider": "extractive", "sources": more[0]} if more else {}
            session.add(
                models.Message(
                    conversation_id=talk.id, author=author, text=text, answered=answered, created_at=at, **columns
                )
            )


async def test_numbers_count_what_happened_since(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        other = await make_shop(core, "Nur", email="other@example.uz", document=None)
        now = utcnow()
        asked = ("customer", "Narxi qancha?", None)
        yes, no = ("bot", "5000", True), ("bot", "?", False)
        await _talk(
            core, shop, "a", now, ("customer", "/start", None), ("system", "Salom", None), asked, yes, asked, no
        )
        await _talk(core, shop, "b", now, ("customer", "", None), asked, ("operator", "Ha", None), status="waiting")
        await _talk(core, shop, "old", now - dt.timedelta(days=9), asked, yes, status="waiting")
        await _talk(core, other, "c", now, asked, yes)
        async with core.db.read() as session:
            week = await stats.numbers(session, shop.bot, now - dt.timedelta(days=7))
            month = await stats.numbers(session, shop.bot, now - dt.timedelta(days=30))
            nothing = await stats.numbers(session, shop.bot, now + dt.timedelta(days=1))
        assert week == stats.Numbers(questions=3, answered=1, unanswered=1, conversations=2, contacts=2, waiting=2)
        assert month == stats.Numbers(questions=4, answered=2, unanswered=1, conversations=3, contacts=3, waiting=2)
        assert nothing == stats.Numbers(0, 0, 0, 0, 0, waiting=2)


async def test_what_is_no_business_is_not_counted(database_url: str, tmp_path: Path) -> None:
    """The owner's own tests count nowhere, kind words are no questions, an unknown command is one."""
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        now = utcnow()
        asked, no = ("customer", "Narxi qancha?", None), ("bot", "?", False)
        found = [{"document_id": "x"}]
        kind: tuple[Any, ...] = ("bot", "Salom! Marhamat, so'rang.", True, [])
        tested = f"panel:{shop.owner.id}"
        await _talk(core, shop, tested, now, asked, ("bot", "5000", True, found), asked, no, status="waiting")
        await _talk(
            core,
            shop,
            "customer",
            now,
            ("customer", "/Start ref_7", None),
            ("customer", "/operator@chinor_bot", None),
            ("customer", "Salom", None),
            kind,
            ("customer", "/startap narxi", None),
            no,
            asked,
            ("bot", "5000", True, found),
        )
        async with core.db.read() as session:
            counted = await stats.numbers(session, shop.bot, now - dt.timedelta(days=1))
        assert counted == stats.Numbers(questions=2, answered=1, unanswered=1, conversations=1, contacts=1, waiting=0)


async def test_the_panels_test_chat_is_no_customer(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        user = await site.person("Egasi")
        bot = await site.bot_of(user)
        browser = await site.signed_in(user)
        tried = await browser.post(f"/bots/{bot.id}/try", text="Narxi qancha?")
        assert "event: done" in tried.text
        async with site.core.db.read() as session:
            counted = await stats.numbers(session, bot, utcnow() - dt.timedelta(days=1))
        assert counted == stats.Numbers(0, 0, 0, 0, 0, 0)


async def test_kind_words_are_no_questions_that_were_answered(tmp_path: Path) -> None:
    async with running(make_settings(tmp_path)) as core:
        shop = await make_shop(core)
        for text in ("Salom", "Rahmat!", "Kafolat bormi?", "Parvoz chiptasi qancha turadi?"):
            await chat.ask(core, shop.channel, shop.bot, contact="customer", text=text)
        async with core.db.read() as session:
            counted = await stats.numbers(session, shop.bot, utcnow() - dt.timedelta(days=1))
        assert counted == stats.Numbers(questions=2, answered=1, unanswered=1, conversations=1, contacts=1, waiting=1)


async def test_talks_are_searched_without_regard_to_case_in_every_script(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        now = utcnow()
        await _talk(core, shop, "Ўткир", now, ("customer", "МУЗЛАТГИЧ борми? 50%_", None))
        await _talk(core, shop, "Anna", now, ("customer", "Pechka kerak", None))
        await finding.prepare(core)
        async with core.db.read() as session:
            for wanted, names in (
                ("музлатгич", ["Ўткир"]),
                ("ЎТКИР", ["Ўткир"]),
                ("pechKA", ["Anna"]),
                ("50%_", ["Ўткир"]),
                ("%", []),
                ("холодильник", []),
            ):
                page = await conversations.list_for(session, shop.bot, q=wanted)
                assert [row.contact.name for row in page.items] == names, wanted
