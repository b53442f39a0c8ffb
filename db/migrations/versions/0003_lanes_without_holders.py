"""No index over who holds lanes: each claim and release had to keep it, and only a start asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: None = None
depends_on: None = None

_HELD = sa.text("holder IS NOT NULL")


def upgrade() -> None:
    op.drop_index("ix_lanes_held", "lanes", sqlite_where=_HELD, postgresql_where=_HELD)


def downgrade() -> None:
    op.create_index("ix_lanes_held", "lanes", ["holder"], sqlite_where=_HELD, postgresql_where=_HELD)
