"""Commands of the program, each in a process of its own, forked from one that has done the imports.

Importing takes seconds and forking nothing. Each line on standard input is a JSON object: ``arguments``, the whole
``environment``, and ``folder``, where the files ``out`` and ``err`` take what the command says; the answer is a line with its
status. ``tests/test_starting.py`` starts the program as people do.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import bot
from services.settings import ROOT

TIMEOUT_S = 100
LATER = (
    "services.start",
    "services.checks",
    "services.restoring",
    "db.migrate",
    "alembic.command",
    "web.app",
    "web.serve",
    "asyncpg",
    "aiosqlite",
)
"""What the commands import when they want it."""


class Commands:
    """The process that forks them, until the block ends."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT_S)

    def said(self, folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run a command that ends by itself; return its status and everything it said."""
        return self.killed(folder, 0, *arguments, **environment)

    def killed(self, folder: Path, at: int, *arguments: str, **environment: str) -> tuple[int, str]:
        """The same for one that is killed when it touches a file for the ``at``-th time (0: never): see :func:`_die`."""
        folder.mkdir()
        order = {
            "arguments": arguments,
            "environment": {"PATH": os.environ["PATH"], "PORT": "0", **environment},
            "folder": str(folder),
            "at": at,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return status, (folder / "out").read_text("utf-8") + (folder / "err").read_text("utf-8")


def _die(at: int, note: Path) -> None:
    """Kill this process when a file is about to be opened for writing, renamed or removed, or a database opened, so often.

    ``note`` holds how often that was.
    """
    touched = 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in ("os.rename", "os.remove", "sqlite3.connect") or (event == "open" and "w" in str(arguments[1])):
            if str(arguments[0]) == str(note):
                return
            touched += 1
            note.write_text(str(touched))
            if touched == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _run(order: dict[str, Any]) -> None:
    """Be the command; does not return."""
    signal.alarm(TIMEOUT_S)
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, name in ((0, os.devnull), (1, "out"), (2, "err")):
        opened = os.open(Path(order["folder"]) / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    status: object = 1
    if order["at"]:
        _die(order["at"], Path(order["folder"]) / "touched")
    try:
        status = bot.main(order["arguments"])
    except SystemExit as ended:
        status = ended.code
    finally:
        # As at the end of any program, but for taking apart what was imported.
        if sys.exc_info()[1] is not None:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def main() -> None:
    """Fork a command for each line and say how it ended."""
    for module in LATER:
        importlib.import_module(module)
    answers = os.dup(1)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.close(answers)
            _run(json.loads(line))
        _, ended = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(ended)}\n".encode())


if __name__ == "__main__":
    main()
