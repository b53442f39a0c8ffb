"""What a bot knows. The full-text index beside these tables is made by the migrations and known to ``db.fulltext``."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, BigId, Id, JsonText, UtcTime, Vector, new_id, utcnow


class Document(Base):
    """An uploaded document, or the owner's own answers (``kind`` = ``answers``).

    ``status``: ``queued``, ``processing``, ``ready``, ``failed``. Only a document with ``serving`` is searched; a new upload
    of the same name takes its place in the transaction that makes the new one ``ready``. ``shared``: the bot may send the
    file to customers; ``caption``: what it shows, in the owner's words.
    """

    __tablename__ = "documents"
    __table_args__ = (
        Index("ix_documents_bot_id_name", "bot_id", "name"),
        Index("ix_documents_status_kind_id", "status", "kind", "id"),
        Index("ix_documents_size_id", "size", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(16))
    size: Mapped[int] = mapped_column(default=0)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    status: Mapped[str] = mapped_column(String(16), default="queued")
    progress: Mapped[int] = mapped_column(default=0)
    error_code: Mapped[str | None] = mapped_column(String(32))
    serving: Mapped[bool] = mapped_column(default=False)
    shared: Mapped[bool] = mapped_column(default=False, server_default=false())
    caption: Mapped[str] = mapped_column(String(300), default="", server_default="")
    chunk_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    deleted_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)


class DocumentContent(Base):
    """The uploaded bytes: in the row's transaction, so an acknowledged upload is never half there."""

    __tablename__ = "document_contents"

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Chunk(Base):
    """A passage. ``stems`` and ``grams`` are what search compares (see ``services.knowledge.analysis``)."""

    __tablename__ = "chunks"
    __table_args__ = (
        Index("ix_chunks_document_id_id", "document_id", "id"),
        Index("ix_chunks_bot_id_id", "bot_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"))
    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column()
    heading: Mapped[str] = mapped_column(String(500), default="")
    locus: Mapped[str] = mapped_column(String(64), default="")
    text: Mapped[str] = mapped_column(Text)
    stems: Mapped[str] = mapped_column(Text)
    grams: Mapped[str] = mapped_column(Text)
    meta: Mapped[Any] = mapped_column(JsonText, nullable=True)


class ChunkVector(Base):
    """A passage's embedding by one model."""

    __tablename__ = "chunk_vectors"
    __table_args__ = (Index("ix_chunk_vectors_bot_id_model", "bot_id", "model"),)

    chunk_id: Mapped[int] = mapped_column(ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True)
    bot_id: Mapped[str] = mapped_column(Id)
    model: Mapped[str] = mapped_column(String(100), primary_key=True)
    vector: Mapped[Any] = mapped_column(Vector)


class TestQuestion(Base):
    """A question of a bot's own test. ``expected``: what a right answer says; empty: any answer out of the documents."""

    __tablename__ = "test_questions"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), index=True)
    question: Mapped[str] = mapped_column(Text)
    expected: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)


class TestRun(Base):
    """One run of a bot's test questions. ``status``: ``queued``, ``running``, ``done``, ``failed``.

    ``results``: by question id what was answered and how it was judged; ``prompt_hash`` and ``knowledge_version``: of what.
    """

    __tablename__ = "test_runs"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=new_id)
    bot_id: Mapped[str] = mapped_column(ForeignKey("bots.id", ondelete="CASCADE"), index=True)
    status: Mapped[str] = mapped_column(String(16), default="queued")
    prompt_hash: Mapped[str] = mapped_column(String(64), default="")
    knowledge_version: Mapped[int] = mapped_column(default=0)
    results: Mapped[Any] = mapped_column(JsonText, default=dict)
    created_at: Mapped[dt.datetime] = mapped_column(UtcTime, default=utcnow)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
