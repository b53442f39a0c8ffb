"""Documents that customers may receive, why a conversation waits for a person, and where joined conversations went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("documents", sa.Column("caption", sa.String(length=300), server_default="", nullable=False))
    op.add_column("conversations", sa.Column("waiting_reason", sa.String(length=16), nullable=True))
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


def downgrade() -> None:
    op.drop_index(op.f("ix_joined_conversations_conversation_id"), table_name="joined_conversations")
    op.drop_table("joined_conversations")
    op.drop_column("conversations", "waiting_reason")
    op.drop_column("documents", "caption")
    op.drop_column("documents", "shared")
