"""An account with a row in every table in which an account can stand, for tests that move or remove all of it."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import Base, utcnow
from services.crypto import digest

DAY = dt.timedelta(days=1)


async def fill(session: AsyncSession, name: str, *, helper: models.User | None = None, **changes: Any) -> models.User:
    """Make an account called ``name`` with one of everything; ``helper`` works for it, and it for nobody."""
    now = utcnow()
    user = models.User(full_name=name, **changes)
    session.add(user)
    await session.flush()
    own = user.id
    bot = models.Bot(owner_id=own, name=f"{name} bot", system_prompt=f"{name} prompt")
    session.add(bot)
    await session.flush()
    channel = models.Channel(bot_id=bot.id, kind="web", external_id=bot.public_id)
    document = models.Document(bot_id=bot.id, name=f"{name}.txt", kind="txt", status="ready", serving=True)
    session.add_all([channel, document])
    await session.flush()
    session.add(models.DocumentContent(document_id=document.id, content=f"{name} narxlari".encode()))
    contact = models.Contact(bot_id=bot.id, channel_id=channel.id, external_id="1", name=f"{name} customer")
    session.add(contact)
    await session.flush()
    talk = models.Conversation(bot_id=bot.id, channel_id=channel.id, contact_id=contact.id, assignee_id=own)
    session.add(talk)
    await session.flush()
    broadcast = models.Broadcast(bot_id=bot.id, title=f"{name} news", texts={"uz": name}, author_id=own)
    session.add(broadcast)
    await session.flush()
    session.add(models.BroadcastDelivery(broadcast_id=broadcast.id, contact_id=contact.id))
    message = models.Message(conversation_id=talk.id, author="operator", text=f"{name} wrote", author_id=own)
    label = models.Label(owner_id=own, name="VIP")
    session.add_all([message, label, models.Note(conversation_id=talk.id, author_id=own, text=f"{name} noted")])
    await session.flush()
    coupon = models.Coupon(code=f"{name.upper()}10", percent=10, user_id=own)
    payment = models.Payment(
        number=f"{abs(hash(name)) % 10**9}",
        user_id=own,
        plan="start",
        period="monthly",
        gateway="payme",
        status="paid",
        price_tiyin=100,
        amount_tiyin=100,
        expires_at=now,
    )
    brought = models.User(full_name=f"{name} brought")
    session.add_all([coupon, payment, brought])
    await session.flush()
    referral = models.Referral(partner_id=own, user_id=brought.id, source="web", touched_at=now)
    session.add(referral)
    await session.flush()
    session.add_all(
        [
            models.ConversationLabel(conversation_id=talk.id, label_id=label.id),
            models.CannedReply(owner_id=own, shortcut="salom", text=f"{name} greets"),
            models.Invitation(token_hash=digest(f"i{name}"), owner_id=own, role="operator", expires_at=now + DAY),
            models.ApiToken(user_id=own, token_hash=digest(f"a{name}"), last4="1234"),
            models.PanelSession(id=digest(f"s{name}"), user_id=own, expires_at=now + DAY),
            models.LoginLink(token_hash=digest(f"l{name}"), user_id=own, expires_at=now + DAY),
            models.AccountCode(user_id=own, purpose="join", expires_at=now + DAY),
            models.RecoveryCode(code_hash=digest(f"r{name}"), user_id=own),
            models.Notice(user_id=own, kind="conflict", key="shared", params={"bot": name}),
            models.Notice(user_id=own, kind="conflict", key=name, params={"bot": name}),
            models.Letter(user_id=own, kind="reset", key="shared"),
            models.Letter(user_id=own, kind="reset", key=name),
            models.SupportTalk(owner_id=own, waiting_since=now, last_text=f"{name} asks"),
            models.MessageQuota(user_id=own, month="2026-11", used=7),
            models.AccessRequest(user_id=own, plan="start", period="monthly"),
            models.CouponUse(coupon_id=coupon.id, user_id=own, payment_id=payment.id),
            models.ReferralTouch(visitor=f"web:{name}", partner_id=own),
            models.ReferralClicks(partner_id=own, day="2026-11-21", clicks=3),
            models.ReferralEntry(
                partner_id=own, referral_id=referral.id, kind="payout", amount_tiyin=-5, available_at=now
            ),
            models.ForumGroup(owner_id=own, chat_id=-abs(hash(name)) % 10**9),
            models.AIUsage(owner_id=own, bot_id=bot.id, provider="openai", model_asked="x"),
            models.DayCosts(owner_id=own, day="2026-11-20", feature="answer", provider="openai", model="x", calls=2),
            models.AuditLog(actor_id=own, action="signed_in", object_kind="user", object_id=own),
            models.Subscription(
                user_id=own,
                plan="start",
                period="monthly",
                source="payment",
                payment_id=payment.id,
                value_tiyin=3000,
                starts_at=now - 10 * DAY,
                ends_at=now + 20 * DAY,
            ),
        ]
    )
    await session.flush()
    asked = models.SupportMessage(owner_id=own, author_id=own, text=f"{name} asks", source=f"telegram:{name}:1")
    session.add(asked)
    await session.flush()
    session.add(models.SupportPost(admin_id=brought.id, owner_id=own, upto=asked.id, number=1))
    if helper is not None:
        session.add(models.Member(owner_id=own, user_id=helper.id, role="operator"))
    await session.flush()
    return user


async def everything(session: AsyncSession) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in Base.metadata.sorted_tables:
        rows = (await session.execute(select(table))).mappings().all()
        found[table.name] = [dict(row) for row in rows]
    return found


def naming(rows: dict[str, list[dict[str, Any]]], user_id: str) -> Counter[str]:
    """Return in which columns an id stands, and how often."""
    return Counter(
        f"{table}.{column}"
        for table, each in rows.items()
        for row in each
        for column, value in row.items()
        if value == user_id
    )


def holding(rows: dict[str, list[dict[str, Any]]], words: Iterable[str]) -> set[str]:
    """Return the columns in whose values, also inside of documents, one of these words stands."""
    wanted = tuple(words)

    def text(value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)

    return {
        f"{table}.{column}"
        for table, each in rows.items()
        for row in each
        for column, value in row.items()
        if any(word in text(value) for word in wanted)
    }
