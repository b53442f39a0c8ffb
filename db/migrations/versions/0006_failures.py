"""Errors are counted apart from tries: the other tries ended with the process, which may not be the item's fault."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    for table in ("inbox", "jobs"):
        op.add_column(table, sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for table in ("inbox", "jobs"):
        op.drop_column(table, "failures")
