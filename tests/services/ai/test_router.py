"""The chain, its deadline, its breakers and its records, over the real adapters and the fake providers."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.ai.base import Turn
from services.ai.prices import Rates
from services.ai.router import CallRecord, KeyEvent, ModelRow, Prompt, Router, RouterResult, RouterSettings
from tests.fakes.models import FakeModels

PRICE = Rates(Decimal(1), Decimal(2), Decimal("0.1"))
GEMINI = ModelRow("gemini", "gem", price=PRICE)
OPENAI = ModelRow("openai", "gpt", price=PRICE)
CLAUDE = ModelRow("anthropic", "claude", price=PRICE)
OWN = ModelRow("openai", "own", price=PRICE)
PROMPT = Prompt("Siz botsiz", (Turn("user", "Salom"), Turn("assistant", "Salom!"), Turn("user", "Nok necha pul?")))
KEYS = {"gemini": "g-key-12345", "openai": "o-key-12345", "anthropic": "a-key-12345"}


class Clock:
    """Real time plus what a test adds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class World:
    """A router with small limits, and everything it reported."""

    def __init__(self, models: FakeModels, session: aiohttp.ClientSession, **changes: Any) -> None:
        self.clock = Clock()
        self.calls: list[CallRecord] = []
        given: dict[str, Any] = {
            "roles": {"fast": [GEMINI, OPENAI, CLAUDE]},
            "keys": KEYS,
            "base_urls": models.base_urls,
            "own_rows": {"openai": OWN},
            "embedding": ModelRow("gemini", "embedder", price=PRICE),
            "deadline_s": 5.0,
            "first_byte_s": 2.0,
            **changes,
        }
        self.router = Router(
            RouterSettings(**given),
            session,
            clock=self.clock,
            on_call=self.calls.append,
        )

    async def ask(self, **more: Any) -> RouterResult:
        return await self.router.answer(PROMPT, role="fast", **more)


@pytest.fixture
def world(models: FakeModels, session: aiohttp.ClientSession) -> Callable[..., World]:
    return lambda **changes: World(models, session, **changes)


def outcomes(result: RouterResult) -> list[tuple[str, str]]:
    return [(c.provider, c.outcome) for c in result.calls]


async def test_the_first_model_answers_and_is_recorded(world: Callable[..., World], models: FakeModels) -> None:
    models.cached_tokens = 40
    here = world()
    result = await here.ask()
    assert result.reply is not None
    assert result.reply.text == models.reply
    assert (result.provider, result.model, result.owner_key) == ("gemini", "gem", False)
    (call,) = result.calls
    assert here.calls == [call]
    assert (call.outcome, call.http_status, call.kind, call.price_source) == ("ok", 200, "generate", "override")
    assert call.cost_usd == (60 * Decimal(1) + 40 * Decimal("0.1") + 20 * Decimal(2)) / 1_000_000


@pytest.mark.parametrize("fault", ["500", "503", "cut", "cut_midway", "html", "broken_json", "empty", "huge"])
async def test_passing_trouble_is_tried_once_more(world: Callable[..., World], models: FakeModels, fault: str) -> None:
    models.fail(fault, times=1)
    result = await world().ask()
    assert result.provider == "gemini"
    assert len(result.calls) == 2


@pytest.mark.parametrize(
    ("fault", "tokens"),
    [
        *((fault, "none") for fault in ("429", "500", "503", "key_revoked", "retired", "too_long", "bad_parameter")),
        *((fault, "guessed") for fault in ("cut", "cut_midway", "silence", "html", "broken_json", "huge")),
        ("empty", "told"),
    ],
)
async def test_what_a_failed_call_is_booked_at(
    world: Callable[..., World], models: FakeModels, fault: str, tokens: str
) -> None:
    """Nothing where the provider refused; a guess where it was at work and could not tell."""
    models.fail(fault, provider="gemini")
    quick = {"deadline_s": 2.0, "first_byte_s": 0.3} if fault == "silence" else {}
    usage = (await world(**quick).ask()).calls[0].usage
    guess = sum(len(text.encode()) // 3 + 1 for text in (PROMPT.system, *(turn.text for turn in PROMPT.turns)))
    assert (usage.input_tokens, usage.output_tokens) == {"none": (0, 0), "guessed": (guess, 0), "told": (100, 20)}[
        tokens
    ]


async def test_a_connection_that_never_was_costs_nothing(world: Callable[..., World], models: FakeModels) -> None:
    here = world()
    await models.stop()
    assert {call.cost_usd for call in (await here.ask()).calls} == {0}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_call_is_in_the_list_of_who_asked(
    world: Callable[..., World], models: FakeModels, streamed: bool
) -> None:
    models.fail("500", times=1)
    models.fail("drip" if streamed else "silence")
    models.pace_s = 0.0
    here, calls, shown = world(roles={"fast": [GEMINI]}), list[CallRecord](), list[str]()
    more = {"on_delta": shown.append} if streamed else {}
    asking = asyncio.create_task(here.ask(calls=calls, **more))
    while len(models.requests) < 2 or (streamed and not shown):
        await asyncio.sleep(0.001)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert [call.outcome for call in calls] == ["transient", "cut"]
    assert calls == here.calls
    assert calls[1].usage.input_tokens > 0 and calls[1].cost_usd > 0
    assert (calls[1].usage.output_tokens > 0, calls[1].http_status) == ((True, 200) if streamed else (False, None))


async def test_who_is_cancelled_while_the_price_is_looked_up_has_the_call_in_the_list(
    world: Callable[..., World], models: FakeModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, program = tmp_path / "go", tmp_path / "python"
    program.write_text(f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.02; done\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    models.fail("500", times=1)
    here, calls, shown = (
        world(roles={"fast": [ModelRow("openai", "gpt")]}, breaker_failures=1),
        list[CallRecord](),
        list[str](),
    )
    await here.ask()
    here.clock.ahead += 31
    probe = asyncio.create_task(here.ask(calls=calls, on_delta=shown.append))
    while "".join(shown) != models.reply:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert len(calls) == 1 and calls[0].cost_usd > 0
    go.touch()
    assert outcomes(await here.ask()) == [("openai", "ok")]


@pytest.mark.parametrize("fault", ["500", "cut", "html", "broken_json", "empty", "huge", "silence", "drip", "endless"])
async def test_lasting_trouble_goes_to_the_next_model(
    world: Callable[..., World], models: FakeModels, fault: str
) -> None:
    models.fail(fault, provider="gemini")
    result = await world(deadline_s=3.0, first_byte_s=0.5).ask()
    assert result.provider == "openai"
    assert result.calls[-1].outcome == "ok"
    assert len(models.requests) == len(result.calls)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("429", "busy"),
        ("529", "busy"),
        ("insufficient_quota", "key_refused"),
        ("payment", "key_refused"),
        ("key_revoked", "key_refused"),
        ("forbidden", "key_refused"),
        ("retired", "retired"),
        ("bad_parameter", "bad_request"),
    ],
)
async def test_no_second_try_where_it_is_useless(
    world: Callable[..., World], models: FakeModels, fault: str, outcome: str
) -> None:
    models.fail(fault, provider="gemini")
    result = await world().ask()
    assert outcomes(result) == [("gemini", outcome), ("openai", "ok")]


async def test_no_model_at_all(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("503")
    result = await world(deadline_s=60.0, first_byte_s=10.0).ask()
    assert result.reply is None
    assert len(result.calls) == 6
    nobody = await world(keys={}).ask()
    assert nobody.reply is None
    assert nobody.calls == []


async def test_a_model_that_says_nothing_for_long_is_passed_over_before_the_deadline(
    world: Callable[..., World], models: FakeModels
) -> None:
    models.fail("silence", provider="gemini")
    result = await world(deadline_s=60.0, first_byte_s=0.3).ask()
    assert (result.provider, result.calls[0].provider) == ("openai", "gemini")
    assert all(call.latency_ms < 30_000 for call in result.calls)


async def test_silence_everywhere_ends_at_the_deadline(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("silence")
    here = world(deadline_s=0.6, first_byte_s=0.2)
    assert (await here.ask()).reply is None
    assert {c.provider for c in here.calls} >= {"gemini", "openai"}


async def test_a_short_named_delay_is_waited_out(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("429", times=1, retry_after=0.05)
    assert outcomes(await world().ask()) == [("gemini", "busy"), ("gemini", "ok")]


async def test_a_long_named_delay_rests_the_model(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("429", times=1, retry_after=40)
    here = world()
    assert outcomes(await here.ask()) == [("gemini", "busy"), ("openai", "ok")]
    assert outcomes(await here.ask()) == [("openai", "ok")]
    here.clock.ahead += 41
    assert outcomes(await here.ask()) == [("gemini", "ok")]


async def test_the_breaker_opens_probes_and_closes(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("500", provider="gemini")
    here = world(breaker_failures=2, breaker_rest_s=30)
    assert outcomes(await here.ask()) == [("gemini", "transient"), ("gemini", "transient"), ("openai", "ok")]
    assert outcomes(await here.ask()) == [("openai", "ok")]
    here.clock.ahead += 31
    assert outcomes(await here.ask()) == [("gemini", "transient"), ("openai", "ok")], "one probe, no second try"
    here.clock.ahead += 31
    assert outcomes(await here.ask()) == [("openai", "ok")], "twice the rest after a failed probe"
    models.heal()
    here.clock.ahead += 30
    assert outcomes(await here.ask()) == [("gemini", "ok")]
    assert outcomes(await here.ask()) == [("gemini", "ok")]


async def test_a_probe_that_is_cancelled_leaves_the_way_free(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("500", provider="gemini", times=1)
    here = world(breaker_failures=1)
    await here.ask()
    here.clock.ahead += 31
    models.fail("silence", provider="gemini", times=1)
    probe = asyncio.create_task(here.ask())
    while len(models.requests) < 3:
        await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert outcomes(await here.ask()) == [("gemini", "ok")]


async def test_only_one_call_probes(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("500", provider="gemini", times=1)
    here = world(breaker_failures=1)
    await here.ask()
    here.clock.ahead += 31
    models.latency_s = 0.02
    answered = await asyncio.gather(*(here.ask() for _ in range(5)))
    assert sorted(str(r.provider) for r in answered) == ["gemini"] + ["openai"] * 4


async def test_the_talk_begins_with_the_person(world: Callable[..., World], models: FakeModels) -> None:
    turns = (Turn("assistant", "Xush kelibsiz"), Turn("user", " "), Turn("user", "Nok bormi?"))
    await world(roles={"fast": [CLAUDE]}).router.answer(Prompt("s", turns), role="fast")
    assert models.requests[0].body["messages"] == [{"role": "user", "content": "Nok bormi?"}]


async def test_the_breaker_is_of_one_key(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("500", key="owner-one")
    here = world(breaker_failures=1, roles={"fast": [CLAUDE]})
    await here.ask(owner_keys={"openai": "owner-one"})
    assert outcomes(await here.ask(owner_keys={"openai": "owner-one"})) == [("anthropic", "ok")]
    assert outcomes(await here.ask(owner_keys={"openai": "owner-two"})) == [("openai", "ok")]


async def test_questions_alone_do_not_open_the_breaker(world: Callable[..., World], models: FakeModels) -> None:
    here = world(breaker_failures=1)
    for fault in ("empty", "bad_parameter", "too_long", "refused"):
        models.fail(fault, provider="gemini")
        await here.ask()
        models.heal()
        assert (await here.ask()).provider == "gemini"


async def test_the_owners_key_comes_first(world: Callable[..., World], models: FakeModels) -> None:
    result = await world().ask(owner_keys={"openai": "owner-key-1"})
    assert (result.provider, result.model, result.owner_key) == ("openai", "own", True)
    assert models.requests[0].key == "owner-key-1"
    assert result.calls[0].owner_key


async def test_a_refused_key_is_told_once_and_its_recovery_too(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("insufficient_quota", key="owner-key-1")
    here = world()
    owner = {"openai": "owner-key-1"}
    first = await here.ask(owner_keys=owner)
    assert outcomes(first) == [("openai", "key_refused"), ("gemini", "ok")]
    assert first.key_events == [KeyEvent("openai", True, "no_money")]
    second = await here.ask(owner_keys=owner)
    assert outcomes(second) == [("gemini", "ok")]
    here.clock.ahead += 301
    third = await here.ask(owner_keys=owner)
    assert outcomes(third) == [("openai", "key_refused"), ("gemini", "ok")]
    assert third.key_events == []
    models.heal()
    here.clock.ahead += 601
    fourth = await here.ask(owner_keys=owner)
    assert fourth.owner_key
    assert fourth.key_events == [KeyEvent("openai", True, None)]


async def test_a_retired_model_is_told_once_and_its_return_too(world: Callable[..., World], models: FakeModels) -> None:
    """Also where it had already rested for another reason."""
    models.fail("500", model="gem", times=2)
    here = world(breaker_failures=2)
    assert (await here.ask()).provider == "openai"
    models.fail("retired", model="gem")
    here.clock.ahead += 31
    events = []
    for _ in range(3):
        result = await here.ask()
        assert result.provider == "openai"
        events += result.key_events
        here.clock.ahead += 3601
    assert events == [KeyEvent("gemini", False, "retired", "gem")]
    models.heal()
    assert (await here.ask()).key_events == [KeyEvent("gemini", False, None, "gem")]


async def test_the_state_of_a_provider_follows_its_last_calls(world: Callable[..., World], models: FakeModels) -> None:
    here = world(keys={"gemini": KEYS["gemini"], "openai": KEYS["openai"]}, breaker_failures=1, embedding=None)

    def states() -> list[str]:
        return [here.router.state(provider, "fast") for provider in ("gemini", "openai", "anthropic")]

    assert states() == ["configured", "configured", "not configured"]
    models.fail("key_revoked", provider="gemini")
    models.fail("500", provider="openai")
    await here.ask()
    assert states() == ["key refused", "unavailable", "not configured"]
    # After its rest it may be asked again: what the next call meets counts.
    here.clock.ahead += 31
    assert states() == ["key refused", "configured", "not configured"]
    models.heal()
    models.fail("retired", provider="openai")
    await here.ask()
    assert states() == ["key refused", "model retired", "not configured"]
    models.heal()
    here.clock.ahead += 3601
    await here.ask()
    assert states() == ["configured", "configured", "not configured"]


async def test_a_refusal_is_not_shopped_around(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("refused", provider="gemini")
    result = await world().ask()
    assert result.refused
    assert outcomes(result) == [("gemini", "refused")]


async def test_a_prompt_too_long_is_shortened_once(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("too_long", times=1)
    result = await world().ask()
    assert outcomes(result) == [("gemini", "too_long"), ("gemini", "ok")]
    assert "Salom!" not in models.requests[1].text
    models.fail("too_long", times=1)
    prompt = Prompt("katta bilim", PROMPT.turns, shorter=lambda: Prompt("kichik bilim", PROMPT.turns))
    await world().router.answer(prompt, role="fast")
    assert "kichik bilim" in models.requests[-1].text


async def test_a_model_that_is_too_small_is_passed_over(world: Callable[..., World]) -> None:
    small = ModelRow("gemini", "gem", context_tokens=5, price=PRICE)
    result = await world(roles={"fast": [small, OPENAI]}).ask()
    assert outcomes(result) == [("openai", "ok")]


async def test_pieces_start_over_with_the_next_model(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("stream_error", provider="gemini")
    shown: list[str] = []
    result = await world().ask(on_delta=shown.append, on_restart=shown.clear)
    assert result.provider == "openai"
    assert "".join(shown) == models.reply


async def test_without_a_way_to_start_over_pieces_stop(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("stream_error", provider="gemini")
    shown: list[str] = []
    result = await world().ask(on_delta=shown.append)
    assert result.reply is not None
    assert result.reply.text == models.reply
    assert "".join(shown) != models.reply
    assert not models.requests[-1].stream


@pytest.mark.parametrize("dimensions", [768, 1536, 3072, 4096])
@pytest.mark.parametrize("kind", ["gemini", "openai"])
async def test_vectors_of_every_size_come(
    world: Callable[..., World], models: FakeModels, kind: str, dimensions: int
) -> None:
    models.dimensions, models.indented = dimensions, True
    here = world(embedding=ModelRow(kind, "embedder", price=PRICE), embedding_dimensions=dimensions)
    made = await here.router.embed([f"matn {n}" for n in range(100)], task="document")
    assert made.vectors is not None
    assert [len(vector) for vector in made.vectors] == [dimensions] * 100
    assert {call.outcome for call in made.calls} == {"ok"}


async def test_vectors_too_large_are_not_asked_for_again(world: Callable[..., World], models: FakeModels) -> None:
    """They would be as large again. The embedding job goes by this outcome."""
    models.dimensions = 4096
    made = await world(embedding_dimensions=64).router.embed([f"matn {n}" for n in range(100)], task="document")
    assert made.vectors is None
    assert [call.outcome for call in made.calls] == ["too_long"]
    assert made.calls[0].cost_usd > 0


async def test_embeddings_in_groups(world: Callable[..., World], models: FakeModels) -> None:
    here = world(embedding_dimensions=64)
    made = await here.router.embed([f"matn {n}" for n in range(150)], task="document")
    assert made.vectors is not None
    assert len(made.vectors) == 150
    assert [c.kind for c in here.calls] == ["embed", "embed"]
    assert all(c.cost_usd > 0 for c in here.calls)
    models.fail("500", times=1)
    assert (await here.router.embed(["x"], task="query")).vectors is not None
    models.fail("key_revoked")
    failed = await here.router.embed(["x"], task="query")
    assert failed.vectors is None
    assert failed.key_events == [KeyEvent("gemini", False, "invalid")]
    assert (await world(embedding=None).router.embed(["x"], task="query")).vectors is None


async def test_nothing_shows_a_key(world: Callable[..., World], models: FakeModels) -> None:
    models.fail("key_revoked", times=1)
    here = world()
    result = await here.ask(owner_keys={"openai": "owner-secret-1"})
    settings = RouterSettings(roles={}, keys=KEYS)
    written = f"{result!r} {settings!r} {here.router!r} {vars(here.router.prices)!r}"
    assert not any(key in written for key in (*KEYS.values(), "owner-secret-1"))


async def test_prices_of_the_book_and_of_unknown_models(world: Callable[..., World], models: FakeModels) -> None:
    known, unknown = ModelRow("openai", "gpt-6-luna"), ModelRow("openai", "nobody-knows-1")
    here = world(roles={"fast": [known], "other": [unknown]}, ceiling=Rates(Decimal(5), Decimal(25)))
    (call,) = (await here.ask()).calls
    assert call.price_source == "book"
    assert 0 < call.cost_usd < Decimal("0.001")
    (call,) = (await here.router.answer(PROMPT, role="other")).calls
    assert (call.price_source, call.cost_usd) == ("ceiling", (100 * Decimal(5) + 20 * Decimal(25)) / 1_000_000)
