"""People, payments and a clock for tests of coupons, referrals and requests, without the rest of the product."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import select

from db import models
from db.engine import Database
from services import accounts

NOW = dt.datetime(2026, 11, 22, 9, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
HUNDRED = 100


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open a database and close it again."""
    db = Database(url)
    try:
        yield db
    finally:
        await db.close()


async def person(
    db: Database, name: str, *, email: str = "", telegram_id: int | None = None, phone: str | None = None
) -> models.User:
    """Make an owner with an address of their own."""
    async with db.write() as session:
        return await accounts.register_owner(
            session,
            full_name=name,
            email=email or f"{name.lower()}@example.uz",
            telegram_id=telegram_id,
            phone=phone,
        )


async def payment(db: Database, user: models.User, number: str, *, amount_tiyin: int = 290_000_00) -> models.Payment:
    """Make something to be paid for by an owner."""
    async with db.write() as session:
        row = models.Payment(
            number=number,
            user_id=user.id,
            plan="basic",
            period="monthly",
            gateway="payme",
            price_tiyin=amount_tiyin,
            amount_tiyin=amount_tiyin,
            created_at=NOW,
            expires_at=NOW + DAY,
        )
        session.add(row)
    return row


async def coupon(db: Database, coupon_id: str) -> models.Coupon:
    """Return a coupon as it is kept now."""
    async with db.read() as session:
        return await session.get_one(models.Coupon, coupon_id)


async def uses(db: Database, coupon_id: str) -> list[str]:
    """Return what became of each use of a coupon, sorted."""
    async with db.read() as session:
        use = models.CouponUse
        return sorted(await session.scalars(select(use.status).where(use.coupon_id == coupon_id)))
