"""WhatsApp: a second id of a customer, the account above a channel, and when a customer last wrote."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("contacts", sa.Column("alias", sa.String(128)))
    op.create_index("ix_contacts_channel_id_alias", "contacts", ["channel_id", "alias"])
    op.add_column("channels", sa.Column("parent_id", sa.String(64)))
    op.create_index("ix_channels_kind_parent_id", "channels", ["kind", "parent_id"])
    moment = sa.BigInteger() if op.get_bind().dialect.name == "sqlite" else sa.DateTime(timezone=True)
    op.add_column("conversations", sa.Column("last_inbound_at", moment))


def downgrade() -> None:
    op.drop_column("conversations", "last_inbound_at")
    op.drop_index("ix_channels_kind_parent_id", "channels")
    op.drop_column("channels", "parent_id")
    op.drop_index("ix_contacts_channel_id_alias", "contacts")
    op.drop_column("contacts", "alias")
