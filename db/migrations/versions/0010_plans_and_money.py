"""Plans and what was paid for them, coupons, referrals, letters, codes and second factors of accounts."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "letter_texts",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.String(length=26), nullable=True),
        sa.Column("changed_at", db.base.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "language", "part", name=op.f("pk_letter_texts")),
    )
    op.create_table(
        "account_codes",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=320), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("code_hash", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("expires_at", db.base.UtcTime(), nullable=False),
        sa.Column("used_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_account_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_codes")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_account_codes_token_hash")),
    )
    op.create_index(op.f("ix_account_codes_expires_at"), "account_codes", ["expires_at"], unique=False)
    op.create_index(op.f("ix_account_codes_user_id"), "account_codes", ["user_id"], unique=False)
    op.create_table(
        "coupons",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("amount_tiyin", sa.BigInteger(), nullable=True),
        sa.Column("plans", db.base.JsonText(), nullable=False),
        sa.Column("valid_from", db.base.UtcTime(), nullable=True),
        sa.Column("valid_until", db.base.UtcTime(), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("per_owner", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("created_by", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("disabled_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_coupons_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coupons")),
        sa.UniqueConstraint("code", name=op.f("uq_coupons_code")),
    )
    op.create_index(op.f("ix_coupons_user_id"), "coupons", ["user_id"], unique=False)
    op.create_table(
        "letters",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("params", db.base.JsonText(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("address", sa.String(length=320), nullable=True),
        sa.Column("mail", sa.String(length=16), nullable=False),
        sa.Column("mail_attempts", sa.Integer(), nullable=False),
        sa.Column("mail_error", sa.String(length=300), nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=True),
        sa.Column("telegram", sa.String(length=16), nullable=False),
        sa.Column("telegram_attempts", sa.Integer(), nullable=False),
        sa.Column("run_at", db.base.UtcTime(), nullable=False),
        sa.Column("telegram_at", db.base.UtcTime(), nullable=False),
        sa.Column("expires_at", db.base.UtcTime(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("sent_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_letters_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letters")),
        sa.UniqueConstraint("user_id", "key", name=op.f("uq_letters_user_id_key")),
    )
    op.create_index("ix_letters_mail_run_at", "letters", ["mail", "run_at"], unique=False)
    op.create_index(op.f("ix_letters_message_id"), "letters", ["message_id"], unique=False)
    op.create_index("ix_letters_telegram_telegram_at", "letters", ["telegram", "telegram_at"], unique=False)
    op.create_table(
        "message_quotas",
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_message_quotas_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "month", name=op.f("pk_message_quotas")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("used_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_recovery_codes")),
    )
    op.create_index(op.f("ix_recovery_codes_user_id"), "recovery_codes", ["user_id"], unique=False)
    op.create_table(
        "referral_clicks",
        sa.Column("partner_id", sa.String(length=26), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("clicks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["users.id"], name=op.f("fk_referral_clicks_partner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("partner_id", "day", name=op.f("pk_referral_clicks")),
    )
    op.create_table(
        "referral_touches",
        sa.Column("visitor", sa.String(length=80), nullable=False),
        sa.Column("partner_id", sa.String(length=26), nullable=False),
        sa.Column("at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["users.id"], name=op.f("fk_referral_touches_partner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("visitor", name=op.f("pk_referral_touches")),
    )
    op.create_index(op.f("ix_referral_touches_at"), "referral_touches", ["at"], unique=False)
    op.create_index(op.f("ix_referral_touches_partner_id"), "referral_touches", ["partner_id"], unique=False)
    op.create_table(
        "referrals",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("partner_id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("touched_at", db.base.UtcTime(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["users.id"], name=op.f("fk_referrals_partner_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_referrals_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referrals")),
        sa.UniqueConstraint("user_id", name=op.f("uq_referrals_user_id")),
    )
    op.create_index(op.f("ix_referrals_partner_id"), "referrals", ["partner_id"], unique=False)
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("payment_id", sa.String(length=26), nullable=True),
        sa.Column("granted_by", sa.String(length=26), nullable=True),
        sa.Column("value_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("starts_at", db.base.UtcTime(), nullable=False),
        sa.Column("ends_at", db.base.UtcTime(), nullable=False),
        sa.Column("cut_from", db.base.UtcTime(), nullable=True),
        sa.Column("cut_by", sa.String(length=26), nullable=True),
        sa.Column("revoked_at", db.base.UtcTime(), nullable=True),
        sa.Column("revoked_reason", sa.String(length=300), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_subscriptions_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index(op.f("ix_subscriptions_ends_at"), "subscriptions", ["ends_at"], unique=False)
    op.create_index(op.f("ix_subscriptions_payment_id"), "subscriptions", ["payment_id"], unique=False)
    op.create_index("ix_subscriptions_user_id_starts_at", "subscriptions", ["user_id", "starts_at"], unique=False)
    op.create_table(
        "access_requests",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("coupon_id", sa.String(length=26), nullable=True),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("decided_by", sa.String(length=26), nullable=True),
        sa.Column("decided_at", db.base.UtcTime(), nullable=True),
        sa.Column("answer", sa.String(length=500), nullable=False),
        sa.Column("subscription_id", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["coupon_id"], ["coupons.id"], name=op.f("fk_access_requests_coupon_id_coupons"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_access_requests_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_requests")),
    )
    op.create_index("ix_access_requests_status_id", "access_requests", ["status", "id"], unique=False)
    op.create_index(op.f("ix_access_requests_user_id"), "access_requests", ["user_id"], unique=False)
    op.create_index(
        "uq_access_requests_pending",
        "access_requests",
        ["user_id"],
        unique=True,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "payments",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("number", sa.String(length=20), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=True),
        sa.Column("plan", sa.String(length=32), nullable=False),
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("gateway", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("price_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("discount_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("credit_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("balance_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("amount_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("coupon_id", sa.String(length=26), nullable=True),
        sa.Column("request_id", sa.String(length=26), nullable=True),
        sa.Column("basis", sa.Integer(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("fiscal", db.base.JsonText(), nullable=False),
        sa.Column("paid_by", sa.String(length=16), nullable=True),
        sa.Column("paid_at", db.base.UtcTime(), nullable=True),
        sa.Column("refunded_at", db.base.UtcTime(), nullable=True),
        sa.Column("refund_reason", sa.String(length=300), nullable=False),
        sa.Column("note", sa.String(length=300), nullable=False),
        sa.Column("created_by", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("expires_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["coupon_id"], ["coupons.id"], name=op.f("fk_payments_coupon_id_coupons"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_payments_user_id_users"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("number", name=op.f("uq_payments_number")),
    )
    op.create_index(op.f("ix_payments_coupon_id"), "payments", ["coupon_id"], unique=False)
    op.create_index(
        "ix_payments_status_created_at", "payments", ["status", "created_at", "sandbox", "amount_tiyin"], unique=False
    )
    op.create_index("ix_payments_paid_at", "payments", ["paid_at"], unique=False)
    op.create_index("ix_payments_status_expires_at", "payments", ["status", "expires_at"], unique=False)
    op.create_index("ix_payments_user_id_id", "payments", ["user_id", "id"], unique=False)
    op.create_table(
        "coupon_uses",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("coupon_id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("payment_id", sa.String(length=26), nullable=True),
        sa.Column("request_id", sa.String(length=26), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["coupon_id"], ["coupons.id"], name=op.f("fk_coupon_uses_coupon_id_coupons"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_coupon_uses_payment_id_payments"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_coupon_uses_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coupon_uses")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_coupon_uses_payment_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_coupon_uses_request_id")),
    )
    op.create_index("ix_coupon_uses_coupon_id_user_id", "coupon_uses", ["coupon_id", "user_id"], unique=False)
    op.create_index(op.f("ix_coupon_uses_user_id"), "coupon_uses", ["user_id"], unique=False)
    op.create_table(
        "payment_events",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("payment_id", sa.String(length=26), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=True),
        sa.Column("gateway", sa.String(length=16), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("actor_id", sa.String(length=26), nullable=True),
        sa.Column("request", db.base.JsonText(), nullable=False),
        sa.Column("answer", db.base.JsonText(), nullable=False),
        sa.Column("at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id_payments"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_events")),
    )
    op.create_index("ix_payment_events_payment_id_id", "payment_events", ["payment_id", "id"], unique=False)
    op.create_table(
        "payment_transactions",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("payment_id", sa.String(length=26), nullable=False),
        sa.Column("gateway", sa.String(length=16), nullable=False),
        sa.Column("external_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("amount_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=True),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("details", db.base.JsonText(), nullable=False),
        sa.Column("raw", db.base.JsonText(), nullable=False),
        sa.Column("provider_time", db.base.UtcTime(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("performed_at", db.base.UtcTime(), nullable=True),
        sa.Column("cancelled_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["payment_id"],
            ["payments.id"],
            name=op.f("fk_payment_transactions_payment_id_payments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_transactions")),
        sa.UniqueConstraint("gateway", "external_id", name=op.f("uq_payment_transactions_gateway_external_id")),
    )
    op.create_index(
        "ix_payment_transactions_gateway_provider_time",
        "payment_transactions",
        ["gateway", "provider_time"],
        unique=False,
    )
    op.create_index(op.f("ix_payment_transactions_payment_id"), "payment_transactions", ["payment_id"], unique=False)
    op.create_index(
        "ix_payment_transactions_state_created_at", "payment_transactions", ["state", "created_at"], unique=False
    )
    op.create_table(
        "referral_entries",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("partner_id", sa.String(length=26), nullable=False),
        sa.Column("referral_id", sa.String(length=26), nullable=True),
        sa.Column("payment_id", sa.String(length=26), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("amount_tiyin", sa.BigInteger(), nullable=False),
        sa.Column("available_at", db.base.UtcTime(), nullable=False),
        sa.Column("note", sa.String(length=300), nullable=False),
        sa.Column("created_by", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["users.id"], name=op.f("fk_referral_entries_partner_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payments.id"], name=op.f("fk_referral_entries_payment_id_payments"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["referral_id"],
            ["referrals.id"],
            name=op.f("fk_referral_entries_referral_id_referrals"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral_entries")),
        sa.UniqueConstraint("kind", "payment_id", name=op.f("uq_referral_entries_kind_payment_id")),
    )
    op.create_index("ix_referral_entries_partner_id_id", "referral_entries", ["partner_id", "id"], unique=False)
    op.add_column("messages", sa.Column("quota_month", sa.String(length=7), nullable=True))
    op.add_column("users", sa.Column("email_confirmed_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("phone_confirmed_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("totp_secret", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("totp_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("totp_step", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("trial_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("subscription_version", sa.Integer(), server_default="0", nullable=False))
    op.add_column("users", sa.Column("referral_code", sa.String(length=24), nullable=True))
    op.add_column("users", sa.Column("unsubscribed_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("mail_refused_at", db.base.UtcTime(), nullable=True))
    op.add_column("users", sa.Column("delete_at", db.base.UtcTime(), nullable=True))
    op.create_index(op.f("ix_users_delete_at"), "users", ["delete_at"], unique=False)
    op.create_index("uq_users_referral_code", "users", ["referral_code"], unique=True)
    # The free days of whoever has an account already begin now: nobody's bot falls silent by an update of the program.
    users = sa.table("users", sa.column("trial_at", db.base.UtcTime()))
    op.execute(users.update().values(trial_at=dt.datetime.now(dt.UTC)))


def downgrade() -> None:

    op.drop_index("uq_users_referral_code", table_name="users")
    op.drop_index(op.f("ix_users_delete_at"), table_name="users")
    op.drop_column("users", "delete_at")
    op.drop_column("users", "mail_refused_at")
    op.drop_column("users", "unsubscribed_at")
    op.drop_column("users", "referral_code")
    op.drop_column("users", "subscription_version")
    op.drop_column("users", "trial_at")
    op.drop_column("users", "totp_step")
    op.drop_column("users", "totp_at")
    op.drop_column("users", "totp_secret")
    op.drop_column("users", "phone_confirmed_at")
    op.drop_column("users", "email_confirmed_at")
    op.drop_column("messages", "quota_month")
    op.drop_index("ix_referral_entries_partner_id_id", table_name="referral_entries")
    op.drop_table("referral_entries")
    op.drop_index("ix_payment_transactions_state_created_at", table_name="payment_transactions")
    op.drop_index(op.f("ix_payment_transactions_payment_id"), table_name="payment_transactions")
    op.drop_index("ix_payment_transactions_gateway_provider_time", table_name="payment_transactions")
    op.drop_table("payment_transactions")
    op.drop_index("ix_payment_events_payment_id_id", table_name="payment_events")
    op.drop_table("payment_events")
    op.drop_index(op.f("ix_coupon_uses_user_id"), table_name="coupon_uses")
    op.drop_index("ix_coupon_uses_coupon_id_user_id", table_name="coupon_uses")
    op.drop_table("coupon_uses")
    op.drop_index("ix_payments_user_id_id", table_name="payments")
    op.drop_index("ix_payments_status_expires_at", table_name="payments")
    op.drop_index("ix_payments_paid_at", table_name="payments")
    op.drop_index("ix_payments_status_created_at", table_name="payments")
    op.drop_index(op.f("ix_payments_coupon_id"), table_name="payments")
    op.drop_table("payments")
    op.drop_index(
        "uq_access_requests_pending",
        table_name="access_requests",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index(op.f("ix_access_requests_user_id"), table_name="access_requests")
    op.drop_index("ix_access_requests_status_id", table_name="access_requests")
    op.drop_table("access_requests")
    op.drop_index("ix_subscriptions_user_id_starts_at", table_name="subscriptions")
    op.drop_index(op.f("ix_subscriptions_payment_id"), table_name="subscriptions")
    op.drop_index(op.f("ix_subscriptions_ends_at"), table_name="subscriptions")
    op.drop_table("subscriptions")
    op.drop_index(op.f("ix_referrals_partner_id"), table_name="referrals")
    op.drop_table("referrals")
    op.drop_index(op.f("ix_referral_touches_partner_id"), table_name="referral_touches")
    op.drop_index(op.f("ix_referral_touches_at"), table_name="referral_touches")
    op.drop_table("referral_touches")
    op.drop_table("referral_clicks")
    op.drop_index(op.f("ix_recovery_codes_user_id"), table_name="recovery_codes")
    op.drop_table("recovery_codes")
    op.drop_table("message_quotas")
    op.drop_index("ix_letters_telegram_telegram_at", table_name="letters")
    op.drop_index(op.f("ix_letters_message_id"), table_name="letters")
    op.drop_index("ix_letters_mail_run_at", table_name="letters")
    op.drop_table("letters")
    op.drop_index(op.f("ix_coupons_user_id"), table_name="coupons")
    op.drop_table("coupons")
    op.drop_index(op.f("ix_account_codes_user_id"), table_name="account_codes")
    op.drop_index(op.f("ix_account_codes_expires_at"), table_name="account_codes")
    op.drop_table("account_codes")
    op.drop_table("letter_texts")
