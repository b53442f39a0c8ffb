"""Calls that come twice, a hundred times, at once, and from several gateways: one payment, one span."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

from sqlalchemy import select

from db import models
from services.errors import Conflict
from services.payments import ledger
from tests.payments.till import Till

TIMES = 100


async def _attempts(shop: Till, payment: models.Payment) -> list[tuple[str, str]]:
    async with shop.core.db.read() as session:
        attempt = models.PaymentTransaction
        found = await session.execute(select(attempt.gateway, attempt.state).where(attempt.payment_id == payment.id))
        return sorted((gateway, state) for gateway, state in found)


async def test_each_payme_call_a_hundred_times_at_once(shop: Till) -> None:
    payment = await shop.order()
    id_ = "65f0bb000000000000000001"
    account = {"order_id": payment.number}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("CreateTransaction", {"time": 1796101200000, "amount": 29_000_000, "account": account}),
        ("PerformTransaction", {}),
        ("CheckTransaction", {}),
        ("CancelTransaction", {"reason": 5}),
    ]
    for method, params in calls:
        answers = await asyncio.gather(*(shop.payme(method, id=id_, **params) for _ in range(TIMES)))
        assert all(answer == answers[0] for answer in answers) and "state" in answers[0], (method, answers[0])
        if method == "PerformTransaction":
            assert await shop.deliveries(payment) == 1
    assert await _attempts(shop, payment) == [("payme", "reversed")]
    assert (await shop.now_of(payment)).status == "refunded"
    assert await shop.deliveries(payment) == 1
    letters = models.Letter.user_id == payment.user_id
    assert await shop.count(models.Letter, letters) == 2
    # What is repeated and changes nothing is not written down again and again.
    assert await shop.count(models.PaymentEvent, models.PaymentEvent.payment_id == payment.id) < 20


async def test_each_click_call_a_hundred_times_at_once(shop: Till) -> None:
    payment = await shop.order()
    answers = await asyncio.gather(*(shop.click(payment, 0, click_trans_id="881") for _ in range(TIMES)))
    ids = {answer.get("merchant_prepare_id") for answer in answers}
    assert len(ids) == 1 and None not in ids, answers[0]
    fields = {"click_trans_id": "881", "merchant_prepare_id": str(ids.pop())}
    answers = await asyncio.gather(*(shop.click(payment, 1, **fields) for _ in range(TIMES)))
    assert Counter(answer["error"] for answer in answers) == {0: 1, -4: TIMES - 1}
    assert await _attempts(shop, payment) == [("click", "performed")]
    assert await shop.deliveries(payment) == 1


async def test_each_uzum_call_a_hundred_times_at_once(shop: Till) -> None:
    payment = await shop.order()
    id_ = "5c398d7e-76b6-11ee-96da-0000000000aa"
    facts: dict[str, Any] = {"params": {"account": payment.number}, "amount": payment.amount_tiyin}
    for action, more, again in (("create", facts, "10010"), ("confirm", {}, "10016"), ("reverse", {}, "10018")):
        answers = await asyncio.gather(*(shop.uzum(action, id_, **more) for _ in range(TIMES)))
        codes = Counter(answer.body.get("errorCode") for answer in answers)
        assert codes == {None: 1, again: TIMES - 1}, action
    assert await _attempts(shop, payment) == [("uzum", "reversed")]
    assert await shop.deliveries(payment) == 1


async def test_the_first_of_several_gateways_pays(shop: Till) -> None:
    for _ in range(5):
        payment = await shop.order()
        payme, click, uzum = await asyncio.gather(
            shop.payme_created(payment), shop.click_prepared(payment), shop.uzum_created(payment)
        )
        by_payme, by_click, by_uzum = await asyncio.gather(
            shop.payme("PerformTransaction", id=payme), shop.click(payment, 1, **click), shop.uzum("confirm", uzum)
        )
        won = [by_payme.get("state") == 2, by_click["error"] == 0, by_uzum.status == 200]
        assert sum(won) == 1, (by_payme, by_click, by_uzum)
        lost = by_payme.get("error", {}).get("code"), by_click["error"], by_uzum.body.get("errorCode")
        expected = (-31008, -4, "10008")
        assert [code for code, here in zip(lost, won, strict=True) if not here] == [
            code for code, here in zip(expected, won, strict=True) if not here
        ]
        after = await shop.now_of(payment)
        assert (after.status, after.paid_by) == ("paid", ("payme", "click", "uzum")[won.index(True)])
        assert await shop.deliveries(payment) == 1
        # Whoever lost is asked to cancel what never came to be: the paid order does not mind.
        if not won[0]:
            assert (await shop.payme("CancelTransaction", id=payme, reason=4))["state"] == -1
        if not won[2]:
            assert (await shop.uzum("reverse", uzum)).status == 200
        assert (await shop.now_of(payment)).status == "paid"


async def test_two_payments_of_one_owner_at_once_follow_each_other(shop: Till) -> None:
    user = await shop.owner()
    payments = [await shop.order(user=user) for _ in range(4)]
    ids = [await shop.payme_created(payment) for payment in payments]
    answers = await asyncio.gather(*(shop.payme("PerformTransaction", id=id_) for id_ in ids))
    assert [answer.get("state") for answer in answers] == [2] * 4
    async with shop.core.db.read() as session:
        span = models.Subscription
        spans = list(await session.scalars(select(span).where(span.user_id == user.id).order_by(span.starts_at)))
    assert len(spans) == 4
    assert all(first.ends_at == second.starts_at for first, second in itertools.pairwise(spans))


async def test_one_transaction_id_for_two_orders(shop: Till) -> None:
    first, second = await shop.order(), await shop.order()
    id_ = "65f0bb000000000000000002"
    answers = await asyncio.gather(
        *(
            shop.payme(
                "CreateTransaction",
                id=id_,
                time=1796101200000,
                amount=29_000_000,
                account={"order_id": payment.number},
            )
            for payment in (first, second)
        )
    )
    codes = sorted(answer.get("error", {}).get("code", 0) for answer in answers)
    assert codes == [-31008, 0]
    fields = {"click_trans_id": "882"}
    answers = await asyncio.gather(*(shop.click(payment, 0, **fields) for payment in (first, second)))
    assert sorted(answer["error"] for answer in answers) == [-6, 0]


async def test_a_refund_and_a_cancel_of_a_hand_at_once(shop: Till) -> None:
    payment = await shop.order()
    id_ = await shop.payme_created(payment)
    await shop.payme("PerformTransaction", id=id_)

    async def by_hand() -> str:
        try:
            async with shop.core.db.write() as session:
                await ledger.refund(session, shop.core.settings, payment, now=shop.moment, reason="wish")
        except Conflict as error:
            return error.code
        return "done"

    told, answer = await asyncio.gather(by_hand(), shop.payme("CancelTransaction", id=id_, reason=5))
    assert told in ("done", "not_paid") and answer["state"] == -2
    after = await shop.now_of(payment)
    assert after.status == "refunded"
    assert await shop.count(models.Letter, models.Letter.key == f"refunded:{payment.id}") == 1


async def test_amounts_off_by_one_tiyin(shop: Till) -> None:
    payment = await shop.order()
    account = {"order_id": payment.number}
    for amount in (28_999_999, 29_000_001, 290_000, 0, -29_000_000, 29_000_000.0, "29000000", 2**70, None, True):
        for method in ("CheckPerformTransaction", "CreateTransaction"):
            answer = await shop.payme(method, id="65f0bb", time=1796101200000, amount=amount, account=account)
            assert answer["error"]["code"] == -31001, (method, amount)
        uzum = await shop.uzum("create", "5c398d7e", params={"account": payment.number}, amount=amount)
        assert uzum.body["errorCode"] in ("10011", "10005") and uzum.status == 400
    for text in ("289999.99", "290000.01", "290000.001", "290 000", "2.9e5", "-290000", "٢٩٠٠٠٠", "NaN", "0", "1" * 40):
        assert (await shop.click(payment, 0, amount=text))["error"] == -2, text
    prepared = await shop.click_prepared(payment)
    assert (await shop.click(payment, 1, amount="289999.99", **prepared))["error"] == -2
    assert await _attempts(shop, payment) == [("click", "waiting")]
    assert (await shop.click(payment, 1, amount="290000", **prepared))["error"] == 0


async def test_perform_after_cancel(shop: Till) -> None:
    payment = await shop.order()
    payme, click, uzum = (
        await shop.payme_created(payment),
        await shop.click_prepared(payment),
        await shop.uzum_created(payment),
    )
    assert (await shop.payme("CancelTransaction", id=payme, reason=3))["state"] == -1
    assert (await shop.click(payment, 1, error="-5017", **click))["error"] == -9
    assert (await shop.uzum("reverse", uzum)).body["status"] == "REVERSED"
    assert (await shop.payme("PerformTransaction", id=payme))["error"]["code"] == -31008
    assert (await shop.click(payment, 1, **click))["error"] == -9
    assert (await shop.uzum("confirm", uzum)).body["errorCode"] == "10015"
    assert (await shop.now_of(payment)).status == "waiting" and await shop.deliveries(payment) == 0
    # The order stays payable.
    again = await shop.payme_created(payment)
    assert (await shop.payme("PerformTransaction", id=again))["state"] == 2
    assert await shop.deliveries(payment) == 1


async def test_a_call_whose_state_is_lost_is_answered_as_a_failure_and_repeated(shop: Till) -> None:
    payments = [await shop.order() for _ in range(3)]
    payme, click, uzum = (
        await shop.payme_created(payments[0]),
        await shop.click_prepared(payments[1]),
        await shop.uzum_created(payments[2]),
    )

    async def lost(point: str) -> None:
        if point == "payment_changed":
            raise OSError("the disk is gone")

    whole, shop.core.pause = shop.core.pause, lost
    try:
        assert (await shop.payme("PerformTransaction", id=payme))["error"]["code"] == -32400
        assert (await shop.click(payments[1], 1, **click))["status"] == 503
        assert (await shop.click(payments[1], 0, click_trans_id="883"))["error"] == -7
        assert (await shop.uzum("confirm", uzum)).body["errorCode"] == "99999"
    finally:
        shop.core.pause = whole
    assert [(await shop.now_of(each)).status for each in payments] == ["waiting"] * 3
    assert [await shop.deliveries(each) for each in payments] == [0] * 3
    assert (await shop.payme("PerformTransaction", id=payme))["state"] == 2
    assert (await shop.click(payments[1], 1, **click))["error"] == 0
    assert (await shop.uzum("confirm", uzum)).status == 200
    assert [await shop.deliveries(each) for each in payments] == [1] * 3


async def test_click_that_takes_back_its_word_alarms_the_administrators_once(shop: Till) -> None:
    admin = await shop.owner(role="admin")
    payment = await shop.order()
    prepared = await shop.click_prepared(payment)
    assert (await shop.click(payment, 1, **prepared))["error"] == 0
    for _ in range(3):
        assert (await shop.click(payment, 1, error="-5017", **prepared))["error"] == -9
    after = await shop.now_of(payment)
    assert after.status == "paid" and await shop.deliveries(payment) == 1
    mine = models.Notice.user_id == admin.id, models.Notice.key == f"payment:{payment.id}"
    assert await shop.count(models.Notice, *mine) == 1
