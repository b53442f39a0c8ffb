"""People who answer, files, groups that serve as an inbox, a bot's own tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: None = None
depends_on: None = None

_PARTIAL = (
    ("ix_contacts_phone", "contacts", ["phone"], "phone IS NOT NULL"),
    ("ix_conversations_waiting", "conversations", ["bot_id", "last_message_at"], "status = 'waiting'"),
    ("ix_conversations_unanswered", "conversations", ["bot_id", "last_message_at"], "unanswered_since IS NOT NULL"),
    (
        "ix_conversations_assigned",
        "conversations",
        ["bot_id", "assignee_id", "last_message_at"],
        "assignee_id IS NOT NULL",
    ),
    ("ix_conversations_snoozed", "conversations", ["bot_id", "snoozed_until"], "snoozed_until IS NOT NULL"),
)


def upgrade() -> None:
    op.create_table(
        "canned_replies",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("shortcut", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_canned_replies_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canned_replies")),
        sa.UniqueConstraint("owner_id", "shortcut", name=op.f("uq_canned_replies_owner_id_shortcut")),
    )
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("expires_at", db.base.UtcTime(), nullable=False),
        sa.Column("used_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_invitations_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_invitations")),
    )
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"])
    op.create_index("ix_invitations_owner_id", "invitations", ["owner_id"])

    op.create_table(
        "labels",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("color", sa.Integer(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_labels_owner_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_labels_owner_id_name")),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_members_owner_id_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_members_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("owner_id", "user_id", name=op.f("uq_members_owner_id_user_id")),
    )
    op.create_index("ix_members_user_id", "members", ["user_id"])

    op.create_table(
        "forum_groups",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("owner_id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=True),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_forum_groups_bot_id_bots"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name=op.f("fk_forum_groups_owner_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forum_groups")),
        sa.UniqueConstraint("chat_id", name=op.f("uq_forum_groups_chat_id")),
    )
    op.create_index("ix_forum_groups_bot_id", "forum_groups", ["bot_id"])
    op.create_index("ix_forum_groups_owner_id", "forum_groups", ["owner_id"])

    op.create_table(
        "test_questions",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["bots.id"], name=op.f("fk_test_questions_bot_id_bots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_questions")),
    )
    op.create_index("ix_test_questions_bot_id", "test_questions", ["bot_id"])

    op.create_table(
        "test_runs",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("prompt_hash", sa.String(length=64), nullable=False),
        sa.Column("knowledge_version", sa.Integer(), nullable=False),
        sa.Column("results", db.base.JsonText(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.Column("finished_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_test_runs_bot_id_bots"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_runs")),
    )
    op.create_index("ix_test_runs_bot_id", "test_runs", ["bot_id"])

    op.create_table(
        "business_connections",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("channel_id", sa.String(length=26), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("can_reply", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["channels.id"],
            name=op.f("fk_business_connections_channel_id_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_business_connections")),
    )
    op.create_index("ix_business_connections_channel_id", "business_connections", ["channel_id"])

    op.create_table(
        "conversation_labels",
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("label_id", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_labels_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["label_id"], ["labels.id"], name=op.f("fk_conversation_labels_label_id_labels"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("conversation_id", "label_id", name=op.f("pk_conversation_labels")),
    )
    op.create_index("ix_conversation_labels_label_id", "conversation_labels", ["label_id"])

    op.create_table(
        "forum_topics",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("group_id", sa.String(length=26), nullable=False),
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("thread_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("seen", sa.String(length=26), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("shown_at", db.base.UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_forum_topics_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["forum_groups.id"], name=op.f("fk_forum_topics_group_id_forum_groups"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forum_topics")),
        sa.UniqueConstraint("group_id", "conversation_id", name=op.f("uq_forum_topics_group_id_conversation_id")),
        sa.UniqueConstraint("group_id", "thread_id", name=op.f("uq_forum_topics_group_id_thread_id")),
    )
    op.create_index("ix_forum_topics_conversation_id", "forum_topics", ["conversation_id"])

    op.create_table(
        "notes",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("conversation_id", sa.String(length=26), nullable=False),
        sa.Column("author_id", sa.String(length=26), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_notes_author_id_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_notes_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
    )
    op.create_index("ix_notes_conversation_id_id", "notes", ["conversation_id", "id"])

    op.create_table(
        "attachments",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("bot_id", sa.String(length=26), nullable=False),
        sa.Column("message_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("mime", sa.String(length=100), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("remote", db.base.JsonText(), nullable=True),
        sa.Column("transcript", sa.Text(), nullable=True),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_attachments_bot_id_bots"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_attachments_message_id_messages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachments")),
    )
    op.create_index("ix_attachments_bot_id", "attachments", ["bot_id"])
    op.create_index("ix_attachments_message_id", "attachments", ["message_id"])

    op.create_table(
        "forum_messages",
        sa.Column("group_id", sa.String(length=26), nullable=False),
        sa.Column("telegram_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["forum_groups.id"], name=op.f("fk_forum_messages_group_id_forum_groups"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_forum_messages_message_id_messages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "telegram_id", name=op.f("pk_forum_messages")),
    )
    op.create_index("ix_forum_messages_message_id", "forum_messages", ["message_id"])

    op.create_table(
        "attachment_contents",
        sa.Column("attachment_id", sa.String(length=26), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attachment_id"],
            ["attachments.id"],
            name=op.f("fk_attachment_contents_attachment_id_attachments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("attachment_id", name=op.f("pk_attachment_contents")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("channel_id", sa.String(length=26), nullable=False),
        sa.Column("mime", sa.String(length=100), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", db.base.UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("fk_uploads_channel_id_channels"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_channel_id", "uploads", ["channel_id"])
    op.create_index("ix_uploads_created_at", "uploads", ["created_at"])
    op.add_column("bots", sa.Column("settings", db.base.JsonText(), server_default="{}", nullable=False))

    op.add_column("channels", sa.Column("health", db.base.JsonText(), server_default="{}", nullable=False))

    op.add_column("contacts", sa.Column("source", sa.String(length=128), server_default="", nullable=False))

    op.add_column("conversations", sa.Column("unanswered_since", db.base.UtcTime(), nullable=True))
    op.add_column("conversations", sa.Column("person_at", db.base.UtcTime(), nullable=True))
    op.execute("UPDATE conversations SET person_at = last_message_at WHERE status = 'human'")
    op.add_column("conversations", sa.Column("assignee_id", sa.String(length=26), nullable=True))
    op.add_column("conversations", sa.Column("snoozed_until", db.base.UtcTime(), nullable=True))
    op.add_column("conversations", sa.Column("snoozed_at", db.base.UtcTime(), nullable=True))
    op.create_index("ix_conversations_assignee_id", "conversations", ["assignee_id"])
    op.create_index("ix_conversations_status_person_at", "conversations", ["status", "person_at"])
    for name, table, columns, condition in _PARTIAL:
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)

    op.add_column("messages", sa.Column("author_id", sa.String(length=26), nullable=True))
    op.add_column("messages", sa.Column("rating", sa.Integer(), nullable=True))
    op.add_column("messages", sa.Column("extra", db.base.JsonText(), nullable=True))
    op.add_column("messages", sa.Column("edited_at", db.base.UtcTime(), nullable=True))
    op.add_column("messages", sa.Column("deleted_at", db.base.UtcTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("messages", "deleted_at")
    op.drop_column("messages", "edited_at")
    op.drop_column("messages", "extra")
    op.drop_column("messages", "rating")
    op.drop_column("messages", "author_id")

    for name, table, _columns, _condition in reversed(_PARTIAL):
        op.drop_index(name, table)
    op.drop_index("ix_conversations_status_person_at", "conversations")
    op.drop_index("ix_conversations_assignee_id", "conversations")
    op.drop_column("conversations", "snoozed_at")
    op.drop_column("conversations", "snoozed_until")
    op.drop_column("conversations", "assignee_id")
    op.drop_column("conversations", "person_at")
    op.drop_column("conversations", "unanswered_since")

    op.drop_column("contacts", "source")

    op.drop_column("channels", "health")

    op.drop_column("bots", "settings")

    op.drop_table("uploads")
    op.drop_table("attachment_contents")
    op.drop_table("forum_messages")
    op.drop_table("attachments")
    op.drop_table("notes")
    op.drop_table("forum_topics")
    op.drop_table("conversation_labels")
    op.drop_table("business_connections")
    op.drop_table("test_runs")
    op.drop_table("test_questions")
    op.drop_table("forum_groups")
    op.drop_table("members")
    op.drop_table("labels")
    op.drop_table("invitations")
    op.drop_table("canned_replies")
