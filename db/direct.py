"""Statements of the conveyor, straight to the driver on SQLite; through SQLAlchemy on PostgreSQL.

SQLAlchemy needs about 70 µs around a statement of which SQLite itself takes 2 to 10, and a message needs two dozen of them. So
what runs for every message is written as ever in SQLAlchemy's language, compiled once and kept, with values converted by the
columns' own types. Only for statements that are made once per process, since each is kept for good. Parameters are named by
``bindparam``; an ``expanding`` one takes a list. On PostgreSQL the network and asyncpg dominate: there nothing is bypassed.
"""

from __future__ import annotations

import re
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Executable, Insert, TupleType
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = sqlite.dialect(paramstyle="named")
_Convert = Callable[[Any], Any]
# By another name: type checkers want to see the fields of a named tuple, which a statement's columns are.
_new_row_type: Callable[[str, Sequence[str]], Any] = namedtuple


def rows(connection: Connection, statement: Executable, parameters: Mapping[str, Any]) -> list[Any]:
    """Run a SELECT; return its rows, which are tuples with names. Raises what SQLAlchemy raises."""
    if connection.dialect.name != "sqlite":
        return list(connection.execute(statement, parameters).all())
    kept = _keep(statement, ())
    text, bound = kept.bound(parameters, alone=True)
    try:
        found = _driver(connection).execute(text, bound).fetchall()
    except sqlite3.Error as error:
        raise _wrapped(connection, text, error) from error
    return kept.read(found)


def change(connection: Connection, statement: Executable, sets: Sequence[Mapping[str, Any]]) -> None:
    """Run an INSERT, UPDATE or DELETE once for each set of parameters, all with the same names.

    Columns of an INSERT that are not named get their default. Raises what SQLAlchemy raises.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement, sets)
        return
    kept = _keep(statement, _names(statement, sets))
    driver, text = _driver(connection), kept.text
    try:
        if len(sets) == 1:
            text, bound = kept.bound(sets[0], alone=True)
            driver.execute(text, bound)
        else:
            driver.executemany(text, [kept.bound(one)[1] for one in sets])
    except sqlite3.Error as error:
        raise _wrapped(connection, text, error) from error


def change_returning(connection: Connection, statement: Executable, sets: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Like :func:`change` for a statement with RETURNING; return all rows together, as tuples with names."""
    if connection.dialect.name != "sqlite":
        return list(connection.execute(statement, sets).all())
    kept = _keep(statement, _names(statement, sets))
    driver = _driver(connection)
    found: list[Any] = []
    for one in sets:
        text, bound = kept.bound(one, alone=True)
        try:
            found += driver.execute(text, bound).fetchall()
        except sqlite3.Error as error:
            raise _wrapped(connection, text, error) from error
    return kept.read(found)


class _List(NamedTuple):
    """A parameter that takes a list: of tuples ``width`` wide, 0 for plain values; how the text asks for it."""

    name: str
    width: int
    several: str
    alone: str


class _Kept:
    """One statement as SQLite takes it. ``names``: the columns that an INSERT is given."""

    def __init__(self, statement: Any, names: Sequence[str]) -> None:
        columns = list(names) if names else None
        compiled = statement.compile(dialect=_DIALECT, column_keys=columns, for_executemany=True)
        assert isinstance(compiled, SQLCompiler)
        self.text = compiled.string
        self._converts: list[tuple[str, _Convert]] = []
        self._defaults: dict[str, Any] = {column.key: column.default for column in compiled.insert_prefetch or ()}
        lists: list[_List] = []
        for name, bind in compiled.binds.items():
            if name == bind.key or name in compiled.bind_names.values():
                lists += self._bind(name, bind)
        assert "POSTCOMPILE" not in self.text and len(lists) <= 1
        self._list = lists[0] if lists else None
        self._text_of_one = self.text.replace(self._list.several, self._list.alone) if self._list else ""
        returned = compiled.effective_returning or ()
        shown = list(returned) or list(getattr(statement, "selected_columns", ()))
        names = [str(column.key) for column in shown]
        self._row = _new_row_type("Row", names)
        readers = [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) for column in shown]
        self._readers = [(place, reader) for place, reader in enumerate(readers) if reader is not None]

    def _bind(self, name: str, bind: Any) -> list[_List]:
        """Prepare a parameter; return how the text asks for it if it takes a list."""
        convert = bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        marker = f"(__[POSTCOMPILE_{name}])"
        if not bind.expanding and (bind.required or name in self._defaults):
            if convert is not None:
                self._converts.append((name, convert))
        elif not bind.expanding:
            # Written out: only what it sees can tell SQLite that a partial index holds all the rows.
            value = convert(bind.value) if convert else bind.value
            self.text = re.sub(rf":{name}\b", _literal(value).replace("\\", r"\\"), self.text)
        elif bind.required:
            # A list goes in as JSON, so that the text stays the same whatever its length.
            column, alone, width = "value", f"(:{name})", 0
            if isinstance(bind.type, TupleType):
                width = len(bind.type.types)
                column = ", ".join(f"json_extract(value, '$[{n}]')" for n in range(width))
                alone = f"(VALUES ({', '.join(f':{name}_{n}' for n in range(width))}))"
            several = f"(SELECT {column} FROM json_each(:{name}))"  # noqa: S608 - names of our own
            self.text = self.text.replace(marker, several)
            return [_List(name, width, several, alone)]
        else:
            self.text = self.text.replace(marker, f"({', '.join(map(_literal, bind.value or ()))})")
        return []

    def bound(self, parameters: Mapping[str, Any], *, alone: bool = False) -> tuple[str, Mapping[str, Any]]:
        """Return text and parameters as the driver takes them; it passes over those that the text does not name.

        ``alone``: the text need not be the same for other parameters; a list of one, the usual, is spared the way through JSON.
        """
        if self._list is None and not self._converts and not self._defaults:
            return self.text, parameters
        values = dict(parameters)
        for name, default in self._defaults.items():
            values[name] = default.arg(None) if default.is_callable else default.arg
        for name, convert in self._converts:
            values[name] = convert(values[name])
        if self._list is None:
            return self.text, values
        name = self._list.name
        items = values[name]
        if not alone or len(items) != 1:
            values[name] = orjson.dumps(items).decode()
            return self.text, values
        if self._list.width:
            values |= {f"{name}_{n}": part for n, part in enumerate(items[0])}
            del values[name]
        else:
            values[name] = items[0]
        return self._text_of_one, values

    def read(self, found: Sequence[Any]) -> list[Any]:
        """Return rows of the driver with their types."""
        if self._readers:
            found = [self._typed(list(values)) for values in found]
        return list(map(self._row._make, found))

    def _typed(self, values: list[Any]) -> list[Any]:
        for place, reader in self._readers:
            values[place] = reader(values[place])
        return values


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(int(value) if isinstance(value, bool) else value)


def _names(statement: Executable, sets: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(sets[0])) if isinstance(statement, Insert) else ()


_statements: dict[tuple[Executable, tuple[str, ...]], _Kept] = {}


def _keep(statement: Executable, names: tuple[str, ...]) -> _Kept:
    found = _statements.get((statement, names))
    if found is None:
        found = _statements[statement, names] = _Kept(statement, names)
    return found


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _wrapped(connection: Connection, text: str, error: sqlite3.Error) -> BaseException:
    """Return the driver's error as SQLAlchemy raises it."""
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect)
