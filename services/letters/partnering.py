"""Telling partners once a day, in the morning, who came by their link and which commissions can be used from now on.

What has come since the last such letter stands in one, however much it was and however long nothing ran.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import models
from services import letters, referrals
from services.days import TASHKENT
from services.plans import TIYIN

if TYPE_CHECKING:
    from services.core import Core

TELL_JOB = "tell_partners"
_AT_HOUR = 9
"""Of Tashkent's clock."""
_BACK = dt.timedelta(days=30)
"""What is older is told no more: so long the program had stood still, or there were no such letters yet."""


async def tell(core: Core, _payload: Mapping[str, Any]) -> None:
    """Write the letters of this morning. Runs as a job once an hour; a second time in a day it finds nothing to tell."""
    now = core.now()
    until = _morning(now)
    async with core.db.read() as session:
        joined = set(await session.scalars(_partners_of(models.Referral, models.Referral.created_at, until)))
        line = models.ReferralEntry
        due = set(await session.scalars(_partners_of(line, line.available_at, until).where(line.kind == "commission")))
    written = 0
    for partner_id in sorted(joined | due):
        async with core.db.write() as session:
            if not await _hears(session, partner_id):
                continue
            if partner_id in joined:
                written += await _tell_joined(session, partner_id, until, now)
            if partner_id in due:
                least = core.settings.referrals.payout_min_uzs * TIYIN
                written += await _tell_due(session, partner_id, until, now, least)
    if written:
        core.bell.ring("letters")


async def pass_over(session: AsyncSession, *, now: dt.datetime) -> None:
    """Note that partners were told up to this morning, and tell them nothing: before a restore they may have been."""
    until, line = _morning(now), models.ReferralEntry
    joined = await session.scalars(_partners_of(models.Referral, models.Referral.created_at, until))
    due = await session.scalars(_partners_of(line, line.available_at, until).where(line.kind == "commission"))
    for kind, partners in (("partner_joined", joined), ("commission_due", due)):
        for partner_id in partners:
            key, told = f"{kind}:{until.isoformat()}", {"until": until.isoformat()}
            await letters.write(session, partner_id, kind, key=key, now=now, params=told, mail=False, telegram=False)


def _morning(now: dt.datetime) -> dt.datetime:
    """Return the last time that it was nine in the morning in Tashkent."""
    here = now.astimezone(TASHKENT)
    today = here.replace(hour=_AT_HOUR, minute=0, second=0, microsecond=0)
    return (today if here >= today else today - dt.timedelta(days=1)).astimezone(dt.UTC)


def _partners_of(row: Any, at: Any, until: dt.datetime) -> Any:
    """The query for whose rows there are that may be to be told of."""
    return select(row.partner_id).where(row.partner_id.is_not(None), at > until - _BACK, at <= until).distinct()


async def _hears(session: AsyncSession, partner_id: str) -> bool:
    partner = await session.get(models.User, partner_id)
    return partner is not None and partner.banned_at is None and partner.delete_at is None


async def _since(session: AsyncSession, partner_id: str, kind: str, until: dt.datetime) -> dt.datetime:
    """Return up to when a partner was told before, by the newest letter of a kind."""
    letter = models.Letter
    params = await session.scalar(
        select(letter.params)
        .where(letter.user_id == partner_id, letter.kind == kind)
        .order_by(letter.id.desc())
        .limit(1)
    )
    before = dt.datetime.fromisoformat(params["until"]) if params else until - _BACK
    return max(before, until - _BACK)


async def _tell_joined(session: AsyncSession, partner_id: str, until: dt.datetime, now: dt.datetime) -> bool:
    since, row = await _since(session, partner_id, "partner_joined", until), models.Referral
    mine = row.partner_id == partner_id, row.created_at <= until
    new = await session.scalar(select(func.count()).where(*mine, row.created_at > since)) or 0
    if not new:
        return False
    total = await session.scalar(select(func.count()).where(*mine)) or 0
    return await _write(session, partner_id, "partner_joined", until, now, {"n": new, "total": total})


async def _tell_due(session: AsyncSession, partner_id: str, until: dt.datetime, now: dt.datetime, least: int) -> bool:
    since, line = await _since(session, partner_id, "commission_due", until), models.ReferralEntry
    back = aliased(line)
    amount = await session.scalar(
        select(func.coalesce(func.sum(line.amount_tiyin), 0)).where(
            line.partner_id == partner_id,
            line.kind == "commission",
            line.available_at > since,
            line.available_at <= until,
            ~exists().where(back.payment_id == line.payment_id, back.kind == "reversal"),
        )
    )
    if not amount:
        return False
    balance = await referrals.balance_tiyin(session, partner_id, now=now)
    params = {"amount": {"tiyin": int(amount)}, "balance": {"tiyin": balance}, "least": {"tiyin": least}}
    return await _write(session, partner_id, "commission_due", until, now, params)


async def _write(
    session: AsyncSession,
    partner_id: str,
    kind: str,
    until: dt.datetime,
    now: dt.datetime,
    params: Mapping[str, Any],
) -> bool:
    told = {**params, "until": until.isoformat(), "path": referrals.PATH}
    return await letters.write(session, partner_id, kind, key=f"{kind}:{until.isoformat()}", now=now, params=told)
