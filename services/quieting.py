"""After a restore nothing is sent again: what waited when the backup was made may have gone out since, and nobody knows.

Works on the restored copy before it takes its place. Each thing ends in the state that means "not known whether it arrived", or
in one that says why, where a person sees it: who wants it sent presses the button again. What customers had written and nobody
had answered stays for people.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import backups, broadcasts, forum, notices, resets
from services.conversations import joining
from services.conversations.records import RESTORED, RETURNED

WHY = "restored from a backup: it may have been sent before"
_AS_IT_IS: dict[str, Any] = {"synchronize_session": False}
_SENDING_JOBS = (backups.BACKUP_JOB, forum.CORRECT_JOB, joining.CLOSE_TOPIC_JOB, resets.RESET_JOB)
"""Jobs that write to somebody, and one whose file nobody waits for."""


async def quiet(session: AsyncSession, now: dt.datetime) -> Mapping[str, int]:
    """Close everything that would go out by itself, end sessions and free lanes; return how many of what, in words."""
    done = {
        "messages that waited to be sent": await _outbox(session),
        "messages of customers without an answer": await _inbox(session, now),
        "broadcasts stopped": await _broadcasts(session, now),
        "announcements stopped": await _announcements(session, now),
        "letters that waited": await _letters(session),
        "notices that waited": await _notices(session, now),
        "calls of owners’ servers that waited": await _count(
            session, models.EndpointEvent, models.EndpointEvent.status == "waiting", status="failed", answer=WHY
        ),
        "answers of support that waited": await _support(session, now),
        "jobs ended": await _jobs(session, now),
        "people signed out": await _sessions(session, now),
    }
    await _groups(session, now)
    await _lanes(session)
    return {what: number for what, number in done.items() if number}


async def _count(session: AsyncSession, model: type[models.Base], condition: ColumnElement[bool], **values: Any) -> int:
    result: Any = await session.execute(update(model).where(condition).values(**values), execution_options=_AS_IT_IS)
    return int(result.rowcount)


async def _outbox(session: AsyncSession) -> int:
    item, message = models.OutboxItem, models.Message
    await _count(session, message, message.status == "queued", status="unknown", error=WHY)
    delivery = models.BroadcastDelivery
    await _count(session, delivery, delivery.status == "queued", status="unknown", reason="interrupted")
    return await _count(session, item, item.status.in_(("queued", "sending")), status="unknown", error=WHY)


async def _inbox(session: AsyncSession, now: dt.datetime) -> int:
    """What customers wrote is stored when the program runs, marked so that it gets no answer."""
    item, talk, message = models.InboxItem, models.Conversation, models.Message
    waits, factory = item.status == "new", select(models.Channel.id).where(models.Channel.kind == "factory")
    ours = or_(item.channel_id.in_(factory), item.external_id.startswith(f"{RETURNED}:"))
    await _count(session, item, waits & ours, status="done", error=WHY)
    # A person's time to answer begins anew; when it is over, the bot does not answer what was open at the backup.
    await _count(session, talk, talk.status == "human", person_at=now)
    open_ones = select(talk.id).where(talk.status == "human", talk.unanswered_since.is_not(None))
    left = message.conversation_id.in_(open_ones), message.author == "customer", message.status == "received"
    await _count(session, message, left[0] & left[1] & left[2], status="skipped")
    return await _count(session, item, waits, request_id=RESTORED, attempts=0, failures=0, error=None)


async def _broadcasts(session: AsyncSession, now: dt.datetime) -> int:
    row = models.Broadcast
    begun = or_(row.status.in_(("sending", "paused")), (row.status == "scheduled") & (row.run_at <= now))
    ids = list(await session.scalars(select(row.id).where(begun)))
    await _solved(session, [broadcasts.paused_key(id_) for id_ in ids], now)
    return await _count(
        session, row, begun, status="stopped", reason="restored", finished_at=now, version=row.version + 1
    )


async def _solved(session: AsyncSession, keys: Sequence[str], now: dt.datetime) -> None:
    notice = models.Notice
    await _count(session, notice, notice.key.in_(keys) & notice.resolved_at.is_(None), resolved_at=now)


async def _announcements(session: AsyncSession, now: dt.datetime) -> int:
    row = models.Announcement
    begun = or_(row.status == "sending", (row.status == "scheduled") & (row.run_at <= now))
    return await _count(session, row, begun, status="stopped", finished_at=now)


async def _letters(session: AsyncSession) -> int:
    letter = models.Letter
    await _count(session, letter, letter.secret.is_not(None), secret=None)
    by_both = await session.scalar(select(func.count()).where(or_(letter.mail == "new", letter.telegram == "new")))
    await _count(session, letter, letter.mail == "new", mail="unsure", mail_error=WHY)
    await _count(session, letter, letter.telegram == "new", telegram="unsure")
    return by_both or 0


async def _notices(session: AsyncSession, now: dt.datetime) -> int:
    waits = await session.scalar(select(func.count()).where(models.Notice.told_at.is_(None)))
    await notices.pass_over(session, now=now)
    return waits or 0


async def _support(session: AsyncSession, now: dt.datetime) -> int:
    line, talk, user = models.SupportMessage, models.SupportTalk, models.User
    newest = (
        select(line.owner_id, func.max(line.id))
        .join(talk, talk.owner_id == line.owner_id)
        .where(talk.waiting_since.is_not(None), line.by_admin.is_(False))
        .group_by(line.owner_id)
    )
    admins = list(await session.scalars(select(user.id).where(user.role == "admin")))
    for owner_id, upto in (await session.execute(newest)).all():
        for admin_id in admins:
            post = {"admin_id": admin_id, "owner_id": owner_id, "upto": upto}
            known = select(models.SupportPost.id).filter_by(**post)
            if await session.scalar(known) is None:
                session.add(models.SupportPost(**post, created_at=now))
    await session.flush()
    return await _count(session, line, line.telegram == "waiting", telegram="failed")


async def _jobs(session: AsyncSession, now: dt.datetime) -> int:
    job = models.Job
    sends = (job.status == "new") & job.kind.in_(_SENDING_JOBS)
    return await _count(session, job, sends, status="done", error=WHY, finished_at=now)


async def _sessions(session: AsyncSession, now: dt.datetime) -> int:
    signed_in = await session.scalar(select(func.count()).select_from(models.PanelSession)) or 0
    for model in (models.PanelSession, models.LoginLink, models.AccountCode, models.DialogState):
        await session.execute(delete(model), execution_options=_AS_IT_IS)
    view = models.RemoteView
    await _count(session, view, view.ended_at.is_(None) & (view.expires_at > now), ended_at=now)
    return signed_in


async def _groups(session: AsyncSession, now: dt.datetime) -> None:
    """Topics in Telegram groups count as up to date."""
    topic, talk, message = models.ForumTopic, models.Conversation, models.Message
    newest = select(func.max(message.id)).where(message.conversation_id == topic.conversation_id).scalar_subquery()
    state = select(talk.status).where(talk.id == topic.conversation_id).scalar_subquery()
    await _count(
        session, topic, topic.id.is_not(None), seen=func.coalesce(newest, topic.seen), status=state, shown_at=now
    )


async def _lanes(session: AsyncSession) -> None:
    lane, item, job = models.Lane, models.InboxItem, models.Job
    await session.execute(delete(lane).where(lane.kind == "leader"), execution_options=_AS_IT_IS)
    for kind, row in (("inbox", item), ("jobs", job)):
        waits = select(func.count()).where(row.lane == lane.key, row.status == "new").scalar_subquery()
        await _count(session, lane, lane.kind == kind, pending=waits)
    await _count(session, lane, lane.kind.in_(("outbox", "bulk")), pending=0)
    await _count(session, lane, lane.key != "", holder=None, lease_until=0.0)
