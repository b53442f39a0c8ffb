"""Styles and icons: what pages name is there, and what is there is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from web import styles
from web.view import STATIC_DIR, TEMPLATES_DIR

ROOT = TEMPLATES_DIR.parent
NAMES_ONLY = {"channel-web", "desk-filters", "language-switch", "note-box", "notice-text", "said-bot", "theme-switch"}
"""Classes that say what a thing is and look like nothing."""
_CODE = re.compile(r"\{[{%#].*?[%#}]\}", re.DOTALL)


def _templates() -> Iterator[tuple[Path, str]]:
    for path in sorted(TEMPLATES_DIR.rglob("*.html")):
        # Letters have their styles in them.
        if "email" not in path.parts:
            yield path, path.read_text("utf-8")


def _ours(*kinds: str) -> str:
    paths = (path for path in sorted(STATIC_DIR.rglob("*")) if path.suffix in kinds)
    return "\n".join(path.read_text("utf-8") for path in paths if "vendor" not in path.parts)


def test_bootstrap_is_the_part_that_pages_use() -> None:
    assert styles.USED.read_text("utf-8") == styles.used(), "python -m web.styles brings it up to date"


def test_every_class_has_a_rule() -> None:
    """In our styles or in Bootstrap, or a script looks for it: what is misspelt, or was Bootstrap's once, is found here."""
    sheets = _ours(".css") + styles.USED.read_text("utf-8")
    known = set(re.findall(r"\.([A-Za-z_][\w-]*)", re.sub(r'url\("[^"]*"\)', "", sheets))) | NAMES_ONLY
    known |= set(re.findall(r"[\w-]+", " ".join(re.findall(r'"[^"\n]*"|`[^`]*`', _ours(".js")))))
    unknown = {}
    for path, text in _templates():
        for attribute in re.findall(r'\sclass="((?:\{\{.*?\}\}|\{%.*?%\}|[^"])*)"', text, re.DOTALL):
            named = {name for name in _CODE.sub("\0", attribute).split() if "\0" not in name} - known
            if named:
                unknown[path.name] = named
    assert unknown == {}


def test_every_icon_is_drawn_and_used() -> None:
    """In one of the two files, and not in both; one that nothing names any more weighs on nobody."""
    frame = re.findall(r'<symbol id="([^"]+)"', (STATIC_DIR / "img" / "icons.svg").read_text("utf-8"))
    rare = re.findall(r'<symbol id="([^"]+)"', (TEMPLATES_DIR / "icons.svg").read_text("utf-8"))
    assert len({*frame, *rare}) == len([*frame, *rare])
    pages = "".join(text for _path, text in _templates())
    code = "".join(path.read_text("utf-8") for place in ("web", "services") for path in (ROOT / place).rglob("*.py"))
    named = set(re.findall(r"""icon\(["']([\w-]+)["']""", pages))
    assert named - {*frame, *rare} == set(), "add them out of bootstrap-icons to img/icons.svg or templates/icons.svg"
    assert {name for name in (*frame, *rare) if not re.search(rf"""["']{name}["']""", pages + code)} == set()
