"""All tables, by the words of the product: ``from db import models`` and then ``models.Bot``."""

from db.base import Base
from db.models.accounts import (
    ApiToken,
    AuditLog,
    DialogState,
    Invitation,
    LoginLink,
    Member,
    Notice,
    PanelSession,
    User,
)
from db.models.bots import Bot, BusinessConnection, Channel, ForumGroup, ForumMessage, ForumTopic
from db.models.conversations import (
    Attachment,
    AttachmentContent,
    CannedReply,
    Contact,
    Conversation,
    ConversationLabel,
    JoinedConversation,
    Label,
    Message,
    Note,
    UnansweredQuestion,
    Upload,
)
from db.models.knowledge import Chunk, ChunkVector, Document, DocumentContent, TestQuestion, TestRun
from db.models.queues import InboxItem, Job, Lane, OutboxItem
from db.models.usage import AIUsage

__all__ = [
    "AIUsage",
    "ApiToken",
    "Attachment",
    "AttachmentContent",
    "AuditLog",
    "Base",
    "Bot",
    "BusinessConnection",
    "CannedReply",
    "Channel",
    "Chunk",
    "ChunkVector",
    "Contact",
    "Conversation",
    "ConversationLabel",
    "DialogState",
    "Document",
    "DocumentContent",
    "ForumGroup",
    "ForumMessage",
    "ForumTopic",
    "InboxItem",
    "Invitation",
    "Job",
    "JoinedConversation",
    "Label",
    "Lane",
    "LoginLink",
    "Member",
    "Message",
    "Note",
    "Notice",
    "OutboxItem",
    "PanelSession",
    "TestQuestion",
    "TestRun",
    "UnansweredQuestion",
    "Upload",
    "User",
]
