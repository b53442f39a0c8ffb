"""Full-text index over the passages, kept in step by the database itself."""

from __future__ import annotations

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: None = None
depends_on: None = None

_NEW = "INSERT INTO chunk_index (rowid, bot_id, stems, grams) VALUES (new.id, new.bot_id, new.stems, new.grams);"
_OLD = (
    "INSERT INTO chunk_index (chunk_index, rowid, bot_id, stems, grams) "
    "VALUES ('delete', old.id, old.bot_id, old.stems, old.grams);"
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE chunk_index USING fts5("
            "bot_id, stems, grams, content='chunks', content_rowid='id', tokenize='ascii', detail='column')"
        )
        op.execute(f"CREATE TRIGGER chunks_insert AFTER INSERT ON chunks BEGIN {_NEW} END")
        op.execute(f"CREATE TRIGGER chunks_delete AFTER DELETE ON chunks BEGIN {_OLD} END")
        op.execute(
            f"CREATE TRIGGER chunks_update AFTER UPDATE OF bot_id, stems, grams ON chunks BEGIN {_OLD} {_NEW} END"
        )
        op.execute("INSERT INTO chunk_index (chunk_index) VALUES ('rebuild')")
    else:
        op.execute(
            "ALTER TABLE chunks ADD COLUMN terms tsvector "
            "GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, stems || ' ' || grams)) STORED"
        )
        op.execute("CREATE INDEX ix_chunks_terms ON chunks USING gin (terms)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for trigger in ("chunks_insert", "chunks_delete", "chunks_update"):
            op.execute(f"DROP TRIGGER {trigger}")
        op.execute("DROP TABLE chunk_index")
    else:
        op.execute("DROP INDEX ix_chunks_terms")
        op.execute("ALTER TABLE chunks DROP COLUMN terms")
