"""Model providers by kind; each is imported when it is first wanted."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.ai.base import Provider

PROVIDERS: dict[str, str] = {
    "gemini": "services.ai.gemini:Gemini",
    "openai": "services.ai.openai:OpenAI",
    "anthropic": "services.ai.anthropic:Anthropic",
}
"""Kind to ``module:class``. The classes take ``(session, base_url=None)``."""
NAMES: dict[str, str] = {"gemini": "Gemini", "openai": "OpenAI", "anthropic": "Anthropic"}
"""Kind to the name that people know."""


def provider_class(kind: str) -> Callable[..., Provider]:
    """Return the adapter class of ``kind``. Raises KeyError for an unknown one."""
    module, _, name = PROVIDERS[kind].partition(":")
    found: Callable[..., Provider] = getattr(import_module(module), name)
    return found
