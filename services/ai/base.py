"""What every model provider understands: one request, one reply, one family of failures.

The classes of failure are those the router has a rule for; a provider's own errors never leave its adapter. No text of
a failure holds a key, and only :class:`BadRequest` and :class:`Retired` repeat (shortened) what the provider said.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from services.errors import Permanent, Temporary

Finish = Literal["stop", "length", "refused"]
KeyProblem = Literal["invalid", "forbidden", "no_money"]
OnDelta = Callable[[str], None]
MAX_REPLY_BYTES = 2 * 2**20
"""So much of an answer is read. One of a thousand words is 10 kB; of vectors, as many are asked for as fit in."""


@dataclass(frozen=True, slots=True)
class File:
    """A picture, a sound or a PDF that goes with a message. ``mime`` is what the content is."""

    mime: str
    data: bytes = field(repr=False)

    @property
    def base64(self) -> str:
        """The content as JSON carries it."""
        return b64encode(self.data).decode("ascii")

    @property
    def address(self) -> str:
        """The content as a ``data:`` address."""
        return f"data:{self.mime};base64,{self.base64}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the talk as the model sees it, and what was sent with it."""

    role: Literal["user", "assistant"]
    text: str
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One question to one model.

    ``timeout_s`` bounds the whole call, ``first_byte_timeout_s`` every silence in it, the first included. ``cache_key``
    groups requests that share their beginning (one per bot). ``cache_system`` asks Anthropic to keep the system prompt:
    writing it costs a quarter more, so only for one that the next questions repeat word for word. ``effort`` is sent only
    when set; there is no temperature, since most current models refuse sampling knobs. ``api`` matters to OpenAI only:
    ``chat`` is for gateways without the Responses API. ``transcribe``: the last turn's sound is to be written down, for
    which some providers have a call of its own.
    """

    model: str
    system: str
    turns: Sequence[Turn]
    max_output_tokens: int
    timeout_s: float = 30.0
    first_byte_timeout_s: float = 10.0
    cache_key: str | None = None
    cache_system: bool = False
    effort: str | None = None
    api: Literal["responses", "chat"] = "responses"
    transcribe: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call: ``input_tokens`` with the cached ones, ``output_tokens`` with the model's thinking."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class GenerateReply:
    """What came back. ``text`` is raw (see ``services.ai.output``) and empty only when ``finish`` is ``refused``."""

    text: str
    model_served: str
    usage: Usage
    finish: Finish
    http_status: int = 200


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors in the order of the texts."""

    vectors: list[list[float]]
    model_served: str
    usage: Usage


class Provider(Protocol):
    """One vendor's API. Instances are shared by all bots of the process; keys come with each call."""

    kind: str

    async def generate(
        self, request: GenerateRequest, *, api_key: str, on_delta: OnDelta | None = None
    ) -> GenerateReply:
        """Ask the model; with ``on_delta`` the text is also handed over piece by piece while it arrives.

        Raises one of the failures of this module.
        """
        ...

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        api_key: str,
        task: Literal["document", "query"],
        dimensions: int | None = None,
        timeout_s: float = 30.0,
        first_byte_timeout_s: float = 10.0,
    ) -> Embedding:
        """Return one vector of unit length per text. :class:`BadRequest` where the provider offers no embeddings."""
        ...

    async def prepare(self) -> None:
        """Import the SDK ahead of the first call."""
        ...

    async def close(self) -> None:
        """Let go of the clients; the provider must not be used afterwards."""
        ...


class Failure(Exception):
    """Common facts of a failed call: the HTTP status, if an answer came, and tokens that were spent all the same."""

    http_status: int | None = None
    usage: Usage = NO_USAGE
    model_served: str | None = None

    def with_facts(
        self, *, http_status: int | None, usage: Usage = NO_USAGE, model_served: str | None = None
    ) -> Failure:
        """Attach what is known about the call and return the failure itself."""
        self.http_status, self.usage, self.model_served = http_status, usage, model_served
        return self


class Busy(Temporary, Failure):
    """Too many requests, or no capacity now; ``retry_after_s`` if the provider named a delay."""


class Transient(Temporary, Failure):
    """No answer in time, a broken connection or a server error."""


class BadOutput(Temporary, Failure):
    """An answer without text, or one that cannot be read."""


class TooLarge(BadOutput):
    """An answer of more than :data:`MAX_REPLY_BYTES`."""


class KeyRefused(Permanent, Failure):
    """The key is wrong, may not use this, or has no money left."""

    def __init__(self, reason: KeyProblem) -> None:
        super().__init__(f"key refused: {reason}")
        self.reason: KeyProblem = reason


class Retired(Permanent, Failure):
    """The model does not exist (any more)."""


class BadRequest(Permanent, Failure):
    """The provider did not accept our request: a fault of ours."""


class TooLong(Permanent, Failure):
    """More text than the model takes."""


class Refused(Permanent, Failure):
    """The provider's safety rules forbid this request."""
