"""The house keeps its order: who imports whom, where each library is known, and that people read only catalogue texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from jinja2.ext import ExprStmtExtension, InternationalizationExtension

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "bot": {"handlers", "web", "services", "db"},
    "handlers": {"handlers", "services", "db"},
    "web": {"web", "services", "db"},
    "services": {"services", "db"},
    "db": {"db"},
}
OURS = {*LAYERS, "tests", "bench"}
# In these packages every module but the named ones is an adapter of one outside service.
NOT_ADAPTERS = {
    "channels": set[str](),
    "ai": {"router", "usage", "batch", "prices", "output", "transport"},
    "payments": {"ledger", "orders", "reversals"},
    "media": {"renders"},
    "social": {"posts", "campaigns", "insights"},
}
READERS = {"pdf", "docx", "csv", "txt"}
PURE = {"services.i18n", "services.scripts", "services.text"}
AIOGRAM = ("handlers/", "services/channels/telegram.py", "services/polling.py", "services/social/telegram.py", "bot.py")
SLOW_SDKS = {"openai", "anthropic", "google.genai", "pypdf", "pypdfium2", "docx"}
CYRILLIC = re.compile(r"[\u0400-\u04ff]")
UZBEK = re.compile(r"\b[oOgG][ʻʼ‘’'`][a-zA-Z]")
ANSWERING = {"answer", "reply", "edit_text", "send_message", "answer_document", "answer_photo", "edit_caption"}
NAMES_NOT_TRANSLATED = {"BotFactory", "Telegram", "WhatsApp", "Instagram", "O‘zbekcha", "Ўзбекча", "Русский", "English"}


@dataclass(frozen=True)
class Module:
    """A source file, its place, and its syntax tree."""

    path: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]

    def imports(self, *, at_start: bool = False) -> Iterator[tuple[int, str, str]]:
        """Yield (line, module, name) of every import; ``at_start``: only those that run when the module is imported."""
        for node in self._run_at_import(self.tree) if at_start else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name, ""
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = self.package.split(".")
                    base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
                for alias in node.names:
                    yield node.lineno, base, alias.name

    def _run_at_import(self, node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            yield from self._run_at_import(child)

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Yield every call with the last part of the called name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                function = node.func
                yield node, function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    files = [path for folder in LAYERS for path in (ROOT / folder).rglob("*.py")] + [ROOT / "bot.py"]
    present = sorted(path for path in files if path.exists())
    return tuple(Module(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in present)


def under(*places: str) -> Iterator[Module]:
    return (module for module in modules() if module.path.startswith(places))


def within(module: str, parent: str) -> bool:
    return module == parent or module.startswith(f"{parent}.")


def assert_none(found: Iterator[str]) -> None:
    problems = list(found)
    assert not problems, "\n" + "\n".join(problems)


def test_nothing_points_back() -> None:
    def find() -> Iterator[str]:
        for module in modules():
            layer = module.name.split(".", 1)[0]
            for line, imported, _name in module.imports():
                other = imported.split(".", 1)[0]
                if other in OURS and other not in LAYERS[layer]:
                    yield f"{module.path}:{line}: {layer} imports {imported}"

    assert_none(find())


def adapters() -> Iterator[Module]:
    for module in under("services/"):
        parts = module.name.split(".")
        if len(parts) < 3:
            continue
        kind, own = parts[1], parts[2]
        if (kind in NOT_ADAPTERS and own not in NOT_ADAPTERS[kind]) or (kind == "knowledge" and own in READERS):
            yield module


def test_an_adapter_knows_only_its_base_http_and_errors() -> None:
    """And what knows nothing but text: an adapter marks labels and errors for translation, and may fold letters."""
    assert list(adapters())

    def find() -> Iterator[str]:
        for module in adapters():
            kind, own = module.name.split(".")[1:3]
            # Data that several adapters of a kind need lies beside them, in modules that are bound likewise or are data.
            allowed = {
                "services.http",
                "services.errors",
                *PURE,
                f"services.{kind}.base",
                f"services.{kind}.{own}",
            }
            allowed |= {
                f"services.{kind}.{name}"
                for name in ("prices", "transport", "output", "tables", "letters", "meta", "wire")
            }
            for line, imported, name in module.imports():
                target = f"{imported}.{name}" if name else imported
                ours = imported.split(".", 1)[0] in OURS
                if ours and not any(within(target, place) or within(imported, place) for place in allowed):
                    yield f"{module.path}:{line}: an adapter imports {target}"

    assert_none(find())


def test_aiogram_is_known_to_few() -> None:
    def find() -> Iterator[str]:
        for module in modules():
            if not module.path.startswith(AIOGRAM):
                yield from (
                    f"{module.path}:{line}" for line, imported, _ in module.imports() if within(imported, "aiogram")
                )

    assert_none(find())


def test_the_http_server_is_known_to_the_web_only() -> None:
    server = ("aiohttp.web", "aiohttp_jinja2", "aiohttp_session", "aiohttp_sse")

    def find() -> Iterator[str]:
        for module in modules():
            if module.path.startswith("web/") or module.path == "bot.py":
                continue
            for line, imported, name in module.imports():
                whole = f"{imported}.{name}" if name else imported
                if any(within(whole, part) for part in server):
                    yield f"{module.path}:{line}: {whole}"
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("aiohttp.web"):
                    yield f"{module.path}:{node.lineno}: aiohttp.web"

    assert_none(find())


def test_only_one_place_creates_tasks() -> None:
    def find() -> Iterator[str]:
        for module in modules():
            if module.path != "services/tasks.py":
                for call, name in module.calls():
                    if name in ("create_task", "ensure_future"):
                        yield f"{module.path}:{call.lineno}: {name}"

    assert_none(find())


def test_queries_live_in_services_and_db() -> None:
    statements = {"select", "insert", "update", "delete", "text", "func", "union_all", "exists"}

    def find() -> Iterator[str]:
        for module in under("handlers/", "web/"):
            for line, imported, name in module.imports():
                if within(imported, "sqlalchemy") and (not name or name in statements):
                    yield f"{module.path}:{line}: {imported} {name}"

    assert_none(find())


def test_settings_are_read_in_one_place() -> None:
    def find() -> Iterator[str]:
        for module in modules():
            if module.path in ("services/settings.py", "services/bootstrap.py", "bot.py"):
                continue
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
                    yield f"{module.path}:{node.lineno}: the environment"

    assert_none(find())


def test_slow_sdks_are_imported_at_first_use() -> None:
    def find() -> Iterator[str]:
        for module in under("services/", "web/", "handlers/", "bot.py"):
            for line, imported, name in module.imports(at_start=True):
                if any(within(place, sdk) for place in (imported, f"{imported}.{name}") for sdk in SLOW_SDKS):
                    yield f"{module.path}:{line}: {imported}"

    assert_none(find())


def _docstrings(tree: ast.Module) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.add(id(statement.value))
    return found


def test_the_edges_hold_no_text_in_a_language_of_people() -> None:
    def find() -> Iterator[str]:
        for module in under("handlers/", "web/"):
            described = _docstrings(module.tree)
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
                    shown = node.value
                    if shown not in NAMES_NOT_TRANSLATED and (CYRILLIC.search(shown) or UZBEK.search(shown)):
                        yield f"{module.path}:{node.lineno}: {shown!r} belongs into the catalogues"

    assert_none(find())


def test_what_is_said_to_people_comes_from_the_catalogue() -> None:
    def find() -> Iterator[str]:
        for module in under("handlers/", "web/"):
            for call, name in module.calls():
                if name in ANSWERING and isinstance(call.func, ast.Attribute):
                    said = [*call.args, *(key.value for key in call.keywords if key.arg in ("text", "caption"))]
                    for node in said:
                        if isinstance(node, ast.JoinedStr):
                            words = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
                        else:
                            words = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
                        if re.search(r"[^\W\d_]{2}", words):
                            yield f"{module.path}:{node.lineno}: {words!r} without _()"

    assert_none(find())


def test_a_text_for_translation_is_whole() -> None:
    def find() -> Iterator[str]:
        for module in modules():
            for call, name in module.calls():
                marks = {"_": 0, "T": 0, "N_": 0, "translate": 1}
                at = marks.get(name) if isinstance(call.func, ast.Name) else None
                if at is not None and len(call.args) > at and isinstance(call.args[at], ast.JoinedStr):
                    yield f"{module.path}:{call.lineno}: a text with its values inside cannot be translated"

    assert_none(find())


class _Visible(HTMLParser):
    """Collects what people see or hear of a page: texts, and the attributes that are read out."""

    attributes = frozenset({"title", "placeholder", "alt", "aria-label", "aria-description", "value", "content"})
    silent = frozenset({"script", "style", "code", "pre", "svg", "kbd", "samp"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.silent
        if dict(attrs).get("type") == "hidden" or tag in ("meta", "option"):
            return
        self.found += [text for name, text in attrs if name in self.attributes and text]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self.silent

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)


def template_texts(source: str) -> list[str]:
    """Return the words that a template shows without asking the catalogue."""
    environment = jinja2.Environment(extensions=[InternationalizationExtension, ExprStmtExtension])
    pieces = []
    inside = 0
    for _line, kind, text in environment.lex(source):
        if kind == "data":
            pieces.append(text)
        elif kind.endswith("_begin") and kind != "raw_begin":
            inside += 1
            pieces.append(" ")
        elif kind.endswith("_end"):
            inside -= 1
    parser = _Visible()
    parser.feed("".join(pieces))
    parser.close()
    words = (" ".join(text.split()) for text in parser.found)
    return [text for text in words if re.search(r"[^\W\d_]{2}", text) and text not in NAMES_NOT_TRANSLATED]


def test_templates_show_catalogue_texts() -> None:
    def find() -> Iterator[str]:
        for path in sorted((ROOT / "templates").rglob("*.html")):
            for text in template_texts(path.read_text()):
                yield f"{path.relative_to(ROOT)}: {text!r} without _()"

    assert_none(find())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>{{ _('Hello') }} · {{ name }}</p>", []),
        ("<p>Salom</p>", ["Salom"]),
        ('<input placeholder="Your name">', ["Your name"]),
        ('<a title="{% if x %}{{ _("A b") }}{% endif %}">1</a><script>let word = 1</script>', []),
    ],
)
def test_the_walk_over_templates_sees_words(source: str, found: list[str]) -> None:
    assert template_texts(source) == found


@pytest.mark.parametrize(
    ("path", "code", "check"),
    [
        ("services/channels/x.py", "from services import bots", test_an_adapter_knows_only_its_base_http_and_errors),
        ("services/x.py", "def f():\n    from web import app", test_nothing_points_back),
        ("web/x.py", "from handlers import start", test_nothing_points_back),
        ("services/x.py", "import aiogram", test_aiogram_is_known_to_few),
        ("services/x.py", "from aiohttp import web", test_the_http_server_is_known_to_the_web_only),
        ("web/x.py", "import asyncio\nasyncio.create_task(f())", test_only_one_place_creates_tasks),
        ("handlers/x.py", "from sqlalchemy import select", test_queries_live_in_services_and_db),
        ("services/ai/x.py", "import openai", test_slow_sdks_are_imported_at_first_use),
        ("handlers/x.py", "TEXT = 'Привет'", test_the_edges_hold_no_text_in_a_language_of_people),
        (
            "handlers/x.py",
            "async def f(m):\n    await m.answer(f'Hello {1}')",
            test_what_is_said_to_people_comes_from_the_catalogue,
        ),
        ("handlers/x.py", "_(f'Hello {name}')", test_a_text_for_translation_is_whole),
        ("web/x.py", "import os\nos.environ['A']", test_settings_are_read_in_one_place),
    ],
)
def test_the_rules_see_what_breaks_them(
    path: str, code: str, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*modules(), Module(path, ast.parse(code)))
    monkeypatch.setitem(globals(), "modules", lambda: broken)
    with pytest.raises(AssertionError, match=re.escape(path)):
        check()
