"""Migrations on both databases, empty and with data, up and down."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, delete, func, insert, inspect, select, table, text

from db import fulltext, migrate, models
from db.base import Base, utcnow
from db.engine import Database, DatabaseUnavailable
from tests.servers import ROOT, Run


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "db" / "migrations"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, servers_run: Run, tmp_path: Path) -> Iterator[str]:
    """The address of a database without tables."""
    with servers_run.database(request.param, tmp_path, migrated=False) as url:
        yield url


async def _fill(db: Database) -> None:
    """Put a row or more into every table."""
    known = await _columns(db)
    soon = utcnow() + dt.timedelta(days=1)
    async with db.write() as session:
        # As the product of that time stored them.
        async def stored(name: str, /, **row: Any) -> None:
            columns = [one for one in Base.metadata.tables[name].c if one.name in known[name] & row.keys()]
            values = {one.name: row[one.name] for one in columns}
            await session.execute(insert(table(name, *[column(one.name, one.type) for one in columns])).values(values))

        async def put(row: Base) -> None:
            for one in row.__table__.c:
                if getattr(row, one.name) is None and one.default is not None:
                    setattr(row, one.name, one.default.arg(None) if one.default.is_callable else one.default.arg)
            await stored(row.__tablename__, **{one.name: getattr(row, one.name) for one in row.__table__.c})

        owner = models.User(email="egasi@example.uz", full_name="Ega 😀 Эга")
        await put(owner)
        bot = models.Bot(owner_id=owner.id, name="Do‘kon")
        await put(bot)
        facts = {"external_id": "77", "credentials": "gAAAA", "settings": {"a": 1}}
        channel = models.Channel(bot_id=bot.id, kind="telegram", **facts)
        await put(channel)
        document = models.Document(bot_id=bot.id, name="narx.pdf", kind="pdf", status="ready", serving=True)
        await put(document)
        contact = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id="900", name="Aziza")
        await put(contact)
        content = models.DocumentContent(document_id=document.id, content=b"\x00\xff")
        passage = {"position": 0, "text": "Kafolat 3 yil", "stems": "kafolat 3 yil", "grams": "kaf"}
        chunk = models.Chunk(bot_id=bot.id, document_id=document.id, **passage)
        session.add_all([content, chunk])
        await session.flush()
        said = {"recent": [["user", "salom"]]}
        talk = models.Conversation(bot_id=bot.id, channel_id=channel.id, contact_id=contact.id, **said)
        await put(talk)
        wrote = {"author": "customer", "text": "Kafolat bormi? 🙂", "sources": [{"score": 0.5}]}
        message = models.Message(conversation_id=talk.id, **wrote)
        await put(message)
        session.add_all(
            [
                models.ChunkVector(chunk_id=chunk.id, bot_id=bot.id, model="m", vector=[0.6, -0.8]),
                models.UnansweredQuestion(bot_id=bot.id, question="?", folded="?"),
                models.Notice(user_id=owner.id, kind="conflict", key="k"),
                models.AIUsage(owner_id=owner.id, provider="gemini", model_asked="m"),
                models.AuditLog(actor_id=owner.id, action="ban", details={"why": "spam 😀"}),
                models.DialogState(key="1:900", state="name", data='{"name": "Do‘kon"}'),
                models.ApiToken(user_id=owner.id, token_hash="a" * 64, last4="abcd"),
                models.LoginLink(user_id=owner.id, token_hash="b" * 64, expires_at=soon),
            ]
        )
        await put(models.PanelSession(user_id=owner.id, id="c" * 64, expires_at=soon))

        if "members" in known:
            label = models.Label(owner_id=owner.id, name="VIP")
            group = models.ForumGroup(owner_id=owner.id, bot_id=bot.id, chat_id=-1001234567890)
            file = models.Attachment(bot_id=bot.id, message_id=message.id, kind="photo")
            session.add_all([label, group])
            await session.flush()
            await put(file)
            await put(models.Member(owner_id=owner.id, user_id=owner.id, role="manager"))
            session.add_all(
                [
                    models.Invitation(owner_id=owner.id, token_hash="d" * 64, role="operator", expires_at=soon),
                    models.AttachmentContent(attachment_id=file.id, content=b"\x00\xff"),
                    models.Upload(channel_id=channel.id, mime="image/png", size=2, content=b"\x00\xff"),
                    models.Note(conversation_id=talk.id, author_id=owner.id, text="Qayta yozadi"),
                    models.ConversationLabel(conversation_id=talk.id, label_id=label.id),
                    models.CannedReply(owner_id=owner.id, shortcut="manzil", text="Chilonzor 5"),
                    models.BusinessConnection(id="bc1", channel_id=channel.id, user_id=7_000_000_000),
                    models.ForumTopic(group_id=group.id, conversation_id=talk.id, thread_id=5),
                    models.ForumMessage(group_id=group.id, telegram_id=6, message_id=message.id),
                    models.TestQuestion(bot_id=bot.id, question="Kafolat bormi?", expected="3 yil"),
                    models.TestRun(bot_id=bot.id, results={"x": 1}),
                ]
            )

        if "joined_conversations" in known:
            session.add(models.JoinedConversation(id="former", conversation_id=talk.id))
        if "conversation_texts" in known:
            session.add(models.ConversationText(conversation_id=talk.id, bot_id=bot.id, who="aziza", words="kafolat"))

        if "payments" in known:
            coupon = models.Coupon(code="YOZ10_UZ_2026", percent=10)
            referral = models.Referral(partner_id=owner.id, user_id=owner.id, source="web", touched_at=soon)
            session.add_all([coupon, referral])
            await session.flush()
            choice = {"plan": "basic", "period": "monthly"}
            bill = {"gateway": "payme", "price_tiyin": 2900000000000, "amount_tiyin": 2900000000000, "expires_at": soon}
            payment = models.Payment(number="0012345", user_id=owner.id, coupon_id=coupon.id, **choice, **bill)
            session.add(payment)
            await session.flush()
            attempt = {"gateway": "payme", "external_id": "65f0", "amount_tiyin": 29000000}
            await put(models.MessageQuota(user_id=owner.id, month="2026-11", used=3))
            span = {"source": "payment", "starts_at": utcnow(), "ends_at": soon}
            entry = {"kind": "commission", "amount_tiyin": 5800000, "available_at": soon}
            session.add_all(
                [
                    models.Subscription(user_id=owner.id, payment_id=payment.id, **choice, **span),
                    models.PaymentTransaction(payment_id=payment.id, provider_time=soon, created_at=soon, **attempt),
                    models.PaymentEvent(payment_id=payment.id, action="CreateTransaction"),
                    models.AccessRequest(user_id=owner.id, coupon_id=coupon.id, **choice),
                    models.CouponUse(coupon_id=coupon.id, user_id=owner.id, payment_id=payment.id),
                    models.ReferralTouch(visitor="tg:900", partner_id=owner.id),
                    models.ReferralClicks(partner_id=owner.id, day="2026-11-21", clicks=2),
                    models.Letter(user_id=owner.id, kind="reminder", key="reminder:1"),
                    models.LetterText(kind="reminder", language="uz", part="subject", text="Tarif tugayapti"),
                    models.AccountCode(user_id=owner.id, purpose="reset", token_hash="e" * 64, expires_at=soon),
                    models.RecoveryCode(user_id=owner.id, code_hash="f" * 64),
                ]
            )
            await put(
                models.ReferralEntry(partner_id=owner.id, referral_id=referral.id, payment_id=payment.id, **entry)
            )

        if "broadcasts" in known:
            broadcast = models.Broadcast(bot_id=bot.id, title="Aksiya", texts={"uz": "20 % chegirma"})
            endpoint = models.Endpoint(owner_id=owner.id, url="https://crm.example.uz/hook", secret="gAAAA")
            view = models.RemoteView(
                owner_id=owner.id, admin_id=owner.id, reason="Bot javob bermayapti", expires_at=soon
            )
            announcement = models.Announcement(texts={"uz": {"title": "Yangilik", "text": "Yangi"}})
            session.add_all([broadcast, endpoint, view, announcement, models.SupportTalk(owner_id=owner.id)])
            await session.flush()
            called = {"feature": "answer", "provider": "gemini", "model": "m"}
            session.add_all(
                [
                    models.DayNumbers(bot_id=bot.id, day="2026-11-21", channel="telegram", language="uz", waits=[3, 1]),
                    models.DayCosts(owner_id=owner.id, day="2026-11-21", cost_usd=Decimal("0.0123"), **called),
                    models.CountedDay(day="2026-11-21"),
                    models.BotVersion(bot_id=bot.id, number=1, content={"system_prompt": "Salom"}),
                    models.BroadcastDelivery(broadcast_id=broadcast.id, contact_id=contact.id),
                    models.EndpointEvent(endpoint_id=endpoint.id, event="message.received", payload="{}"),
                    models.SupportMessage(owner_id=owner.id, text="Yordam kerak"),
                    models.SupportPost(admin_id=owner.id, owner_id=owner.id, upto="0" * 26, number=7_000_000_000),
                    models.RemoteViewPage(view_id=view.id, method="GET", path="/dashboard"),
                    models.AnnouncementSeen(announcement_id=announcement.id, user_id=owner.id),
                    models.ErrorRecord(fingerprint="0" * 64, level="error", event="job_failed"),
                    models.Override(key="ai.roles.answer", value=["gemini:flash"]),
                ]
            )

        tried = {"status": "new", "attempts": 2, "failures": 0}
        update = {"channel_id": channel.id, "external_id": "1", "payload": "{}", "request_id": ""}
        await stored("inbox", lane="in:x:1", received_at=utcnow(), **update, **tried)
        sent = {"channel_id": channel.id, "recipient": "900", "payload": "{}", "request_id": "", "unsure": False}
        await stored("outbox", lane="out:x:1", status="queued", attempts=0, created_at=utcnow(), **sent)
        await stored("jobs", lane="job:x", kind="clean_up", payload={"n": 1}, created_at=utcnow(), **tried)
        # 0004 finds whose share they are.
        lane = {"pending": 1, "waiting_since": 1.5, "run_at": 0, "lease_until": 0, "claim_no": 0}
        for key, kind, share_id in (
            (f"in:{channel.id}:900", "inbox", bot.id),
            (f"out:{channel.id}:900", "outbox", bot.id),
            (f"bulk:{channel.id}:900", "bulk", bot.id),
            (f"job:embed:{bot.id}", "jobs", bot.id),
            (f"job:documents:{owner.id}", "jobs", owner.id),
            ("in:factory:900", "inbox", ""),
            ("job:upkeep:clean_up", "jobs", ""),
        ):
            row = {**lane, "key": key, "kind": kind, "owner_id": owner.id if share_id else "", "share_id": share_id}
            await stored("lanes", **row)


async def _columns(db: Database) -> dict[str, set[str]]:
    """Return the columns of every table at the database's present revision."""

    def look(connection: Connection) -> dict[str, set[str]]:
        found = inspect(connection)
        return {name: {str(one["name"]) for one in found.get_columns(name)} for name in found.get_table_names()}

    async with db.engine.connect() as connection:
        return await connection.run_sync(look)


async def _content(db: Database, columns: dict[str, set[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in these columns of all tables."""
    async with db.read() as session:
        return {
            table.name: sorted(
                (
                    tuple(row)
                    for row in await session.execute(
                        select(*[column for column in table.c if column.name in columns[table.name]])
                    )
                ),
                key=lambda row: str(row[0]),
            )
            for table in Base.metadata.sorted_tables
            if table.name in columns
        }


async def _empty(db: Database) -> list[str]:
    """Return the tables without a row, of those that the database has at its present revision."""

    def look(connection: Connection) -> list[str]:
        names = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
        return [name for name in names if not connection.scalar(select(func.count()).select_from(table(name)))]

    async with db.engine.connect() as connection:
        return await connection.run_sync(look)


_INDEXES = ("chunk_index", "conversation_index", "person_index")
"""Virtual tables of SQLite and what belongs to them."""


# SQLite's reflection leaves indexes of expressions out: those are compared by name.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
async def test_the_schema_is_what_the_models_say(database_url: str) -> None:
    db = Database(database_url, pool_size=2)

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _: not (kind == "table" and str(name).startswith(_INDEXES)),
            },
        )
        # Made by hand for the full text search of PostgreSQL.
        return [
            found
            for found in compare_metadata(context, Base.metadata)
            if "ix_users_pieces" not in str(found)
            and ("terms" not in str(found) or not any(name in str(found) for name in ("chunks", "conversation_texts")))
        ]

    try:
        async with db.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
            if connection.dialect.name == "sqlite":
                found = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'index'"))
                there = {name for (name,) in found}
                assert {index.name for one in Base.metadata.tables.values() for index in one.indexes} <= there
        assert await migrate.current(db) == migrate.head()
    finally:
        await db.close()


def test_the_names_of_the_files_tell_the_revisions() -> None:
    known = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
    assert migrate.revisions() == known[::-1]
    assert migrate.head() == ScriptDirectory.from_config(_config()).get_current_head()


def test_a_start_with_nothing_to_migrate_loads_no_alembic(empty_url: str) -> None:
    asyncio.run(migrate.upgrade(empty_url))
    program = (
        "import asyncio, sys; from db import migrate; "
        "print(asyncio.run(migrate.upgrade(sys.argv[1])), 'alembic' in sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, empty_url], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == f"('{migrate.head()}', '{migrate.head()}') False"


async def _passages_are_found_and_replaced(db: Database) -> None:
    """What was written is found by its words, and what is deleted is not."""
    async with db.read() as session:
        chunk = (await session.scalars(select(models.Chunk))).one()
        assert await fulltext.candidates(session, chunk.bot_id, ["kafolat"], [], 5) == [chunk.id]
    async with db.write() as session:
        await session.execute(delete(models.Chunk))
    async with db.read() as session:
        assert await fulltext.candidates(session, chunk.bot_id, ["kafolat"], [], 5) == []


def _down(connection: Connection, revision: str) -> None:
    command.downgrade(_config(connection), revision)


async def test_every_migration_goes_up_and_down_with_data(empty_url: str) -> None:
    first = migrate.revisions()[0]
    assert await migrate.upgrade(empty_url, first) == (None, first)
    db = Database(empty_url, pool_size=2)
    try:
        columns = await _columns(db)
        assert await migrate.upgrade(empty_url) == (first, migrate.head())
        await _fill(db)
        content = await _content(db, columns)
        assert not await _empty(db)
        # A second time changes nothing.
        assert await migrate.upgrade(empty_url) == (migrate.head(), migrate.head())
        revisions = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]

        # Down to the first tables step by step, and up again: what people wrote is still there.
        for revision in revisions[1:]:
            async with db.engine.execution_options(botfactory_write=True).begin() as connection:
                await connection.run_sync(_down, revision)
            assert await migrate.current(db) == revision
            assert not await _empty(db)
        await migrate.upgrade(empty_url)
        assert await _content(db, columns) == content
        async with db.engine.execution_options(botfactory_write=True).begin() as connection:
            await connection.run_sync(_down, "base")
        assert await migrate.current(db) is None
        await migrate.upgrade(empty_url)
        async with db.read() as session:
            assert await session.scalar(select(func.count()).select_from(models.Bot)) == 0
        await _fill(db)
        await _passages_are_found_and_replaced(db)
    finally:
        await db.close()


async def test_from_every_version_with_data_of_its_own(empty_url: str, servers_run: Run, tmp_path: Path) -> None:
    """What was written at each version is there at the newest: in copies of one database that goes up step by step."""
    for revision in migrate.revisions()[:-1]:
        assert (await migrate.upgrade(empty_url, revision))[1] == revision
        with servers_run.copy(empty_url, tmp_path / revision) as copy:
            db = Database(copy, pool_size=2)
            try:
                await _goes_up(db, copy, revision)
                if revision == migrate.revisions()[0]:
                    # Rows that every migration has changed, and all the way back.
                    async with db.engine.execution_options(botfactory_write=True).begin() as connection:
                        await connection.run_sync(_down, "base")
                    assert await migrate.current(db) is None
            finally:
                await db.close()


async def _goes_up(db: Database, url: str, revision: str) -> None:
    """Write what people wrote at this version and look for it at the newest."""
    await _fill(db)
    assert not await _empty(db)
    columns = await _columns(db)
    content = await _content(db, columns)
    assert await migrate.upgrade(url) == (revision, migrate.head())
    assert await _content(db, columns) == content
    async with db.read() as session:
        lanes = (await session.execute(select(models.Lane.owner_id, models.Lane.share_id))).all()
        (bot,) = (await session.scalars(select(models.Bot))).all()
    assert sorted(lanes) == [("", "")] * 2 + sorted([(bot.owner_id, bot.id)] * 4 + [(bot.owner_id, bot.owner_id)])
    await _passages_are_found_and_replaced(db)


_MIGRATE_AND_DIE = """
import asyncio, os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from db import migrate
left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(migrate.upgrade(sys.argv[1]))
print(1_000_000 - left)
"""


async def _migrate_and_die(url: str, at: int) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MIGRATE_AND_DIE, url, str(at), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    return child.returncode, said.decode()


async def test_what_owners_taught_and_answered_is_measured(empty_url: str) -> None:
    """From before both were counted: answers by the bytes of their text, messages of a month as answered ones."""
    await migrate.upgrade(empty_url, "0010")
    db = Database(empty_url, pool_size=1)
    try:
        await _fill(db)
        async with db.write() as session:
            bot = await session.scalar(text("SELECT bot_id FROM documents"))
            await session.execute(text("UPDATE documents SET kind = 'answers', size = 0"))
            await session.execute(text("UPDATE chunks SET text = 'Парковка борми?\nHa'"))
        await migrate.upgrade(empty_url)
        async with db.read() as session:
            document = (await session.scalars(select(models.Document))).one()
            assert document.bot_id == bot and document.size == len("Парковка борми?\nHa".encode())
            quota = (await session.scalars(select(models.MessageQuota))).one()
            assert (quota.used, quota.settled) == (3, 3)
    finally:
        await db.close()


async def test_moments_that_were_stored_as_text(empty_url: str) -> None:
    await migrate.upgrade(empty_url, "0013")
    db = Database(empty_url, pool_size=1)
    moment = dt.datetime(2026, 11, 22, 13, 33, 3, tzinfo=dt.UTC)
    try:
        await _fill(db)
        async with db.write() as session:
            stored = "2026-11-22 13:33:03.785262" if db.is_sqlite else moment
            await session.execute(text("UPDATE notices SET resolved_at = :stored"), {"stored": stored})
        await migrate.upgrade(empty_url)
        async with db.read() as session:
            assert (await session.scalars(select(models.Notice.resolved_at))).one() == moment
    finally:
        await db.close()


async def test_killed_during_a_migration(empty_url: str, servers_run: Run, tmp_path: Path) -> None:
    await migrate.upgrade(empty_url, "0001")
    db = Database(empty_url, pool_size=2)
    try:
        await _fill(db)
        columns = await _columns(db)
        content = await _content(db, columns)
        assert not await _empty(db)
        # How many statements it takes is counted on an empty database of the same kind.
        kind = "sqlite" if db.is_sqlite else "postgresql"
        with servers_run.database(kind, tmp_path / "other", migrated=False) as other:
            await migrate.upgrade(other, "0001")
            status, said = await _migrate_and_die(other, 1_000_000)
        assert status == 0
        statements = int(said)
        assert statements > 3
        for at in sorted({3, statements // 2, statements - 1}):
            assert (await _migrate_and_die(empty_url, at))[0] == -signal.SIGKILL
            assert await migrate.current(db) == "0001"
            assert await _content(db, columns) == content
        assert await migrate.upgrade(empty_url) == ("0001", migrate.head())
        assert await _content(db, columns) == content
    finally:
        await db.close()


async def test_two_processes_that_migrate_at_once(servers_run: Run, tmp_path: Path) -> None:
    with servers_run.database("postgresql", tmp_path, migrated=False) as url:
        results = await asyncio.gather(*(migrate.upgrade(url) for _ in range(3)))
        assert sorted(results, key=str)[-1] == (None, migrate.head())
        assert {after for _, after in results} == {migrate.head()}


async def test_a_schema_of_a_newer_program_is_left_alone(database_url: str) -> None:
    db = Database(database_url, pool_size=1)
    try:
        async with db.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        for attempt in (migrate.upgrade(database_url), migrate.current(db)):
            with pytest.raises(DatabaseUnavailable, match="its schema 9999 is unknown here, a newer program made it"):
                await attempt
        async with db.read() as session:
            assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    finally:
        await db.close()


async def test_tables_of_another_program_are_left_alone(empty_url: str) -> None:
    db = Database(empty_url, pool_size=1)
    try:
        async with db.write() as session:
            await session.execute(text("CREATE TABLE users (mine INTEGER)"))
        with pytest.raises(DatabaseUnavailable, match="already exists"):
            await migrate.upgrade(empty_url)
        assert await migrate.current(db) is None
        async with db.read() as session:
            assert (await session.execute(text("SELECT mine FROM users"))).all() == []
    finally:
        await db.close()
