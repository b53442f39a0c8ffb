"""The numbers of a bot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from db import models
from db.base import utcnow
from services import conversations, stats
from services.core import Core
from tests.composition import Shop, make_settings, make_shop, running


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
        for author, text, answered in messages:
            session.add(
                models.Message(conversation_id=talk.id, author=author, text=text, answered=answered, created_at=at)
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


async def test_talks_are_searched_without_regard_to_case_in_every_script(database_url: str, tmp_path: Path) -> None:
    async with running(make_settings(tmp_path, database_url), "idle") as core:
        shop = await make_shop(core, document=None)
        now = utcnow()
        await _talk(core, shop, "Ўткир", now, ("customer", "МУЗЛАТГИЧ борми? 50%_", None))
        await _talk(core, shop, "Anna", now, ("customer", "Pechka kerak", None))
        async with core.db.read() as session:
            for wanted, names in (
                ("музлатгич", ["Ўткир"]),
                ("ЎТКИР", ["Ўткир"]),
                ("pechKA", ["Anna"]),
                ("50%_", ["Ўткир"]),
                ("%", ["Ўткир"]),
                ("холодильник", []),
            ):
                page = await conversations.list_for(session, shop.owner, shop.bot, q=wanted)
                assert [row.contact.name for row in page.items] == names, wanted
