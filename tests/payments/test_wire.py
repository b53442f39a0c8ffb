"""The wire: signatures, links, what is malformed or not the gateway's, and what is written down of it."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from sqlalchemy import func, select

from db import models
from db.base import Base
from services.payments import make_gateways
from services.payments.base import Call, Order
from services.payments.click import sign, tiyin_of
from services.payments.payme import Payme
from tests.payments.till import (
    CLICK_SECRET,
    NOW,
    PAYME_KEY,
    PAYME_TEST_KEY,
    SERVICE,
    UZUM_PASSWORD,
    Answer,
    Till,
    basic,
    click_sign,
    vectors,
)

OK = {"Authorization": basic("Paycom", PAYME_KEY)}
UZUM_OK = {"Authorization": basic("uzum-test", UZUM_PASSWORD)}
ACTIONS = ("check", "create", "confirm", "reverse", "status")
SECRETS = (PAYME_KEY, PAYME_TEST_KEY, CLICK_SECRET, UZUM_PASSWORD)
BROKEN: tuple[bytes, ...] = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 60_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"method": NaN}',
    b'{"id": "\\ud800"}',
    b'{"id": 1, "x": "' + b"a" * 70_000 + b'"}',
    b" " * (4 * 2**20 + 1),
    gzip.compress(b'{"method": "CheckTransaction", "params": {}}'),
)


async def _rows(shop: Till) -> dict[str, int]:
    async with shop.core.db.read() as session:
        return {
            table.name: int(await session.scalar(select(func.count()).select_from(table)) or 0)
            for table in Base.metadata.sorted_tables
            if table.name not in ("lanes", "jobs")
        }


@pytest.mark.parametrize("vector", vectors("click_signatures")["vectors"], ids=lambda each: str(each["id"]))
def test_signatures_of_click(vector: dict[str, Any]) -> None:
    assert sign(vector["form"], vector["secret_key"]) == vector["md5"]
    assert (vector["form"]["sign_string"] == vector["md5"]) is vector["valid"]
    assert click_sign(vector["form"], vector["secret_key"]) == vector["md5"]


@pytest.mark.parametrize("vector", vectors("payme_checkout_links")["vectors"], ids=lambda each: str(each["id"]))
def test_links_to_payme(vector: dict[str, Any]) -> None:
    params = dict(each.split("=", 1) for each in vector["params"])
    sandbox = vector["base"] == "https://test.paycom.uz"
    gateway = Payme(params["m"], "", "", checkout="https://checkout.paycom.uz", test_checkout="https://test.paycom.uz")
    order = Order(params["ac.order_id"], int(params["a"]), "payable", "Basic")
    link = gateway.link(order, language=params.get("l", ""), return_url=params.get("c", ""), sandbox=sandbox)
    assert link == vector["url"]


def test_a_link_to_payme_holds_no_letter_that_an_address_could_not() -> None:
    gateway = Payme("65f0", "", "", checkout="https://checkout.paycom.uz", test_checkout="https://test.paycom.uz")
    order = Order("204815937", 29_000_000, "payable", "Basic")
    for url in ("https://a.uz/b?c=>>>", "https://a.uz/~~~~~~", "https://a.uz/b;a=1", "https://ўзбек.uz/тўлов"):
        for shift in range(3):
            link = gateway.link(order, language="uz-Cyrl", return_url=url + "x" * shift, sandbox=False)
            coded = link.removeprefix("https://checkout.paycom.uz/")
            assert not {"+", "/"} & set(coded)


def test_links_to_click_and_uzum(shop: Till) -> None:
    gateways = make_gateways(shop.core.settings)
    vector = vectors("click_signatures")["pay_links"][0]
    back = vector["fields"]["return_url"]
    order = Order("2001", 29_000_000, "payable", "Basic")
    link = gateways["click"].link(order, language="uz", return_url=back, sandbox=False)
    assert link.split("?")[0] == vector["url"].split("?")[0]
    assert parse_qs(urlsplit(link).query) == parse_qs(urlsplit(vector["url"]).query)
    link = gateways["uzum"].link(order, language="uz", return_url=back, sandbox=False)
    assert parse_qs(urlsplit(link).query) == {
        "serviceId": ["101999"],
        "account": ["2001"],
        "amount": ["29000000"],
        "redirectUrl": [back],
    }


def test_amounts_of_click() -> None:
    known = {"290000": 29_000_000, "290000.0": 29_000_000, "290000.00": 29_000_000, "0.01": 1, "1000.5": 100_050}
    assert {text: tiyin_of(text) for text in known} == known
    for text in ("", "290 000", "290000.001", "2.9e5", "+1", "-1", "NaN", "Infinity", "٢٩", "1,5", "1" * 16, "0x10"):
        assert tiyin_of(text) is None, text


async def test_what_is_malformed_is_refused_in_the_gateways_own_words(shop: Till) -> None:
    before = await _rows(shop)
    for raw in BROKEN:
        answer = await shop.send("payme", data=raw, headers=OK)
        assert (answer.status, answer.body["error"]["code"]) == (200, -32700), raw[:40]
        for action in ("prepare", "complete"):
            answer = await shop.send(f"click/{action}", data=raw)
            assert (answer.status, answer.body["error"]) == (200, -8), raw[:40]
        for action in ACTIONS:
            answer = await shop.send(f"uzum/{action}", data=raw, headers=UZUM_OK)
            assert (answer.status, answer.body["errorCode"]) == (400, "10002"), raw[:40]
            assert answer.body["status"] == "FAILED"
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert (await shop.send("payme", method, headers=OK)).body["error"]["code"] == -32300
        assert (await shop.send("click/prepare", method)).body["error"] == -8
        assert (await shop.send("uzum/check", method, headers=UZUM_OK)).body["errorCode"] == "10003"
    assert await _rows(shop) == before


async def test_shapes_of_payme(shop: Till) -> None:
    payment = await shop.order()
    create = {"id": "65f0", "time": 1796101200000, "amount": 29_000_000, "account": {"order_id": payment.number}}
    shapes: tuple[Any, ...] = ([], None, "x", 5)
    odd: tuple[Any, ...] = ([], {}, None, True, 1.5, "", "65f0 ", "x" * 65)
    bodies: list[tuple[Any, int]] = [
        *(({"method": "CheckTransaction", "params": each}, -32600) for each in shapes),
        *(({"method": each, "params": {}}, -32600) for each in (*shapes[:2], 5)),
        *(({"method": "CreateTransaction", "params": {**create, "id": each}}, -32600) for each in odd),
        *(({"method": "CreateTransaction", "params": {**create, "time": each}}, -32600) for each in (*odd, -1, 2**62)),
        *(({"method": "CreateTransaction", "params": {**create, "account": each}}, -31050) for each in odd),
        *(({"method": "CheckTransaction", "params": {"id": each}}, -32600) for each in odd),
        *(({"method": "CancelTransaction", "params": {"id": "65f0", "reason": each}}, -32600) for each in (*odd, 0)),
        *(({"method": "GetStatement", "params": {"from": each, "to": 1}}, -32600) for each in odd),
        *(({"method": "SetFiscalData", "params": {"id": "65f0", "type": each}}, -32602) for each in odd),
        ([], -32600),
        (5, -32600),
    ]
    for body, wanted in bodies:
        answer = await shop.send("payme", json={"id": "x", **body} if isinstance(body, dict) else body, headers=OK)
        assert (answer.status, answer.body["error"]["code"]) == (200, wanted), body
        assert answer.body["id"] == ("x" if isinstance(body, dict) else None)
    # A number typed with spaces around, or sent as one, is the same number.
    for number in (f" {payment.number} ", int(payment.number)):
        account = {"order_id": number}
        assert await shop.payme("CheckPerformTransaction", amount=29_000_000, account=account) == {"allow": True}


async def test_odd_texts_reach_no_database(shop: Till) -> None:
    """NUL, signs of other alphabets, long ones: an answer each time, never a failure of ours."""
    payment = await shop.order()
    for text in ("\x00", "1\x002", "٣", "１２３", "' OR 1=1 --", "9" * 400, "-1", "1e3", "\u2028", "<b>"):
        account = {"order_id": text}
        answer = await shop.payme("CheckPerformTransaction", amount=29_000_000, account=account)
        assert answer["error"]["code"] == -31050, text
        assert (await shop.payme("CheckTransaction", id=text)).get("error", {}).get("code") in (-32600, -31003)
        assert (await shop.click(payment, 0, merchant_trans_id=text))["error"] == -5
        assert (await shop.click(payment, 0, click_trans_id=text))["error"] in (-8, 0)
        uzum = await shop.uzum("check", "x", params={"account": text})
        assert uzum.body["errorCode"] == "10007"
        assert (await shop.uzum("status", text)).body["errorCode"] in ("10005", "10014")
    fields = {"sign_string": "ўзбекча", "click_trans_id": "1", "service_id": "31999", "merchant_trans_id": "1"}
    fields |= {"amount": "1", "action": "0", "error": "0", "sign_time": "2026-12-01 10:00:00"}
    assert (await shop.send("click/prepare", data=fields)).body["error"] == -1
    assert (await shop.send("click/prepare", data="amount=1&amount=2&" * 3)).body["error"] == -8
    assert (await shop.send("click/complete", data={**fields, "merchant_prepare_id": "1"})).body["error"] == -3


async def test_nobody_else_is_heard_and_nothing_of_theirs_is_kept(shop: Till) -> None:
    payment = await shop.order()
    id_ = await shop.payme_created(payment)
    before = await _rows(shop)
    call = {"method": "PerformTransaction", "params": {"id": id_}, "id": 7}
    wrong = [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic " + "A" * 5000},
        {"Authorization": "Basic ÿÿÿ"},
        {"Authorization": f"Bearer {PAYME_KEY}"},
        {"Authorization": basic("paycom", PAYME_KEY)},
        {"Authorization": basic("Paycom", "")},
        {"Authorization": basic("Paycom", PAYME_KEY + "x")},
        {"Authorization": basic("Paycom", PAYME_KEY[:-1])},
        {"Authorization": basic("Paycom", "ўзбекча")},
        UZUM_OK,
    ]
    for headers in wrong:
        answer = await shop.send("payme", json=call, headers=headers)
        assert (answer.status, answer.body["error"]["code"], answer.body["id"]) == (200, -32504, 7), headers
        answer = await shop.send("payme", data=b"{", headers=headers)
        assert answer.body["error"]["code"] == -32504
        if headers is not UZUM_OK:
            for action in ACTIONS:
                answer = await shop.send(f"uzum/{action}", json={}, headers=headers)
                assert (answer.status, answer.body["errorCode"]) == (400, "10001")
    for changed in ("click_trans_id", "merchant_trans_id", "amount", "sign_time", "service_id"):
        answer = await _with_changed_after_signing(shop, payment, changed)
        assert answer.body["error"] in (-1, -8), changed
    assert await _rows(shop) == before
    assert (await shop.now_of(payment)).status == "waiting"


async def _with_changed_after_signing(shop: Till, payment: models.Payment, name: str) -> Answer:
    fields = {"click_trans_id": "77", "service_id": "31999", "merchant_trans_id": payment.number, "error": "0"}
    fields |= {"amount": "290000", "action": "0", "sign_time": "2026-12-01 10:00:00"}
    signed = click_sign(fields)
    return await shop.send("click/prepare", data={**fields, name: fields[name] + "0", "sign_string": signed})


def test_a_gateway_without_its_keys_hears_nobody(shop: Till) -> None:
    """An empty key is none: nobody proves with it that they are the gateway."""
    bare = shop.core.settings.model_copy(update={"secrets": type(shop.core.settings.secrets)()})
    gateways = make_gateways(bare)
    body = json.dumps({"method": "CheckTransaction", "params": {"id": "x"}, "id": 1}).encode()
    for header in (basic("Paycom", ""), basic("", ""), ""):
        reply = gateways["payme"].read(Call("POST", "", header, body, NOW))
        assert getattr(reply, "code", None) == "-32504"
        reply = gateways["uzum"].read(Call("POST", "check", header, b"{}", NOW))
        assert getattr(reply, "code", None) == "10001"
    fields = {"click_trans_id": "77", "service_id": "0", "merchant_trans_id": "1", "error": "0", "amount": "1"}
    fields |= {"action": "0", "sign_time": "2026-12-01 10:00:00"}
    form = "&".join(f"{name}={value}" for name, value in {**fields, "sign_string": sign(fields, "")}.items())
    reply = gateways["click"].read(Call("POST", "prepare", "", form.encode(), NOW))
    assert getattr(reply, "code", None) == "-8"


async def test_uzum_is_told_the_products_own_time(shop: Till) -> None:
    """Also where a call is refused before it is looked at further."""
    now = int(shop.moment.timestamp() * 1000)
    for headers, body in (({}, b"{}"), (UZUM_OK, b"["), (UZUM_OK, b"{}")):
        answer = await shop.send("uzum/confirm", headers=headers, data=body)
        assert answer.status == 400 and answer.body["confirmTime"] == now
    answer = await shop.send("uzum/check", "GET", headers=UZUM_OK)
    assert answer.body["timestamp"] == now


async def test_what_is_kept_and_logged_holds_no_secret_and_nothing_of_a_person(
    shop: Till, capfd: pytest.CaptureFixture[str]
) -> None:
    payment = await shop.order()
    payme, click, uzum = (
        await shop.payme_created(payment, card={"number": "8600123412341234"}, phone="998901234567"),
        await shop.click_prepared(payment),
        await shop.uzum_created(payment),
    )
    for header in ({"Authorization": basic("Paycom", "a-wrong-key-000")}, {"Authorization": "Basic %%%"}):
        await shop.send("payme", json={"id": 1}, headers=header)
    await shop.click(payment, 1, sign_time="2026-12-01 10:00:01", **click)
    await shop.uzum("confirm", uzum, phone="998901234567", cardNumber="8600123412341234", paymentSource="UZCARD")
    await shop.payme("CancelTransaction", id=payme, reason=3)
    async with shop.core.db.read() as session:
        event, attempt = models.PaymentEvent, models.PaymentTransaction
        events = (await session.scalars(select(event).where(event.payment_id == payment.id).order_by(event.id))).all()
        attempts = (await session.scalars(select(attempt).where(attempt.payment_id == payment.id))).all()
    written = json.dumps([[each.request, each.answer] for each in events])
    written += json.dumps([[each.raw, each.details] for each in attempts])
    logged = "".join(capfd.readouterr())
    assert "payment_call" in logged and payme in logged
    for secret in (*SECRETS, basic("Paycom", PAYME_KEY)[6:], "a-wrong-key-000", "998901234567", "8600123412341234"):
        assert secret not in written and secret not in logged
    signature = [name for each in events for name in each.request if "sign_string" in name]
    assert not signature
    told = [(each.gateway, each.action, each.code) for each in events]
    assert told == [
        ("", "order", ""),
        ("payme", "CreateTransaction", "0"),
        ("click", "prepare", "0"),
        ("uzum", "create", "0"),
        ("click", "complete", "0"),
        ("uzum", "confirm", "10008"),
        ("payme", "CancelTransaction", "0"),
    ]


async def test_the_fiscal_receipt_of_a_plan(shop: Till) -> None:
    payment = await shop.order()
    params: dict[str, Any] = {"amount": payment.amount_tiyin, "account": {"order_id": payment.number}}
    assert await shop.payme("CheckPerformTransaction", **params) == {"allow": True}
    fiscal = {"title": "Basic", "ikpu": "10305001001000000", "package_code": "1500001", "vat_percent": 12}
    async with shop.core.db.write() as session:
        (await session.get_one(models.Payment, payment.id)).fiscal = fiscal
    detail = (await shop.payme("CheckPerformTransaction", **params))["detail"]
    item = {"title": "Basic", "price": payment.amount_tiyin, "count": 1, "code": "10305001001000000"}
    item |= {"vat_percent": 12, "package_code": "1500001"}
    assert detail == {"receipt_type": 0, "items": [item]}


async def test_an_id_too_deep_to_be_written_again_is_answered_all_the_same(shop: Till) -> None:
    body = b'{"method": "CheckTransaction", "params": {"id": "x"}, "id": ' + b"[" * 300 + b"]" * 300 + b"}"
    for key in ("no-key", shop.payme_key):
        answer = await shop.send("payme", data=body, headers={"Authorization": basic("Paycom", key)})
        assert answer.status == 200 and answer.body["id"] is None
        assert answer.body["error"]["code"] == (-32504 if key == "no-key" else -31003)


async def test_a_note_in_another_encoding_does_not_make_clicks_call_unread(shop: Till) -> None:
    payment = await shop.order(gateway="click")
    fields = {
        "click_trans_id": "9000000000000000001",
        "service_id": SERVICE,
        "click_paydoc_id": "1",
        "merchant_trans_id": payment.number,
        "amount": str(payment.amount_tiyin // 100),
        "action": "0",
        "error": "0",
        "sign_time": "2026-12-01 10:00:00",
    }
    form = urlencode({**fields, "sign_string": click_sign(fields)}) + "&error_note=%D3%F1%EF%E5%F5"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await shop.send("click/prepare", data=form, headers=headers)
    assert answer.body["error"] == 0 and answer.body["click_trans_id"] == 9000000000000000001
