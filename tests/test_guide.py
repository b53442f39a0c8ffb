"""The guide and the READMEs keep to what is there, and are alike in three languages.

Links, anchors, pictures, words of the screen (in bold), names of settings, commands and addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po

from handlers.commands import COMMANDS
from services.i18n import CATALOGS, LOCALES_DIR
from services.payments.click import Click
from services.payments.payme import Payme
from services.payments.uzum import Uzum
from services.settings import _ENVIRONMENT
from web.guide import NAMES
from web.middlewares import WEBHOOKS

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guide"
LANGUAGES = ("uz", "ru", "en")
PAGES = ("README", *NAMES)
READMES = {"uz": ROOT / "README.uz.md", "ru": ROOT / "README.ru.md", "en": ROOT / "README.md"}
TEXTS = [GUIDE / language / f"{page}.md" for language in LANGUAGES for page in PAGES] + list(READMES.values())

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(!?)\[[^\]\n]*\]\(([^)\s]+)\)")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_IN_A_LANGUAGE = re.compile(r"(?<=screenshots/)(uz|ru|en)/")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """What a page says besides its blocks of code."""
    return _FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found = set()
    for _level, title in _HEADING.findall(prose(path)):
        kept = "".join(each for each in title.lower() if each.isalnum() or each in " -_")
        found.add(kept.replace(" ", "-"))
    return found


@lru_cache(maxsize=len(LANGUAGES))
def words(language: str) -> frozenset[str]:
    """Every text of the program in a language."""
    assert set(LANGUAGES) == set(CATALOGS)
    with (LOCALES_DIR / language / "LC_MESSAGES" / "messages.po").open("rb") as source:
        catalog = read_po(source, locale=language)
    found: set[str] = set()
    for message in catalog:
        ids: Any = message.id if isinstance(message.id, tuple) else (message.id,)
        said: Any = message.string if isinstance(message.string, tuple) else (message.string,)
        found.update(said if any(said) else ids)
    return frozenset(found)


def test_the_three_languages_have_the_same_pages() -> None:
    assert {each.name for each in GUIDE.iterdir()} == set(LANGUAGES)
    for language in LANGUAGES:
        assert sorted(each.name for each in (GUIDE / language).iterdir()) == sorted(f"{page}.md" for page in PAGES)


@pytest.mark.parametrize("page", [*PAGES, "the front page"])
def test_a_page_is_built_alike_in_the_three_languages(page: str) -> None:
    paths = [
        READMES[language] if page == "the front page" else GUIDE / language / f"{page}.md" for language in LANGUAGES
    ]
    first, *others = (shape(path) for path in paths)
    for other in others:
        assert other == first


def shape(path: Path) -> dict[str, Any]:
    """What must be the same in every language: sections, steps, rows, what is typed and where links lead."""
    text = path.read_text("utf-8")
    plain = prose(path)
    leads = Counter(
        _IN_A_LANGUAGE.sub("", re.sub(r"README(\.uz|\.ru)?\.md$", "README", target.partition("#")[0]))
        for _picture, target in _LINK.findall(plain)
        if not target.startswith("../") or target.startswith(("../../", "../../../"))
    )
    sections = [
        (len(heading[1]), len(re.findall(r"^\d+\. ", body, re.MULTILINE)), len(re.findall(r"^\|", body, re.MULTILINE)))
        for heading, body in zip(_HEADING.finditer(plain), _HEADING.split(plain)[3::3], strict=True)
    ]
    typed = Counter(each for each in _CODE.findall(plain) if each.isascii() and ("_" in each or each.startswith("/")))
    return {
        "sections": sections,
        "leads": {key: count for key, count in leads.items() if key != "README"},
        "typed": typed,
        "blocks": [block.partition("\n")[0] for block in _FENCE.findall(text)],
    }


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_every_link_anchor_and_picture_is_there(path: Path) -> None:
    for _picture, target in _LINK.findall(prose(path)):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.is_relative_to(ROOT), target
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("path", [path for path in TEXTS if path.parent.parent == GUIDE], ids=name)
def test_words_of_the_screen_are_the_programs_own(path: Path) -> None:
    quoted = _BOLD.findall(prose(path))
    if path.name != "README.md":
        assert quoted
    assert [each for each in quoted if each not in words(path.parent.name)] == []


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_variables_and_commands_are_the_programs_own(path: Path) -> None:
    named = {each for code in _CODE.findall(prose(path)) for each in _VARIABLE.findall(code)}
    assert named - set(_ENVIRONMENT) - {"PUBLIC_ID"} == set()
    if path.name == "first-bot.md":
        rows = re.findall(r"^\| `/(\w+)` \|", path.read_text("utf-8"), re.MULTILINE)
        assert rows
        assert set(rows) <= {command for command, _text in COMMANDS}


@pytest.mark.parametrize("language", LANGUAGES)
def test_settings_are_those_of_the_file(language: str) -> None:
    config = (ROOT / "config.toml").read_text("utf-8")
    for code in _CODE.findall(prose(GUIDE / language / "installation.md")):
        if re.fullmatch(r"[a-z]+(_[a-z]+)+( = \d+)?", code) and code not in ("order_id", "pg_restore"):
            assert re.search(rf"^{code.partition(' ')[0]} = ", config, re.MULTILINE), code
        elif re.fullmatch(r"\[[a-z.*]+\]", code):
            section = code.strip("[]").removesuffix(".*")
            assert re.search(rf"^\[{re.escape(section)}[.\]]", config, re.MULTILINE), code


@pytest.mark.parametrize("language", LANGUAGES)
def test_addresses_for_others_are_those_that_answer(language: str) -> None:
    gateways = {
        f"/payments/{one.kind}/{action}".rstrip("/") for one in (Payme, Click, Uzum) for action in one.actions or ("",)
    }
    named: set[str] = set()
    for path in (GUIDE / language).iterdir():
        named |= set(re.findall(r"`https://…(/[a-z/]+)`", path.read_text("utf-8")))
    assert named <= gateways | set(WEBHOOKS)
    assert {"/whatsapp/webhook", "/instagram/webhook", "/payments/payme"} <= named
    codes = _CODE.findall(prose(GUIDE / language / "installation.md"))
    for address in gateways:
        assert address in named or address.removeprefix(f"/payments/{Uzum.kind}") in codes, address
