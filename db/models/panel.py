"""What owners and administrators steer from the panel: numbers by day, broadcasts, webhooks out, support, remote views."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, JsonText, Usd, UtcTime, new_id, utcnow


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class DayNumbers(Base):
    """What happened with a bot on a day of Tashkent that is over, by kind of channel and language.

    ``day``: ``2026-11-22``. ``talks``: conversations in which something was said that day, each counted at one language;
    ``begun``: those that began. ``handed_over``: those in which a person was called or wrote. ``waits``: how many answers of
    the bot took how long, as counts by the steps of :mod:`services.statistics`; ``person_waits`` the same of people's answers.
    """

    __tablename__ = "day_numbers"
    __table_args__ = (Index("ix_day_numbers_day", "day"),)

    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    channel: Mapped[str] = mapped_column(String(16), primary_key=True)
    language: Mapped[str] = mapped_column(String(8), primary_key=True, default="")
    questions: Mapped[int] = mapped_column(default=0)
    answered: Mapped[int] = mapped_column(default=0)
    unanswered: Mapped[int] = mapped_column(default=0)
    handed_over: Mapped[int] = mapped_column(default=0)
    by_people: Mapped[int] = mapped_column(default=0)
    talks: Mapped[int] = mapped_column(default=0)
    begun: Mapped[int] = mapped_column(default=0)
    waits: Mapped[Any] = mapped_column(JsonText, default=list)
    person_waits: Mapped[Any] = mapped_column(JsonText, default=list)


class DayCosts(Base):
    """What model calls of a day of Tashkent that is over used and cost; columns as in ``AIUsage``, summed.

    ``bot_id`` is empty where no bot was meant. ``latency_ms``: of all calls together.
    """

    __tablename__ = "day_costs"
    __table_args__ = (Index("ix_day_costs_day", "day"),)

    owner_id: Mapped[str] = mapped_column(Id, primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    bot_id: Mapped[str] = mapped_column(Id, primary_key=True, default="")
    feature: Mapped[str] = mapped_column(String(32), primary_key=True)
    provider: Mapped[str] = mapped_column(String(32), primary_key=True)
    model: Mapped[str] = mapped_column(String(100), primary_key=True)
    own_key: Mapped[bool] = mapped_column(primary_key=True, default=False)
    calls: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_usd: Mapped[Decimal] = mapped_column(Usd, default=Decimal(0))
    latency_ms: Mapped[int] = mapped_column(BigInteger, default=0)


class CountedDay(Base):
    """A day of Tashkent whose numbers and costs are counted.

    ``0001-01-01``: all days before the first counted one (before ``counted_at``, where none is) had nothing to count.
    """

    __tablename__ = "counted_days"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    counted_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class BotVersion(Base):
    """A bot's words as they were published. ``number`` counts from 1 in a bot; ``content``: what :mod:`services.versions` keeps.

    ``undoes``: the number of the version that this one brought back.
    """

    __tablename__ = "bot_versions"
    __table_args__ = (UniqueConstraint("bot_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column()
    content: Mapped[Any] = mapped_column(JsonText)
    undoes: Mapped[int | None] = mapped_column()
    author_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Broadcast(Base):
    """A message to many customers of a bot.

    ``texts``: by language; ``template``: the WhatsApp template for whoever may get nothing else, as it is sent (``payload``) and
    as it reads (``text``). ``audience``: who is meant, see :class:`services.broadcasts.Audience`. ``status``: ``draft``,
    ``scheduled``, ``sending``, ``paused``, ``stopped``, ``done``; ``reason``: why it is paused or stopped, where nobody pressed
    the button. ``run_at``: when it begins, and while it is being sent not before when it goes on. ``chosen``: how many rows of
    ``broadcast_deliveries`` were made when it began; ``cursor``: the last contact that was looked at while they are made, None
    when all are. ``day_count``: how many it was written to on ``day``, of Tashkent. ``version`` grows with each change by a
    person, against two hands at once.
    """

    __tablename__ = "broadcasts"
    __table_args__ = (
        Index("ix_broadcasts_bot_id_id", "bot_id", "id"),
        Index("ix_broadcasts_due", "run_at", **_only("status IN ('scheduled', 'sending')")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(100), default="")
    texts: Mapped[Any] = mapped_column(JsonText, default=dict)
    template: Mapped[Any] = mapped_column(JsonText, nullable=True)
    audience: Mapped[Any] = mapped_column(JsonText, default=dict)
    status: Mapped[str] = mapped_column(String(16), default="draft")
    reason: Mapped[str] = mapped_column(String(16), default="")
    run_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    cursor: Mapped[str | None] = mapped_column(Id)
    chosen: Mapped[int] = mapped_column(default=0)
    day: Mapped[str] = mapped_column(String(10), default="")
    day_count: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=0)
    author_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class BroadcastDelivery(Base):
    """A broadcast to one customer: made once, so nobody is written to twice.

    ``status``: ``waiting``, ``queued`` (in the outbox), ``sent``, ``failed``, ``unknown``, ``skipped``; that it was delivered or
    read the message tells. ``reason``: why it failed or was skipped, a short word. ``message_id``: the message that it became.
    """

    __tablename__ = "broadcast_deliveries"
    __table_args__ = (
        Index("ix_broadcast_deliveries_state", "broadcast_id", "status", "contact_id"),
        Index("ix_broadcast_deliveries_contact_id", "contact_id"),
    )

    broadcast_id: Mapped[str] = mapped_column(ForeignKey("broadcasts.id", ondelete="CASCADE"), primary_key=True)
    contact_id: Mapped[str] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), default="waiting")
    reason: Mapped[str] = mapped_column(String(16), default="")
    message_id: Mapped[str | None] = mapped_column(Id)
    changed_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Endpoint(Base):
    """An address of an owner's own server that is told what happens; ``secret`` is encrypted and signs.

    ``events``: which kinds; empty: all. ``disabled_at``: by the owner, or after days of failures (``failing_since``).
    """

    __tablename__ = "endpoints"
    __table_args__ = (Index("ix_endpoints_bad", "id", **_only("failing_since IS NOT NULL OR disabled_at IS NOT NULL")),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JsonText, default=list)
    failing_since: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    last_ok_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    disabled_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class EndpointEvent(Base):
    """Something that an endpoint is told. ``status``: ``waiting``, ``delivered``, ``failed`` (given up).

    ``payload``: the body as it is signed and sent, each time the same. ``answer``: the beginning of what came back.
    """

    __tablename__ = "endpoint_events"
    __table_args__ = (
        Index("ix_endpoint_events_endpoint_id_id", "endpoint_id", "id"),
        Index("ix_endpoint_events_endpoint_id_status_id", "endpoint_id", "status", "id"),
        Index("ix_endpoint_events_due", "endpoint_id", "run_at", **_only("status = 'waiting'")),
        Index("ix_endpoint_events_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(40))
    payload: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    run_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    http_status: Mapped[int | None] = mapped_column()
    answer: Mapped[str] = mapped_column(String(500), default="")
    took_ms: Mapped[int | None] = mapped_column()
    delivered_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class SupportTalk(Base):
    """The talk of an owner with those who run the installation. ``waiting_since``: the owner's first line without an answer."""

    __tablename__ = "support_talks"
    __table_args__ = (
        Index("ix_support_talks_last_message_at", "last_message_at"),
        Index("ix_support_talks_waiting", "waiting_since", **_only("waiting_since IS NOT NULL")),
    )

    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    waiting_since: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    owner_seen_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    last_text: Mapped[str] = mapped_column(String(200), default="")
    last_message_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class SupportMessage(Base):
    """A line of a support talk. ``by_admin``: from those who run the installation, by whom says ``author_id``.

    ``telegram``: whether it still has to go to the owner by the factory bot: ``none``, ``waiting``, ``sent``, ``failed``;
    ``run_at``: when that is tried, next after ``attempts``. ``source``: what it came as (``telegram:<chat>:<message>``), so
    that a second delivery adds nothing.
    """

    __tablename__ = "support_messages"
    __table_args__ = (
        Index("ix_support_messages_owner_id_id", "owner_id", "id"),
        Index("ix_support_messages_due", "owner_id", "id", **_only("telegram = 'waiting'")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("support_talks.owner_id", ondelete="CASCADE"))
    author_id: Mapped[str | None] = mapped_column(Id)
    by_admin: Mapped[bool] = mapped_column(default=False)
    text: Mapped[str] = mapped_column(Text)
    telegram: Mapped[str] = mapped_column(String(8), default="none")
    attempts: Mapped[int] = mapped_column(default=0)
    run_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    source: Mapped[str | None] = mapped_column(String(64), unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class SupportPost(Base):
    """What an administrator was told of a support talk in Telegram: a message that can be answered by a reply.

    ``upto``: the last line that is in it; ``number``: the message's in that chat, None while it is not known to have arrived.
    """

    __tablename__ = "support_posts"
    __table_args__ = (
        UniqueConstraint("admin_id", "owner_id", "upto"),
        Index("ix_support_posts_admin_id_number", "admin_id", "number"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    admin_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    owner_id: Mapped[str] = mapped_column(ForeignKey("support_talks.owner_id", ondelete="CASCADE"), index=True)
    upto: Mapped[str] = mapped_column(Id)
    number: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class RemoteView(Base):
    """An administrator sees the panel as an owner does, for a stated reason and a limited time.

    Read-only until the owner agreed (``agreed_at``) to what was asked for (``asked_at``); ``refused_at``: the owner said no.
    """

    __tablename__ = "remote_views"
    __table_args__ = (Index("ix_remote_views_owner_id_id", "owner_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    admin_id: Mapped[str | None] = mapped_column(Id, index=True)
    reason: Mapped[str] = mapped_column(String(300))
    asked_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    agreed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    refused_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class RemoteViewPage(Base):
    """A page that was opened, or a form that was sent, in a remote view; the owner can read the list."""

    __tablename__ = "remote_view_pages"
    __table_args__ = (Index("ix_remote_view_pages_view_id_id", "view_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    view_id: Mapped[str] = mapped_column(ForeignKey("remote_views.id", ondelete="CASCADE"))
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(String(300))
    status: Mapped[int] = mapped_column(default=0)
    at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Announcement(Base):
    """What administrators tell owners at once. ``texts``: by language, with title and text; ``audience``: which owners.

    ``by_telegram``, ``by_mail``: as letters, one an owner; ``as_banner``: on every page until ``banner_until`` or put away.
    ``cursor``: the last owner who was written to; ``status``: ``draft``, ``scheduled``, ``sending``, ``stopped``, ``done``.
    """

    __tablename__ = "announcements"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    texts: Mapped[Any] = mapped_column(JsonText, default=dict)
    audience: Mapped[Any] = mapped_column(JsonText, default=dict)
    by_telegram: Mapped[bool] = mapped_column(default=False)
    by_mail: Mapped[bool] = mapped_column(default=False)
    as_banner: Mapped[bool] = mapped_column(default=False)
    banner_until: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    status: Mapped[str] = mapped_column(String(16), default="draft")
    run_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    cursor: Mapped[str | None] = mapped_column(Id)
    chosen: Mapped[int] = mapped_column(default=0)
    author_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class AnnouncementSeen(Base):
    """An owner has put a banner away."""

    __tablename__ = "announcements_seen"

    announcement_id: Mapped[str] = mapped_column(ForeignKey("announcements.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ErrorRecord(Base):
    """An error of the log, once for all that look alike (``fingerprint``); ``detail`` without secrets and people's words."""

    __tablename__ = "error_records"
    __table_args__ = (Index("ix_error_records_last_at", "last_at"),)

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    level: Mapped[str] = mapped_column(String(16))
    event: Mapped[str] = mapped_column(String(200))
    detail: Mapped[str] = mapped_column(Text, default="")
    request_id: Mapped[str] = mapped_column(String(32), default="")
    count: Mapped[int] = mapped_column(default=1)
    first_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    last_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    hidden: Mapped[bool] = mapped_column(default=False, server_default=false())


class Override(Base):
    """What an administrator chose in the panel instead of config.toml: which models, prices, budgets."""

    __tablename__ = "overrides"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[Any] = mapped_column(JsonText)
    changed_by: Mapped[str | None] = mapped_column(Id)
    changed_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
