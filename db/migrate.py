"""Bring a database to the schema of this program."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from db.engine import Database

_LOCK = 0x626F7466  # "botf": the number of our advisory lock


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """Return the revision that this program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("no migrations found")
    return revision


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        # Several processes may start at once; the second waits and finds nothing to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def upgrade(url: str | URL, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate the database at ``url`` in one transaction; return the revision before and after."""
    database = Database(url, pool_size=1)
    try:
        async with database.engine.execution_options(botfactory_write=True).begin() as connection:
            before = await connection.run_sync(_current)
            await connection.run_sync(_upgrade, revision)
            after = await connection.run_sync(_current)
        return before, after
    finally:
        await database.close()


async def current(database: Database) -> str | None:
    """Return the revision that the database has, None for an empty one."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(_current)
