"""What model calls used and cost."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, Usd, UtcTime, utcnow


class AIUsage(Base):
    """One model call, failed ones too. ``input_tokens`` includes cached ones, ``output_tokens`` includes thinking.

    ``price_source``: ``book``, ``override`` or ``ceiling``. ``own_key``: the owner's own key paid.
    """

    __tablename__ = "ai_usage"
    __table_args__ = (
        Index("ix_ai_usage_owner_id_created_at", "owner_id", "created_at"),
        Index("ix_ai_usage_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    owner_id: Mapped[str] = mapped_column(Id)
    bot_id: Mapped[str | None] = mapped_column(Id, index=True)
    feature: Mapped[str] = mapped_column(String(32), default="answer")
    provider: Mapped[str] = mapped_column(String(32))
    model_asked: Mapped[str] = mapped_column(String(100))
    model_served: Mapped[str] = mapped_column(String(100), default="")
    outcome: Mapped[str] = mapped_column(String(32), default="ok")
    http_status: Mapped[int | None] = mapped_column()
    input_tokens: Mapped[int] = mapped_column(default=0)
    output_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    cache_write_tokens: Mapped[int] = mapped_column(default=0)
    cost_usd: Mapped[Decimal] = mapped_column(Usd, default=Decimal(0))
    price_source: Mapped[str] = mapped_column(String(16), default="book")
    own_key: Mapped[bool] = mapped_column(default=False)
    latency_ms: Mapped[int] = mapped_column(default=0)
    request_id: Mapped[str] = mapped_column(String(32), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
