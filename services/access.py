"""What was done by whom, and whether anything can be loaded now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from db import models

_ACTING: ContextVar[str] = ContextVar("acting", default="")


@contextmanager
def acting_for(admin_id: str) -> Iterator[None]:
    """Write an administrator beside the owner as whom they act, into all that is recorded within."""
    before = _ACTING.set(admin_id)
    try:
        yield
    finally:
        _ACTING.reset(before)


async def record(
    session: AsyncSession, actor: models.User | None, action: str, object_kind: str, object_id: str, /, **details: str
) -> None:
    """Write down in the audit log who did what to what; never put a secret into ``details``.

    ``by`` among them is the administrator who did it in the panel of ``actor``: :func:`acting_for`.
    """
    if (acting := _ACTING.get()) and (actor is None or actor.id != acting):
        details["by"] = acting
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
