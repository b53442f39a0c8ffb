"""Documents that customers may receive, why a conversation waits, what it is found by, where joined conversations went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: None = None
depends_on: None = None

# Of a conversation that is found by something else from now on: (name, table, when and if, what is noted). Cheap enough for every
# message; the words are read, folded and indexed later, many at a time.
_DUE = (
    ("conversations_due", "conversations", "AFTER INSERT", "", "new.id, NULL, {no}"),
    ("messages_due_new", "messages", "AFTER INSERT", "new.text <> ''", "new.conversation_id, new.id, {no}"),
    (
        "messages_due_changed",
        "messages",
        "AFTER UPDATE OF text",
        "old.text <> new.text",
        "new.conversation_id, NULL, {yes}",
    ),
    ("messages_due_gone", "messages", "AFTER DELETE", "old.text <> ''", "old.conversation_id, NULL, {yes}"),
    (
        "contacts_due",
        "contacts",
        "AFTER UPDATE OF name, username, phone",
        "old.name <> new.name OR old.username <> new.username OR old.phone IS DISTINCT FROM new.phone",
        "",
    ),
)
_NOTE = "INSERT INTO conversation_dues (conversation_id, message_id, whole)"
_OF_CONTACT = "SELECT id, NULL, {no} FROM conversations WHERE contact_id = new.id"
_EVERYTHING = "SELECT id, NULL, {yes} FROM conversations ORDER BY last_message_at"
_STILL_THERE = " WHERE EXISTS (SELECT 1 FROM conversations WHERE id = old.conversation_id)"
_NEW = "INSERT INTO conversation_index (rowid, bot_id, who, words) VALUES (new.id, new.bot_id, new.who, new.words);"
_OLD = (
    "INSERT INTO conversation_index (conversation_index, rowid, bot_id, who, words) "
    "VALUES ('delete', old.id, old.bot_id, old.who, old.words);"
)


def _make_due(sqlite: bool) -> None:
    words = {"no": "0", "yes": "1"} if sqlite else {"no": "FALSE", "yes": "TRUE"}
    for name, table, when, condition, values in _DUE:
        source = (f"SELECT {values}" if values else _OF_CONTACT).format(**words)
        note = f"{_NOTE} {source}{_STILL_THERE if name == 'messages_due_gone' else ''};"
        if sqlite:
            only = f" WHEN {condition.replace('IS DISTINCT FROM', 'IS NOT')}" if condition else ""
            op.execute(f"CREATE TRIGGER {name} {when} ON {table}{only} BEGIN {note} END")
        else:
            only = f" WHEN ({condition})" if condition else ""
            op.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {note} RETURN NULL; END $$"
            )
            op.execute(f"CREATE TRIGGER {name} {when} ON {table} FOR EACH ROW{only} EXECUTE FUNCTION {name}()")


def _make_index(sqlite: bool) -> None:
    if sqlite:
        op.execute(
            "CREATE VIRTUAL TABLE conversation_index USING fts5(bot_id, who, words, content='conversation_texts', "
            "content_rowid='id', tokenize='ascii', detail='column', prefix='2 3')"
        )
        op.execute(f"CREATE TRIGGER conversation_texts_insert AFTER INSERT ON conversation_texts BEGIN {_NEW} END")
        op.execute(f"CREATE TRIGGER conversation_texts_delete AFTER DELETE ON conversation_texts BEGIN {_OLD} END")
        op.execute(
            "CREATE TRIGGER conversation_texts_update AFTER UPDATE OF bot_id, who, words ON conversation_texts "
            f"BEGIN {_OLD} {_NEW} END"
        )
    else:
        # As they stand: the parser of to_tsvector would make something else of what looks like a number or a name.
        op.execute(
            "ALTER TABLE conversation_texts ADD COLUMN terms tsvector GENERATED ALWAYS AS (array_to_tsvector(array_remove("
            "string_to_array(bot_id || ' ' || who || ' ' || words, ' '), ''))) STORED"
        )
        op.execute("CREATE INDEX ix_conversation_texts_terms ON conversation_texts USING gin (terms)")


def upgrade() -> None:
    op.add_column("documents", sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("documents", sa.Column("caption", sa.String(length=300), server_default="", nullable=False))
    op.add_column("conversations", sa.Column("waiting_reason", sa.String(length=16), nullable=True))
    op.add_column("attachments", sa.Column("document_id", sa.String(length=26), nullable=True))
    op.create_index("ix_attachments_document_id", "attachments", ["document_id"])
    op.create_table(
        "joined_conversations",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_joined_conversations_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joined_conversations")),
    )
    op.create_index(
        op.f("ix_joined_conversations_conversation_id"), "joined_conversations", ["conversation_id"], unique=False
    )
    # What notices still tell of those that wait now; the wish for a person counts more.
    for kind, reason in (("gave_up", "gave_up"), ("operator_wanted", "asked")):
        op.execute(
            sa.text(
                "UPDATE conversations SET waiting_reason = :reason WHERE status = 'waiting' AND id IN "
                "(SELECT substr(key, 10) FROM notices WHERE kind = :kind AND key LIKE 'operator:%' AND resolved_at IS NULL)"
            ).bindparams(reason=reason, kind=kind)
        )
    sqlite = op.get_bind().dialect.name == "sqlite"
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "conversation_texts",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_texts_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_texts")),
        sa.UniqueConstraint("conversation_id", name=op.f("uq_conversation_texts_conversation_id")),
    )
    op.create_table(
        "conversation_dues",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("message_id", sa.String(length=26), nullable=True),
        sa.Column("whole", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_dues")),
    )
    _make_index(sqlite)
    _make_due(sqlite)
    # What was said before: the program reads it once it runs, the newest first.
    op.execute(f"{_NOTE} {_EVERYTHING.format(yes='1' if sqlite else 'TRUE')}")


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for name, table, *_ in _DUE:
        op.execute(f"DROP TRIGGER {name}" if sqlite else f"DROP TRIGGER {name} ON {table}")
        if not sqlite:
            op.execute(f"DROP FUNCTION {name}()")
    if sqlite:
        op.execute("DROP TABLE conversation_index")
    op.drop_table("conversation_dues")
    op.drop_table("conversation_texts")
    op.drop_index(op.f("ix_joined_conversations_conversation_id"), table_name="joined_conversations")
    op.drop_table("joined_conversations")
    op.drop_index("ix_attachments_document_id", table_name="attachments")
    op.drop_column("attachments", "document_id")
    op.drop_column("conversations", "waiting_reason")
    op.drop_column("documents", "caption")
    op.drop_column("documents", "shared")
