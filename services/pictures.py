"""Pictures from outside are made anew in a child process (``pictures_child.py``); this is the side of the parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path
from weakref import WeakKeyDictionary

from services.errors import Temporary

CHILD = Path(__file__).with_name("pictures_child.py")
MEMORY_MIB = 768
SECONDS = 15
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class BadPicture(Exception):
    """A file that is no picture which may be opened; ``code`` says why, for the log: ``pixels``, ``memory``, ``timeout`` …"""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


async def anew(data: bytes, *, pixels: int, side: int) -> bytes:
    """Return a picture as a new JPEG whose longer side has at most ``side`` pixels, upright and without the rest of the file.

    ``pixels``: of a larger one nothing is decoded. At most one picture a core is opened at a time. Raises
    :class:`BadPicture`, or ``Temporary`` where this machine has no process to give.
    """
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        _slots[loop] = asyncio.Semaphore(os.cpu_count() or 1)
    async with _slots[loop]:
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", str(CHILD), "--memory-mib", str(MEMORY_MIB), "--seconds", str(SECONDS),
                "--pixels", str(pixels), "--side", str(side),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
                env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            )  # fmt: skip
        except OSError as error:
            raise Temporary(f"no process for a picture: {type(error).__name__}") from None
        try:
            async with asyncio.timeout(SECONDS + 10):
                answer, _ = await child.communicate(data)
        except TimeoutError:
            raise BadPicture("timeout") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    head, _, picture = answer.partition(b"\n")
    if head != b"ok" or not picture.startswith(b"\xff\xd8\xff"):
        raise BadPicture(head.removeprefix(b"error ").decode("ascii", "replace")[:40] or "killed")
    return picture
