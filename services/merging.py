"""Two accounts of one person become one: the one that Telegram's first contact made gives way to the one with an e-mail.

Nothing of either is lost: bots, team, payments, plans, balances and letters of the one that gives way are the other's
afterwards, in one transaction. Only rows that name the account that gives way are touched, so nobody else's are.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from db import models
from db.base import new_id
from services import access, accounts, letters, notices, subscriptions, support, team
from services.crypto import digest
from services.errors import Conflict
from services.i18n import T
from services.settings import Settings
from services.statistics import counting

_AS_IT_IS: dict[str, Any] = {"synchronize_session": False}
_PLAIN: tuple[InstrumentedAttribute[Any], ...] = (
    models.Bot.owner_id,
    models.ForumGroup.owner_id,
    models.Invitation.owner_id,
    models.ApiToken.user_id,
    models.Endpoint.owner_id,
    models.Payment.user_id,
    models.Coupon.user_id,
    models.CouponUse.user_id,
    models.ReferralTouch.partner_id,
    models.ReferralEntry.partner_id,
    models.Note.author_id,
    models.Broadcast.author_id,
    models.AIUsage.owner_id,
    models.AuditLog.actor_id,
    models.RemoteView.owner_id,
)
"""Columns that name an account and in which both may stand as often as they like."""


async def join(
    session: AsyncSession, settings: Settings, keep_id: str, former_id: str, *, now: dt.datetime
) -> list[str]:
    """Make two accounts one, that of ``keep_id``; the other is gone afterwards. Return the ids of the sessions that ended.

    Whoever calls has proof that both are one person's, and rings ``channels``, ``letters`` and the topics of these sessions.
    Raises ``Conflict`` where they cannot be joined.
    """
    for user_id in sorted((keep_id, former_id)):
        await session.get_one(models.User, user_id, with_for_update=True, populate_existing=True)
    keep, former = await session.get_one(models.User, keep_id), await session.get_one(models.User, former_id)
    may_join(keep, former)
    ended = [row.id for row in await accounts.sessions(session, former)]
    await subscriptions.take_over(session, settings, former.id, keep.id, now=now)
    # The talks of its own bots are found by their owner, so this comes before the bots move.
    await _written_by(session, former.id, keep.id)
    await team.hand_over(session, former.id, keep)
    await _team(session, former.id, keep.id)
    for column in _PLAIN:
        await session.execute(
            update(column.class_).where(column == former.id).values({column: keep.id}), execution_options=_AS_IT_IS
        )
    await _with_their_own_kind(session, former.id, keep.id)
    await counting.hand_over_costs(session, former.id, keep.id)
    await _referrals(session, former.id, keep.id)
    await _labels(session, former.id, keep.id)
    await _ready_answers(session, former.id, keep.id)
    await support.join(session, former.id, keep.id)
    await _person(session, former, keep)
    await session.execute(delete(models.User).where(models.User.id == former.id), execution_options=_AS_IT_IS)
    session.expunge(former)
    await session.refresh(keep)
    await access.record(session, keep, "accounts_joined", "user", keep.id, former=former_id)
    key = f"joined:{former_id}"
    await letters.write(session, keep.id, "joined", key=key, now=now)
    return ended


def may_join(keep: models.User, former: models.User) -> None:
    """Raise ``Conflict`` where two accounts cannot become one, in words for who is signed in to one of them."""
    if keep.telegram_id is not None and former.telegram_id is not None:
        raise Conflict(T("That account is already connected to another Telegram account."), code="joined")
    if former.email is not None:
        raise Conflict(
            T("This Telegram account already belongs to another account with an e-mail of its own."), code="joined"
        )
    if former.is_admin:
        raise Conflict(T("An administrator’s account cannot be joined to another one."), code="joined")
    if keep.banned_at is not None or former.banned_at is not None:
        raise Conflict(T("One of the two accounts is blocked."), code="joined")
    if keep.delete_at is not None or former.delete_at is not None:
        raise Conflict(T("One of the two accounts is about to be deleted. Take that back first."), code="joined")


async def link_telegram(
    session: AsyncSession, settings: Settings, token: str, telegram_id: int, *, now: dt.datetime
) -> tuple[models.User, list[str]]:
    """Join a Telegram account to the account that a one-time token names (``/start in_TOKEN`` in the factory bot).

    Returns that account, and the sessions that ended as :func:`join` does. Raises ``Conflict`` where the two cannot be joined,
    and ``Invalid`` (code ``link``) for a token that is used or too old. One that has joined the two already changes nothing.
    """
    joined = await session.scalar(
        select(models.User)
        .join(models.LoginLink, models.LoginLink.user_id == models.User.id)
        .where(
            models.LoginLink.token_hash == digest(token),
            models.LoginLink.used_at.is_not(None),
            models.User.telegram_id == telegram_id,
        )
    )
    if joined is not None:
        return joined, []
    user = await accounts.use_login_link(session, token)
    other = await accounts.by_telegram(session, telegram_id)
    if other is None:
        if user.telegram_id is not None:
            raise Conflict(T("Your account is already connected to another Telegram account."), code="joined")
        user.telegram_id = telegram_id
        await session.flush()
        await letters.write(session, user.id, "joined", key=f"joined:{telegram_id}", now=now)
        return user, []
    if other.id == user.id:
        return user, []
    ended = await join(session, settings, user.id, other.id, now=now)
    return await session.get_one(models.User, user.id), ended


async def cut_telegram(session: AsyncSession, user: models.User, *, now: dt.datetime) -> None:
    """Disconnect the Telegram account of a person; whoever writes from it later begins anew.

    Raises ``Conflict`` where it is the only way to sign in.
    """
    row = await session.get_one(models.User, user.id, with_for_update=True, populate_existing=True)
    if row.telegram_id is None:
        return
    if not accounts.has_password_way(row):
        text = T(
            "Telegram is your only way to sign in. Add an e-mail and set a password first, then you can disconnect it."
        )
        raise Conflict(text, code="last_way")
    person = str(row.telegram_id)
    dialog = models.DialogState
    await session.execute(delete(dialog).where(dialog.key.like(f"%:{person}:{person}")), execution_options=_AS_IT_IS)
    row.telegram_id = None
    await session.execute(
        update(models.LoginLink)
        .where(models.LoginLink.user_id == row.id, models.LoginLink.used_at.is_(None))
        .values(used_at=now)
    )
    await access.record(session, row, "telegram_disconnected", "user", row.id)
    await letters.write(session, row.id, "telegram_disconnected", key=f"telegram_disconnected:{new_id()}", now=now)


async def bots_of(session: AsyncSession, user_id: str) -> int:
    """Return how many bots an account would bring along."""
    bot = models.Bot
    return await session.scalar(select(func.count()).where(bot.owner_id == user_id, bot.deleted_at.is_(None))) or 0


async def _written_by(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """What the person wrote and took over in the talks of their own bots stays theirs."""
    talk, message = models.Conversation, models.Message
    talks = select(talk.id).join(models.Bot, models.Bot.id == talk.bot_id).where(models.Bot.owner_id == former_id)
    await session.execute(
        update(talk).where(talk.id.in_(talks), talk.assignee_id == former_id).values(assignee_id=keep_id),
        execution_options=_AS_IT_IS,
    )
    await session.execute(
        update(message)
        .where(message.conversation_id.in_(talks), message.author_id == former_id)
        .values(author_id=keep_id),
        execution_options=_AS_IT_IS,
    )


async def _team(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Whoever worked for the one works for the other; nobody twice, and nobody for themselves."""
    member, known = models.Member, aliased(models.Member)
    there = select(known.user_id).where(known.owner_id == keep_id)
    await session.execute(
        update(member)
        .where(member.owner_id == former_id, member.user_id.not_in(there), member.user_id != keep_id)
        .values(owner_id=keep_id),
        execution_options=_AS_IT_IS,
    )


async def _with_their_own_kind(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Rows of which an account may have one of a kind: what both have stays as the one that remains has it."""
    letter, notice, quota = models.Letter, models.Notice, models.MessageQuota
    written, open_ = aliased(letter), aliased(notice)
    has = select(written.key).where(written.user_id == keep_id)
    hears = select(open_.key).where(open_.user_id == keep_id, open_.resolved_at.is_(None))
    for own in (
        update(letter).where(letter.user_id == former_id, letter.key.not_in(has)),
        update(notice).where(notice.user_id == former_id, notice.key.not_in(hears)),
    ):
        await session.execute(own.values(user_id=keep_id), execution_options=_AS_IT_IS)
    for row in (await session.scalars(select(quota).where(quota.user_id == former_id))).all():
        present = await session.get(quota, (keep_id, row.month))
        if present is None:
            session.add(quota(user_id=keep_id, month=row.month, used=row.used, settled=row.settled, told=row.told))
        else:
            present.used += row.used
            present.settled += row.settled
    request = models.AccessRequest
    pending = await session.scalar(select(request.id).where(request.user_id == keep_id, request.status == "pending"))
    if pending is not None:
        withdrawn = await session.scalars(
            update(request)
            .where(request.user_id == former_id, request.status == "pending")
            .values(status="withdrawn", decided_at=func.coalesce(request.decided_at, request.created_at))
            .returning(request.id),
            execution_options=_AS_IT_IS,
        )
        for request_id in withdrawn.all():
            await notices.solve(session, f"request:{request_id}")
    await session.execute(
        update(request).where(request.user_id == former_id).values(user_id=keep_id), execution_options=_AS_IT_IS
    )
    await session.flush()


async def _referrals(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Who was brought by the one counts for the other; nobody has brought themselves."""
    referral, clicks = models.Referral, models.ReferralClicks
    own = {former_id, keep_id}
    known = aliased(referral)
    # Nor has whom they brought themselves brought them.
    not_by = referral.partner_id.in_(own) | referral.partner_id.in_(
        select(known.user_id).where(known.partner_id.in_(own))
    )
    await session.execute(delete(referral).where(not_by, referral.user_id.in_(own)), execution_options=_AS_IT_IS)
    await session.execute(
        update(referral).where(referral.partner_id == former_id).values(partner_id=keep_id), execution_options=_AS_IT_IS
    )
    if await session.scalar(select(referral.id).where(referral.user_id == keep_id)) is None:
        await session.execute(
            update(referral).where(referral.user_id == former_id).values(user_id=keep_id), execution_options=_AS_IT_IS
        )
    for row in (await session.scalars(select(clicks).where(clicks.partner_id == former_id))).all():
        present = await session.get(clicks, (keep_id, row.day))
        if present is None:
            session.add(clicks(partner_id=keep_id, day=row.day, clicks=row.clicks))
        else:
            present.clicks += row.clicks
    await session.flush()


async def _labels(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Labels of the same name become one; no conversation has it twice."""
    label, on = models.Label, models.ConversationLabel
    mine = {row.name: row.id for row in await session.scalars(select(label).where(label.owner_id == keep_id))}
    for row in (await session.scalars(select(label).where(label.owner_id == former_id))).all():
        if row.name not in mine:
            row.owner_id = keep_id
            continue
        other = aliased(on)
        has = select(other.conversation_id).where(other.label_id == mine[row.name])
        await session.execute(
            update(on).where(on.label_id == row.id, on.conversation_id.not_in(has)).values(label_id=mine[row.name]),
            execution_options=_AS_IT_IS,
        )
    await session.flush()


async def _ready_answers(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """Ready answers all stay; where both have one by the same word, the one that comes gets a number after it."""
    reply = models.CannedReply
    known = set(await session.scalars(select(reply.shortcut).where(reply.owner_id == keep_id)))
    for row in (await session.scalars(select(reply).where(reply.owner_id == former_id))).all():
        shortcut, number = row.shortcut, 2
        while shortcut in known:
            shortcut, number = f"{row.shortcut[:28]}{number}", number + 1
        known.add(shortcut)
        row.shortcut, row.owner_id = shortcut, keep_id
    await session.flush()


async def _person(session: AsyncSession, former: models.User, keep: models.User) -> None:
    """The person: each way to sign in that only one of the two had, the second factor, and when the free days began."""
    unique = {name: getattr(former, name) for name in ("telegram_id", "phone", "referral_code")}
    await session.execute(
        update(models.User).where(models.User.id == former.id).values(telegram_id=None, phone=None, referral_code=None),
        execution_options=_AS_IT_IS,
    )
    changes: dict[str, Any] = {
        "telegram_id": keep.telegram_id or unique["telegram_id"],
        "referral_code": keep.referral_code or unique["referral_code"],
        "password_hash": keep.password_hash or former.password_hash,
        "full_name": keep.full_name or former.full_name,
        "trial_at": min(keep.trial_at or keep.created_at, former.trial_at or former.created_at),
        "unsubscribed_at": keep.unsubscribed_at or former.unsubscribed_at,
    }
    if unique["phone"] and (not keep.phone or (former.phone_confirmed_at and not keep.phone_confirmed_at)):
        changes |= {"phone": unique["phone"], "phone_confirmed_at": former.phone_confirmed_at}
    if keep.totp_at is None and former.totp_at is not None:
        changes |= {"totp_secret": former.totp_secret, "totp_at": former.totp_at, "totp_step": former.totp_step}
        code = models.RecoveryCode
        await session.execute(
            update(code).where(code.user_id == former.id).values(user_id=keep.id), execution_options=_AS_IT_IS
        )
    await session.execute(
        update(models.User).where(models.User.id == keep.id).values(**changes), execution_options=_AS_IT_IS
    )
