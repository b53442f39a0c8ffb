"""Two accounts of one person become one: nothing of either is lost, nothing of anybody else is touched."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import func, select

from db import models
from db.base import utcnow
from db.engine import Database
from services import accounts, merging, plans, subscriptions
from services.errors import Conflict, Invalid
from services.settings import Settings
from tests.services.owned import DAY, everything, fill, naming

SETTINGS = Settings()


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A database of the test's own, of each kind."""
    made = Database(database_url, pool_size=4)
    yield made
    await made.close()


async def _pair(db: Database) -> tuple[models.User, models.User, models.User]:
    """Return an account of the web, one of Telegram, and a stranger, each with everything."""
    async with db.write() as session:
        helper = models.User(full_name="Helper")
        session.add(helper)
        await session.flush()
        web = await fill(session, "Web", helper=helper, email="web@example.uz", password_hash="x")
        telegram = await fill(session, "Tg", helper=helper, telegram_id=77, phone="+998901112233", referral_code="REF7")
        stranger = await fill(session, "Other", helper=helper, email="other@example.uz", telegram_id=78)
        session.add(models.Member(owner_id=stranger.id, user_id=telegram.id, role="manager"))
        session.add(models.Member(owner_id=telegram.id, user_id=web.id, role="operator"))
    return web, telegram, stranger


async def test_nothing_is_lost_and_nothing_else_is_touched(db: Database) -> None:
    """Every column that named the one names the other; rows of strangers are what they were, to the last column."""
    web, telegram, stranger = await _pair(db)
    async with db.read() as session:
        before = await everything(session)
    async with db.write() as session:
        ended = await merging.join(session, SETTINGS, web.id, telegram.id, now=utcnow())
    assert len(ended) == 1
    async with db.read() as session:
        after = await everything(session)
        user = await session.get_one(models.User, web.id)
    left = naming(after, telegram.id)
    # Of whom it was about the audit log still tells.
    assert left == {"audit_log.object_id": 1}
    assert (user.telegram_id, user.phone, user.email, user.password_hash) == (
        77,
        "+998901112233",
        "web@example.uz",
        "x",
    )
    assert user.referral_code == "REF7"
    # What proves a person ends with the account; what both had one of becomes one; nobody works for themselves.
    ends = {"panel_sessions": 1, "login_links": 1, "account_codes": 1, "recovery_codes": 1, "users": 1, "members": 2}
    # Of two letters about the same, one stays, and one more tells of the joining.
    alike = {
        "notices": 1,
        "message_quotas": 1,
        "referral_clicks": 1,
        "labels": 1,
        "day_costs": 1,
        "support_talks": 1,
    }
    new = {"audit_log": -1, "subscriptions": -1}
    for table, rows in before.items():
        fewer = ends.get(table, 0) + alike.get(table, 0) + new.get(table, 0)
        assert len(rows) - len(after[table]) == fewer, table
    for table, rows in before.items():
        mine = {web.id, telegram.id}
        others = [row for row in rows if not mine & {value for value in row.values() if isinstance(value, str)}]
        kept = {str(row) for row in after[table]}
        if table in ("users", "bots", "documents", "contacts", "payments", "letters", "coupons", "labels", "members"):
            assert {str(row) for row in others} <= kept, table
    assert naming(before, stranger.id) == naming(after, stranger.id)
    bots = {row["name"]: row["owner_id"] for row in after["bots"]}
    assert bots == {"Web bot": web.id, "Tg bot": web.id, "Other bot": stranger.id}
    (quota,) = [row["used"] for row in after["message_quotas"] if row["user_id"] == web.id]
    assert quota == 14
    assert [row["calls"] for row in after["day_costs"] if row["owner_id"] == web.id] == [4]
    assert {row["shortcut"] for row in after["canned_replies"] if row["owner_id"] == web.id} == {"salom", "salom2"}
    assert [row["status"] for row in after["access_requests"] if row["user_id"] == web.id] == ["pending", "withdrawn"]
    # The talks of both have the one label of this name.
    (label,) = [row["id"] for row in after["labels"] if row["owner_id"] == web.id]
    assert len([row for row in after["conversation_labels"] if row["label_id"] == label]) == 2
    (role,) = [row["role"] for row in after["members"] if row["user_id"] == web.id]
    assert role == "manager"


async def test_paid_time_of_both_follows_on(db: Database) -> None:
    """Forty days of the one plan; where one is larger it comes first."""
    web, telegram, _ = await _pair(db)
    now = utcnow()
    async with db.write() as session:
        large = await subscriptions.grant(
            session, SETTINGS, telegram.id, list(_sold())[-1], "monthly", now=now, source="grant", value_tiyin=9000
        )
        await merging.join(session, SETTINGS, web.id, telegram.id, now=now)
    async with db.read() as session:
        user = await session.get_one(models.User, web.id)
        line = await subscriptions.timeline(session, SETTINGS, user)
        rows = [row for row in await subscriptions.spans(session, web.id) if row.ends_at > now]
    assert line.at(now).plan == large.plan
    assert line.at(now).paid_until is not None
    whole = sum((row.ends_at - max(now, row.starts_at) for row in rows), dt.timedelta())
    assert abs(whole - 70 * DAY) < dt.timedelta(minutes=1)
    spans = sorted((max(now, row.starts_at), row.ends_at) for row in rows)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert user.subscription_version > 0


def _sold() -> list[str]:
    return list(plans.for_sale(SETTINGS))


@pytest.mark.parametrize(
    ("web", "telegram"),
    [
        ({"telegram_id": 5}, {}),
        ({}, {"email": "second@example.uz"}),
        ({}, {"role": "admin"}),
        ({"banned_at": utcnow()}, {}),
        ({}, {"banned_at": utcnow()}),
        ({"delete_at": utcnow() + DAY}, {}),
    ],
)
async def test_what_cannot_be_joined_stays_as_it_is(
    db: Database, web: dict[str, Any], telegram: dict[str, Any]
) -> None:
    """Two of Telegram, two e-mails, an administrator that would give way, somebody blocked, somebody about to go."""
    async with db.write() as session:
        keep = await fill(session, "Web", **{"email": "web@example.uz", **web})
        former = await fill(session, "Tg", **{"telegram_id": 77, **telegram})
    async with db.read() as session:
        before = await everything(session)
    with pytest.raises(Conflict):
        async with db.write() as session:
            await merging.join(session, SETTINGS, keep.id, former.id, now=utcnow())
    async with db.read() as session:
        assert await everything(session) == before


async def test_the_second_factor_and_its_codes_come_along(db: Database) -> None:
    """Joining is no way around the second factor of either."""
    web, telegram, _ = await _pair(db)
    async with db.write() as session:
        row = await session.get_one(models.User, telegram.id)
        row.totp_secret, row.totp_at, row.totp_step = "sealed", utcnow(), 5
    async with db.write() as session:
        await merging.join(session, SETTINGS, web.id, telegram.id, now=utcnow())
    async with db.read() as session:
        user = await session.get_one(models.User, web.id)
        codes = await session.scalar(select(func.count()).where(models.RecoveryCode.user_id == web.id))
    assert (user.totp_secret, user.totp_step, codes) == ("sealed", 5, 2)


async def test_one_link_joins_once_however_often_it_is_pressed(db: Database) -> None:
    """Two presses at the same moment and one afterwards: one account, once told."""
    web, telegram, stranger = await _pair(db)
    async with db.write() as session:
        token = await accounts.login_link(session, web)

    async def press(telegram_id: int) -> str:
        try:
            async with db.write() as session:
                user, _ = await merging.link_telegram(session, SETTINGS, token, telegram_id, now=utcnow())
            return user.id
        except (Invalid, Conflict) as error:
            return error.code

    pressed = await asyncio.gather(press(77), press(77))
    assert web.id in pressed
    assert await press(77) == web.id
    assert await press(78) == "link"
    async with db.read() as session:
        letters = select(func.count()).where(models.Letter.kind == "joined")
        assert await session.scalar(letters) == 1
        assert await session.get(models.User, telegram.id) is None
        assert (await session.get_one(models.User, stranger.id)).telegram_id == 78
