"""The referral programme: whose link brought whom, what partners earn by it, and what they used it for.

A visitor is ``tg:<telegram id>`` or ``web:<hash of a cookie's value>``. Amounts are integer tiyin. What a partner has is the sum
of the lines of ``ReferralEntry`` that count by now; it may be below zero, where what was earned was used and then taken back.
The lines stay for the books when an account is deleted, and belong to nobody then.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Select,
    SQLColumnExpression,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import models
from db.base import insert_for, new_id
from services import access, letters, subscriptions
from services.crypto import digest
from services.days import today
from services.errors import Conflict, Invalid, NotFound
from services.i18n import T, Text
from services.paging import Page, is_cursor, malformed
from services.plans import TIYIN
from services.settings import Settings
from services.text import one_line

START_WORD = "ref_"
"""What a deep link into the factory bot begins with."""
_CODE = re.compile(r"[0-9a-z]{4,24}")
_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
_CODE_CHARS = 8
PAGE = 50
LISTED = 20
"""So many partners and payouts stand on the administrator's page, each with its form."""
PATH = "/billing/referrals"
UNDO_WITHIN = dt.timedelta(days=30)
"""For so long a payout that was noted by mistake can be taken back; after that it belongs to the books."""
_NOTE_CHARS = 300
_DIGITS = 16
_IDS: BindParameter[Any] = bindparam("p_ids", expanding=True)
_EARNED, _SPENT, _PAYOUTS = ("commission", "reversal"), ("spent", "returned"), ("payout", "payout_undone")
KINDS: Mapping[str, Text] = {
    "commission": T("Commission"),
    "reversal": T("Commission taken back"),
    "spent": T("Used for a payment"),
    "returned": T("Came back from a payment"),
    "payout": T("Paid out"),
    "payout_undone": T("Payout taken back"),
}
"""What the lines of a partner's account are called."""
# What fetches a page to show a preview of it, and machines that follow links: no people.
_MACHINE = re.compile(
    r"bot\b|bot/|crawl|spider|preview|facebookexternalhit|whatsapp|slurp|curl/|wget/|python|okhttp|go-http", re.I
)


@dataclass(frozen=True, slots=True)
class Links:
    """A partner's addresses; ``telegram`` is empty where there is no factory bot."""

    code: str
    web: str
    telegram: str


# Links and visits -----------------------------------------------------------------------------------------------------


async def code_of(session: AsyncSession, user: models.User) -> str:
    """Return an owner's code, made at the first wish for it."""
    while user.referral_code is None:
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_CHARS))
        if await session.scalar(select(models.User.id).where(models.User.referral_code == code)) is not None:
            continue
        mine = models.User.id == user.id
        await session.execute(
            update(models.User).where(mine, models.User.referral_code.is_(None)).values(referral_code=code)
        )
        user.referral_code = await session.scalar(select(models.User.referral_code).where(mine))
        if user.referral_code is None:
            raise NotFound
    return user.referral_code


def links(settings: Settings, factory_username: str, code: str) -> Links:
    """Return the addresses for a code."""
    telegram = f"https://t.me/{factory_username}?start={START_WORD}{code}" if factory_username else ""
    return Links(code, f"{settings.public_url}/register?ref={code}", telegram)


def web_visitor(value: str) -> str:
    """Return the visitor that a cookie's value stands for."""
    return f"web:{digest(value)}"


def telegram_visitor(telegram_id: int) -> str:
    """Return the visitor that a person in Telegram is."""
    return f"tg:{telegram_id}"


def is_machine(user_agent: str) -> bool:
    """Tell whether what asks for a page makes previews of links or follows them by itself."""
    return not user_agent or _MACHINE.search(user_agent) is not None


async def touched(
    session: AsyncSession, code: str, visitor: str, *, now: dt.datetime, known: Collection[str] = ()
) -> bool:
    """Note that somebody without an account opened a partner's link; return whether there is such a partner.

    The last link opened counts. A link that is opened again on the same day of Tashkent's time is no second click. Whoever has
    an account already is nobody to bring: the caller asks about people of the web, this about those of Telegram. A partner who
    is signed out is known by the browser: see :func:`registered`.
    """
    partner_id = await _partner_of(session, code)
    if partner_id is None or partner_id in known or await _has_account(session, visitor):
        return False
    touch, dialect = models.ReferralTouch, session.get_bind().dialect.name
    before = (await session.execute(select(touch.partner_id, touch.at).where(touch.visitor == visitor))).one_or_none()
    day = _day(now)
    if before is None or before.partner_id != partner_id or _day(before.at) != day:
        clicks = models.ReferralClicks
        await session.execute(
            insert_for(dialect, clicks)
            .values(partner_id=partner_id, day=day, clicks=1)
            .on_conflict_do_update(index_elements=["partner_id", "day"], set_={"clicks": clicks.clicks + 1})
        )
    await session.execute(
        insert_for(dialect, touch)
        .values(visitor=visitor, partner_id=partner_id, at=now)
        .on_conflict_do_update(index_elements=["visitor"], set_={"partner_id": partner_id, "at": now})
    )
    return True


async def _partner_of(session: AsyncSession, code: str) -> str | None:
    code, user = code.strip().lower(), models.User
    if not _CODE.fullmatch(code):
        return None
    mine = user.referral_code == code, user.banned_at.is_(None), user.delete_at.is_(None)
    return await session.scalar(select(user.id).where(*mine))


async def carried_on(
    session: AsyncSession, settings: Settings, visitor: str, *, now: dt.datetime, known: Collection[str] = ()
) -> str:
    """Return the code of the partner whose link a visitor opened last, for the way from here into Telegram; empty for nobody's.

    ``known``: see :func:`registered`.
    """
    touch, user = models.ReferralTouch, models.User
    since = now - dt.timedelta(days=settings.referrals.window_days)
    row = (
        await session.execute(
            select(user.id, user.referral_code)
            .join(touch, touch.partner_id == user.id)
            .where(touch.visitor == visitor, touch.at > since, user.banned_at.is_(None), user.delete_at.is_(None))
        )
    ).one_or_none()
    return row.referral_code or "" if row is not None and row.id not in known else ""


def _day(moment: dt.datetime) -> str:
    return today(moment).isoformat()


async def _has_account(session: AsyncSession, visitor: str) -> bool:
    kind, _, number = visitor.partition(":")
    if kind != "tg":
        return False
    return await session.scalar(select(models.User.id).where(models.User.telegram_id == int(number))) is not None


# Whom a partner brought -----------------------------------------------------------------------------------------------


async def registered(
    session: AsyncSession,
    settings: Settings,
    user: models.User,
    visitor: str | None,
    *,
    now: dt.datetime,
    known: Collection[str] = (),
) -> None:
    """An account was just made: its holder was brought by the partner whose link they opened last, if within the window.

    Nobody brings themselves: the same Telegram account, phone or e-mail is the same person, and so is who signed in to this very
    browser before (``known``: those accounts' ids). An address on the internet says nothing: an office shares one.
    """
    if visitor is None:
        return
    row = models.ReferralTouch
    touch = (
        await session.execute(delete(row).where(row.visitor == visitor).returning(row.partner_id, row.at))
    ).one_or_none()
    if touch is None or touch.at <= now - dt.timedelta(days=settings.referrals.window_days):
        return
    partner = await session.get(models.User, touch.partner_id)
    if partner is None or partner.banned_at is not None or partner.id in known or is_same_person(partner, user):
        return
    await session.execute(
        insert_for(session.get_bind().dialect.name, models.Referral)
        .values(
            id=new_id(),
            partner_id=partner.id,
            user_id=user.id,
            source="telegram" if visitor.startswith("tg:") else "web",
            touched_at=touch.at,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["user_id"])
    )


def is_same_person(one: models.User, other: models.User) -> bool:
    """Tell whether two accounts are one person's, as far as can be seen."""
    return one.id == other.id or any(
        first is not None and first == second
        for first, second in (
            (one.telegram_id, other.telegram_id),
            (one.phone, other.phone),
            (_mailbox(one.email), _mailbox(other.email)),
        )
    )


def _mailbox(email: str | None) -> str | None:
    """Return the mailbox behind an address, in which different spellings arrive.

    What follows a plus changes nothing, Gmail overlooks dots, and Yandex has one mailbox in all its domains, in which a hyphen
    is a dot (https://yandex.com/support/domain/additional/mailbox-alias.xml).
    """
    if email is None:
        return None
    local, _, domain = email.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.replace(".", ""), "gmail.com"
    elif domain == "ya.ru" or domain.startswith("yandex."):
        local, domain = local.replace("-", "."), "yandex"
    return f"{local}@{domain}"


# What partners earn ---------------------------------------------------------------------------------------------------


async def earned(session: AsyncSession, settings: Settings, payment: models.Payment, *, now: dt.datetime) -> None:
    """A payment was paid: whoever brought its owner gets the commission, once, usable after the days of hold."""
    if payment.sandbox or payment.user_id is None:
        return
    found = (
        await session.execute(
            select(models.Referral, models.User)
            .join(models.User, models.User.id == models.Referral.partner_id)
            .where(models.Referral.user_id == payment.user_id)
        )
    ).one_or_none()
    payer = await session.get(models.User, payment.user_id)
    if found is None or payer is None:
        return
    referral, partner = found
    amount = payment.amount_tiyin * settings.referrals.commission_percent // 100 // TIYIN * TIYIN
    # Two that were made apart may have turned out to be one person since.
    if amount <= 0 or partner.banned_at is not None or is_same_person(partner, payer):
        return
    available_at = now + dt.timedelta(days=settings.referrals.hold_days)
    await _enter(session, partner.id, "commission", amount, now, available_at, payment.id, referral.id)


async def taken_back(session: AsyncSession, payment: models.Payment, *, now: dt.datetime) -> None:
    """A payment was refunded: the commission of it goes back, once; the partner may have less than nothing then."""
    entry = await _entry_of(session, payment.id, "commission")
    if entry is not None:
        # Not before the commission itself counts: until then neither does.
        at, amount = max(now, entry.available_at), entry.amount_tiyin
        new = await _enter(session, entry.partner_id, "reversal", -amount, now, at, payment.id, entry.referral_id)
        if new:
            await _tell(session, entry.partner_id, "commission_back", f"reversed:{payment.id}", now, amount)


async def spend(session: AsyncSession, user_id: str, amount_tiyin: int, payment_id: str, *, now: dt.datetime) -> None:
    """Use a partner's balance for a payment of their own; once for each payment.

    Raises ``Invalid`` (field ``balance``) where there is less. The owner is locked: see :func:`services.coupons.reserve`.
    """
    if amount_tiyin <= 0:
        raise ValueError("nothing to spend")
    await subscriptions.lock(session, user_id)
    if await _entry_of(session, payment_id, "spent") is not None:
        return
    if await balance_tiyin(session, user_id, now=now) < amount_tiyin:
        raise Invalid(T("There is less on your referral balance than this. Open the page again."), field="balance")
    await _enter(session, user_id, "spent", -amount_tiyin, now, now, payment_id)


async def give_back(session: AsyncSession, payment_id: str, *, now: dt.datetime) -> None:
    """A payment will not be paid, or was refunded: what was used of a balance for it comes back, once."""
    entry = await _entry_of(session, payment_id, "spent")
    if entry is not None:
        await _enter(session, entry.partner_id, "returned", -entry.amount_tiyin, now, now, payment_id)


async def _entry_of(session: AsyncSession, payment_id: str, kind: str) -> models.ReferralEntry | None:
    entry = models.ReferralEntry
    return await session.scalar(select(entry).where(entry.payment_id == payment_id, entry.kind == kind))


async def _enter(
    session: AsyncSession,
    partner_id: str | None,
    kind: str,
    amount_tiyin: int,
    now: dt.datetime,
    available_at: dt.datetime,
    payment_id: str,
    referral_id: str | None = None,
) -> bool:
    """Add a line about a payment; return False where there is one of this kind already."""
    made = await session.scalar(
        insert_for(session.get_bind().dialect.name, models.ReferralEntry)
        .values(
            id=new_id(),
            partner_id=partner_id,
            referral_id=referral_id,
            payment_id=payment_id,
            kind=kind,
            amount_tiyin=amount_tiyin,
            available_at=available_at,
            note="",
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["kind", "payment_id"])
        .returning(models.ReferralEntry.id)
    )
    return made is not None


async def _tell(
    session: AsyncSession,
    partner_id: str | None,
    kind: str,
    key: str,
    now: dt.datetime,
    amount_tiyin: int,
    **params: str,
) -> None:
    """Write a partner what happened to the balance and what it is now; whoever calls rings ``letters``."""
    partner = await session.get(models.User, partner_id) if partner_id is not None else None
    if partner is None or partner.banned_at is not None:
        return
    left = await balance_tiyin(session, partner.id, now=now)
    told = {"amount": {"tiyin": amount_tiyin}, "balance": {"tiyin": left}, "path": PATH, **params}
    await letters.write(session, partner.id, kind, key=key, now=now, params=told)


async def balance_tiyin(session: AsyncSession, user_id: str, *, now: dt.datetime) -> int:
    """Return what a partner can use now; below zero where more was taken back than is there."""
    entry = models.ReferralEntry
    counts = entry.partner_id == user_id, entry.available_at <= now
    return int(await session.scalar(select(func.coalesce(func.sum(entry.amount_tiyin), 0)).where(*counts)) or 0)


async def pay_out(
    session: AsyncSession,
    settings: Settings,
    admin: models.User,
    partner_id: str,
    amount_tiyin: int,
    note: str,
    *,
    due_tiyin: int,
    now: dt.datetime,
) -> models.ReferralEntry:
    """Note that a partner was paid; ``due_tiyin``: what was due when the administrator looked.

    Raises ``Invalid`` (field ``amount``) below the least that is paid out and above what is due, and ``Conflict`` where what is
    due has changed since: the same form sent twice pays once.
    """
    await subscriptions.lock(session, partner_id)
    due = await balance_tiyin(session, partner_id, now=now)
    if due != due_tiyin:
        raise Conflict(T("What is due has changed. Look at the page again."), code="changed")
    least = settings.referrals.payout_min_uzs * TIYIN
    if amount_tiyin > due or amount_tiyin < max(least, TIYIN) or amount_tiyin % TIYIN:
        raise Invalid(T("Enter whole so‘m, no less than the least payout and no more than is due."), field="amount")
    row = models.ReferralEntry(
        partner_id=partner_id,
        kind="payout",
        amount_tiyin=-amount_tiyin,
        available_at=now,
        note=one_line(note, _NOTE_CHARS),
        created_by=admin.id,
        created_at=now,
    )
    session.add(row)
    await session.flush()
    await access.record(session, admin, "referral_payout", "user", partner_id, amount_uzs=str(amount_tiyin // TIYIN))
    await _tell(session, partner_id, "payout_made", f"payout:{row.id}", now, amount_tiyin, note=row.note)
    return row


async def undo_payout(
    session: AsyncSession, admin: models.User, entry_id: str, reason: str, *, now: dt.datetime
) -> models.ReferralEntry:
    """Take a payout back that was noted by mistake: the balance is what it would be without it. Both lines stay.

    Raises ``Invalid`` (field ``reason``) without a reason, which the partner receives; ``NotFound`` for what is no payout, or
    whose account is deleted; ``Conflict`` the second time, and after :data:`UNDO_WITHIN`.
    """
    entry = models.ReferralEntry
    partner_id = await session.scalar(select(entry.partner_id).where(entry.id == entry_id, entry.kind == "payout"))
    if partner_id is None:
        raise NotFound
    said = one_line(reason, _NOTE_CHARS)
    if not said:
        raise Invalid(T("Write the reason: the partner receives it."), field="reason")
    await subscriptions.lock(session, partner_id)
    paid = await session.get_one(entry, entry_id)
    if await session.scalar(select(entry.id).where(entry.payout_id == entry_id)) is not None:
        raise Conflict(T("This payout has been taken back already."), code="undone")
    if not can_undo(paid, now):
        text = T("A payout can be taken back within {n} days. Settle it with the partner.", n=UNDO_WITHIN.days)
        raise Conflict(text, code="too_late")
    row = entry(
        partner_id=partner_id,
        payout_id=paid.id,
        kind="payout_undone",
        amount_tiyin=-paid.amount_tiyin,
        available_at=now,
        note=said,
        created_by=admin.id,
        created_at=now,
    )
    session.add(row)
    await session.flush()
    amount = str(row.amount_tiyin // TIYIN)
    await access.record(session, admin, "referral_payout_undone", "user", partner_id, amount_uzs=amount, reason=said)
    await _tell(session, partner_id, "payout_undone", f"payout_undone:{paid.id}", now, row.amount_tiyin, note=said)
    return row


def can_undo(payout: models.ReferralEntry, now: dt.datetime) -> bool:
    """Tell whether a payout is young enough to be taken back, and its account still there."""
    return payout.partner_id is not None and payout.created_at > now - UNDO_WITHIN


# What partners and administrators see ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """What a partner's page shows: how many, and in tiyin how much.

    ``due``: can be used now. ``held``: commissions that do not count yet. ``earned``: commissions less those taken back.
    """

    clicks: int = 0
    registered: int = 0
    paying: int = 0
    due: int = 0
    held: int = 0
    earned: int = 0
    spent: int = 0
    paid: int = 0


async def account(session: AsyncSession, user_id: str, *, now: dt.datetime) -> Account:
    """Return how a partner stands."""
    return (await accounts_of(session, [user_id], now=now)).get(user_id, Account())


async def accounts_of(session: AsyncSession, ids: Collection[str], *, now: dt.datetime) -> Mapping[str, Account]:
    """Return how several partners stand, by their ids; who has nothing yet is not among them."""
    rows = await session.execute(_lines_of(), {"p_ids": list(ids), "p_now": now})
    return await _accounts(session, ids, [_Sum(row[0], row[1], int(row[2]), int(row[3])) for row in rows])


@cache
def _lines_of() -> Select[str | None, str, int, int]:
    entry = models.ReferralEntry
    return _lines(bindparam("p_now", type_=entry.available_at.type)).where(entry.partner_id.in_(_IDS))


@dataclass(frozen=True, slots=True)
class _Sum:
    """What a partner's lines of a kind come to in tiyin, and what of it does not count yet."""

    partner_id: str | None
    kind: str
    amount: int
    held: int


def _lines(now: dt.datetime | BindParameter[dt.datetime]) -> Select[str | None, str, int, int]:
    """Return the query for sums of lines as :class:`_Sum` has them; it reads nothing but an index."""
    entry = models.ReferralEntry
    later = func.sum(case((entry.available_at > now, entry.amount_tiyin), else_=0))
    sums = cast(func.sum(entry.amount_tiyin), BigInteger).label("amount"), cast(later, BigInteger).label("held")
    return select(entry.partner_id, entry.kind, *sums).group_by(entry.partner_id, entry.kind)


async def _accounts(session: AsyncSession, ids: Collection[str], lines: Iterable[_Sum]) -> Mapping[str, Account]:
    """Return how partners stand whose sums are known."""
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        if line.partner_id is None:
            continue
        one = found.setdefault(line.partner_id, dict.fromkeys(("due", "held", "earned", "spent", "paid"), 0))
        one["due"] += line.amount - line.held
        one["held"] += line.held
        if line.kind in _EARNED:
            one["earned"] += line.amount
        elif line.kind in _SPENT:
            one["spent"] -= line.amount
        elif line.kind in _PAYOUTS:
            one["paid"] -= line.amount
    for partner_id, name, number in await session.execute(_counts(), {"p_ids": list(ids)}):
        found.setdefault(partner_id, {})[name] = int(number)
    return {user_id: Account(**numbers) for user_id, numbers in found.items()}


@cache
def _counts() -> CompoundSelect[str, str, int]:
    """Return the query for what of partners is counted, as the fields of :class:`Account` are called."""
    entry, referral, clicks = models.ReferralEntry, models.Referral, models.ReferralClicks
    reversal = aliased(entry)
    stands = ~exists().where(reversal.payment_id == entry.payment_id, reversal.kind == "reversal")
    # Whom a deleted account brought is nobody any more, and need not be looked up.
    earned = entry.kind == "commission", entry.referral_id.is_not(None), stands

    def of(name: str, partner: SQLColumnExpression[Any], number: ColumnElement[int]) -> Select[str, str, int]:
        return select(partner, literal(name), cast(number, BigInteger)).where(partner.in_(_IDS)).group_by(partner)

    return union_all(
        of("paying", entry.partner_id, func.count(func.distinct(entry.referral_id))).where(*earned),
        of("registered", referral.partner_id, func.count()),
        of("clicks", clicks.partner_id, func.sum(clicks.clicks)),
    )


async def entries(
    session: AsyncSession, user_id: str, *, before: str | None = None, limit: int = PAGE
) -> Sequence[models.ReferralEntry]:
    """Return the lines of a partner's account, the last first, from before the line ``before``."""
    entry = models.ReferralEntry
    query = select(entry).where(entry.partner_id == user_id).order_by(entry.id.desc()).limit(limit)
    return (await session.scalars(query.where(entry.id < before) if before else query)).all()


@dataclass(frozen=True, slots=True)
class Books:
    """Sums of all partners' lines in tiyin, those of deleted accounts too.

    ``earned``: commissions less those taken back. ``owed``: what partners who are there can use now. ``held``: what they can use
    later. ``lapsed``: what deleted accounts never used.
    """

    earned: int
    spent: int
    paid: int
    owed: int
    held: int
    lapsed: int


async def programme(
    session: AsyncSession, *, now: dt.datetime, cursor: str = "", limit: int = LISTED
) -> tuple[Page[tuple[models.User, Account]], Books]:
    """Return partners who earned anything and how they stand, to whom most is due first, and the sums of the whole programme.

    Both come from one walk along all lines. Raises ``Invalid`` for a malformed cursor.
    """
    lines = _lines(now).cte("lines")
    due = cast(func.sum(lines.c.amount - lines.c.held), BigInteger)
    query = select(lines.c.partner_id, due.label("due")).where(lines.c.partner_id.is_not(None))
    query = query.group_by(lines.c.partner_id)
    if cursor:
        amount, _, last = cursor.partition("~")
        digits = amount.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS or not is_cursor(last):
            raise malformed()
        query = query.having(or_(due < int(amount), and_(due == int(amount), lines.c.partner_id > last)))
    shown = query.order_by(due.desc(), lines.c.partner_id).limit(limit + 1).cte("shown")
    there = case((lines.c.partner_id.is_(None), 0), else_=1)
    all_lines = [cast(func.sum(part), BigInteger) for part in (lines.c.amount, lines.c.held)]
    together = union_all(
        select(lines.c.partner_id, lines.c.kind, lines.c.amount, lines.c.held, shown.c.due).join(
            shown, shown.c.partner_id == lines.c.partner_id
        ),
        select(null(), lines.c.kind, *all_lines, there).group_by(lines.c.kind, there),
    )
    sums: list[_Sum] = []
    order: dict[str, int] = {}
    amounts: dict[tuple[str, bool], tuple[int, int]] = {}
    for partner_id, kind, amount, held, rank in await session.execute(together):
        if partner_id is None:
            amounts[kind, bool(rank)] = int(amount), int(held)
        else:
            sums.append(_Sum(partner_id, kind, int(amount), int(held)))
            order[partner_id] = int(rank)
    found = sorted(order, key=lambda each: (-order[each], each))
    ids = found[:limit]
    user = models.User
    people = {person.id: person for person in await session.scalars(select(user).where(user.id.in_(ids)))}
    stand = await _accounts(session, ids, sums)
    following = f"{order[ids[-1]]}~{ids[-1]}" if len(found) > limit else None
    return Page([(people[each], stand[each]) for each in ids], following), _books(amounts)


def _books(amounts: Mapping[tuple[str, bool], tuple[int, int]]) -> Books:
    """Return the sums of lines by kind and whether their account is there, with what of them does not count yet."""

    def of(*kinds: str) -> int:
        return sum(amount for (kind, _), (amount, _held) in amounts.items() if kind in kinds)

    held = sum(held for (_, there), (_amount, held) in amounts.items() if there)
    lapsed = sum(amount for (_, there), (amount, _held) in amounts.items() if not there)
    return Books(of(*_EARNED), -of(*_SPENT), -of(*_PAYOUTS), of(*KINDS) - held - lapsed, held, lapsed)


async def books(session: AsyncSession, *, now: dt.datetime) -> Books:
    """Return the sums of the whole programme: ``earned`` is what was spent and paid and what is owed, held or lapsed."""
    return (await programme(session, now=now, limit=1))[1]


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout for administrators; ``partner`` is None where the account is deleted, ``undone`` the line that took it back."""

    entry: models.ReferralEntry
    partner: models.User | None
    undone: models.ReferralEntry | None


async def payouts(session: AsyncSession, *, before: str | None = None) -> Page[Payout]:
    """Return :data:`LISTED` payouts, the last first, from before the line ``before``; raises ``Invalid`` for a malformed one."""
    if before and not is_cursor(before):
        raise malformed("before")
    entry, undone = models.ReferralEntry, aliased(models.ReferralEntry)
    query = (
        select(entry, models.User, undone)
        .outerjoin(models.User, models.User.id == entry.partner_id)
        .outerjoin(undone, undone.payout_id == entry.id)
        .where(entry.kind == "payout")
        .order_by(entry.id.desc())
        .limit(LISTED + 1)
    )
    rows = (await session.execute(query.where(entry.id < before) if before else query)).all()
    found = [Payout(row[0], row[1], row[2]) for row in rows[:LISTED]]
    return Page(found, found[-1].entry.id if len(rows) > LISTED else None)
