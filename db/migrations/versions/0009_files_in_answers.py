"""Documents that customers may receive, and why a conversation waits for a person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("documents", sa.Column("caption", sa.String(length=300), server_default="", nullable=False))
    op.add_column("conversations", sa.Column("waiting_reason", sa.String(length=16), nullable=True))
    op.add_column("attachments", sa.Column("document_id", sa.String(length=26), nullable=True))
    op.create_index("ix_attachments_document_id", "attachments", ["document_id"])


def downgrade() -> None:
    op.drop_index("ix_attachments_document_id", table_name="attachments")
    op.drop_column("attachments", "document_id")
    op.drop_column("conversations", "waiting_reason")
    op.drop_column("documents", "caption")
    op.drop_column("documents", "shared")
