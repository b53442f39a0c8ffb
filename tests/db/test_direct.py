"""Statements past SQLAlchemy's execution mean the same as through it, on both databases."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from db import direct, models
from db.base import new_id, table_of
from db.engine import Database

INBOX = table_of(models.InboxItem)
USER = table_of(models.User)
BOT = table_of(models.Bot)
CHANNEL = table_of(models.Channel)

NEW_USER, NEW_BOT, NEW_CHANNEL = USER.insert(), BOT.insert(), CHANNEL.insert()
EVERY_CHANNEL = select(CHANNEL).order_by(CHANNEL.c.id)
SOME = (
    select(CHANNEL.c.title).where(CHANNEL.c.title.in_(bindparam("p_titles", expanding=True))).order_by(CHANNEL.c.title)
)
PAIRS = (
    select(CHANNEL.c.external_id)
    .where(tuple_(CHANNEL.c.kind, CHANNEL.c.title).in_(bindparam("p_pairs", expanding=True)))
    .order_by(CHANNEL.c.external_id)
)
LITERAL = select(CHANNEL.c.title).where(CHANNEL.c.title == "O‘zbek's \\ 100%", CHANNEL.c.kind.in_(["web", "telegram"]))
HEARD = update(CHANNEL).where(CHANNEL.c.id == bindparam("p_id")).values(last_update_at=bindparam("p_at"))
TITLES = ("O‘zbek's \\ 100%", "ўзбек “:p_titles” 🙂", "", "a\nb")
STORING = {
    name: kind.insert(INBOX)
    .on_conflict_do_nothing(index_elements=["channel_id", "external_id"])
    .returning(INBOX.c.external_id, INBOX.c.status, INBOX.c.received_at)
    for name, kind in (("sqlite", sqlite), ("postgresql", postgresql))
}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, pool_size=2)
    yield opened
    await opened.close()


def _shop(connection: Connection) -> list[str]:
    """Make a channel for each title; return their ids."""
    owner, bot = new_id(), new_id()
    direct.change(connection, NEW_USER, [{"id": owner, "email": "a@example.uz"}])
    direct.change(connection, NEW_BOT, [{"id": bot, "owner_id": owner, "name": "Do‘kon"}])
    rows: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "bot_id": bot,
            "kind": "telegram",
            "external_id": f"{n}",
            "title": title,
            "settings": {"n": [n]},
        }
        for n, title in enumerate(TITLES)
    ]
    direct.change(connection, NEW_CHANNEL, rows)
    return [row["id"] for row in rows]


async def test_rows_have_the_types_and_defaults_of_their_columns(db: Database) -> None:
    def work(connection: Connection) -> tuple[list[Any], list[Any]]:
        ids = _shop(connection)
        moment = dt.datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=dt.UTC)
        direct.change(connection, HEARD, [{"p_id": ids[0], "p_at": moment}, {"p_id": ids[1], "p_at": None}])
        return direct.rows(connection, EVERY_CHANNEL, {}), list(connection.execute(EVERY_CHANNEL).all())

    found, expected = await db.transact(work)
    assert [row._asdict() for row in found] == [row._asdict() for row in expected]
    assert found[0].last_update_at == dt.datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=dt.UTC)
    assert found[0].settings == {"n": [0]}
    assert all(row.created_at.tzinfo is not None for row in found)


async def test_lists_pairs_and_constants_find_what_they_name(db: Database) -> None:
    def work(connection: Connection) -> None:
        _shop(connection)
        for wanted in (list(TITLES), list(TITLES[:1]), ["no such"], []):
            assert [row.title for row in direct.rows(connection, SOME, {"p_titles": wanted})] == sorted(
                title for title in TITLES if title in wanted
            )
        pairs = [("telegram", TITLES[1]), ("telegram", TITLES[3]), ("web", TITLES[0])]
        assert [row[0] for row in direct.rows(connection, PAIRS, {"p_pairs": pairs})] == ["1", "3"]
        assert [row.title for row in direct.rows(connection, LITERAL, {})] == [TITLES[0]]

    await db.transact(work)


async def test_a_second_insert_returns_nothing(db: Database) -> None:
    def work(connection: Connection) -> None:
        channel = _shop(connection)[0]

        def store(*numbers: str) -> list[str]:
            rows = [{"lane": "in:x", "channel_id": channel, "external_id": n, "payload": "{}"} for n in numbers]
            kept = direct.change_returning(connection, STORING[connection.dialect.name], rows)
            assert all(row.status == "new" and row.received_at.tzinfo is not None for row in kept)
            return [row.external_id for row in kept]

        assert store("1", "2") == ["1", "2"]
        assert store("2", "3") == ["3"]
        assert connection.scalar(select(func.count()).select_from(INBOX)) == 3

    await db.transact(work)


async def test_what_the_driver_refuses_is_said_as_ever(db: Database) -> None:
    def work(connection: Connection) -> None:
        _shop(connection)
        direct.change(connection, NEW_USER, [{"id": new_id(), "email": "a@example.uz"}])

    with pytest.raises(IntegrityError):
        await db.transact(work)

    # Nothing of the unit was kept, and the next one works.
    def count(connection: Connection) -> int:
        return int(connection.scalar(select(func.count()).select_from(USER)) or 0)

    assert await db.transact(count) == 0
