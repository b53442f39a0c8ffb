"""Coupons: codes that make a plan cheaper, used no more often than they may be.

Amounts are integer tiyin. Why a code cannot be used nobody is told: unknown, over, used up and another's look the same.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import insert_for, new_id
from services import plans, subscriptions
from services.days import today
from services.errors import Conflict, Invalid, NotFound, TooMany
from services.i18n import T, Text
from services.limits import Limits
from services.paging import few, is_cursor, malformed
from services.plans import TIYIN
from services.settings import Settings
from services.text import one_line

MANY = 1000
"""So many codes are made at once, at most."""
PAGE = 50
_CODE = re.compile(r"[A-Z0-9](?:[A-Z0-9_-]{1,38})[A-Z0-9]")
_PREFIX_CHARS = 40 - 9
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_CHARS = 8
_HELD = ("reserved", "spent")

State = Literal["", "open", "closed"]
USES: Mapping[str, Text] = {
    "reserved": T("Reserved"),
    "spent": T("Used"),
    "released": T("Given back"),
}
"""What became of a use."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a coupon takes off a price."""

    coupon_id: str
    discount_tiyin: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What coupons are made for: either ``percent`` or ``amount_tiyin`` off, for ``plans`` (empty: all).

    ``max_uses``: altogether, None without end. ``user_id``: for that owner alone.
    """

    percent: int | None = None
    amount_tiyin: int | None = None
    plans: Collection[str] = ()
    valid_from: dt.datetime | None = None
    valid_until: dt.datetime | None = None
    max_uses: int | None = 1
    per_owner: int = 1
    user_id: str | None = None
    note: str = ""


# Using ----------------------------------------------------------------------------------------------------------------


def _unusable() -> Invalid:
    text = T("This coupon cannot be used. Check the code and the plan, or go on without it.")
    return Invalid(text, code="coupon", field="coupon")


_WINDOWS: dict[int, tuple[int, Text]] = {
    900: (1, T("Too many coupon codes were tried. Wait 15 minutes.")),
    7_200: (2, T("Too many coupon codes were tried. Wait two hours.")),
    86_400: (4, T("Too many coupon codes were tried. Wait a day.")),
}
"""In which times tries of codes are counted, in seconds; how many times more may be in it, and what is said beyond."""


async def allow_guess(limits: Limits, account: str, address: str, per_window: int) -> None:
    """Count one try of a code; raises ``TooMany``. Call it before :func:`price_off`, outside the unit of work.

    ``per_window`` a quarter of an hour for an account, twice that in two hours, four times in a day; four times as many from
    one address.
    """
    for key, factor in ((f"coupon:address:{address}", 4), (f"coupon:account:{account}", 1)):
        taken: list[str] = []
        # The longest first: how long to wait is said as it is. What a shorter one refuses does not count in it.
        for window_s, (growth, said) in reversed(_WINDOWS.items()):
            name = f"{key}:{window_s}"
            if not await limits.hit(name, per_window * factor * growth, window_s):
                for longer in taken:
                    await limits.give_back(longer)
                raise TooMany(said, retry_after_s=window_s)
            taken.append(name)


async def guessed_right(limits: Limits, account: str) -> None:
    """Forget the tries of an account whose code was right; those of its address stay."""
    for window_s in _WINDOWS:
        await limits.forget(f"coupon:account:{account}:{window_s}")


def clean_code(text: str) -> str:
    """Return a code as it is kept, however it was typed; what cannot be a code becomes an empty one."""
    code = "".join(text[:80].split()).upper()
    return code if _CODE.fullmatch(code) else ""


async def price_off(
    session: AsyncSession, user: models.User, code: str, plan: str, price_tiyin: int, *, now: dt.datetime
) -> Offer:
    """Return what a code takes off ``price_tiyin`` of a plan for an owner: whole so'm, never more than the price.

    Raises ``Invalid`` (field and code ``coupon``), in the same words whatever the reason. Nothing is reserved by it.
    """
    coupon = await session.scalar(select(models.Coupon).where(models.Coupon.code == clean_code(code), _open(now)))
    if coupon is None or coupon.user_id not in (None, user.id) or (coupon.plans and plan not in coupon.plans):
        raise _unusable()
    if await _uses_of(session, coupon.id, user.id) >= coupon.per_owner:
        raise _unusable()
    return Offer(coupon.id, discount_tiyin(coupon, price_tiyin))


def discount_tiyin(coupon: models.Coupon, price_tiyin: int) -> int:
    """Return what a coupon takes off a price: whole so'm, never more than the price."""
    off = price_tiyin * coupon.percent // 100 if coupon.percent is not None else (coupon.amount_tiyin or 0)
    return max(0, min(off, price_tiyin)) // TIYIN * TIYIN


def _open(now: dt.datetime) -> ColumnElement[bool]:
    """The condition on a coupon that anybody may use it at ``now``."""
    coupon = models.Coupon
    return and_(
        coupon.disabled_at.is_(None),
        or_(coupon.valid_from.is_(None), coupon.valid_from <= now),
        or_(coupon.valid_until.is_(None), coupon.valid_until > now),
        or_(coupon.max_uses.is_(None), coupon.uses < coupon.max_uses),
    )


def is_open(coupon: models.Coupon, now: dt.datetime) -> bool:
    """Tell whether anybody may use a coupon at ``now``."""
    return (
        coupon.disabled_at is None
        and (coupon.valid_from is None or coupon.valid_from <= now)
        and (coupon.valid_until is None or coupon.valid_until > now)
        and (coupon.max_uses is None or coupon.uses < coupon.max_uses)
    )


async def own(
    session: AsyncSession, user_id: str, *, now: dt.datetime, code: str | None = None
) -> models.Coupon | None:
    """Return the coupon that was made for an owner by an offer and can be used by them at ``now``, the longest valid first.

    One that is reserved for a payment which waits cannot. ``code``: only that one.
    """
    coupon, use = models.Coupon, models.CouponUse
    mine = use.coupon_id == coupon.id, use.user_id == user_id, use.status.in_(_HELD)
    held = select(func.count()).select_from(use).where(*mine).correlate(coupon).scalar_subquery()
    query = select(coupon).where(
        coupon.user_id == user_id,
        coupon.created_by.is_(None),
        coupon.percent.is_not(None),
        coupon.valid_until.is_not(None),
        held < coupon.per_owner,
        _open(now),
    )
    if code is not None:
        query = query.where(coupon.code == code)
    return await session.scalar(query.order_by(coupon.valid_until.desc()).limit(1))


async def _uses_of(session: AsyncSession, coupon_id: str, user_id: str) -> int:
    use = models.CouponUse
    mine = use.coupon_id == coupon_id, use.user_id == user_id, use.status.in_(_HELD)
    return int(await session.scalar(select(func.count()).select_from(use).where(*mine)) or 0)


async def reserve(
    session: AsyncSession,
    user_id: str,
    coupon_id: str,
    *,
    now: dt.datetime,
    payment_id: str | None = None,
    request_id: str | None = None,
) -> None:
    """Take one use of a coupon for a payment, or spend one at once for a request that is granted.

    Raises ``Invalid`` as :func:`price_off` does where none is left, for all or for this owner, or where it was disabled. Its
    validity was looked at when the price was reckoned. The owner is locked: a caller that writes rows of the owner's before
    locks first (``subscriptions.lock``), or two of them wait for each other on PostgreSQL.
    """
    await subscriptions.lock(session, user_id)
    coupon = models.Coupon
    taken = await session.execute(
        update(coupon)
        .where(
            coupon.id == coupon_id,
            coupon.disabled_at.is_(None),
            or_(coupon.user_id.is_(None), coupon.user_id == user_id),
            or_(coupon.max_uses.is_(None), coupon.uses < coupon.max_uses),
        )
        .values(uses=coupon.uses + 1)
        .returning(coupon.per_owner)
    )
    per_owner = taken.scalar()
    if per_owner is None or await _uses_of(session, coupon_id, user_id) >= per_owner:
        raise _unusable()
    session.add(
        models.CouponUse(
            coupon_id=coupon_id,
            user_id=user_id,
            payment_id=payment_id,
            request_id=request_id,
            status="reserved" if payment_id is not None else "spent",
            created_at=now,
        )
    )
    await session.flush()


async def spend(session: AsyncSession, payment_id: str) -> None:
    """A payment was paid: its coupon's use stays used. Again, or without a coupon, nothing happens."""
    use = models.CouponUse
    mine = use.payment_id == payment_id, use.status == "reserved"
    await session.execute(update(use).where(*mine).values(status="spent"))


async def release(session: AsyncSession, payment_id: str) -> None:
    """A payment will not be paid, or was given back: its coupon's use is free again. A second time nothing happens."""
    use = models.CouponUse
    coupon_id = await session.scalar(
        update(use)
        .where(use.payment_id == payment_id, use.status.in_(_HELD))
        .values(status="released")
        .returning(use.coupon_id)
    )
    if coupon_id is not None:
        coupon = models.Coupon
        await session.execute(update(coupon).where(coupon.id == coupon_id).values(uses=coupon.uses - 1))


# Making and keeping ---------------------------------------------------------------------------------------------------


def suggested_code(terms: Terms, now: dt.datetime) -> str:
    """Return a code that says what it is worth and of which year it is, like ``SAVE10_UZ_2026``."""
    worth = terms.percent if terms.percent is not None else (terms.amount_tiyin or 0) // TIYIN
    return f"SAVE{worth}_UZ_{today(now).year}"


def check(settings: Settings, terms: Terms, now: dt.datetime) -> None:
    """Raise ``Invalid`` with the field of ``terms`` that makes no sense."""
    if (terms.percent is None) == (terms.amount_tiyin is None):
        raise Invalid(T("Enter either percent or so‘m."), field="percent")
    if terms.percent is not None and not 1 <= terms.percent <= 100:
        raise Invalid(T("A discount is 1 to 100 percent."), field="percent")
    if terms.amount_tiyin is not None and not TIYIN <= terms.amount_tiyin <= 10**12:
        raise Invalid(T("Enter the discount in so‘m, for example 50 000."), field="amount")
    for plan in terms.plans:
        plans.plan_of(settings, plan)
    if terms.valid_until is not None and terms.valid_until <= max(now, terms.valid_from or now):
        raise Invalid(T("The last day must not be before the first one or in the past."), field="valid_until")
    if terms.max_uses is not None and not 1 <= terms.max_uses <= 1_000_000:
        raise Invalid(T("Enter a number from 1 to 1 000 000, or leave the field empty."), field="max_uses")
    if not 1 <= terms.per_owner <= 1000:
        raise Invalid(T("Enter a number from 1 to 1 000."), field="per_owner")


async def create(
    session: AsyncSession,
    settings: Settings,
    terms: Terms,
    *,
    now: dt.datetime,
    code: str = "",
    count: int = 1,
    created_by: str | None = None,
) -> list[models.Coupon]:
    """Make ``count`` coupons with the same terms and return them.

    One has exactly ``code``; several, or one without a code, begin with it (or with :func:`suggested_code`) and end in a
    random part. Raises ``Invalid`` with the field that is wrong, ``Conflict`` (field ``code``) where the code exists.
    """
    check(settings, terms, now)
    if not 1 <= count <= MANY:
        raise Invalid(T("Enter a number from 1 to {n}.", n=MANY), field="count")
    named = bool(code.strip()) and count == 1
    start = clean_code(code) if code.strip() else suggested_code(terms, now)
    if not start or (not named and len(start) > _PREFIX_CHARS):
        raise Invalid(
            T("A code is 3 to {n} letters A–Z, digits, _ and -.", n=40 if named else _PREFIX_CHARS), field="code"
        )
    made: list[models.Coupon] = []
    while len(made) < count:
        codes = {start} if named else {f"{start}_{_random_part()}" for _ in range(count - len(made))}
        new = await _insert(session, codes, terms, now, created_by)
        if named and not new:
            raise Conflict(T("There is a coupon with this code already."), field="code")
        made += new
    return made


def _random_part() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))


async def _insert(
    session: AsyncSession, codes: Collection[str], terms: Terms, now: dt.datetime, created_by: str | None
) -> list[models.Coupon]:
    """Make coupons of those codes that are not taken yet."""
    facts = {
        "percent": terms.percent,
        "amount_tiyin": terms.amount_tiyin,
        "plans": sorted(terms.plans),
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "max_uses": terms.max_uses,
        "per_owner": terms.per_owner,
        "uses": 0,
        "user_id": terms.user_id,
        "note": one_line(terms.note, 200),
        "created_by": created_by,
        "created_at": now,
    }
    rows = [{"id": new_id(), "code": code, **facts} for code in sorted(codes)]
    made: list[models.Coupon] = []
    for start in range(0, len(rows), 100):
        made += await session.scalars(
            insert_for(session.get_bind().dialect.name, models.Coupon)
            .values(rows[start : start + 100])
            .on_conflict_do_nothing(index_elements=["code"])
            .returning(models.Coupon)
        )
    return made


async def get(session: AsyncSession, coupon_id: str) -> models.Coupon:
    """Return a coupon; raises ``NotFound``. For administrators."""
    coupon = await session.get(models.Coupon, coupon_id)
    if coupon is None:
        raise NotFound
    return coupon


async def disable(session: AsyncSession, coupon_id: str, *, now: dt.datetime) -> models.Coupon:
    """End a coupon: it cannot be used any more; what reserved it keeps it. Raises ``NotFound``."""
    coupon = await get(session, coupon_id)
    if coupon.disabled_at is None:
        coupon.disabled_at = now
        await session.flush()
    return coupon


@dataclass(frozen=True, slots=True)
class Page:
    """Coupons, the newest first, and what ``before`` is for the next ones; None where these are the last."""

    coupons: Sequence[models.Coupon]
    following: str | None


async def listed(
    session: AsyncSession,
    *,
    now: dt.datetime,
    search: str = "",
    state: State = "",
    offered: bool = True,
    before: str | None = None,
    limit: int = PAGE,
) -> Page:
    """Return coupons whose code or note holds ``search``; ``state``: those that can be used at ``now``, the others, or all.

    ``offered``: also those that offers made for one owner each, of which there are many more than of others.
    Raises ``Invalid`` for a malformed ``before``.
    """
    coupon = models.Coupon
    query = select(coupon.id).order_by(coupon.id.desc()).limit(limit + 1)
    if search.strip():
        text = search.strip()
        noted = _in_note(text, sqlite=session.get_bind().dialect.name == "sqlite")
        query = query.where(or_(coupon.code.contains(text.upper(), autoescape=True), noted))
    if state:
        query = query.where(_open(now) if state == "open" else ~_open(now))
    if not offered:
        query = query.where(
            await few(session, coupon.id, coupon.user_id.is_(None), coupon.user_id.concat("").is_(None))
        )
    if before:
        if not is_cursor(before):
            raise malformed("before")
        query = query.where(coupon.id < before)
    # The ids first: an index holds all that is compared.
    ids = select(query.subquery().c.id)
    rows = list(await session.scalars(select(coupon).where(coupon.id.in_(ids)).order_by(coupon.id.desc())))
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def _in_note(text: str, *, sqlite: bool) -> ColumnElement[bool]:
    note = models.Coupon.note
    if not sqlite:
        return note.icontains(text, autoescape=True)
    # SQLite's own comparison knows letters of ASCII in both cases; ours is a call into Python for each row.
    spelled = {text, text.lower(), text.upper(), text.capitalize(), text.title()} if not text.isascii() else {text}
    return or_(*(note.contains(each, autoescape=True) for each in sorted(spelled)))


async def uses_of(session: AsyncSession, coupon_id: str) -> Sequence[tuple[models.CouponUse, models.User]]:
    """Return the last hundred uses of a coupon and whose they were."""
    use = models.CouponUse
    rows = await session.execute(
        select(use, models.User)
        .join(models.User, models.User.id == use.user_id)
        .where(use.coupon_id == coupon_id)
        .order_by(use.id.desc())
        .limit(100)
    )
    return [(row[0], row[1]) for row in rows]
