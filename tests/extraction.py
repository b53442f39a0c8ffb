"""How the texts of the program are found in Python code; named in ``babel.cfg``.

Babel's own extractor stumbles over ``bytes.translate(None, b"...")``, because ``translate`` marks texts here. A text that is
translated in a way that cannot be found is an error: it would be shown in English to everybody.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any


def extract_code(
    source: IO[bytes], keywords: Mapping[str, Any], _comment_tags: Collection[str], options: Mapping[str, Any]
) -> Iterator[tuple[int, str, tuple[str | None, ...], list[str]]]:
    """Yield line, function and literal arguments of every call of a keyword, as Babel wants them.

    Raises ``ValueError`` for a text that is made within the call, and for one given to a translator that has no name.
    """
    for node in ast.walk(ast.parse(source.read())):
        if not isinstance(node, ast.Call):
            continue
        name = _name(node.func)
        made = [argument for argument in node.args if not isinstance(argument, ast.Constant)]
        if _has_text(made if name in keywords else node.args if _is_nameless(node.func) else ()):
            raise ValueError(f"line {node.lineno}: this text would not be found: {ast.unparse(node)}")
        if name in keywords:
            texts = tuple(
                argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None
                for argument in node.args
            )
            if any(texts):
                yield node.lineno, name, texts, []


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_nameless(function: ast.expr) -> bool:
    """Whether a call is to ``….gettext`` or to what ``translator(…)`` returns: functions that must be called ``_``."""
    return _name(function) == "gettext" or (isinstance(function, ast.Call) and _name(function.func) == "translator")


def _has_text(nodes: Sequence[ast.expr]) -> bool:
    return any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) for node in nodes for part in ast.walk(node)
    )
