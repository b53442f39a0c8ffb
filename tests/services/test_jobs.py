"""Units of the queues that two processes, or two owners, do at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from db import models
from db.base import utcnow
from db.engine import Database
from services import accounts, conversations, jobs, notices


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A database of the test's own."""
    opened = Database(database_url, pool_size=5)
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_job_for_later_waits_on_every_database(db: Database) -> None:
    async with db.write() as session:
        await jobs.add(session, "later", {}, lane="a", delay_s=1000)
        # A lane with something in it keeps its turn.
        await jobs.add(session, "now", {}, lane="b")
        await jobs.add(session, "later", {}, lane="b", delay_s=1000)
    async with db.read() as session:
        turns = {lane.key: lane.run_at for lane in await session.scalars(select(models.Lane))}
    assert turns["job:a"] - time.time() > 900
    assert turns["job:b"] == 0


async def test_a_trouble_that_several_see_end_at_once_is_told_once(db: Database) -> None:
    async with db.write() as session:
        owner = await accounts.register_owner(session, email="owner@example.uz", full_name="Owner")
        await notices.open_notice(session, owner.id, "key_refused", key="key:openai", params={"provider": "OpenAI"})
        await session.execute(update(models.Notice).values(told_at=utcnow()))

    async def works() -> None:
        async with db.write() as session:
            await notices.solve(session, "key:openai")

    await asyncio.gather(*(works() for _ in range(5)))
    async with db.read() as session:
        kinds = await session.scalars(select(models.Notice.kind).order_by(models.Notice.kind))
        assert list(kinds) == ["key_recovered", "key_refused"]


async def test_what_was_said_while_a_person_began_to_write_is_kept(postgres_url: str) -> None:
    db = Database(postgres_url, pool_size=5)
    try:
        async with db.write() as session:
            owner = await accounts.register_owner(session, email="owner@example.uz", full_name="Owner")
            bot = models.Bot(owner_id=owner.id, name="b", languages=["uz"])
            session.add(bot)
            await session.flush()
            channel = models.Channel(bot_id=bot.id, kind="telegram", external_id="7", status="active")
            session.add(channel)
            await session.flush()
            contact = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id="5")
            session.add(contact)
            await session.flush()
            talk = models.Conversation(
                bot_id=bot.id, channel_id=channel.id, contact_id=contact.id, recent=[["user", "a"]]
            )
            session.add(talk)
        said = [["user", "a"], ["user", "q"], ["assistant", "answer"]]
        async with db.write() as session:
            row = await conversations.get(session, owner, talk.id)
            async with db.write() as meanwhile:
                one = update(models.Conversation).where(models.Conversation.id == talk.id)
                await meanwhile.execute(one.values(recent=said))
            await conversations.operator_reply(session, row, "Men operatorman")
        async with db.read() as session:
            kept = await session.scalar(select(models.Conversation.recent))
        assert kept == [*said, ["assistant", "Men operatorman"]]
    finally:
        await db.close()
