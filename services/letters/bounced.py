"""Addresses at which nobody is: to whom letters came back, what became of a person's letters, and trying an address again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access
from services.errors import Conflict
from services.i18n import T

OWN_PROOF = frozenset({"confirm_email", "change_email", "join"})
"""Kinds of letters by which a person shows that an address is theirs: these alone still go to one that bounced."""
_SHOWN = 10


def is_barred(letter: models.Letter, user: models.User) -> bool:
    """Tell whether a letter must not go by mail, because letters to that address of the account came back."""
    if user.mail_refused_at is None or letter.kind in OWN_PROOF:
        return False
    return letter.address is None or letter.address == user.email


async def retry(session: AsyncSession, admin: models.User, user_id: str) -> None:
    """Let letters go to an owner's address again, on an administrator's word; raises ``Conflict`` where none came back."""
    user = models.User
    changed = await session.scalar(
        update(user)
        .where(user.id == user_id, user.mail_refused_at.is_not(None))
        .values(mail_refused_at=None)
        .returning(user.id)
    )
    if changed is None:
        raise Conflict(T("Letters to this address do not come back."), code="not_refused")
    await access.record(session, admin, "mail_retried", "user", user_id)


async def last_letters(session: AsyncSession, user_id: str) -> Sequence[models.Letter]:
    """Return the last ten letters to a person, the newest first."""
    return (await session.scalars(_LAST, {"p_user": user_id})).all()


_LAST = (
    select(models.Letter)
    .where(models.Letter.user_id == bindparam("p_user"))
    .where(or_(models.Letter.mail != "none", models.Letter.telegram != "none"))
    .order_by(models.Letter.id.desc())
    .limit(_SHOWN)
)
