"""Offers: every 54 hours from the end of the trial, with a coupon of one's own, until somebody pays or wants no more."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import models
from services import coupons
from services.days import TASHKENT
from services.errors import Invalid
from services.letters.offers import OFFERS
from tests.fakes.smtp import FakeMail
from tests.letters.office import START, Clock, Office, office

TRIAL_END = START + dt.timedelta(days=3)
EVERY = dt.timedelta(hours=54)


async def _offers(desk: Office, user: models.User) -> list[models.Letter]:
    return [letter for letter in await desk.letters(user) if letter.kind in OFFERS]


async def _coupons(desk: Office, user: models.User) -> list[models.Coupon]:
    async with desk.core.db.read() as session:
        mine = models.Coupon.user_id == user.id
        return list(await session.scalars(select(models.Coupon).where(mine).order_by(models.Coupon.id)))


async def test_every_54_hours_with_one_coupon_at_a_time(desk: Office) -> None:
    user = await desk.person()
    end = START + dt.timedelta(days=27)
    while desk.clock() < end:
        await desk.remind()
        valid = [each for each in await _coupons(desk, user) if each.valid_until and each.valid_until > desk.clock()]
        assert len(valid) <= 1
        desk.clock.forward(hours=6)
    offers = await _offers(desk, user)
    assert [offer.created_at for offer in offers] == [TRIAL_END + EVERY * number for number in range(1, 11)]
    assert [offer.kind for offer in offers[:4]] == [*OFFERS, next(iter(OFFERS))]
    coupons = await _coupons(desk, user)
    assert 3 <= len(coupons) <= 4
    for coupon in coupons:
        assert re.fullmatch(r"SAVE10_[A-Z2-9]{4}_2026", coupon.code)
        assert (coupon.percent, coupon.max_uses, coupon.per_owner, coupon.uses) == (10, 1, 1, 0)
        assert coupon.valid_until == coupon.created_at + dt.timedelta(days=7)
    assert {offer.params["code"] for offer in offers} == {coupon.code for coupon in coupons}


async def test_what_an_offer_brings(desk: Office, mail: FakeMail) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    await desk.post.send_mail()
    letter = next(each for each in mail.letters if each.message["List-Unsubscribe"])
    (coupon,) = await _coupons(desk, user)
    link = str(letter.message["List-Unsubscribe"]).strip("<>")
    assert letter.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    for part in ("plain", "html"):
        assert coupon.code in letter.part(part)
        assert link in letter.part(part)
        assert f"/billing?coupon={coupon.code}" in letter.part(part)
        assert "149\u00a0000\u00a0UZS" in unescape(letter.part(part))


async def test_ten_that_were_missed_are_one(desk: Office) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY * 10 + dt.timedelta(hours=50)
    for _ in range(3):
        await desk.remind()
        desk.clock.forward(minutes=30)
    assert len(await _offers(desk, user)) == 1
    # The next due time is three hours away: it waits until half of the usual time has passed.
    while len(await _offers(desk, user)) == 1:
        desk.clock.forward(hours=3)
        await desk.remind()
    first, second = await _offers(desk, user)
    assert EVERY / 2 <= second.created_at - first.created_at <= EVERY / 2 + dt.timedelta(hours=3)


@pytest.mark.parametrize("jump", [{"hours": 1}, {"hours": -1}, {"days": 1}, {"days": -1}, {"days": 400}])
async def test_a_clock_that_jumps_sends_no_second_one(desk: Office, jump: dict[str, float]) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    desk.clock.forward(**jump)
    await desk.remind()
    ahead = len(await _offers(desk, user))
    assert ahead == (2 if jump == {"days": 400} else 1)
    desk.clock.forward(**{unit: -n for unit, n in jump.items()})
    for _ in range(9):
        await desk.remind()
        assert len(await _offers(desk, user)) == ahead
        desk.clock.forward(hours=6)
    await desk.remind()
    assert len(await _offers(desk, user)) == ahead + 1


async def test_payment_and_unsubscribing_end_them(desk: Office, mail: FakeMail) -> None:
    payer, tired, both = await desk.person("Payer"), await desk.person("Tired"), await desk.person("Both")
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    await desk.pay(payer)
    await desk.change(tired, unsubscribed_at=desk.clock())
    # What was written but not sent yet is not sent any more.
    await desk.post.send_mail()
    assert {letter.to[0] for letter in mail.letters if letter.message["List-Unsubscribe"]} == {both.email}
    for _ in range(7):
        desk.clock.forward(days=3)
        await desk.remind()
    assert len(await _offers(desk, payer)) == len(await _offers(desk, tired)) == 1
    assert len(await _offers(desk, both)) > 5
    # A plan that ran out is no paid plan.
    desk.clock.forward(days=13)
    await desk.remind()
    assert len(await _offers(desk, payer)) == 2


async def test_a_bounced_address_gets_none_but_telegram_does(desk: Office) -> None:
    user = await desk.person(mail_refused_at=START, telegram_id=900_000_001)
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    (offer,) = await _offers(desk, user)
    assert (offer.mail, offer.telegram) == ("none", "new")


async def test_an_offer_that_waited_too_long_is_not_sent(desk: Office, mail: FakeMail) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    desk.clock.forward(hours=54)
    await desk.post.send_mail()
    assert not [letter for letter in mail.letters if letter.message["List-Unsubscribe"]]
    assert [offer.mail for offer in await _offers(desk, user)] == ["failed"]


async def test_several_processes_at_it_write_one(tmp_path: Path, database_url: str) -> None:
    clock = Clock(TRIAL_END + EVERY)
    async with office(tmp_path, database_url, clock=clock) as desk:
        people = [await desk.person(f"Owner{n}", created_at=START) for n in range(5)]
        await asyncio.gather(*(desk.remind() for _ in range(4)))
        for user in people:
            assert len(await _offers(desk, user)) == 1
            assert len(await _coupons(desk, user)) == 1


async def test_a_spent_coupon_is_not_offered_again(desk: Office) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    (first,) = await _coupons(desk, user)
    async with desk.core.db.write() as session:
        session.add(models.CouponUse(coupon_id=first.id, user_id=user.id, status="spent"))
    desk.clock.forward(hours=54)
    await desk.remind()
    assert len({offer.params["code"] for offer in await _offers(desk, user)}) == 2


@pytest.mark.parametrize("held", ["reserved", "uses", "disabled", "over"])
async def test_a_code_that_cannot_be_used_is_not_offered(desk: Office, mail: FakeMail, held: str) -> None:
    """Reserved by an order that waits, used up, ended: another one is made, and a letter that waits with it is not sent."""
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    (first,) = await _coupons(desk, user)
    async with desk.core.db.write() as session:
        row = await session.get_one(models.Coupon, first.id)
        if held == "reserved":
            await coupons.reserve(session, user.id, first.id, now=desk.clock(), request_id="1")
            await session.execute(update(models.CouponUse).values(status="reserved"))
        elif held == "uses":
            row.uses = 1
        elif held == "disabled":
            row.disabled_at = desk.clock()
        else:
            row.valid_until = desk.clock()
    await desk.post.send_mail()
    assert not [letter for letter in mail.letters if letter.message["List-Unsubscribe"]]
    desk.clock.forward(hours=54)
    await desk.remind()
    await desk.post.send_mail()
    (letter,) = [letter for letter in mail.letters if letter.message["List-Unsubscribe"]]
    new = (await _coupons(desk, user))[-1]
    assert new.id != first.id
    assert new.code in letter.part("plain") and first.code not in letter.part("plain")
    # What it says is true: the code can be used up to the moment that stands there.
    assert new.valid_until is not None
    assert new.valid_until.astimezone(TASHKENT).strftime("%H:%M") in letter.part("plain")
    async with desk.core.db.read() as session:
        last = new.valid_until - dt.timedelta(seconds=1)
        assert (await coupons.price_off(session, user, new.code, "basic", 290_000_00, now=last)).discount_tiyin
        with pytest.raises(Invalid):
            await coupons.price_off(session, user, new.code, "basic", 290_000_00, now=new.valid_until)


async def test_a_code_that_an_order_gave_back_is_offered_again(desk: Office) -> None:
    user = await desk.person()
    desk.clock.moment = TRIAL_END + EVERY
    await desk.remind()
    async with desk.core.db.write() as session:
        (first,) = (await session.scalars(select(models.Coupon).where(models.Coupon.user_id == user.id))).all()
        session.add(models.CouponUse(coupon_id=first.id, user_id=user.id, status="released"))
    desk.clock.forward(hours=54)
    await desk.remind()
    assert len(await _coupons(desk, user)) == 1
