"""A clock to turn: what a task of the product waits for until a certain time is due now, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from tests.conveyor.harness import until


def named(name: str) -> set[asyncio.Task[object]]:
    """Return the tasks of this name: the products of other tests may run in the same loop."""
    return {task for task in asyncio.all_tasks() if task.get_name() == name}


async def waits(
    name: str, timeout: float = 20, *, beside: Collection[asyncio.Task[object]] = ()
) -> asyncio.TimerHandle:
    """Wait until the task of this name waits for the clock; return what would wake it. ``beside``: tasks of other products."""

    async def found() -> asyncio.TimerHandle | None:
        return next((timer for task in named(name).difference(beside) for timer in _timers(task)), None)

    timer: asyncio.TimerHandle = await until(found, timeout)
    return timer


async def due(name: str, timeout: float = 20, *, beside: Collection[asyncio.Task[object]] = ()) -> None:
    """Wait until the task of this name waits for the clock, and let that time be now: a sleep ends, a long wait runs out."""
    timer = await waits(name, timeout, beside=beside)
    # Both are of the event loop's own making; what they do is what they would have done later.
    timer._run()
    timer.cancel()
    # The task goes on before anybody looks again.
    await asyncio.sleep(0)


def _timers(task: asyncio.Task[object]) -> list[asyncio.TimerHandle]:
    """Return what of the clock will wake a task that sleeps, or that waits for an event no longer than a while."""
    loop = asyncio.get_running_loop()
    sleeping = getattr(task, "_fut_waiter", None)
    waiting = _innermost(task) == "Event.wait"
    scheduled: list[asyncio.TimerHandle] = list(getattr(loop, "_scheduled", ()))
    return [
        timer
        for timer in scheduled
        if not timer.cancelled()
        and (
            (sleeping is not None and bool(timer._args) and timer._args[0] is sleeping)
            or (
                waiting and getattr(getattr(getattr(timer, "_callback", None), "__self__", None), "_task", None) is task
            )
        )
    ]


def _innermost(task: asyncio.Task[object]) -> str:
    """Return the name of what a task awaits in the end."""
    work: object = task.get_coro()
    while hasattr(inner := getattr(work, "cr_await", None), "cr_await"):
        work = inner
    return str(getattr(work, "__qualname__", ""))
