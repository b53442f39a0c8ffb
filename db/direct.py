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
from typing import Any

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
    with _Cursor(connection, kept) as cursor:
        cursor.execute(kept.text, kept.bound(parameters))
        return [kept.read(row) for row in cursor.fetchall()]


def change(connection: Connection, statement: Executable, sets: Sequence[Mapping[str, Any]]) -> None:
    """Run an INSERT, UPDATE or DELETE once for each set of parameters, all with the same names.

    Columns of an INSERT that are not named get their default. Raises what SQLAlchemy raises.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(statement, sets)
        return
    kept = _keep(statement, _names(statement, sets))
    with _Cursor(connection, kept) as cursor:
        cursor.executemany(kept.text, [kept.bound(one) for one in sets])


def change_returning(connection: Connection, statement: Executable, sets: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Like :func:`change` for a statement with RETURNING; return all rows together, as tuples with names."""
    if connection.dialect.name != "sqlite":
        return list(connection.execute(statement, sets).all())
    kept = _keep(statement, _names(statement, sets))
    found: list[Any] = []
    with _Cursor(connection, kept) as cursor:
        for one in sets:
            cursor.execute(kept.text, kept.bound(one))
            found += [kept.read(row) for row in cursor.fetchall()]
    return found


class _Kept:
    """One statement as SQLite takes it. ``names``: the columns that an INSERT is given."""

    def __init__(self, statement: Any, names: Sequence[str]) -> None:
        columns = list(names) if names else None
        compiled = statement.compile(dialect=_DIALECT, column_keys=columns, for_executemany=True)
        assert isinstance(compiled, SQLCompiler)
        self.text = compiled.string
        self._given: list[tuple[str, _Convert | None]] = []
        self._defaults = {column.key: column.default for column in compiled.insert_prefetch or ()}
        for name, bind in compiled.binds.items():
            if name == bind.key or name in compiled.bind_names.values():
                self._bind(name, bind)
        assert "POSTCOMPILE" not in self.text
        returned = compiled.effective_returning or ()
        shown = list(returned) or list(getattr(statement, "selected_columns", ()))
        names = [str(column.key) for column in shown]
        self._row = _new_row_type("Row", names)
        readers = [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) for column in shown]
        self._readers = [(place, reader) for place, reader in enumerate(readers) if reader is not None]

    def _bind(self, name: str, bind: Any) -> None:
        convert = bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        marker = f"(__[POSTCOMPILE_{name}])"
        if not bind.expanding and (bind.required or name in self._defaults):
            self._given.append((name, convert))
        elif not bind.expanding:
            # Written out: only what it sees can tell SQLite that a partial index holds all the rows.
            value = convert(bind.value) if convert else bind.value
            self.text = re.sub(rf":{name}\b", _literal(value).replace("\\", r"\\"), self.text)
        elif bind.required:
            # A list goes in as JSON, so that the text stays the same whatever its length.
            column = "value"
            if isinstance(bind.type, TupleType):
                column = ", ".join(f"json_extract(value, '$[{n}]')" for n in range(len(bind.type.types)))
            self.text = self.text.replace(marker, f"(SELECT {column} FROM json_each(:{name}))")  # noqa: S608 - names of our own
            self._given.append((name, _json))
        else:
            self.text = self.text.replace(marker, f"({', '.join(map(_literal, bind.value or ()))})")

    def bound(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as the driver takes them."""
        if self._defaults:
            parameters = {name: _value(default) for name, default in self._defaults.items()} | dict(parameters)
        return {
            name: parameters[name] if convert is None else convert(parameters[name]) for name, convert in self._given
        }

    def read(self, values: Any) -> Any:
        """Return a row of the driver with its types."""
        if self._readers:
            values = list(values)
            for place, reader in self._readers:
                values[place] = reader(values[place])
        return self._row._make(values)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(int(value) if isinstance(value, bool) else value)


def _value(default: Any) -> Any:
    return default.arg(None) if default.is_callable else default.arg


def _names(statement: Executable, sets: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(sets[0])) if isinstance(statement, Insert) else ()


_statements: dict[tuple[Executable, tuple[str, ...]], _Kept] = {}


def _keep(statement: Executable, names: tuple[str, ...]) -> _Kept:
    found = _statements.get((statement, names))
    if found is None:
        found = _statements[statement, names] = _Kept(statement, names)
    return found


class _Cursor:
    """The driver's cursor of a connection; its errors leave as SQLAlchemy's."""

    def __init__(self, connection: Connection, kept: _Kept) -> None:
        self._connection, self._kept = connection, kept
        self._cursor = connection.connection.cursor()

    def __enter__(self) -> Any:
        return self._cursor

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._cursor.close()
        if isinstance(error, sqlite3.Error):
            raise DBAPIError.instance(
                self._kept.text,
                None,
                error,
                sqlite3.Error,
                hide_parameters=True,
                dialect=self._connection.dialect,
            ) from error
