"""Health, readiness, metrics, and the receiver of webhooks."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from db import models
from services.i18n import translate
from tests import servers
from tests.composition import address, make_settings, running
from tests.fakes.telegram import FakeTelegram
from tests.web.panel import Site, open_site

FACTORY = "7700000001:FACTORY_token_not_real_AAAAAAAAAAAAA"
SECRET = "X-Telegram-Bot-Api-Secret-Token"
UPDATE: dict[str, Any] = {
    "update_id": 1,
    "message": {
        "message_id": 1,
        "date": 1_790_000_000,
        "chat": {"id": 5, "type": "private", "first_name": "Ali"},
        "from": {"id": 5, "is_bot": False, "first_name": "Ali", "language_code": "uz"},
        "text": "Salom",
    },
}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product with a metrics token."""
    folder = tmp_path_factory.mktemp("machines")
    environment = {"METRICS_TOKEN": "metrics-token-0123456789"}
    async with open_site(folder, servers_run.new_sqlite(folder), environment=environment) as made:
        yield made


@pytest.fixture(scope="module")
async def channel(site: Site) -> models.Channel:
    """A Telegram channel that is stopped, so that nothing polls for it."""
    bot = await site.bot_of(await site.person("Hooked"))
    async with site.core.db.write() as session:
        row = models.Channel(bot_id=bot.id, kind="telegram", external_id="4242", status="stopped")
        session.add(row)
    return row


async def _post(site: Site, channel_id: str, body: Any, secret: str | None) -> int:
    headers = {SECRET: secret} if secret is not None else {}
    page = await site.browser().request("POST", f"/telegram/webhook/{channel_id}", data=body, headers=headers)
    return page.status


async def _stored(site: Site) -> int:
    async with site.core.db.read() as session:
        return int(await session.scalar(select(func.count()).select_from(models.InboxItem)) or 0)


async def test_update_is_stored_before_200(site: Site, channel: models.Channel) -> None:
    """The row is there when the answer is; a second delivery changes nothing."""
    before = await _stored(site)
    body = json.dumps(UPDATE).encode()
    assert await _post(site, channel.id, body, channel.secret) == 200
    assert await _stored(site) == before + 1
    answers = await asyncio.gather(*(_post(site, channel.id, body, channel.secret) for _ in range(10)))
    assert answers == [200] * 10
    assert await _stored(site) == before + 1


async def test_wrong_secret(site: Site, channel: models.Channel) -> None:
    """Missing, empty, wrong, another case, another channel: 401 and nothing stored, as for a channel that is not there."""
    before = await _stored(site)
    body = json.dumps({**UPDATE, "update_id": 2}).encode()
    for secret in (None, "", "wrong", channel.secret.swapcase(), channel.secret + " x", channel.secret[:-1]):
        assert await _post(site, channel.id, body, secret) == 401
    assert await _post(site, "01aaaaaaaaaaaaaaaaaaaaaaaa", body, channel.secret) == 401
    assert await _post(site, "-", body, "-" * 32) == 401
    async with site.core.db.read() as session:
        web = await session.scalar(select(models.Channel).where(models.Channel.kind == "web"))
    assert web is not None
    assert await _post(site, web.id, body, web.secret) == 401
    assert await _stored(site) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"update_id": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
        (b"\xff\xfe", 400),
        (b'{"update_id": "x", "message": 5}', (200, 400)),
        (b'{"update_id": 77, "message": {"text": "\\ud800"}}', (200, 400)),
        (b'{"update_id": 78, "update_id": 79}', (200, 400)),
        (b'{"update_id": 80, "message": {"text": "\\u0000", "chat": {"id": 5}, "message_id": 1}}', 200),
        (b'{"x": "' + b"a" * (4096 * 1024) + b'"}', 413),
    ],
)
async def test_bodies(site: Site, channel: models.Channel, body: bytes, status: int | tuple[int, ...]) -> None:
    """What is no update is refused; what is odd but valid is taken."""
    expected = status if isinstance(status, tuple) else (status,)
    assert await _post(site, channel.id, body, channel.secret) in expected


async def test_nothing_is_unfolded(site: Site, channel: models.Channel) -> None:
    """A compressed body is no JSON: nobody who calls us compresses, and a bomb must cost nothing, whoever sent it."""
    before = await _stored(site)
    body = gzip.compress(json.dumps({**UPDATE, "update_id": 4000}).encode())
    headers = {SECRET: channel.secret, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    page = await site.browser().request("POST", f"/telegram/webhook/{channel.id}", data=body, headers=headers)
    assert page.status == 400
    assert await _stored(site) == before


async def test_slow_delivery(tmp_path: Path, servers_run: servers.Run) -> None:
    """One byte and then silence: 408."""
    slow = {"server": {"request_body_timeout_s": 0.3}}
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path), overrides=slow) as site:
        bot = await site.bot_of(await site.person("Slow"))
        async with site.core.db.write() as session:
            row = models.Channel(bot_id=bot.id, kind="telegram", external_id="77", status="stopped")
            session.add(row)
        host, port = site.core.address
        reader, writer = await asyncio.open_connection(host, port)
        head = [f"POST /telegram/webhook/{row.id} HTTP/1.1", "Host: x", f"{SECRET}: {row.secret}", "Content-Length: 50"]
        writer.write("\r\n".join([*head, "", "{"]).encode())
        async with asyncio.timeout(20):
            assert (await reader.readline()).split()[1] == b"408"
        writer.close()


async def test_health_and_readiness(site: Site) -> None:
    """Alive without the database; ready with every part named."""
    browser = site.browser()
    assert json.loads((await browser.get("/healthz")).text) == {"status": "ok"}
    page = await browser.get("/readyz")
    assert page.status == 200
    nothing = dict.fromkeys(("redis", "telegram", "gemini", "openai", "anthropic"), "not configured")
    assert json.loads(page.text)["parts"] == {"process": "ok", "database": "ok", **nothing}
    site.core.ready = False
    try:
        page = await browser.get("/readyz")
        assert page.status == 503
        assert (await browser.get("/healthz")).status == 200
    finally:
        site.core.ready = True


@pytest.mark.parametrize(("code", "state"), [(0, "ok"), (401, "token refused"), (502, "unavailable")])
async def test_probes_do_not_hammer_telegram(
    tmp_path: Path, servers_run: servers.Run, telegram: FakeTelegram, code: int, state: str
) -> None:
    """However Telegram is, many probes at once ask it once; keys are named as there or not, never shown."""
    telegram.add_bot(FACTORY, "factory_bot")
    secrets = {"TELEGRAM_API_BASE": telegram.base_url, "GEMINI_API_KEY": "gemini-key-0123456789"}
    url = servers_run.new_sqlite(tmp_path)
    settings = make_settings(tmp_path, url, environment={"TELEGRAM_BOT_TOKEN": FACTORY, **secrets})
    # Only the web's own question is counted: this role starts no factory bot.
    async with running(settings, "web") as core, aiohttp.ClientSession() as http:
        if code:
            telegram.fail(code, method="getMe", times=None)
        before = len(telegram.called("getMe"))

        async def probe() -> tuple[int, dict[str, str]]:
            async with http.get(f"{address(core)}/readyz") as answer:
                return answer.status, (await answer.json())["parts"]

        answers = await asyncio.gather(*(probe() for _ in range(10)))
        answers.append(await probe())
        assert len(telegram.called("getMe")) == before + 1
    for status, parts in answers:
        assert (status, parts["telegram"]) == (200 if state == "ok" else 503, state)
        assert (parts["gemini"], parts["openai"]) == ("configured", "not configured")


async def test_metrics_are_not_public(site: Site) -> None:
    """Loopback or the token; a proxy on this machine is not loopback for those behind it."""
    browser = site.browser()
    page = await browser.get("/metrics")
    assert "botfactory_http_requests_total" in page.text
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert (await browser.get("/metrics", **forwarded)).status == 404
    assert (await browser.get("/metrics", **forwarded, Authorization="Bearer wrong")).status == 404
    allowed = await browser.get("/metrics", **forwarded, Authorization="Bearer metrics-token-0123456789")
    assert allowed.status == 200
    assert "metrics-token" not in allowed.text


async def test_database_gone(tmp_path: Path, servers_run: servers.Run) -> None:
    """Pages say 503 in words, readiness 503, health stays 200, and all is well when it is back."""
    async with open_site(tmp_path, servers_run.new_sqlite(tmp_path)) as site:
        user = await site.person("Unlucky")
        browser = await site.signed_in(user)
        await site.core.db.engine.dispose()
        place = tmp_path / "botfactory.db"
        hidden = tmp_path / "hidden.db"
        place.rename(hidden)
        place.mkdir()
        try:
            assert (await browser.get("/healthz")).status == 200
            assert (await browser.get("/readyz")).status == 503
            page = await browser.get("/dashboard")
            assert page.status == 503
            assert page.headers["Retry-After"]
            assert "botfactory.db" not in page.text
            told = translate("uz", "We cannot take your request right now. Please try again in a minute.")
            assert told in page.visible()
        finally:
            place.rmdir()
            hidden.rename(place)
        assert (await browser.get("/dashboard")).status == 200


CANARY = "CANARY-signs-somebody-in"
UNREADABLE = (
    "This request could not be read: its address or its cookies are too long, or it arrived damaged.",
    "Open the site’s first page again; if that does not help, delete this site’s cookies in the browser.",
)


@pytest.mark.parametrize(
    ("head", "by_program"),
    [
        (f"GET /login/link?token={CANARY}&x={'a' * 9000} HTTP/1.1", False),
        (f"GET /login/link?token={CANARY} HTTP/one", False),
        (f"GET /login HTTP/1.1\r\nCookie: botfactory={CANARY}{'a' * 9000}", False),
        (f"GET /login HTTP/1.1\r\nCookie: botfactory={CANARY}\x00", False),
        (f"GET /login HTTP/1.1\r\n{CANARY} and more: x", False),
        # Where one request ends, a proxy and we may not see differently.
        ("POST /login HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", False),
        ("POST /login HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6", False),
        ("POST /login HTTP/1.1\r\nTransfer-Encoding: chunked, identity", False),
        ("POST /login HTTP/1.1\r\nTransfer-Encoding : chunked", False),
        (f"GET /login HTTP/1.1\r\nHost: {CANARY}", False),
        (f"GET /api/v1/bots?q={CANARY}{'a' * 9000} HTTP/1.1", True),
        (f"GET /api/v1/bots HTTP/1.1\r\nAuthorization: Bearer {CANARY}{'a' * 9000}", True),
    ],
)
async def test_what_is_no_request_is_repeated_nowhere(
    site: Site, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, head: str, by_program: bool
) -> None:
    """Too long or damaged: refused in the form and with the headers of every answer; no word of it in answer or log."""
    reader, writer = await asyncio.open_connection(*site.core.address)
    writer.write(f"{head}\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = (await reader.read()).decode()
    writer.close()
    lines, _, body = answer.partition("\r\n\r\n")
    status, *rest = lines.split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert status.split()[1] == "400"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    if by_program:
        assert json.loads(body)["error"]["code"] == "invalid"
    else:
        assert headers["Content-Type"].startswith("text/html") and '<meta name="viewport"' in body
        for language in ("uz", "ru", "en"):
            for said in UNREADABLE:
                assert translate(language, said) in unescape(body)
        assert body.count('<a href="/">') == 3
        # What the policy of every answer refuses would not be shown.
        assert not re.search(r"style|<script|<link|<img", body)
    told = "".join(capfd.readouterr()) + caplog.text
    assert told.count("request_unreadable") == 1
    assert "Traceback" not in told
    assert CANARY not in answer + told


@pytest.mark.parametrize("path", ["/login", "/api/v1/bots", "/nowhere"])
async def test_what_cannot_be_expected(site: Site, path: str) -> None:
    """An unknown expectation is refused in the words of the API, the known one is met."""
    page = await site.browser().get(path, Expect=CANARY)
    assert (page.status, json.loads(page.text)["error"]["code"]) == (417, "invalid")
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert CANARY not in page.text
    page = await site.browser().request("POST", "/api/v1/bots", json={}, expect100=True)
    assert page.status == 401


async def test_kept_connection(site: Site, channel: models.Channel) -> None:
    """A page and a delivery over one connection do not mix."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for number in range(3):
            async with http.get(f"{site.base}/login") as answer:
                assert answer.status == 200
            body = json.dumps({**UPDATE, "update_id": 900 + number})
            address = f"{site.base}/telegram/webhook/{channel.id}"
            async with http.post(address, data=body, headers={SECRET: channel.secret}) as answer:
                assert answer.status == 200
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
