"""People who have an account, how they sign in, what they were told."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Id, JsonText, UtcTime, new_id, utcnow


class User(Base):
    """An owner or administrator. ``role``: ``owner`` or ``admin``.

    ``trial_at``: when the free days began, None: with the account. ``subscription_version`` grows with each change of what
    the owner has paid for. ``totp_secret`` is encrypted and counts from ``totp_at`` on; ``totp_step``: the last 30 seconds
    whose code was used. ``delete_at``: when the account and its data are deleted. ``mail_refused_at``: letters to ``email``
    came back. ``unsubscribed_at``: no offers any more. ``preferences``: small choices of the panel. ``ban_reason``: why, as the
    person is told.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_referral_code", "referral_code", unique=True),
        Index("ix_users_created_at_id", "created_at", "id"),
        Index("ix_users_role_created_at", "role", "created_at"),
        Index("ix_users_role_id", "role", "id"),
        Index("ix_users_began", text("coalesce(trial_at, created_at)")),
        Index(
            "ix_users_banned_at",
            "banned_at",
            sqlite_where=text("banned_at IS NOT NULL"),
            postgresql_where=text("banned_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    role: Mapped[str] = mapped_column(String(16), default="owner")
    full_name: Mapped[str] = mapped_column(String(200), default="")
    email: Mapped[str | None] = mapped_column(String(320), unique=True)
    phone: Mapped[str | None] = mapped_column(String(32), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(255))
    telegram_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    language: Mapped[str] = mapped_column(String(8), default="uz")
    theme: Mapped[str] = mapped_column(String(8), default="system")
    email_confirmed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    phone_confirmed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    totp_secret: Mapped[str | None] = mapped_column(Text)
    totp_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    totp_step: Mapped[int | None] = mapped_column(BigInteger)
    trial_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    subscription_version: Mapped[int] = mapped_column(default=0, server_default="0")
    referral_code: Mapped[str | None] = mapped_column(String(24))
    unsubscribed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    mail_refused_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    delete_at: Mapped[dt.datetime | None] = mapped_column(UtcTime, index=True)
    banned_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    ban_reason: Mapped[str] = mapped_column(String(300), default="", server_default="")
    preferences: Mapped[Any] = mapped_column(JsonText, default=dict, server_default="{}")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)

    @property
    def is_admin(self) -> bool:
        """Whether this person runs the installation."""
        return self.role == "admin"


class Member(Base):
    """Somebody who works for an owner. ``role``: ``manager`` or ``operator``; the owner has no row.

    ``paused_at``: since when the owner's plan has no room for them.
    """

    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("owner_id", "user_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    paused_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class Invitation(Base):
    """A one-time link by which somebody becomes a member; only its hash is kept. ``name``: for whom the owner made it."""

    __tablename__ = "invitations"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime, index=True)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class PanelSession(Base):
    """A signed-in browser. ``id`` is the SHA-256 of the value that the encrypted cookie holds.

    ``view_id``: the remote view that is open in it.
    """

    __tablename__ = "panel_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    user_agent: Mapped[str] = mapped_column(String(255), default="")
    view_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    last_seen_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime, index=True)


class LoginLink(Base):
    """A one-time link that signs in; only its hash is kept."""

    __tablename__ = "login_links"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime, index=True)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class AccountCode(Base):
    """A code or link that proves an address or lets a password be chosen anew; only its hash is kept.

    ``purpose``: ``confirm_email``, ``change_email``, ``reset`` or ``join``. ``target``: the address that it proves. ``attempts``:
    how often a wrong code was typed.
    """

    __tablename__ = "account_codes"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(320), default="")
    token_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    code_hash: Mapped[str | None] = mapped_column(String(64))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime, index=True)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class RecoveryCode(Base):
    """A code that stands in once for the second factor; only its hash is kept."""

    __tablename__ = "recovery_codes"

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    used_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class ApiToken(Base):
    """A token of the JSON API; only its hash and last characters are kept."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100), default="")
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    last4: Mapped[str] = mapped_column(String(4))
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class AuditLog(Base):
    """Who did what to what."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_object_kind_object_id_id", "object_kind", "object_id", "id"),
        Index("ix_audit_log_action_id", "action", "id"),
        Index("ix_audit_log_actor_id_id", "actor_id", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    actor_id: Mapped[str | None] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(64))
    object_kind: Mapped[str] = mapped_column(String(32), default="")
    object_id: Mapped[str] = mapped_column(String(64), default="")
    details: Mapped[Any] = mapped_column(JsonText, default=dict)


class Notice(Base):
    """Something that the owner or administrator must hear once; open until ``resolved_at``.

    ``key`` names the thing that broke: while a notice with that key is open, no second one is made.
    """

    __tablename__ = "notices"
    __table_args__ = (
        Index(
            "uq_notices_open",
            "user_id",
            "key",
            unique=True,
            sqlite_where=text("resolved_at IS NULL"),
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    bot_id: Mapped[str | None] = mapped_column(Id, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(128))
    params: Mapped[Any] = mapped_column(JsonText, default=dict)
    count: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    told_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    seen_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    resolved_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class DialogState(Base):
    """Where a person stands in a dialog with the factory bot."""

    __tablename__ = "dialog_states"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    state: Mapped[str | None] = mapped_column(String(128))
    data: Mapped[str] = mapped_column(Text, default="{}")
    updated_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
