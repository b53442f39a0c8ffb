"""Tenant bots and their connections."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Id, JsonText, UtcTime, new_id, new_secret, utcnow


class Bot(Base):
    """A tenant bot. ``status``: ``active`` or ``stopped``. ``languages``: subset of uz, ru, en, first is the default.

    ``knowledge_version`` grows whenever what the bot knows changes. ``deleted_at`` hides it at once; rows go later.
    """

    __tablename__ = "bots"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    public_id: Mapped[str] = mapped_column(String(32), unique=True, default=new_secret)
    name: Mapped[str] = mapped_column(String(64))
    system_prompt: Mapped[str] = mapped_column(Text, default="")
    languages: Mapped[list[str]] = mapped_column(JsonText, default=lambda: ["uz", "ru", "en"])
    status: Mapped[str] = mapped_column(String(16), default="active")
    knowledge_version: Mapped[int] = mapped_column(default=0)
    openai_key: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class Channel(Base):
    """One connection of a bot, or the factory bot's own (``kind`` = ``factory``, no bot).

    ``external_id`` is the account on the network (Telegram: the bot's number; WhatsApp: the phone number's id), unique per
    kind; ``parent_id`` the account above it (WhatsApp: the business account). ``credentials`` is encrypted JSON. ``secret``
    proves webhooks. ``status``: ``active``, ``stopped``, ``refused`` (token revoked), ``conflict`` (another consumer),
    ``blocked`` (the network lets it send nothing), ``unreadable`` (encrypted with a key that is gone: connect again).
    """

    __tablename__ = "channels"
    __table_args__ = (
        Index("uq_channels_kind_external_id", "kind", "external_id", unique=True),
        Index("ix_channels_kind_parent_id", "kind", "parent_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str | None] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    external_id: Mapped[str | None] = mapped_column(String(64))
    parent_id: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(128), default="")
    username: Mapped[str] = mapped_column(String(64), default="")
    credentials: Mapped[str | None] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(String(64), default=lambda: new_secret(24))
    status: Mapped[str] = mapped_column(String(16), default="active")
    last_error: Mapped[str] = mapped_column(String(300), default="")
    last_update_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    settings: Mapped[Any] = mapped_column(JsonText, default=dict)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
