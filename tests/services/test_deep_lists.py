"""Lists among thousands of rows: an index is entered where a page begins, also far down and for who has little in them."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import first_id, new_id, table_of, utcnow
from db.engine import Database
from services import accounts, auditing, bots, contacts, conversations, support
from services.conversations import desk, everywhere
from services.settings import Settings
from tests.composition import make_settings

ROWS = 3000
LOOKED_AT = 600
"""So many rows a step of a query may go through for a page of 50 or so."""


@dataclass
class Place:
    """A database with an owner's conversations and many other people, each with a bot and a talk with support."""

    db: Database
    settings: Settings
    owner: models.User
    bot: models.Bot


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[Place]:
    settings = make_settings(tmp_path, database_url)
    db = Database(settings.database_url)
    now = utcnow()
    moments = [now - dt.timedelta(minutes=number) for number in range(ROWS)]
    people, talks, messages, files = ([first_id(at)[:10] + new_id()[10:] for at in reversed(moments)] for _ in range(4))
    async with db.write() as session:
        owner = await accounts.register_owner(session, email="egasi@example.uz", full_name="Egasi")
        bot = await bots.create(session, owner, "Chinor", limits=settings.limits)
        web = await bots.connect_web(session, bot)
        here = {"bot_id": bot.id, "channel_id": web.id}
        numbered = list(enumerate(reversed(moments)))
        rows: dict[Any, list[dict[str, Any]]] = {
            models.User: [
                {
                    "id": people[n],
                    "full_name": f"{'Ali' if n % 20 else 'Gul'} {n}",
                    "email": f"g{n}@example.uz",
                    "created_at": at,
                }
                for n, at in numbered
            ],
            models.Bot: [{"owner_id": people[n], "name": "Do‘kon", "public_id": new_id()} for n, _ in numbered],
            models.SupportTalk: [
                {
                    "owner_id": people[n],
                    "last_text": "Salom",
                    "last_message_at": at,
                    "waiting_since": at if n % 2 else None,
                }
                for n, at in numbered
            ],
            models.AuditLog: [
                {"at": at, "actor_id": owner.id, "action": "signed_in", "object_kind": "user", "object_id": owner.id}
                for _, at in numbered
            ],
            models.Contact: [{**here, "id": talks[n], "external_id": str(n), "language": "uz"} for n, _ in numbered],
            models.Conversation: [
                {
                    **here,
                    "id": talks[n],
                    "contact_id": talks[n],
                    "last_message_at": at,
                    # Those that wait did so long ago.
                    "status": "waiting" if n < 40 else "bot",
                }
                for n, at in numbered
            ],
            models.Message: [
                {"id": messages[n], "conversation_id": talks[n], "author": "customer"} for n, _ in numbered
            ],
            models.Attachment: [
                {"id": files[n], "bot_id": bot.id, "message_id": messages[n], "kind": "photo", "status": "stored"}
                for n, _ in numbered
            ],
        }
        connection = await session.connection()
        for model, values in rows.items():
            await connection.execute(insert(table_of(model)), values)
        await session.execute(text("ANALYZE"))
    yield Place(db, settings, owner, bot)
    await db.close()


@contextlib.contextmanager
def _asked(db: Database) -> Iterator[list[tuple[str, Any]]]:
    """Gather the questions with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        seen.append((statement, values))

    engine = db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _wasted(step: dict[str, Any]) -> int:
    """Return how many rows PostgreSQL went through at the most in one step of a plan."""
    removed = sum(count for name, count in step.items() if name.startswith("Rows Removed by"))
    here = int((step["Actual Rows"] + removed) * step["Actual Loops"])
    return max([here, *(_wasted(each) for each in step.get("Plans", ()))])


async def _check(place: Place, asked: list[tuple[str, Any]], entered: str) -> None:
    """See that no question goes through the table; on SQLite, whose plans tell no numbers, that one is asked so."""
    plans: list[str] = []
    async with place.db.engine.connect() as connection:
        if not place.db.is_sqlite:
            # Of so few rows it is as cheap to read all: here only what indexes can do for the questions is asked.
            for way in ("seqscan", "hashjoin", "mergejoin"):
                await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        for statement, values in asked:
            if place.db.is_sqlite:
                steps = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                plans += [str(step.detail) for step in steps]
            else:
                told = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
                found = told.scalar_one()
                plan = (orjson.loads(found) if isinstance(found, str) else found)[0]["Plan"]
                assert _wasted(plan) <= LOOKED_AT, (statement, plan)
    assert not place.db.is_sqlite or any(entered in plan for plan in plans), plans


async def _deep(session: AsyncSession, find: Any, pages: int = 20) -> str:
    """Return the cursor of a page far down a list."""
    cursor = ""
    for _ in range(pages):
        cursor = (await find(session, cursor)).next
        assert cursor
    return str(cursor)


async def test_far_pages(place: Place) -> None:
    """The twentieth page is entered at its first row and costs what the first one does."""

    async def inbox(session: AsyncSession, cursor: str) -> Any:
        return await desk.list_for(session, place.owner, [place.bot], desk.Filters(), cursor=cursor)

    async def all_talks(session: AsyncSession, cursor: str) -> Any:
        return await everywhere.find(session, everywhere.Filters(), cursor=cursor)

    async def with_support(session: AsyncSession, cursor: str) -> Any:
        return await support.list_all(session, only_waiting=False, cursor=cursor)

    for find, entered in (
        (inbox, "(bot_id=? AND last_message_at<?)"),
        (all_talks, "ix_conversations_last_message_at (last_message_at<?)"),
        (with_support, "(last_message_at<?)"),
    ):
        async with place.db.read() as session:
            # Half of the talks with support wait: the others come after them.
            cursor = await _deep(session, find, 40 if find is with_support else 20)
            with _asked(place.db) as asked:
                page = await find(session, cursor)
        assert page.items
        await _check(place, asked, entered)


async def test_own_things_among_many(place: Place) -> None:
    """Whose bots, colleagues, files and doings are few does not wait for everybody else's."""
    async with place.db.read() as session:
        with _asked(place.db) as asked:
            assert [each.id for each in await bots.list_for(session, place.owner, "talk")] == [place.bot.id]
            assert [each.id for each in await desk.people(session, [place.owner.id])] == [place.owner.id]
            assert [each.id for each in await desk.owners(session, place.owner, "talk")] == [place.owner.id]
        await _check(place, asked, "(owner_id=?)")
        page = await desk.list_for(session, place.owner, [place.bot], desk.Filters(), limit=1)
        row = await conversations.get(session, place.owner, page.items[0].conversation.id)
        with _asked(place.db) as asked:
            assert len((await contacts.card(session, row, [place.bot])).files) == 1
        await _check(place, asked, "(message_id=?)")
        with _asked(place.db) as asked:
            found = await everywhere.find(session, everywhere.Filters(state="waiting"))
        assert len(found.items) == 40 and found.next is None
        times = [each.conversation.last_message_at for each, _ in found.items]
        assert times == sorted(times, reverse=True)
        await _check(place, asked, "(id=?)")
        with _asked(place.db) as asked:
            # Many are called so, and none of them has done anything.
            nothing, _ = await auditing.find(session, auditing.Filters(actor="Gul"))
        assert not nothing.items
        await _check(place, asked, "(actor_id=?)")
