"""Numbers by day, versions of bots, broadcasts, webhooks out, support, remote views, announcements, errors and overrides."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: None = None
depends_on: None = None

# What administrators find people by, in pieces of three letters: two spaces stand before every word, so that one or two letters
# find its beginning.
_WHO = "'  ' || replace({row}full_name, ' ', '  ') || '  ' || coalesce({row}email, '')"
_PHONE = "coalesce({row}phone, '')"
_PIECES = "SELECT array_agg(DISTINCT substr(known.words, place, 3)) FROM"
_WORDS = f"SELECT lower({_WHO.format(row='')} || '  ' || {_PHONE.format(row='')}) AS words"
_PERSON_KEY = "(SELECT id FROM person_index_keys WHERE user_id = {row}id)"
_PERSON = f"{_WHO}, {_PHONE}"
_INTO_INDEX = "INSERT INTO person_index (rowid, who, phone)"
_OF_USERS = "FROM users"
_OUT_OF_INDEX = "INSERT INTO person_index (person_index, rowid, who, phone)"
_PERSON_TRIGGERS = (
    ("users_index_insert", "AFTER INSERT", False, True),
    ("users_index_delete", "AFTER DELETE", True, False),
    ("users_index_update", "AFTER UPDATE OF full_name, email, phone", True, True),
)


def _person_index(sqlite: bool) -> None:
    if not sqlite:
        each = "generate_series(1, length(known.words) - 2) AS place"
        op.execute(
            "CREATE FUNCTION person_pieces(full_name text, email text, phone text) RETURNS text[] LANGUAGE sql "
            f"IMMUTABLE PARALLEL SAFE AS $$ {_PIECES} ({_WORDS}) AS known, {each} $$"
        )
        op.execute("CREATE INDEX ix_users_pieces ON users USING gin (person_pieces(full_name, email, phone))")
        return
    # Numbers of its own: those of the rows of users may change when the file is compacted.
    op.execute("CREATE TABLE person_index_keys (id INTEGER PRIMARY KEY, user_id VARCHAR(26) NOT NULL UNIQUE)")
    op.execute("CREATE VIRTUAL TABLE person_index USING fts5(who, phone, content='', tokenize='trigram')")
    old = f"{_OUT_OF_INDEX} VALUES ('delete', {_PERSON_KEY}, {_PERSON});".format(row="old.")
    new = f"{_INTO_INDEX} VALUES ({_PERSON_KEY}, {_PERSON});".format(row="new.")
    for name, when, gone, there in _PERSON_TRIGGERS:
        begin = "" if gone else "INSERT INTO person_index_keys (user_id) VALUES (new.id); "
        end = "" if there else "DELETE FROM person_index_keys WHERE user_id = old.id; "
        steps = f"{begin}{old if gone else ''} {new if there else ''} {end}"
        op.execute(f"CREATE TRIGGER {name} {when} ON users BEGIN {steps} END")
    op.execute("INSERT INTO person_index_keys (user_id) SELECT id FROM users ORDER BY created_at")
    op.execute(f"{_INTO_INDEX} SELECT {_PERSON_KEY}, {_PERSON} {_OF_USERS}".format(row="users."))


def upgrade() -> None:
    _person_index(op.get_bind().dialect.name == "sqlite")
    op.create_table(
        "announcements",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("texts", db.base.JsonText(), nullable=False),
        sa.Column("audience", db.base.JsonText(), nullable=False),
        sa.Column("by_telegram", sa.Boolean(), nullable=False),
        sa.Column("by_mail", sa.Boolean(), nullable=False),
        sa.Column("as_banner", sa.Boolean(), nullable=False),
        sa.Column("banner_until", db.base.UtcTime(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("run_at", db.base.UtcTime(), nullable=True),
        sa.Column("cursor", sa.String(length=26), nullable=True),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("author_id", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("finished_at", db.base.UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
    )
    op.create_table(
        "counted_days",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("counted_at", db.base.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_counted_days")),
    )
    op.create_table(
        "day_costs",
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("feature", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("own_key", sa.Boolean(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", db.base.Usd(), nullable=False),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "owner_id", "day", "bot_id", "feature", "provider", "model", "own_key", name=op.f("pk_day_costs")
        ),
    )
    op.create_index("ix_day_costs_day", "day_costs", ["day"], unique=False)
    op.create_table(
        "error_records",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("event", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", db.base.UtcTime(), nullable=False),
        sa.Column("last_at", db.base.UtcTime(), nullable=False),
        sa.Column("hidden", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_error_records")),
    )
    op.create_index("ix_error_records_last_at", "error_records", ["last_at"], unique=False)
    op.create_table(
        "overrides",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", db.base.JsonText(), nullable=False),
        sa.Column("changed_by", sa.String(length=26), nullable=True),
        sa.Column("changed_at", db.base.UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_overrides")),
    )
    op.create_table(
        "announcements_seen",
        sa.Column("announcement_id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["announcement_id"],
            ["announcements.id"],
            name=op.f("fk_announcements_seen_announcement_id_announcements"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_announcements_seen_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("announcement_id", "user_id", name=op.f("pk_announcements_seen")),
    )
    op.create_index(op.f("ix_announcements_seen_user_id"), "announcements_seen", ["user_id"], unique=False)
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("events", db.base.JsonText(), nullable=False),
        sa.Column("failing_since", db.base.UtcTime(), nullable=True),
        sa.Column("last_ok_at", db.base.UtcTime(), nullable=True),
        sa.Column("disabled_at", db.base.UtcTime(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_endpoints_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index(op.f("ix_endpoints_owner_id"), "endpoints", ["owner_id"], unique=False)
    op.create_table(
        "remote_views",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("admin_id", sa.String(length=26), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("asked_at", db.base.UtcTime(), nullable=True),
        sa.Column("agreed_at", db.base.UtcTime(), nullable=True),
        sa.Column("refused_at", db.base.UtcTime(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("expires_at", db.base.UtcTime(), nullable=False),
        sa.Column("ended_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_remote_views_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remote_views")),
    )
    op.create_index(op.f("ix_remote_views_admin_id"), "remote_views", ["admin_id"], unique=False)
    op.create_index("ix_remote_views_owner_id_id", "remote_views", ["owner_id", "id"], unique=False)
    op.create_table(
        "support_talks",
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("waiting_since", db.base.UtcTime(), nullable=True),
        sa.Column("owner_seen_at", db.base.UtcTime(), nullable=True),
        sa.Column("last_text", sa.String(length=200), nullable=False),
        sa.Column("last_message_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_support_talks_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_support_talks")),
    )
    op.create_index("ix_support_talks_last_message_at", "support_talks", ["last_message_at"], unique=False)
    op.create_index(
        "ix_support_talks_waiting",
        "support_talks",
        ["waiting_since"],
        unique=False,
        sqlite_where=sa.text("waiting_since IS NOT NULL"),
        postgresql_where=sa.text("waiting_since IS NOT NULL"),
    )
    op.create_table(
        "bot_versions",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", db.base.JsonText(), nullable=False),
        sa.Column("undoes", sa.Integer(), nullable=True),
        sa.Column("author_id", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_bot_versions_bot_id_bots"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot_versions")),
        sa.UniqueConstraint("bot_id", "number", name=op.f("uq_bot_versions_bot_id_number")),
    )
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("title", sa.String(length=100), nullable=False),
        sa.Column("texts", db.base.JsonText(), nullable=False),
        sa.Column("template", db.base.JsonText(), nullable=True),
        sa.Column("audience", db.base.JsonText(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("run_at", db.base.UtcTime(), nullable=True),
        sa.Column("started_at", db.base.UtcTime(), nullable=True),
        sa.Column("finished_at", db.base.UtcTime(), nullable=True),
        sa.Column("cursor", sa.String(length=26), nullable=True),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("day_count", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("author_id", sa.String(length=26), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_broadcasts_bot_id_bots"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
    )
    op.create_index("ix_broadcasts_bot_id_id", "broadcasts", ["bot_id", "id"], unique=False)
    op.create_index(
        "ix_broadcasts_due",
        "broadcasts",
        ["run_at"],
        unique=False,
        sqlite_where=sa.text("status IN ('scheduled', 'sending')"),
        postgresql_where=sa.text("status IN ('scheduled', 'sending')"),
    )
    op.create_table(
        "day_numbers",
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("unanswered", sa.Integer(), nullable=False),
        sa.Column("handed_over", sa.Integer(), nullable=False),
        sa.Column("by_people", sa.Integer(), nullable=False),
        sa.Column("talks", sa.Integer(), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False),
        sa.Column("waits", db.base.JsonText(), nullable=False),
        sa.Column("person_waits", db.base.JsonText(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_day_numbers_bot_id_bots"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("bot_id", "day", "channel", "language", name=op.f("pk_day_numbers")),
    )
    op.create_index("ix_day_numbers_day", "day_numbers", ["day"], unique=False)
    op.create_table(
        "endpoint_events",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("endpoint_id", sa.String(length=26), nullable=False),
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_at", db.base.UtcTime(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.String(length=500), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.Column("delivered_at", db.base.UtcTime(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_endpoint_events_endpoint_id_endpoints"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_events")),
    )
    op.create_index("ix_endpoint_events_created_at", "endpoint_events", ["created_at"], unique=False)
    op.create_index(
        "ix_endpoint_events_due",
        "endpoint_events",
        ["endpoint_id", "run_at"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index("ix_endpoint_events_endpoint_id_id", "endpoint_events", ["endpoint_id", "id"], unique=False)
    op.create_index(
        "ix_endpoint_events_endpoint_id_status_id", "endpoint_events", ["endpoint_id", "status", "id"], unique=False
    )
    op.create_table(
        "remote_view_pages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("view_id", sa.String(length=26), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["view_id"], ["remote_views.id"], name=op.f("fk_remote_view_pages_view_id_remote_views"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remote_view_pages")),
    )
    op.create_index("ix_remote_view_pages_view_id_id", "remote_view_pages", ["view_id", "id"], unique=False)
    op.create_table(
        "support_messages",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("author_id", sa.String(length=26), nullable=True),
        sa.Column("by_admin", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("telegram", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("run_at", db.base.UtcTime(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["support_talks.owner_id"],
            name=op.f("fk_support_messages_owner_id_support_talks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_messages")),
        sa.UniqueConstraint("source", name=op.f("uq_support_messages_source")),
    )
    op.create_index("ix_support_messages_owner_id_id", "support_messages", ["owner_id", "id"], unique=False)
    op.create_index(
        "ix_support_messages_due",
        "support_messages",
        ["owner_id", "id"],
        unique=False,
        sqlite_where=sa.text("telegram = 'waiting'"),
        postgresql_where=sa.text("telegram = 'waiting'"),
    )
    op.create_table(
        "support_posts",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("admin_id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("upto", sa.String(length=26), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["admin_id"], ["users.id"], name=op.f("fk_support_posts_admin_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"],
            ["support_talks.owner_id"],
            name=op.f("fk_support_posts_owner_id_support_talks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_support_posts")),
        sa.UniqueConstraint("admin_id", "owner_id", "upto", name=op.f("uq_support_posts_admin_id_owner_id_upto")),
    )
    op.create_index("ix_support_posts_admin_id_number", "support_posts", ["admin_id", "number"], unique=False)
    op.create_index(op.f("ix_support_posts_owner_id"), "support_posts", ["owner_id"], unique=False)
    op.create_table(
        "broadcast_deliveries",
        sa.Column("broadcast_id", sa.String(length=26), nullable=False),
        sa.Column("contact_id", sa.String(length=26), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("message_id", sa.String(length=26), nullable=True),
        sa.Column("changed_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["broadcast_id"],
            ["broadcasts.id"],
            name=op.f("fk_broadcast_deliveries_broadcast_id_broadcasts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["contact_id"],
            ["contacts.id"],
            name=op.f("fk_broadcast_deliveries_contact_id_contacts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("broadcast_id", "contact_id", name=op.f("pk_broadcast_deliveries")),
    )
    op.create_index("ix_broadcast_deliveries_contact_id", "broadcast_deliveries", ["contact_id"], unique=False)
    op.create_index(
        "ix_broadcast_deliveries_state", "broadcast_deliveries", ["broadcast_id", "status", "contact_id"], unique=False
    )
    for queue in ("inbox", "jobs"):
        op.create_index(
            f"ix_{queue}_dead",
            queue,
            ["id"],
            unique=False,
            sqlite_where=sa.text("status = 'dead'"),
            postgresql_where=sa.text("status = 'dead'"),
        )
    op.create_index(
        "ix_letters_announcement",
        "letters",
        ["key", "mail", "telegram"],
        unique=False,
        sqlite_where=sa.text("kind IN ('announcement', 'announcement_news')"),
        postgresql_where=sa.text("kind IN ('announcement', 'announcement_news')"),
    )
    op.create_index("ix_ai_usage_created_at", "ai_usage", ["created_at"], unique=False)
    op.create_index("ix_audit_log_action_id", "audit_log", ["action", "id"], unique=False)
    op.create_index(
        "ix_audit_log_object_kind_object_id_id", "audit_log", ["object_kind", "object_id", "id"], unique=False
    )
    op.add_column("bots", sa.Column("draft", db.base.JsonText(), nullable=True))
    op.add_column("contacts", sa.Column("opted_out_at", db.base.UtcTime(), nullable=True))
    op.create_index("ix_contacts_bot_id_id", "contacts", ["bot_id", "id"], unique=False)
    op.drop_index(op.f("ix_contacts_bot_id"), table_name="contacts")
    op.add_column("outbox", sa.Column("begun", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_conversations_last_message_at", "conversations", ["last_message_at"], unique=False)
    op.add_column("panel_sessions", sa.Column("view_id", sa.String(length=26), nullable=True))
    op.add_column("users", sa.Column("ban_reason", sa.String(length=300), server_default="", nullable=False))
    op.add_column("users", sa.Column("preferences", db.base.JsonText(), server_default="{}", nullable=False))
    op.drop_index("ix_audit_log_actor_id", table_name="audit_log")
    op.create_index("ix_audit_log_actor_id_id", "audit_log", ["actor_id", "id"], unique=False)
    op.create_index("ix_channels_username", "channels", [sa.text("lower(username)")], unique=False)
    op.create_index("ix_users_created_at_id", "users", ["created_at", "id"], unique=False)
    op.create_index("ix_users_role_created_at", "users", ["role", "created_at"], unique=False)
    op.create_index("ix_users_role_id", "users", ["role", "id"], unique=False)
    op.create_index("ix_contacts_bot_id_language", "contacts", ["bot_id", "language"], unique=False)
    for status in ("human", "closed"):
        op.create_index(
            f"ix_conversations_{status}",
            "conversations",
            ["bot_id", "last_message_at"],
            unique=False,
            sqlite_where=sa.text(f"status = '{status}'"),
            postgresql_where=sa.text(f"status = '{status}'"),
        )
    op.create_index("ix_coupons_words", "coupons", ["id", "code", "note"], unique=False)
    op.create_index("ix_payments_created_at_id", "payments", ["created_at", "id"], unique=False)
    op.drop_index("ix_payments_paid_at", table_name="payments")
    columns = ["paid_at", "sandbox", "paid_by", "amount_tiyin", "user_id"]
    op.create_index("ix_payments_paid_at", "payments", columns, unique=False)
    op.create_index(
        "ix_payments_refunded_at",
        "payments",
        ["refunded_at"],
        unique=False,
        sqlite_where=sa.text("refunded_at IS NOT NULL"),
        postgresql_where=sa.text("refunded_at IS NOT NULL"),
    )
    for column in ("performed_at", "cancelled_at"):
        op.create_index(f"ix_payment_transactions_{column}", "payment_transactions", [column], unique=False)
    op.drop_index("ix_referral_entries_kind_available_at", table_name="referral_entries")
    columns = ["kind", "available_at", "partner_id", "amount_tiyin"]
    op.create_index("ix_referral_entries_kind_available_at", "referral_entries", columns, unique=False)
    op.create_index("ix_referral_entries_kind_id", "referral_entries", ["kind", "id"], unique=False)
    op.create_index(
        "ix_referral_entries_sums",
        "referral_entries",
        ["partner_id", "kind", "available_at", "amount_tiyin"],
        unique=False,
    )
    op.create_index("ix_users_began", "users", [sa.text("coalesce(trial_at, created_at)")], unique=False)
    op.create_index(
        "ix_users_banned_at",
        "users",
        ["banned_at"],
        unique=False,
        sqlite_where=sa.text("banned_at IS NOT NULL"),
        postgresql_where=sa.text("banned_at IS NOT NULL"),
    )
    for table in ("documents", "attachments"):
        op.create_index(f"ix_{table}_status_kind_id", table, ["status", "kind", "id"], unique=False)
        op.create_index(f"ix_{table}_size_id", table, ["size", "id"], unique=False)
    for name, table, columns, condition in (
        ("connected", "channels", ["status", "kind", "id"], "external_id IS NOT NULL AND bot_id IS NOT NULL"),
        ("bad", "endpoints", ["id"], "failing_since IS NOT NULL OR disabled_at IS NOT NULL"),
    ):
        op.create_index(
            f"ix_{table}_{name}",
            table,
            columns,
            unique=False,
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )


def downgrade() -> None:
    op.drop_index("ix_endpoints_bad", table_name="endpoints")
    op.drop_index("ix_channels_connected", table_name="channels")
    for table in ("attachments", "documents"):
        op.drop_index(f"ix_{table}_size_id", table_name=table)
        op.drop_index(f"ix_{table}_status_kind_id", table_name=table)
    if op.get_bind().dialect.name == "sqlite":
        for name, *_ in _PERSON_TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DROP TABLE person_index")
        op.execute("DROP TABLE person_index_keys")
    else:
        op.drop_index("ix_users_pieces", table_name="users")
        op.execute("DROP FUNCTION person_pieces(text, text, text)")
    op.drop_index("ix_users_banned_at", table_name="users")
    op.drop_index("ix_users_began", table_name="users")
    op.drop_index("ix_referral_entries_sums", table_name="referral_entries")
    op.drop_index("ix_referral_entries_kind_id", table_name="referral_entries")
    op.drop_index("ix_referral_entries_kind_available_at", table_name="referral_entries")
    op.create_index("ix_referral_entries_kind_available_at", "referral_entries", ["kind", "available_at"], unique=False)
    for column in ("cancelled_at", "performed_at"):
        op.drop_index(f"ix_payment_transactions_{column}", table_name="payment_transactions")
    op.drop_index("ix_payments_refunded_at", table_name="payments")
    op.drop_index("ix_payments_paid_at", table_name="payments")
    op.create_index("ix_payments_paid_at", "payments", ["paid_at"], unique=False)
    op.drop_index("ix_payments_created_at_id", table_name="payments")
    for status in ("closed", "human"):
        op.drop_index(f"ix_conversations_{status}", table_name="conversations")
    op.drop_index("ix_contacts_bot_id_language", table_name="contacts")
    op.drop_index("ix_coupons_words", table_name="coupons")
    op.drop_index("ix_users_role_id", table_name="users")
    op.drop_index("ix_users_role_created_at", table_name="users")
    op.drop_index("ix_users_created_at_id", table_name="users")
    op.drop_index("ix_channels_username", table_name="channels")
    op.drop_index("ix_audit_log_actor_id_id", table_name="audit_log")
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor_id"], unique=False)
    op.drop_column("users", "preferences")
    op.drop_column("users", "ban_reason")
    op.drop_column("panel_sessions", "view_id")
    op.drop_index("ix_conversations_last_message_at", table_name="conversations")
    op.drop_column("outbox", "begun")
    op.create_index(op.f("ix_contacts_bot_id"), "contacts", ["bot_id"], unique=False)
    op.drop_index("ix_contacts_bot_id_id", table_name="contacts")
    op.drop_column("contacts", "opted_out_at")
    op.drop_column("bots", "draft")
    op.drop_index("ix_audit_log_object_kind_object_id_id", table_name="audit_log")
    op.drop_index("ix_audit_log_action_id", table_name="audit_log")
    op.drop_index("ix_ai_usage_created_at", table_name="ai_usage")
    op.drop_index("ix_letters_announcement", table_name="letters")
    op.drop_index("ix_jobs_dead", table_name="jobs")
    op.drop_index("ix_inbox_dead", table_name="inbox")
    op.drop_table("broadcast_deliveries")
    op.drop_table("support_posts")
    op.drop_table("support_messages")
    op.drop_table("remote_view_pages")
    op.drop_table("endpoint_events")
    op.drop_table("day_numbers")
    op.drop_table("broadcasts")
    op.drop_table("bot_versions")
    op.drop_table("support_talks")
    op.drop_table("remote_views")
    op.drop_table("endpoints")
    op.drop_table("announcements_seen")
    op.drop_table("overrides")
    op.drop_table("error_records")
    op.drop_table("day_costs")
    op.drop_table("counted_days")
    op.drop_table("announcements")
