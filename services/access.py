"""Who may load what. A foreign object and a missing one are the same answer: not found."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services.errors import NotFound


async def load_bot(session: AsyncSession, user: models.User, bot_id: str) -> models.Bot:
    """Return a bot of this person that is not deleted; raises ``NotFound``.

    The administrator's own role opens nothing here: looking into an owner's bot takes that owner's consent.
    """
    bot = await session.scalar(
        select(models.Bot).where(
            models.Bot.id == bot_id, models.Bot.owner_id == user.id, models.Bot.deleted_at.is_(None)
        )
    )
    if bot is None:
        raise NotFound
    return bot


async def record(
    session: AsyncSession, actor: models.User | None, action: str, object_kind: str, object_id: str, **details: str
) -> None:
    """Write down in the audit log who did what to what; never put a secret into ``details``."""
    session.add(
        models.AuditLog(
            actor_id=actor.id if actor else None,
            action=action,
            object_kind=object_kind,
            object_id=object_id,
            details=details,
        )
    )
    await session.flush()


async def ask(session: AsyncSession) -> None:
    """Ask the database the smallest question there is: whether anything can be loaded now."""
    await session.execute(text("SELECT 1"))
