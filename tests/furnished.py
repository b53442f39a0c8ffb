"""A bot in the middle of its life, and every page of the panel that shows something of it: for tests that look at them all."""

from __future__ import annotations

import datetime as dt
import secrets
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import new_id, utcnow
from services import bots, endpoints
from services.crypto import Crypto, digest
from services.days import midnight, today
from services.knowledge import documents
from services.versions import content_of

OPEN_PAGES = ("/", "/guide/ru", "/guide/ru/installation", "/login", "/register", "/password/forgot")
OWNER_PAGES = (
    "/dashboard",
    "/bots",
    "/bots/new",
    "/bots/{bot}",
    "/bots/{bot}/versions",
    "/bots/{bot}/setup",
    "/bots/{bot}/documents",
    "/bots/{bot}/documents/{document}",
    "/bots/{bot}/tests",
    "/bots/{bot}/channels",
    "/bots/{bot}/widget",
    "/bots/{bot}/broadcasts",
    "/bots/{bot}/broadcasts/new",
    "/bots/{bot}/broadcasts/{broadcast}",
    "/bots/{bot}/broadcasts/{draft}/edit",
    "/bots/{bot}/broadcasts/{draft}/send",
    "/bots/{bot}/broadcasts/{broadcast}/receivers",
    "/inbox",
    "/inbox/{talk}",
    "/inbox/labels",
    "/inbox/replies",
    "/contacts/{contact}",
    "/search",
    "/billing",
    "/billing/request",
    "/billing/referrals",
    "/billing/payments/{number}",
    "/team",
    "/support",
    "/settings",
    "/settings/email",
    "/settings/two-step",
    "/settings/delete",
    "/settings/views",
    "/settings/views/{view}",
    "/settings/webhooks",
    "/settings/webhooks/guide",
    "/settings/api",
    "/settings/api/{section}",
    "/settings/webhooks/{endpoint}",
    "/settings/webhooks/{endpoint}/events/{event}",
)
ADMIN_PAGES = (
    "/admin/statistics",
    "/admin/owners",
    "/admin/owners/{owner}",
    "/admin/owners/{owner}/plan",
    "/admin/conversations",
    "/admin/files",
    "/admin/files/sent",
    "/admin/channels",
    "/admin/channels/webhooks",
    "/admin/conversations/{talk}",
    "/admin/support",
    "/admin/support/{owner}",
    "/admin/requests",
    "/admin/payments",
    "/admin/payments/new",
    "/admin/payments/days",
    "/admin/payments/{number}",
    "/admin/coupons",
    "/admin/coupons/{coupon}",
    "/admin/payouts",
    "/admin/announcements",
    "/admin/announcements/new",
    "/admin/announcements/{announcement}",
    "/admin/announcements/{announcement}/missed",
    "/admin/texts",
    "/admin/texts/{letter}/uz",
    "/admin/texts/notices",
    "/admin/texts/notices/{saying}/uz",
    "/admin/models",
    "/admin/system",
    "/admin/system/errors",
    "/admin/audit",
)
NAMES = ("Азиза Рахимова", "Bobur Aliyev", "Очень Длинное Имя Фамилия-Отчество Покупателя", "Gulnora")
QUESTIONS = ("Narxi qancha?", "Есть ли доставка в Самарканд?", "Do you take cards?", "Yetkazib berish bormi?")


async def furnish(session: AsyncSession, owner: models.User, bot: models.Bot, crypto: Crypto) -> dict[str, str]:
    """Fill a bot that knows a document with what a month brings; return what stands in the places of the addresses."""
    now = utcnow()
    ids = {"bot": bot.id, "owner": owner.id, "letter": "offer_night", "saying": "conflict", "section": "bots"}
    ids |= await _talks(session, owner, bot, now)
    ids |= await _outside(session, owner, bot, crypto, now)
    ids |= await _money(session, owner, now)
    ids |= await _learning(session, bot)
    return ids


def pages(patterns: tuple[str, ...], ids: dict[str, str]) -> list[str]:
    """Return the addresses of pages."""
    return [pattern.format_map(ids) for pattern in patterns]


async def _talks(session: AsyncSession, owner: models.User, bot: models.Bot, now: dt.datetime) -> dict[str, str]:
    """Conversations by every channel, in every state, over a month; broadcasts to who had them."""
    places = {"web": await bots.connect_web(session, bot)}
    for kind, status in (("telegram", "active"), ("whatsapp", "refused"), ("instagram", "stopped")):
        places[kind] = models.Channel(
            bot_id=bot.id,
            kind=kind,
            external_id=f"{bot.id}{kind}",
            title="Chinor",
            username="chinor_bot",
            status=status,
        )
    label = models.Label(owner_id=owner.id, name="Yetkazish", color=2)
    session.add_all([*places.values(), label])
    session.add(models.CannedReply(owner_id=owner.id, shortcut="manzil", text="Chilonzor 5, metro yonida."))
    await session.flush()
    source = {"document_id": "x", "document_name": "savollar.txt", "snippet": "Har kuni", "score": 0.8}
    talks = []
    for number in range(24):
        at = now - dt.timedelta(days=number, minutes=7)
        contact = models.Contact(
            bot_id=bot.id,
            channel_id=list(places.values())[number % 4].id,
            external_id=f"{bot.id}{number}",
            name=NAMES[number % 4],
            phone="+998901234567" if number % 3 else None,
            language=("uz", "ru", "en")[number % 3],
            created_at=at,
        )
        session.add(contact)
        await session.flush()
        status = ("waiting", "bot", "human", "closed")[number % 4]
        talk = models.Conversation(
            bot_id=bot.id, channel_id=contact.channel_id, contact_id=contact.id, status=status, created_at=at
        )
        # The first customer writes at length.
        talk.last_text, talk.last_message_at = QUESTIONS[number % 4] * (1 if number else 8), at
        talk.waiting_reason = "person" if status == "waiting" else None
        session.add(talk)
        await session.flush()
        talks.append(talk)
        for place, (author, text) in enumerate(
            (
                ("customer", QUESTIONS[number % 4]),
                ("bot", "Ha, " + "albatta bor. " * 9),
                ("operator", "Ha"),
                ("system", "✓"),
            )
        ):
            session.add(
                models.Message(
                    conversation_id=talk.id,
                    author=author,
                    text=text,
                    language=contact.language,
                    answered=True if author == "bot" else None,
                    sources=[source] if author == "bot" else None,
                    status="failed" if author == "operator" else "sent",
                    created_at=at + dt.timedelta(seconds=place),
                )
            )
    first = talks[0]
    session.add(models.ConversationLabel(conversation_id=first.id, label_id=label.id))
    session.add(models.Note(conversation_id=first.id, author_id=owner.id, text="Chegirma va’da qilingan."))
    session.add(models.Notice(user_id=owner.id, bot_id=bot.id, kind="send_failed", key="n", params={"bot": bot.name}))
    draft = models.Broadcast(bot_id=bot.id, title="Bahor", texts={"uz": "Chegirma!"}, author_id=owner.id)
    done = models.Broadcast(
        bot_id=bot.id, title="Qish", texts={"uz": "Yangi narxlar", "ru": "Новые цены"}, status="paused"
    )
    done.started_at, done.chosen = now - dt.timedelta(hours=2), len(talks)
    session.add_all([draft, done])
    await session.flush()
    for number, talk in enumerate(talks):
        state = ("sent", "waiting", "failed", "skipped")[number % 4]
        reason = {"failed": "refused", "skipped": "opted_out"}.get(state, "")
        session.add(
            models.BroadcastDelivery(broadcast_id=done.id, contact_id=talk.contact_id, status=state, reason=reason)
        )
    return {"talk": first.id, "contact": first.contact_id, "draft": draft.id, "broadcast": done.id}


async def _outside(
    session: AsyncSession, owner: models.User, bot: models.Bot, crypto: Crypto, now: dt.datetime
) -> dict[str, str]:
    """Servers that are told, administrators who looked and answered, tokens and devices."""
    hook = models.Endpoint(
        owner_id=owner.id,
        url="https://chinor.example.uz/hook",
        secret=crypto.encrypt({"secret": endpoints.new_secret()}),
        failing_since=now,
    )
    session.add(hook)
    await session.flush()
    told = models.EndpointEvent(endpoint_id=hook.id, event="test", payload='{"type": "test"}', status="delivered")
    failed = models.EndpointEvent(endpoint_id=hook.id, event="message.received", payload="{}", status="failed")
    failed.http_status, failed.answer, failed.attempts = 503, "Service Unavailable", 9
    view = models.RemoteView(
        owner_id=owner.id, reason="Kanal ulanmayapti", asked_at=now, expires_at=now + dt.timedelta(minutes=15)
    )
    support = models.SupportTalk(owner_id=owner.id, waiting_since=now, last_text="Yordam bering")
    session.add_all([told, failed, view, support])
    await session.flush()
    session.add(models.RemoteViewPage(view_id=view.id, method="GET", path=f"/bots/{bot.id}", status=200))
    for by_admin, text in ((False, "Yordam bering"), (True, "Nima bo‘ldi?")):
        session.add(models.SupportMessage(owner_id=owner.id, by_admin=by_admin, text=text, author_id=owner.id))
    session.add(models.ApiToken(user_id=owner.id, name="1C", token_hash=digest(new_id()), last4="4f2a"))
    end = now + dt.timedelta(days=1)
    session.add(models.PanelSession(id=new_id(), user_id=owner.id, user_agent="Mozilla/5.0 (Android)", expires_at=end))
    session.add(
        models.Invitation(
            token_hash=digest(new_id()), owner_id=owner.id, role="operator", name="Kamola", expires_at=end
        )
    )
    # What administrators have of their own.
    each = {"title": "Yangilik", "text": "Yangi imkoniyat"}
    announcement = models.Announcement(
        texts=dict.fromkeys(("uz", "ru", "en"), each), audience={"plan": "all", "languages": [], "service": False}
    )
    error = models.ErrorRecord(fingerprint=digest(new_id()), level="error", event="job_failed", detail="ReadError")
    session.add_all([announcement, error])
    session.add(models.AuditLog(actor_id=owner.id, action="token_made", object_kind="api_token", object_id="1C"))
    await session.flush()
    return {"endpoint": hook.id, "event": told.id, "view": view.id, "announcement": announcement.id}


async def _money(session: AsyncSession, owner: models.User, now: dt.datetime) -> dict[str, str]:
    """A plan that was paid, an order that waits, a request, a coupon, what was earned, what models cost."""
    facts = {"plan": "basic", "period": "monthly", "price_tiyin": 29_000_000, "amount_tiyin": 29_000_000}
    soon = now + dt.timedelta(days=1)
    number = secrets.randbelow(10**8)
    paid = models.Payment(
        number=f"7{number:08}", user_id=owner.id, gateway="payme", expires_at=soon, status="paid", **facts
    )
    paid.paid_at = now
    waits = models.Payment(number=f"8{number:08}", user_id=owner.id, gateway="click", expires_at=soon, **facts)
    coupon = models.Coupon(code=f"KUZ-{new_id()[-10:].upper()}", percent=15)
    month = dt.timedelta(days=29)
    session.add_all([paid, waits, coupon])
    await session.flush()
    session.add_all(
        [
            models.Subscription(
                user_id=owner.id,
                plan="basic",
                period="monthly",
                source="payment",
                payment_id=paid.id,
                starts_at=now,
                ends_at=now + month,
            ),
            models.AccessRequest(user_id=owner.id, plan="basic", period="monthly", note="Yiliga to‘lasak-chi?"),
            models.ReferralEntry(partner_id=owner.id, kind="commission", amount_tiyin=5_800_000, available_at=now),
            models.AIUsage(
                owner_id=owner.id,
                provider="gemini",
                model_asked="gemini-3.5-flash-lite",
                outcome="ok",
                input_tokens=900,
                output_tokens=90,
                cost_usd=Decimal("0.002"),
                created_at=midnight(today(now)),
            ),
        ]
    )
    return {"number": paid.number, "waits": waits.number, "coupon": coupon.id}


async def _learning(session: AsyncSession, bot: models.Bot) -> dict[str, str]:
    """Questions without an answer, answers by hand, test questions and two runs of them, versions of the words."""
    document = models.Document(
        bot_id=bot.id, name="juda-uzun-nomli-eski-narxlar-royxati-2026-yil-noyabr.pdf", kind="pdf"
    )
    document.status, document.error_code = "failed", "damaged"
    read = models.Document(bot_id=bot.id, name="narxlar.txt", kind="txt", status="ready", progress=100, serving=True)
    read.chunk_count = 3
    session.add_all([document, read])
    await session.flush()
    for place in range(3):
        text = f"Ta’mirlash {place + 1}00 000 so‘m. " * 6
        session.add(
            models.Chunk(
                bot_id=bot.id,
                document_id=read.id,
                position=place,
                heading="Narxlar",
                locus=f"line:{place}",
                text=text,
                stems="narx",
                grams="nar",
            )
        )
    for language, question in (("uz", "Avtoturargoh bormi?"), ("ru", "Парковка есть?")):
        session.add(models.UnansweredQuestion(bot_id=bot.id, question=question, folded=question, language=language))
    await documents.add_answer(session, bot, "Karta bilan to‘lasa bo‘ladimi?", "Ha, " + "Uzcard, Humo, " * 20)
    asked = models.TestQuestion(bot_id=bot.id, question="Yetkazib berish bormi?", expected="bepul")
    session.add(asked)
    await session.flush()
    result = {"question": asked.question, "expected": "bepul", "state": "good", "answered": True, "missing": []}
    result |= {"text": "Ha, yetkazib berish bepul 🚚", "sources": [{"name": "savollar.txt", "text": "x"}], "note": ""}
    result |= {"language": "uz", "provider": "extractive", "model": None}
    worse = {**result, "state": "bad", "missing": ["bepul"], "text": "Ha, bor. " * 30, "note": "model_away"}
    for run in (result, worse):
        session.add(models.TestRun(id=new_id(), bot_id=bot.id, status="done", results={asked.id: run}))
        await session.flush()
    for number, prompt in enumerate(("Qisqa javob ber.", "Xushmuomala bo‘l."), 1):
        content = {**content_of(bot), "system_prompt": prompt}
        session.add(models.BotVersion(bot_id=bot.id, number=number, content=content))
    return {"document": read.id}
