"""Deleting an account: asked for, taken back within fourteen days, and then carried out to the last row.

From the asking on its bots rest and its API tokens open nothing; whoever signs in is offered to keep it. Payments and
what partners earned and were paid stay for the books without a name, the audit log without what people wrote.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.engine import DatabaseUnavailable
from services import access, accounts, bots, jobs, letters, support
from services.bell import session_topic
from services.conversations.records import LostLane
from services.errors import Conflict
from services.i18n import T
from services.statistics import counting

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

DELETE_JOB = "delete_accounts"
WITHIN = dt.timedelta(days=14)
_RESTS = "rests_until_kept"
"""In a bot's settings: it answered when the account was to be deleted, and answers again when that is taken back."""
_SLICE = 500
_AS_IT_IS: dict[str, Any] = {"synchronize_session": False}


async def ask(session: AsyncSession, user: models.User, *, now: dt.datetime) -> Sequence[str]:
    """Have an account deleted in fourteen days: its bots stop, all its sessions end; return the ids of these.

    Raises ``Conflict`` for the last administrator. Asked for a second time it changes nothing.
    """
    row = await session.get_one(models.User, user.id, with_for_update=True, populate_existing=True)
    await _not_the_last(session, row)
    if row.delete_at is not None:
        return []
    row.delete_at = now + WITHIN
    for bot in await _own_bots(session, row.id):
        if bot.status == "active":
            await bots.stop(session, bot)
            bot.settings = {**(bot.settings or {}), _RESTS: True}
    ended = [one.id for one in await accounts.sessions(session, row)]
    await accounts.close_all(session, row)
    await access.record(session, row, "deletion_asked", "user", row.id)
    params = {"day": {"day": row.delete_at.isoformat()}, "path": "/settings/delete"}
    await letters.write(
        session, row.id, "deletion", key=f"deletion:{row.delete_at.isoformat()}", now=now, params=params
    )
    return ended


async def keep(session: AsyncSession, user: models.User) -> bool:
    """Take a deletion back: the bots that answered before answer again. Return False where none was asked for."""
    row = await session.get_one(models.User, user.id, with_for_update=True, populate_existing=True)
    if row.delete_at is None:
        return False
    row.delete_at = None
    for bot in await _own_bots(session, row.id):
        if (bot.settings or {}).get(_RESTS):
            bot.settings = {name: value for name, value in bot.settings.items() if name != _RESTS}
            await bots.start(session, bot)
    await access.record(session, row, "deletion_taken_back", "user", row.id)
    return True


async def _own_bots(session: AsyncSession, user_id: str) -> Sequence[models.Bot]:
    bot = models.Bot
    return (await session.scalars(select(bot).where(bot.owner_id == user_id, bot.deleted_at.is_(None)))).all()


async def _not_the_last(session: AsyncSession, user: models.User) -> None:
    """Raise ``Conflict`` for the only administrator: nobody could let anybody in any more."""
    if not user.is_admin:
        return
    one = models.User
    # Two administrators at once: the second one sees what the first has done.
    await session.execute(select(one.id).where(one.role == "admin").order_by(one.id).with_for_update())
    others = await session.scalar(
        select(func.count()).where(
            one.role == "admin", one.id != user.id, one.banned_at.is_(None), one.delete_at.is_(None)
        )
    )
    if not others:
        text = T("You are the only administrator. Make somebody else one first, then you can delete this account.")
        raise Conflict(text, code="last_admin")


async def delete_due(core: Core, _payload: Mapping[str, Any]) -> None:
    """Delete the accounts whose time has come. Runs as a job, every hour, safe to repeat at any point."""
    user = models.User
    async with core.db.read() as session:
        due = list(await session.scalars(select(user.id).where(user.delete_at <= core.now()).order_by(user.id)))
    for user_id in due:
        try:
            async with core.db.write() as session:
                await jobs.still_ours(session)
            await delete_account(core, user_id)
        except (DatabaseUnavailable, LostLane):
            raise
        except Exception:
            # The others do not wait for it; in an hour it is tried again.
            log.exception("account_not_deleted", user=user_id)


async def delete_account(core: Core, user_id: str) -> None:
    """Remove everything of an account whose time has come; one that was kept at the last moment stays."""
    async with core.db.write() as session:
        user = await session.get(models.User, user_id, with_for_update=True)
        if user is None or user.delete_at is None or user.delete_at > core.now():
            return
        try:
            await _not_the_last(session, user)
        except Conflict:
            log.warning("last_administrator_stays", user=user_id)
            user.delete_at = None
            return
        ended = [one.id for one in await accounts.sessions(session, user)]
        await accounts.close_all(session, user)
        for bot in await _own_bots(session, user_id):
            # Frees the accounts on the networks, and jobs tell these not to deliver here any more.
            await bots.delete(session, bot)
        await core.pause("leaving_begun")
    for topic in ("channels", "jobs", *map(session_topic, ended)):
        core.bell.ring(topic)
    async with core.db.read() as session:
        own = list(await session.scalars(select(models.Bot.id).where(models.Bot.owner_id == user_id)))
    for bot_id in own:
        await bots.purge_bot(core, {"bot": bot_id})
        await core.pause("leaving_bot_gone")
    await _forget_in_slices(core, user_id)
    async with core.db.write() as session:
        user = await session.get(models.User, user_id, with_for_update=True)
        if user is None or user.delete_at is None:
            return
        await _forget(session, user)
        await session.execute(delete(models.User).where(models.User.id == user_id), execution_options=_AS_IT_IS)
        session.expunge(user)
        await access.record(session, None, "account_deleted", "user", user_id)
        await core.pause("leaving_forgotten")
    core.cards.clear()
    core.bell.ring("channels")
    log.info("account_deleted", user=user_id)


async def _forget_in_slices(core: Core, user_id: str) -> None:
    """Of the model calls only what they cost stays, and nobody is assigned who is not there."""
    usage, talk = models.AIUsage, models.Conversation
    for key, condition, values in (
        (usage.id, usage.owner_id == user_id, {"owner_id": "", "bot_id": None}),
        (talk.id, talk.assignee_id == user_id, {"assignee_id": None}),
    ):
        await _update_in_slices(core, key, condition, values)
    async with core.db.write() as session:
        await counting.hand_over_costs(session, user_id, "")


async def _update_in_slices(core: Core, key: Any, condition: ColumnElement[bool], values: Mapping[str, Any]) -> None:
    while True:
        async with core.db.write() as session:
            found = list(await session.scalars(select(key).where(condition).limit(_SLICE)))
            if not found:
                return
            await session.execute(
                update(key.class_).where(key.in_(found)).values(**values), execution_options=_AS_IT_IS
            )


async def _forget(session: AsyncSession, user: models.User) -> None:
    """What names the person without being tied to the account: dialogs, touches, and what the audit log quotes."""
    audit, dialog = models.AuditLog, models.DialogState
    if user.telegram_id is not None:
        person = str(user.telegram_id)
        await session.execute(
            delete(dialog).where(dialog.key.like(f"%:{person}:{person}")), execution_options=_AS_IT_IS
        )
        touch = models.ReferralTouch
        await session.execute(delete(touch).where(touch.visitor == f"tg:{person}"), execution_options=_AS_IT_IS)
    await session.execute(
        update(audit).where(or_(audit.actor_id == user.id, audit.object_id == user.id)).values(details={}),
        execution_options=_AS_IT_IS,
    )
    # What others were told quotes the name: administrators of requests, owners of who joined their teams.
    request, member = models.AccessRequest, models.Member
    quoted = [f"request:{one}" for one in await session.scalars(select(request.id).where(request.user_id == user.id))]
    quoted += [f"member:{one}" for one in await session.scalars(select(member.id).where(member.user_id == user.id))]
    quoted.append(support.wanted_key(user.id))
    for told in (models.Notice, models.Letter):
        await session.execute(delete(told).where(told.key.in_(quoted)), execution_options=_AS_IT_IS)
    # The lines of a partner's account stay for the books; notes hold the number of a card or a name.
    line = models.ReferralEntry
    await session.execute(
        update(line).where(line.partner_id == user.id).values(partner_id=None, note=""), execution_options=_AS_IT_IS
    )
    # What was written to gateways and people about a payment may hold a name.
    payment = models.Payment
    mine, event = select(payment.id).where(payment.user_id == user.id), models.PaymentEvent
    by_people = event.payment_id.in_(mine), event.gateway == ""
    await session.execute(update(event).where(*by_people).values(request={}), execution_options=_AS_IT_IS)
    await session.execute(
        update(audit).where(audit.object_kind == "payment", audit.object_id.in_(mine)).values(details={}),
        execution_options=_AS_IT_IS,
    )
    await session.execute(
        update(payment).where(payment.user_id == user.id).values(user_id=None, note="", refund_reason=""),
        execution_options=_AS_IT_IS,
    )
