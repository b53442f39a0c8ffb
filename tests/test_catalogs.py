"""The catalogues hold every text of the program, translated, with the same places, as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_keywords, parse_mapping_cfg
from babel.messages.pofile import read_po

from services.i18n import CATALOGS, LOCALES_DIR
from tests.extraction import extract_code

ROOT = Path(__file__).resolve().parent.parent
_PLACE = re.compile(r"\{([^{}]*)\}")
_PLACE_NAME = re.compile(r"[a-z][a-z_0-9]*")
_MARKDOWN = re.compile(
    r"""
      \*\*|__|`                              # bold, code
    | (?<![\w*])\*[^\s*][^*\n]*\*(?![\w*])   # *word*
    | (?<![\w/{])_[^\s_][^_\n]*_(?![\w}])    # _word_
    | \[[^\]]+\]\([^)]*\)                    # [text](address)
    | ^\s*(\#{1,6}|[*+])\s                   # heading, list
    | ^\s*>\s                                # quotation
    """,
    re.VERBOSE | re.MULTILINE,
)


@lru_cache(maxsize=1)
def extracted() -> Catalog:
    """Collect the texts as ``make messages`` does: the same places, the same keywords."""
    marks = re.search(r"^KEYWORDS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert marks
    words = [word for word in marks[1].split() if word != "-k"]
    with (ROOT / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)  # type: ignore[no-untyped-call]  # babel has no types here
    catalog = Catalog()
    found = extract_from_dir(
        str(ROOT),
        methods,
        options,
        keywords=parse_keywords(words),
        directory_filter=lambda folder: Path(folder).name[0] not in "._",
    )
    for file_name, line, message_id, _comments, context in found:
        catalog.add(message_id, None, [(file_name, line)], context=context)
    return catalog


@lru_cache(maxsize=len(CATALOGS))
def catalogue(language: str) -> Catalog:
    with (LOCALES_DIR / language / "LC_MESSAGES" / "messages.po").open("rb") as source:
        return read_po(source, locale=language)


def forms(text: object) -> tuple[str, ...]:
    """Return the forms of an id or a translation; a text without a plural has one."""
    return (text,) if isinstance(text, str) else tuple(text) if isinstance(text, list | tuple) else ()


def shown(message: Message) -> str:
    where = ", ".join(sorted({place[0] for place in message.locations}))
    return f"{forms(message.id)[0]!r} ({where})" if where else repr(forms(message.id)[0])


def messages(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def test_the_texts_of_the_program_are_found() -> None:
    assert "Please sign in first." in extracted()


@pytest.mark.parametrize(
    "call",
    [
        'translator(user.language)("Hello")',
        'talk.gettext("Hello")',
        '_(f"Hello {name}")',
        '_("Hello" if known else "Welcome")',
        'translate(language, "Hello, " + name)',
    ],
)
def test_a_text_that_would_not_be_found_is_refused(call: str) -> None:
    with pytest.raises(ValueError, match="would not be found"):
        list(extract_code(BytesIO(call.encode()), {"_": None, "translate": (2,)}, (), {}))


def test_the_program_writes_plain_text_with_plain_places() -> None:
    problems = [
        f"{shown(message)}: {problem}"
        for message in messages(extracted())
        for text in forms(message.id)
        for problem in _problems(text)
    ]
    assert not problems, "\n".join(problems)


def _problems(text: str) -> Iterator[str]:
    if _MARKDOWN.search(text):
        yield "Markdown, but every text is shown as it is"
    for place in _PLACE.findall(text):
        if not _PLACE_NAME.fullmatch(place):
            yield f"the place {{{place}}} is not a lower-case name"


@pytest.mark.parametrize("language", CATALOGS)
def test_every_text_is_translated(language: str) -> None:
    """In English a text may be left empty: then its id is shown, which is English."""
    translated = catalogue(language)
    problems = []
    for message in messages(extracted()):
        entry = translated.get(forms(message.id)[0], message.context)
        if entry is None or entry.fuzzy or forms(entry.id) != forms(message.id):
            problems.append(f"{'missing' if entry is None else 'fuzzy or changed'}: {shown(message)}")
        elif language != "en" and not (
            all(forms(entry.string))
            and len(forms(entry.string)) == (translated.num_plurals if entry.pluralizable else 1)
        ):
            problems.append(f"not translated: {shown(message)}")
    assert not problems, f"{len(problems)} texts; run make messages, then translate:\n" + "\n".join(problems)


@pytest.mark.parametrize("language", CATALOGS)
def test_no_text_is_left_over(language: str) -> None:
    known = extracted()
    left = [shown(message) for message in messages(catalogue(language)) if message.id not in known]
    left += [f"obsolete: {name!r}" for name in catalogue(language).obsolete]
    assert not left, "\n".join(left)


@pytest.mark.parametrize("language", CATALOGS)
def test_translations_keep_the_places_and_are_plain(language: str) -> None:
    problems = []
    for message in messages(catalogue(language)):
        expected = [set(_PLACE.findall(text)) for text in forms(message.id)]
        for text in filter(None, forms(message.string)):
            if set(_PLACE.findall(text)) not in expected:
                problems.append(f"{shown(message)}: other places in {text!r}")
            problems += [f"{shown(message)}: {problem} in {text!r}" for problem in _problems(text)]
    assert not problems, "\n".join(problems)
