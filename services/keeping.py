"""What takes long to count is kept for a short time, so that who opens a page again does not wait again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The latest ``most`` values, each for ``seconds``."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._values: OrderedDict[Hashable, tuple[float, Value]] = OrderedDict()

    def get(self, key: Hashable) -> Value | None:
        """Return what was put there, None where that is too long ago."""
        made, value = self._values.get(key, (0.0, None))
        return value if value is not None and time.monotonic() - made < self._seconds else None

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value; the oldest goes where there are too many."""
        self._values[key] = time.monotonic(), value
        self._values.move_to_end(key)
        while len(self._values) > self._most:
            self._values.popitem(last=False)
