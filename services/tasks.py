"""Supervised background work: the only place that creates tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class TaskGroup:
    """Tasks that live as long as a part of the program.

    A task that ends with an exception is logged; one marked ``vital`` sets :attr:`failed` instead, which ends the process:
    a half-dead worker would hold its work for ever.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, Any], *, name: str, vital: bool = False) -> asyncio.Task[Any]:
        """Run ``work`` in the background and keep hold of it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._vital_done if vital else self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed", task=task.get_name(), exc_info=error)

    def _vital_done(self, task: asyncio.Task[Any]) -> None:
        self._done(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_result(error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def cancel(self, timeout_s: float = 5.0) -> None:
        """Cancel all tasks and wait until they are gone, but not for ever."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout_s)
            for task in stuck:
                log.error("task_does_not_end", task=task.get_name())
