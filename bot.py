#!/usr/bin/env python3
"""BotFactory: one asyncio process with the bots, the web server, the workers and the scheduler.

This file reads arguments, puts the process together, and starts and stops its parts in order. Slow modules are imported inside
the chosen command, once logging is up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handlers import FactoryBot
    from services.core import Core
    from services.settings import Settings

ROOT = Path(__file__).resolve().parent
ROLES = ("all", "web", "worker")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog="bot.py", description="BotFactory: a bot for every business, out of its own documents."
    )
    top.add_argument("--config", type=Path, default=ROOT / "config.toml", help="another settings file than config.toml")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="start (this is what happens without a command)")
    run.add_argument(
        "--role", choices=ROLES, default="all", help="all (default), web (HTTP only) or worker (answers, sends, reads)"
    )
    commands.add_parser("check", help="read the whole configuration, try every key and connection, say what is missing")
    commands.add_parser("migrate", help="bring the database to the present schema")
    admin = commands.add_parser("create-admin", help="make an administrator, or make an existing account one")
    admin.add_argument("--email", required=True)
    admin.add_argument("--password", help="asked for when it is not given")
    token = commands.add_parser("token", help="print a new API token of an account")
    token.add_argument("--email", required=True)
    backup = commands.add_parser("backup", help="write the database and the keys into one ZIP, also while it runs")
    backup.add_argument("file", type=Path)
    restore = commands.add_parser("restore", help="put a backup in place of the database, while nothing runs")
    restore.add_argument("file", type=Path)
    restore.add_argument("--replace", action="store_true", help="also a database in use, after a backup of it")
    restore.add_argument(
        "--without-keys",
        action="store_true",
        help="also where the keys of its secrets are gone: connect channels again",
    )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen command; return the exit status."""
    options = parser().parse_args(arguments)
    if options.command in (None, "run"):
        # Until the parts can be stopped in order there is nothing to finish, and slow imports must not hold it up.
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: os._exit(0))
    if arguments is None:
        from services import bootstrap

        bootstrap.enter(sys.argv)
    from services import logs
    from services.settings import SettingsError, read_settings

    try:
        settings = read_settings(options.config)
    except SettingsError as error:
        for line in error.lines:
            print(f"✗ {line}", file=sys.stderr)
        return 1
    if options.command in (None, "run"):
        # At once: the first time, Python compiles for a while.
        print("BotFactory is starting …", flush=True)
    logs.set_up(settings.logging.level, settings.logging.format)
    from db.engine import DatabaseUnavailable

    try:
        return asyncio.run(_command(settings, options))
    except DatabaseUnavailable as error:
        print(f"✗ DATABASE_URL: {error}", file=sys.stderr)
        return 1


async def _command(settings: Settings, options: argparse.Namespace) -> int:
    command = options.command or "run"
    if command == "run":
        return await _run(settings, getattr(options, "role", "all"))
    if command == "check":
        from services import checks

        return await checks.run(settings)
    if command == "migrate":
        return await _migrate(settings)
    if command == "backup":
        return await _backup(settings, options.file)
    if command == "restore":
        return await _restore(settings, options)
    return await _account(settings, command, options)


async def _run(settings: Settings, role: str) -> int:
    from services import start
    from services.crypto import KeyProblem
    from services.upkeep import InstanceTaken

    if (fault := start.role_fault(settings, role)) is not None:
        print(f"✗ {fault}", file=sys.stderr)
        return 1
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            # A second signal: at once. Everything acknowledged is committed already.
            os._exit(0)
        print("BotFactory finishes what is in hand and stops; Ctrl+C again stops it at once.", flush=True)
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        async with composed(settings, role) as core:
            core.tasks.failed.add_done_callback(lambda _: stop.set())
            await stop.wait()
            if core.tasks.failed.done() and not core.tasks.failed.cancelled():
                import structlog

                # A half-dead worker would hold its work for ever; another start takes it up.
                structlog.get_logger("bot").critical("vital_part_died", exc_info=core.tasks.failed.result())
                os._exit(1)
    except (start.StartFailed, InstanceTaken, KeyProblem) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print("BotFactory has stopped.", flush=True)
    return 0


@contextlib.asynccontextmanager
async def composed(
    settings: Settings,
    role: str = "all",
    *,
    pause: Callable[[str], Awaitable[None]] | None = None,
    announce: bool = True,
) -> AsyncIterator[Core]:
    """Put the process together, start its parts in order, and stop them in the opposite order on leaving.

    ``pause`` is awaited at named points of the conveyor. ``announce``: print the panel's address and the first sign-in link.
    """
    from services import start

    async with contextlib.AsyncExitStack() as stack:
        core = await start.foundation(settings, stack, pause=pause)
        if role in ("all", "web"):
            from web.app import make_app
            from web.serve import serve

            await serve(core, make_app(core), stack)
        elif settings.server.worker_port:
            from web import health
            from web.serve import serve

            await serve(core, health.make_app(core), stack, setting="WORKER_PORT")
        if role in ("all", "worker"):
            if settings.secrets.telegram_bot_token is not None:
                await start.factory(core, _factory_bot, stack)
            await start.workers(core, stack)
            await start.receivers(core, stack)
        core.ready = True
        if announce and role in ("all", "web"):
            await start.announce(core)
        try:
            yield core
        finally:
            core.ready = False
            core.stop_by = time.monotonic() + settings.server.shutdown_timeout_s


def _factory_bot() -> type[FactoryBot]:
    """Import the factory bot; aiogram needs seconds, so this runs in a thread."""
    from handlers import FactoryBot

    return FactoryBot


async def _migrate(settings: Settings) -> int:
    from db import migrate

    try:
        before, after = await migrate.upgrade(settings.database_url)
    except ValueError as error:
        print(f"✗ DATABASE_URL: {error}", file=sys.stderr)
        return 1
    print(f"schema {before or 'empty'} → {after}" if before != after else f"schema {after}, nothing to do")
    return 0


async def _backup(settings: Settings, target: Path) -> int:
    from services import backups

    try:
        await asyncio.to_thread(backups.write, settings, target)
    except (backups.BackupFailed, ValueError) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print(f"{target}: keep it where only you can read it, the keys are inside")
    return 0


async def _restore(settings: Settings, options: argparse.Namespace) -> int:
    from services import restoring
    from services.crypto import KeyProblem
    from services.start import StartFailed
    from services.upkeep import InstanceTaken

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        done = await restoring.restore(
            settings, options.file, say, replace=options.replace, without_keys=options.without_keys
        )
    except (restoring.RestoreFailed, StartFailed, InstanceTaken, KeyProblem) as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    for line in done.lines():
        say(line)
    return 0


async def _account(settings: Settings, command: str, options: argparse.Namespace) -> int:
    from services import start
    from services.errors import AppError

    try:
        if command == "create-admin":
            password = options.password
            if password is None:
                import getpass

                password = getpass.getpass("Password: ")
            print(await start.create_admin(settings, options.email, password))
        else:
            print(await start.new_api_token(settings, options.email))
    except (start.StartFailed, AppError) as error:
        print(f"✗ {error.text.render('en') if isinstance(error, AppError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
