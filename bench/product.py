"""The real program for measurements: a data folder with bots that know documents, settings with room, start and stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from dotenv import dotenv_values
from sqlalchemy import insert, select

from db import migrate, models
from db.base import utcnow
from db.engine import Database
from services import accounts, bots
from services.crypto import Crypto, new_fernet_key, new_token
from services.knowledge.reading import ReadLimits, read_document
from services.settings import ROOT, read_settings
from services.text import one_line
from tests.servers import free_port

KNOWLEDGE = ROOT / "tests" / "data" / "retrieval" / "kb" / "chinor_stom"
QUESTIONS = (
    "Klinika qayerda joylashgan?",
    "Сколько стоит рентген?",
    "yakshanba kuni ishlaysizlarmi",
    "What does a dental implant cost?",
    "mashinamni qo'yishga joyingiz bormi",
    "Имплант қанча туради?",
    "Bolalarni qabul qilasizmi?",
    "С какого возраста принимаете детей?",
)
"""Every one is answered by the documents, so a model is asked each time."""

_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
ROOMY: Mapping[str, object] = {
    "limits.contact_messages_per_minute": 1_000_000,
    "limits.contact_messages_per_hour": 1_000_000,
    "limits.bot_messages_per_minute": 1_000_000,
    "limits.owner_messages_per_day": 100_000_000,
    "limits.owner_cost_usd_per_day": "1000000",
    "limits.owner_pending_messages": 1_000_000,
    "plans.trial.messages": 1_000_000_000,
    "plans.trial.bots": 10_000,
    "telegram.messages_per_second": 10_000,
    "telegram.chat_messages_per_second": 1000,
    "telegram.chat_burst": 1000,
}
"""The product's limits for one customer, bot and owner would cap a load that stands for thousands of them."""

# What the product would still take from .env, since here these names are not set.
_FOREIGN = ("REDIS_URL", "WEBHOOK_BASE_URL", "GEMINI_API_KEY", "ANTHROPIC_API_KEY")


class NotMeasurable(Exception):
    """A measurement cannot be made; the text says why in one line."""


def config_text(changes: Mapping[str, object]) -> str:
    """Return ``config.toml`` with ``section.key`` replaced by other values."""
    section, lines, left = "", [], dict(changes)
    for line in (ROOT / "config.toml").read_text("utf-8").splitlines():
        if header := re.match(r"\[(.+)]", line):
            section = header[1]
        key = re.match(r"(\w+) = ", line)
        if key and (name := f"{section}.{key[1]}") in left:
            line = f"{key[1]} = {json.dumps(left.pop(name))}"
        lines.append(line)
    if left:
        raise NotMeasurable(f"config.toml has no {', '.join(sorted(left))}")
    return "\n".join(lines) + "\n"


class Program:
    """A child process that is measured: its processor time, memory and open files."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={**keep, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.started = time.monotonic()
        self._watch = psutil.Process(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def cpu_s(self) -> float:
        """Processor seconds so far, user and system, all threads."""
        times = self._watch.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory in MB."""
        return float(self._watch.memory_info().rss / 1e6)

    def handles(self) -> int:
        """Open file descriptors."""
        return int(self._watch.num_fds())

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 40.0) -> int:
        """Ask it to end, wait, and return its exit status; it is killed when it does not."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def last_lines(self, count: int = 15) -> str:
        """Return the end of what it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class Product:
    """One installation of BotFactory in ``folder``, prepared without its process and then started as people do."""

    def __init__(
        self,
        folder: Path,
        *,
        telegram_url: str,
        openai_url: str,
        webhooks: bool = True,
        factory_token: str | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        changes: Mapping[str, object] | None = None,
    ) -> None:
        given = dotenv_values(ROOT / ".env") if (ROOT / ".env").exists() else {}
        if foreign := [name for name in _FOREIGN if given.get(name)]:
            raise NotMeasurable(
                f".env sets {', '.join(foreign)}: move it away, this measures an installation of its own"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.config = folder / "config.toml"
        self.config.write_text(config_text({**ROOMY, **(changes or {})}))
        self.database_url = database_url or f"sqlite:///{folder / 'botfactory.db'}"
        self.environment = {
            "DATA_DIR": str(folder),
            "DATABASE_URL": self.database_url,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "TELEGRAM_API_BASE": telegram_url,
            "OPENAI_BASE_URL": f"{openai_url}/v1",
            "OPENAI_API_KEY": "sk-measurement-0000000000000000",
            "ENCRYPTION_KEYS": new_fernet_key(),
            "SECRET_KEY": new_token(48),
            "LOG_FORMAT": "json",
            **({"WEBHOOK_BASE_URL": f"http://127.0.0.1:{self.port}"} if webhooks else {}),
            **({"TELEGRAM_BOT_TOKEN": factory_token} if factory_token else {}),
            **({"REDIS_URL": redis_url} if redis_url else {}),
        }

    async def prepare(self, tokens: Sequence[str], folder: Path = KNOWLEDGE) -> list[str]:
        """Make an owner, a bot that knows the documents of ``folder``, and its channel for each token; return the bots' ids.

        The documents are read once; every bot gets its own passages.
        """
        settings = read_settings(self.config, environment=self.environment, env_file=None)
        crypto = Crypto.from_text(self.environment["ENCRYPTION_KEYS"])
        await migrate.upgrade(settings.database_url)
        read = [
            (file, await read_document(file.name, file.read_bytes(), limits=ReadLimits()))
            for file in sorted(folder.iterdir())
        ]
        db = Database(settings.database_url)
        made: list[str] = []
        try:
            for number, token in enumerate(tokens):
                async with db.write() as session:
                    owner = await accounts.register_owner(session, email=f"owner{number}@example.uz", full_name="Owner")
                    bot = await bots.create(session, owner, f"Klinika {number}", limits=settings.limits)
                    telegram_id = int(token.partition(":")[0])
                    identity = {
                        "id": telegram_id,
                        "is_bot": True,
                        "first_name": bot.name,
                        "username": f"test{telegram_id}_bot",
                    }
                    await bots.connect_telegram(session, bot, identity=identity, token=token, crypto=crypto)
                    for file, passages in read:
                        document = models.Document(
                            bot_id=bot.id,
                            name=file.name,
                            kind=file.suffix[1:],
                            status="ready",
                            progress=100,
                            serving=True,
                            chunk_count=len(passages),
                            size=file.stat().st_size,
                            created_at=utcnow(),
                        )
                        session.add(document)
                        await session.flush()
                        rows: list[dict[str, Any]] = [
                            {
                                "bot_id": bot.id,
                                "document_id": document.id,
                                "position": position,
                                "heading": one_line(passage.heading, 500),
                                "locus": passage.locus[:64],
                                "text": passage.text,
                                "stems": passage.stems,
                                "grams": passage.grams,
                            }
                            for position, passage in enumerate(passages)
                        ]
                        await session.execute(insert(models.Chunk), rows)
                    bot.knowledge_version = 1
                    made.append(bot.id)
        finally:
            await db.close()
        return made

    @property
    def address(self) -> str:
        """The address of its web server."""
        return f"http://127.0.0.1:{self.port}"

    async def api_tokens(self, bot_ids: Sequence[str]) -> list[str]:
        """Make an API token of each bot's owner."""
        db = Database(self.database_url)
        made: list[str] = []
        try:
            async with db.write() as session:
                for bot_id in bot_ids:
                    owner = await session.scalar(
                        select(models.User)
                        .join(models.Bot, models.Bot.owner_id == models.User.id)
                        .where(models.Bot.id == bot_id)
                    )
                    assert owner is not None
                    made.append((await accounts.new_api_token(session, owner, "measurement"))[1])
        finally:
            await db.close()
        return made

    def start(self, role: str = "all") -> Program:
        """Start the program."""
        command = [sys.executable, "bot.py", "--config", str(self.config), "run", "--role", role]
        return Program(command, self.environment, self.folder / "program.log")


async def wait_for(condition: Any, timeout_s: float, what: str, every_s: float = 0.02) -> None:
    """Ask ``condition()`` again and again until it is true. Raises :class:`NotMeasurable`."""
    ends = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends:
            raise NotMeasurable(f"{what} did not happen within {timeout_s:g} s")
        await asyncio.sleep(every_s)


async def ready(base: str) -> None:
    """Wait until the program serves pages. Raises :class:`NotMeasurable`."""
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"{base}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.2)
    raise NotMeasurable("the program did not start within a minute")


async def sign_in(session: aiohttp.ClientSession, base: str, token: str) -> None:
    """Use a one-time link up as a browser does."""
    async with session.get(f"{base}/login/link", params={"token": token}) as response:
        fields = dict(_HIDDEN.findall(await response.text()))
    async with session.post(f"{base}/login/link", data={**fields, "token": token, "next": "/dashboard"}) as response:
        response.raise_for_status()
