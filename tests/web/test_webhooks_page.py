"""Integrations in the panel: adding a server, its secret once, a test, the log, resending, switching and deleting."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from db import models
from db.base import table_of, utcnow
from services import endpoints
from services.errors import Invalid
from services.settings import ROOT
from tests import servers
from tests.composition import asked_of
from tests.conveyor.harness import until
from tests.conveyor.receiver import Receiver, Told
from tests.web.panel import Browser, Site, open_site

_numbers = itertools.count(1)
_HERE = "/settings/webhooks"
_SECRET = re.compile(r'value="(whsec_[^"]+)"')


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, shared by this module; servers on this machine may be told."""
    folder = tmp_path_factory.mktemp("webhooks")
    overrides = {"webhooks": {"addresses": "any", "per_owner": 2}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=overrides) as made:
        yield made


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product as it is sold."""
    folder = tmp_path_factory.mktemp("strict")
    async with open_site(folder, servers_run.new_sqlite(folder)) as made:
        yield made


async def _owner(site: Site) -> tuple[models.User, Browser]:
    user = await site.person(f"Ega{next(_numbers)}", language="en")
    return user, await site.signed_in(user)


async def test_a_server_from_its_first_test_to_its_end(site: Site) -> None:
    _, browser = await _owner(site)
    empty = await browser.get(_HERE)
    assert "No server yet" in empty.visible() and "/settings#tokens-title" in empty.text
    async with Receiver() as mine:
        made = await browser.request(
            "POST",
            _HERE,
            data=[
                ("csrf", browser.csrf),
                ("url", mine.url),
                ("events", "message.received"),
                ("events", "contact.created"),
            ],
        )
        found = _SECRET.search(made.text)
        assert made.status == 200 and found is not None, made.visible()
        secret = found[1]
        base = re.search(rf"{_HERE}/([0-9a-z]{{26}})/test", made.text)
        assert base is not None
        here = f"{_HERE}/{base[1]}"
        # It is shown once, and stored in no readable form.
        assert secret not in (await browser.get(here)).text
        sent = await browser.post(f"{here}/test")
        told = (await mine.hears(1))[0]
        assert told.type == endpoints.TEST and told.signed_by(secret)
        one = sent.location.partition("?")[0]

        async def delivered() -> bool:
            return "HTTP 204" in (await browser.get(one)).visible()

        await until(delivered)
        page = await browser.get(one)
        assert "This is a test. Nothing has happened." in page.visible() and told.id in page.text
        assert "every 2s" not in page.text
        # Again by hand: with the same id and body.
        await browser.post(f"{one}/resend")
        again = (await mine.hears(2))[1]
        assert (again.id, again.raw) == (told.id, told.raw)
        # A new secret is shown once and signs from now on; the old one is valid for a day.
        fresh = _SECRET.search((await browser.post(f"{here}/secret")).text)
        assert fresh is not None and fresh[1] != secret
        await browser.post(f"{here}/test")
        third = (await mine.hears(3))[2]
        assert third.signed_by(fresh[1]) and third.signed_by(secret)

        # What a server answers is text, never markup.
        async def rude(_: Told) -> web.StreamResponse:
            return web.Response(status=500, text="<script>alert(1)</script>")

        mine.answer = rude
        bad = (await browser.post(f"{here}/test")).location.partition("?")[0]

        async def answered() -> bool:
            return "HTTP 500" in (await browser.get(bad)).visible()

        await until(answered)
        assert "<script>alert(1)" not in (await browser.get(bad)).text
        assert "Does not answer" in (await browser.get(here)).visible()
        assert "Will be tried again" in (await browser.get(f"{here}?state=waiting")).visible()
        assert "Will be tried again" not in (await browser.get(f"{here}?state=delivered")).visible()
        # Switched off: what waits is given up, and nothing can be sent.
        assert (await browser.post(f"{here}/off")).status == 303
        assert "Given up" in (await browser.get(f"{here}?state=failed")).visible()
        assert (await browser.post(f"{here}/test")).status == 409
        assert (await browser.post(f"{bad}/resend")).status == 409
        assert (await browser.post(f"{here}/on")).status == 303
        # Ten tests a minute, whatever became of them.
        tries = [await browser.post(f"{here}/test") for _ in range(10)]
        assert [each.status for each in tries].count(303) == 6 and "wait a little" in tries[-1].visible()
        # Deleted only by its name.
        wrong = await browser.post(f"{here}/delete", confirm="wrong")
        assert wrong.status == 400 and 'value="wrong"' in wrong.text
        assert (await browser.post(f"{here}/delete", confirm="127.0.0.1")).location.startswith(_HERE)
        assert (await browser.get(here)).status == (await browser.get(one)).status == 404


async def test_what_is_wrong_is_said_and_kept(site: Site) -> None:
    user, browser = await _owner(site)

    async def add(url: str, *events: str) -> Any:
        fields = [("csrf", browser.csrf), ("url", url), *(("events", name) for name in events)]
        return await browser.request("POST", _HERE, data=fields)

    for url in (
        "",
        "crm.example.uz",
        "ftp://crm.example.uz/",
        "https://u:p@crm.example.uz/",
        "https://crm.example.uz/#x",
    ):
        page = await add(url, "message.received")
        assert page.status == 400 and 'aria-invalid="true"' in page.text, url
        assert f'value="{url}"' in page.text
    page = await add("https://crm.example.uz/a", "nothing.real")
    assert page.status == 400 and "Choose at least one event" in page.visible()
    assert (await add("https://crm.example.uz/a", "message.received")).status == 200
    assert (await add("https://crm.example.uz/a", "message.received")).status == 400
    assert (await add("https://crm.example.uz/b", *endpoints.EVENTS)).status == 200
    page = await add("https://crm.example.uz/c", "message.received")
    assert page.status == 409 and "as many as there can be" in page.visible()
    async with site.core.db.read() as session:
        rows = (await session.scalars(select(models.Endpoint).where(models.Endpoint.owner_id == user.id))).all()
        done = (await session.scalars(select(models.AuditLog.action).where(models.AuditLog.actor_id == user.id))).all()
    assert [row.events for row in rows] == [["message.received"], []]
    assert done.count("endpoint_made") == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example.uz/hook", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://localhost/",
        "https://169.254.169.254/latest", "https://2130706433/", "https://crm.example.uz:22/", "https://db.internal/",
    ],
)  # fmt: skip
async def test_inner_addresses_are_refused_at_once(strict: Site, url: str) -> None:
    with pytest.raises(Invalid):
        endpoints.check_url(strict.core.settings, url)


async def test_a_name_that_leads_inside_is_refused_when_it_is_asked(strict: Site) -> None:
    user, browser = await _owner(strict)
    async with strict.core.db.write() as session:
        row = models.Endpoint(
            owner_id=user.id,
            # Resolves to this machine wherever there is a resolver, and to nothing elsewhere; never is anything connected to.
            url="https://localhost.localdomain/hook",
            secret=strict.core.crypto.encrypt({"secret": endpoints.new_secret()}),
        )
        session.add(row)
    one = (await browser.post(f"{_HERE}/{row.id}/test")).location.partition("?")[0]

    async def refused() -> bool:
        text = (await browser.get(one)).visible()
        return "leads nowhere outside" in text or "Your server could not be reached" in text

    await until(refused)


async def _silent(session: AsyncSession, user: models.User) -> models.Endpoint:
    """Make a server of an owner's that is switched off: nothing is sent to it by itself."""
    row = models.Endpoint(owner_id=user.id, url="https://crm.example.uz/", secret="x", disabled_at=utcnow())
    session.add(row)
    await session.flush()
    return row


async def test_what_was_just_sent_is_looked_for_until_it_was_tried(site: Site) -> None:
    """Also what is sent again: its page shows the answer as soon as there is one."""
    user, browser = await _owner(site)
    async with site.core.db.write() as session:
        row = await _silent(session, user)
        known = {"endpoint_id": row.id, "event": "test", "payload": "{}", "status": "waiting", "http_status": 503}
        new, tried = (models.EndpointEvent(**known, attempts=attempts) for attempts in (0, 1))
        session.add_all((new, tried))
    pages = [(await browser.get(f"{_HERE}/{row.id}/events/{event.id}")).text for event in (new, tried)]
    assert ["every 2s" in page for page in pages] == [True, False]


async def test_the_log_of_100_000_is_quick(site: Site) -> None:
    user, browser = await _owner(site)
    async with site.core.db.write() as session:
        row = await _silent(session, user)
        told = [
            {"endpoint_id": row.id, "event": "test", "payload": "{}", "status": "delivered" if n else "failed"}
            for n in range(1000)
        ]
        await session.execute(table_of(models.EndpointEvent).insert(), told)
        connection = await session.connection()
        for state in ("", "failed"):
            where = "endpoint_id = 'x'" + (" AND status = 'failed'" if state else "")
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT * FROM endpoint_events WHERE {where} ORDER BY id DESC LIMIT 51"
            )
            text = str(plan.all())
            assert "SEARCH" in text and "TEMP B-TREE" not in text, text
    counts = []
    for address in (f"{_HERE}/{row.id}", f"{_HERE}/{row.id}?state=delivered"):
        with asked_of(site.core) as seen:
            page = await browser.get(address)
        assert page.text.count('<li class="row-line">') == 50
        counts.append(len(seen))
        following = re.search(r'rel="next" href="([^"]+)"', page.text)
        assert following is not None
        second = await browser.get(unescape(following[1]))
        assert second.text.count('<li class="row-line">') == 50 and second.status == 200
    assert max(counts) <= 18, counts
    # Both tables: all of it, and what is given up alone, in the same few words.
    table = list(
        csv.reader(io.StringIO((await browser.get(f"{_HERE}/{row.id}/events.csv")).text.removeprefix("\ufeff")))
    )
    assert len(table) == 1001 and len({each[0] for each in table}) == 1001 and table[1][2] == "test"
    failed = (await browser.get(f"{_HERE}/{row.id}/events.csv?state=failed")).text
    assert len(failed.splitlines()) == 2
    assert (await browser.get(f"{_HERE}/{row.id}/events.xlsx?state=failed")).status == 200
    assert f"{_HERE}/{row.id}/events.csv?state=delivered" in page.text
    assert (await browser.get(f"{_HERE}/{row.id}?cursor=nonsense")).status == 400


async def test_the_guide_and_the_document_say_the_same(site: Site, tmp_path: Path) -> None:
    _, browser = await _owner(site)
    guide = unescape((await browser.get(f"{_HERE}/guide")).text)
    document = (ROOT / "docs" / "webhooks.md").read_text("utf-8")
    for name, data in endpoints.EXAMPLES.items():
        body = json.dumps(
            {"type": name, "timestamp": "2026-11-22T09:30:02Z", "data": data}, ensure_ascii=False, indent=2
        )
        assert body in guide and body in document, name
        assert name == endpoints.TEST or f"`{name}`" in document
    samples = {
        name: (ROOT / "templates" / "verify" / f"{name}.txt").read_text("utf-8") for name in ("python", "php", "node")
    }
    for code in samples.values():
        assert code.strip() in guide and code.strip() in document
    # The vector of the convention's own libraries.
    known = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'
    assert endpoints.signature(*known) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    now, secret, body = int(time.time()), endpoints.new_secret(), '{"type": "test"}'
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = f"v1,bm8= {endpoints.signature(secret, 'msg_1', now, body)}"
    place: dict[str, Any] = {}
    exec(samples["python"], place)
    assert place["is_genuine"](secret, headers, body.encode())
    assert not place["is_genuine"](secret, headers, body.encode() + b" ")
    assert not place["is_genuine"](secret, {**headers, "webhook-timestamp": str(now - 301)}, body.encode())
    if node := shutil.which("node"):
        program = tmp_path / "verify.js"
        call = f"isGenuine({secret!r}, {json.dumps(headers)}, Buffer.from({body!r}))"
        program.write_text(f"{samples['node']}\nconsole.log({call}, {call.replace('type', 'tipe')});\n")
        said = subprocess.run([node, str(program)], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["true", "false"]
