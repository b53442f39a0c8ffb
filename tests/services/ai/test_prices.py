"""Our arithmetic agrees with the price book's own."""

from __future__ import annotations

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
