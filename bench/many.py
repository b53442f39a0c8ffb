"""An installation with much in every list, written at once: what :mod:`bench.pages` asks its pages of.

One owner has the conversations, the messages, the broadcast and the addresses; the other owners, their payments, requests,
talks with support and what the administrator's lists show belong to as many people as there are rows.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import insert

from bench.product import QUESTIONS
from db import models
from db.base import first_id, new_id, table_of, utcnow
from db.engine import Database
from services import accounts, bots, endpoints
from services.conversations import finding
from services.core import Core
from services.knowledge.analysis import keys
from services.statistics import counting

Row = dict[str, Any]

EACH = 10
"""So many messages a conversation."""
LONG = 5000
"""So many has one of them."""
DAYS = 60
YEAR = 365
"""Money comes in over a year; owners over two."""
_AT_ONCE = 5000
_FIRST = "Aziza Botir Gulbahor Dilnoza Sardor Нодира Иван Ольга Жасур Ўткир Malika Rustam Kamola Тимур Laylo".split()
_LAST = "Karimov Rahimov Юсупов Toshmatov Sobirov Иванова Qodirov Ergashev Nazarov Abdullayev".split()
_LANGUAGES = ("uz", "ru", "en", "uz-Cyrl")
_PLANS = ("starter", "basic", "premium")
_GATEWAYS = ("payme",) * 60 + ("click",) * 30 + ("uzum",) * 8 + ("manual",) * 2
_PAID = ("paid",) * 60 + ("expired",) * 30 + ("cancelled",) * 7 + ("refunded",) * 2 + ("waiting",)
_ACTIONS = ("owner_written", "conversation_opened", "payment_marked_paid", "signed_in", "bot_created", "view_begun")


@dataclass
class Many:
    """What was written: the people who look, and what fills the places of addresses."""

    owner: models.User
    admin: models.User
    places: dict[str, str] = field(default_factory=dict)


class Writer:
    """Writes rows in parts; :data:`DAYS` or as many as are asked for lie between the first and the last."""

    def __init__(self, db: Database, rows: int) -> None:
        self.db, self.rows, self.now = db, rows, utcnow()
        self.chance = random.Random(5)

    def at(self, number: int, of: int, days: int = DAYS) -> dt.datetime:
        """Return the moment of one of so many rows, the last of them just now."""
        return self.now - dt.timedelta(days=days) * (of - number) / (of + 1)

    async def write(self, model: Any, rows: Iterable[Row]) -> None:
        """Write rows of a table."""
        left = iter(rows)
        while part := list(islice(left, _AT_ONCE)):
            async with self.db.write() as session:
                await session.execute(insert(table_of(model)), part)

    async def each(self, model: Any, make: Callable[[int, dt.datetime], Row], rows: int = 0, days: int = DAYS) -> None:
        """Write as many rows as are asked for, each made of its number and its moment."""
        count = rows or self.rows
        await self.write(model, (make(number, self.at(number, count, days)) for number in range(count)))


def id_at(moment: dt.datetime) -> str:
    """Return an identifier as it would have been made then: what is found by time is found by it."""
    return first_id(moment)[:10] + new_id()[10:]


def name_of(number: int) -> str:
    """Return a name that some share."""
    return f"{_FIRST[number % len(_FIRST)]} {_LAST[number // len(_FIRST) % len(_LAST)]} {number}"


async def fill(core: Core, rows: int, messages: int) -> Many:
    """Write everything; ``rows`` in each list, ``messages`` in the conversations. Returns what was written."""
    writer = Writer(core.db, rows)
    async with core.db.write() as session:
        owner = await accounts.register_owner(session, email="egasi@example.uz", full_name="Chinor Egasi")
        admin = await accounts.register_owner(session, email="admin@example.uz", full_name="Boshliq")
        admin.role = "admin"
        main = await bots.create(session, owner, "Chinor klinikasi", limits=core.settings.limits)
        await bots.create(session, owner, "Ikkinchi filial", limits=core.settings.limits)
        web = await bots.connect_web(session, main)
        # A network's own, that messages can be sent by without a connection being tried.
        web.status = "active"
    many = Many(owner, admin, {"bot": main.id, "channel": web.id})
    owners = await _owners(writer)
    await _talks(writer, many, web, messages)
    await _bot(writer, many)
    await _broadcast(writer, many)
    await _integrations(writer, core, many)
    await _money(writer, many, owners)
    await _administration(writer, many, owners)
    await settle(core)
    await _bots(writer, owners)
    return many


async def settle(core: Core) -> None:
    """Have done what the program does by and by: the words read, the days counted, statistics gathered."""
    while await finding.catch_up(core.db):
        pass
    while await counting.count_some(core.db, core.now()):
        pass


async def _owners(writer: Writer) -> list[str]:
    owners = [id_at(writer.at(number, writer.rows, 2 * YEAR)) for number in range(writer.rows)]
    banned = writer.now - dt.timedelta(days=1)
    common = {"role": "owner", "language": "uz", "theme": "system", "ban_reason": "", "preferences": {}}

    def person(number: int, at: dt.datetime) -> Row:
        return {
            **common,
            "id": owners[number],
            "full_name": name_of(number),
            "email": f"ega{number}@example.uz",
            "phone": f"+99890{number:07}",
            "trial_at": at,
            "banned_at": None if number % 200 else banned,
            "created_at": at,
        }

    await writer.each(models.User, person, days=2 * YEAR)
    month = dt.timedelta(days=30)

    def span(number: int, at: dt.datetime) -> Row:
        plan = {"plan": _PLANS[number % 3], "period": "monthly", "source": "payment", "value_tiyin": 29_000_000}
        return {
            **plan,
            "id": id_at(at),
            "user_id": owners[number * 5],
            "starts_at": at,
            "ends_at": at + month,
            "created_at": at,
            "revoked_reason": "",
        }

    await writer.each(models.Subscription, span, len(owners) // 5)
    return owners


async def _bots(writer: Writer, owners: list[str]) -> None:
    """Write bots of the other owners, in which nothing was said."""

    def bot(number: int, at: dt.datetime) -> Row:
        words = {
            "name": f"Do‘kon {number}",
            "system_prompt": "",
            "languages": ["uz"],
            "status": "active",
            "settings": {},
        }
        return {
            **words,
            "id": id_at(at),
            "owner_id": owners[number * 2],
            "public_id": new_id(),
            "knowledge_version": 0,
            "created_at": at,
        }

    await writer.each(models.Bot, bot, len(owners) // 2)


async def _talks(writer: Writer, many: Many, web: models.Channel, messages: int) -> None:
    """Write customers with conversations: as many as there are rows, those that messages suffice for with some."""
    chance, bot_id, rows = writer.chance, many.places["bot"], writer.rows
    talks: list[tuple[str, dt.datetime, int]] = []
    people: list[Row] = []
    kept: list[Row] = []
    long = min(LONG, messages // 10)
    for number in range(rows):
        # Who wrote last is who has messages; the long conversation is the last of all.
        at = writer.at(number, rows)
        count = EACH if number >= rows - (messages - long) // EACH else 0
        count = long if number == rows - 1 else count
        contact, talk = id_at(at), id_at(at)
        language = _LANGUAGES[number % 4]
        here = {"bot_id": bot_id, "channel_id": web.id, "created_at": at}
        people.append(
            {
                **here,
                "id": contact,
                "external_id": f"v{number}",
                "name": name_of(number),
                "username": "",
                "phone": f"+99893{number:07}" if number % 3 == 0 else None,
                "language": language,
                "language_chosen": False,
                "source": "",
                "opted_out_at": at if number % 50 == 0 else None,
            }
        )
        waits = number % 400 == 7
        status = "waiting" if waits else "human" if number % 900 == 5 else "closed" if number % 11 == 0 else "bot"
        kept.append(
            {
                **here,
                "id": talk,
                "contact_id": contact,
                "status": status,
                "waiting_reason": "asked" if waits else None,
                "recent": [],
                "last_message_at": at,
                "last_inbound_at": at,
                "last_text": QUESTIONS[number % 8],
                "unanswered_since": at if number % 300 == 3 else None,
                "assignee_id": many.owner.id if number % 1000 == 1 else None,
                "snoozed_until": writer.now + dt.timedelta(days=2) if number % 2000 == 9 else None,
                "snoozed_at": writer.now if number % 2000 == 9 else None,
            }
        )
        if count:
            talks.append((talk, at, count))
    await writer.write(models.Contact, people)
    await writer.write(models.Conversation, kept)
    vocabulary = [f"{chance.choice(_LAST).lower()}{number}" for number in range(2000)]
    files: list[Row] = []

    def said() -> Iterable[Row]:
        for talk, at, count in talks:
            for place in range(count):
                mine = place % 2
                said_at = at - dt.timedelta(seconds=5 * (count - place))
                row = {
                    "id": id_at(said_at),
                    "conversation_id": talk,
                    "author": "bot" if mine else "customer",
                    "kind": "text",
                    "text": f"{QUESTIONS[place % 8]} {' '.join(chance.choices(vocabulary, k=3))}",
                    "language": "uz",
                    "status": "sent" if mine else "answered",
                    "answered": place % 10 != 9 if mine else None,
                    "sources": None,
                    "usage": None,
                    "rating": 1 if place % 40 == 1 else None,
                    "created_at": said_at,
                }
                if place == 0:
                    place_of = {"message_id": row["id"], "bot_id": many.places["bot"], "created_at": row["created_at"]}
                    files.append(
                        {
                            **place_of,
                            "id": id_at(said_at),
                            "kind": "photo",
                            "name": "",
                            "mime": "image/jpeg",
                            "size": 90_000,
                            "status": "stored",
                            "transcript": None,
                        }
                    )
                yield row

    await writer.write(models.Message, said())
    await writer.write(models.Attachment, files)
    many.places |= {"conversation": talks[-1][0], "contact": people[-1]["id"]}
    async with writer.db.write() as session:
        label = models.Label(owner_id=many.owner.id, name="Yetkazish")
        session.add(label)
        session.add_all(
            models.CannedReply(owner_id=many.owner.id, shortcut=f"javob{number}", text="Assalomu alaykum!")
            for number in range(50)
        )
    many.places["label"] = label.id
    labelled = ({"conversation_id": row["id"], "label_id": label.id} for row in kept[:: max(1, rows // 1000)])
    await writer.write(models.ConversationLabel, labelled)
    call: Row = {"owner_id": many.owner.id, "bot_id": bot_id, "feature": "answer", "provider": "openai"}
    call |= {
        "model_asked": "gpt-6-luna",
        "model_served": "",
        "outcome": "ok",
        "input_tokens": 1500,
        "output_tokens": 90,
    }
    call |= {"cached_tokens": 0, "cache_write_tokens": 0, "cost_usd": Decimal("0.0004"), "price_source": "book"}
    call |= {"own_key": False, "latency_ms": 800, "request_id": ""}
    await writer.each(models.AIUsage, lambda number, at: {**call, "created_at": at}, messages // 2)


async def _bot(writer: Writer, many: Many) -> None:
    """Write what a bot knows, as much as it may have, and what it did not know."""
    bot_id = many.places["bot"]
    files = [new_id() for _ in range(50)]

    def document(number: int, at: dt.datetime) -> Row:
        known: Row = {"kind": "txt", "size": 20_000, "sha256": "", "status": "ready", "progress": 100, "serving": True}
        known |= {"shared": False, "caption": "", "chunk_count": 100}
        return {**known, "id": files[number], "bot_id": bot_id, "name": f"narxlar {number}.txt", "created_at": at}

    await writer.each(models.Document, document, len(files))

    def passage(number: int, _at: dt.datetime) -> Row:
        text = f"{QUESTIONS[number % 8]} Javob {number}: narxi {number} 000 so‘m."
        words = {"text": text, "stems": " ".join(keys(text)), "grams": "", "heading": "", "locus": ""}
        return {**words, "bot_id": bot_id, "document_id": files[number // 20], "position": number % 20}

    await writer.each(models.Chunk, passage, 20 * len(files))

    def question(number: int, at: dt.datetime) -> Row:
        text = f"{QUESTIONS[number % 8]} {name_of(number)}"
        asked = {"question": text, "folded": text.lower(), "language": "uz", "count": 1 + number % 5}
        return {**asked, "id": id_at(at), "bot_id": bot_id, "created_at": at, "last_asked_at": at}

    await writer.each(models.UnansweredQuestion, question, min(writer.rows, 2000))

    def test(number: int, at: dt.datetime) -> Row:
        text = QUESTIONS[number % 8]
        return {"id": id_at(at), "bot_id": bot_id, "question": text, "expected": "narx", "created_at": at}

    await writer.each(models.TestQuestion, test, 50)

    def version(number: int, at: dt.datetime) -> Row:
        content: Row = {"name": "Chinor", "system_prompt": f"Muloyim javob ber. {number}", "settings": {}}
        content |= {"languages": ["uz", "ru", "en"]}
        return {"id": id_at(at), "bot_id": bot_id, "number": number + 1, "content": content, "created_at": at}

    await writer.each(models.BotVersion, version, min(writer.rows, 1000))
    many.places["document"] = files[0]


async def _broadcast(writer: Writer, many: Many) -> None:
    """Write broadcasts: a draft, one that went to everybody, and many small ones before."""
    bot_id = many.places["bot"]
    sent = writer.now - dt.timedelta(days=2)
    words = {"bot_id": bot_id, "texts": {"uz": "Aksiya!"}, "audience": {}, "reason": "", "day": "", "day_count": 0}

    def old(number: int, at: dt.datetime) -> Row:
        at -= dt.timedelta(days=5)
        over = {"status": "done", "started_at": at, "finished_at": at, "created_at": at, "chosen": 0, "version": 3}
        return {**words, **over, "id": id_at(at), "title": f"Aksiya {number}"}

    await writer.each(models.Broadcast, old, min(writer.rows, 1000))
    async with writer.db.write() as session:
        done = models.Broadcast(**words, title="Hammaga", status="done", started_at=sent, finished_at=sent)
        done.chosen, done.version = writer.rows, 3
        draft = models.Broadcast(**words, title="Bayram")
        session.add_all([done, draft])
    async with writer.db.read() as session:
        contacts = await session.connection()
        found = await contacts.execute(table_of(models.Contact).select().with_only_columns(models.Contact.id))
        people = [row[0] for row in found]

    def delivery(number: int, at: dt.datetime) -> Row:
        status = "skipped" if number % 50 == 0 else "failed" if number % 97 == 0 else "sent"
        reason = {"skipped": "opted_out", "failed": "refused"}.get(status, "")
        row = {"broadcast_id": done.id, "contact_id": people[number], "changed_at": at}
        return {**row, "status": status, "reason": reason, "message_id": None}

    await writer.each(models.BroadcastDelivery, delivery, len(people))
    many.places |= {"broadcast": draft.id, "sent_broadcast": done.id}


async def _integrations(writer: Writer, core: Core, many: Many) -> None:
    """Write an address of the owner's with its log."""
    async with writer.db.write() as session:
        secret = core.crypto.encrypt({"secret": endpoints.new_secret()})
        # Off, or the program would go on to tell it what waits.
        hook = models.Endpoint(
            owner_id=many.owner.id, url="https://127.0.0.1:9/hook", secret=secret, disabled_at=writer.now
        )
        session.add(hook)
    events = [id_at(writer.at(number, writer.rows)) for number in range(writer.rows)]

    def event(number: int, at: dt.datetime) -> Row:
        status = "failed" if number % 90 == 0 else "delivered"
        told: Row = {
            "event": tuple(endpoints.EVENTS)[number % 7],
            "payload": '{"id":"1"}',
            "status": status,
            "attempts": 1,
        }
        told |= {"http_status": 200, "answer": "ok", "took_ms": 80, "delivered_at": at, "run_at": at, "created_at": at}
        return {**told, "id": events[number], "endpoint_id": hook.id}

    await writer.each(models.EndpointEvent, event)
    many.places |= {"endpoint": hook.id, "event": events[-1]}


async def _money(writer: Writer, many: Many, owners: list[str]) -> None:
    """Write payments, requests, coupons and partners' accounts."""
    chance = writer.chance

    def payment(number: int, at: dt.datetime) -> Row:
        state, gateway = chance.choice(_PAID), chance.choice(_GATEWAYS)
        paid = state in ("paid", "refunded")
        cost: Row = {"price_tiyin": 29_000_000, "discount_tiyin": 0, "credit_tiyin": 0, "balance_tiyin": 0}
        cost |= {
            "amount_tiyin": 29_000_000,
            "basis": 0,
            "sandbox": False,
            "fiscal": {},
            "note": "",
            "refund_reason": "",
        }
        whose = many.owner.id if number % 100 == 0 else owners[number * 7 % len(owners)]
        return {
            **cost,
            "id": id_at(at),
            "number": str(100_000_000 + number),
            "user_id": whose,
            "plan": _PLANS[number % 3],
            "period": "monthly",
            "kind": "new",
            "gateway": gateway,
            "status": state,
            "paid_by": gateway if paid else None,
            "paid_at": at if paid else None,
            "created_at": at,
            "expires_at": writer.now + dt.timedelta(days=1) if state == "waiting" else at,
        }

    await writer.each(models.Payment, payment, days=YEAR)

    def transaction(number: int, at: dt.datetime) -> Row:
        state = "reversed" if number % 40 == 0 else "performed"
        facts = {"state": state, "amount_tiyin": 29_000_000, "sandbox": False, "details": {}, "raw": {}}
        when = {"provider_time": at, "created_at": at, "performed_at": at, "cancelled_at": None}
        return {**facts, **when, "payment_id": payments[number], "gateway": "payme", "external_id": f"x{number}"}

    async with writer.db.read() as session:
        connection = await session.connection()
        found = await connection.execute(table_of(models.Payment).select().with_only_columns(models.Payment.id))
        payments = [row[0] for row in found]
    await writer.each(models.PaymentTransaction, transaction, days=YEAR)

    def request(number: int, at: dt.datetime) -> Row:
        pending = number % 50 == 0
        wish = {"plan": _PLANS[number % 3], "period": "monthly", "note": "Iltimos", "answer": ""}
        state = {"status": "pending" if pending else "granted", "decided_at": None if pending else at}
        return {**wish, **state, "id": id_at(at), "user_id": owners[number], "decided_by": None, "created_at": at}

    await writer.each(models.AccessRequest, request, days=YEAR)
    coupons = [id_at(writer.at(number, writer.rows, YEAR)) for number in range(writer.rows)]

    def coupon(number: int, at: dt.datetime) -> Row:
        worth = {"percent": 10, "plans": [], "max_uses": 1, "per_owner": 1, "uses": 0}
        words = {"code": f"CHINOR-{number:06}", "note": f"Ko‘rgazma {number // 1000}"}
        return {**worth, **words, "id": coupons[number], "created_at": at, "disabled_at": None if number % 4 else at}

    await writer.each(models.Coupon, coupon, days=YEAR)
    many.places["coupon"] = coupons[-1]

    def brought(number: int, at: dt.datetime) -> Row:
        whose = many.owner.id if number % 100 == 0 else owners[number % 500]
        return {
            "id": id_at(at),
            "partner_id": whose,
            "user_id": owners[-1 - number],
            "source": "web",
            "touched_at": at,
            "created_at": at,
        }

    await writer.each(models.Referral, brought, writer.rows // 10, days=YEAR)

    def line(number: int, at: dt.datetime) -> Row:
        kind = "payout" if number % 5 == 0 else "commission"
        whose = many.owner.id if number % 100 == 0 else owners[number % 500]
        money = {"kind": kind, "amount_tiyin": -30_000_000 if kind == "payout" else 10_000_000, "note": ""}
        return {**money, "id": id_at(at), "partner_id": whose, "available_at": at, "created_at": at}

    await writer.each(models.ReferralEntry, line, days=YEAR)
    many.places |= {"number": "100000000", "own_number": "100000000"}


async def _administration(writer: Writer, many: Many, owners: list[str]) -> None:
    """Write what the administrator's other lists show."""

    def logged(number: int, at: dt.datetime) -> Row:
        action = _ACTIONS[number % len(_ACTIONS)]
        actor = many.admin.id if number % 3 else owners[number % len(owners)]
        thing = {"object_kind": "user", "object_id": owners[number % len(owners)], "details": {"reason": "sinov"}}
        return {**thing, "id": id_at(at), "at": at, "actor_id": actor, "action": action}

    await writer.each(models.AuditLog, logged)

    def error(number: int, at: dt.datetime) -> Row:
        words = {"level": "error", "event": f"job_failed_{number}", "detail": "ValueError", "request_id": ""}
        seen = {"count": 3, "first_at": at, "last_at": at, "hidden": number % 20 == 0}
        return {**words, **seen, "fingerprint": f"{number:064x}"}

    await writer.each(models.ErrorRecord, error)

    def poison(number: int, at: dt.datetime) -> Row:
        state = {"status": "dead", "attempts": 5, "failures": 5, "error": "ValueError", "received_at": at}
        where = {"lane": f"x:{number}", "channel_id": many.places["channel"], "external_id": f"d{number}"}
        return {**state, **where, "payload": "{}", "request_id": ""}

    await writer.each(models.InboxItem, poison)

    def job(number: int, at: dt.datetime) -> Row:
        state = {"status": "dead", "attempts": 5, "failures": 5, "error": "ValueError", "payload": {}}
        return {**state, "lane": f"job:x{number}", "kind": "index", "created_at": at, "finished_at": at}

    await writer.each(models.Job, job)

    def talk(number: int, at: dt.datetime) -> Row:
        waits = at if number % 20 == 0 else None
        return {"owner_id": owners[number], "waiting_since": waits, "last_text": "Salom", "last_message_at": at}

    await writer.each(models.SupportTalk, talk)
    async with writer.db.write() as session:
        session.add(models.SupportTalk(owner_id=many.owner.id, last_text="Salom"))

    def line(number: int, at: dt.datetime) -> Row:
        whose = many.owner.id if number % 2 else owners[number]
        said = {"author_id": whose, "by_admin": False, "text": "Assalomu alaykum, yordam kerak", "telegram": "none"}
        return {**said, "id": id_at(at), "owner_id": whose, "attempts": 0, "run_at": at, "created_at": at}

    await writer.each(models.SupportMessage, line)
    announced: list[str] = []

    def announcement(number: int, at: dt.datetime) -> Row:
        announced.append(id_at(at))
        each = {"title": f"Yangilik {number}", "text": "Yangi imkoniyat"}
        how = {"by_telegram": False, "by_mail": True, "as_banner": False, "status": "done", "chosen": writer.rows}
        meant = {"plan": "expired", "languages": ["uz"], "service": False}
        texts = {"texts": dict.fromkeys(("uz", "ru", "en"), each), "audience": meant}
        return {**how, **texts, "id": announced[-1], "created_at": at, "finished_at": at}

    await writer.each(models.Announcement, announcement, min(writer.rows, 1000))

    def letter(number: int, at: dt.datetime) -> Row:
        state = {"mail": "sent", "telegram": "none", "mail_attempts": 1, "mail_error": "", "telegram_attempts": 0}
        when = {"run_at": at, "telegram_at": at, "created_at": at, "sent_at": at}
        key = f"announcement:{announced[-1]}"
        return {
            **state,
            **when,
            "id": id_at(at),
            "user_id": owners[number],
            "kind": "announcement",
            "key": key,
            "params": {},
        }

    await writer.each(models.Letter, letter)
    count = min(writer.rows, 1000)
    views = [id_at(writer.at(number, count)) for number in range(count)]

    def view(number: int, at: dt.datetime) -> Row:
        over = {"created_at": at, "expires_at": at, "ended_at": at}
        return {**over, "id": views[number], "owner_id": many.owner.id, "admin_id": many.admin.id, "reason": "Savol"}

    await writer.each(models.RemoteView, view, len(views))

    def looked(_number: int, at: dt.datetime) -> Row:
        return {"view_id": views[-1], "method": "GET", "path": "/dashboard", "status": 200, "at": at}

    await writer.each(models.RemoteViewPage, looked)
    many.places |= {"view": views[-1], "announcement": announced[-1], "owner": many.owner.id}
