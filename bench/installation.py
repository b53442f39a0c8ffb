"""An installation full of life for :mod:`bench.screenshots`: shops, their customers' talks of two months, payments of a year.

Everybody in it is invented. All moments are reckoned from now, and all chance begins with the same number, so that two
installations differ in little but their dates.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bench import scenes
from bench.many import id_at
from bench.product import NotMeasurable
from db import models
from db.base import first_id, new_id, utcnow
from db.engine import Database
from services import accounts, bots
from services.crypto import Crypto
from services.days import midnight, today
from services.knowledge import documents
from services.plans import TIYIN
from services.settings import ROOT, Settings
from services.statistics import counting

SHOP_TOKEN = "7700000001:AA_not_a_real_token_of_a_shop_0001"
SERVICE_TOKEN = "7700000002:AA_not_a_real_token_of_a_shop_0002"
PASSWORD = "not-a-real-password-of-anybody"
_KNOWLEDGE = ROOT / "tests" / "data" / "retrieval" / "kb" / "texno_savdo"
_SAMPLES = ROOT / "templates" / "samples" / "uz"
_DAYS = 60
_GATEWAYS = ("payme",) * 6 + ("click",) * 3 + ("uzum",)


@dataclass
class Installation:
    """Who and what the pictures are of, by the names in :mod:`bench.screenshots`: addresses are filled in with ``ids``."""

    ids: dict[str, str] = field(default_factory=dict)


class _Filling:
    """One run of filling; every method writes one part. ``self.now`` stays the same meanwhile."""

    def __init__(self, db: Database, settings: Settings, crypto: Crypto) -> None:
        self.db, self.settings, self.crypto = db, settings, crypto
        self.now = utcnow()
        self.chance = random.Random(7)
        self.made = Installation()
        self.owners: list[models.User] = []
        self.shop = self.service = models.Bot()
        self.admin = self.owner = models.User()
        self.channels: dict[str, models.Channel] = {}
        self.talks: list[str] = []

    def ago(self, days: float = 0, **more: float) -> dt.datetime:
        """Return a moment before now."""
        return self.now - dt.timedelta(days=days, **more)

    async def run(self) -> Installation:
        for part in (
            self._people,
            self._bots,
            self._customers,
            self._work,
            self._lessons,
            self._broadcasts,
            self._money,
            self._partners,
            self._outside,
            self._administration,
        ):
            async with self.db.write() as session:
                await part(session)
        while await counting.count_some(self.db, self.now):
            pass
        return self.made

    async def _person(self, session: AsyncSession, name: str, days: float, **values: Any) -> models.User:
        slug = name.split()[0].lower().replace("‘", "")
        number = len(self.owners) + 12
        self.owners.append(
            user := await accounts.register_owner(
                session,
                full_name=name,
                email=f"{slug}@example.uz",
                phone=f"+9989012345{number}",
                telegram_id=5_000 + number,
            )
        )
        user.created_at = user.trial_at = user.email_confirmed_at = user.phone_confirmed_at = self.ago(days)
        for key, value in values.items():
            setattr(user, key, value)
        return user

    async def _people(self, session: AsyncSession) -> None:
        password = await accounts.hash_password(PASSWORD)
        self.admin = await self._person(session, "Jasur Rahimov", 400, role="admin", password_hash=password)
        self.owner = await self._person(
            session,
            "Aziza Karimova",
            154,
            password_hash=password,
            referral_code="aziza",
            preferences={"first_steps": {"hidden": True}},
        )
        for name, _bot, days, _plan in scenes.OWNERS:
            await self._person(session, name, days)
        banned = self.owners[-1]
        banned.banned_at, banned.ban_reason = self.ago(6), "Botdan reklama xabarlari tarqatgan"
        for name, role, days in scenes.TEAM:
            colleague = await self._person(session, name, days)
            session.add(
                models.Member(owner_id=self.owner.id, user_id=colleague.id, role=role, created_at=self.ago(days))
            )
        self.owners = [self.admin, self.owner, *self.owners[2 : 2 + len(scenes.OWNERS)]]
        session.add(
            models.Invitation(
                token_hash="0" * 64,
                owner_id=self.owner.id,
                role="operator",
                name="Kamola",
                created_at=self.ago(1),
                expires_at=self.now + dt.timedelta(days=6),
            )
        )
        self.made.ids |= {"owner": self.owner.id, "admin": self.admin.id}

    async def _bot(
        self, session: AsyncSession, owner: models.User, name: str, days: float, public: str = ""
    ) -> models.Bot:
        bot = await bots.create(session, owner, name, limits=self.settings.limits)
        bot.created_at = self.ago(days)
        if public:
            bot.public_id = (await bots.connect_web(session, bot)).external_id = public
        return bot

    async def _bots(self, session: AsyncSession) -> None:
        checked = {"checked_at": int(self.ago(hours=1).timestamp()), "pending": 0, "webhook": "ok"}
        self.shop = await self._bot(session, self.owner, "Texno Savdo", 150, "texno-savdo-7kQm2x")
        self.shop.system_prompt = scenes.PROMPT
        self.shop.settings = {
            "lines": {"greeting": {"uz": scenes.GREETING}},
            "hours": {day: ["09:00", "19:00"] for day in ("mon", "tue", "wed", "thu", "fri", "sat")},
            "return_after_min": 30,
        }
        self.service = await self._bot(session, self.owner, "Texno Servis", 40, "texno-servis-4bWc8n")
        for bot, token, username in (
            (self.shop, SHOP_TOKEN, "texno_savdo_bot"),
            (self.service, SERVICE_TOKEN, "texno_servis_bot"),
        ):
            identity = {
                "id": int(token.partition(":")[0]),
                "is_bot": True,
                "first_name": bot.name,
                "username": username,
            }
            channel = await bots.connect_telegram(session, bot, identity=identity, token=token, crypto=self.crypto)
            channel.health, channel.last_update_at = checked, self.ago(minutes=3)
            if bot is self.shop:
                self.channels["telegram"] = channel
        meta = {"status": "active", "bot_id": self.shop.id, "settings": {"subscribed": True}}
        self.channels["whatsapp"] = models.Channel(
            kind="whatsapp",
            external_id="106540352242922",
            parent_id="102290129340398",
            title="Texno Savdo",
            username="+998 71 200 00 00",
            credentials=self.crypto.encrypt({"access_token": "x", "app_secret": "x"}),
            secret="texno-savdo-whatsapp",
            health={**checked, "token_expires_at": 0, "quality": "green"},
            last_update_at=self.ago(minutes=11),
            **meta,
        )
        self.channels["instagram"] = models.Channel(
            kind="instagram",
            external_id="17841400008460056",
            title="Texno Savdo",
            username="texno.savdo",
            credentials=self.crypto.encrypt({"access_token": "x", "app_secret": "x"}),
            secret="texno-savdo-instagram",
            health={**checked, "token_expires_at": int((self.now + dt.timedelta(days=52)).timestamp())},
            last_update_at=self.ago(minutes=24),
            **meta,
        )
        session.add_all(self.channels[kind] for kind in ("whatsapp", "instagram"))
        self.channels["web"] = await bots.connect_web(session, self.shop)
        limits, most = self.settings.limits, 10 * 1_048_576
        answers = (_SAMPLES / "answers.txt").read_bytes().replace(b"Namuna do", b"Texno Savdo do")
        for bot, name, data, shared in (
            (self.shop, "Narxlar.csv", (_KNOWLEDGE / "katalog.csv").read_bytes(), True),
            (self.shop, "Savol-javob.txt", answers, False),
            (self.shop, "Условия рассрочки и доставки.txt", (_KNOWLEDGE / "usloviya.txt").read_bytes(), True),
            (self.service, "Ta’mirlash narxlari.txt", scenes.REPAIRS.encode(), False),
        ):
            document = await documents.upload(session, bot, name, data, limits=limits, max_bytes=most, shared=shared)
            document.created_at = self.ago(self.chance.uniform(2, 30))
            self.made.ids.setdefault("document", document.id)
        for owner, (_name, called, days, _plan) in zip(self.owners[2:], scenes.OWNERS, strict=True):
            bot = await self._bot(session, owner, called, days - 0.5)
            if called == scenes.NEWCOMER:
                self.made.ids |= {"newcomer": owner.id, "newcomer_bot": bot.id}
                data = (_KNOWLEDGE.parent / "nur_gullari" / "katalog.csv").read_bytes()
                await documents.upload(session, bot, "Katalog.csv", data, limits=limits, max_bytes=most)
            elif days > 20:
                kind = self.chance.choice(("telegram", "telegram", "instagram", "whatsapp"))
                session.add(
                    models.Channel(
                        bot_id=bot.id,
                        kind=kind,
                        external_id=bot.id,
                        title=called,
                        username=called.lower().replace(" ", "_").replace("‘", ""),
                        status="refused" if called == scenes.BROKEN else "stopped",
                        last_error="401: Unauthorized" if called == scenes.BROKEN else "",
                        health=checked,
                    )
                )
                data = scenes.REPAIRS.encode()
                await documents.upload(session, bot, "Narxlar.txt", data, limits=limits, max_bytes=most)
        versions = [
            {"name": "Texno Savdo", "system_prompt": prompt, "languages": ["uz", "ru", "en"], "settings": {}}
            for prompt in scenes.PROMPTS
        ]
        versions.append({**versions[-1], "system_prompt": scenes.PROMPT, "settings": dict(self.shop.settings)})
        for number, content in enumerate(versions, 1):
            session.add(
                models.BotVersion(
                    bot_id=self.shop.id,
                    number=number,
                    content=content,
                    author_id=self.owner.id,
                    created_at=self.ago(150 / number**2),
                )
            )
        self.made.ids |= {"bot": self.shop.id, "service": self.service.id, "public": self.shop.public_id}

    async def _customers(self, session: AsyncSession) -> None:
        """Conversations of two months, more each week; the newest ones are written by hand."""
        chance, day = self.chance, today(self.now)
        for back in range(_DAYS, -1, -1):
            begins = max(midnight(day - dt.timedelta(days=back)), self.ago(back, hours=13))
            ends = min(midnight(day - dt.timedelta(days=back)) + dt.timedelta(hours=22), self.ago(minutes=90))
            weekend = 0.7 if (day - dt.timedelta(days=back)).weekday() == 6 else 1
            for _ in range(round((5 + 9 * (1 - back / _DAYS)) * weekend * chance.uniform(0.7, 1.3))):
                if ends > begins:
                    at = begins + (ends - begins) * chance.random()
                    await self._thin(session, self.shop, self.channels, at)
        others = [
            (bot, {"web": await bots.connect_web(session, bot)})
            for bot in await session.run_sync(lambda each: list(each.query(models.Bot)))
            if bot.owner_id not in (self.owner.id, self.made.ids["newcomer"])
        ]
        for bot, places in others:
            for _ in range(chance.randrange(4, 30)):
                await self._thin(session, bot, places, self.ago(chance.uniform(0.2, 35)))
        for scene in reversed(scenes.TALKS):
            await self._scene(session, scene)
        self.made.ids |= {"talk": self.talks[-1], "contact": self.made.ids["contact"]}

    async def _contact(
        self, session: AsyncSession, bot: models.Bot, channel: models.Channel, name: str, language: str, at: dt.datetime
    ) -> models.Contact:
        number = self.chance.randrange(10**8, 10**9)
        known = channel.kind == "whatsapp" or (channel.kind == "telegram" and self.chance.random() < 0.4)
        contact = models.Contact(
            id=id_at(at),
            bot_id=bot.id,
            channel_id=channel.id,
            external_id=f"{number}{len(self.talks)}",
            name=name,
            username=name.split()[0].lower() if channel.kind == "instagram" else "",
            phone=f"+99890000{number % 10_000:04}" if known else None,
            language=language,
            source="instagram_bio" if channel.kind == "instagram" else "",
            created_at=at,
        )
        session.add(contact)
        await session.flush()
        return contact

    async def _thin(
        self, session: AsyncSession, bot: models.Bot, places: Mapping[str, models.Channel], at: dt.datetime
    ) -> None:
        """A conversation like most: a few questions that the bot answered, or now and then did not."""
        chance = self.chance
        kind = chance.choices(list(places), weights=[scenes.CHANNELS[each] for each in places])[0]
        language = chance.choices(list(scenes.LANGUAGES), weights=list(scenes.LANGUAGES.values()))[0]
        name = f"{chance.choice(scenes.NAMES[language])} {chance.choice(scenes.FAMILIES[language])}"
        contact = await self._contact(session, bot, places[kind], name, language, at)
        lines: list[tuple[str, str, bool | None]] = []
        for question, answer in chance.sample(scenes.PAIRS[language], chance.choice((1, 1, 2, 2, 3))):
            known = chance.random() < 0.93
            lines += [("customer", question, None), ("bot", answer if known else scenes.UNKNOWN[language], known)]
        if chance.random() < 0.09:
            lines.append(("operator", scenes.PERSON[language], None))
        await self._write(session, contact, lines, at, status=chance.choice(("bot", "bot", "closed")))

    async def _scene(self, session: AsyncSession, scene: scenes.Scene) -> None:
        """A conversation that was written for a picture."""
        asked = sum(author not in ("bot", "unknown") for author, _text in scene.lines)
        begun = self.ago(minutes=scene.minutes + 2.9 * asked)
        contact = await self._contact(
            session, self.shop, self.channels[scene.channel], scene.name, scene.language, begun
        )
        contact.phone = "+998900000042" if scene.channel == "whatsapp" else contact.phone
        answers: dict[str, bool | None] = {"bot": True, "unknown": False}
        lines = [("bot" if author == "unknown" else author, text, answers.get(author)) for author, text in scene.lines]
        talk = await self._write(session, contact, lines, begun, status=scene.status, reason=scene.reason, step_s=170)
        self.made.ids["contact"] = contact.id

        if scene.status in ("waiting", "human"):
            talk.person_at = self.ago(minutes=scene.minutes) if scene.status == "human" else talk.person_at
            talk.assignee_id = self.owner.id if scene.status == "human" else None
            talk.unanswered_since = self.ago(minutes=scene.minutes) if scene.lines[-1][0] == "customer" else None

    async def _write(
        self,
        session: AsyncSession,
        contact: models.Contact,
        lines: Sequence[tuple[str, str, bool | None]],
        begun: dt.datetime,
        *,
        status: str,
        reason: str | None = None,
        step_s: float = 95.0,
    ) -> models.Conversation:
        rows: list[dict[str, Any]] = []
        at, before, talk_id = begun, None, id_at(begun)
        for author, text, known in lines:
            by_bot = author == "bot"
            at += dt.timedelta(seconds=self.chance.uniform(1.6, 4.2) if by_bot else step_s)
            row: dict[str, Any] = {
                "id": id_at(at),
                "conversation_id": talk_id,
                "author": author,
                "text": text,
                "language": contact.language,
                "status": "answered" if author == "customer" else "read" if self.chance.random() < 0.8 else "delivered",
                "answered": known,
                "reply_to": before if by_bot else None,
                "provider": "gemini" if by_bot else None,
                "model": "gemini-3.5-flash-lite" if by_bot else None,
                "sources": scenes.SOURCES if by_bot and known else None,
                "author_id": self.owner.id if author == "operator" else None,
                "rating": self.chance.choices((1, -1, None), weights=(12, 2, 86))[0] if by_bot else None,
                "created_at": at,
            }
            rows.append(row)
            before = row["id"] if author == "customer" else before
        talk = models.Conversation(
            id=talk_id,
            bot_id=contact.bot_id,
            channel_id=contact.channel_id,
            contact_id=contact.id,
            status=status,
            waiting_reason=reason,
            last_message_at=at,
            last_inbound_at=max(row["created_at"] for row in rows if row["author"] == "customer"),
            last_text=lines[-1][1][:200],
            person_at=max((row["created_at"] for row in rows if row["author"] == "operator"), default=None),
            created_at=begun,
        )
        session.add(talk)
        await session.flush()
        await session.execute(insert(models.Message), rows)
        self.talks.append(talk_id)
        return talk

    async def _work(self, session: AsyncSession) -> None:
        """What the shop's people put on conversations: labels, notes, ready answers."""
        labels = [models.Label(owner_id=self.owner.id, name=name, color=color) for name, color in scenes.LABELS]
        session.add_all(labels)
        await session.flush()
        for place, talk in enumerate(reversed(self.talks[-40:])):
            if place % 3 == 0:
                chosen = labels[place // 3 % len(labels)]
                session.add(models.ConversationLabel(conversation_id=talk, label_id=chosen.id))
        session.add(
            models.Note(
                conversation_id=self.made.ids["talk"],
                author_id=self.owner.id,
                text=scenes.NOTE,
                created_at=self.ago(minutes=2),
            )
        )
        for shortcut, text in scenes.READY.items():
            session.add(models.CannedReply(owner_id=self.owner.id, shortcut=shortcut, text=text))
        month = self.now.astimezone(dt.timezone(dt.timedelta(hours=5))).strftime("%Y-%m")
        for owner in self.owners[1:]:
            used = 6214 if owner is self.owner else self.chance.randrange(40, 900)
            session.add(models.MessageQuota(user_id=owner.id, month=month, used=used, settled=used))

    async def _lessons(self, session: AsyncSession) -> None:
        """Questions without an answer, what the bot was taught, and tests with two runs."""
        for number, (question, language, count) in enumerate(scenes.UNANSWERED):
            session.add(
                models.UnansweredQuestion(
                    bot_id=self.shop.id,
                    conversation_id=self.talks[-1 - number],
                    question=question,
                    folded=f"q{number}",
                    language=language,
                    count=count,
                    created_at=self.ago(9),
                    last_asked_at=self.ago(number * 0.7 + 0.1),
                )
            )
        for question, answer in scenes.TAUGHT:
            await documents.add_answer(session, self.shop, question, answer)
        tests = [
            models.TestQuestion(id=new_id(), bot_id=self.shop.id, question=q, expected=e) for q, e, _ in scenes.TESTS
        ]
        session.add_all(tests)
        for back in (8.0, 0.3):
            results = {
                test.id: {
                    "question": test.question,
                    "expected": test.expected,
                    "state": "bad" if back > 1 and place == 2 else "good",
                    "answered": True,
                    "missing": [test.expected] if back > 1 and place == 2 else [],
                    "text": answer,
                    "sources": [{"name": "Savol-javob.txt", "text": answer}],
                    "note": "",
                    "language": "ru" if place == 3 else "uz",
                    "provider": "gemini",
                    "model": "gemini-3.5-flash-lite",
                }
                for place, (test, (_q, _e, answer)) in enumerate(zip(tests, scenes.TESTS, strict=True))
            }
            session.add(
                models.TestRun(
                    id=id_at(self.ago(back)),
                    bot_id=self.shop.id,
                    status="done",
                    results=results,
                    knowledge_version=4,
                    created_at=self.ago(back),
                    finished_at=self.ago(back),
                )
            )

    async def _broadcasts(self, session: AsyncSession) -> None:
        tomorrow = midnight(today(self.now) + dt.timedelta(days=1))
        common = {"bot_id": self.shop.id, "author_id": self.owner.id}
        done = models.Broadcast(
            id=id_at(self.ago(3)),
            title=scenes.NEWS[0],
            texts={"uz": scenes.NEWS[1], "ru": scenes.NEWS[2]},
            audience={"seen": "within", "days": 60},
            status="done",
            started_at=self.ago(3),
            finished_at=self.ago(3, minutes=-14),
            run_at=self.ago(3),
            created_at=self.ago(3.1),
            **common,
        )
        planned = models.Broadcast(
            id=id_at(self.ago(0.2)),
            title="Muddatli to‘lov haqida",
            texts={"uz": scenes.NEWS[3]},
            audience={"channels": ["telegram"], "languages": ["uz"]},
            status="scheduled",
            run_at=tomorrow + dt.timedelta(hours=11),
            created_at=self.ago(0.2),
            **common,
        )
        draft = models.Broadcast(
            title="Navro‘z sovg‘alari", texts={"uz": "🎁"}, status="draft", created_at=self.ago(0.1), **common
        )
        session.add_all((done, planned, draft))
        people = await session.run_sync(
            lambda each: [
                row.id
                for row in each.query(models.Contact.id).filter_by(bot_id=self.shop.id)
                if row.id < first_id(self.ago(4))
            ]
        )
        fates = (("sent", "", 88), ("skipped", "window", 7), ("skipped", "opted_out", 2), ("failed", "unreachable", 3))
        rows = []
        for contact in people:
            status, reason, _ = self.chance.choices(fates, weights=[weight for *_rest, weight in fates])[0]
            rows.append(
                {
                    "broadcast_id": done.id,
                    "contact_id": contact,
                    "status": status,
                    "reason": reason,
                    "changed_at": self.ago(3),
                }
            )
        done.chosen = len(rows)
        await session.flush()
        await session.execute(insert(models.BroadcastDelivery), rows)
        self.made.ids["broadcast"] = done.id

    async def _money(self, session: AsyncSession) -> None:
        """Plans and payments of a year, coupons, wishes, and what the models cost."""
        numbers = iter(range(100_201, 101_000))
        prices = {name: plan.price_uzs * TIYIN for name, plan in self.settings.plans.items()}
        coupon = models.Coupon(
            code="KUZ-2026",
            percent=15,
            valid_until=self.now + dt.timedelta(days=20),
            max_uses=100,
            uses=11,
            note="Kuzgi aksiya",
        )
        session.add_all(
            (
                coupon,
                models.Coupon(
                    code="YANGI-DO‘KON".replace("‘", ""), percent=30, max_uses=50, uses=8, created_at=self.ago(40)
                ),
                models.Coupon(
                    code="HAMKOR-50", amount_tiyin=50_000 * TIYIN, max_uses=20, uses=20, created_at=self.ago(70)
                ),
                models.Coupon(
                    code="ESKI-2025", percent=10, uses=34, valid_until=self.ago(12), created_at=self.ago(200)
                ),
                models.Coupon(code="XATO-KOD", percent=90, disabled_at=self.ago(25), created_at=self.ago(26)),
            )
        )
        await session.flush()
        self.made.ids["coupon"] = coupon.id

        def paid(
            owner: models.User, plan: str, at: dt.datetime, status: str = "paid", months: int = 1
        ) -> models.Payment:
            gateway = self.chance.choice(_GATEWAYS)
            price = prices[plan] * months * (95 if months == 3 else 100) // 100
            off = price * 15 // 100 if self.chance.random() < 0.1 else 0
            over = status in ("paid", "refunded")
            return models.Payment(
                id=id_at(at),
                number=str(next(numbers)),
                user_id=owner.id,
                plan=plan,
                period="quarterly" if months == 3 else "monthly",
                kind="new",
                gateway=gateway,
                status=status,
                price_tiyin=price,
                discount_tiyin=off,
                amount_tiyin=price - off,
                coupon_id=coupon.id if off else None,
                paid_by=gateway if over else None,
                paid_at=at if over else None,
                refunded_at=at + dt.timedelta(days=2) if status == "refunded" else None,
                refund_reason="Egasi so‘radi" if status == "refunded" else "",
                created_at=at,
                expires_at=at + dt.timedelta(days=1),
            )

        def span(owner: models.User, payment: models.Payment, days: int) -> models.Subscription:
            at = payment.created_at
            return models.Subscription(
                user_id=owner.id,
                plan=payment.plan,
                period=payment.period,
                source="payment",
                payment_id=payment.id,
                value_tiyin=payment.amount_tiyin,
                starts_at=at,
                ends_at=at + dt.timedelta(days=days),
                created_at=at,
            )

        for owner, (_name, _bot, days, plan) in zip(self.owners[2:], scenes.OWNERS, strict=True):
            if not plan:
                continue
            for back in range(int(days) - 14, 0, -30):
                payment = paid(owner, plan, self.ago(back + self.chance.random()))
                session.add_all((payment, span(owner, payment, 30)))
            for status in self.chance.choices(("expired", "cancelled", "refunded", ""), weights=(5, 3, 1, 6)):
                if status:
                    session.add(paid(owner, plan, self.ago(self.chance.uniform(3, max(4, days - 14))), status))
        for back in (140, 110, 80, 50):
            payment = paid(self.owner, "basic", self.ago(back))
            session.add_all((payment, span(self.owner, payment, 30)))
        payment = paid(self.owner, "premium", self.ago(19.5), months=3)
        waits = paid(self.owner, "premium", self.ago(hours=2), "waiting", months=3)
        waits.gateway, waits.kind, waits.discount_tiyin, waits.coupon_id = "payme", "renewal", 0, None
        waits.amount_tiyin = waits.price_tiyin
        session.add_all((payment, span(self.owner, payment, 90), waits))
        self.made.ids |= {"waits": waits.number, "payment": payment.number}
        wishes = ("pending", "pending", "granted", "declined", "granted")
        for number, (status, owner) in enumerate(zip(wishes, self.owners[-6:], strict=False)):
            over = status != "pending"
            session.add(
                models.AccessRequest(
                    user_id=owner.id,
                    plan="basic",
                    period="monthly",
                    note=scenes.WISHES[number % len(scenes.WISHES)],
                    status=status,
                    decided_by=self.admin.id if over else None,
                    decided_at=self.ago(number * 3) if over else None,
                    answer="" if status != "declined" else "Avval sinov davridan foydalanib ko‘ring.",
                    created_at=self.ago(number * 3 + 0.2),
                )
            )
        await self._costs(session)

    async def _costs(self, session: AsyncSession) -> None:
        rows = []
        every = await session.run_sync(lambda each: [(bot.id, bot.owner_id) for bot in each.query(models.Bot)])
        for bot_id, owner_id in every:
            calls = 1500 if bot_id == self.shop.id else self.chance.randrange(15, 160)
            for _ in range(calls):
                gemini = self.chance.random() < 0.8
                read, wrote = self.chance.randrange(900, 2600), self.chance.randrange(40, 160)
                rows.append(
                    {
                        "owner_id": owner_id,
                        "bot_id": bot_id,
                        "provider": "gemini" if gemini else "openai",
                        "model_asked": "gemini-3.5-flash-lite" if gemini else "gpt-6-luna",
                        "model_served": "gemini-3.5-flash-lite" if gemini else "gpt-6-luna",
                        "outcome": "ok" if self.chance.random() < 0.985 else "busy",
                        "input_tokens": read,
                        "output_tokens": wrote,
                        "cached_tokens": read // 3,
                        "cost_usd": Decimal(read * 3 + wrote * 20) / 10_000_000,
                        "latency_ms": self.chance.randrange(700, 2600),
                        "created_at": self.ago(_DAYS * self.chance.random() ** 1.3),
                    }
                )
        await session.execute(insert(models.AIUsage), rows)

    async def _partners(self, session: AsyncSession) -> None:
        """Who brought whom, and what that earned."""
        other = self.owners[4]
        other.referral_code = "sherzod"
        for partner, brought in ((self.owner, self.owners[5:9]), (other, self.owners[9:11])):
            for number, owner in enumerate(brought):
                at = self.ago(100 - 12 * number)
                referral = models.Referral(
                    partner_id=partner.id,
                    user_id=owner.id,
                    source="web" if number % 2 else "telegram",
                    touched_at=at,
                    created_at=at,
                )
                session.add(referral)
                await session.flush()
                session.add_all(
                    models.ReferralEntry(
                        partner_id=partner.id,
                        referral_id=referral.id,
                        kind="commission",
                        amount_tiyin=58_000 * TIYIN,
                        available_at=self.ago(back - 14),
                        created_at=self.ago(back),
                    )
                    for back in range(90 - 10 * number, 0, -30)
                )
            for back in range(30):
                session.add(
                    models.ReferralClicks(
                        partner_id=partner.id,
                        day=(today(self.now) - dt.timedelta(days=back)).isoformat(),
                        clicks=self.chance.randrange(0, 9),
                    )
                )
        session.add(
            models.ReferralEntry(
                partner_id=self.owner.id,
                kind="payout",
                payout_id=new_id(),
                amount_tiyin=-200_000 * TIYIN,
                available_at=self.ago(21),
                created_by=self.admin.id,
                created_at=self.ago(21),
                note="8600 **** **** 0000",
            )
        )

    async def _outside(self, session: AsyncSession) -> None:
        """The owner's own servers with what they were told, and the key of the API."""
        first = models.Endpoint(
            owner_id=self.owner.id,
            url="https://crm.texnosavdo.example/botfactory",
            secret=self.crypto.encrypt({"secret": "whsec_" + "x" * 32}),
            last_ok_at=self.ago(minutes=3),
            created_at=self.ago(45),
        )
        second = models.Endpoint(
            owner_id=self.owner.id,
            url="https://ombor.texnosavdo.example/hooks/savollar",
            secret=self.crypto.encrypt({"secret": "whsec_" + "y" * 32}),
            events=["question.unanswered"],
            failing_since=self.ago(3),
            disabled_at=self.ago(0.5),
            created_at=self.ago(20),
        )
        session.add_all((first, second))
        await session.flush()
        for number in range(40):
            at, event = self.ago(minutes=3 + 37 * number), self.chance.choice(scenes.EVENTS)
            failed = number in (5, 17)
            body = {"type": event, "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "data": {"text": "Salom"}}
            row = models.EndpointEvent(
                id=id_at(at),
                endpoint_id=first.id,
                event=event,
                payload=orjson.dumps(body).decode(),
                status="failed" if failed else "delivered",
                attempts=8 if failed else 1,
                http_status=503 if failed else 200,
                answer="Service Unavailable" if failed else "ok",
                took_ms=self.chance.randrange(60, 400),
                delivered_at=None if failed else at,
                created_at=at,
            )
            session.add(row)
        session.add(
            models.ApiToken(
                user_id=self.owner.id,
                name="1C: Savdo",
                token_hash="0" * 64,
                last4="4f2a",
                created_at=self.ago(45),
                last_used_at=self.ago(minutes=12),
            )
        )
        phone = (
            "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Mobile Safari/537.36"
        )
        session.add(
            models.PanelSession(
                id="0" * 64,
                user_id=self.owner.id,
                user_agent=phone,
                created_at=self.ago(12),
                last_seen_at=self.ago(hours=5),
                expires_at=self.now + dt.timedelta(days=18),
            )
        )
        self.made.ids["endpoint"] = first.id

    async def _administration(self, session: AsyncSession) -> None:
        """What only administrators see: support, announcements, what went wrong, the log of their actions."""
        for owner, lines, minutes in zip(
            (self.owner, *self.owners[4:7]), scenes.SUPPORT, (140, 12, 55, 2000), strict=True
        ):
            waiting = not lines[-1][0]
            talk = models.SupportTalk(
                owner_id=owner.id,
                waiting_since=self.ago(minutes=minutes) if waiting else None,
                owner_seen_at=self.now,
                last_text=lines[-1][1],
                last_message_at=self.ago(minutes=minutes),
            )
            session.add(talk)
            await session.flush()
            for place, (by_admin, text) in enumerate(lines):
                at = self.ago(minutes=minutes + 6 * (len(lines) - 1 - place))
                session.add(
                    models.SupportMessage(
                        id=id_at(at),
                        owner_id=owner.id,
                        author_id=self.admin.id if by_admin else owner.id,
                        by_admin=by_admin,
                        text=text,
                        created_at=at,
                    )
                )
        for number, (texts, status) in enumerate(scenes.ANNOUNCEMENTS):
            at = self.ago(2 + 9 * number)
            row = models.Announcement(
                id=id_at(at),
                texts=texts,
                audience={"plan": "all", "languages": [], "service": True},
                by_telegram=True,
                by_mail=number == 0,
                as_banner=False,
                status=status,
                run_at=at if status == "done" else None,
                chosen=len(self.owners) if status == "done" else 0,
                author_id=self.admin.id,
                created_at=at,
                finished_at=at if status == "done" else None,
            )
            session.add(row)
            await session.flush()
            for owner in self.owners[1:] if status == "done" else ():
                session.add(
                    models.Letter(
                        user_id=owner.id,
                        kind="announcement",
                        key=f"announcement:{row.id}",
                        mail="sent" if row.by_mail else "none",
                        telegram="failed" if owner is self.owners[-1] else "sent",
                        sent_at=at,
                        created_at=at,
                    )
                )
            self.made.ids.setdefault("announcement", row.id)
        for number, (level, event, detail, count) in enumerate(scenes.ERRORS):
            session.add(
                models.ErrorRecord(
                    fingerprint=str(number) * 64,
                    level=level,
                    event=event,
                    detail=detail,
                    request_id=f"4x1vag{number}",
                    count=count,
                    first_at=self.ago(9 - number),
                    last_at=self.ago(hours=3 + 20 * number),
                )
            )
        session.add(
            models.Job(
                lane=f"bot:{self.service.id}",
                kind="index_document",
                status="dead",
                error="ReadError: too_long",
                created_at=self.ago(1.2),
                finished_at=self.ago(1.1),
            )
        )
        for back, actor, action, kind, about, details in self._audited():
            session.add(
                models.AuditLog(
                    id=id_at(self.ago(back)),
                    at=self.ago(back),
                    actor_id=actor.id,
                    action=action,
                    object_kind=kind,
                    object_id=about,
                    details=details,
                )
            )
        view = models.RemoteView(
            owner_id=self.owner.id,
            admin_id=self.admin.id,
            reason="Egasi Instagramni ulashda yordam so‘radi",
            created_at=self.ago(4),
            expires_at=self.ago(4, minutes=-30),
            ended_at=self.ago(4, minutes=-18),
        )
        session.add(view)
        await session.flush()
        for place, path in enumerate(("/dashboard", f"/bots/{self.shop.id}", f"/bots/{self.shop.id}/channels")):
            at = view.created_at + dt.timedelta(minutes=place + 1)
            session.add(models.RemoteViewPage(view_id=view.id, method="GET", path=path, status=200, at=at))
        session.add(
            models.LetterText(
                kind="plan_ends",
                language="uz",
                part="subject",
                text="Tarifingiz tez orada tugaydi",
                changed_by=self.admin.id,
                changed_at=self.ago(30),
            )
        )

    def _audited(self) -> list[tuple[float, models.User, str, str, str, Mapping[str, Any]]]:
        banned, shop = self.owners[-1], self.shop.id
        return [
            (0.05, self.admin, "signed_in", "user", self.admin.id, {}),
            (0.08, self.admin, "owner_written", "user", self.owners[5].id, {}),
            (0.2, self.admin, "conversation_opened", "conversation", self.talks[-1], {"reason": "Egasi so‘radi"}),
            (1.1, self.owner, "conversation_taken", "conversation", self.talks[-3], {}),
            (1.3, self.admin, "payment_marked_paid", "payment", "100214", {}),
            (2.0, self.owner, "token_made", "api_token", "1C", {}),
            (
                4.0,
                self.admin,
                "view_begun",
                "user",
                self.owner.id,
                {"reason": "Egasi Instagramni ulashda yordam so‘radi"},
            ),
            (4.01, self.admin, "view_ended", "user", self.owner.id, {}),
            (6.0, self.admin, "owner_banned", "user", banned.id, {"reason": banned.ban_reason}),
            (8.0, self.owner, "channel_connected", "bot", shop, {"kind": "instagram"}),
            (9.0, self.admin, "coupons_made", "coupon", "KUZ-2026", {"percent": 15}),
            (12.0, self.owner, "member_invited", "user", self.owner.id, {"name": "Kamola"}),
            (30.0, self.admin, "letter_text_changed", "letter_text", "plan_ends", {"language": "uz"}),
        ]


async def fill(settings: Settings, crypto: Crypto) -> Installation:
    """Write the installation into the (migrated, empty) database of ``settings``."""
    db = Database(settings.database_url)
    try:
        return await _Filling(db, settings, crypto).run()
    finally:
        await db.close()


async def read(url: str) -> None:
    """Wait until the program has read all documents."""
    db = Database(url)
    try:
        for _ in range(600):
            async with db.read() as session:
                open_ones = await session.scalar(
                    select(func.count()).where(models.Document.status.in_(("queued", "processing")))
                )
            if not open_ones:
                return
            await asyncio.sleep(0.1)
    finally:
        await db.close()
    raise NotMeasurable("the documents were not read within a minute")


async def speak(url: str, language: str) -> None:
    """Let everybody read the panel in a language, in the look of their machine."""
    db = Database(url)
    try:
        async with db.write() as session:
            await session.execute(update(models.User).values(language=language, theme="system"))
    finally:
        await db.close()


async def links(url: str, people: Sequence[str]) -> list[str]:
    """Return a one-time link's token of each person."""
    db = Database(url)
    try:
        async with db.write() as session:
            return [await accounts.login_link(session, await session.get_one(models.User, person)) for person in people]
    finally:
        await db.close()
