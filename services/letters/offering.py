"""Who is reminded of an end or offered a plan, when, and by which letter; everything by the clock that is handed in."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, new_id
from services import coupons, letters, plans, subscriptions
from services.days import midnight, today
from services.letters.offers import KINDS, OFFERS
from services.plans import Timeline
from services.settings import Settings

if TYPE_CHECKING:
    from services.core import Core

REMIND_JOB = "remind"
PLANS_PAGE = "/billing"
_SLICE = 500
# Whoever has been away for longer, or was there before plans were, is not told today that something ended once.
_LATE = dt.timedelta(days=30)
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class _Wish:
    """A letter that is due. ``expires_at``: None for the usual life of one."""

    kind: str
    key: str
    params: Mapping[str, Any] = field(default_factory=dict)
    expires_at: dt.datetime | None = None


def _stamp(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()


def _end(line: Timeline) -> dt.datetime | None:
    """Return the end of everything that was ever paid for."""
    return max((span.ends_at for span in line.spans), default=None)


def _last_day(end: dt.datetime) -> dt.date:
    """Return the last day in Tashkent that has something of a span: what ends at midnight ends with the day before."""
    return today(end - dt.timedelta(microseconds=1))


def _midnight_after(day: dt.date) -> dt.datetime:
    return midnight(day + dt.timedelta(days=1))


def _reminder(settings: Settings, line: Timeline, now: dt.datetime) -> _Wish | None:
    """Return what an owner is to be told of an end at ``now``, whether or not it was told already."""
    standing, end = line.at(now), _end(line)
    if standing.status == "unlimited":
        return None
    if end is not None:
        last = max(line.spans, key=lambda span: span.ends_at)
        facts = settings.plans.get(last.plan)
        params = {
            "plan": facts.title.kept() if facts is not None else last.plan,
            "day": {"day": _stamp(end - dt.timedelta(microseconds=1))},
            "time": {"time": _stamp(end)},
            "ends": _stamp(end),
            "path": PLANS_PAGE,
        }
        if now < end:
            return _before_the_end(settings, end, params, now)
        if standing.status == "grace":
            until = end + dt.timedelta(days=settings.subscriptions.grace_days)
            params["until"] = {"moment": _stamp(until)}
            return _Wish("plan_over", f"plan_day:{_stamp(end)}", params, until)
        if standing.status == "expired" and now - end < _LATE:
            return _Wish("plan_stopped", f"plan_stopped:{_stamp(end)}", params)
        return None
    if standing.status == "test" and standing.ends_at is not None:
        params = {"until": {"moment": _stamp(standing.ends_at)}, "path": PLANS_PAGE}
        return _Wish("trial_over", f"trial_over:{_stamp(line.trial_ends_at())}", params, standing.ends_at)
    over = line.began_at + dt.timedelta(days=settings.subscriptions.test_until_day)
    if standing.status == "expired" and now - over < _LATE:
        return _Wish("test_over", f"test_over:{_stamp(over)}", {"path": PLANS_PAGE})
    return None


def _before_the_end(settings: Settings, end: dt.datetime, params: Mapping[str, Any], now: dt.datetime) -> _Wish | None:
    if today(now) >= _last_day(end):
        # It may come in the evening still, but tomorrow "today" would be wrong.
        return _Wish("plan_ends_today", f"plan_day:{_stamp(end)}", params, max(end, _midnight_after(_last_day(end))))
    if now >= end - dt.timedelta(days=settings.subscriptions.remind_days):
        return _Wish("plan_ends", f"plan_ends:{_stamp(end)}", params, end)
    return None


def _offer(settings: Settings, line: Timeline, now: dt.datetime) -> _Wish | None:
    """Return the offer of the present span of ``offer_every_h`` since the end of the trial.

    Only the present one: of those that were missed none is made up for.
    """
    if line.at(now).status not in ("test", "expired"):
        return None
    began = line.trial_ends_at()
    number = (now - began) // dt.timedelta(hours=settings.mail.offer_every_h)
    if number < 1:
        return None
    kind = list(OFFERS)[(number - 1) % len(OFFERS)]
    return _Wish(kind, f"offer:{_stamp(began)}:{number}")


def _reachable(user: models.User) -> bool:
    return _by_mail(user) or user.telegram_id is not None


def _by_mail(user: models.User) -> bool:
    return bool(user.email) and user.mail_refused_at is None


def _hears_of_plans(user: models.User) -> bool:
    return user.role == "owner" and user.banned_at is None and user.delete_at is None


async def is_wanted(
    session: AsyncSession, settings: Settings, letter: models.Letter, user: models.User, *, now: dt.datetime
) -> bool:
    """Tell whether a letter still says what is true: paid meanwhile, unsubscribed, or leaving, a person gets it no more."""
    if letter.kind not in KINDS:
        return True
    if not _hears_of_plans(user):
        return False
    line = await subscriptions.timeline(session, settings, user)
    if letter.kind in OFFERS:
        if user.unsubscribed_at is not None or line.at(now).status not in ("test", "expired"):
            return False
        # Used, reserved, ended or over since: what the letter promises would not be true.
        return await coupons.own(session, user.id, now=now, code=letter.params.get("code")) is not None
    if "ends" in letter.params:
        end = _end(line)
        return end is not None and _stamp(end) == letter.params["ends"]
    return not line.at(now).is_paid


async def remind(core: Core, _payload: Mapping[str, Any]) -> None:
    """Write the letters that are due now. Runs as a job once an hour; what was missed meanwhile is written once, late."""
    after, written = "", 0
    while True:
        now = core.now()
        async with core.db.read() as session:
            users = await _owners(session, after)
            due = await _due(session, core.settings, users, now)
        for user_id, wish in due:
            async with core.db.write() as session:
                written += await _write(session, core.settings, user_id, wish, now)
        if len(users) < _SLICE:
            break
        after = users[-1].id
    if written:
        core.bell.ring("letters")


async def pass_over(session: AsyncSession, settings: Settings, *, now: dt.datetime) -> None:
    """Note what is due now as written, and send nothing of it: before a restore it may have been sent."""
    after = ""
    while users := await _owners(session, after):
        for user_id, wish in await _due(session, settings, users, now):
            await letters.write(session, user_id, wish.kind, key=wish.key, now=now, mail=False, telegram=False)
        after = users[-1].id


async def _owners(session: AsyncSession, after: str) -> list[models.User]:
    user = models.User
    hears = user.role == "owner", user.banned_at.is_(None), user.delete_at.is_(None)
    return list(await session.scalars(select(user).where(user.id > after, *hears).order_by(user.id).limit(_SLICE)))


async def _due(
    session: AsyncSession, settings: Settings, users: Sequence[models.User], now: dt.datetime
) -> list[tuple[str, _Wish]]:
    """Return which of these owners are to be written what, without what they were written already."""
    ids = [user.id for user in users]
    lines = await subscriptions.timelines(session, settings, users)
    helpers = set(await session.scalars(select(models.Member.user_id).where(models.Member.user_id.in_(ids))))
    if helpers:
        # Who answers for somebody else and has no bot buys nothing.
        owning = select(models.Bot.owner_id).where(models.Bot.owner_id.in_(helpers), models.Bot.deleted_at.is_(None))
        helpers -= set(await session.scalars(owning))
    wishes: list[tuple[str, _Wish]] = []
    for user in users:
        if user.id in helpers or not _reachable(user):
            continue
        line = lines[user.id]
        wishes += [(user.id, wish) for wish in (_reminder(settings, line, now),) if wish is not None]
        if user.unsubscribed_at is None and (offer := _offer(settings, line, now)) is not None:
            wishes.append((user.id, offer))
    known = await session.execute(
        select(models.Letter.user_id, models.Letter.key).where(
            models.Letter.user_id.in_({user_id for user_id, _ in wishes}),
            models.Letter.key.in_({wish.key for _, wish in wishes}),
        )
    )
    written = {(row.user_id, row.key) for row in known}
    return [(user_id, wish) for user_id, wish in wishes if (user_id, wish.key) not in written]


async def _write(session: AsyncSession, settings: Settings, user_id: str, wish: _Wish, now: dt.datetime) -> bool:
    """Write a letter that was found due, unless something has changed since; the owner is locked meanwhile."""
    user = await subscriptions.lock(session, user_id)
    line = await subscriptions.timeline(session, settings, user)
    params, expires_at = wish.params, wish.expires_at
    if wish.kind in OFFERS:
        if user.unsubscribed_at is not None or not _hears_of_plans(user) or _offer(settings, line, now) != wish:
            return False
        every = dt.timedelta(hours=settings.mail.offer_every_h)
        if await _offered_lately(session, user_id, now, every / 2):
            return False
        coupon = await _coupon(session, settings, user_id, now)
        cheapest = next(iter(plans.for_sale(settings).values()))
        params = {
            "code": coupon.code,
            "percent": coupon.percent,
            "until": {"moment": _stamp(coupon.valid_until or now)},
            "price": {"tiyin": cheapest.price_uzs * plans.TIYIN},
            "path": f"{PLANS_PAGE}?coupon={coupon.code}",
        }
        expires_at = min(now + every, coupon.valid_until or now + every)
    elif not _hears_of_plans(user) or _reminder(settings, line, now) != wish:
        return False
    return await letters.write(
        session,
        user_id,
        wish.kind,
        key=wish.key,
        now=now,
        params=params,
        mail=_by_mail(user),
        telegram=user.telegram_id is not None,
        expires_at=expires_at,
    )


async def _offered_lately(session: AsyncSession, user_id: str, now: dt.datetime, gap: dt.timedelta) -> bool:
    """Tell whether an offer was written less than ``gap`` before ``now``, or after it by a clock that was ahead."""
    letter = models.Letter
    lately = await session.scalar(
        select(letter.id)
        .where(
            letter.user_id == user_id,
            letter.kind.in_(list(OFFERS)),
            letter.created_at > now - gap,
            letter.created_at < now + gap,
        )
        .limit(1)
    )
    return lately is not None


async def _coupon(session: AsyncSession, settings: Settings, user_id: str, now: dt.datetime) -> models.Coupon:
    """Return the owner's own coupon, a new one where there is none that can be used."""
    known = await coupons.own(session, user_id, now=now)
    if known is not None:
        return known
    coupon = models.Coupon
    percent, year = settings.mail.offer_discount_percent, today(now).year
    connection = await session.connection()
    for _ in range(_CODE_ATTEMPTS):
        middle = "".join(secrets.choice(_CODE_LETTERS) for _ in range(4))
        made: models.Coupon | None = await session.scalar(
            insert_for(connection.dialect.name, coupon)
            .values(
                id=new_id(),
                code=f"SAVE{percent}_{middle}_{year}",
                percent=percent,
                plans=[],
                valid_from=now,
                valid_until=now + dt.timedelta(days=settings.mail.offer_coupon_days),
                max_uses=1,
                per_owner=1,
                uses=0,
                user_id=user_id,
                note="offer",
                created_at=now,
            )
            .on_conflict_do_nothing(index_elements=["code"])
            .returning(coupon)
        )
        if made is not None:
            return made
    raise RuntimeError("no free code for a coupon was found")


# What a person wants --------------------------------------------------------------------------------------------------


async def want_offers(session: AsyncSession, user_id: str, wanted: bool, *, now: dt.datetime) -> None:
    """Note whether a person wants offers; said twice it changes nothing."""
    user = models.User
    changed = [user.id == user_id, user.unsubscribed_at.is_not(None) if wanted else user.unsubscribed_at.is_(None)]
    await session.execute(update(user).where(*changed).values(unsubscribed_at=None if wanted else now))


async def person(session: AsyncSession, user_id: str) -> models.User | None:
    """Return whose link to end offers was opened; None where the account is no more."""
    return await session.get(models.User, user_id)
