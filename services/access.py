"""What was done by whom, and whether anything can be loaded now."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models


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
