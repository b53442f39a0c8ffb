"""The administrator's payments are found by the gateway that paid them, and by their state, however many there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: None = None
depends_on: None = None

_WAY = "coalesce(paid_by, gateway)"
# The first two for the lists, the last for the sums: it holds all that they need.
_INDEXES = (
    ("ix_payments_status_id", ("status", "id")),
    ("ix_payments_way_id", (_WAY, "id")),
    ("ix_payments_way_status", (_WAY, "status", "created_at", "sandbox", "amount_tiyin", "paid_by", "gateway")),
)


def upgrade() -> None:
    for name, columns in _INDEXES:
        op.create_index(name, "payments", [sa.text(_WAY) if each == _WAY else each for each in columns], unique=False)


def downgrade() -> None:
    for name, _ in reversed(_INDEXES):
        op.drop_index(name, table_name="payments")
