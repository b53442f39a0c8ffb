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
    # What notices still tell of those that wait now; the wish for a person counts more.
    for kind, reason in (("gave_up", "gave_up"), ("operator_wanted", "asked")):
        op.execute(
            sa.text(
                "UPDATE conversations SET waiting_reason = :reason WHERE status = 'waiting' AND id IN "
                "(SELECT substr(key, 10) FROM notices WHERE kind = :kind AND key LIKE 'operator:%' AND resolved_at IS NULL)"
            ).bindparams(reason=reason, kind=kind)
        )


def downgrade() -> None:
    op.drop_column("conversations", "waiting_reason")
    op.drop_column("documents", "caption")
    op.drop_column("documents", "shared")
