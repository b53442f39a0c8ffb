"""Starting and stopping the parts of the process, each with its own clean-up on the exit stack."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy import URL, select, update
from sqlalchemy.exc import DBAPIError

from db import migrate, models, vectors
from db.base import utcnow
from db.engine import Database, DatabaseUnavailable
from services import (
    accounts,
    ai,
    announcements,
    backups,
    bots,
    broadcasting,
    forum,
    health,
    http,
    languages,
    leaving,
    logs,
    notices,
    overrides,
    resets,
    seats,
    second_factor,
    telling,
    trials,
    upkeep,
)
from services.conversations import finding, joining, returning
from services.core import MODEL_GONE, Core, FactoryBot, embedding_model, free_lanes, make_core, trouble_key
from services.crypto import Crypto, Undecryptable, new_fernet_key, new_token, stored_secret
from services.errors import Invalid, Permanent, Temporary
from services.knowledge import analysis, documents, embedding
from services.letters import delivery, offering, partnering
from services.pauses import backoff_s
from services.payments import ledger, reversals
from services.polling import Receivers, factory_channel
from services.settings import Settings
from services.statistics import counting
from services.worker import Conveyor

log = structlog.get_logger(__name__)

FACTORY_RETRY_S = 15.0
SECRET_CHARS = 32


class FactoryKind(FactoryBot, Protocol):
    """The factory bot as the composition sees it."""

    def __init__(self, core: Core, token: str) -> None: ...

    async def start(self) -> None:
        """Say who it is and set its menus."""

    async def stop(self) -> None:
        """Close its connections."""


class StartFailed(Exception):
    """The process or a command cannot start; the text says why, one line a fault."""


def keys(settings: Settings) -> tuple[Crypto, str]:
    """Return the encryption and the installation's secret, made at the first start. Raises ``KeyProblem``."""
    given = settings.secrets.encryption_keys
    text = given.get_secret_value() if given else stored_secret(settings.data_dir / "encryption.keys", new_fernet_key)
    secret = settings.secrets.secret_key
    shared = (
        secret.get_secret_value() if secret else stored_secret(settings.data_dir / "secret.key", partial(new_token, 48))
    )
    logs.hide(text, *text.split(","), shared)
    return Crypto.from_text(text), shared


def folder_fault(folder: Path, error: OSError) -> str:
    """Return why the data folder cannot be used, in one line."""
    no_folder = isinstance(error, FileExistsError | NotADirectoryError)
    return f"DATA_DIR: {folder} cannot be written: {'it is a file, not a folder' if no_folder else error.strerror}"


def short_secret(settings: Settings) -> str | None:
    """Return a warning if the installation's secret was given and could be guessed."""
    secret = settings.secrets.secret_key
    if secret is None or len(secret.get_secret_value()) >= SECRET_CHARS:
        return None
    return f"SECRET_KEY is shorter than {SECRET_CHARS} characters and could be guessed: use a longer random text"


def proxy_fault(settings: Settings) -> str | None:
    """Return a warning if a proxy must be there, for it alone can speak TLS, and is not believed about who asks."""
    if settings.server.trusted_proxies or not settings.public_url.startswith("https://"):
        return None
    return (
        "[server] trusted_proxies is 0, but links begin with https://, so a proxy stands in front: all people count as one "
        "address at the limits against guessing. Set it to the number of your proxies"
    )


def role_fault(settings: Settings, role: str) -> str | None:
    """Return why this database cannot have a process of only one role: its other half could never be started beside it."""
    if role == "all" or not settings.database_url.startswith("sqlite"):
        return None
    return f"--role {role}: SQLite allows one process. Start without --role, or use PostgreSQL (DATABASE_URL)."


def admin_faults(settings: Settings) -> list[str]:
    """Return why the administrator's address or first password cannot be taken, a line each."""
    email, password = settings.secrets.admin_email, settings.secrets.admin_password
    if email is None:
        return []
    looks: dict[str, Callable[[], object]] = {"ADMIN_EMAIL": partial(accounts.clean_email, email)}
    if password is not None:
        looks["ADMIN_PASSWORD"] = partial(accounts.check_new_password, password.get_secret_value(), email=email.lower())
    faults = []
    for name, look in looks.items():
        try:
            look()
        except Invalid as fault:
            faults.append(f"{name}: {fault.text.render('en')}")
    return faults


def ignored(settings: Settings) -> list[str]:
    """Return a line for everything that is set and does nothing."""
    lines = [f"{name} is set, but nothing uses it yet" for name in settings.unused]
    if settings.secrets.admin_password is not None and settings.secrets.admin_email is None:
        lines.append("ADMIN_PASSWORD is set, but does nothing without ADMIN_EMAIL")
    conf = settings.ai
    asked = {entry.partition(":")[2] for chain in conf.roles.values() for entry in chain} | {conf.own_key.model}
    lines += [
        f'[ai.models."{name}"] does nothing: no chain has this model' for name in conf.models if name not in asked
    ]
    return lines


def hide_secrets(settings: Settings) -> None:
    """Keep every configured secret out of the logs."""
    for name in type(settings.secrets).model_fields:
        value = getattr(settings.secrets, name)
        if hasattr(value, "get_secret_value"):
            logs.hide(value.get_secret_value())


@contextlib.contextmanager
def alone(settings: Settings, url: URL) -> Iterator[upkeep.Instance]:
    """Hold this process's place in the data folder, and the file of an SQLite database for this process alone.

    Raises ``StartFailed`` where the locks cannot be made, ``InstanceTaken`` where another process has them.
    """
    single = url.get_backend_name() == "sqlite"
    try:
        instance = upkeep.Instance(settings.data_dir, single=single)
    except OSError as error:
        raise StartFailed(folder_fault(settings.data_dir, error)) from None
    with contextlib.ExitStack() as held:
        held.callback(instance.release)
        if single:
            held.callback(os.close, _locked(Path(url.database or "").resolve()))
        yield instance


def _locked(file: Path) -> int:
    """Lock SQLite's ``file`` by one beside it, for two data folders may name the same; return the lock's descriptor."""
    place = file.with_name(f"{file.name}-lock")
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartFailed(f"DATABASE_URL: {place} cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise upkeep.InstanceTaken(
            f"another BotFactory runs with {file}; SQLite allows one process. Stop it, or use PostgreSQL (DATABASE_URL)."
        ) from None
    return descriptor


def _scratch(folder: Path, stack: contextlib.AsyncExitStack) -> None:
    """Let temporary files of this process come into ``folder``, without what an earlier life of it left there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()
    tempfile.tempdir = str(folder)
    stack.callback(setattr, tempfile, "tempdir", None)


async def foundation(
    settings: Settings, stack: contextlib.AsyncExitStack, *, pause: Callable[[str], Awaitable[None]] | None = None
) -> Core:
    """Lock, keys, schema, database, client session, bell and writer: what everything else stands on.

    Raises ``StartFailed``, or ``DatabaseUnavailable`` with a line that says what to do.
    """
    hide_secrets(settings)
    if faults := admin_faults(settings):
        raise StartFailed("\n✗ ".join(faults))
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(folder_fault(settings.data_dir, error)) from None
    try:
        db = Database(
            settings.database_url,
            pool_size=settings.database.pool_size,
            statement_timeout_ms=settings.database.statement_timeout_ms,
            with_vectors=settings.knowledge.embedding != "none",
        )
    except (ValueError, OSError) as error:
        raise StartFailed(f"DATABASE_URL: {error}") from None
    instance = stack.enter_context(alone(settings, db.url))
    try:
        _scratch(settings.data_dir.resolve() / "tmp" / instance.holder, stack)
    except OSError as error:
        raise StartFailed(folder_fault(settings.data_dir, error)) from None
    crypto, secret = keys(settings)
    await migrate.upgrade(settings.database_url)
    # Only now: closing folds the log back into SQLite's file, and one that cannot be used would fail once more.
    stack.push_async_callback(db.close)
    if db.dialect == "postgresql" and embedding_model(settings):
        await _have_pgvector(db)
    session = http.make_session()
    stack.push_async_callback(session.close)
    core = make_core(settings, db, crypto, secret, session, instance.holder)
    if pause is not None:
        core.pause = pause
    stack.push_async_callback(core.router.close)
    if core.redis is not None:
        stack.push_async_callback(core.redis.aclose)

    async def end_tasks() -> None:
        await core.tasks.cancel(core.time_left(5))

    stack.push_async_callback(end_tasks)
    await overrides.take_effect(core)
    core.tasks.start(overrides.follow(core), name="overrides", vital=True)
    await _check_channels(core)
    await _check_model_keys(core)
    freed = await free_lanes(core)
    if freed:
        log.info("lanes_freed", count=freed)
    writing = core.tasks.start(core.writer.run(), name="writer", vital=True)

    async def finish_writing() -> None:
        core.writer.close()
        await asyncio.wait([writing], timeout=core.time_left(10))

    stack.push_async_callback(finish_writing)
    core.tasks.start(core.bell.run(), name="bell")
    core.tasks.start(core.backlog.run(core), name="backlog", vital=True)
    core.tasks.start(_follow_channels(core), name="cards")
    core.tasks.start(announcements.follow(core), name="banners", vital=True)
    stack.callback(logs.listen(core.errors.take))
    core.tasks.start(core.errors.run(core), name="errors", vital=True)
    async with db.write() as unit:
        await accounts.ensure_admin(unit, settings)
    return core


async def _have_pgvector(db: Database) -> None:
    """Install pgvector, so that PostgreSQL compares vectors itself; where it refuses, the program compares them."""
    try:
        async with db.write() as session:
            await vectors.create_extension(session)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        log.warning(
            "pgvector_not_installed", reason=reason, help="CREATE EXTENSION vector, as a database administrator"
        )


async def _check_channels(core: Core) -> None:
    """Say when channels' secrets cannot be read with the keys that are there, or can be again; the rest runs on."""
    async with core.db.read() as session:
        rows = (
            await session.execute(
                select(models.Channel.id, models.Channel.credentials, models.Channel.status).where(
                    models.Channel.credentials.is_not(None),
                    models.Channel.status.in_(("active", "conflict", "unreadable")),
                )
            )
        ).all()
    for channel_id, credentials, status in rows:
        try:
            core.crypto.decrypt(str(credentials))
            if status == "unreadable":
                await core.channel_recovered(channel_id)
        except Undecryptable:
            if status == "unreadable":
                continue
            log.error("credentials_unreadable", channel=channel_id, help="put the old key back into ENCRYPTION_KEYS")
            await core.channel_failed(channel_id, "unreadable", "the token cannot be decrypted")


async def _check_model_keys(core: Core) -> None:
    """The same for owners' own model keys; and what was said of models that are not asked any more is over."""
    bot, notice = models.Bot, models.Notice
    async with core.db.read() as session:
        rows = await session.execute(
            select(bot.id, bot.owner_id, bot.name, bot.openai_key).where(
                bot.openai_key.is_not(None), bot.deleted_at.is_(None)
            )
        )
        lost = {trouble_key("openai", row.id): row for row in rows if not core.crypto.opens(row.openai_key)}
        said = (
            await session.execute(
                select(notice.id, notice.key, notice.kind, notice.params).where(
                    notice.kind.in_(("key_unreadable", *MODEL_GONE)), notice.resolved_at.is_(None)
                )
            )
        ).all()
    conf = core.settings.ai
    used = [entry for role in (conf.role, "transcribe", "vision") for entry in conf.roles.get(role, ())]
    asked = {entry.partition(":")[2] for entry in used} | {conf.own_key.model}
    if core.embedder is not None:
        asked.add(core.embedder.model)
    over = [row.id for row in said if row.kind in MODEL_GONE and row.params["model"] not in asked]
    readable = {row.key for row in said if row.kind == "key_unreadable" and row.key not in lost}
    if not (lost or over or readable):
        return
    async with core.db.write() as session:
        for key, row in lost.items():
            log.error("owner_key_unreadable", bot=row.id, help="put the old key back into ENCRYPTION_KEYS")
            params = {"bot": row.name, "provider": ai.NAMES["openai"]}
            await notices.open_notice(session, row.owner_id, "key_unreadable", key=key, bot_id=row.id, params=params)
        for key in sorted(readable):
            await notices.solve(session, key)
        await session.execute(update(notice).where(notice.id.in_(over)).values(resolved_at=utcnow()))


async def _follow_channels(core: Core) -> None:
    async with core.bell.listen("channels", limit=1) as bell:
        while True:
            await bell.get()
            core.cards.clear()


async def workers(core: Core, stack: contextlib.AsyncExitStack) -> None:
    """Start the conveyor, the job handlers, the scheduler and the notices."""
    core.job_handlers |= {
        documents.INDEX_JOB: partial(documents.index_document, core),
        documents.PURGE_JOB: partial(documents.purge_documents, core),
        bots.PURGE_JOB: partial(bots.purge_bot, core),
        bots.RELEASE_JOB: partial(bots.release_channel, core),
        embedding.EMBED_JOB: partial(embedding.embed_missing, core),
        upkeep.CLEAN_UP_JOB: partial(upkeep.clean_up, core),
        forum.CORRECT_JOB: partial(forum.correct, core),
        joining.CLOSE_TOPIC_JOB: partial(forum.close_topic, core),
        trials.RUN_JOB: partial(trials.run_questions, core),
        health.CHECK_JOB: partial(health.check_due, core),
        ledger.EXPIRE_JOB: partial(ledger.expire_due, core),
        ledger.REVERSE_JOB: partial(reversals.reverse_click, core),
        offering.REMIND_JOB: partial(offering.remind, core),
        partnering.TELL_JOB: partial(partnering.tell, core),
        leaving.DELETE_JOB: partial(leaving.delete_due, core),
        counting.COUNT_JOB: partial(counting.count_due, core),
        resets.RESET_JOB: partial(resets.write_reset, core),
        backups.BACKUP_JOB: partial(backups.run_job, core),
        announcements.SEND_JOB: partial(announcements.run_job, core),
    }
    core.job_abandoners |= {documents.INDEX_JOB: partial(documents.abandon, core)}
    core.job_abandoners |= {trials.RUN_JOB: partial(trials.abandon, core)}
    await asyncio.to_thread(_warm_up)
    conveyor = Conveyor(core)
    core.wake_inbox = conveyor.inbox.wake_for_new
    conveyor.start()

    async def drain() -> None:
        await conveyor.drain(core.time_left(core.settings.server.shutdown_timeout_s * 0.7))

    stack.push_async_callback(drain)
    scheduler = upkeep.make_scheduler(core)
    scheduler.start()
    stack.callback(scheduler.shutdown, wait=False)
    await upkeep.enqueue_due(core, upkeep.CLEAN_UP_JOB)
    await upkeep.enqueue_due(core, ledger.EXPIRE_JOB)
    await upkeep.enqueue_due(core, offering.REMIND_JOB)
    await upkeep.enqueue_due(core, partnering.TELL_JOB)
    if await counting.is_behind(core.db, core.now()):
        await upkeep.enqueue_due(core, counting.COUNT_JOB)
    await embedding.enqueue_missing(core)
    core.tasks.start(upkeep.tell_owners(core), name="notices", vital=True)
    core.tasks.start(returning.watch(core), name="returning", vital=True)
    core.tasks.start(finding.watch(core), name="finding", vital=True)
    core.tasks.start(seats.watch(core), name="seats", vital=True)
    _letters(core, stack)
    _in_one_process(core, stack, "broadcasts", {"broadcasts:steps": partial(broadcasting.run, core)})
    _endpoints(core, stack)
    # What is alive now stays alive: the collector need not walk through it again and again. It also looks less often at what is
    # new: nearly all of it dies by counting references (about 5 % of a message’s processor time).
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)


def _in_one_process(
    core: Core,
    stack: contextlib.AsyncExitStack,
    what: str,
    works: Mapping[str, Callable[[], Coroutine[Any, Any, None]]],
    *,
    first: Callable[[], Awaitable[None]] | None = None,
    over: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run works, by the names of their tasks, in one process of the installation: in the one that leads, as long as it does.

    ``first`` is awaited before they are stopped with the process, ``over`` whenever they have been stopped.
    """

    async def take_turns() -> None:
        while True:
            await upkeep.lead(core, what)
            running = [core.tasks.start(work(), name=name, vital=True) for name, work in works.items()]
            try:
                await upkeep.keep_leading(core, what)
            finally:
                for task in running:
                    task.cancel()
                if over is not None:
                    await over()

    taking_turns = core.tasks.start(take_turns(), name=what, vital=True)

    async def stop() -> None:
        if first is not None:
            await first()
        taking_turns.cancel()
        if over is not None:
            await over()
        await upkeep.resign(core, what)

    stack.push_async_callback(stop)


async def _in_time(core: Core, stop: Coroutine[Any, Any, None], within_s: float, late: str) -> None:
    """Let a part stop, but no longer than it may take; ``late`` is logged where it takes longer."""
    try:
        async with asyncio.timeout(core.time_left(within_s)):
            await stop
    except TimeoutError:
        log.warning(late)


def _letters(core: Core, stack: contextlib.AsyncExitStack) -> None:
    """Send letters."""
    post = delivery.Post(core)

    async def finish() -> None:
        await _in_time(core, post.stop(), 10, "letter_not_finished_in_time")

    ways = {"letters:mail": post.run_mail, "letters:telegram": post.run_telegram}
    _in_one_process(core, stack, "letters", ways, first=finish)


def _endpoints(core: Core, stack: contextlib.AsyncExitStack) -> None:
    """Tell owners' own servers what happens."""
    courier = telling.Courier(core)

    async def finish() -> None:
        await _in_time(core, courier.stop(), core.settings.webhooks.timeout_s, "endpoint_not_told_in_time")

    _in_one_process(core, stack, "endpoints", {"endpoints:run": courier.run}, first=finish)


def _warm_up() -> None:
    """Load what the first question would otherwise wait for."""
    analysis.lexicon()
    languages.detect("salom")


async def factory(core: Core, import_it: Callable[[], type[FactoryKind]], stack: contextlib.AsyncExitStack) -> None:
    """Start the factory bot in the background: aiogram's import must not keep tenant bots waiting, nor must Telegram."""
    token = core.settings.secrets.telegram_bot_token
    if token is None:
        return

    made: list[FactoryKind] = []

    async def stop() -> None:
        for bot in made:
            await _in_time(core, bot.stop(), 5, "factory_not_stopped_in_time")

    # Before the workers are started: updates in hand are seen through before its connections close.
    stack.push_async_callback(stop)

    async def bring_up() -> None:
        kind = await asyncio.to_thread(import_it)
        failures = 0
        while True:
            try:
                identity = await core.telegram.get_me(token.get_secret_value())
                await factory_channel(core, identity)
                if not made:
                    made.append(kind(core, token.get_secret_value()))
                await made[0].start()
                break
            except (Temporary, DatabaseUnavailable) as error:
                failures += 1
                log.warning("factory_not_started", reason=str(error))
                wait = error.retry_after_s if isinstance(error, Temporary) else None
                await asyncio.sleep(wait or backoff_s(failures, most=FACTORY_RETRY_S))
            except Permanent as error:
                log.error("factory_token_refused", reason=str(error), help="check TELEGRAM_BOT_TOKEN")
                return
        core.factory, core.factory_username = made[0], str(identity.get("username") or "")
        core.bell.ring("channels")
        core.bell.ring("letters")
        log.info("factory_started", username=core.factory_username)

    core.tasks.start(bring_up(), name="factory")


async def receivers(core: Core, stack: contextlib.AsyncExitStack) -> None:
    """Receive from Telegram in one process of the installation."""
    group = Receivers(core, core.telegram)

    async def follow() -> None:
        async with core.bell.listen("channels", limit=1) as bell:
            while True:
                await bell.get()
                group.wake()

    if core.settings.secrets.telegram_bot_token is not None:
        _in_one_process(core, stack, "forum", {"forum:topics": partial(forum.run, core)})
    _in_one_process(core, stack, "telegram", {"receivers": group.run}, over=group.stop)
    core.tasks.start(follow(), name="bell:channels", vital=True)


async def announce(core: Core) -> None:
    """Print where the panel is; while the administrator needs it to get in, also a one-time link and its QR code."""
    settings = core.settings
    out = sys.stdout
    out.write(f"\nBotFactory: {settings.public_url}\n")
    if settings.secrets.telegram_bot_token is None:
        out.write("  – TELEGRAM_BOT_TOKEN is not set: owners use the panel, not Telegram\n")
    for kind, name in ai.NAMES.items():
        if settings.model_key(kind) is None:
            out.write(f"  – {kind.upper()}_API_KEY is not set: {name} does not answer\n")
    if not core.has_models({}):
        out.write("  – without a model key, answers are quoted passages of the documents\n")
    for line in (short_secret(settings), proxy_fault(settings), *ignored(settings)):
        if line is not None:
            out.write(f"  – {line}\n")
    async with core.db.write() as session:
        admin = await accounts.ensure_admin(session, settings)
        until = None
        if not accounts.has_own_way_in(admin, with_telegram=settings.secrets.telegram_bot_token is not None):
            until = "you have set a password in the settings"
        elif await accounts.never_signed_in(session, admin):
            until = "you have signed in"
        token = await accounts.login_link(session, admin) if until else ""
    if token:
        import segno

        link = f"{settings.public_url}/login/link?token={token}"
        out.write(
            "\nSign in as administrator (once, within 10 minutes; "
            f"every start prints a new link until {until}):\n{link}\n"
        )
        if out.isatty():
            segno.make(link, error="l").terminal(out=out, compact=True)
    out.write("\n")
    out.flush()


# Commands beside the running process


async def _with_database(settings: Settings, work: Callable[[Any], Awaitable[str]]) -> str:
    try:
        await migrate.upgrade(settings.database_url)
    except ValueError as error:
        raise StartFailed(f"DATABASE_URL: {error}") from None
    db = Database(settings.database_url, pool_size=2)
    try:
        async with db.write() as session:
            return await work(session)
    finally:
        await db.close()


async def create_admin(settings: Settings, email: str, password: str) -> str:
    """Make an administrator with a password, or make an existing account one; return a line to print."""
    faults = []
    for look in (partial(accounts.clean_email, email), partial(accounts.check_new_password, password, email=email)):
        try:
            look()
        except Invalid as fault:
            faults.append(fault.text.render("en"))
    if faults:
        raise StartFailed("\n✗ ".join(faults))
    hashed = await accounts.hash_password(password)

    async def work(session: Any) -> str:
        user = await accounts.by_email(session, email)
        if user is None:
            user = await accounts.register_owner(session, email=email, password_hash=hashed)
        else:
            if user.role != "admin" and user.email_confirmed_at is None:
                await accounts.evict(session, user)
            await accounts.set_password(session, user, hashed)
            # Whoever can type this has the machine: the way back in where the phone and the recovery codes are lost.
            await second_factor.turn_off(session, user)
        user.role = "admin"
        return f"{user.email} is an administrator"

    return await _with_database(settings, work)


async def new_api_token(settings: Settings, email: str) -> str:
    """Make an API token for the account with this e-mail and return it."""

    async def work(session: Any) -> str:
        user = await accounts.by_email(session, email)
        if user is None:
            raise StartFailed(f"there is no account with the e-mail {email}")
        _, plain = await accounts.new_api_token(session, user, "command line")
        return plain

    return await _with_database(settings, work)
