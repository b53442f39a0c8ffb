"""Bring a database to the schema of this program."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database, DatabaseUnavailable, parse_url

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x626F7466  # "botf": the number of our advisory lock


def _config() -> Config:
    # Loading Alembic takes as long as the rest of the database layer, and an ordinary start has nothing to migrate.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def revisions() -> list[str]:
    """Return the revisions that this program knows, the oldest first: what the names of their files begin with."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def head() -> str:
    """Return the revision that this program needs."""
    return revisions()[-1]


def _explained(url: URL, error: BaseException) -> str:
    """Return in one line what is wrong with the database at ``url`` and what to do about it."""
    original = getattr(error, "orig", None) or error
    # asyncpg's own exception stands behind SQLAlchemy's; before there is a connection it comes as it is.
    original = original.__cause__ or original
    name = type(original).__name__
    said = str(original).split("\n")[0][:200] or name
    if url.get_backend_name() == "sqlite":
        if "not a database" in said or "malformed" in said:
            return (
                f"{url.database} is damaged or no SQLite file ({said}): put a backup in its place or name another file"
            )
        if "locked" in said:
            return f"{url.database} is locked by another program ({said}): end that one, then try again"
        return f"{url.database} cannot be used ({said}): check the path, the rights of file and folder, and the disk"
    where = f"PostgreSQL at {url.host or url.query.get('host', 'localhost')}:{url.port or 5432}"
    if "InvalidPassword" in name or "InvalidAuthorization" in name:
        return f"{where} refuses the user {url.username} ({said}): correct the user and the password"
    if "InvalidCatalogName" in name:
        return f"{where} has no database {url.database} ({said}): create it or name another one"
    if isinstance(original, OSError):
        return f"{where} does not answer ({said}): start it or correct the address"
    return f"{where} does not do what is needed ({said}): check its state, the address and the rights of the user"


@contextlib.contextmanager
def explaining(url: URL) -> Iterator[None]:
    """Turn what the database's drivers raise into :class:`DatabaseUnavailable` with a line for the operator."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise DatabaseUnavailable(_explained(url, error)) from error
    except Exception as error:
        # Told by name: whoever uses SQLite need not load asyncpg.
        if not type(error).__module__.startswith("asyncpg."):
            raise
        raise DatabaseUnavailable(_explained(url, error)) from error


def known_revision(connection: Connection) -> str | None:
    """Return a database's revision, None for an empty one; raises :class:`DatabaseUnavailable` for one unknown here."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is not None and revision not in revisions():
        raise DatabaseUnavailable(
            f"its schema {revision} is unknown here, a newer program made it: start that one or put a backup back"
        )
    return revision


def _upgrade(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        # Several processes may start at once; the second waits and finds nothing to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def upgrade(url: str | URL, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate the database at ``url`` in one transaction; return the revision before and after.

    Raises :class:`~db.engine.DatabaseUnavailable`, which says what is wrong and what to do, and ``ValueError`` for an
    address that is none.
    """
    address = parse_url(url) if isinstance(url, str) else url
    with explaining(address):
        database = Database(address, pool_size=1)
        try:
            async with database.engine.execution_options(botfactory_write=True).begin() as connection:
                before = await connection.run_sync(known_revision)
                after = before
                if revision != "head" or before != head():
                    await connection.run_sync(_upgrade, revision)
                    after = await connection.run_sync(known_revision)
        except BaseException:
            # Nothing to fold back into a file that could not be used; trying would fail or wait in its turn.
            await database.engine.dispose()
            raise
        await database.close()
    return before, after


async def current(database: Database) -> str | None:
    """Return the revision that the database has, None for an empty one. Raises as :func:`upgrade` does."""
    with explaining(database.url):
        async with database.engine.connect() as connection:
            return await connection.run_sync(known_revision)
