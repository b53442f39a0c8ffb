"""Our arithmetic agrees with the price book's own."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from genai_prices import Usage as BookUsage
from genai_prices import calc_price

from services.ai.base import Usage
from services.ai.prices import BOOK_NAMES, PriceBook


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("gemini", "gemini-3.5-flash-lite"),
        ("gemini", "gemini-3.1-pro-preview"),
        ("openai", "gpt-6-luna"),
        ("openai", "gpt-6.1-terra"),
        ("anthropic", "claude-haiku-5-5"),
        ("anthropic", "claude-sonnet-5-5"),
    ],
)
async def test_the_same_cost_as_the_book(provider: str, model: str) -> None:
    prices = PriceBook()
    for total in (5_000, 150_000, 300_000):
        usage = Usage(total, 400, cached_tokens=4_000)
        theirs = calc_price(
            BookUsage(input_tokens=total, cache_read_tokens=4_000, output_tokens=400),
            model,
            provider_id=BOOK_NAMES[provider],
        )
        cost, source = await prices.cost(provider, model, model, usage)
        assert (cost, source) == (theirs.total_price, "book")


async def test_a_book_that_could_not_be_read_is_tried_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    prices, model, usage = PriceBook(now=lambda: now), "gpt-6-luna", Usage(5_000, 400)

    async def source() -> str:
        return (await prices.cost("openai", model, model, usage))[1]

    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent/python")
        assert await source() == "ceiling"
    assert await source() == "ceiling"
    now += timedelta(seconds=61)
    assert await source() == "book"
    # The next day a line is read anew; until that has worked, the old one serves.
    now += timedelta(days=1)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent/python")
        assert await source() == "book"
    assert prices.known_cost("openai", model, model, usage)[1] == "book"


async def test_a_model_that_is_not_in_the_book_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    prices, usage = PriceBook(), Usage(5_000, 400)
    assert (await prices.cost("openai", "nobody-knows-1", "nobody-knows-1", usage))[1] == "ceiling"
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert (await prices.cost("openai", "nobody-knows-1", "nobody-knows-1", usage))[1] == "ceiling"


async def test_models_that_are_asked_for_together_are_looked_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page shows all of them: the book is loaded once."""
    starts, python = tmp_path / "starts", tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho >> "{starts}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    prices = PriceBook()
    models = [("gemini", "gemini-3.5-flash-lite"), ("openai", "gpt-6-luna"), ("openai", "nobody-knows-1")]
    assert {prices.shown(*each) for each in models} == {(None, "book")}
    assert (await prices.cost("openai", "gpt-6-luna", "gpt-6-luna", Usage(5_000, 400)))[1] == "book"
    assert [prices.shown(*each)[1] for each in models] == ["book", "book", "ceiling"]
    assert len(starts.read_text().splitlines()) == 1
