"""The adapters against the providers' wire formats: what is sent, what is read, and every way to fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from services.ai import PROVIDERS, provider_class
from services.ai.base import (
    BadOutput,
    BadRequest,
    Busy,
    Failure,
    GenerateReply,
    GenerateRequest,
    KeyRefused,
    Provider,
    Retired,
    TooLarge,
    TooLong,
    Transient,
    Turn,
)
from tests.fakes.models import FakeModels

KEY = "sk-canary-0123456789abcdef"
WAYS = [("gemini", "responses"), ("openai", "responses"), ("openai", "chat"), ("anthropic", "responses")]
Ask = Callable[..., Any]


def question(api: Any = "responses", **changes: Any) -> GenerateRequest:
    turns = (Turn("user", "Salom"), Turn("assistant", "Salom! 😊"), Turn("user", "Nok necha pul?"))
    given: dict[str, Any] = {"timeout_s": 5.0, "first_byte_timeout_s": 5.0, "cache_key": "bot-1", **changes}
    return GenerateRequest("some-model", "Siz do‘kon botisiz", turns, 300, api=api, **given)


def provider(kind: str, models: FakeModels, session: aiohttp.ClientSession) -> Provider:
    return provider_class(kind)(session, models.base_urls[kind])


async def failure_of(asked: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await asked
    return caught.value


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_reads_text_model_and_tokens(
    kind: str, api: str, streamed: bool, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.cached_tokens, models.model_served = 40, "some-model-2026-10-01"
    pieces: list[str] = []
    reply: GenerateReply = await provider(kind, models, session).generate(
        question(api), api_key=KEY, on_delta=pieces.append if streamed else None
    )
    assert reply.text == models.reply
    assert reply.model_served == "some-model-2026-10-01"
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (100, 40, 20)
    assert reply.finish == "stop"
    assert "".join(pieces) == (models.reply if streamed else "")
    assert len(pieces) > 1 or not streamed
    assert [r.stream for r in models.requests] == [streamed]


@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_sends_the_talk_and_no_knobs(
    kind: str, api: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    await provider(kind, models, session).generate(question(api), api_key=KEY)
    seen = models.requests[0]
    assert (seen.model, seen.key) == ("some-model", KEY)
    for text in ("Siz do‘kon botisiz", "Salom! 😊", "Nok necha pul?", "300"):
        assert text in seen.text
    for knob in ("temperature", "top_p", "topP", "effort", "thinking"):
        assert knob not in seen.text
    assert seen.body.get("store") is (False if (kind, api) == ("openai", "responses") else None)
    assert not [v for v in seen.headers.values() if v == ""]


@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_sends_the_effort_that_a_model_is_to_take(
    kind: str, api: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    await provider(kind, models, session).generate(question(api, effort="low"), api_key=KEY)
    assert '"low"' in models.requests[0].text


async def test_anthropic_caches_only_what_repeats(models: FakeModels, session: aiohttp.ClientSession) -> None:
    claude = provider("anthropic", models, session)
    await claude.generate(question(), api_key=KEY)
    await claude.generate(question(cache_system=True), api_key=KEY)
    assert ["cache_control" in r.text for r in models.requests] == [False, True]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("429", Busy),
        ("insufficient_quota", KeyRefused),
        ("payment", KeyRefused),
        ("key_revoked", KeyRefused),
        ("forbidden", KeyRefused),
        ("retired", Retired),
        ("too_long", TooLong),
        ("bad_parameter", BadRequest),
        ("500", Transient),
        ("503", Transient),
        ("529", Busy),
        ("cut", Transient),
        ("cut_midway", Transient),
        ("html", BadOutput),
        ("broken_json", BadOutput),
        ("empty", BadOutput),
        ("huge", TooLarge),
        ("endless", TooLarge),
    ],
)
@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_classes_of_failure(
    kind: str, api: str, fault: str, expected: type[Failure], models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.fail(fault)
    failure = await failure_of(provider(kind, models, session).generate(question(api), api_key=KEY))
    assert type(failure) is expected
    assert len(models.requests) == 1, "retries belong to the router"
    assert KEY not in f"{failure!r} {failure.__context__!r}" or failure.__suppress_context__
    assert KEY not in str(failure)


@pytest.mark.parametrize("fault", ["cut_midway", "broken_json", "huge", "endless", "stream_error", "headers_only"])
@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_streams_that_break(
    kind: str, api: str, fault: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.fail(fault)
    pieces: list[str] = []
    failure = await failure_of(
        provider(kind, models, session).generate(
            question(api, first_byte_timeout_s=0.2), api_key=KEY, on_delta=pieces.append
        )
    )
    assert isinstance(failure, Transient | BadOutput | Busy)
    assert sum(map(len, pieces)) < 3 * 2**20


@pytest.mark.parametrize("fault", ["silence", "headers_only", "drip"])
@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_time_limits(kind: str, api: str, fault: str, models: FakeModels, session: aiohttp.ClientSession) -> None:
    models.fail(fault)
    limits = {"timeout_s": 0.3, "first_byte_timeout_s": 0.15}
    failure = await failure_of(provider(kind, models, session).generate(question(api, **limits), api_key=KEY))
    assert type(failure) is Transient
    assert failure.sent, "the provider may have done the work"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_a_refusal_is_a_reply(
    kind: str, api: str, streamed: bool, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.fail("refused")
    reply = await provider(kind, models, session).generate(
        question(api), api_key=KEY, on_delta=(lambda _: None) if streamed else None
    )
    assert (reply.finish, reply.text) == ("refused", "")
    assert reply.usage.input_tokens == 100


@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_a_reply_cut_by_its_limit(
    kind: str, api: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.fail("length")
    reply = await provider(kind, models, session).generate(question(api), api_key=KEY)
    assert (reply.finish, reply.text) == ("length", models.reply)


@pytest.mark.parametrize(("kind", "api"), WAYS)
async def test_the_named_delay_is_read(kind: str, api: str, models: FakeModels, session: aiohttp.ClientSession) -> None:
    models.fail("429", retry_after=7)
    failure = await failure_of(provider(kind, models, session).generate(question(api), api_key=KEY))
    assert isinstance(failure, Busy)
    assert failure.retry_after_s == 7


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("insufficient_quota", "no_money"),
        ("payment", "no_money"),
        ("key_revoked", "invalid"),
        ("forbidden", "forbidden"),
    ],
)
@pytest.mark.parametrize("kind", PROVIDERS)
async def test_what_is_wrong_with_a_key(
    kind: str, fault: str, reason: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    models.fail(fault)
    failure = await failure_of(provider(kind, models, session).generate(question(), api_key=KEY))
    assert isinstance(failure, KeyRefused)
    assert failure.reason == reason


@pytest.mark.parametrize("kind", PROVIDERS)
async def test_no_server_and_no_tls(kind: str, models: FakeModels, session: aiohttp.ClientSession) -> None:
    secure = models.base_urls[kind].replace("http://", "https://")
    failure = await failure_of(provider_class(kind)(session, secure).generate(question(), api_key=KEY))
    assert type(failure) is Transient
    await models.stop()
    failure = await failure_of(provider(kind, models, session).generate(question(), api_key=KEY))
    assert type(failure) is Transient
    assert not failure.sent


@pytest.mark.parametrize("kind", ["gemini", "openai"])
async def test_embeddings(kind: str, models: FakeModels, session: aiohttp.ClientSession) -> None:
    made = await provider(kind, models, session).embed(
        ["nok narxi", "olma"], model="embedder", api_key=KEY, task="query", dimensions=64
    )
    assert [len(v) for v in made.vectors] == [64, 64]
    assert sum(x * x for x in made.vectors[0]) == pytest.approx(1)
    assert models.requests[0].model == "embedder"
    models.fail("broken_json")
    failure = await failure_of(
        provider(kind, models, session).embed(["x"], model="embedder", api_key=KEY, task="document")
    )
    assert type(failure) is BadOutput


async def test_anthropic_has_no_embeddings(models: FakeModels, session: aiohttp.ClientSession) -> None:
    with pytest.raises(BadRequest):
        await provider("anthropic", models, session).embed(["x"], model="m", api_key=KEY, task="query")


@pytest.mark.parametrize("kind", PROVIDERS)
async def test_each_key_stays_with_its_call(kind: str, models: FakeModels, session: aiohttp.ClientSession) -> None:
    asked = provider(kind, models, session)
    for key in ("key-one", "key-two", "key-one"):
        await asked.generate(question(), api_key=key)
    assert [r.key for r in models.requests] == ["key-one", "key-two", "key-one"]


@pytest.mark.parametrize("kind", PROVIDERS)
async def test_keys_are_written_nowhere(
    kind: str, models: FakeModels, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = provider(kind, models, session)
    await asked.generate(question(), api_key=KEY)
    models.fail("key_revoked")
    failure = await failure_of(asked.generate(question(), api_key=KEY))
    models.heal()
    models.fail("bad_parameter")
    other = await failure_of(asked.generate(question(), api_key=KEY))
    written = f"{caplog.text} {asked!r} {vars(asked)!r} {failure!r} {other!r}"
    assert KEY not in written
    assert "Nok necha pul" not in written


@pytest.mark.parametrize(
    ("kind", "given", "path"),
    [
        ("openai", "", "/v1/responses"),
        ("openai", "/v1/", "/v1/responses"),
        ("anthropic", "/v1", "/v1/messages"),
        ("gemini", "/v1beta", "/v1beta/models/some-model:generateContent"),
        ("gemini", "/", "/v1/models/some-model:generateContent"),
    ],
)
async def test_addresses_as_people_write_them(
    kind: str, given: str, path: str, models: FakeModels, session: aiohttp.ClientSession
) -> None:
    await provider_class(kind)(session, models.url + given).generate(question(), api_key=KEY)
    assert models.requests[0].path == path
