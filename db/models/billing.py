"""What owners may use and until when, how it was paid, who brought them, and what they were written.

Amounts are integer tiyin (100 to a so'm).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, JsonText, UtcTime, new_id, utcnow


class Subscription(Base):
    """A span of time in which an owner has a paid plan; those of one owner that are not revoked never overlap.

    ``source``: ``payment``, ``test`` (paid by a gateway's test key), ``grant`` (an administrator's present) or ``credit`` (the
    rest of an upgraded plan was worth it).
    ``period``: ``monthly``, ``quarterly`` or ``annual``. ``value_tiyin``: what the whole span was worth when it was bought,
    which is what an upgrade gives credit for. ``cut_from`` and ``cut_by``: where an upgrade ended it early, its end before
    and that upgrade's span.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (Index("ix_subscriptions_user_id_starts_at", "user_id", "starts_at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    plan: Mapped[str] = mapped_column(String(32))
    period: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(16))
    payment_id: Mapped[str | None] = mapped_column(Id, index=True)
    granted_by: Mapped[str | None] = mapped_column(Id)
    value_tiyin: Mapped[int] = mapped_column(BigInteger, default=0)
    starts_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    ends_at: Mapped[dt.datetime] = mapped_column(UtcTime, index=True)
    cut_from: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    cut_by: Mapped[str | None] = mapped_column(Id)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    revoked_reason: Mapped[str] = mapped_column(String(300), default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class MessageQuota(Base):
    """How many messages an owner's bots have answered in a month; ``month``: like 2026-11, in Tashkent's time.

    ``used`` holds those in hand too, ``settled`` those alone that were answered.
    ``told``: up to which share of the limit, in percent, the owner was told.
    """

    __tablename__ = "message_quotas"

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    used: Mapped[int] = mapped_column(default=0)
    settled: Mapped[int] = mapped_column(default=0, server_default="0")
    told: Mapped[int] = mapped_column(default=0)


class Payment(Base):
    """Something to be paid for: one plan for one period, to be met once by any gateway.

    ``number`` is what gateways and people call it. ``gateway``: the one that was chosen; ``paid_by``: that which paid it
    (``payme``, ``click``, ``uzum``, ``manual`` or ``balance``). ``kind``: ``new``, ``renewal``, ``upgrade``, ``downgrade``.
    ``status``: ``waiting``, ``paid``, ``cancelled``, ``expired``, ``refunded``. ``price_tiyin`` less ``discount_tiyin``
    (coupon), ``credit_tiyin`` (rest of an upgraded plan) and ``balance_tiyin`` (referral balance) is ``amount_tiyin``.
    ``basis``: the owner's ``subscription_version`` for which an upgrade's credit was reckoned. ``sandbox``: only a gateway's
    test key may pay it, and it gives its plan only where no gateway takes money. ``fiscal``: what the receipt says of the plan,
    as it was in the configuration then.
    """

    __tablename__ = "payments"
    __table_args__ = (
        Index("ix_payments_user_id_id", "user_id", "id"),
        Index("ix_payments_status_expires_at", "status", "expires_at"),
        # Holds all that the sums by day, gateway and owner need.
        Index("ix_payments_paid_at", "paid_at", "sandbox", "paid_by", "amount_tiyin", "user_id"),
        Index(
            "ix_payments_refunded_at",
            "refunded_at",
            sqlite_where=text("refunded_at IS NOT NULL"),
            postgresql_where=text("refunded_at IS NOT NULL"),
        ),
        Index("ix_payments_created_at_id", "created_at", "id"),
        # Holds all that the administrator's sums need.
        Index("ix_payments_status_created_at", "status", "created_at", "sandbox", "amount_tiyin"),
        # The same, and the lists, of one state and of what a gateway paid or was chosen for.
        Index("ix_payments_status_id", "status", "id"),
        Index("ix_payments_way_id", text("coalesce(paid_by, gateway)"), "id"),
        Index(
            "ix_payments_way_status",
            text("coalesce(paid_by, gateway)"),
            "status",
            "created_at",
            "sandbox",
            "amount_tiyin",
            "paid_by",
            "gateway",
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    number: Mapped[str] = mapped_column(String(20), unique=True)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    plan: Mapped[str] = mapped_column(String(32))
    period: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16), default="new")
    gateway: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), default="waiting")
    price_tiyin: Mapped[int] = mapped_column(BigInteger)
    discount_tiyin: Mapped[int] = mapped_column(BigInteger, default=0)
    credit_tiyin: Mapped[int] = mapped_column(BigInteger, default=0)
    balance_tiyin: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_tiyin: Mapped[int] = mapped_column(BigInteger)
    coupon_id: Mapped[str | None] = mapped_column(ForeignKey("coupons.id", ondelete="SET NULL"), index=True)
    request_id: Mapped[str | None] = mapped_column(Id)
    basis: Mapped[int] = mapped_column(default=0)
    sandbox: Mapped[bool] = mapped_column(default=False)
    fiscal: Mapped[Any] = mapped_column(JsonText, default=dict)
    paid_by: Mapped[str | None] = mapped_column(String(16))
    paid_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    refunded_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    refund_reason: Mapped[str] = mapped_column(String(300), default="")
    note: Mapped[str] = mapped_column(String(300), default="")
    created_by: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcTime)


class PaymentTransaction(Base):
    """A gateway's attempt to pay a payment. ``external_id`` is the gateway's, ``id`` the number that it knows ours by.

    ``state``: ``waiting``, ``performed``, ``cancelled`` (before it was performed), ``reversed`` (after). ``reason``: Payme's
    number. ``provider_time``: the gateway's own time of creation. ``raw``: the request of the last change of state, without
    secrets.
    """

    __tablename__ = "payment_transactions"
    __table_args__ = (
        UniqueConstraint("gateway", "external_id"),
        Index("ix_payment_transactions_gateway_provider_time", "gateway", "provider_time"),
        Index("ix_payment_transactions_state_created_at", "state", "created_at"),
        Index("ix_payment_transactions_performed_at", "performed_at"),
        Index("ix_payment_transactions_cancelled_at", "cancelled_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.id", ondelete="CASCADE"), index=True)
    gateway: Mapped[str] = mapped_column(String(16))
    external_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    amount_tiyin: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[int | None] = mapped_column()
    sandbox: Mapped[bool] = mapped_column(default=False)
    details: Mapped[Any] = mapped_column(JsonText, default=dict)
    raw: Mapped[Any] = mapped_column(JsonText, default=dict)
    provider_time: Mapped[dt.datetime] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    performed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    cancelled_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class PaymentEvent(Base):
    """One thing in the life of a payment: a gateway's call and our answer, or what a person did. Never holds secrets."""

    __tablename__ = "payment_events"
    __table_args__ = (Index("ix_payment_events_payment_id_id", "payment_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.id", ondelete="CASCADE"))
    transaction_id: Mapped[int | None] = mapped_column(BigInteger)
    gateway: Mapped[str] = mapped_column(String(16), default="")
    action: Mapped[str] = mapped_column(String(32))
    code: Mapped[str] = mapped_column(String(16), default="")
    actor_id: Mapped[str | None] = mapped_column(Id)
    request: Mapped[Any] = mapped_column(JsonText, default=dict)
    answer: Mapped[Any] = mapped_column(JsonText, default=dict)
    at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class AccessRequest(Base):
    """An owner's wish for a plan. ``status``: ``pending``, ``granted``, ``declined`` or ``withdrawn``; one is pending at a
    time.
    """

    __tablename__ = "access_requests"
    __table_args__ = (
        Index(
            "uq_access_requests_pending",
            "user_id",
            unique=True,
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_access_requests_status_id", "status", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    plan: Mapped[str] = mapped_column(String(32))
    period: Mapped[str] = mapped_column(String(16))
    coupon_id: Mapped[str | None] = mapped_column(ForeignKey("coupons.id", ondelete="SET NULL"))
    note: Mapped[str] = mapped_column(String(500), default="")
    status: Mapped[str] = mapped_column(String(16), default="pending")
    decided_by: Mapped[str | None] = mapped_column(Id)
    decided_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    answer: Mapped[str] = mapped_column(String(500), default="")
    subscription_id: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Coupon(Base):
    """A code that makes a plan cheaper: by ``percent``, or by ``amount_tiyin``.

    ``code`` is in upper case. ``plans``: for which, empty for all. ``user_id``: for that owner alone. ``uses`` counts reserved
    and spent uses; it never exceeds ``max_uses`` (None: without end).
    """

    __tablename__ = "coupons"
    # Holds all that is searched.
    __table_args__ = (Index("ix_coupons_words", "id", "code", "note"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    code: Mapped[str] = mapped_column(String(40), unique=True)
    percent: Mapped[int | None] = mapped_column()
    amount_tiyin: Mapped[int | None] = mapped_column(BigInteger)
    plans: Mapped[Any] = mapped_column(JsonText, default=list)
    valid_from: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    valid_until: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    max_uses: Mapped[int | None] = mapped_column()
    per_owner: Mapped[int] = mapped_column(default=1)
    uses: Mapped[int] = mapped_column(default=0)
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    note: Mapped[str] = mapped_column(String(200), default="")
    created_by: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    disabled_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class CouponUse(Base):
    """One use of a coupon for a payment or a grant. ``status``: ``reserved``, ``spent`` or ``released``."""

    __tablename__ = "coupon_uses"
    __table_args__ = (Index("ix_coupon_uses_coupon_id_user_id", "coupon_id", "user_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    coupon_id: Mapped[str] = mapped_column(ForeignKey("coupons.id", ondelete="CASCADE"))
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    payment_id: Mapped[str | None] = mapped_column(ForeignKey("payments.id", ondelete="CASCADE"), unique=True)
    request_id: Mapped[str | None] = mapped_column(Id, unique=True)
    status: Mapped[str] = mapped_column(String(16), default="reserved")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ReferralTouch(Base):
    """The partner whose link somebody without an account opened last. ``visitor``: ``tg:<telegram id>`` or ``web:<hash>``."""

    __tablename__ = "referral_touches"

    visitor: Mapped[str] = mapped_column(String(80), primary_key=True)
    partner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow, index=True)


class ReferralClicks(Base):
    """How often a partner's link was opened on a day of Tashkent's time (like 2026-11-21)."""

    __tablename__ = "referral_clicks"

    partner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    clicks: Mapped[int] = mapped_column(default=0)


class Referral(Base):
    """An owner whom a partner brought. ``source``: ``telegram`` or ``web``."""

    __tablename__ = "referrals"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    partner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    source: Mapped[str] = mapped_column(String(16))
    touched_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ReferralEntry(Base):
    """A line of a partner's account; their sum is the balance. For the books it outlives the account, without its name.

    ``kind``: ``commission`` (counts from ``available_at``), ``reversal``, ``spent`` (on a payment of the partner's own),
    ``returned`` (of that), ``payout`` or ``payout_undone``, of which ``payout_id`` names the payout. ``amount_tiyin`` carries
    its sign.
    """

    __tablename__ = "referral_entries"
    __table_args__ = (
        UniqueConstraint("kind", "payment_id"),
        Index("ix_referral_entries_partner_id_id", "partner_id", "id"),
        Index("uq_referral_entries_payout_id", "payout_id", unique=True),
        Index("ix_referral_entries_kind_available_at", "kind", "available_at", "partner_id", "amount_tiyin"),
        Index("ix_referral_entries_kind_id", "kind", "id"),
        # Holds all that sums are made of.
        Index("ix_referral_entries_sums", "partner_id", "kind", "available_at", "amount_tiyin"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    partner_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    referral_id: Mapped[str | None] = mapped_column(ForeignKey("referrals.id", ondelete="SET NULL"))
    payment_id: Mapped[str | None] = mapped_column(ForeignKey("payments.id", ondelete="CASCADE"))
    payout_id: Mapped[str | None] = mapped_column(Id)
    kind: Mapped[str] = mapped_column(String(16))
    amount_tiyin: Mapped[int] = mapped_column(BigInteger)
    available_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    note: Mapped[str] = mapped_column(String(300), default="")
    created_by: Mapped[str | None] = mapped_column(Id)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Letter(Base):
    """Something that an account's holder is written once, by mail, in Telegram or both.

    ``key`` names the occasion: a second letter with it is not made. ``kind`` is a text of ``services/letters``, filled with
    ``params`` when it is sent. ``address``: where another than the account's must be written to. ``mail`` and ``telegram``:
    ``none`` (not this way), ``new``, ``sent``, ``failed``, ``unsure`` (an offer that was cut off on its way, which is not sent
    again), and of a mail ``bounced``. ``run_at`` and ``telegram_at``: when each is due. ``expires_at``: what has not gone out by
    then does not go any more.
    """

    __tablename__ = "letters"
    __table_args__ = (
        UniqueConstraint("user_id", "key"),
        Index("ix_letters_mail_run_at", "mail", "run_at"),
        Index("ix_letters_telegram_telegram_at", "telegram", "telegram_at"),
        Index(
            "ix_letters_announcement",
            "key",
            "mail",
            "telegram",
            sqlite_where=text("kind IN ('announcement', 'announcement_news')"),
            postgresql_where=text("kind IN ('announcement', 'announcement_news')"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    key: Mapped[str] = mapped_column(String(128))
    params: Mapped[Any] = mapped_column(JsonText, default=dict)
    secret: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(String(320))
    mail: Mapped[str] = mapped_column(String(16), default="none")
    mail_attempts: Mapped[int] = mapped_column(default=0)
    mail_error: Mapped[str] = mapped_column(String(300), default="")
    message_id: Mapped[str | None] = mapped_column(String(128), index=True)
    telegram: Mapped[str] = mapped_column(String(16), default="none")
    telegram_attempts: Mapped[int] = mapped_column(default=0)
    run_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    telegram_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    sent_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class LetterText(Base):
    """An administrator's own words for one part of a letter. ``part``: ``subject``, ``text`` or ``telegram``."""

    __tablename__ = "letter_texts"

    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    language: Mapped[str] = mapped_column(String(8), primary_key=True)
    part: Mapped[str] = mapped_column(String(16), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    changed_by: Mapped[str | None] = mapped_column(Id)
    changed_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
