"""aiogram, imported without building its models. To be imported before anything else of aiogram is.

While it is imported, aiogram has pydantic build a validator and a serializer for each of its 450 types and 180 methods: seconds
of processor time and 110 MB, and the factory bot needs some thirty of them. pydantic can build a model when it is used for
the first time (``defer_build``, which aiogram sets for its types and then undoes: it rebuilds each of them at once, since
it imports the names in their annotations for type checkers only, and gives them along with that call).

So here that call leaves the names in the module of the type, where pydantic looks for them later, and methods are deferred
like types. Nothing of pydantic is touched, and of aiogram only its two base classes. Should it ever not be as expected,
aiogram is imported as usual. Checked with aiogram 3.31.0 and pydantic 2.13.5; ``tests/handlers/test_lean.py`` builds every model.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

import pydantic
import structlog

log = structlog.get_logger(__name__)

_BASES = {"aiogram.types.base": "TelegramObject", "aiogram.methods.base": "TelegramMethod"}
_FIRST = ("Message", "Update")
"""Built at once: the first person who writes needs them, and they show whether it works."""

_building = threading.RLock()


class _Unexpected(Exception):
    """aiogram or pydantic does not work in the way that this module knows."""


@cache
def _names(annotation: str) -> tuple[str, ...]:
    return compile(annotation, "<annotation>", "eval").co_names


def _leave_names(cls: type[pydantic.BaseModel], names: Mapping[str, Any]) -> None:
    """Put what the annotations of ``cls`` speak of, inherited ones too, where pydantic will look for it."""
    module = vars(sys.modules[cls.__module__])
    for base in cls.__mro__:
        for annotation in inspect.get_annotations(base).values():
            if isinstance(annotation, str):
                for name in _names(annotation):
                    if name in names:
                        module.setdefault(name, names[name])


class _Deferred:
    """One of aiogram's two base classes, changed so that the models below it are built at their first use."""

    def __init__(self, base: type[pydantic.BaseModel]) -> None:
        self.importing, self.put_off = True, 0
        deferred = self

        def model_rebuild(
            cls: type[pydantic.BaseModel],
            /,
            *,
            _parent_namespace_depth: int = 2,
            _types_namespace: Mapping[str, Any] | None = None,
            **options: Any,
        ) -> bool | None:
            if deferred.importing and _types_namespace is not None:
                _leave_names(cls, _types_namespace)
                deferred.put_off += 1
                return None
            if _types_namespace is None and cls.__module__.startswith("aiogram."):
                # pydantic would let the variables of whoever happens to be first go before the names of the module.
                _types_namespace = {}
            inherited: Any = super(base, cls)
            # pydantic calls this at a model's first use, and does not expect two threads to be first together.
            with _building:
                built: bool | None = inherited.model_rebuild(
                    _parent_namespace_depth=_parent_namespace_depth + 1, _types_namespace=_types_namespace, **options
                )
            return built

        def init_subclass(cls: type[pydantic.BaseModel], /, **options: Any) -> None:
            inherited: Any = super(base, cls)
            inherited.__init_subclass__(**options)
            if not deferred.importing:
                # A model of another module inherits fields as they are by now, and does not see the names they need.
                for parent in cls.__mro__[1:]:
                    if issubclass(parent, base):
                        parent.model_rebuild(raise_errors=False)

        base.model_config["defer_build"] = True
        base.model_rebuild = classmethod(model_rebuild)  # type: ignore[method-assign, assignment]  # the hooks of pydantic that build models at once
        base.__init_subclass__ = classmethod(init_subclass)  # type: ignore[method-assign, assignment]  # the hooks of pydantic that build models at once


class _Loader(SourceFileLoader):
    """Runs a module as usual and then changes the base class in it."""

    def __init__(self, usual: SourceFileLoader, found: list[_Deferred]) -> None:
        super().__init__(usual.name, usual.path)
        self._found = found

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        self._found.append(_Deferred(getattr(module, _BASES[module.__name__])))


class _Finder(MetaPathFinder):
    """Lets the modules that define the base classes be loaded by :class:`_Loader`."""

    def __init__(self) -> None:
        self.found: list[_Deferred] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _BASES else None
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _Loader(spec.loader, self.found)
        return spec


def _import_lean() -> None:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        types = importlib.import_module("aiogram.types")
        importlib.import_module("aiogram.methods")
    finally:
        sys.meta_path.remove(finder)
        for base in finder.found:
            base.importing = False
    if len(finder.found) != len(_BASES) or not any(base.put_off for base in finder.found):
        raise _Unexpected("aiogram does not build its models as it did")
    for name in _FIRST:
        getattr(types, name).model_rebuild()


def _forget() -> None:
    for name in [name for name in sys.modules if name == "aiogram" or name.startswith("aiogram.")]:
        del sys.modules[name]


def _import() -> None:
    try:
        _import_lean()
    except Exception as error:  # noqa: BLE001 - a saving must not keep the factory bot from starting, whatever is wrong with it
        log.warning("aiogram_imported_whole", reason=type(error).__name__, detail=str(error)[:200])
        _forget()
        importlib.import_module("aiogram")


if "aiogram" not in sys.modules:
    _import()
