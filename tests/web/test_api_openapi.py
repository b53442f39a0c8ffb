"""The document of the API describes what is there: all of it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests import servers
from tests.web.site import Site, started
from web import api
from web.app import make_app

METHODS = {"get", "post", "patch", "delete"}


@pytest.fixture(scope="module")
async def site(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("openapi")
    async with started(folder, servers_run.new_sqlite(folder)) as running:
        yield running


@pytest.fixture(scope="module")
async def document(site: Site) -> Any:
    answer = await site.nobody.get("/openapi.json")
    assert answer.status == 200
    return answer.body


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def resolved(document: Any, reference: str) -> Any:
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


async def test_every_route_is_described_and_no_other(site: Site, document: Any) -> None:
    routes = set()
    for route in make_app(site.core).router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        if path.startswith("/api/v1/") and path != "/api/v1/openapi.json" and route.method != "*":
            routes.add((route.method.lower(), path.removeprefix("/api/v1")))
    described = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert routes == described


def test_the_document_has_the_shape_of_openapi(document: Any) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] and document["info"]["version"]
    assert document["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    names: set[str] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method in METHODS
            assert operation["summary"] and operation["tags"]
            assert operation["operationId"] not in names
            names.add(operation["operationId"])
            places = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path" and p["required"]}
            assert places == set(re.findall(r"{(\w+)}", path))
            good = [status for status in operation["responses"] if status.startswith("2")]
            assert len(good) == 1
            assert {"400", "401", "429", "503"} <= set(operation["responses"])
            if good != ["204"]:
                assert operation["responses"][good[0]]["content"]["application/json"]["schema"]
            for response in operation["responses"].values():
                assert "description" in (resolved(document, response["$ref"]) if "$ref" in response else response)
    for node in nodes(document):
        if "$ref" in node:
            assert resolved(document, node["$ref"])


def test_the_promised_calls_are_there(document: Any) -> None:
    promised = {
        "/bots": "get post",
        "/bots/{bot_id}": "get patch delete",
        "/bots/{bot_id}/start": "post",
        "/bots/{bot_id}/stop": "post",
        "/bots/{bot_id}/documents": "get post",
        "/bots/{bot_id}/documents/{document_id}": "get patch delete",
        "/bots/{bot_id}/channels": "get post",
        "/bots/{bot_id}/channels/{channel_id}": "delete",
        "/bots/{bot_id}/chat": "post",
        "/bots/{bot_id}/conversations": "get",
        "/conversations/{conversation_id}": "patch",
        "/conversations/{conversation_id}/messages": "get post",
        "/bots/{bot_id}/unanswered": "get",
        "/bots/{bot_id}/answers": "get post",
        "/bots/{bot_id}/answers/{answer_id}": "delete",
        "/plans": "get",
        "/subscription": "get",
        "/usage": "get",
        "/payments": "post",
        "/payments/{number}": "get",
    }
    assert {path: set(operations) for path, operations in document["paths"].items()} == {
        path: set(methods.split()) for path, methods in promised.items()
    }
    parameters = document["paths"]["/bots/{bot_id}/conversations"]["get"]["parameters"]
    assert {"channel", "contact", "from", "to", "q", "status", "cursor", "limit"} <= {p["name"] for p in parameters}
    whole = ("/usage", "/plans")
    for path, operations in document["paths"].items():
        # The sums of usage, and the few plans, come whole.
        if "get" in operations and "Listing" in str(operations["get"]["responses"]["200"]) and path not in whole:
            assert {"cursor", "limit"} <= {p["name"] for p in operations["get"]["parameters"]}, path


def test_what_a_plan_or_a_network_refuses_is_described(document: Any) -> None:
    calls = ("/bots", "/bots/{bot_id}/documents", "/bots/{bot_id}/answers", "/conversations/{conversation_id}/messages")
    for path in calls:
        assert "409" in document["paths"][path]["post"]["responses"], path
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # Whoever works for an owner may be paused.
            assert ("403" in operation["responses"]) == ("{bot_id}" in path or "{conversation_id}" in path), path


def test_examples_are_what_the_calls_take(document: Any) -> None:
    for endpoint in api.ENDPOINTS:
        if endpoint.body is None:
            continue
        assert endpoint.example is not None, endpoint.path
        adapter: TypeAdapter[Any] = endpoint.body
        adapter.validate_python(endpoint.example)
        body = document["paths"][endpoint.path][endpoint.method.lower()]["requestBody"]
        assert body["content"]["application/json"]["example"] == endpoint.example


async def test_answers_are_what_the_document_says(site: Site, document: Any) -> None:
    chat = await site.owner.post(f"{site.owner.bot}/chat", {"contact": "c", "text": "Yetkazib berish bormi?"})
    talks = (await site.owner.get(f"{site.owner.bot}/conversations")).body
    await site.owner.post(f"{site.owner.bot}/answers", {"question": "Kredit bormi?", "answer": "Ha, 12 oyga."})
    answers = {
        ("get", "/bots"): (await site.owner.get("/bots")).body,
        ("get", "/bots/{bot_id}"): (await site.owner.get(site.owner.bot)).body,
        ("get", "/bots/{bot_id}/documents"): (await site.owner.get(f"{site.owner.bot}/documents")).body,
        ("get", "/bots/{bot_id}/channels"): (await site.owner.get(f"{site.owner.bot}/channels")).body,
        ("post", "/bots/{bot_id}/chat"): chat.body,
        ("get", "/bots/{bot_id}/conversations"): talks,
        ("get", "/conversations/{conversation_id}/messages"): (
            await site.owner.get(f"/conversations/{talks['items'][0]['id']}/messages")
        ).body,
        ("get", "/bots/{bot_id}/answers"): (await site.owner.get(f"{site.owner.bot}/answers")).body,
        ("get", "/usage"): (await site.owner.get("/usage")).body,
        ("get", "/plans"): (await site.owner.get("/plans")).body,
        ("get", "/subscription"): (await site.owner.get("/subscription")).body,
    }
    for (method, path), body in answers.items():
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        fits(document, schema, body, f"{method} {path}")


KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
}


def fits(document: Any, schema: Any, value: Any, place: str) -> None:
    """Check a value against the parts of JSON Schema that the document uses."""
    if "$ref" in schema:
        return fits(document, resolved(document, schema["$ref"]), value, place)
    if "anyOf" in schema:
        kinds = [option for option in schema["anyOf"] if (option.get("type") == "null") == (value is None)]
        assert kinds, place
        return fits(document, kinds[0], value, place) if value is not None else None
    kind = schema["type"]
    right = isinstance(value, KINDS[kind])
    assert right, f"{place}: {value!r}"
    if kind == "object":
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"]), place
        for name in value:
            fits(document, schema["properties"][name], value[name], f"{place}.{name}")
    if kind == "array":
        assert value or not place.endswith(".items"), f"{place}: an empty list proves nothing"
        for item in value:
            fits(document, schema["items"], item, f"{place}[]")
    if schema.get("format") == "date-time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value), place
    return None
