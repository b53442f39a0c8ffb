"""PostgreSQL's addresses as hosting platforms write them, and a pooler in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from db import migrate
from db.engine import Database, parse_url

START, TLS = 196608, 80877103
TRACKED = {"user", "database", "client_encoding", "datestyle", "timezone", "application_name"}


@pytest.mark.parametrize(
    "written",
    [
        "sslmode=prefer&channel_binding=require",
        "pgbouncer=true&connection_limit=1&pool_timeout=20",
        "pgbouncer=false&target_session_attrs=read-write&connect_timeout=15&application_name=shop",
        "options=-c%20search_path%3Dpublic%20-c%20work_mem%3D1234kB&keepalives=1",
    ],
)
async def test_parameters_of_platforms(postgres_url: str, written: str) -> None:
    db = Database(f"{postgres_url}&{written}")
    try:
        async with db.read() as session:
            said = {
                name: await session.scalar(text(f"SHOW {name}"))
                for name in ("synchronous_commit", "application_name", "timezone", "work_mem")
            }
    finally:
        await db.close()
    memory = said.pop("work_mem")
    assert said == {"synchronous_commit": "on", "application_name": "botfactory", "timezone": "UTC"}
    assert (memory == "1234kB") == ("work_mem" in written)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("postgresql://u:hidden@h/d?sslmode=maybe", "its parameter sslmode must be one of disable, allow, "),
        ("postgresql://u:hidden@h/d?sslmode=require&sslmode=allow", "its parameter sslmode must be one of"),
        ("postgresql://u:hidden@h/d?target_session_attrs=standby", "its parameter target_session_attrs must be one of"),
        ("postgresql://u:hidden@h/d?pgbouncer=hidden", "its parameter pgbouncer must be one of true, false"),
        ("postgresql://u:hidden@h/d?schema=hidden", "its parameter schema is not understood here: leave it out"),
        ("postgresql://u:hidden@h:abc/d", "it is not a database address"),
        ("sqlite:///x.db?cache=hidden", "an SQLite address takes no parameters: leave out what follows the ?"),
    ],
)
def test_parameters_that_are_not_understood_are_one_line(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason.replace('?', '[?]')}") as caught:
        parse_url(written)
    assert "hidden" not in str(caught.value)


class Pooler:
    """Gives each transaction the server's connection that has rested longest, as PgBouncer does in its transaction mode.

    ``path`` is the server's socket. A client that starts with a parameter PgBouncer does not know is refused.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._resting: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._greeting = b""

    @contextlib.asynccontextmanager
    async def listening(self, database: str, connections: int = 2) -> AsyncIterator[int]:
        """Serve while the block lasts; gives the port."""
        servers = []
        start = b"user\0postgres\0database\0" + database.encode() + b"\0\0"
        for _ in range(connections):
            reader, writer = await asyncio.open_unix_connection(self._path)
            writer.write(struct.pack("!II", len(start) + 8, START) + start)
            greeting = [b""]
            while greeting[-1][:1] != b"Z":
                greeting.append(await self._message(reader))
            self._greeting = b"".join(greeting)
            servers.append(writer)
            self._resting.put_nowait((reader, writer))
        async with await asyncio.start_server(self._client, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]
        for writer in servers:
            writer.close()

    @staticmethod
    async def _message(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(5)
        return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            if await self._started(reader, writer):
                await self._transactions(reader, writer)

    async def _started(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        length, kind = struct.unpack("!II", await reader.readexactly(8))
        if kind == TLS:
            writer.write(b"N")
            length, kind = struct.unpack("!II", await reader.readexactly(8))
        assert kind == START
        names = (await reader.readexactly(length - 8)).split(b"\0")[:-2:2]
        unknown = {name.decode().lower() for name in names} - TRACKED
        if unknown:
            fault = f"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: {unknown.pop()}\0\0".encode()
            writer.write(b"E" + struct.pack("!I", len(fault) + 4) + fault)
            return False
        writer.write(self._greeting)
        return True

    async def _transactions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = asyncio.ensure_future(self._message(reader))
        while (message := await asked)[:1] != b"X":
            answers, server = held = await self._resting.get()
            over = asyncio.ensure_future(self._transaction(answers, writer))
            try:
                server.write(message)
                asked = asyncio.ensure_future(self._message(reader))
                await asyncio.wait({asked, over}, return_when=asyncio.FIRST_COMPLETED)
                while not over.done():
                    server.write(asked.result())
                    asked = asyncio.ensure_future(self._message(reader))
                    await asyncio.wait({asked, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._resting.put_nowait(held)

    async def _transaction(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = b""
        while message[:1] != b"Z" or message[-1:] != b"I":
            message = await self._message(answers)
            writer.write(message)


async def test_behind_a_pooler(postgres_url: str) -> None:
    """Two clients, whose transactions come to the server's connections in turn, and a schema that is looked at."""
    url = parse_url(postgres_url)
    database = str(url.database)
    async with Pooler(f"{url.query['host']}/.s.PGSQL.5432").listening(database) as port:
        clients = [
            Database(f"postgresql://postgres@127.0.0.1:{port}/{database}?pgbouncer=true", pool_size=2) for _ in "ab"
        ]
        question = text("SELECT CAST(:n AS bigint) + count(*) FROM lanes")

        def add(connection: Connection, n: int) -> int:
            return int(connection.scalar(question, {"n": n}) or 0)

        try:
            assert await migrate.current(clients[0]) == migrate.head()
            for n in range(6):
                for client in clients:
                    assert await client.transact(add, n) == n
                    async with client.read() as session:
                        assert await session.scalar(question, {"n": n}) == n
        finally:
            for client in clients:
                await client.close()
