"""A lost password: the letter is written behind the answer, so that the answer's time does not tell who has an account.

Its link shows who reads an address, and with one that was never confirmed that may not be whoever registered with it: a
stranger may have typed it, or its owner mistyped their own. The two never come to share an account.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access, accounts, codes, letters, team
from services.bell import session_topic
from services.crypto import Undecryptable
from services.errors import Invalid, TooMany
from services.i18n import T

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

RESET_JOB = "password_reset"


async def write_reset(core: Core, payload: Mapping[str, Any]) -> None:
    """Write the letter with the link if there is such an account that may sign in; its pace is kept in silence."""
    try:
        email = str(core.crypto.decrypt(str(payload["email"])))
    except Undecryptable:
        log.warning("reset_unreadable")
        return
    keys = codes.Keys(core.secret, core.crypto)
    try:
        async with core.db.write() as session:
            user = await accounts.by_email(session, email)
            if user is None or user.banned_at is not None:
                return
            await codes.send(session, keys, user, "reset", email, now=core.now())
    except TooMany:
        log.info("reset_paced")
        return
    core.bell.ring("letters")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose the new password is. ``parted``: the address has an account of its own now. ``topics``: what to ring."""

    user: models.User
    parted: bool
    topics: list[str]


async def choose(
    session: AsyncSession, row: models.AccountCode, user: models.User, password_hash: str, *, now: dt.datetime
) -> Chosen:
    """Give the reader of a reset's letter an account with a new password, and nobody else a way into it.

    A confirmed address is the account's, which keeps its Telegram and its second step. One that was never confirmed: where
    Telegram is connected, whoever registered has a way in of their own and keeps everything but the address, which begins an
    account of its own; are both one person, connecting Telegram there makes the two one. Without Telegram the account is the
    reader's alone, for an owner who never confirmed has no other way back; whatever else leads in is closed.

    Raises ``Invalid`` (code ``link``) where the account no longer has the address that the letter went to.
    """
    # Confirmed, or joined with another one, at this very moment: the second one sees what the first has done.
    await session.refresh(user, with_for_update=True)
    if user.email != row.target:
        raise Invalid(T("This link has been used or has expired."), code="link")
    await codes.forget(session, user.id, now=now)
    if user.email_confirmed_at is None and not user.is_admin:
        if user.telegram_id is not None:
            return await _part(session, row, user, password_hash, now=now)
        topics = await _shut_out(session, user)
        kind = "password_reset_alone"
    else:
        topics, kind = [], "password_changed"
        # Whoever lost the password may have lost it to somebody, who made tokens.
        await accounts.revoke_api_tokens(session, user)
    topics += [session_topic(one.id) for one in await accounts.sessions(session, user)]
    await accounts.set_password(session, user, password_hash)
    await accounts.confirm_email(session, user, row.target, now=now)
    await access.record(session, user, "password_reset", "user", user.id)
    await letters.write(session, user.id, kind, key=f"password_changed:{row.id}", now=now)
    return Chosen(user, False, topics)


async def _shut_out(session: AsyncSession, user: models.User) -> list[str]:
    """Close every way in of whoever registered, and of whom they let in; return what to ring."""
    topics: list[str] = []
    for colleague in await team.members(session, user):
        topics += (await team.remove(session, user, colleague.member.id)).topics
    for member, _ in await team.memberships(session, user):
        topics += (await team.leave(session, user, member.id)).topics
    topics += [session_topic(one.id) for one in await accounts.sessions(session, user)]
    await accounts.evict(session, user)
    return topics


async def _part(
    session: AsyncSession, row: models.AccountCode, user: models.User, password_hash: str, *, now: dt.datetime
) -> Chosen:
    """Take the address off an account that goes on without it, and begin one for whoever reads it."""
    await session.execute(update(models.User).where(models.User.id == user.id).values(email=None, mail_refused_at=None))
    user.email = user.mail_refused_at = None
    made = await accounts.register_owner(
        session,
        email=row.target,
        full_name=row.target.partition("@")[0],
        language=user.language,
        password_hash=password_hash,
    )
    await accounts.confirm_email(session, made, row.target, now=now)
    await access.record(session, made, "address_parted", "user", user.id)
    params, key = {"email": row.target}, f"address_parted:{row.id}"
    await letters.write(session, user.id, "address_gone", key=key, now=now, params=params, mail=False)
    await letters.write(session, made.id, "address_parted", key=key, now=now, params=params)
    return Chosen(made, True, [])
