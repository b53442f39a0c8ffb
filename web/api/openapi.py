"""The description of the API for programs, made from the calls themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import TypeAdapter

from web.api.base import PREFIX, Endpoint

_ERRORS = {
    400: "The request is wrong; `field` names what",
    401: "No token, or one that is not valid",
    403: "You work for the owner, whose plan has no room for you now; `code` is `paused`",
    404: "There is nothing here, or it belongs to someone else",
    408: "The body arrived too slowly",
    409: "Not possible in the present state",
    413: "The body is too large",
    415: "The body is of a kind that is not taken here",
    429: "Too many requests; `Retry-After` says when to come back",
    503: "Busy, nothing was accepted; `Retry-After` says when to come back",
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "for programs"},
                "message": {"type": "string", "description": "for people, in the language of `Accept-Language`"},
                "field": {"type": "string", "description": "what was wrong"},
            },
        }
    },
}


def document(endpoints: Sequence[Endpoint], address: str) -> bytes:
    """Return the OpenAPI 3.1 document of these calls as JSON."""
    kinds: list[tuple[Any, Any, TypeAdapter[Any]]] = []
    for endpoint in endpoints:
        if endpoint.body is not None:
            kinds.append((_key(endpoint, "body"), "validation", endpoint.body))
        if endpoint.query is not None:
            kinds.append((_key(endpoint, "query"), "validation", endpoint.query))
        if endpoint.answer is not None:
            kinds.append((_key(endpoint, "answer"), "serialization", endpoint.answer))
    schemas, shared = TypeAdapter.json_schemas(kinds, ref_template="#/components/schemas/{model}")
    definitions = shared.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas, definitions)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "BotFactory",
                "version": "1",
                "description": "Bots that answer customers from a business's own documents. A token acts as its owner.",
            },
            "servers": [{"url": f"{address}{PREFIX}"}],
            "security": [{"token": []}],
            "tags": [{"name": name} for name in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
            "paths": paths,
            "components": {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
                "schemas": {**definitions, "Error": _ERROR_SCHEMA},
                "responses": {
                    str(status): {
                        "description": text,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    }
                    for status, text in _ERRORS.items()
                },
            },
        }
    )


def _key(endpoint: Endpoint, what: str) -> str:
    return f"{endpoint.method} {endpoint.path} {what}"


def _operation(endpoint: Endpoint, schemas: Any, definitions: Any) -> dict[str, Any]:
    module = endpoint.handler.__module__.rpartition(".")[2]
    operation: dict[str, Any] = {
        "operationId": f"{module}_{endpoint.handler.__name__}",
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": {},
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in endpoint.places
    ]
    if endpoint.query is not None:
        schema = schemas[_key(endpoint, "query"), "validation"]
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        parameters += [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": value}
            for name, value in schema["properties"].items()
        ]
    if parameters:
        operation["parameters"] = parameters
    statuses = {400, 401, 429, 503, *endpoint.errors}
    if endpoint.places:
        statuses.add(404)
    if not {"bot_id", "conversation_id"}.isdisjoint(endpoint.places):
        statuses.add(403)
    if endpoint.upload:
        file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
        texts = {
            "caption": {"type": "string", "maxLength": 300, "description": "what it shows; required for a picture"},
            "shared": {"type": "string", "enum": ["true", "false"], "description": "customers may receive the file"},
        }
        form = {"type": "object", "required": ["file"], "properties": {"file": file, **texts}}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    if endpoint.body is not None:
        content: dict[str, Any] = {"schema": schemas[_key(endpoint, "body"), "validation"]}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    if endpoint.upload or endpoint.body is not None:
        statuses |= {408, 413, 415}
    answer: dict[str, Any] = {"description": "Done"}
    if endpoint.answer is not None:
        schema = schemas[_key(endpoint, "answer"), "serialization"]
        answer["content"] = {"application/json": {"schema": schema}}
    operation["responses"][str(int(endpoint.status))] = answer
    for status in sorted(statuses):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    return operation
