"""0013: partners' lines outlive accounts, undone payouts go with the version that knows them, amounts bring their currency."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from db import migrate
from db.base import new_id
from db.engine import Database
from tests.servers import ROOT, Run

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC).isoformat()
_LINE = (
    "INSERT INTO referral_entries (id, partner_id, kind, amount_tiyin, available_at, note, created_at) "
    "VALUES (:id, :partner, :kind, :amount, :now, '', :now)"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, servers_run: Run, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    with servers_run.database(request.param, tmp_path, migrated=False) as url:
        yield url


def _down(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "db" / "migrations"))
    config.attributes["connection"] = connection
    command.downgrade(config, "0010")


async def test_lines_and_amounts_go_up_and_down(empty_url: str) -> None:
    await migrate.upgrade(empty_url, "0010")
    db = Database(empty_url, pool_size=2)
    partner, leaver = new_id(), new_id()

    def now() -> object:
        return NOW if db.is_sqlite else dt.datetime.fromisoformat(NOW)

    async def line(kind: str, amount: int, whose: str | None = partner, **more: str) -> str:
        made = new_id()
        async with db.write() as session:
            values = {"id": made, "partner": whose, "kind": kind, "amount": amount, "now": now()}
            await session.execute(text(_LINE), values)
            for name, value in more.items():
                await session.execute(
                    text(f"UPDATE referral_entries SET {name} = :value WHERE id = :id"), {"value": value, "id": made}
                )
        return made

    async def found(query: str) -> list[tuple[object, ...]]:
        async with db.read() as session:
            return [tuple(row) for row in await session.execute(text(query))]

    try:
        async with db.write() as session:
            for user in (partner, leaver):
                await session.execute(
                    text(
                        "INSERT INTO users (id, role, full_name, language, theme, created_at) "
                        "VALUES (:id, 'owner', 'A', 'uz', 'system', :now)"
                    ),
                    {"id": user, "now": now()},
                )
            for kind, language, words in (
                ("paid", "uz", "{number}: {amount} so‘m keldi"),
                ("paid", "ru", "Платёж {number} на {amount} сум"),
                ("refunded", "en", "{amount} so‘m went back"),
                ("offer_time", "uz", "{amount} so‘m"),
            ):
                await session.execute(
                    text(
                        "INSERT INTO letter_texts (kind, language, part, text, changed_at) "
                        "VALUES (:kind, :language, 'text', :words, :now)"
                    ),
                    {"kind": kind, "language": language, "words": words, "now": now()},
                )
            for key, state in (("waits", "new"), ("went", "sent")):
                await session.execute(
                    text(
                        "INSERT INTO letters (id, user_id, kind, key, params, mail, mail_attempts, mail_error, telegram, "
                        "telegram_attempts, run_at, telegram_at, created_at) VALUES (:id, :user, 'paid', :key, :params, :state, "
                        "0, '', 'none', 0, :now, :now, :now)"
                    ),
                    {
                        "id": new_id(),
                        "user": partner,
                        "key": key,
                        "params": '{"amount":"1 290\u00a0000","number":"7"}',
                        "state": state,
                        "now": now(),
                    },
                )
        earned, mistaken, rightly = (
            await line("commission", 300),
            await line("payout", -200),
            await line("payout", -100),
        )
        gone = await line("commission", 50, leaver)
        texts = "SELECT kind, language, text FROM letter_texts ORDER BY kind, language"
        before = await found(texts)
        await migrate.upgrade(empty_url)
        lines = "SELECT id, partner_id, amount_tiyin FROM referral_entries ORDER BY id"
        assert len(await found(lines)) == 4
        assert [row[2] for row in await found(texts)] == [
            "{amount} so‘m",
            "Платёж {number} на {amount}",
            "{number}: {amount} keldi",
            "{amount} went back",
        ]
        params = {str(row[0]): str(row[1]) for row in await found("SELECT key, params FROM letters")}
        assert '"amount":{"tiyin":129000000}' in params["waits"] and "tiyin" not in params["went"]
        async with db.write() as session:
            await session.execute(text("DELETE FROM users WHERE id = :id"), {"id": leaver})
        assert (gone, None, 50) in await found(lines)
        await line("payout_undone", 200, payout_id=mistaken)
        async with db.engine.execution_options(botfactory_write=True).begin() as connection:
            await connection.run_sync(_down)
        assert await found(lines) == [(earned, partner, 300), (rightly, partner, -100)]
        assert await found(texts) == before
        params = {str(row[0]): str(row[1]) for row in await found("SELECT key, params FROM letters")}
        assert '"amount":"1\u00a0290\u00a0000"' in params["waits"]
        async with db.write() as session:
            await session.execute(text("DELETE FROM letters"))
            await session.execute(text("DELETE FROM users"))
        assert await found(lines) == []
        await migrate.upgrade(empty_url)
    finally:
        await db.close()
