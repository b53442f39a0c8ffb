"""How much of Meta's limits an account has used, as Meta tells with every answer: sending slows down before it is stopped.

Facts: developers.facebook.com/docs/graph-api/overview/rate-limiting (X-App-Usage, X-Business-Use-Case-Usage), checked 2026-11-22.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from db import models
from services.channels.base import Metered, Usage

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

SLOW_FROM = 80
"""Percent; Meta's own advice."""
FULL = 100
_STEP_S = 0.25
"""So much longer is the pause between two messages for every further percent."""
_NOTED_EVERY_S = 600
SHOWN_S = 3600
"""Meta counts by the hour: what was told before says nothing any more."""


async def heed(core: Core, channel_id: str, kind: str, credentials: Mapping[str, str]) -> float:
    """Wait as long as an account's use of its limits asks for before one more message; return for how many seconds it must rest
    instead, 0 for not at all."""
    adapter = core.channels[kind]
    used = adapter.usage(credentials) if isinstance(adapter, Metered) else None
    if used is None or used.percent < SLOW_FROM:
        return 0.0
    if await core.limits.hit(f"usage-noted:{channel_id}", 1, _NOTED_EVERY_S):
        log.warning("limit_nearly_used", channel=channel_id, percent=used.percent)
        await _note(core, channel_id, used)
    if used.percent >= FULL:
        return used.left_s
    await core.limits.pace(f"usage:{channel_id}", 1 / ((used.percent - SLOW_FROM + 1) * _STEP_S), 1)
    return 0.0


async def _note(core: Core, channel_id: str, used: Usage) -> None:
    async with core.db.write() as session:
        channel = await session.get(models.Channel, channel_id, with_for_update=True)
        if channel is not None:
            channel.health = {**(channel.health or {}), **noted(used.percent)}


def noted(percent: int | None) -> dict[str, int]:
    """Return what a channel's health keeps of it; nothing where nothing is known."""
    return {} if percent is None else {"used": percent, "used_at": int(time.time())}


def shown(told: Mapping[str, object]) -> int | None:
    """Return the percentage that the owner is to see, None where there is no need or it is old."""
    percent, at = told.get("used"), told.get("used_at")
    if not isinstance(percent, int) or not isinstance(at, int):
        return None
    return percent if percent >= SLOW_FROM and time.time() - at < SHOWN_S else None
