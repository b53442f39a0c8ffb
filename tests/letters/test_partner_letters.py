"""What partners are told: once a morning who came and what can be used, and each payout, amounts as their language has them."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import models
from services import referrals
from services.letters import partnering
from tests.fakes.smtp import FakeMail
from tests.letters.office import Clock, Office, office, tashkent
from tests.services.money import payment

EVENING = tashkent(2026, 11, 2, 20)
MORNING = tashkent(2026, 11, 3, 9)
HOLD = dt.timedelta(days=14)


async def _joins(desk: Office, partner: models.User, name: str, at: dt.datetime) -> models.User:
    """Somebody registers by a partner's link."""
    brought = await desk.person(name)
    async with desk.core.db.write() as session:
        session.add(
            models.Referral(partner_id=partner.id, user_id=brought.id, source="web", touched_at=at, created_at=at)
        )
    return brought


async def _pays(desk: Office, brought: models.User, number: str, *, back: bool = False) -> None:
    async with desk.core.db.read() as session:
        bill = await session.scalar(select(models.Payment).where(models.Payment.number == number))
    bill = bill or await payment(desk.core.db, brought, number)
    async with desk.core.db.write() as session:
        if back:
            await referrals.taken_back(session, bill, now=desk.clock())
        else:
            await referrals.earned(session, desk.core.settings, bill, now=desk.clock())


async def _tell(desk: Office, *, hours: int = 1) -> None:
    """Let the job run every hour."""
    for _ in range(hours):
        await partnering.tell(desk.core, {})
        desk.clock.forward(hours=1)


async def test_many_in_a_day_are_one_letter_the_next_morning(desk: Office, mail: FakeMail) -> None:
    partner, other = await desk.person("Hamkor"), await desk.person("Boshqa")
    for number in range(4):
        await _joins(desk, partner, f"Mijoz{number}", EVENING)
    desk.clock.moment = EVENING
    await _tell(desk, hours=13)
    assert desk.clock() == MORNING and not await desk.letters(partner)
    await _tell(desk, hours=30)
    (letter,) = await desk.letters(partner)
    assert (letter.kind, letter.params["n"], letter.params["total"]) == ("partner_joined", 4, 4)
    assert not await desk.letters(other)
    await _joins(desk, partner, "Yana", desk.clock())
    await _tell(desk, hours=24)
    assert [(each.params["n"], each.params["total"]) for each in await desk.letters(partner)] == [(4, 4), (1, 5)]
    desk.clock.moment = MORNING
    await desk.post.send_mail()
    assert "4" in mail.letters[0].message["Subject"] and "/billing/referrals" in mail.letters[0].part("plain")


async def test_days_that_were_missed_are_one_letter(desk: Office) -> None:
    partner = await desk.person("Hamkor")
    for day in range(5):
        await _joins(desk, partner, f"Mijoz{day}", EVENING + dt.timedelta(days=day))
    desk.clock.moment = EVENING + dt.timedelta(days=8)
    await _tell(desk, hours=48)
    (letter,) = await desk.letters(partner)
    assert letter.params["n"] == 5
    desk.clock.moment = EVENING
    await _tell(desk, hours=3)
    assert len(await desk.letters(partner)) == 1


@pytest.mark.parametrize(("language", "written"), [("uz", "so‘m"), ("uz-Cyrl", "сўм"), ("ru", "сум"), ("en", "UZS")])
async def test_a_commission_is_told_when_it_counts(desk: Office, mail: FakeMail, language: str, written: str) -> None:
    """Those of a day together, without what was refunded meanwhile; a refund afterwards is a letter of its own."""
    partner = await desk.person("Hamkor", language=language, telegram_id=900_000_001)
    brought = await _joins(desk, partner, "Mijoz", EVENING - dt.timedelta(days=40))
    desk.clock.moment = EVENING
    for number in ("1", "2", "3"):
        await _pays(desk, brought, number)
    await _tell(desk, hours=24)
    assert not await desk.letters(partner)
    await _pays(desk, brought, "3", back=True)
    (refunded,) = await desk.letters(partner)
    assert (refunded.kind, refunded.telegram) == ("commission_back", "new")
    desk.clock.moment = EVENING + HOLD
    await _tell(desk, hours=24)
    _, letter = await desk.letters(partner)
    assert (letter.kind, letter.mail, letter.telegram) == ("commission_due", "new", "new")
    assert letter.params["amount"] == letter.params["balance"] == {"tiyin": 116_000_00}
    await desk.post.send_mail()
    arrived = mail.letters[-1]
    assert f"116 000 {written}" in arrived.message["Subject"]
    assert f"100\u00a0000\u00a0{written}" in arrived.part("plain")
    await _pays(desk, brought, "1", back=True)
    await _pays(desk, brought, "1", back=True)
    assert [each.kind for each in await desk.letters(partner)] == [
        "commission_back",
        "commission_due",
        "commission_back",
    ]


@pytest.mark.parametrize("change", [{"banned_at": EVENING}, {"delete_at": EVENING + HOLD}])
async def test_who_is_blocked_or_leaving_is_told_nothing(desk: Office, change: dict[str, dt.datetime]) -> None:
    partner = await desk.person("Hamkor")
    await _joins(desk, partner, "Mijoz", EVENING)
    await desk.change(partner, **change)
    desk.clock.moment = MORNING
    await _tell(desk)
    assert not await desk.letters(partner)


async def test_several_processes_at_it_tell_once(tmp_path: Path, database_url: str) -> None:
    async with office(tmp_path, database_url, clock=Clock(MORNING)) as desk:
        partner = await desk.person("Hamkor")
        brought = await _joins(desk, partner, "Mijoz", EVENING)
        desk.clock.moment = MORNING - HOLD
        await _pays(desk, brought, "1")
        desk.clock.moment = MORNING
        await asyncio.gather(*(partnering.tell(desk.core, {}) for _ in range(4)))
        assert sorted(await desk.kinds(partner)) == ["commission_due", "partner_joined"]
        async with desk.core.db.read() as session:
            assert await session.scalar(select(func.count()).select_from(models.Letter)) == 2
