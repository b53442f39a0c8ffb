"""How the texts of the program are found in Python code; named in ``babel.cfg``.

Babel's own extractor stumbles over ``bytes.translate(None, b"...")``, because ``translate`` marks texts here.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any


def extract_code(
    source: IO[bytes], keywords: Mapping[str, Any], _comment_tags: Collection[str], options: Mapping[str, Any]
) -> Iterator[tuple[int, str, tuple[str | None, ...], list[str]]]:
    """Yield line, function and literal arguments of every call of a keyword, as Babel wants them."""
    for node in ast.walk(ast.parse(source.read())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in keywords:
            texts = tuple(
                argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None
                for argument in node.args
            )
            if any(texts):
                yield node.lineno, name, texts, []
