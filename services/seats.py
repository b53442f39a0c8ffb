"""Who of a team works: as many members as the owner's plan has room for; the others are paused until there is room again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from db import models
from db.engine import DatabaseUnavailable
from services import subscriptions, team
from services.allowances import seats_of

if TYPE_CHECKING:
    from services.core import Core

log = structlog.get_logger(__name__)

EVERY_S = 60.0
"""How often it is looked whether plans have ended, begun or changed."""


async def watch(core: Core) -> None:
    """Follow the plans every minute, and when the bell rings because somebody came or left, until cancelled."""
    async with core.bell.listen("seats", limit=1) as bell:
        while True:
            try:
                await settle(core)
            except DatabaseUnavailable:
                log.warning("teams_not_settled")
            try:
                async with asyncio.timeout(EVERY_S):
                    await bell.get()
            except TimeoutError:
                pass


async def settle(core: Core) -> None:
    """Pause and let work whom the plans of all owners say, each team in a transaction of its own."""
    working: dict[str, list[bool]] = defaultdict(list)
    async with core.db.read() as session:
        member, user = models.Member, models.User
        for owner_id, paused_at in await session.execute(
            select(member.owner_id, member.paused_at).order_by(member.owner_id, member.id)
        ):
            working[owner_id].append(paused_at is None)
        owners = list(await session.scalars(select(user).where(user.id.in_(select(member.owner_id)))))
        lines = await subscriptions.timelines(session, core.settings, owners)
    now = core.now()
    topics: list[str] = []
    for owner_id, line in lines.items():
        most = seats_of(line.at(now))
        if [most is None or number < most for number in range(len(working[owner_id]))] != working[owner_id]:
            async with core.db.write() as session:
                most = await core.allowances.seats(session, owner_id)
                topics += await team.seat(session, owner_id, most, now=now)
    for topic in topics:
        core.bell.ring(topic)
