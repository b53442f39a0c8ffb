"""What a model call costs, in US dollars.

Rates come from the configuration first, then from the price book of genai-prices, else from a ceiling: an unknown model
is never free. The book costs 19 MB of memory and half a second to load, of which a handful of lines is needed; so it is
read in a child process (``python -m services.ai.prices``), one at a time for all models that are asked for meanwhile, and its
lines are kept for a day, since prices are dated.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import structlog

from services.ai.base import NO_USAGE, Usage

log = structlog.get_logger(__name__)

PriceSource = Literal["book", "override", "ceiling"]
ROOT = Path(__file__).resolve().parent.parent.parent
BOOK_NAMES: Mapping[str, str] = {"gemini": "google", "openai": "openai", "anthropic": "anthropic"}
_Key = tuple[str, str]
"""Provider and model."""
LOOKUP_S = 20.0
WAIT_S = 3.0
KEPT = 256
UNREADABLE_REST = timedelta(minutes=1)
"""For so long a book that could not be read is not tried again."""
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens. ``cached`` and ``cache_write`` default to the price of input."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None

    def cost(self, usage: Usage) -> Decimal:
        """Price ``usage``, whose input includes what was read from and written to the cache."""
        fresh = max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0)
        total = (
            fresh * self.input
            + usage.cached_tokens * (self.input if self.cached is None else self.cached)
            + usage.cache_write_tokens * (self.input if self.cache_write is None else self.cache_write)
            + usage.output_tokens * self.output
        )
        return total / _MILLION


@dataclass(frozen=True, slots=True)
class Line:
    """The book's rates for one model: each from its number of input tokens on, for all tokens of the call."""

    steps: tuple[tuple[int, Rates], ...]

    def rates(self, input_tokens: int) -> Rates:
        """The rates that hold for a call of this size."""
        found = self.steps[0][1]
        for start, rates in self.steps[1:]:
            if input_tokens > start:
                found = rates
        return found


CEILING = Rates(Decimal(10), Decimal(50))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the book said of a model (None: nothing), until when that holds."""

    line: Line | None
    until: datetime


class PriceBook:
    """Costs of calls. ``overrides``: by model name; ``ceiling``: for models that nobody knows; ``now``: the time, in UTC."""

    def __init__(
        self,
        overrides: Mapping[str, Rates] | None = None,
        ceiling: Rates = CEILING,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._overrides, self._ceiling, self._now = dict(overrides or {}), ceiling, now
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._pending: dict[_Key, asyncio.Future[Line | None]] = {}
        self._reading: frozenset[_Key] = frozenset()

    def change(self, overrides: Mapping[str, Rates], ceiling: Rates) -> None:
        """Go by other overrides from now on."""
        self._overrides, self._ceiling = dict(overrides), ceiling

    def shown(self, provider: str, model: str) -> tuple[Rates | None, PriceSource]:
        """Return a model's rates for a small call as they are known, and where they are from; None: being looked up."""
        if (override := self._overrides.get(model)) is not None:
            return override, "override"
        kept = self._kept.get((provider, model))
        if kept is None and provider in BOOK_NAMES:
            self._look_up(provider, model)
            return None, "book"
        if kept is None or kept.line is None:
            return self._ceiling, "ceiling"
        return kept.line.rates(0), "book"

    def prefetch(self, provider: str, model: str) -> None:
        """Begin to look a model up, so that :meth:`cost` need not wait when the answer is there."""
        if model not in self._overrides and provider in BOOK_NAMES:
            self._look_up(provider, model)

    async def cost(self, provider: str, asked: str, served: str, usage: Usage) -> tuple[Decimal, PriceSource]:
        """Return the cost in USD and where its rates are from; no tokens cost nothing.

        The model that served the call is what the provider bills; a dated name of the model asked for
        (``name-2026-10-01``) goes by the asked model's override.
        """
        if usage != NO_USAGE and self._override(asked, served) is None:
            for model in dict.fromkeys((served, asked)):
                if await self._line(provider, model) is not None:
                    break
        return self.known_cost(provider, asked, served, usage)

    def known_cost(self, provider: str, asked: str, served: str, usage: Usage) -> tuple[Decimal, PriceSource]:
        """Return what :meth:`cost` does by what is known already, without looking anything up."""
        override = self._override(asked, served)
        if override is not None:
            return override.cost(usage), "override"
        if usage == NO_USAGE:
            return Decimal(0), "book"
        for model in (served, asked):
            kept = self._kept.get((provider, model))
            if kept is not None and kept.line is not None:
                return kept.line.rates(usage.input_tokens).cost(usage), "book"
        override = self._overrides.get(asked)
        return (override.cost(usage), "override") if override else (self._ceiling.cost(usage), "ceiling")

    def _override(self, asked: str, served: str) -> Rates | None:
        return self._overrides.get(served) or (self._overrides.get(asked) if served.startswith(asked) else None)

    async def _line(self, provider: str, model: str) -> Line | None:
        if provider not in BOOK_NAMES:
            return None
        pending = self._look_up(provider, model)
        kept = self._kept.get((provider, model))
        if pending is not None and (kept is None or kept.line is None):
            # Nothing serves meanwhile; yet the answer does not wait for its bill.
            await asyncio.wait([pending], timeout=WAIT_S)
            kept = self._kept.get((provider, model))
        if kept is None:
            return None
        self._kept.move_to_end((provider, model))
        return kept.line

    def _look_up(self, provider: str, model: str) -> asyncio.Future[Line | None] | None:
        """Ask the book, unless what is kept still holds."""
        key = provider, model
        kept = self._kept.get(key)
        if kept is not None and self._now() < kept.until:
            return None
        pending = self._pending.get(key)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = self._pending[key] = loop.create_future()
            pending.add_done_callback(lambda done: self._keep(key, done))
            # A page asks for many, one after the other: the child begins when all are known.
            loop.call_soon(self._read)
        return pending

    def _read(self) -> None:
        """Let a child look up all that is asked for, unless one is at it."""
        if self._reading or not self._pending:
            return
        self._reading = frozenset(self._pending)
        asked = asyncio.get_running_loop().run_in_executor(None, ask_book, sorted(self._reading))
        asked.add_done_callback(self._answer)

    def _answer(self, done: asyncio.Future[Mapping[_Key, Line | None]]) -> None:
        keys, self._reading = self._reading, frozenset()
        error = None if done.cancelled() else done.exception()
        for key in keys:
            pending = self._pending[key]
            if pending.done():
                continue
            if done.cancelled():
                pending.cancel()
            elif error is not None:
                pending.set_exception(error)
            else:
                pending.set_result(done.result()[key])
        if not done.cancelled():
            asyncio.get_running_loop().call_soon(self._read)

    def _keep(self, key: _Key, done: asyncio.Future[Line | None]) -> None:
        self._pending.pop(key, None)
        if done.cancelled():
            return
        now = self._now()
        if (error := done.exception()) is None:
            tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
            self._kept[key] = _Kept(done.result(), tomorrow)
        else:
            log.error("price_book_unreadable", provider=key[0], model=key[1], error=type(error).__name__)
            before = self._kept.get(key)
            self._kept[key] = _Kept(before.line if before else None, now + UNREADABLE_REST)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def ask_book(keys: Sequence[_Key]) -> Mapping[_Key, Line | None]:
    """Look models up in the price book, in one child process; None for one that is not there.

    Raises ``OSError``, ``subprocess.SubprocessError`` or ``ValueError`` where the book cannot be read.
    """
    asked = json.dumps([[BOOK_NAMES[provider], model] for provider, model in keys]).encode()
    command = [sys.executable, "-m", "services.ai.prices"]
    done = subprocess.run(command, input=asked, cwd=ROOT, capture_output=True, timeout=LOOKUP_S, check=True)  # noqa: S603 - our own module, no shell
    found: dict[_Key, Line | None] = {}
    for (provider, model), steps in zip(keys, json.loads(done.stdout), strict=True):
        if not steps:
            log.warning("price_unknown", provider=provider, model=model)
        line = Line(tuple((int(start), _rates(row)) for start, row in steps)) if steps else None
        found[provider, model] = line
    return found


def _rates(row: Mapping[str, str | None]) -> Rates:
    def number(name: str) -> Decimal | None:
        value = row.get(name)
        return None if value is None else Decimal(value)

    return Rates(number("input") or Decimal(0), number("output") or Decimal(0), number("cached"), number("write"))


def read_line(book_provider: str, model: str) -> list[tuple[int, dict[str, str | None]]]:
    """The present line of the book as plain data, empty if the model is not in it. Loads the book into this process."""
    from genai_prices import Usage as BookUsage
    from genai_prices import calc_price
    from genai_prices.types import TieredPrices

    try:
        found = calc_price(BookUsage(input_tokens=1), model, provider_id=book_provider).model_price
    except LookupError:
        return []
    names = {
        "input": "input_mtok",
        "output": "output_mtok",
        "cached": "cache_read_mtok",
        "write": "cache_write_mtok",
    }
    prices: dict[str, Any] = {ours: getattr(found, theirs, None) for ours, theirs in names.items()}
    if prices["input"] is None and prices["output"] is None:
        return []
    starts = {0} | {t.start for p in prices.values() if isinstance(p, TieredPrices) for t in p.tiers}

    def at(price: Any, start: int) -> str | None:
        if isinstance(price, TieredPrices):
            fitting = [tier.price for tier in price.tiers if tier.start <= start]
            price = fitting[-1] if start and fitting else price.base
        return None if price is None else str(price)

    return [(start, {name: at(price, start) for name, price in prices.items()}) for start in sorted(starts)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps([read_line(provider, model) for provider, model in json.load(sys.stdin)]))
