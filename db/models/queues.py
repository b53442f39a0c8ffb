"""The conveyor: rows are the truth. See ``services.lanes`` for how they move."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, JsonText, UtcTime, utcnow


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Lane(Base):
    """A line in which items are worked in order by one worker at a time: a conversation, a receiving chat, or jobs.

    ``kind``: ``inbox``, ``outbox``, ``bulk`` or ``jobs``; ``leader`` is no queue but a right that one process has.
    ``owner_id`` (empty: the product's own) and ``share_id``, the bot or the owner again, say between whom claims are fair.
    ``pending`` counts the open items and changes only under this row's lock. ``waiting_since``, ``run_at`` (not before),
    ``lease_until``: seconds since 1970 by the database's clock. ``claim_no`` grows with each claim and fences off a worker
    that overslept.
    """

    __tablename__ = "lanes"
    __table_args__ = (Index("ix_lanes_ready", "kind", "share_id", "waiting_since", **_where("pending > 0")),)

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    owner_id: Mapped[str] = mapped_column(Id, default="")
    share_id: Mapped[str] = mapped_column(Id, default="", server_default="")
    pending: Mapped[int] = mapped_column(default=0)
    waiting_since: Mapped[float] = mapped_column(default=0.0)
    run_at: Mapped[float] = mapped_column(default=0.0)
    holder: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float] = mapped_column(default=0.0)
    claim_no: Mapped[int] = mapped_column(default=0)


class InboxItem(Base):
    """A received update. ``status``: ``new``, ``done``, ``dead`` (set aside). Done rows stay a while to know repeats.

    ``attempts``: how often it was taken and not given back; ``failures``: how many of these ended with an error. While nobody
    has it in hand, the others ended with the process.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        Index("uq_inbox_channel_id_external_id", "channel_id", "external_id", unique=True),
        Index("ix_inbox_lane_id", "lane", "id", **_where("status = 'new'")),
        Index("ix_inbox_received_at", "received_at"),
        Index("ix_inbox_dead", "id", **_where("status = 'dead'")),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    lane: Mapped[str] = mapped_column(String(200))
    channel_id: Mapped[str] = mapped_column(Id)
    external_id: Mapped[str] = mapped_column(String(128))
    payload: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(String(32), default="")
    status: Mapped[str] = mapped_column(String(8), default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[str | None] = mapped_column(String(300))
    received_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class OutboxItem(Base):
    """Something to send. ``status``: ``queued``, ``sending``, ``sent``, ``failed``, ``unknown`` (it left us, no answer came).

    ``unsure``: a process died while sending it; it is tried once more and never again. ``begun``: of a broadcast, that it is
    about to leave us: from then on a process that dies may have sent it, and it is not tried again.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_lane_id", "lane", "id", **_where("status IN ('queued', 'sending')")),
        Index("ix_outbox_channel_id", "channel_id"),
        Index("ix_outbox_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    lane: Mapped[str] = mapped_column(String(200))
    channel_id: Mapped[str] = mapped_column(Id)
    conversation_id: Mapped[str | None] = mapped_column(Id)
    message_id: Mapped[str | None] = mapped_column(Id)
    recipient: Mapped[str] = mapped_column(String(128))
    payload: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(String(32), default="")
    status: Mapped[str] = mapped_column(String(8), default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    unsure: Mapped[bool] = mapped_column(default=False)
    begun: Mapped[bool] = mapped_column(default=False, server_default=false())
    external_id: Mapped[str | None] = mapped_column(String(128))
    error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Job(Base):
    """Work to be done once. ``unique_key`` (kind and due time, say) makes a second enqueue change nothing.

    ``status``: ``new``, ``done``, ``dead``. ``attempts`` and ``failures`` as of an inbox item.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("uq_jobs_unique_key", "unique_key", unique=True),
        Index("ix_jobs_lane_id", "lane", "id", **_where("status = 'new'")),
        Index("ix_jobs_dead", "id", **_where("status = 'dead'")),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    lane: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(32))
    unique_key: Mapped[str | None] = mapped_column(String(128))
    payload: Mapped[Any] = mapped_column(JsonText, default=dict)
    status: Mapped[str] = mapped_column(String(8), default="new")
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
