"""Lanes know whose share of an owner's they are: claims are fair between the bots of an owner too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: None = None
depends_on: None = None

_ID_LENGTH = 26
_OPEN = sa.text("pending > 0")


def _ready(column: str) -> None:
    op.create_index(
        "ix_lanes_ready", "lanes", ["kind", column, "waiting_since"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )


def upgrade() -> None:
    op.add_column("lanes", sa.Column("share_id", sa.String(_ID_LENGTH), nullable=False, server_default=""))
    lane = sa.table("lanes", sa.column("key"), sa.column("owner_id"), sa.column("share_id"))
    bot = sa.table("bots", sa.column("id"))
    channel = sa.table("channels", sa.column("id"), sa.column("bot_id"))
    op.execute(sa.update(lane).values(share_id=lane.c.owner_id))
    for prefix, named, bot_id in (
        ("in:", channel.c.id, channel.c.bot_id),
        ("out:", channel.c.id, channel.c.bot_id),
        ("bulk:", channel.c.id, channel.c.bot_id),
        ("job:embed:", bot.c.id, bot.c.id),
        ("job:purge:", bot.c.id, bot.c.id),
    ):
        name = sa.func.substr(lane.c.key, len(prefix) + 1, _ID_LENGTH)
        known = sa.select(bot_id).where(named == name).scalar_subquery()
        op.execute(
            sa.update(lane)
            .where(lane.c.key.startswith(prefix))
            .values(share_id=sa.func.coalesce(known, lane.c.owner_id))
        )
    op.drop_index("ix_lanes_ready", "lanes")
    _ready("share_id")


def downgrade() -> None:
    op.drop_index("ix_lanes_ready", "lanes")
    _ready("owner_id")
    op.drop_column("lanes", "share_id")
