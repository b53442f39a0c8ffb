"""Members for whom a plan has no room, answers that were given of a month's messages, the size of what owners taught."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: None = None
depends_on: None = None

_TAUGHT = "UPDATE documents SET size = {size} WHERE kind = 'answers'"
_SIZE = "COALESCE((SELECT sum({bytes}) FROM chunks WHERE chunks.document_id = documents.id), 0)"


def upgrade() -> None:
    op.add_column("members", sa.Column("paused_at", db.base.UtcTime(), nullable=True))
    op.add_column("message_quotas", sa.Column("settled", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE message_quotas SET settled = used")
    sqlite = op.get_bind().dialect.name == "sqlite"
    size = _SIZE.format(bytes="length(CAST(chunks.text AS BLOB))" if sqlite else "octet_length(chunks.text)")
    op.execute(_TAUGHT.format(size=size))


def downgrade() -> None:
    op.execute(_TAUGHT.format(size="0"))
    op.drop_column("message_quotas", "settled")
    op.drop_column("members", "paused_at")
