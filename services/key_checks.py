"""Asking a provider now whether it answers to the installation's key, for an administrator who waits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from services import access
from services.ai import PROVIDERS
from services.answers import usage_values
from services.errors import Conflict, NotFound, TooMany
from services.i18n import T, Text

if TYPE_CHECKING:
    from services.core import Core

CHECKER = "check"
"""Stands for an owner in the rows of such calls."""
OUTCOMES: Mapping[str, Text] = {
    "ok": T("answers"),
    "busy": T("too many requests"),
    "key_refused": T("the key was refused"),
    "retired": T("the model is not offered any more"),
    "bad_request": T("the request was not accepted"),
    "too_long": T("the question was too long"),
    "transient": T("no answer"),
    "bad_output": T("an answer that cannot be read"),
    "refused": T("the model refused to answer"),
}
"""What came of a call, for people."""
_A_MINUTE = 3
_SHOWN = dt.timedelta(days=30)


def outcome(word: str, http_status: int | None) -> str:
    """Return which of :data:`OUTCOMES` a check came to: so short an answer may be cut off, or all of it be thinking."""
    return "ok" if word in ("length", "cut") or (word == "bad_output" and http_status == 200) else word


async def check(core: Core, person: models.User, provider: str) -> None:
    """Ask the first model of a provider one word, also while its key rests, and keep what came of it.

    Raises ``NotFound``, ``Conflict`` where there is nothing to ask, ``TooMany``.
    """
    if provider not in PROVIDERS or not (key := core.settings.model_key(provider)):
        raise NotFound
    if not await core.limits.hit(f"key_check:{provider}", _A_MINUTE, 60):
        raise TooMany(retry_after_s=60)
    result = await core.router.check(provider, key)
    if not result.calls:
        raise Conflict(T("No role asks a model of this provider: name one first."), code="nothing_to_check")
    call = result.calls[-1]
    async with core.db.write() as session:
        session.add(models.AIUsage(**{**usage_values(call, CHECKER, "", "", CHECKER), "bot_id": None}))
        said = outcome(call.outcome, call.http_status)
        await access.record(session, person, "key_checked", "provider_key", provider, result=said)
    for event in result.key_events:
        await core.key_event(event, None)


async def last(session: AsyncSession, now: dt.datetime) -> dict[str, models.AIUsage]:
    """Return the last check of each provider, of those of thirty days."""
    row = models.AIUsage
    query = (
        select(row).where(row.owner_id == CHECKER, row.created_at >= now - _SHOWN).order_by(row.id.desc()).limit(100)
    )
    found: dict[str, models.AIUsage] = {}
    for each in await session.scalars(query):
        found.setdefault(each.provider, each)
    return found
