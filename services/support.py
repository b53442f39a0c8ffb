"""The talk of an owner with those who run the installation: one an owner, in the panel and in the factory bot.

A line is a row before anybody is told of it. What goes out by Telegram is taken from the rows: an administrator's answer until it
arrived or cannot, in the order in which it was written; an owner's lines to each administrator, the first at once and further
ones together, as a message that can be answered by a reply.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from db import models
from db.base import ID_LENGTH, insert_for, new_id
from services import access, accounts, notices, paging
from services.errors import Invalid, NotFound, TooMany
from services.i18n import T, translate
from services.paging import malformed
from services.pauses import backoff_s
from services.text import clean, one_line

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

LINE_CHARS = 3500
"""With what stands around it a line still fits into one message of Telegram."""
PAGE = 50
ANSWERED = "support_answered"
WANTED = "support_wanted"
_AT_ONCE, _WINDOW = 20, dt.timedelta(minutes=10)
_A_DAY = 200
_DAY = dt.timedelta(days=1)
_TOLD_LINES = 5
_TOLD_CHARS = 600
_BEGINNING = 200
_FIRST_S, _MOST_S = 60.0, 6 * 3600.0
_ATTEMPTS = 20
"""About four days."""
_SLICE = 100
_AS_IT_IS: dict[str, Any] = {"synchronize_session": False}

_talk, _line, _post, _user = models.SupportTalk, models.SupportMessage, models.SupportPost, models.User


@dataclass(frozen=True, slots=True)
class Row:
    """A talk in the administrators' list."""

    talk: models.SupportTalk
    owner: models.User


def wanted_key(owner_id: str) -> str:
    """Return the key of the administrators' notices that an owner waits for support."""
    return f"support:{owner_id}"


def answered_key(owner_id: str) -> str:
    """Return the key of the owner's notice that support has answered."""
    return f"support-answer:{owner_id}"


def clean_text(text: str) -> str:
    """Return a line as it is kept; raises ``Invalid`` for an empty or too long one."""
    text = clean(text.replace("\r\n", "\n")).strip()
    if not text:
        raise Invalid(T("Write something first."), field="text")
    if len(text) > LINE_CHARS:
        raise Invalid(T("This is too long: at most {n} characters.", n=LINE_CHARS), field="text")
    return text


async def ask(
    session: AsyncSession, owner: models.User, text: str, *, source: str | None, now: dt.datetime
) -> models.SupportMessage | None:
    """Add a line of an owner; ``source``: what it came as. Return None where that was added before.

    Raises ``Invalid`` for a text that cannot be taken and ``TooMany`` for a flood. The caller rings by :func:`ring`.
    """
    text = clean_text(text)
    talk = await _open(session, owner.id, now)
    if source is not None and await session.scalar(select(_line.id).where(_line.source == source)) is not None:
        return None
    for most, span in ((_AT_ONCE, _WINDOW), (_A_DAY, _DAY)):
        mine = select(_line.created_at).where(_line.owner_id == owner.id, _line.by_admin.is_(False))
        before = await session.scalar(mine.order_by(_line.id.desc()).offset(most - 1).limit(1))
        if before is not None and before > now - span:
            wait_s = int((before + span - now).total_seconds()) + 1
            raise TooMany(
                T("You have written a lot in a short time, and all of it has arrived. Please wait for an answer."),
                retry_after_s=wait_s,
            )
    line = models.SupportMessage(owner_id=owner.id, author_id=owner.id, text=text, source=source, created_at=now)
    session.add(line)
    talk.waiting_since = talk.waiting_since or now
    talk.owner_seen_at = now
    talk.last_text, talk.last_message_at = one_line(text, _BEGINNING), now
    await session.flush()
    params = {"name": _name(owner), "text": one_line(text, 120)}
    for admin_id in await accounts.administrators(session):
        await notices.open_notice(session, admin_id, WANTED, key=wanted_key(owner.id), params=params)
        # In Telegram it comes as a message of its own, which can be answered.
        await _told_already(session, admin_id, wanted_key(owner.id), now)
    await notices.solve(session, answered_key(owner.id))
    return line


async def answer(
    session: AsyncSession, admin: models.User, owner_id: str, text: str, *, source: str | None, now: dt.datetime
) -> models.SupportMessage | None:
    """Add an administrator's line, which is also sent to the owner in Telegram; None where ``source`` was added before.

    Raises ``NotFound`` for nobody's id and ``Invalid`` for a text that cannot be taken.
    """
    text = clean_text(text)
    owner = await get_owner(session, owner_id)
    talk = await _open(session, owner.id, now)
    if source is not None and await session.scalar(select(_line.id).where(_line.source == source)) is not None:
        return None
    line = models.SupportMessage(
        owner_id=owner.id,
        author_id=admin.id,
        by_admin=True,
        text=text,
        source=source,
        created_at=now,
        run_at=now,
        telegram="waiting" if owner.telegram_id is not None else "none",
    )
    session.add(line)
    talk.waiting_since = None
    talk.last_text, talk.last_message_at = one_line(text, _BEGINNING), now
    await session.flush()
    await notices.solve(session, wanted_key(owner.id))
    await notices.open_notice(
        session, owner.id, ANSWERED, key=answered_key(owner.id), params={"text": one_line(text, 120)}
    )
    await _told_already(session, owner.id, answered_key(owner.id), now)
    await access.record(session, admin, "support_answered", "user", owner.id)
    return line


async def close(session: AsyncSession, admin: models.User, owner_id: str) -> None:
    """Note that an owner's last line needs no answer; raises ``NotFound``."""
    owner = await get_owner(session, owner_id)
    talk = await session.get(_talk, owner.id, with_for_update=True)
    if talk is None or talk.waiting_since is None:
        return
    talk.waiting_since = None
    await notices.solve(session, wanted_key(owner.id))
    await access.record(session, admin, "support_closed", "user", owner.id)


async def _open(session: AsyncSession, owner_id: str, now: dt.datetime) -> models.SupportTalk:
    """Return the talk of an owner, made if there is none, locked against others who write in it."""
    made = insert_for(session.get_bind().dialect.name, _talk).values(
        owner_id=owner_id, last_text="", last_message_at=now
    )
    await session.execute(made.on_conflict_do_nothing(index_elements=["owner_id"]))
    return await session.get_one(_talk, owner_id, with_for_update=True, populate_existing=True)


async def _told_already(session: AsyncSession, user_id: str, key: str, now: dt.datetime) -> None:
    notice = models.Notice
    await session.execute(
        update(notice)
        .where(notice.user_id == user_id, notice.key == key, notice.resolved_at.is_(None))
        .values(told_at=now),
        execution_options=_AS_IT_IS,
    )


async def get_owner(session: AsyncSession, owner_id: str) -> models.User:
    """Return the owner of a talk; raises ``NotFound``, for administrators too: they are the other side."""
    found = await session.get(_user, owner_id) if len(owner_id) == ID_LENGTH else None
    if found is None or found.is_admin:
        raise NotFound
    return found


async def talk_of(session: AsyncSession, owner_id: str) -> models.SupportTalk | None:
    """Return the talk of an owner, None before the first line."""
    return await session.get(_talk, owner_id)


async def lines(
    session: AsyncSession, owner_id: str, *, cursor: str | None = None
) -> paging.Page[models.SupportMessage]:
    """Return the lines of a talk, the newest first."""
    query = select(_line).where(_line.owner_id == owner_id)
    return await paging.newest_first(session, query, _line.id, cursor=cursor, limit=PAGE)


async def seen(session: AsyncSession, owner_id: str, now: dt.datetime) -> bool:
    """Note that the owner has the talk open; return whether there was something new."""
    talk = await session.get(_talk, owner_id)
    if talk is None or (talk.owner_seen_at is not None and talk.owner_seen_at >= talk.last_message_at):
        return False
    talk.owner_seen_at = now
    await notices.solve(session, answered_key(owner_id))
    return True


# The administrators' list: who waits longest comes first, then the others by their last line.


def _is_before(column: Any, at: dt.datetime, owner_id: str) -> Any:
    # The moment first, by itself: an index is entered there and not walked along from the latest.
    return and_(column <= at, or_(column < at, _talk.owner_id < owner_id))


def _is_after(column: Any, at: dt.datetime, owner_id: str) -> Any:
    return or_(column > at, and_(column == at, _talk.owner_id > owner_id))


def _read_cursor(cursor: str) -> tuple[str, dt.datetime, str]:
    part, _, rest = cursor.partition(":")
    owner_id, _, at = rest.partition(":")
    try:
        if part not in ("w", "o") or len(owner_id) != ID_LENGTH:
            raise ValueError(cursor)
        moment = dt.datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError(cursor)
    except ValueError:
        raise malformed() from None
    return part, moment, owner_id


async def list_all(session: AsyncSession, *, only_waiting: bool, cursor: str = "") -> paging.Page[Row]:
    """Return a part of the talks; raises ``Invalid`` for a malformed cursor."""
    part, at, owner_id = _read_cursor(cursor) if cursor else ("w", None, "")
    rows: list[Row] = []
    query = select(_talk, _user).join(_user, _user.id == _talk.owner_id)
    if part == "w":
        waiting = query.where(_talk.waiting_since.is_not(None))
        if at is not None:
            waiting = waiting.where(_is_after(_talk.waiting_since, at, owner_id))
        waiting = waiting.order_by(_talk.waiting_since, _talk.owner_id)
        rows += [Row(talk, owner) for talk, owner in await session.execute(waiting.limit(PAGE + 1))]
    if not only_waiting and len(rows) <= PAGE:
        others = query.where(_talk.waiting_since.is_(None))
        if part == "o" and at is not None:
            others = others.where(_is_before(_talk.last_message_at, at, owner_id))
        others = others.order_by(_talk.last_message_at.desc(), _talk.owner_id.desc())
        rows += [Row(talk, owner) for talk, owner in await session.execute(others.limit(PAGE + 1 - len(rows)))]
    if len(rows) <= PAGE:
        return paging.Page(rows, None)
    last = rows[PAGE - 1].talk
    mark = f"w:{last.owner_id}:{last.waiting_since.isoformat()}" if last.waiting_since else ""
    return paging.Page(rows[:PAGE], mark or f"o:{last.owner_id}:{last.last_message_at.isoformat()}")


async def waiting(session: AsyncSession) -> int:
    """Return how many owners wait for an answer."""
    return await session.scalar(select(func.count()).where(_talk.waiting_since.is_not(None))) or 0


async def names(session: AsyncSession, said: Sequence[models.SupportMessage]) -> dict[str, str]:
    """Return the names of the administrators who wrote, by id."""
    wrote = {line.author_id for line in said if line.by_admin and line.author_id}
    if not wrote:
        return {}
    found = await session.execute(select(_user.id, _user.full_name).where(_user.id.in_(wrote)))
    return {row.id: row.full_name for row in found}


def _name(owner: models.User) -> str:
    return one_line(owner.full_name, 60) or owner.email or owner.phone or "—"


# Accounts that become one


async def join(session: AsyncSession, former_id: str, keep_id: str) -> None:
    """What was said with the one account is said with the other."""
    former = await session.get(_talk, former_id)
    if former is None:
        return
    keep = await _open(session, keep_id, former.last_message_at)
    since = [each for each in (former.waiting_since, keep.waiting_since) if each is not None]
    keep.waiting_since = min(since, default=None)
    if not keep.last_text or former.last_message_at > keep.last_message_at:
        keep.last_text, keep.last_message_at = former.last_text, former.last_message_at
    await session.flush()
    await session.execute(
        update(_line).where(_line.owner_id == former_id).values(owner_id=keep_id), execution_options=_AS_IT_IS
    )
    await session.execute(
        update(_line).where(_line.author_id == former_id).values(author_id=keep_id), execution_options=_AS_IT_IS
    )
    await session.execute(
        update(_post).where(_post.owner_id == former_id).values(owner_id=keep_id), execution_options=_AS_IT_IS
    )
    await session.execute(delete(_talk).where(_talk.owner_id == former_id), execution_options=_AS_IT_IS)
    session.expunge(former)


# Telegram


def ring(core: Core, owner_id: str) -> None:
    """Tell whoever has the talk open, and what sends, that something was said in it."""
    core.bell.ring(f"support:{owner_id}", {})
    core.bell.ring("support", {"owner": owner_id})
    core.bell.ring("notices")


async def replied_to(session: AsyncSession, admin: models.User, number: int) -> str | None:
    """Return whose talk a message of the factory bot to an administrator was about; None where about none."""
    found: str | None = await session.scalar(
        select(_post.owner_id).where(_post.admin_id == admin.id, _post.number == number).limit(1)
    )
    return found


async def deliver(core: Core) -> int:
    """Send what is due in Telegram: answers to owners, owners' lines to administrators. Returns how many messages went out."""
    if core.factory is None:
        return 0
    return await _send_answers(core) + await _tell_administrators(core)


async def _send_answers(core: Core) -> int:
    now, sent = core.now(), 0
    earlier = aliased(_line)
    held = select(earlier.id).where(
        earlier.owner_id == _line.owner_id, earlier.telegram == "waiting", earlier.id < _line.id, earlier.run_at > now
    )
    due = (
        select(_line.id)
        .where(_line.telegram == "waiting", _line.run_at <= now, ~held.exists())
        .order_by(_line.id)
        .limit(_SLICE)
    )
    async with core.db.read() as session:
        ids = list(await session.scalars(due))
    put_off: set[str] = set()
    for line_id in ids:
        async with core.db.write() as session:
            line = await session.get(_line, line_id, with_for_update=True)
            if line is None or line.telegram != "waiting" or line.run_at > now or line.owner_id in put_off:
                continue
            owner = await session.get(_user, line.owner_id)
            if owner is None or owner.telegram_id is None or owner.banned_at is not None:
                line.telegram = "none"
                continue
            # Who raised the number sends; what is cut off before its mark is sent again after a while.
            line.attempts += 1
            line.run_at = now + dt.timedelta(seconds=backoff_s(line.attempts, first=_FIRST_S, most=_MOST_S))
        outcome = await _send_answer(core, owner, line.text)
        await core.pause("support_sent")
        gone = outcome == "later" and line.attempts >= _ATTEMPTS
        if outcome == "later":
            put_off.add(line.owner_id)
        async with core.db.write() as session:
            await session.execute(
                update(_line)
                .where(_line.id == line_id, _line.attempts == line.attempts)
                .values(telegram="failed" if gone else {"sent": "sent", "later": "waiting"}.get(outcome, "failed")),
                execution_options=_AS_IT_IS,
            )
        sent += outcome == "sent"
        if outcome != "later":
            core.bell.ring("support", {"owner": line.owner_id})
    return sent


async def _send_answer(core: Core, owner: models.User, text: str) -> str:
    if core.factory is None or owner.telegram_id is None:
        return "later"
    title = translate(owner.language, "Support answers:")
    outcome, _number = await core.factory.tell(owner.telegram_id, f"💬 {title}\n\n{text}", support=True)
    return outcome


async def _tell_administrators(core: Core) -> int:
    """Tell each administrator with Telegram what owners who wait have said since the last time, a message a talk."""
    now, sent = core.now(), 0
    async with core.db.read() as session:
        newest = (
            select(_line.owner_id, func.max(_line.id))
            .join(_talk, _talk.owner_id == _line.owner_id)
            .where(_talk.waiting_since.is_not(None), _line.by_admin.is_(False), _line.created_at >= _talk.waiting_since)
            .group_by(_line.owner_id)
        )
        said = {row[0]: row[1] for row in await session.execute(newest)}
        if not said:
            return 0
        admins = (
            await session.scalars(
                select(_user).where(_user.role == "admin", _user.telegram_id.is_not(None), _user.banned_at.is_(None))
            )
        ).all()
        told = {
            (admin_id, owner_id): (upto, at)
            for admin_id, owner_id, upto, at in await session.execute(
                select(_post.admin_id, _post.owner_id, func.max(_post.upto), func.max(_post.created_at))
                .where(_post.owner_id.in_(said))
                .group_by(_post.admin_id, _post.owner_id)
            )
        }
    for admin in admins:
        for owner_id, upto in said.items():
            before, at = told.get((admin.id, owner_id), ("", None))
            if before >= upto or (at is not None and at > now - dt.timedelta(seconds=notices.GROUP_S)):
                continue
            sent += await _tell(core, admin, owner_id, before, upto, now)
    return sent


async def _tell(core: Core, admin: models.User, owner_id: str, before: str, upto: str, now: dt.datetime) -> bool:
    """Tell one administrator the lines of an owner after ``before``; return whether the message left."""
    async with core.db.write() as session:
        owner = await session.get(_user, owner_id)
        talk = await session.get(_talk, owner_id)
        if owner is None or talk is None or talk.waiting_since is None:
            return False
        new = _line.owner_id == owner_id, _line.by_admin.is_(False), _line.id > before, _line.id <= upto
        fresh = *new, _line.created_at >= talk.waiting_since
        count = await session.scalar(select(func.count()).where(*fresh)) or 0
        found = await session.scalars(select(_line.text).where(*fresh).order_by(_line.id.desc()).limit(_TOLD_LINES))
        texts = list(found)[::-1]
        values = {"id": new_id(), "admin_id": admin.id, "owner_id": owner_id, "upto": upto, "created_at": now}
        made = insert_for(session.get_bind().dialect.name, _post).values(**values)
        unique = ["admin_id", "owner_id", "upto"]
        # Marked first: being told twice is worse than the rare line that only the panel shows.
        post_id = await session.scalar(made.on_conflict_do_nothing(index_elements=unique).returning(_post.id))
    if post_id is None or core.factory is None or admin.telegram_id is None:
        return False
    language = admin.language
    more = translate(language, "Earlier lines: {n}. You find them in the panel.", n=count - len(texts))
    parts = [
        "💬 " + translate(language, "{name} writes to support:", name=_name(owner)),
        *([more] if count > len(texts) else []),
        *(text if len(text) <= _TOLD_CHARS else text[:_TOLD_CHARS] + "…" for text in texts),
        "↩️ " + translate(language, "Reply to this message, and the owner gets your answer."),
    ]
    public = core.settings.public_url
    button = (translate(language, "Open in the panel"), f"{public}/admin/support/{owner_id}")
    outcome, number = await core.factory.tell(
        admin.telegram_id, "\n\n".join(parts), button=None if notices.opens_only_here(public) else button
    )
    async with core.db.write() as session:
        mine = _post.id == post_id
        if outcome == "later":
            await session.execute(delete(_post).where(mine), execution_options=_AS_IT_IS)
        elif number is not None:
            await session.execute(update(_post).where(mine).values(number=number), execution_options=_AS_IT_IS)
    return outcome == "sent"
