"""Everything of an account as a file: each table is in it, or is left out for a reason that is written down."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import Base, utcnow
from db.engine import Database
from services import exporting
from tests.services.owned import DAY, fill

SECRET = "KANAREYKA-sir"
"""Stands in every column that nobody may read."""
OTHER = "Begona"

MARKS = {
    "users": "egasi@example.uz",
    "remote_views": "mark-view",
    "remote_view_pages": "/mark-page",
    "access_requests": "mark-request",
    "ai_usage": "mark-model",
    "api_tokens": "mark-token",
    "attachment_contents": "mark-bytes",
    "attachments": "mark-file.jpg",
    "audit_log": "mark_done",
    "bot_versions": "mark-version",
    "bots": "Men prompt",
    "broadcast_deliveries": "mark-refused",
    "broadcasts": "Men news",
    "business_connections": "mark-business",
    "canned_replies": "Men greets",
    "channels": "mark-channel",
    "contacts": "Men customer",
    "conversation_labels": "mark-label",
    "conversations": "mark-last",
    "coupon_uses": "mark-released",
    "coupons": "MEN10",
    "document_contents": "Men narxlari",
    "documents": "Men.txt",
    "endpoint_events": "mark-told",
    "endpoints": "mark-endpoint",
    "forum_groups": "mark-group",
    "invitations": "mark-invited",
    "labels": "mark-label",
    "letters": "mark-letter",
    "members": "mark-role",
    "message_quotas": "2031-07",
    "messages": "Men wrote",
    "notes": "Men noted",
    "notices": "mark-notice",
    "panel_sessions": "mark-browser",
    "payment_events": "mark-event",
    "payment_transactions": "mark-attempt",
    "payments": "mark-payment",
    "referral_clicks": "2031-07-09",
    "referral_entries": "mark-payout",
    "referrals": "mark-source",
    "subscriptions": "mark-plan",
    "support_messages": "mark-support",
    "support_talks": "mark-supported",
    "test_questions": "mark-question",
    "test_runs": "mark-run",
    "unanswered_questions": "mark-asked",
}
"""What stands in one row of a table and can be found in the ZIP."""


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A database of the test's own, of each kind."""
    made = Database(database_url, pool_size=4)
    yield made
    await made.close()


async def _one(session: AsyncSession, model: Any, condition: Any, **values: Any) -> None:
    await session.execute(
        update(model).where(condition).values(**values), execution_options={"synchronize_session": False}
    )


async def _marked(session: AsyncSession) -> models.User:
    """Make an account with a mark in a row of every table, and a secret wherever there is room for one."""
    helper = models.User(full_name=OTHER, email="begona@example.uz")
    session.add(helper)
    await session.flush()
    user = await fill(session, "Men", helper=helper, email="egasi@example.uz", password_hash=SECRET)
    user.totp_secret = SECRET
    own, now = user.id, utcnow()
    bot = (await session.scalars(select(models.Bot).where(models.Bot.owner_id == own))).one()
    talk = (await session.scalars(select(models.Conversation).where(models.Conversation.bot_id == bot.id))).one()
    message = (await session.scalars(select(models.Message).where(models.Message.conversation_id == talk.id))).one()
    channel = (await session.scalars(select(models.Channel).where(models.Channel.bot_id == bot.id))).one()
    payment = (await session.scalars(select(models.Payment).where(models.Payment.user_id == own))).one()
    bot.openai_key = channel.credentials = channel.secret = SECRET
    channel.title, talk.last_text = "mark-channel", "mark-last"
    payment.number, payment.created_by = "mark-payment", helper.id
    attachment = models.Attachment(
        bot_id=bot.id, message_id=message.id, kind="photo", name="mark-file.jpg", remote={"file_id": SECRET}
    )
    endpoint = models.Endpoint(owner_id=own, url="https://mark-endpoint.uz/", secret=SECRET)
    session.add_all([attachment, endpoint])
    looked = models.RemoteView(owner_id=own, admin_id=helper.id, reason="mark-view", expires_at=now)
    session.add(looked)
    await session.flush()
    session.add_all(
        [
            models.RemoteViewPage(view_id=looked.id, method="GET", path="/mark-page"),
            models.AttachmentContent(attachment_id=attachment.id, content=b"mark-bytes"),
            models.EndpointEvent(endpoint_id=endpoint.id, event="test", payload="mark-told"),
            models.BusinessConnection(id="mark-business", channel_id=channel.id, user_id=5),
            models.BotVersion(bot_id=bot.id, number=1, content={"name": "mark-version"}),
            models.TestQuestion(bot_id=bot.id, question="mark-question"),
            models.TestRun(bot_id=bot.id, results={"x": "mark-run"}),
            models.UnansweredQuestion(bot_id=bot.id, question="mark-asked", folded="x"),
            models.MessageQuota(user_id=own, month="2031-07", used=1),
            models.ReferralClicks(partner_id=own, day="2031-07-09", clicks=1),
            models.PaymentTransaction(
                payment_id=payment.id,
                gateway="payme",
                external_id="mark-attempt",
                amount_tiyin=1,
                raw={"x": SECRET},
                provider_time=now,
                created_at=now,
            ),
            models.PaymentEvent(
                payment_id=payment.id, action="mark-event", request={"note": SECRET}, actor_id=helper.id
            ),
            models.AuditLog(actor_id=own, action="mark_done", object_kind="bot", object_id=bot.id),
            models.AuditLog(
                actor_id=helper.id, action="mark_granted", object_kind="user", object_id=own, details={"note": SECRET}
            ),
            models.Letter(user_id=own, kind="reset", key="mark-letter", secret=SECRET),
        ]
    )
    await session.flush()
    for model, column, values in (
        (models.AccessRequest, models.AccessRequest.user_id, {"note": "mark-request", "decided_by": helper.id}),
        (models.AIUsage, models.AIUsage.owner_id, {"model_asked": "mark-model", "cost_usd": Decimal("0.5")}),
        (models.ApiToken, models.ApiToken.user_id, {"name": "mark-token", "token_hash": SECRET}),
        (models.CouponUse, models.CouponUse.user_id, {"status": "mark-released"}),
        (models.ForumGroup, models.ForumGroup.owner_id, {"title": "mark-group"}),
        (models.Invitation, models.Invitation.owner_id, {"name": "mark-invited", "token_hash": SECRET}),
        (models.Label, models.Label.owner_id, {"name": "mark-label"}),
        (models.Member, models.Member.owner_id, {"role": "mark-role"}),
        (models.PanelSession, models.PanelSession.user_id, {"user_agent": "mark-browser", "id": SECRET}),
        (models.Referral, models.Referral.partner_id, {"source": "mark-source"}),
        (models.ReferralEntry, models.ReferralEntry.partner_id, {"note": "mark-payout", "created_by": helper.id}),
        (models.Subscription, models.Subscription.user_id, {"plan": "mark-plan", "granted_by": helper.id}),
        (models.LoginLink, models.LoginLink.user_id, {"token_hash": SECRET}),
        (models.RecoveryCode, models.RecoveryCode.user_id, {"code_hash": SECRET}),
        (models.AccountCode, models.AccountCode.user_id, {"token_hash": SECRET, "code_hash": SECRET}),
    ):
        await _one(session, model, column == own, **values)
    delivery, sent = models.BroadcastDelivery, select(models.Broadcast.id).where(models.Broadcast.bot_id == bot.id)
    await _one(session, delivery, delivery.broadcast_id.in_(sent), reason="mark-refused")
    line, asked = models.SupportMessage, models.SupportTalk
    await _one(session, line, line.owner_id == own, text="mark-support", author_id=helper.id)
    await _one(session, asked, asked.owner_id == own, last_text="mark-supported")
    notice = models.Notice
    await _one(session, notice, (notice.user_id == own) & (notice.key == "Men"), key="mark-notice")
    return user


async def _zip(db: Database, user: models.User) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join([part async for part in exporting.stream(db, user)])))


async def test_every_table_is_in_it_or_left_out_for_a_reason(db: Database) -> None:
    """A new table fails here until somebody has decided; no secret is in it, and nobody else."""
    tables = set(Base.metadata.tables)
    assert not set(MARKS) & set(exporting.LEFT_OUT) and all(exporting.LEFT_OUT.values())
    assert set(MARKS) | set(exporting.LEFT_OUT) == tables, "decide: into the export, or LEFT_OUT with a reason"
    async with db.write() as session:
        user = await _marked(session)
        other = await fill(session, OTHER + "2", email="begona2@example.uz")
    archive = await _zip(db, user)
    whole = "\n".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
    assert [table for table, mark in MARKS.items() if mark not in whole] == []
    assert SECRET not in whole
    assert OTHER not in whole and "begona" not in whole and other.id not in whole
    # What an administrator did is told, not who it was and what they noted.
    assert "mark_granted" in whole
    async with db.read() as session:
        helper = await session.scalar(select(models.User.id).where(models.User.email == "begona@example.uz"))
    named = {name for name in archive.namelist() if str(helper) in archive.read(name).decode("utf-8", "replace")}
    assert named == {"team.json"}


async def test_long_tables_are_read_in_pages(db: Database) -> None:
    """Numbers and texts as keys, an empty list, and none twice or left out."""
    many = exporting.PAGE * 2 + 1
    async with db.write() as session:
        user = models.User(full_name="Ko‘p", email="kop@example.uz")
        session.add(user)
        await session.flush()
        session.add_all(models.AIUsage(owner_id=user.id, provider="openai", model_asked=f"m{n}") for n in range(many))
        session.add_all(models.AuditLog(actor_id=user.id, action=f"a{n}") for n in range(many))
        session.add_all(
            models.Invitation(
                token_hash=f"h{n}", owner_id=user.id, role="operator", name=f"i{n}", expires_at=utcnow() + DAY
            )
            for n in range(many)
        )
    archive = await _zip(db, user)

    def told(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(archive.read(name))
        return found

    assert sorted(row["model_asked"] for row in told("usage.json")) == sorted(f"m{n}" for n in range(many))
    assert sorted(row["action"] for row in told("audit.json")) == sorted(f"a{n}" for n in range(many))
    assert sorted(row["name"] for row in told("invitations.json")) == sorted(f"i{n}" for n in range(many))
    assert len(archive.read("usage.csv").splitlines()) == many + 1
    assert told("letters.json") == [] and told("payments.json") == []
