"""The API for people: what its OpenAPI document says of each call, laid out to be read on a page of the panel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DEEPEST = 4
_MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Field:
    """One value that is sent or answered; ``name`` with the way to it: ``items[].health.webhook``."""

    name: str
    kind: str
    required: bool
    about: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What a body or an answer holds; several shapes of one body are alternatives, told apart by ``title``."""

    title: str
    about: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. ``curl``: a line for a shell; ``faults``: statuses with what they mean."""

    key: str
    method: str
    path: str
    summary: str
    parameters: tuple[Field, ...]
    media: str
    bodies: tuple[Shape, ...]
    curl: str
    status: str
    answer: Shape | None
    faults: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The calls about one kind of thing; ``slug`` names it in an address."""

    slug: str
    name: str
    operations: tuple[Operation, ...]


def read(document: Mapping[str, Any]) -> tuple[Group, ...]:
    """Return the calls of an OpenAPI 3.1 document in its order of tags."""
    reader = _Reader(document)
    groups: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append(reader.operation(method.upper(), path, operation))
    return tuple(Group(name.lower(), name, tuple(operations)) for name, operations in groups.items())


class _Reader:
    """Follows the references of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._address = document["servers"][0]["url"]

    def operation(self, method: str, path: str, operation: Mapping[str, Any]) -> Operation:
        given = operation.get("parameters", ())
        media, bodies, example = "", tuple[Shape, ...](), None
        if "requestBody" in operation:
            media, content = next(iter(operation["requestBody"]["content"].items()))
            bodies, example = self._bodies(content["schema"]), content.get("example")
        status = next(code for code in operation["responses"] if code.startswith("2"))
        answered = operation["responses"][status].get("content")
        faults = [(code, self._found(each)["description"]) for code, each in operation["responses"].items()]
        return Operation(
            key=operation["operationId"],
            method=method,
            path=path,
            summary=operation["summary"],
            parameters=tuple(
                self._field(each["name"], each["schema"], required=each["required"], about=each.get("description", ""))
                for each in given
            ),
            media=media,
            bodies=bodies,
            curl=self._curl(method, path, media, example),
            status=status,
            answer=self._shape(answered["application/json"]["schema"]) if answered else None,
            faults=tuple((code, about) for code, about in faults if code != status),
        )

    def _found(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def _plain(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """Return a schema without references and "or null", and whether it may be null."""
        schema = self._found(schema)
        if "anyOf" not in schema:
            return schema, False
        others = [each for each in schema["anyOf"] if each.get("type") != "null"]
        found, _ = self._plain(others[0])
        return {**found, **{k: v for k, v in schema.items() if k != "anyOf"}}, len(others) < len(schema["anyOf"])

    def _bodies(self, schema: Mapping[str, Any]) -> tuple[Shape, ...]:
        found = self._found(schema)
        return tuple(self._shape(each) for each in found.get("oneOf", (found,)))

    def _shape(self, schema: Mapping[str, Any]) -> Shape:
        found = self._found(schema)
        only = [f"{name}: {each['const']}" for name, each in found["properties"].items() if "const" in each]
        return Shape(", ".join(only), found.get("description", "").replace("``", "`"), tuple(self._fields(found)))

    def _fields(self, schema: Mapping[str, Any], prefix: str = "", deep: int = 0) -> Iterator[Field]:
        for name, value in schema["properties"].items():
            yield self._field(f"{prefix}{name}", value, required=name in schema.get("required", ()))
            inner, _ = self._plain(value)
            mark = "."
            if inner.get("type") == "array":
                (inner, _), mark = self._plain(inner["items"]), "[]."
            if inner.get("properties") and deep < _DEEPEST:
                yield from self._fields(inner, f"{prefix}{name}{mark}", deep + 1)

    def _field(self, name: str, schema: Mapping[str, Any], *, required: bool, about: str = "") -> Field:
        found, nullable = self._plain(schema)
        told = found.get("description", "") if "properties" not in found or "description" in schema else ""
        about = "; ".join(part for part in (about or told.replace("``", "`"), _bounds(found)) if part)
        return Field(name, self._kind(found) + (" or null" if nullable else ""), required, about)

    def _kind(self, schema: Mapping[str, Any]) -> str:
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return " | ".join(json.dumps(each) for each in schema["enum"])
        if schema.get("format") in ("date-time", "binary"):
            return {"date-time": "time", "binary": "file"}[schema["format"]]
        if schema.get("type") == "array":
            return f"list of {self._kind(self._plain(schema['items'])[0])}"
        return str(schema.get("type", "any"))

    def _curl(self, method: str, path: str, media: str, example: Any) -> str:
        for name in (part[1:-1] for part in path.split("/") if part.startswith("{")):
            path = path.replace("{" + name + "}", f"${name.upper()}")
        verb = "" if method == ("POST" if media else "GET") else f"-X {method} "
        lines = [f'curl {verb}"{self._address}{path}"', '-H "Authorization: Bearer $TOKEN"']
        if media == _MULTIPART:
            lines.append("-F file=@prices.csv")
        elif media:
            lines.append(f"--json {shlex.quote(json.dumps(example, ensure_ascii=False))}")
        return " \\\n  ".join(lines)


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum", schema.get("ge")), schema.get("maximum", schema.get("le"))
    told = []
    if least is not None and most is not None:
        told.append(f"{least}–{most}")
    if "maxLength" in schema:
        told.append(f"at most {schema['maxLength']} characters")
    if schema.get("default") is not None:
        told.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    return ", ".join(told)
