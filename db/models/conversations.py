"""Customers and what was said."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, JsonText, UtcTime, new_id, utcnow


def _only(condition: str) -> dict[str, Any]:
    """Return what makes an index hold only the rows of this condition, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Contact(Base):
    """A customer on one channel; ``alias``: a second id on the network.

    ``language`` is the customer's choice when ``language_chosen``, else the best guess. ``source``: where the customer first came
    from (the parameter of a deep link, an advertisement, a site). ``opted_out_at``: wants no broadcasts.
    """

    __tablename__ = "contacts"
    __table_args__ = (
        UniqueConstraint("channel_id", "external_id"),
        Index("ix_contacts_bot_id_id", "bot_id", "id"),
        Index("ix_contacts_bot_id_language", "bot_id", "language"),
        Index("ix_contacts_channel_id_alias", "channel_id", "alias"),
        Index("ix_contacts_phone", "phone", **_only("phone IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"))
    external_id: Mapped[str] = mapped_column(String(128))
    alias: Mapped[str | None] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(200), default="")
    username: Mapped[str] = mapped_column(String(64), default="")
    phone: Mapped[str | None] = mapped_column(String(32))
    language: Mapped[str | None] = mapped_column(String(8))
    language_chosen: Mapped[bool] = mapped_column(default=False)
    unreachable_since: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    source: Mapped[str] = mapped_column(String(128), default="", server_default="")
    opted_out_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Conversation(Base):
    """The talk with one contact.

    ``status``: ``bot`` (the bot answers), ``waiting`` (a person is wanted; the bot still answers), ``human`` (a person
    answers), ``closed``. ``waiting_reason``: why it waits: ``asked`` (the customer wants a person), ``gave_up`` (the bot knew
    no answer), ``error`` (a message could not be handled). ``recent``: the last turns as ``[role, text]`` for the model,
    bounded, kept with the reply in one transaction. ``last_inbound_at``: when the customer last wrote. ``unanswered_since``:
    the customer's first message that nobody has answered yet. ``person_at``: when a person last took part; ``assignee_id``:
    whose talk it is; ``snoozed_until``: put aside until then, or until the customer writes after ``snoozed_at``.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        Index("ix_conversations_bot_id_last_message_at", "bot_id", "last_message_at"),
        Index("ix_conversations_last_message_at", "last_message_at"),
        Index("ix_conversations_status_person_at", "status", "person_at"),
        Index("ix_conversations_waiting", "bot_id", "last_message_at", **_only("status = 'waiting'")),
        Index("ix_conversations_human", "bot_id", "last_message_at", **_only("status = 'human'")),
        Index("ix_conversations_closed", "bot_id", "last_message_at", **_only("status = 'closed'")),
        Index("ix_conversations_unanswered", "bot_id", "last_message_at", **_only("unanswered_since IS NOT NULL")),
        Index(
            "ix_conversations_assigned", "bot_id", "assignee_id", "last_message_at", **_only("assignee_id IS NOT NULL")
        ),
        Index("ix_conversations_snoozed", "bot_id", "snoozed_until", **_only("snoozed_until IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), index=True)
    contact_id: Mapped[str] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), unique=True)
    status: Mapped[str] = mapped_column(String(16), default="bot")
    waiting_reason: Mapped[str | None] = mapped_column(String(16))
    recent: Mapped[Any] = mapped_column(JsonText, default=list)
    last_message_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    last_inbound_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    last_text: Mapped[str] = mapped_column(String(200), default="")
    unanswered_since: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    person_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    assignee_id: Mapped[str | None] = mapped_column(Id, index=True)
    snoozed_until: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    snoozed_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class JoinedConversation(Base):
    """Where a conversation went whose customer turned out to be somebody known: ``id`` was its own, links to it still work."""

    __tablename__ = "joined_conversations"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Message(Base):
    """One message. ``author``: ``customer``, ``bot``, ``operator`` or ``system``.

    ``status`` of what we sent: ``queued``, ``sent``, ``failed``, ``unknown`` (it left us and no answer came); networks that
    tell more also ``delivered``, ``read``. Of what we received: ``received``, ``answered``, ``failed`` (set aside),
    ``skipped`` (over a limit or too old). ``answered`` is false on a reply that says "I don't know". ``author_id``: which
    operator wrote it. ``rating``: the customer's thumb, 1 or -1. ``extra``: of what arrived, more than its text: a place, a
    story, the message it answers. ``quota_month``: the month whose allowance the bot's answer to it was counted in.
    """

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_conversation_id_id", "conversation_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    author: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16), default="text")
    text: Mapped[str] = mapped_column(Text, default="")
    language: Mapped[str | None] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16), default="received")
    external_id: Mapped[str | None] = mapped_column(String(128))
    reply_to: Mapped[str | None] = mapped_column(Id)
    answered: Mapped[bool | None] = mapped_column()
    provider: Mapped[str | None] = mapped_column(String(32))
    model: Mapped[str | None] = mapped_column(String(100))
    sources: Mapped[Any] = mapped_column(JsonText, nullable=True)
    usage: Mapped[Any] = mapped_column(JsonText, nullable=True)
    error: Mapped[str | None] = mapped_column(String(300))
    author_id: Mapped[str | None] = mapped_column(Id)
    rating: Mapped[int | None] = mapped_column()
    extra: Mapped[Any] = mapped_column(JsonText, nullable=True)
    edited_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    quota_month: Mapped[str | None] = mapped_column(String(7))
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ConversationText(Base):
    """What a conversation is found by: ``who`` the customer is and the ``words`` that were said, each once, in one spelling.

    Made by ``services.conversations.finding`` within a minute, or when somebody searches. The index over it is the
    database's matter.
    """

    __tablename__ = "conversation_texts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), unique=True)
    bot_id: Mapped[str] = mapped_column(Id)
    who: Mapped[str] = mapped_column(Text, default="")
    words: Mapped[str] = mapped_column(Text, default="")


class ConversationDue(Base):
    """Of a conversation something changed that it is found by; written by triggers.

    ``message_id``: a new message; without one who the customer is. ``whole``: something that was said is not there any more.
    """

    __tablename__ = "conversation_dues"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    conversation_id: Mapped[str] = mapped_column(Id)
    message_id: Mapped[str | None] = mapped_column(Id)
    whole: Mapped[bool] = mapped_column(default=False, server_default=false())


class Attachment(Base):
    """A file of a message, of a customer's or of ours. Deleted with the message.

    ``kind``: ``photo``, ``voice``, ``audio``, ``video``, ``document``, ``sticker``. ``status``: ``waiting`` (not fetched yet),
    ``stored``, ``too_large``, ``refused`` (not what may be kept), ``gone`` (the network has it no more), ``no_room``
    (as much is kept for the owner as may be), ``failed``. ``mime`` is
    what the content shows, not what the sender says. ``remote``: how the network names it. ``transcript``: what was said in it,
    or what is to be seen. ``document_id``: the document whose bytes these are; such a file has no content of its own.
    """

    __tablename__ = "attachments"
    __table_args__ = (
        Index("ix_attachments_status_kind_id", "status", "kind", "id"),
        Index("ix_attachments_size_id", "size", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), index=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255), default="")
    mime: Mapped[str] = mapped_column(String(100), default="")
    size: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(String(16), default="waiting")
    remote: Mapped[Any] = mapped_column(JsonText, nullable=True)
    transcript: Mapped[str | None] = mapped_column(Text)
    document_id: Mapped[str | None] = mapped_column(Id, index=True)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class AttachmentContent(Base):
    """The bytes of a file, outside of every folder that is served."""

    __tablename__ = "attachment_contents"

    attachment_id: Mapped[str] = mapped_column(ForeignKey("attachments.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Upload(Base):
    """A picture that a visitor of the web channel sent, until it is fetched into the conversation. ``size`` in bytes."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    channel_id: Mapped[str] = mapped_column(ForeignKey("channels.id", ondelete="CASCADE"), index=True)
    mime: Mapped[str] = mapped_column(String(100))
    size: Mapped[int] = mapped_column()
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow, index=True)


class Note(Base):
    """What operators tell each other about a conversation: never shown or sent to the customer."""

    __tablename__ = "notes"
    __table_args__ = (Index("ix_notes_conversation_id_id", "conversation_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    author_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class Label(Base):
    """A word that an owner's operators put on conversations. ``color``: one of the panel's, 0 to 7."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(40))
    color: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class ConversationLabel(Base):
    """A label on a conversation."""

    __tablename__ = "conversation_labels"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    label_id: Mapped[str] = mapped_column(ForeignKey("labels.id", ondelete="CASCADE"), primary_key=True, index=True)


class CannedReply(Base):
    """A ready answer of an owner's operators, found by its ``shortcut`` after a slash."""

    __tablename__ = "canned_replies"
    __table_args__ = (UniqueConstraint("owner_id", "shortcut"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    shortcut: Mapped[str] = mapped_column(String(32))
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class UnansweredQuestion(Base):
    """A question that the documents did not answer, once per bot and wording. ``folded`` is the key that joins spellings."""

    __tablename__ = "unanswered_questions"
    __table_args__ = (UniqueConstraint("bot_id", "folded"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    conversation_id: Mapped[str | None] = mapped_column(Id)
    question: Mapped[str] = mapped_column(Text)
    folded: Mapped[str] = mapped_column(String(300))
    language: Mapped[str | None] = mapped_column(String(8))
    count: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    last_asked_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    answered_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
