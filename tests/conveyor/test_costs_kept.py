"""Every call of a model leaves its row, whatever becomes of the answer."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from db import models
from tests.conveyor.harness import Floor, floor
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram

Fakes = tuple[FakeTelegram, FakeModels]


async def _outcomes(place: Floor) -> list[str]:
    rows = await place.rows(select(models.AIUsage.outcome, models.AIUsage.input_tokens).order_by(models.AIUsage.id))
    assert all(tokens > 0 for _, tokens in rows)
    return [outcome for outcome, _ in rows]


async def test_a_call_that_a_stop_cuts_off(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    _, fake_models = fakes
    async with floor(tmp_path, database_url, *fakes, server={"shutdown_timeout_s": 1}) as place:
        shop = await place.tenant()
        held = fake_models.hold()
        number = shop.ask(shop.person())
        await held.reached.wait()
    fake_models.release()
    async with floor(tmp_path, database_url, *fakes) as place:
        assert (await shop.answered([number]))[number] == 1
        await place.until(lambda: _settled(place))
        outcomes = await _outcomes(place)
        assert len(outcomes) == len(fake_models.requests) == 2
        assert outcomes[1] == "ok" != outcomes[0]


async def test_a_call_whose_answer_could_not_be_used(tmp_path: Path, database_url: str, fakes: Fakes) -> None:
    _, fake_models = fakes
    faults = 1

    async def pause(point: str) -> None:
        nonlocal faults
        if point == "answered" and faults:
            faults -= 1
            raise RuntimeError("a fault of ours")

    async with floor(tmp_path, database_url, *fakes, pause=pause) as place:
        shop = await place.tenant()
        number = shop.ask(shop.person())
        assert (await shop.answered([number]))[number] == 1
        await place.until(lambda: _settled(place))
        assert await _outcomes(place) == ["ok", "ok"]
        assert len(fake_models.requests) == 2


async def _settled(place: Floor) -> bool:
    return not await place.rows(select(models.InboxItem.id).where(models.InboxItem.status != "done"))
