"""Measure the product on this machine: ``make bench``, or ``python -m bench [--quick] [--json FILE]``.

Throughput, processor time and latency by webhook, memory, start, a thousand polled bots; beside them, in the same run and
under the same load, the reference bots of ``bench/references``. What is measured and how: ``bench/README.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bench.load import Models, Result, Telegram, telegram
from bench.product import NotMeasurable, Product, Program
from bench.telegram import FACTORY_TOKEN
from services.settings import ROOT
from tests.fakes.telegram_load import token_of
from tests.servers import free_port

MODEL_MS = 800
RATE = 80.0
CHATS = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything takes, in seconds; ``windows`` of ``steady_s`` each; ``bots`` carry the load, ``polled`` are polled."""

    warm_s: float = 4.0
    busy_s: float = 12.0
    steady_s: float = 10.0
    windows: int = 6
    idle_s: float = 20.0
    bots: int = 20
    polled: int = 1000


QUICK = Plan(warm_s=1.5, busy_s=4.0, steady_s=6.0, windows=1, idle_s=5.0, bots=10, polled=200)


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the ordinary rate; ``stolen``: the share of the processors that other guests of the host took."""

    result: Result
    stolen: float

    @property
    def p50(self) -> float:
        """Added latency, ms."""
        return round(self.result.p50 - MODEL_MS, 1)

    @property
    def p99(self) -> float:
        """Added latency, ms."""
        return round(self.result.p99 - MODEL_MS, 1)

    def __str__(self) -> str:
        return f"added p50 {self.p50} ms, p99 {self.p99} ms, {self.stolen:.1%} taken"


class Bench:
    """One run. ``found`` gathers the numbers by section."""

    def __init__(self, plan: Plan, folder: Path, session: aiohttp.ClientSession) -> None:
        self.plan, self.folder, self.session = plan, folder, session
        self.found: dict[str, dict[str, Any]] = {}

    def note(self, section: str, **numbers: Any) -> None:
        """Keep numbers and show that the run goes on."""
        self.found.setdefault(section, {}).update(numbers)
        shown = ", ".join(f"{name} {value}" for name, value in numbers.items() if not isinstance(value, dict | list))
        print(f"  {section}: {shown}", file=sys.stderr, flush=True) if shown else None

    async def by_webhook(self) -> None:
        """The product with webhooks: start, idle, at an ordinary rate with a slow model, and as fast as it goes.

        In this order: who has just used all it may of a rented machine is given less of it for a minute.
        """
        plan, models = self.plan, Models()
        with telegram(plan.bots, self.session) as api, ExitStack() as stack:
            product = Product(
                self.folder / "webhook", telegram_url=api.url, openai_url=models.url, factory_token=FACTORY_TOKEN
            )
            await product.prepare([token_of(number) for number in range(plan.bots)])
            with models.running(0):
                # A customer wrote while the program was down: the answer shows that everything works.
                first = asyncio.create_task(api.drive(total=1, chats=1, seconds=60, drain_s=60))
                program = product.start()
                stack.callback(program.stop)
                answer = await first
                if not answer.answered:
                    raise NotMeasurable(f"the first message was not answered:\n{program.last_lines()}")
                self.note("product", first_answer_s=round(answer.p50 / 1000, 2))
                await api.ready(program)
                await asyncio.sleep(3)
                self.note("product", idle_rss_mb=round(program.rss_mb(), 1))
            with models.running(MODEL_MS):
                await self._steady("product", api, program)
            with models.running(0):
                await self._busy("product", api, program)
            self.note("product", loaded_rss_mb=round(program.rss_mb(), 1), exit_status=program.stop())

    async def by_polling(self) -> None:
        """Many idle bots by polling, then one message to each."""
        plan, models = self.plan, Models()
        with telegram(plan.polled, self.session) as api, models.running(0), ExitStack() as stack:
            product = Product(
                self.folder / "polling",
                telegram_url=api.url,
                openai_url=models.url,
                webhooks=False,
                factory_token=FACTORY_TOKEN,
            )
            await product.prepare([token_of(number) for number in range(plan.polled)])
            program = product.start()
            stack.callback(program.stop)
            await api.ready(program, 120)
            receiving_s = time.monotonic() - program.started
            await _quiet(api)
            before, begun = program.cpu_s(), time.monotonic()
            await asyncio.sleep(plan.idle_s)
            cores = (program.cpu_s() - before) / (time.monotonic() - begun)
            idle = program.rss_mb()
            all_of_them = await api.drive(program, total=plan.polled, chats=plan.polled, seconds=60, drain_s=60)
            self.note(
                "polling",
                bots=plan.polled,
                all_receiving_s=round(receiving_s, 1),
                idle_rss_mb=round(idle, 1),
                idle_cores=round(cores, 3),
                answered=all_of_them.answered,
                answered_rss_mb=round(all_of_them.rss_mb, 1),
            )

    async def reference(self, name: str) -> None:
        """A reference bot under the product's loads."""
        models, port = Models(), free_port()
        with telegram(1, self.session) as api, ExitStack() as stack:
            command = [sys.executable, "-m", f"bench.references.{name}", "--port", str(port), "--token", token_of(0)]
            command += ["--api", api.url, "--openai", f"{models.url}/v1"]
            with models.running(0):
                first = asyncio.create_task(api.drive(total=1, chats=1, seconds=60, drain_s=60))
                program = Program(command, {}, self.folder / f"{name}.log")
                stack.callback(program.kill)
                answer = await first
                if not answer.answered:
                    raise NotMeasurable(f"{name} did not answer:\n{program.last_lines()}")
                await asyncio.sleep(2)
                self.note(name, first_answer_s=round(answer.p50 / 1000, 2), idle_rss_mb=round(program.rss_mb(), 1))
            with models.running(MODEL_MS):
                await self._steady(name, api, program)
            with models.running(0):
                await self._busy(name, api, program)
            self.note(name, loaded_rss_mb=round(program.rss_mb(), 1))

    async def _busy(self, section: str, api: Telegram, program: Program) -> None:
        """Every chat writes again as soon as it is answered; the model answers at once."""
        await api.drive(program, seconds=self.plan.warm_s, chats=CHATS)
        result = await api.drive(program, seconds=self.plan.busy_s, chats=CHATS)
        _complete(section, result)
        self.note(section, answered_per_s=result.per_s, cpu_ms=round(result.cpu_ms, 2), busy=result.json())

    async def _steady(self, section: str, api: Telegram, program: Program) -> None:
        """An ordinary rate and a model that takes its time: what is added to the model's own latency.

        Of several windows the one counts in which other guests of the host took the least; all are shown and kept.
        """
        await api.drive(program, seconds=self.plan.warm_s, chats=CHATS, rate=RATE)
        windows = [await self._window(section, api, program) for _ in range(self.plan.windows)]
        for window in windows:
            print(f"  {section}: {window}", file=sys.stderr, flush=True)
        best = min(windows, key=lambda window: window.stolen)
        self.note(
            section,
            added_p50_ms=best.p50,
            added_p99_ms=best.p99,
            steady_cpu_ms=round(best.result.cpu_ms, 2),
            stolen=best.stolen,
            steady=[{"stolen": window.stolen, **window.result.json()} for window in windows],
        )

    async def _window(self, section: str, api: Telegram, program: Program) -> Window:
        before = psutil.cpu_times()
        result = await api.drive(program, seconds=self.plan.steady_s, chats=CHATS, rate=RATE)
        _complete(section, result)
        return Window(result, round(_stolen(before, psutil.cpu_times()), 3))


async def _quiet(api: Telegram, timeout_s: float = 120) -> None:
    """Wait until a new bot's command menus are set, which happens once: for two seconds nothing but polls.

    Raises :class:`NotMeasurable`.
    """
    ends, seen, since = time.monotonic() + timeout_s, -1, time.monotonic()
    while time.monotonic() - since < 2:
        if time.monotonic() > ends:
            raise NotMeasurable("the bots do not come to rest")
        calls = (await api.stats())["calls"]
        count = sum(calls.values()) - calls.get("getUpdates", 0)
        if count != seen:
            seen, since = count, time.monotonic()
        await asyncio.sleep(0.2)


def _stolen(before: Any, after: Any) -> float:
    """Return the share of the processors' time that other guests of the same host took (0 where the system does not tell)."""
    spent = sum(after) - sum(before)
    return float((getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)) / spent) if spent else 0.0


def _complete(section: str, result: Result) -> None:
    if result.answered != result.sent:
        raise NotMeasurable(f"{section}: {result.sent - result.answered} of {result.sent} messages were not answered")


ROWS: tuple[tuple[str, str, str], ...] = (
    ("answered_per_s", "answered messages/s, model 0 ms", "{:.0f}"),
    ("cpu_ms", "CPU ms per answered message, so loaded", "{:.2f}"),
    ("steady_cpu_ms", f"CPU ms per message at {RATE:.0f}/s, model {MODEL_MS} ms", "{:.2f}"),
    ("stolen", "of that time taken by other guests of the host", "{:.1%}"),
    ("added_p50_ms", "added latency p50, ms", "{:.1f}"),
    ("added_p99_ms", "added latency p99, ms", "{:.1f}"),
    ("first_answer_s", "start to first answer, s", "{:.2f}"),
    ("idle_rss_mb", "RSS idle, MB", "{:.0f}"),
    ("loaded_rss_mb", "RSS loaded, MB", "{:.0f}"),
)
COLUMNS = (("product", "BotFactory"), ("plain_aiogram", "plain aiogram"), ("bare", "bare aiohttp"))


def goals(found: dict[str, dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return what is to be reached, each with whether it was."""
    product, polling = found.get("product", {}), found.get("polling", {})
    aiogram = found.get("plain_aiogram", {})
    lines: list[tuple[str, bool]] = []

    def check(text: str, numbers: dict[str, Any], name: str, holds: Callable[[float], bool]) -> None:
        if name in numbers:
            lines.append((text.format(numbers[name]), holds(numbers[name])))

    if "cpu_ms" in product and "cpu_ms" in aiogram:
        share = product["cpu_ms"] / aiogram["cpu_ms"]
        lines.append((f"CPU per message {share:.2f} × the plain aiogram bot's, at most 1.0 (aim: 0.5)", share <= 1.0))
    check("added latency p50 {:.1f} ms, at most 15", product, "added_p50_ms", lambda n: n <= 15)
    check("added latency p99 {:.1f} ms, at most 100", product, "added_p99_ms", lambda n: n <= 100)
    check("idle RSS {:.0f} MB, at most 260", product, "idle_rss_mb", lambda n: n <= 260)
    check("first answer {:.2f} s after the start, at most 6", product, "first_answer_s", lambda n: n <= 6)
    if polling:
        every = polling["answered"] == polling["bots"]
        lines.append((f"{polling['answered']} of {polling['bots']} polled bots answered", every))
    check("RSS {:.0f} MB after that, at most 320", polling, "answered_rss_mb", lambda n: n <= 320)
    check("{:.3f} cores while they idle, at most 0.1", polling, "idle_cores", lambda n: n <= 0.1)
    return lines


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the result for people."""
    lines = [f"{'':50}" + "".join(f"{title:>16}" for _, title in COLUMNS)]
    for name, title, form in ROWS:
        cells = [form.format(found[key][name]) if name in found.get(key, {}) else "-" for key, _ in COLUMNS]
        lines.append(f"{title:50}" + "".join(f"{cell:>16}" for cell in cells))
    if polling := found.get("polling"):
        lines.append(
            f"\n{polling['bots']} bots by polling: all receive after {polling['all_receiving_s']:.1f} s, idle "
            f"{polling['idle_cores']:.3f} cores and {polling['idle_rss_mb']:.0f} MB; {polling['answered']} answered, then "
            f"{polling['answered_rss_mb']:.0f} MB"
        )
    lines.append("")
    lines += [f"{'✓' if reached else '✗'} {text}" for text, reached in goals(found)]
    return "\n".join(lines)


async def run(plan: Plan, parts: list[str]) -> dict[str, dict[str, Any]]:
    """Measure ``parts`` and return the numbers."""
    (ROOT / "data").mkdir(exist_ok=True)
    # Beside the product's own data: the disk that counts, not a temporary folder that may be memory.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "data") as folder:
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            bench = Bench(plan, Path(folder), session)
            for part in parts:
                if part == "webhook":
                    await bench.by_webhook()
                elif part == "polling":
                    await bench.by_polling()
                else:
                    await bench.reference(part)
            return bench.found


PARTS = ("webhook", "plain_aiogram", "bare", "polling")


def main() -> int:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the product on this machine.")
    parser.add_argument("--quick", action="store_true", help="a minute, with rougher numbers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    given = parser.parse_args()
    try:
        found = asyncio.run(run(QUICK if given.quick else Plan(), given.only or list(PARTS)))
    except NotMeasurable as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
