"""A year of one owner: what it costs, what it allows, and every letter that is written, by a clock that is turned.

Trial, test days, offers, a payment with a coupon, a reminder, a renewal, an upgrade that is given back, the end, the word that
nothing more is wanted, and a last plan that ends with the year. Money comes by the gateways' own calls over HTTP, letters leave
by a real mail server and by the factory bot.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from sqlalchemy import func, or_, select

from db import models
from services import accounts, subscriptions
from services.letters import offering
from services.plans import Standing
from services.settings import Settings
from tests.composition import address, make_settings, running
from tests.conveyor.harness import until
from tests.fakes.smtp import FakeMail
from tests.fakes.telegram import FakeTelegram
from tests.payments.till import ENVIRONMENT, Till

TOKEN = "7700000001:FACTORY_token_not_real_AAAAAAAAAAAAA"
NUMBER = 900_000_777
EMAIL = "yil@example.uz"
START = dt.datetime(2027, 3, 1, 5, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
# Leap day and New Year lie between.
END_DAY = 366
BASIC, PREMIUM = 29_000_000, 59_000_000


class Year:
    """The owner, the clock and the post box."""

    def __init__(self, till: Till, mail: FakeMail, telegram: FakeTelegram, user: models.User) -> None:
        self.till, self.mail, self.telegram, self.user = till, mail, telegram, user

    @property
    def day(self) -> float:
        """How many days have passed."""
        return (self.till.moment - START) / DAY

    async def standing(self) -> Standing:
        """Return what the owner has now."""
        async with self.till.core.db.read() as session:
            user = await session.get_one(models.User, self.user.id)
            line = await subscriptions.timeline(session, self.till.core.settings, user)
        return line.at(self.till.moment)

    async def go_to(self, day: float, step_h: float = 12) -> None:
        """Let time pass to a day; every few hours the due work is done, and what was written is sent before time goes on."""
        until = START + day * DAY
        while self.till.moment < until:
            self.till.moment = min(until, self.till.moment + dt.timedelta(hours=step_h))
            await offering.remind(self.till.core, {})
            await self.sent()

    async def sent(self) -> None:
        """Wait until no letter waits or is on its way: an offer is marked as unsure before it leaves."""
        letter = models.Letter
        waiting = (
            select(func.count())
            .select_from(letter)
            .where(or_(letter.mail.in_(("new", "unsure")), letter.telegram.in_(("new", "unsure"))))
        )

        async def none_waits() -> bool:
            async with self.till.core.db.read() as session:
                return await session.scalar(waiting) == 0

        if not await none_waits():
            self.till.core.bell.ring("letters")
            await until(none_waits, 60)

    async def letters(self) -> list[tuple[int, str]]:
        """Return on which day what was written; all of it has left both ways."""
        async with self.till.core.db.read() as session:
            mine = select(models.Letter).where(models.Letter.user_id == self.user.id).order_by(models.Letter.id)
            rows = list(await session.scalars(mine))
        assert {(row.mail, row.telegram) for row in rows} <= {("sent", "sent")}
        return [((row.created_at - START) // DAY, row.kind) for row in rows]


async def test_a_year(tmp_path: Path, database_url: str, telegram: FakeTelegram) -> None:
    factory = telegram.add_bot(TOKEN, "factory_bot")
    async with FakeMail() as mail:
        settings = _settings(tmp_path, database_url, mail, telegram)
        async with running(settings, "all") as core, aiohttp.ClientSession() as http:
            till = Till(core, http, address(core), moment=START)
            core.now = lambda: till.moment
            async with core.bell.listen("channels") as bell, asyncio.timeout(60):
                while core.factory is None:
                    await bell.get()
            telegram.user(NUMBER, "uz", first_name="Aziza")
            factory.chats.add(NUMBER)
            async with core.db.write() as session:
                user = await accounts.register_owner(
                    session, telegram_id=NUMBER, full_name="Aziza", language="uz", email=EMAIL
                )
                user.trial_at = START
            await _live(Year(till, mail, telegram, user))


def _settings(folder: Path, url: str, mail: FakeMail, telegram: FakeTelegram) -> Settings:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "WEBHOOK_BASE_URL"}
    own = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_BASE": telegram.base_url}
    return make_settings(
        folder,
        url,
        environment={**environment, **own, **mail.environment()},
        as_sold=True,
        overrides={
            "mail": {"per_minute": 1_000_000, "sender": "info@bots.example.uz"},
            "server": {"public_url": "https://bots.example.uz"},
            "telegram": {"chat_messages_per_second": 10_000, "chat_burst": 10_000, "messages_per_second": 10_000},
        },
    )


async def _live(year: Year) -> None:
    till, expected = year.till, []
    assert (await year.standing()).status == "trial"
    await year.go_to(2.9, step_h=6)
    assert (await year.standing()).status == "trial" and await year.letters() == []

    # The trial is over, test days; an offer every 54 hours with a coupon of the owner's own.
    await year.go_to(3.5, step_h=6)
    assert (await year.standing()).status == "test"
    expected += [(3, "trial_over")]
    assert await year.letters() == expected
    await year.go_to(13.9, step_h=6)
    expected += [(5, "offer_night"), (7, "offer_time"), (9, "offer_ready"), (12, "offer_night")]
    assert await year.letters() == expected
    await year.go_to(14.1, step_h=6)
    standing = await year.standing()
    assert standing.status == "expired" and not standing.allows
    expected += [(14, "test_over")]
    assert await year.letters() == expected
    await year.go_to(19.5, step_h=6)
    expected += [(14, "offer_time"), (16, "offer_ready"), (18, "offer_night")]
    assert await year.letters() == expected

    # The coupon of the last offer takes a tenth off; paid by Payme.
    code = re.findall(r"\bSAVE10_\w+", year.mail.to(EMAIL)[-1].part("plain"))[0]
    assert any(code in sent.text for sent in year.telegram.messages(NUMBER))
    first = await till.order(user=year.user, coupon=code)
    assert first.amount_tiyin == BASIC * 9 // 10
    id_ = await till.payme_created(first)
    assert (await till.payme("PerformTransaction", id=id_))["state"] == 2
    await year.sent()
    paid_at = till.moment
    standing = await year.standing()
    assert (standing.status, standing.plan, standing.ends_at) == ("active", "basic", paid_at + 30 * DAY)
    expected += [(19, "paid")]
    assert await year.letters() == expected

    # No offers while a plan runs; a reminder three days before its end, and renewed in time nothing more of that end.
    await year.go_to(46)
    assert await year.letters() == expected
    await year.go_to(47.5)
    expected += [(46, "plan_ends")]
    assert await year.letters() == expected
    renewal = await till.order(user=year.user, gateway="click")
    assert (renewal.kind, renewal.amount_tiyin) == ("renewal", BASIC)
    fields = await till.click_prepared(renewal)
    assert (await till.click(renewal, 1, **fields))["error"] == 0
    await year.sent()
    expected += [(47, "paid")]
    assert (await year.standing()).ends_at == paid_at + 60 * DAY
    await year.go_to(59.5)
    assert await year.letters() == expected

    # An upgrade is credited with what is left of the plan, begins at once, and is given back: the rest of the plan goes on.
    left = paid_at + 60 * DAY - till.moment
    upgrade = await till.order("premium", "uzum", user=year.user)
    assert upgrade.kind == "upgrade" and upgrade.amount_tiyin == PREMIUM - upgrade.credit_tiyin
    assert upgrade.credit_tiyin == BASIC * 20 // 30 // 100 * 100
    trans = await till.uzum_created(upgrade)
    assert (await till.uzum("confirm", trans, paymentSource="UZCARD", phone="998000000000")).status == 200
    await year.sent()
    assert ((standing := await year.standing()).plan, standing.ends_at) == ("premium", till.moment + 30 * DAY)
    expected += [(59, "paid")]
    await year.go_to(69.5)
    refused = await till.click(renewal, 1, **fields, error="-5017")
    assert refused["error"] in (-4, -9), "what an upgrade has used up is not taken back"
    assert (await till.uzum("reverse", trans)).status == 200
    await year.sent()
    expected += [(69, "refunded")]
    over = till.moment + left
    assert ((standing := await year.standing()).plan, standing.ends_at) == ("basic", over)

    # Nobody renews: reminded twice, three days of grace, then bots stop; offers begin again until they are not wanted.
    await year.go_to((over - START) / DAY - 0.1)
    assert (await year.standing()).status == "active"
    await year.go_to((over - START) / DAY + 2.9)
    assert (await year.standing()).status == "grace"
    await year.go_to((over - START) / DAY + 3.3)
    assert (await year.standing()).status == "expired"
    ended = (over - START) // DAY
    seen = await year.letters()
    assert seen[: len(expected)] == expected
    reminders = [each for each in seen[len(expected) :] if not each[1].startswith("offer")]
    assert reminders == [(ended - 3, "plan_ends"), (ended, "plan_ends_today"), (ended + 3, "plan_stopped")]
    await year.go_to(120)
    offers = [day for day, kind in (await year.letters())[len(seen) :] if kind.startswith("offer")]
    assert len(offers) >= 8 and all(1 <= later - earlier <= 3 for earlier, later in itertools.pairwise(offers))
    last = year.mail.to(EMAIL)[-1].message
    assert last["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = urlsplit(str(last["List-Unsubscribe"]).strip("<>"))
    one_click = {"List-Unsubscribe": "One-Click"}
    async with till.http.post(f"{till.base}{link.path}?{link.query}", data=one_click) as answer:
        assert answer.status == 200
    before = await year.letters()
    await year.go_to(200.3, step_h=24)
    assert await year.letters() == before

    # A last plan, paid by hand, that ends within the year.
    closing = await till.order("starter", "payme", user=year.user)
    await till.pay(closing)
    await year.sent()
    assert ((standing := await year.standing()).plan, standing.status) == ("starter", "active")
    await year.go_to(236)
    await year.go_to(END_DAY, step_h=48)
    assert (await year.standing()).status == "expired"
    assert [kind for _, kind in (await year.letters())[len(before) :]] == [
        "paid",
        "plan_ends",
        "plan_ends_today",
        "plan_stopped",
    ]

    # What each way has carried is what was written, once.
    written = len(await year.letters())
    assert len(year.mail.to(EMAIL)) == written == len(year.telegram.messages(NUMBER))
    async with till.core.db.read() as session:
        spans = list(
            await session.scalars(select(models.Subscription).where(models.Subscription.user_id == year.user.id))
        )
        counted = select(models.Payment.status, func.count()).group_by(models.Payment.status)
        states = {row.status: row[1] for row in await session.execute(counted)}
        used = await session.scalar(select(models.Coupon.uses).where(models.Coupon.code == code))
    assert {span.payment_id for span in spans} == {first.id, renewal.id, upgrade.id, closing.id}
    assert states == {"paid": 3, "refunded": 1} and used == 1
