"""Bootstrap as far as the pages use it: ``python -m web.styles`` writes it to ``static/vendor/bootstrap/bootstrap.css``.

The whole of it, kept as it came in ``vendor/``, is 30 KB on the wire, of which the pages need a sixth. Left out are rules for
classes that no template and no script names, variables that nothing reads, and movements that nothing uses. Run it again
when a template takes up another of Bootstrap's classes or stops using one: a test says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHOLE = ROOT / "web" / "vendor" / "bootstrap.min.css"
USED = ROOT / "web" / "static" / "vendor" / "bootstrap" / "bootstrap.css"
_WORD = re.compile(r"[A-Za-z_][\w-]*")
_CLASS_ATTRIBUTE = re.compile(r'\bclass="((?:\{\{.*?\}\}|\{%.*?%\}|[^"])*)"', re.DOTALL)
_JINJA = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_QUOTED = re.compile(r'"[^"]*"|\'[^\']*\'|`[^`]*`', re.DOTALL)
_CLASS = re.compile(r"\.([A-Za-z_][\w-]*)")
_VALUE = r':(?:"[^"]*"|[^;"}])*;?'
_VARIABLE = re.compile(rf"(--[\w-]+){_VALUE}")


def _text(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.rglob(pattern)):
        if "vendor" not in path.parts:
            yield path.read_text("utf-8")


def names_in_use() -> set[str]:
    """Return every word that may be a class on a page: in class attributes, and in what templates and scripts quote."""
    found: set[str] = set()
    for template in _text(ROOT / "templates", "*.html"):
        text = re.sub(r"\{#.*?#\}", "", template, flags=re.DOTALL)
        quoted = [part for code in _JINJA.findall(text) for part in _QUOTED.findall(code)]
        attributes = _CLASS_ATTRIBUTE.findall(text)
        found.update(word for part in (*attributes, *quoted) for word in _WORD.findall(part))
        for attribute in attributes:
            # btn-{{ "primary" if urgent else "quiet" }}
            words = _WORD.findall(attribute)
            found.update(begun + word for begun in words if begun.endswith("-") for word in words)
    for script in _text(ROOT / "web" / "static", "*.js"):
        found.update(word for part in _QUOTED.findall(script) for word in _WORD.findall(part))
    return found


def _blocks(css: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before each pair of outer braces, and what stands between them."""
    place = 0
    while (opened := css.find("{", place)) >= 0:
        depth, end = 1, opened + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        yield css[place:opened].strip(), css[opened + 1 : end - 1]
        place = end


def _rules(css: str, names: set[str]) -> Iterator[str]:
    """Yield the rules, in their order, that can apply to an element that has classes of ``names`` only."""
    for head, body in _blocks(css):
        if head.startswith("@media"):
            if inner := "".join(_rules(body, names)):
                yield f"{head}{{{inner}}}\n"
        elif head.startswith("@"):
            yield f"{head}{{{body}}}\n"
        else:
            # An element without the class of :not() is one that the selector is for.
            selectors = [
                one
                for one in re.split(r",(?![^()]*\))", head)
                if names.issuperset(_CLASS.findall(re.sub(r":not\([^()]*\)", "", one)))
            ]
            if selectors:
                yield f"{','.join(selectors)}{{{body}}}\n"


def _without_idle_variables(css: str, elsewhere: str) -> str:
    """Leave out variables that are read neither here nor there, and then those that only these have read."""
    while True:
        read = set(re.findall(r"var\((--[\w-]+)", css + elsewhere))
        idle = set(_VARIABLE.findall(css)) - read
        less = re.sub(rf"({'|'.join(map(re.escape, sorted(idle)))}){_VALUE}", "", css) if idle else css
        less = re.sub(r"^[^{}\n]*\{\}\n", "", less, flags=re.MULTILINE)
        if less == css:
            return css
        css = less


def used() -> str:
    """Return what the pages need of Bootstrap."""
    licence, _, css = WHOLE.read_text("utf-8").removeprefix('@charset "UTF-8";').partition("*/")
    ours = "".join((*_text(ROOT / "web" / "static", "*.css"), *_text(ROOT / "web" / "static", "*.js")))
    css = "".join(_rules(css, names_in_use()))
    moved = set(re.findall(r"animation(?:-name)?:[^;}]*?([\w-]+)(?=[;} ])", css))
    css = re.sub(
        r"^@keyframes ([\w-]+)\{.*\}\n", lambda found: found[0] if found[1] in moved else "", css, flags=re.MULTILINE
    )
    return f'@charset "UTF-8";{licence}*/\n{_without_idle_variables(css, ours)}'


if __name__ == "__main__":
    USED.parent.mkdir(parents=True, exist_ok=True)
    USED.write_text(used(), "utf-8")
