"""Structured logs: one line an event, an id through the whole way of a message, never a secret.

Every secret that the program knows is registered with :func:`hide` and cut out of any line that would hold it, and so is
anything shaped like a bot token: a Telegram token is part of addresses, and libraries print addresses.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

_TOKEN = re.compile(r"(?<!\d)\d{6,12}:[A-Za-z0-9_-]{30,}|(?<=[?&]key=)[^&\s'\"]+|\bBearer\s+[A-Za-z0-9._~+/-]+=*")
_SHORTEST = 6
_hidden: dict[str, list[str]] = {}
"""Every text that never may be seen, the longest first, by its first :data:`_SHORTEST` characters."""


def hide(*values: str | None) -> None:
    """Never let any of these texts reach a log line."""
    for value in values:
        if value and len(value) >= _SHORTEST:
            alike = _hidden.setdefault(value[:_SHORTEST], [])
            if value not in alike:
                alike.append(value)
                alike.sort(key=len, reverse=True)


def redact(text: str) -> str:
    """Return ``text`` with everything secret replaced by stars.

    Takes as long whether ten texts are hidden or a hundred thousand: each code and link that was ever shown is one.
    """
    found = [match.span() for match in _TOKEN.finditer(text)]
    for at in [at for at in range(len(text) - _SHORTEST + 1) if text[at : at + _SHORTEST] in _hidden]:
        for value in _hidden[text[at : at + _SHORTEST]]:
            if text.startswith(value, at):
                found.append((at, at + len(value)))
                break
    if not found:
        return text
    pieces, shown = [], 0
    for start, end in sorted(found):
        if start >= shown:
            pieces += [text[shown:start], "***"]
        shown = max(shown, end)
    return "".join([*pieces, text[shown:]])


class _Redacting:
    """Last step before a line is written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(redact(text)))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return bool(self._stream.isatty())


_listeners: list[Callable[[Mapping[str, Any]], None]] = []


def listen(hear: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
    """Let ``hear`` see every line before it is written; return what ends that. It must not wait; what it raises is dropped."""
    _listeners.append(hear)
    return lambda: _listeners.remove(hear)


def _tell(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for hear in tuple(_listeners):
        try:
            hear(event)
        except Exception as error:  # noqa: BLE001 - whoever logs must not fail for it, and this cannot log
            sys.stderr.write(f"a listener of the log failed: {type(error).__name__}\n")
    return event


def _drop_noise(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_from_structlog", None)
    return event


def set_up(level: str = "info", style: str = "auto") -> None:
    """Configure structlog and the standard library's logging, which libraries use, to write the same lines to stderr."""
    stream = _Redacting(sys.stderr)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    console = style == "console" or (style == "auto" and stream.isatty())
    renderer: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[_tell, structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_noise, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in (
        "aiogram.event",
        "httpx2",
        "httpcore2",
        "google_genai",
        "apscheduler",
        "alembic",
        "aiosqlite",
        "asyncio",
    ):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
