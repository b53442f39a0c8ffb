"""Orders and what becomes of them: prices, closed and stale orders, ends, refunds, coupons, balance, and keys for tests."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import models
from services import accounts, bookkeeping, coupons, referrals, subscriptions
from services.core import Core
from services.errors import Conflict, Invalid, NotFound, TooMany
from services.payments import ledger, orders
from tests import servers
from tests.payments.till import NOW, PAYME_TEST_KEY, Till, settings_for, till

DAY = dt.timedelta(days=1)
_codes = itertools.count(1)


async def _coupon(shop: Till, **terms: Any) -> models.Coupon:
    async with shop.core.db.write() as session:
        made = await coupons.create(
            session, shop.core.settings, coupons.Terms(**terms), now=shop.moment, code=f"SAVE_{next(_codes)}_UZ"
        )
    return made[0]


async def _balance(shop: Till, user: models.User, tiyin: int) -> None:
    row = models.ReferralEntry(partner_id=user.id, kind="commission", amount_tiyin=tiyin, available_at=NOW - 9 * DAY)
    async with shop.core.db.write() as session:
        session.add(row)


async def _left(shop: Till, user: models.User) -> int:
    async with shop.core.db.read() as session:
        return await referrals.balance_tiyin(session, user.id, now=shop.moment)


async def _uses(shop: Till, coupon: models.Coupon) -> tuple[int, list[str]]:
    async with shop.core.db.read() as session:
        use = models.CouponUse
        found = await session.scalars(select(use.status).where(use.coupon_id == coupon.id))
        return (await session.get_one(models.Coupon, coupon.id)).uses, sorted(found)


async def _spans(shop: Till, user_id: str | None) -> list[models.Subscription]:
    async with shop.core.db.read() as session:
        return list(await subscriptions.spans(session, user_id or ""))


async def _paid_by_payme(shop: Till, payment: models.Payment) -> str:
    id_ = await shop.payme_created(payment)
    assert (await shop.payme("PerformTransaction", id=id_)).get("state") == 2
    return id_


def _check(payment: models.Payment) -> dict[str, Any]:
    return {"amount": payment.amount_tiyin, "account": {"order_id": payment.number}}


async def test_numbers_are_short_and_follow_from_nothing(shop: Till) -> None:
    user = await shop.owner()
    numbers = [(await shop.order(user=user)).number for _ in range(20)]
    assert len(set(numbers)) == 20
    assert all(len(number) == 9 and number.isdigit() and number[0] != "0" for number in numbers)
    steps = [abs(int(first) - int(second)) for first, second in itertools.pairwise(numbers)]
    assert max(steps) > 1_000_000


async def test_what_is_not_sold_is_not_ordered(shop: Till) -> None:
    user = await shop.owner()
    for field, plan, gateway in (("plan", "trial", "payme"), ("plan", "gold", "payme"), ("gateway", "basic", "manual")):
        with pytest.raises(Invalid) as caught:
            await shop.order(plan, gateway, user)
        assert caught.value.field == field
    with pytest.raises(Invalid) as caught:
        await shop.order("basic", "payme", user, coupon="NO_SUCH_CODE")
    assert caught.value.field == "coupon"
    other = await shop.owner()
    payment = await shop.order(user=user)
    async with shop.core.db.read() as session:
        with pytest.raises(NotFound):
            await orders.get(session, other, payment.number)
        assert (await orders.get(session, user, payment.number)).id == payment.id
        assert [each.id for each in await orders.history(session, user)] == [payment.id]


async def test_nobody_orders_without_end(shop: Till) -> None:
    user = await shop.owner()
    for _ in range(50):
        last = await shop.order(user=user)
    with pytest.raises(TooMany):
        await shop.order(user=user)
    async with shop.core.db.write() as session:
        await orders.cancel(session, user, last.number, shop.moment)
    await shop.order(user=user)


async def test_an_upgrade_is_paid_for_what_the_owner_had_then(shop: Till) -> None:
    user = await shop.owner()
    await _paid_by_payme(shop, await shop.order("basic", user=user))
    shop.moment = NOW + 15 * DAY
    try:
        stale, other = await shop.order("premium", user=user), await shop.order("premium", user=user)
        assert (stale.kind, stale.credit_tiyin) == ("upgrade", 14_500_000)
        assert stale.amount_tiyin == 59_000_000 - 14_500_000
        payme, click = await shop.payme_created(stale), await shop.click_prepared(stale)
        uzum = await shop.uzum_created(stale)
        await _paid_by_payme(shop, other)
        # Its credit is used up by the other one.
        assert (await shop.payme("CheckPerformTransaction", **_check(stale)))["error"]["code"] == -31051
        assert (await shop.payme("PerformTransaction", id=payme))["error"]["code"] == -31008
        assert (await shop.click(stale, 1, **click))["error"] == -9
        assert (await shop.uzum("confirm", uzum)).body["errorCode"] == "10009"
        assert (await shop.click(stale, 0, click_trans_id="770001"))["error"] == -9
        answer = await shop.uzum("check", "", params={"account": stale.number})
        assert answer.body["errorCode"] == "10009"
        assert (await shop.now_of(stale)).status == "expired"
        spans = await _spans(shop, user.id)
        assert sorted(span.plan for span in spans) == ["basic", "premium"]
        premium = next(span for span in spans if span.plan == "premium")
        assert (premium.starts_at, premium.ends_at) == (shop.moment, shop.moment + 30 * DAY)
    finally:
        shop.moment = NOW


async def test_what_an_upgrade_has_used_up_is_not_refunded(shop: Till) -> None:
    user = await shop.owner()
    basic = await shop.order("basic", user=user)
    payme = await _paid_by_payme(shop, basic)
    premium = await shop.order("premium", user=user)
    upgrade = await _paid_by_payme(shop, premium)
    assert (await shop.payme("CancelTransaction", id=payme, reason=5))["error"]["code"] == -31007
    async with shop.core.db.write() as session:
        with pytest.raises(Conflict) as caught:
            await ledger.refund(session, shop.core.settings, basic, now=shop.moment, reason="wish")
    assert caught.value.code == "not_refundable"
    # The upgrade itself goes back, and then what it had used up.
    assert (await shop.payme("CancelTransaction", id=upgrade, reason=5))["state"] == -2
    assert (await shop.payme("CancelTransaction", id=payme, reason=5))["state"] == -2
    assert all(span.revoked_at is not None for span in await _spans(shop, user.id))


async def test_an_order_ends_but_not_under_an_attempt_that_was_begun_in_time(shop: Till) -> None:
    idle, busy, late = await shop.order(), await shop.order(), await shop.order()
    try:
        shop.moment = NOW + dt.timedelta(hours=23, minutes=59)
        id_ = await shop.payme_created(busy)
        forgotten = await shop.uzum_created(late)
        shop.moment = NOW + dt.timedelta(hours=24, minutes=1)
        await ledger.expire_due(shop.core)
        states = [(await shop.now_of(each)).status for each in (idle, busy, late)]
        assert states == ["expired", "waiting", "waiting"]
        # No new attempt, but the old one is seen through.
        assert (await shop.click(busy, 0, click_trans_id="770002"))["error"] == -9
        assert (await shop.payme("PerformTransaction", id=id_))["state"] == 2
        shop.moment += dt.timedelta(minutes=30)
        await ledger.expire_due(shop.core)
        assert [(await shop.now_of(each)).status for each in (busy, late)] == ["paid", "expired"]
        assert (await shop.uzum("confirm", forgotten)).body["errorCode"] == "10015"
        assert await shop.deliveries(busy) == 1
        async with shop.core.db.read() as session:
            life = await ledger.life(session, late.id)
        assert [event.action for event in life][:2] == ["order", "create"]
        assert [event.action for event in life].count("expire") == 2
    finally:
        shop.moment = NOW


async def test_a_coupon_is_reserved_spent_and_free_again(shop: Till) -> None:
    coupon = await _coupon(shop, percent=10, max_uses=1)
    payment = await shop.order(coupon=coupon.code.lower())
    assert (payment.discount_tiyin, payment.amount_tiyin) == (2_900_000, 26_100_000)
    assert await _uses(shop, coupon) == (1, ["reserved"])
    with pytest.raises(Invalid):
        await shop.order(coupon=coupon.code)
    async with shop.core.db.write() as session:
        await ledger.cancel(session, payment, now=shop.moment)
    assert await _uses(shop, coupon) == (0, ["released"])
    second = await shop.order(coupon=coupon.code)
    id_ = await _paid_by_payme(shop, second)
    assert await _uses(shop, coupon) == (1, ["released", "spent"])
    assert (await shop.payme("CancelTransaction", id=id_, reason=5))["state"] == -2
    assert await _uses(shop, coupon) == (0, ["released", "released"])


async def test_a_payment_of_nothing_is_paid_at_once(shop: Till) -> None:
    coupon = await _coupon(shop, percent=100)
    payment = await shop.order(coupon=coupon.code)
    assert (payment.amount_tiyin, payment.status, payment.paid_by) == (0, "paid", "balance")
    assert await shop.deliveries(payment) == 1 and await _uses(shop, coupon) == (1, ["spent"])
    assert orders.checkout_url(shop.core.settings, payment, "uz") == ""
    # A rest that no gateway takes is not asked for.
    small = await _coupon(shop, amount_tiyin=28_950_000)
    payment = await shop.order(coupon=small.code)
    assert (payment.amount_tiyin, payment.discount_tiyin, payment.status) == (0, 29_000_000, "paid")


async def test_the_referral_balance_pays(shop: Till) -> None:
    user = await shop.owner()
    await _balance(shop, user, 28_950_000)
    payment = await shop.order(user=user, use_balance=True)
    # So much is left that a gateway takes it.
    assert (payment.balance_tiyin, payment.amount_tiyin) == (28_900_000, 100_000)
    assert await _left(shop, user) == 50_000
    async with shop.core.db.write() as session:
        await ledger.cancel(session, payment, now=shop.moment)
    assert await _left(shop, user) == 28_950_000
    await _balance(shop, user, 1_000_000)
    payment = await shop.order(user=user, use_balance=True)
    assert (payment.amount_tiyin, payment.status, payment.paid_by) == (0, "paid", "balance")
    assert await _left(shop, user) == 950_000
    assert (await _spans(shop, user.id))[0].value_tiyin == 29_000_000
    async with shop.core.db.write() as session:
        await ledger.refund(session, shop.core.settings, payment, now=shop.moment, reason="wish")
    assert await _left(shop, user) == 29_950_000


async def test_whoever_brought_the_owner_earns_once_and_loses_it_with_a_refund(shop: Till) -> None:
    partner, user = await shop.owner(), await shop.owner()
    facts = {"partner_id": partner.id, "user_id": user.id, "source": "web", "touched_at": NOW}
    async with shop.core.db.write() as session:
        session.add(models.Referral(**facts))
    payment = await shop.order(user=user)
    id_ = await _paid_by_payme(shop, payment)
    await shop.payme("PerformTransaction", id=id_)
    shop.moment = NOW + 20 * DAY
    try:
        assert await _left(shop, partner) == 5_800_000
        assert (await shop.payme("CancelTransaction", id=id_, reason=5))["state"] == -2
        assert await _left(shop, partner) == 0
    finally:
        shop.moment = NOW


async def test_letters_of_a_payment(shop: Till) -> None:
    payment = await shop.order("premium")
    id_ = await _paid_by_payme(shop, payment)
    await shop.payme("CancelTransaction", id=id_, reason=5)
    async with shop.core.db.read() as session:
        letter = models.Letter
        found = list(
            await session.scalars(select(letter).where(letter.user_id == payment.user_id).order_by(letter.kind))
        )
    assert [(each.kind, each.mail, each.telegram) for each in found] == [
        ("paid", "new", "new"),
        ("refunded", "new", "new"),
    ]
    assert found[0].params == {
        "payment": payment.id,
        "path": f"/billing/payments/{payment.number}",
        "number": payment.number,
        "plan": "Premium",
        "amount": {"tiyin": 59_000_000},
        "until": {"day": "2026-12-31T05:00:00+00:00"},
    }


async def test_a_closed_owner_pays_nothing(shop: Till) -> None:
    banned, gone = await shop.owner(), await shop.owner()
    payments = [await shop.order(user=user) for user in (banned, gone)]
    ids = [await shop.payme_created(payment) for payment in payments]
    async with shop.core.db.write() as session:
        (await session.get_one(models.User, banned.id)).banned_at = NOW
        await session.delete(await session.get_one(models.User, gone.id))
    for payment, id_ in zip(payments, ids, strict=True):
        assert (await shop.payme("PerformTransaction", id=id_))["error"]["code"] == -31008
        assert (await shop.payme("CheckPerformTransaction", **_check(payment)))["error"]["code"] == -31051


async def test_a_manual_payment(shop: Till) -> None:
    admin, user = await shop.owner(role="admin"), await shop.owner()
    payment = await shop.order(user=user, gateway="manual", actor_id=admin.id)
    async with shop.core.db.write() as session:
        await ledger.complete(
            session, shop.core.settings, payment, by="manual", now=NOW, actor_id=admin.id, note="cash\x00"
        )
    async with shop.core.db.write() as session:
        with pytest.raises(Conflict):
            await ledger.complete(session, shop.core.settings, payment, by="manual", now=NOW)
    after = await shop.now_of(payment)
    assert (after.status, after.paid_by, after.note, after.created_by) == ("paid", "manual", "cash", admin.id)
    assert await shop.deliveries(payment) == 1
    # An upgrade's credit does not fit any more.
    first, second = [await shop.order("premium", user=user) for _ in range(2)]
    await shop.pay(first)
    with pytest.raises(Conflict) as caught:
        await shop.pay(second)
    assert caught.value.code == "stale"


# Keys for tests


async def test_the_test_key_touches_only_what_is_made_for_it(shop: Till) -> None:
    admin = await shop.owner(role="admin")
    trial, real = await shop.order(user=admin), await shop.order()
    assert (trial.sandbox, real.sandbox) == (True, False)
    assert orders.checkout_url(shop.core.settings, trial, "ru").startswith("https://test.paycom.uz/")
    for payment, key in ((real, PAYME_TEST_KEY), (trial, shop.payme_key)):
        answer = await shop.payme("CheckPerformTransaction", key=key, **_check(payment))
        assert answer["error"]["code"] == -31050
    assert (await shop.click(trial, 0))["error"] == -5
    id_ = await shop.payme_created(trial, key=PAYME_TEST_KEY)
    assert (await shop.payme("PerformTransaction", id=id_))["error"]["code"] == -31003
    assert (await shop.payme("PerformTransaction", key=PAYME_TEST_KEY, id=id_))["state"] == 2
    assert (await shop.now_of(trial)).status == "paid" and await shop.deliveries(trial) == 0
    assert (await shop.payme("CancelTransaction", key=PAYME_TEST_KEY, id=id_, reason=5))["state"] == -2
    # A real attempt is not the test key's to see.
    id_ = await shop.payme_created(real)
    for method in ("CheckTransaction", "PerformTransaction"):
        assert (await shop.payme(method, key=PAYME_TEST_KEY, id=id_))["error"]["code"] == -31003
    span = {"from": 0, "to": 4_000_000_000_000}
    listed = await shop.payme("GetStatement", key=PAYME_TEST_KEY, **span)
    assert id_ not in [each["id"] for each in listed["transactions"]]


LIVE_ELSEWHERE = ("CLICK_SERVICE_ID", "UZUM_SERVICE_ID")


async def test_an_installation_under_test(tmp_path: Path, servers_run: servers.Run) -> None:
    """Only the test key, and no gateway that takes money: it gives plans, and what comes by hand is money all the same."""
    url = servers_run.new_sqlite(tmp_path)
    settings = settings_for(tmp_path, url, without=("PAYME_KEY", *LIVE_ELSEWHERE))
    assert orders.is_test_mode(settings) and orders.gateways(settings) == ("payme",)
    async with till(settings) as opened:
        opened.payme_key = PAYME_TEST_KEY
        admin, user = await opened.owner(role="admin"), await opened.owner()
        await _balance(opened, user, 5_000_000)
        payment = await opened.order(user=user, use_balance=True)
        # Real money of the owner's pays no part of a test.
        assert (payment.sandbox, payment.balance_tiyin, payment.amount_tiyin) == (True, 0, 29_000_000)
        assert orders.checkout_url(settings, payment, "uz").startswith("https://test.paycom.uz/")
        id_ = await opened.payme_created(payment)
        assert (await opened.payme("PerformTransaction", id=id_))["state"] == 2
        assert await opened.deliveries(payment) == 1
        with pytest.raises(Conflict) as caught:
            await opened.pay(await opened.order())
        assert caught.value.code == "sandbox"
        by_hand = await opened.order(gateway="manual", actor_id=admin.id)
        await opened.pay(by_hand)
        assert not by_hand.sandbox and await opened.deliveries(by_hand) == 1
        upgrade = await opened.order("premium", user=user)
        assert upgrade.credit_tiyin == 29_000_000
        waiting = await opened.order()
    # Real keys come: what the test key has given is worth nothing there, and what waits for it is not paid any more.
    settings = settings_for(tmp_path, url)
    async with till(settings) as opened:
        upgrade = await opened.order("premium", user=user)
        assert (upgrade.kind, upgrade.credit_tiyin, upgrade.sandbox) == ("upgrade", 0, False)
        for key in (PAYME_TEST_KEY, opened.payme_key):
            answer = await opened.payme("CheckPerformTransaction", key=key, **_check(waiting))
            assert answer["error"]["code"] == (-31051 if key == PAYME_TEST_KEY else -31050)
        # Given back, it takes back what it gave, though it would give nothing now.
        answer = await opened.payme("CancelTransaction", key=PAYME_TEST_KEY, id=id_, reason=5)
        assert answer["state"] == -2
        assert all(span.revoked_at is not None for span in await _spans(opened, user.id))


async def test_a_test_key_beside_a_gateway_that_takes_money(tmp_path: Path, servers_run: servers.Run) -> None:
    """Payme's sandbox gives nobody a plan there, and what Click and Uzum bring is money."""
    settings = settings_for(tmp_path, servers_run.new_sqlite(tmp_path), without=("PAYME_KEY",))
    assert not orders.is_test_mode(settings) and orders.gateways(settings) == ("click", "uzum")
    async with till(settings) as opened:
        opened.payme_key = PAYME_TEST_KEY
        partner, user, admin = await opened.owner(), await opened.owner(), await opened.owner(role="admin")
        async with opened.core.db.write() as session:
            facts = {"partner_id": partner.id, "user_id": user.id, "source": "web", "touched_at": NOW}
            session.add(models.Referral(**facts))
        with pytest.raises(Invalid):
            await opened.order("basic", "payme", user)
        with pytest.raises(Invalid):
            await opened.order("basic", "click", admin)
        payment = await opened.order(gateway="click", user=user)
        assert not payment.sandbox and orders.checkout_url(settings, payment, "uz", "payme") == ""
        answer = await opened.payme("CheckPerformTransaction", **_check(payment))
        assert answer["error"]["code"] == -31050
        prepared = await opened.click_prepared(payment)
        assert (await opened.click(payment, 1, **prepared))["error"] == 0
        assert await opened.deliveries(payment) == 1
        async with opened.core.db.read() as session:
            entry = models.ReferralEntry
            earned = await session.scalar(select(entry.amount_tiyin).where(entry.payment_id == payment.id))
            sums = await bookkeeping.sums(session, bookkeeping.Filters())
        assert earned == 5_800_000 and sums["paid"].tiyin == payment.amount_tiyin
        # An administrator walks the sandbox with a payment of their own.
        trial = await opened.order(user=admin)
        assert trial.sandbox and orders.checkout_url(settings, trial, "uz").startswith("https://test.paycom.uz/")
        id_ = await opened.payme_created(trial)
        assert (await opened.payme("PerformTransaction", id=id_))["state"] == 2
        assert await opened.deliveries(trial) == 0
        # And again: that one gave nothing.
        again = await opened.order(user=admin, basis=admin.subscription_version)
        assert again.id != trial.id


# The same order again


async def test_the_same_order_from_two_windows_is_bought_once(shop: Till) -> None:
    user = await shop.owner()
    await _balance(shop, user, 29_000_000 * 3)
    seen = user.subscription_version
    made = await asyncio.gather(*(shop.order(user=user, use_balance=True, basis=seen) for _ in range(4)))
    assert len({each.id for each in made}) == 1 and made[0].status == "paid"
    assert await _left(shop, user) == 29_000_000 * 2 and len(await _spans(shop, user.id)) == 1
    # Another wish of the old page is not bought for a price that is not true any more.
    with pytest.raises(Conflict) as caught:
        await shop.order("premium", user=user, basis=seen)
    assert caught.value.code == "changed"
    # Whoever looks again may buy again.
    renewal = await shop.order(user=user, use_balance=True, basis=seen + 1)
    assert renewal.id != made[0].id and renewal.status == "paid"
    assert len(await _spans(shop, user.id)) == 2


async def test_an_order_that_waits_is_made_once_unless_something_else_is_wished(shop: Till) -> None:
    user = await shop.owner()
    first = await shop.order(user=user, basis=0)
    assert (await shop.order(user=user, basis=0)).id == first.id
    coupon = await _coupon(shop, percent=10, max_uses=1)
    cheaper = await shop.order(user=user, basis=0, coupon=coupon.code)
    assert cheaper.id != first.id
    assert (await shop.order(user=user, basis=0, coupon=f" {coupon.code.lower()} ")).id == cheaper.id
    others = [await shop.order(user=user, basis=0, gateway="click"), await shop.order("premium", user=user, basis=0)]
    assert len({first.id, cheaper.id, *(each.id for each in others)}) == 4
    async with shop.core.db.write() as session:
        await orders.cancel(session, user, first.number, shop.moment)
    assert (await shop.order(user=user, basis=0)).id != first.id


# The API


@contextlib.asynccontextmanager
async def _token(core: Core, user: models.User) -> AsyncIterator[dict[str, str]]:
    async with core.db.write() as session:
        _, plain = await accounts.new_api_token(session, user, "test")
    yield {"Authorization": f"Bearer {plain}"}


async def test_the_api(shop: Till) -> None:
    user, other = await shop.owner(), await shop.owner()
    coupon = await _coupon(shop, percent=100)
    async with _token(shop.core, user) as headers, _token(shop.core, other) as strangers:

        async def call(method: str, path: str, given: dict[str, str] = headers, **options: Any) -> tuple[int, Any]:
            url = f"{shop.base}/api/v1/payments{path}"
            async with shop.http.request(method, url, headers=given, **options) as answer:
                return answer.status, await answer.json()

        wish = {"plan": "basic", "period": "quarterly", "gateway": "click"}
        status, made = await call("POST", "", json=wish)
        assert status == 201
        assert (made["amount_tiyin"], made["status"]) == (290_000 * 3 * 95, "waiting")
        assert made["checkout_url"].startswith("https://my.click.uz/services/pay/?service_id=31999&merchant_id=20999&")
        assert await call("GET", f"/{made['number']}") == (200, made)
        assert (await call("GET", f"/{made['number']}", strangers))[0] == 404
        assert (await call("GET", "/999999999"))[0] == 404
        payment = await _by_number(shop, made["number"])
        id_ = await shop.payme_created(payment)
        await shop.payme("PerformTransaction", id=id_)
        _, paid = await call("GET", f"/{made['number']}")
        assert (paid["status"], paid["checkout_url"]) == ("paid", None) and paid["paid_at"].endswith("Z")
        status, free = await call("POST", "", strangers, json={**wish, "coupon": coupon.code})
        assert (status, free["status"], free["amount_tiyin"], free["checkout_url"]) == (201, "paid", 0, None)
        bad: list[tuple[dict[str, Any], str]] = [
            ({**wish, "plan": "trial"}, "plan"),
            ({**wish, "plan": ""}, "plan"),
            ({**wish, "period": "daily"}, "period"),
            ({**wish, "gateway": "manual"}, "gateway"),
            ({**wish, "coupon": "WRONG_CODE"}, "coupon"),
            ({**wish, "amount_tiyin": 1}, "amount_tiyin"),
            ({**wish, "status": "paid"}, "status"),
            ({"plan": "basic", "gateway": "click"}, "period"),
        ]
        for body, field in bad:
            status, refused = await call("POST", "", json=body)
            assert (status, refused["error"]["field"]) == (400, field)
        status, late = await call("POST", "", json=wish)
        shop.moment += dt.timedelta(hours=24)
        try:
            _, over = await call("GET", f"/{late['number']}")
        finally:
            shop.moment = NOW
        assert (late["status"], over["status"], over["checkout_url"]) == ("waiting", "expired", None)
    admin = await shop.owner(role="admin")
    async with _token(shop.core, admin) as headers:
        for gateway, wanted in (("click", 400), ("uzum", 400), ("payme", 201)):
            status, _ = await call("POST", "", headers, json={**wish, "gateway": gateway})
            assert status == wanted, gateway


async def _by_number(shop: Till, number: str) -> models.Payment:
    async with shop.core.db.read() as session:
        return (await session.scalars(select(models.Payment).where(models.Payment.number == number))).one()
