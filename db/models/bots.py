"""Tenant bots and their connections."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Id, JsonText, UtcTime, new_id, new_secret, utcnow


class Bot(Base):
    """A tenant bot. ``status``: ``active`` or ``stopped``. ``languages``: subset of uz, ru, en, first is the default.

    ``knowledge_version`` grows whenever what the bot knows changes. ``deleted_at`` hides it at once; rows go later. ``settings``:
    the owner's choices that :mod:`services.manner` reads. ``draft``: words that are not published yet, None: none.
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
    settings: Mapped[Any] = mapped_column(JsonText, default=dict, server_default="{}")
    draft: Mapped[Any] = mapped_column(JsonText, nullable=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class Channel(Base):
    """One connection of a bot, or the factory bot's own (``kind`` = ``factory``, no bot).

    ``external_id`` is the account on the network (Telegram: the bot's number; WhatsApp: the phone number's id), unique per
    kind; ``parent_id`` the account above it (WhatsApp: the business account). ``credentials`` is encrypted JSON. ``secret``
    proves webhooks. ``settings``: the owner's choices for it; ``health``: what the network was last seen to say of it.
    ``status``: ``active``, ``stopped``, ``refused`` (token revoked), ``conflict`` (another consumer), ``blocked`` (the network
    lets it send nothing), ``unreadable`` (encrypted with a key that is gone: connect again).
    """

    __tablename__ = "channels"
    __table_args__ = (
        Index("uq_channels_kind_external_id", "kind", "external_id", unique=True),
        Index("ix_channels_kind_parent_id", "kind", "parent_id"),
        Index("ix_channels_username", text("lower(username)")),
        Index(
            "ix_channels_connected",
            "status",
            "kind",
            "id",
            sqlite_where=text("external_id IS NOT NULL AND bot_id IS NOT NULL"),
            postgresql_where=text("external_id IS NOT NULL AND bot_id IS NOT NULL"),
        ),
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
    health: Mapped[Any] = mapped_column(JsonText, default=dict, server_default="{}")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class BusinessConnection(Base):
    """A Telegram Business connection: the bot answers in the private chats of the account that made it.

    ``user_id``: the account's number, whose own messages mean that a person answers. ``can_reply``: the account lets the bot
    write.
    """

    __tablename__ = "business_connections"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    can_reply: Mapped[bool] = mapped_column(default=False)
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ForumGroup(Base):
    """A Telegram group with topics that serves an owner's operators as an inbox; ``bot_id`` None: for all the owner's bots.

    ``status``: ``active`` or ``lost`` (the factory bot is no longer there, or may not manage topics).
    """

    __tablename__ = "forum_groups"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    bot_id: Mapped[str | None] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), index=True)
    chat_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    title: Mapped[str] = mapped_column(String(128), default="")
    status: Mapped[str] = mapped_column(String(16), default="active")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ForumTopic(Base):
    """The topic of one conversation in a forum group.

    ``seen``: the last message of the conversation that was looked at; ``shown_at``: how new the conversation was then;
    ``status``: the state that the topic's name tells.
    """

    __tablename__ = "forum_topics"
    __table_args__ = (
        UniqueConstraint("group_id", "conversation_id"),
        UniqueConstraint("group_id", "thread_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    group_id: Mapped[str] = mapped_column(ForeignKey("forum_groups.id", ondelete="CASCADE"))
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    thread_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(128), default="")
    seen: Mapped[str] = mapped_column(Id, default="")
    status: Mapped[str] = mapped_column(String(16), default="")
    shown_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class ForumMessage(Base):
    """Which message in a forum group is which message of the conversation, for edits in both directions."""

    __tablename__ = "forum_messages"
    __table_args__ = (Index("ix_forum_messages_message_id", "message_id"),)

    group_id: Mapped[str] = mapped_column(ForeignKey("forum_groups.id", ondelete="CASCADE"), primary_key=True)
    telegram_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
