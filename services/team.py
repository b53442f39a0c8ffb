"""Who works for an owner, and what each of them may do with the owner's bots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models

Right = Literal["talk", "manage", "own"]
"""``talk``: read and answer conversations; ``manage``: also what a bot knows, says and is connected to; ``own``: also what
costs, deletes or gives rights to others."""

ROLES = ("manager", "operator")
_WITH: Mapping[Right, tuple[str, ...]] = {"talk": ("manager", "operator"), "manage": ("manager",), "own": ()}


def may(user: models.User, right: Right) -> ColumnElement[bool]:
    """Return the condition on a bot that this person has a right over it: as its owner, or working for the owner."""
    own = models.Bot.owner_id == user.id
    roles = _WITH[right]
    if not roles:
        return own
    served = select(models.Member.owner_id).where(models.Member.user_id == user.id, models.Member.role.in_(roles))
    return or_(own, models.Bot.owner_id.in_(served))


async def role_of(session: AsyncSession, owner_id: str, user_id: str) -> str | None:
    """Return ``owner``, ``manager``, ``operator``, or None for a stranger."""
    if owner_id == user_id:
        return "owner"
    return await session.scalar(
        select(models.Member.role).where(models.Member.owner_id == owner_id, models.Member.user_id == user_id)
    )
