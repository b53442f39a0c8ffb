"""What an owner uses now: money of today, room of files. What was used on days: :mod:`services.statistics.costs`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models


async def cost_since(session: AsyncSession, owner_id: str, since: dt.datetime) -> Decimal:
    """Return what an owner's calls on the installation's keys cost since a moment, in US dollars."""
    row = models.AIUsage
    total: Decimal | None = await session.scalar(
        select(func.sum(row.cost_usd)).where(row.owner_id == owner_id, row.created_at >= since, row.own_key.is_(False))
    )
    return total or Decimal(0)


async def stored_bytes(session: AsyncSession, owner_id: str) -> int:
    """Return how many bytes of files of conversations are kept for an owner."""
    return int(await session.scalar(_STORED, {"p_owner": owner_id}) or 0)


_STORED = select(func.sum(models.Attachment.size)).where(
    models.Attachment.bot_id.in_(select(models.Bot.id).where(models.Bot.owner_id == bindparam("p_owner"))),
    models.Attachment.status == "stored",
)
