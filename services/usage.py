"""What model calls used and cost."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one provider, model, bot and feature; ``cost_usd`` in US dollars."""

    provider: str
    model: str
    bot_id: str | None
    feature: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal


async def summary(session: AsyncSession, user: models.User, since: dt.datetime, until: dt.datetime) -> list[UsageRow]:
    """Return what a person's bots used in a period, the dearest first. An administrator sees the own bots here as well."""
    row = models.AIUsage
    model = func.coalesce(func.nullif(row.model_served, ""), row.model_asked)
    cost = func.sum(row.cost_usd)
    rows = await session.execute(
        select(
            row.provider,
            model,
            row.bot_id,
            row.feature,
            func.count(),
            func.sum(row.input_tokens),
            func.sum(row.output_tokens),
            func.sum(row.cached_tokens),
            cost,
        )
        .where(row.owner_id == user.id, row.created_at >= since, row.created_at < until)
        .group_by(row.provider, model, row.bot_id, row.feature)
        .order_by(cost.desc(), row.provider)
    )
    return [
        UsageRow(
            provider,
            name,
            bot_id,
            feature,
            calls,
            int(given or 0),
            int(made or 0),
            int(cached or 0),
            total or Decimal(0),
        )
        for provider, name, bot_id, feature, calls, given, made, cached, total in rows
    ]


async def cost_since(session: AsyncSession, owner_id: str, since: dt.datetime) -> Decimal:
    """Return what an owner's calls on the installation's keys cost since a moment, in US dollars."""
    row = models.AIUsage
    total: Decimal | None = await session.scalar(
        select(func.sum(row.cost_usd)).where(row.owner_id == owner_id, row.created_at >= since, row.own_key.is_(False))
    )
    return total or Decimal(0)


async def stored_bytes(session: AsyncSession, owner_id: str) -> int:
    """Return how many bytes of files of conversations are kept for an owner."""
    file = models.Attachment
    bots = select(models.Bot.id).where(models.Bot.owner_id == owner_id)
    size = await session.scalar(select(func.sum(file.size)).where(file.bot_id.in_(bots), file.status == "stored"))
    return int(size or 0)
