"""The API reference in the panel: all that the OpenAPI document says, and examples that do what they show."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from services import accounts
from tests.web.panel import Browser, Page, Site, open_site

_VARIABLE = re.compile(r"\$\w+")


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path, sqlite_url) as made:
        yield made


async def _sections(browser: Browser) -> dict[str, Page]:
    links = re.findall(r'href="(/settings/api/[^"#]+)"', (await browser.get("/settings/api")).text)
    return {link: await browser.get(link) for link in dict.fromkeys(links)}


def _commands(page: Page) -> list[str]:
    """Return the examples of a page, a call each."""
    return [unescape(each) for each in re.findall(r"<pre[^>]*>(curl .*?)</pre>", page.text, re.DOTALL)]


def _operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, each) for path, methods in document["paths"].items() for method, each in methods.items()
    ]


async def test_every_call_of_the_document_can_be_read(site: Site) -> None:
    owner = await site.person("Reader", language="ru")
    browser = await site.signed_in(owner)
    assert 'href="/settings/api"' in (await browser.get("/settings")).text
    document = json.loads((await browser.get("/api/v1/openapi.json")).text)
    begin, sections = await browser.get("/settings/api"), await _sections(browser)
    assert 'href="/api/v1/openapi.json"' in begin.text and len(sections) == len(document["tags"])
    for method, path, operation in _operations(document):
        where = f"/settings/api/{operation['tags'][0].lower()}"
        key = operation["operationId"]
        assert f'href="{where}#{key}"' in begin.text
        _, _, part = sections[where].text.partition(f'id="{key}"')
        part = unescape(part.partition("</section>")[0])
        assert f"<b>{method}</b> {path}</code>" in part, key
        for parameter in operation.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in part, (key, parameter["name"])
        for status in operation["responses"]:
            assert re.search(rf"\b{status}\b", part), (key, status)
        for name in _names(document, operation):
            assert f"<code>{name}</code>" in part, (key, name)
    # What lies deep, the ways to connect, and what a value must be.
    channels = sections["/settings/api/channels"].visible()
    for words in ("type: whatsapp", "items[].health.webhook", "phone_number_id", "at most 1000 characters"):
        assert words in channels, words
    assert "items[].office_hours.mon" in sections["/settings/api/bots"].visible()
    assert (await browser.get("/settings/api/nothing")).status == 404


def _names(document: Any, operation: Any) -> list[str]:
    """Return the names of the fields that a body or an answer has at its top."""
    kinds = [*operation.get("requestBody", {}).get("content", {}).values()]
    good = next(each for status, each in operation["responses"].items() if status.startswith("2"))
    kinds += good.get("content", {}).values()
    found = []
    for schema in (each["schema"] for each in kinds):
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        found += list(schema.get("properties", ()))
    return found


async def test_the_examples_work(site: Site) -> None:
    owner = await site.person("Coder", language="uz")
    browser = await site.signed_in(owner)
    async with site.core.db.write() as session:
        _, token = await accounts.new_api_token(session, owner, "1C")
    document = json.loads((await browser.get("/api/v1/openapi.json")).text)
    shown: dict[tuple[str, str], list[str]] = {}
    for page in (await _sections(browser)).values():
        for command in _commands(page):
            words = shlex.split(command)
            method = words[words.index("-X") + 1] if "-X" in words else "POST" if {"--json", "-F"} & {*words} else "GET"
            address = next(word for word in words if word.startswith("http"))
            shown[method, _VARIABLE.sub("{}", address.partition("/api/v1")[2])] = words
    expected = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path, _ in _operations(document)}
    assert set(shown) == expected
    # The first bot of a program, made, renamed and listed with nothing but what stands on the page.
    made = ""
    calls = ("POST /bots", "PATCH /bots/{}", "GET /bots", "POST /bots/{}/start", "DELETE /bots/{}")
    for method, _, path in (call.partition(" ") for call in calls):
        words = [word.replace("$TOKEN", token).replace("$BOT_ID", made) for word in shown[method, path]]
        address = next(word for word in words if word.startswith("http")).replace(site.core.settings.public_url, "")
        sent: dict[str, Any] = {"headers": dict([words[words.index("-H") + 1].split(": ", 1)])}
        if "--json" in words:
            sent["json"] = json.loads(words[words.index("--json") + 1])
        answer = await browser.request(method, address, **sent)
        assert answer.status in (200, 201, 204), (method, path, answer.text)
        made = made or json.loads(answer.text)["id"]
        assert method == "DELETE" or made in answer.text
