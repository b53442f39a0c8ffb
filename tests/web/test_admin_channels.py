"""Integrations of all owners as the administrator sees them: what does not work first, looked at now, and no secret anywhere."""

from __future__ import annotations

import csv
import datetime as dt
import io
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, select

from db import models
from db.base import new_id, utcnow
from services import bots, endpoints
from tests import servers
from tests.composition import questions_put
from tests.fakes.graph import FakeGraph
from tests.web.panel import Browser, Page, Site, open_site

FEW, MANY = 60, 600
TOKEN = "EAACANARY_token_of_an_owner_0123456789"
SECRET = "CANARY_app_secret_of_an_owner_01"
FORM = {"phone_number_id": "100000000000202", "access_token": TOKEN, "app_secret": SECRET}


@pytest.fixture(scope="module")
async def graph() -> AsyncIterator[FakeGraph]:
    """Meta."""
    async with FakeGraph() as started:
        yield started


@pytest.fixture(scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run, graph: FakeGraph
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("channels")
    meta = {"META_GRAPH_BASE": graph.base_url}
    async with open_site(folder, servers_run.new_sqlite(folder), environment=meta) as running:
        yield running


@pytest.fixture(scope="module")
async def boss(site: Site) -> Browser:
    return await site.administrator("Boshliq")


def _numbers(page: Page) -> dict[str, str]:
    """Return the numbers above the list by their names."""
    cards = page.text.split('number-name">')[1:]
    return {card.partition("<")[0]: card.partition('number-value">')[2].partition("<")[0] for card in cards}


async def _logged(site: Site, action: str) -> list[models.AuditLog]:
    async with site.core.db.read() as session:
        row = models.AuditLog
        return list(await session.scalars(select(row).where(row.action == action).order_by(row.id)))


async def test_channels_of_all_are_found(site: Site, boss: Browser) -> None:
    """First what does not work, then what soon will not; each filter leaves what it should; numbers above; nothing secret."""
    ali, vali = await site.person("Ali"), await site.person("Vali")
    mine, theirs = await site.bot_of(ali, "Ali nonlari"), await site.bot_of(vali, "Vali gullari")
    gone = await site.bot_of(vali, "Yo‘q bot")
    ends = int(time.time()) + 2 * 86_400

    def channel(bot: models.Bot, kind: str, external: str | None, title: str, **values: Any) -> models.Channel:
        return models.Channel(bot_id=bot.id, kind=kind, external_id=external, title=title, secret="MAXFIY", **values)

    async with site.core.db.write() as session:
        broken = channel(
            mine,
            "whatsapp",
            "41",
            "Non uyi",
            status="refused",
            last_error="190: token <b>expired</b>",
            credentials="MAXFIY",
            # Looked at a moment ago: the hourly look leaves it be.
            health={"checked_at": int(time.time())},
        )
        ending = channel(mine, "instagram", "42", "Non rasmlari", username="nonuz", health={"token_expires_at": ends})
        good = channel(theirs, "telegram", "43", "Gulchi", username="GulBot", last_update_at=utcnow())
        cut = channel(theirs, "telegram", None, "Uzilgan", status="stopped")
        dead = channel(gone, "telegram", "45", "Botsiz")
        session.add_all([broken, ending, good, cut, dead])
        await session.flush()
        session.add(
            models.Notice(user_id=ali.id, kind="instagram_token_expires", key=f"channel:{ending.id}:token_expires")
        )
        await bots.delete(session, await session.get_one(models.Bot, gone.id))
    names = {"broken": "Non uyi", "ending": "Non rasmlari", "good": "Gulchi", "web": "/chat/"}

    async def found(query: str) -> list[str]:
        page = await boss.get(f"/admin/channels?{query}")
        assert page.status == 200, page.visible()
        assert not any(word in page.text for word in ("MAXFIY", "Uzilgan", "Botsiz", "<b>expired"))
        return [next(key for key, name in names.items() if name in row) for row in page.rows()]

    assert await found("") == ["broken", "ending", "good", "web", "web"]
    assert await found("state=failing") == ["broken"] == await found("state=refused")
    assert await found("state=soon") == ["ending"] and await found("state=active") == ["good", "web", "web"]
    assert await found("state=blocked") == []
    assert await found("platform=telegram") == ["good"] and await found("platform=web&state=failing") == []
    assert await found("owner=vali@example.uz") == ["good", "web"] == await found(f"bot={theirs.id}")
    assert await found(f"bot={gone.id}") == []
    assert await found("q=@gulbot") == ["good"] and await found("q=41") == ["broken"]
    assert await found("q=NON") == ["broken", "ending", "web"]
    for odd in ("%25", "_", "%27;--"):
        assert await found(f"q={odd}") == [], odd
    for wrong in ("platform=fax", "state=ok", "cursor=x", "cursor=0-x"):
        assert (await boss.get(f"/admin/channels?{wrong}")).status == 400, wrong
    page = await boss.get("/admin/channels")
    above = {"WhatsApp": "1", "Instagram": "1", "Telegram": "1", "Web chat": "2", "Needs attention": "1"}
    assert _numbers(page) == above
    shown = page.visible()
    for words in (
        "Token refused", "the token is no longer valid", "190: token <b>expired</b>", "The token ends soon", "token ends on",
        "@GulBot", "Ali nonlari", "1 does not work", "Working",
    ):  # fmt: skip
        assert words in shown, words
    assert f"/admin/owners/{ali.id}" in page.text
    sheet = await boss.get("/admin/channels/export.csv?owner=ali@example.uz")
    table = list(csv.reader(io.StringIO(sheet.text.removeprefix("\ufeff"))))
    assert [row[:2] + row[7:9] for row in table[1:3]] == [
        ["WhatsApp", "Non uyi", "Token refused", ""],
        ["Instagram", "Non rasmlari", "Working", "The token ends soon"],
    ]
    assert "MAXFIY" not in sheet.text
    assert (await boss.get("/admin/channels/export.xlsx")).headers["Content-Type"].endswith("sheet")
    assert [row.details for row in await _logged(site, "channels_exported")] == [{"owner": "ali@example.uz"}, {}]


async def test_a_channel_is_looked_at_now(site: Site, boss: Browser, graph: FakeGraph) -> None:
    """What its network says stands in the list afterwards, and the log says who looked; a network that is away is said."""
    number = graph.add_number(
        FORM["phone_number_id"],
        token=TOKEN,
        app_secret=SECRET,
        waba_id="20",
        display_phone_number="+998 90 123 45 67",
        verified_name="Chinor Stom",
    )
    owner = await site.person("Chinor", language="en")
    theirs, bot = await site.signed_in(owner), await site.bot_of(owner, "Chinor bot")
    assert (await theirs.post(f"/bots/{bot.id}/channels/whatsapp", **FORM)).status == 303
    async with site.core.db.read() as session:
        mine = {each.kind: each for each in await bots.channels(session, bot)}
    query = f"?platform=whatsapp&owner={owner.id}"
    page = await boss.get(f"/admin/channels{query}")
    path = f"/admin/channels/{mine['whatsapp'].id}/check"
    assert path in page.text and "+998 90 123 45 67" in page.visible()
    number.quality_rating = "RED"
    done = await boss.post(f"{path}{query}")
    assert done.location == f"/admin/channels{query}&done=checked"
    page = await boss.get(done.location)
    assert "Low quality of the number" in page.visible() and TOKEN not in page.text and SECRET not in page.text
    number.token = "EAAanother_token_0123456789"
    assert (await boss.post(f"{path}{query}")).status == 303
    assert "Token refused" in (await boss.get(f"/admin/channels{query}&state=failing")).visible()
    graph.answer_raw(502, "<html>", times=None, on="any")
    away = await boss.post(f"{path}{query}")
    assert (
        away.status == 503 and "WhatsApp is not responding right now" in away.visible() and "Chinor Stom" in away.text
    )
    graph.clear_faults()
    statuses = [(await boss.post(path)).status for _ in range(7)]
    assert statuses[-1] == 429
    rows = await _logged(site, "channel_checked")
    assert {row.object_id for row in rows} == {mine["whatsapp"].id} and len(rows) == 3 + statuses.count(303)
    assert rows[0].details == {"owner": owner.id, "bot": "Chinor bot", "kind": "whatsapp"}
    assert (await boss.post(f"/admin/channels/{mine['web'].id}/check")).status == 409
    assert (await boss.post(f"/admin/channels/{new_id()}/check")).status == 404


async def test_webhooks_of_all(site: Site, boss: Browser) -> None:
    """Those that fail or are off come first, with what their servers say; of an address only the host is shown."""
    owner, other = await site.person("Salima"), await site.person("Botir")
    now = utcnow()

    def hook(user: models.User, host: str, **values: Any) -> models.Endpoint:
        secret = site.core.crypto.encrypt({"secret": endpoints.new_secret()})
        return models.Endpoint(owner_id=user.id, url=f"https://{host}/MAXFIY?token=MAXFIY", secret=secret, **values)

    async with site.core.db.write() as session:
        failing = hook(owner, "yiqildi.uz", failing_since=now - dt.timedelta(hours=3))
        off = hook(owner, "toxtadi.uz", disabled_at=now)
        broken = hook(other, "buzildi.uz", failing_since=now - dt.timedelta(days=4), disabled_at=now)
        fine = hook(other, "yaxshi.uz", last_ok_at=now, events=["message.received"])
        session.add_all([failing, off, broken, fine])
        await session.flush()
        facts = {"endpoint_id": failing.id, "event": "message.received", "payload": "MAXFIY", "answer": "MAXFIY"}
        session.add(models.EndpointEvent(**facts, status="failed", attempts=9, http_status=503))
        later = now + dt.timedelta(hours=1)
        session.add_all([models.EndpointEvent(**facts, run_at=later) for _ in range(2)])
    hosts = ("yiqildi.uz", "toxtadi.uz", "buzildi.uz", "yaxshi.uz")

    async def found(query: str) -> list[str]:
        page = await boss.get(f"/admin/channels/webhooks?{query}")
        assert page.status == 200 and "MAXFIY" not in page.text and "whsec_" not in page.text
        return [host for row in page.rows() for host in hosts if host in row]

    assert await found("") == ["buzildi.uz", "toxtadi.uz", "yiqildi.uz", "yaxshi.uz"]
    for state, host in zip(("failing", "off", "broken", "on"), hosts, strict=True):
        assert await found(f"state={state}") == [host], state
    assert await found(f"owner={other.id}") == ["buzildi.uz", "yaxshi.uz"]
    shown = (await boss.get("/admin/channels/webhooks")).visible()
    for words in (
        "the server answers 503",
        "fails since",
        "off since",
        "1 kind of event",
        "all events",
        "fail or are off: 3",
    ):
        assert words in shown, words
    for wrong in ("state=ok", "cursor=x"):
        assert (await boss.get(f"/admin/channels/webhooks?{wrong}")).status == 400


async def test_many_cost_no_more(site: Site, boss: Browser) -> None:
    """Sixty channels and webhooks and six hundred cost as many questions; no page repeats or leaves out one."""
    owner = await site.person("Kop")

    async def add(n: int) -> None:
        async with site.core.db.write() as session:
            made = [{"id": new_id(), "owner_id": owner.id, "name": f"Bot {k}", "languages": ["uz"]} for k in range(n)]
            await session.execute(insert(models.Bot), made)
            channels = [
                {
                    "id": new_id(),
                    "bot_id": each["id"],
                    "kind": "telegram",
                    "external_id": str(each["id"]),
                    "title": f"Kanal-{each['id']}.",
                    "status": "active" if k % 10 else "conflict",
                }
                for k, each in enumerate(made)
            ]
            await session.execute(insert(models.Channel), channels)
            warned = [
                {"user_id": owner.id, "kind": "webhook_lost", "key": f"channel:{each['id']}:webhook_lost"}
                for k, each in enumerate(channels)
                if k % 10 == 1
            ]
            await session.execute(insert(models.Notice), warned)
            hooks = [
                {
                    "owner_id": owner.id,
                    "url": f"https://h{each['id']}.uz/",
                    "secret": "x",
                    "failing_since": utcnow() if k % 2 else None,
                }
                for k, each in enumerate(made)
            ]
            await session.execute(insert(models.Endpoint), hooks)

    paths = ("", "?platform=telegram", "?state=failing", "?state=soon", f"?owner={owner.id}", "/webhooks")

    async def asked(path: str) -> int:
        # What the program asks by itself meanwhile only adds.
        found = []
        for _ in range(2):
            with questions_put(site.core) as questions:
                assert (await boss.get(f"/admin/channels{path}")).status == 200
            found.append(len(questions))
        return min(found)

    await add(FEW)
    few = {path: await asked(path) for path in paths}
    await add(MANY - FEW)
    for path, before in few.items():
        assert await asked(path) <= before, path
    for path in (f"?owner={owner.id}", f"/webhooks?owner={owner.id}"):
        page, seen = await boss.get(f"/admin/channels{path}"), list[str]()
        while True:
            seen += [
                row.partition('overview-name">')[2].partition("</span>")[0] + str("state-bad" in row)
                for row in page.rows()
            ]
            further = page.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
            if not further:
                break
            page = await boss.get(further)
        assert len(seen) == len(set(seen)), path
        web = sum("Bot " in each for each in seen)
        assert len(seen) - web == MANY, path
    page = await boss.get(f"/admin/channels?owner={owner.id}")
    assert all("state-bad" in row for row in page.rows())
