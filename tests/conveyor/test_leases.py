"""What is in hand stays in hand: its lease is renewed for as long as the work takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from db import models
from services import upkeep
from tests.conveyor.harness import floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]
LEASE_S = 1.0


async def test_an_answer_a_message_and_a_job_outlive_their_first_leases(
    tmp_path: Path, database_url: str, fakes: Fakes
) -> None:
    fake, fake_models = fakes
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_payload: Mapping[str, Any]) -> None:
        begun.set()
        await go_on.wait()

    async with floor(tmp_path, database_url, *fakes, queue={"lease_s": LEASE_S, "idle_poll_s": 0.05}) as place:
        place.core.job_handlers |= {"slow": slow}
        shop = await place.tenant()
        sending = fake.hold(bot=shop.bot)
        numbers = [shop.ask(shop.person())]
        await sending.reached.wait()
        answering = fake_models.hold()
        numbers.append(shop.ask(shop.person()))
        await answering.reached.wait()
        assert await upkeep.enqueue_due(place.core, "slow")
        await begun.wait()

        lane = models.Lane
        held = select(lane.kind, lane.claim_no, lane.lease_until).where(
            lane.holder == place.core.writer.holder, lane.kind != "leader"
        )
        first = {row.kind: row for row in await place.rows(held)}
        assert set(first) == {"inbox", "outbox", "jobs"}

        async def outlived() -> bool:
            now = await place.rows(held)
            return all(row.lease_until > first[row.kind].lease_until + LEASE_S for row in now)

        await place.until(outlived)
        assert {row.kind: row.claim_no for row in await place.rows(held)} == {
            kind: row.claim_no for kind, row in first.items()
        }
        go_on.set()
        fake_models.release()
        fake.clear_faults()
        assert set((await shop.answered(numbers)).values()) == {1}
