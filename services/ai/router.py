"""Which model answers: the owner's own key first, then the chain of the role, each with its breaker and in one deadline.

This is the only place that repeats a call. What follows a failure is the table in :meth:`Router._after`. Every call
leaves a :class:`CallRecord`, also the failed ones and those that were cancelled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b
from typing import Literal

import aiohttp
import structlog

from services.ai import provider_class
from services.ai.base import (
    MAX_REPLY_BYTES,
    NO_USAGE,
    BadOutput,
    BadRequest,
    Busy,
    Embedding,
    Failure,
    GenerateReply,
    GenerateRequest,
    KeyProblem,
    KeyRefused,
    OnDelta,
    Provider,
    Refused,
    Retired,
    TooLarge,
    TooLong,
    Transient,
    Turn,
    Usage,
)
from services.ai.prices import CEILING, PriceBook, PriceSource, Rates

log = structlog.get_logger(__name__)

Outcome = Literal[
    "ok",
    "length",
    "refused",
    "busy",
    "key_refused",
    "retired",
    "bad_request",
    "too_long",
    "transient",
    "bad_output",
    "cut",
]
State = Literal["configured", "not configured", "key refused", "model retired", "unavailable"]
RETRY_WAIT_S = 0.3
"""So long, more or less, a failed call waits for its second try."""
SHORT_WAIT_S = 2.0
"""A named delay up to this is waited out; a longer one goes to the next model."""
BUSY_REST_S = 5.0
KEY_REST_S = 300.0
RETIRED_REST_S = 3600.0
MAX_REST_S = 3600.0
_CHECK_S = 15.0
EMBED_BATCH = 100
MAX_DIMENSIONS = 4096
_NUMBER_BYTES = 40
"""One number of a vector in JSON at most: 17 digits, sign and exponent, on an indented line of its own."""
MAX_BREAKERS = 10_000
FILE_TOKENS = 2000
"""About so much a picture or a minute of speech counts, where the provider could not tell."""
_chance = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of a chain. ``price`` overrides the price book; ``effort`` is sent only where the row has it."""

    provider: str
    name: str
    api: Literal["responses", "chat"] = "responses"
    effort: str | None = None
    context_tokens: int | None = None
    price: Rates | None = None


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Plain data for the router.

    ``roles``: chains by role. ``keys``: the installation's key by provider; rows without one are passed over.
    ``own_rows``: the model behind an owner's own key, by provider. ``deadline_s`` holds for an answer as a whole.
    """

    roles: Mapping[str, Sequence[ModelRow]]
    keys: Mapping[str, str] = field(repr=False, default_factory=dict)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    own_rows: Mapping[str, ModelRow] = field(default_factory=dict)
    embedding: ModelRow | None = None
    embedding_dimensions: int | None = None
    deadline_s: float = 30.0
    first_byte_s: float = 10.0
    max_output_tokens: int = 700
    breaker_failures: int = 3
    breaker_rest_s: float = 30.0
    ceiling: Rates = CEILING


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked. ``shorter`` makes a smaller one when a model finds it too long; without it old turns are dropped.

    ``transcribe``: see :class:`~services.ai.base.GenerateRequest`. ``max_output_tokens`` and ``silence_s`` (how long a model may
    be silent) are those of the settings where they are None.
    """

    system: str
    turns: Sequence[Turn]
    cache_key: str | None = None
    cache_system: bool = False
    shorter: Callable[[], Prompt] | None = None
    transcribe: bool = False
    max_output_tokens: int | None = None
    silence_s: float | None = None

    def shortened(self) -> Prompt | None:
        """A smaller prompt, or None if there is none."""
        if self.shorter is not None:
            return replace(self.shorter(), shorter=None)
        return replace(self, turns=self.turns[-1:]) if len(self.turns) > 1 else None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One HTTP call to a provider. ``http_status`` is None where no answer came.

    ``usage`` is estimated where the provider was at work and could not tell: its answer was lost, could not be read, or
    whoever asked was cancelled (``outcome`` ``cut``).
    """

    kind: Literal["generate", "embed"]
    provider: str
    model_asked: str
    model_served: str | None
    usage: Usage
    latency_ms: int
    http_status: int | None
    outcome: Outcome
    cost_usd: Decimal
    price_source: PriceSource
    owner_key: bool


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """A key, or with ``model`` one model behind it, stopped working (``reason``) or works again (None).

    Given out once per change, not per call.
    """

    provider: str
    owner_key: bool
    reason: KeyProblem | Literal["retired"] | None
    model: str | None = None


@dataclass(slots=True)
class RouterResult:
    """``reply`` is None when no model could be had; its ``finish`` says whether the model refused to answer."""

    reply: GenerateReply | None = None
    provider: str | None = None
    model: str | None = None
    owner_key: bool = False
    calls: list[CallRecord] = field(default_factory=list)
    key_events: list[KeyEvent] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether the provider's safety rules forbade an answer."""
        return self.reply is not None and self.reply.finish == "refused"


@dataclass(slots=True)
class EmbedResult:
    """``vectors`` is None when the embedding model could not be had."""

    vectors: list[list[float]] | None
    model: str | None
    calls: list[CallRecord]
    key_events: list[KeyEvent]


@dataclass(slots=True)
class _Breaker:
    failures: int = 0
    open_until: float = 0.0
    opened_at: float = 0.0
    rest_s: float = 0.0
    probing: bool = False
    key_problem: KeyProblem | None = None
    retired: bool = False

    @property
    def tripped(self) -> bool:
        return self.rest_s > 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: ModelRow
    key: str = field(repr=False)
    owner: bool
    fingerprint: str


@dataclass(slots=True)
class _Call:
    """A call under way; ``result`` gets its record."""

    kind: Literal["generate", "embed"]
    candidate: _Candidate
    result: RouterResult
    started: float
    ended: float = 0.0


class Router:
    """The model chain of the process. ``session`` carries all calls and stays the caller's. ``on_call`` sees every record."""

    def __init__(
        self,
        settings: RouterSettings,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_call: Callable[[CallRecord], None] | None = None,
    ) -> None:
        self._settings, self._session, self._clock = settings, session, clock
        self._on_call = on_call
        self._providers: dict[str, Provider] = {}
        self._breakers: OrderedDict[tuple[str, str, str], _Breaker] = OrderedDict()
        self.prices = PriceBook(_priced(settings), settings.ceiling)

    def change(self, settings: RouterSettings) -> None:
        """Go by other chains, keys and prices from the next call on; what is known of models and keys stays known."""
        self._settings = settings
        self.prices.change(_priced(settings), settings.ceiling)

    # ---- answers ---------------------------------------------------------------------------------------------

    async def answer(
        self,
        prompt: Prompt,
        *,
        role: str,
        owner_keys: Mapping[str, str] | None = None,
        on_delta: OnDelta | None = None,
        on_restart: Callable[[], None] | None = None,
        deadline_s: float | None = None,
        calls: list[CallRecord] | None = None,
    ) -> RouterResult:
        """Ask the models in turn until one answers, refuses, or the time is over.

        ``owner_keys``: the owner's own keys by provider. ``on_restart`` is called when a model failed after pieces of
        its text had been handed to ``on_delta``: they are void and others follow. Without it, no further pieces are
        given and the whole text is in the result. ``calls``: becomes the result's list of records; whoever is cancelled
        here has in it what was spent until then, the call that was cut included. Raises KeyError for an unknown role.
        """
        result = RouterResult(calls=[] if calls is None else calls)
        ends = self._clock() + (self._settings.deadline_s if deadline_s is None else deadline_s)
        candidates = self._candidates(role, owner_keys or {})
        pieces = _Pieces(on_delta, on_restart)
        size = len(prompt.system) + sum(len(t.text) for t in prompt.turns)
        silence_s = prompt.silence_s or self._settings.first_byte_s
        for number, candidate in enumerate(candidates):
            if candidate.row.context_tokens and size > candidate.row.context_tokens * 4:
                continue  # four characters a token is the best case
            others = any(self._is_closed(c) for c in candidates[number + 1 :])
            tries, wait_s = 0, 0.0
            while True:
                left = ends - self._clock() - wait_s
                reserve = min(silence_s, left / 3) if others else 0.0
                if left - reserve <= 0 or (tries and others and left < silence_s * 1.5):
                    break  # no second try that would leave the next model without time
                if wait_s:
                    await asyncio.sleep(wait_s)
                if not self._enter(candidate):
                    break
                request = GenerateRequest(
                    model=candidate.row.name,
                    system=prompt.system,
                    turns=talk(prompt.turns),
                    max_output_tokens=prompt.max_output_tokens or self._settings.max_output_tokens,
                    timeout_s=left - reserve,
                    first_byte_timeout_s=min(silence_s, left - reserve),
                    cache_key=prompt.cache_key,
                    cache_system=prompt.cache_system,
                    effort=candidate.row.effort,
                    api=candidate.row.api,
                    transcribe=prompt.transcribe,
                )
                reply, failure = await self._generate(candidate, request, pieces, result)
                if reply is not None:
                    result.reply, result.provider = reply, candidate.row.provider
                    result.model, result.owner_key = reply.model_served, candidate.owner
                    return result
                assert failure is not None
                tries += 1
                if isinstance(failure, TooLong) and tries == 1 and (smaller := prompt.shortened()) is not None:
                    prompt, wait_s = smaller, 0.0
                    continue
                again_in = self._after(failure, tries)
                if again_in is None:
                    break
                wait_s = again_in
            if ends - self._clock() <= 0:
                break
        if result.calls:
            log.warning("no_model_answered", role=role, calls=[(c.provider, c.outcome) for c in result.calls])
        return result

    async def _generate(
        self, candidate: _Candidate, request: GenerateRequest, pieces: _Pieces, result: RouterResult
    ) -> tuple[GenerateReply | None, Failure | None]:
        """One call: its record, its effect on the breakers, its reply or failure."""
        row = candidate.row
        self.prices.prefetch(row.provider, row.name)
        provider = self._provider(row.provider)
        call = _Call("generate", candidate, result, self._clock())
        reply: GenerateReply | None = None
        failure: Failure | None = None
        try:
            reply = await provider.generate(request, api_key=candidate.key, on_delta=pieces.begin())
        except Refused as error:
            reply = GenerateReply("", row.name, error.usage, "refused", error.http_status or 200)
        except Failure as error:
            failure = error
        except Exception as error:  # a fault of ours must not cost the customer the answer
            log.exception("provider_fault", provider=row.provider, model=row.name, error=type(error).__name__)
            failure = BadRequest(type(error).__name__)
        except asyncio.CancelledError:
            self._leave(candidate)
            self._cut(call, _estimate(request, pieces.heard), 200 if pieces.heard else None)
            raise
        if reply is not None:
            if reply.usage == NO_USAGE and reply.finish != "refused":
                reply = replace(reply, usage=_estimate(request, reply.text))
            outcome: Outcome = "ok" if reply.finish == "stop" else reply.finish
            self._succeeded(candidate, call.started, result.key_events)
            await self._record(call, reply.usage, reply.http_status, outcome, reply.model_served)
            return reply, None
        assert failure is not None
        self._failed(candidate, failure, result.key_events)
        await self._record_failure(call, failure, _estimate(request, pieces.heard))
        return None, failure

    def _after(self, failure: Failure, tries: int) -> float | None:
        """Seconds until the same model is asked again, or None for the next one."""
        if isinstance(failure, Busy | Transient) and failure.retry_after_s is not None:
            short = tries == 1 and failure.retry_after_s <= SHORT_WAIT_S
            return failure.retry_after_s + _jitter() if short else None
        return _jitter() if isinstance(failure, Transient | BadOutput) and tries == 1 else None

    async def check(self, provider: str, key: str) -> RouterResult:
        """Ask the first model of a provider for a word with the installation's ``key``, also while it rests.

        The result has no call where no role names a model of this provider. What the call meets counts like any other's.
        """
        result = RouterResult()
        rows = [row for role, chain in self._settings.roles.items() if role != "transcribe" for row in chain]
        row = next((row for row in rows if row.provider == provider), self._settings.own_rows.get(provider))
        if row is not None:
            wait_s = min(_CHECK_S, self._settings.deadline_s)
            request = GenerateRequest(
                model=row.name,
                system="",
                turns=[Turn("user", "Hi")],
                max_output_tokens=16,
                timeout_s=wait_s,
                first_byte_timeout_s=wait_s,
                effort=row.effort,
                api=row.api,
            )
            candidate = _Candidate(row, key, False, fingerprint(key))
            result.reply, _ = await self._generate(candidate, request, _Pieces(None, None), result)
        return result

    def has(self, role: str) -> bool:
        """Whether any model of ``role`` has a key."""
        return bool(self._candidates(role, {}))

    # ---- embeddings ------------------------------------------------------------------------------------------

    async def embed(
        self,
        texts: Sequence[str],
        *,
        task: Literal["document", "query"],
        deadline_s: float | None = None,
        calls: list[CallRecord] | None = None,
    ) -> EmbedResult:
        """Turn texts into vectors with the configured model, in groups of at most :data:`EMBED_BATCH`.

        There is no second model: vectors of different models do not compare. One retry as for answers, none where the
        same texts would bring the same failure. ``calls``: as for :meth:`answer`.
        """
        row, result = self._settings.embedding, RouterResult(calls=[] if calls is None else calls)
        key = self._settings.keys.get(row.provider) if row else None
        if row is None or not key:
            return EmbedResult(None, None, result.calls, [])
        candidate = _Candidate(row, key, False, fingerprint(key))
        ends = self._clock() + (self._settings.deadline_s if deadline_s is None else deadline_s)
        vectors: list[list[float]] = []
        vector_bytes = (self._settings.embedding_dimensions or MAX_DIMENSIONS) * _NUMBER_BYTES
        size = max(1, min(EMBED_BATCH, MAX_REPLY_BYTES // vector_bytes))
        for start in range(0, len(texts), size):
            group = await self._embed_group(candidate, texts[start : start + size], task, ends, result)
            if group is None:
                return EmbedResult(None, row.name, result.calls, result.key_events)
            vectors += group
        return EmbedResult(vectors, row.name, result.calls, result.key_events)

    async def _embed_group(
        self,
        candidate: _Candidate,
        texts: Sequence[str],
        task: Literal["document", "query"],
        ends: float,
        result: RouterResult,
    ) -> list[list[float]] | None:
        row, tries = candidate.row, 0
        guess = Usage(input_tokens=sum(map(_tokens, texts)))
        self.prices.prefetch(row.provider, row.name)
        while (left := ends - self._clock()) > 0 and self._enter(candidate):
            call = _Call("embed", candidate, result, self._clock())
            found: Embedding | None = None
            failure: Failure | None = None
            try:
                found = await self._provider(row.provider).embed(
                    texts,
                    model=row.name,
                    api_key=candidate.key,
                    task=task,
                    dimensions=self._settings.embedding_dimensions,
                    timeout_s=left,
                    first_byte_timeout_s=min(self._settings.first_byte_s, left),
                )
            except Failure as error:
                failure = error
            except Exception as error:  # a fault of ours must not cost the customer the answer
                log.exception("provider_fault", provider=row.provider, model=row.name, error=type(error).__name__)
                failure = BadRequest(type(error).__name__)
            except asyncio.CancelledError:
                self._leave(candidate)
                self._cut(call, guess, None)
                raise
            if found is not None:
                self._succeeded(candidate, call.started, result.key_events)
                usage = guess if found.usage == NO_USAGE else found.usage
                await self._record(call, usage, 200, "ok", found.model_served)
                return found.vectors
            assert failure is not None
            self._failed(candidate, failure, result.key_events)
            await self._record_failure(call, failure, guess)
            tries += 1
            wait_s = None if isinstance(failure, TooLarge) else self._after(failure, tries)
            if wait_s is None or wait_s >= ends - self._clock():
                return None
            await asyncio.sleep(wait_s)
        return None

    # ---- breakers --------------------------------------------------------------------------------------------

    def _names(self, candidate: _Candidate) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """The breakers of a candidate: that of its key, that of its model with this key."""
        provider = candidate.row.provider
        return (provider, candidate.fingerprint, ""), (provider, candidate.fingerprint, candidate.row.name)

    def _is_closed(self, candidate: _Candidate) -> bool:
        now = self._clock()
        return all(
            (b := self._breakers.get(name)) is None or (b.open_until <= now and not b.probing)
            for name in self._names(candidate)
        )

    def _enter(self, candidate: _Candidate) -> bool:
        """Whether a call may be made; after a rest one call at a time probes."""
        if not self._is_closed(candidate):
            return False
        for name in self._names(candidate):
            breaker = self._breakers.get(name)
            if breaker is not None and breaker.tripped:
                breaker.probing = True
        return True

    def _leave(self, candidate: _Candidate) -> None:
        for name in self._names(candidate):
            breaker = self._breakers.get(name)
            if breaker is not None:
                breaker.probing = False

    def _succeeded(self, candidate: _Candidate, started: float, events: list[KeyEvent]) -> None:
        for name in self._names(candidate):
            breaker = self._breakers.get(name)
            if breaker is None or (breaker.tripped and started < breaker.opened_at):
                continue  # a call from before the trouble proves nothing
            del self._breakers[name]
            if breaker.key_problem:
                log.info("key_recovered", provider=candidate.row.provider, owner_key=candidate.owner)
                events.append(KeyEvent(candidate.row.provider, candidate.owner, None))
            elif breaker.retired:
                log.info("model_recovered", provider=candidate.row.provider, model=candidate.row.name)
                events.append(KeyEvent(candidate.row.provider, candidate.owner, None, candidate.row.name))

    def _failed(self, candidate: _Candidate, failure: Failure, events: list[KeyEvent]) -> None:
        self._leave(candidate)
        of_key, of_model = self._names(candidate)
        provider, model = candidate.row.provider, candidate.row.name
        if isinstance(failure, KeyRefused):
            breaker = self._breaker(of_key)
            news = breaker.key_problem is None
            breaker.key_problem = failure.reason
            self._open(breaker, KEY_REST_S)
            if news:
                log.error("key_refused", provider=provider, owner_key=candidate.owner, reason=failure.reason)
                events.append(KeyEvent(provider, candidate.owner, failure.reason))
        elif isinstance(failure, Retired):
            breaker = self._breaker(of_model)
            news = not breaker.retired
            breaker.retired = True
            self._open(breaker, RETIRED_REST_S)
            if news:
                log.error("model_retired", provider=provider, model=model, reason=str(failure))
                events.append(KeyEvent(provider, candidate.owner, "retired", model))
        elif isinstance(failure, BadRequest):
            log.error("request_not_accepted", provider=provider, model=model, reason=str(failure))
        elif isinstance(failure, Busy) or (isinstance(failure, Transient) and failure.retry_after_s):
            rest_s = BUSY_REST_S if failure.retry_after_s is None else min(failure.retry_after_s, MAX_REST_S)
            breaker = self._breaker(of_model)
            breaker.open_until = max(breaker.open_until, self._clock() + rest_s)
            log.warning("model_busy", provider=provider, model=model, rest_s=rest_s)
        elif isinstance(failure, Transient) or (isinstance(failure, BadOutput) and failure.model_served is None):
            # An answer in good form but without text may be the question's fault and must not rest the model for all.
            breaker = self._breaker(of_model)
            breaker.failures += 1
            log.warning("model_failed", provider=provider, model=model, reason=str(failure))
            if breaker.tripped or breaker.failures >= self._settings.breaker_failures:
                self._open(breaker, self._settings.breaker_rest_s)

    def _breaker(self, name: tuple[str, str, str]) -> _Breaker:
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = _Breaker()
            if len(self._breakers) > MAX_BREAKERS:
                self._breakers.popitem(last=False)
        return breaker

    def _open(self, breaker: _Breaker, rest_s: float) -> None:
        """Rest the model or key: ``rest_s`` at first, twice as long after each probe that failed."""
        now = self._clock()
        if breaker.open_until > now and breaker.tripped:
            return  # a call that was under way when another one opened it
        breaker.rest_s = min(breaker.rest_s * 2 if breaker.tripped else rest_s, MAX_REST_S)
        breaker.opened_at, breaker.open_until = now, now + breaker.rest_s

    def state(self, provider: str, role: str) -> State:
        """Return how a provider's models of ``role`` and its embeddings stand, from their last calls: nothing is asked.

        Trouble is reported while a breaker rests. After that a call may be made again, and what it meets counts.
        """
        key = self._settings.keys.get(provider)
        if not key:
            return "not configured"
        embedding = self._settings.embedding
        rows = [*self._settings.roles[role], *([embedding] if embedding else [])]
        mark = fingerprint(key)
        names = {(provider, mark, row.name) for row in rows if row.provider == provider}
        if (of_key := self._resting((provider, mark, ""))) is not None and of_key.key_problem:
            return "key refused"
        resting = [self._resting(name) for name in names]
        if not resting or not all(resting):
            return "configured"
        return "model retired" if all(breaker and breaker.retired for breaker in resting) else "unavailable"

    def _resting(self, name: tuple[str, str, str]) -> _Breaker | None:
        breaker = self._breakers.get(name)
        return breaker if breaker is not None and breaker.tripped and breaker.open_until > self._clock() else None

    # ---- the rest --------------------------------------------------------------------------------------------

    def _candidates(self, role: str, owner_keys: Mapping[str, str]) -> list[_Candidate]:
        found = [
            _Candidate(self._settings.own_rows[provider], key, True, fingerprint(key))
            for provider, key in owner_keys.items()
            if key and provider in self._settings.own_rows
        ]
        for row in self._settings.roles[role]:
            key = self._settings.keys.get(row.provider, "")
            if key:
                found.append(_Candidate(row, key, False, fingerprint(key)))
        return found

    def _provider(self, kind: str) -> Provider:
        provider = self._providers.get(kind)
        if provider is None:
            provider = self._providers[kind] = provider_class(kind)(self._session, self._settings.base_urls.get(kind))
        return provider

    async def _record(
        self, call: _Call, usage: Usage, http_status: int | None, outcome: Outcome, served: str | None
    ) -> None:
        """Note a call that has ended, at its price; at the price known by now if whoever asked is cancelled meanwhile."""
        call.ended = self._clock()
        row = call.candidate.row
        try:
            price = await self.prices.cost(row.provider, row.name, served or row.name, usage)
        except asyncio.CancelledError:
            price = self.prices.known_cost(row.provider, row.name, served or row.name, usage)
            self._note(call, usage, http_status, outcome, served, price)
            raise
        self._note(call, usage, http_status, outcome, served, price)

    async def _record_failure(self, call: _Call, failure: Failure, guess: Usage) -> None:
        """Note a failed call. ``guess``: what it took if the provider was at work and could not tell."""
        lost = failure.http_status is None and isinstance(failure, Transient) and failure.sent
        worked = lost or failure.http_status == 200
        usage = guess if failure.usage == NO_USAGE and worked else failure.usage
        await self._record(call, usage, failure.http_status, outcome_of(failure), failure.model_served)

    def _cut(self, call: _Call, guess: Usage, http_status: int | None) -> None:
        """Note a call that was cancelled."""
        call.ended = self._clock()
        row = call.candidate.row
        price = self.prices.known_cost(row.provider, row.name, row.name, guess)
        self._note(call, guess, http_status, "cut", None, price)

    def _note(
        self,
        call: _Call,
        usage: Usage,
        http_status: int | None,
        outcome: Outcome,
        served: str | None,
        price: tuple[Decimal, PriceSource],
    ) -> None:
        record = CallRecord(
            kind=call.kind,
            provider=call.candidate.row.provider,
            model_asked=call.candidate.row.name,
            model_served=served or None,
            usage=usage,
            latency_ms=int((call.ended - call.started) * 1000),
            http_status=http_status,
            outcome=outcome,
            cost_usd=price[0],
            price_source=price[1],
            owner_key=call.candidate.owner,
        )
        call.result.calls.append(record)
        if self._on_call:
            self._on_call(record)

    async def prepare(self, role: str) -> None:
        """Import the SDK of the first model of ``role`` that has a key, so that the first answer need not wait."""
        for candidate in self._candidates(role, {})[:1]:
            await self._provider(candidate.row.provider).prepare()

    async def close(self) -> None:
        """Close the providers; the session stays open."""
        for provider in self._providers.values():
            await provider.close()
        self._providers.clear()


def _priced(settings: RouterSettings) -> dict[str, Rates]:
    """The prices that rows bring with them, by model."""
    rows = [row for chain in settings.roles.values() for row in chain]
    rows += [*settings.own_rows.values(), *([settings.embedding] if settings.embedding else [])]
    return {row.name: row.price for row in rows if row.price}


class _Pieces:
    """Hands a stream on, and starts it over when another model has to begin anew."""

    def __init__(self, on_delta: OnDelta | None, on_restart: Callable[[], None] | None) -> None:
        self._on_delta, self._on_restart = on_delta, on_restart
        self._given: list[str] = []

    @property
    def heard(self) -> str:
        """What the present attempt has brought."""
        return "".join(self._given)

    def begin(self) -> OnDelta | None:
        """The receiver for the next attempt; None where no pieces are wanted (any more)."""
        if self._given:
            self._given = []
            if self._on_restart is None:
                self._on_delta = None
            else:
                self._on_restart()
        return self._give if self._on_delta is not None else None

    def _give(self, piece: str) -> None:
        assert self._on_delta is not None
        self._given.append(piece)
        self._on_delta(piece)


def talk(turns: Sequence[Turn]) -> list[Turn]:
    """The turns as all providers accept them: none empty, a person's first."""
    said = [turn for turn in turns if turn.text.strip()]
    first = next((n for n, turn in enumerate(said) if turn.role == "user"), len(said))
    return said[first:]


def outcome_of(failure: Failure) -> Outcome:
    """The word for a failure in records and metrics."""
    names: tuple[tuple[type[Failure], Outcome], ...] = (
        (Busy, "busy"),
        (KeyRefused, "key_refused"),
        (Retired, "retired"),
        (BadRequest, "bad_request"),
        (TooLong, "too_long"),
        (TooLarge, "too_long"),
        (Refused, "refused"),
        (BadOutput, "bad_output"),
    )
    return next((name for kind, name in names if isinstance(failure, kind)), "transient")


def _jitter() -> float:
    return RETRY_WAIT_S * _chance.uniform(0.5, 1.5)


def fingerprint(key: str) -> str:
    """What stands for a key wherever it must not appear itself."""
    return blake2b(key.encode(), digest_size=8).hexdigest()


def _tokens(text: str) -> int:
    """A generous guess at the tokens of a text, for gateways that count none."""
    return len(text.encode()) // 3 + 1


def _estimate(request: GenerateRequest, written: str) -> Usage:
    asked = _tokens(request.system) + sum(_tokens(t.text) + FILE_TOKENS * len(t.files) for t in request.turns)
    return Usage(input_tokens=asked, output_tokens=_tokens(written) if written else 0)
