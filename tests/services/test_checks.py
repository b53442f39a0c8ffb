"""``check`` tries every key that is set, with the models that would be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services import checks
from tests.composition import make_settings
from tests.fakes.models import FakeModels
from tests.servers import free_port

CHAIN = ["gemini:gemini-3.5-flash-lite"]


@pytest.fixture
async def models() -> AsyncIterator[FakeModels]:
    fake = FakeModels()
    await fake.start()
    yield fake
    await fake.stop()


async def _said(folder: Path, capsys: pytest.CaptureFixture[str], embedding: str, **environment: str) -> list[str]:
    overrides: dict[str, dict[str, Any]] = {
        "knowledge": {"embedding": embedding},
        "ai": {"roles": {"fast": CHAIN, "strong": ["anthropic:claude-opus-5-5"]}},
    }
    settings = make_settings(folder, environment=environment, overrides=overrides)
    # No model is needed to start.
    assert await checks.run(settings) == 0
    return [line for line in capsys.readouterr().out.splitlines() if "_API_KEY" in line]


async def test_keys_outside_the_chain_and_the_model_of_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: FakeModels
) -> None:
    addresses = {f"{kind.upper()}_BASE_URL": address for kind, address in models.base_urls.items()}
    keys = {f"{kind.upper()}_API_KEY": f"key-of-{kind}" for kind in models.base_urls}
    models.fail("key_revoked", provider="anthropic")
    said = await _said(tmp_path, capsys, "openai", **addresses, **keys)
    assert said[:4] == [
        "✓ GEMINI_API_KEY, gemini-3.5-flash-lite: answers",
        "– OPENAI_API_KEY is set, but the chain “fast” has no openai model",
        "✓ OPENAI_API_KEY, gpt-6-luna: answers",
        "– ANTHROPIC_API_KEY is set, but the chain “fast” has no anthropic model",
    ]
    assert said[4].startswith("✗ ANTHROPIC_API_KEY, claude-opus-5-5: ")
    assert said[5:] == ["✓ OPENAI_API_KEY, text-embedding-3-small: answers"]
    assert [(seen.provider, seen.kind) for seen in models.requests] == [
        ("gemini", "generate"),
        ("openai", "generate"),
        ("anthropic", "generate"),
        ("openai", "embed"),
    ]


async def test_a_search_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = await _said(tmp_path, capsys, "gemini", GEMINI_API_KEY="AIza-x", GEMINI_BASE_URL=nowhere)
    tried = [line.partition(":")[0] for line in said if line.startswith("✗")]
    assert tried == ["✗ GEMINI_API_KEY, gemini-3.5-flash-lite", "✗ GEMINI_API_KEY, gemini-embedding-001"]
