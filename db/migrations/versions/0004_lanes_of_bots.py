"""Lanes know their bot: claims are fair between the bots of an owner too."""

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
    op.add_column("lanes", sa.Column("bot_id", sa.String(_ID_LENGTH), nullable=False, server_default=""))
    lane = sa.table("lanes", sa.column("key"), sa.column("kind"), sa.column("bot_id"))
    bot = sa.table("bots", sa.column("id"))
    channel = sa.table("channels", sa.column("id"), sa.column("bot_id"))
    for prefix, found in (
        ("in:", sa.select(channel.c.bot_id)),
        ("out:", sa.select(channel.c.bot_id)),
        ("bulk:", sa.select(channel.c.bot_id)),
        ("job:embed:", sa.select(bot.c.id)),
        ("job:purge:", sa.select(bot.c.id)),
    ):
        table = bot if prefix.startswith("job:") else channel
        named = sa.func.substr(lane.c.key, len(prefix) + 1, _ID_LENGTH)
        mine = found.where(table.c.id == named).scalar_subquery()
        op.execute(sa.update(lane).where(lane.c.key.startswith(prefix)).values(bot_id=sa.func.coalesce(mine, "")))
    op.drop_index("ix_lanes_ready", "lanes")
    _ready("bot_id")


def downgrade() -> None:
    op.drop_index("ix_lanes_ready", "lanes")
    _ready("owner_id")
    op.drop_column("lanes", "bot_id")
