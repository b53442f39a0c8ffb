"""Who works for an owner, and what each of them may do with the owner's bots.

People are invited by a link that works once, for a week; only its hash is kept. Every right is a condition of the query that
loads an object (:func:`may`), so what ends here ends everywhere with the next query; open event streams are ended by whoever
calls :func:`remove` and the like, who is told what to ring.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, delete, func, literal, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import utcnow
from services import access, notices
from services.bell import session_topic
from services.crypto import digest, new_token
from services.errors import Conflict, Forbidden, Invalid, NotFound
from services.i18n import T, Text
from services.text import one_line

if TYPE_CHECKING:
    from services.allowances import Allowances

Right = Literal["talk", "manage", "own"]
"""``talk``: read and answer conversations; ``manage``: also what a bot knows, says and is connected to; ``own``: also what
costs, deletes or gives rights to others."""

ROLES = ("manager", "operator")
ROLE_NAMES: Mapping[str, Text] = {"owner": T("Owner"), "manager": T("Manager"), "operator": T("Operator")}
ROLE_TASKS: Mapping[str, Text] = {
    "manager": T("Answers customers and looks after the bots: documents, settings, channels and statistics."),
    "operator": T("Reads and answers conversations with customers, and sees nothing else."),
}
INVITATION_LIFE = dt.timedelta(days=7)
_WITH: Mapping[Right, tuple[str, ...]] = {"talk": ("manager", "operator"), "manage": ("manager",), "own": ()}
_NAMES_SHOWN = 5
_GONE = T("This invitation has been used or withdrawn, or has expired. Ask for a new one.")


WORKS = models.Member.paused_at.is_(None)
"""The condition on a member that the owner's plan has room for them: see :func:`seat`."""


def may(user: models.User, right: Right) -> ColumnElement[bool]:
    """Return the condition on a bot that this person has a right over it: as its owner, or working for the owner."""
    return may_by_id(user.id, right)


def may_by_id(user_id: str | ColumnElement[str], right: Right) -> ColumnElement[bool]:
    """Return the same of a person whose identifier is known, or is to be given when the query is asked."""
    own = models.Bot.owner_id == user_id
    roles = _WITH[right]
    if not roles:
        return own
    served = select(models.Member.owner_id).where(
        models.Member.user_id == user_id, models.Member.role.in_(roles), WORKS
    )
    # In one set: with "or" PostgreSQL looks at everybody's bots.
    return models.Bot.owner_id.in_(union_all(select(_itself(user_id)), served))


def _itself(user_id: str | ColumnElement[str]) -> ColumnElement[str]:
    return literal(user_id, models.Bot.owner_id.type) if isinstance(user_id, str) else user_id


async def explain(session: AsyncSession, user: models.User, found: Select[str]) -> None:
    """Raise ``Forbidden`` (code ``paused``) where a person has no right over something only because their work is paused.

    ``found``: the owner of what was asked for. To everybody else nothing is said.
    """
    member = models.Member
    owner = await session.scalar(
        select(models.User)
        .join(member, member.owner_id == models.User.id)
        .where(member.user_id == user.id, ~WORKS, models.User.id.in_(found))
    )
    if owner is not None:
        raise Forbidden(pause_text(owner), code="paused")


def pause_text(owner: models.User) -> Text:
    """Return what somebody is told whose work for an owner is paused."""
    return T(
        "Your work for {owner} is paused: their plan has no room for you in the team at the moment. It goes on by itself with a "
        "larger plan, or when somebody else leaves.",
        owner=shown_name(owner),
    )


async def paused_for(session: AsyncSession, user: models.User) -> list[models.User]:
    """Return the owners for whom a person's work is paused."""
    return [owner for member, owner in await memberships(session, user) if member.paused_at is not None]


async def role_of(session: AsyncSession, owner_id: str, user_id: str) -> str | None:
    """Return ``owner``, ``manager``, ``operator``, or None for a stranger and for whoever is paused."""
    if owner_id == user_id:
        return "owner"
    return await session.scalar(
        select(models.Member.role).where(models.Member.owner_id == owner_id, models.Member.user_id == user_id, WORKS)
    )


async def roles(session: AsyncSession, user: models.User) -> dict[str, str]:
    """Return what a person is to each owner, themselves among them, by the owner's id."""
    rows = await session.execute(_roles(), {"p_user": user.id})
    return {user.id: "owner"} | {row[0]: row[1] for row in rows}


@cache
def _roles() -> Select[str, str]:
    # Every page asks this: putting the query together costs more than the answer.
    member = models.Member
    return select(member.owner_id, member.role).where(member.user_id == bindparam("p_user"), WORKS)


async def only_answers(session: AsyncSession, user: models.User) -> bool:
    """Tell whether a person answers for others and looks after no bot: there is nothing to set up for them."""
    bot, member = models.Bot, models.Member
    works = await session.scalar(select(member.id).where(member.user_id == user.id).limit(1))
    if works is None:
        return False
    looks_after = select(bot.id).where(may(user, "manage"), bot.deleted_at.is_(None)).limit(1)
    return await session.scalar(looks_after) is None


def shown_name(person: models.User) -> str:
    """Return what a person is called before others."""
    return person.full_name or person.email or person.phone or "—"


# Who is in the team


@dataclass(frozen=True, slots=True)
class Colleague:
    """A member as the owner sees them; ``seen_at``: when they last used the panel, None where no browser is signed in."""

    member: models.Member
    user: models.User
    seen_at: dt.datetime | None


async def members(session: AsyncSession, owner: models.User) -> list[Colleague]:
    """Return who works for an owner, the longest there first."""
    seen = (
        select(func.max(models.PanelSession.last_seen_at))
        .where(models.PanelSession.user_id == models.User.id)
        .correlate(models.User)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(models.Member, models.User, seen)
        .join(models.User, models.User.id == models.Member.user_id)
        .where(models.Member.owner_id == owner.id)
        .order_by(models.Member.id)
    )
    return [Colleague(member, user, seen_at) for member, user, seen_at in rows]


async def memberships(session: AsyncSession, user: models.User) -> list[tuple[models.Member, models.User]]:
    """Return for whom a person works, with the owners."""
    rows = await session.execute(
        select(models.Member, models.User)
        .join(models.User, models.User.id == models.Member.owner_id)
        .where(models.Member.user_id == user.id)
        .order_by(models.Member.id)
    )
    return [(member, owner) for member, owner in rows]


async def invitations(session: AsyncSession, owner: models.User) -> list[models.Invitation]:
    """Return an owner's invitations that can still be accepted, the latest first."""
    return list(
        await session.scalars(
            select(models.Invitation)
            .where(models.Invitation.owner_id == owner.id, _open())
            .order_by(models.Invitation.created_at.desc(), models.Invitation.token_hash)
        )
    )


def _open(at: dt.datetime | BindParameter[dt.datetime] | None = None) -> ColumnElement[bool]:
    return models.Invitation.used_at.is_(None) & (models.Invitation.expires_at > (utcnow() if at is None else at))


PEOPLE = select(
    select(func.count()).where(models.Member.owner_id == bindparam("p_owner")).scalar_subquery()
    + select(func.count())
    .where(models.Invitation.owner_id == bindparam("p_owner"), _open(bindparam("p_now")))
    .scalar_subquery()
)
"""How many members and invitations that are open at ``p_now`` an owner ``p_owner`` has."""


async def _queue_up(session: AsyncSession, owner_id: str) -> None:
    """Let changes to one team come one after the other on PostgreSQL; SQLite has one writer anyway."""
    await session.get(models.User, owner_id, with_for_update={"key_share": True})


# Inviting


def _role(role: str) -> str:
    if role not in ROLES:
        raise Invalid(T("Choose what this person may do."), field="role")
    return role


async def invite(
    session: AsyncSession, owner: models.User, role: str, name: str, *, most: int, plan: Allowances | None = None
) -> str:
    """Return the token of a link by which one person joins the team within a week; it cannot be read again.

    ``name``: for whom it is, as the owner calls them. ``most``: how many members and open invitations there may be. ``plan``:
    what the owner's plan allows. Raises ``Invalid`` with the field, or ``Conflict`` with code ``limit`` or ``plan``.
    """
    role, name = _role(role), one_line(name, 101)
    if not any(character.isalnum() for character in name):
        raise Invalid(T("Say who the invitation is for."), field="name")
    if len(name) > 100:
        raise Invalid(T("The name is too long: 100 characters at most."), field="name")
    await _queue_up(session, owner.id)
    if plan is not None:
        await plan.room_for_person(session, owner)
    working = await session.scalar(select(func.count()).where(models.Member.owner_id == owner.id))
    if int(working or 0) + len(await invitations(session, owner)) >= most:
        text = T("A team has at most {n} people, open invitations included. Withdraw one or remove somebody.", n=most)
        raise Conflict(text, code="limit")
    token, now = new_token(), utcnow()
    session.add(
        models.Invitation(
            token_hash=digest(token),
            owner_id=owner.id,
            role=role,
            name=name,
            created_at=now,
            expires_at=now + INVITATION_LIFE,
        )
    )
    await session.flush()
    await access.record(session, owner, "member_invited", "user", owner.id, role=role, name=name)
    return token


async def withdraw(session: AsyncSession, owner: models.User, invitation_id: str) -> None:
    """Make an open invitation worthless at once; raises ``NotFound`` for another's or one that is open no more."""
    gone = await session.scalar(
        delete(models.Invitation)
        .where(models.Invitation.token_hash == invitation_id, models.Invitation.owner_id == owner.id, _open())
        .returning(models.Invitation.name)
    )
    if gone is None:
        raise NotFound
    await access.record(session, owner, "invitation_withdrawn", "user", owner.id, name=gone)


@dataclass(frozen=True, slots=True)
class Invited:
    """What an invitation offers: whose team, as what, and the names of some of the owner's bots."""

    owner: models.User
    role: str
    bots: list[str]


async def look_at(session: AsyncSession, token: str) -> Invited:
    """Return what an invitation offers without using it up.

    Raises ``Invalid`` (code ``invitation``) in the same words for one that is unknown, used, withdrawn or too old.
    """
    row = (
        await session.execute(
            select(models.Invitation, models.User)
            .join(models.User, models.User.id == models.Invitation.owner_id)
            .where(models.Invitation.token_hash == digest(token), _open(), models.User.banned_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise Invalid(_GONE, code="invitation")
    names = await session.scalars(
        select(models.Bot.name)
        .where(models.Bot.owner_id == row[1].id, models.Bot.deleted_at.is_(None))
        .order_by(models.Bot.id)
        .limit(_NAMES_SHOWN)
    )
    return Invited(row[1], row[0].role, list(names))


@dataclass(frozen=True, slots=True)
class Change:
    """What became of somebody's membership. ``topics``: what to ring after the commit, so that open pages learn of it."""

    owner: models.User
    user: models.User
    role: str
    topics: list[str]


async def _changed(session: AsyncSession, owner: models.User, user: models.User, role: str) -> Change:
    ids = await session.scalars(select(models.PanelSession.id).where(models.PanelSession.user_id == user.id))
    return Change(owner, user, role, [session_topic(session_id) for session_id in ids])


async def accept(session: AsyncSession, token: str, user: models.User, *, plan: Allowances | None = None) -> Change:
    """Use an invitation up and make this person a member. ``plan``: what the owner's plan allows.

    Whoever is a manager already stays one, an operator may rise by it; a member who follows the link once more changes nothing.
    Raises ``Invalid`` (code ``invitation``) for one that cannot be used, and ``Conflict`` for the owner's own (code
    ``own_invitation``) or where the team has no room any more (``limit``); either stays open.
    """
    owner_id = await session.scalar(
        select(models.Invitation.owner_id).where(models.Invitation.token_hash == digest(token))
    )
    if owner_id is None:
        raise Invalid(_GONE, code="invitation")
    if owner_id == user.id:
        raise Conflict(T("This is your own invitation: send the link to the person it is for."), code="own_invitation")
    await _queue_up(session, owner_id)
    owner = await session.get_one(models.User, owner_id)
    known = await session.scalar(
        select(models.Member).where(models.Member.owner_id == owner_id, models.Member.user_id == user.id)
    )
    role = await session.scalar(
        update(models.Invitation)
        .where(models.Invitation.token_hash == digest(token), _open())
        .values(used_at=utcnow())
        .returning(models.Invitation.role)
    )
    if role is None and known is not None:
        return await _changed(session, owner, user, known.role)
    if role is None or owner.banned_at is not None:
        raise Invalid(_GONE, code="invitation")
    if known is None:
        room = await plan.seats(session, owner_id) if plan is not None else None
        working = await session.scalar(select(func.count()).where(models.Member.owner_id == owner_id))
        if room is not None and int(working or 0) >= room:
            text = T(
                "The team of {owner} has no room for one more person at the moment. Tell them: with a larger plan, or when "
                "somebody leaves, this link works.",
                owner=shown_name(owner),
            )
            raise Conflict(text, code="limit")
        known = models.Member(owner_id=owner_id, user_id=user.id, role=role)
        session.add(known)
    elif role == "manager":
        known.role = role
    await session.flush()
    await access.record(session, user, "member_joined", "user", owner_id, role=known.role, member=user.id)
    await notices.open_notice(
        session, owner_id, "member_joined", key=f"member:{known.id}", params={"name": shown_name(user)}
    )
    return await _changed(session, owner, user, known.role)


# Changing and ending


async def _member(session: AsyncSession, owner: models.User, member_id: str) -> tuple[models.Member, models.User]:
    await _queue_up(session, owner.id)
    row = (
        await session.execute(
            select(models.Member, models.User)
            .join(models.User, models.User.id == models.Member.user_id)
            .where(models.Member.id == member_id, models.Member.owner_id == owner.id)
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    return row[0], row[1]


async def change_role(session: AsyncSession, owner: models.User, member_id: str, role: str) -> Change:
    """Let a member do more or less from now on; raises ``Invalid``, or ``NotFound`` for a member of another team."""
    member, user = await _member(session, owner, member_id)
    member.role = _role(role)
    await session.flush()
    await access.record(session, owner, "member_role", "user", owner.id, role=role, member=user.id)
    return await _changed(session, owner, user, role)


async def remove(session: AsyncSession, owner: models.User, member_id: str) -> Change:
    """End a membership at once; raises ``NotFound`` for a member of another team."""
    member, user = await _member(session, owner, member_id)
    return await _end(session, owner, user, member, owner)


async def leave(session: AsyncSession, user: models.User, member_id: str) -> Change:
    """End one's own membership; raises ``NotFound`` for another's."""
    owner = await session.scalar(
        select(models.User)
        .join(models.Member, models.Member.owner_id == models.User.id)
        .where(models.Member.id == member_id, models.Member.user_id == user.id)
    )
    if owner is None:
        raise NotFound
    member, _ = await _member(session, owner, member_id)
    return await _end(session, owner, user, member, user)


async def seat(session: AsyncSession, owner_id: str, most: int | None, *, now: dt.datetime) -> list[str]:
    """Let as many members work as the owner's plan has room for, the longest there first, and pause the others.

    A paused member keeps the membership and sees nothing of the owner's until there is room; everybody whom it concerns is
    told. ``most``: None without a limit. Returns the topics to ring after the commit.
    """
    await _queue_up(session, owner_id)
    owner = await session.get_one(models.User, owner_id)
    rows = await session.execute(
        select(models.Member, models.User)
        .join(models.User, models.User.id == models.Member.user_id)
        .where(models.Member.owner_id == owner_id)
        .order_by(models.Member.id)
    )
    topics: list[str] = []
    paused: list[str] = []
    changed = False
    for number, (member, user) in enumerate(rows.all()):
        over = most is not None and number >= most
        if over:
            paused.append(shown_name(user))
        if over == (member.paused_at is not None):
            continue
        changed = True
        member.paused_at = now if over else None
        await session.flush()
        key = _pause_key(member.id)
        if over:
            await _let_go(session, owner_id, user.id)
            await notices.open_notice(session, user.id, "work_paused", key=key, params={"owner": shown_name(owner)})
        else:
            await notices.solve(session, key)
        topics += (await _changed(session, owner, user, member.role)).topics
    if changed:
        key = f"team_paused:{owner_id}"
        await notices.solve(session, key)
        if paused:
            params = {
                "n": most,
                "names": ", ".join(paused[:_NAMES_SHOWN]) + ("…" if len(paused) > _NAMES_SHOWN else ""),
            }
            await notices.open_notice(session, owner_id, "team_paused", key=key, params=params)
        topics.append("notices")
    return topics


def _pause_key(member_id: str) -> str:
    return f"work_paused:{member_id}"


async def _let_go(session: AsyncSession, owner_id: str, user_id: str) -> None:
    """Give a person's talks back to all who are left, and tell them of no customer any more."""
    own = select(models.Bot.id).where(models.Bot.owner_id == owner_id)
    talk, notice = models.Conversation, models.Notice
    await session.execute(
        update(talk).where(talk.assignee_id == user_id, talk.bot_id.in_(own)).values(assignee_id=None)
    )
    await session.execute(delete(notice).where(notice.user_id == user_id, notice.bot_id.in_(own)))


async def _end(
    session: AsyncSession, owner: models.User, user: models.User, member: models.Member, actor: models.User
) -> Change:
    """Take everything of the owner's away: the talks go back to all who are left, what was to be told is told no more."""
    notice = models.Notice
    await _let_go(session, owner.id, user.id)
    await session.execute(delete(models.Member).where(models.Member.id == member.id))
    about = (f"member:{member.id}", _pause_key(member.id))
    await session.execute(delete(notice).where(notice.user_id.in_((owner.id, user.id)), notice.key.in_(about)))
    action = "member_left" if actor.id == user.id else "member_removed"
    await access.record(session, actor, action, "user", owner.id, role=member.role, member=user.id)
    return await _changed(session, owner, user, member.role)


async def hand_over(session: AsyncSession, former_id: str, user: models.User) -> None:
    """Give the memberships of an account that gives way, and its part in conversations, to the one that takes its place."""
    member = models.Member
    talk, message, note = models.Conversation, models.Message, models.Note
    served = select(member.owner_id).where(member.user_id == former_id)
    talks = select(talk.id).join(models.Bot, models.Bot.id == talk.bot_id).where(models.Bot.owner_id.in_(served))
    own = {"execution_options": {"synchronize_session": False}}
    await session.execute(
        update(talk).where(talk.id.in_(talks), talk.assignee_id == former_id).values(assignee_id=user.id), **own
    )
    for written in (message, note):
        await session.execute(
            update(written)
            .where(written.conversation_id.in_(talks), written.author_id == former_id)
            .values(author_id=user.id),
            **own,
        )
    has = select(member.owner_id).where(member.user_id == user.id)
    known = set(await session.scalars(has)) | {user.id}
    await session.execute(
        update(member).where(member.user_id == former_id, member.owner_id.not_in(known)).values(user_id=user.id)
    )
