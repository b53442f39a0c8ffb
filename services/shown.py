"""What a form showed: it carries a mark of that back, and whoever was slower than another is told instead of overwriting."""

from __future__ import annotations

import hashlib

import orjson


def mark_of(shown: object) -> str:
    """Return what is the same only as long as ``shown`` is: plain data, as JSON has it."""
    return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
