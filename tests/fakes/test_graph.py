"""The fake Graph API: what other tests rely on."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.graph import FakeGraph, FakeNumber

TOKEN, SECRET = "EAA-CANARY-token-not-real", "meta-app-secret-for-tests-0001"
AZIZA = "998000000001"


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    async with FakeGraph() as fake:
        yield fake


@pytest.fixture
def number(graph: FakeGraph) -> FakeNumber:
    return graph.add_number(
        "100000000000101",
        token=TOKEN,
        app_secret=SECRET,
        waba_id="200000000000201",
        display_phone_number="+998 00 000 01 01",
    )


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


class Asking:
    """Asks the server as the product would."""

    def __init__(self, graph: FakeGraph, session: aiohttp.ClientSession) -> None:
        self.root, self.session = f"{graph.base_url}/v26.0", session

    async def __call__(
        self, method: str, path: str, body: Any = None, token: str | None = TOKEN, **query: str
    ) -> tuple[int, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.session.request(
            method, f"{self.root}/{path}", json=body, headers=headers, params=query
        ) as answer:
            return answer.status, await answer.json()

    async def send(self, body: dict[str, Any], **more: Any) -> tuple[int, Any]:
        message = {"messaging_product": "whatsapp", "to": AZIZA, **body}
        return await self("POST", "100000000000101/messages", {k: v for k, v in message.items() if v != ""}, **more)


@pytest.fixture
def ask(graph: FakeGraph, session: aiohttp.ClientSession) -> Asking:
    return Asking(graph, session)


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": {"body": body}, **more}


def buttons(*titles: str, body: str = "Tanlang", **more: Any) -> dict[str, Any]:
    replies = [{"type": "reply", "reply": {"id": f"b{at}", "title": title}} for at, title in enumerate(titles)]
    action = {"buttons": replies}
    return {"type": "interactive", "interactive": {"type": "button", "body": {"text": body}, "action": action}, **more}


def rows(count: int) -> dict[str, Any]:
    each = [{"id": f"r{at}", "title": f"Qator {at}"} for at in range(count)]
    sections = [{"title": "A", "rows": each[:6]}, {"title": "B", "rows": each[6:]}]
    action = {"button": "Tanlash", "sections": sections}
    return {"type": "interactive", "interactive": {"type": "list", "body": {"text": "?"}, "action": action}}


async def test_messages_are_recorded(ask: Asking, number: FakeNumber) -> None:
    waiting = asyncio.create_task(number.wait_sent(3))
    status, answer = await ask.send(text("Salom 🍐", biz_opaque_callback_data="out-1"))
    assert status == 200 and answer["messaging_product"] == "whatsapp"
    assert answer["contacts"] == [{"input": AZIZA, "wa_id": AZIZA}]
    assert answer["messages"][0]["id"].startswith("wamid.")
    status, hidden = await ask.send(buttons("Ha", "Yo‘q", to="", recipient="UZ.13491208655302741918"))
    assert status == 200 and hidden["contacts"][0]["user_id"] == "UZ.13491208655302741918"
    assert (await ask.send(rows(10)))[0] == 200
    first, second, _ = await waiting
    assert first["text"] == {"body": "Salom 🍐"} and first["id"] == answer["messages"][0]["id"]
    assert first["biz_opaque_callback_data"] == "out-1" and second["recipient"].startswith("UZ.")
    with pytest.raises(AssertionError, match="3 of 4 messages"):
        await number.wait_sent(4, timeout=0.05)

    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.IN1"}
    assert await ask("POST", "100000000000101/messages", read) == (200, {"success": True})
    await ask("POST", "100000000000101/messages", read | {"typing_indicator": {"type": "text"}})
    assert number.reads == ["wamid.IN1", "wamid.IN1"] and number.typing == ["wamid.IN1"] and len(number.sent) == 3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (text("x" * 4097), 100),
        (text(""), 100),
        (text("x", messaging_product="sms"), 100),
        (text("x", to=""), 100),
        (text("x", recipient="UZ.1"), 100),
        (text("x", to="", recipient=AZIZA), 100),
        (text("x", to="aziza"), 100),
        (text("x", to="998000000101"), 131021),
        ({"type": "poll", "poll": {}}, 100),
        ({"text": {"body": "x"}}, 100),
        ({"type": "image", "image": {"id": "404"}}, 100),
        (buttons("1", "2", "3", "4"), 131009),
        (buttons("x" * 21), 131009),
        (buttons("Ha", "Ha"), 131009),
        (buttons("Ha", body="x" * 1025), 131009),
        (rows(11), 131009),
    ],
)
async def test_bad_messages_are_refused(ask: Asking, number: FakeNumber, body: dict[str, Any], code: int) -> None:
    status, answer = await ask.send(body)
    assert status == 400 and answer["error"]["code"] == code and answer["error"]["fbtrace_id"]
    assert not number.sent


async def test_tokens(ask: Asking, graph: FakeGraph, number: FakeNumber) -> None:
    other = graph.add_number(
        "100000000000102", token="EAA-CANARY-2", app_secret="x", waba_id="3", display_phone_number="998000000102"
    )
    for token in (None, "EAA-unknown"):
        status, answer = await ask.send(text("x"), token=token)
        assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (401, 190, 467)
    status, answer = await ask.send(text("x"), token=other.token)
    assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (400, 100, 33)
    proof = hmac.new(SECRET.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
    assert (await ask("GET", number.phone_number_id, appsecret_proof=proof))[0] == 200
    assert (await ask("GET", number.phone_number_id, appsecret_proof="0" * 64))[1]["error"]["code"] == 100
    number.scopes = ("whatsapp_business_management",)
    assert (await ask.send(text("x")))[1]["error"]["code"] == 131005
    number.token_expires_at = int(time.time()) - 1
    status, answer = await ask.send(text("x"))
    assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (401, 190, 463)
    shown = repr((graph, number, graph.calls, graph.numbers))
    assert TOKEN not in shown and SECRET not in shown and not number.sent


async def test_the_number_its_token_and_its_account(ask: Asking, number: FakeNumber) -> None:
    assert await ask("GET", number.phone_number_id, fields="display_phone_number,quality_rating") == (
        200,
        {"id": number.phone_number_id, "display_phone_number": "+998 00 000 01 01", "quality_rating": "GREEN"},
    )
    status, answer = await ask("GET", "404", fields="verified_name")
    assert (status, answer["error"]["code"], answer["error"]["error_subcode"]) == (400, 100, 33)
    _, answer = await ask("GET", "debug_token", input_token=TOKEN)
    data = answer["data"]
    assert data["is_valid"] and data["expires_at"] == 0 and data["type"] == "SYSTEM_USER"
    assert data["granular_scopes"] == [{"scope": each, "target_ids": [number.waba_id]} for each in data["scopes"]]
    _, answer = await ask("GET", "debug_token", token=f"{number.app_id}|{SECRET}", input_token="EAA-unknown")
    assert not answer["data"]["is_valid"]

    path = f"{number.waba_id}/subscribed_apps"
    assert await ask("GET", path) == (200, {"data": []})
    override = {"override_callback_uri": "https://shop.test/hook", "verify_token": "verify-me"}
    assert await ask("POST", path, override) == (200, {"success": True})
    assert number.subscribed and number.verify_token == "verify-me"
    ((app,),) = (await ask("GET", path))[1].values()
    assert app["override_callback_uri"] == "https://shop.test/hook"
    assert (await ask("POST", "404/subscribed_apps"))[1]["error"]["error_subcode"] == 33


@pytest.mark.parametrize(
    ("http", "code", "subcode", "message"),
    [
        (400, 131047, None, "(#131047) Re-engagement message"),
        (400, 131026, None, "(#131026) Message undeliverable"),
        (429, 130429, None, "(#130429) Rate limit hit"),
        (400, 131056, None, "(#131056) (Business Account, Consumer Account) pair rate limit hit"),
        (401, 190, 463, "Error validating access token: Session has expired"),
        (400, 131042, None, "(#131042) Business eligibility payment issue"),
        (400, 100, None, "(#100) Invalid parameter"),
        (500, 131000, None, "(#131000) Something went wrong"),
    ],
)
async def test_errors_are_worded_as_meta_does(
    ask: Asking, graph: FakeGraph, number: FakeNumber, http: int, code: int, subcode: int | None, message: str
) -> None:
    graph.fail(code, http=http, subcode=subcode)
    status, answer = await ask.send(text("x"))
    error = answer["error"]
    assert status == http and error["fbtrace_id"] and error["type"] == "OAuthException"
    assert (error["code"], error.get("error_subcode"), error["message"]) == (code, subcode, message)
    assert (await ask.send(text("x")))[0] == 200


async def test_errors_for_some(ask: Asking, graph: FakeGraph, number: FakeNumber) -> None:
    rule = graph.fail(131056, to=AZIZA, times=2, details="wait")
    assert (await ask.send(text("x", to="998000000002")))[0] == 200
    assert (await ask.send(text("")))[1]["error"]["code"] == 100 and rule.hits == 0
    assert (await ask.send(text("x", to=f"+{AZIZA}")))[1]["error"]["error_data"]["details"] == "wait"
    assert (await ask.send(text("x")))[0] == 400 and (await ask.send(text("x")))[0] == 200
    assert len(number.sent) == 2


async def test_broken_answers(
    ask: Asking, graph: FakeGraph, number: FakeNumber, session: aiohttp.ClientSession
) -> None:
    graph.cut(after_effect=False)
    with pytest.raises(aiohttp.ClientError):
        await ask.send(text("lost"))
    assert not number.sent
    graph.cut()
    with pytest.raises(aiohttp.ClientError):
        await ask.send(text("counted"))
    assert len(number.sent) == 1
    rule = graph.hang(30)
    pending = asyncio.create_task(ask.send(text("late")))
    await number.wait_sent(2)
    assert not pending.done()
    rule.release()
    assert (await pending)[0] == 200
    graph.answer_raw(502, "<html>Bad Gateway</html>", "text/html")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with session.post(f"{ask.root}/100000000000101/messages", json=text("x"), headers=headers) as answer:
        assert answer.status == 502 and answer.content_type == "text/html"
        assert await answer.text() == "<html>Bad Gateway</html>"
    assert [call.status for call in graph.called("send")] == [0, 0, 200, 502] and len(number.sent) == 2


async def test_media(ask: Asking, graph: FakeGraph, number: FakeNumber, session: aiohttp.ClientSession) -> None:
    voice = graph.add_media("300000000000302", b"OggS" * 9, "audio/ogg; codecs=opus")
    _, about = await ask("GET", voice.id)
    assert about["sha256"] == hashlib.sha256(voice.content).hexdigest() and about["file_size"] == 36
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with session.get(about["url"]) as answer:
        assert answer.status == 401
    async with session.get(about["url"], headers=headers) as answer:
        assert answer.headers["Content-Type"] == voice.mime_type and await answer.read() == voice.content
    graph.media_url_seconds = -1
    async with session.get((await ask("GET", voice.id))[1]["url"], headers=headers) as answer:
        assert answer.status == 404

    form = aiohttp.FormData({"messaging_product": "whatsapp", "type": "image/jpeg"})
    form.add_field("file", b"\xff\xd8jpeg", filename="nok.jpg", content_type="image/jpeg")
    async with session.post(f"{ask.root}/100000000000101/media", data=form, headers=headers) as answer:
        media_id = (await answer.json())["id"]
    assert number.uploads[0].content == b"\xff\xd8jpeg" and number.uploads[0].filename == "nok.jpg"
    assert (await ask.send({"type": "image", "image": {"id": media_id, "caption": "Nok"}}))[0] == 200


def test_bodies_are_those_of_the_vectors(number: FakeNumber) -> None:
    raw = b'{"object":"whatsapp_business_account","entry":[]}'
    assert FakeGraph.body() == raw
    assert FakeGraph.sign(SECRET, raw) == "sha256=b11474c9158953827895d97fde8af82ec76b1d48be48438b80256700aa123ba4"
    value = number.message(AZIZA, "Salom", wamid="wamid.TEST0001", name="Aziza", timestamp=1796101190)
    raw = FakeGraph.body(value)
    assert FakeGraph.sign(SECRET, raw) == "sha256=9414c3bd581c47c90081a6e3da80740d62b29b45c5677905ef52a8cdde0251b5"
    assert rb"\u041d\u043e\u043a https:\/\/shop.test" in FakeGraph.body(number.message(AZIZA, "Нок https://shop.test"))

    hidden = number.message(None, "Salom", user_id="UZ.1", name="Nodira", username="nodira.uz")
    assert hidden["contacts"] == [{"profile": {"name": "Nodira", "username": "nodira.uz"}, "user_id": "UZ.1"}]
    assert hidden["messages"][0]["from_user_id"] == "UZ.1" and "from" not in hidden["messages"][0]
    image = number.message(AZIZA, None, type="image", image={"id": "3"}, context={"id": "wamid.OUT"})["messages"][0]
    assert "text" not in image and image["image"] == {"id": "3"} and image["context"] == {"id": "wamid.OUT"}
    failed = number.status("wamid.OUT5", "failed", recipient=AZIZA, errors=[131047], opaque="out-5")["statuses"][0]
    assert failed["errors"][0]["code"] == 131047 and failed["biz_opaque_callback_data"] == "out-5"


async def test_delivery_of_batches(graph: FakeGraph, number: FakeNumber, session: aiohttp.ClientSession) -> None:
    taken: list[bytes] = []

    async def hook(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(text=request.query["hub.challenge"])
        raw = await request.read()
        taken.append(raw)
        good = request.headers["X-Hub-Signature-256"] == FakeGraph.sign(SECRET, raw)
        return web.Response(status=200 if good else 401)

    app = web.Application()
    app.router.add_route("*", "/hook", hook)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        other = graph.add_number("102", token="EAA-2", app_secret=SECRET, waba_id="9", display_phone_number="99800")
        both = graph.together(number.message(AZIZA, "1"), number.message(AZIZA, "2"), number.message("998002", "3"))
        raw = graph.body(
            both,
            number.status("wamid.1", "delivered", recipient=AZIZA),
            other.message(AZIZA, "4"),
            {"field": "smb_message_echoes", "value": other.value(message_echoes=[])},
            graph.entry("9", other.message(AZIZA, "5")),
        )
        assert await graph.deliver(session, url, raw, SECRET) == 200
        assert await graph.deliver(session, url, raw, "another") == 401
        assert await graph.verify(session, url, "verify-me") == (200, "1158201444")
    finally:
        await runner.cleanup()
    entries = json.loads(taken[0])["entry"]
    assert [(entry["id"], len(entry["changes"])) for entry in entries] == [(number.waba_id, 2), ("9", 2), ("9", 1)]
    value = entries[0]["changes"][0]["value"]
    assert [each["text"]["body"] for each in value["messages"]] == ["1", "2", "3"] and len(value["contacts"]) == 2
