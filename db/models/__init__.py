"""All tables, by the words of the product: ``from db import models`` and then ``models.Bot``."""

from db.base import Base
from db.models.accounts import ApiToken, AuditLog, DialogState, LoginLink, Notice, PanelSession, User
from db.models.bots import Bot, Channel
from db.models.conversations import Contact, Conversation, Message, UnansweredQuestion
from db.models.knowledge import Chunk, ChunkVector, Document, DocumentContent
from db.models.queues import InboxItem, Job, Lane, OutboxItem
from db.models.usage import AIUsage

__all__ = [
    "AIUsage",
    "ApiToken",
    "AuditLog",
    "Base",
    "Bot",
    "Channel",
    "Chunk",
    "ChunkVector",
    "Contact",
    "Conversation",
    "DialogState",
    "Document",
    "DocumentContent",
    "InboxItem",
    "Job",
    "Lane",
    "LoginLink",
    "Message",
    "Notice",
    "OutboxItem",
    "PanelSession",
    "UnansweredQuestion",
    "User",
]
