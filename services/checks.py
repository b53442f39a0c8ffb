"""``python bot.py check``: reads the whole configuration, tries every key and connection, says what is missing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select, text
from yarl import URL

from db import migrate, models
from db.engine import Database, DatabaseUnavailable, parse_url
from services import http, mail, payments, start
from services.ai import PROVIDERS, provider_class
from services.ai.base import Failure, GenerateRequest, Provider, Turn
from services.ai.router import ModelRow
from services.channels import instagram, whatsapp
from services.channels.meta import GraphApi
from services.channels.telegram import TelegramApi
from services.core import embedding_model, router_settings
from services.crypto import Crypto, KeyProblem, Undecryptable
from services.errors import Permanent, Temporary
from services.payments import orders
from services.settings import Settings
from services.upkeep import InstanceTaken

GOOD, MISSING, BAD = "✓", "–", "✗"
_TRY_S = 15.0


class _Report:
    def __init__(self) -> None:
        self.fatal = False

    def line(self, sign: str, what: str, *, fatal: bool = False) -> None:
        self.fatal = self.fatal or fatal
        sys.stdout.write(f"{sign} {what}\n")
        sys.stdout.flush()


async def run(settings: Settings) -> int:
    """Print one line a part; return 1 if the program cannot start with this configuration, else 0."""
    report = _Report()
    start.hide_secrets(settings)
    report.line(GOOD, "config.toml and the environment can be read")
    crypto = _data(settings, report)
    await _database(settings, report, crypto)
    await _redis(settings, report)
    session = http.make_session()
    try:
        beside = await _web(settings, report, session)
        if crypto is not None and not beside:
            _place(settings, report)
        await _telegram(settings, report, TelegramApi(session, settings.telegram.api_base))
        await _whatsapp(settings, report, GraphApi(session, settings.meta.graph_base, settings.meta.version))
        await _instagram(settings, report, GraphApi(session, settings.meta.instagram_graph_base, settings.meta.version))
        await _models(settings, report, session)
        await _mail(settings, report)
        _payments(settings, report)
    finally:
        await session.close()
    report.line(BAD if report.fatal else GOOD, "cannot start like this" if report.fatal else "can start")
    return 1 if report.fatal else 0


def _data(settings: Settings, report: _Report) -> Crypto | None:
    folder: Path = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".check"
        probe.write_bytes(b"")
        probe.unlink()
        report.line(GOOD, f"DATA_DIR: {folder} can be written")
    except OSError as error:
        report.line(BAD, start.folder_fault(folder, error), fatal=True)
        return None
    try:
        crypto, _ = start.keys(settings)
        where = "from the environment" if settings.secrets.encryption_keys else f"in {folder}"
        report.line(GOOD, f"ENCRYPTION_KEYS: {where}; without them every bot token is lost, so keep a copy")
    except KeyProblem as error:
        report.line(BAD, str(error), fatal=True)
        return None
    return crypto


async def _database(settings: Settings, report: _Report, crypto: Crypto | None) -> None:
    try:
        db = Database(settings.database_url, pool_size=2)
    except (ValueError, OSError) as error:
        # Without an address of its own the database stands in the data folder, of which all was said.
        if settings.secrets.database_url is not None or isinstance(error, ValueError):
            report.line(BAD, f"DATABASE_URL: {error}", fatal=True)
        return
    try:
        revision = await asyncio.wait_for(migrate.current(db), _TRY_S)
        needed = migrate.head()
        state = (
            "up to date"
            if revision == needed
            else f"at {revision or 'nothing'}, will be brought to {needed} at the start"
        )
        report.line(GOOD, f"DATABASE_URL: {db.dialect} answers, schema {state}")
        if revision == needed and crypto is not None:
            await _stored_secrets(crypto, report, db)
        if db.dialect == "postgresql" and embedding_model(settings):
            async with db.read() as session:
                found = await session.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'vector'"))
                there = await session.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"))
            if found:
                report.line(GOOD, "pgvector is installed")
            else:
                what = "can be installed, which the start tries" if there else "is not there for this PostgreSQL"
                report.line(MISSING, f"pgvector {what}; without it the program compares vectors itself, more slowly")
    except DatabaseUnavailable as error:
        report.line(BAD, f"DATABASE_URL: {error}", fatal=True)
    except TimeoutError:
        report.line(BAD, f"DATABASE_URL: no answer within {_TRY_S:.0f} seconds: is it busy or locked?", fatal=True)
    finally:
        # Nothing was written, so there is nothing that ``close`` would have to fold back.
        await db.engine.dispose()


async def _stored_secrets(crypto: Crypto, report: _Report, db: Database) -> None:
    for column, what in (
        (models.Channel.credentials, "stored tokens"),
        (models.Bot.openai_key, "OpenAI keys of owners"),
    ):
        async with db.read() as session:
            values = list(await session.scalars(select(column).where(column.is_not(None))))
        unreadable = 0
        for value in values:
            try:
                crypto.decrypt(str(value))
            except Undecryptable:
                unreadable += 1
        if unreadable:
            report.line(
                BAD,
                f"{unreadable} of {len(values)} {what} cannot be decrypted: put the old key into ENCRYPTION_KEYS",
            )


def _place(settings: Settings, report: _Report) -> None:
    """Say whether another process has the place of the one that would start."""
    try:
        url = parse_url(settings.database_url)
    except ValueError:
        # Said where the database was tried.
        return
    try:
        with start.alone(settings, url):
            pass
    except (start.StartFailed, InstanceTaken) as error:
        report.line(BAD, str(error), fatal=True)


async def _redis(settings: Settings, report: _Report) -> None:
    if settings.secrets.redis_url is None:
        report.line(MISSING, "REDIS_URL is not set: fine for one process")
        return
    redis = Redis.from_url(settings.secrets.redis_url.get_secret_value(), socket_timeout=5, socket_connect_timeout=5)
    try:
        await redis.echo("check")
        report.line(GOOD, "REDIS_URL: answers")
    except (RedisError, OSError) as error:
        report.line(BAD, f"REDIS_URL: does not answer ({type(error).__name__}); limits fall back to memory")
    finally:
        await redis.aclose()


async def _web(settings: Settings, report: _Report, session: aiohttp.ClientSession) -> bool:
    """Say what is there for the web; return True where this very program listens already."""
    host, port = settings.server.host, settings.server.port
    beside = False
    try:
        listening = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, reuse_address=True)
        listening.close()
        report.line(GOOD, f"PORT: can listen on {host}:{port}, links begin with {settings.public_url}")
    except OSError as error:
        beside = await _is_ours(session, host, port)
        if beside:
            report.line(MISSING, f"PORT: BotFactory listens on {host}:{port} already; stop it before you start another")
        else:
            report.line(BAD, f"PORT: cannot listen on {host}:{port}: {_said(error)}", fatal=True)
    for fault in filter(None, (start.short_secret(settings), start.proxy_fault(settings))):
        report.line(BAD, fault)
    if settings.secrets.webhook_base_url is None:
        report.line(MISSING, "WEBHOOK_BASE_URL is not set: Telegram by long polling")
    elif not settings.secrets.webhook_base_url.startswith("https://"):
        report.line(BAD, "WEBHOOK_BASE_URL: Telegram delivers to https:// addresses only")
    for line in start.admin_faults(settings):
        report.line(BAD, line, fatal=True)
    for line in start.ignored(settings):
        report.line(MISSING, line)
    if settings.secrets.admin_email is None:
        report.line(MISSING, "ADMIN_EMAIL is not set: the administrator signs in by the link printed at the start")
    return beside


def _said(error: OSError) -> str | None:
    # The event loop adds the address once more; what has no number of the system (a host's name) speaks for itself.
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror


async def _is_ours(session: aiohttp.ClientSession, host: str, port: int) -> bool:
    """Tell whether it is this program that answers there."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    address = URL.build(scheme="http", host=near, port=port, path="/healthz")
    try:
        async with session.get(address, timeout=aiohttp.ClientTimeout(total=3)) as answer:
            return answer.headers.get("Server") == "BotFactory"
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _telegram(settings: Settings, report: _Report, api: TelegramApi) -> None:
    token = settings.secrets.telegram_bot_token
    if token is None:
        report.line(MISSING, "TELEGRAM_BOT_TOKEN is not set: owners use the panel, not Telegram")
        return
    try:
        me = await api.get_me(token.get_secret_value())
        managed = "can" if me.get("can_manage_bots") else "cannot"
        report.line(GOOD, f"TELEGRAM_BOT_TOKEN: @{me.get('username')}, {managed} create bots for owners")
    except (Temporary, Permanent) as error:
        report.line(BAD, f"TELEGRAM_BOT_TOKEN: {error}")


@dataclass(frozen=True, slots=True)
class _OwnApp:
    """The keys of the installation's own Meta app for a network. ``account``: of those, what connects an account of its own;
    ``accounts``: what owners have there."""

    kind: str
    title: str
    account: tuple[str, ...]
    accounts: str


async def _whatsapp(settings: Settings, report: _Report, api: GraphApi) -> None:
    """Try the keys of the installation's own Meta app and number."""

    async def look(own: Mapping[str, str]) -> str:
        secret = settings.app_secret("whatsapp")
        shown = await whatsapp.show(api, own["access_token"], own["phone_number_id"], secret)
        return f"{shown.get('verified_name')}, {shown.get('display_phone_number')}"

    app = _OwnApp("whatsapp", "WhatsApp", ("access_token", "phone_number_id"), "numbers")
    await _own_app(settings, report, app, look)


async def _instagram(settings: Settings, report: _Report, api: GraphApi) -> None:
    """Try the keys of the installation's own Meta app and Instagram account."""

    async def look(own: Mapping[str, str]) -> str:
        return f"@{(await instagram.show(api, own['access_token'])).get('username')}"

    await _own_app(settings, report, _OwnApp("instagram", "Instagram", ("access_token",), "accounts"), look)


async def _own_app(
    settings: Settings, report: _Report, app: _OwnApp, look: Callable[[Mapping[str, str]], Awaitable[str]]
) -> None:
    """Say whether keys are there and good; half of them is none. ``look`` asks Meta whose they are."""
    prefix = app.kind.upper()
    keys, account = (
        [f"{prefix}_{name.upper()}" for name in each] for each in (("app_secret", "verify_token"), app.account)
    )
    there = {name: getattr(settings.secrets, name.lower()) is not None for name in (*keys, *account)}
    if not any(there.values()):
        report.line(MISSING, f"{keys[0]} is not set: owners connect their {app.accounts} by Meta apps of their own")
        return
    # Of an account also the app's keys are needed: without them nothing that it receives can be proved.
    needed = [*keys, *account] if any(there[name] for name in account) else keys
    if missing := [name for name in needed if not there[name]]:
        given = ", ".join(name for name in needed if there[name])
        report.line(BAD, f"half of the keys of {app.title}: {given} without {', '.join(missing)}")
        return
    own = settings.own_account(app.kind)
    if not own:
        report.line(GOOD, f"{keys[0]} and {keys[1]}: {app.accounts} can be connected through this app")
        return
    try:
        name = await asyncio.wait_for(look(own), _TRY_S)
        report.line(GOOD, f"{account[0]}: {name}; an administrator connects it on a bot’s channels page")
    except (Temporary, Permanent) as error:
        report.line(BAD, f"{account[0]}: {error}")
    except TimeoutError:
        report.line(BAD, f"{account[0]}: Meta gave no answer")


def _payments(settings: Settings, report: _Report) -> None:
    """Say by which gateways owners can pay; half of a gateway's keys is none."""
    there, owners = payments.configured(settings), orders.gateways(settings)
    for kind, title in payments.TITLES.items():
        needed = payments.NEEDED[kind]
        given = [name for name in needed if any(getattr(settings.secrets, each) for each in name)]
        missing = [" or ".join(each.upper() for each in name) for name in needed if name not in given]
        if kind in owners:
            report.line(GOOD, f"{title}: owners can pay by it")
        elif kind in there:
            report.line(
                MISSING,
                "PAYME_TEST_KEY is set without PAYME_KEY: Payme takes no money, administrators can try its sandbox",
            )
        elif given:
            report.line(BAD, f"half of the keys of {title}: {', '.join(missing)} is missing, so nobody can pay by it")
    if not there:
        report.line(MISSING, "no payment gateway is set up: administrators grant plans and note payments by hand")
    if payments.is_test_mode(settings):
        report.line(MISSING, "PAYME_TEST_KEY is set and no gateway takes money: payments of Payme's sandbox give plans")


async def _mail(settings: Settings, report: _Report) -> None:
    """Try to sign in to the mail server; nothing is sent."""
    if not mail.is_set(settings):
        report.line(MISSING, "MAIL_SERVER is not set: no letters by mail (codes, receipts, reminders), Telegram only")
        return
    try:
        server = mail.server_of(settings)
        if server is None:
            return
        connection = mail.Connection(server)
        await connection.open()
        await connection.close()
        who = f"signed in as {server.username}" if server.username else "without signing in"
        report.line(GOOD, f"MAIL_SERVER: {server.host}:{server.port} answers, {who}; letters come from {server.sender}")
    except (mail.Misconfigured, mail.NotNow) as error:
        report.line(BAD, f"MAIL_SERVER: {error}")


async def _models(settings: Settings, report: _Report, session: Any) -> None:
    chains = router_settings(settings)
    rows = [row for row in chains.roles[settings.ai.role] if row.provider in chains.keys]
    asked = {row.provider for row in rows}

    async def attempt(row: ModelRow, call: Callable[[Provider, str], Awaitable[object]]) -> None:
        name = f"{row.provider.upper()}_API_KEY, {row.name}"
        provider = provider_class(row.provider)(session, chains.base_urls.get(row.provider))
        try:
            await asyncio.wait_for(call(provider, chains.keys[row.provider]), _TRY_S * 2)
            report.line(GOOD, f"{name}: answers")
        except Failure as error:
            report.line(BAD, f"{name}: {error}")
        except TimeoutError:
            report.line(BAD, f"{name}: no answer")
        finally:
            await provider.close()

    async def generate(row: ModelRow) -> None:
        request = GenerateRequest(
            model=row.name,
            system="Answer with OK.",
            turns=[Turn("user", "OK?")],
            max_output_tokens=64,
            effort=row.effort,
            api=row.api,
        )
        await attempt(row, lambda provider, key: provider.generate(request, api_key=key))

    async def embed(row: ModelRow) -> None:
        await attempt(
            row,
            lambda provider, key: provider.embed(
                ["OK?"], model=row.name, api_key=key, task="query", dimensions=chains.embedding_dimensions
            ),
        )

    for row in rows:
        await generate(row)
    elsewhere = [*(row for chain in chains.roles.values() for row in chain), *chains.own_rows.values()]
    for kind in PROVIDERS:
        if kind not in chains.keys:
            report.line(MISSING, f"{kind.upper()}_API_KEY is not set")
        elif kind not in asked:
            report.line(
                MISSING, f"{kind.upper()}_API_KEY is set, but the chain “{settings.ai.role}” has no {kind} model"
            )
            if (other := next((row for row in elsewhere if row.provider == kind), None)) is not None:
                await generate(other)
    if chains.embedding is not None:
        await embed(chains.embedding)
    if not rows:
        report.line(MISSING, "no model can be asked: answers are quoted passages of the documents")
    if settings.knowledge.embedding != "none" and chains.embedding is None:
        report.line(
            BAD,
            f"[knowledge] embedding = {settings.knowledge.embedding!r}, but its API key is not set: search works by words",
        )
