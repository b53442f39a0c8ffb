"""When a notice was put away is a number of microseconds on SQLite like every moment; it was stored as text."""

from __future__ import annotations

from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "UPDATE notices SET resolved_at = CAST(strftime('%s', substr(resolved_at, 1, 19)) AS INTEGER) * 1000000 "
            "WHERE typeof(resolved_at) = 'text'"
        )


def downgrade() -> None:
    """Nothing: the version before reads both."""
