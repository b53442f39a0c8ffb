"""What each owner may use a day, and how much of it is used."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from db.base import utcnow
from services import conversations, metrics, notices, usage

if TYPE_CHECKING:
    from services.conversations.records import BotCard
    from services.core import Core

R = TypeVar("R")
NOBODY = "demo"
"""Stands for an owner where the installation itself asks: nobody is told when its day's limit is used up."""
SPENDING_REFRESH_S = 60.0
"""For so long the rows of what an owner spent are trusted: other processes spend too."""
HEARD_REFRESH_S = 600.0
"""The same for the messages that came."""
STORED_REFRESH_S = 600.0
"""The same for the files that are kept."""


@dataclass(frozen=True, slots=True)
class _Spent:
    """What an owner's rows said: ``kept`` US dollars, when ``added`` had been counted here, at ``read_at``."""

    kept: Decimal
    added: Decimal
    read_at: float


@dataclass(slots=True)
class _Stored:
    """How many bytes of files are kept: ``size`` grows between readings of the rows, the last of them at ``read_at``."""

    size: int
    read_at: float


@dataclass(slots=True)
class _Heard:
    """How many messages came: ``count`` grows between readings of the rows, the last of them at ``read_at``."""

    count: int
    read_at: float


class Spending:
    """What each owner used today: what calls cost on the installation's keys, and how many messages came.

    The rows are read at first use and again every few minutes, so a restart forgets nothing and several processes share
    one limit; what happened here since then is added. However many talks wait for an owner's rows, they are read once.
    ``clock``: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._day: dt.date | None = None
        self._spent: dict[str, _Spent] = {}
        self._added: dict[str, Decimal] = {}
        self._heard: dict[str, _Heard] = {}
        self._stored: dict[str, _Stored] = {}
        self._told: set[str] = set()
        self._reading: dict[tuple[str, str, dt.datetime], asyncio.Future[Any]] = {}

    def _midnight(self) -> dt.datetime:
        """When today began, UTC. What was counted before is forgotten."""
        today = utcnow().date()
        most = max(len(self._spent), len(self._added), len(self._heard), len(self._stored))
        if today != self._day or most > 50_000:
            self._day, self._spent, self._added, self._heard, self._stored = today, {}, {}, {}, {}
            self._told.clear()
        return dt.datetime.combine(today, dt.time(), dt.UTC)

    async def heard(self, core: Core, owner_id: str, new: int) -> int:
        """Return how many messages an owner's bots have dealt with since midnight UTC, with ``new`` ones in hand."""
        midnight = self._midnight()
        known = self._heard.get(owner_id)
        if known is None or self._clock() - known.read_at >= HEARD_REFRESH_S:
            known = await self._once(("heard", owner_id, midnight), lambda: self._read_heard(core, owner_id, midnight))
        # Into what is kept, and only now: others added theirs while the rows were read.
        known.count += new
        return known.count

    async def _read_heard(self, core: Core, owner_id: str, midnight: dt.datetime) -> _Heard:
        read_at = self._clock()
        async with core.db.read() as session:
            known = _Heard(await conversations.customer_messages(session, owner_id, midnight), read_at)
        if midnight.date() == self._day:
            self._heard[owner_id] = known
        return known

    async def stored(self, core: Core, owner_id: str) -> int:
        """Return how many bytes of files are kept for an owner; the rows are summed up once in some minutes."""
        midnight = self._midnight()
        known = self._stored.get(owner_id)
        if known is None or self._clock() - known.read_at >= STORED_REFRESH_S:
            known = await self._once(("stored", owner_id, midnight), lambda: self._read_stored(core, owner_id))
        return known.size

    async def _read_stored(self, core: Core, owner_id: str) -> _Stored:
        read_at = self._clock()
        async with core.db.read() as session:
            known = self._stored[owner_id] = _Stored(await usage.stored_bytes(session, owner_id), read_at)
        return known

    async def has_room(self, core: Core, owner_id: str, size: int) -> bool:
        """Return whether ``size`` bytes more may be kept for an owner."""
        return await self.stored(core, owner_id) + max(1, size) <= core.settings.media.owner_files_mib * 2**20

    def store(self, owner_id: str, size: int) -> None:
        """Count a file that is about to be kept."""
        if (known := self._stored.get(owner_id)) is not None:
            known.size += size

    async def _once(self, key: tuple[str, str, dt.datetime], read: Callable[[], Awaitable[R]]) -> R:
        """Return what ``read`` returns or raise what it raises; who asks for the same meanwhile waits for this reading."""
        while (pending := self._reading.get(key)) is not None:
            # Unlike awaiting it: that the one who waits is cancelled is nothing to the others.
            await asyncio.wait([pending])
            if not pending.cancelled():
                result: R = pending.result()
                return result
            # The one who read was cancelled: the first to wake reads instead.
        pending = self._reading[key] = asyncio.get_running_loop().create_future()
        try:
            mine = await read()
        except asyncio.CancelledError:
            pending.cancel()
            raise
        except Exception as error:
            pending.set_exception(error)
            # It is raised here; that nobody else waited for it is no trouble of its own.
            pending.exception()
            raise
        else:
            pending.set_result(mine)
            return mine
        finally:
            del self._reading[key]

    def add(self, owner_id: str, cost: Decimal) -> None:
        """Count calls that have just been made; their rows follow with the answer."""
        if cost:
            self._added[owner_id] = self._added.get(owner_id, Decimal(0)) + cost

    async def today(self, core: Core, owner_id: str) -> Decimal:
        """Return what an owner's calls cost since midnight UTC, in US dollars."""
        midnight = self._midnight()
        known = self._spent.get(owner_id)
        if known is None or self._clock() - known.read_at >= SPENDING_REFRESH_S:
            known = await self._once(("spent", owner_id, midnight), lambda: self._read_spent(core, owner_id, midnight))
        return known.kept + self._added.get(owner_id, Decimal(0)) - known.added

    async def _read_spent(self, core: Core, owner_id: str, midnight: dt.datetime) -> _Spent:
        # What is added while the rows are read may be missing in them: counted twice for a minute rather than not.
        added, read_at = self._added.get(owner_id, Decimal(0)), self._clock()
        async with core.db.read() as session:
            known = _Spent(await usage.cost_since(session, owner_id, midnight), added, read_at)
        if midnight.date() == self._day:
            self._spent[owner_id] = known
        return known

    async def allowed(self, core: Core, bot: BotCard) -> bool:
        """Return whether today's limit leaves room for another call; the owner is told once when it does not."""
        if await self.today(core, bot.owner_id) < core.settings.limits.owner_cost_usd_per_day:
            return True
        metrics.OVER_LIMIT.labels("owner_cost").inc()
        if bot.owner_id != NOBODY and bot.owner_id not in self._told:
            async with core.db.write() as session:
                await notices.open_notice(
                    session,
                    bot.owner_id,
                    "cost_limit",
                    key=f"cost:{bot.owner_id}:{self._day}",
                    bot_id=bot.id,
                    params={"bot": bot.name},
                )
            self._told.add(bot.owner_id)
            core.bell.ring("notices")
        return False
