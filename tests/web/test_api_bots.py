"""The API's door, its strictness, and bots."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from db import models
from services import accounts, manner
from services.errors import Invalid
from services.i18n import translate
from tests import servers
from tests.services.owned import everything, holding
from tests.web.site import Site, started

MISSING = "0" * 26


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def site(
    request: pytest.FixtureRequest, servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("api")
    with servers_run.database(request.param, folder) as url:
        async with started(folder, url) as running:
            yield running


async def test_a_bot_lives_its_life(site: Site) -> None:
    made = await site.owner.post("/bots", {"name": "  Chinor   Stom ", "languages": ["ru", "uz"]})
    assert made.status == 201
    bot = made.body
    assert bot["name"] == "Chinor Stom" and bot["status"] == "active" and bot["languages"] == ["ru", "uz"]
    assert bot["created_at"].endswith("Z") and bot["public_id"] not in ("", bot["id"])
    assert bot["silenced"] is None and bot["silent_channels"] == []
    path = f"/bots/{bot['id']}"

    changed = await site.owner.call("PATCH", path, json={"system_prompt": "Muloyim bo'l."})
    assert changed.status == 200
    assert changed.body == {**bot, "system_prompt": "Muloyim bo'l."}

    assert (await site.owner.post(f"{path}/stop")).body["status"] == "stopped"
    assert (await site.owner.get(path)).body["status"] == "stopped"
    assert (await site.owner.post(f"{path}/start")).body["status"] == "active"
    listed = (await site.owner.get("/bots")).body
    assert listed["next"] is None and bot["id"] in [item["id"] for item in listed["items"]]

    gone = await site.owner.call("DELETE", path)
    assert (gone.status, gone.body) == (204, "")
    assert (await site.owner.get(path)).status == 404
    assert bot["id"] not in [item["id"] for item in (await site.owner.get("/bots")).body["items"]]


async def test_when_people_answer(site: Site) -> None:
    bot = (await site.owner.post("/bots", {"name": "Soatli"})).body
    closed = dict.fromkeys(manner.DAYS)
    assert (bot["office_hours"], bot["return_after_min"]) == (closed, 60)
    path, hours = f"/bots/{bot['id']}", {"mon": ["09:00", "18:00"], "sun": ["20:00", "02:00"]}
    changed = await site.owner.call("PATCH", path, json={"office_hours": hours, "return_after_min": 0})
    assert (changed.body["office_hours"], changed.body["return_after_min"]) == (closed | hours, 0)
    # What is not given stays; {} takes the hours away.
    assert (await site.owner.call("PATCH", path, json={"name": "Boshqa"})).body["office_hours"] == closed | hours
    assert (await site.owner.call("PATCH", path, json={"office_hours": {}})).body["office_hours"] == closed
    refusals: tuple[dict[str, Any], ...] = (
        {"office_hours": {"mon": ["09:00"]}},
        {"office_hours": {"mon": ["9", "18:00"]}},
        {"office_hours": {"mon": ["09:00", "09:00"]}},
        {"office_hours": None},
        {"office_hours": []},
        {"return_after_min": -1},
        {"return_after_min": 10_081},
        {"return_after_min": "60"},
        {"return_after_min": None},
    )
    for wrong in refusals:
        refused = await site.owner.call("PATCH", path, json=wrong)
        assert (refused.status, refused.code) == (400, "invalid"), wrong
    unknown = await site.owner.call("PATCH", path, json={"office_hours": {"Monday": ["09:00", "18:00"]}})
    assert (unknown.status, unknown.code) == (400, "unknown_field")
    assert (await site.owner.get(path)).body["return_after_min"] == 0


async def test_without_a_token_there_is_nothing(site: Site) -> None:
    refused = await site.nobody.get("/bots")
    assert (refused.status, refused.code, refused.headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")
    for header in ("Bearer", "Bearer ", "Basic YTpi", f"Bearer {'x' * 5000}", "Bearer bf_nobody", "bearer токен"):
        assert (await site.nobody.call("GET", "/bots", headers={"Authorization": header})).status == 401
    in_address = await site.nobody.get("/bots", token=site.owner.token or "", access_token=site.owner.token or "")
    assert in_address.status == 401


async def test_a_revoked_token_and_a_banned_owner_are_out_at_once(site: Site) -> None:
    async with site.core.db.write() as session:
        guest = await accounts.register_owner(session, email="guest@example.uz", full_name="Guest")
        row, plain = await accounts.new_api_token(session, guest, "one")
        _, second = await accounts.new_api_token(session, guest, "two")
    as_guest = {"Authorization": f"Bearer {plain}"}
    assert (await site.nobody.call("GET", "/bots", headers=as_guest)).status == 200
    async with site.core.db.read() as session:
        assert holding(await everything(session), [plain, plain.removeprefix(accounts.TOKEN_PREFIX)]) == set()
    async with site.core.db.write() as session:
        await accounts.revoke_api_token(session, guest, row.id)
    assert (await site.nobody.call("GET", "/bots", headers=as_guest)).status == 401
    async with site.core.db.write() as session:
        await accounts.ban(session, guest)
    assert (await site.nobody.call("GET", "/bots", headers={"Authorization": f"Bearer {second}"})).status == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "{bot}", None),
        ("PATCH", "{bot}", {"name": "Mine"}),
        ("DELETE", "{bot}", None),
        ("POST", "{bot}/start", None),
        ("POST", "{bot}/stop", None),
        ("GET", "{bot}/documents", None),
        ("GET", "{bot}/channels", None),
        ("POST", "{bot}/channels", {"type": "web"}),
        ("POST", "{bot}/channels", {"type": "telegram", "token": f"7700000001:{'A' * 35}"}),
        ("POST", "{bot}/chat", {"contact": "c", "text": "Salom"}),
        ("GET", "{bot}/conversations", None),
        ("GET", "{bot}/unanswered", None),
        ("POST", "{bot}/answers", {"question": "Q", "answer": "A"}),
    ],
)
async def test_a_foreign_bot_and_a_missing_one_are_the_same(site: Site, method: str, path: str, body: Any) -> None:
    foreign = path.replace("{bot}", site.owner.bot)
    answers = [
        await site.stranger.call(method, place, **({"json": body} if body is not None else {}))
        for place in (foreign, path.replace("{bot}", f"/bots/{MISSING}"))
    ]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert (await site.owner.get(site.owner.bot)).body["name"] == "Texno Savdo"


@pytest.mark.parametrize("bot_id", ["x", "..%2F..", "%00", "a" * 300, "' OR 1=1", "0" * 25 + "U", "%F0%9F%90%8D"])
async def test_a_strange_id_is_a_missing_one(site: Site, bot_id: str) -> None:
    assert (await site.owner.get(f"/bots/{bot_id}")).status == 404


@pytest.mark.parametrize(
    "field", ["id", "owner_id", "status", "public_id", "role", "plan", "is_admin", "knowledge_version"]
)
async def test_fields_that_are_not_yours_change_nothing(site: Site, field: str) -> None:
    before = (await site.owner.get(site.owner.bot)).body
    for call in (
        site.owner.call("PATCH", site.owner.bot, json={field: "x", "name": "Changed"}),
        site.owner.post("/bots", {"name": "Extra", field: "x"}),
    ):
        refused = await call
        assert (refused.status, refused.code, refused.body["error"]["field"]) == (400, "unknown_field", field)
    assert (await site.owner.get(site.owner.bot)).body == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": ["a"]}, "name"),
        ({"name": "a", "languages": []}, "languages"),
        ({"name": "a", "languages": ["uz"] * 21}, "languages"),
        ({"name": "a", "languages": ["de"]}, "languages.0"),
        ({"name": "a", "languages": "uz"}, "languages"),
        ({"name": "a", "languages": None}, "languages"),
        ({"name": "a", "system_prompt": "x" * 8001}, "system_prompt"),
    ],
)
async def test_what_is_wrong_is_named(site: Site, body: Any, field: str) -> None:
    refused = await site.owner.post("/bots", body)
    assert refused.status == 400
    assert refused.body["error"]["field"] == field
    assert refused.body["error"]["message"] not in ("", Invalid.default.render("en"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"name"',
        b"null",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": "a", "name": "b"}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"\\ud800": 1, "name": "a"}',
        b'{"name": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"name": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": ' + b"9" * 5000 + b"}",
        b'{"name": "a"} {"name": "b"}',
        b"\x00" * 100,
    ],
    ids=range(17),
)
async def test_only_honest_json_passes(site: Site, raw: bytes) -> None:
    before = (await site.owner.get("/bots")).body
    assert (await site.owner.raw("/bots", raw)).status == 400
    assert (await site.owner.get("/bots")).body == before


async def test_bodies_of_another_kind_or_size(site: Site) -> None:
    form = await site.owner.call("POST", "/bots", data={"name": "a"})
    assert (form.status, form.code) == (415, "unsupported_media_type")
    text = await site.owner.call("POST", "/bots", data=b'{"name": "a"}', headers={"Content-Type": "text/plain"})
    assert text.status == 415
    large = await site.owner.raw("/bots", b'{"name": "' + b"x" * (4 * 1024 * 1024) + b'"}')
    assert large.status == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    try:
        answer = await site.owner.call("POST", "/bots", data=endless(), headers={"Content-Type": "application/json"})
    except OSError:
        return  # the server closed the connection while we were still sending
    assert answer.status == 413


async def test_other_methods_and_addresses_answer_in_json(site: Site) -> None:
    for path, allowed in (("/bots", "GET, POST"), (f"/conversations/{MISSING}", "PATCH")):
        wrong = await site.owner.call("PUT", path)
        assert (wrong.status, wrong.code, wrong.headers["Allow"]) == (405, "method_not_allowed", allowed)
    for path in ("", "/", "/nothing", "/bots/1/2/3/4"):
        answer = await site.nobody.get(path)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_messages_speak_the_language_that_is_asked_for(site: Site) -> None:
    for language in ("uz", "ru", "en", "uz-Cyrl"):
        refused = await site.owner.call("POST", "/bots", json={"name": ""}, headers={"Accept-Language": language})
        assert refused.body["error"]["message"] == translate(language, "Give the bot a name.")


async def test_answers_are_not_kept_and_cannot_be_framed(site: Site) -> None:
    for path in ("/bots", "/openapi.json", "/nothing"):
        headers = (await site.owner.get(path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_the_use_of_a_token_is_noted(site: Site) -> None:
    async with site.core.db.write() as session:
        guest = await accounts.register_owner(session, email="noted@example.uz", full_name="Noted")
        row, plain = await accounts.new_api_token(session, guest, "one")
    assert (await site.nobody.call("GET", "/bots", headers={"Authorization": f"Bearer {plain}"})).status == 200
    while True:
        async with site.core.db.write() as session:
            if (await session.get_one(models.ApiToken, row.id)).last_used_at is not None:
                return


async def test_limits(servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("limits")
    limits = {"api_requests_per_minute": 5, "bots_per_owner": 2, "login_attempts_per_15_min": 1}
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": limits}) as site:
        assert (await site.owner.post("/bots", {"name": "Second"})).status == 201
        full = await site.owner.post("/bots", {"name": "Third"})
        assert (full.status, full.code) == (409, "limit")
        statuses = [(await site.owner.get("/bots")).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = await site.owner.get("/bots")
        assert refused.code == "too_many" and int(refused.headers["Retry-After"]) > 0
        assert (await site.stranger.get("/bots")).status == 200
        guesses = [
            (await site.nobody.call("GET", "/bots", headers={"Authorization": f"Bearer bf_{n}"})).status
            for n in range(6)
        ]
        assert guesses == [401, 401, 401, 401, 429, 429]
        # An invented token has no limit of its own: it would be one more to remember.
        for _ in range(limits["api_requests_per_minute"] + 1):
            waits = await site.nobody.call("GET", "/bots", headers={"Authorization": "Bearer bf_0"})
            assert (waits.status, waits.headers["Retry-After"]) == (429, "900")
        assert (await site.stranger.get("/bots")).status == 200


async def test_an_administrator_has_no_limit_of_bots(
    servers_run: servers.Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("admin")
    async with started(folder, servers_run.new_sqlite(folder), overrides={"limits": {"bots_per_owner": 1}}) as site:
        async with site.core.db.write() as session:
            admin = await accounts.ensure_admin(session, site.core.settings)
            _, plain = await accounts.new_api_token(session, admin, "admin")
        headers = {"Authorization": f"Bearer {plain}"}
        for name in ("One", "Two"):
            answer = await site.nobody.call("POST", "/bots", json={"name": name}, headers=headers)
            assert answer.status == 201
        # The role alone opens no owner's bot.
        assert (await site.nobody.call("GET", site.owner.bot, headers=headers)).status == 404


async def test_a_database_that_is_gone_is_said_to_be(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = servers.Postgres(servers.new_folder())
    server.start()
    try:
        async with started(tmp_path_factory.mktemp("gone"), server.url()) as site:
            server.stop(at_once=True)
            for answer in (await site.owner.get("/bots"), await site.owner.post("/bots", {"name": "Lost"})):
                assert (answer.status, answer.code) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                assert "postgres" not in json.dumps(answer.body)
            server.start()
            names = [bot["name"] for bot in (await site.owner.get("/bots")).body["items"]]
            assert names == ["Texno Savdo"]
    finally:
        server.stop(at_once=True)
